#![no_main]
//! No header, path or query makes the signature parser panic, and no signature verifies by
//! accident.

use brevet::proof::sigv4::{Incoming, Presented};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, Vec<(String, String)>, bool)| {
    let (path, authorization, date, query, presigned) = input;
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", authorization), ("x-amz-date", date)] {
        if let (false, Ok(value)) = (presigned, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let incoming = Incoming {
        method: "GET",
        path,
        query: &query,
        headers: &headers,
        host: "h",
        payload_sha256: [0; 32],
    };
    if let Ok(Some(presented)) = Presented::read(&incoming) {
        assert!(presented.verify(b"a secret that nobody has").is_err());
    }
});
