//! The cookies of the pages: RFC 6265bis. Because of the prefix `__Host-`, no other host can read
//! or set them, not even one in the same domain.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::sign_in::known::MAX_BYTES;

/// The cookie of a sign-in. Its value is the secret handle of the sign-in.
pub const SESSION: &str = "__Host-brevet";
/// The cookie of a browser that has not signed in yet. The tokens of the sign-in forms are bound to
/// it.
pub const BEFORE: &str = "__Host-brevet-pre";

/// The cookie that marks a browser in which a user has signed in before. It does not reveal who,
/// and does not sign anybody in.
pub const KNOWN: &str = "__Host-brevet-known";

/// The length of a cookie's value: 32 bytes in base64url. The value of [`KNOWN`] has a form of its
/// own.
const LENGTH: usize = 43;
/// The attributes that all cookies of the pages share. Without `Max-Age`, the browser deletes a
/// cookie when it is closed.
const ATTRIBUTES: &str = "; Path=/; Secure; HttpOnly; SameSite=Lax";

/// Why the cookies of a request cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// There are several cookies of one name, and it is unknown which of them this broker has set.
    Repeated,
    /// A `Cookie` header has other bytes than ASCII text.
    NotText,
}

/// Returns the value of a cookie; `None` if the request has none, or its value has another form than this broker's
/// cookies.
///
/// # Errors
/// [`Unreadable`] if there are several of this name, or a `Cookie` header has other bytes than ASCII text.
pub(super) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Unreadable> {
    let mut found = None;
    for header in headers.get_all(COOKIE) {
        // A header with other bytes cannot be split safely, and browsers send none.
        let text = header.to_str().map_err(|_| Unreadable::NotText)?;
        for pair in text.split(';') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key.trim().eq_ignore_ascii_case(name) {
                if found.is_some() {
                    return Err(Unreadable::Repeated);
                }
                found = Some((key.trim(), value.trim()));
            }
        }
    }
    Ok(found
        .filter(|(key, value)| *key == name && is_value(name, value))
        .map(|(_, value)| value))
}

fn is_value(name: &str, value: &str) -> bool {
    match name {
        KNOWN => (1..=MAX_BYTES).contains(&value.len()),
        _ => {
            value.len() == LENGTH
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        }
    }
}

/// Returns the `Set-Cookie` header for a cookie that lasts until the browser is closed.
pub(super) fn set(name: &str, value: &str) -> HeaderValue {
    let mut header = HeaderValue::from_str(&format!("{name}={value}{ATTRIBUTES}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

/// Returns the `Set-Cookie` header for a cookie that expires after `lasts`.
pub(super) fn set_for(name: &str, value: &str, lasts: Duration) -> HeaderValue {
    let seconds = lasts.as_secs();
    let text = format!("{name}={value}; Max-Age={seconds}{ATTRIBUTES}");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Returns the `Set-Cookie` header that deletes a cookie.
pub(super) fn remove(name: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{name}=; Max-Age=0{ATTRIBUTES}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM-_01";

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        assert_eq!(VALUE.len(), LENGTH);
        for lines in [
            &[&*format!("{SESSION}={VALUE}")][..],
            &[&format!("a=b; {SESSION}={VALUE}; {BEFORE}=x; c")],
            &["a=b", &format!("{SESSION}={VALUE}")],
        ] {
            assert_eq!(read(&headers(lines), SESSION), Ok(Some(VALUE)), "{lines:?}");
        }
        assert_eq!(read(&headers(&["a=b"]), SESSION), Ok(None));
        assert_eq!(read(&headers(&[]), SESSION), Ok(None));
    }

    #[test]
    fn what_is_not_a_value_of_ours_is_no_cookie() {
        for value in ["", "short", &format!("{VALUE}a"), &VALUE.replace('a', "ä")] {
            let line = format!("{SESSION}={value}");
            assert_ne!(
                read(&headers(&[&line]), SESSION),
                Ok(Some(value)),
                "{value}"
            );
        }
        // Another case of the name is another cookie, which no prefix protects.
        let line = format!("__host-brevet={VALUE}");
        assert_eq!(read(&headers(&[&line]), SESSION), Ok(None));
    }

    #[test]
    fn oi_08_two_cookies_of_a_name_are_refused() {
        let one = format!("{SESSION}={VALUE}");
        for lines in [
            &[&*format!("{one}; {one}")][..],
            &[&one, &one],
            &[&format!("{one}; {SESSION}=")],
            &[&format!("__HOST-Brevet=x; {one}")],
        ] {
            let headers = headers(lines);
            let read = read(&headers, SESSION);
            assert_eq!(read, Err(Unreadable::Repeated), "{lines:?}");
        }
        let mut bytes = headers(&[&one]);
        bytes.append(COOKIE, HeaderValue::from_bytes(b"a=\xff").unwrap());
        assert_eq!(read(&bytes, SESSION), Err(Unreadable::NotText));
    }

    #[test]
    fn a_cookie_is_for_this_host_and_https_only() {
        let header = set(SESSION, VALUE);
        let text = header.to_str().unwrap();
        assert!(text.starts_with(&format!("{SESSION}={VALUE}; Path=/; ")));
        for attribute in ["; Secure", "; HttpOnly", "; SameSite=Lax"] {
            assert!(text.contains(attribute), "{text}");
        }
        assert!(!text.contains("Domain") && header.is_sensitive());
        assert!(remove(SESSION).to_str().unwrap().contains("=; Max-Age=0;"));
    }
}
