//! What an operator does with the store beside its broker: import, export, the feed, backup,
//! restore, and a new master key.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::Failure;
use crate::clock::{Clock, SystemClock};
use crate::commands::{self, Desk, Planned};
use crate::config::Config;
use crate::directory;
use crate::entropy::SystemEntropy;
use crate::files::{self, Audience};
use crate::master_key::MasterKey;
use crate::store::{self, Access, Change, Place, Store, Watermark};

/// How many differences are shown one by one.
const SHOWN: usize = 200;

fn opened(config: &Config, access: Access) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let runtime = super::runtime()?;
    let store = runtime.block_on(Store::open(&config.store, access, SystemClock.now(), &SystemEntropy::new()))?;
    Ok((runtime, store))
}

fn master_key(config: &Config) -> Result<(&Path, MasterKey), Failure> {
    let path = config.master_key.as_deref().ok_or("[directory] master_key: is not set")?;
    Ok((path, MasterKey::load(path)?))
}

pub(super) fn import(config: &Path, file: &Path, apply: bool, prune: bool) -> Result<(), Failure> {
    let config = Config::load(config)?;
    if let Some(path) = &config.directory {
        return Err(format!("[directory] file: roles are in {}, and read-only here", path.display()).into());
    }
    let (_, master_key) = master_key(&config)?;
    let bytes = files::read(file, Audience::Everyone, directory::MAX_BYTES)?;
    let declaration = directory::parse(bytes.expose())?;
    if declaration.brevet.has_clear_secrets() {
        files::check(file, Audience::Owner)?;
    }
    let (runtime, store) = opened(&config, Access::Use)?;
    let entropy = SystemEntropy::new();
    let desk = Desk {
        store: &store,
        master_key: &master_key,
        entropy: &entropy,
        now: SystemClock.now(),
        issuer: config.issuer.as_deref(),
    };
    let import = runtime.block_on(commands::plan(desk, declaration, prune))?;
    super::warn(&import.warnings);
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut out = std::io::stdout().lock();
    for (n, planned) in import.planned.iter().enumerate() {
        *counts
            .entry(match planned {
                Planned::Create(_) => "to create",
                Planned::Update { .. } => "to change",
                Planned::Delete { .. } => "to delete",
            })
            .or_default() += 1;
        if n < SHOWN {
            out.write_all(planned.describe().as_bytes())?;
        }
    }
    if import.planned.len() > SHOWN {
        writeln!(out, "… and {} more", import.planned.len() - SHOWN)?;
    }
    out.flush()?;
    let counted: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
    let counted = if counted.is_empty() { "nothing to change".to_owned() } else { counted.join(", ") };
    eprintln!("{counted}; {} as declared; {} in the store and not in the file", import.unchanged, import.kept);
    if import.kept > 0 && !prune {
        eprintln!("What is not in the file stays; with --prune it goes, as far as it is in the file's accounts.");
    }
    if import.planned.is_empty() {
        return Ok(());
    }
    if !apply {
        eprintln!("Nothing was changed: --apply does it.");
        return Ok(());
    }
    let sequence = runtime.block_on(import.apply(desk, &super::operator()))?;
    runtime.block_on(store.close());
    eprintln!("Done, up to change {sequence}; every connected broker takes it within 2 s.");
    Ok(())
}

pub(super) fn export(config: &Path) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let (runtime, store) = opened(&config, Access::Use)?;
    let declaration = runtime.block_on(commands::export(&store))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, &declaration)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

pub(super) fn changes(config: &Path, mut after: i64) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let (runtime, store) = opened(&config, Access::Use)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    loop {
        let changes = runtime.block_on(store.feed_after(after, 1_000))?;
        let Some(last) = changes.last() else { break };
        after = last.sequence;
        for change in &changes {
            serde_json::to_writer(&mut out, &line(change)?)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(out.flush()?)
}

fn line(change: &Change) -> Result<serde_json::Value, Failure> {
    let at = crate::clock::Timestamp::from_seconds(change.changed_at.div_euclid(1_000));
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text);
    Ok(serde_json::json!({
        "SequenceNumber": change.sequence, "Time": at.to_string(), "Actor": parsed(&change.actor)?,
        "Action": change.action, "Kind": change.kind, "Id": change.id, "Detail": parsed(&change.detail)?,
    }))
}

pub(super) fn backup(config: &Path, file: &Path) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let (runtime, store) = opened(&config, Access::Use)?;
    let head = runtime.block_on(async {
        store::backup(&store, file).await?;
        store.head().await
    })?;
    eprintln!("{} holds the store as it was at change {} or later.", file.display(), head.sequence);
    eprintln!("Its secrets are sealed under the master key: keep that too, and elsewhere.");
    Ok(())
}

pub(super) fn restore(config: &Path, file: Option<&Path>) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let now = SystemClock.now();
    let watermark = config.watermark.as_deref();
    // One that cannot be read says nothing; everything ends either way.
    let known = watermark.and_then(|path| Watermark::load(path).ok().flatten());
    let head = match (file, &config.store) {
        (Some(file), Place::Sqlite(path)) => super::runtime()?.block_on(store::restore(
            file,
            path,
            known.as_ref().map_or(0, |w| w.sequence),
            now,
            &SystemEntropy::new(),
        ))?,
        (Some(_), _) => {
            return Err("a PostgreSQL store is put back by `pg_restore`; then: brevet restore --accept".into());
        }
        (None, place) => {
            let _lock = match place {
                Place::Sqlite(path) => Some(store::SqliteLock::take(path)?),
                Place::Postgres { .. } | Place::Memory => None,
            };
            let (runtime, store) = opened(&config, Access::Serve)?;
            runtime.block_on(store::accept(&store, known.as_ref(), now))?
        }
    };
    if let Some(path) = watermark {
        Watermark { store_id: head.store_id.clone(), sequence: head.sequence }.save(path)?;
    }
    eprintln!("The store goes on at change {}. Every session that was issued before now has ended,", head.sequence);
    eprintln!("and codes and assertions from before now are not taken.");
    Ok(())
}

pub(super) fn rekey(config: &Path, publish: bool) -> Result<(), Failure> {
    let config = Config::load(config)?;
    if config.directory.is_some() {
        return Err("[directory] file: secrets in a file are sealed by `brevet seal`; rekey is for the store".into());
    }
    let (path, mut key) = master_key(&config)?;
    let entropy = SystemEntropy::new();
    // Two keys of which none is published: an earlier run got so far, and this one goes on.
    if key.count() == 1 {
        key = key.with_fresh(path, &entropy)?;
        key.save(path)?;
        eprintln!("{} holds a new key, which seals nothing yet.", path.display());
    }
    if publish {
        eprintln!("Copy it to every broker; each reads it by itself within a second. Then: brevet rekey");
        return Ok(());
    }
    let (runtime, store) = opened(&config, Access::Use)?;
    key = key.promoted();
    key.save(path)?;
    let issuer = config.issuer.as_deref();
    let desk = Desk { store: &store, master_key: &key, entropy: &entropy, now: SystemClock.now(), issuer };
    // A broker beside us reads the new file before it meets a secret sealed under it.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let resealed = runtime.block_on(commands::reseal(desk, &super::operator()))?;
    let id = key.id().to_owned();
    key.alone().save(path)?;
    eprintln!("{resealed} secrets are sealed under the key {id}; the old key is gone from {}.", path.display());
    eprintln!("Copy the file to the other brokers. Backups from before need the old key.");
    Ok(())
}
