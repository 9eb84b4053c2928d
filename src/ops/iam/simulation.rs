//! Simulated requests: IAM API Reference, "SimulateCustomPolicy" and "SimulatePrincipalPolicy", with results in the
//! form that AWS has used since 2026: one result for each action, which contains one for each resource.
//!
//! The evaluator that decides real requests decides simulated ones, too. A simulation uses the policies and condition
//! keys in its request, and the policies, the id and the tags of the stored principal that the request names. It does
//! not know the trust policies and network addresses of real requests.

mod answer;
mod principal;
mod scenario;
mod simulator;
mod sources;

use serde::Deserialize;
use serde::de::IgnoredAny;

use self::answer::Results;
use self::scenario::Scenario;
use self::simulator::Simulator;
use self::sources::PolicySet;
use super::action::{Action, Resource, permit};
use crate::error::Error;
use crate::evaluator::PolicyKind;
use crate::ops::context::Context;

pub(super) use principal::StoredPrincipal;
pub(super) use sources::{SourcePolicy, input_policies};

/// SimulateCustomPolicy: simulates requests with the policies that the request contains.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SimulateCustomPolicy {
    policy_input_list: Vec<String>,
    permissions_boundary_policy_input_list: Option<Vec<String>>,
    ordered_organization_policy_input_list: Option<Vec<OrganizationLevel>>,
    #[serde(flatten)]
    scenario: Scenario,
}

/// The service control policies of one level of an organization.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OrganizationLevel {
    service_control_policy_input_list: Option<Vec<String>>,
}

impl Action for SimulateCustomPolicy {
    const NAME: &'static str = "SimulateCustomPolicy";
    const READ_ONLY: bool = true;
    type Output = Results;

    async fn run(self, cx: &mut Context<'_>) -> Result<Results, Error> {
        permit::<Self>(cx, &Resource::any())?;
        let identity = input_policies(&self.policy_input_list)?;
        let boundary = sources::input_boundary(self.permissions_boundary_policy_input_list)?;
        let levels = self.ordered_organization_policy_input_list.map(|levels| {
            let level = |(at, level): (usize, OrganizationLevel)| {
                let documents = level.service_control_policy_input_list.unwrap_or_default();
                let place = format!(
                    "OrderedOrganizationPolicyInputList.{}.ServiceControlPolicyInputList",
                    at + 1
                );
                sources::parsed(&place, PolicyKind::ServiceControl, &documents)
            };
            levels.into_iter().enumerate().map(level).collect()
        });
        let policies = PolicySet {
            identity,
            boundary,
            service_control: levels.transpose()?,
        };
        let account = cx.caller().account();
        let simulator = Simulator::new(self.scenario, policies, None, account, cx.now)?;
        simulator.run(cx).await
    }
}

/// SimulatePrincipalPolicy: simulates requests with the stored policies of a user, group or role,
/// including those of a user's groups and the permissions boundary.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SimulatePrincipalPolicy {
    policy_source_arn: String,
    policy_input_list: Option<Vec<String>>,
    permissions_boundary_policy_input_list: Option<Vec<String>>,
    policy_exclusion_list: Option<Vec<IgnoredAny>>,
    #[serde(flatten)]
    scenario: Scenario,
}

impl Action for SimulatePrincipalPolicy {
    const NAME: &'static str = "SimulatePrincipalPolicy";
    const READ_ONLY: bool = true;
    type Output = Results;

    async fn run(self, cx: &mut Context<'_>) -> Result<Results, Error> {
        let stored = StoredPrincipal::read::<Self>(cx, &self.policy_source_arn).await?;
        if self
            .policy_exclusion_list
            .is_some_and(|list| !list.is_empty())
        {
            let rule = "PolicyExclusionList is not supported. Simulate the other policies with SimulateCustomPolicy.";
            return Err(Error::InvalidInput(rule.to_owned()));
        }
        let mut policies = stored.policies;
        policies
            .identity
            .extend(input_policies(&self.policy_input_list.unwrap_or_default())?);
        // A boundary of the request takes the place of the principal's own.
        let boundary = sources::input_boundary(self.permissions_boundary_policy_input_list)?;
        policies.boundary = boundary.or(policies.boundary);
        let account = cx.caller().account();
        let source = Some(stored.principal);
        let simulator = Simulator::new(self.scenario, policies, source, account, cx.now)?;
        simulator.run(cx).await
    }
}
