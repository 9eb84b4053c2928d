//! Programs that ask for tokens on behalf of a person.
//!
//! Anybody can register a program, so the broker stores nothing for it: the client id contains the registration,
//! sealed, and the client secret is derived from the client id. A registration proves nothing about the program.
//!
//! A program with redirect URIs that are not on loopback must be registered by an administrator in the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seal::Sealer;
use super::{scopes, settings};
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::secret::is_same_secret;
use crate::broker::Broker;
use crate::error::{Error, GrantErrorKind};

/// How long a registration lasts, as in AWS.
const LASTS: Duration = Duration::from_secs(90 * 86_400);
const MAX_NAME: usize = 256;
const MAX_REDIRECTS: usize = 10;
const MAX_URI: usize = 512;
/// The longest client id that is accepted, in bytes. It has room for a sealed registration.
pub const MAX_CLIENT_ID: usize = 12_000;

pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub const AUTHORIZATION_CODE: &str = "authorization_code";
pub const REFRESH_TOKEN: &str = "refresh_token";

/// The statements of a program about itself when it registers. The broker does not verify them.
#[derive(Debug, Default)]
pub struct Registration {
    pub name: String,
    pub client_type: String,
    pub scopes: Vec<String>,
    pub redirect_uris: Vec<String>,
    pub grant_types: Option<Vec<String>>,
}

/// The answer to a program that has registered: the id and the secret that it must keep.
#[derive(Debug)]
pub struct Registered {
    pub client_id: String,
    pub client_secret: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// The sealed content of a client id.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    name: String,
    scopes: Vec<String>,
    redirect_uris: Vec<String>,
    grant_types: Option<Vec<String>>,
    expires_at: Timestamp,
}

/// The program that makes a request, with the content of its registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// A digest of the client id, to which codes and tokens are bound.
    pub digest: String,
    /// The name by which the program calls itself.
    pub name: String,
    pub scopes: Vec<String>,
    redirect_uris: Vec<String>,
    grant_types: Option<Vec<String>>,
}

/// Registers a program for 90 days. Returns the client id and the client secret for the program.
///
/// # Errors
/// An [`Error`] that names the rule that the registration breaks, or says that the registration cannot be sealed.
pub fn register(broker: &Broker, asked: Registration) -> Result<Registered, Error> {
    let invalid =
        |text: &str| Error::from(GrantErrorKind::InvalidClientMetadata.because(text.to_owned()));
    if asked.client_type != "public" {
        return Err(invalid("clientType must be `public`."));
    }
    let name = asked.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME {
        let text = "clientName must have 1 to 256 characters.";
        return Err(GrantErrorKind::InvalidRequest.because(text).into());
    }
    let is_known =
        |grant: &String| [DEVICE_CODE, AUTHORIZATION_CODE, REFRESH_TOKEN].contains(&&**grant);
    if let Some(unknown) = asked
        .grant_types
        .iter()
        .flatten()
        .find(|grant| !is_known(grant))
    {
        let text = format!(
            "This broker does not support the grant type `{}`.",
            crate::audit::clip(unknown)
        );
        return Err(GrantErrorKind::UnsupportedGrantType.because(text).into());
    }
    let is_legal = |uri: &String| uri.len() <= MAX_URI && without_port(uri).is_some();
    if asked.redirect_uris.len() > MAX_REDIRECTS || !asked.redirect_uris.iter().all(is_legal) {
        let text = "redirectUris must have at most 10 URLs of the form http://127.0.0.1:PORT/PATH or \
            http://127.0.0.1/PATH; an administrator can configure programs with other addresses in [sign_in] clients.";
        return Err(GrantErrorKind::InvalidRedirectUri.because(text).into());
    }
    let now = broker.clock.now().whole_second();
    let sealed = Sealed {
        name: name.to_owned(),
        scopes: scopes::checked(asked.scopes.iter().map(String::as_str))?,
        redirect_uris: asked.redirect_uris,
        grant_types: asked.grant_types.filter(|grants| !grants.is_empty()),
        expires_at: now.plus(LASTS),
    };
    let sealer = Sealer::of_registrations(broker)?;
    let client_id = sealer.seal("client", "", &sealed, &*broker.entropy)?;
    let client_secret = sealer.secret_of(&client_id).ok_or(Error::InternalFailure)?;
    Ok(Registered {
        client_id,
        client_secret,
        issued_at: now,
        expires_at: sealed.expires_at,
    })
}

