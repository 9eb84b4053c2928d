//! MFA: each code of a device is accepted once, and what a session with MFA may do.

use std::sync::Arc;
use std::time::Duration;

use brevet::api::sts::v1 as pb;
use brevet::client::{AssumeRole, ClientError};
use brevet::commands::{Command, Edit};
use brevet::directory::declaration;
use brevet::directory::resource::{Resource, ResourceKind};
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::*;

pub const SERIAL: &str = "arn:aws:iam::111122223333:mfa/alice";
const SEED: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
const GUARD: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},
    "Action":["sts:AssumeRole"],"Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}}}]}"#;

/// An implementation of RFC 6238, to compare the broker's library with.
pub fn code_of(seed: &str, algorithm: hmac::Algorithm, digits: u32, seconds: i64) -> String {
    let mut bits = 0u64;
    let mut have = 0;
    let mut key = Vec::new();
    for c in seed.bytes() {
        bits = bits << 5
            | u64::from(if c.is_ascii_digit() {
                c - b'2' + 26
            } else {
                c - b'A'
            });
        have += 5;
        if have >= 8 {
            have -= 8;
            key.push((bits >> have) as u8);
        }
    }
    let step = u64::try_from(seconds / 30).unwrap().to_be_bytes();
    let mac = hmac::sign(&hmac::Key::new(algorithm, &key), &step);
    let mac = mac.as_ref();
    let at = usize::from(mac[mac.len() - 1] & 15);
    let number = u32::from_be_bytes(mac[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!(
        "{:0width$}",
        number % 10u32.pow(digits),
        width = digits as usize
    )
}

/// The code of alice's device this many steps from now.
pub fn code(broker: &Broker, steps: i64) -> String {
    let now = brevet::base::clock::Clock::now(&*broker.clock).seconds();
    code_of(
        SEED,
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        6,
        now + 30 * steps,
    )
}

/// A broker whose store knew the devices before the tests use them, with a role that requires MFA.
async fn broker() -> Broker {
    let home = stored_home().await;
    let broker = Broker::start_in(home, in_the_store).await;
    let hand = broker.hand().await;
    hand.edit(
        ResourceKind::Role,
        OPEN,
        Edit::UpdateAssumeRolePolicy(GUARD.into()),
    )
    .await
    .unwrap();
    eventually("the role asks for MFA", async || {
        broker.assume(&user("alice"), OPEN).await.is_err()
    })
    .await;
    // Codes of the time before this store are not taken.
    broker.clock.advance(Duration::from_secs(120));
    broker
}

async fn with_code(broker: &Broker, keys: &Keys, serial: &str, code: &str) -> Result<Keys, String> {
    let request = AssumeRole {
        mfa: Some((serial.into(), code.into())),
        ..AssumeRole::new(OPEN, "session")
    };
    match broker.client(keys).assume_role(&request).await {
        Ok(assumed) => Ok(Keys::from(&assumed.credentials)),
        Err(ClientError::Refused { message, .. }) => Err(message),
        Err(other) => panic!("{other}"),
    }
}

pub async fn session_token(
    broker: &Broker,
    keys: &Keys,
    proof: Option<(&str, &str)>,
) -> Result<Keys, String> {
    let mut form = vec![("Action", "GetSessionToken"), VERSION];
    if let Some((serial, code)) = proof {
        form.extend([("SerialNumber", serial), ("TokenCode", code)]);
    }
    let answer = broker.query(Some(keys), &form).await;
    if answer.status != 200 {
        return Err(answer.element("Message").unwrap().to_owned());
    }
    Ok(answer.credentials())
}

#[tokio::test]
async fn mf_02_a_code_is_good_once_also_after_a_restart_and_from_many_hands() {
    let mut broker = broker().await;
    let alice = user("alice");
    let first = code(&broker, 0);
    let results =
        futures_util::future::join_all((0..20).map(|_| with_code(&broker, &alice, SERIAL, &first)))
            .await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    // Whoever comes late with it is told that it is used, and nothing is counted against the user.
    assert!(
        results
            .iter()
            .filter_map(|r| r.as_ref().err())
            .all(|e| e.contains("invalid MFA one time pass code"))
    );
    let home = broker.dir.clone();
    let clock = brevet::base::clock::Clock::now(&*broker.clock);
    broker.stop().await;
    let broker = Broker::start_in(home, in_the_store).await;
    broker.clock.set(clock);
    assert!(with_code(&broker, &alice, SERIAL, &first).await.is_err());
    assert!(
        with_code(&broker, &alice, SERIAL, &code(&broker, 1))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn mf_02_a_code_that_was_used_is_refused_and_is_no_guess_however_late_it_comes_again() {
    let mut broker = broker().await;
    let alice = user("alice");
    let used = code(&broker, 0);
    assert!(with_code(&broker, &alice, SERIAL, &used).await.is_ok());
    let again = async |broker: &Broker| {
        for _ in 0..8 {
            let refused = with_code(broker, &alice, SERIAL, &used).await.unwrap_err();
            assert!(
                refused.contains("invalid MFA one time pass code"),
                "{refused}"
            );
        }
    };
    again(&broker).await;
    // So late that it would not be right any more.
    broker.clock.advance(Duration::from_secs(300));
    again(&broker).await;
    // By a broker that has not seen it itself.
    let (home, clock) = (
        broker.dir.clone(),
        brevet::base::clock::Clock::now(&*broker.clock),
    );
    broker.stop().await;
    let broker = Broker::start_in(home, in_the_store).await;
    broker.clock.set(clock);
    again(&broker).await;
    let next = code(&broker, 0);
    assert!(
        with_code(&broker, &alice, SERIAL, &next).await.is_ok(),
        "nothing was counted"
    );
    // Guesses are: five of them, and a right code is not looked at.
    let wrong = async || {
        with_code(&broker, &alice, SERIAL, "000000")
            .await
            .unwrap_err()
    };
    for _ in 0..5 {
        wrong().await;
    }
    let refused = with_code(&broker, &alice, SERIAL, &code(&broker, 1))
        .await
        .unwrap_err();
    assert!(
        refused.contains("too many invalid one time pass codes"),
        "{refused}"
    );
}

#[tokio::test]
async fn mf_02_without_the_store_no_code_is_good() {
    let broker = broker().await;
    let hand = broker.hand().await;
    // Somebody holds the store's lock longer than a call waits for it.
    let lock = hand.store.write().await.unwrap();
    let refused = with_code(&broker, &user("alice"), SERIAL, &code(&broker, 0))
        .await
        .unwrap_err();
    assert!(
        refused.contains("an operation of the store failed"),
        "{refused}"
    );
    assert!(
        broker.who(&user("alice")).await == "ok",
        "what needs no store goes on"
    );
    lock.abandon().await;
    assert!(
        with_code(&broker, &user("alice"), SERIAL, &code(&broker, 0))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn mf_03_malformed_codes_are_refused_and_counted() {
    let broker = broker().await;
    let alice = user("alice");
    for bad in [" 123456", "123 456", "１２３４５６", "12345", "12345\u{0}"] {
        let refused = with_code(&broker, &alice, SERIAL, bad).await.unwrap_err();
        assert!(
            refused.contains("must be the code of 6 digits that the device shows"),
            "{bad:?}: {refused}"
        );
    }
    let locked = with_code(&broker, &alice, SERIAL, &code(&broker, 0))
        .await
        .unwrap_err();
    assert!(
        locked.contains("too many invalid one time pass codes"),
        "{locked}"
    );
}

#[tokio::test]
async fn mf_04_one_step_beside_and_no_more_and_never_back() {
    for (steps, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
        let broker = broker().await;
        let got = with_code(&broker, &user("alice"), SERIAL, &code(&broker, steps)).await;
        assert_eq!(got.is_ok(), good, "{steps}: {:?}", got.err());
    }
    let broker = broker().await;
    assert!(
        with_code(&broker, &user("alice"), SERIAL, &code(&broker, 1))
            .await
            .is_ok()
    );
    for older in [1, 0, -1] {
        assert!(
            with_code(&broker, &user("alice"), SERIAL, &code(&broker, older))
                .await
                .is_err(),
            "{older}"
        );
    }
    broker.clock.advance(Duration::from_secs(30));
    assert!(
        with_code(&broker, &user("alice"), SERIAL, &code(&broker, 1))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn mf_01_mf_05_one_counter_for_all_that_a_user_tries_and_it_opens_again() {
    let broker = broker().await;
    let (alice, admin) = (user("alice"), user(ADMIN));
    let upper = SERIAL.to_uppercase();
    for serial in [
        SERIAL,
        &upper,
        "arn:aws:iam::111122223333:mfa/other",
        "GAHT12345678",
        SERIAL,
    ] {
        assert!(
            session_token(&broker, &alice, Some((serial, "000000")))
                .await
                .is_err()
        );
    }
    let right = code(&broker, 0);
    assert!(
        session_token(&broker, &alice, Some((SERIAL, &right)))
            .await
            .unwrap_err()
            .contains("too many")
    );
    assert!(
        with_code(&broker, &alice, SERIAL, &right)
            .await
            .unwrap_err()
            .contains("too many")
    );
    // Another user's device is no use, whoever has it.
    let foreign = session_token(&broker, &admin, Some((SERIAL, &right)))
        .await
        .unwrap_err();
    assert!(foreign.contains("associated with this user"), "{foreign}");
    // Half of a proof is none, and a role has no device.
    let half = [
        ("Action", "GetSessionToken"),
        VERSION,
        ("SerialNumber", SERIAL),
    ];
    let half = broker.query(Some(&admin), &half).await;
    assert!(
        half.element("Message")
            .unwrap()
            .contains("must provide both")
    );
    // MF-06: it touches codes alone, and is over after a quarter of an hour.
    assert_eq!(broker.who(&alice).await, "ok");
    assert!(session_token(&broker, &alice, None).await.is_ok());
    broker.clock.advance(Duration::from_secs(900));
    assert!(
        with_code(&broker, &alice, SERIAL, &code(&broker, 0))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn mf_06_a_found_key_does_not_change_the_second_factor() {
    let broker = broker().await;
    let hand = broker.hand().await;
    let alice = user("alice");
    let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:*","sts:*"],"Resource":"*"}]}"#;
    let arn = "arn:aws:iam::111122223333:user/alice";
    let number = hand
        .edit(
            ResourceKind::User,
            arn,
            Edit::PutPolicy("all".into(), all.into()),
        )
        .await
        .unwrap();
    broker.reaches(number).await;
    let client = broker.client(&alice);
    let own = [("UserName", "alice"), ("SerialNumber", SERIAL)];
    let refused = crate::harness::code(&client.iam("DeactivateMFADevice", &own).await.unwrap_err());
    assert_eq!(refused, "AccessDenied");
    let made = client
        .iam(
            "CreateVirtualMFADevice",
            &[("VirtualMFADeviceName", "second")],
        )
        .await
        .unwrap();
    assert!(made.pointer("/VirtualMFADevice/Base32StringSeed").is_some());
    let second = "arn:aws:iam::111122223333:mfa/second";
    let enable = [
        ("UserName", "alice"),
        ("SerialNumber", second),
        ("AuthenticationCode1", "000000"),
        ("AuthenticationCode2", "000000"),
    ];
    assert_eq!(
        crate::harness::code(&client.iam("EnableMFADevice", &enable).await.unwrap_err()),
        "AccessDenied"
    );
    // No answer but the first has the seed.
    let listed = client
        .iam("ListVirtualMFADevices", &[])
        .await
        .unwrap()
        .to_string();
    assert!(
        listed.contains(second) && !listed.contains("Seed") && !listed.contains(SEED),
        "{listed}"
    );
    // A fresh code of the device that there is opens the way; one of twenty minutes ago does not.
    let fresh = session_token(&broker, &alice, Some((SERIAL, &code(&broker, 0))))
        .await
        .unwrap();
    broker.clock.advance(Duration::from_secs(1_200));
    let stale = broker
        .client(&fresh)
        .iam("DeactivateMFADevice", &own)
        .await
        .unwrap_err();
    assert_eq!(crate::harness::code(&stale), "AccessDenied");
    let fresh = session_token(&broker, &alice, Some((SERIAL, &code(&broker, 0))))
        .await
        .unwrap();
    broker
        .client(&fresh)
        .iam("DeactivateMFADevice", &own)
        .await
        .unwrap();
    assert!(
        session_token(&broker, &alice, Some((SERIAL, &code(&broker, 1))))
            .await
            .is_err(),
        "nobody's device"
    );
}

#[tokio::test]
async fn mf_06_a_found_key_does_not_change_the_second_factor_by_way_of_roles_either() {
    let broker = broker().await;
    let hand = broker.hand().await;
    let (alice, admin) = (user("alice"), user(ADMIN));
    let arn = |name: &str| format!("arn:aws:iam::111122223333:role/{name}");
    let everything = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let role = |name: &str, trusted: Value| {
        json!({
            "Path": "/", "RoleName": name, "Arn": arn(name),
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Principal": {"AWS": trusted}, "Action": "sts:AssumeRole"}
            ]},
            "RolePolicyList": [{"PolicyName": "everything", "PolicyDocument": everything.clone()}]
        })
    };
    let users = json!([
        "arn:aws:iam::111122223333:user/alice",
        "arn:aws:iam::111122223333:user/admin"
    ]);
    let roles = json!({"RoleDetailList": [role("Deputy", users)]});
    hand.import(&roles).await.unwrap();
    let roles = json!({"RoleDetailList": [role("Second", arn("Deputy").into())]});
    let number = hand.import(&roles).await.unwrap();
    broker.reaches(number).await;
    let own = [("UserName", "alice"), ("SerialNumber", SERIAL)];
    let refused = async |keys: &Keys| {
        crate::harness::code(
            &broker
                .client(keys)
                .iam("DeactivateMFADevice", &own)
                .await
                .unwrap_err(),
        )
    };
    // By one role, by one after another, and by a session that gave a code for itself: the role's has none.
    let deputy = broker.assume(&alice, &arn("Deputy")).await.unwrap();
    assert_eq!(refused(&deputy).await, "AccessDenied");
    let second = broker.assume(&deputy, &arn("Second")).await.unwrap();
    assert_eq!(refused(&second).await, "AccessDenied");
    let with_code = session_token(&broker, &alice, Some((SERIAL, &code(&broker, 0))))
        .await
        .unwrap();
    let behind = broker.assume(&with_code, &arn("Deputy")).await.unwrap();
    assert_eq!(refused(&behind).await, "AccessDenied");
    // The finder's own device is not enabled beside it either.
    let device = [("VirtualMFADeviceName", "finders")];
    broker
        .client(&second)
        .iam("CreateVirtualMFADevice", &device)
        .await
        .unwrap();
    let enable = [
        ("UserName", "alice"),
        ("SerialNumber", "arn:aws:iam::111122223333:mfa/finders"),
        ("AuthenticationCode1", "000000"),
        ("AuthenticationCode2", "000000"),
    ];
    let error = broker
        .client(&second)
        .iam("EnableMFADevice", &enable)
        .await
        .unwrap_err();
    assert_eq!(crate::harness::code(&error), "AccessDenied");
    // Somebody else may, by the same role.
    let other = broker.assume(&admin, &arn("Deputy")).await.unwrap();
    broker
        .client(&other)
        .iam("DeactivateMFADevice", &own)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_standard_guards_work_on_every_kind_of_credential() {
    let broker = broker().await;
    let hand = broker.hand().await;
    let alice = user("alice");
    let guard = |condition: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"111122223333"}},"Action":"sts:AssumeRole","Condition":{condition}}}]}}"#
        )
    };
    let long_term = alice.clone();
    let without = session_token(&broker, &alice, None).await.unwrap();
    let with = session_token(&broker, &alice, Some((SERIAL, &code(&broker, 0))))
        .await
        .unwrap();
    broker.clock.advance(Duration::from_secs(100));
    let through = broker.assume(&with, OPEN).await.unwrap();
    for (condition, expected) in [
        // Long-term key, own session without MFA, with MFA, and a role session behind that.
        (
            r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
            [false, false, true, false],
        ),
        (
            r#"{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}"#,
            [true, false, true, false],
        ),
        (
            r#"{"Bool":{"aws:MultiFactorAuthPresent":"false"}}"#,
            [false, true, false, true],
        ),
        (
            r#"{"Null":{"aws:MultiFactorAuthPresent":"true"}}"#,
            [true, false, false, false],
        ),
        (
            r#"{"NumericLessThan":{"aws:MultiFactorAuthAge":"200"}}"#,
            [false, false, true, false],
        ),
        (
            r#"{"NumericLessThan":{"aws:MultiFactorAuthAge":"50"}}"#,
            [false, false, false, false],
        ),
        (
            r#"{"NumericGreaterThanIfExists":{"aws:MultiFactorAuthAge":"50"}}"#,
            [true, true, true, true],
        ),
    ] {
        let number = hand
            .edit(
                ResourceKind::Role,
                OPEN,
                Edit::UpdateAssumeRolePolicy(guard(condition)),
            )
            .await
            .unwrap();
        broker.reaches(number).await;
        let mut got = Vec::new();
        for keys in [&long_term, &without, &with, &through] {
            got.push(broker.assume(keys, OPEN).await.is_ok());
        }
        assert_eq!(got, expected, "{condition}");
    }
}

