//! The one door for changes of the directory: typed commands, checked by AWS's rules, written with
//! their place in the feed in one transaction. Knows no wire: the IAM API and the import of files
//! are faces on exactly these commands.
//!
//! Every command may say which version of the thing it was decided on (the change that wrote it);
//! of two administrators at once the second is told, and overwrites nothing.

mod accept_clock;
mod detail;
mod edit;
mod emergency;
mod import;
mod lint;
mod principals;
mod rules;
mod secrets;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::names::{AccessKeyId, AccessKeyKind};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{Directory, DirectoryError, normal_seed, sealing_name};
use crate::error::Error;
use crate::master_key::{MasterKey, MasterKeyError};
use crate::revocations::{Mark, Selector};
use crate::store::{Entry, Store, StoreError, Writer};

pub use accept_clock::accept_clock;
pub use detail::Detail;
pub use edit::Edit;
pub use emergency::{end_sessions, revoke_signing_keys};
pub use import::{Import, Planned, plan, survey};
pub use principals::bind_stored;
pub use secrets::{Secrets, open_all};

/// Why a command was refused, named as IAM names it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such thing.
    #[error("NoSuchEntity: there is no {0}")]
    NoSuchEntity(String),
    /// There is one already.
    #[error("EntityAlreadyExists: {0}")]
    EntityAlreadyExists(String),
    /// Something depends on it.
    #[error("DeleteConflict: {0}")]
    DeleteConflict(String),
    /// One too many.
    #[error("LimitExceeded: {0}")]
    LimitExceeded(String),
    /// A policy document that is none.
    #[error("MalformedPolicyDocument: {0}")]
    MalformedPolicyDocument(String),
    /// A field breaks a rule.
    #[error("ValidationError: {0}")]
    Validation(String),
    /// Somebody else changed it meanwhile.
    #[error(
        "ConcurrentModification: {name} was changed meanwhile (version {found}, decided on {expected}); look again"
    )]
    ConcurrentModification {
        /// The thing.
        name: Name,
        /// As the store has it.
        found: i64,
        /// As the command was decided on.
        expected: i64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// No chance, no ids.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NoSuchEntity(what) => Self::NotFound(format!("There is no {what}.")),
            CommandError::EntityAlreadyExists(what) => {
                Self::EntityAlreadyExists(format!("There is already {what}."))
            }
            CommandError::DeleteConflict(what) => Self::DeleteConflict(what),
            CommandError::LimitExceeded(what) => Self::LimitExceeded(what),
            CommandError::MalformedPolicyDocument(what) => Self::MalformedPolicyDocument(what),
            CommandError::Validation(what) => Self::Malformed(what),
            CommandError::ConcurrentModification { .. } => {
                Self::ConcurrentModification(error.to_string())
            }
            CommandError::Store(error) => error.into(),
            CommandError::Entropy(error) => error.into(),
            CommandError::MasterKey(error) => {
                tracing::error!(%error, "a change is refused");
                Self::ServiceUnavailable("the master key")
            }
        }
    }
}

/// Who makes a change, for the feed and the audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// `IAMUser`, `AssumedRole`; `Operator` for somebody at the broker's own machine.
    pub r#type: String,
    /// Of a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The key that signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Of an operator: the system account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The call, as answer and audit name it.
    #[serde(rename = "requestID", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Actor {
    /// Somebody at the broker's own machine, by system account.
    pub fn operator(user_name: &str) -> Self {
        Self {
            r#type: "Operator".to_owned(),
            arn: None,
            access_key_id: None,
            user_name: Some(user_name.to_owned()),
            request_id: None,
        }
    }

    /// As the feed holds it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// One change that somebody wants. What IAM gives by itself (ids, ARNs, dates) may be left empty.
#[derive(Debug)]
pub enum Command {
    /// A new thing.
    Create(Resource),
    /// A thing that is there, with another content.
    Replace {
        /// The whole of it.
        resource: Resource,
        /// The version that it was decided on.
        expected: Option<i64>,
    },
    /// One aspect of a thing that is there.
    Edit {
        /// Which thing.
        name: Name,
        /// What about it.
        edit: Edit,
        /// The version that it was decided on.
        expected: Option<i64>,
    },
    /// A thing to go. Nothing may depend on it.
    Delete {
        /// Which thing.
        name: Name,
        /// The version that it was decided on.
        expected: Option<i64>,
    },
}

