//! ListSessions: lists the records of the account's sessions.

use serde::Serialize;
use serde_json::value::RawValue;

use super::session_view::{self, SessionView};
use crate::base::arn::{AccountId, IamArn, RoleArn};
use crate::base::entropy;
use crate::base::field;
use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::session::envelope::{self, Purpose};
use crate::session::keyring::Keyring;
use crate::sessions::SessionRecord;
use crate::trust;

/// A call of ListSessions whose parameters have been checked.
#[derive(Debug)]
pub struct ListSessions {
    role_arn: Option<RoleArn>,
    max_items: usize,
    marker: String,
    include_revoked: bool,
}

/// A page of the account's sessions.
pub struct ListSessionsOutput {
    pub sessions: Vec<SessionView>,
    /// The marker of the next page; empty on the last page.
    pub marker: String,
    /// `true` if the records of all brokers are listed; `false` if only this broker's own records
    /// are.
    pub shared: bool,
    /// How many records fail authentication, because something other than a broker of this cluster wrote, altered or
    /// moved them.
    pub unreadable: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<&'a str>,
    max_items: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_revoked: bool,
}

impl ListSessions {
    /// Checks the parameters. `max_items` is from 1 to 1,000, and 100 by default.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(
        role_arn: Option<&str>,
        max_items: Option<i32>,
        marker: Option<String>,
        include_revoked: bool,
    ) -> Result<Self, Error> {
        let max_items = usize::try_from(max_items.unwrap_or(100)).unwrap_or_default();
        if !(1..=1_000).contains(&max_items) {
            return Err(FieldError::new("MaxItems", "must be from 1 to 1000").into());
        }
        let marker = marker.unwrap_or_default();
        field::length("Marker", &marker, 0, MARKER.max_characters)?;
        let role_arn = role_arn
            .map(|arn| RoleArn::parse("RoleArn", arn))
            .transpose()?;
        Ok(Self {
            role_arn,
            max_items,
            marker,
            include_revoked,
        })
    }
}

/// The purpose of sealed markers. A marker names the record after which the listing continues. That
/// record may belong to another account, whose session ids the caller must not learn, so the marker
/// is sealed and valid only for the caller's account.
const MARKER: Purpose = Purpose {
    name: "brevet listing marker v1",
    form: 1,
    max_characters: 256,
};

fn opened(keyring: &Keyring, account: AccountId, marker: &str) -> Result<String, Error> {
    if marker.is_empty() {
        return Ok(String::new());
    }
    let opened = envelope::open(keyring, &MARKER, marker)
        .ok()
        .and_then(|(body, _)| String::from_utf8(body).ok());
    let place = opened.and_then(|text| text.strip_prefix(account.as_str()).map(str::to_owned));
    place.ok_or_else(|| FieldError::new("Marker", "must be the Marker of an earlier answer").into())
}

impl Operation for ListSessions {
    const NAME: &'static str = "ListSessions";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const HANDS_OUT: bool = false;
    type Output = ListSessionsOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        let parameters = Parameters {
            role_arn: self.role_arn.as_ref().map(RoleArn::as_str),
            max_items: self.max_items,
            include_revoked: self.include_revoked,
        };
        serde_json::value::to_raw_value(&parameters).ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<ListSessionsOutput, Error> {
        let role = self.role_arn.as_ref().map(RoleArn::as_str);
        let resource = role.unwrap_or("*");
        let permitted = trust::permit(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            "brevet:ListSessions",
            resource,
        );
        permitted.map_err(|denied| cx.refuse(&denied, resource))?;
        let account = cx.caller().account();
        let broker = cx.broker;
        let has_not_ended = |record: &SessionRecord| {
            session_view::came_from(record).is_some_and(|keys| {
                !broker
                    .revocations
                    .is_revoked(&keys, record.issued_under, record.issued_at)
            })
        };
        let wanted = |record: &SessionRecord| {
            let own =
                IamArn::parse(&record.principal_arn).is_some_and(|arn| arn.account == account);
            own && role.is_none_or(|role| role == record.principal_arn)
                && (self.include_revoked || has_not_ended(record))
        };
        let keyring = broker.tokens.keyring();
        let after = opened(&keyring, account, &self.marker)?;
        let listed = broker
            .sessions
            .list(&keyring, &after, self.max_items, cx.now, wanted)
            .await?;
        let marker = match listed.marker.as_str() {
            "" => String::new(),
            last => envelope::seal(
                &keyring,
                &MARKER,
                format!("{account}{last}").as_bytes(),
                &entropy::bytes(&*broker.entropy)?,
            )?,
        };
        let sessions = listed
            .records
            .into_iter()
            .filter_map(|record| SessionView::new(record, &broker.revocations))
            .collect();
        Ok(ListSessionsOutput {
            sessions,
            marker,
            shared: broker.sessions.are_shared(),
            unreadable: listed.unreadable,
        })
    }
}
