//! Reads requests and writes answers as AWS's published model describes them. The model contains
//! the shape of each value as data, and this module checks the shapes' rules (type, length,
//! pattern, members) for every action.
//!
//! `iam_model.json` is botocore's model of IAM (Apache-2.0) without its documentation;
//! `tests/clients/iam_model.py` writes it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{Element, group, text};
use crate::audit::Digest;
use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::base::form::Parameters;
use crate::error::Error;
use crate::session::durations;

/// The model of IAM, version 2010-05-08. A unit test checks that it can be parsed.
pub(super) static IAM: LazyLock<Option<Model>> = LazyLock::new(|| {
    let mut model: Model = serde_json::from_str(include_str!("iam_model.json")).ok()?;
    // Roles may have longer sessions here than the 12 hours of AWS.
    let duration = model.shapes.get_mut("roleMaxSessionDurationType")?;
    duration.max = i64::try_from(durations::MAX.as_secs()).ok();
    Some(model)
});

/// The name of the model's shape for policy documents, of which the audit log contains only a
/// digest.
const POLICY_DOCUMENT: &str = "policyDocumentType";
/// The name of the model's shape for SAML metadata, of which the audit log contains only a digest.
const SAML_METADATA: &str = "SAMLMetadataDocumentType";
/// The maximum nesting depth of the structures in a request or an answer.
const MAX_DEPTH: usize = 8;

/// The actions of a service, and the shapes of their inputs and outputs.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    operations: BTreeMap<String, Action>,
    shapes: BTreeMap<String, Shape>,
}

#[derive(Debug, Deserialize)]
struct Action {
    input: Option<String>,
    output: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Structure,
    List,
    Map,
    String,
    Integer,
    Boolean,
    Timestamp,
    Blob,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Shape {
    r#type: Type,
    required: Vec<String>,
    members: BTreeMap<String, String>,
    member: String,
    key: String,
    value: String,
    min: Option<i64>,
    max: Option<i64>,
    pattern: Option<Pattern>,
    r#enum: Vec<String>,
    sensitive: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            r#type: Type::String,
            required: Vec::new(),
            members: BTreeMap::new(),
            member: String::new(),
            key: String::new(),
            value: String::new(),
            min: None,
            max: None,
            pattern: None,
            r#enum: Vec::new(),
            sensitive: false,
        }
    }
}

/// A compiled pattern. `regex` is `None` for a pattern with look-around, which this crate cannot compile; the operation
/// itself checks such values.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        // The model escapes slashes, which this crate's patterns do not allow. Its letters and digits are those
        // of ASCII.
        let ascii = text
            .replace("\\/", "/")
            .replace("\\w", "[0-9A-Za-z_]")
            .replace("\\d", "[0-9]");
        let regex = Regex::new(&format!("^(?:{ascii})$")).ok();
        Self { text, regex }
    }
}

impl Model {
    /// Reads and checks the input of an action from the parameters of a request.
    ///
    /// # Errors
    /// [`Error::Validation`] for the first parameter that breaks a rule, or else for one that the action does not have.
    pub(super) fn read(
        &self,
        action: &str,
        parameters: &mut Parameters,
    ) -> Result<Map<String, Value>, Error> {
        let shape = self
            .operations
            .get(action)
            .and_then(|a| a.input.as_ref())
            .and_then(|s| self.shapes.get(s));
        let input = match shape {
            Some(shape) => self.structure(shape, "", parameters, 0)?,
            None => Map::new(),
        };
        parameters.none_left()?;
        Ok(input)
    }

