//! A decision that nobody asks to explain allocates nothing, and a compiled policy takes at most what
//! it is weighed at. A binary of its own: the counter takes the allocator's place.

use brevet::authn::compiled_weight;
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
        (
            "ArnLike",
            "aws:PrincipalArn",
            "\"arn:aws:iam::*:user/${aws:username}\"",
        ),
        ("ForAllValues:StringEquals", "aws:TagKeys", "[\"a\", \"b\"]"),
        ("Null", "app:none", "true"),
    ];
    let conditions: Vec<String> = operators
        .iter()
        .map(|(o, k, v)| format!("\"{o}\":{{\"{k}\":{v}}}"))
        .collect();
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
        principal: Principal::User {
            account: "111122223333",
            arn: "arn:aws:iam::111122223333:user/alice",
            id: None,
        },
        action: "s3:GetObject",
        resource: "arn:aws:s3:::bucket/alice/x",
        resource_account: "111122223333",
        context: &context,
    };
    let policies = Policies {
        identity: &[&policy],
        session: Some(&[&policy]),
        ..Policies::default()
    };
    let mut allowed = false;
    let counted =
        allocation_counter::measure(|| allowed = evaluate(&request, &policies).is_allowed());
    assert!(allowed);
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_policy_weighs_at_least_what_it_takes() {
    let whole = |actions: &str, resources: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":[{actions}],"Resource":[{resources}]}}]}}"#
        )
    };
    let many = |item: &str| {
        vec![item; 1_850 / (item.len() + 3)]
            .iter()
            .map(|i| format!("\"{i}\""))
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut texts = vec![
        whole(&many("a:b"), "\"*\""),
        whole(&many("a:*b*c?d"), "\"*\""),
        whole("\"*\"", &many("arn:a:a:a:a:a")),
        whole("\"*\"", &many("arn:*:?:*:?:*?*?")),
        whole("\"*\"", &many("arn:aws:s3:::${aws:username}/*")),
        whole(
            "\"s3:GetObject\",\"s3:ListBucket\"",
            "\"arn:aws:s3:::reports\",\"arn:aws:s3:::reports/*\"",
        ),
    ];
    let statement = r#"{"Effect":"Deny","Action":"a:b","Resource":"*"}"#;
    texts.push(format!(
        r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
        vec![statement; 40].join(",")
    ));
    let condition = |n: usize| format!(r#""a:{n}":["1","2","3"]"#);
    let conditions = (0..90).map(condition).collect::<Vec<_>>().join(",");
    texts.push(format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{"StringLike":{{{conditions}}}}}}}}}"#
    ));
    for text in texts {
        let mut policy = None;
        let counted =
            allocation_counter::measure(|| policy = Policy::parse(Kind::Session, &text).ok());
        assert!(policy.is_some(), "{text}");
        let takes = usize::try_from(counted.bytes_current).unwrap();
        let weight = compiled_weight(&text);
        assert!(
            takes <= weight && weight <= takes * 8 + 2_048,
            "weighed at {weight}, takes {takes}: {text}"
        );
    }
}
