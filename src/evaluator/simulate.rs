//! Cases in the format of `tests/data/policy/FORMAT.md`: a request and the policies in force, or a
//! document that may be malformed. Read from a line of JSON, decided, and compared with what the
//! line expects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Context, Decision, Explanation, Kind, Outcome, Policies, Policy, Principal, Request, Source,
    StatementRef, evaluate, explain,
};

/// What came of a line.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The case's name; empty when the line could not be read.
    pub name: String,
    /// `Allowed`, `ExplicitlyDenied`, `ImplicitlyDenied`; `accept` or `reject` of a document;
    /// `error` when the line is no case.
    pub decision: String,
    /// The statement that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// Why a document or a line was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the line expects something else.
    #[serde(skip)]
    pub differs: bool,
}

#[derive(Deserialize)]
struct Line {
    name: String,
    expect: Option<String>,
    request: Option<CaseRequest>,
    policies: Option<CasePolicies>,
    kind: Option<String>,
    policy: Option<String>,
}

#[derive(Deserialize)]
struct CaseRequest {
    principal: String,
    action: String,
    resource: String,
    resource_account: String,
    #[serde(default)]
    context: BTreeMap<String, CaseValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CaseValue {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct CasePolicies {
    #[serde(default)]
    identity: Vec<Box<RawValue>>,
    resource: Option<Box<RawValue>>,
    session: Option<Vec<Box<RawValue>>>,
    boundary: Option<Box<RawValue>>,
    scp: Option<Vec<Vec<Box<RawValue>>>>,
    rcp: Option<Vec<Vec<Box<RawValue>>>>,
}

/// The kind that a document case names.
pub fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "identity" => Kind::Identity,
        "boundary" => Kind::Boundary,
        "session" => Kind::Session,
        "trust" => Kind::Trust,
        "resource" => Kind::Resource,
        "scp" => Kind::ServiceControl,
        "rcp" => Kind::ResourceControl,
        _ => return None,
    })
}

/// Decides one line. A line that is no case is a verdict too, so that it does not stop the rest.
pub fn simulate(line: &str) -> Verdict {
    match read(line) {
        Err(error) => Verdict {
            name: error.name,
            decision: "error".into(),
            matched: None,
            error: Some(error.text),
            differs: true,
        },
        Ok(case) => {
            let (decision, matched, error) = match case.body {
                Body::Document(Ok(())) => ("accept".to_owned(), None, None),
                Body::Document(Err(error)) => ("reject".to_owned(), None, Some(error)),
                Body::Request(request) => {
                    let decision = request.with(evaluate);
                    (outcome(&decision).to_owned(), decision.by.map(place), None)
                }
            };
            let differs = case.expect.is_some_and(|e| e != decision);
            Verdict {
                name: case.name,
                decision,
                matched,
                error,
                differs,
            }
        }
    }
}

/// Explains the decision of one line.
///
/// # Errors
/// When the line is no case of a request.
pub fn explain_case(line: &str) -> Result<(String, Explanation), String> {
    let case = read(line).map_err(|e| e.text)?;
    match case.body {
        Body::Request(request) => Ok((case.name, request.with(explain))),
        Body::Document(_) => Err("is a case of a document, which has no decision".to_owned()),
    }
}

/// As cases and people name it.
pub fn outcome(decision: &Decision) -> &'static str {
    match decision.outcome {
        Outcome::Allowed => "Allowed",
        Outcome::ExplicitlyDenied => "ExplicitlyDenied",
        Outcome::ImplicitlyDenied => "ImplicitlyDenied",
    }
}

/// `identity[0].Statement[2]`
pub fn place(by: StatementRef) -> String {
    let policy = match by.source {
        Source::Identity(i) => format!("identity[{i}]"),
        Source::Resource => "resource".to_owned(),
        Source::Session(i) => format!("session[{i}]"),
        Source::Boundary => "boundary".to_owned(),
        Source::ServiceControl(level, i) => format!("scp[{level}][{i}]"),
        Source::ResourceControl(level, i) => format!("rcp[{level}][{i}]"),
    };
    format!("{policy}.Statement[{}]", by.index)
}

