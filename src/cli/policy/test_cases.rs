//! `brevet policy explain` and `brevet policy simulate --cases`: decide test cases from a file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;

use super::statements::{missing_keys, statement_line};
use crate::base::legible::Form;
use crate::cli::print;
use crate::cli::{Failure, input};
use crate::evaluator::cases;

const EXAMPLES: &str = "\
Examples:
  brevet policy explain --cases cases.jsonl NAME";

/// Explain the decision in one case, statement by statement
///
/// Prints the decision, the statement that made it, what each other statement did and why, and which
/// condition keys the request did not have.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct ExplainArguments {
    /// The file with the cases, as for `simulate`; `-` for standard input
    #[arg(long, value_name = "FILE")]
    cases: PathBuf,
    /// The name of the case to explain
    name: String,
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

/// Decides the cases of a file, and prints a line of JSON for each.
///
/// # Errors
/// [`Failure`] if the file cannot be read, or if a case is not decided as it expects.
pub(super) fn decide(path: &Path) -> Result<(), Failure> {
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

/// Explains the decision of the case with the given name.
///
/// # Errors
/// [`Failure`] if the file cannot be read or has no case with this name, or the case is not valid or has no decision.
pub(super) fn explain(arguments: &ExplainArguments) -> Result<(), Failure> {
    let (path, wanted) = (&arguments.cases, &arguments.name);
    for line in lines(path)? {
        let line = line?;
        let explanation = match cases::explain_case(&line) {
            Ok((name, explanation)) if name == *wanted => explanation,
            Err(error) if error.name == *wanted => {
                let text = error.text;
                return Err(format!("{}: the case `{wanted}`: {text}", path.display()).into());
            }
            Ok(_) | Err(_) => continue,
        };
        print::line(cases::outcome(&explanation.decision))?;
        match explanation.decision.by {
            Some(by) => print::line(format_args!("decided by {}", cases::place(by)))?,
            None => print::line(
                "implicitly denied: at least one kind of policy that must allow the request does \
                not",
            )?,
        }
        for statement in &explanation.statements {
            print::line(statement_line(&cases::place(statement.at), statement))?;
        }
        if let Some(missing) = missing_keys(&explanation.missing_keys) {
            print::line(missing)?;
        }
        return Ok(());
    }
    Err(format!(
        "{path}: has no case named `{wanted}`; `brevet policy simulate --cases {path}` prints the names of all cases, \
         and why a line is not a case",
        path = path.display()
    )
    .into())
}
