//! Roles, and the check of whom a trust policy allows.

use std::sync::Arc;
use std::time::Duration;

use super::InstanceProfile;
use crate::base::arn::{AccountId, account_of};
use crate::base::entropy::NoEntropy;
use crate::base::names;
use crate::directory::compile::{compile, deny_all, identity_arn, tags, unique_id};
use crate::directory::declared::{Declared, Defaults, Insertion, PolicyOf, Source, keep, keep_id};
use crate::directory::limits::{
    ASSUME_ROLE_POLICY_SIZE, Limits, POLICIES_PER_ROLE, ROLE_POLICY_SIZE,
};
use crate::directory::name::{Name, folded};
use crate::directory::policies::{EntityPolicies, inline_policies, links};
use crate::directory::remains::Remains;
use crate::directory::shape::{Attached, Boundary, Document, Ignored, InlinePolicy, Tag, shape};
use crate::directory::strangers::overriding_tags;
use crate::directory::table::{Keyed, Named};
use crate::directory::{Directory, DirectoryError, fault};
use crate::evaluator::{Policy, PolicyKind, strangers};
use crate::revocations::Selector;
use crate::session::durations;

shape! {
    /// A role in the form of AWS's export.
    RoleDetail {
        path: Option<String>,
        role_name: String,
        role_id: String,
        arn: String,
        create_date: Option<String>,
        assume_role_policy_document: Option<Document>,
        description: Option<String>,
        instance_profile_list: Vec<InstanceProfile>,
        role_policy_list: Vec<InlinePolicy>,
        attached_managed_policies: Vec<Attached>,
        permissions_boundary: Option<Boundary>,
        tags: Vec<Tag>,
        role_last_used: Ignored,
        /// The maximum duration of a session in seconds, from 3,600 to 129,600; 3,600 by default.
        max_session_duration: Option<i64>,
        max_signin_session_duration: Ignored,
        source_role_template: Ignored,
    }
}

/// A role in a snapshot, with its policies compiled.
#[derive(Debug)]
pub struct Role {
    /// The ARN, `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
    pub arn: Box<str>,
    /// The name without its path, which is unique in the account without regard to case.
    pub name: Box<str>,
    /// The unique id, `AROA…`.
    pub id: Box<str>,
    pub account: AccountId,
    /// The trust policy, which says who may assume the role.
    pub trust: Policy,
    /// The policies and the permissions boundary that apply to the role's sessions.
    pub(in crate::parts::directory) policies: EntityPolicies,
    pub tags: Box<[names::Tag]>,
    /// The maximum session duration, from 1 to 36 hours.
    pub max_session: Duration,
    /// The tags of the role that override a rule about whom its trust policy may allow, such as `brevet:public = true`.
    pub overridden: Box<[String]>,
    /// Why the trust policy is not in force and the role trusts nobody: the policy breaks a rule
    /// that is newer than the stored row.
    pub closed: Option<Box<str>>,
}

impl Role {
    /// Makes the role that trusts nobody; see [`Directory::decoy`].
    pub(in crate::parts::directory) fn decoy() -> Result<Self, DirectoryError> {
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/nobody"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"never"}}}]}"#;
        Ok(Self {
            arn: "arn:aws:iam::000000000000:role/none".into(),
            name: "none".into(),
            id: "AROA0000000000000000".into(),
            account: AccountId::parse("000000000000").ok_or_else(|| fault("decoy", "account"))?,
            trust: Policy::parse(PolicyKind::Trust, trust)
                .map_err(|e| fault("decoy", e.to_string()))?,
            policies: EntityPolicies::default(),
            tags: Box::default(),
            max_session: durations::ROLE_DEFAULT,
            overridden: Box::default(),
            closed: None,
        })
    }
}

impl Role {
    /// The ARN of the permissions boundary, if there is one.
    pub fn boundary(&self) -> Option<&str> {
        self.policies.boundary()
    }
}

impl Keyed for Role {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl Named for Role {
    fn account(&self) -> AccountId {
        self.account
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Declared for RoleDetail {
    fn id(&self) -> &str {
        &self.arn
    }

    fn label(&self) -> &str {
        &self.role_name
    }

    fn folded(&self) -> String {
        folded(account_of(&self.arn), &self.role_name)
    }

    fn unique_id(&self) -> Option<&str> {
        Some(&self.role_id)
    }

    fn links(&self) -> Vec<Name> {
        let boundary = self.permissions_boundary.as_ref();
        links(&self.attached_managed_policies, boundary)
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(&mut self.tags)
    }

    fn policies(&self) -> Vec<PolicyOf<'_>> {
        let mut all = inline_policies(&self.role_policy_list);
        all.push(PolicyOf {
            kind: PolicyKind::Trust,
            place: "AssumeRolePolicyDocument".to_owned(),
            document: self.assume_role_policy_document.as_ref(),
        });
        all
    }

    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        let inline = self.role_policy_list.iter_mut();
        let inline = inline.map(|policy| &mut policy.policy_document);
        std::iter::once(&mut self.assume_role_policy_document)
            .chain(inline)
            .collect()
    }

