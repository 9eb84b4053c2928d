#![no_main]
//! No text makes the reader of SAML responses and metadata panic, and no change of a good response
//! makes it say something else.
//!
//! Good seeds are the files of `tests/data/saml`:
//! `cargo +nightly fuzz run saml fuzz/corpus/saml tests/data/saml`.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::base::clock::Timestamp;
use brevet::proof::saml::{Accepted, AwsClaims, LEEWAY, Metadata, Refusal, Rules, verify};
use libfuzzer_sys::fuzz_target;

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../tests/data/saml/", $name))
    };
}

/// The metadata of each identity provider, and its good responses: all of them that are in that folder,
/// since each is accepted when it is a seed.
const GOOD: [(&str, &[&str]); 3] = [
    (
        data!("pysaml2-metadata.xml"),
        &[
            data!("pysaml2-assertion.xml"),
            data!("pysaml2-response.xml"),
            data!("pysaml2-both.xml"),
        ],
    ),
    (
        data!("samlp-metadata.xml"),
        &[
            data!("samlp-assertion.xml"),
            data!("samlp-response.xml"),
            data!("samlp-prefixed.xml"),
            data!("samlp-large.xml"),
        ],
    ),
    (
        data!("xmlsec-metadata.xml"),
        &[
            data!("xmlsec-rsa-sha256.xml"),
            data!("xmlsec-rsa-sha384.xml"),
            data!("xmlsec-rsa-sha512.xml"),
            data!("xmlsec-p256-sha256.xml"),
            data!("xmlsec-p256-sha384.xml"),
            data!("xmlsec-p384-sha256.xml"),
            data!("xmlsec-p384-sha384.xml"),
            data!("xmlsec-prefix-list.xml"),
            data!("xmlsec-with-comments.xml"),
            data!("xmlsec-response.xml"),
        ],
    ),
];

/// An identity provider, and what its good responses say.
struct Provider {
    metadata: Metadata,
    says: Vec<Accepted>,
}

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    let provider = |(metadata, responses): (&str, &[&str])| {
        let metadata = Metadata::parse(metadata.as_bytes()).unwrap();
        let says = |xml: &&str| accept(xml.as_bytes(), &metadata).unwrap();
        let says = responses.iter().map(says).collect();
        Provider { metadata, says }
    };
    GOOD.into_iter().map(provider).collect()
});

static NOW: LazyLock<Timestamp> =
    LazyLock::new(|| Timestamp::from_amz(data!("now").trim()).unwrap());

fn accept(xml: &[u8], idp: &Metadata) -> Result<Accepted, Refusal> {
    let audiences = ["https://sts.example.com/saml/metadata".to_owned()];
    let recipients = ["https://sts.example.com/saml/acs".to_owned()];
    let rules = Rules {
        now: *NOW,
        leeway: LEEWAY,
        issuer: idp.entity_id(),
        audiences: &audiences,
        recipients: &recipients,
        in_response_to: None,
    };
    verify(&STANDARD.encode(xml), idp, &[], *NOW)?.accept(&rules)
}

fuzz_target!(|input: &[u8]| {
    let _ = Metadata::parse(input);
    for provider in PROVIDERS.iter() {
        if let Ok(text) = std::str::from_utf8(input) {
            let _ = verify(text, &provider.metadata, &[], *NOW);
        }
        if let Ok(accepted) = accept(input, &provider.metadata) {
            assert!(provider.says.contains(&accepted));
            assert!(AwsClaims::read(accepted.assertion()).is_ok());
        }
    }
});
