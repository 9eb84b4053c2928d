//! Determines what a reader of a refusal's reason may see: the policies of an account are shown only to that account.

use crate::evaluator::{Source, StatementReport};
use crate::trust::{Control, Explained};

/// The part of the answer that depends on the reader, in addition to the message itself.
pub struct Disclosure {
    /// The explanation by the current policies; `None` if the principal no longer exists.
    pub explained: Option<Explained>,
    /// Whether the reader belongs to the principal's account and may see its policies.
    pub of_principal: bool,
    /// Whether the reader belongs to the resource's account and may see its policy.
    pub of_resource: bool,
    /// Whether the resource is a bucket or an object in one, and not a role.
    pub is_bucket: bool,
    /// A sentence that says that the resource does not exist, for readers who may know that.
    pub missing: Option<String>,
    /// Whether the directory has changed since the refusal, so that the explanation may differ from
    /// the reason at that time.
    pub changed: bool,
}

/// Condition keys, in lower case, that reveal where and with what somebody works. They are not shown to the account of
/// the requested role or bucket. A trailing `/` denotes a family of keys.
const PRIVATE_KEYS: [&str; 8] = [
    "aws:sourceip",
    "aws:useragent",
    "aws:referer",
    "aws:multifactorauthpresent",
    "aws:multifactorauthage",
    "aws:tokenissuetime",
    "aws:username",
    "aws:principaltag/",
];

/// Condition keys, in lower case, that reveal the organization and organizational units of the account that owns the
/// requested role or bucket. They are not shown to the caller's account.
const KEYS_OF_RESOURCE: [&str; 2] = ["aws:resourceorgid", "aws:resourceorgpaths"];

impl Disclosure {
    /// Whether the reader may see the request's value of a condition key.
    pub(super) fn may_know(&self, key: &str) -> bool {
        if KEYS_OF_RESOURCE
            .iter()
            .any(|of| key.eq_ignore_ascii_case(of))
        {
            return self.of_resource;
        }
        let is_private = |private: &&str| {
            key.get(..private.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(private))
                && (private.ends_with('/') || key.len() == private.len())
        };
        self.of_principal || !PRIVATE_KEYS.iter().any(is_private)
    }

    /// Whether the reader may see a statement. The policies of each account are visible only to that account.
    pub(super) fn shows(&self, report: &StatementReport) -> bool {
        match report.at.source {
            Source::Resource | Source::ResourceControl(..) => self.of_resource,
            _ => self.of_principal,
        }
    }

    /// The service or resource control policy to which a statement belongs; `None` if the statement belongs to another
    /// kind of policy.
    pub(super) fn control(&self, report: &StatementReport) -> Option<&Control> {
        let controls = &self.explained.as_ref()?.controls;
        controls.iter().find(|c| c.source == report.at.source)
    }

    /// Describes where the statement is: its index in the list `Statement` of its policy, and the policy. Policies of
    /// one kind are counted from 1.
    pub(super) fn place(&self, report: &StatementReport) -> String {
        let sid = report.sid.as_ref();
        let sid = sid.map(|sid| format!(" ({sid})")).unwrap_or_default();
        let statement = format!("Statement[{}]{sid}", report.at.index);
        let (policy, number) = self.policy(report);
        if let Some(Control {
            id, name, target, ..
        }) = self.control(report)
        {
            let name = match name.as_str() {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            return format!("{statement} of the {policy} {id}{name}, attached to {target},");
        }
        match report.at.source {
            Source::Identity(_) | Source::Session(_) | Source::ScopeDown(_) => {
                format!("{statement} of the caller's {policy} {}", number + 1)
            }
            Source::Resource if self.is_bucket => format!("{statement} of the {policy}"),
            Source::Resource => format!("{statement} of the role's {policy}"),
            _ => format!("{statement} of the caller's {policy}"),
        }
    }

    /// The kind of policy to which a statement belongs, and the policy's number among those of its kind, from 0.
    pub(super) fn policy(&self, report: &StatementReport) -> (&'static str, usize) {
        match report.at.source {
            Source::Identity(n) => ("identity policy", n),
            Source::Resource if self.is_bucket => ("bucket policy", 0),
            Source::Resource => ("trust policy", 0),
            Source::Session(n) => ("session policy", n),
            Source::ScopeDown(n) => ("scope-down policy", n),
            Source::Boundary => ("permissions boundary", 0),
            Source::ServiceControl(_, n) => ("service control policy", n),
            Source::ResourceControl(_, n) => ("resource control policy", n),
        }
    }
}
