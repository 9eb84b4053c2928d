//! The provider and the claims behind a session of a federated identity, as its requests show them
//! to policies.

use crate::proof::jwt::Flat;
use crate::session::token::Claims;

/// The claim that says how the user was authenticated: OpenID Connect Core 1.0 section 2.
pub const METHODS: &str = "amr";
/// The maximum length of this claim in bytes, with one for each list member, because session tokens
/// carry it.
pub const MAX_METHODS: usize = 1_024;

/// The provider and the claims behind a web identity session, as its requests show them to
/// policies.
pub struct Vouched {
    /// The provider's ARN, `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`.
    pub provider_arn: String,
    /// Condition keys with their values; names are in lower case.
    pub keys: Vec<(String, Flat)>,
}

impl Vouched {
    /// Reads them from a session token's claims; `None` if the session was not made from a
    /// provider's token.
    pub fn new(claims: &Claims) -> Option<Self> {
        // Sessions issued before session tokens carried claims still name the provider.
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
