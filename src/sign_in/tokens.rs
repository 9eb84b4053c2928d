//! The tokens of programs that a person has approved: access tokens, and families of refresh tokens. The store has only
//! digests of the tokens. The tokens end with the sign-in of the person who approved the program.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::record::{Draft, Event};
use super::registration::{Client, REFRESH_TOKEN};
use super::seal::Sealer;
use super::{digest, of_id, scopes, secret};
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::entropy;
use crate::base::secret::{Secret, is_same_secret};
use crate::broker::Broker;
use crate::error::{Error, GrantErrorKind};
use crate::origin::Origin;
use crate::signed_in::SignIn;
use crate::store::{GrantKind, GrantRow};

/// The lifetime of an access token that has a refresh token.
const ACCESS_LASTS: Duration = Duration::from_secs(3_600);
/// The longest lifetime of an access token without a refresh token.
const LAST_ACCESS_LASTS: Duration = Duration::from_secs(8 * 3_600);
/// How long the tokens of the previous generation can still be used. This lets two programs that share one cache
/// refresh at the same time without ending their family of tokens.
const OVERLAP: Duration = Duration::from_secs(60);
/// The maximum number of refresh tokens in one generation of a family.
const MAX_OF_GENERATION: usize = 16;
/// The maximum number of valid access tokens of a family. Beyond it, the oldest ones are withdrawn.
const MAX_ACCESS: i64 = 32;
/// How often the change of a family is attempted if other requests change it at the same time.
const ATTEMPTS: usize = 8;
/// The maximum length of a token that is read, in bytes. Real tokens are much shorter.
pub const MAX_TOKEN: usize = 256;

/// The tokens that a program receives for a code, an allowed device flow or a refresh token.
pub struct Tokens {
    pub access_token: Secret<String>,
    /// The lifetime of the access token, for `expires_in`.
    pub lasts: Duration,
    pub refresh_token: Option<Secret<String>>,
    pub scopes: Vec<String>,
}

/// The sealed content of the row of an access token.
#[derive(Debug, Serialize, Deserialize)]
struct Access {
    client: String,
    scopes: Vec<String>,
}

/// The sealed content of the row of a family of refresh tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Family {
    client: String,
    scopes: Vec<String>,
    generation: u64,
    /// The digests of the tokens of this generation, none of which was used.
    current: Vec<String>,
    /// The digests of the tokens of the generation before it.
    previous: Vec<String>,
    /// When this generation began, which limits how long tokens of the previous one can still be used.
    turned_at: Timestamp,
}

/// The sign-in behind an access token, with the family to which the token belongs.
pub struct Bearer {
    pub sign_in: SignIn,
    family: String,
}

/// Makes the random id of a new family of tokens. The caller needs the id before the tokens are issued.
pub(super) fn new_family(broker: &Broker) -> Result<String, Error> {
    Ok(hex(&entropy::bytes::<16>(&*broker.entropy)?))
}

/// Issues the first tokens of a family to a program that the person has approved.
///
/// # Errors
/// [`Error`] if the sign-in is over, too many programs use it, or the store does not answer.
pub(super) async fn issue(
    broker: &Broker,
    family: &str,
    sign_in: &SignIn,
    client: &Client,
    scopes: &[String],
) -> Result<Tokens, Error> {
    let now = broker.clock.now();
    let is_refreshable = scopes::are_refreshable(scopes) && client.may_use(REFRESH_TOKEN).is_ok();
    let refresh_token = match is_refreshable {
        true => Some(refresh_token(broker, family)?),
        false => None,
    };
    let current = refresh_token.iter().map(|token| digest(token.expose()));
    // Access tokens are good as long as their family is there, also if nothing can refresh them.
    let begun = Family {
        client: client.digest.clone(),
        scopes: scopes.to_vec(),
        generation: 1,
        current: current.collect(),
        previous: Vec::new(),
        turned_at: now,
    };
    let row = row_of_family(broker, family, &begun, sign_in)?;
    if !broker.store.add_grant(GrantKind::Family, row, now).await? {
        return Err(too_many());
    }
    let (access_token, lasts) = issue_access(
        broker,
        family,
        sign_in,
        client,
        scopes,
        refresh_token.is_some(),
    )
    .await?;
    Ok(Tokens {
        access_token,
        lasts,
        refresh_token,
        scopes: scopes.to_vec(),
    })
}

