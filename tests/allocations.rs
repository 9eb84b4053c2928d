//! A decision that nobody asks to explain allocates nothing, a compiled policy takes at most what it
//! is weighed at, and no SAML response takes much. A binary of its own: the counter takes the
//! allocator's place.

use brevet::evaluator::{
    Policies, Policy, PolicyKind, Principal, Request, RequestContext, SessionPolicies, evaluate,
};
use brevet::tokens::compiled_weight;

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
    let policy = Policy::parse(PolicyKind::Identity, &text).unwrap();
    let mut context = RequestContext::new();
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
        session: SessionPolicies {
            passed: Some(&[&policy]),
            scope_down: &[&policy, &policy, &policy],
        },
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
            allocation_counter::measure(|| policy = Policy::parse(PolicyKind::Session, &text).ok());
        assert!(policy.is_some(), "{text}");
        let takes = usize::try_from(counted.bytes_current).unwrap();
        let weight = compiled_weight(&text);
        assert!(
            takes <= weight && weight <= takes * 8 + 2_048,
            "weighed at {weight}, takes {takes}: {text}"
        );
    }
}

mod saml {
    //! What a response can cost. The shapes are those that parsers and canonicalisation are slow at.

    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use brevet::base::clock::Timestamp;
    use brevet::proof::saml::{MAX_CHARACTERS, Metadata, Refusal, verify};

