//! The operations of a client: one method for each.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::chain;
use super::{
    AssumeRole, AssumeRoleWithSaml, AssumeRoleWithWebIdentity, AssumedRole, CallerIdentity, Client,
    ClientError, Credentials, SamlRole, WebIdentityRole, WebIdentityToken,
};
use crate::api::relying::v1 as relying;
use crate::api::sts::v1 as pb;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;

impl Client {
    /// Calls AssumeRole: credentials for a role.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn assume_role(&self, request: &AssumeRole) -> Result<AssumedRole, ClientError> {
        let message = pb::AssumeRoleRequest {
            role_arn: request.role_arn.clone(),
            role_session_name: request.role_session_name.clone(),
            policy_arns: request.policy_arns.clone(),
            policy: request.policy.clone(),
            duration_seconds: request.duration_seconds,
            tags: request
                .tags
                .iter()
                .map(|(key, value)| pb::Tag {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            transitive_tag_keys: request.transitive_tag_keys.clone(),
            external_id: request.external_id.clone(),
            serial_number: request
                .mfa
                .as_ref()
                .map(|(serial_number, _)| serial_number.clone()),
            token_code: request.mfa.as_ref().map(|(_, code)| code.clone()),
            source_identity: request.source_identity.clone(),
        };
        let answer = self
            .grpc
            .clone()
            .assume_role(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        self.assumed(
            answer.credentials,
            answer.assumed_role_user,
            answer.packed_policy_size,
            answer.source_identity,
        )
    }

    /// Calls AssumeRoleWithWebIdentity: credentials for a role, for the holder of a provider's token. The call
    /// is not signed.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn assume_role_with_web_identity(
        &self,
        request: &AssumeRoleWithWebIdentity,
    ) -> Result<WebIdentityRole, ClientError> {
        let message = pb::AssumeRoleWithWebIdentityRequest {
            role_arn: request.role_arn.clone(),
            role_session_name: request.role_session_name.clone(),
            web_identity_token: request.token.expose().clone(),
            provider_id: None,
            policy_arns: request.policy_arns.clone(),
            policy: request.policy.clone(),
            duration_seconds: request.duration_seconds,
        };
        let answer = self
            .grpc
            .clone()
            .assume_role_with_web_identity(message)
            .await;
        let answer = answer.map_err(|s| self.failed(&s))?.into_inner();
        let (size, source) = (answer.packed_policy_size, answer.source_identity);
        Ok(WebIdentityRole {
            role: self.assumed(answer.credentials, answer.assumed_role_user, size, source)?,
            subject: answer.subject_from_web_identity_token,
            provider: answer.provider,
            audience: answer.audience,
        })
    }

    /// Calls AssumeRoleWithSAML. The call is not signed; it carries the identity provider's response.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn assume_role_with_saml(
        &self,
        request: &AssumeRoleWithSaml,
    ) -> Result<SamlRole, ClientError> {
        let message = pb::AssumeRoleWithSamlRequest {
            role_arn: request.role_arn.clone(),
            principal_arn: request.principal_arn.clone(),
            saml_assertion: request.response.expose().clone(),
            policy_arns: request.policy_arns.clone(),
            policy: request.policy.clone(),
            duration_seconds: request.duration_seconds,
        };
        let answer = self.grpc.clone().assume_role_with_saml(message).await;
        let answer = answer.map_err(|s| self.failed(&s))?.into_inner();
        let (size, source) = (answer.packed_policy_size, answer.source_identity);
        Ok(SamlRole {
            role: self.assumed(answer.credentials, answer.assumed_role_user, size, source)?,
            subject: answer.subject,
            subject_type: answer.subject_type,
            issuer: answer.issuer,
            audience: answer.audience,
            name_qualifier: answer.name_qualifier,
        })
    }

    pub(super) fn assumed(
        &self,
        credentials: Option<pb::Credentials>,
        user: Option<pb::AssumedRoleUser>,
        packed_policy_size: i32,
        source_identity: String,
    ) -> Result<AssumedRole, ClientError> {
        let credentials = self.received(credentials)?;
        let user = user.ok_or(ClientError::Incomplete("assumed_role_user"))?;
        let (assumed_role_id, arn) = (user.assumed_role_id, user.arn);
        Ok(AssumedRole {
            credentials,
            assumed_role_id,
            arn,
            packed_policy_size,
            source_identity,
        })
    }

