//! Accounts, users, groups, roles and policies as one immutable compiled snapshot. A change makes
//! a new snapshot, of which only what changed is new, and swaps it; a request sees one. Knows no
//! SQL: whether it was read from a file or from the store's rows makes no difference.

pub mod declaration;
pub mod principals;
pub mod resource;
mod table;
pub mod unique_ids;
mod unsupported;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::arn::{AccountId, IamArn};
use crate::base::names::{self, AccessKeyId, SerialNumber, Tag};
use crate::base::secret::Secret;
use crate::evaluator::{Kind as PolicyKind, NamedPrincipal, Policy, strangers};
use crate::master_key::MasterKey;
use crate::proof::jwt::KeySet;
use crate::proof::sigv4::SigningSecret;
use crate::session::durations;
use declaration::{Attached, Boundary, Declaration, Document, InlinePolicy};
use resource::{Kind, Name, Resource, folded, folded_arn};
use table::{Keyed, Named, Names, Table};
use zeroize::Zeroizing;

/// The tag of a role that trusts a shared issuer whoever the subject is; its value is the issuer
/// without `https://` (several of them with spaces between).
pub const UNBOUND_SUBJECT: &str = "brevet:unbound-subject";
/// The tag of a role that lets in everybody without a condition that keeps strangers out; its value is `true`.
pub const PUBLIC: &str = "brevet:public";
/// The longest file to import or to serve from, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// Whether a policy is one of AWS's own. Exports hold the documents of those that are attached, and
/// leave deprecated ones out.
pub fn is_aws_managed(policy_arn: &str) -> bool {
    policy_arn
        .strip_prefix("arn:aws:iam::aws:policy/")
        .is_some_and(|name| !name.is_empty())
}

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
    pub arn: Arc<str>,
    /// Without its path.
    pub name: Box<str>,
    /// `AIDA…`
    pub id: Box<str>,
    /// Its owner.
    pub account: AccountId,
    /// What it may do, its groups' policies not included.
    pub own: Own,
    /// Its groups, by folded name.
    groups: Box<[Arc<str>]>,
    /// Its tags.
    pub tags: Box<[Tag]>,
}

/// A role.
#[derive(Debug)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`
    pub arn: Box<str>,
    /// Without its path; unique in its account.
    pub name: Box<str>,
    /// `AROA…`
    pub id: Box<str>,
    /// Its owner.
    pub account: AccountId,
    /// Who may assume it.
    pub trust: Policy,
    /// What its sessions may do.
    pub own: Own,
    /// Its tags.
    pub tags: Box<[Tag]>,
    /// 3,600 to 129,600 s.
    pub max_session: Duration,
    /// Rules that tags of the role override: `brevet:public` = `true`.
    pub overridden: Box<[String]>,
    /// Why its trust policy is not in force and lets in nobody: it was stored before a rule that it breaks.
    pub closed: Option<Box<str>>,
}

/// The policies of one user, group or role. Managed ones are named and not held, so that a policy
/// that changes changes in one place.
#[derive(Debug, Default)]
pub struct Own {
    inline: Box<[Arc<Policy>]>,
    managed: Box<[Arc<str>]>,
    boundary: Option<Arc<str>>,
}

/// What limits and allows a principal, in one snapshot.
#[derive(Debug, Default)]
pub struct Effective {
    /// Managed and inline policies, of groups too.
    pub identity: Vec<Arc<Policy>>,
    /// The permissions boundary.
    pub boundary: Option<Arc<Policy>>,
}

/// Something names a policy or a group that the snapshot does not have: nothing is decided then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the directory has no `{0}`, which is referred to")]
pub struct Dangling(pub String);

/// A long-term access key.
#[derive(Debug)]
pub struct AccessKey {
    /// `AKIA…`
    pub id: AccessKeyId,
    /// What its holder signs with.
    pub secret: SigningSecret,
    /// Whose it is.
    pub user_arn: Arc<str>,
    /// An inactive key proves nothing.
    pub active: bool,
}

/// A TOTP device.
#[derive(Debug)]
pub struct MfaDevice {
    /// `arn:aws:iam::ACCOUNT:mfa/NAME`, or a hardware serial number.
    pub serial_number: SerialNumber,
    /// Whose it is; none: nobody's yet.
    pub user_arn: Option<Box<str>>,
    /// Base32.
    pub seed: Secret<String>,
    /// Of the codes: 6 to 8.
    pub digits: u8,
    /// Of the HMAC.
    algorithm: totp_rs::Algorithm,
    /// When it was made, in seconds since 1970; 0: unknown.
    pub made_at: i64,
    /// When it was given to its user.
    pub enable_date: Option<Box<str>>,
    /// Its tags.
    pub tags: Box<[Tag]>,
}

impl MfaDevice {
    /// What shows its codes, one for each 30 seconds. None: never, once it was taken in.
    pub fn totp(&self) -> Option<totp_rs::Totp> {
        let secret = totp_rs::Secret::try_from_base32(self.seed.expose()).ok()?;
        let builder = totp_rs::Builder::new()
            .with_algorithm(self.algorithm)
            .with_digits(self.digits)
            .with_skew(0);
        builder.with_secret(secret).build().ok()
    }
}

/// Why the broker is no provider of its own.
pub const OWN_ISSUER: &str = "is this broker's own [web_identity] issuer: a session that exchanged its own token for \
     another session would lose its session policies, its chain and whatever revokes it; remove the provider";

/// Whether a provider's URL names an issuer, however it is spelled: the scheme, the case of the host, the
/// port of https and slashes at the end make no difference.
pub fn is_issuer(url: &str, issuer: &str) -> bool {
    fn parts(url: &str) -> (String, &str) {
        let rest = url
            .split_once("://")
            .map_or(url, |(_, rest)| rest)
            .trim_end_matches('/');
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        (
            host.strip_suffix(":443")
                .unwrap_or(host)
                .to_ascii_lowercase(),
            path,
        )
    }
    parts(url) == parts(issuer)
}

/// An OpenID Connect provider.
#[derive(Debug)]
pub struct OidcProvider {
    /// `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`
    pub arn: Box<str>,
    /// The issuer, as its tokens name it: with its scheme.
    pub url: Box<str>,
    /// Its owner.
    pub account: AccountId,
    /// Whom its tokens must be for.
    pub client_ids: Box<[String]>,
    /// Its keys, where they are declared and not asked for.
    pub keys: Option<KeySet>,
    /// PEM of the CA of its endpoints.
    pub ca: Option<Box<[u8]>>,
    /// Whether each of its tokens is good once.
    pub one_time: bool,
}

impl OidcProvider {
    /// Whether another declaration of it would be asked for its keys in the same way.
    pub fn asks_like(&self, other: &Self) -> bool {
        self.url == other.url && self.ca == other.ca
    }
}

/// A managed policy, in its default version.
#[derive(Debug)]
struct Managed {
    arn: Arc<str>,
    policy: Arc<Policy>,
}

/// A group.
#[derive(Debug)]
struct Group {
    folded: Arc<str>,
    own: Own,
}

/// Anything that is known by name and not read by a request yet.
#[derive(Debug)]
struct Declared(Box<str>);

macro_rules! keyed {
    ($($type:ty: $shape:ident => $key:expr;)*) => {
        $(impl Keyed for $type {
            fn key(&self) -> &str {
                let $shape = self;
                $key
            }
        })*
    };
}

