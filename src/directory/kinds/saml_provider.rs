//! SAML providers. A snapshot knows only which there are.

// The fields of declared forms are AWS's own, named and documented there.
#![allow(missing_docs)]

use serde_json::value::RawValue;

use crate::base::arn::account_of_provider;
use crate::base::entropy::NoEntropy;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::Limits;
use crate::directory::shape::{Ignored, Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};

shape! {
    /// As `aws iam get-saml-provider` prints it, with `Arn`.
    SamlProviderDetail {
        arn: String,
        #[serde(rename = "SAMLProviderUUID")]
        saml_provider_uuid: Option<String>,
        #[serde(rename = "SAMLMetadataDocument")]
        saml_metadata_document: String,
        create_date: Option<String>,
        valid_until: Option<String>,
        assertion_encryption_mode: Option<String>,
        private_key_list: Option<Box<RawValue>>,
        tags: Vec<Tag>,
        context_provider: Ignored,
        identity_center_instance_arn: Ignored,
        identity_store_arn: Ignored,
        #[serde(rename = "SAMLKeyHashes")]
        saml_key_hashes: Ignored,
    }
}

/// A SAML provider, compiled.
#[derive(Debug)]
pub(in crate::parts::directory) struct SamlProvider {
    arn: Box<str>,
}

impl Keyed for SamlProvider {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl Declared for SamlProviderDetail {
    fn id(&self) -> &str {
        &self.arn
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(&mut self.tags)
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        if !(1_000..=10_000_000).contains(&self.saml_metadata_document.len()) {
            limits.invalid("SAMLMetadataDocument must have 1000 to 10000000 characters");
        }
        limits.tags("TagsPerSAMLProvider", &self.tags);
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        if account_of_provider(&self.arn, "saml-provider").is_none() {
            let rule = "Arn must be `arn:aws:iam::ACCOUNT:saml-provider/NAME`";
            return Err(fault(how.place, rule));
        }
        directory.saml_providers.put(SamlProvider {
            arn: self.arn.as_str().into(),
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.saml_providers.remove(id);
    }
}
