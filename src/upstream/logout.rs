//! Handles a provider's report that a person has signed out there, or may no longer sign in: OpenID Connect
//! Back-Channel Logout 1.0. This ends the person's sign-ins, or only those of the session that the report names, and
//! all sessions and tokens that came from them.

use std::time::Duration;

use super::{Kind, Offered, Refused, oidc};
use crate::authn::web_identity;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::error::Error;
use crate::proof::jwt::{Rounded, Verified};
use crate::sign_in::ending::end_of_provider;

/// The member of `events` that makes a token a logout token: section 2.4.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How old a logout token may be, and how far the provider's clock may be ahead, in seconds. Section 2.6 leaves this to
/// the receiver; section 2.4 recommends that a logout token is valid for at most two minutes.
const RECENT_SECONDS: i64 = 120;
/// The longest `sub`, `sid` and `jti` that are accepted, in bytes.
const MAX_ID: usize = 1_024;
/// Used logout tokens are recorded under an issuer that consists of this text and the provider's ARN.
const ONCE: &str = "logout of";

/// Ends the sign-ins that a logout token names. Returns how many sign-ins ended.
///
/// # Errors
/// [`Refused`] if the token is not a logout token of this provider for this broker, was used before, or the sign-ins
/// could not be ended.
pub async fn logout(broker: &Broker, offered: &Offered, token: &str) -> Result<usize, Refused> {
    let account = crate::federation::account_of(&offered.arn).ok_or(Refused::Unknown)?;
    if offered.kind != Kind::Oidc {
        return Err(Refused::Unknown);
    }
    let (claims, provider) = web_identity::logout_token(broker, token, account).await?;
    if provider.arn != offered.arn {
        return Err(Refused::OtherProvider);
    }
    let client = oidc::client(offered, &provider)?;
    let now = broker.clock.now();
    let named = read(&claims, &client.id, now);
    let named = named.map_err(|reason| Refused::NotProven(reason.to_owned()))?;
    let issuer = format!("{ONCE} {}", provider.arn);
    let first = broker.store.mark_used(
        &issuer,
        &named.id,
        (named.issued_at, ahead()),
        named.expires_at,
    );
    if !first.await.map_err(Error::from)? {
        return Err(Refused::NotProven(
            "the logout token has already been used".to_owned(),
        ));
    }
    let (subject, session) = (named.subject.as_deref(), named.session.as_deref());
    Ok(end_of_provider(broker, &provider.arn, subject, session).await?)
}

fn ahead() -> Duration {
    Duration::from_secs(RECENT_SECONDS.unsigned_abs())
}

/// The claims of a logout token that name the sign-ins to end: a subject, a session at the provider, or both.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    subject: Option<String>,
    session: Option<String>,
    id: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

