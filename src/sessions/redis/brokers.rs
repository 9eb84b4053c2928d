//! The data that brokers share in Redis besides sessions: counters of calls, announcements of brokers, and used
//! signatures.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{RedisResult, Value};

use super::RedisSessions;
use super::ask::WRONG_TYPE;
use super::authentic::{authenticated, open};
use super::names::{members, signature_name};
use crate::base::clock::Timestamp;
use crate::session::keyring::Keyring;
use crate::sessions::SessionsError;

/// The error code of Redis for a counter that is not a number, or that would become too large.
const NO_COUNTER: &str = "ERR";
/// How long Redis keeps a counter after the last call that added to it.
const KEEP_COUNTER: Duration = Duration::from_secs(60);
/// How long a broker counts as running after its last announcement. An announcement whose time is further than this in
/// the future does not count either.
const BROKER_GONE: Duration = Duration::from_secs(10);
/// The maximum number of announcements that are read to count the brokers.
const MAX_ANNOUNCEMENTS: usize = 1_024;

impl RedisSessions {
    /// Adds to counters, and returns their new values. A value is `None` if the Redis key is not a counter, or the
    /// counter would become too large.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer in time.
    pub async fn add_up(
        &self,
        keyring: &Keyring,
        counters: &[(String, u64)],
    ) -> Result<Vec<Option<i64>>, SessionsError> {
        let mut commands = Vec::with_capacity(2 * counters.len());
        for (name, number) in counters {
            let name = format!("brevet:{}:calls:{name}", keyring.cluster_id());
            let mut add = redis::cmd("INCRBY");
            add.arg(&name).arg(*number);
            let mut expire = redis::cmd("EXPIRE");
            expire.arg(name).arg(KEEP_COUNTER.as_secs());
            commands.extend([add, expire]);
        }
        let answers = self.ask_each(&commands, &[WRONG_TYPE, NO_COUNTER]).await?;
        let counted = |answer: &RedisResult<Value>| match answer {
            Ok(Value::Int(total)) => Some(*total),
            _ => None,
        };
        Ok(answers.iter().step_by(2).map(counted).collect())
    }

    /// Announces this broker under the name `own`, and returns how many brokers have announced themselves lately,
    /// including this one. An announcement carries a MAC, so that only brokers of this cluster are counted.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer in time, and [`SessionsError::WithoutKey`] if the
    /// keyring has no usable current key.
    pub async fn announce(
        &self,
        keyring: &Keyring,
        own: &str,
        now: Timestamp,
    ) -> Result<usize, SessionsError> {
        let name = format!("brevet:{}:brokers", keyring.cluster_id());
        let at = |seconds: i64| format!("{:012x}", seconds.max(0));
        let spoken = format!("{}:{own}", at(now.seconds()));
        let authentic =
            authenticated(keyring, &name, spoken.as_bytes()).ok_or(SessionsError::WithoutKey)?;
        let gone = i64::try_from(BROKER_GONE.as_secs()).unwrap_or(10);
        let (oldest, newest) = (at(now.seconds() - gone), at(now.seconds() + gone));
        let mut add = redis::cmd("ZADD");
        add.arg(&name).arg(0).arg(format!(
            "{}:{}",
            at(now.seconds()),
            URL_SAFE_NO_PAD.encode(authentic)
        ));
        let mut trim = redis::cmd("ZREMRANGEBYLEX");
        trim.arg(&name).arg("-").arg(format!("({oldest}"));
        let mut range = redis::cmd("ZRANGE");
        range
            .arg(&name)
            .arg(format!("[{oldest}"))
            .arg(format!("({newest}"));
        range
            .arg("BYLEX")
            .arg("LIMIT")
            .arg(0)
            .arg(MAX_ANNOUNCEMENTS);
        let found = members(
            self.ask(&[add, trim, range])
                .await?
                .pop()
                .unwrap_or(Value::Nil),
        )?;
        let mut brokers = HashSet::from([own.to_owned()]);
        for member in found {
            let text = std::str::from_utf8(&member)
                .ok()
                .and_then(|text| text.split_once(':'));
            let Some((at, authentic)) = text else {
                continue;
            };
            let Ok(authentic) = URL_SAFE_NO_PAD.decode(authentic) else {
                continue;
            };
            let spoken = open(keyring, &name, &authentic)
                .and_then(|spoken| std::str::from_utf8(spoken).ok());
            if let Some((said_at, broker)) = spoken.and_then(|spoken| spoken.split_once(':'))
                && said_at == at
            {
                brokers.insert(broker.to_owned());
            }
        }
        Ok(brokers.len())
    }

