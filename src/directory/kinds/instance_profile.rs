//! Instance profiles, each of which has at most one role. AssumeRoleForWorkload gives this role to the EC2 instance
//! of a node whose tag names the profile.

use crate::base::arn::account_of;
use crate::base::entropy::NoEntropy;
use crate::base::names;
use crate::directory::compile::{identity_arn, tags, unique_id};
use crate::directory::declared::{Declared, Defaults, Insertion, keep, keep_id};
use crate::directory::limits::{Limits, ROLES_PER_INSTANCE_PROFILE};
use crate::directory::name::{Name, ResourceKind, folded, folded_arn};
use crate::directory::remains::Remains;
use crate::directory::shape::{Document, Ignored, Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};

shape! {
    /// An instance profile, which has at most one role. AWS's export of an account lists it inside its role, and
    /// repeats the role inside the profile.
    InstanceProfile {
        path: Option<String>,
        instance_profile_name: String,
        instance_profile_id: String,
        arn: String,
        create_date: Option<String>,
        roles: Vec<ProfileRole>,
        /// The tags; `None` leaves them as they are, since AWS's export does not contain them.
        tags: Option<Vec<Tag>>,
    }
}

shape! {
    /// The role in an instance profile. Only its name is used.
    ProfileRole {
        path: Option<String>,
        role_name: String,
        role_id: Option<String>,
        arn: Option<String>,
        create_date: Option<String>,
        assume_role_policy_document: Option<Document>,
        description: Ignored,
        max_session_duration: Ignored,
        max_signin_session_duration: Ignored,
        permissions_boundary: Ignored,
        role_last_used: Ignored,
        source_role_template: Ignored,
        tags: Ignored,
    }
}

#[derive(Debug)]
pub struct Profile {
    /// The ARN, `arn:aws:iam::ACCOUNT:instance-profile/PATH/NAME`.
    pub arn: Box<str>,
    /// `ACCOUNT/name` in lower case.
    folded: Box<str>,
    /// The folded name of the role in the profile; `None` if the profile is empty.
    pub role: Option<Box<str>>,
    pub tags: Box<[names::Tag]>,
}

impl Keyed for Profile {
    fn key(&self) -> &str {
        &self.folded
    }
}

impl Declared for InstanceProfile {
    fn id(&self) -> &str {
        &self.arn
    }

    fn label(&self) -> &str {
        &self.instance_profile_name
    }

    fn folded(&self) -> String {
        folded(account_of(&self.arn), &self.instance_profile_name)
    }

    fn unique_id(&self) -> Option<&str> {
        Some(&self.instance_profile_id)
    }

    fn links(&self) -> Vec<Name> {
        let account = account_of(&self.arn);
        let roles = self.roles.iter();
        let roles =
            roles.map(|role| Name::new(ResourceKind::Role, folded(account, &role.role_name)));
        roles.collect()
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(self.tags.get_or_insert_default())
    }

    fn drop_what_is_observed(&mut self) {
        for role in &mut self.roles {
            *role = ProfileRole {
                role_name: std::mem::take(&mut role.role_name),
                ..ProfileRole::default()
            };
        }
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        self.tags.take_if(|tags| tags.is_empty());
        defaults.unique_id("AIPA", account_of(&self.arn), &mut self.instance_profile_id)?;
        defaults.date(&mut self.create_date);
        defaults.path(&mut self.path, &self.arn);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep_id(&mut self.instance_profile_id, &old.instance_profile_id);
        keep(&mut self.create_date, &old.create_date);
        keep(&mut self.tags, &old.tags);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        let name = (self.instance_profile_name.as_str(), 128);
        limits.named("instance-profile", &self.arn, self.path.as_deref(), name);
        limits.quota(
            "InstanceSessionsPerInstanceProfile",
            self.roles.len(),
            ROLES_PER_INSTANCE_PROFILE,
        );
        limits.tags(
            "TagsPerInstanceProfile",
            self.tags.as_deref().unwrap_or_default(),
        );
    }

    fn must_go_first(&self) -> Option<Remains> {
        (!self.roles.is_empty()).then_some(Remains::Role)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let (arn, name) = (&self.arn, &self.instance_profile_name);
        identity_arn(how.place, arn, "instance-profile", name)?;
        unique_id(how.place, &self.instance_profile_id)?;
        if self.roles.len() > ROLES_PER_INSTANCE_PROFILE {
            return Err(fault(how.place, "Roles must have at most one member"));
        }
        directory.instance_profiles.put(Profile {
            arn: arn.as_str().into(),
            folded: self.folded().into(),
            role: self.links().pop().map(|role| role.id.into()),
            tags: tags(how.place, self.tags.as_deref().unwrap_or_default())?,
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        if let Some(folded) = folded_arn(id) {
            directory.instance_profiles.remove(&folded);
        }
    }
}
