//! Reads a response and its assertion into types: SAML Core 2.0 sections 2 and 3. The module
//! `rules` checks their audience and validity.

use roxmltree::Node;

use super::element::Element;
use super::refusal::Refusal;
use super::seen::seen;
use super::signature::NAMESPACE as XMLDSIG;
use super::xml;
use crate::base::clock::Timestamp;

/// The XML namespace of SAML assertions.
pub(super) const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// The XML namespace of the SAML protocol.
pub(super) const SAMLP: &str = "urn:oasis:names:tc:SAML:2.0:protocol";

const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";
const SUBJECT_TYPE_PREFIX: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:";
const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
/// The maximum length of a name identifier and of its format, in characters. The session token
/// contains both, so they must be short. SAML Core 2.0 section 8.3.7 has the same limit for
/// persistent identifiers.
pub const MAX_NAME_ID: usize = 256;

/// The part of a response outside the assertion. Unless the response itself is signed, an attacker
/// can change this part, so it is only used to refuse a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub id: String,
    /// Whether the response itself is signed. All fields were then read from the signed text.
    pub is_signed: bool,
    /// The attribute `Destination`, the URL to which the response was sent.
    pub destination: Option<String>,
    /// The ID of the request that the response answers; `None` if it answers none.
    pub in_response_to: Option<String>,
    /// The entity ID of the sender; `None` if the response has no Issuer.
    pub issuer: Option<String>,
}

/// An assertion: the statements that an identity provider makes about one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The assertion's ID, which is unique for its issuer. It marks the assertion as used, since
    /// each may be used once.
    pub id: String,
    pub issue_instant: Timestamp,
    /// The entity ID of the identity provider that issued the assertion.
    pub issuer: String,
    pub subject: NameId,
    /// The ways to confirm that the sender of the assertion is its subject.
    pub confirmations: Vec<SubjectConfirmation>,
    /// The period in which the assertion is valid, and its audiences.
    pub conditions: Conditions,
    /// The statements that the subject was authenticated, with the time and the method.
    pub authn_statements: Vec<AuthnStatement>,
    /// The attributes of the subject, in the order of the assertion.
    pub attributes: Vec<Attribute>,
}

/// A name identifier (NameID), which names the subject of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameId {
    /// The name itself, such as an email address.
    pub value: String,
    /// The attribute `Format`, a URI that says what kind of name it is.
    pub format: Option<String>,
    /// The attribute `NameQualifier`, the domain to which the name belongs.
    pub name_qualifier: Option<String>,
    /// The attribute `SPNameQualifier`, the service provider for which the name was made.
    pub sp_name_qualifier: Option<String>,
}

impl NameId {
    /// Returns the format as STS returns it in `SubjectType`: without the URN prefix of SAML 2.0
    /// formats.
    pub fn subject_type(&self) -> &str {
        let format = self.format.as_deref().unwrap_or(UNSPECIFIED);
        format.strip_prefix(SUBJECT_TYPE_PREFIX).unwrap_or(format)
    }
}

/// A SubjectConfirmation element: a way to confirm that the sender of the assertion is its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectConfirmation {
    /// Whether the method is bearer and anybody may present the assertion. If the confirmation
    /// contains an identifier, only the identified party may present it (SAML Core 2.0 section
    /// 2.4.1.1), and a request has no way to prove that it comes from that party.
    pub is_bearer: bool,
    /// The URL of the service provider at which the assertion may be presented.
    pub recipient: Option<String>,
    /// The ID of the request that the assertion answers; `None` if the sign-in began at the
    /// identity provider.
    pub in_response_to: Option<String>,
    /// The confirmation is not valid before this time.
    pub not_before: Option<Timestamp>,
    /// The confirmation is not valid at this time or later.
    pub not_on_or_after: Option<Timestamp>,
}

/// The Conditions element, which limits when and for whom an assertion is valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The assertion is not valid before this time.
    pub not_before: Option<Timestamp>,
    /// The assertion is not valid at this time or later.
    pub not_on_or_after: Option<Timestamp>,
    /// The audiences of each AudienceRestriction element. Every restriction must contain an
    /// audience that the verifier accepts.
    pub audience_restrictions: Vec<Vec<String>>,
}

/// An AuthnStatement element: the identity provider states that it has authenticated the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthnStatement {
    /// When the subject was authenticated, by the clock of the identity provider.
    pub authn_instant: Timestamp,
    /// When the session at the identity provider ends; `None` if the provider does not say.
    pub session_not_on_or_after: Option<Timestamp>,
    /// The identity provider's id of its session with the subject, which a logout request names.
    pub session_index: Option<String>,
    /// The AuthnContextClassRef, a URI for the kind of authentication, such as one with a hardware
    /// token.
    pub context_class: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The attribute's name, which is case-sensitive.
    pub name: String,
    /// The XML attribute `NameFormat`, a URI that says how to read the name.
    pub name_format: Option<String>,
    /// The values in order. `None` stands for a value that is not text, because it contains elements.
    pub values: Vec<Option<String>>,
}

