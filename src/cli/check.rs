//! `brevet check`: checks everything that `brevet serve` and its first request need, and prints a line for
//! each check.

mod audit;
mod certificate;
mod clock;
mod files;
mod line;
mod network;
mod object_stores;
mod saml;
mod sign_in;
mod store;

use clap::Args;
use serde_json::json;

use super::print::{self, TextOutputArgument};
use super::{ConfigArgument, Failure, runtime};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, ConfigError};
use line::{Line, Verdict, failed, ok};

const EXAMPLES: &str = "\
Examples:
  brevet check --config /var/lib/brevet/brevet.toml
  brevet check --config /var/lib/brevet/brevet.toml --output json
      For a pipeline: exits with 1 if anything fails.";

/// Check everything that the broker and its first request need, without starting it
///
/// Checks the configuration, files and their modes, keys, the store and every secret in it, the audit
/// log and its disk, Redis, the certificate, identity providers, the clock and the addresses, whether
/// the broker runs or not. Prints a line for each check: ok, warn or FAIL, and what to do about a problem. Exits with 1
/// if anything fails; warnings do not change the exit status.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    output: TextOutputArgument,
}

pub(super) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let path = &arguments.config.config;
    let (lines, warnings) = match Config::load(path) {
        Err(error) => {
            let fix = match &error {
                ConfigError::File(_) => {
                    "create or correct this file, or name another one: the configuration with \
                    --config, any other file in the configuration"
                }
                _ => {
                    "correct the configuration; config/brevet.toml in the source has every key and its default"
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
        self.object_stores();
        let store = self.store(key.as_deref()).await;
        let directory = self.directory(store.as_ref(), key.as_ref()).await;
        self.brokers(store.as_ref(), keyring.as_ref(), key.as_deref())
            .await;
        self.clock(store.as_ref()).await;
        self.audit();
        self.redis(keyring.as_ref()).await;
        self.providers(directory.as_ref()).await;
        self.saml(directory.as_ref());
        self.sign_in(directory.as_ref());
        self.addresses();
        if let Some(store) = store {
            store.close().await;
        }
    }
}
