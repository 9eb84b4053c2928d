//! A panic in an action, caused by a failpoint that released builds do not have (`cargo test
//! --features failpoints`).

use std::time::{Duration, Instant};

use brevet::base::clock::{Clock, SystemClock};
use brevet::base::digest::sha256;
use brevet::proof::sigv4::Signer;

use crate::binary::{Home, brevet, serve_by};
use crate::harness::{PATIENCE, encode, form_headers, http1};

/// A service, an action, and parameters that pass the first checks.
type Call = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Signed requests for the actions over the Query protocol.
const CALLS: &[Call] = &[
    (
        "sts",
        "AssumeRole",
        &[
            ("RoleArn", "arn:aws:iam::111122223333:role/Administrator"),
            ("RoleSessionName", "defect"),
        ],
    ),
    ("sts", "GetSessionToken", &[]),
    ("sts", "GetFederationToken", &[("Name", "defect")]),
    ("sts", "GetCallerIdentity", &[]),
    (
        "sts",
        "GetAccessKeyInfo",
        &[("AccessKeyId", "AKIAIOSFODNN7EXAMPLE")],
    ),
    (
        "sts",
        "DecodeAuthorizationMessage",
        &[("EncodedMessage", "bm9uZQ")],
    ),
    (
        "sts",
        "GetWebIdentityToken",
        &[
            ("Audience.member.1", "relying"),
            ("SigningAlgorithm", "ES384"),
        ],
    ),
    ("sts", "GetScopedCredentials", &[("DurationSeconds", "900")]),
    ("iam", "ListMFADevices", &[]),
    ("iam", "ListVirtualMFADevices", &[]),
    (
        "iam",
        "CreateVirtualMFADevice",
        &[("VirtualMFADeviceName", "defect")],
    ),
];

#[tokio::test]
async fn op_07_a_panic_ends_one_call_and_is_on_record() {
    let home = Home::init();
    let mut command = brevet();
    let actions: Vec<&str> = CALLS.iter().map(|(_, action, _)| *action).collect();
    // The first call of all is none of these, so that the broker is known to be well.
    command
        .env("BREVET_FAILPOINT_PANIC", actions.join(","))
        .env("RUST_BACKTRACE", "0");
    let daemon = serve_by(command, &home.config(), "info");
    let to = daemon.address.parse().unwrap();
    for (service, action, parameters) in CALLS {
        let version = if *service == "iam" {
            "2010-05-08"
        } else {
            "2011-06-15"
        };
        let form: Vec<_> = [("Action", *action), ("Version", version)]
            .into_iter()
            .chain(parameters.iter().copied())
            .collect();
        let body = encode(&form).into_bytes();
        let mut headers = form_headers();
        let signer = Signer {
            access_key_id: &home.keys.access_key_id,
            secret_access_key: home.keys.secret_access_key.expose().as_bytes(),
            session_token: None,
            region: "us-east-1",
            service,
        };
        signer
            .sign(
                "POST",
                "/",
                &daemon.address,
                &mut headers,
                &sha256(&body),
                SystemClock.now(),
            )
            .unwrap();
        let answer = http1(to, "POST", "/", headers, body).await;
        assert_eq!(answer.status, 500, "{action}: {}", answer.body);
        assert!(
            answer.body.contains("InternalFailure"),
            "{action}: {}",
            answer.body
        );
        assert!(
            answer.element("RequestId").is_some_and(|id| !id.is_empty()),
            "{action}: {}",
            answer.body
        );
        assert!(!answer.body.contains("SecretAccessKey"), "{action}");
    }
    // What nobody proved gets as far as its own refusal; the process lives, and gRPC as well.
    let refused = home
        .client(&daemon)
        .get_caller_identity()
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("InternalFailure"), "{refused}");
    let ready = http1(
        daemon.operator.parse().unwrap(),
        "GET",
        "/readyz",
        Default::default(),
        Vec::new(),
    )
    .await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    // Nobody waits for the line of a refusal.
    let missing = || {
        let audit = std::fs::read_to_string(home.path.join("audit.jsonl")).unwrap();
        let on_record = |action: &str| {
            audit
                .lines()
                .any(|l| l.contains(&format!("\"{action}\"")) && l.contains("InternalFailure"))
        };
        actions.iter().copied().find(|action| !on_record(action))
    };
    let started = Instant::now();
    while let Some(action) = missing() {
        assert!(started.elapsed() < PATIENCE, "{action} is not on record");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
