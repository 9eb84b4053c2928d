//! JSON to [`Policy`]: what is malformed, and where.
//!
//! The text is read with `serde_json` one level at a time: every value stays a slice of the text
//! until its turn, so that each error knows its place and a duplicate key is never lost. Grammar:
//! IAM User Guide, "Grammar of the IAM JSON policy language"; sizes: "IAM and AWS STS quotas".

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::condition::Condition;
use super::index::Index;
use super::pattern::{ArnPattern, Pattern, Syntax};

/// What a document is for: it decides which elements may stand in it and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Attached to or embedded in a user, group or role. At most 10,240 characters.
    Identity,
    /// One of AWS's own managed policies, as exports hold them. No quota of a customer's holds for them:
    /// `AWSSupportServiceRolePolicy`, which every account has, had 135,200 characters in version 56.
    AwsManaged,
    /// A permissions boundary. At most 10,240 characters.
    Boundary,
    /// Passed with a request for a session. At most 2,048 characters, white space included.
    Session,
    /// A role's trust policy. At most 8,192 characters.
    Trust,
    /// A policy attached to a resource. At most 20,480 characters.
    Resource,
    /// A service control policy. At most 10,240 characters.
    ServiceControl,
    /// A resource control policy. At most 5,120 characters.
    ResourceControl,
}

impl Kind {
    /// The longest document of this kind, in characters. White space is counted in a session policy
    /// alone, whose limit is that of the parameter that it is passed in.
    pub fn max_characters(self) -> usize {
        match self {
            Self::AwsManaged => MAX_BYTES,
            Self::Identity | Self::Boundary | Self::ServiceControl => 10_240,
            Self::Session => 2_048,
            Self::Trust => 8_192,
            Self::Resource => 20_480,
            Self::ResourceControl => 5_120,
        }
    }

    fn names_principals(self) -> bool {
        matches!(self, Self::Trust | Self::Resource | Self::ResourceControl)
    }

    /// Whether an ARN in Resource may leave out the parts after the service. IAM takes such ARNs in the
    /// policies of principals; STS refuses them in a session policy.
    fn may_abbreviate_arns(self) -> bool {
        matches!(
            self,
            Self::Identity | Self::AwsManaged | Self::Boundary | Self::ServiceControl
        )
    }
}

/// Nesting beyond this many levels is refused before anything is parsed.
const MAX_DEPTH: usize = 32;
/// The longest document of any kind, white space included, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Where in a document something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// JSON pointer (RFC 6901): `/Statement/0/Effect`.
    pub pointer: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

/// Why a document was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule} (at `{}`, line {}, column {})", place.pointer, place.line, place.column)]
pub struct ParseError {
    /// The first place that breaks the rule.
    pub place: Place,
    /// What must hold there.
    pub rule: Cow<'static, str>,
}

/// A checked and compiled policy document.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) statements: Box<[Statement]>,
    pub(super) index: Index,
}

#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// Line and column where it begins.
    pub begins: (usize, usize),
    pub sid: Option<Box<str>>,
    pub effect: Effect,
    pub principals: Principals,
    pub actions: Actions,
    pub resources: Resources,
    pub conditions: Box<[Condition]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone)]
pub(super) enum Principals {
    /// The element cannot stand here: the policy is its principal's own.
    Implied,
    Are(Box<[PrincipalPattern]>),
    AreNot(Box<[PrincipalPattern]>),
}

