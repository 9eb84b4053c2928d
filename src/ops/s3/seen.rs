//! The facts about a request to an object store that its audit record needs. CloudTrail calls such
//! records data events: the answer does not wait until they are on stable storage.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::refused::{Refused, Unpermitted, translated};
use crate::audit::{self, Counting, Record, SourceAddress, UserIdentity};
use crate::authorization_message::Message;
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::Error;
use crate::ops::draft::{MAX_USER_AGENT, ids};
use crate::origin::Origin;
use crate::s3::{Code, DataEvents, Head, Routed, S3Refusal, S3Store, SignedForStore, route};
use crate::trust::Denied;

/// The `eventSource` of the records.
const EVENT_SOURCE: &str = "s3.amazonaws.com";

/// The facts that are known so far about a request to an object store.
#[derive(Default)]
pub(super) struct Seen {
    /// The name of the operation, such as `GetObject`; `None` until the head is parsed.
    pub operation: Option<&'static str>,
    /// The access key id in the request, before the signature is verified.
    pub claimed: Option<String>,
    pub caller: Option<Arc<Caller>>,
    /// The account that owns the bucket of the last permission check.
    pub owner: Option<AccountId>,
    /// The objects in a DeleteObjects request.
    pub objects: Vec<Deleted>,
    /// The number of the last change of the feed that was in force at the decision.
    pub sequence: i64,
}

/// One object of a DeleteObjects request, for the audit record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deleted {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

/// The `requestParameters` of the audit record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    store: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_source: Option<String>,
    /// The objects of DeleteObjects: at most 1,000, and at most ten in the record of a refused
    /// request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    objects: &'a [Deleted],
}

impl Seen {
    /// The name of the operation in records and metrics; `none` while it is unknown.
    pub fn operation(&self) -> &'static str {
        self.operation.unwrap_or("none")
    }

    /// Writes the audit record, except for an allowed request if the configuration records only refusals. Returns the
    /// signed request or the error for the caller. A request that cannot be recorded is refused.
    pub fn conclude(
        &self,
        broker: &Broker,
        store: &S3Store,
        head: &Head<'_>,
        origin: &Origin,
        now: Timestamp,
        judged: Result<SignedForStore, Refused>,
    ) -> Result<SignedForStore, S3Refusal> {
        if judged.is_ok() && store.data_events == DataEvents::Refused {
            return judged.map_err(|_| translated(&Error::InternalFailure));
        }
        let record = || self.record(broker, store, head, origin, now);
        let counting = Counting {
            event_source: EVENT_SOURCE,
            action: self.operation(),
            source: origin.source_ip,
            now,
        };
        let refused = match judged {
            Ok(signed) => match broker.audit.read(record, false, counting) {
                Ok(()) => return Ok(signed),
                Err(_) => Error::ServiceUnavailable("the audit log").into(),
            },
            Err(refused) => refused,
        };
        let mut record = record();
        let refusal = match refused {
            Refused::Head(refusal) => refusal,
            Refused::Broker(error) => {
                error.log();
                translated(&error)
            }
            Refused::Denied(unpermitted) => {
                let Unpermitted {
                    denied,
                    resource,
                    message,
                } = *unpermitted;
                record.additional_event_data = denied.audited();
                S3Refusal {
                    encoded_message: self.sealed(broker, &record, &denied, &resource, now),
                    ..S3Refusal::new(Code::AccessDenied, message)
                }
            }
        };
        let code = refusal.code.as_str();
        record.error_code = Some(code);
        record.error_message = Some(refusal.message.clone());
        let request_id = record.request_id.clone().into_owned();
        // A request without credentials is not one with wrong ones.
        let is_proven = self.caller.is_some() || self.claimed.is_none();
        broker.audit.refuse(|| record, is_proven, code, counting);
        Err(S3Refusal {
            resource: head.target().0.to_owned(),
            request_id,
            ..refusal
        })
    }

    /// Seals the reason of a refusal for the caller. Returns an empty text for a request without a
    /// signature.
    fn sealed(
        &self,
        broker: &Broker,
        record: &Record<'_>,
        denied: &Denied,
        resource: &str,
        now: Timestamp,
    ) -> String {
        let Some(caller) = &self.caller else {
            return String::new();
        };
        let message = Message::new(
            &record.request_id,
            caller,
            denied,
            resource,
            self.sequence,
            now,
        );
        let sealed = broker
            .tokens
            .with_keyring(|keyring| message.seal(keyring, &*broker.entropy));
        // The request is refused even if the message cannot be sealed.
        sealed.unwrap_or_default()
    }

    fn record<'r>(
        &'r self,
        broker: &Broker,
        store: &'r S3Store,
        head: &Head<'_>,
        origin: &'r Origin,
        now: Timestamp,
    ) -> Record<'r> {
        // A request is refused without random bytes, too, but then its record has no ids.
        let random = entropy::name::<32>(&*broker.entropy).ok();
        let (request_id, event_id) = random.map(ids).unwrap_or_default();
        let mut record = audit::record(self.operation(), now, request_id, event_id);
        record.event_source = EVENT_SOURCE;
        record.management_event = false;
        record.event_category = "Data";
        record.read_only = matches!(head.method, "GET" | "HEAD");
        record.aws_region = store.rules.region.as_str().into();
        record.source_ip_address = SourceAddress::Address(origin.source_ip.to_canonical());
        record.user_agent = origin
            .user_agent
            .as_deref()
            .map(|text| audit::clip_written(text, MAX_USER_AGENT).into());
        record.recipient_account_id = self.owner.as_ref().map(|owner| owner.as_str().into());
        record.user_identity = match (&self.caller, &self.claimed) {
            (Some(caller), _) => caller.audited(),
            (None, Some(key)) => UserIdentity {
                r#type: "Unknown".into(),
                access_key_id: Some(key.as_str().into()),
                ..UserIdentity::default()
            },
            (None, None) => UserIdentity {
                r#type: "AWSAccount".into(),
                account_id: Some("anonymous".into()),
                ..UserIdentity::default()
            },
        };
        let routed = route(head, &store.rules).ok();
        record.request_parameters = self.parameters(&store.name, routed.as_ref());
        record
    }

    fn parameters(&self, store: &str, routed: Option<&Routed<'_>>) -> Option<Box<RawValue>> {
        let source = routed.and_then(|routed| routed.source.as_ref());
        let parameters = Parameters {
            store,
            bucket_name: routed.and_then(|routed| routed.bucket),
            key: routed.and_then(|routed| Some(routed.key.as_ref()?.as_str())),
            version_id: routed.and_then(|routed| routed.version.as_deref()),
            copy_source: source.map(|source| source.recorded()),
            objects: &self.objects,
        };
        serde_json::value::to_raw_value(&parameters).ok()
    }
}
