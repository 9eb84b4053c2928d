//! What each kind of resource says of its declared form. `kinds/` has one file a kind, which holds the
//! declared form, the compiled form and this trait between them.

use super::limits::Limits;
use super::name::Name;
use super::principals::Owners;
use super::secret_field::{SecretField, SecretText};
use super::shape::{Document, Tag};
use super::{Directory, DirectoryError, unique_ids};
use crate::base::arn::{AccountId, account_of, path_of};
use crate::base::clock::Timestamp;
use crate::base::entropy::{Entropy, NoEntropy};
use crate::evaluator::Kind as PolicyKind;
use crate::master_key::MasterKey;
use crate::revocations::Selector;

/// The declared form of one kind of resource. What a kind does not have, it leaves to the default.
pub(super) trait Declared {
    /// Whether its kind has a secret.
    const HAS_SECRET: bool = false;

    /// Its ARN, access key id, serial number or account id.
    fn id(&self) -> &str;

    /// Its name for people.
    fn label(&self) -> &str {
        self.id()
    }

    /// What must be unique in its kind without regard to case.
    fn folded(&self) -> String {
        self.id().to_ascii_lowercase()
    }

    /// The account that owns it.
    fn account(&self) -> &str {
        account_of(self.id())
    }

    /// Never given twice.
    fn unique_id(&self) -> Option<&str> {
        None
    }

    /// What it refers to, by id or by folded name.
    fn links(&self) -> Vec<Name> {
        Vec::new()
    }

    /// None: its kind has no tags.
    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        None
    }

    /// Its policies.
    fn policies(&self) -> Vec<PolicyOf<'_>> {
        Vec::new()
    }

    /// The documents of its policies.
    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        Vec::new()
    }

    /// What an export counts and observes is not declared and falls away.
    fn drop_what_is_observed(&mut self) {}

    /// Its secret, if its kind has one.
    fn secret(&self) -> Option<SecretField<'_>> {
        None
    }

    /// Puts its secret in the place of the one that it has.
    fn set_secret(&mut self, _: SecretText) {}

    /// Gives what IAM gives by itself, where it is left out.
    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy>;

    /// What a declaration leaves out stays as it is in `old`.
    fn keep_what_is_left_out(&mut self, old: &Self);

    /// The rules and quotas that need nothing but itself.
    fn check(&self, limits: &mut Limits<'_>);

    /// What must go before it can be deleted.
    fn must_go_first(&self) -> Option<&'static str> {
        None
    }

    /// Whether it is in use.
    fn is_active(&self) -> bool {
        true
    }

    /// What kind of sessions end with it.
    fn sessions(&self) -> Option<Selector> {
        None
    }

    /// Compiles it and puts it into a snapshot, in the place of one of the same name.
    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError>;

    /// Removes the resource of that id from a snapshot.
    fn remove(directory: &mut Directory, id: &str);

    /// Whether a snapshot has what a link names. Kinds that no snapshot can look up by what links
    /// hold say yes: the store's rows are asked instead.
    fn is_in(_: &Directory, _: &str) -> bool {
        true
    }
}

/// One policy of a resource.
pub struct PolicyOf<'a> {
    /// Whom it speaks of.
    pub kind: PolicyKind,
    /// `inline policy NAME`
    pub place: String,
    /// None: it is required, and left out.
    pub document: Option<&'a Document>,
}

/// Where a resource comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file: whatever breaks a rule is refused, and trust policies are bound to the users and roles of
    /// the same file.
    File(&'a Owners),
    /// An import or a command: whatever breaks a rule is refused.
    Declared,
    /// The store. A rule may be younger than the row.
    Stored,
}

/// How a resource is put into a snapshot.
pub(super) struct Insertion<'a> {
    /// Where it stands, for people: `RoleDetailList[3] Deploy`.
    pub place: &'a str,
    /// Where it comes from.
    pub source: Source<'a>,
    /// Opens its secret.
    pub master_key: Option<&'a MasterKey>,
}

/// What IAM gives a new resource by itself.
pub struct Defaults<'a> {
    /// Source of the random bytes of unique ids.
    pub entropy: &'a dyn Entropy,
    /// When it is made.
    pub now: Timestamp,
}

impl Defaults<'_> {
    /// An id that carries the account, as AWS's do, unless there is one.
    pub(super) fn unique_id(
        &self,
        prefix: &str,
        account: &str,
        id: &mut String,
    ) -> Result<(), NoEntropy> {
        if let (true, Some(account)) = (id.is_empty(), AccountId::parse(account)) {
            *id = unique_ids::mint(prefix, account, self.entropy)?;
        }
        Ok(())
    }

    /// The instant of its making, unless there is one.
    pub(super) fn date(&self, date: &mut Option<String>) {
        date.get_or_insert_with(|| self.now.to_string());
    }

    /// The path in its ARN, unless there is one.
    pub(super) fn path(&self, path: &mut Option<String>, arn: &str) {
        path.get_or_insert_with(|| path_of(arn));
    }
}

/// Keeps a value that a declaration leaves out.
pub(super) fn keep<T: Clone>(new: &mut Option<T>, old: &Option<T>) {
    if new.is_none() {
        new.clone_from(old);
    }
}

/// Keeps a unique id that a declaration leaves out.
pub(super) fn keep_id(new: &mut String, old: &str) {
    if new.is_empty() {
        old.clone_into(new);
    }
}
