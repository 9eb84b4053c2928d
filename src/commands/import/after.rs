//! The part of the directory after an import that is needed to check references between resources.

use std::collections::{HashMap, HashSet};

use crate::base::arn::{arn_of_principal, name_of};
use crate::commands::principals::Resolved;
use crate::commands::rules::{self, Whole};
use crate::commands::{CommandError, refused};
use crate::directory::owners::Named;
use crate::directory::principals::exchange;
use crate::directory::resource::{Name, Resource, ResourceKind, folded};
use crate::directory::{Role, check_everybody, closed_warning, external_id_warning};
use crate::evaluator::strangers;

/// The resources that the store will hold after an import, indexed for checks of their references.
#[derive(Default)]
pub(super) struct After {
    names: HashSet<Name>,
    folded: HashMap<(ResourceKind, String), Name>,
    unique_ids: HashMap<String, Name>,
    /// The unique ids of users and roles, by ARN.
    ids: HashMap<String, String>,
    /// The ARNs of OpenID Connect providers.
    providers: Vec<String>,
    /// Each resource to which an AWS managed policy is attached, with the ARN of the policy.
    of_aws: Vec<(Name, String)>,
    /// The number of access keys and MFA devices of each user, by kind and the user's ARN.
    of_users: HashMap<(ResourceKind, String), usize>,
}

impl After {
    /// Adds a resource that is declared, or that stays because it is not deleted.
    ///
    /// # Errors
    /// [`CommandError`] if another resource has the same name or unique id; the error names both.
    pub fn put(&mut self, thing: &Resource) -> Result<(), CommandError> {
        let name = thing.name();
        if !self.names.insert(name.clone()) {
            return Err(CommandError::Validation(format!(
                "{name} is declared more than once"
            )));
        }
        let same = |what: &str, other: &Name| {
            CommandError::EntityAlreadyExists(format!("{other}, which has {what} as {name}").into())
        };
        if let Some(other) = self
            .folded
            .insert((name.kind, thing.folded()), name.clone())
        {
            if name.kind == ResourceKind::Organization {
                return Err(rules::second_organization());
            }
            return Err(same("the same name (ignoring case)", &other));
        }
        if let Some(id) = thing.unique_id().filter(|id| !id.is_empty())
            && let Some(other) = self.unique_ids.insert(id.to_owned(), name.clone())
        {
            return Err(same(&format!("the same unique id `{id}`"), &other));
        }
        if let (ResourceKind::User | ResourceKind::Role, Some(id)) = (name.kind, thing.unique_id())
        {
            self.ids.insert(name.id.clone(), id.to_owned());
        }
        let of_aws = thing.links().into_iter().filter(rules::is_missing_policy);
        self.of_aws
            .extend(of_aws.map(|policy| (name.clone(), policy.id)));
        if let Some((quota, user)) = rules::user_quota(thing) {
            *self
                .of_users
                .entry((quota.kind, user.to_owned()))
                .or_default() += 1;
        }
        if name.kind == ResourceKind::OidcProvider {
            self.providers.push(name.id);
        }
        Ok(())
    }

    /// Looks up the principal that a policy names. Its unique id and ARN are added to `bound`.
    pub fn resolve(&self, named: &Named<'_>, bound: &mut Vec<(String, String)>) -> Resolved {
        if !self
            .names
            .contains(&Name::new(ResourceKind::Account, named.account()))
        {
            return Resolved::Elsewhere;
        }
        let found = match named {
            Named::User { arn, .. } | Named::Role { arn, .. } => self.ids.get_key_value(*arn),
            Named::Session { account, role, .. } => {
                let name = self
                    .folded
                    .get(&(ResourceKind::Role, folded(account, role)));
                let exact = name.filter(|name| name_of(&name.id) == *role);
                exact.and_then(|name| self.ids.get_key_value(&name.id))
            }
        };
        match found {
            Some((arn, id)) => {
                bound.push((id.clone(), arn.clone()));
                Resolved::Bound(named.bound(id))
            }
            None => Resolved::Missing,
        }
    }

    /// Finds the user or role that has this unique id after the import, and returns its ARN.
    fn arn(&self, id: &str) -> Option<&str> {
        let name = self
            .unique_ids
            .get(id)
            .filter(|name| matches!(name.kind, ResourceKind::User | ResourceKind::Role));
        name.map(|name| name.id.as_str())
    }

    /// A resource before and after the import, with ARNs in place of the unique ids in its trust
    /// policy or bucket policy. `None` if it has no such policy.
    pub fn readable(&self, old: &Resource, new: &Resource) -> Option<Box<(Resource, Resource)>> {
        let show = |thing: &Resource| {
            thing.naming_policy()?;
            let mut thing = thing.clone();
            exchange(&mut thing, |principal| {
                arn_of_principal(principal, |id| self.arn(id))
            });
            Some(thing)
        };
        Some(Box::new((show(old)?, show(new)?)))
    }

    /// Returns warnings about a role whose trust policy probably admits more than was intended.
    ///
    /// # Errors
    /// [`CommandError`] if the trust policy admits the tenants of an identity provider that many
    /// organisations share, without saying which of them.
    pub fn warnings_about(&self, role: &Role) -> Result<Vec<String>, CommandError> {
        if strangers::names_everybody(&role.trust) {
            let providers: Vec<&str> = self.providers.iter().map(String::as_str).collect();
            let place = format!("role {}: AssumeRolePolicyDocument", role.arn);
            check_everybody(&place, &role.arn, &role.trust, &providers).map_err(refused)?;
        }
        let tags = role.overridden.iter().map(|tag| {
            format!(
                "role {} may be assumed by strangers because of its tag {tag}",
                role.arn
            )
        });
        let foreign =
            strangers::without_external_id(&role.trust, role.account.as_str(), |id| self.arn(id));
        let foreign = foreign
            .iter()
            .map(|who| external_id_warning(&role.arn, who));
        Ok(tags.chain(foreign).collect())
    }

    /// Returns a warning for each attachment of an AWS managed policy whose document is missing. Such a policy denies
    /// everything.
    pub fn closed(&self) -> Vec<String> {
        let missing = self.of_aws.iter().filter(|(_, arn)| {
            !self
                .names
                .contains(&Name::new(ResourceKind::Policy, arn.as_str()))
        });
        let mut all: Vec<String> = missing
            .map(|(owner, arn)| closed_warning(&owner.to_string(), arn))
            .collect();
        all.sort();
        all
    }
}

/// Finds the resources that a declared resource refers to, among the other declared ones and those that stay.
impl Whole for &After {
    /// An AWS managed policy may be missing, because exports leave out deprecated ones;
    /// [`After::closed`] warns about it.
    async fn has(&mut self, link: &Name) -> Result<bool, CommandError> {
        let folded = (link.kind, link.id.clone());
        Ok(self.names.contains(link)
            || self.folded.contains_key(&folded)
            || rules::is_missing_policy(link))
    }

    async fn others_of_user(&mut self, user_arn: &str, own: &Name) -> Result<usize, CommandError> {
        let count = self.of_users.get(&(own.kind, user_arn.to_owned()));
        // The count includes the resource itself.
        Ok(count.map_or(0, |count| count.saturating_sub(1)))
    }
}
