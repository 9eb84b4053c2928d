//! What services that accept web identity tokens find: keys, certificates, and claims where they look for
//! them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::harness::*;

async fn published(broker: &Broker, path: &str) -> (Value, String) {
    let answer = broker.send("GET", path, HeaderMap::new(), Vec::new()).await;
    let cached = answer.headers["cache-control"].to_str().unwrap().to_owned();
    (serde_json::from_str(&answer.body).unwrap(), cached)
}

async fn keys(broker: &Broker) -> Vec<Value> {
    let (set, _) = published(broker, "/.well-known/jwks.json").await;
    set["keys"].as_array().unwrap().clone()
}

/// A token of this caller, and its claims.
async fn token(broker: &Broker, caller: &Keys, algorithm: &str) -> (String, Value) {
    let form = [
        ("Action", "GetWebIdentityToken"),
        VERSION,
        ("Audience.member.1", "relying"),
        ("SigningAlgorithm", algorithm),
    ];
    let answer = broker.query(Some(caller), &form).await;
    let token = answer
        .element("WebIdentityToken")
        .unwrap_or_else(|| panic!("{}", answer.body));
    let claims = token.split('.').nth(1).unwrap();
    let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    (token.to_owned(), claims)
}

#[tokio::test]
async fn an_es256_token_is_checked_with_the_published_key() {
    let broker = Broker::start().await;
    let (token, claims) = token(&broker, &user("alice"), "ES256").await;
    let (header, _) = token.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let keys = keys(&broker).await;
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &header["alg"]),
        (
            &json!("EC"),
            &json!("P-256"),
            &json!("ES256"),
            &json!("ES256")
        )
    );
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], part("x"), part("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    assert_eq!(claims["nbf"], claims["iat"]);
    let (provider, cached) = published(&broker, "/.well-known/openid-configuration").await;
    let algorithms = &provider["id_token_signing_alg_values_supported"];
    assert_eq!(algorithms, &json!(["ES256", "ES384", "EdDSA"]));
    assert_eq!(cached, "public, max-age=3600");
}

/// A service that knows a certificate by its digest knows it still after a restart, and from every node.
#[tokio::test]
async fn every_broker_publishes_the_same_certificate_for_a_key() {
    let dir = home();
    let mut broker = Broker::start_in(dir.clone(), |_| {}).await;
    let first = keys(&broker).await;
    assert_eq!(first.len(), 6);
    for key in &first {
        let [certificate] = key["x5c"].as_array().unwrap().as_slice() else {
            panic!("{key}");
        };
        let der = STANDARD.decode(certificate.as_str().unwrap()).unwrap();
        let member = if key["kty"] == "EC" { "y" } else { "x" };
        let public = URL_SAFE_NO_PAD
            .decode(key[member].as_str().unwrap())
            .unwrap();
        assert!(der.windows(public.len()).any(|part| part == public));
    }
    // A service that reads only the first key of the set finds one that signs.
    let (_, claims) = token(&broker, &user("alice"), "ES256").await;
    assert!(claims["exp"].as_i64() > claims["iat"].as_i64());
    assert_eq!(first[0]["alg"], "ES256");
    let beside = Broker::start_beside(dir.clone()).await;
    assert_eq!(keys(&beside).await, first);
    broker.stop().await;
    let again = Broker::start_in(dir, |_| {}).await;
    assert_eq!(keys(&again).await, first);
}

#[tokio::test]
async fn az_08_claims_at_the_top_come_from_the_role_and_never_from_the_session() {
    let dir = home();
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let tag = |key: &str, value: &str| json!({"Key": key, "Value": value});
    directory["RoleDetailList"][0]["Tags"] = json!([
        tag("brevet:claims", "groups policy email"),
        tag("groups", "ops payments"),
        tag("policy", "readwrite"),
        tag("email", "ops@example.com"),
    ]);
    let path = dir.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    let allowed = ["groups", "policy", "scope"].map(str::to_owned).to_vec();
    let broker = Broker::start_in(dir, |c| c.lifted_claims = allowed).await;
    let form = [
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "tagged"),
        ("Tags.member.1.Key", "groups"),
        ("Tags.member.1.Value", "root"),
        ("Tags.member.2.Key", "brevet:claims"),
        ("Tags.member.2.Value", "groups policy scope"),
        ("Tags.member.3.Key", "scope"),
        ("Tags.member.3.Value", "everything"),
    ];
    let session = broker
        .query(Some(&user("alice")), &form)
        .await
        .credentials();
    let (_, claims) = token(&broker, &session, "ES384").await;
    assert_eq!(claims["groups"], json!(["ops", "payments"]));
    assert_eq!(claims["policy"], "readwrite");
    // Neither what the operator does not allow, nor what only the session says.
    assert!(claims.get("email").is_none() && claims.get("scope").is_none());
    assert_eq!(
        claims["https://sts.amazonaws.com/"]["principal_tags"]["groups"],
        "root"
    );
    // A user without such a tag has no such claims.
    let (_, own) = token(&broker, &user("alice"), "ES384").await;
    assert!(own.get("groups").is_none() && own["sub"].is_string());
    let (provider, _) = published(&broker, "/.well-known/openid-configuration").await;
    let supported = provider["claims_supported"].as_array().unwrap();
    assert!(supported.contains(&json!("nbf")) && supported.contains(&json!("groups")));
    let audit = broker.into_audit().await;
    let issued = audit
        .iter()
        .find(|l| l["eventName"] == "GetWebIdentityToken");
    assert_eq!(
        issued.unwrap()["responseElements"]["claims"],
        json!({"groups": ["ops", "payments"], "policy": "readwrite"})
    );
}
