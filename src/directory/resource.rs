//! One thing of the directory, whatever it is: its name everywhere, its shape as a file or a row
//! holds it, and what it refers to.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::declaration::{
    AccessKey, Account, Attached, Boundary, Declaration, Group, InstanceProfile, ManagedPolicy,
    MfaDevice, OidcProvider, ProfileRole, Role, SamlProvider, User,
};
use crate::base::arn::{AccountId, IamArn};

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An account.
    Account,
    /// A managed policy with its versions.
    Policy,
    /// A group.
    Group,
    /// A user.
    User,
    /// A role.
    Role,
    /// An instance profile.
    InstanceProfile,
    /// A long-term access key.
    AccessKey,
    /// A TOTP device.
    MfaDevice,
    /// An OpenID Connect provider.
    OidcProvider,
    /// A SAML provider.
    SamlProvider,
}

impl Kind {
    /// Each kind after those that it refers to.
    pub const ALL: [Self; 10] = [
        Self::Account,
        Self::Policy,
        Self::Group,
        Self::User,
        Self::Role,
        Self::InstanceProfile,
        Self::AccessKey,
        Self::MfaDevice,
        Self::OidcProvider,
        Self::SamlProvider,
    ];

    /// As rows and people name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Policy => "policy",
            Self::Group => "group",
            Self::User => "user",
            Self::Role => "role",
            Self::InstanceProfile => "instance-profile",
            Self::AccessKey => "access-key",
            Self::MfaDevice => "mfa-device",
            Self::OidcProvider => "oidc-provider",
            Self::SamlProvider => "saml-provider",
        }
    }

    /// Reverses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one thing: its kind, and its ARN, access key id, serial number or account id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What kind of thing.
    pub kind: Kind,
    /// Unique in its kind.
    pub id: String,
}

impl Name {
    /// Of that kind and id.
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// One thing in its declared shape.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Resource {
    Account(Account),
    Policy(ManagedPolicy),
    Group(Group),
    User(User),
    Role(Box<Role>),
    InstanceProfile(InstanceProfile),
    AccessKey(AccessKey),
    MfaDevice(MfaDevice),
    OidcProvider(OidcProvider),
    SamlProvider(SamlProvider),
}

/// Runs the same expression on whatever shape it is.
macro_rules! with {
    ($resource:expr, $shape:ident => $run:expr) => {
        match $resource {
            Resource::Account($shape) => $run,
            Resource::Policy($shape) => $run,
            Resource::Group($shape) => $run,
            Resource::User($shape) => $run,
            Resource::Role($shape) => $run,
            Resource::InstanceProfile($shape) => $run,
            Resource::AccessKey($shape) => $run,
            Resource::MfaDevice($shape) => $run,
            Resource::OidcProvider($shape) => $run,
            Resource::SamlProvider($shape) => $run,
        }
    };
}

