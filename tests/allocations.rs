//! A decision that nobody asks to explain allocates nothing. A binary of its own: the counter takes
//! the allocator's place.

use brevet::evaluator::{Context, Kind, Policies, Policy, Principal, Request, evaluate};

#[test]
fn a_decision_allocates_nothing() {
    let operators = [
        ("StringLike", "aws:username", "\"a*e\""),
        ("StringNotEqualsIgnoreCase", "aws:username", "\"BOB\""),
        ("NumericLessThanEquals", "app:n", "\"10.50\""),
        ("DateGreaterThan", "aws:CurrentTime", "\"2026-01\""),
        ("DateLessThan", "app:month", "\"2026-12-01T00:00:00+01:00\""),
        ("Bool", "aws:SecureTransport", "true"),
        ("BinaryEquals", "app:binary", "\"aGVsbG8=\""),
        ("IpAddress", "aws:SourceIp", "\"2001:db8::/32\""),
        ("ArnLike", "aws:PrincipalArn", "\"arn:aws:iam::*:user/${aws:username}\""),
        ("ForAllValues:StringEquals", "aws:TagKeys", "[\"a\", \"b\"]"),
        ("Null", "app:none", "true"),
    ];
    let conditions: Vec<String> = operators.iter().map(|(o, k, v)| format!("\"{o}\":{{\"{k}\":{v}}}")).collect();
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","NotAction":"s3:*","Resource":"*"}},
        {{"Effect":"Allow","Action":["s3:Get*","ec2:Run"],"Resource":"arn:aws:s3:::bucket/${{aws:username}}/*","Condition":{{{}}}}}]}}"#,
        conditions.join(",")
    );
    let policy = Policy::parse(Kind::Identity, &text).unwrap();
    let mut context = Context::new();
    for (key, value) in [
        ("aws:username", "alice"),
        ("app:n", "10.5"),
        ("aws:CurrentTime", "2026-11-24T00:00:00Z"),
        ("app:month", "2026-11"),
        ("aws:SecureTransport", "true"),
        ("app:binary", "aGVsbG8="),
        ("aws:SourceIp", "2001:db8::1"),
        ("aws:PrincipalArn", "arn:aws:iam::111122223333:user/alice"),
    ] {
        context.set(key, value);
    }
    context.set_many("aws:TagKeys", vec!["a".into()]);
    let request = Request {
        principal: Principal::User { account: "111122223333", arn: "arn:aws:iam::111122223333:user/alice", id: None },
        action: "s3:GetObject",
        resource: "arn:aws:s3:::bucket/alice/x",
        resource_account: "111122223333",
        context: &context,
    };
    let policies = Policies { identity: &[&policy], session: Some(&[&policy]), ..Policies::default() };
    let mut allowed = false;
    let counted = allocation_counter::measure(|| allowed = evaluate(&request, &policies).is_allowed());
    assert!(allowed);
    assert_eq!(counted.count_total, 0);
}
