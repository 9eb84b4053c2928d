//! An index of statements by action. With it, a decision looks only at statements that may cover
//! the action, so that a policy with a thousand statements does not cost a thousand matches.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::statement::{ActionPattern, Actions, Effect, Statement};

/// The index of one document. It is built once and read without allocation.
#[derive(Debug, Clone)]
pub(super) struct Index {
    allow: Buckets,
    deny: Buckets,
}

/// Sorted names in lower case, each with the positions of its statements.
type Bucket = Box<[(Box<str>, Box<[u32]>)]>;

#[derive(Debug, Clone, Default)]
struct Buckets {
    /// Statements that name a whole action, by that action in lower case. They certainly cover it.
    exact: Bucket,
    /// Statements with a wildcard in the action's name, by service in lower case.
    service: Bucket,
    /// Statements with `*`, `NotAction` or a wildcard in the service.
    any: Box<[u32]>,
}

impl Index {
    pub fn new(statements: &[Statement]) -> Self {
        Self {
            allow: Buckets::new(statements, Effect::Allow),
            deny: Buckets::new(statements, Effect::Deny),
        }
    }

    /// The positions of the statements with this effect that may cover the action. The flag says that the statement
    /// certainly covers it. A position may occur twice.
    pub fn candidates<'a>(
        &'a self,
        effect: Effect,
        action: &str,
    ) -> impl Iterator<Item = (usize, bool)> + use<'a> {
        let buckets = match effect {
            Effect::Allow => &self.allow,
            Effect::Deny => &self.deny,
        };
        let service = action.split(':').next().unwrap_or_default();
        let sure = find(&buckets.exact, action).iter().map(|at| (*at, true));
        let maybe = find(&buckets.service, service)
            .iter()
            .chain(&buckets.any)
            .map(|at| (*at, false));
        sure.chain(maybe)
            .map(|(at, sure)| (usize::try_from(at).unwrap_or(usize::MAX), sure))
    }
}

impl Buckets {
    fn new(statements: &[Statement], effect: Effect) -> Self {
        let (mut exact, mut service, mut any) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let put = |map: &mut BTreeMap<String, Vec<u32>>, key: &str, at: u32| {
            let list = map.entry(key.to_ascii_lowercase()).or_default();
            if list.last() != Some(&at) {
                list.push(at);
            }
        };
        for (at, statement) in statements
            .iter()
            .enumerate()
            .filter(|(_, s)| s.effect == effect)
        {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let Actions::Are(patterns) = &statement.actions else {
                any.push(at);
                continue;
            };
            for pattern in patterns {
                match pattern {
                    ActionPattern::Named { text, .. } if !text.contains(['*', '?']) => {
                        put(&mut exact, text, at)
                    }
                    ActionPattern::Named { text, .. } => match text.split_once(':') {
                        Some((name, _)) if !name.contains(['*', '?']) => {
                            put(&mut service, name, at)
                        }
                        _ => any.push(at),
                    },
                    ActionPattern::Any => any.push(at),
                }
            }
        }
        any.dedup();
        let boxed = |map: BTreeMap<String, Vec<u32>>| {
            map.into_iter().map(|(k, v)| (k.into(), v.into())).collect()
        };
        Self {
            exact: boxed(exact),
            service: boxed(service),
            any: any.into(),
        }
    }
}

fn find<'a>(sorted: &'a Bucket, key: &str) -> &'a [u32] {
    match sorted.binary_search_by(|(name, _)| compare(name, key)) {
        Ok(at) => sorted.get(at).map_or(&[], |(_, list)| list),
        Err(_) => &[],
    }
}

/// Compares `lower`, which is in lower case, with `other` converted to lower case.
fn compare(lower: &str, other: &str) -> Ordering {
    lower
        .bytes()
        .cmp(other.bytes().map(|b| b.to_ascii_lowercase()))
}
