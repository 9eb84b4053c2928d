//! A resource of any kind in the directory, read from and written to the text of a row. The trait
//! [`Declared`] has the methods that differ between kinds.

use serde::Serialize;

use super::declared::{Declared, Defaults, Insertion, PolicyOf};
use super::kinds::{
    AccessKeyDetail, Account, AssociationDetail, BucketPolicyDetail, CertificateDetail,
    GroupDetail, InstanceProfile, LoginProfileDetail, ManagedPolicyDetail, MfaDeviceDetail,
    OidcProviderDetail, OrganizationDetail, RoleDetail, SamlProviderDetail, UserDetail,
};
use super::limits::Limits;
use super::registry::every_kind;
use super::remains::Remains;
use super::secret_field::{SecretField, SecretText};
use super::shape::{Document, Tag};
use super::{Directory, DirectoryError};
use crate::base::entropy::NoEntropy;
use crate::revocations::Selector;

pub use super::name::{Name, ResourceKind, folded};

macro_rules! define_resources {
    ($($variant:ident: $form:ty as $inner:ty = $name:literal in $list:literal;)*) => {
        #[derive(Debug, Clone)]
        pub enum Resource {
            $($variant($form),)*
        }

        /// Evaluates the same expression for the declared form of any kind.
        macro_rules! with {
            ($resource:expr, $shape:ident => $run:expr) => {
                match $resource {
                    $(Resource::$variant($shape) => $run,)*
                }
            };
        }

        impl Resource {
            /// Parses the text of a row.
            ///
            /// # Errors
            /// [`serde_json::Error`] if the text does not have the form of this kind.
            pub fn parse(kind: ResourceKind, text: &str) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(ResourceKind::$variant => Self::$variant(serde_json::from_str(text)?),)*
                })
            }

            pub fn kind(&self) -> ResourceKind {
                match self {
                    $(Self::$variant(_) => ResourceKind::$variant,)*
                }
            }

            /// Keeps the values of `old` that the declaration leaves out, because IAM generates
            /// them or AWS's export does not contain them.
            pub fn keep_what_is_left_out(&mut self, old: &Self) {
                match (self, old) {
                    $((Self::$variant(new), Self::$variant(old)) => new.keep_what_is_left_out(old),)*
                    _ => {}
                }
            }
        }

        impl ResourceKind {
            pub fn has_secret(self) -> bool {
                match self {
                    $(Self::$variant => <$inner as Declared>::HAS_SECRET,)*
                }
            }
        }

        impl Directory {
            pub(super) fn remove_of_kind(&mut self, kind: ResourceKind, id: &str) {
                match kind {
                    $(ResourceKind::$variant => <$inner as Declared>::remove(self, id),)*
                }
            }

            pub(super) fn has(&self, kind: ResourceKind, id: &str) -> bool {
                match kind {
                    $(ResourceKind::$variant => <$inner as Declared>::is_in(self, id),)*
                }
            }
        }
    };
}

every_kind!(define_resources);

