//! Checks the whole store: every row of the directory, every revocation, the feed, and whether all of them match the
//! store's own row.

mod feed;

use std::collections::HashMap;

use sqlx::AnyConnection;

use super::classify::{classify, no_store};
use super::directory_entries;
use super::head::{self, RawHead};
use super::integrity::{Contents, Resource, Row, Set, Wrong};
use super::rows::{RevocationRow, wrong};
use super::scan::{differing_kinds, differing_revocations, missing, walk, walk_revocations};
use super::schema::differing_migrations;
use super::shape::{self, Deviation};
use super::{Store, StoreError, clip, salvage};
use crate::base::clock::Timestamp;
use crate::directory::resource::ResourceKind;
use crate::revocations::Mark;

pub(super) use feed::revoked_signing_keys;

/// The maximum number of faults that a log line or an error names.
const MAX_LISTED: usize = 100;
/// The maximum number of faults that are shown to an operator who is asked to accept the store.
const MAX_SHOWN: usize = 10_000;
/// The maximum number of characters of a row that are shown.
const MAX_EXCERPT: usize = 2_000;

/// The faults of a store that are shown to an operator before they accept the store.
pub struct Shown {
    /// A sentence for each row that differs from what brokers wrote, and for each row that is missing, for at most
    /// [`MAX_SHOWN`] rows.
    pub findings: Vec<String>,
    /// A sentence for each row that cannot be read, and for each trigger or similar object. The sentence says whether
    /// accepting the store repairs, deletes or drops it.
    pub mended: Vec<String>,
    /// The sums of all rows, including those that no broker wrote.
    pub(super) rows: Contents,
}

fn excerpt(body: &str) -> String {
    let mut text: String = body.chars().take(MAX_EXCERPT).collect();
    if text.len() < body.len() {
        text.push('…');
    }
    text
}

#[derive(Default)]
struct Findings {
    listed: Vec<String>,
    /// The maximum number of findings in `listed`; `more` counts the others.
    most: usize,
    more: usize,
}

impl Findings {
    fn add(&mut self, what: String) {
        if self.listed.len() < self.most {
            self.listed.push(what);
        } else {
            self.more += 1;
        }
    }

    fn into_list(mut self) -> Vec<String> {
        if self.more > 0 {
            self.listed.push(format!("… and {} more", self.more));
        }
        self.listed
    }
}

impl Store {
    /// Checks all rows in their state at one moment. If no fault is found, clears an earlier suspicion of tampering, so
    /// that the broker authenticates callers again.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] with all findings.
    pub async fn verify(&self, now: Timestamp) -> Result<(), StoreError> {
        self.is_in_place()?;
        let findings = match self.findings(now).await {
            // A row that cannot be read counts as one that was altered.
            Err(error) if error.is_tampering() => return Err(self.tampered(error.to_string())),
            other => other?,
        };
        if findings.is_empty() {
            self.is_right_again();
            return Ok(());
        }
        Err(self.tampered(findings.join("; ")))
    }

    /// Checks all rows in their state at one moment. Returns a sentence for each fault, such as a row that differs from
    /// what brokers wrote or that is missing, for at most [`MAX_LISTED`] faults.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, [`StoreError::Key`]
    /// if the store's own row is sealed under a key that the master key file does not hold, and [`StoreError::Damaged`]
    /// or [`StoreError::Row`] if that row cannot be read or is missing.
    pub async fn findings(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        Ok(self.look_at_all(now, false).await?.findings)
    }

    /// Checks all rows like [`Store::findings`], for an operator who is asked to accept the store. Names each wrong row
    /// and shows its content, even if its key is not in the master key file.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time,
    /// [`StoreError::Damaged`] or [`StoreError::Row`] if a table or the store's own row cannot be read or is missing,
    /// and [`StoreError::Tampered`] if the database deletes other rows on trial than it should.
    pub async fn show(&self, now: Timestamp) -> Result<Shown, StoreError> {
        self.look_at_all(now, true).await
    }

