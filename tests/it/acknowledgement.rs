//! The number of a change in its answer, and `brevet changes wait`, which waits for it.

use std::path::Path;
use std::process::Output;

use brevet::api::sts::v1 as pb;
use brevet::base::clock::Clock;
use http::HeaderMap;
use prost::Message;

use crate::binary::{Home, brevet};
use crate::harness::*;

const CHANGE: &str = "x-brevet-change";

fn number(headers: &HeaderMap) -> Option<i64> {
    let values: Vec<_> = headers.get_all(CHANGE).iter().collect();
    assert!(values.len() <= 1, "{values:?}");
    values
        .first()
        .map(|value| value.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn an_answer_to_a_change_has_its_number() {
    let broker = Broker::start_stored().await;
    let (admin, hand) = (user(ADMIN), broker.hand().await);
    let name = [("VirtualMFADeviceName", "phone")];
    let before = hand.store.head().await.unwrap().sequence;
    let answer = broker.iam(&admin, "CreateVirtualMFADevice", &name).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let made = number(&answer.headers).unwrap();
    assert_eq!(made, hand.store.head().await.unwrap().sequence);
    assert!(made > before);
    let feed = hand.store.feed_after(made - 1, 10).await.unwrap();
    assert_eq!(feed[0].action, "CreateVirtualMFADevice");
    // When the answer is here, this broker has the change in force.
    let running = broker.running.as_ref().unwrap();
    assert!(running.broker.feed.sequence() >= made);

    // What changes nothing has no number: reads, refusals, and calls of STS that issue something.
    let reads = broker.iam(&admin, "ListVirtualMFADevices", &[]).await;
    assert_eq!((reads.status, number(&reads.headers)), (200, None));
    let twice = broker.iam(&admin, "CreateVirtualMFADevice", &name).await;
    assert_eq!(
        (twice.code(), number(&twice.headers)),
        ("EntityAlreadyExists", None)
    );
    let bob = broker
        .iam(&user("bob"), "CreateVirtualMFADevice", &name)
        .await;
    assert_eq!((bob.code(), number(&bob.headers)), ("AccessDenied", None));
    let form = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "session"),
    ];
    let session = broker.query(Some(&user("alice")), &form).await;
    assert_eq!((session.status, number(&session.headers)), (200, None));
    assert_eq!(hand.store.head().await.unwrap().sequence, made);
}

#[tokio::test]
async fn grpc_answers_have_the_number_in_their_metadata() {
    let broker = Broker::start_stored().await;
    let admin = user(ADMIN);
    let call = async |method: &str, message: Vec<u8>| {
        let path = format!("/brevet.sts.v1.SessionAdministration/{method}");
        let mut headers = HeaderMap::new();
        broker.sign_at(broker.clock.now(), &path, &admin, &mut headers, &message);
        grpc(broker.address, &path, headers, frame(&message)).await
    };
    let request = pb::RevokeSessionsRequest {
        selector: Some(Selector::RoleArn(OPEN.into())),
        ..Default::default()
    };
    let revoked = call("RevokeSessions", request.encode_to_vec()).await;
    assert_eq!(revoked.status, 0, "{revoked:?}");
    let head = broker.hand().await.store.head().await.unwrap();
    assert_eq!(number(&revoked.headers), Some(head.sequence));
    let preview = call("PreviewRevocation", request.encode_to_vec()).await;
    assert_eq!((preview.status, number(&preview.headers)), (0, None));
}

/// Runs `brevet changes wait`.
pub fn wait(config: &Path, change: i64, seconds: u64) -> Output {
    brevet()
        .args(["changes", "wait", &change.to_string(), "--timeout-seconds"])
        .arg(seconds.to_string())
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_wait_returns_when_the_broker_has_the_change() {
    let home = Home::init();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    // Nobody runs who could have it.
    let stopped = wait(&home.config(), 0, 0);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(
        said(&stopped).contains("does not answer at its [operator] address"),
        "{}",
        said(&stopped)
    );
    let daemon = home.serve();
    home.edit(|toml| {
        let mut lines: Vec<String> = toml.lines().map(str::to_owned).collect();
        let heading = lines.iter().position(|line| line == "[operator]").unwrap();
        let address = lines[heading..]
            .iter()
            .position(|line| line.starts_with("address = "))
            .unwrap();
        lines[heading + address] = format!("address = {:?}", daemon.operator);
        lines.join("\n") + "\n"
    });
    let request = pb::RevokeSessionsRequest {
        selector: Some(Selector::All(true)),
        ..Default::default()
    };
    let answer = home.client(&daemon).revoke_sessions(request).await.unwrap();
    let made = answer.sequence_number;
    let done = wait(&home.config(), made, 30);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        format!("Change {made} is in force on 1 broker.\n")
    );
    let early = wait(&home.config(), made + 1, 0);
    assert_eq!(early.status.code(), Some(1));
    assert!(
        said(&early).contains(&format!("the broker is at change {made}")),
        "{}",
        said(&early)
    );
    let misspelt = brevet()
        .args(["changes", "wait", "-1", "--config"])
        .arg(home.config())
        .output()
        .unwrap();
    assert_eq!(misspelt.status.code(), Some(2), "{}", said(&misspelt));
    // The feed is still printed by the command itself.
    assert!(home.run(&["changes"]).contains("RevokeSessions"));
}
