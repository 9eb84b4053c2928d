//! `brevet sessions revoke`: ends sessions, over gRPC or directly on the store.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::api::sts::v1::{self as pb, revoke_sessions_request::Selector};
use crate::base::arn::AccountId;
use crate::base::clock::{Clock, SystemClock};
use crate::cli::aws::Settings;
use crate::cli::print::{self, Output, OutputArgument};
use crate::cli::{CallArguments, Failure, beside, journal, operator, role_arn, terminal, values};
use crate::client::Client;
use crate::commands;
use crate::config::Config;
use crate::store::Store;

const REVOKE_EXAMPLES: &str = "\
Examples:
  brevet sessions revoke --role-arn Demo --dry-run
      Counts the sessions that would end, and ends none.
  brevet sessions revoke --access-key-id ASIA0123456789ABCDEF
      Ends the session with this key, and the sessions assumed from it.
  brevet sessions revoke --principal-arn arn:aws:iam::111122223333:user/alice
      Ends every session that a user obtained.
  brevet sessions revoke --access-key-id AKIA0123456789ABCDEF --deactivate-access-key
      Ends the sessions of a long-term key, and deactivates the key.
  brevet sessions revoke --provider arn:aws:iam::111122223333:oidc-provider/idp --subject alice
      Ends the sessions of one subject of an identity provider.
  brevet sessions revoke --role-arn Demo --issued-before 2026-01-02T03:04:05Z
      Ends the sessions of a role that were issued before a time.
  brevet sessions revoke --all
      Ends all sessions of your account.
  brevet sessions revoke --all --config /var/lib/brevet/brevet.toml
      Ends all sessions of all accounts, on the broker's own machine and without credentials.";

/// End sessions, whether they are on record or not
///
/// Ends the sessions that you select, and every session that was assumed from them. The command returns once the
/// revocation is on stable storage, and prints how many connected brokers already enforce it and how many sessions on
/// record have ended. A revocation cannot be undone. It does not change the role, user or key: a role can be assumed
/// again, and a long-term access key stays active unless you deactivate it.
#[derive(Debug, Args)]
#[command(after_long_help = REVOKE_EXAMPLES)]
pub(in crate::cli) struct RevokeArguments {
    #[command(flatten)]
    call: CallArguments,
    #[command(flatten)]
    selector: RevokeSelector,
    /// With --access-key-id of a long-term key: also deactivate the key
    #[arg(long, requires = "access_key_id", conflicts_with = "dry_run")]
    deactivate_access_key: bool,
    /// Count the sessions that would end, without ending them
    #[arg(long)]
    dry_run: bool,
    /// With --all: work on the store of this configuration, without credentials, for all accounts
    #[arg(long, value_name = "FILE", requires = "all")]
    config: Option<PathBuf>,
    /// With --all: only the sessions of this account, which must be your own without --config
    #[arg(long, value_name = "ACCOUNT_ID", requires = "all")]
    account: Option<String>,
    #[command(flatten)]
    output: OutputArgument,
}

/// The sessions to revoke: those of one selector, those from before a time, or both together.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct RevokeSelector {
    /// One session, by its id of 32 hexadecimal digits
    #[arg(long, value_name = "ID", conflicts_with_all = ["access_key_id", "principal_arn", "role_arn", "source_identity", "provider", "all"])]
    session_id: Option<String>,
    /// The sessions that were obtained with an access key (AKIA… or ASIA…), and the session that an ASIA… key
    /// belongs to
    #[arg(long, value_name = "ID", conflicts_with_all = ["principal_arn", "role_arn", "source_identity", "provider", "all"])]
    access_key_id: Option<String>,
    /// The sessions that a user or a role session obtained
    #[arg(long, value_name = "ARN", conflicts_with_all = ["role_arn", "source_identity", "provider", "all"])]
    principal_arn: Option<String>,
    /// All sessions of a role: its ARN, or the name of a role in your own account
    #[arg(long, value_name = "ARN", conflicts_with_all = ["source_identity", "provider", "all"])]
    role_arn: Option<String>,
    /// The sessions with this source identity
    #[arg(long, value_name = "NAME", conflicts_with_all = ["provider", "all"])]
    source_identity: Option<String>,
    /// The sessions that were obtained with tokens of an OpenID Connect provider, or with assertions of a
    /// SAML provider
    #[arg(long, value_name = "ARN", conflicts_with = "all")]
    provider: Option<String>,
    /// With --provider: only the sessions of this subject, the `sub` of the provider's tokens or the NameID of
    /// its assertions
    #[arg(long, value_name = "SUB", requires = "provider")]
    subject: Option<String>,
    /// All sessions of your account
    #[arg(long)]
    all: bool,
    /// Only sessions that were issued before this time, by the clock of the broker that issued them:
    /// 2026-01-02T03:04:05Z; without a selector, those of your account
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
                "--issued-before: cannot be used with --config, which ends every session that was issued before now"
                    .into(),
            );
        }
        return end_beside(config, account, arguments.dry_run, output).await;
    }
    let client = Settings::of(&arguments.call)?.client().await?;
    if let Some(account) = account {
        let own = client.get_caller_identity().await?.account;
        if own != account.as_str() {
            let rule = "must be your own account; to end sessions of another one, use --config FILE on the broker's machine";
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
        print::note(summary(&target, true));
        return Ok(());
    }
    let (key, is_role) = match &request.selector {
        Some(Selector::AccessKeyId(id)) => (id.clone(), false),
        Some(Selector::RoleArn(_)) => (String::new(), true),
        _ => (String::new(), false),
    };
    let answer = revoke(&client, request, &key).await?;
    report(&answer, output, &key, is_role)?;
    if arguments.deactivate_access_key && !answer.access_key_deactivated {
        return Err(format!(
            "the sessions have ended, but the access key {key} is still active and can sign calls; the broker's log says why it \
             was not deactivated"
        )
        .into());
    }
    Ok(())
}

