//! The structure of the configuration file. `config/brevet.toml` describes every key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::forwarded_header::ForwardedHeader;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) listen: Option<Listen>,
    pub(super) tls: Option<Tls>,
    pub(super) operator: Option<Operator>,
    pub(super) sts: Option<StsSection>,
    #[serde(default)]
    pub(super) directory: DirectorySection,
    pub(super) store: Option<StoreSection>,
    pub(super) keyring: Option<KeyringSection>,
    pub(super) audit: Option<AuditSection>,
    pub(super) sessions: Option<SessionsSection>,
    pub(super) limits: Option<LimitsSection>,
    pub(super) web_identity: Option<WebIdentitySection>,
    pub(super) keystone: Option<KeystoneSection>,
    #[serde(default)]
    pub(super) credentials: CredentialsSection,
    pub(super) federation: Option<FederationSection>,
    #[serde(default)]
    pub(super) saml: SamlSection,
    #[serde(default)]
    pub(super) budgets: BudgetsSection,
    pub(super) sign_in: Option<SignInSection>,
    pub(super) s3: Option<S3Section>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInSection {
    pub(super) public_url: String,
    pub(super) session_seconds: Option<u64>,
    pub(super) idle_seconds: Option<u64>,
    pub(super) passwords: Option<bool>,
    pub(super) device_flow: Option<bool>,
    pub(super) mfa_max_age_seconds: Option<u64>,
    pub(super) providers: Option<Vec<SignInProvider>>,
    #[serde(default)]
    pub(super) clients: Vec<SignInClient>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInProvider {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) client_id: Option<String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) max_age_seconds: Option<u64>,
    #[serde(default)]
    pub(super) acr: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) amr: BTreeMap<String, String>,
    pub(super) idp_initiated: Option<bool>,
    pub(super) roles_by_trust_policies: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInClient {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) redirect_uris: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3Section {
    pub(super) address: SocketAddr,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_names: Option<Vec<String>>,
    #[serde(default)]
    pub(super) secret_files: Vec<PathBuf>,
    pub(super) gateway_regions: Option<Vec<String>>,
    #[serde(default)]
    pub(super) stores: Vec<S3StoreSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3StoreSection {
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) endpoint: String,
    pub(super) region: Option<String>,
    pub(super) key_file: PathBuf,
    #[serde(default)]
    pub(super) style: S3Style,
    #[serde(default)]
    pub(super) keeps_slashes: bool,
    #[serde(default)]
    pub(super) takes_trailers: bool,
    #[serde(default)]
    pub(super) remote_signing: bool,
    #[serde(default)]
    pub(super) buckets: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) cors: Vec<S3CorsSection>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum S3Style {
    #[default]
    Path,
    VirtualHost,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3CorsSection {
    pub(super) allowed_origins: Vec<String>,
    pub(super) allowed_methods: Vec<String>,
    #[serde(default)]
    pub(super) allowed_headers: Vec<String>,
    pub(super) max_age_seconds: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialsSection {
    pub(super) access_key_max_age_days: Option<u32>,
    pub(super) access_key_unused_days: Option<u32>,
    pub(super) access_key_notice_days: Option<u32>,
    pub(super) password_block_list: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebIdentitySection {
    pub(super) issuer: String,
    #[serde(default)]
    pub(super) claims: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeystoneSection {
    pub(super) enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FederationSection {
    pub(super) private_addresses: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SamlSection {
    pub(super) entity_id: Option<String>,
    pub(super) audiences: Option<Vec<String>>,
    pub(super) recipients: Option<Vec<String>>,
    pub(super) leeway_seconds: Option<u64>,
    pub(super) request_key: Option<PathBuf>,
    pub(super) request_certificate: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BudgetsSection {
    pub(super) principal: PrincipalBudget,
    pub(super) account: AccountBudget,
    pub(super) source: SourceBudget,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrincipalBudget {
    pub(super) calls_per_second: Option<u32>,
    pub(super) reads_per_second: Option<u32>,
    pub(super) object_requests_per_second: Option<u32>,
    pub(super) live_sessions: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountBudget {
    pub(super) calls_per_second: Option<u32>,
    pub(super) live_sessions: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceBudget {
    pub(super) unproven_calls_per_second: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) address: SocketAddr,
    pub(super) plaintext_off_loopback: Option<String>,
    pub(super) names: Option<Vec<String>>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    #[serde(default)]
    pub(super) forwarded_header: ForwardedHeader,
    #[serde(default)]
    pub(super) proxy_protocol: bool,
    #[serde(default)]
    pub(super) cors_origins: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operator {
    pub(super) address: SocketAddr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StsSection {
    pub(super) regions: Option<Vec<String>>,
    pub(super) skew_seconds: Option<u64>,
    pub(super) reflection: Option<bool>,
    pub(super) presigned_actions: Option<Vec<String>>,
    pub(super) single_use_signatures: Option<SingleUseSignatures>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SingleUseSignatures {
    Off,
    Issuing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreSection {
    pub(super) file: Option<PathBuf>,
    pub(super) url: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) unverified_off_loopback: Option<String>,
    pub(super) watermark: Option<PathBuf>,
    pub(super) refuse_after_seconds: Option<u64>,
    pub(super) keep_changes_days: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectorySection {
    pub(super) file: Option<PathBuf>,
    pub(super) master_key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyringSection {
    pub(super) file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditSection {
    pub(super) file: Option<PathBuf>,
    pub(super) stdout: Option<bool>,
    pub(super) sync: Option<bool>,
    #[serde(default)]
    pub(super) data_events: DataEventsKey,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DataEventsKey {
    All,
    #[default]
    Refused,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsSection {
    pub(super) max_records: Option<usize>,
    pub(super) records_mib: Option<usize>,
    pub(super) opened_tokens: Option<u64>,
    pub(super) opened_tokens_mib: Option<u64>,
    pub(super) redis: Option<Redis>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    pub(super) mode: Option<RedisMode>,
    pub(super) urls: Vec<String>,
    pub(super) primary: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) unverified_off_loopback: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RedisMode {
    Single,
    Sentinel,
    Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsSection {
    pub(super) connections: Option<usize>,
    pub(super) calls: Option<usize>,
    pub(super) request_memory_mib: Option<usize>,
    pub(super) streams_per_connection: Option<u32>,
    pub(super) handshake_seconds: Option<u64>,
    pub(super) idle_seconds: Option<u64>,
    pub(super) connection_age_seconds: Option<u64>,
    pub(super) shutdown_grace_seconds: Option<u64>,
}
