//! `brevet login`: signs a person in, and keeps the token in the cache that AWS's tools share.

mod callback;

use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest::{SHA256, digest};

use super::aws::Settings;
use super::aws::sso::{SsoSettings, random_text};
use super::{CallArguments, Failure, print, runtime};
use crate::client::{ClientError, Grant, Registering, Registration, Sso, SsoToken};
use callback::Callback;

/// The client name that this program registers at the broker. The person sees it when approving the sign-in.
const CLIENT_NAME: &str = "brevet";
/// The redirect URI that is registered. The real one has a port, which is left out of the comparison: RFC
/// 8252 section 7.3.
const REDIRECT_URI: &str = "http://127.0.0.1/oauth/callback";
/// How long the person may take to sign in and to approve.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many seconds are added to the interval when the broker asks for that: RFC 8628 section 3.5.
const SLOW_DOWN_SECONDS: u64 = 5;

const EXAMPLES: &str = "\
Examples:
  brevet login --profile dev
      Opens the browser, and signs in for this profile and all others with the same sso-session.
  brevet login --profile dev --no-browser
      Shows a code and an address, for a browser on another computer.";

/// Sign in with a browser
///
/// Signs you in at the broker, as `aws sso login` does, and keeps the token in ~/.aws/sso/cache, where AWS's tools find
/// it. The browser returns to this computer only, so the sign-in cannot be passed to somebody else. With --no-browser,
/// the command shows a code for a browser on another computer. `brevet configure sso` writes a profile for this.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LoginArguments {
    #[command(flatten)]
    pub(crate) call: CallArguments,
    /// The sso-session of ~/.aws/config to sign in with [default: the profile's]
    #[arg(long, value_name = "NAME")]
    pub(crate) sso_session: Option<String>,
    #[command(flatten)]
    pub(crate) way: WayArguments,
}

/// The flags that choose between a sign-in in the browser of this computer and one with a code and an address.
#[derive(Debug, Default, Args)]
pub(crate) struct WayArguments {
    /// Open no browser: show a code and an address instead
    #[arg(long)]
    no_browser: bool,
    /// Show a code and an address, for a browser on this or another computer
    #[arg(long)]
    use_device_code: bool,
}

pub(crate) fn run(arguments: &LoginArguments) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let settings = Settings::of(&arguments.call)?;
        let sso = settings.sso(arguments.sso_session.as_deref())?;
        let token = sign_in(&settings, &sso, &arguments.way).await?;
        print::line(format_args!(
            "You are signed in until {}.",
            token.expires_at
        ))
    })
}

/// Signs the person in, and keeps the token.
///
/// # Errors
/// The broker refuses or does not answer, the person denies or does not approve in time, or the token cannot be kept.
pub(crate) async fn sign_in(
    settings: &Settings,
    sso: &SsoSettings,
    way: &WayArguments,
) -> Result<SsoToken, Failure> {
    let client = settings.sso_client()?;
    let (registration, token) = if way.no_browser || way.use_device_code {
        by_device(&client, sso, !way.no_browser).await?
    } else {
        by_code(&client, sso, &settings.endpoint.value).await?
    };
    settings.keep_token(sso, &registration, &token)?;
    Ok(token)
}

/// Signs in by the authorization code flow with PKCE: RFC 6749 section 4.1, RFC 7636, RFC 8252.
async fn by_code(
    client: &Sso,
    sso: &SsoSettings,
    endpoint: &str,
) -> Result<(Registration, SsoToken), Failure> {
    let registration = register(client, sso, Some(REDIRECT_URI)).await?;
    // 48 bytes are a verifier of 64 characters.
    let (state, verifier) = (random_text::<32>()?, random_text::<48>()?);
    let callback = Callback::listen(state.clone()).await?;
    let redirect_uri = callback.redirect_uri();
    let url = authorize_url(
        endpoint,
        &[
            ("response_type", "code"),
            ("client_id", &registration.client_id),
            ("redirect_uri", &redirect_uri),
            ("state", &state),
            ("code_challenge_method", "S256"),
            ("scopes", &sso.scopes.join(" ")),
            ("code_challenge", &challenge(&verifier)),
        ],
    );
    print::note(
        "Signing in with the browser. If no browser opens, open this address on this computer:",
    );
    print::note(format_args!("\n  {url}\n"));
    open_browser(&url);
    let code = tokio::time::timeout(PATIENCE, callback.code())
        .await
        .map_err(|_| "nobody signed in within ten minutes; run the command again")??;
    let grant = Grant::Code {
        code: code.expose(),
        verifier: &verifier,
        redirect_uri: &redirect_uri,
    };
    let token = client.create_token(&registration, grant).await?;
    Ok((registration, token))
}

