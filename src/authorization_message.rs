//! The reason of a refusal, sealed for those who may know it: AccessDenied contains it, and
//! DecodeAuthorizationMessage opens it. STS API Reference, "DecodeAuthorizationMessage".
//!
//! A message contains the request, its caller and its condition keys, but no part of the policies of the directory.
//! Somebody who may not open a message learns nothing from it, not even from its length, which depends only on the
//! caller's own request and session. What every statement does with the request is determined when the message is
//! opened, by the policies in force then.

mod decoded;
mod disclosure;

use serde::{Deserialize, Serialize};

use crate::base::arn::account_of;
use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::caller::Caller;
use crate::error::Error;
use crate::evaluator::Outcome;
use crate::session::envelope::{self, Purpose};
use crate::session::keyring::Keyring;
use crate::session::token::SessionKind;
use crate::trust::Denied;

pub use disclosure::Disclosure;

/// The length in bytes of the sealed text without session policies. Shorter texts are padded.
const CAPACITY: usize = 1_200;
/// The maximum size in bytes of the session policies in a message. If they are larger, the message
/// says that they are missing.
const MAX_LIMITS: usize = 2_048;
/// The maximum size in bytes of the condition keys before packing; further keys are left out.
const MAX_KEYS: usize = 32_768;
/// The maximum size in bytes of an unpacked message.
const MAX_UNPACKED: usize = 65_536;
const PURPOSE: Purpose = Purpose {
    name: "brevet authorization message v2",
    form: 2,
    max_characters: 10_240,
};
/// Text that many messages have in common, with which they are compressed better. Messages that were sealed with
/// another dictionary cannot be opened, so a new dictionary needs a new format of messages.
const DICTIONARY: &[u8] = br#"{"request_id":"","at":,"sequence":,"session":null,"principal_arn":"arn:aws:iam::","principal_id":"AROA","arn":"arn:aws:sts::","action":"sts:AssumeRole","resource":"arn:aws:iam::","explicit_deny":false,"note":null,"keys":[["aws:currenttime",["2026-"]],["aws:epochtime",[""]],["aws:sourceip",["127.0.0.1"]],["aws:securetransport",["false"]],["aws:requestedregion",["us-east-1"]],["aws:useragent",["aws-cli/2 Boto3/1 md/Botocore#1 ua/2.1 os/linux lang/python md/pyimpl#CPython cfg/retry-mode#legacy"]],["aws:principalaccount",[""]],["aws:userid",["AIDA"]],["aws:principaltype",["AssumedRole"]],["aws:principalarn",["arn:aws:iam::"]],["aws:multifactorauthpresent",["true"]],["aws:tokenissuetime",[""]],["aws:username",[""]],["sts:rolesessionname",[""]],["sts:externalid",[""]]],"cut":false}"#;

/// A refused request, with what is needed to explain the refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    request_id: String,
    /// The time of the refusal, in seconds since 1970.
    at: i64,
    /// The number of the last change of the feed that was in force when the request was refused.
    sequence: i64,
    /// How the principal's session was issued, as a [`SessionKind`]; `None` if the principal has no session.
    session: Option<i32>,
    /// The ARN of the role for a role session, otherwise of the user or identity provider.
    principal_arn: String,
    principal_id: String,
    arn: String,
    action: String,
    resource: String,
    explicit_deny: bool,
    /// The reason as text, if the refusal does not come from a policy.
    note: Option<String>,
    /// The condition keys in lower case, without the tags of the resource.
    keys: Vec<(String, Vec<String>)>,
    /// Whether session policies limit the principal.
    cut: bool,
    /// The packed session policies; empty if they are too large.
    #[serde(skip)]
    pub limits: Vec<u8>,
}

impl Message {
    /// Describes the refused request of a caller.
    pub fn new(
        request_id: &str,
        caller: &Caller,
        denied: &Denied,
        resource: &str,
        sequence: i64,
        now: Timestamp,
    ) -> Self {
        let of_resource = |name: &str| {
            name.starts_with("aws:resourcetag/") || name.starts_with("iam:resourcetag/")
        };
        let session = caller.session();
        let principal_arn = match session {
            Some(session) => session.claims.principal_arn.clone(),
            None => caller.arn().to_owned(),
        };
        Self {
            request_id: request_id.to_owned(),
            at: now.seconds(),
            sequence,
            session: session.map(|s| s.claims.kind),
            principal_arn,
            principal_id: caller.user_id().to_owned(),
            arn: caller.arn().to_owned(),
            action: denied.action.clone(),
            resource: resource.to_owned(),
            explicit_deny: denied.decision.outcome == Outcome::ExplicitlyDenied,
            note: denied.note.as_deref().map(str::to_owned),
            keys: denied
                .keys
                .iter()
                .filter(|(name, _)| !of_resource(name))
                .cloned()
                .collect(),
            cut: session.is_some_and(|s| s.policies.is_restricted()),
            limits: session
                .map(|s| s.claims.packed.clone())
                .filter(|p| p.len() <= MAX_LIMITS)
                .unwrap_or_default(),
        }
    }

