//! The services that the broker implements, with their names in policies and signatures.

/// The services that share the broker's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Sts,
    Iam,
    /// Brevet's own actions, which have no counterpart in AWS.
    Brevet,
    /// Brevet's own actions for gateways to object stores, which sign these calls for the service `iam`.
    BrevetForGateways,
}

impl Service {
    /// The prefix of the service's actions in policies, such as `sts` in `sts:AssumeRole`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
            Self::Brevet | Self::BrevetForGateways => "brevet",
        }
    }

    /// The name of the service in the credential scope of a signature.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Sts | Self::Brevet => "sts",
            Self::Iam | Self::BrevetForGateways => "iam",
        }
    }
}
