//! One resource of the directory, whatever its kind: a row's text, and what
//! [`Declared`] says of each kind.

use serde::Serialize;

use super::declaration::{
    AccessKeyDetail, Account, GroupDetail, InstanceProfile, ManagedPolicyDetail, MfaDeviceDetail,
    OidcProviderDetail, RoleDetail, SamlProviderDetail, UserDetail,
};
use super::declared::{Declared, Defaults, Insertion, PolicyOf};
use super::limits::Limits;
use super::registry::every_kind;
use super::secret_field::{SecretField, SecretText};
use super::shape::{Document, Tag};
use super::{Directory, DirectoryError};
use crate::base::entropy::NoEntropy;
use crate::revocations::Selector;

pub use super::name::{Kind, Name, folded};

macro_rules! define_resources {
    ($($variant:ident: $form:ty as $inner:ty = $name:literal in $list:literal;)*) => {
        /// One resource in its declared form.
        #[derive(Debug, Clone)]
        #[allow(missing_docs)]
        pub enum Resource {
            $($variant($form),)*
        }

        /// Runs the same expression on the declared form, whichever it is.
        macro_rules! with {
            ($resource:expr, $shape:ident => $run:expr) => {
                match $resource {
                    $(Resource::$variant($shape) => $run,)*
                }
            };
        }

        impl Resource {
            /// Reads a row.
            ///
            /// # Errors
            /// Where the text is not of this kind's form.
            pub fn parse(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$variant => Self::$variant(serde_json::from_str(text)?),)*
                })
            }

            /// What kind of resource.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant(_) => Kind::$variant,)*
                }
            }

            /// What a declaration leaves out because IAM gives it, or because AWS's export does not
            /// have it, stays as it is in `old`.
            pub fn keep_what_is_left_out(&mut self, old: &Self) {
                match (self, old) {
                    $((Self::$variant(new), Self::$variant(old)) => new.keep_what_is_left_out(old),)*
                    _ => {}
                }
            }
        }

        impl Kind {
            /// Whether resources of this kind have a secret.
            pub fn has_secret(self) -> bool {
                match self {
                    $(Self::$variant => <$inner as Declared>::HAS_SECRET,)*
                }
            }
        }

        impl Directory {
            pub(super) fn remove_of_kind(&mut self, kind: Kind, id: &str) {
                match kind {
                    $(Kind::$variant => <$inner as Declared>::remove(self, id),)*
                }
            }

            pub(super) fn has(&self, kind: Kind, id: &str) -> bool {
                match kind {
                    $(Kind::$variant => <$inner as Declared>::is_in(self, id),)*
                }
            }
        }
    };
}

every_kind!(define_resources);

impl Resource {
    /// The row. Secrets in clear are not for a row: commands seal them first.
    ///
    /// # Errors
    /// Never with a declared form.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        fn text(form: &impl Serialize) -> Result<String, serde_json::Error> {
            serde_json::to_string(form)
        }
        with!(self, form => text(form))
    }

    /// Its name everywhere.
    pub fn name(&self) -> Name {
        Name::new(self.kind(), with!(self, form => form.id()))
    }

    /// Its name for people, without path and account where it has one.
    pub fn label(&self) -> &str {
        with!(self, form => form.label())
    }

    /// What must be unique in its kind without regard to case: `ACCOUNT/name` where it has a name.
    pub fn folded(&self) -> String {
        with!(self, form => form.folded())
    }

    /// `AIDA…`, `AROA…`, `AGPA…`, `ANPA…`, `AIPA…`: never given twice.
    pub fn unique_id(&self) -> Option<&str> {
        with!(self, form => form.unique_id())
    }

    /// The account that owns it; `aws` for AWS's own policies.
    pub fn account(&self) -> &str {
        with!(self, form => form.account())
    }

    /// What it refers to, by id or by folded name; each once, in order.
    pub fn links(&self) -> Vec<Name> {
        let mut links = with!(self, form => form.links());
        links.sort();
        links.dedup();
        links
    }

    /// Its tags; none where its kind has no tags.
    pub fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        with!(self, form => form.tags_mut())
    }

    /// Its policies, each with its kind and its name for people.
    pub fn policies(&self) -> Vec<PolicyOf<'_>> {
        with!(self, form => form.policies())
    }

    /// The documents of its policies.
    pub(super) fn documents_mut(&mut self) -> Vec<&mut Option<Document>> {
        with!(self, form => form.documents_mut())
    }

    /// What an export counts and observes (attachments, last use) is not declared and falls away.
    pub(super) fn drop_what_is_observed(&mut self) {
        with!(self, form => form.drop_what_is_observed());
    }

    /// Its secret; none where its kind has no secret.
    pub fn secret(&self) -> Option<SecretField<'_>> {
        with!(self, form => form.secret())
    }

    /// Puts its secret in the place of the one that it has, in clear or sealed.
    pub fn set_secret(&mut self, text: SecretText) {
        with!(self, form => form.set_secret(text));
    }

    /// Gives what IAM gives a new resource by itself, where it is left out.
    ///
    /// # Errors
    /// Without random bytes for its unique id.
    pub fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        with!(self, form => form.fill(defaults))
    }

    /// Judges it by the rules and quotas that need nothing but itself.
    pub fn check(&self, limits: &mut Limits<'_>) {
        with!(self, form => form.check(limits));
    }

    /// What it has of its own that must go before it can be deleted, as an instruction.
    pub fn must_go_first(&self) -> Option<&'static str> {
        with!(self, form => form.must_go_first())
    }

    /// Whether it is in use: an access key that was switched off is not.
    pub fn is_active(&self) -> bool {
        with!(self, form => form.is_active())
    }

    /// What kind of sessions end with it; none: it begins none.
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
