use std::path::Path;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use ring::hmac;

use super::canonical::{canonical_request, signing_key, string_to_sign};
use super::presented::read::PROOF_PARAMETERS;
use super::*;
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The cases of AWS's test suite whose requests the broker refuses, because servers could read
/// their paths or headers in two ways.
const REFUSED: &[&str] = &[
    "get-header-value-multiline",
    "get-relative-normalized",
    "get-relative-relative-normalized",
    "get-relative-relative-unnormalized",
    "get-relative-unnormalized",
    "get-slash-dot-slash-normalized",
    "get-slash-dot-slash-unnormalized",
    "get-slash-normalized",
    "get-slash-pointless-dot-normalized",
    "get-slash-pointless-dot-unnormalized",
    "get-slash-unnormalized",
    "get-slashes-normalized",
    "get-slashes-unnormalized",
    "get-space-normalized",
    "get-space-unnormalized",
    "get-utf8",
    // Its token is added after signing, so the server would read something unsigned.
    "post-sts-header-after",
];

struct Sent {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    host: String,
    body: String,
}

impl Sent {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let first = lines.next().unwrap();
        let (method, rest) = first.split_once(' ').unwrap();
        let (target, _) = rest.rsplit_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        let mut host = String::new();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("host") {
                host = value.trim().to_owned();
            } else {
                headers.append(
                    HeaderName::try_from(name).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
        }
        let decode = |t: &str| {
            percent_encoding::percent_decode_str(t)
                .decode_utf8()
                .unwrap()
                .into_owned()
        };
        let pair = |p: &str| {
            p.split_once('=')
                .map_or((decode(p), String::new()), |(n, v)| (decode(n), decode(v)))
        };
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query
                .split('&')
                .filter(|p| !p.is_empty())
                .map(pair)
                .collect(),
            headers,
            host,
            body: body.to_owned(),
        }
    }

    fn presented(&self) -> Result<Presented, SigError> {
        let incoming = Incoming {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            host: &self.host,
            payload_sha256: sha256(self.body.as_bytes()),
        };
        Presented::read(&incoming).map(Option::unwrap)
    }
}

#[test]
fn sv_06_agrees_with_the_published_suite() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sigv4"));
    let mut agreed = 0;
    for case in std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_dir())
    {
        let name = case.file_name().into_string().unwrap();
        for file in ["header-signed-request.txt", "query-signed-request.txt"] {
            let result = Sent::read(&case.path().join(file))
                .presented()
                .and_then(|p| p.verify(SECRET).map(|()| p));
            match result {
                Ok(presented) => {
                    assert!(
                        presented.verify(b"another secret").is_err(),
                        "{name}/{file}"
                    );
                    agreed += 1;
                }
                Err(error) => assert!(
                    REFUSED.contains(&name.as_str()) || name == "get-header-key-duplicate",
                    "{name}/{file}: {error}"
                ),
            }
        }
    }
    assert!(
        agreed >= 40,
        "only {agreed} requests of the suite were verified"
    );
}

fn signed(body: &[u8]) -> (HeaderMap, [u8; 32]) {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    let signer = Signer {
        access_key_id: "AKIDEXAMPLEEXAMPLE00",
        secret_access_key: SECRET,
        session_token: Some("a-token"),
        region: "us-east-1",
        service: "sts",
    };
    let payload = sha256(body);
    signer
        .sign(
            "POST",
            "/",
            "sts.example:8080",
            &mut headers,
            &payload,
            at(),
        )
        .unwrap();
    (headers, payload)
}

fn rules(regions: &[&str]) -> Rules {
    Rules {
        regions: regions.iter().map(|r| (*r).to_owned()).collect(),
        skew: MAX_SKEW,
        presigned_actions: Vec::new(),
    }
}

