//! A decision that nobody asks to explain allocates nothing, calls take few allocations, a compiled
//! policy takes at most what it is weighed at, and no SAML response takes much. A binary of its own: the counter takes the
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
    const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 5 });
    const MOST_OF_HOSTILE: Duration =
        Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });

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

mod calls {
    //! How many allocations a call takes from its request to the last byte of its answer. The connection, and the
    //! thread that writes the audit log, are left out.

    use std::net::SocketAddr;
    use std::sync::Arc;

    use brevet::api::{SERVICE, sts::v1 as pb};
    use brevet::base::clock::{ManualClock, Timestamp};
    use brevet::base::digest::sha256;
    use brevet::base::entropy::SystemEntropy;
    use brevet::broker::Broker;
    use brevet::config::Config;
    use brevet::origin::Origin;
    use brevet::proof::sigv4::Signer;
    use brevet::server::{self, Running};
    use brevet::session::keyring::Keyring;
    use brevet::{files, grpc, keyring_file, query};
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Request};
    use http_body_util::{BodyExt, Full};
    use prost::Message;
    use tokio::runtime::Runtime;

    const ROLE: &str = "arn:aws:iam::111122223333:role/Open";
    const AGENT: &str =
        "aws-cli/2.34.0 md/awscrt#0.31.2 ua/2.1 os/linux#6.8.0 md/arch#x86_64 lang/python#3.14.2";

    /// A key, and the session token of a temporary one.
    struct Keys {
        id: String,
        secret: String,
        token: Option<String>,
    }

    struct Served {
        runtime: Runtime,
        running: Running,
        now: Timestamp,
        _dir: tempfile::TempDir,
    }

    impl Served {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let now = Timestamp::from_amz("20261124T120000Z").unwrap();
            let entropy = Arc::new(SystemEntropy::new());
            let directory = dir.path().join("directory.json");
            files::write_private(&directory, include_bytes!("data/directory.json")).unwrap();
            let keyring = Keyring::generate(&*entropy, now).unwrap();
            keyring_file::save(&keyring, &dir.path().join("keyring.json")).unwrap();
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let config = Config {
                operator: any,
                directory: Some(directory),
                ..Config::in_folder(dir.path(), any)
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let clock = Arc::new(ManualClock::new(now));
            let running = runtime
                .block_on(server::start(config, clock, entropy))
                .unwrap();
            Self {
                runtime,
                running,
                now,
                _dir: dir,
            }
        }

        fn broker(&self) -> &Arc<Broker> {
            &self.running.broker
        }

        fn headers(&self, path: &str, body: &[u8], keys: &Keys) -> HeaderMap {
            let mut headers = HeaderMap::new();
            headers.insert("user-agent", HeaderValue::from_static(AGENT));
            let signer = Signer {
                access_key_id: &keys.id,
                secret_access_key: keys.secret.as_bytes(),
                session_token: keys.token.as_deref(),
                region: "us-east-1",
                service: "sts",
            };
            let host = self.running.address.to_string();
            let signed = signer.sign("POST", path, &host, &mut headers, &sha256(body), self.now);
            signed.unwrap();
            headers
        }

        /// Makes a call several times, and counts the allocations of the one with the fewest: buffers that are
        /// kept grow at first. Returns the body of an answer, too.
        fn count(&self, call: impl Fn(Origin) -> (u64, Bytes)) -> (u64, Bytes) {
            let origin = || Origin {
                source_ip: [127, 0, 0, 1].into(),
                secure_transport: false,
                user_agent: Some(AGENT.to_owned()),
                referer: None,
                certificate: None,
                call: None,
            };
            let counts = (0..20).map(|_| call(origin()));
            counts.min_by_key(|(count, _)| *count).unwrap()
        }

        fn grpc(&self, method: &str, message: &impl Message, keys: &Keys) -> (u64, Bytes) {
            let path = format!("/{SERVICE}/{method}");
            let message = message.encode_to_vec();
            let mut framed = vec![0];
            framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            framed.extend_from_slice(&message);
            let mut headers = self.headers(&path, &message, keys);
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            let uri = format!("http://{}{path}", self.running.address);
            let (_stop, stop) = tokio::sync::watch::channel(false);
            self.count(|origin| {
                let mut request = Request::post(&uri)
                    .body(Full::new(Bytes::from(framed.clone())))
                    .unwrap();
                *request.headers_mut() = headers.clone();
                let mut answer = Bytes::new();
                let counted = allocation_counter::measure(|| {
                    self.runtime.block_on(async {
                        let response = grpc::serve(self.broker(), origin, &stop, request).await;
                        let body = response.into_body().collect().await.unwrap();
                        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
                        answer = body.to_bytes();
                    });
                });
                (counted.count_total, answer.slice(5..))
            })
        }

        fn query(&self, form: &str, keys: &Keys) -> (u64, Bytes) {
            let headers = self.headers("/", form.as_bytes(), keys);
            let host = HeaderValue::from_str(&self.running.address.to_string()).unwrap();
            self.count(|origin| {
                let mut request = Request::post("/")
                    .body(Full::new(Bytes::from(form.to_owned())))
                    .unwrap();
                *request.headers_mut() = headers.clone();
                request.headers_mut().insert("host", host.clone());
                let mut answer = Bytes::new();
                let counted = allocation_counter::measure(|| {
                    self.runtime.block_on(async {
                        let response = query::serve(self.broker(), origin, request).await;
                        assert_eq!(response.status(), 200);
                        answer = response.into_body().collect().await.unwrap().to_bytes();
                    });
                });
                (counted.count_total, answer)
            })
        }
    }

    #[test]
    fn calls_take_few_allocations() {
        let served = Served::start();
        let alice = Keys {
            id: "AKIATESTALICE0000001".to_owned(),
            secret: "canary+secret/of/alice/0123456789abcdefgh".to_owned(),
            token: None,
        };
        let asked = pb::AssumeRoleRequest {
            role_arn: ROLE.to_owned(),
            role_session_name: "count".to_owned(),
            ..pb::AssumeRoleRequest::default()
        };
        let (assume, answer) = served.grpc("AssumeRole", &asked, &alice);
        let issued = pb::AssumeRoleResponse::decode(answer).unwrap();
        let issued = issued.credentials.unwrap();
        let session = Keys {
            id: issued.access_key_id,
            secret: issued.secret_access_key,
            token: Some(issued.session_token),
        };
        let form =
            format!("Action=AssumeRole&Version=2011-06-15&RoleArn={ROLE}&RoleSessionName=count");
        let (by_query, _) = served.query(&form, &alice);
        let who = pb::GetCallerIdentityRequest {};
        let (identity, _) = served.grpc("GetCallerIdentity", &who, &session);
        let form = "Action=GetCallerIdentity&Version=2011-06-15";
        let (identity_by_query, _) = served.query(form, &session);
        let counts = [assume, by_query, identity, identity_by_query];
        println!("{counts:?}");
        let most = [59, 71, 21, 29];
        assert!(
            counts.iter().zip(most).all(|(count, most)| *count <= most),
            "{counts:?}, and at most {most:?}"
        );
    }
}
