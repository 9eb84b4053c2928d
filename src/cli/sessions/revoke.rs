//! `brevet sessions revoke`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::api::sts::v1::{self as pb, revoke_sessions_request::Selector};
use crate::base::arn::AccountId;
use crate::base::clock::{Clock, SystemClock};
use crate::cli::aws::Settings;
use crate::cli::print::{self, Output, OutputArgument};
use crate::cli::{CallArguments, Failure, operator, role_arn, store, terminal, values};
use crate::client::Client;
use crate::commands;
use crate::config::Config;
use crate::store::Store;

const REVOKE_EXAMPLES: &str = "\
Examples:
  brevet sessions revoke --role-arn Demo --dry-run
      Says what would end, and ends nothing.
  brevet sessions revoke --access-key-id ASIA0123456789ABCDEF
      The session with this key, and what came from it.
  brevet sessions revoke --principal-arn arn:aws:iam::111122223333:user/alice
      Everything that came from a user.
  brevet sessions revoke --access-key-id AKIA0123456789ABCDEF --deactivate-access-key
      What came from a long-term key, and the key itself.
  brevet sessions revoke --provider arn:aws:iam::111122223333:oidc-provider/idp --subject alice
      Whom an identity provider vouched for.
  brevet sessions revoke --role-arn Demo --issued-before 2026-01-02T03:04:05Z
      The sessions of a role that were issued before an instant.
  brevet sessions revoke --all
      All sessions of your account.
  brevet sessions revoke --all --config /var/lib/brevet/brevet.toml
      All sessions of all accounts, on the broker's own machine and without credentials.";

/// End sessions, whether they are on record or not
///
/// Ends the sessions that come from what you name, and everything that came from those sessions in
/// turn. The answer comes when the revocation is on stable storage, and says how many connected
/// brokers have it in force and how many sessions on record it ended. It cannot be taken back. What
/// is named stays: a role can be assumed again, and a long-term access key goes on signing unless it
/// is deactivated.
#[derive(Debug, Args)]
#[command(after_long_help = REVOKE_EXAMPLES)]
pub(in crate::cli) struct RevokeArguments {
    #[command(flatten)]
    call: CallArguments,
    #[command(flatten)]
    selector: RevokeSelector,
    /// With --access-key-id of a long-term key: make the key itself inactive too
    #[arg(long, requires = "access_key_id", conflicts_with = "dry_run")]
    deactivate_access_key: bool,
    /// Say what would end, and end nothing
    #[arg(long)]
    dry_run: bool,
    /// With --all: end them beside the broker, on its store, without credentials: of all accounts
    #[arg(long, value_name = "FILE", requires = "all")]
    config: Option<PathBuf>,
    /// With --all: of this account alone. Without --config it must be your own
    #[arg(long, value_name = "ACCOUNT_ID", requires = "all")]
    account: Option<String>,
    #[command(flatten)]
    output: OutputArgument,
}

/// One of the first seven, or a time, or both.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct RevokeSelector {
    /// One session: 32 hexadecimal digits
    #[arg(long, value_name = "ID", conflicts_with_all = ["access_key_id", "principal_arn", "role_arn", "source_identity", "provider", "all"])]
    session_id: Option<String>,
    /// What was signed for with an access key, and what came from that: ASIA… or AKIA…
    #[arg(long, value_name = "ID", conflicts_with_all = ["principal_arn", "role_arn", "source_identity", "provider", "all"])]
    access_key_id: Option<String>,
    /// What came from a user or a role session
    #[arg(long, value_name = "ARN", conflicts_with_all = ["role_arn", "source_identity", "provider", "all"])]
    principal_arn: Option<String>,
    /// All sessions of a role: its ARN, or the name of a role of your own account
    #[arg(long, value_name = "ARN", conflicts_with_all = ["source_identity", "provider", "all"])]
    role_arn: Option<String>,
    /// The person behind a chain of sessions
    #[arg(long, value_name = "NAME", conflicts_with_all = ["provider", "all"])]
    source_identity: Option<String>,
    /// Whom an OpenID Connect provider vouched for
    #[arg(long, value_name = "ARN", conflicts_with = "all")]
    provider: Option<String>,
    /// With --provider: this subject alone, as `sub` in the provider's tokens names it
    #[arg(long, value_name = "SUB", requires = "provider")]
    subject: Option<String>,
    /// All sessions of your account
    #[arg(long)]
    all: bool,
    /// Those issued before an instant, by the clock of the broker that issued them:
    /// 2026-01-02T03:04:05Z; by itself: all of your account
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    issued_before: Option<jiff::Timestamp>,
}

