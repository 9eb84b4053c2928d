//! Checks that a database has the tables that the migrations create: all columns with their types, and no trigger,
//! rule, row security policy or inheriting table on them. Additional tables are ignored.

use std::collections::HashMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::classify::classify;
use super::{Engine, StoreError, clip};

pub(super) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Type)],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Number,
    Text,
    TextOrNull,
}

use Type::{Number, Text, TextOrNull};

const fn table(name: &'static str, columns: &'static [(&'static str, Type)]) -> Table {
    Table { name, columns }
}

pub(super) const STORE: Table = table(
    "store",
    &[
        ("id", Number),
        ("store_id", Text),
        ("sequence", Number),
        ("not_before", Number),
        ("chain", Text),
        ("seal", Text),
        ("moved_to", TextOrNull),
    ],
);

pub(super) const TABLES: [Table; 13] = [
    table(
        "resources",
        &[
            ("kind", Text),
            ("id", Text),
            ("account", Text),
            ("folded", Text),
            ("unique_id", TextOrNull),
            ("version", Number),
            ("body", Text),
            ("mac", Text),
        ],
    ),
    table(
        "revocations",
        &[
            ("selector", Text),
            ("account", Text),
            ("value", Text),
            ("before_sequence", Number),
            ("before_seconds", Number),
            ("expires_at", Number),
            ("mac", Text),
        ],
    ),
    table(
        "changes",
        &[
            ("sequence", Number),
            ("changed_at", Number),
            ("actor", Text),
            ("action", Text),
            ("kind", Text),
            ("id", Text),
            ("detail", Text),
            ("chain", Text),
            ("mac", Text),
        ],
    ),
    table(
        "directory_entries",
        &[
            ("kind", Text),
            ("id", Text),
            ("identity", Text),
            ("version", Number),
            ("mac", Text),
        ],
    ),
    table(
        "change_documents",
        &[
            ("sequence", Number),
            ("old_document", TextOrNull),
            ("new_document", TextOrNull),
        ],
    ),
    table(
        "links",
        &[
            ("kind", Text),
            ("id", Text),
            ("target_kind", Text),
            ("target", Text),
        ],
    ),
    table(
        "spent_steps",
        &[
            ("serial_number", Text),
            ("step", Number),
            ("drift", Number),
            ("leaning", Number),
        ],
    ),
    table(
        "mfa_failures",
        &[("user_id", Text), ("forgiven_at", Number)],
    ),
    table(
        "seen",
        &[("issuer", Text), ("id", Text), ("expires_at", Number)],
    ),
    table(
        "access_key_use",
        &[
            ("access_key_id", Text),
            ("used_at", Number),
            ("region", Text),
            ("service", Text),
        ],
    ),
    table(
        "nodes",
        &[
            ("node", Text),
            ("host", Text),
            ("confirmed", Number),
            ("seen_at", Number),
            ("refuse_after", Number),
            ("master_keys", Text),
            ("cluster_id", Text),
            ("directory", Text),
        ],
    ),
    table(
        "sign_ins",
        &[
            ("id", Text),
            ("handle", Text),
            ("account", Text),
            ("holder", Text),
            ("subject", Text),
            ("provider_session", Text),
            ("seen_at", Number),
            ("checked_at", Number),
            ("ends_at", Number),
            ("sealed", Text),
        ],
    ),
    table(
        "sign_in_grants",
        &[
            ("kind", Text),
            ("id", Text),
            ("also", TextOrNull),
            ("sign_in", TextOrNull),
            ("family", TextOrNull),
            ("state", Number),
            ("expires_at", Number),
            ("sealed", Text),
        ],
    ),
];

/// A difference from the tables that the migrations create.
pub(super) enum Deviation {
    /// A table or a column that is missing or has another type; holds a sentence that describes it.
    Lacks(String),
    /// A trigger, a rule, row security or an inheriting table, which could change or hide rows of a table.
    Acts {
        /// The kind and the name of this object in messages.
        what: String,
        /// The statement that removes this object.
        removal: String,
    },
}

impl Deviation {
    pub fn says(&self) -> String {
        match self {
            Self::Lacks(what) => what.clone(),
            Self::Acts { what, .. } => format!("{what} exists, although brokers never create it"),
        }
    }
}

const SQLITE_COLUMNS: &str = "SELECT m.name, x.name, lower(x.type), CASE WHEN x.hidden = 0 THEN 'no' ELSE 'yes' END \
     FROM sqlite_master m JOIN pragma_table_xinfo(m.name) x WHERE m.type = 'table'";
const SQLITE_ACTORS: &str =
    "SELECT 'trigger', name, tbl_name FROM sqlite_master WHERE type = 'trigger'";
const POSTGRES_COLUMNS: &str = "SELECT CAST(c.relname AS TEXT), CAST(a.attname AS TEXT), \
     CAST(pg_catalog.format_type(a.atttypid, NULL) AS TEXT), CASE WHEN a.attgenerated = '' THEN 'no' ELSE 'yes' END \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
     WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = pg_catalog.current_schema()) \
     AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped";
const POSTGRES_ACTORS: &str = "SELECT * FROM ( \
     SELECT 'trigger' AS what, CAST(t.tgname AS TEXT) AS name, t.tgrelid AS place FROM pg_catalog.pg_trigger t \
     WHERE NOT t.tgisinternal \
     UNION ALL SELECT 'rule', CAST(r.rulename AS TEXT), r.ev_class FROM pg_catalog.pg_rewrite r \
     WHERE r.rulename <> '_RETURN' \
     UNION ALL SELECT 'row security', '', c.oid FROM pg_catalog.pg_class c WHERE c.relrowsecurity \
     UNION ALL SELECT 'child', CAST(CAST(h.oid AS regclass) AS TEXT), i.inhparent FROM pg_catalog.pg_inherits i \
     JOIN pg_catalog.pg_class h ON h.oid = i.inhrelid) AS actors";

/// Finds the differences from the tables that the migrations create.
///
/// # Errors
/// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
pub(super) async fn deviations(
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<Vec<Deviation>, StoreError> {
    let postgres = format!(
        "SELECT a.what, a.name, CAST(c.relname AS TEXT) FROM ({}) a JOIN pg_catalog.pg_class c ON c.oid = a.place \
         WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = pg_catalog.current_schema())",
        POSTGRES_ACTORS
    );
    let (columns, actors) = match engine {
        Engine::Postgres => (POSTGRES_COLUMNS, postgres.as_str()),
        Engine::Sqlite | Engine::Memory => (SQLITE_COLUMNS, SQLITE_ACTORS),
    };
    let mut there: HashMap<String, HashMap<String, (String, bool)>> = HashMap::new();
    let rows = sqlx::query(columns).fetch_all(&mut *connection);
    for row in rows.await.map_err(classify)? {
        let [table, column, kind, is_made_up] = texts(&row)?;
        let of_table = there.entry(table).or_default();
        of_table.insert(column, (kind, is_made_up == "yes"));
    }
    let mut found = Vec::new();
    for table in [&STORE].into_iter().chain(&TABLES) {
        let Some(columns) = there.get(table.name) else {
            found.push(Deviation::Lacks(format!(
                "the table {} is missing",
                table.name
            )));
            continue;
        };
        for (column, kind) in table.columns {
            let is_fit = |has: &str| match (engine, *kind == Number) {
                (Engine::Postgres, true) => has == "bigint",
                (Engine::Postgres, false) => has == "text",
                // https://www.sqlite.org/datatype3.html, section 3.1
                (_, true) => has.contains("int"),
                (_, false) => has == "text",
            };
            let what = match columns.get(*column) {
                None => "is missing".to_owned(),
                Some((_, true)) => "is computed".to_owned(),
                Some((has, false)) if !is_fit(has) => format!("is of type {}", clip(has)),
                Some(_) => continue,
            };
            found.push(Deviation::Lacks(format!(
                "the column {column} of the table {} {what}",
                table.name
            )));
        }
    }
    let rows = sqlx::query(sqlx::AssertSqlSafe(actors.to_owned())).fetch_all(connection);
    for row in rows.await.map_err(classify)? {
        let [what, name, on] = texts(&row)?;
        let is_ours = |table: &Table| table.name == on;
        if is_ours(&STORE) || TABLES.iter().any(is_ours) {
            found.push(acts(engine, &what, &name, &on));
        }
    }
    Ok(found)
}

fn texts<const N: usize>(row: &AnyRow) -> Result<[String; N], StoreError> {
    let mut all: [String; N] = std::array::from_fn(|_| String::new());
    for (at, text) in all.iter_mut().enumerate() {
        *text = row.try_get(at).map_err(classify)?;
    }
    Ok(all)
}

/// Describes an object on one of the store's tables. `kind` is the first column of the result of a query above.
fn acts(engine: Engine, kind: &str, name: &str, on: &str) -> Deviation {
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let (what, removal) = match kind {
        "row security" => (
            format!("row security on the table {on}"),
            format!("ALTER TABLE {on} DISABLE ROW LEVEL SECURITY"),
        ),
        "child" => (
            format!("the table {}, which inherits from {on}", clip(name)),
            // It may be in another schema, and PostgreSQL has quoted what needs it.
            format!("ALTER TABLE {name} NO INHERIT {on}"),
        ),
        _ => (
            format!("the {kind} {} on the table {on}", clip(name)),
            match (engine, kind) {
                (Engine::Postgres, "rule") => format!("DROP RULE {quoted} ON {on}"),
                (Engine::Postgres, _) => format!("DROP TRIGGER {quoted} ON {on}"),
                (Engine::Sqlite | Engine::Memory, _) => format!("DROP TRIGGER {quoted}"),
            },
        ),
    };
    Deviation::Acts { what, removal }
}
