//! ListSignIns: lists the sign-ins of people in the caller's account.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::sign_in::live;
use crate::signed_in::SignIn;
use crate::store::SignInsOf;
use crate::trust;

/// A call of ListSignIns whose parameters have been checked.
#[derive(Debug)]
pub struct ListSignIns {
    max_items: usize,
    marker: String,
}

/// A page of the account's sign-ins.
pub struct ListSignInsOutput {
    pub sign_ins: Vec<SignInView>,
    /// The marker of the next page; empty on the last page.
    pub marker: String,
}

/// A sign-in with its last use, as the administrators of its account see it.
pub struct SignInView {
    pub sign_in: SignIn,
    /// When the broker last noted a request from the person's browser, in seconds since 1970.
    pub seen_at: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    max_items: usize,
}

impl ListSignIns {
    /// Checks the parameters. `max_items` is from 1 to 500, and 100 by default.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(max_items: Option<i32>, marker: Option<String>) -> Result<Self, Error> {
        let max_items = usize::try_from(max_items.unwrap_or(100)).unwrap_or_default();
        if !(1..=500).contains(&max_items) {
            return Err(FieldError::new("MaxItems", "must be from 1 to 500").into());
        }
        let marker = marker.unwrap_or_default();
        if marker.len() > 32 || !marker.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(
                FieldError::new("Marker", "must be the Marker of an earlier answer").into(),
            );
        }
        Ok(Self { max_items, marker })
    }

    fn admit(cx: &mut Context<'_>) -> Result<(), Error> {
        let action = "brevet:ListSignIns";
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), action, "*");
        permitted.map_err(|denied| cx.refuse(&denied, "*"))
    }
}

impl Operation for ListSignIns {
    const NAME: &'static str = "ListSignIns";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const HANDS_OUT: bool = false;
    type Output = ListSignInsOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        let parameters = Parameters {
            max_items: self.max_items,
        };
        serde_json::value::to_raw_value(&parameters).ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<ListSignInsOutput, Error> {
        Self::admit(cx)?;
        if cx.broker.sign_ins.is_none() {
            // Nobody can be signed in.
            return Ok(ListSignInsOutput {
                sign_ins: Vec::new(),
                marker: String::new(),
            });
        }
        let of = SignInsOf::Account(cx.caller().account().to_string());
        let (marker, limit) = (self.marker, self.max_items);
        let rows = cx
            .wait(cx.broker.store.sign_ins_of(of, &marker, limit))
            .await?;
        Self::admit(cx)?;
        let (listed, last) = live::listed(cx.broker, &rows, limit)?;
        let view = |(sign_in, seen_at)| SignInView { sign_in, seen_at };
        Ok(ListSignInsOutput {
            sign_ins: listed.into_iter().map(view).collect(),
            marker: last.unwrap_or_default(),
        })
    }
}
