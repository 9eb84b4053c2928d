//! Signs an allowed request again with the store's own key. The method, path and payload stay the
//! same; the host is the store's own.

use super::head::Head;
use super::payload::Payload;
use super::route::Routed;
use super::store::S3Store;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::proof::sigv4::s3::{S3Request, SIGNATURE_PARAMETERS, authorization};

/// The client's headers that must not reach the store, because they are about the client's account
/// and session, or about the proxy's host.
const REMOVED: [&str; 7] = [
    "forwarded",
    "x-amz-expected-bucket-owner",
    "x-amz-security-token",
    "x-amz-source-expected-bucket-owner",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
];

/// Headers without the prefix `x-amz-` that the decision may depend on, so they are signed, too.
const JUDGED: [&str; 2] = ["if-match", "if-none-match"];

/// The changes to a head that make it a signed request to the store.
pub struct SignedForStore {
    /// The headers that replace those of the client.
    pub set: Vec<(&'static str, Secret<String>)>,
    /// The names of the headers to remove.
    pub remove_headers: Vec<String>,
    /// The names of the query parameters to remove.
    pub remove_query: Vec<String>,
    /// The value of `Host` for the request to the store, which the new signature covers.
    pub host: String,
    /// Whether the host contains the bucket's name, so that the request must go to exactly this
    /// host.
    pub names_bucket: bool,
}

/// Returns the changes that sign an allowed head for the store.
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
