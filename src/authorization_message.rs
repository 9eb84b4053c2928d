//! A refusal, sealed for those who may know why: what AccessDenied carries and
//! DecodeAuthorizationMessage opens. STS API Reference, "DecodeAuthorizationMessage".
//!
//! It holds what was asked, by whom and in which circumstances, and nothing of any policy: whoever
//! may not open it learns nothing from it, not even from its length, which depends on the caller's
//! own session alone. What every statement does with the request is found out when it is opened, by
//! the policies of then.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::caller::Caller;
use crate::error::Error;
use crate::evaluator::{ConditionReport, Explanation, Outcome, Source, StatementReport};
use crate::session::envelope::{self, Purpose};
use crate::session::keyring::Keyring;
use crate::session::token::Kind;
use crate::trust::Denied;

/// The length of what is sealed, session policies apart: what is less is filled up.
const CAPACITY: usize = 1_200;
/// The longest session policies that are sealed along, in bytes; of longer ones the message says
/// that they are not in it.
const MAX_LIMITS: usize = 2_048;
/// The longest text of keys that is packed, in bytes; further ones are left out.
const MAX_KEYS: usize = 32_768;
/// The most that it may unfold to.
const MAX_UNPACKED: usize = 65_536;
const PURPOSE: Purpose = Purpose {
    name: "brevet authorization message v1",
    form: 1,
    max_characters: 10_240,
};
/// What a message is made of, so that it packs well. A change of it is a new form.
const DICTIONARY: &[u8] = br#"{"request_id":"","at":,"sequence":,"session":null,"principal_arn":"arn:aws:iam::","principal_id":"AROA","arn":"arn:aws:sts::","action":"sts:AssumeRole","resource":"arn:aws:iam::","explicit_deny":false,"note":null,"keys":[["aws:currenttime",["2026-"]],["aws:epochtime",[""]],["aws:sourceip",["127.0.0.1"]],["aws:securetransport",["false"]],["aws:requestedregion",["us-east-1"]],["aws:useragent",["aws-cli/2 Boto3/1 md/Botocore#1 ua/2.1 os/linux lang/python md/pyimpl#CPython cfg/retry-mode#legacy"]],["aws:principalaccount",[""]],["aws:userid",["AIDA"]],["aws:principaltype",["AssumedRole"]],["aws:principalarn",["arn:aws:iam::"]],["aws:multifactorauthpresent",["true"]],["aws:tokenissuetime",[""]],["aws:username",[""]],["sts:rolesessionname",[""]],["sts:externalid",[""]]],"cut":false}"#;

/// A refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    request_id: String,
    /// Seconds since 1970.
    at: i64,
    /// The last change of the feed by which it was decided.
    sequence: i64,
    /// How the principal's session came about; none: a long-term key.
    session: Option<i32>,
    /// Of a role's session the role, else the user.
    principal_arn: String,
    principal_id: String,
    arn: String,
    action: String,
    resource: String,
    explicit_deny: bool,
    /// What no statement says.
    note: Option<String>,
    /// Condition keys in lower case; tags of the resource are not in it.
    keys: Vec<(String, Vec<String>)>,
    /// Whether session policies cut the principal.
    cut: bool,
    /// What cuts it, packed; empty where it is too long.
    #[serde(skip)]
    pub limits: Vec<u8>,
}

