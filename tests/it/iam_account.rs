//! The summary of an account, and all of it at once.

use brevet::base::clock::Timestamp;
use serde_json::{Value, json};

use crate::harness::*;

/// All pages of GetAccountAuthorizationDetails.
pub async fn details(broker: &Broker, page: &str, filters: &[(&str, &str)]) -> Value {
    let client = broker.client(&user(ADMIN));
    let mut whole =
        json!({"UserDetailList": [], "GroupDetailList": [], "RoleDetailList": [], "Policies": []});
    let mut marker = String::new();
    loop {
        let mut parameters = filters.to_vec();
        parameters.push(("MaxItems", page));
        if !marker.is_empty() {
            parameters.push(("Marker", &marker));
        }
        let action = "GetAccountAuthorizationDetails";
        let answer = client.iam(action, &parameters).await.unwrap();
        let mut count = 0;
        for (name, list) in whole.as_object_mut().unwrap() {
            let items = answer[name].as_array().unwrap();
            count += items.len();
            list.as_array_mut().unwrap().extend(items.iter().cloned());
        }
        assert!(count <= page.parse().unwrap());
        if answer["IsTruncated"] == false {
            with_dates(&mut whole);
            return whole;
        }
        marker = answer["Marker"].as_str().unwrap().to_owned();
    }
}

/// Writes dates as XML has them; in JSON they are seconds.
fn with_dates(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_i64().filter(|_| name.ends_with("Date")) {
                    Some(at) => *value = json!(Timestamp::from_seconds(at).to_string()),
                    None => with_dates(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_dates),
        _ => {}
    }
}

#[tokio::test]
async fn an_account_is_imported_as_it_is_shown() {
    let broker = Broker::start_stored().await;
    let client = broker.client(&user(ADMIN));
    for (action, parameters) in [
        (
            "AttachRolePolicy",
            [
                ("RoleName", "Direct"),
                ("PolicyArn", "arn:aws:iam::aws:policy/SecurityAudit"),
            ],
        ),
        (
            "AttachUserPolicy",
            [
                ("UserName", "bob"),
                ("PolicyArn", "arn:aws:iam::111122223333:policy/Sts"),
            ],
        ),
    ] {
        client.iam(action, &parameters).await.unwrap();
    }
    let hand = broker.hand().await;
    let number = hand
        .import(&json!({
            "GroupDetailList": [{"GroupName": "team", "Arn": "arn:aws:iam::111122223333:group/team"}],
            "RoleDetailList": [{"RoleName": "Machine", "Arn": "arn:aws:iam::111122223333:role/Machine",
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
                    "Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}}]},
                "InstanceProfileList": [{"InstanceProfileName": "Machine", "Arn": "arn:aws:iam::111122223333:instance-profile/Machine",
                    "Roles": [{"RoleName": "Machine"}]}]}]
        }))
        .await
        .unwrap();
    broker.reaches(number).await;
    let shown = details(&broker, "3", &[]).await;
    assert_eq!(shown, details(&broker, "1000", &[]).await);
    let of = |list: &str, name: &str| {
        let entries = shown[list].as_array().unwrap().iter();
        let mut entries = entries.filter(|e| e.as_object().unwrap().values().any(|v| v == name));
        entries.next().unwrap_or_else(|| panic!("{name}")).clone()
    };
    let machine = of("RoleDetailList", "Machine");
    let profile = &machine["InstanceProfileList"][0];
    assert_eq!(profile["Roles"][0]["Arn"], machine["Arn"]);
    let trust = machine["AssumeRolePolicyDocument"].as_str().unwrap();
    assert!(trust.contains("user%2Falice"), "{trust}");
    let audit = of("Policies", "SecurityAudit");
    assert_eq!(audit["AttachmentCount"], 1);
    assert_eq!(audit["PolicyVersionList"][0]["IsDefaultVersion"], true);
    assert_eq!(of("UserDetailList", "bob")["GroupList"], json!([]));

    // Only what is asked for.
    let users = details(&broker, "5", &[("Filter.member.1", "User")]).await;
    assert_eq!(users["UserDetailList"], shown["UserDetailList"]);
    assert_eq!(users["RoleDetailList"], json!([]));
    let of_aws = [("Filter.member.1", "AWSManagedPolicy")];
    let of_aws = details(&broker, "7", &of_aws).await;
    assert!(of_aws["Policies"].as_array().unwrap().len() > 10);

    // Into a file and into another store, which know only the keys of users in addition.
    let directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let dir = home();
    let file = dir.path().join("directory.json");
    let mut whole = shown.clone();
    let mut keys = directory["Brevet"]["AccessKeys"].clone();
    let own = |key: &Value| key["UserArn"].as_str().unwrap().contains("111122223333");
    keys.as_array_mut().unwrap().retain(own);
    whole["Brevet"] = json!({"AccessKeys": keys});
    brevet::files::write_private(&file, whole.to_string().as_bytes()).unwrap();
    let from_file = Broker::start_in(dir, |_| {}).await;
    assert_eq!(
        details(&from_file, "4", &[]).await["Policies"],
        shown["Policies"]
    );
    let other = empty_store(&whole).await;
    assert_eq!(details(&other, "4", &[]).await, shown);
}

