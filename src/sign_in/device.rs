//! The device flow (RFC 8628): a program shows a code to a person, who types it into a page and decides.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::record::{self, Draft, Event};
use super::registration::{Client, DEVICE_CODE};
use super::seal::Sealer;
use super::tokens::{self, Tokens};
use super::{digest, of_id, scopes, settings, sign_ins, spelled};
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::entropy;
use crate::base::secret::{Secret, is_same_secret};
use crate::broker::Broker;
use crate::budgets;
use crate::error::{Error, GrantErrorKind};
use crate::origin::Origin;
use crate::sign_ins::Poll;
use crate::signed_in::SignIn;
use crate::store::{Attempt, GrantKind, GrantRow, Lockout};

/// How long a person may take to allow or deny a device flow.
const LASTS: Duration = Duration::from_secs(600);
/// How many seconds a program must wait between two polls.
pub const INTERVAL: u64 = 1;
/// The symbols of user codes: 32 of them, without `I` and `O`.
const SYMBOLS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// The number of symbols of a user code.
const LENGTH: usize = 8;
/// The longest text that is read as a user code.
const MAX_TYPED: usize = 64;
/// A person who has typed 10 wrong user codes is locked out. One wrong code is forgiven each minute.
const WRONG_OF_PERSON: Lockout = Lockout {
    failures: 10,
    forgiven_after_seconds: 60,
};
/// A source address that has sent 30 wrong user codes is locked out. One wrong code is forgiven every 20 seconds.
const WRONG_OF_SOURCE: Lockout = Lockout {
    failures: 30,
    forgiven_after_seconds: 20,
};

/// The state of a flow on which nobody has decided yet.
const PENDING: i64 = 0;
/// The state of a flow that the person has allowed, and for which no tokens were issued yet.
const ALLOWED: i64 = 1;
/// The state of a flow that the person has denied.
const DENIED: i64 = 2;
/// The state of a flow for which tokens were issued.
const USED: i64 = 3;

/// The answer to a program that has begun a device flow.
pub struct Started {
    pub device_code: Secret<String>,
    /// The code that the person types into the page, as `XXXX-XXXX`.
    pub user_code: String,
    pub lasts: Duration,
    pub request_id: String,
}

/// The facts about the waiting program that a page shows to the person who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// The name by which the program calls itself.
    pub client_name: String,
    /// The unverified `User-Agent` of the program.
    pub program: String,
    pub source: IpAddr,
    pub at: Timestamp,
    /// The code that the person has typed into the page, as `XXXX-XXXX`.
    pub user_code: String,
    /// Whether the program asked from the address of this browser.
    pub from_here: bool,
}

/// The sealed content of a device flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flow {
    client: String,
    client_name: String,
    scopes: Vec<String>,
    user_code: String,
    source: IpAddr,
    user_agent: String,
    at: Timestamp,
}

/// Begins a device flow. Returns the device code for the program, and the user code for the person.
///
/// # Errors
/// `UnauthorizedClient` if the program may not use the flow, `InvalidScope` if a scope is unknown or the program is not
/// registered for it, and `SlowDown` if too many flows are open. [`Error`] also if the store does not answer, or the
/// audit log cannot be written.
pub async fn start(
    broker: &Broker,
    client: &Client,
    asked_scopes: Option<&str>,
    origin: &Origin,
) -> Result<Started, Error> {
    if !settings(broker)?.device_flow {
        let text = "The device flow is switched off on this broker ([sign_in] device_flow).";
        return Err(GrantErrorKind::UnauthorizedClient.because(text).into());
    }
    client.may_use(DEVICE_CODE)?;
    let scopes = scopes::granted(&client.scopes, asked_scopes)?;
    let draft =
        Draft::new(broker, Event::START_DEVICE, origin)?.asked(&json!({"clientName": client.name}));
    let request_id = draft.request_id().to_owned();
    let result = started(broker, client, scopes, origin, request_id).await;
    draft.noted(broker, result).await
}