/// Signs a request with exactly these headers, all of which it must have.
fn signed_by_hand(headers: &mut HeaderMap, names: &[&str], payload: &[u8; 32], date: &str) {
    let canonical = canonical_request(
        "POST",
        "/",
        &[],
        headers,
        "sts.example:8080",
        &names.join(";"),
        &hex(payload),
    )
    .unwrap();
    let (day, region) = (&date[..8], "us-east-1");
    let text = string_to_sign(date, day, region, "sts", &canonical);
    let signature = hex(hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &*signing_key(SECRET, day, region, "sts")),
        text.as_bytes(),
    )
    .as_ref());
    let header = format!(
        "{ALGORITHM} Credential=AKIDEXAMPLEEXAMPLE00/{day}/{region}/sts/aws4_request,SignedHeaders={},Signature={signature}",
        names.join(";")
    );
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
}

fn at() -> Timestamp {
    Timestamp::from_amz("20261124T010203Z").unwrap()
}

fn check(headers: &HeaderMap, payload: [u8; 32], host: &str) -> Result<(), SigError> {
    let incoming = Incoming {
        method: "POST",
        path: "/",
        query: &[],
        headers,
        host,
        payload_sha256: payload,
    };
    Presented::read(&incoming)?
        .ok_or_else(|| incomplete("nothing"))?
        .verify(SECRET)
}

#[test]
fn sv_01_what_is_acted_on_is_signed_derived_or_compared() {
    let (mut headers, payload) = signed(b"Action=GetCallerIdentity");
    check(&headers, payload, "sts.example:8080").unwrap();
    assert!(
        check(&headers, payload, "sts.example:8081").is_err(),
        "host"
    );
    // Dropped or altered after it was signed, whichever it is.
    for name in ["x-amz-date", "x-amz-security-token", "content-type"] {
        let mut altered = headers.clone();
        altered.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static("20261124T010204Z"),
        );
        assert!(
            check(&altered, payload, "sts.example:8080").is_err(),
            "{name} altered"
        );
        altered.remove(name);
        assert!(
            check(&altered, payload, "sts.example:8080").is_err(),
            "{name} dropped"
        );
    }
    let mut twice = headers.clone();
    twice.append("x-amz-date", HeaderValue::from_static("20261124T010203Z"));
    assert!(matches!(
        check(&twice, payload, "sts.example:8080"),
        Err(SigError::Incomplete(_))
    ));
    // Headers added after signing are refused if the broker acts on them, and otherwise ignored.
    for (name, refused) in [
        ("x-brevet-extra", true),
        ("x-amz-extra", false),
        ("x-amz-cf-id", false),
        ("date", false),
    ] {
        let mut added = headers.clone();
        added.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        added.append(HeaderName::from_static(name), HeaderValue::from_static("2"));
        assert_eq!(
            check(&added, payload, "sts.example:8080").is_err(),
            refused,
            "{name} added"
        );
    }
    headers.remove("x-amz-security-token");
    for names in [
        &["host"][..],
        &["host", "x-amz-date"],
        &["content-type", "host"],
    ] {
        signed_by_hand(&mut headers, names, &payload, "20261124T010203Z");
        check(&headers, payload, "sts.example:8080").unwrap_or_else(|e| panic!("{names:?}: {e}"));
    }
    signed_by_hand(&mut headers, &["x-amz-date"], &payload, "20261124T010203Z");
    assert!(
        check(&headers, payload, "sts.example:8080").is_err(),
        "host unsigned"
    );
    for name in ["x-amz-security-token", "x-brevet-extra"] {
        let mut headers = headers.clone();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static("a-token"),
        );
        signed_by_hand(
            &mut headers,
            &["host", "x-amz-date"],
            &payload,
            "20261124T010203Z",
        );
        assert!(
            check(&headers, payload, "sts.example:8080").is_err(),
            "{name} unsigned"
        );
        signed_by_hand(&mut headers, &["host", name], &payload, "20261124T010203Z");
        check(&headers, payload, "sts.example:8080").unwrap();
    }
}

