//! EndSignIn: ends the sign-in of a person, with all tokens and sessions that came from it.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::digest::hex;
use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::sessions;
use crate::sign_in::{ending, live};
use crate::signed_in::SignInId;
use crate::trust;

/// A call of EndSignIn whose parameters have been checked.
#[derive(Debug)]
pub struct EndSignIn {
    sign_in_id: SignInId,
}

pub struct EndSignInOutput {
    /// The number in the change feed of the revocation that ended the sign-in.
    pub sequence_number: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    sign_in_id: String,
}

impl EndSignIn {
    /// Checks the form of the sign-in's id.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(sign_in_id: &str) -> Result<Self, Error> {
        let rule = "must be 32 hexadecimal digits in lower case";
        let sign_in_id = sessions::session_id(sign_in_id);
        let sign_in_id = sign_in_id.ok_or_else(|| FieldError::new("SignInId", rule))?;
        Ok(Self { sign_in_id })
    }

    fn admit(cx: &mut Context<'_>) -> Result<(), Error> {
        let action = "brevet:EndSignIn";
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), action, "*");
        permitted.map_err(|denied| cx.refuse(&denied, "*"))
    }
}

impl Operation for EndSignIn {
    const NAME: &'static str = "EndSignIn";
    const COUNTED_AS: CountedAs = CountedAs::Revocation;
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const READ_ONLY: bool = false;
    const HANDS_OUT: bool = false;
    /// The call succeeds even if its audit record cannot be written: the durable change feed
    /// contains the revocation, as it does for RevokeSessions.
    const MUST_BE_RECORDED: bool = false;
    type Output = EndSignInOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            sign_in_id: hex(&self.sign_in_id),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<EndSignInOutput, Error> {
        Self::admit(cx)?;
        let id = hex(&self.sign_in_id);
        let row = cx.wait(cx.broker.store.sign_in(&id)).await?;
        Self::admit(cx)?;
        let sign_in = match row {
            Some(row) => live::in_row(cx.broker, &row)?,
            None => None,
        };
        // A sign-in of another account is reported as not found.
        let account = cx.caller().account();
        let sign_in = sign_in.filter(|sign_in| sign_in.account() == account);
        let sign_in = sign_in
            .ok_or_else(|| Error::NotFound("There is no sign-in with this id.".to_owned()))?;
        let sequence_number = ending::end_as(cx.broker, &sign_in, &cx.actor()).await?;
        cx.changed(sequence_number);
        Ok(EndSignInOutput { sequence_number })
    }
}
