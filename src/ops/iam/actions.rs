//! The supported actions of the IAM API. The Query interface dispatches on this list.

use super::absent::{
    DeleteServerCertificate, DeleteServiceSpecificCredential, DeleteSigningCertificate,
    DeleteSshPublicKey, GetServerCertificate, GetSshPublicKey, ListServerCertificateTags,
    ListServerCertificates, ListServiceSpecificCredentials, ListSigningCertificates,
    ListSshPublicKeys, ResetServiceSpecificCredential, TagServerCertificate,
    UntagServerCertificate, UpdateServerCertificate, UpdateServiceSpecificCredential,
    UpdateSigningCertificate, UpdateSshPublicKey,
};
use super::access_keys::{
    CreateAccessKey, DeleteAccessKey, GetAccessKeyLastUsed, ListAccessKeys, UpdateAccessKey,
};
use super::account_alias::{CreateAccountAlias, DeleteAccountAlias, ListAccountAliases};
use super::account_details::GetAccountAuthorizationDetails;
use super::account_summary::GetAccountSummary;
use super::action::Action;
use super::attachments::{
    AttachGroupPolicy, AttachRolePolicy, AttachUserPolicy, DetachGroupPolicy, DetachRolePolicy,
    DetachUserPolicy, ListAttachedGroupPolicies, ListAttachedRolePolicies,
    ListAttachedUserPolicies, ListEntitiesForPolicy,
};
use super::boundaries::{
    DeleteRolePermissionsBoundary, DeleteUserPermissionsBoundary, PutRolePermissionsBoundary,
    PutUserPermissionsBoundary,
};
use super::context_keys::{GetContextKeysForCustomPolicy, GetContextKeysForPrincipalPolicy};
use super::credential_report::{GenerateCredentialReport, GetCredentialReport};
use super::groups::{CreateGroup, DeleteGroup, GetGroup, ListGroups, UpdateGroup};
use super::inline_policies::{
    DeleteGroupPolicy, DeleteRolePolicy, DeleteUserPolicy, GetGroupPolicy, GetRolePolicy,
    GetUserPolicy, ListGroupPolicies, ListRolePolicies, ListUserPolicies, PutGroupPolicy,
    PutRolePolicy, PutUserPolicy,
};
use super::instance_profiles::{
    AddRoleToInstanceProfile, CreateInstanceProfile, DeleteInstanceProfile, GetInstanceProfile,
    ListInstanceProfiles, ListInstanceProfilesForRole, RemoveRoleFromInstanceProfile,
};
use super::login_profiles::{
    ChangePassword, CreateLoginProfile, DeleteLoginProfile, GetLoginProfile, UpdateLoginProfile,
};
use super::memberships::{AddUserToGroup, ListGroupsForUser, RemoveUserFromGroup};
use super::mfa_devices::{
    CreateVirtualMfaDevice, DeactivateMfaDevice, DeleteVirtualMfaDevice, EnableMfaDevice,
    ListMfaDevices, ListVirtualMfaDevices, ResyncMfaDevice,
};
use super::oidc_providers::{
    AddClientIdToOpenIdConnectProvider, CreateOpenIdConnectProvider, DeleteOpenIdConnectProvider,
    GetOpenIdConnectProvider, ListOpenIdConnectProviders, RemoveClientIdFromOpenIdConnectProvider,
    UpdateOpenIdConnectProviderThumbprint,
};
use super::password_policy::{
    DeleteAccountPasswordPolicy, GetAccountPasswordPolicy, UpdateAccountPasswordPolicy,
};
use super::policies::{
    CreatePolicy, CreatePolicyVersion, DeletePolicy, DeletePolicyVersion, GetPolicy,
    GetPolicyVersion, ListPolicies, ListPolicyVersions, SetDefaultPolicyVersion,
};
use super::roles::{
    CreateRole, DeleteRole, GetRole, ListRoles, UpdateAssumeRolePolicy, UpdateRole,
    UpdateRoleDescription,
};
use super::saml_providers::{
    CreateSamlProvider, DeleteSamlProvider, GetSamlProvider, ListSamlProviders, UpdateSamlProvider,
};
use super::simulation::{SimulateCustomPolicy, SimulatePrincipalPolicy};
use super::tags::{
    ListInstanceProfileTags, ListMfaDeviceTags, ListOidcProviderTags, ListPolicyTags, ListRoleTags,
    ListSamlProviderTags, ListUserTags, TagInstanceProfile, TagMfaDevice, TagOidcProvider,
    TagPolicy, TagRole, TagSamlProvider, TagUser, UntagInstanceProfile, UntagMfaDevice,
    UntagOidcProvider, UntagPolicy, UntagRole, UntagSamlProvider, UntagUser,
};
use super::users::{CreateUser, DeleteUser, GetUser, ListUsers, UpdateUser};

/// Code that is generic over actions. [`visit`] calls it with the action of a given name.
pub trait Visitor {
    type Output;

    /// Runs the code for the action that has the name given to [`visit`].
    fn visit<A: Action>(self) -> Self::Output;
}

macro_rules! actions {
    ($($action:ident),+ $(,)?) => {
        #[cfg(any(test, feature = "internals"))]
        pub const NAMES: &[&str] = &[$($action::NAME),+];

        /// Calls the visitor with the action of this name.
        ///
        /// # Errors
        /// Returns the visitor if there is no action of this name.
        pub fn visit<V: Visitor>(name: &str, visitor: V) -> Result<V::Output, V> {
            match name {
                $($action::NAME => Ok(visitor.visit::<$action>()),)+
                _ => Err(visitor),
            }
        }
    };
}

