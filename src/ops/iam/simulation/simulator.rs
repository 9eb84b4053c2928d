//! Decides every action on every resource of a simulation, within limits on size and time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answer::{
    ActionResult, OrganizationsDecision, ResourceResult, Results, Statement, boundary_decision,
    by_kind, decision, rank,
};
use super::scenario::{ContextKey, Scenario};
use super::sources::{PolicySet, SourcePolicy};
use crate::base::arn::{AccountId, Arn};
use crate::base::clock::Timestamp;
use crate::error::Error;
use crate::evaluator::{
    Outcome, Principal, Request, RequestContext, Simulation, Source, StatementRef, simulate,
};
use crate::ops::context::Context;
use crate::ops::iam::page::PageEnd;
use crate::trust::{self, SimulatedPrincipal};

/// The time limit for computing a page. Once it is reached, the page ends after the current action,
/// and its marker continues with the next one.
const PAGE_TIME: Duration = Duration::from_millis(500);
/// The number of matched statements after which a page ends with the current action.
const PAGE_STATEMENTS: usize = 10_000;
/// The time limit for the decisions on one action.
const ACTION_TIME: Duration = Duration::from_secs(5);
/// The maximum number of resources times statements, which limits the size of one result.
const MAX_COMPARISONS: usize = 10_000;

/// A simulation after its parameters have been checked and its policies compiled.
pub(super) struct Simulator {
    actions: Vec<String>,
    resources: Vec<String>,
    /// Whether the request names resources other than `*`. Each resource then has a result of its
    /// own.
    has_single_resources: bool,
    policies: PolicySet,
    resource_policy: Option<(SourcePolicy, bool)>,
    caller: Option<SimulatedPrincipal>,
    /// The account of the simulated caller, or that of the calling principal if the simulation has
    /// no caller.
    account: AccountId,
    /// The account that owns the resources whose ARN names no account.
    owner: AccountId,
    context: Vec<ContextKey>,
    now: Timestamp,
    /// The index of the first action on this page, and the maximum number of actions on it.
    page: (usize, usize),
}

impl Simulator {
    /// Checks the parameters of a simulation. `source` is the principal that the policies belong
    /// to, if they belong to one; `account` is the account of the calling principal.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for the first parameter that breaks a rule, and
    /// [`Error::InvalidMarker`] for a marker that no answer to this request contained.
    pub fn new(
        scenario: Scenario,
        policies: PolicySet,
        source: Option<SimulatedPrincipal>,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (resources, has_single_resources) = scenario.resources()?;
        scenario.check_actions(resources.len())?;
        let resource_policy = scenario.resource_policy()?;
        let owner = scenario.owner()?;
        let named = scenario.caller()?;
        let source_is_principal = source
            .as_ref()
            .is_some_and(SimulatedPrincipal::is_principal);
        if resource_policy.is_some() && named.is_none() && !source_is_principal {
            let rule = "CallerArn is required with a ResourcePolicy, unless PolicySourceArn is a user or role.";
            return Err(Error::InvalidInput(rule.into()));
        }
        // The principal's own id and tags are only used with its own policies.
        let caller = match (named, source) {
            (Some(named), Some(source)) if named.arn == source.arn => Some(source),
            (None, source) => source,
            (named, _) => named,
        };
        let account = caller.as_ref().map_or(account, |caller| caller.account);
        // The marker is the number of the actions on earlier pages.
        let first = match scenario.page.after()? {
            "" => 0,
            before => before
                .parse()
                .ok()
                .filter(|first| (1..scenario.action_names.len()).contains(first))
                .ok_or(Error::InvalidMarker)?,
        };
        let context = scenario.context()?;
        let resource_statements = resource_policy.as_ref().map_or(0, |(p, _)| p.statements());
        let statements = policies.statements() + resource_statements;
        if resources.len().saturating_mul(statements) > MAX_COMPARISONS {
            let rule = format!(
                "A simulation may compare at most {MAX_COMPARISONS} pairs of a resource and a statement, but \
                 this one has {} resources and {statements} statements: use fewer ResourceArns or policies.",
                resources.len()
            );
            return Err(Error::InvalidInput(rule));
        }
        let items = scenario.page.limit();
        Ok(Self {
            actions: scenario.action_names,
            resources,
            has_single_resources,
            policies,
            resource_policy,
            caller,
            account,
            owner: owner.unwrap_or(account),
            context,
            now,
            page: (first, items),
        })
    }

