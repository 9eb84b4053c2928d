//! Ends sign-ins, and all sessions and tokens that came from them, by one revocation that applies on all nodes.

use serde_json::json;

use crate::broker::Broker;
use crate::commands::{Actor, Detail, Revoked};
use crate::error::Error;
use crate::origin::Origin;
use crate::revocations::{Mark, RevocationKey, Selector};
use crate::signed_in::{SignIn, SignInId, Who};
use crate::store::{Entry, SIGN_INS_AT_ONCE, SignInsOf};

use super::record::{self, Draft, Event};
use super::{opened, provider_session, subject_of_provider};
use crate::base::digest::hex;

/// The name of the action, in the change feed, that ends a sign-in or a session that came from one.
const ACTION: &str = "EndSignIn";

/// Ends a sign-in and everything that came from it. The revocation is durable, and in force on this node, before this
/// function returns. It is not an error if the sign-in is already over.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or there is no master key.
#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests end a sign-in by its id")
)]
pub async fn end(broker: &Broker, id: &SignInId) -> Result<(), Error> {
    // One whose time is over may have sessions that last longer.
    let row = broker.store.sign_in(&hex(id)).await?;
    let sign_in = match row {
        Some(row) => opened(broker, &row)?,
        None => None,
    };
    match sign_in {
        Some(sign_in) => end_row(broker, &sign_in).await,
        None => Ok(()),
    }
}

/// Ends a sign-in at the request of the person who signed in, and writes the audit record of that.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or the audit log cannot be written.
pub async fn sign_out(broker: &Broker, sign_in: &SignIn, origin: &Origin) -> Result<(), Error> {
    let ended = end_row(broker, sign_in).await;
    record::of_sign_in(broker, Event::SIGN_OUT, sign_in, origin, ended).await
}

/// Ends another sign-in of the same person, at the person's request, and writes the audit record of that.
///
/// # Errors
/// [`Error::NotFound`] if there is no such sign-in of this person; another [`Error`] if an operation of the store
/// fails, or the audit log cannot be written.
pub async fn end_other(
    broker: &Broker,
    sign_in: &SignIn,
    other: &SignInId,
    origin: &Origin,
) -> Result<(), Error> {
    let others = super::live::others(broker, sign_in).await?;
    let other = others.into_iter().find(|(own, _)| own.id == *other);
    let (other, _) =
        other.ok_or_else(|| Error::NotFound("There is no sign-in with this id.".to_owned()))?;
    let ended = end_row(broker, &other).await;
    let details = json!({"signIn": other.id_text()});
    let draft = Draft::new(broker, Event::SIGN_OUT, origin)?;
    draft
        .by(sign_in)
        .asked(&details)
        .conclude(broker, ended)
        .await
}

/// Ends one session that came from a sign-in, together with everything that came from that session, and writes the
/// audit record of that.
///
/// # Errors
/// [`Error::NotFound`] unless the records of sessions show that the session came from the sign-in; another [`Error`] if
/// the session cannot be looked up or revoked, or the audit log cannot be written.
pub async fn end_session(
    broker: &Broker,
    sign_in: &SignIn,
    session_id: &[u8; 16],
    origin: &Origin,
) -> Result<(), Error> {
    let ended = async {
        let account = super::live::account_of(broker, sign_in, session_id).await?;
        let account = account.ok_or_else(no_such_session)?;
        let revoked = vec![(account.to_string(), hex(session_id))];
        revoke(broker, &actor(sign_in), revoked).await.map(drop)
    };
    let ended = ended.await;
    let details = json!({"session": hex(session_id)});
    let draft = Draft::new(broker, Event::END_SESSION, origin)?;
    draft
        .by(sign_in)
        .asked(&details)
        .conclude(broker, ended)
        .await
}

fn no_such_session() -> Error {
    Error::NotFound("There is no session with this id.".to_owned())
}

