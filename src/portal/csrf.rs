//! Shows that a form was sent from a page of this broker, by the browser for which the page was made.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};
use ring::hmac;

/// The token of a form: a MAC of its address under the value of the cookie to which it is bound. The
/// cookie has 256 random bits that no page can read, so only this broker can make the token, and a
/// token ends with its cookie.
pub(super) fn token(cookie: &str, action: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&key(cookie), &message(action)))
}

/// Whether a token is that of this form and cookie, in constant time.
pub(super) fn is_token(token: &str, cookie: &str, action: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(token)
        .is_ok_and(|mac| hmac::verify(&key(cookie), &message(action), &mac).is_ok())
}

fn key(cookie: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, cookie.as_bytes())
}

fn message(action: &str) -> Vec<u8> {
    format!("form of a page\n{action}").into_bytes()
}

/// Whether the browser reports that a form came from a page of this broker; `true` if it reports
/// nothing. Not every browser sends both headers; the token is required in any case.
pub(super) fn is_from_here(headers: &HeaderMap, public_origin: &str) -> bool {
    is_only(headers, ORIGIN.as_str(), public_origin)
        && is_only(headers, "sec-fetch-site", "same-origin")
}

/// Whether a header is absent, or has only this value.
fn is_only(headers: &HeaderMap, name: &str, expected: &str) -> bool {
    let is_expected = |value: &HeaderValue| value.as_bytes() == expected.as_bytes();
    headers.get_all(name).iter().all(is_expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_form_and_cookie_only() {
        let made = token("cookie", "/sign-out");
        assert_eq!(made.len(), 43);
        assert!(is_token(&made, "cookie", "/sign-out"));
        assert!(!is_token(&made, "cookie", "/device"));
        assert!(!is_token(&made, "other", "/sign-out"));
        for other in [
            "",
            "x",
            &made[1..],
            &format!("{made}A"),
            &made.to_lowercase(),
        ] {
            assert!(!is_token(other, "cookie", "/sign-out"), "{other}");
        }
    }

    #[test]
    fn oi_08_a_form_of_another_site_is_known_by_its_headers() {
        const HERE: &str = "https://sts.example.com";
        let is_ours = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_from_here(&headers, HERE)
        };
        assert!(is_ours(&[]));
        assert!(is_ours(&[("origin", HERE)]));
        assert!(is_ours(&[
            ("origin", HERE),
            ("sec-fetch-site", "same-origin")
        ]));
        for origin in [
            "null",
            "https://sts.example.com:443",
            "http://sts.example.com",
            "https://evil.example",
            "https://sts.example.com.evil.example",
            "",
        ] {
            assert!(!is_ours(&[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!is_ours(&[("sec-fetch-site", site)]), "{site}");
        }
        assert!(!is_ours(&[
            ("origin", HERE),
            ("origin", "https://evil.example")
        ]));
    }
}
