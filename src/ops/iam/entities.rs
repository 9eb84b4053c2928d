//! The entities of IAM in the form of its answers: IAM API Reference, "User", "Group", "Role",
//! "Policy" and "InstanceProfile". As in AWS, lists do not contain tags, boundaries and the last
//! use.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::directory::declaration::{
    Boundary, Document, GroupDetail, InstanceProfile, ManagedPolicyDetail, RoleDetail, Tag,
    UserDetail,
};
use crate::error::Error;

/// The date in answers for an entity whose date is unknown, because AWS's model requires one.
pub(super) const UNKNOWN_DATE: &str = "1970-01-01T00:00:00Z";
/// The characters that are percent-encoded in policy documents: all except the unreserved
/// characters of RFC 3986 section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The fields of an entity that an answer contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything, for the actions that return one entity.
    Whole,
    /// The fields that lists contain: no tags, no boundary and no last use.
    Listed,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct User {
    path: String,
    user_name: String,
    user_id: String,
    arn: String,
    create_date: String,
    /// When the user last signed in with its password. Only GetUser returns it.
    pub(super) password_last_used: Option<String>,
    permissions_boundary: Option<AttachedBoundary>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Group {
    path: String,
    group_name: String,
    group_id: String,
    arn: String,
    create_date: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Role {
    path: String,
    role_name: String,
    role_id: String,
    arn: String,
    create_date: String,
    assume_role_policy_document: Option<String>,
    description: Option<String>,
    max_session_duration: Option<i64>,
    permissions_boundary: Option<AttachedBoundary>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    role_last_used: Option<LastUsed>,
}

/// The last use of a role. It is always empty, because Brevet does not record it.
#[derive(Serialize)]
struct LastUsed {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttachedBoundary {
    permissions_boundary_type: &'static str,
    permissions_boundary_arn: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Profile {
    path: String,
    instance_profile_name: String,
    instance_profile_id: String,
    arn: String,
    create_date: String,
    roles: Vec<Role>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    policy_name: String,
    policy_id: String,
    arn: String,
    path: String,
    default_version_id: String,
    attachment_count: usize,
    permissions_boundary_usage_count: usize,
    is_attachable: bool,
    description: Option<String>,
    create_date: String,
    update_date: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

impl User {
    pub(super) fn new(user: UserDetail, extent: Extent) -> Self {
        let whole = extent == Extent::Whole;
        Self {
            path: path(user.path),
            user_name: user.user_name,
            user_id: user.user_id,
            arn: user.arn,
            create_date: date(user.create_date),
            password_last_used: None,
            permissions_boundary: boundary(user.permissions_boundary).filter(|_| whole),
            tags: if whole { sorted(user.tags) } else { Vec::new() },
        }
    }
}

impl Group {
    pub(super) fn new(group: GroupDetail) -> Self {
        Self {
            path: path(group.path),
            group_name: group.group_name,
            group_id: group.group_id,
            arn: group.arn,
            create_date: date(group.create_date),
        }
    }
}

impl Role {
    /// Converts a stored role to the form of answers.
    ///
    /// # Errors
    /// [`Error::InternalFailure`] if the trust policy is unreadable, which cannot happen to a
    /// stored one.
    pub(super) fn new(role: RoleDetail, extent: Extent) -> Result<Self, Error> {
        let whole = extent == Extent::Whole;
        let trust = role.assume_role_policy_document.as_ref();
        let trust = trust.map(|trust| document(trust, &role.arn)).transpose()?;
        Ok(Self {
            path: path(role.path),
            role_name: role.role_name,
            role_id: role.role_id,
            arn: role.arn,
            create_date: date(role.create_date),
            assume_role_policy_document: trust,
            description: role.description,
            max_session_duration: Some(role.max_session_duration.unwrap_or(3_600)),
            permissions_boundary: boundary(role.permissions_boundary).filter(|_| whole),
            tags: if whole { sorted(role.tags) } else { Vec::new() },
            role_last_used: whole.then_some(LastUsed {}),
        })
    }
}

impl Role {
    /// Returns the role as the answer of CreateRole contains it: without the maximum session
    /// duration and the last use.
    pub(super) fn once_created(self) -> Self {
        Self {
            max_session_duration: None,
            ..self.without_last_use()
        }
    }

    /// Returns the role without its last use, which only GetRole returns.
    pub(super) fn without_last_use(self) -> Self {
        Self {
            role_last_used: None,
            ..self
        }
    }
}

impl Profile {
    /// Converts a stored instance profile to the form of answers. The caller looks up the role that
    /// it names.
    pub(super) fn new(profile: InstanceProfile, role: Option<Role>, extent: Extent) -> Self {
        let whole = extent == Extent::Whole;
        Self {
            path: path(profile.path),
            instance_profile_name: profile.instance_profile_name,
            instance_profile_id: profile.instance_profile_id,
            arn: profile.arn,
            create_date: date(profile.create_date),
            roles: role.into_iter().collect(),
            tags: if whole {
                sorted(profile.tags.unwrap_or_default())
            } else {
                Vec::new()
            },
        }
    }
}

impl Policy {
    /// Converts a stored managed policy to the form of answers. The two numbers are how many
    /// entities the policy is attached to, and how many have it as their permissions boundary.
    pub(super) fn new(
        policy: ManagedPolicyDetail,
        (attachments, boundaries): (usize, usize),
        extent: Extent,
    ) -> Self {
        let whole = extent == Extent::Whole;
        let created = date(policy.create_date);
        let mut default = policy
            .policy_version_list
            .iter()
            .filter(|version| version.is_default_version)
            .map(|version| version.version_id.clone());
        let default = policy.default_version_id.or_else(|| default.next());
        Self {
            policy_name: policy.policy_name,
            policy_id: policy.policy_id.unwrap_or_default(),
            arn: policy.arn,
            path: path(policy.path),
            default_version_id: default.unwrap_or_default(),
            attachment_count: attachments,
            permissions_boundary_usage_count: boundaries,
            is_attachable: policy.is_attachable.unwrap_or(true),
            description: policy.description.filter(|_| whole),
            update_date: policy.update_date.unwrap_or_else(|| created.clone()),
            create_date: created,
            tags: if whole {
                sorted(policy.tags.unwrap_or_default())
            } else {
                Vec::new()
            },
        }
    }
}

/// Returns a policy document in the form of answers: its percent-encoded text. `owner` is the entity to which the
/// document belongs, for the log.
///
/// # Errors
/// [`Error::InternalFailure`] if the document is unreadable, which cannot happen to a stored one.
pub(super) fn document(document: &Document, owner: &str) -> Result<String, Error> {
    let text = document.text().map_err(|rule| {
        tracing::error!(owner, rule, "a stored policy document of this entity cannot be read, so the call was refused: run `brevet check`, which names the row");
        Error::InternalFailure
    })?;
    Ok(utf8_percent_encode(&text, RESERVED).to_string())
}

/// Sorts tags by key, which is their order in answers.
pub(super) fn sorted(mut tags: Vec<Tag>) -> Vec<Tag> {
    tags.sort_by(|a, b| a.key.cmp(&b.key));
    tags
}

/// Returns the date, or [`UNKNOWN_DATE`] if there is none.
pub(super) fn date(date: Option<String>) -> String {
    date.unwrap_or_else(|| UNKNOWN_DATE.to_owned())
}

fn path(path: Option<String>) -> String {
    path.unwrap_or_else(|| "/".to_owned())
}

fn boundary(boundary: Option<Boundary>) -> Option<AttachedBoundary> {
    boundary.map(|boundary| AttachedBoundary {
        permissions_boundary_type: "Policy",
        permissions_boundary_arn: boundary.permissions_boundary_arn,
    })
}
