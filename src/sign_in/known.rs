//! Browsers in which a user has signed in before. Each has a number of wrong passwords of its own, so that
//! nobody who guesses elsewhere can lock the user out of them: OWASP, "Slow Down Online Guessing Attacks
//! with Device Cookies".

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seal::Sealer;
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::entropy;
use crate::broker::Broker;
use crate::error::Error;

/// How long a browser is known after a sign-in.
pub const KNOWN_FOR: Duration = Duration::from_secs(90 * 86_400);
/// The longest text of a known browser that is read, in bytes.
pub const MAX_BYTES: usize = 512;
/// The kind under which the text is sealed.
const KIND: &str = "known browser";

/// What a browser keeps of a user who signed in.
#[derive(Serialize, Deserialize)]
struct Known {
    user_id: String,
    browser: String,
    at: Timestamp,
}

/// The text that a browser keeps after a user has signed in. Nobody else can make or read it.
///
/// # Errors
/// [`Error`] if it cannot be sealed.
pub fn remember(broker: &Broker, user_id: &str) -> Result<String, Error> {
    let known = Known {
        user_id: user_id.to_owned(),
        browser: hex(&entropy::bytes::<16>(&*broker.entropy)?),
        at: broker.clock.now(),
    };
    Sealer::of(broker)?.seal(KIND, "", &known, &*broker.entropy)
}

/// The id of the browser that keeps a text, if this user has signed in there.
pub fn recognise(broker: &Broker, text: &str, user_id: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let known: Known = Sealer::of(broker).ok()?.open(KIND, "", text)?;
    let is_recent = broker.clock.now().since(known.at) < KNOWN_FOR;
    (is_recent && known.user_id == user_id).then_some(known.browser)
}
