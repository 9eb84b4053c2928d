//! Authenticates the caller of a request, counts the call and fills in the audit record before the
//! operation runs.

use std::sync::Arc;
use std::time::Duration;

use super::context::AuditedReason;
use super::draft::Draft;
use super::service::Service;
use crate::authn::{self, Proof, Shown};
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::budgets::{self, Counted, CountedAs};
use crate::caller::{Caller, Identity};
use crate::directory::Directory;
use crate::error::{Class, Error};
use crate::origin::Origin;
use crate::proof::sigv4::Presented;

/// A call whose caller is not authenticated yet. If authentication fails, the call counts towards
/// the budget of its source address.
pub(super) struct Unproven<'a> {
    broker: &'a Broker,
    origin: &'a Origin,
    source: budgets::Source,
    monotonic: Duration,
}

impl<'a> Unproven<'a> {
    pub(super) fn new(broker: &'a Broker, origin: &'a Origin) -> Self {
        Self {
            broker,
            origin,
            source: budgets::source(origin.source_ip),
            monotonic: broker.clock.monotonic(),
        }
    }

    /// Counts a refused call whose caller is not authenticated. Returns `error`, or throttling if
    /// there were too many such calls.
    pub(super) fn refuse(&self, error: Error) -> Error {
        self.count().err().unwrap_or(error)
    }

    fn count(&self) -> Result<(), Error> {
        let counted = self.broker.budgets.unproven(self.source, self.monotonic);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }

    /// Counts the further decisions of a call without a caller, as `amount` calls from its source.
    ///
    /// # Errors
    /// [`Error::Throttling`] if there were too many calls that authenticated nobody.
    pub(super) fn count_further(&self, amount: u64) -> Result<(), Error> {
        let budgets = &self.broker.budgets;
        let counted = budgets.unproven_calls(self.source, amount, self.monotonic);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }

    /// Counts a call of an authenticated caller, as `amount` calls, for the caller and its account, and for those
    /// about whom it asks. `presented` is the signature of the request; `None` if a certificate or a sign-in
    /// authenticated the caller.
    pub(super) fn count_signed(
        &self,
        counted_as: CountedAs,
        caller: &Caller,
        presented: Option<&Presented>,
        amount: u64,
        subjects: &[(String, u64)],
    ) -> Result<(), Error> {
        let account = caller.account();
        let signature = presented.map(Presented::digest);
        let counted = Counted {
            principal: &caller.budget_key(),
            account: account.as_str(),
            signature: signature.as_ref().map(<[u8; 16]>::as_slice),
            amount,
            subjects,
        };
        let counted = self
            .broker
            .budgets
            .call(counted_as, counted, self.monotonic);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }
}

/// Authenticates the caller of a request to `service`, with the directory and the time given.
/// Returns the caller and, for a signed request, the signature.
pub(super) async fn caller(
    unproven: &Unproven<'_>,
    (service, directory, now): (Service, &Directory, Timestamp),
    shown: Shown,
    record: &mut Draft,
) -> Result<(Arc<Caller>, Option<Box<Presented>>), Error> {
    let broker = unproven.broker;
    // A signature is checked whatever else came from the source, so that a good caller is served
    // next to a bad one. A token costs more to check, so it is counted first, and given back once a
    // role has admitted it.
    let is_signed = shown.proof() == Proof::Signature;
    if !is_signed {
        unproven.count()?;
    }
    let digest = shown.digest();
    let (caller, signed) = match authn::prove(broker, service.scope(), directory, now, shown).await
    {
        Ok(authenticated) => authenticated,
        Err(refused) => {
            let authn::Unproven {
                error,
                claimed_key,
                reason,
            } = *refused;
            record.claimed_key = claimed_key;
            record.additional_event_data = reason.as_ref().and_then(AuditedReason::audited);
            // An inconsistent directory is not the caller's fault.
            return Err(if is_signed && error.class() != Class::Internal {
                unproven.refuse(error)
            } else {
                error
            });
        }
    };
    let digest = digest.or_else(|| caller.federated().and_then(|identity| identity.digest()));
    if let (Some(call), Some(digest)) = (&unproven.origin.call, digest) {
        call.prove(&caller.budget_key(), digest);
    }
    if let (Identity::User(_), Some(signed)) = (&caller.identity, &signed) {
        let region = signed.unverified_region();
        broker
            .key_use
            .note(&caller.access_key_id, now, service.scope(), region);
    }
    let caller = Arc::new(caller);
    record.caller = Some(caller.clone());
    Ok((caller, signed))
}
