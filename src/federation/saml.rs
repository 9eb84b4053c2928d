//! Makes a [`FederatedIdentity`] from a verified SAML assertion, and holds the audiences and URLs that an
//! assertion must name to be accepted here. This module contacts no identity provider, because the keys are
//! in the metadata document.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Asked, FederatedIdentity, Once, Source};
use crate::base::arn::{AccountId, SamlProviderArn};
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::legible::Legible;
use crate::base::secret::Secret;
use crate::directory::{Directory, SamlProvider};
use crate::error::Error;
use crate::proof::jwt::Flat;
use crate::proof::saml::{
    self, Accepted, AuthnStatement, AwsClaims, AwsCode, ContextKey, LEEWAY, MADE_AHEAD, Metadata,
    Refusal, RequestSigner, Rules, Verified, escaped,
};
use crate::session::token;
use crate::unproven::{Reason, Unproven};

/// The path of this broker's metadata document as a service provider. Appended to the public URL, it
/// is the default entity ID.
pub const METADATA_PATH: &str = "/saml/metadata";
pub const CONSUMER_PATH: &str = "/saml/acs";
/// The attributes that an assertion for AssumeRoleWithSAML must have.
pub const ATTRIBUTES: [&str; 2] = [
    "https://aws.amazon.com/SAML/Attributes/Role",
    "https://aws.amazon.com/SAML/Attributes/RoleSessionName",
];
/// The maximum leeway between clocks that the configuration may set.
pub const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// The issuer under which the digests of used assertions are remembered, next to the ids of tokens.
const ONCE: &str = "urn:oasis:names:tc:SAML:2.0:assertion";

/// This broker as a service provider: `[saml]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceProvider {
    /// The entity ID, by which identity providers know this broker. `None` if it is not configured and
    /// there is no public URL from which it could be derived.
    pub entity_id: Option<String>,
    /// The audiences that an assertion may name. If there are none, no assertion is accepted.
    pub audiences: Vec<String>,
    /// The URLs to which an assertion for AssumeRoleWithSAML may be sent. If there are none, the action accepts no
    /// assertion.
    pub recipients: Vec<String>,
    /// How far the clocks of an identity provider and of this broker may differ.
    pub leeway: Duration,
    /// The signer of requests to identity providers that want signed requests. `None` if requests are not
    /// signed.
    pub request_signer: Option<RequestSigner>,
}

impl Default for ServiceProvider {
    fn default() -> Self {
        Self {
            entity_id: None,
            audiences: Vec::new(),
            recipients: Vec::new(),
            leeway: LEEWAY,
            request_signer: None,
        }
    }
}

impl ServiceProvider {
    /// The service provider with the defaults for a broker at this public URL, which has no slash at
    /// the end.
    pub fn at(public_url: &str) -> Self {
        let entity_id = format!("{public_url}{METADATA_PATH}");
        Self {
            audiences: vec![entity_id.clone()],
            recipients: vec![format!("{public_url}{CONSUMER_PATH}")],
            entity_id: Some(entity_id),
            leeway: LEEWAY,
            request_signer: None,
        }
    }

    /// Replaces `{address}` everywhere by the address at which the broker listens.
    #[must_use]
    pub fn listening_at(&self, address: &str) -> Self {
        let put = |text: &String| text.replace("{address}", address);
        Self {
            entity_id: self.entity_id.as_ref().map(put),
            audiences: self.audiences.iter().map(put).collect(),
            recipients: self.recipients.iter().map(put).collect(),
            leeway: self.leeway,
            request_signer: self.request_signer.clone(),
        }
    }

    /// Whether AssumeRoleWithSAML refuses every assertion, because no audiences or no recipients are set.
    pub fn accepts_nobody(&self) -> bool {
        self.audiences.is_empty() || self.recipients.is_empty()
    }

