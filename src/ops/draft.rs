//! The audit record of a call in progress, and its conversion to a line of the audit log.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::fmt::Hyphenated;

use super::service::Service;
use crate::audit::{self, Counting, Record, SourceAddress};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::Error;
use crate::origin::Origin;

/// The maximum length of a user agent in a record, in bytes of the JSON text. Signatures do not
/// cover the user agent, so anybody who has a signed request can choose it.
pub(super) const MAX_USER_AGENT: usize = 512;

/// The part of an audit record that only the call itself knows. [`Self::complete`] adds the rest
/// from the call's origin and caller, and only when a line is written: during a flood, most calls
/// are only counted.
pub(super) struct Draft {
    service: Service,
    name: Cow<'static, str>,
    /// The name under which metrics and the audit log count the call: one of a fixed set.
    action: &'static str,
    read_only: bool,
    now: Timestamp,
    /// The request id, which the answer contains, too.
    pub request_id: String,
    event_id: Uuid,
    /// The caller; `None` until it is authenticated.
    pub caller: Option<Arc<Caller>>,
    /// The access key id, or the name in the client certificate, of a caller that could not be authenticated.
    pub claimed_key: Option<String>,
    pub request_parameters: Option<Box<RawValue>>,
    pub response_elements: Option<Box<RawValue>>,
    pub additional_event_data: Option<Box<RawValue>>,
    /// The account that owns the resource; `None` if it is the caller's.
    pub recipient: Option<AccountId>,
}

impl Draft {
    /// Begins the record of a call. `name` is the action in the request, `action` the name under
    /// which the call is counted, and `read_only` says whether the action changes nothing.
    ///
    /// # Errors
    /// [`Error`] if there are no random bytes for the ids.
    pub fn begin(
        broker: &Broker,
        (service, name): (Service, Cow<'static, str>),
        (action, read_only): (&'static str, bool),
        now: Timestamp,
    ) -> Result<Self, Error> {
        let [of_request, event_id] = halves(entropy::name::<32>(&*broker.entropy)?);
        Ok(Self {
            service,
            name,
            action,
            read_only,
            now,
            request_id: uuid(of_request),
            event_id: Uuid::of(event_id),
            caller: None,
            claimed_key: None,
            request_parameters: None,
            response_elements: None,
            additional_event_data: None,
            recipient: None,
        })
    }

    /// Returns the key under which the audit log counts the call if it does not write a line for
    /// it.
    pub fn counting(&self, origin: &Origin) -> Counting {
        Counting {
            event_source: event_source(self.service),
            action: self.action,
            source: origin.source_ip,
            now: self.now,
        }
    }

    /// Returns the complete audit record. Moves the request parameters, the response elements and
    /// the additional data out of the draft.
    pub fn complete<'r>(&'r mut self, broker: &'r Broker, origin: &'r Origin) -> Record<'r> {
        let parts = [
            self.request_parameters.take(),
            self.response_elements.take(),
            self.additional_event_data.take(),
        ];
        let draft = &*self;
        let (request_id, event_id) = (&*draft.request_id, &*draft.event_id);
        let mut record = audit::record(&*draft.name, draft.now, request_id, event_id);
        record.event_source = event_source(draft.service);
        record.read_only = draft.read_only;
        record.aws_region = broker.region.as_str().into();
        record.source_ip_address = SourceAddress::Address(origin.source_ip.to_canonical());
        let user_agent = origin.user_agent.as_deref();
        record.user_agent = user_agent.map(|text| audit::clip_written(text, MAX_USER_AGENT).into());
        let caller = draft.caller.as_deref();
        match caller {
            Some(caller) => record.user_identity = caller.audited(),
            None => {
                record.user_identity.access_key_id = draft.claimed_key.as_deref().map(Cow::from);
            }
        }
        let own = caller.map(Caller::account_ref);
        let recipient = draft.recipient.as_ref().or(own);
        record.recipient_account_id = recipient.map(|account| account.as_str().into());
        [
            record.request_parameters,
            record.response_elements,
            record.additional_event_data,
        ] = parts;
        record
    }
}

/// Returns the `eventSource` of a service in audit records.
fn event_source(service: Service) -> &'static str {
    match service {
        Service::Sts | Service::Brevet | Service::BrevetForGateways => "sts.amazonaws.com",
        Service::Iam => "iam.amazonaws.com",
    }
}

/// Returns a new request id and a new id for the audit event, both as UUIDs made from `random`.
pub(super) fn ids(random: [u8; 32]) -> (String, String) {
    let [request_id, event_id] = halves(random);
    (uuid(request_id), uuid(event_id))
}

fn halves(random: [u8; 32]) -> [[u8; 16]; 2] {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    for (slot, byte) in first.iter_mut().chain(&mut second).zip(random) {
        *slot = byte;
    }
    [first, second]
}

fn uuid(random: [u8; 16]) -> String {
    Uuid::of(random).to_owned()
}

/// A random UUID as text, without an allocation.
struct Uuid([u8; Hyphenated::LENGTH]);

impl Uuid {
    fn of(random: [u8; 16]) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
        uuid.hyphenated().encode_lower(&mut text);
        Self(text)
    }
}

impl Deref for Uuid {
    type Target = str;

    fn deref(&self) -> &str {
        // Hexadecimal digits and hyphens are UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
