//! `[store]` and `[sessions.redis]`: where the databases are, and how their servers are verified.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::document::{Redis, RedisMode, StoreSection};
use super::{ConfigError, MAX_FILE_BYTES, value};
use crate::base::secret::Secret;
use crate::files::{self, Audience};
use crate::sessions::{self, Mode, RedisOptions};
use crate::store::{self, Place};

/// Reads the place of a store from the flags of a command: `postgres://…`, with the password in a file, or the path of
/// a SQLite file. The rules of `[store]` apply.
///
/// # Errors
/// A rule of `[store]` is broken or a file cannot be read; the message names the key and the rule, or the file.
pub fn store_at(
    to: &str,
    password_file: Option<&Path>,
    ca_file: Option<&Path>,
) -> Result<Place, ConfigError> {
    let is_url = to.contains("://");
    let section = StoreSection {
        file: (!is_url).then(|| to.into()),
        url: is_url.then(|| to.to_owned()),
        password_file: password_file.map(Path::to_owned),
        ca_file: ca_file.map(Path::to_owned),
        ..StoreSection::default()
    };
    place(&section, Path::new(""))
}

pub(super) fn place(section: &StoreSection, base: &Path) -> Result<Place, ConfigError> {
    const UNVERIFIED: &str = "[store] unverified_off_loopback";
    let may_be_unverified = said(
        UNVERIFIED,
        section.unverified_off_loopback.as_deref(),
        store::UNVERIFIED_SENTENCE,
    )?;
    match (&section.file, &section.url, &section.password_file) {
        (None, Some(url), password) => {
            let ca = section
                .ca_file
                .as_ref()
                .map(|ca| certificates("[store] ca_file", &base.join(ca)))
                .transpose()?;
            let ca = ca.map(|(path, _)| path);
            let url = store::postgres_url(url, ca.as_deref(), may_be_unverified)
                .map_err(|(key, rule)| ConfigError::Value { key, rule })?;
            let password = password
                .as_ref()
                .map(|p| secret("[store] password_file", &base.join(p)))
                .transpose()?;
            Ok(Place::Postgres { url, password })
        }
        (file, None, None) if section.ca_file.is_none() && !may_be_unverified => Ok(Place::Sqlite(
            base.join(file.clone().unwrap_or_else(|| "store.db".into())),
        )),
        _ => Err(value(
            "[store]",
            "must not have both `file` and `url`; `password_file`, `ca_file` and `unverified_off_loopback` are only for \
             a store with a `url`",
        )),
    }
}

/// Returns true if the operator has switched off a protection, by setting `key` to the sentence that says what is given
/// up. Any other text is refused.
fn said(key: &'static str, text: Option<&str>, sentence: &str) -> Result<bool, ConfigError> {
    match text {
        None => Ok(false),
        Some(text) if text == sentence => Ok(true),
        Some(_) => Err(value(
            key,
            format!(
                "must be left out, or be exactly this sentence, by which you accept the risk: \"{sentence}\""
            ),
        )),
    }
}

/// Reads a PEM file with the certificates of CAs; returns its path and its content.
fn certificates(key: &'static str, path: &Path) -> Result<(PathBuf, Vec<u8>), ConfigError> {
    let bytes = files::read(path, Audience::Everyone, MAX_FILE_BYTES)?
        .expose()
        .clone();
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok((path.to_owned(), bytes)),
        _ => Err(value(
            key,
            format!(
                "{}: must contain at least one certificate in PEM, and no damaged one",
                path.display()
            ),
        )),
    }
}

/// Reads a secret from a private file; white space at its end is removed.
fn secret(key: &'static str, path: &Path) -> Result<Secret<String>, ConfigError> {
    let bytes = files::read(path, Audience::Owner, 4_096)?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| value(key, "must be UTF-8"))?;
    Ok(Secret::new(text.trim_end().to_owned()))
}

pub(super) fn redis(section: Redis, base: &Path) -> Result<RedisOptions, ConfigError> {
    const URLS: &str = "[sessions.redis] urls";
    if section.urls.is_empty() || section.urls.len() > 64 {
        return Err(value(URLS, "must be 1 to 64 URLs"));
    }
    let may_be_unverified = said(
        "[sessions.redis] unverified_off_loopback",
        section.unverified_off_loopback.as_deref(),
        sessions::UNVERIFIED_SENTENCE,
    )?;
    let names_others = section.mode.is_some_and(|mode| mode != RedisMode::Single);
    for url in &section.urls {
        sessions::check_redis_url(url, names_others, may_be_unverified)
            .map_err(|rule| value(URLS, rule))?;
    }
    let secure = section
        .urls
        .iter()
        .filter(|u| u.starts_with("rediss://"))
        .count();
    if secure != 0 && secure != section.urls.len() {
        return Err(value(URLS, "must be all `redis://` or all `rediss://`"));
    }
    if secure == 0 && section.ca_file.is_some() {
        return Err(value(
            "[sessions.redis] ca_file",
            "must be left out with `redis://`, which has no TLS; use `rediss://` for TLS",
        ));
    }
    let mode = match (section.mode.unwrap_or(RedisMode::Single), section.primary) {
        (RedisMode::Single, None) if section.urls.len() == 1 => Mode::Single,
        (RedisMode::Single, None) => {
            return Err(value(URLS, "must be one URL if `mode` is `single`"));
        }
        (RedisMode::Sentinel, Some(primary)) if !primary.is_empty() => Mode::Sentinel { primary },
        (RedisMode::Cluster, None) => Mode::Cluster,
        _ => {
            return Err(value(
                "[sessions.redis] primary",
                "must be the name of the primary if `mode` is `sentinel`, and left out otherwise",
            ));
        }
    };
    let password = section
        .password_file
        .map(|p| secret("[sessions.redis] password_file", &base.join(p)))
        .transpose()?;
    let ca = section
        .ca_file
        .map(|p| certificates("[sessions.redis] ca_file", &base.join(p)))
        .transpose()?;
    Ok(RedisOptions {
        mode,
        urls: section.urls,
        username: section.username,
        password,
        ca: ca.map(|(_, pem)| pem),
    })
}
