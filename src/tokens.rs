//! Evidence to [`Caller`]: who signed, with which key, and what stands behind that key.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moka::sync::Cache;

use crate::audit::{self, SessionAttributes, SessionContext, SessionIssuer, UserIdentity};
use crate::base::arn::{AccountId, IamArn};
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::host_names::HostNames;
use crate::base::names::Tag;
use crate::base::secret::Secret;
use crate::directory::{Directory, Effective, OidcProvider, Role, User, is_issuer};
use crate::error::Error;
use crate::evaluator::{Kind, Policy, Principal};
use crate::proof::jwt::{Flat, Rounded, TokenError, Unverified, Verified};
use crate::proof::sigv4::{Presented, Rules, SigningSecret};
use crate::providers::{KeyError, Providers};
use crate::revocations::{Key, Revocations, Selector, provider_subject};
use crate::session::keyring::{self, Keyring};
use crate::session::packing::{self, Limits};
use crate::session::token::{self, Ancestor, Claims};

/// How far another node's clock may be ahead of ours when it issues.
pub const ISSUED_AHEAD_SECONDS: i64 = 60;

/// What came with a request to say who calls.
pub enum Evidence {
    /// Nothing.
    Anonymous,
    /// Something, not judged yet.
    Shown(Shown),
}

/// What a caller showed.
pub enum Shown {
    /// A signature, with the session token that came along.
    Signature(Box<Presented>),
    /// A token of an OpenID Connect provider of that account.
    WebIdentity {
        /// As it came.
        token: Secret<String>,
        /// Of the role that is asked for.
        account: AccountId,
    },
}

/// The kinds of [`Shown`]: each operation takes one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A signature with a key of the directory or of a session.
    Signature,
    /// A token of an OpenID Connect provider.
    WebIdentity,
}

impl Evidence {
    /// A signature; none: nothing was shown.
    pub fn signed(presented: Option<Presented>) -> Self {
        presented.map_or(Self::Anonymous, |p| {
            Self::Shown(Shown::Signature(Box::new(p)))
        })
    }
}

impl Shown {
    /// Which kind it is.
    pub fn proof(&self) -> Proof {
        match self {
            Self::Signature(_) => Proof::Signature,
            Self::WebIdentity { .. } => Proof::WebIdentity,
        }
    }

    /// The region that a signature names.
    pub fn unverified_region(&self) -> Option<&str> {
        match self {
            Self::Signature(presented) => Some(presented.unverified_region()),
            Self::WebIdentity { .. } => None,
        }
    }

    /// Whether it is a signature in a URL, which is made to be passed on.
    pub fn is_presigned(&self) -> bool {
        match self {
            Self::Signature(presented) => presented.is_presigned(),
            Self::WebIdentity { .. } => false,
        }
    }

    /// What tells it from others, if whoever shows it is who is connected: a presigned URL does not
    /// say so.
    pub fn digest(&self) -> Option<[u8; 32]> {
        match self {
            Self::Signature(presented) if presented.is_presigned() => None,
            Self::Signature(presented) => presented.signature().try_into().ok(),
            Self::WebIdentity { token, .. } => Some(sha256(token.expose().as_bytes())),
        }
    }
}

/// Who calls: proven, and still in the directory.
pub struct Caller {
    /// What kind of principal.
    pub identity: Identity,
    /// The key that signed.
    pub access_key_id: String,
    /// What it may do and what limits it, in the snapshot that it was proven by.
    pub effective: Effective,
}

/// A proven principal.
pub enum Identity {
    /// A user, by a long-term key.
    User(Arc<User>),
    /// A user, by a session of its own.
    UserSession {
        /// The user as the directory has it now.
        user: Arc<User>,
        /// The session.
        session: Arc<OpenedSession>,
    },
    /// A session of a role that still exists.
    RoleSession {
        /// The role as the directory has it now.
        role: Arc<Role>,
        /// The session.
        session: Arc<OpenedSession>,
    },
    /// Somebody whom a user vouches for.
    FederatedUser {
        /// The user as the directory has it now.
        user: Arc<User>,
        /// The session.
        session: Arc<OpenedSession>,
    },
    /// Whoever an OpenID Connect provider vouches for.
    WebIdentity(Arc<WebIdentity>),
}

/// A token of an OpenID Connect provider that was verified.
pub struct WebIdentity {
    /// Who vouches.
    pub provider: Arc<OidcProvider>,
    /// Its claims.
    pub token: Verified,
    /// Its claims as conditions see them.
    pub claims: Vec<(String, Flat)>,
    /// `sub`
    pub subject: String,
    /// `azp` if there is one, else `aud`.
    pub audience: String,
    /// `iat`, in seconds since 1970.
    pub issued_at: i64,
    /// `exp`, in seconds since 1970.
    pub expires_at: i64,
    /// `ISSUER:AUDIENCE:SUBJECT`, as CloudTrail names it.
    principal_id: String,
}

