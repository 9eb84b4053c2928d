//! Typed access to the claims of a token whose signature has been verified.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::TokenError;

/// The maximum number of claims that conditions can check, including nested ones.
const MAX_CLAIMS: usize = 500;
/// The maximum nesting depth of claims that conditions can check.
const MAX_CLAIM_DEPTH: usize = 4;

/// The claims of a token. Only [`super::Unverified::verify`] creates this type, so their signature
/// has been verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Map<String, Value>);

impl Verified {
    /// Wraps claims. The caller must have verified their signature.
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// Wraps claims without a signature, for unit tests.
    #[cfg(test)]
    pub fn for_tests(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    pub fn claims(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the text of a claim; `None` if the claim is absent or of another type.
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim).and_then(Value::as_str)
    }

    /// Returns the value of a claim as a time in seconds since 1970, or `None` if the claim is
    /// absent. RFC 7519 section 2 allows fractions, which must be rounded so that the token is not
    /// valid for longer.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] if the claim is not a number, or is negative or after the year
    /// 9999.
    pub fn seconds(&self, claim: &str, rounded: Rounded) -> Result<Option<i64>, TokenError> {
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        // The last second of the year 9999.
        const LATEST: i64 = 253_402_300_799;
        let seconds = match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => seconds,
            // In this range, floating-point numbers represent all integers exactly.
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

    /// Returns every claim that a condition can check, by its path: the names of nested claims are
    /// joined with slashes; texts, numbers and booleans become texts, and a list becomes several of
    /// them. Returns `None` if two paths differ only in case, because a condition could mean either
    /// claim, or if there are more than 500 claims.
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

    /// Returns the texts in a claim that is a text or a list of texts; `None` if the claim is absent, of another type,
    /// or empty, or contains an empty text.
    pub fn texts(&self, claim: &str) -> Option<Vec<&str>> {
        let texts: Vec<&str> = match self.0.get(claim)? {
            Value::String(text) => vec![text.as_str()],
            Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        (!texts.is_empty() && texts.iter().all(|t| !t.is_empty())).then_some(texts)
    }
}

/// The direction in which a time with a fraction of a second is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounded {
    /// Down to the current second, for the end of a period.
    Down,
    /// Up to the next second, for the beginning of a period.
    Up,
}

/// The value of a claim in the form that policy conditions compare.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Flat {
    /// The text of a claim that is a text, number or boolean.
    One(String),
    /// The texts of a claim that is a list of texts, numbers or booleans.
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
