//! The token that a workload must show to the container endpoint: a random text in a file, or one that this
//! process has made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::digest::hex;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::{Secret, is_same_secret};
use crate::files::{self, Audience, FileError};

/// The minimum length of a token in bytes: 128 random bits as hexadecimal digits.
const SHORTEST: usize = 32;
/// The maximum length of a token in bytes.
const LONGEST: u64 = 1_024;
/// How long the content of a file is used before the file is read again. SDKs read their token file for each
/// request.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The token that a workload must show, from a file or from this process.
pub enum WorkloadToken {
    /// A token that this process has made.
    Given(Secret<String>),
    /// A token in a file, which may be replaced at any time.
    File(TokenFile),
}

/// A file with a token, which is read again from time to time.
pub struct TokenFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// The token, and the monotonic time at which it was read; `None` if the last attempt failed.
    known: Mutex<Option<(Duration, Secret<String>)>>,
}

impl WorkloadToken {
    /// Makes a token of 256 random bits.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are no random bytes.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self::Given(random(entropy)?))
    }

    /// The token in a file. If the file does not exist, it is created with mode 0600 and a random token, and its
    /// folder with mode 0700.
    ///
    /// # Errors
    /// The file cannot be read or made, or breaks a rule of [`read`].
    pub fn in_file(
        path: &Path,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Result<Self, TokenError> {
        if !path.exists() {
            files::create_private_dir(files::folder(path))?;
            files::write_private(path, random(entropy)?.expose().as_bytes())?;
        }
        let token = read(path)?;
        let known = Mutex::new(Some((clock.monotonic(), token)));
        Ok(Self::File(TokenFile {
            path: path.to_owned(),
            clock,
            known,
        }))
    }

    /// Whether a workload showed this token. No token is right while the file cannot be read.
    pub fn is(&self, given: &[u8]) -> bool {
        match self {
            Self::Given(token) => is_same_secret(token.expose().as_bytes(), given),
            Self::File(file) => file.is(given),
        }
    }

    /// The text of the token, for the program that starts the workload. `None` while the file cannot be read.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Given(token) => Some(token.expose().clone()),
            Self::File(file) => file.with(|token| token.expose().clone()),
        }
    }
}

impl TokenFile {
    fn is(&self, given: &[u8]) -> bool {
        self.with(|token| is_same_secret(token.expose().as_bytes(), given))
            .unwrap_or(false)
    }

    /// Calls `use_it` with the token; `None` while the file cannot be read or does not hold a token.
    fn with<T>(&self, use_it: impl FnOnce(&Secret<String>) -> T) -> Option<T> {
        let now = self.clock.monotonic();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |(read_at, _): &(Duration, _)| now.saturating_sub(*read_at) > READ_EVERY;
        if known.as_ref().is_none_or(is_old) {
            *known = read(&self.path)
                .inspect_err(
                    |error| tracing::warn!(%error, "the token file of a workload cannot be used; until it can, the \
                        agent refuses this workload"),
                )
                .ok()
                .map(|token| (now, token));
        }
        known.as_ref().map(|(_, token)| use_it(token))
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The file does not hold a token, or its mode lets others read it.
    #[error("{path}: {rule}")]
    Unfit {
        path: PathBuf,
        /// The rule that the token breaks.
        rule: String,
    },
}

/// Reads a token: 32 to 1,024 ASCII letters, digits and punctuation marks, and nothing else, because SDKs send the
/// whole file as a header. Other users may read the file only if they are in its group, which is how a workload
/// that runs as another user gets the token.
fn read(path: &Path) -> Result<Secret<String>, TokenError> {
    use std::os::unix::fs::MetadataExt;
    let unfit = |rule: String| TokenError::Unfit {
        path: path.to_owned(),
        rule,
    };
    let bytes = files::read(path, Audience::Everyone, LONGEST)?;
    let mode = std::fs::symlink_metadata(path).map_or(0o777, |meta| meta.mode());
    if mode & 0o007 != 0 {
        return Err(unfit(format!(
            "has mode {:04o}, which gives access to users other than its owner and its group; run `chmod o-rwx {}`",
            mode & 0o7777,
            path.display()
        )));
    }
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default();
    if text.len() < SHORTEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(unfit(format!(
            "must hold only a token of {SHORTEST} to {LONGEST} ASCII letters, digits and punctuation marks, without a \
             line feed at the end. If you remove the file and start the agent again, it writes a new one"
        )));
    }
    Ok(Secret::new(text.to_owned()))
}

fn random(entropy: &dyn Entropy) -> Result<Secret<String>, NoEntropy> {
    Ok(Secret::new(hex(&entropy::bytes::<32>(entropy)?)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::clock::{ManualClock, Timestamp};
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn ag_05_only_the_whole_token_of_the_workload_is_taken() {
        let entropy = SystemEntropy::new();
        let (one, two) = (
            WorkloadToken::generate(&entropy).unwrap(),
            WorkloadToken::generate(&entropy).unwrap(),
        );
        let text = one.text().unwrap();
        assert!(one.is(text.as_bytes()) && !two.is(text.as_bytes()));
        for at in 0..text.len() {
            let mut touched = text.clone().into_bytes();
            touched[at] ^= 1;
            assert!(!one.is(&touched), "{at}");
        }
        for other in [
            &text[1..],
            &text[..63],
            &format!("{text} "),
            "",
            &format!("Bearer {text}"),
        ] {
            assert!(!one.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_file_is_made_read_again_and_never_half_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        let token = WorkloadToken::in_file(&path, clock.clone(), &SystemEntropy::new()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = token.text().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        assert!(token.is(first.as_bytes()));
        // The file is replaced, and noticed after a second.
        let second = "x".repeat(40);
        std::fs::write(&path, &second).unwrap();
        assert!(token.is(first.as_bytes()));
        clock.pass(Duration::from_secs(2));
        assert!(token.is(second.as_bytes()) && !token.is(first.as_bytes()));
        // Without a file that can be trusted, nothing matches.
        for (text, mode) in [("short", 0o600), ("", 0o600), (second.as_str(), 0o604)] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            clock.pass(Duration::from_secs(2));
            assert!(!token.is(text.as_bytes()), "{text} {mode:o}");
            assert!(WorkloadToken::in_file(&path, clock.clone(), &SystemEntropy::new()).is_err());
        }
        std::fs::remove_file(&path).unwrap();
        clock.pass(Duration::from_secs(2));
        assert!(!token.is(second.as_bytes()) && !token.is(b""));
    }

    #[test]
    fn a_line_feed_is_refused_since_sdks_would_refuse_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        files::write_private(&path, format!("{}\n", "x".repeat(40)).as_bytes()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("without a line feed at the end"), "{error}");
    }
}