keyed! {
    User: u => &u.arn;
    Role: r => &r.arn;
    Group: g => &g.folded;
    Managed: m => &m.arn;
    AccessKey: k => k.id.as_str();
    MfaDevice: d => d.serial_number.as_str();
    OidcProvider: p => &p.arn;
    Declared: n => &n.0;
}

macro_rules! named {
    ($($type:ty),*) => {
        $(impl Named for $type {
            fn account(&self) -> AccountId {
                self.account
            }

            fn name(&self) -> &str {
                &self.name
            }
        })*
    };
}

named!(User, Role);

/// The compiled snapshot. A clone shares everything.
#[derive(Clone)]
pub struct Directory {
    users: Table<User>,
    user_names: Names<User>,
    groups: Table<Group>,
    roles: Table<Role>,
    role_names: Names<Role>,
    keys: Table<AccessKey>,
    managed: Table<Managed>,
    mfa_devices: Table<MfaDevice>,
    oidc_providers: Table<OidcProvider>,
    saml_providers: Table<Declared>,
    decoy: Arc<Role>,
    /// Takes the place of a policy whose document is not here.
    closed: Arc<Policy>,
    clear_secrets: usize,
    /// The accounts that the file or the store has.
    accounts: Arc<HashSet<AccountId>>,
}

impl Directory {
    /// Nobody and nothing.
    ///
    /// # Errors
    /// Never: the role that trusts nobody always compiles.
    pub fn empty() -> Result<Self, DirectoryError> {
        Ok(Self {
            users: Table::default(),
            user_names: Names::default(),
            groups: Table::default(),
            roles: Table::default(),
            role_names: Names::default(),
            keys: Table::default(),
            managed: Table::default(),
            mfa_devices: Table::default(),
            oidc_providers: Table::default(),
            saml_providers: Table::default(),
            decoy: Arc::new(decoy()?),
            closed: Arc::new(deny_all(PolicyKind::Identity)?),
            clear_secrets: 0,
            accounts: Arc::default(),
        })
    }

    /// Reads, checks and compiles a directory file as a whole.
    ///
    /// # Errors
    /// The first place that breaks a rule. Sealed secrets need `master_key`.
    pub fn compile(text: &[u8], master_key: Option<&MasterKey>) -> Result<Self, DirectoryError> {
        Self::from_declaration(parse(text)?, master_key)
    }

    /// Checks and compiles a declaration.
    ///
    /// # Errors
    /// The first place that breaks a rule.
    pub fn from_declaration(
        declaration: Declaration,
        master_key: Option<&MasterKey>,
    ) -> Result<Self, DirectoryError> {
        let mut directory = Self::empty()?;
        let mut unique = Unique::default();
        let mut places = HashMap::<Kind, usize>::new();
        let resources = declared(declaration)?;
        let owners = principals::Owners::of(&resources);
        for resource in resources {
            let index = places.entry(resource.kind()).or_default();
            let place = place(list(resource.kind()), *index, label(&resource));
            *index += 1;
            unique.resource(&place, &resource)?;
            directory.put(&place, &resource, Source::File(&owners), master_key)?;
            directory.note_account(&resource);
            directory.check_links(&place, &resource)?;
        }
        let providers: Vec<&str> = directory.oidc_providers.values().map(|p| &*p.arn).collect();
        for role in directory
            .roles()
            .filter(|role| strangers::names_everybody(&role.trust))
        {
            let place = format!("RoleDetailList {}: AssumeRolePolicyDocument", role.arn);
            check_everybody(&place, &role.arn, &role.trust, &providers)?;
        }
        Ok(directory)
    }

    /// Takes a changed or new thing in, compiled. What it refers to must be there.
    ///
    /// # Errors
    /// The first rule that it breaks; the snapshot is then of no use.
    pub fn take(
        &mut self,
        resource: &Resource,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        let place = resource.name().to_string();
        self.put(&place, resource, Source::Declared, master_key)
    }

    /// Takes in a thing of the store, which was checked by the rules of the time when it was written.
    /// A role that lets in strangers by today's rules lets in nobody, and [`Directory::warnings`] names it.
    ///
    /// # Errors
    /// The first rule that it breaks; the snapshot is then of no use.
    pub fn take_stored(
        &mut self,
        resource: &Resource,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        let place = resource.name().to_string();
        self.put(&place, resource, Source::Stored, master_key)?;
        self.note_account(resource);
        Ok(())
    }

    fn note_account(&mut self, resource: &Resource) {
        if let Resource::Account(account) = resource
            && let Some(account) = AccountId::parse(&account.account_id)
        {
            Arc::make_mut(&mut self.accounts).insert(account);
        }
    }

