//! [`Context`]: one request while it is being served. It awaits the store, refuses, issues and writes
//! down, for whichever operation runs; it knows none of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::service::Service;
use crate::audit::Record;
use crate::authn::{self, Reason};
use crate::authorization_message::Message;
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::budgets::{self, Counted, CountedAs};
use crate::caller::Caller;
use crate::commands::Actor;
use crate::directory::{Directory, MfaDevice, User};
use crate::error::Error;
use crate::mfa::{self, Code, Moment};
use crate::mint::{self, Shape};
use crate::origin::Origin;
use crate::proof::sigv4::Presented;
use crate::store::StoreError;
use crate::trust::{Denied, Facts, Grant};

/// One request while it is being served: who, when, and its audit record. What it is decided on is of
/// one moment: when it began, or when it last had to wait ([`Context::wait`]).
pub struct Context<'a> {
    /// The toolbox. An operation awaits its store by [`Context::wait`] alone.
    pub broker: &'a Broker,
    /// The snapshot that this request sees.
    pub directory: Arc<Directory>,
    /// The instant that this request sees.
    pub now: Timestamp,
    /// The last change of the feed that was in force before anything was judged.
    pub issued_under: i64,
    pub(super) caller: Caller,
    /// What the caller signed; none of a caller that another proves.
    pub(super) signed: Option<Box<Presented>>,
    pub(super) service: Service,
    pub(super) origin: &'a Origin,
    /// The region that the signature names; the broker's own where nothing is signed.
    pub(super) region: String,
    pub(super) record: &'a mut Record,
}

