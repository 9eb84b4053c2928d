//! The number of entities in an account, and its quotas: IAM API Reference, "GetAccountSummary".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use crate::base::arn::{AccountId, account_of};
use crate::directory::Directory;
use crate::directory::limits::{
    ACCESS_KEYS_PER_USER, ASSUME_ROLE_POLICY_SIZE, GROUP_POLICY_SIZE, GROUPS_PER_USER,
    POLICIES_PER_GROUP, POLICIES_PER_ROLE, POLICIES_PER_USER, POLICY_SIZE, ROLE_POLICY_SIZE,
    USER_POLICY_SIZE, VERSIONS_PER_POLICY,
};
use crate::error::Error;
use crate::ops::context::Context;

/// The value for a quota that Brevet does not have: the largest number that clients can read.
const NO_QUOTA: usize = i32::MAX as usize;
/// The value of `GlobalEndpointTokenVersion`: version 2 tokens are valid in all regions, as all
/// tokens of the broker are.
const TOKEN_VERSION: usize = 2;

/// Counts the entities in the caller's account.
#[derive(Deserialize)]
pub struct GetAccountSummary {}

/// The numbers, by the names that AWS gives them, such as `Users` and `UsersQuota`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    summary_map: BTreeMap<&'static str, usize>,
}

impl Action for GetAccountSummary {
    const NAME: &'static str = "GetAccountSummary";
    const READ_ONLY: bool = true;
    type Output = Summary;

    async fn run(self, cx: &mut Context<'_>) -> Result<Summary, Error> {
        permit::<Self>(cx, &Resource::any())?;
        Ok(Summary {
            summary_map: summary(&cx.directory, cx.caller().account()),
        })
    }
}

fn summary(directory: &Directory, account: AccountId) -> BTreeMap<&'static str, usize> {
    let own = |arn: &str| account_of(arn) == account.as_str();
    let policies = directory.managed_policies().filter(|p| own(&p.arn));
    let (policies, versions) = policies.fold((0, 0), |(policies, versions), policy| {
        (policies + 1, versions + policy.versions)
    });
    let devices = directory.mfa_devices().filter(|device| {
        let owner = device.user_arn.as_deref();
        own(owner.unwrap_or_else(|| device.serial_number.as_str()))
    });
    let (devices, in_use) = devices.fold((0, 0), |(devices, in_use), device| {
        (devices + 1, in_use + usize::from(device.user_arn.is_some()))
    });
    let providers = directory.oidc_providers().filter(|p| p.account == account);
    let saml_providers = directory.saml_providers().filter(|p| p.account == account);
    BTreeMap::from([
        ("AccessKeysPerUserQuota", ACCESS_KEYS_PER_USER),
        // There is no root user.
        ("AccountAccessKeysPresent", 0),
        ("AccountMFAEnabled", 0),
        ("AccountPasswordPresent", 0),
        ("AccountSigningCertificatesPresent", 0),
        ("AssumeRolePolicySizeQuota", ASSUME_ROLE_POLICY_SIZE),
        ("AttachedPoliciesPerGroupQuota", POLICIES_PER_GROUP),
        ("AttachedPoliciesPerRoleQuota", POLICIES_PER_ROLE),
        ("AttachedPoliciesPerUserQuota", POLICIES_PER_USER),
        ("GlobalEndpointTokenVersion", TOKEN_VERSION),
        ("GroupPolicySizeQuota", GROUP_POLICY_SIZE),
        (
            "Groups",
            directory.groups().filter(|g| g.account == account).count(),
        ),
        ("GroupsPerUserQuota", GROUPS_PER_USER),
        ("GroupsQuota", NO_QUOTA),
        (
            "InstanceProfiles",
            directory
                .instance_profiles()
                .filter(|p| own(&p.arn))
                .count(),
        ),
        ("InstanceProfilesQuota", NO_QUOTA),
        ("MFADevices", devices),
        ("MFADevicesInUse", in_use),
        ("Policies", policies),
        ("PoliciesQuota", NO_QUOTA),
        ("PolicySizeQuota", POLICY_SIZE),
        ("PolicyVersionsInUse", versions),
        ("PolicyVersionsInUseQuota", NO_QUOTA),
        ("Providers", providers.count() + saml_providers.count()),
        ("RolePolicySizeQuota", ROLE_POLICY_SIZE),
        (
            "Roles",
            directory.roles().filter(|r| r.account == account).count(),
        ),
        ("RolesQuota", NO_QUOTA),
        // Server and signing certificates cannot be uploaded.
        ("ServerCertificates", 0),
        ("ServerCertificatesQuota", 0),
        ("SigningCertificatesPerUserQuota", 0),
        ("UserPolicySizeQuota", USER_POLICY_SIZE),
        (
            "Users",
            directory.users().filter(|u| u.account == account).count(),
        ),
        ("UsersQuota", NO_QUOTA),
        ("VersionsPerPolicyQuota", VERSIONS_PER_POLICY),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_model_has_a_value() {
        let model: serde_json::Value =
            serde_json::from_str(include_str!("../../query/iam_model.json")).unwrap();
        let mut keys: Vec<&str> = model["shapes"]["summaryKeyType"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap())
            .collect();
        keys.sort_unstable();
        let account = AccountId::parse("111122223333").unwrap();
        let summary = summary(&Directory::empty().unwrap(), account);
        assert_eq!(summary.keys().copied().collect::<Vec<_>>(), keys);
    }
}
