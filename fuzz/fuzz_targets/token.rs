#![no_main]
//! No text opens as a session token.

use std::sync::LazyLock;

use brevet::clock::Timestamp;
use brevet::entropy::SystemEntropy;
use brevet::keyring::Keyring;
use brevet::token;
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).expect("randomness"));

fuzz_target!(|text: &str| assert!(token::open(&KEYRING, text).is_err()));
