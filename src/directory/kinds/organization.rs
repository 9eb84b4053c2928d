//! The organization of AWS Organizations to which accounts belong: its root and units, the accounts
//! in them, and the service and resource control policies that are attached to them.
//!
//! The whole organization is one resource, so that a change of its tree and of what is attached to it
//! takes effect at once or not at all. A directory has at most one.

// The fields of the declared form are AWS's and are documented there.
#![allow(missing_docs)]

mod control;
mod rules;

use std::sync::Arc;

use crate::base::entropy::NoEntropy;
use crate::directory::declared::{Declared, Defaults, Insertion, PolicyOf};
use crate::directory::limits::Limits;
use crate::directory::shape::{Document, Ignored, shape};
use crate::directory::{Directory, DirectoryError};
use crate::evaluator::PolicyKind;

pub use control::{ControlPolicy, Levels, Member, Organization};

/// The type of a policy that limits what the principals of member accounts may do.
const SERVICE_CONTROL_POLICY: &str = "SERVICE_CONTROL_POLICY";
/// The type of a policy that limits what may be done with the resources of member accounts.
const RESOURCE_CONTROL_POLICY: &str = "RESOURCE_CONTROL_POLICY";
/// The AWS managed policy that allows everything, which is attached everywhere by default.
const FULL_AWS_ACCESS: &str = "p-FullAWSAccess";
/// The AWS managed resource control policy that allows everything. It cannot be detached, so it is
/// implied and has no effect.
const RCP_FULL_AWS_ACCESS: &str = "p-RCPFullAWSAccess";
/// A document that allows everything.
const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

shape! {
    /// An organization: the `Organization` of `aws organizations describe-organization`, with the
    /// lists that its other commands print.
    OrganizationDetail {
        id: String,
        arn: Option<String>,
        feature_set: Option<String>,
        master_account_arn: Option<String>,
        master_account_id: String,
        master_account_email: Ignored,
        available_policy_types: Ignored,
        roots: Vec<Root>,
        organizational_units: Vec<OrganizationalUnit>,
        accounts: Vec<MemberAccount>,
        policies: Vec<OrganizationPolicy>,
    }
}

shape! {
    /// The root, as `list-roots` prints it.
    Root {
        id: String,
        arn: Option<String>,
        name: Option<String>,
        policy_types: Vec<PolicyTypeSummary>,
    }
}

shape! {
    /// A type of policy, and whether it is enabled in the root.
    PolicyTypeSummary {
        r#type: String,
        status: String,
    }
}

shape! {
    /// An organizational unit, as `list-organizational-units-for-parent` prints it, with the parent
    /// for which it was listed.
    OrganizationalUnit {
        id: String,
        arn: Option<String>,
        name: Option<String>,
        parent_id: String,
        /// The ids from the organization to the unit. It ends in the parent and the unit itself, so
        /// it can replace `ParentId`.
        path: Option<String>,
    }
}

shape! {
    /// An account, as `list-accounts-for-parent` prints it, with the parent for which it was
    /// listed.
    MemberAccount {
        id: String,
        arn: Option<String>,
        name: Option<String>,
        parent_id: String,
        /// A list with one path. It ends in the parent and the account itself, so it can replace
        /// `ParentId`.
        paths: Vec<String>,
        email: Ignored,
        status: Ignored,
        state: Ignored,
        joined_method: Ignored,
        joined_timestamp: Ignored,
    }
}

shape! {
    /// A control policy: the `Policy` of `describe-policy`, with the list of
    /// `list-targets-for-policy`.
    OrganizationPolicy {
        policy_summary: PolicySummary,
        content: Option<Document>,
        targets: Vec<PolicyTarget>,
    }
}

shape! {
    /// The name, the id and the type of a control policy.
    PolicySummary {
        id: String,
        arn: Option<String>,
        name: Option<String>,
        description: Option<String>,
        r#type: String,
        aws_managed: bool,
    }
}

