//! `brevet configure sso`: writes a profile with which a person signs in through a browser.

mod sections;

use std::io::{self, BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};

use super::aws::Settings;
use super::aws::sso::{ACCOUNT_ACCESS, DEFAULT_START_URL, SsoSettings};
use super::login::{WayArguments, sign_in};
use super::{CallArguments, Failure, input, print, runtime};
use crate::base::secret::Secret;
use crate::client::Sso;
use crate::files;
use sections::{Section, put};

const MAX_FILE_BYTES: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  brevet configure sso --new-profile dev --endpoint https://sts.example.com";

const SSO_EXAMPLES: &str = "\
Examples:
  brevet configure sso --new-profile dev --endpoint https://sts.example.com
      Signs you in, and asks for the account and the role.
  brevet configure sso --new-profile dev --account-id 111122223333 --role-name Developer
      With the broker's address in BREVET_ENDPOINT. Signs you in as well, but does not ask for
      the account and the role.";

/// Write profiles of ~/.aws/config
///
/// Writes the settings that AWS's tools, SDKs and `brevet` itself need to use this broker, and leaves everything else
/// in the file as it is.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(crate) enum ConfigureCommand {
    Sso(Box<SsoArguments>),
}

/// Write a profile for signing in with a browser
///
/// Signs you in at the broker, lists your accounts and roles to choose from, and writes the profile, its
/// sso-session and the addresses of the broker into ~/.aws/config. AWS's tools and SDKs use the profile as
/// they would with AWS; `aws sso login` and `brevet login` sign in again.
#[derive(Debug, Args)]
#[command(after_long_help = SSO_EXAMPLES)]
pub(crate) struct SsoArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The name of the profile to write
    #[arg(long, value_name = "NAME")]
    new_profile: String,
    /// The name of the sso-session to write; profiles that name the same one share a sign-in
    #[arg(long, value_name = "NAME", default_value = "brevet")]
    sso_session: String,
    /// The start URL of the sso-session: a name in the form of a URL, which AWS's tools need but never request
    #[arg(long, value_name = "URL", default_value = DEFAULT_START_URL)]
    start_url: String,
    /// The account of the role [default: asked for on the terminal]
    #[arg(long, value_name = "NUMBER")]
    account_id: Option<String>,
    /// The name of the role [default: asked for on the terminal]
    #[arg(long, value_name = "NAME")]
    role_name: Option<String>,
    /// Replace a profile or session of the same name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    way: WayArguments,
}

pub(crate) fn run(command: ConfigureCommand) -> Result<(), Failure> {
    let ConfigureCommand::Sso(arguments) = command;
    runtime()?.block_on(configure(&arguments))
}

async fn configure(arguments: &SsoArguments) -> Result<(), Failure> {
    let name = &arguments.new_profile;
    for (flag, text) in [
        ("--new-profile", name),
        ("--sso-session", &arguments.sso_session),
    ] {
        check_name(flag, text)?;
    }
    if !arguments.start_url.starts_with("https://")
        || arguments.start_url.contains(char::is_whitespace)
    {
        return Err(
            "--start-url: must be an https URL, such as https://NAME.awsapps.com/start".into(),
        );
    }
    let settings = Settings::of(&arguments.call)?;
    let path = settings.config_path()?;
    // What is written later must fit into the file as it is now.
    let present = match path.exists() {
        true => String::from_utf8(input::read_file(&path, MAX_FILE_BYTES)?.to_vec())
            .map_err(|_| format!("{}: must be UTF-8", path.display()))?,
        false => String::new(),
    };
    let sso = SsoSettings {
        session: Some(arguments.sso_session.clone()),
        start_url: arguments.start_url.clone(),
        region: settings.region.value.clone(),
        scopes: vec![ACCOUNT_ACCESS.to_owned()],
    };
    let token = sign_in(&settings, &sso, &arguments.way).await?;
    let client = settings.sso_client()?;
    let account = account(
        &client,
        &token.access_token,
        arguments.account_id.as_deref(),
    )
    .await?;
    let role = role(
        &client,
        &token.access_token,
        &account,
        arguments.role_name.as_deref(),
    )
    .await?;
    let mut text = present;
    for section in written(&settings, arguments, &account, &role) {
        text = put(&text, &section, arguments.force)
            .map_err(|rule| format!("{}: {rule}", path.display()))?;
    }
    files::create_private_dir(files::folder(&path))?;
    // A link to a file elsewhere stays one.
    let file = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    files::write_private(&file, text.as_bytes())?;
    print::line(format_args!(
        "The profile `{name}` now gets credentials of the role {role} in the account {account}."
    ))?;
    print::note(format_args!(
        "Use it: aws sts get-caller-identity --profile {name}\nSign in again: brevet login --profile {name}"
    ));
    Ok(())
}