actions! {
    AddClientIdToOpenIdConnectProvider,
    AddRoleToInstanceProfile,
    AddUserToGroup,
    AttachGroupPolicy,
    AttachRolePolicy,
    AttachUserPolicy,
    ChangePassword,
    CreateAccessKey,
    CreateAccountAlias,
    CreateGroup,
    CreateInstanceProfile,
    CreateLoginProfile,
    CreateOpenIdConnectProvider,
    CreatePolicy,
    CreatePolicyVersion,
    CreateRole,
    CreateSamlProvider,
    CreateUser,
    CreateVirtualMfaDevice,
    DeactivateMfaDevice,
    DeleteAccessKey,
    DeleteAccountAlias,
    DeleteAccountPasswordPolicy,
    DeleteGroup,
    DeleteGroupPolicy,
    DeleteInstanceProfile,
    DeleteLoginProfile,
    DeleteOpenIdConnectProvider,
    DeletePolicy,
    DeletePolicyVersion,
    DeleteRole,
    DeleteRolePermissionsBoundary,
    DeleteRolePolicy,
    DeleteSamlProvider,
    DeleteServerCertificate,
    DeleteServiceSpecificCredential,
    DeleteSigningCertificate,
    DeleteSshPublicKey,
    DeleteUser,
    DeleteUserPermissionsBoundary,
    DeleteUserPolicy,
    DeleteVirtualMfaDevice,
    DetachGroupPolicy,
    DetachRolePolicy,
    DetachUserPolicy,
    EnableMfaDevice,
    GenerateCredentialReport,
    GetAccessKeyLastUsed,
    GetAccountAuthorizationDetails,
    GetAccountPasswordPolicy,
    GetAccountSummary,
    GetContextKeysForCustomPolicy,
    GetContextKeysForPrincipalPolicy,
    GetCredentialReport,
    GetGroup,
    GetGroupPolicy,
    GetInstanceProfile,
    GetLoginProfile,
    GetOpenIdConnectProvider,
    GetPolicy,
    GetPolicyVersion,
    GetRole,
    GetRolePolicy,
    GetSamlProvider,
    GetServerCertificate,
    GetSshPublicKey,
    GetUser,
    GetUserPolicy,
    ListAccessKeys,
    ListAccountAliases,
    ListAttachedGroupPolicies,
    ListAttachedRolePolicies,
    ListAttachedUserPolicies,
    ListEntitiesForPolicy,
    ListGroupPolicies,
    ListGroups,
    ListGroupsForUser,
    ListInstanceProfileTags,
    ListInstanceProfiles,
    ListInstanceProfilesForRole,
    ListMfaDeviceTags,
    ListMfaDevices,
    ListOidcProviderTags,
    ListOpenIdConnectProviders,
    ListPolicies,
    ListPolicyTags,
    ListPolicyVersions,
    ListRolePolicies,
    ListRoleTags,
    ListRoles,
    ListSamlProviderTags,
    ListSamlProviders,
    ListServerCertificateTags,
    ListServerCertificates,
    ListServiceSpecificCredentials,
    ListSigningCertificates,
    ListSshPublicKeys,
    ListUserPolicies,
    ListUserTags,
    ListUsers,
    ListVirtualMfaDevices,
    PutGroupPolicy,
    PutRolePermissionsBoundary,
    PutRolePolicy,
    PutUserPermissionsBoundary,
    PutUserPolicy,
    RemoveClientIdFromOpenIdConnectProvider,
    RemoveRoleFromInstanceProfile,
    RemoveUserFromGroup,
    ResetServiceSpecificCredential,
    ResyncMfaDevice,
    SetDefaultPolicyVersion,
    SimulateCustomPolicy,
    SimulatePrincipalPolicy,
    TagInstanceProfile,
    TagMfaDevice,
    TagOidcProvider,
    TagPolicy,
    TagRole,
    TagSamlProvider,
    TagServerCertificate,
    TagUser,
    UntagInstanceProfile,
    UntagMfaDevice,
    UntagOidcProvider,
    UntagPolicy,
    UntagRole,
    UntagSamlProvider,
    UntagServerCertificate,
    UntagUser,
    UpdateAccessKey,
    UpdateAccountPasswordPolicy,
    UpdateAssumeRolePolicy,
    UpdateGroup,
    UpdateLoginProfile,
    UpdateOpenIdConnectProviderThumbprint,
    UpdateRole,
    UpdateRoleDescription,
    UpdateSamlProvider,
    UpdateServerCertificate,
    UpdateServiceSpecificCredential,
    UpdateSigningCertificate,
    UpdateSshPublicKey,
    UpdateUser,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name;

    impl Visitor for Name {
        type Output = &'static str;

        fn visit<A: Action>(self) -> &'static str {
            A::NAME
        }
    }

    #[test]
    fn each_action_has_a_name_of_its_own() {
        for name in NAMES {
            assert_eq!(visit(name, Name).ok(), Some(*name));
            assert_eq!(NAMES.iter().filter(|n| *n == name).count(), 1, "{name}");
        }
        assert!(visit("Nonsense", Name).is_err());
    }
}
