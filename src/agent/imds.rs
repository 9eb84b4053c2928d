//! The instance metadata service, version 2, as on EC2. Everybody who reaches the listener gets the same role:
//! workloads are not told apart by their address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::audit::{Audit, Recipient};
use super::config::ImdsConfig;
use super::front::Refused;
use super::handouts::Slot;
use super::imds_token::{MAX_TTL_SECONDS, TokenKey};
use super::listener::{Answer, Face};
use super::metrics::{HandOuts, Metrics};
use super::refusal::Refusal;
use crate::base::arn::name_of;
use crate::base::clock::{Clock, Timestamp};
use crate::base::entropy::{Entropy, NoEntropy};

const LISTENER: &str = "imds";
static TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
static TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials";
const INFO_PATH: &str = "/latest/meta-data/iam/info";
const TEXT: &str = "text/plain";
const JSON: &str = "application/json";

/// The instance metadata service as a [`Face`] of a listener.
pub struct Imds {
    slot: Arc<Slot>,
    /// The path of the page with the role's credentials.
    role_path: String,
    /// All other pages, by path without a final slash.
    pages: HashMap<String, Bytes>,
    v1: bool,
    token_hop_limit: u32,
    instance_profile_arn: String,
    key: TokenKey,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    audit: Arc<Audit>,
    hand_outs: HandOuts,
    by_token: Recipient,
    by_nothing: Recipient,
}

/// The dependencies that the faces of all listeners have in common.
pub struct Parts {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub audit: Arc<Audit>,
    pub metrics: Arc<Metrics>,
}

impl Imds {
    /// Makes the service for a session that is kept fresh. `more` are further pages with their paths.
    ///
    /// # Errors
    /// [`NoEntropy`] if the operating system gives no random bytes for the key of its tokens.
    pub fn new(
        config: &ImdsConfig,
        slot: Arc<Slot>,
        parts: Parts,
        more: Vec<(String, String)>,
    ) -> Result<Self, NoEntropy> {
        let role = name_of(&config.role_arn);
        let mut names = config.meta_data.names();
        names.push("iam/".to_owned());
        names.sort();
        let mut pages = vec![
            (String::new(), "latest".to_owned()),
            ("/latest".to_owned(), "dynamic/\nmeta-data/".to_owned()),
            ("/latest/meta-data".to_owned(), names.join("\n")),
            (
                "/latest/meta-data/iam".to_owned(),
                "info\nsecurity-credentials/".to_owned(),
            ),
            (ROLES_PATH.to_owned(), role.to_owned()),
        ];
        pages.extend(config.meta_data.pages("/latest/meta-data"));
        pages.extend(more);
        let recipient = |proof| Recipient {
            listener: LISTENER,
            workload: config.meta_data.instance_id().to_owned(),
            proof,
        };
        let pages = pages.into_iter().map(|(path, text)| (path, text.into()));
        Ok(Self {
            slot,
            role_path: format!("{ROLES_PATH}/{role}"),
            pages: pages.collect(),
            v1: config.v1,
            token_hop_limit: config.token_hop_limit,
            instance_profile_arn: config.instance_profile_arn.clone(),
            key: TokenKey::generate(&*parts.entropy)?,
            clock: parts.clock,
            entropy: parts.entropy,
            audit: parts.audit,
            hand_outs: parts.metrics.hand_outs(LISTENER),
            by_token: recipient("imds-token"),
            by_nothing: recipient("none"),
        })
    }

