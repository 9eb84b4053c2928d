//! Condition operators, `…IfExists`, `ForAllValues:`, `ForAnyValue:` and `Null`.
//!
//! IAM User Guide, "IAM JSON policy elements: Condition operators" and "Multivalued context keys".

mod operators;

use std::borrow::Cow;

use self::operators::Test;
use super::context::{RequestContext, Value};

/// One operator applied to one key. A statement applies only if all of its conditions hold.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// The condition key, in lower case.
    key: Box<str>,
    /// The operator as the policy spells it, for explanations.
    operator: Box<str>,
    wanted: Box<[Box<str>]>,
    set: Set,
    if_exists: bool,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Plain,
    ForAll,
    ForAny,
}

impl Condition {
    /// Compiles an operator, its key and the wanted values. `variables` says whether the document's
    /// version supports policy variables. The error is the rule that was broken.
    pub fn parse(
        operator: &str,
        key: &str,
        values: &[Cow<'_, str>],
        variables: bool,
    ) -> Result<Self, Cow<'static, str>> {
        let (set, rest) = match operator.split_once(':') {
            None => (Set::Plain, operator),
            Some(("ForAllValues", rest)) => (Set::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Set::ForAny, rest),
            Some(_) => return Err("a set operator must be `ForAllValues` or `ForAnyValue`".into()),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        if name == "Null" && if_exists {
            return Err("`Null` cannot be combined with `IfExists`".into());
        }
        if name == "Null" && set != Set::Plain {
            return Err("`Null` cannot be combined with `ForAllValues` or `ForAnyValue`".into());
        }
        let Some((negated, test)) = Test::compile(name, values, variables)? else {
            return Err(format!("`{operator}` is not a condition operator").into());
        };
        let wanted = values.iter().map(|v| Box::from(&**v)).collect();
        Ok(Self {
            key: key.to_ascii_lowercase().into(),
            operator: operator.into(),
            wanted,
            set,
            if_exists,
            negated,
            test,
        })
    }

    /// The condition key, in lower case.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator as the policy spells it.
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// The wanted values as the policy spells them.
    pub fn wanted(&self) -> &[Box<str>] {
        &self.wanted
    }

    /// The key, and the keys of the variables in the wanted values, in lower case.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.key).chain(self.test.variables())
    }

    /// Formats the condition for people, such as `StringEquals sts:externalid [x]`.
    pub fn text(&self) -> String {
        format!(
            "{} {} [{}]",
            self.operator,
            self.key,
            self.wanted.join(", ")
        )
    }

    /// Whether the operator is one that requires its key: neither negated nor `Null`, and without `…IfExists` and
    /// `ForAllValues:`. Such a condition fails if the key is absent.
    pub fn needs_its_key(&self) -> bool {
        !self.negated
            && !self.if_exists
            && self.set != Set::ForAll
            && !matches!(self.test, Test::Null(_))
    }

    /// Whether the condition demands something of the request, so that it keeps unintended callers
    /// out. A condition that holds without its key (`…IfExists`, `ForAllValues:`), that only
    /// excludes values, or that accepts every value demands nothing.
    pub fn restricts(&self) -> bool {
        (self.needs_its_key() || matches!(self.test, Test::Null(_)))
            && !self.test.takes_everything()
    }

    /// For each wanted value, the part before its first wildcard, and whether it has no wildcard.
    /// `None` if the condition does not compare texts or ARNs for equality, holds without its key
    /// or by negation, or has a variable in a wanted value.
    pub fn pinned(&self) -> Option<Vec<(String, bool)>> {
        if !self.needs_its_key() {
            return None;
        }
        self.test.pinned()
    }

    /// Whether the condition of an Allow statement holds for a request that does not have the key.
    pub fn holds_without_its_key(&self) -> bool {
        self.holds(&RequestContext::new(), false)
    }

    /// Whether the operator is a negation such as `StringNotEquals`, without `…IfExists` and without a set operator. An
    /// absent key satisfies such an operator.
    pub fn is_negated(&self) -> bool {
        self.negated && !self.if_exists && self.set == Set::Plain
    }

