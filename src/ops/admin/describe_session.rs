//! DescribeSession: returns the record of one session.

use serde::Serialize;
use serde_json::value::RawValue;

use super::session_view::SessionView;
use crate::base::arn::IamArn;
use crate::base::digest::hex;
use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::sessions::{self, SessionId};
use crate::trust;

/// A call of DescribeSession whose parameters have been checked.
#[derive(Debug)]
pub struct DescribeSession {
    session_id: SessionId,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    session_id: String,
}

impl DescribeSession {
    /// Checks the form of the session's id.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(session_id: &str) -> Result<Self, Error> {
        let session_id = sessions::session_id(session_id).ok_or_else(|| {
            FieldError::new("SessionId", "must be 32 hexadecimal digits in lower case")
        })?;
        Ok(Self { session_id })
    }
}

impl Operation for DescribeSession {
    const NAME: &'static str = "DescribeSession";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const HANDS_OUT: bool = false;
    type Output = SessionView;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            session_id: hex(&self.session_id),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<SessionView, Error> {
        let permitted = trust::permit(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            "brevet:DescribeSession",
            "*",
        );
        permitted.map_err(|denied| cx.refuse(&denied, "*"))?;
        let keyring = cx.broker.tokens.keyring();
        let found = cx
            .broker
            .sessions
            .find(&keyring, &self.session_id, cx.now)
            .await?;
        // A session of another account is reported as not found.
        let account = cx.caller().account();
        let own = found
            .filter(|r| IamArn::parse(&r.principal_arn).is_some_and(|arn| arn.account == account));
        let view = own.and_then(|record| SessionView::new(record, &cx.broker.revocations));
        view.ok_or_else(|| Error::NotFound("There is no record of this session.".to_owned()))
    }
}
