//! Parses untrusted XML into a tree, and looks up elements, attributes and texts in it. All XML is
//! parsed here, including canonical text. This module has no rules of SAML.

use std::borrow::Cow;
use std::collections::HashSet;

use roxmltree::{Document, Node, ParsingOptions};

use super::limits::{self, Limits, SPACE, XmlError};

/// The text of a document, prepared for the parser: it is UTF-8 and within limits, has no byte order
/// mark and no XML declaration, and its lines end with line feeds.
#[derive(Debug)]
pub(super) struct Source<'a> {
    text: Cow<'a, str>,
    limits: &'static Limits,
}

impl<'a> Source<'a> {
    /// Prepares the octets of a document.
    ///
    /// # Errors
    /// [`XmlError`] if the document is not UTF-8, exceeds a limit, or has a construct that is not
    /// accepted.
    pub fn new(octets: &'a [u8], limits: &'static Limits) -> Result<Self, XmlError> {
        if octets.len() > limits.bytes {
            return Err(XmlError::TooLong(limits.bytes));
        }
        let text = std::str::from_utf8(octets).map_err(|_| XmlError::Encoding)?;
        let text = without_declaration(text.strip_prefix('\u{feff}').unwrap_or(text))?;
        // The parser would skip another byte order mark.
        if text.starts_with('\u{feff}') {
            return Err(XmlError::Malformed);
        }
        limits::check(text, limits)?;
        // XML 1.0 section 2.11 requires this before parsing.
        let text = if text.contains('\r') {
            Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
        } else {
            Cow::Borrowed(text)
        };
        Ok(Self { text, limits })
    }

    /// Parses the document, and checks that its IDs are unique. Every attribute named `ID`, in upper or lower case and
    /// in any namespace, counts as an ID.
    ///
    /// # Errors
    /// [`XmlError`] if the document is not well-formed, has too many nodes, contains a processing instruction, or has
    /// an ID that is not a valid name or that occurs twice.
    pub fn parse(&self) -> Result<Document<'_>, XmlError> {
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: self.limits.nodes,
            ..ParsingOptions::default()
        };
        let document =
            Document::parse_with_options(&self.text, options).map_err(|error| match error {
                roxmltree::Error::NodesLimitReached => {
                    XmlError::TooMany(
                        "elements, texts and comments (limit: 20,000 in a response, 60,000 in metadata)",
                    )
                }
                _ => XmlError::Malformed,
            })?;
        let mut ids = HashSet::new();
        for node in document.descendants() {
            if node.is_pi() {
                return Err(XmlError::ProcessingInstruction);
            }
            let is_id = |name: &str| name.eq_ignore_ascii_case("ID");
            for id in node.attributes().filter(|a| is_id(a.name())) {
                if !is_ncname(id.value()) || !ids.insert(id.value()) {
                    return Err(XmlError::Id);
                }
            }
        }
        drop(ids);
        Ok(document)
    }
}

/// Removes the XML declaration, in which UTF-8 is the only encoding that may be named.
fn without_declaration(text: &str) -> Result<&str, XmlError> {
    let Some(behind) = text
        .strip_prefix("<?xml")
        .filter(|rest| rest.starts_with(SPACE))
    else {
        return Ok(text);
    };
    let (mut declaration, document) = behind.split_once("?>").ok_or(XmlError::Declaration)?;
    let mut values = Vec::new();
    for name in ["version", "encoding", "standalone"] {
        let trimmed = declaration.trim_start_matches(SPACE);
        let Some(rest) = trimmed.strip_prefix(name) else {
            values.push(None);
            continue;
        };
        if trimmed.len() == declaration.len() {
            return Err(XmlError::Declaration);
        }
        let value = rest.trim_start_matches(SPACE).strip_prefix('=');
        let value = value
            .ok_or(XmlError::Declaration)?
            .trim_start_matches(SPACE);
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, rest) = quote
            .and_then(|quote| value.strip_prefix(quote)?.split_once(quote))
            .ok_or(XmlError::Declaration)?;
        values.push(Some(value));
        declaration = rest;
    }
    let [version, encoding, standalone] = *values else {
        return Err(XmlError::Declaration);
    };
    if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("UTF-8")) {
        return Err(XmlError::Encoding);
    }
    if version != Some("1.0")
        || !matches!(standalone, None | Some("yes" | "no"))
        || !declaration.chars().all(|c| SPACE.contains(&c))
    {
        return Err(XmlError::Declaration);
    }
    Ok(document)
}

