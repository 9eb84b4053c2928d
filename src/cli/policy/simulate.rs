//! `brevet policy simulate`: decides whether somebody may do something, or decides test cases.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::live::{ContextArgument, Live};
use super::statements::{effect, missing_keys, statement_line};
use crate::base::legible::Form;
use crate::cli::Failure;
use crate::cli::print::{self, TextOutputArgument};
use crate::directory::Directory;
use crate::evaluator::{Explanation, Outcome, Simulation, Source, StatementRef, cases};
use crate::trust::WhatIf;

const EXAMPLES: &str = "\
Examples:
  brevet policy simulate --config brevet.toml --principal bob --action iam:GetUser
  brevet policy simulate --config brevet.toml --principal bob --action s3:Get --context a:b=c
  brevet policy simulate --cases cases.jsonl";

/// Decide whether a user or role may perform an action, or decide test cases
///
/// With --principal, decides as the broker would if the user or a session of the role made the request now. The
/// decision takes into account everything that the broker would use: policies, groups, the permissions boundary, the
/// control policies of the organization, tags, and the trust policy of a role to be assumed. Prints the decision, what
/// each statement did and why, and which condition keys were not given. Exits with 0 if the action is allowed and with
/// 1 if it is denied.
///
/// With --cases, reads one test case as a JSON object from each line of the file, and prints one line of JSON with the
/// decision of each case. Exits with 1 if a case differs from what it expects. tests/data/policy/FORMAT.md of the
/// source describes the format.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct SimulateArguments {
    /// The file with the cases; `-` for standard input
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "principal",
        conflicts_with = "principal"
    )]
    cases: Option<PathBuf>,
    /// The user or role: its ARN, or its name if only one has it
    #[arg(long, value_name = "ARN", requires = "action", requires = "config")]
    principal: Option<String>,
    /// The action, such as `sts:AssumeRole`
    #[arg(long, requires = "principal")]
    action: Option<String>,
    /// The ARN of the resource, or the name of a role
    #[arg(long, value_name = "ARN", default_value = "*")]
    resource: String,
    #[command(flatten)]
    context: ContextArgument,
    /// The broker's configuration file
    #[arg(long, env = "BREVET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON; the same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
}

pub(super) fn run(arguments: &SimulateArguments) -> Result<(), Failure> {
    if let Some(cases) = &arguments.cases {
        return super::test_cases::decide(cases);
    }
    let (Some(principal), Some(action), Some(config)) =
        (&arguments.principal, &arguments.action, &arguments.config)
    else {
        return Err("give either --cases, or --config, --principal and --action".into());
    };
    ask(&Question {
        config,
        principal,
        action,
        resource: &arguments.resource,
        context: &arguments.context,
        as_json: arguments.json || arguments.output.is_json(),
    })
}

/// A question: may this principal do this with this resource?
struct Question<'a> {
    config: &'a Path,
    principal: &'a str,
    action: &'a str,
    resource: &'a str,
    context: &'a ContextArgument,
    as_json: bool,
}

/// Decides a question from the directory, and prints the decision with its reasons.
///
/// # Errors
/// The action is not one name, the directory cannot be loaded, it has no such principal or role or several of this
/// name, or the request is denied.
fn ask(asked: &Question<'_>) -> Result<(), Failure> {
    if !names_one_action(asked.action) {
        return Err(
            "--action: must be `service:Name` without wildcards, such as `sts:AssumeRole`".into(),
        );
    }
    let live = Live::load(asked.config)?;
    let principal = live.find("--principal", asked.principal, &["user", "role"])?;
    let resource = match asked.resource {
        any if any == "*" || any.starts_with("arn:") => any.to_owned(),
        name => live.find("--resource", name, &["role"])?,
    };
    let keys = asked.context.gathered();
    let question = WhatIf::new(
        &live.directory,
        &principal,
        asked.action,
        &resource,
        &keys,
        live.now,
    )?;
    let question = question.ok_or(
        "--principal: the directory has no such user, role or session (check the spelling)",
    )?;
    let (simulation, explanation) = question.explain();
    let answer = Answer {
        principal: &principal,
        action: asked.action,
        resource: &resource,
        policy_names: live.policy_names(&principal)?,
        boundary: boundary(&live.directory, &principal),
        simulation,
        explanation,
    };
    if asked.as_json {
        print::json(&answer.json())?;
    } else {
        print::legibly(Form::Lines, |out| Ok(answer.write(out)?))?;
    }
    if answer.simulation.outcome == Outcome::Allowed {
        Ok(())
    } else {
        Err(format!("{principal} is not allowed to perform this action").into())
    }
}

