//! Unique ids for the resources in a directory file. An id that the file leaves out is generated.

use std::collections::HashSet;

use super::declaration::Declaration;
use super::name::ResourceKind;
use super::unique_id::{mint, prefix};
use crate::base::arn::IamArn;
use crate::base::entropy::{Entropy, NoEntropy};

/// Calls `each` for every resource in a file that has a unique id, with its kind, its ARN and the
/// id, which is empty if the file leaves it out. AWS managed policies are skipped, because their
/// ids come from AWS.
fn visit<E>(
    file: &mut Declaration,
    mut each: impl FnMut(ResourceKind, &str, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    for user in &mut file.user_detail_list {
        each(ResourceKind::User, &user.arn, &mut user.user_id)?;
    }
    for group in &mut file.group_detail_list {
        each(ResourceKind::Group, &group.arn, &mut group.group_id)?;
    }
    for policy in &mut file.policies {
        if !super::is_aws_managed(&policy.arn) {
            each(
                ResourceKind::Policy,
                &policy.arn,
                policy.policy_id.get_or_insert_default(),
            )?;
        }
    }
    let mut profiles: Vec<_> = file.brevet.instance_profiles.iter_mut().collect();
    for role in &mut file.role_detail_list {
        each(ResourceKind::Role, &role.arn, &mut role.role_id)?;
        profiles.extend(&mut role.instance_profile_list);
    }
    for profile in profiles {
        each(
            ResourceKind::InstanceProfile,
            &profile.arn,
            &mut profile.instance_profile_id,
        )?;
    }
    Ok(())
}

/// Fills in the unique ids that a file leaves out: the id that `kept` has for the resource, or a
/// new one. Returns the number of new ids. A resource with an invalid ARN gets none; compiling the
/// file reports the error.
///
/// # Errors
/// [`NoEntropy`] if there are no random bytes.
pub fn fill<'k>(
    file: &mut Declaration,
    kept: impl Fn(ResourceKind, &str) -> Option<&'k str>,
    entropy: &dyn Entropy,
) -> Result<usize, NoEntropy> {
    let mut taken = HashSet::new();
    visit(file, |kind, arn, id| {
        if id.is_empty()
            && let Some(kept) = kept(kind, arn)
        {
            kept.clone_into(id);
        }
        if !id.is_empty() {
            taken.insert(id.clone());
        }
        Ok::<(), NoEntropy>(())
    })?;
    let mut made = 0;
    visit(file, |kind, arn, id| {
        let (true, Some(prefix), Some(parsed)) = (id.is_empty(), prefix(kind), IamArn::parse(arn))
        else {
            return Ok(());
        };
        loop {
            let new = mint(prefix, parsed.account, entropy)?;
            if taken.insert(new.clone()) {
                *id = new;
                made += 1;
                return Ok(());
            }
        }
    })?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::entropy::SystemEntropy;

    fn file() -> Declaration {
        let arn = |rest: &str| format!("arn:aws:iam::111122223333:{rest}");
        let value = json!({
            "UserDetailList": [{"UserName": "a", "Arn": arn("user/a")},
                {"UserName": "b", "Arn": arn("user/b"), "UserId": "AIDASTATEDSTATEDSTAT"}],
            "GroupDetailList": [{"GroupName": "g", "Arn": arn("group/g")}],
            "RoleDetailList": [{"RoleName": "r", "Arn": arn("role/r"),
                "InstanceProfileList": [{"InstanceProfileName": "i", "Arn": arn("instance-profile/i")}]}],
            "Policies": [{"PolicyName": "p", "Arn": arn("policy/p")},
                {"PolicyName": "q", "Arn": "arn:aws:iam::aws:policy/q"},
                {"PolicyName": "bad", "Arn": "bad"}],
            "Brevet": {"InstanceProfiles": [{"InstanceProfileName": "j", "Arn": arn("instance-profile/j")}]}
        });
        serde_json::from_value(value).unwrap()
    }

    fn ids(file: &mut Declaration) -> Vec<(String, String)> {
        let mut all = Vec::new();
        visit(file, |_, arn, id| {
            all.push((arn.to_owned(), id.clone()));
            Ok::<(), NoEntropy>(())
        })
        .unwrap();
        all
    }

    #[test]
    fn what_the_file_states_stands_and_what_is_kept_is_taken_before_a_new_id_is_made() {
        let mut file = file();
        let kept = |kind: ResourceKind, arn: &str| {
            (kind == ResourceKind::Role && arn.ends_with("/r") || arn.ends_with("user/b"))
                .then_some("AROAKEPTKEPTKEPTKEPT")
        };
        assert_eq!(fill(&mut file, kept, &SystemEntropy::new()).unwrap(), 5);
        let ids = ids(&mut file);
        let id = |end: &str| {
            let found = ids.iter().find(|(arn, _)| arn.ends_with(end));
            found.map(|(_, id)| id.as_str()).unwrap()
        };
        assert_eq!(id("user/b"), "AIDASTATEDSTATEDSTAT");
        assert_eq!(id("role/r"), "AROAKEPTKEPTKEPTKEPT");
        assert_eq!(id("bad"), "", "without an account there is no id");
        for (end, prefix) in [
            ("user/a", "AIDA"),
            ("group/g", "AGPA"),
            ("policy/p", "ANPA"),
            ("instance-profile/i", "AIPA"),
            ("instance-profile/j", "AIPA"),
        ] {
            let id = id(end);
            assert!(id.starts_with(prefix) && id.len() == 20, "{end}: {id}");
        }
        assert!(file.policies.iter().any(|p| p.policy_id.is_none()));
        let distinct: HashSet<_> = ids.iter().map(|(_, id)| id).collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn no_id_is_made_twice() {
        struct Stutter(std::sync::atomic::AtomicU8);
        impl Entropy for Stutter {
            fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
                let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                buffer.fill(n / 2);
                Ok(())
            }
        }
        let user = |n: u8| json!({"UserName": format!("u{n}"), "Arn": format!("arn:aws:iam::111122223333:user/u{n}")});
        let users: Vec<_> = (0..20).map(user).collect();
        let mut file: Declaration =
            serde_json::from_value(json!({"UserDetailList": users})).unwrap();
        fill(&mut file, |_, _| None, &Stutter(0.into())).unwrap();
        let distinct: HashSet<_> = ids(&mut file).into_iter().map(|(_, id)| id).collect();
        assert_eq!(distinct.len(), 20);
    }
}