impl Envelope {
    /// Reads the part of a response outside the assertion. Refuses a response whose status is not
    /// success.
    pub(super) fn read(response: Node<'_, '_>, is_signed: bool) -> Result<Self, Refusal> {
        let element = Element(response, "Response");
        if !xml::is(response, SAMLP, "Response") {
            return Err(Refusal::NotResponse(seen(xml::qualified_name(response))));
        }
        element.version()?;
        element.has_only(&[
            (SAML, "Issuer"),
            (XMLDSIG, "Signature"),
            (SAMLP, "Extensions"),
            (SAMLP, "Status"),
            (SAML, "Assertion"),
            (SAML, "EncryptedAssertion"),
        ])?;
        let status = element.one(SAMLP, "Status")?;
        let code = Element(status, "Status").one(SAMLP, "StatusCode")?;
        if xml::attribute(code, "Value") != Some(SUCCESS) {
            let innermost = xml::children(code, SAMLP, "StatusCode")
                .last()
                .unwrap_or(code);
            let message = Element(status, "Status").optional(SAMLP, "StatusMessage")?;
            return Err(Refusal::Status {
                code: seen(xml::attribute(innermost, "Value").unwrap_or_default()),
                message: seen(&message.and_then(xml::text).unwrap_or_default()),
            });
        }
        let issuer = element.optional(SAML, "Issuer")?;
        Ok(Self {
            id: element.id()?,
            is_signed,
            destination: element.text_attribute("Destination")?,
            in_response_to: element.text_attribute("InResponseTo")?,
            issuer: issuer.map(issuer_name).transpose()?,
        })
    }
}

impl Assertion {
    /// Reads an assertion. The caller must have checked that it is signed.
    pub(super) fn read(assertion: Node<'_, '_>) -> Result<Self, Refusal> {
        let element = Element(assertion, "Assertion");
        element.version()?;
        element.has_only(&[
            (SAML, "Issuer"),
            (XMLDSIG, "Signature"),
            (SAML, "Subject"),
            (SAML, "Conditions"),
            (SAML, "Advice"),
            (SAML, "AuthnStatement"),
            (SAML, "AuthzDecisionStatement"),
            (SAML, "AttributeStatement"),
        ])?;
        let subject = Element(element.one(SAML, "Subject")?, "Subject");
        subject.has_only(&[
            (SAML, "NameID"),
            (SAML, "EncryptedID"),
            (SAML, "SubjectConfirmation"),
        ])?;
        if subject.optional(SAML, "EncryptedID")?.is_some() {
            return Err(Refusal::EncryptedPart("the name ID of the Subject"));
        }
        let conditions = element.optional(SAML, "Conditions")?;
        let authn_statements = xml::children(assertion, SAML, "AuthnStatement");
        let mut attributes = Vec::new();
        for statement in xml::children(assertion, SAML, "AttributeStatement") {
            let statement = Element(statement, "AttributeStatement");
            statement.has_only(&[(SAML, "Attribute"), (SAML, "EncryptedAttribute")])?;
            if xml::children(statement.0, SAML, "EncryptedAttribute")
                .next()
                .is_some()
            {
                return Err(Refusal::EncryptedPart("an attribute"));
            }
            for attribute in xml::children(statement.0, SAML, "Attribute") {
                attributes.push(Attribute::read(attribute)?);
            }
        }
        Ok(Self {
            id: element.id()?,
            issue_instant: element
                .time("IssueInstant")?
                .ok_or(element.wrong("the IssueInstant is missing"))?,
            issuer: issuer_name(element.one(SAML, "Issuer")?)?,
            subject: NameId::read(subject.one(SAML, "NameID")?)?,
            confirmations: xml::children(subject.0, SAML, "SubjectConfirmation")
                .map(SubjectConfirmation::read)
                .collect::<Result<_, _>>()?,
            conditions: conditions
                .map(Conditions::read)
                .transpose()?
                .unwrap_or_default(),
            authn_statements: authn_statements
                .map(AuthnStatement::read)
                .collect::<Result<_, _>>()?,
            attributes,
        })
    }
}

impl NameId {
    fn read(name: Node<'_, '_>) -> Result<Self, Refusal> {
        let element = Element(name, "NameID");
        let value = element.text()?;
        let format = element.text_attribute("Format")?;
        let is_long = |text: &str| text.chars().count() > MAX_NAME_ID;
        if is_long(&value) || format.as_deref().is_some_and(is_long) {
            return Err(element.wrong("the value or the Format is longer than 256 characters"));
        }
        Ok(Self {
            value,
            format,
            name_qualifier: element.text_attribute("NameQualifier")?,
            sp_name_qualifier: element.text_attribute("SPNameQualifier")?,
        })
    }
}

