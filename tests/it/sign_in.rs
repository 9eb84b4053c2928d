//! People who signed in, and programs that act for them: AWS's APIs `sso-oidc` and `sso`, and the same by the
//! standards. The pages on which people sign in and approve have tests of their own; here the broker's own
//! functions take their place.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use brevet::base::digest::sha256;
use brevet::commands::Edit;
use brevet::directory::resource::ResourceKind;
use brevet::error::Error;
use brevet::origin::Origin;
use brevet::server::Running;
use brevet::sign_in::{self, Handle, NewSignIn, SignIn};
use brevet::sign_in::{authorize, device, ending, live, pending, roles};
use brevet::sign_ins::Settings;
use brevet::signed_in::{Factor, Method, Who, password_mark};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::harness::*;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const CALLBACK: &str = "http://127.0.0.1:8123/oauth/callback";
const ACCOUNT: &str = "111122223333";

fn on(running: &Broker) -> &Arc<brevet::broker::Broker> {
    let running: &Running = running.running.as_ref().unwrap();
    &running.broker
}

async fn started() -> Broker {
    Broker::start_in(stored_home().await, |c| {
        in_the_store(c);
        c.sign_in = Some(Settings::at("http://{address}"));
        // Hours pass in no time.
        c.refuse_after = std::time::Duration::from_secs(1_000_000);
    })
    .await
}

fn origin() -> Origin {
    from([127, 0, 0, 1].into())
}

fn from(source_ip: IpAddr) -> Origin {
    Origin {
        source_ip,
        secure_transport: true,
        user_agent: Some("test browser".to_owned()),
        referer: None,
        certificate: None,
        call: None,
    }
}

/// Signs a user of the directory in, as the page does once it has proven who it is.
async fn signed_in(broker: &Broker, name: &str) -> (SignIn, String) {
    let own = on(broker);
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/{name}");
    let user = own.directory.load().user(&arn).unwrap().clone();
    let who = Who::User {
        account: user.account,
        id: user.id.to_string(),
        name: user.name.to_string(),
        arn,
    };
    begun(broker, who).await
}

async fn begun(broker: &Broker, who: Who) -> (SignIn, String) {
    let password = mark(broker, &who);
    let (sign_in, handle) = begun_by(broker, who, password).await.unwrap();
    (sign_in, handle.expose().to_owned())
}

/// The mark of the password that a user has now.
fn mark(broker: &Broker, who: &Who) -> Option<String> {
    match who {
        Who::User { arn, .. } => password_mark(&on(broker).directory.load(), arn),
        Who::Federated(_) => None,
    }
}

async fn begun_by(
    broker: &Broker,
    who: Who,
    password: Option<String>,
) -> Result<(SignIn, Handle), Error> {
    let new = NewSignIn {
        who,
        factors: vec![Factor {
            method: Method::Pwd,
            at: broker.clock_now(),
            device: None,
        }],
        ends_by: None,
        provider_session: None,
        password,
        must_change_password: false,
    };
    sign_in::begin(on(broker), new, &origin()).await
}

impl Broker {
    fn clock_now(&self) -> brevet::base::clock::Timestamp {
        use brevet::base::clock::Clock as _;
        self.clock.now()
    }

    async fn json(&self, path: &str, body: &Value) -> (u16, String, Value) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let answer = self
            .send("POST", path, headers, body.to_string().into_bytes())
            .await;
        let name = answer.headers.get("x-amzn-errortype");
        let name = name.map_or("", |v| v.to_str().unwrap()).to_owned();
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        assert!(answer.headers.contains_key("x-amzn-requestid"), "{path}");
        (answer.status, name, body)
    }

    async fn portal(&self, method: &str, target: &str, token: &str) -> (u16, Value) {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-amz-sso_bearer_token",
            HeaderValue::from_str(token).unwrap(),
        );
        let answer = self.send(method, target, headers, Vec::new()).await;
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        (answer.status, body)
    }

    async fn register(&self) -> Value {
        let (status, _, client) = self
            .json(
                "/client/register",
                &json!({"clientName": "botocore-client", "clientType": "public", "scopes": ["sso:account:access"],
                    "grantTypes": [DEVICE, "authorization_code", "refresh_token"],
                    "redirectUris": ["http://127.0.0.1/oauth/callback"], "issuerUrl": "https://x.awsapps.com/start"}),
            )
            .await;
        assert_eq!(status, 200, "{client}");
        client
    }

    async fn device(&self, client: &Value) -> Value {
        let (status, _, flow) = self
            .json(
                "/device_authorization",
                &with(client, json!({"startUrl": "https://x.awsapps.com/start"})),
            )
            .await;
        assert_eq!(status, 200, "{flow}");
        flow
    }

    async fn token(&self, client: &Value, more: Value) -> (u16, String, Value) {
        self.json("/token", &with(client, more)).await
    }

    async fn poll(&self, client: &Value, flow: &Value) -> (u16, String, Value) {
        let more = json!({"grantType": DEVICE, "deviceCode": flow["deviceCode"]});
        self.token(client, more).await
    }

    /// A program of this person, with its tokens.
    async fn program(&self, sign_in: &SignIn) -> (Value, Value) {
        let client = self.register().await;
        let flow = self.device(&client).await;
        let code = flow["userCode"].as_str().unwrap();
        device::decide(on(self), code, sign_in, true, &origin())
            .await
            .unwrap();
        let (status, _, tokens) = self.poll(&client, &flow).await;
        assert_eq!(status, 200, "{tokens}");
        (client, tokens)
    }

    async fn credentials(&self, token: &str, role: &str) -> (u16, Value) {
        let target = format!("/federation/credentials?role_name={role}&account_id={ACCOUNT}");
        self.portal("GET", &target, token).await
    }
}

