//! AssumeRole: issues a session of a role to an authenticated caller. STS API Reference,
//! "AssumeRole".

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::seen::Seen;
use super::session_input::{
    self, AnsweredCredentials, AnsweredRoleUser, AuditTag, audited_credentials, audited_role_user,
    audited_tags, check_policy_arns, check_session_policy, required,
};
use crate::audit::Digest;
use crate::base::arn::RoleArn;
use crate::base::field::FieldError;
use crate::base::names::{self, ExternalId, MAX_TAGS, RoleSessionName, SourceIdentity, Tag};
use crate::budgets::CountedAs;
use crate::caller::Caller;
use crate::directory::Role;
use crate::error::Error;
use crate::mfa::{Code, Proven};
use crate::mint::{self, Credentials, SessionDetails};
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::session::durations;
use crate::session::packing::{self, Limits, TagClaim};
use crate::session::token::Claims;
use crate::tokens::OpenedSession;
use crate::trust::{self, Denied, Facts, Grant, SessionRequest};

/// The maximum number of sessions in a chain. The session token names every principal of its chain, so that revoking
/// one session of the chain also ends all that follow.
pub(super) const MAX_CHAIN: usize = 10;

/// The parameters as the caller sent them, before any check. AWS documents the fields.
#[derive(Default)]
pub struct AssumeRoleInput {
    pub role_arn: Option<String>,
    pub role_session_name: Option<String>,
    pub policy_arns: Vec<String>,
    pub policy: Option<String>,
    pub duration_seconds: Option<i64>,
    pub tags: Vec<Tag>,
    pub transitive_tag_keys: Vec<String>,
    pub external_id: Option<String>,
    pub serial_number: Option<String>,
    pub token_code: Option<String>,
    pub source_identity: Option<String>,
    /// Whether the request has `ProvidedContexts`, which Brevet does not support.
    pub provided_contexts: bool,
}

/// A call of AssumeRole whose parameters have been checked.
pub struct AssumeRole {
    role_arn: RoleArn,
    role_session_name: RoleSessionName,
    policy_arns: Vec<String>,
    policy: Option<String>,
    duration: Option<Duration>,
    tags: Vec<Tag>,
    transitive_tag_keys: Vec<String>,
    external_id: Option<ExternalId>,
    mfa: Option<Code>,
    source_identity: Option<SourceIdentity>,
}

pub struct AssumeRoleOutput {
    /// The temporary credentials. No other call returns them again.
    pub credentials: Credentials,
    /// The role's unique id and the session's name, `AROA…:SESSION`.
    pub assumed_role_id: String,
    pub arn: String,
    /// The size of the packed session policies and tags, in percent of the limit.
    pub packed_policy_size: u64,
    /// The source identity of the new session; empty if it has none.
    pub source_identity: String,
}

impl AssumeRole {
    /// Checks the form of each parameter, which needs no directory.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(input: AssumeRoleInput) -> Result<Self, Error> {
        let role_arn = RoleArn::from_owned("RoleArn", required("RoleArn", input.role_arn)?)?;
        let name = required("RoleSessionName", input.role_session_name)?;
        let external_id = input
            .external_id
            .map(|id| ExternalId::parse("ExternalId", &id))
            .transpose()?;
        let source_identity = input
            .source_identity
            .map(|id| SourceIdentity::parse("SourceIdentity", &id))
            .transpose()?;
        if input.provided_contexts {
            let rule = "must be left out, because Brevet does not support context assertions";
            return Err(FieldError::new("ProvidedContexts", rule).into());
        }
        Ok(Self {
            role_arn,
            role_session_name: RoleSessionName::from_owned("RoleSessionName", name)?,
            policy_arns: session_input::policy_arns(input.policy_arns)?,
            policy: input
                .policy
                .map(session_input::session_policy)
                .transpose()?,
            duration: input.duration_seconds.map(durations::bounded).transpose()?,
            transitive_tag_keys: transitive_keys(input.transitive_tag_keys, &input.tags)?,
            tags: names::tags(input.tags)?,
            external_id,
            mfa: session_input::mfa(input.serial_number, input.token_code)?,
            source_identity,
        })
    }
}

