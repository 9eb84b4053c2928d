//! The condition operators by name, and the wanted values compiled for each of them.
//!
//! The rules are in the IAM User Guide, "IAM JSON policy elements: Condition operators". The parent
//! module handles set operators and `...IfExists`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::evaluator::context::RequestContext;
use crate::evaluator::pattern::{ArnPattern, Match, Pattern, Syntax};
use crate::evaluator::values::{Decimal, Instant, Network, binary_equals, boolean};

/// The wanted values of a condition, compiled for its operator.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Text(Vec<Pattern>),
    TextIgnoreCase(Vec<Pattern>),
    Arn(Vec<ArnPattern>),
    Number(Accept, Vec<Decimal>),
    Date(Accept, Vec<Instant>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Ip(Vec<Network>),
    /// For each wanted value, whether the key must be absent.
    Null(Vec<bool>),
}

/// The orderings, of the request's value relative to the wanted one, that satisfy a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accept {
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

impl Test {
    /// Compiles the values of a condition operator, and says whether it is a negated one, such as `StringNotEquals`.
    /// `name` is the bare operator: without `ForAllValues:` or `ForAnyValue:` in front and without `IfExists` at the
    /// end. `variables` says whether the document's version supports policy variables. Returns `None` for an unknown
    /// operator.
    ///
    /// # Errors
    /// The rule that a value breaks.
    pub fn compile(
        name: &str,
        values: &[Cow<'_, str>],
        variables: bool,
    ) -> Result<Option<(bool, Self)>, Cow<'static, str>> {
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
        Ok(Some(match name {
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
            "BinaryEquals" => (false, Test::Binary(binaries(values)?)),
            "IpAddress" => (false, networks(values)?),
            "NotIpAddress" => (true, networks(values)?),
            "Null" => (false, Test::Null(booleans(values)?)),
            _ => return Ok(None),
        }))
    }

    /// Whether the test accepts every value of the operator's type. Always `false` for numbers, dates and binary
    /// values.
    pub fn takes_everything(&self) -> bool {
        match self {
            Self::Text(wanted) | Self::TextIgnoreCase(wanted) => wanted.iter().any(Pattern::is_any),
            Self::Arn(wanted) => wanted.iter().any(ArnPattern::is_any),
            Self::Bool(wanted) | Self::Null(wanted) => {
                wanted.contains(&true) && wanted.contains(&false)
            }
            Self::Ip(wanted) => wanted.iter().any(Network::is_everything),
            Self::Number(..) | Self::Date(..) | Self::Binary(_) => false,
        }
    }

    /// For each wanted text or ARN, the part before its first wildcard, and whether it has no
    /// wildcard. `None` for other types, and if a value contains a variable.
    pub fn pinned(&self) -> Option<Vec<(String, bool)>> {
        match self {
            Self::Text(wanted) | Self::TextIgnoreCase(wanted) => {
                wanted.iter().map(Pattern::pinned).collect()
            }
            Self::Arn(wanted) => wanted.iter().map(ArnPattern::pinned).collect(),
            _ => None,
        }
    }

    /// The keys of the variables in the wanted values, in lower case.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let (texts, arns): (&[Pattern], &[ArnPattern]) = match self {
            Self::Text(wanted) | Self::TextIgnoreCase(wanted) => (wanted, &[]),
            Self::Arn(wanted) => (&[], wanted),
            _ => (&[], &[]),
        };
        let of_texts = texts.iter().flat_map(Pattern::variables);
        of_texts.chain(arns.iter().flat_map(ArnPattern::variables))
    }

    /// Whether `got` matches one of the wanted values. `None` if the operator compares numbers, dates or addresses and
    /// `got` is none.
    #[inline]
    pub fn hits(&self, got: &str, context: &RequestContext<'_>) -> Option<bool> {
        Some(match self {
            Self::Text(wanted) => wanted.iter().any(|p| p.matches(got, context) == Match::Yes),
            Self::TextIgnoreCase(wanted) => wanted
                .iter()
                .any(|p| p.matches_ignore_case(got, context) == Match::Yes),
            Self::Arn(wanted) => wanted.iter().any(|p| p.matches(got, context) == Match::Yes),
            Self::Bool(wanted) => boolean(got).is_some_and(|got| wanted.contains(&got)),
            Self::Binary(wanted) => wanted.iter().any(|w| binary_equals(got, w)),
            Self::Null(_) => false,
            Self::Number(accept, wanted) => {
                let got = Decimal::parse(got)?;
                wanted.iter().any(|w| accept.takes(got.cmp(w)))
            }
            Self::Date(accept, wanted) => {
                let got = Instant::parse(got)?;
                wanted.iter().any(|w| accept.takes(got.cmp(w)))
            }
            Self::Ip(wanted) => {
                let got = got.parse::<IpAddr>().ok()?;
                wanted.iter().any(|w| w.contains(got))
            }
        })
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

fn binaries(values: &[Cow<'_, str>]) -> Result<Vec<Vec<u8>>, Cow<'static, str>> {
    let one = |v: &Cow<'_, str>| {
        STANDARD
            .decode(v.as_bytes())
            .map_err(|_| format!("`{v}` is not base64, which `BinaryEquals` requires").into())
    };
    values.iter().map(one).collect()
}

fn booleans(values: &[Cow<'_, str>]) -> Result<Vec<bool>, Cow<'static, str>> {
    values
        .iter()
        .map(|v| boolean(v).ok_or_else(|| format!("`{v}` is neither `true` nor `false`").into()))
        .collect()
}
