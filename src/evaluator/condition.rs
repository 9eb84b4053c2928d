//! Condition operators, `…IfExists`, `ForAllValues:`, `ForAnyValue:` and `Null`.
//!
//! IAM User Guide, "IAM JSON policy elements: Condition operators" and "Multivalued context keys".

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::context::{Context, Value};
use super::document::Effect;
use super::pattern::{ArnPattern, Match, Pattern, Syntax};

/// One operator over one key: a statement applies only if each of its conditions holds.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// In lower case.
    key: Box<str>,
    /// As written, for those who ask why.
    operator: Box<str>,
    wanted: Box<[Box<str>]>,
    set: Set,
    if_exists: bool,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// No set qualifier.
    Plain,
    ForAll,
    ForAny,
}

/// The wanted values, compiled for their operator.
#[derive(Debug, Clone)]
enum Test {
    Text(Vec<Pattern>),
    TextIgnoreCase(Vec<Pattern>),
    Arn(Vec<ArnPattern>),
    Number(Accept, Vec<Decimal>),
    Date(Accept, Vec<Instant>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Ip(Vec<Network>),
    /// Whether the key must be absent.
    Null(Vec<bool>),
}

/// Which orderings of (got, wanted) satisfy a comparison.
#[derive(Debug, Clone, Copy)]
struct Accept {
    less: bool,
    equal: bool,
    greater: bool,
}

impl Accept {
    const EQUAL: Self = Self {
        less: false,
        equal: true,
        greater: false,
    };
    const LESS: Self = Self {
        less: true,
        equal: false,
        greater: false,
    };
    const LESS_EQUAL: Self = Self {
        less: true,
        equal: true,
        greater: false,
    };
    const GREATER: Self = Self {
        less: false,
        equal: false,
        greater: true,
    };
    const GREATER_EQUAL: Self = Self {
        less: false,
        equal: true,
        greater: true,
    };

    fn takes(self, ordering: Ordering) -> bool {
        match ordering {
            Ordering::Less => self.less,
            Ordering::Equal => self.equal,
            Ordering::Greater => self.greater,
        }
    }
}

impl Condition {
    /// Compiles one operator, key and its wanted values. `variables` says whether the document's
    /// version knows policy variables. The error is the rule that was broken.
    pub fn parse(
        operator: &str,
        key: &str,
        values: &[Cow<'_, str>],
        variables: bool,
    ) -> Result<Self, Cow<'static, str>> {
        let (set, rest) = match operator.split_once(':') {
            None => (Set::Plain, operator),
            Some(("ForAllValues", rest)) => (Set::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Set::ForAny, rest),
            Some(_) => return Err("a set operator is `ForAllValues` or `ForAnyValue`".into()),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let text = |wildcards| -> Result<Vec<Pattern>, Cow<'static, str>> {
            let syntax = Syntax {
                wildcards,
                variables,
            };
            values
                .iter()
                .map(|v| Pattern::parse(v, syntax).map_err(Cow::from))
                .collect()
        };
        let (negated, test) = match name {
            "StringEquals" => (false, Test::Text(text(false)?)),
            "StringNotEquals" => (true, Test::Text(text(false)?)),
            "StringEqualsIgnoreCase" => (false, Test::TextIgnoreCase(text(false)?)),
            "StringNotEqualsIgnoreCase" => (true, Test::TextIgnoreCase(text(false)?)),
            "StringLike" => (false, Test::Text(text(true)?)),
            "StringNotLike" => (true, Test::Text(text(true)?)),
            "ArnEquals" | "ArnLike" => (false, Test::Arn(arns(values, variables)?)),
            "ArnNotEquals" | "ArnNotLike" => (true, Test::Arn(arns(values, variables)?)),
            "NumericEquals" => (false, numbers(Accept::EQUAL, values)?),
            "NumericNotEquals" => (true, numbers(Accept::EQUAL, values)?),
            "NumericLessThan" => (false, numbers(Accept::LESS, values)?),
            "NumericLessThanEquals" => (false, numbers(Accept::LESS_EQUAL, values)?),
            "NumericGreaterThan" => (false, numbers(Accept::GREATER, values)?),
            "NumericGreaterThanEquals" => (false, numbers(Accept::GREATER_EQUAL, values)?),
            "DateEquals" => (false, dates(Accept::EQUAL, values)?),
            "DateNotEquals" => (true, dates(Accept::EQUAL, values)?),
            "DateLessThan" => (false, dates(Accept::LESS, values)?),
            "DateLessThanEquals" => (false, dates(Accept::LESS_EQUAL, values)?),
            "DateGreaterThan" => (false, dates(Accept::GREATER, values)?),
            "DateGreaterThanEquals" => (false, dates(Accept::GREATER_EQUAL, values)?),
            "Bool" => (false, Test::Bool(booleans(values)?)),
            "BinaryEquals" => {
                let decode = |v: &Cow<'_, str>| {
                    STANDARD
                        .decode(v.as_bytes())
                        .map_err(|_| "a `BinaryEquals` value is base64".into())
                };
                (
                    false,
                    Test::Binary(
                        values
                            .iter()
                            .map(decode)
                            .collect::<Result<_, Cow<'static, str>>>()?,
                    ),
                )
            }
            "IpAddress" => (false, networks(values)?),
            "NotIpAddress" => (true, networks(values)?),
            "Null" if if_exists => return Err("`Null` does not go with `IfExists`".into()),
            "Null" if set != Set::Plain => {
                return Err("`Null` does not go with a set operator".into());
            }
            "Null" => (false, Test::Null(booleans(values)?)),
            _ => return Err(format!("`{operator}` is not a condition operator").into()),
        };
        let wanted = values.iter().map(|v| Box::from(&**v)).collect();
        Ok(Self {
            key: key.to_ascii_lowercase().into(),
            operator: operator.into(),
            wanted,
            set,
            if_exists,
            negated,
            test,
        })
    }

