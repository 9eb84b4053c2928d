//! `[sign_in]`: how people sign in with a browser.

use std::time::Duration;

use super::document::SignInSection;
use super::{ConfigError, ranged, value};
use crate::federation;
use crate::sign_in::registration;
use crate::sign_ins::{AppClient, ProviderDetails, ProviderShown, Settings};

const MAX_PROVIDERS: usize = 100;
const MAX_CLIENTS: usize = 100;
const MAX_SCOPES: usize = 20;
/// The maximum number of values of `acr` or `amr` that count as a second factor.
const MAX_VALUES: usize = 50;
/// The maximum length in characters of the name of a provider or program.
const MAX_NAME: usize = 128;

/// Checks the section `[sign_in]`. It is refused unless the configuration has a master key, which `has_master_key`
/// says.
///
/// # Errors
/// [`ConfigError::Value`] with the key and the rule that its value breaks.
pub(super) fn settings(
    section: SignInSection,
    has_master_key: bool,
) -> Result<Settings, ConfigError> {
    if !has_master_key {
        let rule = "requires [directory] master_key, since sign-ins are stored encrypted under the master key";
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
        providers: Some(providers(section.providers.unwrap_or_default())?),
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
    let default_port = if url.starts_with("https:") {
        ":443"
    } else {
        ":80"
    };
    if url.ends_with(default_port) {
        let rule = format!(
            "must not end with `{default_port}`, since browsers leave the default port out of the origin that they send"
        );
        return Err(value("[sign_in] public_url", rule));
    }
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
    match host {
        Some(host) if !host.is_empty() && url.len() <= 255 && host.bytes().all(legal) => Ok(url),
        _ => {
            let rule = "must be https://HOST in lower case (http:// only for this machine), with a port if needed, without a path or \
                 a slash at the end, at most 255 characters";
            Err(value("[sign_in] public_url", rule))
        }
    }
}

fn providers(
    declared: Vec<super::document::SignInProvider>,
) -> Result<Vec<ProviderShown>, ConfigError> {
    const KEY: &str = "[sign_in] providers";
    if declared.len() > MAX_PROVIDERS {
        return Err(value(
            KEY,
            format!(
                "must have at most {MAX_PROVIDERS} entries, but has {}",
                declared.len()
            ),
        ));
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
            details: details(&provider)?,
            arn: provider.arn,
            name: provider.name,
        });
    }
    Ok(shown)
}

/// Checks the settings of one provider at which people sign in.
fn details(provider: &super::document::SignInProvider) -> Result<ProviderDetails, ConfigError> {
    const KEY: &str = "[sign_in] providers";
    let is_saml = provider.arn.contains(":saml-provider/");
    let of_oidc = [
        ("client_id", provider.client_id.is_some()),
        ("scopes", provider.scopes.is_some()),
        ("max_age_seconds", provider.max_age_seconds.is_some()),
        ("amr", !provider.amr.is_empty()),
    ];
    let of_saml = [
        ("idp_initiated", provider.idp_initiated.is_some()),
        (
            "roles_by_trust_policies",
            provider.roles_by_trust_policies.is_some(),
        ),
    ];
    let foreign = match is_saml {
        true => of_oidc.into_iter().find(|(_, is_given)| *is_given),
        false => of_saml.into_iter().find(|(_, is_given)| *is_given),
    };
    if let Some((name, _)) = foreign {
        let kind = if is_saml {
            "a SAML"
        } else {
            "an OpenID Connect"
        };
        let rule = format!(
            "`{name}` cannot be set for {kind} provider such as `{}`",
            provider.arn
        );
        return Err(value(KEY, rule));
    }
    let defaults = ProviderDetails::default();
    let scopes = provider.scopes.clone().unwrap_or(defaults.scopes);
    let is_scope = |scope: &String| {
        // RFC 6749 section 3.3.
        let legal = |b: u8| b.is_ascii_graphic() && !b"\"\\".contains(&b);
        (1..=MAX_NAME).contains(&scope.len()) && scope.bytes().all(legal)
    };
    if scopes.len() > MAX_SCOPES
        || !scopes.iter().all(is_scope)
        || !scopes.iter().any(|s| s == "openid")
    {
        let rule = format!(
            "`scopes` of `{}` must be at most {MAX_SCOPES} names of 1 to {MAX_NAME} printable ASCII characters without \
             spaces, double quotes and backslashes, one of them `openid`",
            provider.arn
        );
        return Err(value(KEY, rule));
    }
    let is_client =
        |id: &String| (1..=255).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    if provider.client_id.as_ref().is_some_and(|id| !is_client(id)) {
        return Err(value(
            KEY,
            format!(
                "`client_id` of `{}` must have 1 to 255 printable ASCII characters without spaces",
                provider.arn
            ),
        ));
    }
    let range = 60_u64..=7_776_000;
    if let Some(seconds) = provider.max_age_seconds.filter(|s| !range.contains(s)) {
        let rule = format!(
            "`max_age_seconds` of `{}` must be from 60 to 7776000, but is {seconds}",
            provider.arn
        );
        return Err(value(KEY, rule));
    }
    for (name, meanings) in [("acr", &provider.acr), ("amr", &provider.amr)] {
        let is_factor = |factor: &String| ["pwd", "otp", "hwk", "mfa"].contains(&factor.as_str());
        let is_value = |value: &String| {
            (1..=255).contains(&value.len()) && !value.contains(char::is_whitespace)
        };
        let fit = meanings
            .iter()
            .all(|(value, factor)| is_value(value) && is_factor(factor));
        if meanings.len() > MAX_VALUES || !fit {
            let rule = format!(
                "`{name}` of `{}` must map at most {MAX_VALUES} values of 1 to 255 bytes without white space to the \
                 factor that each one proves: `pwd`, `otp`, `hwk` or `mfa`",
                provider.arn
            );
            return Err(value(KEY, rule));
        }
    }
    Ok(ProviderDetails {
        client_id: provider.client_id.clone(),
        scopes,
        max_age: provider.max_age_seconds.map(Duration::from_secs),
        acr: provider.acr.clone(),
        amr: provider.amr.clone(),
        idp_initiated: provider.idp_initiated.unwrap_or(false),
        roles_by_trust_policies: provider.roles_by_trust_policies.unwrap_or(false),
    })
}