    /// Checks that everything a thing refers to is there.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn refers_to_what_is_there(&self, resource: &Resource) -> Result<(), DirectoryError> {
        self.check_links(&resource.name().to_string(), resource)
    }

    /// Takes a thing out. What referred to it is refused from then on.
    pub fn leave(&mut self, name: &Name) {
        let id = name.id.as_str();
        match name.kind {
            Kind::Policy => _ = self.managed.remove(id),
            Kind::Group => _ = folded_arn(id).and_then(|folded| self.groups.remove(&folded)),
            Kind::User => {
                if let Some(user) = self.users.remove(id) {
                    self.user_names.remove(&user);
                }
            }
            Kind::Role => {
                if let Some(role) = self.roles.remove(id) {
                    self.role_names.remove(&role);
                }
            }
            Kind::AccessKey => _ = self.keys.remove(id),
            Kind::MfaDevice => _ = self.mfa_devices.remove(id),
            Kind::OidcProvider => _ = self.oidc_providers.remove(id),
            Kind::SamlProvider => _ = self.saml_providers.remove(id),
            Kind::Account => {
                if let Some(account) =
                    AccountId::parse(id).filter(|account| self.accounts.contains(account))
                {
                    Arc::make_mut(&mut self.accounts).remove(&account);
                }
            }
            Kind::InstanceProfile => {}
        }
    }

    /// The user of that ARN.
    pub fn user(&self, arn: &str) -> Option<&Arc<User>> {
        self.users.get(arn)
    }

    /// The user of an account by its name, whatever its path and the case of the letters.
    pub fn user_named(&self, account: AccountId, name: &str) -> Option<&Arc<User>> {
        self.user_names.get(account, name)
    }

    /// The role of that ARN.
    pub fn role(&self, arn: &str) -> Option<&Arc<Role>> {
        self.roles.get(arn)
    }

    /// The role of an account by its name, whatever its path and the case of the letters.
    pub fn role_named(&self, account: AccountId, name: &str) -> Option<&Arc<Role>> {
        self.role_names.get(account, name)
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
        self.managed.get(arn).map(|m| &m.policy)
    }

    /// Denies everything: it takes the place of a policy that is not known here.
    pub fn closed_policy(&self) -> &Arc<Policy> {
        &self.closed
    }

    /// The OpenID Connect provider of that ARN.
    pub fn oidc_provider(&self, arn: &str) -> Option<&Arc<OidcProvider>> {
        self.oidc_providers.get(arn)
    }

    /// All OpenID Connect providers, in no order.
    pub fn oidc_providers(&self) -> impl Iterator<Item = &Arc<OidcProvider>> {
        self.oidc_providers.values()
    }

    /// A provider that an issuer of tokens is declared as, in whichever account.
    pub fn provider_of(&self, issuer: &str) -> Option<&Arc<OidcProvider>> {
        self.oidc_providers
            .values()
            .find(|provider| is_issuer(&provider.url, issuer))
    }

    /// What a user may do, its groups' policies included.
    ///
    /// # Errors
    /// When a policy or group that is named is missing: nothing can be decided then.
    pub fn effective_of_user(&self, user: &User) -> Result<Effective, Dangling> {
        let mut effective = self.effective(&user.own)?;
        for name in &user.groups {
            let group = self
                .groups
                .get(name)
                .ok_or_else(|| Dangling(format!("group {name}")))?;
            effective
                .identity
                .append(&mut self.effective(&group.own)?.identity);
        }
        Ok(effective)
    }

    /// What a role's sessions may do at the most.
    ///
    /// # Errors
    /// When a policy that is named is missing: nothing can be decided then.
    pub fn effective_of_role(&self, role: &Role) -> Result<Effective, Dangling> {
        self.effective(&role.own)
    }

    fn effective(&self, own: &Own) -> Result<Effective, Dangling> {
        // A policy that is not known may deny anything: whoever has it may do nothing.
        let missing = |arn: &Arc<str>| {
            if is_aws_managed(arn) {
                Ok(self.closed.clone())
            } else {
                Err(Dangling(arn.to_string()))
            }
        };
        let find = |arn: &Arc<str>| {
            self.managed_policy(arn)
                .cloned()
                .map_or_else(|| missing(arn), Ok)
        };
        let mut identity = own.inline.to_vec();
        for arn in &own.managed {
            identity.push(find(arn)?);
        }
        Ok(Effective {
            identity,
            boundary: own.boundary.as_ref().map(find).transpose()?,
        })
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

    /// The MFA device of that serial number.
    pub fn mfa_device(&self, serial_number: &str) -> Option<&Arc<MfaDevice>> {
        self.mfa_devices.get(serial_number)
    }

    /// All MFA devices, in no order.
    pub fn mfa_devices(&self) -> impl Iterator<Item = &Arc<MfaDevice>> {
        self.mfa_devices.values()
    }

    /// What an operator should look at: whoever may do nothing because a policy is not here, roles
    /// whose trust policy is not in force, and cross-account trust without an external id. A sentence
    /// each, in the order of ARNs.
    pub fn warnings(&self) -> Vec<String> {
        let mut roles: Vec<_> = self.roles().collect();
        roles.sort_by(|a, b| a.arn.cmp(&b.arn));
        let owners = self
            .users
            .values()
            .map(|u| (format!("user {}", u.arn), &u.own));
        let owners = owners.chain(
            self.groups
                .values()
                .map(|g| (format!("group {}", g.folded), &g.own)),
        );
        let owners = owners.chain(roles.iter().map(|r| (format!("role {}", r.arn), &r.own)));
        let mut all: Vec<String> = owners
            .flat_map(|(owner, own)| {
                let named = own.managed.iter().chain(&own.boundary);
                let missing =
                    named.filter(|arn| is_aws_managed(arn) && self.managed.get(arn).is_none());
                missing
                    .map(move |arn| closed_warning(&owner, arn))
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort();
        all.extend(self.named_by_arn().into_iter().filter(|named| !named.is_here).map(|named| {
            let (role, principal) = (&named.role.arn, named.principal);
            format!("role {role} names {principal} by ARN in its trust policy, and nobody here has that ARN: whoever gets it is meant; leave the entry out")
        }));
        let arns = self.arns_of_principals(&roles);
        for role in &roles {
            let ids = role
                .trust
                .named_principals()
                .filter_map(|named| match named {
                    NamedPrincipal::ById(id) => Some(id),
                    NamedPrincipal::ByArn(_) => None,
                });
            let gone: BTreeSet<&str> = ids.filter(|id| !arns.contains_key(id)).collect();
            all.extend(gone.into_iter().map(|id| {
                format!(
                    "role {} names {id} in its trust policy, a unique id that nobody here has: leave the entry out",
                    role.arn
                )
            }));
        }
        for role in roles {
            if let Some(rule) = &role.closed {
                all.push(format!("role {} lets in nobody: {rule}", role.arn));
            }
            let arn = |id: &str| arns.get(id).copied();
            let foreign = strangers::without_external_id(&role.trust, role.account.as_str(), arn);
            all.extend(
                foreign
                    .into_iter()
                    .map(|who| external_id_warning(&role.arn, &who)),
            );
        }
        all
    }

    /// By unique id, the ARNs of the users and roles that the trust policies of these roles name so.
    fn arns_of_principals(&self, roles: &[&Arc<Role>]) -> HashMap<&str, &str> {
        let wanted: HashSet<&str> = roles
            .iter()
            .flat_map(|role| role.trust.named_principals())
            .filter_map(|named| {
                if let NamedPrincipal::ById(id) = named {
                    Some(id)
                } else {
                    None
                }
            })
            .collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let users = self.users.values().map(|user| (&*user.id, &*user.arn));
        let all = users.chain(self.roles.values().map(|role| (&*role.id, &*role.arn)));
        all.filter(|(id, _)| wanted.contains(id)).collect()
    }

    /// The principals of accounts that are here that trust policies name by ARN, in the order of the roles'
    /// ARNs: rows of an earlier version, and of a time when the account was not here; of a file, principals
    /// that it does not declare.
    fn named_by_arn(&self) -> Vec<NamedByArn<'_>> {
        let mut all = Vec::new();
        for role in self.roles.values() {
            for named in role.trust.named_principals() {
                let NamedPrincipal::ByArn(principal) = named else {
                    continue;
                };
                let Some(named) = principals::Named::parse(principal) else {
                    continue;
                };
                let account = AccountId::parse(named.account())
                    .filter(|account| self.accounts.contains(account));
                let Some(account) = account else { continue };
                let is_here = match named {
                    principals::Named::User { arn, .. } => self.user(arn).is_some(),
                    principals::Named::Role { arn, .. } => self.role(arn).is_some(),
                    principals::Named::Session { role, .. } => self
                        .role_named(account, role)
                        .is_some_and(|found| *found.name == *role),
                };
                all.push(NamedByArn {
                    role,
                    principal,
                    is_here,
                });
            }
        }
        all.sort_by(|a, b| (&a.role.arn, a.principal).cmp(&(&b.role.arn, b.principal)));
        all
    }

    /// The ARNs of the roles whose trust policies name somebody of an account in the store by ARN, and should
    /// do so by unique id.
    pub fn bindable(&self) -> Vec<String> {
        let named = self.named_by_arn().into_iter();
        let mut roles: Vec<String> = named.map(|named| named.role.arn.to_string()).collect();
        roles.dedup();
        roles
    }

    /// How many users, roles and access keys there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.users.len(), self.roles.len(), self.keys.len())
    }

    /// How many secrets stood in the file in clear.
    pub fn clear_secrets(&self) -> usize {
        self.clear_secrets
    }

    fn put(
        &mut self,
        place: &str,
        resource: &Resource,
        source: Source<'_>,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        match resource {
            Resource::Account(account) => {
                let legal = AccountId::parse(&account.account_id).is_some();
                legal
                    .then_some(())
                    .ok_or_else(|| fault(place, "AccountId must be twelve digits"))
            }
            Resource::Policy(policy) => self.put_policy(place, policy),
            Resource::Group(group) => self.put_group(place, group),
            Resource::User(user) => self.put_user(place, user),
            Resource::Role(role) => self.put_role(place, role, source),
            Resource::InstanceProfile(profile) => check_profile(place, profile),
            Resource::AccessKey(key) => self.put_key(place, key, master_key),
            Resource::MfaDevice(device) => self.put_mfa_device(place, device, master_key),
            Resource::OidcProvider(provider) => self.put_oidc_provider(place, provider),
            Resource::SamlProvider(provider) => {
                provider_account(place, &provider.arn, "saml-provider")?;
                self.saml_providers
                    .put(Declared(provider.arn.as_str().into()));
                Ok(())
            }
        }
    }

    fn put_policy(
        &mut self,
        place: &str,
        policy: &declaration::ManagedPolicy,
    ) -> Result<(), DirectoryError> {
        let aws_managed = is_aws_managed(&policy.arn);
        if !aws_managed {
            identity_arn(place, &policy.arn, "policy", &policy.policy_name)?;
        }
        let mut versions =
            policy
                .policy_version_list
                .iter()
                .filter(|v| match &policy.default_version_id {
                    Some(id) => v.version_id == *id,
                    None => v.is_default_version,
                });
        let (Some(version), None) = (versions.next(), versions.next()) else {
            return Err(fault(
                format!("{place}: PolicyVersionList"),
                "exactly one version must be the default one",
            ));
        };
        let kind = if aws_managed {
            PolicyKind::AwsManaged
        } else {
            PolicyKind::Identity
        };
        let compiled = compile(
            &format!("{place}: {}: Document", version.version_id),
            kind,
            version.document.as_ref(),
        )?;
        self.managed.put(Managed {
            arn: policy.arn.as_str().into(),
            policy: Arc::new(compiled),
        });
        Ok(())
    }

    fn put_group(&mut self, place: &str, group: &declaration::Group) -> Result<(), DirectoryError> {
        let account = identity_arn(place, &group.arn, "group", &group.group_name)?;
        let own = self.own(
            place,
            account,
            &group.group_policy_list,
            &group.attached_managed_policies,
            None,
        )?;
        self.groups.put(Group {
            folded: folded(account.as_str(), &group.group_name).into(),
            own,
        });
        Ok(())
    }

    fn put_user(&mut self, place: &str, user: &declaration::User) -> Result<(), DirectoryError> {
        let account = identity_arn(place, &user.arn, "user", &user.user_name)?;
        unique_id(place, &user.user_id)?;
        let boundary = user.permissions_boundary.as_ref();
        let own = self.own(
            place,
            account,
            &user.user_policy_list,
            &user.attached_managed_policies,
            boundary,
        )?;
        let groups = user.group_list.iter().map(|name| {
            let folded = folded(account.as_str(), name);
            self.groups
                .get(&folded)
                .map_or_else(|| folded.as_str().into(), |g| g.folded.clone())
        });
        let compiled = User {
            arn: user.arn.as_str().into(),
            name: user.user_name.as_str().into(),
            id: user.user_id.as_str().into(),
            account,
            own,
            groups: groups.collect(),
            tags: tags(place, &user.tags)?,
        };
        let compiled = Arc::new(compiled);
        self.users.put(compiled.clone());
        self.user_names.put(compiled);
        Ok(())
    }

    fn put_role(
        &mut self,
        place: &str,
        role: &declaration::Role,
        source: Source<'_>,
    ) -> Result<(), DirectoryError> {
        let account = identity_arn(place, &role.arn, "role", &role.role_name)?;
        unique_id(place, &role.role_id)?;
        let seconds = role.max_session_duration.unwrap_or(3_600);
        if !(3_600..=129_600).contains(&seconds) {
            let rule = format!("{seconds} is not from 3600 to 129600 seconds");
            return Err(fault(format!("{place}: MaxSessionDuration"), rule));
        }
        let boundary = role.permissions_boundary.as_ref();
        let document = role.assume_role_policy_document.as_ref();
        let trust_place = format!("{place}: AssumeRolePolicyDocument");
        let mut trust = compile(&trust_place, PolicyKind::Trust, document)?;
        let tags = tags(place, &role.tags)?;
        let mut closed = None;
        let overridden = match (check_strangers(&trust, &tags), source) {
            (Ok(overridden), _) => overridden,
            (Err(rule), Source::File(_) | Source::Declared) => {
                return Err(fault(trust_place, rule));
            }
            (Err(rule), Source::Stored) => {
                trust = deny_all(PolicyKind::Trust)?;
                closed = Some(rule.into());
                Vec::new()
            }
        };
        if let Source::File(owners) = source {
            trust.bind_principals(|principal| owners.bound(principal));
        }
        if !matches!(source, Source::Stored)
            && let Some((domain, instead)) = strangers::built_in_provider(&trust)
        {
            let rule =
                format!("`{domain}` is built in to AWS and not here: {instead}, and name its ARN");
            return Err(fault(trust_place, rule));
        }
        let compiled = Role {
            arn: role.arn.as_str().into(),
            name: role.role_name.as_str().into(),
            id: role.role_id.as_str().into(),
            account,
            trust,
            own: self.own(
                place,
                account,
                &role.role_policy_list,
                &role.attached_managed_policies,
                boundary,
            )?,
            tags,
            max_session: Duration::from_secs(u64::try_from(seconds).unwrap_or(3_600)),
            overridden: overridden.into(),
            closed,
        };
        let compiled = Arc::new(compiled);
        self.roles.put(compiled.clone());
        self.role_names.put(compiled);
        Ok(())
    }

    fn put_key(
        &mut self,
        place: &str,
        key: &declaration::AccessKey,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        let id = AccessKeyId::parse("AccessKeyId", &key.access_key_id)
            .map_err(|e| fault(place, format!("AccessKeyId {}", e.rule)))?;
        if id.is_temporary() {
            return Err(fault(
                place,
                "AccessKeyId must not begin with `ASIA`, which marks temporary credentials",
            ));
        }
        let belongs = sealing_name("access key", &key.access_key_id, &key.user_arn);
        let clear = key.secret_access_key.as_ref().map(|s| s.as_str());
        let field = "SecretAccessKey";
        let secret = self.secret(
            place,
            field,
            &belongs,
            clear,
            key.sealed_secret_access_key.as_deref(),
            master_key,
        )?;
        check_secret(secret.expose()).map_err(|rule| fault(format!("{place}: {field}"), rule))?;
        let active = match key.status.as_deref() {
            None | Some("Active") => true,
            Some("Inactive") => false,
            Some(_) => {
                return Err(fault(
                    format!("{place}: Status"),
                    "must be `Active` or `Inactive`",
                ));
            }
        };
        let user_arn = self
            .users
            .get(&key.user_arn)
            .map_or_else(|| key.user_arn.as_str().into(), |u| u.arn.clone());
        self.keys.put(AccessKey {
            id,
            secret: SigningSecret::new(secret),
            user_arn,
            active,
        });
        Ok(())
    }

    fn put_mfa_device(
        &mut self,
        place: &str,
        device: &declaration::MfaDevice,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        let serial_number = SerialNumber::parse("SerialNumber", &device.serial_number)
            .map_err(|e| fault(place, format!("SerialNumber {}", e.rule)))?;
        let belongs = sealing_name("mfa device", &device.serial_number, &device.user_arn);
        let clear = device.base32_string_seed.as_ref().map(|s| s.as_str());
        let field = "Base32StringSeed";
        let seed = self.secret(
            place,
            field,
            &belongs,
            clear,
            device.sealed_base32_string_seed.as_deref(),
            master_key,
        )?;
        let seed =
            normal_seed(seed.expose()).map_err(|rule| fault(format!("{place}: {field}"), rule))?;
        let seed = Secret::new(seed.to_string());
        let digits = device.digits.unwrap_or(6);
        let digits = u8::try_from(digits).ok().filter(|d| [6, 7, 8].contains(d));
        let digits =
            digits.ok_or_else(|| fault(format!("{place}: Digits"), "must be 6, 7 or 8"))?;
        let algorithm = match device.algorithm.as_deref() {
            None | Some("SHA1") => totp_rs::Algorithm::SHA1,
            Some("SHA256") => totp_rs::Algorithm::SHA256,
            Some("SHA512") => totp_rs::Algorithm::SHA512,
            Some(_) => {
                return Err(fault(
                    format!("{place}: Algorithm"),
                    "must be `SHA1`, `SHA256` or `SHA512`",
                ));
            }
        };
        let compiled = MfaDevice {
            serial_number,
            user_arn: Some(device.user_arn.as_str())
                .filter(|arn| !arn.is_empty())
                .map(Into::into),
            seed,
            digits,
            algorithm,
            made_at: device
                .create_date
                .as_deref()
                .and_then(|d| d.parse().ok())
                .map_or(0, jiff::Timestamp::as_second),
            enable_date: device.enable_date.as_deref().map(Into::into),
            tags: tags(place, &device.tags)?,
        };
        if compiled.totp().is_none() {
            return Err(fault(
                format!("{place}: {field}"),
                "is no seed that codes can be made of",
            ));
        }
        self.mfa_devices.put(compiled);
        Ok(())
    }

    fn put_oidc_provider(
        &mut self,
        place: &str,
        provider: &declaration::OidcProvider,
    ) -> Result<(), DirectoryError> {
        let account = provider_account(place, &provider.arn, "oidc-provider")?;
        // AWS's own listing leaves the scheme out.
        let url = match provider.url.split_once("://") {
            Some(_) => provider.url.clone(),
            None => format!("https://{}", provider.url),
        };
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://").filter(|r| is_loopback(r)));
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&b);
        // Claims are condition keys under this name, which must not be that of a service.
        let named =
            |r: &&str| !r.starts_with('/') && r.contains(['.', '/', ':']) && r.bytes().all(legal);
        let Some(rest) = rest.filter(named) else {
            let rule = "must be `https://HOST/PATH` without user, query and fragment (or http:// on this machine), HOST more than one word";
            return Err(fault(format!("{place}: Url"), rule));
        };
        if provider.arn != format!("arn:aws:iam::{account}:oidc-provider/{rest}") {
            return Err(fault(
                format!("{place}: Arn"),
                format!("must be `arn:aws:iam::{account}:oidc-provider/{rest}`"),
            ));
        }
        let keys = provider
            .json_web_key_set
            .as_ref()
            .map(|text| KeySet::parse(text.get().as_bytes()))
            .transpose();
        let keys = keys.map_err(|_| {
            fault(
                format!("{place}: JsonWebKeySet"),
                "must be a JSON Web Key Set",
            )
        })?;
        if keys.as_ref().is_some_and(KeySet::is_empty) {
            return Err(fault(
                format!("{place}: JsonWebKeySet"),
                "must have a key that can be used",
            ));
        }
        self.oidc_providers.put(OidcProvider {
            arn: provider.arn.as_str().into(),
            url: url.into(),
            account,
            client_ids: provider.client_id_list.clone().into(),
            keys,
            ca: provider
                .certificate_authority
                .as_ref()
                .map(|pem| pem.as_bytes().into()),
            one_time: provider.one_time.unwrap_or(false),
        });
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
            (None, Some(sealed), Some(key)) => key
                .open(belongs, sealed)
                .map_err(|e| fault(format!("{place}: Sealed{field}"), e.to_string())),
            (None, Some(_), None) => Err(fault(
                format!("{place}: Sealed{field}"),
                "needs the master key it was sealed with",
            )),
            _ => Err(fault(
                place,
                format!("either {field} or Sealed{field} is required"),
            )),
        }
    }

    fn own(
        &self,
        place: &str,
        account: AccountId,
        inline: &[InlinePolicy],
        attached: &[Attached],
        boundary: Option<&Boundary>,
    ) -> Result<Own, DirectoryError> {
        let mut compiled = Vec::with_capacity(inline.len());
        for policy in inline {
            let place = format!("{place}: inline policy {}", policy.policy_name);
            compiled.push(Arc::new(compile(
                &place,
                PolicyKind::Identity,
                policy.policy_document.as_ref(),
            )?));
        }
        let shared = |field: &str, arn: &str| -> Result<Arc<str>, DirectoryError> {
            if IamArn::parse(arn).is_some_and(|a| a.account != account) {
                return Err(fault(
                    format!("{place}: {field}"),
                    format!("`{arn}` is a policy of another account"),
                ));
            }
            Ok(self
                .managed
                .get(arn)
                .map_or_else(|| arn.into(), |m| m.arn.clone()))
        };
        let managed = attached
            .iter()
            .map(|a| shared("AttachedManagedPolicies", &a.policy_arn));
        let boundary = boundary.map(|b| shared("PermissionsBoundary", &b.permissions_boundary_arn));
        Ok(Own {
            inline: compiled.into(),
            managed: managed.collect::<Result<_, _>>()?,
            boundary: boundary.transpose()?,
        })
    }

    /// Everything that a thing refers to is there.
    fn check_links(&self, place: &str, resource: &Resource) -> Result<(), DirectoryError> {
        for link in resource.links() {
            let id = link.id.as_str();
            let there = match link.kind {
                Kind::Policy => self.managed.get(id).is_some() || is_aws_managed(id),
                Kind::Group => self.groups.get(id).is_some(),
                Kind::User => self.users.get(id).is_some(),
                // By folded name, which is not how roles are kept; the door looks it up in the rows.
                _ => true,
            };
            if !there {
                let hint = if link.kind == Kind::Policy {
                    " in Policies; add its document there"
                } else {
                    ""
                };
                return Err(fault(
                    place,
                    format!("there is no {} `{id}`{hint}", link.kind),
                ));
            }
        }
        Ok(())
    }
}

