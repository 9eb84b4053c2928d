//! The audit record of a call: what it contains before the caller is authenticated, and when it
//! must be written.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::operation::Operation;
use super::service::Service;
use crate::audit::{self, AuditError, Counting, Record, SignError};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::entropy;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::caller::Caller;
use crate::error::Error;
use crate::mint::{self, UnsignedToken};
use crate::origin::Origin;
use crate::session::batch::NoKey;

/// The maximum length of a user agent in a record, in bytes as written. The user agent is not
/// signed, so anybody with a signed request can choose it.
pub(super) const MAX_USER_AGENT: usize = 512;

/// The record of a call while the call is served: what only the call knows. The rest follows from its
/// origin and its caller, and is put into words when a line is written: most calls of a flood are only
/// counted.
pub(super) struct Draft {
    service: Service,
    name: Cow<'static, str>,
    /// The action, under which the call is counted: one of a fixed set of names.
    action: &'static str,
    read_only: bool,
    now: Timestamp,
    /// The id of the call, which its answer has, too.
    pub request_id: String,
    event_id: [u8; 16],
    /// The caller, once it is authenticated.
    pub caller: Option<Arc<Caller>>,
    /// The access key that was claimed by a caller who could not be authenticated.
    pub claimed_key: Option<String>,
    pub request_parameters: Option<Box<RawValue>>,
    pub response_elements: Option<Box<RawValue>>,
    pub additional_event_data: Option<Box<RawValue>>,
    /// The account that owns the resource, if that is not the caller's.
    pub recipient: Option<AccountId>,
}

impl Draft {
    /// Begins the record of a call of an operation.
    ///
    /// # Errors
    /// [`Error`] if there are no random bytes for the ids.
    pub fn begin<O: Operation>(
        broker: &Broker,
        service: Service,
        name: Cow<'static, str>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let [of_request, event_id] = halves(entropy::name::<32>(&*broker.entropy)?);
        Ok(Self {
            service,
            name,
            action: O::NAME,
            read_only: O::READ_ONLY,
            now,
            request_id: uuid(of_request),
            event_id,
            caller: None,
            claimed_key: None,
            request_parameters: None,
            response_elements: None,
            additional_event_data: None,
            recipient: None,
        })
    }

    /// How the call is counted if it does not get a line.
    fn counting(&self, origin: &Origin) -> Counting {
        Counting {
            event_source: event_source(self.service),
            action: self.action,
            source: origin.source_ip,
            now: self.now,
        }
    }

    /// The record. It takes the parameters, the elements and the data out of the draft.
    fn complete<'r>(&'r mut self, broker: &'r Broker, origin: &Origin) -> Record<'r> {
        let parts = [
            self.request_parameters.take(),
            self.response_elements.take(),
            self.additional_event_data.take(),
        ];
        let draft = &*self;
        let event_id = uuid(draft.event_id);
        let mut record = audit::record(&*draft.name, draft.now, &*draft.request_id, event_id);
        record.event_source = event_source(draft.service);
        record.read_only = draft.read_only;
        record.aws_region = broker.region.as_str().into();
        record.source_ip_address = origin.source_ip.to_canonical().to_string().into();
        let user_agent = origin.user_agent.as_deref();
        record.user_agent =
            user_agent.map(|text| audit::clip_written(text, MAX_USER_AGENT).to_owned().into());
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

/// The service as records name it.
fn event_source(service: Service) -> &'static str {
    match service {
        Service::Sts | Service::Brevet => "sts.amazonaws.com",
        Service::Iam => "iam.amazonaws.com",
    }
}

/// Writes the result of a call to the audit log, and completes the token of the session that it
/// issued. An answer that must be recorded but cannot be becomes a refusal.
pub(super) async fn write<O: Operation>(
    broker: &Broker,
    origin: &Origin,
    draft: &mut Draft,
    issued: Option<UnsignedToken>,
    result: Result<O::Output, Error>,
) -> Result<O::Output, Error> {
    let output = match result {
        Ok(output) => output,
        Err(error) => {
            refuse(broker, origin, draft, &error);
            return Err(error);
        }
    };
    let written = match issued {
        Some(token) => {
            return issue(broker, origin, draft, token).await.map(|()| output);
        }
        None if !O::MUST_BE_RECORDED => {
            // What has taken effect is answered.
            let _ = broker.audit.note(&draft.complete(broker, origin));
            Ok(())
        }
        None if O::HANDS_OUT || !O::READ_ONLY => {
            broker.audit.commit(&draft.complete(broker, origin)).await
        }
        None => {
            let is_identity = O::COUNTED_AS == CountedAs::Read;
            let counting = draft.counting(origin);
            let audit = &broker.audit;
            audit.read(|| draft.complete(broker, origin), is_identity, counting)
        }
    };
    match written {
        Ok(()) => Ok(output),
        Err(AuditError) => Err(unwritten(broker, draft.counting(origin))),
    }
}

/// Writes the record of a call that issues a session, and puts its signed token into the answer.
async fn issue(
    broker: &Broker,
    origin: &Origin,
    draft: &mut Draft,
    token: UnsignedToken,
) -> Result<(), Error> {
    let counting = draft.counting(origin);
    let is_proven = draft.caller.is_some();
    let leaf = token.leaf();
    let mut record = draft.complete(broker, origin);
    record.token_leaf = Some(hex(leaf.hash()));
    let completed = match broker.audit.sign(&record, leaf).await {
        Ok(proof) => token.complete(&broker.tokens.keyring(), &proof),
        Err(SignError::Key(NoKey)) => Err(Error::ServiceUnavailable(mint::WITHOUT_KEY)),
        Err(SignError::Audit(AuditError)) => return Err(unwritten(broker, counting)),
    };
    completed.inspect_err(|error| {
        record.response_elements = None;
        record.token_leaf = None;
        record.error_code = Some(error.code());
        record.error_message = Some(error.to_string());
        let audit = &broker.audit;
        audit.refuse(|| record, is_proven, error.code(), counting);
    })
}

fn refuse(broker: &Broker, origin: &Origin, draft: &mut Draft, error: &Error) {
    let (is_proven, counting) = (draft.caller.is_some(), draft.counting(origin));
    let audit = &broker.audit;
    audit.refuse(
        || {
            let mut record = draft.complete(broker, origin);
            record.error_code = Some(error.code());
            record.error_message = Some(error.to_string());
            record
        },
        is_proven,
        error.code(),
        counting,
    );
}

/// Counts a call whose record cannot be written, and returns the error for its caller.
fn unwritten(broker: &Broker, counting: Counting) -> Error {
    let error = Error::ServiceUnavailable("the audit log");
    broker.audit.count(error.code(), counting);
    error
}

/// The ids of the request and of the audit event.
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
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    uuid.to_string()
}
