#![no_main]
//! No text makes the parsers of foreign tokens and key sets panic.

use brevet::proof::jwt::{KeySet, Unverified};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = KeySet::parse(text.as_bytes());
    let _ = Unverified::read(text);
});
