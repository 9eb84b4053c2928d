//! `brevet restore --accept`: accepts a store that was put back by other means, or a backup, as it is.

use crate::base::clock::Timestamp;
use crate::base::entropy::SystemEntropy;
use crate::cli::{Failure, clock, print, runtime};
use crate::clock_mark::ClockMarkFile;
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::store::{self, Access, Head, Place, Shown, Store, Watermark};

/// Accepts the store with all its rows, and prints which rows differ from what brokers wrote.
pub(super) fn accept(config: &Config) -> Result<(), Failure> {
    let watermark = config.watermark.as_deref();
    // A watermark that cannot be read is ignored: all sessions end in either case.
    let known = watermark.and_then(|path| Watermark::load(path).ok().flatten());
    let _lock = match &config.store {
        Place::Sqlite(path) => Some(store::SqliteLock::take(path)?),
        Place::Postgres { .. } | Place::Memory => None,
    };
    let (now, entropy) = (clock::now(config)?, SystemEntropy::new());
    let key = config
        .master_key
        .as_deref()
        .map(MasterKey::load)
        .transpose()?;
    let head: Head = runtime()?.block_on(async {
        let store = Store::open(&config.store, Access::Serve, key.as_ref(), now, &entropy).await?;
        let shown = say_what_is_taken(&store, now).await?;
        let seen = known.map_or(0, |w| w.sequence);
        let head = store.accept(&shown, seen, now).await?;
        store.close().await;
        Ok::<Head, Failure>(head)
    })?;
    if let Some(path) = watermark {
        let saved = Watermark::of(&head).save(path);
        saved.map_err(|error| {
            format!(
                "the store was accepted, but the watermark file could not be written: {error}. Once it can be written, \
                 run the same command again"
            )
        })?;
    }
    remember_time(config, now)?;
    ended(&head);
    Ok(())
}

/// Records the time of the acceptance; everything that was issued before it has ended. If the clock is ahead now and is
/// corrected later, the broker then notices this when it starts, and says what to do.
pub(super) fn remember_time(config: &Config, now: Timestamp) -> Result<(), Failure> {
    let Some(file) = config.watermark.as_deref().map(ClockMarkFile::beside) else {
        return Ok(());
    };
    // A file that cannot be read is reported by the broker.
    if let Ok(mark) = file.load() {
        file.raise(now, mark.map_or(0, |mark| mark.accepted))?;
    }
    Ok(())
}

/// Prints how the store differs from what brokers wrote: changed rows with their content, rows that cannot be read, and
/// unknown triggers.
pub(super) async fn say_what_is_taken(store: &Store, now: Timestamp) -> Result<Shown, Failure> {
    let shown = store.show(now).await?;
    if store.is_unsealed() {
        print::note(
            "The rows of this store have no MACs yet, so they cannot be checked and are accepted as they are.",
        );
    } else if shown.findings.is_empty() && shown.mended.is_empty() {
        print::note("Every row is unchanged since a broker wrote it.");
    }
    if !shown.mended.is_empty() {
        print::note("Repaired or removed, because a broker could not read or use them:");
        for what in &shown.mended {
            print::note(format_args!("  {}", print::visible(what)));
        }
    }
    if !store.is_unsealed() && !shown.findings.is_empty() {
        print::note(
            "The store will be accepted as it is, although it differs from what brokers wrote in these points:",
        );
        shown
            .findings
            .iter()
            .for_each(|what| print::note(format_args!("  {}", print::visible(what))));
    }
    Ok(shown)
}

pub(super) fn ended(head: &Head) {
    print::note(format_args!(
        "The store now continues from change {}. Every session that was issued before now has ended,",
        head.sequence
    ));
    print::note("and MFA codes and assertions from before now are refused.");
}