impl WebIdentity {
    /// The provider's URL without its scheme: what the condition keys of its claims begin with.
    pub fn issuer(&self) -> &str {
        self.provider
            .url
            .split_once("://")
            .map_or(&*self.provider.url, |(_, rest)| rest)
    }

    /// What a session of this token carries of it.
    pub fn remembered(&self) -> token::WebIdentity {
        let methods = self
            .claims
            .iter()
            .find(|(path, _)| path.eq_ignore_ascii_case(METHODS))
            .map(|(_, value)| value);
        let (authentication_methods, methods_are_a_list) = match methods {
            None => (Vec::new(), false),
            Some(Flat::One(method)) => (vec![method.clone()], false),
            Some(Flat::Many(methods)) => (methods.clone(), true),
        };
        token::WebIdentity {
            subject: self.subject.clone(),
            audience: self.audience.clone(),
            authentication_methods,
            methods_are_a_list,
        }
    }
}

/// The claim that says how somebody was authenticated: OpenID Connect Core 1.0 section 2.
const METHODS: &str = "amr";
/// The longest list of these that is taken, in bytes with one for each member: a session token carries it.
const MAX_METHODS: usize = 1_024;

/// Whom a session of a web identity comes from, as its requests show it to policies.
pub struct Vouched {
    /// `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`
    pub provider_arn: String,
    /// Condition keys in lower case.
    pub keys: Vec<(String, Flat)>,
}

impl Vouched {
    /// None for a session that was not made of a provider's token.
    fn new(claims: &Claims) -> Option<Self> {
        // What was issued before tokens carried claims still says who vouched for it.
        let [provider] = claims.ancestors.as_slice() else {
            return None;
        };
        let (_, issuer) = provider.arn.split_once(":oidc-provider/")?;
        let issuer = issuer.to_ascii_lowercase();
        let mut keys = Vec::new();
        if let Some(identity) = &claims.web_identity {
            keys.push((format!("{issuer}:sub"), Flat::One(identity.subject.clone())));
            keys.push((
                format!("{issuer}:aud"),
                Flat::One(identity.audience.clone()),
            ));
            match (
                identity.methods_are_a_list,
                identity.authentication_methods.as_slice(),
            ) {
                (true, methods) => {
                    keys.push((format!("{issuer}:{METHODS}"), Flat::Many(methods.to_vec())))
                }
                (false, [method]) => {
                    keys.push((format!("{issuer}:{METHODS}"), Flat::One(method.clone())))
                }
                (false, _) => {}
            }
        }
        Some(Self {
            provider_arn: provider.arn.clone(),
            keys,
        })
    }
}

