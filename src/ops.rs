//! [`serve`], the entry point of all calls. It authenticates the caller, runs the operation,
//! records the call and only then answers, whichever interface received the request. It is generic
//! over operations.

pub mod admin;
pub mod context;
mod draft;
#[cfg(feature = "failpoints")]
mod failpoint;
pub mod iam;
mod node;
pub mod operation;
mod prove;
mod record;
mod refuse;
pub mod registry;
pub mod relying;
mod replay;
pub mod s3;
pub mod service;
pub mod sts;
mod to_the_end;

use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

pub use self::context::Context;
use self::draft::Draft;
pub use self::operation::Operation;
use self::operation::View;
use self::prove::Unproven;
pub use self::refuse::{NO_ROOM, Refusal, refuse, refuse_unread, shed};
pub use self::service::Service;
pub use self::to_the_end::ToTheEnd;
use crate::authn::{Evidence, Proof, Shown};
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::error::Error;
use crate::metrics::Call as CallLabel;
use crate::mint::UnsignedToken;
use crate::origin::Origin;
use crate::proof::sigv4::Rules;

/// The time limit from a call's headers to its answer, on all interfaces. Work that has begun is
/// completed even if the caller has disconnected.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Reply<T> {
    /// The id of the call in the answer, in the audit log and in log messages.
    pub request_id: String,
    /// The operation's output, or the error for the caller.
    pub result: Result<T, Error>,
    /// The number in the feed of the last change that the call made; `None` if it made none. It is
    /// set even if the call failed after the change.
    pub change: Option<i64>,
}

/// The effects of a call that remain even if it fails: its audit record, its change and its token.
struct Traces {
    record: Draft,
    change: Option<i64>,
    /// The token of the session that the call issues, which must still be signed.
    unsigned: OnceLock<UnsignedToken>,
}

/// Serves one call. If the caller disconnects, the call still runs to its end, but no longer waits for a connection to
/// the store.
///
/// `evidence` and `input` are the results of parsing, so that a malformed request is recorded as a refusal, too.
pub async fn serve<O: Operation>(
    broker: &Arc<Broker>,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: Origin,
) -> Reply<O::Output> {
    let broker = broker.clone();
    if O::IS_URGENT {
        let urgent = broker.urgent.clone();
        let call = async move {
            conclude::<O>(&broker, O::SERVICE, O::NAME.into(), evidence, input, origin).await
        };
        let lost = || Reply {
            request_id: String::new(),
            result: Err(Error::InternalFailure),
            change: None,
        };
        return urgent.spawn(call).await.unwrap_or_else(|_| lost());
    }
    ToTheEnd::new(async move {
        conclude::<O>(&broker, O::SERVICE, O::NAME.into(), evidence, input, origin).await
    })
    .await
}

/// Runs a call and writes its audit record. If the record is required and cannot be written, the
/// call is refused.
async fn conclude<O: Operation>(
    broker: &Broker,
    service: Service,
    name: Cow<'static, str>,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: Origin,
) -> Reply<O::Output> {
    let started = Instant::now();
    let now = broker.clock.now();
    let kind = (O::NAME, O::READ_ONLY);
    let mut record = match Draft::begin(broker, (service, name.clone()), kind, now) {
        Ok(record) => record,
        Err(error) => {
            return Reply {
                request_id: String::new(),
                result: Err(error),
                change: None,
            };
        }
    };
    if let Ok(input) = &input {
        record.request_parameters = input.parameters();
    }
    let mut traces = Traces {
        record,
        change: None,
        unsigned: OnceLock::new(),
    };
    // Pinned here, because a future that is passed on by value takes room twice.
    let result = {
        let call = pin!(run(
            broker,
            service,
            evidence,
            input,
            &origin,
            now,
            &mut traces
        ));
        guarded::<O>(call).await
    };
    if let Err(error) = &result {
        error.log();
    }
    let Traces {
        mut record,
        change,
        unsigned,
    } = traces;
    let issued = unsigned.into_inner();
    let result = record::write::<O>(broker, &origin, &mut record, issued, result).await;
    let outcome = result.as_ref().err().map_or("ok", Error::code);
    measure(broker, O::NAME, outcome, started);
    let request_id = record.request_id;
    tracing::debug!(request_id, action = %name, outcome, "call");
    Reply {
        request_id,
        result,
        change,
    }
}

/// Runs an operation. If it panics, only this call fails: with an internal failure, which is
/// recorded like any other refusal.
async fn guarded<O: Operation>(
    mut call: Pin<&mut impl Future<Output = Result<O::Output, Error>>>,
) -> Result<O::Output, Error> {
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| {
            tracing::error!(
                action = O::NAME,
                "a call panicked, which is a bug in Brevet; the call was refused"
            );
            Poll::Ready(Err(Error::InternalFailure))
        })
    })
    .await
}

fn measure(broker: &Broker, action: &'static str, outcome: &'static str, started: Instant) {
    broker
        .metrics
        .calls
        .get_or_create(&CallLabel { action, outcome })
        .inc();
    broker
        .metrics
        .call_seconds
        .observe(started.elapsed().as_secs_f64());
}

