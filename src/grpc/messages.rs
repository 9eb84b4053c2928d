//! Translates protobuf messages into the inputs of operations, and outputs into messages.

use prost::Message;

use crate::api::sts::v1 as pb;
use crate::api::sts::v1::assume_role_for_workload_request::Workload as PbWorkload;
use crate::authn::Evidence;
use crate::base::names::Tag;
use crate::error::Error;
use crate::mint::Credentials;
use crate::ops::Operation;
use crate::ops::sts::assume_role::{AssumeRole, AssumeRoleInput, AssumeRoleOutput};
use crate::ops::sts::assume_role_for_workload::{
    AssumeRoleForWorkload, AssumeRoleForWorkloadInput, AssumeRoleForWorkloadOutput, Workload,
};
use crate::ops::sts::assume_role_with_saml::{
    AssumeRoleWithSaml, AssumeRoleWithSamlInput, AssumeRoleWithSamlOutput,
};
use crate::ops::sts::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityInput, AssumeRoleWithWebIdentityOutput,
};
use crate::ops::sts::decode_authorization_message::{
    DecodeAuthorizationMessage, DecodeAuthorizationMessageOutput,
};
use crate::ops::sts::get_access_key_info::{GetAccessKeyInfo, GetAccessKeyInfoOutput};
use crate::ops::sts::get_caller_identity::{GetCallerIdentity, GetCallerIdentityOutput};
use crate::ops::sts::get_federation_token::{
    GetFederationToken, GetFederationTokenInput, GetFederationTokenOutput,
};
use crate::ops::sts::get_scoped_credentials::{
    GetScopedCredentials, GetScopedCredentialsInput, GetScopedCredentialsOutput,
};
use crate::ops::sts::get_session_token::{GetSessionToken, GetSessionTokenOutput};
use crate::ops::sts::get_web_identity_token::{
    GetWebIdentityToken, GetWebIdentityTokenInput, GetWebIdentityTokenOutput,
};

/// An operation that can be called over gRPC, with its messages.
pub(super) trait Rpc: Operation {
    type Request: Message + Default;
    type Response: Message + From<Self::Output>;

    /// Checks the message, and makes the operation from it. `evidence` holds the signature of the request. An operation
    /// that is authenticated by its message, such as by a token, replaces the signature by this proof.
    ///
    /// # Errors
    /// [`Error`] if the message is no valid input of the operation: in most cases [`Error::Validation`] for the first
    /// field that breaks a rule.
    fn read(message: Self::Request, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error>;
}

impl Rpc for AssumeRole {
    type Request = pb::AssumeRoleRequest;
    type Response = pb::AssumeRoleResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(m.into())
    }
}

impl From<pb::AssumeRoleRequest> for AssumeRoleInput {
    fn from(m: pb::AssumeRoleRequest) -> Self {
        Self {
            role_arn: Some(m.role_arn),
            role_session_name: Some(m.role_session_name),
            policy_arns: m.policy_arns,
            policy: m.policy,
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
            transitive_tag_keys: m.transitive_tag_keys,
            external_id: m.external_id,
            serial_number: m.serial_number,
            token_code: m.token_code,
            source_identity: m.source_identity,
            provided_contexts: false,
        }
    }
}

impl From<AssumeRoleOutput> for pb::AssumeRoleResponse {
    fn from(output: AssumeRoleOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            assumed_role_user: Some(pb::AssumedRoleUser {
                assumed_role_id: output.assumed_role_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
            source_identity: output.source_identity,
        }
    }
}

impl Rpc for AssumeRoleForWorkload {
    type Request = pb::AssumeRoleForWorkloadRequest;
    type Response = pb::AssumeRoleForWorkloadResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(AssumeRoleForWorkloadInput {
            workload: m.workload.map(Workload::from),
            role_arn: m.role_arn,
            role_session_name: m.role_session_name,
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
        })
    }
}

