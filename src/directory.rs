//! Accounts, users, groups, roles and policies as one immutable compiled snapshot. A change makes
//! a new snapshot and swaps it; a request sees one.

pub mod declaration;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::arn::{AccountId, IamArn};
use crate::durations;
use crate::evaluator::{Kind, Policy};
use crate::master_key::MasterKey;
use crate::names::{self, AccessKeyId, SerialNumber, Tag};
use crate::secret::Secret;
use declaration::{Attached, Boundary, Declaration, Document, InlinePolicy};

/// The longest directory file, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;

/// Why a directory was refused: where, and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("directory: {place}: {rule}")]
pub struct DirectoryError {
    /// `RoleDetailList[3] Deploy: AssumeRolePolicyDocument`
    pub place: String,
    /// What must hold.
    pub rule: String,
}

/// A user.
#[derive(Debug)]
pub struct User {
    /// `arn:aws:iam::ACCOUNT:user/PATH/NAME`
    pub arn: String,
    /// Without its path.
    pub name: String,
    /// `AIDA…`
    pub id: String,
    /// Its owner.
    pub account: AccountId,
    /// Its own policies and its groups', managed and inline.
    pub identity: Vec<Arc<Policy>>,
    /// Its permissions boundary.
    pub boundary: Option<Arc<Policy>>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// A role.
#[derive(Debug)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`
    pub arn: String,
    /// Without its path; unique in its account.
    pub name: String,
    /// `AROA…`
    pub id: String,
    /// Its owner.
    pub account: AccountId,
    /// Who may assume it.
    pub trust: Policy,
    /// Managed and inline policies.
    pub identity: Vec<Arc<Policy>>,
    /// Its permissions boundary.
    pub boundary: Option<Arc<Policy>>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// 3,600 to 129,600 s.
    pub max_session: Duration,
}

/// A long-term access key.
#[derive(Debug)]
pub struct AccessKey {
    /// `AKIA…`
    pub id: AccessKeyId,
    /// What its holder signs with.
    pub secret: Secret<String>,
    /// Whose it is.
    pub user: Arc<User>,
    /// An inactive key proves nothing.
    pub active: bool,
}

/// The compiled snapshot.
pub struct Directory {
    users: HashMap<String, Arc<User>>,
    roles: HashMap<String, Arc<Role>>,
    keys: HashMap<String, Arc<AccessKey>>,
    managed: HashMap<String, Arc<Policy>>,
    mfa_devices: Vec<MfaDevice>,
    decoy: Arc<Role>,
    clear_secrets: usize,
}

/// A TOTP device, kept for the sessions that will ask for its codes.
#[derive(Debug)]
pub struct MfaDevice {
    /// `arn:aws:iam::ACCOUNT:mfa/NAME`, or a hardware serial number.
    pub serial_number: SerialNumber,
    /// Whose it is.
    pub user_arn: String,
    /// Base32.
    pub seed: Secret<String>,
}

impl Directory {
    /// Reads, checks and compiles a directory file as a whole.
    ///
    /// # Errors
    /// The first place that breaks a rule. Sealed secrets need `master_key`.
    pub fn compile(text: &[u8], master_key: Option<&MasterKey>) -> Result<Self, DirectoryError> {
        let declaration: Declaration = serde_json::from_slice(text)
            .map_err(|e| fault(format!("line {}, column {}", e.line(), e.column()), json_rule(&e)))?;
        Self::from_declaration(declaration, master_key)
    }

    /// Checks and compiles a declaration.
    ///
    /// # Errors
    /// The first place that breaks a rule.
    pub fn from_declaration(declaration: Declaration, master_key: Option<&MasterKey>) -> Result<Self, DirectoryError> {
        if declaration.is_truncated == Some(true) {
            return Err(fault(
                "IsTruncated",
                "the export is one page of several; export it whole (`--max-items` unset)",
            ));
        }
        let mut directory = Self {
            users: HashMap::new(),
            roles: HashMap::new(),
            keys: HashMap::new(),
            managed: HashMap::new(),
            mfa_devices: Vec::new(),
            decoy: Arc::new(decoy()?),
            clear_secrets: 0,
        };
        let mut unique = Unique::default();
        directory.add_policies(&declaration, &mut unique)?;
        let groups = directory.groups(&declaration, &mut unique)?;
        directory.add_users(&declaration, &groups, &mut unique)?;
        directory.add_roles(&declaration, &mut unique)?;
        directory.add_keys(&declaration, master_key)?;
        directory.add_mfa_devices(&declaration, master_key)?;
        check_providers(&declaration, &mut unique)?;
        Ok(directory)
    }