/// What commands need.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// Where the rows are.
    pub store: &'a Store,
    /// What secrets are sealed with.
    pub master_key: &'a MasterKey,
    /// Where ids come from.
    pub entropy: &'a dyn Entropy,
    /// When.
    pub now: Timestamp,
    /// What the broker calls itself in tokens: no provider may have that URL.
    pub issuer: Option<&'a str>,
}

/// A revocation as a change of the feed carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Revoked {
    /// See [`Selector`].
    pub selector: String,
    /// Twelve digits.
    pub account: String,
    /// Of the selector.
    pub value: String,
    /// Sessions issued under an earlier change have ended.
    pub before_sequence: i64,
    /// Sessions issued before this second since 1970 have ended.
    pub before_seconds: i64,
    /// When the last of them would have ended by itself.
    pub expires_at: i64,
}

/// Executes commands in order, all of them or none. The number of the last change.
///
/// # Errors
/// The first command that breaks a rule; nothing was changed.
pub async fn execute(
    desk: Desk<'_>,
    actor: &Actor,
    commands: Vec<Command>,
) -> Result<i64, CommandError> {
    execute_in(desk.store.write().await?, desk, actor, commands).await
}

/// Executes commands as one change that was begun.
///
/// # Errors
/// As [`execute`].
pub async fn execute_in(
    mut writer: Writer<'_>,
    desk: Desk<'_>,
    actor: &Actor,
    commands: Vec<Command>,
) -> Result<i64, CommandError> {
    for command in commands {
        if let Err(error) = run(desk, &mut writer, actor, command).await {
            writer.abandon().await;
            return Err(error);
        }
    }
    Ok(writer.commit().await?)
}

async fn run(
    desk: Desk<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    command: Command,
) -> Result<(), CommandError> {
    match command {
        Command::Create(mut resource) => {
            fill(&mut resource, desk)?;
            let name = resource.name();
            let double = writer.get(&name).await?.is_some();
            if double || writer.find(name.kind, &resource.folded()).await?.is_some() {
                return Err(CommandError::EntityAlreadyExists(format!(
                    "{name}, or one whose name differs in case only"
                )));
            }
            principals::bind_to_store(writer, &mut resource, None).await?;
            rules::check(&resource, desk.issuer)?;
            rules::check_references(writer, &resource, None).await?;
            rules::check_counts(writer, &resource).await?;
            put(
                desk,
                writer,
                actor,
                action("Create", name.kind),
                None,
                resource,
            )
            .await
        }
        Command::Replace {
            mut resource,
            expected,
        } => {
            let old = current(writer, &resource.name(), expected).await?;
            principals::bind_to_store(writer, &mut resource, Some(&old)).await?;
            rules::check(&resource, desk.issuer)?;
            rules::check_references(writer, &resource, Some(&old)).await?;
            let action = action("Update", resource.kind());
            put(desk, writer, actor, action, Some(old), resource).await
        }
        Command::Edit {
            name,
            edit,
            expected,
        } => {
            let old = current(writer, &name, expected).await?;
            let mut new = old.clone();
            let owner_changes = matches!(edit, Edit::AssignMfaDevice(_) | Edit::ReleaseMfaDevice);
            if owner_changes {
                unseal(&mut new, desk)?;
            }
            edit.apply(&mut new, desk.now)?;
            // Whoever writes a trust policy names those who are there.
            let named_before = if matches!(edit, Edit::UpdateAssumeRolePolicy(_)) {
                None
            } else {
                Some(&old)
            };
            principals::bind_to_store(writer, &mut new, named_before).await?;
            rules::check(&new, desk.issuer)?;
            rules::check_references(writer, &new, Some(&old)).await?;
            if owner_changes {
                rules::check_counts(writer, &new).await?;
            }
            if new.name() != name {
                return rename(desk, writer, actor, edit.action(name.kind), old, new).await;
            }
            put(desk, writer, actor, edit.action(name.kind), Some(old), new).await
        }
        Command::Delete { name, expected } => {
            let old = current(writer, &name, expected).await?;
            rules::check_deletable(writer, &old).await?;
            delete(desk, writer, actor, old).await
        }
    }
}

