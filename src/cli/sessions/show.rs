//! `brevet sessions show`: shows what is on record about one session.

use clap::Args;
use serde_json::{Value, json};

use crate::api::sts::v1 as pb;
use crate::base::clock::Timestamp;
use crate::cli::aws::Settings;
use crate::cli::print::{self, Output, OutputArgument};
use crate::cli::{CallArguments, Failure};

const SHOW_EXAMPLES: &str = "\
Examples:
  brevet sessions show 0123456789abcdef0123456789abcdef";

/// Show one session on record
///
/// Shows everything that is on record about a session: its principal, its tags, the chain of principals
/// behind it, the access key with which it was assumed, and whether a revocation has ended it.
#[derive(Debug, Args)]
#[command(after_long_help = SHOW_EXAMPLES)]
pub(in crate::cli) struct ShowArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The id of the session: 32 hexadecimal digits
    session_id: String,
    #[command(flatten)]
    output: OutputArgument,
}

pub(super) async fn run(arguments: ShowArguments) -> Result<(), Failure> {
    let client = Settings::of(&arguments.call)?.client().await?;
    let session = client.describe_session(&arguments.session_id).await?;
    let fields = shown(&session);
    match arguments.output.chosen() {
        Output::Json => print::json(&fields),
        Output::Table => {
            let text = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join(", "),
                other => other.to_string(),
            };
            let texts: Vec<(String, String)> = fields
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect();
            let lines: Vec<(&str, &str)> = texts
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            print::block(print::fields(&lines))
        }
    }
}

/// Formats an item of a list, which is a name or a tag.
fn item(value: &Value) -> String {
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    value.as_str().map_or_else(
        || format!("{}={}", field("Key"), field("Value")),
        str::to_owned,
    )
}

pub(in crate::cli) fn at(instant: &Option<prost_types::Timestamp>) -> String {
    instant
        .as_ref()
        .map(|t| Timestamp::from_seconds(t.seconds).to_string())
        .unwrap_or_default()
}

pub(super) fn shown(session: &pb::Session) -> Value {
    let tags: Vec<_> = session
        .tags
        .iter()
        .map(|t| json!({"Key": t.key, "Value": t.value}))
        .collect();
    let narrowing = session.narrowing.as_ref();
    json!({
        "SessionId": session.session_id, "AccessKeyId": session.access_key_id, "Arn": session.arn,
        "MadeBy": session.made_by, "RoleArn": session.role_arn, "SourceIdentity": session.source_identity, "Tags": tags,
        "IssuedAt": at(&session.issued_at), "ExpiresAt": at(&session.expires_at), "CameFrom": session.came_from,
        "AssumedByAccessKeyId": session.assumed_by_access_key_id, "Revoked": session.revoked,
        "Workload": session.workload,
        "NarrowedAt": narrowing.map(|n| at(&n.narrowed_at)).unwrap_or_default(),
        "Description": narrowing.map(|n| n.description.as_str()).unwrap_or_default(),
    })
}
