//! Identity providers that many organisations share under one issuer, and the check whether the
//! conditions of a statement say whose tokens are meant.
//!
//! `shared_issuers.json` lists the providers that AWS publishes, with the source, and says which
//! claims of their tokens identify the organisation.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::condition::Condition;

/// A provider that issues tokens to all of its customers under the same issuer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedProvider {
    /// The provider's name as people know it, such as `GitLab`.
    pub name: String,
    /// The issuers, written as in a provider's ARN.
    pub issuers: Vec<String>,
    /// The claim that AWS requires a trust policy to check; `None` if AWS requires none.
    pub control: Option<String>,
    /// For each claim (or condition key, if the name has a colon), patterns of the values that identify one
    /// organisation. `OWNER` in a pattern stands for the organisation's name or id; `how_to_read` in the file has the
    /// rules.
    pub(super) names_an_owner: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "how_to_read")]
    _how_to_read: Vec<String>,
    /// Values that are the same in the tokens of every organisation, so that they identify none.
    no_owner: Vec<String>,
    providers: Vec<SharedProvider>,
}

/// The list, which is compiled into the program. `None` if it cannot be read, which a test rules
/// out; every provider would then count as shared.
static LIST: LazyLock<Option<List>> =
    LazyLock::new(|| serde_json::from_str(include_str!("shared_issuers.json")).ok());

/// All providers of the list; empty if the list cannot be read.
pub fn shared_providers() -> &'static [SharedProvider] {
    LIST.as_ref()
        .map(|list| list.providers.as_slice())
        .unwrap_or_default()
}

/// Whether many organisations share the provider and no condition limits its tokens to those of one organisation. A
/// condition does so only if it requires a claim that identifies an organisation to equal given values, which have no
/// variable, and no wildcard before the end of the organisation's name.
pub(super) fn is_unbound(provider_arn: &str, conditions: &[Condition]) -> bool {
    let Some(issuer) = issuer(provider_arn) else {
        return false;
    };
    let Some(list) = LIST.as_ref() else {
        return true;
    };
    let Some((shared, _)) = find(issuer) else {
        return false;
    };
    let binds = |condition: &Condition| {
        let forms = shared.names_an_owner.iter().find(|(claim, _)| {
            let key = if claim.contains(':') {
                claim.to_ascii_lowercase()
            } else {
                claim_key(issuer, claim)
            };
            *key == *condition.key()
        });
        let (Some((_, forms)), Some(pinned)) = (forms, condition.pinned()) else {
            return false;
        };
        // An operator may ignore case, so no spelling of such a value identifies an organisation.
        let is_everybodys = |literal: &str| {
            list.no_owner
                .iter()
                .any(|value| value.eq_ignore_ascii_case(literal))
        };
        pinned.iter().all(|(literal, whole)| {
            !is_everybodys(literal) && names_an_owner(forms, literal, *whole)
        })
    };
    !conditions.iter().any(binds)
}

/// The condition key of a claim, in lower case.
fn claim_key(issuer: &str, claim: &str) -> String {
    format!("{issuer}:{claim}").to_ascii_lowercase()
}

/// Whether a value matches one of the patterns, and so identifies an organisation. `literal` is the text before the
/// value's first wildcard, and `whole` says that the value has no wildcard.
fn names_an_owner(forms: &[String], literal: &str, whole: bool) -> bool {
    forms.iter().any(|form| {
        let (before, end) = form.split_once("OWNER").unwrap_or((form, ""));
        literal
            .strip_prefix(before)
            .is_some_and(|rest| match rest.find(end) {
                Some(at) if !end.is_empty() => at > 0,
                _ => whole && !rest.is_empty(),
            })
    })
}

/// Finds the entry of an issuer, and the issuer as the list writes it. Trailing slashes and the
/// https port are ignored, since tenants cannot differ by them.
pub(super) fn find(issuer: &str) -> Option<(&'static SharedProvider, &'static str)> {
    let (host, path) = issuer.split_once('/').unwrap_or((issuer, ""));
    let host = host.strip_suffix(":443").unwrap_or(host);
    let is = |listed: &str| {
        let (wanted, wanted_path) = listed.split_once('/').unwrap_or((listed, ""));
        wanted.eq_ignore_ascii_case(host) && wanted_path == path.trim_end_matches('/')
    };
    shared_providers()
        .iter()
        .find_map(|p| p.issuers.iter().find(|i| is(i)).map(|i| (p, i.as_str())))
}

/// The part `HOST/PATH` of a provider's ARN.
pub(super) fn issuer(provider_arn: &str) -> Option<&str> {
    provider_arn
        .split_once(":oidc-provider/")
        .map(|(_, issuer)| issuer)
}