    async fn look_at_all(&self, now: Timestamp, to_accept: bool) -> Result<Shown, StoreError> {
        // Rows that cannot be read are repaired or deleted on trial, so that the rest can be checked.
        let mut moment = if to_accept {
            self.trial().await?
        } else {
            self.moment().await?
        };
        let until = moment.until();
        let connection = moment.connection()?;
        let work = async {
            let mended = if to_accept {
                salvage::mend(self.engine, &mut *connection).await?
            } else {
                Vec::new()
            };
            let mut findings = Findings {
                most: if to_accept { MAX_SHOWN } else { MAX_LISTED },
                ..Findings::default()
            };
            let rows = self
                .look(&mut *connection, now, to_accept, &mut findings)
                .await?;
            Ok::<_, StoreError>(Shown {
                findings: findings.into_list(),
                mended,
                rows,
            })
        };
        let shown = until.reached_by(work).await?;
        if to_accept {
            moment.undo().await?;
        } else {
            moment.end().await?;
        }
        Ok(shown)
    }

    /// Checks all rows, and adds a sentence for each fault to `findings`. If `to_accept`, also returns the sums of all
    /// rows as they are now, including those of wrong rows.
    async fn look(
        &self,
        connection: &mut AnyConnection,
        now: Timestamp,
        to_accept: bool,
        findings: &mut Findings,
    ) -> Result<Contents, StoreError> {
        let deviations = shape::deviations(self.engine, &mut *connection).await?;
        deviations
            .iter()
            .for_each(|deviation| findings.add(deviation.says()));
        let lacks = |deviation: &Deviation| matches!(deviation, Deviation::Lacks(_));
        if deviations.iter().any(lacks) {
            return Ok(Contents::empty(0));
        }
        differing_migrations(&mut *connection)
            .await?
            .into_iter()
            .for_each(|what| findings.add(what));
        let seen = self.seen_so_far();
        let raw = head::read(&mut *connection)
            .await
            .map_err(|error| head::unreadable(classify(error)))?
            .ok_or_else(no_store)?;
        let expected = self.expected(&raw, to_accept, findings)?;
        match self.must_not_go_back(&raw, seen) {
            Err(error @ StoreError::WentBack { .. }) => findings.add(error.to_string()),
            Err(StoreError::Tampered(what)) => findings.add(what),
            other => other?,
        }
        let rows = match self
            .look_at_rows(&mut *connection, to_accept, findings)
            .await
        {
            Err(error) if error.is_tampering() && !to_accept => {
                // After a row that cannot be read, the sums are wrong in any case.
                findings.add(match error {
                    StoreError::Tampered(what) => what,
                    other => other.to_string(),
                });
                return Ok(Contents::empty(0));
            }
            other => other?,
        };
        let kept_from = expected.as_ref().map(|contents| contents.kept_from);
        self.look_at_feed(
            &mut *connection,
            kept_from,
            &raw.head(),
            &rows.marks,
            now,
            findings,
        )
        .await?;
        self.look_at_sums(connection, &rows.found, expected.as_ref(), findings)
            .await?;
        Ok(rows.as_it_is)
    }

    /// Compares the sums of the rows that were found with the sealed sums. Without sealed sums, the rows are only
    /// compared with the feed.
    async fn look_at_sums(
        &self,
        connection: &mut AnyConnection,
        found: &Contents,
        expected: Option<&Contents>,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let kinds = expected.map(|expected| differing_kinds(found, expected));
        if kinds.as_ref().is_none_or(|kinds| !kinds.is_empty()) {
            let named = missing(&mut *connection).await?;
            named
                .into_iter()
                .chain(kinds.unwrap_or_default())
                .for_each(|what| findings.add(what));
        }
        let revocations = expected.and_then(|expected| differing_revocations(found, expected));
        revocations.into_iter().for_each(|what| findings.add(what));
        if let Some(expected) = expected {
            directory_entries::differing(self.engine, connection, found, expected)
                .await?
                .into_iter()
                .for_each(|what| findings.add(what));
        }
        Ok(())
    }