/// The thing as the store has it, if it is what the command was decided on.
async fn current(
    writer: &mut Writer<'_>,
    name: &Name,
    expected: Option<i64>,
) -> Result<Resource, CommandError> {
    let stored = writer
        .get(name)
        .await?
        .ok_or_else(|| CommandError::NoSuchEntity(name.to_string()))?;
    match expected {
        Some(expected) if expected != stored.version => Err(CommandError::ConcurrentModification {
            name: name.clone(),
            found: stored.version,
            expected,
        }),
        _ => read(name, &stored.body),
    }
}

fn read(name: &Name, body: &str) -> Result<Resource, CommandError> {
    Resource::parse(name.kind, body).map_err(|e| StoreError::Row(format!("{name}: {e}")).into())
}

async fn put(
    desk: Desk<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    old: Option<Resource>,
    mut new: Resource,
) -> Result<(), CommandError> {
    let name = new.name();
    seal(&mut new, old.as_ref(), desk)?;
    // The compiler of snapshots has the last word: what it does not take, no node could load.
    let mut scratch = Directory::empty().map_err(refused)?;
    scratch.take(&new, Some(desk.master_key)).map_err(refused)?;
    if let Some(id) = new.unique_id().filter(|id| !id.is_empty())
        && let Some(other) = writer.find_unique(id).await?.filter(|other| *other != name)
    {
        return Err(CommandError::EntityAlreadyExists(format!(
            "{other}, which has the unique id `{id}` of {name}"
        )));
    }
    let overridden = scratch
        .role(&name.id)
        .map(|role| role.overridden.to_vec())
        .unwrap_or_default();
    let revoked = if old.as_ref().is_some_and(is_active) && !is_active(&new) {
        ends(&new)
    } else {
        None
    };
    let detail = Detail {
        overridden,
        ..Detail::of(old.as_ref(), Some(&new))
    };
    record(desk, writer, actor, action, &name, detail, revoked).await?;
    Ok(writer.put(&new).await?)
}

async fn delete(
    desk: Desk<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    old: Resource,
) -> Result<(), CommandError> {
    let name = old.name();
    let detail = Detail::of(Some(&old), None);
    record(
        desk,
        writer,
        actor,
        action("Delete", name.kind),
        &name,
        detail,
        ends(&old),
    )
    .await?;
    Ok(writer.delete(&name).await?)
}

/// A thing under another ARN: what refers to it refers to the new one, and what came from it under
/// the old name ends.
async fn rename(
    desk: Desk<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    old: Resource,
    new: Resource,
) -> Result<(), CommandError> {
    let (from, to) = (old.name(), new.name());
    if writer.get(&to).await?.is_some() {
        return Err(CommandError::EntityAlreadyExists(to.to_string()));
    }
    let referrers = writer
        .referrers(from.kind, &from.id, &old.folded(), i64::MAX)
        .await?;
    let mut after = Vec::new();
    for referrer in referrers {
        let mut thing = current(writer, &referrer, None).await?;
        unseal(&mut thing, desk)?;
        edit::follow(&mut thing, &old, &new);
        after.push(thing);
    }
    delete(desk, writer, actor, old).await?;
    put(desk, writer, actor, action, None, new).await?;
    for thing in after {
        put(desk, writer, actor, action, None, thing).await?;
    }
    Ok(())
}

async fn record(
    desk: Desk<'_>,
    writer: &mut Writer<'_>,
    actor: &Actor,
    action: &'static str,
    name: &Name,
    mut detail: Detail,
    revoked: Option<(Selector, String, String)>,
) -> Result<(), CommandError> {
    if let Some((selector, account, value)) = revoked {
        // What was issued under the change before this one has ended.
        let mark = Mark {
            before_sequence: writer.sequence() + 1,
            before_seconds: 0,
            expires_at: Mark::outlives(desk.now),
        };
        writer
            .revoke(selector.as_str(), &account, &value, mark)
            .await?;
        detail
            .revoked
            .push(Revoked::new(selector, &account, &value, mark));
    }
    let entry = Entry {
        changed_at: desk.now,
        actor: actor.text(),
        action,
        kind: name.kind.as_str(),
        id: name.id.clone(),
        detail: serde_json::to_string(&detail).map_err(|e| StoreError::Row(e.to_string()))?,
    };
    let sequence = writer.record(&entry).await?;
    Ok(writer.keep_documents(sequence, &detail.documents).await?)
}