    /// Calls GetWebIdentityToken: a JSON Web Token that proves the caller's identity to others. `algorithm` is
    /// `ES384`, `ES256`, `RS256` or `EdDSA`. `duration_seconds` is 60 to 3600, by default 300.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn get_web_identity_token(
        &self,
        audience: &[String],
        algorithm: &str,
        duration_seconds: Option<i32>,
        tags: &[(String, String)],
    ) -> Result<WebIdentityToken, ClientError> {
        let message = pb::GetWebIdentityTokenRequest {
            audience: audience.to_vec(),
            signing_algorithm: algorithm.to_owned(),
            duration_seconds,
            tags: tags
                .iter()
                .map(|(key, value)| pb::Tag {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
        };
        let answer = self
            .grpc
            .clone()
            .get_web_identity_token(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        let expiration = answer
            .expiration
            .ok_or(ClientError::Incomplete("expiration"))?;
        Ok(WebIdentityToken {
            token: Arc::new(Secret::new(answer.web_identity_token)),
            expires_at: Timestamp::from_seconds(expiration.seconds),
        })
    }

    /// Calls GetSessionToken: a session of the calling user. `mfa` is the serial number of a device and its
    /// current code.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn get_session_token(
        &self,
        mfa: Option<(&str, &str)>,
    ) -> Result<Credentials, ClientError> {
        let message = pb::GetSessionTokenRequest {
            duration_seconds: None,
            serial_number: mfa.map(|(serial_number, _)| serial_number.to_owned()),
            token_code: mfa.map(|(_, code)| code.to_owned()),
        };
        let answer = self
            .grpc
            .clone()
            .get_session_token(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        self.received(answer.credentials)
    }

    /// Calls GetScopedCredentials: credentials of the calling session with fewer permissions, for a shorter
    /// time, or both. Without a duration they last as long as the session.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn get_scoped_credentials(
        &self,
        policy: Option<&str>,
        duration_seconds: Option<i32>,
        description: Option<&str>,
    ) -> Result<Credentials, ClientError> {
        let message = pb::GetScopedCredentialsRequest {
            policy: policy.map(str::to_owned),
            duration_seconds,
            minimum_session_token_size: None,
            scoped_session_description: description.map(str::to_owned),
        };
        let answer = self
            .grpc
            .clone()
            .get_scoped_credentials(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        self.received(answer.credentials)
    }

    fn received(&self, credentials: Option<pb::Credentials>) -> Result<Credentials, ClientError> {
        let credentials = credentials.ok_or(ClientError::Incomplete("credentials"))?;
        let expires_at = credentials
            .expiration
            .ok_or(ClientError::Incomplete("expiration"))?;
        let life = Some((
            self.clock.now(),
            Timestamp::from_seconds(expires_at.seconds),
        ));
        let keys = Credentials::new(
            &credentials.access_key_id,
            &credentials.secret_access_key,
            Some(&credentials.session_token),
        );
        Ok(Credentials { life, ..keys })
    }

    /// Calls GetCallerIdentity: the identity to which the credentials belong.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn get_caller_identity(&self) -> Result<CallerIdentity, ClientError> {
        let answer = self
            .grpc
            .clone()
            .get_caller_identity(pb::GetCallerIdentityRequest {})
            .await;
        let answer = answer.map_err(|s| self.failed(&s))?.into_inner();
        Ok(CallerIdentity {
            user_id: answer.user_id,
            account: answer.account,
            arn: answer.arn,
        })
    }

    /// Calls GetAccessKeyInfo: the id of the account that an access key belongs to.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn get_access_key_info(&self, access_key_id: &str) -> Result<String, ClientError> {
        let message = pb::GetAccessKeyInfoRequest {
            access_key_id: access_key_id.to_owned(),
        };
        Ok(self
            .grpc
            .clone()
            .get_access_key_info(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner()
            .account)
    }

    /// Calls DecodeAuthorizationMessage: why a call was refused, as JSON.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn decode_authorization_message(
        &self,
        encoded_message: &str,
    ) -> Result<String, ClientError> {
        let request = pb::DecodeAuthorizationMessageRequest {
            encoded_message: encoded_message.to_owned(),
        };
        let answer = self
            .grpc
            .clone()
            .decode_authorization_message(request)
            .await
            .map_err(|s| self.failed(&s))?;
        Ok(answer.into_inner().decoded_message)
    }
}