#[test]
fn sv_01_a_date_that_is_no_signed_header_is_in_the_signature_all_the_same() {
    let payload = sha256(b"");
    for (name, sent) in [
        ("x-amz-date", "20261124T010203Z"),
        ("date", "Tue, 24 Nov 2026 01:02:03 GMT"),
        ("date", "20261124T010203Z"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(sent),
        );
        signed_by_hand(&mut headers, &["host"], &payload, "20261124T010203Z");
        check(&headers, payload, "sts.example:8080").unwrap();
        for other in [
            "20261124T010204Z",
            "Tue, 24 Nov 2026 01:02:04 GMT",
            "24 Nov 2026",
            "",
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(other),
            );
            assert!(
                check(&headers, payload, "sts.example:8080").is_err(),
                "{name}: {other}"
            );
        }
        headers.remove(name);
        assert!(
            check(&headers, payload, "sts.example:8080").is_err(),
            "no date"
        );
    }
    // If both are present, AWS's own header is used.
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-date", HeaderValue::from_static("20261124T010203Z"));
    headers.insert(
        "date",
        HeaderValue::from_static("Tue, 24 Nov 2026 09:09:09 GMT"),
    );
    signed_by_hand(
        &mut headers,
        &["date", "host"],
        &payload,
        "20261124T010203Z",
    );
    check(&headers, payload, "sts.example:8080").unwrap();
}

#[test]
fn sv_04_the_payload_is_what_was_signed() {
    let (mut headers, payload) = signed(b"Action=GetCallerIdentity");
    assert!(check(&headers, sha256(b"Action=AssumeRole"), "sts.example:8080").is_err());
    let right = hex(&payload);
    headers.insert(
        "x-amz-content-sha256",
        HeaderValue::from_str(&right).unwrap(),
    );
    check(&headers, payload, "sts.example:8080").unwrap();
    headers.append(
        "x-amz-content-sha256",
        HeaderValue::from_str(&right).unwrap(),
    );
    assert!(
        check(&headers, payload, "sts.example:8080").is_err(),
        "twice"
    );
    for wrong in [
        "",
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        &right.to_uppercase(),
        &hex(&sha256(b"x")),
    ] {
        headers.insert(
            "x-amz-content-sha256",
            HeaderValue::from_str(wrong).unwrap(),
        );
        assert!(
            check(&headers, payload, "sts.example:8080").is_err(),
            "{wrong}, unsigned"
        );
        let names = [
            "host",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amz-security-token",
        ];
        let mut signed = headers.clone();
        signed_by_hand(&mut signed, &names, &payload, "20261124T010203Z");
        assert!(
            check(&signed, payload, "sts.example:8080").is_err(),
            "{wrong}, signed"
        );
    }
}

#[test]
fn sv_07_the_scope_is_exact() {
    let (headers, payload) = signed(b"");
    let auth = headers[AUTHORIZATION].to_str().unwrap().to_owned();
    let rules = rules(&["us-east-1"]);
    let with = |auth: &str| {
        let mut headers = headers.clone();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(auth).unwrap());
        let incoming = Incoming {
            method: "POST",
            path: "/",
            query: &[],
            headers: &headers,
            host: "sts.example:8080",
            payload_sha256: payload,
        };
        let presented = Presented::read(&incoming)?.unwrap();
        presented.check_scope(at(), &rules, "sts")?;
        presented.verify(SECRET)
    };
    with(&auth).unwrap();
    for (from, to) in [
        ("/20261124/", "/20261123/"),
        ("us-east-1", "us-east-2"),
        ("us-east-1", "US-EAST-1"),
        ("/sts/", "/iam/"),
        ("/sts/", "/STS/"),
        ("aws4_request", "aws4_Request"),
        ("AKIDEXAMPLEEXAMPLE00/", "AKIDEXAMPLEEXAMPLE00//"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
    ] {
        assert!(with(&auth.replace(from, to)).is_err(), "{from} -> {to}");
    }
}