    fn token(&self, headers: &HeaderMap, now: Timestamp) -> Answer {
        let mut given = headers.get_all(&TTL).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return bad_ttl();
        };
        let digits = value.to_str().ok().filter(|text| {
            (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        });
        let ttl = digits.and_then(|text| text.parse().ok());
        let Some(ttl) = ttl.filter(|ttl| (1..=MAX_TTL_SECONDS).contains(ttl)) else {
            return bad_ttl();
        };
        match self.key.issue(now, ttl, &*self.entropy) {
            Ok(token) => Answer::new(StatusCode::OK, TEXT, token)
                .header(TTL.clone(), HeaderValue::from(ttl))
                .within_hops(self.token_hop_limit),
            Err(NoEntropy) => Answer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "This agent cannot make a token: the operating system's random number generator failed. Try again \
                 later.",
            ),
        }
    }

    /// The recipient for the audit log, by how the caller proved that it may ask: by a token, or without one if version
    /// 1 is on. `None` if the caller must be refused. An invalid token is always refused, even if version 1 is on.
    fn proof(&self, headers: &HeaderMap, now: Timestamp) -> Option<&Recipient> {
        // There are few headers, so that to compare their names costs less than a look-up.
        let mut given = headers.iter().filter(|(name, _)| **name == TOKEN);
        match (given.next(), given.next()) {
            (None, _) => self.v1.then_some(&self.by_nothing),
            (Some((_, token)), None) => {
                let valid = self.key.check(token.as_bytes(), now);
                valid.ok().map(|()| &self.by_token)
            }
            (Some(_), Some(_)) => None,
        }
    }

    async fn credentials(&self, recipient: &Recipient, peer: SocketAddr, now: Timestamp) -> Answer {
        let result = self.slot.get(now).await;
        let result = result.as_deref();
        self.hand_outs.count(result.map(|_| ()));
        self.audit
            .handed_out(now, recipient, || Some(peer.to_string()), result);
        match result {
            Ok(session) => Answer::new(StatusCode::OK, JSON, session.imds_document.clone()),
            Err(refusal) => no_credentials(refusal, now),
        }
    }

    fn info(&self, now: Timestamp) -> Answer {
        let updated = self.slot.session().map_or(now, |s| s.issued_at);
        let document = json!({
            "Code": "Success",
            "LastUpdated": updated.to_string(),
            "InstanceProfileArn": self.instance_profile_arn,
            "InstanceProfileId": super::imds_tree::profile_id(&self.instance_profile_arn),
        });
        Answer::new(StatusCode::OK, JSON, document.to_string())
    }
}

/// The answer if there are no credentials. A definite refusal is reported as EC2 reports a role that it cannot assume:
/// status 200 and a document with a code but without keys, which makes an SDK stop. If trying again may help, the
/// status is 503.
fn no_credentials(refusal: &Refusal, now: Timestamp) -> Answer {
    match refusal {
        Refusal::Denied { code, message } => {
            let document = json!({
                "Code": "AssumeRoleUnauthorizedAccess",
                "Message": format!("The broker refused to let this agent assume the role ({code}): {message}"),
                "LastUpdated": now.to_string(),
            });
            Answer::new(StatusCode::OK, JSON, document.to_string())
        }
        Refusal::Unavailable { .. } => {
            Answer::new(StatusCode::SERVICE_UNAVAILABLE, TEXT, refusal.to_string())
        }
    }
}

fn bad_ttl() -> Answer {
    let text = "The header X-aws-ec2-metadata-token-ttl-seconds must be sent once, with a number of seconds from 1 \
        to 21600.";
    Answer::new(StatusCode::BAD_REQUEST, TEXT, text)
}

impl Face for Imds {
    async fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
        // One instant for the whole request: the clock is not free.
        let now = self.clock.now();
        let path = request.uri().path();
        if path == TOKEN_PATH && request.method() == Method::PUT {
            return self.token(request.headers(), now);
        }
        let Some(recipient) = self.proof(request.headers(), now) else {
            self.hand_outs.unproven.inc();
            return Answer::new(
                StatusCode::UNAUTHORIZED,
                TEXT,
                "The header X-aws-ec2-metadata-token must hold a valid token of this agent; get a token with PUT \
                 /latest/api/token.",
            );
        };
        if request.method() != Method::GET {
            return Answer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "The method must be GET, or PUT for /latest/api/token.",
            )
            .header(ALLOW, HeaderValue::from_static("GET"));
        }
        if path == self.role_path {
            return self.credentials(recipient, peer, now).await;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == INFO_PATH {
            return self.info(now);
        }
        match self.pages.get(path) {
            Some(page) => Answer::new(StatusCode::OK, TEXT, page.clone()),
            None => Answer::new(
                StatusCode::NOT_FOUND,
                TEXT,
                "This agent has no instance metadata at this path.",
            ),
        }
    }

    fn refuse(&self, refused: Refused) -> Answer {
        Answer::new(refused.status, TEXT, refused.message)
    }
}
