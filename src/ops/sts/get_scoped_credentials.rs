//! GetScopedCredentials: issues new credentials of the calling session with fewer permissions, for
//! a shorter time, or both. The identity stays the same, and every revocation of the calling
//! session also ends the new credentials. STS API Reference, "GetScopedCredentials".

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::assume_role::MAX_CHAIN;
use super::session_input::{self, AnsweredCredentials, audited_credentials, check_session_policy};
use crate::audit::Digest;
use crate::base::field::{self, FieldError};
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::mint::{Credentials, SessionDetails};
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::session::durations;
use crate::session::packing::{self, MAX_SCOPE_DOWN, ScopeDown};
use crate::session::token;
use crate::tokens::OpenedSession;
use crate::trust;

const ACTION: &str = "sts:GetScopedCredentials";
/// The maximum value of the parameter `MinimumSessionTokenSize`, in bytes.
const MAX_MIN_SIZE: i64 = 4_096;

/// The parameters as the caller sent them, before any check. AWS documents the fields.
#[derive(Default)]
pub struct GetScopedCredentialsInput {
    pub policy: Option<String>,
    pub duration_seconds: Option<i64>,
    pub minimum_session_token_size: Option<i64>,
    pub scoped_session_description: Option<String>,
}

/// A call of GetScopedCredentials whose parameters have been checked.
pub struct GetScopedCredentials {
    policy: Option<String>,
    duration: Option<Duration>,
    min_token_size: usize,
    description: Option<String>,
}

/// The narrowed credentials that GetScopedCredentials issued, as AWS's answer describes them.
pub struct GetScopedCredentialsOutput {
    /// The temporary credentials. No other call returns them again.
    pub credentials: Credentials,
    /// The `UserId` of the session, which narrowing does not change.
    pub scoped_session_id: String,
    pub arn: String,
    /// The number of scope-down policies that now limit the session, including those of earlier
    /// calls.
    pub scoped_policies_count: usize,
    /// The source identity of the session; empty if it has none.
    pub source_identity: String,
}

impl GetScopedCredentialsOutput {
    /// The length of the session token in bytes; 0 until the token is signed.
    pub fn session_token_size(&self) -> usize {
        self.credentials.session_token.expose().len()
    }

    /// The length of the session token in percent of the maximum, rounded up.
    pub fn session_token_utilization(&self) -> usize {
        (self.session_token_size() * 100).div_ceil(token::MAX_CHARACTERS)
    }
}

impl GetScopedCredentials {
    /// Checks the form of each parameter, which needs no directory.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(input: GetScopedCredentialsInput) -> Result<Self, Error> {
        if input.policy.is_none() && input.duration_seconds.is_none() {
            return Err(Error::Malformed(
                "The request must have a Policy, a DurationSeconds, or both.".to_owned(),
            ));
        }
        let size = input.minimum_session_token_size.unwrap_or(0);
        let min_token_size = usize::try_from(size)
            .ok()
            .filter(|_| size <= MAX_MIN_SIZE)
            .ok_or_else(|| {
                let rule = format!("must have value from 0 to {MAX_MIN_SIZE}");
                FieldError::new("MinimumSessionTokenSize", rule)
            })?;
        if let Some(text) = &input.scoped_session_description {
            check_description(text)?;
        }
        Ok(Self {
            policy: input
                .policy
                .map(session_input::session_policy)
                .transpose()?,
            duration: input.duration_seconds.map(durations::scoped).transpose()?,
            min_token_size,
            description: input.scoped_session_description,
        })
    }
}

fn check_description(text: &str) -> Result<(), FieldError> {
    const FIELD: &str = "ScopedSessionDescription";
    field::length(FIELD, text, 2, 256)?;
    let is_legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{a1}'..='\u{ff}');
    if text.chars().all(is_legal) {
        return Ok(());
    }
    let rule =
        r"must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*";
    Err(FieldError::new(FIELD, rule))
}

