//! Answers and errors as a tree of elements. They are written as XML, or as JSON if the client asks
//! for it.

use std::borrow::Cow;

use quick_xml::escape::escape;
use serde_json::{Map, Value};

use crate::base::clock::Timestamp;

/// The name of an element, which must be a valid XML name.
type Name = Cow<'static, str>;

/// A named value, or a named group of elements.
pub(super) enum Element {
    Text(Name, String),
    Number(Name, u64),
    Boolean(Name, bool),
    /// A time, which is written as ISO 8601 in XML, and as seconds since 1970 in JSON.
    Time(Name, Timestamp),
    Group(Name, Vec<Element>),
    /// A list: a group whose members all have the same name. In JSON it is an array.
    List(Name, Vec<Element>),
    /// Values by key, each an `entry` with a `key` and a `value`. In JSON it is an object.
    Map(Name, Vec<(String, Element)>),
}

pub(super) fn text(name: impl Into<Name>, value: impl Into<String>) -> Element {
    Element::Text(name.into(), value.into())
}

pub(super) fn number(name: impl Into<Name>, value: u64) -> Element {
    Element::Number(name.into(), value)
}

pub(super) fn time(name: impl Into<Name>, at: Timestamp) -> Element {
    Element::Time(name.into(), at)
}

pub(super) fn group(name: impl Into<Name>, elements: Vec<Element>) -> Element {
    Element::Group(name.into(), elements)
}

/// Writes the answer of a successful call:
/// `<{Action}Response><{Action}Result>…</…><ResponseMetadata>…`. An action without output has no
/// `{Action}Result`.
pub(super) fn success(
    action: &str,
    namespace: &str,
    result: Option<Vec<Element>>,
    request_id: &str,
    json: bool,
) -> Vec<u8> {
    if json {
        let metadata = group("ResponseMetadata", vec![text("RequestId", request_id)]);
        let result = result.map(|elements| group(format!("{action}Result"), elements));
        let tree = group(
            format!("{action}Response"),
            result.into_iter().chain([metadata]).collect(),
        );
        return in_json(&tree);
    }
    let mut xml = Vec::with_capacity(2_048);
    push(
        &mut xml,
        &["<", action, "Response xmlns=\"", namespace, "\">"],
    );
    if let Some(elements) = result {
        push(&mut xml, &["<", action, "Result>"]);
        elements.iter().for_each(|element| write(&mut xml, element));
        push(&mut xml, &["</", action, "Result>"]);
    }
    let request_id = &*escaped(request_id);
    let before = "<ResponseMetadata><RequestId>";
    let after = "</RequestId></ResponseMetadata></";
    push(&mut xml, &[before, request_id, after, action, "Response>"]);
    xml
}

/// Returns the element for an error. `side` is `Sender` if the client made the error, and
/// `Receiver` if the broker did.
pub(super) fn error(side: &str, code: &str, message: &str) -> Element {
    group(
        "Error",
        vec![
            text("Type", side),
            text("Code", code),
            text("Message", message),
        ],
    )
}

/// Writes the answer of a refused call: `<ErrorResponse><Error>…</Error><RequestId>…`.
pub(super) fn failure(error: Element, namespace: &str, request_id: &str, json: bool) -> Vec<u8> {
    if json {
        // AWS's JSON form of an error has no outer object.
        let mut map = Map::new();
        insert(&mut map, &error);
        insert(&mut map, &text("RequestId", request_id));
        return Value::Object(map).to_string().into_bytes();
    }
    let mut xml = Vec::with_capacity(2_048);
    push(&mut xml, &["<ErrorResponse xmlns=\"", namespace, "\">"]);
    write(&mut xml, &error);
    write(&mut xml, &text("RequestId", request_id));
    push(&mut xml, &["</ErrorResponse>"]);
    xml
}

/// Writes an error of the S3 protocol: `<Error>…` without a namespace.
pub(super) fn s3_error(elements: Vec<Element>) -> Vec<u8> {
    let mut xml = Vec::with_capacity(512);
    write(&mut xml, &group("Error", elements));
    xml
}

fn in_json(tree: &Element) -> Vec<u8> {
    let mut map = Map::new();
    insert(&mut map, tree);
    Value::Object(map).to_string().into_bytes()
}

/// Appends each piece, which must be escaped already.
fn push(xml: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        xml.extend_from_slice(piece.as_bytes());
    }
}

fn write(xml: &mut Vec<u8>, element: &Element) {
    let name = element.name();
    push(xml, &["<", name, ">"]);
    match element {
        Element::Text(_, value) => push(xml, &[&*escaped(value)]),
        Element::Number(_, value) => push(xml, &[&value.to_string()]),
        Element::Boolean(_, value) => push(xml, &[if *value { "true" } else { "false" }]),
        Element::Time(_, at) => push(xml, &[&at.to_string()]),
        Element::Group(_, elements) | Element::List(_, elements) => {
            elements.iter().for_each(|element| write(xml, element));
        }
        Element::Map(_, entries) => {
            for (key, value) in entries {
                push(xml, &["<entry><key>", &*escaped(key), "</key>"]);
                write(xml, value);
                push(xml, &["</entry>"]);
            }
        }
    }
    push(xml, &["</", name, ">"]);
}

