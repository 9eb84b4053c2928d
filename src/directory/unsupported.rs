//! What an account's export has and this broker does nothing with. An import takes it, and names it.

use super::declaration::{Declaration, Ignored, RoleDetail};
use crate::evaluator::{Kind, Policy, strangers};

impl Declaration {
    /// A sentence for each thing and each field that means nothing here.
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
                "instance profile {}: is kept, and no machine gets credentials by it: this broker has no instance metadata \
                 service",
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
            all.push(format!(
                "SAML provider {}: is kept, and nobody comes in by it: AssumeRoleWithSAML is not answered",
                provider.arn
            ));
        }
        all
    }
}

fn fields(all: &mut Vec<String>, owner: &str, named: &[(&str, Ignored)]) {
    for (name, Ignored(is_there)) in named {
        if *is_there {
            all.push(format!("{owner}: {name} is not supported, and left out"));
        }
    }
}

/// Principals of a trust policy that never call this broker.
fn unreachable(role: &RoleDetail) -> Option<String> {
    let text = role.assume_role_policy_document.as_ref()?.text().ok()?;
    // One that cannot be read is refused elsewhere.
    let trust = Policy::parse(Kind::Trust, &text).ok()?;
    let named = strangers::who_never_calls(&trust);
    if named.is_empty() {
        return None;
    }
    Some(format!(
        "role {}: its trust policy names {}, and nobody comes in that way: no AWS service calls this broker, and \
         AssumeRoleWithSAML is not answered",
        role.arn,
        named.join(", ")
    ))
}
