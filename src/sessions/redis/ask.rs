//! Sends commands with a deadline. For about a second after a failure no commands are sent, so that a Redis that is
//! down delays nobody.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};

use super::{DEADLINE, RedisSessions};
use crate::sessions::SessionsError;

/// How long no commands are sent after a failure.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// In how many parts a call waits for the answer until [`DEADLINE`].
const PARTS: u32 = 3;
/// Error codes by which Redis reports that its configuration does not suit a broker. Only an operator can remedy them.
const UNFIT: &[&str] = &["NOAUTH", "WRONGPASS", "NOPERM", "READONLY", "DENIED"];
/// The error code for a key with a value of another type. Redis still serves all other keys.
pub(super) const WRONG_TYPE: &str = "WRONGTYPE";
/// How long `Standing::Odd` is reported after an answer about a key with a value of another type.
const ODD_FOR: Duration = Duration::from_secs(10);

impl RedisSessions {
    pub(super) async fn ask_one(&self, command: Cmd) -> Result<Value, SessionsError> {
        Ok(self.ask(&[command]).await?.pop().unwrap_or(Value::Nil))
    }

    /// Sends commands in one round trip and returns their answers in order, or the first error.
    pub(super) async fn ask(&self, commands: &[Cmd]) -> Result<Vec<Value>, SessionsError> {
        let answers = self.ask_each(commands, &[WRONG_TYPE]).await?;
        answers
            .into_iter()
            .collect::<RedisResult<_>>()
            .map_err(|e| SessionsError::Unreachable(e.to_string()))
    }

