//! `brevet init`: a configuration, its keys, and a first administrator.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

use super::Failure;
use crate::arn::AccountId;
use crate::clock::{Clock, SystemClock};
use crate::directory::sealing_name;
use crate::entropy::{self, SystemEntropy};
use crate::files;
use crate::keyring::Keyring;
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::names::{AccessKeyId, AccessKeyKind};

const CONFIGURATION: &str = r#"# Brevet. Every other key and its default: config/brevet.toml in the source.

[listen]
address = "127.0.0.1:7480"

# To listen beyond this machine:
# [tls]
# certificate = "tls.crt"
# private_key = "tls.key"

[operator]
address = "127.0.0.1:7481"

[directory]
file = "directory.json"
master_key = "master.key"

[keyring]
file = "keyring.json"

[audit]
file = "audit.jsonl"
"#;

pub(super) fn run(dir: &Path, account: Option<&str>) -> Result<(), Failure> {
    let entropy = SystemEntropy::new();
    let account = match account {
        Some(text) => AccountId::parse(text).ok_or("--account must be twelve digits")?,
        None => {
            let number = u64::from_be_bytes(entropy::bytes(&entropy)?) % 900_000_000_000 + 100_000_000_000;
            AccountId::from_number(number).ok_or("account")?
        }
    };
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{}: is not empty; name a new folder", dir.display()).into());
    }
    files::create_private_dir(dir)?;
    let master_key = MasterKey::create(&dir.join("master.key"), &entropy)?;
    keyring_file::save(&Keyring::generate(&entropy, SystemClock.now())?, &dir.join("keyring.json"))?;

    let user_arn = format!("arn:aws:iam::{account}:user/administrator");
    let id = AccessKeyId::mint(AccessKeyKind::LongTerm, account, entropy::bytes(&entropy)?);
    let secret = Zeroizing::new(STANDARD.encode(Zeroizing::new(entropy::bytes::<30>(&entropy)?).as_ref()));
    let sealed = master_key.seal(&sealing_name("access key", id.as_str(), &user_arn), secret.as_bytes(), &entropy)?;
    let unique = |prefix: &str| -> Result<String, Failure> {
        let id = AccessKeyId::mint(AccessKeyKind::LongTerm, account, entropy::bytes(&entropy)?);
        Ok(format!("{prefix}{}", id.as_str().trim_start_matches("AKIA")))
    };
    let everything =
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let directory = json!({
        "UserDetailList": [{
            "Path": "/", "UserName": "administrator", "UserId": unique("AIDA")?, "Arn": user_arn,
            "UserPolicyList": [{"PolicyName": "everything", "PolicyDocument": everything.clone()}]
        }],
        "GroupDetailList": [],
        "RoleDetailList": [{
            "Path": "/", "RoleName": "Administrator", "RoleId": unique("AROA")?, "Arn": format!("arn:aws:iam::{account}:role/Administrator"),
            "MaxSessionDuration": 3600,
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"AWS": user_arn}, "Action": "sts:AssumeRole"
            }]},
            "RolePolicyList": [{"PolicyName": "everything", "PolicyDocument": everything}]
        }],
        "Policies": [],
        "Brevet": {"AccessKeys": [{"UserArn": user_arn, "AccessKeyId": id.as_str(), "SealedSecretAccessKey": sealed, "Status": "Active"}]}
    });
    files::write_private(&dir.join("directory.json"), format!("{directory:#}\n").as_bytes())?;
    files::write_private(&dir.join("brevet.toml"), CONFIGURATION.as_bytes())?;

    eprintln!("{} holds a configuration, a directory, a keyring and a master key.", dir.display());
    eprintln!("The administrator's access key is printed once and kept sealed:\n");
    println!("export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1");
    println!("export AWS_ACCESS_KEY_ID={}", id.as_str());
    println!("export AWS_SECRET_ACCESS_KEY={}", secret.as_str());
    eprintln!("\nNext: brevet serve --config {}", dir.join("brevet.toml").display());
    eprintln!("Then: aws --endpoint-url http://127.0.0.1:7480 sts assume-role \\");
    eprintln!("        --role-arn arn:aws:iam::{account}:role/Administrator --role-session-name first");
    Ok(())
}
