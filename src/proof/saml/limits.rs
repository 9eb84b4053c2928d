//! Scans XML text in linear time before it is parsed. The scan limits the time and memory that the
//! parser can spend on the text, and refuses constructs that different parsers read differently. It
//! does not interpret the content.

/// The limits of a document, which bound the parser's time and memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The maximum length of the text in bytes.
    pub bytes: usize,
    /// The maximum nesting depth of elements, which is also the depth of recursion in canonicalization.
    pub depth: usize,
    /// The maximum number of elements, texts, CDATA sections and comments together.
    pub nodes: u32,
}

/// The limits of a response. Its 100,000 characters of base64 are 75,000 bytes of XML.
pub(super) const RESPONSE: Limits = Limits {
    bytes: 75_000,
    depth: 32,
    nodes: 20_000,
};

/// The limits of the canonical text of a response or an assertion. It can be longer than the
/// original, because canonicalization repeats a namespace declaration at each element that needs
/// it. Many identity providers use `xsi` at each value of an attribute, which doubles the text.
pub(super) const CANONICAL: Limits = Limits {
    bytes: 225_000,
    ..RESPONSE
};

/// The limits of a metadata document. The largest known document of a single identity provider (AD
/// FS, with its claim descriptions) has about 100,000 bytes.
pub(super) const METADATA: Limits = Limits {
    bytes: 1_000_000,
    depth: 32,
    nodes: 60_000,
};

/// The maximum number of attributes of one element, including namespace declarations. The limit
/// keeps the parser fast, since it compares each attribute with all others.
const MAX_ATTRIBUTES: usize = 64;
/// The maximum number of namespace declarations in scope at one element. Parsers copy all of them
/// to each element that adds a declaration.
const MAX_NAMESPACES: usize = 32;
/// The maximum length in bytes of the name of an element or attribute.
const MAX_NAME: usize = 128;
/// The maximum length in bytes of a namespace.
const MAX_NAMESPACE_NAME: usize = 512;

/// Why a text is not accepted as XML: the construct or the limit that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// The text is longer than this limit in bytes.
    #[error("the document has more than {0} bytes")]
    TooLong(usize),
    /// The text is not UTF-8, or declares another encoding.
    #[error("the document is not in UTF-8, or declares another encoding")]
    Encoding,
    /// The XML declaration is malformed, or declares a version other than 1.0.
    #[error("the XML declaration is malformed, or declares a version other than 1.0")]
    Declaration,
    /// The text has a document type declaration or another declaration.
    #[error(
        "the document has a document type declaration (DTD) or another construct that begins with `<!`"
    )]
    Dtd,
    #[error("the document has a processing instruction")]
    ProcessingInstruction,
    /// The text refers to an entity other than the five predefined ones, or to a character that XML
    /// forbids.
    #[error(
        "the document refers to an entity other than the five predefined ones, or to a character that XML \
        forbids"
    )]
    Reference,
    #[error("the document has a character that XML does not allow")]
    Character,
    /// The name of an element or attribute is malformed, is not ASCII, is longer than 128 bytes, or is reserved.
    #[error(
        "the document has an element or attribute whose name is malformed, is not ASCII, is longer than 128 bytes, or \
        is reserved"
    )]
    Name,
    /// A namespace is not an absolute URI, is longer than 512 bytes, or has unusual characters.
    #[error(
        "the document declares a namespace that is not an absolute URI, is longer than 512 bytes, or has \
        unusual characters"
    )]
    Namespace,
    /// An element has the same attribute or namespace declaration twice.
    #[error("an element has the same attribute or namespace declaration twice")]
    DuplicateAttribute,
    /// The text has more parts of a kind than the limit allows. The text names the kind and the limit.
    #[error("the document has too many {0}")]
    TooMany(&'static str),
    /// Two elements have the same ID, or an ID is not a valid name.
    #[error("an ID of the document is not unique, or is not a valid name")]
    Id,
    #[error("the document is not well-formed XML")]
    Malformed,
}

