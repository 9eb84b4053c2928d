//! The kinds of policy documents, and the rules that depend on the kind: size limits and allowed
//! elements.

/// The maximum size of any document in bytes, including white space.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// The purpose of a policy document. The kind determines which elements it may have and how long it
/// may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// A policy attached to or embedded in a user, group or role. At most 10,240 characters.
    Identity,
    /// One of AWS's own managed policies, as found in exports. Customer quotas do not apply to
    /// them: version 56 of `AWSSupportServiceRolePolicy`, which every account has, had 135,200
    /// characters.
    AwsManaged,
    /// A permissions boundary. At most 10,240 characters.
    Boundary,
    /// A policy passed with a request for a session. At most 2,048 characters, including white
    /// space.
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

impl PolicyKind {
    /// The maximum length of a document of this kind in characters. White space counts only in a
    /// session policy, whose limit is that of the request parameter.
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

    /// Whether white space counts towards [`PolicyKind::max_characters`].
    pub(super) fn counts_white_space(self) -> bool {
        self == Self::Session
    }

    /// Whether statements of this kind have a Principal element.
    pub(super) fn names_principals(self) -> bool {
        matches!(self, Self::Trust | Self::Resource | Self::ResourceControl)
    }

    /// Whether an ARN in Resource may leave out the parts after the service. IAM accepts such ARNs
    /// in the policies of principals; STS refuses them in a session policy.
    pub(super) fn may_abbreviate_arns(self) -> bool {
        matches!(
            self,
            Self::Identity | Self::AwsManaged | Self::Boundary | Self::ServiceControl
        )
    }
}
