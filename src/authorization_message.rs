//! The reason of a refusal, sealed for those who may know it: AccessDenied contains it, and
//! DecodeAuthorizationMessage opens it. STS API Reference, "DecodeAuthorizationMessage".
//!
//! A message contains the request, its caller and its circumstances, but nothing of any policy.
//! Whoever may not open it learns nothing, not even from its length, which depends only on the
//! caller's own session. What every statement does with the request is determined when the message
//! is opened, by the policies in force then.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::caller::Caller;
use crate::error::Error;
use crate::evaluator::{ConditionReport, Outcome, Source, StatementReport};
use crate::session::envelope::{self, Purpose};
use crate::session::keyring::Keyring;
use crate::session::token::SessionKind;
use crate::trust::{Control, Denied, Explained};

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
    name: "brevet authorization message v1",
    form: 1,
    max_characters: 10_240,
};
/// Common parts of messages, so that they pack well. A change of the dictionary requires a new
/// form.
const DICTIONARY: &[u8] = br#"{"request_id":"","at":,"sequence":,"session":null,"principal_arn":"arn:aws:iam::","principal_id":"AROA","arn":"arn:aws:sts::","action":"sts:AssumeRole","resource":"arn:aws:iam::","explicit_deny":false,"note":null,"keys":[["aws:currenttime",["2026-"]],["aws:epochtime",[""]],["aws:sourceip",["127.0.0.1"]],["aws:securetransport",["false"]],["aws:requestedregion",["us-east-1"]],["aws:useragent",["aws-cli/2 Boto3/1 md/Botocore#1 ua/2.1 os/linux lang/python md/pyimpl#CPython cfg/retry-mode#legacy"]],["aws:principalaccount",[""]],["aws:userid",["AIDA"]],["aws:principaltype",["AssumedRole"]],["aws:principalarn",["arn:aws:iam::"]],["aws:multifactorauthpresent",["true"]],["aws:tokenissuetime",[""]],["aws:username",[""]],["sts:rolesessionname",[""]],["sts:externalid",[""]]],"cut":false}"#;

/// A refused request, with what is needed to explain the refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    request_id: String,
    /// The time of the refusal, in seconds since 1970.
    at: i64,
    /// The last change of the feed that was in force.
    sequence: i64,
    /// How the principal's session was issued, as a [`SessionKind`]; `None` for a long-term key.
    session: Option<i32>,
    /// The ARN of the role for a role session, otherwise of the user.
    principal_arn: String,
    principal_id: String,
    arn: String,
    action: String,
    resource: String,
    explicit_deny: bool,
    /// The reason, if it is not in any policy.
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
    /// Describes the refusal of a caller.
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
            cut: session.is_some_and(|s| s.is_restricted()),
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
        Ok(envelope::seal(
            keyring,
            &PURPOSE,
            &body,
            &entropy::bytes(entropy)?,
        )?)
    }

    /// The packed message with as many condition keys as fit. Tags and claims are the last keys,
    /// and can be found out elsewhere. The caller determines how many keys there are, so each is
    /// written only once, and the number that fits is found by bisection.
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

    /// Opens the text of an AccessDenied error.
    ///
    /// # Errors
    /// [`Error::InvalidAuthorizationMessage`] for any reason.
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

    /// How the principal's session was issued; `None` for a long-term key.
    pub fn session(&self) -> Option<SessionKind> {
        self.session
            .and_then(|kind| SessionKind::try_from(kind).ok())
    }

    /// The ARN of the role for a role session, otherwise of the user.
    pub fn principal_arn(&self) -> &str {
        &self.principal_arn
    }

    /// The ARN of the user or session itself.
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

    /// The last change of the feed that was in force.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The account of the principal, and that of the resource if its ARN contains one.
    pub fn accounts(&self) -> (&str, Option<&str>) {
        fn owner(arn: &str) -> Option<&str> {
            arn.split(':').nth(4).filter(|account| !account.is_empty())
        }
        (
            owner(&self.principal_arn).unwrap_or_default(),
            owner(&self.resource),
        )
    }

    /// The message in AWS's JSON format, with an additional report of what every statement does.
    pub fn decoded(&self, disclosure: &Disclosure) -> Value {
        let reports = disclosure
            .explained
            .as_ref()
            .map(|e| e.explanation.statements.as_slice())
            .unwrap_or_default();
        let visible: Vec<&StatementReport> =
            reports.iter().filter(|s| disclosure.shows(s)).collect();
        // Nothing is revealed about the policies of another account, not even that one of them
        // denies: it could belong to the principal's account or to the resource's.
        let sees_all = disclosure.of_principal && disclosure.of_resource;
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
                    "sourcePolicyId": disclosure.control(s).map(|c| c.id.as_str()),
                    "conditions": {"items": conditions},
                })
            });
        let statements = visible.iter().map(|s| {
            let (policy, number) = policy(s);
            json!({
                "policy": policy, "policyNumber": number,
                "policyId": disclosure.control(s).map(|c| c.id.as_str()),
                "policyName": disclosure.control(s).map(|c| c.name.as_str()),
                "attachedTo": disclosure.control(s).map(|c| c.target.as_str()),
                "statement": s.at.index, "sid": s.sid,
                "effect": if s.denies { "Deny" } else { "Allow" }, "applies": s.applies,
                "matches": {"principal": s.principal, "action": s.action, "resource": s.resource},
                "conditions": s.conditions.iter().map(|c| json!({
                    "operator": c.operator, "key": c.key, "wanted": c.wanted,
                    "got": c.got.as_ref().filter(|_| disclosure.may_know(&c.key)),
                    "holds": c.holds, "nearMiss": c.near_miss,
                })).collect::<Vec<_>>(),
            })
        });
        let said = self
            .keys
            .iter()
            .filter(|(name, _)| disclosure.may_know(name))
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
                "summary": self.summary(disclosure, &visible, explicit_deny),
                "policiesChangedSince": disclosure.changed,
                "statements": statements.collect::<Vec<_>>(),
            },
        })
    }

    /// The reason in one or two sentences.
    fn summary(
        &self,
        disclosure: &Disclosure,
        visible: &[&StatementReport],
        explicit_deny: bool,
    ) -> String {
        // The note is about the caller's own credentials.
        if let Some(note) = self.note.as_ref().filter(|_| disclosure.of_principal) {
            return note.clone();
        }
        let silent = disclosure.explained.as_ref();
        let silent = silent
            .and_then(|e| e.silent.as_ref())
            .filter(|_| disclosure.of_principal);
        let mut text = match (&disclosure.missing, &disclosure.explained) {
            (Some(missing), _) => missing.clone(),
            (None, None) => {
                "The principal no longer exists, so its policies cannot be shown.".to_owned()
            }
            (None, Some(_)) if explicit_deny => {
                match visible.iter().find(|s| s.denies && s.applies) {
                    Some(s) => {
                        format!("Statement {} denies the request.", disclosure.place(s))
                    }
                    None => "A statement that no longer exists denied the request.".to_owned(),
                }
            }
            (None, Some(_)) => match (silent, nearest(visible)) {
                (Some(target), _) => format!(
                    "No service control policy that is attached to {target} allows the request."
                ),
                (None, Some((s, c))) => {
                    let got = match &c.got {
                        _ if !disclosure.may_know(&c.key) => {
                            "a value that only the other account may see".to_owned()
                        }
                        Some(got) => format!("`{}`", got.join("`, `")),
                        None => "no value for it".to_owned(),
                    };
                    let near = c.near_miss.map(|n| format!(" ({n})")).unwrap_or_default();
                    format!(
                        "No policy that must allow the request allows it. Closest match: statement {} requires {} {} `{}`, but the request has {got}{near}.",
                        disclosure.place(s),
                        c.operator,
                        c.key,
                        c.wanted.join("`, `"),
                    )
                }
                (None, None) => "No policy that must allow the request allows it.".to_owned(),
            },
        };
        if self.cut && self.limits.is_empty() {
            text.push_str(
                " The session's own policies were too long to be included in the message.",
            );
        }
        if disclosure.changed {
            text.push_str(
                " Policies have changed since then; this explanation uses the current ones.",
            );
        }
        text
    }
}