#[tokio::test]
async fn devices_of_other_kinds_show_other_codes() {
    let broker = broker().await;
    let hand = broker.hand().await;
    let bob = user(ADMIN);
    for (name, algorithm, hash, digits) in [
        ("SHA256", "SHA256", hmac::HMAC_SHA256, 6u32),
        ("SHA512", "SHA512", hmac::HMAC_SHA512, 8u32),
    ] {
        let serial = format!("arn:aws:iam::111122223333:mfa/{name}");
        let device = declaration::MfaDeviceDetail {
            serial_number: serial.clone(),
            user_arn: "arn:aws:iam::111122223333:user/admin".into(),
            base32_string_seed: Some(SEED.to_owned().into()),
            algorithm: Some(algorithm.into()),
            digits: Some(digits.into()),
            ..declaration::MfaDeviceDetail::default()
        };
        let number = hand
            .run(Command::Create(Resource::MfaDevice(device)))
            .await
            .unwrap();
        broker.reaches(number).await;
        let now = brevet::base::clock::Clock::now(&*broker.clock).seconds();
        let code = code_of(SEED, hash, digits, now);
        session_token(&broker, &bob, Some((&serial, &code)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_a_user_session_is_and_who_gets_one() {
    let broker = broker().await;
    let alice = user("alice");
    let own = session_token(&broker, &alice, None).await.unwrap();
    let identity = broker.client(&own).get_caller_identity().await.unwrap();
    assert_eq!(
        (identity.arn.as_str(), identity.user_id.as_str()),
        (
            "arn:aws:iam::111122223333:user/alice",
            "AIDAALICEALICEALICE1"
        )
    );
    // AZ-05: long-term credentials alone get one, and it gets none.
    let again = session_token(&broker, &own, None).await.unwrap_err();
    assert_eq!(
        again,
        "Cannot call GetSessionToken with session credentials"
    );
    // No permission is needed; an explicit deny is one all the same.
    assert!(session_token(&broker, &user("bob"), None).await.is_ok());
    assert!(session_token(&broker, &user("denied"), None).await.is_err());
    // What it reaches in STS: AssumeRole and GetCallerIdentity.
    assert!(
        broker
            .client(&own)
            .get_access_key_info(&alice.id)
            .await
            .is_err()
    );
    // It ends with the key that made it, and by its own id.
    let hand = broker.hand().await;
    assert_eq!(broker.who(&own).await, "ok");
    let second = session_token(&broker, &alice, None).await.unwrap();
    broker
        .revoke(
            &user(ADMIN),
            pb::revoke_sessions_request::Selector::AccessKeyId(second.id.clone()),
        )
        .await
        .unwrap();
    assert_eq!(
        [broker.who(&own).await, broker.who(&second).await],
        ["ok", "InvalidClientTokenId"]
    );
    hand.edit(ResourceKind::AccessKey, &alice.id, Edit::SetActive(false))
        .await
        .unwrap();
    eventually("it has ended", async || {
        broker.who(&own).await == "InvalidClientTokenId"
    })
    .await;
    drop(Arc::new(broker));
}
