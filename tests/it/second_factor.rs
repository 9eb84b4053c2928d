//! The administrator that `brevet init` creates, and its MFA device.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::client::AssumeRole;
use ring::hmac;

use crate::binary::{Home, brevet};
use crate::harness::{code, eventually};
use crate::mfa::code_of;

#[tokio::test(flavor = "multi_thread")]
async fn mf_06_two_commands_make_the_administrator_ask_for_a_code_and_check_warns_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let init = brevet()
        .arg("init")
        .arg(dir.path().join("broker"))
        .output()
        .unwrap();
    let said = String::from_utf8(init.stderr).unwrap();
    assert!(
        init.status.success()
            && said.contains("  brevet mfa enroll --endpoint http://127.0.0.1:7480\n"),
        "{said}"
    );
    assert!(
        said.contains("administrator-mfa.json --apply\n")
            && said.contains("  brevet import --config "),
        "{said}"
    );

    let home = Home::init();
    let warning = "user arn:aws:iam::111122223333:user/administrator may assume \
                   arn:aws:iam::111122223333:role/Administrator, which can administer other users, with only an access key";
    let checked = home.run(&["check"]);
    assert!(
        checked.contains(warning) && checked.contains("aws:MultiFactorAuthPresent"),
        "{checked}"
    );
    let key = "user arn:aws:iam::111122223333:user/administrator can administer other users with only an access key";
    assert!(checked.contains(key), "{checked}");
    let daemon = home.serve();
    let client = home.client(&daemon);
    let role = AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "test");
    assert!(client.assume_role(&role).await.is_ok());
    // What `brevet mfa enroll` does, without a person who reads codes.
    let made = client
        .iam(
            "CreateVirtualMFADevice",
            &[("VirtualMFADeviceName", "administrator")],
        )
        .await
        .unwrap();
    let seed = made
        .pointer("/VirtualMFADevice/Base32StringSeed")
        .unwrap()
        .as_str()
        .unwrap();
    let seed = String::from_utf8(STANDARD.decode(seed).unwrap()).unwrap();
    let now = brevet::base::clock::Clock::now(&brevet::base::clock::SystemClock).seconds();
    let [first, second] =
        [now, now + 30].map(|at| code_of(&seed, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 6, at));
    let enable = [
        ("UserName", "administrator"),
        (
            "SerialNumber",
            "arn:aws:iam::111122223333:mfa/administrator",
        ),
        ("AuthenticationCode1", first.as_str()),
        ("AuthenticationCode2", second.as_str()),
    ];
    client.iam("EnableMFADevice", &enable).await.unwrap();
    assert!(
        home.run(&["check"]).contains(warning),
        "a device alone guards nothing"
    );
    let file = home.path.join("administrator-mfa.json");
    let said = home.run(&["import", file.to_str().unwrap(), "--apply"]);
    assert!(
        said.contains("2 to change") && !said.contains("to create"),
        "{said}"
    );
    let checked = home.run(&["check"]);
    assert!(!checked.contains("with only an access key"), "{checked}");
    eventually("the role asks for a code", async || {
        client
            .assume_role(&role)
            .await
            .is_err_and(|error| code(&error) == "AccessDenied")
    })
    .await;
    // The key itself administers nobody either.
    eventually("the key asks for a code", async || {
        let listed = client.iam("ListVirtualMFADevices", &[]).await;
        listed.is_err_and(|error| code(&error) == "AccessDenied")
    })
    .await;
}
