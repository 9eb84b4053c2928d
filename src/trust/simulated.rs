//! Simulates requests of a principal: computes the broker's decision without a real request.

use std::borrow::Cow;
use std::sync::Arc;

use super::facts::Facts;
use super::question::{InForce, Question};
use crate::base::arn::{AccountId, IamArn, account_of};
use crate::base::clock::Timestamp;
use crate::base::names::Tag;
use crate::directory::{Dangling, Directory, Effective, Organization, Role};
use crate::evaluator::{
    self, Explanation, Policies, PolicyKind, Possibility, Principal, Request, RequestContext,
    Simulation, keys,
};

/// A user, a group or a role as the principal of simulated requests.
#[derive(Debug, Clone)]
pub struct SimulatedPrincipal {
    /// The account to which the principal belongs.
    pub account: AccountId,
    /// The ARN of the user, group or role.
    pub arn: String,
    kind: Kind,
    name: String,
    /// The unique id; `None` if it is not known.
    pub id: Option<String>,
    /// The tags; empty if they are not known.
    pub tags: Vec<Tag>,
    /// The id of the organization of the principal's account, and the path of the account in it, if they are known.
    pub organization: Option<(String, String)>,
    /// The ARN of a session, for a role. Its session name is empty, so no policy can name the session.
    session_arn: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Role,
    /// A group. It cannot make requests, but its policies can be simulated.
    Group,
}

impl SimulatedPrincipal {
    /// Makes a principal from the ARN of a user, group or role, without its unique id, tags and organization. `None`
    /// for any other text.
    pub fn of(text: &str) -> Option<Self> {
        let arn = IamArn::parse(text)?;
        let kind = match arn.kind {
            "user" => Kind::User,
            "role" => Kind::Role,
            "group" => Kind::Group,
            _ => return None,
        };
        Some(Self {
            account: arn.account,
            arn: text.to_owned(),
            kind,
            name: arn.name.to_owned(),
            id: None,
            tags: Vec::new(),
            organization: None,
            session_arn: format!("arn:aws:sts::{}:assumed-role/{}/", arn.account, arn.name),
        })
    }

    /// Whether policies can name this user or role as their principal; `false` for a group.
    pub fn is_principal(&self) -> bool {
        self.kind != Kind::Group
    }

    /// The principal in the form in which policies are evaluated for it.
    pub fn principal(&self) -> Principal<'_> {
        let account = self.account.as_str();
        match self.kind {
            Kind::Role => Principal::RoleSession {
                account,
                role: &self.name,
                role_arn: Some(&self.arn),
                arn: &self.session_arn,
                id: self.id.as_deref(),
            },
            Kind::User | Kind::Group => Principal::User {
                account,
                arn: &self.arn,
                id: self.id.as_deref(),
            },
        }
    }

    /// Sets the condition keys that describe the principal, as far as they are known; for a group, only those of its
    /// account.
    pub fn describe<'a>(&'a self, context: &mut RequestContext<'a>) {
        context.set("aws:principalaccount", self.account.as_str());
        if let Some((id, path)) = &self.organization {
            context.set("aws:principalorgid", id.as_str());
            context.set_many("aws:principalorgpaths", vec![path.as_str().into()]);
        }
        let r#type = match self.kind {
            Kind::Group => return,
            Kind::Role => "AssumedRole",
            Kind::User => {
                context.set("aws:username", self.name.as_str());
                if let Some(id) = &self.id {
                    context.set("aws:userid", id.as_str());
                }
                "User"
            }
        };
        context.set("aws:principaltype", r#type);
        context.set("aws:principalarn", self.arn.as_str());
        for tag in &self.tags {
            context.set(format!("aws:principaltag/{}", tag.key), tag.value.as_str());
        }
    }

    /// Whether requests of this principal can have different values for a key that [`Self::describe`] has not set.
    /// `key` must be in lower case.
    fn leaves_open(&self, key: &str) -> bool {
        const KNOWN: &[&str] = &[
            "aws:principalarn",
            "aws:principalaccount",
            "aws:principaltype",
            "aws:username",
            "aws:resourceaccount",
            "aws:viaawsservice",
            "aws:viaawsmcpservice",
            "aws:principalisawsservice",
            "aws:currenttime",
            "aws:epochtime",
            "aws:principalorgid",
            "aws:principalorgpaths",
            "aws:resourceorgid",
            "aws:resourceorgpaths",
        ];
        let of_resource = ["aws:resourcetag/", "iam:resourcetag/"];
        if keys::why_absent(key, PolicyKind::Trust).is_some()
            || KNOWN.contains(&key)
            || of_resource.iter().any(|family| key.starts_with(family))
        {
            return false;
        }
        let of_provider = keys::find(key)
            .is_some_and(|key| matches!(key.source, keys::Source::Oidc | keys::Source::Saml));
        // A session of a role may have tags of its own and the claims of a provider, and it has an id
        // of its own. A user has none of these.
        self.kind == Kind::Role
            || !(of_provider || key == "aws:userid" || key.starts_with("aws:principaltag/"))
    }
}

