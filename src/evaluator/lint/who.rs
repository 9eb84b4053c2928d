//! Checks whether the conditions of a statement limit it to certain callers, because its Principal element does not.

use std::net::IpAddr;

use crate::evaluator::condition::Condition;
use crate::evaluator::keys::{self, Presence, Source};
use crate::evaluator::statement::Statement;

/// Whether at least one condition can be met only by certain callers, such as those of an account, an organization, an
/// identity provider or a network. A key that every caller can have or choose (a time, a session name, an external id,
/// a tag, a source identity) identifies nobody, and neither does a condition that only excludes somebody.
pub(super) fn is_named(statement: &Statement) -> bool {
    statement
        .conditions
        .iter()
        .any(|c| c.needs_its_key() && names(c))
}

fn names(condition: &Condition) -> bool {
    let all = |test: fn(&str) -> bool| {
        !condition.wanted().is_empty() && condition.wanted().iter().all(|w| test(w))
    };
    match condition.key() {
        "aws:principalaccount" => all(is_account),
        "aws:principalarn" | "aws:federatedprovider" => {
            all(|arn| arn.split(':').nth(4).is_some_and(is_account))
        }
        "aws:userid" => all(|id| literal(id).len() >= 12),
        "aws:principalorgid" => all(is_organization),
        "aws:principalorgpaths" => all(|path| {
            path.split_once('/')
                .is_some_and(|(id, _)| is_organization(id))
        }),
        "aws:sourceip" => all(is_network),
        key => match keys::find(key) {
            // Nobody meets this condition; another finding reports that.
            Some(key) if matches!(key.presence, Presence::Never(_)) => true,
            Some(key) if key.source == Source::Oidc => all(|claim| !literal(claim).is_empty()),
            _ => false,
        },
    }
}

/// Whether the text is an account id, or the variable for the account that owns the role.
fn is_account(text: &str) -> bool {
    (text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()))
        || text.eq_ignore_ascii_case("${aws:ResourceAccount}")
}

/// Whether the text is the id of an organization, or the variable for that of the account that owns the
/// role.
fn is_organization(text: &str) -> bool {
    (text.starts_with("o-") && literal(text).len() >= 12 && literal(text) == text)
        || text.eq_ignore_ascii_case("${aws:ResourceOrgID}")
}

/// The part of a value before its first wildcard or variable.
fn literal(text: &str) -> &str {
    text.split(['*', '?', '$']).next().unwrap_or_default()
}

/// Whether the text is a range of addresses narrow enough to identify somebody. Amazon S3 User Guide,
/// "The meaning of \"public\"": a range broader than /8 (IPv6: /32) is public.
fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "128"));
    let least = match address.parse() {
        Ok(IpAddr::V4(_)) => 8,
        Ok(IpAddr::V6(_)) => 32,
        Err(_) => return false,
    };
    prefix.parse::<u8>().is_ok_and(|prefix| prefix >= least)
}
