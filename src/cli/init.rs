//! `brevet init`: makes a configuration, its keys, a store and a first administrator.

use std::fs::File;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Failure, journal, print};
use crate::base::arn::AccountId;
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::{self, SystemEntropy};
use crate::base::host_names::HostName;
use crate::base::names::{AccessKeyId, AccessKeyKind};
use crate::commands::{self, CommandContext};
use crate::config::Config;
use crate::directory;
use crate::files;
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::session::keyring::Keyring;
use crate::session::signing_key::Algorithm;
use crate::store::{Access, Store, UNVERIFIED_SENTENCE};

const CONFIGURATION: &str = r#"# Brevet. Every other key and its default: config/brevet.toml in the source.

[listen]
address = "127.0.0.1:7480"
# The names by which clients call this broker; a request that was signed for another host is refused.
# Add the name that you give to clients.
names = NAMES

# To listen on other addresses than loopback:
# [tls]
# certificate = "tls.crt"
# private_key = "tls.key"

[operator]
address = "127.0.0.1:7481"

[store]
STORE
# Records what this node has seen of the store. Do not back it up together with the store.
watermark = "store.watermark"

[directory]
master_key = "master.key"

[keyring]
file = "keyring.json"

[audit]
file = "audit.jsonl"

# For GetWebIdentityToken: where relying parties find this broker's keys.
# [web_identity]
# issuer = "https://broker.example.com"
"#;

/// The name of a file for `brevet import`. Once it is imported, the administrator and its role require a
/// second factor.
const MFA_FILE: &str = "administrator-mfa.json";

const EXAMPLES: &str = "\
Examples:
  brevet init /var/lib/brevet --account 111122223333
      Keeps the store in a SQLite file, for one broker.
  brevet init /var/lib/brevet --store postgres://brevet@db/brevet --store-password-file db.pass
      Keeps the store in PostgreSQL, for several brokers. Copy brevet.toml, master.key,
      keyring.json, store.watermark and db.pass to the others, each to the same path.";

/// Make a configuration, its keys, a store and a first administrator
///
/// Makes a folder that only this account can read, with brevet.toml, master.key, keyring.json and store.db, and prints
/// the administrator's access key once, as lines for a shell. If something cannot be made, the command removes the
/// files that it has made before.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct InitArguments {
    /// The folder to make; if it exists, it must be empty
    dir: PathBuf,
    /// The id of the first account: twelve digits [default: a random one]
    #[arg(long, value_name = "ACCOUNT_ID")]
    account: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Debug, Args)]
struct StoreArguments {
    /// Keep the store in PostgreSQL: postgres://USER@HOST/DATABASE [default: a SQLite file]
    #[arg(long = "store", value_name = "URL")]
    url: Option<String>,
    /// A private file with the PostgreSQL user's password
    #[arg(long = "store-password-file", value_name = "FILE", requires = "url")]
    password_file: Option<PathBuf>,
    /// A PEM file with the CA that signed the PostgreSQL server's certificate
    #[arg(long = "store-ca-file", value_name = "FILE", requires = "url")]
    ca_file: Option<PathBuf>,
    /// Accept a PostgreSQL server on another machine without verifying it (an sslmode below verify-full).
    /// Anybody on the network between can then read and change the store
    #[arg(long = "store-unverified-off-loopback", requires = "url")]
    unverified: bool,
}

pub(super) fn run(arguments: &InitArguments) -> Result<(), Failure> {
    let dir = arguments.dir.as_path();
    let entropy = SystemEntropy::new();
    let account = account(arguments.account.as_deref(), &entropy)?;
    let section = arguments.store.section()?;
    files::create_private_dir(dir)?;
    // If two run at once, one stops here, before it could clean up what the other makes.
    let _lock = Lock::take(dir)?;
    if dir.read_dir()?.next().is_some() {
        return Err(format!(
            "{}: this folder is not empty; name a new folder, or an empty one",
            dir.display()
        )
        .into());
    }
    let path = dir.join("brevet.toml");
    let configuration = CONFIGURATION
        .replace("STORE", &section)
        .replace("NAMES", &names().to_string());
    files::write_private(&path, configuration.as_bytes())?;
    let made = Config::load(&path)
        .map_err(Failure::from)
        .and_then(|config| {
            let parameters = json!({"folder": dir, "account": account.to_string()});
            journal::recorded(
                &journal::of(&config),
                "InitializeBroker",
                parameters,
                || {
                    make(dir, &config, account, &entropy)
                        .map(|made| (made, serde_json::Value::Null))
                },
            )
        });
    if made.is_err() {
        clean_up(dir);
    }
    let (id, secret) = made?;
    say_what_is_next(dir, &path, account, &id, &secret)
}

