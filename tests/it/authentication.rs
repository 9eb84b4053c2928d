//! Signature verification: every kind of invalid signature, each next to a valid one.

use std::time::Instant;

use http::{HeaderMap, HeaderValue};

use crate::harness::*;

#[tokio::test]
async fn an_01_missing_and_forbidden_roles_look_and_cost_alike() {
    let broker = Broker::start_with(|c| c.audit = brevet::audit::Target::Discard).await;
    let alice = user("alice");
    let ask = async |role: &str| {
        let form = [
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", role),
            ("RoleSessionName", "session"),
        ];
        let started = Instant::now();
        let answer = broker.query(Some(&alice), &form).await;
        let spent = started.elapsed().as_secs_f64();
        assert_eq!((answer.status, answer.code()), (403, "AccessDenied"));
        let (said, encoded) = sentence(answer.element("Message").unwrap());
        (said.replace(role, "ROLE"), encoded.len(), spent)
    };
    let missing = "arn:aws:iam::111122223333:role/Missed";
    let (forbidden, unknown) = (ask(CLOSED).await, ask(missing).await);
    assert_eq!((forbidden.0, forbidden.1), (unknown.0, unknown.1));
    assert!(forbidden.1 > 1_000);
    // 2,000 of each here, in turns; Welch's t on times without the slowest tenth (the machine's noise).
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        a.push(ask(CLOSED).await.2);
        b.push(ask(missing).await.2);
    }
    let t = welch(&mut a, &mut b);
    eprintln!("t = {t}");
    assert!(t.abs() < 4.5, "t = {t}");
}

fn welch(a: &mut [f64], b: &mut [f64]) -> f64 {
    let moments = |v: &mut [f64]| {
        v.sort_by(f64::total_cmp);
        let kept = &v[..v.len() * 9 / 10];
        let n = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / n;
        (
            mean,
            kept.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n,
        )
    };
    let ((ma, va), (mb, vb)) = (moments(a), moments(b));
    (ma - mb) / (va + vb).sqrt()
}

#[tokio::test]
async fn an_03_bad_signatures_on_a_key_do_not_lock_its_owner_out() {
    let broker = Broker::start_with(|c| c.audit = brevet::audit::Target::Discard).await;
    let alice = user("alice");
    let thief = Keys {
        secret: "not+the+secret/0123456789abcdefghijklmnop".into(),
        ..alice.clone()
    };
    for round in 0..1_000 {
        assert_eq!(
            broker.query(Some(&thief), WHO).await.code(),
            "SignatureDoesNotMatch"
        );
        if round % 50 == 0 {
            assert_eq!(broker.query(Some(&alice), WHO).await.code(), "ok");
        }
    }
}

#[tokio::test]
async fn unknown_and_inactive_keys_and_nobody() {
    let broker = Broker::start().await;
    let unknown = Keys {
        id: "AKIANOBODYNOBODY0001".into(),
        ..user("alice")
    };
    assert_eq!(broker.query(Some(&user("alice")), WHO).await.code(), "ok");
    assert_eq!(
        broker.query(Some(&unknown), WHO).await.code(),
        "InvalidClientTokenId"
    );
    assert_eq!(
        broker.query(Some(&user("gone")), WHO).await.code(),
        "InvalidClientTokenId"
    );
    assert_eq!(
        broker.query(None, WHO).await.code(),
        "MissingAuthenticationToken"
    );
    let lines = broker.into_audit().await;
    let unknown = lines
        .iter()
        .find(|l| l["errorCode"] == "InvalidClientTokenId")
        .unwrap();
    assert_eq!(unknown["userIdentity"]["type"], "Unknown");
    assert_eq!(lines.len(), 4);
}

