#![no_main]
//! No URL or body makes the parser of the Query API panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let _ = brevet::query::read_form(input.0, input.1);
});
