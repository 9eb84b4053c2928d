//! A session of a role as the agent keeps it: the credentials, and the documents in which they are handed out,
//! which are made only once.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base::arn::account_of;
use crate::base::clock::Timestamp;
use crate::client::{AssumedRole, ClientError, Credentials};

/// A session of a role, ready to be handed out.
pub struct RoleSession {
    pub role_arn: String,
    /// The ARN of the session: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub arn: String,
    /// The role's unique id and the name of the session: `AROA…:SESSION`.
    pub assumed_role_id: String,
    pub credentials: Credentials,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The document with which the instance metadata service answers.
    pub imds_document: Bytes,
    /// The document with which the container endpoint answers.
    pub container_document: Bytes,
}

/// Prints the ARN and the expiry, but no credentials.
impl fmt::Debug for RoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoleSession({}, until {})", self.arn, self.expires_at)
    }
}

/// The document with credentials, with AWS's names. `Expiration` is written in whole seconds, because botocore cannot
/// read fractions.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
    account_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<&'a str>,
}

impl RoleSession {
    /// Makes a session from the broker's answer.
    ///
    /// # Errors
    /// [`ClientError::Incomplete`] if the answer has no session token or no expiry, or cannot be written as JSON.
    pub fn new(role_arn: &str, role: AssumedRole) -> Result<Self, ClientError> {
        let credentials = role.credentials;
        let (issued_at, expires_at) = credentials
            .life
            .ok_or(ClientError::Incomplete("expiration"))?;
        let token = credentials
            .session_token
            .clone()
            .ok_or(ClientError::Incomplete("session_token"))?;
        let account_id = account_of(role_arn).to_owned();
        let container = Document {
            code: None,
            last_updated: None,
            r#type: None,
            access_key_id: &credentials.access_key_id,
            secret_access_key: credentials.secret_access_key.expose(),
            token: token.expose(),
            expiration: expires_at.to_string(),
            account_id: &account_id,
            role_arn: Some(role_arn),
        };
        let container_document = document(&container)?;
        let imds_document = document(&Document {
            code: Some("Success"),
            last_updated: Some(issued_at.to_string()),
            r#type: Some("AWS-HMAC"),
            role_arn: None,
            ..container
        })?;
        Ok(Self {
            role_arn: role_arn.to_owned(),
            arn: role.arn,
            assumed_role_id: role.assumed_role_id,
            credentials,
            issued_at,
            expires_at,
            imds_document,
            container_document,
        })
    }
}

/// Serializes the document into memory that is wiped when no answer uses it any more.
fn document(document: &Document<'_>) -> Result<Bytes, ClientError> {
    // Room for the longest session token, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(document.token.len() + 1_024));
    serde_json::to_writer(&mut *text, document).map_err(|_| ClientError::Incomplete("JSON"))?;
    Ok(Bytes::from_owner(text))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The answer of a broker, for tests.
    pub fn answered(key: &str, issued_at: Timestamp, expires_at: Timestamp) -> AssumedRole {
        let keys = Credentials::new(key, "canary-secret", Some("canary-token"));
        AssumedRole {
            credentials: Credentials {
                life: Some((issued_at, expires_at)),
                ..keys
            },
            assumed_role_id: "AROAEXAMPLE:node".into(),
            arn: "arn:aws:sts::111122223333:assumed-role/App/node".into(),
            packed_policy_size: 0,
            source_identity: String::new(),
        }
    }

    #[test]
    fn the_documents_are_those_that_sdks_read() {
        let (issued, expires) = (
            Timestamp::from_millis(1_767_323_045_678),
            Timestamp::from_seconds(1_767_326_645),
        );
        let role = "arn:aws:iam::111122223333:role/team/App";
        let session = RoleSession::new(role, answered("ASIAEXAMPLE", issued, expires)).unwrap();
        let imds: serde_json::Value = serde_json::from_slice(&session.imds_document).unwrap();
        let expected = serde_json::json!({"Code": "Success", "LastUpdated": "2026-01-02T03:04:05Z", "Type": "AWS-HMAC",
            "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "canary-secret", "Token": "canary-token",
            "Expiration": "2026-01-02T04:04:05Z", "AccountId": "111122223333"});
        assert_eq!(imds, expected);
        let container: serde_json::Value =
            serde_json::from_slice(&session.container_document).unwrap();
        let expected = serde_json::json!({"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "canary-secret",
            "Token": "canary-token", "Expiration": "2026-01-02T04:04:05Z", "AccountId": "111122223333", "RoleArn": role});
        assert_eq!(container, expected);
        assert!(!format!("{session:?}").contains("canary"));
    }

    #[test]
    fn an_answer_that_lacks_something_is_no_session() {
        let at = Timestamp::from_seconds;
        let role = "arn:aws:iam::111122223333:role/App";
        let mut answer = answered("ASIAEXAMPLE", at(0), at(3_600));
        answer.credentials.session_token = None;
        assert!(RoleSession::new(role, answer).is_err());
        let mut answer = answered("ASIAEXAMPLE", at(0), at(3_600));
        answer.credentials.life = None;
        assert!(RoleSession::new(role, answer).is_err());
    }
}