/// A principal that a trust policy names by ARN although its account is in the store.
struct NamedByArn<'a> {
    role: &'a Arc<Role>,
    principal: &'a str,
    /// Whether somebody has the ARN.
    is_here: bool,
}

/// What is said of somebody who is attached to a policy of AWS's whose document is not here.
pub fn closed_warning(owner: &str, policy_arn: &str) -> String {
    format!(
        "{owner} may do nothing: the document of `{policy_arn}` is not here, and it may deny anything; import the policy (a deprecated one with a document of your own) or detach it"
    )
}

/// What is said of a role that another account's principal may assume without an external id.
pub fn external_id_warning(role: &str, principal: &str) -> String {
    format!(
        "role {role} trusts {principal} of another account without an sts:ExternalId: if that account acts for others, any of them may ask it to assume this role"
    )
}

/// Where a thing comes from.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    /// A file: whatever breaks a rule is refused, and trust policies are bound to the users and roles of the
    /// same file.
    File(&'a principals::Owners),
    /// An import or a command: whatever breaks a rule is refused.
    Declared,
    /// The store. A rule may be younger than the row.
    Stored,
}

/// Nobody whom the author cannot mean is let in, unless a tag of the role says so. The tags that do.
///
/// # Errors
/// The rule, and the tag that overrides it.
fn check_strangers(trust: &Policy, tags: &[Tag]) -> Result<Vec<String>, String> {
    let value = |key: &str| tags.iter().find(|t| t.key == key).map(|t| t.value.as_str());
    let mut overridden = Vec::new();
    if let Some(at) = strangers::public_statement(trust) {
        if value(PUBLIC) != Some("true") {
            return Err(format!(
                "statement {at} lets in everybody: its Principal is `*`, and no condition demands what a stranger does not have; name who is meant, or tag the role `{PUBLIC}` = `true`"
            ));
        }
        overridden.push(format!("{PUBLIC} = true"));
    }
    for issuer in strangers::unbound_issuers(trust) {
        let named = value(UNBOUND_SUBJECT)
            .is_some_and(|issuers| issuers.split(' ').any(|i| i == issuer.issuer));
        if !named {
            let (issuer, name, control) = (issuer.issuer, issuer.name, issuer.control);
            return Err(format!(
                "anybody can get tokens of `{issuer}` ({name}): bind `{control}`, or a claim that names an owner as well, to a value without a wildcard before the owner; or tag the role `{UNBOUND_SUBJECT}` = `{issuer}`"
            ));
        }
        overridden.push(format!("{UNBOUND_SUBJECT} = {}", issuer.issuer));
    }
    Ok(overridden)
}

