//! What a policy document is for, and what follows from that: its size and its elements.

/// The longest document of any kind, white space included, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// What a document is for: it decides which elements it may have and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Attached to or embedded in a user, group or role. At most 10,240 characters.
    Identity,
    /// One of AWS's own managed policies, as exports hold them. No quota of a customer's holds for them:
    /// `AWSSupportServiceRolePolicy`, which every account has, had 135,200 characters in version 56.
    AwsManaged,
    /// A permissions boundary. At most 10,240 characters.
    Boundary,
    /// Passed with a request for a session. At most 2,048 characters, white space included.
    Session,
    /// A role's trust policy. At most 8,192 characters.
    Trust,
    /// A policy attached to a resource. At most 20,480 characters.
    Resource,
    /// A service control policy. At most 10,240 characters.
    ServiceControl,
    /// A resource control policy. At most 5,120 characters.
    ResourceControl,
}

impl Kind {
    /// The longest document of this kind, in characters. White space counts only in a session
    /// policy, whose limit is that of the parameter that it is passed in.
    pub fn max_characters(self) -> usize {
        match self {
            Self::AwsManaged => MAX_BYTES,
            Self::Identity | Self::Boundary | Self::ServiceControl => 10_240,
            Self::Session => 2_048,
            Self::Trust => 8_192,
            Self::Resource => 20_480,
            Self::ResourceControl => 5_120,
        }
    }

    /// Whether white space counts towards the limit.
    pub(super) fn counts_white_space(self) -> bool {
        self == Self::Session
    }

    /// Whether its statements have a Principal element.
    pub(super) fn names_principals(self) -> bool {
        matches!(self, Self::Trust | Self::Resource | Self::ResourceControl)
    }

    /// Whether an ARN in Resource may leave out the parts after the service. IAM takes such ARNs in the
    /// policies of principals; STS refuses them in a session policy.
    pub(super) fn may_abbreviate_arns(self) -> bool {
        matches!(
            self,
            Self::Identity | Self::AwsManaged | Self::Boundary | Self::ServiceControl
        )
    }
}
