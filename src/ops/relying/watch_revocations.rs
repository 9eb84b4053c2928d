//! WatchRevocations: reports which sessions end early, for a node that handed them out or a service
//! to which clients presented them. The call only starts the watch; the interface then calls
//! [`Watching::look`] repeatedly.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::authn;
use crate::base::digest::sha256;
use crate::base::field::{self, FieldError};
use crate::base::names::AccessKeyId;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::caller::Caller;
use crate::directory::Directory;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::node::Node;
use crate::ops::operation::Operation;
use crate::ops::service::Service;
use crate::origin::Origin;
use crate::proof::certificate::ClientCertificate;
use crate::session::token;
use crate::tokens::OpenedSession;
use crate::trust::{self, Facts};
use crate::watches::Watch;

/// The permission that the caller needs on its own ARN.
const ACTION: &str = "brevet:WatchRevocations";
/// The permission that the caller also needs to watch sessions that were not issued to it.
const OF_OTHERS: &str = "brevet:VerifyRequest";
/// The maximum number of sessions in one stream.
const MAX_SESSIONS: usize = 100;
/// How long a call waits until this broker has applied the change that AfterSequenceNumber names.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two checks of how far this broker has followed the feed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A call of WatchRevocations whose parameters have been checked.
pub struct WatchRevocations {
    sessions: Vec<(AccessKeyId, Secret<String>)>,
    after: Option<i64>,
}

impl WatchRevocations {
    /// Checks the access keys and session tokens to watch. `after` is the number of the last change
    /// of the feed that the caller has seen.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(sessions: Vec<(String, String)>, after: Option<i64>) -> Result<Self, Error> {
        if !(1..=MAX_SESSIONS).contains(&sessions.len()) {
            let rule = format!("must have 1 to {MAX_SESSIONS} items");
            return Err(FieldError::new("Sessions", rule).into());
        }
        let mut checked: Vec<(AccessKeyId, Secret<String>)> = Vec::with_capacity(sessions.len());
        for (id, token) in sessions {
            let id = AccessKeyId::parse("AccessKeyId", &id)?;
            let token = Secret::new(token);
            field::length("SessionToken", token.expose(), 1, token::MAX_CHARACTERS)?;
            if checked.iter().any(|(other, _)| *other == id) {
                return Err(FieldError::new("Sessions", "must not repeat an access key").into());
            }
            checked.push((id, token));
        }
        if after.is_some_and(|number| number < 0) {
            let rule = "must not be negative";
            return Err(FieldError::new("AfterSequenceNumber", rule).into());
        }
        Ok(Self {
            sessions: checked,
            after,
        })
    }
}

/// A watch in progress: the caller, which is authenticated again at every look, and the sessions
/// that it watches.
pub struct Watching {
    caller: Caller,
    /// The ARN of the caller's user or role: the resource on which the caller's policies must allow
    /// the watch.
    own: String,
    /// The permissions that the caller needs throughout the watch.
    actions: &'static [&'static str],
    /// The watched sessions. Each look opens their tokens again, because a token's signing key may
    /// have been revoked.
    sessions: Vec<(AccessKeyId, Secret<String>)>,
    certificate: Option<Arc<ClientCertificate>>,
    origin: Origin,
    region: String,
    _counted: Watch,
}

/// The result of one look at the watched sessions.
pub struct Seen {
    /// The number of the last change of the feed that the look took into account.
    pub sequence: i64,
    /// The access key ids of the sessions that have ended since the last look.
    pub ended: Vec<String>,
}

