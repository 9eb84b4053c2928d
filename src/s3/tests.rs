//! Requests that botocore signed are parsed, verified, and signed again for the store.

use std::collections::HashMap;

use super::*;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::proof::sigv4::S3Presented;
use crate::proof::sigv4::SigningSecret;
use crate::proof::sigv4::s3::S3Request;

const CLIENT_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const STORE_SECRET: &str = "the-secret-of-the-store-that-nobody-sees";

fn store() -> S3Store {
    let rules = StoreRules {
        style: Style::VirtualHost,
        names: vec!["s3.example.com".into()],
        keeps_slashes: true,
        takes_trailers: true,
        region: "us-east-1".into(),
    };
    let key = StoreKey {
        access_key_id: "AKIASTORESTORESTORE0".into(),
        secret: SigningSecret::new(Secret::new(STORE_SECRET.into())),
    };
    S3Store {
        buckets: HashMap::new(),
        ..S3Store::new("main".into(), rules, "store.internal:8333".into(), key)
    }
}

/// One request of `tests/data/s3/heads.jsonl`, without its body.
struct Sent {
    method: String,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    expected: Vec<Option<String>>,
}

fn sent() -> Vec<Sent> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let lines = include_str!("../../tests/data/s3/heads.jsonl").lines();
    lines
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let headers = line["headers"].as_array().unwrap().iter();
            let expected = line["expected"].as_array().unwrap().iter();
            Sent {
                method: text(&line["method"]),
                path: text(&line["path"]),
                host: text(&line["host"]),
                headers: headers.map(|h| (text(&h[0]), text(&h[1]))).collect(),
                expected: expected.map(|e| e.as_str().map(str::to_owned)).collect(),
            }
        })
        .collect()
}

impl Sent {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            path: &self.path,
            authority: &self.host,
            headers: &self.headers,
            body: None,
            size: None,
        }
    }
}

/// Whether the request carries a valid signature by this secret access key.
fn is_signed(head: &Head<'_>, routed: &Routed<'_>, secret: &str) -> bool {
    let request = S3Request {
        method: head.method,
        path: &routed.path,
        query: &routed.query,
        headers: head.headers,
        host: head.authority,
    };
    let read = S3Presented::read(&request).unwrap().unwrap();
    read.presented.verify(secret.as_bytes()).is_ok()
}

/// Requests of botocore, with both styles of addressing, with and without a session token, signed in headers and in
/// URLs: each is parsed as botocore meant it, its signature is verified, and the request that is signed for the store
/// is parsed and verified with the same result.
#[test]
fn os_01_sv_06_heads_of_another_client_are_read_verified_and_signed_again() {
    let store = store();
    let now = Timestamp::from_amz("20261124T120001Z").unwrap();
    let all = sent();
    assert!(all.len() > 400, "{}", all.len());
    for sent in all {
        let head = sent.head();
        let line = format!("{} {}{}", sent.method, sent.host, sent.path);
        let routed = route(&head, &store.rules).unwrap_or_else(|e| panic!("{line}: {}", e.message));
        let key = routed.key.as_ref().map(|key| key.as_str().to_owned());
        let read = [
            Some(routed.operation.name.to_owned()),
            routed.bucket.map(str::to_owned),
            key,
        ];
        assert_eq!(read, *sent.expected, "{line}");
        assert!(is_signed(&head, &routed, CLIENT_SECRET), "{line}");
        assert!(!is_signed(&head, &routed, STORE_SECRET), "{line}");
        let declared = head.header("x-amz-content-sha256");
        let payload = Payload::read(declared.unwrap_or("UNSIGNED-PAYLOAD"), &head, &store.rules);
        let payload = payload.unwrap_or_else(|e| panic!("{line}: {}", e.message));
        let signed = sign(&store, &head, &routed, payload, now);

        // The head as a proxy makes it from the answer.
        let mut headers = sent.headers.clone();
        headers.retain(|(name, _)| {
            !signed.remove_headers.contains(name) && signed.set.iter().all(|(n, _)| n != name)
        });
        let set = signed.set.iter();
        headers.extend(set.map(|(n, v)| ((*n).to_owned(), v.expose().clone())));
        let (path, query) = sent.path.split_once('?').unwrap_or((&sent.path, ""));
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let name = pair.split('=').next().unwrap().to_owned();
                !pair.is_empty() && !signed.remove_query.contains(&name)
            })
            .collect();
        let path = match kept.as_slice() {
            [] => path.to_owned(),
            kept => format!("{path}?{}", kept.join("&")),
        };
        let rules = StoreRules {
            names: vec!["store.internal".into()],
            ..store.rules.clone()
        };
        let at_store = Head {
            path: &path,
            authority: &signed.host,
            headers: &headers,
            ..head
        };
        let there = route(&at_store, &rules).unwrap_or_else(|e| panic!("{line}: {}", e.message));
        assert!(is_signed(&at_store, &there, STORE_SECRET), "{line}");
        assert_eq!(
            (
                there.operation.name,
                there.bucket,
                &there.key,
                &there.version,
                &there.source
            ),
            (
                routed.operation.name,
                routed.bucket,
                &routed.key,
                &routed.version,
                &routed.source
            ),
            "{line}"
        );
        for text in headers.iter().map(|(_, value)| value).chain([&path]) {
            assert!(
                !text.contains("AKIAEXAMPLE") && !text.contains(STORE_SECRET),
                "{line}"
            );
            assert!(!text.contains("a-token"), "{line}");
        }
    }
}

/// Puts the signature of each request on other requests of the file; none of them is accepted.
#[test]
fn sv_01_no_head_is_authorised_by_the_signature_of_another() {
    let store = store();
    let all = sent();
    let of_header: Vec<&Sent> = all
        .iter()
        .filter(|sent| sent.headers.iter().any(|(n, _)| n == "authorization"))
        .collect();
    // Every seventh by every fifth, so that all operations and names are among them.
    for one in of_header.iter().step_by(7) {
        for other in of_header.iter().step_by(5) {
            let same = (&one.method, &one.path, &one.host, &one.headers)
                == (&other.method, &other.path, &other.host, &other.headers);
            if same {
                continue;
            }
            let mut headers = other.headers.clone();
            for name in ["authorization", "x-amz-date", "x-amz-content-sha256"] {
                let value = one
                    .headers
                    .iter()
                    .find(|(n, _)| n == name)
                    .unwrap()
                    .1
                    .clone();
                headers.retain(|(n, _)| n != name);
                headers.push((name.to_owned(), value));
            }
            let head = Head {
                headers: &headers,
                ..other.head()
            };
            let Ok(routed) = route(&head, &store.rules) else {
                continue;
            };
            let request = S3Request {
                method: head.method,
                path: &routed.path,
                query: &routed.query,
                headers: head.headers,
                host: head.authority,
            };
            let accepted = S3Presented::read(&request)
                .ok()
                .flatten()
                .is_some_and(|read| read.presented.verify(CLIENT_SECRET.as_bytes()).is_ok());
            // Heads that differ only in what is not signed and does not matter are the same request.
            let own = |sent: &Sent| -> Vec<(String, String)> {
                let own = sent
                    .headers
                    .iter()
                    .filter(|(n, _)| n.starts_with("x-amz-") || n == "content-type");
                own.cloned().collect()
            };
            let same = (&one.method, &one.path, &one.host, own(one))
                == (&other.method, &other.path, &other.host, own(other));
            assert!(
                !accepted || same,
                "{} {} {}",
                one.path,
                other.method,
                other.path
            );
        }
    }
}
