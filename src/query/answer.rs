//! Answers and faults as XML, or as JSON for those who ask: one tree, two writers.

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use serde_json::{Map, Value};

use crate::mint::Credentials;
use crate::ops::assume_role::AssumeRoleOutput;
use crate::ops::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput;
use crate::ops::decode_authorization_message::DecodeAuthorizationMessageOutput;
use crate::ops::get_access_key_info::GetAccessKeyInfoOutput;
use crate::ops::get_caller_identity::GetCallerIdentityOutput;
use crate::ops::get_federation_token::GetFederationTokenOutput;
use crate::ops::get_session_token::GetSessionTokenOutput;
use crate::ops::get_web_identity_token::GetWebIdentityTokenOutput;

pub(super) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A named value, or a named group of them.
pub(super) enum Element {
    Text(String, String),
    Group(String, Vec<Element>),
}

pub(super) fn text(name: &str, value: impl Into<String>) -> Element {
    Element::Text(name.to_owned(), value.into())
}

pub(super) fn group(name: impl Into<String>, elements: Vec<Element>) -> Element {
    Element::Group(name.into(), elements)
}

/// `<{Action}Response><{Action}Result>…</…><ResponseMetadata>…`; an action without output has no
/// result.
pub(super) fn success(
    action: &str,
    namespace: &str,
    result: Option<Vec<Element>>,
    request_id: &str,
    json: bool,
) -> Vec<u8> {
    let metadata = group("ResponseMetadata", vec![text("RequestId", request_id)]);
    let result = result.map(|elements| group(format!("{action}Result"), elements));
    let tree = group(format!("{action}Response"), result.into_iter().chain([metadata]).collect());
    render(&tree, namespace, json)
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
    render(&group("ErrorResponse", vec![error, text("RequestId", request_id)]), NAMESPACE, false)
}

fn render(tree: &Element, namespace: &str, json: bool) -> Vec<u8> {
    if json {
        let mut map = Map::new();
        insert(&mut map, tree);
        return Value::Object(map).to_string().into_bytes();
    }
    let mut writer = Writer::new(Vec::with_capacity(2_048));
    // Writing to memory does not fail.
    let _ = write(&mut writer, tree, Some(namespace));
    writer.into_inner()
}

fn write(writer: &mut Writer<Vec<u8>>, element: &Element, namespace: Option<&str>) -> std::io::Result<()> {
    let (Element::Text(name, _) | Element::Group(name, _)) = element;
    let mut start = BytesStart::new(name.as_str());
    if let Some(namespace) = namespace {
        start.push_attribute(("xmlns", namespace));
    }
    writer.write_event(Event::Start(start))?;
    match element {
        Element::Text(_, value) => {
            let legal: String = value.chars().map(|c| if xml_character(c) { c } else { '\u{fffd}' }).collect();
            writer.write_event(Event::Text(BytesText::new(&legal)))?;
        }
        Element::Group(_, elements) => {
            for element in elements {
                write(writer, element, None)?;
            }
        }
    }
    writer.write_event(Event::End(BytesEnd::new(name.as_str())))
}

/// XML 1.0 section 2.2.
fn xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn insert(map: &mut Map<String, Value>, element: &Element) {
    let (name, value) = match element {
        Element::Text(name, value) => (name, Value::String(value.clone())),
        Element::Group(name, elements) => (name, json(elements)),
    };
    map.insert(name.clone(), value);
}

/// A group whose members are all called `member` is a list.
fn json(elements: &[Element]) -> Value {
    let is_member = |e: &Element| matches!(e, Element::Text(name, _) | Element::Group(name, _) if name == "member");
    if !elements.is_empty() && elements.iter().all(is_member) {
        let item = |element: &Element| match element {
            Element::Text(_, value) => Value::String(value.clone()),
            Element::Group(_, elements) => json(elements),
        };
        return Value::Array(elements.iter().map(item).collect());
    }
    let mut inner = Map::new();
    for element in elements {
        insert(&mut inner, element);
    }
    Value::Object(inner)
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

impl From<DecodeAuthorizationMessageOutput> for Vec<Element> {
    fn from(output: DecodeAuthorizationMessageOutput) -> Self {
        vec![text("DecodedMessage", output.decoded_message)]
    }
}

impl From<GetWebIdentityTokenOutput> for Vec<Element> {
    fn from(output: GetWebIdentityTokenOutput) -> Self {
        vec![
            text("WebIdentityToken", output.web_identity_token.expose().as_str()),
            text("Expiration", output.expiration.to_string()),
        ]
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

impl From<AssumeRoleWithWebIdentityOutput> for Vec<Element> {
    fn from(output: AssumeRoleWithWebIdentityOutput) -> Self {
        let user = vec![text("AssumedRoleId", output.assumed_role_id), text("Arn", output.arn)];
        let mut elements = vec![
            credentials(&output.credentials),
            text("SubjectFromWebIdentityToken", output.subject),
            group("AssumedRoleUser", user),
            text("PackedPolicySize", output.packed_policy_size.to_string()),
            text("Provider", output.provider),
            text("Audience", output.audience),
        ];
        if !output.source_identity.is_empty() {
            elements.push(text("SourceIdentity", output.source_identity));
        }
        elements
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
        let answer = |json| {
            String::from_utf8(success("GetCallerIdentity", NAMESPACE, Some(vec![text("Arn", "a<&\u{1}b")]), "id", json))
                .unwrap()
        };
        assert_eq!(
            answer(false),
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>a&lt;&amp;\u{fffd}b</Arn>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );
        let json: Value = serde_json::from_str(&answer(true)).unwrap();
        assert_eq!(json["GetCallerIdentityResponse"]["ResponseMetadata"]["RequestId"], "id");
    }
}