    /// In lower case.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// As written.
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// As written.
    pub fn wanted(&self) -> &[Box<str>] {
        &self.wanted
    }

    /// Whether an absent key makes the condition fail.
    pub fn needs_its_key(&self) -> bool {
        !self.negated
            && !self.if_exists
            && self.set != Set::ForAll
            && !matches!(self.test, Test::Null(_))
    }

    /// Whether the condition keeps anybody out who does not name himself in it: it wants something of the
    /// request. One that holds without its key (`…IfExists`, `ForAllValues:`), that says only what the key
    /// must not be, or that takes every value wants nothing.
    pub fn restricts(&self) -> bool {
        if let Test::Null(wanted) = &self.test {
            return !(wanted.contains(&true) && wanted.contains(&false));
        }
        let takes_all = match &self.test {
            Test::Text(wanted) | Test::TextIgnoreCase(wanted) => wanted.iter().any(Pattern::is_any),
            Test::Arn(wanted) => wanted.iter().any(ArnPattern::is_any),
            Test::Bool(wanted) => wanted.contains(&true) && wanted.contains(&false),
            Test::Ip(wanted) => wanted.iter().any(Network::is_everything),
            Test::Number(..) | Test::Date(..) | Test::Binary(_) | Test::Null(_) => false,
        };
        self.needs_its_key() && !takes_all
    }

    /// What a key must be for the condition to hold, for each wanted value: what stands before its
    /// first wildcard, and whether that is all of it. None when the condition is no equality of texts or
    /// ARNs, holds without its key or by negation, or wants what the request itself says (a variable).
    pub fn pinned(&self) -> Option<Vec<(String, bool)>> {
        if !self.needs_its_key() {
            return None;
        }
        match &self.test {
            Test::Text(wanted) | Test::TextIgnoreCase(wanted) => {
                wanted.iter().map(Pattern::pinned).collect()
            }
            Test::Arn(wanted) => wanted.iter().map(ArnPattern::pinned).collect(),
            _ => None,
        }
    }

    /// Whether the condition holds when its key is absent, as an Allow sees it.
    pub fn holds_without_its_key(&self) -> bool {
        self.holds(&Context::new(), Effect::Allow)
    }

    /// Whether it says what the key must not be, and does not spare an absent key by `…IfExists`.
    pub fn is_negated(&self) -> bool {
        self.negated && !self.if_exists && self.set == Set::Plain
    }