/// A session token that was opened, and what follows from it alone.
pub struct OpenedSession {
    /// What it says.
    pub claims: Claims,
    /// What cuts it.
    pub limits: Limits,
    /// The principal's account.
    pub account: AccountId,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`, `…:federated-user/NAME`, or the user's ARN.
    pub arn: String,
    /// `AROA…:SESSION`, `ACCOUNT:NAME`, or the user's `AIDA…`.
    pub user_id: String,
    /// The inline session policy.
    pub policy: Option<Policy>,
    /// Who vouched for it, if it is the session of a provider's token.
    pub web_identity: Option<Vouched>,
    secret: SigningSecret,
    /// All that it came from, as revocations name it.
    came_from: Box<[Key]>,
}

impl OpenedSession {
    /// Whether session policies cut it.
    pub fn is_restricted(&self) -> bool {
        self.policy.is_some() || !self.limits.policy_arns.is_empty()
    }

    /// What it takes in memory, in bytes: at least what it holds, by the texts that it is made of.
    pub fn weight(&self) -> usize {
        /// The structure itself, its signing key, its place in the cache, and what the allocator rounds up.
        const FIXED: usize = 1_728;
        /// An ancestor, a tag or an ARN with its allocations.
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
        let arns = self.limits.policy_arns.iter().map(|a| ITEM + a.len());
        let texts = [
            &claims.access_key_id,
            &claims.principal_arn,
            &claims.principal_id,
            &claims.session_name,
            &claims.source_identity,
            &claims.store_id,
            &self.arn,
            &self.user_id,
        ];
        FIXED
            + texts.map(String::len).iter().sum::<usize>()
            + claims.packed.len()
            + ancestors.chain(tags).chain(arns).sum::<usize>()
            + size_of_val(&*self.came_from)
            + self
                .policy
                .as_ref()
                .map_or(0, |_| compiled_weight(&self.limits.policy))
    }
}

/// What a policy takes in memory, text and compiled form, in bytes, by its text. Each string becomes patterns
/// that are made of atoms; an ARN has six, and `:`, `*`, `?` and `$` divide them.
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

/// How many opened tokens are remembered.
#[derive(Debug, Clone, Copy)]
pub struct TokenBounds {
    /// In number; 0: none is.
    pub max_tokens: u64,
    /// In bytes, as [`OpenedSession::weight`] counts.
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

/// The keyring, and the tokens that it opened lately.
pub struct Tokens {
    keyring: ArcSwap<Generation>,
    /// The ids of keys that were revoked, in whichever keyring they are. Held while a keyring is put in
    /// force.
    revoked: Mutex<BTreeSet<String>>,
    /// By the SHA-256 of all of a token's bytes.
    opened: Cache<[u8; 32], Opened>,
}

struct Generation {
    number: u64,
    keyring: Arc<Keyring>,
}

#[derive(Clone)]
struct Opened {
    /// Of the keyring that opened it: a retired key's tokens go with the keyring.
    generation: u64,
    session: Arc<OpenedSession>,
}

impl Tokens {
    /// Remembers tokens within bounds; the least used are forgotten.
    pub fn new(keyring: Keyring, bounds: TokenBounds) -> Self {
        // One bound does for both: no token counts for less than its share of the number.
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
        });
        Self {
            keyring,
            revoked: Mutex::default(),
            opened,
        }
    }

    /// Uses another keyring from now on, without the keys that were revoked.
    pub fn replace(&self, keyring: Keyring) {
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        keyring.revoke(&revoked);
        self.next_generation(Arc::new(keyring));
    }

    /// Does without keys from now on, in this keyring and in every later one. False: that is no news.
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

    /// Whether there is a key to make sessions with.
    pub fn can_sign(&self) -> bool {
        self.with_keyring(|keyring| keyring.current().is_some())
    }

    /// What was opened before is opened anew.
    fn next_generation(&self, keyring: Arc<Keyring>) {
        let number = self.keyring.load().number.wrapping_add(1);
        self.keyring.store(Arc::new(Generation { number, keyring }));
        self.opened.invalidate_all();
    }

    /// Runs with the keyring in force.
    pub fn with_keyring<T>(&self, run: impl FnOnce(&Keyring) -> T) -> T {
        run(&self.keyring.load().keyring)
    }

    /// The keyring in force, to be held across an await.
    pub fn keyring(&self) -> impl std::ops::Deref<Target = Keyring> + use<> {
        KeyringRef(self.keyring.load_full())
    }

    /// Opens a token, or remembers having done so. Says nothing of its expiry.
    fn open(&self, token: &str) -> Result<Arc<OpenedSession>, Error> {
        let generation = self.keyring.load();
        let digest = sha256(token.as_bytes());
        if let Some(opened) = self.opened.get(&digest)
            && opened.generation == generation.number
        {
            return Ok(opened.session);
        }
        let (claims, key) = token::open(&generation.keyring, token)?;
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

struct KeyringRef(Arc<Generation>);

impl std::ops::Deref for KeyringRef {
    type Target = Keyring;
    fn deref(&self) -> &Keyring {
        &self.0.keyring
    }
}

fn opened(claims: Claims, key: &keyring::Key) -> Result<OpenedSession, Error> {
    let own = own(&claims, false);
    let came_from = came_from(&own, &claims.source_identity, &ancestors(&claims))?;
    let account = IamArn::parse(&claims.principal_arn)
        .ok_or(Error::InvalidClientTokenId)?
        .account;
    let limits = packing::unpack(&claims.packed).ok_or(Error::InvalidClientTokenId)?;
    let policy = match limits.policy.as_str() {
        "" => None,
        text => Some(Policy::parse(Kind::Session, text).map_err(|_| Error::InvalidClientTokenId)?),
    };
    let id = claims
        .session_id
        .as_slice()
        .try_into()
        .map_err(|_| Error::InvalidClientTokenId)?;
    Ok(OpenedSession {
        account,
        arn: ancestor_arn(&own),
        user_id: user_id(
            account,
            claims.kind(),
            &claims.principal_id,
            &claims.session_name,
        ),
        policy,
        limits,
        web_identity: Vouched::new(&claims),
        secret: SigningSecret::new(session_secret(key, id, &claims.access_key_id)?),
        came_from,
        claims,
    })
}

/// Whom a session comes from, as what comes from it in turn says so: the session of a provider's token
/// has the token's subject in another place.
pub fn ancestors(claims: &Claims) -> Cow<'_, [Ancestor]> {
    match (claims.ancestors.as_slice(), &claims.web_identity) {
        ([provider], Some(identity)) if provider.subject.is_empty() => Cow::Owned(vec![Ancestor {
            subject: identity.subject.clone(),
            ..provider.clone()
        }]),
        (ancestors, _) => Cow::Borrowed(ancestors),
    }
}

fn own(claims: &Claims, restricted: bool) -> Ancestor {
    Ancestor {
        arn: claims.principal_arn.clone(),
        unique_id: claims.principal_id.clone(),
        access_key_id: claims.access_key_id.clone(),
        session_name: claims.session_name.clone(),
        session_id: claims.session_id.clone(),
        restricted,
        subject: String::new(),
    }
}

/// What `aws:userid` and GetCallerIdentity call a session's principal.
pub fn user_id(
    account: AccountId,
    kind: token::Kind,
    principal_id: &str,
    session_name: &str,
) -> String {
    match kind {
        token::Kind::Role => format!("{principal_id}:{session_name}"),
        token::Kind::User => principal_id.to_owned(),
        token::Kind::FederatedUser => format!("{account}:{session_name}"),
    }
}

/// The session itself and each of its ancestors, as revocations name them: what ends one of them
/// ends it.
///
/// # Errors
/// When one of them is no principal.
pub fn came_from(
    own: &Ancestor,
    source_identity: &str,
    ancestors: &[Ancestor],
) -> Result<Box<[Key]>, Error> {
    let account = IamArn::parse(&own.arn)
        .ok_or(Error::InvalidClientTokenId)?
        .account;
    let mut keys = vec![
        Key::new(Selector::Everything, "", ""),
        Key::new(Selector::Account, account.as_str(), ""),
    ];
    if !source_identity.is_empty() {
        keys.push(Key::new(
            Selector::SourceIdentity,
            account.as_str(),
            source_identity,
        ));
    }
    for ancestor in ancestors.iter().chain([own]) {
        let arn = IamArn::parse(&ancestor.arn).ok_or(Error::InvalidClientTokenId)?;
        let account = arn.account;
        keys.push(Key::new(
            Selector::AccessKey,
            account.as_str(),
            &ancestor.access_key_id,
        ));
        keys.push(Key::new(
            Selector::Principal,
            account.as_str(),
            &ancestor_arn(ancestor),
        ));
        if arn.kind == "role" {
            keys.push(Key::new(Selector::Role, account.as_str(), &ancestor.arn));
        }
        if !ancestor.subject.is_empty() {
            let subject = provider_subject(&ancestor.arn, &ancestor.subject);
            keys.push(Key::new(
                Selector::ProviderSubject,
                account.as_str(),
                &subject,
            ));
        }
        if !ancestor.session_id.is_empty() {
            keys.push(Key::new(
                Selector::Session,
                account.as_str(),
                &hex(&ancestor.session_id),
            ));
        }
    }
    Ok(keys.into())
}

/// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`
pub fn session_arn(account: AccountId, role_name: &str, role_session_name: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{role_name}/{role_session_name}")
}

/// The forty characters that a session's holder signs with.
///
/// # Errors
/// Never with a sound key.
pub fn session_secret(
    key: &keyring::Key,
    session_id: &[u8; 16],
    access_key_id: &str,
) -> Result<Secret<String>, Error> {
    Ok(Secret::new(STANDARD.encode(
        key.session_secret(session_id, access_key_id)?.as_ref(),
    )))
}

/// `arn:aws:sts::ACCOUNT:federated-user/NAME`
pub fn federated_user_arn(account: AccountId, name: &str) -> String {
    format!("arn:aws:sts::{account}:federated-user/{name}")
}

/// The principal's own ARN: the user's, or the session's.
pub fn ancestor_arn(ancestor: &Ancestor) -> String {
    match IamArn::parse(&ancestor.arn) {
        Some(arn) if ancestor.session_name.is_empty() || arn.name.is_empty() => {
            ancestor.arn.clone()
        }
        Some(role) if role.kind == "role" => {
            session_arn(role.account, role.name, &ancestor.session_name)
        }
        Some(user) => federated_user_arn(user.account, &ancestor.session_name),
        None => ancestor.arn.clone(),
    }
}

/// What callers are judged against.
pub struct Judges<'a> {
    /// The keys of session tokens.
    pub tokens: &'a Tokens,
    /// The snapshot.
    pub directory: &'a Directory,
    /// What was revoked.
    pub revocations: &'a Revocations,
    /// The store that says so.
    pub store_id: &'a str,
    /// What a signature must keep to.
    pub rules: &'a Rules,
    /// What clients call this broker.
    pub names: &'a HostNames,
    /// Whom the request must be for: `sts`, `iam`.
    pub service: &'a str,
}

