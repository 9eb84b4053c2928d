//! `brevet whoami`: shows the identity that calls have, and where its credentials come from.

use clap::Args;
use serde_json::json;

use super::aws::Settings;
use super::print::{self, Output, OutputArgument};
use super::{CallArguments, Failure};

const EXAMPLES: &str = "\
Examples:
  brevet whoami
      Shows who you are, where the credentials were found, and which broker was asked.
  brevet whoami --profile deploy --output json
      Prints what `aws sts get-caller-identity` prints.";

/// Show your identity according to the broker, and which credentials and settings were used
///
/// Calls GetCallerIdentity, which needs no permission, and shows which flag, variable or profile the
/// credentials, the endpoint and the region were taken from. JSON output is that of
/// `aws sts get-caller-identity`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct WhoamiArguments {
    #[command(flatten)]
    call: CallArguments,
    #[command(flatten)]
    output: OutputArgument,
}

pub(super) fn run(arguments: &WhoamiArguments) -> Result<(), Failure> {
    let settings = Settings::of(&arguments.call)?;
    let (found, identity) = super::runtime()?.block_on(async {
        let found = settings.credentials().await?;
        let identity = settings
            .client_with(found.credentials.clone())?
            .get_caller_identity()
            .await?;
        Ok::<_, Failure>((found, identity))
    })?;
    if arguments.output.chosen() == Output::Json {
        let shown =
            json!({"UserId": identity.user_id, "Account": identity.account, "Arn": identity.arn});
        return print::json(&shown);
    }
    let until = found
        .credentials
        .expires_at()
        .map(|at| format!(", until {at}"))
        .unwrap_or_default();
    let from = |setting: &super::aws::Setting| format!("{} ({})", setting.value, setting.from);
    print::block(print::fields(&[
        ("Arn", &identity.arn),
        ("Account", &identity.account),
        ("UserId", &identity.user_id),
        (
            "Access key",
            &format!("{}{until}", found.credentials.access_key_id),
        ),
        ("From", &found.from),
        ("Endpoint", &from(&settings.endpoint)),
        ("Region", &from(&settings.region)),
    ]))
}
