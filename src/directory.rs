//! Accounts, users, groups, roles and policies as one immutable compiled snapshot. A change builds
//! a new snapshot that shares everything unchanged, and swaps it in; each request sees one
//! snapshot. This module knows no SQL: it makes no difference whether the snapshot was read from a
//! file or from the store's rows.
//!
//! `kinds/` has one file for each kind of resource; `registry.rs` lists them.

mod administrator;
mod aws_managed;
mod compile;
pub mod declaration;
mod declared;
mod kinds;
pub mod limits;
mod load;
mod name;
pub mod owners;
mod policies;
pub mod principals;
mod registry;
mod remains;
pub mod resource;
mod secret_field;
mod secrets;
mod shape;
mod strangers;
mod table;
mod trusting;
pub mod unique_id;
pub mod unique_ids;
mod unsupported;
mod warnings;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::base::arn::AccountId;
use crate::evaluator::{AllowedPrincipal, Policy, PolicyKind};
use crate::master_key::MasterKey;
use crate::password::hash::Cost;
use crate::password::policy::PasswordPolicy;
use compile::deny_all;
use declaration::Declaration;
use declared::{Insertion, Source};
use policies::Uses;
use resource::{Name, Resource, ResourceKind};
use table::{Names, Table};
use trusting::Trusting;

pub use administrator::Administrator;
pub use aws_managed::{built_in_after, built_in_detail, is_built_in};
pub use declared::Defaults;
#[cfg(any(test, feature = "internals"))]
pub use kinds::normal_seed;
pub use kinds::{
    AccessKey, AccountSettings, Association, BucketPolicy, Certificate, Group, LoginProfile,
    ManagedPolicy, MfaDevice, OidcProvider, Profile, Role, SamlProvider, SignInClient, User,
    is_account_alias, is_issuer, version_number,
};
pub use kinds::{ControlPolicy, Levels, Member, Organization};
pub use limits::{ACCESS_KEYS_PER_USER, BrokenRule, Limits, MFA_DEVICES_PER_USER};
pub use load::{MAX_BYTES, declared, parse};
pub use policies::{Dangling, Effective, is_aws_managed};
pub use remains::Remains;
pub use secret_field::{SECRET_FIELDS, SecretText};
#[cfg(any(test, feature = "internals"))]
pub use secret_field::{SecretField, sealing_name};
pub use strangers::check_everybody;
#[cfg(any(test, feature = "internals"))]
pub use strangers::{PUBLIC, UNBOUND_SUBJECT};
pub use warnings::{closed_warning, external_id_warning, naming_policy};

/// Why a directory was refused: the place in it, and the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("directory: {place}: {rule}")]
pub struct DirectoryError {
    /// The place, such as `RoleDetailList[3] Deploy: AssumeRolePolicyDocument`.
    pub place: String,
    pub rule: String,
}

fn fault(place: impl Into<String>, rule: impl Into<String>) -> DirectoryError {
    DirectoryError {
        place: place.into(),
        rule: rule.into(),
    }
}

/// The compiled snapshot. Cloning is cheap, because a clone shares everything.
#[derive(Clone)]
pub struct Directory {
    users: Table<User>,
    user_names: Names<User>,
    groups: Table<Group>,
    roles: Table<Role>,
    role_names: Names<Role>,
    trusting: Trusting,
    instance_profiles: Table<Profile>,
    keys: Table<AccessKey>,
    certificates: Table<Certificate>,
    managed: Table<ManagedPolicy>,
    mfa_devices: Table<MfaDevice>,
    login_profiles: Table<LoginProfile>,
    /// How many login profiles have a hash of each cost, for [`Directory::password_costs`].
    password_costs: Arc<BTreeMap<Cost, usize>>,
    oidc_providers: Table<OidcProvider>,
    saml_providers: Table<SamlProvider>,
    associations: Table<Association>,
    bucket_policies: Table<BucketPolicy>,
    organization: Option<Arc<Organization>>,
    decoy: Arc<Role>,
    /// The policy that takes the place of an AWS managed policy whose document the snapshot lacks, and of a session
    /// policy that no longer exists. It denies everything.
    closed: Arc<Policy>,
    /// The policy that users get if the account's password policy lets them change their passwords.
    password_change: Arc<Policy>,
    clear_secrets: usize,
    /// The accounts in the file or the store, with their settings.
    accounts: Arc<HashMap<AccountId, AccountSettings>>,
    /// The entries of a directory file, as declared but without secrets in clear, by kind and folded
    /// name. `None` if the snapshot was read from the store, whose rows hold the same.
    declared: Option<Arc<Entries>>,
    /// How often each policy is used, counted at the first call of [`Directory::policy_uses`].
    policy_uses: OnceLock<Uses>,
}

