//! Checks the address of a PostgreSQL server. The identity of a server on another machine must be verified, as
//! `sslmode=verify-full` does. This module opens no connection.
//!
//! The modes of the driver:
//!
//! - `disable` and `allow` never use TLS.
//! - `prefer` uses TLS if the server offers it, and `require` insists on TLS. Neither of them verifies the server.
//! - `verify-ca` verifies that a trusted CA signed the certificate, whatever name it has.
//! - `verify-full` verifies the name in the certificate, too.
//!
//! The trusted CAs are those that Mozilla publishes, which are compiled into this program, and those of `ca_file`.

use std::path::Path;

use sqlx::ConnectOptions;
use sqlx::any::AnyConnectOptions;

use super::error::{StoreError, UNVERIFIED_SENTENCE};
use crate::base::host_names::is_loopback;
use crate::base::secret::Secret;

/// The options that an address may have. The driver also knows others, which are refused: with them, an address could
/// lead to another server than it seems to name, or contain a password.
const OPTIONS: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "application_name",
    "options",
    "statement-cache-capacity",
];
const VERIFIED: &str = "verify-full";
const UNVERIFIED: [&str; 5] = ["disable", "allow", "prefer", "require", "verify-ca"];

/// The configuration key with a wrong value, and the rule that the value breaks.
type Fault = (&'static str, String);

const URL: &str = "[store] url";
const CA_FILE: &str = "[store] ca_file";

/// Checks the address of a PostgreSQL server, and adds the TLS options that the configuration implies.
/// `may_be_unverified` says whether the configuration contains [`UNVERIFIED_SENTENCE`].
///
/// # Errors
/// The configuration key with a wrong value, and the rule that the value breaks.
pub fn postgres_url(
    text: &str,
    ca_file: Option<&Path>,
    may_be_unverified: bool,
) -> Result<String, Fault> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err((URL, "must begin with `postgres://`".to_owned()));
    }
    // The text is not repeated in the error, since it may be a password in the wrong place.
    let options: AnyConnectOptions = text.parse().map_err(|_| (URL, "is not a URL".to_owned()))?;
    let mut url = options.database_url;
    if url.password().is_some() {
        let rule = "must not hold a password; use `password_file`";
        return Err((URL, rule.to_owned()));
    }
    let pairs = url.query_pairs();
    let asked = Asked::read(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let is_socket = asked.has_socket
        || host
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case("%2f"));
    if !is_socket && host.is_empty() {
        let rule = "must name a host, as in `postgres://brevet@db.example.com/brevet`, or the folder of a socket, as in \
                    `postgres:///brevet?host=/run/postgresql`";
        return Err((URL, rule.to_owned()));
    }
    if asked.has_ca && ca_file.is_some() {
        let rule = "must not be set together with `sslrootcert` in `url`; remove one of them";
        return Err((CA_FILE, rule.to_owned()));
    }
    let is_near = is_socket || is_loopback(&host);
    match asked.mode.as_deref() {
        Some(mode) if mode != VERIFIED => {
            if !UNVERIFIED.contains(&mode) {
                let known = UNVERIFIED.join(", ");
                return Err((URL, format!("sslmode must be one of {known}, {VERIFIED}")));
            }
            if ca_file.is_some() {
                let rule = format!(
                    "has no effect with sslmode={mode}, since only sslmode={VERIFIED} verifies the server"
                );
                return Err((CA_FILE, rule));
            }
            if !is_near && !may_be_unverified {
                let port = url.port().unwrap_or(5432);
                return Err((URL, unverified(&format!("{host}:{port}"), mode)));
            }
        }
        // PGSSLMODE in the environment has no effect on a server on another machine.
        None if !is_near || ca_file.is_some() => {
            url.query_pairs_mut().append_pair("sslmode", VERIFIED);
        }
        _ => {}
    }
    if let Some(file) = ca_file {
        let file = file
            .to_str()
            .ok_or_else(|| (CA_FILE, "must be a path in UTF-8".to_owned()))?;
        url.query_pairs_mut().append_pair("sslrootcert", file);
    }
    Ok(url.into())
}

