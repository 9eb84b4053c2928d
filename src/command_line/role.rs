//! The role that a command requests, and the proof of who requests it: an access key or a profile,
//! the token of an OpenID Connect provider, or the response of a SAML identity provider. This
//! module knows no output formats.

use std::path::PathBuf;

use clap::Args;

use super::aws::{self, Settings};
use super::session_credentials::SessionCredentials;
use super::{CallArguments, Failure, agent_socket, input, terminal, values};
use crate::base::secret::Secret;
use crate::client::{
    AssumeRole, AssumeRoleWithSaml, AssumeRoleWithWebIdentity, AssumedRole, SamlRole,
    WebIdentityRole,
};

/// The maximum number of bytes that are read from the file of a SAML response. The broker has a lower limit.
const MAX_RESPONSE_BYTES: u64 = 256 << 10;

/// The flags of every command that asks for a session of a role.
#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    #[command(flatten)]
    pub(crate) call: CallArguments,
    /// The role: arn:aws:iam::ACCOUNT:role/NAME, or the NAME of one in your own account
    #[arg(long, visible_alias = "role", value_name = "ARN")]
    role_arn: String,
    /// The name of the session: 2 to 64 letters, digits and `_+=,.@-` [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    role_session_name: Option<String>,
    /// How long the session lasts, in seconds: 900 to 129600 [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    duration_seconds: Option<i32>,
    /// A session policy, which limits what the session may do: JSON, or a file that holds it
    #[arg(long, value_name = "POLICY", value_parser = values::policy)]
    policy: Option<String>,
    /// A managed policy that limits what the session may do; may be given up to 10 times
    #[arg(long = "policy-arn", value_name = "ARN")]
    policy_arns: Vec<String>,
    /// A session tag; may be given up to 50 times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::tag)]
    tags: Vec<(String, String)>,
    /// The key of a session tag that is passed on to sessions assumed from this one; may be repeated
    #[arg(long = "transitive-tag-key", value_name = "KEY")]
    transitive_tag_keys: Vec<String>,
    /// The external id that you agreed on with the role's owner
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// The person or program behind the session; sessions assumed from it keep the same value
    #[arg(long, value_name = "NAME")]
    source_identity: Option<String>,
    /// The ARN (or serial number) of your MFA device
    #[arg(long, value_name = "ARN")]
    serial_number: Option<String>,
    /// The current code of the MFA device [default: asked for on the terminal]
    #[arg(long, value_name = "DIGITS", requires = "serial_number")]
    token_code: Option<String>,
    /// A file with a token of an OpenID Connect provider, `-` for standard input; the token proves your identity, so
    /// you need no access key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tags", "transitive_tag_keys", "external_id", "source_identity", "serial_number"])]
    web_identity_token_file: Option<PathBuf>,
    /// A file with the form field SAMLResponse of a SAML identity provider, or `-` for standard input; the response
    /// proves your identity, so you need no access key
    #[arg(long, value_name = "FILE", requires = "saml_provider_arn", conflicts_with_all = ["web_identity_token_file", "role_session_name", "tags", "transitive_tag_keys", "external_id", "source_identity", "serial_number"])]
    saml_response_file: Option<PathBuf>,
    /// The ARN of the SAML provider that issued the response in --saml-response-file
    #[arg(long, value_name = "ARN", requires = "saml_response_file")]
    saml_provider_arn: Option<String>,
}

/// The flags of commands that get a session for another program, either from a broker or from the agent of this
/// machine.
#[derive(Debug, Args)]
pub(crate) struct SessionArguments {
    #[command(flatten)]
    pub(crate) role: RoleArguments,
    /// Get the credentials from the agent of this machine, over its Unix socket, instead of from a broker
    #[arg(long, value_name = "PATH", conflicts_with_all = ["endpoint", "profile", "role_session_name", "duration_seconds", "policy", "policy_arns", "tags", "transitive_tag_keys", "external_id", "source_identity", "serial_number", "web_identity_token_file", "saml_response_file"])]
    pub(crate) agent_socket: Option<PathBuf>,
}

/// Gets a session of the role.
///
/// # Errors
/// The same as for [`ask`]; or the agent refuses or does not answer, or needs the ARN of the role and was given its
/// name; or the answer lacks a value.
pub(crate) async fn session(
    settings: &Settings,
    arguments: &SessionArguments,
) -> Result<SessionCredentials, Failure> {
    match &arguments.agent_socket {
        None => SessionCredentials::of(ask(settings, &arguments.role).await?.role()),
        Some(socket) => {
            check_whole_arn(&arguments.role.role_arn, "--agent-socket")?;
            agent_socket::session(socket, &arguments.role.role_arn).await
        }
    }
}

impl RoleArguments {
    /// Whether the token or the response that proves who asks is read from standard input.
    pub(crate) fn reads_standard_input(&self) -> bool {
        let files = [&self.web_identity_token_file, &self.saml_response_file];
        files
            .into_iter()
            .flatten()
            .any(|file| input::is_stdin(file))
    }

    /// Whether the proof of the caller works only once, like an MFA code, a SAML response, or a token from standard
    /// input. If it does, the program cannot get another session when this one expires.
    pub(crate) fn proves_only_once(&self) -> bool {
        self.serial_number.is_some()
            || self.saml_response_file.is_some()
            || self.reads_standard_input()
    }

    /// The ARN of the role. `account` is used if the role was given by its name.
    pub(crate) fn whole_arn(&self, account: &str) -> String {
        match self.role_arn.starts_with("arn:") {
            true => self.role_arn.clone(),
            false => arn_of_name(account, &self.role_arn),
        }
    }

