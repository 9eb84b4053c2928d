//! The node that makes a call, and its instance profile and tags in the directory.

use crate::base::arn::AccountId;
use crate::base::digest::sha256;
use crate::base::names::Tag;
use crate::caller::{Caller, Identity};
use crate::session::token::{self, Holder};

/// The key of a node's tag whose value is the name of its instance profile.
pub(in crate::parts::ops) const INSTANCE_PROFILE: &str = "brevet:instance-profile";
/// The key of the tag that assigns a node with a long-term credential to a node of a Kubernetes
/// cluster. Its value is `CLUSTER/NODE`.
const KUBERNETES_NODE: &str = "brevet:node";

/// A calling node: a user with a long-term credential, or a session that AssumeRoleWithWebIdentity
/// issued for the node's own token, without a source identity or transitive tags. Only tags in the
/// directory count, because the caller chooses the tags of a session.
pub(in crate::parts::ops) struct Node {
    pub(in crate::parts::ops) account: AccountId,
    /// Identifies the node in digests. It stays the same when the node renews its session.
    id: String,
    /// The identity provider's ARN and the node's name, if the node authenticated with a Kubernetes
    /// service-account token.
    provider: Option<(String, String)>,
    tags: Vec<Tag>,
}

impl Node {
    /// Returns the node that makes the call; `None` if the caller's credentials are not those of a
    /// node.
    pub(in crate::parts::ops) fn of(caller: &Caller) -> Option<Self> {
        match &caller.identity {
            Identity::User(user) => Some(Self {
                account: user.account,
                id: format!("user {}", user.id),
                provider: None,
                tags: user.tags.to_vec(),
            }),
            Identity::RoleSession { role, session } => {
                // The credentials of a node are no longer that once they were narrowed: they have an
                // ancestor more.
                let ([provider], Some(Holder::WebIdentity(identity))) =
                    (session.claims.ancestors.as_slice(), &session.claims.holder)
                else {
                    return None;
                };
                // What has to be passed on along a chain would be lost in the workload's session.
                let passes_on = !session.claims.source_identity.is_empty()
                    || session.limits.tags.iter().any(|tag| tag.transitive);
                if passes_on {
                    return None;
                }
                let (arn, node) = (&provider.arn, &identity.node);
                let who = if node.is_empty() {
                    format!("subject {}", identity.subject)
                } else {
                    format!("node {node}")
                };
                Some(Self {
                    account: session.account,
                    id: format!("role {} {arn} {who}", role.id),
                    provider: (!node.is_empty()).then(|| (arn.clone(), node.clone())),
                    tags: role.tags.to_vec(),
                })
            }
            _ => None,
        }
    }

    /// The name of the node's instance profile, from its tag; `None` without the tag.
    pub(in crate::parts::ops) fn instance_profile(&self) -> Option<&str> {
        self.tag(INSTANCE_PROFILE)
    }

    /// Returns whether this is the node called `name` in the cluster `cluster`. A node with a
    /// service-account token must come from the provider `provider_arn`.
    pub(in crate::parts::ops) fn is(&self, cluster: &str, provider_arn: &str, name: &str) -> bool {
        match &self.provider {
            Some((provider, node)) => provider == provider_arn && node == name,
            None => self.tag(KUBERNETES_NODE) == Some(&format!("{cluster}/{name}")),
        }
    }

    /// Returns the part of a workload's session token that names the node and the workload.
    pub(in crate::parts::ops) fn lineage(&self, workload: &str) -> token::Workload {
        token::Workload {
            node: self.digest(),
            name: workload.to_owned(),
        }
    }

    /// Returns the digest that names the node in the tokens of the sessions issued to it.
    pub(in crate::parts::ops) fn digest(&self) -> Vec<u8> {
        sha256(self.id.as_bytes())
            .iter()
            .copied()
            .take(16)
            .collect()
    }

    fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.iter().find(|tag| tag.key == key);
        found.map(|tag| tag.value.as_str())
    }
}
