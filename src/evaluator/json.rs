//! A JSON reader that keeps positions. Every value stays a slice of the text until it is read, so that each error has a
//! pointer, a line and a column, and a duplicate key is never lost.
//!
//! It reads one level at a time with `serde_json`.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Documents nested more deeply than this are refused before they are parsed.
const MAX_DEPTH: usize = 32;
/// The names of an object's members are compared one by one if there are at most this many.
const FEW: usize = 16;

/// The place of an error in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A JSON pointer (RFC 6901), such as `/Statement/0/Effect`.
    pub pointer: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

/// Why a document was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule} (at `{}`, line {}, column {})", place.pointer, place.line, place.column)]
pub struct ParseError {
    /// The first place that breaks the rule.
    pub place: Place,
    /// The rule that the document breaks there.
    pub rule: Cow<'static, str>,
}

/// A JSON value that has not been parsed yet.
#[derive(Clone)]
pub(super) struct Node<'a> {
    /// The value's text without surrounding white space.
    pub raw: &'a str,
    pointer: String,
}

/// Reads one text and locates errors in it.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// An offset with its line and column. Places are mostly needed in the order of the text, so
    /// each is found by counting from the previous one.
    known: Cell<(usize, usize, usize)>,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            known: Cell::new((0, 1, 1)),
        }
    }

    /// The whole text as one unparsed value.
    pub fn whole(&self) -> Node<'a> {
        Node {
            raw: self.text,
            pointer: String::new(),
        }
    }

    /// Refuses characters that policies may not contain, and nesting beyond [`MAX_DEPTH`].
    pub fn check_text(&self) -> Result<(), ParseError> {
        let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
        if let Some((offset, _)) = self.text.char_indices().find(|(_, c)| !legal(*c)) {
            let rule = "a policy may contain only tabs, line feeds, carriage returns and the characters U+0020 to U+00FF";
            return Err(self.error_at(offset, String::new(), rule.into()));
        }
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        for (offset, byte) in self.text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(self.error_at(
                            offset,
                            String::new(),
                            format!(
                                "a policy must not be nested more than {MAX_DEPTH} levels deep"
                            )
                            .into(),
                        ));
                    }
                }
                b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(())
    }

    pub fn root(&self) -> Result<Node<'a>, ParseError> {
        let raw: &RawValue = self.json(&self.whole())?;
        Ok(Node {
            raw: raw.get(),
            pointer: String::new(),
        })
    }

    fn json<T: Deserialize<'a>>(&self, node: &Node<'a>) -> Result<T, ParseError> {
        serde_json::from_str(node.raw).map_err(|e| {
            let offset = self.offset(node) + position(node.raw, e.line(), e.column());
            let mut rule = e.to_string();
            if let Some(cut) = rule.rfind(" at line ") {
                rule.truncate(cut);
            }
            self.error_at(
                offset,
                node.pointer.clone(),
                format!("not valid JSON: {rule}").into(),
            )
        })
    }

    pub fn object(
        &self,
        node: &Node<'a>,
        rule: &'static str,
    ) -> Result<Vec<(String, Node<'a>)>, ParseError> {
        if !node.raw.starts_with('{') {
            return Err(self.error(node, rule));
        }
        let Members(members) = self.json(node)?;
        let mut nodes: Vec<(String, Node<'a>)> = Vec::with_capacity(members.len());
        // In a small object, comparing names is faster than hashing them.
        let is_large = members.len() > FEW;
        let mut names = HashSet::new();
        for (name, raw) in members {
            let pointer = if name.contains(['~', '/']) {
                let name = name.replace('~', "~0").replace('/', "~1");
                [node.pointer.as_str(), "/", &name].concat()
            } else {
                [node.pointer.as_str(), "/", &name].concat()
            };
            let child = Node {
                raw: raw.get(),
                pointer,
            };
            if name.contains(is_control) {
                return Err(self.error(
                    &child,
                    format!("the name `{}` {NO_CONTROL_CHARACTERS}", clip(&name)),
                ));
            }
            let is_repeated = match is_large {
                true => !names.insert(name.clone()),
                false => nodes.iter().any(|(known, _)| *known == name),
            };
            if is_repeated {
                return Err(
                    self.error(&child, format!("duplicate `{}` in one object", clip(&name)))
                );
            }
            nodes.push((name, child));
        }
        Ok(nodes)
    }

    pub fn array(&self, node: &Node<'a>) -> Result<Vec<Node<'a>>, ParseError> {
        let Items(items) = self.json(node)?;
        let child = |(i, raw): (usize, &'a RawValue)| Node {
            raw: raw.get(),
            pointer: format!("{}/{i}", node.pointer),
        };
        Ok(items.into_iter().enumerate().map(child).collect())
    }

    pub fn string(&self, node: &Node<'a>) -> Result<String, ParseError> {
        if !node.raw.starts_with('"') {
            return Err(self.error(node, "must be a string"));
        }
        let text: String = self.json(node)?;
        if text.contains(is_control) {
            return Err(self.error(node, format!("`{}` {NO_CONTROL_CHARACTERS}", clip(&text))));
        }
        Ok(text)
    }

    /// Reads a string, or a list of at least one string.
    pub fn strings(&self, node: &Node<'a>) -> Result<Vec<(String, Node<'a>)>, ParseError> {
        match node.raw.as_bytes().first() {
            Some(b'"') => Ok(vec![(self.string(node)?, node.clone())]),
            Some(b'[') => {
                let items = self.array(node)?;
                if items.is_empty() {
                    return Err(self.error(node, "the list must have at least one item"));
                }
                items
                    .into_iter()
                    .map(|item| Ok((self.string(&item)?, item)))
                    .collect()
            }
            _ => Err(self.error(node, "the value must be a string or a list of strings")),
        }
    }

    /// Reads the wanted values of a condition (strings, numbers and booleans) as text.
    pub fn scalars(&self, node: &Node<'a>) -> Result<Vec<Cow<'a, str>>, ParseError> {
        let items = match node.raw.as_bytes().first() {
            Some(b'[') => self.array(node)?,
            _ => vec![node.clone()],
        };
        let scalar = |item: Node<'a>| match item.raw.as_bytes().first() {
            Some(b'"') => self.string(&item).map(Cow::Owned),
            Some(b't' | b'f' | b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(item.raw)),
            _ => Err(self.error(
                &item,
                "a condition value must be a string, a number, a boolean or a list of these",
            )),
        };
        items.into_iter().map(scalar).collect()
    }

    pub fn error(&self, node: &Node<'_>, rule: impl Into<Cow<'static, str>>) -> ParseError {
        self.error_at(self.offset(node), node.pointer.clone(), rule.into())
    }

    /// The byte offset of a node. Every node is a slice of the text, so its address gives its
    /// offset.
    pub fn offset(&self, node: &Node<'_>) -> usize {
        (node.raw.as_ptr() as usize)
            .saturating_sub(self.text.as_ptr() as usize)
            .min(self.text.len())
    }

    /// The line and the column of a byte offset, both counted from 1, columns in characters.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let (from, mut line, mut column) = Some(self.known.get())
            .filter(|(at, ..)| *at <= offset)
            .unwrap_or((0, 1, 1));
        for c in self.text.get(from..offset).unwrap_or_default().chars() {
            (line, column) = if c == '\n' {
                (line + 1, 1)
            } else {
                (line, column + 1)
            };
        }
        self.known.set((offset, line, column));
        (line, column)
    }

    fn error_at(&self, offset: usize, pointer: String, rule: Cow<'static, str>) -> ParseError {
        let (line, column) = self.line_and_column(offset);
        ParseError {
            place: Place {
                pointer,
                line,
                column,
            },
            rule,
        }
    }
}

