//! The list of all kinds of resources. A new kind is a file in `kinds/`, a line here, and its list
//! in [`super::declaration::Brevet`].

/// Calls a macro with every kind of resource, each after those to which it refers. For each there
/// are five arguments: the variant, the declared form that the variant holds, that form without a
/// box, the name in rows and messages, and the list of a directory file with resources of the kind.
macro_rules! every_kind {
    ($define:ident) => {
        $define! {
            Account: Account as Account = "account" in "Brevet.Accounts";
            Policy: ManagedPolicyDetail as ManagedPolicyDetail = "policy" in "Policies";
            Group: GroupDetail as GroupDetail = "group" in "GroupDetailList";
            User: UserDetail as UserDetail = "user" in "UserDetailList";
            Role: Box<RoleDetail> as RoleDetail = "role" in "RoleDetailList";
            InstanceProfile: InstanceProfile as InstanceProfile = "instance-profile" in "InstanceProfileList";
            AccessKey: AccessKeyDetail as AccessKeyDetail = "access-key" in "Brevet.AccessKeys";
            Certificate: CertificateDetail as CertificateDetail = "certificate" in "Brevet.Certificates";
            MfaDevice: MfaDeviceDetail as MfaDeviceDetail = "mfa-device" in "Brevet.MFADevices";
            LoginProfile: LoginProfileDetail as LoginProfileDetail = "login-profile" in "Brevet.LoginProfiles";
            OidcProvider: OidcProviderDetail as OidcProviderDetail = "oidc-provider" in "OpenIDConnectProviders";
            SamlProvider: SamlProviderDetail as SamlProviderDetail = "saml-provider" in "SAMLProviders";
            Association: AssociationDetail as AssociationDetail = "workload-association" in "Brevet.PodAssociations or Brevet.TaskAssociations";
            BucketPolicy: BucketPolicyDetail as BucketPolicyDetail = "bucket-policy" in "Brevet.BucketPolicies";
            Organization: Box<OrganizationDetail> as OrganizationDetail = "organization" in "Brevet.Organization";
        }
    };
}

pub(super) use every_kind;