/// Scans the text of a document without its XML declaration.
///
/// # Errors
/// [`XmlError`] for the first construct that is refused.
pub(super) fn check(text: &str, limits: &Limits) -> Result<(), XmlError> {
    if text.len() > limits.bytes {
        return Err(XmlError::TooLong(limits.bytes));
    }
    if !text.chars().all(is_xml) {
        return Err(XmlError::Character);
    }
    let mut rest = text;
    // The name of each open element, and the number of namespaces in scope there.
    let mut open: Vec<(&str, usize)> = Vec::with_capacity(limits.depth);
    let mut nodes = 0;
    while let Some((before, markup)) = rest.split_once('<') {
        references(before)?;
        // The end of an element is no further node.
        nodes += u32::from(!markup.starts_with('/')) + u32::from(!before.is_empty());
        if nodes > limits.nodes {
            return Err(XmlError::TooMany(
                "elements, texts and comments (limit: 20,000 in a response, 60,000 in metadata)",
            ));
        }
        rest = if let Some(comment) = markup.strip_prefix("!--") {
            after(comment, "-->")?
        } else if let Some(data) = markup.strip_prefix("![CDATA[") {
            after(data, "]]>")?
        } else if markup.starts_with('!') {
            return Err(XmlError::Dtd);
        } else if markup.starts_with('?') {
            return Err(XmlError::ProcessingInstruction);
        } else if let Some(close) = markup.strip_prefix('/') {
            // The parser would also let `</:a>` end `<a>`.
            let (name, _) = open.pop().ok_or(XmlError::Malformed)?;
            let end = close.strip_prefix(name).ok_or(XmlError::Malformed)?;
            let end = end.trim_start_matches(SPACE).strip_prefix('>');
            end.ok_or(XmlError::Malformed)?
        } else {
            let tag = Tag::scan(markup)?;
            let outer = open.last().map_or(0, |(_, namespaces)| *namespaces);
            let namespaces = outer + tag.namespaces;
            if namespaces > MAX_NAMESPACES {
                return Err(XmlError::TooMany("namespaces in scope (limit: 32)"));
            }
            if !tag.is_empty {
                open.push((tag.name, namespaces));
            }
            if open.len() > limits.depth {
                return Err(XmlError::TooMany("levels of nested elements (limit: 32)"));
            }
            tag.rest
        };
    }
    references(rest)
}

fn after<'a>(text: &'a str, end: &str) -> Result<&'a str, XmlError> {
    text.split_once(end)
        .map(|(_, rest)| rest)
        .ok_or(XmlError::Malformed)
}

/// A scanned start tag, with the text that follows it.
struct Tag<'a> {
    name: &'a str,
    namespaces: usize,
    is_empty: bool,
    rest: &'a str,
}

impl<'a> Tag<'a> {
    /// Scans a start tag. `markup` begins after the tag's `<`.
    fn scan(markup: &'a str) -> Result<Self, XmlError> {
        let (name, mut rest) = name(markup)?;
        if matches!(name.prefix, "xml" | "xmlns") {
            return Err(XmlError::Name);
        }
        let mut seen: Vec<&str> = Vec::new();
        let mut namespaces = 0;
        loop {
            rest = rest.trim_start_matches(SPACE);
            for (end, is_empty) in [("/>", true), (">", false)] {
                if let Some(rest) = rest.strip_prefix(end) {
                    return Ok(Self {
                        name: name.qualified,
                        namespaces,
                        is_empty,
                        rest,
                    });
                }
            }
            let (attribute, behind) = self::name(rest)?;
            let equals = behind.trim_start_matches(SPACE).strip_prefix('=');
            let value = equals.ok_or(XmlError::Malformed)?.trim_start_matches(SPACE);
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (value, behind) = quote
                .and_then(|quote| value.strip_prefix(quote)?.split_once(quote))
                .ok_or(XmlError::Malformed)?;
            rest = behind;
            if value.contains('<') {
                return Err(XmlError::Malformed);
            }
            references(value)?;
            if attribute.declares_namespace()? {
                namespace(value, attribute.prefix.is_empty())?;
                namespaces += 1;
            }
            if seen.contains(&attribute.qualified) {
                return Err(XmlError::DuplicateAttribute);
            }
            seen.push(attribute.qualified);
            if seen.len() > MAX_ATTRIBUTES {
                return Err(XmlError::TooMany("attributes on one element (limit: 64)"));
            }
        }
    }
}

/// A qualified name, with its prefix and its local part.
struct Name<'a> {
    qualified: &'a str,
    prefix: &'a str,
    local: &'a str,
}

