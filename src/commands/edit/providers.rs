//! Changes client ids and thumbprints of OpenID Connect providers, and metadata and private keys of SAML providers.

use ring::digest::{SHA256, digest};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use zeroize::Zeroizing;

use super::unfit;
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::commands::CommandError;
use crate::directory::declaration::{OidcProviderDetail, SamlProviderDetail};
use crate::directory::resource::Resource;

/// The maximum number of private keys of a SAML provider.
const MAX_PRIVATE_KEYS: usize = 2;

/// A change of a SAML provider. A field that is `None` leaves the provider as it is.
#[derive(Debug, Clone, Default)]
pub struct SamlUpdate {
    /// The new metadata document, and the time after which it can no longer be used.
    pub metadata: Option<(String, Option<Timestamp>)>,
    /// The new `AssertionEncryptionMode`.
    pub encryption_mode: Option<String>,
    /// The id of the private key to remove.
    pub remove_private_key: Option<String>,
    /// The private key to add, as PEM (PKCS#8).
    pub add_private_key: Option<Zeroizing<String>>,
}

/// A private key of a SAML provider, without the key itself: an entry of `PrivateKeyList`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrivateKey {
    /// The id of the key, which is computed from the key.
    pub key_id: String,
    /// When the key was added, in RFC 3339.
    pub timestamp: String,
}

/// Adds a client id. It is not an error if the provider already has it: IAM API Reference,
/// "AddClientIDToOpenIDConnectProvider".
pub(super) fn add_client_id(resource: &mut Resource, id: &str) -> Result<(), CommandError> {
    let provider = oidc(resource, "client ids")?;
    if !provider.client_id_list.iter().any(|known| known == id) {
        if provider.has_client_secret() {
            // Although there are several clients now, the secret still belongs to the same one.
            provider.client_id = provider.sign_in_client_id().map(str::to_owned);
        }
        provider.client_id_list.push(id.to_owned());
    }
    Ok(())
}

/// Removes a client id. It is not an error if the provider does not have it: IAM API Reference,
/// "RemoveClientIDFromOpenIDConnectProvider". If people sign in with this client, its secret is removed
/// too.
pub(super) fn remove_client_id(resource: &mut Resource, id: &str) -> Result<(), CommandError> {
    let provider = oidc(resource, "client ids")?;
    if provider.sign_in_client_id() == Some(id) {
        provider.drop_sign_in_client();
    }
    provider.client_id_list.retain(|known| known != id);
    Ok(())
}

pub(super) fn thumbprints(resource: &mut Resource, list: &[String]) -> Result<(), CommandError> {
    list.clone_into(&mut oidc(resource, "thumbprints")?.thumbprint_list);
    Ok(())
}

/// Applies `update` to a SAML provider, whose private keys must be unsealed.
pub(super) fn update_saml(
    resource: &mut Resource,
    update: &SamlUpdate,
    now: Timestamp,
) -> Result<(), CommandError> {
    let provider = match resource {
        Resource::SamlProvider(provider) => provider,
        other => return Err(unfit(other, "metadata")),
    };
    if let Some((document, valid_until)) = &update.metadata {
        document.clone_into(&mut provider.saml_metadata_document);
        provider.valid_until = valid_until.map(|end| end.to_string());
    }
    if let Some(mode) = &update.encryption_mode {
        provider.assertion_encryption_mode = Some(mode.clone());
    }
    if update.add_private_key.is_some() || update.remove_private_key.is_some() {
        update_keys(provider, update, now)?;
    }
    Ok(())
}

