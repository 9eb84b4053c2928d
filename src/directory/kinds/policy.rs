//! Managed policies. Only the default version is compiled; the others are kept for the store and
//! exports.

use std::sync::Arc;

use crate::base::arn::account_of;
use crate::base::entropy::NoEntropy;
use crate::base::names;
use crate::directory::compile::{compile, identity_arn, tags};
use crate::directory::declared::{Declared, Defaults, Insertion, PolicyOf, keep};
use crate::directory::limits::{Limits, POLICY_SIZE, VERSIONS_PER_POLICY};
use crate::directory::name::folded;
use crate::directory::policies::is_aws_managed;
use crate::directory::remains::Remains;
use crate::directory::shape::{Document, Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::evaluator::{Policy, PolicyKind};

shape! {
    /// A managed policy in the form of AWS's export.
    ManagedPolicyDetail {
        policy_name: String,
        policy_id: Option<String>,
        arn: String,
        path: Option<String>,
        description: Option<String>,
        default_version_id: Option<String>,
        attachment_count: Option<i64>,
        permissions_boundary_usage_count: Option<i64>,
        is_attachable: Option<bool>,
        create_date: Option<String>,
        update_date: Option<String>,
        policy_version_list: Vec<PolicyVersion>,
        /// A field of Brevet: the id of the version with the highest number, if that version was deleted. It keeps the
        /// number from being used again.
        highest_version_id: Option<String>,
        /// The tags; `None` leaves them as they are, since AWS's export does not contain them.
        tags: Option<Vec<Tag>>,
    }
}

shape! {
    /// A version of a managed policy, of which exactly one is the default.
    PolicyVersion {
        document: Option<Document>,
        version_id: String,
        is_default_version: bool,
        create_date: Option<String>,
    }
}

impl ManagedPolicyDetail {
    /// The id of the default version. `DefaultVersionId` takes precedence over the flag of a version. `None` if neither
    /// names one.
    pub fn default_version(&self) -> Option<&str> {
        let flagged = || {
            self.policy_version_list
                .iter()
                .find(|v| v.is_default_version)
        };
        self.default_version_id
            .as_deref()
            .or_else(|| Some(flagged()?.version_id.as_str()))
    }

    /// The highest number that any version of the policy has ever had.
    pub fn highest_version(&self) -> u32 {
        let versions = self
            .policy_version_list
            .iter()
            .map(|v| v.version_id.as_str());
        let ids = versions.chain(self.highest_version_id.as_deref());
        ids.map(version_number).max().unwrap_or_default()
    }

    /// Records that a version had the number `highest`, unless the policy has a version with that number or a higher
    /// one.
    pub fn keep_highest_version(&mut self, highest: u32) {
        if highest > self.highest_version() {
            self.highest_version_id = Some(format!("v{highest}"));
        }
    }
}

/// The number of a version, 3 for `v3`; 0 if the id has none.
pub fn version_number(id: &str) -> u32 {
    let digits = id.strip_prefix('v').and_then(|n| n.split('.').next());
    digits.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// A managed policy in a snapshot, with its default version compiled.
#[derive(Debug)]
pub struct ManagedPolicy {
    /// The ARN, `arn:aws:iam::ACCOUNT:policy/PATH/NAME`; the account of AWS's own policies is `aws`.
    pub arn: Arc<str>,
    pub policy: Arc<Policy>,
    /// How many versions the policy has, including those that are not compiled.
    pub versions: usize,
    pub tags: Box<[names::Tag]>,
}

impl Keyed for ManagedPolicy {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl Declared for ManagedPolicyDetail {
    fn id(&self) -> &str {
        &self.arn
    }

    fn label(&self) -> &str {
        &self.policy_name
    }

    fn folded(&self) -> String {
        folded(account_of(&self.arn), &self.policy_name)
    }

    fn unique_id(&self) -> Option<&str> {
        self.policy_id.as_deref()
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(self.tags.get_or_insert_default())
    }

    fn policies(&self) -> Vec<PolicyOf<'_>> {
        let versions = self.policy_version_list.iter();
        let versions = versions.map(|version| PolicyOf {
            kind: PolicyKind::Identity,
            place: format!("version {}", version.version_id),
            document: version.document.as_ref(),
        });
        versions.collect()
    }

    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        let versions = self.policy_version_list.iter_mut();
        versions.map(|version| &mut version.document).collect()
    }

    fn drop_what_is_observed(&mut self) {
        self.attachment_count = None;
        self.permissions_boundary_usage_count = None;
        // If both fields name a default version, the id is used.
        if self.default_version_id.is_none() {
            self.default_version_id = self.default_version().map(str::to_owned);
        }
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        self.tags.take_if(|tags| tags.is_empty());
        let id = self.policy_id.get_or_insert_default();
        defaults.unique_id("ANPA", account_of(&self.arn), id)?;
        defaults.date(&mut self.create_date);
        defaults.path(&mut self.path, &self.arn);
        Ok(())
    }

    /// Keeps the values that the declaration leaves out, such as the tags, which AWS's `ManagedPolicyDetail` does not
    /// have, and the highest number of a version.
    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.policy_id, &old.policy_id);
        keep(&mut self.create_date, &old.create_date);
        keep(&mut self.tags, &old.tags);
        self.keep_highest_version(old.highest_version());
    }

    fn check(&self, limits: &mut Limits<'_>) {
        let versions = self.policy_version_list.iter();
        // AWS managed policies are not bound to the naming rules and quotas of customers.
        if !is_aws_managed(&self.arn) {
            let name = (self.policy_name.as_str(), 128);
            limits.named("policy", &self.arn, self.path.as_deref(), name);
            limits.description(self.description.as_deref());
            limits.quota("VersionsPerPolicy", versions.len(), VERSIONS_PER_POLICY);
            for version in versions.clone() {
                limits.document("PolicySize", version.document.as_ref(), POLICY_SIZE);
            }
        }
        limits.each_once("PolicyVersionList", versions.map(|v| v.version_id.as_str()));
        limits.tags("TagsPerPolicy", self.tags.as_deref().unwrap_or_default());
    }

    fn must_go_first(&self) -> Option<Remains> {
        (self.policy_version_list.len() > 1).then_some(Remains::Versions)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let aws_managed = is_aws_managed(&self.arn);
        if !aws_managed {
            identity_arn(place, &self.arn, "policy", &self.policy_name)?;
        }
        let is_default = |version: &&PolicyVersion| match &self.default_version_id {
            Some(id) => version.version_id == *id,
            None => version.is_default_version,
        };
        let mut versions = self.policy_version_list.iter().filter(is_default);
        let (Some(version), None) = (versions.next(), versions.next()) else {
            return Err(fault(
                format!("{place}: PolicyVersionList"),
                "exactly one version must be the default version: the one that DefaultVersionId names or, without \
                 DefaultVersionId, the one that IsDefaultVersion marks",
            ));
        };
        let kind = if aws_managed {
            PolicyKind::AwsManaged
        } else {
            PolicyKind::Identity
        };
        let tags = tags(place, self.tags.as_deref().unwrap_or_default())?;
        let place = format!("{place}: {}: Document", version.version_id);
        let compiled = compile(&place, kind, version.document.as_ref())?;
        directory.managed.put(ManagedPolicy {
            tags,
            arn: self.arn.as_str().into(),
            policy: Arc::new(compiled),
            versions: self.policy_version_list.len(),
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.managed.remove(id);
    }

    /// Whether the policy exists. An AWS managed policy may be missing, and then denies everything.
    fn is_in(directory: &Directory, id: &str) -> bool {
        directory.managed.get(id).is_some() || is_aws_managed(id)
    }
}
