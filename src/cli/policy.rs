//! `brevet policy`: checks and tries policies by calling the evaluator on files.

mod assume;
mod live;
mod simulate;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::print::{self, TextOutputArgument};
use super::{Failure, input};
use crate::base::legible::Form;
use crate::directory::declaration::RoleDetail;
use crate::directory::resource::Resource;
use crate::directory::{self, Directory};
use crate::evaluator::lint::{Outsider, lint, outsiders};
use crate::evaluator::{Policy, PolicyKind, cases};
use crate::files::{self, Audience};

const MAX_POLICY_BYTES: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  brevet policy check --account 111122223333 trust.json
  brevet policy simulate --config brevet.toml --principal bob --action iam:GetUser
  brevet policy who-may-assume --config brevet.toml Deploy
  brevet policy may-assume --config brevet.toml bob
  brevet policy analyze directory.json";

const CHECK_EXAMPLES: &str = "\
Examples:
  brevet policy check --account 111122223333 trust.json
  brevet policy check --kind session --output json -
      Reads standard input and prints JSON.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  brevet policy explain --cases cases.jsonl NAME";

const ANALYZE_EXAMPLES: &str = "\
Examples:
  brevet policy analyze directory.json
  brevet export --config brevet.toml | brevet policy analyze -";

/// Check, try and explain policies
///
/// The code that decides is the same as in the broker. `simulate --principal`, `who-may-assume` and
/// `may-assume` read the directory that a broker serves; the others work on files, without a broker.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum PolicyCommand {
    Check(CheckArguments),
    Simulate(simulate::SimulateArguments),
    WhoMayAssume(assume::WhoMayAssumeArguments),
    MayAssume(assume::MayAssumeArguments),
    Explain(ExplainArguments),
    Analyze(AnalyzeArguments),
}

/// Check policy documents for errors and likely mistakes
///
/// Prints each finding with its file, line and column. Exits with 1 if a document is malformed;
/// warnings do not change the exit status.
#[derive(Debug, Args)]
#[command(after_long_help = CHECK_EXAMPLES)]
pub(super) struct CheckArguments {
    /// Policy documents; `-` for standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The kind of the documents [default: guessed from their elements]
    #[arg(long, value_enum)]
    kind: Option<KindArgument>,
    /// The account that owns the documents; principals of other accounts are warned of
    #[arg(long, value_name = "ACCOUNT_ID")]
    account: Option<String>,
    /// The same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// Explain the decision in one case, statement by statement
///
/// Prints the decision, the statement that made it, what each other statement did and why, and which
/// condition keys the request did not have.
#[derive(Debug, Args)]
#[command(after_long_help = EXPLAIN_EXAMPLES)]
pub(super) struct ExplainArguments {
    /// The file with the cases, as for `simulate`; `-` for standard input
    #[arg(long, value_name = "FILE")]
    cases: PathBuf,
    /// The name of the case
    name: String,
}

/// List who from outside an account may assume which of its roles
///
/// Reads every role of a directory file and prints each principal of another account, each
/// federated principal and each wildcard that its trust policy admits, with the conditions. Exits
/// with 1 if it finds any, or a role that an import would refuse.
#[derive(Debug, Args)]
#[command(after_long_help = ANALYZE_EXAMPLES)]
pub(super) struct AnalyzeArguments {
    /// A directory file, as for `brevet import`; `-` for standard input
    #[arg(
        value_name = "FILE",
        required_unless_present = "directory",
        conflicts_with = "directory"
    )]
    file: Option<PathBuf>,
    /// Another way to give FILE
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
    /// The same as --output json
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

pub(super) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(arguments) => {
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
            let documents = arguments.files.len();
            if errors > 0 {
                Err(match documents {
                    1 => "1 document is malformed".into(),
                    _ => format!("{errors} of {documents} documents are malformed").into(),
                })
            } else {
                Ok(())
            }
        }
        PolicyCommand::Simulate(arguments) => simulate::run(&arguments),
        PolicyCommand::WhoMayAssume(arguments) => assume::who_may_assume(&arguments),
        PolicyCommand::MayAssume(arguments) => assume::may_assume(&arguments),
        PolicyCommand::Explain(arguments) => explain(&arguments.cases, &arguments.name),
        PolicyCommand::Analyze(arguments) => {
            let file = arguments
                .file
                .as_ref()
                .or(arguments.directory.as_ref())
                .ok_or("FILE: is missing; name a directory file, or `-` for standard input")?;
            analyze(file, arguments.json || arguments.output.is_json())
        }
    }
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

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>>, Failure> {
    let file: Box<dyn BufRead> = if input::is_stdin(path) {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(
            std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?,
        ))
    };
    // A line that is not UTF-8 is reported as a bad case, and does not stop the others.
    let lines = file
        .split(b'\n')
        .map(|l| l.map(|l| String::from_utf8_lossy(&l).into_owned()));
    Ok(lines.filter(|l| !l.as_ref().is_ok_and(|l| l.trim().is_empty())))
}

