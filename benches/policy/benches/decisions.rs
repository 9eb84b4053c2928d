//! Compares one decision with Cedar on an equivalent policy set and request, in one run. Run with
//! `cargo bench --manifest-path benches/policy/Cargo.toml`.

use std::fmt::Write;
use std::hint::black_box;
use std::str::FromStr;

use brevet::evaluator::{
    Policies, Policy, PolicyKind, Principal, Request, RequestContext, evaluate,
};
use criterion::{Criterion, criterion_group, criterion_main};

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const ROLE: &str = "arn:aws:iam::111122223333:role/Deploy";

fn context() -> RequestContext<'static> {
    let mut context = RequestContext::new();
    for (key, value) in [
        ("aws:CurrentTime", "2026-11-24T00:00:00Z"),
        ("aws:SourceIp", "10.1.2.3"),
        ("aws:PrincipalTag/team", "blue"),
        ("aws:username", "alice"),
        ("sts:ExternalId", "customer-42"),
    ] {
        context.set(key, value);
    }
    context
}

fn request<'a>(action: &'a str, resource: &'a str, context: &'a RequestContext<'a>) -> Request<'a> {
    let principal = Principal::User {
        account: "111122223333",
        arn: ALICE,
        id: None,
    };
    Request {
        principal,
        action,
        resource,
        resource_account: "111122223333",
        context,
    }
}

fn trust(c: &mut Criterion) {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{ALICE}"}},"Action":"sts:AssumeRole",
        "Condition":{{"StringEquals":{{"sts:ExternalId":"customer-42"}},"IpAddress":{{"aws:SourceIp":"10.0.0.0/8"}}}}}}]}}"#
    );
    let policy = Policy::parse(PolicyKind::Trust, &text).unwrap();
    let context = context();
    let request = request("sts:AssumeRole", ROLE, &context);
    let policies = Policies {
        resource: Some(&policy),
        resource_is_trust: true,
        ..Policies::default()
    };
    assert!(evaluate(&request, &policies).is_allowed());
    c.bench_function("trust policy: brevet", |b| {
        b.iter(|| evaluate(black_box(&request), black_box(&policies)))
    });

    let cedar = Cedar::new(
        r#"permit(principal == User::"alice", action == Action::"sts:AssumeRole", resource == Role::"Deploy")
           when { context.externalId == "customer-42" && context.sourceIp.isInRange(ip("10.0.0.0/8")) };"#,
        "sts:AssumeRole",
        r#"Role::"Deploy""#,
    );
    c.bench_function("trust policy: cedar", |b| b.iter(|| cedar.decide()));
}

/// Statements with conditions on actions of one service, of which only the last allows the request.
fn relevant(n: usize) -> (Vec<String>, String) {
    let mut cedar = String::new();
    let statements = (0..n).map(|i| {
        let owner = if i + 1 == n { "blue".to_owned() } else { format!("team-{i}") };
        writeln!(
            cedar,
            r#"permit(principal == User::"alice", action == Action::"s3:GetObject", resource) when {{ resource.name like "bucket/*" && context.team == "{owner}" && context.sourceIp.isInRange(ip("10.0.0.0/8")) }};"#
        )
        .unwrap();
        format!(
            r#"{{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*",
            "Condition":{{"StringEquals":{{"aws:PrincipalTag/team":"{owner}"}},"IpAddress":{{"aws:SourceIp":"10.0.0.0/8"}}}}}}"#
        )
    });
    (statements.collect(), cedar)
}

fn identity(c: &mut Criterion) {
    let (statements, text) = relevant(50);
    let compile = |statements: &[String]| {
        Policy::parse(
            PolicyKind::AwsManaged,
            &format!(
                r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
                statements.join(",")
            ),
        )
        .unwrap()
    };
    let context = context();
    let request = request("s3:GetObject", "arn:aws:s3:::bucket/a", &context);
    let fifty = compile(&statements);
    let allowed = |policy: &Policy| {
        evaluate(
            &request,
            &Policies {
                identity: &[policy],
                ..Policies::default()
            },
        )
        .is_allowed()
    };
    assert!(allowed(&fifty));
    c.bench_function("50 statements with conditions: brevet", |b| {
        b.iter(|| allowed(black_box(&fifty)))
    });

    // Before the fifty statements, 950 for other actions, of other services and of this one.
    let others = (0..950).map(|i| {
        let action = if i % 2 == 0 {
            format!("service{i}:Act*")
        } else {
            format!("s3:Action{i}")
        };
        format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"*"}}"#)
    });
    let thousand = compile(&others.chain(statements).collect::<Vec<_>>());
    assert!(allowed(&thousand));
    c.bench_function("1,000 statements, 950 for other actions: brevet", |b| {
        b.iter(|| allowed(black_box(&thousand)))
    });

    let cedar = Cedar::new(&text, "s3:GetObject", r#"Object::"a""#);
    c.bench_function("50 statements with conditions: cedar", |b| {
        b.iter(|| cedar.decide())
    });
}

struct Cedar {
    authorizer: cedar_policy::Authorizer,
    policies: cedar_policy::PolicySet,
    entities: cedar_policy::Entities,
    request: cedar_policy::Request,
}

impl Cedar {
    fn new(policies: &str, action: &str, resource: &str) -> Self {
        use cedar_policy::{Context, Entities, EntityUid, Request};
        let entities = r#"[{"uid": {"type": "Object", "id": "a"}, "attrs": {"name": "bucket/a"}, "parents": []}]"#;
        let context = serde_json::json!({"externalId": "customer-42", "team": "blue", "sourceIp": {"__extn": {"fn": "ip", "arg": "10.1.2.3"}}});
        let uid = |text: &str| EntityUid::from_str(text).unwrap();
        let action = uid(&format!(r#"Action::"{action}""#));
        let context = Context::from_json_value(context, None).unwrap();
        let cedar = Self {
            authorizer: cedar_policy::Authorizer::new(),
            policies: cedar_policy::PolicySet::from_str(policies).unwrap(),
            entities: Entities::from_json_str(entities, None).unwrap(),
            request: Request::new(
                uid(r#"User::"alice""#),
                action,
                uid(resource),
                context,
                None,
            )
            .unwrap(),
        };
        assert_eq!(cedar.decide(), cedar_policy::Decision::Allow);
        cedar
    }

    fn decide(&self) -> cedar_policy::Decision {
        self.authorizer
            .is_authorized(
                black_box(&self.request),
                black_box(&self.policies),
                black_box(&self.entities),
            )
            .decision()
    }
}

criterion_group!(benches, trust, identity);
criterion_main!(benches);
