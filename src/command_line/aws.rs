//! How a command finds its broker and the credentials to sign with: flags, the environment, `~/.aws/config` and
//! `~/.aws/credentials`, in the order of AWS's SDKs. The same rules apply to all commands.

mod credentials;
mod identity;
mod ini;
pub(crate) mod sso;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ini::{Document, Section, Value};

use super::{CallArguments, Failure, input};
use crate::client::{Client, Credentials, Endpoint};

pub(crate) use credentials::{Found, web_identity_token};
#[cfg(test)]
pub(crate) use words::split as words_of;

/// The address on which `serve --dev` and a new configuration of `brevet init` listen.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7480";
const DEFAULT_REGION: &str = "us-east-1";
/// The value of AWS_PROFILE after a failure. No tool finds a profile of this name, so none falls back to
/// the credentials of a `default` profile or of the machine.
pub(crate) const FAILED_PROFILE: &str = "brevet-assume-role-failed";
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_CA_BYTES: u64 = 4 << 20;

/// The environment variables of this process, or those of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process; bytes that are not UTF-8 are replaced.
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .map(|(name, value)| {
                    (
                        name.to_string_lossy().into_owned(),
                        value.to_string_lossy().into_owned(),
                    )
                })
                .collect(),
        )
    }

    /// The value of a variable; an empty one counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    fn first(&self, names: &[&str]) -> Option<Setting> {
        names
            .iter()
            .find_map(|name| self.get(name).map(|value| Setting::new(value, *name)))
    }

    /// The path in the variable `name`, in which `~/` stands for the home folder. If the variable is not set, the path
    /// is `at_home` in the home folder.
    fn path(&self, name: &str, at_home: &str) -> Option<PathBuf> {
        let home = self.get("HOME").map(PathBuf::from);
        match self.get(name) {
            Some(path) => match (path.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(PathBuf::from(path)),
            },
            None => home.map(|home| home.join(at_home)),
        }
    }
}

/// A value, and a text that names the flag, variable or profile from which it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) value: String,
    pub(crate) from: String,
}

impl Setting {
    fn new(value: impl Into<String>, from: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            from: from.into(),
        }
    }
}

/// The contents of `~/.aws/config` and `~/.aws/credentials`; a missing file counts as empty.
#[derive(Debug, Default)]
struct Files {
    config: Document,
    credentials: Document,
    config_path: Option<PathBuf>,
}

impl Files {
    fn load(environment: &Environment) -> Result<Self, Failure> {
        let config_path = environment.path("AWS_CONFIG_FILE", ".aws/config");
        let credentials_path = environment.path("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
        let read = |path: &Option<PathBuf>| -> Result<Document, Failure> {
            let Some(path) = path.as_ref().filter(|p| p.is_file()) else {
                return Ok(Document::new());
            };
            let bytes = input::read_file(path, MAX_FILE_BYTES)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| format!("{}: must be UTF-8", path.display()))?;
            Ok(ini::parse(text).map_err(|error| format!("{}: {error}", path.display()))?)
        };
        Ok(Self {
            config: read(&config_path)?,
            credentials: read(&credentials_path)?,
            config_path,
        })
    }

    /// The section of the configuration whose header has these two words, as in `[profile NAME]` or `[services
    /// NAME]`.
    fn section(&self, kind: &str, name: &str) -> Option<&Section> {
        let named = |header: &&String| {
            let words = words::split(header).unwrap_or_default();
            matches!(words.as_slice(), [first, second] if first == kind && second == name)
        };
        self.config
            .keys()
            .find(named)
            .and_then(|header| self.config.get(header))
    }

    /// The section of a profile in the configuration file only. Options in the credentials file are not included.
    fn in_config(&self, name: &str) -> Option<&Section> {
        let plain = if name == "default" {
            self.config.get(name)
        } else {
            None
        };
        self.section("profile", name).or(plain)
    }