impl Operation for GetScopedCredentials {
    const NAME: &'static str = "GetScopedCredentials";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    /// Accepts all kinds of credentials here, because the action itself refuses long-term ones with
    /// AWS's own code.
    const OPEN_TO: OpenTo = OpenTo::All;
    const HANDS_OUT: bool = true;
    type Output = GetScopedCredentialsOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            policy: self.policy.as_deref().map(Digest::of),
            duration_seconds: self.duration.map(|d| d.as_secs()),
            minimum_session_token_size: Some(self.min_token_size).filter(|size| *size > 0),
            scoped_session_description: self.description.as_deref(),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<GetScopedCredentialsOutput, Error> {
        let Some(parent) = cx.caller().shared_session().cloned() else {
            return Err(Error::InvalidSubjectCredentials);
        };
        if cx.caller().depth() > MAX_CHAIN {
            return Err(Error::Malformed(format!(
                "A chain of sessions may have at most {MAX_CHAIN} sessions, and the calling session is at the \
                 end of such a chain."
            )));
        }
        let granted = trust::narrow(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            self.description.clone().unwrap_or_default(),
            self.min_token_size,
        );
        let grant = match granted {
            Ok(grant) => grant,
            Err(denied) => return Err(cx.refuse(&denied, "*")),
        };
        if self.policy.is_some() && parent.limits.scope_down.len() >= MAX_SCOPE_DOWN {
            let note = "The session has already been narrowed by three policies, which is the maximum. A call without \
                Policy can still shorten its duration.";
            return Err(cx.refuse_because(ACTION, "*", note));
        }
        let term = term(self.duration, &parent, cx.now.whole_second().seconds())?;
        let mut limits = parent.limits.clone();
        if let Some(policy) = self.policy {
            check_session_policy(cx, &policy)?;
            limits.scope_down.push(ScopeDown {
                policy,
                description: self.description.unwrap_or_default(),
            });
        }
        let packed = packing::pack(&mut limits)?;
        let details = SessionDetails {
            session_name: parent.claims.session_name.clone(),
            source_identity: parent.claims.source_identity.clone(),
            tags: limits.tags,
            packed,
            mfa: None,
        };
        let account = grant.account();
        let session = cx.issue(grant, term, details).await?;
        let output = GetScopedCredentialsOutput {
            credentials: session.credentials,
            scoped_session_id: session.user_id,
            arn: session.arn,
            scoped_policies_count: limits.scope_down.len(),
            source_identity: session.record.source_identity,
        };
        cx.answered(&Answered::of(&output), account);
        Ok(output)
    }
}

/// Returns the duration of the narrowed credentials: the requested one, or the calling session's
/// remaining time.
///
/// # Errors
/// [`Error::InsufficientSessionLifetime`] if the requested duration is longer than the remaining
/// time.
fn term(asked: Option<Duration>, parent: &OpenedSession, now: i64) -> Result<Duration, Error> {
    let left = parent.claims.expires_at.saturating_sub(now).max(0);
    let remaining = Duration::from_secs(left.unsigned_abs());
    match asked {
        Some(asked) if asked > remaining => Err(Error::InsufficientSessionLifetime(left)),
        Some(asked) => Ok(asked),
        None => Ok(remaining),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_session_token_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scoped_session_description: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
    session_info: AnsweredSession<'a>,
    scoped_policies_count: usize,
    #[serde(skip_serializing_if = "str::is_empty")]
    source_identity: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnsweredSession<'a> {
    scoped_session_id: &'a str,
    arn: &'a str,
}

impl<'a> Answered<'a> {
    fn of(output: &'a GetScopedCredentialsOutput) -> Self {
        Self {
            credentials: audited_credentials(&output.credentials),
            session_info: AnsweredSession {
                scoped_session_id: &output.scoped_session_id,
                arn: &output.arn,
            },
            scoped_policies_count: output.scoped_policies_count,
            source_identity: &output.source_identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: GetScopedCredentialsInput) -> Result<GetScopedCredentials, String> {
        GetScopedCredentials::parse(input).map_err(|error| error.to_string())
    }

    #[test]
    fn the_accepted_set_of_each_parameter_is_exact() {
        let described = |text: &str| {
            parse(GetScopedCredentialsInput {
                duration_seconds: Some(1),
                scoped_session_description: Some(text.into()),
                ..Default::default()
            })
            .is_ok()
        };
        let (long, too_long) = ("é".repeat(256), "é".repeat(257));
        assert!(described("ab") && described("a\t\r\n ~¡ÿ") && described(&long));
        for bad in [
            "", "a", "a\u{7f}", "a\u{a0}", "a\u{100}", "a\u{0}", &too_long,
        ] {
            assert!(!described(bad), "{bad:?}");
        }
        let sized = |size| {
            parse(GetScopedCredentialsInput {
                duration_seconds: Some(129_600),
                minimum_session_token_size: Some(size),
                ..Default::default()
            })
            .is_ok()
        };
        assert!(sized(0) && sized(4_096));
        assert!(![-1, 4_097, i64::MIN, i64::MAX].into_iter().any(sized));
        let neither = parse(GetScopedCredentialsInput {
            scoped_session_description: Some("for nothing".into()),
            ..Default::default()
        });
        assert!(neither.is_err_and(|error| error.contains("Policy")));
    }
}