#[test]
fn sv_08_window_dates_and_signature_forms() {
    let (headers, payload) = signed(b"");
    let incoming = Incoming {
        method: "POST",
        path: "/",
        query: &[],
        headers: &headers,
        host: "sts.example:8080",
        payload_sha256: payload,
    };
    let presented = Presented::read(&incoming).unwrap().unwrap();
    let rules = rules(&["us-east-1"]);
    let near = |seconds: i64| {
        presented.check_scope(
            Timestamp::from_seconds(at().seconds() + seconds),
            &rules,
            "sts",
        )
    };
    assert!(near(-900).is_ok() && near(899).is_ok() && near(900).is_ok());
    assert!(
        matches!(near(901), Err(SigError::Expired(_)))
            && matches!(near(-901), Err(SigError::Expired(_)))
    );

    let auth = headers[AUTHORIZATION].to_str().unwrap();
    let signature = auth.split("Signature=").nth(1).unwrap();
    for bad in [
        "",
        "0",
        &"0".repeat(64),
        &signature.to_uppercase(),
        &signature[..63],
        &format!("{signature}0"),
    ] {
        let mut altered = headers.clone();
        altered.insert(
            AUTHORIZATION,
            HeaderValue::from_str(&auth.replace(signature, bad)).unwrap(),
        );
        assert!(
            check(&altered, payload, "sts.example:8080").is_err(),
            "{bad}"
        );
    }
}

#[test]
fn sv_07_any_region_is_still_a_region() {
    let incoming = |headers: &HeaderMap| {
        let (method, path, host) = ("POST", "/", "sts.example:8080");
        let incoming = Incoming {
            method,
            path,
            query: &[],
            headers,
            host,
            payload_sha256: sha256(b""),
        };
        Presented::read(&incoming).unwrap().unwrap()
    };
    let scoped = |region: &str, service: &str, regions: &[&str]| {
        let mut headers = HeaderMap::new();
        let secret_access_key = SECRET;
        let access_key_id = "AKIDEXAMPLEEXAMPLE00";
        let signer = Signer {
            access_key_id,
            secret_access_key,
            session_token: None,
            region,
            service,
        };
        signer
            .sign(
                "POST",
                "/",
                "sts.example:8080",
                &mut headers,
                &sha256(b""),
                at(),
            )
            .unwrap();
        let presented = incoming(&headers);
        presented.check_scope(at(), &rules(regions), "sts").is_ok()
            && presented.verify(SECRET).is_ok()
    };
    assert!(
        scoped("eu-north-1", "sts", &["*"]) && scoped("eu-north-1", "sts", &["us-east-1", "*"])
    );
    assert!(!scoped("eu-north-1", "sts", &["us-east-1"]) && !scoped("eu-north-1", "iam", &["*"]));
    for odd in ["", "EU-NORTH-1", "*", "eu_north", &"a".repeat(65)] {
        assert!(!scoped(odd, "sts", &["*"]), "{odd}");
    }
}

/// Returns a presigned request of AWS's test suite with other parameters, signed again.
fn presigned(change: impl Fn(&mut Vec<(String, String)>)) -> Sent {
    let mut sent = Sent::read(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/sigv4/get-vanilla-query/query-signed-request.txt"
    )));
    change(&mut sent.query);
    // Signed again, because the test is about whether the parameters are accepted, not whether they
    // were altered.
    let get = |name: &str| {
        sent.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
            .unwrap_or_default()
    };
    let (date, credential) = (get("X-Amz-Date"), get("X-Amz-Credential"));
    let scope: Vec<&str> = credential.split('/').collect();
    if let [_, day, region, service, _] = scope[..] {
        let canonical = canonical_request(
            "GET",
            &sent.path,
            &sent.query,
            &sent.headers,
            &sent.host,
            "host",
            &hex(&sha256(b"")),
        );
        let text = string_to_sign(&date, day, region, service, &canonical.unwrap());
        let signature = hex(hmac::sign(
            &hmac::Key::new(
                hmac::HMAC_SHA256,
                &*signing_key(SECRET, day, region, service),
            ),
            text.as_bytes(),
        )
        .as_ref());
        for (_, value) in sent
            .query
            .iter_mut()
            .filter(|(name, _)| name == "X-Amz-Signature")
        {
            value.clone_from(&signature);
        }
    }
    sent
}

