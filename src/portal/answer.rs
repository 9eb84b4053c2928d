//! The HTML answers of the pages, with the headers that they all have.

use askama::Template;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// An answer before [`Answer::finish`] adds its headers.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    /// The address to which the answer redirects the browser; `None` for a page.
    location: Option<String>,
    cookies: Vec<HeaderValue>,
    /// The origin of another site to which the browser may be redirected after it submits a form of
    /// this page.
    form_target: Option<String>,
    pub(super) retry_after: Option<u64>,
    pub(super) allow: Option<&'static str>,
    clears_cache: bool,
}

impl Answer {
    /// Renders a page with status 200.
    ///
    /// # Errors
    /// [`askama::Error`] if the template cannot be rendered.
    pub(super) fn page(template: &impl Template) -> Result<Self, askama::Error> {
        Ok(Self::content(StatusCode::OK, template.render()?))
    }

    /// Redirects the browser to another address, which it requests with GET (303 See Other, RFC
    /// 9110 section 15.4.4).
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

    /// An answer with a status and an HTML body.
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

    /// Adds a `Set-Cookie` header, besides those that were added before.
    #[must_use]
    pub(super) fn with_cookie(mut self, cookie: HeaderValue) -> Self {
        self.cookies.push(cookie);
        self
    }

    /// Lets a form of this page redirect to the origin of this address after it is submitted.
    /// Browsers apply the policy `form-action` to redirects, too.
    #[must_use]
    pub(super) fn with_form_target(self, address: &str) -> Self {
        Self {
            form_target: origin_of(address),
            ..self
        }
    }

    /// Sets the `Retry-After` header in seconds; `None` sends no header.
    #[must_use]
    pub(super) fn with_retry_after(self, seconds: Option<u64>) -> Self {
        Self {
            retry_after: seconds,
            ..self
        }
    }

    /// Makes the browser clear its cache for this site.
    #[must_use]
    pub(super) fn clearing_cache(self) -> Self {
        Self {
            clears_cache: true,
            ..self
        }
    }

    /// Returns the response with all headers. `is_secure` says whether the browser used TLS.
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

/// Sets the security headers that every response under the address of the pages has.
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

/// Returns the content security policy of a page. It allows only the broker's own style sheet, script and images,
/// images in the page itself, and forms that lead to the broker or to `form_target`.
fn policy(form_target: Option<&str>) -> String {
    let more = form_target.map(|origin| format!(" {origin}"));
    format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'{}; frame-ancestors 'none'",
        more.unwrap_or_default()
    )
}

/// Returns the scheme, host and port of an address; `None` if they cannot be written in a content
/// security policy.
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