impl Operation for AssumeRole {
    const NAME: &'static str = "AssumeRole";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const HANDS_OUT: bool = true;
    type Output = AssumeRoleOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            role_arn: self.role_arn.as_str(),
            role_session_name: self.role_session_name.as_str(),
            duration_seconds: self.duration.map(|d| d.as_secs()),
            external_id: self.external_id.as_ref().map(ExternalId::as_str),
            source_identity: self.source_identity.as_ref().map(SourceIdentity::as_str),
            policy: self.policy.as_deref().map(Digest::of),
            policy_arns: &self.policy_arns,
            serial_number: self.mfa.as_ref().and_then(Code::serial_number),
            tags: audited_tags(&self.tags),
            transitive_tag_keys: &self.transitive_tag_keys,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<AssumeRoleOutput, Error> {
        if cx.caller().depth() > MAX_CHAIN {
            return Err(Error::Malformed(format!(
                "A chain of sessions may have at most {MAX_CHAIN} sessions, and the calling session is at the \
                 end of such a chain."
            )));
        }
        // Both depend only on the caller's session token, so they cannot change during a wait.
        let source_identity = InForce::of(self.source_identity.as_ref(), cx.caller().session());
        let inherited = inherited_tags(cx.caller().session());
        let is_tagged = !self.tags.is_empty() || !inherited.is_empty();
        let actions = actions(is_tagged, source_identity != InForce::Nobody);

        let mut proven = None;
        if let Some(code) = &self.mfa {
            // A caller that would be refused even with a valid code is refused before the store is
            // asked.
            if let Err(denied) = self.foresee(cx, code, &source_identity, actions) {
                return Err(cx.refuse(&denied, self.role_arn.as_str()));
            }
            // The code is spent before the decision, which may require it, and stays spent whatever
            // the decision is.
            proven = Some(cx.prove(code).await?);
        }
        let role = self.role(cx);
        let grant = match self.decide(cx, &role, proven.as_ref(), &source_identity, actions) {
            Ok(grant) => grant,
            Err(denied) => return Err(cx.refuse(&denied, self.role_arn.as_str())),
        };
        if source_identity == InForce::Changed {
            let note = "A source identity cannot be changed once it is set in a chain of sessions.";
            return Err(cx.refuse_because("sts:SetSourceIdentity", self.role_arn.as_str(), note));
        }

        let chained = cx.caller().session().is_some();
        let term = durations::role_session(self.duration, role.max_session, chained)?;
        let term = not_beyond(cx, term, self.duration.is_some())?;
        check_policy_arns(cx, &self.policy_arns, role.account)?;
        let tags = session_tags(self.tags, &self.transitive_tag_keys, inherited)?;
        let mut limits = Limits {
            tags,
            policy: self.policy.unwrap_or_default(),
            policy_arns: self.policy_arns,
            scope_down: Vec::new(),
        };
        check_session_policy(cx, &limits.policy)?;
        let packed = packing::pack(&mut limits)?;
        let packed_policy_size = packed.percent;
        let details = SessionDetails {
            session_name: self.role_session_name.into_text(),
            source_identity: source_identity.into_text(),
            tags: limits.tags,
            packed,
            // An MFA code proves something about the caller, not about the role session: IAM User
            // Guide, "Configuring MFA-protected API access".
            mfa: None,
        };
        let account = role.account;
        let session = cx.issue(grant, term, details).await?;
        cx.answered(&answered(&session, packed_policy_size), account);
        Ok(AssumeRoleOutput {
            credentials: session.credentials,
            assumed_role_id: session.user_id,
            arn: session.arn,
            packed_policy_size,
            source_identity: session.record.source_identity,
        })
    }
}

