//! Compiles the elements of a statement from JSON.

use std::collections::HashSet;

use crate::evaluator::condition::Condition;
use crate::evaluator::json::{Node, ParseError, Reader, clip};
use crate::evaluator::kind::PolicyKind;
use crate::evaluator::pattern::{ArnPattern, Pattern, Syntax};
use crate::evaluator::principals::{PrincipalPattern, Principals};
use crate::evaluator::statement::{ActionPattern, Actions, Effect, Resources, Statement};

/// Compiles one statement. `variables` says whether the document's version supports policy
/// variables.
pub(super) fn statement(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: PolicyKind,
    variables: bool,
) -> Result<Statement, ParseError> {
    let mut elements = Elements::default();
    for (name, value) in reader.object(node, "a statement must be a JSON object")? {
        elements.read(reader, &name, &value, kind, variables)?;
    }
    elements.finish(reader, node, kind)
}

/// The elements of a statement that have been read so far.
#[derive(Default)]
struct Elements {
    sid: Option<Box<str>>,
    effect: Option<Effect>,
    principals: Option<Principals>,
    actions: Option<Actions>,
    resources: Option<Resources>,
    conditions: Vec<Condition>,
}

impl Elements {
    fn read(
        &mut self,
        reader: &Reader<'_>,
        name: &str,
        value: &Node<'_>,
        kind: PolicyKind,
        variables: bool,
    ) -> Result<(), ParseError> {
        match name {
            "Sid" => self.sid = parse_sid(reader, value, kind)?,
            "Effect" => self.effect = Some(parse_effect(reader, value, kind)?),
            "Principal" | "NotPrincipal" => self.read_principals(reader, name, value, kind)?,
            "Action" | "NotAction" => self.read_actions(reader, name, value, kind)?,
            "Resource" | "NotResource" => {
                self.read_resources(reader, name, value, kind, variables)?;
            }
            "Condition" => self.conditions = parse_conditions(reader, value, variables)?,
            _ => {
                let rule = format!("`{}` is not an element of a statement", clip(name));
                return Err(reader.error(value, rule));
            }
        }
        Ok(())
    }

    fn read_principals(
        &mut self,
        reader: &Reader<'_>,
        name: &str,
        value: &Node<'_>,
        kind: PolicyKind,
    ) -> Result<(), ParseError> {
        if !kind.names_principals() {
            let rule = format!(
                "only trust, resource and resource control policies may have the element {name}"
            );
            return Err(reader.error(value, rule));
        }
        if self.principals.is_some() {
            let rule = "a statement may have only one of Principal and NotPrincipal, once";
            return Err(reader.error(value, rule));
        }
        let patterns = parse_principals(reader, value, kind)?;
        self.principals = Some(match name {
            "Principal" => Principals::Are(patterns),
            _ if kind == PolicyKind::Resource => Principals::AreNot(patterns),
            _ => {
                let rule = "only resource policies may have the element NotPrincipal";
                return Err(reader.error(value, rule));
            }
        });
        Ok(())
    }

    fn read_actions(
        &mut self,
        reader: &Reader<'_>,
        name: &str,
        value: &Node<'_>,
        kind: PolicyKind,
    ) -> Result<(), ParseError> {
        if name == "NotAction" && kind == PolicyKind::ResourceControl {
            let rule = "a resource control policy must use Action, not NotAction";
            return Err(reader.error(value, rule));
        }
        if self.actions.is_some() {
            let rule = "a statement may have only one of Action and NotAction";
            return Err(reader.error(value, rule));
        }
        let patterns = parse_actions(reader, value)?;
        self.actions = Some(match name {
            "Action" => Actions::Are(patterns),
            _ => Actions::AreNot(patterns),
        });
        Ok(())
    }

    fn read_resources(
        &mut self,
        reader: &Reader<'_>,
        name: &str,
        value: &Node<'_>,
        kind: PolicyKind,
        variables: bool,
    ) -> Result<(), ParseError> {
        if kind == PolicyKind::Trust {
            let rule = "a trust policy must not have Resource or NotResource, since it applies to its own role";
            return Err(reader.error(value, rule));
        }
        if self.resources.is_some() {
            let rule = "a statement may have only one of Resource and NotResource";
            return Err(reader.error(value, rule));
        }
        let patterns = parse_resources(reader, value, kind, variables)?;
        self.resources = Some(match name {
            "Resource" => Resources::Are(patterns),
            _ => Resources::AreNot(patterns),
        });
        Ok(())
    }