fn decide(path: &Path) -> Result<(), Failure> {
    let (mut all, mut differ) = (0, 0);
    print::legibly(Form::Json, |out| {
        for line in lines(path)? {
            let verdict = cases::decide(&line?);
            serde_json::to_writer(&mut *out, &verdict)?;
            out.write_all(b"\n")?;
            all += 1;
            differ += usize::from(verdict.differs);
        }
        Ok(())
    })?;
    if differ > 0 {
        Err(format!("{differ} of {all} cases were not decided as expected").into())
    } else {
        Ok(())
    }
}

fn explain(path: &Path, wanted: &str) -> Result<(), Failure> {
    for line in lines(path)? {
        let line = line?;
        let Ok((name, explanation)) = cases::explain_case(&line) else {
            continue;
        };
        if name != wanted {
            continue;
        }
        print::line(cases::outcome(&explanation.decision))?;
        match explanation.decision.by {
            Some(by) => print::line(format_args!("decided by {}", cases::place(by)))?,
            None => print::line("implicitly denied: no statement allows it")?,
        }
        for statement in &explanation.statements {
            let sid = statement
                .sid
                .as_ref()
                .map(|s| format!(" ({s})"))
                .unwrap_or_default();
            let effect = if statement.denies { "Deny" } else { "Allow" };
            let (place, why) = (cases::place(statement.at), print::visible(&statement.why()));
            print::line(format_args!("  {place}{sid} {effect}: {why}"))?;
        }
        if !explanation.missing_keys.is_empty() {
            let missing = explanation.missing_keys.join(", ");
            print::line(format_args!(
                "keys that the request does not have: {missing}"
            ))?;
        }
        return Ok(());
    }
    Err(format!(
        "{path}: has no case `{wanted}` that can be decided; `brevet policy simulate --cases {path}` prints the name of each",
        path = path.display()
    )
    .into())
}

/// A finding about a role: a way in from outside its account, or the reason why an import would refuse it.
#[derive(Serialize)]
struct Found<'a> {
    role: &'a str,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Finding {
    Outsider(Outsider),
    /// An import would refuse the role; holds the reason.
    Refused {
        refused: String,
    },
}

impl Found<'_> {
    fn line(&self) -> String {
        match &self.finding {
            Finding::Refused { refused } => format!("{:<60} refused: {refused}", self.role),
            Finding::Outsider(outsider) => {
                let under = match outsider.conditions.join(" and ") {
                    none if none.is_empty() => "without conditions".to_owned(),
                    conditions => format!("if {conditions}"),
                };
                format!("{:<60} {:<60} {under}", self.role, outsider.principal)
            }
        }
    }
}

fn analyze(path: &Path, as_json: bool) -> Result<(), Failure> {
    let declaration = if input::is_stdin(path) {
        directory::parse(&input::read(path, directory::MAX_BYTES)?)
    } else {
        directory::parse(files::read(path, Audience::Everyone, directory::MAX_BYTES)?.expose())
    };
    let declaration = declaration
        .map_err(|error| super::directory_file::unread(&path.display().to_string(), &error))?;
    let mut things = directory::declared(declaration)?;
    directory::principals::show(&mut things);
    let mut roles: Vec<Box<RoleDetail>> = things
        .into_iter()
        .filter_map(|thing| {
            if let Resource::Role(role) = thing {
                Some(role)
            } else {
                None
            }
        })
        .collect();
    roles.sort_by(|a, b| a.arn.cmp(&b.arn));
    let mut findings = 0;
    print::legibly(if as_json { Form::Json } else { Form::Lines }, |out| {
        for mut role in roles {
            let account = role.arn.split(':').nth(4).unwrap_or_default().to_owned();
            let document = role
                .assume_role_policy_document
                .as_ref()
                .and_then(|d| d.text().ok())
                .unwrap_or_default();
            let trust = Policy::parse(PolicyKind::Trust, &document);
            let outsiders = trust
                .iter()
                .flat_map(|trust| outsiders(trust, &account))
                .map(Finding::Outsider);
            let mut found: Vec<Finding> = outsiders.collect();
            // An import makes missing ids, so a role without one is not refused for that.
            if role.role_id.is_empty() {
                role.role_id = "AROA0000000000000000".to_owned();
            }
            let arn = role.arn.clone();
            if let Err(error) = Directory::empty()?.insert(&Resource::Role(role), None) {
                found.push(Finding::Refused {
                    refused: error.to_string(),
                });
            }
            for finding in found {
                findings += 1;
                let found = Found {
                    role: &arn,
                    finding,
                };
                let line = if as_json {
                    serde_json::to_string(&found)?
                } else {
                    print::visible(&found.line())
                };
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    })?;
    match findings {
        0 => Ok(()),
        1 => Err("1 finding".into()),
        _ => Err(format!("{findings} findings").into()),
    }
}
