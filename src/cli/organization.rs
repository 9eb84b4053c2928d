//! `brevet organization`: turns what `aws organizations` prints into a file that `brevet import` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failure, input, print};
use crate::directory::{self, Directory};

/// The maximum size of a file in bytes.
const MAX_BYTES: u64 = 64 << 20;
const SERVICE_CONTROL_POLICY: &str = "SERVICE_CONTROL_POLICY";
const RESOURCE_CONTROL_POLICY: &str = "RESOURCE_CONTROL_POLICY";
/// The policies of AWS that allow everything; their documents need not be given.
const AWS_MANAGED: [&str; 2] = ["p-FullAWSAccess", "p-RCPFullAWSAccess"];

const EXAMPLES: &str = "\
Examples:
  brevet organization declare printed/ > organization.json
      Combines the files in a folder into one declaration.
  brevet organization declare printed/ | brevet import --config brevet.toml -
      Shows what the declaration would change in the directory.";

const DECLARE_EXAMPLES: &str = "\
Examples:
  brevet organization declare printed/ > organization.json
  brevet import --config brevet.toml organization.json --apply";

/// Import the control policies of an AWS organization into the directory
///
/// The broker enforces the service and resource control policies of the organization that its directory
/// declares.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum OrganizationCommand {
    Declare(DeclareArguments),
}

/// Combine the output of `aws organizations` into one file for `brevet import`
///
/// Reads the JSON that these commands of `aws organizations` print, each in a file of its own:
/// describe-organization, list-roots, list-organizational-units-for-parent, list-accounts-for-parent,
/// list-policies, describe-policy and list-targets-for-policy. The output of some commands does not contain the id of
/// the parent or policy that they were run for, so the name of such a file must contain that id between dots:
/// `units.r-exam.json`, `accounts.ou-exam-11111111.json`, `targets.p-examplepolicy.json`. If a file is missing, the
/// command prints nothing on standard output.
#[derive(Debug, Args)]
#[command(after_long_help = DECLARE_EXAMPLES)]
pub(super) struct DeclareArguments {
    /// The files; a folder stands for its files that end in `.json`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(command: OrganizationCommand) -> Result<(), Failure> {
    match command {
        OrganizationCommand::Declare(arguments) => declare(&arguments),
    }
}

fn declare(arguments: &DeclareArguments) -> Result<(), Failure> {
    let mut printed = Printed::default();
    for path in files(&arguments.files)? {
        let name = path.display().to_string();
        let text = input::read_text(&path, MAX_BYTES)?;
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("{name}: {e}"))?;
        printed
            .take(asked_for(&path), value)
            .map_err(|rule| format!("{name}: {rule}"))?;
    }
    let file = json!({"Brevet": {"Organization": printed.organization()?}});
    // The rules of the directory have the last word.
    let declaration = directory::parse(file.to_string().as_bytes())?;
    Directory::from_declaration(declaration, None)?;
    print::json(&file)
}

/// Lists the files to read. A folder stands for its JSON files, sorted by name.
fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in given {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                inside.push(file);
            }
        }
        inside.sort();
        all.append(&mut inside);
    }
    Ok(all)
}

/// Finds the id of the requested parent or policy, which the file's name contains between dots.
fn asked_for(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let is_id = |part: &&str| {
        ["r-", "ou-", "p-"]
            .iter()
            .any(|prefix| part.starts_with(prefix))
    };
    stem.split('.').rev().find(is_id).map(str::to_owned)
}

/// The collected content of the files that were read so far.
#[derive(Default)]
struct Printed {
    organization: Option<Value>,
    roots: Vec<Value>,
    units: Vec<Value>,
    accounts: Vec<Value>,
    /// The parents whose units were listed.
    units_of: BTreeSet<String>,
    accounts_of: BTreeSet<String>,
    /// The ids and types of the policies that were listed.
    listed: BTreeMap<String, String>,
    /// Policies with their documents, by id.
    policies: BTreeMap<String, Value>,
    targets: BTreeMap<String, Value>,
}

