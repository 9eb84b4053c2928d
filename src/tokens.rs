//! A cache of opened session tokens. It keeps the facts that follow from a token alone, until the keyring changes. The
//! module `authn` decides whether the session may still be used.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use moka::sync::Cache;

use crate::base::arn::{AccountId, IamArn};
use crate::base::digest::sha256;
use crate::error::Error;
use crate::federation::vouched::Vouched;
use crate::lineage;
use crate::proof::sigv4::SigningSecret;
use crate::revocations::RevocationKey;
use crate::session::batch::VerifiedRoots;
use crate::session::keyring::{Keyring, SessionKey};
use crate::session::packing::{self, Limits};
use crate::session::policies::Compiled;
use crate::session::token::{self, Claims};

/// The message about a node whose signing key was revoked, with the remedy.
pub const WITHOUT_SIGNING_KEY: &str = "the keyring's current key was revoked, so that no session can be \
                                       issued; use the keyring file that `brevet keyring revoke` or \
                                       `brevet keyring rotate` has written since then";
/// An opened session token, with the facts that follow from the token alone.
pub struct OpenedSession {
    /// The claims of the session in the token.
    pub claims: Claims,
    pub limits: Limits,
    pub account: AccountId,
    /// The ARN: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`, `…:federated-user/NAME`, or the
    /// user's ARN.
    pub arn: String,
    /// The `UserId`: `AROA…:SESSION`, `ACCOUNT:NAME`, or the user's `AIDA…`.
    pub user_id: String,
    /// The policies that limit the session, compiled.
    pub policies: Compiled,
    /// The identity provider and the claims or attributes behind the session; `None` if the session was not issued for
    /// a provider's token or assertion.
    pub vouched: Option<Vouched>,
    pub(crate) secret: SigningSecret,
    /// The revocation keys of the session and its ancestors. A revocation of any of them ends the session.
    pub(crate) came_from: Box<[RevocationKey]>,
}

impl OpenedSession {
    /// Whether the session has session policies or was narrowed, so that it may do less than its principal.
    pub fn is_restricted(&self) -> bool {
        self.policies.is_restricted() || self.claims.narrowed.is_some()
    }

    /// An estimate of the memory that this session takes in the cache, in bytes, from the lengths of its texts.
    pub fn weight(&self) -> usize {
        /// The structure itself, its signing keys, its entry in the cache, and the allocator's
        /// overhead.
        const FIXED: usize = 2_240;
        /// The overhead of an ancestor, a tag or an ARN, in bytes besides its texts.
        const ITEM: usize = 160;
        let claims = &self.claims;
        let ancestors = claims.ancestors.iter().map(|a| {
            let texts = [
                &a.arn,
                &a.unique_id,
                &a.access_key_id,
                &a.session_name,
                &a.subject,
            ];
            ITEM + texts.map(String::len).iter().sum::<usize>() + a.session_id.len()
        });
        let tags = self
            .limits
            .tags
            .iter()
            .map(|t| ITEM + t.key.len() + t.value.len());
        // Each is there twice: among the limits and among the compiled policies.
        let arns = self.limits.policy_arns.iter().map(|a| 2 * (ITEM + a.len()));
        let scope_down = self
            .limits
            .scope_down
            .iter()
            .map(|s| ITEM + s.description.len() + compiled_weight(&s.policy));
        let texts = [
            &claims.access_key_id,
            &claims.principal_arn,
            &claims.principal_id,
            &claims.session_name,
            &claims.source_identity,
            &claims.store_id,
            claims.workload.as_ref().map_or(&self.arn, |w| &w.name),
            &self.arn,
            &self.user_id,
        ];
        FIXED
            + texts.map(String::len).iter().sum::<usize>()
            + claims.packed.len()
            + ancestors
                .chain(tags)
                .chain(arns)
                .chain(scope_down)
                .sum::<usize>()
            + size_of_val(&*self.came_from)
            + self
                .policies
                .inline
                .as_ref()
                .map_or(0, |_| compiled_weight(&self.limits.policy))
    }
}

