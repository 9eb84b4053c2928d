//! Notifies systemd of the daemon's state, by the protocol of sd_notify(3): a datagram of `NAME=value` lines
//! to the socket in NOTIFY_SOCKET. Without that variable nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Sends a state, such as `READY=1`. A failure is logged.
pub fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|s| !s.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, "the service manager could not be notified of {state:?}; this program goes on, but the service manager does not \
            know this state");
    }
}

/// Notifies the service manager that a reload begins; `READY=1` ends it.
pub fn reloading() {
    // `Type=notify-reload` compares the time with its own clock.
    let now = clock_gettime(ClockId::Monotonic);
    notify(&format!(
        "RELOADING=1\nMONOTONIC_USEC={}",
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
    ));
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reaches_sockets_in_the_file_system_and_abstract_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("brevet-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, named) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.clone().into_os_string(),
            ),
            (
                UnixDatagram::bind_addr(&abstract_address).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            send(&named, "READY=1").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        assert!(send(OsStr::new("/nobody/listens"), "READY=1").is_err());
    }
}