/// Who signed. Host, scope and time come first, since they need no key.
///
/// # Errors
/// AWS's code for each: unknown key, wrong signature, expired or revoked session, foreign token.
pub fn authenticate(
    presented: &Presented,
    judges: &Judges<'_>,
    now: Timestamp,
) -> Result<Caller, Error> {
    let directory = judges.directory;
    for_this_broker(presented.unverified_host(), judges.names)?;
    presented.check_scope(now, judges.rules, judges.service)?;
    let id = presented.unverified_access_key_id();
    match presented.unverified_session_token() {
        Some(token) => {
            let session = judges.tokens.open(token)?;
            if session.claims.access_key_id != id {
                return Err(Error::InvalidClientTokenId);
            }
            session.secret.verify(presented)?;
            if now.seconds() >= session.claims.expires_at {
                return Err(Error::ExpiredToken);
            }
            if session.claims.issued_at > now.seconds() + ISSUED_AHEAD_SECONDS {
                return Err(Error::InvalidClientTokenId);
            }
            let revoked = judges.revocations.is_revoked(
                &session.came_from,
                session.claims.issued_under,
                session.claims.issued_at,
            );
            // What another store revoked is not known here.
            let foreign = session.claims.store_id != judges.store_id;
            if revoked || foreign || !session.claims.ancestors.iter().all(|a| lives(a, directory)) {
                return Err(Error::Ended);
            }
            let (identity, effective) = stands_behind(session, directory)?;
            Ok(Caller {
                identity,
                access_key_id: id.to_owned(),
                effective,
            })
        }
        None => {
            let key = directory
                .access_key(id)
                .filter(|k| k.active)
                .ok_or(Error::InvalidClientTokenId)?;
            key.secret.verify(presented)?;
            let user = directory
                .user(&key.user_arn)
                .ok_or(Error::InvalidClientTokenId)?;
            let effective = directory.effective_of_user(user)?;
            Ok(Caller {
                identity: Identity::User(user.clone()),
                access_key_id: id.to_owned(),
                effective,
            })
        }
    }
}