    /// Computes one page of results on a separate thread, so that it does not delay other calls.
    ///
    /// # Errors
    /// [`Error::PolicyEvaluation`] if the decisions for one action take too long, and [`Error::InternalFailure`] if the
    /// thread panics.
    pub async fn run(self, cx: &Context<'_>) -> Result<Results, Error> {
        // A long simulation takes a processor for a while; others wait for their turn.
        let permit = cx.broker.simulations.acquire().await;
        let clock = cx.broker.clock.clone();
        let begun = clock.monotonic();
        let page = tokio::task::spawn_blocking(move || {
            self.page(|| clock.monotonic().saturating_sub(begun))
        });
        let page = page.await;
        drop(permit);
        page.map_err(|_| Error::InternalFailure)?
    }

    /// Computes one page. `elapsed` returns the time since the computation began.
    fn page(&self, elapsed: impl Fn() -> Duration) -> Result<Results, Error> {
        let (first, items) = self.page;
        let mut evaluation_results = Vec::new();
        let mut statements = 0;
        for action in self.actions.iter().skip(first).take(items) {
            let is_full = elapsed() >= PAGE_TIME || statements >= PAGE_STATEMENTS;
            if is_full && !evaluation_results.is_empty() {
                break;
            }
            let result = self.action(action, &elapsed)?;
            statements += result.statements();
            evaluation_results.push(result);
        }
        let next = first + evaluation_results.len();
        let end = if next < self.actions.len() {
            PageEnd::after(&next.to_string())
        } else {
            PageEnd::of_the_list()
        };
        Ok(Results {
            evaluation_results,
            end,
        })
    }

    /// Simulates one action on all resources. Its result is the most restrictive of the decisions.
    fn action(&self, action: &str, elapsed: &impl Fn() -> Duration) -> Result<ActionResult, Error> {
        let begun = elapsed();
        let mut simulated: Vec<(&String, Simulation)> = Vec::with_capacity(self.resources.len());
        for resource in &self.resources {
            if elapsed().saturating_sub(begun) >= ACTION_TIME {
                return Err(Error::PolicyEvaluation);
            }
            simulated.push((resource, self.decide(action, resource)));
        }
        let outcomes = simulated.iter().map(|(_, simulation)| simulation.outcome);
        let outcome = outcomes
            .max_by_key(rank)
            .unwrap_or(Outcome::ImplicitlyDenied);
        let (mut matched, mut missing) = (Vec::new(), Vec::new());
        for (_, simulation) in &simulated {
            if simulation.outcome == outcome {
                add(&mut matched, self.statements(&simulation.matched));
            }
            add(&mut missing, self.spelt(&simulation.missing_keys));
        }
        let all = |part: fn(&Simulation) -> Option<bool>| {
            let mut parts = simulated.iter().filter_map(|(_, s)| part(s)).peekable();
            parts.peek().is_some().then(|| parts.all(|allowed| allowed))
        };
        let across = simulated
            .iter()
            .filter(|(resource, _)| self.is_cross_account(resource))
            .flat_map(|(_, simulation)| by_kind(simulation));
        let mut details: BTreeMap<&'static str, Outcome> = BTreeMap::new();
        for (kind, outcome) in across {
            let worst = details.entry(kind).or_insert(outcome);
            *worst = [*worst, outcome]
                .into_iter()
                .max_by_key(rank)
                .unwrap_or(outcome);
        }
        let details: BTreeMap<_, _> = details.into_iter().map(|(k, o)| (k, decision(o))).collect();
        let boundary = all(|s| s.boundary);
        let organizations = all(|s| s.organization);
        Ok(ActionResult {
            eval_action_name: action.to_owned(),
            eval_resource_name: "*",
            eval_decision: decision(outcome),
            matched_statements: matched,
            missing_context_values: missing,
            organizations_decision_detail: organizations.map(|allowed_by_organizations| {
                OrganizationsDecision {
                    allowed_by_organizations,
                }
            }),
            permissions_boundary_decision_detail: boundary.map(boundary_decision),
            // AWS leaves it out for `*`, and has it without entries in the same account.
            eval_decision_details: (self.has_single_resources || !details.is_empty())
                .then_some(details),
            resource_specific_results: self.has_single_resources.then(|| {
                simulated
                    .iter()
                    .map(|(resource, simulation)| self.resource(resource, simulation))
                    .collect()
            }),
        })
    }