/// An estimate of the memory in bytes that a policy takes as text and in compiled form. The estimate depends on the
/// length of the text, and on how often it contains quotation marks and the characters `:`, `*`, `?` and `$`, which
/// divide compiled patterns into parts.
pub fn compiled_weight(text: &str) -> usize {
    let (mut strings, mut atoms) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'"' => strings += 1,
            b':' | b'*' | b'?' | b'$' => atoms += 1,
            _ => {}
        }
    }
    1_024 + 4 * text.len() + 128 * strings + 80 * atoms
}

/// The limits of the cache of opened tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokenBounds {
    /// The maximum number of tokens; 0 turns the cache off.
    pub max_tokens: u64,
    /// The maximum size in bytes, as [`OpenedSession::weight`] counts them.
    pub max_bytes: u64,
}

impl Default for TokenBounds {
    fn default() -> Self {
        Self {
            max_tokens: 100_000,
            max_bytes: 64 << 20,
        }
    }
}

/// The keyring in force, and a cache of the tokens that it has opened.
pub struct Tokens {
    keyring: ArcSwap<Generation>,
    /// The ids of revoked keys, whether or not they are in the keyring. The lock is held while the keyring is replaced.
    revoked: Mutex<BTreeSet<String>>,
    /// The cache, by the SHA-256 of a token.
    opened: Cache<[u8; 32], Opened>,
}

struct Generation {
    number: u64,
    keyring: Arc<Keyring>,
    /// The roots of tokens whose signatures this keyring has checked.
    roots: VerifiedRoots,
}

#[derive(Clone)]
struct Opened {
    /// The number of the keyring that opened the token. The entry counts only while this keyring is in force, so that
    /// tokens of a removed key are not accepted from the cache.
    generation: u64,
    session: Arc<OpenedSession>,
}

impl Tokens {
    /// Creates a cache with these limits. If it is full, the tokens that are used least are dropped first.
    pub fn new(keyring: Keyring, bounds: TokenBounds) -> Self {
        // One limit enforces both: each token counts for at least its share of the maximum number.
        let least = bounds.max_bytes.checked_div(bounds.max_tokens).unwrap_or(0);
        let opened = Cache::builder()
            .max_capacity(if bounds.max_tokens == 0 {
                0
            } else {
                bounds.max_bytes
            })
            .weigher(move |_: &[u8; 32], opened: &Opened| {
                let weight = u64::try_from(opened.session.weight()).unwrap_or(u64::MAX);
                u32::try_from(weight.max(least)).unwrap_or(u32::MAX)
            })
            .build();
        let keyring = ArcSwap::from_pointee(Generation {
            number: 0,
            keyring: Arc::new(keyring),
            roots: VerifiedRoots::default(),
        });
        Self {
            keyring,
            revoked: Mutex::default(),
            opened,
        }
    }

    /// Replaces the keyring. Keys that were revoked before stay revoked in the new one.
    pub fn replace(&self, keyring: Keyring) {
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        keyring.revoke(&revoked);
        self.next_generation(Arc::new(keyring));
    }

    /// Revokes keys in the present keyring and all later ones. Returns whether any of these keys was not revoked
    /// before.
    pub fn revoke(&self, ids: &BTreeSet<String>) -> bool {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked.is_superset(ids) {
            return false;
        }
        revoked.extend(ids.iter().cloned());
        let keyring = self.keyring.load().keyring.clone();
        keyring.revoke(&revoked);
        self.next_generation(keyring);
        true
    }

    /// Whether the keyring has a current key that is not revoked, so that sessions can be issued.
    pub fn can_sign(&self) -> bool {
        self.with_keyring(|keyring| keyring.current().is_some())
    }

    /// Logs an error if no session can be issued, because the signing key was revoked.
    pub fn warn_unless_it_can_sign(&self) {
        if !self.can_sign() {
            tracing::error!("{WITHOUT_SIGNING_KEY}");
        }
    }

    /// Replaces the keyring, and empties the caches of opened tokens and checked signatures.
    fn next_generation(&self, keyring: Arc<Keyring>) {
        let number = self.keyring.load().number.wrapping_add(1);
        self.keyring.store(Arc::new(Generation {
            number,
            keyring,
            roots: VerifiedRoots::default(),
        }));
        self.opened.invalidate_all();
    }

