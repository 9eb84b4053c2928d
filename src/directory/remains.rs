//! What keeps a resource from being deleted: IAM API Reference, "DeleteUser", "DeleteGroup",
//! "DeleteRole", "DeletePolicy", "DeleteInstanceProfile".

use super::name::ResourceKind;

/// Something that a resource has, or that refers to it, and that must be removed before the
/// resource can be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Inline policies that are embedded in the user, group or role.
    InlinePolicies,
    /// Managed policies that are attached to the user, group or role.
    AttachedPolicies,
    /// Groups of which the user is a member.
    Groups,
    /// The role in an instance profile.
    Role,
    /// Versions of a managed policy other than the default one.
    Versions,
    /// Resources of this kind that refer to the resource.
    Referrers(ResourceKind),
}

impl Remains {
    /// Tells an operator what to remove, as part of a sentence.
    pub fn instruction(self) -> &'static str {
        match self {
            Self::InlinePolicies | Self::AttachedPolicies => "delete or detach its policies first",
            Self::Groups => "remove the user from its groups first",
            Self::Role => "remove its role first",
            Self::Versions => "delete its other versions first",
            Self::Referrers(_) => "delete the entries that refer to this one first",
        }
    }

    /// AWS's message when a resource of the kind `of` cannot be deleted because of this.
    pub fn at_aws(self, of: ResourceKind) -> String {
        let first = match self {
            Self::Versions => {
                return "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.".to_owned();
            }
            Self::Referrers(_) if of == ResourceKind::Policy => {
                return "Cannot delete a policy attached to entities.".to_owned();
            }
            Self::InlinePolicies => "delete policies",
            Self::AttachedPolicies => "detach all policies",
            Self::Groups | Self::Referrers(ResourceKind::User) => "remove users from group",
            Self::Role | Self::Referrers(ResourceKind::InstanceProfile) => {
                "remove roles from instance profile"
            }
            Self::Referrers(ResourceKind::AccessKey) => "delete access keys",
            Self::Referrers(ResourceKind::LoginProfile) => "delete login profile",
            Self::Referrers(ResourceKind::MfaDevice) => "delete MFA device",
            Self::Referrers(_) => "remove referenced objects",
        };
        format!("Cannot delete entity, must {first} first.")
    }

    /// The kind of policies that a user, group or role still has: inline ones first, then attached
    /// ones. `None` if it has neither.
    pub(super) fn policies(has_inline: bool, has_attached: bool) -> Option<Self> {
        if has_inline {
            return Some(Self::InlinePolicies);
        }
        has_attached.then_some(Self::AttachedPolicies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_read_awss_words() {
        use ResourceKind::{
            AccessKey, Group, InstanceProfile, LoginProfile, MfaDevice, Policy, Role, User,
        };
        for (remains, of, words) in [
            (Remains::InlinePolicies, User, "delete policies"),
            (Remains::AttachedPolicies, Role, "detach all policies"),
            (Remains::Groups, User, "remove users from group"),
            (Remains::Referrers(User), Group, "remove users from group"),
            (Remains::Referrers(AccessKey), User, "delete access keys"),
            (
                Remains::Referrers(LoginProfile),
                User,
                "delete login profile",
            ),
            (Remains::Referrers(MfaDevice), User, "delete MFA device"),
            (
                Remains::Referrers(InstanceProfile),
                Role,
                "remove roles from instance profile",
            ),
            (
                Remains::Role,
                InstanceProfile,
                "remove roles from instance profile",
            ),
            (Remains::Referrers(Role), User, "remove referenced objects"),
        ] {
            let sentence = format!("Cannot delete entity, must {words} first.");
            assert_eq!(remains.at_aws(of), sentence);
        }
        assert_eq!(
            Remains::Referrers(Role).at_aws(Policy),
            "Cannot delete a policy attached to entities."
        );
    }
}
