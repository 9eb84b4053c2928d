//! An OpenID Connect provider that signs people in, and can be told to misbehave; and a browser without a
//! screen, which keeps cookies and follows redirects only when it is told to.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use brevet::base::entropy::SystemEntropy;
use brevet::session::key_state::KeyState;
use brevet::session::signing_key::{Algorithm, SigningKey};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::harness::{Answer, Broker, http1, now};

/// What was asked for with a code.
#[derive(Clone)]
struct Issued {
    claims: Value,
    challenge: String,
    redirect_uri: String,
}

#[derive(Clone, Default)]
struct State {
    codes: Arc<Mutex<HashMap<String, Issued>>>,
    /// What is added to the discovery document.
    more: Arc<Mutex<Value>>,
    /// What the token endpoint answers instead of a token.
    refusal: Arc<Mutex<Option<Value>>>,
    /// How the client authenticated last.
    client: Arc<Mutex<String>>,
}

/// The provider, which has the client `brevet` with the secret `s3cr~t`.
pub struct OidcIdp {
    pub address: SocketAddr,
    key: Arc<SigningKey>,
    state: State,
}

impl OidcIdp {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = SigningKey::generate(
            Algorithm::ES384,
            KeyState::Current,
            &SystemEntropy::new(),
            now(),
        );
        let idp = Self {
            address,
            key: Arc::new(key.unwrap()),
            state: State::default(),
        };
        *idp.state.more.lock().unwrap() = json!({});
        let (key, state) = (idp.key.clone(), idp.state.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (key, state) = (key.clone(), state.clone());
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(
                        move |request: Request<hyper::body::Incoming>| {
                            let (key, state) = (key.clone(), state.clone());
                            async move {
                                Ok::<_, Infallible>(answer(request, address, &key, &state).await)
                            }
                        },
                    );
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        idp
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn arn(&self) -> String {
        format!("arn:aws:iam::111122223333:oidc-provider/{}", self.address)
    }

    /// The provider as a directory file declares it.
    pub fn declared(&self) -> Value {
        json!({"Arn": self.arn(), "Url": self.url(), "ClientIDList": ["brevet"], "ClientSecret": "s3cr~t"})
    }

    /// Adds members to the discovery document.
    pub fn says(&self, more: Value) {
        *self.state.more.lock().unwrap() = more;
    }

    /// Makes the token endpoint refuse.
    pub fn refuses(&self, refusal: Option<Value>) {
        *self.state.refusal.lock().unwrap() = refusal;
    }

    /// How the client authenticated at the token endpoint last.
    pub fn client(&self) -> String {
        self.state.client.lock().unwrap().clone()
    }

    /// The claims of an ID token for what a browser was sent here to ask for.
    pub fn claims(&self, asked: &BTreeMap<String, String>) -> Value {
        json!({
            "iss": self.url(), "sub": "alice-1", "aud": "brevet", "nonce": asked["nonce"],
            "iat": now().seconds(), "exp": now().seconds() + 300,
            "preferred_username": "alice", "email": "alice@example.com", "sid": "s1",
        })
    }

    /// Signs somebody in, as a person at this provider would. Returns the code.
    pub fn issue(&self, asked: &BTreeMap<String, String>, claims: Value) -> String {
        let mut codes = self.state.codes.lock().unwrap();
        let code = format!("code-{}-{}", self.address.port(), codes.len());
        let issued = Issued {
            claims,
            challenge: asked["code_challenge"].clone(),
            redirect_uri: asked["redirect_uri"].clone(),
        };
        codes.insert(code.clone(), issued);
        code
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.key.sign(claims.to_string().as_bytes()).unwrap()
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    address: SocketAddr,
    key: &SigningKey,
    state: &State,
) -> Response<Full<Bytes>> {
    let url = format!("http://{address}");
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (status, answer) = match head.uri.path() {
        "/.well-known/openid-configuration" => {
            let mut document = json!({
                "issuer": url, "jwks_uri": format!("{url}/keys"),
                "authorization_endpoint": format!("{url}/authorize?tenant=1"),
                "token_endpoint": format!("{url}/token"),
                "end_session_endpoint": format!("{url}/logout"),
            });
            for (name, value) in state.more.lock().unwrap().as_object().unwrap() {
                document[name] = value.clone();
            }
            (200, document)
        }
        "/keys" => (200, json!({"keys": [key.jwk()]})),
        "/token" => token(&head.headers, &body, key, state),
        _ => (404, json!({})),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response
}

fn token(headers: &HeaderMap, body: &[u8], key: &SigningKey, state: &State) -> (u16, Value) {
    if let Some(refusal) = state.refusal.lock().unwrap().clone() {
        return (400, refusal);
    }
    let form: BTreeMap<String, String> = brevet::base::form::pairs(body)
        .unwrap()
        .into_iter()
        .collect();
    let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let client = match headers.get("authorization").map(|v| v.to_str().unwrap()) {
        Some(basic) => {
            let pair = STANDARD
                .decode(basic.strip_prefix("Basic ").unwrap())
                .unwrap();
            format!("basic {}", String::from_utf8(pair).unwrap())
        }
        None if form.contains_key("client_secret") => {
            format!("post {}:{}", value("client_id"), value("client_secret"))
        }
        None => format!("none {}", value("client_id")),
    };
    state.client.lock().unwrap().clone_from(&client);
    let issued = state.codes.lock().unwrap().remove(value("code"));
    let challenge = URL_SAFE_NO_PAD.encode(ring::digest::digest(
        &ring::digest::SHA256,
        value("code_verifier").as_bytes(),
    ));
    match issued {
        Some(issued)
            if issued.challenge == challenge
                && issued.redirect_uri == value("redirect_uri")
                && value("grant_type") == "authorization_code" =>
        {
            let id_token = key.sign(issued.claims.to_string().as_bytes()).unwrap();
            let answer = json!({"id_token": id_token, "access_token": "opaque", "token_type": "Bearer", "expires_in": 60});
            (200, answer)
        }
        _ => (
            400,
            json!({"error": "invalid_grant", "error_description": "<b>no</b>"}),
        ),
    }
}

/// A browser, with the cookies of one origin.
#[derive(Clone, Default)]
pub struct Browser {
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    /// Asks for a page of the broker.
    pub async fn get(&mut self, broker: &Broker, target: &str) -> Answer {
        self.send(broker, "GET", target, HeaderMap::new(), Vec::new())
            .await
    }

    /// Sends a form of a page of the broker.
    pub async fn post(&mut self, broker: &Broker, target: &str, form: &[(&str, &str)]) -> Answer {
        let headers = crate::harness::form_headers();
        let body = crate::harness::encode(form).into_bytes();
        self.send(broker, "POST", target, headers, body).await
    }

    async fn send(
        &mut self,
        broker: &Broker,
        method: &str,
        target: &str,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Answer {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        if !cookies.is_empty() {
            headers.insert(
                "cookie",
                HeaderValue::from_str(&cookies.join("; ")).unwrap(),
            );
        }
        let answer = http1(broker.address, method, target, headers, body).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            assert!(
                text.contains("; Secure")
                    && text.contains("; HttpOnly")
                    && text.contains("SameSite=Lax"),
                "{text}"
            );
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            match text.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// The value of the cookie of a sign-in, if the browser has one.
    pub fn session(&self) -> Option<&String> {
        self.cookies.get("__Host-brevet")
    }
}

/// The address to which an answer sends the browser.
pub fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.headers["location"].to_str().unwrap().to_owned()
}

/// The parameters of an address.
pub fn parameters(url: &str) -> BTreeMap<String, String> {
    let query = url.split_once('?').unwrap().1;
    brevet::base::form::pairs(query.as_bytes())
        .unwrap()
        .into_iter()
        .collect()
}

/// The value of a hidden field of a page.
pub fn field(page: &str, name: &str) -> String {
    let after = page
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("{page}"))
        .1;
    after.split('"').next().unwrap().to_owned()
}
