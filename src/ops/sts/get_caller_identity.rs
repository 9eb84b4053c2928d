//! GetCallerIdentity: returns the principal that the credentials belong to. The call needs no
//! permission, and succeeds even with an explicit deny: STS API Reference, "GetCallerIdentity".

use serde_json::value::RawValue;

use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};

/// The request of GetCallerIdentity, which has no parameters.
pub struct GetCallerIdentity;

/// The principal that the credentials belong to.
pub struct GetCallerIdentityOutput {
    /// The caller's unique id: `AIDA…` for a user, `AROA…:SESSION` for a role session, `ACCOUNT:NAME` for a federated
    /// user.
    pub user_id: String,
    pub account: String,
    pub arn: String,
}

impl Operation for GetCallerIdentity {
    const NAME: &'static str = "GetCallerIdentity";
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const OPEN_TO: OpenTo = OpenTo::All;
    const TAKES_PRESIGNED: bool = true;
    const HANDS_OUT: bool = false;
    type Output = GetCallerIdentityOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        None
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<GetCallerIdentityOutput, Error> {
        let caller = cx.caller();
        Ok(GetCallerIdentityOutput {
            user_id: caller.user_id().to_owned(),
            account: caller.account().to_string(),
            arn: caller.arn().to_owned(),
        })
    }
}