/// Entries in their declared form, by kind and folded name.
pub type Entries = BTreeMap<(ResourceKind, String), Resource>;

impl Directory {
    /// Creates an empty snapshot.
    ///
    /// # Errors
    /// [`DirectoryError`] if the built-in role that trusts nobody does not compile, which cannot
    /// happen.
    pub fn empty() -> Result<Self, DirectoryError> {
        Ok(Self {
            users: Table::default(),
            user_names: Names::default(),
            groups: Table::default(),
            roles: Table::default(),
            role_names: Names::default(),
            trusting: Trusting::default(),
            instance_profiles: Table::default(),
            keys: Table::default(),
            certificates: Table::default(),
            managed: Table::default(),
            mfa_devices: Table::default(),
            login_profiles: Table::default(),
            password_costs: Arc::default(),
            oidc_providers: Table::default(),
            saml_providers: Table::default(),
            associations: Table::default(),
            bucket_policies: Table::default(),
            organization: None,
            decoy: Arc::new(Role::decoy()?),
            closed: Arc::new(deny_all(PolicyKind::Identity)?),
            password_change: Arc::new(
                Policy::parse(PolicyKind::Identity, policies::PASSWORD_CHANGE)
                    .map_err(|error| fault("password policy", error.to_string()))?,
            ),
            clear_secrets: 0,
            accounts: Arc::default(),
            declared: None,
            policy_uses: OnceLock::new(),
        })
    }

    /// Compiles a new or changed resource and adds it. Everything to which it refers must have been
    /// added before.
    ///
    /// # Errors
    /// The first rule that the resource breaks; the snapshot must then be discarded.
    pub fn insert(
        &mut self,
        resource: &Resource,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        self.insert_from(Source::Declared, resource, master_key)
    }

    /// Adds a resource from the store, which was checked against the rules in force when it was
    /// written. A role whose trust policy allows more than the current rules do trusts nobody, and
    /// [`Directory::warnings`] names it.
    ///
    /// # Errors
    /// The first rule that the resource breaks; the snapshot must then be discarded.
    pub fn insert_stored(
        &mut self,
        resource: &Resource,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        self.insert_from(Source::Stored, resource, master_key)
    }

    fn insert_from(
        &mut self,
        source: Source<'_>,
        resource: &Resource,
        master_key: Option<&MasterKey>,
    ) -> Result<(), DirectoryError> {
        let place = [resource.kind().as_str(), " ", resource.id()].concat();
        let how = Insertion {
            place: &place,
            source,
            master_key,
        };
        self.policy_uses = OnceLock::new();
        resource.insert(self, &how)
    }

    /// Removes the resource with this name, if there is one. Does not check whether other resources refer to it.
    pub fn remove(&mut self, name: &Name) {
        self.policy_uses = OnceLock::new();
        self.remove_of_kind(name.kind, &name.id);
    }

    /// Checks that the snapshot has every resource to which `resource` refers.
    ///
    /// # Errors
    /// [`DirectoryError`] that names the missing resource.
    pub fn refers_to_what_is_there(&self, resource: &Resource) -> Result<(), DirectoryError> {
        self.check_links(&resource.name().to_string(), resource, "")
    }

    /// Checks that the snapshot has every resource to which `resource` refers. `of_policies` continues the error about
    /// a missing policy.
    fn check_links(
        &self,
        place: &str,
        resource: &Resource,
        of_policies: &str,
    ) -> Result<(), DirectoryError> {
        for link in resource.links() {
            if self.has(link.kind, &link.id) {
                continue;
            }
            let hint = if link.kind == ResourceKind::Policy {
                of_policies
            } else {
                ""
            };
            let rule = format!("there is no {} `{}`{hint}", link.kind, link.id);
            return Err(fault(place, rule));
        }
        Ok(())
    }

    /// Looks up a user by its whole ARN, with the path.
    pub fn user(&self, arn: &str) -> Option<&Arc<User>> {
        self.users.get(arn)
    }

