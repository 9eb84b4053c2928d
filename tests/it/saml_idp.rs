//! A SAML identity provider that signs whatever a test wants it to say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::base::clock::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

const DS: &str = "http://www.w3.org/2000/09/xmldsig#";
const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const SAMLP: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ATTRIBUTES: &str = "https://aws.amazon.com/SAML/Attributes/";
/// The broker as a service provider, as the tests configure it.
pub const AUDIENCE: &str = "https://sts.example.com/saml/metadata";
pub const RECIPIENT: &str = "https://sts.example.com/saml/acs";

/// What ECDSA signs with. No test depends on it.
#[allow(clippy::disallowed_methods)]
fn random() -> SystemRandom {
    SystemRandom::new()
}

/// An identity provider with its own key.
pub struct Idp {
    pub entity_id: String,
    key: EcdsaKeyPair,
    certificate: String,
}

/// The content of an assertion. Every text is put into the XML without escaping.
#[derive(Clone)]
pub struct Says {
    pub id: String,
    pub issued_at: Timestamp,
    pub issuer: Option<String>,
    pub subject: String,
    pub format: String,
    pub audience: String,
    pub recipient: String,
    pub destination: Option<String>,
    /// The ID of the request that is answered.
    pub in_response_to: Option<String>,
    pub not_before: Timestamp,
    pub not_on_or_after: Timestamp,
    /// NotOnOrAfter of the confirmation; `None` for that of the conditions.
    pub confirmed_until: Option<Timestamp>,
    pub session_until: Option<Timestamp>,
    pub status: String,
    /// The names and values of the attributes.
    pub attributes: Vec<(String, Vec<String>)>,
    /// XML that is put between the subject and the conditions, for tests of attacks.
    pub more: String,
}

impl Idp {
    pub fn new(entity_id: &str) -> Self {
        Self::valid(entity_id, (2020, 2050))
    }

