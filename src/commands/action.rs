//! The names of changes in the feed. A change has the name of the action that requested it, with two exceptions: an
//! import is not an action of the IAM API, and a deletion is named after the kind of resource that it deletes, because
//! the store recognizes by that name that the row is gone.

use crate::directory::resource::ResourceKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Update,
    Delete,
}

/// The name of a change: `CreateRole` for `Create` and a role.
pub(super) fn named(verb: Verb, kind: ResourceKind) -> &'static str {
    macro_rules! names {
        ($noun:literal) => {
            match verb {
                Verb::Create => concat!("Create", $noun),
                Verb::Update => concat!("Update", $noun),
                Verb::Delete => concat!("Delete", $noun),
            }
        };
    }
    match kind {
        ResourceKind::Account => names!("Account"),
        ResourceKind::Policy => names!("Policy"),
        ResourceKind::Group => names!("Group"),
        ResourceKind::User => names!("User"),
        ResourceKind::Role => names!("Role"),
        ResourceKind::InstanceProfile => names!("InstanceProfile"),
        ResourceKind::AccessKey => names!("AccessKey"),
        ResourceKind::MfaDevice => names!("VirtualMFADevice"),
        ResourceKind::LoginProfile => names!("LoginProfile"),
        ResourceKind::OidcProvider => names!("OpenIDConnectProvider"),
        ResourceKind::SamlProvider => names!("SAMLProvider"),
        ResourceKind::Certificate => names!("Certificate"),
        ResourceKind::Association => names!("WorkloadAssociation"),
        ResourceKind::BucketPolicy => names!("BucketPolicy"),
        ResourceKind::Organization => names!("Organization"),
    }
}

/// The name under which a change of this kind of resource is recorded if the resource still exists afterwards. This
/// matters for an action that deletes one resource and changes others: the others must not be recorded as deleted.
pub(super) fn kept(action: &'static str, kind: ResourceKind) -> &'static str {
    let is_deletion = ResourceKind::ALL
        .iter()
        .any(|kind| named(Verb::Delete, *kind) == action);
    match is_deletion {
        true => named(Verb::Update, kind),
        false => action,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deletion_is_called_one() {
        assert_eq!(kept("TagUser", ResourceKind::User), "TagUser");
        assert_eq!(
            kept("DeleteUserPolicy", ResourceKind::User),
            "DeleteUserPolicy"
        );
        assert_eq!(kept("DeleteUser", ResourceKind::Group), "UpdateGroup");
        assert_eq!(
            named(Verb::Delete, ResourceKind::MfaDevice),
            "DeleteVirtualMFADevice"
        );
    }
}
