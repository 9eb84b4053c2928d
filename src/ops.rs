//! Operations, and [`serve`]: the only door. Whatever comes in by whichever wire is authenticated,
//! run, written down and only then answered, in this order and in this file.

pub mod assume_role;
pub mod assume_role_with_web_identity;
pub mod decode_authorization_message;
pub mod describe_session;
pub mod get_access_key_info;
pub mod get_caller_identity;
pub mod get_federation_token;
pub mod get_session_token;
pub mod get_web_identity_token;
pub mod iam;
pub mod list_sessions;
mod replay;
pub mod revoke_sessions;
mod session_input;

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::sync::Cache;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use crate::admission::{Call, Shed};
use crate::audit::{self, Audit, Counting, Record};
use crate::authn::{self, Caller, Evidence, Identity, Judges, Tokens};
use crate::authorization_message::Message;
use crate::base::arn::AccountId;
use crate::base::clock::{HighWaterClock, Timestamp};
use crate::base::entropy::{self, Entropy};
use crate::base::host_names::HostNames;
use crate::budgets::{self, Budgets, Counted, CountedAs, Exceeded};
use crate::commands::Actor;
use crate::directory::Directory;
use crate::error::Error;
use crate::feed::{Feed, Standing};
use crate::master_key::MasterKey;
use crate::metrics::{self, Call as CallLabel, Metrics, Throttled};
use crate::mint::{self, Shape};
use crate::proof::sigv4::{Presented, Rules};
use crate::providers::Providers;
use crate::revocations::{Key, Revocations};
use crate::session::token::Ancestor;
use crate::sessions::{SessionRecord, Sessions};
use crate::single_use::SingleUse;
use crate::store::{self, KeyUse, Store, StoreError};
use crate::trust::{Denied, Facts, Grant};

/// The longest time from a call's headers to its answer, on either wire. What was begun is then done
/// without its caller.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Every action of the API and whether this version answers it: what both wires dispatch on.
pub const ACTIONS: &[(&str, bool)] = &[
    (assume_role::AssumeRole::NAME, true),
    (
        assume_role_with_web_identity::AssumeRoleWithWebIdentity::NAME,
        true,
    ),
    ("AssumeRoleWithSAML", false),
    (get_session_token::GetSessionToken::NAME, true),
    (get_federation_token::GetFederationToken::NAME, true),
    (get_caller_identity::GetCallerIdentity::NAME, true),
    (get_access_key_info::GetAccessKeyInfo::NAME, true),
    (
        decode_authorization_message::DecodeAuthorizationMessage::NAME,
        true,
    ),
    (get_web_identity_token::GetWebIdentityToken::NAME, true),
];

/// What an account's administrators do about sessions. On gRPC alone: AWS has no such actions.
pub const ADMINISTRATION: &[&str] = &[
    list_sessions::ListSessions::NAME,
    describe_session::DescribeSession::NAME,
    revoke_sessions::RevokeSessions::NAME,
    revoke_sessions::PreviewRevocation::NAME,
];

/// The toolbox that every operation shares.
pub struct Broker {
    /// Who and what there is.
    pub directory: ArcSwap<Directory>,
    /// The keys of session tokens.
    pub tokens: Tokens,
    /// Session policies that were found to be sound, by SHA-256.
    pub sound_policies: Cache<[u8; 32], ()>,
    /// How much each may ask for.
    pub budgets: Budgets,
    /// Who vouches in web identity tokens: a URL; none: nobody.
    pub issuer: Option<String>,
    /// The keys of OpenID Connect providers.
    pub providers: Arc<Providers>,
    /// What is on record about live sessions.
    pub sessions: Sessions,
    /// What secrets of the directory are sealed with.
    pub master_key: ArcSwapOption<MasterKey>,
    /// Whether the directory can be changed here; else it is a file.
    pub directory_is_in_the_store: bool,
    /// What must not be lost.
    pub store: Store,
    /// When long-term keys were last used.
    pub key_use: KeyUse,
    /// Signatures that were used, where each may be used once.
    pub single_use: Option<SingleUse>,
    /// What was revoked.
    pub revocations: Revocations,
    /// How much of the store's changes is in force here.
    pub feed: Feed,
    /// Where urgent calls are served: on a thread that no other call takes time from.
    pub urgent: Handle,
    /// What is written down.
    pub audit: Audit,
    /// The time, which never goes back.
    pub clock: Arc<HighWaterClock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// What monitoring reads.
    pub metrics: Arc<Metrics>,
    /// What a signature must keep to.
    pub rules: Rules,
    /// What clients call this broker: a signed request for another host is refused.
    pub names: ArcSwap<HostNames>,
    /// The first of the regions.
    pub region: String,
}

