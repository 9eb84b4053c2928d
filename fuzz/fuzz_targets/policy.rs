#![no_main]
//! No text makes the policy parser panic, and every accepted policy can be evaluated, annotated and
//! simulated.

use brevet::evaluator::{
    AnnotatedPolicy, Policies, Policy, PolicyKind, Principal, Request, RequestContext, evaluate,
    simulate,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for kind in [
        PolicyKind::Identity,
        PolicyKind::Boundary,
        PolicyKind::Session,
        PolicyKind::Trust,
        PolicyKind::Resource,
        PolicyKind::ServiceControl,
        PolicyKind::ResourceControl,
    ] {
        let Ok(policy) = Policy::parse(kind, text) else {
            continue;
        };
        let mut context = RequestContext::new();
        context.set("aws:username", text.get(..16).unwrap_or("alice"));
        let arn = "arn:aws:iam::111122223333:user/alice";
        let request = Request {
            principal: Principal::User {
                account: "111122223333",
                arn,
                id: None,
            },
            action: "sts:AssumeRole",
            resource: "arn:aws:iam::111122223333:role/Deploy",
            resource_account: "111122223333",
            context: &context,
        };
        let policies = Policies {
            identity: &[&policy],
            resource: Some(&policy),
            ..Policies::default()
        };
        let decision = evaluate(&request, &policies);
        assert_eq!(simulate(&request, &policies).outcome, decision.outcome);
        let annotated = AnnotatedPolicy::parse(kind, text).expect("Policy::parse accepts it");
        assert!(annotated.span(policy.statement_count() - 1).is_some());
    }
});
