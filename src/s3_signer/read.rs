//! Parses the body of a call of the S3 Signer API: `S3SignRequest` in Apache Iceberg's `s3-signer-open-api.yaml`.

use serde_json::{Map, Value};

use crate::base::strict_json;

/// The request to an object store for which a client wants a signature.
pub(super) struct Asked {
    pub region: String,
    pub method: String,
    /// The URI as the client wrote it; the answer repeats it.
    pub uri: String,
    /// The host and the port of the URI, in lower case. The port is left out if it is the default port of the scheme,
    /// as in the header `Host`.
    pub authority: String,
    /// The path and the query of the URI, still encoded.
    pub target: String,
    /// The headers that the client will send to the store, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, which clients send for DeleteObjects only.
    pub body: Option<String>,
}

impl Asked {
    /// The value of a header; `None` if the client does not send it.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Parses a call. Unknown members are ignored, since later versions of the API may add some.
///
/// # Errors
/// A sentence that names the member and the rule, or says that the body is not one JSON object.
pub(super) fn request(body: &[u8]) -> Result<Asked, String> {
    let Ok(Value::Object(top)) = strict_json::parse(body) else {
        return Err("The body must be one JSON object, without duplicate names.".to_owned());
    };
    let text = |name: &str| match top.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("`{name}` must be a string.")),
    };
    let uri = text("uri")?;
    let (authority, target) = split(&uri).ok_or(
        "`uri` must be http://HOST/PATH or https://HOST/PATH, without a user and a fragment.",
    )?;
    Ok(Asked {
        region: text("region")?,
        method: text("method")?,
        headers: headers(&top)?,
        body: match top.get("body") {
            None | Some(Value::Null) => None,
            Some(Value::String(body)) => Some(body.clone()),
            Some(_) => return Err("`body` must be a string.".to_owned()),
        },
        authority,
        target,
        uri,
    })
}

/// Splits a URI into the authority, and the path with the query. The host is converted to lower case and the default
/// port of the scheme is removed; nothing else is normalised.
fn split(uri: &str) -> Option<(String, String)> {
    let (rest, own_port) = match uri.split_once("://")? {
        ("http", rest) => (rest, ":80"),
        ("https", rest) => (rest, ":443"),
        _ => return None,
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(at)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
    if authority.is_empty() || !authority.bytes().all(legal) || target.contains('#') {
        return None;
    }
    let authority = authority.strip_suffix(own_port).unwrap_or(authority);
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some((authority.to_ascii_lowercase(), [slash, target].concat()))
}

fn headers(top: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let wrong = || "`headers` must be an object with lists of strings.".to_owned();
    let Some(Value::Object(named)) = top.get("headers") else {
        return Err(wrong());
    };
    let mut all = Vec::with_capacity(named.len());
    for (name, values) in named {
        let Value::Array(values) = values else {
            return Err(wrong());
        };
        for value in values {
            let Value::String(value) = value else {
                return Err(wrong());
            };
            all.push((name.to_ascii_lowercase(), value.clone()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_taken_apart_and_not_normalised() {
        for (uri, authority, target) in [
            (
                "https://S3.example.com/data/a%20b",
                "s3.example.com",
                "/data/a%20b",
            ),
            ("https://s3:443/data//../x?y=%2F", "s3", "/data//../x?y=%2F"),
            ("http://s3:443/", "s3:443", "/"),
            (
                "http://127.0.0.1:9000?list-type=2",
                "127.0.0.1:9000",
                "/?list-type=2",
            ),
            ("http://[::1]:80/x", "[::1]", "/x"),
            ("http://s3", "s3", "/"),
        ] {
            let expected = Some((authority.to_owned(), target.to_owned()));
            assert_eq!(split(uri), expected, "{uri}");
        }
        for wrong in [
            "s3/data",
            "ftp://s3/data",
            "https:///data",
            "https://user@s3/data",
            "https://s3/data#x",
            "https://s3\\data/x",
            "https://s3 /x",
        ] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_question_is_read_strictly() {
        let good = r#"{"region": "us-east-1", "method": "GET", "uri": "https://s3/data/x", "provider": "s3",
            "headers": {"Range": ["bytes=0-3"], "X-Amz-Meta-A": ["b", "c"]}, "body": null}"#;
        let asked = request(good.as_bytes()).unwrap();
        assert_eq!(asked.header("range"), Some("bytes=0-3"));
        assert_eq!(asked.headers.len(), 3);
        assert!(asked.body.is_none() && asked.uri == "https://s3/data/x");
        for (from, to) in [
            (r#""region": "us-east-1","#, ""),
            (r#""method": "GET","#, r#""method": 1,"#),
            ("https://s3/data/x", "data/x"),
            (r#"["bytes=0-3"]"#, r#""bytes=0-3""#),
            (r#"["b", "c"]"#, "[1]"),
            ("null", "{}"),
            (r#""provider""#, r#""region""#),
        ] {
            assert!(good.contains(from));
            assert!(request(good.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        assert!(request(b"[]").is_err() && request(b"").is_err());
    }
}
