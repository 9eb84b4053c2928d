//! AWS's rules and quotas for one resource by itself: IAM User Guide, "IAM and AWS STS quotas" and "IAM
//! identifiers"; IAM API Reference, each action's parameters. A quota that can be raised counts at
//! what it can be raised to. Accounts have no quotas of users, groups, roles or policies.

use std::collections::HashSet;

use super::shape::{Attached, Document, InlinePolicy, Tag};
use crate::base::arn::{AccountId, IamArn, account_of};
use crate::base::names::{MAX_TAGS, is_iam_name};

/// Groups of one user.
pub const GROUPS_PER_USER: usize = 10;
/// Access keys of one user.
pub const ACCESS_KEYS_PER_USER: usize = 2;
/// MFA devices of one user.
pub const MFA_DEVICES_PER_USER: usize = 8;
/// Managed policies attached to one user (10, raisable to 20).
pub const POLICIES_PER_USER: usize = 20;
/// Managed policies attached to one group.
pub const POLICIES_PER_GROUP: usize = 10;
/// Managed policies attached to one role (10, raisable to 25).
pub const POLICIES_PER_ROLE: usize = 25;
/// Characters of all inline policies of one user, white space not counted.
pub const USER_POLICY_SIZE: usize = 2_048;
/// The same of one group.
pub const GROUP_POLICY_SIZE: usize = 5_120;
/// The same of one role.
pub const ROLE_POLICY_SIZE: usize = 10_240;
/// Characters of one managed policy, white space not counted.
pub const POLICY_SIZE: usize = 6_144;
/// Characters of one trust policy, white space not counted (2,048, raisable to 8,192).
pub const ASSUME_ROLE_POLICY_SIZE: usize = 8_192;
/// Versions of one managed policy.
pub const VERSIONS_PER_POLICY: usize = 5;
/// Client ids of one OpenID Connect provider.
pub const CLIENT_IDS_PER_PROVIDER: usize = 100;
/// Thumbprints of one OpenID Connect provider.
pub const THUMBPRINTS_PER_PROVIDER: usize = 5;
/// Roles of one instance profile.
pub const ROLES_PER_INSTANCE_PROFILE: usize = 1;
/// Characters of a path.
const MAX_PATH: usize = 512;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 1_000;

/// A rule that a resource breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenRule {
    /// A field is not as it must be.
    Invalid(String),
    /// It has too many of something.
    Exceeded {
        /// As AWS names it: `PoliciesPerRole`.
        quota: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

impl BrokenRule {
    /// Whether it is a quota that was exceeded before, by as much or by more.
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
    /// The issuer of this broker's own tokens: no provider may have that URL.
    pub issuer: Option<&'a str>,
    /// The rules that are broken, in the order in which they were checked.
    pub broken: Vec<BrokenRule>,
}

impl Limits<'_> {
    /// A field is not as it must be.
    pub(super) fn invalid(&mut self, rule: impl Into<String>) {
        self.broken.push(BrokenRule::Invalid(rule.into()));
    }

    /// So many of something are one too many, or not.
    pub(super) fn quota(&mut self, quota: &'static str, count: usize, most: usize) {
        if count > most {
            self.broken
                .push(BrokenRule::Exceeded { quota, count, most });
        }
    }

    /// Name, path and ARN fit each other, and each has its characters.
    pub(super) fn named(
        &mut self,
        kind: &str,
        arn: &str,
        path: Option<&str>,
        (name, longest): (&str, usize),
    ) {
        if !is_iam_name(name, longest) {
            self.invalid(format!(
                "a {kind}'s name must be 1 to {longest} characters of [\\w+=,.@-]"
            ));
        }
        let path = path.unwrap_or("/");
        let whole = path.starts_with('/') && path.ends_with('/') && path.len() <= MAX_PATH;
        if !whole || !path.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            self.invalid(format!(
                "Path must begin and end with `/`, have at most {MAX_PATH} characters, and no space"
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

    /// Managed policies that are attached.
    pub(super) fn attached(&mut self, quota: &'static str, list: &[Attached], most: usize) {
        self.quota(quota, list.len(), most);
        let arns = list.iter().map(|a| a.policy_arn.as_str());
        self.each_once("AttachedManagedPolicies", arns);
    }

    /// Inline policies; `most` is what they may have together.
    pub(super) fn inline(&mut self, quota: &'static str, list: &[InlinePolicy], most: usize) {
        let names = list.iter().map(|p| p.policy_name.as_str());
        self.each_once("inline policies", names.clone());
        for name in names {
            if !is_iam_name(name, 128) {
                self.invalid("an inline policy's name must be 1 to 128 characters of [\\w+=,.@-]");
            }
        }
        let sizes = list.iter().map(|p| size(p.policy_document.as_ref()));
        self.quota(quota, sizes.sum(), most);
    }

    /// One policy document.
    pub(super) fn document(
        &mut self,
        quota: &'static str,
        document: Option<&Document>,
        most: usize,
    ) {
        self.quota(quota, size(document), most);
    }

    /// A description.
    pub(super) fn description(&mut self, text: Option<&str>) {
        let count = text.map_or(0, |t| t.chars().count());
        if count > MAX_DESCRIPTION {
            self.invalid(format!(
                "Description must have at most {MAX_DESCRIPTION} characters"
            ));
        }
    }

    /// Tags.
    pub(super) fn tags(&mut self, quota: &'static str, tags: &[Tag]) {
        self.quota(quota, tags.len(), MAX_TAGS);
    }

    /// No two names of a list are the same without regard to case.
    pub(super) fn each_once<'n>(&mut self, list: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name.to_ascii_lowercase()) {
                self.invalid(format!("`{name}` is in {list} twice"));
            }
        }
    }
}

/// How many characters of a document count.
fn size(document: Option<&Document>) -> usize {
    let text = document.and_then(|d| d.text().ok()).unwrap_or_default();
    text.chars().filter(|c| !c.is_whitespace()).count()
}
