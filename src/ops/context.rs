//! [`Context`]: one request while it is being served. It contains what every operation needs:
//! waiting for the store, refusing calls, issuing sessions and filling in the audit record.

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::draft::Draft;
use super::service::Service;
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
use crate::mint::{self, SessionDetails, UnsignedToken};
use crate::origin::Origin;
use crate::proof::certificate::ClientCertificate;
use crate::proof::sigv4::Presented;
use crate::signed_in::SignIn;
use crate::store::StoreError;
use crate::trust::{Denied, Facts, Grant, ServicePrincipal};

/// One request while it is being served: the caller, the time and the audit record. All decisions
/// are based on the state at one instant: when the request began, or when it last had to wait
/// ([`Context::wait`]).
pub struct Context<'a> {
    /// The shared state of the broker. An operation must wait for its store only through
    /// [`Context::wait`].
    pub broker: &'a Broker,
    /// The snapshot on which decisions are based. [`Context::wait`] replaces it.
    pub directory: Arc<Directory>,
    /// The time on which decisions are based. [`Context::wait`] replaces it.
    pub now: Timestamp,
    /// The number of the last change of the feed that was in force when the current decision began.
    /// Revocations with a higher number end the sessions that the call issues.
    pub issued_under: i64,
    pub(super) caller: Arc<Caller>,
    /// The signature of the request; `None` if the caller was authenticated in another way.
    pub(super) signed: Option<Box<Presented>>,
    /// The client certificate that authenticated the caller; `None` if the caller used another
    /// credential.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// The sign-in that authenticated the caller, with the account of the requested role; `None` if
    /// the caller used another credential.
    pub(super) sign_in: Option<(Arc<SignIn>, AccountId)>,
    pub(super) service: Service,
    pub(super) origin: &'a Origin,
    pub(super) record: &'a mut Draft,
    /// The number in the feed of the last change that this call made; `None` if it made none.
    pub(super) change: &'a mut Option<i64>,
    /// The token of the session that this call issues. It is signed when the call's audit record is
    /// written.
    pub(super) unsigned: &'a OnceLock<UnsignedToken>,
}

