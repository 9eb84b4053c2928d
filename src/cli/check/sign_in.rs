//! Checks of the sign-in of people: what the administrator of each identity provider has to enter, and which
//! settings are missing here.

use super::Look;
use super::line::{Line, failed, ok, warning};
use crate::directory::Directory;
use crate::federation::has_provider;
use crate::federation::saml::CONSUMER_PATH;
use crate::upstream::Kind;
use crate::upstream::offered::{self, Offered};
use crate::upstream::oidc::client;

const CHECK: &str = "sign-in";

impl Look<'_> {
    /// Adds a line about sign-in, and one for each identity provider that people may choose.
    pub(super) fn sign_in(&mut self, directory: Option<&Directory>) {
        let Some(settings) = &self.config.sign_in else {
            return;
        };
        let by_password = match settings.passwords {
            true => "including directory users with a password",
            false => "but not directory users with a password",
        };
        let url = &settings.public_url;
        self.lines.push(ok(
            CHECK,
            format!("people sign in at {url}/sign-in, {by_password}"),
        ));
        let Some(directory) = directory else { return };
        for shown in settings.providers.iter().flatten() {
            if has_provider(directory, &shown.arn) != Some(true) {
                self.lines.push(failed(
                    CHECK,
                    format!(
                        "{}: this provider is not in the directory, so nobody can sign in with it",
                        shown.arn
                    ),
                    "add the provider to the directory, or remove it from [sign_in] providers",
                ));
            }
        }
        for offered in offered::of(settings, directory) {
            let line = match offered.kind {
                Kind::Oidc => of_oidc(url, directory, &offered),
                Kind::Saml => self.of_saml(url, directory, &offered),
            };
            self.lines.extend(line);
        }
    }

    fn of_saml(&self, url: &str, directory: &Directory, offered: &Offered) -> Option<Line> {
        let arn = &offered.arn;
        let here = &self.config.service_provider;
        let entity_id = here.entity_id.as_deref().unwrap_or("none");
        let says = format!(
            "{arn}: configure the identity provider with: entity ID {entity_id}; ACS URL {url}{CONSUMER_PATH}; \
             attribute Role"
        );
        let provider = directory.saml_provider(arn)?;
        // A document that is not accepted has a line of its own.
        let idp = provider.metadata.as_ref().ok()?;
        if idp.redirect_endpoint().is_none() {
            return Some(failed(
                CHECK,
                format!(
                    "{arn}: the provider's metadata has no SingleSignOnService for HTTP-Redirect, so the broker \
                    cannot send people there to sign in"
                ),
                "get metadata that contains this endpoint, or leave the provider out of [sign_in] providers",
            ));
        }
        if offered.details.roles_by_trust_policies {
            return Some(warning(
                CHECK,
                format!(
                    "{says}; with an assertion that has no attribute Role, a person may choose every role whose trust \
                     policy allows it"
                ),
                "make sure that these trust policies have conditions on more than SAML:aud, or remove \
                 roles_by_trust_policies from the provider's entry in [sign_in] providers",
            ));
        }
        if idp.wants_signed_requests() && here.request_signer.is_none() {
            return Some(warning(
                CHECK,
                format!(
                    "{says}; the provider's metadata requires signed requests, but this broker does not sign its \
                    requests"
                ),
                "set [saml] request_key and request_certificate, and give the broker's metadata to the identity provider again",
            ));
        }
        Some(ok(CHECK, says))
    }
}

fn of_oidc(url: &str, directory: &Directory, offered: &Offered) -> Option<Line> {
    let arn = &offered.arn;
    let provider = directory.oidc_provider(arn)?;
    Some(match client(offered, provider) {
        Err(refused) => failed(
            CHECK,
            format!("{arn}: {refused}"),
            "run `brevet provider secret --arn ARN --client-id ID --file FILE`, or set client_id in [sign_in] \
             providers; the provider's entry in the directory must have this client id",
        ),
        Ok(client) => {
            let kind = match client.secret {
                Some(_) => "which has a secret",
                None => "a public client without a secret",
            };
            ok(
                CHECK,
                format!(
                    "{arn}: configure the identity provider with: redirect URI {url}{}; back-channel logout URI \
                     {url}{}; \
                     post-logout redirect URI {url}/sign-in; the client is {}, {kind}",
                    offered.callback_path(),
                    offered.logout_path(),
                    client.id,
                ),
            )
        }
    })
}
