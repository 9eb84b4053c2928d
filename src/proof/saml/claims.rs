//! Reads the attributes of an assertion that AWS defines: IAM User Guide, "Configure SAML assertions
//! for the authentication response", "Pass session tags in AWS STS" and "Monitor and control actions
//! taken with assumed roles". Their names are case-sensitive.

use std::time::Duration;

use super::assertion::Assertion;
use super::limits::SPACE;
use super::refusal::Refusal;
use super::seen::seen;
use crate::base::field::FieldError;
use crate::base::names::{MAX_TAGS, RoleSessionName, SourceIdentity, Tag, tag_key, tag_value};

/// The accepted values of `SessionDuration`, in seconds.
const SESSION_DURATION: std::ops::RangeInclusive<u32> = 900..=43_200;

const PREFIX: &str = "https://aws.amazon.com/SAML/Attributes/";
const ROLE: &str = "https://aws.amazon.com/SAML/Attributes/Role";
const PRINCIPAL_TAG: &str = "https://aws.amazon.com/SAML/Attributes/PrincipalTag:";

/// A pair from the attribute `Role`: the ARN of a role, and the ARN of the provider whose users may
/// assume it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RolePair {
    pub role: String,
    pub provider: String,
}

/// The session parameters in an assertion, from the attributes that AWS defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsClaims {
    /// The attribute `RoleSessionName`, or, for a sign-in to the pages, a session name made from the NameID.
    pub role_session_name: RoleSessionName,
    /// The attribute `SessionDuration`, from 900 to 43,200 seconds.
    pub session_duration: Option<Duration>,
    /// The session tags, from the attributes `PrincipalTag:KEY`.
    pub tags: Vec<Tag>,
    /// The keys of the transitive tags: sessions that are chained to this one inherit them.
    pub transitive_tag_keys: Vec<String>,
    /// The attribute `SourceIdentity`, which also applies to sessions that are chained to this one.
    pub source_identity: Option<SourceIdentity>,
    /// The valid pairs of role and provider in the attribute `Role`.
    pub roles: Vec<RolePair>,
    /// Whether the assertion has the attribute `Role`, even if none of its values is valid.
    pub has_roles: bool,
}

impl AwsClaims {
    /// Reads the attributes of an assertion.
    ///
    /// # Errors
    /// [`Refusal::NoAttribute`] if `RoleSessionName` or `Role` is missing, [`Refusal::RepeatedAttribute`] if an
    /// attribute is repeated, does not have the one value that it must have, or has a value that is not text,
    /// [`Refusal::TooManyTags`], and [`Refusal::Attribute`] if a value breaks a rule.
    pub fn read(assertion: &Assertion) -> Result<Self, Refusal> {
        let name = "RoleSessionName";
        let session_name = single(assertion, name)?;
        let session_name =
            session_name.ok_or_else(|| Refusal::NoAttribute(format!("{PREFIX}{name}")))?;
        let parsed = RoleSessionName::parse(name, session_name);
        let role_session_name = parsed.map_err(|error| broken(name, session_name, &error))?;
        Self::read_others(assertion, role_session_name, roles(assertion)?)
    }

    /// Reads the attributes of an assertion for signing in to the pages. Such an assertion need not contain roles or a
    /// session name: the person chooses a role later, and the session name comes from the NameID.
    ///
    /// # Errors
    /// [`Refusal::RepeatedAttribute`] if an attribute is repeated, does not have the one value that it must have, or
    /// has a value that is not text, [`Refusal::TooManyTags`], and [`Refusal::Attribute`] if a value breaks a rule.
    pub fn read_for_sign_in(assertion: &Assertion) -> Result<Self, Refusal> {
        let role_session_name = RoleSessionName::fitted(&assertion.subject.value);
        let roles = match roles(assertion) {
            Err(Refusal::NoAttribute(_)) => Vec::new(),
            roles => roles?,
        };
        let has_roles = assertion.attributes.iter().any(|a| a.name == ROLE);
        let claims = Self::read_others(assertion, role_session_name, roles)?;
        Ok(Self {
            has_roles,
            ..claims
        })
    }

    fn read_others(
        assertion: &Assertion,
        role_session_name: RoleSessionName,
        roles: Vec<RolePair>,
    ) -> Result<Self, Refusal> {
        let name = "SessionDuration";
        let duration = single(assertion, name)?;
        let seconds = |text: &str| {
            let seconds = text
                .parse::<u32>()
                .ok()
                .filter(|seconds| SESSION_DURATION.contains(seconds))
                .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
            let rule = FieldError::new(name, "must be 900 to 43200 seconds");
            seconds.ok_or_else(|| broken(name, text, &rule))
        };
        let duration = duration.map(seconds).transpose()?;

        let name = "SourceIdentity";
        let source = single(assertion, name)?.map(|text| {
            SourceIdentity::parse(name, text).map_err(|error| broken(name, text, &error))
        });

        let transitive_tag_keys = values(assertion, "TransitiveTagKeys")?;
        let claims = Self {
            role_session_name,
            session_duration: duration.map(|seconds| Duration::from_secs(seconds.into())),
            tags: tags(assertion)?,
            transitive_tag_keys: transitive_tag_keys.into_iter().map(str::to_owned).collect(),
            source_identity: source.transpose()?,
            roles,
            has_roles: true,
        };
        for key in &claims.transitive_tag_keys {
            if !claims
                .tags
                .iter()
                .any(|tag| tag.key.eq_ignore_ascii_case(key))
            {
                let rule = FieldError::new(
                    "",
                    "must name tags that are sent as PrincipalTag attributes",
                );
                return Err(broken("TransitiveTagKeys", key, &rule));
            }
        }
        Ok(claims)
    }

