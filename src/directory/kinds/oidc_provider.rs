//! OpenID Connect providers, whose tokens AssumeRoleWithWebIdentity accepts for roles of the same
//! account.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::base::arn::{AccountId, account_of, account_of_provider};
use crate::base::entropy::NoEntropy;
use crate::base::names;
use crate::base::secret::Secret;
use crate::directory::compile::tags;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::{CLIENT_IDS_PER_PROVIDER, Limits, THUMBPRINTS_PER_PROVIDER};
use crate::directory::secret_field::{SecretField, SecretText, sealing_name};
use crate::directory::shape::{Ignored, Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::proof::jwt::KeySet;
use crate::revocations::Selector;

/// The error about a provider whose issuer is this broker itself.
pub const OWN_ISSUER: &str = "is this broker's own [web_identity] issuer. A session that exchanged a token of this \
    broker for another session would lose its session policies and its chain of sessions, and would escape \
    revocation; remove the provider";

/// Whether a provider's URL names an issuer. The comparison ignores the scheme, the case of the host, the
/// https port and trailing slashes.
pub fn is_issuer(url: &str, issuer: &str) -> bool {
    fn parts(url: &str) -> (String, &str) {
        let rest = url
            .split_once("://")
            .map_or(url, |(_, rest)| rest)
            .trim_end_matches('/');
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        (
            host.strip_suffix(":443")
                .unwrap_or(host)
                .to_ascii_lowercase(),
            path,
        )
    }
    parts(url) == parts(issuer)
}

shape! {
    /// The output of `aws iam get-open-id-connect-provider` with the `Arn`, and Brevet's own
    /// fields.
    OidcProviderDetail {
        arn: String,
        url: String,
        #[serde(rename = "ClientIDList")]
        client_id_list: Vec<String>,
        /// The thumbprints, which are kept but not used: the certificate of the provider must be valid for
        /// the public roots or for the given CA.
        thumbprint_list: Vec<String>,
        /// The PEM certificate of the CA that signed the certificates of the provider's endpoints.
        certificate_authority: Option<String>,
        /// The provider's keys (RFC 7517), for a broker that cannot fetch them.
        json_web_key_set: Option<Box<RawValue>>,
        /// Whether each token is accepted only once. Its `jti` shows whether it was used before.
        one_time: Option<bool>,
        /// The client id, out of `ClientIDList`, with which people sign in. It may be left out if the list has only
        /// one.
        #[serde(rename = "ClientID")]
        client_id: Option<String>,
        /// The client secret of `ClientID`, in clear; a public client has none. `SealedClientSecret` holds the secret
        /// sealed under the master key instead.
        client_secret: Option<Zeroizing<String>>,
        sealed_client_secret: Option<String>,
        create_date: Option<String>,
        tags: Vec<Tag>,
        context_provider: Ignored,
        identity_center_instance_arn: Ignored,
        identity_store_arn: Ignored,
    }
}

/// An OpenID Connect provider in a snapshot.
#[derive(Debug)]
pub struct OidcProvider {
    /// The ARN, `arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH`.
    pub arn: Box<str>,
    /// The issuer as the provider's tokens name it, including the scheme.
    pub url: Box<str>,
    pub account: AccountId,
    /// The client ids (audiences), one of which every token must name.
    pub client_ids: Box<[String]>,
    /// The provider's keys, if they are declared instead of fetched.
    pub keys: Option<KeySet>,
    /// The PEM certificate of the CA for the provider's endpoints.
    pub ca: Option<Box<[u8]>>,
    /// Whether each token, recognized by its `jti`, is accepted only once.
    pub one_time: bool,
    /// The client with which people sign in; `None` if there are several client ids and the entry does not
    /// say which one.
    pub sign_in_client: Option<SignInClient>,
    pub tags: Box<[names::Tag]>,
}

/// The OAuth client of the broker at a provider with which people sign in.
#[derive(Debug)]
pub struct SignInClient {
    pub id: Box<str>,
    /// The client secret; `None` for a public client.
    pub secret: Option<Secret<String>>,
}

impl OidcProviderDetail {
    /// The client id with which people sign in; `None` if there are several client ids and the entry does not say which
    /// one.
    pub fn sign_in_client_id(&self) -> Option<&str> {
        match (&self.client_id, self.client_id_list.as_slice()) {
            (Some(id), _) => Some(id),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Whether the provider has a client secret, in clear or sealed.
    pub fn has_client_secret(&self) -> bool {
        self.client_secret.is_some() || self.sealed_client_secret.is_some()
    }

    /// Clears the client id with which people sign in, and its secret.
    pub fn drop_sign_in_client(&mut self) {
        self.client_id = None;
        (self.client_secret, self.sealed_client_secret) = (None, None);
    }
}

impl OidcProvider {
    /// Whether the keys of both providers are fetched from the same URL with the same CA, so that both can share them.
    pub fn asks_like(&self, other: &Self) -> bool {
        self.url == other.url && self.ca == other.ca
    }
}

impl Keyed for OidcProvider {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl Declared for OidcProviderDetail {
    const HAS_SECRET: bool = true;

    fn id(&self) -> &str {
        &self.arn
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(&mut self.tags)
    }

    /// The client secret; `None` for a provider without one.
    fn secret(&self) -> Option<SecretField<'_>> {
        self.has_client_secret().then(|| SecretField {
            name: "ClientSecret",
            bound_to: sealing_name("oidc provider", &self.arn, account_of(&self.arn)),
            clear: self.client_secret.as_ref().map(|s| s.as_str()),
            sealed: self.sealed_client_secret.as_deref(),
            normal: normal_client_secret,
        })
    }

    fn set_secret(&mut self, text: SecretText) {
        (self.client_secret, self.sealed_client_secret) = text.into_fields();
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
        // A file need not repeat the secret of the same client.
        if self.client_id.is_none() && !self.has_client_secret() {
            let kept = old.client_id.as_ref();
            self.client_id = kept.filter(|id| self.client_id_list.contains(id)).cloned();
        }
        if !self.has_client_secret() && self.sign_in_client_id() == old.sign_in_client_id() {
            keep(&mut self.sealed_client_secret, &old.sealed_client_secret);
        }
    }

    fn check(&self, limits: &mut Limits<'_>) {
        limits.quota(
            "ClientIdsPerOpenIdConnectProvider",
            self.client_id_list.len(),
            CLIENT_IDS_PER_PROVIDER,
        );
        if self.thumbprint_list.len() > THUMBPRINTS_PER_PROVIDER {
            limits.invalid(format!(
                "ThumbprintList must have at most {THUMBPRINTS_PER_PROVIDER} members"
            ));
        }
        match self.sign_in_client_id() {
            Some(id) if !self.client_id_list.iter().any(|known| known == id) => {
                limits.invalid("ClientID must be one of ClientIDList");
            }
            None if self.has_client_secret() => {
                limits.invalid("ClientID is required with ClientSecret, unless ClientIDList has exactly one member");
            }
            _ => {}
        }
        if self.url.is_empty() || self.url.len() > 255 {
            limits.invalid("Url must have 1 to 255 characters");
        }
        if limits
            .issuer
            .is_some_and(|issuer| is_issuer(&self.url, issuer))
        {
            limits.invalid(format!("Url {OWN_ISSUER}"));
        }
        limits.tags("TagsPerOpenIdConnectProvider", &self.tags);
    }

    fn sessions(&self) -> Option<Selector> {
        Some(Selector::Principal)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let Some(account) = account_of_provider(&self.arn, "oidc-provider") else {
            let rule = "Arn must be `arn:aws:iam::ACCOUNT:oidc-provider/NAME`";
            return Err(fault(place, rule));
        };
        // AWS's own listing leaves out the scheme.
        let url = match self.url.split_once("://") {
            Some(_) => self.url.clone(),
            None => format!("https://{}", self.url),
        };
        let Some(name) = provider_name(&url) else {
            let rule = "must be `https://HOST/PATH` without user, query or fragment, and HOST must contain a dot (`http://` is accepted only for this machine)";
            return Err(fault(format!("{place}: Url"), rule));
        };
        let arn = format!("arn:aws:iam::{account}:oidc-provider/{name}");
        if self.arn != arn {
            return Err(fault(format!("{place}: Arn"), format!("must be `{arn}`")));
        }
        let keys = self.json_web_key_set.as_ref();
        let keys = keys
            .map(|text| KeySet::parse(text.get().as_bytes()))
            .transpose();
        let keys_fault = |rule: &str| fault(format!("{place}: JsonWebKeySet"), rule);
        let keys = keys.map_err(|_| {
            keys_fault(
                "must be a JSON Web Key Set (RFC 7517) of at most 1048576 bytes and 200 keys",
            )
        })?;
        if keys.as_ref().is_some_and(KeySet::is_empty) {
            return Err(keys_fault(
                "must have at least one public key for signatures with a `kid` of its own: RSA of 2048 to 8192 bits, \
                 P-256, P-384 or Ed25519",
            ));
        }
        let ca = self.certificate_authority.as_ref();
        let secret = match self.secret() {
            None => None,
            Some(field) => Some(directory.open_secret(Some(field), how)?),
        };
        let client = self.sign_in_client_id();
        let sign_in_client = client.map(|id| SignInClient {
            id: id.into(),
            secret,
        });
        directory.oidc_providers.put(OidcProvider {
            arn: self.arn.as_str().into(),
            url: url.into(),
            account,
            client_ids: self.client_id_list.clone().into(),
            tags: tags(place, &self.tags)?,
            keys,
            ca: ca.map(|pem| pem.as_bytes().into()),
            one_time: self.one_time.unwrap_or(false),
            sign_in_client,
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.oidc_providers.remove(id);
    }
}

/// The maximum length of a client secret in characters.
const MAX_CLIENT_SECRET: usize = 1_024;

/// Checks a client secret: RFC 6749 appendix A.2. A line break at its end, as files have it, is dropped.
fn normal_client_secret(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let text = text.trim_end_matches(['\r', '\n']);
    let legal = |b: u8| (b' '..=b'~').contains(&b);
    if !(1..=MAX_CLIENT_SECRET).contains(&text.len()) || !text.bytes().all(legal) {
        return Err("must be 1 to 1,024 printable ASCII characters");
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// The name of a provider in its ARN: its URL without the scheme. `None` if the URL is not allowed.
fn provider_name(url: &str) -> Option<&str> {
    let name = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://").filter(|name| is_loopback(name)))?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&b);
    // Claims become condition keys with this name as prefix, which must not be that of a service.
    let is_distinct = !name.starts_with('/') && name.contains(['.', '/', ':']);
    (is_distinct && name.bytes().all(legal)).then_some(name)
}

/// Whether the authority of a URL names this machine. `rest` is the URL without its scheme.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iam::111122223333:oidc-provider/idp.example.com";

    fn provider(ids: &[&str]) -> OidcProviderDetail {
        OidcProviderDetail {
            arn: ARN.to_owned(),
            url: "https://idp.example.com".to_owned(),
            client_id_list: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..OidcProviderDetail::default()
        }
    }

    fn sealed(ids: &[&str], client: Option<&str>) -> OidcProviderDetail {
        OidcProviderDetail {
            client_id: client.map(str::to_owned),
            sealed_client_secret: Some("sealed".to_owned()),
            ..provider(ids)
        }
    }

    #[test]
    fn a_client_secret_is_one_line_of_printable_characters() {
        assert_eq!(*normal_client_secret("s3 cret~\n").unwrap(), "s3 cret~");
        for bad in ["", "\n", "a\nb", "é", "a\tb", &"x".repeat(1_025)] {
            assert!(normal_client_secret(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_kept_for_its_own_client_only() {
        let kept = |new: &OidcProviderDetail, old: &OidcProviderDetail| {
            let mut new = new.clone();
            new.keep_what_is_left_out(old);
            (new.client_id, new.sealed_client_secret)
        };
        let some = |text: &str| Some(text.to_owned());
        let old = sealed(&["a", "b"], Some("a"));
        assert_eq!(
            kept(&provider(&["a", "b"]), &old),
            (some("a"), some("sealed"))
        );
        // The client has gone, or is another one.
        assert_eq!(kept(&provider(&["b", "c"]), &old), (None, None));
        assert_eq!(kept(&provider(&["b"]), &old), (None, None));
        let other = OidcProviderDetail {
            client_id: some("b"),
            ..provider(&["a", "b"])
        };
        assert_eq!(kept(&other, &old), (some("b"), None));
        // The only client need not be named.
        let only = sealed(&["a"], None);
        assert_eq!(kept(&provider(&["a"]), &only), (None, some("sealed")));
        assert_eq!(kept(&provider(&["b"]), &only), (None, None));
    }

    #[test]
    fn a_secret_belongs_to_a_client_of_the_provider() {
        let broken = |provider: &OidcProviderDetail| {
            let mut limits = Limits::default();
            provider.check(&mut limits);
            limits.broken.len()
        };
        assert_eq!(broken(&sealed(&["a"], None)), 0);
        assert_eq!(broken(&sealed(&["a", "b"], Some("b"))), 0);
        assert_eq!(broken(&sealed(&["a", "b"], None)), 1);
        assert_eq!(broken(&sealed(&["a", "b"], Some("c"))), 1);
        assert_eq!(broken(&provider(&["a", "b"])), 0);
    }
}