/// Makes the sections that are written for the new profile.
fn written(
    settings: &Settings,
    arguments: &SsoArguments,
    account: &str,
    role: &str,
) -> Vec<Section> {
    let (session, region) = (&arguments.sso_session, &settings.region.value);
    let endpoint = &settings.endpoint.value;
    let services = format!("brevet-{session}");
    let line = |option: &str, value: &str| format!("{option} = {value}");
    let mut profile = vec![
        line("sso_session", session),
        line("sso_account_id", account),
        line("sso_role_name", role),
        line("region", region),
        line("services", &services),
    ];
    profile.extend(settings.ca().map(|ca| line("ca_bundle", ca)));
    let addresses = ["sso", "sso_oidc", "sts", "iam"]
        .iter()
        .flat_map(|service| {
            [
                format!("{service} ="),
                format!("  endpoint_url = {endpoint}"),
            ]
        });
    let profile_header = match arguments.new_profile.as_str() {
        "default" => "default".to_owned(),
        name => format!("profile {}", quoted(name)),
    };
    vec![
        Section {
            header: format!("sso-session {}", quoted(session)),
            lines: vec![
                line("sso_start_url", &arguments.start_url),
                line("sso_region", region),
                line("sso_registration_scopes", ACCOUNT_ACCESS),
            ],
        },
        Section {
            header: format!("services {}", quoted(&services)),
            lines: addresses.collect(),
        },
        Section {
            header: profile_header,
            lines: profile,
        },
    ]
}

/// Formats a name in a header, with quotes if it contains a space.
fn quoted(name: &str) -> String {
    match name.contains(' ') {
        true => format!("\"{name}\""),
        false => name.to_owned(),
    }
}

fn check_name(flag: &str, name: &str) -> Result<(), Failure> {
    let legal = |c: char| c.is_alphanumeric() || " _.@+-".contains(c);
    if name.is_empty() || name.trim() != name || !name.chars().all(legal) {
        let rule =
            "must have letters, digits, spaces and `_.@+-` only, and not begin or end with a space";
        return Err(format!("{flag}: `{}`: {rule}", print::visible(name)).into());
    }
    Ok(())
}

async fn account(
    client: &Sso,
    token: &Secret<String>,
    asked: Option<&str>,
) -> Result<String, Failure> {
    let accounts = client.list_accounts(token).await?;
    if let Some(asked) = asked {
        return match accounts.iter().any(|account| account.account_id == asked) {
            true => Ok(asked.to_owned()),
            false => Err(format!("--account-id {asked}: you have no role in this account").into()),
        };
    }
    let shown = accounts
        .iter()
        .map(|account| match account.account_name.is_empty() {
            true => account.account_id.clone(),
            false => format!("{} ({})", account.account_name, account.account_id),
        });
    let at = choose("account", "--account-id", &shown.collect::<Vec<_>>())?;
    let chosen = accounts
        .get(at)
        .ok_or("the list has no account with this number")?;
    Ok(chosen.account_id.clone())
}

async fn role(
    client: &Sso,
    token: &Secret<String>,
    account: &str,
    asked: Option<&str>,
) -> Result<String, Failure> {
    let roles = client.list_account_roles(token, account).await?;
    if let Some(asked) = asked {
        return match roles.iter().any(|role| role == asked) {
            true => Ok(asked.to_owned()),
            false => Err(format!(
                "--role-name {asked}: you do not have this role in the account {account}"
            )
            .into()),
        };
    }
    let at = choose("role", "--role-name", &roles)?;
    let chosen = roles
        .get(at)
        .ok_or("the list has no role with this number")?;
    Ok(chosen.clone())
}

/// Asks the person to choose one of several values. If there is only one, it is chosen without a question.
fn choose(what: &str, flag: &str, all: &[String]) -> Result<usize, Failure> {
    match all.len() {
        0 => {
            return Err(format!(
                "the broker offers you no {what}; ask an administrator of the broker"
            )
            .into());
        }
        1 => return Ok(0),
        _ => {}
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let all: Vec<String> = all.iter().map(|text| print::visible(text)).collect();
        return Err(format!(
            "{flag}: is required without a terminal; you have: {}",
            all.join(", ")
        )
        .into());
    }
    for (number, text) in all.iter().enumerate() {
        print::note(format_args!("{:>4}  {}", number + 1, print::visible(text)));
    }
    loop {
        write!(io::stderr(), "Which {what}? [1-{}] ", all.len())?;
        io::stderr().flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Err("you made no choice, so no profile was written".into());
        }
        match line.trim().parse::<usize>() {
            Ok(number) if (1..=all.len()).contains(&number) => return Ok(number - 1),
            _ => print::note("Enter one of the numbers."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_a_header_can_have() {
        for good in ["dev", "my dev", "a.b_c@d+e-f", "développement"] {
            assert!(check_name("--new-profile", good).is_ok(), "{good}");
        }
        for bad in ["", " dev", "a]b", "a\nb", "a\"b", "a#b", "a'b"] {
            assert!(check_name("--new-profile", bad).is_err(), "{bad:?}");
        }
        assert_eq!(quoted("my dev"), "\"my dev\"");
    }
}