    fn resource(&self, resource: &str, simulation: &Simulation) -> ResourceResult {
        let details = by_kind(simulation).map(|(kind, outcome)| (kind, decision(outcome)));
        ResourceResult {
            eval_resource_name: resource.to_owned(),
            eval_resource_decision: decision(simulation.outcome),
            matched_statements: self.statements(&simulation.matched),
            missing_context_values: self.spelt(&simulation.missing_keys),
            eval_decision_details: self.is_cross_account(resource).then(|| details.collect()),
            permissions_boundary_decision_detail: simulation.boundary.map(boundary_decision),
        }
    }

    /// Simulates one action on one resource, with the policies and condition keys of the
    /// simulation.
    fn decide(&self, action: &str, resource: &str) -> Simulation {
        let owner = self.owner_of(resource);
        let mut context = RequestContext::new();
        trust::describe_request(&mut context, owner.as_str(), self.now);
        if let Some(caller) = &self.caller {
            caller.describe(&mut context);
        }
        for key in &self.context {
            key.set(&mut context);
        }
        let nobody = Principal::User {
            account: self.account.as_str(),
            arn: "",
            id: None,
        };
        let principal = self
            .caller
            .as_ref()
            .map_or(nobody, SimulatedPrincipal::principal);
        let request = Request {
            principal,
            action,
            resource,
            resource_account: owner.as_str(),
            context: &context,
        };
        let policy = self.resource_policy.as_ref();
        self.policies.with(
            policy.map(|(policy, _)| policy),
            policy.is_some_and(|(_, is_trust)| *is_trust),
            |policies| simulate(&request, policies),
        )
    }

    /// Returns the account that owns a resource: the account in its ARN, or else the one in `ResourceOwner`, or else
    /// that of the caller.
    fn owner_of(&self, resource: &str) -> AccountId {
        Arn::parse(resource)
            .and_then(|arn| AccountId::parse(arn.account))
            .unwrap_or(self.owner)
    }

    fn is_cross_account(&self, resource: &str) -> bool {
        self.owner_of(resource) != self.account
    }

    fn statements(&self, matched: &[StatementRef]) -> Vec<Statement> {
        let shown = |at: &StatementRef| {
            let (policy, source_policy_type) = match at.source {
                Source::Identity(i) => (self.policies.identity.get(i)?, "IAM Policy"),
                Source::Boundary => (self.policies.boundary.as_ref()?, "IAM Policy"),
                Source::Resource => (&self.resource_policy.as_ref()?.0, "Resource Policy"),
                Source::Session(_)
                | Source::ScopeDown(_)
                | Source::ServiceControl(..)
                | Source::ResourceControl(..) => return None,
            };
            let span = policy.policy.span(at.index);
            Some(Statement {
                source_policy_id: policy.id.clone(),
                source_policy_type,
                start_position: span.map(|span| span.start.into()),
                end_position: span.map(|span| span.end.into()),
            })
        };
        matched.iter().filter_map(shown).collect()
    }

    /// Returns condition keys in the spelling of the first policy that uses them, because the
    /// evaluator knows them in lower case.
    fn spelt(&self, keys: &[String]) -> Vec<String> {
        let policies = || {
            let identity = self.policies.identity.iter();
            let resource = self.resource_policy.as_ref().map(|(policy, _)| policy);
            identity.chain(resource).chain(&self.policies.boundary)
        };
        let spelt = |key: &String| {
            let spelling = policies()
                .flat_map(|policy| policy.policy.context_keys())
                .find(|spelling| spelling.eq_ignore_ascii_case(key));
            spelling.unwrap_or(key).clone()
        };
        keys.iter().map(spelt).collect()
    }
}

