//! The service-account token of a pod, as it was received. The broker verifies the token. This module only reads it, so
//! that the agent refuses expired tokens, and values that cannot be a pod's token, without a call to the broker.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::wanted::PodToken;
use crate::base::clock::Timestamp;

/// The maximum length in bytes of a token that the broker accepts.
const LONGEST: usize = 20_000;

/// A token whose signature has not been checked.
pub struct UnverifiedPodToken {
    pub token: PodToken,
    /// The pod as `NAMESPACE/POD`, for the audit log.
    pub pod: String,
}

/// The claims that this module reads: Kubernetes, "Configure Service Accounts for Pods" (bound tokens).
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Option<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    name: String,
}

impl UnverifiedPodToken {
    /// Reads the value of the header `Authorization`.
    ///
    /// # Errors
    /// A sentence for the pod, if the value is not the token of a pod or the token has expired.
    pub fn read(given: &[u8], now: Timestamp) -> Result<Self, &'static str> {
        let malformed = "The header Authorization must hold the pod's service-account token, a JSON Web Token of at most 20000 \
             bytes, and nothing else.";
        let legal = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
        if given.len() > LONGEST || !given.iter().all(legal) {
            return Err(malformed);
        }
        let token = std::str::from_utf8(given).map_err(|_| malformed)?;
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed);
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| malformed)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| malformed)?;
        // By the clock of this node; the broker compares with its own.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a number out of range saturates"
        )]
        let expires_at = Timestamp::from_seconds(claims.exp as i64);
        if expires_at <= now {
            return Err(
                "The pod's service-account token has expired by the clock of the agent. Read the token file \
                again.",
            );
        }
        let bound = claims.kubernetes.and_then(|kubernetes| {
            let pod = kubernetes.pod?;
            Some(format!("{}/{}", kubernetes.namespace, pod.name))
        });
        let Some(pod) = bound.filter(|_| claims.sub.starts_with("system:serviceaccount:")) else {
            return Err(
                "The token must be a projected service-account token that is bound to a pod.",
            );
        };
        Ok(Self {
            token: PodToken::new(token.to_owned()),
            pod,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn read(given: &str) -> Result<String, &'static str> {
        UnverifiedPodToken::read(given.as_bytes(), Timestamp::from_seconds(1_000))
            .map(|token| token.pod)
    }

    #[test]
    fn what_cannot_be_a_pods_token_is_not_sent_to_the_broker() {
        let claims = |exp: &str, sub: &str, kubernetes: &str| {
            token(&format!(
                r#"{{"exp":{exp},"sub":"{sub}","kubernetes.io":{kubernetes}}}"#
            ))
        };
        let (sub, bound) = (
            "system:serviceaccount:web:app",
            r#"{"namespace":"web","pod":{"name":"app-1","uid":"u"},"node":{"name":"n"}}"#,
        );
        assert_eq!(
            read(&claims("1001", sub, bound)),
            Ok("web/app-1".to_owned())
        );
        assert_eq!(
            read(&claims("1001.5", sub, bound)),
            Ok("web/app-1".to_owned())
        );
        for (bad, word) in [
            (claims("1000", sub, bound), "expired"),
            (claims("-1e300", sub, bound), "expired"),
            (claims("1001", "alice", bound), "bound to a pod"),
            (claims("1001", sub, "null"), "bound to a pod"),
            (
                claims("1001", sub, r#"{"namespace":"web"}"#),
                "bound to a pod",
            ),
            (claims("\"1001\"", sub, bound), "nothing else"),
            (
                format!("Bearer {}", claims("1001", sub, bound)),
                "nothing else",
            ),
            (token("[]"), "nothing else"),
            ("a.b".to_owned(), "nothing else"),
            ("a.b.c.d".to_owned(), "nothing else"),
            (format!("a.{}.c", "b".repeat(20_000)), "nothing else"),
            (String::new(), "nothing else"),
        ] {
            let refused = read(&bad).unwrap_err();
            assert!(refused.contains(word), "{bad}: {refused}");
        }
    }
}