    /// The role of that ARN.
    pub fn role(&self, arn: &str) -> Option<&Arc<Role>> {
        self.roles.get(arn)
    }

    /// A role that trusts nobody: judged in the place of one that does not exist, so that unknown
    /// and forbidden cost the same and read the same.
    pub fn decoy(&self) -> &Arc<Role> {
        &self.decoy
    }

    /// The long-term key of that id.
    pub fn access_key(&self, id: &str) -> Option<&Arc<AccessKey>> {
        self.keys.get(id)
    }

    /// The managed policy of that ARN, in its default version.
    pub fn managed_policy(&self, arn: &str) -> Option<&Arc<Policy>> {
        self.managed.get(arn)
    }

    /// All users, in no order.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// All roles, in no order.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    /// All long-term keys, in no order.
    pub fn access_keys(&self) -> impl Iterator<Item = &Arc<AccessKey>> {
        self.keys.values()
    }

    /// All MFA devices, in the order of the file.
    pub fn mfa_devices(&self) -> &[MfaDevice] {
        &self.mfa_devices
    }

    /// How many secrets stood in the file in clear.
    pub fn clear_secrets(&self) -> usize {
        self.clear_secrets
    }

    fn add_policies(&mut self, declaration: &Declaration, unique: &mut Unique) -> Result<(), DirectoryError> {
        for (i, policy) in declaration.policies.iter().enumerate() {
            let place = place("Policies", i, &policy.policy_name);
            let aws_managed = policy.arn.strip_prefix("arn:aws:iam::aws:policy/").is_some_and(|name| !name.is_empty());
            if !aws_managed {
                identity_arn(&place, &policy.arn, "policy", &policy.policy_name)?;
            }
            unique.arn(&place, &policy.arn)?;
            let mut versions = policy.policy_version_list.iter().filter(|v| match &policy.default_version_id {
                Some(id) => v.version_id == *id,
                None => v.is_default_version,
            });
            let (Some(version), None) = (versions.next(), versions.next()) else {
                return Err(fault(
                    format!("{place}: PolicyVersionList"),
                    "exactly one version must be the default one",
                ));
            };
            let kind = if aws_managed { Kind::AwsManaged } else { Kind::Identity };
            let compiled =
                compile(&format!("{place}: {}: Document", version.version_id), kind, version.document.as_ref())?;
            self.managed.insert(policy.arn.clone(), Arc::new(compiled));
        }
        Ok(())
    }

    fn groups(&self, declaration: &Declaration, unique: &mut Unique) -> Result<GroupPolicies, DirectoryError> {
        let mut groups = HashMap::new();
        for (i, group) in declaration.group_detail_list.iter().enumerate() {
            let place = place("GroupDetailList", i, &group.group_name);
            let account = identity_arn(&place, &group.arn, "group", &group.group_name)?;
            unique.name(&place, account, "group", &group.group_name)?;
            let policies =
                self.identity(&place, account, &group.group_policy_list, &group.attached_managed_policies)?;
            groups.insert((account, group.group_name.clone()), policies);
        }
        Ok(groups)
    }

    fn add_users(
        &mut self,
        declaration: &Declaration,
        groups: &GroupPolicies,
        unique: &mut Unique,
    ) -> Result<(), DirectoryError> {
        for (i, user) in declaration.user_detail_list.iter().enumerate() {
            let place = place("UserDetailList", i, &user.user_name);
            let account = identity_arn(&place, &user.arn, "user", &user.user_name)?;
            unique.name(&place, account, "user", &user.user_name)?;
            unique.id(&place, &user.user_id)?;
            let mut identity =
                self.identity(&place, account, &user.user_policy_list, &user.attached_managed_policies)?;
            for name in &user.group_list {
                let group = groups.get(&(account, name.clone()));
                let group =
                    group.ok_or_else(|| fault(format!("{place}: GroupList"), format!("there is no group `{name}`")))?;
                identity.extend(group.iter().cloned());
            }
            let compiled = User {
                arn: user.arn.clone(),
                name: user.user_name.clone(),
                id: user.user_id.clone(),
                account,
                identity,
                boundary: self.boundary(&place, account, user.permissions_boundary.as_ref())?,
                tags: tags(&place, &user.tags)?,
            };
            self.users.insert(user.arn.clone(), Arc::new(compiled));
        }
        Ok(())
    }