/// A role that trusts everybody does not thereby trust the tenants of a shared issuer that its account
/// has a provider for: whoever means them names the provider.
///
/// # Errors
/// Names the provider.
pub fn check_everybody(
    place: &str,
    role: &str,
    trust: &Policy,
    providers: &[&str],
) -> Result<(), DirectoryError> {
    let account = |arn: &'_ str| arn.split(':').nth(4).map(str::to_owned);
    let own: Vec<&str> = providers
        .iter()
        .copied()
        .filter(|p| account(p) == account(role))
        .collect();
    match strangers::unbound_by_everybody(trust, &own) {
        None => Ok(()),
        Some(provider) => {
            let rule = format!(
                "Principal `*` would let in whoever has a token of `{provider}`, which anybody can get: name the principals, or the provider with a condition on whose tokens are meant"
            );
            Err(fault(place, rule))
        }
    }
}

/// Nothing at all, whatever else allows it.
fn deny_all(kind: PolicyKind) -> Result<Policy, DirectoryError> {
    let whom = if kind == PolicyKind::Trust {
        r#""Principal":"*""#
    } else {
        r#""Resource":"*""#
    };
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Closed","Effect":"Deny","Action":"*",{whom}}}]}}"#
    );
    Policy::parse(kind, &text).map_err(|e| fault("closed", e.to_string()))
}