/// Where a request came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address: the peer's, or what a trusted proxy says of its client (`[listen]
    /// trusted_proxies`).
    pub source_ip: IpAddr,
    /// Whether the client's connection is TLS: this one, or by a trusted proxy's word the one to it.
    pub secure_transport: bool,
    /// At most 512 characters.
    pub user_agent: Option<String>,
    /// The `Referer` header, at most 512 characters.
    pub referer: Option<String>,
    /// As what it is counted while it is served; none: it came over no connection.
    pub call: Option<Arc<Call>>,
}

impl Origin {
    /// Why its body was not taken, if it was not for want of room.
    pub fn shed(&self) -> Option<Shed> {
        self.call.as_ref().and_then(|call| call.shed())
    }
}

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
    caller: Caller,
    /// What the caller signed; none of a caller that another proves.
    signed: Option<Box<Presented>>,
    service: Service,
    origin: &'a Origin,
    /// The region that the signature names; the broker's own where nothing is signed.
    region: String,
    record: &'a mut Record,
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
    fn renew(&mut self) -> Result<(), Error> {
        // Before the snapshot: what is judged by an older one must not pass for newer.
        self.issued_under = self.broker.feed.sequence();
        self.directory = self.broker.directory.load_full();
        self.now = self.broker.clock.now();
        must_know_what_is_revoked(self.broker)?;
        let renewed = match &self.signed {
            Some(presented) => {
                let names = self.broker.names.load();
                let judges = judges(self.broker, &self.directory, &names, self.service);
                authn::authenticate(presented, &judges, self.now).map(|caller| self.caller = caller)
            }
            None => authn::still_vouched(&self.caller, &self.directory, self.now),
        };
        if renewed == Err(Error::Ended) {
            self.record.additional_event_data =
                serde_json::value::to_raw_value(&Unproven { reason: "ended" }).ok();
        }
        renewed
    }

    /// The condition keys that every request has.
    pub fn facts(&self) -> Facts<'_> {
        Facts::new(&self.caller, self.origin, &self.region, self.now)
    }

    /// What names the call in answer, audit and log.
    pub fn request_id(&self) -> &str {
        &self.record.request_id
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

    /// A refusal that no policy makes; why is for those who may know.
    pub fn refuse_because(&mut self, action: &str, resource: &str, note: &'static str) -> Error {
        let denied = Denied::because(action.to_owned(), &self.facts(), note);
        self.refuse(&denied, resource)
    }

    /// Writes down what the caller is not told.
    pub fn remark(&mut self, remark: &impl Serialize) {
        self.record.additional_event_data = serde_json::value::to_raw_value(remark).ok();
    }

    /// Counts a call of a web identity that the role's trust policy has admitted, for the identity and
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
        counted.map_err(|exceeded| throttled(broker, exceeded))
    }

    /// Counts a call of a web identity that was not admitted, for its provider: its source has paid
    /// for it already, and nobody else does.
    ///
    /// # Errors
    /// When there were too many.
    pub fn count_unadmitted(&self) -> Result<(), Error> {
        let counted = self
            .broker
            .budgets
            .unadmitted(self.caller.arn(), self.broker.clock.monotonic());
        counted.map_err(|exceeded| throttled(self.broker, exceeded))
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
        counted.map_err(|exceeded| throttled(self.broker, exceeded))?;
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

/// Whose actions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The security token service.
    Sts,
    /// The administration of identities.
    Iam,
    /// What AWS has no actions for.
    Brevet,
}

impl Service {
    /// As policies name it.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
            Self::Brevet => "brevet",
        }
    }

    /// As a signature's scope names it.
    fn scope(self) -> &'static str {
        match self {
            Self::Sts | Self::Brevet => "sts",
            Self::Iam => "iam",
        }
    }
}

