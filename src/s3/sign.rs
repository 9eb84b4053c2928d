//! Signs a judged request once more, with the key of the store: the same method, path and payload, for
//! the store's own host.

use super::head::Head;
use super::payload::Payload;
use super::route::Routed;
use super::store::S3Store;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::proof::sigv4::s3::{S3Request, SIGNATURE_PARAMETERS, authorization};

/// Headers of the client that the store must not get: they are about the client's own account and
/// session, or about a host that is not the store's.
const REMOVED: [&str; 7] = [
    "forwarded",
    "x-amz-expected-bucket-owner",
    "x-amz-security-token",
    "x-amz-source-expected-bucket-owner",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
];

/// Headers besides Amazon's own on which the decision may depend.
const JUDGED: [&str; 2] = ["if-match", "if-none-match"];

/// What has to be changed in a head so that the store accepts it.
pub struct SignedForStore {
    /// Headers that replace those of the client.
    pub set: Vec<(&'static str, Secret<String>)>,
    /// The names of headers to remove.
    pub remove_headers: Vec<String>,
    /// The names of query parameters to remove.
    pub remove_query: Vec<String>,
    /// The `Host` with which the store is called.
    pub host: String,
    /// Whether the host names the bucket, so that no other host will do.
    pub names_bucket: bool,
}

/// Signs the head for the store.
pub fn sign(
    store: &S3Store,
    head: &Head<'_>,
    routed: &Routed<'_>,
    payload: Payload<'_>,
    now: Timestamp,
) -> SignedForStore {
    let host = match routed.bucket.filter(|_| routed.in_host) {
        Some(bucket) => [bucket, ".", &store.host].concat(),
        None => store.host.clone(),
    };
    let date = now.to_amz();
    let replaced = [
        ("host", host.as_str()),
        ("x-amz-content-sha256", payload.declared()),
        ("x-amz-date", &date),
    ];
    let mut headers: Vec<(&str, &str)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.starts_with("x-amz-") || JUDGED.contains(name))
        .filter(|(name, _)| !REMOVED.contains(name) && replaced.iter().all(|(own, _)| own != name))
        .chain(replaced)
        .collect();
    headers.sort_unstable();
    let request = S3Request {
        method: head.method,
        path: &routed.path,
        query: &routed.query,
        headers: head.headers,
        host: &host,
    };
    let key = store.key.load();
    let authorization = authorization(
        (&key.access_key_id, &key.secret),
        &store.rules.region,
        now,
        &request,
        |name| SIGNATURE_PARAMETERS.contains(&name),
        &headers,
        payload.declared(),
    );
    let present = |name: &&str| head.header(name).is_some();
    let of_signature = |name: &&str| SIGNATURE_PARAMETERS.contains(name);
    let query = routed.query.iter().map(|(name, _)| *name);
    SignedForStore {
        remove_headers: REMOVED
            .into_iter()
            .filter(present)
            .map(str::to_owned)
            .collect(),
        remove_query: query.filter(of_signature).map(str::to_owned).collect(),
        set: vec![
            ("authorization", Secret::new(authorization)),
            (
                "x-amz-content-sha256",
                Secret::new(payload.declared().to_owned()),
            ),
            ("x-amz-date", Secret::new(date.clone())),
        ],
        host,
        names_bucket: routed.in_host,
    }
}