/// The account that was given, or else a random one without a leading zero.
fn account(asked: Option<&str>, entropy: &SystemEntropy) -> Result<AccountId, Failure> {
    match asked {
        Some(text) => Ok(AccountId::parse(text).ok_or_else(|| {
            format!("--account {text}: must be twelve digits, such as 111122223333")
        })?),
        None => {
            let number =
                u64::from_be_bytes(entropy::bytes(entropy)?) % 900_000_000_000 + 100_000_000_000;
            Ok(AccountId::from_number(number)
                .ok_or("no account id could be made; give one with --account")?)
        }
    }
}

impl StoreArguments {
    /// Makes the text of the keys of `[store]` for the new configuration.
    fn section(&self) -> Result<String, Failure> {
        let mut section = String::from("file = \"store.db\"");
        if let Some(url) = &self.url {
            section = format!("url = {}", toml::Value::from(url.as_str()));
        }
        let files = [
            ("password_file", &self.password_file),
            ("ca_file", &self.ca_file),
        ];
        for (key, file) in files
            .into_iter()
            .filter_map(|(key, file)| Some((key, file.as_ref()?)))
        {
            let file = std::path::absolute(file)?;
            let file = file
                .to_str()
                .ok_or_else(|| format!("--store-{}: must be UTF-8", key.replace('_', "-")))?;
            section.push_str(&format!("\n{key} = {}", toml::Value::from(file)));
        }
        if self.unverified {
            section.push_str(&format!(
                "\nunverified_off_loopback = {}",
                toml::Value::from(UNVERIFIED_SENTENCE)
            ));
        }
        Ok(section)
    }
}

/// Removes the files that a failed `init` may have made. The folder was empty, and is still locked.
fn clean_up(dir: &Path) {
    let made = [
        "brevet.toml",
        "master.key",
        "keyring.json",
        MFA_FILE,
        "audit.commands.jsonl",
        "audit.commands.jsonl.head",
        "store.db",
        "store.db-wal",
        "store.db-shm",
        "store.watermark",
    ];
    for file in made {
        let _ = std::fs::remove_file(dir.join(file)); // it may not exist
    }
}

/// Prints the administrator's access key, and the next commands to run.
fn say_what_is_next(
    dir: &Path,
    configuration: &Path,
    account: AccountId,
    id: &str,
    secret: &str,
) -> Result<(), Failure> {
    let (folder, configuration) = (dir.display(), configuration.display());
    print::note(format_args!(
        "{folder} holds a configuration, a keyring and a master key, and the store has a first administrator."
    ));
    print::note(
        "The administrator's access key follows. It is printed only now, and stored sealed:\n",
    );
    print::block(format_args!(
        "export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID={id}\n\
         export AWS_SECRET_ACCESS_KEY={}\n",
        secret
    ))
    .map_err(|error| {
        format!(
            "the access key could not be printed: {error}. The key cannot be shown again, so remove {folder} (and \
             everything in the database, if the store is in PostgreSQL) and start over"
        )
    })?;
    print::note(format_args!(
        "\nNext: brevet serve --config {configuration}"
    ));
    print::note("Then: aws --endpoint-url http://127.0.0.1:7480 sts assume-role \\");
    print::note(format_args!(
        "        --role-arn arn:aws:iam::{account}:role/Administrator --role-session-name first"
    ));
    print::note(
        "\nAnybody who has this access key is an administrator. To require a second factor as well, run:",
    );
    print::note("  brevet mfa enroll --endpoint http://127.0.0.1:7480");
    print::note(format_args!(
        "  brevet import --config {configuration} {} --apply",
        dir.join(MFA_FILE).display()
    ));
    print::note(PROFILE);
    print::note(format_args!(
        "\nUsers and roles from a file: brevet import --config {configuration} FILE"
    ));
    Ok(())
}

/// A profile with which AWS's tools call this broker.
const PROFILE: &str = "
Users and roles by `aws iam --profile brevet …` and Terraform, with this in ~/.aws/config:
  [profile brevet]
  region = us-east-1
  services = brevet
  [services brevet]
  sts =
    endpoint_url = http://127.0.0.1:7480
  iam =
    endpoint_url = http://127.0.0.1:7480
and with the key, in a shell that has the variables above:
  aws configure set aws_access_key_id \"$AWS_ACCESS_KEY_ID\" --profile brevet
  aws configure set aws_secret_access_key \"$AWS_SECRET_ACCESS_KEY\" --profile brevet";

/// A lock on the folder, so that only one `brevet init` works in it at a time.
struct Lock(#[allow(dead_code, reason = "the lock lives as long as the folder is open")] File);

impl Lock {
    fn take(dir: &Path) -> Result<Self, Failure> {
        let folder = File::open(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(folder)),
            Err(Errno::WOULDBLOCK) => Err(format!(
                "{}: another `brevet init` is running there; wait until it ends",
                dir.display()
            )
            .into()),
            Err(error) => Err(format!("{}: cannot be locked: {error}", dir.display()).into()),
        }
    }
}

