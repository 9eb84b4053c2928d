//! The policies of a simulation, with the names that results use for them.

use crate::error::Error;
use crate::evaluator::{AnnotatedPolicy, Policies, Policy, PolicyKind, SessionPolicies};

/// The maximum number of documents in one list of a request.
const MAX_DOCUMENTS: usize = 20;
/// The maximum total length in bytes of the documents in one list of a request.
const MAX_DOCUMENT_BYTES: usize = 262_144;

#[derive(Debug)]
pub(in crate::parts::ops::iam) struct SourcePolicy {
    /// The policy's name in results: its own name, or `LIST.N` for a document in the request.
    pub id: String,
    /// The parsed policy, with the positions of its statements in the document.
    pub policy: AnnotatedPolicy,
}

/// The identity policies of a principal, and the policies that limit it.
#[derive(Debug, Default)]
pub(in crate::parts::ops::iam) struct PolicySet {
    pub identity: Vec<SourcePolicy>,
    pub boundary: Option<SourcePolicy>,
    /// Service control policies by level, from the root down; `None` outside an organization.
    pub service_control: Option<Vec<Vec<SourcePolicy>>>,
}

impl SourcePolicy {
    pub fn statements(&self) -> usize {
        self.policy.policy().statement_count()
    }
}

impl PolicySet {
    /// Counts the statements of all policies, which determine the cost of a simulation.
    pub fn statements(&self) -> usize {
        let levels = self.service_control.iter().flatten().flatten();
        let all = self.identity.iter().chain(&self.boundary).chain(levels);
        all.map(SourcePolicy::statements).sum()
    }

    /// Calls `judge` with these policies and the resource's policy, in the form that the evaluator
    /// takes.
    pub fn with<T>(
        &self,
        resource: Option<&SourcePolicy>,
        resource_is_trust: bool,
        judge: impl FnOnce(&Policies<'_>) -> T,
    ) -> T {
        fn compiled(list: &[SourcePolicy]) -> Vec<&Policy> {
            list.iter().map(|p| p.policy.policy()).collect()
        }
        let identity = compiled(&self.identity);
        let levels = self.service_control.as_ref();
        let levels: Option<Vec<Vec<&Policy>>> =
            levels.map(|levels| levels.iter().map(|l| compiled(l)).collect());
        let levels: Option<Vec<&[&Policy]>> = levels
            .as_ref()
            .map(|l| l.iter().map(Vec::as_slice).collect());
        judge(&Policies {
            identity: &identity,
            resource: resource.map(|p| p.policy.policy()),
            resource_is_trust,
            session: SessionPolicies::default(),
            boundary: self.boundary.as_ref().map(|p| p.policy.policy()),
            service_control: levels.as_deref(),
            resource_control: None,
        })
    }
}

/// Parses the documents of `PolicyInputList`.
///
/// # Errors
/// [`Error::InvalidInput`] if a document is malformed, or there are too many, or they are too long.
pub(in crate::parts::ops::iam) fn input_policies(
    documents: &[String],
) -> Result<Vec<SourcePolicy>, Error> {
    parsed("PolicyInputList", PolicyKind::AwsManaged, documents)
}

/// Parses the document of `PermissionsBoundaryPolicyInputList`, which may contain only one.
///
/// # Errors
/// [`Error::InvalidInput`] if the document is malformed or too long, or there are several.
pub(super) fn input_boundary(
    documents: Option<Vec<String>>,
) -> Result<Option<SourcePolicy>, Error> {
    const LIST: &str = "PermissionsBoundaryPolicyInputList";
    let documents = documents.unwrap_or_default();
    if documents.len() > 1 {
        let rule = format!("{LIST} may have only one policy.");
        return Err(Error::InvalidInput(rule));
    }
    let mut parsed = parsed(LIST, PolicyKind::AwsManaged, &documents)?;
    Ok(parsed.pop())
}

/// Parses the documents of a list of the request. The size quotas for customer policies do not
/// apply, because clients also simulate AWS managed policies, which are larger.
///
/// # Errors
/// [`Error::InvalidInput`] if a document is malformed, or there are too many, or they are too long.
pub(super) fn parsed(
    list: &str,
    kind: PolicyKind,
    documents: &[String],
) -> Result<Vec<SourcePolicy>, Error> {
    if documents.len() > MAX_DOCUMENTS {
        let rule = format!("{list} may have at most {MAX_DOCUMENTS} policies.");
        return Err(Error::InvalidInput(rule));
    }
    if documents.iter().map(String::len).sum::<usize>() > MAX_DOCUMENT_BYTES {
        let rule =
            format!("The policies of {list} may have at most {MAX_DOCUMENT_BYTES} bytes together.");
        return Err(Error::InvalidInput(rule));
    }
    let one = |(at, text): (usize, &String)| {
        let id = format!("{list}.{}", at + 1);
        match AnnotatedPolicy::parse(kind, text) {
            Ok(policy) => Ok(SourcePolicy { id, policy }),
            Err(error) => Err(Error::InvalidInput(format!("{id}: {error}"))),
        }
    };
    documents.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(bytes: usize) -> String {
        let text = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
        format!("{text}{}", " ".repeat(bytes - text.len()))
    }

    #[test]
    fn a_list_has_bounds() {
        assert_eq!(input_policies(&vec![document(100); 20]).unwrap().len(), 20);
        assert!(input_policies(&vec![document(100); 21]).is_err());
        assert!(input_policies(&vec![document(131_072); 2]).is_ok());
        assert!(input_policies(&[document(131_072), document(131_073)]).is_err());
        assert!(input_boundary(Some(vec![document(100)])).unwrap().is_some());
        assert!(input_boundary(Some(Vec::new())).unwrap().is_none());
        assert!(input_boundary(Some(vec![document(100); 2])).is_err());
    }

    #[test]
    fn a_malformed_document_is_named_with_its_place() {
        let error = input_policies(&[document(100), r#"{"Statement":{}}"#.to_owned()]).unwrap_err();
        assert_eq!(error.code(), "InvalidInput");
        assert!(
            error.to_string().starts_with("PolicyInputList.2: ")
                && error.to_string().contains("/Statement"),
            "{error}"
        );
    }
}
