//! The audit records of sign-ins and of tokens for programs. They have the shapes of CloudTrail's sign-in events:
//! CloudTrail User Guide, "AWS Management Console sign-in events", and IAM Identity Center User Guide, "Logging IAM
//! Identity Center API calls".

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::audit::{
    self, Counting, Record, SessionAttributes, SessionContext, SourceAddress, UserIdentity,
};
use crate::base::entropy;
use crate::broker::Broker;
use crate::error::Error;
use crate::metrics::Call as CallLabel;
use crate::origin::Origin;
use crate::signed_in::{Method, SignIn, Who};

/// The maximum length of a user agent in a record, in bytes as written.
const MAX_USER_AGENT: usize = 512;

/// A kind of event: the name, the source and the type that CloudTrail gives it.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    source: &'static str,
    name: &'static str,
    r#type: &'static str,
}

impl Event {
    /// A user of the directory signed in.
    pub const CONSOLE_LOGIN: Self = Self::sign_in("ConsoleLogin", "AwsConsoleSignIn");
    /// A person for whom an identity provider vouches signed in.
    pub const USER_AUTHENTICATION: Self = Self::sign_in("UserAuthentication", "AwsServiceEvent");
    /// A person, an administrator or an identity provider ended a sign-in.
    pub const SIGN_OUT: Self = Self::sign_in("Logout", "AwsServiceEvent");
    /// A person ended a session that came from a sign-in.
    pub const END_SESSION: Self = Self::sign_in("EndSession", "AwsServiceEvent");
    /// A person allowed or denied a program that asked by the device flow.
    pub const DEVICE_DECISION: Self = Self::sign_in("DecideDeviceAuthorization", "AwsServiceEvent");
    /// A person allowed or denied a program that asked by the authorization code flow.
    pub const AUTHORIZE: Self = Self::sign_in("Authorize", "AwsServiceEvent");
    pub const REGISTER_CLIENT: Self = Self::of_programs("RegisterClient");
    pub const START_DEVICE: Self = Self::of_programs("StartDeviceAuthorization");
    pub const CREATE_TOKEN: Self = Self::of_programs("CreateToken");
    pub const PROGRAM_LOGOUT: Self = Self {
        source: "sso.amazonaws.com",
        ..Self::of_programs("Logout")
    };
    pub const LIST_ACCOUNTS: Self = Self {
        source: "sso.amazonaws.com",
        ..Self::of_programs("ListAccounts")
    };
    pub const LIST_ACCOUNT_ROLES: Self = Self {
        source: "sso.amazonaws.com",
        ..Self::of_programs("ListAccountRoles")
    };
    pub const GET_ROLE_CREDENTIALS: Self = Self {
        source: "sso.amazonaws.com",
        ..Self::of_programs("GetRoleCredentials")
    };

    const fn sign_in(name: &'static str, r#type: &'static str) -> Self {
        Self {
            source: "signin.amazonaws.com",
            name,
            r#type,
        }
    }

    const fn of_programs(name: &'static str) -> Self {
        Self {
            source: "sso-oauth.amazonaws.com",
            name,
            r#type: "AwsApiCall",
        }
    }
}

/// An audit record that is being filled in; [`Self::conclude`] or [`Self::noted`] writes it.
pub struct Draft {
    record: Record<'static>,
    event: Event,
    /// The source address. If the event gets no record of its own, it is counted under this address.
    source: IpAddr,
}

impl Draft {
    /// Begins the audit record of an event in a request that came from `origin`. The record gets new ids.
    ///
    /// # Errors
    /// [`Error`] if there are no random bytes for the ids.
    pub fn new(broker: &Broker, event: Event, origin: &Origin) -> Result<Self, Error> {
        let id = || -> Result<String, Error> {
            let bytes = entropy::bytes::<16>(&*broker.entropy)?;
            Ok(uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string())
        };
        let mut record = audit::record(event.name, broker.clock.now(), id()?, id()?);
        record.event_source = event.source;
        record.event_type = event.r#type;
        record.aws_region = broker.region.clone().into();
        record.source_ip_address = SourceAddress::Address(origin.source_ip.to_canonical());
        record.user_agent = origin
            .user_agent
            .as_deref()
            .map(|text| audit::clip_written(text, MAX_USER_AGENT).to_owned().into());
        Ok(Self {
            record,
            event,
            source: origin.source_ip,
        })
    }

    /// The id of the request. The answer to the person or program contains the same id.
    pub fn request_id(&self) -> &str {
        &self.record.request_id
    }

    /// Sets the person of this sign-in as the one who acted.
    #[must_use]
    pub fn by(mut self, sign_in: &SignIn) -> Self {
        self.record.user_identity = identity(sign_in);
        self.record.recipient_account_id = Some(sign_in.account().to_string().into());
        self
    }

    /// Sets the user name and the account that somebody has claimed without proof.
    #[must_use]
    pub fn claimed(mut self, user_name: &str, account: Option<&str>) -> Self {
        self.record.user_identity = UserIdentity {
            r#type: "IAMUser".into(),
            account_id: account.map(|account| account.to_owned().into()),
            user_name: Some(audit::clip(user_name).into()),
            ..UserIdentity::default()
        };
        self.record.recipient_account_id = account.map(|account| account.to_owned().into());
        self
    }

    /// Sets the parameters of the request (`requestParameters`).
    #[must_use]
    pub fn asked(mut self, parameters: &Value) -> Self {
        self.record.request_parameters = raw(parameters);
        self
    }

