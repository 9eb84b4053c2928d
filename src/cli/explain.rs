//! `brevet explain`: shows people why a call was refused.

use clap::Args;
use serde_json::Value;

use super::aws::Settings;
use super::print::{self, TextOutputArgument};
use super::{CallArguments, Failure, input};
use crate::client::split_encoded_message;

const MAX_MESSAGE_BYTES: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  aws sts assume-role --role-arn ARN --role-session-name x 2>&1 | brevet explain
      Reads the whole error of AWS's own tools from standard input.
  brevet explain AbCdEf0123
      Explains an encoded message, as `brevet` prints it under an error.
  brevet explain --output json -
      Prints what DecodeAuthorizationMessage answers.";

/// Explain why a call was refused, from the encoded message of an AccessDenied
///
/// Shows the principal, the action and the resource, the statements that were evaluated, the conditions that failed,
/// and the statement that came closest to allowing the call. Needs permission for sts:DecodeAuthorizationMessage in the
/// account of the caller or of the resource; each account is shown only its own policies.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The encoded message, or the whole error [default: read from standard input, as with `-`]
    message: Option<String>,
    /// Print JSON; the same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: TextOutputArgument,
}

pub(super) fn run(arguments: &ExplainArguments) -> Result<(), Failure> {
    let text = match &arguments.message {
        Some(text) if text != "-" => text.clone(),
        _ => input::read_text(std::path::Path::new("-"), MAX_MESSAGE_BYTES)?,
    };
    let encoded = encoded(&text)?;
    let decoded = super::runtime()?.block_on(async {
        let client = Settings::of(&arguments.call)?.client().await?;
        Ok::<_, Failure>(client.decode_authorization_message(encoded).await?)
    })?;
    let decoded: Value = serde_json::from_str(&decoded)?;
    if arguments.json || arguments.output.is_json() {
        print::json(&decoded)
    } else {
        print::block(describe(&decoded))
    }
}

/// Finds the encoded message in an error of AWS's tools or of `brevet`; a single word is the message
/// itself.
fn encoded(text: &str) -> Result<&str, Failure> {
    if let (_, Some(encoded)) = split_encoded_message(text) {
        return Ok(encoded);
    }
    if let Some((_, rest)) = text.rsplit_once("brevet explain ") {
        return rest.split_whitespace().next().ok_or_else(|| {
            "no encoded message follows `brevet explain`; paste the whole line".into()
        });
    }
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word),
        (None, _) => {
            Err("the input is empty: paste the encoded message of an AccessDenied error, or the whole error".into())
        }
        (Some(_), Some(_)) => {
            Err("this text contains no encoded message: only an AccessDenied error that a policy decision caused \
                contains one".into())
        }
    }
}

fn describe(decoded: &Value) -> String {
    let (context, explanation) = (at(decoded, "/context"), at(decoded, "/explanation"));
    let mut out = format!(
        "{} was refused {} on {}\n  at {}, request {}\n\n{}\n",
        text(&at(&context, "/principal/arn")),
        text(&at(&context, "/action")),
        text(&at(&context, "/resource")),
        text(&at(&explanation, "/eventTime")),
        text(&at(&explanation, "/requestId")),
        text(&at(&explanation, "/summary")),
    );
    let statements = all(&explanation, "/statements");
    if !statements.is_empty() {
        out.push_str("\nStatements:\n");
    }
    for s in statements {
        out.push_str(&statement(&s));
    }
    out.push_str("\nCondition keys of the request:\n");
    for item in all(&context, "/conditions/items") {
        let values = all(&item, "/values/items")
            .iter()
            .map(|v| at(v, "/value"))
            .collect();
        out.push_str(&format!(
            "  {} = {}\n",
            text(&at(&item, "/key")),
            list(&Value::Array(values))
        ));
    }
    out
}

/// Formats a string with its control characters escaped, because the caller chose parts of it, such
/// as a user agent, a name or a tag.
fn text(value: &Value) -> String {
    print::visible(value.as_str().unwrap_or_default())
}

fn list(value: &Value) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let items: Vec<_> = items.iter().map(|v| format!("`{}`", text(v))).collect();
    items.join(", ")
}

fn at(value: &Value, path: &str) -> Value {
    value.pointer(path).cloned().unwrap_or_default()
}

fn all(value: &Value, path: &str) -> Vec<Value> {
    match value.pointer(path) {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    }
}

/// Describes an evaluated statement: whether it applies, and which of its elements do not match.
fn statement(s: &Value) -> String {
    let sid = at(s, "/sid");
    let sid = sid
        .as_str()
        .map(|sid| format!(" ({})", print::visible(sid)))
        .unwrap_or_default();
    let number = at(s, "/policyNumber").as_u64().unwrap_or_default();
    let applies = if at(s, "/applies") == Value::Bool(true) {
        "applies"
    } else {
        "does not apply"
    };
    let policy = text(&at(s, "/policy"));
    let index = at(s, "/statement").as_u64().unwrap_or_default();
    let which = match at(s, "/policyId") {
        Value::String(_) => format!(
            "{policy} {} on {}",
            text(&at(s, "/policyId")),
            text(&at(s, "/attachedTo"))
        ),
        _ => format!("{policy} {}", number.saturating_add(1)),
    };
    let mut out = format!(
        "  {which}, Statement[{index}]{sid}: {} {applies}\n",
        text(&at(s, "/effect"))
    );
    for element in ["principal", "action", "resource"] {
        if at(s, &format!("/matches/{element}")) == Value::Bool(false) {
            out.push_str(&format!("    does not match the {element}\n"));
        }
    }
    for c in all(s, "/conditions") {
        out.push_str(&condition(&c));
    }
    out
}

fn condition(c: &Value) -> String {
    let mark = if at(c, "/holds") == Value::Bool(true) {
        "holds"
    } else {
        "fails"
    };
    let got = at(c, "/got");
    let got = if got.is_null() {
        "nothing".to_owned()
    } else {
        list(&got)
    };
    let near = at(c, "/nearMiss");
    let near = near
        .as_str()
        .map(|n| format!(" ({})", print::visible(n)))
        .unwrap_or_default();
    let (operator, key) = (text(&at(c, "/operator")), text(&at(c, "/key")));
    format!(
        "    {mark}: {operator} {key} requires {}, the request has {got}{near}\n",
        list(&at(c, "/wanted"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoded_message_is_found_in_whatever_is_pasted() {
        for text in [
            "AbC_1-2",
            " AbC_1-2\n",
            "An error occurred (AccessDenied) when …: x. Encoded authorization failure message: AbC_1-2\n",
            "error: AccessDenied: x\n  request id: y\n  why: brevet explain AbC_1-2\n",
        ] {
            assert_eq!(encoded(text).unwrap(), "AbC_1-2", "{text}");
        }
        assert!(
            encoded(" ")
                .unwrap_err()
                .to_string()
                .contains("the input is empty")
        );
        assert!(
            encoded("error: NoSuchEntity: x")
                .unwrap_err()
                .to_string()
                .contains("contains no encoded message")
        );
        assert!(
            encoded("why: brevet explain ")
                .unwrap_err()
                .to_string()
                .contains("paste the whole line")
        );
    }

    #[test]
    fn what_a_caller_chose_is_shown_and_not_obeyed() {
        let decoded = serde_json::json!({"context": {"action": "sts:x\u{1b}]0;y\u{7}", "principal": {"arn": "a\u{202e}b"}}});
        let shown = describe(&decoded);
        assert!(
            shown.contains("sts:x\\u{1b}]0;y\\u{7}") && shown.contains("a\\u{202e}b"),
            "{shown}"
        );
    }
}