    /// Returns the input for the audit log: without MFA codes and values that the model marks as sensitive, and with
    /// digests instead of policy documents and metadata.
    pub(super) fn audited(&self, action: &str, input: &Map<String, Value>) -> Map<String, Value> {
        let shape = self
            .operations
            .get(action)
            .and_then(|a| a.input.as_ref())
            .and_then(|s| self.shapes.get(s));
        let members = shape.map(|s| &s.members);
        let lower = |name: &str| {
            name.chars()
                .take(1)
                .flat_map(char::to_lowercase)
                .chain(name.chars().skip(1))
                .collect()
        };
        let public = |(name, value): (&String, &Value)| {
            let shape = members.and_then(|m| m.get(name))?;
            // MFA codes are not marked as sensitive, but do not belong in the log either.
            let hidden =
                name.starts_with("AuthenticationCode") || self.shapes.get(shape)?.sensitive;
            (!hidden).then(|| (lower(name), self.digested(shape, value)))
        };
        input.iter().filter_map(public).collect()
    }

    fn digested(&self, shape: &str, value: &Value) -> Value {
        match (shape, value) {
            (POLICY_DOCUMENT | SAML_METADATA, Value::String(text)) => {
                serde_json::json!(Digest::of(text))
            }
            (_, Value::Array(items)) => {
                let member = self
                    .shapes
                    .get(shape)
                    .map(|s| s.member.as_str())
                    .unwrap_or_default();
                items
                    .iter()
                    .map(|item| self.digested(member, item))
                    .collect()
            }
            (_, Value::Object(map)) => {
                let members = self.shapes.get(shape).map(|s| &s.members);
                let member = |(name, value): (&String, &Value)| {
                    let shape = members.and_then(|m| m.get(name));
                    let value = self.digested(shape.map_or("", String::as_str), value);
                    (name.clone(), value)
                };
                Value::Object(map.iter().map(member).collect())
            }
            (_, other) => other.clone(),
        }
    }

    /// Converts an action's output to elements; `None` if the model has no output for the action.
    /// Members that are absent or null are left out, and an empty list becomes an empty element.
    pub(super) fn write(&self, action: &str, output: &Value) -> Option<Vec<Element>> {
        let shape = self.operations.get(action)?.output.as_ref()?;
        match self.element("", shape, output, 0) {
            Some(Element::Group(_, elements)) => Some(elements),
            // UpdateRole has an output without members, whose element clients insist on.
            _ => Some(Vec::new()),
        }
    }

    fn element(&self, name: &str, shape: &str, value: &Value, depth: usize) -> Option<Element> {
        let shape = self.shapes.get(shape).filter(|_| depth <= MAX_DEPTH)?;
        Some(match (shape.r#type, value) {
            (_, Value::Null) => return None,
            (Type::Structure, Value::Object(map)) => {
                let member = |(name, shape): (&String, &String)| {
                    self.element(name, shape, map.get(name)?, depth + 1)
                };
                group(
                    name.to_owned(),
                    shape.members.iter().filter_map(member).collect(),
                )
            }
            (Type::List, Value::Array(items)) => {
                let item = |value| self.element("member", &shape.member, value, depth + 1);
                Element::List(
                    name.to_owned().into(),
                    items.iter().filter_map(item).collect(),
                )
            }
            (Type::Map, Value::Object(map)) => {
                let entry = |(key, value): (&String, &Value)| {
                    let value = self.element("value", &shape.value, value, depth + 1)?;
                    Some((key.clone(), value))
                };
                Element::Map(
                    name.to_owned().into(),
                    map.iter().filter_map(entry).collect(),
                )
            }
            (Type::Timestamp, Value::String(value)) => match value.parse::<jiff::Timestamp>() {
                Ok(at) => Element::Time(
                    name.to_owned().into(),
                    Timestamp::from_seconds(at.as_second()),
                ),
                Err(_) => text(name.to_owned(), value),
            },
            (_, Value::Bool(value)) => Element::Boolean(name.to_owned().into(), *value),
            (_, Value::Number(value)) if value.is_u64() => {
                Element::Number(name.to_owned().into(), value.as_u64()?)
            }
            (_, Value::String(value)) => text(name.to_owned(), value),
            (_, value) => text(name.to_owned(), value.to_string()),
        })
    }

