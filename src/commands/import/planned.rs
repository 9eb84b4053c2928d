//! One change of an import: the creation, update or deletion of one resource, how it is applied, and how it is shown.

use std::time::Duration;

use serde_json::Value;
use similar::TextDiff;

use crate::commands::action::{Verb, named};
use crate::commands::change::public;
use crate::commands::{
    Actor, CommandContext, CommandError, Detail, current, delete, ends, put, record, rules,
};
use crate::directory::resource::Resource;
use crate::store::Writer;

/// The time limit for finding a short difference. After it, a longer one is shown.
const DIFF_WITHIN: Duration = Duration::from_millis(500);

/// A resource whose declaration differs from the store.
#[derive(Debug)]
pub enum Planned {
    /// Creates a resource that is declared and not in the store.
    Create(Resource),
    /// Updates a resource whose declaration differs from its row in the store.
    Update {
        old: Box<Resource>,
        new: Box<Resource>,
        /// The version of the current content: the number of the change that wrote it.
        version: i64,
        /// The old and the new content for people, with ARNs in place of the unique ids in the resource's policy;
        /// `None` if this kind of resource has no policy that contains unique ids.
        readable: Option<Box<(Resource, Resource)>>,
    },
    /// Deletes a resource that is in the store and not declared.
    Delete {
        old: Resource,
        /// The version of the current content: the number of the change that wrote it.
        version: i64,
    },
}

impl Planned {
    pub(super) async fn run(
        &self,
        cx: CommandContext<'_>,
        writer: &mut Writer<'_>,
        actor: &Actor,
    ) -> Result<(), CommandError> {
        match self {
            Self::Create(new) => {
                rules::check_name_is_free(writer, new).await?;
                let action = named(Verb::Create, new.kind());
                put(cx, writer, actor, action, None, new.clone()).await
            }
            Self::Update {
                old, new, version, ..
            } => {
                current(writer, &old.name(), Some(*version)).await?;
                let name = new.name();
                // The resource was recreated under its name, so sessions of the old one end.
                let remade = old.unique_id() != new.unique_id();
                let ended = (remade || (old.is_active() && !new.is_active()))
                    .then(|| ends(old))
                    .flatten();
                if remade && ended.is_some() {
                    let detail = Detail::of(Some(old), None);
                    let action = named(Verb::Delete, name.kind);
                    record(cx, writer, actor, action, &name, detail, ended).await?;
                }
                let (old, new) = (Resource::clone(old), Resource::clone(new));
                let action = named(Verb::Update, name.kind);
                put(cx, writer, actor, action, Some(old), new).await
            }
            Self::Delete { old, version } => {
                current(writer, &old.name(), Some(*version)).await?;
                delete(cx, writer, actor, old.clone()).await
            }
        }
    }

    /// Describes the change for people: one line, followed by the differences.
    pub fn describe(&self) -> String {
        match self {
            Self::Create(new) => format!("+ {}\n", new.name()),
            Self::Delete { old, .. } => format!("- {}\n", old.name()),
            Self::Update {
                old, new, readable, ..
            } => {
                let (old, new) = readable
                    .as_deref()
                    .map_or((&**old, &**new), |(old, new)| (old, new));
                let pretty = |r: &Resource| {
                    serde_json::to_string_pretty(&shown(public(r))).unwrap_or_default()
                };
                let (before, after) = (pretty(old), pretty(new));
                let diff = TextDiff::configure()
                    .timeout(DIFF_WITHIN)
                    .diff_lines(&before, &after);
                let diff = diff.unified_diff().context_radius(2).to_string();
                let lines = diff.lines().filter(|l| !l.starts_with("\\ No newline"));
                let lines: String = lines.map(|l| format!("    {l}\n")).collect();
                format!("~ {}\n{lines}", new.name())
            }
        }
    }
}

/// Shortens the digests that stand for sealed secrets. They show only whether the secret has changed.
fn shown(value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("sealed ") {
            Some(digest) => Value::String(format!(
                "(sealed, {}…)",
                digest.chars().take(8).collect::<String>()
            )),
            None => Value::String(text),
        },
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, shown(v))).collect(),
        other => other,
    }
}
