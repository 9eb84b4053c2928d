//! Long-term access keys: the secret is kept sealed, and an inactive key is refused. Deactivating
//! or deleting a key ends the sessions that were made with it.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::arn::account_of;
use crate::base::entropy::NoEntropy;
use crate::base::names::AccessKeyId;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::Limits;
use crate::directory::name::{Name, ResourceKind};
use crate::directory::secret_field::{SecretField, SecretText, sealing_name};
use crate::directory::shape::shape;
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::proof::sigv4::SigningSecret;
use crate::revocations::Selector;

shape! {
    /// A long-term access key, whose secret is in clear (for import) or sealed under the master
    /// key.
    AccessKeyDetail {
        user_arn: String,
        access_key_id: String,
        secret_access_key: Option<Zeroizing<String>>,
        sealed_secret_access_key: Option<String>,
        /// `Active` (the default) or `Inactive`.
        status: Option<String>,
        create_date: Option<String>,
    }
}

/// A long-term access key in a snapshot, with its secret unsealed.
#[derive(Debug)]
pub struct AccessKey {
    /// The public id of the key, which requests name: `AKIA…`.
    pub id: AccessKeyId,
    /// The secret with which the key's owner signs requests.
    pub secret: SigningSecret,
    /// The ARN of the user to whom the key belongs.
    pub user_arn: Arc<str>,
    /// Whether the key may be used. An inactive key is refused.
    pub active: bool,
    /// When the key was created, in seconds since 1970; 0 if that is not known, so that the key
    /// counts as old.
    pub created_at: i64,
}

impl Keyed for AccessKey {
    fn key(&self) -> &str {
        self.id.as_str()
    }
}

impl Declared for AccessKeyDetail {
    const HAS_SECRET: bool = true;

    fn id(&self) -> &str {
        &self.access_key_id
    }

    /// The id as it is, because access key ids are case-sensitive.
    fn folded(&self) -> String {
        self.access_key_id.clone()
    }

    fn account(&self) -> &str {
        account_of(&self.user_arn)
    }

    fn links(&self) -> Vec<Name> {
        vec![Name::new(ResourceKind::User, self.user_arn.as_str())]
    }

    fn secret(&self) -> Option<SecretField<'_>> {
        Some(SecretField {
            name: "SecretAccessKey",
            bound_to: sealing_name("access key", &self.access_key_id, &self.user_arn),
            clear: self.secret_access_key.as_ref().map(|s| s.as_str()),
            sealed: self.sealed_secret_access_key.as_deref(),
            normal: normal_secret,
        })
    }

    fn set_secret(&mut self, text: SecretText) {
        (self.secret_access_key, self.sealed_secret_access_key) = text.into_fields();
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        self.status.get_or_insert_with(|| "Active".to_owned());
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
        // A file that does not mention the status must not reactivate a key that was deactivated.
        keep(&mut self.status, &old.status);
    }

    fn check(&self, _: &mut Limits<'_>) {}

    fn is_active(&self) -> bool {
        self.status.as_deref() != Some("Inactive")
    }

    fn sessions(&self) -> Option<Selector> {
        Some(Selector::AccessKey)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let id = AccessKeyId::parse("AccessKeyId", &self.access_key_id)
            .map_err(|e| fault(place, format!("AccessKeyId {}", e.rule)))?;
        if id.is_temporary() {
            return Err(fault(
                place,
                "AccessKeyId must not begin with `ASIA`, which marks temporary credentials",
            ));
        }
        let secret = directory.open_secret(self.secret(), how)?;
        let active = match self.status.as_deref() {
            None | Some("Active") => true,
            Some("Inactive") => false,
            Some(_) => {
                return Err(fault(
                    format!("{place}: Status"),
                    "must be `Active` or `Inactive`",
                ));
            }
        };
        let created = self
            .create_date
            .as_deref()
            .and_then(|date| date.parse().ok());
        // All keys of a user share the allocation of its ARN.
        let user = directory.users.get(&self.user_arn);
        let user_arn = user.map_or_else(|| self.user_arn.as_str().into(), |u| u.arn.clone());
        directory.keys.put(AccessKey {
            id,
            secret: SigningSecret::new(secret),
            user_arn,
            active,
            created_at: created.map_or(0, jiff::Timestamp::as_second),
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.keys.remove(id);
    }
}

/// Checks that a secret is long enough to be random and is not an example from documentation.
fn normal_secret(secret: &str) -> Result<Zeroizing<String>, &'static str> {
    if !(16..=128).contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("must be 16 to 128 printable ASCII characters");
    }
    let first = secret.bytes().next();
    if secret.ends_with("EXAMPLEKEY") || secret.bytes().all(|b| Some(b) == first) {
        return Err(
            "is an example from documentation or one repeated character; generate a random secret",
        );
    }
    Ok(Zeroizing::new(secret.to_owned()))
}