fn with(client: &Value, more: Value) -> Value {
    let mut all = json!({"clientId": client["clientId"], "clientSecret": client["clientSecret"]});
    let fields = all.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    all
}

fn text<'a>(body: &'a Value, member: &str) -> &'a str {
    body[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} in {body}"))
}

fn keys_of(body: &Value) -> Keys {
    let credentials = &body["roleCredentials"];
    Keys {
        id: text(credentials, "accessKeyId").to_owned(),
        secret: text(credentials, "secretAccessKey").to_owned(),
        token: Some(text(credentials, "sessionToken").to_owned()),
    }
}

#[tokio::test]
async fn oi_08_a_device_flow_is_answered_as_clients_expect_in_every_state() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let client = broker.register().await;
    let flow = broker.device(&client).await;
    assert_eq!(
        (flow["expiresIn"].as_u64(), flow["interval"].as_u64()),
        (Some(600), Some(1))
    );
    assert_eq!(
        text(&flow, "verificationUriComplete"),
        format!(
            "{}/device?user_code={}",
            broker.url(),
            text(&flow, "userCode")
        )
    );
    // The CLI asks twice before it waits.
    for expected in [
        "AuthorizationPendingException",
        "AuthorizationPendingException",
        "SlowDownException",
    ] {
        let (status, name, body) = broker.poll(&client, &flow).await;
        assert_eq!((status, name.as_str()), (400, expected), "{body}");
    }
    let (_, _, body) = broker.poll(&client, &flow).await;
    assert_eq!(body["error"], "slow_down");
    broker.elapse(1);
    assert_eq!(
        broker.poll(&client, &flow).await.1,
        "AuthorizationPendingException"
    );
    // Another program cannot use the code.
    let other = broker.register().await;
    let code = text(&flow, "userCode").to_lowercase().replace('-', " ");
    let asking = device::look(on(&broker), &code, &alice, &origin())
        .await
        .unwrap();
    assert_eq!(asking.client_name, "botocore-client");
    assert!(asking.from_here);
    let elsewhere = from([203, 0, 113, 7].into());
    assert!(
        !device::look(on(&broker), &code, &alice, &elsewhere)
            .await
            .unwrap()
            .from_here
    );
    device::decide(on(&broker), &code, &alice, true, &origin())
        .await
        .unwrap();
    assert!(
        device::decide(on(&broker), &code, &alice, false, &origin())
            .await
            .is_err()
    );
    broker.elapse(1);
    assert_eq!(broker.poll(&other, &flow).await.1, "InvalidGrantException");
    broker.elapse(1);
    let (status, _, tokens) = broker.poll(&client, &flow).await;
    assert_eq!(
        (
            status,
            tokens["tokenType"].as_str(),
            tokens["expiresIn"].as_u64()
        ),
        (200, Some("Bearer"), Some(3_600))
    );
    assert!(tokens["refreshToken"].is_string());
    assert_eq!(
        broker.poll(&client, &flow).await.1,
        "InvalidGrantException",
        "it is good once"
    );

    let denied = broker.device(&client).await;
    device::decide(
        on(&broker),
        text(&denied, "userCode"),
        &alice,
        false,
        &origin(),
    )
    .await
    .unwrap();
    assert_eq!(
        broker.poll(&client, &denied).await.1,
        "AccessDeniedException"
    );
    let late = broker.device(&client).await;
    broker.elapse(601);
    assert_eq!(broker.poll(&client, &late).await.1, "ExpiredTokenException");
    on(&broker)
        .store
        .sweep(broker.clock_now(), broker.clock_now())
        .await
        .unwrap();
    assert_eq!(
        broker.poll(&client, &late).await.1,
        "ExpiredTokenException",
        "and still, once it is forgotten"
    );
    assert!(
        device::look(on(&broker), text(&late, "userCode"), &alice, &origin())
            .await
            .is_err()
    );

    // What is malformed, and by whom.
    let wrong = json!({"clientId": client["clientId"], "clientSecret": "x"});
    let (status, name, _) = broker.poll(&wrong, &flow).await;
    assert_eq!((status, name.as_str()), (401, "InvalidClientException"));
    for (more, expected) in [
        (
            json!({"grantType": "password"}),
            "UnsupportedGrantTypeException",
        ),
        (json!({"grantType": DEVICE}), "InvalidRequestException"),
        (
            json!({"grantType": DEVICE, "deviceCode": "x"}),
            "InvalidGrantException",
        ),
        (
            json!({"grantType": "refresh_token", "refreshToken": "x"}),
            "InvalidGrantException",
        ),
    ] {
        assert_eq!(broker.token(&client, more).await.1, expected);
    }
    for (body, expected) in [
        (
            json!({"clientName": "x", "clientType": "confidential"}),
            "InvalidClientMetadataException",
        ),
        (
            json!({"clientName": "x", "clientType": "public", "scopes": ["admin"]}),
            "InvalidScopeException",
        ),
        (
            json!({"clientName": "x", "clientType": "public", "redirectUris": ["https://evil.example/"]}),
            "InvalidRedirectUriException",
        ),
        (json!({"clientType": "public"}), "InvalidRequestException"),
        (json!([]), "InvalidRequestException"),
    ] {
        assert_eq!(
            broker.json("/client/register", &body).await.1,
            expected,
            "{body}"
        );
    }
    let not_https = with(&client, json!({"startUrl": "http://x.awsapps.com/start"}));
    assert_eq!(
        broker.json("/device_authorization", &not_https).await.1,
        "InvalidRequestException"
    );
}