    /// Opens the sums that are sealed in the store's own row; `None` if the seal is not valid, which is then added to
    /// `findings`.
    fn expected(
        &self,
        raw: &RawHead,
        to_accept: bool,
        findings: &mut Findings,
    ) -> Result<Option<Contents>, StoreError> {
        let keys = self.keys.load_full();
        let opened = keys
            .open(&raw.place(), &raw.seal)
            .map(|(contents, _)| contents);
        match opened {
            Ok(contents) => Ok(Some(contents)),
            Err(Wrong::Key(id)) if !to_accept => Err(StoreError::Key(id)),
            Err(Wrong::Key(id)) => {
                findings.add(format!(
                    "the MAC of the store's own row (in the table `store`) was made with the master key {id}, which \
                     is not in the master key file"
                ));
                Ok(None)
            }
            Err(Wrong::Mac) => {
                findings.add(
                    "the store's own row (in the table `store`) differs from what a broker wrote"
                        .to_owned(),
                );
                Ok(None)
            }
        }
    }

    /// Checks each row of the directory and each revocation.
    async fn look_at_rows(
        &self,
        connection: &mut AnyConnection,
        to_accept: bool,
        findings: &mut Findings,
    ) -> Result<Rows, StoreError> {
        let keys = self.keys.load_full();
        let mut found = Contents::empty(0);
        let mut as_it_is = Contents::empty(0);
        let first = keys.first()?;
        let mut rows = |row: Resource<'_>, mac: &str| {
            if to_accept && let Some(kind) = ResourceKind::parse(row.kind) {
                as_it_is.add(Set::Of(kind), first.mac(&Row::Resource(row)).1);
            }
            match (
                ResourceKind::parse(row.kind),
                keys.check(&Row::Resource(row), mac),
            ) {
                (Some(kind), Ok(term)) => found.add(Set::Of(kind), term),
                (_, Err(error)) if to_accept => findings.add(format!(
                    "{}; it is now: {}",
                    wrong(&Row::Resource(row), &error),
                    excerpt(row.body)
                )),
                (_, Err(error)) => findings.add(wrong(&Row::Resource(row), &error)),
                (None, Ok(_)) => findings.add(format!(
                    "{} {} is of an unknown kind",
                    clip(row.kind),
                    clip(row.id)
                )),
            }
            Ok::<(), StoreError>(())
        };
        walk(self.engine, &mut *connection, &mut rows).await?;
        let mut marks = Marks::new();
        let mut revocations = |row: RevocationRow| {
            if to_accept {
                let (_, term) = first.mac(&Row::Revocation(row.columns()));
                as_it_is.add(Set::Revocations, term);
            }
            match keys.check(&Row::Revocation(row.columns()), &row.mac) {
                Ok(term) => found.add(Set::Revocations, term),
                Err(error) => findings.add(wrong(&Row::Revocation(row.columns()), &error)),
            }
            marks.insert((row.selector, row.account, row.value), row.mark);
            Ok::<(), StoreError>(())
        };
        walk_revocations(self.engine, &mut *connection, &mut revocations).await?;
        let mut entries = |row: &Row<'_>, mac: &str| {
            if to_accept {
                as_it_is.add(Set::DirectoryEntries, first.mac(row).1);
            }
            match keys.check(row, mac) {
                Ok(term) => found.add(Set::DirectoryEntries, term),
                Err(error) => findings.add(wrong(row, &error)),
            }
        };
        directory_entries::look(self.engine, &mut *connection, &mut entries).await?;
        Ok(Rows {
            found,
            as_it_is,
            marks,
        })
    }
}

/// The sums of the rows that were read, and the revocations among these rows.
struct Rows {
    /// The sums of the rows with a valid MAC.
    found: Contents,
    /// The sums of all rows, whatever their MACs, computed only if `to_accept`.
    as_it_is: Contents,
    marks: Marks,
}

/// Revocations by selector, account and value.
type Marks = HashMap<(String, String, String), Mark>;