impl Revoked {
    /// Of a mark.
    pub fn new(selector: Selector, account: &str, value: &str, mark: Mark) -> Self {
        Self {
            selector: selector.as_str().to_owned(),
            account: account.to_owned(),
            value: value.to_owned(),
            before_sequence: mark.before_sequence,
            before_seconds: mark.before_seconds,
            expires_at: mark.expires_at,
        }
    }
}

/// What ends with a thing that is deleted or disabled.
fn ends(resource: &Resource) -> Option<(Selector, String, String)> {
    let selector = match resource {
        Resource::User(_) => Selector::Principal,
        Resource::Role(_) => Selector::Role,
        Resource::AccessKey(_) => Selector::AccessKey,
        Resource::OidcProvider(_) => Selector::Principal,
        _ => return None,
    };
    Some((selector, resource.account().to_owned(), resource.name().id))
}

fn is_active(resource: &Resource) -> bool {
    match resource {
        Resource::AccessKey(key) => key.status.as_deref() != Some("Inactive"),
        _ => true,
    }
}

/// What IAM gives by itself.
fn fill(resource: &mut Resource, desk: Desk<'_>) -> Result<(), CommandError> {
    let account = crate::base::arn::AccountId::parse(resource.account());
    let unique = |prefix: &str, id: &mut String| -> Result<(), CommandError> {
        if let (true, Some(account)) = (id.is_empty(), account) {
            let minted = AccessKeyId::mint(
                AccessKeyKind::LongTerm,
                account,
                entropy::bytes(desk.entropy)?,
            );
            *id = format!("{prefix}{}", minted.as_str().trim_start_matches("AKIA"));
        }
        Ok(())
    };
    let date = |date: &mut Option<String>| {
        date.get_or_insert_with(|| desk.now.to_string());
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

/// Secrets in clear become sealed ones. One that is what was there stays as it was sealed.
fn seal(
    resource: &mut Resource,
    old: Option<&Resource>,
    desk: Desk<'_>,
) -> Result<(), CommandError> {
    if let Resource::MfaDevice(device) = resource
        && let Some(seed) = &device.base32_string_seed
    {
        let place = format!("mfa-device {}: Base32StringSeed", device.serial_number);
        let seed = normal_seed(seed)
            .map_err(|rule| CommandError::Validation(format!("{place}: {rule}")))?;
        device.base32_string_seed = Some(seed);
    }
    let (belongs, clear, sealed, before) = match resource {
        Resource::AccessKey(k) => (
            sealing_name("access key", &k.access_key_id, &k.user_arn),
            &mut k.secret_access_key,
            &mut k.sealed_secret_access_key,
            match old {
                Some(Resource::AccessKey(old)) => old.sealed_secret_access_key.clone(),
                _ => None,
            },
        ),
        Resource::MfaDevice(d) => (
            sealing_name("mfa device", &d.serial_number, &d.user_arn),
            &mut d.base32_string_seed,
            &mut d.sealed_base32_string_seed,
            match old {
                Some(Resource::MfaDevice(old)) => old.sealed_base32_string_seed.clone(),
                _ => None,
            },
        ),
        _ => return Ok(()),
    };
    let Some(secret) = clear.take() else {
        return Ok(());
    };
    if sealed.is_some() {
        return Err(CommandError::Validation(format!(
            "{}: a secret stands there in clear and sealed",
            resource.name()
        )));
    }
    let same = before.filter(|old| {
        desk.master_key
            .open(&belongs, old)
            .is_ok_and(|old| is_same_secret(old.expose().as_bytes(), secret.as_bytes()))
    });
    *sealed = Some(match same {
        Some(old) => old,
        None => desk
            .master_key
            .seal(&belongs, secret.as_bytes(), desk.entropy)?,
    });
    Ok(())
}

/// A sealed secret is bound to its owner: under another one it is sealed anew.
fn unseal(resource: &mut Resource, desk: Desk<'_>) -> Result<(), CommandError> {
    let (belongs, clear, sealed) = match resource {
        Resource::AccessKey(k) => (
            sealing_name("access key", &k.access_key_id, &k.user_arn),
            &mut k.secret_access_key,
            &mut k.sealed_secret_access_key,
        ),
        Resource::MfaDevice(d) => (
            sealing_name("mfa device", &d.serial_number, &d.user_arn),
            &mut d.base32_string_seed,
            &mut d.sealed_base32_string_seed,
        ),
        _ => return Ok(()),
    };
    if let Some(text) = sealed.take() {
        *clear = Some(zeroize::Zeroizing::new(
            desk.master_key.open(&belongs, &text)?.expose().clone(),
        ));
    }
    Ok(())
}

/// In constant time: by their MACs under one key.
fn is_same_secret(one: &[u8], two: &[u8]) -> bool {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, one);
    ring::hmac::verify(&key, two, ring::hmac::sign(&key, one).as_ref()).is_ok()
}

/// Seals every secret of the store anew under the key that seals now. How many there were.
///
/// # Errors
/// When one of them does not open; nothing was changed.
pub async fn reseal(desk: Desk<'_>, actor: &Actor) -> Result<usize, CommandError> {
    let mut names = Vec::new();
    let secrets = [Kind::AccessKey, Kind::MfaDevice];
    desk.store
        .scan::<StoreError>(|kind, id, _, _| {
            if secrets.contains(&kind) {
                names.push(Name::new(kind, id));
            }
            Ok(())
        })
        .await?;
    let mut resealed = 0;
    // In portions: other changes are not held up for long, and a portion is all or nothing.
    for portion in names.chunks(256) {
        let mut writer = desk.store.write_much().await?;
        for name in portion {
            let Some(stored) = writer.get(name).await? else {
                continue;
            };
            let mut thing = read(name, &stored.body)?;
            let (belongs, sealed) = match &mut thing {
                Resource::AccessKey(k) => (
                    sealing_name("access key", &k.access_key_id, &k.user_arn),
                    &mut k.sealed_secret_access_key,
                ),
                Resource::MfaDevice(d) => (
                    sealing_name("mfa device", &d.serial_number, &d.user_arn),
                    &mut d.sealed_base32_string_seed,
                ),
                _ => continue,
            };
            let Some(old) = sealed.as_deref() else {
                continue;
            };
            if MasterKey::sealed_by(old) == Some(desk.master_key.id()) {
                continue;
            }
            let secret = desk.master_key.open(&belongs, old)?;
            *sealed = Some(desk.master_key.seal(
                &belongs,
                secret.expose().as_bytes(),
                desk.entropy,
            )?);
            record(
                desk,
                &mut writer,
                actor,
                "ResealSecret",
                name,
                Detail::default(),
                None,
            )
            .await?;
            writer.put(&thing).await?;
            resealed += 1;
        }
        writer.commit().await?;
    }
    Ok(resealed)
}

fn refused(error: DirectoryError) -> CommandError {
    if error.place.ends_with("Document") || error.place.contains("inline policy") {
        CommandError::MalformedPolicyDocument(format!("{}: {}", error.place, error.rule))
    } else {
        CommandError::Validation(format!("{}: {}", error.place, error.rule))
    }
}

/// `Create` and `role` are `CreateRole`.
fn action(verb: &'static str, kind: Kind) -> &'static str {
    match (verb, kind) {
        ("Create", Kind::Account) => "CreateAccount",
        ("Create", Kind::Policy) => "CreatePolicy",
        ("Create", Kind::Group) => "CreateGroup",
        ("Create", Kind::User) => "CreateUser",
        ("Create", Kind::Role) => "CreateRole",
        ("Create", Kind::InstanceProfile) => "CreateInstanceProfile",
        ("Create", Kind::AccessKey) => "CreateAccessKey",
        ("Create", Kind::MfaDevice) => "CreateVirtualMFADevice",
        ("Create", Kind::OidcProvider) => "CreateOpenIDConnectProvider",
        ("Create", Kind::SamlProvider) => "CreateSAMLProvider",
        ("Delete", Kind::Account) => "DeleteAccount",
        ("Delete", Kind::Policy) => "DeletePolicy",
        ("Delete", Kind::Group) => "DeleteGroup",
        ("Delete", Kind::User) => "DeleteUser",
        ("Delete", Kind::Role) => "DeleteRole",
        ("Delete", Kind::InstanceProfile) => "DeleteInstanceProfile",
        ("Delete", Kind::AccessKey) => "DeleteAccessKey",
        ("Delete", Kind::MfaDevice) => "DeleteVirtualMFADevice",
        ("Delete", Kind::OidcProvider) => "DeleteOpenIDConnectProvider",
        ("Delete", Kind::SamlProvider) => "DeleteSAMLProvider",
        (_, Kind::Account) => "UpdateAccount",
        (_, Kind::Policy) => "UpdatePolicy",
        (_, Kind::Group) => "UpdateGroup",
        (_, Kind::User) => "UpdateUser",
        (_, Kind::Role) => "UpdateRole",
        (_, Kind::InstanceProfile) => "UpdateInstanceProfile",
        (_, Kind::AccessKey) => "UpdateAccessKey",
        (_, Kind::MfaDevice) => "UpdateVirtualMFADevice",
        (_, Kind::OidcProvider) => "UpdateOpenIDConnectProvider",
        (_, Kind::SamlProvider) => "UpdateSAMLProvider",
    }
}

/// The fields that differ, before and after: policies by digest, no secrets.
fn differing(old: Option<Value>, new: Option<Value>) -> (Option<Value>, Option<Value>) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let pick = |of: &Map<String, Value>, other: &Map<String, Value>| {
                let differing = of.iter().filter(|(k, v)| other.get(*k) != Some(v));
                Value::Object(
                    differing
                        .map(|(k, v)| (k.clone(), digested(v.clone())))
                        .collect(),
                )
            };
            (Some(pick(&old, &new)), Some(pick(&new, &old)))
        }
        (old, new) => (old.map(digested), new.map(digested)),
    }
}

