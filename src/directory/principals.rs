//! The users and roles in trust policies. People read and write them as ARNs, while rows of the
//! store name them by unique id, so that nobody is trusted for having the name of somebody who was
//! deleted. IAM User Guide, "AWS JSON policy elements: Principal": an ARN "transforms into the
//! unique principal ID" of the user or role when a policy is saved, and the id is shown when they
//! are gone.

use std::collections::{HashMap, HashSet};

use super::declaration::{Document, RoleDetail};
use super::resource::Resource;
use crate::base::arn::{Arn, arn_of_principal};
use crate::base::names::RoleSessionName;
use crate::evaluator::aws_principals;

/// An ARN in a trust policy that belongs to something with a unique id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Named<'a> {
    /// A user, `arn:aws:iam::ACCOUNT:user/PATH/NAME`.
    User {
        /// The 12-digit account id.
        account: &'a str,
        /// The whole ARN as written.
        arn: &'a str,
    },
    /// A role, `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
    Role {
        /// The 12-digit account id.
        account: &'a str,
        /// The whole ARN as written.
        arn: &'a str,
    },
    /// A session of a role, `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    Session {
        /// The 12-digit account id.
        account: &'a str,
        /// The role's name without its path.
        role: &'a str,
        /// The name of the session, which trust policies keep next to the role's unique id.
        session: &'a str,
    },
}

impl<'a> Named<'a> {
    /// Parses an ARN. `None` for principals without a unique id: accounts, `*`, federated users,
    /// unique ids themselves, principals of another partition, and sessions with an impossible
    /// name.
    pub fn parse(principal: &'a str) -> Option<Self> {
        let arn =
            Arn::parse(principal).filter(|arn| arn.partition == "aws" && arn.region.is_empty());
        let Arn {
            service,
            account,
            resource,
            ..
        } = arn?;
        match (service, resource.split_once('/')?) {
            ("iam", ("user", _)) => Some(Self::User {
                account,
                arn: principal,
            }),
            ("iam", ("role", _)) => Some(Self::Role {
                account,
                arn: principal,
            }),
            ("sts", ("assumed-role", rest)) => {
                let (role, session) = rest.split_once('/')?;
                RoleSessionName::parse("RoleSessionName", session).ok()?;
                Some(Self::Session {
                    account,
                    role,
                    session,
                })
            }
            _ => None,
        }
    }

    /// The 12-digit account id.
    pub fn account(&self) -> &'a str {
        match self {
            Self::User { account, .. }
            | Self::Role { account, .. }
            | Self::Session { account, .. } => account,
        }
    }

    /// The text by which a row of the store names it, given the unique id of the user or role.
    pub fn bound(&self, id: &str) -> String {
        match self {
            Self::User { .. } | Self::Role { .. } => id.to_owned(),
            Self::Session { session, .. } => format!("{id}:{session}"),
        }
    }
}

/// The unique ids of the users and roles in a file, by the names that trust policies use.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<String, String>,
    roles: HashMap<String, String>,
    /// The unique ids of roles, by account and role name.
    role_names: HashMap<(String, String), String>,
}

impl Owners {
    /// Collects the unique ids of the users and roles among `things`.
    pub fn of(things: &[Resource]) -> Self {
        let mut owners = Self::default();
        for thing in things {
            match thing {
                Resource::User(user) => {
                    owners.users.insert(user.arn.clone(), user.user_id.clone());
                }
                Resource::Role(role) => {
                    let name = (thing.account().to_owned(), role.role_name.clone());
                    owners.role_names.insert(name, role.role_id.clone());
                    owners.roles.insert(role.arn.clone(), role.role_id.clone());
                }
                _ => {}
            }
        }
        owners
    }

    /// The text with the unique id for a principal that is named by ARN; `None` if it has none in
    /// this file.
    pub fn bound(&self, principal: &str) -> Option<String> {
        let named = Named::parse(principal)?;
        let id = match named {
            Named::User { arn, .. } => self.users.get(arn)?,
            Named::Role { arn, .. } => self.roles.get(arn)?,
            Named::Session { account, role, .. } => self
                .role_names
                .get(&(account.to_owned(), role.to_owned()))?,
        };
        Some(named.bound(id))
    }
}

/// The AWS principals of a role's trust policy as written.
pub fn written(role: &RoleDetail) -> Vec<String> {
    let Some(Ok(text)) = role
        .assume_role_policy_document
        .as_ref()
        .map(Document::text)
    else {
        return Vec::new();
    };
    aws_principals(&text)
        .into_iter()
        .map(|(_, principal)| principal)
        .collect()
}

/// Replaces AWS principals in a role's trust policy and leaves the rest of its text as written. A
/// malformed document is not changed; compiling it reports the error.
pub fn exchange(role: &mut RoleDetail, mut with: impl FnMut(&str) -> Option<String>) {
    let Some(Ok(text)) = role
        .assume_role_policy_document
        .as_ref()
        .map(Document::text)
    else {
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
        role.assume_role_policy_document = Some(document);
    }
}

/// The unique id in a principal that is a unique id or a session of one.
pub fn id(principal: &str) -> &str {
    principal.split_once(':').map_or(principal, |(id, _)| id)
}

/// Replaces unique ids in all trust policies by ARNs, where they belong to users or roles among
/// `things`.
pub fn show(things: &mut [Resource]) {
    let role = |thing: &Resource| {
        if let Resource::Role(role) = thing {
            written(role)
        } else {
            Vec::new()
        }
    };
    let wanted: HashSet<String> = things
        .iter()
        .flat_map(role)
        .map(|p| id(&p).to_owned())
        .collect();
    let arns: HashMap<String, String> = things
        .iter()
        .filter(|thing| matches!(thing, Resource::User(_) | Resource::Role(_)))
        .filter_map(|thing| Some((thing.unique_id()?.to_owned(), thing.name().id)))
        .filter(|(id, _)| wanted.contains(id))
        .collect();
    for thing in things {
        if let Resource::Role(role) = thing {
            exchange(role, |principal| {
                arn_of_principal(principal, |id| arns.get(id).map(String::as_str))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::resource::Kind;

    const ALICE: &str = "AIDAALICEALICEALICE1";
    const MID: &str = "AROAMIDMIDMIDMIDMID1";

    fn bind(role: &mut RoleDetail) {
        exchange(role, |principal| {
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
                Kind::User,
                json!({"UserName": "alice", "UserId": ALICE, "Arn": arn("user/dev/alice")}),
            ),
            parse(
                Kind::Role,
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
