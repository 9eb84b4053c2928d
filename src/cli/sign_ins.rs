//! `brevet sign-ins`: lists and ends sign-ins of people over gRPC, for administrators of an account.

use clap::{Args, Subcommand};
use serde_json::json;

use super::aws::Settings;
use super::print::{self, Output, OutputArgument};
use super::sessions::at;
use super::{CallArguments, Failure};
use crate::api::sts::v1 as pb;
use crate::client::Client;

const EXAMPLES: &str = "\
Examples:
  brevet sign-ins list
  brevet sign-ins end 0123456789abcdef0123456789abcdef";

const LIST_EXAMPLES: &str = "\
Examples:
  brevet sign-ins list
      Lists the people of your account who are signed in.
  brevet sign-ins list --output json
      Lists them as JSON, with their programs and factors.";

const END_EXAMPLES: &str = "\
Examples:
  brevet sign-ins end 0123456789abcdef0123456789abcdef";

/// List and end sign-ins of people
///
/// For administrators of an account. The calls are signed like all others, and the caller's policies must allow
/// brevet:ListSignIns or brevet:EndSignIn.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum SignInsCommand {
    List(ListArguments),
    End(EndArguments),
}

/// List the people who are signed in
///
/// Shows for each sign-in of your account the person, the time when it began, the time when it ends, and the address. A
/// sign-in belongs to the account of the user, or to that of the identity provider with which the person signed in.
#[derive(Debug, Args)]
#[command(after_long_help = LIST_EXAMPLES)]
pub(super) struct ListArguments {
    #[command(flatten)]
    call: CallArguments,
    #[command(flatten)]
    output: OutputArgument,
}

/// End a sign-in with all its tokens and sessions
///
/// Ends the tokens of the programs that the person has approved, and all role sessions that the person or these
/// programs got with the sign-in. Every connected broker enforces this within two seconds. The person can sign in
/// again, unless the identity provider or a change of the password prevents it.
#[derive(Debug, Args)]
#[command(after_long_help = END_EXAMPLES)]
pub(super) struct EndArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The id of the sign-in: 32 hexadecimal digits
    sign_in_id: String,
}

pub(super) fn run(command: SignInsCommand) -> Result<(), Failure> {
    let runtime = super::runtime()?;
    match command {
        SignInsCommand::List(arguments) => runtime.block_on(list(arguments)),
        SignInsCommand::End(arguments) => runtime.block_on(end(arguments)),
    }
}

async fn list(arguments: ListArguments) -> Result<(), Failure> {
    let client = Settings::of(&arguments.call)?.client().await?;
    let sign_ins = all(&client).await?;
    match arguments.output.chosen() {
        Output::Json => {
            let shown: Vec<_> = sign_ins
                .iter()
                .map(|sign_in| {
                    json!({
                        "SignInId": sign_in.sign_in_id, "Name": sign_in.name, "Arn": sign_in.arn,
                        "SignedInAt": at(&sign_in.signed_in_at), "ExpiresAt": at(&sign_in.expires_at),
                        "SeenAt": at(&sign_in.seen_at), "SourceIp": sign_in.source_ip,
                        "UserAgent": sign_in.user_agent, "Methods": sign_in.methods,
                    })
                })
                .collect();
            print::json(&json!({"SignIns": shown}))
        }
        Output::Table => {
            let rows: Vec<_> = sign_ins
                .iter()
                .map(|sign_in| {
                    vec![
                        sign_in.sign_in_id.clone(),
                        sign_in.name.clone(),
                        sign_in.arn.clone(),
                        sign_in.source_ip.clone(),
                        at(&sign_in.signed_in_at),
                        at(&sign_in.expires_at),
                    ]
                })
                .collect();
            let names = ["SIGN-IN", "WHO", "BY", "FROM", "SINCE", "UNTIL"];
            print::block(print::table(&names, &rows))
        }
    }
}

/// Requests pages until there are no more.
async fn all(client: &Client) -> Result<Vec<pb::SignIn>, Failure> {
    let (mut found, mut marker) = (Vec::new(), None);
    loop {
        let request = pb::ListSignInsRequest {
            max_items: Some(500),
            marker: marker.clone(),
        };
        let page = client.list_sign_ins(request).await?;
        found.extend(page.sign_ins);
        if page.marker.is_empty() {
            return Ok(found);
        }
        if marker.as_ref() == Some(&page.marker) {
            return Err("the broker answered twice with the same marker, so the list would never end; this is a bug in \
                the broker".into());
        }
        marker = Some(page.marker);
    }
}

async fn end(arguments: EndArguments) -> Result<(), Failure> {
    let client = Settings::of(&arguments.call)?.client().await?;
    let ended = client.end_sign_in(&arguments.sign_in_id).await?;
    print::note(format_args!(
        "The sign-in has ended, and with it the tokens of all programs and all sessions that came from it (change \
         {}).",
        ended.sequence_number
    ));
    Ok(())
}
