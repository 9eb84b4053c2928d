//! Questions about the directory that a broker serves: may a principal do something, who may assume a
//! role, and what may a principal assume. Decided as the broker decides, beside the broker.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::base::arn::{AccountId, IamArn, account_of, name_of};
use crate::base::clock::Timestamp;
use crate::base::legible::Form;
use crate::cli::{Failure, clock, print, store};
use crate::config::Config;
use crate::directory::Directory;
use crate::directory::declaration::{Attached, InlinePolicy};
use crate::directory::resource::{Resource, ResourceKind};
use crate::directory_file::DirectoryFile;
use crate::evaluator::lint::outsiders;
use crate::evaluator::{Outcome, Possibility, Source, StatementRef, cases};
use crate::server;
use crate::store::{DirectoryEntries, Store};
use crate::trust::WhatIf;

/// The action that assumes a role.
const ASSUME_ROLE: &str = "sts:AssumeRole";

/// The directory of a broker, and where its entries can be read in their declared form.
struct Live {
    directory: Directory,
    store: Option<(tokio::runtime::Runtime, Store)>,
    now: Timestamp,
}

impl Live {
    /// Loads what the broker of this configuration serves: its directory file, or the directory in
    /// its store.
    fn load(config: &Path) -> Result<Self, Failure> {
        let config = Config::load(config)?;
        let now = clock::now(&config)?;
        if let Some(path) = &config.directory {
            let file =
                DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref())?;
            let entropy = crate::base::entropy::SystemEntropy::new();
            let compiled = file.compile(&DirectoryEntries::default(), &entropy)?;
            return Ok(Self {
                directory: compiled.directory,
                store: None,
                now,
            });
        }
        let (_, master_key) = store::master_key(&config)?;
        let (runtime, opened) = store::opened(&config, Some(&master_key))?;
        let directory = runtime.block_on(server::load_store(&opened, &Arc::new(master_key)))?;
        Ok(Self {
            directory,
            store: Some((runtime, opened)),
            now,
        })
    }

    /// The declared form of an entry.
    fn entry(&self, kind: ResourceKind, id: &str) -> Result<Option<Resource>, Failure> {
        let Some((runtime, store)) = &self.store else {
            let declared = self.directory.declared();
            let mut entries = declared.iter().flat_map(|entries| entries.values());
            return Ok(entries
                .find(|e| e.kind() == kind && e.name().id == id)
                .cloned());
        };
        let rows = runtime.block_on(store.get_all(kind, vec![id.to_owned()]))?;
        let row = rows.into_iter().next();
        Ok(row
            .map(|(_, row)| Resource::parse(kind, &row.body))
            .transpose()?)
    }

    /// The ARN of the user or role that is named by its ARN, or by its name if there is only one.
    fn find(&self, field: &str, text: &str, kinds: &[&str]) -> Result<String, Failure> {
        let users = self.directory.users().map(|user| &*user.arn);
        let roles = self.directory.roles().map(|role| &*role.arn);
        let all = users
            .chain(roles)
            .filter(|arn| IamArn::parse(arn).is_some_and(|arn| kinds.contains(&arn.kind)));
        let is_it = |arn: &&str| *arn == text || name_of(arn).eq_ignore_ascii_case(text);
        let mut found: Vec<&str> = all.filter(is_it).collect();
        // A name as it is written is meant before one that differs in case.
        if found.iter().any(|arn| name_of(arn) == text) {
            found.retain(|arn| name_of(arn) == text);
        }
        found.sort_unstable();
        match found.as_slice() {
            [arn] => Ok((*arn).to_owned()),
            [] => Err(format!(
                "{field}: there is no {} `{text}` in the directory",
                kinds.join(" or ")
            )
            .into()),
            several => Err(format!(
                "{field}: `{text}` is the name of {}; use the ARN",
                several.join(" and ")
            )
            .into()),
        }
    }

    /// The names of a principal's policies, in the order in which the directory has them: its own, and
    /// then those of each group.
    fn policy_names(&self, arn: &str) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let user = self.entry(ResourceKind::User, arn)?;
        let entry = match user {
            Some(user) => Some(user),
            None => self.entry(ResourceKind::Role, arn)?,
        };
        match entry {
            Some(Resource::User(user)) => {
                let holder = format!("user {}", user.user_name);
                let attached = &user.attached_managed_policies;
                add_names(&mut names, &holder, &user.user_policy_list, attached);
                for name in &user.group_list {
                    names.extend(self.group_policy_names(arn, name)?);
                }
            }
            Some(Resource::Role(role)) => {
                let holder = format!("role {}", role.role_name);
                let attached = &role.attached_managed_policies;
                add_names(&mut names, &holder, &role.role_policy_list, attached);
            }
            _ => {}
        }
        Ok(names)
    }

    /// The names of the policies of a user's group.
    fn group_policy_names(&self, user: &str, name: &str) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let group = AccountId::parse(account_of(user))
            .and_then(|account| self.directory.group_named(account, name));
        let entry = match group {
            Some(group) => self.entry(ResourceKind::Group, &group.arn)?,
            None => None,
        };
        if let Some(Resource::Group(group)) = entry {
            let holder = format!("group {}", group.group_name);
            let attached = &group.attached_managed_policies;
            add_names(&mut names, &holder, &group.group_policy_list, attached);
        }
        Ok(names)
    }
}