/// Authenticates the caller, checks its budgets and runs the operation.
async fn run<O: Operation>(
    broker: &Broker,
    service: Service,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: &Origin,
    now: Timestamp,
    traces: &mut Traces,
) -> Result<O::Output, Error> {
    let Traces {
        record,
        change,
        unsigned,
    } = traces;
    // Read before the snapshot, so that what an older snapshot decides does not count as newer.
    let issued_under = broker.feed.sequence();
    let directory = broker.directory.load_full();
    let unproven = Unproven::new(broker, origin);
    let (shown, input) = shown(evidence, input).map_err(|error| unproven.refuse(error))?;
    must_know_enough::<O>(broker)?;
    let is_presigned = shown.is_presigned();
    let certificate = shown.certificate();
    let sign_in = shown.sign_in();
    let asked = (service, &*directory, now);
    let (caller, signed) = prove::caller(&unproven, asked, shown, record).await?;
    let is_user = sign_in.is_some() && caller.federated().is_none();
    if signed.is_some() || certificate.is_some() || is_user {
        let presented = signed.as_deref();
        let (amount, subjects) = match &input {
            Ok(input) => {
                let view = View {
                    broker,
                    directory: &directory,
                    account: caller.account(),
                    now,
                };
                (input.amount(), input.subjects(&view))
            }
            Err(_) => (1, Vec::new()),
        };
        unproven.count_signed(O::COUNTED_AS, &caller, presented, amount, &subjects)?;
    }
    let input = input?;
    if is_presigned && !takes_presigned::<O>(&broker.rules) {
        return Err(Error::PresignedAction(O::NAME));
    }
    let unfit = O::OPEN_TO.refusal(&caller);
    let mut cx = Context {
        broker,
        directory,
        now,
        issued_under,
        caller,
        signed,
        certificate,
        sign_in,
        service,
        origin,
        record,
        change,
        unsigned,
    };
    if cx.signed.is_none() {
        // The call may have waited for the provider's keys.
        cx.renew()?;
    }
    #[cfg(feature = "failpoints")]
    failpoint::hit(O::NAME);
    if let Some(note) = unfit {
        let action = format!("{}:{}", O::SERVICE.prefix(), O::NAME);
        return Err(cx.refuse_because(&action, "*", note));
    }
    let claim = match &cx.signed {
        Some(presented) if (O::HANDS_OUT || !O::READ_ONLY) && !O::MAY_REPEAT => {
            replay::claim(broker, presented, cx.now).await?
        }
        _ => None,
    };
    let result = input.run(&mut cx).await;
    if let (Some(claim), Err(_)) = (claim, &result) {
        claim.release().await;
    }
    result
}

/// Checks that this broker knows the current revocations, and that its clock is plausible. The clock is checked only
/// for an operation that issues credentials or changes something, and that must be recorded.
///
/// # Errors
/// [`Error::ServiceUnavailable`] if either is not the case.
fn must_know_enough<O: Operation>(broker: &Broker) -> Result<(), Error> {
    broker.must_know_what_is_revoked()?;
    if (O::HANDS_OUT || !O::READ_ONLY) && O::MUST_BE_RECORDED {
        broker.must_know_the_time()?;
    }
    Ok(())
}

/// Checks that the caller sent the kind of evidence that the operation requires. Returns the input
/// with the evidence, because only an authenticated caller learns of errors in the input.
fn shown<O: Operation>(
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
) -> Result<(Shown, Result<O, Error>), Error> {
    match evidence? {
        Evidence::Anonymous => Err(of_nobody(input)),
        Evidence::Shown(shown) if shown.proof() != O::PROOF => {
            Err(Error::MissingAuthenticationToken)
        }
        Evidence::Shown(shown) => Ok((shown, input)),
    }
}

/// Returns the error for a caller without evidence. It reports an error in the request only if the action does not
/// exist here or does not require a signature.
fn of_nobody<O: Operation>(input: Result<O, Error>) -> Error {
    match input {
        Err(
            error @ (Error::NotAvailable(_)
            | Error::InvalidAction { .. }
            | Error::RefusedAction { .. }),
        ) => error,
        Err(error) if O::PROOF != Proof::Signature => error,
        _ => Error::MissingAuthenticationToken,
    }
}

/// Returns whether callers may use a presigned URL for the action. Anybody who gets such a URL can use it.
fn takes_presigned<O: Operation>(rules: &Rules) -> bool {
    O::SERVICE == Service::Sts
        && (O::TAKES_PRESIGNED || rules.presigned_actions.iter().any(|a| a == O::NAME))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::sts::get_caller_identity::GetCallerIdentity;
    use super::*;

    fn size_of_future<F: Future>(_: impl FnOnce() -> F) -> usize {
        size_of::<F>()
    }

    /// The future of every call is moved into its own allocation, so whatever few calls need is boxed.
    #[test]
    #[allow(unreachable_code)]
    fn a_simple_call_needs_no_room_for_what_others_wait_for() {
        let size = size_of_future(|| {
            conclude::<GetCallerIdentity>(
                unreachable!(),
                Service::Sts,
                unreachable!(),
                unreachable!(),
                unreachable!(),
                unreachable!(),
            )
        });
        assert!(size < 6 << 10, "{size} bytes");
    }

    fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, into),
                false => into.push(path),
            }
        }
    }

    /// Code that waits for the store in another way continues with an outdated snapshot and caller.
    #[test]
    fn operations_wait_for_the_store_by_the_context_alone() {
        // These return at once, or the decision is already carried out and is only being spread.
        const FREE: [&str; 5] = [
            "id",
            "is_shared",
            "is_locked",
            "last_spent_step",
            "nodes_after",
        ];
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![src.join("mfa.rs")];
        sources(&src.join("ops"), &mut files);
        let mut waits = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            for (at, _) in text.match_indices("broker.store.") {
                let (before, after) = text.split_at(at);
                let method = after
                    .trim_start_matches("broker.store.")
                    .split('(')
                    .next()
                    .unwrap();
                let waited = before.ends_with("cx.wait(cx.")
                    || before.ends_with("at.wait(")
                    || before.ends_with("self.wait(");
                waits += usize::from(waited);
                assert!(
                    waited || FREE.contains(&method),
                    "{}: {method} outside a wait",
                    file.display()
                );
            }
        }
        assert!(waits >= 7, "{waits} waits");
    }
}