    fn add_roles(&mut self, declaration: &Declaration, unique: &mut Unique) -> Result<(), DirectoryError> {
        for (i, role) in declaration.role_detail_list.iter().enumerate() {
            let place = place("RoleDetailList", i, &role.role_name);
            let account = identity_arn(&place, &role.arn, "role", &role.role_name)?;
            unique.name(&place, account, "role", &role.role_name)?;
            unique.id(&place, &role.role_id)?;
            let seconds = role.max_session_duration.unwrap_or(3_600);
            if !(3_600..=129_600).contains(&seconds) {
                return Err(fault(
                    format!("{place}: MaxSessionDuration"),
                    format!("{seconds} is not from 3600 to 129600 seconds"),
                ));
            }
            let document = role.assume_role_policy_document.as_ref();
            let compiled = Arc::new(Role {
                arn: role.arn.clone(),
                name: role.role_name.clone(),
                id: role.role_id.clone(),
                account,
                trust: compile(&format!("{place}: AssumeRolePolicyDocument"), Kind::Trust, document)?,
                identity: self.identity(&place, account, &role.role_policy_list, &role.attached_managed_policies)?,
                boundary: self.boundary(&place, account, role.permissions_boundary.as_ref())?,
                tags: tags(&place, &role.tags)?,
                max_session: Duration::from_secs(u64::try_from(seconds).unwrap_or(3_600)),
            });
            self.roles.insert(role.arn.clone(), compiled);
        }
        Ok(())
    }

    fn add_keys(&mut self, declaration: &Declaration, master_key: Option<&MasterKey>) -> Result<(), DirectoryError> {
        for (i, key) in declaration.brevet.access_keys.iter().enumerate() {
            let place = place("Brevet.AccessKeys", i, &key.access_key_id);
            let id = AccessKeyId::parse("AccessKeyId", &key.access_key_id)
                .map_err(|e| fault(&place, format!("AccessKeyId {}", e.rule)))?;
            if id.is_temporary() {
                return Err(fault(&place, "AccessKeyId must not begin with `ASIA`, which marks temporary credentials"));
            }
            let user = self.users.get(&key.user_arn).cloned();
            let user = user.ok_or_else(|| fault(&place, format!("UserArn: there is no user `{}`", key.user_arn)))?;
            let belongs = sealing_name("access key", &key.access_key_id, &key.user_arn);
            let clear = key.secret_access_key.as_ref().map(|s| s.as_str());
            let field = "SecretAccessKey";
            let secret =
                self.secret(&place, field, &belongs, clear, key.sealed_secret_access_key.as_deref(), master_key)?;
            check_secret(secret.expose()).map_err(|rule| fault(format!("{place}: {field}"), rule))?;
            let active = match key.status.as_deref() {
                None | Some("Active") => true,
                Some("Inactive") => false,
                Some(_) => return Err(fault(format!("{place}: Status"), "must be `Active` or `Inactive`")),
            };
            let key = Arc::new(AccessKey { id, secret, user, active });
            if self.keys.insert(key.id.as_str().to_owned(), key).is_some() {
                return Err(fault(place, "this AccessKeyId is there twice"));
            }
        }
        Ok(())
    }

    fn add_mfa_devices(
        &mut self,
        declaration: &Declaration,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        for (i, device) in declaration.brevet.mfa_devices.iter().enumerate() {
            let place = place("Brevet.MFADevices", i, &device.serial_number);
            let serial = SerialNumber::parse("SerialNumber", &device.serial_number)
                .map_err(|e| fault(&place, format!("SerialNumber {}", e.rule)))?;
            if !self.users.contains_key(&device.user_arn) {
                return Err(fault(&place, format!("UserArn: there is no user `{}`", device.user_arn)));
            }
            if self.mfa_devices.iter().any(|d| d.serial_number == serial) {
                return Err(fault(place, "this SerialNumber is there twice"));
            }
            let belongs = sealing_name("mfa device", &device.serial_number, &device.user_arn);
            let clear = device.base32_string_seed.as_ref().map(|s| s.as_str());
            let field = "Base32StringSeed";
            let seed =
                self.secret(&place, field, &belongs, clear, device.sealed_base32_string_seed.as_deref(), master_key)?;
            // RFC 4226 section 4, R6: at least 128 bits.
            let usable = totp_rs::Secret::try_from_base32(seed.expose())
                .is_ok_and(|s| totp_rs::Builder::new().with_secret(s).build().is_ok());
            if !usable {
                return Err(fault(format!("{place}: {field}"), "must be base32 of at least 16 bytes"));
            }
            self.mfa_devices.push(MfaDevice { serial_number: serial, user_arn: device.user_arn.clone(), seed });
        }
        Ok(())
    }

