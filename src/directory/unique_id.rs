//! The form of unique ids, and their generation: IAM User Guide, "IAM identifiers", section "Unique
//! identifiers".

use super::name::ResourceKind;
use crate::base::arn::AccountId;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::names::{AccessKeyId, AccessKeyKind};

/// The prefix of the unique ids of a kind; `None` if the kind has none.
pub fn prefix(kind: ResourceKind) -> Option<&'static str> {
    match kind {
        ResourceKind::User => Some("AIDA"),
        ResourceKind::Role => Some("AROA"),
        ResourceKind::Group => Some("AGPA"),
        ResourceKind::Policy => Some("ANPA"),
        ResourceKind::InstanceProfile => Some("AIPA"),
        ResourceKind::Account
        | ResourceKind::AccessKey
        | ResourceKind::MfaDevice
        | ResourceKind::LoginProfile
        | ResourceKind::OidcProvider
        | ResourceKind::SamlProvider
        | ResourceKind::Association
        | ResourceKind::BucketPolicy
        | ResourceKind::Certificate
        | ResourceKind::Organization => None,
    }
}

/// Generates a unique id for a resource of an account. It has 39 random bits, so that callers who
/// generate many must check for duplicates.
///
/// # Errors
/// [`NoEntropy`] if there are no random bytes.
pub fn mint(prefix: &str, account: AccountId, entropy: &dyn Entropy) -> Result<String, NoEntropy> {
    let minted = AccessKeyId::mint(AccessKeyKind::LongTerm, account, entropy::bytes(entropy)?);
    Ok(format!(
        "{prefix}{}",
        minted.as_str().trim_start_matches("AKIA")
    ))
}