#[tokio::test]
async fn oi_08_guessed_user_codes_run_into_a_budget() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let client = broker.register().await;
    let flow = broker.device(&client).await;
    let mut answers = Vec::new();
    for n in 0..12 {
        let guess = format!(
            "AAAA-AA{}{}",
            (b'A' + n % 8) as char,
            (b'2' + n / 8) as char
        );
        let looked = device::look(on(&broker), &guess, &alice, &origin()).await;
        answers.push(looked.unwrap_err().code().to_owned());
    }
    assert_eq!(
        answers
            .iter()
            .filter(|code| *code == "NoSuchEntity")
            .count(),
        10,
        "{answers:?}"
    );
    assert_eq!(answers.last().unwrap(), "Throttling");
    // Even the right code is not looked at now, but the flow of others is not harmed.
    let code = text(&flow, "userCode");
    assert!(
        device::look(on(&broker), code, &alice, &origin())
            .await
            .is_err()
    );
    let (bob, _) = signed_in(&broker, "bob").await;
    assert!(
        device::look(on(&broker), code, &bob, &origin())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn oi_08_right_user_codes_cost_no_guess_and_guesses_at_once_no_more_than_others() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let client = broker.register().await;
    let flow = broker.device(&client).await;
    let looked = async |code: &str| device::look(on(&broker), code, &alice, &origin()).await;
    for _ in 0..15 {
        assert!(looked(text(&flow, "userCode")).await.is_ok());
    }
    let guesses: Vec<String> = (0..40_u8).map(|n| format!("ABCD-{n:02}EF")).collect();
    let guesses: Vec<String> = guesses.iter().map(|g| g.replace(['0', '1'], "9")).collect();
    let tried = futures_util::future::join_all(guesses.iter().map(|guess| looked(guess))).await;
    let compared = tried
        .into_iter()
        .filter(|tried| matches!(tried, Err(Error::NotFound(_))));
    assert_eq!(compared.count(), 10);
}

#[tokio::test]
async fn oi_08_browsers_of_one_address_cannot_take_all_room_for_those_that_wait() {
    let broker = started().await;
    let hour = std::time::Duration::from_secs(3_600);
    let kept = async |last: u8| {
        let origin = from([192, 0, 2, last].into());
        let kept = pending::keep(on(&broker), "test", &"x", hour, &origin).await;
        kept.map(|_| ())
    };
    for _ in 0..300 {
        assert_eq!(kept(1).await, Ok(()));
    }
    assert_eq!(kept(1).await, Err(Error::Throttling));
    assert_eq!(kept(2).await, Ok(()));
}

