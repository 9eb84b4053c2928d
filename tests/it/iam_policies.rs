//! Policies by the IAM API: managed, inline and attached ones, who may change them, and the errors
//! that clients read.

use brevet::client::ClientError;
use brevet::commands::Edit;
use brevet::directory::resource::ResourceKind;
use serde_json::Value;

use crate::harness::*;

const READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}"#;
const LIST: &str = r#"{"Version":"2012-10-17", "Statement":[{"Effect":"Allow","Action":"s3:List*","Resource":"*"}]}"#;

fn policy(name: &str) -> String {
    format!("arn:aws:iam::111122223333:policy/{name}")
}

/// A caller of the IAM API.
struct Caller(brevet::client::Client);

impl Caller {
    fn new(broker: &Broker, name: &str) -> Self {
        Self(broker.client(&user(name)))
    }

    #[track_caller]
    fn text<'a>(answer: &'a Value, pointer: &str) -> &'a str {
        let value = answer.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("{pointer} of {answer}"))
    }

    async fn ok(&self, action: &str, parameters: &[(&str, &str)]) -> Value {
        let answer = self.0.iam(action, parameters).await;
        answer.unwrap_or_else(|error| panic!("{action} {parameters:?}: {error}"))
    }

    /// The code and the message of a refusal.
    async fn refused(&self, action: &str, parameters: &[(&str, &str)]) -> (String, String) {
        match self.0.iam(action, parameters).await {
            Err(ClientError::Refused { code, message, .. }) => {
                (code, sentence(&message).0.to_owned())
            }
            other => panic!("{action} {parameters:?}: {other:?}"),
        }
    }

    async fn code(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.refused(action, parameters).await.0
    }
}

