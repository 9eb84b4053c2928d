//! One file for each kind of resource: its declared form, its compiled form, its rules, and how it
//! is added to a snapshot and removed from it.

mod access_key;
mod account;
mod association;
mod bucket_policy;
mod certificate;
mod group;
mod instance_profile;
mod login_profile;
mod mfa_device;
mod oidc_provider;
mod organization;
mod policy;
mod role;
mod saml_provider;
mod user;

pub use access_key::{AccessKey, AccessKeyDetail};
pub use account::{Account, AccountSettings, PasswordPolicyDetail, is_account_alias};
pub use association::{Association, AssociationDetail, of_pods, of_tasks};
pub use bucket_policy::{BucketPolicy, BucketPolicyDetail};
pub use certificate::{Certificate, CertificateDetail};
pub use group::{Group, GroupDetail};
pub use instance_profile::{InstanceProfile, Profile, ProfileRole};
pub use login_profile::{LoginProfile, LoginProfileDetail};
#[cfg(any(test, feature = "internals"))]
pub use mfa_device::normal_seed;
pub use mfa_device::{MfaDevice, MfaDeviceDetail};
pub use oidc_provider::{OWN_ISSUER, OidcProvider, OidcProviderDetail, SignInClient, is_issuer};
pub use organization::{ControlPolicy, Levels, Member, Organization, OrganizationDetail};
pub use policy::{ManagedPolicy, ManagedPolicyDetail, PolicyVersion, version_number};
pub use role::{Role, RoleDetail};
pub use saml_provider::{SamlProvider, SamlProviderDetail};
pub use user::{User, UserDetail};
