//! Policy documents: validates the text of a document and compiles it to a [`Policy`].
//!
//! The grammar is in the IAM User Guide, "Grammar of the IAM JSON policy language", the size limits
//! in "IAM and AWS STS quotas".

mod annotated;
mod elements;
mod places;

use std::collections::HashSet;

use super::index::Index;
use super::json::{Node, ParseError, Reader, clip};
use super::kind::{MAX_BYTES, PolicyKind};
use super::principals::{AllowedPrincipal, NamedPrincipal, PrincipalPattern, Principals};
use super::statement::{Effect, Statement};

pub use annotated::{AnnotatedPolicy, Position, Span};
pub use places::aws_principals;

/// A policy document that was validated and compiled.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) statements: Box<[Statement]>,
    pub(super) index: Index,
}

impl Policy {
    /// Validates and compiles a document of the given kind.
    ///
    /// # Errors
    /// [`ParseError`] for the first rule that the document breaks, with its place. An unknown
    /// element or operator is an error; an unknown condition key is allowed.
    pub fn parse(kind: PolicyKind, text: &str) -> Result<Self, ParseError> {
        let reader = Reader::new(text);
        check_size(&reader, kind)?;
        reader.check_text()?;
        let root = reader.root()?;
        let mut version_2012 = false;
        let mut statement = None;
        for (name, value) in reader.object(&root, "a policy must be a JSON object")? {
            match &*name {
                "Version" => version_2012 = is_version_2012(&reader, &value)?,
                "Id" => {
                    reader.string(&value)?;
                }
                "Statement" => statement = Some(value),
                _ => {
                    let rule = format!("`{}` is not an element of a policy", clip(&name));
                    return Err(reader.error(&value, rule));
                }
            }
        }
        // AWS Organizations User Guide, "RCP syntax".
        if kind == PolicyKind::ResourceControl && !version_2012 {
            let rule = "a resource control policy must have the Version `2012-10-17`";
            return Err(reader.error(&root, rule));
        }
        let Some(statement) = statement else {
            return Err(reader.error(&root, "Statement is required"));
        };
        let statements = compile_statements(&reader, &statement, kind, version_2012)?;
        Ok(Self {
            index: Index::new(&statements),
            statements: statements.into(),
        })
    }

    /// The number of statements in the document; the index of a `StatementRef` is below it.
    pub fn statement_count(&self) -> usize {
        self.statements.len()
    }

    /// Replaces the ARNs of users, roles and sessions in the Principal elements by their unique ids
    /// (`AIDA…`, `AROA…:SESSION`), which `bound` looks up. An ARN without an id stays as it is.
    pub fn bind_principals(&mut self, mut bound: impl FnMut(&str) -> Option<String>) {
        for statement in &mut self.statements {
            let (Principals::Are(patterns) | Principals::AreNot(patterns)) =
                &mut statement.principals
            else {
                continue;
            };
            for pattern in patterns.iter_mut() {
                let (PrincipalPattern::Role { arn, .. } | PrincipalPattern::Exact(arn)) = &*pattern
                else {
                    continue;
                };
                let by_id = bound(arn).map(|id| PrincipalPattern::parse_aws(&id));
                if let Some(Ok(by_id)) = by_id {
                    *pattern = by_id;
                }
            }
        }
    }

    /// The entries of Principal elements in Allow statements that can stand for an identity provider, for a user or for
    /// everybody. The policy allows no other identity provider and no other user, whatever its conditions are.
    pub fn allowed_principals(&self) -> impl Iterator<Item = AllowedPrincipal<'_>> {
        let allows = self.statements.iter().filter(|s| s.effect == Effect::Allow);
        let patterns = allows.flat_map(|statement| match &statement.principals {
            Principals::Are(patterns) => &**patterns,
            // A trust policy has no NotPrincipal.
            Principals::AreNot(_) | Principals::Implied => &[],
        });
        patterns.filter_map(PrincipalPattern::as_allowed)
    }

    /// The users, roles and sessions that the Principal elements name, by ARN or by unique id
    /// (`AIDA…`, `AROA…:SESSION`).
    pub fn named_principals(&self) -> impl Iterator<Item = NamedPrincipal<'_>> {
        let patterns = self
            .statements
            .iter()
            .flat_map(|statement| match &statement.principals {
                Principals::Are(patterns) | Principals::AreNot(patterns) => &**patterns,
                Principals::Implied => &[],
            });
        patterns.filter_map(|pattern| match pattern {
            PrincipalPattern::Role { arn, .. } | PrincipalPattern::Exact(arn) => {
                Some(NamedPrincipal::ByArn(arn))
            }
            PrincipalPattern::Id(id) | PrincipalPattern::Session { role: id, .. } => {
                Some(NamedPrincipal::ById(id))
            }
            _ => None,
        })
    }
}