    /// The metadata document of this broker for identity providers, in the form of SAML Metadata 2.0.
    /// `None` if there is no entity ID, or no URL to which assertions can be sent.
    pub fn metadata(&self) -> Option<String> {
        let entity_id = escaped(self.entity_id.as_ref()?);
        if self.recipients.is_empty() {
            return None;
        }
        let consumers = self.recipients.iter().enumerate().map(|(index, url)| {
            let is_default = if index == 0 { " isDefault=\"true\"" } else { "" };
            let url = escaped(url);
            format!(
                "    <md:AssertionConsumerService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" \
                 Location=\"{url}\" index=\"{index}\"{is_default}/>\n"
            )
        });
        let attributes = ATTRIBUTES.map(|name| {
            format!(
                "      <md:RequestedAttribute Name=\"{name}\" \
                 NameFormat=\"urn:oasis:names:tc:SAML:2.0:attrname-format:uri\" isRequired=\"true\"/>\n"
            )
        });
        let signed = self.request_signer.is_some();
        let key = self.request_signer.as_ref().map(|signer| {
            format!(
                "    <md:KeyDescriptor use=\"signing\">\n      \
                 <ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data>\
                 <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>\n    \
                 </md:KeyDescriptor>\n",
                STANDARD.encode(signer.certificate())
            )
        });
        Some(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{entity_id}\">\n  \
             <md:SPSSODescriptor protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
             AuthnRequestsSigned=\"{signed}\" WantAssertionsSigned=\"true\">\n{}{}    \
             <md:AttributeConsumingService index=\"0\">\n      \
             <md:ServiceName xml:lang=\"en\">Brevet</md:ServiceName>\n{}    \
             </md:AttributeConsumingService>\n  \
             </md:SPSSODescriptor>\n\
             </md:EntityDescriptor>\n",
            key.unwrap_or_default(),
            consumers.collect::<String>(),
            attributes.concat(),
        ))
    }

    fn rules<'a>(&'a self, idp: &'a Metadata, now: Timestamp) -> Rules<'a> {
        Rules {
            now,
            leeway: self.leeway,
            issuer: idp.entity_id(),
            audiences: &self.audiences,
            recipients: &self.recipients,
            in_response_to: None,
        }
    }
}

/// The assertion that a caller showed, which was verified and accepted.
pub struct Shown {
    text: Secret<String>,
    service: Arc<ServiceProvider>,
    provider: Arc<SamlProvider>,
    verified: Verified,
    accepted: Accepted,
    claims: AwsClaims,
    name_qualifier: String,
}

impl Shown {
    /// The attributes of the assertion that AWS defines.
    pub fn claims(&self) -> &AwsClaims {
        &self.claims
    }

    pub fn id(&self) -> &str {
        &self.accepted.assertion().id
    }

    /// The format of the NameID, without the prefix `urn:oasis:names:tc:SAML:2.0:nameid-format:`.
    pub fn subject_type(&self) -> &str {
        self.accepted.assertion().subject.subject_type()
    }

    /// The NameQualifier as AWS computes it: a hash of the issuer, the account and the provider's name. Together with
    /// the subject, it identifies a user uniquely.
    pub fn name_qualifier(&self) -> &str {
        &self.name_qualifier
    }

    /// How and when the user was authenticated: the first such statement of the assertion. An accepted
    /// assertion has at least one.
    pub(super) fn authentication(&self) -> Option<&AuthnStatement> {
        self.accepted.assertion().authn_statements.first()
    }

