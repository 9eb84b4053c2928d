//! `[pod_identity]`: the container endpoint in the form of EKS Pod Identity.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::PodIdentity;
use super::listener::{ListenerConfig, listeners};
use super::{ConfigError, LONGEST, ranged, value};

/// The section `[pod_identity]`, after its values were checked and its defaults were filled in.
#[derive(Debug)]
pub struct PodIdentityConfig {
    /// The listeners, one for each address.
    pub listeners: Vec<ListenerConfig>,
    /// The name of the cluster in the broker's directory.
    pub cluster: String,
    pub duration_seconds: u32,
    /// A file with the token of a pod. The agent does not read it, but writes its path into the
    /// file of `--world`.
    pub token_file: Option<PathBuf>,
}

pub(super) fn pod_identity(
    section: PodIdentity,
    base: &Path,
) -> Result<PodIdentityConfig, ConfigError> {
    let addresses = section.addresses;
    let default = SocketAddr::from(([169, 254, 170, 23], 80));
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if !(1..=100).contains(&section.cluster.len()) || !section.cluster.bytes().all(legal) {
        let rule = "must have 1 to 100 letters, digits, `_` and `-`";
        return Err(value("[pod_identity] cluster", rule));
    }
    Ok(PodIdentityConfig {
        listeners: listeners(
            ["[pod_identity] addresses", "[pod_identity] hosts"],
            addresses.unwrap_or_else(|| default.into()),
            &section.hosts,
            section.off_loopback.as_deref(),
        )?,
        cluster: section.cluster,
        duration_seconds: ranged(
            "[pod_identity] duration_seconds",
            section.duration_seconds,
            3_600,
            3_600..=LONGEST,
        )?,
        token_file: section.token_file.map(|path| base.join(path)),
    })
}
