//! Two administrators at once: no change is lost, and whatever the order of two changes that exclude
//! each other, exactly one of them is made. How long it takes until another broker decides by a change.

use std::time::{Duration, Instant};

use brevet::client::Client;
use serde_json::Value;

use crate::harness::*;
use crate::iam_account::details;
use crate::postgres::{Postgres, brokers, quantiles};
use crate::store::times;

/// How many times two changes meet, for each kind of conflict.
const ROUNDS: usize = 9;
const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;

/// The answer to a call, or the code of its refusal.
type Said = Result<Value, String>;
type Parameters<'a> = &'a [(&'a str, &'a str)];

/// Two administrators, who may call two brokers of one store.
struct Administrators<'b> {
    brokers: [&'b Broker; 2],
    clients: [Client; 2],
    calls: usize,
}

impl<'b> Administrators<'b> {
    fn of(brokers: [&'b Broker; 2]) -> Self {
        Self {
            brokers,
            clients: brokers.map(|broker| broker.client(&user(ADMIN))),
            calls: 0,
        }
    }

    /// Makes what a round needs, and waits until both brokers know it.
    async fn prepare(&self, action: &str, parameters: Parameters<'_>) -> Value {
        let made = self.clients[0].iam(action, parameters).await;
        let made = made.unwrap_or_else(|error| panic!("{action} {parameters:?}: {error:?}"));
        self.settle().await;
        made
    }

    /// Waits until both brokers have all changes.
    async fn settle(&self) {
        let sequences = self
            .brokers
            .map(|broker| broker.running.as_ref().unwrap().broker.feed.sequence());
        for broker in self.brokers {
            broker.reaches(sequences[0].max(sequences[1])).await;
        }
    }

    /// Makes two calls at once. In every second round the administrators change places.
    async fn race(
        &mut self,
        round: usize,
        one: (&str, Parameters<'_>),
        other: (&str, Parameters<'_>),
    ) -> (Said, Said) {
        let [first, second] = [round % 2, (round + 1) % 2].map(|index| &self.clients[index]);
        let said = tokio::join!(first.iam(one.0, one.1), second.iam(other.0, other.1));
        self.calls += 2;
        self.settle().await;
        (
            said.0.map_err(|error| code(&error)),
            said.1.map_err(|error| code(&error)),
        )
    }

    /// Reads by both brokers, which must agree.
    async fn read(&self, action: &str, parameters: Parameters<'_>) -> Said {
        let mut answers = Vec::new();
        for client in &self.clients {
            let answer = client.iam(action, parameters).await;
            answers.push(answer.map_err(|error| code(&error)));
        }
        assert_eq!(answers[0], answers[1], "{action} {parameters:?}");
        answers.remove(0)
    }
}

/// Asserts that one of two calls was answered and the other one refused, each with its own code.
/// Returns whether it was the first that was answered.
fn one_of(said: &(Said, Said), refusals: (&str, &str)) -> bool {
    match said {
        (Ok(_), Err(code)) => {
            assert_eq!(code, refusals.1);
            true
        }
        (Err(code), Ok(_)) => {
            assert_eq!(code, refusals.0);
            false
        }
        both => panic!("not one of both: {both:?}"),
    }
}

/// The policies that a user has attached.
async fn attached(two: &Administrators<'_>, name: &str) -> Vec<Value> {
    let parameters = [("UserName", name)];
    let answer = two.read("ListAttachedUserPolicies", &parameters).await;
    answer.unwrap()["AttachedPolicies"]
        .as_array()
        .unwrap()
        .clone()
}

async fn a_policy_is_attached_or_deleted(two: &mut Administrators<'_>, round: usize) {
    let (name, policy) = (format!("attached{round}"), format!("policy{round}"));
    let arn = format!("arn:aws:iam::111122223333:policy/{policy}");
    two.prepare("CreateUser", &[("UserName", &name)]).await;
    let document = [("PolicyName", &*policy), ("PolicyDocument", ALLOW)];
    two.prepare("CreatePolicy", &document).await;
    let attach = [("UserName", &*name), ("PolicyArn", &*arn)];
    let delete = [("PolicyArn", &*arn)];
    // As a policy, and as a boundary.
    let (action, attach) = match round % 3 {
        0 => (
            "PutUserPermissionsBoundary",
            [attach[0], ("PermissionsBoundary", &*arn)],
        ),
        _ => ("AttachUserPolicy", attach),
    };
    let said = two
        .race(round, (action, &attach), ("DeletePolicy", &delete))
        .await;
    let is_there = one_of(&said, ("NoSuchEntity", "DeleteConflict"));
    assert_eq!(two.read("GetPolicy", &delete).await.is_ok(), is_there);
    let shown = two.read("GetUser", &[("UserName", &name)]).await.unwrap();
    let has_boundary = shown["User"].get("PermissionsBoundary").is_some();
    let count = attached(two, &name).await.len() + usize::from(has_boundary);
    assert_eq!(count, usize::from(is_there));
}

async fn attaching_and_detaching_have_an_order(two: &mut Administrators<'_>, round: usize) {
    let name = format!("order{round}");
    two.prepare("CreateUser", &[("UserName", &name)]).await;
    let parameters = [
        ("UserName", &*name),
        ("PolicyArn", "arn:aws:iam::111122223333:policy/NoSts"),
    ];
    let said = two
        .race(
            round,
            ("AttachUserPolicy", &parameters),
            ("DetachUserPolicy", &parameters),
        )
        .await;
    said.0.unwrap();
    let detached = said.1.is_ok();
    if let Err(code) = said.1 {
        assert_eq!(code, "NoSuchEntity");
    }
    assert_eq!(attached(two, &name).await.is_empty(), detached);
}

async fn a_user_is_a_member_or_deleted(two: &mut Administrators<'_>, round: usize) {
    let (name, group) = (format!("member{round}"), format!("group{round}"));
    two.prepare("CreateUser", &[("UserName", &name)]).await;
    two.prepare("CreateGroup", &[("GroupName", &group)]).await;
    let add = [("GroupName", &*group), ("UserName", &*name)];
    let delete = match round % 2 {
        0 => ("DeleteUser", [("UserName", &*name)]),
        _ => ("DeleteGroup", [("GroupName", &*group)]),
    };
    let said = two
        .race(round, ("AddUserToGroup", &add), (delete.0, &delete.1))
        .await;
    let added = one_of(&said, ("NoSuchEntity", "DeleteConflict"));
    let members = two.read("GetGroup", &[("GroupName", &group)]).await;
    let members = members.map(|group| group["Users"].as_array().unwrap().len());
    let left = if round.is_multiple_of(2) {
        Ok(0)
    } else {
        Err("NoSuchEntity".to_owned())
    };
    assert_eq!(members, if added { Ok(1) } else { left });
}

async fn a_name_is_given_once(two: &mut Administrators<'_>, round: usize) {
    let name = format!("named{round}");
    let (upper, other) = (name.to_uppercase(), format!("other{round}"));
    if round.is_multiple_of(2) {
        let (one, two_) = ([("UserName", &*name)], [("UserName", &*upper)]);
        let said = two
            .race(round, ("CreateUser", &one), ("CreateUser", &two_))
            .await;
        one_of(&said, ("EntityAlreadyExists", "EntityAlreadyExists"));
    } else {
        two.prepare("CreateUser", &[("UserName", &other)]).await;
        let rename = [("UserName", &*other), ("NewUserName", &*name)];
        let create = [("UserName", &*upper)];
        let said = two
            .race(round, ("UpdateUser", &rename), ("CreateUser", &create))
            .await;
        one_of(&said, ("EntityAlreadyExists", "EntityAlreadyExists"));
    }
    let listed = two.read("ListUsers", &[("MaxItems", "1000")]).await;
    let listed = listed.unwrap()["Users"].as_array().unwrap().clone();
    let same = |user: &&Value| {
        let listed = user["UserName"].as_str().unwrap();
        listed.eq_ignore_ascii_case(&name)
    };
    assert_eq!(listed.iter().filter(same).count(), 1);
}

async fn versions_have_numbers_of_their_own(two: &mut Administrators<'_>, round: usize) {
    let policy = format!("versions{round}");
    let arn = format!("arn:aws:iam::111122223333:policy/{policy}");
    let document = [("PolicyName", &*policy), ("PolicyDocument", ALLOW)];
    two.prepare("CreatePolicy", &document).await;
    let mut numbers = Vec::new();
    let mut refused = 0;
    for n in 0..3 {
        let documents = ["Get", "Put"].map(|verb| ALLOW.replace("s3:*", &format!("s3:{verb}{n}")));
        let [one, other] = documents.each_ref().map(|document| {
            [
                ("PolicyArn", &*arn),
                ("PolicyDocument", document),
                ("SetAsDefault", "true"),
            ]
        });
        let said = two
            .race(
                round,
                ("CreatePolicyVersion", &one),
                ("CreatePolicyVersion", &other),
            )
            .await;
        for (said, document) in [(said.0, &documents[0]), (said.1, &documents[1])] {
            match said {
                Ok(answer) => {
                    let version = answer["PolicyVersion"]["VersionId"].as_str().unwrap();
                    numbers.push((version.to_owned(), document.clone()));
                }
                Err(code) => {
                    assert_eq!(code, "LimitExceeded");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((numbers.len(), refused), (4, 2), "{numbers:?}");
    for (version, document) in &numbers {
        let asked = [("PolicyArn", &*arn), ("VersionId", version)];
        let kept = two.read("GetPolicyVersion", &asked).await.unwrap();
        let kept = kept["PolicyVersion"]["Document"].as_str().unwrap();
        let kept = percent_encoding::percent_decode_str(kept).decode_utf8();
        assert_eq!(kept.unwrap(), *document, "{version}");
    }
    let listed = two.read("ListPolicyVersions", &[("PolicyArn", &arn)]).await;
    let listed = listed.unwrap()["Versions"].as_array().unwrap().clone();
    let default = listed.iter().filter(|v| v["IsDefaultVersion"] == true);
    let default: Vec<&str> = default.map(|v| v["VersionId"].as_str().unwrap()).collect();
    assert_eq!((listed.len(), default), (5, vec!["v5"]));
}

async fn a_quota_holds(two: &mut Administrators<'_>, round: usize) {
    let name = format!("quota{round}");
    two.prepare("CreateUser", &[("UserName", &name)]).await;
    let create = ("CreateAccessKey", &[("UserName", &*name)][..]);
    let mut made = 0;
    for _ in 0..2 {
        let said = two.race(round, create, create).await;
        for said in [said.0, said.1] {
            match said {
                Ok(_) => made += 1,
                Err(code) => assert_eq!(code, "LimitExceeded"),
            }
        }
    }
    assert_eq!(made, 2);
    let keys = two.read("ListAccessKeys", create.1).await.unwrap();
    assert_eq!(keys["AccessKeyMetadata"].as_array().unwrap().len(), 2);
}

async fn a_trust_policy_names_whom_it_meant(two: &mut Administrators<'_>, round: usize) {
    let (name, role) = (format!("trusted{round}"), format!("trusting{round}"));
    let trust = |user: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::111122223333:user/{user}"}},"Action":"sts:AssumeRole"}}]}}"#
        )
    };
    let user = two.prepare("CreateUser", &[("UserName", &name)]).await;
    let (before, after) = (trust("alice"), trust(&name));
    let create = [("RoleName", &*role), ("AssumeRolePolicyDocument", &*before)];
    two.prepare("CreateRole", &create).await;
    let update = [("RoleName", &*role), ("PolicyDocument", &*after)];
    let said = two
        .race(
            round,
            ("UpdateAssumeRolePolicy", &update),
            ("DeleteUser", &[("UserName", &name)]),
        )
        .await;
    // Nobody keeps a user from being deleted by trusting it.
    said.1.unwrap();
    let shown = two.read("GetRole", &[("RoleName", &role)]).await.unwrap();
    let shown = shown["Role"]["AssumeRolePolicyDocument"].as_str().unwrap();
    match said.0 {
        Ok(_) => assert!(
            shown.contains(user["User"]["UserId"].as_str().unwrap()),
            "{shown}"
        ),
        Err(code) => {
            assert_eq!(code, "MalformedPolicyDocument");
            assert!(shown.contains("alice"), "{shown}");
        }
    }
}

/// Every conflict, and then one entity that both change all the time.
async fn all_conflicts(brokers: [&Broker; 2]) {
    let mut two = Administrators::of(brokers);
    for round in 0..ROUNDS {
        a_policy_is_attached_or_deleted(&mut two, round).await;
        attaching_and_detaching_have_an_order(&mut two, round).await;
        a_user_is_a_member_or_deleted(&mut two, round).await;
        a_name_is_given_once(&mut two, round).await;
        versions_have_numbers_of_their_own(&mut two, round).await;
        a_quota_holds(&mut two, round).await;
        a_trust_policy_names_whom_it_meant(&mut two, round).await;
    }
    let keys: Vec<[String; 2]> = (0..20)
        .map(|n| ["one", "two"].map(|who| format!("{who}-{n:02}")))
        .collect();
    for (round, [one, other]) in keys.iter().enumerate() {
        let [one, other] = [one, other].map(|key| {
            [
                ("UserName", "bob"),
                ("Tags.member.1.Key", &**key),
                ("Tags.member.1.Value", &**key),
            ]
        });
        let said = two
            .race(round, ("TagUser", &one), ("TagUser", &other))
            .await;
        said.0.unwrap();
        said.1.unwrap();
    }
    let tags = two.read("ListUserTags", &[("UserName", "bob")]).await;
    assert_eq!(tags.unwrap()["Tags"].as_array().unwrap().len(), 40);
    assert!(two.calls >= 200, "{}", two.calls);
    let [one, other] = brokers;
    assert_eq!(
        details(one, "1000", &[]).await,
        details(other, "1000", &[]).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_administrators_of_one_broker_lose_nothing() {
    let mut broker = Broker::start_stored().await;
    all_conflicts([&broker, &broker]).await;
    // What is in the store is what the broker had in force.
    let shown = details(&broker, "1000", &[]).await;
    broker.stop().await;
    let again = Broker::start_in(broker.dir.clone(), in_the_store).await;
    assert_eq!(details(&again, "1000", &[]).await, shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_administrators_of_two_brokers_lose_nothing() {
    let postgres = Postgres::start();
    let ([one, other], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    all_conflicts([&one, &other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_by_one_broker_binds_on_the_other() {
    let postgres = Postgres::start();
    let ([one, other], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    let (admin, bob) = (one.client(&user(ADMIN)), other.client(&user("bob")));
    let parameters = [
        ("UserName", "bob"),
        ("PolicyArn", "arn:aws:iam::aws:policy/IAMReadOnlyAccess"),
    ];
    let changes = times("BREVET_CHANGES", 40);
    let mut bound = Vec::with_capacity(changes);
    for n in 0..changes {
        let attach = n % 2 == 0;
        let action = if attach {
            "AttachUserPolicy"
        } else {
            "DetachUserPolicy"
        };
        admin.iam(action, &parameters).await.unwrap();
        let answered = Instant::now();
        eventually("the change binds", async || {
            bob.iam("GetAccountSummary", &[]).await.is_ok() == attach
        })
        .await;
        bound.push(answered.elapsed());
    }
    let (p50, p99, longest) = quantiles(bound);
    println!(
        "{changes} changes by the IAM API, answer to a decision of the other broker: p50 {p50:?}, p99 {p99:?}, max {longest:?}"
    );
    // The promise, for a hundredth of the changes or fewer to miss.
    assert!(p99 < Duration::from_secs(2), "{p99:?}");
}
