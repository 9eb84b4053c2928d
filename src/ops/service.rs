//! Whose action a request asks for.

/// Whose actions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The security token service.
    Sts,
    /// The administration of identities.
    Iam,
    /// What AWS has no actions for.
    Brevet,
}

impl Service {
    /// As policies name it.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
            Self::Brevet => "brevet",
        }
    }

    /// As a signature's scope names it.
    pub(super) fn scope(self) -> &'static str {
        match self {
            Self::Sts | Self::Brevet => "sts",
            Self::Iam => "iam",
        }
    }
}
