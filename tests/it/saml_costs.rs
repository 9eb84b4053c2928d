//! What somebody's SAML responses cost others: long ones, and assertions that were used before.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brevet::budgets::BudgetLimits;
use brevet::origin::Origin;
use brevet::proof::saml::{Metadata, verify};
use http_body_util::BodyExt;

use crate::harness::*;
use crate::saml_idp::{Idp, Says};
use crate::saml_login::{PROVIDER, ROLE, directory_of, form_of};

const ENTITY: &str = "https://idp.example.com/saml";

/// A response of nearly 100,000 characters, in the shape that takes the longest to read: many elements.
pub fn longest(idp: &Idp, says: &Says) -> String {
    let elements = "<saml:a></saml:a>".repeat(4_000);
    let mut says = says.clone();
    says.more = format!("<saml:Advice>{elements}</saml:Advice>");
    let response = idp.response(&says);
    assert!((90_000..100_000).contains(&response.len()));
    response
}

fn says(id: &str) -> Says {
    Says::new(id, ROLE, PROVIDER, now())
}

async fn broker_with(idp: &Idp, budgets: BudgetLimits) -> Broker {
    let dir = home();
    let text = directory_of(idp).to_string();
    brevet::files::write_private(&dir.path().join("directory.json"), text.as_bytes()).unwrap();
    Broker::start_in(dir, |config| config.budgets = budgets).await
}

/// Posts a form over a connection of its own from 127.0.0.`from`. The connection ends with the future.
pub async fn post(to: SocketAddr, from: u8, body: String) -> Answer {
    try_post(to, from, body).await.expect("an answer")
}

/// Does what [`post`] does, and returns an error if the broker ends the connection without an answer.
pub async fn try_post(to: SocketAddr, from: u8, body: String) -> Result<Answer, hyper::Error> {
    let stream = crate::http2::connect(to, Ipv4Addr::new(127, 0, 0, from));
    let io = hyper_util::rt::TokioIo::new(stream.await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let answer = async {
        let body = http_body_util::Full::new(bytes::Bytes::from(body));
        let mut request = http::Request::post("/").body(body).unwrap();
        *request.headers_mut() = form_headers();
        let host = to.to_string().parse().unwrap();
        request.headers_mut().insert("host", host);
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body).unwrap(),
        })
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The answer may have come with the end.
        _ = connection => answer.await,
    }
}

