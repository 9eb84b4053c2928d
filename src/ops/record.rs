//! The audit record of a call: what it contains before the caller is authenticated, and when it
//! must be written.

use std::borrow::Cow;

use super::operation::Operation;
use super::service::Service;
use crate::audit::{self, AuditError, Counting, Record, SignError};
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::entropy;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::mint::{self, UnsignedToken};
use crate::origin::Origin;
use crate::session::batch::NoKey;

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
    let (request_id, event_id) = ids(entropy::name::<32>(&*broker.entropy)?);
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

/// Writes the result of a call to the audit log, and completes the token of the session that it
/// issued. An answer that must be recorded but cannot be becomes a refusal.
pub(super) async fn write<O: Operation>(
    broker: &Broker,
    record: &mut Record,
    issued: Option<UnsignedToken>,
    result: Result<O::Output, Error>,
    counting: Counting,
) -> Result<O::Output, Error> {
    let output = match result {
        Ok(output) => output,
        Err(error) => {
            refuse(broker, record, &error, counting);
            return Err(error);
        }
    };
    let written = match issued {
        Some(token) => {
            return issue(broker, record, token, counting)
                .await
                .map(|()| output);
        }
        None if !O::MUST_BE_RECORDED => {
            // What has taken effect is answered.
            let _ = broker.audit.note(record);
            Ok(())
        }
        None if O::HANDS_OUT || !O::READ_ONLY => broker.audit.commit(record).await,
        None => {
            let is_identity = O::COUNTED_AS == CountedAs::Read;
            broker.audit.read(record, is_identity, counting)
        }
    };
    match written {
        Ok(()) => Ok(output),
        Err(AuditError) => Err(unwritten(broker, record, counting)),
    }
}

/// Writes the record of a call that issues a session, and puts its signed token into the answer.
async fn issue(
    broker: &Broker,
    record: &mut Record,
    token: UnsignedToken,
    counting: Counting,
) -> Result<(), Error> {
    let leaf = token.leaf();
    record.token_leaf = Some(hex(leaf.hash()));
    let completed = match broker.audit.sign(record, leaf).await {
        Ok(proof) => token.complete(&broker.tokens.keyring(), &proof),
        Err(SignError::Key(NoKey)) => Err(Error::ServiceUnavailable(mint::WITHOUT_KEY)),
        Err(SignError::Audit(AuditError)) => return Err(unwritten(broker, record, counting)),
    };
    completed.inspect_err(|error| {
        record.response_elements = None;
        record.token_leaf = None;
        refuse(broker, record, error, counting);
    })
}

fn refuse(broker: &Broker, record: &mut Record, error: &Error, counting: Counting) {
    record.error_code = Some(error.code());
    record.error_message = Some(error.to_string());
    broker.audit.refuse(record, counting);
}

/// Counts a call whose record cannot be written, and returns the error for its caller.
fn unwritten(broker: &Broker, record: &mut Record, counting: Counting) -> Error {
    let error = Error::ServiceUnavailable("the audit log");
    record.error_code = Some(error.code());
    broker.audit.count(record, counting);
    error
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
