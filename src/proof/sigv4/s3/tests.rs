use proptest::prelude::*;

use super::*;
use crate::base::secret::Secret;
use crate::proof::sigv4::{S3Presented, S3SigError};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const HOST: &str = "examplebucket.s3.amazonaws.com";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SKEW: Duration = Duration::from_secs(900);

fn at(amz: &str) -> Timestamp {
    Timestamp::from_amz(amz).unwrap()
}

/// The head of a request, whose parts tests can change.
#[derive(Debug, Clone)]
struct Sent {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    host: String,
}

impl Sent {
    fn new(method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> Self {
        let owned = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect()
        };
        Self {
            method: method.into(),
            path: path.into(),
            query: owned(query),
            headers: owned(headers),
            host: HOST.into(),
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&S3Request<'_>) -> T) -> T {
        let query: Vec<(&str, Cow<'_, str>)> = self
            .query
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str().into()))
            .collect();
        use_it(&S3Request {
            method: &self.method,
            path: &self.path,
            query: &query,
            headers: &self.headers,
            host: &self.host,
        })
    }

    /// Returns the error of the signature, or `None` if it is valid.
    fn fault(&self) -> Option<S3SigError> {
        self.with(|request| match S3Presented::read(request) {
            Ok(Some(read)) => {
                let verified = read.presented.verify(SECRET.as_bytes());
                verified.err().map(|e| S3SigError::Mismatch(e.to_string()))
            }
            Ok(None) => panic!("no signature"),
            Err(error) => Some(error),
        })
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.into(), value.into()));
    }

    /// Signs the request with all of its headers.
    fn sign(&mut self, now: &str, payload: &str) {
        self.set("x-amz-date", now);
        self.set("x-amz-content-sha256", payload);
        self.headers.retain(|(n, _)| n != "authorization");
        let secret = SigningSecret::new(Secret::new(SECRET.to_owned()));
        let headers = self.headers.clone();
        let mut signed: Vec<(&str, &str)> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .chain([("host", self.host.as_str())])
            .collect();
        signed.sort_unstable();
        let value = self.with(|request| {
            authorization(
                (KEY, &secret),
                "us-east-1",
                at(now),
                request,
                |_| false,
                &signed,
                payload,
            )
        });
        self.set("authorization", &value);
    }
}

fn authorized(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},Signature={signature}"
    )
}

