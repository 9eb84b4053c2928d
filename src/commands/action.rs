//! The names of IAM's actions for commands, as the change feed records them.

use super::Edit;
use crate::directory::resource::Kind;

/// `Create` and `role` are `CreateRole`.
pub(super) fn action(verb: &'static str, kind: Kind) -> &'static str {
    match (verb, kind) {
        ("Create", Kind::Account) => "CreateAccount",
        ("Create", Kind::Policy) => "CreatePolicy",
        ("Create", Kind::Group) => "CreateGroup",
        ("Create", Kind::User) => "CreateUser",
        ("Create", Kind::Role) => "CreateRole",
        ("Create", Kind::InstanceProfile) => "CreateInstanceProfile",
        ("Create", Kind::AccessKey) => "CreateAccessKey",
        ("Create", Kind::MfaDevice) => "CreateVirtualMFADevice",
        ("Create", Kind::OidcProvider) => "CreateOpenIDConnectProvider",
        ("Create", Kind::SamlProvider) => "CreateSAMLProvider",
        ("Delete", Kind::Account) => "DeleteAccount",
        ("Delete", Kind::Policy) => "DeletePolicy",
        ("Delete", Kind::Group) => "DeleteGroup",
        ("Delete", Kind::User) => "DeleteUser",
        ("Delete", Kind::Role) => "DeleteRole",
        ("Delete", Kind::InstanceProfile) => "DeleteInstanceProfile",
        ("Delete", Kind::AccessKey) => "DeleteAccessKey",
        ("Delete", Kind::MfaDevice) => "DeleteVirtualMFADevice",
        ("Delete", Kind::OidcProvider) => "DeleteOpenIDConnectProvider",
        ("Delete", Kind::SamlProvider) => "DeleteSAMLProvider",
        (_, Kind::Account) => "UpdateAccount",
        (_, Kind::Policy) => "UpdatePolicy",
        (_, Kind::Group) => "UpdateGroup",
        (_, Kind::User) => "UpdateUser",
        (_, Kind::Role) => "UpdateRole",
        (_, Kind::InstanceProfile) => "UpdateInstanceProfile",
        (_, Kind::AccessKey) => "UpdateAccessKey",
        (_, Kind::MfaDevice) => "UpdateVirtualMFADevice",
        (_, Kind::OidcProvider) => "UpdateOpenIDConnectProvider",
        (_, Kind::SamlProvider) => "UpdateSAMLProvider",
    }
}

impl Edit {
    /// The action of the IAM API.
    pub(super) fn action(&self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::AttachPolicy(_), Kind::User) => "AttachUserPolicy",
            (Self::AttachPolicy(_), Kind::Group) => "AttachGroupPolicy",
            (Self::AttachPolicy(_), _) => "AttachRolePolicy",
            (Self::DetachPolicy(_), Kind::User) => "DetachUserPolicy",
            (Self::DetachPolicy(_), Kind::Group) => "DetachGroupPolicy",
            (Self::DetachPolicy(_), _) => "DetachRolePolicy",
            (Self::PutPolicy(..), Kind::User) => "PutUserPolicy",
            (Self::PutPolicy(..), Kind::Group) => "PutGroupPolicy",
            (Self::PutPolicy(..), _) => "PutRolePolicy",
            (Self::DeletePolicy(_), Kind::User) => "DeleteUserPolicy",
            (Self::DeletePolicy(_), Kind::Group) => "DeleteGroupPolicy",
            (Self::DeletePolicy(_), _) => "DeleteRolePolicy",
            (Self::PutPermissionsBoundary(_), Kind::User) => "PutUserPermissionsBoundary",
            (Self::PutPermissionsBoundary(_), _) => "PutRolePermissionsBoundary",
            (Self::DeletePermissionsBoundary, Kind::User) => "DeleteUserPermissionsBoundary",
            (Self::DeletePermissionsBoundary, _) => "DeleteRolePermissionsBoundary",
            (Self::Tag(_), Kind::User) => "TagUser",
            (Self::Tag(_), Kind::Role) => "TagRole",
            (Self::Tag(_), Kind::Policy) => "TagPolicy",
            (Self::Tag(_), _) => "TagResource",
            (Self::Untag(_), Kind::User) => "UntagUser",
            (Self::Untag(_), Kind::Role) => "UntagRole",
            (Self::Untag(_), Kind::Policy) => "UntagPolicy",
            (Self::Untag(_), _) => "UntagResource",
            (Self::AddToGroup(_), _) => "AddUserToGroup",
            (Self::RemoveFromGroup(_), _) => "RemoveUserFromGroup",
            (Self::UpdateAssumeRolePolicy(_), _) => "UpdateAssumeRolePolicy",
            (Self::UpdateDescription(_), Kind::Policy) => "UpdatePolicy",
            (Self::UpdateDescription(_) | Self::UpdateMaxSessionDuration(_), _) => "UpdateRole",
            (Self::Rename { .. }, Kind::Group) => "UpdateGroup",
            (Self::Rename { .. }, _) => "UpdateUser",
            (Self::CreatePolicyVersion(..), _) => "CreatePolicyVersion",
            (Self::DeletePolicyVersion(_), _) => "DeletePolicyVersion",
            (Self::SetDefaultPolicyVersion(_), _) => "SetDefaultPolicyVersion",
            (Self::SetActive(_), _) => "UpdateAccessKey",
            (Self::AddRole(_), _) => "AddRoleToInstanceProfile",
            (Self::RemoveRole(_), _) => "RemoveRoleFromInstanceProfile",
            (Self::SetAlias(Some(_)), _) => "CreateAccountAlias",
            (Self::SetAlias(None), _) => "DeleteAccountAlias",
            (Self::AssignMfaDevice(_), _) => "EnableMFADevice",
            (Self::ReleaseMfaDevice, _) => "DeactivateMFADevice",
        }
    }
}