impl Resource {
    /// The text of a row. Secrets in clear must not be written to a row: commands seal them first.
    ///
    /// # Errors
    /// [`serde_json::Error`] if serialization fails, which does not happen with a declared form.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        fn text(form: &impl Serialize) -> Result<String, serde_json::Error> {
            serde_json::to_string(form)
        }
        with!(self, form => text(form))
    }

    /// The name under which the resource is stored: its kind and its id.
    pub fn name(&self) -> Name {
        Name::new(self.kind(), self.id())
    }

    /// The id under which the resource is stored, such as an ARN, an access key id, a serial number or an account id.
    pub fn id(&self) -> &str {
        with!(self, form => form.id())
    }

    /// The name shown to people: without path and account if the resource has a name, otherwise its id.
    pub fn label(&self) -> &str {
        with!(self, form => form.label())
    }

    /// The text that must be unique among resources of the kind, such as `ACCOUNT/name` in lower case.
    pub fn folded(&self) -> String {
        with!(self, form => form.folded())
    }

    /// The unique id, such as `AIDA…` or `AROA…`, which no other resource ever gets; `None` if the kind has none.
    pub fn unique_id(&self) -> Option<&str> {
        with!(self, form => form.unique_id())
    }

    /// The account that owns the resource; `aws` for AWS managed policies, and the organization's id for an
    /// organization.
    pub fn account(&self) -> &str {
        with!(self, form => form.account())
    }

    /// The account whose declaration decides whether the resource stays: an import with `prune` deletes the resource if
    /// a declaration of this account leaves it out.
    pub fn pruned_with(&self) -> &str {
        with!(self, form => form.pruned_with())
    }

    /// The resources to which this one refers, by id or by folded name, sorted and without
    /// duplicates.
    pub fn links(&self) -> Vec<Name> {
        let mut links = with!(self, form => form.links());
        links.sort();
        links.dedup();
        links
    }

    /// The tags, or `None` if the kind has no tags.
    pub fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        with!(self, form => form.tags_mut())
    }

    /// The policies, each with its kind and its name for messages.
    pub fn policies(&self) -> Vec<PolicyOf<'_>> {
        with!(self, form => form.policies())
    }

    /// The documents of all policies of the resource, for changing their text.
    pub fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        with!(self, form => form.documents_mut())
    }

    /// The policy in which rows of the store name users and roles by their unique ids: the trust
    /// policy of a role, or the policy of a bucket.
    pub fn naming_policy(&self) -> Option<&Document> {
        with!(self, form => form.naming_policy())
    }

    /// The policy that [`Resource::naming_policy`] returns, for changing it.
    pub fn naming_policy_mut(&mut self) -> Option<&mut Option<Document>> {
        with!(self, form => form.naming_policy_mut())
    }

    /// Drops values that an export only counts or observes (attachments, last use), since they are
    /// not declared.
    pub(super) fn drop_what_is_observed(&mut self) {
        with!(self, form => form.drop_what_is_observed());
    }

    /// The secret, or `None` if the kind has no secret.
    pub fn secret(&self) -> Option<SecretField<'_>> {
        with!(self, form => form.secret())
    }

    /// Replaces the secret by one in clear or a sealed one.
    pub fn set_secret(&mut self, text: SecretText) {
        with!(self, form => form.set_secret(text));
    }

    /// Returns the resource with an empty sealed secret in place of a secret in clear. A secret that is already sealed
    /// stays.
    #[must_use]
    pub(super) fn without_clear_secret(mut self) -> Self {
        if self.secret().is_some_and(|field| field.clear.is_some()) {
            self.set_secret(SecretText::Sealed(String::new()));
        }
        self
    }

    /// Fills in the values that IAM generates and the declaration leaves out.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are no random bytes for a unique id.
    pub fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        with!(self, form => form.fill(defaults))
    }

    /// Checks the rules and quotas that concern only this resource, and adds those that it breaks to
    /// `limits`.
    pub fn check(&self, limits: &mut Limits<'_>) {
        with!(self, form => form.check(limits));
    }

    /// Something that must be removed before the resource can be deleted; `None` if the resource can be deleted at
    /// once.
    pub fn must_go_first(&self) -> Option<Remains> {
        with!(self, form => form.must_go_first())
    }

    /// Whether the resource may be used. Only an access key or a certificate can be inactive.
    pub fn is_active(&self) -> bool {
        with!(self, form => form.is_active())
    }

    /// The selector that revokes the sessions which end with the resource; `None` if no sessions
    /// come from it.
    pub fn sessions(&self) -> Option<Selector> {
        with!(self, form => form.sessions())
    }

    pub(super) fn insert(
        &self,
        directory: &mut Directory,
        how: &Insertion<'_>,
    ) -> Result<(), DirectoryError> {
        with!(self, form => form.insert(directory, how))
    }
}
