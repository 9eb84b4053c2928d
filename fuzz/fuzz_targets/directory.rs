#![no_main]
//! No file makes the directory compiler or the keyring reader panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = brevet::directory::Directory::compile(bytes, None);
    let _ = brevet::keyring::Keyring::parse(bytes);
});