    /// Seals the message into the text that an AccessDenied error contains.
    ///
    /// # Errors
    /// [`Error`] if there are no random bytes or no current key.
    pub fn seal(mut self, keyring: &Keyring, entropy: &dyn Entropy) -> Result<String, Error> {
        let packed = self.pack()?;
        let length = u16::try_from(packed.len()).map_err(|_| Error::InternalFailure)?;
        let mut body = Vec::with_capacity(2 + CAPACITY + self.limits.len());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&packed);
        body.resize(2 + CAPACITY.max(packed.len()), 0);
        body.extend_from_slice(&self.limits);
        // A signature would cost more than all else of a refusal, and nobody could do anything with a forged
        // message.
        Ok(envelope::seal_only(
            keyring,
            &PURPOSE,
            &body,
            &entropy::bytes(entropy)?,
        )?)
    }

    /// Packs the message with as many condition keys as fit. Tags and claims come last and are left out first, since a
    /// reader can find them out elsewhere. The number of keys is up to the caller, so each key is serialized only once,
    /// and the number that fits is found by bisection.
    fn pack(&mut self) -> Result<Vec<u8>, Error> {
        let keys = std::mem::take(&mut self.keys);
        let text = serde_json::to_vec(self).map_err(|_| Error::InternalFailure)?;
        // No bracket follows the list of keys, so the last one is the end of the empty list.
        let end = text
            .iter()
            .rposition(|b| *b == b']')
            .ok_or(Error::InternalFailure)?;
        let (head, tail) = text.split_at(end);
        let mut written = Vec::new();
        let mut ends = vec![0];
        for key in &keys {
            if !written.is_empty() {
                written.push(b',');
            }
            serde_json::to_writer(&mut written, key).map_err(|_| Error::InternalFailure)?;
            if written.len() > MAX_KEYS {
                break;
            }
            ends.push(written.len());
        }
        let packed = |ends_at: &usize| {
            let text = [head, written.get(..*ends_at).unwrap_or_default(), tail].concat();
            lz4_flex::block::compress_prepend_size_with_dict(&text, DICTIONARY)
        };
        let most = packed(ends.last().unwrap_or(&0));
        if most.len() <= CAPACITY {
            return Ok(most);
        }
        let (mut best, mut ends) = (packed(&0), ends.get(1..ends.len() - 1).unwrap_or_default());
        while let Some(middle) = ends.get(ends.len() / 2) {
            let with = packed(middle);
            let (fewer, more) = ends.split_at(ends.len() / 2);
            if with.len() <= CAPACITY {
                (best, ends) = (with, more.get(1..).unwrap_or_default());
            } else {
                ends = fewer;
            }
        }
        Ok(best)
    }

    /// Opens the text of an AccessDenied error.
    ///
    /// # Errors
    /// [`Error::InvalidAuthorizationMessage`] for any reason.
    pub fn open(text: &str, keyring: &Keyring) -> Result<Self, Error> {
        let read = || {
            let body = envelope::open_sealed(keyring, &PURPOSE, text).ok()?;
            let (length, rest) = body.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (size, packed) = lz4_flex::block::uncompressed_size(rest.get(..length)?).ok()?;
            if size > MAX_UNPACKED {
                return None;
            }
            let text = lz4_flex::block::decompress_with_dict(packed, size, DICTIONARY).ok()?;
            let mut message: Self = serde_json::from_slice(&text).ok()?;
            message.limits = rest.get(CAPACITY.max(length)..)?.to_vec();
            Some(message)
        };
        read().ok_or(Error::InvalidAuthorizationMessage)
    }

    /// How the principal's session was issued; `None` if the principal has no session. The reader uses it to explain
    /// the refusal.
    pub fn session(&self) -> Option<SessionKind> {
        self.session
            .and_then(|kind| SessionKind::try_from(kind).ok())
    }

    /// The ARN of the role for a role session, otherwise of the user or identity provider.
    pub fn principal_arn(&self) -> &str {
        &self.principal_arn
    }

    /// The ARN of the user, session or identity provider itself.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The requested action, such as `sts:AssumeRole`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The ARN that the request named, whether or not the resource exists.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The condition keys of the request with their values.
    pub fn keys(&self) -> &[(String, Vec<String>)] {
        &self.keys
    }

    /// The number of the last change of the feed that was in force when the request was refused.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The account of the principal, and the account of the resource if it is known.
    pub fn accounts(&self) -> (&str, Option<&str>) {
        let of_resource = Some(account_of(&self.resource)).filter(|account| !account.is_empty());
        (
            account_of(&self.principal_arn),
            of_resource.or_else(|| self.bucket_owner()),
        )
    }

    /// The account that owns the requested bucket, whose ARN does not contain it. `None` if no bucket was requested, or
    /// its owner is not known.
    pub fn bucket_owner(&self) -> Option<&str> {
        let mut keys = self.keys.iter().filter(|_| self.action.starts_with("s3:"));
        let (_, owner) = keys.find(|(name, _)| name == "aws:resourceaccount")?;
        owner.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    fn message(keys: usize) -> Message {
        Message {
            request_id: "0b0d6f0e-0000-4000-8000-000000000000".into(),
            at: 1_800_000_000,
            sequence: 7,
            session: Some(0),
            principal_arn: "arn:aws:iam::111122223333:role/Demo".into(),
            principal_id: "AROADEMODEMODEMODEMO:s".into(),
            arn: "arn:aws:sts::111122223333:assumed-role/Demo/s".into(),
            action: "sts:AssumeRole".into(),
            resource: "arn:aws:iam::444455556666:role/Other".into(),
            explicit_deny: false,
            note: None,
            keys: (0..keys)
                .map(|n| {
                    (
                        format!("aws:principaltag/{n}"),
                        vec![crate::base::digest::hex(&[n as u8; 64])],
                    )
                })
                .collect(),
            cut: false,
            limits: Vec::new(),
        }
    }

    #[test]
    fn every_message_is_as_long_as_the_next() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1));
        let keyring = Keyring::generate(&entropy, now).unwrap();
        let seal = |message: Message| message.seal(&keyring, &entropy).unwrap();
        let (short, long) = (seal(message(0)), seal(message(50)));
        assert_eq!(short.len(), long.len());
        assert!(short.len() < 2_000, "{}", short.len());
        let opened = Message::open(&short, &keyring).unwrap();
        assert_eq!(
            (opened.accounts(), opened.keys.len()),
            (("111122223333", Some("444455556666")), 0)
        );
        assert!(Message::open(&long, &keyring).unwrap().keys.len() > 5);
        // Session policies are included, and can be read again.
        let cut = Message {
            limits: vec![9; 700],
            ..message(1)
        };
        assert_eq!(
            Message::open(&seal(cut), &keyring).unwrap().limits,
            [9; 700]
        );
        let other = Keyring::generate(&entropy, now).unwrap();
        for (text, keyring) in [
            (short.as_str(), &other),
            (&short[1..], &keyring),
            ("", &keyring),
            ("AAAA", &keyring),
        ] {
            assert!(Message::open(text, keyring).is_err());
        }
    }

    #[test]
    fn a_message_has_as_many_keys_as_there_is_room_for_however_many_there_are() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1));
        let keyring = Keyring::generate(&entropy, now).unwrap();
        let seal = |message: Message| message.seal(&keyring, &entropy).unwrap();
        let random =
            |n: usize| crate::base::digest::hex(&crate::base::digest::sha256(&n.to_be_bytes()));
        let key = |n: usize| (format!("idp.example.com:claim{n}"), vec![random(n)]);
        let fits = |keys: usize| {
            let with = Message {
                keys: (0..keys).map(key).collect(),
                ..message(0)
            };
            let text = serde_json::to_vec(&with).unwrap();
            lz4_flex::block::compress_prepend_size_with_dict(&text, DICTIONARY).len() <= CAPACITY
        };
        for keys in [0, 1, 2, 3, 10, 20, 21, 22, 23, 24, 25, 100, 450, 5_000] {
            let sealed = seal(Message {
                keys: (0..keys).map(key).collect(),
                ..message(0)
            });
            assert_eq!(sealed.len(), seal(message(0)).len(), "{keys}");
            let kept = Message::open(&sealed, &keyring).unwrap().keys;
            assert_eq!(
                kept,
                (0..kept.len()).map(key).collect::<Vec<_>>(),
                "{keys}: the first ones are kept"
            );
            assert!(
                kept.len() == keys || !fits(kept.len() + 1),
                "{keys}: there is room for more than {}",
                kept.len()
            );
        }
        // A text that packs well keeps to the limit and can be opened.
        let same = |n: usize| (format!("aws:requesttag/{n}"), vec!["x".repeat(256)]);
        let sealed = seal(Message {
            keys: (0..5_000).map(same).collect(),
            ..message(0)
        });
        let kept = Message::open(&sealed, &keyring).unwrap().keys.len();
        assert!((50..MAX_KEYS / 256).contains(&kept), "{kept}");
    }
}
