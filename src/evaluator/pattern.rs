//! Wildcards and `${variables}` in actions, resources, principals and string conditions.
//!
//! A pattern is compiled to atoms once. Matching never allocates and never recurses: after a
//! mismatch it returns only to the last star, so its cost is at most the length of the pattern
//! times the length of the text, whatever the number of stars.

use super::context::{RequestContext, Value};

/// The maximum number of `?` in a pattern. A star before thousands of them would make matching slow
/// at every position of a text.
const MAX_ONES: usize = 64;

/// One element of a compiled pattern: fixed text, a wildcard, or a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    /// Bytes that must match exactly.
    Literal(Box<str>),
    /// `?`: exactly one character (not one byte).
    One,
    /// `*`: any text, including none.
    Star,
    /// `${key}` or `${key, 'default'}`: the value of a single-valued key, matched literally.
    Variable {
        key: Box<str>,
        default: Option<Box<str>>,
    },
}

/// A compiled pattern, which [`Pattern::matches`] compares with texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    atoms: Box<[Atom]>,
}

/// Which special characters patterns may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    /// Whether `*` and `?` match more than themselves.
    pub wildcards: bool,
    /// Whether `${…}` is a variable or an escape, as in documents of version 2012-10-17 only.
    pub variables: bool,
}

/// The result of comparing a text with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// A variable has neither a value nor a default, so the pattern matches nothing.
    NoValue,
}