pub(super) async fn run(arguments: RevokeArguments) -> Result<(), Failure> {
    let account = match &arguments.account {
        Some(text) => Some(AccountId::parse(text).ok_or_else(|| {
            format!("--account {text}: must be twelve digits, such as 111122223333")
        })?),
        None => None,
    };
    let output = arguments.output.chosen();
    if let Some(config) = &arguments.config {
        if arguments.selector.issued_before.is_some() {
            return Err(
                "--issued-before: with --config every session that was issued before now ends"
                    .into(),
            );
        }
        return end_beside(config, account, arguments.dry_run, output).await;
    }
    let client = Settings::of(&arguments.call)?.client().await?;
    if let Some(account) = account {
        let own = client.get_caller_identity().await?.account;
        if own != account.as_str() {
            let rule =
                "is not your account; on the broker's machine --config FILE ends sessions of any";
            return Err(format!("--account {account}: {rule}").into());
        }
    }
    let mut request = request(&client, arguments.selector).await?;
    request.deactivate_access_key = arguments.deactivate_access_key;
    if arguments.dry_run {
        let target = client.preview_revocation(request).await?;
        if output == Output::Json {
            print::json(&json!({"DryRun": true, "Target": hit(&target)}))?;
        }
        print::note(told(&target, true));
        return Ok(());
    }
    let (key, is_role) = match &request.selector {
        Some(Selector::AccessKeyId(id)) => (id.clone(), false),
        Some(Selector::RoleArn(_)) => (String::new(), true),
        _ => (String::new(), false),
    };
    let answer = revoke(&client, request, &key).await?;
    report(&answer, output, &key, is_role)
}

/// Revokes; and if the access key itself goes on, asks on a terminal whether it should.
async fn revoke(
    client: &Client,
    mut request: pb::RevokeSessionsRequest,
    key: &str,
) -> Result<pb::RevokeSessionsResponse, Failure> {
    let answer = client.revoke_sessions(request.clone()).await?;
    let first = answer.target.as_ref();
    if !first.is_some_and(|target| target.access_key_goes_on)
        || request.deactivate_access_key
        || !terminal::confirms(&format!(
            "The access key {key} itself is active and goes on signing. Deactivate it too?"
        ))?
    {
        return Ok(answer);
    }
    request.deactivate_access_key = true;
    let counted = first.and_then(|target| target.sessions_on_record);
    let mut answer = client.revoke_sessions(request).await?;
    // What the first call has ended.
    answer.target = answer.target.map(|target| pb::RevocationTarget {
        sessions_on_record: counted,
        ..target
    });
    Ok(answer)
}

/// Says what was revoked, and what goes on.
fn report(
    answer: &pb::RevokeSessionsResponse,
    output: Output,
    key: &str,
    is_role: bool,
) -> Result<(), Failure> {
    let target = answer.target.unwrap_or_default();
    match output {
        Output::Json => print::json(&revoked(answer, &target))?,
        Output::Table => print::line(format_args!(
            "Revoked by change {}; in force on {} of {} connected brokers.",
            answer.sequence_number, answer.nodes_confirmed, answer.nodes_connected
        ))?,
    }
    print::note(told(&target, false));
    if target.access_key_goes_on {
        print::note(format_args!(
            "The access key {key} itself is active and goes on signing. To end it: brevet sessions revoke --access-key-id \
             {key} --deactivate-access-key. Where the directory is a file, set the key's \"Status\" to \"Inactive\" there."
        ));
    } else if is_role && target.exists == Some(true) {
        print::note("The role can be assumed again at once, by whoever its trust policy admits.");
    }
    if answer.access_key_deactivated {
        print::note(format_args!(
            "The access key {key} itself is inactive from now on."
        ));
    }
    if !answer.pending.is_empty() {
        print::note(
            "It is durable. The brokers under \"Pending\" have not taken it yet, or are not heard of: each is not ready \
             after 10 s without the change feed, and accepts nobody after its `refuse_after_seconds`.",
        );
        if output == Output::Table {
            for node in &answer.pending {
                print::note(format_args!("  pending: {}", print::visible(&node.host)));
            }
        }
    }
    Ok(())
}

