//! The names of a cluster's keys in Redis, the members of the indexes of sessions, and the parsing of answers.

use redis::Value;

use crate::base::digest::hex;
use crate::session::keyring::Keyring;
use crate::sessions::{SessionsError, session_id};

/// The name of the Redis key with a session's record.
pub(super) fn name(keyring: &Keyring, id: &[u8]) -> String {
    format!("brevet:{}:session:{}", keyring.cluster_id(), hex(id))
}

/// The name of the Redis key with a session's token, which is found by the session's access key id.
pub(super) fn token_name(keyring: &Keyring, access_key_id: &str) -> String {
    format!("brevet:{}:token:{access_key_id}", keyring.cluster_id())
}

/// The name of the Redis key that marks a signature as used.
pub(super) fn signature_name(keyring: &Keyring, signature: &[u8; 16]) -> String {
    format!(
        "brevet:{}:signature:{}",
        keyring.cluster_id(),
        hex(signature)
    )
}

/// The name of the Redis key with the index of all sessions. All scores are equal, so that members are sorted by text,
/// which is by expiry.
pub(super) fn index_name(keyring: &Keyring) -> String {
    format!("brevet:{}:sessions", keyring.cluster_id())
}

/// The name of the Redis key with the index of the sessions that came from a sign-in. It is sorted like the index of
/// all sessions.
pub(super) fn sign_in_name(keyring: &Keyring, sign_in: &[u8; 16]) -> String {
    format!("brevet:{}:sign-in:{}", keyring.cluster_id(), hex(sign_in))
}

/// Whether a text has the form of [`member`](crate::sessions::record::member).
pub(super) fn is_member(text: &str) -> bool {
    let digits = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    text.split_once(':')
        .is_some_and(|(at, id)| at.len() == 12 && digits(at) && session_id(id).is_some())
}

/// The members in an answer, as bytes, whether or not a broker wrote them.
pub(super) fn members(value: Value) -> Result<Vec<Vec<u8>>, SessionsError> {
    let unlike =
        |value: &Value| SessionsError::Unreachable(format!("ZRANGE answered a {}", kind(value)));
    let Value::Array(items) = value else {
        return Err(unlike(&value));
    };
    let bytes = |item| match item {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(unlike(&other)),
    };
    items.into_iter().map(bytes).collect()
}

/// Collects the texts in an answer: a Redis Cluster answers with one text of each of its nodes.
pub(super) fn texts(value: &Value, into: &mut String) {
    match value {
        Value::BulkString(bytes) => into.push_str(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => into.push_str(text),
        Value::Array(items) | Value::Set(items) => items.iter().for_each(|v| texts(v, into)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, v)| texts(v, into)),
        _ => {}
    }
    into.push('\n');
}

/// The type of an answer, for error messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Int(_) => "number",
        Value::Array(_) => "list",
        Value::SimpleString(_) | Value::Okay => "status",
        _ => "value of another type",
    }
}
