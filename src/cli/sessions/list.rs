//! `brevet sessions list`: lists the sessions on record of the caller's account.

use clap::Args;
use serde_json::json;

use super::show::{at, shown};
use crate::api::sts::v1 as pb;
use crate::cli::aws::Settings;
use crate::cli::print::{self, Output, OutputArgument};
use crate::cli::{CallArguments, Failure, role_arn};
use crate::client::Client;

const LIST_EXAMPLES: &str = "\
Examples:
  brevet sessions list
      Lists the sessions of your account that have not ended, ordered by expiry.
  brevet sessions list --role-arn Demo --output json
      Lists the sessions of one role, as JSON.
  brevet sessions list --include-revoked --max-items 1000
      Also lists sessions that were revoked.";

/// List the sessions on record that have not ended, ordered by expiry
///
/// Shows for each session of your account its principal, its role, its expiry and the principal that
/// assumed it. Brokers keep the records in memory, or in Redis, where they share them. A session without a record is
/// nevertheless valid, and can be revoked.
#[derive(Debug, Args)]
#[command(after_long_help = LIST_EXAMPLES)]
pub(in crate::cli) struct ListArguments {
    #[command(flatten)]
    call: CallArguments,
    /// Only sessions of this role: its ARN, or the name of a role in your own account
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Include sessions that a revocation has ended
    #[arg(long)]
    include_revoked: bool,
    /// The maximum number of sessions to list: 1 to 1,000
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    max_items: i32,
    /// Continue where an earlier list ended: the marker that was printed at its end
    #[arg(long, value_name = "MARKER")]
    marker: Option<String>,
    #[command(flatten)]
    output: OutputArgument,
}

pub(super) async fn run(arguments: ListArguments) -> Result<(), Failure> {
    let client = Settings::of(&arguments.call)?.client().await?;
    let role_arn = match &arguments.role_arn {
        Some(role) => Some(role_arn(&client, role).await?),
        None => None,
    };
    let request = pb::ListSessionsRequest {
        role_arn,
        max_items: None,
        marker: arguments.marker,
        include_revoked: arguments.include_revoked,
    };
    let answer = pages(&client, request, arguments.max_items).await?;
    match arguments.output.chosen() {
        Output::Json => {
            let sessions: Vec<_> = answer.sessions.iter().map(shown).collect();
            let mut shown = json!({"Sessions": sessions});
            if let (true, Some(fields)) = (answer.unreadable > 0, shown.as_object_mut()) {
                fields.insert("Unreadable".to_owned(), answer.unreadable.into());
            }
            if let (false, Some(fields)) = (answer.marker.is_empty(), shown.as_object_mut()) {
                fields.insert("Marker".to_owned(), answer.marker.as_str().into());
            }
            print::json(&shown)?;
        }
        Output::Table => {
            let rows: Vec<_> = answer.sessions.iter().map(row).collect();
            print::block(print::table(
                &["SESSION", "WHO", "CAME FROM", "KEY", "UNTIL", "STATE"],
                &rows,
            ))?;
            if !answer.marker.is_empty() {
                print::note(format_args!(
                    "There are more sessions; continue with --marker {}",
                    print::word(&answer.marker)
                ));
            }
        }
    }
    if !answer.shared {
        print::note(
            "The list contains only the records of the broker that answered; with [sessions.redis], all brokers share \
             their records.",
        );
    }
    match answer.unreadable {
        0 => Ok(()),
        count => Err(format!(
            "{count} session records in Redis fail authentication: something other than a broker of this cluster \
             wrote or changed them. The sessions of these records are missing from the list, but still valid: find out \
             who can write to Redis, and end the sessions by `brevet sessions revoke` with --role-arn, \
             --principal-arn or --all"
        )
        .into()),
    }
}

/// Requests pages until there are `max_items` sessions or no more pages.
async fn pages(
    client: &Client,
    request: pb::ListSessionsRequest,
    max_items: i32,
) -> Result<pb::ListSessionsResponse, Failure> {
    let first = pb::ListSessionsRequest {
        max_items: Some(max_items),
        ..request.clone()
    };
    let mut all = client.list_sessions(first).await?;
    loop {
        let found = i32::try_from(all.sessions.len()).unwrap_or(i32::MAX);
        if all.marker.is_empty() || found >= max_items {
            return Ok(all);
        }
        let next = pb::ListSessionsRequest {
            max_items: Some(max_items - found),
            marker: Some(all.marker.clone()),
            ..request.clone()
        };
        let page = client.list_sessions(next).await?;
        if page.marker == all.marker {
            return Err(format!(
                "the broker answered twice with the marker {}, so the list would never end; this is a bug in the \
                 broker",
                print::visible(&page.marker)
            )
            .into());
        }
        all.unreadable = all.unreadable.saturating_add(page.unreadable);
        all.sessions.extend(page.sessions);
        all.marker = page.marker;
    }
}

fn row(session: &pb::Session) -> Vec<String> {
    let mut last = session.came_from.last().cloned().unwrap_or_default();
    if !session.workload.is_empty() {
        last.push_str(&format!(" for {}", session.workload));
    }
    if let Some(narrowing) = &session.narrowing {
        last.push_str(" (narrowed");
        if !narrowing.description.is_empty() {
            last.push_str(": ");
            last.push_str(&narrowing.description);
        }
        last.push(')');
    }
    let state = if session.revoked { "revoked" } else { "live" };
    vec![
        session.session_id.clone(),
        session.arn.clone(),
        last,
        session.access_key_id.clone(),
        at(&session.expires_at),
        state.to_owned(),
    ]
}
