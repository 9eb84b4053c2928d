//! A compiled document with two things that compiling drops: where each statement is in the text,
//! and how the text spells its condition keys.

use super::Policy;
use crate::evaluator::json::{Node, ParseError, Reader};
use crate::evaluator::kind::PolicyKind;

/// A compiled policy that keeps the places of its statements and the spelling of its condition
/// keys, for simulations that show them.
#[derive(Debug, Clone)]
pub struct AnnotatedPolicy {
    policy: Policy,
    /// The place of each statement, in the order of the document.
    spans: Box<[Span]>,
    /// The condition keys as the document spells them, each once without regard to case.
    context_keys: Box<[String]>,
}

/// The place of a statement in the text, from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The place of the statement's first character, which is its opening brace.
    pub start: Position,
    /// The place directly after the statement's closing brace.
    pub end: Position,
}

/// A place in the text of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

impl AnnotatedPolicy {
    /// Validates, compiles and annotates a document of the given kind.
    ///
    /// # Errors
    /// The same as for [`Policy::parse`].
    pub fn parse(kind: PolicyKind, text: &str) -> Result<Self, ParseError> {
        let policy = Policy::parse(kind, text)?;
        let mut notes = Notes::default();
        notes.read(&Reader::new(text))?;
        let spelt = |key: &str| {
            let spelling = notes.spellings.iter().find(|s| s.eq_ignore_ascii_case(key));
            spelling.cloned().unwrap_or_else(|| key.to_owned())
        };
        let context_keys = policy.context_keys().into_iter().map(spelt).collect();
        Ok(Self {
            policy,
            spans: notes.spans.into(),
            context_keys,
        })
    }

    /// The compiled policy, which the evaluator takes.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The place of the statement with this number, counted from 0. `None` if the policy has no
    /// such statement, or its text is not known.
    pub fn span(&self, statement: usize) -> Option<Span> {
        self.spans.get(statement).copied()
    }

    /// The condition keys that the document names in Condition elements and in `${…}`, as it spells
    /// them, each once without regard to case.
    pub fn context_keys(&self) -> &[String] {
        &self.context_keys
    }
}

impl From<Policy> for AnnotatedPolicy {
    /// Wraps a policy whose text is not known. It has no places, and its condition keys are in lower
    /// case.
    fn from(policy: Policy) -> Self {
        let keys = policy.context_keys().into_iter().map(str::to_owned);
        Self {
            context_keys: keys.collect(),
            spans: Box::default(),
            policy,
        }
    }
}

/// The facts that are collected from the text of a document which [`Policy::parse`] has accepted.
#[derive(Default)]
struct Notes {
    spans: Vec<Span>,
    /// Every text that may be the spelling of a condition key.
    spellings: Vec<String>,
}

impl Notes {
    fn read(&mut self, reader: &Reader<'_>) -> Result<(), ParseError> {
        for (name, value) in reader.object(&reader.root()?, "a policy must be a JSON object")? {
            if name != "Statement" {
                continue;
            }
            let statements = if value.raw.starts_with('[') {
                reader.array(&value)?
            } else {
                vec![value]
            };
            for statement in &statements {
                self.read_statement(reader, statement)?;
            }
        }
        Ok(())
    }

