//! Role, caller and facts to [`Grant`]: where trust, identity, boundary and session policies meet.
//! Awaits nothing.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::arn::AccountId;
use crate::authn::{Caller, Identity};
use crate::clock::Timestamp;
use crate::directory::{Directory, Role};
use crate::evaluator::{self, Context, Decision, Policies, Policy, Request, Source};
use crate::names::Tag;
use crate::ops::Origin;
use crate::token::Ancestor;

/// Leave to act as a role. Made by [`admit`] alone; `mint` consumes it, so that no credentials
/// exist without a trust decision.
pub struct Grant {
    role: Arc<Role>,
    lineage: Vec<Ancestor>,
}

impl Grant {
    /// The role.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Whom the session comes from, the one that was let in last.
    pub fn lineage(&self) -> &[Ancestor] {
        &self.lineage
    }
}

/// A refusal: which action was not allowed, and why (for the audit, not for the caller).
pub struct Denied {
    /// `sts:AssumeRole`, `sts:TagSession`, …
    pub action: &'static str,
    /// What the evaluator said.
    pub decision: Decision,
}

/// What the request itself says to the policies.
pub struct Facts<'a>(Context<'a>);

impl<'a> Facts<'a> {
    /// The global condition keys: IAM User Guide, "AWS global condition context keys".
    pub fn new(caller: &'a Caller, origin: &'a Origin, region: &'a str, now: Timestamp) -> Self {
        let mut keys = Context::new();
        keys.set("aws:currenttime", now.to_string());
        keys.set("aws:epochtime", now.seconds().to_string());
        keys.set("aws:sourceip", origin.source_ip.to_canonical().to_string());
        keys.set("aws:securetransport", if origin.secure_transport { "true" } else { "false" });
        keys.set("aws:requestedregion", region);
        if let Some(agent) = &origin.user_agent {
            keys.set("aws:useragent", agent.as_str());
        }
        keys.set("aws:principalaccount", caller.account().to_string());
        keys.set("aws:userid", caller.user_id());
        for tag in caller.tags() {
            keys.set(format!("aws:principaltag/{}", tag.key), tag.value);
        }
        match &caller.identity {
            Identity::User(user) => {
                keys.set("aws:principaltype", "User");
                keys.set("aws:principalarn", &*user.arn);
                keys.set("aws:username", &*user.name);
            }
            Identity::RoleSession { role, session } => {
                keys.set("aws:principaltype", "AssumedRole");
                // Of a session this is its role's ARN.
                keys.set("aws:principalarn", &*role.arn);
                keys.set("aws:tokenissuetime", Timestamp::from_seconds(session.claims.issued_at).to_string());
                // Absent, not false, on long-term keys.
                keys.set("aws:multifactorauthpresent", "false");
                if !session.claims.source_identity.is_empty() {
                    keys.set("aws:sourceidentity", session.claims.source_identity.as_str());
                }
            }
        }
        Self(keys)
    }

    /// Adds what a request for a role session says.
    #[must_use]
    pub fn role_session(mut self, request: &SessionRequest<'a>) -> Self {
        let keys = &mut self.0;
        keys.set("sts:rolesessionname", request.role_session_name);
        if let Some(id) = request.external_id {
            keys.set("sts:externalid", id);
        }
        if let Some(identity) = request.source_identity {
            keys.set("sts:sourceidentity", identity);
        }
        for tag in request.tags {
            keys.set(format!("aws:requesttag/{}", tag.key), tag.value.as_str());
        }
        if !request.tags.is_empty() {
            keys.set_many("aws:tagkeys", request.tags.iter().map(|t| Cow::from(t.key.as_str())).collect());
        }
        if !request.transitive_tag_keys.is_empty() {
            let names = request.transitive_tag_keys.iter().map(|k| Cow::from(k.as_str()));
            keys.set_many("sts:transitivetagkeys", names.collect());
        }
        self
    }

    fn resource_tags(&mut self, tags: &[Tag]) {
        for tag in tags {
            self.0.set(format!("aws:resourcetag/{}", tag.key), tag.value.clone());
            self.0.set(format!("iam:resourcetag/{}", tag.key), tag.value.clone());
        }
    }
}

/// What a request for a role session says to the policies.
pub struct SessionRequest<'a> {
    /// `sts:RoleSessionName`
    pub role_session_name: &'a str,
    /// `sts:ExternalId`
    pub external_id: Option<&'a str>,
    /// `sts:SourceIdentity`
    pub source_identity: Option<&'a str>,
    /// `aws:RequestTag/*`, `aws:TagKeys`
    pub tags: &'a [Tag],
    /// `sts:TransitiveTagKeys`
    pub transitive_tag_keys: &'a [String],
}

