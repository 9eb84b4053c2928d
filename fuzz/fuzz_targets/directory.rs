#![no_main]
//! No directory file and no row of the store makes the directory compiler or the keyring parser
//! panic.

use brevet::directory::Directory;
use brevet::directory::resource::{Resource, ResourceKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Directory::compile(bytes, None);
    let _ = brevet::session::keyring::Keyring::parse(bytes);
    let (Ok(text), Ok(mut directory)) = (std::str::from_utf8(bytes), Directory::empty()) else {
        return;
    };
    for kind in ResourceKind::ALL {
        if let Ok(resource) = Resource::parse(kind, text) {
            let _ = directory.insert(&resource, None);
            // Writing a resource and reading it again gives the same resource.
            let written = resource.text().unwrap();
            assert_eq!(
                Resource::parse(kind, &written).unwrap().text().unwrap(),
                written
            );
        }
    }
});
