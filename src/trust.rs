//! Role, caller and facts to [`Grant`]: where trust, identity, boundary and session policies meet.
//! Awaits nothing.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::arn::{AccountId, IamArn, RoleArn};
use crate::base::clock::Timestamp;
use crate::base::names::Tag;
use crate::caller::{Caller, Identity};
use crate::directory::{Dangling, Directory, Effective, Role, User};
use crate::evaluator::{
    self, Context, Decision, Explanation, Outcome, Policies, Policy, Principal, Request, Source,
};
use crate::federation::WebIdentity;
use crate::mfa::{Code, Proven};
use crate::origin::Origin;
use crate::proof::jwt::Flat;
use crate::session::packing::TagClaim;
use crate::session::token::{self, Ancestor, Kind as SessionKind};

/// Leave to hold a session. Made in this file alone; `mint` consumes it, so that no credentials
/// exist without a decision.
///
/// It borrows the caller that it was decided for: a call that waits sees its caller anew, and then
/// needs a new decision.
pub struct Grant<'c> {
    to: Bearer,
    lineage: Vec<Ancestor>,
    web_identity: Option<token::WebIdentity>,
    caller: PhantomData<&'c Caller>,
}

enum Bearer {
    Role(Arc<Role>),
    User(Arc<User>),
    FederatedUser(Arc<User>),
}

impl Grant<'_> {
    /// How the session comes about, and the ARN and unique id of its principal.
    pub fn principal(&self) -> (SessionKind, &str, &str) {
        match &self.to {
            Bearer::Role(role) => (SessionKind::Role, &role.arn, &role.id),
            Bearer::User(user) => (SessionKind::User, &user.arn, &user.id),
            Bearer::FederatedUser(user) => (SessionKind::FederatedUser, &user.arn, &user.id),
        }
    }

    /// The principal's account.
    pub fn account(&self) -> AccountId {
        match &self.to {
            Bearer::Role(role) => role.account,
            Bearer::User(user) | Bearer::FederatedUser(user) => user.account,
        }
    }

    /// Whom the session comes from, the one that was let in last.
    pub fn lineage(&self) -> &[Ancestor] {
        &self.lineage
    }

    /// What a provider's token said of the holder, where one was shown for this session.
    pub fn web_identity(&self) -> Option<&token::WebIdentity> {
        self.web_identity.as_ref()
    }
}

/// A refusal: which action was not allowed, and why (for those who may know, not for the caller).
pub struct Denied {
    /// `sts:AssumeRole`, `sts:TagSession`, …
    pub action: String,
    /// What the evaluator said.
    pub decision: Decision,
    /// What the request said: condition keys in lower case.
    pub keys: Vec<(String, Vec<String>)>,
    /// What no statement says.
    pub note: Option<&'static str>,
}

impl Denied {
    /// A refusal that no policy made.
    pub fn because(action: String, facts: &Facts<'_>, note: &'static str) -> Self {
        let decision = Decision {
            outcome: Outcome::ImplicitlyDenied,
            by: None,
        };
        Self {
            action,
            decision,
            keys: facts.keys.listed(),
            note: Some(note),
        }
    }
}

/// What the request itself says to the policies: each key is in [`evaluator::keys`], which says when it
/// is present.
pub struct Facts<'a> {
    keys: Context<'a>,
    /// The tags of the calling session.
    session_tags: &'a [TagClaim],
}

