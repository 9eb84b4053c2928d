//! Whether a signature brought credentials or a change before: `[sts] single_use_signatures`. A
//! signature that comes again is answered Throttling, which makes clients sign anew.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::error::Error;
use crate::proof::sigv4::{MAX_SKEW, Presented};
use crate::single_use::{Digest, Refused, SingleUse};

/// A signature that is being used. It stays used, unless it brings nothing.
pub(super) struct Claim<'a> {
    broker: &'a Broker,
    single_use: &'a SingleUse,
    signature: Digest,
}

/// Marks a signature as used: here, and for the brokers on the same Redis. None: signatures may be used
/// as often as they are good.
///
/// # Errors
/// [`Error::Throttling`] when it was used before, or cannot be remembered.
pub(super) async fn claim<'a>(
    broker: &'a Broker,
    presented: &Presented,
    now: Timestamp,
) -> Result<Option<Claim<'a>>, Error> {
    let Some(single_use) = &broker.single_use else {
        return Ok(None);
    };
    let signature = presented.digest();
    // As long as it would be taken, whatever its kind; and a second that is begun.
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
    match broker
        .sessions
        .claim_signature(&broker.tokens.keyring(), &signature, left)
        .await
    {
        Ok(true) => {}
        // Another broker has seen it; so has this one from now on.
        Ok(false) => return Err(broker.throttled("signature")),
        Err(error) => {
            tracing::debug!(%error, "whether another broker has seen a signature is not known");
            broker.metrics.signatures_unshared.inc();
        }
    }
    Ok(Some(Claim {
        broker,
        single_use,
        signature,
    }))
}

impl Claim<'_> {
    /// It brought nothing, and may come again.
    pub(super) async fn release(self) {
        self.single_use.release(&self.signature);
        self.broker
            .sessions
            .release_signature(&self.broker.tokens.keyring(), &self.signature)
            .await;
    }
}