/// Reads a directory file's text; shapes only.
///
/// # Errors
/// Line, column and rule.
pub fn parse(text: &[u8]) -> Result<Declaration, DirectoryError> {
    serde_json::from_slice(text).map_err(|e| {
        fault(
            format!("line {}, column {}", e.line(), e.column()),
            json_rule(&e),
        )
    })
}

/// What a declaration declares, each thing after those that it refers to.
///
/// # Errors
/// When it is a part of an export, or a document in it cannot be decoded.
pub fn declared(declaration: Declaration) -> Result<Vec<Resource>, DirectoryError> {
    let part = match &declaration {
        Declaration {
            is_truncated: Some(true),
            ..
        } => Some("IsTruncated"),
        Declaration {
            next_token: Some(_),
            ..
        } => Some("NextToken"),
        _ => None,
    };
    if let Some(field) = part {
        return Err(fault(
            field,
            "the export is one page of several; export it whole (`--max-items` unset)",
        ));
    }
    let resources = declaration
        .into_resources()
        .map_err(|rule| fault("policy document", rule))?;
    let mut counts = HashMap::<&str, usize>::new();
    for resource in &resources {
        let name = resource.name();
        let count = counts.entry(list(name.kind)).or_default();
        if name.id.is_empty() {
            let place = format!("{}[{count}] {}", list(name.kind), label(resource));
            let rule = match name.kind {
                Kind::Account => "AccountId is missing".to_owned(),
                Kind::AccessKey => "AccessKeyId is missing".to_owned(),
                Kind::MfaDevice => "SerialNumber is missing".to_owned(),
                kind => {
                    format!("Arn is missing: must be like `arn:aws:iam::111122223333:{kind}/NAME`")
                }
            };
            return Err(fault(place.trim_end(), rule));
        }
        *count += 1;
    }
    Ok(resources)
}

/// The account of a provider's ARN.
fn provider_account(place: &str, arn: &str, kind: &str) -> Result<AccountId, DirectoryError> {
    let account = arn
        .strip_prefix("arn:aws:iam::")
        .and_then(|r| r.split_once(':'))
        .filter(|(_, r)| {
            r.strip_prefix(kind)
                .and_then(|r| r.strip_prefix('/'))
                .is_some_and(|name| !name.is_empty())
        });
    let account = account.and_then(|(a, _)| AccountId::parse(a));
    account.ok_or_else(|| {
        fault(
            place,
            format!("Arn must be `arn:aws:iam::ACCOUNT:{kind}/NAME`"),
        )
    })
}

/// Whether a URL's authority and path are of this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|a| a.is_loopback())
}

fn check_profile(
    place: &str,
    profile: &declaration::InstanceProfile,
) -> Result<(), DirectoryError> {
    identity_arn(
        place,
        &profile.arn,
        "instance-profile",
        &profile.instance_profile_name,
    )?;
    unique_id(place, &profile.instance_profile_id)?;
    if profile.roles.len() > 1 {
        return Err(fault(place, "Roles must have one member at the most"));
    }
    Ok(())
}

/// The list of a directory file that holds things of this kind.
fn list(kind: Kind) -> &'static str {
    match kind {
        Kind::Account => "Brevet.Accounts",
        Kind::Policy => "Policies",
        Kind::Group => "GroupDetailList",
        Kind::User => "UserDetailList",
        Kind::Role => "RoleDetailList",
        Kind::InstanceProfile => "InstanceProfileList",
        Kind::AccessKey => "Brevet.AccessKeys",
        Kind::MfaDevice => "Brevet.MFADevices",
        Kind::OidcProvider => "OpenIDConnectProviders",
        Kind::SamlProvider => "SAMLProviders",
    }
}

fn label(resource: &Resource) -> &str {
    match resource {
        Resource::Account(a) => &a.account_id,
        Resource::Policy(p) => &p.policy_name,
        Resource::Group(g) => &g.group_name,
        Resource::User(u) => &u.user_name,
        Resource::Role(r) => &r.role_name,
        Resource::InstanceProfile(p) => &p.instance_profile_name,
        Resource::AccessKey(k) => &k.access_key_id,
        Resource::MfaDevice(d) => &d.serial_number,
        Resource::OidcProvider(p) => &p.arn,
        Resource::SamlProvider(p) => &p.arn,
    }
}

