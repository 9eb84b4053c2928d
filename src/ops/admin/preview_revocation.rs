//! PreviewRevocation: reports what RevokeSessions would revoke, and changes nothing.

use serde_json::value::RawValue;

use super::revoke_sessions::{RevokeSessions, Target};
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;

/// A call of PreviewRevocation, with the checked parameters of RevokeSessions.
#[derive(Debug)]
pub struct PreviewRevocation(pub RevokeSessions);

impl Operation for PreviewRevocation {
    const NAME: &'static str = "PreviewRevocation";
    const COUNTED_AS: CountedAs = CountedAs::Revocation;
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const HANDS_OUT: bool = false;
    type Output = Target;

    fn parameters(&self) -> Option<Box<RawValue>> {
        self.0.parameters()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Target, Error> {
        let account = self.0.admit(cx)?;
        let hit = self.0.hit(cx, account.as_str(), cx.broker.feed.sequence());
        let sessions = hit.count(cx.broker, account.as_str(), cx.now).await;
        Ok(Target {
            sessions,
            ..self.0.known(&cx.directory, account.as_str())
        })
    }
}