#[tokio::test]
async fn the_life_of_a_managed_policy() {
    let broker = Broker::start_stored().await;
    let admin = Caller::new(&broker, ADMIN);
    let name = ("PolicyName", "Reads");
    let create = [
        name,
        ("Path", "/team/"),
        ("PolicyDocument", READ),
        ("Description", ""),
        ("Tags.member.1.Key", "owner"),
        ("Tags.member.1.Value", "a"),
    ];
    let made = admin.ok("CreatePolicy", &create).await;
    let arn = &policy("team/Reads");
    assert_eq!(Caller::text(&made, "/Policy/Arn"), arn);
    assert_eq!(Caller::text(&made, "/Policy/DefaultVersionId"), "v1");
    assert!(Caller::text(&made, "/Policy/PolicyId").starts_with("ANPA"));
    let again = admin.refused("CreatePolicy", &create).await;
    assert_eq!(again.0, "EntityAlreadyExists");
    // The name is unique whatever the path.
    let other = [("PolicyName", "reads"), ("PolicyDocument", READ)];
    assert_eq!(
        admin.code("CreatePolicy", &other).await,
        "EntityAlreadyExists"
    );

    let of = ("PolicyArn", arn.as_str());
    let got = admin.ok("GetPolicy", &[of]).await;
    assert_eq!(got["Policy"], made["Policy"]);
    assert_eq!(Caller::text(&got, "/Policy/Description"), "");
    assert_eq!(Caller::text(&got, "/Policy/Tags/0/Key"), "owner");
    let version = async |id: &str| {
        let answer = admin.ok("GetPolicyVersion", &[of, ("VersionId", id)]).await;
        let document = Caller::text(&answer, "/PolicyVersion/Document").to_owned();
        percent_encoding::percent_decode_str(&document)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    assert_eq!(version("v1").await, READ);

    let new = [of, ("PolicyDocument", LIST)];
    let made = admin.ok("CreatePolicyVersion", &new).await;
    assert_eq!(Caller::text(&made, "/PolicyVersion/VersionId"), "v2");
    assert_eq!(made["PolicyVersion"]["IsDefaultVersion"], false);
    assert_eq!(version("v2").await, LIST);
    admin
        .ok("SetDefaultPolicyVersion", &[of, ("VersionId", "v2")])
        .await;
    let delete = |id| [of, ("VersionId", id)];
    assert_eq!(
        admin.code("DeletePolicyVersion", &delete("v2")).await,
        "DeleteConflict"
    );
    // The number of a deleted version is never given again.
    for expected in ["v3", "v4"] {
        let made = admin.ok("CreatePolicyVersion", &new).await;
        assert_eq!(Caller::text(&made, "/PolicyVersion/VersionId"), expected);
        admin.ok("DeletePolicyVersion", &delete(expected)).await;
    }
    for expected in ["v5", "v6", "v7"] {
        let made = admin.ok("CreatePolicyVersion", &new).await;
        assert_eq!(Caller::text(&made, "/PolicyVersion/VersionId"), expected);
    }
    let (code, message) = admin.refused("CreatePolicyVersion", &new).await;
    assert_eq!(code, "LimitExceeded");
    assert!(
        message.starts_with("A managed policy can have up to 5 versions"),
        "{message}"
    );
    let mut ids = Vec::new();
    let mut marker = String::new();
    loop {
        let mut page = vec![of, ("MaxItems", "2")];
        if !marker.is_empty() {
            page.push(("Marker", &marker));
        }
        let answer = admin.ok("ListPolicyVersions", &page).await;
        for version in answer["Versions"].as_array().unwrap() {
            ids.push(version["VersionId"].as_str().unwrap().to_owned());
        }
        if answer["IsTruncated"] == false {
            break;
        }
        marker = Caller::text(&answer, "/Marker").to_owned();
    }
    assert_eq!(ids, ["v7", "v6", "v5", "v2", "v1"]);

    assert_eq!(admin.code("DeletePolicy", &[of]).await, "DeleteConflict");
    for id in ["v1", "v5", "v6", "v7"] {
        admin.ok("DeletePolicyVersion", &delete(id)).await;
    }
    for action in ["DeletePolicyVersion", "GetPolicyVersion"] {
        assert_eq!(admin.code(action, &delete("v1")).await, "NoSuchEntity");
    }
    admin.ok("DeletePolicy", &[of]).await;
    for action in ["GetPolicy", "DeletePolicy"] {
        assert_eq!(
            admin.refused(action, &[of]).await,
            (
                "NoSuchEntity".to_owned(),
                format!("Policy {arn} was not found.")
            )
        );
    }
}

#[tokio::test]
async fn documents_and_parameters_of_policies_are_checked() {
    let broker = Broker::start_stored().await;
    let admin = Caller::new(&broker, ADMIN);
    let create = async |parameters: &[(&str, &str)]| {
        let mut all = vec![("PolicyName", "P"), ("PolicyDocument", READ)];
        all.retain(|(name, _)| parameters.iter().all(|(other, _)| other != name));
        all.extend(parameters);
        admin.refused("CreatePolicy", &all).await
    };
    let malformed = "MalformedPolicyDocument";
    assert_eq!(
        create(&[("PolicyDocument", "{")]).await,
        (
            malformed.to_owned(),
            "This policy contains invalid Json".to_owned()
        )
    );
    let principal = READ.replace(r#""Resource""#, r#""Principal":"*","Resource""#);
    assert_eq!(
        create(&[("PolicyDocument", &principal)]).await,
        (
            malformed.to_owned(),
            "Has prohibited field Principal".to_owned()
        )
    );
    let sixth = READ.replace("Get*", &"x".repeat(6_144));
    assert_eq!(
        create(&[("PolicyDocument", &sixth)]).await,
        (
            "LimitExceeded".to_owned(),
            "Cannot exceed quota for PolicySize: 6144".to_owned()
        )
    );
    for (name, value) in [
        ("PolicyName", "a b"),
        ("Path", "x/"),
        ("Path", "/a b/"),
        ("PolicyDocument", ""),
    ] {
        assert_eq!(create(&[(name, value)]).await.0, "ValidationError");
    }
    let reserved = [("Tags.member.1.Key", "AWS:x"), ("Tags.member.1.Value", "a")];
    assert_eq!(create(&reserved).await.0, "InvalidInput");
    assert_eq!(
        admin
            .refused("GetPolicy", &[("PolicyArn", "arn:aws:iam::1:role/Reads")])
            .await,
        (
            "ValidationError".to_owned(),
            "Invalid ARN:  Could not be parsed!".to_owned()
        )
    );
}

#[tokio::test]
async fn policies_are_listed_by_scope_path_and_use() {
    let broker = Broker::start_stored().await;
    let admin = Caller::new(&broker, ADMIN);
    for (name, path) in [("A", "/a/"), ("B", "/ab/"), ("C", "/c/")] {
        let create = [
            ("PolicyName", name),
            ("Path", path),
            ("PolicyDocument", READ),
        ];
        admin.ok("CreatePolicy", &create).await;
    }
    let hand = broker.hand().await;
    let edit = Edit::AttachPolicy(policy("a/A"));
    let number = hand.edit(ResourceKind::Role, OPEN, edit).await.unwrap();
    broker.reaches(number).await;
    let list = async |parameters: &[(&str, &str)]| {
        let mut names = Vec::new();
        let mut marker = String::new();
        loop {
            let mut page = parameters.to_vec();
            page.push(("MaxItems", "2"));
            if !marker.is_empty() {
                page.push(("Marker", &marker));
            }
            let answer = admin.ok("ListPolicies", &page).await;
            for policy in answer["Policies"].as_array().unwrap() {
                assert!(policy.get("Tags").is_none() && policy.get("Description").is_none());
                names.push(policy["PolicyName"].as_str().unwrap().to_owned());
            }
            if answer["IsTruncated"] == false {
                return names;
            }
            marker = Caller::text(&answer, "/Marker").to_owned();
        }
    };
    let local = ("Scope", "Local");
    assert_eq!(list(&[local]).await, ["A", "B", "C", "NoSts", "Sts"]);
    assert_eq!(list(&[local, ("PathPrefix", "/a/")]).await, ["A"]);
    assert_eq!(list(&[local, ("PathPrefix", "/")]).await.len(), 5);
    assert_eq!(list(&[local, ("OnlyAttached", "true")]).await, ["A"]);
    let boundaries = ("PolicyUsageFilter", "PermissionsBoundary");
    let used = list(&[local, boundaries]).await;
    let got = admin
        .ok("GetPolicy", &[("PolicyArn", &policy("a/A"))])
        .await;
    assert_eq!(got["Policy"]["AttachmentCount"], 1);
    assert_eq!(got["Policy"]["PermissionsBoundaryUsageCount"], 0);
    for name in used {
        let got = admin
            .ok("GetPolicy", &[("PolicyArn", &policy(&name))])
            .await;
        assert_ne!(got["Policy"]["PermissionsBoundaryUsageCount"], 0);
    }
    assert_eq!(
        admin.refused("ListPolicies", &[("Marker", "x")]).await.1,
        "Invalid Marker."
    );
    let attached = [("PolicyArn", policy("a/A"))];
    let attached = attached.each_ref().map(|(name, arn)| (*name, arn.as_str()));
    assert_eq!(
        admin.refused("DeletePolicy", &attached).await.0,
        "DeleteConflict"
    );
}

#[tokio::test]
async fn az_04_who_may_not_manage_policies_learns_nothing() {
    let broker = Broker::start_stored().await;
    let bob = Caller::new(&broker, "bob");
    let there = policy("Sts");
    let nowhere = policy("Nowhere");
    for arn in [&there, &nowhere] {
        let of = ("PolicyArn", arn.as_str());
        let version = ("VersionId", "v1");
        let document = ("PolicyDocument", "{");
        for (action, parameters) in [
            ("GetPolicy", vec![of]),
            ("DeletePolicy", vec![of]),
            ("ListPolicyVersions", vec![of]),
            ("GetPolicyVersion", vec![of, version]),
            ("DeletePolicyVersion", vec![of, version]),
            ("SetDefaultPolicyVersion", vec![of, version]),
            ("CreatePolicyVersion", vec![of, document]),
        ] {
            let expected = format!(
                "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: iam:{action} on resource: {arn}"
            );
            assert_eq!(
                bob.refused(action, &parameters).await,
                ("AccessDenied".to_owned(), expected)
            );
        }
    }
    let create = [("PolicyName", "Sts"), ("PolicyDocument", READ)];
    assert_eq!(bob.code("CreatePolicy", &create).await, "AccessDenied");
    assert_eq!(bob.code("ListPolicies", &[]).await, "AccessDenied");
}

/// The entities of the tests, with the name of the parameter that names each.
const OWNERS: [(&str, &str, &str); 3] = [
    ("User", "UserName", "alice"),
    ("Role", "RoleName", "Direct"),
    ("Group", "GroupName", "team"),
];

/// A broker with a group.
async fn with_group() -> Broker {
    let broker = Broker::start_stored().await;
    let group =
        serde_json::json!({"GroupName": "team", "Arn": "arn:aws:iam::111122223333:group/team"});
    let group =
        brevet::directory::resource::Resource::parse(ResourceKind::Group, &group.to_string());
    let command = brevet::commands::Command::Create(group.unwrap());
    let number = broker.hand().await.run(command).await.unwrap();
    broker.reaches(number).await;
    broker
}

#[tokio::test]
async fn inline_policies_of_users_groups_and_roles() {
    let broker = with_group().await;
    let admin = Caller::new(&broker, ADMIN);
    for (kind, field, name) in OWNERS {
        let of = (field, name);
        let action = |verb: &str| format!("{verb}{kind}Policy");
        let list = format!("List{kind}Policies");
        let put = |policy, document| [of, ("PolicyName", policy), ("PolicyDocument", document)];
        for policy in ["b", "a", "c"] {
            admin.ok(&action("Put"), &put(policy, READ)).await;
        }
        // A second time replaces it; names are the same without regard to case.
        admin.ok(&action("Put"), &put("A", LIST)).await;
        let got = admin.ok(&action("Get"), &[of, ("PolicyName", "a")]).await;
        assert_eq!(Caller::text(&got, &format!("/{field}")), name);
        let document = Caller::text(&got, "/PolicyDocument");
        assert!(document.starts_with("%7B%22Version"), "{document}");
        assert!(document.contains("s3%3AList%2A") && document.contains("%2C%20"));
        let names = admin.ok(&list, &[of]).await;
        let names: Vec<&str> = names["PolicyNames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .filter(|name| name.len() == 1)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        let (code, message) = admin.refused(&action("Put"), &put("d", "{")).await;
        assert_eq!(code, "MalformedPolicyDocument");
        assert_eq!(message, "This policy contains invalid Json");
        let large = READ.replace("Get*", &"x".repeat(10_300));
        let (code, message) = admin.refused(&action("Put"), &put("d", &large)).await;
        assert_eq!(code, "LimitExceeded", "{message}");
        for policy in ["a", "b", "c"] {
            admin
                .ok(&action("Delete"), &[of, ("PolicyName", policy)])
                .await;
        }
        for verb in ["Get", "Delete"] {
            let gone = [of, ("PolicyName", "a")];
            assert_eq!(
                admin.refused(&action(verb), &gone).await,
                (
                    "NoSuchEntity".to_owned(),
                    format!(
                        "The {} policy with name a cannot be found.",
                        kind.to_lowercase()
                    )
                )
            );
        }
        let nobody = [(field, "nobody")];
        assert_eq!(
            admin.refused(&list, &nobody).await,
            (
                "NoSuchEntity".to_owned(),
                format!(
                    "The {} with name nobody cannot be found.",
                    kind.to_lowercase()
                )
            )
        );
    }
}

#[tokio::test]
async fn policies_are_attached_to_users_groups_and_roles() {
    let broker = with_group().await;
    let admin = Caller::new(&broker, ADMIN);
    let own = policy("Sts");
    let of_aws = "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess";
    for (kind, field, name) in OWNERS {
        let of = (field, name);
        let attach = format!("Attach{kind}Policy");
        let detach = format!("Detach{kind}Policy");
        let list = format!("ListAttached{kind}Policies");
        for arn in [&*own, of_aws, of_aws] {
            admin.ok(&attach, &[of, ("PolicyArn", arn)]).await;
        }
        let listed = admin.ok(&list, &[of]).await;
        let arns = listed["AttachedPolicies"].as_array().unwrap();
        assert_eq!(arns.len(), 2);
        assert_eq!(arns[0]["PolicyArn"], *own);
        assert_eq!(arns[1]["PolicyName"], "ViewOnlyAccess");
        let listed = admin
            .ok(&list, &[of, ("PathPrefix", "/job-function/")])
            .await;
        assert_eq!(listed["AttachedPolicies"].as_array().unwrap().len(), 1);
        for unknown in [policy("Unknown"), "arn:aws:iam::aws:policy/Unknown".into()] {
            assert_eq!(
                admin.refused(&attach, &[of, ("PolicyArn", &unknown)]).await,
                (
                    "NoSuchEntity".to_owned(),
                    format!("Policy {unknown} does not exist or is not attachable.")
                )
            );
            assert_eq!(
                admin.refused(&detach, &[of, ("PolicyArn", &unknown)]).await,
                (
                    "NoSuchEntity".to_owned(),
                    format!("Policy {unknown} was not found.")
                )
            );
        }
        let service = "arn:aws:iam::aws:policy/aws-service-role/AWSSupportServiceRolePolicy";
        assert_eq!(
            admin.code(&attach, &[of, ("PolicyArn", service)]).await,
            "PolicyNotAttachable"
        );
        let nonsense = "arn:aws:iam::111122223333:role/Sts";
        assert_eq!(
            admin.code(&attach, &[of, ("PolicyArn", nonsense)]).await,
            "ValidationError"
        );
    }
    let mut seen = Vec::new();
    let mut marker = String::new();
    loop {
        let mut page = vec![("PolicyArn", of_aws), ("MaxItems", "1")];
        if !marker.is_empty() {
            page.push(("Marker", &marker));
        }
        let answer = admin.ok("ListEntitiesForPolicy", &page).await;
        for (list, name) in [
            ("PolicyGroups", "GroupName"),
            ("PolicyUsers", "UserName"),
            ("PolicyRoles", "RoleName"),
        ] {
            for entity in answer[list].as_array().unwrap() {
                seen.push(entity[name].as_str().unwrap().to_owned());
            }
        }
        if answer["IsTruncated"] == false {
            break;
        }
        marker = Caller::text(&answer, "/Marker").to_owned();
    }
    assert_eq!(seen, ["team", "alice", "Direct"]);
    let deep = [
        ("PolicyArn", of_aws),
        ("PathPrefix", "/deep/"),
        ("EntityFilter", "Role"),
    ];
    let answer = admin.ok("ListEntitiesForPolicy", &deep).await;
    assert_eq!(answer["PolicyRoles"].as_array().unwrap().len(), 1);
    assert_eq!(answer["PolicyUsers"].as_array().unwrap().len(), 0);
    let boundaries = [
        ("PolicyArn", of_aws),
        ("PolicyUsageFilter", "PermissionsBoundary"),
    ];
    let answer = admin.ok("ListEntitiesForPolicy", &boundaries).await;
    assert_eq!(answer["PolicyRoles"].as_array().unwrap().len(), 0);
    let unknown = [("PolicyArn", "arn:aws:iam::aws:policy/Unknown")];
    assert_eq!(
        admin.code("ListEntitiesForPolicy", &unknown).await,
        "NoSuchEntity"
    );
    let detach = [("RoleName", "Direct"), ("PolicyArn", of_aws)];
    admin.ok("DetachRolePolicy", &detach).await;
    assert_eq!(
        admin.code("DetachRolePolicy", &detach).await,
        "NoSuchEntity"
    );
}

#[tokio::test]
async fn policies_of_aws_mean_what_they_say_and_nobody_changes_them() {
    let broker = Broker::start_stored().await;
    let admin = Caller::new(&broker, ADMIN);
    let bob = Caller::new(&broker, "bob");
    let read = "arn:aws:iam::aws:policy/IAMReadOnlyAccess";
    let of = ("PolicyArn", read);
    let got = admin.ok("GetPolicy", &[of]).await;
    assert!(Caller::text(&got, "/Policy/PolicyId").starts_with("ANPA"));
    assert!(Caller::text(&got, "/Policy/Description").contains("written for Brevet"));
    assert_eq!(got["Policy"]["AttachmentCount"], 0);
    let version = [of, ("VersionId", "v1")];
    let version = admin.ok("GetPolicyVersion", &version).await;
    assert!(Caller::text(&version, "/PolicyVersion/Document").contains("iam%3AGet%2A"));
    assert_eq!(bob.code("GetPolicy", &[of]).await, "AccessDenied");
    let bobs = [("UserName", "bob"), of];
    admin.ok("AttachUserPolicy", &bobs).await;
    let got = bob.ok("GetPolicy", &[of]).await;
    assert_eq!(got["Policy"]["AttachmentCount"], 1);
    let create = [("PolicyName", "P"), ("PolicyDocument", READ)];
    assert_eq!(bob.code("CreatePolicy", &create).await, "AccessDenied");
    let deny = [
        ("UserName", "bob"),
        ("PolicyArn", "arn:aws:iam::aws:policy/AWSDenyAll"),
    ];
    admin.ok("AttachUserPolicy", &deny).await;
    assert_eq!(bob.code("GetPolicy", &[of]).await, "AccessDenied");

    for (action, parameters) in [
        ("CreatePolicyVersion", vec![of, ("PolicyDocument", READ)]),
        ("SetDefaultPolicyVersion", vec![of, ("VersionId", "v1")]),
        ("DeletePolicyVersion", vec![of, ("VersionId", "v1")]),
        ("DeletePolicy", vec![of]),
    ] {
        assert_eq!(admin.code(action, &parameters).await, "AccessDenied");
    }
    let list = [("Scope", "AWS"), ("MaxItems", "1000")];
    let names = async || {
        let listed = admin.ok("ListPolicies", &list).await;
        let listed = listed["Policies"].as_array().unwrap().clone();
        let names = listed
            .into_iter()
            .map(|p| p["PolicyName"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let before = names().await;
    assert!(before.contains(&"AdministratorAccess".to_owned()));
    let used = [list[0], list[1], ("OnlyAttached", "true")];
    let used = admin.ok("ListPolicies", &used).await;
    assert_eq!(used["Policies"].as_array().unwrap().len(), 2);

    // A document that is imported takes the place of the built-in one.
    let document: Value =
        serde_json::from_str(&READ.replace("s3:Get*", "iam:CreatePolicy")).unwrap();
    let imported = serde_json::json!({"Policies": [{"PolicyName": "IAMReadOnlyAccess", "Arn": read,
        "PolicyId": "ANPAIKSO7NDY4T57MWDSQ", "DefaultVersionId": "v4", "PolicyVersionList":
        [{"VersionId": "v4", "IsDefaultVersion": true, "Document": document}]}]});
    let number = broker.hand().await.import(&imported).await.unwrap();
    broker.reaches(number).await;
    admin.ok("DetachUserPolicy", &deny).await;
    assert_eq!(bob.code("GetPolicy", &[of]).await, "AccessDenied");
    bob.ok("CreatePolicy", &create).await;
    let got = admin.ok("GetPolicy", &[of]).await;
    assert_eq!(Caller::text(&got, "/Policy/DefaultVersionId"), "v4");
    let mut after = names().await;
    after.sort();
    let mut before = before;
    before.sort();
    assert_eq!(after, before);
}

#[tokio::test]
async fn az_04_attachments_are_allowed_by_policy_and_boundary() {
    let broker = Broker::start_stored().await;
    let admin = Caller::new(&broker, ADMIN);
    let bob = Caller::new(&broker, "bob");
    let limited = serde_json::json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["iam:AttachUserPolicy", "iam:DetachUserPolicy", "iam:PutUserPolicy"],
         "Resource": "arn:aws:iam::111122223333:user/*",
         "Condition": {"StringEquals": {"iam:PermissionsBoundary": policy("NoSts")}}},
        {"Effect": "Allow", "Action": "iam:AttachRolePolicy", "Resource": "*",
         "Condition": {"ArnEquals": {"iam:PolicyARN": policy("NoSts")}}}]});
    let put = [
        ("UserName", "bob"),
        ("PolicyName", "limited"),
        ("PolicyDocument", &limited.to_string()),
    ];
    admin.ok("PutUserPolicy", &put).await;
    let bounded = async |name: &str| {
        let arn = format!("arn:aws:iam::111122223333:user/{name}");
        let edit = Edit::PutPermissionsBoundary(policy("NoSts"));
        let hand = broker.hand().await;
        let number = hand.edit(ResourceKind::User, &arn, edit).await.unwrap();
        broker.reaches(number).await;
    };
    let sts = policy("Sts");
    let user = |name| [("UserName", name), ("PolicyArn", sts.as_str())];
    let inline = |name| {
        [
            ("UserName", name),
            ("PolicyName", "all"),
            ("PolicyDocument", READ),
        ]
    };
    // Without the boundary, not even on oneself.
    for name in ["alice", "bob"] {
        assert_eq!(
            bob.code("AttachUserPolicy", &user(name)).await,
            "AccessDenied"
        );
        assert_eq!(
            bob.code("PutUserPolicy", &inline(name)).await,
            "AccessDenied"
        );
    }
    bounded("alice").await;
    bob.ok("AttachUserPolicy", &user("alice")).await;
    bob.ok("PutUserPolicy", &inline("alice")).await;
    bob.ok("DetachUserPolicy", &user("alice")).await;
    let role = |name: &str| policy(name);
    for (name, allowed) in [("NoSts", true), ("Sts", false)] {
        let arn = role(name);
        let attach = [("RoleName", "Open"), ("PolicyArn", arn.as_str())];
        let answer = bob.0.iam("AttachRolePolicy", &attach).await;
        assert_eq!(answer.is_ok(), allowed, "{name}: {answer:?}");
    }
    // Whoever may not, learns nothing of who is there.
    for name in ["Open", "nobody"] {
        for (action, parameters) in [
            (
                "PutRolePolicy",
                vec![("PolicyName", "p"), ("PolicyDocument", "{")],
            ),
            ("GetRolePolicy", vec![("PolicyName", "p")]),
            ("DeleteRolePolicy", vec![("PolicyName", "p")]),
            ("ListRolePolicies", vec![]),
            ("DetachRolePolicy", vec![("PolicyArn", sts.as_str())]),
            ("ListAttachedRolePolicies", vec![]),
        ] {
            let mut all = vec![("RoleName", name)];
            all.extend(parameters);
            let (code, message) = bob.refused(action, &all).await;
            assert_eq!(code, "AccessDenied", "{action}");
            assert!(message.ends_with(&format!("role/{name}")), "{message}");
        }
    }
}