impl Printed {
    /// Adds the content of one file. `asked_for` is the id of the parent or policy in the file's name, if there is one.
    fn take(&mut self, asked_for: Option<String>, value: Value) -> Result<(), String> {
        let Value::Object(mut answer) = value else {
            return Err("must be a JSON object, as `aws organizations` prints it".to_owned());
        };
        if answer
            .remove("NextToken")
            .is_some_and(|token| !token.is_null())
        {
            return Err(
                "the file has only one page of the output; run the command of `aws organizations` again without \
                 `--max-items` and `--no-paginate`"
                    .to_owned(),
            );
        }
        let parent = || {
            asked_for.clone().ok_or_else(|| {
                "the name of the file must contain, between dots, the id of the parent or policy that the command was \
                 run for: \
                 `units.r-exam.json`, `accounts.r-exam.json`, `targets.p-example.json`"
                    .to_owned()
            })
        };
        for (name, value) in answer {
            match name.as_str() {
                "Organization" => self.organization = Some(value),
                "Roots" => self.roots = list(&name, value)?,
                "OrganizationalUnits" => {
                    let parent = parent()?;
                    self.units.extend(with_parent(&name, value, &parent)?);
                    self.units_of.insert(parent);
                }
                "Accounts" => {
                    let parent = parent()?;
                    self.accounts.extend(with_parent(&name, value, &parent)?);
                    self.accounts_of.insert(parent);
                }
                "Policies" => {
                    for summary in list(&name, value)? {
                        let (id, kind) = (text(&summary, "Id"), text(&summary, "Type"));
                        self.listed.insert(id, kind);
                    }
                }
                "Policy" => {
                    let id = text(value.get("PolicySummary").unwrap_or(&Value::Null), "Id");
                    self.policies.insert(id, value);
                }
                "Targets" => {
                    self.targets.insert(parent()?, value);
                }
                other => {
                    return Err(format!(
                        "no supported command of `aws organizations` prints a field `{other}`; remove this file from \
                        the folder"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Makes the organization from the content of all files.
    ///
    /// # Errors
    /// A text that says which part is missing or has the wrong form.
    fn organization(mut self) -> Result<Value, String> {
        let Some(mut organization) = self.organization.take() else {
            return Err(missing("describe-organization", "organization.json"));
        };
        self.check_parents()?;
        let policies = self.enabled_policies()?;
        for (name, value) in [
            ("Roots", self.roots),
            ("OrganizationalUnits", self.units),
            ("Accounts", self.accounts),
            ("Policies", policies),
        ] {
            set(&mut organization, name, Value::Array(value))?;
        }
        Ok(organization)
    }

    /// Checks that the units and accounts of every root and unit were listed.
    fn check_parents(&self) -> Result<(), String> {
        if self.roots.is_empty() {
            return Err(missing("list-roots", "roots.json"));
        }
        let parents = self.roots.iter().chain(&self.units);
        for parent in parents.map(|parent| text(parent, "Id")) {
            if !self.units_of.contains(&parent) {
                let command = format!("list-organizational-units-for-parent --parent-id {parent}");
                return Err(missing(&command, &format!("units.{parent}.json")));
            }
            if !self.accounts_of.contains(&parent) {
                let command = format!("list-accounts-for-parent --parent-id {parent}");
                return Err(missing(&command, &format!("accounts.{parent}.json")));
            }
        }
        Ok(())
    }

    /// Collects the service and resource control policies, if their type is enabled at a root.
    fn enabled_policies(&mut self) -> Result<Vec<Value>, String> {
        let types = self
            .roots
            .iter()
            .filter_map(|root| root.get("PolicyTypes")?.as_array())
            .flatten();
        let enabled: BTreeSet<String> = types.map(|summary| text(summary, "Type")).collect();
        let mut policies = Vec::new();
        for kind in [SERVICE_CONTROL_POLICY, RESOURCE_CONTROL_POLICY] {
            if !enabled.contains(kind) {
                continue;
            }
            let ids = self
                .listed
                .iter()
                .filter(|(_, of)| *of == kind)
                .map(|(id, _)| id.clone());
            let ids: Vec<String> = ids.collect();
            if ids.is_empty() {
                return Err(missing(
                    &format!("list-policies --filter {kind}"),
                    &format!("policies.{kind}.json"),
                ));
            }
            for id in ids {
                policies.push(self.policy(&id, kind)?);
            }
        }
        Ok(policies)
    }

    /// Makes one policy with its targets.
    fn policy(&mut self, id: &str, kind: &str) -> Result<Value, String> {
        let targets = self.targets.remove(id).ok_or_else(|| {
            missing(
                &format!("list-targets-for-policy --policy-id {id}"),
                &format!("targets.{id}.json"),
            )
        })?;
        let mut policy = match self.policies.remove(id) {
            Some(policy) => policy,
            None if AWS_MANAGED.contains(&id) => {
                json!({"PolicySummary": {"Id": id, "Type": kind, "AwsManaged": true}})
            }
            None => {
                return Err(missing(
                    &format!("describe-policy --policy-id {id}"),
                    &format!("policy.{id}.json"),
                ));
            }
        };
        set(&mut policy, "Targets", targets)?;
        Ok(policy)
    }
}

fn missing(command: &str, file: &str) -> String {
    format!(
        "the output of `aws organizations {command}` is missing: save it in a file such as {file}"
    )
}

fn list(name: &str, value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(format!(
            "`{name}` must be a JSON array, as `aws organizations` prints it"
        )),
    }
}

/// Adds the id of the parent to each member of a list that AWS printed for this parent.
fn with_parent(name: &str, value: Value, parent: &str) -> Result<Vec<Value>, String> {
    let mut list = list(name, value)?;
    for member in &mut list {
        set(member, "ParentId", json!(parent))?;
    }
    Ok(list)
}

fn set(object: &mut Value, name: &str, value: Value) -> Result<(), String> {
    let fields = object.as_object_mut();
    let fields = fields.ok_or_else(|| {
        "must have a JSON object for each entry, as `aws organizations` prints \
        it"
        .to_owned()
    })?;
    fields.insert(name.to_owned(), value);
    Ok(())
}

fn text(value: &Value, name: &str) -> String {
    let text = value.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
