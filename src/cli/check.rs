//! `brevet check`: everything that `brevet serve` and its first request need, one line each.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;

use super::print::{self, TextOutputArgument};
use super::{ConfigArgument, Failure, clock, health, journal, runtime, second_factor};
use crate::audit::{self, Room, Target};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::entropy::SystemEntropy;
use crate::base::host_names::{HostName, HostNames};
use crate::config::{Config, ConfigError, Names};
use crate::directory::{Directory, OidcProvider};
use crate::files::{self, Audience};
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::metrics::Metrics;
use crate::providers::Providers;
use crate::server::{self, DirectoryFile, certificate};
use crate::session::keyring::{Keyring, State};
use crate::sessions::Sessions;
use crate::store::{Access, DirectoryEntries, Place, Store, StoreError, WatermarkError};
use crate::tls::{self, Identity};

/// How far the database's clock, or the last change, may be off.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(60);
/// So many providers are asked, so many of them at once.
const MAX_PROVIDERS: usize = 256;
const ASKED_AT_ONCE: usize = 16;
/// So many entries that went from the directory file are named.
const MAX_GONE: usize = 5;
/// How long a running broker may take to say whether it is ready.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  brevet check --config /var/lib/brevet/brevet.toml
  brevet check --config /var/lib/brevet/brevet.toml --output json
      For a pipeline: exits with 1 if anything fails.";

/// Check all that the broker and its first request need, without listening
///
/// Looks at the configuration, files and their modes, keys, the store and every secret in it, the
/// audit log and its disk, Redis, the certificate, identity providers, the clock and the addresses,
/// with the broker running or not. One line each: ok, warn or FAIL with what to do. Exits with 1 if
/// anything fails; warnings do not change the exit status.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    output: TextOutputArgument,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Line {
    check: &'static str,
    verdict: Verdict,
    says: String,
    fix: Option<String>,
}

fn ok(check: &'static str, says: impl Into<String>) -> Line {
    Line {
        check,
        verdict: Verdict::Ok,
        says: says.into(),
        fix: None,
    }
}

fn warning(check: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Line {
    Line {
        check,
        verdict: Verdict::Warning,
        says: says.into(),
        fix: Some(fix.into()),
    }
}

fn failed(check: &'static str, says: impl ToString, fix: impl Into<String>) -> Line {
    Line {
        check,
        verdict: Verdict::Failed,
        says: says.to_string(),
        fix: Some(fix.into()),
    }
}

pub(super) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let path = &arguments.config.config;
    let (lines, warnings) = match Config::load(path) {
        Err(error) => {
            let fix = match &error {
                ConfigError::File(_) => "do what the line says, or name another file with --config",
                _ => {
                    "correct the configuration; every key and its default are in config/brevet.toml of the source"
                }
            };
            (vec![failed("configuration", error, fix)], Vec::new())
        }
        Ok(config) => {
            let mut look = Look {
                config: &config,
                now: SystemClock.now(),
                lines: Vec::new(),
                warnings: Vec::new(),
            };
            look.lines
                .push(ok("configuration", path.display().to_string()));
            runtime()?.block_on(look.at_everything());
            (look.lines, look.warnings)
        }
    };
    let failures = lines
        .iter()
        .filter(|line| line.verdict == Verdict::Failed)
        .count();
    if arguments.output.is_json() {
        let checks = lines.iter().map(
            |line| json!({"Check": line.check, "Verdict": line.verdict.name(), "Says": line.says, "Fix": line.fix}),
        );
        let verdict = if failures > 0 {
            Verdict::Failed
        } else {
            Verdict::Ok
        };
        let checks = checks.collect::<Vec<_>>();
        print::json(&json!({"Verdict": verdict.name(), "Checks": checks, "Warnings": warnings}))?;
    } else {
        print::block(lines.iter().map(Line::text).collect::<String>())?;
    }
    super::warn(&warnings);
    if failures > 0 {
        return Err(format!("{failures} of {} checks failed", lines.len()).into());
    }
    if arguments.output.is_json() {
        Ok(())
    } else {
        print::line("ok")
    }
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warn",
            Self::Failed => "FAIL",
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let says = print::visible_lines(&self.says).replace('\n', " ");
        let fix = self
            .fix
            .as_ref()
            .map(|fix| format!("                    next: {}\n", print::visible(fix)));
        format!(
            "{:<4}  {:<13} {says}\n{}",
            self.verdict.name(),
            self.check,
            fix.unwrap_or_default()
        )
    }
}