    /// Whether the condition holds. `in_doubt` is the answer if the value of a key is not known here, and for cases
    /// that AWS's documentation leaves open: `true` for a Deny, so that it applies, and `false` for an Allow.
    pub fn holds(&self, context: &RequestContext<'_>, in_doubt: bool) -> bool {
        if context.has_unknown() && self.keys().any(|key| context.is_unknown(key)) {
            return in_doubt;
        }
        let got = context.lookup(&self.key);
        if let Test::Null(wanted) = &self.test {
            // IAM User Guide: `false` means that "the key exists and its value is not null".
            return wanted.contains(&got.is_none_or(Value::is_null));
        }
        match (got, self.set) {
            // IAM User Guide, "Set operators for multivalued context keys": true without a key, and
            // true for a null data set, "such as an empty string".
            (got, Set::ForAll) if got.is_none_or(Value::is_null) => true,
            // `IfExists` would give true and `ForAnyValue` false; the documentation does not say
            // which prevails.
            (got, Set::ForAny) if got.is_none_or(Value::is_null) => self.if_exists && in_doubt,
            (None, _) => self.if_exists || self.negated,
            (Some(Value::One(text)), _) => self.satisfies(text, context, in_doubt),
            (Some(Value::Many(texts)), Set::ForAll) => {
                texts.iter().all(|t| self.satisfies(t, context, in_doubt))
            }
            (Some(Value::Many(texts)), Set::ForAny) => {
                texts.iter().any(|t| self.satisfies(t, context, in_doubt))
            }
            // A list without a set operator is "not supported"; its result is undocumented.
            (Some(Value::Many(_)), Set::Plain) => in_doubt,
        }
    }

