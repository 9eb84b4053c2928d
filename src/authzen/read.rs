//! Translates the JSON of a request into the input of Authorize: OpenID AuthZEN Authorization API 1.0,
//! sections "Access Evaluation API" and "Access Evaluations API".
//!
//! A request that breaks the form of the API is refused as a whole. A well-formed request whose subject, action or
//! resource no policy can name is not refused: its decision is `false`.

use serde_json::{Map, Value};

use super::Endpoint;
use crate::base::strict_json;
use crate::error::Error;
use crate::ops::relying::authorize::{Authorize, Item, MAX_ITEMS, Resource, Semantic};
use crate::ops::relying::subject::Subject;

/// The form of the answer, which depends on the form of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One decision: the endpoint is that for one evaluation, or the request has no `evaluations` or an empty list of
    /// them.
    Single,
    /// A list of decisions, in the order of the request's `evaluations`.
    List,
}

type Object = Map<String, Value>;

/// Reads the body of a request to `endpoint`.
///
/// # Errors
/// [`Error::Malformed`] if the request as a whole breaks the form of the API.
pub(super) fn request(endpoint: Endpoint, body: &[u8]) -> Result<(Form, Authorize), Error> {
    let Ok(Value::Object(top)) = strict_json::parse(body) else {
        let text = "The body must be one JSON object, without duplicate names.";
        return Err(Error::Malformed(text.to_owned()));
    };
    let defaults = Entities::read(&top).map_err(Error::Malformed)?;
    let evaluations = match top.get("evaluations") {
        Some(Value::Array(list)) if endpoint == Endpoint::Evaluations => list.as_slice(),
        Some(_) if endpoint == Endpoint::Evaluations => {
            return Err(Error::Malformed(
                "`evaluations` must be an array.".to_owned(),
            ));
        }
        _ => &[],
    };
    let mut subjects = Vec::new();
    if evaluations.is_empty() {
        let whole = defaults.whole().map_err(Error::Malformed)?;
        let items = vec![whole.item(&mut subjects)];
        let input = Authorize::new(subjects, items, Semantic::ExecuteAll)?;
        return Ok((Form::Single, input));
    }
    if evaluations.len() > MAX_ITEMS {
        return Err(Error::Malformed(format!(
            "`evaluations` must have at most {MAX_ITEMS} items, but has {}.",
            evaluations.len()
        )));
    }
    let semantic = semantic(&top).map_err(Error::Malformed)?;
    // The subject of most items is the common one.
    let mut last: Option<(&Object, usize)> = None;
    let items = evaluations.iter().map(|evaluation| {
        let Value::Object(evaluation) = evaluation else {
            return Err("Each item of `evaluations` must be an object.".to_owned());
        };
        let whole = Entities::read(evaluation)?.or(defaults).whole()?;
        if let Some((known, at)) = last
            && std::ptr::eq(known, whole.subject)
        {
            return whole.item_of(at);
        }
        let item = whole.item(&mut subjects);
        last = item.as_ref().ok().map(|item| (whole.subject, item.subject));
        item
    });
    let items = items.collect();
    Ok((Form::List, Authorize::new(subjects, items, semantic)?))
}

fn semantic(top: &Object) -> Result<Semantic, String> {
    let options = match top.get("options") {
        None => return Ok(Semantic::ExecuteAll),
        Some(Value::Object(options)) => options,
        Some(_) => return Err("`options` must be an object.".to_owned()),
    };
    match options.get("evaluations_semantic") {
        None => Ok(Semantic::ExecuteAll),
        Some(Value::String(name)) => match name.as_str() {
            "execute_all" => Ok(Semantic::ExecuteAll),
            "deny_on_first_deny" => Ok(Semantic::DenyOnFirstDeny),
            "permit_on_first_permit" => Ok(Semantic::PermitOnFirstPermit),
            _ => Err(
                "`options.evaluations_semantic` must be `execute_all`, `deny_on_first_deny` or \
                `permit_on_first_permit`."
                    .to_owned(),
            ),
        },
        Some(_) => Err("`options.evaluations_semantic` must be a string.".to_owned()),
    }
}

/// The four entities of an evaluation, each of which may still be missing.
#[derive(Clone, Copy)]
struct Entities<'a> {
    subject: Option<&'a Object>,
    action: Option<&'a Object>,
    resource: Option<&'a Object>,
    context: Option<&'a Object>,
}

/// The entities of an evaluation after a check that none of the required ones is missing.
struct Whole<'a> {
    subject: &'a Object,
    subject_type: &'a str,
    subject_id: &'a str,
    action: &'a Object,
    action_name: &'a str,
    resource: &'a Object,
    resource_type: &'a str,
    resource_id: &'a str,
    context: Option<&'a Object>,
}

