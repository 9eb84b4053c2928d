//! Strict parsing of the parts of a token: base64url without padding or stray bits, no duplicate
//! names in an object, and no control characters in texts that people and logs read.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::TokenError;

/// Parses a part of a token: strict base64url of a JSON object without duplicate names.
pub(super) fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| TokenError::Malformed)?;
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        _ => Err(TokenError::Malformed),
    }
}

/// Whether no name and no text in a claim contains a control character. A postal address may
/// contain line breaks: OpenID Connect Core 1.0 section 5.1.1.
pub(super) fn is_plain(name: &str, value: &Value) -> bool {
    fn printable(text: &str) -> bool {
        !text.chars().any(char::is_control)
    }
    let lines = |member: &str, value: &Value| {
        name == "address"
            && matches!(member, "formatted" | "street_address")
            && value
                .as_str()
                .is_some_and(|text| printable(&text.replace(['\r', '\n'], "")))
    };
    printable(name)
        && match value {
            Value::String(text) => printable(text),
            Value::Array(items) => items.iter().all(|item| is_plain("", item)),
            Value::Object(members) => members
                .iter()
                .all(|(member, value)| is_plain(member, value) || lines(member, value)),
            _ => true,
        }
}

/// JSON without duplicate names, for the reasons in RFC 8725 section 2.4. The parser itself stops
/// at a depth of 128.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON without repeated names")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(
                    Number::from_f64(value).map_or(Value::Null, Value::Number),
                ))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Strict(Value::Array(list)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
                let mut map = Map::new();
                while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if map.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("duplicate name"));
                    }
                }
                Ok(Strict(Value::Object(map)))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
