//! Browsers in which a user has signed in before. Wrong passwords are counted separately for each known browser, so
//! that somebody who guesses elsewhere cannot lock the user out there: OWASP, "Slow Down Online Guessing Attacks with
//! Device Cookies".

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
/// The longest cookie of a known browser that is read, in bytes.
pub const MAX_BYTES: usize = 512;
/// The kind of value under which the cookie is sealed. A value that was sealed as another kind is not accepted as this
/// cookie.
const KIND: &str = "known browser";

/// The sealed content of the cookie of a known browser.
#[derive(Serialize, Deserialize)]
struct Known {
    user_id: String,
    browser: String,
    at: Timestamp,
}

/// Makes the cookie that a browser keeps after a user has signed in. Only brokers with the same master key can make or
/// read it.
///
/// # Errors
/// [`Error`] if the cookie cannot be sealed.
pub fn remember(broker: &Broker, user_id: &str) -> Result<String, Error> {
    let known = Known {
        user_id: user_id.to_owned(),
        browser: hex(&entropy::bytes::<16>(&*broker.entropy)?),
        at: broker.clock.now(),
    };
    Sealer::of(broker)?.seal(KIND, "", &known, &*broker.entropy)
}

/// The id of the browser that sent this cookie; `None` unless this user has signed in there within [`KNOWN_FOR`].
pub fn recognise(broker: &Broker, text: &str, user_id: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let known: Known = Sealer::of(broker).ok()?.open(KIND, "", text)?;
    let is_recent = broker.clock.now().since(known.at) < KNOWN_FOR;
    (is_recent && known.user_id == user_id).then_some(known.browser)
}