fn check_size(reader: &Reader<'_>, kind: PolicyKind) -> Result<(), ParseError> {
    let whole = reader.whole();
    if whole.raw.len() > MAX_BYTES {
        let rule =
            format!("a policy document may have at most {MAX_BYTES} bytes, including white space");
        return Err(reader.error(&whole, rule));
    }
    let counts = |c: &char| kind.counts_white_space() || !matches!(c, ' ' | '\t' | '\n' | '\r');
    let count = whole.raw.chars().filter(counts).count();
    if count > kind.max_characters() {
        let white_space = if kind.counts_white_space() {
            "counted"
        } else {
            "not counted"
        };
        let rule = format!(
            "the policy has {count} characters, but this kind of policy may have at most {} characters (white space is \
             {white_space})",
            kind.max_characters()
        );
        return Err(reader.error(&whole, rule));
    }
    Ok(())
}

/// Reads the Version element. Returns whether this version supports policy variables.
fn is_version_2012(reader: &Reader<'_>, version: &Node<'_>) -> Result<bool, ParseError> {
    match &*reader.string(version)? {
        "2012-10-17" => Ok(true),
        "2008-10-17" => Ok(false),
        _ => Err(reader.error(version, "Version must be `2012-10-17` or `2008-10-17`")),
    }
}

