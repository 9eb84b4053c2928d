//! The one table of ways in: which path of the service's listener is whose.
//!
//! Every host name that the broker goes by has the same paths; a signature says which of them it
//! was made for.

use crate::admission::Purpose;
use crate::api;

/// Whose an HTTP request is that is no gRPC call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    /// AWS's Query protocol, and whatever is nobody's: it is refused in the protocol of its client.
    Query,
    /// OAuth 2.0 Token Exchange.
    TokenExchange,
    /// The configuration of the broker as an OpenID Connect provider.
    ProviderConfiguration,
    /// The keys of the broker as an OpenID Connect provider.
    KeySet,
}

/// The path of the OAuth 2.0 token endpoint.
pub const TOKEN: &str = "/oauth2/token";
/// The path of the OpenID Connect provider configuration: OpenID Connect Discovery 1.0 section 4.
pub const PROVIDER_CONFIGURATION: &str = "/.well-known/openid-configuration";
/// The path of the key set that the provider configuration names.
pub const KEY_SET: &str = "/.well-known/jwks.json";

/// Whose an HTTP request is.
pub fn http(path: &str) -> Http {
    match path {
        TOKEN => Http::TokenExchange,
        PROVIDER_CONFIGURATION => Http::ProviderConfiguration,
        KEY_SET => Http::KeySet,
        _ => Http::Query,
    }
}

/// Whether a path is that of the Query protocol. `//` counts as `/`: servers that replay a proof of
/// identity append the signed path `/` to a base URL that already ends with a slash.
pub fn is_query(path: &str) -> bool {
    matches!(path, "/" | "//")
}

/// The service that a gRPC call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    /// The API for callers.
    SecurityTokenService,
    /// The API for administrators.
    SessionAdministration,
    /// gRPC's own health checks.
    Health,
    /// gRPC's own server reflection.
    Reflection,
    /// The version of it that most tools still ask for.
    ReflectionAlpha,
    /// None that is here.
    Unknown,
}

/// The service and the method of a gRPC call, whose path is `/SERVICE/METHOD`.
pub fn grpc(path: &str) -> (Grpc, &str) {
    let rest = path.strip_prefix('/').unwrap_or_default();
    let (service, method) = rest.split_once('/').unwrap_or((rest, ""));
    let service = match service {
        api::SERVICE => Grpc::SecurityTokenService,
        api::ADMINISTRATION => Grpc::SessionAdministration,
        "grpc.health.v1.Health" => Grpc::Health,
        "grpc.reflection.v1.ServerReflection" => Grpc::Reflection,
        "grpc.reflection.v1alpha.ServerReflection" => Grpc::ReflectionAlpha,
        _ => Grpc::Unknown,
    };
    (service, method)
}

/// For which calls there is room when there is none for others.
pub fn purpose(path: &str) -> Purpose {
    match path {
        api::REVOCATION => Purpose::Revocation,
        _ => Purpose::Call,
    }
}

/// What the listener for operators answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Whether the process lives.
    Health,
    /// Whether it can issue safely.
    Readiness,
    /// What monitoring reads.
    Metrics,
    /// Nothing.
    Unknown,
}

/// Whose a request to the listener for operators is.
pub fn operator(path: &str) -> Operator {
    match path {
        "/healthz" => Operator::Health,
        "/readyz" => Operator::Readiness,
        "/metrics" => Operator::Metrics,
        _ => Operator::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_path_is_somebodys() {
        assert_eq!(http("/oauth2/token"), Http::TokenExchange);
        for path in ["/", "//", "/oauth2/token/", "/OAuth2/token", "/x", ""] {
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