/// What is shown to a reader in addition to the message itself.
pub struct Disclosure {
    /// The explanation by the current policies; `None` if the principal no longer exists.
    pub explained: Option<Explained>,
    /// Whether the reader belongs to the principal's account and may see its policies.
    pub of_principal: bool,
    /// Whether the reader belongs to the resource's account and may see its policy.
    pub of_resource: bool,
    /// A sentence if the resource does not exist, for readers who may know that.
    pub missing: Option<String>,
    /// Whether the directory has changed since the refusal, so that the explanation may differ from
    /// the reason at that time.
    pub changed: bool,
}

/// Condition keys, in lower case, that reveal where and with what somebody works. They are not
/// shown to the account of the requested role. A trailing `/` denotes a family of keys.
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

/// Condition keys, in lower case, that say where the account of the requested role belongs. They are
/// not shown to the caller's account.
const KEYS_OF_RESOURCE: [&str; 2] = ["aws:resourceorgid", "aws:resourceorgpaths"];

impl Disclosure {
    /// Whether the reader may see the request's value of a condition key.
    fn may_know(&self, key: &str) -> bool {
        if KEYS_OF_RESOURCE
            .iter()
            .any(|of| key.eq_ignore_ascii_case(of))
        {
            return self.of_resource;
        }
        let is_private = |private: &&str| {
            key.get(..private.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(private))
                && (private.ends_with('/') || key.len() == private.len())
        };
        self.of_principal || !PRIVATE_KEYS.iter().any(is_private)
    }

    /// Whether the reader may see a statement: the policies of each account are visible only to
    /// that account.
    fn shows(&self, report: &StatementReport) -> bool {
        match report.at.source {
            Source::Resource | Source::ResourceControl(..) => self.of_resource,
            _ => self.of_principal,
        }
    }

    /// The service or resource control policy to which a statement belongs.
    fn control(&self, report: &StatementReport) -> Option<&Control> {
        let controls = &self.explained.as_ref()?.controls;
        controls.iter().find(|c| c.source == report.at.source)
    }

    /// The statement's place in words.
    fn place(&self, report: &StatementReport) -> String {
        let sid = report.sid.as_ref();
        let sid = sid.map(|sid| format!(" ({sid})")).unwrap_or_default();
        let (index, policy) = (report.at.index, policy(report).0);
        if let Some(Control {
            id, name, target, ..
        }) = self.control(report)
        {
            let name = match name.as_str() {
                "" => String::new(),
                name => format!(" ({name})"),
            };
            return format!("{index}{sid} of the {policy} {id}{name}, attached to {target},");
        }
        let whose = match report.at.source {
            Source::Resource => "the role's",
            _ => "the caller's",
        };
        format!("{index}{sid} of {whose} {policy}")
    }
}

fn values(key: &str, values: &[String]) -> Value {
    json!({"key": key, "values": {"items": values.iter().map(|v| json!({"value": v})).collect::<Vec<_>>()}})
}

/// The kind of policy to which a statement belongs, and its number among that kind.
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

/// The condition that kept an allowing statement from applying, preferring near misses.
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