/// Revokes sessions. If the access key that selects them stays active, asks on a terminal whether to
/// deactivate it.
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
            "The access key {key} is still active and can still sign calls. Deactivate it too?"
        ))?
    {
        return Ok(answer);
    }
    request.deactivate_access_key = true;
    let counted = first.and_then(|target| target.sessions_on_record);
    let mut answer = client.revoke_sessions(request).await?;
    // The count of the first call, which ended the sessions.
    answer.target = answer.target.map(|target| pb::RevocationTarget {
        sessions_on_record: counted,
        ..target
    });
    Ok(answer)
}

/// Prints what was revoked, and warns about access that remains: an access key that is still active, or a role that can
/// be assumed again.
fn report(
    answer: &pb::RevokeSessionsResponse,
    output: Output,
    key: &str,
    is_role: bool,
) -> Result<(), Failure> {
    let target = answer.target.unwrap_or_default();
    match output {
        Output::Json => print::json(&revoked(answer, &target))?,
        Output::Table if answer.other_nodes_unknown => print::line(format_args!(
            "The revocation is change {}, which is in force on the broker that answered.",
            answer.sequence_number
        ))?,
        Output::Table => print::line(format_args!(
            "The revocation is change {}, which is in force on {} of {} connected brokers.",
            answer.sequence_number, answer.nodes_confirmed, answer.nodes_connected
        ))?,
    }
    print::note(summary(&target, false));
    if target.access_key_goes_on {
        print::note(format_args!(
            "The access key {key} is still active and can still sign calls. To deactivate it: `brevet sessions revoke \
             --access-key-id {key} --deactivate-access-key`. If the directory is a file, set the key's \"Status\" to \
             \"Inactive\" there."
        ));
    } else if is_role && target.exists == Some(true) {
        print::note(
            "Everybody whom the role's trust policy allows can assume the role again at once.",
        );
    }
    if answer.access_key_deactivated {
        print::note(format_args!("The access key {key} is now inactive."));
    }
    if answer.other_nodes_unknown {
        print::note(
            "The revocation is stored, but the list of other brokers could not be read. Every other broker that reads \
             the change feed applies the revocation within 2 s. A broker that cannot read the change feed becomes \
             unready after 10 s, and refuses all calls after its `refuse_after_seconds`.",
        );
    }
    if !answer.pending.is_empty() {
        print::note(
            "The revocation is stored, but the pending brokers have not confirmed it yet. A broker that cannot read \
             the change feed becomes unready after 10 s, and refuses all calls after its `refuse_after_seconds`.",
        );
        if output == Output::Table {
            for node in &answer.pending {
                print::note(format_args!("  pending: {}", print::visible(&node.host)));
            }
        }
    }
    Ok(())
}

/// Ends sessions directly on the store; running brokers read the revocation from there.
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
    let parameters = json!({"account": account.as_ref().map(ToString::to_string)});
    let revoking = async {
        let work =
            async |store: &Store| commands::end_sessions(store, &operator(), account, now).await;
        let sequence = beside::with_store(&config, now, work).await?;
        Ok((sequence, json!({"sequenceNumber": sequence})))
    };
    let sequence = journal::recorded_if_possible(
        &journal::of(&config),
        "RevokeSessions",
        parameters,
        revoking,
    )
    .await?;
    match output {
        Output::Json => print::json(&json!({"SequenceNumber": sequence}))?,
        Output::Table => print::line(format_args!("The revocation is change {sequence}."))?,
    }
    print::note(format_args!(
        "Every session of {of} that was issued before now has ended; every connected broker applies this within 2 s."
    ));
    print::note("Long-term access keys stay active, and roles can be assumed again.");
    Ok(())
}

/// Says in a sentence how many sessions on record end, and whether the selected principal or key exists.
fn summary(target: &pb::RevocationTarget, dry_run: bool) -> String {
    let sessions = match (target.sessions_on_record, target.more) {
        (None, _) => {
            let end = if dry_run { "would end" } else { "end" };
            format!(
                "the sessions {end}, but they could not be counted, because the session records cannot be read"
            )
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
        Some(false) => {
            format!("The directory has no entry with this name (check the spelling); {sessions}.")
        }
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
    let number = |nodes| (!answer.other_nodes_unknown).then_some(nodes);
    json!({
        "SequenceNumber": answer.sequence_number, "NodesConnected": number(answer.nodes_connected),
        "NodesConfirmed": number(answer.nodes_confirmed), "Pending": pending.collect::<Vec<_>>(), "Target": hit(target),
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
                "The directory has no entry with this name (check the spelling); 0 sessions on record end.",
            ),
            (
                target(None, None, false),
                false,
                "The sessions end, but they could not be counted, because the session records cannot be read.",
            ),
        ] {
            assert_eq!(summary(&hit, dry_run), expected);
        }
    }
}
