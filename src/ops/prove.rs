//! Who calls: what was shown is judged, counted and written down, before anything is run.

use std::time::Duration;

use super::context::{Remark, judges};
use super::service::Service;
use crate::audit::Record;
use crate::authn::{self, Caller, Identity, Shown};
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::budgets::{self, Counted, CountedAs};
use crate::directory::Directory;
use crate::error::Error;
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

/// Who calls, and what it signed. `asked` is the service that the request must be for, and what it is
/// judged by.
pub(super) async fn caller(
    unproven: &Unproven<'_>,
    asked: (Service, &Directory, Timestamp),
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
    let (caller, signed) = match authenticate(broker, asked, shown).await {
        Ok(authenticated) => authenticated,
        Err((error, access_key_id, reason)) => {
            // Not proven: `type` says Unknown, and the key is what was claimed.
            record.user_identity.access_key_id = access_key_id;
            if let Some(reason) = reason {
                record.additional_event_data =
                    serde_json::value::to_raw_value(&Remark { reason }).ok();
            }
            // A broken directory is not the caller's doing.
            return Err(if is_signed && error != Error::InternalFailure {
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
        broker.key_use.note(&caller.access_key_id, asked.2);
    }
    record.user_identity = caller.audited();
    record.recipient_account_id = Some(caller.account().to_string());
    Ok((caller, signed))
}

/// Why somebody is not who they say: the error, the key that was claimed, and a reason for the audit.
type Refused = (Error, Option<String>, Option<&'static str>);

async fn authenticate(
    broker: &Broker,
    (service, directory, now): (Service, &Directory, Timestamp),
    shown: Shown,
) -> Result<(Caller, Option<Box<Presented>>), Refused> {
    match shown {
        Shown::Signature(presented) => {
            let names = broker.names.load();
            match authn::authenticate(&presented, &judges(broker, directory, &names, service), now)
            {
                Ok(caller) => Ok((caller, Some(presented))),
                Err(error) => {
                    let reason = (error == Error::Ended).then_some("ended");
                    Err((
                        error,
                        Some(presented.unverified_access_key_id().to_owned()),
                        reason,
                    ))
                }
            }
        }
        Shown::WebIdentity { token, account } => {
            // Its provider may have to be asked for keys; the token is judged by what holds then.
            let moment = || (broker.directory.load_full(), broker.clock.now());
            let (providers, own) = (&broker.providers, broker.issuer.as_deref());
            let asked = authn::authenticate_web_identity(
                token.expose(),
                account,
                providers,
                directory,
                own,
                moment,
            );
            // Boxed, as it is larger than all that a signed call needs.
            match Box::pin(asked).await {
                Ok(caller) => Ok((caller, None)),
                Err((error, reason)) => Err((error, None, Some(reason))),
            }
        }
    }
}