fn add_names(
    names: &mut Vec<String>,
    holder: &str,
    inline: &[InlinePolicy],
    attached: &[Attached],
) {
    let inline = inline
        .iter()
        .map(|policy| format!("policy {} of {holder}", policy.policy_name));
    names.extend(inline);
    let attached = attached
        .iter()
        .map(|policy| format!("policy {} of {holder}", policy.policy_arn));
    names.extend(attached);
}

/// `brevet policy simulate` for a principal of the directory.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub config: &'a Path,
    pub principal: &'a str,
    pub action: &'a str,
    pub resource: &'a str,
    pub context: &'a [(String, String)],
    pub as_json: bool,
}

/// Decides whether a principal of the directory may do something, and says why.
///
/// # Errors
/// The directory cannot be loaded, the principal does not exist, or the request is denied.
pub(super) fn simulate(asked: &Question<'_>) -> Result<(), Failure> {
    let live = Live::load(asked.config)?;
    let principal = live.find("--principal", asked.principal, &["user", "role"])?;
    let resource = match asked.resource {
        any if any == "*" || any.starts_with("arn:") => any.to_owned(),
        name => live.find("--resource", name, &["role"])?,
    };
    let keys = gathered(asked.context);
    let question = WhatIf::new(
        &live.directory,
        &principal,
        asked.action,
        &resource,
        &keys,
        live.now,
    )?;
    let question = question.ok_or("--principal: is no longer in the directory")?;
    let (simulation, explanation) = question.explain();
    let names = live.policy_names(&principal)?;
    let boundary = live
        .directory
        .user(&principal)
        .and_then(|user| user.boundary());
    let boundary = boundary.or_else(|| {
        live.directory
            .role(&principal)
            .and_then(|role| role.boundary())
    });
    let place = |at: StatementRef| {
        let policy = match at.source {
            Source::Identity(i) => names.get(i).cloned(),
            Source::Resource => Some(format!("trust policy of {resource}")),
            Source::Boundary => boundary.map(|arn| format!("permissions boundary {arn}")),
            _ => None,
        };
        match policy {
            Some(policy) => format!("{policy}, statement {}", at.index),
            None => cases::place(at),
        }
    };
    let decision = match simulation.outcome {
        Outcome::Allowed => "allowed",
        Outcome::ExplicitlyDenied => "explicitDeny",
        Outcome::ImplicitlyDenied => "implicitDeny",
    };
    if asked.as_json {
        let statements = explanation.statements.iter().map(|s| {
            json!({"Statement": place(s.at), "Sid": s.sid, "Effect": if s.denies { "Deny" } else { "Allow" },
                "Applies": s.applies, "Why": s.why()})
        });
        let matched = simulation.matched.iter().map(|at| place(*at));
        print::json(&json!({
            "Principal": principal, "Action": asked.action, "Resource": resource, "Decision": decision,
            "MatchedStatements": matched.collect::<Vec<_>>(),
            "MissingContextValues": simulation.missing_keys,
            "AllowedByPermissionsBoundary": simulation.boundary,
            "AllowedByOrganizations": simulation.organization,
            "Statements": statements.collect::<Vec<_>>(),
        }))?;
    } else {
        print::legibly(Form::Lines, |out| {
            writeln!(out, "{decision}")?;
            for at in &simulation.matched {
                writeln!(out, "decided by {}", print::visible(&place(*at)))?;
            }
            if simulation.boundary == Some(false) {
                writeln!(out, "the permissions boundary does not allow it")?;
            }
            if simulation.organization == Some(false) {
                writeln!(out, "the policies of the organization do not allow it")?;
            }
            for statement in &explanation.statements {
                let sid = statement
                    .sid
                    .as_ref()
                    .map(|s| format!(" ({s})"))
                    .unwrap_or_default();
                let effect = if statement.denies { "Deny" } else { "Allow" };
                let text = format!("{}{sid} {effect}: {}", place(statement.at), statement.why());
                writeln!(out, "  {}", print::visible(&text))?;
            }
            if !simulation.missing_keys.is_empty() {
                let missing = simulation.missing_keys.join(", ");
                writeln!(
                    out,
                    "keys that the request does not have: {}",
                    print::visible(&missing)
                )?;
            }
            Ok(())
        })?;
    }
    if simulation.outcome == Outcome::Allowed {
        Ok(())
    } else {
        Err(format!("{principal} may not do this").into())
    }
}

