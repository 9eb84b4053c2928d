//! What IAM gives a new resource by itself: its unique id, its date, its path and its defaults.

use super::{CommandContext, CommandError};
use crate::directory::resource::Resource;
use crate::directory::unique_ids;

/// What IAM gives by itself.
pub(super) fn fill(resource: &mut Resource, cx: CommandContext<'_>) -> Result<(), CommandError> {
    let account = crate::base::arn::AccountId::parse(resource.account());
    let unique = |prefix: &str, id: &mut String| -> Result<(), CommandError> {
        if let (true, Some(account)) = (id.is_empty(), account) {
            *id = unique_ids::mint(prefix, account, cx.entropy)?;
        }
        Ok(())
    };
    let date = |date: &mut Option<String>| {
        date.get_or_insert_with(|| cx.now.to_string());
    };
    let path = |path: &mut Option<String>, arn: &str| {
        // `arn:aws:iam::ACCOUNT:KIND/PATH/NAME`
        let resource = arn.splitn(6, ':').nth(5).and_then(|r| r.split_once('/'));
        path.get_or_insert_with(
            || match resource.and_then(|(_, rest)| rest.rsplit_once('/')) {
                Some((middle, _)) => format!("/{middle}/"),
                None => "/".to_owned(),
            },
        );
    };
    match resource {
        Resource::User(u) => {
            unique("AIDA", &mut u.user_id)?;
            date(&mut u.create_date);
            path(&mut u.path, &u.arn);
        }
        Resource::Role(r) => {
            unique("AROA", &mut r.role_id)?;
            date(&mut r.create_date);
            path(&mut r.path, &r.arn);
            r.max_session_duration.get_or_insert(3_600);
        }
        Resource::Group(g) => {
            unique("AGPA", &mut g.group_id)?;
            date(&mut g.create_date);
            path(&mut g.path, &g.arn);
        }
        Resource::Policy(p) => {
            p.tags.take_if(|tags| tags.is_empty());
            unique("ANPA", p.policy_id.get_or_insert_default())?;
            date(&mut p.create_date);
            path(&mut p.path, &p.arn);
        }
        Resource::InstanceProfile(p) => {
            p.tags.take_if(|tags| tags.is_empty());
            unique("AIPA", &mut p.instance_profile_id)?;
            date(&mut p.create_date);
            path(&mut p.path, &p.arn);
        }
        Resource::AccessKey(k) => {
            date(&mut k.create_date);
            k.status.get_or_insert_with(|| "Active".to_owned());
        }
        Resource::OidcProvider(p) => date(&mut p.create_date),
        Resource::SamlProvider(p) => date(&mut p.create_date),
        Resource::MfaDevice(d) => date(&mut d.create_date),
        Resource::Account(_) => {}
    }
    Ok(())
}
