//! Measures each step of AssumeRole by itself, to explain the results of `end_to_end`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;

use brevet::authn::web_identity;
use brevet::base::arn::AccountId;
use brevet::base::clock::{Clock, SystemClock};
use brevet::base::digest::sha256;
use brevet::base::entropy::SystemEntropy;
use brevet::directory::Directory;
use brevet::evaluator::{
    Policies, Policy, PolicyKind, Principal, Request, RequestContext, evaluate,
};
use brevet::federation::providers::{Providers, Reach};
use brevet::proof::sigv4::{Incoming, Presented, Signer};
use brevet::session::batch::{Batch, VerifiedRoots};
use brevet::session::key_state::KeyState;
use brevet::session::keyring::Keyring;
use brevet::session::packing::{Limits, TagClaim, pack, unpack};
use brevet::session::signing_key::{self, SigningKey};
use brevet::session::token::{self, Claims};
use brevet::tokens::{TokenBounds, Tokens};

const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCD";

fn sigv4(c: &mut Criterion) {
    let mut headers = HeaderMap::new();
    let body = b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn&RoleSessionName=bench";
    let signer = Signer {
        access_key_id: "AKIABENCHBENCHBENCH1",
        secret_access_key: SECRET,
        session_token: None,
        region: "us-east-1",
        service: "sts",
    };
    signer
        .sign(
            "POST",
            "/",
            "127.0.0.1:7480",
            &mut headers,
            &sha256(body),
            SystemClock.now(),
        )
        .unwrap();
    c.bench_function("sigv4: read and verify", |b| {
        b.iter(|| {
            let incoming = Incoming {
                method: "POST",
                path: "/",
                query: &[],
                headers: &headers,
                host: "127.0.0.1:7480",
                payload_sha256: sha256(black_box(body)),
            };
            Presented::read(&incoming)
                .unwrap()
                .unwrap()
                .verify(SECRET)
                .unwrap();
        });
    });
}

fn evaluator(c: &mut Criterion) {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}"#;
    let trust = Policy::parse(PolicyKind::Trust, trust).unwrap();
    let identity = Policy::parse(PolicyKind::Identity, r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"arn:aws:iam::111122223333:role/*"}]}"#).unwrap();
    let mut context = RequestContext::new();
    context.set("sts:ExternalId", "x");
    context.set("aws:SourceIp", "10.1.2.3");
    let request = Request {
        principal: Principal::User {
            account: "111122223333",
            arn: "arn:aws:iam::111122223333:user/alice",
            id: None,
        },
        action: "sts:AssumeRole",
        resource: "arn:aws:iam::111122223333:role/Deploy",
        resource_account: "111122223333",
        context: &context,
    };
    let policies = Policies {
        identity: &[&identity],
        resource: Some(&trust),
        resource_is_trust: true,
        ..Policies::default()
    };
    assert!(evaluate(&request, &policies).is_allowed());
    c.bench_function("evaluate: trust policy with two conditions", |b| {
        b.iter(|| evaluate(black_box(&request), black_box(&policies)))
    });
}