/// Ends sessions on the store of a broker, which takes it from there.
async fn end_beside(
    config: &Path,
    account: Option<AccountId>,
    dry_run: bool,
    output: Output,
) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let of = account.map_or_else(
        || "all accounts".to_owned(),
        |account| format!("the account {account}"),
    );
    if dry_run {
        if output == Output::Json {
            print::json(
                &json!({"DryRun": true, "Account": account.map(|account| account.to_string())}),
            )?;
        }
        print::note(format_args!(
            "Every session of {of} that was issued before now would end."
        ));
        return Ok(());
    }
    let now = SystemClock.now();
    let work = async |store: &Store| commands::end_sessions(store, &operator(), account, now).await;
    let sequence = store::beside(&config, now, work).await?;
    match output {
        Output::Json => print::json(&json!({"SequenceNumber": sequence}))?,
        Output::Table => print::line(format_args!("Revoked by change {sequence}."))?,
    }
    print::note(format_args!(
        "Every session of {of} that was issued before now ends; it binds on every connected broker within 2 s."
    ));
    print::note("Long-term access keys go on signing, and roles can be assumed again.");
    Ok(())
}

/// What was hit, in a sentence.
fn told(target: &pb::RevocationTarget, dry_run: bool) -> String {
    let sessions = match (target.sessions_on_record, target.more) {
        (None, _) => {
            "the session records cannot be read; what is not on record ends all the same".to_owned()
        }
        (Some(count), more) => {
            let at_least = if more { "at least " } else { "" };
            let plural = if count == 1 && !more { "" } else { "s" };
            let verb = match (dry_run, count == 1 && !more) {
                (true, _) => "would end",
                (false, true) => "ends",
                (false, false) => "end",
            };
            format!("{at_least}{count} session{plural} on record {verb}")
        }
    };
    match target.exists {
        Some(false) => format!(
            "There is nothing of this name in the directory (check its spelling); {sessions}."
        ),
        _ => {
            let mut chars = sessions.chars();
            chars
                .next()
                .map(|c| c.to_uppercase().chain(chars).collect::<String>())
                .unwrap_or_default()
                + "."
        }
    }
}

fn revoked(answer: &pb::RevokeSessionsResponse, target: &pb::RevocationTarget) -> Value {
    let pending = answer
        .pending
        .iter()
        .map(|n| json!({"Node": n.node, "Host": n.host, "ConfirmedSequenceNumber": n.confirmed_sequence_number}));
    json!({
        "SequenceNumber": answer.sequence_number, "NodesConnected": answer.nodes_connected,
        "NodesConfirmed": answer.nodes_confirmed, "Pending": pending.collect::<Vec<_>>(), "Target": hit(target),
        "AccessKeyDeactivated": answer.access_key_deactivated,
    })
}

fn hit(target: &pb::RevocationTarget) -> Value {
    json!({
        "Exists": target.exists, "SessionsOnRecord": target.sessions_on_record, "More": target.more,
        "AccessKeyGoesOn": target.access_key_goes_on,
    })
}

async fn request(
    client: &Client,
    selector: RevokeSelector,
) -> Result<pb::RevokeSessionsRequest, Failure> {
    let issued_before = selector.issued_before.map(|at| prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: 0,
    });
    let role_arn = match &selector.role_arn {
        Some(role) => Some(role_arn(client, role).await?),
        None => None,
    };
    let chosen = selector
        .session_id
        .map(Selector::SessionId)
        .or(selector.access_key_id.map(Selector::AccessKeyId))
        .or(selector.principal_arn.map(Selector::PrincipalArn))
        .or(role_arn.map(Selector::RoleArn))
        .or(selector.source_identity.map(Selector::SourceIdentity))
        .or(selector.provider.map(|provider_arn| {
            Selector::VouchedFor(pb::VouchedFor {
                provider_arn,
                subject: selector.subject.clone(),
            })
        }))
        .or(selector.all.then_some(Selector::All(true)));
    Ok(pb::RevokeSessionsRequest {
        selector: chosen,
        issued_before,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hit_is_said_in_a_sentence() {
        let target = |exists, sessions_on_record, more| pb::RevocationTarget {
            exists,
            sessions_on_record,
            more,
            access_key_goes_on: false,
        };
        for (hit, dry_run, expected) in [
            (
                target(Some(true), Some(1), false),
                false,
                "1 session on record ends.",
            ),
            (
                target(None, Some(3), false),
                true,
                "3 sessions on record would end.",
            ),
            (
                target(None, Some(3), true),
                false,
                "At least 3 sessions on record end.",
            ),
            (
                target(Some(false), Some(0), false),
                false,
                "There is nothing of this name in the directory (check its spelling); 0 sessions on record end.",
            ),
            (
                target(None, None, false),
                false,
                "The session records cannot be read; what is not on record ends all the same.",
            ),
        ] {
            assert_eq!(told(&hit, dry_run), expected);
        }
    }
}
