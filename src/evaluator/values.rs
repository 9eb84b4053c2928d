//! The values that conditions compare: numbers, dates, addresses, booleans and binary data.
//!
//! The formats are in the IAM User Guide, "IAM JSON policy elements: Condition operators".

use std::cmp::Ordering;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The type of a value in a request for a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Any text, including ARNs.
    String,
    /// A decimal number.
    Numeric,
    /// `true` or `false` in any case.
    Boolean,
    /// An IPv4 or IPv6 address.
    Ip,
    /// Bytes in base64.
    Binary,
    /// A date in ISO 8601 or in seconds since 1970.
    Date,
}

impl ValueType {
    /// Whether the text is a value of this type, so that an operator for the type can compare it.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::String => true,
            Self::Numeric => Decimal::parse(text).is_some(),
            Self::Boolean => boolean(text).is_some(),
            Self::Ip => text.parse::<IpAddr>().is_ok(),
            Self::Binary => STANDARD.decode(text).is_ok(),
            Self::Date => Instant::parse(text).is_some(),
        }
    }
}

/// Parses `true` or `false` in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Whether the base64 text `got` encodes exactly the bytes `wanted`. It does not allocate.
pub(super) fn binary_equals(got: &str, wanted: &[u8]) -> bool {
    let mut rest = wanted;
    let mut chunks = got.as_bytes().chunks(4).peekable();
    while let Some(chunk) = chunks.next() {
        let mut out = [0; 3];
        let Ok(length) = STANDARD.decode_slice(chunk, &mut out) else {
            return false;
        };
        let (Some(bytes), Some(head)) = (out.get(..length), rest.get(..length)) else {
            return false;
        };
        if bytes != head || (length < 3 && chunks.peek().is_some()) {
            return false;
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    rest.is_empty()
}

/// A range of IPv4 or IPv6 addresses, which `IpAddress` and `NotIpAddress` compare with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses a range such as `10.0.0.0/8` or `2001:db8::/32`. Without a prefix length it is one
    /// address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            None => (text.parse().ok()?, None),
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix)),
        };
        let whole = if matches!(address, IpAddr::V4(_)) {
            32
        } else {
            128
        };
        let prefix = match prefix {
            None => whole,
            Some(p) if !p.is_empty() && p.len() <= 3 && p.bytes().all(|b| b.is_ascii_digit()) => {
                p.parse().ok()?
            }
            Some(_) => return None,
        };
        (prefix <= whole).then_some(Self { address, prefix })
    }

    /// Whether the range contains every address of its family.
    pub(super) fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// Whether the range contains an address. IPv4 and IPv6 never match each other.
    // Shifting by the whole width gives `None` on both sides, which makes `/0` match.
    pub fn contains(self, got: IpAddr) -> bool {
        match (self.address, got) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                u32::from(a).checked_shr(32 - u32::from(self.prefix))
                    == u32::from(b).checked_shr(32 - u32::from(self.prefix))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                u128::from(a).checked_shr(128 - u32::from(self.prefix))
                    == u128::from(b).checked_shr(128 - u32::from(self.prefix))
            }
            _ => false,
        }
    }
}

/// A decimal number of up to 38 digits. Comparisons are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    /// The value times ten to the power of `scale`.
    digits: i128,
    scale: u32,
}

impl Decimal {
    /// Parses an optional sign, digits and an optional fraction, such as `-12.50`, and nothing
    /// else.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix(['-', '+']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
        if whole.is_empty() && fraction.is_empty() || rest.ends_with('.') {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let whole = whole.trim_start_matches('0');
        let mut digits: i128 = 0;
        for b in whole.bytes().chain(fraction.bytes()) {
            if !b.is_ascii_digit() {
                return None;
            }
            digits = digits.checked_mul(10)?.checked_add(i128::from(b - b'0'))?;
        }
        let scale = u32::try_from(fraction.len()).ok()?;
        Some(Self {
            digits: if negative { -digits } else { digits },
            scale,
        })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let common = self.scale.max(other.scale);
        let lift = |d: &Self| {
            10i128
                .checked_pow(common - d.scale)
                .and_then(|f| d.digits.checked_mul(f))
        };
        match (lift(self), lift(other)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Only a number far beyond 38 digits overflows here, so it has the larger magnitude.
            (None, Some(_)) => self.digits.signum().cmp(&0),
            (Some(_), None) => 0.cmp(&other.digits.signum()),
            (None, None) => self.digits.cmp(&other.digits),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Parses a number that consists of digits only, without sign or spaces.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A date in nanoseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(i128);

impl Instant {
    /// Parses a date in the W3C profile of ISO 8601 or in seconds since 1970. A date or month
    /// without a time means its first instant in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(number) = Decimal::parse(text) {
            // `2026` could be a year, but it is read as a number of seconds, which AWS calls epoch
            // time.
            let factor = 10i128.checked_pow(9u32.checked_sub(number.scale)?)?;
            return Some(Self(number.digits.checked_mul(factor)?));
        }
        let bytes = text.as_bytes();
        match bytes.len() {
            7 if bytes.get(4) == Some(&b'-') => Self::day(text, 1),
            10 if bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-') => {
                Self::day(text, digits(text.get(8..)?)?)
            }
            // A longer text has a time and must have a zone. A lower-case `t` or a space is not
            // accepted.
            17..=40 if bytes.get(10) == Some(&b'T') => Self::with_time(text),
            _ => None,
        }
    }

    /// The first instant of this day in the month `YYYY-MM` at the beginning of the text.
    fn day(text: &str, day: i8) -> Option<Self> {
        let year: i16 = digits(text.get(..4)?)?;
        let date = jiff::civil::Date::new(year, digits(text.get(5..7)?)?, day).ok()?;
        let days = date
            .since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1)))
            .ok()?
            .get_days();
        Some(Self(i128::from(days) * 86_400_000_000_000))
    }

    fn with_time(text: &str) -> Option<Self> {
        let zoned = text.ends_with('Z')
            || text
                .get(text.len().checked_sub(6)?..)?
                .starts_with(['+', '-']);
        if !zoned {
            return None;
        }
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|t| Self(t.as_nanosecond()))
    }
}
