//! The gRPC API as `proto/` defines it: generated types, descriptors and names. Knows nothing of the
//! broker, so that a program with the client in it needs nothing else.

/// `brevet.sts`
pub mod sts {
    /// The package `brevet.sts.v1`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("brevet.sts.v1");
    }
}

/// The descriptors of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// The full name of the service for callers.
pub const SERVICE: &str = "brevet.sts.v1.SecurityTokenService";
/// The full name of the service for administrators.
pub const ADMINISTRATION: &str = "brevet.sts.v1.SessionAdministration";
/// The path of RevokeSessions, for which there is room when there is none for other calls.
pub const REVOCATION: &str = "/brevet.sts.v1.SessionAdministration/RevokeSessions";
