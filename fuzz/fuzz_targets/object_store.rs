#![no_main]
//! No head of a request to an object store makes it panic; what is accepted names one object, and no
//! signature verifies by accident.

use brevet::proof::sigv4::s3::S3Request;
use brevet::proof::sigv4::S3Presented;
use brevet::s3::actions::checks;
use brevet::s3::{CopySource, Head, Payload, StoreRules, Style, route};
use libfuzzer_sys::fuzz_target;

type Input<'a> = (u8, &'a str, &'a str, Vec<(String, String)>, &'a [u8], bool);

fuzz_target!(|input: Input<'_>| {
    let (choice, path, host, headers, body, keeps_slashes) = input;
    let methods = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", ""];
    let rules = StoreRules {
        style: if choice & 1 == 0 {
            Style::Path
        } else {
            Style::VirtualHost
        },
        names: vec!["s3.example.com".into()],
        keeps_slashes,
        takes_trailers: choice & 2 == 0,
        region: "us-east-1".into(),
    };
    let head = Head {
        method: methods[usize::from(choice >> 2) % methods.len()],
        path,
        authority: if choice & 128 == 0 {
            "s3.example.com"
        } else {
            host
        },
        headers: &headers,
        body: Some(body),
        size: None,
    };
    // The body may be a copy source as well.
    if let Some(source) = std::str::from_utf8(body)
        .ok()
        .and_then(|text| CopySource::parse(text, &rules).ok())
    {
        plain(source.key.as_str(), keeps_slashes);
    }
    let Ok(routed) = route(&head, &rules) else {
        return;
    };
    if let Some(key) = &routed.key {
        plain(key.as_str(), keeps_slashes);
    }
    let request = S3Request {
        method: head.method,
        path: &routed.path,
        query: &routed.query,
        headers: head.headers,
        host: head.authority,
    };
    if let Ok(Some(read)) = S3Presented::read(&request) {
        assert!(read.presented.verify(b"a secret that nobody has").is_err());
    }
    if let Ok(payload) = Payload::read("UNSIGNED-PAYLOAD", &head, &rules)
        && let Ok(checks) = checks(&head, &routed, payload, &rules)
    {
        assert!(!checks.is_empty());
        assert!(
            checks
                .iter()
                .all(|check| check.resource.starts_with("arn:aws:s3:::"))
        );
    }
});

/// What every accepted name of an object is.
fn plain(key: &str, keeps_slashes: bool) {
    assert!(!key.is_empty() && key.len() <= 1024 && !key.chars().any(char::is_control));
    assert!(!key.split(['/', '\\']).any(|s| matches!(s, "." | "..")));
    let inner = key.strip_suffix('/').unwrap_or(key);
    assert!(keeps_slashes || !inner.split('/').any(str::is_empty));
}
