//! The part of `~/.aws/config` that says how a person signs in (`sso-session`), and the cache of tokens
//! that AWS's tools share: AWS CLI User Guide, "Configuring IAM Identity Center authentication".

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ini::Section;
use super::{Settings, text};
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::entropy::{self, SystemEntropy};
use crate::base::secret::Secret;
use crate::client::{ClientError, Credentials, Grant, Registration, Sso, SsoToken};
use crate::command_line::Failure;
use crate::files::{self, Audience, FileError};

/// The scope that allows a program to list and to assume the roles of the person.
pub(crate) const ACCOUNT_ACCESS: &str = "sso:account:access";
/// The default start URL, which names the portal. AWS's tools accept only names of this form. Nothing is ever requested
/// from this URL.
pub(crate) const DEFAULT_START_URL: &str = "https://brevet.awsapps.com/start";
/// The maximum size in bytes of a file in the cache.
const MAX_BYTES: u64 = 64 << 10;
/// A token that expires in less than this many seconds is refreshed before it is used.
const NEAR_SECONDS: i64 = 60;

/// The settings with which a person signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SsoSettings {
    /// The name of the `sso-session`; `None` for a profile in the older form.
    pub(crate) session: Option<String>,
    pub(crate) start_url: String,
    pub(crate) region: String,
    pub(crate) scopes: Vec<String>,
}

/// A token in the form of AWS's cache.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    start_url: String,
    region: String,
    access_token: Zeroizing<String>,
    expires_at: String,
    client_id: String,
    client_secret: Zeroizing<String>,
    registration_expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Zeroizing<String>>,
}

impl SsoSettings {
    /// The name of the file in the cache: the SHA-1 digest of the session's name, or of the start URL if
    /// there is no session.
    fn file_name(&self) -> String {
        let named = self.session.as_deref().unwrap_or(&self.start_url);
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, named.as_bytes());
        format!("{}.json", hex(digest.as_ref()))
    }
}

impl Settings {
    /// Finds the settings of an `sso-session`, or those of the chosen profile.
    ///
    /// # Errors
    /// There is no such session or profile, the session has no start URL, or the profile does not sign a person in.
    pub(crate) fn sso(&self, session: Option<&str>) -> Result<SsoSettings, Failure> {
        if let Some(name) = session {
            return self.sso_session(name);
        }
        let name = self.profile_name();
        let found = self.files.profile(name);
        let fault = match found.is_some() {
            true => "has neither sso_session nor sso_start_url",
            false => "does not exist",
        };
        let profile = found.unwrap_or_default();
        self.sso_of_profile(name, &profile)?.ok_or_else(|| {
            format!(
                "the profile `{name}` in {} {fault}; choose another profile with --profile, name an sso-session with \
                --sso-session, or make both with `brevet configure sso`",
                self.files.place()
            )
            .into()
        })
    }

    fn sso_session(&self, name: &str) -> Result<SsoSettings, Failure> {
        let section = self.files.section("sso-session", name).ok_or_else(|| {
            format!(
                "there is no [sso-session {name}] in {}; make one with `brevet configure sso`",
                self.files.place()
            )
        })?;
        let missing = |option: &str| {
            format!(
                "[sso-session {name}] in {} has no {option}; add it, or make the session anew with `brevet configure \
                sso`",
                self.files.place()
            )
        };
        let scopes = text(section, "sso_registration_scopes").unwrap_or(ACCOUNT_ACCESS);
        let scopes = scopes.split(',').map(|scope| scope.trim().to_owned());
        Ok(SsoSettings {
            session: Some(name.to_owned()),
            start_url: text(section, "sso_start_url")
                .ok_or_else(|| missing("sso_start_url"))?
                .to_owned(),
            region: text(section, "sso_region")
                .unwrap_or(&self.region.value)
                .to_owned(),
            scopes: scopes.filter(|scope| !scope.is_empty()).collect(),
        })
    }

    /// Finds the settings of a profile; `None` if the profile does not sign a person in.
    fn sso_of_profile(
        &self,
        name: &str,
        profile: &Section,
    ) -> Result<Option<SsoSettings>, Failure> {
        if let Some(session) = text(profile, "sso_session") {
            return self
                .sso_session(session)
                .map(Some)
                .map_err(|error| format!("the profile `{name}`: {error}").into());
        }
        let start_url = text(profile, "sso_start_url");
        Ok(start_url.map(|start_url| SsoSettings {
            session: None,
            start_url: start_url.to_owned(),
            region: text(profile, "sso_region")
                .unwrap_or(&self.region.value)
                .to_owned(),
            scopes: Vec::new(),
        }))
    }

    /// Makes a client for the APIs with which a person signs in.
    ///
    /// # Errors
    /// The endpoint or the CA cannot be used.
    pub(crate) fn sso_client(&self) -> Result<Sso, Failure> {
        Ok(Sso::new(&self.endpoint()?, self.plaintext_off_loopback)?)
    }

    /// The path of `~/.aws/config`, or of the file that AWS_CONFIG_FILE names.
    ///
    /// # Errors
    /// Neither AWS_CONFIG_FILE nor HOME is set.
    pub(crate) fn config_path(&self) -> Result<PathBuf, Failure> {
        let path = self.files.config_path.clone();
        path.ok_or_else(|| {
            "AWS_CONFIG_FILE: is not set, and neither is HOME, so no configuration file can be \
            found"
                .into()
        })
    }

    /// The CA of the broker's certificate, if one is set.
    pub(crate) fn ca(&self) -> Option<&str> {
        self.ca.as_ref().map(|ca| ca.value.as_str())
    }

