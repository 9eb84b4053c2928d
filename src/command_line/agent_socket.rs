//! Asks the agent of this machine for a session, over its Unix socket. The kernel tells the agent who asks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::Failure;
use super::session_credentials::SessionCredentials;
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::secret::Secret;
use crate::files;

/// How long to wait for the agent's answer, which usually takes less than a second.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum length of an answer in bytes.
const MAX_BYTES: usize = 64 << 10;
/// The maximum number of attempts for a program that has only just started, which the agent asks to connect again.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// The agent's answer, in the JSON form of container credentials.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    token: Zeroizing<String>,
    expiration: String,
    account_id: String,
}

/// An error in the agent's answer.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// Gets a session of a role.
///
/// # Errors
/// No agent answers on the socket in time, its answer cannot be read, or it refuses; the message then has the agent's
/// reason.
pub(super) async fn session(socket: &Path, role_arn: &str) -> Result<SessionCredentials, Failure> {
    let fault =
        |what: String| -> Failure { format!("--agent-socket {}: {what}", socket.display()).into() };
    let mut attempt = 1;
    loop {
        let asked = tokio::time::timeout(TIMEOUT, ask(socket, role_arn)).await;
        let (status, body) = asked
            .map_err(|_| {
                fault(format!(
                    "the agent did not answer within {} s; its log may say why",
                    TIMEOUT.as_secs()
                ))
            })?
            .map_err(|error| fault(error.to_string()))?;
        if status == StatusCode::OK {
            return read(&body).map_err(|error| fault(format!("the agent's answer: {error}")));
        }
        let refusal: Refusal = serde_json::from_slice(&body).map_err(|_| {
            fault(format!(
                "the program that listens on this socket is not an agent: it answered with HTTP status {status}"
            ))
        })?;
        if refusal.code != "TryAgain" || attempt == ATTEMPTS {
            return Err(fault(format!("{}: {}", refusal.code, refusal.message)));
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(socket: &Path, role_arn: &str) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        format!("{error}; check that `brevet agent` is running and listens on this socket")
    })?;
    let listens = stream.peer_cred()?.uid();
    let own = rustix::process::getuid().as_raw();
    if !may_be_the_agent(listens, own, fs::metadata(files::folder(socket))?.uid()) {
        return Err(format!(
            "the program that listens on this socket runs as uid {listens}, which does not own the folder of the \
             socket, so it may not be the agent; put the agent's socket into a folder that the agent's user owns"
        )
        .into());
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let role = utf8_percent_encode(role_arn, NON_ALPHANUMERIC);
    let request = Request::get(format!("/v1/credentials?role={role}"))
        .header("host", "localhost")
        .header("accept", "application/json")
        .body(Empty::<&[u8]>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BYTES).collect().await?.to_bytes();
    connection.abort();
    Ok((head.status, Zeroizing::new(body.to_vec())))
}

/// Whether a user who listens on a socket is one whom this program trusts: root, its own user, or the owner of the
/// socket's folder. In a folder such as /tmp, anybody can make a socket.
fn may_be_the_agent(listens: u32, own: u32, owner_of_folder: u32) -> bool {
    [0, own, owner_of_folder].contains(&listens)
}

fn read(body: &[u8]) -> Result<SessionCredentials, Failure> {
    let document: Document = serde_json::from_slice(body)?;
    let expiration: jiff::Timestamp = document.expiration.parse()?;
    Ok(SessionCredentials {
        access_key_id: document.access_key_id,
        secret_access_key: Secret::new(document.secret_access_key.to_string()).into(),
        session_token: Secret::new(document.token.to_string()).into(),
        received_at: SystemClock.now(),
        expires_at: Timestamp::from_seconds(expiration.as_second()),
        account_id: document.account_id,
    }
    .checked()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ag_05_a_socket_that_somebody_else_made_is_not_asked() {
        // In the folder of the agent's user 990, as that user and as another one; one's own; root's.
        for (listens, own, folder) in [(990, 1_000, 990), (1_000, 1_000, 0), (0, 1_000, 1_000)] {
            assert!(may_be_the_agent(listens, own, folder));
        }
        // In /tmp, which belongs to root.
        assert!(!may_be_the_agent(1_001, 1_000, 0));
        assert!(!may_be_the_agent(1_001, 0, 0));
    }
}
