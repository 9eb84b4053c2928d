//! GetWebIdentityToken: issues a short-lived JSON Web Token that tells other services who the
//! caller is. STS API Reference, "GetWebIdentityToken"; IAM User Guide, "Federating to external
//! services".

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::session_input::{AuditTag, audited_tags, required};
use crate::base::clock::Timestamp;
use crate::base::entropy;
use crate::base::field;
use crate::base::field::FieldError;
use crate::base::names::{self, Tag};
use crate::base::secret::Secret;
use crate::budgets::CountedAs;
use crate::caller::Identity;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::Operation;
use crate::session::lifted_claims;
use crate::session::signing_key::Algorithm;
use crate::trust::{self, SessionRequest};

/// The maximum length of the token's claims in bytes, as JSON.
const MAX_CLAIMS: usize = 8_192;
const MAX_AUDIENCES: usize = 10;
const MIN_SECONDS: i64 = 60;
const MAX_SECONDS: i64 = 3_600;
const DEFAULT: Duration = Duration::from_secs(300);
/// The claim that contains AWS's own claims as a JSON object.
const NAMESPACE: &str = "https://sts.amazonaws.com/";

/// The parameters as the caller sent them, before any check. AWS documents the fields.
#[derive(Default)]
pub struct GetWebIdentityTokenInput {
    /// The parameter `Audience`: from 1 to 10 audiences.
    pub audience: Vec<String>,
    /// The parameter `SigningAlgorithm`, which is required.
    pub signing_algorithm: Option<String>,
    /// The parameter `DurationSeconds`: from 60 to 3,600 seconds; 300 by default.
    pub duration_seconds: Option<i64>,
    /// The parameter `Tags`: claims that the caller adds to the token.
    pub tags: Vec<Tag>,
}

/// A call of GetWebIdentityToken whose parameters have been checked.
pub struct GetWebIdentityToken {
    audience: Vec<String>,
    algorithm: Algorithm,
    duration: Duration,
    tags: Vec<Tag>,
}

/// The JSON Web Token that GetWebIdentityToken issued, and its expiration.
pub struct GetWebIdentityTokenOutput {
    pub web_identity_token: Secret<String>,
    pub expiration: Timestamp,
}

impl GetWebIdentityToken {
    /// Checks the form of each parameter, which needs no directory.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(input: GetWebIdentityTokenInput) -> Result<Self, Error> {
        if input.audience.is_empty() || input.audience.len() > MAX_AUDIENCES {
            return Err(FieldError::new(
                "Audience",
                format!("must have 1 to {MAX_AUDIENCES} items"),
            )
            .into());
        }
        for audience in &input.audience {
            field::length("Audience", audience, 1, 1_000)?;
        }
        let algorithm = required("SigningAlgorithm", input.signing_algorithm)?;
        let algorithm = Algorithm::parse(&algorithm).ok_or_else(|| {
            FieldError::new(
                "SigningAlgorithm",
                "must satisfy enum value set: [RS256, ES256, ES384, EdDSA]",
            )
        })?;
        let duration = match input.duration_seconds {
            None => DEFAULT,
            Some(seconds) if (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) => {
                Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
            }
            Some(_) => {
                let rule = format!("must have value from {MIN_SECONDS} to {MAX_SECONDS}");
                return Err(FieldError::new("DurationSeconds", rule).into());
            }
        };
        Ok(Self {
            audience: input.audience,
            algorithm,
            duration,
            tags: names::tags(input.tags)?,
        })
    }
}