    fn structure(
        &self,
        shape: &Shape,
        at: &str,
        parameters: &mut Parameters,
        depth: usize,
    ) -> Result<Map<String, Value>, Error> {
        let mut map = Map::new();
        for (member, shape_of) in &shape.members {
            let at = if at.is_empty() {
                member.clone()
            } else {
                format!("{at}.{member}")
            };
            match self.value(shape_of, &at, parameters, depth + 1)? {
                Some(value) => _ = map.insert(member.clone(), value),
                None if shape.required.contains(member) => {
                    return Err(FieldError::new(at, "must not be null").into());
                }
                None => {}
            }
        }
        Ok(map)
    }

    fn value(
        &self,
        shape: &str,
        at: &str,
        parameters: &mut Parameters,
        depth: usize,
    ) -> Result<Option<Value>, Error> {
        let Some(shape) = self.shapes.get(shape).filter(|_| depth <= MAX_DEPTH) else {
            return Ok(None);
        };
        match shape.r#type {
            Type::Structure => {
                if !parameters.has_under(at) {
                    return Ok(None);
                }
                let map = self.structure(shape, at, parameters, depth)?;
                Ok(Some(Value::Object(map)))
            }
            Type::List => self.list(shape, at, parameters, depth),
            Type::Map => self.map(shape, at, parameters, depth),
            Type::String => parameters
                .take(at)
                .map(|text| string(shape, at, text))
                .transpose(),
            Type::Integer => match parameters.number(at)? {
                Some(number) => integer(shape, at, number).map(Some),
                None => Ok(None),
            },
            Type::Boolean => match parameters.take(at).as_deref() {
                None => Ok(None),
                Some("true") => Ok(Some(true.into())),
                Some("false") => Ok(Some(false.into())),
                Some(_) => Err(FieldError::new(at.to_owned(), "must be `true` or `false`").into()),
            },
            Type::Timestamp => match parameters.take(at) {
                None => Ok(None),
                Some(text) if text.parse::<jiff::Timestamp>().is_ok() => Ok(Some(text.into())),
                Some(_) => Err(FieldError::new(
                    at.to_owned(),
                    "must be an ISO 8601 time with a zone, such as 2026-11-27T10:00:00Z",
                )
                .into()),
            },
            Type::Blob => match parameters.take(at) {
                None => Ok(None),
                Some(text) if STANDARD.decode(&text).is_ok() => Ok(Some(text.into())),
                Some(_) => Err(FieldError::new(at.to_owned(), "must be base64").into()),
            },
        }
    }

    fn list(
        &self,
        shape: &Shape,
        at: &str,
        parameters: &mut Parameters,
        depth: usize,
    ) -> Result<Option<Value>, Error> {
        let empty = parameters.take_empty(at);
        let mut items = Vec::new();
        while let Some(item) = self.value(
            &shape.member,
            &format!("{at}.member.{}", items.len() + 1),
            parameters,
            depth + 1,
        )? {
            items.push(item);
        }
        if items.is_empty() && !empty {
            return Ok(None);
        }
        bounds(shape, at, items.len(), "items")?;
        Ok(Some(Value::Array(items)))
    }

    fn map(
        &self,
        shape: &Shape,
        at: &str,
        parameters: &mut Parameters,
        depth: usize,
    ) -> Result<Option<Value>, Error> {
        let empty = parameters.take_empty(at);
        let mut map = Map::new();
        loop {
            let at = format!("{at}.entry.{}", map.len() + 1);
            let key = self.value(&shape.key, &format!("{at}.key"), parameters, depth + 1)?;
            let Some(Value::String(key)) = key else { break };
            let value = self.value(&shape.value, &format!("{at}.value"), parameters, depth + 1)?;
            if map.insert(key, value.unwrap_or_default()).is_some() {
                return Err(FieldError::new(at, "must not repeat a key").into());
            }
        }
        if map.is_empty() && !empty {
            return Ok(None);
        }
        bounds(shape, at, map.len(), "entries")?;
        Ok(Some(Value::Object(map)))
    }
}

fn integer(shape: &Shape, at: &str, number: i64) -> Result<Value, Error> {
    let rule = if let Some(min) = shape.min.filter(|min| number < *min) {
        format!("must have value greater than or equal to {min}")
    } else if let Some(max) = shape.max.filter(|max| number > *max) {
        format!("must have value less than or equal to {max}")
    } else {
        return Ok(number.into());
    };
    Err(FieldError::new(at.to_owned(), rule).into())
}

