//! The supported actions of the IAM API. The Query interface dispatches on this list, and only this
//! file knows all of them.

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
use super::context_keys::{GetContextKeysForCustomPolicy, GetContextKeysForPrincipalPolicy};
use super::inline_policies::{
    DeleteGroupPolicy, DeleteRolePolicy, DeleteUserPolicy, GetGroupPolicy, GetRolePolicy,
    GetUserPolicy, ListGroupPolicies, ListRolePolicies, ListUserPolicies, PutGroupPolicy,
    PutRolePolicy, PutUserPolicy,
};
use super::login_profiles::{
    ChangePassword, CreateLoginProfile, DeleteLoginProfile, GetLoginProfile, UpdateLoginProfile,
};
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
use super::saml_providers::{
    CreateSamlProvider, DeleteSamlProvider, GetSamlProvider, ListSamlProviders, UpdateSamlProvider,
};
use super::simulation::{SimulateCustomPolicy, SimulatePrincipalPolicy};

/// Something that can be done with any action.
pub trait Visitor {
    type Output;

    /// Called with the type of the action that was found.
    fn visit<A: Action>(self) -> Self::Output;
}

macro_rules! actions {
    ($($action:ident),+ $(,)?) => {
        #[cfg(any(test, feature = "internals"))]
        pub const NAMES: &[&str] = &[$($action::NAME),+];

        /// Calls the visitor with the action of this name.
        ///
        /// # Errors
        /// The visitor itself, if there is no such action.
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
    AttachGroupPolicy,
    AttachRolePolicy,
    AttachUserPolicy,
    ChangePassword,
    CreateAccessKey,
    CreateAccountAlias,
    CreateLoginProfile,
    CreateOpenIdConnectProvider,
    CreatePolicy,
    CreatePolicyVersion,
    CreateSamlProvider,
    CreateVirtualMfaDevice,
    DeactivateMfaDevice,
    DeleteAccessKey,
    DeleteAccountAlias,
    DeleteAccountPasswordPolicy,
    DeleteGroupPolicy,
    DeleteLoginProfile,
    DeleteOpenIdConnectProvider,
    DeletePolicy,
    DeletePolicyVersion,
    DeleteRolePolicy,
    DeleteSamlProvider,
    DeleteServerCertificate,
    DeleteServiceSpecificCredential,
    DeleteSigningCertificate,
    DeleteSshPublicKey,
    DeleteUserPolicy,
    DeleteVirtualMfaDevice,
    DetachGroupPolicy,
    DetachRolePolicy,
    DetachUserPolicy,
    EnableMfaDevice,
    GetAccessKeyLastUsed,
    GetAccountAuthorizationDetails,
    GetAccountPasswordPolicy,
    GetAccountSummary,
    GetContextKeysForCustomPolicy,
    GetContextKeysForPrincipalPolicy,
    GetGroupPolicy,
    GetLoginProfile,
    GetOpenIdConnectProvider,
    GetPolicy,
    GetPolicyVersion,
    GetRolePolicy,
    GetSamlProvider,
    GetServerCertificate,
    GetSshPublicKey,
    GetUserPolicy,
    ListAccessKeys,
    ListAccountAliases,
    ListAttachedGroupPolicies,
    ListAttachedRolePolicies,
    ListAttachedUserPolicies,
    ListEntitiesForPolicy,
    ListGroupPolicies,
    ListMfaDevices,
    ListOpenIdConnectProviders,
    ListPolicies,
    ListPolicyVersions,
    ListRolePolicies,
    ListSamlProviders,
    ListServerCertificateTags,
    ListServerCertificates,
    ListServiceSpecificCredentials,
    ListSigningCertificates,
    ListSshPublicKeys,
    ListUserPolicies,
    ListVirtualMfaDevices,
    PutGroupPolicy,
    PutRolePolicy,
    PutUserPolicy,
    RemoveClientIdFromOpenIdConnectProvider,
    ResetServiceSpecificCredential,
    ResyncMfaDevice,
    SetDefaultPolicyVersion,
    SimulateCustomPolicy,
    SimulatePrincipalPolicy,
    TagServerCertificate,
    UntagServerCertificate,
    UpdateAccessKey,
    UpdateAccountPasswordPolicy,
    UpdateLoginProfile,
    UpdateOpenIdConnectProviderThumbprint,
    UpdateSamlProvider,
    UpdateServerCertificate,
    UpdateServiceSpecificCredential,
    UpdateSigningCertificate,
    UpdateSshPublicKey,
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
