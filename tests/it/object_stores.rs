//! Requests to object stores, decided by a running broker. What a proxy would send is signed here, and
//! what it would make of the answer is checked as the store would check it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use brevet::base::arn::AccountId;
use brevet::base::clock::{Clock, Timestamp};
use brevet::base::digest::{hex, sha256};
use brevet::base::secret::Secret;
use brevet::budgets::BudgetLimits;
use brevet::client::AssumeRole;
use brevet::ops::s3::decide::{Decision, decide};
use brevet::origin::Origin;
use brevet::proof::sigv4::S3Presented;
use brevet::proof::sigv4::SigningSecret;
use brevet::proof::sigv4::s3::{S3Request, authorization};
use brevet::s3::{
    Bucket, DataEvents, Head, S3Store, StoreKey, StoreRules, Style, cors::CorsRule, route,
};
use serde_json::{Value, json};

use crate::harness::*;

const ACCOUNT: &str = "111122223333";
const PARTNER_ACCOUNT: &str = "444455556666";
const HOST: &str = "s3.example.com";
const STORE_SECRET: &str = "canary+secret/of/the+store0000000000000000";
const STORE_KEY: &str = "AKIASTORESTORESTORE0";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn document(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn allow(actions: Value, resources: Value) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resources})
}

fn key_of(name: &str) -> Keys {
    Keys {
        id: format!("AKIA{:0>16}", name.to_ascii_uppercase()),
        secret: format!("canary+secret/of/{name:0>23}"),
        token: None,
    }
}

fn user_entry(account: &str, name: &str, statements: &[Value]) -> Value {
    let policies: Vec<Value> = (!statements.is_empty())
        .then(|| json!({"PolicyName": "own", "PolicyDocument": document(statements)}))
        .into_iter()
        .collect();
    json!({"UserName": name, "Arn": format!("arn:aws:iam::{account}:user/{name}"), "UserPolicyList": policies})
}

/// The statements of a bucket's policy, by the bucket's name and the account that made it.
fn policy(bucket: &str, account: &str, statements: &[Value]) -> Value {
    json!({"Bucket": bucket, "AccountId": account, "Policy": document(statements)})
}

