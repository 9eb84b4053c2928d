//! The record of a session, as it is stored and listed.

use prost::Message;

use crate::base::digest::hex;
use crate::session::packing::TagClaim;
use crate::session::token::{Ancestor, SessionKind};

/// The id of a session: 16 random bytes.
pub type SessionId = [u8; 16];

/// The record of a session, without its secret. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct SessionRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub session_id: Vec<u8>,
    /// The access key id of the session, `ASIA…`.
    #[prost(string, tag = "2")]
    pub access_key_id: String,
    /// The ARN of the assumed role, or of the user whose session it is.
    #[prost(string, tag = "3")]
    pub principal_arn: String,
    /// The unique id of the role or user, `AROA…` or `AIDA…`.
    #[prost(string, tag = "4")]
    pub principal_id: String,
    /// The name of the session; empty for a user's own session.
    #[prost(string, tag = "5")]
    pub session_name: String,
    /// The source identity; empty if there is none.
    #[prost(string, tag = "6")]
    pub source_identity: String,
    #[prost(message, repeated, tag = "7")]
    pub tags: Vec<TagClaim>,
    #[prost(int64, tag = "8")]
    pub issued_at: i64,
    #[prost(int64, tag = "9")]
    pub expires_at: i64,
    /// The principals behind the session, the oldest first: a user or an identity provider, then the sessions in
    /// between.
    #[prost(message, repeated, tag = "10")]
    pub ancestors: Vec<Ancestor>,
    /// The last change of the feed that was in force on the broker when it issued the session.
    #[prost(int64, tag = "11")]
    pub issued_under: i64,
    /// The kind of operation that issued the session, as a [`SessionKind`].
    #[prost(enumeration = "SessionKind", tag = "12")]
    pub kind: i32,
    /// The address and the program of the person who signed in and requested the session; empty for other sessions.
    #[prost(string, tag = "13")]
    pub given_to: String,
    /// The workload for which a node requested the session, such as `pod 5f2a9c1e-…`; empty for other sessions.
    #[prost(string, tag = "14")]
    pub workload: String,
    /// How the session was narrowed by GetScopedCredentials; `None` if it was not. The last ancestor of a narrowed
    /// session is the session from which it was narrowed, and [`Self::issued_at`] is the time of issue of the original
    /// session.
    #[prost(message, optional, tag = "15")]
    pub narrowing: Option<Narrowing>,
}

/// How a session was narrowed by GetScopedCredentials.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Narrowing {
    /// When the narrowed credentials were issued, in seconds since 1970.
    #[prost(int64, tag = "1")]
    pub at: i64,
    /// The purpose of the narrowed credentials in the caller's words; empty if the caller gave none.
    #[prost(string, tag = "2")]
    pub description: String,
}

impl SessionRecord {
    /// The id of the person's sign-in from which the session came; `None` if the session did not come from a sign-in.
    ///
    /// The sign-in is the ancestor that has a session id, but no access key id of the form `ASIA…`.
    pub(super) fn sign_in(&self) -> Option<SessionId> {
        let mut ancestors = self.ancestors.iter();
        let sign_in =
            ancestors.find(|a| !a.access_key_id.starts_with("ASIA") && !a.session_id.is_empty());
        sign_in?.session_id.as_slice().try_into().ok()
    }
}

/// An upper bound of the bytes of a session in an answer: its record, and the ARNs of the session and
/// its ancestors, which are made from the record's ARNs and session names.
pub(super) fn answer_bytes(record: &SessionRecord) -> usize {
    /// Bytes to allow for each ARN beyond the stored texts: the longer prefix of a session's ARN
    /// (`arn:aws:sts::…:assumed-role/` instead of `arn:aws:iam::…:role/`), and the framing of a field.
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

/// The name of a session in the lists: `EXPIRY:ID`, both in hexadecimal of fixed length, so that sorting by text sorts
/// by time.
pub(super) fn member(expires_at: i64, id: &[u8]) -> String {
    format!("{:012x}:{}", expires_at.max(0), hex(id))
}

/// Parses a session id of 32 hexadecimal digits; `None` for any other text.
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
