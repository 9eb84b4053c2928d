//! Decides when credentials are handed out, when they are renewed and when a failed attempt is repeated. Pure:
//! the time and a random number are arguments.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// Credentials are not handed out in the last minute before they expire, so that a call signed with them still
/// arrives in time.
pub const MARGIN: Duration = Duration::from_secs(60);
/// The period over which agents that start together spread their first attempts. A workload that asks for
/// credentials does not have to wait for it.
pub const START_SPREAD: Duration = Duration::from_secs(30);
/// The period over which agents spread the attempts to open their streams again, if many streams ended at the same
/// time. An agent without a stream does not hear of revocations.
pub const REOPEN_SPREAD: Duration = Duration::from_secs(10);
/// The pause after a failed attempt if there are still credentials that can be handed out.
const RELAXED: Duration = Duration::from_secs(60);
/// The pause after the first failed attempt if there are no credentials.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// The pause after a definite refusal. It is short, so that a permission that somebody has just granted takes
/// effect soon.
const REFUSED: Duration = Duration::from_secs(10);

/// A random part of `span`, from nothing to all of it.
fn part(span: Duration, random: u16) -> Duration {
    span / u32::from(u16::MAX) * u32::from(random)
}

/// When to fetch a session that is missing since `now`, because the agent starts or the session was revoked, if nobody
/// asks for it before.
pub fn first_at(now: Timestamp, random: u16) -> Timestamp {
    now.plus(part(START_SPREAD, random))
}

/// When to open a stream again that the broker ended because it could not continue, for example before a restart.
pub fn reopen_at(now: Timestamp, random: u16) -> Timestamp {
    now.plus(part(REOPEN_SPREAD, random))
}

/// When new credentials are renewed: after 40 to 60 % of their life, so that agents that fetched together do not
/// renew together.
pub fn renew_at(issued_at: Timestamp, expires_at: Timestamp, random: u16) -> Timestamp {
    let life = expires_at.since(issued_at);
    issued_at.plus(life * 2 / 5).plus(part(life / 5, random))
}

/// Whether credentials may be handed out: they are valid for longer than [`MARGIN`].
pub fn is_good(now: Timestamp, expires_at: Timestamp) -> bool {
    now.plus(MARGIN) < expires_at
}

/// When to repeat an attempt that failed without a definite refusal. Without credentials (`is_urgent`) the pause
/// doubles from one second to sixteen; with credentials it is [`RELAXED`]. Each pause is then multiplied by a random
/// factor between a half and one and a half.
pub fn retry_at(now: Timestamp, failures: u32, is_urgent: bool, random: u16) -> Timestamp {
    let pause = if is_urgent {
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE)
    } else {
        RELAXED
    };
    now.plus(pause / 2).plus(part(pause, random))
}

/// When to repeat an attempt that the broker refused for good: after 5 to 15 seconds.
pub fn ask_again_at(now: Timestamp, random: u16) -> Timestamp {
    now.plus(REFUSED / 2).plus(part(REFUSED, random))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn credentials_are_renewed_around_half_of_their_life() {
        assert_eq!(renew_at(at(0), at(3_600), 0).seconds(), 1_440);
        let latest = renew_at(at(0), at(3_600), u16::MAX).seconds();
        assert!((2_159..=2_160).contains(&latest), "{latest}");
        // What SDKs get then has more than twenty minutes left.
        assert!(3_600 - latest > 20 * 60);
    }

    #[test]
    fn nothing_is_handed_out_in_its_last_minute() {
        assert!(is_good(at(3_539), at(3_600)));
        assert!(!is_good(at(3_540), at(3_600)) && !is_good(at(9_999), at(3_600)));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_are_spread() {
        let pause = |failures, urgent, random| retry_at(at(0), failures, urgent, random).millis();
        assert_eq!(pause(1, true, 0), 500);
        assert_eq!(pause(3, true, 0), 2_000);
        assert_eq!(pause(5, true, 0), 8_000);
        assert_eq!(pause(u32::MAX, true, 0), 8_000);
        assert!((23_900..=24_000).contains(&pause(9, true, u16::MAX)));
        assert_eq!(pause(9, false, 0), 30_000);
        assert!((89_900..=90_000).contains(&pause(1, false, u16::MAX)));
        assert_eq!(ask_again_at(at(0), 0).millis(), 5_000);
    }
}
