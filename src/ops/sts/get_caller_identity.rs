//! GetCallerIdentity: who the credentials belong to. Needs no permission, and works under an
//! explicit deny: STS API Reference, "GetCallerIdentity".

use serde_json::value::RawValue;

use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};

/// The request: nothing but its signature.
pub struct GetCallerIdentity;

/// The answer.
pub struct GetCallerIdentityOutput {
    /// `AIDA…`, or `AROA…:SESSION`.
    pub user_id: String,
    /// Twelve digits.
    pub account: String,
    /// The principal's ARN.
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
