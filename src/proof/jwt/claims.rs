//! The claims of a token whose signature is good.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::TokenError;

/// The most claims, nested ones included.
const MAX_CLAIMS: usize = 500;
/// How deep nested claims are looked into.
const MAX_CLAIM_DEPTH: usize = 4;

/// The claims of a token whose signature is good.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Map<String, Value>);

impl Verified {
    /// Claims whose signature was checked.
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// All claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A claim that is a text.
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim).and_then(Value::as_str)
    }

    /// A claim that is a time, in seconds since 1970. RFC 7519 section 2 lets it have a fraction, which
    /// is rounded so that the token is good for no longer. `Err`: it is there and is no time.
    ///
    /// # Errors
    /// [`TokenError::Malformed`]
    pub fn seconds(&self, claim: &str, rounded: Rounded) -> Result<Option<i64>, TokenError> {
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        // The last second of the year 9999.
        const LATEST: i64 = 253_402_300_799;
        let seconds = match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => seconds,
            // The range is that of numbers whose integers are exact.
            (None, Some(time)) if (0.0..=LATEST as f64).contains(&time) => match rounded {
                Rounded::Down => time.floor() as i64,
                Rounded::Up => time.ceil() as i64,
            },
            _ => return Err(TokenError::Malformed),
        };
        if (0..=LATEST).contains(&seconds) {
            Ok(Some(seconds))
        } else {
            Err(TokenError::Malformed)
        }
    }

    /// Every claim that a condition can look at, by its path: the names of nested claims are joined by
    /// slashes; texts, numbers and booleans are texts; a list is one of them. None when two claims would
    /// have the same path without regard to case (nobody could say which of them is meant), or when there
    /// are too many.
    pub fn flattened(&self) -> Option<Vec<(String, Flat)>> {
        let (mut flat, mut seen) = (Vec::new(), HashSet::new());
        let mut open: Vec<(String, &Value, usize)> =
            self.0.iter().map(|(n, v)| (n.clone(), v, 0)).collect();
        while let Some((path, value, depth)) = open.pop() {
            if !seen.insert(path.to_ascii_lowercase()) || seen.len() > MAX_CLAIMS {
                return None;
            }
            match value {
                Value::Object(map) if depth < MAX_CLAIM_DEPTH => {
                    open.extend(
                        map.iter()
                            .map(|(name, value)| (format!("{path}/{name}"), value, depth + 1)),
                    );
                }
                Value::Array(items) => {
                    if let Some(texts) = items.iter().map(scalar).collect() {
                        flat.push((path, Flat::Many(texts)));
                    }
                }
                other => flat.extend(scalar(other).map(|text| (path, Flat::One(text)))),
            }
        }
        Some(flat)
    }

    /// A claim that is a text or a list of texts; none of them empty. None: absent, or something else.
    pub fn texts(&self, claim: &str) -> Option<Vec<&str>> {
        let texts: Vec<&str> = match self.0.get(claim)? {
            Value::String(text) => vec![text.as_str()],
            Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        (!texts.is_empty() && texts.iter().all(|t| !t.is_empty())).then_some(texts)
    }
}

/// What becomes of a fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounded {
    /// The second that has begun: for the end of a span.
    Down,
    /// The next one: for its beginning.
    Up,
}

/// The value of a claim as a condition sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flat {
    /// A text, number or boolean.
    One(String),
    /// A list of them.
    Many(Vec<String>),
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
