//! Service and resource control policies of an organization, in force: whom each level binds and whom
//! it does not, the condition keys of an organization, and what is said about a refusal.

use serde_json::{Value, json};

use crate::harness::*;

/// A member account, in the unit `PROD`.
const MEMBER: &str = "111122223333";
/// The management account.
const MANAGEMENT: &str = "999988887777";
/// An account outside the organization.
const STRANGER: &str = "444455556666";
const ORGANIZATION: &str = "o-exampleorgid";
const ROOT: &str = "r-exam";
const WORKLOADS: &str = "ou-exam-11111111";
/// A unit in `WORKLOADS`.
const PROD: &str = "ou-exam-22222222";
/// A unit without accounts.
const SANDBOX: &str = "ou-exam-33333333";

fn document(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn everything() -> Value {
    json!({"Effect": "Allow", "Action": "*", "Resource": "*"})
}

/// A control policy that is attached to these targets.
fn policy(id: &str, kind: &str, content: Value, targets: &[&str]) -> Value {
    let targets: Vec<Value> = targets.iter().map(|id| json!({"TargetId": id})).collect();
    json!({"PolicySummary": {"Id": id, "Name": format!("Name-of-{id}"), "Type": kind}, "Content": content, "Targets": targets})
}

fn scp(id: &str, content: Value, targets: &[&str]) -> Value {
    policy(id, "SERVICE_CONTROL_POLICY", content, targets)
}

fn rcp(id: &str, content: Value, targets: &[&str]) -> Value {
    policy(id, "RESOURCE_CONTROL_POLICY", content, targets)
}

/// The service control policy that allows everything, on everything but these targets.
fn full_access_except(except: &[&str]) -> Value {
    let all = [ROOT, WORKLOADS, PROD, SANDBOX, MEMBER, MANAGEMENT];
    let targets: Vec<&str> = all.into_iter().filter(|t| !except.contains(t)).collect();
    scp("p-FullAWSAccess", document(&[everything()]), &targets)
}

fn organization(policies: &[Value]) -> Value {
    json!({
        "Id": ORGANIZATION, "MasterAccountId": MANAGEMENT, "FeatureSet": "ALL",
        "Roots": [{"Id": ROOT, "Name": "Root", "PolicyTypes": [
            {"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}, {"Type": "RESOURCE_CONTROL_POLICY", "Status": "ENABLED"}]}],
        "OrganizationalUnits": [
            // The order does not matter.
            {"Id": PROD, "Name": "Prod", "ParentId": WORKLOADS},
            {"Id": WORKLOADS, "Name": "Workloads", "ParentId": ROOT},
            {"Id": SANDBOX, "Name": "Sandbox", "ParentId": ROOT}],
        "Accounts": [{"Id": MEMBER, "ParentId": PROD}, {"Id": MANAGEMENT, "ParentId": ROOT}],
        "Policies": policies,
    })
}

fn arn(account: &str, what: &str) -> String {
    format!("arn:aws:iam::{account}:{what}")
}

fn role(account: &str, name: &str, condition: Option<Value>) -> Value {
    let mut statement = json!({"Effect": "Allow", "Principal": {"AWS": [MEMBER, MANAGEMENT, STRANGER]}, "Action": "sts:AssumeRole"});
    if let Some(condition) = condition {
        statement["Principal"] = json!("*");
        statement["Condition"] = condition;
    }
    json!({"RoleName": name, "Arn": arn(account, &format!("role/{name}")),
        "AssumeRolePolicyDocument": document(&[statement]),
        "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": document(&[everything()])}]})
}

/// The administrator of an account, who may do everything by their own policies.
fn keys(account: &str) -> Keys {
    Keys {
        id: format!("AKIAADMIN{account}"),
        secret: format!("canary+secret/of/{account:0>23}"),
        token: None,
    }
}

/// Three accounts, each with an administrator and a role that all of them may assume by its trust
/// policy; and in the member account two roles for members of the organization.
fn directory(organization: Option<Value>) -> Value {
    let accounts = [MEMBER, MANAGEMENT, STRANGER];
    let users = accounts.map(|account| {
        json!({"UserName": "admin", "Arn": arn(account, "user/admin"),
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": document(&[everything()])}]})
    });
    let access_keys = accounts.map(|account| {
        let held = keys(account);
        json!({"UserArn": arn(account, "user/admin"), "AccessKeyId": held.id, "SecretAccessKey": held.secret})
    });
    let mut roles = accounts
        .map(|account| role(account, "Target", None))
        .to_vec();
    roles.push(role(
        MEMBER,
        "Members",
        Some(json!({"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}})),
    ));
    let path = format!("{ORGANIZATION}/{ROOT}/{WORKLOADS}/*");
    roles.push(role(
        MEMBER,
        "Workloads",
        Some(json!({
        "StringEquals": {"aws:PrincipalOrgID": ORGANIZATION},
        "ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": [path]}})),
    ));
    let mut brevet = json!({"AccessKeys": access_keys});
    if let Some(organization) = organization {
        brevet["Organization"] = organization;
    }
    json!({"UserDetailList": users, "RoleDetailList": roles, "Brevet": brevet})
}

async fn broker(organization: Option<Value>) -> Broker {
    let dir = home();
    let text = directory(organization).to_string();
    brevet::files::write_private(&dir.path().join("directory.json"), text.as_bytes()).unwrap();
    Broker::start_in(dir, |_| {}).await
}

/// Assumes a role of an account as the administrator of another. Returns `ok` or the error code.
async fn assume(broker: &Broker, from: &str, account: &str, name: &str) -> String {
    let role = arn(account, &format!("role/{name}"));
    match broker.assume(&keys(from), &role).await {
        Ok(_) => "ok".to_owned(),
        Err(code) => code,
    }
}

async fn call(broker: &Broker, account: &str, form: &[(&str, &str)]) -> String {
    query(broker, account, form).await.code().to_owned()
}

async fn query(broker: &Broker, account: &str, form: &[(&str, &str)]) -> Answer {
    let form = [form, &[VERSION]].concat();
    broker.query(Some(&keys(account)), &form).await
}

fn deny(action: &str) -> Value {
    json!({"Sid": "Never", "Effect": "Deny", "Action": action, "Resource": "*"})
}

#[tokio::test]
async fn a_service_control_policy_binds_the_accounts_below_it_and_nobody_else() {
    let denied = document(&[everything(), deny("sts:AssumeRole")]);
    for (target, member) in [
        (ROOT, "AccessDenied"),
        (WORKLOADS, "AccessDenied"),
        (PROD, "AccessDenied"),
        (MEMBER, "AccessDenied"),
        (SANDBOX, "ok"),
        (MANAGEMENT, "ok"),
    ] {
        let policies = [
            full_access_except(&[]),
            scp("p-neverassume", denied.clone(), &[target]),
        ];
        let broker = broker(Some(organization(&policies))).await;
        let tried = [
            assume(&broker, MEMBER, MEMBER, "Target").await,
            assume(&broker, MEMBER, STRANGER, "Target").await,
        ];
        assert_eq!(tried, [member, member], "{target}");
        // It does not bind the management account, nor a principal from outside, even on a resource of
        // a member account.
        let others = [
            assume(&broker, MANAGEMENT, MANAGEMENT, "Target").await,
            assume(&broker, STRANGER, MEMBER, "Target").await,
        ];
        assert_eq!(others, ["ok", "ok"], "{target}");
        // Nor does it bind another action.
        let token = [("Action", "GetFederationToken"), ("Name", "someone")];
        assert_eq!(call(&broker, MEMBER, &token).await, "ok", "{target}");
    }
}

#[tokio::test]
async fn every_level_must_allow() {
    let list = document(&[
        json!({"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": "*"}),
    ]);
    for target in [ROOT, WORKLOADS, PROD, MEMBER] {
        let policies = [
            full_access_except(&[target]),
            scp("p-allowlisted", list.clone(), &[target]),
        ];
        let broker = broker(Some(organization(&policies))).await;
        assert_eq!(assume(&broker, MEMBER, MEMBER, "Target").await, "ok");
        for form in [
            [("Action", "GetFederationToken"), ("Name", "someone")],
            // Nobody needs a permission for it, but the organization must not have taken it away.
            [("Action", "GetSessionToken"), ("DurationSeconds", "900")],
            [
                ("Action", "DecodeAuthorizationMessage"),
                ("EncodedMessage", "x"),
            ],
        ] {
            assert_eq!(
                call(&broker, MEMBER, &form).await,
                "AccessDenied",
                "{target} {form:?}"
            );
            let form_of_management = call(&broker, MANAGEMENT, &form).await;
            assert_ne!(form_of_management, "AccessDenied", "{target} {form:?}");
        }
        let identity = [("Action", "GetCallerIdentity")];
        assert_eq!(
            call(&broker, MEMBER, &identity).await,
            "ok",
            "it is never denied"
        );
    }
}

#[tokio::test]
async fn a_session_of_a_member_account_is_bound_too() {
    let policies = [
        full_access_except(&[]),
        scp(
            "p-notwice00",
            document(&[
                everything(),
                json!({"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*",
            "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}}),
            ]),
            &[PROD],
        ),
    ];
    let broker = broker(Some(organization(&policies))).await;
    let target = arn(MEMBER, "role/Target");
    let session = broker.assume(&keys(MEMBER), &target).await.unwrap();
    let again = broker.assume(&session, &arn(STRANGER, "role/Target")).await;
    assert_eq!(again.err().unwrap(), "AccessDenied");
    let session = broker
        .assume(&keys(STRANGER), &arn(STRANGER, "role/Target"))
        .await
        .unwrap();
    assert!(broker.assume(&session, &target).await.is_ok());
}

#[tokio::test]
async fn a_resource_control_policy_binds_whoever_asks_for_what_a_member_account_owns() {
    let perimeter = document(&[
        json!({"Sid": "Perimeter", "Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole",
        "Resource": "*", "Condition": {"StringNotEqualsIfExists": {"aws:PrincipalOrgID": ORGANIZATION}}}),
    ]);
    for (target, stranger) in [
        (ROOT, "AccessDenied"),
        (PROD, "AccessDenied"),
        (MEMBER, "AccessDenied"),
        (SANDBOX, "ok"),
    ] {
        let everything =
            json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"});
        let policies = [
            full_access_except(&[]),
            rcp(
                "p-RCPFullAWSAccess",
                document(&[everything]),
                &[ROOT, WORKLOADS, PROD, SANDBOX, MEMBER, MANAGEMENT],
            ),
            rcp("p-perimeter0", perimeter.clone(), &[target]),
        ];
        let broker = broker(Some(organization(&policies))).await;
        assert_eq!(
            assume(&broker, STRANGER, MEMBER, "Target").await,
            stranger,
            "{target}"
        );
        assert_eq!(assume(&broker, MEMBER, MEMBER, "Target").await, "ok");
        assert_eq!(assume(&broker, MANAGEMENT, MEMBER, "Target").await, "ok");
        // The resources of the management account, and those of others, are not bound.
        assert_eq!(assume(&broker, STRANGER, MANAGEMENT, "Target").await, "ok");
        assert_eq!(assume(&broker, MEMBER, STRANGER, "Target").await, "ok");
        // A role that does not exist is refused like one that does.
        assert_eq!(
            assume(&broker, STRANGER, MEMBER, "Nobody").await,
            "AccessDenied"
        );
    }
}

#[tokio::test]
async fn a_trust_policy_can_mean_an_organization_or_a_part_of_it() {
    let broker = broker(Some(organization(&[full_access_except(&[])]))).await;
    for (from, members, workloads) in [
        (MEMBER, "ok", "ok"),
        (MANAGEMENT, "ok", "AccessDenied"),
        (STRANGER, "AccessDenied", "AccessDenied"),
    ] {
        assert_eq!(
            assume(&broker, from, MEMBER, "Members").await,
            members,
            "{from}"
        );
        assert_eq!(
            assume(&broker, from, MEMBER, "Workloads").await,
            workloads,
            "{from}"
        );
    }
}

#[tokio::test]
async fn without_an_organization_nothing_is_bound_and_nobody_is_a_member() {
    let broker = broker(None).await;
    for from in [MEMBER, MANAGEMENT, STRANGER] {
        assert_eq!(assume(&broker, from, MEMBER, "Target").await, "ok");
        assert_eq!(
            assume(&broker, from, MEMBER, "Members").await,
            "AccessDenied"
        );
    }
}

#[tokio::test]
async fn the_account_of_what_is_asked_for_has_an_organization_too() {
    let only_own = |key: &str, value: &str| {
        scp(
            "p-onlyourown",
            document(&[
                everything(),
                json!({"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*",
            "Condition": {"ForAllValues:StringNotLike": {key: value}}}),
            ]),
            &[ROOT],
        )
    };
    for condition in [
        ("aws:ResourceOrgID", ORGANIZATION),
        ("aws:ResourceOrgPaths", "o-exampleorgid/r-exam/*"),
    ] {
        let policies = [full_access_except(&[]), only_own(condition.0, condition.1)];
        let broker = broker(Some(organization(&policies))).await;
        assert_eq!(assume(&broker, MEMBER, MEMBER, "Target").await, "ok");
        assert_eq!(assume(&broker, MEMBER, MANAGEMENT, "Target").await, "ok");
        assert_eq!(
            assume(&broker, MEMBER, STRANGER, "Target").await,
            "AccessDenied"
        );
    }
}

/// Has an administrator explain a refusal. Returns the decoded message.
async fn explained(broker: &Broker, reader: &str, message: &str) -> Value {
    let (_, encoded) = sentence(message);
    let client = broker.client(&keys(reader));
    let decoded = client.decode_authorization_message(encoded).await.unwrap();
    serde_json::from_str(&decoded).unwrap()
}

#[tokio::test]
async fn a_refusal_names_the_control_policy_to_those_whose_account_it_binds() {
    let perimeter = document(&[
        json!({"Sid": "Perimeter", "Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole",
        "Resource": "*", "Condition": {"StringNotEqualsIfExists": {"aws:PrincipalOrgID": ORGANIZATION}}}),
    ]);
    let only = document(&[
        json!({"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:DecodeAuthorizationMessage"], "Resource": "*"}),
    ]);
    let never = json!({"Sid": "Never", "Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceAccount": STRANGER}}});
    let policies = [
        full_access_except(&[WORKLOADS]),
        scp("p-neverassume", document(&[everything(), never]), &[PROD]),
        scp("p-allowlisted", only, &[WORKLOADS]),
        rcp("p-perimeter0", perimeter, &[ROOT]),
    ];
    let broker = broker(Some(organization(&policies))).await;
    let refused = async |from: &str, form: &[(&str, &str)]| {
        let answer = query(&broker, from, form).await;
        assert_eq!(answer.code(), "AccessDenied");
        answer.element("Message").unwrap().to_owned()
    };
    let assume = |account: &str| {
        let role = arn(account, "role/Target");
        [
            ("Action", "AssumeRole".to_owned()),
            ("RoleArn", role),
            ("RoleSessionName", "session".to_owned()),
        ]
    };
    let form = assume(STRANGER);
    let form = form.each_ref().map(|(k, v)| (*k, v.as_str()));
    let message = refused(MEMBER, &form).await;
    let told = explained(&broker, MEMBER, &message).await;
    assert_eq!(told["explicitDeny"], true);
    assert_eq!(
        told["matchedStatements"]["items"][0]["sourcePolicyId"],
        "p-neverassume"
    );
    let summary = told["explanation"]["summary"].as_str().unwrap();
    let expected = format!(
        "Statement[1] (Never) of the service control policy p-neverassume (Name-of-p-neverassume), attached to {PROD}, denies the request."
    );
    assert_eq!(summary, expected);
    // The account of the role learns nothing about policies of the caller's organization.
    let told = explained(&broker, STRANGER, &message).await.to_string();
    assert!(
        !told.contains("p-neverassume") && !told.contains("p-allowlisted"),
        "{told}"
    );

    let token = [("Action", "GetFederationToken"), ("Name", "someone")];
    let message = refused(MEMBER, &token).await;
    let told = explained(&broker, MEMBER, &message).await;
    let expected =
        format!("No service control policy that is attached to {WORKLOADS} allows the request.");
    assert_eq!(told["explanation"]["summary"], expected.as_str());
    assert_eq!(told["explicitDeny"], false);

    let form = assume(MEMBER);
    let form = form.each_ref().map(|(k, v)| (*k, v.as_str()));
    let message = refused(STRANGER, &form).await;
    // The reader in the account of the role sees its resource control policy, the caller does not.
    let told = explained(&broker, STRANGER, &message).await.to_string();
    assert!(
        !told.contains("p-perimeter0") && !told.contains(ORGANIZATION),
        "{told}"
    );
    let told = explained(&broker, MEMBER, &message).await;
    assert_eq!(
        told["matchedStatements"]["items"][0]["sourcePolicyId"],
        "p-perimeter0"
    );

    let audited = broker.into_audit().await;
    let ids: Vec<&str> = audited
        .iter()
        .filter_map(|line| line["additionalEventData"]["policyId"].as_str())
        .collect();
    assert_eq!(ids, ["p-neverassume", "p-perimeter0"]);
}

/// The organization in a store: in force at once on a running broker, exported as it was imported, and
/// changed by whoever imports it again.
#[tokio::test]
async fn an_organization_in_the_store_is_in_force_without_a_restart() {
    let broker = Broker::start_stored().await;
    let hand = broker.hand().await;
    let plain = organization(&[full_access_except(&[])]);
    hand.import(&directory(Some(plain.clone()))).await.unwrap();
    let sequence = hand
        .import(&json!({"Brevet": {"Organization": plain}}))
        .await
        .unwrap();
    broker.reaches(sequence).await;
    assert_eq!(assume(&broker, MEMBER, MEMBER, "Target").await, "ok");
    assert_eq!(
        assume(&broker, STRANGER, MEMBER, "Members").await,
        "AccessDenied"
    );
    let strict = organization(&[
        full_access_except(&[]),
        scp(
            "p-neverassume",
            document(&[everything(), deny("sts:AssumeRole")]),
            &[WORKLOADS],
        ),
    ]);
    let file = json!({"Brevet": {"Organization": strict}});
    let sequence = hand.import(&file).await.unwrap();
    broker.reaches(sequence).await;
    assert_eq!(
        assume(&broker, MEMBER, MEMBER, "Target").await,
        "AccessDenied"
    );

    // What is exported is imported without a change.
    let exported = brevet::commands::export(&hand.store).await.unwrap();
    let exported = serde_json::to_value(&exported).unwrap();
    assert_eq!(exported["Brevet"]["Organization"]["Id"], ORGANIZATION);
    assert_eq!(hand.import(&exported).await.unwrap(), sequence);

    // There is one organization, and a broken one is refused as a whole.
    let mut other = strict.clone();
    other["Id"] = json!("o-anotherorgid");
    let refused = hand
        .import(&json!({"Brevet": {"Organization": other}}))
        .await;
    assert!(refused.unwrap_err().to_string().contains("at most one"));
    let mut gap = strict.clone();
    gap["Policies"][0]["Targets"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    let refused = hand.import(&json!({"Brevet": {"Organization": gap}})).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("no service control policy is attached to `r-exam`"),
        "{refused}"
    );
    assert_eq!(
        assume(&broker, MEMBER, MEMBER, "Target").await,
        "AccessDenied"
    );

    let name = brevet::directory::resource::Name::new(
        brevet::directory::resource::ResourceKind::Organization,
        ORGANIZATION,
    );
    let delete = brevet::commands::Command::Delete {
        name,
        expected: None,
    };
    let sequence = hand.run_as("DeleteOrganization", delete).await.unwrap();
    broker.reaches(sequence).await;
    assert_eq!(assume(&broker, MEMBER, MEMBER, "Target").await, "ok");
    assert_eq!(
        assume(&broker, MEMBER, MEMBER, "Members").await,
        "AccessDenied"
    );
}

/// What the commands of `aws organizations` print, each in its file.
fn printed(dir: &std::path::Path) {
    let managed = |id: &str, kind: &str| {
        json!({"Id": id, "Arn": format!("arn:aws:organizations::aws:policy/x/{id}"),
        "Name": id, "Description": "", "Type": kind, "AwsManaged": true})
    };
    let own = json!({"Id": "p-neverassume", "Arn": format!("arn:aws:organizations::{MANAGEMENT}:policy/{ORGANIZATION}/service_control_policy/p-neverassume"),
        "Name": "Never", "Description": "", "Type": "SERVICE_CONTROL_POLICY", "AwsManaged": false});
    let account = |id: &str| {
        json!({"Id": id, "Arn": format!("arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{id}"),
        "Email": "x@example.com", "Name": "x", "Status": "ACTIVE", "State": "ACTIVE", "JoinedMethod": "CREATED",
        "JoinedTimestamp": "2024-01-01T00:00:00.000000+00:00"})
    };
    let unit = |id: &str| json!({"Id": id, "Arn": format!("arn:aws:organizations::{MANAGEMENT}:ou/{ORGANIZATION}/{id}"), "Name": "x"});
    let target = |id: &str, kind: &str| json!({"TargetId": id, "Arn": "arn:aws:organizations::x", "Name": "x", "Type": kind});
    let everywhere = [ROOT, WORKLOADS, PROD, MEMBER, MANAGEMENT].map(|id| target(id, "ROOT"));
    // The content is a text in JSON, as AWS prints it.
    let content = document(&[everything(), deny("sts:AssumeRole")]).to_string();
    for (name, value) in [
        (
            "organization",
            json!({"Organization": {"Id": ORGANIZATION, "Arn": "arn:aws:organizations::x", "FeatureSet": "ALL",
            "MasterAccountArn": "arn:aws:organizations::x", "MasterAccountId": MANAGEMENT, "MasterAccountEmail": "x@example.com",
            "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}]}}),
        ),
        (
            "roots",
            json!({"Roots": [{"Id": ROOT, "Arn": "arn:aws:organizations::x", "Name": "Root", "PolicyTypes": [
            {"Type": "RESOURCE_CONTROL_POLICY", "Status": "ENABLED"}, {"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}]}]}),
        ),
        (
            &*format!("units.{ROOT}"),
            json!({"OrganizationalUnits": [unit(WORKLOADS)]}),
        ),
        (
            &*format!("units.{WORKLOADS}"),
            json!({"OrganizationalUnits": [unit(PROD)]}),
        ),
        (
            &*format!("units.{PROD}"),
            json!({"OrganizationalUnits": []}),
        ),
        (
            &*format!("accounts.{ROOT}"),
            json!({"Accounts": [account(MANAGEMENT)]}),
        ),
        (&*format!("accounts.{WORKLOADS}"), json!({"Accounts": []})),
        (
            &*format!("accounts.{PROD}"),
            json!({"Accounts": [account(MEMBER)]}),
        ),
        (
            "policies.SERVICE_CONTROL_POLICY",
            json!({"Policies": [managed("p-FullAWSAccess", "SERVICE_CONTROL_POLICY"), own]}),
        ),
        (
            "policies.RESOURCE_CONTROL_POLICY",
            json!({"Policies": [managed("p-RCPFullAWSAccess", "RESOURCE_CONTROL_POLICY")]}),
        ),
        (
            "policy.p-neverassume",
            json!({"Policy": {"PolicySummary": own, "Content": content}}),
        ),
        ("targets.p-FullAWSAccess", json!({"Targets": everywhere})),
        ("targets.p-RCPFullAWSAccess", json!({"Targets": everywhere})),
        (
            "targets.p-neverassume",
            json!({"Targets": [target(PROD, "ORGANIZATIONAL_UNIT")]}),
        ),
    ] {
        std::fs::write(dir.join(format!("{name}.json")), value.to_string()).unwrap();
    }
}

#[test]
fn what_aws_prints_is_put_together_and_a_missing_part_is_named() {
    let home = crate::binary::Home::init();
    let dir = tempfile::tempdir().unwrap();
    printed(dir.path());
    let declare = || {
        crate::binary::brevet()
            .args(["organization", "declare"])
            .arg(dir.path())
            .output()
            .unwrap()
    };
    let declared = declare();
    let error = String::from_utf8_lossy(&declared.stderr);
    assert!(declared.status.success(), "{error}");
    let file = home.path.join("organization.json");
    std::fs::write(&file, &declared.stdout).unwrap();
    let file = file.to_str().unwrap();
    let shown = home.run(&["import", file, "--apply"]);
    assert!(
        shown.contains(&*format!("+ organization {ORGANIZATION}")),
        "{shown}"
    );
    let again = home.run(&["import", file]);
    assert!(again.contains("nothing to change"), "{again}");
    let exported: Value = serde_json::from_slice(&home.try_run(&["export"]).stdout).unwrap();
    let organization = &exported["Brevet"]["Organization"];
    assert_eq!(
        organization["Accounts"][0],
        json!({"Id": MEMBER, "Name": "x", "ParentId": PROD,
        "Arn": format!("arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{MEMBER}")})
    );
    assert_eq!(
        organization["Policies"][1]["Content"]["Statement"][1]["Sid"],
        "Never"
    );

    for (part, command) in [
        ("organization", "describe-organization"),
        ("roots", "list-roots"),
        (
            &*format!("units.{PROD}"),
            "list-organizational-units-for-parent --parent-id ou-exam-22222222",
        ),
        (
            &*format!("accounts.{WORKLOADS}"),
            "list-accounts-for-parent --parent-id ou-exam-11111111",
        ),
        (
            "policies.RESOURCE_CONTROL_POLICY",
            "list-policies --filter RESOURCE_CONTROL_POLICY",
        ),
        (
            "policy.p-neverassume",
            "describe-policy --policy-id p-neverassume",
        ),
        (
            "targets.p-neverassume",
            "list-targets-for-policy --policy-id p-neverassume",
        ),
        (
            "targets.p-FullAWSAccess",
            "list-targets-for-policy --policy-id p-FullAWSAccess",
        ),
    ] {
        let path = dir.path().join(format!("{part}.json"));
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = declare();
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && refused.stdout.is_empty(),
            "{part}"
        );
        assert!(error.contains(command), "{part}: {error}");
        // One page of several says so.
        let mut page: Value = serde_json::from_slice(&text).unwrap();
        page["NextToken"] = json!("x");
        std::fs::write(&path, page.to_string()).unwrap();
        let error = String::from_utf8_lossy(&declare().stderr).into_owned();
        assert!(error.contains("only one page"), "{part}: {error}");
        std::fs::write(&path, text).unwrap();
    }
    assert!(declare().status.success());
}

#[test]
fn an_organization_goes_with_the_management_accounts_part_of_the_directory() {
    let home = crate::binary::Home::init();
    let file = home.path.join("file.json");
    let write =
        |value: Value| brevet::files::write_private(&file, value.to_string().as_bytes()).unwrap();
    let path = file.to_str().unwrap();
    write(json!({"Brevet": {"Organization": organization(&[full_access_except(&[])])}}));
    home.run(&["import", path, "--apply"]);
    // A complete declaration of another account does not touch it.
    let exported: Value = serde_json::from_slice(&home.try_run(&["export"]).stdout).unwrap();
    let mut without = exported.clone();
    without["Brevet"]
        .as_object_mut()
        .unwrap()
        .remove("Organization");
    write(without.clone());
    let shown = home.run(&["import", path, "--prune"]);
    assert!(shown.contains("nothing to change"), "{shown}");
    without["Brevet"]["Accounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"AccountId": MANAGEMENT}));
    write(without);
    let shown = home.run(&["import", path, "--prune"]);
    assert!(
        shown.contains(&*format!("- organization {ORGANIZATION}")),
        "{shown}"
    );
}

#[tokio::test]
async fn a_simulation_of_a_principal_is_bound_by_its_organization() {
    let denied = document(&[everything(), deny("sts:AssumeRole")]);
    let policies = [
        full_access_except(&[]),
        scp("p-neverassume", denied, &[PROD]),
    ];
    let broker = broker(Some(organization(&policies))).await;
    for (account, decision, by_organization) in [
        (MEMBER, "explicitDeny", json!(false)),
        (MANAGEMENT, "allowed", Value::Null),
        (STRANGER, "allowed", Value::Null),
    ] {
        let admin = arn(account, "user/admin");
        let form = [
            ("PolicySourceArn", admin.as_str()),
            ("ActionNames.member.1", "sts:AssumeRole"),
        ];
        let client = broker.client(&keys(account));
        let answer = client.iam("SimulatePrincipalPolicy", &form).await.unwrap();
        let result = &answer["EvaluationResults"][0];
        assert_eq!(result["EvalDecision"], decision, "{account}");
        let detail = &result["OrganizationsDecisionDetail"]["AllowedByOrganizations"];
        assert_eq!(*detail, by_organization, "{account}");
        // What an organization's policies say is not shown to its accounts.
        assert!(!answer.to_string().contains("p-neverassume"), "{answer}");
    }
}