    /// The options of a profile from both files. If both set an option, the credentials file takes precedence.
    fn profile(&self, name: &str) -> Option<Section> {
        let (config, credentials) = (self.in_config(name), self.credentials.get(name));
        if config.is_none() && credentials.is_none() {
            return None;
        }
        let mut merged = config.cloned().unwrap_or_default();
        merged.extend(credentials.cloned().unwrap_or_default());
        Some(merged)
    }

    /// The names of the profiles in both files, sorted.
    fn names(&self) -> Vec<String> {
        let of_config = self.config.keys().filter_map(|header| {
            let words = words::split(header).unwrap_or_default();
            match words.as_slice() {
                [first, name] if first == "profile" => Some(name.clone()),
                [only] if only == "default" => Some(only.clone()),
                _ => None,
            }
        });
        let mut names: Vec<_> = of_config.chain(self.credentials.keys().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn place(&self) -> String {
        self.config_path
            .as_ref()
            .map_or_else(|| "~/.aws/config".to_owned(), |p| p.display().to_string())
    }
}

/// An option of a section; nested options and empty values count as not set.
fn text<'a>(section: &'a Section, option: &str) -> Option<&'a str> {
    section
        .get(option)
        .and_then(Value::text)
        .filter(|v| !v.is_empty())
}

/// The settings that every call needs, in addition to credentials.
pub(crate) struct Settings {
    pub(crate) endpoint: Setting,
    pub(crate) region: Setting,
    /// The profile that was chosen; `None` means the profile `default`, if there is one.
    pub(crate) profile: Option<Setting>,
    ca: Option<Setting>,
    plaintext_off_loopback: bool,
    environment: Environment,
    files: Files,
    /// Whether the person at the terminal may be asked for a code.
    may_ask: bool,
}

impl Settings {
    /// Finds the settings by a command's flags, this process's environment and AWS's files.
    ///
    /// # Errors
    /// A file cannot be read, or a flag, variable or option has a bad value; the message names it and the
    /// rule.
    pub(crate) fn of(call: &CallArguments) -> Result<Self, Failure> {
        Self::resolve(call, Environment::of_process())
    }

