//! The table of routes: which interface serves which path of each listener.
//!
//! The paths are the same for every host name of the broker.

use http::Method;

use crate::admission::Purpose;
use crate::api;
use crate::federation::saml::METADATA_PATH;

/// The interface that serves an HTTP request other than a gRPC call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    /// AWS's Query protocol. It also serves unknown paths, and refuses such requests in the
    /// protocol of their client.
    Query,
    TokenExchange,
    /// The metadata of the broker as an OpenID Connect provider.
    ProviderConfiguration,
    /// The public keys of the broker as an OpenID Connect provider.
    KeySet,
    /// The metadata of the broker as a SAML service provider.
    SamlMetadata,
    /// The pages for people. Without `[sign_in]` in the configuration, the Query protocol serves
    /// their paths.
    Portal,
    /// An action of AWS's APIs for sign-ins. Without `[sign_in]` in the configuration, the Query
    /// protocol serves its path.
    Sso(Sso),
    /// An OAuth 2.0 endpoint for sign-ins. Without `[sign_in]` in the configuration, the Query
    /// protocol serves its path.
    SignIn(OAuth),
    /// The AuthZEN Authorization API for a single request.
    AccessEvaluation,
    AccessEvaluations,
    /// The metadata of the broker as an AuthZEN policy decision point.
    DecisionPoint,
    /// OpenStack Keystone's endpoint for tokens.
    KeystoneTokens,
    KeystoneS3Tokens,
    KeystoneCredentials,
    /// The S3 Signer API of Apache Iceberg.
    S3Signer,
}

/// An action of AWS's APIs `sso-oidc` and `sso`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sso {
    RegisterClient,
    StartDevice,
    CreateToken,
    ListAccounts,
    ListAccountRoles,
    GetRoleCredentials,
    Logout,
}

impl Sso {
    pub fn method(self) -> Method {
        match self {
            Self::ListAccounts | Self::ListAccountRoles | Self::GetRoleCredentials => Method::GET,
            _ => Method::POST,
        }
    }

    /// Whether the action belongs to `sso-oidc`, whose errors have another form than those of
    /// `sso`.
    pub fn is_of_oidc(self) -> bool {
        matches!(
            self,
            Self::RegisterClient | Self::StartDevice | Self::CreateToken
        )
    }
}

/// An endpoint of OAuth 2.0 for sign-ins, besides the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuth {
    /// The metadata of the broker as an authorization server (RFC 8414).
    Metadata,
    /// Begins a device flow (RFC 8628).
    DeviceAuthorization,
    /// Ends the tokens of a program (RFC 7009).
    Revocation,
}

/// The path of the OAuth 2.0 token endpoint.
pub const TOKEN: &str = "/oauth2/token";
/// The path of the OpenID Connect provider metadata (OpenID Connect Discovery 1.0 section 4).
pub const PROVIDER_CONFIGURATION: &str = "/.well-known/openid-configuration";
/// The path of the key set, which the provider metadata names.
pub const KEY_SET: &str = "/.well-known/jwks.json";
/// The path of the authorization server metadata (RFC 8414 section 3).
pub const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";
/// The path of the page on which a person approves a program (RFC 6749 section 3.1).
pub const AUTHORIZE: &str = "/oauth2/authorize";
/// The path of the device authorization endpoint (RFC 8628 section 3.1).
pub const DEVICE_AUTHORIZATION: &str = "/oauth2/device_authorization";
/// The path of the revocation endpoint (RFC 7009 section 2).
pub const REVOCATION: &str = "/oauth2/revoke";
/// The path of the metadata of the broker as a SAML service provider.
pub const SAML_METADATA: &str = METADATA_PATH;