/// Issues tokens for a refresh token. The first use of a refresh token begins the next generation of its family. Each
/// use returns a new refresh token of the newest generation.
///
/// A refresh token can be used until 60 seconds after its generation ended. A later use means that somebody has copied
/// the token, so it ends the whole family.
///
/// # Errors
/// `InvalidGrant` if the token is unknown, belongs to another program, or can no longer be used. [`Error`] also if the
/// store does not answer, or the audit log cannot be written.
pub async fn refresh(
    broker: &Broker,
    client: &Client,
    token: &str,
    asked_scopes: Option<&str>,
    origin: &Origin,
) -> Result<(Tokens, String), Error> {
    client.may_use(REFRESH_TOKEN)?;
    let (result, draft) = {
        let (mut seen, mut is_reuse) = (None, false);
        let noticed = (&mut seen, &mut is_reuse);
        let result = refreshed(broker, client, token, asked_scopes, noticed).await;
        let mut draft = Draft::new(broker, Event::CREATE_TOKEN, origin)?
            .asked(&json!({"grantType": REFRESH_TOKEN, "clientName": client.name}));
        if is_reuse {
            let reason = "a refresh token was used after it was replaced and its time was over, so all tokens that \
                came from the same authorization have ended";
            draft = draft.with(&json!({"reason": reason}));
        }
        let draft = match &seen {
            Some(sign_in) => draft.by(sign_in),
            None => draft,
        };
        (result, draft)
    };
    let request_id = draft.request_id().to_owned();
    Ok((draft.conclude(broker, result).await?, request_id))
}

async fn refreshed(
    broker: &Broker,
    client: &Client,
    token: &str,
    asked_scopes: Option<&str>,
    (seen, is_reuse): (&mut Option<SignIn>, &mut bool),
) -> Result<Tokens, Error> {
    let invalid = || {
        let text = "The refresh token is not valid, was used before, or belongs to another program, or the sign-in has ended. \
            Sign in again.";
        Error::from(GrantErrorKind::InvalidGrant.because(text))
    };
    let (family_id, generation) = parts(token).ok_or_else(invalid)?;
    let shown = digest(token);
    for _ in 0..ATTEMPTS {
        let now = broker.clock.now();
        let row = broker.store.grant(GrantKind::Family, family_id).await?;
        let row = row.filter(|row| row.expires_at > now.seconds());
        let row = row.ok_or_else(invalid)?;
        let sealer = Sealer::of(broker)?;
        let family: Family = sealer
            .open("family", &row.id, &row.sealed)
            .ok_or_else(invalid)?;
        let is_known = |digests: &[String]| {
            digests
                .iter()
                .any(|known| is_same_secret(known.as_bytes(), shown.as_bytes()))
        };
        let is_current = generation == family.generation && is_known(&family.current);
        let is_previous = generation.checked_add(1) == Some(family.generation)
            && is_known(&family.previous)
            && now.since(family.turned_at) <= OVERLAP;
        if family.client != client.digest {
            return Err(invalid());
        }
        let sign_in = match &row.sign_in {
            Some(id) => of_id(broker, id).await?,
            None => None,
        };
        let sign_in = sign_in.ok_or_else(invalid)?;
        *seen = Some(sign_in.clone());
        if !is_current && !is_previous {
            // The token was made for this family, since nobody can guess the id, but its time is over.
            broker.store.delete_family(family_id).await?;
            *is_reuse = true;
            tracing::warn!(
                sign_in = sign_in.id_text(),
                "a refresh token was used after it was replaced and its time was over, so all tokens that came from \
                 the same authorization have ended"
            );
            return Err(invalid());
        }
        let granted = scopes::granted(&family.scopes, asked_scopes)?;
        let next = family.generation + u64::from(is_current);
        let successor = refresh_token_of(broker, family_id, next)?;
        let mut changed = family.clone();
        if is_current {
            changed.generation = next;
            changed.previous = std::mem::take(&mut changed.current);
            changed.turned_at = now;
        } else if changed.current.len() >= MAX_OF_GENERATION {
            return Err(invalid());
        }
        changed.current.push(digest(successor.expose()));
        let to = GrantRow {
            state: row.state.saturating_add(1),
            sealed: sealer.seal("family", &row.id, &changed, &*broker.entropy)?,
            ..row.clone()
        };
        if !broker
            .store
            .change_grant(GrantKind::Family, row.state, to, now)
            .await?
        {
            continue;
        }
        let (access_token, lasts) =
            issue_access(broker, family_id, &sign_in, client, &granted, true).await?;
        return Ok(Tokens {
            access_token,
            lasts,
            refresh_token: Some(successor),
            scopes: granted,
        });
    }
    Err(Error::ServiceUnavailable(
        "the refresh token, which other calls are using at the same time,",
    ))
}