#[derive(Default)]
struct Asked {
    /// The value of `sslmode` in lower case; `None` if the address does not set it.
    mode: Option<String>,
    /// Whether `host` names the folder of a Unix socket.
    has_socket: bool,
    has_ca: bool,
}

impl Asked {
    /// Reads the options. Each of them must be in [`OPTIONS`] and may occur once.
    fn read(pairs: impl Iterator<Item = (String, String)>) -> Result<Self, Fault> {
        let mut asked = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in pairs {
            let is_known =
                OPTIONS.contains(&&*name) || (name.starts_with("options[") && name.ends_with(']'));
            if name == "password" {
                let rule = "must not hold a password; use `password_file`";
                return Err((URL, rule.to_owned()));
            }
            if !is_known || seen.contains(&name) {
                let fault = if is_known {
                    "is given twice"
                } else {
                    "is unknown"
                };
                let rule = format!(
                    "the option `{}` {fault}; the options are {}",
                    name.escape_debug(),
                    OPTIONS.join(", ")
                );
                return Err((URL, rule));
            }
            match &*name {
                "sslmode" => asked.mode = Some(value.to_ascii_lowercase()),
                "sslrootcert" => asked.has_ca = true,
                "host" if value.starts_with('/') => asked.has_socket = true,
                "host" => {
                    let rule = "the option `host` is only for the folder of a Unix socket, such as \
                        `host=/run/postgresql`; write a server's name after `postgres://`";
                    return Err((URL, rule.to_owned()));
                }
                _ => {}
            }
            seen.push(name);
        }
        Ok(asked)
    }
}

fn unverified(server: &str, mode: &str) -> String {
    format!(
        "sslmode={mode} does not verify that {server} is your database: {UNVERIFIED_SENTENCE}, and the password is sent to \
         whoever answers. Use sslmode={VERIFIED}, which is the default beyond this machine (if your own CA signed the \
         server's certificate, name it in `ca_file`), or accept it in [store] with unverified_off_loopback = \
         \"{UNVERIFIED_SENTENCE}\""
    )
}

/// Refuses environment variables that make the driver use another server, user or CA than the configuration says. This
/// is needed because a command may run in any environment. `has` tells whether a variable is set.
fn no_other_settings(
    url: &str,
    password: Option<&Secret<String>>,
    has: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let parsed: AnyConnectOptions = url
        .parse()
        .map_err(|e: sqlx::Error| StoreError::Address(e.to_string()))?;
    let url = parsed.database_url;
    let names = |option: &str| url.query_pairs().any(|(name, _)| name == option);
    let is_near = names("host") || url.host_str().is_some_and(is_loopback);
    let decides = [
        ("PGSSLROOTCERT", names("sslrootcert"), "ca_file"),
        ("PGSSLCERT", names("sslcert"), "sslcert in url"),
        ("PGSSLKEY", names("sslkey"), "sslkey in url"),
        ("PGSSLMODE", names("sslmode") || is_near, "sslmode in url"),
        ("PGOPTIONS", false, "options in url"),
        ("PGPORT", url.port().is_some(), "the port in url"),
        ("PGUSER", !url.username().is_empty(), "the user in url"),
        ("PGDATABASE", url.path().len() > 1, "the database in url"),
        ("PGPASSWORD", password.is_some(), "password_file"),
    ];
    match decides
        .iter()
        .find(|(variable, is_said, _)| !is_said && has(variable))
    {
        Some((variable, _, instead)) => Err(StoreError::Address(format!(
            "the environment variable {variable} is set, and would fill in a value that the configuration leaves out; \
             unset the variable, or set {instead}"
        ))),
        None => Ok(()),
    }
}