struct Case {
    name: String,
    expect: Option<String>,
    body: Body,
}

enum Body {
    Document(Result<(), String>),
    Request(Box<Parsed>),
}

struct BadLine {
    name: String,
    text: String,
}

/// A request with its policies compiled.
struct Parsed {
    request: CaseRequest,
    trust: bool,
    identity: Vec<Policy>,
    resource: Option<Policy>,
    session: Option<Vec<Policy>>,
    boundary: Option<Policy>,
    scp: Option<Vec<Vec<Policy>>>,
    rcp: Option<Vec<Vec<Policy>>>,
}

fn read(line: &str) -> Result<Case, BadLine> {
    let line: Line = serde_json::from_str(line).map_err(|e| BadLine {
        name: String::new(),
        text: e.to_string(),
    })?;
    let bad = |text: String| BadLine {
        name: line.name.clone(),
        text,
    };
    let body = match (line.request, line.policies, &line.kind, &line.policy) {
        (Some(request), Some(policies), None, None) => {
            Body::Request(Box::new(compile(request, &policies).map_err(bad)?))
        }
        (None, None, Some(name), Some(text)) => {
            let kind = kind(name).ok_or_else(|| bad(format!("`{name}` is no kind of document")))?;
            Body::Document(
                Policy::parse(kind, text)
                    .map(|_| ())
                    .map_err(|e| e.to_string()),
            )
        }
        _ => {
            return Err(bad(
                "a case has `request` and `policies`, or `kind` and `policy`".to_owned(),
            ));
        }
    };
    Ok(Case {
        name: line.name,
        expect: line.expect,
        body,
    })
}

fn compile(request: CaseRequest, policies: &CasePolicies) -> Result<Parsed, String> {
    let one = |kind, what: &str, doc: &RawValue| {
        Policy::parse(kind, doc.get()).map_err(|e| format!("{what}: {e}"))
    };
    let list = |kind, what: &str, docs: &[Box<RawValue>]| {
        docs.iter()
            .map(|d| one(kind, what, d))
            .collect::<Result<Vec<_>, _>>()
    };
    let levels = |kind, what: &str, levels: &Option<Vec<Vec<Box<RawValue>>>>| {
        levels
            .as_ref()
            .map(|l| {
                l.iter()
                    .map(|docs| list(kind, what, docs))
                    .collect::<Result<Vec<_>, _>>()
            })
            .transpose()
    };
    // For `sts:*` actions the resource's policy is the role's trust policy.
    let trust = policies.resource.is_some()
        && request
            .action
            .get(..4)
            .is_some_and(|s| s.eq_ignore_ascii_case("sts:"));
    let resource_kind = if trust { Kind::Trust } else { Kind::Resource };
    Ok(Parsed {
        trust,
        identity: list(Kind::Identity, "identity", &policies.identity)?,
        resource: policies
            .resource
            .as_ref()
            .map(|d| one(resource_kind, "resource", d))
            .transpose()?,
        session: policies
            .session
            .as_ref()
            .map(|docs| list(Kind::Session, "session", docs))
            .transpose()?,
        boundary: policies
            .boundary
            .as_ref()
            .map(|d| one(Kind::Boundary, "boundary", d))
            .transpose()?,
        scp: levels(Kind::ServiceControl, "scp", &policies.scp)?,
        rcp: levels(Kind::ResourceControl, "rcp", &policies.rcp)?,
        request,
    })
}

