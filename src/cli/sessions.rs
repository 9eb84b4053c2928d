//! `brevet sessions`: over gRPC, as an administrator of the account.

use super::{Failure, RevokeSelector, SessionsCommand};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::grpc::pb::{self, revoke_sessions_request::Selector};

pub(super) fn run(command: SessionsCommand) -> Result<(), Failure> {
    let runtime = super::runtime()?;
    match command {
        SessionsCommand::List { call, role_arn, max_items, marker } => {
            let answer = runtime.block_on(async { list(&call.client()?, role_arn, max_items, marker).await })?;
            let sessions: Vec<_> = answer.sessions.iter().map(shown).collect();
            let mut shown = serde_json::json!({"Sessions": sessions});
            if let (false, Some(fields)) = (answer.marker.is_empty(), shown.as_object_mut()) {
                fields.insert("Marker".to_owned(), answer.marker.into());
            }
            println!("{shown:#}");
            if !answer.shared {
                eprintln!("These are the records of the one broker that answered; with Redis all brokers share them.");
            }
        }
        SessionsCommand::Show { call, session_id } => {
            let session =
                runtime.block_on(async { Ok::<_, Failure>(call.client()?.describe_session(&session_id).await?) })?;
            println!("{:#}", shown(&session));
        }
        SessionsCommand::Revoke(arguments) => {
            let request = request(arguments.selector)?;
            let answer = runtime
                .block_on(async { Ok::<_, Failure>(arguments.call.client()?.revoke_sessions(request).await?) })?;
            let pending: Vec<_> = answer
                .pending
                .iter()
                .map(|n| serde_json::json!({"Node": n.node, "Host": n.host, "ConfirmedSequenceNumber": n.confirmed_sequence_number}))
                .collect();
            let shown = serde_json::json!({
                "SequenceNumber": answer.sequence_number, "NodesConnected": answer.nodes_connected,
                "NodesConfirmed": answer.nodes_confirmed, "Pending": pending,
            });
            println!("{shown:#}");
            if !answer.pending.is_empty() {
                eprintln!(
                    "It is durable. The brokers named have not taken it yet; each is out of use within 10 s of silence."
                );
            }
        }
    }
    Ok(())
}

/// As many sessions as were asked for, however many pages they come in.
async fn list(
    client: &Client,
    role_arn: Option<String>,
    max_items: i32,
    marker: Option<String>,
) -> Result<pb::ListSessionsResponse, Failure> {
    let request = |max_items, marker| pb::ListSessionsRequest { role_arn: role_arn.clone(), max_items, marker };
    let mut all = client.list_sessions(request(Some(max_items), marker)).await?;
    loop {
        let found = i32::try_from(all.sessions.len()).unwrap_or(i32::MAX);
        if all.marker.is_empty() || found >= max_items {
            return Ok(all);
        }
        let page = client.list_sessions(request(Some(max_items - found), Some(all.marker.clone()))).await?;
        if page.marker == all.marker {
            return Err(format!("the broker's pages do not go on behind {}", page.marker).into());
        }
        all.sessions.extend(page.sessions);
        all.marker = page.marker;
    }
}

fn request(selector: RevokeSelector) -> Result<pb::RevokeSessionsRequest, Failure> {
    let issued_before = selector.issued_before.as_deref().map(|text| {
        let at: jiff::Timestamp =
            text.parse().map_err(|_| format!("--issued-before {text}: must be like 2026-01-02T03:04:05Z"))?;
        Ok::<_, String>(prost_types::Timestamp { seconds: at.as_second(), nanos: 0 })
    });
    let chosen = selector
        .session_id
        .map(Selector::SessionId)
        .or(selector.access_key_id.map(Selector::AccessKeyId))
        .or(selector.principal_arn.map(Selector::PrincipalArn))
        .or(selector.role_arn.map(Selector::RoleArn))
        .or(selector.source_identity.map(Selector::SourceIdentity));
    Ok(pb::RevokeSessionsRequest { selector: chosen, issued_before: issued_before.transpose()? })
}

fn shown(session: &pb::Session) -> serde_json::Value {
    let at = |t: &Option<prost_types::Timestamp>| {
        t.as_ref().map(|t| Timestamp::from_seconds(t.seconds).to_string()).unwrap_or_default()
    };
    let tags: Vec<_> = session.tags.iter().map(|t| serde_json::json!({"Key": t.key, "Value": t.value})).collect();
    serde_json::json!({
        "SessionId": session.session_id, "AccessKeyId": session.access_key_id, "Arn": session.arn,
        "MadeBy": session.made_by, "RoleArn": session.role_arn, "SourceIdentity": session.source_identity, "Tags": tags,
        "IssuedAt": at(&session.issued_at), "ExpiresAt": at(&session.expires_at), "CameFrom": session.came_from,
        "AssumedByAccessKeyId": session.assumed_by_access_key_id, "Revoked": session.revoked,
    })
}