/// Parses an address into the driver's options, without logging of statements.
pub(super) fn driver_options(url: &str) -> Result<AnyConnectOptions, StoreError> {
    let options: AnyConnectOptions = url
        .parse()
        .map_err(|e: sqlx::Error| StoreError::Address(e.to_string()))?;
    Ok(options.disable_statement_logging())
}

/// Parses an address like [`driver_options`], and adds the password for PostgreSQL.
pub(super) fn postgres_options(
    url: &str,
    password: Option<&Secret<String>>,
) -> Result<AnyConnectOptions, StoreError> {
    no_other_settings(url, password, |variable| {
        std::env::var_os(variable).is_some()
    })?;
    let options = driver_options(url)?;
    match password {
        Some(password) => with_password(options, password),
        None => Ok(options),
    }
}

/// Adds a password to the driver's options.
fn with_password(
    mut options: AnyConnectOptions,
    password: &Secret<String>,
) -> Result<AnyConnectOptions, StoreError> {
    let url = &mut options.database_url;
    let unusable = || {
        let rule = "password_file: a password cannot be added to `url`; remove `password_file`";
        StoreError::Address(rule.to_owned())
    };
    // A URL without a host cannot have a password. The driver still connects to the socket that `host` names.
    if url.host_str().unwrap_or_default().is_empty() {
        url.set_host(Some("localhost")).map_err(|_| unusable())?;
    }
    url.set_password(Some(password.expose()))
        .map_err(|()| unusable())?;
    Ok(options)
}