#[tokio::test]
async fn a_person_has_the_roles_that_trust_policies_give_and_credentials_of_them() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let (_, tokens) = broker.program(&alice).await;
    let token = text(&tokens, "accessToken");
    let (status, accounts) = broker.portal("GET", "/assignment/accounts", token).await;
    assert_eq!(
        (status, accounts["accountList"][0]["accountId"].as_str()),
        (200, Some(ACCOUNT))
    );
    assert!(!text(&accounts["accountList"][0], "emailAddress").is_empty());
    let target = format!("/assignment/roles?account_id={ACCOUNT}");
    let (_, listed) = broker.portal("GET", &target, token).await;
    let names: Vec<_> = listed["roleList"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| text(r, "roleName"))
        .collect();
    assert_eq!(names, ["Open"]);
    let (status, body) = broker.credentials(token, "Open").await;
    assert_eq!(status, 200, "{body}");
    assert!(body["roleCredentials"]["expiration"].as_i64().unwrap() > 1_000_000_000_000);
    let keys = keys_of(&body);
    let who = broker.client(&keys).get_caller_identity().await.unwrap();
    assert_eq!(who.arn, "arn:aws:sts::111122223333:assumed-role/Open/alice");
    let live = live::sessions(on(&broker), &alice).await.unwrap();
    assert_eq!((live.len(), live[0].role_name.as_str()), (1, "Open"));
    assert!(
        live[0].given_to.starts_with("127.0.0.1"),
        "{}",
        live[0].given_to
    );

    // Roles that are not hers, or that are not there, are refused alike.
    for role in ["Closed", "Partner", "Nothing"] {
        let (status, body) = broker.credentials(token, role).await;
        assert_eq!(status, 403, "{body}");
        assert!(text(&body, "message").starts_with("No access"), "{body}");
    }
    assert_eq!(
        broker
            .portal("GET", "/assignment/roles?account_id=1", token)
            .await
            .0,
        400
    );
    assert_eq!(
        broker
            .portal("GET", "/assignment/accounts?max_result=0", token)
            .await
            .0,
        400
    );
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", "x").await.0,
        401
    );

    // A trust policy that changes is asked at once.
    let hand = broker.hand().await;
    let closed = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"},"Action":"sts:AssumeRole"}]}"#;
    let change = hand
        .edit(
            ResourceKind::Role,
            OPEN,
            Edit::UpdateAssumeRolePolicy(closed.to_owned()),
        )
        .await
        .unwrap();
    broker.reaches(change).await;
    assert_eq!(broker.credentials(token, "Open").await.0, 403);
    assert!(
        roles::roles(on(&broker), &alice, None, &origin())
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        broker.who(&keys).await,
        "ok",
        "what was issued before stays"
    );
    let (bob, _) = signed_in(&broker, "bob").await;
    let of_bob = roles::roles(on(&broker), &bob, Some(ACCOUNT), &origin())
        .await
        .unwrap();
    let names: Vec<_> = of_bob
        .iter()
        .map(|choice| choice.role_name.as_str())
        .collect();
    assert_eq!(names, ["Direct", "Open"]);

    // One session ends by itself.
    ending::end_session(on(&broker), &alice, &live[0].session_id, &origin())
        .await
        .unwrap();
    assert_eq!(broker.who(&keys).await, "InvalidClientTokenId");
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", token).await.0,
        200
    );

    // Logging out ends what this approval granted.
    assert_eq!(
        broker.portal("POST", "/logout", token).await,
        (200, json!({}))
    );
    assert_eq!(broker.portal("POST", "/logout", token).await.0, 401);
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", token).await.0,
        401
    );
    let records = broker.into_audit().await;
    let named = |name: &str| records.iter().filter(|r| r["eventName"] == name).count();
    assert_eq!(named("ConsoleLogin"), 2);
    assert_eq!(named("DecideDeviceAuthorization"), 1);
    let login = records
        .iter()
        .find(|r| r["eventName"] == "ConsoleLogin")
        .unwrap();
    assert_eq!(login["responseElements"]["ConsoleLogin"], "Success");
    assert_eq!(login["userIdentity"]["userName"], "alice");
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains(token), "a token in the audit");
}

#[tokio::test]
async fn oi_08_an_authorization_code_needs_its_verifier_and_is_good_once() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let client = broker.register().await;
    let verifier = "v".repeat(64);
    let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    let query = |more: &str| {
        let id = text(&client, "clientId");
        format!(
            "response_type=code&client_id={id}&redirect_uri={CALLBACK}&state=a%20b&scopes=sso:account:access{more}"
        )
    };
    let good = query(&format!(
        "&code_challenge_method=S256&code_challenge={challenge}"
    ));
    // No place to return to is taken on trust.
    for bad in [
        good.replace("127.0.0.1", "evil.example"),
        good.replace("/oauth/callback", "/other"),
        good.replace(text(&client, "clientId"), "nobody"),
        format!("{good}&state=again"),
    ] {
        let checked = authorize::check(on(&broker), &bad);
        assert!(matches!(checked, Err(authorize::Wrong::Page(_))), "{bad}");
    }
    for (bad, error) in [
        (query(""), "invalid_request"),
        (good.replace("S256", "plain"), "invalid_request"),
        (
            good.replace("response_type=code", "response_type=token"),
            "unsupported_response_type",
        ),
        (good.replace("sso:account:access", "admin"), "invalid_scope"),
    ] {
        let Err(authorize::Wrong::Redirect(to)) = authorize::check(on(&broker), &bad) else {
            panic!("{bad}");
        };
        assert!(
            to.starts_with(&format!("{CALLBACK}?error={}", error.replace('_', "%5F"))),
            "{to}"
        );
        assert!(
            to.contains("state=a%20b") && to.contains("iss=http"),
            "{to}"
        );
    }
    let code = async || {
        let request = authorize::check(on(&broker), &good).unwrap();
        assert_eq!(request.origin(), "http://127.0.0.1:8123");
        let to = authorize::allow(on(&broker), request, &alice, &origin())
            .await
            .unwrap();
        let (_, rest) = to.split_once("?code=").unwrap();
        rest.split('&')
            .next()
            .unwrap()
            .replace("%2D", "-")
            .replace("%5F", "_")
    };
    let redeem = async |code: &str, verifier: &str, redirect: &str| {
        let more = json!({"grantType": "authorization_code", "code": code, "codeVerifier": verifier, "redirectUri": redirect});
        broker.token(&client, more).await
    };
    let one = code().await;
    for (verifier, redirect) in [
        ("w".repeat(64), CALLBACK.to_owned()),
        (verifier.clone(), CALLBACK.replace("8123", "8124")),
        ("short".to_owned(), CALLBACK.to_owned()),
    ] {
        assert_eq!(
            redeem(&one, &verifier, &redirect).await.1,
            "InvalidGrantException"
        );
    }
    let (status, _, tokens) = redeem(&one, &verifier, CALLBACK).await;
    assert_eq!(status, 200, "{tokens}");
    let token = text(&tokens, "accessToken");
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", token).await.0,
        200
    );
    // A second use ends what came of the first.
    assert_eq!(
        redeem(&one, &verifier, CALLBACK).await.1,
        "InvalidGrantException"
    );
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", token).await.0,
        401
    );
    let late = code().await;
    broker.elapse(60);
    assert_eq!(
        redeem(&late, &verifier, CALLBACK).await.1,
        "InvalidGrantException"
    );
    let denied = authorize::check(on(&broker), &good).unwrap();
    let to = authorize::deny(on(&broker), denied, &alice, &origin())
        .await
        .unwrap();
    assert!(
        to.starts_with(&format!("{CALLBACK}?error=access%5Fdenied")),
        "{to}"
    );
}