    /// Calls `run` with the keyring in force.
    pub fn with_keyring<T>(&self, run: impl FnOnce(&Keyring) -> T) -> T {
        run(&self.keyring.load().keyring)
    }

    /// The keyring in force, in a form that can be held across an await.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.load().keyring.clone()
    }

    /// Opens a token, or takes it from the cache. Does not check whether it has expired.
    ///
    /// # Errors
    /// [`Error::InvalidClientTokenId`] if the token is malformed or altered, or no key of the keyring made it.
    pub fn open(&self, token: &str) -> Result<Arc<OpenedSession>, Error> {
        let generation = self.keyring.load();
        let digest = sha256(token.as_bytes());
        if let Some(opened) = self.opened.get(&digest)
            && opened.generation == generation.number
        {
            return Ok(opened.session);
        }
        let (claims, key) = token::open(&generation.keyring, &generation.roots, token)?;
        let session = Arc::new(opened(claims, key)?);
        self.opened.insert(
            digest,
            Opened {
                generation: generation.number,
                session: session.clone(),
            },
        );
        Ok(session)
    }
}

fn opened(mut claims: Claims, key: &SessionKey) -> Result<OpenedSession, Error> {
    claims.padding = Vec::new();
    let own = lineage::own(&claims, false);
    let ancestors = lineage::ancestors(&claims);
    let came_from = lineage::came_from(&own, &claims.source_identity, &ancestors)?;
    let account = IamArn::parse(&claims.principal_arn)
        .ok_or(Error::InvalidClientTokenId)?
        .account;
    let limits = packing::unpack(&claims.packed).ok_or(Error::InvalidClientTokenId)?;
    let policies = Compiled::new(&limits).map_err(|_| Error::InvalidClientTokenId)?;
    let id = claims
        .session_id
        .as_slice()
        .try_into()
        .map_err(|_| Error::InvalidClientTokenId)?;
    Ok(OpenedSession {
        account,
        arn: own.principal_arn(),
        user_id: lineage::user_id(
            account,
            claims.kind(),
            &claims.principal_id,
            &claims.session_name,
        ),
        policies,
        limits,
        vouched: Vouched::new(&claims),
        secret: SigningSecret::new(token::secret_access_key(key, id, &claims.access_key_id)?),
        came_from,
        claims,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;
    use crate::session::packing::TagClaim;

    /// A token of a session whose tags have this many bytes.
    fn token(keyring: &Arc<Keyring>, n: u8, bytes: usize) -> String {
        let tags = vec![TagClaim {
            key: "k".into(),
            value: "v".repeat(bytes),
            transitive: false,
        }];
        let mut limits = Limits {
            tags,
            ..Limits::default()
        };
        let claims = Claims {
            session_id: vec![n; 16],
            access_key_id: "ASIAAAAAAAAAAAAAAAAA".into(),
            principal_arn: "arn:aws:iam::111122223333:role/R".into(),
            packed: packing::pack(&mut limits).unwrap().bytes,
            ..Claims::default()
        };
        token::seal(keyring, &claims, &[n; 16]).unwrap()
    }

    #[test]
    fn remembered_tokens_are_bounded_in_number_and_in_bytes() {
        let opened = |max_tokens, max_bytes, tag_bytes| {
            let keyring =
                Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap();
            let tokens = Tokens::new(
                keyring,
                TokenBounds {
                    max_tokens,
                    max_bytes,
                },
            );
            for n in 0..100 {
                assert!(tokens.open(&token(&tokens.keyring(), n, tag_bytes)).is_ok());
            }
            tokens.opened.run_pending_tasks();
            assert!(tokens.opened.weighted_size() <= max_bytes);
            tokens.opened.entry_count()
        };
        assert_eq!(opened(10, 1 << 20, 10), 10);
        assert_eq!(opened(1_000, 1 << 20, 10), 100);
        assert!((50..80).contains(&opened(1_000, 1 << 20, 15_000)));
        assert_eq!(opened(0, 1 << 20, 10), 0);
        assert_eq!(opened(1_000, 0, 10), 0);
    }
}