/// The path of the AuthZEN Authorization API 1.0 for a single request, relative to the URL of the
/// policy decision point.
pub const ACCESS_EVALUATION: &str = "/access/v1/evaluation";
pub const ACCESS_EVALUATIONS: &str = "/access/v1/evaluations";
/// The path of OpenStack Keystone's tokens (Identity API v3), which object stores call.
pub const KEYSTONE_TOKENS: &str = "/v3/auth/tokens";
pub const KEYSTONE_S3_TOKENS: &str = "/v3/s3tokens";
/// The path of the S3 Signer API of Apache Iceberg. It is the default of Iceberg's clients.
pub const S3_SIGNER: &str = "/v1/aws/s3/sign";
const KEYSTONE_USERS: &str = "/v3/users/";
/// The path of the metadata of a policy decision point. If the decision point's URL has a path,
/// that path follows.
pub const DECISION_POINT: &str = "/.well-known/authzen-configuration";

/// Returns the interface that serves an HTTP request with this path.
pub fn http(path: &str) -> Http {
    match path {
        TOKEN => Http::TokenExchange,
        PROVIDER_CONFIGURATION => Http::ProviderConfiguration,
        KEY_SET => Http::KeySet,
        SAML_METADATA => Http::SamlMetadata,
        AUTHORIZATION_SERVER => Http::SignIn(OAuth::Metadata),
        DEVICE_AUTHORIZATION => Http::SignIn(OAuth::DeviceAuthorization),
        REVOCATION => Http::SignIn(OAuth::Revocation),
        "/client/register" => Http::Sso(Sso::RegisterClient),
        "/device_authorization" => Http::Sso(Sso::StartDevice),
        "/token" => Http::Sso(Sso::CreateToken),
        "/assignment/accounts" => Http::Sso(Sso::ListAccounts),
        "/assignment/roles" => Http::Sso(Sso::ListAccountRoles),
        "/federation/credentials" => Http::Sso(Sso::GetRoleCredentials),
        "/logout" => Http::Sso(Sso::Logout),
        ACCESS_EVALUATION => Http::AccessEvaluation,
        ACCESS_EVALUATIONS => Http::AccessEvaluations,
        DECISION_POINT => Http::DecisionPoint,
        KEYSTONE_TOKENS => Http::KeystoneTokens,
        KEYSTONE_S3_TOKENS => Http::KeystoneS3Tokens,
        S3_SIGNER => Http::S3Signer,
        path if path.starts_with(KEYSTONE_USERS) => Http::KeystoneCredentials,
        path if is_portal(path) => Http::Portal,
        _ => Http::Query,
    }
}

/// Returns whether a path belongs to the pages for people. This includes the addresses to which
/// identity providers send their answers.
pub fn is_portal(path: &str) -> bool {
    matches!(
        path,
        "/portal"
            | "/sign-in"
            | "/sign-out"
            | "/signed-out"
            | "/device"
            | "/device/decide"
            | "/authorize"
            | "/oauth2/authorize"
            | "/saml/acs"
    ) || ["/portal/", "/sign-in/", "/saml/acs/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Returns whether the Query protocol serves a path: `/` or `//`. The latter is accepted, because
/// servers that replay a proof of identity append the signed path `/` to a base URL that already
/// ends with a slash.
pub fn is_query(path: &str) -> bool {
    matches!(path, "/" | "//")
}

/// The service that a gRPC call names in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    /// The service that issues credentials.
    SecurityTokenService,
    /// The service with which administrators list and end the sessions of an account.
    SessionAdministration,
    /// The service for programs that accept sessions or give them to others.
    Relying,
    Health,
    Reflection,
    /// The older version of gRPC server reflection, which most tools still use.
    ReflectionAlpha,
    /// A service that the broker does not have, so that the call is refused.
    Unknown,
}

/// Splits the path of a gRPC call, `/SERVICE/METHOD`, into the service and the method.
pub fn grpc(path: &str) -> (Grpc, &str) {
    let rest = path.strip_prefix('/').unwrap_or_default();
    let (service, method) = rest.split_once('/').unwrap_or((rest, ""));
    let service = match service {
        api::SERVICE => Grpc::SecurityTokenService,
        api::ADMINISTRATION => Grpc::SessionAdministration,
        api::RELYING => Grpc::Relying,
        "grpc.health.v1.Health" => Grpc::Health,
        "grpc.reflection.v1.ServerReflection" => Grpc::Reflection,
        "grpc.reflection.v1alpha.ServerReflection" => Grpc::ReflectionAlpha,
        _ => Grpc::Unknown,
    };
    (service, method)
}

/// Returns the purpose of a gRPC call. Capacity is reserved for revocations, so that they are
/// served even under full load.
pub fn purpose(path: &str) -> Purpose {
    match path {
        api::REVOCATION => Purpose::Revocation,
        _ => Purpose::Call,
    }
}

/// An endpoint of the listener for operators and monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `/healthz`: answers as long as the process runs.
    Health,
    /// `/readyz`: answers whether the broker can issue credentials safely.
    Readiness,
    /// `/metrics`: the metrics in Prometheus's text format.
    Metrics,
    Unknown,
}