#[tokio::test]
async fn a_refresh_token_rotates_and_its_late_reuse_ends_the_family() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let (client, tokens) = broker.program(&alice).await;
    let refresh = async |token: &str| {
        broker
            .token(
                &client,
                json!({"grantType": "refresh_token", "refreshToken": token}),
            )
            .await
    };
    let first = text(&tokens, "refreshToken").to_owned();
    let (status, _, one) = refresh(&first).await;
    assert_eq!(status, 200, "{one}");
    // Another shell with the same cache.
    let (status, _, two) = refresh(&first).await;
    assert_eq!(status, 200, "{two}");
    let (one, two) = (
        text(&one, "refreshToken").to_owned(),
        text(&two, "refreshToken").to_owned(),
    );
    assert!(one != two && one != first);
    // The next generation: the grandparent is too old at once, and its use ends all.
    let (status, _, next) = refresh(&one).await;
    assert_eq!(status, 200);
    broker.elapse(59);
    let (status, _, sibling) = refresh(&two).await;
    assert_eq!(
        status, 200,
        "the last generation but one is good for a minute: {sibling}"
    );
    let access = text(&sibling, "accessToken").to_owned();
    assert_eq!(
        broker
            .portal("GET", "/assignment/accounts", &access)
            .await
            .0,
        200
    );
    assert_eq!(refresh(&first).await.1, "InvalidGrantException");
    assert_eq!(
        broker
            .portal("GET", "/assignment/accounts", &access)
            .await
            .0,
        401
    );
    assert_eq!(
        refresh(text(&next, "refreshToken")).await.1,
        "InvalidGrantException"
    );

    // After a minute the used one is too old, too.
    let (client, tokens) = broker.program(&alice).await;
    let refresh = async |token: &str| {
        broker
            .token(
                &client,
                json!({"grantType": "refresh_token", "refreshToken": token}),
            )
            .await
    };
    let first = text(&tokens, "refreshToken");
    let (_, _, next) = refresh(first).await;
    broker.elapse(61);
    assert_eq!(refresh(first).await.1, "InvalidGrantException");
    assert_eq!(
        refresh(text(&next, "refreshToken")).await.1,
        "InvalidGrantException"
    );

    // It never lengthens the sign-in: eight hours after it, there are no more tokens.
    let (client, tokens) = broker.program(&alice).await;
    let mut token = text(&tokens, "refreshToken").to_owned();
    let mut lasts = Vec::new();
    for _ in 0..9 {
        let more = json!({"grantType": "refresh_token", "refreshToken": token});
        let (status, _, next) = broker.token(&client, more).await;
        if status != 200 {
            break;
        }
        lasts.push(next["expiresIn"].as_u64().unwrap());
        token = text(&next, "refreshToken").to_owned();
        broker.elapse(3_540);
        sign_in::sweep::sweep(on(&broker)).await.unwrap();
    }
    assert!(
        lasts.len() >= 8 && *lasts.last().unwrap() < 3_600,
        "{lasts:?}"
    );
}