/// Decides whether the caller may act as the role: every action must be allowed, by the trust
/// policy and by what the caller's account, boundary and session policies leave.
///
/// # Errors
/// The first action that is not allowed.
pub fn admit(
    role: &Arc<Role>,
    caller: &Caller,
    directory: &Directory,
    mut facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Grant, Denied> {
    facts.resource_tags(&role.tags);
    for action in actions {
        let decision = decide(caller, directory, &facts, action, &role.arn, role.account, Some(&role.trust));
        if !decision.is_allowed() {
            return Err(Denied { action, decision });
        }
    }
    Ok(Grant { role: role.clone(), lineage: caller.lineage() })
}

/// Decides whether the caller's own policies allow an action of this service.
///
/// # Errors
/// When they do not.
pub fn permit(
    caller: &Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    action: &'static str,
    resource: &str,
) -> Result<(), Denied> {
    let decision = decide(caller, directory, facts, action, resource, caller.account(), None);
    if decision.is_allowed() { Ok(()) } else { Err(Denied { action, decision }) }
}

fn decide(
    caller: &Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    action: &str,
    resource: &str,
    resource_account: AccountId,
    trust: Option<&Policy>,
) -> Decision {
    let identity: Vec<&Policy> = caller.policies().iter().map(Arc::as_ref).collect();
    let session: Option<Vec<&Policy>> = caller.session().filter(|s| s.is_restricted()).map(|session| {
        // A managed policy that is gone allows nothing.
        let managed = session.claims.policy_arns.iter().filter_map(|arn| directory.managed_policy(arn));
        session.policy.iter().chain(managed.map(Arc::as_ref)).collect()
    });
    let request = Request {
        principal: caller.principal(),
        action,
        resource,
        resource_account: resource_account.as_str(),
        context: &facts.0,
    };
    let policies = Policies {
        identity: &identity,
        resource: trust,
        resource_is_trust: trust.is_some(),
        session: session.as_deref(),
        boundary: caller.boundary(),
        ..Policies::default()
    };
    evaluator::evaluate(&request, &policies)
}

/// What the audit says of a refusal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<usize>,
}

impl Denied {
    /// Which kind of policy and which statement decided, for the audit.
    pub fn explanation(&self) -> Option<Box<RawValue>> {
        let by = self.decision.by;
        let explanation = Explanation {
            decision: format!("{:?}", self.decision.outcome),
            denied_by: by.map(|s| match s.source {
                Source::Identity(_) => "identity policy",
                Source::Resource => "trust policy",
                Source::Session(_) => "session policy",
                Source::Boundary => "permissions boundary",
                Source::ServiceControl(..) => "service control policy",
                Source::ResourceControl(..) => "resource control policy",
            }),
            statement: by.map(|s| s.index),
        };
        serde_json::value::to_raw_value(&explanation).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::keys;

    #[test]
    fn every_fact_stands_in_the_table_of_keys() {
        let declaration = serde_json::json!({"UserDetailList": [{"Path": "/", "UserName": "alice",
            "UserId": "AIDAALICEALICEALICE1", "Arn": "arn:aws:iam::111122223333:user/alice",
            "Tags": [{"Key": "Team", "Value": "blue"}]}]});
        let directory = Directory::compile(declaration.to_string().as_bytes(), None).unwrap();
        let user = directory.users().next().unwrap().clone();
        let effective = directory.effective_of_user(&user).unwrap();
        let caller = Caller { identity: Identity::User(user), access_key_id: "AKIA".into(), effective };
        let origin = Origin { source_ip: [127, 0, 0, 1].into(), secure_transport: true, user_agent: Some("x".into()) };
        let tags = [Tag { key: "Team".into(), value: "blue".into() }];
        let request = SessionRequest {
            role_session_name: "s",
            external_id: Some("x"),
            source_identity: Some("y"),
            tags: &tags,
            transitive_tag_keys: &["Team".to_owned()],
        };
        let mut facts = Facts::new(&caller, &origin, "us-east-1", Timestamp::from_seconds(0)).role_session(&request);
        facts.resource_tags(&tags);
        let unknown: Vec<&str> = facts.0.names().filter(|n| keys::find(n).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(facts.0.names().count() >= 18);
    }
}
