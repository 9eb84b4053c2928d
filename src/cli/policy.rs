//! `brevet policy`: thin faces on the evaluator.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::Serialize;

use super::{Failure, PolicyCommand, PolicyKind};
use crate::directory::declaration::Role;
use crate::directory::resource::Resource;
use crate::directory::{self, Directory};
use crate::evaluator::lint::{Outsider, lint, outsiders};
use crate::evaluator::{Kind, Policy, simulate};
use crate::files::{self, Audience};

pub(super) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check { files, kind, account, json } => {
            let mut errors = 0;
            for file in &files {
                errors += check(file, kind.map(Kind::from), account.as_deref(), json)?;
            }
            if errors > 0 { Err(format!("{errors} of {} documents are malformed", files.len()).into()) } else { Ok(()) }
        }
        PolicyCommand::Simulate { cases } => decide(&cases),
        PolicyCommand::Explain { cases, name } => explain(&cases, &name),
        PolicyCommand::Analyze { file, directory, json } => {
            let file = file.or(directory).ok_or("name a directory file")?;
            analyze(&file, json)
        }
    }
}

impl From<PolicyKind> for Kind {
    fn from(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::Identity => Self::Identity,
            PolicyKind::Boundary => Self::Boundary,
            PolicyKind::Session => Self::Session,
            PolicyKind::Trust => Self::Trust,
            PolicyKind::Resource => Self::Resource,
            PolicyKind::Scp => Self::ServiceControl,
            PolicyKind::Rcp => Self::ResourceControl,
        }
    }
}

/// Prints a file's findings; 1 if it is malformed.
fn check(path: &Path, kind: Option<Kind>, account: Option<&str>, json: bool) -> Result<usize, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let findings = lint(kind.unwrap_or_else(|| guess(&text)), &text, account);
    for finding in &findings {
        if json {
            println!("{}", serde_json::to_string(finding)?);
        } else {
            let place = format!("{}:{}:{}", path.display(), finding.line, finding.column);
            println!("{place}: {}: {} [{}] at {}", finding.level, finding.message, finding.check, finding.pointer);
        }
    }
    if findings.is_empty() && !json {
        println!("{}: ok", path.display());
    }
    Ok(usize::from(findings.iter().any(|f| f.level == "error")))
}

/// Principals without resources are a trust policy's, with resources a resource policy's.
fn guess(text: &str) -> Kind {
    match (text.contains("Principal\""), text.contains("Resource\"")) {
        (true, false) => Kind::Trust,
        (true, true) => Kind::Resource,
        _ => Kind::Identity,
    }
}

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>>, Failure> {
    let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    // A line that is not UTF-8 is a bad line, and no reason to stop.
    let lines = BufReader::new(file).split(b'\n').map(|l| l.map(|l| String::from_utf8_lossy(&l).into_owned()));
    Ok(lines.filter(|l| !l.as_ref().is_ok_and(|l| l.trim().is_empty())))
}

fn decide(path: &Path) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut all, mut differ) = (0, 0);
    for line in lines(path)? {
        let verdict = simulate::simulate(&line?);
        serde_json::to_writer(&mut out, &verdict)?;
        out.write_all(b"\n")?;
        all += 1;
        differ += usize::from(verdict.differs);
    }
    out.flush()?;
    if differ > 0 { Err(format!("{differ} of {all} cases differ from what they expect").into()) } else { Ok(()) }
}

fn explain(path: &Path, wanted: &str) -> Result<(), Failure> {
    for line in lines(path)? {
        let line = line?;
        let Ok((name, explanation)) = simulate::explain_case(&line) else { continue };
        if name != wanted {
            continue;
        }
        println!("{}", simulate::outcome(&explanation.decision));
        match explanation.decision.by {
            Some(by) => println!("decided by {}", simulate::place(by)),
            None => println!("nothing that is needed allows it"),
        }
        for statement in &explanation.statements {
            let sid = statement.sid.as_ref().map(|s| format!(" ({s})")).unwrap_or_default();
            let effect = if statement.denies { "Deny" } else { "Allow" };
            println!("  {}{sid} {effect}: {}", simulate::place(statement.at), statement.why());
        }
        if !explanation.missing_keys.is_empty() {
            println!("keys that the request does not have: {}", explanation.missing_keys.join(", "));
        }
        return Ok(());
    }
    Err(format!("{}: has no decision case `{wanted}`", path.display()).into())
}

/// A way into a role from outside its account.
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
    /// An import would refuse the role.
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
                    none if none.is_empty() => "without condition".to_owned(),
                    conditions => format!("where {conditions}"),
                };
                format!("{:<60} {:<60} {under}", self.role, outsider.principal)
            }
        }
    }
}

fn analyze(path: &Path, json: bool) -> Result<(), Failure> {
    let bytes = files::read(path, Audience::Everyone, directory::MAX_BYTES)?;
    let mut roles: Vec<Box<Role>> = directory::declared(directory::parse(bytes.expose())?)?
        .into_iter()
        .filter_map(|thing| if let Resource::Role(role) = thing { Some(role) } else { None })
        .collect();
    roles.sort_by(|a, b| a.arn.cmp(&b.arn));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut findings = 0;
    for mut role in roles {
        let account = role.arn.split(':').nth(4).unwrap_or_default().to_owned();
        let document = role.assume_role_policy_document.as_ref().and_then(|d| d.text().ok()).unwrap_or_default();
        let trust = Policy::parse(Kind::Trust, &document);
        let outsiders = trust.iter().flat_map(|trust| outsiders(trust, &account)).map(Finding::Outsider);
        let mut found: Vec<Finding> = outsiders.collect();
        // An import gives ids; without one the role is looked at all the same.
        if role.role_id.is_empty() {
            role.role_id = "AROA0000000000000000".to_owned();
        }
        let arn = role.arn.clone();
        if let Err(error) = Directory::empty()?.take(&Resource::Role(role), None) {
            found.push(Finding::Refused { refused: error.to_string() });
        }
        for finding in found {
            findings += 1;
            let found = Found { role: &arn, finding };
            let line = if json { serde_json::to_string(&found)? } else { found.line() };
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    if findings > 0 { Err(format!("{findings} findings").into()) } else { Ok(()) }
}