    fn cached_token(&self, sso: &SsoSettings) -> Result<PathBuf, Failure> {
        let home = self.environment.get("HOME");
        let home =
            home.ok_or("HOME: is not set, so the token cache ~/.aws/sso/cache cannot be found")?;
        let folder = PathBuf::from(home).join(".aws").join("sso").join("cache");
        Ok(folder.join(sso.file_name()))
    }

    /// Writes a token to the cache that AWS's tools share. The file has mode 0600 and is replaced
    /// atomically.
    ///
    /// # Errors
    /// HOME is not set, or the file or its folder cannot be written.
    pub(crate) fn keep_token(
        &self,
        sso: &SsoSettings,
        registration: &Registration,
        token: &SsoToken,
    ) -> Result<PathBuf, Failure> {
        let path = self.cached_token(sso)?;
        let cached = Cached {
            start_url: sso.start_url.clone(),
            region: sso.region.clone(),
            access_token: Zeroizing::new(token.access_token.expose().clone()),
            expires_at: token.expires_at.to_string(),
            client_id: registration.client_id.clone(),
            client_secret: Zeroizing::new(registration.client_secret.expose().clone()),
            registration_expires_at: registration.expires_at.to_string(),
            refresh_token: token
                .refresh_token
                .as_ref()
                .map(|token| Zeroizing::new(token.expose().clone())),
        };
        files::create_private_dir(files::folder(&path))?;
        let text = Zeroizing::new(serde_json::to_vec(&cached)?);
        files::write_private(&path, &text)?;
        Ok(path)
    }

    /// Gets credentials of the role that a profile names, with the token in the cache. `None` if the
    /// profile does not sign a person in.
    ///
    /// # Errors
    /// The profile is incomplete, nobody is signed in, the token cannot be read or kept, or the broker refuses or does
    /// not answer.
    pub(super) async fn sso_credentials(
        &self,
        name: &str,
        profile: &Section,
        now: Timestamp,
    ) -> Result<Option<Credentials>, Failure> {
        let Some(sso) = self.sso_of_profile(name, profile)? else {
            return Ok(None);
        };
        let setting = |option: &str| {
            text(profile, option).ok_or_else(|| {
                format!(
                    "the profile `{name}` signs in with SSO, but has no {option}; add it, or make the profile anew \
                    with `brevet configure sso`"
                )
            })
        };
        let (account_id, role_name) = (setting("sso_account_id")?, setting("sso_role_name")?);
        let token = self.token(&sso, name, now).await?;
        let client = self.sso_client()?;
        let handed_out = client
            .get_role_credentials(&token, account_id, role_name)
            .await;
        let credentials = handed_out.map_err(|error| match &error {
            ClientError::Refused { code, .. } if code == "UnauthorizedException" => Failure::from(
                format!("the sign-in has ended ({error}); run `brevet login --profile {name}`"),
            ),
            _ => error.into(),
        })?;
        Ok(Some(credentials))
    }

    /// Reads the token in the cache, and refreshes it if it expires soon.
    async fn token(
        &self,
        sso: &SsoSettings,
        profile: &str,
        now: Timestamp,
    ) -> Result<Secret<String>, Failure> {
        let again = format!("run `brevet login --profile {profile}`");
        let path = self.cached_token(sso)?;
        let bytes =
            files::read(&path, Audience::Owner, MAX_BYTES).map_err(|error| match &error {
                FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    format!("nobody is signed in with the profile `{profile}`; {again}")
                }
                _ => format!("the token of the sign-in cannot be read: {error}"),
            })?;
        let mut cached: Cached = serde_json::from_slice(bytes.expose()).map_err(|_| {
            format!(
                "{}: is not a token file that the AWS CLI or `brevet login` wrote; {again}",
                path.display()
            )
        })?;
        let end = |text: &str| text.parse::<jiff::Timestamp>().map(|at| at.as_second());
        let left = end(&cached.expires_at).map_or(0, |at| at.saturating_sub(now.seconds()));
        if left >= NEAR_SECONDS {
            return Ok(Secret::new(std::mem::take(&mut *cached.access_token)));
        }
        let Some(refresh) = cached.refresh_token.take() else {
            return Err(format!("the sign-in has expired; {again}").into());
        };
        let registration = Registration {
            client_id: cached.client_id.clone(),
            client_secret: Secret::new(std::mem::take(&mut *cached.client_secret)).into(),
            expires_at: Timestamp::from_seconds(end(&cached.registration_expires_at).unwrap_or(0)),
        };
        let client = self.sso_client()?;
        let refreshed = client
            .create_token(&registration, Grant::Refresh(&refresh))
            .await;
        let token = refreshed.map_err(|error| match &error {
            ClientError::Refused { .. } => Failure::from(format!(
                "the sign-in could not be refreshed ({error}); {again}"
            )),
            _ => error.into(),
        })?;
        self.keep_token(sso, &registration, &token)?;
        Ok(Secret::new(token.access_token.expose().clone()))
    }
}

/// Makes a text of `N` random bytes in base64url.
///
/// # Errors
/// The operating system gives no random bytes.
pub(crate) fn random_text<const N: usize>() -> Result<String, Failure> {
    let bytes = entropy::bytes::<N>(&SystemEntropy::new())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_token_is_that_of_awss_tools() {
        let mut sso = SsoSettings {
            session: Some("my-sso".to_owned()),
            start_url: "https://d-123.awsapps.com/start".to_owned(),
            region: "us-east-1".to_owned(),
            scopes: Vec::new(),
        };
        // sha1sum of the two names.
        assert_eq!(
            sso.file_name(),
            "0ad374308c5a4e22f723adf10145eafad7c4031c.json"
        );
        sso.session = None;
        assert_eq!(
            sso.file_name(),
            "2b829a45f04c9828cb45b7d092d8e4aa30818393.json"
        );
    }
}