impl Operation for GetWebIdentityToken {
    const NAME: &'static str = "GetWebIdentityToken";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = true;
    type Output = GetWebIdentityTokenOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            audience: &self.audience,
            signing_algorithm: self.algorithm.name(),
            duration_seconds: self.duration.as_secs(),
            tags: audited_tags(&self.tags),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<GetWebIdentityTokenOutput, Error> {
        let actions: &[&str] = match self.tags.is_empty() {
            true => &["sts:GetWebIdentityToken"],
            false => &["sts:GetWebIdentityToken", "sts:TagGetWebIdentityToken"],
        };
        let duration = self.duration.as_secs().to_string();
        let request = SessionRequest {
            tags: &self.tags,
            ..SessionRequest::default()
        };
        let facts = cx.facts().session(&request).web_identity(
            &self.audience,
            self.algorithm.name(),
            &duration,
        );
        let permit = |action: &&'static str| {
            trust::permit(cx.caller(), &cx.directory, &facts, action, "*").err()
        };
        if let Some(denied) = actions.iter().find_map(permit) {
            return Err(cx.refuse(&denied, "*"));
        }
        let Some(issuer) = &cx.broker.issuer else {
            let text = "Outbound web identity federation is not enabled: set [web_identity] issuer in the broker's configuration";
            return Err(Error::OutboundWebIdentityFederationDisabled(
                text.to_owned(),
            ));
        };
        let issued_at = cx.now.whole_second();
        let expiration = issued_at.plus(self.duration);
        if cx
            .caller()
            .session()
            .is_some_and(|s| expiration.seconds() > s.claims.expires_at)
        {
            return Err(Error::SessionDurationEscalation);
        }
        let id = crate::base::digest::hex(&entropy::bytes::<16>(&*cx.broker.entropy)?);
        let lifted = lifted_claims::of(cx.caller().own_tags(), &cx.broker.lifted_claims);
        let claims = claims(cx, issuer, &self, &id, issued_at, expiration, &lifted).to_string();
        if claims.len() > MAX_CLAIMS {
            return Err(Error::JwtPayloadSizeExceeded(claims.len(), MAX_CLAIMS));
        }
        let keyring = cx.broker.tokens.keyring();
        let key = keyring.signing_key(self.algorithm).ok_or_else(|| {
            let text = format!(
                "This broker has no current key for {}, or the key was revoked: make one current with `brevet keyring rotate`",
                self.algorithm.name()
            );
            Error::OutboundWebIdentityFederationDisabled(text)
        })?;
        let token = key.sign(claims.as_bytes())?;
        let account = cx.caller().account();
        cx.answered(
            &Answered {
                jwt_id: &id,
                key_id: key.id(),
                expiration: expiration.to_string(),
                claims: lifted,
            },
            account,
        );
        Ok(GetWebIdentityTokenOutput {
            web_identity_token: Secret::new(token),
            expiration,
        })
    }
}

fn claims(
    cx: &Context<'_>,
    issuer: &str,
    asked: &GetWebIdentityToken,
    id: &str,
    issued_at: Timestamp,
    expiration: Timestamp,
    lifted: &Map<String, Value>,
) -> Value {
    let caller = cx.caller();
    // The subject is the principal and not the session, because the rules of relying parties
    // outlive sessions.
    let subject = match &caller.identity {
        Identity::RoleSession { role, .. } => &*role.arn,
        _ => caller.arn(),
    };
    let mut own = Map::new();
    own.insert("aws_account".to_owned(), caller.account().as_str().into());
    own.insert("source_region".to_owned(), cx.broker.region.as_str().into());
    own.insert("principal_id".to_owned(), subject.into());
    let tags = caller.tags();
    let tags: Map<String, Value> = tags.map(|(k, v)| (k.to_owned(), v.into())).collect();
    if !tags.is_empty() {
        own.insert("principal_tags".to_owned(), tags.into());
    }
    if !asked.tags.is_empty() {
        let tags: Map<String, Value> = asked
            .tags
            .iter()
            .map(|t| (t.key.clone(), Value::from(t.value.as_str())))
            .collect();
        own.insert("request_tags".to_owned(), tags.into());
    }
    if let Some(session) = caller.session() {
        if session.is_restricted() {
            own.insert("restricted".to_owned(), true.into());
        }
        own.insert(
            "original_session_exp".to_owned(),
            Timestamp::from_seconds(session.claims.expires_at)
                .to_string()
                .into(),
        );
        own.insert(
            "role_session_name".to_owned(),
            session.claims.session_name.as_str().into(),
        );
        if !session.claims.source_identity.is_empty() {
            own.insert(
                "source_identity".to_owned(),
                session.claims.source_identity.as_str().into(),
            );
        }
        if let Some(identity) = &session.vouched {
            own.insert(
                "federated_provider".to_owned(),
                identity.provider_arn.as_str().into(),
            );
        }
    }
    let audience = match asked.audience.as_slice() {
        [one] => Value::from(one.as_str()),
        several => several.into(),
    };
    let mut claims = lifted.clone();
    let seconds = issued_at.seconds();
    for (name, value) in [
        ("iss", Value::from(issuer)),
        ("sub", subject.into()),
        ("aud", audience),
        ("jti", id.into()),
        ("iat", seconds.into()),
        ("nbf", seconds.into()),
        ("exp", expiration.seconds().into()),
        (NAMESPACE, own.into()),
    ] {
        claims.insert(name.to_owned(), value);
    }
    claims.into()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    audience: &'a [String],
    signing_algorithm: &'static str,
    duration_seconds: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<AuditTag<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    jwt_id: &'a str,
    key_id: &'a str,
    expiration: String,
    /// The claims that come from the tags of the role or user.
    #[serde(skip_serializing_if = "Map::is_empty")]
    claims: Map<String, Value>,
}