/// Limits the duration of a session that is assumed with a narrowed session, which it must not
/// outlast. A requested duration that is too long is refused; the default duration is shortened.
fn not_beyond(cx: &Context<'_>, term: Duration, is_asked: bool) -> Result<Duration, Error> {
    let claims = cx.caller().session().map(|session| &session.claims);
    let Some(end) = claims.and_then(Claims::outlasted_by_none) else {
        return Ok(term);
    };
    let left = end.saturating_sub(cx.now.whole_second().seconds()).max(0);
    let remaining = Duration::from_secs(left.unsigned_abs());
    match (term > remaining, is_asked) {
        (true, true) => Err(Error::InsufficientSessionLifetime(left)),
        (true, false) => Ok(remaining),
        (false, _) => Ok(term),
    }
}

impl AssumeRole {
    /// Returns the role from the directory, or a decoy role that trusts nobody, so that a missing
    /// role is refused like any other.
    fn role(&self, cx: &Context<'_>) -> Arc<Role> {
        cx.directory
            .role(self.role_arn.as_str())
            .unwrap_or_else(|| cx.directory.decoy())
            .clone()
    }

    /// Decides whether the caller may assume the role now, given the proof of its MFA code.
    fn decide<'c>(
        &self,
        cx: &'c Context<'_>,
        role: &Arc<Role>,
        proven: Option<&Proven>,
        source_identity: &InForce,
        actions: &[&'static str],
    ) -> Result<Grant<'c>, Box<Denied>> {
        let facts = self.facts(cx, source_identity);
        let facts = match proven {
            Some(proven) => facts.proven(proven),
            None => facts,
        };
        let (asked, caller) = (&self.role_arn, cx.caller());
        trust::admit(role, asked, caller, &cx.directory, facts, actions)
    }

    /// Decides whether the caller could assume the role if its MFA code were valid, before the code
    /// is checked and spent.
    fn foresee(
        &self,
        cx: &Context<'_>,
        code: &Code,
        source_identity: &InForce,
        actions: &[&'static str],
    ) -> Result<(), Box<Denied>> {
        let facts = self.facts(cx, source_identity).supposing(code);
        let (role, asked, caller) = (self.role(cx), &self.role_arn, cx.caller());
        trust::would_admit(&role, asked, caller, &cx.directory, facts, actions)
    }

    fn facts<'f>(&'f self, cx: &'f Context<'_>, source_identity: &'f InForce) -> Facts<'f> {
        cx.facts().session(&SessionRequest {
            role_session_name: Some(self.role_session_name.as_str()),
            external_id: self.external_id.as_ref().map(ExternalId::as_str),
            source_identity: source_identity.named(),
            tags: &self.tags,
            transitive_tag_keys: &self.transitive_tag_keys,
            role_authorized_by_idp: None,
        })
    }
}

/// Returns whether a user could now assume a role with its present credentials, without giving a
/// further MFA code. Does not count or record anything.
pub fn would_admit(
    caller: &Caller,
    role: &Arc<Role>,
    role_session_name: &RoleSessionName,
    seen: Seen<'_>,
) -> bool {
    let Ok(wanted) = RoleArn::parse("RoleArn", &role.arn) else {
        return false;
    };
    let facts = seen.facts(caller).session(&SessionRequest {
        role_session_name: Some(role_session_name.as_str()),
        ..SessionRequest::default()
    });
    let actions = actions(false, false);
    trust::admit(role, &wanted, caller, seen.directory, facts, actions).is_ok()
}