/// Refuses what was signed for another host: whoever that is may be passing it on.
fn for_this_broker(host: &str, names: &HostNames) -> Result<(), Error> {
    if names.contains(host) {
        return Ok(());
    }
    Err(Error::SignatureDoesNotMatch(format!(
        "The request was signed for the host `{}`, which is no name of this broker. It takes requests for: {names} \
         ([listen] names).",
        audit::clip(host)
    )))
}

/// How far a provider's clock may be ahead of ours, in seconds.
const PROVIDER_AHEAD_SECONDS: i64 = 60;
/// What whoever shows an unknown provider's token reads, and whoever shows a forged one.
const NOT_VOUCHED: &str = "The web identity token that was passed is not one that an identity provider of the role's account vouches for";

/// Why a token proves nobody: what the caller is told, and a reason for the audit.
type Unproven = (Error, &'static str);

fn not_vouched(reason: &'static str) -> Unproven {
    (Error::InvalidIdentityToken(NOT_VOUCHED.to_owned()), reason)
}

fn invalid(text: &str, reason: &'static str) -> Unproven {
    (Error::InvalidIdentityToken(text.to_owned()), reason)
}

/// Whom a token is of. What is wrong with it the caller learns as far as it can act on it; the reason
/// is for the audit. The broker itself, `own_issuer`, vouches for nobody here: what limits a session and
/// what ends it would be lost. The provider may have to be asked for its keys: the
/// token is then judged by the directory and the clock of the `moment` at which they are there.
///
/// # Errors
/// InvalidIdentityToken, ExpiredTokenException or IDPCommunicationError, each with a reason.
pub async fn authenticate_web_identity(
    token: &str,
    account: AccountId,
    providers: &Providers,
    directory: &Directory,
    own_issuer: Option<&str>,
    moment: impl FnOnce() -> (Arc<Directory>, Timestamp),
) -> Result<Caller, (Error, &'static str)> {
    let unverified = Unverified::read(token).map_err(|error| match error {
        TokenError::Header => not_vouched("the header is not accepted"),
        _ => not_vouched("malformed"),
    })?;
    let issuer = unverified.unverified_text("iss").unwrap_or_default();
    let rest = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"))
        .unwrap_or_default();
    // The provider is found by its whole name, which is then compared byte for byte.
    let provider = directory.oidc_provider(&format!("arn:aws:iam::{account}:oidc-provider/{rest}"));
    let own = own_issuer.is_some_and(|own| is_issuer(issuer, own));
    let unknown = if own {
        "the broker's own issuer"
    } else {
        "unknown issuer"
    };
    let provider = provider.filter(|p| *p.url == *issuer && !own).cloned();
    let key = match &provider {
        None => Err(unknown),
        Some(provider) => match providers.key(provider, unverified.key_id()).await {
            Ok(key) => Ok(key),
            Err(KeyError::Unknown) => Err("unknown key"),
            Err(KeyError::Unreachable) => {
                return Err((
                    Error::IdpCommunicationError,
                    "the provider's keys cannot be had",
                ));
            }
        },
    };
    let token = unverified.verify(key.as_ref().ok());
    let token = token.map_err(|_| not_vouched(key.err().unwrap_or("the signature is not good")))?;
    let asked = provider.ok_or_else(|| not_vouched(unknown))?;

    let (directory, now) = moment();
    let provider = as_it_is_now(&asked, &directory)?.clone();
    let (issued_at, expires_at) = times(&token, now)?;
    let subject = token
        .text("sub")
        .filter(|sub| (1..=255).contains(&sub.chars().count()));
    let subject = subject
        .ok_or_else(|| invalid("The token has no `sub`", "no sub"))?
        .to_owned();
    let audience = audience(&token, &provider)?;
    // A logout token has events; Keycloak's access and refresh tokens say what they are in the claims.
    let kind = token.text("typ").unwrap_or("ID");
    if token.claims().contains_key("events") || !["ID", "JWT"].contains(&kind) {
        return Err(invalid("The token is not an ID token", "not an ID token"));
    }
    let claims = token.flattened();
    let claims = claims.ok_or_else(|| {
        invalid(
            "Two claims of the token differ in case only",
            "ambiguous claims",
        )
    })?;
    let methods = claims
        .iter()
        .find(|(path, _)| path.eq_ignore_ascii_case(METHODS))
        .map(|(_, value)| match value {
            Flat::One(method) => method.len(),
            Flat::Many(methods) => methods.iter().map(|method| method.len() + 1).sum(),
        });
    if methods.is_some_and(|length| length > MAX_METHODS) {
        return Err(invalid(
            "The claim `amr` of the token is too long: 1,024 bytes are taken",
            "amr too long",
        ));
    }
    let principal_id = format!("{}:{audience}:{subject}", provider.url);
    let identity = WebIdentity {
        provider,
        claims,
        subject,
        audience,
        issued_at,
        expires_at,
        principal_id,
        token,
    };
    Ok(Caller {
        identity: Identity::WebIdentity(Arc::new(identity)),
        access_key_id: String::new(),
        effective: Effective::default(),
    })
}

/// Whether the provider that vouched for a caller still does: the token is not over, and the provider,
/// as the directory has it now, would take it. A caller that no provider vouches for passes.
///
/// # Errors
/// As [`authenticate_web_identity`].
pub fn still_vouched(caller: &Caller, directory: &Directory, now: Timestamp) -> Result<(), Error> {
    let Some(identity) = caller.web_identity() else {
        return Ok(());
    };
    let judged = as_it_is_now(&identity.provider, directory).and_then(|provider| {
        times(&identity.token, now)?;
        audience(&identity.token, provider)
    });
    judged.map(|_| ()).map_err(|(error, _)| error)
}

/// A provider as the directory has it now, if the key that was found for it before is still its own.
fn as_it_is_now<'d>(
    asked: &OidcProvider,
    directory: &'d Directory,
) -> Result<&'d Arc<OidcProvider>, Unproven> {
    let provider = directory
        .oidc_provider(&asked.arn)
        .filter(|p| p.url == asked.url);
    let provider = provider.ok_or_else(|| not_vouched("unknown issuer"))?;
    let is_changed = !std::ptr::eq(&**provider, asked);
    if is_changed && (asked.keys.is_some() || provider.keys.is_some() || !provider.asks_like(asked))
    {
        return Err((
            Error::IdpCommunicationError,
            "the provider was changed meanwhile",
        ));
    }
    Ok(provider)
}