async fn started(
    broker: &Broker,
    client: &Client,
    scopes: Vec<String>,
    origin: &Origin,
    request_id: String,
) -> Result<Started, Error> {
    let full = || {
        broker.throttled("sign_ins");
        let text = "Too many programs are waiting for an approval. Try again in a few minutes.";
        Error::from(GrantErrorKind::SlowDown.because(text))
    };
    let (now, passed) = (broker.clock.now(), broker.clock.monotonic());
    let symbols = entropy::bytes::<LENGTH>(&*broker.entropy)?;
    let symbol = |byte: &u8| {
        SYMBOLS
            .get(usize::from(byte % 32))
            .map_or('A', |b| char::from(*b))
    };
    let typed: String = symbols.iter().map(symbol).collect();
    let source = budgets::source(origin.source_ip);
    let memory = &sign_ins(broker)?.devices;
    let sealer = Sealer::of(broker)?;
    let device_code = new_device_code(broker, &sealer, now.plus(LASTS))?;
    let id = sha256(device_code.expose().as_bytes());
    memory
        .open(id, source, passed + LASTS, passed)
        .map_err(|_| full())?;
    let row_id = digest(device_code.expose());
    let flow = Flow {
        client: client.digest.clone(),
        client_name: client.name.clone(),
        scopes,
        user_code: typed.clone(),
        source: origin.source_ip.to_canonical(),
        user_agent: crate::audit::clip(origin.user_agent.as_deref().unwrap_or_default()),
        at: now,
    };
    let sealed = sealer.seal("device", &row_id, &flow, &*broker.entropy)?;
    let row = GrantRow {
        also: sealer.marks(&typed).next(),
        family: Some(digest(&format!("device of {source}"))),
        ..GrantRow::new(row_id, now.plus(LASTS), sealed)
    };
    match broker.store.add_grant(GrantKind::Device, row, now).await {
        Ok(true) => Ok(Started {
            device_code,
            user_code: with_dash(&typed),
            lasts: LASTS,
            request_id,
        }),
        Ok(false) => {
            memory.forget(&id);
            Err(full())
        }
        Err(error) => {
            memory.forget(&id);
            Err(error.into())
        }
    }
}

/// Answers a program that polls whether the person has decided. If the person has allowed the flow, the answer contains
/// the tokens. While nobody has decided, most polls are answered without a query of the store.
///
/// # Errors
/// `AuthorizationPending`, `SlowDown`, `ExpiredToken`, `AccessDenied`, or `InvalidGrant` for a code that is unknown,
/// was used, belongs to another program, or was allowed in a sign-in that has ended; `UnauthorizedClient` if the
/// program may not use the flow. [`Error`] also if the store does not answer, or the audit log cannot be written.
pub async fn poll(
    broker: &Broker,
    client: &Client,
    device_code: &str,
    origin: &Origin,
) -> Result<(Tokens, String), Error> {
    let invalid = || {
        let text = "The device code is not valid, was used before, or belongs to another program.";
        Error::from(GrantErrorKind::InvalidGrant.because(text))
    };
    client.may_use(DEVICE_CODE)?;
    if device_code.len() > tokens::MAX_TOKEN {
        return Err(invalid());
    }
    let memory = &sign_ins(broker)?.devices;
    let id = sha256(device_code.as_bytes());
    let passed = broker.clock.monotonic();
    let known = memory.poll(&id, passed);
    if known == Poll::Unknown {
        // The store need not be asked for what no node has made, or what is over.
        match end_of(&Sealer::of(broker)?, device_code) {
            None => return Err(invalid()),
            Some(until) if until <= broker.clock.now().seconds() => return Err(over()),
            Some(_) => {}
        }
    }
    if known == Poll::TooOften {
        let text = "The program asks too often. Ask once a second.";
        return Err(GrantErrorKind::SlowDown.because(text).into());
    }
    if known == Poll::Pending && !was_decided_elsewhere(broker, &id, passed).await? {
        return Err(pending());
    }
    let now = broker.clock.now();
    let row_id = digest(device_code);
    let row = broker.store.grant(GrantKind::Device, &row_id).await?;
    let sealer = Sealer::of(broker)?;
    let Some(row) = row else {
        let is_over = end_of(&sealer, device_code).is_some_and(|until| until <= now.seconds());
        return Err(if is_over { over() } else { invalid() });
    };
    let flow: Flow = sealer
        .open("device", &row.id, &row.sealed)
        .ok_or_else(invalid)?;
    if flow.client != client.digest {
        return Err(invalid());
    }
    if row.expires_at <= now.seconds() {
        memory.forget(&id);
        return Err(over());
    }
    match row.state {
        PENDING => {
            let left = Timestamp::from_seconds(row.expires_at).since(now);
            memory.learn(id, passed + left, passed);
            Err(pending())
        }
        DENIED => {
            // It stays in memory until its time is up, so that it cannot be asked for more often than others.
            let left = Timestamp::from_seconds(row.expires_at).since(now);
            memory.learn(id, passed + left, passed);
            memory.decided(&id);
            let text = "The person has denied the request.";
            Err(GrantErrorKind::AccessDenied.because(text).into())
        }
        ALLOWED => {
            memory.forget(&id);
            let mut seen = None;
            let result = redeemed(broker, client, row, flow, &mut seen).await;
            let draft = Draft::new(broker, Event::CREATE_TOKEN, origin)?
                .asked(&json!({"grantType": DEVICE_CODE, "clientName": client.name}));
            let draft = match &seen {
                Some(sign_in) => draft.by(sign_in),
                None => draft,
            };
            let request_id = draft.request_id().to_owned();
            Ok((draft.conclude(broker, result).await?, request_id))
        }
        _ => Err(invalid()),
    }
}

