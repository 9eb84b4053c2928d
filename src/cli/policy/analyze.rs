//! `brevet policy analyze`: lists who from outside an account may assume which of its roles.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::base::arn::account_of;
use crate::base::legible::Form;
use crate::cli::print::{self, TextOutputArgument};
use crate::cli::{Failure, input};
use crate::directory::declaration::RoleDetail;
use crate::directory::resource::Resource;
use crate::directory::{self, Directory};
use crate::evaluator::lint::{Outsider, outsiders};
use crate::evaluator::{Policy, PolicyKind};
use crate::files::{self, Audience};

const EXAMPLES: &str = "\
Examples:
  brevet policy analyze directory.json
  brevet export --config brevet.toml | brevet policy analyze -";

/// List the principals outside an account that may assume its roles
///
/// Reads every role of a directory file and prints each principal of another account, each federated principal and each
/// wildcard that its trust policy allows, with the conditions. Exits with 1 if it finds such a principal, or a role
/// that an import would refuse.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct AnalyzeArguments {
    /// A directory file, as for `brevet import`; `-` for standard input
    #[arg(
        value_name = "FILE",
        required_unless_present = "directory",
        conflicts_with = "directory"
    )]
    file: Option<PathBuf>,
    /// The directory file; the same as FILE
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
    /// Print JSON; the same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
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

/// Prints which principals from outside an account may assume the account's roles.
///
/// # Errors
/// [`Failure`] if the file cannot be read or is not a directory file, or if there is a finding.
pub(super) fn run(arguments: &AnalyzeArguments) -> Result<(), Failure> {
    let as_json = arguments.json || arguments.output.is_json();
    let path = arguments
        .file
        .as_ref()
        .or(arguments.directory.as_ref())
        .ok_or("FILE: is missing; name a directory file, or `-` for standard input")?;
    let roles = roles(path)?;
    let mut number = 0;
    print::legibly(if as_json { Form::Json } else { Form::Lines }, |out| {
        for role in roles {
            let arn = role.arn.clone();
            for finding in findings(role)? {
                number += 1;
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
    match number {
        0 => Ok(()),
        1 => Err("1 finding is listed above".into()),
        _ => Err(format!("{number} findings are listed above").into()),
    }
}

/// The roles of a directory file, sorted by ARN.
fn roles(path: &Path) -> Result<Vec<RoleDetail>, Failure> {
    let declaration = if input::is_stdin(path) {
        directory::parse(&input::read(path, directory::MAX_BYTES)?)
    } else {
        directory::parse(files::read(path, Audience::Everyone, directory::MAX_BYTES)?.expose())
    };
    let declaration = declaration
        .map_err(|error| crate::cli::directory_file::unread(&path.display().to_string(), &error))?;
    let mut things = directory::declared(declaration)?;
    directory::principals::show(&mut things);
    let mut roles: Vec<RoleDetail> = things
        .into_iter()
        .filter_map(|thing| {
            if let Resource::Role(role) = thing {
                Some(*role)
            } else {
                None
            }
        })
        .collect();
    roles.sort_by(|a, b| a.arn.cmp(&b.arn));
    Ok(roles)
}

/// Finds all ways into a role from outside, or the reason why an import would refuse the role.
///
/// # Errors
/// [`Failure`] if an empty directory does not compile, which cannot happen.
fn findings(mut role: RoleDetail) -> Result<Vec<Finding>, Failure> {
    let account = account_of(&role.arn).to_owned();
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
    if let Err(error) = Directory::empty()?.insert(&Resource::Role(Box::new(role)), None) {
        found.push(Finding::Refused {
            refused: error.to_string(),
        });
    }
    Ok(found)
}