    /// Sends commands in one round trip and returns their answers in order. Errors with the codes in `odd` are returned
    /// as answers, since they concern one key only; any other error counts as a failure of Redis.
    pub(super) async fn ask_each(
        &self,
        commands: &[Cmd],
        odd: &[&str],
    ) -> Result<Vec<RedisResult<Value>>, SessionsError> {
        let now = self.age();
        let paused = self.paused_until.load(Ordering::Relaxed);
        if paused > now {
            return Err(SessionsError::Unreachable("paused after a failure".into()));
        }
        if paused != 0 {
            // One call tries Redis; the others are refused until its outcome is known.
            let next = now.saturating_add(millis(PAUSE));
            if self
                .paused_until
                .compare_exchange(paused, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
            {
                return Err(SessionsError::Unreachable("paused after a failure".into()));
            }
        }
        let failure = match within_deadline(self.answers(commands, odd)).await {
            Some(Ok(answers)) => {
                if self.paused_until.swap(0, Ordering::Relaxed) != 0 {
                    self.metrics.sessions_up.set(1);
                    tracing::info!("redis answers again");
                }
                self.look_for_wrong_type(commands, &answers, now);
                return Ok(answers);
            }
            Some(Err(error)) => {
                if error.code().is_some_and(|c| UNFIT.contains(&c))
                    || error.kind() == ErrorKind::AuthenticationFailed
                {
                    self.fit(Some(error.to_string()));
                }
                error.to_string()
            }
            None => "no answer within 250 ms".to_owned(),
        };
        // A late answer on this connection belongs to nobody. The next call asks anew which server is
        // the primary.
        self.connections.forget();
        let pause = now.saturating_add(millis(PAUSE + DEADLINE)).max(1);
        if self.paused_until.swap(pause, Ordering::Relaxed) == 0 {
            self.metrics.sessions_up.set(0);
            tracing::warn!(error = %failure, "redis is unavailable; sessions continue without records");
        }
        Err(SessionsError::Unreachable(failure))
    }

    /// If an answer says that a key holds a value of another type, logs this, and lets `Standing::Odd` be reported for
    /// [`ODD_FOR`].
    fn look_for_wrong_type(&self, commands: &[Cmd], answers: &[RedisResult<Value>], now: u64) {
        let of_wrong_type =
            |a: &RedisResult<Value>| a.as_ref().is_err_and(|e| e.code() == Some(WRONG_TYPE));
        let Some((command, _)) = commands
            .iter()
            .zip(answers)
            .find(|(_, answer)| of_wrong_type(answer))
        else {
            return;
        };
        let until = now.saturating_add(millis(ODD_FOR));
        if self.odd_until.swap(until, Ordering::Relaxed) <= now {
            let key = command
                .args_iter()
                .nth(1)
                .map(|key| format!("{key:?}"))
                .unwrap_or_default();
            tracing::warn!(
                key,
                "a key in redis holds a value of a type that brokers do not write; delete the key"
            );
        }
    }

    async fn answers(
        &self,
        commands: &[Cmd],
        odd: &[&str],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let connection = self.connections.get(&self.servers).await?;
        let asked = commands.iter().map(|command| {
            let mut connection = connection.clone();
            async move {
                let value = connection.ask(command).await;
                let error = match value {
                    Ok(Value::ServerError(error)) => RedisError::from(error),
                    Ok(value) => return Ok(Ok(value)),
                    Err(error) => error,
                };
                if error.code().is_some_and(|code| odd.contains(&code)) {
                    Ok(Err(error))
                } else {
                    Err(error)
                }
            }
        });
        // The commands are pipelined, so that they take one round trip.
        futures_util::future::try_join_all(asked).await
    }

    /// The number of milliseconds since this process began to use Redis. The times in [`RedisSessions`] are in the same
    /// unit.
    pub(super) fn age(&self) -> u64 {
        millis(self.born.elapsed())
    }
}

/// Waits for an answer; `None` if there is none within [`DEADLINE`].
///
/// Each thread serves all of its connections, so it may be busy with something else for a while: then it has neither
/// sent the question nor looked for the answer, and Redis is not slow. Such a pause ends one part of the wait, and the
/// others come after it.
async fn within_deadline<T>(answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    for _ in 0..PARTS {
        if let Ok(answer) = tokio::time::timeout(DEADLINE / PARTS, answer.as_mut()).await {
            return Some(answer);
        }
    }
    None
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::metrics::Metrics;
    use crate::sessions::Standing;
    use crate::sessions::redis::{Mode, RedisOptions};

    /// A Redis on a thread of its own that says OK to every command, and nothing at all to one with `silence`.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut piece = [0; 4_096];
                    while let Ok(length @ 1..) = stream.read(&mut piece) {
                        let asked = String::from_utf8_lossy(&piece[..length]);
                        if !asked.contains("silence") {
                            // Each command is an array.
                            let answers = "+OK\r\n".repeat(asked.matches('*').count());
                            stream.write_all(answers.as_bytes()).unwrap();
                        }
                    }
                });
            }
        });
        address
    }

    fn sessions() -> RedisSessions {
        let options = RedisOptions {
            mode: Mode::Single,
            urls: vec![format!("redis://{}", server())],
            username: None,
            password: None,
            ca: None,
        };
        RedisSessions::new(&options, Arc::new(Metrics::new())).unwrap()
    }

    fn ping(what: &str) -> Cmd {
        let mut command = redis::cmd("PING");
        command.arg(what);
        command
    }

    #[tokio::test]
    async fn only_time_in_which_the_thread_looks_counts() {
        // Two steps of a millisecond, as the question is sent and as the answer comes.
        let steps = || async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let busy = || async { thread::sleep(2 * DEADLINE) };
        let (limited, ()) = tokio::join!(tokio::time::timeout(DEADLINE, steps()), busy());
        assert!(limited.is_err(), "a plain limit counts it");
        let (limited, ()) = tokio::join!(within_deadline(steps()), busy());
        assert!(limited.is_some());
        assert!(
            within_deadline(std::future::pending::<()>())
                .await
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_busy_thread_does_not_take_redis_for_slow() {
        let sessions = sessions();
        // The thread is busy before it has connected, and again before it has sent the question.
        for _ in 0..2 {
            let busy = async { thread::sleep(2 * DEADLINE) };
            let (answer, ()) = tokio::join!(sessions.ask_one(ping("hello")), busy);
            assert_eq!(answer.unwrap(), Value::Okay);
            assert_eq!(sessions.standing(), Standing::Up);
        }
    }

    #[tokio::test]
    async fn a_redis_that_is_silent_is_given_up() {
        let sessions = sessions();
        assert!(sessions.ask_one(ping("hello")).await.is_ok());
        let silent = sessions.ask_one(ping("silence")).await;
        assert!(silent.unwrap_err().to_string().contains("250 ms"));
        assert_eq!(sessions.standing(), Standing::Down);
    }
}