/// Returns whether a text may be an ID: an ASCII name without a colon.
fn is_ncname(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// Returns the name of an element as the document spells it, with its prefix.
pub(super) fn qualified_name<'a>(element: Node<'a, '_>) -> &'a str {
    let text = element.document().input_text();
    let tag = text
        .get(element.range())
        .and_then(|tag| tag.strip_prefix('<'));
    let is_end = |c: char| SPACE.contains(&c) || matches!(c, '/' | '>');
    tag.and_then(|tag| tag.get(..tag.find(is_end)?))
        .unwrap_or_default()
}

/// Returns the name of an attribute as the document spells it, with its prefix.
pub(super) fn attribute_name<'a>(
    element: Node<'a, '_>,
    attribute: &roxmltree::Attribute<'_, '_>,
) -> &'a str {
    let text = element.document().input_text();
    text.get(attribute.range_qname()).unwrap_or_default()
}

/// Returns whether a node is an element with this name in this namespace. The parser's
/// `has_tag_name` is unsuitable: if it is called without a namespace, it accepts elements of any
/// namespace.
pub(super) fn is(node: Node<'_, '_>, namespace: &str, local: &str) -> bool {
    node.is_element()
        && node.tag_name().namespace() == Some(namespace)
        && node.tag_name().name() == local
}

/// Iterates over the child elements with this name in this namespace.
pub(super) fn children<'a, 'i: 'a>(
    parent: Node<'a, 'i>,
    namespace: &'a str,
    local: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    parent
        .children()
        .filter(move |child| is(*child, namespace, local))
}

/// Returns the value of the attribute with this name and no namespace. The parser's own look-up
/// ignores namespaces.
pub(super) fn attribute<'a>(element: Node<'a, '_>, name: &str) -> Option<&'a str> {
    element
        .attributes()
        .find(|a| a.namespace().is_none() && a.name() == name)
        .map(|a| a.value())
}

/// Returns the text of an element without comments; `None` if the element contains another element.
pub(super) fn text(element: Node<'_, '_>) -> Option<String> {
    let mut text = String::new();
    for child in element.children() {
        match child.text() {
            Some(part) if child.is_text() => text.push_str(part),
            _ if child.is_comment() => {}
            _ => return None,
        }
    }
    Some(text)
}