/// When a token was issued and when it expires; it is good now.
fn times(token: &Verified, now: Timestamp) -> Result<(i64, i64), Unproven> {
    let time = |claim, rounded| {
        token
            .seconds(claim, rounded)
            .map_err(|_| invalid("A time in the token is not a number of seconds", "times"))
    };
    let expires_at =
        time("exp", Rounded::Down)?.ok_or_else(|| invalid("The token has no `exp`", "no exp"))?;
    let issued_at =
        time("iat", Rounded::Up)?.ok_or_else(|| invalid("The token has no `iat`", "no iat"))?;
    let not_before = time("nbf", Rounded::Up)?.unwrap_or(issued_at);
    if now.seconds() >= expires_at {
        let text = format!(
            "Token expired: current date/time {now} must be before the expiration date/time {}",
            Timestamp::from_seconds(expires_at)
        );
        return Err((Error::ExpiredWebIdentityToken(text), "expired"));
    }
    if issued_at.max(not_before) > now.seconds() + PROVIDER_AHEAD_SECONDS {
        return Err(invalid("The token is not valid yet", "not valid yet"));
    }
    Ok((issued_at, expires_at))
}

/// Whom a token is for: OpenID Connect Core 1.0 section 3.1.3.7. Of several audiences it must be for
/// us alone, or say whom it was given to.
fn audience(token: &Verified, provider: &OidcProvider) -> Result<String, Unproven> {
    let audiences = token.texts("aud").unwrap_or_default();
    let ours = |audience: &str| provider.client_ids.iter().any(|id| id == audience);
    let party = match token.claims().get("azp") {
        None => None,
        Some(azp) => Some(
            azp.as_str()
                .filter(|azp| ours(azp))
                .ok_or_else(|| invalid("Incorrect token audience", "azp"))?,
        ),
    };
    let for_us = match party {
        Some(_) => audiences.iter().any(|a| ours(a)),
        None => !audiences.is_empty() && audiences.iter().all(|a| ours(a)),
    };
    if !for_us {
        return Err(invalid("Incorrect token audience", "aud"));
    }
    Ok(party
        .or_else(|| audiences.first().copied())
        .unwrap_or_default()
        .to_owned())
}