fn tokens(c: &mut Criterion) {
    let keyring = Keyring::generate(&SystemEntropy::new(), SystemClock.now()).unwrap();
    let keyring = Arc::new(keyring);
    let claims = Claims {
        session_id: vec![7; 16],
        access_key_id: "ASIABENCHBENCHBENCH1".into(),
        principal_arn: "arn:aws:iam::111122223333:role/Deploy".into(),
        principal_id: "AROABENCHBENCHBENCH1".into(),
        session_name: "bench".into(),
        ancestors: vec![brevet::session::token::Ancestor {
            arn: "arn:aws:iam::111122223333:user/alice".into(),
            unique_id: "AIDAALICEALICEALICE1".into(),
            access_key_id: "AKIAALICEALICEALICE1".into(),
            ..Default::default()
        }],
        issued_under: 7,
        store_id: "0123456789abcdef".into(),
        ..Claims::default()
    };
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    c.bench_function("baseline: one Ed25519 signature", |b| {
        b.iter(|| pair.sign(black_box(&[7; 300])))
    });
    let unsigned = |n: usize| {
        let mut salt = [1; 16];
        salt[..8].copy_from_slice(&n.to_be_bytes());
        token::unsigned(&keyring, &claims, &salt).unwrap()
    };
    let together = |first: usize, size: usize| -> Vec<String> {
        let tokens: Vec<_> = (first..first + size).map(unsigned).collect();
        let leaves: Vec<_> = tokens.iter().map(|t| t.leaf(keyring.clone())).collect();
        let (_, batch) = Batch::sign(&leaves);
        let proofs: Vec<_> = batch.unwrap().proofs().collect();
        let sealed = tokens.into_iter().zip(proofs);
        sealed
            .map(|(token, proof)| token.seal(&keyring, &proof).unwrap())
            .collect()
    };
    for size in [1, 4, 13, 32, 64] {
        println!(
            "a token of {size} is {} characters",
            together(0, size)[0].len()
        );
        c.bench_function(&format!("mint: {size} tokens signed together, each"), |b| {
            b.iter_custom(|rounds| {
                let started = Instant::now();
                for _ in 0..rounds {
                    black_box(together(0, size));
                }
                started.elapsed() / u32::try_from(size).unwrap()
            })
        });
    }
    let alone = token::seal(&keyring, &claims, &[1; 16]).unwrap();
    c.bench_function("token: open one that was signed alone (not cached)", |b| {
        let roots = VerifiedRoots::default();
        b.iter(|| token::open(&keyring, &roots, black_box(&alone)).unwrap().0)
    });
    let bytes = keyring.to_bytes().unwrap();
    for size in [1, 13] {
        let many: Vec<String> = (0..1_000 / size)
            .flat_map(|n| together(n * size, size))
            .collect();
        let name = format!("tokens: first opening of 1,000, {size} signed together, each");
        c.bench_function(&name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    // Nothing is remembered, neither tokens nor signatures.
                    let keyring = Keyring::parse(&bytes).unwrap();
                    let tokens = Tokens::new(keyring, TokenBounds::default());
                    let started = Instant::now();
                    for token in &many {
                        black_box(tokens.open(token).unwrap());
                    }
                    spent += started.elapsed();
                }
                spent / u32::try_from(many.len()).unwrap()
            })
        });
    }
    c.bench_function("secret: derive from key and session id", |b| {
        b.iter(|| {
            keyring
                .current()
                .unwrap()
                .session_secret(black_box(&[7; 16]), "ASIABENCHBENCHBENCH1")
                .unwrap()
        });
    });
}

