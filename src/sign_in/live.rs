//! Lists the sign-ins of an account, and the sessions that came from a sign-in, leaving out those that have ended.
//! Sessions without a record are missing from the list.

use crate::base::arn::{AccountId, IamArn};
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::error::Error;
use crate::lineage;
use crate::session::token::Ancestor;
use crate::sessions::SessionRecord;
use crate::signed_in::SignIn;
use crate::store::{SIGN_INS_AT_ONCE, SignInRow};

use super::{of_person, opened};

/// The maximum number of sessions in a list.
const MOST: usize = 1_000;
/// The maximum number of pages of records that are read to list the sessions of one sign-in.
const MAX_PAGES: usize = 20;

/// A session that came from a sign-in and has not ended.
#[derive(Debug, Clone)]
pub struct Live {
    pub session_id: [u8; 16],
    pub account_id: AccountId,
    pub role_name: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The address and the program that received the credentials; empty if they are not known.
    pub given_to: String,
}

/// The sessions of a sign-in, ordered by expiry.
///
/// # Errors
/// [`Error`] if the records cannot be read.
pub async fn sessions(broker: &Broker, sign_in: &SignIn) -> Result<Vec<Live>, Error> {
    let is_of_sign_in = |record: &SessionRecord| {
        let mut ancestors = record.ancestors.iter();
        ancestors.any(|a| a.session_id == sign_in.id) && !has_ended(broker, record)
    };
    let keyring = broker.tokens.keyring();
    let now = broker.clock.now();
    let (mut found, mut marker) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let left = MOST - found.len();
        let listed = broker
            .sessions
            .list_of_sign_in(&keyring, (&sign_in.id, &marker), left, now, is_of_sign_in)
            .await?;
        found.extend(listed.records.into_iter().filter_map(live));
        if listed.marker.is_empty() || found.len() >= MOST {
            break;
        }
        marker = listed.marker;
    }
    Ok(found)
}

/// The account of a session; `None` unless the session has a record which shows that it came from this sign-in.
///
/// # Errors
/// [`Error`] if the record cannot be read.
pub(super) async fn account_of(
    broker: &Broker,
    sign_in: &SignIn,
    session_id: &[u8; 16],
) -> Result<Option<AccountId>, Error> {
    let (keyring, now) = (broker.tokens.keyring(), broker.clock.now());
    let record = broker.sessions.find(&keyring, session_id, now).await?;
    let own = record.filter(|record| {
        let mut ancestors = record.ancestors.iter();
        ancestors.any(|ancestor| ancestor.session_id == sign_in.id)
    });
    Ok(own.and_then(|record| Some(IamArn::parse(&record.principal_arn)?.account)))
}

/// The other sign-ins of the same person, each with the time in seconds since 1970 when its browser was last
/// seen; the most recent one comes first.
///
/// # Errors
/// [`Error`] if an operation of the store fails, or there is no master key.
pub async fn others(broker: &Broker, sign_in: &SignIn) -> Result<Seen, Error> {
    let rows = broker
        .store
        .sign_ins_of(of_person(sign_in), "", SIGN_INS_AT_ONCE)
        .await?;
    let (mut others, _) = listed(broker, &rows, SIGN_INS_AT_ONCE)?;
    others.retain(|(other, _)| other.id != sign_in.id);
    others.sort_by_key(|(_, seen_at)| std::cmp::Reverse(*seen_at));
    Ok(others)
}

/// Sign-ins, each with the time in seconds since 1970 when its browser was last seen.
pub type Seen = Vec<(SignIn, i64)>;

/// Opens `rows`, the rows of an account's sign-ins, and returns the sign-ins that are not over, each with the time in
/// seconds since 1970 when its browser was last seen.
///
/// Also returns the id after which the next page begins, or `None` if there are fewer rows than `limit`, so that this
/// is the last page.
///
/// # Errors
/// [`Error`] if a row cannot be opened because there is no master key.
pub fn listed(
    broker: &Broker,
    rows: &[SignInRow],
    limit: usize,
) -> Result<(Seen, Option<String>), Error> {
    let (directory, now) = (broker.directory.load_full(), broker.clock.now());
    let mut listed = Vec::new();
    for row in rows {
        let Some(sign_in) = opened(broker, row)? else {
            continue;
        };
        if !sign_in.is_over(&directory, &broker.revocations, broker.store.id(), now) {
            listed.push((sign_in, row.seen_at));
        }
    }
    let last = rows.last().filter(|_| rows.len() >= limit);
    Ok((listed, last.map(|row| row.id.clone())))
}

/// Decrypts the sign-in in a row, even if the sign-in is over. Returns `None` if the row was altered, or is sealed
/// under a master key that the broker no longer has.
///
/// # Errors
/// [`Error`] if there is no master key.
pub fn in_row(broker: &Broker, row: &SignInRow) -> Result<Option<SignIn>, Error> {
    opened(broker, row)
}

fn live(record: SessionRecord) -> Option<Live> {
    let arn = IamArn::parse(&record.principal_arn)?;
    Some(Live {
        session_id: record.session_id.as_slice().try_into().ok()?,
        account_id: arn.account,
        role_name: arn.name.to_owned(),
        issued_at: Timestamp::from_seconds(record.issued_at),
        expires_at: Timestamp::from_seconds(record.expires_at),
        given_to: record.given_to,
    })
}

fn has_ended(broker: &Broker, record: &SessionRecord) -> bool {
    let own = Ancestor {
        arn: record.principal_arn.clone(),
        unique_id: record.principal_id.clone(),
        access_key_id: record.access_key_id.clone(),
        session_name: record.session_name.clone(),
        session_id: record.session_id.clone(),
        ..Ancestor::default()
    };
    lineage::came_from(&own, &record.source_identity, &record.ancestors).map_or(true, |keys| {
        broker
            .revocations
            .is_revoked(&keys, record.issued_under, record.issued_at)
    })
}
