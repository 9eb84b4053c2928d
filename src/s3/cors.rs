//! Answers of CORS preflight requests, which browsers send without credentials: Fetch Standard,
//! "CORS preflight request". The broker answers them from its configuration, and never passes them
//! on to a store.

use super::head::Head;
use super::refusal::{Code, S3Refusal};

/// A rule for the requests of web pages from other origins: Amazon S3 User Guide, "Elements of a
/// CORS configuration".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRule {
    /// The origins whose pages the rule allows, such as `https://app.example.com`. One `*` in each
    /// matches any text.
    pub allowed_origins: Vec<String>,
    /// The HTTP methods that the pages may use, such as `GET`.
    pub allowed_methods: Vec<String>,
    /// The request headers that the pages may set. One `*` in each matches any text.
    pub allowed_headers: Vec<String>,
    /// How long a browser may cache the answer, in seconds; `None` leaves it to the browser.
    pub max_age_seconds: Option<u32>,
}

/// Returns the headers of the answer to a preflight request.
///
/// # Errors
/// [`S3Refusal`] if no rule allows the request, or if the head is too long or ambiguous.
pub fn preflight(
    head: &Head<'_>,
    rules: &[CorsRule],
) -> Result<Vec<(&'static str, String)>, S3Refusal> {
    let refused = || {
        S3Refusal::new(
            Code::AccessDenied,
            "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        )
    };
    head.check()?;
    let origin = head.header("origin").ok_or_else(refused)?;
    let method = head
        .header("access-control-request-method")
        .ok_or_else(refused)?;
    let asked = head
        .header("access-control-request-headers")
        .unwrap_or_default();
    let headers: Vec<String> = asked
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let rule = rules.iter().find(|rule| {
        rule.allowed_origins.iter().any(|o| is_like(o, origin))
            && rule.allowed_methods.iter().any(|m| m == method)
            && headers.iter().all(|name| {
                let allowed = |pattern: &String| is_like(&pattern.to_ascii_lowercase(), name);
                rule.allowed_headers.iter().any(allowed)
            })
    });
    let rule = rule.ok_or_else(refused)?;
    let mut answer = vec![
        ("access-control-allow-origin", origin.to_owned()),
        (
            "access-control-allow-methods",
            rule.allowed_methods.join(", "),
        ),
        (
            "vary",
            "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned(),
        ),
    ];
    if !headers.is_empty() {
        answer.push(("access-control-allow-headers", headers.join(", ")));
    }
    if let Some(seconds) = rule.max_age_seconds {
        answer.push(("access-control-max-age", seconds.to_string()));
    }
    Ok(answer)
}

/// Returns whether a text matches a pattern. The pattern may contain one `*`, which stands for any text, even an empty
/// one.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() >= before.len() + after.len()
                && text.starts_with(before)
                && text.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preflight_is_answered_by_the_first_rule_that_allows_it() {
        let rules = [
            CorsRule {
                allowed_origins: vec!["https://*.example.com".into()],
                allowed_methods: vec!["GET".into(), "PUT".into()],
                allowed_headers: vec!["x-amz-*".into(), "Authorization".into()],
                max_age_seconds: Some(600),
            },
            CorsRule {
                allowed_origins: vec!["*".into()],
                allowed_methods: vec!["GET".into()],
                allowed_headers: vec![],
                max_age_seconds: None,
            },
        ];
        let ask = |origin: &str, method: &str, headers: &str| {
            let mut sent = vec![
                ("origin".to_owned(), origin.to_owned()),
                (
                    "access-control-request-method".to_owned(),
                    method.to_owned(),
                ),
            ];
            if !headers.is_empty() {
                sent.push(("access-control-request-headers".into(), headers.into()));
            }
            let head = Head {
                method: "OPTIONS",
                path: "/data/x",
                authority: "s3.example.com",
                headers: &sent,
                body: None,
                size: None,
            };
            preflight(&head, &rules).ok()
        };
        let answer = ask(
            "https://app.example.com",
            "PUT",
            "authorization, X-Amz-Date",
        )
        .unwrap();
        assert!(answer.contains(&(
            "access-control-allow-origin",
            "https://app.example.com".into()
        )));
        assert!(answer.contains(&(
            "access-control-allow-headers",
            "authorization, x-amz-date".into()
        )));
        assert!(answer.contains(&("access-control-max-age", "600".into())));
        assert!(ask("https://elsewhere.test", "GET", "").is_some());
        for (origin, method, headers) in [
            ("https://elsewhere.test", "PUT", ""),
            ("https://elsewhere.test", "GET", "authorization"),
            ("https://app.example.com", "DELETE", ""),
            ("https://app.example.com", "PUT", "cookie"),
            ("https://example.com.elsewhere.test", "PUT", ""),
        ] {
            assert_eq!(
                ask(origin, method, headers),
                None,
                "{origin} {method} {headers}"
            );
        }
    }
}