/// The byte offset of a line and column as `serde_json` reports them: both from 1, columns in
/// bytes.
fn position(text: &str, line: usize, column: usize) -> usize {
    let lines: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut offset = (lines + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The members of an object in order, with duplicates.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(V)
    }
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(V)
    }
}

/// Whether a character is a control character that no string of a policy may contain. [`Reader::check_text`] refuses
/// those below U+0020; this function also finds U+007F to U+009F, and characters written as escapes, such as `\u0000`.
fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r')
}

const NO_CONTROL_CHARACTERS: &str =
    "must not contain control characters other than tab, line feed and carriage return";

/// Cuts foreign text to its first 64 characters and escapes special ones, so that an error message with it stays on one
/// line.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_name_is_refused_in_small_and_large_objects() {
        for count in [2, FEW, FEW + 1, 4 * FEW] {
            let mut members: Vec<String> = (0..count).map(|n| format!("\"a/~{n}\":{n}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let reader = Reader::new(&text);
            let found = reader.object(&reader.whole(), "an object").unwrap();
            assert_eq!(found.len(), count);
            assert_eq!(found[1].1.pointer, "/a~1~01");
            members.push("\"a/~0\":7".to_owned());
            let text = format!("{{{}}}", members.join(","));
            let reader = Reader::new(&text);
            let refused = reader.object(&reader.whole(), "an object").err().unwrap();
            assert_eq!(refused.rule, "duplicate `a/~0` in one object");
            assert_eq!(refused.place.pointer, "/a~1~00");
        }
    }
}