impl<'a> Facts<'a> {
    /// The global condition keys: IAM User Guide, "AWS global condition context keys".
    pub fn new(caller: &'a Caller, origin: &'a Origin, region: &'a str, now: Timestamp) -> Self {
        let mut keys = Context::new();
        keys.set("aws:currenttime", now.to_string());
        keys.set("aws:epochtime", now.seconds().to_string());
        keys.set("aws:sourceip", origin.source_ip.to_canonical().to_string());
        keys.set(
            "aws:securetransport",
            if origin.secure_transport {
                "true"
            } else {
                "false"
            },
        );
        keys.set("aws:requestedregion", region);
        keys.set(
            "aws:useragent",
            origin.user_agent.as_deref().unwrap_or_default(),
        );
        if let Some(referer) = &origin.referer {
            keys.set("aws:referer", referer.as_str());
        }
        // Of the caller's account, unless what is asked for is another's: see `admit`.
        keys.set("aws:resourceaccount", caller.account().to_string());
        keys.set("aws:viaawsservice", "false");
        keys.set("aws:viaawsmcpservice", "false");
        if caller.web_identity().is_none() {
            keys.set("aws:principalaccount", caller.account().to_string());
            keys.set("aws:userid", caller.user_id());
            keys.set("aws:principalisawsservice", "false");
        }
        for tag in caller.tags() {
            keys.set(format!("aws:principaltag/{}", tag.key), tag.value);
        }
        match &caller.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => {
                keys.set("aws:principaltype", "User");
                keys.set("aws:principalarn", &*user.arn);
                keys.set("aws:username", &*user.name);
            }
            Identity::RoleSession { role, session } => {
                keys.set("aws:principaltype", "AssumedRole");
                // Of a session this is its role's ARN.
                keys.set("aws:principalarn", &*role.arn);
                if let Some(identity) = &session.web_identity {
                    keys.set("aws:federatedprovider", identity.provider_arn.as_str());
                    for (key, value) in &identity.keys {
                        set_claim(&mut keys, key.as_str(), value);
                    }
                }
            }
            Identity::FederatedUser { session, .. } => {
                keys.set("aws:principaltype", "FederatedUser");
                keys.set("aws:principalarn", session.arn.as_str());
            }
            Identity::WebIdentity(identity) => {
                keys.set("aws:federatedprovider", &*identity.provider.arn)
            }
        }
        if let Some(session) = caller.session() {
            keys.set(
                "aws:tokenissuetime",
                Timestamp::from_seconds(session.claims.issued_at).to_string(),
            );
            // Absent, not false, on long-term keys.
            keys.set("aws:multifactorauthpresent", "false");
            if !session.claims.source_identity.is_empty() {
                keys.set(
                    "aws:sourceidentity",
                    session.claims.source_identity.as_str(),
                );
            }
        }
        let session_tags = caller
            .session()
            .map(|s| s.limits.tags.as_slice())
            .unwrap_or_default();
        let facts = Self { keys, session_tags }.transitive_tag_keys(&[]);
        match caller.mfa_age(now) {
            Some(age) => facts.mfa(age),
            None => facts,
        }
    }

    /// The transitive tag keys that are asked for, and those that the calling session passes on anyway.
    fn transitive_tag_keys(mut self, asked: &'a [String]) -> Self {
        let inherited = self
            .session_tags
            .iter()
            .filter(|t| t.transitive)
            .map(|t| Cow::from(t.key.as_str()));
        let keys: Vec<_> = asked
            .iter()
            .map(|k| Cow::from(k.as_str()))
            .chain(inherited)
            .collect();
        if !keys.is_empty() {
            self.keys.set_many("sts:transitivetagkeys", keys);
        }
        self
    }

    /// Says that an MFA code was given for this very request.
    #[must_use]
    pub fn proven(self, _: &Proven) -> Self {
        self.mfa(0)
    }

    /// What the request would say if a code that was not looked at yet were good.
    pub fn supposing(self, _: &Code) -> Supposed<'a> {
        Supposed(self.mfa(0))
    }

    fn mfa(mut self, age_seconds: i64) -> Self {
        self.keys.set("aws:multifactorauthpresent", "true");
        self.keys
            .set("aws:multifactorauthage", age_seconds.to_string());
        self
    }

    /// Adds what a request for a session says.
    #[must_use]
    pub fn session(mut self, request: &SessionRequest<'a>) -> Self {
        let keys = &mut self.keys;
        if let Some(name) = request.role_session_name {
            keys.set("sts:rolesessionname", name);
        }
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
            keys.set_many(
                "aws:tagkeys",
                request
                    .tags
                    .iter()
                    .map(|t| Cow::from(t.key.as_str()))
                    .collect(),
            );
        }
        if let Some(authorized) = request.role_authorized_by_idp {
            keys.set(
                "sts:roleauthorizedbyidp",
                if authorized { "true" } else { "false" },
            );
        }
        if request.transitive_tag_keys.is_empty() {
            self
        } else {
            self.transitive_tag_keys(request.transitive_tag_keys)
        }
    }

    /// Adds what a provider's token says: each claim under the provider's name.
    #[must_use]
    pub fn web_identity_token(mut self, identity: &'a WebIdentity) -> Self {
        let issuer = identity.issuer();
        for (path, value) in &identity.claims {
            set_claim(&mut self.keys, format!("{issuer}:{path}"), value);
        }
        // As AWS has it: whom the token was given to stands for its audience, which is the other key.
        let audiences = identity.token.texts("aud").unwrap_or_default();
        match audiences.as_slice() {
            [] => {}
            [audience] => self.keys.set(format!("{issuer}:oaud"), *audience),
            several => self.keys.set_many(
                format!("{issuer}:oaud"),
                several.iter().map(|a| Cow::from(*a)).collect(),
            ),
        }
        self.keys
            .set(format!("{issuer}:aud"), identity.audience.as_str());
        self
    }

    /// Adds what a request for a web identity token says.
    #[must_use]
    pub fn web_identity(
        mut self,
        audience: &'a [String],
        algorithm: &'static str,
        seconds: &'a str,
    ) -> Self {
        self.keys.set_many(
            "sts:identitytokenaudience",
            audience.iter().map(|a| Cow::from(a.as_str())).collect(),
        );
        self.keys.set("sts:signingalgorithm", algorithm);
        self.keys.set("sts:durationseconds", seconds);
        self
    }

    /// Adds the tags of what is asked for. `iam:ResourceTag` speaks of users and roles alone.
    pub fn resource_tags(&mut self, tags: &'a [Tag], of_user_or_role: bool) {
        let tags = tags
            .iter()
            .map(|tag| (tag.key.as_str(), tag.value.as_str()));
        self.keys.set_resource_tags(tags, of_user_or_role);
    }
}