#[tokio::test]
async fn sv_02_tokens_and_secrets_do_not_mix() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let (one, two) = (
        broker.assume(&alice, OPEN).await.unwrap(),
        broker.assume(&alice, OPEN).await.unwrap(),
    );
    assert_eq!(broker.query(Some(&one), WHO).await.code(), "ok");
    let crossed = Keys {
        token: two.token.clone(),
        ..one.clone()
    };
    assert_eq!(
        broker.query(Some(&crossed), WHO).await.code(),
        "InvalidClientTokenId"
    );
    let crossed = Keys {
        id: two.id.clone(),
        token: two.token.clone(),
        ..one.clone()
    };
    assert_eq!(
        broker.query(Some(&crossed), WHO).await.code(),
        "SignatureDoesNotMatch"
    );
    let removed = Keys {
        token: None,
        ..one.clone()
    };
    assert_eq!(
        broker.query(Some(&removed), WHO).await.code(),
        "InvalidClientTokenId"
    );
    let added = Keys {
        token: one.token.clone(),
        ..alice.clone()
    };
    assert_eq!(
        broker.query(Some(&added), WHO).await.code(),
        "InvalidClientTokenId"
    );
    // Signed without its token, which is added afterwards, or moved to the query.
    let body = encode(WHO);
    let mut headers = form_headers();
    broker.sign("/", &removed, &mut headers, body.as_bytes());
    let mut late = headers.clone();
    late.insert(
        "x-amz-security-token",
        HeaderValue::from_str(one.token.as_ref().unwrap()).unwrap(),
    );
    assert_eq!(
        broker
            .send("POST", "/", late, body.clone().into_bytes())
            .await
            .code(),
        "SignatureDoesNotMatch"
    );
    let moved = format!("/?X-Amz-Security-Token={}", one.token.as_ref().unwrap());
    assert_eq!(
        broker
            .send("POST", &moved, headers, body.into_bytes())
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn sv_01_sv_04_altered_requests_are_refused_on_the_wire() {
    let broker = Broker::start().await;
    let body = encode(WHO);
    let mut headers = form_headers();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    assert_eq!(
        broker
            .send("POST", "/", headers.clone(), body.clone().into_bytes())
            .await
            .code(),
        "ok"
    );
    let other = encode(&[
        ("Action", "GetAccessKeyInfo"),
        VERSION,
        ("AccessKeyId", "AKIATESTALICE0000001"),
    ]);
    assert_eq!(
        broker
            .send("POST", "/", headers.clone(), other.into_bytes())
            .await
            .code(),
        "SignatureDoesNotMatch"
    );
    for (name, value) in [
        ("host", "elsewhere:1"),
        ("x-amz-date", "20261124T120001Z"),
        ("content-type", "application/x-www-form-urlencoded"),
    ] {
        let mut altered = headers.clone();
        altered.insert(name, HeaderValue::from_static(value));
        assert_eq!(
            broker
                .send("POST", "/", altered, body.clone().into_bytes())
                .await
                .code(),
            "SignatureDoesNotMatch",
            "{name}"
        );
    }
    // Added on the way: what the broker acts on is refused, what it does not is ignored.
    for (name, status) in [
        ("x-brevet-extra", 403),
        ("x-amz-security-token", 403),
        ("x-amz-extra", 200),
        ("x-amz-cf-id", 200),
    ] {
        let mut extra = headers.clone();
        extra.insert(name, HeaderValue::from_static("1"));
        assert_eq!(
            broker
                .send("POST", "/", extra, body.clone().into_bytes())
                .await
                .status,
            status,
            "{name}"
        );
    }
    let mut unsigned = headers;
    unsigned.insert(
        "x-amz-content-sha256",
        HeaderValue::from_static("UNSIGNED-PAYLOAD"),
    );
    assert_eq!(
        broker
            .send("POST", "/", unsigned, body.into_bytes())
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn sv_08_the_window_is_exact_and_a_presigned_url_says_one_thing() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let body = encode(WHO);
    for (offset, expected) in [
        (0, "ok"),
        (900, "ok"),
        (901, "RequestExpired"),
        (-900, "ok"),
        (-901, "RequestExpired"),
    ] {
        // The broker's time does not go back: the client's is moved.
        let mut headers = form_headers();
        let signed_at = brevet::base::clock::Timestamp::from_seconds(now().seconds() - offset);
        broker.sign_at(signed_at, "/", &alice, &mut headers, body.as_bytes());
        assert_eq!(
            broker
                .send("POST", "/", headers, body.clone().into_bytes())
                .await
                .code(),
            expected,
            "{offset}"
        );
    }
    let url = presign(
        &broker,
        &alice,
        "Action=GetCallerIdentity&Version=2011-06-15",
        60,
    );
    assert_eq!(
        broker
            .send("GET", &url, HeaderMap::new(), Vec::new())
            .await
            .code(),
        "ok"
    );
    let reused = url.replace("GetCallerIdentity", "AssumeRole");
    assert_eq!(
        broker
            .send("GET", &reused, HeaderMap::new(), Vec::new())
            .await
            .code(),
        "SignatureDoesNotMatch"
    );
    // Whatever it says of itself.
    let long = presign(
        &broker,
        &alice,
        "Action=GetCallerIdentity&Version=2011-06-15",
        604_800,
    );
    for (offset, expected) in [
        (61, "ok"),
        (900, "ok"),
        (901, "RequestExpired"),
        (518_400, "RequestExpired"),
    ] {
        broker
            .clock
            .set(brevet::base::clock::Timestamp::from_seconds(
                now().seconds() + offset,
            ));
        for url in [&url, &long] {
            assert_eq!(
                broker
                    .send("GET", url, HeaderMap::new(), Vec::new())
                    .await
                    .code(),
                expected,
                "{offset}"
            );
        }
    }
}

#[tokio::test]
async fn sv_08_a_presigned_url_asks_who_it_is_of_and_for_nothing_else() {
    let parameters =
        format!("Action=AssumeRole&RoleArn={OPEN}&RoleSessionName=session&Version=2011-06-15");
    let parameters = parameters.replace(':', "%3A").replace('/', "%2F");
    let get = async |broker: &Broker, parameters: &str| {
        let url = presign(broker, &user("alice"), parameters, 60);
        let answer = broker.send("GET", &url, HeaderMap::new(), Vec::new()).await;
        (
            answer.status,
            answer.code().to_owned(),
            answer.element("Message").unwrap_or_default().to_owned(),
        )
    };
    let broker = Broker::start().await;
    let (status, code, message) = get(&broker, &parameters).await;
    assert_eq!((status, code.as_str()), (403, "AccessDenied"));
    assert!(
        message.contains("AssumeRole") && message.contains("[sts] presigned_actions"),
        "{message}"
    );
    let (status, ..) = get(&broker, "Action=GetSessionToken&Version=2011-06-15").await;
    assert_eq!(status, 403);
    // What SDKs add to the URL is ignored, and so is what GetCallerIdentity does not know.
    let who = "Action=GetCallerIdentity&Version=2011-06-15";
    for added in [
        "x-amz-user-agent=aws-sdk-js",
        "X-Amz-Other=1&X-Consul=a",
        "Unknown=1",
    ] {
        assert_eq!(
            get(&broker, &format!("{who}&{added}")).await.1,
            "ok",
            "{added}"
        );
    }
    let records = broker.into_audit().await;
    assert_eq!(
        records[0]["userIdentity"]["arn"],
        "arn:aws:iam::111122223333:user/alice"
    );

    let broker = Broker::start_with(|c| c.presigned_actions = vec!["AssumeRole".into()]).await;
    assert_eq!(get(&broker, &parameters).await.1, "ok");
    assert_eq!(
        get(
            &broker,
            &format!("{parameters}&x-amz-user-agent=aws-sdk-js")
        )
        .await
        .1,
        "ok"
    );
    assert_eq!(
        get(&broker, &format!("{parameters}&Unknown=1")).await.1,
        "ValidationError"
    );
    assert_eq!(
        get(&broker, "Action=GetSessionToken&Version=2011-06-15")
            .await
            .0,
        403
    );
}

/// A presigned URL, whose scope is signed in the query and whose payload is empty.
fn presign(broker: &Broker, keys: &Keys, parameters: &str, expires: u32) -> String {
    use brevet::base::clock::Clock;
    use ring::hmac;
    let date = broker.clock.now().to_amz();
    let day = &date[..8];
    let scope = format!("{day}/us-east-1/sts/aws4_request");
    let credential = format!("{}%2F{}", keys.id, scope.replace('/', "%2F"));
    let mut pairs: Vec<String> = parameters.split('&').map(str::to_owned).collect();
    pairs.extend([
        "X-Amz-Algorithm=AWS4-HMAC-SHA256".to_owned(),
        format!("X-Amz-Credential={credential}"),
        format!("X-Amz-Date={date}"),
        format!("X-Amz-Expires={expires}"),
        "X-Amz-SignedHeaders=host".to_owned(),
    ]);
    pairs.sort();
    let query = pairs.join("&");
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let sha = |t: &str| hex(ring::digest::digest(&ring::digest::SHA256, t.as_bytes()).as_ref());
    let canonical = format!(
        "GET\n/\n{query}\nhost:{}\n\nhost\n{}",
        broker.address,
        sha("")
    );
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha(&canonical));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [day, "us-east-1", "sts", "aws4_request", &text] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes())
            .as_ref()
            .to_vec();
    }
    format!("/?{query}&X-Amz-Signature={}", hex(&key))
}

