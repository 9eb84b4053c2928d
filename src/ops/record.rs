//! When the broker must write the audit record of a call, and how it answers if it cannot write the
//! record.

use super::draft::Draft;
use super::operation::Operation;
use crate::audit::{AuditError, Counting, SignError};
use crate::base::digest::Hex;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::mint::{self, UnsignedToken};
use crate::origin::Origin;
use crate::session::batch::NoKey;

/// Writes the result of a call to the audit log, and completes the token of the session that it
/// issued. If the record is required and cannot be written, the call is refused.
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
    record.token_leaf = Some(Hex::of(leaf.hash()));
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
