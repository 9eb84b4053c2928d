use std::path::Path;

use http::{HeaderName, HeaderValue};

use super::*;

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Cases whose request this server never answers: it refuses what could be read in two ways.
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
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("host") {
                host = value.trim().to_owned();
            } else {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
            }
        }
        let decode = |t: &str| percent_encoding::percent_decode_str(t).decode_utf8().unwrap().into_owned();
        let pair = |p: &str| p.split_once('=').map_or((decode(p), String::new()), |(n, v)| (decode(n), decode(v)));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.split('&').filter(|p| !p.is_empty()).map(pair).collect(),
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
    for case in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_dir()) {
        let name = case.file_name().into_string().unwrap();
        for file in ["header-signed-request.txt", "query-signed-request.txt"] {
            let result = Sent::read(&case.path().join(file)).presented().and_then(|p| p.verify(SECRET).map(|()| p));
            match result {
                Ok(presented) => {
                    assert!(presented.verify(b"another secret").is_err(), "{name}/{file}");
                    agreed += 1;
                }
                Err(error) => assert!(
                    REFUSED.contains(&name.as_str()) || name == "get-header-key-duplicate",
                    "{name}/{file}: {error}"
                ),
            }
        }
    }
    assert!(agreed >= 40, "only {agreed} requests of the suite were verified");
}

fn signed(body: &[u8]) -> (HeaderMap, [u8; 32]) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let signer = Signer {
        access_key_id: "AKIDEXAMPLEEXAMPLE00",
        secret_access_key: SECRET,
        session_token: Some("a-token"),
        region: "us-east-1",
        service: "sts",
    };
    let payload = sha256(body);
    signer.sign("POST", "/", "sts.example:8080", &mut headers, &payload, at()).unwrap();
    (headers, payload)
}

fn at() -> Timestamp {
    Timestamp::from_amz("20261124T010203Z").unwrap()
}

fn check(headers: &HeaderMap, payload: [u8; 32], host: &str) -> Result<(), SigError> {
    let incoming = Incoming { method: "POST", path: "/", query: &[], headers, host, payload_sha256: payload };
    Presented::read(&incoming)?.ok_or_else(|| incomplete("nothing"))?.verify(SECRET)
}

#[test]
fn sv_01_everything_that_is_read_is_signed() {
    let (headers, payload) = signed(b"Action=GetCallerIdentity");
    check(&headers, payload, "sts.example:8080").unwrap();
    assert!(check(&headers, payload, "sts.example:8081").is_err(), "host");
    for name in ["x-amz-date", "x-amz-security-token", "content-type"] {
        let mut altered = headers.clone();
        altered.insert(HeaderName::from_static(name), HeaderValue::from_static("20261124T010204Z"));
        assert!(check(&altered, payload, "sts.example:8080").is_err(), "{name} altered");
        altered.remove(name);
        assert!(check(&altered, payload, "sts.example:8080").is_err(), "{name} dropped");
    }
    for name in ["x-amz-extra", "x-brevet-extra"] {
        let mut added = headers.clone();
        added.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        assert!(check(&added, payload, "sts.example:8080").is_err(), "{name} added");
    }
    let mut twice = headers.clone();
    twice.append("x-amz-date", HeaderValue::from_static("20261124T010203Z"));
    assert!(matches!(check(&twice, payload, "sts.example:8080"), Err(SigError::Incomplete(_))));
}

#[test]
fn sv_04_the_payload_is_what_was_signed() {
    let (mut headers, payload) = signed(b"Action=GetCallerIdentity");
    assert!(check(&headers, sha256(b"Action=AssumeRole"), "sts.example:8080").is_err());
    headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    assert!(check(&headers, payload, "sts.example:8080").is_err());
}

#[test]
fn sv_07_the_scope_is_exact() {
    let (headers, payload) = signed(b"");
    let auth = headers[AUTHORIZATION].to_str().unwrap().to_owned();
    let rules = Rules { regions: vec!["us-east-1".into()], skew: MAX_SKEW };
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
    let rules = Rules { regions: vec!["us-east-1".into()], skew: MAX_SKEW };
    let near = |seconds: i64| presented.check_scope(Timestamp::from_seconds(at().seconds() + seconds), &rules, "sts");
    assert!(near(-900).is_ok() && near(899).is_ok() && near(900).is_ok());
    assert!(matches!(near(901), Err(SigError::Expired(_))) && matches!(near(-901), Err(SigError::Expired(_))));

    let auth = headers[AUTHORIZATION].to_str().unwrap();
    let signature = auth.split("Signature=").nth(1).unwrap();
    for bad in ["", "0", &"0".repeat(64), &signature.to_uppercase(), &signature[..63], &format!("{signature}0")] {
        let mut altered = headers.clone();
        altered.insert(AUTHORIZATION, HeaderValue::from_str(&auth.replace(signature, bad)).unwrap());
        assert!(check(&altered, payload, "sts.example:8080").is_err(), "{bad}");
    }
}

#[test]
fn sv_08_presigned_expiry_is_bounded() {
    let sent = Sent::read(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/sigv4/get-vanilla-query/query-signed-request.txt"
    )));
    sent.presented().unwrap().verify(SECRET).unwrap();
    for bad in ["0", "-1", "604801", "text", "", "1e3", "+5"] {
        let query =
            sent.query.iter().map(|(n, v)| (n.clone(), if n == "X-Amz-Expires" { bad.to_owned() } else { v.clone() }));
        let sent = Sent {
            query: query.collect(),
            headers: sent.headers.clone(),
            ..Sent::read(Path::new(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/data/sigv4/get-vanilla-query/query-signed-request.txt"
            )))
        };
        assert!(sent.presented().is_err(), "{bad}");
    }
}

#[test]
fn sv_03_two_proofs_are_none() {
    let (headers, payload) = signed(b"");
    for name in ["X-Amz-Credential", "X-Amz-Signature", "x-amz-security-token"] {
        let query = [(name.to_owned(), "x".to_owned())];
        let mut incoming = Incoming {
            method: "POST",
            path: "/",
            query: &query,
            headers: &headers,
            host: "sts.example:8080",
            payload_sha256: payload,
        };
        assert!(matches!(Presented::read(&incoming), Err(SigError::Incomplete(_))), "{name} beside a header");
        let none = HeaderMap::new();
        incoming.headers = &none;
        assert!(matches!(Presented::read(&incoming), Err(SigError::Incomplete(_))), "{name} alone");
    }
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