impl Pattern {
    /// Compiles `text`. The error is the rule that the text breaks: a `${` must be closed and name a key, the default
    /// of a variable must be in single quotes, and there may be at most 64 `?`.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, &'static str> {
        let mut atoms = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        let mut ones = 0;
        while let Some(c) = rest.chars().next() {
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '*' if syntax.wildcards => {
                    flush(&mut atoms, &mut literal);
                    if atoms.last() != Some(&Atom::Star) {
                        atoms.push(Atom::Star);
                    }
                }
                '?' if syntax.wildcards => {
                    ones += 1;
                    if ones > MAX_ONES {
                        return Err("a pattern may have at most 64 `?`");
                    }
                    flush(&mut atoms, &mut literal);
                    atoms.push(Atom::One);
                }
                '$' if syntax.variables && rest.starts_with('{') => {
                    let Some((name, after)) = rest.get(1..).and_then(|r| r.split_once('}')) else {
                        return Err("a policy variable that begins with `${` must end with `}`");
                    };
                    rest = after;
                    match name {
                        "*" | "?" | "$" => literal.push_str(name),
                        _ => {
                            flush(&mut atoms, &mut literal);
                            atoms.push(variable(name)?);
                        }
                    }
                }
                _ => literal.push(c),
            }
        }
        flush(&mut atoms, &mut literal);
        Ok(Self {
            atoms: atoms.into(),
        })
    }

    /// Matches a whole text byte for byte. Variables take their values from `context`.
    pub fn matches(&self, text: &str, context: &RequestContext<'_>) -> Match {
        self.run(text, context, |a, b| a == b)
    }

    /// Matches ASCII letters without regard to case, as for `StringEqualsIgnoreCase` and action
    /// names.
    pub fn matches_ignore_case(&self, text: &str, context: &RequestContext<'_>) -> Match {
        self.run(text, context, |a, b| a.eq_ignore_ascii_case(b))
    }

    /// Whether `text` matches without regard to case. Variables count as having no value.
    pub fn is_like(&self, text: &str) -> bool {
        self.matches_ignore_case(text, &RequestContext::default()) == Match::Yes
    }

    /// Whether the pattern is `*`, which every text matches.
    pub fn is_any(&self) -> bool {
        !self.atoms.is_empty() && self.atoms.iter().all(|atom| matches!(atom, Atom::Star))
    }

    /// The part before the first wildcard, and whether the pattern has no wildcard; `None` if it
    /// has a variable.
    pub fn pinned(&self) -> Option<(String, bool)> {
        let (mut literal, mut whole) = (String::new(), true);
        for atom in &self.atoms {
            match atom {
                Atom::Literal(text) if whole => literal.push_str(text),
                Atom::Literal(_) => {}
                Atom::One | Atom::Star => whole = false,
                Atom::Variable { .. } => return None,
            }
        }
        Some((literal, whole))
    }

    /// The keys of the variables in the pattern, in lower case.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.atoms.iter().filter_map(|atom| match atom {
            Atom::Variable { key, .. } => Some(&**key),
            _ => None,
        })
    }

    fn run(
        &self,
        text: &str,
        context: &RequestContext<'_>,
        same: fn(&[u8], &[u8]) -> bool,
    ) -> Match {
        // Fast paths for the most common forms.
        let simple = match &*self.atoms {
            [] => text.is_empty(),
            [Atom::Star] => true,
            [Atom::Literal(l)] => text.len() == l.len() && same(text.as_bytes(), l.as_bytes()),
            [Atom::Literal(l), Atom::Star] => {
                prefix(text.as_bytes(), 0, l.as_bytes(), same).is_some()
            }
            _ => return self.search(text, context, same),
        };
        if simple { Match::Yes } else { Match::No }
    }

    fn search(
        &self,
        text: &str,
        context: &RequestContext<'_>,
        same: fn(&[u8], &[u8]) -> bool,
    ) -> Match {
        // A variable without a value must be noticed even if the text fails to match before it.
        for atom in &self.atoms {
            if let Atom::Variable { key, default } = atom
                && resolve(key, default.as_deref(), context).is_none()
            {
                return Match::NoValue;
            }
        }
        let text = text.as_bytes();
        let (mut at, mut pos) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        loop {
            let step = match self.atoms.get(at) {
                None if pos == text.len() => return Match::Yes,
                None => None,
                Some(Atom::Star) => {
                    at += 1;
                    if at == self.atoms.len() {
                        return Match::Yes;
                    }
                    back = Some((at, pos));
                    continue;
                }
                Some(Atom::One) => text.get(pos).map(|lead| char_len(*lead)),
                Some(Atom::Literal(l)) => prefix(text, pos, l.as_bytes(), same),
                Some(Atom::Variable { key, default }) => resolve(key, default.as_deref(), context)
                    .and_then(|value| prefix(text, pos, value.as_bytes(), same)),
            };
            match (step, back) {
                (Some(length), _) => {
                    at += 1;
                    pos += length;
                }
                (None, Some((star, from))) if from < text.len() => {
                    let from = from + text.get(from).map_or(1, |lead| char_len(*lead));
                    back = Some((star, from));
                    at = star;
                    pos = from;
                }
                (None, _) => return Match::No,
            }
        }
    }
}

fn flush(atoms: &mut Vec<Atom>, literal: &mut String) {
    if !literal.is_empty() {
        atoms.push(Atom::Literal(std::mem::take(literal).into()));
    }
}

/// Reads `key` or `key, 'default'`. IAM User Guide, "Policy variables", "Specifying default
/// values".
fn variable(name: &str) -> Result<Atom, &'static str> {
    let (key, default) = match name.split_once(',') {
        None => (name.trim(), None),
        Some((key, default)) => {
            let default = default
                .trim()
                .strip_prefix('\'')
                .and_then(|d| d.strip_suffix('\''));
            (
                key.trim(),
                Some(default.ok_or("the default of a policy variable must be in single quotes")?),
            )
        }
    };
    if key.is_empty() {
        return Err("a policy variable must name a condition key");
    }
    Ok(Atom::Variable {
        key: key.to_ascii_lowercase().into(),
        default: default.map(Into::into),
    })
}

fn resolve<'a>(
    key: &str,
    default: Option<&'a str>,
    context: &'a RequestContext<'_>,
) -> Option<&'a str> {
    match context.lookup(key) {
        Some(Value::One(text)) => Some(text),
        // Only single-valued keys can be used as variables; a key with several values counts as
        // absent.
        Some(Value::Many(_)) => None,
        None => default,
    }
}

