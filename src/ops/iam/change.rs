//! Makes the changes of the directory for actions of the IAM API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::action::{Action, permit};
use super::target::Target;
use crate::broker::Broker;
use crate::commands::{self, Command, CommandContext};
use crate::error::Error;
use crate::master_key::MasterKey;
use crate::ops::context::Context;
use crate::store::{StoreError, Writer, unless_abandoned};

/// How long an answer waits until its own change is in force on this node. A new change waits as
/// long for the changes before it.
const IN_FORCE: Duration = Duration::from_secs(2);
/// How long a change waits until the changes of other calls on this node are done.
const TURN: Duration = Duration::from_secs(5);

/// Returns the master key, which seals the secrets in the directory. Every change needs it.
///
/// # Errors
/// [`Error::ReadOnlyDirectory`] if the directory is managed in a file.
pub(super) fn master_key(cx: &Context<'_>) -> Result<Arc<MasterKey>, Error> {
    let master_key = cx
        .broker
        .master_key
        .load_full()
        .filter(|_| cx.broker.directory_is_in_the_store);
    master_key.ok_or(Error::ReadOnlyDirectory(
        "it is managed in a file ([directory] file of the broker's configuration); edit that file",
    ))
}

/// Changes the directory and waits up to two seconds until the change is in force on this node, so that the caller's
/// next call sees it. The answer contains the number of the change. `decide` returns the commands or a refusal. It is
/// called twice: before the call waits for the store, and again when the call holds the right to write. The feed
/// records the change under the name `action`.
///
/// # Errors
/// The errors of `decide`, of [`master_key`], of the commands and of the store; [`Error::Throttling`] or
/// [`Error::ServiceUnavailable`] if the changes before this one take too long. Nothing has changed then, unless the
/// commit failed.
pub(super) async fn change(
    cx: &mut Context<'_>,
    action: &'static str,
    decide: impl Fn(&mut Context<'_>) -> Result<Vec<Command>, Error>,
) -> Result<(), Error> {
    make(cx, action, true, decide).await
}

/// Does what [`change`] does, even if no administrator remains afterwards or this node lags behind,
/// because access with a leaked credential must end.
///
/// # Errors
/// The same as for [`change`].
pub(in crate::parts::ops) async fn change_at_any_price(
    cx: &mut Context<'_>,
    action: &'static str,
    decide: impl Fn(&mut Context<'_>) -> Result<Vec<Command>, Error>,
) -> Result<(), Error> {
    make(cx, action, false, decide).await
}

async fn make(
    cx: &mut Context<'_>,
    action: &'static str,
    keeps_an_administrator: bool,
    decide: impl Fn(&mut Context<'_>) -> Result<Vec<Command>, Error>,
) -> Result<(), Error> {
    decide(cx)?;
    let master_key = master_key(cx)?;
    // Two administrators who take each other's permissions away at once must not both succeed, so a
    // call decides when what the one before has changed is in force.
    let _turn = match keeps_an_administrator {
        true => Some(turn(cx.broker).await?),
        false => None,
    };
    let writer = if keeps_an_administrator {
        up_to_date(cx).await?
    } else {
        // A credential that leaked must end even if this node lags behind.
        cx.wait(cx.broker.store.write()).await?
    };
    let commands = match decide(cx) {
        Ok(commands) => commands,
        Err(error) => {
            writer.abandon().await;
            return Err(error);
        }
    };
    let actor = cx.actor();
    let context = CommandContext {
        store: &cx.broker.store,
        master_key: &master_key,
        entropy: &*cx.broker.entropy,
        now: cx.now,
        issuer: cx.broker.issuer.as_deref(),
    };
    let directory = cx.directory.clone();
    let guarded = keeps_an_administrator.then_some(&*directory);
    let sequence = commands::execute_in(writer, context, &actor, action, commands, guarded).await?;
    cx.changed(sequence);
    // The change is durable; a slow node only sees it later.
    let _ = tokio::time::timeout(IN_FORCE, in_force(cx.broker, sequence)).await;
    Ok(())
}

/// Deletes the entity that an action concerns.
///
/// # Errors
/// [`Error::AccessDenied`] if the caller may not delete it, then [`Error::NotFound`] if it does not
/// exist, and the errors of [`change`].
pub(super) async fn delete<A: Action>(
    cx: &mut Context<'_>,
    target: impl Fn(&Context<'_>) -> Result<Target, Error>,
) -> Result<(), Error> {
    change(cx, A::NAME, |cx| {
        let target = target(cx)?;
        permit::<A>(cx, &target.resource())?;
        Ok(vec![Command::delete(target.name()?)])
    })
    .await
}

/// Waits until the changes that other calls make on this node are in force. Other calls cannot make a change while the
/// caller holds the permit.
///
/// # Errors
/// [`Error::Throttling`] if the wait takes longer than [`TURN`], or the client of the call has gone.
async fn turn(broker: &Broker) -> Result<SemaphorePermit<'_>, Error> {
    let turn = unless_abandoned(broker.changes.acquire());
    match tokio::time::timeout(TURN, turn).await {
        Ok(Some(Ok(turn))) => Ok(turn),
        _ => Err(StoreError::Busy.into()),
    }
}

/// Takes the right to write once this node has applied every change that is in the store. While it waits, it lets other
/// nodes write.
///
/// # Errors
/// [`Error::ServiceUnavailable`] if this node lags behind for longer than [`IN_FORCE`], and the errors of
/// [`Context::wait`].
async fn up_to_date<'a>(cx: &mut Context<'a>) -> Result<Writer<'a>, Error> {
    let broker = cx.broker;
    let mut patience = IN_FORCE;
    loop {
        let writer = cx.wait(cx.broker.store.write()).await?;
        // The decision is made on a snapshot with at least the changes up to this one.
        if cx.issued_under >= writer.sequence() {
            return Ok(writer);
        }
        let last = writer.sequence();
        // Others may write meanwhile.
        writer.abandon().await;
        let begun = Instant::now();
        let seen = tokio::time::timeout(patience, in_force(broker, last)).await;
        patience = patience.saturating_sub(begun.elapsed());
        if seen.is_err() {
            return Err(Error::ServiceUnavailable(
                "the latest change of the directory",
            ));
        }
    }
}

/// Waits until a change is in force on this node.
async fn in_force(broker: &Broker, sequence: i64) {
    broker.feed.nudge();
    while broker.feed.sequence() < sequence {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Converts [`Error::NotFound`] of a change to one with AWS's text `sentence`, for a part of an
/// entity that does not exist, such as an inline policy. The caller must have checked that the
/// entity itself exists.
pub(super) fn part_not_found(sentence: String) -> impl FnOnce(Error) -> Error {
    |error| match error {
        Error::NotFound(_) => Error::NotFound(sentence),
        other => other,
    }
}

/// Converts the error of a change of an identity provider. AWS answers InvalidInput if the change
/// breaks a rule.
pub(super) fn invalid_input(error: Error) -> Error {
    match error {
        Error::Malformed(rule) => Error::InvalidInput(rule),
        other => other,
    }
}