fn string(shape: &Shape, at: &str, text: String) -> Result<Value, Error> {
    bounds(shape, at, text.chars().count(), "characters")?;
    if !shape.r#enum.is_empty() && !shape.r#enum.contains(&text) {
        let rule = format!("must satisfy enum value set: [{}]", shape.r#enum.join(", "));
        return Err(FieldError::new(at.to_owned(), rule).into());
    }
    match &shape.pattern {
        Some(Pattern {
            text: pattern,
            regex: Some(regex),
        }) if !regex.is_match(&text) => {
            let rule = format!("must satisfy regular expression pattern: {pattern}");
            Err(FieldError::new(at.to_owned(), rule).into())
        }
        _ => Ok(text.into()),
    }
}

fn bounds(shape: &Shape, at: &str, length: usize, what: &str) -> Result<(), FieldError> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let noun = if what == "characters" {
        "length"
    } else {
        "size"
    };
    match (shape.min, shape.max) {
        (Some(min), _) if length < min => Err(FieldError::new(
            at.to_owned(),
            format!("must have {noun} greater than or equal to {min}"),
        )),
        (_, Some(max)) if length > max => Err(FieldError::new(
            at.to_owned(),
            format!("must have {noun} less than or equal to {max}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(action: &str, body: &str) -> Result<Value, Error> {
        let mut parameters = Parameters::read(body.as_bytes())?;
        IAM.as_ref()
            .unwrap()
            .read(action, &mut parameters)
            .map(Value::Object)
    }

    #[test]
    fn the_model_is_whole() {
        let model = IAM.as_ref().unwrap();
        assert_eq!(model.operations.len(), 181);
        let names = model
            .operations
            .values()
            .flat_map(|o| o.input.iter().chain(&o.output));
        let inner = model
            .shapes
            .values()
            .flat_map(|s| s.members.values().chain([&s.member, &s.key, &s.value]));
        for name in names.chain(inner).filter(|n| !n.is_empty()) {
            assert!(model.shapes.contains_key(name), "{name}");
        }
        let patterns = model.shapes.values().filter_map(|s| s.pattern.as_ref());
        let loose: Vec<&str> = patterns
            .filter(|p| p.regex.is_none())
            .map(|p| p.text.as_str())
            .collect();
        assert_eq!(
            loose,
            ["^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$"],
            "the account alias, which has a rule of its own"
        );
    }

    #[test]
    fn roles_may_have_longer_sessions_than_at_aws() {
        let trust = "RoleName=r&AssumeRolePolicyDocument=%7B%7D&MaxSessionDuration=";
        for (seconds, legal) in [
            (3_599, false),
            (3_600, true),
            (129_600, true),
            (129_601, false),
        ] {
            let body = format!("{trust}{seconds}");
            assert_eq!(read("CreateRole", &body).is_ok(), legal, "{seconds}");
        }
    }

    #[test]
    fn requests_are_read_by_their_shapes() {
        let user = read(
            "CreateUser",
            "UserName=a&Tags.member.1.Key=k&Tags.member.1.Value=&Path=/x/",
        )
        .unwrap();
        assert_eq!(
            user,
            serde_json::json!({"UserName": "a", "Path": "/x/", "Tags": [{"Key": "k", "Value": ""}]})
        );
        let policy = read(
            "SimulatePrincipalPolicy",
            "PolicySourceArn=arn:aws:iam::111122223333:user/a&ActionNames.member.1=s3:GetObject\
             &ContextEntries.member.1.ContextKeyName=aws:x-y&ContextEntries.member.1.ContextKeyValues.member.1=v&MaxItems=5",
        );
        assert_eq!(
            policy.unwrap()["ContextEntries"][0]["ContextKeyValues"][0],
            "v"
        );
        assert_eq!(read("ListUsers", "").unwrap(), serde_json::json!({}));
        for (action, bad) in [
            ("CreateUser", ""),
            ("CreateUser", "UserName=a%20b"),
            ("CreateUser", "UserName="),
            ("CreateUser", "UserName=a&Path=x"),
            ("CreateUser", "UserName=a&Tags.member.1.Key=k"),
            (
                "CreateUser",
                "UserName=a&Tags.member.2.Key=k&Tags.member.2.Value=v",
            ),
            ("CreateUser", "UserName=a&Surprise=1"),
            ("ListUsers", "MaxItems=0"),
            ("ListUsers", "MaxItems=1001"),
            ("ListUsers", "MaxItems=1e3"),
            ("ListVirtualMFADevices", "AssignmentStatus=Some"),
            (
                "EnableMFADevice",
                "UserName=a&SerialNumber=123456789&AuthenticationCode1=12345&AuthenticationCode2=123456",
            ),
            (
                "CreateRole",
                "RoleName=r&AssumeRolePolicyDocument=%7B%7D&MaxSessionDuration=1",
            ),
        ] {
            assert!(
                matches!(read(action, bad), Err(Error::Validation(_))),
                "{action} {bad}"
            );
        }
    }

    #[test]
    fn letters_and_digits_are_those_of_ascii_except_in_tags() {
        for bad in ["UserName=%C3%BC", "UserName=%D9%A3", "UserName=a%0A"] {
            assert!(read("CreateUser", bad).is_err(), "{bad}");
        }
        assert!(read("ListAccessKeys", "UserName=a_B-9%40x%2Cy%3Dz%2B.").is_ok());
        assert!(read("ResyncMFADevice", "UserName=a&SerialNumber=123456789&AuthenticationCode1=%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1&AuthenticationCode2=123456").is_err());
        let tag = "UserName=a&Tags.member.1.Key=%C3%BC%20x&Tags.member.1.Value=%D9%A3";
        assert!(read("CreateUser", tag).is_ok());
    }

    #[test]
    fn an_empty_text_is_a_text_and_an_empty_list_a_list() {
        let role = read(
            "CreateRole",
            "RoleName=r&AssumeRolePolicyDocument=%7B%7D&Description=&Tags=",
        );
        assert_eq!(
            role.unwrap(),
            serde_json::json!({
                "RoleName": "r", "AssumeRolePolicyDocument": "{}", "Description": "", "Tags": []
            })
        );
        let policy = read(
            "CreatePolicy",
            "PolicyName=p&PolicyDocument=%7B%7D&Description=",
        );
        assert_eq!(policy.unwrap()["Description"], "");
        let provider = read(
            "UpdateOpenIDConnectProviderThumbprint",
            "OpenIDConnectProviderArn=arn:aws:iam::111122223333:oidc-provider/a.example&ThumbprintList=",
        );
        assert_eq!(provider.unwrap()["ThumbprintList"], serde_json::json!([]));
        let update = read("UpdateRole", "RoleName=r&Description=").unwrap();
        assert_eq!(
            update,
            serde_json::json!({"RoleName": "r", "Description": ""})
        );
    }

    #[test]
    fn answers_have_what_the_model_has() {
        let xml = |action: &str, output: Value| {
            let result = IAM.as_ref().unwrap().write(action, &output);
            let answer = super::super::answer::success(action, "", result, "id", false);
            let text = String::from_utf8(answer).unwrap();
            let (_, result) = text.split_once('>').unwrap();
            result
                .split_once("<ResponseMetadata>")
                .unwrap()
                .0
                .to_owned()
        };
        // An action without output has no element for it; UpdateRole has an empty one.
        assert_eq!(xml("DeleteUser", Value::Null), "");
        assert_eq!(xml("DeleteUser", serde_json::json!({})), "");
        for output in [Value::Null, serde_json::json!({})] {
            assert_eq!(
                xml("UpdateRole", output),
                "<UpdateRoleResult></UpdateRoleResult>"
            );
        }
        let page = serde_json::json!({"Users": [], "IsTruncated": false, "Marker": null});
        assert_eq!(
            xml("ListUsers", page),
            "<ListUsersResult><IsTruncated>false</IsTruncated><Users></Users></ListUsersResult>"
        );
        let role = serde_json::json!({"Role": {
            "RoleName": "r", "Description": "", "RoleLastUsed": {}, "Tags": null,
            "CreateDate": "2026-01-02T03:04:05Z", "MaxSessionDuration": 3600,
        }});
        assert_eq!(
            xml("GetRole", role),
            "<GetRoleResult><Role><CreateDate>2026-01-02T03:04:05Z</CreateDate><Description></Description>\
             <MaxSessionDuration>3600</MaxSessionDuration><RoleLastUsed></RoleLastUsed><RoleName>r</RoleName>\
             </Role></GetRoleResult>"
        );
        let summary = serde_json::json!({"SummaryMap": {"Users": 3}});
        assert_eq!(
            xml("GetAccountSummary", summary),
            "<GetAccountSummaryResult><SummaryMap><entry><key>Users</key><value>3</value></entry></SummaryMap>\
             </GetAccountSummaryResult>"
        );
    }

    #[test]
    fn secrets_stay_out_of_the_audit() {
        let model = IAM.as_ref().unwrap();
        let body = "UserName=a&SerialNumber=123456789&AuthenticationCode1=123456&AuthenticationCode2=654321";
        let Value::Object(input) = read("EnableMFADevice", body).unwrap() else {
            panic!()
        };
        let audited = Value::Object(model.audited("EnableMFADevice", &input));
        assert_eq!(
            audited,
            serde_json::json!({"userName": "a", "serialNumber": "123456789"})
        );
        let Value::Object(input) =
            read("CreateLoginProfile", "UserName=a&Password=hunter2").unwrap()
        else {
            panic!()
        };
        assert_eq!(
            Value::Object(model.audited("CreateLoginProfile", &input)),
            serde_json::json!({"userName": "a"})
        );
    }

    #[test]
    fn policy_documents_are_audited_by_digest() {
        let model = IAM.as_ref().unwrap();
        let audited = |action: &str, body: &str| {
            let Value::Object(input) = read(action, body).unwrap() else {
                panic!()
            };
            Value::Object(model.audited(action, &input))
        };
        let digest = serde_json::json!(Digest::of("{}"));
        assert_eq!(
            digest["sha256"],
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!(digest["length"], 2);
        let role = audited("CreateRole", "RoleName=r&AssumeRolePolicyDocument=%7B%7D");
        assert_eq!(
            role,
            serde_json::json!({"roleName": "r", "assumeRolePolicyDocument": digest})
        );
        let metadata = "<".repeat(1_000);
        let form = format!("Name=p&SAMLMetadataDocument={metadata}");
        let provider = audited("CreateSAMLProvider", &form);
        assert_eq!(
            provider,
            serde_json::json!({"name": "p", "sAMLMetadataDocument": Digest::of(&metadata)})
        );
        let many = "ActionNames.member.1=s3:GetObject&PolicyInputList.member.1=%7B%7D&PolicyInputList.member.2=%7B%7D";
        assert_eq!(
            audited("SimulateCustomPolicy", many)["policyInputList"],
            serde_json::json!([digest, digest])
        );
        let levels = format!(
            "{many}&OrderedOrganizationPolicyInputList.member.1.ServiceControlPolicyInputList.member.1=%7B%7D"
        );
        assert_eq!(
            audited("SimulateCustomPolicy", &levels)["orderedOrganizationPolicyInputList"],
            serde_json::json!([{"ServiceControlPolicyInputList": [digest]}])
        );
        // In the model, whatever holds a policy has the one shape by which it is known.
        for (name, shape) in model.shapes.values().flat_map(|s| &s.members) {
            if name.ends_with("PolicyDocument") {
                assert_eq!(shape, POLICY_DOCUMENT, "{name}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_form_makes_it_panic(body in "(Tags|member|entry|UserName|[.=&0-9a-z]){0,30}") {
            let _ = read("CreateUser", &body);
        }
    }
}
