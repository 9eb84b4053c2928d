//! Tests of how forms are read, and that ambiguous forms are refused.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};

use super::form::Pairs;
use super::sts;
use crate::base::form::MAX_PARAMETERS;
use crate::error::Error;
use crate::ops::sts::assume_role::AssumeRoleInput;

fn head(method: &str, target: &str) -> http::request::Parts {
    let builder = Request::builder()
        .method(method)
        .uri(target)
        .header("content-type", "application/x-www-form-urlencoded");
    builder.body(()).unwrap().into_parts().0
}

fn read(head: &http::request::Parts, body: &Bytes) -> Result<Pairs, Error> {
    Pairs::read(head, body, MAX_PARAMETERS)
}

fn parse(body: &str) -> Result<AssumeRoleInput, Error> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    sts::assume_role(&mut read(&head("POST", "/"), &body)?.parameters)
}

#[test]
fn lists_and_structures() {
    let input = parse("PolicyArns.member.1.arn=a&PolicyArns.member.2.arn=b&Tags.member.1.Key=k+1&Tags.member.1.Value=%2B&TransitiveTagKeys=").unwrap();
    assert_eq!(input.policy_arns, ["a", "b"]);
    assert_eq!(
        (input.tags[0].key.as_str(), input.tags[0].value.as_str()),
        ("k 1", "+")
    );
    assert!(input.transitive_tag_keys.is_empty());
}

#[test]
fn sv_05_what_can_be_read_in_two_ways_is_refused() {
    for bad in [
        "RoleArn=a&RoleArn=b",
        "RoleArn=a&roleArn=b",
        "PolicyArns.member.1.arn=a&PolicyArns.member.3.arn=b",
        "PolicyArns.member.0.arn=a",
        "PolicyArns.member.01.arn=a",
        "Tags.member.1.Value=x",
        "Surprise=1",
        "rolearn=a",
        "RoleArn=%ff",
        "RoleArn=%c0%af",
        "RoleArn=%zz",
        "RoleArn=%",
        "RoleArn=a\r\nb",
        "DurationSeconds=1e3",
        "DurationSeconds=+900",
        "DurationSeconds=",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let across = read(
        &head("POST", "/?Action=GetCallerIdentity"),
        &Bytes::from_static(b"action=AssumeRole"),
    );
    assert!(across.is_err());
    for target in [
        "///",
        "/x",
        "/.",
        "/%2e",
        "//x",
        "/?a=1&a=2",
        "/?X-Amz-A=1&a=1&A=2",
    ] {
        assert!(
            read(&head("POST", target), &Bytes::new()).is_err(),
            "{target}"
        );
    }
    assert!(read(&head("PUT", "/"), &Bytes::new()).is_err());
}

#[test]
fn sv_05_a_body_is_a_form_or_says_nothing() {
    let with = |types: &[&str]| {
        let mut head = head("POST", "//");
        head.headers.remove(CONTENT_TYPE);
        for kind in types {
            head.headers
                .append(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        read(&head, &Bytes::from_static(b"Action=x"))
    };
    for good in [
        vec![],
        vec![""],
        vec!["Application/X-WWW-Form-URLEncoded"],
        vec!["application/x-www-form-urlencoded ; charset=UTF-8;x=y"],
    ] {
        assert!(with(&good).is_ok(), "{good:?}");
    }
    for bad in [
        vec!["application/x-www-form-urlencodedx"],
        vec!["application/json"],
        vec!["text/plain; application/x-www-form-urlencoded"],
        vec!["application/x-www-form-urlencoded, text/plain"],
        vec![
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded",
        ],
    ] {
        assert!(with(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn what_a_signer_adds_to_a_url_is_no_parameter() {
    let target = "/?RoleArn=a&x-amz-user-agent=aws-sdk-js&X-Amz-Signature=1&X-AMZ-Other=1";
    let mut pairs = read(&head("GET", target), &Bytes::new()).unwrap();
    let input = sts::assume_role(&mut pairs.parameters).unwrap();
    assert_eq!(input.role_arn.as_deref(), Some("a"));
    // In the body it is one like any other, and unknown.
    assert!(parse("X-Amz-User-Agent=x").is_err());
}

proptest::proptest! {
    #[test]
    fn no_form_makes_it_panic(body in "[ -~]{0,200}") {
        let _ = parse(&body);
    }
}