impl Resource {
    /// Reads a row.
    ///
    /// # Errors
    /// Where the text is not of this kind's shape.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Account => Self::Account(serde_json::from_str(text)?),
            Kind::Policy => Self::Policy(serde_json::from_str(text)?),
            Kind::Group => Self::Group(serde_json::from_str(text)?),
            Kind::User => Self::User(serde_json::from_str(text)?),
            Kind::Role => Self::Role(serde_json::from_str(text)?),
            Kind::InstanceProfile => Self::InstanceProfile(serde_json::from_str(text)?),
            Kind::AccessKey => Self::AccessKey(serde_json::from_str(text)?),
            Kind::MfaDevice => Self::MfaDevice(serde_json::from_str(text)?),
            Kind::OidcProvider => Self::OidcProvider(serde_json::from_str(text)?),
            Kind::SamlProvider => Self::SamlProvider(serde_json::from_str(text)?),
        })
    }

    /// The row. Secrets in clear are not for a row: the door seals them first.
    ///
    /// # Errors
    /// Never with a declared shape.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        with!(self, shape => serde_json::to_string(shape))
    }

    /// What kind of thing.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Account(_) => Kind::Account,
            Self::Policy(_) => Kind::Policy,
            Self::Group(_) => Kind::Group,
            Self::User(_) => Kind::User,
            Self::Role(_) => Kind::Role,
            Self::InstanceProfile(_) => Kind::InstanceProfile,
            Self::AccessKey(_) => Kind::AccessKey,
            Self::MfaDevice(_) => Kind::MfaDevice,
            Self::OidcProvider(_) => Kind::OidcProvider,
            Self::SamlProvider(_) => Kind::SamlProvider,
        }
    }

    /// Its name everywhere.
    pub fn name(&self) -> Name {
        let id = match self {
            Self::Account(a) => &a.account_id,
            Self::Policy(p) => &p.arn,
            Self::Group(g) => &g.arn,
            Self::User(u) => &u.arn,
            Self::Role(r) => &r.arn,
            Self::InstanceProfile(p) => &p.arn,
            Self::AccessKey(k) => &k.access_key_id,
            Self::MfaDevice(d) => &d.serial_number,
            Self::OidcProvider(p) => &p.arn,
            Self::SamlProvider(p) => &p.arn,
        };
        Name::new(self.kind(), id.as_str())
    }

    /// What must be unique in its kind and account without regard to case: `ACCOUNT/name`.
    pub fn folded(&self) -> String {
        let (arn, name) = match self {
            Self::Account(a) => {
                return a
                    .account_alias
                    .as_ref()
                    .map_or_else(|| a.account_id.clone(), |a| a.to_ascii_lowercase());
            }
            Self::Policy(p) => (&p.arn, &p.policy_name),
            Self::Group(g) => (&g.arn, &g.group_name),
            Self::User(u) => (&u.arn, &u.user_name),
            Self::Role(r) => (&r.arn, &r.role_name),
            Self::InstanceProfile(p) => (&p.arn, &p.instance_profile_name),
            Self::AccessKey(k) => return k.access_key_id.clone(),
            Self::MfaDevice(d) => return d.serial_number.to_ascii_lowercase(),
            Self::OidcProvider(p) => return p.arn.to_ascii_lowercase(),
            Self::SamlProvider(p) => return p.arn.to_ascii_lowercase(),
        };
        folded(owner(arn), name)
    }

    /// `AIDA…`, `AROA…`, `AGPA…`, `ANPA…`, `AIPA…`: never given twice.
    pub fn unique_id(&self) -> Option<&str> {
        match self {
            Self::Policy(p) => p.policy_id.as_deref(),
            Self::Group(g) => Some(&g.group_id),
            Self::User(u) => Some(&u.user_id),
            Self::Role(r) => Some(&r.role_id),
            Self::InstanceProfile(p) => Some(&p.instance_profile_id),
            _ => None,
        }
    }

    /// The account that owns it; `aws` for AWS's own policies.
    pub fn account(&self) -> &str {
        match self {
            Self::Account(a) => &a.account_id,
            Self::AccessKey(k) => owner(&k.user_arn),
            Self::MfaDevice(d) if d.user_arn.is_empty() => owner(&d.serial_number),
            Self::MfaDevice(d) => owner(&d.user_arn),
            Self::Policy(p) => owner(&p.arn),
            Self::Group(g) => owner(&g.arn),
            Self::User(u) => owner(&u.arn),
            Self::Role(r) => owner(&r.arn),
            Self::InstanceProfile(p) => owner(&p.arn),
            Self::OidcProvider(p) => owner(&p.arn),
            Self::SamlProvider(p) => owner(&p.arn),
        }
    }

    /// What it refers to, by id or by folded name.
    pub fn links(&self) -> Vec<Name> {
        let attached = |list: &[Attached], boundary: Option<&Boundary>| -> Vec<Name> {
            let arns = list
                .iter()
                .map(|a| &a.policy_arn)
                .chain(boundary.map(|b| &b.permissions_boundary_arn));
            arns.map(|arn| Name::new(Kind::Policy, arn.as_str()))
                .collect()
        };
        let mut links = match self {
            Self::Group(g) => attached(&g.attached_managed_policies, None),
            Self::User(u) => {
                let groups = u
                    .group_list
                    .iter()
                    .map(|g| Name::new(Kind::Group, folded(owner(&u.arn), g)));
                attached(
                    &u.attached_managed_policies,
                    u.permissions_boundary.as_ref(),
                )
                .into_iter()
                .chain(groups)
                .collect()
            }
            Self::Role(r) => attached(
                &r.attached_managed_policies,
                r.permissions_boundary.as_ref(),
            ),
            Self::InstanceProfile(p) => p
                .roles
                .iter()
                .map(|r| Name::new(Kind::Role, folded(owner(&p.arn), &r.role_name)))
                .collect(),
            Self::AccessKey(k) => vec![Name::new(Kind::User, k.user_arn.as_str())],
            Self::MfaDevice(d) if !d.user_arn.is_empty() => {
                vec![Name::new(Kind::User, d.user_arn.as_str())]
            }
            _ => Vec::new(),
        };
        links.sort();
        links.dedup();
        links
    }
}

