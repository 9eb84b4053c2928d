//! Keeps the tokens of sessions in Redis, by the access key ids of the sessions.

use redis::Value;

use super::RedisSessions;
use super::ask::WRONG_TYPE;
use super::authentic::{authenticated, is_of_revoked, open};
use super::names::token_name;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::session::keyring::Keyring;
use crate::sessions::SessionsError;

impl RedisSessions {
    /// Keeps a token in Redis until its session expires. An error means that Redis may not have the token.
    pub async fn keep_token(
        &self,
        keyring: &Keyring,
        key: &str,
        token: &str,
        expires_at: i64,
        now: Timestamp,
    ) -> Result<(), SessionsError> {
        let left = expires_at.saturating_sub(now.seconds());
        let name = token_name(keyring, key);
        let value =
            authenticated(keyring, &name, token.as_bytes()).ok_or(SessionsError::WithoutKey)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(value).arg("EX").arg(left.max(1));
        self.ask(&[set]).await.map(|_| ())
    }

    /// The token of the session with this access key id. An error means that it is unknown whether Redis has the token.
    pub async fn token_of(
        &self,
        keyring: &Keyring,
        key: &str,
    ) -> Result<Option<Secret<String>>, SessionsError> {
        let name = token_name(keyring, key);
        let mut command = redis::cmd("GET");
        command.arg(&name);
        let answer = self.ask_each(&[command], &[WRONG_TYPE]).await?.pop();
        let bytes = match answer {
            Some(Ok(Value::Nil)) => return Ok(None),
            // The key was revoked, and its sessions with it.
            Some(Ok(Value::BulkString(bytes))) if is_of_revoked(keyring, &bytes) => {
                return Ok(None);
            }
            Some(Ok(Value::BulkString(bytes))) => bytes,
            None => {
                return Err(SessionsError::Unreachable(
                    "redis did not answer GET".into(),
                ));
            }
            Some(_) => {
                self.metrics.sessions_forged.inc();
                return Err(SessionsError::Forged);
            }
        };
        let token = open(keyring, &name, &bytes);
        let token = token.and_then(|body| String::from_utf8(body.to_vec()).ok());
        if token.is_none() {
            // It was altered or moved, or the answer belongs to another request.
            self.connections.forget();
            self.metrics.sessions_forged.inc();
        }
        token
            .map(|token| Some(Secret::new(token)))
            .ok_or(SessionsError::Forged)
    }
}