/// Verifies the examples in Amazon S3 API Reference, "Signature Calculations for the Authorization
/// Header: Transferring Payload in a Single Chunk" and "Authenticating Requests: Using Query
/// Parameters".
#[test]
fn sv_06_the_published_examples_of_s3_are_verified() {
    let date = ("x-amz-date", "20130524T000000Z");
    let hash = |hash| ("x-amz-content-sha256", hash);
    let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let get = authorized(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    let put_signed = authorized(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    let plain = "host;x-amz-content-sha256;x-amz-date";
    let lifecycle = authorized(
        plain,
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    let list = authorized(
        plain,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    );
    let credential = format!("{KEY}/20130524/us-east-1/s3/aws4_request");
    let examples = [
        Sent::new(
            "GET",
            "/test.txt",
            &[],
            &[
                ("authorization", &get),
                ("range", "bytes=0-9"),
                hash(EMPTY),
                date,
            ],
        ),
        Sent::new(
            "PUT",
            "/test$file.text",
            &[],
            &[
                ("authorization", &put_signed),
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                date,
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                hash(put),
            ],
        ),
        Sent::new(
            "GET",
            "/",
            &[("lifecycle", "")],
            &[("authorization", &lifecycle), date, hash(EMPTY)],
        ),
        Sent::new(
            "GET",
            "/",
            &[("max-keys", "2"), ("prefix", "J")],
            &[("authorization", &list), date, hash(EMPTY)],
        ),
        Sent::new(
            "GET",
            "/test.txt",
            &[
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Credential", &credential),
                ("X-Amz-Date", "20130524T000000Z"),
                ("X-Amz-Expires", "86400"),
                ("X-Amz-SignedHeaders", "host"),
                (
                    "X-Amz-Signature",
                    "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
                ),
            ],
            &[],
        ),
    ];
    for example in examples {
        assert_eq!(example.fault(), None, "{example:?}");
        for change in [
            |s: &mut Sent| s.method = "DELETE".into(),
            |s: &mut Sent| s.path.push('x'),
            |s: &mut Sent| s.path = s.path.to_uppercase() + "/",
            |s: &mut Sent| s.host = "other.s3.amazonaws.com".into(),
            |s: &mut Sent| s.query.push(("acl".into(), String::new())),
            |s: &mut Sent| s.query.push(("versionId".into(), "1".into())),
        ] {
            let mut changed = example.clone();
            change(&mut changed);
            assert!(
                matches!(changed.fault(), Some(S3SigError::Mismatch(_))),
                "{changed:?}"
            );
        }
    }
}

fn presigned(seconds: &str) -> Sent {
    let credential = format!("{KEY}/20261127/us-east-1/s3/aws4_request");
    let mut sent = Sent::new(
        "GET",
        "/a b",
        &[
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", "20261127T100000Z"),
            ("X-Amz-Expires", seconds),
            ("X-Amz-SignedHeaders", "host"),
        ],
        &[],
    );
    let secret = SigningSecret::new(Secret::new(SECRET.to_owned()));
    let host = [("host", HOST)];
    let value = sent.with(|request| {
        let now = at("20261127T100000Z");
        authorization(
            (KEY, &secret),
            "us-east-1",
            now,
            request,
            |_| false,
            &host,
            UNSIGNED_PAYLOAD,
        )
    });
    let signature = value.rsplit_once("Signature=").unwrap().1;
    sent.query
        .push(("X-Amz-Signature".into(), signature.into()));
    sent
}

#[test]
fn sv_08_a_presigned_url_is_valid_for_as_long_as_it_says() {
    for (seconds, good) in [
        ("1", true),
        ("604800", true),
        ("604801", false),
        ("0", false),
        ("-1", false),
        ("+60", false),
        ("", false),
        ("1e3", false),
        ("0000060", false),
        ("99999999999999999999", false),
    ] {
        let fault = presigned(seconds).fault();
        assert_eq!(fault.is_none(), good, "{seconds}: {fault:?}");
    }
    let scope = |sent: &Sent, now: &str| {
        sent.with(|request| {
            let read = S3Presented::read(request).unwrap().unwrap();
            read.check_scope(at(now), "us-east-1", SKEW)
        })
    };
    let week = presigned("604800");
    for (now, good) in [
        ("20261127T094459Z", false),
        ("20261127T094500Z", true),
        ("20261204T100000Z", true),
        ("20261204T100001Z", false),
    ] {
        let scope = scope(&week, now);
        assert_eq!(scope.is_ok(), good, "{now}");
        assert!(good || matches!(scope, Err(S3SigError::Expired(_))));
    }
    let mut header = Sent::new("GET", "/a", &[], &[]);
    header.sign("20261127T100000Z", EMPTY);
    for (now, good) in [
        ("20261127T094459Z", false),
        ("20261127T094500Z", true),
        ("20261127T101500Z", true),
        ("20261127T101501Z", false),
    ] {
        let scope = scope(&header, now);
        assert_eq!(scope.is_ok(), good, "{now}");
        assert!(good || matches!(scope, Err(S3SigError::Skewed(_))));
    }
    assert_eq!(header.fault(), None);
    header.with(|request| {
        let read = S3Presented::read(request).unwrap().unwrap();
        let elsewhere = read.check_scope(at("20261127T100000Z"), "eu-west-1", SKEW);
        assert!(matches!(elsewhere, Err(S3SigError::Header(_))));
        assert_eq!(read.age(at("20261127T100007Z")), Duration::from_secs(7));
    });
}

#[test]
fn sv_01_every_header_that_a_store_acts_on_is_signed() {
    let mut sent = Sent::new(
        "PUT",
        "/a",
        &[],
        &[("x-amz-meta-x", "1"), ("content-type", "text/plain")],
    );
    sent.sign("20261127T100000Z", EMPTY);
    assert_eq!(sent.fault(), None);
    for name in [
        "x-amz-acl",
        "x-amz-meta-y",
        "x-amz-copy-source",
        "x-amz-security-token",
    ] {
        let mut added = sent.clone();
        added.set(name, "value");
        assert!(
            matches!(added.fault(), Some(S3SigError::Unsigned(_))),
            "{name}"
        );
        let mut url = presigned("60");
        url.set(name, "value");
        assert!(url.fault().is_some(), "{name}");
    }
    // What the store does not act on as Amazon's own may be added, as proxies do.
    for name in ["x-forwarded-for", "accept", "x-amzn-trace-id"] {
        let mut added = sent.clone();
        added.set(name, "value");
        assert_eq!(added.fault(), None, "{name}");
    }
    for name in [
        "x-amz-meta-x",
        "content-type",
        "x-amz-date",
        "x-amz-content-sha256",
    ] {
        let mut removed = sent.clone();
        removed.headers.retain(|(n, _)| n != name);
        assert!(removed.fault().is_some(), "{name} removed");
        let mut changed = sent.clone();
        changed.set(name, "20261127T100001Z");
        assert!(changed.fault().is_some(), "{name} changed");
        let mut twice = sent.clone();
        let again = twice
            .headers
            .iter()
            .find(|(n, _)| n == name)
            .cloned()
            .unwrap();
        twice.headers.push(again);
        assert!(twice.fault().is_some(), "{name} twice");
    }
}

#[test]
fn sv_01_a_request_is_signed_in_one_way() {
    let mut sent = Sent::new("GET", "/a", &[], &[]);
    sent.sign("20261127T100000Z", EMPTY);
    let good = sent
        .headers
        .iter()
        .find(|(n, _)| n == "authorization")
        .unwrap()
        .1
        .clone();
    let mut both = presigned("60");
    both.headers.clone_from(&sent.headers);
    assert!(matches!(both.fault(), Some(S3SigError::Unsupported(_))));
    let mut token = sent.clone();
    token
        .query
        .push(("X-Amz-Security-Token".into(), "t".into()));
    assert!(matches!(token.fault(), Some(S3SigError::Unsupported(_))));
    for bad in [
        "".to_owned(),
        "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=".to_owned(),
        good.replace("HMAC-SHA256", "ECDSA-P256-SHA256"),
        good.replace("Signature=", "signature="),
        good.replace("SignedHeaders=host;", "SignedHeaders="),
        good.replace("host;x-amz-content-sha256", "x-amz-content-sha256;host"),
        good.replace("SignedHeaders=host", "SignedHeaders=host;host"),
        good.replace("SignedHeaders=host", "SignedHeaders=;host"),
        good.replace("/s3/", "/sts/"),
        good.replace("/20261127/", "/20261126/"),
        good.replace("/aws4_request", "/aws4_request/x"),
        good.replace("Signature=", "Signature=0"),
        good.to_uppercase(),
        good.clone() + ",Signature=0",
    ] {
        let mut changed = sent.clone();
        changed.set("authorization", &bad);
        assert!(changed.fault().is_some(), "{bad}");
    }
    let mut url = presigned("60");
    url.set("x-amz-security-token", "t");
    assert!(url.fault().is_some());
    let mut doubled = presigned("60");
    doubled.query.push(("X-Amz-Expires".into(), "60".into()));
    assert!(doubled.fault().is_some());
}

/// Builds the canonical request as the reference describes it, independently of the code above.
fn slow_canonical(sent: &Sent, signed: &[&str], payload: &str) -> String {
    let uri_encode = |text: &str, slash: bool| {
        let mut out = String::new();
        for byte in text.as_bytes() {
            let c = char::from(*byte);
            match c {
                'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '.' | '_' | '~' => out.push(c),
                '/' if slash => out.push(c),
                _ => out += &format!("%{byte:02X}"),
            }
        }
        out
    };
    let mut query: Vec<String> = sent
        .query
        .iter()
        .map(|(n, v)| format!("{}={}", uri_encode(n, false), uri_encode(v, false)))
        .collect();
    // Sorted by the encoded name and then by the value.
    query.sort_by_key(|pair| {
        pair.split_once('=')
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
    });
    let headers: String = signed
        .iter()
        .map(|name| {
            let values: Vec<String> = match *name {
                "host" => vec![sent.host.clone()],
                _ => sent
                    .headers
                    .iter()
                    .filter(|(n, _)| n == name)
                    .map(|(_, v)| {
                        v.split(' ')
                            .filter(|w| !w.is_empty())
                            .collect::<Vec<_>>()
                            .join(" ")
                    })
                    .collect(),
            };
            format!("{name}:{}\n", values.join(","))
        })
        .collect();
    format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload}",
        sent.method,
        uri_encode(&sent.path, true),
        query.join("&"),
        signed.join(";")
    )
}

fn some_text() -> impl Strategy<Value = String> {
    "[ -~äü€\u{1f600}]{0,12}"
}

fn some_head() -> impl Strategy<Value = Sent> {
    (
        prop::sample::select(vec!["GET", "PUT", "POST", "DELETE", "HEAD"]),
        some_text(),
        prop::collection::vec(("[a-z-]{1,6}", some_text()), 0..5),
        prop::collection::btree_map("x-amz-[a-z-]{1,6}", "[!-~]{1,4}( {1,3}[!-~]{1,3})?", 0..4),
        "[a-z.]{1,12}",
    )
        .prop_map(|(method, path, query, headers, host)| Sent {
            method: method.into(),
            path: format!("/{path}"),
            query,
            headers: headers.into_iter().collect(),
            host,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_canonical_form_agrees_with_the_reference(sent in some_head()) {
        let mut signed: Vec<&str> = sent.headers.iter().map(|(n, _)| n.as_str()).chain(["host"]).collect();
        signed.sort_unstable();
        let mut lines = String::new();
        sent.with(|request| {
            for name in &signed {
                request.push_header(&mut lines, name).unwrap();
            }
            let fast = request.digest(|_| false, &lines, &signed.join(";"), EMPTY);
            assert_eq!(fast, sha256(slow_canonical(&sent, &signed, EMPTY).as_bytes()));
        });
    }

    #[test]
    fn sv_01_a_signature_of_one_head_authorises_no_other(one in some_head(), other in some_head()) {
        let mut one = one;
        one.sign("20261127T100000Z", EMPTY);
        prop_assert_eq!(one.fault(), None);
        // The head of another request with this signature.
        let mut moved = other.clone();
        for name in ["authorization", "x-amz-date", "x-amz-content-sha256"] {
            let value = one.headers.iter().find(|(n, _)| n == name).unwrap().1.clone();
            moved.set(name, &value);
        }
        let same = |a: &Sent, b: &Sent| {
            let sorted = |pairs: &[(String, String)]| { let mut p = pairs.to_vec(); p.sort(); p };
            (&a.method, &a.path, sorted(&a.query), sorted(&a.headers), &a.host)
                == (&b.method, &b.path, sorted(&b.query), sorted(&b.headers), &b.host)
        };
        prop_assert!(moved.fault().is_some() || same(&one, &moved), "{:?} {:?}", one, moved);
        // One part changed.
        for part in 0..4 {
            let mut changed = one.clone();
            match part {
                0 => changed.method.clone_from(&other.method),
                1 => changed.path.clone_from(&other.path),
                2 => changed.query.clone_from(&other.query),
                _ => changed.host.clone_from(&other.host),
            }
            prop_assert!(changed.fault().is_some() || same(&one, &changed), "{:?} {:?}", one, changed);
        }
    }
}
