//! Whom a session of a federated identity comes from, as its requests show it to policies.

use crate::proof::jwt::Flat;
use crate::session::token::Claims;

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
