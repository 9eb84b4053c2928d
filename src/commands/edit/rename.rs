//! Renames users and groups, changes their paths, and updates the resources that refer to them.

use super::unfit;
use crate::base::arn::IamArn;
use crate::commands::CommandError;
use crate::directory::resource::Resource;

pub(super) fn rename(
    resource: &mut Resource,
    name: Option<&str>,
    path: Option<&str>,
) -> Result<(), CommandError> {
    let account = resource.account().to_owned();
    let (kind, own_name, own_path, arn) = match resource {
        Resource::User(u) => ("user", &mut u.user_name, &mut u.path, &mut u.arn),
        Resource::Group(g) => ("group", &mut g.group_name, &mut g.path, &mut g.arn),
        other => return Err(unfit(other, "another name")),
    };
    if let Some(name) = name {
        name.clone_into(own_name);
    }
    if let Some(path) = path {
        *own_path = Some(path.to_owned());
    }
    *arn = IamArn::text(&account, kind, own_path.as_deref().unwrap_or("/"), own_name);
    Ok(())
}

/// Updates the references in `referrer` to a user or group that got another name or path. `referrer` must refer to
/// `old`, the resource before the change; `new` is the resource after it.
pub(in crate::parts::commands) fn follow(referrer: &mut Resource, old: &Resource, new: &Resource) {
    match (referrer, old, new) {
        (Resource::User(user), Resource::Group(old), Resource::Group(new)) => {
            for name in &mut user.group_list {
                if name.eq_ignore_ascii_case(&old.group_name) {
                    name.clone_from(&new.group_name);
                }
            }
        }
        (Resource::AccessKey(key), Resource::User(_), Resource::User(new)) => {
            key.user_arn.clone_from(&new.arn)
        }
        (Resource::LoginProfile(profile), Resource::User(_), Resource::User(new)) => {
            profile.user_arn.clone_from(&new.arn)
        }
        (Resource::MfaDevice(device), Resource::User(_), Resource::User(new)) => {
            device.user_arn.clone_from(&new.arn)
        }
        _ => {}
    }
}
