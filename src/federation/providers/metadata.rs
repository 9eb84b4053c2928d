//! The part of a provider's discovery document that is needed for signing people in: OpenID Connect
//! Discovery 1.0 section 3, RFC 8414 section 2, RFC 9207 section 3, RP-Initiated Logout 1.0 section
//! 2.1.

use serde_json::Value;

/// The maximum length of an endpoint's URL in bytes.
const MAX_URL: usize = 2_048;

/// The endpoints of a provider, and the features that it supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The URL to which browsers are sent to sign in.
    pub authorization_endpoint: String,
    /// The URL at which codes are exchanged for tokens.
    pub token_endpoint: String,
    /// The URL to which browsers are sent to sign out of the provider; `None` if the document has none, or one to which
    /// browsers must not be sent.
    pub end_session_endpoint: Option<String>,
    /// The ways in which a client may authenticate at the token endpoint.
    pub token_endpoint_auth_methods: Vec<String>,
    /// Whether answers to the browser name the issuer (RFC 9207).
    pub names_issuer: bool,
}

impl Metadata {
    /// Reads a discovery document whose issuer was checked. `may_redirect_to` says whether a browser
    /// may be sent to a URL.
    ///
    /// # Errors
    /// A text that names the part of the document which is missing or breaks a rule.
    pub(super) fn read(
        document: &Value,
        may_redirect_to: impl Fn(&str) -> bool,
    ) -> Result<Self, &'static str> {
        let url = |name: &str| {
            let url = document.get(name).and_then(Value::as_str)?;
            let is_url = url.len() <= MAX_URL
                && url.bytes().all(|b| b.is_ascii_graphic())
                && !url.contains('#')
                && may_redirect_to(url);
            Some(url.to_owned()).filter(|_| is_url)
        };
        let methods = match document.get("token_endpoint_auth_methods_supported") {
            // Discovery 1.0 section 3: without the list, it is this method.
            None => vec!["client_secret_basic".to_owned()],
            Some(list) => list
                .as_array()
                .ok_or("`token_endpoint_auth_methods_supported` in the discovery document is not a list")?
                .iter()
                .filter_map(|method| method.as_str().map(str::to_owned))
                .collect(),
        };
        let names_issuer = document.get("authorization_response_iss_parameter_supported");
        Ok(Self {
            authorization_endpoint: url("authorization_endpoint")
                .ok_or("the discovery document has no `authorization_endpoint` that is an https URL of at most 2048 printable ASCII \
                     characters without user, password and `#` (a private address needs [federation] \
                     private_addresses)")?,
            token_endpoint: url("token_endpoint")
                .ok_or("the discovery document has no `token_endpoint` that is an https URL of at most 2048 printable ASCII \
                     characters without user, password and `#` (a private address needs [federation] \
                     private_addresses)")?,
            end_session_endpoint: url("end_session_endpoint"),
            token_endpoint_auth_methods: methods,
            names_issuer: names_issuer.and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &Value) -> Result<Metadata, &'static str> {
        Metadata::read(document, |url| url.starts_with("https://"))
    }

    #[test]
    fn a_document_without_a_list_of_methods_means_basic() {
        let mut document = json!({
            "authorization_endpoint": "https://idp.example.com/authorize?tenant=1",
            "token_endpoint": "https://idp.example.com/token",
        });
        let metadata = read(&document).unwrap();
        assert_eq!(
            metadata.token_endpoint_auth_methods,
            ["client_secret_basic"]
        );
        assert!(!metadata.names_issuer && metadata.end_session_endpoint.is_none());
        document["token_endpoint_auth_methods_supported"] = json!(["none", 1]);
        document["authorization_response_iss_parameter_supported"] = json!(true);
        let metadata = read(&document).unwrap();
        assert_eq!(metadata.token_endpoint_auth_methods, ["none"]);
        assert!(metadata.names_issuer);
    }

    #[test]
    fn a_browser_is_not_sent_to_just_any_url() {
        for bad in [
            json!("http://idp.example.com/authorize"),
            json!("javascript:alert(1)"),
            json!("https://idp.example.com/a#b"),
            json!("https://idp.example.com/a b"),
            json!(format!("https://idp.example.com/{}", "x".repeat(2_048))),
            json!(["https://idp.example.com/authorize"]),
            Value::Null,
        ] {
            let document = json!({
                "authorization_endpoint": bad,
                "token_endpoint": "https://idp.example.com/token",
                "end_session_endpoint": bad,
            });
            assert!(read(&document).is_err(), "{bad}");
            let document = json!({
                "authorization_endpoint": "https://idp.example.com/authorize",
                "token_endpoint": "https://idp.example.com/token",
                "end_session_endpoint": bad,
            });
            assert_eq!(read(&document).unwrap().end_session_endpoint, None, "{bad}");
        }
    }
}
