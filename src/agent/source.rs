//! The source of sessions: the broker, which is called with the identity of this agent.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::config::{AgentIdentity, BrokerConfig};
use super::refresh;
use super::session::RoleSession;
use super::wanted::Wanted;
use crate::base::clock::{Clock, Timestamp};
use crate::base::digest::sha256;
use crate::base::secret::Secret;
use crate::client::{AssumeRoleWithWebIdentity, Client, ClientError, Credentials, Endpoint};
use crate::files::{self, Audience, FileError};

/// The maximum length in bytes of a file that belongs to the agent's identity.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The maximum length in bytes of a token that AssumeRoleWithWebIdentity accepts.
const MAX_TOKEN_BYTES: u64 = 20_000;

/// A call for a session that is in progress.
pub type Fetch<'a> = Pin<Box<dyn Future<Output = Result<RoleSession, FetchError>> + Send + 'a>>;

/// A source of sessions. Tests have their own instead of the broker.
pub trait Source: Send + Sync {
    /// Fetches a new session as `wanted` describes it.
    ///
    /// # Errors
    /// See [`FetchError`].
    fn fetch<'a>(&'a self, wanted: &'a Wanted) -> Fetch<'a>;
}

/// Why there is no new session.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The broker refused, did not answer, or its answer cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file of the agent's identity cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// By this machine's clock, the new session has expired or expires within a minute.
    #[error(
        "the new credentials expire at {until}, but the clock of this machine says that it is {now}; check the clock"
    )]
    Clock { now: Timestamp, until: Timestamp },
    /// The agent has no proof of who it is, for example because a file of its identity has the wrong content.
    #[error("{0}")]
    Identity(String),
    /// A part of the agent does not do what it must.
    #[error("{0}, which is a bug in Brevet")]
    Bug(String),
}

/// The broker, called with the identity of this agent. Files of the identity are read again for each call, and a new
/// connection is made when they have changed.
pub struct BrokerSource {
    broker: BrokerConfig,
    identity: AgentIdentity,
    clock: Arc<dyn Clock>,
    known: tokio::sync::Mutex<Option<Known>>,
}

/// A client, and the state of the identity with which it signs.
struct Known {
    client: Client,
    /// The digest of the credential files, which shows whether they have changed.
    files: [u8; 32],
    /// When the node's own session must be renewed, and when it expires; `None` for a long-term identity.
    session: Option<(Timestamp, Timestamp)>,
}

/// An access key as `aws iam create-access-key` prints it, or only the object inside `AccessKey`.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyFile {
    Created {
        #[serde(rename = "AccessKey")]
        access_key: KeyPair,
    },
    Pair(KeyPair),
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "PascalCase")]
struct KeyPair {
    access_key_id: String,
    secret_access_key: String,
}

impl BrokerSource {
    /// Creates the source. Files are first read by the first call.
    pub fn new(broker: BrokerConfig, identity: AgentIdentity, clock: Arc<dyn Clock>) -> Self {
        Self {
            broker,
            identity,
            clock,
            known: tokio::sync::Mutex::default(),
        }
    }

    pub fn url(&self) -> &str {
        &self.broker.endpoint
    }

    /// The client with which to call the broker as this agent.
    ///
    /// # Errors
    /// A file of the identity, or the CA file, cannot be read. Or its content cannot be used, or the broker refuses the
    /// node's token or does not answer, unless the node still has an earlier session that is good, which is then used.
    pub async fn client(&self) -> Result<Client, FetchError> {
        let mut known = self.known.lock().await;
        let files = self.identity_files()?;
        let now = self.clock.now();
        if let Some(known) = known.as_ref().filter(|known| known.files == files.digest()) {
            match known.session {
                None => return Ok(known.client.clone()),
                Some((renew_at, _)) if now < renew_at => return Ok(known.client.clone()),
                Some(_) => {}
            }
        }
        match self.connect(&files).await {
            Ok(made) => {
                let client = made.client.clone();
                *known = Some(made);
                Ok(client)
            }
            // The old session of the node is good until it expires.
            Err(error) => match known.as_ref().and_then(|k| Some((k, k.session?.1))) {
                Some((known, end)) if refresh::is_good(now, end) => {
                    tracing::warn!(%error, "the agent could not renew its own session with the broker, and uses the \
                    old one until it expires");
                    Ok(known.client.clone())
                }
                _ => Err(error),
            },
        }
    }

    /// Forgets the node's own session, because the broker no longer accepts it. Returns false if there was none.
    pub async fn forget_session(&self) -> bool {
        let mut known = self.known.lock().await;
        known.take_if(|known| known.session.is_some()).is_some()
    }

    fn identity_files(&self) -> Result<IdentityFiles, FetchError> {
        let mut all = Vec::new();
        match &self.identity {
            AgentIdentity::Given(_) => {}
            AgentIdentity::AccessKey { file } => {
                all.push(files::read(file, Audience::Owner, MAX_FILE_BYTES)?);
            }
            AgentIdentity::Certificate {
                certificate,
                private_key,
            } => {
                all.push(files::read(
                    certificate,
                    Audience::Everyone,
                    MAX_FILE_BYTES,
                )?);
                all.push(files::read(private_key, Audience::Owner, MAX_FILE_BYTES)?);
            }
            AgentIdentity::WebIdentity { token_file, .. } => {
                all.push(projected(token_file, MAX_TOKEN_BYTES)?);
            }
        }
        let ca = match &self.broker.ca_file {
            Some(path) => Some(projected(path, MAX_FILE_BYTES)?),
            None => None,
        };
        Ok(IdentityFiles { all, ca })
    }

