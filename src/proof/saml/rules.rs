//! Checks who issued an assertion, for whom it was made, and when it is valid: SAML Profiles 2.0
//! section 4.1.4.3, Web Browser SSO. The caller passes in the time and the configuration.

use std::time::Duration;

use super::Verified;
use super::assertion::{Assertion, AuthnStatement, SubjectConfirmation};
use super::refusal::Refusal;
use super::seen::{seen, seen_or_missing};
use crate::base::clock::Timestamp;

/// The default of the maximum difference between the clocks of the identity provider and the
/// broker.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The maximum time by which an assertion's time of issue may be in the future. The other times of
/// the assertion decide whether it is valid already; many identity providers set those back by a
/// few minutes because clocks differ.
pub const MADE_AHEAD: Duration = Duration::from_secs(360);

/// How much longer than its validity an assertion is remembered as used: the longest leeway that
/// can be configured, because an operator may raise the leeway while the broker is stopped, and one
/// second, because the store counts whole seconds.
pub(super) const REMEMBERED_LONGER: Duration = Duration::from_secs(301);

/// The requirements that an assertion must meet to be accepted. If one of the lists is empty, no
/// assertion is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub now: Timestamp,
    /// The maximum difference between the clocks of the identity provider and the broker.
    pub leeway: Duration,
    /// The entity ID of the identity provider, which the assertion's issuer must be.
    pub issuer: &'a str,
    /// The accepted audiences, such as this broker's entity ID as a service provider.
    pub audiences: &'a [String],
    /// The accepted recipients: the URLs at which this broker receives assertions.
    pub recipients: &'a [String],
    /// The ID of the request that the response must answer. With `None` the ID is not compared: a
    /// caller of the API may have sent a request that the broker does not know.
    pub in_response_to: Option<&'a str>,
}

/// An assertion after all checks: the identity provider has signed it, it is meant for this broker,
/// and it is valid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    assertion: Assertion,
    recipient: String,
    session_not_on_or_after: Option<Timestamp>,
    usable_until: Timestamp,
}

impl Accepted {
    pub fn assertion(&self) -> &Assertion {
        &self.assertion
    }

    /// The recipient of the accepted confirmation, which STS calls the audience.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// The earliest `SessionNotOnOrAfter` of the assertion's authentication statements; `None` if none
    /// of them has one.
    pub fn session_not_on_or_after(&self) -> Option<Timestamp> {
        self.session_not_on_or_after
    }

    /// The time from which the assertion is too old, whichever confirmation and leeway apply. Until
    /// then the caller must remember its issuer and ID, so that the assertion is used only once.
    pub fn usable_until(&self) -> Timestamp {
        self.usable_until
    }
}

impl Verified {
    /// Accepts the assertion if it breaks no rule.
    ///
    /// # Errors
    /// [`Refusal`] for the first rule that it breaks.
    pub fn accept(self, rules: &Rules<'_>) -> Result<Accepted, Refusal> {
        let confirmation = match self.violations(rules).into_iter().next() {
            Some(refusal) => return Err(refusal),
            None => confirmation(&self.assertion, rules)?,
        };
        let assertion = &self.assertion;
        let ends = assertion
            .confirmations
            .iter()
            .filter_map(|c| c.not_on_or_after);
        let last = ends.max().ok_or(Refusal::NoEnd)?;
        let last = assertion
            .conditions
            .not_on_or_after
            .map_or(last, |end| end.min(last));
        let sessions = assertion.authn_statements.iter();
        Ok(Accepted {
            recipient: confirmation.recipient.clone().unwrap_or_default(),
            session_not_on_or_after: sessions.filter_map(|s| s.session_not_on_or_after).min(),
            usable_until: last.plus(REMEMBERED_LONGER),
            assertion: self.assertion,
        })
    }

    /// Returns all rules that the response and the assertion break, those about the response first.
    /// Of a confirmation, only the first broken rule is listed.
    pub fn violations(&self, rules: &Rules<'_>) -> Vec<Refusal> {
        let of_response = self.violations_of_response(rules);
        let of_assertion = self.violations_of_assertion(rules);
        of_response
            .into_iter()
            .chain(of_assertion)
            .flatten()
            .collect()
    }

    fn violations_of_response(&self, rules: &Rules<'_>) -> [Option<Refusal>; 3] {
        let envelope = &self.envelope;
        let name = envelope.issuer.as_deref();
        let destination = envelope.destination.as_ref();
        let foreign = destination.filter(|url| !rules.recipients.contains(url));
        [
            name.and_then(|name| issuer("Response", name, rules)),
            foreign.map(|url| Refusal::Destination(seen(url))),
            in_response_to(
                "Response",
                envelope.in_response_to.as_deref(),
                rules.in_response_to,
            ),
        ]
    }