/// The longest user agent in a record, in bytes as they are written: it is not signed, so whoever has a
/// signed request can choose it.
const MAX_USER_AGENT: usize = 512;

/// One action of the API. Its `run` is the story.
pub trait Operation: Sized + Send + 'static {
    /// As AWS names it.
    const NAME: &'static str;
    /// Whose action it is.
    const SERVICE: Service = Service::Sts;
    /// Whether a signature proves the caller; else something in the request does.
    const SIGNED: bool = true;
    /// Which budget its calls are counted in.
    const COUNTED_AS: CountedAs;
    /// Whether it leaves everything as it is; a session is no change.
    const READ_ONLY: bool = true;
    /// Whether the answer holds credentials: its record must then be on stable storage first.
    const HANDS_OUT: bool;
    /// Whether an answer needs a record. An action that only takes away does not.
    const MUST_BE_RECORDED: bool = true;
    /// Whether it must not wait for the calls of others.
    const IS_URGENT: bool = false;
    /// What the caller gets.
    type Output: Send + 'static;

    /// The parameters for the audit; never a secret.
    fn parameters(&self) -> Option<Box<RawValue>>;

    /// From request to output.
    fn run(self, cx: &mut Context<'_>) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// A session as its account's administrators see it.
#[derive(Debug)]
pub struct SessionView {
    /// What is on record.
    pub record: SessionRecord,
    /// Its principal's.
    pub arn: String,
    /// Whom it comes from, the first first.
    pub came_from: Vec<String>,
    /// Whether a revocation has ended it.
    pub revoked: bool,
}

impl SessionView {
    /// None for a record that names no principal.
    fn new(record: SessionRecord, revocations: &Revocations) -> Option<Self> {
        let own = own_ancestor(&record);
        let keys = came_from(&record)?;
        let revoked = revocations.is_revoked(&keys, record.issued_under, record.issued_at);
        let came_from = record.ancestors.iter().map(authn::ancestor_arn).collect();
        Some(Self {
            arn: authn::ancestor_arn(&own),
            came_from,
            revoked,
            record,
        })
    }
}

/// The session on record, as the last one of the chain that it ends.
fn own_ancestor(record: &SessionRecord) -> Ancestor {
    Ancestor {
        arn: record.principal_arn.clone(),
        unique_id: record.principal_id.clone(),
        access_key_id: record.access_key_id.clone(),
        session_name: record.session_name.clone(),
        session_id: record.session_id.clone(),
        restricted: false,
        subject: String::new(),
    }
}

/// What a session on record came from. None for a record that names no principal.
fn came_from(record: &SessionRecord) -> Option<Box<[Key]>> {
    authn::came_from(
        &own_ancestor(record),
        &record.source_identity,
        &record.ancestors,
    )
    .ok()
}

/// The answer to a call.
pub struct Reply<T> {
    /// Names the call in answer, audit and log.
    pub request_id: String,
    /// What came of it.
    pub result: Result<T, Error>,
}

/// Serves one call. A caller who hangs up erases nothing: the call then goes on without them.
///
/// `evidence` and `input` are the wire's parse results, so that a malformed request is a recorded
/// refusal too.
pub async fn serve<O: Operation>(
    broker: &Arc<Broker>,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: Origin,
) -> Reply<O::Output> {
    let broker = broker.clone();
    if O::IS_URGENT {
        let urgent = broker.urgent.clone();
        let call = async move {
            conclude::<O>(&broker, O::SERVICE, O::NAME.into(), evidence, input, origin).await
        };
        let lost = || Reply {
            request_id: String::new(),
            result: Err(Error::InternalFailure),
        };
        return urgent.spawn(call).await.unwrap_or_else(|_| lost());
    }
    ToTheEnd(Some(Box::pin(async move {
        conclude::<O>(&broker, O::SERVICE, O::NAME.into(), evidence, input, origin).await
    })))
    .await
}

/// A future that runs to its end: if nobody waits for it any more, on a task of its own. There it
/// leaves the queue for the store, if it has not got further.
struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<T> {
        let Some(running) = &mut self.0 else {
            return Poll::Pending;
        };
        let ready = running.as_mut().poll(cx);
        if ready.is_ready() {
            self.0 = None;
        }
        ready
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(running) = self.0.take()
            && !std::thread::panicking()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(store::ABANDONED.scope((), running));
        }
    }
}

