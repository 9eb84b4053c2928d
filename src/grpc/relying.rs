//! Translates the messages of the Relying service, except those of WatchRevocations: requests into inputs of
//! operations, and outputs into responses.

use super::messages::Rpc;
use crate::api::relying::v1 as pb;
use crate::authn::Evidence;
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::field::FieldError;
use crate::error::Error;
use crate::ops::relying::authorize::{
    Authorize, Authorized, Decided, Item, MAX_ITEMS, Resource, Semantic,
};
use crate::ops::relying::keys;
use crate::ops::relying::subject::Subject;
use crate::ops::relying::verify_request::{
    Expected, Payload, Refused, Session, SignedRequest, Signer, Verified, VerifyRequest,
};

impl Rpc for VerifyRequest {
    type Request = pb::VerifyRequestRequest;
    type Response = pb::VerifyRequestResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let missing = |field: &'static str| FieldError::new(field, "must not be null");
        let request = m.request.ok_or_else(|| missing("Request"))?;
        let expected = m.expected.ok_or_else(|| missing("Expected"))?;
        Self::parse(request.into(), expected.into())
    }
}

impl From<pb::SignedRequest> for SignedRequest {
    fn from(m: pb::SignedRequest) -> Self {
        let headers = m.headers.into_iter().map(|h| (h.name, h.value));
        Self {
            method: m.method,
            uri: m.uri,
            headers: headers.collect(),
            payload: match m.payload {
                None => Payload::Absent,
                Some(pb::signed_request::Payload::Body(body)) => Payload::Body(body),
                Some(pb::signed_request::Payload::PayloadSha256(digest)) => Payload::Sha256(digest),
            },
        }
    }
}

impl From<pb::ExpectedRequest> for Expected {
    fn from(m: pb::ExpectedRequest) -> Self {
        Self {
            service: m.service,
            hosts: m.hosts,
            region: m.region,
            method: m.method,
            path: m.path,
            audience: m.audience.map(|a| (a.header, a.value)),
            presigned: m.presigned,
        }
    }
}

impl From<Verified> for pb::VerifyRequestResponse {
    fn from(output: Verified) -> Self {
        use pb::verify_request_response::Outcome;
        Self {
            outcome: Some(match output.outcome {
                Ok(signer) => Outcome::Signer((*signer).into()),
                Err(Refused { code, message }) => Outcome::Refused(pb::RefusedSignature {
                    code: code.to_owned(),
                    message,
                }),
            }),
            sequence_number: output.change,
        }
    }
}

impl From<Signer> for pb::Signer {
    fn from(signer: Signer) -> Self {
        Self {
            arn: signer.arn,
            account: signer.account,
            user_id: signer.user_id,
            role_arn: signer.role_arn.unwrap_or_default(),
            access_key_id: signer.access_key_id,
            tags: signer.tags.into_iter().map(|t| (t.key, t.value)).collect(),
            session: signer.session.map(pb::SignerSession::from),
            region: signer.region,
            signed_at: Some(timestamp(signer.signed_at)),
            presigned: signer.is_presigned,
            declared_payload: signer.declared_payload.unwrap_or_default(),
        }
    }
}

impl From<Session> for pb::SignerSession {
    fn from(session: Session) -> Self {
        Self {
            session_id: hex(&session.id),
            session_name: session.name,
            source_identity: session.source_identity,
            issued_at: Some(timestamp(session.issued_at)),
            expires_at: Some(timestamp(session.expires_at)),
            mfa: session.has_mfa,
            restricted: session.is_restricted,
        }
    }
}

impl Rpc for Authorize {
    type Request = pb::AuthorizeRequest;
    type Response = pb::AuthorizeResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        use pb::subject::Subject as Named;
        let semantic = match pb::Semantic::try_from(m.semantic) {
            Ok(pb::Semantic::Unspecified) => Semantic::ExecuteAll,
            Ok(pb::Semantic::DenyOnFirstDeny) => Semantic::DenyOnFirstDeny,
            Ok(pb::Semantic::PermitOnFirstPermit) => Semantic::PermitOnFirstPermit,
            Err(_) => {
                return Err(
                    FieldError::new("Semantic", "must be SEMANTIC_UNSPECIFIED, SEMANTIC_DENY_ON_FIRST_DENY or SEMANTIC_PERMIT_ON_FIRST_PERMIT").into(),
                );
            }
        };
        let subject = match m.subject.and_then(|s| s.subject) {
            Some(Named::Session(s)) => Subject::session(&s.access_key_id, s.session_token)?,
            Some(Named::PrincipalArn(arn)) => Subject::principal(arn)?,
            None => return Err(FieldError::new("Subject", "must not be null").into()),
        };
        // Before anything is copied for each item.
        if m.items.len() > MAX_ITEMS {
            return Self::new(Vec::new(), Vec::new(), semantic);
        }
        let shared: Vec<(String, Vec<String>)> = m.context.into_iter().map(entry).collect();
        if shared.len() > keys::MAX_KEYS || keys::bytes(&shared) > keys::MAX_BYTES {
            let most = keys::MAX_KEYS;
            let rule = format!(
                "must have at most {most} keys, and at most {} bytes of names and values",
                keys::MAX_BYTES
            );
            return Err(FieldError::new("Context", rule).into());
        }
        let item = |item: pb::AuthorizeItem| {
            let own = item.context.into_iter().map(entry);
            Item {
                subject: 0,
                action: item.action,
                resource: Resource::Arn(item.resource),
                keys: shared.iter().cloned().chain(own).collect(),
            }
            .check()
            .map(Ok)
        };
        let items = m.items.into_iter().map(item);
        let items = items.collect::<Result<Vec<_>, FieldError>>()?;
        Self::new(vec![subject], items, semantic)
    }
}

fn entry(entry: pb::ContextEntry) -> (String, Vec<String>) {
    (entry.key, entry.values)
}

impl From<Authorized> for pb::AuthorizeResponse {
    fn from(output: Authorized) -> Self {
        let decisions = output.decisions.into_iter().map(pb::Decision::from);
        Self {
            decisions: decisions.collect(),
            sequence_number: output.change,
        }
    }
}

impl From<Decided> for pb::Decision {
    fn from(decided: Decided) -> Self {
        Self {
            allowed: decided.is_allowed(),
            code: decided.code.as_str().to_owned(),
            reason: decided.reason,
            encoded_message: decided.encoded_message,
            expires_at: decided.expires_at.map(timestamp),
            cache_seconds: i32::try_from(decided.cached.as_secs()).unwrap_or(i32::MAX),
        }
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.seconds(),
        nanos: 0,
    }
}