/// A thing without its secrets.
fn public(resource: &Resource) -> Value {
    let text = resource.text().unwrap_or_default();
    let mut value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        for (name, field) in fields.iter_mut() {
            let sealed = name.strip_prefix("Sealed").unwrap_or(name);
            if ["SecretAccessKey", "Base32StringSeed", "PrivateKeyList"].contains(&sealed) {
                // Whether it changed can be told, and no more.
                *field = json!(format!("sealed {}", digest(&field.to_string())));
            }
        }
    }
    value
}

/// Policy documents and metadata as their digests.
fn digested(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, field)| {
                let whole = name.ends_with("Document");
                let field = if whole {
                    json!(format!("sha256:{}", digest(&field.to_string())))
                } else {
                    digested(field)
                };
                (name, field)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(digested).collect(),
        other => other,
    }
}

fn digest(text: &str) -> String {
    hex(&sha256(text.as_bytes()))
}

/// The whole directory, as a file declares it.
///
/// # Errors
/// Without an answer, or a row that is not understood.
pub async fn export(store: &Store) -> Result<Declaration, StoreError> {
    export_of(store, |_| true).await
}

/// Those things of the directory that are wanted, as a file declares them.
///
/// # Errors
/// Without an answer, or a row that is not understood.
pub async fn export_of(
    store: &Store,
    is_wanted: impl Fn(&Name) -> bool,
) -> Result<Declaration, StoreError> {
    let mut all = Vec::new();
    store
        .scan::<StoreError>(|kind, id, _, body| {
            let thing = Resource::parse(kind, body);
            all.push(thing.map_err(|e| StoreError::Row(format!("{kind} {id}: {e}")))?);
            Ok(())
        })
        .await?;
    all.sort_by_cached_key(Resource::name);
    crate::directory::principals::show(&mut all);
    all.retain(|thing| is_wanted(&thing.name()));
    Ok(Declaration::from_resources(all))
}

#[cfg(test)]
mod tests;
