//! GetSessionToken: a session of the user itself. STS API Reference, "GetSessionToken".

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::session_input::{self, AnsweredCredentials, audited_credentials};
use super::{Context, Operation};
use crate::budgets::CountedAs;
use crate::durations;
use crate::error::Error;
use crate::mfa::{self, Code};
use crate::mint::{Credentials, Shape};
use crate::packing::Packed;
use crate::trust;

/// The checked request.
pub struct GetSessionToken {
    duration: Option<Duration>,
    mfa: Option<Code>,
}

/// The answer.
pub struct GetSessionTokenOutput {
    /// What the caller came for.
    pub credentials: Credentials,
}

impl GetSessionToken {
    /// Checks each parameter by itself.
    ///
    /// # Errors
    /// Names the first field that breaks a rule, and the rule.
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
        let proven = match &self.mfa {
            Some(code) => Some(mfa::prove(cx, code).await?),
            None => None,
        };
        let mut facts = cx.facts();
        if proven.is_some() {
            facts = facts.mfa(0);
        }
        let granted = trust::own_session(cx.caller(), &cx.directory, &facts);
        let grant = granted.map_err(|denied| cx.refuse(&denied, "*"))?;
        let shape = Shape {
            session_name: String::new(),
            source_identity: String::new(),
            tags: Vec::new(),
            packed: Packed::default(),
            mfa_at: proven.map(|_| cx.now),
        };
        let account = grant.account();
        let term = self.duration.unwrap_or(durations::USER_DEFAULT);
        let session = cx.issue(grant, term, shape).await?;
        cx.answered(&Answered { credentials: audited_credentials(&session.credentials) }, account.as_str());
        Ok(GetSessionTokenOutput { credentials: session.credentials })
    }
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
