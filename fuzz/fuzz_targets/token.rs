#![no_main]
//! No text opens as a session token or an authorization message, and nothing unpacks to more than
//! the limit.

use std::sync::LazyLock;

use brevet::authorization_message::Message;
use brevet::base::clock::Timestamp;
use brevet::base::entropy::SystemEntropy;
use brevet::session::keyring::Keyring;
use brevet::session::{packing, token};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).expect("randomness")
});

fuzz_target!(|text: &str| {
    assert!(token::open(&KEYRING, text).is_err());
    assert!(Message::open(text, &KEYRING).is_err());
    if let Some(limits) = packing::unpack(text.as_bytes()) {
        assert!(prost::Message::encoded_len(&limits) <= 131_072);
    }
});
