//! The identity providers that are offered for signing in: `providers` of `[sign_in]`. If this setting is left out,
//! they are all providers of the directory that are set up for signing in.

use crate::base::arn::name_of;
use crate::base::digest::{hex, sha256};
use crate::broker::Broker;
use crate::directory::Directory;
use crate::sign_in::Method;
use crate::sign_ins::{ProviderDetails, Settings};

/// The maximum length of the legible part of a slug, in characters.
const MAX_WORD: usize = 40;

/// The protocol of an identity provider: OpenID Connect or SAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Oidc,
    Saml,
}

/// An identity provider at which people may sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub arn: Box<str>,
    /// The name of the provider on the sign-in page.
    pub name: String,
    /// The name of the provider in URLs of this broker: see [`slug`].
    pub slug: String,
    pub kind: Kind,
    pub details: ProviderDetails,
}

/// The identity providers that this broker offers for signing in; empty if the configuration has no `[sign_in]`.
pub fn all(broker: &Broker) -> Vec<Offered> {
    let sign_ins = broker.sign_ins.as_ref();
    sign_ins.map_or_else(Vec::new, |sign_ins| {
        of(&sign_ins.settings, &broker.directory.load())
    })
}

/// The identity providers that are offered and in the directory, in the order of the configuration. If it names none,
/// the providers that are set up for signing in, ordered by ARN.
pub fn of(settings: &Settings, directory: &Directory) -> Vec<Offered> {
    if let Some(shown) = &settings.providers {
        let is_there = |arn: &str| crate::federation::has_provider(directory, arn) == Some(true);
        let shown = shown.iter().filter(|shown| is_there(&shown.arn));
        return shown
            .filter_map(|shown| Offered::new(&shown.arn, &shown.name, shown.details.clone()))
            .collect();
    }
    // A provider whose client has a secret is there for signing in; many others only vouch for programs.
    let oidc = directory.oidc_providers().filter(|provider| {
        let client = provider.sign_in_client.as_ref();
        client.is_some_and(|client| client.secret.is_some())
    });
    let saml = directory.saml_providers().filter(|provider| {
        let metadata = provider.metadata.as_ref().ok();
        metadata.is_some_and(|idp| idp.redirect_endpoint().is_some())
    });
    let mut arns: Vec<&str> = oidc
        .map(|provider| &*provider.arn)
        .chain(saml.map(|provider| &*provider.arn))
        .collect();
    arns.sort_unstable();
    let offered = arns.into_iter().filter_map(|arn| {
        let (_, name) = kind_of(arn)?;
        Offered::new(arn, name, ProviderDetails::default())
    });
    offered.collect()
}

/// The offered provider of this kind with this slug; `None` if there is none.
pub fn find(broker: &Broker, kind: Kind, slug: &str) -> Option<Offered> {
    let mut offered = all(broker).into_iter();
    offered.find(|offered| offered.kind == kind && offered.slug == slug)
}

impl Offered {
    /// Makes an offered provider with these details; `None` if the ARN is not that of an identity provider.
    pub fn new(arn: &str, name: &str, details: ProviderDetails) -> Option<Self> {
        let (kind, _) = kind_of(arn)?;
        Some(Self {
            arn: arn.into(),
            name: name.to_owned(),
            slug: slug(arn),
            kind,
            details,
        })
    }

    /// The factor that a value of `acr`, or of AuthnContextClassRef, proves; `None` if the configuration does not list
    /// the value.
    pub fn factor_of_acr(&self, value: &str) -> Option<Method> {
        self.details.acr.get(value).and_then(|name| method(name))
    }

    /// The factor that a value of `amr` proves; `None` if the configuration does not list the value.
    pub fn factor_of_amr(&self, value: &str) -> Option<Method> {
        self.details.amr.get(value).and_then(|name| method(name))
    }

    /// The path that begins a sign-in at this provider.
    pub fn start_path(&self) -> String {
        match self.kind {
            Kind::Oidc => format!("/sign-in/oidc/{}", self.slug),
            Kind::Saml => format!("/sign-in/saml/{}", self.slug),
        }
    }

    /// The path of the redirect URI, to which an OpenID Connect provider sends the browser back. Each provider has its
    /// own path, so that no provider can pass its answers off as those of another one.
    pub fn callback_path(&self) -> String {
        format!("/sign-in/oidc/{}/callback", self.slug)
    }

    /// The path at which an OpenID Connect provider reports that somebody signed out.
    pub fn logout_path(&self) -> String {
        format!("/sign-in/oidc/{}/logout", self.slug)
    }
}

/// The factor with this name of RFC 8176; `None` for names that the configuration must not use.
fn method(name: &str) -> Option<Method> {
    [Method::Pwd, Method::Otp, Method::Hwk, Method::Mfa]
        .into_iter()
        .find(|method| method.as_str() == name)
}

/// The kind of the provider with this ARN, and its name in the ARN. `None` if the ARN is not that of an identity
/// provider.
fn kind_of(arn: &str) -> Option<(Kind, &str)> {
    crate::federation::account_of(arn)?;
    let oidc = arn.split_once(":oidc-provider/").map(|(_, name)| name);
    Some(match oidc {
        Some(name) => (Kind::Oidc, name),
        None => (Kind::Saml, name_of(arn)),
    })
}

/// The name of a provider in URLs: a legible part of its ARN, and enough of a digest to distinguish it from every other
/// provider. It depends on the ARN alone, because it is part of the redirect URI that is registered at the provider.
pub fn slug(arn: &str) -> String {
    let name = kind_of(arn).map_or("", |(_, name)| name);
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let words: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if legal(c) { c } else { '-' })
        .take(MAX_WORD)
        .collect();
    let digest = hex(&sha256(arn.as_bytes()));
    let words = words.trim_matches(['-', '.']);
    format!("{words}-{}", digest.get(..12).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_legible_and_nobody_elses() {
        let oidc = "arn:aws:iam::111122223333:oidc-provider/IdP.example.com/realms/corp";
        let made = slug(oidc);
        assert!(made.starts_with("idp.example.com-realms-corp-"), "{made}");
        assert_eq!(made.len(), "idp.example.com-realms-corp-".len() + 12);
        let others = [
            "arn:aws:iam::111122223333:oidc-provider/idp.example.com/realms-corp",
            "arn:aws:iam::444455556666:oidc-provider/IdP.example.com/realms/corp",
            "arn:aws:iam::111122223333:saml-provider/IdP.example.com-realms-corp",
        ];
        for other in others {
            assert_ne!(slug(other), made);
        }
        let long = format!(
            "arn:aws:iam::111122223333:oidc-provider/{}",
            "x/".repeat(100)
        );
        assert!(slug(&long).len() <= MAX_WORD + 13);
        let offered = Offered::new(oidc, "Corp", ProviderDetails::default()).unwrap();
        assert_eq!(offered.kind, Kind::Oidc);
        assert_eq!(
            offered.callback_path(),
            format!("/sign-in/oidc/{made}/callback")
        );
        assert!(
            Offered::new(
                "arn:aws:iam::111122223333:role/X",
                "X",
                ProviderDetails::default()
            )
            .is_none()
        );
    }
}
