//! Users, groups, roles, instance profiles and tags through the IAM API: who may change them, and the
//! errors that clients read.

use brevet::client::{Client, ClientError};
use brevet::commands::{Command, Edit};
use brevet::directory::resource::{Name, Resource, ResourceKind};
use serde_json::{Value, json};

use crate::harness::*;

const ACCOUNT: &str = "arn:aws:iam::111122223333";
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"sts:AssumeRole"}]}"#;

type Parameters<'a> = &'a [(&'a str, &'a str)];

/// The code and the message of a refused call.
async fn refused(client: &Client, action: &str, parameters: Parameters<'_>) -> (String, String) {
    match client.iam(action, parameters).await {
        Err(ClientError::Refused { code, message, .. }) => (code, sentence(&message).0.to_owned()),
        other => panic!("{action} {parameters:?}: {other:?}"),
    }
}

async fn done(client: &Client, action: &str, parameters: Parameters<'_>) -> Value {
    let answer = client.iam(action, parameters).await;
    answer.unwrap_or_else(|error| panic!("{action} {parameters:?}: {error:?}"))
}

async fn denied(client: &Client, action: &str, parameters: Parameters<'_>) {
    let (code, message) = refused(client, action, parameters).await;
    assert_eq!(code, "AccessDenied", "{action} {parameters:?}: {message}");
}

/// A broker where bob has these statements as his only policy.
async fn with_bob(statements: Value) -> (Broker, Client, Client) {
    let broker = Broker::start_stored().await;
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let hand = broker.hand().await;
    let edit = Edit::PutPolicy("iam".into(), policy);
    let bob = format!("{ACCOUNT}:user/bob");
    let sequence = hand.edit(ResourceKind::User, &bob, edit).await.unwrap();
    broker.reaches(sequence).await;
    let (admin, bob) = (broker.client(&user("admin")), broker.client(&user("bob")));
    (broker, admin, bob)
}

fn allow(actions: &[&str], resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resource})
}

#[tokio::test]
async fn what_keeps_an_entity_from_being_deleted_is_said_in_awss_words() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    let policy = &format!("{ACCOUNT}:policy/Kept");
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    let keeps = async |action: &str, of: Parameters<'_>, words: &str| {
        let found = refused(&admin, action, of).await;
        assert_eq!(found, ("DeleteConflict".to_owned(), words.to_owned()));
    };
    let create = [("PolicyName", "Kept"), ("PolicyDocument", document)];
    done(&admin, "CreatePolicy", &create).await;
    let again = [("PolicyName", "kept"), ("PolicyDocument", document)];
    assert_eq!(
        refused(&admin, "CreatePolicy", &again).await,
        (
            "EntityAlreadyExists".to_owned(),
            "A policy called kept already exists. Duplicate names are not allowed.".to_owned()
        )
    );
    let dora = ("UserName", "dora");
    done(&admin, "CreateUser", &[dora]).await;
    let attached = [dora, ("PolicyArn", policy)];
    done(&admin, "AttachUserPolicy", &attached).await;
    keeps(
        "DeletePolicy",
        &[("PolicyArn", policy)],
        "Cannot delete a policy attached to entities.",
    )
    .await;
    keeps(
        "DeleteUser",
        &[dora],
        "Cannot delete entity, must detach all policies first.",
    )
    .await;
    done(&admin, "DetachUserPolicy", &attached).await;
    let password = [dora, ("Password", "Correct-Horse-7-Battery")];
    done(&admin, "CreateLoginProfile", &password).await;
    keeps(
        "DeleteUser",
        &[dora],
        "Cannot delete entity, must delete login profile first.",
    )
    .await;
    done(&admin, "DeleteLoginProfile", &[dora]).await;
    // Something that AWS's IAM does not have refers to the user.
    let certificate =
        json!({"UserArn": format!("{ACCOUNT}:user/dora"), "SpiffeId": "spiffe://example.org/dora"});
    let certificate = Resource::parse(ResourceKind::Certificate, &certificate.to_string()).unwrap();
    let hand = broker.hand().await;
    let made = hand.run(Command::Create(certificate)).await.unwrap();
    broker.reaches(made).await;
    keeps(
        "DeleteUser",
        &[dora],
        "Cannot delete entity, must remove referenced objects first.",
    )
    .await;
    let group = ("GroupName", "Kept");
    done(&admin, "CreateGroup", &[group]).await;
    done(&admin, "AddUserToGroup", &[group, dora]).await;
    keeps(
        "DeleteGroup",
        &[group],
        "Cannot delete entity, must remove users from group first.",
    )
    .await;
}

/// Of two changes that were decided on the same state, the second is refused and overwrites nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_somebody_else_was_faster_with_is_a_409() {
    let broker = Broker::start_stored().await;
    let admin = user("admin");
    let set = async |action: &str, password: &str| {
        let form = [("UserName", "bob"), ("Password", password)];
        broker.iam(&admin, action, &form).await
    };
    let made = set("CreateLoginProfile", "Correct-Horse-7-Battery").await;
    assert_eq!(made.code(), "ok", "{}", made.body);
    // Both read the profile before they compute a hash, unless one of them is very late.
    for n in 0..10 {
        let (one, other) = (
            format!("One-Horse-{n}-Battery"),
            format!("Two-Horse-{n}-Battery"),
        );
        let (one, other) = tokio::join!(
            set("UpdateLoginProfile", &one),
            set("UpdateLoginProfile", &other)
        );
        let (good, late) = if one.code() == "ok" {
            (one, other)
        } else {
            (other, one)
        };
        assert_eq!(good.code(), "ok", "{}", good.body);
        if late.code() == "ok" {
            continue;
        }
        assert_eq!((late.status, late.code()), (409, "ConcurrentModification"));
        let message = late.element("Message").unwrap();
        assert!(message.contains("changed by somebody else"), "{message}");
        return;
    }
    panic!("one call was always over before the other began");
}