shape! {
    /// The root, unit or account to which a policy is attached.
    PolicyTarget {
        target_id: String,
        arn: Option<String>,
        name: Option<String>,
        r#type: Option<String>,
    }
}

impl OrganizationPolicy {
    /// The kind of the compiled policy; `None` if Brevet does not support the type.
    fn kind(&self) -> Option<PolicyKind> {
        match self.policy_summary.r#type.as_str() {
            SERVICE_CONTROL_POLICY => Some(PolicyKind::ServiceControl),
            RESOURCE_CONTROL_POLICY => Some(PolicyKind::ResourceControl),
            _ => None,
        }
    }

    /// Whether this is the resource control policy that AWS attaches everywhere. It is not compiled, because it allows
    /// everything.
    fn is_implied(&self) -> bool {
        self.policy_summary.id == RCP_FULL_AWS_ACCESS
    }

    /// Names the policy in messages: `policy p-… (NAME)`.
    fn place(&self) -> String {
        let summary = &self.policy_summary;
        match &summary.name {
            Some(name) => format!("policy {} ({name})", summary.id),
            None => format!("policy {}", summary.id),
        }
    }
}

impl OrganizationDetail {
    /// Adds the document of the AWS managed policy that allows everything, if the declaration leaves it out.
    fn fill_in_full_access(&mut self) {
        for policy in &mut self.policies {
            if policy.policy_summary.id == FULL_AWS_ACCESS && policy.content.is_none() {
                policy.content = Document::new(ALLOW_ALL).ok();
            }
        }
    }
}

/// The parent in a path such as `o-…/r-…/ou-…/`, which is the last part but one.
fn parent_in(path: &str) -> Option<&str> {
    path.trim_end_matches('/').rsplit('/').nth(1)
}

impl Declared for OrganizationDetail {
    fn id(&self) -> &str {
        &self.id
    }

    /// The same text for every organization, so that a directory can have only one.
    fn folded(&self) -> String {
        "organization".to_owned()
    }

    /// The id of the organization, in place of an account: an organization belongs to none, because the broker may not
    /// know the management account.
    fn account(&self) -> &str {
        &self.id
    }

    fn pruned_with(&self) -> &str {
        &self.master_account_id
    }

    fn policies(&self) -> Vec<PolicyOf<'_>> {
        let explicit = self.policies.iter().filter(|policy| !policy.is_implied());
        let policies = explicit.filter_map(|policy| {
            Some(PolicyOf {
                kind: policy.kind()?,
                place: policy.place(),
                document: policy.content.as_ref(),
            })
        });
        policies.collect()
    }

    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        let policies = self.policies.iter_mut();
        policies.map(|policy| &mut policy.content).collect()
    }

    /// Drops the paths. A `ParentId` that is left out is taken from the path first. The document of the AWS managed
    /// policy that allows everything is added if it is left out.
    fn drop_what_is_observed(&mut self) {
        self.fill_in_full_access();
        for unit in &mut self.organizational_units {
            let path = unit.path.take();
            if let (true, Some(parent)) = (
                unit.parent_id.is_empty(),
                path.as_deref().and_then(parent_in),
            ) {
                parent.clone_into(&mut unit.parent_id);
            }
        }
        for account in &mut self.accounts {
            let paths = std::mem::take(&mut account.paths);
            if let (true, [path]) = (account.parent_id.is_empty(), paths.as_slice())
                && let Some(parent) = parent_in(path)
            {
                parent.clone_into(&mut account.parent_id);
            }
        }
    }

    fn fill(&mut self, _: &Defaults<'_>) -> Result<(), NoEntropy> {
        self.fill_in_full_access();
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, _: &Self) {}

    fn check(&self, limits: &mut Limits<'_>) {
        rules::check(self, limits);
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let compiled = Organization::compile(self, how.place)?;
        directory.organization = Some(Arc::new(compiled));
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory
            .organization
            .take_if(|organization| *organization.id == *id);
    }
}
