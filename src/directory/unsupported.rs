//! Warnings about parts of an account's export that have no effect in this broker. An import
//! accepts these parts and warns about each.

use super::declaration::{Declaration, Ignored, RoleDetail};
use crate::evaluator::{Policy, PolicyKind, strangers};

impl Declaration {
    /// Makes one sentence for each resource and field that has no effect.
    pub fn unsupported(&self) -> Vec<String> {
        let mut all = Vec::new();
        for role in &self.role_detail_list {
            fields(
                &mut all,
                &format!("role {}", role.arn),
                &[
                    ("MaxSigninSessionDuration", role.max_signin_session_duration),
                    ("SourceRoleTemplate", role.source_role_template),
                ],
            );
            all.extend(unreachable(role));
        }
        let in_roles = self
            .role_detail_list
            .iter()
            .flat_map(|role| &role.instance_profile_list);
        for profile in in_roles.chain(&self.brevet.instance_profiles) {
            all.push(format!(
                "instance profile {}: the directory keeps this profile, but a machine gets credentials of its role \
                 only through `brevet agent`, because this broker has no instance metadata service",
                profile.arn
            ));
        }
        for provider in &self.brevet.open_id_connect_providers {
            fields(
                &mut all,
                &format!("OpenID Connect provider {}", provider.arn),
                &[
                    ("ContextProvider", provider.context_provider),
                    (
                        "IdentityCenterInstanceArn",
                        provider.identity_center_instance_arn,
                    ),
                    ("IdentityStoreArn", provider.identity_store_arn),
                ],
            );
        }
        for provider in &self.brevet.saml_providers {
            fields(
                &mut all,
                &format!("SAML provider {}", provider.arn),
                &[
                    ("ContextProvider", provider.context_provider),
                    (
                        "IdentityCenterInstanceArn",
                        provider.identity_center_instance_arn,
                    ),
                    ("IdentityStoreArn", provider.identity_store_arn),
                    ("SAMLKeyHashes", provider.saml_key_hashes),
                ],
            );
        }
        all
    }
}

fn fields(all: &mut Vec<String>, owner: &str, named: &[(&str, Ignored)]) {
    for (name, Ignored(is_there)) in named {
        if *is_there {
            all.push(format!("{owner}: {name} is not supported and is left out"));
        }
    }
}

/// Makes a warning about principals of a trust policy that never call this broker.
fn unreachable(role: &RoleDetail) -> Option<String> {
    let text = role.assume_role_policy_document.as_ref()?.text().ok()?;
    // A policy that cannot be parsed is refused elsewhere.
    let trust = Policy::parse(PolicyKind::Trust, &text).ok()?;
    let named = strangers::who_never_calls(&trust);
    if named.is_empty() {
        return None;
    }
    Some(format!(
        "role {}: its trust policy names {}, but no AWS service ever calls this broker",
        role.arn,
        named.join(", ")
    ))
}