    /// Checks that the assertion would still be accepted. Its signature is verified again only if the
    /// provider has been changed.
    pub(super) fn still_good(
        &self,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<(), Box<Unproven>> {
        let provider = directory
            .saml_provider(&self.provider.arn)
            .ok_or_else(|| not_vouched(Reason::UnknownSamlProvider))?;
        let idp = metadata(provider)?;
        let rules = self.service.rules(idp, now);
        if Arc::ptr_eq(provider, &self.provider) {
            return match self.verified.violations(&rules).into_iter().next() {
                Some(refusal) => Err(refused(refusal)),
                None => Ok(()),
            };
        }
        let verified =
            saml::verify(self.text.expose(), idp, &provider.private_keys, now).map_err(refused)?;
        verified.accept(&rules).map(drop).map_err(refused)
    }
}

/// Verifies a response, and returns the identity for which its assertion vouches.
///
/// # Errors
/// `InvalidIdentityToken`, `ExpiredTokenException`, `IDPRejectedClaim` or `AccessDenied`, each with a reason for the
/// audit log.
pub fn identity(
    text: Secret<String>,
    provider: &Arc<SamlProvider>,
    service: &Arc<ServiceProvider>,
    now: Timestamp,
) -> Result<FederatedIdentity, Box<Unproven>> {
    let idp = metadata(provider)?;
    let verified =
        saml::verify(text.expose(), idp, &provider.private_keys, now).map_err(refused)?;
    let rules = service.rules(idp, now);
    let accepted = verified.clone().accept(&rules).map_err(refused)?;
    let claims = AwsClaims::read(accepted.assertion()).map_err(refused)?;
    made(text, (provider, service), verified, accepted, claims)
}

/// Verifies a response with which a person signs in, and returns the identity for which its assertion
/// vouches. The response must have been sent to `consumer` and answer the request with the ID `request`. If
/// that is `None`, the response must answer no request, because the identity provider began the sign-in. The
/// assertion need not name roles.
///
/// # Errors
/// The same as for [`identity`].
pub fn sign_in(
    text: Secret<String>,
    provider: &Arc<SamlProvider>,
    service: &Arc<ServiceProvider>,
    consumer: &str,
    request: Option<&str>,
    now: Timestamp,
) -> Result<FederatedIdentity, Box<Unproven>> {
    let idp = metadata(provider)?;
    let verified =
        saml::verify(text.expose(), idp, &provider.private_keys, now).map_err(refused)?;
    let recipients = [consumer.to_owned()];
    let rules = Rules {
        recipients: &recipients,
        in_response_to: request,
        ..service.rules(idp, now)
    };
    let accepted = verified.clone().accept(&rules).map_err(refused)?;
    let assertion = accepted.assertion();
    if request.is_none() {
        let confirmations = assertion.confirmations.iter();
        let mut answered = confirmations.filter_map(|c| c.in_response_to.as_deref());
        let answered = verified
            .envelope()
            .in_response_to
            .as_deref()
            .or(answered.next());
        if let Some(seen) = answered {
            return Err(refused(Refusal::Solicited(format!("`{}`", Legible(seen)))));
        }
    }
    let claims = AwsClaims::read_for_sign_in(assertion).map_err(refused)?;
    made(text, (provider, service), verified, accepted, claims)
}

/// Makes the identity from an assertion that was verified and accepted.
fn made(
    text: Secret<String>,
    (provider, service): (&Arc<SamlProvider>, &Arc<ServiceProvider>),
    verified: Verified,
    accepted: Accepted,
    claims: AwsClaims,
) -> Result<FederatedIdentity, Box<Unproven>> {
    let keys = accepted.context_keys(provider.account, &provider.name);
    let keys = keys.map_err(refused)?;
    let name_qualifier = accepted.name_qualifier(provider.account, &provider.name);
    let assertion = accepted.assertion();
    let subject = assertion.subject.value.clone();
    let subject_type = assertion.subject.subject_type().to_owned();
    let once = once(&verified, &accepted);
    Ok(FederatedIdentity {
        provider_arn: provider.arn.clone(),
        account: provider.account,
        issuer: assertion.issuer.as_str().into(),
        audience: accepted.recipient().to_owned(),
        principal_id: format!("{name_qualifier}:{subject}"),
        keys: keys.into_iter().map(key).collect(),
        asked: Ok(Asked {
            tags: claims.tags.clone(),
            transitive_tag_keys: claims.transitive_tag_keys.clone(),
            source_identity: claims.source_identity.clone(),
        }),
        roles: Ok(None),
        once: Some(Ok(once)),
        session_duration: claims.session_duration,
        session_ends_by: accepted.session_not_on_or_after(),
        remembered: token::Holder::Saml(token::SamlSubject {
            subject: subject.clone(),
            subject_type,
            name_qualifier: name_qualifier.clone(),
        }),
        subject,
        source: Source::Saml(Box::new(Shown {
            text,
            service: service.clone(),
            provider: provider.clone(),
            verified,
            accepted,
            claims,
            name_qualifier,
        })),
    })
}

/// Makes the record by which an assertion is accepted only once.
fn once(verified: &Verified, accepted: &Accepted) -> Once {
    let assertion = accepted.assertion();
    Once {
        issuer: ONCE.into(),
        id: digest(verified.signer(), &assertion.issuer, &assertion.id),
        issued_at: assertion.issue_instant,
        ahead: MADE_AHEAD,
        expires_at: accepted.usable_until(),
    }
}

/// Finds the provider with this ARN, if it is in the account of the role.
pub fn provider_for<'d>(
    arn: &SamlProviderArn,
    account: AccountId,
    directory: &'d Directory,
) -> Option<&'d Arc<SamlProvider>> {
    let provider = directory.saml_provider(arn.as_str());
    provider.filter(|provider| provider.account == account)
}