    fn read_statement(
        &mut self,
        reader: &Reader<'_>,
        statement: &Node<'_>,
    ) -> Result<(), ParseError> {
        let position = |offset: usize| {
            let (line, column) = reader.line_and_column(offset);
            Position { line, column }
        };
        let begin = reader.offset(statement);
        self.spans.push(Span {
            start: position(begin),
            end: position(begin + statement.raw.len()),
        });
        for (name, element) in reader.object(statement, "a statement must be a JSON object")? {
            match &*name {
                "Resource" | "NotResource" => {
                    for (text, _) in reader.strings(&element)? {
                        self.read_variables(&text);
                    }
                }
                "Condition" => self.read_condition(reader, &element)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_condition(
        &mut self,
        reader: &Reader<'_>,
        condition: &Node<'_>,
    ) -> Result<(), ParseError> {
        for (_, keys) in reader.object(condition, "Condition must be a JSON object")? {
            for (key, values) in reader.object(
                &keys,
                "a condition operator must have an object of keys and values",
            )? {
                self.spellings.push(key);
                for value in reader.scalars(&values)? {
                    self.read_variables(&value);
                }
            }
        }
        Ok(())
    }

    /// Collects the name of each `${name}` and `${name, 'default'}`.
    fn read_variables(&mut self, text: &str) {
        for part in text.split("${").skip(1) {
            let name = part.split(['}', ',']).next().unwrap_or_default().trim();
            self.spellings.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of each statement by its span, found by counting lines and columns anew.
    fn cut(text: &str) -> Vec<String> {
        let annotated = AnnotatedPolicy::parse(PolicyKind::Identity, text).unwrap();
        let offset = |position: Position| {
            let lines: Vec<&str> = text.split('\n').collect();
            let before: usize = lines[..position.line - 1].iter().map(|l| l.len() + 1).sum();
            let in_line = lines[position.line - 1].chars().take(position.column - 1);
            before + in_line.map(char::len_utf8).sum::<usize>()
        };
        let spans = annotated.spans.iter();
        spans
            .map(|span| text[offset(span.start)..offset(span.end)].to_owned())
            .collect()
    }

    #[test]
    fn a_span_is_exactly_the_statement() {
        let one = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
        let two = "{\r\n  \"Sid\": \"é\",\n  \"Effect\": \"Deny\", \"Action\": \"é:x\", \"Resource\": \"*\"\n}";
        let two = &two.replace("\"Sid\": \"é\",\n", "").replace("é:x", "s3:x");
        for text in [
            format!(r#"{{"Version":"2012-10-17","Statement":{one}}}"#),
            format!(r#"{{"Statement":[{one},{one}],"Id":"é"}}"#),
            format!("{{\"Id\": \"é\", \"Statement\": [\n\t{one},\n\n  {two}\n]}}"),
        ] {
            let expected: Vec<&str> = text
                .match_indices("{")
                .filter_map(|(at, _)| [one, two].into_iter().find(|s| text[at..].starts_with(*s)))
                .collect();
            assert_eq!(cut(&text), expected, "{text}");
        }
    }

    #[test]
    fn positions_are_those_that_aws_gives() {
        let text = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}"#;
        let annotated = AnnotatedPolicy::parse(PolicyKind::Identity, text).unwrap();
        let at = |column| Position { line: 1, column };
        let span = Span {
            start: at(41),
            end: at(text.len() - 1),
        };
        assert_eq!(annotated.span(0), Some(span));
        assert_eq!(annotated.span(1), None);
    }

    #[test]
    fn context_keys_are_spelt_as_in_the_document_and_come_once() {
        let text = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:UserName}/${*}/${aws:PrincipalTag/Team, 'none'}",
             "Condition":{"StringLike":{"aws:RequestTag/A":["${aws:username}","${ aws:SourceIdentity }"]},"Bool":{"aws:MultiFactorAuthPresent":true}}},
            {"Effect":"Deny","NotAction":"s3:*","NotResource":"arn:aws:s3:::${s3:x}","Condition":{"Null":{"AWS:requesttag/a":"true"}}}]}"#;
        let annotated = AnnotatedPolicy::parse(PolicyKind::Identity, text).unwrap();
        assert_eq!(
            annotated.context_keys(),
            [
                "aws:UserName",
                "aws:PrincipalTag/Team",
                "aws:RequestTag/A",
                "aws:SourceIdentity",
                "aws:MultiFactorAuthPresent",
                "s3:x"
            ]
        );
        // In a document of an older version, `${` has no meaning.
        let old = text.replace("2012-10-17", "2008-10-17");
        let annotated = AnnotatedPolicy::parse(PolicyKind::Identity, &old).unwrap();
        assert_eq!(
            annotated.context_keys(),
            ["aws:RequestTag/A", "aws:MultiFactorAuthPresent"]
        );
    }
}
