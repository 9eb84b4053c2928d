//! The condition keys that an assertion sets: IAM User Guide, "IAM and AWS STS condition context keys",
//! section "Available keys for SAML-based AWS STS federation", and "Configure SAML
//! assertions for the authentication response", section "Mapping SAML attributes to AWS trust policy
//! context keys".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::assertion::Assertion;
use super::refusal::Refusal;
use super::rules::Accepted;
use super::seen::seen as legible;
use crate::base::arn::AccountId;

/// The assertion's attributes that set a condition key, each with the key that it sets. All other
/// attributes are ignored.
#[rustfmt::skip]
const ATTRIBUTES: [(&str, &str); 33] = [
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", "saml:edupersonaffiliation"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.2", "saml:edupersonnickname"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.3", "saml:edupersonorgdn"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.4", "saml:edupersonorgunitdn"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.5", "saml:edupersonprimaryaffiliation"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", "saml:edupersonprincipalname"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.7", "saml:edupersonentitlement"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.8", "saml:edupersonprimaryorgunitdn"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.9", "saml:edupersonscopedaffiliation"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.10", "saml:edupersontargetedid"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.11", "saml:edupersonassurance"),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.2", "saml:eduorghomepageuri"),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.3", "saml:eduorgidentityauthnpolicyuri"),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.4", "saml:eduorglegalname"),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.5", "saml:eduorgsuperioruri"),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.6", "saml:eduorgwhitepagesuri"),
    ("urn:oid:2.5.4.3", "saml:cn"),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name", "saml:name"),
    ("http://schemas.xmlsoap.org/claims/CommonName", "saml:commonName"),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname", "saml:givenName"),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname", "saml:surname"),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress", "saml:mail"),
    ("http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid", "saml:primaryGroupSID"),
    ("2.5.4.3", "saml:commonName"),
    ("2.5.4.4", "saml:surname"),
    ("2.5.4.42", "saml:givenName"),
    ("2.5.4.45", "saml:x500UniqueIdentifier"),
    ("0.9.2342.19200300.100.1.1", "saml:uid"),
    ("0.9.2342.19200300.100.1.3", "saml:mail"),
    ("0.9.2342.19200300.100.1.45", "saml:organizationStatus"),
    ("urn:oid:0.9.2342.19200300.100.1.1", "saml:uid"),
    ("urn:oid:0.9.2342.19200300.100.1.3", "saml:mail"),
    ("urn:oid:2.5.4.45", "saml:x500UniqueIdentifier"),
];

/// The condition keys that may have several values. All others have at most one.
const MULTIVALUED: [&str; 13] = [
    "saml:cn",
    "saml:eduorghomepageuri",
    "saml:eduorgidentityauthnpolicyuri",
    "saml:eduorglegalname",
    "saml:eduorgsuperioruri",
    "saml:eduorgwhitepagesuri",
    "saml:edupersonaffiliation",
    "saml:edupersonassurance",
    "saml:edupersonentitlement",
    "saml:edupersonnickname",
    "saml:edupersonorgunitdn",
    "saml:edupersonscopedaffiliation",
    "saml:edupersontargetedid",
];