fn prefix(text: &[u8], pos: usize, wanted: &[u8], same: fn(&[u8], &[u8]) -> bool) -> Option<usize> {
    let there = text.get(pos..pos.checked_add(wanted.len())?)?;
    same(there, wanted).then_some(wanted.len())
}

/// The length in bytes of a UTF-8 character, from its first byte.
fn char_len(lead: u8) -> usize {
    match lead {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// A resource or `Arn*` pattern: six colon-separated parts, each matched by itself, so that a wildcard never matches a
/// colon between two parts. The sixth part runs to the end of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArnPattern {
    /// The pattern `*`, which also matches texts that are not ARNs.
    Any,
    Parts(Box<[Pattern; 6]>),
}

impl ArnPattern {
    /// Compiles `text`. The error is the rule that the text breaks: the text must be `*` or six parts, the first of
    /// which is `arn` or `*`, and each part must be a valid [`Pattern`].
    pub fn parse(text: &str, variables: bool) -> Result<Self, &'static str> {
        Self::compile(
            text,
            variables,
            "the value must be `*` or an ARN, which has six parts separated by colons, the first of them `arn`",
        )
    }

    /// Like [`ArnPattern::parse`], but the parts after the service may be left out. A missing part
    /// counts as `*`, so that `arn:aws:sqs` names every resource of Amazon SQS.
    pub fn parse_abbreviated(text: &str, variables: bool) -> Result<Self, &'static str> {
        const RULE: &str =
            "the value must be `*` or an ARN with a partition and a service, such as `arn:aws:sqs`";
        let given = text.splitn(6, ':').count();
        match text.split(':').nth(2) {
            Some(service) if given < 6 && !service.is_empty() => {
                Self::compile(&[text, &":*".repeat(6 - given)].concat(), variables, RULE)
            }
            _ => Self::compile(text, variables, RULE),
        }
    }

    fn compile(text: &str, variables: bool, rule: &'static str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let part = |text: &str, variables| {
            Pattern::parse(
                text,
                Syntax {
                    wildcards: true,
                    variables,
                },
            )
        };
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or(rule);
        let (first, second, third, fourth, fifth, sixth) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        if first != "arn" && first != "*" {
            return Err(rule);
        }
        // Variables work only in the sixth part: IAM User Guide, "Where you can use policy
        // variables".
        Ok(Self::Parts(Box::new([
            part(first, false)?,
            part(second, false)?,
            part(third, false)?,
            part(fourth, false)?,
            part(fifth, false)?,
            part(sixth, variables)?,
        ])))
    }

    /// Like [`Pattern::variables`], for the whole ARN.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let parts = match self {
            Self::Any => &[][..],
            Self::Parts(parts) => parts.as_slice(),
        };
        parts.iter().flat_map(Pattern::variables)
    }

    /// Whether the pattern leaves both the account and the resource open: `*`, `arn:aws:iam::*:*`.
    pub fn is_any(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Parts(patterns) => patterns.iter().rev().take(2).all(Pattern::is_any),
        }
    }

    /// Like [`Pattern::pinned`], for the whole ARN.
    pub fn pinned(&self) -> Option<(String, bool)> {
        let Self::Parts(patterns) = self else {
            return Some((String::new(), false));
        };
        let (mut all, mut whole) = (String::new(), true);
        for (at, pattern) in patterns.iter().enumerate() {
            let (literal, all_of_it) = pattern.pinned()?;
            if whole {
                all.push_str(if at == 0 { "" } else { ":" });
                all.push_str(&literal);
                whole = all_of_it;
            }
        }
        Some((all, whole))
    }

    pub fn matches(&self, text: &str, context: &RequestContext<'_>) -> Match {
        match self {
            Self::Any => Match::Yes,
            Self::Parts(patterns) => {
                let mut texts = text.splitn(6, ':');
                let mut answer = Match::Yes;
                for pattern in patterns.iter() {
                    let Some(text) = texts.next() else {
                        return Match::No;
                    };
                    match pattern.matches(text, context) {
                        Match::Yes => {}
                        Match::No => answer = Match::No,
                        Match::NoValue => return Match::NoValue,
                    }
                }
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Syntax = Syntax {
        wildcards: true,
        variables: true,
    };

    fn hit(pattern: &str, text: &str) -> bool {
        let context = RequestContext::new();
        Pattern::parse(pattern, ALL)
            .unwrap()
            .matches(text, &context)
            == Match::Yes
    }

    #[test]
    fn wildcards_and_escapes() {
        assert!(hit("a*c", "abbbc") && hit("*", "") && hit("a?c", "aéc") && !hit("a?c", "ac"));
        assert!(hit("${*}", "*") && !hit("${*}", "x") && hit("a${?}${$}", "a?$"));
        assert!(Pattern::parse("${aws:username", ALL).is_err());
    }

    #[test]
    fn a_variable_is_literal_and_may_have_a_default() {
        let mut context = RequestContext::new();
        context.set("aws:username", "a*b");
        let pattern = Pattern::parse("home/${aws:username}/*", ALL).unwrap();
        assert_eq!(pattern.matches("home/a*b/x", &context), Match::Yes);
        assert_eq!(pattern.matches("home/aXb/x", &context), Match::No);
        let pattern = Pattern::parse("${aws:PrincipalTag/team, 'none'}", ALL).unwrap();
        assert_eq!(pattern.matches("none", &context), Match::Yes);
        let pattern = Pattern::parse("${aws:PrincipalTag/team}", ALL).unwrap();
        assert_eq!(pattern.matches("none", &context), Match::NoValue);
    }

    #[test]
    fn parts_that_an_abbreviated_arn_leaves_out_are_wildcards() {
        let context = RequestContext::new();
        let hit = |pattern: &str, text: &str| {
            ArnPattern::parse_abbreviated(pattern, true)
                .unwrap()
                .matches(text, &context)
                == Match::Yes
        };
        let role = "arn:aws:iam::111122223333:role/a:b";
        for pattern in [
            "arn:aws:iam",
            "arn:aws:iam:",
            "arn:aws:iam::*",
            "arn:aws:iam::111122223333",
            "arn:*:iam",
            role,
        ] {
            assert!(hit(pattern, role), "{pattern}");
        }
        for pattern in [
            "arn:aws:s3",
            "arn:aws-cn:iam",
            "arn:aws:iam:us-east-1",
            "arn:aws:iam::444455556666",
            "arn:aws:iam::",
        ] {
            assert!(!hit(pattern, role), "{pattern}");
        }
        for pattern in [
            "",
            "arn",
            "arn:aws",
            "arn:aws:",
            "arn:aws::",
            "aws:iam:x",
            "role/a",
        ] {
            assert!(
                ArnPattern::parse_abbreviated(pattern, true).is_err(),
                "{pattern}"
            );
        }
        assert!(ArnPattern::parse("arn:aws:iam::*", true).is_err());
    }

    #[test]
    fn az_09_many_stars_stay_cheap() {
        let pattern = format!("{}b", "a*".repeat(40));
        let text = "a".repeat(65_536);
        assert!(!hit(&pattern, &text));
        assert!(!hit(&format!("*{}b", "?a".repeat(MAX_ONES)), &text));
        assert!(Pattern::parse(&format!("*{}b", "?a".repeat(MAX_ONES + 1)), ALL).is_err());
    }

    /// A simple reference matcher that recurses on characters.
    fn slow(p: &[char], t: &[char]) -> bool {
        match p.split_first() {
            None => t.is_empty(),
            Some(('*', rest)) => (0..=t.len()).any(|i| slow(rest, &t[i..])),
            Some((c, rest)) => t
                .split_first()
                .is_some_and(|(d, tail)| (*c == '?' || c == d) && slow(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_matcher(p in "[abé*?]{0,10}", t in "[abé]{0,12}") {
            let (pc, tc): (Vec<char>, Vec<char>) = (p.chars().collect(), t.chars().collect());
            prop_assert_eq!(hit(&p, &t), slow(&pc, &tc));
        }
    }
}
