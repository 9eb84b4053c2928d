//! Converts errors of the database to errors of the store.

use std::time::Duration;

use super::StoreError;

/// Classifies an error of the database by what an operator can do about it.
pub(super) fn classify(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(inner) => {
            let code = inner.code().unwrap_or_default().into_owned();
            // SQLite's extended result codes, and PostgreSQL's SQLSTATEs.
            match code.as_str() {
                "2067" | "1555" | "23505" => StoreError::Taken,
                "11" | "26" | "267" | "523" | "779" => StoreError::Damaged(format!(
                    "the file is damaged, or is not a database: {}",
                    inner.message()
                )),
                "13" | "8" | "264" | "520" | "776" | "1032" | "1288" | "1544" | "778" | "10"
                | "53100" | "25006" | "14" => StoreError::NotWritable(inner.message().to_owned()),
                // A policy that would leave rows out: it is asked for all of them.
                "42501" if inner.message().contains("row-level security") => {
                    StoreError::Tampered(format!(
                        "row-level security hides rows of the store from the broker; switch it off with ALTER TABLE \
                         ... DISABLE ROW LEVEL SECURITY: {}",
                        inner.message()
                    ))
                }
                "42501" => StoreError::NotWritable(format!(
                    "{}; the user in [store] url must own the database and its tables (`ALTER DATABASE ... OWNER TO ...`)",
                    inner.message()
                )),
                // SQLite has no error code of its own for a missing table or column. PostgreSQL has
                // one each for a missing table, column, function and operator.
                "1" if inner.message().starts_with("no such ") => {
                    StoreError::Row(inner.message().to_owned())
                }
                "42P01" | "42703" | "42883" | "42804" | "22P02" => {
                    StoreError::Row(inner.message().to_owned())
                }
                // An administrator of the database ended the connection, or the server did because it was idle.
                "57P01" | "57P02" | "25P03" => StoreError::Disconnected(inner.message().to_owned()),
                _ => StoreError::Unavailable(format!("{} ({code})", inner.message())),
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
            StoreError::Disconnected(error.to_string())
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_) => StoreError::Row(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// The error for a database that did not answer within its deadline.
pub(super) fn late(deadline: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} s", deadline.as_secs()))
}

/// The error for a database that has the tables of a store but not the store's own row.
pub(super) fn no_store() -> StoreError {
    StoreError::Row(
        "the row that identifies the store is missing, or says that `brevet move` has moved the store. If it was moved, \
         set [store] to the new one; otherwise, restore a backup: `brevet restore FILE`"
            .to_owned(),
    )
}
