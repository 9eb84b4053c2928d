//! The names of the actions of services that this broker serves, and suggestions for misspelt
//! names.

use super::context::RequestContext;
use super::pattern::Match;
use super::statement::ActionPattern;

/// The actions of STS, from the Service Authorization Reference, "AWS Security Token Service".
const STS: &[&str] = &[
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "DecodeAuthorizationMessage",
    "GetAccessKeyInfo",
    "GetCallerIdentity",
    "GetDelegatedAccessToken",
    "GetFederationToken",
    "GetScopedCredentials",
    "GetServiceBearerToken",
    "GetSessionToken",
    "GetWebIdentityToken",
    "SetContext",
    "SetSourceIdentity",
    "TagGetWebIdentityToken",
    "TagSession",
];

/// The actions of IAM, from the Service Authorization Reference, "AWS Identity and Access
/// Management".
const IAM: &[&str] = &[
    "AcceptDelegationRequest",
    "AddClientIDToOpenIDConnectProvider",
    "AddRoleToInstanceProfile",
    "AddUserToGroup",
    "AssociateDelegationRequest",
    "AttachGroupPolicy",
    "AttachRolePolicy",
    "AttachUserPolicy",
    "ChangePassword",
    "CreateAccessKey",
    "CreateAccountAlias",
    "CreateDelegationRequest",
    "CreateGroup",
    "CreateInstanceProfile",
    "CreateLoginProfile",
    "CreateOpenIDConnectProvider",
    "CreatePolicy",
    "CreatePolicyVersion",
    "CreateRole",
    "CreateSAMLProvider",
    "CreateServiceLinkedRole",
    "CreateServiceSpecificCredential",
    "CreateUser",
    "CreateVirtualMFADevice",
    "DeactivateMFADevice",
    "DeleteAccessKey",
    "DeleteAccountAlias",
    "DeleteAccountPasswordPolicy",
    "DeleteCloudFrontPublicKey",
    "DeleteGroup",
    "DeleteGroupPolicy",
    "DeleteInstanceProfile",
    "DeleteLoginProfile",
    "DeleteOpenIDConnectProvider",
    "DeletePolicy",
    "DeletePolicyVersion",
    "DeleteRole",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DeleteSAMLProvider",
    "DeleteSSHPublicKey",
    "DeleteServerCertificate",
    "DeleteServiceLinkedRole",
    "DeleteServiceSpecificCredential",
    "DeleteSigningCertificate",
    "DeleteUser",
    "DeleteUserPermissionsBoundary",
    "DeleteUserPolicy",
    "DeleteVirtualMFADevice",
    "DetachGroupPolicy",
    "DetachRolePolicy",
    "DetachUserPolicy",
    "DisableOrganizationsRootCredentialsManagement",
    "DisableOrganizationsRootSessions",
    "DisableOutboundWebIdentityFederation",
    "EnableMFADevice",
    "EnableOrganizationsRootCredentialsManagement",
    "EnableOrganizationsRootSessions",
    "EnableOutboundWebIdentityFederation",
    "GenerateCredentialReport",
    "GenerateOrganizationsAccessReport",
    "GenerateServiceLastAccessedDetails",
    "GetAccessKeyLastUsed",
    "GetAccountAuthorizationDetails",
    "GetAccountEmailAddress",
    "GetAccountName",
    "GetAccountPasswordPolicy",
    "GetAccountProperties",
    "GetAccountSummary",
    "GetCloudFrontPublicKey",
    "GetContextKeysForCustomPolicy",
    "GetContextKeysForPrincipalPolicy",
    "GetCredentialReport",
    "GetDelegationRequest",
    "GetGroup",
    "GetGroupPolicy",
    "GetHumanReadableSummary",
    "GetInstanceProfile",
    "GetLoginProfile",
    "GetMFADevice",
    "GetOpenIDConnectProvider",
    "GetOrganizationsAccessReport",
    "GetOutboundWebIdentityFederationInfo",
    "GetPolicy",
    "GetPolicyVersion",
    "GetRole",
    "GetRolePolicy",
    "GetRoleTemplateVersion",
    "GetSAMLProvider",
    "GetSSHPublicKey",
    "GetServerCertificate",
    "GetServiceLastAccessedDetails",
    "GetServiceLastAccessedDetailsWithEntities",
    "GetServiceLinkedRoleDeletionStatus",
    "GetUser",
    "GetUserPolicy",
    "ListAccessKeys",
    "ListAccountAliases",
    "ListAttachedGroupPolicies",
    "ListAttachedRolePolicies",
    "ListAttachedUserPolicies",
    "ListCloudFrontPublicKeys",
    "ListDelegationRequests",
    "ListEntitiesForPolicy",
    "ListGroupPolicies",
    "ListGroups",
    "ListGroupsForUser",
    "ListInstanceProfileTags",
    "ListInstanceProfiles",
    "ListInstanceProfilesForRole",
    "ListMFADeviceTags",
    "ListMFADevices",
    "ListOpenIDConnectProviderTags",
    "ListOpenIDConnectProviders",
    "ListOrganizationsFeatures",
    "ListPolicies",
    "ListPoliciesGrantingServiceAccess",
    "ListPolicyTags",
    "ListPolicyVersions",
    "ListRolePolicies",
    "ListRoleTags",
    "ListRoles",
    "ListSAMLProviderTags",
    "ListSAMLProviders",
    "ListSSHPublicKeys",
    "ListSTSRegionalEndpointsStatus",
    "ListServerCertificateTags",
    "ListServerCertificates",
    "ListServiceSpecificCredentials",
    "ListSigningCertificates",
    "ListUserPolicies",
    "ListUserTags",
    "ListUsers",
    "ListVirtualMFADevices",
    "PassRole",
    "PutAccountProperties",
    "PutGroupPolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
    "PutUserPermissionsBoundary",
    "PutUserPolicy",
    "RejectDelegationRequest",
    "RemoveClientIDFromOpenIDConnectProvider",
    "RemoveRoleFromInstanceProfile",
    "RemoveUserFromGroup",
    "ResetServiceSpecificCredential",
    "ResyncMFADevice",
    "SendDelegationToken",
    "SetDefaultPolicyVersion",
    "SetSTSRegionalEndpointStatus",
    "SetSecurityTokenServicePreferences",
    "SimulateCustomPolicy",
    "SimulatePrincipalPolicy",
    "TagInstanceProfile",
    "TagMFADevice",
    "TagOpenIDConnectProvider",
    "TagPolicy",
    "TagRole",
    "TagSAMLProvider",
    "TagServerCertificate",
    "TagUser",
    "UntagInstanceProfile",
    "UntagMFADevice",
    "UntagOpenIDConnectProvider",
    "UntagPolicy",
    "UntagRole",
    "UntagSAMLProvider",
    "UntagServerCertificate",
    "UntagUser",
    "UpdateAccessKey",
    "UpdateAccountEmailAddress",
    "UpdateAccountName",
    "UpdateAccountPasswordPolicy",
    "UpdateAssumeRolePolicy",
    "UpdateCloudFrontPublicKey",
    "UpdateDelegationRequest",
    "UpdateGroup",
    "UpdateLoginProfile",
    "UpdateOpenIDConnectProvider",
    "UpdateOpenIDConnectProviderThumbprint",
    "UpdateRole",
    "UpdateRoleDescription",
    "UpdateSAMLProvider",
    "UpdateSSHPublicKey",
    "UpdateServerCertificate",
    "UpdateServiceSpecificCredential",
    "UpdateSigningCertificate",
    "UpdateUser",
    "UploadCloudFrontPublicKey",
    "UploadSSHPublicKey",
    "UploadServerCertificate",
    "UploadSigningCertificate",
];

