//! Reads a directory file, checks it as a whole and compiles it.

use std::collections::HashMap;
use std::sync::Arc;

use super::declaration::Declaration;
use super::declared::{Insertion, Source};
use super::name::ResourceKind;
use super::principals;
use super::resource::Resource;
use super::strangers::check_everybody;
use super::{Directory, DirectoryError, Entries, fault};
use crate::evaluator::strangers;
use crate::master_key::MasterKey;

/// The maximum size in bytes of a directory file.
pub const MAX_BYTES: u64 = 64 << 20;

impl Directory {
    #[cfg(any(test, feature = "internals"))]
    /// Reads, checks and compiles a directory file as a whole.
    ///
    /// # Errors
    /// [`DirectoryError`] with the first place that breaks a rule. Sealed secrets need
    /// `master_key`.
    pub fn compile(text: &[u8], master_key: Option<&MasterKey>) -> Result<Self, DirectoryError> {
        Self::from_declaration(parse(text)?, master_key)
    }

    /// Checks and compiles a declaration.
    ///
    /// # Errors
    /// [`DirectoryError`] with the first place that breaks a rule.
    pub fn from_declaration(
        declaration: Declaration,
        master_key: Option<&MasterKey>,
    ) -> Result<Self, DirectoryError> {
        let mut directory = Self::empty()?;
        let mut unique = Unique::default();
        let mut entries = Entries::new();
        let mut places = HashMap::<ResourceKind, usize>::new();
        let resources = declared(declaration)?;
        let owners = principals::owners(&resources);
        for resource in resources {
            let index = places.entry(resource.kind()).or_default();
            let place = place(resource.kind().list(), *index, resource.label());
            *index += 1;
            unique.resource(&place, &resource)?;
            let how = Insertion {
                place: &place,
                source: Source::File(&owners),
                master_key,
            };
            resource.insert(&mut directory, &how)?;
            let hint = " in Policies; add the policy with its document";
            directory.check_links(&place, &resource, hint)?;
            let key = (resource.kind(), resource.folded());
            entries.insert(key, resource.without_clear_secret());
        }
        let providers: Vec<&str> = directory.oidc_providers.values().map(|p| &*p.arn).collect();
        for role in directory
            .roles()
            .filter(|role| strangers::names_everybody(&role.trust))
        {
            let place = format!("RoleDetailList {}: AssumeRolePolicyDocument", role.arn);
            check_everybody(&place, &role.arn, &role.trust, &providers)?;
        }
        directory.declared = Some(Arc::new(entries));
        Ok(directory)
    }
}

/// Parses the text of a directory file. This checks only its syntax and fields.
///
/// # Errors
/// [`DirectoryError`] with the line, the column and the rule.
pub fn parse(text: &[u8]) -> Result<Declaration, DirectoryError> {
    serde_json::from_slice(text).map_err(|e| {
        fault(
            format!("line {}, column {}", e.line(), e.column()),
            json_rule(&e),
        )
    })
}

/// Returns all resources of a declaration, each after those to which it refers.
///
/// # Errors
/// [`DirectoryError`] if the declaration is only a page of an export, a document in it cannot be decoded, or a resource
/// lacks its ARN or other id.
pub fn declared(declaration: Declaration) -> Result<Vec<Resource>, DirectoryError> {
    let part = match &declaration {
        Declaration {
            is_truncated: Some(true),
            ..
        } => Some("IsTruncated"),
        Declaration {
            next_token: Some(_),
            ..
        } => Some("NextToken"),
        _ => None,
    };
    if let Some(field) = part {
        return Err(fault(
            field,
            "this is only one page of an export; export everything at once, without `--max-items` and `--no-paginate`",
        ));
    }
    let resources = declaration
        .into_resources()
        .map_err(|rule| fault("policy document", rule))?;
    let mut counts = HashMap::<&str, usize>::new();
    for resource in &resources {
        let name = resource.name();
        let count = counts.entry(name.kind.list()).or_default();
        if name.id.is_empty() {
            let place = format!("{}[{count}] {}", name.kind.list(), resource.label());
            let rule = match name.kind {
                ResourceKind::Account => "AccountId is missing".to_owned(),
                ResourceKind::AccessKey => "AccessKeyId is missing".to_owned(),
                ResourceKind::Certificate => "SpiffeId or Subject is missing".to_owned(),
                ResourceKind::MfaDevice => "SerialNumber is missing".to_owned(),
                ResourceKind::LoginProfile => "UserArn is missing".to_owned(),
                ResourceKind::BucketPolicy => "Bucket is missing".to_owned(),
                ResourceKind::Organization => "Id is missing".to_owned(),
                kind => {
                    format!(
                        "Arn is missing; it has the form `arn:aws:iam::111122223333:{kind}/NAME`"
                    )
                }
            };
            return Err(fault(place.trim_end(), rule));
        }
        *count += 1;
    }
    Ok(resources)
}

/// The names and unique ids that were read so far, each with the place in the file that declares it.
#[derive(Default)]
struct Unique(HashMap<String, String>);

impl Unique {
    /// Checks that names are unique in their account and kind, ignoring case, and that unique ids
    /// are unique everywhere.
    fn resource(&mut self, place: &str, resource: &Resource) -> Result<(), DirectoryError> {
        let kind = resource.kind();
        self.insert(place, resource.name().to_string(), "the same name")?;
        self.insert(
            place,
            format!("{kind}/{}", resource.folded()),
            "the same name (ignoring case)",
        )?;
        match resource.unique_id() {
            Some(id) => self.insert(place, format!("id {id}"), "the same unique id"),
            None => Ok(()),
        }
    }

    fn insert(&mut self, place: &str, key: String, what: &str) -> Result<(), DirectoryError> {
        match self.0.insert(key, place.to_owned()) {
            None => Ok(()),
            Some(first) => Err(fault(
                place,
                format!("has {what} as {first}, which comes earlier in the file"),
            )),
        }
    }
}

fn place(list: &str, index: usize, name: &str) -> String {
    let name: String = name
        .chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect();
    format!("{list}[{index}] {name}")
}

fn json_rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ")
        .map_or(text.clone(), |cut| text.chars().take(cut).collect())
}
