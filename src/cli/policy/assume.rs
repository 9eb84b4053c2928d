//! `brevet policy who-may-assume` and `brevet policy may-assume`: list which principals may assume
//! which roles.

use clap::Args;
use serde::Serialize;

use super::live::{ContextArgument, Live};
use crate::base::legible::Form;
use crate::cli::print::{self, TextOutputArgument};
use crate::cli::{ConfigArgument, Failure};
use crate::evaluator::Possibility;
use crate::evaluator::lint::outsiders;
use crate::trust::WhatIf;

const WHO_MAY_ASSUME_EXAMPLES: &str = "\
Examples:
  brevet policy who-may-assume --config /var/lib/brevet/brevet.toml Deploy
  brevet policy who-may-assume --config brevet.toml --json Deploy";

const MAY_ASSUME_EXAMPLES: &str = "\
Examples:
  brevet policy may-assume --config /var/lib/brevet/brevet.toml bob
  brevet policy may-assume --config brevet.toml bob --context aws:MultiFactorAuthPresent=true";

/// The action about which these commands decide.
const ASSUME_ROLE: &str = "sts:AssumeRole";

/// List who may assume a role
///
/// Decides for each user and role of the directory whether it may call AssumeRole for this role:
/// `always`, or `depends` on conditions whose values are not known, such as an MFA code, an address or
/// an external id. Then lists the other principals that the trust policy names: identity providers, and
/// principals of accounts that are not in this directory. Principals that may not assume the role are left out.
#[derive(Debug, Args)]
#[command(after_long_help = WHO_MAY_ASSUME_EXAMPLES)]
pub(in crate::cli) struct WhoMayAssumeArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The role: its ARN, or its name if only one role has it
    role: String,
    #[command(flatten)]
    context: ContextArgument,
    /// Print JSON; the same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// List the roles that a user or role may assume
///
/// Decides for each role of the directory whether the principal may call AssumeRole for it: `always`,
/// or `depends` on conditions whose values are not known. Roles that it may not assume are left out.
#[derive(Debug, Args)]
#[command(after_long_help = MAY_ASSUME_EXAMPLES)]
pub(in crate::cli) struct MayAssumeArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The user or role: its ARN, or its name if only one has it
    principal: String,
    #[command(flatten)]
    context: ContextArgument,
    /// Print JSON; the same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// A principal that may assume a role, and on what conditions.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Way {
    principal: String,
    role: String,
    /// `always`, or `depends` on the conditions.
    verdict: &'static str,
    when: Vec<String>,
    unless: Vec<String>,
}

/// Lists who may assume a role: users and roles of the directory, and other principals that its
/// trust policy names.
///
/// # Errors
/// The directory cannot be loaded, or has no such role or several of this name.
pub(super) fn who_may_assume(arguments: &WhoMayAssumeArguments) -> Result<(), Failure> {
    let live = Live::load(&arguments.config.config)?;
    let role = live.find("ROLE", &arguments.role, &["role"])?;
    let keys = arguments.context.gathered();
    let users = live.directory.users().map(|user| &*user.arn);
    let roles = live.directory.roles().map(|role| &*role.arn);
    let mut ways = Vec::new();
    for principal in users.chain(roles) {
        ways.extend(way(&live, principal, &role, &keys)?);
    }
    ways.sort_by(|a, b| a.principal.cmp(&b.principal));
    // Others are decided by policies that are not here, or by an identity provider.
    if let Some(found) = live.directory.role(&role) {
        let others = outsiders(&found.trust, found.account.as_str()).into_iter();
        for other in others.filter(|other| !is_here(&live, &other.principal)) {
            let mut when = vec!["the decision of its own account or provider".to_owned()];
            if !other.conditions.is_empty() {
                when.push(other.conditions.join(" and "));
            }
            ways.push(Way {
                principal: other.principal,
                role: role.clone(),
                verdict: "depends",
                when,
                unless: Vec::new(),
            });
        }
    }
    show(
        &ways,
        |way| &way.principal,
        arguments.json || arguments.output.is_json(),
    )
}

/// Lists the roles that a principal may assume.
///
/// # Errors
/// The directory cannot be loaded, or has no such principal or several of this name.
pub(super) fn may_assume(arguments: &MayAssumeArguments) -> Result<(), Failure> {
    let live = Live::load(&arguments.config.config)?;
    let principal = live.find("PRINCIPAL", &arguments.principal, &["user", "role"])?;
    let keys = arguments.context.gathered();
    let mut ways = Vec::new();
    for role in live.directory.roles() {
        ways.extend(way(&live, &principal, &role.arn, &keys)?);
    }
    ways.sort_by(|a, b| a.role.cmp(&b.role));
    show(
        &ways,
        |way| &way.role,
        arguments.json || arguments.output.is_json(),
    )
}

/// Decides whether the principal may assume the role. `None` if it may never.
fn way(
    live: &Live,
    principal: &str,
    role: &str,
    keys: &[(String, Vec<String>)],
) -> Result<Option<Way>, Failure> {
    let Some(question) = WhatIf::new(
        &live.directory,
        principal,
        ASSUME_ROLE,
        role,
        keys,
        live.now,
    )?
    else {
        return Ok(None);
    };
    let (verdict, when, unless) = match question.possible() {
        Possibility::Never => return Ok(None),
        Possibility::Always => ("always", Vec::new(), Vec::new()),
        Possibility::Depends { when, unless } => ("depends", when, unless),
    };
    Ok(Some(Way {
        principal: principal.to_owned(),
        role: role.to_owned(),
        verdict,
        when,
        unless,
    }))
}

/// Whether a principal in a trust policy is a user or role of this directory. Such principals are listed by themselves.
fn is_here(live: &Live, principal: &str) -> bool {
    let directory = &live.directory;
    directory.user(principal).is_some()
        || directory.role(principal).is_some()
        || directory.users().any(|user| &*user.id == principal)
        || directory.roles().any(|role| &*role.id == principal)
}

/// Prints one line for each way, as JSON or for people.
fn show(ways: &[Way], subject: fn(&Way) -> &str, as_json: bool) -> Result<(), Failure> {
    print::legibly(if as_json { Form::Json } else { Form::Lines }, |out| {
        for way in ways {
            if as_json {
                serde_json::to_writer(&mut *out, way)?;
                out.write_all(b"\n")?;
                continue;
            }
            let mut text = format!("{:<60} {}", subject(way), way.verdict);
            if !way.when.is_empty() {
                text.push_str(&format!(" on {}", way.when.join("; ")));
            }
            if !way.unless.is_empty() {
                text.push_str(&format!(
                    ", and is denied under the condition {}",
                    way.unless.join(" or ")
                ));
            }
            writeln!(out, "{}", print::visible(&text))?;
        }
        Ok(())
    })
}