impl From<PbWorkload> for Workload {
    fn from(workload: PbWorkload) -> Self {
        match workload {
            PbWorkload::Instance(w) => Self::Instance {
                instance_id: w.instance_id,
            },
            PbWorkload::Task(w) => Self::Task {
                cluster: w.cluster,
                family: w.family,
                task_id: w.task_id,
            },
            PbWorkload::Pod(w) => Self::Pod {
                cluster: w.cluster,
                token: w.web_identity_token,
            },
            PbWorkload::Process(w) => Self::Process {
                uid: w.uid,
                unit: w.unit,
                name: w.name,
            },
        }
    }
}

impl From<AssumeRoleForWorkloadOutput> for pb::AssumeRoleForWorkloadResponse {
    fn from(output: AssumeRoleForWorkloadOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            assumed_role_user: Some(pb::AssumedRoleUser {
                assumed_role_id: output.assumed_role_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
            role_arn: output.role_arn,
        }
    }
}

impl Rpc for AssumeRoleWithSaml {
    type Request = pb::AssumeRoleWithSamlRequest;
    type Response = pb::AssumeRoleWithSamlResponse;

    fn read(m: Self::Request, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let (response, operation) = Self::parse(m.into())?;
        *evidence = Ok(response);
        Ok(operation)
    }
}

impl From<pb::AssumeRoleWithSamlRequest> for AssumeRoleWithSamlInput {
    fn from(m: pb::AssumeRoleWithSamlRequest) -> Self {
        Self {
            role_arn: Some(m.role_arn),
            principal_arn: Some(m.principal_arn),
            saml_assertion: Some(m.saml_assertion),
            policy_arns: m.policy_arns,
            policy: m.policy,
            duration_seconds: m.duration_seconds.map(i64::from),
        }
    }
}

impl From<AssumeRoleWithSamlOutput> for pb::AssumeRoleWithSamlResponse {
    fn from(output: AssumeRoleWithSamlOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            assumed_role_user: Some(pb::AssumedRoleUser {
                assumed_role_id: output.assumed_role_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
            subject: output.subject,
            subject_type: output.subject_type,
            issuer: output.issuer,
            audience: output.audience,
            name_qualifier: output.name_qualifier,
            source_identity: output.source_identity,
        }
    }
}

impl Rpc for AssumeRoleWithWebIdentity {
    type Request = pb::AssumeRoleWithWebIdentityRequest;
    type Response = pb::AssumeRoleWithWebIdentityResponse;

    fn read(m: Self::Request, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let (token, operation) = Self::parse(m.into())?;
        *evidence = Ok(token);
        Ok(operation)
    }
}

impl From<pb::AssumeRoleWithWebIdentityRequest> for AssumeRoleWithWebIdentityInput {
    fn from(m: pb::AssumeRoleWithWebIdentityRequest) -> Self {
        Self {
            role_arn: Some(m.role_arn),
            role_session_name: Some(m.role_session_name),
            web_identity_token: Some(m.web_identity_token),
            provider_id: m.provider_id,
            policy_arns: m.policy_arns,
            policy: m.policy,
            duration_seconds: m.duration_seconds.map(i64::from),
        }
    }
}

impl From<AssumeRoleWithWebIdentityOutput> for pb::AssumeRoleWithWebIdentityResponse {
    fn from(output: AssumeRoleWithWebIdentityOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            subject_from_web_identity_token: output.subject,
            assumed_role_user: Some(pb::AssumedRoleUser {
                assumed_role_id: output.assumed_role_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
            provider: output.provider,
            audience: output.audience,
            source_identity: output.source_identity,
        }
    }
}

impl Rpc for GetScopedCredentials {
    type Request = pb::GetScopedCredentialsRequest;
    type Response = pb::GetScopedCredentialsResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(GetScopedCredentialsInput {
            policy: m.policy,
            duration_seconds: m.duration_seconds.map(i64::from),
            minimum_session_token_size: m.minimum_session_token_size.map(i64::from),
            scoped_session_description: m.scoped_session_description,
        })
    }
}

impl From<GetScopedCredentialsOutput> for pb::GetScopedCredentialsResponse {
    fn from(output: GetScopedCredentialsOutput) -> Self {
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        Self {
            session_token_utilization: number(output.session_token_utilization()),
            session_token_size: number(output.session_token_size()),
            credentials: Some(output.credentials.into()),
            session_info: Some(pb::ScopedSession {
                scoped_session_id: output.scoped_session_id,
                arn: output.arn,
            }),
            scoped_policies_count: number(output.scoped_policies_count),
            source_identity: output.source_identity,
        }
    }
}

impl Rpc for GetWebIdentityToken {
    type Request = pb::GetWebIdentityTokenRequest;
    type Response = pb::GetWebIdentityTokenResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(m.into())
    }
}

impl From<pb::GetWebIdentityTokenRequest> for GetWebIdentityTokenInput {
    fn from(m: pb::GetWebIdentityTokenRequest) -> Self {
        Self {
            audience: m.audience,
            signing_algorithm: Some(m.signing_algorithm),
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
        }
    }
}

impl From<GetWebIdentityTokenOutput> for pb::GetWebIdentityTokenResponse {
    fn from(output: GetWebIdentityTokenOutput) -> Self {
        Self {
            web_identity_token: output.web_identity_token.expose().clone(),
            expiration: Some(prost_types::Timestamp {
                seconds: output.expiration.seconds(),
                nanos: 0,
            }),
        }
    }
}

impl Rpc for DecodeAuthorizationMessage {
    type Request = pb::DecodeAuthorizationMessageRequest;
    type Response = pb::DecodeAuthorizationMessageResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(Some(m.encoded_message))
    }
}

