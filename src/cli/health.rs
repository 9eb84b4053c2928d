//! `brevet health`: asks a broker whether it is ready, for containers, systemd and people.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Failure, print};
use crate::config::Config;

/// The maximum length in bytes of an answer. The longest answer is `/metrics` with many identity
/// providers.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// What to do if something else than a broker's operators' endpoint answers.
const NEXT: &str =
    "give the [operator] address of the broker's configuration, by default 127.0.0.1:7481";

const EXAMPLES: &str = "\
Examples:
  brevet health
      Asks the broker on this machine, at 127.0.0.1:7481.
  brevet health --config /etc/brevet/brevet.toml
      Asks at the [operator] address of a configuration, as in a container's health check.
  brevet health --operator 10.0.0.7:7481
      Asks a broker on another machine.";

/// Ask a broker whether it is ready
///
/// Requests /readyz from the broker's [operator] address and prints the answer. Exits with 0 if the broker is ready,
/// even if degraded, and with 1 and the reason if it is not ready or does not answer.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct HealthArguments {
    /// The configuration file with the [operator] address
    #[arg(
        long,
        env = "BREVET_CONFIG",
        value_name = "FILE",
        conflicts_with = "operator"
    )]
    config: Option<PathBuf>,
    /// The broker's [operator] address [default: 127.0.0.1:7481]
    #[arg(long, value_name = "ADDR")]
    operator: Option<SocketAddr>,
    /// How long to wait for the answer, in seconds: 1 to 60
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout_seconds: u64,
}

pub(super) fn run(arguments: &HealthArguments) -> Result<(), Failure> {
    let address = match (&arguments.operator, &arguments.config) {
        (Some(address), _) => *address,
        (None, Some(path)) => Config::load(path)?.operator,
        (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, 7481)),
    };
    let address = reachable(address);
    let timeout = Duration::from_secs(arguments.timeout_seconds);
    let (status, body) = ask(address, "/readyz", timeout).map_err(|error| match error {
        NoAnswer::Failed(why) => format!(
            "http://{address}/readyz does not answer: {why}. Is the broker running, and is this its [operator] address?"
        ),
        NoAnswer::NotHttp => format!(
            "the answer of {address} is not HTTP, so it is not the [operator] address of a broker; {NEXT}"
        ),
    })?;
    let body = print::visible(body.trim());
    match status {
        200 if body.starts_with("ready") => print::line(body),
        503 if body.starts_with("not ready") => Err(body.into()),
        _ => Err(format!(
            "the answer of {address} (HTTP {status}) is not that of the [operator] address of a broker; {NEXT}"
        )
        .into()),
    }
}

/// Turns an address to listen on into one to connect to: an unspecified IP address becomes loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Why the operators' endpoint of a broker was not heard.
pub(super) enum NoAnswer {
    /// The connection failed, or the answer took too long. The text is for the operator.
    Failed(String),
    /// Something answered, but not with HTTP.
    NotHttp,
}

/// Requests a path of the operators' endpoint, and returns the HTTP status and the body.
///
/// # Errors
/// [`NoAnswer`] if the connection failed, the answer took longer than `timeout`, or it is not HTTP.
pub(super) fn ask(
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> Result<(u16, String), NoAnswer> {
    let failed = |error: std::io::Error| {
        NoAnswer::Failed(match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                format!("no answer within {} s", timeout.as_secs())
            }
            _ => error.to_string(),
        })
    };
    let mut stream = TcpStream::connect_timeout(&address, timeout).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut answer)
        .map_err(failed)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or(NoAnswer::NotHttp)
}

/// Splits an HTTP/1.1 answer into its status and its body.
fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let ready = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n";
        assert_eq!(parse(ready), Some((200, "ready\n".to_owned())));
        for strange in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
            "HTTP/1.1 é00\r\n\r\n",
        ] {
            assert_eq!(parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn an_address_that_means_every_interface_is_asked_here() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:7481"), "127.0.0.1:7481");
        assert_eq!(at("[::]:7481"), "[::1]:7481");
        assert_eq!(at("10.1.2.3:7481"), "10.1.2.3:7481");
    }
}