fn add<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for item in more {
        if !all.contains(&item) {
            all.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::sources::input_policies;
    use super::*;

    const ALL: &str = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;

    /// A simulation of so many actions on so many resources, by so many statements.
    fn simulator(actions: usize, resources: usize, statements: usize) -> Result<Simulator, Error> {
        let statement = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
        let text = format!(
            r#"{{"Statement":[{}]}}"#,
            vec![statement; statements].join(",")
        );
        let arn = |n| format!("arn:aws:s3:::bucket/{n}");
        let scenario = Scenario {
            action_names: (0..actions).map(|n| format!("s3:Act{n}")).collect(),
            resource_arns: Some((0..resources).map(arn).collect()),
            ..Scenario::default()
        };
        let policies = PolicySet {
            identity: input_policies(&[text]).unwrap(),
            ..PolicySet::default()
        };
        let account = AccountId::parse("111122223333").unwrap();
        Simulator::new(
            scenario,
            policies,
            None,
            account,
            Timestamp::from_seconds(0),
        )
    }

    fn names(results: &Results) -> Vec<&str> {
        let results = results.evaluation_results.iter();
        results.map(|r| r.eval_action_name.as_str()).collect()
    }

    #[test]
    fn a_page_ends_when_its_time_is_over_or_it_is_full() {
        let simulator = simulator(5, 2, 1).unwrap();
        // The clock is read before each action and in it before each resource.
        let reads = Cell::new(0u64);
        let results = simulator
            .page(|| {
                reads.set(reads.get() + 1);
                Duration::from_millis(reads.get() * 50)
            })
            .unwrap();
        assert_eq!(names(&results), ["s3:Act0", "s3:Act1", "s3:Act2"]);
        assert_eq!(results.end, PageEnd::after("3"));
        // Even the slowest page has one action, so that a caller comes to the end.
        let results = simulator.page(|| Duration::from_secs(1)).unwrap();
        assert_eq!(names(&results), ["s3:Act0"]);
        let full = super::tests::simulator(5, 100, 100).unwrap();
        let results = full.page(|| Duration::ZERO).unwrap();
        assert_eq!(results.evaluation_results.len(), 1);
        assert_eq!(results.evaluation_results[0].statements(), 100 * 100 + 100);
    }

    #[test]
    fn the_decisions_for_one_action_have_a_limit_of_time() {
        let elapsed = Cell::new(Duration::ZERO);
        let refused = simulator(1, 2, 1)
            .unwrap()
            .page(|| elapsed.replace(elapsed.get() + Duration::from_secs(3)))
            .unwrap_err();
        assert_eq!(refused.code(), "PolicyEvaluation");
    }

    #[test]
    fn the_number_of_decisions_and_comparisons_is_bounded() {
        for (actions, resources, statements, accepted) in [
            (10, 1_000, 1, true),
            (11, 1_000, 1, false),
            (1, 100, 100, true),
            (1, 101, 100, false),
            (1, 10_000, 1, true),
        ] {
            let made = simulator(actions, resources, statements);
            assert_eq!(made.is_ok(), accepted, "{actions} {resources} {statements}");
            if let Err(error) = made {
                assert_eq!(error.code(), "InvalidInput");
            }
        }
    }

    #[test]
    fn the_decision_on_several_resources_is_the_most_restrictive() {
        let mut simulator = simulator(1, 3, 1).unwrap();
        let deny = r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"arn:aws:s3:::bucket/1"},{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        simulator.policies.identity = input_policies(&[ALL.to_owned(), deny.to_owned()]).unwrap();
        let results = simulator.page(|| Duration::ZERO).unwrap();
        let result = &results.evaluation_results[0];
        assert_eq!(result.eval_decision, "explicitDeny");
        // Only the statement that denies, once.
        let matched: Vec<_> = result
            .matched_statements
            .iter()
            .map(|s| &*s.source_policy_id)
            .collect();
        assert_eq!(matched, ["PolicyInputList.2"]);
        let single = result.resource_specific_results.as_ref().unwrap();
        let decisions: Vec<_> = single.iter().map(|r| r.eval_resource_decision).collect();
        assert_eq!(decisions, ["allowed", "explicitDeny", "allowed"]);
        assert_eq!(single[0].matched_statements.len(), 2);
        assert_eq!(single[1].matched_statements.len(), 1);
    }
}