    fn naming_policy(&self) -> Option<&Document> {
        self.assume_role_policy_document.as_ref()
    }

    fn naming_policy_mut(&mut self) -> Option<&mut Option<Document>> {
        Some(&mut self.assume_role_policy_document)
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.unique_id("AROA", account_of(&self.arn), &mut self.role_id)?;
        defaults.date(&mut self.create_date);
        defaults.path(&mut self.path, &self.arn);
        self.max_session_duration.get_or_insert(3_600);
        Ok(())
    }

    /// Keeps the values that the declaration leaves out, such as the description and the session duration, which AWS's
    /// `RoleDetail` does not have.
    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep_id(&mut self.role_id, &old.role_id);
        keep(&mut self.create_date, &old.create_date);
        keep(&mut self.description, &old.description);
        keep(&mut self.max_session_duration, &old.max_session_duration);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        let name = (self.role_name.as_str(), 64);
        limits.named("role", &self.arn, self.path.as_deref(), name);
        limits.attached(
            "PoliciesPerRole",
            &self.attached_managed_policies,
            POLICIES_PER_ROLE,
        );
        limits.inline("RolePolicySize", &self.role_policy_list, ROLE_POLICY_SIZE);
        let trust = self.assume_role_policy_document.as_ref();
        limits.document("ACLSizePerRole", trust, ASSUME_ROLE_POLICY_SIZE);
        limits.description(self.description.as_deref());
        limits.tags("TagsPerRole", &self.tags);
    }

    fn must_go_first(&self) -> Option<Remains> {
        let (inline, attached) = (&self.role_policy_list, &self.attached_managed_policies);
        Remains::policies(!inline.is_empty(), !attached.is_empty())
    }

    fn sessions(&self) -> Option<Selector> {
        Some(Selector::Role)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let account = identity_arn(place, &self.arn, "role", &self.role_name)?;
        unique_id(place, &self.role_id)?;
        let seconds = self.max_session_duration.unwrap_or(3_600);
        if !(3_600..=129_600).contains(&seconds) {
            let rule = format!("must be from 3600 to 129600 seconds, not {seconds}");
            return Err(fault(format!("{place}: MaxSessionDuration"), rule));
        }
        let document = self.assume_role_policy_document.as_ref();
        let trust_place = format!("{place}: AssumeRolePolicyDocument");
        let trust = compile(&trust_place, PolicyKind::Trust, document)?;
        let tags = tags(place, &self.tags)?;
        let trust = checked(trust, &tags, &trust_place, how.source)?;
        let policies = directory.entity_policies(
            place,
            account,
            &self.role_policy_list,
            &self.attached_managed_policies,
            self.permissions_boundary.as_ref(),
        )?;
        let compiled = Arc::new(Role {
            arn: self.arn.as_str().into(),
            name: self.role_name.as_str().into(),
            id: self.role_id.as_str().into(),
            account,
            trust: trust.policy,
            policies,
            tags,
            max_session: Duration::from_secs(u64::try_from(seconds).unwrap_or(3_600)),
            overridden: trust.overridden.into(),
            closed: trust.closed,
        });
        if let Some(previous) = directory.roles.put(compiled.clone()) {
            directory.trusting.remove(&previous);
        }
        directory.trusting.put(&compiled);
        directory.role_names.put(compiled);
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        if let Some(role) = directory.roles.remove(id) {
            directory.role_names.remove(&role);
            directory.trusting.remove(&role);
        }
    }
}

/// The result of [`checked`]: the trust policy that is in force for a role.
struct Trust {
    policy: Policy,
    /// The tags of the role that switch off a rule about whom its trust policy may allow.
    overridden: Vec<String>,
    /// Why the role trusts nobody, if its own trust policy is not in force.
    closed: Option<Box<str>>,
}

/// Checks whom a trust policy allows. If the role is from the store and its policy allows too many, by a rule that may
/// be newer than the row, the returned policy trusts nobody.
fn checked(
    mut policy: Policy,
    tags: &[names::Tag],
    place: &str,
    source: Source<'_>,
) -> Result<Trust, DirectoryError> {
    let overridden = match overriding_tags(&policy, tags) {
        Ok(overridden) => overridden,
        Err(rule) if !matches!(source, Source::Stored) => return Err(fault(place, rule)),
        Err(rule) => {
            return Ok(Trust {
                policy: deny_all(PolicyKind::Trust)?,
                overridden: Vec::new(),
                closed: Some(rule.into()),
            });
        }
    };
    if let Source::File(owners) = source {
        policy.bind_principals(|principal| owners.bound(principal));
    }
    if !matches!(source, Source::Stored)
        && let Some((domain, instead)) = strangers::built_in_provider(&policy)
    {
        let rule = format!(
            "`{domain}` is built into AWS but not into Brevet; {instead}, and name the ARN of that provider instead"
        );
        return Err(fault(place, rule));
    }
    Ok(Trust {
        policy,
        overridden,
        closed: None,
    })
}
