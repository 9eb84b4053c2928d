//! Exclusive XML Canonicalization 1.0 (W3C Recommendation of 18 July 2002) of one element, without
//! comments. A reference by ID never covers comments, even if it names the algorithm with comments
//! (XML Signature 1.1 section 4.4.3.3), so this module does not implement that algorithm.

use roxmltree::Node;

use super::xml::{attribute_name, qualified_name};

/// The error for an element whose canonical text would exceed the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Returns the canonical text of an element.
///
/// `without` is the enveloped signature, an element that is left out with its content. `inclusive`
/// contains the prefixes of an `InclusiveNamespaces` list (`#default` is the empty prefix); their
/// declarations are written even where no name uses them.
///
/// # Errors
/// [`TooLong`] if the text would have more than `limit` bytes.
pub(super) fn canonical(
    element: Node<'_, '_>,
    without: Option<Node<'_, '_>>,
    inclusive: &[&str],
    limit: usize,
) -> Result<String, TooLong> {
    let mut writer = Writer {
        out: String::with_capacity(element.range().len().min(limit)),
        declared: Vec::new(),
        without,
        inclusive,
        limit,
    };
    writer.element(element)?;
    Ok(writer.out)
}

struct Writer<'a, 'i, 'l> {
    out: String,
    /// The namespace declarations of the open elements in the output, with their prefixes,
    /// innermost last. The empty prefix stands for the default namespace, and the empty namespace
    /// for no namespace.
    declared: Vec<(&'a str, &'a str)>,
    without: Option<Node<'a, 'i>>,
    inclusive: &'l [&'l str],
    limit: usize,
}

impl<'a, 'i> Writer<'a, 'i, '_> {
    /// Writes an element with its content. The function is recursive; `limits` bounds its depth.
    fn element(&mut self, element: Node<'a, 'i>) -> Result<(), TooLong> {
        let name = qualified_name(element);
        let outer = self.declared.len();
        self.out.push('<');
        self.out.push_str(name);
        self.namespaces(element, name);
        self.attributes(element);
        self.out.push('>');
        for child in element.children() {
            if child.is_element() {
                if Some(child) != self.without {
                    self.element(child)?;
                }
            } else if child.is_text() {
                self.escaped(child.text().unwrap_or_default(), |byte| match byte {
                    b'&' => Some("&amp;"),
                    b'<' => Some("&lt;"),
                    b'>' => Some("&gt;"),
                    b'\r' => Some("&#xD;"),
                    _ => None,
                });
            }
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        self.declared.truncate(outer);
        if self.out.len() > self.limit {
            return Err(TooLong);
        }
        Ok(())
    }

    /// Writes declarations of the namespaces that the element's own names use and of those on the
    /// inclusive list, except for those that an open element has declared in the output already.
    fn namespaces(&mut self, element: Node<'a, 'i>, name: &'a str) {
        let prefix = |name: &'a str| name.split_once(':').map_or("", |(prefix, _)| prefix);
        let mut prefixes = vec![prefix(name)];
        let attributes = element
            .attributes()
            .map(|a| prefix(attribute_name(element, &a)));
        prefixes.extend(attributes.filter(|prefix| !prefix.is_empty()));
        let inclusive = |prefix: &str| self.inclusive.contains(&prefix);
        prefixes.extend(
            element
                .namespaces()
                .map(|n| n.name().unwrap_or_default())
                .filter(|p| inclusive(p)),
        );
        prefixes.sort_unstable();
        prefixes.dedup();
        for prefix in prefixes.into_iter().filter(|prefix| *prefix != "xml") {
            let name = Some(prefix).filter(|prefix| !prefix.is_empty());
            let namespace = element.lookup_namespace_uri(name).unwrap_or_default();
            let outer = self
                .declared
                .iter()
                .rev()
                .find(|(outer, _)| *outer == prefix);
            if outer.map_or("", |(_, namespace)| namespace) == namespace {
                continue;
            }
            self.declared.push((prefix, namespace));
            self.out.push_str(if prefix.is_empty() {
                " xmlns"
            } else {
                " xmlns:"
            });
            self.out.push_str(prefix);
            self.value(namespace);
        }
    }

    /// Writes the attributes, sorted by namespace and local name; those without a namespace come
    /// first.
    fn attributes(&mut self, element: Node<'a, 'i>) {
        let mut attributes: Vec<_> = element.attributes().collect();
        attributes.sort_by(|a, b| {
            let key =
                |a: &roxmltree::Attribute<'a, 'i>| (a.namespace().unwrap_or_default(), a.name());
            key(a).cmp(&key(b))
        });
        for attribute in attributes {
            self.out.push(' ');
            self.out.push_str(attribute_name(element, &attribute));
            self.value(attribute.value());
        }
    }

    fn value(&mut self, value: &str) {
        self.out.push_str("=\"");
        self.escaped(value, |byte| match byte {
            b'&' => Some("&amp;"),
            b'<' => Some("&lt;"),
            b'"' => Some("&quot;"),
            b'\t' => Some("&#x9;"),
            b'\n' => Some("&#xA;"),
            b'\r' => Some("&#xD;"),
            _ => None,
        });
        self.out.push('"');
    }

    /// Writes a text. `escape` returns the replacement for an ASCII byte that must be escaped.
    fn escaped(&mut self, text: &str, escape: impl Fn(u8) -> Option<&'static str>) {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if let Some(escaped) = escape(byte) {
                self.out.push_str(text.get(plain..at).unwrap_or_default());
                self.out.push_str(escaped);
                plain = at + 1;
            }
        }
        self.out.push_str(text.get(plain..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::proof::saml::limits::RESPONSE;
    use crate::proof::saml::xml::Source;

    /// Documents of `tests/data/saml/make/c14n_documents.py`, with the answers of libxml2.
    /// BREVET_C14N_DOCUMENTS names another file of that form.
    #[test]
    fn canonical_text_is_that_of_libxml2() {
        let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/saml/c14n.json");
        let path = std::env::var("BREVET_C14N_DOCUMENTS").unwrap_or(stored.to_owned());
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let xml = case["xml"].as_str().unwrap();
            let source = Source::new(xml.as_bytes(), &RESPONSE).unwrap();
            let document = source.parse().unwrap();
            let elements: Vec<_> = document.descendants().filter(Node::is_element).collect();
            let element = |number: u64| elements[usize::try_from(number).unwrap()];
            let prefixes = case["prefixes"].as_array().unwrap().iter();
            let prefixes = prefixes.map(|p| p.as_str().unwrap());
            let prefixes: Vec<_> = prefixes
                .map(|p| if p == "#default" { "" } else { p })
                .collect();
            let text = canonical(
                element(case["element"].as_u64().unwrap()),
                case["without"].as_u64().map(element),
                &prefixes,
                RESPONSE.bytes,
            );
            assert_eq!(
                text.as_deref(),
                Ok(case["canonical"].as_str().unwrap()),
                "{case:#}"
            );
        }
    }

    #[test]
    fn canonical_text_is_bounded() {
        let xml = format!(
            "<a xmlns:b='urn:{}'>{}</a>",
            "x".repeat(100),
            "<b:c/>".repeat(100)
        );
        let source = Source::new(xml.as_bytes(), &RESPONSE).unwrap();
        let document = source.parse().unwrap();
        assert_eq!(
            canonical(document.root_element(), None, &[], 10_000),
            Err(TooLong)
        );
        assert!(canonical(document.root_element(), None, &[], 20_000).is_ok());
    }
}