/// A recorded refusal.
pub struct Refusal {
    /// Names the call in answer, audit and log.
    pub request_id: String,
    /// What the caller is told.
    pub error: Error,
}

/// Records the refusal of a call that is no operation: an unknown or unavailable action. A caller
/// that proves nothing hears that first.
pub async fn refuse(
    broker: &Arc<Broker>,
    service: Service,
    name: String,
    evidence: Result<Evidence, Error>,
    error: Error,
    origin: Origin,
) -> Refusal {
    // Boxed, as refusals are part of every call's future and larger than most of it.
    let reply = Box::pin(conclude::<Nothing>(
        broker,
        service,
        name.into(),
        evidence,
        Err(error),
        origin,
    ))
    .await;
    Refusal {
        request_id: reply.request_id,
        error: reply.result.err().unwrap_or(Error::InternalFailure),
    }
}

/// Records the refusal of a request that cannot be read, so that nothing in it was proven.
pub async fn refuse_unread(
    broker: &Arc<Broker>,
    name: impl Into<String>,
    error: Error,
    origin: Origin,
) -> Refusal {
    refuse(
        broker,
        Service::Sts,
        name.into(),
        Err(error),
        Error::InternalFailure,
        origin,
    )
    .await
}

/// Counts somebody who is turned away for want of room: what they are told.
pub fn shed(broker: &Broker, shed: Shed) -> Error {
    broker
        .metrics
        .shed
        .get_or_create(&metrics::Shed {
            reason: shed.reason(),
        })
        .inc();
    Error::ServiceUnavailable("capacity for this request")
}

/// Why an action is not answered.
pub fn unanswered(action: &str, version: &str) -> Error {
    match ACTIONS
        .iter()
        .find(|(name, answered)| *name == action && !answered)
    {
        Some((name, _)) => Error::NotAvailable((*name).into()),
        None => Error::InvalidAction {
            action: audit::clip(action),
            version: audit::clip(version),
        },
    }
}

/// No operation.
enum Nothing {}

impl Operation for Nothing {
    const NAME: &'static str = "none";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = false;
    type Output = ();

    fn parameters(&self) -> Option<Box<RawValue>> {
        None
    }

    async fn run(self, _: &mut Context<'_>) -> Result<(), Error> {
        match self {}
    }
}

async fn conclude<O: Operation>(
    broker: &Broker,
    service: Service,
    name: Cow<'static, str>,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: Origin,
) -> Reply<O::Output> {
    let started = Instant::now();
    let now = broker.clock.now();
    let (request_id, event_id) = match entropy::bytes::<32>(&*broker.entropy) {
        Ok(chance) => ids(chance),
        Err(error) => {
            return Reply {
                request_id: String::new(),
                result: Err(error.into()),
            };
        }
    };
    let mut record = audit::record(name.clone(), now, request_id.clone(), event_id);
    if service == Service::Iam {
        record.event_source = "iam.amazonaws.com";
    }
    record.read_only = O::READ_ONLY;
    record.aws_region.clone_from(&broker.region);
    record.source_ip_address = origin.source_ip.to_canonical().to_string();
    record.user_agent = origin
        .user_agent
        .as_deref()
        .map(|text| audit::clip_written(text, MAX_USER_AGENT).to_owned());
    if let Ok(input) = &input {
        record.request_parameters = input.parameters();
    }

    let mut result = {
        let mut call = std::pin::pin!(run(
            broker,
            service,
            evidence,
            input,
            &origin,
            now,
            &mut record
        ));
        // A defect ends its own call alone, and is on record as any refusal is.
        std::future::poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|_| {
                tracing::error!(
                    action = O::NAME,
                    "this call panicked, which is a defect of Brevet; it was refused"
                );
                Poll::Ready(Err(Error::InternalFailure))
            })
        })
        .await
    };

    if let Err(error) = &result {
        record.error_code = Some(error.code());
        record.error_message = Some(error.to_string());
    }
    // No record, no answer.
    let counting = Counting {
        action: O::NAME,
        source: origin.source_ip,
        now,
    };
    let written = match &result {
        Err(_) => {
            broker.audit.refuse(&record, counting);
            Ok(())
        }
        Ok(_) if !O::MUST_BE_RECORDED => broker.audit.note(&record),
        Ok(_) if O::HANDS_OUT || !O::READ_ONLY => broker.audit.commit(&record).await,
        Ok(_) => broker
            .audit
            .read(&record, O::COUNTED_AS == CountedAs::Read, counting),
    };
    if written.is_err() && O::MUST_BE_RECORDED {
        let error = Error::ServiceUnavailable("the audit log");
        record.error_code = Some(error.code());
        broker.audit.count(&record, counting);
        result = Err(error);
    }
    let outcome = result.as_ref().err().map_or("ok", Error::code);
    broker
        .metrics
        .calls
        .get_or_create(&CallLabel {
            action: O::NAME,
            outcome,
        })
        .inc();
    broker
        .metrics
        .call_seconds
        .observe(started.elapsed().as_secs_f64());
    tracing::debug!(request_id, action = %name, outcome, "call");
    Reply { request_id, result }
}

