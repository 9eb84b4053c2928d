//! The container endpoint of `brevet exec`, and the source of its sessions.

use std::sync::{Arc, Mutex, PoisonError};

use crate::agent::{Fetch, FetchError, OwnEndpoint, RoleSession, Source, Wanted, own_endpoint};
use crate::base::clock::SystemClock;
use crate::base::entropy::SystemEntropy;
use crate::client::{AssumeRole, ClientError};
use crate::command_line::aws::Settings;
use crate::command_line::role::{self, SessionArguments};
use crate::command_line::{Failure, variables};

/// A running endpoint, and the variables by which a program finds it.
pub(super) struct Endpoint {
    pub(super) variables: Vec<(String, String)>,
    _running: OwnEndpoint,
}

/// The source of sessions: calls the broker as the command line says. The settings are read again
/// for each session, because the options of a profile may change.
struct Asked {
    arguments: SessionArguments,
    /// The session that was fetched before the program was started.
    first: Mutex<Option<RoleSession>>,
}

/// Gets a session, and starts an endpoint that hands it out and replaces it before it expires.
///
/// # Errors
/// There is no session, or the endpoint cannot be started.
pub(super) async fn start(
    settings: &Settings,
    arguments: SessionArguments,
) -> Result<Endpoint, Failure> {
    let first = ask(settings, &arguments).await?;
    let wanted = AssumeRole::new(&first.role_arn, "exec");
    let source = Asked {
        arguments,
        first: Mutex::new(Some(first)),
    };
    let running = own_endpoint::start(
        Arc::new(source),
        Wanted::Role(Box::new(wanted)),
        Arc::new(SystemClock),
        Arc::new(SystemEntropy::new()),
    )
    .await?;
    let mut variables = variables::of_endpoint(&running.full_uri, running.token.expose())?;
    variables.extend(variables::of_settings(settings)?);
    Ok(Endpoint {
        variables,
        _running: running,
    })
}

async fn ask(settings: &Settings, arguments: &SessionArguments) -> Result<RoleSession, Failure> {
    let session = role::session(settings, arguments).await?;
    let role_arn = arguments.role.whole_arn(&session.account_id);
    Ok(RoleSession::new(&role_arn, session.assumed(&role_arn))?)
}

impl Asked {
    fn first(&self) -> Option<RoleSession> {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Source for Asked {
    fn fetch<'a>(&'a self, _wanted: &'a Wanted) -> Fetch<'a> {
        Box::pin(async move {
            if let Some(first) = self.first() {
                return Ok(first);
            }
            if self.arguments.role.proves_only_once() {
                let rule = "the MFA code, the SAML response or the token from standard input was used for the first \
                    session and cannot be used again; run the command again with a new one";
                return Err(FetchError::Identity(rule.to_owned()));
            }
            let settings = Settings::of(&self.arguments.role.call).map(Settings::without_questions);
            let asked = match &settings {
                Ok(settings) => ask(settings, &self.arguments).await,
                Err(failure) => Err(failure.to_string().into()),
            };
            asked.map_err(|failure| match failure.downcast::<ClientError>() {
                Ok(error) => FetchError::Client(*error),
                Err(failure) => FetchError::Identity(failure.to_string()),
            })
        })
    }
}