/// Compiles the Statement element: one statement or a list of at least one, whose Sids must be
/// unique.
fn compile_statements(
    reader: &Reader<'_>,
    element: &Node<'_>,
    kind: PolicyKind,
    variables: bool,
) -> Result<Vec<Statement>, ParseError> {
    let nodes = match element.raw.as_bytes().first() {
        Some(b'[') => reader.array(element)?,
        _ => vec![element.clone()],
    };
    if nodes.is_empty() {
        return Err(reader.error(element, "at least one statement is required"));
    }
    let mut sids = HashSet::new();
    let mut statements = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let compiled = elements::statement(reader, node, kind, variables)?;
        if let Some(sid) = &compiled.sid
            && !sids.insert(sid.clone())
        {
            return Err(reader.error(node, format!("duplicate Sid `{}`", clip(sid))));
        }
        statements.push(compiled);
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_knows_its_place() {
        let text = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [{\"Effect\": \"Allow\",\n    \"Action\": \"s3:*\", \"Resource\": \"*\",\n    \"Condition\": {\"StringEqual\": {\"aws:x\": \"y\"}}}]\n}";
        let error = Policy::parse(PolicyKind::Identity, text).unwrap_err();
        assert_eq!(
            error.place.pointer,
            "/Statement/0/Condition/StringEqual/aws:x"
        );
        assert_eq!((error.place.line, error.place.column), (5, 44));
        assert!(error.rule.contains("StringEqual"));
    }

    #[test]
    fn az_01_what_is_not_understood_is_refused() {
        let with = |element: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Allow","Action":"a:b","Resource":"*"{element}}}]}}"#
            )
        };
        assert!(Policy::parse(PolicyKind::Identity, &with("")).is_ok());
        for element in [
            r#","Foo":1"#,
            r#","Condition":{"Foo":{"a":"b"}}"#,
            r#","Condition":null"#,
            r#","Effect":"Allow""#,
        ] {
            assert!(
                Policy::parse(PolicyKind::Identity, &with(element)).is_err(),
                "{element}"
            );
        }
        for text in [
            "",
            "{}",
            "null",
            "[]",
            "\u{feff}{}",
            r#"{"Version":"2020-01-01","Statement":[]}"#,
        ] {
            assert!(Policy::parse(PolicyKind::Identity, text).is_err(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_refused_however_they_are_written() {
        let with = |text: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Allow","Action":"a:b","Resource":"*","Condition":{text}}}]}}"#
            )
        };
        for legal in [
            r#"{"StringEquals":{"a:b":"\u0041\u00e9"}}"#,
            r#"{"StringEquals":{"a:b":"x\ty\n"}}"#,
        ] {
            assert!(
                Policy::parse(PolicyKind::Identity, &with(legal)).is_ok(),
                "{legal}"
            );
        }
        for bad in [
            "\\u0000", "\\u001f", "\\b", "\\f", "\\u007f", "\\u0085", "\u{7f}", "\u{85}", "\u{1}",
        ] {
            for text in [
                format!(r#"{{"StringEquals":{{"a:b":"x{bad}"}}}}"#),
                format!(r#"{{"StringEquals":{{"a:b{bad}":"x"}}}}"#),
            ] {
                for kind in [
                    PolicyKind::Identity,
                    PolicyKind::Session,
                    PolicyKind::Boundary,
                ] {
                    assert!(Policy::parse(kind, &with(&text)).is_err(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_resource_control_policy_has_a_version_and_no_not_action() {
        let with = |version: &str, action: &str| {
            format!(
                r#"{{{version}"Statement":[{{"Effect":"Deny","Principal":"*","{action}":"s3:*","Resource":"*"}}]}}"#
            )
        };
        let new = r#""Version":"2012-10-17","#;
        assert!(Policy::parse(PolicyKind::ResourceControl, &with(new, "Action")).is_ok());
        for bad in [
            with("", "Action"),
            with(r#""Version":"2008-10-17","#, "Action"),
            with(new, "NotAction"),
        ] {
            assert!(
                Policy::parse(PolicyKind::ResourceControl, &bad).is_err(),
                "{bad}"
            );
            assert!(Policy::parse(PolicyKind::Resource, &bad).is_ok(), "{bad}");
        }
    }

    #[test]
    fn a_session_policy_names_resources_by_whole_arns() {
        for arn in [
            "arn:aws:sqs",
            "arn:aws:iam::*",
            "arn:aws:logs:*",
            "arn:aws:lambda:us-east-1:*",
        ] {
            let text = format!(
                r#"{{"Statement":[{{"Effect":"Allow","Action":"*","Resource":"{arn}"}}]}}"#
            );
            for (kind, taken) in [
                (PolicyKind::Identity, true),
                (PolicyKind::AwsManaged, true),
                (PolicyKind::Boundary, true),
                (PolicyKind::ServiceControl, true),
                (PolicyKind::Session, false),
            ] {
                assert_eq!(Policy::parse(kind, &text).is_ok(), taken, "{kind:?} {arn}");
            }
        }
    }

    #[test]
    fn az_03_the_size_limit_is_exact() {
        let sized = |n: usize| {
            let bare =
                r#"{"Statement":[{"Sid":"","Effect":"Allow","Action":"s3:Get","Resource":"*"}]}"#;
            bare.replace(
                r#""Sid":"""#,
                &format!(r#""Sid":"{}""#, "a".repeat(n - bare.len())),
            )
        };
        assert!(Policy::parse(PolicyKind::Session, &sized(2_048)).is_ok());
        assert!(Policy::parse(PolicyKind::Session, &sized(2_049)).is_err());
        let spaced = |n: usize| format!("{}{}", sized(n - 1_000), " \n".repeat(500));
        assert!(Policy::parse(PolicyKind::Session, &spaced(2_048)).is_ok());
        assert!(Policy::parse(PolicyKind::Session, &spaced(2_049)).is_err());
        assert!(Policy::parse(PolicyKind::Identity, &spaced(11_240)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Policy::parse(PolicyKind::Identity, &text);
        }
    }
}
