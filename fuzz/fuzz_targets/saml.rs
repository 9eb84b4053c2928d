#![no_main]
//! No text makes the reader of SAML responses and metadata panic, and no change of a good response
//! makes it say something else.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::base::clock::Timestamp;
use brevet::proof::saml::{Accepted, AwsClaims, LEEWAY, Metadata, Refusal, Rules, verify};
use libfuzzer_sys::fuzz_target;

const METADATA: &str = include_str!("../../tests/data/saml/pysaml2-metadata.xml");
const RESPONSES: [&str; 3] = [
    include_str!("../../tests/data/saml/pysaml2-assertion.xml"),
    include_str!("../../tests/data/saml/pysaml2-response.xml"),
    include_str!("../../tests/data/saml/pysaml2-both.xml"),
];
const NOW: &str = include_str!("../../tests/data/saml/now");

static PROVIDER: LazyLock<Metadata> =
    LazyLock::new(|| Metadata::parse(METADATA.as_bytes()).unwrap());
static GOOD: LazyLock<[Accepted; 3]> =
    LazyLock::new(|| RESPONSES.map(|xml| accept(xml.as_bytes()).unwrap()));

fn accept(xml: &[u8]) -> Result<Accepted, Refusal> {
    let audiences = ["https://sts.example.com/saml/metadata".to_owned()];
    let recipients = ["https://sts.example.com/saml/acs".to_owned()];
    let rules = Rules {
        now: Timestamp::from_amz(NOW.trim()).unwrap(),
        leeway: LEEWAY,
        issuer: PROVIDER.entity_id(),
        audiences: &audiences,
        recipients: &recipients,
        in_response_to: None,
    };
    verify(&STANDARD.encode(xml), &PROVIDER, rules.now)?.accept(&rules)
}

fuzz_target!(|input: &[u8]| {
    let _ = Metadata::parse(input);
    let _ =
        std::str::from_utf8(input).map(|text| verify(text, &PROVIDER, Timestamp::from_seconds(0)));
    if let Ok(accepted) = accept(input) {
        assert!(GOOD.contains(&accepted));
        assert!(AwsClaims::read(accepted.assertion()).is_ok());
    }
});
