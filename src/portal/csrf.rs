//! Protects forms against cross-site request forgery: a form must come from a page that this broker
//! made for the same browser.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};
use ring::hmac;

/// Returns the token of a form: a MAC of the form's address under the cookie to which it is bound.
/// The cookie has 256 random bits that scripts cannot read, so only this broker can make the token.
/// The token becomes invalid with its cookie.
pub(super) fn token(cookie: &str, action: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&key(cookie), &message(action)))
}

/// Returns whether a token belongs to this form and cookie. The comparison takes constant time.
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

/// Returns whether the headers `Origin` and `Sec-Fetch-Site`, as far as they are present, say that
/// the form came from a page of this broker. Not every browser sends them, so the token is required
/// in any case.
pub(super) fn is_from_here(headers: &HeaderMap, public_origin: &str) -> bool {
    is_only(headers, ORIGIN.as_str(), public_origin)
        && is_only(headers, "sec-fetch-site", "same-origin")
}

/// Returns whether a header is absent or has the expected value.
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