struct Look<'a> {
    config: &'a Config,
    now: Timestamp,
    lines: Vec<Line>,
    warnings: Vec<String>,
}

impl Look<'_> {
    async fn at_everything(&mut self) {
        self.modes();
        let key = self.master_key();
        let keyring = self.keyring();
        self.certificate();
        let store = self.store(key.as_deref()).await;
        let directory = self.directory(store.as_ref(), key.as_ref()).await;
        self.brokers(store.as_ref(), keyring.as_ref(), key.as_deref())
            .await;
        self.clock(store.as_ref()).await;
        self.audit();
        self.redis(keyring.as_ref()).await;
        self.providers(directory.as_ref()).await;
        self.addresses();
        if let Some(store) = store {
            store.close().await;
        }
    }

    /// Owners and modes of everything that a broker reads.
    fn modes(&mut self) {
        let config = self.config;
        let mut named: Vec<(&Path, Audience)> = vec![(&config.keyring, Audience::Owner)];
        named.extend(
            config
                .master_key
                .as_deref()
                .map(|path| (path, Audience::Owner)),
        );
        named.extend(
            config
                .directory
                .as_deref()
                .map(|path| (path, Audience::Everyone)),
        );
        named.extend(
            config
                .watermark
                .as_deref()
                .map(|path| (path, Audience::Everyone)),
        );
        if let Some((certificate, private_key)) = &config.tls {
            named.extend([
                (&**certificate, Audience::Everyone),
                (&**private_key, Audience::Owner),
            ]);
        }
        if let Place::Sqlite(path) = &config.store {
            named.push((path, Audience::Owner));
        }
        if let Target::File { path, .. } = &config.audit
            && path.is_file()
        {
            named.push((path, Audience::Owner));
        }
        // One that is missing is another line's business.
        let there: Vec<_> = named
            .into_iter()
            .filter(|(path, _)| path.exists())
            .collect();
        let unfit: Vec<String> = there
            .iter()
            .filter_map(|(path, audience)| files::check(path, *audience).err())
            .map(|e| e.to_string())
            .collect();
        self.lines.push(match unfit.is_empty() {
            true => ok(
                "file modes",
                format!("{} files with the right owner and mode", there.len()),
            ),
            false => failed(
                "file modes",
                unfit.join("; "),
                "run what the line says, as the files' owner",
            ),
        });
    }

    fn master_key(&mut self) -> Option<Arc<MasterKey>> {
        let path = self.config.master_key.as_deref()?;
        match MasterKey::load(path) {
            Ok(key) => {
                let mut says = format!("{}: {} seals", path.display(), key.id());
                if let Some(next) = key.next_id() {
                    says.push_str(&format!(", {next} is published"));
                }
                if !key.retired_ids().is_empty() {
                    says.push_str(&format!(", {} retired", key.retired_ids().join(", ")));
                }
                self.lines.push(ok("master key", says));
                Some(Arc::new(key))
            }
            Err(error) => {
                let fix = "bring back the file from another broker or from where it is kept; without it no secret opens";
                self.lines.push(failed("master key", error, fix));
                None
            }
        }
    }

    fn keyring(&mut self) -> Option<Keyring> {
        let path = &self.config.keyring;
        match keyring_file::load(path) {
            Ok(keyring) => {
                let says = format!(
                    "{}: cluster {}, {} keys",
                    path.display(),
                    keyring.cluster_id(),
                    keyring.listing().count()
                );
                let has_next = keyring.listing().any(|(_, state, _)| state == State::Next);
                self.lines.push(match has_next {
                    true => ok("keyring", says),
                    false => warning(
                        "keyring",
                        format!("{says}, none of them next"),
                        "it cannot be rotated",
                    ),
                });
                Some(keyring)
            }
            Err(error) => {
                let fix = "bring back the file from another broker of the cluster, or from a copy";
                self.lines.push(failed("keyring", error, fix));
                None
            }
        }
    }

    fn certificate(&mut self) {
        let identity = self
            .config
            .tls
            .as_ref()
            .map(|(certificate, key)| (certificate, tls::load(certificate, key)));
        let names = identity
            .as_ref()
            .and_then(|(_, i)| i.as_ref().ok())
            .map_or(&[] as &[HostName], |identity| identity.names.as_slice());
        let names = server::host_names(self.config, names);
        let line = match &identity {
            None => ok("certificate", "none: plaintext"),
            Some((path, Err(error))) => failed(
                "certificate",
                format!("{}: {error}", path.display()),
                "put a certificate and its key there",
            ),
            Some((path, Ok(identity))) => self.judge(path, identity, names.as_ref().ok()),
        };
        self.lines.push(line);
        self.lines.push(match names {
            Ok(names) => ok("names", names.to_string()),
            Err(error) => failed(
                "names",
                error,
                "set [listen] names to what clients call this broker",
            ),
        });
    }

    /// Dates and names of a certificate that belongs to its key.
    fn judge(&self, path: &Path, identity: &Identity, names: Option<&HostNames>) -> Line {
        let path = path.display();
        let Some((from, until)) = identity.validity else {
            return failed(
                "certificate",
                format!("{path}: its dates cannot be read"),
                "put another one there",
            );
        };
        if self.now < from {
            return failed(
                "certificate",
                format!("{path}: is good from {from} only"),
                "check this machine's clock",
            );
        }
        if let Some(text) = certificate::warning(until, self.now) {
            let says = format!("{path}: {text}");
            return match self.now < until {
                true => warning(
                    "certificate",
                    says,
                    "renew it; the broker reads it by itself",
                ),
                false => failed(
                    "certificate",
                    says,
                    "renew it; the broker reads it by itself",
                ),
            };
        }
        let certified = HostNames::new(identity.names.iter().cloned());
        let listed = names.filter(|_| matches!(self.config.listener.names, Names::Listed(_)));
        let missing = listed.map_or_else(Vec::new, |names| uncovered(names, &certified));
        let refused = listed.map_or_else(Vec::new, |names| uncovered(&certified, names));
        let days = until.since(self.now).as_secs() / 86_400;
        let mut says = format!("{path}: for {certified}, until {until}, {days} days left");
        let mut steps = Vec::new();
        if !missing.is_empty() {
            says += &format!("; not for {}", missing.join(", "));
            steps.push("get one for every name of [listen] names that clients use over TLS");
        }
        if !refused.is_empty() {
            says += &format!("; requests for {} are refused", refused.join(", "));
            steps.push("add to [listen] names what clients call this broker");
        }
        match steps.is_empty() {
            true => ok("certificate", says),
            false => warning("certificate", says, steps.join("; ")),
        }
    }

    async fn store(&mut self, key: Option<&MasterKey>) -> Option<Store> {
        let config = self.config;
        let is_new = config
            .watermark
            .as_deref()
            .is_none_or(|path| !path.exists());
        let opened = server::entrance(config, key)
            .open(Access::Use, self.now, &SystemEntropy::new())
            .await;
        let store = match opened {
            Ok(store) => store,
            Err(WatermarkError::Store(StoreError::Missing(path)))
                if config.directory.is_some() && is_new =>
            {
                self.lines.push(ok(
                    "store",
                    format!("{}: is made at the first start", path.display()),
                ));
                return None;
            }
            Err(WatermarkError::Store(error @ StoreError::Older { .. })) => {
                let says = format!("{}: {error}; its content was not looked at", config.store);
                self.lines
                    .push(warning("store", says, "back it up, then start the broker"));
                return None;
            }
            Err(error) => {
                let fix = match error {
                    WatermarkError::Store(
                        StoreError::Unavailable(_) | StoreError::Disconnected(_),
                    ) => "start the database, or correct [store]",
                    WatermarkError::Store(_) | WatermarkError::File(_) => "run what the line says",
                    _ => "find out who put it back or changed it, before anything else",
                };
                self.lines
                    .push(failed("store", format!("{}: {error}", config.store), fix));
                return None;
            }
        };
        match store.head().await {
            Ok(head) => {
                let says = format!(
                    "{}: {}, change {}",
                    config.store, head.store_id, head.sequence
                );
                self.lines.push(ok("store", says));
            }
            Err(error) => {
                self.lines
                    .push(failed("store", error, "look at the database's log"));
                return None;
            }
        }
        self.lines.push(match store.verify(self.now).await {
            Ok(_) => ok("integrity", "every row is as a broker wrote it"),
            Err(error) => failed(
                "integrity",
                error,
                "docs/integrity.md says what it means; `brevet restore --accept` takes it as it is",
            ),
        });
        Some(store)
    }

    /// Compiles a directory file with the ids that the store keeps for it. Nothing is written.
    async fn directory_file(
        &mut self,
        file: &DirectoryFile,
        store: Option<&Store>,
    ) -> Result<Directory, String> {
        let kept = match store {
            Some(store) => store
                .directory_entries()
                .await
                .map_err(|error| error.to_string())?,
            None => DirectoryEntries::default(),
        };
        let compiled = file
            .compile(&kept, &SystemEntropy::new())
            .map_err(|error| error.to_string())?;
        let gone: Vec<String> = compiled.gone(&kept).map(ToString::to_string).collect();
        if compiled.made > 0 && store.is_some() {
            self.lines.push(ok(
                "unique ids",
                format!(
                    "new entries without a unique id: {}; the broker makes one for each when it reads the file",
                    compiled.made
                ),
            ));
        }
        if !gone.is_empty() {
            let named = gone.iter().take(MAX_GONE).cloned().collect::<Vec<_>>();
            let more = match gone.len().saturating_sub(MAX_GONE) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.lines.push(warning(
                "departures",
                format!(
                    "not in the file any more: {}{more}; their sessions end when the broker reads it",
                    named.join(", ")
                ),
                "put them back before it does, if they are to stay",
            ));
        }
        Ok(compiled.directory)
    }

    /// Loads everything as a broker does, with every secret.
    async fn directory(
        &mut self,
        store: Option<&Store>,
        key: Option<&Arc<MasterKey>>,
    ) -> Option<Directory> {
        let config = self.config;
        let (place, loaded) = match (&config.directory, store, key) {
            (Some(path), _, _) => {
                let file = DirectoryFile::read(
                    path,
                    config.master_key.as_deref(),
                    config.issuer.as_deref(),
                );
                let loaded = match file {
                    Ok(file) => self.directory_file(&file, store).await,
                    Err(error) => Err(error.to_string()),
                };
                (path.display().to_string(), loaded)
            }
            (None, Some(store), Some(key)) => (
                "in the store".to_owned(),
                server::load_store(store, key)
                    .await
                    .map_err(|e| e.to_string()),
            ),
            (None, _, _) => return None,
        };
        let directory = match loaded {
            Ok(directory) => directory,
            Err(error) => {
                let fix = match config.directory {
                    Some(_) => {
                        "correct the file, or bring back the master key that sealed its secrets"
                    }
                    None => "bring back the master key, or a backup (`brevet restore FILE`)",
                };
                self.lines.push(failed("directory", error, fix));
                return None;
            }
        };
        let (users, roles, keys) = directory.counts();
        let says = format!(
            "{place}: {users} users, {roles} roles, {keys} access keys; every secret opens"
        );
        self.lines.push(match directory.clear_secrets() {
            0 => ok("directory", says),
            clear => warning(
                "directory",
                format!("{says}; {clear} secrets stand in it in clear"),
                "brevet seal",
            ),
        });
        self.warnings.extend(directory.warnings());
        self.warnings.extend(second_factor::warnings(&directory));
        self.warnings
            .extend(server::own_provider(&directory, config.issuer.as_deref()));
        Some(directory)
    }

    /// The other brokers on a shared store: one cluster, and keys that they can open.
    async fn brokers(
        &mut self,
        store: Option<&Store>,
        keyring: Option<&Keyring>,
        key: Option<&MasterKey>,
    ) {
        let Some(store) = store.filter(|store| store.is_shared()) else {
            return;
        };
        let brokers = match store.brokers().await {
            Ok(brokers) => brokers,
            Err(error) => {
                return self
                    .lines
                    .push(failed("brokers", error, "look at the database's log"));
            }
        };
        let connected: Vec<_> = brokers.iter().filter(|b| b.is_connected).collect();
        let foreign = |cluster: &str| {
            keyring.is_some_and(|k| !cluster.is_empty() && k.cluster_id() != cluster)
        };
        let strangers: Vec<String> = connected
            .iter()
            .filter(|b| foreign(&b.cluster_id))
            .map(|b| b.name())
            .collect();
        if !strangers.is_empty() {
            let says = format!(
                "{} has the keyring of another cluster",
                strangers.join(", ")
            );
            let fix = "copy keyring.json from one broker to all: sessions of one cluster are refused by the other";
            return self.lines.push(failed("brokers", says, fix));
        }
        let lacks = |b: &&&crate::store::Broker| {
            key.is_some_and(|k| !b.master_keys.is_empty() && !b.has_master_key(k.id()))
        };
        let lacking: Vec<String> = connected.iter().filter(lacks).map(|b| b.name()).collect();
        self.lines.push(match lacking.is_empty() {
            true => ok(
                "brokers",
                format!("{} connected, of the same cluster", connected.len()),
            ),
            false => failed(
                "brokers",
                format!(
                    "{} does not have the master key that seals here",
                    lacking.join(", ")
                ),
                "copy master.key to it; it reads it by itself",
            ),
        });
    }

    async fn clock(&mut self, store: Option<&Store>) {
        match clock::now(self.config) {
            Err(error) => {
                return self
                    .lines
                    .push(failed("clock", error, "run what the line says"));
            }
            Ok(highest) if highest.since(self.now) > MAX_CLOCK_OFFSET => {
                let says = format!("{}: behind {highest}, which the broker has seen", self.now);
                let fix = "set this machine's clock; if it was ahead before and is right now: brevet clock accept";
                return self.lines.push(failed("clock", says, fix));
            }
            Ok(_) => {}
        }
        let Some(store) = store else { return };
        let read = async {
            Ok::<_, StoreError>((store.database_time().await?, store.last_changed_at().await?))
        };
        let line = match read.await {
            Err(error) => failed("clock", error, "look at the database's log"),
            Ok((database, last)) => {
                let here = self.now;
                let off = database.map(|there| here.seconds() - there);
                let behind = last.map_or(0, |last| last.div_euclid(1_000) - here.seconds());
                let most = i64::try_from(MAX_CLOCK_OFFSET.as_secs()).unwrap_or(60);
                match off {
                    Some(off) if off.abs() > most => failed(
                        "clock",
                        format!("{} s off the database's", off.abs()),
                        "set both clocks, by NTP: signatures and sessions depend on them",
                    ),
                    _ if behind > most => failed(
                        "clock",
                        format!("{behind} s behind the last change of the store"),
                        "set this machine's clock: a clock that was put back revives what has ended",
                    ),
                    Some(off) => ok(
                        "clock",
                        format!("{here}, {} s off the database's", off.abs()),
                    ),
                    None => ok(
                        "clock",
                        format!("{here}, not behind the last change of the store"),
                    ),
                }
            }
        };
        self.lines.push(line);
    }

    /// The audit log, the log of commands beside it, and their disk.
    fn audit(&mut self) {
        let Target::File { path, .. } = &self.config.audit else {
            return self.lines.push(ok("audit log", "standard output"));
        };
        let shown = path.display();
        let folder = files::folder(path);
        let place = if path.exists() {
            path.as_path()
        } else {
            folder
        };
        if let Err(error) = rustix::fs::access(place, rustix::fs::Access::WRITE_OK) {
            let says = format!("{}: cannot be written: {error}", place.display());
            return self.lines.push(failed(
                "audit log",
                says,
                "give it to the broker's account: nothing is issued without it",
            ));
        }
        if let Err(error) = journal::of(self.config).is_writable() {
            let fix = "make it writable: backup, restore, export and keyring rotation are on record there";
            self.lines.push(failed("audit log", error, fix));
            return;
        }
        let line = match audit::room(folder) {
            Err(error) => failed(
                "audit log",
                format!("{shown}: {error}"),
                "look at the file system",
            ),
            Ok((room, free)) => {
                let says = format!("{shown}, {} MiB free", free >> 20);
                let fix = "make room on that file system, or move [audit] file";
                match room {
                    Room::Enough => ok("audit log", says),
                    Room::CountsRefusals => warning(
                        "audit log",
                        format!("{says}: refusals are only counted"),
                        fix,
                    ),
                    Room::RefusesReads => failed(
                        "audit log",
                        format!("{says}: calls that read are refused"),
                        fix,
                    ),
                    Room::Full => failed("audit log", format!("{says}: nothing is issued"), fix),
                }
            }
        };
        self.lines.push(line);
    }

    async fn redis(&mut self, keyring: Option<&Keyring>) {
        let (Some(options), Some(keyring)) = (&self.config.redis, keyring) else {
            return;
        };
        let urls = options.urls.join(", ");
        let examined = match Sessions::in_redis(options, Arc::new(Metrics::new())) {
            Ok(sessions) => sessions.examine(keyring, self.now).await,
            Err(error) => Err(error.to_string()),
        };
        self.lines.push(match examined {
            Ok(()) => ok("redis", format!("{urls}: lets the broker in, does not evict")),
            Err(why) => failed(
                "redis",
                format!("{urls}: {why}"),
                "start it, or correct [sessions.redis]: address, user, password file, maxmemory-policy noeviction",
            ),
        });
    }

    async fn providers(&mut self, directory: Option<&Directory>) {
        let Some(directory) = directory else { return };
        let mut all: Vec<Arc<OidcProvider>> = directory.oidc_providers().cloned().collect();
        if all.is_empty() {
            return;
        }
        all.sort_by(|a, b| a.arn.cmp(&b.arn));
        let unasked = all.len().saturating_sub(MAX_PROVIDERS);
        all.truncate(MAX_PROVIDERS);
        let providers = match Providers::new(self.config.reach, Arc::new(SystemClock)) {
            Ok(providers) => Arc::new(providers),
            Err(error) => return self.lines.push(failed("provider", error, "report this")),
        };
        let mut results = Vec::with_capacity(all.len());
        for portion in all.chunks(ASKED_AT_ONCE) {
            let mut asked = JoinSet::new();
            for provider in portion {
                let (providers, provider) = (providers.clone(), provider.clone());
                asked.spawn(
                    async move { (provider.url.clone(), providers.examine(&provider).await) },
                );
            }
            results.extend(asked.join_all().await);
        }
        results.sort_by(|a, b| a.0.cmp(&b.0));
        for (url, result) in results {
            self.lines.push(match result {
                Ok(keys) => ok("provider", format!("{url}: {keys} keys")),
                Err(why) => failed(
                    "provider",
                    format!("{url}: {why}"),
                    "let this machine reach it (its discovery document and its keys), or correct Url and CertificateAuthority",
                ),
            });
        }
        if unasked > 0 {
            self.lines.push(warning(
                "provider",
                format!("{unasked} more were not asked"),
                "look at the broker's log",
            ));
        }
    }

    /// Free, or taken by the broker that is running.
    fn addresses(&mut self) {
        let operator = self.config.operator;
        let answers = || health::ask(health::reachable(operator), HEALTH_WITHIN).ok();
        for (check, address) in [("listen", self.config.listen), ("operator", operator)] {
            let line = match bind(address) {
                Ok(()) => ok(check, format!("{address}: is free")),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => match answers() {
                    Some((200 | 503, says)) => ok(
                        check,
                        format!(
                            "{address}: taken by a broker that is running ({})",
                            says.trim()
                        ),
                    ),
                    _ => failed(
                        check,
                        format!("{address}: taken by another program"),
                        format!(
                            "end it (`ss -ltnp` names it), or set another address in [{check}] address"
                        ),
                    ),
                },
                Err(error) => failed(
                    check,
                    format!("{address}: {error}"),
                    format!(
                        "set an address of this machine in [{check}] address; ports below 1024 need a capability"
                    ),
                ),
            };
            self.lines.push(line);
        }
    }
}

fn bind(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}

/// Whether a certificate is for a name of the configuration.
/// The names that are not among the others.
fn uncovered(names: &HostNames, others: &HostNames) -> Vec<String> {
    let missing = names.iter().filter(|name| !covers(others, name));
    missing.map(ToString::to_string).collect()
}

fn covers(certified: &HostNames, name: &HostName) -> bool {
    match name {
        // Any one label: a certificate for the same pattern covers it.
        HostName::AnyLabel(_) => certified.iter().any(|own| own == name),
        _ => certified.contains(&name.to_string()),
    }
}
