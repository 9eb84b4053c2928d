//! An object store behind a proxy, as the configuration describes it: the rules for reading its
//! requests, its buckets with their owners, and the key that signs requests for it. Nothing here
//! uses the network.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cors::CorsRule;
use crate::base::arn::AccountId;
use crate::proof::sigv4::SigningSecret;

/// The place of the bucket's name in a request. It is the same in the client's request and in the
/// request to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The first segment of the path.
    Path,
    /// The first label of the host, or the first segment of the path if the host is the store's own
    /// name.
    VirtualHost,
}

/// The rules for reading requests to a store.
#[derive(Debug, Clone)]
pub struct StoreRules {
    pub style: Style,
    /// The host names by which clients call the store, in lower case and without a port. Requests
    /// that were signed for another host are refused.
    pub names: Vec<String>,
    /// Whether the store distinguishes names of objects that differ only in empty segments or a
    /// trailing slash. If not, `a//b` is refused, and a request for `a/` also needs the permission
    /// for `a`.
    pub keeps_slashes: bool,
    /// Whether the store accepts payloads in unsigned chunks with a checksum at the end.
    pub takes_trailers: bool,
    /// The region in signatures: clients must sign their requests for it, and the broker signs its
    /// requests to the store for it.
    pub region: String,
}

/// A bucket of a store, with its owner and its CORS rules.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The account that owns the bucket, whose policies decide on requests to it.
    pub account: AccountId,
    /// The rules for requests from web pages of other origins.
    pub cors: Vec<CorsRule>,
}

/// The store's long-term access key with which the broker signs requests to the store.
#[derive(Debug)]
pub struct StoreKey {
    pub access_key_id: String,
    pub secret: SigningSecret,
}

/// The decisions that are written to the audit log. Refusals always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataEvents {
    /// Refused and allowed requests. The default is refused requests only.
    All,
    #[default]
    Refused,
}

/// An object store, with the buckets that clients may use.
pub struct S3Store {
    /// The name of the store in the configuration.
    pub name: String,
    pub rules: StoreRules,
    /// The store's own host, as the `Host` header of requests to it names it.
    pub host: String,
    /// All buckets that clients may use, by name.
    pub buckets: HashMap<String, Bucket>,
    /// The key that signs requests to the store. It is replaced when its file is read again.
    pub key: ArcSwap<StoreKey>,
    pub data_events: DataEvents,
    /// Whether the broker also signs requests for clients that call the store directly. Such a
    /// client can add unsigned headers, so the store must ignore every header that is not signed.
    pub remote_signing: bool,
}

impl S3Store {
    /// Creates a store without buckets, whose requests are signed with this key.
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

    /// Returns the store whose proxy has this host name, with or without a port. For a store with virtual hosts, a
    /// bucket's name and a dot may come before the host name.
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

    /// Converts the host of a request that a client sends directly to the store to the host by
    /// which it would call the proxy. Returns `None` if the host is not the store's.
    pub fn as_behind(&self, authority: &str) -> Option<String> {
        let name = self.rules.names.first()?;
        let before = authority.strip_suffix(self.host.as_str())?;
        let is_bucket = self.rules.style == Style::VirtualHost && before.ends_with('.');
        (before.is_empty() || is_bucket).then(|| [before, name].concat())
    }

    /// The account that owns all buckets of the store; `None` if several accounts own them, or there are no buckets.
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
