//! Policy test cases in the format of `tests/data/policy/FORMAT.md`: each line of JSON has a
//! request with its policies, or a document that may be malformed. A line is read, decided, and
//! compared with the result that it expects.

mod case;

use serde::Serialize;

use self::case::{Body, read};
use super::{Decision, Explanation, Outcome, Source, StatementRef, evaluate, explain};

pub use case::{BadLine, kind};

/// The result of one line.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The case's name, or an empty text if the line could not be read.
    pub name: String,
    /// `Allowed`, `ExplicitlyDenied` or `ImplicitlyDenied` for a request, `accept` or `reject` for
    /// a document, and `error` if the line is not a valid case.
    pub decision: String,
    /// The statement that decided, such as `identity[0].Statement[2]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// Why the document or the line was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the result differs from what the line expects.
    #[serde(skip)]
    pub differs: bool,
}

/// Decides one line. An invalid line gives a verdict too, so that it does not stop the others.
pub fn decide(line: &str) -> Verdict {
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

/// Explains the decision for one line. Returns the case's name and the explanation.
///
/// # Errors
/// [`BadLine`] if the line is not a valid case, or if it is a document case, which has no decision.
pub fn explain_case(line: &str) -> Result<(String, Explanation), BadLine> {
    let case = read(line)?;
    match case.body {
        Body::Request(request) => Ok((case.name, request.with(explain))),
        Body::Document(_) => Err(BadLine {
            name: case.name,
            text: "it checks a policy document, so there is no decision to explain; `brevet policy simulate --cases` \
                prints whether the document is accepted"
                .to_owned(),
        }),
    }
}

/// The name of the outcome in cases and output.
pub fn outcome(decision: &Decision) -> &'static str {
    match decision.outcome {
        Outcome::Allowed => "Allowed",
        Outcome::ExplicitlyDenied => "ExplicitlyDenied",
        Outcome::ImplicitlyDenied => "ImplicitlyDenied",
    }
}

/// The place of a statement, such as `identity[0].Statement[2]`.
pub fn place(by: StatementRef) -> String {
    let policy = match by.source {
        Source::Identity(i) => format!("identity[{i}]"),
        Source::Resource => "resource".to_owned(),
        Source::Session(i) => format!("session[{i}]"),
        Source::ScopeDown(i) => format!("scope_down[{i}]"),
        Source::Boundary => "boundary".to_owned(),
        Source::ServiceControl(level, i) => format!("scp[{level}][{i}]"),
        Source::ResourceControl(level, i) => format!("rcp[{level}][{i}]"),
    };
    format!("{policy}.Statement[{}]", by.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::simulate;

    fn conforms(cases: &str) {
        let wrong: Vec<_> = cases.lines().map(decide).filter(|v| v.differs).collect();
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
            assert_eq!(decide(line).decision, "error", "{line}");
        }
    }

    #[test]
    fn the_corpus_is_simulated_as_it_is_decided() {
        let public = include_str!("../../tests/data/policy/public.jsonl").lines();
        let language = include_str!("../../tests/data/policy/language.jsonl").lines();
        for line in public.chain(language) {
            let case = read(line).map_err(|e| e.text).unwrap();
            let Body::Request(request) = case.body else {
                continue;
            };
            let (decision, simulation) = (request.with(evaluate), request.with(simulate));
            assert_eq!(simulation.outcome, decision.outcome, "{}", case.name);
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
                decide(line).decision,
                "{name}"
            );
        }
    }
}
