//! Authorize: decides whether a session, user or role may perform actions on resources. A service
//! asks, and enforces the answer itself.
//!
//! The service itself must be allowed `brevet:Authorize` on every resource that it asks about, which is
//! checked before anything about the subject is told. Before that, a subject is looked up only to count the call.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::keys;
use super::subject::{NOBODY, Subject, Unknown};
use crate::base::arn::{AccountId, Arn};
use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::budgets::{self, CountedAs};
use crate::caller::Caller;
use crate::error::Error;
use crate::evaluator::Outcome;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation, View};
use crate::ops::service::Service;
use crate::trust::{self, Denied, Elsewhere, Judged, RequestElsewhere};

const ACTION: &str = "brevet:Authorize";
/// The maximum number of items, each with one action and resource, in a call.
pub const MAX_ITEMS: usize = 100;
/// The maximum length in bytes of an action's name.
const MAX_ACTION: usize = 128;
/// The maximum length in bytes of a resource's ARN.
const MAX_RESOURCE: usize = 2_048;
/// The number of items that are decided before the task yields to other calls.
const AT_ONCE: usize = 8;
/// The longest time for which a service may cache an answer. At a service with a cached answer, a revocation takes
/// effect up to this much later than on the broker.
const CACHED: Duration = Duration::from_secs(2);

/// One item of a call: a request that the subject made to the service.
pub struct Item {
    /// The index in [`Authorize::subjects`] of the subject that makes the request.
    pub subject: usize,
    /// The name of the action as policies spell it: `service:Name`.
    pub action: String,
    pub resource: Resource,
    /// The condition keys that the service sets, with their values.
    pub keys: Vec<(String, Vec<String>)>,
}

/// A resource of the calling service, which the request is about.
pub enum Resource {
    Arn(String),
    /// A resource that has no ARN of its own. It gets the ARN `arn:aws:KIND::ACCOUNT:NAME` in the
    /// caller's account.
    Named {
        kind: String,
        name: String,
    },
}

/// The decision after which a call with several items stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Semantic {
    #[default]
    ExecuteAll,
    /// Stops after the first item that is denied.
    DenyOnFirstDeny,
    /// Stops after the first item that is allowed.
    PermitOnFirstPermit,
}

/// A call of Authorize whose parameters have been checked.
pub struct Authorize {
    pub subjects: Vec<Subject>,
    /// The items in the order of the request. `Err` contains the reason why an item could not be
    /// parsed; such an item is denied.
    pub items: Vec<Result<Item, String>>,
    pub semantic: Semantic,
}

/// The result of a call: the decisions, and the change of the feed on which they are based.
pub struct Authorized {
    /// One decision for each item in order. There are fewer if the semantic stopped the call early.
    pub decisions: Vec<Decided>,
    /// The number of the last change of the feed that the decisions take into account.
    pub change: i64,
}

/// The decision on one item.
pub struct Decided {
    pub code: Code,
    /// A sentence that explains the decision to the operators of the service.
    pub reason: String,
    /// The sealed reason, which `brevet explain` opens; empty if there is none.
    pub encoded_message: String,
    /// When the session of the subject expires; `None` if the subject is not a session.
    pub expires_at: Option<Timestamp>,
    /// How long the service may cache the decision.
    pub cached: Duration,
}

impl Decided {
    pub fn is_allowed(&self) -> bool {
        self.code == Code::Allowed
    }
}

/// The kinds of decisions on an item, from which a program can tell why it was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Allowed,
    ExplicitDeny,
    ImplicitDeny,
    NoSuchSession,
    ExpiredToken,
    SessionEnded,
    NoSuchPrincipal,
    InvalidRequest,
}

impl Code {
    /// The code as it is spelled in answers, such as `ExplicitDeny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::ExplicitDeny => "ExplicitDeny",
            Self::ImplicitDeny => "ImplicitDeny",
            Self::NoSuchSession => "NoSuchSession",
            Self::ExpiredToken => "ExpiredToken",
            Self::SessionEnded => "SessionEnded",
            Self::NoSuchPrincipal => "NoSuchPrincipal",
            Self::InvalidRequest => "InvalidRequest",
        }
    }
}