/// What a sealed secret is bound to: its kind, its name and its owner.
pub fn sealing_name(kind: &str, name: &str, owner: &str) -> String {
    format!("brevet {kind} v1\n{name}\n{owner}")
}

/// Names and ids that may stand once.
#[derive(Default)]
struct Unique(HashMap<String, String>);

impl Unique {
    /// Names are unique in their account and kind without regard to case; unique ids everywhere.
    fn resource(&mut self, place: &str, resource: &Resource) -> Result<(), DirectoryError> {
        let kind = resource.kind();
        self.put(place, resource.name().to_string(), "the same name")?;
        self.put(
            place,
            format!("{kind}/{}", resource.folded()),
            "the same name (without regard to case)",
        )?;
        match resource.unique_id() {
            Some(id) => self.put(place, format!("id {id}"), "the same unique id"),
            None => Ok(()),
        }
    }

    fn put(&mut self, place: &str, key: String, what: &str) -> Result<(), DirectoryError> {
        match self.0.insert(key, place.to_owned()) {
            None => Ok(()),
            Some(first) => Err(fault(place, format!("has {what} as {first}"))),
        }
    }
}

fn unique_id(place: &str, id: &str) -> Result<(), DirectoryError> {
    if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(fault(
            place,
            "the unique id must be 16 to 128 letters and digits; left out, one is made",
        ));
    }
    Ok(())
}

fn compile(
    place: &str,
    kind: PolicyKind,
    document: Option<&Document>,
) -> Result<Policy, DirectoryError> {
    let document = document.ok_or_else(|| fault(place, "is required"))?;
    let text = document.text().map_err(|rule| fault(place, rule))?;
    Policy::parse(kind, &text).map_err(|e| fault(place, e.to_string()))
}

/// The ARN must be of this kind and end in this name; the account is its own.
fn identity_arn(
    place: &str,
    arn: &str,
    kind: &str,
    name: &str,
) -> Result<AccountId, DirectoryError> {
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
        _ => Err(fault(
            format!("{place}: Arn"),
            format!("must be `arn:aws:iam::ACCOUNT:{kind}/PATH/{name}`"),
        )),
    }
}

fn tags(place: &str, tags: &[declaration::Tag]) -> Result<Box<[Tag]>, DirectoryError> {
    let mut checked: Vec<Tag> = Vec::with_capacity(tags.len());
    for tag in tags {
        // Roles of AWS's own services carry reserved `aws:` tags; an export may hold them.
        let key = tag.key.strip_prefix("aws:").unwrap_or(&tag.key);
        // An earlier version asked for `oidc.eks.*.amazonaws.com` here, which no tag of AWS's can be.
        let value = if tag.key == UNBOUND_SUBJECT {
            tag.value.replace('*', "")
        } else {
            tag.value.clone()
        };
        let legal = names::tag_key("Key", key).and_then(|()| names::tag_value("Value", &value));
        legal.map_err(|e| fault(format!("{place}: Tags"), format!("{} {}", e.field, e.rule)))?;
        if checked.iter().any(|t| t.key.eq_ignore_ascii_case(&tag.key)) {
            return Err(fault(
                format!("{place}: Tags"),
                format!("key `{}` is there twice", tag.key),
            ));
        }
        checked.push(Tag {
            key: tag.key.clone(),
            value: tag.value.clone(),
        });
    }
    Ok(checked.into())
}

/// A TOTP seed as devices and sites print it, which is Base32 (RFC 4648 section 6) in either case, in
/// groups, with hyphens, padded or not; as it is kept: bare, in upper case.
///
/// # Errors
/// What is wrong with it, without a character of it.
pub fn normal_seed(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let text = text.trim_ascii_end().trim_end_matches('=');
    let mut seed = Zeroizing::new(String::with_capacity(text.len()));
    for c in text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '-')
    {
        match c.to_ascii_uppercase() {
            c @ ('A'..='Z' | '2'..='7') => seed.push(c),
            _ => {
                return Err(
                    "must be Base32: the letters A to Z and the digits 2 to 7 (no 0, 1, 8 or 9)",
                );
            }
        }
    }
    match seed.len() {
        // RFC 4226 section 4, R6: at least 128 bits.
        0..26 => Err("must have at least 16 bytes, which are 26 characters of Base32"),
        513.. => Err("must have at most 512 characters"),
        length if [1, 3, 6].contains(&(length % 8)) => {
            Err("is cut off: no Base32 text has so many characters")
        }
        _ => Ok(seed),
    }
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

fn decoy() -> Result<Role, DirectoryError> {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/nobody"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"never"}}}]}"#;
    Ok(Role {
        arn: "arn:aws:iam::000000000000:role/none".into(),
        name: "none".into(),
        id: "AROA0000000000000000".into(),
        account: AccountId::parse("000000000000").ok_or_else(|| fault("decoy", "account"))?,
        trust: Policy::parse(PolicyKind::Trust, trust)
            .map_err(|e| fault("decoy", e.to_string()))?,
        own: Own::default(),
        tags: Box::default(),
        max_session: durations::ROLE_DEFAULT,
        overridden: Box::default(),
        closed: None,
    })
}

fn place(list: &str, index: usize, name: &str) -> String {
    let name: String = name
        .chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect();
    format!("{list}[{index}] {name}")
}

fn json_rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ")
        .map_or(text.clone(), |cut| text.chars().take(cut).collect())
}