    fn resolve(call: &CallArguments, environment: Environment) -> Result<Self, Failure> {
        let files = Files::load(&environment)?;
        let flag =
            |value: &Option<String>, name: &str| value.clone().map(|v| Setting::new(v, name));
        // AWS's own tools ask for the older name first.
        let profile = flag(&call.profile, "--profile")
            .or_else(|| environment.first(&["AWS_DEFAULT_PROFILE", "AWS_PROFILE"]));
        let section = match &profile {
            Some(chosen) => files
                .profile(&chosen.value)
                .ok_or_else(|| no_such_profile(chosen, &files))?,
            None => files.profile("default").unwrap_or_default(),
        };
        let name = profile.as_ref().map_or("default", |p| p.value.as_str());
        let of_profile = |option: &str| {
            text(&section, option)
                .map(|v| Setting::new(v, format!("{option} of the profile `{name}`")))
        };
        let region = flag(&call.region, "--region")
            .or_else(|| environment.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .or_else(|| of_profile("region"))
            .unwrap_or_else(|| Setting::new(DEFAULT_REGION, "the default"));
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if region.value.len() > 64 || !region.value.bytes().all(legal) {
            let rule =
                "a region has at most 64 lower-case letters, digits and `-`, such as us-east-1";
            return Err(format!("{}: `{}`: {rule}", region.from, region.value).into());
        }
        let mut endpoint =
            flag(&call.endpoint, "--endpoint").or_else(|| environment.first(&["BREVET_ENDPOINT"]));
        let ignored = |value: Option<&str>| value.is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if !ignored(environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
            && !ignored(text(&section, "ignore_configured_endpoint_urls"))
        {
            endpoint = endpoint
                .or_else(|| environment.first(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]));
            if endpoint.is_none() {
                endpoint = service_endpoint(&files, &section, name)?
                    .or_else(|| of_profile("endpoint_url"));
            }
        }
        let endpoint = endpoint.unwrap_or_else(|| Setting::new(DEFAULT_ENDPOINT, "the default"));
        check_endpoint(&endpoint)?;
        let ca = call
            .ca
            .as_ref()
            .map(|p| Setting::new(p.to_string_lossy(), "--ca"));
        let ca = ca
            .or_else(|| environment.first(&["AWS_CA_BUNDLE"]))
            .or_else(|| of_profile("ca_bundle"));
        let plaintext_off_loopback = call.plaintext_off_loopback;
        Ok(Self {
            endpoint,
            region,
            profile,
            ca,
            plaintext_off_loopback,
            environment,
            files,
            may_ask: true,
        })
    }

    /// The same settings for calls that may happen when nobody is at the terminal: no MFA code is asked for.
    pub(crate) fn without_questions(self) -> Self {
        Self {
            may_ask: false,
            ..self
        }
    }

    /// The name of the chosen profile, or `default`.
    fn profile_name(&self) -> &str {
        self.profile
            .as_ref()
            .map_or("default", |p| p.value.as_str())
    }

    /// The endpoints that the chosen profile sets, each under the name of the equivalent environment variable. A shell
    /// that no longer uses the profile needs these variables to reach the same servers.
    pub(crate) fn endpoints_of_profile(&self) -> BTreeMap<String, String> {
        let section = self.files.profile(self.profile_name()).unwrap_or_default();
        let services =
            text(&section, "services").and_then(|name| self.files.section("services", name));
        let mut endpoints = BTreeMap::new();
        for (service, value) in services.into_iter().flatten() {
            if let Value::Nested(options) = value
                && let Some(url) = options.get("endpoint_url")
            {
                endpoints.insert(
                    format!("AWS_ENDPOINT_URL_{}", service.to_uppercase()),
                    url.clone(),
                );
            }
        }
        if let Some(url) = text(&section, "endpoint_url") {
            endpoints.insert("AWS_ENDPOINT_URL".to_owned(), url.to_owned());
        }
        endpoints
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let url = self.endpoint.value.clone();
        let mut endpoint = Endpoint {
            url,
            region: self.region.value.clone(),
            ca_pem: None,
        };
        if endpoint.is_in_clear() && !self.plaintext_off_loopback {
            return Err(format!(
                "{}: {}: http:// to another machine sends credentials unencrypted. Use https://, or add \
                 --plaintext-off-loopback if nobody else is on the network in between",
                self.endpoint.from, self.endpoint.value
            )
            .into());
        }
        if let (true, Some(ca)) = (
            endpoint.url.to_ascii_lowercase().starts_with("https://"),
            &self.ca,
        ) {
            let bytes =
                input::read(std::path::Path::new(&ca.value), MAX_CA_BYTES).map_err(|error| {
                    format!("{} (the CA of the broker's certificate): {error}", ca.from)
                })?;
            let pem = String::from_utf8(bytes.to_vec())
                .ok()
                .filter(|pem| pem.contains("-----BEGIN CERTIFICATE-----"));
            endpoint.ca_pem = Some(pem.ok_or_else(|| {
                format!(
                    "{} {}: must contain at least one certificate in PEM",
                    ca.from, ca.value
                )
            })?);
        }
        Ok(endpoint)
    }

    /// Makes a client for the chosen endpoint that signs with these credentials.
    pub(crate) fn client_with(&self, credentials: Credentials) -> Result<Client, Failure> {
        let endpoint = self.endpoint()?;
        Ok(if self.plaintext_off_loopback {
            Client::in_clear(&endpoint, credentials)?
        } else {
            Client::new(&endpoint, credentials)?
        })
    }

    /// The name of a session for which none was given: `USER@HOST`.
    pub(crate) fn default_session_name(&self) -> String {
        credentials::default_session_name(&self.environment)
    }

    /// A description of everything that determines which credentials are chosen, without secrets.
    pub(crate) fn identity(&self) -> Vec<String> {
        identity::of(self)
    }

    /// The folder for data that may be lost (XDG Base Directory Specification): `brevet` in XDG_CACHE_HOME if that is
    /// an absolute path, or else in `.cache` of HOME. `None` if neither variable can be used.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        let cache = self.environment.get("XDG_CACHE_HOME").map(PathBuf::from);
        let at_home = || {
            self.environment
                .get("HOME")
                .map(|home| PathBuf::from(home).join(".cache"))
        };
        cache
            .filter(|path| path.is_absolute())
            .or_else(at_home)
            .map(|folder| folder.join("brevet"))
    }