impl Item {
    /// Checks the length and the form of an item's fields.
    ///
    /// # Errors
    /// [`FieldError`] that names the field and the rule.
    pub fn check(self) -> Result<Self, FieldError> {
        let service = self.action.split_once(':').map(|(service, _)| service);
        let is_plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_graphic() && !b"*?".contains(&b))
        };
        let Some(service) = service.filter(|service| {
            keys::is_service(service)
                && (service.len() + 2..=MAX_ACTION).contains(&self.action.len())
                && is_plain(&self.action)
        }) else {
            let rule = "must be `service:Name` of at most 128 ASCII characters without spaces and wildcards, for a service \
                other than aws, brevet, iam, localhost, saml and sts";
            return Err(FieldError::new("Action", rule));
        };
        let is_legal = match &self.resource {
            Resource::Arn(arn) => Arn::parse(arn).is_some() && is_text(arn, MAX_RESOURCE),
            Resource::Named { kind, name } => {
                keys::is_service(kind) && is_text(name, MAX_RESOURCE - 128)
            }
        };
        if !is_legal {
            let rule = "must be an ARN of at most 2048 bytes, or have the type and the name (at most 1920 bytes) of a resource of the service";
            return Err(FieldError::new("Resource", rule));
        }
        keys::check(&self.keys, service).map_err(|rule| FieldError::new("Context", rule))?;
        Ok(self)
    }

    fn arn(&self, account: AccountId) -> String {
        match &self.resource {
            Resource::Arn(arn) => arn.clone(),
            Resource::Named { kind, name } => format!("arn:aws:{kind}::{account}:{name}"),
        }
    }
}

fn is_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Authorize {
    /// Checks that the call has from 1 to [`MAX_ITEMS`] items.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn new(
        subjects: Vec<Subject>,
        items: Vec<Result<Item, String>>,
        semantic: Semantic,
    ) -> Result<Self, Error> {
        if !(1..=MAX_ITEMS).contains(&items.len()) {
            let rule = format!("must have 1 to {MAX_ITEMS} items");
            return Err(FieldError::new("Items", rule).into());
        }
        Ok(Self {
            subjects,
            items,
            semantic,
        })
    }
}

impl Operation for Authorize {
    const NAME: &'static str = "Authorize";
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const HANDS_OUT: bool = false;
    type Output = Authorized;

    fn parameters(&self) -> Option<Box<RawValue>> {
        let first = self.items.iter().flatten().next();
        serde_json::value::to_raw_value(&Parameters {
            items: self.items.len(),
            subject: first.and_then(|item| self.subjects.get(item.subject)?.audited().into()),
            action: first.map(|item| item.action.as_str()),
        })
        .ok()
    }

    fn amount(&self) -> u64 {
        budgets::calls_of_decisions(self.items.len())
    }

