//! An object store behind a proxy: how its requests are read, whose buckets it has, and the key with
//! which requests are signed for it. The configuration makes it; nothing here knows a network.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cors::CorsRule;
use crate::base::arn::AccountId;
use crate::proof::sigv4::SigningSecret;

/// How a request names its bucket, both from the client and to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the first segment of the path.
    Path,
    /// As the first label of the host, or as the first segment of the path if the host is the store's
    /// own name.
    VirtualHost,
}

/// How the requests for a store are read.
#[derive(Debug, Clone)]
pub struct StoreRules {
    pub style: Style,
    /// The names by which clients call the store, in lower case and without a port. A request that was
    /// signed for another host is refused.
    pub names: Vec<String>,
    /// Whether the store keeps empty segments and trailing slashes in the names of objects. If it does
    /// not, `a//b` is refused, and `a/` must be allowed as `a` too.
    pub keeps_slashes: bool,
    /// Whether the store takes payloads in chunks without signatures and a checksum after them.
    pub takes_trailers: bool,
    /// The region for which requests must be signed, and for which they are signed for the store.
    pub region: String,
}

/// A bucket of a store, with its owner and its rules for other origins.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The account that owns the bucket.
    pub account: AccountId,
    /// What pages of other origins may do with the bucket.
    pub cors: Vec<CorsRule>,
}

/// A long-term key of the store, with which requests are signed for it.
#[derive(Debug)]
pub struct StoreKey {
    pub access_key_id: String,
    pub secret: SigningSecret,
}

/// Which decisions are written to the audit log. Refusals always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataEvents {
    /// Refusals, and what was allowed.
    All,
    #[default]
    Refused,
}

/// A store, with the buckets that may be asked for.
pub struct S3Store {
    /// The name of the store in the configuration.
    pub name: String,
    pub rules: StoreRules,
    /// The authority of the store itself, as its `Host` header names it.
    pub host: String,
    /// All buckets that may be asked for, by name.
    pub buckets: HashMap<String, Bucket>,
    /// The key with which requests are signed. A reload of the configuration replaces it.
    pub key: ArcSwap<StoreKey>,
    pub data_events: DataEvents,
    /// Whether requests are signed for clients that call the store themselves. Such a client can add headers, so the
    /// store must act on none that is not signed.
    pub remote_signing: bool,
}

impl S3Store {
    /// A store that signs with this key from now on.
    pub fn new(name: String, rules: StoreRules, host: String, key: StoreKey) -> Self {
        Self {
            name,
            rules,
            host,
            buckets: HashMap::new(),
            key: ArcSwap::new(Arc::new(key)),
            data_events: DataEvents::default(),
            remote_signing: false,
        }
    }

    /// The store whose proxy clients call by this host, with or without a port. In a store with virtual hosts, a
    /// bucket's name and a dot may come before its own.
    pub fn behind<'a>(stores: &'a [Arc<Self>], authority: &str) -> Option<&'a Self> {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.to_ascii_lowercase();
        let is_called = |store: &&Arc<Self>| {
            store.rules.names.iter().any(|name| {
                let before = host.strip_suffix(name.as_str());
                before.is_some_and(|before| {
                    let is_virtual = store.rules.style == Style::VirtualHost;
                    before.is_empty() || (is_virtual && before.ends_with('.'))
                })
            })
        };
        // The longest name wins, if one store is called by a host below that of another one.
        let length = |store: &&Arc<Self>| {
            let names = store.rules.names.iter();
            let own = names.filter(|name| host.ends_with(name.as_str()));
            own.map(String::len).max()
        };
        let called = stores.iter().filter(is_called).max_by_key(length);
        called.map(|store| &**store)
    }

    /// Converts the host by which a client calls the store itself to the one by which it would call the
    /// store's proxy. `None` if the host is not the store's.
    pub fn as_behind(&self, authority: &str) -> Option<String> {
        let name = self.rules.names.first()?;
        let before = authority.strip_suffix(self.host.as_str())?;
        let is_bucket = self.rules.style == Style::VirtualHost && before.ends_with('.');
        (before.is_empty() || is_bucket).then(|| [before, name].concat())
    }

    /// The account that owns all buckets of the store; `None` if they belong to several.
    pub fn only_owner(&self) -> Option<AccountId> {
        let mut owners = self.buckets.values().map(|bucket| bucket.account);
        let first = owners.next()?;
        owners.all(|owner| owner == first).then_some(first)
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({}, {} buckets)", self.name, self.buckets.len())
    }
}
