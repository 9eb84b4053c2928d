//! Temporary credentials in the forms that other programs read.

use std::sync::Arc;

use serde::Serialize;

use super::Failure;
use crate::base::arn::account_of;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::client::{AssumedRole, Credentials};

/// Temporary credentials that were checked: their values have only the characters that such values can
/// have, because they are written into shells, files and the requests of other programs.
#[derive(Clone)]
pub(crate) struct SessionCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: Arc<Secret<String>>,
    pub(crate) session_token: Arc<Secret<String>>,
    pub(crate) received_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// The account of the role: twelve digits.
    pub(crate) account_id: String,
}

impl SessionCredentials {
    /// Takes the session out of the broker's answer, and checks it.
    ///
    /// # Errors
    /// A text for the operator, if a value is missing or has a character that such values never have.
    pub(crate) fn of(role: &AssumedRole) -> Result<Self, Failure> {
        let credentials = &role.credentials;
        let (received_at, expires_at) = credentials
            .life
            .ok_or("the broker's answer has no Expiration")?;
        Self {
            access_key_id: credentials.access_key_id.clone(),
            secret_access_key: credentials.secret_access_key.clone(),
            session_token: credentials
                .session_token
                .clone()
                .ok_or("the broker's answer has no SessionToken")?,
            received_at,
            expires_at,
            account_id: account_of(&role.arn).to_owned(),
        }
        .checked()
        .map_err(|fault| format!("the broker's answer cannot be trusted: {fault}").into())
    }

    /// Returns the session if its values have only characters that such values can have.
    ///
    /// # Errors
    /// A text that names the value that is empty or has another character.
    pub(crate) fn checked(self) -> Result<Self, String> {
        for (what, value, more) in [
            ("access key id", &self.access_key_id, ""),
            ("secret access key", self.secret_access_key.expose(), "+/="),
            ("session token", self.session_token.expose(), "+/=_-"),
            ("account", &self.account_id, ""),
        ] {
            if !has_only_letters_and(value, more) {
                return Err(format!(
                    "the {what} contains characters that such a value never has"
                ));
            }
        }
        Ok(self)
    }

    /// Converts the credentials into the form of a broker's answer, in which the agent keeps sessions.
    pub(crate) fn assumed(self, role_arn: &str) -> AssumedRole {
        AssumedRole {
            credentials: Credentials {
                access_key_id: self.access_key_id,
                secret_access_key: self.secret_access_key,
                session_token: Some(self.session_token),
                life: Some((self.received_at, self.expires_at)),
            },
            assumed_role_id: String::new(),
            arn: role_arn.to_owned(),
            packed_policy_size: 0,
            source_identity: String::new(),
        }
    }

    /// The credentials with the names that AWS's tools print and read. `version` is the field `Version`, which only the
    /// output of a `credential_process` has.
    pub(crate) fn printed(&self, version: Option<u8>) -> Printed<'_> {
        Printed {
            version,
            access_key_id: &self.access_key_id,
            secret_access_key: self.secret_access_key.expose(),
            session_token: self.session_token.expose(),
            expiration: self.expires_at.to_string(),
            account_id: version.is_some().then_some(&self.account_id),
        }
    }
}

/// Whether a text is not empty, and consists of ASCII letters, digits and the characters of `more`.
pub(crate) fn has_only_letters_and(text: &str, more: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
}

/// Credentials with the names that `aws sts assume-role` prints and `credential_process` expects.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Printed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: &'a str,
    expiration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

#[cfg(test)]
impl SessionCredentials {
    /// A session with these values, which was received at the beginning of 2026 and lasts an hour.
    pub(crate) fn for_tests(access_key_id: &str, secret: &str, token: &str) -> Self {
        let received_at = Timestamp::from_amz("20260102T020405Z").unwrap();
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Secret::new(secret.to_owned()).into(),
            session_token: Secret::new(token.to_owned()).into(),
            received_at,
            expires_at: received_at.plus(std::time::Duration::from_secs(3_600)),
            account_id: "111122223333".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_of_credential_process_is_as_aws_describes_it() {
        let session = SessionCredentials::for_tests("ASIA0123456789ABCDEF", "ab+/0=", "AB_c-d");
        assert_eq!(
            serde_json::to_string(&session.printed(Some(1))).unwrap(),
            r#"{"Version":1,"AccessKeyId":"ASIA0123456789ABCDEF","SecretAccessKey":"ab+/0=","SessionToken":"AB_c-d","Expiration":"2026-01-02T03:04:05Z","AccountId":"111122223333"}"#
        );
        assert_eq!(
            serde_json::to_string(&session.printed(None)).unwrap(),
            r#"{"AccessKeyId":"ASIA0123456789ABCDEF","SecretAccessKey":"ab+/0=","SessionToken":"AB_c-d","Expiration":"2026-01-02T03:04:05Z"}"#
        );
    }

    #[test]
    fn characters_that_no_credential_has_are_refused() {
        let checked =
            |id, secret, token| SessionCredentials::for_tests(id, secret, token).checked();
        assert!(checked("ASIA", "ab+/", "A_-").is_ok());
        for bad in ["$(touch x)", "a'b", "a b", "a\nb", "", "é", "a\\b", "a\"b"] {
            assert!(checked(bad, "ab", "AB").is_err(), "{bad:?} as an id");
            assert!(checked("ASIA", bad, "AB").is_err(), "{bad:?} as a secret");
            assert!(checked("ASIA", "ab", bad).is_err(), "{bad:?} as a token");
        }
    }
}