async fn metric(broker: &Broker, name: &str) -> u64 {
    let text = broker.operator("/metrics").await.body;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// The call is served on this test's thread, which would be blocked while a response is verified on it.
/// Other things can block it too, so one of several tries has to show that it is free.
#[tokio::test]
async fn sa_07_a_long_response_is_verified_off_the_thread_of_other_calls() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, BudgetLimits::OFF).await;
    let metadata = Metadata::parse(idp.metadata().as_bytes()).unwrap();
    let response = longest(&idp, &says("measured"));
    let verified = (0..3).map(|_| {
        let started = Instant::now();
        verify(&response, &metadata, &[], now()).unwrap();
        started.elapsed()
    });
    let verification = verified.min().unwrap();

    let longest_gap = Arc::new(AtomicU64::new(0));
    let gaps = longest_gap.clone();
    let ticks = tokio::spawn(async move {
        loop {
            let started = Instant::now();
            tokio::task::yield_now().await;
            let gap = u64::try_from(started.elapsed().as_micros()).unwrap();
            gaps.fetch_max(gap, Ordering::Relaxed);
        }
    });
    let mut blocked = Vec::new();
    for n in 0..20 {
        let body = encode(&form_of(&longest(&idp, &says(&format!("try{n}")))));
        let body = http_body_util::Full::new(bytes::Bytes::from(body));
        let mut request = http::Request::post("/").body(body).unwrap();
        *request.headers_mut() = form_headers();
        let origin = Origin {
            source_ip: [127, 0, 0, 1].into(),
            secure_transport: false,
            user_agent: None,
            referer: None,
            certificate: None,
            call: None,
        };
        // What was done before is not counted.
        tokio::task::yield_now().await;
        longest_gap.store(0, Ordering::Relaxed);
        let shared = &broker.running.as_ref().unwrap().broker;
        let answer = brevet::query::serve(shared, origin, request).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        blocked.push(Duration::from_micros(longest_gap.load(Ordering::Relaxed)));
        if blocked[n] < verification / 2 {
            return ticks.abort();
        }
    }
    panic!("a verification takes {verification:?}, and the thread was blocked for {blocked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sa_07_responses_are_verified_by_half_of_the_processors_and_only_while_somebody_waits() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, BudgetLimits::OFF).await;
    let shared = broker.running.as_ref().unwrap().broker.clone();
    let processors = std::thread::available_parallelism().unwrap().get();
    let at_once = (processors / 2).max(1);
    assert_eq!(shared.verifications.available_permits(), at_once);
    // Others have taken every turn.
    let turns = u32::try_from(at_once).unwrap();
    let others = shared.verifications.acquire_many(turns).await.unwrap();
    let login = |id: &str, from: u8| {
        let body = encode(&form_of(&idp.response(&says(id))));
        tokio::spawn(post(broker.address, from, body))
    };
    let (waits, leaves) = (login("waits", 1), login("leaves", 2));
    eventually("two calls wait for their turn", async || {
        metric(&broker, "brevet_calls_in_flight").await == 2
    })
    .await;
    for _ in 0..20 {
        assert_eq!(broker.who(&user("alice")).await, "ok");
    }
    assert!(broker.assume(&user("alice"), OPEN).await.is_ok());
    assert!(!waits.is_finished() && !leaves.is_finished());
    // Nothing is verified for somebody who has gone.
    leaves.abort();
    let gone = r#"brevet_calls_total{action="AssumeRoleWithSAML",outcome="ServiceUnavailable"}"#;
    eventually("who has gone does not wait", async || {
        metric(&broker, gone).await == 1
    })
    .await;
    assert!(!waits.is_finished());
    drop(others);
    assert_eq!(waits.await.unwrap().code(), "ok");
    // What was not verified is not used up.
    assert_eq!(login("leaves", 2).await.unwrap().code(), "ok");
    assert_eq!(shared.verifications.available_permits(), at_once);
}

#[tokio::test]
async fn sa_06_whoever_repeats_an_assertion_is_counted_alone() {
    let idp = Idp::new(ENTITY);
    // Two seconds' worth may come at once: 10 calls of a principal, 40 unauthenticated ones of a source.
    let budgets = BudgetLimits {
        principal_calls: NonZeroU32::new(5),
        unproven_calls: NonZeroU32::new(20),
        ..BudgetLimits::OFF
    };
    let broker = broker_with(&idp, budgets).await;
    let stolen = encode(&form_of(&idp.response(&says("stolen"))));
    assert_eq!(
        post(broker.address, 1, stolen.clone()).await.code(),
        "ok",
        "alice's own call"
    );
    let mut refused = Vec::new();
    for _ in 0..60 {
        let answer = post(broker.address, 2, stolen.clone()).await;
        refused.push(answer.code().to_owned());
    }
    let used = refused.iter().filter(|code| *code == "IDPRejectedClaim");
    assert_eq!(used.count(), 40, "{refused:?}");
    let throttled = refused.iter().filter(|code| *code == "Throttling");
    assert_eq!(
        throttled.count(),
        20,
        "the source is throttled: {refused:?}"
    );
    // Alice has nine calls left, as if nobody had repeated her assertion.
    for n in 0..9 {
        let body = encode(&form_of(&idp.response(&says(&format!("fresh{n}")))));
        assert_eq!(post(broker.address, 1, body).await.code(), "ok", "{n}");
    }
    let body = encode(&form_of(&idp.response(&says("last"))));
    let last = || post(broker.address, 1, body.clone());
    assert_eq!(last().await.code(), "Throttling");
    // Whoever is throttled may try again with the same assertion.
    broker.elapse(1);
    assert_eq!(last().await.code(), "ok");
    assert_eq!(last().await.code(), "IDPRejectedClaim");
}
