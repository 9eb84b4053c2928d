//! Translates the messages of SessionAdministration: requests into inputs of operations, and outputs into
//! responses.

use super::messages::Rpc;
use crate::api::sts::v1 as pb;
use crate::authn::Evidence;
use crate::base::digest::hex;
use crate::error::Error;
use crate::ops::admin::describe_session::DescribeSession;
use crate::ops::admin::end_sign_in::{EndSignIn, EndSignInOutput};
use crate::ops::admin::list_sessions::{ListSessions, ListSessionsOutput};
use crate::ops::admin::list_sign_ins::{ListSignIns, ListSignInsOutput, SignInView};
use crate::ops::admin::preview_revocation::PreviewRevocation;
use crate::ops::admin::revoke_sessions::{Asked, RevokeSessions, RevokeSessionsOutput, Target};
use crate::ops::admin::session_view::SessionView;
use crate::session::token;
use crate::store::Node;

impl Rpc for ListSessions {
    type Request = pb::ListSessionsRequest;
    type Response = pb::ListSessionsResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(
            m.role_arn.as_deref(),
            m.max_items,
            m.marker,
            m.include_revoked,
        )
    }
}

impl From<ListSessionsOutput> for pb::ListSessionsResponse {
    fn from(output: ListSessionsOutput) -> Self {
        let sessions = output.sessions.into_iter().map(pb::Session::from).collect();
        Self {
            sessions,
            marker: output.marker,
            shared: output.shared,
            unreadable: i32::try_from(output.unreadable).unwrap_or(i32::MAX),
        }
    }
}

impl Rpc for DescribeSession {
    type Request = pb::DescribeSessionRequest;
    type Response = pb::DescribeSessionResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(&m.session_id)
    }
}

impl From<SessionView> for pb::DescribeSessionResponse {
    fn from(view: SessionView) -> Self {
        Self {
            session: Some(view.into()),
        }
    }
}

impl From<SessionView> for pb::Session {
    fn from(view: SessionView) -> Self {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let record = view.record;
        let kind = record.kind();
        let made_by = match kind {
            _ if record.narrowing.is_some() => "GetScopedCredentials",
            token::SessionKind::Role if !record.workload.is_empty() => "AssumeRoleForWorkload",
            token::SessionKind::Role => "AssumeRole",
            token::SessionKind::User => "GetSessionToken",
            token::SessionKind::FederatedUser => "GetFederationToken",
        };
        Self {
            session_id: hex(&record.session_id),
            access_key_id: record.access_key_id,
            arn: view.arn,
            made_by: made_by.to_owned(),
            role_arn: if kind == token::SessionKind::Role {
                record.principal_arn
            } else {
                String::new()
            },
            source_identity: record.source_identity,
            tags: record
                .tags
                .into_iter()
                .map(|t| pb::Tag {
                    key: t.key,
                    value: t.value,
                })
                .collect(),
            issued_at: at(record.issued_at),
            expires_at: at(record.expires_at),
            came_from: view.came_from,
            assumed_by_access_key_id: record
                .ancestors
                .last()
                .map(|a| a.access_key_id.clone())
                .unwrap_or_default(),
            revoked: view.revoked,
            workload: record.workload,
            narrowing: record.narrowing.map(|narrowing| pb::Narrowing {
                narrowed_at: at(narrowing.at),
                description: narrowing.description,
            }),
        }
    }
}

impl Rpc for RevokeSessions {
    type Request = pb::RevokeSessionsRequest;
    type Response = pb::RevokeSessionsResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        revocation(m)
    }
}

impl Rpc for PreviewRevocation {
    type Request = pb::RevokeSessionsRequest;
    type Response = pb::PreviewRevocationResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        revocation(m).map(Self)
    }
}

fn revocation(m: pb::RevokeSessionsRequest) -> Result<RevokeSessions, Error> {
    let issued_before = m.issued_before.map(|at| at.seconds);
    RevokeSessions::parse(
        m.selector.map(Asked::from),
        issued_before,
        m.deactivate_access_key,
    )
}

impl From<pb::revoke_sessions_request::Selector> for Asked {
    fn from(selector: pb::revoke_sessions_request::Selector) -> Self {
        use pb::revoke_sessions_request::Selector;
        match selector {
            Selector::SessionId(text) => Self::SessionId(text),
            Selector::AccessKeyId(text) => Self::AccessKeyId(text),
            Selector::PrincipalArn(text) => Self::PrincipalArn(text),
            Selector::RoleArn(text) => Self::RoleArn(text),
            Selector::SourceIdentity(text) => Self::SourceIdentity(text),
            Selector::VouchedFor(pb::VouchedFor {
                provider_arn,
                subject,
            }) => Self::VouchedFor {
                provider_arn,
                subject,
            },
            Selector::All(all) => Self::All(all),
        }
    }
}

impl From<RevokeSessionsOutput> for pb::RevokeSessionsResponse {
    fn from(output: RevokeSessionsOutput) -> Self {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let node = |n: Node| pb::Node {
            node: n.node,
            host: n.host,
            confirmed_sequence_number: n.confirmed,
        };
        Self {
            sequence_number: output.sequence_number,
            nodes_connected: count(output.nodes_connected.unwrap_or(1)),
            nodes_confirmed: count(
                output
                    .nodes_connected
                    .unwrap_or(1)
                    .saturating_sub(output.pending.len()),
            ),
            other_nodes_unknown: output.nodes_connected.is_none(),
            pending: output.pending.into_iter().map(node).collect(),
            target: Some(output.target.into()),
            access_key_deactivated: output.access_key_deactivated,
        }
    }
}

impl From<Target> for pb::RevocationTarget {
    fn from(target: Target) -> Self {
        Self {
            exists: target.exists,
            sessions_on_record: target
                .sessions
                .map(|counted| i32::try_from(counted.hit).unwrap_or(i32::MAX)),
            more: target.sessions.is_some_and(|counted| counted.more),
            access_key_goes_on: target.access_key_goes_on,
        }
    }
}

impl From<Target> for pb::PreviewRevocationResponse {
    fn from(target: Target) -> Self {
        Self {
            target: Some(target.into()),
        }
    }
}

impl Rpc for ListSignIns {
    type Request = pb::ListSignInsRequest;
    type Response = pb::ListSignInsResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(m.max_items, m.marker)
    }
}

impl From<ListSignInsOutput> for pb::ListSignInsResponse {
    fn from(output: ListSignInsOutput) -> Self {
        Self {
            sign_ins: output.sign_ins.into_iter().map(pb::SignIn::from).collect(),
            marker: output.marker,
        }
    }
}

impl From<SignInView> for pb::SignIn {
    fn from(view: SignInView) -> Self {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let sign_in = view.sign_in;
        let methods = sign_in.factors.iter().map(|f| f.method.as_str().to_owned());
        Self {
            sign_in_id: sign_in.id_text(),
            arn: sign_in.arn().to_owned(),
            name: sign_in.name(),
            signed_in_at: at(sign_in.at.seconds()),
            expires_at: at(sign_in.ends_at.seconds()),
            seen_at: at(view.seen_at),
            source_ip: sign_in.source.to_string(),
            methods: methods.collect(),
            user_agent: sign_in.user_agent,
        }
    }
}

impl Rpc for EndSignIn {
    type Request = pb::EndSignInRequest;
    type Response = pb::EndSignInResponse;

    fn read(m: Self::Request, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(&m.sign_in_id)
    }
}

impl From<EndSignInOutput> for pb::EndSignInResponse {
    fn from(output: EndSignInOutput) -> Self {
        Self {
            sequence_number: output.sequence_number,
        }
    }
}
