//! The fields of a record, which are CloudTrail's: AWS CloudTrail User Guide, "CloudTrail record
//! contents".

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::base::clock::Timestamp;
use crate::base::digest::Hex;

/// One call, in the fields of CloudTrail's record contents. It may borrow its texts, since it is formatted as a line at
/// once and then dropped.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<'a> {
    pub event_version: &'static str,
    pub user_identity: UserIdentity<'a>,
    #[serde(serialize_with = "as_text")]
    pub event_time: Timestamp,
    pub event_source: &'static str,
    /// The action. For an unknown action, the name that the request contains.
    pub event_name: Cow<'a, str>,
    /// The region in the scope of the signature, or else the broker's own region.
    pub aws_region: Cow<'a, str>,
    #[serde(rename = "sourceIPAddress")]
    pub source_ip_address: SourceAddress,
    pub user_agent: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
    /// The error message of a refusal, as sent to the caller, or the error of a failed command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    pub request_parameters: Option<Box<RawValue>>,
    /// The elements of the response, without secrets and tokens.
    pub response_elements: Option<Box<RawValue>>,
    /// Details that the caller is not told, such as the statement that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_event_data: Option<Box<RawValue>>,
    /// The request id, which the response contains too; empty in a record of several calls.
    #[serde(rename = "requestID", skip_serializing_if = "str::is_empty")]
    pub request_id: Cow<'a, str>,
    #[serde(rename = "eventID")]
    pub event_id: Cow<'a, str>,
    /// Whether the call changes nothing in the directory. As in CloudTrail, this is true of every STS call.
    pub read_only: bool,
    /// The type of the event: `AwsApiCall`; `BrevetChange` for a change of the feed, and for a role of a directory file
    /// whose tags override a rule for trust policies; `BrevetAggregate` for counted calls, which were refused or issued
    /// nothing; `BrevetSignature` for a signature of several tokens; `BrevetCommand` for a command on the broker's
    /// machine; `AwsConsoleSignIn` or `AwsServiceEvent` for an event of a person's sign-in.
    pub event_type: &'static str,
    /// `false` for a request to an object store, which is a data event.
    pub management_event: bool,
    /// The account that owns the resource of the request.
    pub recipient_account_id: Option<Cow<'a, str>>,
    /// The category of the event: `Management`, or `Data` for a request to an object store.
    pub event_category: &'static str,
    /// The leaf of the issued session token in the hash tree that the broker signed; `None` if the call issued no such
    /// token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_leaf: Option<Hex>,
}

/// Where a call came from.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum SourceAddress {
    /// The address of the client.
    Address(IpAddr),
    /// The /64 network of the clients whose calls a record counts, or their one address.
    Network(String),
    /// The broker's own machine, `localhost`; empty if a record counts calls from everywhere.
    Host(&'static str),
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdentity<'a> {
    /// The kind of caller: `IAMUser`, `AssumedRole`, `FederatedUser`, `WebIdentityUser`, `SAMLUser`, `Operator` for a
    /// person at the broker's machine, `Broker` for an act of the broker itself, `AWSAccount` for a request to an
    /// object store without credentials, or `Unknown` for a call that was not authenticated.
    pub r#type: Cow<'static, str>,
    /// The unique id: `AIDA…` for a user, `AROA…:SESSION` for a role session, `ACCOUNT:NAME` for a federated user. For
    /// the holder of a token, the provider, the audience and the subject; for that of a SAML assertion, the
    /// NameQualifier and the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<Cow<'a, str>>,
    /// The id of the access key that signed the call, or the SPIFFE ID or subject of a client certificate. For an
    /// unknown caller, the id of the key that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<Cow<'a, str>>,
    /// The provider of a caller without credentials of the broker: the ARN of an OpenID Connect provider, or the
    /// NameQualifier of a SAML assertion. In the record of a sign-in, the ARN of either kind of provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_context: Option<SessionContext<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionContext<'a> {
    /// The role of a role session, or the user that vouches for a federated user. A user's own session or sign-in has
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_issuer: Option<SessionIssuer<'a>>,
    /// The time and the kind of authentication of the session.
    pub attributes: SessionAttributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<Cow<'a, str>>,
}

/// The role or user that issued a session: CloudTrail's `sessionIssuer`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionIssuer<'a> {
    /// The kind of issuer: `Role` or `IAMUser`.
    pub r#type: &'static str,
    pub principal_id: Cow<'a, str>,
    pub arn: Cow<'a, str>,
    pub account_id: Cow<'a, str>,
    pub user_name: Cow<'a, str>,
}

/// When a session was issued or a sign-in was made, and whether MFA was used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAttributes {
    /// The time when the session was issued, or the person signed in.
    #[serde(serialize_with = "as_text")]
    pub creation_date: Timestamp,
    /// Whether the session was opened with an MFA code, as the text `true` or `false`.
    pub mfa_authenticated: &'static str,
}

/// Writes a time in ISO 8601, in whole seconds.
fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Makes a record with the given fields. The other fields say that STS was called by an unknown caller and nothing was
/// changed, or are empty.
pub fn record<'a>(
    event_name: impl Into<Cow<'a, str>>,
    now: Timestamp,
    request_id: impl Into<Cow<'a, str>>,
    event_id: impl Into<Cow<'a, str>>,
) -> Record<'a> {
    Record {
        event_version: "1.11",
        user_identity: UserIdentity {
            r#type: "Unknown".into(),
            ..UserIdentity::default()
        },
        event_time: now,
        event_source: "sts.amazonaws.com",
        event_name: event_name.into(),
        aws_region: "".into(),
        source_ip_address: SourceAddress::Host(""),
        user_agent: None,
        error_code: None,
        error_message: None,
        request_parameters: None,
        response_elements: None,
        additional_event_data: None,
        request_id: request_id.into(),
        event_id: event_id.into(),
        read_only: true,
        event_type: "AwsApiCall",
        management_event: true,
        recipient_account_id: None,
        event_category: "Management",
        token_leaf: None,
    }
}