/// Returns the actions that policies must allow for a call. Session tags and a source identity need
/// permissions of their own.
fn actions(tags: bool, source_identity: bool) -> &'static [&'static str] {
    match (tags, source_identity) {
        (false, false) => &["sts:AssumeRole"],
        (true, false) => &["sts:AssumeRole", "sts:TagSession"],
        (false, true) => &["sts:AssumeRole", "sts:SetSourceIdentity"],
        (true, true) => &["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
    }
}

/// The source identity of the new session. Sessions inherit it along a chain, and cannot change it.
#[derive(PartialEq, Eq)]
enum InForce {
    /// Neither the caller's session nor the request has a source identity.
    Nobody,
    /// The session gets this source identity: the caller's session has it, or the request sets the
    /// first one.
    Named(String),
    /// The request names a source identity that differs from that of the caller's session, so the
    /// call is refused.
    Changed,
}

impl InForce {
    fn of(asked: Option<&SourceIdentity>, session: Option<&OpenedSession>) -> Self {
        let inherited = session.map_or("", |s| &s.claims.source_identity);
        match asked.map(SourceIdentity::as_str) {
            None if inherited.is_empty() => Self::Nobody,
            None => Self::Named(inherited.to_owned()),
            Some(asked) if inherited.is_empty() || asked == inherited => {
                Self::Named(asked.to_owned())
            }
            Some(_) => Self::Changed,
        }
    }

    /// The value of `sts:SourceIdentity` in policies; `None` also if the request tries to change
    /// it.
    fn named(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Nobody | Self::Changed => None,
        }
    }

    /// Returns the source identity for the session token; empty if there is none.
    fn into_text(self) -> String {
        match self {
            Self::Named(name) => name,
            Self::Nobody | Self::Changed => String::new(),
        }
    }
}

fn inherited_tags(session: Option<&OpenedSession>) -> Vec<TagClaim> {
    session
        .map(|s| {
            s.limits
                .tags
                .iter()
                .filter(|t| t.transitive)
                .cloned()
                .collect()
        })
        .unwrap_or_default()
}

fn session_tags(
    asked: Vec<Tag>,
    transitive: &[String],
    inherited: Vec<TagClaim>,
) -> Result<Vec<TagClaim>, Error> {
    if asked
        .iter()
        .any(|t| inherited.iter().any(|i| i.key.eq_ignore_ascii_case(&t.key)))
    {
        return Err(FieldError::new(
            "Tags",
            "must not repeat a transitive tag key of the calling session",
        )
        .into());
    }
    let asked = asked.into_iter().map(|t| {
        let transitive = transitive.iter().any(|k| k.eq_ignore_ascii_case(&t.key));
        TagClaim {
            key: t.key,
            value: t.value,
            transitive,
        }
    });
    let all: Vec<TagClaim> = inherited.into_iter().chain(asked).collect();
    if all.len() > MAX_TAGS {
        return Err(FieldError::new(
            "Tags",
            format!("must have at most {MAX_TAGS} items, including inherited tags"),
        )
        .into());
    }
    Ok(all)
}

fn transitive_keys(keys: Vec<String>, tags: &[Tag]) -> Result<Vec<String>, Error> {
    if keys.len() > MAX_TAGS {
        return Err(FieldError::new(
            "TransitiveTagKeys",
            format!("must have at most {MAX_TAGS} items"),
        )
        .into());
    }
    if keys
        .iter()
        .any(|k| !tags.iter().any(|t| t.key.eq_ignore_ascii_case(k)))
    {
        return Err(FieldError::new(
            "TransitiveTagKeys",
            "must contain only keys that occur in Tags",
        )
        .into());
    }
    Ok(keys)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    role_arn: &'a str,
    role_session_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_arns: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<AuditTag<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    transitive_tag_keys: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
    assumed_role_user: AnsweredRoleUser<'a>,
    packed_policy_size: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    source_identity: &'a str,
}

fn answered(session: &mint::Session, packed_policy_size: u64) -> Answered<'_> {
    Answered {
        credentials: audited_credentials(&session.credentials),
        assumed_role_user: audited_role_user(session),
        packed_policy_size,
        source_identity: &session.record.source_identity,
    }
}