/// The principal of a session as the directory has it now. A role or user that was deleted, or made
/// anew under its name, has no sessions; and none has what came from a principal or a key that is no
/// more.
fn stands_behind(
    session: Arc<OpenedSession>,
    directory: &Directory,
) -> Result<(Identity, Effective), Error> {
    let (arn, id) = (&session.claims.principal_arn, &session.claims.principal_id);
    let kind = session.claims.kind();
    if kind == token::Kind::Role {
        let role = directory
            .role(arn)
            .filter(|r| *r.id == **id)
            .cloned()
            .ok_or(Error::Ended)?;
        let effective = directory.effective_of_role(&role)?;
        return Ok((Identity::RoleSession { role, session }, effective));
    }
    let user = directory
        .user(arn)
        .filter(|u| *u.id == **id)
        .cloned()
        .ok_or(Error::Ended)?;
    let effective = directory.effective_of_user(&user)?;
    let identity = match kind {
        token::Kind::FederatedUser => Identity::FederatedUser { user, session },
        _ => Identity::UserSession { user, session },
    };
    Ok((identity, effective))
}

/// Whether a principal of the chain is still what it was.
fn lives(ancestor: &Ancestor, directory: &Directory) -> bool {
    if IamArn::parse(&ancestor.arn).is_some_and(|arn| arn.kind == "oidc-provider") {
        return directory.oidc_provider(&ancestor.arn).is_some();
    }
    let user = directory.user(&ancestor.arn);
    if ancestor.session_id.is_empty() {
        let key = directory.access_key(&ancestor.access_key_id);
        return user.is_some_and(|u| *u.id == ancestor.unique_id)
            && key.is_some_and(|k| k.active && *k.user_arn == ancestor.arn);
    }
    user.is_some_and(|u| *u.id == ancestor.unique_id)
        || directory
            .role(&ancestor.arn)
            .is_some_and(|r| *r.id == ancestor.unique_id)
}

impl Caller {
    /// The principal's own ARN: the user's, or the session's.
    pub fn arn(&self) -> &str {
        match (&self.identity, self.session()) {
            (Identity::WebIdentity(identity), _) => &identity.provider.arn,
            (_, Some(session)) => &session.arn,
            (_, None) => self.user().map_or("", |user| &user.arn),
        }
    }

    /// `AIDA…`, `AROA…:SESSION` or `ACCOUNT:NAME`.
    pub fn user_id(&self) -> &str {
        match (&self.identity, self.session()) {
            (Identity::WebIdentity(identity), _) => &identity.principal_id,
            (_, Some(session)) => &session.user_id,
            (_, None) => self.user().map_or("", |user| &user.id),
        }
    }

    /// The principal's account.
    pub fn account(&self) -> AccountId {
        match &self.identity {
            Identity::User(user) => user.account,
            Identity::UserSession { session, .. }
            | Identity::RoleSession { session, .. }
            | Identity::FederatedUser { session, .. } => session.account,
            Identity::WebIdentity(identity) => identity.provider.account,
        }
    }

    /// The session, if the caller holds temporary credentials.
    pub fn session(&self) -> Option<&OpenedSession> {
        match &self.identity {
            Identity::User(_) | Identity::WebIdentity(_) => None,
            Identity::UserSession { session, .. }
            | Identity::RoleSession { session, .. }
            | Identity::FederatedUser { session, .. } => Some(session),
        }
    }

