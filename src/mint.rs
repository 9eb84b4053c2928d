//! Makes credentials and a session record from a [`Grant`]. This module makes no decisions about
//! policies and does not wait for anything.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::base::names::{AccessKeyId, AccessKeyKind};
use crate::base::secret::Secret;
use crate::error::Error;
use crate::lineage;
use crate::mfa::Proven;
use crate::session::batch::{Leaf, Proof};
use crate::session::envelope::Unsigned;
use crate::session::keyring::Keyring;
use crate::session::packing::{Packed, TagClaim};
use crate::session::token::{self, Claims, Narrowed};
use crate::sessions::{Narrowing, SessionId, SessionRecord};
use crate::trust::Grant;

/// Temporary credentials as they are returned to a caller.
#[derive(Debug)]
pub struct Credentials {
    pub access_key_id: AccessKeyId,
    /// The secret key, which has 40 characters.
    pub secret_access_key: Secret<String>,
    /// The session token, which must accompany every request.
    pub session_token: SessionToken,
    /// The time of issue, rounded down to the whole second.
    pub issued_at: Timestamp,
    /// The time at which the credentials expire.
    pub expires_at: Timestamp,
}

/// A session token, which is empty until it is signed. The broker signs it when it writes the audit
/// record of the call, together with the tokens of other calls whose records are written at the
/// same time.
#[derive(Debug, Clone, Default)]
pub struct SessionToken(Arc<OnceLock<Secret<String>>>);

impl SessionToken {
    /// Returns the token as text for the answer. The text is empty until the token is signed, and
    /// no call is answered before that.
    pub fn expose(&self) -> &String {
        static NONE: String = String::new();
        self.0.get().map_or(&NONE, Secret::expose)
    }
}

/// The token of a new session before it is signed.
pub struct UnsignedToken {
    token: Unsigned,
    keyring: Arc<Keyring>,
    /// The token in the session's credentials, which [`Self::complete`] fills in.
    signed: SessionToken,
}

impl UnsignedToken {
    /// The leaf of the token in the hash tree that is signed. Its signature's proof goes into
    /// [`Self::complete`].
    pub fn leaf(&self) -> Leaf {
        self.token.leaf(self.keyring.clone())
    }

    /// Seals the token with the proof of its signature, and puts it into the session's credentials.
    /// `in_force` is the keyring as of now, so that the token is not signed with a key that was
    /// removed or revoked after the decision.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] if its key was removed or revoked meanwhile.
    pub fn complete(self, in_force: &Keyring, proof: &Proof) -> Result<(), Error> {
        let text = self.token.seal(in_force, proof);
        Self::put(self.signed, text)
    }

    /// Completes the token as [`Self::complete`] does, with a signature for this token alone.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] if its key was revoked meanwhile.
    pub fn complete_alone(self) -> Result<(), Error> {
        let text = token::seal_alone(&self.keyring, self.token);
        Self::put(self.signed, text)
    }

    fn put(
        signed: SessionToken,
        text: Result<String, ring::error::Unspecified>,
    ) -> Result<(), Error> {
        let text = text.map_err(|_| Error::ServiceUnavailable(WITHOUT_KEY))?;
        // A token is completed once.
        let put = signed.0.set(Secret::new(text));
        put.map_err(|_| Error::InternalFailure)
    }
}

/// The text of [`Error::ServiceUnavailable`] if the keyring has no key that may sign a session.
pub const WITHOUT_KEY: &str = "a signing key that has not been revoked";

/// A new session: credentials for the caller and a record for the broker.
pub struct Session {
    /// The credentials for the answer to the caller.
    pub credentials: Credentials,
    /// The session's entry in the list of live sessions. It contains no secret.
    pub record: SessionRecord,
    /// The `UserId`: `AROA…:SESSION`, `ACCOUNT:NAME` or `AIDA…`.
    pub user_id: String,
    /// The ARN: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`, `…:federated-user/NAME`, or the
    /// user's.
    pub arn: String,
}

/// The properties of a session that its grant does not determine.
pub struct SessionDetails {
    /// The name of the session; empty for a user's own session.
    pub session_name: String,
    /// The source identity; empty if none was given.
    pub source_identity: String,
    /// All session tags including inherited ones, for the record.
    pub tags: Vec<TagClaim>,
    /// The packed session policies and tags for the session token.
    pub packed: Packed,
    /// The proof of the MFA code that was given for the session, if any.
    pub mfa: Option<Proven>,
}

