//! Everything that the database holds and that a broker wrote, looked at as a whole: rows, revocations,
//! the feed and what the store's own row says of them.

use std::collections::HashMap;

use serde::Deserialize;
use sqlx::AnyConnection;

use super::changes::{PAGE, RESTORED, page};
use super::directory_entries::{self, Looked};
use super::integrity::{Contents, Resource, Row, Set, Wrong};
use super::lanes::Purpose;
use super::rows::{
    RevocationRow, begin, differing_kinds, differing_revocations, missing, walk, walk_revocations,
    wrong,
};
use super::{Head, SCAN_DEADLINE, Store, StoreError, clip, head, late, told};
use crate::base::clock::Timestamp;
use crate::directory::resource::Kind;
use crate::revocations::{Mark, Selector};

/// How many findings a log or a refusal names one by one.
const MAX_TOLD: usize = 100;
/// How many are shown to an operator who is to accept them.
const MAX_SHOWN: usize = 10_000;
/// How many characters of a row are shown.
const MAX_EXCERPT: usize = 2_000;

/// What an operator was shown of a store, before it is accepted as it is.
pub struct Shown {
    /// What no broker wrote like this, and what is missing: a sentence each.
    pub findings: Vec<String>,
    /// The sums of all rows that were there, whoever wrote them.
    pub(super) rows: Contents,
}

fn excerpt(body: &str) -> String {
    let mut text: String = body.chars().take(MAX_EXCERPT).collect();
    if text.len() < body.len() {
        text.push('…');
    }
    text
}

/// What is wrong with a store, a sentence each.
#[derive(Default)]
struct Findings {
    told: Vec<String>,
    /// How many are named one by one.
    most: usize,
    more: usize,
}

impl Findings {
    fn add(&mut self, what: String) {
        if self.told.len() < self.most {
            self.told.push(what);
        } else {
            self.more += 1;
        }
    }

    fn into_list(mut self) -> Vec<String> {
        if self.more > 0 {
            self.told.push(format!("… and {} more", self.more));
        }
        self.told
    }
}

/// The part of a change's detail that says what ended.
#[derive(Deserialize)]
struct Ended {
    #[serde(rename = "Revoked", default)]
    revoked: Vec<Revoked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Revoked {
    selector: String,
    account: String,
    value: String,
    before_sequence: i64,
    before_seconds: i64,
    expires_at: i64,
}

impl Store {
    /// Checks everything at one moment.
    ///
    /// # Errors
    /// Without an answer, and [`StoreError::Tampered`] with all that is wrong.
    pub async fn verify(&self, now: Timestamp) -> Result<(), StoreError> {
        let findings = match self.findings(now).await {
            // A row that cannot be read is noticed as one that was altered is.
            Err(error) if error.is_tampering() => return Err(self.tampered(error.to_string())),
            other => other?,
        };
        if findings.is_empty() {
            self.is_right_again();
            return Ok(());
        }
        Err(self.tampered(findings.join("; ")))
    }

    /// What the database holds that no broker wrote like this, and what is missing: a sentence each.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn findings(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        Ok(self.look_at_all(now, false).await?.findings)
    }