impl Name<'_> {
    /// Returns whether an attribute with this name declares a namespace. Refuses a declaration of
    /// `xml` or `xmlns`, and an attribute `p:xmlns`, which parsers read differently.
    fn declares_namespace(&self) -> Result<bool, XmlError> {
        match (self.prefix, self.local) {
            ("", "xmlns") => Ok(true),
            ("xmlns", "xml" | "xmlns") => Err(XmlError::Name),
            ("xmlns", _) => Ok(true),
            (_, "xmlns") => Err(XmlError::Name),
            _ => Ok(false),
        }
    }
}

/// Reads a qualified name at the beginning of a text. Returns it with the rest of the text. Names
/// must be ASCII: SAML, XML Signature and all known identity providers use no others.
fn name(text: &str) -> Result<(Name<'_>, &str), XmlError> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (qualified, rest) = text.split_at_checked(end).ok_or(XmlError::Name)?;
    let (prefix, local) = match qualified.split_once(':') {
        Some(("", _)) => return Err(XmlError::Name),
        Some((prefix, local)) => (prefix, local),
        None => ("", qualified),
    };
    let starts_well = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if qualified.len() > MAX_NAME
        || !starts_well(local)
        || local.contains(':')
        || !(prefix.is_empty() || starts_well(prefix))
    {
        return Err(XmlError::Name);
    }
    let name = Name {
        qualified,
        prefix,
        local,
    };
    Ok((name, rest))
}

/// Checks the value of a namespace declaration. It must be an absolute URI, because Namespaces in XML
/// 1.0 section 2.2 deprecates relative ones and Canonical XML refuses them. Only the default namespace
/// may be removed by an empty value.
fn namespace(value: &str, is_default: bool) -> Result<(), XmlError> {
    if value.is_empty() && is_default {
        return Ok(());
    }
    let is_accepted = |b: u8| b.is_ascii_alphanumeric() || b":/.#-_~?+@!$'()*,;".contains(&b);
    let is_absolute = value.split_once(':').is_some_and(|(scheme, rest)| {
        let authority = rest.strip_prefix("//");
        let authority = authority.and_then(|rest| rest.split(['/', '?', '#']).next());
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && authority.is_none_or(is_authority)
    });
    let fragments = value.matches('#').count();
    if value.len() <= MAX_NAMESPACE_NAME
        && is_absolute
        && fragments <= 1
        && value.bytes().all(is_accepted)
    {
        Ok(())
    } else {
        Err(XmlError::Namespace)
    }
}