fn packing(c: &mut Criterion) {
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::reports","arn:aws:s3:::reports/${aws:PrincipalTag/team}/*"]},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
    let tag = |key: &str, value: &str| TagClaim {
        key: key.into(),
        value: value.into(),
        transitive: false,
    };
    let mut limits = Limits {
        tags: vec![
            tag("team", "blue"),
            tag("cost-center", "4711"),
            tag("email", "alice@example.com"),
        ],
        policy: policy.into(),
        policy_arns: vec!["arn:aws:iam::111122223333:policy/ReadOnly".into()],
        ..Limits::default()
    };
    c.bench_function(
        "pack: a policy of 300 characters, an ARN, three tags",
        |b| b.iter(|| pack(black_box(&mut limits)).unwrap()),
    );
    let packed = pack(&mut limits).unwrap();
    println!(
        "packed to {} bytes, {}%",
        packed.bytes.len(),
        packed.percent
    );
    c.bench_function("unpack the same", |b| {
        b.iter(|| unpack(black_box(&packed.bytes)).unwrap())
    });
}

/// Measures a login with cached keys, in comparison to a bare check of the same signature.
fn federation(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let now = SystemClock.now();
    let (entropy, random) = (SystemEntropy::new(), brevet::base::entropy::system());
    let claims = serde_json::json!({
        "iss": "https://token.actions.githubusercontent.com", "sub": "repo:octo-org/octo-repo:environment:production",
        "aud": "sts.amazonaws.com", "iat": now.seconds(), "exp": now.seconds() + 3_600, "nbf": now.seconds(),
        "jti": "0b0d6f0e-0000-4000-8000-000000000000", "repository": "octo-org/octo-repo", "repository_id": "1296269",
        "repository_owner": "octo-org", "repository_owner_id": "583231", "ref": "refs/heads/main", "event_name": "push",
        "job_workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main", "run_id": "1",
        "sha": "0123456789012345678901234567890123456789", "runner_environment": "github-hosted", "actor": "octocat",
    });
    let rsa = SigningKey::generate(
        signing_key::Algorithm::RS256,
        KeyState::Current,
        &entropy,
        now,
    )
    .unwrap();
    let rsa_token = rsa.sign(claims.to_string().as_bytes()).unwrap();
    let es256 = {
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ALG, EcdsaKeyPair};
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ALG, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(&ALG, pkcs8.as_ref(), &random).unwrap()
    };
    let text = |bytes: &[u8]| {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
    };
    let point = ring::signature::KeyPair::public_key(&es256)
        .as_ref()
        .to_vec();
    let header = text(br#"{"alg":"ES256","kid":"es","typ":"JWT"}"#);
    let message = format!("{header}.{}", text(claims.to_string().as_bytes()));
    let signature = es256.sign(&random, message.as_bytes()).unwrap();
    let ec_token = format!("{message}.{}", text(signature.as_ref()));
    let ec_jwk = serde_json::json!({"kty": "EC", "crv": "P-256", "kid": "es", "alg": "ES256", "x": text(&point[1..33]), "y": text(&point[33..])});
    let declaration = serde_json::json!({"Brevet": {"OpenIDConnectProviders": [{
        "Arn": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com",
        "Url": "https://token.actions.githubusercontent.com", "ClientIDList": ["sts.amazonaws.com"],
        "JsonWebKeySet": {"keys": [rsa.jwk(), ec_jwk]}
    }]}});
    let directory =
        std::sync::Arc::new(Directory::compile(declaration.to_string().as_bytes(), None).unwrap());
    let providers = Providers::new(Reach::default(), std::sync::Arc::new(SystemClock)).unwrap();
    let account = AccountId::parse("111122223333").unwrap();
    for (name, token) in [("RS256", &rsa_token), ("ES256", &ec_token)] {
        c.bench_function(
            &format!("login: {name}, from the token's text to an authenticated caller"),
            |b| {
                b.iter(|| {
                    let moment = || (directory.clone(), now);
                    let token = black_box(token);
                    let login = web_identity::authenticate(
                        token, account, &providers, &directory, None, moment,
                    );
                    assert!(runtime.block_on(login).is_ok());
                })
            },
        );
    }
    let (signed, signature_of) = rsa_token.rsplit_once('.').unwrap();
    let bytes = |text: &str| {
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
    };
    let signature_of = bytes(signature_of);
    let (n, e) = (
        bytes(rsa.jwk()["n"].as_str().unwrap()),
        bytes(rsa.jwk()["e"].as_str().unwrap()),
    );
    let public = ring::signature::RsaPublicKeyComponents { n: &n, e: &e };
    c.bench_function("baseline: the bare RS256 check", |b| {
        b.iter(|| {
            public
                .verify(
                    &ring::signature::RSA_PKCS1_2048_8192_SHA256,
                    black_box(signed.as_bytes()),
                    &signature_of,
                )
                .unwrap()
        })
    });
    let public =
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, &point);
    c.bench_function("baseline: the bare ES256 check", |b| {
        b.iter(|| {
            public
                .verify(black_box(message.as_bytes()), signature.as_ref())
                .unwrap()
        })
    });
}

/// Measures a response and its certificate, in comparison to the signature check alone, which is
/// unavoidable.
fn saml(c: &mut Criterion) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use brevet::base::clock::Timestamp;
    use brevet::proof::saml::{Metadata, verify};

    let data = |name: &str| {
        let path = format!("{}/tests/data/saml/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let now = Timestamp::from_amz(data("now").trim()).unwrap();
    for (what, name, provider) in [
        (
            "a response with a signed assertion",
            "pysaml2-assertion.xml",
            "pysaml2",
        ),
        (
            "a response of the greatest length",
            "samlp-large.xml",
            "samlp",
        ),
    ] {
        let idp = Metadata::parse(data(&format!("{provider}-metadata.xml")).as_bytes()).unwrap();
        let encoded = STANDARD.encode(data(name));
        c.bench_function(&format!("saml: {what}"), |b| {
            b.iter(|| verify(black_box(&encoded), &idp, &[], now).unwrap())
        });
    }
    // One of the shapes of `tests/allocations.rs` that cost most: many namespaces in scope of many
    // elements, in a signed assertion.
    let idp = Metadata::parse(data("pysaml2-metadata.xml").as_bytes()).unwrap();
    let good = data("pysaml2-assertion.xml");
    let (before, after) = good.split_once("blue<").unwrap();
    let namespaces: String = (0..20).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect();
    let part = format!("<a{namespaces}><n1:b xmlns:x='urn:x'/></a>");
    let room = 75_000 - before.len() - after.len() - 1;
    let hostile = format!("{before}{}<{after}", part.repeat(room / part.len()));
    let encoded = STANDARD.encode(hostile);
    c.bench_function("saml: a hostile response of the greatest length", |b| {
        b.iter(|| verify(black_box(&encoded), &idp, &[], now).unwrap_err())
    });
}

criterion_group!(benches, sigv4, evaluator, packing, federation, saml, tokens);
criterion_main!(benches);
