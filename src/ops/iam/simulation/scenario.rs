//! The parameters of a simulation: actions, resources, the caller and the condition keys.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;

use super::sources::SourcePolicy;
use crate::base::arn::{AccountId, Arn};
use crate::error::Error;
use crate::evaluator::{AnnotatedPolicy, PolicyKind, RequestContext, ValueType};
use crate::ops::iam::page::PageRequest;
use crate::trust::SimulatedPrincipal;

/// The maximum number of decisions in one simulation: the number of its actions times that of its
/// resources.
pub(super) const MAX_DECISIONS: usize = 10_000;
/// The maximum number of condition keys in a request, and of values for each of them.
const MAX_CONTEXT: usize = 256;
/// The maximum length in bytes of one value of a condition key.
const MAX_VALUE_BYTES: usize = 2_048;
/// The name of the parameter with the resource policy, which is also the policy's name in results.
const RESOURCE_POLICY: &str = "ResourcePolicy";

/// The parameters that SimulateCustomPolicy and SimulatePrincipalPolicy share.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Scenario {
    pub action_names: Vec<String>,
    pub resource_arns: Option<Vec<String>>,
    pub resource_policy: Option<String>,
    pub resource_owner: Option<String>,
    pub caller_arn: Option<String>,
    pub context_entries: Option<Vec<ContextEntry>>,
    #[serde(flatten)]
    pub page: PageRequest,
}

/// A condition key with its values as the request sends it, before any check.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ContextEntry {
    context_key_name: Option<String>,
    context_key_values: Option<Vec<String>>,
    context_key_type: Option<String>,
}

/// A condition key whose values have been checked against their type.
#[derive(Debug)]
pub(super) struct ContextKey {
    name: String,
    values: Vec<String>,
    multivalued: bool,
}

impl Scenario {
    /// Returns the resources, which are `*` if the request names none, and whether any of them is
    /// an ARN.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if a resource is neither `*` nor an ARN.
    pub fn resources(&self) -> Result<(Vec<String>, bool), Error> {
        let resources = self.resource_arns.clone().unwrap_or_default();
        if resources.is_empty() {
            return Ok((vec!["*".to_owned()], false));
        }
        if let Some(bad) = resources
            .iter()
            .find(|r| *r != "*" && Arn::parse(r).is_none())
        {
            let text = format!("ResourceNames are not in a valid ARN format: {bad}.");
            return Err(Error::InvalidInput(text));
        }
        let single = resources.iter().any(|resource| resource != "*");
        Ok((resources, single))
    }

