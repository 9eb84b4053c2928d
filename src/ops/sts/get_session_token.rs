//! GetSessionToken: issues a session with the calling user's own identity and permissions. STS API
//! Reference, "GetSessionToken".

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::session_input::{self, AnsweredCredentials, audited_credentials};
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::mfa::{Code, Proven};
use crate::mint::{Credentials, SessionDetails};
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::session::durations;
use crate::session::packing::Packed;
use crate::trust::{self, Denied, Grant};

/// A call of GetSessionToken whose parameters have been checked.
pub struct GetSessionToken {
    duration: Option<Duration>,
    mfa: Option<Code>,
}

/// The session that GetSessionToken issued for the calling user.
pub struct GetSessionTokenOutput {
    /// The temporary credentials. No other call returns them again.
    pub credentials: Credentials,
}

impl GetSessionToken {
    /// Checks the form of each parameter, which needs no directory.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(
        duration_seconds: Option<i64>,
        serial_number: Option<String>,
        token_code: Option<String>,
    ) -> Result<Self, Error> {
        Ok(Self {
            duration: duration_seconds.map(durations::bounded).transpose()?,
            mfa: session_input::mfa(serial_number, token_code)?,
        })
    }
}

impl Operation for GetSessionToken {
    const NAME: &'static str = "GetSessionToken";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    /// Accepts all kinds of credentials here, because the action itself refuses temporary ones with
    /// AWS's own text.
    const OPEN_TO: OpenTo = OpenTo::All;
    const HANDS_OUT: bool = true;
    type Output = GetSessionTokenOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            duration_seconds: self.duration.map(|d| d.as_secs()),
            serial_number: self.mfa.as_ref().and_then(Code::serial_number),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<GetSessionTokenOutput, Error> {
        if cx.caller().session().is_some() {
            return Err(Error::LongTermCredentialsOnly(Self::NAME));
        }
        let mut proven = None;
        if let Some(code) = &self.mfa {
            // A caller that would be refused even with a valid code is refused before the store is
            // asked.
            let supposed = cx.facts().supposing(code);
            let foreseen = trust::would_have_session(cx.caller(), &cx.directory, &supposed);
            drop(supposed);
            foreseen.map_err(|denied| cx.refuse(&denied, "*"))?;
            proven = Some(cx.prove(code).await?);
        }
        let grant = match decide(cx, proven.as_ref()) {
            Ok(grant) => grant,
            Err(denied) => return Err(cx.refuse(&denied, "*")),
        };
        let details = SessionDetails {
            session_name: String::new(),
            source_identity: String::new(),
            tags: Vec::new(),
            packed: Packed::default(),
            mfa: proven,
        };
        let account = grant.account();
        let term = self.duration.unwrap_or(durations::USER_DEFAULT);
        let session = cx.issue(grant, term, details).await?;
        cx.answered(
            &Answered {
                credentials: audited_credentials(&session.credentials),
            },
            account,
        );
        Ok(GetSessionTokenOutput {
            credentials: session.credentials,
        })
    }
}

/// Decides whether the caller gets a session now. `proven` is the proof of an MFA code, if the call
/// has one.
fn decide<'c>(cx: &'c Context<'_>, proven: Option<&Proven>) -> Result<Grant<'c>, Box<Denied>> {
    let facts = cx.facts();
    let facts = match proven {
        Some(proven) => facts.proven(proven),
        None => facts,
    };
    trust::own_session(cx.caller(), &cx.directory, &facts)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<&'a str>,
}

#[derive(Serialize)]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
}