/// Returns whether a text is a host with an optional port (RFC 3986 section 3.2), without a user
/// name.
fn is_authority(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    !host.is_empty()
        && host.bytes().all(is_host)
        && (1..=5).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// Checks the character and entity references in a text or in the value of an attribute.
fn references(text: &str) -> Result<(), XmlError> {
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('&') {
        let (reference, behind) = behind.split_once(';').ok_or(XmlError::Reference)?;
        rest = behind;
        let number = match reference.strip_prefix('#') {
            None if matches!(reference, "amp" | "lt" | "gt" | "quot" | "apos") => continue,
            None => return Err(XmlError::Reference),
            Some(number) => number,
        };
        let (digits, radix) = match number.strip_prefix('x') {
            Some(digits) => (digits, 16),
            None => (number, 10),
        };
        // `from_str_radix` would accept a sign.
        let is_number = digits.len() <= 8 && digits.chars().all(|c| c.is_digit(radix));
        let character = u32::from_str_radix(digits, radix)
            .ok()
            .and_then(char::from_u32);
        if !is_number || !character.is_some_and(is_xml) {
            return Err(XmlError::Reference);
        }
    }
    Ok(())
}

/// The white space characters of XML: XML 1.0 section 2.3.
pub(super) const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Returns whether XML allows a character: XML 1.0 section 2.2, `Char`.
fn is_xml(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => c >= ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<XmlError> {
        check(text, &RESPONSE).err()
    }

    #[test]
    fn ordinary_xml_passes() {
        let text = "<a:b xmlns:h='http://a-b.example:8080/c?d:e@f#g' xmlns:a='urn:a' xmlns=\"urn:b\" c = 'd>&lt;' a:c=''>e&#x1F600;&#9;\
                    &amp;<!-- - --><f/><![CDATA[<g>]]></a:b> <!---->";
        assert_eq!(refused(text), None);
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        use XmlError::*;
        let cases = [
            ("<!DOCTYPE a><a/>", Dtd),
            ("<a><!ENTITY b 'c'></a>", Dtd),
            ("<a><?b?></a>", ProcessingInstruction),
            ("<?xml version='1.0'?><a/>", ProcessingInstruction),
            ("<a>&b;</a>", Reference),
            ("<a>&amp</a>", Reference),
            ("<a b='&c;'/>", Reference),
            ("<a>&#0;</a>", Reference),
            ("<a>&#xD800;</a>", Reference),
            ("<a>&#x110000;</a>", Reference),
            ("<a>&#+65;</a>", Reference),
            ("<a>&#X41;</a>", Reference),
            ("<a>&#;</a>", Reference),
            ("<a>\u{1}</a>", Character),
            ("<a>\u{ffff}</a>", Character),
            ("<:a/>", Name),
            ("<a:b:c/>", Name),
            ("<a: b=''/>", Name),
            ("<é/>", Name),
            ("<xmlns:a/>", Name),
            ("<xml:a/>", Name),
            ("<a b:xmlns='urn:c'/>", Name),
            (
                "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
                Name,
            ),
            ("<a xmlns:b=''/>", Namespace),
            ("<a xmlns='b'/>", Namespace),
            ("<a xmlns='../b:c'/>", Namespace),
            ("<a xmlns='urn:a&amp;b'/>", Namespace),
            ("<a xmlns='http://a:b/c'/>", Namespace),
            ("<a xmlns='http://a:1:2/c'/>", Namespace),
            ("<a xmlns='http://a:/c'/>", Namespace),
            ("<a xmlns='http:///c'/>", Namespace),
            ("<a xmlns='http://a@b/c'/>", Namespace),
            ("<a xmlns='urn:a' xmlns='urn:b'/>", DuplicateAttribute),
            ("<a b='' b=''/>", DuplicateAttribute),
            ("<a b='<'/>", Malformed),
            ("<a b=c/>", Malformed),
            ("</a>", Malformed),
            ("<a></:a>", Malformed),
            ("<a:b></b>", Malformed),
            ("<a></ a>", Malformed),
            ("<a></ab>", Malformed),
            ("<a><!-- </a>", Malformed),
        ];
        for (text, why) in cases {
            assert_eq!(refused(text), Some(why), "{text}");
        }
    }

    #[test]
    fn each_amount_is_bounded() {
        let attributes = |n: usize| {
            let all: String = (0..n).map(|i| format!(" a{i}=''")).collect();
            format!("<a{all}/>")
        };
        assert_eq!(refused(&attributes(MAX_ATTRIBUTES)), None);
        assert_eq!(
            refused(&attributes(MAX_ATTRIBUTES + 1)),
            Some(XmlError::TooMany("attributes on one element (limit: 64)"))
        );
        let namespaces = |n: usize| {
            (0..n).rfold(String::new(), |inner, i| {
                format!("<a xmlns:a{i}='urn:a'>{inner}</a>")
            })
        };
        assert_eq!(
            refused(&namespaces(RESPONSE.depth.min(MAX_NAMESPACES))),
            None
        );
        let many: String = (0..=MAX_NAMESPACES)
            .map(|i| format!(" xmlns:a{i}='urn:a'"))
            .collect();
        assert_eq!(
            refused(&format!("<a{many}/>")),
            Some(XmlError::TooMany("namespaces in scope (limit: 32)"))
        );
        let deep = |n: usize| "<a>".repeat(n) + &"</a>".repeat(n);
        assert_eq!(refused(&deep(RESPONSE.depth)), None);
        assert_eq!(
            refused(&deep(RESPONSE.depth + 1)),
            Some(XmlError::TooMany("levels of nested elements (limit: 32)"))
        );
        assert!(
            refused(&format!(
                "<a>{}</a>",
                "<b/>".repeat(RESPONSE.nodes as usize)
            ))
            .is_some()
        );
        // An end tag does not count.
        let nodes = RESPONSE.nodes as usize;
        let half = format!("<a>{}</a>", "<b></b>".repeat(nodes / 2 + 1));
        assert_eq!(refused(&half), None);
        let name = "a".repeat(MAX_NAME + 1);
        assert_eq!(refused(&format!("<{name}/>")), Some(XmlError::Name));
        let long = "a".repeat(RESPONSE.bytes + 1);
        assert_eq!(refused(&long), Some(XmlError::TooLong(RESPONSE.bytes)));
    }
}