impl Operation for WatchRevocations {
    const NAME: &'static str = "WatchRevocations";
    const SERVICE: Service = Service::Brevet;
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = false;
    type Output = Watching;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            sessions: self.sessions.len(),
            after_sequence_number: self.after,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Watching, Error> {
        if let Some(after) = self.after {
            let reached = async {
                while cx.broker.feed.sequence() < after {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            if tokio::time::timeout(PATIENCE, reached).await.is_err() {
                let change = "the change that AfterSequenceNumber names, which this broker has not applied yet,";
                return Err(Error::ServiceUnavailable(change));
            }
            cx.renew()?;
        }
        let own = cx.caller().own_arn().to_owned();
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), ACTION, &own);
        permitted.map_err(|denied| cx.refuse(&denied, &own))?;
        let node = Node::of(cx.caller()).map(|node| node.digest());
        let all = |fits: &dyn Fn(&OpenedSession) -> bool| {
            self.sessions.iter().all(|(id, token)| {
                // A token that no key of the keyring opens any more is one of a session that has ended.
                match cx.broker.tokens.open(token.expose()) {
                    Ok(session) => session.claims.access_key_id == id.as_str() && fits(&session),
                    Err(_) => true,
                }
            })
        };
        let is_handed_out = |session: &OpenedSession| {
            let workload = session.claims.workload.as_ref();
            workload.map(|workload| workload.node.as_slice()) == node.as_deref()
        };
        let account = cx.caller().account();
        let actions: &[&str] = if node.is_some() && all(&is_handed_out) {
            &[ACTION]
        } else if all(&|session| session.account == account)
            && trust::permit(cx.caller(), &cx.directory, &cx.facts(), OF_OTHERS, &own).is_ok()
        {
            &[ACTION, OF_OTHERS]
        } else {
            let note = "At least one of the sessions was not issued to the caller by AssumeRoleForWorkload. To watch \
                other sessions, the caller needs the permission brevet:VerifyRequest, and the sessions must belong to \
                the caller's account.";
            return Err(cx.refuse_because(ACTION, &own, note));
        };
        let digest = sha256(cx.caller().budget_key().as_bytes());
        let digest = node.as_deref().unwrap_or(&digest).first_chunk().copied();
        let counted = digest.and_then(|caller| cx.broker.watches.open(caller));
        let counted = counted.ok_or_else(|| cx.broker.throttled("watches"))?;
        Ok(Watching {
            caller: authn::again(cx.broker, cx.caller(), &cx.directory, cx.now)?,
            own,
            actions,
            sessions: self.sessions,
            certificate: cx.certificate().cloned(),
            origin: Origin {
                call: None,
                ..cx.origin().clone()
            },
            region: cx.region().to_owned(),
            _counted: counted,
        })
    }
}

impl Watching {
    /// Returns whether another look could find a difference: whether the feed has moved past
    /// `seen`, or the broker has a newer directory.
    pub fn may_have_ended(broker: &Broker, seen: i64, directory: &Arc<Directory>) -> bool {
        broker.feed.sequence() != seen || !Arc::ptr_eq(&broker.directory.load(), directory)
    }

    /// Returns the sessions that have ended since the last look, with the directory that was
    /// examined.
    ///
    /// # Errors
    /// The error with which the caller would now be refused, or [`Error::ServiceUnavailable`] while
    /// this broker does not know all revocations.
    pub fn look(&mut self, broker: &Broker) -> Result<(Seen, Arc<Directory>), Error> {
        // Read before the snapshot and the marks, so that an older state does not count as a newer one.
        let sequence = broker.feed.sequence();
        broker.must_know_what_is_revoked()?;
        let (directory, now) = (broker.directory.load_full(), broker.clock.now());
        self.caller = match &self.certificate {
            Some(shown) => authn::certificate::authenticate(shown, &directory, now)
                .map_err(|unproven| unproven.error)?,
            None => authn::again(broker, &self.caller, &directory, now)?,
        };
        let facts = Facts::new(&self.caller, &directory, &self.origin, &self.region, now);
        for action in self.actions {
            trust::permit(&self.caller, &directory, &facts, action, &self.own).map_err(|_| {
                Error::AccessDenied {
                    principal: self.caller.arn().to_owned(),
                    action: (*action).to_owned(),
                    resource: self.own.clone(),
                    encoded_message: String::new(),
                }
            })?;
        }
        let mut ended = Vec::new();
        self.sessions.retain(|(id, token)| {
            let session = broker.tokens.open(token.expose());
            let stands = session.as_ref().is_ok_and(|session| {
                let has_expired = now.seconds() >= session.claims.expires_at;
                has_expired || authn::stands(broker, session, &directory, now)
            });
            if !stands {
                ended.push(id.as_str().to_owned());
            }
            stands
        });
        Ok((Seen { sequence, ended }, directory))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    sessions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_sequence_number: Option<i64>,
}