/// A condition key with its value, or with its list of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKey {
    One(&'static str, String),
    Many(&'static str, Vec<String>),
}

impl Accepted {
    /// Returns the condition keys for a role session requested with this assertion. `provider` is
    /// the name of the SAML provider in the account.
    ///
    /// # Errors
    /// The same as for [`Assertion::attribute_keys`].
    pub fn context_keys(
        &self,
        account: AccountId,
        provider: &str,
    ) -> Result<Vec<ContextKey>, Refusal> {
        let assertion = self.assertion();
        let subject = &assertion.subject;
        let mut keys = vec![
            ContextKey::One("saml:aud", self.recipient().to_owned()),
            ContextKey::One("saml:iss", assertion.issuer.clone()),
            ContextKey::One("saml:sub", subject.value.clone()),
            ContextKey::One("saml:sub_type", subject.subject_type().to_owned()),
            ContextKey::One("saml:namequalifier", self.name_qualifier(account, provider)),
            ContextKey::One("saml:doc", format!("{}/{provider}", account.as_str())),
        ];
        keys.extend(assertion.attribute_keys()?);
        Ok(keys)
    }

    /// Returns a hash of the issuer, the account and the provider's name, which together with the
    /// subject identifies a user among all providers: STS API Reference, "AssumeRoleWithSAML",
    /// `NameQualifier`. It is SHA-1 as in AWS; security does not depend on it.
    pub fn name_qualifier(&self, account: AccountId, provider: &str) -> String {
        let text = format!("{}{}/{provider}", self.assertion().issuer, account.as_str());
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        STANDARD.encode(hash)
    }
}

impl Assertion {
    /// Returns the condition keys that the attributes set.
    ///
    /// # Errors
    /// [`Refusal::RepeatedAttribute`] if a key that may have only one value would get several.
    /// [`Refusal::Attribute`] if a value contains an element instead of text, because conditions
    /// would not see that value.
    pub fn attribute_keys(&self) -> Result<Vec<ContextKey>, Refusal> {
        let mut seen: BTreeMap<&'static str, (&str, Vec<String>)> = BTreeMap::new();
        for attribute in &self.attributes {
            let known = ATTRIBUTES.iter().find(|(name, _)| *name == attribute.name);
            let Some((_, key)) = known else { continue };
            let (_, values) = seen.entry(key).or_insert((&attribute.name, Vec::new()));
            for value in &attribute.values {
                let value = value.clone().ok_or_else(|| Refusal::Attribute {
                    name: legible(&attribute.name),
                    seen: "an element".to_owned(),
                    rule:
                        "must contain text only, since a policy condition cannot test other content"
                            .to_owned(),
                })?;
                values.push(value);
            }
        }
        let mut keys = Vec::new();
        for (key, (name, mut values)) in seen {
            if MULTIVALUED.contains(&key) {
                keys.push(ContextKey::Many(key, values));
            } else if values.len() > 1 {
                return Err(Refusal::RepeatedAttribute(legible(name)));
            } else {
                keys.extend(values.pop().map(|value| ContextKey::One(key, value)));
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::saml::tests::{accept, data, made_at, metadata, sign};

    #[test]
    fn conditions_see_what_aws_lists() {
        let xml = data("pysaml2-assertion.xml");
        let accepted = accept(xml.as_bytes(), &metadata("pysaml2"), made_at()).unwrap();
        let account = AccountId::parse("111122223333").unwrap();
        let keys = accepted.context_keys(account, "example").unwrap();
        let one =
            |key, value: &str| assert!(keys.contains(&ContextKey::One(key, value.to_owned())));
        one("saml:aud", "https://sts.example.com/saml/acs");
        one("saml:iss", "https://idp.example.com/metadata");
        one("saml:sub", "alice-7f3a");
        one("saml:sub_type", "persistent");
        one("saml:doc", "111122223333/example");
        // printf %s https://idp.example.com/metadata111122223333/example | openssl sha1 -binary | base64
        one("saml:namequalifier", "9vgd0RQIQKcm1Djen2pd6t7vzgw=");
        let affiliation = vec!["staff".to_owned(), "member".to_owned()];
        assert!(keys.contains(&ContextKey::Many("saml:edupersonaffiliation", affiliation)));
        one("saml:mail", "alice@example.com");
        assert_eq!(keys.len(), 8);
    }

    #[test]
    fn a_key_with_one_value_does_not_get_two() {
        let mail = "urn:oid:0.9.2342.19200300.100.1.3";
        let xml =
            data("xmlsec-rsa-sha256.xml").replace("Name=\"text\"", &format!("Name=\"{mail}\""));
        let account = AccountId::parse("111122223333").unwrap();
        let keys = |xml: &str| {
            let accepted = accept(sign(xml).as_bytes(), &metadata("xmlsec"), made_at()).unwrap();
            accepted.context_keys(account, "example")
        };
        assert!(keys(&xml).is_ok());
        let other = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress";
        let two = xml.replace("Name=\"structured\"", &format!("Name=\"{other}\""));
        let refused = keys(&two).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Attribute { name, .. } if name == other),
            "{refused:?}"
        );
        let two = two.replace("<x:y ", "x<!--").replace("x:a=\"3\"/>", "-->");
        assert_eq!(keys(&two), Err(Refusal::RepeatedAttribute(mail.to_owned())));
    }
}
