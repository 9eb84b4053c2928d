//! Every endpoint, called without credentials.

use http::{HeaderMap, HeaderValue};

use crate::harness::*;

/// The endpoints that answer without credentials: health, metrics, and public keys and metadata.
const ALLOWED: &[&str] = &[
    "operator GET /healthz",
    "operator GET /readyz",
    "query GET /.well-known/jwks.json",
    "query GET /.well-known/openid-configuration",
    "query GET /saml/metadata",
    "query GET /.well-known/authzen-configuration",
    "operator GET /metrics",
    "grpc /grpc.health.v1.Health/Check",
];

#[tokio::test]
async fn an_04_nothing_answers_a_stranger_but_the_listed() {
    let broker = Broker::start_with(|c| c.audit = brevet::audit::Target::Discard).await;
    let mut open = Vec::new();
    let actions: Vec<&str> = brevet::ops::registry::ACTIONS
        .iter()
        .map(|(name, _)| *name)
        .chain(["", "Nonsense", "assumerole"])
        .collect();
    for action in &actions {
        for method in [
            "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE",
        ] {
            for path in [
                "/",
                "//",
                "/./",
                "/%2e/",
                "/sts",
                "/STS/",
                "/healthz",
                "/metrics",
                "/readyz",
                "/.well-known/openid-configuration",
                "/.well-known/jwks.json",
                "/.well-known/authzen-configuration",
                "/access/v1/evaluation",
                "/access/v1/evaluations",
                "/saml/metadata",
            ] {
                for (name, value) in [
                    ("x-none", "1"),
                    ("x-http-method-override", "POST"),
                    ("x-amz-security-token", "token"),
                    ("authorization", "Bearer x"),
                ] {
                    let mut headers = form_headers();
                    headers.insert(
                        http::HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    );
                    let query = format!(
                        "Action={action}&Version=2011-06-15&RoleArn={OPEN}&RoleSessionName=session"
                    );
                    let (target, body) = if method == "POST" {
                        (path.to_owned(), query.into_bytes())
                    } else {
                        (format!("{path}?{query}"), Vec::new())
                    };
                    let answer = broker.send(method, &target, headers, body).await;
                    if answer.status < 400 {
                        let is_published =
                            path.starts_with("/.well-known/") || path == "/saml/metadata";
                        let action = if is_published { "" } else { action };
                        open.push(
                            format!("query {method} {path} {action}")
                                .trim_end()
                                .to_owned(),
                        );
                    }
                }
            }
        }
        let path = format!("/{}/{action}", brevet::api::SERVICE);
        if grpc(broker.address, &path, HeaderMap::new(), frame(b""))
            .await
            .status
            == 0
        {
            open.push(format!("grpc {path}"));
        }
    }
    for action in
        brevet::ops::registry::ADMINISTRATION
            .iter()
            .chain(&["", "Nonsense", "revokesessions"])
    {
        let path = format!("/{}/{action}", brevet::api::ADMINISTRATION);
        if grpc(broker.address, &path, HeaderMap::new(), frame(b""))
            .await
            .status
            == 0
        {
            open.push(format!("grpc {path}"));
        }
    }
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/Other",
        "/x.Y/Z",
        "/",
        "//",
    ] {
        if grpc(broker.address, path, HeaderMap::new(), frame(b""))
            .await
            .status
            == 0
        {
            open.push(format!("grpc {path}"));
        }
    }
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/debug",
        "/metrics/",
        "//metrics",
    ] {
        for method in ["GET", "POST"] {
            if http1(broker.operator, method, path, HeaderMap::new(), Vec::new())
                .await
                .status
                < 400
            {
                open.push(format!("operator {method} {path}"));
            }
        }
    }
    for action in [
        "CreateVirtualMFADevice",
        "ListMFADevices",
        "EnableMFADevice",
        "CreateUser",
        "Nonsense",
    ] {
        let form = [
            ("Action", action),
            ("Version", "2010-05-08"),
            ("VirtualMFADeviceName", "x"),
            ("UserName", "alice"),
        ];
        let answer = broker.query(None, &form).await;
        if answer.status < 400 {
            open.push(format!("iam {action}"));
        }
    }
    open.sort();
    open.dedup();
    let mut allowed: Vec<String> = ALLOWED.iter().map(|a| (*a).to_owned()).collect();
    allowed.sort();
    assert_eq!(open, allowed);
}

#[tokio::test]
async fn actions_that_are_not_there_yet_say_so_on_both_wires() {
    let broker = Broker::start().await;
    for (action, answered) in brevet::ops::registry::ACTIONS {
        if *answered {
            continue;
        }
        for keys in [None, Some(user("alice"))] {
            let answer = broker
                .query(keys.as_ref(), &[("Action", action), VERSION])
                .await;
            assert_eq!(answer.code(), "InvalidAction");
            assert_eq!(
                answer.element("Message").unwrap(),
                format!("{action} is not available")
            );
        }
        let path = format!("/{}/{action}", brevet::api::SERVICE);
        let answer = grpc(broker.address, &path, HeaderMap::new(), frame(b"")).await;
        assert_eq!(
            (
                answer.status,
                answer.message.contains("not%20available%20yet")
            ),
            (12, true),
            "{answer:?}"
        );
    }
    for version in ["2011-06-16", ""] {
        let answer = broker
            .query(
                Some(&user("alice")),
                &[("Action", "GetCallerIdentity"), ("Version", version)],
            )
            .await;
        assert_eq!(answer.code(), "InvalidAction");
    }
    // Another service's action, and no signature for it.
    let answer = broker
        .query(
            Some(&user("alice")),
            &[("Action", "GetCallerIdentity"), ("Version", "2010-05-08")],
        )
        .await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
}

#[tokio::test]
async fn an_answer_has_what_sdks_need() {
    let broker = Broker::start().await;
    let answer = broker.query(Some(&user("alice")), WHO).await;
    assert_eq!(answer.headers["content-type"], "text/xml");
    assert!(
        answer.headers.contains_key("date"),
        "SDKs take their clock from it"
    );
    assert_eq!(
        answer.headers["x-amzn-requestid"].to_str().unwrap(),
        answer.element("RequestId").unwrap()
    );
    let body = encode(WHO);
    let mut headers = form_headers();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    headers.insert("accept", HeaderValue::from_static("application/json"));
    let json = broker.send("POST", "/", headers, body.into_bytes()).await;
    let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(
        json["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"],
        "arn:aws:iam::111122223333:user/alice"
    );
}
