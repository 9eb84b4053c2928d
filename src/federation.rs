//! Whom a provider vouches for, and what a session of theirs still shows of it.

use std::sync::Arc;

use crate::directory::OidcProvider;
use crate::proof::jwt::{Flat, Verified};
use crate::session::token::{self, Claims};

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
    pub principal_id: String,
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
pub const METHODS: &str = "amr";
/// The longest list of these that is taken, in bytes with one for each member: a session token carries it.
pub const MAX_METHODS: usize = 1_024;

/// Whom a session of a web identity comes from, as its requests show it to policies.
pub struct Vouched {
    /// `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`
    pub provider_arn: String,
    /// Condition keys in lower case.
    pub keys: Vec<(String, Flat)>,
}

impl Vouched {
    /// None for a session that was not made of a provider's token.
    pub fn new(claims: &Claims) -> Option<Self> {
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
