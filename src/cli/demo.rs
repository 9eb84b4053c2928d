//! The demo account of `brevet serve --dev`, which has new keys and secrets at each start, and the lines to paste into
//! a shell to try it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Failure, print, version};
use crate::base::arn::AccountId;
use crate::base::entropy::{self, Entropy};
use crate::base::names::{AccessKeyId, AccessKeyKind};
use crate::directory::Directory;
use crate::directory::declaration::Declaration;
use crate::password::hash::{self, Cost, SALT_BYTES};

const ACCOUNT: &str = "111122223333";
/// The maximum number of users of a directory file who get a password.
const MAX_PASSWORDS: usize = 8;

/// The endpoints, users, roles and secrets of a running demo, as `--world` writes them for programs that test
/// against a broker.
#[derive(Debug, Serialize)]
pub(super) struct World {
    region: &'static str,
    partition: &'static str,
    account_id: String,
    sts_endpoint: String,
    iam_endpoint: String,
    grpc_endpoint: String,
    ops_endpoint: String,
    users: BTreeMap<String, WorldUser>,
    roles: BTreeMap<String, WorldRole>,
    sso: WorldSso,
}

/// The endpoints and names that a program needs to sign a person in.
#[derive(Debug, Serialize)]
struct WorldSso {
    oidc_endpoint: String,
    portal_endpoint: String,
    /// The name of the portal. It looks like a URL, but no program sends a request to it.
    start_url: &'static str,
    portal_url: String,
    account_id: String,
    role_name: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct WorldUser {
    arn: String,
    user_id: String,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    mfa_serial: Option<String>,
    mfa_seed: Option<String>,
    /// The password that this program has generated for the user; `None` if it generated none.
    password: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct WorldRole {
    arn: String,
    role_id: String,
    max: u64,
}

/// The users and roles of a demo's directory, with their secrets.
pub(super) struct Demo {
    account_id: String,
    users: BTreeMap<String, WorldUser>,
    roles: BTreeMap<String, WorldRole>,
}

/// Declares alice, who may assume roles, bob, who may not, and four roles to try.
pub(super) fn declaration(entropy: &dyn Entropy) -> Result<Declaration, Failure> {
    let account = AccountId::parse(ACCOUNT).ok_or("the demo account")?;
    let key = || -> Result<(String, String), Failure> {
        let id = AccessKeyId::mint(AccessKeyKind::LongTerm, account, entropy::bytes(entropy)?);
        Ok((
            id.as_str().to_owned(),
            STANDARD.encode(entropy::bytes::<30>(entropy)?),
        ))
    };
    let ((alice_id, alice_secret), (bob_id, bob_secret)) = (key()?, key()?);
    let seed = totp_rs::Secret::from(entropy::bytes::<20>(entropy)?.to_vec()).to_base32();
    let unique = |prefix: &str, n: u8| format!("{prefix}DEMO000000000000{n}");
    let user = |name: &str| format!("arn:aws:iam::{ACCOUNT}:user/{name}");
    let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/{name}");
    let trust = |principal: serde_json::Value, condition: serde_json::Value| {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": principal},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], "Condition": condition}]})
    };
    let allow = |action: serde_json::Value| json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]});
    let value = json!({
        "UserDetailList": [
            {"Path": "/", "UserName": "alice", "UserId": unique("AIDA", 1), "Arn": user("alice"),
             "UserPolicyList": [{"PolicyName": "assume", "PolicyDocument": allow(json!(["sts:*", "iam:*", "brevet:*"]))}]},
            {"Path": "/", "UserName": "bob", "UserId": unique("AIDA", 2), "Arn": user("bob")}
        ],
        "RoleDetailList": [
            {"Path": "/", "RoleName": "Demo", "RoleId": unique("AROA", 1), "Arn": role("Demo"), "MaxSessionDuration": 43_200,
             "AssumeRolePolicyDocument": trust(json!(format!("arn:aws:iam::{ACCOUNT}:root")), json!({})),
             "RolePolicyList": [{"PolicyName": "use", "PolicyDocument": allow(json!(["s3:Get*", "s3:List*", "sts:*"]))}]},
            {"Path": "/", "RoleName": "Deploy", "RoleId": unique("AROA", 2), "Arn": role("Deploy"), "MaxSessionDuration": 129_600,
             "AssumeRolePolicyDocument": trust(json!([user("alice"), role("Demo")]), json!({})),
             "RolePolicyList": [{"PolicyName": "use", "PolicyDocument": allow(json!("*"))}]},
            {"Path": "/", "RoleName": "Partner", "RoleId": unique("AROA", 3), "Arn": role("Partner"),
             "AssumeRolePolicyDocument": trust(json!(user("alice")), json!({"StringEquals": {"sts:ExternalId": "demo-1234"}}))},
            {"Path": "/", "RoleName": "Guarded", "RoleId": unique("AROA", 4), "Arn": role("Guarded"),
             "AssumeRolePolicyDocument": trust(json!(user("alice")), json!({"Bool": {"aws:MultiFactorAuthPresent": "true"},
                "NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}})),
             "RolePolicyList": [{"PolicyName": "use", "PolicyDocument": allow(json!("*"))}]}
        ],
        "Brevet": {
            "AccessKeys": [
                {"UserArn": user("alice"), "AccessKeyId": alice_id, "SecretAccessKey": alice_secret},
                {"UserArn": user("bob"), "AccessKeyId": bob_id, "SecretAccessKey": bob_secret}
            ],
            "MFADevices": [{"SerialNumber": format!("arn:aws:iam::{ACCOUNT}:mfa/alice"), "UserArn": user("alice"), "Base32StringSeed": seed}]
        }
    });
    Ok(serde_json::from_str(&value.to_string())?)
}

/// Gives passwords to users who have none, and returns them by the ARN of the user. Computing the hashes takes a
/// while, so only the first few users get one.
pub(super) fn with_passwords(
    declaration: &mut Declaration,
    entropy: &dyn Entropy,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut made = BTreeMap::new();
    for user in declaration.user_detail_list.iter().take(MAX_PASSWORDS) {
        let mut profiles = declaration.brevet.login_profiles.iter();
        if profiles.any(|profile| profile.user_arn == user.arn) {
            continue;
        }
        let password = Zeroizing::new(format!(
            "Demo-{}",
            URL_SAFE_NO_PAD.encode(entropy::bytes::<12>(entropy)?)
        ));
        let salt = entropy::bytes::<SALT_BYTES>(entropy)?;
        let hash = hash::hash(&password, &salt, Cost::DEFAULT)?;
        let profile = json!({"UserArn": user.arn, "PasswordHash": hash.as_str()});
        let profile = serde_json::from_value(profile)?;
        declaration.brevet.login_profiles.push(profile);
        made.insert(user.arn.clone(), password.to_string());
    }
    Ok(made)
}

/// Compiles a declaration, and collects the users and roles with the secrets that are printed for trying them.
pub(super) fn compile(
    declaration: Declaration,
    passwords: &BTreeMap<String, String>,
) -> Result<(Directory, Demo), Failure> {
    let directory = Directory::from_declaration(declaration, None)?;
    let mut users = BTreeMap::new();
    let mut all: Vec<_> = directory.users().collect();
    all.sort_by(|a, b| a.arn.cmp(&b.arn));
    for user in &all {
        let mut keys: Vec<_> = directory
            .access_keys()
            .filter(|k| k.user_arn == user.arn && k.active)
            .collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        let key = keys.first();
        let device = directory
            .mfa_devices()
            .find(|d| d.user_arn.as_deref() == Some(&*user.arn));
        let entry = WorldUser {
            arn: user.arn.to_string(),
            user_id: user.id.to_string(),
            access_key_id: key.map(|k| k.id.as_str().to_owned()),
            secret_access_key: key.map(|k| k.secret.expose().clone()),
            mfa_serial: device.map(|d| d.serial_number.as_str().to_owned()),
            mfa_seed: device.map(|d| d.seed.expose().clone()),
            password: passwords.get(&*user.arn).cloned(),
        };
        users.entry(user.name.to_string()).or_insert(entry);
    }
    let mut roles = BTreeMap::new();
    let mut sorted: Vec<_> = directory.roles().collect();
    sorted.sort_by(|a, b| a.arn.cmp(&b.arn));
    for role in &sorted {
        let entry = WorldRole {
            arn: role.arn.to_string(),
            role_id: role.id.to_string(),
            max: role.max_session.as_secs(),
        };
        roles.entry(role.name.to_string()).or_insert(entry);
    }
    let account = all
        .first()
        .map(|u| u.account)
        .or_else(|| sorted.first().map(|r| r.account));
    let account_id = account.map_or_else(|| ACCOUNT.to_owned(), |a| a.to_string());
    Ok((
        directory,
        Demo {
            account_id,
            users,
            roles,
        },
    ))
}

impl Demo {
    pub(super) fn world(self, address: SocketAddr, operator: SocketAddr) -> World {
        let here = format!("http://{address}");
        World {
            sso: WorldSso {
                oidc_endpoint: here.clone(),
                portal_endpoint: here.clone(),
                start_url: "https://brevet.awsapps.com/start",
                portal_url: format!("{here}/portal"),
                account_id: self.account_id.clone(),
                role_name: self.roles.keys().next().cloned(),
            },
            region: "us-east-1",
            partition: "aws",
            account_id: self.account_id,
            sts_endpoint: format!("http://{address}"),
            iam_endpoint: format!("http://{address}"),
            grpc_endpoint: format!("http://{address}"),
            ops_endpoint: format!("http://{operator}"),
            users: self.users,
            roles: self.roles,
        }
    }
}

/// Prints lines to standard output that can be pasted into a shell, any number of times and in any folder.
pub(super) fn greet(world: &World) {
    // The demo serves whether or not anybody reads this.
    let _ = print::block(greeting(world));
}

fn greeting(world: &World) -> String {
    let mut out = format!(
        "Brevet {}, development mode: keys are generated, and nothing is stored.\n  AWS Query and gRPC  {}\n  \
         operators           {}/readyz  {2}/metrics\n",
        version::text(),
        world.sts_endpoint,
        world.ops_endpoint
    );
    let by_password = world
        .users
        .iter()
        .find_map(|(name, user)| Some((name, user.password.as_ref()?)));
    if let Some((name, password)) = by_password {
        // The name may be any text, and these lines are read by people.
        let name = print::visible(name);
        out.push_str(&format!(
            "  sign-in             {}  account {}, user {name}, password {password}\n",
            world.sso.portal_url, world.sso.account_id
        ));
    }
    let user = world
        .users
        .values()
        .find_map(|u| Some((u.access_key_id.as_ref()?, u.secret_access_key.as_ref()?)));
    let (Some((id, secret)), Some(role)) = (user, world.roles.values().next()) else {
        return out;
    };
    // Values from a directory file are arbitrary text, and these lines are pasted into a shell.
    let (endpoint, region, role) = (&world.sts_endpoint, world.region, print::word(&role.arn));
    let (id, secret) = (print::word(id), print::word(secret));
    let program = program();
    out.push_str(&format!(
        "\nIn another shell:\n\n  \
         unset AWS_SESSION_TOKEN AWS_SECURITY_TOKEN AWS_PROFILE AWS_DEFAULT_PROFILE AWS_ENDPOINT_URL_STS\n  \
         export AWS_REGION={region} AWS_DEFAULT_REGION={region} AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}\n  \
         aws --endpoint-url {endpoint} sts get-caller-identity\n  \
         aws --endpoint-url {endpoint} sts assume-role --role-arn {role} --role-session-name demo\n\
         \nThe same over gRPC, into the shell's environment, and a call as the role:\n\n  \
         eval \"$({program} assume-role --endpoint {} --role-arn {role} --role-session-name demo --format env)\"\n  \
         aws --endpoint-url {endpoint} sts get-caller-identity\n\
         \nCtrl-C stops the broker.\n",
        world.grpc_endpoint
    ));
    out
}

/// The path of this program as a word of a shell command, quoted if necessary.
fn program() -> String {
    let path = std::env::current_exe()
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned));
    let path = path.unwrap_or_else(|| "brevet".to_owned());
    print::word(&path)
}