    fn finish(
        self,
        reader: &Reader<'_>,
        node: &Node<'_>,
        kind: PolicyKind,
    ) -> Result<Statement, ParseError> {
        let missing = |what: &'static str| reader.error(node, format!("{what} is required"));
        Ok(Statement {
            begins: reader.line_and_column(reader.offset(node)),
            sid: self.sid,
            effect: self.effect.ok_or_else(|| missing("Effect"))?,
            principals: match self.principals {
                Some(principals) => principals,
                None if kind.names_principals() => return Err(missing("Principal")),
                None => Principals::Implied,
            },
            actions: self.actions.ok_or_else(|| missing("Action or NotAction"))?,
            resources: match self.resources {
                Some(resources) => resources,
                None if kind == PolicyKind::Trust => Resources::Implied,
                None => return Err(missing("Resource or NotResource")),
            },
            conditions: self.conditions.into(),
        })
    }
}

fn parse_sid(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: PolicyKind,
) -> Result<Option<Box<str>>, ParseError> {
    let text = reader.string(node)?;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
    // Resource and trust policies accept other characters, as they did before IAM existed.
    if !plain && !kind.names_principals() {
        return Err(reader.error(node, "a Sid may have only letters and digits"));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

fn parse_effect(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: PolicyKind,
) -> Result<Effect, ParseError> {
    match &*reader.string(node)? {
        "Allow" if kind == PolicyKind::ResourceControl => Err(reader.error(
            node,
            "the Effect of a resource control policy must be `Deny`",
        )),
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        _ => Err(reader.error(node, "Effect must be `Allow` or `Deny`")),
    }
}

fn parse_principals(
    reader: &Reader<'_>,
    node: &Node<'_>,
    kind: PolicyKind,
) -> Result<Box<[PrincipalPattern]>, ParseError> {
    if node.raw.starts_with('"') {
        return match &*reader.string(node)? {
            "*" => Ok(Box::new([PrincipalPattern::Any])),
            _ => Err(reader.error(node, "a principal without a type must be `*`; write others as {\"AWS\": …}, {\"Federated\": …} or {\"Service\": …}")),
        };
    }
    let mut patterns = Vec::new();
    let types = reader.object(
        node,
        "Principal or NotPrincipal must be `*` or a JSON object",
    )?;
    if types.is_empty() {
        return Err(reader.error(
            node,
            "Principal or NotPrincipal must name at least one principal",
        ));
    }
    for (name, value) in types {
        for (text, at) in reader.strings(&value)? {
            let pattern = match &*name {
                "AWS" => {
                    PrincipalPattern::parse_aws(&text).map_err(|rule| reader.error(&at, rule))?
                }
                "Federated" | "Service" if text.contains(['*', '?']) || text.is_empty() => {
                    return Err(reader.error(
                        &at,
                        format!("a {name} principal must be a full name without wildcards"),
                    ));
                }
                "Federated" => PrincipalPattern::Federated(text.into()),
                "Service" => PrincipalPattern::Service(text.into()),
                "CanonicalUser" => PrincipalPattern::CanonicalUser,
                _ => {
                    let rule = format!(
                        "`{}` is not a type of principal: use AWS, Federated, Service or CanonicalUser",
                        clip(&name)
                    );
                    return Err(reader.error(&value, rule));
                }
            };
            let everybody = matches!(pattern, PrincipalPattern::Any | PrincipalPattern::AnyAws);
            if kind == PolicyKind::ResourceControl && !everybody {
                return Err(reader.error(
                    &at,
                    "the Principal of a resource control policy must be `*`",
                ));
            }
            patterns.push(pattern);
        }
    }
    Ok(patterns.into())
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
                format!(
                    "`{}` is not an action: use `*` or `service:Name`",
                    clip(&text)
                ),
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
    kind: PolicyKind,
    variables: bool,
) -> Result<Box<[ArnPattern]>, ParseError> {
    let mut patterns = Vec::new();
    for (text, at) in reader.strings(node)? {
        let pattern = match kind.may_abbreviate_arns() {
            true => ArnPattern::parse_abbreviated(&text, variables),
            false => ArnPattern::parse(&text, variables),
        };
        patterns
            .push(pattern.map_err(|rule| {
                reader.error(&at, format!("resource `{}`: {rule}", clip(&text)))
            })?);
    }
    Ok(patterns.into())
}

fn parse_conditions(
    reader: &Reader<'_>,
    node: &Node<'_>,
    variables: bool,
) -> Result<Vec<Condition>, ParseError> {
    let mut conditions = Vec::new();
    for (operator, keys) in reader.object(node, "Condition must be a JSON object")? {
        let mut seen = HashSet::new();
        for (key, value) in reader.object(
            &keys,
            "a condition operator must have an object of keys and values",
        )? {
            if key.is_empty() {
                return Err(reader.error(&value, "the name of a condition key must not be empty"));
            }
            if !seen.insert(key.to_ascii_lowercase()) {
                return Err(reader.error(
                    &value,
                    format!("duplicate condition key `{}` in one operator", clip(&key)),
                ));
            }
            let values = reader.scalars(&value)?;
            let condition = Condition::parse(&operator, &key, &values, variables);
            conditions.push(condition.map_err(|rule| reader.error(&value, rule))?);
        }
    }
    Ok(conditions)
}