/// Makes the refusal of a response whose provider does not exist. It is the same as for an invalid signature
/// and takes as much work, so that callers cannot find out which providers exist.
pub fn unknown_provider(response: &Secret<String>, now: Timestamp) -> Box<Unproven> {
    if let Some(nobody) = &*NOBODY {
        // Only the time that this takes matters. The answer is the same for every result.
        let _ = saml::verify(response.expose(), nobody, &[], now);
    }
    not_vouched(Reason::UnknownSamlProvider)
}

/// The metadata of an identity provider whose private keys were thrown away, so that it signs nothing. It has
/// one key of each kind, so that checking a signature of either kind takes time.
static NOBODY: LazyLock<Option<Metadata>> =
    LazyLock::new(|| Metadata::parse(NOBODY_METADATA.as_bytes()).ok());

const NOBODY_METADATA: &str = concat!(
    r#"<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="urn:nobody">"#,
    r#"<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">"#,
    r#"<KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#">"#,
    "<X509Data><X509Certificate>",
    "MIIBeTCCAR+gAwIBAgIUbaFLzpFpkaOhpiLf9cWJDstJ/MQwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGbm9ib2R5MCAX",
    "DTI2MTEyNzAwNDYzMloYDzIxMjYxMTAzMDA0NjMyWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjO",
    "PQMBBwNCAAQMHWWBb9wXLuvTb4LdsOEqcgAepr8EUiOHM1EHe2LyUrNplUZ5eV6ZUs3p3pPfRHCYe9jMZO721YIZI+9k",
    "ceHlo1MwUTAdBgNVHQ4EFgQUt57PRlTmLroN+ofeyY+3lbkTekEwHwYDVR0jBBgwFoAUt57PRlTmLroN+ofeyY+3lbkT",
    "ekEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAZasWk9xka19mXXavoC+51xAEoA5iNCjyBvXA5j0Yc",
    "NQIhAOSX4D+j0fSsGSN4GxZXexz9KNQs0Ul1rT7aupf2aYD6",
    "</X509Certificate></X509Data></KeyInfo></KeyDescriptor>",
    r#"<KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#">"#,
    "<X509Data><X509Certificate>",
    "MIIDBTCCAe2gAwIBAgIUcpBRLPQ7o7+K0NriaiEhlw3iwtgwDQYJKoZIhvcNAQELBQAwETEPMA0GA1UEAwwGbm9ib2R5",
    "MCAXDTI2MTEyNzAxMzgzM1oYDzIxMjYxMTAzMDEzODMzWjARMQ8wDQYDVQQDDAZub2JvZHkwggEiMA0GCSqGSIb3DQEB",
    "AQUAA4IBDwAwggEKAoIBAQDHEEHRznFQ0jHNbRJowR3U2RGfxoZtNZfu1u1EmG7R+cALkQtruppF48fQtbQLdS3ocK0c",
    "sQX+4S9PTdgf/Bmks5SVrsC6M2qenTIKsTF3Lfx6OJQQYBaME+IjlGNTFC4ApojFoGvJWEFcKzmIrtZgWmTREzPBTrkU",
    "ube+B0lZWtz6LEqiVKcBSlanKASi5qdcomUYB09VM0ZOWvV1YDotNNQagbw3xQiqPHWxIUmz7tfxoriL/etrMCPz/3de",
    "2VGOfoUx6eh/1gudj8BEN5gr2G6sXABkoXp7n77hiMXSpS4DIu5phrYlROluUXyWnDOsjesVx6CFWqptf2vZzPuHAgMB",
    "AAGjUzBRMB0GA1UdDgQWBBQb3VYOWeQRs4nDrxuats8KGPkbGzAfBgNVHSMEGDAWgBQb3VYOWeQRs4nDrxuats8KGPkb",
    "GzAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4IBAQBQyjGxL+y9nK7e+3zTqAeIgbL7AtpyXLK+hyRdl13f",
    "/sWRZaz9GNUCqaQj1ux3aI0/m8BjxpQ5kLjby3VnPjobv4vkTYaSafHbD9W1rwhMxFORVEV/EZd6kOfVtLv7TaBZoQ3U",
    "zV+uu3L+mV1pCDP3OX1D9PXvTE53h9uYiKDlmkYBHi/O+o3rfT87AEfEGFQMeIthnLnfIxk4S+6oOTuT8/RO9EVnAQhc",
    "+C9oDL+mI0RNb/Utp8SZyQYiczgaHAtV6A8xBBbxjqGEL/jDRiqVEX68+jso965pWO7KEY5WXSeAQ6poMPNDkyG6FIs4",
    "A0NxICIt/XgtTFJT5uzodv3V",
    "</X509Certificate></X509Data></KeyInfo></KeyDescriptor>",
    r#"<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="urn:nobody"/>"#,
    "</IDPSSODescriptor></EntityDescriptor>",
);