fn update_keys(
    provider: &mut SamlProviderDetail,
    update: &SamlUpdate,
    now: Timestamp,
) -> Result<(), CommandError> {
    let mut keys = provider
        .private_keys
        .as_deref()
        .map(|pem| blocks(pem))
        .unwrap_or_default();
    if let Some(id) = &update.remove_private_key {
        let before = keys.len();
        keys.retain(|key| key_id(key).as_deref() != Some(id));
        if keys.len() == before {
            let what = format!("private key {id} of {}", provider.arn);
            return Err(CommandError::NoSuchEntity(what.into()));
        }
    }
    if let Some(pem) = &update.add_private_key {
        let id = key_id(pem).ok_or_else(|| {
            CommandError::Validation(
                "AddPrivateKey must be one RSA key of 2,048 to 4,096 bits as PEM in PKCS#8 (`BEGIN PRIVATE KEY`)".to_owned(),
            )
        })?;
        if !keys.iter().any(|key| key_id(key).as_ref() == Some(&id)) {
            keys.push(pem.clone());
        }
    }
    if keys.len() > MAX_PRIVATE_KEYS {
        return Err(CommandError::LimitExceeded {
            what: provider.arn.clone(),
            quota: "PrivateKeysPerSAMLProvider",
            count: keys.len(),
            most: MAX_PRIVATE_KEYS,
        });
    }
    let known: Vec<PrivateKey> = private_keys(provider);
    let list: Vec<PrivateKey> = keys
        .iter()
        .filter_map(|key| {
            let key_id = key_id(key)?;
            let old = known.iter().find(|old| old.key_id == key_id);
            Some(old.cloned().unwrap_or(PrivateKey {
                key_id,
                timestamp: now.to_string(),
            }))
        })
        .collect();
    provider.private_key_list = if list.is_empty() {
        None
    } else {
        to_raw_value(&list).ok()
    };
    let mut text = Zeroizing::new(String::new());
    for key in &keys {
        text.push_str(key);
        text.push('\n');
    }
    provider.sealed_private_keys = None;
    provider.private_keys = (!keys.is_empty()).then_some(text);
    Ok(())
}

/// Lists the ids and dates of a provider's private keys.
pub fn private_keys(provider: &SamlProviderDetail) -> Vec<PrivateKey> {
    let list = provider.private_key_list.as_ref();
    list.and_then(|list| serde_json::from_str(list.get()).ok())
        .unwrap_or_default()
}

/// Splits a PEM text into the single keys.
fn blocks(pem: &str) -> Vec<Zeroizing<String>> {
    const END: &str = "-----END PRIVATE KEY-----";
    let mut keys = Vec::new();
    let mut rest = pem;
    while let Some((block, after)) = rest.split_once(END) {
        keys.push(Zeroizing::new(format!("{}{END}", block.trim_start())));
        rest = after;
    }
    keys
}

/// The id of a private key: the beginning of the digest of the key. `None` if the text is not one key.
fn key_id(pem: &str) -> Option<String> {
    let mut keys = PrivatePkcs8KeyDer::pem_slice_iter(pem.as_bytes());
    let (Some(Ok(key)), None) = (keys.next(), keys.next()) else {
        return None;
    };
    let digest = digest(&SHA256, key.secret_pkcs8_der());
    let id = hex(digest.as_ref()).to_ascii_uppercase();
    Some(id.chars().take(32).collect())
}

fn oidc<'a>(
    resource: &'a mut Resource,
    what: &str,
) -> Result<&'a mut OidcProviderDetail, CommandError> {
    match resource {
        Resource::OidcProvider(provider) => Ok(provider),
        other => Err(unfit(other, what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = include_str!("../../../tests/data/saml/rsa.key");
    const NOW: Timestamp = Timestamp::from_seconds(1_000_000_000);

    fn provider() -> SamlProviderDetail {
        SamlProviderDetail {
            arn: "arn:aws:iam::111122223333:saml-provider/corp".to_owned(),
            ..SamlProviderDetail::default()
        }
    }

    fn add(pem: &str) -> SamlUpdate {
        SamlUpdate {
            add_private_key: Some(Zeroizing::new(pem.to_owned())),
            ..SamlUpdate::default()
        }
    }

    #[test]
    fn keys_are_added_and_removed_by_id() {
        let mut provider = provider();
        update_keys(&mut provider, &add(KEY), NOW).unwrap();
        let keys = private_keys(&provider);
        assert_eq!(keys.len(), 1);
        let id = keys[0].key_id.clone();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        // The same key again changes nothing, not even its date.
        let later = Timestamp::from_seconds(NOW.seconds() + 60);
        update_keys(&mut provider, &add(KEY), later).unwrap();
        assert_eq!(private_keys(&provider), keys);
        let remove = |id: &str| SamlUpdate {
            remove_private_key: Some(id.to_owned()),
            ..SamlUpdate::default()
        };
        let error = update_keys(&mut provider, &remove("OTHER"), NOW).unwrap_err();
        assert!(matches!(error, CommandError::NoSuchEntity(_)));
        update_keys(&mut provider, &remove(&id), NOW).unwrap();
        assert!(provider.private_keys.is_none() && provider.private_key_list.is_none());
        let error = update_keys(&mut provider, &add("text"), NOW).unwrap_err();
        assert!(matches!(error, CommandError::Validation(_)));
    }
}