    /// Bytes that reading a response may take at its peak.
    const MAX_BYTES: u64 = 16 << 20;
    /// Bytes of XML in a response of the greatest length.
    const LONGEST: usize = MAX_CHARACTERS / 4 * 3;
    /// CPU time that a good response of the greatest length may take, and a hostile one. Without
    /// optimization everything takes many times as long, so that only what grows faster than the text
    /// is noticed.
    const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 5 });
    const MOST_OF_HOSTILE: Duration =
        Duration::from_millis(if cfg!(debug_assertions) { 5_000 } else { 50 });

    fn data(name: &str) -> String {
        let path = format!("{}/tests/data/saml/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    fn read(encoded: &str, idp: &Metadata) -> (Result<(), Refusal>, u64, Duration) {
        let now = Timestamp::from_amz(data("now").trim()).unwrap();
        let mut result = Ok(());
        let used = allocation_counter::measure(|| {
            result = verify(encoded, idp, &[], now).map(|_| ());
        });
        // What the thread computes, the least of several times, whatever else the machine does.
        let times = (0..5).map(|_| {
            let start = cpu_time();
            let _ = std::hint::black_box(verify(encoded, idp, &[], now));
            cpu_time().saturating_sub(start)
        });
        (result, used.bytes_max, times.min().unwrap())
    }

    fn cpu_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(
            time.tv_sec.try_into().unwrap(),
            time.tv_nsec.try_into().unwrap(),
        )
    }

    fn metadata(of: &str) -> Metadata {
        Metadata::parse(data(&format!("{of}-metadata.xml")).as_bytes()).unwrap()
    }

    /// As much of a part as there is room for.
    fn filled(before: &str, part: impl Fn(usize) -> String, after: &str) -> String {
        let mut text = before.to_owned();
        for number in 0.. {
            let part = part(number);
            if text.len() + part.len() + after.len() > LONGEST {
                break;
            }
            text.push_str(&part);
        }
        text + after
    }

    #[test]
    fn the_longest_response_takes_little_memory() {
        let encoded = STANDARD.encode(data("samlp-large.xml"));
        assert!(encoded.len() > 99_000 && encoded.len() <= MAX_CHARACTERS);
        let (result, bytes, time) = read(&encoded, &metadata("samlp"));
        println!("{bytes} bytes, {time:?}");
        assert_eq!(result, Ok(()));
        assert!(bytes < MAX_BYTES);
        assert!(time < MOST, "{time:?}");
    }

    #[test]
    fn sa_07_hostile_shapes_are_refused_at_little_cost() {
        let fixed = |text: &'static str| move |_| text.to_owned();
        // Inside of a signed assertion, so that everything up to the digest is done.
        let good = data("pysaml2-assertion.xml");
        let (before, after) = good.split_once("blue<").unwrap();
        let after = &format!("<{after}");
        let inside = |part: &dyn Fn(usize) -> String| filled(before, part, after);
        let long = format!("xmlns:long='urn:{}'", "x".repeat(500));
        let rooted = good.replacen(" ID=", &format!(" {long} ID="), 1);
        let (long_before, _) = rooted.split_once("blue<").unwrap();
        let many: String = (0..20).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect();
        let most: String = (0..24).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect();
        let attributes: String = (0..60).map(|i| format!(" a{i}=''")).collect();
        let (key_before, key_after) = good.split_once("<ns2:X509Data>").unwrap();
        let key_after = &format!("<ns2:X509Data>{key_after}");
        let shapes = [
            ("attributes", filled("<a", |i| format!(" a{i}=''"), "/>")),
            (
                "namespaces",
                filled("<a", |i| format!(" xmlns:a{i}='urn:a'"), "/>"),
            ),
            (
                "nested namespaces",
                filled("", |i| format!("<a xmlns:a{i}='urn:a'>"), ""),
            ),
            ("depth", filled("", fixed("<a>"), "")),
            ("elements", filled("<a>", fixed("<a/>"), "</a>")),
            ("brackets", filled("", fixed("<"), "")),
            ("equals signs", filled("<a>", fixed("="), "</a>")),
            ("references", filled("<a>", fixed("&#13;"), "</a>")),
            ("bare references", filled("<a>", fixed("&"), "</a>")),
            ("comments", filled("<a>", fixed("<!---->"), "</a>")),
            ("unclosed comments", filled("<a>", fixed("<!--"), "")),
            ("CDATA", filled("<a>", fixed("<![CDATA[x]]>"), "</a>")),
            ("IDs", filled("<a>", |i| format!("<a ID='_{i}'/>"), "</a>")),
            (
                "entities",
                "<!DOCTYPE a [<!ENTITY b '&c;&c;'><!ENTITY c '&b;&b;'>]><a>&b;</a>".to_owned(),
            ),
            ("signed elements", inside(&fixed("<a/>"))),
            (
                "signed attributes",
                inside(&|_| format!("<a{attributes}/>")),
            ),
            (
                "signed namespaces",
                inside(&|i| format!("<a:a xmlns:a='urn:{i}'/>")),
            ),
            (
                "signed default namespaces",
                inside(&|i| format!("<a xmlns='urn:{i}'/>")),
            ),
            (
                "signed scopes",
                inside(&|_| format!("<a{many}><n1:b xmlns:x='urn:x'/></a>")),
            ),
            (
                "signed wide scope",
                filled(
                    &format!("{before}<a{most}>"),
                    |i| format!("<b xmlns:x='urn:{i}'/>"),
                    &format!("</a>{after}"),
                ),
            ),
            (
                "signed long namespace",
                filled(long_before, fixed("<long:a/>"), after),
            ),
            ("signed references", inside(&fixed("&#13;"))),
            (
                "signed quotes",
                inside(&|_| format!("<a b='{}'/>", "\"".repeat(5_000))),
            ),
            ("signed CDATA", inside(&fixed("<![CDATA[x]]>"))),
            ("signed comments", inside(&fixed("x<!---->"))),
            ("signed IDs", inside(&|i| format!("<a ID='_{i}'/>"))),
            (
                "parts of KeyInfo",
                filled(key_before, fixed("<a/>"), key_after),
            ),
            ("text of KeyInfo", filled(key_before, fixed(" "), key_after)),
        ];
        let idp = metadata("pysaml2");
        for (name, xml) in shapes {
            assert!(xml.len() <= LONGEST, "{name}: {}", xml.len());
            let (result, bytes, time) = read(&STANDARD.encode(&xml), &idp);
            println!("{name}: {bytes} bytes, {time:?}: {result:?}");
            let harmless = matches!(name, "parts of KeyInfo" | "text of KeyInfo");
            assert_eq!(result.is_ok(), harmless, "{name}");
            assert!(bytes < MAX_BYTES, "{name}: {bytes} bytes");
            assert!(time < MOST_OF_HOSTILE, "{name}: {time:?}");
        }
        let (result, bytes, _) = read(&"A".repeat(20_000_000), &idp);
        assert_eq!(result, Err(Refusal::TooLong(20_000_000)));
        assert_eq!(bytes, 0);
    }
}