    /// As [`Store::findings`], for an operator who is to accept the store as it is: names every row, also
    /// where the master key file lacks a key that rows were written under, and shows what is in it.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn show(&self, now: Timestamp) -> Result<Shown, StoreError> {
        self.look_at_all(now, true).await
    }

    async fn look_at_all(&self, now: Timestamp, to_accept: bool) -> Result<Shown, StoreError> {
        let mut lease = self.lease(Purpose::Background).await?;
        let connection = lease.raw()?;
        let work = async {
            sqlx::raw_sql(begin(self.engine))
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            let mut findings = Findings {
                most: if to_accept { MAX_SHOWN } else { MAX_TOLD },
                ..Findings::default()
            };
            let rows = self
                .look(&mut *connection, now, to_accept, &mut findings)
                .await?;
            sqlx::raw_sql("COMMIT")
                .execute(&mut *connection)
                .await
                .map_err(told)?;
            Ok(Shown {
                findings: findings.into_list(),
                rows,
            })
        };
        let result = match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(result) => result,
            Err(_) => Err(late(SCAN_DEADLINE)),
        };
        if result.is_ok() {
            lease.finish();
        }
        result
    }

    /// The sums of all rows as they are, whoever wrote them, where they are to be accepted.
    async fn look(
        &self,
        connection: &mut AnyConnection,
        now: Timestamp,
        to_accept: bool,
        findings: &mut Findings,
    ) -> Result<Contents, StoreError> {
        let seen = self.seen_so_far();
        let raw = head::read(&mut *connection)
            .await
            .map_err(told)?
            .ok_or_else(super::no_store)?;
        let keys = self.keys.load_full();
        let opened = keys
            .open(&raw.place(), &raw.seal)
            .map(|(contents, _)| contents);
        let expected = match opened {
            Ok(contents) => Some(contents),
            Err(Wrong::Key(id)) if !to_accept => return Err(StoreError::Key(id)),
            Err(Wrong::Key(id)) => {
                findings.add(format!(
                    "the store's own row is sealed under the master key {id}, which the master key file does not hold"
                ));
                None
            }
            Err(Wrong::Mac) => {
                findings.add("the store's own row is not as a broker wrote it".to_owned());
                None
            }
        };
        match self.must_not_go_back(&raw, seen) {
            Err(error @ StoreError::WentBack { .. }) => findings.add(error.to_string()),
            Err(StoreError::Tampered(what)) => findings.add(what),
            other => other?,
        }
        let mut found = Contents::empty(0);
        let mut as_it_is = Contents::empty(0);
        let first = keys.first()?;
        let mut rows = |row: Resource<'_>, mac: &str| {
            if to_accept && let Some(kind) = Kind::parse(row.kind) {
                as_it_is.add(Set::Of(kind), first.mac(&Row::Resource(row)).1);
            }
            match (Kind::parse(row.kind), keys.check(&Row::Resource(row), mac)) {
                (Some(kind), Ok(term)) => found.add(Set::Of(kind), term),
                (_, Err(error)) if to_accept => findings.add(format!(
                    "{}; it is now: {}",
                    wrong(&Row::Resource(row), &error),
                    excerpt(row.body)
                )),
                (_, Err(error)) => findings.add(wrong(&Row::Resource(row), &error)),
                (None, Ok(_)) => {
                    findings.add(format!("{} is of no kind that is known", clip(row.kind)))
                }
            }
            Ok::<(), StoreError>(())
        };
        let walked = walk(self.engine, &mut *connection, &mut rows).await;
        match walked {
            Err(StoreError::Tampered(what)) => findings.add(what),
            other => other?,
        }
        let mut marks = HashMap::new();
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
        let walked = walk_revocations(&mut *connection, &mut revocations).await;
        match walked {
            Err(StoreError::Tampered(what)) => findings.add(what),
            other => other?,
        }
        let mut entries = |entry: &directory_entries::Looked<'_>| match entry {
            Looked::Row(row, mac) => {
                if to_accept {
                    as_it_is.add(Set::DirectoryEntries, first.mac(row).1);
                }
                match keys.check(row, mac) {
                    Ok(term) => found.add(Set::DirectoryEntries, term),
                    Err(error) => findings.add(wrong(row, &error)),
                }
            }
            Looked::Unreadable(what) => findings.add((*what).to_owned()),
        };
        directory_entries::look(&mut *connection, &mut entries).await?;
        let kept_from = expected.as_ref().map(|contents| contents.kept_from);
        self.look_at_feed(
            &mut *connection,
            kept_from,
            &raw.head(),
            &marks,
            now,
            findings,
        )
        .await?;
        let kinds = expected
            .as_ref()
            .map(|expected| differing_kinds(&found, expected));
        if kinds.as_ref().is_none_or(|kinds| !kinds.is_empty()) {
            let named = missing(&mut *connection).await?;
            named
                .into_iter()
                .chain(kinds.unwrap_or_default())
                .for_each(|what| findings.add(what));
        }
        let revocations = expected
            .as_ref()
            .and_then(|expected| differing_revocations(&found, expected));
        revocations.into_iter().for_each(|what| findings.add(what));
        if let Some(expected) = &expected {
            directory_entries::differing(connection, &found, expected)
                .await?
                .into_iter()
                .for_each(|what| findings.add(what));
        }
        Ok(as_it_is)
    }

    /// Each change follows the one before it, from the first that is kept to the store's own row; and what
    /// it ended is among the revocations.
    async fn look_at_feed(
        &self,
        connection: &mut AnyConnection,
        kept_from: Option<i64>,
        head: &Head,
        marks: &HashMap<(String, String, String), Mark>,
        now: Timestamp,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let keys = self.keys.load_full();
        let mut before: Option<(i64, String)> = None;
        let mut lost = Vec::new();
        let mut after = i64::MIN;
        loop {
            let rows = match page(&mut *connection, after, PAGE).await {
                Ok(rows) => rows,
                Err(error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
                    findings.add(format!(
                        "a change behind change {after} is not as a broker wrote it ({error})"
                    ));
                    return Ok(());
                }
                Err(error) => return Err(told(error)),
            };
            let Some((last, _)) = rows.last() else { break };
            after = last.sequence;
            for (change, mac) in rows {
                let fields = change.fields();
                let row = Row::Change(&fields, &change.chain);
                match (keys.check(&row, &mac), &before) {
                    (Err(error), _) => findings.add(wrong(&row, &error)),
                    (Ok(_), None) => match kept_from {
                        Some(first) if first != change.sequence => findings.add(format!(
                            "change {first} of the feed is missing: change {} is the first one",
                            change.sequence
                        )),
                        _ => {}
                    },
                    (Ok(_), Some((_, chain))) if change.follows(chain) => {}
                    (Ok(_), Some((at, _))) if change.sequence > at + 1 => {
                        findings.add(format!(
                            "changes {} to {} of the feed are missing",
                            at + 1,
                            change.sequence - 1
                        ));
                    }
                    (Ok(_), Some(_)) => {
                        findings.add(format!(
                            "change {} of the feed does not follow the change before it",
                            change.sequence
                        ));
                    }
                }
                if change.action == RESTORED {
                    // It ended all that was ended before.
                    lost.clear();
                }
                let ended = unmarked(&change.detail, marks, now).into_iter();
                lost.extend(
                    ended.map(|ended| format!("{ended}, which change {} made", change.sequence)),
                );
                before = Some((change.sequence, change.chain));
            }
        }
        lost.into_iter().for_each(|what| findings.add(what));
        match before {
            Some((at, _)) if at != head.sequence => {
                findings.add(format!(
                    "change {} of the feed is missing: it ends at change {at}",
                    head.sequence
                ));
            }
            Some((at, chain)) if chain != head.chain => {
                findings.add(format!(
                    "change {at} of the feed is not the last one that a broker wrote"
                ));
            }
            None if kept_from.is_some_and(|first| first <= head.sequence) => {
                findings.add(format!(
                    "change {} of the feed is missing: it is empty",
                    head.sequence
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The ids of the signing keys that a change revoked.
pub(super) fn revoked_signing_keys(detail: &str) -> Vec<String> {
    let ended = serde_json::from_str::<Ended>(detail)
        .map(|ended| ended.revoked)
        .unwrap_or_default();
    let keys = ended
        .into_iter()
        .filter(|revoked| revoked.selector == Selector::SigningKey.as_str());
    keys.map(|revoked| revoked.value).collect()
}

/// What a change ended that is not among the revocations, or weaker there.
fn unmarked(
    detail: &str,
    marks: &HashMap<(String, String, String), Mark>,
    now: Timestamp,
) -> Vec<String> {
    if !detail.contains("\"Revoked\":") {
        return Vec::new();
    }
    let Ok(ended) = serde_json::from_str::<Ended>(detail) else {
        return Vec::new();
    };
    // What ended everything later on ended this as well: its own row may have been swept by a clock that
    // was ahead, before an operator put the clock right.
    let everything = (
        Selector::Everything.as_str().to_owned(),
        String::new(),
        String::new(),
    );
    let everything = marks.get(&everything);
    let is_covered = |revoked: &Revoked| {
        everything.is_some_and(|mark| {
            mark.before_sequence >= revoked.before_sequence && mark.expires_at >= revoked.expires_at
        })
    };
    let lasting = ended
        .revoked
        .into_iter()
        .filter(|revoked| revoked.expires_at > now.seconds() && !is_covered(revoked));
    lasting
        .filter_map(|revoked| {
            let name = format!(
                "the revocation of {} {}",
                clip(&revoked.selector),
                clip(&revoked.value)
            );
            match marks.get(&(revoked.selector, revoked.account, revoked.value)) {
                None => Some(format!("{name} is missing")),
                Some(mark)
                    if mark.before_sequence < revoked.before_sequence
                        || mark.before_seconds < revoked.before_seconds
                        || mark.expires_at < revoked.expires_at =>
                {
                    Some(format!("{name} is weaker than the one"))
                }
                Some(_) => None,
            }
        })
        .collect()
}