#[tokio::test]
async fn what_came_from_a_sign_in_ends_with_it() {
    let broker = started().await;
    let (alice, cookie) = signed_in(&broker, "alice").await;
    let (client, tokens) = broker.program(&alice).await;
    let token = text(&tokens, "accessToken");
    let keys = keys_of(&broker.credentials(token, "Open").await.1);
    assert_eq!(broker.who(&keys).await, "ok");
    let flow = broker.device(&client).await;
    device::decide(
        on(&broker),
        text(&flow, "userCode"),
        &alice,
        true,
        &origin(),
    )
    .await
    .unwrap();

    let admin = broker.client(&user(ADMIN));
    let listed = admin
        .list_sign_ins(Default::default())
        .await
        .unwrap()
        .sign_ins;
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "alice"));
    assert_eq!(listed[0].sign_in_id, alice.id_text());
    // Another account's administrator does not see it, and a user without permission may not ask.
    let other = broker.client(&user("other-admin"));
    assert!(
        other
            .list_sign_ins(Default::default())
            .await
            .unwrap()
            .sign_ins
            .is_empty()
    );
    assert_eq!(
        code(&other.end_sign_in(&alice.id_text()).await.err().unwrap()),
        "NoSuchEntity"
    );
    assert_eq!(
        code(
            &broker
                .client(&user("bob"))
                .end_sign_in(&alice.id_text())
                .await
                .err()
                .unwrap()
        ),
        "AccessDenied"
    );
    let ended = admin.end_sign_in(&alice.id_text()).await.unwrap();
    broker.reaches(ended.sequence_number).await;

    assert_eq!(broker.who(&keys).await, "InvalidClientTokenId");
    assert_eq!(broker.credentials(token, "Open").await.0, 401);
    let more = json!({"grantType": "refresh_token", "refreshToken": tokens["refreshToken"]});
    assert_eq!(broker.token(&client, more).await.1, "InvalidGrantException");
    assert_eq!(broker.poll(&client, &flow).await.1, "InvalidGrantException");
    assert!(
        sign_in::of_handle(on(&broker), &cookie, &origin())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        device::decide(on(&broker), "AAAA-AAAA", &alice, true, &origin())
            .await
            .is_err()
    );
    assert!(
        admin
            .list_sign_ins(Default::default())
            .await
            .unwrap()
            .sign_ins
            .is_empty()
    );
    assert_eq!(
        code(&admin.end_sign_in(&alice.id_text()).await.err().unwrap()),
        "NoSuchEntity"
    );

    // A revocation of the principal ends it as well.
    let (again, cookie) = signed_in(&broker, "alice").await;
    let (_, tokens) = broker.program(&again).await;
    let keys = keys_of(
        &broker
            .credentials(text(&tokens, "accessToken"), "Open")
            .await
            .1,
    );
    let selector = Selector::PrincipalArn("arn:aws:iam::111122223333:user/alice".to_owned());
    broker.revoke(&user(ADMIN), selector).await.unwrap();
    assert_eq!(broker.who(&keys).await, "InvalidClientTokenId");
    assert!(
        sign_in::of_handle(on(&broker), &cookie, &origin())
            .await
            .unwrap()
            .is_none()
    );

    // So does another password: with it ends what began with the old one.
    let admin = user(ADMIN);
    let set = |action: &'static str, password: &'static str| {
        let (broker, admin) = (&broker, &admin);
        async move {
            let form = [("UserName", "alice"), ("Password", password)];
            let answer = broker.iam(admin, action, &form).await;
            assert_eq!(answer.code(), "ok", "{}", answer.body);
        }
    };
    set("CreateLoginProfile", "Correct-Horse-7-Battery").await;
    let (third, cookie) = signed_in(&broker, "alice").await;
    let (_, tokens) = broker.program(&third).await;
    let keys = keys_of(
        &broker
            .credentials(text(&tokens, "accessToken"), "Open")
            .await
            .1,
    );
    assert_eq!(broker.who(&keys).await, "ok");
    let old = mark(&broker, &third.who);
    set("UpdateLoginProfile", "Correct-Horse-8-Battery").await;
    // Whoever has given the old one before, and its code only now, is not signed in.
    let late = begun_by(&broker, third.who.clone(), old).await;
    assert_eq!(late.err(), Some(Error::Ended));
    assert!(
        sign_in::of_handle(on(&broker), &cookie, &origin())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(broker.who(&keys).await, "InvalidClientTokenId");
    assert_eq!(
        broker
            .credentials(text(&tokens, "accessToken"), "Open")
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn a_browser_that_was_away_signs_in_again_and_programs_go_on() {
    let broker = started().await;
    let (alice, cookie) = signed_in(&broker, "alice").await;
    let (_, tokens) = broker.program(&alice).await;
    let there = async |cookie: &str| {
        sign_in::of_handle(on(&broker), cookie, &origin())
            .await
            .unwrap()
    };
    assert_eq!(there(&cookie).await.unwrap().id, alice.id);
    broker.elapse(3_000);
    assert!(there(&cookie).await.is_some());
    broker.elapse(3_000);
    assert!(there(&cookie).await.is_some(), "it was seen meanwhile");
    let factor = Factor {
        method: Method::Otp,
        at: broker.clock_now(),
        device: Some("arn:aws:iam::111122223333:mfa/alice".to_owned()),
    };
    let fresh = sign_in::add_factor(on(&broker), &alice.id, factor)
        .await
        .unwrap();
    assert!(
        there(&cookie).await.is_none(),
        "the value of the cookie has changed"
    );
    let renewed = there(fresh.expose()).await.unwrap();
    assert_eq!(renewed.mfa_at(), Some(broker.clock_now()));
    broker.elapse(3_601);
    assert!(there(fresh.expose()).await.is_none());
    let (alice_again, _) = signed_in(&broker, "alice").await;
    assert_ne!(alice_again.id, alice.id);
    // The program's token was good for an hour, and its sign-in goes on.
    assert_eq!(
        broker
            .portal("GET", "/assignment/accounts", text(&tokens, "accessToken"))
            .await
            .0,
        401
    );
    assert!(
        sign_in::of_id(on(&broker), &alice.id_text())
            .await
            .unwrap()
            .is_some()
    );
}

/// A person for whom a provider of the directory vouches, as the sign-in through it keeps it.
fn vouched_for(issuer: &str) -> Who {
    let kept = json!({
        "provider_arn": format!("arn:aws:iam::{ACCOUNT}:oidc-provider/idp.example"), "account": ACCOUNT,
        "issuer": issuer, "subject": "248289761001", "audience": "brevet",
        "principal_id": format!("{issuer}:brevet:248289761001"),
        "keys": [["idp.example:sub", {"One": "248289761001"}], ["idp.example:aud", {"One": "brevet"}],
            ["idp.example:preferred_username", {"One": "anna maria@example.com"}],
            ["idp.example:groups", {"Many": ["admins", "dev"]}]],
        "tags": [], "transitive_tag_keys": [], "source_identity": null, "roles": null,
        "session_seconds": null, "session_ends_by": null, "assertion": null,
        "remembered": {"WebIdentity": {"subject": "248289761001", "audience": "brevet",
            "authentication_methods": [], "methods_are_a_list": false, "node": ""}},
    });
    Who::Federated(Arc::new(serde_json::from_value(kept).unwrap()))
}

#[tokio::test]
async fn oi_06_a_federated_person_has_roles_by_its_claims_until_the_provider_is_removed() {
    let broker = started().await;
    let hand = broker.hand().await;
    let trust = |group: &str| {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Federated": format!("arn:aws:iam::{ACCOUNT}:oidc-provider/idp.example")},
            "Action": "sts:AssumeRoleWithWebIdentity", "Condition": {
                "StringEquals": {"idp.example:aud": "brevet"},
                "ForAnyValue:StringEquals": {"idp.example:groups": group}}}]})
    };
    let role = |name: &str, n: u8, group: &str| {
        json!({"Path": "/", "RoleName": name, "RoleId": format!("AROAFEDERATED000000{n}"),
            "Arn": format!("arn:aws:iam::{ACCOUNT}:role/{name}"), "AssumeRolePolicyDocument": trust(group)})
    };
    let change = hand
        .import(&json!({
            "RoleDetailList": [role("Developer", 1, "dev"), role("Auditor", 2, "audit")],
            "Brevet": {"OpenIDConnectProviders": [{"Arn": format!("arn:aws:iam::{ACCOUNT}:oidc-provider/idp.example"),
                "Url": "https://idp.example", "ClientIDList": ["brevet"]}]}}))
        .await
        .unwrap();
    broker.reaches(change).await;
    let (anna, cookie) = begun(&broker, vouched_for("https://idp.example")).await;
    let found = roles::roles(on(&broker), &anna, None, &origin())
        .await
        .unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|choice| choice.role_name.as_str())
        .collect();
    assert_eq!(names, ["Developer"]);
    let (client, tokens) = broker.program(&anna).await;
    let token = text(&tokens, "accessToken");
    assert_eq!(broker.credentials(token, "Auditor").await.0, 403);
    let (status, body) = broker.credentials(token, "Developer").await;
    assert_eq!(status, 200, "{body}");
    let keys = keys_of(&body);
    let who = broker.client(&keys).get_caller_identity().await.unwrap();
    assert_eq!(
        who.arn,
        "arn:aws:sts::111122223333:assumed-role/Developer/anna-maria@example.com"
    );

    // The provider says that the person has left.
    let (second, other) = begun(&broker, vouched_for("https://idp.example")).await;
    let provider = anna.arn().to_owned();
    let nobody = ending::end_of_provider(on(&broker), &provider, Some("somebody else"), None).await;
    assert_eq!(nobody.unwrap(), 0);
    ending::end(on(&broker), &second.id).await.unwrap();
    assert!(
        sign_in::of_handle(on(&broker), &other, &origin())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(broker.who(&keys).await, "ok", "the first sign-in goes on");

    let answer = broker
        .iam(
            &user(ADMIN),
            "DeleteOpenIDConnectProvider",
            &[("OpenIDConnectProviderArn", &provider)],
        )
        .await;
    assert_eq!(answer.code(), "ok", "{}", answer.body);
    assert_eq!(broker.who(&keys).await, "InvalidClientTokenId");
    assert_eq!(broker.credentials(token, "Developer").await.0, 401);
    assert!(
        sign_in::of_handle(on(&broker), &cookie, &origin())
            .await
            .unwrap()
            .is_none()
    );
    let more = json!({"grantType": "refresh_token", "refreshToken": tokens["refreshToken"]});
    assert_eq!(broker.token(&client, more).await.1, "InvalidGrantException");
}

