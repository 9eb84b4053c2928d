//! The gRPC API as `proto/` defines it: generated types, descriptors and names. It does not depend
//! on the broker, so that a program can use the client alone.

/// The protobuf packages below `brevet.sts`.
pub mod sts {
    /// The protobuf package `brevet.sts.v1`: the messages and clients of the services that issue credentials and
    /// administer sessions, generated from `proto/`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("brevet.sts.v1");
    }
}

/// The protobuf packages below `brevet.relying`.
pub mod relying {
    /// The protobuf package `brevet.relying.v1`: the messages and client of the service for programs that accept
    /// sessions or hand them out, generated from `proto/`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("brevet.relying.v1");
    }
}

/// The part of Envoy's external authorization service that the broker serves to proxies.
#[cfg(feature = "broker")]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub(crate) mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

/// The encoded `FileDescriptorSet` of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// The full name of the service that issues credentials.
pub const SERVICE: &str = "brevet.sts.v1.SecurityTokenService";
/// The full name of the service for administrators.
pub const ADMINISTRATION: &str = "brevet.sts.v1.SessionAdministration";
/// The full name of the service for programs that accept or hand out sessions.
pub const RELYING: &str = "brevet.relying.v1.Relying";
/// The path of RevokeSessions, for which capacity is reserved.
pub const REVOCATION: &str = "/brevet.sts.v1.SessionAdministration/RevokeSessions";