/// Ends sign-ins at an identity provider: those of a subject, those of a session at the provider (`sid`), or those that
/// match both if both are given. Returns how many sign-ins ended.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or there is no master key; some of the sign-ins may have ended.
pub async fn end_of_provider(
    broker: &Broker,
    provider_arn: &str,
    subject: Option<&str>,
    sid: Option<&str>,
) -> Result<usize, Error> {
    let holder = provider_arn.to_owned();
    let of = match (sid, subject) {
        (Some(sid), _) => SignInsOf::ProviderSession(holder, provider_session(provider_arn, sid)),
        (None, Some(subject)) => {
            SignInsOf::Subject(holder, subject_of_provider(provider_arn, subject))
        }
        (None, None) => return Ok(0),
    };
    let (mut after, mut ended) = (String::new(), 0);
    loop {
        let rows = broker
            .store
            .sign_ins_of(of.clone(), &after, SIGN_INS_AT_ONCE)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(ended);
        };
        after.clone_from(&last.id);
        for row in &rows {
            let Some(sign_in) = opened(broker, row)? else {
                continue;
            };
            let is_of_subject = match &sign_in.who {
                Who::Federated(kept) => subject.is_none_or(|subject| kept.subject == subject),
                Who::User { .. } => false,
            };
            if is_of_subject {
                end_row(broker, &sign_in).await?;
                ended += 1;
            }
        }
    }
}

/// Ends a sign-in. The change feed names the person of the sign-in as the one who ended it.
pub(super) async fn end_row(broker: &Broker, sign_in: &SignIn) -> Result<(), Error> {
    end_as(broker, sign_in, &actor(sign_in)).await.map(drop)
}

/// Ends a sign-in. The change feed names `actor` as the one who ended it. Returns the number of the change.
///
/// # Errors
/// [`Error`] if an operation of the store fails.
pub async fn end_as(broker: &Broker, sign_in: &SignIn, actor: &Actor) -> Result<i64, Error> {
    let directory = broker.directory.load_full();
    // Sessions of roles in other accounts name the provider of their own account.
    let accounts = match &sign_in.who {
        Who::User { account, .. } => vec![*account],
        Who::Federated(kept) => kept.accounts(&directory),
    };
    let id = sign_in.id_text();
    let revoked = accounts
        .iter()
        .map(|account| (account.to_string(), id.clone()))
        .collect();
    let sequence = revoke(broker, actor, revoked).await?;
    broker.store.delete_sign_ins(vec![id]).await?;
    Ok(sequence)
}

/// Revokes sessions by account and id, in one transaction. Returns the number of the change in the feed.
async fn revoke(broker: &Broker, actor: &Actor, ids: Vec<(String, String)>) -> Result<i64, Error> {
    let now = broker.clock.now();
    let mut writer = broker.store.write_revocation().await?;
    let mark = Mark {
        before_sequence: writer.sequence() + 1,
        before_seconds: 0,
        expires_at: Mark::outlives(now),
    };
    let selector = Selector::Session;
    let id = ids.first().map(|(_, id)| id.clone()).unwrap_or_default();
    let detail = Detail {
        revoked: ids
            .iter()
            .map(|(account, id)| Revoked::new(selector, account, id, mark))
            .collect(),
        ..Detail::default()
    };
    let written = async {
        writer
            .record(&Entry {
                changed_at: now,
                actor: actor.text(),
                action: ACTION,
                kind: "revocation",
                id: format!("{} {id}", selector.as_str()),
                detail: serde_json::to_string(&detail).map_err(|_| Error::InternalFailure)?,
            })
            .await?;
        for (account, id) in &ids {
            writer.revoke(selector.as_str(), account, id, mark).await?;
        }
        Ok::<(), Error>(())
    };
    if let Err(error) = written.await {
        writer.abandon().await;
        return Err(error);
    }
    let sequence = writer.commit().await?;
    for (account, id) in &ids {
        broker
            .revocations
            .mark(&RevocationKey::new(selector, account, id), mark);
    }
    broker.feed.nudge();
    Ok(sequence)
}

/// The person of a sign-in as the actor of a change in the feed.
fn actor(sign_in: &SignIn) -> Actor {
    let r#type = match &sign_in.who {
        Who::User { .. } => "IAMUser",
        Who::Federated(kept) if kept.is_saml() => "SAMLUser",
        Who::Federated(_) => "WebIdentityUser",
    };
    Actor {
        r#type: r#type.to_owned(),
        arn: Some(sign_in.arn().to_owned()),
        access_key_id: None,
        user_name: Some(sign_in.name()),
        request_id: None,
    }
}