fn granted(principal: Value, action: &str, resource: &str) -> Value {
    json!({"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource})
}

fn directory() -> Value {
    let on = |what: &str| json!(format!("arn:aws:s3:::{what}"));
    let tagged = json!({"StringEquals": {"s3:ExistingObjectTag/team": "blue"}});
    let listing = json!({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": on("data"),
        "Condition": {"StringLike": {"s3:prefix": ["home/*"]}}});
    let users = [
        user_entry(
            ACCOUNT,
            "owner",
            &[allow(json!(["s3:*", "sts:*", "brevet:*"]), json!("*"))],
        ),
        user_entry(
            ACCOUNT,
            "alice",
            &[
                allow(
                    json!(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]),
                    on("data/home/*"),
                ),
                listing,
                json!({"Effect": "Deny", "Action": "s3:*", "Resource": on("data/home/secret")}),
            ],
        ),
        user_entry(
            ACCOUNT,
            "tags",
            &[
                json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": on("data/*"), "Condition": tagged}),
                json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": on("data/${s3:ExistingObjectTag/x, 'free'}/*")}),
            ],
        ),
        user_entry(
            ACCOUNT,
            "denied",
            &[
                allow(json!("s3:*"), json!("*")),
                json!({"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*", "Condition": tagged}),
            ],
        ),
        user_entry(ACCOUNT, "nobody", &[]),
        user_entry(
            PARTNER_ACCOUNT,
            "partner",
            &[allow(json!("s3:GetObject"), on("data/*"))],
        ),
        user_entry(PARTNER_ACCOUNT, "bare", &[]),
    ];
    let partner =
        |name: &str| json!({"AWS": format!("arn:aws:iam::{PARTNER_ACCOUNT}:user/{name}")});
    let local = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:user/nobody")});
    let buckets = [
        policy(
            "data",
            ACCOUNT,
            &[
                granted(json!("*"), "s3:GetObject", "arn:aws:s3:::data/public/*"),
                granted(
                    partner("partner"),
                    "s3:GetObject",
                    "arn:aws:s3:::data/shared/*",
                ),
                granted(
                    partner("bare"),
                    "s3:GetObject",
                    "arn:aws:s3:::data/shared/*",
                ),
                granted(local, "s3:GetObject", "arn:aws:s3:::data/local/*"),
                json!({"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::data/public/closed"}),
            ],
        ),
        // Made by an account that does not own the bucket.
        policy(
            "other",
            PARTNER_ACCOUNT,
            &[granted(json!("*"), "s3:GetObject", "arn:aws:s3:::other/*")],
        ),
    ];
    let names = [
        "owner", "alice", "tags", "denied", "nobody", "partner", "bare",
    ];
    let keys = names.map(|name| {
        let account = if ["partner", "bare"].contains(&name) { PARTNER_ACCOUNT } else { ACCOUNT };
        let keys = key_of(name);
        json!({"AccessKeyId": keys.id, "SecretAccessKey": keys.secret, "UserArn": format!("arn:aws:iam::{account}:user/{name}")})
    });
    let role = json!({"RoleName": "Worker", "Arn": format!("arn:aws:iam::{ACCOUNT}:role/Worker"),
        "AssumeRolePolicyDocument": document(&[json!({"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"})]),
        "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": document(&[allow(json!(["s3:*", "sts:GetScopedCredentials"]), json!("*"))])}]});
    json!({"UserDetailList": users, "RoleDetailList": [role], "Brevet": {"AccessKeys": keys, "BucketPolicies": buckets}})
}

fn store(data_events: DataEvents) -> S3Store {
    let rules = StoreRules {
        style: Style::Path,
        names: vec![HOST.into()],
        keeps_slashes: false,
        takes_trailers: true,
        region: "us-east-1".into(),
    };
    let key = StoreKey {
        access_key_id: STORE_KEY.into(),
        secret: SigningSecret::new(Secret::new(STORE_SECRET.into())),
    };
    let cors = vec![CorsRule {
        allowed_origins: vec!["https://app.example.com".into()],
        allowed_methods: vec!["PUT".into()],
        allowed_headers: vec!["*".into()],
        max_age_seconds: None,
    }];
    let bucket = |account: &str| Bucket {
        account: AccountId::parse(account).unwrap(),
        cors: cors.clone(),
    };
    let buckets = ["data", "other", "logs"].map(|name| (name.to_owned(), bucket(ACCOUNT)));
    S3Store {
        buckets: HashMap::from(buckets),
        data_events,
        ..S3Store::new("main".into(), rules, "store.internal:8333".into(), key)
    }
}

/// A broker with a store.
struct World {
    broker: Broker,
    store: S3Store,
}

/// A request before it is signed.
struct Asked<'a> {
    line: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Option<&'a [u8]>,
}

fn asked(line: &str) -> Asked<'_> {
    Asked {
        line,
        headers: Vec::new(),
        body: None,
    }
}

impl<'a> Asked<'a> {
    fn with(mut self, headers: &[(&'a str, &'a str)]) -> Self {
        self.headers.extend(headers);
        self
    }

    fn body(self, body: &'a [u8]) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// All headers of the request, signed at this time.
    fn signed(&self, keys: &Keys, at: Timestamp) -> Vec<(String, String)> {
        let (method, path) = self.line.split_once(' ').unwrap();
        let payload = self
            .body
            .map_or(EMPTY.to_owned(), |body| hex(&sha256(body)));
        let date = at.to_amz();
        let mut headers = self.headers.clone();
        headers.push(("x-amz-date", &date));
        if !headers
            .iter()
            .any(|(name, _)| *name == "x-amz-content-sha256")
        {
            headers.push(("x-amz-content-sha256", &payload));
        }
        if let Some(token) = &keys.token {
            headers.push(("x-amz-security-token", token));
        }
        let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        let mut sent: Vec<(String, String)> = headers.iter().map(owned).collect();
        let declared = headers
            .iter()
            .find(|(name, _)| *name == "x-amz-content-sha256")
            .unwrap()
            .1;
        headers.push(("host", HOST));
        headers.sort_unstable();
        let secret = SigningSecret::new(Secret::new(keys.secret.clone()));
        let (path, query) = parts(path);
        let request = S3Request {
            method,
            path: &path,
            query: &query,
            headers: &sent,
            host: HOST,
        };
        let signer = (keys.id.as_str(), &secret);
        let value = authorization(
            signer,
            "us-east-1",
            at,
            &request,
            |_| false,
            &headers,
            declared,
        );
        sent.push(("authorization".to_owned(), value));
        sent
    }
}

fn decoded(text: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.unwrap().into_owned()
}

/// The decoded path and query.
fn parts(path: &str) -> (String, Vec<(&str, Cow<'_, str>)>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, decoded(value).into())
    });
    (decoded(path), pairs.collect())
}

/// What became of a request, in one word: `ok`, or S3's code.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow { .. } => "ok",
        Decision::Preflight(_) => "preflight",
        Decision::Refuse(refusal) => refusal.code.as_str(),
    }
}

impl World {
    async fn start() -> Self {
        Self::start_with(directory(), DataEvents::All).await
    }

    async fn start_with(directory: Value, data_events: DataEvents) -> Self {
        Self::start_within(directory, data_events, BudgetLimits::OFF).await
    }

    async fn start_within(
        directory: Value,
        data_events: DataEvents,
        budgets: BudgetLimits,
    ) -> Self {
        let dir = home();
        let path = dir.path().join("directory.json");
        brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
        Self {
            broker: Broker::start_in(dir, |config| config.budgets = budgets).await,
            store: store(data_events),
        }
    }

    fn now(&self) -> Timestamp {
        self.broker.clock.now()
    }

    async fn decide(
        &self,
        line: &str,
        headers: &[(String, String)],
        body: Option<&[u8]>,
    ) -> Decision {
        let (method, path) = line.split_once(' ').unwrap();
        let head = Head {
            method,
            path,
            authority: HOST,
            headers,
            body,
            size: body.map(|body| u64::try_from(body.len()).unwrap()),
        };
        let broker: &Arc<brevet::broker::Broker> = &self.broker.running.as_ref().unwrap().broker;
        let origin = Origin {
            source_ip: [192, 0, 2, 7].into(),
            secure_transport: true,
            user_agent: Some("a-client".into()),
            referer: None,
            certificate: None,
            call: None,
        };
        decide(broker, &self.store, head, origin).await
    }

    /// Asks with these credentials, or without any.
    async fn ask(&self, keys: Option<&Keys>, asked: Asked<'_>) -> Decision {
        let headers = match keys {
            Some(keys) => asked.signed(keys, self.now()),
            None => {
                let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
                asked.headers.iter().map(owned).collect()
            }
        };
        let decision = self.decide(asked.line, &headers, asked.body).await;
        if let Decision::Allow { .. } = &decision {
            self.store_accepts(asked.line, &headers, &decision);
        }
        decision
    }

    /// Checks that the changed head is one that the store accepts, and that it is still the same request.
    fn store_accepts(&self, line: &str, headers: &[(String, String)], decision: &Decision) {
        let Decision::Allow {
            set,
            remove_headers,
            remove_query,
            host,
            ..
        } = decision
        else {
            panic!("not allowed");
        };
        let (method, path) = line.split_once(' ').unwrap();
        let mut changed: Vec<(String, String)> = headers.to_vec();
        changed.retain(|(n, _)| !remove_headers.contains(n) && set.iter().all(|(s, _)| s != n));
        changed.extend(
            set.iter()
                .map(|(n, v)| ((*n).to_owned(), v.expose().clone())),
        );
        let (path, mut query) = parts(path);
        query.retain(|(name, _)| !remove_query.iter().any(|removed| removed == name));
        let request = S3Request {
            method,
            path: &path,
            query: &query,
            headers: &changed,
            host,
        };
        let read = S3Presented::read(&request).unwrap().unwrap();
        assert_eq!(read.presented.unverified_access_key_id(), STORE_KEY);
        assert!(read.presented.unverified_session_token().is_none());
        read.presented.verify(STORE_SECRET.as_bytes()).unwrap();
    }

    /// Asks as a user. Returns `ok`, or S3's code.
    async fn by(&self, user: &str, line: &str) -> &'static str {
        word(&self.ask(Some(&key_of(user)), asked(line)).await)
    }

    async fn by_nobody(&self, line: &str) -> &'static str {
        word(&self.ask(None, asked(line)).await)
    }

    async fn session(&self, session_policy: Option<&Value>) -> Keys {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/Worker");
        let request = AssumeRole {
            policy: session_policy.map(Value::to_string),
            ..AssumeRole::new(&role, "job")
        };
        let client = self.broker.client(&key_of("owner"));
        Keys::from(&client.assume_role(&request).await.unwrap().credentials)
    }
}

#[tokio::test]
async fn az_02_identity_policies_and_the_policy_of_the_bucket_decide_together() {
    let world = World::start().await;
    for (user, line, expected) in [
        ("owner", "GET /data/anything", "ok"),
        ("owner", "GET /", "ok"),
        ("alice", "GET /data/home/a%20b", "ok"),
        ("alice", "PUT /data/home/x", "ok"),
        ("alice", "POST /data/home/x?uploads", "ok"),
        ("alice", "GET /data/other", "AccessDenied"),
        ("alice", "GET /data/home/secret", "AccessDenied"),
        ("alice", "GET /data/home/secret/", "AccessDenied"),
        ("alice", "GET /data/home//secret", "InvalidURI"),
        ("alice", "GET /data/home/%73ecret", "AccessDenied"),
        ("alice", "DELETE /data/home/x?versionId=1", "AccessDenied"),
        ("alice", "GET /data?prefix=home%2Fx", "ok"),
        ("alice", "GET /data?list-type=2&prefix=home/", "ok"),
        ("alice", "GET /data?prefix=", "AccessDenied"),
        ("alice", "GET /data", "AccessDenied"),
        ("alice", "GET /data?delimiter=%2F", "AccessDenied"),
        (
            "alice",
            "GET /data?list-type=2&prefix=other&continuation-token=home%2Fx",
            "AccessDenied",
        ),
        ("alice", "HEAD /data", "AccessDenied"),
        ("alice", "GET /", "AccessDenied"),
        // The policy of the bucket: within the account it suffices, from another account both must allow.
        ("nobody", "GET /data/local/x", "ok"),
        ("nobody", "GET /data/shared/x", "AccessDenied"),
        ("partner", "GET /data/shared/x", "ok"),
        ("partner", "GET /data/home/x", "AccessDenied"),
        ("bare", "GET /data/shared/x", "AccessDenied"),
        ("nobody", "GET /data/public/x", "ok"),
        ("owner", "GET /data/public/closed", "AccessDenied"),
        // A policy that another account made for the bucket has no say.
        ("nobody", "GET /other/x", "AccessDenied"),
        // Buckets that the configuration does not list.
        ("owner", "GET /unlisted/x", "AccessDenied"),
        ("owner", "PUT /unlisted", "AccessDenied"),
    ] {
        assert_eq!(world.by(user, line).await, expected, "{user} {line}");
    }
    for (line, expected) in [
        ("GET /data/public/x", "ok"),
        ("HEAD /data/public/x", "ok"),
        ("GET /data/public/x?versionId=1", "AccessDenied"),
        ("GET /data/public/closed", "AccessDenied"),
        ("GET /data/home/x", "AccessDenied"),
        ("PUT /data/public/x", "AccessDenied"),
        ("GET /data?prefix=public", "AccessDenied"),
        ("GET /other/x", "AccessDenied"),
        ("GET /unlisted/x", "AccessDenied"),
        ("GET /", "AccessDenied"),
        (
            "GET /data/public/x?response-content-type=text%2Fhtml",
            "InvalidRequest",
        ),
    ] {
        assert_eq!(world.by_nobody(line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn az_01_a_key_that_only_the_store_knows_never_allows_and_denies() {
    let world = World::start().await;
    for (user, line, expected) in [
        ("tags", "GET /data/x", "AccessDenied"),
        ("tags", "GET /data/free/x", "AccessDenied"),
        ("denied", "GET /data/x", "AccessDenied"),
        ("denied", "PUT /data/x", "ok"),
        ("denied", "GET /data?prefix=x", "ok"),
    ] {
        assert_eq!(world.by(user, line).await, expected, "{user} {line}");
    }
}

#[tokio::test]
async fn os_02_a_copy_needs_both_ends_in_listed_buckets() {
    let world = World::start().await;
    let copy = async |user: &str, source: &str, directive: &str| {
        let headers = [
            ("x-amz-copy-source", source),
            ("x-amz-tagging-directive", directive),
        ];
        word(
            &world
                .ask(
                    Some(&key_of(user)),
                    asked("PUT /data/home/x").with(&headers),
                )
                .await,
        )
    };
    assert_eq!(copy("alice", "data/home/y", "REPLACE").await, "ok");
    assert_eq!(copy("alice", "data/home/y", "COPY").await, "AccessDenied");
    assert_eq!(
        copy("alice", "data/secret/y", "REPLACE").await,
        "AccessDenied"
    );
    assert_eq!(
        copy("alice", "data/home/secret", "REPLACE").await,
        "AccessDenied"
    );
    assert_eq!(copy("owner", "logs/x", "COPY").await, "ok");
    assert_eq!(copy("owner", "unlisted/x", "REPLACE").await, "AccessDenied");
    assert_eq!(
        copy("alice", "data/home/%2e%2e/secret", "REPLACE").await,
        "InvalidURI"
    );
    for (account, expected) in [(ACCOUNT, "ok"), (PARTNER_ACCOUNT, "AccessDenied")] {
        let owner = [("x-amz-expected-bucket-owner", account)];
        let decision = world
            .ask(Some(&key_of("owner")), asked("GET /data/x").with(&owner))
            .await;
        assert_eq!(word(&decision), expected, "{account}");
    }
}

#[tokio::test]
async fn os_03_one_forbidden_object_refuses_the_whole_list() {
    let world = World::start().await;
    let delete = async |user: &str, body: Option<&[u8]>| {
        let mut request = asked("POST /data?delete");
        if let Some(body) = body {
            request = request.body(body);
        }
        word(&world.ask(Some(&key_of(user)), request).await)
    };
    let own =
        b"<Delete><Object><Key>home/a</Key></Object><Object><Key>home/b</Key></Object></Delete>";
    let mixed = b"<Delete><Object><Key>home/a</Key></Object><Object><Key>home/secret</Key></Object></Delete>";
    assert_eq!(delete("alice", Some(own)).await, "ok");
    assert_eq!(delete("alice", Some(mixed)).await, "AccessDenied");
    assert_eq!(delete("owner", Some(mixed)).await, "ok");
    assert_eq!(delete("alice", Some(b"<Delete>")).await, "MalformedXML");
    assert_eq!(delete("alice", None).await, "NotImplemented");
    // Another body than the one that was signed.
    let headers = asked("POST /data?delete")
        .body(own)
        .signed(&key_of("owner"), world.now());
    let other = world
        .decide("POST /data?delete", &headers, Some(mixed))
        .await;
    assert_eq!(word(&other), "BadDigest");
}

#[tokio::test]
async fn an_02_az_03_tk_04_a_session_is_accepted_until_it_ends_or_is_revoked() {
    let world = World::start().await;
    let cut = document(&[allow(
        json!("s3:GetObject"),
        json!("arn:aws:s3:::data/home/*"),
    )]);
    let (whole, limited) = (world.session(None).await, world.session(Some(&cut)).await);
    let ask = async |keys: &Keys, line: &str| word(&world.ask(Some(keys), asked(line)).await);
    assert_eq!(ask(&whole, "GET /data/x").await, "ok");
    assert_eq!(ask(&limited, "GET /data/home/x").await, "ok");
    for line in ["GET /data/x", "PUT /data/home/x", "GET /data?prefix=home"] {
        assert_eq!(ask(&limited, line).await, "AccessDenied", "{line}");
    }
    // The policy of a bucket that lets everybody in lets in no session beyond its session policies.
    assert_eq!(world.by_nobody("GET /data/public/x").await, "ok");
    assert_eq!(ask(&whole, "GET /data/public/x").await, "ok");
    assert_eq!(ask(&limited, "GET /data/public/x").await, "AccessDenied");
    // The signature of another key, an altered token, an unknown key and a wrong secret.
    let mut swapped = whole.clone();
    swapped.token.clone_from(&limited.token);
    assert_eq!(ask(&swapped, "GET /data/x").await, "InvalidToken");
    let mut bare = whole.clone();
    bare.token = None;
    assert_eq!(ask(&bare, "GET /data/x").await, "InvalidAccessKeyId");
    let mut wrong = key_of("owner");
    wrong.secret.push('x');
    assert_eq!(ask(&wrong, "GET /data/x").await, "SignatureDoesNotMatch");
    // Revoked within a moment, and the other one at its end, to the second.
    let change = world
        .broker
        .revoke(&key_of("owner"), Selector::AccessKeyId(limited.id.clone()))
        .await;
    world.broker.reaches(change.unwrap()).await;
    assert_eq!(ask(&limited, "GET /data/home/x").await, "InvalidToken");
    assert_eq!(ask(&whole, "GET /data/x").await, "ok");
    world.broker.clock.advance(Duration::from_secs(3_599));
    assert_eq!(ask(&whole, "GET /data/x").await, "ok");
    world.broker.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&whole, "GET /data/x").await, "ExpiredToken");
}

#[tokio::test]
async fn az_10_no_policy_of_a_bucket_widens_a_narrowed_session() {
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/Worker/job");
    let mut directory = directory();
    let named = granted(json!({"AWS": session}), "s3:*", "arn:aws:s3:::data/*");
    let statements = &mut directory["Brevet"]["BucketPolicies"][0]["Policy"]["Statement"];
    statements.as_array_mut().unwrap().push(named);
    let world = World::start_with(directory, DataEvents::All).await;
    let whole = world.session(None).await;
    let narrow = async |keys: &Keys, actions: Value, on: &str| {
        let policy = document(&[allow(actions, json!(on))]).to_string();
        let client = world.broker.client(keys);
        let answer = client.get_scoped_credentials(Some(&policy), None, None);
        Keys::from(&answer.await.unwrap())
    };
    let both = json!(["s3:GetObject", "s3:PutObject", "sts:GetScopedCredentials"]);
    let first = narrow(&whole, both, "*").await;
    let home = narrow(&first, json!("s3:*"), "arn:aws:s3:::data/home/*").await;
    for (line, of_whole, of_first, of_home) in [
        ("GET /data/home/x", "ok", "ok", "ok"),
        ("PUT /data/home/x", "ok", "ok", "ok"),
        ("DELETE /data/home/x", "ok", "AccessDenied", "AccessDenied"),
        ("GET /data/x", "ok", "ok", "AccessDenied"),
        ("GET /data/public/x", "ok", "ok", "AccessDenied"),
        (
            "GET /data?prefix=home",
            "ok",
            "AccessDenied",
            "AccessDenied",
        ),
    ] {
        for (keys, expected) in [(&whole, of_whole), (&first, of_first), (&home, of_home)] {
            let decided = world.ask(Some(keys), asked(line)).await;
            assert_eq!(word(&decided), expected, "{line}");
        }
    }
}

#[tokio::test]
async fn sv_08_a_presigned_url_ends_with_its_session() {
    let world = World::start().await;
    let keys = world.session(None).await;
    let date = world.now().to_amz();
    let credential = format!("{}/{}/us-east-1/s3/aws4_request", keys.id, &date[..8]);
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let path = format!(
        "/data/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={date}&X-Amz-Expires=604800&X-Amz-Security-Token={}&X-Amz-SignedHeaders=host",
        encode(&credential),
        encode(keys.token.as_ref().unwrap()),
    );
    let secret = SigningSecret::new(Secret::new(keys.secret.clone()));
    let (decoded, query) = parts(&path);
    let request = S3Request {
        method: "GET",
        path: &decoded,
        query: &query,
        headers: &[],
        host: HOST,
    };
    let host = [("host", HOST)];
    let signer = (keys.id.as_str(), &secret);
    let value = authorization(
        signer,
        "us-east-1",
        world.now(),
        &request,
        |_| false,
        &host,
        "UNSIGNED-PAYLOAD",
    );
    let line = format!(
        "GET {path}&X-Amz-Signature={}",
        value.rsplit_once("Signature=").unwrap().1
    );
    let first = world.decide(&line, &[], None).await;
    assert_eq!(word(&first), "ok");
    world.store_accepts(&line, &[], &first);
    let Decision::Allow { remove_query, .. } = first else {
        panic!()
    };
    assert_eq!(remove_query.len(), 7);
    assert_eq!(
        word(
            &world
                .decide(&line.replacen("GET", "PUT", 1), &[], None)
                .await
        ),
        "SignatureDoesNotMatch"
    );
    assert_eq!(
        word(
            &world
                .decide(&line.replace("/data/x", "/data/y"), &[], None)
                .await
        ),
        "SignatureDoesNotMatch"
    );
    world.broker.clock.advance(Duration::from_secs(3_599));
    assert_eq!(word(&world.decide(&line, &[], None).await), "ok");
    world.broker.clock.advance(Duration::from_secs(1));
    assert_eq!(word(&world.decide(&line, &[], None).await), "ExpiredToken");
}

#[tokio::test]
async fn os_08_a_payload_that_cannot_be_passed_on_is_refused() {
    let mut world = World::start().await;
    let put = async |world: &World, headers: &[(&str, &str)]| {
        word(
            &world
                .ask(Some(&key_of("owner")), asked("PUT /data/x").with(headers))
                .await,
        )
    };
    let trailer = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("x-amz-decoded-content-length", "5"),
    ];
    assert_eq!(
        put(&world, &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]).await,
        "ok"
    );
    assert_eq!(put(&world, &trailer).await, "ok");
    for (headers, expected) in [
        (
            &[("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")][..],
            "NotImplemented",
        ),
        (
            &[(
                "x-amz-content-sha256",
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            )],
            "NotImplemented",
        ),
        (
            &[(
                "x-amz-content-sha256",
                "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            )],
            "NotImplemented",
        ),
        (&[("x-amz-content-sha256", "")], "InvalidArgument"),
        (&[("x-amz-content-sha256", "x")], "InvalidArgument"),
        (
            &[("content-encoding", "gzip, aws-chunked")],
            "InvalidRequest",
        ),
        (&[("x-amz-decoded-content-length", "5")], "InvalidRequest"),
        (&trailer[..1], "InvalidRequest"),
    ] {
        assert_eq!(put(&world, headers).await, expected, "{headers:?}");
    }
    world.store.rules.takes_trailers = false;
    assert_eq!(put(&world, &trailer).await, "NotImplemented");
}

#[tokio::test]
async fn os_11_a_preflight_request_is_answered_from_the_configuration() {
    let world = World::start().await;
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    };
    let preflight = owned(&[
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization,x-amz-date"),
    ]);
    assert_eq!(
        word(&world.decide("OPTIONS /data/x", &preflight, None).await),
        "preflight"
    );
    let elsewhere = owned(&[
        ("origin", "https://evil.test"),
        ("access-control-request-method", "PUT"),
    ]);
    for (path, headers) in [
        ("/data/x", &elsewhere),
        ("/unlisted/x", &preflight),
        ("/", &preflight),
        ("/data/x", &Vec::new()),
    ] {
        let decision = world
            .decide(&format!("OPTIONS {path}"), headers, None)
            .await;
        assert_eq!(word(&decision), "AccessDenied", "{path}");
    }
    // Credentials make no difference.
    let signed = asked("OPTIONS /data/x").signed(&key_of("owner"), world.now());
    assert_eq!(
        word(&world.decide("OPTIONS /data/x", &signed, None).await),
        "AccessDenied"
    );
}

#[tokio::test]
async fn os_12_decisions_are_recorded_and_the_store_s_key_is_nowhere() {
    for events in [DataEvents::All, DataEvents::Refused] {
        let world = World::start_with(directory(), events).await;
        assert_eq!(world.by("alice", "GET /data/home/x").await, "ok");
        let refused = world
            .ask(
                Some(&key_of("alice")),
                asked("GET /data/home/secret?versionId=7"),
            )
            .await;
        let Decision::Refuse(refusal) = refused else {
            panic!()
        };
        let xml = refusal.xml();
        assert!(
            xml.contains("<Code>AccessDenied</Code>") && xml.contains(&refusal.request_id),
            "{xml}"
        );
        assert!(
            refusal
                .message
                .contains("s3:GetObjectVersion on resource: \"arn:aws:s3:::data/home/secret\"")
        );
        assert_eq!(world.by_nobody("GET /data/home/x").await, "AccessDenied");
        assert_eq!(world.by_nobody("GET /data//x").await, "InvalidURI");
        let records = world.broker.into_audit().await;
        let data: Vec<&Value> = records
            .iter()
            .filter(|r| r["eventCategory"] == "Data")
            .collect();
        let outcomes: Vec<(&str, Option<&str>)> = data
            .iter()
            .map(|r| (r["eventName"].as_str().unwrap(), r["errorCode"].as_str()))
            .collect();
        let denied = [
            ("GetObject", Some("AccessDenied")),
            ("GetObject", Some("AccessDenied")),
            ("none", Some("InvalidURI")),
        ];
        let granted = (events == DataEvents::All).then_some(("GetObject", None));
        let mut expected: Vec<_> = granted.into_iter().chain(denied).collect();
        let mut outcomes = outcomes;
        outcomes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(outcomes, expected, "{events:?}");
        let record = data
            .iter()
            .find(|r| r["requestID"] == refusal.request_id.as_str())
            .unwrap();
        assert_eq!(record["eventSource"], "s3.amazonaws.com");
        assert_eq!(record["managementEvent"], false);
        assert_eq!(record["userIdentity"]["userName"], "alice");
        assert_eq!(record["recipientAccountId"], ACCOUNT);
        assert_eq!(record["sourceIPAddress"], "192.0.2.7");
        assert_eq!(
            record["requestParameters"],
            json!({"store": "main", "bucketName": "data", "key": "home/secret", "versionId": "7"})
        );
        assert_eq!(record["additionalEventData"]["deniedBy"], "identity policy");
        let nobody = data
            .iter()
            .find(|r| r["userIdentity"]["accountId"] == "anonymous")
            .unwrap();
        assert_eq!(nobody["userIdentity"]["type"], "AWSAccount");
        let all = records.iter().map(Value::to_string).collect::<String>() + &xml;
        assert!(!all.contains(STORE_SECRET) && !all.contains("canary") && !all.contains(STORE_KEY));
    }
}

#[tokio::test]
async fn the_record_names_every_object_that_is_deleted_and_the_version_that_is_copied() {
    let world = World::start().await;
    let object = |key: &str, more: &str| format!("<Object><Key>{key}</Key>{more}</Object>");
    let list = |objects: &str| format!("<Delete>{objects}</Delete>");
    let few = list(&(object("home/a", "") + &object("home/b", "<VersionId>3</VersionId>")));
    let many: String = (0..30).map(|n| object(&format!("home/{n}"), "")).collect();
    let many = list(&many);
    for (user, body, expected) in [
        ("owner", &few, "ok"),
        ("alice", &few, "AccessDenied"),
        ("owner", &many, "ok"),
        ("nobody", &many, "AccessDenied"),
    ] {
        let request = asked("POST /data?delete").body(body.as_bytes());
        let decision = world.ask(Some(&key_of(user)), request).await;
        assert_eq!(word(&decision), expected, "{user}");
    }
    let copy = asked("PUT /data/home/x").with(&[("x-amz-copy-source", "logs/y?versionId=7")]);
    assert_eq!(word(&world.ask(Some(&key_of("owner")), copy).await), "ok");
    let records = world.broker.into_audit().await;
    let of = |name: &str, user: &str| -> Vec<Value> {
        let own = |r: &&Value| r["eventName"] == name && r["userIdentity"]["userName"] == user;
        let parameters = |r: &Value| r["requestParameters"].clone();
        records.iter().filter(own).map(parameters).collect()
    };
    let both = json!([{"key": "home/a"}, {"key": "home/b", "versionId": "3"}]);
    let granted = of("DeleteObjects", "owner");
    assert_eq!(
        granted[0],
        json!({"store": "main", "bucketName": "data", "objects": both})
    );
    let objects = granted[1]["objects"].as_array().unwrap();
    assert!(objects.len() == 30 && objects[29]["key"] == "home/29");
    assert_eq!(of("DeleteObjects", "alice")[0]["objects"], both);
    // The record of a refusal is bounded.
    let refused = &of("DeleteObjects", "nobody")[0];
    assert_eq!(refused["objects"].as_array().unwrap().len(), 10);
    assert_eq!(refused["objectsTotal"], 30);
    assert_eq!(
        of("CopyObject", "owner")[0]["copySource"],
        "logs/y?versionId=7"
    );
}

#[tokio::test]
async fn os_13_whoever_holds_a_key_or_a_captured_head_asks_within_a_budget() {
    let limits = BudgetLimits {
        principal_object_requests: std::num::NonZeroU32::new(20),
        ..BudgetLimits::OFF
    };
    let world = World::start_within(directory(), DataEvents::Refused, limits).await;
    // One and the same head, as whoever captured it would send it, gets half of the budget.
    let denied = asked("GET /data/other").signed(&key_of("alice"), world.now());
    let again = async || word(&world.decide("GET /data/other", &denied, None).await);
    for n in 0..20 {
        assert_eq!(again().await, "AccessDenied", "{n}");
    }
    assert_eq!(again().await, "SlowDown");
    // The rest is for other heads of the same principal.
    for n in 0..20 {
        let line = format!("GET /data/home/{n}");
        assert_eq!(world.by("alice", &line).await, "ok", "{n}");
    }
    assert_eq!(world.by("alice", "GET /data/home/x").await, "SlowDown");
    // Others are served, and calls of the broker's own services have budgets of their own.
    assert_eq!(world.by("owner", "GET /data/home/x").await, "ok");
    assert_eq!(world.broker.who(&key_of("alice")).await, "ok");
    let metrics = world.broker.operator("/metrics").await.body;
    for (budget, count) in [("repeats", 1), ("object_requests", 1)] {
        let line = format!("brevet_throttled_total{{budget=\"{budget}\"}} {count}\n");
        assert!(metrics.contains(&line), "{budget}: {metrics}");
    }
    world.broker.clock.pass(Duration::from_secs(2));
    assert_eq!(world.by("alice", "GET /data/home/x").await, "ok");
    // A list of objects to delete counts as one request for each ten.
    let objects: String = (0..400)
        .map(|n| format!("<Object><Key>home/{n}</Key></Object>"))
        .collect();
    let list = format!("<Delete>{objects}</Delete>");
    let request = asked("POST /data?delete").body(list.as_bytes());
    assert_eq!(
        word(&world.ask(Some(&key_of("owner")), request).await),
        "ok"
    );
    assert_eq!(world.by("owner", "GET /data/home/x").await, "SlowDown");
}

#[tokio::test]
async fn os_13_the_objects_that_nobody_deletes_count_for_the_source_address() {
    let limits = BudgetLimits {
        unproven_calls: std::num::NonZeroU32::new(100),
        ..BudgetLimits::OFF
    };
    let world = World::start_within(directory(), DataEvents::Refused, limits).await;
    let objects: String = (0..1_000)
        .map(|n| format!("<Object><Key>home/{n}</Key></Object>"))
        .collect();
    let list = format!("<Delete>{objects}</Delete>");
    // Two hundred may come at once, and a thousand objects count as a hundred.
    for expected in ["AccessDenied", "AccessDenied", "SlowDown"] {
        let request = asked("POST /data?delete").body(list.as_bytes());
        assert_eq!(word(&world.ask(None, request).await), expected);
    }
    // Whoever signs is served at the same address.
    assert_eq!(world.by("owner", "GET /data/home/x").await, "ok");
}

#[tokio::test]
async fn a_refusal_is_explained_to_those_who_may_know() {
    let world = World::start().await;
    let explain = async |reader: &str, user: &str, line: &str| {
        let decision = world.ask(Some(&key_of(user)), asked(line)).await;
        let Decision::Refuse(refusal) = decision else {
            panic!("{line}")
        };
        let client = world.broker.client(&key_of(reader));
        let decoded = client
            .decode_authorization_message(&refusal.encoded_message)
            .await;
        decoded.map(|text| serde_json::from_str::<Value>(&text).unwrap())
    };
    let decoded = explain("owner", "alice", "GET /data/home/secret")
        .await
        .unwrap();
    assert_eq!(decoded["explicitDeny"], true);
    assert_eq!(decoded["context"]["action"], "s3:GetObject");
    let summary = decoded["explanation"]["summary"].as_str().unwrap();
    assert_eq!(
        summary,
        "Statement[2] of the caller's identity policy 1 denies the request."
    );
    let decoded = explain("owner", "alice", "GET /data?prefix=other")
        .await
        .unwrap();
    let summary = decoded["explanation"]["summary"].as_str().unwrap();
    assert!(
        summary.contains("s3:prefix") && summary.contains("`other`"),
        "{summary}"
    );
    let decoded = explain("owner", "owner", "GET /data/public/closed")
        .await
        .unwrap();
    let summary = decoded["explanation"]["summary"].as_str().unwrap();
    assert_eq!(
        summary,
        "Statement[4] of the bucket policy denies the request."
    );
    let decoded = explain("owner", "owner", "GET /unlisted/x").await.unwrap();
    let summary = decoded["explanation"]["summary"].as_str().unwrap();
    assert!(
        summary.contains("is not configured for this object store"),
        "{summary}"
    );
}

#[tokio::test]
async fn az_05_control_policies_bind_requests_to_object_stores() {
    let mut declared = directory();
    let deny = |resource: &str| {
        document(&[json!({"Effect": "Deny", "Action": "s3:GetObject", "Resource": resource})])
    };
    let mut rcp = deny("arn:aws:s3:::data/resource/*");
    rcp["Statement"][0]["Principal"] = json!("*");
    let control = |id: &str, kind: &str, content: Value, targets: &[&str]| {
        let targets: Vec<Value> = targets.iter().map(|id| json!({"TargetId": id})).collect();
        json!({"PolicySummary": {"Id": id, "Name": id, "Type": kind}, "Content": content, "Targets": targets})
    };
    const SCP: &str = "SERVICE_CONTROL_POLICY";
    const RCP: &str = "RESOURCE_CONTROL_POLICY";
    const MANAGEMENT: &str = "999988887777";
    let everything = document(&[allow(json!("*"), json!("*"))]);
    declared["Brevet"]["Organization"] = json!({
        "Id": "o-exampleorgid", "MasterAccountId": MANAGEMENT, "FeatureSet": "ALL",
        "Roots": [{"Id": "r-exam", "Name": "Root", "PolicyTypes": [
            {"Type": SCP, "Status": "ENABLED"}, {"Type": RCP, "Status": "ENABLED"}]}],
        "Accounts": [{"Id": ACCOUNT, "ParentId": "r-exam"}, {"Id": MANAGEMENT, "ParentId": "r-exam"}],
        "Policies": [
            control("p-FullAWSAccess", SCP, everything, &["r-exam", ACCOUNT, MANAGEMENT]),
            control("p-exampleone", SCP, deny("arn:aws:s3:::data/service/*"), &[ACCOUNT]),
            control("p-exampletwo", RCP, rcp, &[ACCOUNT])],
    });
    let world = World::start_with(declared, DataEvents::All).await;
    assert_eq!(world.by("owner", "GET /data/free").await, "ok");
    assert_eq!(
        world.by("owner", "GET /data/service/x").await,
        "AccessDenied"
    );
    assert_eq!(
        world.by("owner", "GET /data/resource/x").await,
        "AccessDenied"
    );
}

/// Whatever the head is, it is answered, and what is allowed is routed.
#[tokio::test]
async fn os_01_odd_heads_are_answered_and_refused() {
    let world = World::start().await;
    for line in [
        "GET ",
        "GET ?",
        "GET /?",
        "GET *",
        "GET //",
        "GET /data/%",
        "GET /data/\u{0}",
        "FOO /data/x",
        "GET http://x/data/y",
        "GET /data/x?X-Amz-Signature=1",
        "GET /data/x?X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "PUT /data/x?X-Amz-Date=",
    ] {
        assert_ne!(world.by_nobody(line).await, "ok", "{line}");
        assert!(
            route(
                &Head {
                    method: "GET",
                    path: "",
                    authority: HOST,
                    headers: &[],
                    body: None,
                    size: None
                },
                &world.store.rules
            )
            .is_err()
        );
    }
    for value in [
        "",
        "AWS x:y",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
    ] {
        let headers = [("authorization".to_owned(), value.to_owned())];
        let decision = world.decide("GET /data/public/x", &headers, None).await;
        assert_ne!(word(&decision), "ok", "{value}");
    }
}
