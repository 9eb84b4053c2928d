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
    /// Names in lower case. A request has a few dozen at the most: a scan beats a map.
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Context<'a> {
    /// No key at all.
    pub fn new() -> Self {
        Self { entries: Vec::with_capacity(24) }
    }

    /// Sets a single-valued key; a later call for the same name replaces the earlier one.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.put(name.into(), Value::One(value.into()));
    }

    /// Sets a multivalued key.
    pub fn set_many(&mut self, name: impl Into<Cow<'a, str>>, values: Vec<Cow<'a, str>>) {
        self.put(name.into(), Value::Many(values));
    }

    fn put(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        let name =
            if name.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(name.to_ascii_lowercase()) } else { name };
        match self.entries.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }

    /// All keys with their values.
    pub fn listed(&self) -> Vec<(String, Vec<String>)> {
        let texts = |value: &Value<'_>| match value {
            Value::One(text) => vec![text.to_string()],
            Value::Many(texts) => texts.iter().map(|t| t.to_string()).collect(),
        };
        self.entries.iter().map(|(name, value)| (name.to_string(), texts(value))).collect()
    }

    /// The names of all keys, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| &**name)
    }

    /// `name` in lower case.
    pub(super) fn lookup(&self, name: &str) -> Option<&Value<'a>> {
        let value = self.entries.iter().find(|(n, _)| n == name).map(|(_, v)| v)?;
        match value {
            Value::Many(values) if values.is_empty() => None,
            value => Some(value),
        }
    }
}