/// The program with this client id and secret. AWS's API requires both of them.
///
/// # Errors
/// `InvalidClient` if the client id is unknown, the secret does not belong to it, or the registration has expired.
pub fn with_secret(broker: &Broker, client_id: &str, secret: &str) -> Result<Client, Error> {
    let sealer = Sealer::of_registrations(broker)?;
    let expected = sealer.secret_of(client_id).unwrap_or_default();
    if expected.is_empty() || !is_same_secret(expected.as_bytes(), secret.as_bytes()) {
        return Err(unknown());
    }
    opened(broker, &sealer, client_id)
}

/// The program with this client id. The program has registered itself, or is listed in the configuration.
///
/// The program presents no secret. It must therefore prove by a code verifier (RFC 7636), a device code or a refresh
/// token that the tokens are for it.
///
/// # Errors
/// `InvalidClient` if the client id is unknown, or the registration has expired.
pub fn public(broker: &Broker, client_id: &str) -> Result<Client, Error> {
    let configured = settings(broker)?.clients.iter().find(|c| c.id == client_id);
    match configured {
        Some(client) => Ok(Client {
            digest: digest(client_id),
            name: client.name.clone(),
            scopes: scopes::all(),
            redirect_uris: client.redirect_uris.clone(),
            grant_types: None,
        }),
        None => opened(broker, &Sealer::of_registrations(broker)?, client_id),
    }
}

fn opened(broker: &Broker, sealer: &Sealer, client_id: &str) -> Result<Client, Error> {
    if client_id.len() > MAX_CLIENT_ID {
        return Err(unknown());
    }
    let sealed: Sealed = sealer.open("client", "", client_id).ok_or_else(unknown)?;
    if broker.clock.now() >= sealed.expires_at {
        let text = "The registration of the program has expired. Register it again.";
        return Err(GrantErrorKind::InvalidClient.because(text).into());
    }
    Ok(Client {
        digest: digest(client_id),
        name: sealed.name,
        scopes: sealed.scopes,
        redirect_uris: sealed.redirect_uris,
        grant_types: sealed.grant_types,
    })
}

fn digest(client_id: &str) -> String {
    hex(&sha256(client_id.as_bytes()))
}

fn unknown() -> Error {
    let text = "There is no such program, or its secret is wrong. Register it again; for the AWS CLI, delete the files in \
        ~/.aws/sso/cache, which contain the old registration, and run `aws sso login`.";
    GrantErrorKind::InvalidClient.because(text).into()
}

