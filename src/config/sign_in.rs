//! `[sign_in]`: how people sign in with a browser.

use std::time::Duration;

use super::document::SignInSection;
use super::{ConfigError, ranged, value};
use crate::federation;
use crate::sign_ins::{AppClient, ProviderShown, Settings};

const MAX_PROVIDERS: usize = 100;
const MAX_CLIENTS: usize = 100;
/// The longest name of a provider or program, in characters.
const MAX_NAME: usize = 128;

/// Checks the section.
///
/// # Errors
/// [`ConfigError::Value`] with the key and the rule that its value breaks.
pub(super) fn settings(
    section: SignInSection,
    has_master_key: bool,
) -> Result<Settings, ConfigError> {
    if !has_master_key {
        let rule = "requires [directory] master_key, whose keys seal what is kept of sign-ins";
        return Err(value("[sign_in]", rule));
    }
    let defaults = Settings::at(public_url(section.public_url)?);
    let seconds = |key, asked, default: Duration, range| {
        ranged(key, asked, default.as_secs(), range).map(Duration::from_secs)
    };
    let mfa_max_age = section
        .mfa_max_age_seconds
        .map(|asked| {
            seconds(
                "[sign_in] mfa_max_age_seconds",
                Some(asked),
                Duration::ZERO,
                60..=86_400,
            )
        })
        .transpose()?;
    Ok(Settings {
        session: seconds(
            "[sign_in] session_seconds",
            section.session_seconds,
            defaults.session,
            900..=7_776_000,
        )?,
        idle: seconds(
            "[sign_in] idle_seconds",
            section.idle_seconds,
            defaults.idle,
            60..=86_400,
        )?,
        passwords: section.passwords.unwrap_or(defaults.passwords),
        device_flow: section.device_flow.unwrap_or(defaults.device_flow),
        mfa_max_age,
        providers: section.providers.map(providers).transpose()?,
        clients: clients(section.clients)?,
        ..defaults
    })
}

/// Checks the URL at which browsers reach the broker: an origin, without a path, because cookies and
/// redirections belong to the whole origin.
fn public_url(url: String) -> Result<String, ConfigError> {
    let host = url.strip_prefix("https://").or_else(|| {
        let rest = url.strip_prefix("http://")?;
        let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
        crate::base::host_names::is_loopback(host).then_some(rest)
    });
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
    match host {
        Some(host) if !host.is_empty() && url.len() <= 255 && host.bytes().all(legal) => Ok(url),
        _ => {
            let rule = "must be https://HOST in lower case, with a port if needed, without a path or a slash at the end";
            Err(value("[sign_in] public_url", rule))
        }
    }
}

fn providers(
    declared: Vec<super::document::SignInProvider>,
) -> Result<Vec<ProviderShown>, ConfigError> {
    const KEY: &str = "[sign_in] providers";
    if declared.len() > MAX_PROVIDERS {
        return Err(value(KEY, format!("must be at most {MAX_PROVIDERS}")));
    }
    let mut shown: Vec<ProviderShown> = Vec::new();
    for provider in declared {
        if federation::account_of(&provider.arn).is_none() {
            let rule = format!(
                "`{}` must be the ARN of an OpenID Connect or SAML provider",
                provider.arn
            );
            return Err(value(KEY, rule));
        }
        if shown.iter().any(|known| known.arn == provider.arn) {
            return Err(value(KEY, format!("names `{}` twice", provider.arn)));
        }
        check_name(KEY, &provider.name)?;
        shown.push(ProviderShown {
            arn: provider.arn,
            name: provider.name,
        });
    }
    Ok(shown)
}

fn clients(declared: Vec<super::document::SignInClient>) -> Result<Vec<AppClient>, ConfigError> {
    const KEY: &str = "[sign_in] clients";
    if declared.len() > MAX_CLIENTS {
        return Err(value(KEY, format!("must be at most {MAX_CLIENTS}")));
    }
    let mut clients: Vec<AppClient> = Vec::new();
    for client in declared {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if !(1..=128).contains(&client.id.len()) || !client.id.bytes().all(legal) {
            let rule = "`id` must have 1 to 128 letters, digits, hyphens and underscores";
            return Err(value(KEY, rule));
        }
        if clients.iter().any(|known| known.id == client.id) {
            return Err(value(KEY, format!("has the id `{}` twice", client.id)));
        }
        check_name(KEY, &client.name)?;
        for uri in &client.redirect_uris {
            let is_safe = uri.starts_with("https://") || uri.starts_with("http://127.0.0.1");
            let plain = |b: u8| b.is_ascii_graphic() && !b"#\\\"<>".contains(&b);
            if !is_safe || uri.len() > 512 || !uri.bytes().all(plain) {
                let rule = format!(
                    "`{uri}` must be an https URL without a fragment, or http://127.0.0.1/PATH"
                );
                return Err(value(KEY, rule));
            }
        }
        clients.push(AppClient {
            id: client.id,
            name: client.name,
            redirect_uris: client.redirect_uris,
        });
    }
    Ok(clients)
}

fn check_name(key: &'static str, name: &str) -> Result<(), ConfigError> {
    let is_fit = (1..=MAX_NAME).contains(&name.chars().count())
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    if is_fit {
        return Ok(());
    }
    let rule = format!("`name` must have 1 to {MAX_NAME} characters and no space around them");
    Err(value(key, rule))
}