    /// An identity provider whose certificate is valid from the beginning of one year to that of
    /// another.
    pub fn valid(entity_id: &str, (from, to): (i32, i32)) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = parameters.self_signed(&pair).unwrap();
        let random = random();
        let pkcs8 = pair.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random);
        Self {
            entity_id: entity_id.to_owned(),
            key: key.unwrap(),
            certificate: STANDARD.encode(certificate.der()),
        }
    }

    /// The metadata document of this identity provider.
    pub fn metadata(&self) -> String {
        self.metadata_with(&[])
    }

    /// The metadata document with further keys, as during a rollover.
    pub fn metadata_with(&self, others: &[&Self]) -> String {
        let keys = std::iter::once(&self).chain(others).map(|idp| {
            format!(
                r#"<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"#,
                idp.certificate
            )
        });
        // AWS takes no document of fewer than 1,000 characters.
        format!(
            r#"<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{}"><md:IDPSSODescriptor protocolSupportEnumeration="{SAMLP}">{}<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{}/sso"/></md:IDPSSODescriptor><md:Organization><md:OrganizationName xml:lang="en">{}</md:OrganizationName></md:Organization></md:EntityDescriptor>"#,
            self.entity_id,
            keys.collect::<String>(),
            self.entity_id,
            "x".repeat(1_000)
        )
    }

    /// The provider as `aws iam get-saml-provider` prints it, with its ARN.
    pub fn declared(&self, arn: &str) -> serde_json::Value {
        serde_json::json!({"Arn": arn, "SAMLMetadataDocument": self.metadata()})
    }

    /// The value of the form field SAMLResponse.
    pub fn response(&self, says: &Says) -> String {
        STANDARD.encode(self.xml(says))
    }

    /// A response with a signed assertion, which is written in its canonical form.
    pub fn xml(&self, says: &Says) -> String {
        let (start, rest) = self.assertion(says);
        let signature = self.signature(&says.id, &format!("{start}{rest}"));
        let destination = says.destination.as_ref();
        let destination = destination.map(|url| format!(r#" Destination="{url}""#));
        let answers = says.answers();
        format!(
            r#"<samlp:Response xmlns:samlp="{SAMLP}" ID="_response" IssueInstant="{}" Version="2.0"{}{answers}><samlp:Status><samlp:StatusCode Value="{}"/></samlp:Status>{start}{signature}{rest}</samlp:Response>"#,
            says.issued_at,
            destination.unwrap_or_default(),
            says.status
        )
    }

    /// A signed response that reports a failure. It has no assertion.
    pub fn failure(&self, status: &str, message: &str, now: Timestamp) -> String {
        let start = format!(
            r#"<samlp:Response xmlns:samlp="{SAMLP}" ID="_failure" IssueInstant="{now}" Version="2.0">"#
        );
        let rest = format!(
            r#"<samlp:Status><samlp:StatusCode Value="{status}"></samlp:StatusCode><samlp:StatusMessage>{message}</samlp:StatusMessage></samlp:Status></samlp:Response>"#
        );
        let signature = self.signature("_failure", &format!("{start}{rest}"));
        STANDARD.encode(format!("{start}{signature}{rest}"))
    }

    /// The signature of an element with this ID, which is in canonical form.
    fn signature(&self, id: &str, octets: &str) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, octets.as_bytes());
        let info = |namespace: &str| {
            format!(
                r##"<ds:SignedInfo{namespace}><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"></ds:SignatureMethod><ds:Reference URI="#{}"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:Transform></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod><ds:DigestValue>{}</ds:DigestValue></ds:Reference></ds:SignedInfo>"##,
                id,
                STANDARD.encode(digest)
            )
        };
        let signed = info(&format!(r#" xmlns:ds="{DS}""#));
        let made = self.key.sign(&random(), signed.as_bytes());
        format!(
            r#"<ds:Signature xmlns:ds="{DS}">{}<ds:SignatureValue>{}</ds:SignatureValue></ds:Signature>"#,
            info(""),
            STANDARD.encode(made.unwrap())
        )
    }

    /// The assertion up to its issuer, and the rest of it.
    fn assertion(&self, says: &Says) -> (String, String) {
        let attributes = says.attributes.iter().map(|(name, values)| {
            let values = values
                .iter()
                .map(|value| format!("<saml:AttributeValue>{value}</saml:AttributeValue>"));
            format!(
                r#"<saml:Attribute Name="{name}">{}</saml:Attribute>"#,
                values.collect::<String>()
            )
        });
        let session = says
            .session_until
            .map(|end| format!(r#" SessionNotOnOrAfter="{end}""#));
        let start = format!(
            r#"<saml:Assertion xmlns:saml="{SAML}" ID="{}" IssueInstant="{}" Version="2.0"><saml:Issuer>{}</saml:Issuer>"#,
            says.id,
            says.issued_at,
            says.issuer.as_deref().unwrap_or(&self.entity_id),
        );
        let rest = format!(
            r#"<saml:Subject><saml:NameID Format="{}">{}</saml:NameID><saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData{} NotOnOrAfter="{}" Recipient="{}"></saml:SubjectConfirmationData></saml:SubjectConfirmation></saml:Subject>{}<saml:Conditions NotBefore="{}" NotOnOrAfter="{}"><saml:AudienceRestriction><saml:Audience>{}</saml:Audience></saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant="{}"{}></saml:AuthnStatement><saml:AttributeStatement>{}</saml:AttributeStatement></saml:Assertion>"#,
            says.format,
            says.subject,
            says.answers(),
            says.confirmed_until.unwrap_or(says.not_on_or_after),
            says.recipient,
            says.more,
            says.not_before,
            says.not_on_or_after,
            says.audience,
            says.issued_at,
            session.unwrap_or_default(),
            attributes.collect::<String>(),
        );
        (start, rest)
    }
}

impl Says {
    /// An assertion that lets `alice` assume the role within five minutes.
    pub fn new(id: &str, role: &str, provider: &str, now: Timestamp) -> Self {
        let minutes = |n: u64| std::time::Duration::from_secs(60 * n);
        Self {
            id: format!("_{id}"),
            issued_at: now,
            issuer: None,
            subject: "alice".to_owned(),
            format: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent".to_owned(),
            audience: AUDIENCE.to_owned(),
            recipient: RECIPIENT.to_owned(),
            destination: Some(RECIPIENT.to_owned()),
            in_response_to: None,
            not_before: now.minus(minutes(10)),
            not_on_or_after: now.plus(minutes(5)),
            confirmed_until: None,
            session_until: None,
            status: "urn:oasis:names:tc:SAML:2.0:status:Success".to_owned(),
            attributes: vec![
                (
                    format!("{ATTRIBUTES}Role"),
                    vec![format!("{role},{provider}")],
                ),
                (
                    format!("{ATTRIBUTES}RoleSessionName"),
                    vec!["alice@example.com".to_owned()],
                ),
            ],
            more: String::new(),
        }
    }

    /// The attribute that names the request, if one is answered.
    fn answers(&self) -> String {
        let id = self.in_response_to.as_ref();
        id.map_or_else(String::new, |id| format!(r#" InResponseTo="{id}""#))
    }

    /// Adds an attribute of AWS's, or replaces the one with that name.
    #[must_use]
    pub fn with(self, name: &str, values: &[&str]) -> Self {
        self.with_any(&format!("{ATTRIBUTES}{name}"), values)
    }

    /// Adds an attribute with any name.
    #[must_use]
    pub fn with_any(mut self, name: &str, values: &[&str]) -> Self {
        self.attributes.retain(|(n, _)| n != name);
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        self.attributes.push((name.to_owned(), values));
        self
    }
}
