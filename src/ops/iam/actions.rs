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
use super::action::Action;
use super::context_keys::{GetContextKeysForCustomPolicy, GetContextKeysForPrincipalPolicy};
use super::login_profiles::{
    ChangePassword, CreateLoginProfile, DeleteLoginProfile, GetLoginProfile, UpdateLoginProfile,
};
use super::mfa_devices::{
    CreateVirtualMfaDevice, DeactivateMfaDevice, DeleteVirtualMfaDevice, EnableMfaDevice,
    ListMfaDevices, ListVirtualMfaDevices, ResyncMfaDevice,
};
use super::password_policy::{
    DeleteAccountPasswordPolicy, GetAccountPasswordPolicy, UpdateAccountPasswordPolicy,
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
    ChangePassword,
    CreateAccessKey,
    CreateAccountAlias,
    CreateLoginProfile,
    CreateVirtualMfaDevice,
    DeactivateMfaDevice,
    DeleteAccessKey,
    DeleteAccountAlias,
    DeleteAccountPasswordPolicy,
    DeleteLoginProfile,
    DeleteServerCertificate,
    DeleteServiceSpecificCredential,
    DeleteSigningCertificate,
    DeleteSshPublicKey,
    DeleteVirtualMfaDevice,
    EnableMfaDevice,
    GetAccessKeyLastUsed,
    GetAccountPasswordPolicy,
    GetContextKeysForCustomPolicy,
    GetContextKeysForPrincipalPolicy,
    GetLoginProfile,
    GetServerCertificate,
    GetSshPublicKey,
    ListAccessKeys,
    ListAccountAliases,
    ListMfaDevices,
    ListServerCertificateTags,
    ListServerCertificates,
    ListServiceSpecificCredentials,
    ListSigningCertificates,
    ListSshPublicKeys,
    ListVirtualMfaDevices,
    ResetServiceSpecificCredential,
    ResyncMfaDevice,
    SimulateCustomPolicy,
    SimulatePrincipalPolicy,
    TagServerCertificate,
    UntagServerCertificate,
    UpdateAccessKey,
    UpdateAccountPasswordPolicy,
    UpdateLoginProfile,
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
