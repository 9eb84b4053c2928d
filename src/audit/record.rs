//! The shape of a record: CloudTrail's, as the AWS CloudTrail User Guide describes it in "CloudTrail
//! record contents". Knows no call and no file.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::clock::Timestamp;

/// One call, as CloudTrail's record contents describe it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of this shape.
    pub event_version: &'static str,
    /// Who called.
    pub user_identity: UserIdentity,
    /// When, to the second.
    pub event_time: String,
    /// `sts.amazonaws.com`
    pub event_source: &'static str,
    /// The action; as asked when it is none of ours.
    pub event_name: Cow<'static, str>,
    /// The region of the call's scope, or the broker's own.
    pub aws_region: String,
    /// From which address; of counted refusals it may be a /64.
    #[serde(rename = "sourceIPAddress")]
    pub source_ip_address: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The error's code, in the record of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
    /// In the record of a refusal: what the caller was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// What was asked; never a secret.
    pub request_parameters: Option<Box<RawValue>>,
    /// What was answered; never a secret and no token.
    pub response_elements: Option<Box<RawValue>>,
    /// What the caller was not told: which statement decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_event_data: Option<Box<RawValue>>,
    /// Also in the answer; empty in a record of several calls.
    #[serde(rename = "requestID", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Different in each record.
    #[serde(rename = "eventID")]
    pub event_id: String,
    /// As in CloudTrail: an STS call changes no resource; a change of the feed does.
    pub read_only: bool,
    /// `AwsApiCall`; `BrevetChange` for a change of the feed; `BrevetAggregate` for refusals that were
    /// counted; `BrevetCommand` for a command on the broker's machine.
    pub event_type: &'static str,
    /// Always `true`: Brevet has no data events.
    pub management_event: bool,
    /// The account of what was asked about.
    pub recipient_account_id: Option<String>,
    /// `Management`
    pub event_category: &'static str,
}

/// Who called.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdentity {
    /// `IAMUser`, `AssumedRole`, `FederatedUser`, `WebIdentityUser`, `SAMLUser`, `Operator`, or `Unknown` for a call that proved nothing.
    pub r#type: Cow<'static, str>,
    /// `AIDA…` or `AROA…:SESSION`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// Of the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// Of the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The key that signed; of an unknown caller the key that was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The user's name, if it is a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The provider's ARN, if it is a web identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<String>,
    /// Of temporary credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_context: Option<SessionContext>,
}

/// Where a session came from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionContext {
    /// The role, or the user who vouches; a user's own session has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_issuer: Option<SessionIssuer>,
    /// Since when.
    pub attributes: SessionAttributes,
    /// The person or process behind the session, as the source identity says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
}

/// The principal behind a session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionIssuer {
    /// `Role`, `IAMUser`
    pub r#type: &'static str,
    /// `AROA…`, `AIDA…`
    pub principal_id: String,
    /// Of the role.
    pub arn: String,
    /// Of the role.
    pub account_id: String,
    /// Its name.
    pub user_name: String,
}

/// When a session began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAttributes {
    /// When it was issued.
    pub creation_date: String,
    /// `true` or `false`
    pub mfa_authenticated: &'static str,
}

/// An empty record to fill in.
pub fn record(
    event_name: impl Into<Cow<'static, str>>,
    now: Timestamp,
    request_id: String,
    event_id: String,
) -> Record {
    Record {
        event_version: "1.11",
        user_identity: UserIdentity {
            r#type: "Unknown".into(),
            ..UserIdentity::default()
        },
        event_time: now.to_string(),
        event_source: "sts.amazonaws.com",
        event_name: event_name.into(),
        aws_region: String::new(),
        source_ip_address: String::new(),
        user_agent: None,
        error_code: None,
        error_message: None,
        request_parameters: None,
        response_elements: None,
        additional_event_data: None,
        request_id,
        event_id,
        read_only: true,
        event_type: "AwsApiCall",
        management_event: true,
        recipient_account_id: None,
        event_category: "Management",
    }
}
