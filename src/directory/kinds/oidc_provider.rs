//! OpenID Connect providers, whose tokens AssumeRoleWithWebIdentity accepts for roles of the same
//! account.

use serde_json::value::RawValue;

use crate::base::arn::{AccountId, account_of_provider};
use crate::base::entropy::NoEntropy;
use crate::base::names;
use crate::directory::compile::tags;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::{CLIENT_IDS_PER_PROVIDER, Limits, THUMBPRINTS_PER_PROVIDER};
use crate::directory::shape::{Ignored, Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::proof::jwt::KeySet;
use crate::revocations::Selector;

/// Why the broker must not be declared as one of its own identity providers.
pub const OWN_ISSUER: &str = "is this broker's own [web_identity] issuer: a session that exchanged its own token for \
     another session would lose its session policies, its chain and whatever revokes it; remove the provider";

/// Whether a provider's URL names an issuer. The scheme, the case of the host, the https port and
/// trailing slashes are ignored.
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
        /// Kept but not used: the certificate of the connection must be valid for the public roots
        /// or for the given CA.
        thumbprint_list: Vec<String>,
        /// The PEM certificate of the CA that signed the certificates of the provider's endpoints.
        certificate_authority: Option<String>,
        /// The provider's keys (RFC 7517), for a broker that cannot fetch them.
        json_web_key_set: Option<Box<RawValue>>,
        /// Whether each token is accepted only once, by its `jti`.
        one_time: Option<bool>,
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
    /// Whether each token is accepted only once.
    pub one_time: bool,
    pub tags: Box<[names::Tag]>,
}

impl OidcProvider {
    /// Whether the keys of another declaration would be fetched in the same way.
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
        let keys = keys.map_err(|_| keys_fault("must be a JSON Web Key Set (RFC 7517)"))?;
        if keys.as_ref().is_some_and(KeySet::is_empty) {
            return Err(keys_fault("must have at least one supported key"));
        }
        let ca = self.certificate_authority.as_ref();
        directory.oidc_providers.put(OidcProvider {
            arn: self.arn.as_str().into(),
            url: url.into(),
            account,
            client_ids: self.client_id_list.clone().into(),
            tags: tags(place, &self.tags)?,
            keys,
            ca: ca.map(|pem| pem.as_bytes().into()),
            one_time: self.one_time.unwrap_or(false),
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.oidc_providers.remove(id);
    }
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
