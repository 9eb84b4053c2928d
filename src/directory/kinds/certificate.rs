//! Client certificates. A program that connects with a certificate of the trusted CA acts as the user to whom the
//! directory assigns this certificate. It counts as a long-term credential of the user.

use std::sync::Arc;

use crate::base::arn::account_of;
use crate::base::entropy::NoEntropy;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::Limits;
use crate::directory::name::{Name, ResourceKind};
use crate::directory::shape::shape;
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::revocations::Selector;

/// The prefix of SPIFFE IDs, with which no subject begins.
const SPIFFE: &str = "spiffe://";
/// The maximum length in bytes of a SPIFFE ID or subject.
const MAX_NAME: usize = 1_024;

shape! {
    /// A client certificate and its user. The certificate is recognized by its SPIFFE ID or, if
    /// that is not set, by its subject.
    CertificateDetail {
        user_arn: String,
        spiffe_id: Option<String>,
        /// The subject in the form of RFC 4514, as `openssl x509 -subject -nameopt RFC2253` prints
        /// it.
        subject: Option<String>,
        /// `Active` (the default) or `Inactive`.
        status: Option<String>,
        create_date: Option<String>,
    }
}

/// A client certificate in a snapshot, which stands for a user.
#[derive(Debug)]
pub struct Certificate {
    /// The SPIFFE ID or the subject, by which the certificate is recognized.
    pub id: Box<str>,
    /// The ARN of the user that the certificate stands for.
    pub user_arn: Arc<str>,
    /// Whether the certificate may be used. An inactive one is refused.
    pub active: bool,
}

impl Keyed for Certificate {
    fn key(&self) -> &str {
        &self.id
    }
}

impl Declared for CertificateDetail {
    fn id(&self) -> &str {
        let id = self.spiffe_id.as_deref().or(self.subject.as_deref());
        id.unwrap_or_default()
    }

    /// The name as it is, because SPIFFE IDs and subjects are case-sensitive.
    fn folded(&self) -> String {
        self.id().to_owned()
    }

    fn account(&self) -> &str {
        account_of(&self.user_arn)
    }

    fn links(&self) -> Vec<Name> {
        vec![Name::new(ResourceKind::User, self.user_arn.as_str())]
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        self.status.get_or_insert_with(|| "Active".to_owned());
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
        // A file that does not mention the status must not reactivate what was deactivated.
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
        let fits =
            |text: &str| text.len() <= MAX_NAME && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        match (&self.spiffe_id, &self.subject) {
            (Some(id), None) => {
                let path = id.strip_prefix(SPIFFE);
                let named = path.and_then(|rest| rest.split_once('/'));
                let is_whole =
                    named.is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty());
                if !is_whole || !fits(id) {
                    let rule = "must be `spiffe://TRUST-DOMAIN/PATH`, at most 1024 printable ASCII characters";
                    return Err(fault(format!("{place}: SpiffeId"), rule));
                }
            }
            (None, Some(subject)) => {
                if !subject.contains('=') || subject.starts_with(SPIFFE) || !fits(subject) {
                    let rule = "must be a distinguished name such as `CN=node-1,O=Example`, at most 1024 printable ASCII characters";
                    return Err(fault(format!("{place}: Subject"), rule));
                }
            }
            _ => return Err(fault(place, "must have either SpiffeId or Subject")),
        }
        let active = match self.status.as_deref() {
            None | Some("Active") => true,
            Some("Inactive") => false,
            Some(_) => {
                let rule = "must be `Active` or `Inactive`";
                return Err(fault(format!("{place}: Status"), rule));
            }
        };
        let user = directory.users.get(&self.user_arn);
        let user_arn = user.map_or_else(|| self.user_arn.as_str().into(), |u| u.arn.clone());
        directory.certificates.put(Certificate {
            id: self.id().into(),
            user_arn,
            active,
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.certificates.remove(id);
    }
}
