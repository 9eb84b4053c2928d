//! Who calls: what was shown is judged, counted and written down, before anything is run.

use std::time::Duration;

use super::context::Unproved;
use super::service::Service;
use crate::audit::Record;
use crate::authn::{self, Shown};
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::budgets::{self, Counted, CountedAs};
use crate::caller::{Caller, Identity};
use crate::directory::Directory;
use crate::error::{Class, Error};
use crate::origin::Origin;
use crate::proof::sigv4::Presented;

/// A call that has proven nobody yet: it counts for where it comes from.
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

    /// The refusal of a call that proves nobody; another one once there were too many.
    pub(super) fn refuse(&self, error: Error) -> Error {
        self.count().err().unwrap_or(error)
    }

    fn count(&self) -> Result<(), Error> {
        let counted = self.broker.budgets.unproven(self.source, self.monotonic);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }

    /// Counts a signed call for its caller and the caller's account.
    pub(super) fn count_signed(
        &self,
        counted_as: CountedAs,
        caller: &Caller,
        presented: &Presented,
    ) -> Result<(), Error> {
        let account = caller.account();
        let counted = Counted {
            principal: caller.budget_key(),
            account: account.as_str(),
            signature: Some(presented.signature()),
        };
        let counted = self
            .broker
            .budgets
            .call(counted_as, counted, self.monotonic);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }
}

/// Who calls, and what it signed. It is judged by the directory and
/// the instant that come with the service it must be for.
pub(super) async fn caller(
    unproven: &Unproven<'_>,
    (service, directory, now): (Service, &Directory, Timestamp),
    shown: Shown,
    record: &mut Record,
) -> Result<(Caller, Option<Box<Presented>>), Error> {
    let broker = unproven.broker;
    // A signature is checked whatever else came from there: a good caller beside a bad one is served.
    // A token is not, since checking it costs more; it is given back when a role has admitted it.
    let is_signed = matches!(shown, Shown::Signature(_));
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
            // Not proven: `type` says Unknown, and the key is what was claimed.
            record.user_identity.access_key_id = claimed_key;
            if let Some(reason) = reason {
                record.additional_event_data = Unproved::audited(reason);
            }
            // A broken directory is not the caller's doing.
            return Err(if is_signed && error.class() != Class::Internal {
                unproven.refuse(error)
            } else {
                error
            });
        }
    };
    if let (Some(call), Some(digest)) = (&unproven.origin.call, digest) {
        call.prove(caller.budget_key(), digest);
    }
    if matches!(caller.identity, Identity::User(_)) {
        broker.key_use.note(&caller.access_key_id, now);
    }
    record.user_identity = caller.audited();
    record.recipient_account_id = Some(caller.account().to_string());
    Ok((caller, signed))
}