/// Facts of which one is not proven: for whoever would be refused anyway. No [`Grant`] is made of them.
pub struct Supposed<'a>(Facts<'a>);

/// A claim as conditions see it: a list is multivalued, even if it has one member.
fn set_claim<'a>(keys: &mut Context<'a>, name: impl Into<Cow<'a, str>>, value: &'a Flat) {
    match value {
        Flat::One(text) => keys.set(name, text.as_str()),
        Flat::Many(texts) => {
            keys.set_many(name, texts.iter().map(|t| Cow::from(t.as_str())).collect())
        }
    }
}

/// What a request for a session says to the policies.
#[derive(Default)]
pub struct SessionRequest<'a> {
    /// `sts:RoleSessionName`
    pub role_session_name: Option<&'a str>,
    /// `sts:ExternalId`
    pub external_id: Option<&'a str>,
    /// `sts:SourceIdentity`
    pub source_identity: Option<&'a str>,
    /// `aws:RequestTag/*`, `aws:TagKeys`
    pub tags: &'a [Tag],
    /// `sts:TransitiveTagKeys`
    pub transitive_tag_keys: &'a [String],
    /// `sts:RoleAuthorizedByIdp`
    pub role_authorized_by_idp: Option<bool>,
}

/// One question to the evaluator.
struct Question<'a> {
    principal: Principal<'a>,
    account: AccountId,
    identity: Vec<&'a Policy>,
    boundary: Option<&'a Policy>,
    /// The policies that cut the caller's session; none: nothing was passed.
    session: Option<Vec<&'a Policy>>,
    context: &'a Context<'a>,
    action: &'a str,
    resource: &'a str,
    resource_account: AccountId,
    trust: Option<&'a Policy>,
}

impl<'a> Question<'a> {
    /// About a thing of the caller's own account.
    fn own(
        caller: &'a Caller,
        directory: &'a Directory,
        facts: &'a Facts<'a>,
        action: &'a str,
        resource: &'a str,
    ) -> Self {
        let cut = caller.session().filter(|s| s.is_restricted());
        Self {
            principal: caller.principal(),
            account: caller.account(),
            identity: caller.policies().iter().map(Arc::as_ref).collect(),
            boundary: caller.boundary(),
            session: cut
                .map(|s| session_policies(s.policy.as_ref(), &s.limits.policy_arns, directory)),
            context: &facts.keys,
            action,
            resource,
            resource_account: caller.account(),
            trust: None,
        }
    }

