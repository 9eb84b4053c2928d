//! AWS managed policies that are built in, for directories that do not import AWS's own documents.
//!
//! The names are AWS's. The documents are Brevet's own, written for the known purpose of each policy
//! and without AWS's text. If the directory contains a policy with the same ARN, that one is used
//! instead. A built-in policy is compiled when it is first needed, and then shared by all snapshots.

mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::{Value, json};

use super::declaration::{Document, ManagedPolicyDetail, PolicyVersion};
use super::kinds::ManagedPolicy;
use super::name::folded;
use super::resource::Resource;
use crate::base::arn::{name_of, path_of};
use crate::base::digest::sha256;
use crate::evaluator::{Policy, PolicyKind};
use table::{ENTRIES, Entry, Grants};

/// The prefix of the ARNs of all AWS managed policies.
const PREFIX: &str = "arn:aws:iam::aws:policy/";
/// The date that all built-in documents have as their creation date.
const DATE: &str = "2026-11-01T00:00:00Z";
/// The description that every built-in policy has.
const DESCRIPTION: &str = "This document was written for Brevet. It is meant to allow what AWS's policy of the same \
    name allows, but does not follow AWS's changes; to use AWS's own document, import it.";

/// A built-in policy, which is compiled when it is first used.
struct BuiltIn {
    arn: String,
    entry: &'static Entry,
    compiled: OnceLock<Option<Arc<ManagedPolicy>>>,
}

/// The built-in policies by folded name, which is the order in which they are listed.
static BUILT_IN: LazyLock<BTreeMap<String, BuiltIn>> = LazyLock::new(|| {
    let by_name = ENTRIES.iter().map(|entry| {
        let arn = format!("{PREFIX}{}", entry.name);
        let name = name_of(entry.name);
        let built_in = BuiltIn {
            arn,
            entry,
            compiled: OnceLock::new(),
        };
        (folded("aws", name), built_in)
    });
    by_name.collect()
});

fn find(arn: &str) -> Option<&'static BuiltIn> {
    let name = name_of(arn.strip_prefix(PREFIX)?);
    let built_in = BUILT_IN.get(&folded("aws", name))?;
    (built_in.arn == arn).then_some(built_in)
}

/// Whether there is a built-in policy with this ARN.
pub fn is_built_in(arn: &str) -> bool {
    find(arn).is_some()
}

/// The compiled built-in policy with this ARN.
pub(super) fn built_in(arn: &str) -> Option<&'static Arc<ManagedPolicy>> {
    let built_in = find(arn)?;
    let compile = || {
        let text = built_in.entry.document().to_string();
        let policy = Policy::parse(PolicyKind::AwsManaged, &text).ok()?;
        Some(Arc::new(ManagedPolicy {
            arn: built_in.arn.as_str().into(),
            policy: Arc::new(policy),
            versions: 1,
            tags: Box::default(),
        }))
    };
    built_in.compiled.get_or_init(compile).as_ref()
}

/// The built-in policy with this ARN, in the form of AWS's export.
pub fn built_in_detail(arn: &str) -> Option<Resource> {
    find(arn).and_then(BuiltIn::detail)
}

/// The built-in policies whose folded names come after `after`, each with its folded name.
pub fn built_in_after(after: &str) -> impl Iterator<Item = (&'static str, Resource)> {
    let after = (
        std::ops::Bound::Excluded(after.to_owned()),
        std::ops::Bound::Unbounded,
    );
    let found = BUILT_IN.range(after);
    found.filter_map(|(folded, built_in)| Some((folded.as_str(), built_in.detail()?)))
}

impl BuiltIn {
    fn detail(&self) -> Option<Resource> {
        let document = Document::new(&self.entry.document().to_string()).ok()?;
        let name = name_of(&self.arn);
        Some(Resource::Policy(ManagedPolicyDetail {
            policy_name: name.to_owned(),
            policy_id: Some(unique_id(&self.arn)),
            arn: self.arn.clone(),
            path: Some(path_of(&self.arn)),
            description: Some(DESCRIPTION.to_owned()),
            default_version_id: Some("v1".to_owned()),
            is_attachable: Some(true),
            create_date: Some(DATE.to_owned()),
            update_date: Some(DATE.to_owned()),
            policy_version_list: vec![PolicyVersion {
                document: Some(document),
                version_id: "v1".to_owned(),
                is_default_version: true,
                create_date: Some(DATE.to_owned()),
            }],
            ..ManagedPolicyDetail::default()
        }))
    }
}

/// Makes the unique id of a built-in policy from its ARN, so that it is the same everywhere.
fn unique_id(arn: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = sha256(arn.as_bytes());
    let letters = digest.iter().take(17).map(|byte| {
        let letter = LETTERS.get(usize::from(byte % 32)).copied();
        char::from(letter.unwrap_or(b'A'))
    });
    format!("ANPA{}", letters.collect::<String>())
}

impl Entry {
    /// Makes the document of the policy, as JSON.
    fn document(&self) -> Value {
        let statement = match self.grants {
            Grants::Everything => json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]),
            Grants::Nothing => json!([{"Effect": "Deny", "Action": "*", "Resource": "*"}]),
            Grants::AllBut(actions) => {
                json!([{"Effect": "Allow", "NotAction": actions, "Resource": "*"}])
            }
            Grants::Actions(actions) => {
                json!([{"Effect": "Allow", "Action": actions, "Resource": "*"}])
            }
            Grants::On(parts) => parts
                .iter()
                .map(|(resource, actions)| {
                    json!({"Effect": "Allow", "Action": actions, "Resource": resource})
                })
                .collect(),
        };
        json!({"Version": "2012-10-17", "Statement": statement})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_compiles_and_says_whose_it_is() {
        assert_eq!(BUILT_IN.len(), ENTRIES.len(), "names are unique");
        for built_in_policy in BUILT_IN.values() {
            let arn = &built_in_policy.arn;
            assert!(built_in(arn).is_some(), "{arn}");
            let Some(Resource::Policy(policy)) = built_in_detail(arn) else {
                panic!("{arn}");
            };
            assert!(policy.description.unwrap().contains("Brevet"));
            let id = policy.policy_id.unwrap();
            assert!(id.len() == 21 && id.starts_with("ANPA"), "{id}");
        }
    }

    #[test]
    fn only_the_whole_arn_names_a_policy() {
        let arn = format!("{PREFIX}AdministratorAccess");
        assert!(is_built_in(&arn) && built_in_detail(&arn).is_some());
        for other in [
            format!("{PREFIX}administratoraccess"),
            format!("{PREFIX}job-function/AdministratorAccess"),
            format!("{PREFIX}Nonsense"),
            arn.replace("::aws:", "::111122223333:"),
        ] {
            assert!(
                !is_built_in(&other) && built_in(&other).is_none(),
                "{other}"
            );
        }
        let first = built_in_after("").next().unwrap().0;
        assert!(built_in_after(first).all(|(name, _)| name > first));
    }
}
