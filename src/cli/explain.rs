//! `brevet explain`: why a call was refused, for people.

use std::io::Read;

use serde_json::Value;

use super::{CallArguments, Failure};

/// What stands before the message in an error.
const MARK: &str = "Encoded authorization failure message: ";

pub(super) fn run(call: &CallArguments, message: Option<String>, json: bool) -> Result<(), Failure> {
    let text = match message {
        Some(text) if text != "-" => text,
        _ => {
            let mut text = String::new();
            std::io::stdin().take(65_536).read_to_string(&mut text)?;
            text
        }
    };
    let encoded = text.rsplit_once(MARK).map_or(&*text, |(_, rest)| rest);
    let encoded = encoded.split_whitespace().next().ok_or("there is no encoded message")?;
    let decoded = super::runtime()?
        .block_on(async { call.client()?.decode_authorization_message(encoded).await.map_err(Failure::from) })?;
    let decoded: Value = serde_json::from_str(&decoded)?;
    if json {
        println!("{decoded:#}");
    } else {
        print!("{}", told(&decoded));
    }
    Ok(())
}

fn told(decoded: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> String {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|v| format!("`{}`", text(v))).collect::<Vec<_>>().join(", ")
    };
    let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or_default();
    let all = |value: &Value, path: &str| match value.pointer(path) {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
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
        let sid = at(&s, "/sid");
        let sid = sid.as_str().map(|sid| format!(" ({sid})")).unwrap_or_default();
        let number = at(&s, "/policyNumber").as_u64().unwrap_or_default();
        let applies = if at(&s, "/applies") == Value::Bool(true) { "applies" } else { "does not apply" };
        let (policy, index) = (text(&at(&s, "/policy")), at(&s, "/statement").as_u64().unwrap_or_default());
        out.push_str(&format!("  {policy} {number}, statement {index}{sid}: {} {applies}\n", text(&at(&s, "/effect"))));
        for (what, phrase) in [
            ("principal", "name the principal"),
            ("action", "speak of the action"),
            ("resource", "speak of the resource"),
        ] {
            if at(&s, &format!("/matches/{what}")) == Value::Bool(false) {
                out.push_str(&format!("    does not {phrase}\n"));
            }
        }
        for c in all(&s, "/conditions") {
            let mark = if at(&c, "/holds") == Value::Bool(true) { "holds" } else { "fails" };
            let got = at(&c, "/got");
            let got = if got.is_null() { "nothing".to_owned() } else { list(&got) };
            let near = at(&c, "/nearMiss");
            let near = near.as_str().map(|n| format!(" ({n})")).unwrap_or_default();
            let (operator, key) = (text(&at(&c, "/operator")), text(&at(&c, "/key")));
            out.push_str(&format!(
                "    {mark}: {operator} {key} wanted {}, got {got}{near}\n",
                list(&at(&c, "/wanted"))
            ));
        }
    }
    out.push_str("\nThe request said:\n");
    for item in all(&context, "/conditions/items") {
        let values = all(&item, "/values/items").iter().map(|v| at(v, "/value")).collect();
        out.push_str(&format!("  {} = {}\n", text(&at(&item, "/key")), list(&Value::Array(values))));
    }
    out
}