    /// Whether the condition holds. `effect` decides what documentation leaves open: in doubt a
    /// Deny applies and an Allow does not.
    pub fn holds(&self, context: &Context<'_>, effect: Effect) -> bool {
        let got = context.lookup(&self.key);
        if let Test::Null(wanted) = &self.test {
            // IAM User Guide: `false` means that "the key exists and its value is not null".
            return wanted.contains(&got.is_none_or(Value::is_null));
        }
        let in_doubt = effect == Effect::Deny;
        match (got, self.set) {
            // IAM User Guide, "Set operators for multivalued context keys": true without a key, and
            // true for a null data set, "such as an empty string".
            (got, Set::ForAll) if got.is_none_or(Value::is_null) => true,
            // "IfExists" says true, "ForAnyValue" says false: documentation gives no order.
            (got, Set::ForAny) if got.is_none_or(Value::is_null) => self.if_exists && in_doubt,
            (None, _) => self.if_exists || self.negated,
            (Some(Value::One(text)), _) => self.satisfies(text, context, in_doubt),
            (Some(Value::Many(texts)), Set::ForAll) => {
                texts.iter().all(|t| self.satisfies(t, context, in_doubt))
            }
            (Some(Value::Many(texts)), Set::ForAny) => {
                texts.iter().any(|t| self.satisfies(t, context, in_doubt))
            }
            // A list without a set operator is "not supported" and has no documented result.
            (Some(Value::Many(_)), Set::Plain) => in_doubt,
        }
    }

    fn satisfies(&self, got: &str, context: &Context<'_>, in_doubt: bool) -> bool {
        let hit = match &self.test {
            Test::Text(wanted) => wanted.iter().any(|p| p.matches(got, context) == Match::Yes),
            Test::TextIgnoreCase(wanted) => wanted
                .iter()
                .any(|p| p.matches_ignore_case(got, context) == Match::Yes),
            Test::Arn(wanted) => wanted.iter().any(|p| p.matches(got, context) == Match::Yes),
            Test::Bool(wanted) => boolean(got).is_some_and(|got| wanted.contains(&got)),
            Test::Binary(wanted) => wanted.iter().any(|w| binary_equals(got, w)),
            Test::Null(_) => false,
            // A value of another type satisfies nothing; that it is "not equal" is not documented.
            Test::Number(accept, wanted) => match Decimal::parse(got) {
                Some(got) => wanted.iter().any(|w| accept.takes(got.cmp(w))),
                None => return self.negated && in_doubt,
            },
            Test::Date(accept, wanted) => match Instant::parse(got) {
                Some(got) => wanted.iter().any(|w| accept.takes(got.cmp(w))),
                None => return self.negated && in_doubt,
            },
            Test::Ip(wanted) => match got.parse::<IpAddr>() {
                Ok(got) => wanted.iter().any(|w| w.contains(got)),
                Err(_) => return self.negated && in_doubt,
            },
        };
        hit != self.negated
    }
}