impl Client {
    /// Checks that the program may use a type of grant.
    ///
    /// # Errors
    /// `UnauthorizedClient` if the program is registered for other types of grants only.
    pub fn may_use(&self, grant: &str) -> Result<(), Error> {
        match &self.grant_types {
            Some(grants) if !grants.iter().any(|known| known == grant) => {
                let text = format!("The program is not registered for the grant type `{grant}`.");
                Err(GrantErrorKind::UnauthorizedClient.because(text).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the browser may be redirected to this URL. The URL must be registered with exactly the same text. Only
    /// the port of a URL on loopback may differ (RFC 8252 section 7.3).
    pub fn may_redirect_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|known| {
            known == uri
                || matches!((without_port(known), without_port(uri)), (Some(a), Some(b)) if a == b)
        })
    }
}

/// Whether a URL is `http://127.0.0.1[:PORT]/PATH`.
pub fn is_on_loopback(uri: &str) -> bool {
    without_port(uri).is_some()
}

/// Removes the host and the port of a URL `http://127.0.0.1[:PORT]/PATH`, so that two such URLs can be compared by
/// their paths. `None` for any other text, including other spellings of the same address.
fn without_port(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("http://127.0.0.1")?;
    let path = match rest.strip_prefix(':') {
        None => rest,
        Some(rest) => {
            let at = rest.find('/')?;
            let (port, path) = rest.split_at_checked(at)?;
            let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            let port: u16 = port.parse().ok().filter(|_| is_port)?;
            (port > 0).then_some(path)?
        }
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let is_plain = path.starts_with('/')
        && path.bytes().all(legal)
        && !path.contains("//")
        && path.split('/').all(|part| part != "." && part != "..");
    is_plain.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(redirect_uris: &[&str]) -> Client {
        Client {
            digest: String::new(),
            name: String::new(),
            scopes: Vec::new(),
            redirect_uris: redirect_uris.iter().map(|uri| (*uri).to_owned()).collect(),
            grant_types: None,
        }
    }

    #[test]
    fn oi_08_a_browser_is_sent_back_only_where_the_program_is_registered() {
        let cli = client(&["http://127.0.0.1/oauth/callback"]);
        for port in ["", ":1", ":8123", ":65535"] {
            assert!(cli.may_redirect_to(&format!("http://127.0.0.1{port}/oauth/callback")));
        }
        for bad in [
            "http://127.0.0.1:0/oauth/callback",
            "http://127.0.0.1:65536/oauth/callback",
            "http://127.0.0.1:+80/oauth/callback",
            "http://127.0.0.1:/oauth/callback",
            "http://127.0.0.1:8123/oauth/callback/",
            "http://127.0.0.1:8123/oauth/callback?x=y",
            "http://127.0.0.1:8123/oauth/callback#x",
            "http://127.0.0.1:8123/oauth/../oauth/callback",
            "http://127.0.0.1:8123/oauth//callback",
            "http://127.0.0.1:8123//oauth/callback",
            "http://127.0.0.1:8123/oauth%2fcallback",
            "http://127.0.0.1:8123/OAuth/callback",
            "http://127.0.0.1:8123@evil.example/oauth/callback",
            "http://127.0.0.1@evil.example/oauth/callback",
            "http://evil.example@127.0.0.1/oauth/callback",
            "http://127.0.0.1.evil.example/oauth/callback",
            "http://127.0.0.1\\@evil.example/oauth/callback",
            "http://127.1/oauth/callback",
            "http://127.0.0.2/oauth/callback",
            "http://0.0.0.0/oauth/callback",
            "http://2130706433/oauth/callback",
            "http://0x7f.0.0.1/oauth/callback",
            "http://[::1]/oauth/callback",
            "http://[::ffff:127.0.0.1]/oauth/callback",
            "http://localhost/oauth/callback",
            "HTTP://127.0.0.1/oauth/callback",
            "https://127.0.0.1/oauth/callback",
            "http:/127.0.0.1/oauth/callback",
            "http:127.0.0.1/oauth/callback",
            "//127.0.0.1/oauth/callback",
            "/oauth/callback",
            " http://127.0.0.1/oauth/callback",
            "http://127.0.0.1/oauth/callback\t",
            "http://127.0.0.1/oauth/callback\n",
            "javascript:alert(1)//127.0.0.1/oauth/callback",
            "",
        ] {
            assert!(!cli.may_redirect_to(bad), "{bad}");
        }
        let site = client(&["https://app.example.com/callback?of=brevet"]);
        assert!(site.may_redirect_to("https://app.example.com/callback?of=brevet"));
        for bad in [
            "https://app.example.com/callback",
            "https://app.example.com:443/callback?of=brevet",
            "https://APP.example.com/callback?of=brevet",
            "https://app.example.com/callback?of=brevet&x",
        ] {
            assert!(!site.may_redirect_to(bad), "{bad}");
        }
    }
}