fn clients(declared: Vec<super::document::SignInClient>) -> Result<Vec<AppClient>, ConfigError> {
    const KEY: &str = "[sign_in] clients";
    if declared.len() > MAX_CLIENTS {
        return Err(value(
            KEY,
            format!(
                "must have at most {MAX_CLIENTS} entries, but has {}",
                declared.len()
            ),
        ));
    }
    let mut clients: Vec<AppClient> = Vec::new();
    for client in declared {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if !(1..=128).contains(&client.id.len()) || !client.id.bytes().all(legal) {
            let rule = format!(
                "the `id` `{}` must have 1 to 128 letters, digits, hyphens and underscores",
                client.id
            );
            return Err(value(KEY, rule));
        }
        if clients.iter().any(|known| known.id == client.id) {
            return Err(value(
                KEY,
                format!("has two entries with the id `{}`", client.id),
            ));
        }
        check_name(KEY, &client.name)?;
        for uri in &client.redirect_uris {
            let is_safe = uri.starts_with("https://") || registration::is_on_loopback(uri);
            let plain = |b: u8| b.is_ascii_graphic() && !b"#\\\"<>".contains(&b);
            if !is_safe || uri.len() > 512 || !uri.bytes().all(plain) {
                let rule = format!(
                    "`{uri}` must be an https URL without a fragment, or http://127.0.0.1/PATH, of at most 512 printable ASCII \
                     characters without `\\`, `\"`, `<` and `>`"
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
    let rule = format!(
        "the `name` `{name}` must have 1 to {MAX_NAME} characters, none of them a control character, and no white \
         space at its ends"
    );
    Err(value(key, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_is_what_browsers_send_as_their_origin() {
        let refusal = |url: &str| {
            public_url(url.to_owned())
                .err()
                .map(|error| error.to_string())
        };
        for good in [
            "https://sts.example.com",
            "https://sts.example.com:8443",
            "http://127.0.0.1:7480",
            "http://[::1]:7480",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for (bad, rule) in [
            ("https://sts.example.com:443", "must not end with `:443`"),
            ("http://localhost:80", "must not end with `:80`"),
            ("https://sts.example.com/", "must be https://HOST"),
            ("https://STS.example.com", "must be https://HOST"),
            ("http://sts.example.com", "must be https://HOST"),
        ] {
            let refusal = refusal(bad).unwrap_or_default();
            assert!(refusal.contains(rule), "{bad}: {refusal}");
        }
    }
}