/// Returns [`StoreError::Unverified`] if the connection failed because the server did not prove its
/// identity, and `None` for any other failure.
pub(super) fn not_verified(error: &sqlx::Error, options: &AnyConnectOptions) -> Option<StoreError> {
    let reason = match error {
        sqlx::Error::Tls(reason) => reason.to_string(),
        // The handshake is made while bytes are read.
        sqlx::Error::Io(io) => io.get_ref()?.downcast_ref::<rustls::Error>()?.to_string(),
        _ => return None,
    };
    let url = &options.database_url;
    let server = format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port().unwrap_or(5432)
    );
    Some(StoreError::Unverified { server, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str, ca_file: Option<&str>, may_be_unverified: bool) -> Result<String, String> {
        let asked = postgres_url(url, ca_file.map(Path::new), may_be_unverified);
        asked.map_err(|(key, rule)| format!("{key}: {rule}"))
    }

    #[test]
    fn a_database_beyond_this_machine_is_verified_by_default() {
        assert_eq!(
            ask("postgres://b@db/b", None, false).unwrap(),
            "postgres://b@db/b?sslmode=verify-full"
        );
        assert_eq!(
            ask("postgres://b@db/b", None, true).unwrap(),
            "postgres://b@db/b?sslmode=verify-full"
        );
        assert_eq!(
            ask(
                "postgres://b@db:1/b?application_name=x",
                Some("/etc/a b.pem"),
                false
            )
            .unwrap(),
            "postgres://b@db:1/b?application_name=x&sslmode=verify-full&sslrootcert=%2Fetc%2Fa+b.pem"
        );
        let explicit = "postgresql://b@[2001:db8::1]/b?sslmode=verify-full";
        assert_eq!(ask(explicit, None, false).unwrap(), explicit);
        for host in [
            "db.example.com",
            "10.0.0.1",
            "[2001:db8::1]",
            "localhost.example",
            "127.1",
            "0.0.0.0",
        ] {
            for mode in UNVERIFIED {
                let url = format!("postgres://b@{host}:5433/b?sslmode={mode}");
                let error = ask(&url, None, false).unwrap_err();
                for named in [
                    "[store] url",
                    &format!("{host}:5433"),
                    mode,
                    "verify-full",
                    "ca_file",
                    "unverified_off_loopback",
                ] {
                    assert!(error.contains(named), "{named}: {error}");
                }
                assert_eq!(ask(&url, None, true).unwrap(), url);
            }
        }
    }

    #[test]
    fn the_environment_decides_nothing() {
        let url = "postgres://b@db/b?sslmode=verify-full";
        let refused = |url: &str, set: &str| {
            let password = Secret::new(String::new());
            no_other_settings(url, Some(&password), |variable| variable == set)
                .map_err(|error| error.to_string())
        };
        for variable in [
            "PGSSLROOTCERT",
            "PGOPTIONS",
            "PGPORT",
            "PGSSLCERT",
            "PGSSLKEY",
        ] {
            let error = refused(url, variable).unwrap_err();
            assert!(
                error.contains(variable) && error.contains("unset the variable"),
                "{error}"
            );
        }
        for variable in [
            "PGUSER",
            "PGDATABASE",
            "PGPASSWORD",
            "PGSSLMODE",
            "PGAPPNAME",
        ] {
            assert_eq!(
                refused(url, variable),
                Ok(()),
                "{variable}: the address says it"
            );
        }
        assert!(refused("postgres://db:5432/", "PGUSER").is_err());
        let said = "postgres://b@db:5432/b?sslmode=verify-full&sslrootcert=ca.pem";
        assert_eq!(refused(said, "PGSSLROOTCERT"), Ok(()));
        assert_eq!(refused(said, "PGPORT"), Ok(()));
    }

    #[test]
    fn a_password_goes_to_the_socket_that_the_url_names() {
        let password = Secret::new("p w".to_owned());
        for (url, with) in [
            (
                "postgres:///b?host=/run/postgresql",
                "postgres://:p%20w@localhost/b?host=/run/postgresql",
            ),
            (
                "postgres://u@db:1/b?sslmode=verify-full",
                "postgres://u:p%20w@db:1/b?sslmode=verify-full",
            ),
        ] {
            let options = with_password(driver_options(url).unwrap(), &password).unwrap();
            assert_eq!(options.database_url.as_str(), with);
        }
    }

    #[test]
    fn on_this_machine_the_driver_decides_unless_it_is_told() {
        for near in [
            "postgres://b@localhost/b",
            "postgres://b@127.0.0.1:5432/b",
            "postgres://b@[::1]/b?sslmode=disable",
            "postgres:///b?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/b",
        ] {
            assert_eq!(ask(near, None, false).unwrap(), near);
        }
        let told = ask("postgres://b@localhost/b", Some("ca.pem"), false).unwrap();
        assert_eq!(
            told,
            "postgres://b@localhost/b?sslmode=verify-full&sslrootcert=ca.pem"
        );
    }

    #[test]
    fn an_address_names_one_server_and_holds_no_password() {
        for (url, ca, named) in [
            ("mysql://h/d", None, "postgres://"),
            ("postgres://u:secret@h/d", None, "password_file"),
            ("postgres://u@h/d?password=secret", None, "password_file"),
            (
                "postgres://u@localhost/d?host=db.example.com",
                None,
                "socket",
            ),
            (
                "postgres://u@localhost/d?hostaddr=192.0.2.1",
                None,
                "`hostaddr` is unknown",
            ),
            (
                "postgres://u@h/d?ssl-mode=disable",
                None,
                "`ssl-mode` is unknown",
            ),
            (
                "postgres://u@h/d?sslmode=verify-full&sslmode=disable",
                None,
                "`sslmode` is given twice",
            ),
            (
                "postgres://u@h/d?sslmode=none",
                None,
                "sslmode must be one of",
            ),
            ("postgres:///d", None, "must name a host"),
            (
                "postgres://u@h/d?sslmode=require",
                Some("ca.pem"),
                "[store] ca_file: has no effect",
            ),
            (
                "postgres://u@localhost/d?sslmode=prefer",
                Some("ca.pem"),
                "[store] ca_file: has no effect",
            ),
            (
                "postgres://u@h/d?sslrootcert=a.pem",
                Some("ca.pem"),
                "[store] ca_file: must not be set together",
            ),
        ] {
            let error = ask(url, ca, false).unwrap_err();
            assert!(
                error.contains(named) && !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }
}
