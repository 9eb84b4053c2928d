//! Finds where a document names AWS principals, so that callers can rewrite the names in its text.

use std::ops::Range;

use crate::evaluator::json::{Node, ParseError, Reader};

/// The AWS principals of a document in order, each as the range of its JSON string (with its quotes) and its text.
/// Returns none if the document is not JSON. If its structure is wrong at some place, returns the principals before that
/// place; other errors are not noticed (`Policy::parse` reports them).
pub fn aws_principals(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let _ = find(&Reader::new(text), &mut found);
    found
}

fn find(reader: &Reader<'_>, found: &mut Vec<(Range<usize>, String)>) -> Result<(), ParseError> {
    for (name, statements) in reader.object(&reader.root()?, "a policy must be a JSON object")? {
        if name != "Statement" {
            continue;
        }
        let statements = if statements.raw.starts_with('[') {
            reader.array(&statements)?
        } else {
            vec![statements]
        };
        for statement in statements {
            find_in_statement(reader, &statement, found)?;
        }
    }
    Ok(())
}

fn find_in_statement(
    reader: &Reader<'_>,
    statement: &Node<'_>,
    found: &mut Vec<(Range<usize>, String)>,
) -> Result<(), ParseError> {
    for (name, element) in reader.object(statement, "a statement must be a JSON object")? {
        if !matches!(&*name, "Principal" | "NotPrincipal") || !element.raw.starts_with('{') {
            continue;
        }
        for (kind, value) in reader.object(&element, "")? {
            if kind != "AWS" {
                continue;
            }
            for (principal, at) in reader.strings(&value)? {
                let begin = reader.offset(&at);
                found.push((begin..begin + at.raw.len(), principal));
            }
        }
    }
    Ok(())
}
