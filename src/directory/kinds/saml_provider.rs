//! SAML providers: identity providers whose assertions a role of the same account may trust.

// The fields of declared forms are AWS's own, named and documented there.
use ring::rsa::KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::base::arn::{AccountId, SamlProviderArn, account_of, account_of_provider, name_of};
use crate::base::digest::hex;
use crate::base::entropy::{self, NoEntropy};
use crate::base::names;
use crate::base::secret::Secret;
use crate::directory::compile::tags;
use crate::directory::declared::{Declared, Defaults, Insertion, Source, keep};
use crate::directory::limits::Limits;
use crate::directory::secret_field::{SecretField, SecretText, sealing_name};
use crate::directory::shape::{Ignored, Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::proof::saml::{DecryptionKey, Metadata};
use crate::revocations::Selector;

shape! {
    /// A SAML provider as `aws iam get-saml-provider` prints it, with the members `Arn`,
    /// `PrivateKeys` and `SealedPrivateKeys` in addition.
    SamlProviderDetail {
        arn: String,
        #[serde(rename = "SAMLProviderUUID")]
        saml_provider_uuid: Option<String>,
        #[serde(rename = "SAMLMetadataDocument")]
        saml_metadata_document: String,
        create_date: Option<String>,
        valid_until: Option<String>,
        assertion_encryption_mode: Option<String>,
        /// The ids and dates of the private keys, as AWS prints them. They are shown to administrators, and do not
        /// decide which keys decrypt.
        private_key_list: Option<Box<RawValue>>,
        /// The private keys that decrypt assertions, as PEM (PKCS#8): one, or two during a rollover.
        /// This field has them in clear, and `SealedPrivateKeys` sealed under the master key.
        private_keys: Option<Zeroizing<String>>,
        sealed_private_keys: Option<String>,
        tags: Vec<Tag>,
        context_provider: Ignored,
        identity_center_instance_arn: Ignored,
        identity_store_arn: Ignored,
        #[serde(rename = "SAMLKeyHashes")]
        saml_key_hashes: Ignored,
    }
}

#[derive(Debug)]
pub struct SamlProvider {
    /// The ARN, `arn:aws:iam::ACCOUNT:saml-provider/NAME`.
    pub arn: Box<str>,
    pub account: AccountId,
    /// The name: the last part of the ARN.
    pub name: Box<str>,
    /// The parsed metadata document, or the rule that it breaks. A document in the store may be
    /// older than the rule; the provider then cannot be used.
    pub metadata: Result<Metadata, Box<str>>,
    /// The private keys that decrypt assertions. A program without `saml-encryption` has none.
    pub private_keys: Box<[DecryptionKey]>,
    pub tags: Box<[names::Tag]>,
    pub create_date: Option<Box<str>>,
    /// The time after which the metadata cannot be used any more.
    pub valid_until: Option<Box<str>>,
}

impl Keyed for SamlProvider {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl Declared for SamlProviderDetail {
    const HAS_SECRET: bool = true;

    fn id(&self) -> &str {
        &self.arn
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(&mut self.tags)
    }

    /// The private keys; `None` for most providers, which have none.
    fn secret(&self) -> Option<SecretField<'_>> {
        let is_there = self.private_keys.is_some() || self.sealed_private_keys.is_some();
        is_there.then(|| SecretField {
            name: "PrivateKeys",
            bound_to: sealing_name("saml provider", &self.arn, account_of(&self.arn)),
            clear: self.private_keys.as_ref().map(|s| s.as_str()),
            sealed: self.sealed_private_keys.as_deref(),
            normal: normal_keys,
        })
    }

    fn set_secret(&mut self, text: SecretText) {
        (self.private_keys, self.sealed_private_keys) = text.into_fields();
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        if self.saml_provider_uuid.is_none() {
            let random = entropy::bytes::<16>(defaults.entropy)?;
            self.saml_provider_uuid = Some(hex(&random).to_ascii_uppercase());
        }
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
        keep(&mut self.saml_provider_uuid, &old.saml_provider_uuid);
        // AWS's export of a provider does not contain its private keys.
        if self.private_keys.is_none() {
            keep(&mut self.sealed_private_keys, &old.sealed_private_keys);
        }
    }

    fn check(&self, limits: &mut Limits<'_>) {
        if self.saml_metadata_document.len() < 1_000 {
            limits.invalid("SAMLMetadataDocument must have at least 1000 characters");
        }
        limits.tags("TagsPerSAMLProvider", &self.tags);
    }

    fn sessions(&self) -> Option<Selector> {
        Some(Selector::Principal)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let Some(account) = account_of_provider(&self.arn, "saml-provider") else {
            let rule = "Arn must be `arn:aws:iam::ACCOUNT:saml-provider/NAME`";
            return Err(fault(how.place, rule));
        };
        let metadata = Metadata::parse(self.saml_metadata_document.as_bytes());
        let metadata = metadata.map_err(|error| error.to_string().into_boxed_str());
        if !matches!(how.source, Source::Stored) {
            SamlProviderArn::parse("Arn", &self.arn)
                .map_err(|error| fault(how.place, format!("Arn {}", error.rule)))?;
            if let Err(rule) = &metadata {
                let place = format!("{}: SAMLMetadataDocument", how.place);
                return Err(fault(place, &**rule));
            }
        }
        let private_keys = match self.secret() {
            None => Vec::new(),
            Some(field) => {
                let text = directory.open_secret(Some(field), how)?;
                let place = format!("{}: PrivateKeys", how.place);
                private_keys(text.expose()).map_err(|rule| fault(place, rule))?
            }
        };
        let private_keys = private_keys.iter().map(|key| key.expose().as_slice());
        directory.saml_providers.put(SamlProvider {
            private_keys: private_keys
                .filter_map(|der| DecryptionKey::from_pkcs8(der).ok())
                .collect(),
            arn: self.arn.as_str().into(),
            account,
            name: name_of(&self.arn).into(),
            metadata,
            tags: tags(how.place, &self.tags)?,
            create_date: self.create_date.as_deref().map(Into::into),
            valid_until: self.valid_until.as_deref().map(Into::into),
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.saml_providers.remove(id);
    }
}

/// The maximum number of private keys. The second one allows a rollover: IAM API Reference,
/// "CreateSAMLProvider".
const MAX_PRIVATE_KEYS: usize = 2;
/// The maximum length of the PEM text of all private keys together, in bytes. The IAM API Reference,
/// "CreateSAMLProvider", has 16,384 characters for each key.
const MAX_PRIVATE_KEY_BYTES: usize = 2 * 16_384;

/// Checks a PEM text of private keys, and returns it as it is stored, without white space around it.
fn normal_keys(text: &str) -> Result<Zeroizing<String>, &'static str> {
    private_keys(text)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Parses the private keys in a PEM text. The error is the rule that is broken.
fn private_keys(text: &str) -> Result<Vec<Secret<Vec<u8>>>, &'static str> {
    const RULE: &str =
        "must be one or two RSA keys of 2,048 to 4,096 bits as PEM in PKCS#8 (`BEGIN PRIVATE KEY`)";
    if text.len() > MAX_PRIVATE_KEY_BYTES {
        return Err("must have at most 32,768 bytes");
    }
    let mut keys = Vec::new();
    for key in PrivatePkcs8KeyDer::pem_slice_iter(text.as_bytes()) {
        let key = key.map_err(|_| RULE)?;
        let key = Secret::new(key.secret_pkcs8_der().to_vec());
        KeyPair::from_pkcs8(key.expose()).map_err(|_| RULE)?;
        keys.push(key);
    }
    let blocks = text.matches("-----BEGIN ").count();
    if !(1..=MAX_PRIVATE_KEYS).contains(&keys.len()) || blocks != keys.len() {
        return Err(RULE);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../../../tests/data/saml/rsa.key");

    #[test]
    fn keys_are_one_or_two_of_rsa() {
        assert_eq!(private_keys(KEY).unwrap().len(), 1);
        assert_eq!(private_keys(&format!("{KEY}\n{KEY}")).unwrap().len(), 2);
        for bad in [
            "",
            "text",
            &KEY.repeat(3),
            &KEY.replace("MII", "MIJ"),
            &KEY.replace("PRIVATE KEY", "EC PRIVATE KEY"),
            &format!("{KEY}{}", KEY.replace("PRIVATE KEY", "CERTIFICATE")),
            &" ".repeat(MAX_PRIVATE_KEY_BYTES + 1),
        ] {
            assert!(private_keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_of_the_store_that_breaks_a_rule_vouches_for_nobody() {
        use crate::directory::resource::{Resource, ResourceKind};
        let arn = "arn:aws:iam::111122223333:saml-provider/corp";
        let json = serde_json::json!({"Arn": arn, "SAMLMetadataDocument": "x".repeat(1_000)});
        let resource = Resource::parse(ResourceKind::SamlProvider, &json.to_string()).unwrap();
        let mut directory = Directory::empty().unwrap();
        let error = directory.insert(&resource, None).unwrap_err();
        assert!(error.place.ends_with("SAMLMetadataDocument"), "{error}");
        let mut directory = Directory::empty().unwrap();
        directory.insert_stored(&resource, None).unwrap();
        assert!(directory.saml_provider(arn).unwrap().metadata.is_err());
        assert!(
            directory.warnings().iter().any(|w| w.contains(arn)),
            "{:?}",
            directory.warnings()
        );
    }

    #[test]
    fn a_role_that_trusts_a_provider_in_vain_is_warned_of() {
        let (own, foreign) = ("111122223333", "444455556666");
        let arn =
            |account: &str, name: &str| format!("arn:aws:iam::{account}:saml-provider/{name}");
        let trusted = [arn(own, "corp"), arn(foreign, "corp"), arn(own, "gone")];
        let trust = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Federated": trusted}, "Action": "sts:AssumeRoleWithSAML"}]});
        let document = include_str!("../../../tests/data/saml/pysaml2-metadata.xml");
        let provider =
            |arn: &String| serde_json::json!({"Arn": arn, "SAMLMetadataDocument": document});
        let file = serde_json::json!({
            "RoleDetailList": [{"RoleName": "R", "RoleId": "AROARRRRRRRRRRRRRRRR1", "Path": "/",
                "Arn": format!("arn:aws:iam::{own}:role/R"), "AssumeRolePolicyDocument": trust}],
            "Brevet": {"SAMLProviders": trusted.iter().take(2).map(provider).collect::<Vec<_>>()},
        });
        let directory = Directory::compile(file.to_string().as_bytes(), None).unwrap();
        let warnings = directory.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("gone, which does not exist"),
            "{warnings:?}"
        );
        assert!(
            warnings[1].contains(foreign) && warnings[1].contains("another account"),
            "{warnings:?}"
        );
    }
}
