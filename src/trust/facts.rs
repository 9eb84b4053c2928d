//! The condition keys of a request, by which conditions in policies are evaluated.

use std::borrow::Cow;

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::names::Tag;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Member};
use crate::evaluator::{RequestContext, Value, keys};
use crate::federation::FederatedIdentity;
use crate::mfa::{Code, Proven};
use crate::origin::Origin;
use crate::proof::jwt::Flat;
use crate::session::packing::TagClaim;

/// The condition keys of a request. Each key is described in [`crate::evaluator::keys`], which says when
/// it is present.
#[derive(Clone)]
pub struct Facts<'a> {
    pub(super) keys: RequestContext<'a>,
    /// The calling session's tags, some of which may be transitive.
    pub(super) session_tags: &'a [TagClaim],
}

impl<'a> Facts<'a> {
    /// Sets the condition keys that describe a request to the broker and its caller: IAM User Guide, "AWS global
    /// condition context keys".
    pub fn new(
        caller: &'a Caller,
        directory: &'a Directory,
        origin: &'a Origin,
        region: &'a str,
        now: Timestamp,
    ) -> Self {
        Self::about(of_request(origin, region, now), caller, directory, now)
    }

    /// Sets the condition keys of a request that the caller makes to another service. The broker knows the principal
    /// and the time, but nothing about the connection.
    pub fn elsewhere(caller: &'a Caller, directory: &'a Directory, now: Timestamp) -> Self {
        Self::about(of_moment(now), caller, directory, now)
    }

    /// Adds the condition keys that describe the caller.
    fn about(
        mut keys: RequestContext<'a>,
        caller: &'a Caller,
        directory: &'a Directory,
        now: Timestamp,
    ) -> Self {
        // This is the caller's account unless the requested resource belongs to another one: see
        // `admit`.
        keys.set("aws:resourceaccount", caller.account_ref().as_str());
        let member = directory.member(caller.account());
        if caller.federated().is_none() {
            keys.set("aws:principalaccount", caller.account_ref().as_str());
            keys.set("aws:userid", caller.user_id());
            keys.set("aws:principalisawsservice", "false");
        }
        for (key, value) in caller.tags() {
            keys.set(format!("aws:principaltag/{key}"), value);
        }
        identify(&mut keys, caller);
        describe_session(&mut keys, caller);
        let session_tags = caller
            .session()
            .map(|s| s.limits.tags.as_slice())
            .unwrap_or_default();
        let mut facts = Self { keys, session_tags }.transitive_tag_keys(&[]);
        facts.principal_organization(member.filter(|_| caller.federated().is_none()));
        facts.resource_organization(member);
        match caller.mfa_age(now) {
            Some(age) => facts.mfa(age),
            None => facts,
        }
    }

    /// Sets the condition keys of a request in which a service of AWS assumes a role for a workload of the
    /// caller's account: IAM User Guide, "AWS global condition context keys", "Properties of the
    /// principal" and "Properties of the request".
    pub fn of_service(
        service: &'a ServicePrincipal,
        caller: &'a Caller,
        directory: &'a Directory,
        origin: &'a Origin,
        region: &'a str,
        now: Timestamp,
    ) -> Self {
        let mut keys = of_request(origin, region, now);
        keys.set("aws:principalisawsservice", "true");
        keys.set("aws:principalservicename", service.name);
        keys.set_many(
            "aws:principalservicenameslist",
            vec![Cow::from(service.name)],
        );
        keys.set("aws:sourcearn", service.source_arn.as_str());
        keys.set("aws:sourceaccount", caller.account().to_string());
        if let Some(member) = directory.member(caller.account()) {
            keys.set("aws:sourceorgid", &*member.organization);
            keys.set_many("aws:sourceorgpaths", vec![Cow::from(&*member.path)]);
        }
        Self {
            keys,
            session_tags: &[],
        }
    }

    /// Sets the condition keys of a request without credentials: IAM User Guide, "IAM policy elements:
    /// Variables and tags", "Principal key values".
    pub fn of_nobody(origin: &'a Origin, region: &'a str, now: Timestamp) -> Self {
        let mut keys = of_request(origin, region, now);
        keys.set("aws:principaltype", "Anonymous");
        keys.set("aws:userid", "anonymous");
        Self {
            keys,
            session_tags: &[],
        }
    }

    /// Sets the account that owns the requested bucket, and its organization.
    pub fn of_bucket(&mut self, owner: AccountId, member: Option<&'a Member>) {
        self.keys.set("aws:resourceaccount", owner.to_string());
        self.keys.set("s3:resourceaccount", owner.to_string());
        self.resource_organization(member);
    }