    /// Returns a text that identifies the requested session, without secrets: two calls have the same text only if they
    /// request the same session from the same broker with the same identity.
    ///
    /// # Errors
    /// A text for the operator, if a file is given by a relative path and the working folder cannot be read.
    pub(crate) fn asked(&self, settings: &Settings) -> Result<String, Failure> {
        let path = |file: &Option<PathBuf>| -> Result<Option<PathBuf>, Failure> {
            Ok(file.as_ref().map(std::path::absolute).transpose()?)
        };
        let session_name = self.role_session_name.clone();
        Ok(serde_json::json!({
            "endpoint": settings.endpoint.value,
            "identity": settings.identity(),
            "role": self.role_arn,
            "session name": session_name.unwrap_or_else(|| settings.default_session_name()),
            "duration": self.duration_seconds,
            "policy": self.policy,
            "policies": self.policy_arns,
            "tags": self.tags,
            "transitive": self.transitive_tag_keys,
            "external id": self.external_id,
            "source identity": self.source_identity,
            "device": self.serial_number,
            "token": path(&self.web_identity_token_file)?,
            "response": path(&self.saml_response_file)?,
            "provider": self.saml_provider_arn,
        })
        .to_string())
    }
}

/// The broker's answer to the operation with which the role was assumed.
pub(crate) enum Answer {
    Role(AssumedRole),
    WebIdentity(WebIdentityRole),
    Saml(SamlRole),
}

impl Answer {
    /// Returns the session of the role, which every variant contains.
    pub(crate) fn role(&self) -> &AssumedRole {
        match self {
            Self::Role(role)
            | Self::WebIdentity(WebIdentityRole { role, .. })
            | Self::Saml(SamlRole { role, .. }) => role,
        }
    }
}

/// Asks the broker for a session of the role.
///
/// # Errors
/// There are no credentials to sign with, a file cannot be read, flags contradict each other, no MFA code is entered,
/// or the broker refuses or cannot be reached.
pub(crate) async fn ask(settings: &Settings, arguments: &RoleArguments) -> Result<Answer, Failure> {
    let session_name = arguments
        .role_session_name
        .clone()
        .unwrap_or_else(|| settings.default_session_name());
    // clap does not ask for the file if another option excludes it.
    if arguments.saml_response_file.is_none() && arguments.saml_provider_arn.is_some() {
        return Err("--saml-provider-arn: requires --saml-response-file".into());
    }
    if let (Some(file), Some(provider)) =
        (&arguments.saml_response_file, &arguments.saml_provider_arn)
    {
        check_whole_arn(&arguments.role_arn, "--saml-response-file")?;
        let response = input::read_text(file, MAX_RESPONSE_BYTES)?;
        let request = AssumeRoleWithSaml {
            role_arn: arguments.role_arn.clone(),
            principal_arn: provider.clone(),
            response: Secret::new(response.trim().to_owned()).into(),
            duration_seconds: arguments.duration_seconds,
            policy: arguments.policy.clone(),
            policy_arns: arguments.policy_arns.clone(),
        };
        let client = settings.anonymous()?;
        return Ok(Answer::Saml(client.assume_role_with_saml(&request).await?));
    }
    if let Some(file) = &arguments.web_identity_token_file {
        check_whole_arn(&arguments.role_arn, "--web-identity-token-file")?;
        let request = AssumeRoleWithWebIdentity {
            role_arn: arguments.role_arn.clone(),
            role_session_name: session_name,
            token: aws::web_identity_token(file)?.into(),
            duration_seconds: arguments.duration_seconds,
            policy: arguments.policy.clone(),
            policy_arns: arguments.policy_arns.clone(),
        };
        return Ok(Answer::WebIdentity(
            settings
                .anonymous()?
                .assume_role_with_web_identity(&request)
                .await?,
        ));
    }
    let client = settings.client().await?;
    let role_arn = super::role_arn(&client, &arguments.role_arn).await?;
    let mfa = match (&arguments.serial_number, &arguments.token_code) {
        (Some(serial), Some(code)) => Some((serial.clone(), code.clone())),
        (Some(serial), None) => Some((
            serial.clone(),
            terminal::ask_code(serial, "give --token-code")?.to_string(),
        )),
        (None, _) => None,
    };
    let request = AssumeRole {
        role_arn,
        role_session_name: session_name,
        duration_seconds: arguments.duration_seconds,
        policy: arguments.policy.clone(),
        policy_arns: arguments.policy_arns.clone(),
        tags: arguments.tags.clone(),
        transitive_tag_keys: arguments.transitive_tag_keys.clone(),
        external_id: arguments.external_id.clone(),
        source_identity: arguments.source_identity.clone(),
        mfa,
    };
    Ok(Answer::Role(client.assume_role(&request).await?))
}

/// Makes the ARN of a role from its name, which may have `role/` before it.
pub(crate) fn arn_of_name(account: &str, text: &str) -> String {
    let name = text.strip_prefix("role/").unwrap_or(text);
    format!("arn:aws:iam::{account}:role/{name}")
}

/// Checks that a role is given by its ARN. Without an access key, the account of a role's name is not known.
fn check_whole_arn(role_arn: &str, option: &str) -> Result<(), Failure> {
    if role_arn.starts_with("arn:") {
        return Ok(());
    }
    let rule =
        format!("with {option}, the account of a role name is unknown; write the role's ARN");
    let whole = arn_of_name("ACCOUNT", role_arn);
    Err(format!("--role-arn {role_arn}: {rule}, {whole}").into())
}
