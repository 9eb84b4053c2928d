//! Signs requests with Signature Version 4, as a client does.

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use ring::hmac;

use super::canonical::{canonical_path, canonical_request, signing_key, string_to_sign};
use super::{
    ALGORITHM, OWN_HEADERS, PathForm, SigError, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN, incomplete,
};
use crate::base::clock::Timestamp;
use crate::base::digest::{Hex, hex};

/// The credentials and the scope with which a client signs.
#[derive(Debug)]
pub struct Signer<'a> {
    /// The id of the access key, `AKIA…` or `ASIA…`.
    pub access_key_id: &'a str,
    /// The secret access key, from which the signing key is derived.
    pub secret_access_key: &'a [u8],
    pub session_token: Option<&'a str>,
    pub region: &'a str,
    pub service: &'a str,
}

impl Signer<'_> {
    /// Adds `x-amz-date`, `x-amz-security-token` and `authorization` to a request. Signs the host,
    /// the content type if there is one, and all headers whose names begin with `x-amz-` or
    /// `x-brevet-`.
    ///
    /// # Errors
    /// [`SigError`] if the path or a header cannot be signed.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        host: &str,
        headers: &mut HeaderMap,
        payload_sha256: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), SigError> {
        let value = |text: &str| {
            http::HeaderValue::from_str(text).map_err(|_| {
                incomplete(
                    "the access key id or the session token has a character that a header \
                    cannot contain",
                )
            })
        };
        let amz_date = now.to_amz();
        headers.insert(X_AMZ_DATE, value(&amz_date)?);
        if let Some(token) = self.session_token {
            let mut token = value(token)?;
            token.set_sensitive(true);
            headers.insert(X_AMZ_SECURITY_TOKEN, token);
        }
        let mut names: Vec<String> = vec![HOST.as_str().to_owned()];
        let wanted = |n: &&HeaderName| {
            **n == CONTENT_TYPE
                || n.as_str().starts_with("x-amz-")
                || n.as_str().starts_with(OWN_HEADERS)
        };
        names.extend(headers.keys().filter(wanted).map(|n| n.as_str().to_owned()));
        names.sort();
        let signed = names.join(";");
        let day = amz_date.get(..8).unwrap_or_default();
        let canonical = canonical_request(
            method,
            &canonical_path(path, PathForm::Own)?,
            &[],
            headers,
            host,
            &signed,
            &Hex::of(payload_sha256),
        )?;
        let key = signing_key(self.secret_access_key, day, self.region, self.service);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
        let text = string_to_sign(&amz_date, day, self.region, self.service, &canonical);
        let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
        let header = format!(
            "{ALGORITHM} Credential={}/{day}/{}/{}/aws4_request, SignedHeaders={signed}, Signature={signature}",
            self.access_key_id, self.region, self.service,
        );
        headers.insert(AUTHORIZATION, value(&header)?);
        Ok(())
    }
}