    /// Adds details that the answer to the person or program does not contain, such as the reason of a refusal.
    #[must_use]
    pub fn with(mut self, details: &Value) -> Self {
        self.record.additional_event_data = raw(details);
        self
    }

    /// Writes the record with the result of the event. The record of a success is on stable storage before the result
    /// is returned, and a success that cannot be recorded becomes a refusal.
    ///
    /// # Errors
    /// The error of the result, or that of the audit log.
    pub async fn conclude<T>(self, broker: &Broker, result: Result<T, Error>) -> Result<T, Error> {
        self.write(broker, result, true).await
    }

    /// Like [`Self::conclude`], for an event that issues nothing and changes nothing. If there are too many such
    /// events, this one may be counted without a record of its own.
    ///
    /// # Errors
    /// The error of the result, or that of the audit log.
    pub async fn noted<T>(self, broker: &Broker, result: Result<T, Error>) -> Result<T, Error> {
        self.write(broker, result, false).await
    }

    async fn write<T>(
        self,
        broker: &Broker,
        result: Result<T, Error>,
        must_last: bool,
    ) -> Result<T, Error> {
        let Self {
            mut record,
            event,
            source,
        } = self;
        record.read_only = !must_last;
        let outcome = result.as_ref().err().map_or("ok", Error::code);
        let label = CallLabel {
            action: event.name,
            outcome,
        };
        broker.metrics.calls.get_or_create(&label).inc();
        let counting = Counting {
            event_source: event.source,
            action: event.name,
            source,
            now: broker.clock.now(),
        };
        let outcome = match (event.r#type, &result) {
            ("AwsApiCall", _) => None,
            (_, Ok(_)) => Some("Success"),
            (_, Err(_)) => Some("Failure"),
        };
        if let Some(outcome) = outcome {
            record.response_elements = raw(&json!({ event.name: outcome }));
        }
        match result {
            Err(error) => {
                error.log();
                record.error_code = Some(error.code());
                record.error_message = Some(error.to_string());
                let is_proven = record.user_identity.r#type != "Unknown";
                broker
                    .audit
                    .refuse(|| record, is_proven, error.code(), counting);
                Err(error)
            }
            Ok(done) => {
                let written = match must_last {
                    true => broker.audit.commit(&record).await,
                    false => broker.audit.read(|| record, true, counting),
                };
                match written {
                    Ok(()) => Ok(done),
                    Err(_) => Err(Error::ServiceUnavailable("the audit log")),
                }
            }
        }
    }
}

/// Writes the audit record of an action of a person who is signed in, with the details of the sign-in. `result` is the
/// result of the action.
///
/// # Errors
/// The error of the result, or that of the audit log.
pub(super) async fn of_sign_in<T>(
    broker: &Broker,
    event: Event,
    sign_in: &SignIn,
    origin: &Origin,
    result: Result<T, Error>,
) -> Result<T, Error> {
    let used_mfa = if sign_in.mfa_at().is_some() {
        "Yes"
    } else {
        "No"
    };
    let methods: Vec<&str> = sign_in.factors.iter().map(|f| f.method.as_str()).collect();
    let details = json!({
        "MFAUsed": used_mfa,
        "LoginTo": broker.sign_ins.as_ref().map(|s| s.settings.public_url.as_str()),
        "MobileVersion": "No",
        "CredentialType": credential_type(sign_in),
        "AuthenticationMethods": methods,
        "SignInId": sign_in.id_text(),
    });
    let draft = Draft::new(broker, event, origin)?;
    draft
        .by(sign_in)
        .with(&details)
        .conclude(broker, result)
        .await
}

/// Writes the audit record of a failed attempt to sign in. `user_name` and `account` are what somebody has claimed
/// without proof.
pub async fn failed(
    broker: &Broker,
    event: Event,
    (user_name, account): (&str, Option<&str>),
    origin: &Origin,
    error: &Error,
) {
    if let Ok(draft) = Draft::new(broker, event, origin) {
        let draft = draft.claimed(user_name, account);
        // The refusal is what is recorded.
        let _: Result<(), Error> = draft.conclude(broker, Err(error.clone())).await;
    }
}

fn credential_type(sign_in: &SignIn) -> &'static str {
    match &sign_in.who {
        Who::Federated(_) => "EXTERNAL_IDP",
        Who::User { .. } if sign_in.factors.iter().any(|f| f.method == Method::Pwd) => "PASSWORD",
        Who::User { .. } => "OTHER",
    }
}

fn identity(sign_in: &SignIn) -> UserIdentity<'static> {
    let mfa_authenticated = if sign_in.mfa_at().is_some() {
        "true"
    } else {
        "false"
    };
    let (r#type, user_name, provider) = match &sign_in.who {
        Who::User { name, .. } => ("IAMUser", name.clone(), None),
        Who::Federated(kept) => {
            let r#type = if kept.is_saml() {
                "SAMLUser"
            } else {
                "WebIdentityUser"
            };
            (
                r#type,
                kept.subject.clone(),
                Some(kept.provider_arn.clone()),
            )
        }
    };
    UserIdentity {
        r#type: r#type.into(),
        principal_id: Some(sign_in.principal_id().to_owned().into()),
        arn: Some(sign_in.arn().to_owned().into()),
        account_id: Some(sign_in.account().to_string().into()),
        access_key_id: None,
        user_name: Some(user_name.into()),
        identity_provider: provider.map(Cow::from),
        session_context: Some(SessionContext {
            session_issuer: None,
            attributes: SessionAttributes {
                creation_date: sign_in.at,
                mfa_authenticated,
            },
            source_identity: None,
        }),
    }
}

fn raw(value: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}