    fn subjects(&self, view: &View<'_>) -> Vec<(String, u64)> {
        let named = self.subjects.iter().map(|subject| subject.budget_key(view));
        let named: Vec<String> = named.collect();
        let mut decisions: BTreeMap<&str, usize> = BTreeMap::new();
        for item in &self.items {
            let key = item.as_ref().ok().and_then(|item| named.get(item.subject));
            *decisions
                .entry(key.map_or(NOBODY, String::as_str))
                .or_default() += 1;
        }
        let counted =
            |(key, count): (&str, usize)| (key.to_owned(), budgets::calls_of_decisions(count));
        decisions.into_iter().map(counted).collect()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Authorized, Error> {
        let account = cx.caller().account();
        let arns: Vec<Option<String>> = self
            .items
            .iter()
            .map(|item| item.as_ref().ok().map(|item| item.arn(account)))
            .collect();
        self.permit(cx, &arns)?;
        let mut found = Vec::with_capacity(self.subjects.len());
        for subject in &self.subjects {
            found.push(subject.find(cx)?);
        }
        let (directory, now) = (cx.directory.clone(), cx.now);
        let prepared: Vec<Result<(&Judged, Elsewhere<'_>), Unknown>> = found
            .iter()
            .map(|found| match found {
                Ok(judged) => Ok((judged, Elsewhere::new(judged, &directory, now))),
                Err(unknown) => Err(*unknown),
            })
            .collect();
        let mut decisions = Vec::with_capacity(self.items.len());
        for (at, (item, arn)) in self.items.iter().zip(&arns).enumerate() {
            if at % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let decided = match (item, arn) {
                (Ok(item), Some(arn)) => match prepared.get(item.subject) {
                    Some(Ok((judged, elsewhere))) => decide(cx, judged, elsewhere, item, arn)?,
                    Some(Err(unknown)) => Decided::unknown(*unknown),
                    None => return Err(Error::InternalFailure),
                },
                (Err(rule), _) => Decided::refused(Code::InvalidRequest, rule.clone()),
                (Ok(_), None) => return Err(Error::InternalFailure),
            };
            let is_last = match self.semantic {
                Semantic::ExecuteAll => false,
                Semantic::DenyOnFirstDeny => !decided.is_allowed(),
                Semantic::PermitOnFirstPermit => decided.is_allowed(),
            };
            decisions.push(decided);
            if is_last {
                break;
            }
        }
        let allowed = decisions.iter().filter(|d| d.is_allowed()).count();
        let denied = decisions.len() - allowed;
        cx.answered(&Answered { allowed, denied }, account);
        Ok(Authorized {
            decisions,
            change: cx.issued_under,
        })
    }
}

impl Authorize {
    /// Checks that the calling service has the permission `brevet:Authorize` on every resource of
    /// the call.
    fn permit(&self, cx: &mut Context<'_>, arns: &[Option<String>]) -> Result<(), Error> {
        let denied = {
            let facts = cx.facts();
            let mut asked: Vec<&str> = arns.iter().flatten().map(String::as_str).collect();
            if asked.is_empty() {
                asked.push("*");
            }
            asked.into_iter().find_map(|arn| {
                let permitted = trust::permit(cx.caller(), &cx.directory, &facts, ACTION, arn);
                permitted.err().map(|denied| (denied, arn.to_owned()))
            })
        };
        match denied {
            Some((denied, arn)) => Err(cx.refuse(&denied, &arn)),
            None => Ok(()),
        }
    }
}

fn decide(
    cx: &Context<'_>,
    judged: &Judged,
    elsewhere: &Elsewhere<'_>,
    item: &Item,
    arn: &str,
) -> Result<Decided, Error> {
    let request = RequestElsewhere {
        action: &item.action,
        resource: arn,
        keys: &item.keys,
    };
    let caller = match judged {
        Judged::Caller(caller) => Some(caller),
        Judged::Role(_) => None,
    };
    let expires_at = caller
        .and_then(Caller::session)
        .map(|session| Timestamp::from_seconds(session.claims.expires_at));
    let left = expires_at.map_or(CACHED, |at| at.since(cx.now));
    let decided = match elsewhere.decide(&request)? {
        Ok(()) => Decided {
            code: Code::Allowed,
            reason: String::new(),
            encoded_message: String::new(),
            expires_at: None,
            cached: Duration::ZERO,
        },
        Err(denied) => Decided {
            encoded_message: caller
                .map(|caller| cx.sealed(caller, &denied, arn))
                .unwrap_or_default(),
            ..Decided::denied(&denied)
        },
    };
    Ok(Decided {
        expires_at,
        cached: CACHED.min(left),
        ..decided
    })
}

impl Decided {
    fn refused(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            encoded_message: String::new(),
            expires_at: None,
            cached: Duration::ZERO,
        }
    }

    fn denied(denied: &Denied) -> Self {
        let (code, sentence) = match denied.decision.outcome {
            Outcome::ExplicitlyDenied => (Code::ExplicitDeny, "A policy denies the request."),
            _ => (
                Code::ImplicitDeny,
                "No policy denies the request, but at least one policy that must allow it does not (identity, \
                resource, session, scope-down, boundary or organization).",
            ),
        };
        Self::refused(code, denied.note.as_deref().unwrap_or(sentence))
    }

    fn unknown(unknown: Unknown) -> Self {
        let sentence = match unknown {
            Unknown::NoSuchSession => {
                "No session of this account has this access key and session token."
            }
            Unknown::Expired => "The session has expired.",
            Unknown::Ended => {
                "The session was ended before its expiry, or was issued by a broker on another store."
            }
            Unknown::NoSuchPrincipal => "This account has no such user or role.",
        };
        Self::refused(unknown.into(), sentence)
    }
}

impl From<Unknown> for Code {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::NoSuchSession => Self::NoSuchSession,
            Unknown::Expired => Self::ExpiredToken,
            Unknown::Ended => Self::SessionEnded,
            Unknown::NoSuchPrincipal => Self::NoSuchPrincipal,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    items: usize,
    /// The subject of the first item. The record does not list the other items.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
}

#[derive(Serialize)]
struct Answered {
    allowed: usize,
    denied: usize,
}
