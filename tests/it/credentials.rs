//! Access keys and passwords that the broker makes, and the settings of accounts.

use std::time::Duration;

use brevet::base::arn::AccountId;
use brevet::client::ClientError;
use brevet::commands::{Command, Edit};
use brevet::directory::resource::{Resource, ResourceKind};
use brevet::key_ages::KeyAges;
use brevet::login::{self, MustChange, Place, Refused};
use brevet::password::block_list::BlockList;
use brevet::password::hash::Cost;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::harness::*;
use crate::mfa::{SERIAL, session_token};

const ACCOUNT: &str = "111122223333";
const ADMIN: &str = "admin";
const DAY: u64 = 86_400;

type Parameters<'a> = &'a [(&'a str, &'a str)];

/// Calls an action. The refusal is its code and message.
async fn iam(
    broker: &Broker,
    keys: &Keys,
    action: &str,
    parameters: Parameters<'_>,
) -> Result<Value, (String, String)> {
    let answer = broker.client(keys).iam(action, parameters).await;
    answer.map_err(|error| match error {
        ClientError::Refused { ref message, .. } => (code(&error), message.clone()),
        other => panic!("{other}"),
    })
}

async fn refused(
    broker: &Broker,
    keys: &Keys,
    action: &str,
    parameters: Parameters<'_>,
) -> (String, String) {
    match iam(broker, keys, action, parameters).await {
        Ok(answer) => panic!("{action} {parameters:?}: {answer}"),
        Err(refused) => refused,
    }
}

async fn done(broker: &Broker, keys: &Keys, action: &str, parameters: Parameters<'_>) -> Value {
    match iam(broker, keys, action, parameters).await {
        Ok(answer) => answer,
        Err(refused) => panic!("{action} {parameters:?}: {refused:?}"),
    }
}

