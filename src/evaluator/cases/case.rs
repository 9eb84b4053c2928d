//! Reads a test case from a line of JSON and compiles its request and policies.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::evaluator::{
    Policies, Policy, PolicyKind, Principal, Request, RequestContext, SessionPolicies,
};

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
    #[serde(default)]
    scope_down: Vec<Box<RawValue>>,
    boundary: Option<Box<RawValue>>,
    scp: Option<Vec<Vec<Box<RawValue>>>>,
    rcp: Option<Vec<Vec<Box<RawValue>>>>,
}

/// The kind of document that a case calls `identity`, `boundary`, `session`, `trust`, `resource`,
/// `scp` or `rcp`.
pub fn kind(name: &str) -> Option<PolicyKind> {
    Some(match name {
        "identity" => PolicyKind::Identity,
        "boundary" => PolicyKind::Boundary,
        "session" => PolicyKind::Session,
        "trust" => PolicyKind::Trust,
        "resource" => PolicyKind::Resource,
        "scp" => PolicyKind::ServiceControl,
        "rcp" => PolicyKind::ResourceControl,
        _ => return None,
    })
}

pub(super) struct Case {
    pub name: String,
    /// The expected decision; `None` accepts any.
    pub expect: Option<String>,
    pub body: Body,
}

/// The subject of the case: whether a document is valid, or how a request is decided.
pub(super) enum Body {
    Document(Result<(), String>),
    Request(Box<Parsed>),
}

/// The error about a line that is not a valid case, or cannot be explained.
#[derive(Debug)]
pub struct BadLine {
    /// The case's name; empty if the line could not be read.
    pub name: String,
    /// Why the line is not a valid case, or why the case cannot be explained.
    pub text: String,
}

/// A request and its compiled policies.
pub(super) struct Parsed {
    request: CaseRequest,
    trust: bool,
    identity: Vec<Policy>,
    resource: Option<Policy>,
    session: Option<Vec<Policy>>,
    scope_down: Vec<Policy>,
    boundary: Option<Policy>,
    scp: Option<Vec<Vec<Policy>>>,
    rcp: Option<Vec<Vec<Policy>>>,
}

/// Reads a line and compiles its policies.
pub(super) fn read(line: &str) -> Result<Case, BadLine> {
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
            let kind = kind(name).ok_or_else(|| bad(format!("`{name}` is not a kind of policy document: use identity, boundary, session, trust, resource, scp or rcp")))?;
            Body::Document(
                Policy::parse(kind, text)
                    .map(|_| ())
                    .map_err(|e| e.to_string()),
            )
        }
        _ => {
            return Err(bad(
                "a case must have either `request` and `policies`, or `kind` and `policy`"
                    .to_owned(),
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
    // For `sts:*` actions, the resource's policy is the role's trust policy.
    let trust = policies.resource.is_some()
        && request
            .action
            .get(..4)
            .is_some_and(|s| s.eq_ignore_ascii_case("sts:"));
    let resource_kind = if trust {
        PolicyKind::Trust
    } else {
        PolicyKind::Resource
    };
    Ok(Parsed {
        trust,
        identity: list(PolicyKind::Identity, "identity", &policies.identity)?,
        resource: policies
            .resource
            .as_ref()
            .map(|d| one(resource_kind, "resource", d))
            .transpose()?,
        session: policies
            .session
            .as_ref()
            .map(|docs| list(PolicyKind::Session, "session", docs))
            .transpose()?,
        scope_down: list(PolicyKind::Session, "scope_down", &policies.scope_down)?,
        boundary: policies
            .boundary
            .as_ref()
            .map(|d| one(PolicyKind::Boundary, "boundary", d))
            .transpose()?,
        scp: levels(PolicyKind::ServiceControl, "scp", &policies.scp)?,
        rcp: levels(PolicyKind::ResourceControl, "rcp", &policies.rcp)?,
        request,
    })
}

impl Parsed {
    /// Calls `judge` with the request and its policies, and returns the result.
    pub fn with<T>(&self, judge: fn(&Request<'_>, &Policies<'_>) -> T) -> T {
        let mut context = RequestContext::new();
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
        let scope_down: Vec<&Policy> = self.scope_down.iter().collect();
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
            session: SessionPolicies {
                passed: session.as_deref(),
                scope_down: &scope_down,
            },
            boundary: self.boundary.as_ref(),
            service_control: scp.as_deref(),
            resource_control: rcp.as_deref(),
        };
        judge(&request, &policies)
    }
}

/// Reads a principal: a user, role session or federated user by ARN, an identity provider for the
/// two actions that accept one, and otherwise a service.
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