/// Escapes the special characters of XML. A carriage return becomes a character reference, because
/// XML parsers turn a plain one into a line feed (XML 1.0 section 2.11).
fn escaped(text: &str) -> Cow<'_, str> {
    // Nearly every text is printable ASCII without such characters. The test looks at all bytes, so
    // that the compiler can make it look at many of them at once.
    let is_plain =
        |b: u8| matches!(b, b' '..=b'~') & !matches!(b, b'<' | b'>' | b'&' | b'\'' | b'"');
    if text.bytes().fold(true, |all, b| all & is_plain(b)) {
        return text.into();
    }
    escape(legal(text)).replace('\r', "&#13;").into()
}

/// Replaces characters that XML does not allow by U+FFFD.
fn legal(text: &str) -> Cow<'_, str> {
    if text.chars().all(xml_character) {
        return text.into();
    }
    text.chars()
        .map(|c| if xml_character(c) { c } else { '\u{fffd}' })
        .collect()
}

/// Returns whether XML allows a character (XML 1.0 section 2.2).
fn xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

impl Element {
    fn name(&self) -> &str {
        match self {
            Self::Text(name, _)
            | Self::Number(name, _)
            | Self::Boolean(name, _)
            | Self::Time(name, _)
            | Self::Group(name, _)
            | Self::List(name, _)
            | Self::Map(name, _) => name,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(_, value) => Value::String(value.clone()),
            Self::Number(_, value) => (*value).into(),
            Self::Boolean(_, value) => (*value).into(),
            Self::Time(_, at) => at.seconds().into(),
            Self::List(_, elements) => elements.iter().map(Self::json).collect(),
            Self::Map(_, entries) => entries
                .iter()
                .map(|(key, value)| (key.clone(), value.json()))
                .collect::<Map<String, Value>>()
                .into(),
            Self::Group(_, elements) => {
                let mut inner = Map::new();
                for element in elements {
                    insert(&mut inner, element);
                }
                Value::Object(inner)
            }
        }
    }
}

fn insert(map: &mut Map<String, Value>, element: &Element) {
    map.insert(element.name().to_owned(), element.json());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::respond::STS_NAMESPACE as NAMESPACE;

    #[test]
    fn both_forms() {
        let answer = |json| {
            String::from_utf8(success(
                "GetCallerIdentity",
                NAMESPACE,
                Some(vec![text("Arn", "a<&\u{1}b")]),
                "id",
                json,
            ))
            .unwrap()
        };
        assert_eq!(
            answer(false),
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>a&lt;&amp;\u{fffd}b</Arn>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );
        let json: Value = serde_json::from_str(&answer(true)).unwrap();
        assert_eq!(
            json["GetCallerIdentityResponse"]["ResponseMetadata"]["RequestId"],
            "id"
        );
    }

    #[test]
    fn a_carriage_return_survives() {
        let elements = vec![text("Document", "a\r\nb")];
        let xml = String::from_utf8(success("Get", NAMESPACE, Some(elements), "id", false));
        assert!(xml.unwrap().contains("<Document>a&#13;\nb</Document>"));
    }

    #[test]
    fn json_has_types_and_xml_has_texts() {
        let elements = || {
            vec![
                time("Expiration", Timestamp::from_seconds(1_767_323_045)),
                number("PackedPolicySize", 6),
                Element::Boolean("IsTruncated".into(), false),
                Element::List("Devices".into(), vec![text("member", "a")]),
                Element::List("Users".into(), Vec::new()),
                Element::Map(
                    "Summary".into(),
                    vec![("Users".to_owned(), number("value", 2))],
                ),
            ]
        };
        let answer = |json| {
            String::from_utf8(success("Get", NAMESPACE, Some(elements()), "id", json)).unwrap()
        };
        let json: Value = serde_json::from_str(&answer(true)).unwrap();
        assert_eq!(
            json["GetResponse"]["GetResult"],
            serde_json::json!({
                "Expiration": 1_767_323_045, "PackedPolicySize": 6, "IsTruncated": false, "Devices": ["a"], "Users": [],
                "Summary": {"Users": 2}
            })
        );
        assert!(answer(false).contains(
            "<Expiration>2026-01-02T03:04:05Z</Expiration><PackedPolicySize>6</PackedPolicySize>\
             <IsTruncated>false</IsTruncated><Devices><member>a</member></Devices><Users></Users>\
             <Summary><entry><key>Users</key><value>2</value></entry></Summary>"
        ));
    }
}
