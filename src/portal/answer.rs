//! The answers of the pages, and the headers that all of them have.

use askama::Template;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// An answer before it has its headers.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    /// The address to which the browser is redirected.
    location: Option<String>,
    cookies: Vec<HeaderValue>,
    /// The origin outside of this broker to which the answer to a form of this page redirects.
    form_target: Option<String>,
    pub(super) retry_after: Option<u64>,
    pub(super) allow: Option<&'static str>,
    clears_cache: bool,
}

impl Answer {
    /// A page.
    ///
    /// # Errors
    /// [`askama::Error`] if the template cannot be rendered.
    pub(super) fn page(template: &impl Template) -> Result<Self, askama::Error> {
        Ok(Self::content(StatusCode::OK, template.render()?))
    }

    /// Sends the browser to another address with a GET (RFC 9110 section 15.4.4).
    pub(super) fn go_to(address: impl Into<String>) -> Self {
        Self {
            location: Some(address.into()),
            ..Self::empty(StatusCode::SEE_OTHER)
        }
    }

    fn empty(status: StatusCode) -> Self {
        Self {
            status,
            body: String::new(),
            location: None,
            cookies: Vec::new(),
            form_target: None,
            retry_after: None,
            allow: None,
            clears_cache: false,
        }
    }

    /// An answer with this content.
    pub(super) fn content(status: StatusCode, body: String) -> Self {
        Self {
            body,
            ..Self::empty(status)
        }
    }

    #[must_use]
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Adds a `Set-Cookie` header.
    #[must_use]
    pub(super) fn with_cookie(mut self, cookie: HeaderValue) -> Self {
        self.cookies.push(cookie);
        self
    }

    /// Allows that the answer to a form of this page redirects to this address of another site: browsers
    /// apply `form-action` to redirects, too.
    #[must_use]
    pub(super) fn with_form_target(self, address: &str) -> Self {
        Self {
            form_target: origin_of(address),
            ..self
        }
    }

    /// Adds the time in seconds after which another attempt makes sense.
    #[must_use]
    pub(super) fn with_retry_after(self, seconds: Option<u64>) -> Self {
        Self {
            retry_after: seconds,
            ..self
        }
    }

    /// Makes the browser forget what it has cached.
    #[must_use]
    pub(super) fn clearing_cache(self) -> Self {
        Self {
            clears_cache: true,
            ..self
        }
    }

    /// The response, with all headers. `is_secure` is whether the browser used TLS.
    pub(super) fn finish(self, request_id: &str, is_secure: bool) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let policy = policy(self.form_target.as_deref());
        put(headers, CONTENT_SECURITY_POLICY, &policy);
        protect(headers, is_secure);
        put(
            headers,
            HeaderName::from_static("x-amzn-requestid"),
            request_id,
        );
        if let Some(location) = &self.location {
            put(headers, LOCATION, location);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.clears_cache {
            let name = HeaderName::from_static("clear-site-data");
            headers.insert(name, HeaderValue::from_static("\"cache\""));
        }
        for cookie in self.cookies {
            headers.append(SET_COOKIE, cookie);
        }
        response
    }
}

/// Sets the headers that protect everything under the address of the pages.
pub(super) fn protect(headers: &mut HeaderMap, is_secure: bool) {
    for (name, value) in [
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer`, Chromium would send `Origin: null` with our own forms.
        (REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_secure {
        let value = HeaderValue::from_static("max-age=31536000");
        headers.insert(STRICT_TRANSPORT_SECURITY, value);
    }
}

/// The content security policy of a page: nothing but the broker's own style sheet, script and
/// images.
fn policy(form_target: Option<&str>) -> String {
    let more = form_target.map(|origin| format!(" {origin}"));
    format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'{}; frame-ancestors 'none'",
        more.unwrap_or_default()
    )
}

/// The scheme, host and port of an address; `None` if it is not one that can stand in a policy.
fn origin_of(address: &str) -> Option<String> {
    let uri: http::Uri = address.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| ["http", "https"].contains(s))?;
    let authority = uri.authority()?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    let is_safe = authority.as_str().bytes().all(is_plain);
    is_safe.then(|| format!("{scheme}://{authority}"))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oi_08_a_page_names_one_more_origin_for_its_form_and_nothing_else() {
        let at = |address: &str| {
            let answer = Answer::go_to("/portal").with_form_target(address);
            let response = answer.finish("id", true);
            let policy = response.headers()[CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap();
            let action = policy.split("form-action ").nth(1).unwrap();
            action.split(';').next().unwrap().to_owned()
        };
        assert_eq!(
            at("http://127.0.0.1:8123/oauth/callback?x=1"),
            "'self' http://127.0.0.1:8123"
        );
        assert_eq!(at("https://app.example"), "'self' https://app.example");
        for bad in [
            "",
            "/portal",
            "javascript:alert(1)",
            "http://a;script-src *",
            "http://user@evil.example/",
            "http://*/",
            "ftp://a/",
        ] {
            assert_eq!(at(bad), "'self'", "{bad}");
        }
    }

    #[test]
    fn every_answer_has_the_headers_that_protect_it() {
        for is_secure in [false, true] {
            let response = Answer::go_to("/portal").finish("id", is_secure);
            let headers = response.headers();
            for (name, value) in [
                ("x-frame-options", "DENY"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "same-origin"),
                ("cache-control", "no-store"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
                ("content-type", "text/html; charset=utf-8"),
                ("x-amzn-requestid", "id"),
            ] {
                assert_eq!(headers[name], value);
            }
            assert!(
                headers[CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap()
                    .contains("frame-ancestors 'none'")
            );
            assert_eq!(headers.contains_key(STRICT_TRANSPORT_SECURITY), is_secure);
        }
    }
}
