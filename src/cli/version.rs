//! `brevet version`, `brevet completions` and `brevet man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::print::{self, TextOutputArgument};
use super::{Arguments, Failure};

const VERSION_EXAMPLES: &str = "\
Examples:
  brevet version
  brevet version --output json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  brevet completions bash > /usr/share/bash-completion/completions/brevet
  brevet completions zsh > /usr/share/zsh/site-functions/_brevet
  brevet completions fish > ~/.config/fish/completions/brevet.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  brevet man | man -l -
      Shows the page of brevet itself.
  brevet man --dir /usr/share/man/man1
      Writes a page for each command.";

/// Print the version, the commit that it was built from, and that commit's date
///
/// The date is that of the commit and not of the build, so that the same source gives the same program. A build from a
/// tree without git says `unknown`.
#[derive(Debug, Args)]
#[command(after_long_help = VERSION_EXAMPLES)]
pub(super) struct VersionArguments {
    #[command(flatten)]
    output: TextOutputArgument,
}

/// Print completions for a shell
///
/// Write the output to where your shell looks for completions, or source it. Supported shells: bash,
/// elvish, fish, powershell and zsh.
#[derive(Debug, Args)]
#[command(after_long_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArguments {
    /// The shell to print completions for
    shell: clap_complete::Shell,
}

/// Print manual pages
///
/// Prints the page of `brevet`, or writes one page for each command into a folder. The pages are made
/// from --help.
#[derive(Debug, Args)]
#[command(after_long_help = MAN_EXAMPLES)]
pub(super) struct ManArguments {
    /// Write a page for each command to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("BREVET_COMMIT");
const COMMIT_DATE: &str = env!("BREVET_COMMIT_DATE");

/// Version, commit and the commit's date: `0.1.0 (0123456789ab, 2026-01-02)`. A debug build says so, too.
pub(super) fn text() -> String {
    let build = if cfg!(debug_assertions) {
        ", debug build"
    } else {
        ""
    };
    format!("{VERSION} ({COMMIT}, {COMMIT_DATE}{build})")
}

pub(super) fn run(arguments: &VersionArguments) -> Result<(), Failure> {
    if arguments.output.is_json() {
        let release = !cfg!(debug_assertions);
        return print::json(&serde_json::json!({
            "Version": VERSION, "Commit": COMMIT, "CommitDate": COMMIT_DATE, "Release": release,
        }));
    }
    print::line(format_args!("brevet {}", text()))
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "brevet",
        &mut script,
    );
    print::data(|out| Ok(out.write_all(&script)?))
}

pub(super) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let Some(dir) = &arguments.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
        return print::data(|out| Ok(out.write_all(&page)?));
    };
    clap_mangen::generate_to(Arguments::command(), dir)
        .map_err(|error| format!("--dir {}: {error}", dir.display()))?;
    print::note(format_args!(
        "{} holds the manual pages of brevet and its commands.",
        dir.display()
    ));
    Ok(())
}