    fn ask<T>(&self, answer: impl FnOnce(&Request<'_>, &Policies<'_>) -> T) -> T {
        let request = Request {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            resource_account: self.resource_account.as_str(),
            context: self.context,
        };
        let policies = Policies {
            identity: &self.identity,
            resource: self.trust,
            resource_is_trust: self.trust.is_some(),
            session: self.session.as_deref(),
            boundary: self.boundary,
            ..Policies::default()
        };
        answer(&request, &policies)
    }

    fn decide(&self) -> Decision {
        self.ask(evaluator::evaluate)
    }

    /// Whether the session's policies allow it by themselves: a trust policy that names the session
    /// directly does not lift them.
    fn is_within_session_policies(&self) -> bool {
        let Some(session) = &self.session else {
            return true;
        };
        let request = Request {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            resource_account: self.account.as_str(),
            context: self.context,
        };
        let policies = Policies {
            identity: session,
            session: Some(session),
            ..Policies::default()
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    }

    fn denied(&self, decision: Decision) -> Box<Denied> {
        Box::new(Denied {
            action: self.action.to_owned(),
            decision,
            keys: self.context.listed(),
            note: None,
        })
    }
}

/// The policies that cut a session. A managed policy that is gone may have denied anything, so a
/// session that names it may do nothing.
fn session_policies<'a>(
    inline: Option<&'a Policy>,
    arns: &[String],
    directory: &'a Directory,
) -> Vec<&'a Policy> {
    let managed = arns.iter().map(|arn| {
        directory
            .managed_policy(arn)
            .unwrap_or_else(|| directory.closed_policy())
    });
    inline.into_iter().chain(managed.map(Arc::as_ref)).collect()
}

/// A request that was decided before, to be explained.
pub struct Asked<'a> {
    /// How the principal's session came about; none: a long-term key.
    pub session: Option<SessionKind>,
    /// Of a role's session the role, else the user.
    pub principal_arn: &'a str,
    /// Its own ARN.
    pub arn: &'a str,
    /// Session policies: the inline one, and managed ones.
    pub policy: Option<&'a Policy>,
    /// See `policy`.
    pub policy_arns: &'a [String],
    /// What the request said.
    pub keys: &'a [(String, Vec<String>)],
    /// `sts:AssumeRole`
    pub action: &'a str,
    /// What it was about.
    pub resource: &'a str,
    /// Whether the resource's own policy and tags are looked at: not for a reader of another account,
    /// who must not learn even that it exists.
    pub look_at_resource: bool,
}