/// A broker on a store into which only this was imported.
async fn empty_store(file: &Value) -> Broker {
    let dir = home();
    fill_store_with(
        dir.path(),
        &brevet::store::Place::Sqlite(dir.path().join("store.db")),
        &file.to_string(),
    )
    .await;
    Broker::start_in(dir, in_the_store).await
}

#[tokio::test]
async fn a_summary_counts_what_is_there() {
    let broker = Broker::start_stored().await;
    let client = broker.client(&user(ADMIN));
    let answer = client.iam("GetAccountSummary", &[]).await.unwrap();
    let of = |name: &str| answer["SummaryMap"][name].clone();
    let directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let own = |list: &str| {
        let entries = directory[list].as_array().unwrap();
        let own = entries
            .iter()
            .filter(|e| e["Arn"].as_str().unwrap().contains(":111122223333:"));
        json!(own.count())
    };
    assert_eq!(of("Users"), own("UserDetailList"));
    assert_eq!(of("Roles"), own("RoleDetailList"));
    assert_eq!(of("Policies"), own("Policies"));
    assert_eq!(of("VersionsPerPolicyQuota"), 5);
    assert_eq!(of("AccountMFAEnabled"), 0);
    for action in ["GetAccountSummary", "GetAccountAuthorizationDetails"] {
        let refused = broker.client(&user("bob")).iam(action, &[]).await;
        assert_eq!(code(&refused.unwrap_err()), "AccessDenied");
    }
}

#[tokio::test]
async fn a_credential_report_has_a_line_for_each_user() {
    let broker = Broker::start_stored().await;
    let client = broker.client(&user(ADMIN));
    let get = async || client.iam("GetCredentialReport", &[]).await;
    assert_eq!(code(&get().await.unwrap_err()), "ReportNotPresent");
    let generated = client.iam("GenerateCredentialReport", &[]).await.unwrap();
    assert_eq!(generated["State"], "COMPLETE");
    let report = get().await.unwrap();
    assert_eq!(report["ReportFormat"], "text/csv");
    let content = report["Content"].as_str().unwrap();
    use base64::Engine;
    let content = base64::engine::general_purpose::STANDARD
        .decode(content)
        .unwrap();
    let text = String::from_utf8(content).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.iter().all(|line| line.len() == 22), "{text}");
    assert_eq!(lines[0][..2], ["user", "arn"]);
    assert_eq!(lines[1][0], "<root_account>");
    // There is no root user, so that it never signed in.
    assert_eq!(lines[1][3..5], ["not_supported", "no_information"]);
    let directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let users = directory["UserDetailList"].as_array().unwrap().iter();
    let mut users: Vec<&str> = users
        .filter(|user| user["Arn"].as_str().unwrap().contains(":111122223333:"))
        .map(|user| user["UserName"].as_str().unwrap())
        .collect();
    users.sort_unstable();
    let named: Vec<&str> = lines[2..].iter().map(|line| line[0]).collect();
    assert_eq!(named, users);
    let of = |name: &str| lines.iter().find(|line| line[0] == name).unwrap();
    assert_eq!(of("alice")[7], "true", "{text}");
    assert_eq!(of("bob")[7], "false", "{text}");
    // The administrator's key has just been used.
    let admin = of(ADMIN);
    assert_eq!(admin[8], "true", "{text}");
    assert_eq!(admin[10], "2026-11-24T12:00:00+00:00", "{text}");
    for action in ["GetCredentialReport", "GenerateCredentialReport"] {
        let refused = broker.client(&user("bob")).iam(action, &[]).await;
        assert_eq!(code(&refused.unwrap_err()), "AccessDenied");
    }
    broker
        .clock
        .advance(std::time::Duration::from_secs(4 * 3_600 + 1));
    assert_eq!(code(&get().await.unwrap_err()), "ReportExpired");
}