    /// Returns the valid pairs of role and provider in the attribute `Role`.
    pub fn roles(&self) -> &[RolePair] {
        &self.roles
    }

    /// Checks that the attribute `Role` contains this role together with this provider.
    ///
    /// # Errors
    /// [`Refusal::RoleNotGranted`] if it does not.
    pub fn check_role(&self, role: &str, provider: &str) -> Result<(), Refusal> {
        if self
            .roles
            .iter()
            .any(|pair| pair.role == role && pair.provider == provider)
        {
            return Ok(());
        }
        Err(Refusal::RoleNotGranted {
            role: seen(role),
            provider: seen(provider),
            pairs: self.roles.len(),
        })
    }
}

/// Reads the attribute `Role`, whose values are `ROLE_ARN,PROVIDER_ARN` in either order. A value of
/// another form is ignored.
fn roles(assertion: &Assertion) -> Result<Vec<RolePair>, Refusal> {
    let values = values(assertion, "Role")?;
    if values.is_empty() {
        return Err(Refusal::NoAttribute(ROLE.to_owned()));
    }
    let resource = |arn: &str| {
        let mut parts = arn.splitn(6, ':');
        let starts = parts.next() == Some("arn");
        parts
            .nth(4)
            .filter(|_| starts)
            .map(|resource| resource.split('/').next().map(str::to_owned))?
    };
    let pair = |value: &str| {
        // The name of a role may contain commas, so the comma in front of an ARN is the separator.
        let mut commas = value.match_indices(',').map(|(at, _)| value.split_at(at));
        let (first, second) = commas.find_map(|(first, rest)| {
            let second = rest.strip_prefix(',')?;
            let is_arn = second.trim_start_matches(SPACE).starts_with("arn:");
            is_arn.then_some((first, second))
        })?;
        let [first, second] = [first, second].map(|arn| arn.trim_matches(SPACE));
        let (role, provider) = match (resource(first)?.as_str(), resource(second)?.as_str()) {
            ("role", "saml-provider") => (first, second),
            ("saml-provider", "role") => (second, first),
            _ => return None,
        };
        Some(RolePair {
            role: role.to_owned(),
            provider: provider.to_owned(),
        })
    };
    Ok(values.into_iter().filter_map(pair).collect())
}

/// Reads the attributes `PrincipalTag:KEY`, each of which must have one value.
fn tags(assertion: &Assertion) -> Result<Vec<Tag>, Refusal> {
    let mut tags: Vec<Tag> = Vec::new();
    for attribute in &assertion.attributes {
        let Some(key) = attribute.name.strip_prefix(PRINCIPAL_TAG) else {
            continue;
        };
        let name = format!("PrincipalTag:{key}");
        let [Some(value)] = attribute.values.as_slice() else {
            return Err(Refusal::RepeatedAttribute(seen(&attribute.name)));
        };
        tag_key("Key", key).map_err(|error| broken(&name, value, &error))?;
        tag_value("Value", value).map_err(|error| broken(&name, value, &error))?;
        if tags.iter().any(|tag| tag.key.eq_ignore_ascii_case(key)) {
            return Err(Refusal::RepeatedAttribute(seen(&attribute.name)));
        }
        tags.push(Tag {
            key: key.to_owned(),
            value: value.clone(),
        });
        if tags.len() > MAX_TAGS {
            return Err(Refusal::TooManyTags);
        }
    }
    Ok(tags)
}

/// Returns the value of an attribute that may have only one value; `None` if the attribute is missing or has no value.
fn single<'a>(assertion: &'a Assertion, name: &str) -> Result<Option<&'a str>, Refusal> {
    match values(assertion, name)?.as_slice() {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(Refusal::RepeatedAttribute(format!("{PREFIX}{name}"))),
    }
}

/// Returns the values of an attribute, all of which must be texts. The attribute may occur only
/// once.
fn values<'a>(assertion: &'a Assertion, name: &str) -> Result<Vec<&'a str>, Refusal> {
    let is_named = |attribute: &str| attribute.strip_prefix(PREFIX) == Some(name);
    let mut named = assertion.attributes.iter().filter(|a| is_named(&a.name));
    let repeated = || Refusal::RepeatedAttribute(format!("{PREFIX}{name}"));
    let Some(attribute) = named.next() else {
        return Ok(Vec::new());
    };
    if named.next().is_some() {
        return Err(repeated());
    }
    attribute
        .values
        .iter()
        .map(|value| value.as_deref().ok_or_else(repeated))
        .collect()
}

fn broken(name: &str, value: &str, error: &FieldError) -> Refusal {
    Refusal::Attribute {
        name: seen(&format!("{PREFIX}{name}")),
        seen: seen(value),
        rule: error.rule.clone().into_owned(),
    }
}
