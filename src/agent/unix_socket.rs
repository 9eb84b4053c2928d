//! Credentials for local programs over a Unix socket. Who asks is known by the kernel: a user, a group, a program, a
//! systemd unit. The first entry of the configuration that fits says which role the caller gets.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use super::audit::{Audit, Recipient};
use super::container::{credentials, error, method_not_allowed, refusal_of_front};
use super::front;
use super::handouts::Slot;
use super::listener::{self, Answer};
use super::metrics::{HandOutLabel, Metrics};
use super::peer::{Peer, Unknown, Who, peer, since_boot};
use crate::base::host_names::{HostName, HostNames};

const LISTENER: &str = "unix";
/// The path that programs ask for.
pub const PATH: &str = "/v1/credentials";
const MAX_CONNECTIONS: usize = 256;
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// Which program gets which role.
pub struct Entry {
    /// The name that audit lines have.
    pub name: Arc<str>,
    pub who: Who,
    pub role_arn: String,
    pub slot: Arc<Slot>,
}

pub struct UnixSocket {
    entries: Vec<Entry>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
    hosts: HostNames,
}

impl UnixSocket {
    pub fn new(entries: Vec<Entry>, audit: Arc<Audit>, metrics: Arc<Metrics>) -> Self {
        Self {
            entries,
            audit,
            metrics,
            hosts: HostNames::new([HostName::Domain("localhost".into())]),
        }
    }

    async fn answer<B>(&self, request: &Request<B>, peer: &Peer) -> Answer {
        if let Err(refused) = front::check(request, &self.hosts) {
            return refusal_of_front(refused);
        }
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        if request.uri().path() != PATH {
            return error(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                "There is nothing here.",
            );
        }
        let wanted = match role_of(request.uri().query()) {
            Ok(wanted) => wanted,
            Err(message) => return error(StatusCode::BAD_REQUEST, "InvalidRequest", message),
        };
        let entry = match self.entry(peer, wanted.as_deref()) {
            Ok(entry) => entry,
            Err((status, code, message)) => {
                let label = HandOutLabel {
                    listener: LISTENER,
                    outcome: "unproven",
                };
                self.metrics.hand_outs.get_or_create(&label).inc();
                return error(status, code, &message);
            }
        };
        let result = entry.slot.get().await;
        let result = result.as_deref();
        self.metrics.handed_out(LISTENER, result.map(|_| ()));
        let recipient = Recipient {
            listener: LISTENER,
            workload: entry.name.to_string(),
            proof: entry.who.proof(),
        };
        let from = format!("uid {} gid {}", peer.uid, peer.gid);
        self.audit.handed_out(&recipient, Some(from), result);
        credentials(result)
    }

    /// The first entry that fits. If it cannot be known whether an entry fits, the search ends: a later one could
    /// give more.
    ///
    /// # Errors
    /// The status, the code and the message of the refusal.
    fn entry(
        &self,
        peer: &Peer,
        wanted: Option<&str>,
    ) -> Result<&Entry, (StatusCode, &'static str, String)> {
        let of_role = |entry: &&Entry| wanted.is_none_or(|wanted| entry.role_arn == wanted);
        for entry in self.entries.iter().filter(of_role) {
            match entry.who.fits(peer) {
                Ok(true) => return Ok(entry),
                Ok(false) => {}
                Err(Unknown::TooNew) => {
                    let message = "This program has only just started. Connect again.";
                    return Err((
                        StatusCode::SERVICE_UNAVAILABLE,
                        "TryAgain",
                        message.to_owned(),
                    ));
                }
                Err(Unknown::Gone) => {
                    let message = "The program that made this connection has ended, or is in another PID namespace.";
                    return Err((StatusCode::FORBIDDEN, "AccessDenied", message.to_owned()));
                }
            }
        }
        let message = format!(
            "No entry of [[unix_socket.program]]{} fits this program, which is {}.",
            wanted
                .map(|role| format!(" with role_arn = \"{role}\""))
                .unwrap_or_default(),
            described(peer)
        );
        Err((StatusCode::FORBIDDEN, "AccessDenied", message))
    }
}