/// One entry of a Principal element. No wildcard stands inside one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PrincipalPattern {
    /// `"*"`: everybody.
    Any,
    /// `{"AWS": "*"}`: everybody in an account. An Allow does not name identity providers by it.
    AnyAws,
    /// An account: twelve digits (of the caller's own partition), or `arn:PARTITION:iam::ACCOUNT:root`.
    Account {
        partition: Option<Box<str>>,
        id: Box<str>,
    },
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`, which every session of the role carries. Compared whole
    /// with a caller whose path is known.
    Role {
        arn: Box<str>,
        account: Box<str>,
        name: Box<str>,
    },
    /// Any other principal ARN, compared whole: a user, an assumed-role or federated-user session.
    Exact(Box<str>),
    /// A user or a role by its unique id (`AIDA…`, `AROA…`), whatever its name is now.
    Id(Box<str>),
    /// One session of a role: the role's unique id, and the session's name.
    Session { role: Box<str>, name: Box<str> },
    /// `{"Federated": …}`: an identity provider, by ARN or domain.
    Federated(Box<str>),
    /// `{"Service": …}`.
    Service(Box<str>),
    /// `{"CanonicalUser": …}`: legal, and nobody Brevet knows.
    CanonicalUser,
}

#[derive(Debug, Clone)]
pub(super) enum Actions {
    Are(Box<[ActionPattern]>),
    AreNot(Box<[ActionPattern]>),
}

#[derive(Debug, Clone)]
pub(super) enum ActionPattern {
    Any,
    /// `service:name`, each with wildcards and without regard to case.
    Named {
        /// As written.
        text: Box<str>,
        service: Pattern,
        name: Pattern,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Resources {
    /// A trust policy speaks of its role.
    Implied,
    Are(Box<[ArnPattern]>),
    AreNot(Box<[ArnPattern]>),
}

impl Policy {
    /// Checks and compiles a document.
    ///
    /// # Errors
    /// The first rule that the document breaks, and its place. An unknown element or operator is
    /// an error, never passed by; an unknown condition key is legal.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, ParseError> {
        let reader = Reader {
            text,
            known: Cell::new((0, 1, 1)),
        };
        reader.limits(kind)?;
        let root = reader.root()?;
        let mut version_2012 = false;
        let mut statement = None;
        for (name, value) in reader.object(&root, "a policy is a JSON object")? {
            match &*name {
                "Version" => {
                    version_2012 = match &*reader.string(&value)? {
                        "2012-10-17" => true,
                        "2008-10-17" => false,
                        _ => {
                            return Err(
                                reader.error(&value, "Version is `2012-10-17` or `2008-10-17`")
                            );
                        }
                    }
                }
                "Id" => {
                    reader.string(&value)?;
                }
                "Statement" => statement = Some(value),
                _ => {
                    return Err(reader.error(
                        &value,
                        format!("`{}` is not an element of a policy", clip(&name)),
                    ));
                }
            }
        }
        // AWS Organizations User Guide, "RCP syntax".
        if kind == Kind::ResourceControl && !version_2012 {
            return Err(reader.error(
                &root,
                "a resource control policy needs the Version `2012-10-17`",
            ));
        }
        let Some(statement) = statement else {
            return Err(reader.error(&root, "Statement is required"));
        };
        let nodes = match statement.raw.as_bytes().first() {
            Some(b'[') => reader.array(&statement)?,
            _ => vec![statement.clone()],
        };
        if nodes.is_empty() {
            return Err(reader.error(&statement, "at least one statement is required"));
        }
        let mut sids = HashSet::new();
        let mut statements = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let compiled = parse_statement(&reader, node, kind, version_2012)?;
            if let Some(sid) = &compiled.sid
                && !sids.insert(sid.clone())
            {
                return Err(reader.error(node, format!("Sid `{}` stands twice", clip(sid))));
            }
            statements.push(compiled);
        }
        Ok(Self {
            index: Index::new(&statements),
            statements: statements.into(),
        })
    }
}

fn parse_statement(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: Kind,
    variables: bool,
) -> Result<Statement, ParseError> {
    let mut sid = None;
    let mut effect = None;
    let mut principals = None;
    let mut actions = None;
    let mut resources = None;
    let mut conditions = Vec::new();
    for (name, value) in reader.object(node, "a statement is a JSON object")? {
        match &*name {
            "Sid" => {
                let text = reader.string(&value)?;
                let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
                // Resource and trust policies have taken other characters since before IAM.
                if !plain && !kind.names_principals() {
                    return Err(reader.error(&value, "a Sid has letters and digits alone"));
                }
                sid = (!text.is_empty()).then(|| text.into());
            }
            "Effect" => {
                effect = Some(match &*reader.string(&value)? {
                    "Allow" if kind == Kind::ResourceControl => {
                        return Err(reader.error(&value, "a resource control policy only denies"));
                    }
                    "Allow" => Effect::Allow,
                    "Deny" => Effect::Deny,
                    _ => return Err(reader.error(&value, "Effect is `Allow` or `Deny`")),
                });
            }
            "Principal" | "NotPrincipal" => {
                if !kind.names_principals() {
                    return Err(reader.error(
                        &value,
                        format!("{name} stands in trust and resource policies alone"),
                    ));
                }
                if principals.is_some() {
                    return Err(
                        reader.error(&value, "Principal and NotPrincipal exclude each other")
                    );
                }
                let patterns = parse_principals(reader, &value, kind)?;
                principals = Some(match &*name {
                    "Principal" => Principals::Are(patterns),
                    _ if kind == Kind::Resource => Principals::AreNot(patterns),
                    _ => {
                        return Err(
                            reader.error(&value, "NotPrincipal stands in resource policies alone")
                        );
                    }
                });
            }
            "Action" | "NotAction" => {
                if name == "NotAction" && kind == Kind::ResourceControl {
                    return Err(reader.error(
                        &value,
                        "a resource control policy takes Action, not NotAction",
                    ));
                }
                if actions.is_some() {
                    return Err(reader.error(&value, "Action and NotAction exclude each other"));
                }
                let patterns = parse_actions(reader, &value)?;
                actions = Some(if name == "Action" {
                    Actions::Are(patterns)
                } else {
                    Actions::AreNot(patterns)
                });
            }
            "Resource" | "NotResource" => {
                if kind == Kind::Trust {
                    return Err(reader.error(
                        &value,
                        "a trust policy has no Resource: it speaks of its role",
                    ));
                }
                if resources.is_some() {
                    return Err(reader.error(&value, "Resource and NotResource exclude each other"));
                }
                let patterns = parse_resources(reader, &value, kind, variables)?;
                resources = Some(if name == "Resource" {
                    Resources::Are(patterns)
                } else {
                    Resources::AreNot(patterns)
                });
            }
            "Condition" => conditions = parse_conditions(reader, &value, variables)?,
            _ => {
                return Err(reader.error(
                    &value,
                    format!("`{}` is not an element of a statement", clip(&name)),
                ));
            }
        }
    }
    let missing = |what: &'static str| reader.error(node, format!("{what} is required"));
    let place = reader.error(node, "").place;
    Ok(Statement {
        begins: (place.line, place.column),
        sid,
        effect: effect.ok_or_else(|| missing("Effect"))?,
        principals: match principals {
            Some(principals) => principals,
            None if kind.names_principals() => return Err(missing("Principal")),
            None => Principals::Implied,
        },
        actions: actions.ok_or_else(|| missing("Action or NotAction"))?,
        resources: match resources {
            Some(resources) => resources,
            None if kind == Kind::Trust => Resources::Implied,
            None => return Err(missing("Resource or NotResource")),
        },
        conditions: conditions.into(),
    })
}

fn parse_principals(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: Kind,
) -> Result<Box<[PrincipalPattern]>, ParseError> {
    if node.raw.starts_with('"') {
        return match &*reader.string(node)? {
            "*" => Ok(Box::new([PrincipalPattern::Any])),
            _ => Err(reader.error(node, "the only principal without a type is `*`")),
        };
    }
    let mut patterns = Vec::new();
    let types = reader.object(node, "Principal is `*` or an object")?;
    if types.is_empty() {
        return Err(reader.error(node, "a principal is required"));
    }
    for (name, value) in types {
        for (text, at) in reader.strings(&value)? {
            let pattern = match &*name {
                "AWS" => aws_principal(&text).map_err(|rule| reader.error(&at, rule))?,
                "Federated" | "Service" if text.contains(['*', '?']) || text.is_empty() => {
                    return Err(reader.error(
                        &at,
                        format!("a {name} principal is named whole, without wildcards"),
                    ));
                }
                "Federated" => PrincipalPattern::Federated(text.into()),
                "Service" => PrincipalPattern::Service(text.into()),
                "CanonicalUser" => PrincipalPattern::CanonicalUser,
                _ => {
                    let rule = format!(
                        "`{}` is not a type of principal (AWS, Federated, Service, CanonicalUser)",
                        clip(&name)
                    );
                    return Err(reader.error(&value, rule));
                }
            };
            let everybody = matches!(pattern, PrincipalPattern::Any | PrincipalPattern::AnyAws);
            if kind == Kind::ResourceControl && !everybody {
                return Err(reader.error(
                    &at,
                    "a resource control policy takes `*` alone as Principal",
                ));
            }
            patterns.push(pattern);
        }
    }
    Ok(patterns.into())
}

fn aws_principal(text: &str) -> Result<PrincipalPattern, &'static str> {
    let digits = |t: &str| t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit());
    if text == "*" {
        return Ok(PrincipalPattern::AnyAws);
    }
    if digits(text) {
        return Ok(PrincipalPattern::Account {
            partition: None,
            id: text.into(),
        });
    }
    if text.contains(['*', '?']) {
        return Err("no wildcard stands inside a principal ARN");
    }
    // Policies are stored with unique ids, and one that nobody has any more is shown as it is.
    if is_unique_id(text) {
        return Ok(PrincipalPattern::Id(text.into()));
    }
    if let Some((role, name)) = text.split_once(':').filter(|(role, _)| is_unique_id(role)) {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
        if (2..=64).contains(&name.len()) && name.bytes().all(legal) {
            return Ok(PrincipalPattern::Session {
                role: role.into(),
                name: name.into(),
            });
        }
    }
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (arn, partition, service, region, account, resource) =
        (next(), next(), next(), next(), next(), next());
    if arn != "arn" || partition.is_empty() || !region.is_empty() || !digits(account) {
        return Err(
            "an AWS principal is `*`, a 12-digit account, a principal's ARN or its unique id",
        );
    }
    match (service, resource.split_once('/')) {
        ("iam", None) if resource == "root" => Ok(PrincipalPattern::Account {
            partition: Some(partition.into()),
            id: account.into(),
        }),
        ("iam", Some(("role", path))) => match path.rsplit('/').next() {
            Some(name) if !name.is_empty() => Ok(PrincipalPattern::Role {
                arn: text.into(),
                account: account.into(),
                name: name.into(),
            }),
            _ => Err("the role's name is missing"),
        },
        ("iam", Some(("user", name))) if !name.is_empty() => {
            Ok(PrincipalPattern::Exact(text.into()))
        }
        ("sts", Some(("assumed-role", rest)))
            if rest.split('/').filter(|p| !p.is_empty()).count() == 2 =>
        {
            Ok(PrincipalPattern::Exact(text.into()))
        }
        ("sts", Some(("federated-user", name))) if !name.is_empty() => {
            Ok(PrincipalPattern::Exact(text.into()))
        }
        _ => Err(
            "an AWS principal is an account, a user, a role, an assumed-role or a federated-user session",
        ),
    }
}

/// The AWS principals of a document, in order: where the JSON string of each stands (quotes included),
/// and its text. Of a malformed document, those before the fault.
pub fn aws_principals(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    // What is wrong with a document is for `Policy::parse` to say.
    let _ = find_aws_principals(
        &Reader {
            text,
            known: Cell::new((0, 1, 1)),
        },
        &mut found,
    );
    found
}

fn find_aws_principals(
    reader: &Reader<'_>,
    found: &mut Vec<(Range<usize>, String)>,
) -> Result<(), ParseError> {
    for (name, statements) in reader.object(&reader.root()?, "a policy is a JSON object")? {
        if name != "Statement" {
            continue;
        }
        let statements = if statements.raw.starts_with('[') {
            reader.array(&statements)?
        } else {
            vec![statements]
        };
        for statement in statements {
            for (name, element) in reader.object(&statement, "a statement is a JSON object")? {
                if !matches!(&*name, "Principal" | "NotPrincipal") || !element.raw.starts_with('{')
                {
                    continue;
                }
                for (_, value) in reader
                    .object(&element, "")?
                    .into_iter()
                    .filter(|(kind, _)| kind == "AWS")
                {
                    for (principal, at) in reader.strings(&value)? {
                        let begin = reader.offset(&at);
                        found.push((begin..begin + at.raw.len(), principal));
                    }
                }
            }
        }
    }
    Ok(())
}

impl Policy {
    /// The users, roles and sessions that the Principal elements name by ARN, and those that they name by
    /// unique id (`AIDA…`, `AROA…:SESSION`).
    pub fn named_principals(&self) -> impl Iterator<Item = NamedPrincipal<'_>> {
        let patterns = self
            .statements
            .iter()
            .flat_map(|statement| match &statement.principals {
                Principals::Are(patterns) | Principals::AreNot(patterns) => &**patterns,
                Principals::Implied => &[],
            });
        patterns.filter_map(|pattern| match pattern {
            PrincipalPattern::Role { arn, .. } | PrincipalPattern::Exact(arn) => {
                Some(NamedPrincipal::ByArn(arn))
            }
            PrincipalPattern::Id(id) | PrincipalPattern::Session { role: id, .. } => {
                Some(NamedPrincipal::ById(id))
            }
            _ => None,
        })
    }
}

/// How a Principal element names a user, a role or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedPrincipal<'a> {
    /// By its ARN.
    ByArn(&'a str),
    /// By its unique id, or its role's.
    ById(&'a str),
}

/// The form of a unique id of a user or role: 16 to 128 letters and digits. IAM API Reference, "User":
/// `UserId`.
fn is_unique_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn parse_actions(reader: &Reader<'_>, node: &Node<'_>) -> Result<Box<[ActionPattern]>, ParseError> {
    let syntax = Syntax {
        wildcards: true,
        variables: false,
    };
    let mut patterns = Vec::new();
    for (text, at) in reader.strings(node)? {
        if text == "*" {
            patterns.push(ActionPattern::Any);
            continue;
        }
        let plain = |t: &str| {
            !t.is_empty()
                && t.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.*?".contains(&b))
        };
        let Some((service, name)) = text.split_once(':').filter(|(s, n)| plain(s) && plain(n))
        else {
            return Err(reader.error(
                &at,
                format!("`{}` is not an action: `*` or `service:Name`", clip(&text)),
            ));
        };
        let compile = |t: &str| Pattern::parse(t, syntax).map_err(|rule| reader.error(&at, rule));
        patterns.push(ActionPattern::Named {
            service: compile(service)?,
            name: compile(name)?,
            text: text.as_str().into(),
        });
    }
    Ok(patterns.into())
}

fn parse_resources(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: Kind,
    variables: bool,
) -> Result<Box<[ArnPattern]>, ParseError> {
    let mut patterns = Vec::new();
    for (text, at) in reader.strings(node)? {
        let pattern = match kind.may_abbreviate_arns() {
            true => ArnPattern::parse_abbreviated(&text, variables),
            false => ArnPattern::parse(&text, variables),
        };
        patterns.push(
            pattern
                .map_err(|rule| reader.error(&at, format!("resource `{}` {rule}", clip(&text))))?,
        );
    }
    Ok(patterns.into())
}

fn parse_conditions(
    reader: &Reader<'_>,
    node: &Node<'_>,
    variables: bool,
) -> Result<Vec<Condition>, ParseError> {
    let mut conditions = Vec::new();
    for (operator, keys) in reader.object(node, "Condition is a JSON object")? {
        let mut seen = HashSet::new();
        for (key, value) in reader.object(&keys, "a condition operator holds an object")? {
            if key.is_empty() {
                return Err(reader.error(&value, "a condition key has a name"));
            }
            if !seen.insert(key.to_ascii_lowercase()) {
                return Err(reader.error(
                    &value,
                    format!(
                        "condition key `{}` stands twice under one operator",
                        clip(&key)
                    ),
                ));
            }
            let values = reader.scalars(&value)?;
            let condition = Condition::parse(&operator, &key, &values, variables);
            conditions.push(condition.map_err(|rule| reader.error(&value, rule))?);
        }
    }
    Ok(conditions)
}

/// A character that no string of a policy holds, however it is written: what `\u0000` stands for is
/// refused like the bare character, which [`Reader::limits`] refuses.
fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r')
}

const NO_CONTROL_CHARACTERS: &str =
    "must not have a control character (tab, line feed and carriage return may stand)";

/// Foreign text for an error message: short, and on one line.
fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// A JSON value that was not looked into yet.
#[derive(Clone)]
struct Node<'a> {
    raw: &'a str,
    pointer: String,
}

struct Reader<'a> {
    text: &'a str,
    /// An offset whose line and column are known: places are asked for in the order of the text, and
    /// nobody counts from its beginning each time.
    known: Cell<(usize, usize, usize)>,
}

impl<'a> Reader<'a> {
    fn limits(&self, kind: Kind) -> Result<(), ParseError> {
        let whole = Node {
            raw: self.text,
            pointer: String::new(),
        };
        if self.text.len() > MAX_BYTES {
            let rule = format!("a document has at most {MAX_BYTES} bytes, white space included");
            return Err(self.error(&whole, rule));
        }
        let whole_text = kind == Kind::Session;
        let counts = |c: &char| whole_text || !matches!(c, ' ' | '\t' | '\n' | '\r');
        if self.text.chars().filter(counts).count() > kind.max_characters() {
            let white_space = if whole_text {
                "included"
            } else {
                "not counted"
            };
            let rule = format!(
                "a document of this kind has at most {} characters, white space {white_space}",
                kind.max_characters()
            );
            return Err(self.error(&whole, rule));
        }
        let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
        if let Some((offset, _)) = self.text.char_indices().find(|(_, c)| !legal(*c)) {
            let rule = "characters are tab, line feed, carriage return and U+0020 to U+00FF";
            return Err(self.error_at(offset, String::new(), rule.into()));
        }
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        for (offset, byte) in self.text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(self.error_at(
                            offset,
                            String::new(),
                            format!("nested more than {MAX_DEPTH} levels deep").into(),
                        ));
                    }
                }
                b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(())
    }

    fn root(&self) -> Result<Node<'a>, ParseError> {
        let whole = Node {
            raw: self.text,
            pointer: String::new(),
        };
        let raw: &RawValue = self.json(&whole)?;
        Ok(Node {
            raw: raw.get(),
            pointer: String::new(),
        })
    }

    fn json<T: Deserialize<'a>>(&self, node: &Node<'a>) -> Result<T, ParseError> {
        serde_json::from_str(node.raw).map_err(|e| {
            let offset = self.offset(node) + position(node.raw, e.line(), e.column());
            let mut rule = e.to_string();
            if let Some(cut) = rule.rfind(" at line ") {
                rule.truncate(cut);
            }
            self.error_at(
                offset,
                node.pointer.clone(),
                format!("not valid JSON: {rule}").into(),
            )
        })
    }

    fn object(
        &self,
        node: &Node<'a>,
        rule: &'static str,
    ) -> Result<Vec<(String, Node<'a>)>, ParseError> {
        if !node.raw.starts_with('{') {
            return Err(self.error(node, rule));
        }
        let Members(members) = self.json(node)?;
        let mut nodes: Vec<(String, Node<'a>)> = Vec::with_capacity(members.len());
        let mut names = HashSet::new();
        for (name, raw) in members {
            let pointer = format!(
                "{}/{}",
                node.pointer,
                name.replace('~', "~0").replace('/', "~1")
            );
            let child = Node {
                raw: raw.get(),
                pointer,
            };
            if name.contains(is_control) {
                return Err(self.error(
                    &child,
                    format!("the name `{}` {NO_CONTROL_CHARACTERS}", clip(&name)),
                ));
            }
            if !names.insert(name.clone()) {
                return Err(self.error(
                    &child,
                    format!("`{}` stands twice in one object", clip(&name)),
                ));
            }
            nodes.push((name, child));
        }
        Ok(nodes)
    }

    fn array(&self, node: &Node<'a>) -> Result<Vec<Node<'a>>, ParseError> {
        let Items(items) = self.json(node)?;
        let child = |(i, raw): (usize, &'a RawValue)| Node {
            raw: raw.get(),
            pointer: format!("{}/{i}", node.pointer),
        };
        Ok(items.into_iter().enumerate().map(child).collect())
    }

    fn string(&self, node: &Node<'a>) -> Result<String, ParseError> {
        if !node.raw.starts_with('"') {
            return Err(self.error(node, "must be a string"));
        }
        let text: String = self.json(node)?;
        if text.contains(is_control) {
            return Err(self.error(node, format!("`{}` {NO_CONTROL_CHARACTERS}", clip(&text))));
        }
        Ok(text)
    }

    /// A string, or a list of at least one string.
    fn strings(&self, node: &Node<'a>) -> Result<Vec<(String, Node<'a>)>, ParseError> {
        match node.raw.as_bytes().first() {
            Some(b'"') => Ok(vec![(self.string(node)?, node.clone())]),
            Some(b'[') => {
                let items = self.array(node)?;
                if items.is_empty() {
                    return Err(self.error(node, "must not be an empty list"));
                }
                items
                    .into_iter()
                    .map(|item| Ok((self.string(&item)?, item)))
                    .collect()
            }
            _ => Err(self.error(node, "must be a string or a list of strings")),
        }
    }

    /// The wanted values of a condition: strings, numbers and booleans, which stand for their text.
    fn scalars(&self, node: &Node<'a>) -> Result<Vec<Cow<'a, str>>, ParseError> {
        let items = match node.raw.as_bytes().first() {
            Some(b'[') => self.array(node)?,
            _ => vec![node.clone()],
        };
        let scalar = |item: Node<'a>| match item.raw.as_bytes().first() {
            Some(b'"') => self.string(&item).map(Cow::Owned),
            Some(b't' | b'f' | b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(item.raw)),
            _ => Err(self.error(
                &item,
                "a condition value is a string, a number, a boolean or a list of these",
            )),
        };
        items.into_iter().map(scalar).collect()
    }

    fn error(&self, node: &Node<'_>, rule: impl Into<Cow<'static, str>>) -> ParseError {
        self.error_at(self.offset(node), node.pointer.clone(), rule.into())
    }

    /// Every node is a slice of the text, so its address tells its place.
    fn offset(&self, node: &Node<'_>) -> usize {
        (node.raw.as_ptr() as usize)
            .saturating_sub(self.text.as_ptr() as usize)
            .min(self.text.len())
    }

    fn error_at(&self, offset: usize, pointer: String, rule: Cow<'static, str>) -> ParseError {
        let (from, mut line, mut column) = Some(self.known.get())
            .filter(|(at, ..)| *at <= offset)
            .unwrap_or((0, 1, 1));
        for c in self.text.get(from..offset).unwrap_or_default().chars() {
            (line, column) = if c == '\n' {
                (line + 1, 1)
            } else {
                (line, column + 1)
            };
        }
        self.known.set((offset, line, column));
        ParseError {
            place: Place {
                pointer,
                line,
                column,
            },
            rule,
        }
    }
}

/// The byte offset of a line and column (both from 1, in bytes) as `serde_json` tells them.
fn position(text: &str, line: usize, column: usize) -> usize {
    let lines: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut offset = (lines + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The members of an object in order, duplicates and all.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(V)
    }
}

/// The items of an array.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_knows_its_place() {
        let text = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [{\"Effect\": \"Allow\",\n    \"Action\": \"s3:*\", \"Resource\": \"*\",\n    \"Condition\": {\"StringEqual\": {\"aws:x\": \"y\"}}}]\n}";
        let error = Policy::parse(Kind::Identity, text).unwrap_err();
        assert_eq!(
            error.place.pointer,
            "/Statement/0/Condition/StringEqual/aws:x"
        );
        assert_eq!((error.place.line, error.place.column), (5, 44));
        assert!(error.rule.contains("StringEqual"));
    }

    #[test]
    fn az_01_what_is_not_understood_is_refused() {
        let with = |element: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Allow","Action":"a:b","Resource":"*"{element}}}]}}"#
            )
        };
        assert!(Policy::parse(Kind::Identity, &with("")).is_ok());
        for element in [
            r#","Foo":1"#,
            r#","Condition":{"Foo":{"a":"b"}}"#,
            r#","Condition":null"#,
            r#","Effect":"Allow""#,
        ] {
            assert!(
                Policy::parse(Kind::Identity, &with(element)).is_err(),
                "{element}"
            );
        }
        for text in [
            "",
            "{}",
            "null",
            "[]",
            "\u{feff}{}",
            r#"{"Version":"2020-01-01","Statement":[]}"#,
        ] {
            assert!(Policy::parse(Kind::Identity, text).is_err(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_refused_however_they_are_written() {
        let with = |text: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Allow","Action":"a:b","Resource":"*","Condition":{text}}}]}}"#
            )
        };
        for legal in [
            r#"{"StringEquals":{"a:b":"\u0041\u00e9"}}"#,
            r#"{"StringEquals":{"a:b":"x\ty\n"}}"#,
        ] {
            assert!(
                Policy::parse(Kind::Identity, &with(legal)).is_ok(),
                "{legal}"
            );
        }
        for bad in [
            "\\u0000", "\\u001f", "\\b", "\\f", "\\u007f", "\\u0085", "\u{7f}", "\u{85}", "\u{1}",
        ] {
            for text in [
                format!(r#"{{"StringEquals":{{"a:b":"x{bad}"}}}}"#),
                format!(r#"{{"StringEquals":{{"a:b{bad}":"x"}}}}"#),
            ] {
                for kind in [Kind::Identity, Kind::Session, Kind::Boundary] {
                    assert!(Policy::parse(kind, &with(&text)).is_err(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_resource_control_policy_has_a_version_and_no_not_action() {
        let with = |version: &str, action: &str| {
            format!(
                r#"{{{version}"Statement":[{{"Effect":"Deny","Principal":"*","{action}":"s3:*","Resource":"*"}}]}}"#
            )
        };
        let new = r#""Version":"2012-10-17","#;
        assert!(Policy::parse(Kind::ResourceControl, &with(new, "Action")).is_ok());
        for bad in [
            with("", "Action"),
            with(r#""Version":"2008-10-17","#, "Action"),
            with(new, "NotAction"),
        ] {
            assert!(Policy::parse(Kind::ResourceControl, &bad).is_err(), "{bad}");
            assert!(Policy::parse(Kind::Resource, &bad).is_ok(), "{bad}");
        }
    }

    #[test]
    fn a_session_policy_names_resources_by_whole_arns() {
        for arn in [
            "arn:aws:sqs",
            "arn:aws:iam::*",
            "arn:aws:logs:*",
            "arn:aws:lambda:us-east-1:*",
        ] {
            let text = format!(
                r#"{{"Statement":[{{"Effect":"Allow","Action":"*","Resource":"{arn}"}}]}}"#
            );
            for (kind, taken) in [
                (Kind::Identity, true),
                (Kind::AwsManaged, true),
                (Kind::Boundary, true),
                (Kind::ServiceControl, true),
                (Kind::Session, false),
            ] {
                assert_eq!(Policy::parse(kind, &text).is_ok(), taken, "{kind:?} {arn}");
            }
        }
    }

    #[test]
    fn az_03_the_size_limit_is_exact() {
        let sized = |n: usize| {
            let bare =
                r#"{"Statement":[{"Sid":"","Effect":"Allow","Action":"s3:Get","Resource":"*"}]}"#;
            bare.replace(
                r#""Sid":"""#,
                &format!(r#""Sid":"{}""#, "a".repeat(n - bare.len())),
            )
        };
        assert!(Policy::parse(Kind::Session, &sized(2_048)).is_ok());
        assert!(Policy::parse(Kind::Session, &sized(2_049)).is_err());
        let spaced = |n: usize| format!("{}{}", sized(n - 1_000), " \n".repeat(500));
        assert!(Policy::parse(Kind::Session, &spaced(2_048)).is_ok());
        assert!(Policy::parse(Kind::Session, &spaced(2_049)).is_err());
        assert!(Policy::parse(Kind::Identity, &spaced(11_240)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Policy::parse(Kind::Identity, &text);
        }
    }
}
