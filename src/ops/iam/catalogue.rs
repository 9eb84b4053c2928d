//! All actions of AWS's IAM API: which of them Brevet supports, and which it refuses with a reason
//! of their own.

use Tier::{Must, Refused, Should};

/// How Brevet treats an action of the IAM API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Clients cannot administer an account without the action.
    Must,
    /// The action is useful, but clients can do without it.
    Should,
    /// Brevet refuses the action. The text is the reason for the caller.
    Refused(&'static str),
}

const NO_ROOT: &str =
    "there is no root user whose credentials or sessions an organization could manage";
const NO_ORGANIZATION: &str = "this action reports which services of AWS an organization uses, and Brevet does not have these services";
const FOR_PARTNERS: &str = "delegation requests are for products of AWS's partners";
const NO_CLIENT: &str = "no client or tool is known to call this action";

/// Returns how Brevet treats the action of this name; `None` if IAM has no such action.
pub fn tier(action: &str) -> Option<Tier> {
    let at = ACTIONS.binary_search_by_key(&action, |(name, _)| *name);
    at.ok()
        .and_then(|at| ACTIONS.get(at))
        .map(|(_, tier)| *tier)
}

/// Every action of IAM with its tier, sorted by name for binary search.
const ACTIONS: &[(&str, Tier)] = &[
    ("AcceptDelegationRequest", Refused(FOR_PARTNERS)),
    ("AcquireRole", Refused(NO_CLIENT)),
    ("AddClientIDToOpenIDConnectProvider", Must),
    ("AddRoleToInstanceProfile", Must),
    ("AddUserToGroup", Must),
    ("AssociateDelegationRequest", Refused(FOR_PARTNERS)),
    ("AttachGroupPolicy", Must),
    ("AttachRolePolicy", Must),
    ("AttachUserPolicy", Must),
    ("ChangePassword", Must),
    ("CreateAccessKey", Must),
    ("CreateAccountAlias", Must),
    ("CreateDelegationRequest", Refused(FOR_PARTNERS)),
    ("CreateGroup", Must),
    ("CreateInstanceProfile", Must),
    ("CreateLoginProfile", Must),
    ("CreateOpenIDConnectProvider", Must),
    ("CreatePolicy", Must),
    ("CreatePolicyVersion", Must),
    ("CreateRole", Must),
    ("CreateSAMLProvider", Must),
    ("CreateServiceLinkedRole", Should),
    (
        "CreateServiceSpecificCredential",
        Refused(
            "these credentials are for CodeCommit, Keyspaces and Bedrock, which Brevet does not have",
        ),
    ),
    ("CreateUser", Must),
    ("CreateVirtualMFADevice", Must),
    ("DeactivateMFADevice", Must),
    ("DeleteAccessKey", Must),
    ("DeleteAccountAlias", Must),
    ("DeleteAccountPasswordPolicy", Must),
    ("DeleteGroup", Must),
    ("DeleteGroupPolicy", Must),
    ("DeleteInstanceProfile", Must),
    ("DeleteLoginProfile", Must),
    ("DeleteOpenIDConnectProvider", Must),
    ("DeletePolicy", Must),
    ("DeletePolicyVersion", Must),
    ("DeleteRole", Must),
    ("DeleteRolePermissionsBoundary", Must),
    ("DeleteRolePolicy", Must),
    ("DeleteSAMLProvider", Must),
    ("DeleteSSHPublicKey", Must),
    ("DeleteServerCertificate", Must),
    ("DeleteServiceLinkedRole", Should),
    ("DeleteServiceSpecificCredential", Must),
    ("DeleteSigningCertificate", Must),
    ("DeleteUser", Must),
    ("DeleteUserPermissionsBoundary", Must),
    ("DeleteUserPolicy", Must),
    ("DeleteVirtualMFADevice", Must),
    ("DetachGroupPolicy", Must),
    ("DetachRolePolicy", Must),
    ("DetachUserPolicy", Must),
    (
        "DisableOrganizationsRootCredentialsManagement",
        Refused(NO_ROOT),
    ),
    ("DisableOrganizationsRootSessions", Refused(NO_ROOT)),
    ("DisableOutboundWebIdentityFederation", Should),
    ("EnableMFADevice", Must),
    (
        "EnableOrganizationsRootCredentialsManagement",
        Refused(NO_ROOT),
    ),
    ("EnableOrganizationsRootSessions", Refused(NO_ROOT)),
    ("EnableOutboundWebIdentityFederation", Should),
    ("GenerateCredentialReport", Must),
    (
        "GenerateOrganizationsAccessReport",
        Refused(NO_ORGANIZATION),
    ),
    ("GenerateServiceLastAccessedDetails", Should),
    ("GetAccessKeyLastUsed", Must),
    ("GetAccountAuthorizationDetails", Must),
    ("GetAccountPasswordPolicy", Must),
    ("GetAccountProperties", Refused(NO_CLIENT)),
    ("GetAccountSummary", Must),
    ("GetContextKeysForCustomPolicy", Must),
    ("GetContextKeysForPrincipalPolicy", Must),
    ("GetCredentialReport", Must),
    ("GetDelegationRequest", Refused(FOR_PARTNERS)),
    ("GetGroup", Must),
    ("GetGroupPolicy", Must),
    ("GetHumanReadableSummary", Refused(FOR_PARTNERS)),
    ("GetInstanceProfile", Must),
    ("GetLoginProfile", Must),
    ("GetMFADevice", Should),
    ("GetOpenIDConnectProvider", Must),
    ("GetOrganizationsAccessReport", Refused(NO_ORGANIZATION)),
    ("GetOutboundWebIdentityFederationInfo", Should),
    ("GetPolicy", Must),
    ("GetPolicyVersion", Must),
    ("GetRole", Must),
    ("GetRolePolicy", Must),
    ("GetRoleTemplateVersion", Refused(NO_CLIENT)),
    ("GetSAMLProvider", Must),
    ("GetSSHPublicKey", Must),
    ("GetServerCertificate", Must),
    ("GetServiceLastAccessedDetails", Should),
    ("GetServiceLastAccessedDetailsWithEntities", Should),
    ("GetServiceLinkedRoleDeletionStatus", Should),
    ("GetUser", Must),
    ("GetUserPolicy", Must),
    ("ListAccessKeys", Must),
    ("ListAccountAliases", Must),
    ("ListAttachedGroupPolicies", Must),
    ("ListAttachedRolePolicies", Must),
    ("ListAttachedUserPolicies", Must),
    ("ListDelegationRequests", Refused(FOR_PARTNERS)),
    ("ListEntitiesForPolicy", Must),
    ("ListGroupPolicies", Must),
    ("ListGroups", Must),
    ("ListGroupsForUser", Must),
    ("ListInstanceProfileTags", Must),
    ("ListInstanceProfiles", Must),
    ("ListInstanceProfilesForRole", Must),
    ("ListMFADeviceTags", Must),
    ("ListMFADevices", Must),
    ("ListOpenIDConnectProviderTags", Must),
    ("ListOpenIDConnectProviders", Must),
    ("ListOrganizationsFeatures", Refused(NO_ROOT)),
    ("ListPolicies", Must),
    ("ListPoliciesGrantingServiceAccess", Should),
    ("ListPolicyTags", Must),
    ("ListPolicyVersions", Must),
    ("ListRolePolicies", Must),
    ("ListRoleTags", Must),
    ("ListRoles", Must),
    ("ListSAMLProviderTags", Must),
    ("ListSAMLProviders", Must),
    ("ListSSHPublicKeys", Must),
    ("ListServerCertificateTags", Must),
    ("ListServerCertificates", Must),
    ("ListServiceSpecificCredentials", Must),
    ("ListSigningCertificates", Must),
    ("ListUserPolicies", Must),
    ("ListUserTags", Must),
    ("ListUsers", Must),
    ("ListVirtualMFADevices", Must),
    ("PutAccountProperties", Refused(NO_CLIENT)),
    ("PutGroupPolicy", Must),
    ("PutRolePermissionsBoundary", Must),
    ("PutRolePolicy", Must),
    ("PutUserPermissionsBoundary", Must),
    ("PutUserPolicy", Must),
    ("RejectDelegationRequest", Refused(FOR_PARTNERS)),
    ("RemoveClientIDFromOpenIDConnectProvider", Must),
    ("RemoveRoleFromInstanceProfile", Must),
    ("RemoveUserFromGroup", Must),
    ("ResetServiceSpecificCredential", Must),
    ("ResyncMFADevice", Must),
    ("SendDelegationToken", Refused(FOR_PARTNERS)),
    ("SetDefaultPolicyVersion", Must),
    ("SetSecurityTokenServicePreferences", Should),
    ("SimulateCustomPolicy", Must),
    ("SimulatePrincipalPolicy", Must),
    ("TagInstanceProfile", Must),
    ("TagMFADevice", Must),
    ("TagOpenIDConnectProvider", Must),
    ("TagPolicy", Must),
    ("TagRole", Must),
    ("TagSAMLProvider", Must),
    ("TagServerCertificate", Must),
    ("TagUser", Must),
    ("UntagInstanceProfile", Must),
    ("UntagMFADevice", Must),
    ("UntagOpenIDConnectProvider", Must),
    ("UntagPolicy", Must),
    ("UntagRole", Must),
    ("UntagSAMLProvider", Must),
    ("UntagServerCertificate", Must),
    ("UntagUser", Must),
    ("UpdateAccessKey", Must),
    ("UpdateAccountPasswordPolicy", Must),
    ("UpdateAssumeRolePolicy", Must),
    ("UpdateDelegationRequest", Refused(FOR_PARTNERS)),
    ("UpdateGroup", Must),
    ("UpdateLoginProfile", Must),
    ("UpdateOpenIDConnectProvider", Refused(NO_CLIENT)),
    ("UpdateOpenIDConnectProviderThumbprint", Must),
    ("UpdateRole", Must),
    ("UpdateRoleDescription", Must),
    ("UpdateSAMLProvider", Must),
    ("UpdateSSHPublicKey", Must),
    ("UpdateServerCertificate", Must),
    ("UpdateServiceSpecificCredential", Must),
    ("UpdateSigningCertificate", Must),
    ("UpdateUser", Must),
    (
        "UploadSSHPublicKey",
        Refused("SSH keys are for CodeCommit, which Brevet does not have"),
    ),
    (
        "UploadServerCertificate",
        Refused("the action would store private keys, which Brevet does not use"),
    ),
    (
        "UploadSigningCertificate",
        Refused("signing certificates are for interfaces of AWS that Brevet does not have"),
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::iam::actions::NAMES;

    /// Prints what happens to each action; `cargo test --lib catalogue -- --nocapture` shows it.
    #[test]
    fn every_action_of_iam_is_answered_or_refused_by_name() {
        let model: serde_json::Value =
            serde_json::from_str(include_str!("../../query/iam_model.json")).unwrap();
        let of_aws: BTreeSet<&str> = model["operations"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let listed: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
        assert!(listed.is_sorted_by(|a, b| a < b), "sorted, and none twice");
        let listed: BTreeSet<&str> = listed.into_iter().collect();
        let missing: Vec<_> = of_aws.difference(&listed).collect();
        assert!(missing.is_empty(), "without an entry: {missing:?}");
        let unknown: Vec<_> = listed.difference(&of_aws).collect();
        assert!(unknown.is_empty(), "not in AWS's model: {unknown:?}");

        for (name, tier) in ACTIONS {
            let answered = NAMES.contains(name);
            let (tier, does) = match tier {
                Must => {
                    assert!(answered, "{name} is not answered");
                    ("must", "answered".to_owned())
                }
                Should if answered => ("should", "answered".to_owned()),
                Should => ("should", "not available yet".to_owned()),
                Refused(why) => {
                    assert!(!answered, "{name} is answered, but listed as refused");
                    ("refused", format!("because {why}"))
                }
            };
            println!("{name:<46} {tier:<8} {does}");
        }
        let count = |of: fn(&Tier) -> bool| ACTIONS.iter().filter(|(_, tier)| of(tier)).count();
        let counts = [
            count(|tier| *tier == Must),
            count(|tier| *tier == Should),
            count(|tier| matches!(tier, Refused(_))),
        ];
        assert_eq!(counts, [144, 12, 25]);
        println!("answered: {} of {}", NAMES.len(), ACTIONS.len());
    }

    #[test]
    fn actions_are_found_by_their_name() {
        assert_eq!(tier("ListUsers"), Some(Must));
        assert_eq!(tier("GetMFADevice"), Some(Should));
        assert!(matches!(tier("UploadSSHPublicKey"), Some(Refused(_))));
        assert_eq!(tier("listusers"), None);
        assert_eq!(tier("AssumeRole"), None);
    }
}
