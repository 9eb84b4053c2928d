//! The conformance corpus in `tests/data/policy`: see its `FORMAT.md`.

use serde_json::Value as Json;

use super::*;

#[test]
fn decisions() {
    let cases = include_str!("../../tests/data/policy/public.jsonl");
    let mut wrong = Vec::new();
    for line in cases.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let got = format!("{:?}", decide(&case).outcome);
        if got != case["expect"].as_str().unwrap() {
            wrong.push(format!("{}: {} expected, {got} decided: {}", case["name"], case["expect"], case["why"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn malformed_documents() {
    let cases = include_str!("../../tests/data/policy/malformed-public.jsonl");
    let mut wrong = Vec::new();
    for line in cases.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let result = Policy::parse(kind(case["kind"].as_str().unwrap()), case["policy"].as_str().unwrap());
        if result.is_ok() != (case["expect"] == "accept") {
            wrong.push(format!("{}: {} expected, {result:?}", case["name"], case["expect"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn kind(name: &str) -> Kind {
    match name {
        "identity" => Kind::Identity,
        "boundary" => Kind::Boundary,
        "session" => Kind::Session,
        "trust" => Kind::Trust,
        "resource" => Kind::Resource,
        "scp" => Kind::ServiceControl,
        "rcp" => Kind::ResourceControl,
        other => panic!("unknown kind {other}"),
    }
}

fn decide(case: &Json) -> Decision {
    let (request, policies) = (&case["request"], &case["policies"]);
    let action = request["action"].as_str().unwrap();
    let trust = action.to_lowercase().starts_with("sts:") && policies["resource"].is_object();
    let parse =
        |kind, doc: &Json| Policy::parse(kind, &doc.to_string()).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    let list = |kind, docs: &Json| -> Vec<Policy> { docs.as_array().unwrap().iter().map(|d| parse(kind, d)).collect() };
    let levels = |kind, docs: &Json| -> Option<Vec<Vec<Policy>>> {
        Some(docs.as_array()?.iter().map(|l| list(kind, l)).collect())
    };

    let identity = list(Kind::Identity, &policies["identity"]);
    let resource_kind = if trust { Kind::Trust } else { Kind::Resource };
    let resource = policies["resource"].is_object().then(|| parse(resource_kind, &policies["resource"]));
    let session = policies["session"].is_array().then(|| list(Kind::Session, &policies["session"]));
    let boundary = policies["boundary"].is_object().then(|| parse(Kind::Boundary, &policies["boundary"]));
    let scp = levels(Kind::ServiceControl, &policies["scp"]);
    let rcp = levels(Kind::ResourceControl, &policies["rcp"]);

    let mut context = Context::new();
    for (key, value) in request["context"].as_object().unwrap() {
        match value {
            Json::String(text) => context.set(key.as_str(), text.as_str()),
            Json::Array(list) => {
                context.set_many(key.as_str(), list.iter().map(|v| v.as_str().unwrap().into()).collect())
            }
            other => panic!("{other}"),
        }
    }
    let refs = |list: &'static [Policy]| -> Vec<&'static Policy> { list.iter().collect() };
    // Leaked: a test's few hundred documents, so that slices of slices need no scaffolding.
    let leak = |list: Vec<Policy>| refs(Box::leak(list.into_boxed_slice()));
    let leak_levels = |levels: Option<Vec<Vec<Policy>>>| {
        levels.map(|l| l.into_iter().map(|l| &*Box::leak(leak(l).into_boxed_slice())).collect::<Vec<_>>())
    };
    let (identity, session) = (leak(identity), session.map(leak));
    let (scp, rcp) = (leak_levels(scp), leak_levels(rcp));
    let principal = request["principal"].as_str().unwrap();
    evaluate(
        &Request {
            principal: principal_of(principal, action),
            action,
            resource: request["resource"].as_str().unwrap(),
            resource_account: request["resource_account"].as_str().unwrap(),
            context: &context,
        },
        &Policies {
            identity: &identity,
            resource: resource.as_ref(),
            resource_is_trust: trust,
            session: session.as_deref(),
            boundary: boundary.as_ref(),
            service_control: scp.as_deref(),
            resource_control: rcp.as_deref(),
        },
    )
}

fn principal_of<'a>(text: &'a str, action: &str) -> Principal<'a> {
    if ["sts:assumerolewithwebidentity", "sts:assumerolewithsaml"].contains(&action.to_lowercase().as_str()) {
        return Principal::Federated(text);
    }
    let Some(rest) = text.strip_prefix("arn:") else { return Principal::Service(text) };
    let account = rest.split(':').nth(3).unwrap();
    let resource = rest.split(':').nth(4).unwrap();
    match resource.split('/').collect::<Vec<_>>()[..] {
        ["assumed-role", role, _] => Principal::RoleSession { account, role, arn: text },
        ["federated-user", ..] => Principal::FederatedUser { account, arn: text },
        ["user", ..] => Principal::User { account, arn: text },
        _ => panic!("{text}"),
    }
}