/// Returns whether an element contains only elements and white space, and so neither text nor
/// comments.
pub(super) fn has_only_elements(element: Node<'_, '_>) -> bool {
    element.children().all(|child| {
        child.is_element()
            || child.is_text()
                && child
                    .text()
                    .is_some_and(|text| text.trim_matches(SPACE).is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::saml::limits::RESPONSE;

    fn refused(octets: &[u8]) -> Option<XmlError> {
        match Source::new(octets, &RESPONSE) {
            Ok(source) => source.parse().err(),
            Err(error) => Some(error),
        }
    }

    #[test]
    fn utf_8_of_xml_1_0_is_read() {
        for text in [
            "<a/>",
            "\u{feff}<a/>",
            "<?xml version='1.0'?><a/>",
            "\u{feff}<?xml version=\"1.0\" encoding = 'utf-8' standalone='no' ?>\r\n<a/>\r\n",
        ] {
            assert_eq!(refused(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sa_02_other_encodings_and_versions_are_refused() {
        let utf16: Vec<u8> = "\u{feff}<a/>"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        assert_eq!(refused(&utf16), Some(XmlError::Encoding));
        assert_eq!(refused(b"<a>\xc0\xbc</a>"), Some(XmlError::Encoding));
        for marks in ["\u{feff}\u{feff}", "<?xml version='1.0'?>\u{feff}"] {
            let text = format!("{marks}<a/>");
            assert_eq!(refused(text.as_bytes()), Some(XmlError::Malformed));
        }
        for (declaration, why) in [
            ("<?xml version='1.0' encoding='UTF-7'?>", XmlError::Encoding),
            (
                "<?xml version='1.0' encoding='ISO-8859-1'?>",
                XmlError::Encoding,
            ),
            ("<?xml version='1.1'?>", XmlError::Declaration),
            ("<?xml encoding='UTF-8'?>", XmlError::Declaration),
            (
                "<?xml version='1.0'encoding='UTF-8'?>",
                XmlError::Declaration,
            ),
            (
                "<?xml version='1.0' standalone='maybe'?>",
                XmlError::Declaration,
            ),
            ("<?xml version='1.0' other='x'?>", XmlError::Declaration),
            (" <?xml version='1.0'?>", XmlError::ProcessingInstruction),
        ] {
            assert_eq!(
                refused(format!("{declaration}<a/>").as_bytes()),
                Some(why),
                "{declaration}"
            );
        }
    }

    #[test]
    fn sa_02_ids_are_unique_under_every_name() {
        for text in [
            "<a ID='x'><b ID='x'/></a>",
            "<a ID='x'><b id='x'/></a>",
            "<a ID='x'><b Id='x'/></a>",
            "<a ID='x'><b iD='x'/></a>",
            "<a ID='x'><b xml:id='x'/></a>",
            "<a ID='x'><b c:ID='x' xmlns:c='urn:c'/></a>",
            "<a ID='x' id='x'/>",
            "<a ID=''/>",
            "<a ID='x y'/>",
            "<a ID='1'/>",
        ] {
            assert_eq!(refused(text.as_bytes()), Some(XmlError::Id), "{text}");
        }
        assert_eq!(refused(b"<a ID='x'><b ID='y' c='x'/></a>"), None);
    }

    #[test]
    fn sa_02_namespaces_are_bound_in_one_way() {
        const XML: &str = "http://www.w3.org/XML/1998/namespace";
        const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
        for text in [
            "<a xmlns:b='urn:x' xmlns:c='urn:x' b:d='1' c:d='2'/>".to_owned(),
            "<a b:c=''/>".to_owned(),
            "<b:a/>".to_owned(),
            "<a xmlns:b='urn:x'/><b:a/>".to_owned(),
            "<a xmlns:b='urn:x'></b:a>".to_owned(),
            format!("<a xmlns:b='{XML}'/>"),
            format!("<a xmlns:b='{XMLNS}'/>"),
            format!("<a xmlns='{XML}'/>"),
            format!("<a xmlns='{XMLNS}'/>"),
            format!("<a xmlns:xml='{XML}'/>"),
        ] {
            assert!(refused(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn line_ends_are_line_feeds_before_anything_else() {
        let octets = b"<a b='c\r\nd'>\r\n\r&#13;&#10;e\r&#10;<![CDATA[\r]]></a>";
        let source = Source::new(octets, &RESPONSE).unwrap();
        let document = source.parse().unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("b"), Some("c d"));
        assert_eq!(text(root).as_deref(), Some("\n\n\r\ne\n\n\n"));
    }

    #[test]
    fn a_text_is_read_whole_or_not_at_all() {
        let source = Source::new(b"<a>b<!--c-->d<![CDATA[<e>]]></a>", &RESPONSE).unwrap();
        assert_eq!(
            text(source.parse().unwrap().root_element()).as_deref(),
            Some("bd<e>")
        );
        let source = Source::new(b"<a>b<c/>d</a>", &RESPONSE).unwrap();
        assert_eq!(text(source.parse().unwrap().root_element()), None);
    }
}
