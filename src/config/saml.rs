//! `[saml]`: the broker as a SAML service provider.

use std::path::Path;
use std::time::Duration;

use super::document::SamlSection;
use super::{ConfigError, ranged, value};
use crate::federation::saml::{CONSUMER_PATH, MAX_LEEWAY, ServiceProvider};
use crate::files::{self, Audience};
use crate::proof::saml::{LEEWAY, RequestSigner};

/// The maximum length of an entity ID in characters: SAML Metadata 2.0 section 2.2.1.
const MAX_CHARACTERS: usize = 1_024;
const MAX_ITEMS: usize = 16;
/// The maximum size in bytes of a file with a key or a certificate.
const MAX_FILE_BYTES: u64 = 20_000;

/// Reads the section. Values that it leaves out are derived from the broker's URL. Relative paths start at
/// `base`.
pub(super) fn service_provider(
    section: SamlSection,
    public_url: Option<&str>,
    base: &Path,
) -> Result<ServiceProvider, ConfigError> {
    let mut made = public_url.map_or_else(ServiceProvider::default, ServiceProvider::at);
    if let Some(entity_id) = section.entity_id {
        check("[saml] entity_id", std::slice::from_ref(&entity_id))?;
        made.audiences = vec![entity_id.clone()];
        made.entity_id = Some(entity_id);
    }
    if let Some(audiences) = section.audiences {
        check("[saml] audiences", &audiences)?;
        made.audiences = audiences;
    }
    if let Some(recipients) = section.recipients {
        check("[saml] recipients", &recipients)?;
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if !recipients.iter().all(is_url) {
            let rule = "must be https or http URLs, such as `https://sts.example.com/saml/acs`";
            return Err(value("[saml] recipients", rule));
        }
        made.recipients = recipients;
    }
    let (default, most) = (LEEWAY.as_secs(), MAX_LEEWAY.as_secs());
    let seconds = ranged(
        "[saml] leeway_seconds",
        section.leeway_seconds,
        default,
        0..=most,
    )?;
    made.leeway = Duration::from_secs(seconds);
    made.request_signer = match (section.request_key, section.request_certificate) {
        (None, None) => None,
        (Some(key), Some(certificate)) => {
            let key = files::read(&base.join(key), Audience::Owner, MAX_FILE_BYTES)?;
            let certificate =
                files::read(&base.join(certificate), Audience::Everyone, MAX_FILE_BYTES)?;
            let signer = RequestSigner::from_pem(key.expose(), certificate.expose());
            Some(signer.map_err(|error| value(error.key(), error.to_string()))?)
        }
        (Some(_), None) => {
            return Err(value(
                "[saml] request_certificate",
                "is missing, although request_key is set: set both, or leave both out",
            ));
        }
        (None, Some(_)) => {
            return Err(value(
                "[saml] request_key",
                "is missing, although request_certificate is set: set both, or leave both out",
            ));
        }
    };
    Ok(made)
}

/// Puts the URL for responses of sign-ins first in the list of recipients, so that the broker's metadata names it
/// first.
pub(super) fn for_sign_in(made: &mut ServiceProvider, public_url: &str) {
    let consumer = format!("{public_url}{CONSUMER_PATH}");
    made.recipients.retain(|url| *url != consumer);
    made.recipients.insert(0, consumer);
}

fn check(key: &'static str, names: &[String]) -> Result<(), ConfigError> {
    let is_name = |name: &String| {
        (1..=MAX_CHARACTERS).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    if names.is_empty() || names.len() > MAX_ITEMS || !names.iter().all(is_name) {
        let rule = format!(
            "must be 1 to {MAX_ITEMS} URIs of at most {MAX_CHARACTERS} characters, without spaces"
        );
        return Err(value(key, rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, public_url: Option<&str>) -> Result<ServiceProvider, String> {
        let section: SamlSection = toml::from_str(text).map_err(|e| e.to_string())?;
        service_provider(section, public_url, Path::new("")).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_follows_from_the_public_url() {
        let here = Some("https://sts.example.com");
        let made = read("", here).unwrap();
        let entity_id = "https://sts.example.com/saml/metadata";
        assert_eq!(made.entity_id.as_deref(), Some(entity_id));
        assert_eq!(made.audiences, [entity_id]);
        assert_eq!(made.recipients, ["https://sts.example.com/saml/acs"]);
        assert_eq!(made.leeway, Duration::from_secs(60));
        assert_eq!(read("", None).unwrap(), ServiceProvider::default());

        let made = read("entity_id = \"urn:sts\"\nleeway_seconds = 0", here).unwrap();
        assert_eq!(made.audiences, ["urn:sts"]);
        assert_eq!(made.leeway, Duration::ZERO);
        let made = read("audiences = [\"urn:amazon:webservices\"]", here).unwrap();
        assert_eq!(made.entity_id.as_deref(), Some(entity_id));
        assert_eq!(made.audiences, ["urn:amazon:webservices"]);
    }

    #[test]
    fn people_are_sent_back_to_the_public_url() {
        let mut made = read("", Some("https://sts.example.com")).unwrap();
        for_sign_in(&mut made, "https://sts.example.com");
        assert_eq!(made.recipients, ["https://sts.example.com/saml/acs"]);
        for_sign_in(&mut made, "https://login.example.com");
        assert_eq!(made.recipients[0], "https://login.example.com/saml/acs");
        assert_eq!(made.recipients.len(), 2);
    }

    #[test]
    fn cf_01_what_is_wrong_is_named() {
        for (text, named) in [
            ("audience = []", "unknown field"),
            (
                "request_key = \"k\"",
                "[saml] request_certificate: is missing",
            ),
            (
                "request_certificate = \"c\"",
                "[saml] request_key: is missing",
            ),
            (
                "request_key = \"/no/k\"\nrequest_certificate = \"/no/c\"",
                "/no/k",
            ),
            ("audiences = []", "[saml] audiences: must be 1 to 16"),
            ("audiences = [\"a b\"]", "[saml] audiences"),
            ("entity_id = \"\"", "[saml] entity_id"),
            (
                "recipients = [\"sts.example.com\"]",
                "[saml] recipients: must be https or http URLs",
            ),
            (
                "leeway_seconds = 301",
                "[saml] leeway_seconds: must be from 0 to 300, but is 301",
            ),
        ] {
            let error = read(text, None).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
