//! The claims of Kubernetes' service-account tokens: Kubernetes documentation, "Managing Service
//! Accounts", "Schema for service account private claims".

use serde_json::{Map, Value};

use crate::proof::jwt::Verified;

/// The claim that contains all claims of Kubernetes.
const CLAIM: &str = "kubernetes.io";
/// The maximum length of an object's name in bytes. The name is a subdomain (RFC 1123).
const MAX_NAME: usize = 253;

/// The claims of a service account's token about the pod to which it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
    /// The pod to which the token is bound, by name and uid; `None` if it is not bound to a pod.
    pub pod: Option<(String, String)>,
    /// The node on which the pod runs; `None` if the token does not say.
    pub node: Option<String>,
}

/// Reads the claims. `None` if the token is not that of a service account, or its subject is a different one.
pub fn service_account(token: &Verified) -> Option<ServiceAccount> {
    let claims = token.claims().get(CLAIM)?.as_object()?;
    let namespace = text(claims.get("namespace"))?;
    let name = named(claims, "serviceaccount", "name")?;
    if token.text("sub") != Some(format!("system:serviceaccount:{namespace}:{name}").as_str()) {
        return None;
    }
    let pod = named(claims, "pod", "name").zip(named(claims, "pod", "uid"));
    Some(ServiceAccount {
        namespace,
        name,
        pod,
        node: named(claims, "node", "name"),
    })
}

fn named(claims: &Map<String, Value>, object: &str, field: &str) -> Option<String> {
    text(claims.get(object)?.get(field))
}

/// Reads a text that can be the name or the uid of an object.
fn text(value: Option<&Value>) -> Option<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    let text = value?.as_str()?;
    let is_name = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(legal);
    is_name.then(|| text.to_owned())
}