impl Context<'_> {
    /// The caller, as it was last authenticated.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The caller as the feed names the author of a change.
    pub fn actor(&self) -> Actor {
        Actor {
            r#type: self.caller.audited().r#type.into_owned(),
            arn: Some(self.caller.arn().to_owned()),
            access_key_id: Some(self.caller.access_key_id.clone()),
            user_name: None,
            request_id: Some(self.record.request_id.clone()),
        }
    }

    /// Waits for the store. Decisions after that are based on the state after the wait: the
    /// directory, the revocations and the clock of that moment, and a caller that was authenticated
    /// again. A grant borrows the caller and therefore cannot outlive another wait, so it is made
    /// after the last one.
    ///
    /// # Errors
    /// The store's error, or the error with which the caller would now be refused.
    pub async fn wait<T>(
        &mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        let done = work.await?;
        self.renew()?;
        Ok(done)
    }

    /// Replaces the directory, the time and the caller by their current state, as if the request
    /// arrived now.
    ///
    /// # Errors
    /// The error with which the caller would now be refused.
    pub fn renew(&mut self) -> Result<(), Error> {
        // Read before the snapshot, so that what an older snapshot decides does not count as newer.
        self.issued_under = self.broker.feed.sequence();
        self.directory = self.broker.directory.load_full();
        self.now = self.broker.clock.now();
        self.broker.must_know_what_is_revoked()?;
        if let Some(shown) = &self.certificate {
            let renewed = authn::certificate::authenticate(shown, &self.directory, self.now);
            return match renewed {
                Ok(caller) => {
                    self.caller = Arc::new(caller);
                    Ok(())
                }
                Err(unproven) => Err(self.unproven(&unproven)),
            };
        }
        if let Some((sign_in, account)) = &self.sign_in {
            let (directory, now) = (&self.directory, self.now);
            let renewed =
                authn::sign_in::authenticate(self.broker, sign_in, *account, directory, now);
            return match renewed {
                Ok(caller) => {
                    self.caller = Arc::new(caller);
                    Ok(())
                }
                Err(unproven) => Err(self.unproven(&unproven)),
            };
        }
        let renewed = match &self.signed {
            Some(presented) => {
                let service = self.service.scope();
                authn::signed(self.broker, service, &self.directory, self.now, presented)
                    .map(|caller| self.caller = Arc::new(caller))
            }
            None => match self.caller.federated() {
                Some(identity) => {
                    let still_good = identity.still_good(&self.directory, self.now);
                    still_good.map_err(|unproven| {
                        self.record.additional_event_data =
                            unproven.reason.as_ref().and_then(AuditedReason::audited);
                        unproven.error
                    })
                }
                None => Ok(()),
            },
        };
        if renewed == Err(Error::Ended) {
            self.record.additional_event_data = AuditedReason::audited(&Reason::Ended);
        }
        renewed
    }

    /// Notes the number in the feed of a change that this call made, so that the answer can contain
    /// it.
    pub(super) fn changed(&mut self, sequence: i64) {
        *self.change = Some(sequence);
    }

    /// Returns the facts for the condition keys that describe this request and its caller, such as `aws:SourceIp` and
    /// `aws:PrincipalTag/…`. An operation adds the keys of its own parameters and of its resource.
    pub fn facts(&self) -> Facts<'_> {
        Facts::new(
            &self.caller,
            &self.directory,
            self.origin,
            self.region(),
            self.now,
        )
    }

    /// Returns the facts for the condition keys of a request in which an AWS service assumes a role for the caller's
    /// workload.
    pub fn facts_of_service<'f>(&'f self, service: &'f ServicePrincipal) -> Facts<'f> {
        let (caller, directory) = (&self.caller, &*self.directory);
        Facts::of_service(
            service,
            caller,
            directory,
            self.origin,
            self.region(),
            self.now,
        )
    }

    /// The client's address, its certificate and some headers of the request.
    pub fn origin(&self) -> &Origin {
        self.origin
    }

    /// The client certificate that authenticated the caller; `None` if the caller used another
    /// credential.
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref()
    }

    /// The region in the request's signature, or the broker's first region if the request is not
    /// signed.
    pub fn region(&self) -> &str {
        let signed = self.signed.as_deref();
        signed.map_or(&self.broker.region, Presented::unverified_region)
    }

    /// Records why an additional proof, such as a web identity token, was not accepted, and returns
    /// the error for the caller.
    pub fn unproven(&mut self, unproven: &authn::Unproven) -> Error {
        self.record.additional_event_data =
            unproven.reason.as_ref().and_then(AuditedReason::audited);
        unproven.error.clone()
    }

    /// Records why a policy check refused the call, and returns AccessDenied with the sealed
    /// reason, which DecodeAuthorizationMessage opens.
    pub fn refuse(&mut self, denied: &Denied, resource: &str) -> Error {
        self.record.additional_event_data = denied.audited();
        Error::AccessDenied {
            principal: self.caller.arn().to_owned(),
            action: denied.action.clone(),
            resource: resource.to_owned(),
            encoded_message: self.sealed(&self.caller, denied, resource),
        }
    }

    /// Seals the reason of a refusal for the answer to `principal`. Returns an empty text if
    /// sealing fails, since the call is refused in any case.
    pub fn sealed(&self, principal: &Caller, denied: &Denied, resource: &str) -> String {
        let sealed = self.broker.tokens.with_keyring(|keyring| {
            let message = Message::new(
                &self.record.request_id,
                principal,
                denied,
                resource,
                self.issued_under,
                self.now,
            );
            message.seal(keyring, &*self.broker.entropy)
        });
        sealed.unwrap_or_default()
    }

    /// Like [`Context::refuse`], but worded for federated callers, who have no ARN.
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

    /// Refuses a call for a reason other than a policy. Only principals that may decode the sealed
    /// reason see `note`.
    pub fn refuse_because(&mut self, action: &str, resource: &str, note: &'static str) -> Error {
        let denied = Denied::because(action.to_owned(), &self.facts(), note);
        self.refuse(&denied, resource)
    }

    /// Replaces the request parameters in the audit record, once the operation knows more of them.
    pub fn asked(&mut self, parameters: &impl Serialize) {
        self.record.request_parameters = serde_json::value::to_raw_value(parameters).ok();
    }

    /// Checks and spends an MFA code of the caller's own device. This waits for the store, so
    /// decisions based on the proof use the state after it.
    ///
    /// # Errors
    /// The same as for [`mfa::prove`].
    pub async fn prove(&mut self, code: &Code) -> Result<mfa::Proven, Error> {
        let (broker, user) = (self.broker, self.caller.user().cloned());
        let (moment, renew) = self.moments();
        // Boxed, because most calls have no code.
        let proven = Box::pin(mfa::prove(broker, user, code, moment, renew)).await;
        proven.map_err(|refused| self.record_mfa_failure(refused))
    }

    /// Checks two consecutive codes of a device and stores the offset of its clock.
    ///
    /// # Errors
    /// The same as for [`mfa::synchronise`].
    pub async fn synchronise(
        &mut self,
        user: &User,
        device: &MfaDevice,
        codes: (&str, &str),
    ) -> Result<(), Error> {
        let broker = self.broker;
        let (moment, renew) = self.moments();
        let done = mfa::synchronise(broker, user, device, codes, moment, renew).await;
        done.map_err(|refused| self.record_mfa_failure(refused))
    }

    /// Returns the current state for a check of MFA codes, and a function that renews the state and
    /// authenticates the caller again after each wait.
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

    fn record_mfa_failure(&mut self, refused: mfa::Refused) -> Error {
        if let Some(mfa) = refused.remark {
            self.record.additional_event_data =
                serde_json::value::to_raw_value(&AuditedMfaFailure { mfa }).ok();
        }
        refused.error
    }

    /// Counts a call of a federated identity for the identity and the role's account. Called only
    /// after the role's trust policy has allowed the call, because nobody can charge an account's
    /// budget without its permission.
    ///
    /// # Errors
    /// [`Error::Throttling`] if one of the two budgets is used up.
    pub fn count_admitted(&self, account: AccountId) -> Result<(), Error> {
        let (broker, now) = (self.broker, self.broker.clock.monotonic());
        broker
            .budgets
            .proven(budgets::source(self.origin.source_ip));
        let counted = Counted {
            principal: &self.caller.budget_key(),
            account: account.as_str(),
            signature: None,
            amount: 1,
            subjects: &[],
        };
        let counted = broker.budgets.call(CountedAs::Call, counted, now);
        counted.map_err(|exceeded| broker.throttled(exceeded.name()))
    }

    /// Checks that [`Context::count_admitted`] would not refuse the call, and counts nothing.
    ///
    /// # Errors
    /// [`Error::Throttling`] if one of the two budgets is used up.
    pub fn check_budgets(&self, account: AccountId) -> Result<(), Error> {
        let (broker, now) = (self.broker, self.broker.clock.monotonic());
        let admitted = broker
            .budgets
            .admit(&self.caller.budget_key(), account.as_str(), now);
        admitted.map_err(|exceeded| broker.throttled(exceeded.name()))
    }

    /// Counts a refused call of a federated identity against the budget of its provider. The call
    /// already counts for its source address, and for nobody else.
    ///
    /// # Errors
    /// [`Error::Throttling`] if there were too many such calls.
    pub fn count_unadmitted(&self) -> Result<(), Error> {
        let counted = self
            .broker
            .budgets
            .unadmitted(self.caller.arn(), self.broker.clock.monotonic());
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))
    }

    /// Issues a session and records it. A call can issue only one, because the token is signed together with the call's
    /// audit record. Only a broker with the Keystone API signs the token at once, to keep it for that API.
    ///
    /// # Errors
    /// [`Error::Throttling`] if the budget for sessions is used up, [`Error::ServiceUnavailable`] without a signing
    /// key, [`Error::InternalFailure`] if the call has issued a session already, and the errors of [`mint::session`].
    pub async fn issue(
        &self,
        grant: Grant<'_>,
        term: Duration,
        details: SessionDetails,
    ) -> Result<mint::Session, Error> {
        let (account, end) = (grant.account(), self.now.plus(term));
        let counted =
            self.broker
                .budgets
                .session(&self.caller.budget_key(), account.as_str(), self.now, end);
        counted.map_err(|exceeded| self.broker.throttled(exceeded.name()))?;
        let keyring = self.broker.tokens.keyring();
        if keyring.current().is_none() {
            return Err(Error::ServiceUnavailable(mint::WITHOUT_KEY));
        }
        let issued_under = (self.issued_under, self.broker.store.id());
        let (mut session, token) = mint::session(
            grant,
            term,
            details,
            issued_under,
            &keyring,
            &*self.broker.entropy,
            self.now,
        )?;
        if self.caller.sign_in.is_some() {
            session.record.given_to = given_to(self.origin);
        }
        self.broker
            .sessions
            .record(&keyring, &session.record, self.now)
            .await;
        if self.broker.keystone {
            // What is kept is the whole token.
            token.complete_alone()?;
            let credentials = &session.credentials;
            let kept = self.broker.sessions.keep_token(
                &keyring,
                credentials.access_key_id.as_str(),
                credentials.session_token.expose(),
                session.record.expires_at,
                self.now,
            );
            // Boxed, because few brokers do it.
            Box::pin(kept).await;
        } else {
            let set = self.unsigned.set(token);
            set.map_err(|_| Error::InternalFailure)?;
        }
        Ok(session)
    }

    /// Puts the elements of the answer and the account that owns the resource into the audit
    /// record.
    pub fn answered(&mut self, elements: &impl Serialize, recipient: AccountId) {
        self.record.response_elements = serde_json::value::to_raw_value(elements).ok();
        self.record.recipient = Some(recipient);
    }
}

/// Returns the source address and the user agent of a request in at most 160 characters, so that
/// people recognize the device of a sign-in.
fn given_to(origin: &Origin) -> String {
    let program = origin.user_agent.as_deref().unwrap_or_default();
    let program: String = program.chars().take(110).collect();
    format!("{} {program}", origin.source_ip.to_canonical())
}

/// The additional data in the audit record of a caller that was not authenticated.
#[derive(Serialize)]
pub(super) struct AuditedReason {
    reason: Cow<'static, str>,
}

impl AuditedReason {
    pub(super) fn audited(reason: &Reason) -> Option<Box<RawValue>> {
        let reason = reason.text();
        serde_json::value::to_raw_value(&Self { reason }).ok()
    }
}

/// The additional data in the audit record of an MFA code that was not accepted.
#[derive(Serialize)]
struct AuditedMfaFailure {
    mfa: &'static str,
}