fn arns(values: &[Cow<'_, str>], variables: bool) -> Result<Vec<ArnPattern>, Cow<'static, str>> {
    values
        .iter()
        .map(|v| match ArnPattern::parse(v, variables) {
            Ok(pattern) => Ok(pattern),
            Err(rule) => Err(format!("`{v}` {rule}").into()),
        })
        .collect()
}

fn numbers(accept: Accept, values: &[Cow<'_, str>]) -> Result<Test, Cow<'static, str>> {
    let one =
        |v: &Cow<'_, str>| Decimal::parse(v).ok_or_else(|| format!("`{v}` is not a number").into());
    Ok(Test::Number(
        accept,
        values
            .iter()
            .map(one)
            .collect::<Result<_, Cow<'static, str>>>()?,
    ))
}

fn dates(accept: Accept, values: &[Cow<'_, str>]) -> Result<Test, Cow<'static, str>> {
    let one = |v: &Cow<'_, str>| {
        Instant::parse(v)
            .ok_or_else(|| format!("`{v}` is not a date (ISO 8601, or seconds since 1970)").into())
    };
    Ok(Test::Date(
        accept,
        values
            .iter()
            .map(one)
            .collect::<Result<_, Cow<'static, str>>>()?,
    ))
}

fn networks(values: &[Cow<'_, str>]) -> Result<Test, Cow<'static, str>> {
    let one = |v: &Cow<'_, str>| {
        Network::parse(v).ok_or_else(|| format!("`{v}` is not an IP address or CIDR range").into())
    };
    Ok(Test::Ip(
        values
            .iter()
            .map(one)
            .collect::<Result<_, Cow<'static, str>>>()?,
    ))
}

fn booleans(values: &[Cow<'_, str>]) -> Result<Vec<bool>, Cow<'static, str>> {
    values
        .iter()
        .map(|v| boolean(v).ok_or_else(|| format!("`{v}` is neither `true` nor `false`").into()))
        .collect()
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn binary_equals(got: &str, wanted: &[u8]) -> bool {
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

/// An IP address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, `2001:db8::/32`; without a prefix length the address alone.
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

    /// Whether every address of its family is in the range.
    fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// Whether an address is in the range. The families never match each other.
    // A shift by the whole width is `None` on both sides: `/0`.
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

/// A decimal number of up to 38 digits, compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    /// The value times ten to the power of `scale`.
    digits: i128,
    scale: u32,
}

impl Decimal {
    /// `-12.50`: an optional sign, digits, an optional fraction. Nothing else is a number.
    fn parse(text: &str) -> Option<Self> {
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
            // Only a number far beyond 38 digits overflows when lifted: it is the larger in size.
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

/// Digits alone: no sign, no space.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A date in nanoseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(i128);

impl Instant {
    /// The W3C profile of ISO 8601 (a date or a month alone is its first instant, UTC), or seconds
    /// since 1970.
    fn parse(text: &str) -> Option<Self> {
        if let Some(number) = Decimal::parse(text) {
            // `2026` could be a year; as a number of seconds it is what AWS calls epoch time.
            let factor = 10i128.checked_pow(9u32.checked_sub(number.scale)?)?;
            return Some(Self(number.digits.checked_mul(factor)?));
        }
        let bytes = text.as_bytes();
        match bytes.len() {
            7 if bytes.get(4) == Some(&b'-') => Self::day(text, 1),
            10 if bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-') => {
                Self::day(text, digits(text.get(8..)?)?)
            }
            // Anything longer has a time and must have a zone; a lower-case `t` or a space is another format.
            17..=40 if bytes.get(10) == Some(&b'T') => Self::with_time(text),
            _ => None,
        }
    }

    /// The first instant of a day of the month `YYYY-MM` that the text begins with.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, wanted: &[&str], got: Option<Value<'_>>, effect: Effect) -> bool {
        let wanted: Vec<_> = wanted.iter().map(|w| Cow::Borrowed(*w)).collect();
        let mut context = Context::new();
        match got {
            Some(Value::One(v)) => context.set("app:Key", v.into_owned()),
            Some(Value::Many(v)) => context.set_many(
                "app:Key",
                v.into_iter().map(|v| Cow::Owned(v.into_owned())).collect(),
            ),
            None => {}
        }
        Condition::parse(operator, "APP:key", &wanted, true)
            .unwrap()
            .holds(&context, effect)
    }

    fn one(text: &str) -> Option<Value<'_>> {
        Some(Value::One(text.into()))
    }

    #[test]
    fn az_07_absent_keys_follow_the_documented_table() {
        for (operator, expected) in [
            ("StringEquals", false),
            ("StringNotEquals", true),
            ("StringEqualsIfExists", true),
            ("StringNotEqualsIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAllValues:StringNotEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringNotEquals", false),
        ] {
            assert_eq!(
                holds(operator, &["x"], None, Effect::Allow),
                expected,
                "{operator}"
            );
        }
        assert!(
            holds("Null", &["true"], None, Effect::Allow)
                && !holds("Null", &["false"], None, Effect::Allow)
        );
    }

    #[test]
    fn an_empty_text_is_null_to_null_and_to_set_operators() {
        let many = |texts: &[&'static str]| {
            Some(Value::Many(
                texts.iter().map(|t| Cow::Borrowed(*t)).collect(),
            ))
        };
        for effect in [Effect::Allow, Effect::Deny] {
            for empty in [one(""), many(&[]), many(&[""]), many(&["", ""])] {
                assert!(holds("Null", &["true"], empty.clone(), effect), "{empty:?}");
                assert!(
                    !holds("Null", &["false"], empty.clone(), effect),
                    "{empty:?}"
                );
                assert!(
                    holds("ForAllValues:StringEquals", &["x"], empty.clone(), effect),
                    "{empty:?}"
                );
                assert!(
                    !holds("ForAnyValue:StringNotEquals", &["x"], empty.clone(), effect),
                    "{empty:?}"
                );
            }
            // One member that says something makes the set something.
            assert!(holds("Null", &["false"], many(&["", "x"]), effect));
            assert!(!holds(
                "ForAllValues:StringEquals",
                &["x"],
                many(&["", "x"]),
                effect
            ));
            assert!(holds(
                "ForAnyValue:StringEquals",
                &["x"],
                many(&["", "x"]),
                effect
            ));
        }
    }

    #[test]
    fn what_documentation_leaves_open_refuses() {
        assert!(!holds(
            "ForAnyValue:StringEqualsIfExists",
            &["x"],
            None,
            Effect::Allow
        ));
        assert!(holds(
            "ForAnyValue:StringEqualsIfExists",
            &["x"],
            None,
            Effect::Deny
        ));
        let list = || Some(Value::Many(vec!["x".into()]));
        assert!(!holds("StringEquals", &["x"], list(), Effect::Allow));
        assert!(holds("StringEquals", &["y"], list(), Effect::Deny));
    }

    #[test]
    fn what_the_corpus_leaves_out_is_decided_here() {
        // A negated operator on a value of another type.
        for (operator, wanted, got) in [
            ("NumericNotEquals", "1", "x"),
            ("DateNotEquals", "2026-01-01", "soon"),
            ("NotIpAddress", "10.0.0.0/8", "host"),
        ] {
            assert!(
                !holds(operator, &[wanted], one(got), Effect::Allow),
                "{operator}"
            );
            assert!(
                holds(operator, &[wanted], one(got), Effect::Deny),
                "{operator}"
            );
        }
        // An empty text is compared like any other.
        assert!(holds("StringEquals", &[""], one(""), Effect::Allow));
        assert!(!holds(
            "StringEqualsIfExists",
            &["x"],
            one(""),
            Effect::Allow
        ));
        // A bare IPv6 address is /128; an IPv4-mapped one is IPv6 and nothing else.
        assert!(holds(
            "IpAddress",
            &["2001:db8::1"],
            one("2001:db8::1"),
            Effect::Allow
        ));
        assert!(!holds(
            "IpAddress",
            &["2001:db8::1"],
            one("2001:db8::2"),
            Effect::Allow
        ));
        assert!(!holds(
            "IpAddress",
            &["10.0.0.1"],
            one("::ffff:10.0.0.1"),
            Effect::Allow
        ));
        // Case is folded in ASCII alone; a short number is seconds since 1970; an ARN has six parts.
        assert!(!holds(
            "StringEqualsIgnoreCase",
            &["\u{c9}"],
            one("\u{e9}"),
            Effect::Allow
        ));
        assert!(holds(
            "DateEquals",
            &["2026"],
            one("1970-01-01T00:33:46Z"),
            Effect::Allow
        ));
        assert!(!holds(
            "ArnLike",
            &["arn:*:*:*:*:*"],
            one("arn:aws:s3"),
            Effect::Allow
        ));
    }

    #[test]
    fn numbers_dates_and_addresses_compare_by_value() {
        assert!(holds("NumericEquals", &["7"], one("007.0"), Effect::Allow));
        assert!(!holds(
            "NumericEquals",
            &["9007199254740993"],
            one("9007199254740992"),
            Effect::Allow
        ));
        assert!(holds("NumericLessThan", &["2.5"], one("-3"), Effect::Allow));
        assert!(!holds("NumericLessThan", &["2"], one("1e0"), Effect::Allow));
        assert!(holds(
            "DateEquals",
            &["2026-01-01T00:00:00Z"],
            one("1767225600"),
            Effect::Allow
        ));
        assert!(holds(
            "DateEquals",
            &["2026-01"],
            one("2026-01-01T01:00:00+01:00"),
            Effect::Allow
        ));
        assert!(!holds(
            "DateLessThan",
            &["2026-02-30T00:00:00Z", "2026-01"][1..],
            one("yesterday"),
            Effect::Allow
        ));
        assert!(holds(
            "IpAddress",
            &["10.1.2.3/8"],
            one("10.200.0.1"),
            Effect::Allow
        ));
        assert!(!holds(
            "IpAddress",
            &["0.0.0.0/0"],
            one("::1"),
            Effect::Allow
        ));
        assert!(holds(
            "IpAddress",
            &["::/0"],
            one("2001:db8::1"),
            Effect::Allow
        ));
    }

    #[test]
    fn unknown_operators_refuse() {
        for bad in [
            "StringEqual",
            "stringequals",
            "ForSomeValues:StringEquals",
            "NullIfExists",
            "ForAllValues:Null",
            "IfExists",
            "",
        ] {
            assert!(
                Condition::parse(bad, "k", &["true".into()], true).is_err(),
                "{bad}"
            );
        }
    }
}