#[tokio::test]
async fn a_grpc_signature_covers_method_path_and_message() {
    use brevet::api::SERVICE;
    use brevet::api::sts::v1 as pb;
    use prost::Message;
    let broker = Broker::start().await;
    let message = pb::GetAccessKeyInfoRequest {
        access_key_id: user("bob").id,
    }
    .encode_to_vec();
    let path = format!("/{SERVICE}/GetAccessKeyInfo");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    broker.sign(&path, &user("alice"), &mut headers, &message);
    assert_eq!(
        grpc(broker.address, &path, headers.clone(), frame(&message))
            .await
            .status,
        0
    );
    let other = pb::GetAccessKeyInfoRequest {
        access_key_id: user("alice").id,
    }
    .encode_to_vec();
    assert_eq!(
        grpc(broker.address, &path, headers.clone(), frame(&other))
            .await
            .status,
        16
    );
    let elsewhere = format!("/{SERVICE}/GetCallerIdentity");
    assert_eq!(
        grpc(broker.address, &elsewhere, headers, frame(&message))
            .await
            .status,
        16
    );
    let answer = grpc(broker.address, &path, HeaderMap::new(), frame(&message)).await;
    assert_eq!(
        (
            answer.status,
            answer.message.contains("Missing") || answer.message.contains("missing")
        ),
        (16, true)
    );
}