#[tokio::test]
async fn the_standards_have_the_same_flows_in_their_own_words() {
    let broker = started().await;
    let (alice, _) = signed_in(&broker, "alice").await;
    let metadata = broker
        .send(
            "GET",
            "/.well-known/oauth-authorization-server",
            HeaderMap::new(),
            Vec::new(),
        )
        .await;
    let metadata: Value = serde_json::from_str(&metadata.body).unwrap();
    assert_eq!(metadata["issuer"], broker.url());
    assert_eq!(
        metadata["code_challenge_methods_supported"],
        json!(["S256"])
    );
    let client = broker.register().await;
    let id = text(&client, "clientId");
    let post = async |path: &str, form: &[(&str, &str)]| {
        let answer = broker
            .send(
                "POST",
                path,
                form_headers(),
                encode(form).replace("%5F", "_").into_bytes(),
            )
            .await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status, body)
    };
    let (status, flow) = post("/oauth2/device_authorization", &[("client_id", id)]).await;
    assert_eq!(status, 200, "{flow}");
    let code = text(&flow, "device_code");
    let ask = [
        ("grant_type", DEVICE),
        ("client_id", id),
        ("device_code", code),
    ];
    let (status, body) = post("/oauth2/token", &ask).await;
    assert_eq!(
        (status, text(&body, "error")),
        (400, "authorization_pending")
    );
    device::decide(
        on(&broker),
        text(&flow, "user_code"),
        &alice,
        true,
        &origin(),
    )
    .await
    .unwrap();
    let (status, tokens) = post("/oauth2/token", &ask).await;
    assert_eq!(
        (status, text(&tokens, "token_type"), text(&tokens, "scope")),
        (200, "Bearer", "sso:account:access")
    );
    let refresh = [
        ("grant_type", "refresh_token"),
        ("client_id", id),
        ("refresh_token", text(&tokens, "refresh_token")),
    ];
    let (status, next) = post("/oauth2/token", &refresh).await;
    assert_eq!(status, 200, "{next}");
    let access = text(&next, "access_token");
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", access).await.0,
        200
    );
    let (status, _) = post("/oauth2/revoke", &[("client_id", id), ("token", access)]).await;
    assert_eq!(status, 200);
    assert_eq!(
        broker.portal("GET", "/assignment/accounts", access).await.0,
        401
    );
    assert_eq!(
        post("/oauth2/revoke", &[("client_id", id), ("token", "unknown")])
            .await
            .0,
        200
    );
    let (status, body) = post(
        "/oauth2/token",
        &[
            ("grant_type", DEVICE),
            ("client_id", "nobody"),
            ("device_code", code),
        ],
    )
    .await;
    assert_eq!((status, text(&body, "error")), (401, "invalid_client"));
    let twice = [
        ("grant_type", DEVICE),
        ("client_id", id),
        ("device_code", code),
        ("device_code", code),
    ];
    assert_eq!(post("/oauth2/token", &twice).await.0, 400);
}

