//! The audit record of a call: what it contains before the caller is authenticated, and when it
//! must be written.

use std::borrow::Cow;

use super::operation::Operation;
use super::service::Service;
use crate::audit::{self, Counting, Record};
use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::origin::Origin;

/// The maximum length of a user agent in a record, in bytes as written. The user agent is not
/// signed, so anybody with a signed request can choose it.
pub(super) const MAX_USER_AGENT: usize = 512;

/// Begins a record with the requested action and the source of the call.
///
/// # Errors
/// [`Error`] if there are no random bytes for the ids.
pub(super) fn begin<O: Operation>(
    broker: &Broker,
    service: Service,
    name: Cow<'static, str>,
    origin: &Origin,
    now: Timestamp,
) -> Result<Record, Error> {
    let (request_id, event_id) = ids(entropy::bytes::<32>(&*broker.entropy)?);
    let mut record = audit::record(name, now, request_id, event_id);
    if service == Service::Iam {
        record.event_source = "iam.amazonaws.com";
    }
    record.read_only = O::READ_ONLY;
    record.aws_region.clone_from(&broker.region);
    record.source_ip_address = origin.source_ip.to_canonical().to_string();
    record.user_agent = origin
        .user_agent
        .as_deref()
        .map(|text| audit::clip_written(text, MAX_USER_AGENT).to_owned());
    Ok(record)
}

/// Writes the result of a call to the audit log. An answer that must be recorded but cannot be
/// becomes a refusal.
pub(super) async fn write<O: Operation>(
    broker: &Broker,
    record: &mut Record,
    result: Result<O::Output, Error>,
    counting: Counting,
) -> Result<O::Output, Error> {
    if let Err(error) = &result {
        record.error_code = Some(error.code());
        record.error_message = Some(error.to_string());
    }
    let written = match &result {
        Err(_) => {
            broker.audit.refuse(record, counting);
            Ok(())
        }
        Ok(_) if !O::MUST_BE_RECORDED => broker.audit.note(record),
        Ok(_) if O::HANDS_OUT || !O::READ_ONLY => broker.audit.commit(record).await,
        Ok(_) => broker
            .audit
            .read(record, O::COUNTED_AS == CountedAs::Read, counting),
    };
    if written.is_err() && O::MUST_BE_RECORDED {
        let error = Error::ServiceUnavailable("the audit log");
        record.error_code = Some(error.code());
        broker.audit.count(record, counting);
        return Err(error);
    }
    result
}

/// The ids of the request and of the audit event.
pub(super) fn ids(random: [u8; 32]) -> (String, String) {
    let mut halves = random.chunks_exact(16).map(|half| {
        let bytes = half.try_into().unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
    });
    (
        halves.next().unwrap_or_default(),
        halves.next().unwrap_or_default(),
    )
}