async fn issue_access(
    broker: &Broker,
    family: &str,
    sign_in: &SignIn,
    client: &Client,
    scopes: &[String],
    can_be_followed: bool,
) -> Result<(Secret<String>, Duration), Error> {
    let now = broker.clock.now();
    let longest = if can_be_followed {
        ACCESS_LASTS
    } else {
        LAST_ACCESS_LASTS
    };
    let lasts = sign_in.ends_at.since(now).min(longest);
    if lasts < Duration::from_secs(1) {
        let text = "The sign-in has ended. Sign in again.";
        return Err(GrantErrorKind::InvalidGrant.because(text).into());
    }
    let token = secret(broker)?;
    let id = digest(token.expose());
    let access = Access {
        client: client.digest.clone(),
        scopes: scopes.to_vec(),
    };
    let sealed = Sealer::of(broker)?.seal("access", &id, &access, &*broker.entropy)?;
    let row = GrantRow {
        sign_in: Some(sign_in.id_text()),
        family: Some(family.to_owned()),
        ..GrantRow::new(id, now.plus(lasts), sealed)
    };
    broker.store.trim_access(family, MAX_ACCESS).await?;
    if !broker.store.add_grant(GrantKind::Access, row, now).await? {
        return Err(too_many());
    }
    Ok((token, lasts))
}

fn too_many() -> Error {
    let text = "Too many programs use this sign-in. Sign out and in again.";
    GrantErrorKind::AccessDenied.because(text).into()
}

/// The sign-in behind an access token that a program presents.
///
/// # Errors
/// [`Error::NotSignedIn`] if the token is unknown or has expired, or the sign-in is over. [`Error`] also if the store
/// does not answer.
pub async fn bearer(broker: &Broker, token: &str) -> Result<Bearer, Error> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Error::NotSignedIn);
    }
    let (id, now) = (digest(token), broker.clock.now());
    let row = broker.store.grant(GrantKind::Access, &id).await?;
    let row = row.filter(|row| row.expires_at > now.seconds());
    let row = row.ok_or(Error::NotSignedIn)?;
    // A row that was altered opens nothing.
    let access: Option<Access> = Sealer::of(broker)?.open("access", &row.id, &row.sealed);
    let (Some(_), Some(sign_in), Some(family)) = (access, &row.sign_in, row.family) else {
        return Err(Error::NotSignedIn);
    };
    // The family may have ended while the token was made.
    let is_there = broker.store.grant(GrantKind::Family, &family).await?;
    is_there.ok_or(Error::NotSignedIn)?;
    let sign_in = of_id(broker, sign_in).await?.ok_or(Error::NotSignedIn)?;
    Ok(Bearer { sign_in, family })
}