    fn satisfies(&self, got: &str, context: &RequestContext<'_>, in_doubt: bool) -> bool {
        match self.test.hits(got, context) {
            Some(hit) => hit != self.negated,
            // A value of another type matches nothing. Whether a negated operator then holds is
            // undocumented.
            None => self.negated && in_doubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that a statement with this effect passes as `in_doubt`.
    const ALLOW: bool = false;
    const DENY: bool = true;

    fn holds(operator: &str, wanted: &[&str], got: Option<Value<'_>>, in_doubt: bool) -> bool {
        let wanted: Vec<_> = wanted.iter().map(|w| Cow::Borrowed(*w)).collect();
        let mut context = RequestContext::new();
        match got {
            Some(Value::One(v)) => context.set("app:Key", v.into_owned()),
            Some(Value::Many(v)) => context.set_many(
                "app:Key",
                v.into_iter().map(|v| Cow::Owned(v.into_owned())).collect(),
            ),
            None => {}
        }
        Condition::parse(operator, "APP:key", &wanted, true)
            .unwrap()
            .holds(&context, in_doubt)
    }

    fn one(text: &str) -> Option<Value<'_>> {
        Some(Value::One(text.into()))
    }

    #[test]
    fn az_07_absent_keys_follow_the_documented_table() {
        for (operator, expected) in [
            ("StringEquals", false),
            ("StringNotEquals", true),
            ("StringEqualsIfExists", true),
            ("StringNotEqualsIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAllValues:StringNotEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringNotEquals", false),
        ] {
            assert_eq!(holds(operator, &["x"], None, ALLOW), expected, "{operator}");
        }
        assert!(holds("Null", &["true"], None, ALLOW) && !holds("Null", &["false"], None, ALLOW));
    }

    #[test]
    fn an_empty_text_is_null_to_null_and_to_set_operators() {
        let many = |texts: &[&'static str]| {
            Some(Value::Many(
                texts.iter().map(|t| Cow::Borrowed(*t)).collect(),
            ))
        };
        for effect in [ALLOW, DENY] {
            for empty in [one(""), many(&[]), many(&[""]), many(&["", ""])] {
                assert!(holds("Null", &["true"], empty.clone(), effect), "{empty:?}");
                assert!(
                    !holds("Null", &["false"], empty.clone(), effect),
                    "{empty:?}"
                );
                assert!(
                    holds("ForAllValues:StringEquals", &["x"], empty.clone(), effect),
                    "{empty:?}"
                );
                assert!(
                    !holds("ForAnyValue:StringNotEquals", &["x"], empty.clone(), effect),
                    "{empty:?}"
                );
            }
            // One member that is not empty makes the set non-empty.
            assert!(holds("Null", &["false"], many(&["", "x"]), effect));
            assert!(!holds(
                "ForAllValues:StringEquals",
                &["x"],
                many(&["", "x"]),
                effect
            ));
            assert!(holds(
                "ForAnyValue:StringEquals",
                &["x"],
                many(&["", "x"]),
                effect
            ));
        }
    }

    #[test]
    fn what_documentation_leaves_open_refuses() {
        assert!(!holds(
            "ForAnyValue:StringEqualsIfExists",
            &["x"],
            None,
            ALLOW
        ));
        assert!(holds(
            "ForAnyValue:StringEqualsIfExists",
            &["x"],
            None,
            DENY
        ));
        let list = || Some(Value::Many(vec!["x".into()]));
        assert!(!holds("StringEquals", &["x"], list(), ALLOW));
        assert!(holds("StringEquals", &["y"], list(), DENY));
    }

    #[test]
    fn az_01_a_condition_on_a_value_that_is_not_known_refuses() {
        let mut context = RequestContext::new();
        context.set_unknown(&["s3:existingobjecttag/", "s3:tlsversion"]);
        context.set("s3:ExistingObjectTag/known", "x");
        let condition = |operator: &str, key: &str, wanted: &str| {
            Condition::parse(operator, key, &[wanted.into()], true).unwrap()
        };
        for operator in [
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIfExists",
            "StringNotLikeIfExists",
            "ForAllValues:StringEquals",
            "ForAnyValue:StringNotEquals",
        ] {
            let open = condition(operator, "s3:ExistingObjectTag/team", "x");
            assert!(!open.holds(&context, ALLOW), "{operator}");
            assert!(open.holds(&context, DENY), "{operator}");
        }
        for wanted in ["true", "false"] {
            let open = condition("Null", "s3:ExistingObjectTag/team", wanted);
            assert!(!open.holds(&context, ALLOW) && open.holds(&context, DENY));
        }
        let open = condition("NumericLessThan", "s3:TlsVersion", "1.2");
        assert!(!open.holds(&context, ALLOW) && open.holds(&context, DENY));
        // The value of a variable, whatever its default is.
        let open = condition(
            "StringEquals",
            "aws:username",
            "${s3:ExistingObjectTag/a, 'x'}",
        );
        context.set("aws:username", "x");
        assert!(!open.holds(&context, ALLOW) && open.holds(&context, DENY));
        // A value that is there counts, and so does a name that only begins alike.
        for (key, effect) in [
            ("s3:ExistingObjectTag/known", ALLOW),
            ("s3:ExistingObjectTags", DENY),
        ] {
            let known = condition("StringEquals", key, "x");
            assert_eq!(known.holds(&context, effect), effect == ALLOW, "{key}");
        }
    }

    #[test]
    fn what_the_corpus_leaves_out_is_decided_here() {
        // A negated operator on a value of another type.
        for (operator, wanted, got) in [
            ("NumericNotEquals", "1", "x"),
            ("DateNotEquals", "2026-01-01", "soon"),
            ("NotIpAddress", "10.0.0.0/8", "host"),
        ] {
            assert!(!holds(operator, &[wanted], one(got), ALLOW), "{operator}");
            assert!(holds(operator, &[wanted], one(got), DENY), "{operator}");
        }
        // An empty text is compared like any other.
        assert!(holds("StringEquals", &[""], one(""), ALLOW));
        assert!(!holds("StringEqualsIfExists", &["x"], one(""), ALLOW));
        // An IPv6 address without a prefix length is a /128; an IPv4-mapped address counts as IPv6
        // only.
        assert!(holds(
            "IpAddress",
            &["2001:db8::1"],
            one("2001:db8::1"),
            ALLOW
        ));
        assert!(!holds(
            "IpAddress",
            &["2001:db8::1"],
            one("2001:db8::2"),
            ALLOW
        ));
        assert!(!holds(
            "IpAddress",
            &["10.0.0.1"],
            one("::ffff:10.0.0.1"),
            ALLOW
        ));
        // Case is ignored only in ASCII; a short number is in seconds since 1970; an ARN has six
        // parts.
        assert!(!holds(
            "StringEqualsIgnoreCase",
            &["\u{c9}"],
            one("\u{e9}"),
            ALLOW
        ));
        assert!(holds(
            "DateEquals",
            &["2026"],
            one("1970-01-01T00:33:46Z"),
            ALLOW
        ));
        assert!(!holds(
            "ArnLike",
            &["arn:*:*:*:*:*"],
            one("arn:aws:s3"),
            ALLOW
        ));
    }

    #[test]
    fn numbers_dates_and_addresses_compare_by_value() {
        assert!(holds("NumericEquals", &["7"], one("007.0"), ALLOW));
        assert!(!holds(
            "NumericEquals",
            &["9007199254740993"],
            one("9007199254740992"),
            ALLOW
        ));
        assert!(holds("NumericLessThan", &["2.5"], one("-3"), ALLOW));
        assert!(!holds("NumericLessThan", &["2"], one("1e0"), ALLOW));
        assert!(holds(
            "DateEquals",
            &["2026-01-01T00:00:00Z"],
            one("1767225600"),
            ALLOW
        ));
        assert!(holds(
            "DateEquals",
            &["2026-01"],
            one("2026-01-01T01:00:00+01:00"),
            ALLOW
        ));
        assert!(!holds(
            "DateLessThan",
            &["2026-02-30T00:00:00Z", "2026-01"][1..],
            one("yesterday"),
            ALLOW
        ));
        assert!(holds(
            "IpAddress",
            &["10.1.2.3/8"],
            one("10.200.0.1"),
            ALLOW
        ));
        assert!(!holds("IpAddress", &["0.0.0.0/0"], one("::1"), ALLOW));
        assert!(holds("IpAddress", &["::/0"], one("2001:db8::1"), ALLOW));
    }

    #[test]
    fn unknown_operators_refuse() {
        for bad in [
            "StringEqual",
            "stringequals",
            "ForSomeValues:StringEquals",
            "NullIfExists",
            "ForAllValues:Null",
            "IfExists",
            "",
        ] {
            assert!(
                Condition::parse(bad, "k", &["true".into()], true).is_err(),
                "{bad}"
            );
        }
    }
}