    /// The user with this name in an account, ignoring paths and the case of letters.
    pub fn user_named(&self, account: AccountId, name: &str) -> Option<&Arc<User>> {
        self.user_names.get(account, name)
    }

    /// The users with this name, ignoring paths and the case of letters, at most one in each account.
    pub fn users_named(&self, name: &str) -> impl Iterator<Item = &Arc<User>> {
        let accounts = self.accounts.keys();
        accounts.filter_map(move |account| self.user_named(*account, name))
    }

    /// Looks up a role by its whole ARN, with the path.
    pub fn role(&self, arn: &str) -> Option<&Arc<Role>> {
        self.roles.get(arn)
    }

    /// The role with this name in an account, ignoring paths and the case of letters.
    pub fn role_named(&self, account: AccountId, name: &str) -> Option<&Arc<Role>> {
        self.role_names.get(account, name)
    }

    /// The accounts with a role whose trust policy can allow one of these principals, ordered by id.
    pub fn accounts_trusting(&self, principals: &[AllowedPrincipal<'_>]) -> Vec<AccountId> {
        self.trusting.accounts(principals)
    }

    /// At most `limit` roles of an account whose trust policies can allow one of these principals, in
    /// the order of their names without regard to case. If the name of a role is given, the list begins
    /// after it.
    pub fn roles_trusting(
        &self,
        principals: &[AllowedPrincipal<'_>],
        account: AccountId,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<Role>> {
        self.trusting.of_account(principals, account, after, limit)
    }

    /// The group with this name in an account, ignoring paths and the case of letters.
    pub fn group_named(&self, account: AccountId, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(&resource::folded(account.as_str(), name))
    }

    /// The instance profile with this name in an account, ignoring paths and the case of letters.
    pub fn instance_profile_named(&self, account: AccountId, name: &str) -> Option<&Arc<Profile>> {
        self.instance_profiles
            .get(&resource::folded(account.as_str(), name))
    }

    /// The managed policy with this ARN: the one in the directory, or a built-in AWS managed policy.
    pub fn managed(&self, arn: &str) -> Option<&Arc<ManagedPolicy>> {
        let own = self.managed.get(arn);
        own.or_else(|| aws_managed::built_in(arn))
    }

    /// Whether the directory itself has the managed policy with this ARN, so that a built-in one of the
    /// same ARN does not count.
    pub fn declares_policy(&self, arn: &str) -> bool {
        self.managed.get(arn).is_some()
    }

    /// The entries of the directory file that this snapshot was read from, without secrets in clear.
    /// `None` if it was read from the store.
    pub fn declared(&self) -> Option<&Arc<Entries>> {
        self.declared.as_ref()
    }

    /// A role that trusts nobody. It is evaluated in place of a role that does not exist, so that
    /// an unknown role and a forbidden one take the same time and give the same answer.
    pub fn decoy(&self) -> &Arc<Role> {
        &self.decoy
    }

    /// Looks up a long-term access key by its id (`AKIA…`). It may be inactive.
    pub fn access_key(&self, id: &str) -> Option<&Arc<AccessKey>> {
        self.keys.get(id)
    }

    /// The user to whom an active long-term access key belongs.
    pub fn holder_of_key(&self, id: &str) -> Option<&Arc<User>> {
        let key = self.access_key(id).filter(|key| key.active)?;
        self.user(&key.user_arn)
    }

    /// The mapping of the client certificate with this SPIFFE ID or subject.
    pub fn certificate(&self, name: &str) -> Option<&Arc<Certificate>> {
        self.certificates.get(name)
    }

    /// All mappings of client certificates, in no particular order.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.values()
    }

    /// The default version of the managed policy with this ARN.
    pub fn managed_policy(&self, arn: &str) -> Option<&Arc<Policy>> {
        self.managed(arn).map(|m| &m.policy)
    }

    /// A policy that denies everything. It takes the place of an AWS managed policy whose document the snapshot lacks,
    /// and of a session policy that no longer exists.
    pub fn closed_policy(&self) -> &Arc<Policy> {
        &self.closed
    }

    /// Looks up an OpenID Connect provider by its ARN, in any account.
    pub fn oidc_provider(&self, arn: &str) -> Option<&Arc<OidcProvider>> {
        self.oidc_providers.get(arn)
    }

    /// All OpenID Connect providers, in no particular order.
    pub fn oidc_providers(&self) -> impl Iterator<Item = &Arc<OidcProvider>> {
        self.oidc_providers.values()
    }

    /// An OpenID Connect provider, of any account, whose tokens have this issuer.
    pub fn provider_of(&self, issuer: &str) -> Option<&Arc<OidcProvider>> {
        self.oidc_providers
            .values()
            .find(|provider| is_issuer(&provider.url, issuer))
    }

    /// Looks up a SAML provider by its ARN, in any account.
    pub fn saml_provider(&self, arn: &str) -> Option<&Arc<SamlProvider>> {
        self.saml_providers.get(arn)
    }

    /// All SAML providers, in no particular order.
    pub fn saml_providers(&self) -> impl Iterator<Item = &Arc<SamlProvider>> {
        self.saml_providers.values()
    }

    /// Looks up the association that gives a role to the pods with this service account.
    pub fn pod_association(
        &self,
        account: AccountId,
        cluster: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<Association>> {
        let arn = kinds::of_pods(account.as_str(), cluster, namespace, service_account);
        self.associations.get(&arn)
    }

    /// Looks up the association that gives a role to the tasks of this family.
    pub fn task_association(
        &self,
        account: AccountId,
        cluster: &str,
        family: &str,
    ) -> Option<&Arc<Association>> {
        let arn = kinds::of_tasks(account.as_str(), cluster, family);
        self.associations.get(&arn)
    }

    /// The policy of a bucket, whichever account declares it.
    pub fn bucket_policy(&self, bucket: &str) -> Option<&Arc<BucketPolicy>> {
        self.bucket_policies.get(bucket)
    }

    /// All policies of buckets, in no particular order.
    pub fn bucket_policies(&self) -> impl Iterator<Item = &Arc<BucketPolicy>> {
        self.bucket_policies.values()
    }

    /// The organization to which accounts belong, if one is declared.
    pub fn organization(&self) -> Option<&Arc<Organization>> {
        self.organization.as_ref()
    }

    /// Where an account is in the organization; `None` if there is no organization, or the account does
    /// not belong to it.
    pub fn member(&self, account: AccountId) -> Option<&Member> {
        self.organization.as_ref()?.member(account)
    }

    /// All users, in no particular order.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// All roles, in no particular order.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    /// All groups, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// All instance profiles, in no particular order.
    pub fn instance_profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.instance_profiles.values()
    }

    /// All managed policies of the directory, in no particular order.
    pub fn managed_policies(&self) -> impl Iterator<Item = &Arc<ManagedPolicy>> {
        self.managed.values()
    }

    /// All long-term access keys, in no particular order.
    pub fn access_keys(&self) -> impl Iterator<Item = &Arc<AccessKey>> {
        self.keys.values()
    }

    /// Looks up an MFA device by its serial number, which is an ARN for virtual devices.
    pub fn mfa_device(&self, serial_number: &str) -> Option<&Arc<MfaDevice>> {
        self.mfa_devices.get(serial_number)
    }

    /// All MFA devices, in no particular order.
    pub fn mfa_devices(&self) -> impl Iterator<Item = &Arc<MfaDevice>> {
        self.mfa_devices.values()
    }

    /// The login profile of the user with this ARN; `None` if the user has no password.
    pub fn login_profile(&self, user_arn: &str) -> Option<&Arc<LoginProfile>> {
        self.login_profiles.get(user_arn)
    }

    /// The settings of an account; `None` if the directory does not have the account.
    pub fn account_settings(&self, account: AccountId) -> Option<&AccountSettings> {
        self.accounts.get(&account)
    }

    /// Finds the account with this alias. No two accounts have the same.
    pub fn account_with_alias(&self, alias: &str) -> Option<AccountId> {
        let mut all = self.accounts.iter();
        all.find(|(_, settings)| settings.alias.as_deref() == Some(alias))
            .map(|(account, _)| *account)
    }

    /// The password policy of an account, or AWS's default if it has none.
    pub fn password_policy(&self, account: AccountId) -> &PasswordPolicy {
        let own = self.account_settings(account);
        own.and_then(|settings| settings.password_policy.as_ref())
            .unwrap_or(&PasswordPolicy::DEFAULT)
    }

    /// The numbers of users, roles and access keys, in this order.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.users.len(), self.roles.len(), self.keys.len())
    }

    /// The number of secrets that the file contained in clear.
    pub fn clear_secrets(&self) -> usize {
        self.clear_secrets
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
mod tests;
