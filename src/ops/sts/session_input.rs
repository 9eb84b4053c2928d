//! Checks of the parameters that several operations share: session policies, tags and MFA codes.

use serde::Serialize;

use crate::base::arn::{AccountId, IamArn};
use crate::base::digest::sha256;
use crate::base::field;
use crate::base::field::FieldError;
use crate::base::names::{SerialNumber, Tag};
use crate::error::Error;
use crate::evaluator::{Policy, PolicyKind};
use crate::mfa::Code;
use crate::mint;
use crate::ops::context::Context;

/// The maximum number of managed session policies.
const MAX_POLICY_ARNS: usize = 10;

/// Returns the value of a required parameter.
///
/// # Errors
/// [`FieldError`] if the request does not have the parameter.
pub(super) fn required(field: &'static str, value: Option<String>) -> Result<String, FieldError> {
    value.ok_or_else(|| FieldError::new(field, "must not be null"))
}

/// Removes the white space around a token or a SAML response, since a file often ends with a line
/// break. The function changes the text in place, so that no copy of the secret is left in memory.
pub(super) fn trimmed(mut token: String) -> String {
    const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];
    token.truncate(token.trim_end_matches(BLANK).len());
    token.drain(..token.len() - token.trim_start_matches(BLANK).len());
    token
}

pub(super) fn policy_arns(arns: Vec<String>) -> Result<Vec<String>, Error> {
    if arns.len() > MAX_POLICY_ARNS {
        return Err(FieldError::new(
            "PolicyArns",
            format!("must have at most {MAX_POLICY_ARNS} items"),
        )
        .into());
    }
    for arn in &arns {
        field::length("PolicyArns", arn, 20, 2048)?;
    }
    Ok(arns)
}

/// Checks that the managed session policies exist, in the account of the session that they limit or as AWS managed
/// policies.
pub(super) fn check_policy_arns(
    cx: &Context<'_>,
    arns: &[String],
    account: AccountId,
) -> Result<(), Error> {
    for arn in arns {
        let own = IamArn::parse(arn).is_none_or(|a| a.account == account);
        if !own || cx.directory.managed_policy(arn).is_none() {
            return Err(FieldError::new(
                "PolicyArns",
                format!(
                    "must name managed policies of the session's account, but `{arn}` is not one of them"
                ),
            )
            .into());
        }
    }
    Ok(())
}

/// Checks the length of the parameter `Policy`, including white space. [`check_session_policy`]
/// checks the content later, and the packed size has a limit of its own.
pub(super) fn session_policy(text: String) -> Result<String, FieldError> {
    field::length("Policy", &text, 1, PolicyKind::Session.max_characters())?;
    Ok(text)
}

/// Checks that a session policy is valid. The digests of valid policies are remembered, because
/// callers send the same policies repeatedly.
pub(super) fn check_session_policy(cx: &Context<'_>, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Ok(());
    }
    let digest = sha256(text.as_bytes());
    if cx.broker.sound_policies.get(&digest).is_none() {
        Policy::parse(PolicyKind::Session, text)
            .map_err(|e| Error::MalformedPolicyDocument(e.to_string()))?;
        cx.broker.sound_policies.insert(digest, ());
    }
    Ok(())
}

/// Returns the MFA device and its code from the request; `None` if the request has neither. [`crate::mfa::prove`]
/// checks the form of the code, because it also counts wrong codes.
pub(super) fn mfa(
    serial_number: Option<String>,
    token_code: Option<String>,
) -> Result<Option<Code>, Error> {
    let serial_number = serial_number
        .map(|s| SerialNumber::parse("SerialNumber", &s))
        .transpose()?;
    match (serial_number, token_code) {
        (None, None) => Ok(None),
        (serial_number, token_code) => Ok(Some(Code::new(serial_number, token_code))),
    }
}

#[derive(Serialize)]
pub(super) struct AuditTag<'a> {
    key: &'a str,
    value: &'a str,
}

pub(super) fn audited_tags(tags: &[Tag]) -> Vec<AuditTag<'_>> {
    tags.iter()
        .map(|t| AuditTag {
            key: &t.key,
            value: &t.value,
        })
        .collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnsweredCredentials<'a> {
    access_key_id: &'a str,
    expiration: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnsweredRoleUser<'a> {
    assumed_role_id: &'a str,
    arn: &'a str,
}

pub(super) fn audited_role_user(session: &mint::Session) -> AnsweredRoleUser<'_> {
    AnsweredRoleUser {
        assumed_role_id: &session.user_id,
        arn: &session.arn,
    }
}

pub(super) fn audited_credentials(credentials: &mint::Credentials) -> AnsweredCredentials<'_> {
    AnsweredCredentials {
        access_key_id: credentials.access_key_id.as_str(),
        expiration: credentials.expires_at.to_string(),
    }
}