    /// Sets a condition key of Amazon S3. `name` must be in lower case.
    pub fn s3(&mut self, name: impl Into<Cow<'a, str>>, value: Value<'a>) {
        match value {
            Value::One(value) => self.keys.set(name, value),
            Value::Many(values) => self.keys.set_many(name, values),
        }
    }

    /// Removes a condition key, so that the facts can be used for another action of the same request.
    pub fn without(&mut self, name: &str) {
        self.keys.remove(name);
    }

    /// Declares condition keys that the request may have, but whose values the broker does not know.
    pub fn unknown(&mut self, names: &'static [&'static str]) {
        self.keys.set_unknown(names);
    }

    /// Sets `sts:TransitiveTagKeys` to the requested keys and the keys of the calling session's transitive tags, since
    /// the new session inherits these tags in any case.
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

    /// Records that an MFA code was given with this request.
    #[must_use]
    pub fn proven(self, _: &Proven) -> Self {
        self.mfa(0)
    }

    /// Returns the facts under the assumption that the MFA code is valid, although it was not checked yet.
    pub fn supposing(self, _: &Code) -> Supposed<'a> {
        Supposed(self.mfa(0))
    }

    fn mfa(mut self, age_seconds: i64) -> Self {
        self.keys.set("aws:multifactorauthpresent", "true");
        self.keys
            .set("aws:multifactorauthage", age_seconds.to_string());
        self
    }

    /// Adds the condition keys of a request for a session, such as `sts:ExternalId` and `aws:RequestTag/…`.
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

    /// Adds the condition keys for the claims of a provider's token or assertion.
    #[must_use]
    pub fn federated(mut self, identity: &'a FederatedIdentity) -> Self {
        for (key, value) in &identity.keys {
            set_claim(&mut self.keys, key.as_str(), value);
        }
        self
    }

    /// Adds the condition keys of a request for a web identity token.
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

    /// Sets the organization of the principal's account, if it belongs to one.
    pub(super) fn principal_organization(&mut self, member: Option<&'a Member>) {
        if let Some(member) = member {
            self.keys.set("aws:principalorgid", &*member.organization);
            let paths = vec![Cow::from(&*member.path)];
            self.keys.set_many("aws:principalorgpaths", paths);
        }
    }

    /// Sets the organization of the account that owns the requested resource; `None` if it belongs to
    /// none.
    pub(super) fn resource_organization(&mut self, member: Option<&'a Member>) {
        match member {
            Some(member) => {
                self.keys.set("aws:resourceorgid", &*member.organization);
                let paths = vec![Cow::from(&*member.path)];
                self.keys.set_many("aws:resourceorgpaths", paths);
            }
            None => {
                self.keys.remove("aws:resourceorgid");
                self.keys.remove("aws:resourceorgpaths");
            }
        }
    }

    /// Adds the tags of the requested resource. `iam:ResourceTag` applies only to users and roles.
    pub fn resource_tags(&mut self, tags: &'a [Tag], of_user_or_role: bool) {
        let tags = tags
            .iter()
            .map(|tag| (tag.key.as_str(), tag.value.as_str()));
        self.keys.set_resource_tags(tags, of_user_or_role);
    }

    /// Adds the condition keys that a service has reported about a request to it. The caller must have checked that the
    /// service may set these keys.
    pub(super) fn said_by_service(&mut self, keys: &'a [(String, Vec<String>)]) {
        for (name, values) in keys {
            let many = keys::find(name).is_some_and(|key| key.multivalued);
            match values.as_slice() {
                [value] if !many => self.keys.set(name.as_str(), value.as_str()),
                values => self.keys.set_many(
                    name.as_str(),
                    values.iter().map(|v| Cow::from(v.as_str())).collect(),
                ),
            }
        }
    }

    /// Adds condition keys of an IAM action, and the keys of the tags that the action removes.
    pub fn iam(&mut self, keys: &[(&'static str, &'a str)], untagged: &'a [String]) {
        for (key, value) in keys {
            self.keys.set(*key, *value);
        }
        if !untagged.is_empty() {
            let keys = untagged.iter().map(|key| Cow::from(key.as_str()));
            self.keys.set_many("aws:tagkeys", keys.collect());
        }
    }
}

/// A service of AWS that assumes a role for a workload. Trust policies that were imported from AWS name such services
/// as principals.
pub struct ServicePrincipal {
    /// The name of the service, such as `ec2.amazonaws.com`.
    pub name: &'static str,
    /// The ARN of the workload, or of the cluster that it runs in.
    pub source_arn: String,
}

/// The condition keys that depend on the request but not on its principal.
fn of_request<'a>(origin: &'a Origin, region: &'a str, now: Timestamp) -> RequestContext<'a> {
    let mut keys = of_moment(now);
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
    keys
}