async fn run<O: Operation>(
    broker: &Broker,
    service: Service,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: &Origin,
    now: Timestamp,
    record: &mut Record,
) -> Result<O::Output, Error> {
    // Before the snapshot: what is judged by an older one must not pass for newer.
    let issued_under = broker.feed.sequence();
    let directory = broker.directory.load_full();
    let monotonic = broker.clock.monotonic();
    let source = budgets::source(origin.source_ip);
    // What proves nobody counts for where it comes from.
    let unproven = |error| match broker.budgets.unproven(source, monotonic) {
        Ok(()) => error,
        Err(exceeded) => throttled(broker, exceeded),
    };
    let evidence = match evidence {
        Err(error) => return Err(unproven(error)),
        Ok(Evidence::Anonymous) => {
            return Err(unproven(match input {
                // There is nothing to prove who may hear this.
                Err(error @ (Error::NotAvailable(_) | Error::InvalidAction { .. })) => error,
                Err(error) if !O::SIGNED => error,
                _ => Error::MissingAuthenticationToken,
            }));
        }
        // Neither stands in for the other.
        Ok(Evidence::Signed(_)) if !O::SIGNED => {
            return Err(unproven(Error::MissingAuthenticationToken));
        }
        Ok(Evidence::WebIdentity { .. }) if O::SIGNED => {
            return Err(unproven(Error::MissingAuthenticationToken));
        }
        Ok(evidence) => evidence,
    };
    let region = match &evidence {
        Evidence::Signed(presented) => presented.unverified_region().to_owned(),
        _ => broker.region.clone(),
    };
    must_know_what_is_revoked(broker)?;
    if (O::HANDS_OUT || !O::READ_ONLY) && O::MUST_BE_RECORDED {
        must_know_the_time(broker)?;
    }
    let presigned = matches!(&evidence, Evidence::Signed(presented) if presented.is_presigned());
    // A signature is checked whatever else came from there: a good caller beside a bad one is served.
    // A token is not, since checking it costs more; it is given back when a role has admitted it.
    let is_signed = matches!(evidence, Evidence::Signed(_));
    if !is_signed {
        broker
            .budgets
            .unproven(source, monotonic)
            .map_err(|exceeded| throttled(broker, exceeded))?;
    }
    // A URL that was signed beforehand is made to be passed on, so it does not say who is connected.
    let proof = match &evidence {
        Evidence::Signed(presented) if presented.is_presigned() => None,
        Evidence::Signed(presented) => presented.signature().try_into().ok(),
        Evidence::WebIdentity { token, .. } => {
            Some(crate::base::digest::sha256(token.expose().as_bytes()))
        }
        Evidence::Anonymous => None,
    };
    let (caller, signed) = match authenticate(broker, service, evidence, &directory, now).await {
        Ok(authenticated) => authenticated,
        Err((error, access_key_id, reason)) => {
            // Not proven: `type` says Unknown, and the key is what was claimed.
            record.user_identity.access_key_id = access_key_id;
            if let Some(reason) = reason {
                record.additional_event_data =
                    serde_json::value::to_raw_value(&Unproven { reason }).ok();
            }
            // A broken directory is not the caller's doing.
            return Err(if is_signed && error != Error::InternalFailure {
                unproven(error)
            } else {
                error
            });
        }
    };
    if let (Some(call), Some(proof)) = (&origin.call, proof) {
        call.prove(caller.budget_key(), proof);
    }
    if matches!(caller.identity, Identity::User(_)) {
        broker.key_use.note(&caller.access_key_id, now);
    }
    record.user_identity = caller.audited();
    record.recipient_account_id = Some(caller.account().to_string());
    if is_signed {
        let account = caller.account();
        let signature = signed.as_ref().map(|presented| presented.signature());
        let counted = Counted {
            principal: caller.budget_key(),
            account: account.as_str(),
            signature,
        };
        let counted = broker.budgets.call(O::COUNTED_AS, counted, monotonic);
        counted.map_err(|exceeded| throttled(broker, exceeded))?;
    }
    let input = input?;
    if presigned && !takes_presigned(&broker.rules, O::SERVICE, O::NAME) {
        return Err(Error::PresignedAction(O::NAME));
    }
    let is_open = is_open_to(&caller, O::SERVICE, O::NAME);
    let mut cx = Context {
        broker,
        directory,
        now,
        issued_under,
        caller,
        signed,
        service,
        origin,
        region,
        record,
    };
    if !is_signed {
        // It may have waited for the provider's keys.
        cx.renew()?;
    }
    #[cfg(feature = "failpoints")]
    failpoint(O::NAME);
    if !is_open {
        let action = format!("{}:{}", O::SERVICE.prefix(), O::NAME);
        return Err(cx.refuse_because(
            &action,
            "*",
            "Credentials of this kind do not reach this action.",
        ));
    }
    let claim = match &cx.signed {
        Some(presented) if O::HANDS_OUT || !O::READ_ONLY => {
            replay::claim(broker, presented, cx.now).await?
        }
        _ => None,
    };
    let result = input.run(&mut cx).await;
    if let (Some(claim), Err(_)) = (claim, &result) {
        claim.release().await;
    }
    result
}