/// The value of `[listen] names` in a new configuration: the names of loopback, and this machine's own if
/// it is a valid host name.
fn names() -> toml::Value {
    let nodename = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let nodename = HostName::parse(&nodename).map(|name| name.to_string());
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "[::1]"]
        .map(str::to_owned)
        .to_vec();
    names.extend(nodename.filter(|name| !names.contains(name)));
    names.into()
}

/// Makes the declaration of the administrator. `with_code` says whether its access key needs an MFA code
/// for everything but the enrolment of a first device.
fn user(account: AccountId, user_arn: &str, with_code: bool) -> serde_json::Value {
    let everything = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let statements = if with_code {
        json!([
            {
                "Sid": "EverythingWithACode", "Effect": "Allow", "Action": "*", "Resource": "*",
                "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
            },
            {
                "Sid": "AFirstDevice", "Effect": "Allow",
                "Action": ["iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "iam:ListMFADevices"],
                "Resource": [user_arn, format!("arn:aws:iam::{account}:mfa/*")]
            }
        ])
    } else {
        json!([everything])
    };
    json!({
        "Path": "/", "UserName": "administrator", "Arn": user_arn,
        "UserPolicyList": [{
            "PolicyName": "everything",
            "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}
        }]
    })
}

/// Makes the declaration of the administrator's role. `with_code` says whether the role requires an MFA
/// code of its user.
fn role(account: AccountId, user_arn: &str, with_code: bool) -> serde_json::Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": {"AWS": user_arn},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    });
    if let (true, Some(fields)) = (with_code, statement.as_object_mut()) {
        fields.insert(
            "Condition".to_owned(),
            json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
        );
    }
    json!({
        "Path": "/", "RoleName": "Administrator", "Arn": format!("arn:aws:iam::{account}:role/Administrator"),
        "MaxSessionDuration": 3600,
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "RolePolicyList": [{
            "PolicyName": "everything",
            "PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        }]
    })
}

/// Makes the keys, the store and the first administrator, and returns the administrator's access key id and
/// secret.
fn make(
    dir: &Path,
    config: &Config,
    account: AccountId,
    entropy: &SystemEntropy,
) -> Result<(String, Zeroizing<String>), Failure> {
    let now = SystemClock.now();
    let master_key = MasterKey::create(&dir.join("master.key"), entropy)?;
    let keyring =
        Keyring::generate(entropy, now)?.with_signing_keys(&[Algorithm::RS256], entropy, now)?;
    keyring_file::save(&keyring, &dir.join("keyring.json"))?;
    let id = AccessKeyId::mint(AccessKeyKind::LongTerm, account, entropy::bytes(entropy)?);
    let secret =
        Zeroizing::new(STANDARD.encode(Zeroizing::new(entropy::bytes::<30>(entropy)?).as_ref()));
    let user_arn = format!("arn:aws:iam::{account}:user/administrator");
    let [with_code, without_code] = [true, false].map(|with_code| {
        json!({
            "UserDetailList": [user(account, &user_arn, with_code)],
            "RoleDetailList": [role(account, &user_arn, with_code)]
        })
    });
    files::write_private(&dir.join(MFA_FILE), format!("{with_code:#}\n").as_bytes())?;
    let mut declared = without_code;
    let key = json!({"UserArn": user_arn, "AccessKeyId": id.as_str(), "SecretAccessKey": secret.as_str()});
    if let Some(fields) = declared.as_object_mut() {
        fields.insert("Brevet".to_owned(), json!({"AccessKeys": [key]}));
    }
    // Parsed from text, since policy documents are stored as they were written.
    let text = Zeroizing::new(declared.to_string());
    let declaration = directory::parse(text.as_bytes())?;
    super::runtime()?.block_on(async {
        let store = Store::open(&config.store, Access::Create, Some(&master_key), now, entropy).await?;
        if !store.is_new() {
            return Err::<(), Failure>(
                format!(
                    "{}: this store already holds a directory; to add a broker to this store, copy brevet.toml and the \
                    files that it names (master key, keyring, watermark, password and CA) from another broker \
                    instead of running init",
                    config.store
                )
                .into(),
            );
        }
        let context = CommandContext { store: &store, master_key: &master_key, entropy, now, issuer: None };
        commands::plan(context, declaration, false).await?.apply(context, &super::operator()).await?;
        // Writes the watermark: from now on a store that was put back is noticed.
        crate::server::entrance(config, Some(&master_key)).leave(&store).await?;
        store.close().await;
        Ok(())
    })?;
    Ok((id.as_str().to_owned(), secret))
}