/// What every statement does with a request, by the policies of now. None when the principal is no
/// more.
///
/// # Errors
/// When a policy that is named is missing.
pub fn explain(asked: &Asked<'_>, directory: &Directory) -> Result<Option<Explanation>, Dangling> {
    let provider = IamArn::parse(asked.principal_arn).filter(|arn| arn.kind == "oidc-provider");
    let (account, name, id, effective) = match asked.session {
        None if let Some(provider) = provider => {
            if directory.oidc_provider(asked.principal_arn).is_none() {
                return Ok(None);
            }
            (provider.account, "", "", Effective::default())
        }
        Some(SessionKind::Role) => {
            let Some(role) = directory.role(asked.principal_arn) else {
                return Ok(None);
            };
            (
                role.account,
                &*role.name,
                &*role.id,
                directory.effective_of_role(role)?,
            )
        }
        _ => {
            let Some(user) = directory.user(asked.principal_arn) else {
                return Ok(None);
            };
            (
                user.account,
                &*user.name,
                &*user.id,
                directory.effective_of_user(user)?,
            )
        }
    };
    let principal = match asked.session {
        None if provider.is_some() => Principal::Federated(asked.principal_arn),
        Some(SessionKind::Role) => Principal::RoleSession {
            account: account.as_str(),
            role: name,
            role_arn: Some(asked.principal_arn),
            arn: asked.arn,
            id: Some(id),
        },
        Some(SessionKind::FederatedUser) => Principal::FederatedUser {
            account: account.as_str(),
            arn: asked.arn,
        },
        Some(SessionKind::User) | None => Principal::User {
            account: account.as_str(),
            arn: asked.arn,
            id: Some(id),
        },
    };
    let mut facts = Facts {
        keys: Context::new(),
        session_tags: &[],
    };
    for (name, values) in asked.keys {
        match (
            evaluator::keys::find(name).is_some_and(|k| k.multivalued),
            values.as_slice(),
        ) {
            (false, [value]) => facts.keys.set(name.as_str(), value.as_str()),
            _ => facts.keys.set_many(
                name.as_str(),
                values.iter().map(|v| Cow::from(v.as_str())).collect(),
            ),
        }
    }
    let role = directory
        .role(asked.resource)
        .filter(|_| asked.look_at_resource);
    if let Some(role) = role {
        facts.resource_tags(&role.tags, true);
    }
    let cut = asked.policy.is_some() || !asked.policy_arns.is_empty();
    let question = Question {
        principal,
        account,
        identity: effective.identity.iter().map(Arc::as_ref).collect(),
        boundary: effective.boundary.as_deref(),
        session: cut.then(|| session_policies(asked.policy, asked.policy_arns, directory)),
        context: &facts.keys,
        action: asked.action,
        resource: asked.resource,
        resource_account: role.map_or(account, |r| r.account),
        trust: role.map(|r| &r.trust),
    };
    Ok(Some(question.ask(evaluator::explain)))
}

/// Decides whether the caller may act as the role: every action must be allowed, by the trust
/// policy and by what the caller's account, boundary and session policies leave. `asked` is the ARN
/// that the caller named; where there is no such role, `role` is the directory's decoy.
///
/// # Errors
/// The first action that is not allowed.
pub fn admit<'c>(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &'c Caller,
    directory: &Directory,
    facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Grant<'c>, Box<Denied>> {
    let lineage = admissible(role, asked, caller, directory, facts, actions)?;
    Ok(Grant {
        to: Bearer::Role(role.clone()),
        lineage,
        web_identity: caller.web_identity().map(|identity| identity.remembered()),
        caller: PhantomData,
    })
}

/// Whether [`admit`] would decide so if what is supposed were proven.
///
/// # Errors
/// As [`admit`].
pub fn would_admit(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &Caller,
    directory: &Directory,
    facts: Supposed<'_>,
    actions: &[&'static str],
) -> Result<(), Box<Denied>> {
    admissible(role, asked, caller, directory, facts.0, actions).map(drop)
}

/// The chain of principals that leads to the role, if the caller may act as it.
fn admissible(
    role: &Arc<Role>,
    asked: &RoleArn,
    caller: &Caller,
    directory: &Directory,
    facts: Facts<'_>,
    actions: &[&'static str],
) -> Result<Vec<Ancestor>, Box<Denied>> {
    // From here on it lives no longer than the role.
    let mut facts: Facts<'_> = facts;
    facts
        .keys
        .set("aws:resourceaccount", asked.account().to_string());
    facts.resource_tags(&role.tags, true);
    let found = *role.arn == *asked.as_str();
    let question = |action| Question {
        resource_account: asked.account(),
        trust: Some(&role.trust),
        ..Question::own(caller, directory, &facts, action, asked.as_str())
    };
    for action in actions {
        let question = question(action);
        // What is not there is judged all the same, and takes as long.
        let decision = question.decide();
        if !decision.is_allowed() || !found {
            return Err(question.denied(decision));
        }
    }
    // A session that policies cut does not come back to its role, by itself or by another, without
    // them; nor does it go anywhere that they do not name.
    let lineage = caller.lineage();
    let question = question("sts:AssumeRole");
    let note = if lineage.iter().any(|a| a.restricted && *a.arn == *role.arn) {
        "A session that session policies cut does not come back to its role without them."
    } else if !question.is_within_session_policies() {
        "The calling session's own session policies do not allow it."
    } else {
        return Ok(lineage);
    };
    Err(Box::new(Denied::because(
        question.action.to_owned(),
        &facts,
        note,
    )))
}

/// Leave for a user's own session. It needs no permission (IAM User Guide, "Permissions for
/// GetSessionToken"); an explicit deny refuses it all the same.
///
/// # Errors
/// When a policy denies it, or the caller is no user with a long-term key.
pub fn own_session<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
) -> Result<Grant<'c>, Box<Denied>> {
    let user = may_have_session(caller, directory, facts)?;
    let lineage = caller.lineage();
    Ok(Grant {
        to: Bearer::User(user.clone()),
        lineage,
        web_identity: None,
        caller: PhantomData,
    })
}