/// Checks the claims of a logout token whose signature and issuer were verified: section 2.6.
fn read(claims: &Verified, client_id: &str, now: Timestamp) -> Result<Named, &'static str> {
    let seconds = |claim, rounded| match claims.seconds(claim, rounded) {
        Ok(Some(seconds)) => Ok(seconds),
        _ => Err("the claims `iat` and `exp` must be numbers of seconds since 1970"),
    };
    let audiences = claims.texts("aud").unwrap_or_default();
    if !audiences.contains(&client_id) {
        return Err("the claim `aud` does not contain the client id of this broker");
    }
    let issued_at = seconds("iat", Rounded::Up)?;
    if issued_at.abs_diff(now.seconds()) > RECENT_SECONDS.unsigned_abs() {
        return Err("the claim `iat` is not within two minutes of now");
    }
    let expires_at = seconds("exp", Rounded::Down)?;
    if expires_at <= now.seconds() {
        return Err("the token has expired");
    }
    let events = claims.claims().get("events").and_then(|e| e.as_object());
    if !events
        .and_then(|events| events.get(EVENT))
        .is_some_and(|event| event.is_object())
    {
        return Err("the claim `events` is missing or has no back-channel logout event");
    }
    if claims.claims().contains_key("nonce") {
        return Err("the claim `nonce` must not be present, since only ID tokens have it");
    }
    let id = |claim: &str| match claims.claims().get(claim) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) if (1..=MAX_ID).contains(&text.len()) => Ok(Some(text.to_owned())),
            _ => Err("the claims `sub`, `sid` and `jti` must be strings of 1 to 1,024 bytes"),
        },
    };
    let (subject, session) = (id("sub")?, id("sid")?);
    if subject.is_none() && session.is_none() {
        return Err("the claims `sub` and `sid` are both missing");
    }
    Ok(Named {
        subject,
        session,
        id: id("jti")?.ok_or("the claim `jti` is missing")?,
        issued_at: Timestamp::from_seconds(issued_at),
        // The id is remembered for as long as the token could be shown again.
        expires_at: Timestamp::from_seconds(expires_at.min(issued_at + 2 * RECENT_SECONDS)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn read_with(claim: &str, value: Option<Value>) -> Result<Named, &'static str> {
        let now = NOW.seconds();
        let mut claims = json!({
            "iss": "https://idp.example.com", "aud": "brevet", "iat": now, "exp": now + 120,
            "jti": "j", "sub": "alice", "sid": "s", "events": {EVENT: {}},
        });
        let claims = claims.as_object_mut().unwrap();
        match value {
            Some(value) => drop(claims.insert(claim.to_owned(), value)),
            None => drop(claims.remove(claim)),
        }
        read(&Verified::for_tests(claims.clone()), "brevet", NOW)
    }

    #[test]
    fn a_logout_token_names_a_person_or_a_session() {
        let both = read_with("x", Some(json!(1))).unwrap();
        assert_eq!(
            (both.subject.as_deref(), both.session.as_deref()),
            (Some("alice"), Some("s"))
        );
        assert_eq!(read_with("sub", None).unwrap().subject, None);
        assert_eq!(read_with("sid", None).unwrap().session, None);
        // Its lifetime is bounded here as well.
        assert_eq!(
            both.expires_at,
            Timestamp::from_seconds(NOW.seconds() + 120)
        );
        let long = read_with("exp", Some(json!(NOW.seconds() + 9_999))).unwrap();
        assert_eq!(
            long.expires_at,
            Timestamp::from_seconds(NOW.seconds() + 240)
        );
        let several = read_with("aud", Some(json!(["other", "brevet"])));
        assert!(several.is_ok());
    }

    #[test]
    fn oi_08_what_is_no_logout_token_ends_nothing() {
        let now = NOW.seconds();
        let bad: [(&str, Option<Value>); 22] = [
            ("aud", None),
            ("aud", Some(json!("other"))),
            ("aud", Some(json!([]))),
            ("iat", None),
            ("iat", Some(json!("now"))),
            ("iat", Some(json!(now - 121))),
            ("iat", Some(json!(now + 121))),
            ("exp", None),
            ("exp", Some(json!(now))),
            ("exp", Some(json!("later"))),
            ("events", None),
            ("events", Some(json!([EVENT]))),
            ("events", Some(json!({"other": {}}))),
            ("events", Some(json!({EVENT: true}))),
            ("nonce", Some(json!("n"))),
            ("nonce", Some(Value::Null)),
            ("jti", None),
            ("jti", Some(json!(""))),
            ("sub", Some(json!(7))),
            ("sid", Some(json!(""))),
            ("sid", Some(json!("x".repeat(1_025)))),
            ("sub", Some(json!(["alice"]))),
        ];
        for (claim, value) in bad {
            assert!(
                read_with(claim, value.clone()).is_err(),
                "{claim}: {value:?}"
            );
        }
        let claims =
            json!({"aud": "brevet", "iat": now, "exp": now + 1, "jti": "j", "events": {EVENT: {}}});
        let claims = Verified::for_tests(claims.as_object().unwrap().clone());
        assert_eq!(
            read(&claims, "brevet", NOW),
            Err("the claims `sub` and `sid` are both missing")
        );
    }
}
