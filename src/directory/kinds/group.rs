//! Groups of users. A group is not a principal: it only passes its policies on to its members.

use std::sync::Arc;

use crate::base::arn::{AccountId, account_of};
use crate::base::entropy::NoEntropy;
use crate::directory::compile::identity_arn;
use crate::directory::declared::{Declared, Defaults, Insertion, PolicyOf, keep, keep_id};
use crate::directory::limits::{GROUP_POLICY_SIZE, Limits, POLICIES_PER_GROUP};
use crate::directory::name::{Name, folded, folded_arn};
use crate::directory::policies::{EntityPolicies, inline_policies, links};
use crate::directory::remains::Remains;
use crate::directory::shape::{Attached, Document, InlinePolicy, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError};

shape! {
    /// A group in the form of AWS's export.
    GroupDetail {
        path: Option<String>,
        group_name: String,
        group_id: String,
        arn: String,
        create_date: Option<String>,
        group_policy_list: Vec<InlinePolicy>,
        attached_managed_policies: Vec<Attached>,
    }
}

/// A group in a snapshot, with its policies compiled. Users refer to it by its folded name.
#[derive(Debug)]
pub struct Group {
    /// The ARN, `arn:aws:iam::ACCOUNT:group/PATH/NAME`.
    pub arn: Box<str>,
    pub account: AccountId,
    /// `ACCOUNT/name` in lower case, by which users refer to the group.
    pub(in crate::parts::directory) folded: Arc<str>,
    pub(in crate::parts::directory) policies: EntityPolicies,
}

impl Keyed for Group {
    fn key(&self) -> &str {
        &self.folded
    }
}

impl Declared for GroupDetail {
    fn id(&self) -> &str {
        &self.arn
    }

    fn label(&self) -> &str {
        &self.group_name
    }

    fn folded(&self) -> String {
        folded(account_of(&self.arn), &self.group_name)
    }

    fn unique_id(&self) -> Option<&str> {
        Some(&self.group_id)
    }

    fn links(&self) -> Vec<Name> {
        links(&self.attached_managed_policies, None)
    }

    fn policies(&self) -> Vec<PolicyOf<'_>> {
        inline_policies(&self.group_policy_list)
    }

    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        let policies = self.group_policy_list.iter_mut();
        policies.map(|policy| &mut policy.policy_document).collect()
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.unique_id("AGPA", account_of(&self.arn), &mut self.group_id)?;
        defaults.date(&mut self.create_date);
        defaults.path(&mut self.path, &self.arn);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep_id(&mut self.group_id, &old.group_id);
        keep(&mut self.create_date, &old.create_date);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        let name = (self.group_name.as_str(), 128);
        limits.named("group", &self.arn, self.path.as_deref(), name);
        limits.attached(
            "PoliciesPerGroup",
            &self.attached_managed_policies,
            POLICIES_PER_GROUP,
        );
        limits.inline(
            "GroupPolicySize",
            &self.group_policy_list,
            GROUP_POLICY_SIZE,
        );
    }

    fn must_go_first(&self) -> Option<Remains> {
        let (inline, attached) = (&self.group_policy_list, &self.attached_managed_policies);
        Remains::policies(!inline.is_empty(), !attached.is_empty())
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let account = identity_arn(how.place, &self.arn, "group", &self.group_name)?;
        let policies = directory.entity_policies(
            how.place,
            account,
            &self.group_policy_list,
            &self.attached_managed_policies,
            None,
        )?;
        directory.groups.put(Group {
            arn: self.arn.as_str().into(),
            account,
            folded: folded(account.as_str(), &self.group_name).into(),
            policies,
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        if let Some(folded) = folded_arn(id) {
            directory.groups.remove(&folded);
        }
    }

    fn is_in(directory: &Directory, id: &str) -> bool {
        directory.groups.get(id).is_some()
    }
}