/// Whether [`own_session`] would decide so if what is supposed were proven.
///
/// # Errors
/// As [`own_session`].
pub fn would_have_session(
    caller: &Caller,
    directory: &Directory,
    facts: &Supposed<'_>,
) -> Result<(), Box<Denied>> {
    may_have_session(caller, directory, &facts.0).map(drop)
}

fn may_have_session<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
) -> Result<&'c Arc<User>, Box<Denied>> {
    let question = Question::own(caller, directory, facts, "sts:GetSessionToken", "*");
    let decision = question.decide();
    match &caller.identity {
        Identity::User(user) if decision.outcome != Outcome::ExplicitlyDenied => Ok(user),
        _ => Err(question.denied(decision)),
    }
}

/// Leave for somebody whom a user vouches for: every action must be allowed on the federated user.
///
/// # Errors
/// The first action that is not allowed.
pub fn vouch<'c>(
    caller: &'c Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    federated_user: &str,
    actions: &[&'static str],
) -> Result<Grant<'c>, Box<Denied>> {
    for action in actions {
        permit(caller, directory, facts, action, federated_user)?;
    }
    match &caller.identity {
        Identity::User(user) => {
            let lineage = caller.lineage();
            Ok(Grant {
                to: Bearer::FederatedUser(user.clone()),
                lineage,
                web_identity: None,
                caller: PhantomData,
            })
        }
        _ => {
            let note = "Temporary credentials do not vouch for anybody.";
            Err(Box::new(Denied::because(
                "sts:GetFederationToken".to_owned(),
                facts,
                note,
            )))
        }
    }
}

/// Decides whether the caller's own policies allow an action of this service.
///
/// # Errors
/// When they do not.
pub fn permit(
    caller: &Caller,
    directory: &Directory,
    facts: &Facts<'_>,
    action: &str,
    resource: &str,
) -> Result<(), Box<Denied>> {
    let question = Question::own(caller, directory, facts, action, resource);
    let decision = question.decide();
    if decision.is_allowed() {
        Ok(())
    } else {
        Err(question.denied(decision))
    }
}

/// What the audit says of a refusal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Audited {
    decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<usize>,
}

impl Denied {
    /// Which kind of policy and which statement decided, for the audit.
    pub fn audited(&self) -> Option<Box<RawValue>> {
        let by = self.decision.by;
        let audited = Audited {
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
        serde_json::value::to_raw_value(&audited).ok()
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
        let caller = Caller {
            identity: Identity::User(user),
            access_key_id: "AKIA".into(),
            effective,
        };
        let origin = Origin {
            source_ip: [127, 0, 0, 1].into(),
            secure_transport: true,
            user_agent: Some("x".into()),
            referer: Some("https://example.com/".into()),
            call: None,
        };
        let tags = [Tag {
            key: "Team".into(),
            value: "blue".into(),
        }];
        let request = SessionRequest {
            role_session_name: Some("s"),
            external_id: Some("x"),
            source_identity: Some("y"),
            tags: &tags,
            transitive_tag_keys: &["Team".to_owned()],
            role_authorized_by_idp: Some(true),
        };
        let mut facts = Facts::new(&caller, &origin, "us-east-1", Timestamp::from_seconds(0))
            .session(&request)
            .mfa(1);
        facts.resource_tags(&tags, true);
        let unknown: Vec<&str> = facts
            .keys
            .names()
            .filter(|n| {
                keys::find(n).is_none_or(|k| matches!(k.presence, keys::Presence::Never(_)))
            })
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(
            facts.keys.names().count() >= 25,
            "{:?}",
            facts.keys.names().collect::<Vec<_>>()
        );
    }
}
