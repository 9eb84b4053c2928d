#![no_main]
//! No URL or body makes the Query protocol's parser panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let _ = brevet::query::read_form(input.0, input.1);
});
