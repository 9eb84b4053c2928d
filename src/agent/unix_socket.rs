//! Credentials for local programs over a Unix socket. The kernel reports which process connected, and from this the
//! agent finds the user, the group, the program and the systemd unit. The first entry of the configuration that matches
//! determines the caller's role.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::{Mode, OFlags, fchmod, fstat};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::UCred;

use super::audit::{Audit, Recipient};
use super::connections::{Connections, is_shortage};
use super::container::{credentials, error, method_not_allowed, refusal_of_front};
use super::front;
use super::handouts::Slot;
use super::hosts::Hosts;
use super::imds::Parts;
use super::listener::{self, Answer, MAX_IDLE_SECONDS};
use super::metrics::HandOuts;
use super::peer::{Peer, Unknown, Who, peer, since_boot};
use crate::base::clock::Clock;
use crate::base::host_names::HostName;

const LISTENER: &str = "unix";
/// The path of the page with the credentials.
pub const PATH: &str = "/v1/credentials";
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);
/// How many connections may wait until they are accepted.
const BACKLOG: i32 = 1_024;

/// An entry of the configuration: which program gets which role.
pub struct Entry {
    /// The name of the program in audit lines.
    pub name: Arc<str>,
    pub who: Who,
    pub role_arn: String,
    pub slot: Arc<Slot>,
}

pub struct UnixSocket {
    entries: Vec<Entry>,
    clock: Arc<dyn Clock>,
    audit: Arc<Audit>,
    hand_outs: HandOuts,
    hosts: Hosts,
}

impl UnixSocket {
    pub fn new(entries: Vec<Entry>, parts: Parts) -> Self {
        Self {
            entries,
            clock: parts.clock,
            audit: parts.audit,
            hand_outs: parts.metrics.hand_outs(LISTENER),
            // A socket has no port, so clients may write any.
            hosts: Hosts::new([(HostName::Domain("localhost".into()), None)]),
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
                "This agent has nothing at this path. Credentials are at /v1/credentials.",
            );
        }
        let wanted = match role_of(request.uri().query()) {
            Ok(wanted) => wanted,
            Err(message) => return error(StatusCode::BAD_REQUEST, "InvalidRequest", message),
        };
        let entry = match self.entry(peer, wanted.as_deref()) {
            Ok(entry) => entry,
            Err((status, code, message)) => {
                self.hand_outs.unproven.inc();
                return error(status, code, &message);
            }
        };
        let now = self.clock.now();
        let result = entry.slot.get(now).await;
        let result = result.as_deref();
        self.hand_outs.count(result.map(|_| ()));
        let recipient = Recipient {
            listener: LISTENER,
            workload: entry.name.to_string(),
            proof: entry.who.proof(),
        };
        let from = format!("uid {} gid {}", peer.uid, peer.gid);
        self.audit
            .handed_out(now, &recipient, || Some(from), result);
        credentials(result)
    }

    /// Finds the first entry that matches. If it cannot be determined whether an entry matches, the search ends
    /// there, because a later entry could grant more.
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
                    let message = "The agent cannot yet identify this program, which has only just started. Connect \
                    again.";
                    return Err((
                        StatusCode::SERVICE_UNAVAILABLE,
                        "TryAgain",
                        message.to_owned(),
                    ));
                }
                Err(Unknown::Gone) => {
                    let message = "The agent cannot identify the program that made this connection: it has ended, or \
                    runs in another PID namespace (such as a container). Run the agent and the program in one PID \
                    namespace, or put an entry that has only uid or gid before the others.";
                    return Err((StatusCode::FORBIDDEN, "AccessDenied", message.to_owned()));
                }
            }
        }
        let message = format!(
            "No entry of [[unix_socket.program]]{} matches this program, which has {}.",
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
            None => text.push_str(
                ", an executable that the agent cannot identify (it needs CAP_SYS_PTRACE to see \
                those of other users)",
            ),
        }
        match &program.unit {
            Some(unit) => text.push_str(&format!(", unit {unit}")),
            None => text.push_str(", and no systemd unit that the agent can find"),
        }
    }
    text
}