impl Client {
    /// Calls ListSessions: a page of the account's sessions on record.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn list_sessions(
        &self,
        request: pb::ListSessionsRequest,
    ) -> Result<pb::ListSessionsResponse, ClientError> {
        Ok(self
            .administration
            .clone()
            .list_sessions(request)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner())
    }

    /// Calls DescribeSession: what is on record about one session. `session_id` is 32 hexadecimal digits.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn describe_session(&self, session_id: &str) -> Result<pb::Session, ClientError> {
        let message = pb::DescribeSessionRequest {
            session_id: session_id.to_owned(),
        };
        let answer = self
            .administration
            .clone()
            .describe_session(message)
            .await
            .map_err(|s| self.failed(&s))?;
        answer
            .into_inner()
            .session
            .ok_or(ClientError::Incomplete("session"))
    }

    /// Calls ListSignIns: a page of the people of the account who are signed in.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn list_sign_ins(
        &self,
        request: pb::ListSignInsRequest,
    ) -> Result<pb::ListSignInsResponse, ClientError> {
        Ok(self
            .administration
            .clone()
            .list_sign_ins(request)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner())
    }

    /// Calls EndSignIn: ends a sign-in, and all sessions and tokens that came from it. `sign_in_id` is 32
    /// hexadecimal digits.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn end_sign_in(
        &self,
        sign_in_id: &str,
    ) -> Result<pb::EndSignInResponse, ClientError> {
        let message = pb::EndSignInRequest {
            sign_in_id: sign_in_id.to_owned(),
        };
        Ok(self
            .administration
            .clone()
            .end_sign_in(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner())
    }

    /// Calls RevokeSessions: ends sessions, and all sessions that were assumed from them.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn revoke_sessions(
        &self,
        request: pb::RevokeSessionsRequest,
    ) -> Result<pb::RevokeSessionsResponse, ClientError> {
        Ok(self
            .administration
            .clone()
            .revoke_sessions(request)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner())
    }

    /// Calls PreviewRevocation: what RevokeSessions would end. Nothing is ended.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer lacks a field.
    pub async fn preview_revocation(
        &self,
        request: pb::RevokeSessionsRequest,
    ) -> Result<pb::RevocationTarget, ClientError> {
        let answer = self
            .administration
            .clone()
            .preview_revocation(request)
            .await
            .map_err(|s| self.failed(&s))?;
        answer
            .into_inner()
            .target
            .ok_or(ClientError::Incomplete("target"))
    }
}

impl Client {
    /// Calls Authorize of the service Relying: whether a principal may do something at a service.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn authorize(
        &self,
        request: relying::AuthorizeRequest,
    ) -> Result<relying::AuthorizeResponse, ClientError> {
        let answer = self.relying.clone().authorize(request).await;
        Ok(answer.map_err(|s| self.failed(&s))?.into_inner())
    }

    /// Calls VerifyRequest of the service Relying: who signed a request to another service.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer.
    pub async fn verify_request(
        &self,
        request: relying::VerifyRequestRequest,
    ) -> Result<relying::VerifyRequestResponse, ClientError> {
        let answer = self.relying.clone().verify_request(request).await;
        Ok(answer.map_err(|s| self.failed(&s))?.into_inner())
    }
}

impl Client {
    /// Calls an action of the IAM API, and returns its result as JSON.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the broker refuses the call, [`ClientError::Unreachable`] if it does not answer,
    /// [`ClientError::Incomplete`] if its answer is not JSON.
    pub async fn iam(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<serde_json::Value, ClientError> {
        let all = [("Action", action), ("Version", "2010-05-08")]
            .into_iter()
            .chain(parameters.iter().copied());
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form: Vec<String> = all
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let (status, text) =
            self.signed
                .form(form.join("&"))
                .await
                .map_err(|error| ClientError::Unreachable {
                    url: self.url.clone(),
                    reason: chain(&*error),
                })?;
        let mut answer: serde_json::Value =
            serde_json::from_slice(&text).map_err(|_| ClientError::Incomplete("JSON"))?;
        let field = |name: &str| {
            answer
                .pointer(&format!("/Error/{name}"))
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        if !status.is_success() {
            let request_id = answer
                .get("RequestId")
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned();
            return Err(ClientError::Refused {
                code: field("Code"),
                message: field("Message"),
                request_id,
            });
        }
        let result = answer.pointer_mut(&format!("/{action}Response/{action}Result"));
        Ok(result.map(serde_json::Value::take).unwrap_or_default())
    }
}