    fn secret(
        &mut self,
        place: &str,
        field: &str,
        belongs: &str,
        clear: Option<&str>,
        sealed: Option<&str>,
        master_key: Option<&MasterKey>,
    ) -> Result<Secret<String>, DirectoryError> {
        match (clear, sealed, master_key) {
            (Some(clear), None, _) => {
                self.clear_secrets += 1;
                Ok(Secret::new(clear.to_owned()))
            }
            (None, Some(sealed), Some(key)) => {
                key.open(belongs, sealed).map_err(|e| fault(format!("{place}: Sealed{field}"), e.to_string()))
            }
            (None, Some(_), None) => {
                Err(fault(format!("{place}: Sealed{field}"), "needs the master key it was sealed with"))
            }
            _ => Err(fault(place, format!("either {field} or Sealed{field} is required"))),
        }
    }

    fn identity(
        &self,
        place: &str,
        account: AccountId,
        inline: &[InlinePolicy],
        attached: &[Attached],
    ) -> Result<Vec<Arc<Policy>>, DirectoryError> {
        let mut policies = Vec::with_capacity(inline.len() + attached.len());
        for policy in inline {
            let place = format!("{place}: inline policy {}", policy.policy_name);
            policies.push(Arc::new(compile(&place, Kind::Identity, policy.policy_document.as_ref())?));
        }
        for attached in attached {
            policies.push(self.attached(
                &format!("{place}: AttachedManagedPolicies"),
                account,
                &attached.policy_arn,
            )?);
        }
        Ok(policies)
    }

    fn boundary(
        &self,
        place: &str,
        account: AccountId,
        boundary: Option<&Boundary>,
    ) -> Result<Option<Arc<Policy>>, DirectoryError> {
        let place = format!("{place}: PermissionsBoundary");
        boundary.map(|b| self.attached(&place, account, &b.permissions_boundary_arn)).transpose()
    }

    fn attached(&self, place: &str, account: AccountId, arn: &str) -> Result<Arc<Policy>, DirectoryError> {
        if IamArn::parse(arn).is_some_and(|a| a.account != account) {
            return Err(fault(place, format!("`{arn}` is a policy of another account")));
        }
        let policy = self.managed.get(arn).cloned();
        policy.ok_or_else(|| fault(place, format!("there is no policy `{arn}` in Policies; add its document there")))
    }
}

/// What a sealed secret is bound to: its kind, its name and its owner.
pub fn sealing_name(kind: &str, name: &str, owner: &str) -> String {
    format!("brevet {kind} v1\n{name}\n{owner}")
}

/// The policies of each group, by account and name.
type GroupPolicies = HashMap<(AccountId, String), Vec<Arc<Policy>>>;

/// Names and ids that may stand once.
#[derive(Default)]
struct Unique(HashMap<String, String>);

impl Unique {
    /// Names are unique in their account and kind, without regard to case.
    fn name(&mut self, place: &str, account: AccountId, kind: &str, name: &str) -> Result<(), DirectoryError> {
        self.put(
            place,
            format!("{account} {kind} {}", name.to_ascii_lowercase()),
            "the same name (without regard to case)",
        )
    }

    fn arn(&mut self, place: &str, arn: &str) -> Result<(), DirectoryError> {
        self.put(place, arn.to_owned(), "the same Arn")
    }

    fn id(&mut self, place: &str, id: &str) -> Result<(), DirectoryError> {
        if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(fault(place, "the unique id must be 16 to 128 letters and digits"));
        }
        self.put(place, format!("id {id}"), "the same unique id")
    }

    fn put(&mut self, place: &str, key: String, what: &str) -> Result<(), DirectoryError> {
        match self.0.insert(key, place.to_owned()) {
            None => Ok(()),
            Some(first) => Err(fault(place, format!("has {what} as {first}"))),
        }
    }
}

fn compile(place: &str, kind: Kind, document: Option<&Document>) -> Result<Policy, DirectoryError> {
    let document = document.ok_or_else(|| fault(place, "is required"))?;
    let text = document.text().map_err(|rule| fault(place, rule))?;
    Policy::parse(kind, &text).map_err(|e| fault(place, e.to_string()))
}

