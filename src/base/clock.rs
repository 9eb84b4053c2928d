//! [`Timestamp`] and [`Clock`]. This is the only module that reads the system's wall clock.

mod high_water;

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use high_water::HighWaterClock;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// An instant, in milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The number of milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Creates a timestamp from milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Creates a timestamp from whole seconds since 1970.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The number of whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The beginning of the second that contains this instant.
    pub const fn whole_second(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The span from `earlier` to this instant; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Parses the SigV4 form, `20260102T030405Z`. `None` if the text differs from that or names no
    /// real instant.
    pub fn from_amz(text: &str) -> Option<Self> {
        let digits = |from: usize, to: usize| -> Option<i16> {
            let part = text.get(from..to)?;
            part.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| part.parse().ok())?
        };
        if text.len() != 16 || text.get(8..9)? != "T" || text.get(15..16)? != "Z" {
            return None;
        }
        let part = |from, to| digits(from, to).and_then(|n| i8::try_from(n).ok());
        let at = jiff::civil::DateTime::new(
            digits(0, 4)?,
            part(4, 6)?,
            part(6, 8)?,
            part(9, 11)?,
            part(11, 13)?,
            part(13, 15)?,
            0,
        );
        let at = jiff::tz::Offset::UTC.to_timestamp(at.ok()?).ok()?;
        Some(Self::from_seconds(at.as_second()))
    }

    /// Parses an HTTP date, `Fri, 02 Jan 2026 03:04:05 GMT` (RFC 9110 section 5.6.7). `None` for
    /// anything else.
    pub fn from_http_date(text: &str) -> Option<Self> {
        let rest = text.strip_suffix(" GMT")?;
        let [day, month] = [rest.get(5..7)?, rest.get(8..11)?];
        let number = MONTHS.iter().position(|m| *m == month)? + 1;
        let amz = format!(
            "{}{number:02}{day}T{}Z",
            rest.get(12..16)?,
            rest.get(17..)?.replace(':', "")
        );
        let at = Self::from_amz(&amz)?;
        // The whole text is compared, so that the separators and the weekday must be right, too.
        (at.to_http_date()? == text).then_some(at)
    }

    fn to_http_date(self) -> Option<String> {
        let at = jiff::Timestamp::from_second(self.seconds())
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC);
        let month = MONTHS.get(usize::try_from(at.month() - 1).ok()?)?;
        let weekday = WEEKDAYS.get(usize::try_from(at.weekday().to_monday_zero_offset()).ok()?)?;
        let (day, year, hour, minute, second) =
            (at.day(), at.year(), at.hour(), at.minute(), at.second());
        Some(format!(
            "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
        ))
    }

    /// The SigV4 form, `20260102T030405Z`.
    pub fn to_amz(self) -> String {
        self.to_string().replace(['-', ':'], "")
    }
}

/// Serializes the instant as the number of milliseconds since 1970.
impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self)
    }
}

/// Formats the instant as ISO 8601 in whole seconds, UTC: `2026-01-02T03:04:05Z`, which every SDK
/// can parse.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = jiff::Timestamp::from_second(self.seconds()) else {
            return write!(f, "@{}", self.seconds());
        };
        let time = jiff::tz::Offset::UTC.to_datetime(at);
        let Ok(year @ 0..=9_999) = u16::try_from(time.year()) else {
            return write!(f, "{at}");
        };
        // Written at once, since every call writes a few.
        let mut text = *b"0000-00-00T00:00:00Z";
        let parts = [
            (3, year),
            (6, time.month().unsigned_abs().into()),
            (9, time.day().unsigned_abs().into()),
            (12, time.hour().unsigned_abs().into()),
            (15, time.minute().unsigned_abs().into()),
            (18, time.second().unsigned_abs().into()),
        ];
        for (last, mut number) in parts {
            for digit in text
                .iter_mut()
                .take(last + 1)
                .rev()
                .take_while(|d| **d == b'0')
            {
                *digit += u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// A source of time. The broker and the agent use [`HighWaterClock`], commands use [`SystemClock`], and tests use
/// [`ManualClock`].
pub trait Clock: Send + Sync {
    /// The current time by which decisions are made.
    fn now(&self) -> Timestamp;

    /// The time since a fixed instant in the past. It is not affected by changes of the wall clock.
    fn monotonic(&self) -> Duration;
}

/// The operating system's wall clock, which can jump in both directions.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        // This clock also counts while the machine is suspended, unlike [`std::time::Instant`].
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(since_boot.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(since_boot.tv_nsec).unwrap_or_default();
        Duration::new(seconds, nanoseconds)
    }
}

/// A clock for tests, which moves only when told to. It holds its wall time and its monotonic time
/// in milliseconds.
#[derive(Debug)]
pub struct ManualClock(AtomicI64, AtomicU64);

impl ManualClock {
    /// Creates a clock with this wall time.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0), AtomicU64::new(0))
    }

    /// Moves the wall time forward by `span`; the monotonic time does not change.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(
            i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
            Ordering::SeqCst,
        );
    }

    /// Moves the monotonic time forward by `span`; the wall time does not change.
    pub fn pass(&self, span: Duration) {
        self.1.fetch_add(
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            Ordering::SeqCst,
        );
    }

    /// Sets the wall time, forward or back; the monotonic time does not change.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.1.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_amz_form_is_exact() {
        let at = Timestamp::from_amz("20260102T030405Z").unwrap();
        assert_eq!(at.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(at.to_amz(), "20260102T030405Z");
        for bad in [
            "20260230T000000Z",
            "20260101T240000Z",
            "20260101T000000",
            "2026010aT000000Z",
            "99999T",
            "20260101t000000z",
            "+0260101T000000Z",
        ] {
            assert_eq!(Timestamp::from_amz(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_iso_form_is_that_of_jiff(seconds in -99_999_999_999i64..300_000_000_000) {
            let jiff = match jiff::Timestamp::from_second(seconds) {
                Ok(at) => at.to_string(),
                Err(_) => format!("@{seconds}"),
            };
            proptest::prop_assert_eq!(Timestamp::from_seconds(seconds).to_string(), jiff);
        }
    }

    #[test]
    fn the_http_form_is_exact() {
        let at = Timestamp::from_http_date("Fri, 02 Jan 2026 03:04:05 GMT").unwrap();
        assert_eq!(at.to_amz(), "20260102T030405Z");
        for bad in [
            "",
            "Fri, 02 Jan 2026 03:04:05 UTC",
            "Thu, 02 Jan 2026 03:04:05 GMT",
            "Fri, 2 Jan 2026 03:04:05 GMT",
            "Fri, 02 jan 2026 03:04:05 GMT",
            "Fri, 30 Feb 2026 03:04:05 GMT",
            "Fri, 02 Jan 2026 24:04:05 GMT",
            "Fri, 02 Jan 2026 03:0405: GMT",
            "Fri; 02 Jan 2026 03:04:05 GMT",
            "Fri, 02 Jan 99999 03:04:05 GMT",
            "Fri, é2 Jan 2026 03:04:05 GMT",
        ] {
            assert_eq!(Timestamp::from_http_date(bad), None, "{bad}");
        }
    }
}