#[tokio::test]
async fn users_are_made_renamed_and_deleted_and_every_refusal_has_awss_words() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    let made = done(
        &admin,
        "CreateUser",
        &[
            ("UserName", "Dora"),
            ("Path", "/dev/"),
            ("PermissionsBoundary", &format!("{ACCOUNT}:policy/NoSts")),
            ("Tags.member.1.Key", "Team"),
            ("Tags.member.1.Value", "blue"),
        ],
    )
    .await;
    let made = &made["User"];
    assert_eq!(made["Arn"], format!("{ACCOUNT}:user/dev/Dora"));
    assert!(made["UserId"].as_str().unwrap().starts_with("AIDA"));
    assert_eq!(made["Tags"][0]["Key"], "Team");
    let shown = done(&admin, "GetUser", &[("UserName", "dora")]).await;
    assert_eq!(&shown["User"], made);
    assert_eq!(
        shown["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"],
        format!("{ACCOUNT}:policy/NoSts")
    );
    let listed = done(&admin, "ListUsers", &[("PathPrefix", "/d")]).await;
    assert_eq!(listed["Users"].as_array().unwrap().len(), 1);
    assert!(listed["Users"][0].get("Tags").is_none());

    for (action, parameters, code, message) in [
        (
            "CreateUser",
            &[("UserName", "DORA")][..],
            "EntityAlreadyExists",
            "User with name DORA already exists.",
        ),
        (
            "GetUser",
            &[("UserName", "nobody")],
            "NoSuchEntity",
            "The user with name nobody cannot be found.",
        ),
        (
            "UpdateUser",
            &[("UserName", "Dora"), ("NewUserName", "ALICE")],
            "EntityAlreadyExists",
            "User with name ALICE already exists.",
        ),
        (
            "CreateUser",
            &[
                ("UserName", "eve"),
                (
                    "PermissionsBoundary",
                    "arn:aws:iam::111122223333:policy/None",
                ),
            ],
            "NoSuchEntity",
            "Policy arn:aws:iam::111122223333:policy/None does not exist or is not attachable.",
        ),
        (
            "CreateUser",
            &[
                ("UserName", "eve"),
                ("PermissionsBoundary", "nonsense nonsense nonsense"),
            ],
            "ValidationError",
            "Invalid ARN:  Could not be parsed!",
        ),
        (
            "CreateUser",
            &[
                ("UserName", "eve"),
                ("Tags.member.1.Key", "AWS:x"),
                ("Tags.member.1.Value", ""),
            ],
            "InvalidInput",
            "aws: prefixed tag key names are not allowed for external use.",
        ),
        (
            "TagUser",
            &[
                ("UserName", "Dora"),
                ("Tags.member.1.Key", "x"),
                ("Tags.member.1.Value", ""),
                ("Tags.member.2.Key", "X"),
                ("Tags.member.2.Value", ""),
            ],
            "InvalidInput",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            "ListUsers",
            &[("Marker", "nonsense")],
            "ValidationError",
            "Invalid Marker.",
        ),
        (
            "DeleteUser",
            &[("UserName", "bob")],
            "DeleteConflict",
            "Cannot delete entity, must delete access keys first.",
        ),
        (
            "DeleteUser",
            &[("UserName", "alice")],
            "DeleteConflict",
            "Cannot delete entity, must delete policies first.",
        ),
        (
            "DeleteUserPermissionsBoundary",
            &[("UserName", "bob")],
            "NoSuchEntity",
            "The user bob has no permissions boundary.",
        ),
    ] {
        let found = refused(&admin, action, parameters).await;
        assert_eq!(found, (code.to_owned(), message.to_owned()), "{action}");
    }

    // The same name and path are no change; a new name keeps the rest.
    let same = [
        ("UserName", "Dora"),
        ("NewUserName", "Dora"),
        ("NewPath", "/dev/"),
    ];
    done(&admin, "UpdateUser", &same).await;
    let renamed = [
        ("UserName", "Dora"),
        ("NewUserName", "dorothy"),
        ("NewPath", "/"),
    ];
    done(&admin, "UpdateUser", &renamed).await;
    let shown = done(&admin, "GetUser", &[("UserName", "dorothy")]).await;
    assert_eq!(shown["User"]["UserId"], made["UserId"]);
    assert_eq!(shown["User"]["CreateDate"], made["CreateDate"]);
    assert_eq!(shown["User"]["Tags"], made["Tags"]);
    assert_eq!(shown["User"]["Arn"], format!("{ACCOUNT}:user/dorothy"));
    refused(&admin, "GetUser", &[("UserName", "Dora")]).await;
    // Only the case of the name changes.
    let respelt = [("UserName", "dorothy"), ("NewUserName", "Dorothy")];
    done(&admin, "UpdateUser", &respelt).await;

    done(
        &admin,
        "DeleteUserPermissionsBoundary",
        &[("UserName", "Dorothy")],
    )
    .await;
    done(&admin, "DeleteUser", &[("UserName", "DOROTHY")]).await;
    let (code, _) = refused(&admin, "DeleteUser", &[("UserName", "Dorothy")]).await;
    assert_eq!(code, "NoSuchEntity");
}