impl Context<'_> {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The caller as the one who makes a change.
    pub fn actor(&self) -> Actor {
        Actor {
            r#type: self.caller.audited().r#type.into_owned(),
            arn: Some(self.caller.arn().to_owned()),
            access_key_id: Some(self.caller.access_key_id.clone()),
            user_name: None,
            request_id: Some(self.record.request_id.clone()),
        }
    }

    /// Waits for the store. What is decided afterwards is decided on what holds then: the directory,
    /// the revocations and the clock of that moment, and a caller who is still who it was. So a grant
    /// is made after the last wait: it borrows the caller, and does not live through another one.
    ///
    /// # Errors
    /// The store's, or why the caller would be refused if it came now.
    pub async fn wait<T>(
        &mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        let done = work.await?;
        self.renew()?;
        Ok(done)
    }

    /// Sees what holds now, as if the call came now.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        // Before the snapshot: what is judged by an older one must not pass for newer.
        self.issued_under = self.broker.feed.sequence();
        self.directory = self.broker.directory.load_full();
        self.now = self.broker.clock.now();
        self.broker.must_know_what_is_revoked()?;
        let renewed = match &self.signed {
            Some(presented) => {
                let service = self.service.scope();
                authn::signed(self.broker, service, &self.directory, self.now, presented)
                    .map(|caller| self.caller = caller)
            }
            None => match self.caller.federated() {
                Some(identity) => identity
                    .still_good(&self.directory, self.now)
                    .map_err(|unproven| unproven.error),
                None => Ok(()),
            },
        };
        if renewed == Err(Error::Ended) {
            self.record.additional_event_data = Unproved::audited(Reason::Ended);
        }
        renewed
    }

    /// The condition keys that every request has.
    pub fn facts(&self) -> Facts<'_> {
        Facts::new(&self.caller, self.origin, &self.region, self.now)
    }

    /// Writes down why, and tells the caller AWS's opaque sentence.
    pub fn refuse(&mut self, denied: &Denied, resource: &str) -> Error {
        self.record.additional_event_data = denied.audited();
        let sealed = self.broker.tokens.with_keyring(|keyring| {
            let message = Message::new(
                &self.record.request_id,
                &self.caller,
                denied,
                resource,
                self.issued_under,
                self.now,
            );
            message.seal(keyring, &*self.broker.entropy)
        });
        Error::AccessDenied {
            principal: self.caller.arn().to_owned(),
            action: denied.action.clone(),
            resource: resource.to_owned(),
            // Without one it is refused all the same.
            encoded_message: sealed.unwrap_or_default(),
        }
    }

    /// As [`Context::refuse`], in the words for whoever a provider vouches for: they have no ARN.
    pub fn refuse_as_federated(&mut self, denied: &Denied, resource: &str) -> Error {
        match self.refuse(denied, resource) {
            Error::AccessDenied {
                action,
                encoded_message,
                ..
            } => Error::NotAuthorized {
                action,
                encoded_message,
            },
            other => other,
        }
    }

    /// A refusal that no policy makes; why is for those who may know.
    pub fn refuse_because(&mut self, action: &str, resource: &str, note: &'static str) -> Error {
        let denied = Denied::because(action.to_owned(), &self.facts(), note);
        self.refuse(&denied, resource)
    }

    /// Checks and spends an MFA code of the caller's own device. It waits for the store: what is
    /// decided with the proof is decided on what holds afterwards.
    ///
    /// # Errors
    /// As [`mfa::prove`].
    pub async fn prove(&mut self, code: &Code) -> Result<mfa::Proven, Error> {
        let (broker, user) = (self.broker, self.caller.user().cloned());
        let (moment, renew) = self.moments();
        let proven = mfa::prove(broker, user, code, moment, renew).await;
        proven.map_err(|refused| self.mistaken(refused))
    }

    /// Checks two consecutive codes of a device, and sets what is known of its clock.
    ///
    /// # Errors
    /// As [`mfa::synchronise`].
    pub async fn synchronise(
        &mut self,
        user: &User,
        device: &MfaDevice,
        codes: (&str, &str),
    ) -> Result<(), Error> {
        let broker = self.broker;
        let (moment, renew) = self.moments();
        let done = mfa::synchronise(broker, user, device, codes, moment, renew).await;
        done.map_err(|refused| self.mistaken(refused))
    }

    /// What holds now, and how what holds later is found out: the caller is proven anew each time.
    fn moments(&mut self) -> (Moment, impl FnMut() -> Result<Moment, Error> + Send) {
        let moment = self.moment();
        let renew = || self.renew().map(|()| self.moment());
        (moment, renew)
    }

    fn moment(&self) -> Moment {
        Moment {
            directory: self.directory.clone(),
            now: self.now,
        }
    }

    fn mistaken(&mut self, refused: mfa::Refused) -> Error {
        if let Some(mfa) = refused.remark {
            self.record.additional_event_data =
                serde_json::value::to_raw_value(&Mistaken { mfa }).ok();
        }
        refused.error
    }

    /// Counts a call of a federated identity that the role's trust policy has admitted, for the identity and
    /// for the role's account. Until then it has proven nothing to that account.
    ///
    /// # Errors
    /// When one of the two budgets is used up.
    pub fn count_admitted(&self, account: AccountId) -> Result<(), Error> {
        let (broker, now) = (self.broker, self.broker.clock.monotonic());
        broker
            .budgets
            .proven(budgets::source(self.origin.source_ip));
        let counted = Counted {
            principal: self.caller.budget_key(),
            account: account.as_str(),
            signature: None,
        };
        let counted = broker.budgets.call(CountedAs::Call, counted, now);
        counted.map_err(|exceeded| broker.throttled(exceeded.name()))
    }

    /// Counts a call of a federated identity that was not admitted, for its provider: its source has paid
    /// for it already, and nobody else does.
    ///
    /// # Errors
    /// When there were too many.
    pub fn count_unadmitted(&self) -> Result<(), Error> {
        let counted = self
            .broker
            .budgets
            .unadmitted(self.caller.arn(), self.broker.clock.monotonic());
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }

    /// Makes a session and puts it on record.
    pub async fn issue(
        &self,
        grant: Grant<'_>,
        term: Duration,
        shape: Shape,
    ) -> Result<mint::Session, Error> {
        let (account, end) = (grant.account(), self.now.plus(term));
        let counted =
            self.broker
                .budgets
                .session(self.caller.budget_key(), account.as_str(), self.now, end);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))?;
        let keyring = self.broker.tokens.keyring();
        if keyring.current().is_none() {
            return Err(Error::ServiceUnavailable(
                "a signing key that was not revoked",
            ));
        }
        let issued_under = (self.issued_under, self.broker.store.id());
        let session = mint::session(
            grant,
            term,
            shape,
            issued_under,
            &keyring,
            &*self.broker.entropy,
            self.now,
        )?;
        self.broker
            .sessions
            .record(&keyring, &session.record, self.now)
            .await;
        Ok(session)
    }

    /// Writes down what was answered.
    pub fn answered(&mut self, elements: &impl Serialize, recipient_account: &str) {
        self.record.response_elements = serde_json::value::to_raw_value(elements).ok();
        self.record.recipient_account_id = Some(recipient_account.to_owned());
    }
}

/// What the audit says of somebody who was not proven.
#[derive(Serialize)]
pub(super) struct Unproved {
    reason: &'static str,
}

impl Unproved {
    pub(super) fn audited(reason: Reason) -> Option<Box<RawValue>> {
        let reason = reason.as_str();
        serde_json::value::to_raw_value(&Self { reason }).ok()
    }
}

/// What the audit says of an MFA code that was not taken.
#[derive(Serialize)]
struct Mistaken {
    mfa: &'static str,
}