/// The ARN must be of this kind and end in this name; the account is its own.
fn identity_arn(place: &str, arn: &str, kind: &str, name: &str) -> Result<AccountId, DirectoryError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
        return Err(fault(place, "a name is 1 to 128 characters of [\\w+=,.@-]"));
    }
    match IamArn::parse(arn) {
        Some(parsed)
            if parsed.kind == kind
                && parsed.name == name
                && arn.len() <= 2048
                && arn.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(parsed.account)
        }
        _ => Err(fault(format!("{place}: Arn"), format!("must be `arn:aws:iam::ACCOUNT:{kind}/PATH/{name}`"))),
    }
}

fn tags(place: &str, tags: &[declaration::Tag]) -> Result<Vec<Tag>, DirectoryError> {
    let mut checked: Vec<Tag> = Vec::with_capacity(tags.len());
    for tag in tags {
        // Roles of AWS's own services carry reserved `aws:` tags; an export may hold them.
        let key = tag.key.strip_prefix("aws:").unwrap_or(&tag.key);
        let legal = names::tag_key("Key", key).and_then(|()| names::tag_value("Value", &tag.value));
        legal.map_err(|e| fault(format!("{place}: Tags"), format!("{} {}", e.field, e.rule)))?;
        if checked.iter().any(|t| t.key.eq_ignore_ascii_case(&tag.key)) {
            return Err(fault(format!("{place}: Tags"), format!("key `{}` is there twice", tag.key)));
        }
        checked.push(Tag { key: tag.key.clone(), value: tag.value.clone() });
    }
    Ok(checked)
}

/// Long enough to be random, and no example of a manual.
fn check_secret(secret: &str) -> Result<(), &'static str> {
    if !(16..=128).contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("must be 16 to 128 printable ASCII characters");
    }
    let first = secret.bytes().next();
    if secret.ends_with("EXAMPLEKEY") || secret.bytes().all(|b| Some(b) == first) {
        return Err("is an example; make a random one");
    }
    Ok(())
}

fn check_providers(declaration: &Declaration, unique: &mut Unique) -> Result<(), DirectoryError> {
    let oidc = declaration
        .brevet
        .open_id_connect_providers
        .iter()
        .map(|p| (&p.arn, "OpenIDConnectProviders", "oidc-provider"));
    let saml = declaration.brevet.saml_providers.iter().map(|p| (&p.arn, "SAMLProviders", "saml-provider"));
    for (i, (arn, list, kind)) in oidc.chain(saml).enumerate() {
        let place = place(list, i, arn);
        let account = arn.strip_prefix("arn:aws:iam::").and_then(|r| r.split_once(':')).filter(|(_, r)| {
            r.strip_prefix(kind).and_then(|r| r.strip_prefix('/')).is_some_and(|name| !name.is_empty())
        });
        if account.and_then(|(a, _)| AccountId::parse(a)).is_none() {
            return Err(fault(place, format!("Arn must be `arn:aws:iam::ACCOUNT:{kind}/NAME`")));
        }
        unique.arn(&place, arn)?;
    }
    Ok(())
}

fn decoy() -> Result<Role, DirectoryError> {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/nobody"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"never"}}}]}"#;
    Ok(Role {
        arn: "arn:aws:iam::000000000000:role/none".to_owned(),
        name: "none".to_owned(),
        id: "AROA0000000000000000".to_owned(),
        account: AccountId::parse("000000000000").ok_or_else(|| fault("decoy", "account"))?,
        trust: Policy::parse(Kind::Trust, trust).map_err(|e| fault("decoy", e.to_string()))?,
        identity: Vec::new(),
        boundary: None,
        tags: Vec::new(),
        max_session: durations::ROLE_DEFAULT,
    })
}

fn place(list: &str, index: usize, name: &str) -> String {
    let name: String = name.chars().take(128).flat_map(char::escape_debug).collect();
    format!("{list}[{index}] {name}")
}

fn json_rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |cut| text.chars().take(cut).collect())
}