/// Returns the endpoint of the operators' listener with this path.
pub fn operator(path: &str) -> Operator {
    match path {
        "/healthz" => Operator::Health,
        "/readyz" => Operator::Readiness,
        "/metrics" => Operator::Metrics,
        _ => Operator::Unknown,
    }
}

/// An endpoint of the listener for proxies in front of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// Envoy's external authorization, which asks whether a request is allowed.
    EnvoyCheck,
    /// `/s3/authorize`: nginx, Traefik and Caddy ask here whether a request is allowed.
    Authorize,
    /// `/s3/store-refused`: the answer that Traefik gives a client instead of the store's own
    /// refusal.
    StoreRefused,
    /// An endpoint for a gateway that checks signatures itself.
    Gateway(GatewayCall),
    Unknown,
}

/// The private endpoints by which the S3 gateway versitygw asks its IAM service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayCall {
    DeriveSigningKey,
    EvaluatePolicy,
    ResolveIdentity,
}

/// Returns the endpoint of the proxies' listener with this path.
pub fn proxies(path: &str) -> Proxies {
    match path {
        "/envoy.service.auth.v3.Authorization/Check" => Proxies::EnvoyCheck,
        "/s3/authorize" => Proxies::Authorize,
        "/s3/store-refused" => Proxies::StoreRefused,
        "/private/derive-signing-key" => Proxies::Gateway(GatewayCall::DeriveSigningKey),
        "/private/evaluate-policy" => Proxies::Gateway(GatewayCall::EvaluatePolicy),
        "/private/resolve-identity" => Proxies::Gateway(GatewayCall::ResolveIdentity),
        _ => Proxies::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_path_is_somebodys() {
        assert_eq!(http("/oauth2/token"), Http::TokenExchange);
        assert_eq!(http("/saml/metadata"), Http::SamlMetadata);
        assert_eq!(http("/token"), Http::Sso(Sso::CreateToken));
        assert_eq!(http("/oauth2/revoke"), Http::SignIn(OAuth::Revocation));
        assert_eq!(http("/access/v1/evaluation"), Http::AccessEvaluation);
        for path in [
            "/",
            "//",
            "/access/v1",
            "/oauth2/token/",
            "/OAuth2/token",
            "/x",
            "",
        ] {
            assert_eq!(http(path), Http::Query, "{path}");
        }
        assert!(is_query("/") && is_query("//") && !is_query("///") && !is_query(""));
    }

    #[test]
    fn a_call_has_a_service_and_a_method() {
        let service = api::SERVICE;
        for (path, expected) in [
            (
                format!("/{service}/AssumeRole"),
                (Grpc::SecurityTokenService, "AssumeRole"),
            ),
            (format!("/{service}"), (Grpc::SecurityTokenService, "")),
            (
                format!("/{service}/a/b"),
                (Grpc::SecurityTokenService, "a/b"),
            ),
            (format!("//{service}/a"), (Grpc::Unknown, "")),
            (format!("{service}/a"), (Grpc::Unknown, "")),
            (
                "/grpc.health.v1.Health/Check".to_owned(),
                (Grpc::Health, "Check"),
            ),
            ("/".to_owned(), (Grpc::Unknown, "")),
        ] {
            let found = grpc(&path);
            assert_eq!(found.0, expected.0, "{path}");
            if found.0 != Grpc::Unknown {
                assert_eq!(found.1, expected.1, "{path}");
            }
        }
    }
}
