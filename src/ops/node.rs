//! The node that calls, and what the directory says of it.

use crate::base::arn::AccountId;
use crate::base::digest::sha256;
use crate::base::names::Tag;
use crate::caller::{Caller, Identity};
use crate::session::token::{self, Holder};

/// The tag of a node with the name of its instance profile.
pub(in crate::parts::ops) const INSTANCE_PROFILE: &str = "brevet:instance-profile";
/// The tag of a node with a long-term credential that says which node of a Kubernetes cluster it is:
/// `CLUSTER/NODE`.
const KUBERNETES_NODE: &str = "brevet:node";

/// The node that calls: a user with a long-term credential, or a session that AssumeRoleWithWebIdentity
/// issued to the node's own token, without a source identity or transitive tags. Tags count only as the
/// directory has them, because a session's tags are what its caller asked for.
pub(in crate::parts::ops) struct Node {
    pub(in crate::parts::ops) account: AccountId,
    /// Identifies the node; stays the same when the session of the node is renewed.
    id: String,
    /// The provider and the node's name, if the node showed a token of a Kubernetes service account.
    provider: Option<(String, String)>,
    tags: Vec<Tag>,
}

impl Node {
    /// The node, if the caller can be one.
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

    /// The name of the node's instance profile.
    pub(in crate::parts::ops) fn instance_profile(&self) -> Option<&str> {
        self.tag(INSTANCE_PROFILE)
    }

    /// Whether this is the node with this name in a cluster, whose tokens the provider signs.
    pub(in crate::parts::ops) fn is(&self, cluster: &str, provider_arn: &str, name: &str) -> bool {
        match &self.provider {
            Some((provider, node)) => provider == provider_arn && node == name,
            None => self.tag(KUBERNETES_NODE) == Some(&format!("{cluster}/{name}")),
        }
    }

    /// What the session of a workload records of the node and of itself.
    pub(in crate::parts::ops) fn lineage(&self, workload: &str) -> token::Workload {
        token::Workload {
            node: self.digest(),
            name: workload.to_owned(),
        }
    }

    /// The digest by which sessions name the node that they were issued to.
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
