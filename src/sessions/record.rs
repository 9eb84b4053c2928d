//! The record of a session, as it is kept and shown.

use prost::Message;

use crate::base::digest::hex;
use crate::session::packing::TagClaim;
use crate::session::token::{Ancestor, Kind as SessionKind};

/// Sixteen random bytes.
pub type SessionId = [u8; 16];

/// What is on record about a session; never its secret. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct SessionRecord {
    /// Its name.
    #[prost(bytes = "vec", tag = "1")]
    pub session_id: Vec<u8>,
    /// `ASIA…`
    #[prost(string, tag = "2")]
    pub access_key_id: String,
    /// The assumed role, or the user whose session it is.
    #[prost(string, tag = "3")]
    pub principal_arn: String,
    /// `AROA…` or `AIDA…`
    #[prost(string, tag = "4")]
    pub principal_id: String,
    /// What the caller called it.
    #[prost(string, tag = "5")]
    pub session_name: String,
    /// Empty: none.
    #[prost(string, tag = "6")]
    pub source_identity: String,
    /// Session tags.
    #[prost(message, repeated, tag = "7")]
    pub tags: Vec<TagClaim>,
    /// When it was issued.
    #[prost(int64, tag = "8")]
    pub issued_at: i64,
    /// When it ends.
    #[prost(int64, tag = "9")]
    pub expires_at: i64,
    /// Whom it comes from, the one that made it last.
    #[prost(message, repeated, tag = "10")]
    pub ancestors: Vec<Ancestor>,
    /// The last change of the feed that was in force where it was issued.
    #[prost(int64, tag = "11")]
    pub issued_under: i64,
    /// How it came about.
    #[prost(enumeration = "SessionKind", tag = "12")]
    pub kind: i32,
}

/// An upper bound of what a session takes in an answer: its record, and beside it the ARNs of the
/// session and of those that it came from, which are made of the record's ARNs and session names.
pub(super) fn answer_bytes(record: &SessionRecord) -> usize {
    /// `arn:aws:sts::…:assumed-role/` instead of `arn:aws:iam::…:role/`, and what frames a field.
    const BESIDE: usize = 64;
    let ancestors = record
        .ancestors
        .iter()
        .map(|a| a.arn.len() + a.session_name.len() + BESIDE);
    record.encoded_len()
        + record.principal_arn.len()
        + record.session_name.len()
        + BESIDE
        + ancestors.sum::<usize>()
}

/// `EXPIRY:ID`, both in hexadecimal digits of a fixed number, so that text order is time order.
pub(super) fn member(expires_at: i64, id: &[u8]) -> String {
    format!("{:012x}:{}", expires_at.max(0), hex(id))
}

/// From 32 hexadecimal digits.
pub fn session_id(text: &str) -> Option<SessionId> {
    let mut id = [0; 16];
    if text.len() != 32
        || !text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return None;
    }
    for (slot, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}
