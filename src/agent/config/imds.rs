//! `[imds]`: the instance metadata service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::Imds;
use super::listener::{ListenerConfig, listeners};
use super::own_tags::OwnTags;
use super::principal::ImdsPrincipal;
use super::{ConfigError, LONGEST, ranged, role, session_name, tags, value};
use crate::agent::imds_tree::MetaData;
use crate::base::arn::{account_of, name_of};

/// The section `[imds]`, after its values were checked and its defaults were filled in.
#[derive(Debug)]
pub struct ImdsConfig {
    /// The listeners, one for each address.
    pub listeners: Vec<ListenerConfig>,
    /// The ARN of the role. Everybody who reaches a listener gets its credentials.
    pub role_arn: String,
    pub role_session_name: String,
    pub principal: ImdsPrincipal,
    /// The duration of a session in seconds, from 3,600 to 129,600. SDKs overstate the expiry of credentials that have
    /// less than 20 minutes left; sessions of at least an hour are renewed before that.
    pub duration_seconds: u32,
    /// The session tags with which the role is assumed.
    pub tags: Vec<(String, String)>,
    /// Whether requests without a token are answered, as version 1 of the service did.
    pub v1: bool,
    /// How many network hops the answer with a token may travel, from 1 to 64.
    pub token_hop_limit: u32,
    /// The ARN of the instance profile, which `iam/info` shows.
    pub instance_profile_arn: String,
    /// The pages below `/latest/meta-data/`. The agent makes the pages below `iam/` itself.
    pub meta_data: MetaData,
    /// The PEM file with the key that signs the identity document; without it the document has no signature.
    pub identity_document_key: Option<PathBuf>,
}

pub(super) fn imds(
    section: Imds,
    own_tags: &OwnTags,
    region: &str,
    base: &Path,
) -> Result<ImdsConfig, ConfigError> {
    let role_arn = role("[imds] role_arn", &section.role_arn)?;
    let default = SocketAddr::from(([169, 254, 169, 254], 80));
    let (account, name) = (account_of(&role_arn), name_of(&role_arn));
    let profile = section.instance_profile_arn;
    let instance_profile_arn =
        profile.unwrap_or_else(|| format!("arn:aws:iam::{account}:instance-profile/{name}"));
    if !instance_profile_arn.starts_with("arn:aws:iam::")
        || !instance_profile_arn.contains(":instance-profile/")
    {
        let rule =
            format!("`{instance_profile_arn}` must be arn:aws:iam::ACCOUNT:instance-profile/NAME");
        return Err(value("[imds] instance_profile_arn", rule));
    }
    let meta_data = MetaData::new(&section.meta_data, region)
        .map_err(|rule| value("[imds] meta_data", rule))?;
    Ok(ImdsConfig {
        listeners: listeners(
            ["[imds] address", "[imds] hosts"],
            section.address.unwrap_or_else(|| default.into()),
            &section.hosts,
            section.off_loopback.as_deref(),
        )?,
        role_session_name: session_name(
            "[imds] role_session_name",
            section.role_session_name,
            meta_data.instance_id(),
        )?,
        duration_seconds: ranged(
            "[imds] duration_seconds",
            section.duration_seconds,
            3_600,
            3_600..=LONGEST,
        )?,
        tags: match section.principal {
            ImdsPrincipal::Node => own_tags.beside("[imds] tags", section.tags, None)?,
            ImdsPrincipal::Ec2 => tags("[imds] tags", section.tags)?,
        },
        principal: section.principal,
        v1: section.v1,
        token_hop_limit: ranged("[imds] token_hop_limit", section.token_hop_limit, 1, 1..=64)?,
        role_arn,
        instance_profile_arn,
        meta_data,
        identity_document_key: section.identity_document_key.map(|path| base.join(path)),
    })
}