/// Reads the role from a query, `role=ARN` with percent-encoding. `None` if there is no query.
fn role_of(query: Option<&str>) -> Result<Option<String>, &'static str> {
    let Some(query) = query else {
        return Ok(None);
    };
    let bad = "The query must be `role=` followed by the ARN of a role.";
    let role = query
        .strip_prefix("role=")
        .filter(|role| !role.contains('&'))
        .ok_or(bad)?;
    let role = percent_encoding::percent_decode_str(role)
        .decode_utf8()
        .map_err(|_| bad)?;
    Ok(Some(role.into_owned()))
}

/// The file of a socket, which is removed when this value is dropped.
pub struct SocketFile {
    path: PathBuf,
    /// The open file. As long as it is open, no other file can have its inode.
    file: Option<OwnedFd>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self {
            path: path.to_owned(),
            file: rustix::fs::open(path, flags, Mode::empty()).ok(),
        }
    }

    /// Whether the path still leads to this file, and not to a socket that somebody else has created since.
    fn is_there(&self) -> bool {
        let own = self.file.as_ref().and_then(|file| fstat(file).ok());
        let there = fs::symlink_metadata(&self.path).ok();
        own.zip(there)
            .is_some_and(|(own, there)| (own.st_dev, own.st_ino) == (there.dev(), there.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // Somebody else may have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a path. Replaces a socket that a stopped agent has left behind, but not one that is in use. The mode
/// applies from the moment the socket exists, so nobody whom it excludes can ever connect.
///
/// # Errors
/// The path cannot be used, or another process listens there.
#[allow(
    deprecated,
    reason = "the replacement of this function is unsafe code; the listener keeps the descriptor open as long as it \
        lives"
)]
pub fn listen(path: &Path, mode: u32) -> io::Result<(AsyncFd<UnixListener>, SocketFile)> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?
            }
            Err(error) => return Err(error),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // unix(7): the file is made with the mode of the socket, less the umask, which the second call undoes.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path);
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
    Ok((listener, file))
}

/// Accepts connections until the agent ends, and holds at most `most` of them.
pub async fn serve(listener: AsyncFd<UnixListener>, most: usize, face: Arc<UnixSocket>) {
    let mut open = Connections::new(most);
    let mut idle_at = Duration::ZERO;
    loop {
        let stream = match accept(&listener, &mut idle_at).await {
            Ok(stream) => stream,
            Err(error) => {
                if is_shortage(&error) {
                    open.close_one();
                }
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        // Without them, nothing is handed out.
        let Ok(credentials) = stream.peer_cred() else {
            continue;
        };
        open.make_room();
        let (face, idle_at, uid) = (face.clone(), idle_at, credentials.uid());
        open.spawn(uid, |_| async move {
            let connection = connection(stream, &credentials, idle_at, &face);
            // A client that went away needs no handling.
            let _ = tokio::time::timeout(MAX_CONNECTION_AGE, connection).await;
        });
    }
}

/// Accepts a connection. Sets `idle_at` to the last time at which no connection was waiting; the accepted connection
/// was made after that time.
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
    credentials: &UCred,
    idle_at: Duration,
    face: &UnixSocket,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        // The program is looked at for each request: it may have ended, and left the connection to another one.
        let peer = peer(credentials, idle_at);
        Ok::<_, Infallible>(face.answer(&request, &peer).await.into_response())
    });
    listener::http()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(MAX_IDLE_SECONDS.into()))
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
        let refused = || listen(&path, 0o600).err().map(|error| error.kind());
        let (first, file) = listen(&path, 0o600).unwrap();
        assert_eq!(refused(), Some(io::ErrorKind::AddrInUse));
        drop(first);
        // The one that was left behind is removed, and the old agent does not remove the new one.
        let (_second, new) = listen(&path, 0o660).unwrap();
        drop(file);
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(new);
        assert!(!path.exists());
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(listen(&file, 0o600).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"x");
        // What is not known to be in use is not said to be: this path is too long to connect to.
        let long = folder.path().join("x".repeat(108));
        fs::create_dir(&long).unwrap();
        let short = folder.path().join("short");
        std::os::unix::fs::symlink(&long, &short).unwrap();
        let _socket = UnixListener::bind(short.join("socket")).unwrap();
        let error = listen(&long.join("socket"), 0o600).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