/// Brevet's own actions, which AWS does not have.
const BREVET: &[&str] = &[
    "AssumeRoleForWorkload",
    "Authorize",
    "DeriveSigningKey",
    "DescribeSession",
    "EndSignIn",
    "ListSessions",
    "ListSignIns",
    "ResolveIdentity",
    "RevokeSessions",
    "UseObjectStore",
    "VerifyRequest",
    "WatchRevocations",
];

/// The known actions of the service with this prefix (`sts`, `iam` or `brevet`, in any case), or
/// `None` for any other service.
fn of_service(prefix: &str) -> Option<&'static [&'static str]> {
    match prefix.to_ascii_lowercase().as_str() {
        "sts" => Some(STS),
        "iam" => Some(IAM),
        "brevet" => Some(BREVET),
        _ => None,
    }
}

/// Returns the action's text if it names a service of this broker but matches none of its actions,
/// together with the action that was most likely meant.
pub(super) fn unknown(pattern: &ActionPattern) -> Option<(&str, Option<String>)> {
    let ActionPattern::Named { text, name, .. } = pattern else {
        return None;
    };
    let (service, wanted) = text.split_once(':')?;
    let known = of_service(service)?;
    let context = RequestContext::new();
    if known
        .iter()
        .any(|action| name.matches_ignore_case(action, &context) == Match::Yes)
    {
        return None;
    }
    Some((
        text,
        nearest(wanted, known.iter().copied()).map(|action| format!("{service}:{action}")),
    ))
}