#[tokio::test]
async fn without_sign_in_these_paths_are_those_of_the_query_protocol() {
    let broker = Broker::start().await;
    for path in [
        "/client/register",
        "/token",
        "/oauth2/revoke",
        "/.well-known/oauth-authorization-server",
    ] {
        let answer = broker.send("POST", path, form_headers(), Vec::new()).await;
        assert!(answer.body.contains("<Error"), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn oi_08_two_nodes_take_each_code_once_and_end_as_one() {
    let postgres = crate::postgres::Postgres::start();
    let ([one, two], _hand) = crate::postgres::brokers(&postgres, [postgres.port; 2]).await;
    let (alice, cookie) = signed_in(&one, "alice").await;
    let client = one.register().await;
    let mut flow = one.device(&client).await;
    assert_eq!(
        two.poll(&client, &flow).await.1,
        "AuthorizationPendingException"
    );
    device::decide(on(&two), text(&flow, "userCode"), &alice, true, &origin())
        .await
        .unwrap();
    // The first node hears of it within half a second of its clock.
    one.elapse(1);
    two.elapse(1);
    let (first, second) = tokio::join!(one.poll(&client, &flow), two.poll(&client, &flow));
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "{first:?} {second:?}");
    let tokens = if first.0 == 200 { first.2 } else { second.2 };

    // Two shells refresh at once, on two nodes: each gets a successor of its own.
    let more = json!({"grantType": "refresh_token", "refreshToken": tokens["refreshToken"]});
    let (a, b) = tokio::join!(one.token(&client, more.clone()), two.token(&client, more));
    assert_eq!((a.0, b.0), (200, 200), "{a:?} {b:?}");
    assert_ne!(a.2["refreshToken"], b.2["refreshToken"]);
    let token = text(&b.2, "accessToken").to_owned();
    let keys = keys_of(&one.credentials(&token, "Open").await.1);
    assert_eq!(two.who(&keys).await, "ok");
    flow = two.device(&client).await;
    assert_eq!(
        one.poll(&client, &flow).await.1,
        "AuthorizationPendingException"
    );

    ending::end(on(&one), &alice.id).await.unwrap();
    eventually("it has ended on the other node", async || {
        two.who(&keys).await == "InvalidClientTokenId"
    })
    .await;
    assert_eq!(
        two.portal("GET", "/assignment/accounts", &token).await.0,
        401
    );
    assert!(
        sign_in::of_handle(on(&two), &cookie, &origin())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn device_flows_of_one_source_are_limited_on_all_brokers_together() {
    let broker = started().await;
    let client = broker.register().await;
    broker.device(&client).await;
    // As if other brokers on this store had opened 998 flows for the same source.
    crate::integrity::sql(
        &broker.dir.path().join("store.db"),
        "WITH RECURSIVE others(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM others WHERE n < 998) \
         INSERT INTO sign_in_grants (kind, id, also, sign_in, family, state, expires_at, sealed) \
         SELECT kind, id || n, NULL, sign_in, family, state, expires_at, sealed FROM sign_in_grants, others \
         WHERE kind = 'device'",
    )
    .await;
    broker.device(&client).await;
    let wanted = with(&client, json!({"startUrl": "https://x.awsapps.com/start"}));
    let (status, name, body) = broker.json("/device_authorization", &wanted).await;
    assert_eq!(
        (status, name.as_str()),
        (400, "SlowDownException"),
        "{body}"
    );
}