/// `ACCOUNT/name` in lower case.
pub fn folded(account: &str, name: &str) -> String {
    format!("{account}/{}", name.to_ascii_lowercase())
}

/// The account in an ARN.
fn owner(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

impl Declaration {
    /// All that a file declares, each kind after those that it refers to. What an export counts and
    /// observes (attachments, last use) is not declared and falls away; documents that were
    /// URL-encoded are plain from here on.
    ///
    /// # Errors
    /// A document that cannot be decoded, by its owner's ARN.
    pub fn into_resources(self) -> Result<Vec<Resource>, String> {
        let mut all = Vec::new();
        let mut profiles = self.brevet.instance_profiles;
        for mut policy in self.policies {
            policy.attachment_count = None;
            policy.permissions_boundary_usage_count = None;
            for version in &mut policy.policy_version_list {
                plain(&policy.arn, &mut version.document)?;
            }
            // Where both say which version is in force, one of them does.
            if policy.default_version_id.is_none() {
                policy.default_version_id = policy
                    .policy_version_list
                    .iter()
                    .find(|v| v.is_default_version)
                    .map(|v| v.version_id.clone());
            }
            all.push(Resource::Policy(policy));
        }
        for mut group in self.group_detail_list {
            for policy in &mut group.group_policy_list {
                plain(&group.arn, &mut policy.policy_document)?;
            }
            all.push(Resource::Group(group));
        }
        for mut user in self.user_detail_list {
            for policy in &mut user.user_policy_list {
                plain(&user.arn, &mut policy.policy_document)?;
            }
            all.push(Resource::User(user));
        }
        for mut role in self.role_detail_list {
            profiles.append(&mut role.instance_profile_list);
            plain(&role.arn, &mut role.assume_role_policy_document)?;
            for policy in &mut role.role_policy_list {
                plain(&role.arn, &mut policy.policy_document)?;
            }
            all.push(Resource::Role(Box::new(role)));
        }
        for mut profile in profiles {
            for role in &mut profile.roles {
                *role = ProfileRole {
                    role_name: std::mem::take(&mut role.role_name),
                    ..ProfileRole::default()
                };
            }
            all.push(Resource::InstanceProfile(profile));
        }
        all.extend(self.brevet.access_keys.into_iter().map(Resource::AccessKey));
        all.extend(self.brevet.mfa_devices.into_iter().map(Resource::MfaDevice));
        all.extend(
            self.brevet
                .open_id_connect_providers
                .into_iter()
                .map(Resource::OidcProvider),
        );
        all.extend(
            self.brevet
                .saml_providers
                .into_iter()
                .map(Resource::SamlProvider),
        );
        let mut accounts = self.brevet.accounts;
        let known: BTreeSet<String> = accounts.iter().map(|a| a.account_id.clone()).collect();
        let used: BTreeSet<&str> = all.iter().map(Resource::account).collect();
        for account in used
            .into_iter()
            .filter(|a| AccountId::parse(a).is_some() && !known.contains(*a))
        {
            accounts.push(Account {
                account_id: account.to_owned(),
                account_alias: None,
            });
        }
        Ok(accounts
            .into_iter()
            .map(Resource::Account)
            .chain(all)
            .collect())
    }

    /// The file that declares these, as AWS's export would print it: instance profiles inside their
    /// roles, attachments counted.
    pub fn from_resources(resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut file = Self::default();
        let mut profiles: Vec<InstanceProfile> = Vec::new();
        for resource in resources {
            match resource {
                Resource::Account(a) => file.brevet.accounts.push(a),
                Resource::Policy(p) => file.policies.push(p),
                Resource::Group(g) => file.group_detail_list.push(g),
                Resource::User(u) => file.user_detail_list.push(u),
                Resource::Role(r) => file.role_detail_list.push(*r),
                Resource::InstanceProfile(p) => profiles.push(p),
                Resource::AccessKey(k) => file.brevet.access_keys.push(k),
                Resource::MfaDevice(d) => file.brevet.mfa_devices.push(d),
                Resource::OidcProvider(p) => file.brevet.open_id_connect_providers.push(p),
                Resource::SamlProvider(p) => file.brevet.saml_providers.push(p),
            }
        }
        let mut used = HashMap::<String, (i64, i64)>::new();
        {
            let mut count = |attached: &[Attached], boundary: Option<&Boundary>| {
                for policy in attached {
                    used.entry(policy.policy_arn.clone()).or_default().0 += 1;
                }
                if let Some(boundary) = boundary {
                    used.entry(boundary.permissions_boundary_arn.clone())
                        .or_default()
                        .1 += 1;
                }
            };
            file.user_detail_list.iter().for_each(|u| {
                count(
                    &u.attached_managed_policies,
                    u.permissions_boundary.as_ref(),
                )
            });
            file.role_detail_list.iter().for_each(|r| {
                count(
                    &r.attached_managed_policies,
                    r.permissions_boundary.as_ref(),
                )
            });
            file.group_detail_list
                .iter()
                .for_each(|g| count(&g.attached_managed_policies, None));
        }
        for policy in &mut file.policies {
            let (attachments, boundaries) = used.get(&policy.arn).copied().unwrap_or_default();
            policy.attachment_count = Some(attachments);
            policy.permissions_boundary_usage_count = Some(boundaries);
        }
        let mut at = HashMap::new();
        for (n, role) in file.role_detail_list.iter().enumerate() {
            at.insert(folded(owner(&role.arn), &role.role_name), n);
        }
        for mut profile in profiles {
            let home = profile
                .roles
                .first()
                .and_then(|r| at.get(&folded(owner(&profile.arn), &r.role_name)));
            match home.and_then(|n| file.role_detail_list.get_mut(*n)) {
                Some(role) => {
                    profile.roles = vec![ProfileRole {
                        path: role.path.clone(),
                        role_name: role.role_name.clone(),
                        role_id: Some(role.role_id.clone()),
                        arn: Some(role.arn.clone()),
                        create_date: role.create_date.clone(),
                        assume_role_policy_document: role.assume_role_policy_document.clone(),
                        ..ProfileRole::default()
                    }];
                    role.instance_profile_list.push(profile);
                }
                None => file.brevet.instance_profiles.push(profile),
            }
        }
        file
    }
}

/// A document as a JSON object, whichever form it came in.
fn plain(owner: &str, document: &mut Option<super::declaration::Document>) -> Result<(), String> {
    let Some(inner) = document else { return Ok(()) };
    let text = inner
        .text()
        .map_err(|rule| format!("{owner}: a policy document is {rule}"))?;
    let text = super::declaration::Document::new(&text);
    *inner = text.map_err(|e| format!("{owner}: a policy document is not JSON: {e}"))?;
    Ok(())
}

/// The account and name of an ARN as the folded name that must be unique.
pub fn folded_arn(arn: &str) -> Option<String> {
    IamArn::parse(arn).map(|a| folded(a.account.as_str(), a.name))
}