fn metadata(provider: &SamlProvider) -> Result<&Metadata, Box<Unproven>> {
    let metadata = provider.metadata.as_ref();
    metadata.map_err(|_| not_vouched(Reason::SamlMetadata))
}

/// Computes the digest by which a used assertion is remembered, from the public key that signed it, its issuer and its
/// ID. The key is included because a provider of another account could otherwise claim the same issuer and use up its
/// IDs. The digest includes the length of the issuer, because the identity provider chooses both the issuer and the ID.
fn digest(signer: &[u8; 32], issuer: &str, id: &str) -> String {
    let text = format!("{} {} {issuer} {id}", hex(signer), issuer.len());
    hex(&sha256(text.as_bytes()))
}

fn key(key: ContextKey) -> (String, Flat) {
    match key {
        ContextKey::One(name, value) => (name.to_owned(), Flat::One(value)),
        ContextKey::Many(name, values) => (name.to_owned(), Flat::Many(values)),
    }
}

/// Makes the refusal of a response that is not valid. Only the audit log has the reason.
fn not_vouched(reason: Reason) -> Box<Unproven> {
    let text = "The SAML response is not valid. The SAML provider must sign the response or its assertion, address it \
        to this broker and send it within its period of validity. The broker's audit log contains the reason";
    Unproven::because(Error::InvalidIdentityToken(text.to_owned()), reason)
}

/// Makes the refusal of a response that breaks a rule. The caller gets the error code of the rule, and the audit log
/// also the reason.
fn refused(refusal: Refusal) -> Box<Unproven> {
    let error = match refusal.code() {
        AwsCode::InvalidIdentityToken => {
            return not_vouched(Reason::Saml(Box::new(refusal)));
        }
        AwsCode::ExpiredTokenException => {
            Error::ExpiredWebIdentityToken("Response has expired".to_owned())
        }
        AwsCode::IdpRejectedClaim => {
            let text = "The identity provider reports that it did not authenticate the user, or refuses this service \
                provider";
            Error::IdpRejectedClaim(text.to_owned())
        }
        AwsCode::AccessDenied => Error::NotAuthorized {
            action: "sts:AssumeRoleWithSAML".to_owned(),
            encoded_message: String::new(),
        },
    };
    Unproven::because(error, Reason::Saml(Box::new(refusal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_names_this_broker() {
        let mut here = ServiceProvider::at("https://sts.example.com");
        here.recipients
            .push("https://other.example.com/acs?a&b=\"<".to_owned());
        let text = here.metadata().unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!(
            root.attribute("entityID"),
            Some("https://sts.example.com/saml/metadata")
        );
        let values = |name: &'static str, attribute: &'static str| -> Vec<_> {
            let named = document
                .descendants()
                .filter(|node| node.has_tag_name(("urn:oasis:names:tc:SAML:2.0:metadata", name)));
            named.filter_map(|node| node.attribute(attribute)).collect()
        };
        assert_eq!(
            values("AssertionConsumerService", "Location"),
            [
                "https://sts.example.com/saml/acs",
                "https://other.example.com/acs?a&b=\"<"
            ]
        );
        assert_eq!(values("AssertionConsumerService", "isDefault"), ["true"]);
        assert_eq!(values("RequestedAttribute", "Name"), ATTRIBUTES);
        assert_eq!(ServiceProvider::default().metadata(), None);
    }

    #[test]
    fn what_stands_in_for_a_provider_that_is_not_there_can_be_asked() {
        let nobody = NOBODY.as_ref().unwrap();
        assert_eq!(nobody.signing_keys().len(), 2);
        let later = Timestamp::from_seconds(2_000_000_000);
        assert!(nobody.signing_keys().iter().all(|key| key.is_valid(later)));
    }

    #[test]
    fn where_an_issuer_ends_makes_a_difference() {
        let digest = |issuer, id| digest(&[7; 32], issuer, id);
        assert_ne!(digest("a", "b c"), digest("a b", "c"));
        assert_eq!(digest("a", "b"), digest("a", "b"));
        assert_ne!(super::digest(&[8; 32], "a", "b"), digest("a", "b"));
    }
}
