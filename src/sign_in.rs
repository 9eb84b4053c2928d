//! Sign-ins of people. A sign-in begins when a person has proven their identity. It is found again by the cookie of a
//! browser or the token of a program. It ends when its time is up, or earlier: when the person, an administrator or the
//! identity provider ends it, or when the user's password changes, for example.

pub mod authorize;
pub mod budget;
pub mod choose;
pub mod device;
pub mod ending;
pub mod known;
pub mod live;
pub mod password;
pub mod pending;
pub mod record;
pub mod registration;
pub mod roles;
mod scopes;
mod seal;
pub mod sweep;
pub mod tokens;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::entropy;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::error::Error;
use crate::origin::Origin;
use crate::sign_ins::{Settings, SignIns};
use crate::signed_in::{Factor, SignInId, Who, password_mark};
use crate::store::{NewSignInRow, SignInRow, SignInsOf};
use ending::end_row;
use record::Event;
use seal::Sealer;

pub use crate::signed_in::{Method, SignIn};

/// The shortest time between two updates of `seen_at`, the time when the browser of a sign-in was last seen.
const SEEN_EVERY: Duration = Duration::from_secs(60);
/// The maximum age of the last comparison of a sign-in with the revocations. An older sign-in counts as over, because a
/// revocation that ends it may have been deleted meanwhile.
pub const CHECKED_WITHIN: Duration = Duration::from_secs(36 * 3_600);
/// How long a node waits until it has applied the changes that were in force on the node where the person signed in.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a change of a sign-in is attempted if other requests change it at the same time.
const ATTEMPTS: usize = 4;
/// The maximum number of sign-ins of one person. If a new one exceeds it, the least recently used one ends.
const MAX_OF_PERSON: usize = 100;

/// The value of a browser's cookie: 256 random bits. The store has only its digest.
pub struct Handle(Secret<String>);