impl SubjectConfirmation {
    fn read(confirmation: Node<'_, '_>) -> Result<Self, Refusal> {
        let element = Element(confirmation, "SubjectConfirmation");
        element.has_only(&[
            (SAML, "BaseID"),
            (SAML, "NameID"),
            (SAML, "EncryptedID"),
            (SAML, "SubjectConfirmationData"),
        ])?;
        let method = element.text_attribute("Method")?;
        let names_its_presenter = ["BaseID", "NameID", "EncryptedID"]
            .into_iter()
            .any(|name| xml::children(confirmation, SAML, name).next().is_some());
        let mut read = Self {
            is_bearer: method.as_deref() == Some(BEARER) && !names_its_presenter,
            recipient: None,
            in_response_to: None,
            not_before: None,
            not_on_or_after: None,
        };
        if let Some(data) = element.optional(SAML, "SubjectConfirmationData")? {
            let data = Element(data, "SubjectConfirmationData");
            read.recipient = data.text_attribute("Recipient")?;
            read.in_response_to = data.text_attribute("InResponseTo")?;
            (read.not_before, read.not_on_or_after) = data.window()?;
        }
        Ok(read)
    }
}

impl Conditions {
    fn read(conditions: Node<'_, '_>) -> Result<Self, Refusal> {
        let element = Element(conditions, "Conditions");
        let mut audience_restrictions = Vec::new();
        for condition in conditions.children().filter(Node::is_element) {
            if xml::is(condition, SAML, "AudienceRestriction") {
                let restriction = Element(condition, "AudienceRestriction");
                restriction.has_only(&[(SAML, "Audience")])?;
                let audiences = xml::children(condition, SAML, "Audience");
                let audiences = audiences.map(|audience| Element(audience, "Audience").text());
                audience_restrictions.push(audiences.collect::<Result<_, _>>()?);
            } else if !xml::is(condition, SAML, "OneTimeUse")
                && !xml::is(condition, SAML, "ProxyRestriction")
            {
                return Err(Refusal::Condition(seen(xml::qualified_name(condition))));
            }
        }
        let (not_before, not_on_or_after) = element.window()?;
        Ok(Self {
            not_before,
            not_on_or_after,
            audience_restrictions,
        })
    }
}

impl AuthnStatement {
    fn read(statement: Node<'_, '_>) -> Result<Self, Refusal> {
        let element = Element(statement, "AuthnStatement");
        let context = element.optional(SAML, "AuthnContext")?;
        let class = match context {
            Some(context) => {
                Element(context, "AuthnContext").optional(SAML, "AuthnContextClassRef")?
            }
            None => None,
        };
        Ok(Self {
            authn_instant: element
                .time("AuthnInstant")?
                .ok_or(element.wrong("the AuthnInstant is missing"))?,
            session_not_on_or_after: element.time("SessionNotOnOrAfter")?,
            session_index: element.text_attribute("SessionIndex")?,
            context_class: class
                .map(|class| Element(class, "AuthnContextClassRef").text())
                .transpose()?,
        })
    }
}

impl Attribute {
    fn read(attribute: Node<'_, '_>) -> Result<Self, Refusal> {
        let element = Element(attribute, "Attribute");
        element.has_only(&[(SAML, "AttributeValue")])?;
        Ok(Self {
            name: element
                .text_attribute("Name")?
                .ok_or(element.wrong("the Name is missing"))?,
            name_format: element.text_attribute("NameFormat")?,
            values: xml::children(attribute, SAML, "AttributeValue")
                .map(xml::text)
                .collect(),
        })
    }
}

/// Returns the entity ID in an Issuer element.
fn issuer_name(issuer: Node<'_, '_>) -> Result<String, Refusal> {
    let element = Element(issuer, "Issuer");
    match xml::attribute(issuer, "Format") {
        None | Some(ENTITY | UNSPECIFIED) => element.text(),
        Some(_) => Err(element.wrong("the Format is neither that of an entity ID nor unspecified")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_a_name_id_loses_the_prefix_of_saml_2_0_only() {
        let name = |format: Option<&str>| NameId {
            value: "x".into(),
            format: format.map(str::to_owned),
            name_qualifier: None,
            sp_name_qualifier: None,
        };
        let subject_type = |format| name(format).subject_type().to_owned();
        assert_eq!(
            subject_type(Some("urn:oasis:names:tc:SAML:2.0:nameid-format:persistent")),
            "persistent"
        );
        let email = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
        assert_eq!(subject_type(Some(email)), email);
        assert_eq!(subject_type(None), UNSPECIFIED);
    }
}