/// Ends all tokens of the family to which this access token belongs, and writes the audit record of that. Sessions that
/// were obtained with these tokens last until they expire or the sign-in ends.
///
/// # Errors
/// [`Error::NotSignedIn`] if the token is unknown or has expired, or the sign-in is over; another [`Error`] if an
/// operation of the store fails, or the audit log cannot be written.
pub async fn log_out(broker: &Broker, token: &str, origin: &Origin) -> Result<String, Error> {
    let bearer = bearer(broker, token).await?;
    let ended = broker.store.delete_family(&bearer.family).await;
    let draft = Draft::new(broker, Event::PROGRAM_LOGOUT, origin)?.by(&bearer.sign_in);
    let request_id = draft.request_id().to_owned();
    draft.conclude(broker, ended.map_err(Error::from)).await?;
    Ok(request_id)
}

/// Ends all tokens of the family to which a token of this program belongs (RFC 7009). An unknown token is not an error.
///
/// # Errors
/// [`Error`] if there is no master key, the store does not answer, or the audit log cannot be written.
pub async fn withdraw(
    broker: &Broker,
    client: &Client,
    token: &str,
    origin: &Origin,
) -> Result<(), Error> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Ok(());
    }
    let sealer = Sealer::of(broker)?;
    let family = match parts(token) {
        Some((family_id, _)) => {
            let row = broker.store.grant(GrantKind::Family, family_id).await?;
            let known = |row: GrantRow| {
                let family: Family = sealer.open("family", &row.id, &row.sealed)?;
                let shown = digest(token);
                let mut digests = family.current.iter().chain(&family.previous);
                let is_known =
                    digests.any(|known| is_same_secret(known.as_bytes(), shown.as_bytes()));
                (is_known && family.client == client.digest).then_some(row.id)
            };
            row.and_then(known)
        }
        None => {
            let row = broker
                .store
                .grant(GrantKind::Access, &digest(token))
                .await?;
            let known = |row: GrantRow| {
                let access: Access = sealer.open("access", &row.id, &row.sealed)?;
                row.family.filter(|_| access.client == client.digest)
            };
            row.and_then(known)
        }
    };
    if let Some(family) = family {
        let ended = broker.store.delete_family(&family).await;
        let draft = Draft::new(broker, Event::PROGRAM_LOGOUT, origin)?
            .asked(&json!({"clientName": client.name}));
        draft.conclude(broker, ended.map_err(Error::from)).await?;
    }
    Ok(())
}

fn row_of_family(
    broker: &Broker,
    id: &str,
    family: &Family,
    sign_in: &SignIn,
) -> Result<GrantRow, Error> {
    let sealed = Sealer::of(broker)?.seal("family", id, family, &*broker.entropy)?;
    Ok(GrantRow {
        sign_in: Some(sign_in.id_text()),
        family: Some(id.to_owned()),
        ..GrantRow::new(id.to_owned(), sign_in.ends_at, sealed)
    })
}

fn refresh_token(broker: &Broker, family: &str) -> Result<Secret<String>, Error> {
    refresh_token_of(broker, family, 1)
}

/// Makes a refresh token from the id of its family, its generation and 256 random bits.
fn refresh_token_of(
    broker: &Broker,
    family: &str,
    generation: u64,
) -> Result<Secret<String>, Error> {
    let random = secret(broker)?;
    Ok(Secret::new(format!(
        "{family}.{generation}.{}",
        random.expose()
    )))
}

/// Splits a refresh token into the id of its family and its generation; `None` for any other text.
fn parts(token: &str) -> Option<(&str, u64)> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let (family, rest) = token.split_once('.')?;
    let (generation, _) = rest.split_once('.')?;
    let is_id = family.len() == 32 && family.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = generation.bytes().all(|b| b.is_ascii_digit());
    is_id.then_some(())?;
    Some((family, generation.parse().ok().filter(|_| is_number)?))
}
