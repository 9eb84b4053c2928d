//! The users and roles in trust policies and in the policies of buckets. People read and write them as ARNs, while rows
//! of the store name them by unique id, so that nobody is trusted for having the name of somebody who was deleted. IAM
//! User Guide, "AWS JSON policy elements: Principal": an ARN "transforms into the unique principal ID" of the user or
//! role when a policy is saved, and the id is shown when they are gone.

use std::collections::{HashMap, HashSet};

use super::declaration::Document;
use super::owners::Owners;
use super::resource::Resource;
use crate::base::arn::arn_of_principal;
use crate::evaluator::aws_principals;

/// Collects the unique ids of the users and roles among these resources.
pub fn owners(resources: &[Resource]) -> Owners {
    let mut owners = Owners::default();
    for resource in resources {
        match resource {
            Resource::User(user) => owners.add_user(&user.arn, &user.user_id),
            Resource::Role(role) => {
                owners.add_role(
                    resource.account(),
                    &role.role_name,
                    &role.arn,
                    &role.role_id,
                );
            }
            _ => {}
        }
    }
    owners
}

/// The AWS principals in a role's trust policy or in a bucket's policy, as written.
pub fn written(thing: &Resource) -> Vec<String> {
    let Some(Ok(text)) = thing.naming_policy().map(Document::text) else {
        return Vec::new();
    };
    aws_principals(&text)
        .into_iter()
        .map(|(_, principal)| principal)
        .collect()
}

/// Replaces each AWS principal in a role's trust policy or a bucket's policy for which `with` returns a text. The rest
/// of the policy's text stays as written. A malformed document is not changed; compiling it reports the error.
pub fn exchange(thing: &mut Resource, with: impl FnMut(&str) -> Option<String>) {
    if let Some(document) = thing.naming_policy_mut() {
        exchange_in(document, with);
    }
}

fn exchange_in(policy: &mut Option<Document>, mut with: impl FnMut(&str) -> Option<String>) {
    let Some(Ok(text)) = policy.as_ref().map(Document::text) else {
        return;
    };
    let (mut exchanged, mut from) = (String::with_capacity(text.len()), 0);
    for (range, principal) in aws_principals(&text) {
        let Some(other) = with(&principal) else {
            continue;
        };
        exchanged.push_str(text.get(from..range.start).unwrap_or_default());
        exchanged.push_str(&serde_json::Value::String(other).to_string());
        from = range.end;
    }
    if from == 0 {
        return;
    }
    exchanged.push_str(text.get(from..).unwrap_or_default());
    if let Ok(document) = Document::new(&exchanged) {
        *policy = Some(document);
    }
}

/// Returns the unique id from a stored principal, which is `ID` for a user or role, and `ID:SESSION` for a session of a
/// role.
pub fn id(principal: &str) -> &str {
    principal.split_once(':').map_or(principal, |(id, _)| id)
}

