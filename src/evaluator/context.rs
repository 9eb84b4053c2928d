//! What one request knows of each condition key.

use std::borrow::Cow;

/// The value of a condition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A single-valued key. Numbers, booleans and dates are text, binary is base64.
    One(Cow<'a, str>),
    /// A multivalued key, also when it has one member. An empty list counts as absent.
    Many(Vec<Cow<'a, str>>),
}

impl Value<'_> {
    /// Whether it is a null data set: nothing, or nothing but empty texts.
    pub(super) fn is_null(&self) -> bool {
        match self {
            Self::One(text) => text.is_empty(),
            Self::Many(texts) => texts.iter().all(|text| text.is_empty()),
        }
    }
}

/// The condition keys of one request. Names are compared without case; what is not in here is
/// absent, and the evaluator adds nothing.
#[derive(Debug, Clone, Default)]
pub struct Context<'a> {
    /// Names in lower case. A request has a few dozen at most, so a scan beats a map.
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    /// The tags of what is asked for. Their keys are made into names when a policy asks for one: how
    /// many there are does then not show in the time that a refusal takes.
    resource_tags: Vec<(&'a str, Value<'a>)>,
    /// Whether `iam:ResourceTag` speaks of them too.
    of_user_or_role: bool,
}

impl<'a> Context<'a> {
    /// No key at all.
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

    /// Sets a multivalued key.
    pub fn set_many(&mut self, name: impl Into<Cow<'a, str>>, values: Vec<Cow<'a, str>>) {
        self.put(name.into(), Value::Many(values));
    }

    /// Sets the tags of what is asked for: `aws:ResourceTag/…`, and of a user or role also
    /// `iam:ResourceTag/…`.
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

    /// All keys with their values, but for the tags of what is asked for.
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

    /// The names of all keys, in lower case, but for the tags of what is asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| &**name)
    }

    /// `name` in lower case.
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
        let mut context = Context::new();
        context.set("aws:username", "alice");
        context.set_resource_tags([("Team", "blue"), ("a/b", "c")].into_iter(), true);
        let found = |context: &Context<'_>, name: &str| match context.lookup(name) {
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
