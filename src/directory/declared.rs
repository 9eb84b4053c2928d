//! The trait that the declared form of each kind of resource implements. Each file in `kinds/`
//! holds the declared form of a kind, its compiled form and this trait's implementation.

use super::limits::Limits;
use super::name::Name;
use super::owners::Owners;
use super::remains::Remains;
use super::secret_field::{SecretField, SecretText};
use super::shape::{Document, Tag};
use super::{Directory, DirectoryError, unique_id};
use crate::base::arn::{AccountId, account_of, path_of};
use crate::base::clock::Timestamp;
use crate::base::entropy::{Entropy, NoEntropy};
use crate::evaluator::PolicyKind;
use crate::master_key::MasterKey;
use crate::revocations::Selector;

/// The declared form of one kind of resource. A method with a default is for an aspect that only
/// some kinds have.
pub(super) trait Declared {
    const HAS_SECRET: bool = false;

    /// The id under which the resource is stored, such as its ARN or the id of an access key.
    fn id(&self) -> &str;

    /// The name shown to people.
    fn label(&self) -> &str {
        self.id()
    }

    /// The text that must be unique among resources of the kind; in lower case if case does not
    /// matter.
    fn folded(&self) -> String {
        self.id().to_ascii_lowercase()
    }

    /// The account that owns the resource. The default is the account in the ARN that is the id.
    fn account(&self) -> &str {
        account_of(self.id())
    }

    /// The account whose declaration decides whether the resource stays: an import with `prune` deletes the resource if
    /// a declaration of this account leaves it out.
    fn pruned_with(&self) -> &str {
        self.account()
    }

    /// The unique id, which no other resource ever gets; `None` if this kind has none.
    fn unique_id(&self) -> Option<&str> {
        None
    }

    /// The resources to which this one refers, each by id or by folded name.
    fn links(&self) -> Vec<Name> {
        Vec::new()
    }

    /// The tags, for changing them. `None` if this kind has no tags.
    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        None
    }

    /// The policies that are part of the resource.
    fn policies(&self) -> Vec<PolicyOf<'_>> {
        Vec::new()
    }

    /// The documents of the policies that are part of the resource.
    fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        Vec::new()
    }

    /// The policy whose principals are bound to unique ids when the resource is stored; `None` if the kind has none.
    fn naming_policy(&self) -> Option<&Document> {
        None
    }

    /// The policy that [`Declared::naming_policy`] returns, for changing it.
    fn naming_policy_mut(&mut self) -> Option<&mut Option<Document>> {
        None
    }

    /// Drops values that an export only counts or observes, since they are not declared.
    fn drop_what_is_observed(&mut self) {}

    fn secret(&self) -> Option<SecretField<'_>> {
        None
    }

    fn set_secret(&mut self, _: SecretText) {}

    /// Fills in the values that IAM generates and the declaration leaves out.
    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy>;

    /// Keeps the values of `old` that the declaration leaves out.
    fn keep_what_is_left_out(&mut self, old: &Self);

    /// Checks the rules and quotas that concern only this resource.
    fn check(&self, limits: &mut Limits<'_>);

    /// Something that must be removed before the resource can be deleted; `None` if the resource can be deleted at
    /// once.
    fn must_go_first(&self) -> Option<Remains> {
        None
    }

    /// Whether the resource may be used. Only an access key or a certificate can be inactive.
    fn is_active(&self) -> bool {
        true
    }

    /// The selector that revokes the sessions which end with the resource; `None` if no sessions
    /// come from it.
    fn sessions(&self) -> Option<Selector> {
        None
    }

    /// Compiles the resource and adds it to a snapshot, replacing one of the same name.
    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError>;

    /// Removes the resource with this id from a snapshot.
    fn remove(directory: &mut Directory, id: &str);

    /// Whether the snapshot contains the resource that a link names. The default is `true`, for kinds
    /// that a snapshot cannot look up by a link's text: their links are checked against the store's
    /// rows instead.
    fn is_in(_directory: &Directory, _id: &str) -> bool {
        true
    }
}

/// A policy that is part of a resource.
pub struct PolicyOf<'a> {
    /// The kind of policy, which determines the rules for the document.
    pub kind: PolicyKind,
    /// The place of the policy in the resource, such as `inline policy NAME`.
    pub place: String,
    /// The document, or `None` if a required document is missing.
    pub document: Option<&'a Document>,
}

/// Where a resource comes from, which determines the rules that are checked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A directory file: a resource that breaks a rule is refused, and trust policies are bound to
    /// the users and roles of the same file.
    File(&'a Owners),
    /// An import or a command: a resource that breaks a rule is refused.
    Declared,
    /// The store: the row may be older than a rule that it breaks.
    Stored,
}

/// What [`Declared::insert`] must know about a resource in addition to its content.
pub(super) struct Insertion<'a> {
    /// The place of the resource in messages, such as `RoleDetailList[3] Deploy`.
    pub place: &'a str,
    /// Whether the resource comes from a file, from an import or command, or from the store.
    pub source: Source<'a>,
    /// The key that opens the resource's secret; `None` if secrets must be in clear.
    pub master_key: Option<&'a MasterKey>,
}

/// The values that IAM generates for a new resource.
pub struct Defaults<'a> {
    /// The source of the random bytes of unique ids.
    pub entropy: &'a dyn Entropy,
    /// The creation date of resources that do not have one.
    pub now: Timestamp,
}

impl Defaults<'_> {
    /// Generates a unique id that contains the account, as AWS's do, unless one is given.
    pub(super) fn unique_id(
        &self,
        prefix: &str,
        account: &str,
        id: &mut String,
    ) -> Result<(), NoEntropy> {
        if let (true, Some(account)) = (id.is_empty(), AccountId::parse(account)) {
            *id = unique_id::mint(prefix, account, self.entropy)?;
        }
        Ok(())
    }

    /// Sets the time of creation, unless one is given.
    pub(super) fn date(&self, date: &mut Option<String>) {
        date.get_or_insert_with(|| self.now.to_string());
    }

    /// Sets the path from the ARN, unless one is given.
    pub(super) fn path(&self, path: &mut Option<String>, arn: &str) {
        path.get_or_insert_with(|| path_of(arn));
    }
}

/// Sets `new` to `old` if the declaration leaves the value out.
pub(super) fn keep<T: Clone>(new: &mut Option<T>, old: &Option<T>) {
    if new.is_none() {
        new.clone_from(old);
    }
}

/// Sets the unique id to the old one if the declaration leaves it out.
pub(super) fn keep_id(new: &mut String, old: &str) {
    if new.is_empty() {
        old.clone_into(new);
    }
}