    /// The user that the caller is, by whichever of its own credentials.
    pub fn user(&self) -> Option<&Arc<User>> {
        match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => Some(user),
            Identity::RoleSession { .. }
            | Identity::FederatedUser { .. }
            | Identity::WebIdentity(_) => None,
        }
    }

    /// The unique id of the user whose key or session this caller goes back to: its own, or that of
    /// whoever assumed the first role of the chain. A rule that protects a user from whoever has found a
    /// key of it asks for this, since a role's session is made with the key as easily.
    pub fn user_behind(&self) -> Option<&str> {
        match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => Some(&user.id),
            Identity::RoleSession { session, .. } => {
                let is_user =
                    |a: &&Ancestor| IamArn::parse(&a.arn).is_some_and(|arn| arn.kind == "user");
                session
                    .claims
                    .ancestors
                    .iter()
                    .find(is_user)
                    .map(|user| user.unique_id.as_str())
            }
            Identity::WebIdentity(_) => None,
        }
    }

    /// Whom an OpenID Connect provider vouches for.
    pub fn web_identity(&self) -> Option<&Arc<WebIdentity>> {
        match &self.identity {
            Identity::WebIdentity(identity) => Some(identity),
            _ => None,
        }
    }

    /// Whose budget a call is counted in: the user's or the role's unique id.
    pub fn budget_key(&self) -> &str {
        match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => &user.id,
            Identity::RoleSession { role, .. } => &role.id,
            Identity::WebIdentity(identity) => &identity.principal_id,
        }
    }

    /// How long ago the session's holder gave an MFA code, in seconds; none: no code was given.
    /// It counts for a user's own session alone: a role's session does not inherit it.
    pub fn mfa_age(&self, now: Timestamp) -> Option<i64> {
        match &self.identity {
            Identity::UserSession { session, .. } if session.claims.mfa_at > 0 => {
                Some(now.seconds().saturating_sub(session.claims.mfa_at).max(0))
            }
            _ => None,
        }
    }

    /// As policies name it.
    pub fn principal(&self) -> Principal<'_> {
        match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => Principal::User {
                account: user.account.as_str(),
                arn: &user.arn,
                id: Some(&user.id),
            },
            Identity::RoleSession { role, session } => Principal::RoleSession {
                account: role.account.as_str(),
                role: &role.name,
                role_arn: Some(&role.arn),
                arn: &session.arn,
                id: Some(&role.id),
            },
            Identity::FederatedUser { user, session } => Principal::FederatedUser {
                account: user.account.as_str(),
                arn: &session.arn,
            },
            Identity::WebIdentity(identity) => Principal::Federated(&identity.provider.arn),
        }
    }

    /// Its identity policies.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.effective.identity
    }

    /// Its permissions boundary.
    pub fn boundary(&self) -> Option<&Policy> {
        self.effective.boundary.as_deref()
    }

    /// How many principals a session that this caller makes comes from.
    pub fn depth(&self) -> usize {
        self.session().map_or(0, |s| s.claims.ancestors.len()) + 1
    }

    /// Whom a session that this caller makes comes from: the chain so far, and the caller.
    pub fn lineage(&self) -> Vec<Ancestor> {
        match (&self.identity, self.session()) {
            (_, Some(session)) => {
                let own = own(&session.claims, session.is_restricted());
                ancestors(&session.claims)
                    .iter()
                    .cloned()
                    .chain([own])
                    .collect()
            }
            (Identity::User(user), None) => vec![Ancestor {
                arn: user.arn.to_string(),
                unique_id: user.id.to_string(),
                access_key_id: self.access_key_id.clone(),
                ..Ancestor::default()
            }],
            // The provider: without it the sessions that it vouched for have nothing behind them.
            (Identity::WebIdentity(identity), _) => {
                vec![Ancestor {
                    arn: identity.provider.arn.to_string(),
                    ..Ancestor::default()
                }]
            }
            _ => Vec::new(),
        }
    }

    /// Its tags: the user's or the role's under the session's, which override them.
    pub fn tags(&self) -> Vec<Tag> {
        let own = match &self.identity {
            Identity::User(user)
            | Identity::UserSession { user, .. }
            | Identity::FederatedUser { user, .. } => &user.tags,
            Identity::RoleSession { role, .. } => &role.tags,
            Identity::WebIdentity(_) => return Vec::new(),
        };
        let Some(session) = self.session() else {
            return own.to_vec();
        };
        let tags = &session.limits.tags;
        let overridden = |t: &&Tag| !tags.iter().any(|s| s.key.eq_ignore_ascii_case(&t.key));
        let of_session = tags.iter().map(|s| Tag {
            key: s.key.clone(),
            value: s.value.clone(),
        });
        own.iter()
            .filter(overridden)
            .cloned()
            .chain(of_session)
            .collect()
    }

    /// As the audit names it.
    pub fn audited(&self) -> UserIdentity {
        let (r#type, user_name, issuer) = match &self.identity {
            Identity::User(user) | Identity::UserSession { user, .. } => {
                ("IAMUser", Some(user.name.to_string()), None)
            }
            Identity::RoleSession { role, .. } => (
                "AssumedRole",
                None,
                Some(("Role", &role.id, &*role.arn, role.account, &role.name)),
            ),
            Identity::FederatedUser { user, .. } => (
                "FederatedUser",
                None,
                Some(("IAMUser", &user.id, &*user.arn, user.account, &user.name)),
            ),
            Identity::WebIdentity(identity) => {
                ("WebIdentityUser", Some(identity.subject.clone()), None)
            }
        };
        UserIdentity {
            r#type: r#type.into(),
            principal_id: Some(self.user_id().to_owned()),
            arn: Some(self.arn().to_owned()),
            account_id: Some(self.account().to_string()),
            access_key_id: Some(self.access_key_id.clone()).filter(|id| !id.is_empty()),
            identity_provider: self
                .web_identity()
                .map(|identity| identity.provider.arn.to_string()),
            user_name,
            session_context: self.session().map(|session| SessionContext {
                session_issuer: issuer.map(|(r#type, id, arn, account, name)| SessionIssuer {
                    r#type,
                    principal_id: id.to_string(),
                    arn: arn.to_owned(),
                    account_id: account.to_string(),
                    user_name: name.to_string(),
                }),
                attributes: SessionAttributes {
                    creation_date: Timestamp::from_seconds(session.claims.issued_at).to_string(),
                    mfa_authenticated: if self.mfa_age(Timestamp::from_seconds(0)).is_some() {
                        "true"
                    } else {
                        "false"
                    },
                },
                source_identity: Some(session.claims.source_identity.clone())
                    .filter(|s| !s.is_empty()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;
    use crate::session::packing::TagClaim;

    /// A token of a session with so many bytes of tags.
    fn token(keyring: &Keyring, n: u8, bytes: usize) -> String {
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
