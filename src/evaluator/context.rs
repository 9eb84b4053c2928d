//! The values that a request has for the condition keys.

use std::borrow::Cow;

/// The value of a condition key: one text, or the list of a multivalued key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// The value of a single-valued key. Numbers, booleans and dates are text; binary values are
    /// base64.
    One(Cow<'a, str>),
    /// The values of a multivalued key, even if there is only one. An empty list counts as absent.
    Many(Vec<Cow<'a, str>>),
}

impl Value<'_> {
    /// Whether the value is a null data set: no values, or only empty ones.
    pub(super) fn is_null(&self) -> bool {
        match self {
            Self::One(text) => text.is_empty(),
            Self::Many(texts) => texts.iter().all(|text| text.is_empty()),
        }
    }
}

/// The condition keys of one request. Key names are compared without regard to case. A key that is
/// not listed is absent; the evaluator adds none.
#[derive(Debug, Clone, Default)]
pub struct RequestContext<'a> {
    /// The keys, with names in lower case. A request has at most a few dozen, so that a scan is
    /// faster than a map.
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    /// The tags of the requested resource. Their key names are only built when a policy asks for
    /// one, so that the time a refusal takes does not reveal how many tags there are.
    resource_tags: Vec<(&'a str, Value<'a>)>,
    /// Whether the resource is a user or role, whose tags `iam:ResourceTag/…` refers to as well.
    of_user_or_role: bool,
    /// The names in lower case of keys that the request may have, but whose values are not known
    /// here. A trailing `/` denotes a family of keys.
    unknown: &'static [&'static str],
}

impl<'a> RequestContext<'a> {
    /// A context without any key.
    pub fn new() -> Self {
        Self {
            entries: Vec::with_capacity(24),
            ..Self::default()
        }
    }

    /// Sets a single-valued key; a later call for the same name replaces the earlier one.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.put(name.into(), Value::One(value.into()));
    }

    /// Sets a multivalued key; a later call for the same name replaces the earlier list.
    pub fn set_many(&mut self, name: impl Into<Cow<'a, str>>, values: Vec<Cow<'a, str>>) {
        self.put(name.into(), Value::Many(values));
    }

    /// Removes a key, whose name must be in lower case.
    pub fn remove(&mut self, name: &str) {
        self.entries.retain(|(n, _)| n != name);
    }

    /// Sets the names, in lower case, of keys that the request may have but whose values are not
    /// known here. A trailing `/` denotes a family of keys. If an Allow statement depends on such a
    /// key, it does not apply; if a Deny statement does, it applies.
    pub fn set_unknown(&mut self, names: &'static [&'static str]) {
        self.unknown = names;
    }

    /// Whether there are keys whose values are not known here.
    pub(super) fn has_unknown(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// Whether the value of the key `name`, which must be in lower case, is not known here.
    pub(super) fn is_unknown(&self, name: &str) -> bool {
        let is = |unknown: &&str| match unknown.strip_suffix('/') {
            Some(family) => name
                .strip_prefix(family)
                .is_some_and(|rest| rest.starts_with('/')),
            None => *unknown == name,
        };
        self.unknown.iter().any(is) && self.lookup(name).is_none()
    }

    /// Sets the tags of the requested resource, read as `aws:ResourceTag/…` and, if the resource is
    /// a user or role, also as `iam:ResourceTag/…`.
    pub fn set_resource_tags(
        &mut self,
        tags: impl Iterator<Item = (&'a str, &'a str)>,
        of_user_or_role: bool,
    ) {
        self.resource_tags = tags
            .map(|(key, value)| (key, Value::One(value.into())))
            .collect();
        self.of_user_or_role = of_user_or_role;
    }

    fn put(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            name
        };
        match self.entries.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }

    /// All keys with their values, except the tags of the requested resource.
    pub fn listed(&self) -> Vec<(String, Vec<String>)> {
        let texts = |value: &Value<'_>| match value {
            Value::One(text) => vec![text.to_string()],
            Value::Many(texts) => texts.iter().map(|t| t.to_string()).collect(),
        };
        self.entries
            .iter()
            .map(|(name, value)| (name.to_string(), texts(value)))
            .collect()
    }

    /// The names of all keys in lower case, except the tags of the requested resource.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| &**name)
    }

    /// The value of the key `name`, which must be in lower case.
    pub(super) fn lookup(&self, name: &str) -> Option<&Value<'a>> {
        let value = self.entries.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        match value.or_else(|| self.resource_tag(name))? {
            Value::Many(values) if values.is_empty() => None,
            value => Some(value),
        }
    }

    fn resource_tag(&self, name: &str) -> Option<&Value<'a>> {
        let of_iam = name
            .strip_prefix("iam:resourcetag/")
            .filter(|_| self.of_user_or_role);
        let key = name.strip_prefix("aws:resourcetag/").or(of_iam)?;
        self.resource_tags
            .iter()
            .rev()
            .find(|(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_what_is_asked_for_are_found_by_their_keys_without_case() {
        let mut context = RequestContext::new();
        context.set("aws:username", "alice");
        context.set_resource_tags([("Team", "blue"), ("a/b", "c")].into_iter(), true);
        let found = |context: &RequestContext<'_>, name: &str| match context.lookup(name) {
            Some(Value::One(text)) => Some(text.to_string()),
            _ => None,
        };
        assert_eq!(
            found(&context, "aws:resourcetag/team").as_deref(),
            Some("blue")
        );
        assert_eq!(found(&context, "iam:resourcetag/a/b").as_deref(), Some("c"));
        assert_eq!(found(&context, "aws:resourcetag/tea"), None);
        assert_eq!(found(&context, "aws:requesttag/team"), None);
        context.set_resource_tags([("Team", "red")].into_iter(), false);
        assert_eq!(
            found(&context, "aws:resourcetag/team").as_deref(),
            Some("red")
        );
        assert_eq!(
            (
                found(&context, "iam:resourcetag/team"),
                found(&context, "aws:resourcetag/a/b")
            ),
            (None, None)
        );
        assert_eq!(
            context.listed(),
            [("aws:username".to_owned(), vec!["alice".to_owned()])]
        );
    }
}