/// The name with the smallest edit distance to `wanted`, ignoring case, if at most a third of its
/// characters differ.
pub(super) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let distances = names.map(|name| (distance(&wanted, &name.to_ascii_lowercase()), name));
    let (least, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (least * 3 <= name.len()).then_some(name)
}

/// The edit distance of two texts: how many characters must be inserted, deleted or replaced to
/// turn one into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push(
                (diagonal + usize::from(from != *to))
                    .min(above + 1)
                    .min(left + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::statement::Actions;
    use crate::evaluator::{Policy, PolicyKind};

    fn of(action: &str) -> Option<(String, Option<String>)> {
        let text =
            format!(r#"{{"Statement":[{{"Effect":"Allow","Action":"{action}","Resource":"*"}}]}}"#);
        let policy = Policy::parse(PolicyKind::Identity, &text).unwrap();
        let Actions::Are(actions) = &policy.statements[0].actions else {
            panic!("{action}")
        };
        unknown(&actions[0]).map(|(text, meant)| (text.to_owned(), meant))
    }

    #[test]
    fn a_misspelt_action_is_told_with_what_it_means() {
        for (action, meant) in [
            ("sts:AsumeRole", Some("sts:AssumeRole")),
            ("STS:assumeroles", Some("STS:AssumeRole")),
            (
                "sts:AssumeRoleWithWebidentities",
                Some("sts:AssumeRoleWithWebIdentity"),
            ),
            ("iam:PasRole", Some("iam:PassRole")),
            ("brevet:RevokeSession", Some("brevet:RevokeSessions")),
            ("sts:Frobnicate", None),
            ("sts:Asume*", None),
        ] {
            assert_eq!(
                of(action),
                Some((action.to_owned(), meant.map(str::to_owned)))
            );
        }
        for known in [
            "*",
            "sts:*",
            "sts:assumerole",
            "sts:Assume*",
            "iam:PassRole",
            "iam:*MFA*",
            "brevet:List?essions",
        ] {
            assert_eq!(of(known), None, "{known}");
        }
        // Actions of services that this broker does not know are not checked.
        assert_eq!(of("s3:GetObjekt"), None);
        assert_eq!(of("s*:Nothing"), None);
    }

    #[test]
    fn every_action_of_this_broker_is_known() {
        let model: serde_json::Value =
            serde_json::from_str(include_str!("../query/iam_model.json")).unwrap();
        for operation in model["operations"].as_object().unwrap().keys() {
            // AcquireRole has no action of its own: it needs those of its parts.
            assert!(
                IAM.contains(&operation.as_str()) || operation == "AcquireRole",
                "iam:{operation}"
            );
        }
        for (operation, _) in crate::ops::registry::ACTIONS {
            assert!(STS.contains(operation), "sts:{operation}");
        }
        // PreviewRevocation and EvaluatePolicy have no actions of their own either: they need those of
        // RevokeSessions and Authorize.
        let own: Vec<_> = crate::ops::registry::ADMINISTRATION
            .iter()
            .chain(crate::ops::registry::OWN)
            .chain(crate::ops::registry::RELYING)
            .chain(crate::ops::registry::GATEWAYS)
            .filter(|name| !["PreviewRevocation", "EvaluatePolicy"].contains(*name))
            .collect();
        // UseObjectStore has no operation: it says who may use a store that asks.
        assert_eq!(own.len() + 1, BREVET.len());
        for operation in own {
            assert!(BREVET.contains(operation), "brevet:{operation}");
        }
    }
}
