//! Checks of SAML: the names that an identity provider's administrator enters, and how long each provider
//! can still be used.

use super::Look;
use super::line::{Line, failed, ok, warning};
use crate::cli::saml::{NEAR, metadata_warnings};
use crate::directory::{Directory, SamlProvider};
use crate::federation::saml::ATTRIBUTES;

const RENEW: &str = "run `brevet saml put-provider --arn ARN --metadata FILE` with the identity provider's current \
metadata (if the directory is a file, put the document into that file)";

impl Look<'_> {
    /// Adds a line about the broker as a service provider, and one for each SAML provider. Unless the broker accepts no
    /// assertions, the first is also printed if there are no providers yet, because an identity provider's
    /// administrator may need it to make the metadata.
    pub(super) fn saml(&mut self, directory: Option<&Directory>) {
        let Some(directory) = directory else { return };
        let mut providers: Vec<_> = directory.saml_providers().collect();
        if providers.is_empty() && self.config.service_provider.accepts_nobody() {
            return;
        }
        providers.sort_by(|a, b| a.arn.cmp(&b.arn));
        let here = self.service_provider();
        self.lines.push(here);
        for provider in providers {
            let line = self.saml_provider(provider);
            self.lines.push(line);
        }
    }

    /// Makes the line with the names that an identity provider's administrator has to enter, or a failure if the broker
    /// accepts no assertions.
    fn service_provider(&self) -> Line {
        let here = &self.config.service_provider;
        if here.accepts_nobody() {
            return failed(
                "saml",
                "the broker accepts no SAML assertion, since it has no entity ID or no ACS URL",
                "set [web_identity] issuer to the URL by which clients reach this broker, or set [saml] audiences and \
                 recipients",
            );
        }
        let says = format!(
            "configure the identity provider with: entity ID (audience) {}; ACS URL (recipient) {}; attributes {}",
            here.audiences.join(" or "),
            here.recipients.join(" or "),
            ATTRIBUTES.join(" and "),
        );
        let of_aws = here.audiences.iter().any(|a| a == "urn:amazon:webservices");
        if of_aws {
            return warning(
                "saml",
                format!("{says}; the broker also accepts assertions that were issued for AWS"),
                "remove urn:amazon:webservices from [saml] audiences, unless this is intended",
            );
        }
        ok("saml", says)
    }

    fn saml_provider(&self, provider: &SamlProvider) -> Line {
        let (arn, now) = (&provider.arn, self.now);
        let idp = match &provider.metadata {
            Ok(idp) => idp,
            Err(rule) => {
                let says = format!(
                    "{arn}: the broker does not accept the provider's metadata document ({rule})"
                );
                return failed("saml provider", says, RENEW);
            }
        };
        let keys = idp.signing_keys().iter().map(|key| {
            let fingerprint = key.fingerprint().get(..16).unwrap_or_default();
            format!(
                "{fingerprint}… from {} to {}",
                key.not_before(),
                key.not_after()
            )
        });
        let says = format!(
            "{arn}: entity ID {}, signing certificates (SHA-256) {}",
            idp.entity_id(),
            keys.collect::<Vec<_>>().join(", ")
        );
        let Some(end) = idp.usable_until() else {
            return ok("saml provider", says);
        };
        if end <= now {
            let says = format!(
                "{says}; the metadata or the last of its signing certificates expired at {end}, and the broker has \
                 refused all responses of \
                the provider since then"
            );
            return failed("saml provider", says, RENEW);
        }
        let remarks = metadata_warnings(idp, now);
        if remarks.is_empty() && end > now.plus(NEAR) {
            return ok("saml provider", says);
        }
        let says = format!("{says}; {}", remarks.join("; "));
        warning("saml provider", says, RENEW)
    }
}
