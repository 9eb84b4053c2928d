//! The page to which the browser goes after a sign-in. It is always a page of this broker, so that
//! a link to the sign-in cannot lead to another site.

/// The pages to which a sign-in may lead. Opening one of them changes nothing.
const PAGES: [&str; 8] = [
    "/portal",
    "/portal/sessions",
    "/portal/mfa",
    "/portal/keys",
    "/portal/password",
    "/device",
    "/authorize",
    "/oauth2/authorize",
];
/// The maximum length of a destination in bytes, with room for the authorization request of a
/// client in its query.
const MAX_BYTES: usize = 4_096;

/// The path and the query of a page of this broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(String);

impl Default for Destination {
    fn default() -> Self {
        Self("/portal".to_owned())
    }
}

impl Destination {
    /// Parses a path, which may be followed by `?` and a query. Returns `None` unless the path is exactly that of a
    /// page, the query has only characters that browsers do not change, and the text has at most 4,096 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let is_page = PAGES.contains(&path);
        let is_query = query.is_none_or(|query| query.bytes().all(is_query_byte));
        (is_page && is_query && text.len() <= MAX_BYTES).then(|| Self(text.to_owned()))
    }

    /// The path and the query, for the `Location` header of a redirect.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the portal's start page, to which a sign-in leads by default.
    pub fn is_default(&self) -> bool {
        self.0 == "/portal"
    }
}

/// Returns whether a byte may be in a query (RFC 3986 section 3.4). `'` is left out, because it
/// ends an attribute in HTML.
fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&()*+,;=:@/?%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_destination_with_its_query() {
        for text in [
            "/portal",
            "/portal/sessions",
            "/device?user_code=ABCD-EFGH",
            "/authorize?redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2F&state=x",
            "/oauth2/authorize?",
        ] {
            assert_eq!(Destination::parse(text).unwrap().as_str(), text);
        }
        assert!(Destination::default().is_default());
        assert!(Destination::parse(Destination::default().as_str()).is_some());
    }

    /// Texts that are not addresses of the pages, among them spellings that lead browsers to another site.
    const OPEN_REDIRECTS: [&str; 36] = [
        "https://evil.example/",
        "http://evil.example",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/.//evil.example",
        "/portal//evil.example",
        "/portal/..//evil.example",
        "/portal/../..//evil.example",
        "/%2f/evil.example",
        "/%5cevil.example",
        "%2f%2fevil.example",
        "/portal%2f..%2f..%2f/evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:\\\\evil.example",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "@evil.example",
        ".evil.example",
        "evil.example",
        "/portal@evil.example",
        "/portal\\@evil.example",
        "/portal?x\r\nLocation: https://evil.example",
        "/portal#//evil.example",
        "/Portal",
        "/sign-out",
        "",
    ];

    #[test]
    fn oi_08_no_spelling_leads_to_another_site() {
        for text in OPEN_REDIRECTS {
            assert_eq!(Destination::parse(text), None, "{text:?}");
        }
        let long = format!("/device?user_code={}", "A".repeat(MAX_BYTES));
        assert_eq!(Destination::parse(&long), None);
    }
}
