//! A simple, slow evaluator of the policy language, written from AWS's documentation. It recurses
//! over characters and plain JSON, compiles nothing, and shares no code with `src/evaluator`.

use serde_json::Value;

/// A request in plain text.
#[derive(Clone)]
pub struct Ask {
    pub account: String,
    pub principal: Who,
    pub action: String,
    pub resource: String,
    pub resource_account: String,
    pub context: Vec<(String, Vec<String>, bool)>,
}

#[derive(Clone)]
pub enum Who {
    User(String),
    Session { role: String, arn: String },
}

#[derive(Default)]
pub struct World {
    pub identity: Vec<Value>,
    pub resource: Option<Value>,
    pub trust: bool,
    pub session: Option<Vec<Value>>,
    pub scope_down: Vec<Value>,
    pub boundary: Option<Value>,
    pub scp: Option<Vec<Vec<Value>>>,
}

pub fn judge(ask: &Ask, world: &World) -> &'static str {
    let everything = world
        .identity
        .iter()
        .chain(&world.resource)
        .chain(world.session.iter().flatten())
        .chain(&world.scope_down)
        .chain(&world.boundary)
        .chain(world.scp.iter().flatten().flatten());
    let bounded = world.boundary.is_some();
    if everything
        .flat_map(statements)
        .any(|s| s["Effect"] == "Deny" && hits(&s, ask, bounded))
    {
        return "ExplicitlyDenied";
    }
    let allows = |doc: &Value| {
        statements(doc)
            .iter()
            .any(|s| s["Effect"] == "Allow" && speaks(s, ask))
    };
    if !world.scope_down.iter().all(allows) {
        return "ImplicitlyDenied";
    }
    if let Some(levels) = &world.scp
        && !levels.iter().all(|level| level.iter().any(allows))
    {
        return "ImplicitlyDenied";
    }
    let boundary = world.boundary.as_ref().is_none_or(allows);
    let session = world
        .session
        .as_ref()
        .is_none_or(|docs| docs.iter().any(allows));
    let identity = world.identity.iter().any(allows);
    // 3: itself or everybody, 2: its role, 1: its account.
    let named = world
        .resource
        .iter()
        .flat_map(statements)
        .filter(|s| s["Effect"] == "Allow" && speaks(s, ask))
        .map(|s| strength(&s, ask))
        .max()
        .unwrap_or(0);
    let own = identity && boundary && session;
    let allowed = if ask.account != ask.resource_account {
        named > 0 && own
    } else {
        match named {
            3 => true,
            2 => boundary && session || (own && !world.trust),
            1 => own,
            _ => own && !world.trust,
        }
    };
    if allowed {
        "Allowed"
    } else {
        "ImplicitlyDenied"
    }
}

fn statements(doc: &Value) -> Vec<Value> {
    match &doc["Statement"] {
        Value::Array(list) => list.iter().map(|s| with_version(s, doc)).collect(),
        one => vec![with_version(one, doc)],
    }
}

fn with_version(statement: &Value, doc: &Value) -> Value {
    let mut statement = statement.clone();
    statement["Version"] = doc["Version"].clone();
    statement
}