    fn violations_of_assertion(&self, rules: &Rules<'_>) -> [Option<Refusal>; 9] {
        let assertion = &self.assertion;
        let conditions = &assertion.conditions;
        // The session of the role ends then at the latest, so nothing would be left of it.
        let without_leeway = Rules {
            leeway: Duration::ZERO,
            ..*rules
        };
        let is_over = |statement: &AuthnStatement| {
            not_on_or_after(
                "AuthnStatement",
                "SessionNotOnOrAfter",
                statement.session_not_on_or_after,
                &without_leeway,
            )
        };
        [
            issuer("Assertion", &assertion.issuer, rules),
            not_before("Conditions", conditions.not_before, rules),
            // Used assertions are remembered by the time at which they were made.
            (assertion.issue_instant.minus(MADE_AHEAD) > rules.now).then_some(Refusal::MadeAhead {
                at: assertion.issue_instant,
                now: rules.now,
            }),
            not_on_or_after(
                "Conditions",
                "NotOnOrAfter",
                conditions.not_on_or_after,
                rules,
            ),
            audience(&conditions.audience_restrictions, rules),
            confirmation(assertion, rules).err(),
            self.answers_another_request(),
            assertion
                .authn_statements
                .is_empty()
                .then_some(Refusal::NoAuthnStatement),
            assertion.authn_statements.iter().find_map(is_over),
        ]
    }

    /// Checks that the response and the assertion answer the same request, if both name one.
    fn answers_another_request(&self) -> Option<Refusal> {
        let expected = self.envelope.in_response_to.as_deref()?;
        let mut confirmations = self.assertion.confirmations.iter();
        confirmations.find_map(|confirmation| {
            let seen = confirmation.in_response_to.as_deref()?;
            in_response_to("SubjectConfirmationData", Some(seen), Some(expected))
        })
    }
}

fn issuer(element: &'static str, seen_issuer: &str, rules: &Rules<'_>) -> Option<Refusal> {
    (seen_issuer != rules.issuer).then(|| Refusal::Issuer {
        element,
        seen: seen(seen_issuer),
        expected: seen(rules.issuer),
    })
}

/// Returns the first bearer confirmation that is valid. If there is none, returns the rule that the
/// first bearer confirmation breaks.
fn confirmation<'a>(
    assertion: &'a Assertion,
    rules: &Rules<'_>,
) -> Result<&'a SubjectConfirmation, Refusal> {
    let mut why = None;
    for confirmation in assertion.confirmations.iter().filter(|c| c.is_bearer) {
        match confirms(confirmation, rules) {
            None => return Ok(confirmation),
            Some(refusal) => {
                why.get_or_insert(refusal);
            }
        }
    }
    Err(why.unwrap_or(Refusal::NoBearer))
}

fn confirms(confirmation: &SubjectConfirmation, rules: &Rules<'_>) -> Option<Refusal> {
    const DATA: &str = "SubjectConfirmationData";
    let recipient = confirmation.recipient.as_ref();
    if !recipient.is_some_and(|url| rules.recipients.contains(url)) {
        let seen = seen_or_missing(recipient.map(String::as_str));
        return Some(Refusal::Recipient { seen });
    }
    if confirmation.not_on_or_after.is_none() {
        return Some(Refusal::NoEnd);
    }
    in_response_to(
        DATA,
        confirmation.in_response_to.as_deref(),
        rules.in_response_to,
    )
    .or_else(|| not_before(DATA, confirmation.not_before, rules))
    .or_else(|| not_on_or_after(DATA, "NotOnOrAfter", confirmation.not_on_or_after, rules))
}

fn in_response_to(
    element: &'static str,
    seen: Option<&str>,
    expected: Option<&str>,
) -> Option<Refusal> {
    let expected = expected.filter(|expected| seen != Some(*expected))?;
    Some(Refusal::InResponseTo {
        element,
        seen: seen_or_missing(seen),
        expected: super::seen::seen(expected),
    })
}

fn not_before(element: &'static str, at: Option<Timestamp>, rules: &Rules<'_>) -> Option<Refusal> {
    let at = at.filter(|at| at.minus(rules.leeway) > rules.now)?;
    Some(Refusal::NotYetValid {
        element,
        at,
        now: rules.now,
    })
}

fn not_on_or_after(
    element: &'static str,
    attribute: &'static str,
    at: Option<Timestamp>,
    rules: &Rules<'_>,
) -> Option<Refusal> {
    let at = at.filter(|at| at.plus(rules.leeway) <= rules.now)?;
    Some(Refusal::Expired {
        element,
        attribute,
        at,
        now: rules.now,
    })
}

/// Checks that the assertion has an audience restriction, and that each restriction names an
/// accepted audience.
fn audience(restrictions: &[Vec<String>], rules: &Rules<'_>) -> Option<Refusal> {
    let is_foreign =
        |audiences: &&Vec<String>| !audiences.iter().any(|name| rules.audiences.contains(name));
    let seen = match restrictions.iter().find(is_foreign) {
        Some(audiences) => {
            let named = seen_or_missing(Some(&audiences.join("`, `")));
            format!("its AudienceRestriction names {named}")
        }
        None if restrictions.is_empty() => "it has no AudienceRestriction".to_owned(),
        None => return None,
    };
    Some(Refusal::Audience { seen })
}
