#![no_main]
//! No policy and request make a decision panic, and an explanation always reports the same
//! decision.

use brevet::evaluator::{
    Policies, Policy, PolicyKind, Principal, Request, RequestContext, evaluate, explain,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, Vec<(&str, &str)>, bool)| {
    let (text, action, resource, keys, many) = input;
    let Ok(policy) = Policy::parse(PolicyKind::Identity, text) else {
        return;
    };
    let mut context = RequestContext::new();
    for (key, value) in keys.iter().take(16) {
        if many {
            context.set_many(*key, vec![(*value).into()]);
        } else {
            context.set(*key, *value);
        }
    }
    let principal = Principal::User {
        account: "111122223333",
        arn: "arn:aws:iam::111122223333:user/alice",
        id: None,
    };
    let request = Request {
        principal,
        action,
        resource,
        resource_account: "111122223333",
        context: &context,
    };
    let policies = Policies {
        identity: &[&policy],
        ..Policies::default()
    };
    assert_eq!(
        evaluate(&request, &policies),
        explain(&request, &policies).decision
    );
});