fn fault(place: impl Into<String>, rule: impl Into<String>) -> DirectoryError {
    DirectoryError { place: place.into(), rule: rule.into() }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({} users, {} roles, {} keys)", self.users.len(), self.roles.len(), self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minimal() -> serde_json::Value {
        json!({
            "UserDetailList": [{"Path": "/", "UserName": "alice", "UserId": "AIDAALICEALICEALICE1", "Arn": "arn:aws:iam::111122223333:user/alice", "GroupList": ["devs"]}],
            "GroupDetailList": [{"GroupName": "devs", "GroupId": "AGPADEVSDEVSDEVSDEV1", "Arn": "arn:aws:iam::111122223333:group/devs", "AttachedManagedPolicies": [{"PolicyName": "P", "PolicyArn": "arn:aws:iam::111122223333:policy/P"}]}],
            "RoleDetailList": [{"RoleName": "R", "RoleId": "AROAROLEROLEROLEROL1", "Arn": "arn:aws:iam::111122223333:role/R",
                "AssumeRolePolicyDocument": "%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22AWS%22%3A%22111122223333%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%7D"}],
            "Policies": [{"PolicyName": "P", "Arn": "arn:aws:iam::111122223333:policy/P", "DefaultVersionId": "v2", "PolicyVersionList": [
                {"VersionId": "v1", "Document": {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}},
                {"VersionId": "v2", "IsDefaultVersion": true, "Document": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}}]}],
            "Brevet": {"AccessKeys": [{"UserArn": "arn:aws:iam::111122223333:user/alice", "AccessKeyId": "AKIATESTTESTTESTTEST", "SecretAccessKey": "abcdefghijklmnopqrstuvwxyz0123456789ABCD"}]}
        })
    }

    fn compile(value: &serde_json::Value) -> Result<Directory, DirectoryError> {
        Directory::compile(value.to_string().as_bytes(), None)
    }

    #[test]
    fn an_export_compiles() {
        let directory = compile(&minimal()).unwrap();
        let key = directory.access_key("AKIATESTTESTTESTTEST").unwrap();
        assert_eq!((key.user.identity.len(), key.active), (1, true));
        assert_eq!(directory.role("arn:aws:iam::111122223333:role/R").unwrap().max_session, Duration::from_secs(3_600));
    }

    #[test]
    fn policies_of_aws_itself_may_be_longer() {
        let long: Vec<String> = (0..2_000).map(|n| format!("service{n}:Describe*")).collect();
        let document = json!({"Statement": {"Effect": "Allow", "Action": long, "Resource": "*"}});
        for (arn, taken) in [
            ("arn:aws:iam::aws:policy/ReadOnlyAccess", true),
            ("arn:aws:iam::111122223333:policy/ReadOnlyAccess", false),
        ] {
            let mut export = minimal();
            export["Policies"].as_array_mut().unwrap().push(json!({"PolicyName": "ReadOnlyAccess", "Arn": arn,
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]}));
            assert_eq!(compile(&export).is_ok(), taken, "{arn}");
        }
    }

    #[test]
    fn cf_01_what_is_wrong_is_named() {
        let cases = [
            ("/RoleDetailList/0/MaxSessionDuration", json!(3_599), "MaxSessionDuration"),
            ("/RoleDetailList/0/Arn", json!("arn:aws:iam::111122223333:role/Other"), "Arn"),
            ("/RoleDetailList/0/AssumeRolePolicyDocument", json!({"Statement": []}), "AssumeRolePolicyDocument"),
            ("/UserDetailList/0/GroupList/0", json!("nobody"), "nobody"),
            (
                "/GroupDetailList/0/AttachedManagedPolicies/0/PolicyArn",
                json!("arn:aws:iam::aws:policy/Missing"),
                "Missing",
            ),
            ("/Brevet/AccessKeys/0/UserArn", json!("arn:aws:iam::111122223333:user/bob"), "bob"),
            ("/Brevet/AccessKeys/0/SecretAccessKey", json!("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), "example"),
            ("/Brevet/AccessKeys/0/SecretAccessKey", json!(""), "16 to 128"),
            ("/Brevet/AccessKeys/0/Status", json!("On"), "Status"),
            ("/UserDetailList/0/Surprise", json!(1), "Surprise"),
            ("/IsTruncated", json!(true), "IsTruncated"),
        ];
        for (pointer, value, named) in cases {
            let mut altered = minimal();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            match altered.pointer_mut(parent).unwrap() {
                serde_json::Value::Object(map) => _ = map.insert(field.to_owned(), value),
                serde_json::Value::Array(list) => list[field.parse::<usize>().unwrap()] = value,
                other => panic!("{other}"),
            }
            let error = compile(&altered).unwrap_err().to_string();
            assert!(error.contains(named), "{pointer}: {error}");
        }
        let twice = minimal().to_string().replacen("\"UserName\"", "\"UserName\":\"x\",\"UserName\"", 1);
        assert!(Directory::compile(twice.as_bytes(), None).unwrap_err().to_string().contains("duplicate"));
    }
}