/// Issues the tokens of an allowed flow. Only one node can do so, and only once.
async fn redeemed(
    broker: &Broker,
    client: &Client,
    row: GrantRow,
    flow: Flow,
    seen: &mut Option<SignIn>,
) -> Result<Tokens, Error> {
    let invalid = |text: &'static str| Error::from(GrantErrorKind::InvalidGrant.because(text));
    let sign_in = match &row.sign_in {
        Some(id) => of_id(broker, id).await?,
        None => None,
    };
    let sign_in =
        sign_in.ok_or_else(|| invalid("The sign-in has ended. Start the sign-in again."))?;
    *seen = Some(sign_in.clone());
    let family = tokens::new_family(broker)?;
    let used = GrantRow { state: USED, ..row };
    let now = broker.clock.now();
    if !broker
        .store
        .change_grant(GrantKind::Device, ALLOWED, used, now)
        .await?
    {
        return Err(invalid("The device code was used before."));
    }
    tokens::issue(broker, &family, &sign_in, client, &flow.scopes).await
}

/// Asks the store, at most every half second, which flows were decided on other nodes. Returns whether this flow is one
/// of them.
async fn was_decided_elsewhere(
    broker: &Broker,
    id: &[u8; 32],
    passed: Duration,
) -> Result<bool, Error> {
    let memory = &sign_ins(broker)?.devices;
    if !broker.store.is_shared() || !memory.must_look(passed) {
        return Ok(false);
    }
    let wanted = crate::base::digest::hex(id);
    let mut is_this = false;
    for decided in broker.store.decided_devices(broker.clock.now()).await? {
        is_this |= decided == wanted;
        if let Some(id) = device_id(&decided) {
            memory.decided(&id);
        }
    }
    Ok(is_this)
}