/// Panics in the action that `BREVET_FAILPOINT_PANIC` names, so that a test sees what becomes of it.
#[cfg(feature = "failpoints")]
#[allow(clippy::panic)] // its purpose
fn failpoint(action: &str) {
    static IN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    if IN
        .get_or_init(|| std::env::var("BREVET_FAILPOINT_PANIC").ok())
        .as_deref()
        .is_some_and(|all| all.split(',').any(|a| a == action))
    {
        panic!("a failpoint in {action}");
    }
}

/// Whether an action may be asked for by a URL that was signed beforehand and can be passed on.
fn takes_presigned(rules: &Rules, service: Service, action: &str) -> bool {
    const ALWAYS: &str = get_caller_identity::GetCallerIdentity::NAME;
    service == Service::Sts
        && (action == ALWAYS || rules.presigned_actions.iter().any(|a| a == action))
}

/// The refusal of a call beyond a budget, counted.
fn throttled(broker: &Broker, exceeded: Exceeded) -> Error {
    broker
        .metrics
        .throttled
        .get_or_create(&Throttled {
            budget: exceeded.name(),
        })
        .inc();
    Error::Throttling
}

/// What kinds of credentials an action is open to at all: IAM User Guide, "Compare AWS STS
/// credentials". GetSessionToken and GetFederationToken say so themselves, in AWS's words.
fn is_open_to(caller: &Caller, service: Service, action: &str) -> bool {
    const ALWAYS: &str = get_caller_identity::GetCallerIdentity::NAME;
    const REFUSES_BY_ITSELF: [&str; 2] = [
        get_session_token::GetSessionToken::NAME,
        get_federation_token::GetFederationToken::NAME,
    ];
    if action == ALWAYS || REFUSES_BY_ITSELF.contains(&action) {
        return true;
    }
    match (&caller.identity, service) {
        (Identity::User(_) | Identity::RoleSession { .. } | Identity::WebIdentity(_), _) => true,
        (Identity::UserSession { .. }, Service::Sts) => action == assume_role::AssumeRole::NAME,
        (Identity::UserSession { session, .. }, Service::Iam) => session.claims.mfa_at > 0,
        (Identity::UserSession { .. }, Service::Brevet) => true,
        (Identity::FederatedUser { .. }, _) => false,
    }
}