/// Makes a session from a grant, and returns it with its token, which must still be signed. The session expires after
/// `term`, but a narrowed session not later than the session that it narrows. `issued_under` is the last change of the
/// feed that is in force on this node, with the id of its store: revocations with a later number apply to the session.
///
/// # Errors
/// [`Error`] if there are no random bytes or no current signing key, or if the token would be too long.
pub fn session(
    mut grant: Grant<'_>,
    term: Duration,
    details: SessionDetails,
    issued_under: (i64, &str),
    keyring: &Arc<Keyring>,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<(Session, UnsignedToken), Error> {
    let [random @ .., a, b, c, d, e] = entropy::bytes::<37>(entropy)?;
    let (session_id, salt): (SessionId, [u8; 16]) = split(random);
    let (account, ancestors) = (grant.account(), grant.take_lineage());
    let access_key_id = AccessKeyId::mint(AccessKeyKind::Temporary, account, [a, b, c, d, e]);
    let issued_at = now.whole_second();
    let (kind, principal_arn, principal_id) = grant.principal();
    let narrows = grant.narrows();
    let parent = narrows.map(|narrows| &narrows.parent.claims);
    let expires_at = match parent {
        Some(parent) => issued_at
            .plus(term)
            .min(Timestamp::from_seconds(parent.expires_at)),
        None => issued_at.plus(term),
    };
    let mut claims = Claims {
        session_id: session_id.to_vec(),
        access_key_id: access_key_id.as_str().to_owned(),
        principal_arn: principal_arn.to_owned(),
        principal_id: principal_id.to_owned(),
        session_name: details.session_name,
        issued_at: parent.map_or(issued_at.seconds(), |parent| parent.issued_at),
        expires_at: expires_at.seconds(),
        source_identity: details.source_identity,
        packed: details.packed.bytes,
        kind: kind.into(),
        mfa_at: match (parent, details.mfa) {
            (Some(parent), _) => parent.mfa_at,
            (None, proven) => proven.map_or(0, |proven| proven.at().seconds()),
        },
        ancestors,
        issued_under: parent.map_or(issued_under.0, |parent| parent.issued_under),
        store_id: issued_under.1.to_owned(),
        holder: grant.holder().cloned(),
        workload: grant.workload().cloned(),
        narrowed: parent.map(|parent| Narrowed {
            at: issued_at.seconds(),
            times: parent.narrowed.map_or(0, |narrowed| narrowed.times) + 1,
        }),
        padding: Vec::new(),
    };
    claims.pad(narrows.map_or(0, |narrows| narrows.min_token_size));
    let key = keyring.current().ok_or(Error::InternalFailure)?;
    let secret_access_key = token::secret_access_key(key, &session_id, access_key_id.as_str())?;
    let token = token::unsigned(keyring, &claims, &salt)?;
    let length = token.max_characters();
    if length > token::MAX_CHARACTERS {
        return Err(Error::TokenTooLarge(length, token::MAX_CHARACTERS));
    }
    let session_token = SessionToken::default();
    let narrowing = grant.narrows().map(|narrows| Narrowing {
        at: issued_at.seconds(),
        description: narrows.description.clone(),
    });
    let unsigned = UnsignedToken {
        token,
        keyring: keyring.clone(),
        signed: session_token.clone(),
    };
    let session = Session {
        user_id: lineage::user_id(account, kind, &claims.principal_id, &claims.session_name),
        arn: lineage::principal_arn(&claims.principal_arn, &claims.session_name),
        record: record(claims, details.tags, narrowing),
        credentials: Credentials {
            access_key_id,
            secret_access_key,
            session_token,
            issued_at,
            expires_at,
        },
    };
    Ok((session, unsigned))
}

/// Builds the session's record for the session store, where administrators list and find it.
fn record(claims: Claims, tags: Vec<TagClaim>, narrowing: Option<Narrowing>) -> SessionRecord {
    let filled_in = match lineage::ancestors(&claims) {
        Cow::Owned(ancestors) => Some(ancestors),
        Cow::Borrowed(_) => None,
    };
    SessionRecord {
        ancestors: filled_in.unwrap_or(claims.ancestors),
        session_id: claims.session_id,
        access_key_id: claims.access_key_id,
        principal_arn: claims.principal_arn,
        principal_id: claims.principal_id,
        session_name: claims.session_name,
        source_identity: claims.source_identity,
        tags,
        issued_at: claims.issued_at,
        expires_at: claims.expires_at,
        issued_under: claims.issued_under,
        kind: claims.kind,
        given_to: String::new(),
        narrowing,
        workload: claims
            .workload
            .map(|workload| workload.name)
            .unwrap_or_default(),
    }
}

fn split(bytes: [u8; 32]) -> ([u8; 16], [u8; 16]) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    for (slot, byte) in first.iter_mut().chain(second.iter_mut()).zip(bytes) {
        *slot = byte;
    }
    (first, second)
}
