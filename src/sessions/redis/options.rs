//! The addresses and credentials of the Redis servers, and the check that servers on other machines are reached by TLS.
//! This module opens no connection.

use crate::base::host_names::is_loopback;
use crate::base::secret::Secret;

/// The arrangement of the Redis servers: a single one, Sentinel or Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Single,
    /// The URLs are the addresses of Sentinels, which know the address of the primary.
    Sentinel {
        /// The name of the primary in the Sentinels' configuration.
        primary: String,
    },
    /// The URLs are the addresses of nodes of a Redis Cluster.
    Cluster,
}

#[derive(Debug)]
pub struct RedisOptions {
    pub mode: Mode,
    /// `redis://HOST:PORT/DB` or `rediss://…`, without a password.
    pub urls: Vec<String>,
    /// The ACL user; `None` for the default user.
    pub username: Option<String>,
    pub password: Option<Secret<String>>,
    /// The CA that signed the servers' certificates, in PEM; `None` for the system's trusted CAs.
    pub ca: Option<Vec<u8>>,
}

/// The required value of `[sessions.redis] unverified_off_loopback`. By this sentence an operator accepts the risk of
/// using Redis on another machine without TLS.
pub const UNVERIFIED_SENTENCE: &str =
    "whoever is on the network in between can read and change session records";

/// Checks the URL of a Redis server, which must use TLS unless the server is on this machine.
///
/// `names_others` says that the server is a Sentinel or a node of a Redis Cluster. Such a server can name servers on
/// other machines, so it must use TLS even on this machine. `may_be_unverified` says that the configuration contains
/// [`UNVERIFIED_SENTENCE`], which permits every server without TLS.
///
/// # Errors
/// The rule that the URL breaks, for the operator.
pub fn check_redis_url(
    url: &str,
    names_others: bool,
    may_be_unverified: bool,
) -> Result<(), String> {
    let secure = url.strip_prefix("rediss://");
    let rest = url.strip_prefix("redis://").or(secure);
    let rest = rest.ok_or_else(|| "must begin with `redis://` or `rediss://`".to_owned())?;
    if rest.contains('@') {
        return Err("must not hold a password; use `username` and `password_file`".to_owned());
    }
    if rest.contains('#') {
        // redis-rs reads `#insecure` as the request not to verify the server.
        return Err(format!("`{}` must not hold a `#`", url.escape_debug()));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.split_once(']') {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_near = is_loopback(host) && !names_others;
    if secure.is_some() || is_near || may_be_unverified {
        return Ok(());
    }
    let where_to = if is_loopback(host) {
        "this server names further servers, which may be on other machines".to_owned()
    } else {
        format!(
            "`{}` is on another machine",
            host.trim_start_matches('[').escape_debug()
        )
    };
    Err(format!(
        "`{}` would be used without TLS, and {where_to}: {UNVERIFIED_SENTENCE}, and can read the password. Use \
         `rediss://` (if your own \
         CA signed the server's certificate, name it in `ca_file`), or accept it in [sessions.redis] with \
         unverified_off_loopback = \"{UNVERIFIED_SENTENCE}\"",
        url.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_beyond_this_machine_is_called_by_tls() {
        for near in [
            "redis://localhost",
            "redis://127.0.0.1:6379/0",
            "redis://[::1]:6379/0?protocol=resp3",
        ] {
            assert_eq!(check_redis_url(near, false, false), Ok(()), "{near}");
            let error = check_redis_url(near, true, false).unwrap_err();
            assert!(
                error.contains("names further servers")
                    && error.contains("unverified_off_loopback"),
                "{error}"
            );
            assert_eq!(check_redis_url(near, true, true), Ok(()), "{near}");
        }
        for far in [
            "redis://cache:6379/0",
            "redis://10.0.0.1",
            "redis://[2001:db8::1]:6379",
            "redis://localhost.example",
            "redis://",
        ] {
            let error = check_redis_url(far, false, false).unwrap_err();
            assert!(
                error.contains(far) && error.contains("rediss://") && error.contains("ca_file"),
                "{error}"
            );
            assert_eq!(check_redis_url(far, false, true), Ok(()));
        }
        assert_eq!(
            check_redis_url("rediss://cache:6379/0", true, false),
            Ok(())
        );
        for (url, named) in [
            ("rediss://cache/#insecure", "#"),
            ("redis://:secret@localhost", "password_file"),
            ("rediss://u:secret@cache", "password_file"),
            ("http://localhost", "rediss://"),
        ] {
            let error = check_redis_url(url, false, true).unwrap_err();
            assert!(
                error.contains(named) && !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }
}