    /// Marks a signature as used for a time. Returns `true` if no broker had marked the signature before. An earlier
    /// mark counts only if it carries the MAC of a broker of this cluster.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer in time, or if two earlier marks expired one after the
    /// other while they were read; [`SessionsError::Forged`] if something other than a broker wrote the mark. It is
    /// then unknown whether the signature was used. [`SessionsError::WithoutKey`] if the keyring has no usable current
    /// key.
    pub async fn claim_signature(
        &self,
        keyring: &Keyring,
        signature: &[u8; 16],
        span: Duration,
    ) -> Result<bool, SessionsError> {
        let name = signature_name(keyring, signature);
        let own = authenticated(keyring, &name, &self.claimant).ok_or(SessionsError::WithoutKey)?;
        let mut set = redis::cmd("SET");
        set.arg(&name)
            .arg(&own)
            .arg("NX")
            .arg("EX")
            .arg(span.as_secs().max(1));
        let mut get = redis::cmd("GET");
        get.arg(&name);
        // The earlier mark may expire before it is read. The signature is then free again, so it is claimed once more.
        for _ in 0..2 {
            if self.ask_one(set.clone()).await? != Value::Nil {
                return Ok(true);
            }
            let there = match self.ask_each(&[get.clone()], &[WRONG_TYPE]).await?.pop() {
                Some(Ok(Value::BulkString(bytes))) => bytes,
                Some(Ok(Value::Nil)) => continue,
                _ => return Err(self.no_claim()),
            };
            // Redis has stored this mark although its answer said otherwise.
            if there == own {
                return Ok(true);
            }
            return match open(keyring, &name, &there) {
                Some(_) => Ok(false),
                None => Err(self.no_claim()),
            };
        }
        Err(SessionsError::Unreachable(
            "the mark of a used signature expired twice while it was read".into(),
        ))
    }

    /// Counts and logs that something other than a broker wrote the mark of a signature, and returns the error for it.
    fn no_claim(&self) -> SessionsError {
        self.metrics.sessions_forged.inc();
        tracing::debug!("the redis key of a used signature holds a value that no broker wrote");
        SessionsError::Forged
    }

    /// Removes the mark of a used signature.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer in time, and [`SessionsError::WithoutKey`] if the
    /// keyring has no usable current key.
    pub async fn release_signature(
        &self,
        keyring: &Keyring,
        signature: &[u8; 16],
    ) -> Result<(), SessionsError> {
        let name = signature_name(keyring, signature);
        let own = authenticated(keyring, &name, &self.claimant).ok_or(SessionsError::WithoutKey)?;
        // The mark is given a life of a millisecond, so that brokers need no permission to delete keys. It stays a
        // mark until then, so that another broker does not take it for a forged one.
        let mut set = redis::cmd("SET");
        set.arg(name).arg(own).arg("PX").arg(1);
        self.ask_one(set).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::base::entropy::SystemEntropy;
    use crate::sessions::{Mode, RedisOptions};

    /// A Redis that answers SET and GET by a script, and everything else with OK.
    async fn scripted(script: Vec<&'static str>) -> RedisSessions {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let urls = vec![format!("redis://{}", listener.local_addr().unwrap())];
        let script = Arc::new(Mutex::new(script.into_iter()));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let script = script.clone();
                tokio::spawn(async move {
                    let mut asked = vec![0; 4_096];
                    while let Ok(read @ 1..) = client.read(&mut asked).await {
                        let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
                        let is_scripted = ["\r\nSET\r\n", "\r\nGET\r\n"]
                            .iter()
                            .any(|name| asked.contains(name));
                        let answer = match is_scripted {
                            true => script.lock().unwrap().next().unwrap().to_owned(),
                            false => "+OK\r\n".repeat(asked.matches("\r\nCLIENT\r\n").count()),
                        };
                        client.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        let options = RedisOptions {
            mode: Mode::Single,
            urls,
            username: None,
            password: None,
            ca: None,
        };
        RedisSessions::new(&options, Arc::default()).unwrap()
    }

    async fn claim(script: &[&'static str]) -> Result<bool, SessionsError> {
        let keyring = Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap();
        let redis = scripted(script.to_vec()).await;
        redis
            .claim_signature(&keyring, &[7; 16], Duration::from_secs(60))
            .await
    }

    #[tokio::test]
    async fn a_mark_that_expires_while_it_is_read_is_not_forged() {
        const TAKEN: &str = "$-1\r\n"; // SET NX did nothing
        const GONE: &str = "$-1\r\n"; // GET found nothing
        assert_eq!(claim(&["+OK\r\n"]).await, Ok(true));
        assert_eq!(claim(&[TAKEN, GONE, "+OK\r\n"]).await, Ok(true));
        let unknown = claim(&[TAKEN, GONE, TAKEN, GONE]).await;
        assert!(
            matches!(unknown, Err(SessionsError::Unreachable(_))),
            "{unknown:?}"
        );
        let forged = claim(&[TAKEN, "$1\r\n1\r\n"]).await;
        assert_eq!(forged, Err(SessionsError::Forged));
    }

    #[tokio::test]
    async fn a_keyring_without_a_current_key_is_no_forgery() {
        let keyring = Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap();
        keyring.revoke(&keyring.ids());
        let redis = scripted(Vec::new()).await;
        let claimed = redis
            .claim_signature(&keyring, &[7; 16], Duration::from_secs(60))
            .await;
        assert_eq!(claimed, Err(SessionsError::WithoutKey));
        let announced = redis
            .announce(&keyring, "one", Timestamp::from_seconds(1))
            .await;
        assert_eq!(announced, Err(SessionsError::WithoutKey));
    }
}