impl From<DecodeAuthorizationMessageOutput> for pb::DecodeAuthorizationMessageResponse {
    fn from(output: DecodeAuthorizationMessageOutput) -> Self {
        Self {
            decoded_message: output.decoded_message,
        }
    }
}

impl Rpc for GetSessionToken {
    type Request = pb::GetSessionTokenRequest;
    type Response = pb::GetSessionTokenResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(
            m.duration_seconds.map(i64::from),
            m.serial_number,
            m.token_code,
        )
    }
}

impl From<GetSessionTokenOutput> for pb::GetSessionTokenResponse {
    fn from(output: GetSessionTokenOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
        }
    }
}

impl Rpc for GetFederationToken {
    type Request = pb::GetFederationTokenRequest;
    type Response = pb::GetFederationTokenResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(m.into())
    }
}

impl From<pb::GetFederationTokenRequest> for GetFederationTokenInput {
    fn from(m: pb::GetFederationTokenRequest) -> Self {
        Self {
            name: Some(m.name),
            policy: m.policy,
            policy_arns: m.policy_arns,
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
        }
    }
}

impl From<GetFederationTokenOutput> for pb::GetFederationTokenResponse {
    fn from(output: GetFederationTokenOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            federated_user: Some(pb::FederatedUser {
                federated_user_id: output.federated_user_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
        }
    }
}

impl Rpc for GetCallerIdentity {
    type Request = pb::GetCallerIdentityRequest;
    type Response = pb::GetCallerIdentityResponse;

    fn read(_: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl From<GetCallerIdentityOutput> for pb::GetCallerIdentityResponse {
    fn from(output: GetCallerIdentityOutput) -> Self {
        Self {
            user_id: output.user_id,
            account: output.account,
            arn: output.arn,
        }
    }
}

impl Rpc for GetAccessKeyInfo {
    type Request = pb::GetAccessKeyInfoRequest;
    type Response = pb::GetAccessKeyInfoResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(Some(&m.access_key_id))
    }
}

impl From<GetAccessKeyInfoOutput> for pb::GetAccessKeyInfoResponse {
    fn from(output: GetAccessKeyInfoOutput) -> Self {
        Self {
            account: output.account,
        }
    }
}

impl From<Credentials> for pb::Credentials {
    fn from(credentials: Credentials) -> Self {
        Self {
            access_key_id: credentials.access_key_id.as_str().to_owned(),
            secret_access_key: credentials.secret_access_key.expose().clone(),
            session_token: credentials.session_token.expose().clone(),
            expiration: Some(prost_types::Timestamp {
                seconds: credentials.expires_at.seconds(),
                nanos: 0,
            }),
        }
    }
}

fn tags(tags: Vec<pb::Tag>) -> Vec<Tag> {
    tags.into_iter()
        .map(|t| Tag {
            key: t.key,
            value: t.value,
        })
        .collect()
}
