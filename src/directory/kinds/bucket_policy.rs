//! Policies of the buckets of object stores. They belong to the directory, and the broker decides by them. A
//! policy that the store itself keeps for a bucket has no effect here.

use serde_json::Value;

use crate::base::arn::AccountId;
use crate::base::entropy::NoEntropy;
use crate::base::names::is_bucket;
use crate::directory::compile::compile;
use crate::directory::declared::{Declared, Defaults, Insertion, PolicyOf, Source, keep};
use crate::directory::limits::Limits;
use crate::directory::shape::{Document, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::evaluator::{Policy, PolicyKind, strangers};

/// The prefix of the ARN of every bucket.
const ARN: &str = "arn:aws:s3:::";

shape! {
    /// The policy of a bucket as a directory file declares it.
    BucketPolicyDetail {
        /// The name of the bucket. The name of its store is not part of it.
        bucket: String,
        /// The account that owns the bucket. The policy is in force only if `[[s3.stores]]` names the same account.
        account_id: String,
        policy: Option<Document>,
        create_date: Option<String>,
    }
}

/// The policy of a bucket in a snapshot.
#[derive(Debug)]
pub struct BucketPolicy {
    pub bucket: Box<str>,
    /// The account that declares the policy. The policy is in force only if this account owns the bucket.
    pub account: AccountId,
    pub policy: Policy,
}

impl BucketPolicy {
    /// Returns a warning if the policy allows requests of everybody, including those without credentials.
    pub fn warning(&self) -> Option<String> {
        strangers::public_statement(&self.policy).map(|at| {
            format!(
                "the policy of bucket {} allows everybody, even without credentials: Statement[{at}] has the Principal \
                `*` and no condition that restricts the principal; name the principals, or add such a condition",
                self.bucket
            )
        })
    }
}

impl Keyed for BucketPolicy {
    fn key(&self) -> &str {
        &self.bucket
    }
}

impl Declared for BucketPolicyDetail {
    fn id(&self) -> &str {
        &self.bucket
    }

    fn account(&self) -> &str {
        &self.account_id
    }

    fn policies(&self) -> Vec<PolicyOf<'_>> {
        vec![PolicyOf {
            kind: PolicyKind::Resource,
            place: "Policy".to_owned(),
            document: self.policy.as_ref(),
        }]
    }

    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        vec![&mut self.policy]
    }

    fn naming_policy(&self) -> Option<&Document> {
        self.policy.as_ref()
    }

    fn naming_policy_mut(&mut self) -> Option<&mut Option<Document>> {
        Some(&mut self.policy)
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
    }

    fn check(&self, _: &mut Limits<'_>) {}

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        if !is_bucket(&self.bucket) {
            return Err(fault(
                format!("{place}: Bucket"),
                "must be the name of a bucket: 3 to 63 lower-case letters, digits, `-` or `.`, with a letter or digit at both \
                 ends, without `..`, and not an IPv4 address",
            ));
        }
        let account = AccountId::parse(&self.account_id).ok_or_else(|| {
            fault(
                format!("{place}: AccountId"),
                "must be the 12 digits of the account that owns the bucket",
            )
        })?;
        let place = format!("{place}: Policy");
        let mut policy = compile(&place, PolicyKind::Resource, self.policy.as_ref())?;
        if let Some(other) = self.policy.as_ref().and_then(|p| foreign(p, &self.bucket)) {
            let bucket = &self.bucket;
            let rule = format!(
                "the resource `{other}` can never match: name `{ARN}{bucket}` for the bucket and `{ARN}{bucket}/…` for its objects"
            );
            return Err(fault(place, rule));
        }
        if let Source::File(owners) = how.source {
            policy.bind_principals(|principal| owners.bound(principal));
        }
        directory.bucket_policies.put(BucketPolicy {
            bucket: self.bucket.as_str().into(),
            account,
            policy,
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.bucket_policies.remove(id);
    }
}

/// Finds a resource in the policy that can match neither the bucket nor one of its objects. S3 refuses such a policy
/// with `Policy has invalid resource`: Amazon S3 User Guide, "Policies and permissions in Amazon S3". The document must
/// have been compiled, so that its elements have the right form.
fn foreign(document: &Document, bucket: &str) -> Option<String> {
    let whole: Value = serde_json::from_str(&document.text().ok()?).ok()?;
    let statements = several(whole.get("Statement")?);
    let named = statements.iter().flat_map(|statement| {
        let element = statement.get("Resource");
        element.map(several).unwrap_or_default()
    });
    let mut texts = named.filter_map(Value::as_str);
    texts
        .find(|text| !may_match(text, bucket))
        .map(str::to_owned)
}

/// The items of a list, or the value itself.
fn several(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

/// Whether a resource in the policy, which may have wildcards and variables, can match the bucket or one of its
/// objects.
fn may_match(pattern: &str, bucket: &str) -> bool {
    let own = [ARN, bucket].concat();
    let open = pattern.find(['*', '?']).or_else(|| pattern.find("${"));
    match open.and_then(|at| pattern.get(..at)) {
        None => {
            pattern == own
                || pattern
                    .strip_prefix(&own)
                    .is_some_and(|r| r.starts_with('/'))
        }
        Some(literal) => {
            let objects = own + "/";
            objects.starts_with(literal) || literal.starts_with(&objects)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::evaluator::NamedPrincipal;

    const ACCOUNT: &str = "111122223333";

    fn directory(policy: Value, more: Value) -> Result<Directory, String> {
        let mut declared = json!({"Bucket": "data", "AccountId": ACCOUNT, "Policy": policy});
        for (field, value) in more.as_object().unwrap() {
            declared[field] = value.clone();
        }
        let user = json!({"UserName": "alice", "UserId": "AIDAALICEALICEALICE1", "Arn": format!("arn:aws:iam::{ACCOUNT}:user/alice")});
        let file = json!({"UserDetailList": [user], "Brevet": {"BucketPolicies": [declared]}});
        Directory::compile(file.to_string().as_bytes(), None).map_err(|e| e.to_string())
    }

    fn statement(principal: Value, resource: Value) -> Value {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject", "Resource": resource}]})
    }

    #[test]
    fn a_bucket_policy_names_users_by_their_unique_ids() {
        let alice = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:user/alice")});
        let policy = statement(alice, json!("arn:aws:s3:::data/*"));
        let directory = directory(policy, json!({})).unwrap();
        let found = directory.bucket_policy("data").unwrap();
        assert_eq!(found.account.as_str(), ACCOUNT);
        let named: Vec<_> = found.policy.named_principals().collect();
        assert_eq!(named, [NamedPrincipal::ById("AIDAALICEALICEALICE1")]);
        assert!(directory.bucket_policy("other").is_none());
    }

    #[test]
    fn cf_01_what_breaks_a_rule_is_named() {
        let everybody = |resource: &str| statement(json!("*"), json!([resource]));
        let good = || everybody("arn:aws:s3:::data/*");
        for (policy, more, expected) in [
            (
                good(),
                json!({"Bucket": "Data"}),
                "Bucket: must be the name of a bucket",
            ),
            (
                good(),
                json!({"AccountId": "1"}),
                "AccountId: must be the 12 digits",
            ),
            (good(), json!({"Policy": null}), "Policy: is required"),
            (
                everybody("arn:aws:s3:::database/*"),
                json!({}),
                "`arn:aws:s3:::database/*` can never match",
            ),
            (
                json!({"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*"}]}),
                json!({}),
                "Principal is required",
            ),
            (good(), json!({"Owner": "x"}), "unknown field `Owner`"),
        ] {
            let error = directory(policy, more).err().unwrap();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn resources_are_those_of_the_bucket() {
        for (pattern, expected) in [
            ("arn:aws:s3:::data", true),
            ("arn:aws:s3:::data/*", true),
            ("arn:aws:s3:::data/home/${aws:username}/*", true),
            ("arn:aws:s3:::data*", true),
            ("arn:aws:s3:::*", true),
            ("*", true),
            ("arn:aws:s3:::data/x", true),
            ("arn:aws:s3:::database", false),
            ("arn:aws:s3:::database/*", false),
            ("arn:aws:s3:::other/*", false),
            ("arn:aws:sqs:us-east-1:111122223333:data", false),
        ] {
            assert_eq!(may_match(pattern, "data"), expected, "{pattern}");
        }
    }
}