impl<'a> Entities<'a> {
    fn read(object: &'a Object) -> Result<Self, String> {
        let entity = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(Value::Object(entity)) => Ok(Some(entity)),
            Some(_) => Err(format!("`{name}` must be an object.")),
        };
        Ok(Self {
            subject: entity("subject")?,
            action: entity("action")?,
            resource: entity("resource")?,
            context: entity("context")?,
        })
    }

    /// Fills in each missing entity from the defaults. Entities are not merged.
    fn or(self, defaults: Self) -> Self {
        Self {
            subject: self.subject.or(defaults.subject),
            action: self.action.or(defaults.action),
            resource: self.resource.or(defaults.resource),
            context: self.context.or(defaults.context),
        }
    }

    fn whole(self) -> Result<Whole<'a>, String> {
        let need = |entity: Option<&'a Object>, name: &str| {
            let entity = entity.ok_or_else(|| format!("`{name}` is missing."))?;
            match entity.get("properties") {
                None | Some(Value::Object(_)) => Ok(entity),
                Some(_) => Err(format!("`{name}.properties` must be an object.")),
            }
        };
        let text = |entity: &'a Object, name: &str, member: &str| match entity.get(member) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(format!("`{name}.{member}` must be a string.")),
            None => Err(format!("`{name}.{member}` is missing.")),
        };
        let subject = need(self.subject, "subject")?;
        let action = need(self.action, "action")?;
        let resource = need(self.resource, "resource")?;
        Ok(Whole {
            subject_type: text(subject, "subject", "type")?,
            subject_id: text(subject, "subject", "id")?,
            action_name: text(action, "action", "name")?,
            resource_type: text(resource, "resource", "type")?,
            resource_id: text(resource, "resource", "id")?,
            subject,
            action,
            resource,
            context: self.context,
        })
    }
}

/// The name of the property in which a session's token is given.
const SESSION_TOKEN: &str = "session_token";

impl Whole<'_> {
    /// Makes the item, and adds its subject to the list.
    fn item(&self, subjects: &mut Vec<Subject>) -> Result<Item, String> {
        let subject = self.named_subject()?;
        let item = self.item_of(subjects.len())?;
        subjects.push(subject);
        Ok(item)
    }

    /// Makes the item whose subject is the one at index `subject` of the list of subjects.
    fn item_of(&self, subject: usize) -> Result<Item, String> {
        let action = match self.action_name.contains(':') {
            true => self.action_name.to_owned(),
            false => format!("{}:{}", self.resource_type, self.action_name),
        };
        let service = action.split(':').next().unwrap_or_default();
        let keys = self.keys(service);
        let resource = match self.resource_id.starts_with("arn:") {
            true => Resource::Arn(self.resource_id.to_owned()),
            false => Resource::Named {
                kind: self.resource_type.to_owned(),
                name: self.resource_id.to_owned(),
            },
        };
        let item = Item {
            subject,
            action,
            resource,
            keys,
        };
        item.check()
            .map_err(|error| format!("{} {}.", error.field, error.rule))
    }

    fn named_subject(&self) -> Result<Subject, String> {
        let (kind, id) = (self.subject_type, self.subject_id);
        let of = |result: Result<Subject, crate::base::field::FieldError>| {
            result.map_err(|error| format!("{} {}.", error.field, error.rule))
        };
        match kind {
            "user" | "role" | "principal" if id.starts_with("arn:") => {
                of(Subject::principal(id.to_owned()))
            }
            "user" => Ok(Subject::UserName(id.to_owned())),
            "role" => Ok(Subject::RoleName(id.to_owned())),
            "session" => match properties(self.subject).and_then(|p| p.get(SESSION_TOKEN)) {
                Some(Value::String(token)) => of(Subject::session(id, token.clone())),
                _ => {
                    Err("`subject.properties.session_token` must be a string: the session token of the \
                        subject.".to_owned())
                }
            },
            _ => Err(
                "`subject.type` must be `user`, `role`, `principal` (with an ARN as `subject.id`) or \
                 `session`.".to_owned(),
            ),
        }
    }

    /// Collects the condition keys for this service. A name with a colon is a condition key itself; every
    /// other name gets the service's prefix. Scalars of the resource are also its tags.
    fn keys(&self, service: &str) -> Vec<(String, Vec<String>)> {
        let mut keys = Vec::new();
        let entities = [
            (properties(self.subject), "Subject"),
            (properties(self.action), "Action"),
            (properties(self.resource), "Resource"),
            (self.context, "Context"),
        ];
        for (properties, kind) in entities {
            let is_session = kind == "Subject" && self.subject_type == "session";
            for (name, value) in properties.into_iter().flatten() {
                if is_session && name == SESSION_TOKEN {
                    continue;
                }
                let Some(values) = texts(value) else { continue };
                if name.contains(':') {
                    keys.push((name.clone(), values));
                    continue;
                }
                if kind == "Resource" && !value.is_array() {
                    keys.push((format!("aws:ResourceTag/{name}"), values.clone()));
                }
                keys.push((format!("{service}:{kind}/{name}"), values));
            }
        }
        keys
    }
}

fn properties(entity: &Object) -> Option<&Object> {
    entity.get("properties").and_then(Value::as_object)
}

