//! AWS's rules and quotas for a single resource: IAM User Guide, "IAM and AWS STS quotas" and "IAM
//! identifiers"; IAM API Reference, the parameters of each action. For a quota that AWS can raise,
//! the highest value applies. Accounts have no quotas for users, groups, roles or policies.

use std::collections::HashSet;

use super::shape::{Attached, Document, InlinePolicy, Tag};
use crate::base::arn::{AccountId, IamArn, account_of};
use crate::base::names::{MAX_TAGS, is_iam_name};

pub const GROUPS_PER_USER: usize = 10;
/// The maximum number of access keys of a user. AWS does not raise this quota.
pub const ACCESS_KEYS_PER_USER: usize = 2;
/// The maximum number of MFA devices of a user. AWS does not raise this quota.
pub const MFA_DEVICES_PER_USER: usize = 8;
/// The maximum number of managed policies attached to a user (10 in AWS, up to 20 on request).
pub const POLICIES_PER_USER: usize = 20;
/// The maximum number of managed policies attached to a group. AWS does not raise this quota.
pub const POLICIES_PER_GROUP: usize = 10;
/// The maximum number of managed policies attached to a role (10 in AWS, up to 25 on request).
pub const POLICIES_PER_ROLE: usize = 25;
/// The maximum number of characters, without white space, of all inline policies of a user.
pub const USER_POLICY_SIZE: usize = 2_048;
/// The maximum number of characters, without white space, of all inline policies of a group.
pub const GROUP_POLICY_SIZE: usize = 5_120;
/// The maximum number of characters, without white space, of all inline policies of a role.
pub const ROLE_POLICY_SIZE: usize = 10_240;
/// The maximum number of characters, without white space, of a managed policy.
pub const POLICY_SIZE: usize = 6_144;
/// The maximum number of characters, without white space, of a trust policy (2,048 in AWS, up to
/// 8,192 on request).
pub const ASSUME_ROLE_POLICY_SIZE: usize = 8_192;
/// The maximum number of versions of a managed policy that exist at the same time, including the default version.
pub const VERSIONS_PER_POLICY: usize = 5;
/// The maximum number of client ids (audiences) of an OpenID Connect provider.
pub const CLIENT_IDS_PER_PROVIDER: usize = 100;
/// The maximum number of certificate thumbprints of an OpenID Connect provider.
pub const THUMBPRINTS_PER_PROVIDER: usize = 5;
/// The maximum number of roles in an instance profile. AWS does not raise this quota.
pub const ROLES_PER_INSTANCE_PROFILE: usize = 1;
/// The maximum number of characters in a path.
const MAX_PATH: usize = 512;
/// The maximum number of characters in a description.
const MAX_DESCRIPTION: usize = 1_000;

/// A rule that a resource breaks. Some are quotas of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenRule {
    /// A field has an invalid value. The text names the field and its rule.
    Invalid(String),
    /// The resource has more of something than a quota allows.
    Exceeded {
        /// The name of the quota in AWS, such as `PoliciesPerRole`.
        quota: &'static str,
        count: usize,
        most: usize,
    },
}

impl BrokenRule {
    /// Whether the resource exceeded this quota by at least as much before the change.
    pub fn was_broken(&self, before: &[Self]) -> bool {
        let Self::Exceeded { quota, count, .. } = self else {
            return false;
        };
        let worse = |rule: &Self| matches!(rule, Self::Exceeded { quota: old, count: was, .. } if old == quota && was >= count);
        before.iter().any(worse)
    }
}

/// Collects the rules that a resource breaks.
#[derive(Debug, Default)]
pub struct Limits<'a> {
    /// The issuer of this broker's own tokens. No identity provider may have that URL.
    pub issuer: Option<&'a str>,
    /// The broken rules, in the order in which they were checked.
    pub broken: Vec<BrokenRule>,
}

impl Limits<'_> {
    /// Records that a field has an invalid value. `rule` names the field and says what it must be.
    pub(super) fn invalid(&mut self, rule: impl Into<String>) {
        self.broken.push(BrokenRule::Invalid(rule.into()));
    }

    pub(super) fn quota(&mut self, quota: &'static str, count: usize, most: usize) {
        if count > most {
            self.broken
                .push(BrokenRule::Exceeded { quota, count, most });
        }
    }

    /// Checks that the name and the path are well-formed and that the ARN consists of them.
    pub(super) fn named(
        &mut self,
        kind: &str,
        arn: &str,
        path: Option<&str>,
        (name, longest): (&str, usize),
    ) {
        if !is_iam_name(name, longest) {
            self.invalid(format!(
                "the name of a {kind} must be 1 to {longest} letters, digits or characters of `+=,.@_-`"
            ));
        }
        let path = path.unwrap_or("/");
        let whole = path.starts_with('/') && path.ends_with('/') && path.len() <= MAX_PATH;
        if !whole || !path.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            self.invalid(format!(
                "Path must begin and end with `/`, have at most {MAX_PATH} printable ASCII characters and contain no space"
            ));
        }
        let account = account_of(arn);
        if AccountId::parse(account).is_none() || arn != IamArn::text(account, kind, path, name) {
            self.invalid(format!(
                "Arn must be `{}`",
                IamArn::text("ACCOUNT", kind, path, name)
            ));
        }
    }

    /// Checks the attached managed policies, of which there may be at most `most`.
    pub(super) fn attached(&mut self, quota: &'static str, list: &[Attached], most: usize) {
        self.quota(quota, list.len(), most);
        let arns = list.iter().map(|a| a.policy_arn.as_str());
        self.each_once("AttachedManagedPolicies", arns);
    }

    /// Checks the inline policies, which together may have at most `most` characters without white
    /// space.
    pub(super) fn inline(&mut self, quota: &'static str, list: &[InlinePolicy], most: usize) {
        let names = list.iter().map(|p| p.policy_name.as_str());
        self.each_once("inline policies", names.clone());
        for name in names {
            if !is_iam_name(name, 128) {
                self.invalid(format!(
                    "the name `{name}` of an inline policy must be 1 to 128 letters, digits or characters of `+=,.@_-`"
                ));
            }
        }
        let sizes = list.iter().map(|p| size(p.policy_document.as_ref()));
        self.quota(quota, sizes.sum(), most);
    }

    /// Checks the size of a policy document, which may have at most `most` characters without white
    /// space.
    pub(super) fn document(
        &mut self,
        quota: &'static str,
        document: Option<&Document>,
        most: usize,
    ) {
        self.quota(quota, size(document), most);
    }

    pub(super) fn description(&mut self, text: Option<&str>) {
        let count = text.map_or(0, |t| t.chars().count());
        if count > MAX_DESCRIPTION {
            self.invalid(format!(
                "Description must have at most {MAX_DESCRIPTION} characters"
            ));
        }
    }

    pub(super) fn tags(&mut self, quota: &'static str, tags: &[Tag]) {
        self.quota(quota, tags.len(), MAX_TAGS);
    }

    /// Checks that no name occurs twice in a list, ignoring case.
    pub(super) fn each_once<'n>(&mut self, list: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name.to_ascii_lowercase()) {
                self.invalid(format!("duplicate `{name}` in {list}"));
            }
        }
    }
}

/// The number of characters of a document without white space.
fn size(document: Option<&Document>) -> usize {
    let text = document.and_then(|d| d.text().ok()).unwrap_or_default();
    text.chars().filter(|c| !c.is_whitespace()).count()
}