    /// Checks the names of the actions, and that the simulation has at most [`MAX_DECISIONS`]
    /// decisions.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for the first rule that is broken.
    pub fn check_actions(&self, resources: usize) -> Result<(), Error> {
        let plain = |t: &str| {
            !t.is_empty()
                && t.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let legal = |name: &str| {
            name.split_once(':')
                .is_some_and(|(s, n)| plain(s) && plain(n))
        };
        if self.action_names.is_empty() {
            return Err(Error::InvalidInput(
                "ActionNames must name at least one action.".into(),
            ));
        }
        if let Some(bad) = self.action_names.iter().find(|name| !legal(name)) {
            let text = format!(
                "ActionNames are not in a valid format: {bad}. An action is `service:Name`, without wildcards."
            );
            return Err(Error::InvalidInput(text));
        }
        let count = self.action_names.len().saturating_mul(resources);
        if count > MAX_DECISIONS {
            let text = format!(
                "A simulation may have at most {MAX_DECISIONS} decisions, which are the number of ActionNames \
                 times the number of ResourceArns; this one has {count}."
            );
            return Err(Error::InvalidInput(text));
        }
        Ok(())
    }

    /// Parses the policy that all resources have, and returns it with whether it is a trust policy.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the policy is malformed.
    pub fn resource_policy(&self) -> Result<Option<(SourcePolicy, bool)>, Error> {
        let Some(text) = &self.resource_policy else {
            return Ok(None);
        };
        let id = || RESOURCE_POLICY.to_owned();
        let (policy, is_trust) = match AnnotatedPolicy::parse(PolicyKind::Resource, text) {
            Ok(policy) => (policy, false),
            // A trust policy has no Resource.
            Err(error) => match AnnotatedPolicy::parse(PolicyKind::Trust, text) {
                Ok(policy) => (policy, true),
                Err(_) => {
                    return Err(Error::InvalidInput(format!("{RESOURCE_POLICY}: {error}")));
                }
            },
        };
        Ok(Some((SourcePolicy { id: id(), policy }, is_trust)))
    }

    /// Returns the principal that `CallerArn` names; `None` if the request has no such parameter.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] unless it is the ARN of a user, group or role.
    pub fn caller(&self) -> Result<Option<SimulatedPrincipal>, Error> {
        self.caller_arn.as_deref().map(principal).transpose()
    }

    /// Returns the account in `ResourceOwner`, which owns the resources whose ARN names no account; `None` if the
    /// request has no such parameter.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] unless it is an account id, or the ARN of an account.
    pub fn owner(&self) -> Result<Option<AccountId>, Error> {
        let Some(text) = self.resource_owner.as_deref() else {
            return Ok(None);
        };
        let arn = Arn::parse(text).filter(|arn| arn.service == "iam" && arn.resource == "root");
        AccountId::parse(arn.map_or(text, |arn| arn.account))
            .map(Some)
            .ok_or_else(|| {
                Error::InvalidInput(format!("'{text}' is not a valid as a Resource Owner."))
            })
    }

    /// Checks the condition keys that the request supplies.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for the first entry that breaks a rule.
    pub fn context(&self) -> Result<Vec<ContextKey>, Error> {
        let entries = self.context_entries.as_deref().unwrap_or_default();
        if entries.len() > MAX_CONTEXT {
            let text = format!("ContextEntries may have at most {MAX_CONTEXT} entries.");
            return Err(Error::InvalidInput(text));
        }
        let mut seen = HashSet::new();
        let mut keys = Vec::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let key = entry.read().map_err(|rule| {
                Error::InvalidInput(format!("ContextEntries.{}: {rule}", at + 1))
            })?;
            if !seen.insert(key.name.to_ascii_lowercase()) {
                let text = format!("ContextEntries has two entries for {}.", key.name);
                return Err(Error::InvalidInput(text));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

impl ContextEntry {
    fn read(&self) -> Result<ContextKey, Cow<'static, str>> {
        let name = self
            .context_key_name
            .clone()
            .ok_or("ContextKeyName is required.")?;
        let values = self.context_key_values.clone().unwrap_or_default();
        let named = self.context_key_type.as_deref();
        let list = named.and_then(|n| n.strip_suffix("List"));
        let multivalued = list.is_some() || (named.is_none() && values.len() > 1);
        let r#type = match list.or(named) {
            None | Some("string") => ValueType::String,
            Some("numeric") => ValueType::Numeric,
            Some("boolean") => ValueType::Boolean,
            Some("ip") => ValueType::Ip,
            Some("binary") => ValueType::Binary,
            Some("date") => ValueType::Date,
            Some(other) => {
                return Err(format!(
                    "`{other}` is not a ContextKeyType: use string, numeric, boolean, \
                ip, binary or date, or one of these with List."
                )
                .into());
            }
        };
        if !multivalued && values.len() != 1 {
            return Err(format!(
                "{name} must have exactly one value; use a ContextKeyType that ends with List for several."
            )
            .into());
        }
        if values.len() > MAX_CONTEXT {
            return Err(format!("{name} may have at most {MAX_CONTEXT} values.").into());
        }
        if values.iter().any(|value| value.len() > MAX_VALUE_BYTES) {
            return Err(
                format!("a value of {name} may have at most {MAX_VALUE_BYTES} bytes.").into(),
            );
        }
        if let Some(bad) = values.iter().find(|value| !r#type.accepts(value)) {
            let named = named.unwrap_or_default();
            return Err(format!("`{bad}` is not a value of the type {named}.").into());
        }
        Ok(ContextKey {
            name,
            values,
            multivalued,
        })
    }
}

impl ContextKey {
    /// Sets the condition key in the context of a simulated request.
    pub fn set<'a>(&'a self, context: &mut RequestContext<'a>) {
        match self.values.as_slice() {
            [value] if !self.multivalued => context.set(self.name.as_str(), value.as_str()),
            values => context.set_many(
                self.name.as_str(),
                values.iter().map(|value| value.as_str().into()).collect(),
            ),
        }
    }
}

/// Returns the user, group or role with this ARN, without an id or tags.
///
/// # Errors
/// [`Error::InvalidInput`] for any other text.
pub(super) fn principal(arn: &str) -> Result<SimulatedPrincipal, Error> {
    SimulatedPrincipal::of(arn).ok_or_else(|| {
        Error::InvalidInput(format!(
            "Invalid Entity Arn: {arn} does not clearly define entity type and name."
        ))
    })
}