/// Converts a scalar or a list of scalars to texts. `None` for anything else, which no policy can test.
fn texts(value: &Value) -> Option<Vec<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(list) if list.is_empty() => None,
        Value::Array(list) => list.iter().map(scalar).collect(),
        value => scalar(value).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Endpoint, text: &str) -> Result<(Form, Authorize), String> {
        request(endpoint, text.as_bytes()).map_err(|error| error.to_string())
    }

    const WHOLE: &str = r#"{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"},
        "resource": {"type": "record", "id": "record-1"}}"#;

    #[test]
    fn names_become_those_of_policies() {
        let text = r#"{"subject": {"type": "user", "id": "alice", "properties": {"role": "admin", "deep": {"a": 1}}},
            "action": {"name": "delete", "properties": {"soft": true}},
            "resource": {"type": "record", "id": "record-1", "properties": {"status": "archived", "owners": ["a", "b"]}},
            "context": {"time": 7, "record:view": "list", "nothing": null}}"#;
        let (form, input) = read(Endpoint::Evaluation, text).unwrap();
        assert_eq!(form, Form::Single);
        let item = input.items[0].as_ref().unwrap();
        assert_eq!(item.action, "record:delete");
        assert!(
            matches!(&item.resource, Resource::Named { kind, name } if kind == "record" && name == "record-1")
        );
        let key = |name: &str, values: &[&str]| {
            (
                name.to_owned(),
                values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>(),
            )
        };
        let mut keys = item.keys.clone();
        keys.sort();
        assert_eq!(
            keys,
            [
                key("aws:ResourceTag/status", &["archived"]),
                key("record:Action/soft", &["true"]),
                key("record:Context/time", &["7"]),
                key("record:Resource/owners", &["a", "b"]),
                key("record:Resource/status", &["archived"]),
                key("record:Subject/role", &["admin"]),
                key("record:view", &["list"]),
            ]
        );
    }

    #[test]
    fn az_08_no_property_says_what_the_broker_says() {
        for (at, name) in [
            ("subject", "aws:MultiFactorAuthPresent"),
            ("subject", "aws:PrincipalTag/team"),
            ("action", "sts:ExternalId"),
            ("resource", "aws:PrincipalArn"),
            ("resource", "other:key"),
        ] {
            let mut request: Value = serde_json::from_str(WHOLE).unwrap();
            request[at]["properties"] = serde_json::json!({name: "true"});
            let (_, input) = read(Endpoint::Evaluation, &request.to_string()).unwrap();
            assert!(input.items[0].is_err(), "{at}: {name}");
        }
        let mut request: Value = serde_json::from_str(WHOLE).unwrap();
        request["context"] = serde_json::json!({"aws:SourceIp": "10.0.0.1"});
        let (_, input) = read(Endpoint::Evaluation, &request.to_string()).unwrap();
        assert!(input.items[0].is_err());
    }

    #[test]
    fn a_broken_form_is_refused_as_a_whole_and_a_broken_item_alone() {
        assert!(read(Endpoint::Evaluation, WHOLE).is_ok());
        let without = |path: &[&str]| {
            let mut request: Value = serde_json::from_str(WHOLE).unwrap();
            let mut object = request.as_object_mut().unwrap();
            let (last, first) = path.split_last().unwrap();
            for name in first {
                object = object[*name].as_object_mut().unwrap();
            }
            object.remove(*last);
            request.to_string()
        };
        for path in [
            &["subject"][..],
            &["action"],
            &["resource"],
            &["subject", "type"],
            &["subject", "id"],
            &["action", "name"],
            &["resource", "type"],
            &["resource", "id"],
        ] {
            assert!(
                read(Endpoint::Evaluation, &without(path)).is_err(),
                "{path:?}"
            );
            assert!(
                read(Endpoint::Evaluations, &without(path)).is_err(),
                "{path:?}"
            );
        }
        let list = format!(
            r#"{{"subject": {{"type": "user", "id": "alice"}}, "action": {{"name": "read"}},
                "evaluations": [{}, {{}}, 7, {{"resource": {{"type": "record", "id": 1}}}}]}}"#,
            r#"{"resource": {"type": "record", "id": "record-1"}}"#
        );
        let (form, input) = read(Endpoint::Evaluations, &list).unwrap();
        assert_eq!(
            (form, input.items.len(), input.subjects.len()),
            (Form::List, 4, 1)
        );
        let good: Vec<bool> = input.items.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, false, false]);
        for broken in [
            r#"{"evaluations": {}}"#,
            r#"{"evaluations": [{}], "options": 1}"#,
            r#"{"evaluations": [{}], "options": {"evaluations_semantic": "all"}}"#,
            r#"{"evaluations": [{}], "subject": "alice"}"#,
            r#"{"evaluations": [{}], "context": []}"#,
        ] {
            assert!(read(Endpoint::Evaluations, broken).is_err(), "{broken}");
        }
        let many = format!(r#"{{"evaluations": [{}]}}"#, vec!["{}"; 101].join(","));
        assert!(read(Endpoint::Evaluations, &many).is_err());
    }
}