/// Why somebody is not who they say: the error, the key that was claimed, and a reason for the audit.
type Refused = (Error, Option<String>, Option<&'static str>);

/// Nothing is accepted where it is not known what was revoked.
fn must_know_what_is_revoked(broker: &Broker) -> Result<(), Error> {
    match broker.feed.standing(broker.clock.monotonic()) {
        Standing::Fresh | Standing::Stale(_) => Ok(()),
        Standing::Cut(_) => Err(Error::ServiceUnavailable(
            "what was revoked is not known here; the store",
        )),
        Standing::Distrusted => Err(Error::ServiceUnavailable(
            "the store is not as brokers left it; it",
        )),
    }
}

/// Nothing is issued or changed where the clock cannot be right: it would be dated wrongly. What only
/// takes away goes on.
fn must_know_the_time(broker: &Broker) -> Result<(), Error> {
    match broker.clock.is_behind() {
        None => Ok(()),
        Some(_) => Err(Error::ServiceUnavailable("the right time")),
    }
}

fn judges<'a>(
    broker: &'a Broker,
    directory: &'a Directory,
    names: &'a HostNames,
    service: Service,
) -> Judges<'a> {
    Judges {
        tokens: &broker.tokens,
        directory,
        revocations: &broker.revocations,
        store_id: broker.store.id(),
        rules: &broker.rules,
        names,
        service: service.scope(),
    }
}

/// Who calls, and what it signed.
async fn authenticate(
    broker: &Broker,
    service: Service,
    evidence: Evidence,
    directory: &Directory,
    now: Timestamp,
) -> Result<(Caller, Option<Box<Presented>>), Refused> {
    match evidence {
        Evidence::Anonymous => Err((Error::MissingAuthenticationToken, None, None)),
        Evidence::Signed(presented) => {
            let names = broker.names.load();
            match authn::authenticate(&presented, &judges(broker, directory, &names, service), now)
            {
                Ok(caller) => Ok((caller, Some(presented))),
                Err(error) => {
                    let reason = (error == Error::Ended).then_some("ended");
                    Err((
                        error,
                        Some(presented.unverified_access_key_id().to_owned()),
                        reason,
                    ))
                }
            }
        }
        Evidence::WebIdentity { token, account } => {
            // Its provider may have to be asked for keys; the token is judged by what holds then.
            let moment = || (broker.directory.load_full(), broker.clock.now());
            let (providers, own) = (&broker.providers, broker.issuer.as_deref());
            let asked = authn::authenticate_web_identity(
                token.expose(),
                account,
                providers,
                directory,
                own,
                moment,
            );
            // Boxed, as it is larger than all that a signed call needs.
            match Box::pin(asked).await {
                Ok(caller) => Ok((caller, None)),
                Err((error, reason)) => Err((error, None, Some(reason))),
            }
        }
    }
}

/// What the audit says of somebody who was not proven.
#[derive(Serialize)]
struct Unproven {
    reason: &'static str,
}

fn ids(chance: [u8; 32]) -> (String, String) {
    let mut halves = chance.chunks_exact(16).map(|half| {
        let bytes = half.try_into().unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
    });
    (
        halves.next().unwrap_or_default(),
        halves.next().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, into),
                false => into.push(path),
            }
        }
    }

    /// Whoever awaits the store in another way goes on with a snapshot and a caller of before.
    #[test]
    fn operations_wait_for_the_store_by_the_context_alone() {
        // They answer at once; or what was decided is done, and only spreads.
        const FREE: [&str; 5] = [
            "id",
            "is_shared",
            "is_locked",
            "last_spent_step",
            "nodes_after",
        ];
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![src.join("mfa.rs")];
        sources(&src.join("ops"), &mut files);
        let mut waits = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            for (at, _) in text.match_indices("broker.store.") {
                let (before, after) = text.split_at(at);
                let method = after
                    .trim_start_matches("broker.store.")
                    .split('(')
                    .next()
                    .unwrap();
                let waited = before.ends_with("cx.wait(cx.");
                waits += usize::from(waited);
                assert!(
                    waited || FREE.contains(&method),
                    "{}: {method} outside cx.wait",
                    file.display()
                );
            }
        }
        assert!(waits >= 8, "{waits} waits");
    }
}
