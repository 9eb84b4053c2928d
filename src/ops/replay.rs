//! Refuses a signature that has already been used for a call that returns credentials or changes
//! something, if `[sts] single_use_signatures` is set. A repeated signature is answered with
//! Throttling, which makes clients sign again.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::error::Error;
use crate::proof::sigv4::{MAX_SKEW, Presented};
use crate::single_use::{Digest, Refused, SingleUse};

/// A signature that this call has marked as used. [`Self::release`] undoes that if the call fails.
pub(super) struct Claim<'a> {
    broker: &'a Broker,
    single_use: &'a SingleUse,
    signature: Digest,
    /// Whether Redis has confirmed the mark. Otherwise the mark there, if any, may be another broker's.
    is_confirmed: bool,
}

/// Marks a signature as used, on this broker and in the Redis that it shares with others. If Redis does not answer,
/// only this broker knows the signature. Returns `None` if the configuration allows repeated signatures.
///
/// # Errors
/// [`Error::Throttling`] if the signature was used before, or this broker remembers as many signatures as it can.
pub(super) async fn claim<'a>(
    broker: &'a Broker,
    presented: &Presented,
    now: Timestamp,
) -> Result<Option<Claim<'a>>, Error> {
    let Some(single_use) = &broker.single_use else {
        return Ok(None);
    };
    let signature = presented.digest();
    // The longest time for which a signature of any kind is valid, and the second that has begun.
    let left = presented
        .unverified_date()
        .plus(MAX_SKEW + Duration::from_secs(1))
        .since(now);
    let monotonic = broker.clock.monotonic();
    single_use
        .claim(signature, monotonic + left, monotonic)
        .map_err(|refused| {
            let why = match refused {
                Refused::Used => "signature",
                Refused::Full => "signatures",
            };
            broker.throttled(why)
        })?;
    let is_confirmed = match broker
        .sessions
        .claim_signature(&broker.tokens.keyring(), &signature, left)
        .await
    {
        Ok(true) => true,
        // Another broker has seen it. From now on this broker knows it, too.
        Ok(false) => return Err(broker.throttled("signature")),
        Err(error) => {
            tracing::debug!(%error, "Redis could not tell whether another broker has already seen a single-use \
                signature; the signature was accepted");
            broker.metrics.signatures_unshared.inc();
            false
        }
    };
    Ok(Some(Claim {
        broker,
        single_use,
        signature,
        is_confirmed,
    }))
}

impl Claim<'_> {
    /// Forgets the signature of a call that failed, so that the client may send the request again. A mark in Redis
    /// that this broker does not know to be its own stays there.
    pub(super) async fn release(self) {
        self.single_use.release(&self.signature);
        if !self.is_confirmed {
            return;
        }
        self.broker
            .sessions
            .release_signature(&self.broker.tokens.keyring(), &self.signature)
            .await;
    }
}
