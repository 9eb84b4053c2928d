#![no_main]
//! No URL or body makes the parser of forms panic, which the Query API and the OAuth endpoints share.

use brevet::base::form::{Parameters, pairs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let mut parameters = Parameters::default();
    for (name, value) in pairs(input.0).unwrap_or_default() {
        let _ = parameters.put(name, value);
    }
    let _ = parameters.read_more(input.1);
});