fn described(peer: &Peer) -> String {
    let mut text = format!("uid {}, gid {}", peer.uid, peer.gid);
    if let Ok(program) = &peer.program {
        match &program.executable {
            Some(executable) => {
                text.push_str(&format!(", executable {}", executable.path.display()))
            }
            None => text.push_str(", with an executable that the agent may not see"),
        }
        match &program.unit {
            Some(unit) => text.push_str(&format!(", unit {unit}")),
            None => text.push_str(", in no systemd unit"),
        }
    }
    text
}

/// The role in a query: `role=ARN`, percent-encoded, or none.
fn role_of(query: Option<&str>) -> Result<Option<String>, &'static str> {
    let Some(query) = query else {
        return Ok(None);
    };
    let bad = "The query must be `role=`, and the ARN of a role.";
    let role = query
        .strip_prefix("role=")
        .filter(|role| !role.contains('&'))
        .ok_or(bad)?;
    let role = percent_encoding::percent_decode_str(role)
        .decode_utf8()
        .map_err(|_| bad)?;
    Ok(Some(role.into_owned()))
}

/// The file of a socket, which is removed when this is dropped.
pub struct SocketFile(pub PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens on a path. A socket that another agent has left behind is replaced; one that is in use is not.
///
/// # Errors
/// The path cannot be used, or another agent listens there.
#[allow(
    deprecated,
    reason = "what replaces it is unsafe code; this listener keeps its descriptor as long as it lives"
)]
pub fn listen(path: &Path, mode: u32) -> io::Result<AsyncFd<UnixListener>> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?
            }
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// Accepts connections until the agent ends.
pub async fn serve(listener: AsyncFd<UnixListener>, face: Arc<UnixSocket>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut idle_at = Duration::ZERO;
    loop {
        // A connection beyond the limit waits in the queue of the operating system.
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let Ok(stream) = accept(&listener, &mut idle_at).await else {
            tokio::time::sleep(ACCEPT_BACK_OFF).await;
            continue;
        };
        let (face, idle_at) = (face.clone(), idle_at);
        tokio::spawn(async move {
            let _slot = slot;
            let connection = connection(stream, idle_at, &face);
            // A client that went away needs no handling.
            let _ = tokio::time::timeout(MAX_CONNECTION_AGE, connection).await;
        });
    }
}

/// Accepts a connection. `idle_at` becomes the latest moment at which no connection was waiting: the one that is
/// accepted was made after it.
async fn accept(
    listener: &AsyncFd<UnixListener>,
    idle_at: &mut Duration,
) -> io::Result<tokio::net::UnixStream> {
    loop {
        let asked_at = since_boot();
        match listener.get_ref().accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                return tokio::net::UnixStream::from_std(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *idle_at = asked_at,
            Err(error) => return Err(error),
        }
        let mut ready = listener.readable().await?;
        ready.clear_ready();
    }
}

async fn connection(
    stream: tokio::net::UnixStream,
    idle_at: Duration,
    face: &UnixSocket,
) -> Result<(), hyper::Error> {
    let Ok(credentials) = stream.peer_cred() else {
        return Ok(());
    };
    let service = service_fn(|request: Request<Incoming>| async move {
        // The program is looked at for each request: it may have ended, and left the connection to another one.
        let peer = peer(&credentials, idle_at);
        Ok::<_, Infallible>(face.answer(&request, &peer).await.into_response())
    });
    listener::http()
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_a_role_or_nothing() {
        let role = "arn:aws:iam::111122223333:role/a+b";
        assert_eq!(role_of(None), Ok(None));
        assert_eq!(
            role_of(Some(&format!("role={role}"))).unwrap().unwrap(),
            role
        );
        assert_eq!(role_of(Some("role=arn%3Aaws")).unwrap().unwrap(), "arn:aws");
        for bad in ["", "rolex=1", "role=a&role=b", "x=1&role=a", "role=%ff"] {
            assert!(role_of(Some(bad)).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = listen(&path, 0o600).unwrap();
        assert_eq!(
            listen(&path, 0o600).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(first);
        assert!(listen(&path, 0o600).is_ok());
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(listen(&file, 0o600).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }
}
