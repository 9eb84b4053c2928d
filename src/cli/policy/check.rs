//! `brevet policy check`: finds errors and likely mistakes in policy documents.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::print::{self, TextOutputArgument};
use crate::cli::{Failure, input};
use crate::evaluator::PolicyKind;
use crate::evaluator::lint::lint;

const MAX_POLICY_BYTES: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  brevet policy check --account 111122223333 trust.json
  brevet policy check --kind session --output json -
      Reads standard input and prints JSON.";

/// Check policy documents for errors and likely mistakes
///
/// Prints each finding with its file, line and column. Exits with 1 if a document is malformed;
/// warnings do not change the exit status.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct CheckArguments {
    /// Policy documents; `-` for standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The kind of the documents [default: guessed from their elements]
    #[arg(long, value_enum)]
    kind: Option<KindArgument>,
    /// The account that owns the documents; principals of other accounts cause a warning
    #[arg(long, value_name = "ACCOUNT_ID")]
    account: Option<String>,
    /// Print JSON; the same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    /// A policy of a user, group or role
    Identity,
    /// A permissions boundary
    Boundary,
    /// A session policy
    Session,
    /// A role's trust policy
    Trust,
    /// A policy of a resource
    Resource,
    /// A service control policy
    Scp,
    /// A resource control policy
    Rcp,
}

impl From<KindArgument> for PolicyKind {
    fn from(kind: KindArgument) -> Self {
        match kind {
            KindArgument::Identity => Self::Identity,
            KindArgument::Boundary => Self::Boundary,
            KindArgument::Session => Self::Session,
            KindArgument::Trust => Self::Trust,
            KindArgument::Resource => Self::Resource,
            KindArgument::Scp => Self::ServiceControl,
            KindArgument::Rcp => Self::ResourceControl,
        }
    }
}

/// Checks every file, and prints the findings.
///
/// # Errors
/// [`Failure`] if a file cannot be read, or if a document is malformed.
pub(super) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let as_json = arguments.json || arguments.output.is_json();
    let mut errors = 0;
    for file in &arguments.files {
        errors += check(
            file,
            arguments.kind.map(PolicyKind::from),
            arguments.account.as_deref(),
            as_json,
        )?;
    }
    match (errors, arguments.files.len()) {
        (0, _) => Ok(()),
        (_, 1) => Err("1 document is malformed".into()),
        (_, documents) => Err(format!("{errors} of {documents} documents are malformed").into()),
    }
}

/// Prints the findings of a file. Returns the number of malformed documents in it: 0 or 1.
fn check(
    path: &Path,
    kind: Option<PolicyKind>,
    account: Option<&str>,
    json: bool,
) -> Result<usize, Failure> {
    let text = input::read_text(path, MAX_POLICY_BYTES)?;
    let findings = lint(kind.unwrap_or_else(|| guess(&text)), &text, account);
    for finding in &findings {
        if json {
            print::json_line(finding)?;
        } else {
            let place = format!("{}:{}:{}", path.display(), finding.line, finding.column);
            let (level, message) = (finding.level, print::visible(&finding.message));
            print::line(format_args!(
                "{place}: {level}: {message} [{}] at {}",
                finding.check, finding.pointer
            ))?;
        }
    }
    if findings.is_empty() && !json {
        print::line(format_args!("{}: ok", path.display()))?;
    }
    Ok(usize::from(findings.iter().any(|f| f.level == "error")))
}

/// Guesses the kind of a policy: a trust policy has principals and no resources, a resource policy has
/// both, an identity policy has no principals.
fn guess(text: &str) -> PolicyKind {
    match (text.contains("Principal\""), text.contains("Resource\"")) {
        (true, false) => PolicyKind::Trust,
        (true, true) => PolicyKind::Resource,
        _ => PolicyKind::Identity,
    }
}