/// Sets the condition keys that are the same for every request at this time to resources of this account.
pub fn describe_request<'a>(
    context: &mut RequestContext<'a>,
    resource_account: impl Into<Cow<'a, str>>,
    now: Timestamp,
) {
    context.set("aws:currenttime", now.to_string());
    context.set("aws:epochtime", now.seconds().to_string());
    context.set("aws:viaawsservice", "false");
    context.set("aws:viaawsmcpservice", "false");
    context.set("aws:principalisawsservice", "false");
    context.set("aws:resourceaccount", resource_account);
}

/// A request that a user or role of the directory might make. The decision takes into account the trust policy of a
/// requested role, boundaries, control policies and tags, but no session policies.
pub struct WhatIf<'a> {
    principal: SimulatedPrincipal,
    effective: Effective,
    /// The role that the request asks for, whose trust policy is part of the decision; `None` if the request asks for
    /// no role.
    role: Option<Arc<Role>>,
    /// The organization, whose control policies are part of the decision; `None` if there is none.
    organization: Option<Arc<Organization>>,
    /// The tags of the requested resource, if it is a role or a user of the directory.
    tags: Vec<Tag>,
    action: &'a str,
    resource: &'a str,
    resource_account: AccountId,
    /// The condition keys that the request is supposed to have, with their values.
    keys: &'a [(String, Vec<String>)],
    now: Timestamp,
}

impl<'a> WhatIf<'a> {
    /// A request of the user or role with the ARN `principal`. `None` if the directory has no such user or role.
    ///
    /// # Errors
    /// [`Dangling`] if a policy or group to which the user or role refers is missing.
    pub fn new(
        directory: &Directory,
        principal: &str,
        action: &'a str,
        resource: &'a str,
        keys: &'a [(String, Vec<String>)],
        now: Timestamp,
    ) -> Result<Option<Self>, Dangling> {
        let Some(mut simulated) = SimulatedPrincipal::of(principal) else {
            return Ok(None);
        };
        let effective = match (directory.user(principal), directory.role(principal)) {
            (Some(user), _) => {
                simulated.id = Some(user.id.to_string());
                simulated.tags = user.tags.to_vec();
                directory.effective_of_user(user)?
            }
            (None, Some(role)) => {
                simulated.id = Some(role.id.to_string());
                simulated.tags = role.tags.to_vec();
                directory.effective_of_role(role)?
            }
            (None, None) => return Ok(None),
        };
        let assumes = action.to_ascii_lowercase().starts_with("sts:assumerole");
        let asked = directory.role(resource);
        let tags = match (asked, directory.user(resource)) {
            (Some(role), _) => role.tags.to_vec(),
            (None, Some(user)) => user.tags.to_vec(),
            (None, None) => Vec::new(),
        };
        let owner = AccountId::parse(account_of(resource));
        Ok(Some(Self {
            effective,
            role: asked.filter(|_| assumes).cloned(),
            organization: directory.organization().cloned(),
            tags,
            action,
            resource,
            resource_account: owner.unwrap_or(simulated.account),
            principal: simulated,
            keys,
            now,
        }))
    }

    /// The decision and the policies that led to it, and the effect of each statement.
    pub fn explain(&self) -> (Simulation, Explanation) {
        self.ask(|request, policies| {
            (
                evaluator::simulate(request, policies),
                evaluator::explain(request, policies),
            )
        })
    }

    /// Whether the request is allowed always, never, or depending on condition keys that are not in `keys` but that
    /// requests of the principal can have.
    pub fn possible(&self) -> Possibility {
        let supposed = |key: &str| {
            self.keys
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(key))
        };
        let unknown = |key: &str| !supposed(key) && self.principal.leaves_open(key);
        self.ask(|request, policies| evaluator::possible(request, policies, &unknown))
    }

    fn ask<T>(&self, answer: impl FnOnce(&Request<'_>, &Policies<'_>) -> T) -> T {
        let mut facts = Facts {
            keys: RequestContext::new(),
            session_tags: &[],
        };
        describe_request(&mut facts.keys, self.resource_account.as_str(), self.now);
        self.principal.describe(&mut facts.keys);
        let member = |account| self.organization.as_ref()?.member(account);
        let principal_member = member(self.principal.account);
        let resource_member = member(self.resource_account);
        facts.principal_organization(principal_member);
        facts.resource_organization(resource_member);
        facts.said_by_service(self.keys);
        let of_user_or_role =
            IamArn::parse(self.resource).is_some_and(|arn| ["user", "role"].contains(&arn.kind));
        facts.resource_tags(&self.tags, of_user_or_role);
        let question = Question {
            principal: self.principal.principal(),
            account: self.principal.account,
            identity: self.effective.identity.iter().map(Arc::as_ref).collect(),
            boundary: self.effective.boundary.as_deref(),
            session: InForce::default(),
            context: &facts.keys,
            action: self.action,
            resource: self.resource,
            resource_account: self.resource_account,
            trust: self.role.as_ref().map(|role| &role.trust),
            principal_member,
            resource_member,
        };
        question.ask(answer)
    }
}
