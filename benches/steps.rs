//! What each step of AssumeRole costs by itself: the budget behind `end_to_end`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;

use brevet::clock::{Clock, SystemClock};
use brevet::entropy::SystemEntropy;
use brevet::evaluator::{Context, Kind, Policies, Policy, Principal, Request, evaluate};
use brevet::keyring::Keyring;
use brevet::packing::{Limits, TagClaim, pack, unpack};
use brevet::sigv4::{Incoming, Presented, Signer, sha256};
use brevet::token::{self, Claims};

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
    signer.sign("POST", "/", "127.0.0.1:7480", &mut headers, &sha256(body), SystemClock.now()).unwrap();
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
            Presented::read(&incoming).unwrap().unwrap().verify(SECRET).unwrap();
        });
    });
}

fn evaluator(c: &mut Criterion) {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}"#;
    let trust = Policy::parse(Kind::Trust, trust).unwrap();
    let identity = Policy::parse(Kind::Identity, r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"arn:aws:iam::111122223333:role/*"}]}"#).unwrap();
    let mut context = Context::new();
    context.set("sts:ExternalId", "x");
    context.set("aws:SourceIp", "10.1.2.3");
    let request = Request {
        principal: Principal::User { account: "111122223333", arn: "arn:aws:iam::111122223333:user/alice" },
        action: "sts:AssumeRole",
        resource: "arn:aws:iam::111122223333:role/Deploy",
        resource_account: "111122223333",
        context: &context,
    };
    let policies =
        Policies { identity: &[&identity], resource: Some(&trust), resource_is_trust: true, ..Policies::default() };
    assert!(evaluate(&request, &policies).is_allowed());
    c.bench_function("evaluate: trust policy with two conditions", |b| {
        b.iter(|| evaluate(black_box(&request), black_box(&policies)))
    });
}

fn tokens(c: &mut Criterion) {
    let keyring = Keyring::generate(&SystemEntropy::new(), SystemClock.now()).unwrap();
    let claims = Claims {
        session_id: vec![7; 16],
        access_key_id: "ASIABENCHBENCHBENCH1".into(),
        principal_arn: "arn:aws:iam::111122223333:role/Deploy".into(),
        principal_id: "AROABENCHBENCHBENCH1".into(),
        session_name: "bench".into(),
        ancestors: vec![brevet::token::Ancestor {
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
    c.bench_function("baseline: one Ed25519 signature", |b| b.iter(|| pair.sign(black_box(&[7; 300]))));
    c.bench_function("mint: sign and seal a token", |b| {
        b.iter(|| token::seal(&keyring, black_box(&claims), &[1; 16]).unwrap())
    });
    let sealed = token::seal(&keyring, &claims, &[1; 16]).unwrap();
    c.bench_function("token: open and verify (not remembered)", |b| {
        b.iter(|| token::open(&keyring, black_box(&sealed)).unwrap().0)
    });
    c.bench_function("secret: derive from key and session id", |b| {
        b.iter(|| keyring.current().unwrap().session_secret(black_box(&[7; 16]), "ASIABENCHBENCHBENCH1").unwrap());
    });
}

fn packing(c: &mut Criterion) {
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::reports","arn:aws:s3:::reports/${aws:PrincipalTag/team}/*"]},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
    let tag = |key: &str, value: &str| TagClaim { key: key.into(), value: value.into(), transitive: false };
    let limits = Limits {
        tags: vec![tag("team", "blue"), tag("cost-center", "4711"), tag("email", "alice@example.com")],
        policy: policy.into(),
        policy_arns: vec!["arn:aws:iam::111122223333:policy/ReadOnly".into()],
    };
    c.bench_function("pack: a policy of 300 characters, an ARN, three tags", |b| {
        b.iter(|| pack(black_box(&limits)).unwrap())
    });
    let packed = pack(&limits).unwrap();
    println!("packed to {} bytes, {}%", packed.bytes.len(), packed.percent);
    c.bench_function("unpack the same", |b| b.iter(|| unpack(black_box(&packed.bytes)).unwrap()));
}

criterion_group!(benches, sigv4, evaluator, packing, tokens);
criterion_main!(benches);