    async fn connect(&self, files: &IdentityFiles) -> Result<Known, FetchError> {
        let ca_pem = match (&files.ca, &self.broker.ca_file) {
            (Some(ca), Some(path)) => Some(text(ca, path)?.to_owned()),
            _ => None,
        };
        let endpoint = Endpoint {
            url: self.broker.endpoint.clone(),
            region: self.broker.region.clone(),
            ca_pem,
        };
        let signing = |keys| Client::with_clock(&endpoint, keys, self.clock.clone());
        let mut session = None;
        let client = match (&self.identity, files.all.as_slice()) {
            (AgentIdentity::Given(keys), _) => signing(keys.clone())?,
            (AgentIdentity::AccessKey { file }, [bytes]) => signing(access_key(bytes, file)?)?,
            (
                AgentIdentity::Certificate {
                    certificate,
                    private_key,
                },
                [chain, key],
            ) => {
                let key = Secret::new(text(key, private_key)?.to_owned());
                let chain = text(chain, certificate)?;
                Client::with_certificate(&endpoint, chain, &key, self.clock.clone())?
            }
            (
                AgentIdentity::WebIdentity {
                    token_file,
                    role_arn,
                    role_session_name,
                },
                [bytes],
            ) => {
                let request = AssumeRoleWithWebIdentity {
                    role_arn: role_arn.clone(),
                    role_session_name: role_session_name.clone(),
                    token: Arc::new(Secret::new(text(bytes, token_file)?.trim().to_owned())),
                    duration_seconds: None,
                    policy: None,
                    policy_arns: Vec::new(),
                };
                let anonymous = Client::anonymous(&endpoint, false)?;
                let answer = anonymous.assume_role_with_web_identity(&request).await?;
                let keys = answer.role.credentials;
                let (issued_at, end) = keys.life.ok_or(ClientError::Incomplete("expiration"))?;
                session = Some((refresh::renew_at(issued_at, end, u16::MAX / 2), end));
                signing(keys)?
            }
            _ => {
                return Err(FetchError::Bug(
                    "the agent read another number of credential files than [identity] names"
                        .to_owned(),
                ));
            }
        };
        Ok(Known {
            client,
            files: files.digest(),
            session,
        })
    }

    async fn ask(&self, wanted: &Wanted) -> Result<RoleSession, FetchError> {
        let client = self.client().await?;
        match wanted {
            Wanted::Role(request) => {
                let role = client.assume_role(request).await?;
                Ok(RoleSession::new(&request.role_arn, role)?)
            }
            Wanted::Workload(wanted) => {
                let answer = client.assume_role_for_workload(&wanted.request()).await?;
                Ok(RoleSession::new(&answer.role_arn, answer.role)?)
            }
        }
    }
}

impl Source for BrokerSource {
    fn fetch<'a>(&'a self, wanted: &'a Wanted) -> Fetch<'a> {
        Box::pin(async move {
            match self.ask(wanted).await {
                Err(FetchError::Client(ClientError::Refused { code, .. }))
                    if is_about_the_caller(&code) && self.forget_session().await =>
                {
                    self.ask(wanted).await
                }
                result => result,
            }
        })
    }
}

/// Whether an error code means that the broker does not accept the credentials of the caller.
pub fn is_about_the_caller(code: &str) -> bool {
    matches!(code, "ExpiredToken" | "InvalidClientTokenId")
}

/// The files of the agent's identity, and the CA file for the broker.
struct IdentityFiles {
    all: Vec<Secret<Vec<u8>>>,
    ca: Option<Secret<Vec<u8>>>,
}

impl IdentityFiles {
    fn digest(&self) -> [u8; 32] {
        let all = self.all.iter().chain(&self.ca);
        let digests: Vec<u8> = all.flat_map(|file| sha256(file.expose())).collect();
        sha256(&digests)
    }
}

/// Reads a file that may be a symbolic link, as Kubernetes uses for projected files that it replaces.
fn projected(path: &Path, max_bytes: u64) -> Result<Secret<Vec<u8>>, FileError> {
    let real = std::fs::canonicalize(path).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })?;
    files::read(&real, Audience::Everyone, max_bytes)
}

fn text<'a>(bytes: &'a Secret<Vec<u8>>, path: &Path) -> Result<&'a str, FetchError> {
    std::str::from_utf8(bytes.expose())
        .map_err(|_| FetchError::Identity(format!("{}: must be UTF-8", path.display())))
}

/// Reads an access key from the JSON of a [`KeyFile`]. `path` names the file in errors.
fn access_key(bytes: &Secret<Vec<u8>>, path: &Path) -> Result<Credentials, FetchError> {
    let pair = match serde_json::from_slice(bytes.expose()) {
        Ok(KeyFile::Created { access_key } | KeyFile::Pair(access_key)) => access_key,
        Err(_) => {
            let rule = "must be JSON with AccessKeyId and SecretAccessKey, as `aws iam create-access-key` prints it";
            return Err(FetchError::Identity(format!("{}: {rule}", path.display())));
        }
    };
    Ok(Credentials::long_term(
        &pair.access_key_id,
        &pair.secret_access_key,
    ))
}
