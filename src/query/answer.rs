//! Answers and faults as XML, or as JSON for those who ask: one tree, two writers.

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use serde_json::{Map, Value};

use crate::mint::Credentials;
use crate::ops::assume_role::AssumeRoleOutput;
use crate::ops::get_access_key_info::GetAccessKeyInfoOutput;
use crate::ops::get_caller_identity::GetCallerIdentityOutput;
use crate::ops::get_federation_token::GetFederationTokenOutput;
use crate::ops::get_session_token::GetSessionTokenOutput;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A named value, or a named group of them.
pub(super) struct Element {
    name: String,
    content: Content,
}

enum Content {
    Text(String),
    Group(Vec<Element>),
}

fn text(name: &str, value: impl Into<String>) -> Element {
    Element { name: name.to_owned(), content: Content::Text(value.into()) }
}

fn group(name: impl Into<String>, elements: Vec<Element>) -> Element {
    Element { name: name.into(), content: Content::Group(elements) }
}

/// `<{Action}Response><{Action}Result>…</…><ResponseMetadata>…`
pub(super) fn success(action: &str, result: Vec<Element>, request_id: &str, json: bool) -> Vec<u8> {
    let metadata = group("ResponseMetadata", vec![text("RequestId", request_id)]);
    let tree = group(format!("{action}Response"), vec![group(format!("{action}Result"), result), metadata]);
    render(&tree, json)
}

/// `<ErrorResponse><Error>…</Error><RequestId>…`
pub(super) fn failure(side: &str, code: &str, message: &str, request_id: &str, json: bool) -> Vec<u8> {
    let error = group("Error", vec![text("Type", side), text("Code", code), text("Message", message)]);
    if json {
        // AWS's JSON form has no outer name here.
        let mut map = Map::new();
        insert(&mut map, &error);
        insert(&mut map, &text("RequestId", request_id));
        return Value::Object(map).to_string().into_bytes();
    }
    render(&group("ErrorResponse", vec![error, text("RequestId", request_id)]), false)
}

fn render(tree: &Element, json: bool) -> Vec<u8> {
    if json {
        let mut map = Map::new();
        insert(&mut map, tree);
        return Value::Object(map).to_string().into_bytes();
    }
    let mut writer = Writer::new(Vec::with_capacity(2_048));
    // Writing to memory does not fail.
    let _ = write(&mut writer, tree, Some(NAMESPACE));
    writer.into_inner()
}

fn write(writer: &mut Writer<Vec<u8>>, element: &Element, namespace: Option<&str>) -> std::io::Result<()> {
    let mut start = BytesStart::new(element.name.as_str());
    if let Some(namespace) = namespace {
        start.push_attribute(("xmlns", namespace));
    }
    writer.write_event(Event::Start(start))?;
    match &element.content {
        Content::Text(value) => {
            let legal: String = value.chars().map(|c| if xml_character(c) { c } else { '\u{fffd}' }).collect();
            writer.write_event(Event::Text(BytesText::new(&legal)))?;
        }
        Content::Group(elements) => {
            for element in elements {
                write(writer, element, None)?;
            }
        }
    }
    writer.write_event(Event::End(BytesEnd::new(element.name.as_str())))
}

/// XML 1.0 section 2.2.
fn xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn insert(map: &mut Map<String, Value>, element: &Element) {
    let value = match &element.content {
        Content::Text(value) => Value::String(value.clone()),
        Content::Group(elements) => {
            let mut inner = Map::new();
            for element in elements {
                insert(&mut inner, element);
            }
            Value::Object(inner)
        }
    };
    map.insert(element.name.clone(), value);
}

impl From<AssumeRoleOutput> for Vec<Element> {
    fn from(output: AssumeRoleOutput) -> Self {
        let user = vec![text("AssumedRoleId", output.assumed_role_id), text("Arn", output.arn)];
        let mut elements = vec![
            credentials(&output.credentials),
            group("AssumedRoleUser", user),
            text("PackedPolicySize", output.packed_policy_size.to_string()),
        ];
        if !output.source_identity.is_empty() {
            elements.push(text("SourceIdentity", output.source_identity));
        }
        elements
    }
}

impl From<GetSessionTokenOutput> for Vec<Element> {
    fn from(output: GetSessionTokenOutput) -> Self {
        vec![credentials(&output.credentials)]
    }
}

impl From<GetFederationTokenOutput> for Vec<Element> {
    fn from(output: GetFederationTokenOutput) -> Self {
        let user = vec![text("FederatedUserId", output.federated_user_id), text("Arn", output.arn)];
        vec![
            credentials(&output.credentials),
            group("FederatedUser", user),
            text("PackedPolicySize", output.packed_policy_size.to_string()),
        ]
    }
}

fn credentials(credentials: &Credentials) -> Element {
    group(
        "Credentials",
        vec![
            text("AccessKeyId", credentials.access_key_id.as_str()),
            text("SecretAccessKey", credentials.secret_access_key.expose().as_str()),
            text("SessionToken", credentials.session_token.expose().as_str()),
            text("Expiration", credentials.expires_at.to_string()),
        ],
    )
}

impl From<GetCallerIdentityOutput> for Vec<Element> {
    fn from(output: GetCallerIdentityOutput) -> Self {
        vec![text("Arn", output.arn), text("UserId", output.user_id), text("Account", output.account)]
    }
}

impl From<GetAccessKeyInfoOutput> for Vec<Element> {
    fn from(output: GetAccessKeyInfoOutput) -> Self {
        vec![text("Account", output.account)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let answer =
            |json| String::from_utf8(success("GetCallerIdentity", vec![text("Arn", "a<&\u{1}b")], "id", json)).unwrap();
        assert_eq!(
            answer(false),
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>a&lt;&amp;\u{fffd}b</Arn>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );
        let json: Value = serde_json::from_str(&answer(true)).unwrap();
        assert_eq!(json["GetCallerIdentityResponse"]["ResponseMetadata"]["RequestId"], "id");
    }
}