#[tokio::test]
async fn pages_of_users_hold_everybody_once_even_if_the_last_one_is_deleted() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    for n in 0..7 {
        let name = format!("page{n}");
        done(
            &admin,
            "CreateUser",
            &[("UserName", &name), ("Path", "/page/")],
        )
        .await;
    }
    let mut seen: Vec<String> = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let mut parameters = vec![("PathPrefix", "/page/"), ("MaxItems", "2")];
        parameters.extend(marker.as_deref().map(|marker| ("Marker", marker)));
        let page = done(&admin, "ListUsers", &parameters).await;
        let names = page["Users"].as_array().unwrap().iter();
        seen.extend(names.map(|u| u["UserName"].as_str().unwrap().to_owned()));
        if seen.len() == 2 {
            done(&admin, "DeleteUser", &[("UserName", "page1")]).await;
        }
        assert_eq!(page["IsTruncated"], page.get("Marker").is_some());
        let Some(next) = page["Marker"].as_str() else {
            break;
        };
        marker = Some(next.to_owned());
    }
    assert_eq!(seen, (0..7).map(|n| format!("page{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn az_04_a_delegate_makes_users_with_its_boundary_and_its_tags_only() {
    let boundary = format!("{ACCOUNT}:policy/NoSts");
    let (_broker, admin, bob) = with_bob(json!([
        {"Effect": "Allow", "Action": ["iam:CreateUser", "iam:PutUserPermissionsBoundary"],
         "Resource": format!("{ACCOUNT}:user/dev/*"),
         "Condition": {"StringEquals": {"iam:PermissionsBoundary": &boundary}}},
        {"Effect": "Allow", "Action": "iam:TagUser", "Resource": format!("{ACCOUNT}:user/dev/*"),
         "Condition": {"StringEquals": {"aws:RequestTag/Team": "blue"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["Team"]}}},
        {"Effect": "Allow", "Action": ["iam:UpdateUser", "iam:DeleteUser", "iam:GetUser"], "Resource": format!("{ACCOUNT}:user/dev/*")},
        {"Effect": "Allow", "Action": "iam:UntagUser", "Resource": "*",
         "Condition": {"StringEquals": {"aws:ResourceTag/Team": "blue"}, "ForAllValues:StringNotEquals": {"aws:TagKeys": ["Team"]}}},
    ]))
    .await;
    let dev = ("Path", "/dev/");
    let bounded = ("PermissionsBoundary", boundary.as_str());
    let team = |value| {
        [
            ("Tags.member.1.Key", "Team"),
            ("Tags.member.1.Value", value),
        ]
    };

    denied(&bob, "CreateUser", &[("UserName", "x"), dev]).await;
    let other = format!("{ACCOUNT}:policy/Sts");
    let wider = ("PermissionsBoundary", other.as_str());
    denied(&bob, "CreateUser", &[("UserName", "x"), dev, wider]).await;
    denied(&bob, "CreateUser", &[("UserName", "x"), bounded]).await;
    // Who exists elsewhere is not told.
    denied(&bob, "CreateUser", &[("UserName", "alice"), bounded]).await;
    let [key, red] = team("red");
    denied(
        &bob,
        "CreateUser",
        &[("UserName", "x"), dev, bounded, key, red],
    )
    .await;
    let [key, blue] = team("blue");
    done(
        &bob,
        "CreateUser",
        &[("UserName", "x"), dev, bounded, key, blue],
    )
    .await;
    done(&bob, "CreateUser", &[("UserName", "y"), dev, bounded]).await;

    // The boundary may be set again, but not widened or removed.
    let put = "PutUserPermissionsBoundary";
    done(&bob, put, &[("UserName", "x"), bounded]).await;
    denied(&bob, put, &[("UserName", "x"), wider]).await;
    denied(&bob, "DeleteUserPermissionsBoundary", &[("UserName", "x")]).await;

    // A user moves only within what bob administers, in both directions.
    let rename = "UpdateUser";
    done(&bob, rename, &[("UserName", "x"), ("NewUserName", "z")]).await;
    denied(&bob, rename, &[("UserName", "z"), ("NewPath", "/")]).await;
    denied(&bob, rename, &[("UserName", "alice"), ("NewPath", "/dev/")]).await;
    denied(
        &bob,
        rename,
        &[("UserName", "nobody"), ("NewPath", "/dev/")],
    )
    .await;

    // Tags that open more are not given away, nor taken.
    denied(&bob, "TagUser", &[("UserName", "z"), key, red]).await;
    let [admin_key, yes] = [
        ("Tags.member.1.Key", "Admin"),
        ("Tags.member.1.Value", "yes"),
    ];
    denied(&bob, "TagUser", &[("UserName", "z"), admin_key, yes]).await;
    denied(
        &bob,
        "UntagUser",
        &[("UserName", "z"), ("TagKeys.member.1", "Team")],
    )
    .await;
    done(
        &bob,
        "UntagUser",
        &[("UserName", "z"), ("TagKeys.member.1", "Stage")],
    )
    .await;
    denied(
        &bob,
        "UntagUser",
        &[("UserName", "y"), ("TagKeys.member.1", "Stage")],
    )
    .await;

    denied(&bob, "GetUser", &[("UserName", "alice")]).await;
    denied(&bob, "GetUser", &[("UserName", "nobody")]).await;
    denied(&bob, "GetUser", &[]).await;
    denied(&bob, "ListUsers", &[]).await;
    denied(&bob, "DeleteUser", &[("UserName", "alice")]).await;
    done(&admin, "DeleteUser", &[("UserName", "y")]).await;
    done(&bob, "DeleteUser", &[("UserName", "z")]).await;
}

#[tokio::test]
async fn groups_have_members_and_are_authorized_on_the_group() {
    let (_broker, admin, bob) = with_bob(json!([
        allow(
            &["iam:AddUserToGroup", "iam:RemoveUserFromGroup"],
            "arn:aws:iam::111122223333:group/dev/*"
        ),
        allow(
            &["iam:ListGroupsForUser"],
            "arn:aws:iam::111122223333:user/bob"
        ),
        allow(&["iam:ListUsers"], "arn:aws:iam::111122223333:user/*"),
    ]))
    .await;
    let made = done(
        &admin,
        "CreateGroup",
        &[("GroupName", "Devs"), ("Path", "/dev/")],
    )
    .await;
    assert_eq!(made["Group"]["Arn"], format!("{ACCOUNT}:group/dev/Devs"));
    assert!(
        made["Group"]["GroupId"]
            .as_str()
            .unwrap()
            .starts_with("AGPA")
    );
    done(&admin, "CreateGroup", &[("GroupName", "Admins")]).await;
    for (action, parameters, code, message) in [
        (
            "CreateGroup",
            &[("GroupName", "devs")][..],
            "EntityAlreadyExists",
            "Group with name devs already exists.",
        ),
        (
            "GetGroup",
            &[("GroupName", "None")],
            "NoSuchEntity",
            "The group with name None cannot be found.",
        ),
        (
            "AddUserToGroup",
            &[("GroupName", "Devs"), ("UserName", "nobody")],
            "NoSuchEntity",
            "The user with name nobody cannot be found.",
        ),
        (
            "RemoveUserFromGroup",
            &[("GroupName", "Devs"), ("UserName", "alice")],
            "NoSuchEntity",
            "User alice is not in group Devs.",
        ),
    ] {
        let found = refused(&admin, action, parameters).await;
        assert_eq!(found, (code.to_owned(), message.to_owned()), "{action}");
    }

    // A user comes into a group by whoever may fill the group, whoever the user is.
    let [devs, admins] = ["devs", "admins"].map(|name| ("GroupName", name));
    for name in ["alice", "bob", "denied"] {
        done(&bob, "AddUserToGroup", &[devs, ("UserName", name)]).await;
        done(&bob, "AddUserToGroup", &[devs, ("UserName", name)]).await;
        denied(&bob, "AddUserToGroup", &[admins, ("UserName", name)]).await;
    }
    done(&bob, "ListUsers", &[]).await;
    denied(&bob, "GetGroup", &[devs]).await;
    let groups = done(&bob, "ListGroupsForUser", &[("UserName", "bob")]).await;
    assert_eq!(groups["Groups"], json!([made["Group"]]));
    denied(&bob, "ListGroupsForUser", &[("UserName", "alice")]).await;

    let page = done(&admin, "GetGroup", &[devs, ("MaxItems", "2")]).await;
    assert_eq!(
        (
            page["Users"].as_array().unwrap().len(),
            &page["IsTruncated"]
        ),
        (2, &json!(true))
    );
    let marker = page["Marker"].as_str().unwrap();
    let rest = done(&admin, "GetGroup", &[devs, ("Marker", marker)]).await;
    assert_eq!(rest["Group"], page["Group"]);
    assert_eq!(rest["Users"][0]["UserName"], "denied");
    assert_eq!(rest["IsTruncated"], false);

    // A new name takes the members along.
    let (code, _) = refused(&admin, "UpdateGroup", &[devs, ("NewGroupName", "ADMINS")]).await;
    assert_eq!(code, "EntityAlreadyExists");
    done(
        &admin,
        "UpdateGroup",
        &[devs, ("NewGroupName", "Makers"), ("NewPath", "/")],
    )
    .await;
    let makers = ("GroupName", "Makers");
    let moved = done(&admin, "GetGroup", &[makers]).await;
    assert_eq!(moved["Group"]["GroupId"], made["Group"]["GroupId"]);
    assert_eq!(moved["Users"].as_array().unwrap().len(), 3);
    let (code, message) = refused(&admin, "DeleteGroup", &[makers]).await;
    assert_eq!(code, "DeleteConflict");
    assert_eq!(
        message,
        "Cannot delete entity, must remove users from group first."
    );
    for name in ["alice", "bob", "denied"] {
        done(&admin, "RemoveUserFromGroup", &[makers, ("UserName", name)]).await;
    }
    done(&admin, "DeleteGroup", &[makers]).await;
    let listed = done(&admin, "ListGroups", &[]).await;
    assert_eq!(listed["Groups"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn roles_show_whom_they_trust_and_an_id_once_that_is_gone() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    done(&admin, "CreateUser", &[("UserName", "eve")]).await;
    let trust = TRUST.replace("alice", "eve");
    let made = done(
        &admin,
        "CreateRole",
        &[
            ("RoleName", "Deploy"),
            ("AssumeRolePolicyDocument", &trust),
            ("Description", ""),
            ("MaxSessionDuration", "129600"),
        ],
    )
    .await;
    let document = |role: &Value| {
        let text = role["Role"]["AssumeRolePolicyDocument"].as_str().unwrap();
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    assert_eq!(document(&made), trust);
    assert!(made["Role"].get("MaxSessionDuration").is_none());
    assert!(made["Role"].get("RoleLastUsed").is_none());
    let shown = done(&admin, "GetRole", &[("RoleName", "deploy")]).await;
    assert_eq!(document(&shown), trust);
    assert_eq!(shown["Role"]["MaxSessionDuration"], 129_600);
    assert_eq!(shown["Role"]["Description"], "");

    for (action, parameters, code, message) in [
        (
            "CreateRole",
            &[("RoleName", "DEPLOY"), ("AssumeRolePolicyDocument", TRUST)][..],
            "EntityAlreadyExists",
            "Role with name DEPLOY already exists.",
        ),
        (
            "CreateRole",
            &[
                ("RoleName", "x"),
                (
                    "AssumeRolePolicyDocument",
                    &TRUST.replace("alice", "nobody"),
                ),
            ],
            "MalformedPolicyDocument",
            r#"Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:user/nobody""#,
        ),
        (
            "UpdateAssumeRolePolicy",
            &[("RoleName", "Deploy"), ("PolicyDocument", "{")],
            "MalformedPolicyDocument",
            "This policy contains invalid Json",
        ),
        (
            "UpdateAssumeRolePolicy",
            &[
                ("RoleName", "Deploy"),
                (
                    "PolicyDocument",
                    &TRUST.replace("\"Effect\"", "\"Resource\":\"*\",\"Effect\""),
                ),
            ],
            "MalformedPolicyDocument",
            "Has prohibited field Resource",
        ),
        (
            "GetRole",
            &[("RoleName", "None")],
            "NoSuchEntity",
            "The role with name None cannot be found.",
        ),
        (
            "DeleteRole",
            &[("RoleName", "Open")],
            "DeleteConflict",
            "Cannot delete entity, must delete policies first.",
        ),
        (
            "UpdateRole",
            &[("RoleName", "Deploy"), ("MaxSessionDuration", "129601")],
            "ValidationError",
            "1 validation error detected: Value at 'maxSessionDuration' failed to satisfy constraint: Member must have value less than or equal to 129600",
        ),
    ] {
        let found = refused(&admin, action, parameters).await;
        assert_eq!(found, (code.to_owned(), message.to_owned()), "{action}");
    }

    let updated = [
        ("RoleName", "Deploy"),
        ("Description", "Deploys."),
        ("MaxSessionDuration", "7200"),
    ];
    assert_eq!(done(&admin, "UpdateRole", &updated).await, json!({}));
    let described = [("RoleName", "Deploy"), ("Description", "")];
    let shown = done(&admin, "UpdateRoleDescription", &described).await;
    assert_eq!(shown["Role"]["Description"], "");
    let listed = done(&admin, "ListRoles", &[]).await;
    let role = listed["Roles"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["RoleName"] == "Deploy");
    assert_eq!(role.unwrap()["MaxSessionDuration"], 7_200);
    assert_eq!(document(&json!({"Role": role.unwrap()})), trust);

    // The trust follows the user under another name, and does not go to whoever takes the old one.
    done(
        &admin,
        "UpdateUser",
        &[("UserName", "eve"), ("NewUserName", "eva")],
    )
    .await;
    let shown = done(&admin, "GetRole", &[("RoleName", "Deploy")]).await;
    assert_eq!(document(&shown), TRUST.replace("alice", "eva"));
    let eva = done(&admin, "GetUser", &[("UserName", "eva")]).await;
    done(&admin, "DeleteUser", &[("UserName", "eva")]).await;
    done(&admin, "CreateUser", &[("UserName", "eva")]).await;
    let shown = done(&admin, "GetRole", &[("RoleName", "Deploy")]).await;
    let id = eva["User"]["UserId"].as_str().unwrap();
    let arn = format!("{ACCOUNT}:user/alice");
    assert_eq!(document(&shown), TRUST.replace(&arn, id));
    done(&admin, "DeleteRole", &[("RoleName", "Deploy")]).await;
}

#[tokio::test]
async fn az_04_roles_are_authorized_on_the_boundary_that_they_have_and_are_asked_for() {
    let boundary = format!("{ACCOUNT}:policy/NoSts");
    let bounded = json!({"StringEquals": {"iam:PermissionsBoundary": &boundary}});
    let (_broker, admin, bob) = with_bob(json!([
        {"Effect": "Allow", "Action": ["iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:DeleteRole", "iam:GetRole"],
         "Resource": "*", "Condition": bounded},
        {"Effect": "Allow", "Action": "iam:TagRole", "Resource": "*", "Condition": {"StringEquals": {"iam:ResourceTag/Team": "blue"}}},
    ]))
    .await;
    let trust = ("AssumeRolePolicyDocument", TRUST);
    let asked = ("PermissionsBoundary", boundary.as_str());
    denied(&bob, "CreateRole", &[("RoleName", "x"), trust]).await;
    done(&bob, "CreateRole", &[("RoleName", "x"), trust, asked]).await;
    done(&admin, "CreateRole", &[("RoleName", "free"), trust]).await;
    let document = ("PolicyDocument", TRUST);
    for name in ["free", "Open", "none"] {
        let role = ("RoleName", name);
        denied(&bob, "UpdateAssumeRolePolicy", &[role, document]).await;
        denied(&bob, "UpdateRole", &[role, ("Description", "x")]).await;
        denied(&bob, "UpdateRole", &[role]).await;
        denied(&bob, "DeleteRole", &[role]).await;
        denied(&bob, "GetRole", &[role]).await;
    }
    let role = ("RoleName", "x");
    done(&bob, "UpdateAssumeRolePolicy", &[role, document]).await;
    done(&bob, "UpdateRole", &[role]).await;
    done(&bob, "GetRole", &[role]).await;
    let wider = format!("{ACCOUNT}:policy/Sts");
    let wider = ("PermissionsBoundary", wider.as_str());
    denied(&bob, "PutRolePermissionsBoundary", &[role, wider]).await;
    denied(&bob, "DeleteRolePermissionsBoundary", &[role]).await;
    // The boundary that is asked for counts, not the one that the role has.
    done(
        &bob,
        "PutRolePermissionsBoundary",
        &[("RoleName", "free"), asked],
    )
    .await;
    denied(&bob, "ListRoles", &[]).await;
    let tag = [
        ("Tags.member.1.Key", "Team"),
        ("Tags.member.1.Value", "blue"),
    ];
    denied(&bob, "TagRole", &[role, tag[0], tag[1]]).await;
    done(&admin, "TagRole", &[role, tag[0], tag[1]]).await;
    done(&bob, "TagRole", &[role, tag[0], tag[1]]).await;
    done(&admin, "DeleteRolePermissionsBoundary", &[role]).await;
    denied(&bob, "DeleteRole", &[role]).await;
}

#[tokio::test]
async fn az_04_a_role_enters_an_instance_profile_by_whoever_may_pass_it() {
    let profile = format!("{ACCOUNT}:instance-profile/web");
    let pass = |service: &str, profile: &str, role: &str| {
        json!({"Effect": "Allow", "Action": "iam:PassRole", "Resource": format!("{ACCOUNT}:role/{role}"),
               "Condition": {"StringEquals": {"iam:PassedToService": service}, "ArnEquals": {"iam:AssociatedResourceArn": profile}}})
    };
    let (_broker, admin, bob) = with_bob(json!([
        allow(
            &[
                "iam:AddRoleToInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile"
            ],
            "*"
        ),
        pass("ec2.amazonaws.com", &profile, "Closed"),
        pass("lambda.amazonaws.com", &profile, "Partner"),
        pass(
            "ec2.amazonaws.com",
            &profile.replace("web", "other"),
            "Open"
        ),
    ]))
    .await;
    let made = done(
        &admin,
        "CreateInstanceProfile",
        &[
            ("InstanceProfileName", "web"),
            ("Tags.member.1.Key", "b"),
            ("Tags.member.1.Value", "2"),
            ("Tags.member.2.Key", "a"),
            ("Tags.member.2.Value", "1"),
        ],
    )
    .await;
    let made = &made["InstanceProfile"];
    assert_eq!(made["Arn"], profile);
    assert_eq!(made["Roles"], json!([]));
    assert_eq!(made["Tags"][0]["Key"], "a");
    let web = ("InstanceProfileName", "web");
    let role = |name| ("RoleName", name);
    let add = "AddRoleToInstanceProfile";
    for name in ["Partner", "Open", "Missing"] {
        denied(&bob, add, &[web, role(name)]).await;
    }
    done(&bob, add, &[web, role("closed")]).await;
    for name in ["Closed", "Open"] {
        let (code, message) = refused(&admin, add, &[web, role(name)]).await;
        assert_eq!(code, "LimitExceeded");
        assert_eq!(
            message,
            "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1"
        );
    }
    let shown = done(
        &admin,
        "GetInstanceProfile",
        &[("InstanceProfileName", "WEB")],
    )
    .await;
    assert_eq!(shown["InstanceProfile"]["Roles"][0]["RoleName"], "Closed");
    let of_role = done(&admin, "ListInstanceProfilesForRole", &[role("Closed")]).await;
    assert_eq!(of_role["InstanceProfiles"][0]["Arn"], profile);
    let of_role = done(&admin, "ListInstanceProfilesForRole", &[role("Open")]).await;
    assert_eq!(of_role["InstanceProfiles"], json!([]));
    for (action, parameter, message) in [
        (
            "DeleteRole",
            role("Closed"),
            "Cannot delete entity, must remove roles from instance profile first.",
        ),
        (
            "DeleteInstanceProfile",
            web,
            "Cannot delete entity, must remove roles from instance profile first.",
        ),
    ] {
        let found = refused(&admin, action, &[parameter]).await;
        assert_eq!(found, ("DeleteConflict".to_owned(), message.to_owned()));
    }
    done(
        &bob,
        "RemoveRoleFromInstanceProfile",
        &[web, role("Closed")],
    )
    .await;
    let again = refused(
        &bob,
        "RemoveRoleFromInstanceProfile",
        &[web, role("Closed")],
    )
    .await;
    assert_eq!(again.0, "NoSuchEntity");
    done(&admin, "DeleteInstanceProfile", &[web]).await;
    let gone = refused(&admin, "GetInstanceProfile", &[web]).await;
    assert_eq!(gone.1, "Instance Profile web cannot be found.");
    let listed = done(&admin, "ListInstanceProfiles", &[]).await;
    assert_eq!(listed["InstanceProfiles"], json!([]));
}

#[tokio::test]
async fn tags_keep_the_last_spelling_are_sorted_and_are_pages() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    let bob = ("UserName", "bob");
    let mut tags = vec![bob];
    let keys: Vec<(String, String, String)> = ["zone", "Team", "Ärger", "a b"]
        .iter()
        .enumerate()
        .map(|(n, key)| {
            let at = format!("Tags.member.{}", n + 1);
            (
                format!("{at}.Key"),
                (*key).to_owned(),
                format!("{at}.Value"),
            )
        })
        .collect();
    for (key_name, key, value_name) in &keys {
        tags.extend([
            (key_name.as_str(), key.as_str()),
            (value_name.as_str(), "1"),
        ]);
    }
    done(&admin, "TagUser", &tags).await;
    let again = [
        bob,
        ("Tags.member.1.Key", "TEAM"),
        ("Tags.member.1.Value", ""),
    ];
    done(&admin, "TagUser", &again).await;
    let mut seen = Vec::new();
    let mut marker = None;
    loop {
        let mut parameters = vec![bob, ("MaxItems", "1")];
        parameters.extend(marker.as_deref().map(|marker: &str| ("Marker", marker)));
        let page = done(&admin, "ListUserTags", &parameters).await;
        seen.extend(page["Tags"].as_array().unwrap().clone());
        let Some(next) = page["Marker"].as_str() else {
            break;
        };
        marker = Some(next.to_owned());
    }
    let names: Vec<&str> = seen
        .iter()
        .map(|tag| tag["Key"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["TEAM", "a b", "zone", "Ärger"]);
    assert_eq!(seen[0]["Value"], "");
    let untag = [
        bob,
        ("TagKeys.member.1", "team"),
        ("TagKeys.member.2", "none"),
    ];
    done(&admin, "UntagUser", &untag).await;
    done(&admin, "UntagUser", &untag).await;
    let left = done(&admin, "ListUserTags", &[bob]).await;
    assert_eq!(left["Tags"].as_array().unwrap().len(), 3);

    // Tags of a device change like the device: a user who has one gives a fresh code first.
    let serial = ("SerialNumber", crate::mfa::SERIAL);
    let tag = [
        serial,
        ("Tags.member.1.Key", "k"),
        ("Tags.member.1.Value", "v"),
    ];
    done(&admin, "TagMFADevice", &tag).await;
    let policy = json!({"Version": "2012-10-17", "Statement": [allow(&["iam:*"], "*")]});
    let hand = broker.hand().await;
    let edit = Edit::PutPolicy("iam".into(), policy.to_string());
    let alice = format!("{ACCOUNT}:user/alice");
    let sequence = hand.edit(ResourceKind::User, &alice, edit).await.unwrap();
    broker.reaches(sequence).await;
    let alice = broker.client(&user("alice"));
    denied(&alice, "TagMFADevice", &tag).await;
    let listed = done(&alice, "ListMFADeviceTags", &[serial]).await;
    assert_eq!(listed["Tags"], json!([{"Key": "k", "Value": "v"}]));
    denied(
        &alice,
        "UntagMFADevice",
        &[serial, ("TagKeys.member.1", "k")],
    )
    .await;
}

#[tokio::test]
async fn what_another_node_has_just_made_or_deleted_decides() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    let hand = broker.hand().await;
    let arn = format!("{ACCOUNT}:user/there/elsewhere");
    for _ in 0..2 {
        let made = json!({"UserName": "elsewhere", "Path": "/there/", "Arn": &arn}).to_string();
        let made = Resource::parse(ResourceKind::User, &made).unwrap();
        hand.run(Command::Create(made)).await.unwrap();
        // This broker may not have seen it yet: the rows decide.
        let found = refused(&admin, "CreateUser", &[("UserName", "Elsewhere")]).await;
        let words = "User with name Elsewhere already exists.";
        assert_eq!(found, ("EntityAlreadyExists".to_owned(), words.to_owned()));
        let alice = ("UserName", "alice");
        let found = refused(&admin, "UpdateUser", &[alice, ("NewUserName", "ELSEWHERE")]).await;
        assert_eq!(found.0, "EntityAlreadyExists");

        let name = Name::new(ResourceKind::User, arn.as_str());
        let deleted = Command::Delete {
            name,
            expected: None,
        };
        hand.run(deleted).await.unwrap();
        let found = refused(&admin, "DeleteUser", &[("UserName", "elsewhere")]).await;
        let words = "The user with name elsewhere cannot be found.";
        assert_eq!(found, ("NoSuchEntity".to_owned(), words.to_owned()));
    }
}

#[tokio::test]
async fn a_directory_file_is_read_and_not_changed() {
    let broker = Broker::start().await;
    let admin = broker.client(&user("admin"));
    let shown = done(&admin, "GetUser", &[("UserName", "alice")]).await;
    assert_eq!(shown["User"]["UserId"], "AIDAALICEALICEALICE1");
    let page = done(&admin, "ListRoles", &[("MaxItems", "1")]).await;
    assert_eq!(page["Roles"][0]["RoleName"], "Closed");
    let marker = page["Marker"].as_str().unwrap();
    let page = done(
        &admin,
        "ListRoles",
        &[("PathPrefix", "/deep"), ("Marker", marker)],
    )
    .await;
    assert_eq!(page["Roles"][0]["RoleName"], "Direct");
    for (action, parameters) in [
        ("CreateUser", &[("UserName", "x")][..]),
        ("DeleteRole", &[("RoleName", "Closed")]),
        (
            "UpdateRole",
            &[("RoleName", "Closed"), ("Description", "x")],
        ),
    ] {
        let (code, message) = refused(&admin, action, parameters).await;
        assert_eq!(code, "UnmodifiableEntity", "{message}");
    }
    denied(
        &broker.client(&user("bob")),
        "CreateUser",
        &[("UserName", "x")],
    )
    .await;
}

/// A refusal, without what differs between any two: the name that was asked for, and the sealed text, of
/// which only the length counts.
async fn sentence_and_length(
    bob: &Client,
    action: &str,
    parameters: Parameters<'_>,
    name: &str,
) -> (String, usize) {
    match bob.iam(action, parameters).await {
        Err(ClientError::Refused { code, message, .. }) => {
            assert_eq!(code, "AccessDenied", "{action} {parameters:?}: {message}");
            let (sentence, sealed) = sentence(&message);
            (sentence.replace(name, "NAME"), sealed.len())
        }
        other => panic!("{action} {parameters:?}: {other:?}"),
    }
}

#[tokio::test]
async fn az_04_a_refusal_reveals_neither_the_path_nor_the_spelling_of_what_exists() {
    let (_broker, admin, bob) = with_bob(json!([allow(
        &["iam:AddRoleToInstanceProfile"],
        "arn:aws:iam::111122223333:instance-profile/ops/*"
    )]))
    .await;
    let path = ("Path", "/ops/secret/");
    let trust = ("AssumeRolePolicyDocument", TRUST);
    let tags = [("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")];
    let profile = ("InstanceProfileName", "Cabin");
    let user = [("UserName", "Hidden"), path, tags[0], tags[1]];
    done(&admin, "CreateUser", &user).await;
    done(&admin, "CreateGroup", &[("GroupName", "Board"), path]).await;
    let role = [("RoleName", "Vault"), path, trust, tags[0], tags[1]];
    done(&admin, "CreateRole", &role).await;
    done(&admin, "CreateInstanceProfile", &[profile, path]).await;
    let policy = [("PolicyName", "p"), ("PolicyDocument", TRUST)];
    for (action, parameter, spellings, more) in [
        ("GetUser", "UserName", ["Hidden", "hidden"], &[][..]),
        ("DeleteUser", "UserName", ["Hidden", "HIDDEN"], &[]),
        ("CreateAccessKey", "UserName", ["Hidden", "hidden"], &[]),
        ("GetLoginProfile", "UserName", ["Hidden", "hidden"], &[]),
        ("ListMFADevices", "UserName", ["Hidden", "hidden"], &[]),
        ("ListSSHPublicKeys", "UserName", ["Hidden", "hidden"], &[]),
        ("UpdateUser", "UserName", ["Hidden", "hidden"], &[]),
        ("PutUserPolicy", "UserName", ["Hidden", "hidden"], &policy),
        ("TagUser", "UserName", ["Hidden", "hidden"], &tags),
        ("GetGroup", "GroupName", ["Board", "board"], &[]),
        (
            "AddUserToGroup",
            "GroupName",
            ["Board", "board"],
            &[("UserName", "bob")],
        ),
        ("GetRole", "RoleName", ["Vault", "vault"], &[]),
        ("ListRoleTags", "RoleName", ["Vault", "vault"], &[]),
        (
            "DeleteRolePermissionsBoundary",
            "RoleName",
            ["Vault", "vault"],
            &[],
        ),
        (
            "GetInstanceProfile",
            "InstanceProfileName",
            ["Cabin", "cabin"],
            &[],
        ),
    ] {
        let ask = async |name: &str| {
            let parameters = [&[(parameter, name)], more].concat();
            sentence_and_length(&bob, action, &parameters, name).await
        };
        let missing = ask("Nobody").await;
        for name in spellings {
            assert_eq!(ask(name).await, missing, "{action} {name}");
        }
    }
    // Of a principal that is named by its ARN, neither.
    for action in [
        "SimulatePrincipalPolicy",
        "GetContextKeysForPrincipalPolicy",
    ] {
        let ask = async |path: &str| {
            let arn = format!("{ACCOUNT}:user{path}");
            let parameters = [
                ("PolicySourceArn", &*arn),
                ("ActionNames.member.1", "s3:Get"),
            ];
            let most = if action.starts_with("Simulate") { 2 } else { 1 };
            sentence_and_length(&bob, action, &parameters[..most], &arn).await
        };
        let there = ask("/ops/secret/Hidden").await;
        for missing in ["/ops/secret/Nobody", "/Hidden"] {
            assert_eq!(ask(missing).await, there, "{action} {missing}");
        }
    }
    // Whoever may use the profile does not learn which roles could be passed.
    let ops = [("InstanceProfileName", "Ops"), ("Path", "/ops/")];
    done(&admin, "CreateInstanceProfile", &ops).await;
    let pass = async |role: &str| {
        let parameters = [ops[0], ("RoleName", role)];
        sentence_and_length(&bob, "AddRoleToInstanceProfile", &parameters, role).await
    };
    let (sentence, length) = pass("Nobody").await;
    assert!(sentence.contains("iam:PassRole"), "{sentence}");
    assert_eq!(pass("Vault").await, (sentence, length));
}

#[tokio::test]
async fn az_04_two_who_take_each_others_permission_away_at_once_do_not_both_succeed() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    let everything = json!({"Version": "2012-10-17", "Statement": [allow(&["iam:*"], "*")]});
    let everything = everything.to_string();
    let mut pair = Vec::new();
    for name in ["one", "two"] {
        done(&admin, "CreateUser", &[("UserName", name)]).await;
        let made = done(&admin, "CreateAccessKey", &[("UserName", name)]).await;
        let key = |field: &str| made["AccessKey"][field].as_str().unwrap().to_owned();
        let keys = Keys {
            id: key("AccessKeyId"),
            secret: key("SecretAccessKey"),
            token: None,
        };
        pair.push(broker.client(&keys));
    }
    for _ in 0..10 {
        for name in ["one", "two"] {
            let policy = [
                ("UserName", name),
                ("PolicyName", "all"),
                ("PolicyDocument", &everything),
            ];
            done(&admin, "PutUserPolicy", &policy).await;
        }
        let take = async |by: &Client, from: &str| {
            let policy = [("UserName", from), ("PolicyName", "all")];
            by.iam("DeleteUserPolicy", &policy).await.is_ok()
        };
        let both = tokio::join!(take(&pair[0], "two"), take(&pair[1], "one"));
        assert!(matches!(both, (true, false) | (false, true)), "{both:?}");
    }
}

#[tokio::test]
async fn a_path_that_only_looks_like_that_of_a_service_protects_no_role() {
    let broker = Broker::start_stored().await;
    let admin = broker.client(&user("admin"));
    let role = [("RoleName", "Stays")];
    let path = ("Path", "/x:role/aws-service-role/y/");
    let trust = ("AssumeRolePolicyDocument", TRUST);
    done(&admin, "CreateRole", &[role[0], path, trust]).await;
    let again = [role[0], ("PolicyDocument", TRUST)];
    done(&admin, "UpdateAssumeRolePolicy", &again).await;
    done(&admin, "DeleteRole", &role).await;
}

#[tokio::test]
async fn az_04_who_may_not_pass_a_role_gives_it_to_no_node_by_a_tag() {
    let small = format!("{ACCOUNT}:role/Small");
    let (_broker, admin, bob) = with_bob(json!([
        allow(&["iam:TagUser", "iam:CreateUser", "iam:TagRole"], "*"),
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": small,
            "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}},
    ]))
    .await;
    for name in ["Small", "Power"] {
        let (role, profile) = (("RoleName", name), ("InstanceProfileName", name));
        let trust = ("AssumeRolePolicyDocument", TRUST);
        done(&admin, "CreateRole", &[role, trust]).await;
        done(&admin, "CreateInstanceProfile", &[profile]).await;
        done(&admin, "AddRoleToInstanceProfile", &[profile, role]).await;
    }
    let key = ("Tags.member.1.Key", "brevet:instance-profile");
    let other_case = ("Tags.member.1.Key", "Brevet:Instance-Profile");
    let value = |profile| ("Tags.member.1.Value", profile);
    for (action, node) in [
        ("TagUser", ("UserName", "bob")),
        ("TagRole", ("RoleName", "Small")),
        ("CreateUser", ("UserName", "born")),
    ] {
        for (key, profile) in [(key, "Power"), (other_case, "Power"), (key, "NotYet")] {
            let (code, message) = refused(&bob, action, &[node, key, value(profile)]).await;
            assert_eq!(code, "AccessDenied", "{action} {profile}: {message}");
            assert!(message.contains("iam:PassRole"), "{message}");
        }
        done(&bob, action, &[node, key, value("Small")]).await;
    }
    // On what is no node, it is a tag like others.
    let policy = [
        ("PolicyArn", &*format!("{ACCOUNT}:policy/NoSts")),
        key,
        value("Power"),
    ];
    done(&admin, "TagPolicy", &policy).await;
}