/// Whether the text is `service:Name` without wildcards.
fn names_one_action(text: &str) -> bool {
    let parts = text.split_once(':');
    parts.is_some_and(|(service, name)| !service.is_empty() && !name.is_empty())
        && !text.contains(['*', '?'])
}

/// The ARN of the permissions boundary of a user or role.
fn boundary<'a>(directory: &'a Directory, principal: &str) -> Option<&'a str> {
    let of_user = directory.user(principal).and_then(|user| user.boundary());
    of_user.or_else(|| directory.role(principal).and_then(|role| role.boundary()))
}

/// The decision about a question, and the names with which it is explained.
struct Answer<'a> {
    principal: &'a str,
    action: &'a str,
    resource: &'a str,
    /// The names of the principal's identity policies and those of its groups, in the order of their numbers in the
    /// decision.
    policy_names: Vec<String>,
    boundary: Option<&'a str>,
    simulation: Simulation,
    explanation: Explanation,
}

impl Answer<'_> {
    fn decision(&self) -> &'static str {
        match self.simulation.outcome {
            Outcome::Allowed => "allowed",
            Outcome::ExplicitlyDenied => "explicitDeny",
            Outcome::ImplicitlyDenied => "implicitDeny",
        }
    }

    /// Describes where a statement is, with the name of its policy if that is known.
    fn place(&self, at: StatementRef) -> String {
        let policy = match at.source {
            Source::Identity(i) => self.policy_names.get(i).cloned(),
            Source::Resource => Some(format!("trust policy of {}", self.resource)),
            Source::Boundary => self
                .boundary
                .map(|arn| format!("permissions boundary {arn}")),
            _ => None,
        };
        match policy {
            Some(policy) => format!("{policy}, statement {}", at.index),
            None => cases::place(at),
        }
    }

    fn json(&self) -> Value {
        let (simulation, statements) = (&self.simulation, self.explanation.statements.iter());
        let statements = statements.map(|s| {
            json!({
                "Statement": self.place(s.at), "Sid": s.sid, "Effect": effect(s),
                "Applies": s.applies, "Why": s.why(),
            })
        });
        let matched = simulation.matched.iter().map(|at| self.place(*at));
        json!({
            "Principal": self.principal, "Action": self.action, "Resource": self.resource,
            "Decision": self.decision(),
            "MatchedStatements": matched.collect::<Vec<_>>(),
            "MissingContextValues": simulation.missing_keys,
            "AllowedByPermissionsBoundary": simulation.boundary,
            "AllowedByOrganizations": simulation.organization,
            "Statements": statements.collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let simulation = &self.simulation;
        writeln!(out, "{}", self.decision())?;
        for at in &simulation.matched {
            writeln!(out, "decided by {}", print::visible(&self.place(*at)))?;
        }
        if simulation.boundary == Some(false) {
            writeln!(out, "the permissions boundary does not allow the action")?;
        }
        if simulation.organization == Some(false) {
            writeln!(
                out,
                "the control policies of the organization do not allow the action"
            )?;
        }
        for statement in &self.explanation.statements {
            writeln!(
                out,
                "{}",
                statement_line(&self.place(statement.at), statement)
            )?;
        }
        if let Some(missing) = missing_keys(&simulation.missing_keys) {
            writeln!(out, "{missing}")?;
        }
        Ok(())
    }
}