#[test]
fn sv_08_a_presigned_request_is_good_for_fifteen_minutes_whatever_it_says() {
    let expires = |value: Option<&str>| {
        presigned(|query| {
            query.retain(|(name, _)| name != "X-Amz-Expires");
            query.extend(value.map(|v| ("X-Amz-Expires".to_owned(), v.to_owned())));
        })
    };
    for value in [
        None,
        Some("0"),
        Some("-1"),
        Some("60"),
        Some("604800"),
        Some("604801"),
        Some("text"),
        Some(""),
    ] {
        let presented = expires(value).presented().unwrap();
        presented.verify(SECRET).unwrap();
        assert!(presented.is_presigned());
        for skew in [900, 60] {
            let rules = Rules {
                skew: Duration::from_secs(skew),
                ..rules(&["us-east-1"])
            };
            let signed_at = presented.unverified_date().seconds();
            let at = |seconds: i64| {
                presented
                    .check_scope(
                        Timestamp::from_seconds(signed_at + seconds),
                        &rules,
                        "service",
                    )
                    .is_ok()
            };
            let early = i64::try_from(skew).unwrap();
            assert!(
                at(0) && at(61) && at(900) && !at(901) && at(-early) && !at(-early - 1),
                "{value:?}"
            );
        }
    }
}

#[test]
fn sv_03_a_presigned_request_has_each_part_once_and_as_it_is_spelled() {
    presigned(|_| {})
        .presented()
        .unwrap()
        .verify(SECRET)
        .unwrap();
    // Additions of SDKs, and parameters of the action.
    presigned(|query| {
        query.extend([
            ("x-amz-user-agent".into(), "js".into()),
            ("X-Amz-Other".into(), "1".into()),
        ])
    })
    .presented()
    .unwrap()
    .verify(SECRET)
    .unwrap();
    for name in PROOF_PARAMETERS {
        let add = |name: String| {
            presigned(|query| query.push((name.clone(), "1".to_owned()))).presented()
        };
        for twin in [(*name).to_owned(), name.to_lowercase(), name.to_uppercase()] {
            // There was no token, so it is complete by itself except for its spelling.
            let alone = *name == "X-Amz-Security-Token" && twin == *name;
            assert_eq!(add(twin.clone()).is_ok(), alone, "{twin}");
        }
        let renamed = presigned(|query| {
            for (n, _) in query.iter_mut().filter(|(n, _)| n == name) {
                *n = n.to_lowercase();
            }
        });
        let optional = ["X-Amz-Security-Token"].contains(name);
        assert_eq!(
            renamed.presented().is_ok(),
            optional,
            "{name} in lower case"
        );
    }
}

#[test]
fn sv_03_two_proofs_are_none() {
    let (headers, payload) = signed(b"");
    for name in PROOF_PARAMETERS
        .iter()
        .copied()
        .chain(["x-amz-security-token", "X-AMZ-SIGNATURE"])
    {
        let query = [(name.to_owned(), "x".to_owned())];
        let mut incoming = Incoming {
            method: "POST",
            path: "/",
            query: &query,
            headers: &headers,
            host: "sts.example:8080",
            payload_sha256: payload,
        };
        assert!(
            matches!(Presented::read(&incoming), Err(SigError::Incomplete(_))),
            "{name} beside a header"
        );
        let none = HeaderMap::new();
        incoming.headers = &none;
        assert!(
            matches!(Presented::read(&incoming), Err(SigError::Incomplete(_))),
            "{name} alone"
        );
    }
    // Parameters that are not part of the signature may accompany the header, and are signed like
    // any other.
    let query = [("x-amz-user-agent".to_owned(), "x".to_owned())];
    let (method, path, host) = ("POST", "/", "sts.example:8080");
    let incoming = Incoming {
        method,
        path,
        query: &query,
        headers: &headers,
        host,
        payload_sha256: payload,
    };
    assert!(
        Presented::read(&incoming)
            .unwrap()
            .unwrap()
            .verify(SECRET)
            .is_err()
    );
}

proptest::proptest! {
    #[test]
    fn no_header_makes_it_panic(auth in ".{0,120}", date in ".{0,20}") {
        let mut headers = HeaderMap::new();
        if let (Ok(auth), Ok(date)) = (HeaderValue::from_str(&format!("AWS4-HMAC-SHA256 {auth}")), HeaderValue::from_str(&date)) {
            headers.insert(AUTHORIZATION, auth);
            headers.insert("x-amz-date", date);
            proptest::prop_assert!(check(&headers, [0; 32], "h").is_err());
        }
    }
}
