//! `brevet audit verify`: checks that the lines of the audit log are those that the broker wrote.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, input, journal, print};
use crate::audit::Link;
use crate::audit::head;
use crate::audit::verify::{Report, Verifier};
use crate::config::Config;

const EXAMPLES: &str = "\
Examples:
  brevet audit verify --config /var/lib/brevet/brevet.toml audit.jsonl-20261124 audit.jsonl
      Checks the files of two days, the older one first, up to the last line that the broker wrote.
  zcat audit.jsonl-20261123.gz | brevet audit verify - audit.jsonl-20261124
      Checks without a head, so lines that were cut off the end are not noticed.
  brevet audit verify --config /var/lib/brevet/brevet.toml --commands audit.commands.jsonl
      Checks what operators did on the broker's machine.
  brevet audit verify --head 81344:6d0b…2e audit.jsonl
      Checks up to a head that was taken from the broker's own log.";

/// Check the audit log
///
/// Each line of the log contains its number and a hash over itself and the line before it, so a check can find lines
/// that were changed afterwards. The check needs no broker and no key.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum AuditCommand {
    Verify(VerifyArguments),
}

/// Find lines of the audit log that were deleted, moved, edited, added or cut off
///
/// Checks that each line follows from the line before it. Give the files of the log oldest first. Prints one line for
/// each fault, as FILE:LINE and what is wrong, and exits with 1 if there is one. Lines cut off at the end leave no gap,
/// so they are found only against the head of the chain: give --config to read it from the file that the broker keeps
/// beside its watermark file, or --head with the number and hash that the broker's own log reports.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct VerifyArguments {
    /// The broker's configuration file; the lines must reach the head that the broker keeps beside its watermark file
    #[arg(long, value_name = "FILE", conflicts_with = "head")]
    config: Option<PathBuf>,
    /// The number and the hash of the last line that the log must contain, as the broker's own log reports
    /// them
    #[arg(long, value_name = "SEQUENCE:HASH")]
    head: Option<String>,
    /// Check the log of commands run on the broker's machine, instead of the broker's audit log
    #[arg(long, requires = "config")]
    commands: bool,
    /// The files of the log, oldest first; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(command: AuditCommand) -> Result<(), Failure> {
    let AuditCommand::Verify(arguments) = command;
    // The head is read before the files, since a running broker keeps writing.
    let head = head_of(&arguments)?;
    let mut verifier = Verifier::new(head);
    for file in &arguments.files {
        let read = match input::is_stdin(file) {
            true => verifier.read(std::io::stdin().lock()),
            false => File::open(file).and_then(|opened| verifier.read(BufReader::new(opened))),
        };
        read.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let report = verifier.finish();
    print::data(|out| {
        for (place, fault) in &report.faults {
            let file = arguments
                .files
                .get(place.file)
                .map(|file| file.display().to_string())
                .unwrap_or_default();
            writeln!(out, "{}:{}: {fault}", print::visible(&file), place.line)?;
        }
        Ok(())
    })?;
    conclude(&report, head)
}

fn conclude(report: &Report, head: Option<Link>) -> Result<(), Failure> {
    match report.range {
        Some((first, last)) => {
            print::note(format_args!(
                "{} lines were read. They go from line {first} to line {last} of the chain.",
                report.lines
            ));
            if first != 1 {
                print::note(format_args!(
                    "The lines before {first} are not in these files; line {first} itself can only be checked together with \
                     the line before it."
                ));
            }
        }
        None => print::note(format_args!("{} lines.", report.lines)),
    }
    if report.before_the_chain > 0 {
        print::note(format_args!(
            "The first {} lines are not part of the hash chain, which begins after them, and could not be checked.",
            report.before_the_chain
        ));
    }
    if head.is_none() {
        print::note(
            "No head was given (--config or --head), so this check cannot notice that lines were cut off the end, or \
             that somebody recomputed all hashes.",
        );
    }
    let faults = report.more + u64::try_from(report.faults.len()).unwrap_or(u64::MAX);
    match faults {
        0 => Ok(()),
        1 => Err("the check of the audit log found 1 fault".into()),
        _ => Err(format!("the check of the audit log found {faults} faults").into()),
    }
}

fn head_of(arguments: &VerifyArguments) -> Result<Option<Link>, Failure> {
    if let Some(text) = &arguments.head {
        let link = text
            .split_once(':')
            .and_then(|(sequence, hash)| Link::parse(sequence.parse().ok()?, hash));
        let rule = "must be the number of a line, a colon, and its hash: 64 hexadecimal digits in lower case";
        return link
            .map(Some)
            .ok_or_else(|| format!("--head {text}: {rule}").into());
    }
    let Some(path) = &arguments.config else {
        return Ok(None);
    };
    let config = Config::load(path)?;
    let path = if arguments.commands {
        journal::of(&config).head()
    } else {
        let watermark = config.watermark.as_deref();
        watermark
            .map(head::beside)
            .ok_or("[store] watermark: is not set, so the broker keeps no head file; give --head instead of \
                --config")?
    };
    let head = head::load_in_place(&path)?;
    head.map(Some).ok_or_else(|| {
        format!(
            "{}: does not exist: no head was written yet, or somebody removed the file; give --head instead of \
             --config, or leave out --config and --commands",
            path.display()
        )
        .into()
    })
}
