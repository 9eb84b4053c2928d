//! ResolveIdentity: tells a gateway to an object store to which users access keys belong, because its policies on
//! buckets name users by their keys.
//!
//! Only active long-term keys of the caller's account are found. The keys of sessions are not, because a policy that
//! names one would mean nothing after the end of the session. All keys are looked up in memory, so that the time of an
//! answer does not reveal which of them exist.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::field::FieldError;
use crate::budgets::{self, CountedAs};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation, View};
use crate::ops::service::Service;
use crate::trust;

const ACTION: &str = "brevet:ResolveIdentity";
/// The maximum number of access keys in one call.
const MAX_KEYS: usize = 1_000;

/// A call of ResolveIdentity whose parameters have been checked.
pub struct ResolveIdentity {
    access_key_ids: Vec<String>,
}

impl ResolveIdentity {
    /// Checks how many access keys there are.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(access_key_ids: Vec<String>) -> Result<Self, Error> {
        if !(1..=MAX_KEYS).contains(&access_key_ids.len()) {
            let rule = format!("must have 1 to {MAX_KEYS} items");
            return Err(FieldError::new("AccessKeyIds", rule).into());
        }
        Ok(Self { access_key_ids })
    }
}

impl Operation for ResolveIdentity {
    const NAME: &'static str = "ResolveIdentity";
    const SERVICE: Service = Service::BrevetForGateways;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const HANDS_OUT: bool = false;
    /// For each access key in order the ARN of its user; `None` if the account has no such active key.
    type Output = Vec<Option<String>>;

    fn parameters(&self) -> Option<Box<RawValue>> {
        let items = self.access_key_ids.len();
        serde_json::value::to_raw_value(&Parameters { items }).ok()
    }

    fn amount(&self) -> u64 {
        budgets::calls_of_decisions(self.access_key_ids.len())
    }

    /// Whose policy names the keys is not known, so all of these calls are counted together.
    fn subjects(&self, _: &View<'_>) -> Vec<(String, u64)> {
        vec![(Self::NAME.to_owned(), self.amount())]
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Self::Output, Error> {
        // What it tells is about everybody in the account, so a permission on the caller itself is not enough.
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), ACTION, "*");
        permitted.map_err(|denied| cx.refuse(&denied, "*"))?;
        let account = cx.caller().account();
        let user_of = |id: &String| {
            let user = cx.directory.holder_of_key(id);
            let user = user.filter(|user| user.account == account);
            user.map(|user| user.arn.to_string())
        };
        let users: Vec<_> = self.access_key_ids.iter().map(user_of).collect();
        let found = users.iter().flatten().count();
        cx.answered(&Answered { found }, account);
        Ok(users)
    }
}

#[derive(Serialize)]
struct Parameters {
    items: usize,
}

#[derive(Serialize)]
struct Answered {
    found: usize,
}