/// Replaces the unique ids of users and roles among `things` by their ARNs, in the trust policies and bucket policies
/// of `things`. Other unique ids stay.
pub fn show(things: &mut [Resource]) {
    let wanted: HashSet<String> = things
        .iter()
        .flat_map(written)
        .map(|p| id(&p).to_owned())
        .collect();
    let arns: HashMap<String, String> = things
        .iter()
        .filter(|thing| matches!(thing, Resource::User(_) | Resource::Role(_)))
        .filter_map(|thing| Some((thing.unique_id()?.to_owned(), thing.name().id)))
        .filter(|(id, _)| wanted.contains(id))
        .collect();
    for thing in things {
        exchange(thing, |principal| {
            arn_of_principal(principal, |id| arns.get(id).map(String::as_str))
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::declaration::RoleDetail;
    use crate::directory::owners::Named;
    use crate::directory::resource::ResourceKind;

    const ALICE: &str = "AIDAALICEALICEALICE1";
    const MID: &str = "AROAMIDMIDMIDMIDMID1";

    fn bind(role: &mut RoleDetail) {
        exchange_in(&mut role.assume_role_policy_document, |principal| {
            let named = Named::parse(principal)?;
            let id = match named {
                Named::User {
                    arn: "arn:aws:iam::111122223333:user/dev/alice",
                    ..
                } => ALICE,
                Named::Role {
                    arn: "arn:aws:iam::111122223333:role/prod/Mid",
                    ..
                } => MID,
                Named::Session {
                    account: "111122223333",
                    role: "Mid",
                    ..
                } => MID,
                _ => return None,
            };
            Some(named.bound(id))
        });
    }

    fn show_again(role: &RoleDetail) -> String {
        let parse =
            |kind, value: serde_json::Value| Resource::parse(kind, &value.to_string()).unwrap();
        let arn = |name: &str| format!("arn:aws:iam::111122223333:{name}");
        let mut things = [
            parse(
                ResourceKind::User,
                json!({"UserName": "alice", "UserId": ALICE, "Arn": arn("user/dev/alice")}),
            ),
            parse(
                ResourceKind::Role,
                json!({"RoleName": "Mid", "RoleId": MID, "Arn": arn("role/prod/Mid")}),
            ),
            Resource::Role(Box::new(role.clone())),
        ];
        show(&mut things);
        let [_, _, Resource::Role(role)] = things else {
            panic!("the order changed")
        };
        text(&role)
    }

    fn role(document: &str) -> RoleDetail {
        RoleDetail {
            assume_role_policy_document: Some(Document::new(document).unwrap()),
            ..RoleDetail::default()
        }
    }

    fn text(role: &RoleDetail) -> String {
        role.assume_role_policy_document
            .as_ref()
            .unwrap()
            .text()
            .unwrap()
            .into_owned()
    }

    #[test]
    fn what_is_bound_and_shown_again_is_as_it_was_written() {
        // White space, order, single texts and lists, and ARNs outside Principal elements.
        let written = r#"{ "Statement": [
            {"Sid": "arn:aws:iam::111122223333:user/dev/alice", "Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com","AWS" : [ "arn:aws:iam::111122223333:user/dev/alice",
              "111122223333","*","arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:user/x", "arn:aws:iam::111122223333:role\/prod\/Mid"]},"Action":"sts:AssumeRole"},
            {"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:sts::111122223333:assumed-role/Mid/job"},"Action":"sts:AssumeRole","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/dev/alice"}}},
            {"Effect":"Deny","Principal":"*","Action":"sts:TagSession"}], "Version":"2012-10-17" }"#;
        let mut bound = role(written);
        bind(&mut bound);
        let row = text(&bound);
        for id in [
            format!("\"{ALICE}\""),
            format!("\"{MID}\""),
            format!("\"{MID}:job\""),
        ] {
            assert_eq!(row.matches(&id).count(), 1, "{row}");
        }
        assert_eq!(
            row.matches("user/dev/alice").count(),
            2,
            "the Sid and the condition stay: {row}"
        );
        let mut again = bound.clone();
        bind(&mut again);
        assert_eq!(text(&again), row, "binding twice changes nothing");
        assert_eq!(
            show_again(&bound),
            written.replace("role\\/prod\\/Mid", "role/prod/Mid")
        );
    }

    #[test]
    fn what_has_no_unique_id_stays_as_it_is() {
        for stays in [
            "arn:aws-us-gov:iam::111122223333:user/dev/alice",
            "arn:aws:iam::111122223333:root",
            "arn:aws:sts::111122223333:federated-user/alice",
            "arn:aws:sts::111122223333:assumed-role/Mid/x",
            "arn:aws:sts::111122223333:assumed-role/Mid/a/b",
            "111122223333",
            "*",
            "AIDASOMEBODYWHOISGONE",
            "AROASOMEBODYWHOISGONE:job",
        ] {
            assert_eq!(Named::parse(stays), None, "{stays}");
            let document = json!({"Statement": {"Principal": {"AWS": stays}}}).to_string();
            assert_eq!(show_again(&role(&document)), document);
        }
    }

    proptest::proptest! {
        #[test]
        fn binding_and_showing_are_inverse(
            picks in proptest::collection::vec(0usize..7, 1..7),
            sid in "[A-Za-z0-9]{0,8}",
            spaces in "[ \n]{0,3}",
            element in proptest::sample::select(vec!["Principal", "NotPrincipal"]),
        ) {
            let known = [
                "arn:aws:iam::111122223333:user/dev/alice",
                "arn:aws:iam::111122223333:role/prod/Mid",
                "arn:aws:sts::111122223333:assumed-role/Mid/a.b@c",
                "arn:aws:iam::444455556666:role/x",
                "AIDASOMEBODYWHOISGONE",
                "111122223333",
                "*",
            ];
            let list: Vec<String> = picks.iter().map(|n| format!("{spaces}\"{}\"", known[*n])).collect();
            let written = format!(r#"{{"Statement":[{{"Sid":"{sid}","{element}":{{"AWS":[{}]}}}}]}}"#, list.join(","));
            let mut bound = role(&written);
            bind(&mut bound);
            proptest::prop_assert!(!text(&bound).contains("user/dev") && !text(&bound).contains("assumed-role"));
            proptest::prop_assert_eq!(show_again(&bound), written);
        }
    }
}
