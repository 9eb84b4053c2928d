//! Users. Their groups are referenced by name, so that a changed group takes effect at once.

use std::sync::Arc;

use crate::base::arn::{AccountId, account_of};
use crate::base::entropy::NoEntropy;
use crate::base::names;
use crate::directory::compile::{identity_arn, tags, unique_id};
use crate::directory::declared::{Declared, Defaults, Insertion, PolicyOf, keep, keep_id};
use crate::directory::limits::{GROUPS_PER_USER, Limits, POLICIES_PER_USER, USER_POLICY_SIZE};
use crate::directory::name::{Name, ResourceKind, folded};
use crate::directory::policies::{EntityPolicies, inline_policies, links};
use crate::directory::remains::Remains;
use crate::directory::shape::{Attached, Boundary, Document, InlinePolicy, Tag, shape};
use crate::directory::table::{Keyed, Named};
use crate::directory::{Directory, DirectoryError};
use crate::revocations::Selector;

shape! {
    /// A user in the form of AWS's export.
    UserDetail {
        path: Option<String>,
        user_name: String,
        user_id: String,
        arn: String,
        create_date: Option<String>,
        user_policy_list: Vec<InlinePolicy>,
        group_list: Vec<String>,
        attached_managed_policies: Vec<Attached>,
        permissions_boundary: Option<Boundary>,
        tags: Vec<Tag>,
    }
}

/// A user in a snapshot, with its policies compiled.
#[derive(Debug)]
pub struct User {
    /// The ARN, `arn:aws:iam::ACCOUNT:user/PATH/NAME`.
    pub arn: Arc<str>,
    /// The name without its path, which is unique in the account without regard to case.
    pub name: Box<str>,
    /// The unique id, `AIDA…`.
    pub id: Box<str>,
    pub account: AccountId,
    /// The user's own policies and boundary, without the policies of its groups.
    pub(in crate::parts::directory) policies: EntityPolicies,
    /// The user's groups, by folded name.
    pub(in crate::parts::directory) groups: Box<[Arc<str>]>,
    pub tags: Box<[names::Tag]>,
}

impl User {
    /// The ARN of the permissions boundary, if there is one.
    pub fn boundary(&self) -> Option<&str> {
        self.policies.boundary()
    }
}

impl Keyed for User {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl Named for User {
    fn account(&self) -> AccountId {
        self.account
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Declared for UserDetail {
    fn id(&self) -> &str {
        &self.arn
    }

    fn label(&self) -> &str {
        &self.user_name
    }

    fn folded(&self) -> String {
        folded(account_of(&self.arn), &self.user_name)
    }

    fn unique_id(&self) -> Option<&str> {
        Some(&self.user_id)
    }

    fn links(&self) -> Vec<Name> {
        let account = account_of(&self.arn);
        let groups = self.group_list.iter();
        let groups = groups.map(|name| Name::new(ResourceKind::Group, folded(account, name)));
        let boundary = self.permissions_boundary.as_ref();
        let mut all = links(&self.attached_managed_policies, boundary);
        all.extend(groups);
        all
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(&mut self.tags)
    }

    fn policies(&self) -> Vec<PolicyOf<'_>> {
        inline_policies(&self.user_policy_list)
    }

    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        let policies = self.user_policy_list.iter_mut();
        policies.map(|policy| &mut policy.policy_document).collect()
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.unique_id("AIDA", account_of(&self.arn), &mut self.user_id)?;
        defaults.date(&mut self.create_date);
        defaults.path(&mut self.path, &self.arn);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep_id(&mut self.user_id, &old.user_id);
        keep(&mut self.create_date, &old.create_date);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        let name = (self.user_name.as_str(), 64);
        limits.named("user", &self.arn, self.path.as_deref(), name);
        limits.attached(
            "PoliciesPerUser",
            &self.attached_managed_policies,
            POLICIES_PER_USER,
        );
        limits.inline("UserPolicySize", &self.user_policy_list, USER_POLICY_SIZE);
        limits.quota("GroupsPerUser", self.group_list.len(), GROUPS_PER_USER);
        limits.each_once("GroupList", self.group_list.iter().map(String::as_str));
        limits.tags("TagsPerUser", &self.tags);
    }

    fn must_go_first(&self) -> Option<Remains> {
        let (inline, attached) = (&self.user_policy_list, &self.attached_managed_policies);
        let groups = (!self.group_list.is_empty()).then_some(Remains::Groups);
        Remains::policies(!inline.is_empty(), !attached.is_empty()).or(groups)
    }

    fn sessions(&self) -> Option<Selector> {
        Some(Selector::Principal)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let account = identity_arn(place, &self.arn, "user", &self.user_name)?;
        unique_id(place, &self.user_id)?;
        let policies = directory.entity_policies(
            place,
            account,
            &self.user_policy_list,
            &self.attached_managed_policies,
            self.permissions_boundary.as_ref(),
        )?;
        // All users of a group share the allocation of its name.
        let groups = self.group_list.iter().map(|name| {
            let folded = folded(account.as_str(), name);
            let group = directory.groups.get(&folded);
            group.map_or_else(|| folded.as_str().into(), |g| g.folded.clone())
        });
        let compiled = Arc::new(User {
            arn: self.arn.as_str().into(),
            name: self.user_name.as_str().into(),
            id: self.user_id.as_str().into(),
            account,
            policies,
            groups: groups.collect(),
            tags: tags(place, &self.tags)?,
        });
        directory.users.put(compiled.clone());
        directory.user_names.put(compiled);
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        if let Some(user) = directory.users.remove(id) {
            directory.user_names.remove(&user);
        }
    }

    fn is_in(directory: &Directory, id: &str) -> bool {
        directory.users.get(id).is_some()
    }
}