fn fault(place: impl Into<String>, rule: impl Into<String>) -> DirectoryError {
    DirectoryError {
        place: place.into(),
        rule: rule.into(),
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Directory({} users, {} roles, {} keys)",
            self.users.len(),
            self.roles.len(),
            self.keys.len()
        )
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
        let user = directory.user(&key.user_arn).unwrap();
        assert_eq!(
            (
                directory.effective_of_user(user).unwrap().identity.len(),
                key.active
            ),
            (1, true)
        );
        assert_eq!(
            directory
                .role("arn:aws:iam::111122223333:role/R")
                .unwrap()
                .max_session,
            Duration::from_secs(3_600)
        );
    }

    #[test]
    fn policies_of_aws_itself_may_be_longer() {
        let long: Vec<String> = (0..2_000)
            .map(|n| format!("service{n}:Describe*"))
            .collect();
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
    fn policies_of_aws_itself_have_a_mebibyte_and_customers_have_their_quota() {
        let actions = |n: usize| -> Vec<String> {
            (0..n)
                .map(|n| format!("service{n}:DescribeSomethingOrOther"))
                .collect()
        };
        let compiled = |arn: &str, text: String| {
            let document: serde_json::Value = text.into();
            let mut export = minimal();
            export["Policies"].as_array_mut().unwrap().push(json!({"PolicyName": "Long", "Arn": arn,
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": document}]}));
            compile(&export).map(|_| ()).map_err(|e| e.to_string())
        };
        let (aws, own) = (
            "arn:aws:iam::aws:policy/Long",
            "arn:aws:iam::111122223333:policy/Long",
        );
        let policy =
            |n| json!({"Statement": {"Effect": "Allow", "Action": actions(n), "Resource": "*"}});
        // As the CLI indents it, and with white space up to the limit: that is not counted.
        assert_eq!(
            compiled(aws, serde_json::to_string_pretty(&policy(4_000)).unwrap()),
            Ok(())
        );
        let spaced = |text: String, length: usize| {
            text.replacen('{', &format!("{{{}", " ".repeat(length - text.len())), 1)
        };
        assert_eq!(
            compiled(aws, spaced(policy(20_000).to_string(), 1 << 20)),
            Ok(())
        );
        assert_eq!(
            compiled(own, spaced(policy(200).to_string(), 1 << 20)),
            Ok(())
        );
        let error = compiled(aws, spaced(policy(4_000).to_string(), (1 << 20) + 1)).unwrap_err();
        assert!(
            error.contains("1048576 bytes, white space included"),
            "{error}"
        );
        let error = compiled(own, policy(1_000).to_string()).unwrap_err();
        assert!(
            error.contains("10240 characters, white space not counted"),
            "{error}"
        );
        // Many statements on one line: the place of each is told without counting from the beginning.
        let statement = json!({"Effect": "Deny", "Action": "a:b", "Resource": "*"});
        let many = json!({"Statement": vec![statement; 20_000]}).to_string();
        let started = std::time::Instant::now();
        assert_eq!(compiled(aws, many), Ok(()));
        assert!(
            started.elapsed() < std::time::Duration::from_secs(20),
            "{:?}",
            started.elapsed()
        );
    }

    #[test]
    fn whoever_has_a_policy_that_is_not_here_may_do_nothing() {
        let missing = json!([{"PolicyName": "AWSConfigRole", "PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSConfigRole"}]);
        let boundary = json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": "arn:aws:iam::aws:policy/Gone"});
        let allow = json!([{"PolicyName": "all", "PolicyDocument": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}}]);
        let may = |effective: &Effective| {
            use crate::evaluator::{Context, Outcome, Policies, Principal, Request, evaluate};
            let context = Context::new();
            let request = Request {
                principal: Principal::User {
                    account: "111122223333",
                    arn: "arn:aws:iam::111122223333:user/alice",
                    id: None,
                },
                action: "s3:GetObject",
                resource: "arn:aws:s3:::b/k",
                resource_account: "111122223333",
                context: &context,
            };
            let identity: Vec<&Policy> = effective.identity.iter().map(Arc::as_ref).collect();
            let policies = Policies {
                identity: &identity,
                boundary: effective.boundary.as_deref(),
                ..Policies::default()
            };
            evaluate(&request, &policies).outcome != Outcome::ExplicitlyDenied
        };
        for (pointer, value, user_may, role_may) in [
            ("/Marker", json!("nothing is changed"), true, true),
            (
                "/UserDetailList/0/AttachedManagedPolicies",
                missing.clone(),
                false,
                true,
            ),
            (
                "/UserDetailList/0/PermissionsBoundary",
                boundary.clone(),
                false,
                true,
            ),
            (
                "/GroupDetailList/0/AttachedManagedPolicies",
                missing.clone(),
                false,
                true,
            ),
            (
                "/RoleDetailList/0/AttachedManagedPolicies",
                missing,
                true,
                false,
            ),
            (
                "/RoleDetailList/0/PermissionsBoundary",
                boundary,
                true,
                false,
            ),
        ] {
            let mut export = minimal();
            export["UserDetailList"][0]["UserPolicyList"] = allow.clone();
            export["RoleDetailList"][0]["RolePolicyList"] = allow.clone();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            export.pointer_mut(parent).unwrap()[field] = value;
            let directory = compile(&export).unwrap();
            let user = directory.users().next().unwrap();
            let role = directory.roles().next().unwrap();
            assert_eq!(
                may(&directory.effective_of_user(user).unwrap()),
                user_may,
                "user: {pointer}"
            );
            assert_eq!(
                may(&directory.effective_of_role(role).unwrap()),
                role_may,
                "role: {pointer}"
            );
            let warnings = directory.warnings();
            assert_eq!(
                warnings.len(),
                usize::from(!(user_may && role_may)),
                "{pointer}: {warnings:?}"
            );
            assert!(warnings.iter().all(|w| w.contains("arn:aws:iam::aws:policy/") && w.contains("may do nothing")));
        }
    }

    #[test]
    fn a_seed_is_taken_in_each_way_in_which_it_is_printed() {
        let bare = "AEBAGBAFAYDQQCIKBMGA2DQPCAIREEYUCULBOGA2";
        let groups = |by: char| {
            let groups: Vec<&str> = (0..bare.len())
                .step_by(4)
                .map(|at| &bare[at..at + 4])
                .collect();
            groups.join(&by.to_string())
        };
        for text in [
            bare.to_owned(),
            bare.to_ascii_lowercase(),
            groups(' '),
            groups('-').to_ascii_lowercase(),
            format!("{bare}====\n"),
            format!(" {bare}"),
        ] {
            assert_eq!(
                normal_seed(&text).as_deref().map(String::as_str),
                Ok(bare),
                "{text}"
            );
        }
        for (text, why) in [
            ("0189".repeat(8), "Base32"),
            (format!("{}=A", bare), "Base32"),
            ("é".repeat(26), "Base32"),
            ("A".repeat(25), "16 bytes"),
            (String::new(), "16 bytes"),
            ("A".repeat(27), "cut off"),
            ("A".repeat(513), "512"),
        ] {
            let rule = normal_seed(&text).unwrap_err();
            assert!(rule.contains(why), "{text}: {rule}");
        }
    }

    #[test]
    fn cf_01_what_is_wrong_is_named() {
        let cases = [
            (
                "/RoleDetailList/0/MaxSessionDuration",
                json!(3_599),
                "MaxSessionDuration",
            ),
            (
                "/RoleDetailList/0/Arn",
                json!("arn:aws:iam::111122223333:role/Other"),
                "Arn",
            ),
            (
                "/RoleDetailList/0/AssumeRolePolicyDocument",
                json!({"Statement": []}),
                "AssumeRolePolicyDocument",
            ),
            ("/UserDetailList/0/GroupList/0", json!("nobody"), "nobody"),
            (
                "/GroupDetailList/0/AttachedManagedPolicies/0/PolicyArn",
                json!("arn:aws:iam::111122223333:policy/Missing"),
                "Missing",
            ),
            (
                "/Brevet/AccessKeys/0/UserArn",
                json!("arn:aws:iam::111122223333:user/bob"),
                "bob",
            ),
            (
                "/Brevet/AccessKeys/0/SecretAccessKey",
                json!("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                "example",
            ),
            (
                "/Brevet/AccessKeys/0/SecretAccessKey",
                json!(""),
                "16 to 128",
            ),
            ("/Brevet/AccessKeys/0/Status", json!("On"), "Status"),
            ("/UserDetailList/0/Surprise", json!(1), "Surprise"),
            ("/IsTruncated", json!(true), "IsTruncated"),
            (
                "/NextToken",
                json!("eyJNYXJrZXIiOiBudWxs"),
                "one page of several",
            ),
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
        let twice =
            minimal()
                .to_string()
                .replacen("\"UserName\"", "\"UserName\":\"x\",\"UserName\"", 1);
        assert!(
            Directory::compile(twice.as_bytes(), None)
                .unwrap_err()
                .to_string()
                .contains("duplicate")
        );
    }
}