fn device_id(text: &str) -> Option<[u8; 32]> {
    let mut id = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (slot, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// Makes a device code of 256 random bits, the time at which the code expires, and a MAC of both. Because the code
/// contains its expiry, the broker can tell a program that it was too slow even after the row of the flow was deleted.
fn new_device_code(
    broker: &Broker,
    sealer: &Sealer,
    until: Timestamp,
) -> Result<Secret<String>, Error> {
    let random = spelled(&entropy::bytes::<32>(&*broker.entropy)?);
    let code = format!("{random}.{}", until.seconds());
    let mark = sealer.marks(&format!("device code {code}")).next();
    let mark = mark.ok_or(Error::InternalFailure)?;
    Ok(Secret::new(format!("{code}.{mark}")))
}

/// When a device code expires, in seconds since 1970; `None` if no node with one of this node's master keys has made
/// it.
fn end_of(sealer: &Sealer, device_code: &str) -> Option<i64> {
    let (code, mark) = device_code.rsplit_once('.')?;
    let (_, until) = code.rsplit_once('.')?;
    let until = until.parse().ok()?;
    let marked = format!("device code {code}");
    let mut marks = sealer.marks(&marked);
    marks
        .any(|own| is_same_secret(own.as_bytes(), mark.as_bytes()))
        .then_some(until)
}

fn over() -> Error {
    let text = "The device code has expired: the request must be approved, and the tokens fetched, within ten minutes. Start \
        the sign-in again.";
    GrantErrorKind::ExpiredToken.because(text).into()
}

fn pending() -> Error {
    let text = "The person has not approved or denied the request yet.";
    GrantErrorKind::AuthorizationPending.because(text).into()
}

/// Finds the program that waits for a user code which a person has submitted. A wrong code is counted against the
/// person and the source address.
///
/// # Errors
/// [`Error::NotFound`] for a code that does not exist or was decided, and [`Error::Throttling`] after too many wrong
/// ones. [`Error`] also if the store does not answer.
pub async fn look(
    broker: &Broker,
    user_code: &str,
    sign_in: &SignIn,
    origin: &Origin,
) -> Result<Asking, Error> {
    let (_, flow) = find(broker, user_code, sign_in, origin).await?;
    Ok(asking(flow, origin))
}

fn asking(flow: Flow, origin: &Origin) -> Asking {
    Asking {
        from_here: flow.source == origin.source_ip.to_canonical(),
        client_name: flow.client_name,
        program: flow.user_agent,
        source: flow.source,
        at: flow.at,
        user_code: with_dash(&flow.user_code),
    }
}

/// Finds the program that waits for the user code in a link; `None` if the code does not exist, or if the person has
/// followed too many links. Codes in links are counted apart from typed codes, so that nobody can lock a person out by
/// sending links with wrong codes.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or there is no master key.
pub async fn of_link(
    broker: &Broker,
    user_code: &str,
    sign_in: &SignIn,
    origin: &Origin,
) -> Result<Option<Asking>, Error> {
    let links = format!("links with user codes {}", sign_in.id_text());
    let now = broker.clock.now();
    let counted = broker
        .store
        .attempt(&links, None, WRONG_OF_PERSON, now)
        .await?;
    if counted == Attempt::Locked {
        return Ok(None);
    }
    let found = with_code(broker, user_code, now).await?;
    Ok(found.map(|(_, flow)| asking(flow, origin)))
}

/// Records the person's decision on a flow. The user code cannot be used again.
///
/// # Errors
/// The same as for [`look`]; [`Error::NotSignedIn`] if the sign-in is over, or its user must first choose another
/// password; another [`Error`] if the audit log cannot be written.
pub async fn decide(
    broker: &Broker,
    user_code: &str,
    sign_in: &SignIn,
    allow: bool,
    origin: &Origin,
) -> Result<(), Error> {
    let (row, flow) = find(broker, user_code, sign_in, origin).await?;
    let decided = decided(broker, row, sign_in, allow).await;
    let details = json!({
        "clientName": flow.client_name,
        "deviceAddress": flow.source.to_string(),
        "decision": if allow { "Allow" } else { "Deny" },
    });
    let draft = Draft::new(broker, Event::DEVICE_DECISION, origin)?;
    draft
        .by(sign_in)
        .asked(&details)
        .conclude(broker, decided)
        .await
}

async fn decided(
    broker: &Broker,
    row: GrantRow,
    sign_in: &SignIn,
    allow: bool,
) -> Result<(), Error> {
    let current = of_id(broker, &sign_in.id_text()).await?;
    let current = current.ok_or(Error::NotSignedIn)?;
    if current.must_change_password {
        return Err(Error::NotSignedIn);
    }
    let id = device_id(&row.id);
    let to = GrantRow {
        // The code dies with the decision.
        also: None,
        sign_in: Some(current.id_text()),
        state: if allow { ALLOWED } else { DENIED },
        ..row
    };
    let now = broker.clock.now();
    if !broker
        .store
        .change_grant(GrantKind::Device, PENDING, to, now)
        .await?
    {
        return Err(unknown_code());
    }
    if let Some(id) = id {
        sign_ins(broker)?.devices.decided(&id);
    }
    Ok(())
}

/// The flow with this user code that still waits for a decision; `None` if there is none.
async fn with_code(
    broker: &Broker,
    user_code: &str,
    now: Timestamp,
) -> Result<Option<(GrantRow, Flow)>, Error> {
    let sealer = Sealer::of(broker)?;
    let Some(code) = normal(user_code) else {
        return Ok(None);
    };
    for mark in sealer.marks(&code) {
        let row = broker.store.grant_also(GrantKind::Device, &mark).await?;
        let row = row.filter(|row| row.state == PENDING && row.expires_at > now.seconds());
        let Some(row) = row else { continue };
        let flow: Option<Flow> = sealer.open("device", &row.id, &row.sealed);
        if let Some(flow) = flow.filter(|flow| flow.user_code == code) {
            return Ok(Some((row, flow)));
        }
    }
    Ok(None)
}

/// Finds the flow with a user code, or counts the code as wrong. Each code is counted in the shared store before the
/// flow is looked up, so that simultaneous guesses cannot exceed the limit. The count is taken back if the code is
/// right.
async fn find(
    broker: &Broker,
    user_code: &str,
    sign_in: &SignIn,
    origin: &Origin,
) -> Result<(GrantRow, Flow), Error> {
    let now = broker.clock.now();
    let guesses = [
        (format!("user code {}", sign_in.id_text()), WRONG_OF_PERSON),
        (
            format!("user code of {}", budgets::source(origin.source_ip)),
            WRONG_OF_SOURCE,
        ),
    ];
    let mut counted = Vec::with_capacity(guesses.len());
    for (key, lockout) in &guesses {
        if broker.store.attempt(key, None, *lockout, now).await? == Attempt::Locked {
            take_back(broker, &counted, now).await?;
            return Err(broker.throttled("user_codes"));
        }
        counted.push((key.as_str(), *lockout));
    }
    if let Some(found) = with_code(broker, user_code, now).await? {
        take_back(broker, &counted, now).await?;
        return Ok(found);
    }
    record::failed(
        broker,
        Event::DEVICE_DECISION,
        (&sign_in.name(), Some(sign_in.account().as_str())),
        origin,
        &unknown_code(),
    )
    .await;
    Err(unknown_code())
}

async fn take_back(
    broker: &Broker,
    counted: &[(&str, Lockout)],
    now: Timestamp,
) -> Result<(), Error> {
    for (key, lockout) in counted {
        broker.store.take_back(key, *lockout, now).await?;
    }
    Ok(())
}

fn unknown_code() -> Error {
    Error::NotFound(
        "No program is waiting for this code. A code is valid for ten minutes, and can be used only once."
            .to_owned(),
    )
}

/// Normalises a typed user code to eight symbols in upper case. It may be typed in any case, with or without dashes and
/// spaces. `None` if it cannot be a user code.
fn normal(typed: &str) -> Option<String> {
    if typed.len() > MAX_TYPED {
        return None;
    }
    let code: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}'))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let is_code = code.len() == LENGTH && code.bytes().all(|b| SYMBOLS.contains(&b));
    is_code.then_some(code)
}

fn with_dash(code: &str) -> String {
    let (first, second) = code.split_at_checked(LENGTH / 2).unwrap_or((code, ""));
    format!("{first}-{second}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_may_be_typed_in_many_ways() {
        for typed in [
            "ABCD-2345",
            "abcd2345",
            " abcd 2345 ",
            "a b c d\u{2013}2345",
        ] {
            assert_eq!(normal(typed).as_deref(), Some("ABCD2345"), "{typed}");
        }
        for bad in [
            "",
            "ABCD-234",
            "ABCD-23456",
            "ABCI-2345",
            "ABCO-2345",
            "ABCD-0123",
            "ÀBCD-2345",
        ] {
            assert_eq!(normal(bad), None, "{bad}");
        }
        assert_eq!(with_dash("ABCD2345"), "ABCD-2345");
        assert!(!SYMBOLS.contains(&b'I') && !SYMBOLS.contains(&b'O') && !SYMBOLS.contains(&b'1'));
    }
}