/// The condition keys that depend on nothing but the time, or have the same value in every request.
fn of_moment<'a>(now: Timestamp) -> RequestContext<'a> {
    let mut keys = RequestContext::new();
    keys.set("aws:currenttime", now.to_string());
    keys.set("aws:epochtime", now.seconds().to_string());
    keys.set("aws:viaawsservice", "false");
    keys.set("aws:viaawsmcpservice", "false");
    keys
}

/// Facts that contain an unproven assumption. They serve to find out whether a caller would be refused even if the
/// assumption were true. No [`super::Grant`] can be made from them.
pub struct Supposed<'a>(pub(super) Facts<'a>);

/// Sets a key to the value of a claim. A list is multivalued, even if it has one member.
fn set_claim<'a>(keys: &mut RequestContext<'a>, name: impl Into<Cow<'a, str>>, value: &'a Flat) {
    match value {
        Flat::One(text) => keys.set(name, text.as_str()),
        Flat::Many(texts) => {
            keys.set_many(name, texts.iter().map(|t| Cow::from(t.as_str())).collect())
        }
    }
}

/// The parts of a request for a session that become condition keys.
#[derive(Default)]
pub struct SessionRequest<'a> {
    pub role_session_name: Option<&'a str>,
    pub external_id: Option<&'a str>,
    pub source_identity: Option<&'a str>,
    pub tags: &'a [Tag],
    pub transitive_tag_keys: &'a [String],
    pub role_authorized_by_idp: Option<bool>,
}

fn identify<'a>(keys: &mut RequestContext<'a>, caller: &'a Caller) {
    match &caller.identity {
        Identity::User(user) | Identity::UserSession { user, .. } => {
            keys.set("aws:principaltype", "User");
            keys.set("aws:principalarn", &*user.arn);
            keys.set("aws:username", &*user.name);
        }
        Identity::RoleSession { role, session } => {
            keys.set("aws:principaltype", "AssumedRole");
            // For a session, this is the ARN of its role.
            keys.set("aws:principalarn", &*role.arn);
            if let Some(vouched) = &session.vouched {
                keys.set("aws:federatedprovider", vouched.provider_arn.as_str());
                for (key, value) in &vouched.keys {
                    set_claim(keys, key.as_str(), value);
                }
            }
        }
        Identity::FederatedUser { session, .. } => {
            keys.set("aws:principaltype", "FederatedUser");
            keys.set("aws:principalarn", session.arn.as_str());
        }
        Identity::Federated(identity) => keys.set("aws:federatedprovider", &*identity.provider_arn),
    }
}

/// Sets the condition keys of the caller's session, if the caller has one. A user who signed in has the same keys as a
/// user with a session of their own.
fn describe_session<'a>(keys: &mut RequestContext<'a>, caller: &'a Caller) {
    if let (Some(_), Some(sign_in)) = (caller.user(), &caller.sign_in) {
        keys.set("aws:tokenissuetime", sign_in.at.to_string());
        keys.set("aws:multifactorauthpresent", "false");
    }
    if let Some(session) = caller.session() {
        keys.set(
            "aws:tokenissuetime",
            Timestamp::from_seconds(session.claims.issued_at).to_string(),
        );
        // With long-term keys this key is absent, not false.
        keys.set("aws:multifactorauthpresent", "false");
        if !session.claims.source_identity.is_empty() {
            keys.set(
                "aws:sourceidentity",
                session.claims.source_identity.as_str(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_stands_in_the_table_of_keys() {
        let declaration = serde_json::json!({"UserDetailList": [{"Path": "/", "UserName": "alice",
            "UserId": "AIDAALICEALICEALICE1", "Arn": "arn:aws:iam::111122223333:user/alice",
            "Tags": [{"Key": "Team", "Value": "blue"}]}],
            "Brevet": {"Organization": {"Id": "o-exampleorgid", "MasterAccountId": "111122223333",
                "Roots": [{"Id": "r-exam"}], "Accounts": [{"Id": "111122223333", "ParentId": "r-exam"}]}}});
        let directory = Directory::compile(declaration.to_string().as_bytes(), None).unwrap();
        let user = directory.users().next().unwrap().clone();
        let effective = directory.effective_of_user(&user).unwrap();
        let caller = Caller {
            identity: Identity::User(user),
            access_key_id: "AKIA".into(),
            effective,
            sign_in: None,
        };
        let origin = Origin {
            source_ip: [127, 0, 0, 1].into(),
            secure_transport: true,
            user_agent: Some("x".into()),
            referer: Some("https://example.com/".into()),
            certificate: None,
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
        let mut facts = Facts::new(
            &caller,
            &directory,
            &origin,
            "us-east-1",
            Timestamp::from_seconds(0),
        )
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
            facts.keys.names().count() >= 29,
            "{:?}",
            facts.keys.names().collect::<Vec<_>>()
        );
    }
}
