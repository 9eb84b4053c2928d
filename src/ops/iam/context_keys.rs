//! The condition keys of policies: IAM API Reference, "GetContextKeysForCustomPolicy" and
//! "GetContextKeysForPrincipalPolicy".

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::simulation::{SourcePolicy, StoredPrincipal, input_policies};
use crate::error::Error;
use crate::ops::context::Context;

/// GetContextKeysForCustomPolicy: lists the condition keys in the policies that the request
/// contains.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetContextKeysForCustomPolicy {
    policy_input_list: Vec<String>,
}

/// GetContextKeysForPrincipalPolicy: lists the condition keys in the policies of a user, group or
/// role, including those of the user's groups and the permissions boundary, and in the policies
/// that the request contains.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetContextKeysForPrincipalPolicy {
    policy_source_arn: String,
    policy_input_list: Option<Vec<String>>,
}

/// The condition keys in Condition elements and policy variables (`${…}`), as the policies spell
/// them, without duplicates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContextKeys {
    context_key_names: Vec<String>,
}

impl Action for GetContextKeysForCustomPolicy {
    const NAME: &'static str = "GetContextKeysForCustomPolicy";
    const READ_ONLY: bool = true;
    type Output = ContextKeys;

    async fn run(self, cx: &mut Context<'_>) -> Result<ContextKeys, Error> {
        permit::<Self>(cx, &Resource::any())?;
        Ok(ContextKeys::of(&input_policies(&self.policy_input_list)?))
    }
}

impl Action for GetContextKeysForPrincipalPolicy {
    const NAME: &'static str = "GetContextKeysForPrincipalPolicy";
    const READ_ONLY: bool = true;
    type Output = ContextKeys;

    async fn run(self, cx: &mut Context<'_>) -> Result<ContextKeys, Error> {
        let stored = StoredPrincipal::read::<Self>(cx, &self.policy_source_arn).await?;
        let more = input_policies(&self.policy_input_list.unwrap_or_default())?;
        let own = stored.policies;
        Ok(ContextKeys::of(
            own.identity.iter().chain(&own.boundary).chain(&more),
        ))
    }
}

impl ContextKeys {
    fn of<'a>(policies: impl IntoIterator<Item = &'a SourcePolicy>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in policies.into_iter().flat_map(|p| p.policy.context_keys()) {
            if !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                names.push(name.clone());
            }
        }
        Self {
            context_key_names: names,
        }
    }
}