impl Message {
    /// A refusal of the caller.
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
            note: denied.note.map(str::to_owned),
            keys: denied
                .keys
                .iter()
                .filter(|(name, _)| !of_resource(name))
                .cloned()
                .collect(),
            cut: session.is_some_and(|s| s.is_restricted()),
            limits: session
                .map(|s| s.claims.packed.clone())
                .filter(|p| p.len() <= MAX_LIMITS)
                .unwrap_or_default(),
        }
    }

    /// Seals it.
    ///
    /// # Errors
    /// Without randomness or a current key.
    pub fn seal(mut self, keyring: &Keyring, entropy: &dyn Entropy) -> Result<String, Error> {
        let packed = self.pack()?;
        let length = u16::try_from(packed.len()).map_err(|_| Error::InternalFailure)?;
        let mut body = Vec::with_capacity(2 + CAPACITY + self.limits.len());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&packed);
        body.resize(2 + CAPACITY.max(packed.len()), 0);
        body.extend_from_slice(&self.limits);
        Ok(envelope::seal(
            keyring,
            &PURPOSE,
            &body,
            &entropy::bytes(entropy)?,
        )?)
    }

    /// The message with as many keys as there is room for. Tags and claims are the last keys, and are
    /// known elsewhere. A caller chooses how many there are, so each is written once, and the number
    /// that fits is found by halving.
    fn pack(&mut self) -> Result<Vec<u8>, Error> {
        let keys = std::mem::take(&mut self.keys);
        let text = serde_json::to_vec(self).map_err(|_| Error::InternalFailure)?;
        // What follows the keys has no bracket in it: the last one is the end of the empty list.
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
        let (none, most) = (packed(&0), packed(ends.last().unwrap_or(&0)));
        if most.len() <= CAPACITY {
            return Ok(most);
        }
        let (mut best, mut ends) = (none, ends.get(1..ends.len() - 1).unwrap_or_default());
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

    /// Opens one.
    ///
    /// # Errors
    /// One for every reason.
    pub fn open(text: &str, keyring: &Keyring) -> Result<Self, Error> {
        let read = || {
            let (body, _) = envelope::open(keyring, &PURPOSE, text).ok()?;
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

    /// How the principal's session came about; none: a long-term key.
    pub fn session(&self) -> Option<Kind> {
        self.session.and_then(|kind| Kind::try_from(kind).ok())
    }

    /// Of a role's session the role, else the user.
    pub fn principal_arn(&self) -> &str {
        &self.principal_arn
    }

    /// The principal's own ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// What was asked.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// What it was about.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The circumstances.
    pub fn keys(&self) -> &[(String, Vec<String>)] {
        &self.keys
    }

    /// The last change of the feed by which it was decided.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The principal's account, and the resource's, where its ARN names one.
    pub fn accounts(&self) -> (&str, Option<&str>) {
        fn owner(arn: &str) -> Option<&str> {
            arn.split(':').nth(4).filter(|account| !account.is_empty())
        }
        (
            owner(&self.principal_arn).unwrap_or_default(),
            owner(&self.resource),
        )
    }

    /// AWS's JSON shape, and beside it what every statement does.
    pub fn decoded(&self, told: &Told) -> Value {
        let reports = told
            .explanation
            .as_ref()
            .map(|e| e.statements.as_slice())
            .unwrap_or_default();
        let visible: Vec<&StatementReport> = reports.iter().filter(|s| told.shows(s)).collect();
        // Of another account's policies nothing is told, not even that one of them denies: it may be the
        // principal's account's, or the resource's.
        let sees_all = told.of_principal && told.of_resource;
        let explicit_deny =
            self.explicit_deny && (sees_all || visible.iter().any(|s| s.applies && s.denies));
        let matched = visible
            .iter()
            .filter(|s| s.applies && s.denies == explicit_deny)
            .map(|s| {
                let conditions: Vec<Value> = s
                    .conditions
                    .iter()
                    .map(|c| values(&c.key, &c.wanted))
                    .collect();
                json!({
                    "statementId": s.sid.as_deref().unwrap_or_default(),
                    "effect": if s.denies { "DENY" } else { "ALLOW" },
                    "sourcePolicyType": policy(s).0,
                    "conditions": {"items": conditions},
                })
            });
        let statements = visible.iter().map(|s| {
            let (policy, number) = policy(s);
            json!({
                "policy": policy, "policyNumber": number, "statement": s.at.index, "sid": s.sid,
                "effect": if s.denies { "Deny" } else { "Allow" }, "applies": s.applies,
                "matches": {"principal": s.principal, "action": s.action, "resource": s.resource},
                "conditions": s.conditions.iter().map(|c| json!({
                    "operator": c.operator, "key": c.key, "wanted": c.wanted,
                    "got": c.got.as_ref().filter(|_| told.may_know(&c.key)),
                    "holds": c.holds, "nearMiss": c.near_miss,
                })).collect::<Vec<_>>(),
            })
        });
        let said = self
            .keys
            .iter()
            .filter(|(name, _)| told.may_know(name))
            .map(|(name, got)| values(name, got));
        json!({
            "allowed": false,
            "explicitDeny": explicit_deny,
            "matchedStatements": {"items": matched.collect::<Vec<_>>()},
            "failures": {"items": []},
            "context": {
                "principal": {"id": self.principal_id, "arn": self.arn},
                "action": self.action,
                "resource": self.resource,
                "conditions": {"items": said.collect::<Vec<_>>()},
            },
            "explanation": {
                "requestId": self.request_id,
                "eventTime": Timestamp::from_seconds(self.at).to_string(),
                "summary": self.summary(told, &visible, explicit_deny),
                "policiesChangedSince": told.changed,
                "statements": statements.collect::<Vec<_>>(),
            },
        })
    }

    /// In a sentence or two.
    fn summary(&self, told: &Told, visible: &[&StatementReport], explicit_deny: bool) -> String {
        // It speaks of the caller's own credentials.
        if let Some(note) = self.note.as_ref().filter(|_| told.of_principal) {
            return note.clone();
        }
        let mut text = match (&told.missing, &told.explanation) {
            (Some(missing), _) => missing.clone(),
            (None, None) => "The principal is no more, so its policies cannot be told.".to_owned(),
            (None, Some(_)) if explicit_deny => {
                match visible.iter().find(|s| s.denies && s.applies) {
                    Some(s) => format!("Statement {} denies it.", place(s)),
                    None => "A statement that is no more denied it.".to_owned(),
                }
            }
            (None, Some(_)) => match nearest(visible) {
                Some((s, c)) => {
                    let got = match &c.got {
                        _ if !told.may_know(&c.key) => {
                            "what only the caller's account is told".to_owned()
                        }
                        Some(got) => format!("`{}`", got.join("`, `")),
                        None => "nothing".to_owned(),
                    };
                    let near = c.near_miss.map(|n| format!(" ({n})")).unwrap_or_default();
                    format!(
                        "Something that has to allow it does not. Nearest: statement {} wants {} {} `{}`, and got {got}{near}.",
                        place(s),
                        c.operator,
                        c.key,
                        c.wanted.join("`, `"),
                    )
                }
                None => "Something that has to allow it does not.".to_owned(),
            },
        };
        if self.cut && self.limits.is_empty() {
            text.push_str(" The session's own policies were too long to be in the message.");
        }
        if told.changed {
            text.push_str(" Policies were changed since; this goes by those of now.");
        }
        text
    }
}

/// What a reader is told beside the message itself.
pub struct Told {
    /// By the policies of now.
    pub explanation: Option<Explanation>,
    /// Whether the reader is of the principal's account, whose policies it may read.
    pub of_principal: bool,
    /// Whether the reader is of the resource's account.
    pub of_resource: bool,
    /// That there is no such resource, for those who may know.
    pub missing: Option<String>,
    /// Whether the directory was changed since.
    pub changed: bool,
}

/// Condition keys, in lower case, that say where and with what somebody works: nothing of it is meant
/// for the account of the role that was asked for. The names of tags follow the slash.
const PRIVATE_KEYS: [&str; 8] = [
    "aws:sourceip",
    "aws:useragent",
    "aws:referer",
    "aws:multifactorauthpresent",
    "aws:multifactorauthage",
    "aws:tokenissuetime",
    "aws:username",
    "aws:principaltag/",
];

impl Told {
    /// Whether the reader may know what a request said of a condition key.
    fn may_know(&self, key: &str) -> bool {
        let is_private = |private: &&str| {
            key.get(..private.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(private))
                && (private.ends_with('/') || key.len() == private.len())
        };
        self.of_principal || !PRIVATE_KEYS.iter().any(is_private)
    }

    /// Each account's policies are its own business.
    fn shows(&self, report: &StatementReport) -> bool {
        if report.at.source == Source::Resource {
            self.of_resource
        } else {
            self.of_principal
        }
    }
}

fn values(key: &str, values: &[String]) -> Value {
    json!({"key": key, "values": {"items": values.iter().map(|v| json!({"value": v})).collect::<Vec<_>>()}})
}

/// The kind of policy that a statement stands in, and which of them.
fn policy(report: &StatementReport) -> (&'static str, usize) {
    match report.at.source {
        Source::Identity(n) => ("identity policy", n),
        Source::Resource => ("trust policy", 0),
        Source::Session(n) => ("session policy", n),
        Source::Boundary => ("permissions boundary", 0),
        Source::ServiceControl(_, n) => ("service control policy", n),
        Source::ResourceControl(_, n) => ("resource control policy", n),
    }
}

fn place(report: &StatementReport) -> String {
    let sid = report
        .sid
        .as_ref()
        .map(|sid| format!(" ({sid})"))
        .unwrap_or_default();
    let whose = if report.at.source == Source::Resource {
        "the role's"
    } else {
        "the caller's"
    };
    format!("{}{sid} of {whose} {}", report.at.index, policy(report).0)
}

/// The condition that kept an allowing statement from applying, near misses first.
fn nearest<'a>(
    visible: &[&'a StatementReport],
) -> Option<(&'a StatementReport, &'a ConditionReport)> {
    let close = visible
        .iter()
        .filter(|s| !s.denies && s.action && s.resource && s.principal != Some(false));
    let failed = close.flat_map(|s| {
        s.conditions
            .iter()
            .filter(|c| !c.holds)
            .map(move |c| (*s, c))
    });
    failed
        .clone()
        .find(|(_, c)| c.near_miss.is_some())
        .or_else(|| failed.clone().next())
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
        // Session policies ride along, and come back.
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
        // What packs well is kept to a stated length, and can be opened.
        let same = |n: usize| (format!("aws:requesttag/{n}"), vec!["x".repeat(256)]);
        let sealed = seal(Message {
            keys: (0..5_000).map(same).collect(),
            ..message(0)
        });
        let kept = Message::open(&sealed, &keyring).unwrap().keys.len();
        assert!((50..MAX_KEYS / 256).contains(&kept), "{kept}");
    }
}