fn is(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

fn made(answer: &Value) -> Keys {
    let text = |field: &str| {
        let field = answer.pointer(&format!("/AccessKey/{field}"));
        field.unwrap().as_str().unwrap().to_owned()
    };
    Keys {
        id: text("AccessKeyId"),
        secret: text("SecretAccessKey"),
        token: None,
    }
}

/// Gives a user of the account an inline policy.
async fn allow(broker: &Broker, user: &str, statements: Value) {
    let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let hand = broker.hand().await;
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/{user}");
    let edit = Edit::PutPolicy("test".into(), policy);
    let number = hand.edit(ResourceKind::User, &arn, edit).await.unwrap();
    broker.reaches(number).await;
}

#[tokio::test]
async fn an_access_key_is_made_used_switched_off_and_deleted() {
    let broker = Broker::start_stored().await;
    let (admin, bob) = (user(ADMIN), user("bob"));
    let of_bob = [("UserName", "bob")];
    let answer = done(&broker, &admin, "CreateAccessKey", &of_bob).await;
    let key = made(&answer);
    assert_eq!(answer["AccessKey"]["Status"], "Active");
    assert_eq!(answer["AccessKey"]["UserName"], "bob");
    assert!(key.id.starts_with("AKIA") && key.id.len() == 20);
    assert_eq!(key.secret.len(), 40);
    assert_eq!(
        refused(&broker, &admin, "CreateAccessKey", &of_bob).await,
        is(
            "LimitExceeded",
            "Cannot exceed quota for AccessKeysPerUser: 2"
        )
    );
    // Before its first use.
    let id = [("AccessKeyId", key.id.as_str())];
    let last = done(&broker, &admin, "GetAccessKeyLastUsed", &id).await;
    assert_eq!(
        last,
        json!({"UserName": "bob", "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}})
    );
    assert_eq!(broker.who(&key).await, "ok");
    let last = done(&broker, &admin, "GetAccessKeyLastUsed", &id).await;
    assert_eq!(last["AccessKeyLastUsed"]["ServiceName"], "sts");
    // A refused call counts as well.
    broker.clock.advance(Duration::from_secs(300));
    let (code, _) = refused(&broker, &key, "ListAccessKeys", &of_bob).await;
    assert_eq!(code, "AccessDenied");
    let last = done(&broker, &admin, "GetAccessKeyLastUsed", &id).await;
    assert_eq!(last["AccessKeyLastUsed"]["ServiceName"], "iam");
    assert_eq!(
        last["AccessKeyLastUsed"]["LastUsedDate"],
        json!(now().seconds() + 300)
    );
    // Lists have both keys, page by page, without secrets.
    let first = [("UserName", "bob"), ("MaxItems", "1")];
    let page = done(&broker, &admin, "ListAccessKeys", &first).await;
    assert_eq!(page["IsTruncated"], true);
    let marker = page["Marker"].as_str().unwrap();
    let second = [("UserName", "bob"), ("Marker", marker)];
    let rest = done(&broker, &admin, "ListAccessKeys", &second).await;
    assert_eq!(rest["IsTruncated"], false);
    let both = [&page, &rest].map(|page| {
        assert_eq!(page["AccessKeyMetadata"].as_array().unwrap().len(), 1);
        let key = &page["AccessKeyMetadata"][0];
        assert!(key["CreateDate"].is_number(), "{key}");
        assert!(key.get("SecretAccessKey").is_none(), "{key}");
        key["AccessKeyId"].as_str().unwrap().to_owned()
    });
    let mut expected = [bob.id.clone(), key.id.clone()];
    expected.sort();
    assert_eq!(both, expected);
    // Off, on, and gone.
    for (status, works) in [
        ("Inactive", "InvalidClientTokenId"),
        ("Inactive", "InvalidClientTokenId"),
        ("Active", "ok"),
        ("Active", "ok"),
    ] {
        let update = [
            ("UserName", "bob"),
            ("AccessKeyId", key.id.as_str()),
            ("Status", status),
        ];
        done(&broker, &admin, "UpdateAccessKey", &update).await;
        assert_eq!(broker.who(&key).await, works, "{status}");
    }
    let of_key = [("UserName", "bob"), ("AccessKeyId", key.id.as_str())];
    done(&broker, &admin, "DeleteAccessKey", &of_key).await;
    assert_eq!(broker.who(&key).await, "InvalidClientTokenId");
    let gone = format!("The Access Key with id {} cannot be found.", key.id);
    assert_eq!(
        refused(&broker, &admin, "DeleteAccessKey", &of_key).await,
        is("NoSuchEntity", &gone)
    );
    assert_eq!(
        refused(&broker, &admin, "GetAccessKeyLastUsed", &id).await,
        is("NoSuchEntity", &gone)
    );
    // The secret was in one answer and is nowhere else.
    let folder = broker.dir.clone();
    broker.into_audit().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let secret = key.secret.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }
}

#[tokio::test]
async fn az_04_keys_of_others_are_out_of_reach_and_tell_nothing() {
    let broker = Broker::start_stored().await;
    let (admin, bob, carol) = (user(ADMIN), user("bob"), user("carol"));
    let own = json!({"Effect": "Allow", "Action": "iam:*", "Resource": format!("arn:aws:iam::{ACCOUNT}:user/bob")});
    allow(&broker, "bob", json!([own])).await;
    let last = async |id: &str| {
        let (code, message) = refused(
            &broker,
            &bob,
            "GetAccessKeyLastUsed",
            &[("AccessKeyId", id)],
        )
        .await;
        let message = message.split(". Encoded").next().unwrap().replace(id, "ID");
        (code, message)
    };
    // A key of somebody else, one of another account, and one that does not exist.
    let of_alice = last(&user("alice").id).await;
    assert_eq!(of_alice.0, "AccessDenied");
    assert_eq!(last(&carol.id).await, of_alice);
    assert_eq!(last("AKIATESTNOBODY000001").await, of_alice);
    let own = [("AccessKeyId", bob.id.as_str())];
    done(&broker, &bob, "GetAccessKeyLastUsed", &own).await;
    // Not even an administrator reads those of another account.
    let foreign = [("AccessKeyId", carol.id.as_str())];
    let (code, _) = refused(&broker, &admin, "GetAccessKeyLastUsed", &foreign).await;
    assert_eq!(code, "NoSuchEntity");
    let alices = user("alice").id;
    for (action, parameters) in [
        ("CreateAccessKey", vec![("UserName", "alice")]),
        ("ListAccessKeys", vec![("UserName", "alice")]),
        ("CreateAccessKey", vec![("UserName", "nobody")]),
        (
            "DeleteAccessKey",
            vec![("UserName", "alice"), ("AccessKeyId", alices.as_str())],
        ),
        (
            "UpdateAccessKey",
            vec![
                ("UserName", "alice"),
                ("AccessKeyId", alices.as_str()),
                ("Status", "Inactive"),
            ],
        ),
        (
            "CreateLoginProfile",
            vec![("UserName", "alice"), ("Password", "Passw0rd!x")],
        ),
        ("GetLoginProfile", vec![("UserName", "nobody")]),
    ] {
        let (code, _) = refused(&broker, &bob, action, &parameters).await;
        assert_eq!(code, "AccessDenied", "{action}");
    }
    // A key of somebody else is none of one's own.
    let (code, _) = refused(
        &broker,
        &bob,
        "DeleteAccessKey",
        &[("AccessKeyId", alices.as_str())],
    )
    .await;
    assert_eq!(code, "NoSuchEntity");
    // A session has to say whom it means.
    let role = broker.assume(&admin, OPEN).await.unwrap();
    let hand = broker.hand().await;
    let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}"#;
    let edit = Edit::PutPolicy("iam".into(), all.into());
    broker
        .reaches(hand.edit(ResourceKind::Role, OPEN, edit).await.unwrap())
        .await;
    for action in ["CreateAccessKey", "ListAccessKeys", "GetLoginProfile"] {
        assert_eq!(
            refused(&broker, &role, action, &[]).await,
            is(
                "ValidationError",
                "Must specify userName when calling with non-User credentials"
            ),
            "{action}"
        );
    }
    let change = [("OldPassword", "a"), ("NewPassword", "b")];
    assert_eq!(
        refused(&broker, &role, "ChangePassword", &change).await.0,
        "InvalidUserType"
    );
    let expired = [
        ("UserName", "bob"),
        ("AccessKeyId", bob.id.as_str()),
        ("Status", "Expired"),
    ];
    assert_eq!(
        refused(&broker, &admin, "UpdateAccessKey", &expired)
            .await
            .0,
        "ValidationError"
    );
}

#[tokio::test]
async fn mf_06_a_found_key_makes_no_other_keys_and_no_password() {
    let broker = Broker::start_stored().await;
    broker.clock.advance(Duration::from_secs(120));
    let (admin, alice) = (user(ADMIN), user("alice"));
    let all = json!([{"Effect": "Allow", "Action": ["iam:*", "sts:*"], "Resource": "*"}]);
    allow(&broker, "alice", all).await;
    let of_alice = [("UserName", "alice"), ("Password", "Correct-horse-1")];
    done(&broker, &admin, "CreateLoginProfile", &of_alice).await;
    let attempts: &[(&str, Parameters<'_>)] = &[
        ("CreateAccessKey", &[]),
        ("CreateAccessKey", &[("UserName", "ALICE")]),
        (
            "UpdateAccessKey",
            &[("AccessKeyId", &alice.id), ("Status", "Inactive")],
        ),
        ("DeleteAccessKey", &[("AccessKeyId", &alice.id)]),
        (
            "UpdateLoginProfile",
            &[("UserName", "alice"), ("Password", "Another-horse-2")],
        ),
        ("DeleteLoginProfile", &[("UserName", "alice")]),
        (
            "ChangePassword",
            &[
                ("OldPassword", "Correct-horse-1"),
                ("NewPassword", "Another-horse-2"),
            ],
        ),
    ];
    for (action, parameters) in attempts {
        let (code, _) = refused(&broker, &alice, action, parameters).await;
        assert_eq!(code, "AccessDenied", "{action}");
    }
    // Nor by way of a role.
    let role = broker.assume(&alice, OPEN).await.unwrap();
    let hand = broker.hand().await;
    let everything =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let edit = Edit::PutPolicy("all".into(), everything.into());
    broker
        .reaches(hand.edit(ResourceKind::Role, OPEN, edit).await.unwrap())
        .await;
    let (code, _) = refused(&broker, &role, "CreateAccessKey", &[("UserName", "alice")]).await;
    assert_eq!(code, "AccessDenied");
    done(&broker, &role, "CreateAccessKey", &[("UserName", "bob")]).await;
    // A fresh code opens the way.
    let fresh = crate::mfa::code(&broker, 0);
    let session = session_token(&broker, &alice, Some((SERIAL, &fresh)));
    let session = session.await.unwrap();
    done(&broker, &session, "CreateAccessKey", &[]).await;
    let change = [
        ("OldPassword", "Correct-horse-1"),
        ("NewPassword", "Another-horse-2"),
    ];
    done(&broker, &session, "ChangePassword", &change).await;
}

#[tokio::test]
async fn a_password_is_set_changed_and_taken_away() {
    let broker = Broker::start_stored().await;
    let (admin, bob) = (user(ADMIN), user("bob"));
    let of_bob = [("UserName", "bob")];
    let missing = is(
        "NoSuchEntity",
        "Login Profile for User bob cannot be found.",
    );
    for action in ["GetLoginProfile", "DeleteLoginProfile"] {
        assert_eq!(refused(&broker, &admin, action, &of_bob).await, missing);
    }
    let password = |password| [("UserName", "bob"), ("Password", password)];
    let (code, message) =
        refused(&broker, &admin, "CreateLoginProfile", &password("alllower")).await;
    assert_eq!(code, "PasswordPolicyViolation");
    assert!(
        message.starts_with("Password should meet 2 more of the following requirements: "),
        "{message}"
    );
    let account = password("111122223333-Aa");
    assert_eq!(
        refused(&broker, &admin, "CreateLoginProfile", &account).await,
        is(
            "PasswordPolicyViolation",
            "Password should not contain the account ID"
        )
    );
    let first = password("Correct-horse-1");
    let answer = done(&broker, &admin, "CreateLoginProfile", &first).await;
    assert_eq!(answer["LoginProfile"]["UserName"], "bob");
    assert_eq!(answer["LoginProfile"]["PasswordResetRequired"], false);
    assert!(!answer.to_string().contains("horse"), "{answer}");
    assert_eq!(
        refused(&broker, &admin, "CreateLoginProfile", &first).await,
        is(
            "EntityAlreadyExists",
            "Login Profile for User bob already exists."
        )
    );
    let got = done(&broker, &admin, "GetLoginProfile", &of_bob).await;
    assert_eq!(got, answer);
    // The user may not change it yet; then it may, and nothing else.
    let change = [
        ("OldPassword", "Correct-horse-1"),
        ("NewPassword", "Another-horse-2"),
    ];
    assert_eq!(
        refused(&broker, &bob, "ChangePassword", &change).await.0,
        "AccessDenied"
    );
    let policy = [
        ("AllowUsersToChangePassword", "true"),
        ("PasswordReusePrevention", "2"),
        ("RequireNumbers", "true"),
    ];
    done(&broker, &admin, "UpdateAccountPasswordPolicy", &policy).await;
    done(&broker, &bob, "GetAccountPasswordPolicy", &[]).await;
    let (code, _) = refused(&broker, &bob, "GetLoginProfile", &of_bob).await;
    assert_eq!(code, "AccessDenied");
    let wrong = [
        ("OldPassword", "Correct-horse-9"),
        ("NewPassword", "Another-horse-2"),
    ];
    assert_eq!(
        refused(&broker, &bob, "ChangePassword", &wrong).await,
        is("AccessDenied", "The old password is not correct.")
    );
    let unused = done(&broker, &admin, "GetUser", &of_bob).await;
    assert_eq!(unused["User"].get("PasswordLastUsed"), None);
    let weak = [
        ("OldPassword", "Correct-horse-1"),
        ("NewPassword", "horse-horse"),
    ];
    assert_eq!(
        refused(&broker, &bob, "ChangePassword", &weak).await,
        is(
            "PasswordPolicyViolation",
            "Password should have at least one number"
        )
    );
    done(&broker, &bob, "ChangePassword", &change).await;
    let used = done(&broker, &admin, "GetUser", &of_bob).await;
    assert_eq!(used["User"]["PasswordLastUsed"], json!(now().seconds()));
    // Neither the current password nor the one before is accepted again.
    for again in ["Correct-horse-1", "Another-horse-2"] {
        let back = [("OldPassword", "Another-horse-2"), ("NewPassword", again)];
        let (code, message) = refused(&broker, &bob, "ChangePassword", &back).await;
        assert_eq!(code, "PasswordPolicyViolation", "{again}");
        assert!(
            message.starts_with("Policy constraint violation with password reuse prevention"),
            "{message}"
        );
        let (code, _) = refused(&broker, &admin, "UpdateLoginProfile", &password(again)).await;
        assert_eq!(code, "PasswordPolicyViolation", "{again}");
    }
    let third = password("Third-horse-3");
    done(&broker, &admin, "UpdateLoginProfile", &third).await;
    done(&broker, &admin, "UpdateLoginProfile", &first).await;
    let reset = [("UserName", "bob"), ("PasswordResetRequired", "true")];
    done(&broker, &admin, "UpdateLoginProfile", &reset).await;
    let got = done(&broker, &admin, "GetLoginProfile", &of_bob).await;
    assert_eq!(got["LoginProfile"]["PasswordResetRequired"], true);
    let change = [
        ("OldPassword", "Correct-horse-1"),
        ("NewPassword", "Fourth-horse-4"),
    ];
    done(&broker, &bob, "ChangePassword", &change).await;
    let got = done(&broker, &admin, "GetLoginProfile", &of_bob).await;
    assert_eq!(got["LoginProfile"]["PasswordResetRequired"], false);
    // An explicit deny wins.
    let deny = json!([{"Effect": "Deny", "Action": "iam:ChangePassword", "Resource": "*"}]);
    allow(&broker, "bob", deny).await;
    let change = [
        ("OldPassword", "Fourth-horse-4"),
        ("NewPassword", "Fifth-horse-5"),
    ];
    assert_eq!(
        refused(&broker, &bob, "ChangePassword", &change).await.0,
        "AccessDenied"
    );
    let long = [("UserName", "bob"), ("MaxSigninSessionDuration", "3600")];
    assert_eq!(
        refused(&broker, &admin, "UpdateLoginProfile", &long)
            .await
            .0,
        "InvalidInput"
    );
    done(&broker, &admin, "DeleteLoginProfile", &of_bob).await;
    assert_eq!(
        refused(&broker, &admin, "DeleteLoginProfile", &of_bob).await,
        missing
    );
    // No password and no hash is in the audit log.
    for line in broker.into_audit().await {
        let line = line.to_string();
        assert!(
            !line.contains("horse") && !line.contains("argon2"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_settings_of_an_account_are_set_read_and_removed() {
    let broker = Broker::start_stored().await;
    let (admin, other, bob) = (user(ADMIN), user("other-admin"), user("bob"));
    let policy = "The Password Policy with domain name 111122223333 cannot be found.";
    assert_eq!(
        refused(&broker, &admin, "GetAccountPasswordPolicy", &[]).await,
        is("NoSuchEntity", policy)
    );
    assert_eq!(
        refused(&broker, &admin, "DeleteAccountPasswordPolicy", &[])
            .await
            .0,
        "NoSuchEntity"
    );
    let all = [
        ("MinimumPasswordLength", "14"),
        ("RequireSymbols", "true"),
        ("MaxPasswordAge", "90"),
        ("HardExpiry", "true"),
        ("PasswordReusePrevention", "24"),
    ];
    done(&broker, &admin, "UpdateAccountPasswordPolicy", &all).await;
    assert_eq!(
        done(&broker, &admin, "GetAccountPasswordPolicy", &[]).await,
        json!({"PasswordPolicy": {
            "MinimumPasswordLength": 14, "RequireSymbols": true, "RequireNumbers": false,
            "RequireUppercaseCharacters": false, "RequireLowercaseCharacters": false,
            "AllowUsersToChangePassword": false, "ExpirePasswords": true, "MaxPasswordAge": 90,
            "PasswordReusePrevention": 24, "HardExpiry": true,
        }})
    );
    // Every update is the whole policy.
    done(&broker, &admin, "UpdateAccountPasswordPolicy", &[]).await;
    assert_eq!(
        done(&broker, &admin, "GetAccountPasswordPolicy", &[]).await,
        json!({"PasswordPolicy": {
            "MinimumPasswordLength": 6, "RequireSymbols": false, "RequireNumbers": false,
            "RequireUppercaseCharacters": false, "RequireLowercaseCharacters": false,
            "AllowUsersToChangePassword": false, "ExpirePasswords": false, "HardExpiry": false,
        }})
    );
    for bad in [
        ("MinimumPasswordLength", "5"),
        ("MinimumPasswordLength", "129"),
        ("MaxPasswordAge", "0"),
        ("MaxPasswordAge", "1096"),
        ("PasswordReusePrevention", "0"),
        ("PasswordReusePrevention", "25"),
    ] {
        let (code, _) = refused(&broker, &admin, "UpdateAccountPasswordPolicy", &[bad]).await;
        assert_eq!(code, "ValidationError", "{bad:?}");
    }
    done(&broker, &admin, "DeleteAccountPasswordPolicy", &[]).await;
    let aliases = async |keys: &Keys| {
        let answer = done(&broker, keys, "ListAccountAliases", &[]).await;
        answer["AccountAliases"].clone()
    };
    assert_eq!(aliases(&admin).await, json!([]));
    let acme = [("AccountAlias", "acme-prod")];
    done(&broker, &admin, "CreateAccountAlias", &acme).await;
    done(&broker, &admin, "CreateAccountAlias", &acme).await;
    assert_eq!(aliases(&admin).await, json!(["acme-prod"]));
    assert_eq!(
        refused(&broker, &other, "CreateAccountAlias", &acme).await,
        is(
            "EntityAlreadyExists",
            "The account alias acme-prod already exists."
        )
    );
    let next = [("AccountAlias", "acme-next")];
    done(&broker, &admin, "CreateAccountAlias", &next).await;
    assert_eq!(aliases(&admin).await, json!(["acme-next"]));
    assert_eq!(
        refused(&broker, &admin, "DeleteAccountAlias", &acme)
            .await
            .0,
        "NoSuchEntity"
    );
    done(&broker, &other, "CreateAccountAlias", &acme).await;
    done(&broker, &admin, "DeleteAccountAlias", &next).await;
    assert_eq!(aliases(&admin).await, json!([]));
    assert_eq!(aliases(&other).await, json!(["acme-prod"]));
    for bad in ["a--b", "-abc", "abc-", "Abc", "111122223333", "ab"] {
        let (code, _) = refused(
            &broker,
            &admin,
            "CreateAccountAlias",
            &[("AccountAlias", bad)],
        )
        .await;
        assert_eq!(code, "ValidationError", "{bad}");
    }
    for action in [
        "ListAccountAliases",
        "GetAccountPasswordPolicy",
        "UpdateAccountPasswordPolicy",
        "DeleteAccountPasswordPolicy",
    ] {
        assert_eq!(refused(&broker, &bob, action, &[]).await.0, "AccessDenied");
    }
}

#[tokio::test]
async fn a_directory_file_is_read_and_not_changed() {
    let broker = Broker::start().await;
    let admin = user(ADMIN);
    let bob = user("bob");
    let listed = done(&broker, &admin, "ListAccessKeys", &[("UserName", "bob")]).await;
    assert_eq!(listed["AccessKeyMetadata"][0]["AccessKeyId"], json!(bob.id));
    assert_eq!(listed["IsTruncated"], false);
    done(
        &broker,
        &admin,
        "GetAccessKeyLastUsed",
        &[("AccessKeyId", &bob.id)],
    )
    .await;
    let changes: &[(&str, Parameters<'_>)] = &[
        ("CreateAccessKey", &[("UserName", "bob")]),
        (
            "UpdateAccessKey",
            &[
                ("UserName", "bob"),
                ("AccessKeyId", &bob.id),
                ("Status", "Inactive"),
            ],
        ),
        (
            "DeleteAccessKey",
            &[("UserName", "bob"), ("AccessKeyId", &bob.id)],
        ),
        (
            "CreateLoginProfile",
            &[("UserName", "bob"), ("Password", "Correct-horse-1")],
        ),
        ("UpdateAccountPasswordPolicy", &[]),
        ("CreateAccountAlias", &[("AccountAlias", "acme")]),
    ];
    for (action, parameters) in changes {
        let (code, message) = refused(&broker, &admin, action, parameters).await;
        assert_eq!(code, "UnmodifiableEntity", "{action}: {message}");
    }
}

#[tokio::test]
async fn a_password_is_checked_by_all_rules() {
    let broker = Broker::start_stored().await;
    let (admin, bob) = (user(ADMIN), user("bob"));
    let account = AccountId::parse(ACCOUNT).unwrap();
    let verify = async |name: &str, password: &str| {
        let running = broker.running.as_ref().unwrap();
        let password = Zeroizing::new(password.to_owned());
        let verified =
            login::verify(&running.broker, account, name, &password, Place::Signed).await;
        verified.map(|verified| (verified.user.name.to_string(), verified.must_change))
    };
    let bobs = Ok(("bob".to_owned(), None));
    let right = "Correct-horse-1";
    for name in ["bob", "nobody"] {
        assert_eq!(verify(name, right).await, Err(Refused::Wrong), "{name}");
    }
    let create = [
        ("UserName", "bob"),
        ("Password", right),
        ("PasswordResetRequired", "true"),
    ];
    done(&broker, &admin, "CreateLoginProfile", &create).await;
    assert_eq!(verify("bob", "Correct-horse-2").await, Err(Refused::Wrong));
    let must_reset = Ok(("bob".to_owned(), Some(MustChange::ResetRequired)));
    assert_eq!(verify("BOB", right).await, must_reset);
    let reset = [("UserName", "bob"), ("PasswordResetRequired", "false")];
    done(&broker, &admin, "UpdateLoginProfile", &reset).await;
    assert_eq!(verify("bob", right).await, bobs);
    // It expires, for the user to change or for an administrator.
    broker.clock.advance(Duration::from_secs(30 * DAY));
    let soft = [("MaxPasswordAge", "30")];
    done(&broker, &admin, "UpdateAccountPasswordPolicy", &soft).await;
    let expired = Ok(("bob".to_owned(), Some(MustChange::Expired)));
    assert_eq!(verify("bob", right).await, expired);
    let hard = [
        ("MaxPasswordAge", "30"),
        ("HardExpiry", "true"),
        ("AllowUsersToChangePassword", "true"),
    ];
    done(&broker, &admin, "UpdateAccountPasswordPolicy", &hard).await;
    assert_eq!(verify("bob", right).await, Err(Refused::Expired));
    assert_eq!(verify("bob", "wrong").await, Err(Refused::Wrong));
    let change = [("OldPassword", right), ("NewPassword", "Another-horse-2")];
    let (code, message) = refused(&broker, &bob, "ChangePassword", &change).await;
    assert!(
        code == "AccessDenied" && message.contains("expired"),
        "{message}"
    );
    let renewed = [("UserName", "bob"), ("Password", "Another-horse-2")];
    done(&broker, &admin, "UpdateLoginProfile", &renewed).await;
    assert_eq!(verify("bob", "Another-horse-2").await, bobs);
    // Guesses come to an end, also when the password is right at last, and are forgiven later.
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(verify("bob", "guess").await);
    }
    assert_eq!(answers.last(), Some(&Err(Refused::Locked)), "{answers:?}");
    assert_eq!(verify("bob", "Another-horse-2").await, Err(Refused::Locked));
    // The same is said of a name that nobody has.
    let mut others = Vec::new();
    for _ in 0..12 {
        others.push(verify("nobody", "guess").await);
    }
    assert_eq!(
        (others.first(), others.last()),
        (answers.first(), answers.last())
    );
    broker.clock.advance(Duration::from_secs(301));
    assert_eq!(verify("bob", "Another-horse-2").await, bobs);
}

#[tokio::test]
async fn an_imported_hash_is_made_anew_at_the_first_right_password() {
    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlIHNsdA$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM";
    let broker = Broker::start_stored().await;
    let running = &broker.running.as_ref().unwrap().broker;
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/bob");
    let profile = json!({"UserArn": arn, "PasswordHash": HASH});
    let create =
        Command::Create(Resource::parse(ResourceKind::LoginProfile, &profile.to_string()).unwrap());
    let imported = broker.hand().await.run(create).await.unwrap();
    broker.reaches(imported).await;
    let verify = async |password: &str| {
        let account = AccountId::parse(ACCOUNT).unwrap();
        let password = Zeroizing::new(password.to_owned());
        let verified = login::verify(running, account, "bob", &password, Place::Signed).await;
        verified.map(|verified| verified.mark)
    };
    let stored = || {
        let directory = running.directory.load();
        let profile = directory.login_profile(&arn).unwrap();
        (profile.cost, profile.mark, running.feed.sequence())
    };
    let (cost, mark, before) = stored();
    assert_eq!(cost.memory_kib, 19_456);
    assert_eq!(running.directory.load().password_costs(), [cost]);
    assert_eq!(verify("correct hors").await, Err(Refused::Wrong));
    assert_eq!(
        stored(),
        (cost, mark, before),
        "nobody has shown the password"
    );
    // Two at once both succeed, although one of them changes the hash.
    let (one, other) = tokio::join!(verify("correct horse"), verify("correct horse"));
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(one, other);
    eventually("the hash is made anew", async || {
        stored().0 == Cost::DEFAULT
    })
    .await;
    let head = running.store.head().await.unwrap().sequence;
    broker.reaches(head).await;
    // What began with the password goes on, and its hash is not made anew again.
    let (_, same, after) = stored();
    assert_eq!(same, mark);
    assert_eq!(running.directory.load().password_costs(), [Cost::DEFAULT]);
    assert_eq!(verify("correct horse").await, one);
    assert_eq!(verify("correct hors").await, Err(Refused::Wrong));
    assert_eq!(stored(), (Cost::DEFAULT, mark, after));
    let changes = running.store.feed_after(before, 100).await.unwrap();
    assert!(!changes.is_empty());
    for change in changes {
        assert_eq!(
            (&*change.action, &*change.kind),
            ("UpdateLoginProfile", "login-profile")
        );
        assert!(change.actor.contains("Broker"), "{}", change.actor);
        assert!(!change.detail.contains("Revoked"), "{}", change.detail);
    }
}

#[tokio::test]
async fn a_password_that_many_people_use_is_refused() {
    let list = BlockList::read("Password-123\nCorrect-horse-1\n").unwrap();
    let broker = Broker::start_in(stored_home().await, |config| {
        in_the_store(config);
        config.blocked_passwords = Some(list);
    })
    .await;
    let admin = user(ADMIN);
    for (action, password, expected) in [
        (
            "CreateLoginProfile",
            "PASSWORD-123",
            "PasswordPolicyViolation",
        ),
        ("CreateLoginProfile", "Correct-horse-2", "ok"),
        (
            "UpdateLoginProfile",
            "correct-Horse-1",
            "PasswordPolicyViolation",
        ),
        ("UpdateLoginProfile", "Correct-horse-3", "ok"),
    ] {
        let form = [("UserName", "bob"), ("Password", password)];
        let answer = broker.iam(&admin, action, &form).await;
        assert_eq!(
            answer.code(),
            expected,
            "{action} {password}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_key_that_nobody_uses_is_announced_and_switched_off() {
    let ages = KeyAges {
        unused_after: Some(Duration::from_secs(45 * DAY)),
        ..KeyAges::OFF
    };
    let broker = Broker::start_in(stored_home().await, |config| {
        in_the_store(config);
        config.key_ages = ages;
    })
    .await;
    let (alice, bob) = (user("alice"), user("bob"));
    assert_eq!(broker.who(&alice).await, "ok", "the broker runs");
    broker.elapse(44 * DAY);
    eventually("bob uses the key", async || broker.who(&bob).await == "ok").await;
    eventually("the keys of the others are announced", async || {
        let metrics = broker.operator("/metrics").await;
        let line = "brevet_access_keys_ending ";
        let count = metrics
            .body
            .lines()
            .find_map(|l| l.strip_prefix(line))
            .unwrap();
        count.parse::<f64>().unwrap() > 0.0
    })
    .await;
    assert_eq!(
        broker.who(&user("carol")).await,
        "ok",
        "and so it is in use"
    );
    broker.elapse(DAY + 3_600);
    // Not by a call, which would be a use of the key.
    let running = &broker.running.as_ref().unwrap().broker;
    eventually("alice's key is switched off", async || {
        let directory = running.directory.load();
        !directory.access_key(&alice.id).unwrap().active
    })
    .await;
    assert_eq!(broker.who(&alice).await, "InvalidClientTokenId");
    assert_eq!(broker.who(&bob).await, "ok");
    // By the broker itself, and once.
    let records = broker.into_audit().await;
    let by_broker: Vec<&Value> = records
        .iter()
        .filter(|record| record["userIdentity"]["type"] == "Broker")
        .filter(|record| record["requestParameters"]["id"] == json!(alice.id))
        .collect();
    assert_eq!(by_broker.len(), 1, "{by_broker:?}");
    assert_eq!(by_broker[0]["eventName"], "UpdateAccessKey");
    assert_eq!(
        by_broker[0]["userIdentity"]["userName"],
        "access_key_unused_days"
    );
}

#[tokio::test]
async fn a_key_that_is_too_old_is_announced_and_switched_off_although_it_is_used() {
    let broker = Broker::start_in(stored_home().await, |config| {
        in_the_store(config);
        config.key_ages = KeyAges {
            max_age: Some(Duration::from_secs(90 * DAY)),
            ..KeyAges::OFF
        };
    })
    .await;
    let admin = user(ADMIN);
    // The other keys are older.
    broker.elapse(10 * DAY);
    eventually("the broker goes on", async || {
        broker.who(&admin).await == "ok"
    })
    .await;
    let young = made(&done(&broker, &admin, "CreateAccessKey", &[("UserName", "bob")]).await);
    let bob = user("bob");
    broker.elapse(73 * DAY);
    eventually("the keys are announced", async || {
        let metrics = broker.operator("/metrics").await.body;
        let line = "brevet_access_keys_ending ";
        let count = metrics.lines().find_map(|l| l.strip_prefix(line));
        count.unwrap().parse::<f64>().unwrap() > 0.0
    })
    .await;
    assert_eq!(broker.who(&bob).await, "ok", "announced, and still good");
    broker.elapse(7 * DAY + 3_600);
    let running = &broker.running.as_ref().unwrap().broker;
    eventually("bob's key is switched off", async || {
        // It is used all the time.
        broker.who(&bob).await;
        !running.directory.load().access_key(&bob.id).unwrap().active
    })
    .await;
    assert_eq!(broker.who(&bob).await, "InvalidClientTokenId");
    assert_eq!(broker.who(&young).await, "ok", "a younger key");
    let records = broker.into_audit().await;
    let by_broker = records.iter().find(|record| {
        record["userIdentity"]["type"] == "Broker"
            && record["requestParameters"]["id"] == json!(bob.id)
    });
    let by_broker = by_broker.expect("it is in the audit");
    assert_eq!(by_broker["eventName"], "UpdateAccessKey");
    assert_eq!(
        by_broker["userIdentity"]["userName"],
        "access_key_max_age_days"
    );
}