impl Handle {
    /// The secret value, for the `Set-Cookie` header only.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The facts from which [`begin`] makes a sign-in: the person, and the factors that the person has proven.
pub struct NewSignIn {
    pub who: Who,
    pub factors: Vec<Factor>,
    /// The latest end of the sign-in, if the identity provider sets one.
    pub ends_by: Option<Timestamp>,
    /// The session at the identity provider: the claim `sid`, or the SessionIndex.
    pub provider_session: Option<String>,
    /// The mark of the password that a user of the directory has given ([`password_mark`]).
    pub password: Option<String>,
    pub must_change_password: bool,
}

/// The settings of sign-ins, which the section `[sign_in]` of the configuration contains.
///
/// # Errors
/// [`Error::NotAvailable`] if the configuration has no `[sign_in]`.
pub fn settings(broker: &Broker) -> Result<&Settings, Error> {
    sign_ins(broker).map(|sign_ins| &sign_ins.settings)
}

fn sign_ins(broker: &Broker) -> Result<&SignIns, Error> {
    let sign_ins = broker.sign_ins.as_ref();
    sign_ins.ok_or_else(|| {
        Error::NotAvailable("Sign-in, which needs [sign_in] in the broker's configuration,".into())
    })
}

/// Begins a sign-in. The audit record is written before the handle is returned: ConsoleLogin for a user of the
/// directory, UserAuthentication for others.
///
/// # Errors
/// [`Error::Ended`] if the user has another password than the one that was given; [`Error::NotSignedIn`] if the person
/// is not in the directory any more, or the sign-in was revoked or is over already; [`Error::NotAvailable`] if the
/// configuration has no `[sign_in]`. [`Error`] also if this broker does not know the revocations or the time, or if the
/// sign-in cannot be stored or recorded.
pub async fn begin(
    broker: &Broker,
    new: NewSignIn,
    origin: &Origin,
) -> Result<(SignIn, Handle), Error> {
    let settings = settings(broker)?;
    broker.must_know_what_is_revoked()?;
    broker.must_know_the_time()?;
    // Read before the snapshot, so that what an older snapshot decides does not count as newer.
    let issued_under = broker.feed.sequence();
    let directory = broker.directory.load_full();
    let now = broker.clock.now();
    if let Who::User { arn, .. } = &new.who
        && new.factors.iter().any(|f| f.method == Method::Pwd)
        && new.password != password_mark(&directory, arn)
    {
        // The password was changed after it was given.
        return Err(Error::Ended);
    }
    let kept_until = match &new.who {
        Who::Federated(kept) => kept.session_ends_by,
        Who::User { .. } => None,
    };
    let bounds = [new.ends_by, kept_until].into_iter().flatten();
    let sign_in = SignIn {
        id: entropy::bytes(&*broker.entropy)?,
        who: new.who,
        at: now,
        ends_at: bounds.fold(now.plus(settings.session), Timestamp::min),
        factors: new.factors,
        source: origin.source_ip.to_canonical(),
        user_agent: crate::audit::clip(origin.user_agent.as_deref().unwrap_or_default()),
        provider_session: new.provider_session,
        must_change_password: new.must_change_password,
        issued_under,
        store_id: broker.store.id().to_owned(),
        password: new.password,
    };
    if sign_in.is_over(&directory, &broker.revocations, broker.store.id(), now) {
        return Err(Error::NotSignedIn);
    }
    make_room(broker, &sign_in).await?;
    let handle = fresh_handle(broker)?;
    let row = NewSignInRow {
        id: sign_in.id_text(),
        handle: digest(handle.expose()),
        account: sign_in.account().to_string(),
        holder: holder(&sign_in).to_owned(),
        subject: subject(&sign_in),
        provider_session: provider_session(
            sign_in.arn(),
            sign_in.provider_session.as_deref().unwrap_or_default(),
        ),
        ends_at: sign_in.ends_at,
        sealed: sealed(broker, &sign_in)?,
    };
    let stored = broker.store.add_sign_in(row, now).await;
    let event = match &sign_in.who {
        Who::User { .. } => Event::CONSOLE_LOGIN,
        Who::Federated(_) => Event::USER_AUTHENTICATION,
    };
    let stored = stored.map_err(Error::from);
    record::of_sign_in(broker, event, &sign_in, origin, stored).await?;
    Ok((sign_in, handle))
}

/// The sign-in to which the value of a browser's cookie belongs. `None` if there is no such sign-in, if it is over, or
/// if the browser was away for longer than `idle` of `[sign_in]`.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or the broker does not know what is revoked.
pub async fn of_handle(
    broker: &Broker,
    handle: &str,
    _origin: &Origin,
) -> Result<Option<SignIn>, Error> {
    let settings = settings(broker)?;
    if handle.len() > 128 {
        return Ok(None);
    }
    let Some(row) = broker.store.sign_in_with_handle(&digest(handle)).await? else {
        return Ok(None);
    };
    let now = broker.clock.now();
    let away = now.since(Timestamp::from_seconds(row.seen_at));
    if away > settings.idle {
        // Programs that the person has approved may still use the sign-in.
        return Ok(None);
    }
    let Some(sign_in) = still_there(broker, &row).await? else {
        return Ok(None);
    };
    if away >= SEEN_EVERY {
        broker.store.saw_sign_in(&row.id, now).await?;
    }
    Ok(Some(sign_in))
}

/// The sign-in with this id, unless it is over.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or the broker does not know what is revoked.
pub async fn of_id(broker: &Broker, id: &str) -> Result<Option<SignIn>, Error> {
    match broker.store.sign_in(id).await? {
        Some(row) => still_there(broker, &row).await,
        None => Ok(None),
    }
}

/// Adds a factor that the person has just given. Returns a new value for the cookie; the old one is no longer accepted.
///
/// # Errors
/// [`Error::NotSignedIn`] if the sign-in is over.
pub async fn add_factor(broker: &Broker, id: &SignInId, factor: Factor) -> Result<Handle, Error> {
    change(broker, id, Some(factor)).await
}

/// Records that the user has chosen another password, so that this sign-in goes on while the others end. Returns a new
/// value for the cookie; the old one is no longer accepted.
///
/// # Errors
/// [`Error::NotSignedIn`] if something else than the change of the password has ended the sign-in.
pub async fn password_changed(broker: &Broker, sign_in: &SignIn) -> Result<Handle, Error> {
    change(broker, &sign_in.id, None).await
}

/// Adds a factor to a sign-in. If `factor` is `None`, records the present password of the user in the sign-in instead.
/// Tries again if another request changes the sign-in at the same time.
async fn change(broker: &Broker, id: &SignInId, factor: Option<Factor>) -> Result<Handle, Error> {
    for _ in 0..ATTEMPTS {
        let row = broker.store.sign_in(&hex(id)).await?;
        let row = row.ok_or(Error::NotSignedIn)?;
        let sign_in = match &factor {
            Some(factor) => {
                let sign_in = still_there(broker, &row).await?;
                with_factor(sign_in.ok_or(Error::NotSignedIn)?, factor)
            }
            None => with_new_password(broker, &row)?,
        };
        let handle = fresh_handle(broker)?;
        let (sealed, digest) = (sealed(broker, &sign_in)?, digest(handle.expose()));
        let replaced = broker
            .store
            .replace_sign_in(&row.id, row.sealed, digest, sealed);
        if replaced.await? {
            return Ok(handle);
        }
    }
    Err(Error::NotSignedIn)
}

fn with_factor(mut sign_in: SignIn, factor: &Factor) -> SignIn {
    // The last one of each kind is enough to judge how old it is.
    let is_other = |old: &Factor| old.method != factor.method || old.device != factor.device;
    sign_in.factors.retain(is_other);
    sign_in.factors.push(factor.clone());
    sign_in
}

/// Opens a row and records the present password of the user in the sign-in. Fails if something else than the change of
/// the password has ended the sign-in.
fn with_new_password(broker: &Broker, row: &SignInRow) -> Result<SignIn, Error> {
    // Read before it is compared with the revocations, so that none is skipped.
    let known = broker.feed.sequence();
    let mut sign_in = opened(broker, row)?.ok_or(Error::NotSignedIn)?;
    let keys = sign_in.came_from_otherwise()?;
    let (under, at) = (sign_in.issued_under, sign_in.at.seconds());
    if broker.revocations.is_revoked(&keys, under, at) {
        return Err(Error::NotSignedIn);
    }
    let (directory, now) = (broker.directory.load_full(), broker.clock.now());
    sign_in.issued_under = known;
    sign_in.must_change_password = false;
    sign_in.password = password_mark(&directory, sign_in.arn());
    match sign_in.is_over(&directory, &broker.revocations, broker.store.id(), now) {
        true => Err(Error::NotSignedIn),
        false => Ok(sign_in),
    }
}

/// Opens a row, and returns the sign-in unless it is over. A revoked sign-in is deleted, so that it does not become
/// valid again when its revocation is deleted.
async fn still_there(broker: &Broker, row: &SignInRow) -> Result<Option<SignIn>, Error> {
    broker.must_know_what_is_revoked()?;
    let Some(sign_in) = opened(broker, row)? else {
        return Ok(None);
    };
    wait_for(broker, sign_in.issued_under).await?;
    let now = broker.clock.now();
    if now >= sign_in.ends_at {
        // The row stays, because what came from it may last longer.
        return Ok(None);
    }
    let directory = broker.directory.load_full();
    let is_unchecked = now.since(Timestamp::from_seconds(row.checked_at)) > CHECKED_WITHIN;
    let is_over = sign_in.is_over(&directory, &broker.revocations, broker.store.id(), now);
    if is_over || is_unchecked {
        remove(broker, &sign_in).await?;
        return Ok(None);
    }
    Ok(Some(sign_in))
}

/// Waits until this node has applied the change `sequence`, the last one in force on the node where the person signed
/// in.
async fn wait_for(broker: &Broker, sequence: i64) -> Result<(), Error> {
    for _ in 0..KNOWN_WITHIN.as_millis() / LOOK_EVERY.as_millis() {
        if broker.feed.sequence() >= sequence {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    match broker.feed.sequence() >= sequence {
        true => Ok(()),
        false => Err(Error::ServiceUnavailable(
            "the latest change of the directory",
        )),
    }
}

/// Removes a sign-in that is over before its time.
///
/// Also revokes the sessions that came from the sign-in if they would not end by themselves: if the user or the
/// provider was deleted, or if the person has roles in several accounts, since a revocation may concern only one of
/// them.
async fn remove(broker: &Broker, sign_in: &SignIn) -> Result<(), Error> {
    let directory = broker.directory.load_full();
    let is_of_several = match &sign_in.who {
        Who::Federated(kept) => kept.accounts(&directory).len() > 1,
        Who::User { .. } => false,
    };
    if is_of_several || !sign_in.is_there(&directory) {
        return end_row(broker, sign_in).await;
    }
    Ok(broker
        .store
        .delete_sign_ins(vec![sign_in.id_text()])
        .await?)
}

/// The sign-in in a row; `None` if it is sealed under a key that is gone, or was altered.
fn opened(broker: &Broker, row: &SignInRow) -> Result<Option<SignIn>, Error> {
    Ok(Sealer::of(broker)?.open::<SignIn>("sign-in", &row.id, &row.sealed))
}

fn sealed(broker: &Broker, sign_in: &SignIn) -> Result<String, Error> {
    Sealer::of(broker)?.seal("sign-in", &sign_in.id_text(), sign_in, &*broker.entropy)
}

fn fresh_handle(broker: &Broker) -> Result<Handle, Error> {
    Ok(Handle(secret(broker)?))
}

/// Makes a secret of 256 random bits as text, for cookies and tokens.
fn secret(broker: &Broker) -> Result<Secret<String>, Error> {
    let bytes = entropy::bytes::<32>(&*broker.entropy)?;
    Ok(Secret::new(spelled(&bytes)))
}

/// Encodes bytes in base64url. A `-` at the beginning is replaced by `A`, because a command line would take a text that
/// begins with `-` for an option. This loses less than one bit of randomness.
fn spelled(bytes: &[u8]) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(bytes);
    if text.starts_with('-') {
        text.replace_range(..1, "A");
    }
    text
}

/// Computes the digest under which the store keeps a secret of 256 random bits, such as the value of a cookie.
fn digest(secret: &str) -> String {
    hex(&sha256(secret.as_bytes()))
}

/// The value by which the store finds the sign-ins of a user or a provider: the unique id of the user, or the ARN of
/// the provider.
fn holder(sign_in: &SignIn) -> &str {
    match &sign_in.who {
        Who::User { id, .. } => id,
        Who::Federated(kept) => &kept.provider_arn,
    }
}

/// A digest of the subject for which the provider vouched; empty for a user of the directory.
fn subject(sign_in: &SignIn) -> String {
    match &sign_in.who {
        Who::User { .. } => String::new(),
        Who::Federated(kept) => subject_of_provider(&kept.provider_arn, &kept.subject),
    }
}

fn subject_of_provider(provider_arn: &str, subject: &str) -> String {
    hex(&sha256(
        format!("subject {provider_arn} {subject}").as_bytes(),
    ))
}

/// A digest of the session at the provider; empty if there is none.
fn provider_session(provider_arn: &str, session: &str) -> String {
    match session {
        "" => String::new(),
        session => hex(&sha256(
            format!("session {provider_arn} {session}").as_bytes(),
        )),
    }
}

/// Selects all sign-ins of the person of this sign-in, including this one.
fn of_person(sign_in: &SignIn) -> SignInsOf {
    match &sign_in.who {
        Who::User { id, .. } => SignInsOf::Holder(id.clone()),
        Who::Federated(kept) => SignInsOf::Subject(kept.provider_arn.clone(), subject(sign_in)),
    }
}

/// Ends the least recently used sign-in of the same person if the person has too many.
async fn make_room(broker: &Broker, sign_in: &SignIn) -> Result<(), Error> {
    let of = of_person(sign_in);
    let rows = broker.store.sign_ins_of(of, "", MAX_OF_PERSON).await?;
    if rows.len() < MAX_OF_PERSON {
        return Ok(());
    }
    let Some(oldest) = rows.iter().min_by_key(|row| row.seen_at) else {
        return Ok(());
    };
    match opened(broker, oldest)? {
        Some(old) => end_row(broker, &old).await,
        None => Ok(broker
            .store
            .delete_sign_ins(vec![oldest.id.clone()])
            .await?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_looks_like_an_option() {
        assert_eq!(spelled(&[0xf8, 0, 0]), "AAAA");
        assert_eq!(spelled(&[0xfc, 0, 0]), "_AAA");
        assert_eq!(spelled(&[1, 0xf8, 0]), "AfgA");
    }
}