/// Signs in by the device flow: RFC 8628.
async fn by_device(
    client: &Sso,
    sso: &SsoSettings,
    opens_browser: bool,
) -> Result<(Registration, SsoToken), Failure> {
    let registration = register(client, sso, None).await?;
    let started = client
        .start_device_authorization(&registration, &sso.start_url)
        .await?;
    let code = print::visible(&started.user_code);
    let page = print::visible(&started.verification_uri);
    print::note(format_args!(
        "Open {page} in a browser, and enter this code there:\n\n  {code}\n"
    ));
    let complete = &started.verification_uri_complete;
    if opens_browser && is_web(complete) {
        open_browser(complete);
    }
    let mut interval = started.interval.min(60);
    let lasts = Duration::from_secs(started.expires_in).min(PATIENCE);
    let polled = async {
        loop {
            tokio::time::sleep(Duration::from_secs(interval)).await;
            let grant = Grant::Device(started.device_code.expose());
            match client.create_token(&registration, grant).await {
                Ok(token) => return Ok(token),
                Err(ClientError::Refused { code, .. })
                    if code == "AuthorizationPendingException" => {}
                Err(ClientError::Refused { code, .. }) if code == "SlowDownException" => {
                    interval += SLOW_DOWN_SECONDS;
                }
                Err(error) => return Err(error),
            }
        }
    };
    let token = tokio::time::timeout(lasts, polled)
        .await
        .map_err(|_| "nobody signed in with the code in time; run the command again")??;
    Ok((registration, token))
}

async fn register(
    client: &Sso,
    sso: &SsoSettings,
    redirect_uri: Option<&str>,
) -> Result<Registration, ClientError> {
    let registering = Registering {
        client_name: CLIENT_NAME,
        scopes: &sso.scopes,
        redirect_uri,
        start_url: &sso.start_url,
    };
    client.register_client(&registering).await
}

fn authorize_url(endpoint: &str, parameters: &[(&str, &str)]) -> String {
    let mut url = format!("{}/authorize", endpoint.trim_end_matches('/'));
    for (at, (name, value)) in parameters.iter().enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    url
}

/// Computes the code challenge of a verifier: RFC 7636 section 4.2, S256.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Whether a text from the broker is a URL that may be given to a browser.
fn is_web(url: &str) -> bool {
    let is_plain = url.bytes().all(|b| b.is_ascii_graphic());
    is_plain
        && ["https://", "http://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
}

/// Opens a page in the person's browser, if there is one. The URL is passed as one argument, without a shell.
fn open_browser(url: &str) {
    let chosen = std::env::var("BROWSER")
        .ok()
        .filter(|name| !name.is_empty());
    let default = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let program = chosen.as_deref().unwrap_or(default);
    let started = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // It is not waited for: a browser may run for as long as it likes.
        Ok(child) => drop(child),
        Err(error) => tracing::debug!(%error, program, "the browser could not be started"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_has_what_aws_s_tools_send() {
        let url = authorize_url(
            "https://sts.example.com/",
            &[("scopes", "a:b c"), ("state", "x_-")],
        );
        assert_eq!(
            url,
            "https://sts.example.com/authorize?scopes=a%3Ab%20c&state=x%5F%2D"
        );
        let challenge = challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_eq!(random_text::<48>().unwrap().len(), 64);
    }

    #[test]
    fn only_web_pages_are_opened() {
        assert!(is_web("https://sts.example.com/device?user_code=X"));
        for bad in [
            "",
            "file:///etc/passwd",
            "-x",
            "javascript:alert(1)",
            "https://a b",
            "https://a\n",
        ] {
            assert!(!is_web(bad), "{bad:?}");
        }
    }
}
