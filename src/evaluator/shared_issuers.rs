//! Identity providers that many organisations share, all of them under one issuer, and whether the
//! conditions of a statement say whose tokens are meant.
//!
//! `shared_issuers.json` is the list of such providers that AWS publishes (and its source), with what
//! in their tokens names the organisation.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::condition::Condition;

/// A provider whose tokens every one of its customers can get, all under one issuer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedProvider {
    /// For people.
    pub name: String,
    /// As a provider's ARN names them.
    pub issuers: Vec<String>,
    /// The claim that AWS demands a trust policy to evaluate; none where AWS demands nothing.
    pub control: Option<String>,
    /// By claim, or by whole condition key: the forms of values that name an owner.
    pub(super) names_an_owner: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "how_to_read")]
    _how_to_read: Vec<String>,
    /// Values that every tenant's tokens have alike.
    no_owner: Vec<String>,
    providers: Vec<SharedProvider>,
}

/// A part of this program, which a test reads; none if it could not be read: every provider then counts
/// as shared.
static LIST: LazyLock<Option<List>> =
    LazyLock::new(|| serde_json::from_str(include_str!("shared_issuers.json")).ok());

/// All of them.
pub fn shared_providers() -> &'static [SharedProvider] {
    LIST.as_ref()
        .map(|list| list.providers.as_slice())
        .unwrap_or_default()
}

/// Whether a provider's tokens are anybody's, and no condition says whose are meant: only an
/// equality does, of a claim that names an owner, with no wildcard before the owner ends and no variable.
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
        // An operator may compare without case, so no spelling of such a value names an owner.
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

/// Whether a value is of a form that names an owner. `literal` is the text before its first
/// wildcard; `whole`: it has none.
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

/// An issuer's entry, and its name in the list. Trailing slashes and the port of https are no
/// difference that a tenant could make.
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

/// `HOST/PATH` of a provider's ARN.
pub(super) fn issuer(provider_arn: &str) -> Option<&str> {
    provider_arn
        .split_once(":oidc-provider/")
        .map(|(_, issuer)| issuer)
}