fn list(value: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

fn hits(s: &Value, ask: &Ask, bounded: bool) -> bool {
    let named = if s.get("Principal").is_some() {
        strength(s, ask) > 0
    } else if s.get("NotPrincipal").is_some() {
        let names = principals(&s["NotPrincipal"]);
        let forms: Vec<bool> = forms(ask)
            .iter()
            .map(|form| names.iter().any(|n| form.contains(n)))
            .collect();
        bounded || !(names.contains(&"*".to_owned()) || forms.iter().all(|f| *f))
    } else {
        true
    };
    named && speaks(s, ask)
}

/// The names by which a policy may mean the caller: of the account, of the role, and of the caller itself.
fn forms(ask: &Ask) -> Vec<Vec<String>> {
    let account = vec![
        ask.account.clone(),
        format!("arn:aws:iam::{}:root", ask.account),
    ];
    match &ask.principal {
        Who::User(arn) => vec![account, vec![arn.clone()]],
        Who::Session { role, arn } => {
            vec![
                account,
                vec![format!("arn:aws:iam::{}:role/{role}", ask.account)],
                vec![arn.clone()],
            ]
        }
    }
}

fn principals(element: &Value) -> Vec<String> {
    match element {
        Value::Object(map) => map
            .iter()
            .flat_map(|(kind, v)| if kind == "AWS" { list(v) } else { Vec::new() })
            .collect(),
        other => list(other),
    }
}

fn strength(s: &Value, ask: &Ask) -> u8 {
    let forms = forms(ask);
    let last = forms.len() - 1;
    if let Some(element) = s.get("NotPrincipal") {
        let names = principals(element);
        return if names.contains(&"*".to_owned())
            || forms.iter().flatten().any(|f| names.contains(f))
        {
            0
        } else {
            3
        };
    }
    principals(&s["Principal"])
        .iter()
        .map(
            |name| match forms.iter().position(|form| form.contains(name)) {
                _ if name == "*" => 3,
                Some(0) => 1,
                Some(at) if at == last => 3,
                Some(_) => 2,
                None => 0,
            },
        )
        .max()
        .unwrap_or(0)
}

/// Whether the action, the resource and the conditions of a statement match the request.
fn speaks(s: &Value, ask: &Ask) -> bool {
    let new = s["Version"] == "2012-10-17";
    let action = |p: &String| {
        p == "*"
            || glob(
                &chars(&p.to_lowercase()),
                &chars(&ask.action.to_lowercase()),
            )
    };
    let acts = match s.get("NotAction") {
        Some(not) => !list(not).iter().any(action),
        None => list(&s["Action"]).iter().any(action),
    };
    let resource = |p: &String| arn_like(p, &ask.resource, ask, new) == Some(true);
    let on = if let Some(not) = s.get("NotResource") {
        let unclear = list(not)
            .iter()
            .any(|p| arn_like(p, &ask.resource, ask, new).is_none());
        !list(not).iter().any(resource) && (!unclear || s["Effect"] == "Deny")
    } else if s.get("Resource").is_some() {
        list(&s["Resource"]).iter().any(resource)
    } else {
        true
    };
    let deny = s["Effect"] == "Deny";
    let holds = |(operator, keys): (&String, &Value)| {
        keys.as_object()
            .unwrap()
            .iter()
            .all(|(key, wanted)| condition(operator, key, &list(wanted), ask, new, deny))
    };
    acts && on
        && s["Condition"]
            .as_object()
            .is_none_or(|c| c.iter().all(holds))
}

fn condition(
    operator: &str,
    key: &str,
    wanted: &[String],
    ask: &Ask,
    new: bool,
    deny: bool,
) -> bool {
    let got = ask
        .context
        .iter()
        .find(|(k, v, _)| k.eq_ignore_ascii_case(key) && !v.is_empty());
    // "The key exists and its value is not null"; an empty string is a null data set.
    let something = got.filter(|(_, values, _)| values.concat() != "");
    if operator == "Null" {
        return wanted.contains(&something.is_none().to_string());
    }
    let (set, name) = operator
        .split_once(':')
        .map_or(("", operator), |(s, n)| (s, n));
    let (name, if_exists) = name
        .strip_suffix("IfExists")
        .map_or((name, false), |n| (n, true));
    let negated = name.contains("Not");
    let odd = |value: &str| {
        (name.starts_with("Numeric") && number(value).is_none())
            || (name.contains("Ip") && value.parse::<std::net::IpAddr>().is_err())
    };
    let one = |value: &str| {
        if negated && odd(value) {
            return deny;
        }
        wanted
            .iter()
            .any(|w| compare(&name.replace("Not", ""), value, w, ask, new))
            != negated
    };
    match (got, set) {
        (_, "ForAllValues") if something.is_none() => true,
        (_, "ForAnyValue") if something.is_none() => if_exists && deny,
        (None, _) => if_exists || negated,
        (Some((_, values, many)), "") => {
            if *many {
                deny
            } else {
                one(&values[0])
            }
        }
        (Some((_, values, _)), "ForAllValues") => values.iter().all(|v| one(v)),
        (Some((_, values, _)), _) => values.iter().any(|v| one(v)),
    }
}

fn compare(name: &str, got: &str, wanted: &str, ask: &Ask, new: bool) -> bool {
    let text = |like| pattern(wanted, ask, new, like);
    match name {
        "StringEquals" => text(false).is_some_and(|p| glob(&p, &text_of(got))),
        "StringEqualsIgnoreCase" => pattern(&wanted.to_lowercase(), ask, new, false)
            .is_some_and(|p| glob(&p, &text_of(&got.to_lowercase()))),
        "StringLike" => text(true).is_some_and(|p| glob(&p, &text_of(got))),
        "ArnLike" | "ArnEquals" => arn_like(wanted, got, ask, new) == Some(true),
        "Bool" => got == wanted,
        "NumericEquals" => number(got).zip(number(wanted)).is_some_and(|(g, w)| g == w),
        "NumericLessThan" => number(got).zip(number(wanted)).is_some_and(|(g, w)| g < w),
        "NumericGreaterThanEquals" => number(got).zip(number(wanted)).is_some_and(|(g, w)| g >= w),
        "IpAddress" => {
            let (network, bits) = wanted.split_once('/').unwrap_or((wanted, "32"));
            let number = |t: &str| {
                t.parse::<std::net::Ipv4Addr>()
                    .ok()
                    .map(|a| u64::from(u32::from(a)))
            };
            let size = 1u64 << (32 - bits.parse::<u64>().unwrap());
            number(got)
                .zip(number(network))
                .is_some_and(|(g, n)| g / size == n / size)
        }
        other => panic!("the reference does not know {other}"),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[derive(Clone, Copy, PartialEq)]
enum C {
    Is(char),
    One,
    Any,
}

fn chars(text: &str) -> Vec<C> {
    text.chars()
        .map(|c| match c {
            '*' => C::Any,
            '?' => C::One,
            c => C::Is(c),
        })
        .collect()
}

fn text_of(text: &str) -> Vec<C> {
    text.chars().map(C::Is).collect()
}

/// The characters of a pattern with variables replaced; `None` if a variable has no value.
fn pattern(text: &str, ask: &Ask, new: bool, like: bool) -> Option<Vec<C>> {
    let plain = |t: &str| if like { chars(t) } else { text_of(t) };
    let Some((before, rest)) = text.split_once("${").filter(|_| new) else {
        return Some(plain(text));
    };
    let (name, after) = rest.split_once('}')?;
    let value = match name {
        "*" | "?" | "$" => name.to_owned(),
        _ => {
            let (key, default) = name.split_once(", '").map_or((name, None), |(k, d)| {
                (k, Some(d.trim_end_matches('\'').to_owned()))
            });
            match ask
                .context
                .iter()
                .find(|(k, v, _)| k.eq_ignore_ascii_case(key) && !v.is_empty())
            {
                Some((_, _, true)) => return None,
                Some((_, v, false)) => v[0].clone(),
                None => default?,
            }
        }
    };
    Some(
        [
            plain(before),
            text_of(&value),
            pattern(after, ask, new, like)?,
        ]
        .concat(),
    )
}

/// Whether an ARN matches a pattern, part by part; `None` if a variable of the pattern has no value.
fn arn_like(wanted: &str, got: &str, ask: &Ask, new: bool) -> Option<bool> {
    if wanted == "*" {
        return Some(true);
    }
    let (mut w, g): (Vec<&str>, Vec<&str>) = (
        wanted.splitn(6, ':').collect(),
        got.splitn(6, ':').collect(),
    );
    if g.len() < 6 {
        return Some(false);
    }
    // What an abbreviated ARN leaves out may be anything.
    w.resize(6, "*");
    let mut all = true;
    for i in 0..6 {
        all &= glob(&pattern(w[i], ask, new && i == 5, true)?, &text_of(g[i]));
    }
    Some(all)
}

fn glob(p: &[C], t: &[C]) -> bool {
    match p.split_first() {
        None => t.is_empty(),
        Some((C::Any, rest)) => (0..=t.len()).any(|i| glob(rest, &t[i..])),
        Some((C::One, rest)) => !t.is_empty() && glob(rest, &t[1..]),
        Some((c, rest)) => t.first() == Some(c) && glob(rest, &t[1..]),
    }
}