impl Parsed {
    fn with<T>(&self, judge: fn(&Request<'_>, &Policies<'_>) -> T) -> T {
        let mut context = Context::new();
        for (name, value) in &self.request.context {
            match value {
                CaseValue::One(text) => context.set(name.as_str(), text.as_str()),
                CaseValue::Many(texts) => context.set_many(
                    name.as_str(),
                    texts.iter().map(|t| t.as_str().into()).collect(),
                ),
            }
        }
        let identity: Vec<&Policy> = self.identity.iter().collect();
        let session: Option<Vec<&Policy>> = self.session.as_ref().map(|s| s.iter().collect());
        let scp: Option<Vec<Vec<&Policy>>> = self
            .scp
            .as_ref()
            .map(|l| l.iter().map(|l| l.iter().collect()).collect());
        let rcp: Option<Vec<Vec<&Policy>>> = self
            .rcp
            .as_ref()
            .map(|l| l.iter().map(|l| l.iter().collect()).collect());
        let scp: Option<Vec<&[&Policy]>> =
            scp.as_ref().map(|l| l.iter().map(Vec::as_slice).collect());
        let rcp: Option<Vec<&[&Policy]>> =
            rcp.as_ref().map(|l| l.iter().map(Vec::as_slice).collect());
        let request = Request {
            principal: principal(&self.request.principal, &self.request.action),
            action: &self.request.action,
            resource: &self.request.resource,
            resource_account: &self.request.resource_account,
            context: &context,
        };
        let policies = Policies {
            identity: &identity,
            resource: self.resource.as_ref(),
            resource_is_trust: self.trust,
            session: session.as_deref(),
            boundary: self.boundary.as_ref(),
            service_control: scp.as_deref(),
            resource_control: rcp.as_deref(),
        };
        judge(&request, &policies)
    }
}

/// A user, a role session or a federated user by ARN; an identity provider for the two actions
/// that take one; a service otherwise.
fn principal<'a>(text: &'a str, action: &str) -> Principal<'a> {
    let federated = ["sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML"];
    if federated.iter().any(|a| a.eq_ignore_ascii_case(action)) {
        return Principal::Federated(text);
    }
    let mut parts = text.splitn(6, ':');
    let (Some("arn"), Some(_), Some(_), Some(_), Some(account), Some(resource)) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return Principal::Service(text);
    };
    let mut names = resource.split('/');
    match (names.next(), names.next(), names.next()) {
        (Some("assumed-role"), Some(role), Some(_)) => Principal::RoleSession {
            account,
            role,
            role_arn: None,
            arn: text,
            id: None,
        },
        (Some("federated-user"), Some(_), _) => Principal::FederatedUser { account, arn: text },
        _ => Principal::User {
            account,
            arn: text,
            id: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conforms(cases: &str) {
        let wrong: Vec<_> = cases.lines().map(simulate).filter(|v| v.differs).collect();
        assert!(
            wrong.is_empty(),
            "{} cases are wrong: {wrong:#?}",
            wrong.len()
        );
    }

    #[test]
    fn az_07_the_conformance_corpus_decides_as_expected() {
        conforms(include_str!("../../tests/data/policy/public.jsonl"));
        conforms(include_str!("../../tests/data/policy/language.jsonl"));
    }

    #[test]
    fn az_01_malformed_documents_are_refused() {
        conforms(include_str!(
            "../../tests/data/policy/malformed-public.jsonl"
        ));
        conforms(include_str!(
            "../../tests/data/policy/malformed-language.jsonl"
        ));
    }

    #[test]
    fn a_bad_line_is_a_verdict() {
        for line in [
            "",
            "{}",
            "[1]",
            r#"{"name":"x"}"#,
            r#"{"name":"x","kind":"other","policy":"{}"}"#,
        ] {
            assert_eq!(simulate(line).decision, "error", "{line}");
        }
    }

    #[test]
    fn every_decision_of_the_corpus_is_explained_alike() {
        let language = include_str!("../../tests/data/policy/language.jsonl");
        for line in include_str!("../../tests/data/policy/public.jsonl")
            .lines()
            .chain(language.lines())
        {
            let (name, explanation) = explain_case(line).unwrap();
            assert_eq!(
                outcome(&explanation.decision),
                simulate(line).decision,
                "{name}"
            );
        }
    }
}