/// The values of each key; a key that is given several times has several.
fn gathered(context: &[(String, String)]) -> Vec<(String, Vec<String>)> {
    let mut keys: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in context {
        match keys.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, values)) => values.push(value.clone()),
            None => keys.push((name.clone(), vec![value.clone()])),
        }
    }
    keys
}

/// One answer to a question of who may assume what.
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

/// Lists who may assume a role: users and roles of the directory, and whom else its trust policy
/// names.
///
/// # Errors
/// The directory cannot be loaded, or has no such role.
pub(super) fn who_may_assume(
    config: &Path,
    role: &str,
    context: &[(String, String)],
    as_json: bool,
) -> Result<(), Failure> {
    let live = Live::load(config)?;
    let role = live.find("ROLE", role, &["role"])?;
    let keys = gathered(context);
    let users = live.directory.users().map(|user| &*user.arn);
    let roles = live.directory.roles().map(|role| &*role.arn);
    let mut ways = Vec::new();
    for principal in users.chain(roles) {
        ways.extend(way(&live, principal, &role, &keys)?);
    }
    ways.sort_by(|a, b| a.principal.cmp(&b.principal));
    // Others are decided by policies that are not here, or by an identity provider.
    if let Some(found) = live.directory.role(&role) {
        let others = outsiders(&found.trust, found.account.as_str());
        ways.extend(
            others
                .into_iter()
                .filter(|other| !is_here(&live, &other.principal))
                .map(|other| Way {
                    principal: other.principal,
                    role: role.clone(),
                    verdict: "depends",
                    when: other.conditions,
                    unless: vec![
                        "its own policies, or a Deny of the trust policy, refuse it".to_owned(),
                    ],
                }),
        );
    }
    show(&ways, |way| &way.principal, as_json)
}

/// Lists the roles that a principal may assume.
///
/// # Errors
/// The directory cannot be loaded, or has no such principal.
pub(super) fn may_assume(
    config: &Path,
    principal: &str,
    context: &[(String, String)],
    as_json: bool,
) -> Result<(), Failure> {
    let live = Live::load(config)?;
    let principal = live.find("PRINCIPAL", principal, &["user", "role"])?;
    let keys = gathered(context);
    let mut ways = Vec::new();
    for role in live.directory.roles() {
        ways.extend(way(&live, &principal, &role.arn, &keys)?);
    }
    ways.sort_by(|a, b| a.role.cmp(&b.role));
    show(&ways, |way| &way.role, as_json)
}

/// How the principal may assume the role, if it may.
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

/// Whether the principal that a trust policy names is a user or role of the directory, which has an
/// answer of its own.
fn is_here(live: &Live, principal: &str) -> bool {
    let directory = &live.directory;
    directory.user(principal).is_some()
        || directory.role(principal).is_some()
        || directory.users().any(|user| &*user.id == principal)
        || directory.roles().any(|role| &*role.id == principal)
}

/// Prints one line for each answer.
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
                text.push_str(&format!(", if {}", way.when.join(" or ")));
            }
            if !way.unless.is_empty() {
                text.push_str(&format!(", unless {}", way.unless.join(" or ")));
            }
            writeln!(out, "{}", print::visible(&text))?;
        }
        Ok(())
    })
}