    /// Makes a client for the chosen endpoint that does not sign its calls.
    pub(crate) fn anonymous(&self) -> Result<Client, Failure> {
        Ok(Client::anonymous(
            &self.endpoint()?,
            self.plaintext_off_loopback,
        )?)
    }

    /// Finds the credentials to sign with, and describes where they were found.
    pub(crate) async fn credentials(&self) -> Result<Found, Failure> {
        credentials::find(self).await
    }

    /// Makes a client that signs with the credentials that [`Self::credentials`] finds.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let found = self.credentials().await?;
        self.client_with(found.credentials)
    }
}

/// The endpoint of STS in the `[services]` section that a profile refers to.
fn service_endpoint(
    files: &Files,
    section: &Section,
    profile: &str,
) -> Result<Option<Setting>, Failure> {
    let Some(name) = text(section, "services") else {
        return Ok(None);
    };
    let services = files.section("services", name).ok_or_else(|| {
        format!(
            "the profile `{profile}` says services = {name}, but {} has no [services {name}]",
            files.place()
        )
    })?;
    let url = match services.get("sts") {
        Some(Value::Nested(options)) => options.get("endpoint_url"),
        _ => None,
    };
    Ok(url.map(|url| {
        Setting::new(
            url,
            format!("sts of [services {name}] in the profile `{profile}`"),
        )
    }))
}

fn no_such_profile(chosen: &Setting, files: &Files) -> String {
    let names = files.names();
    let known = if names.is_empty() {
        "no profile is configured".to_owned()
    } else {
        format!("the configured profiles are: {}", names.join(", "))
    };
    let failed = if chosen.value == FAILED_PROFILE {
        ". An earlier `brevet assume-role --format env` failed in this shell and left no credentials in it; \
         run `unset AWS_PROFILE` to start over"
    } else {
        ""
    };
    format!(
        "{}: the profile `{}` is neither in {} nor in the credentials file; {known}{failed}",
        chosen.from,
        chosen.value,
        files.place()
    )
}

/// Checks that an endpoint is `http://` or `https://` with a host and perhaps a port, without user, path or query.
fn check_endpoint(endpoint: &Setting) -> Result<(), Failure> {
    let Setting { value, from } = endpoint;
    let lower = value.to_ascii_lowercase();
    if !lower.starts_with("http://") && !lower.starts_with("https://") {
        let scheme = match value.split_once("://") {
            Some((scheme, _)) => {
                return Err(format!(
                    "{from}: {value}: `{scheme}://` is not supported; use https://"
                )
                .into());
            }
            None if lower.starts_with("localhost")
                || lower.starts_with("127.")
                || lower.starts_with("[::1]") =>
            {
                "http"
            }
            None => "https",
        };
        return Err(
            format!("{from}: {value}: the URL has no scheme; write {scheme}://{value}").into(),
        );
    }
    let uri: http::Uri = value
        .parse()
        .map_err(|error| format!("{from}: {value}: {error}; write https://HOST:PORT"))?;
    let whole = uri.path_and_query().is_none_or(|p| p.as_str() == "/");
    if !whole
        || uri.host().is_none_or(str::is_empty)
        || uri.authority().is_some_and(|a| a.as_str().contains('@'))
    {
        let authority = uri
            .authority()
            .map_or("HOST:PORT", |a| a.as_str())
            .rsplit('@')
            .next()
            .unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or("https");
        return Err(format!(
            "{from}: {value}: must be a scheme, a host and a port only; write {scheme}://{authority}"
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
