//! The provider and the claims behind a session of a federated identity, for the condition keys of
//! its requests.

use crate::proof::jwt::Flat;
use crate::session::token::{Claims, Holder, SamlSubject, WebIdentity};

/// The claim that says how the user was authenticated: OpenID Connect Core 1.0 section 2.
pub const METHODS: &str = "amr";
/// The maximum length of the claim `amr` in bytes, with one byte for each list member. It is
/// limited because session tokens carry the claim.
pub const MAX_METHODS: usize = 1_024;

/// The provider and the claims behind a session of a federated identity, for the condition keys of
/// its requests.
pub struct Vouched {
    /// The provider's ARN, `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH` or
    /// `arn:aws:iam::ACCOUNT:saml-provider/NAME`.
    pub provider_arn: String,
    /// The condition keys with their values. Names are in lower case.
    pub keys: Vec<(String, Flat)>,
}

impl Vouched {
    /// Reads the provider and the claims from those of a session token. `None` if the session was not made directly
    /// from a provider's token or assertion.
    pub fn new(claims: &Claims) -> Option<Self> {
        // Sessions issued before session tokens carried claims still name the provider.
        let [provider] = claims.origins() else {
            return None;
        };
        let keys = match (provider.arn.split_once(":oidc-provider/"), &claims.holder) {
            (Some((_, issuer)), Some(Holder::WebIdentity(identity))) => {
                of_token(&issuer.to_ascii_lowercase(), identity)
            }
            (Some(_), _) => Vec::new(),
            (None, Some(Holder::Saml(subject))) => of_assertion(subject),
            (None, _) => return None,
        };
        Some(Self {
            provider_arn: provider.arn.clone(),
            keys,
        })
    }
}

fn of_token(issuer: &str, identity: &WebIdentity) -> Vec<(String, Flat)> {
    let mut keys = vec![
        (format!("{issuer}:sub"), Flat::One(identity.subject.clone())),
        (
            format!("{issuer}:aud"),
            Flat::One(identity.audience.clone()),
        ),
    ];
    let methods = identity.authentication_methods.as_slice();
    match (identity.methods_are_a_list, methods) {
        (true, methods) => {
            keys.push((format!("{issuer}:{METHODS}"), Flat::Many(methods.to_vec())));
        }
        (false, [method]) => {
            keys.push((format!("{issuer}:{METHODS}"), Flat::One(method.clone())));
        }
        (false, _) => {}
    }
    keys
}

fn of_assertion(subject: &SamlSubject) -> Vec<(String, Flat)> {
    let one = |key: &str, value: &str| (key.to_owned(), Flat::One(value.to_owned()));
    vec![
        one("saml:sub", &subject.subject),
        one("saml:sub_type", &subject.subject_type),
        one("saml:namequalifier", &subject.name_qualifier),
    ]
}
