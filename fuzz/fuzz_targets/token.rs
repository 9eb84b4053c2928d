#![no_main]
//! No text opens as a session token or an authorization message, not even bytes that somebody who can
//! encrypt and cannot sign has made of a token that is good; and nothing unpacks to more than the limit.

use std::sync::{Arc, LazyLock};

use brevet::authorization_message::Message;
use brevet::base::clock::Timestamp;
use brevet::base::entropy::SystemEntropy;
use brevet::session::batch::{Batch, VerifiedRoots};
use brevet::session::keyring::Keyring;
use brevet::session::{envelope, packing, token};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
    let now = Timestamp::from_seconds(1);
    Arc::new(Keyring::generate(&SystemEntropy::new(), now).expect("randomness"))
});
/// The signatures of [`GOOD`] have been checked, and are remembered.
static ROOTS: LazyLock<VerifiedRoots> = LazyLock::new(VerifiedRoots::default);
const SALT: [u8; 16] = [1; 16];

/// The encrypted parts of the first tokens of batches of 1, 2, 5 and 64.
static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let sizes = [1, 2, 5, 64].into_iter();
    sizes.map(good).collect()
});

fn good(size: usize) -> Vec<u8> {
    let claims = token::Claims::default();
    let tokens = (0..size).map(|_| token::unsigned(&KEYRING, &claims, &SALT).expect("a key"));
    let tokens: Vec<_> = tokens.collect();
    let leaves: Vec<_> = tokens.iter().map(|t| t.leaf(KEYRING.clone())).collect();
    let batch = Batch::sign(&leaves).1.expect("a key");
    let proof = batch.proofs().next().expect("a token");
    let mut plain = Vec::new();
    proof.write(&mut plain);
    plain.extend(prost::Message::encode_to_vec(&claims));
    let whole = envelope::seal_only(&KEYRING, &token::PURPOSE, &plain, &SALT);
    token::open(&KEYRING, &ROOTS, &whole.expect("a key")).expect("it is good");
    plain
}

/// Whether encrypted bytes open as a token.
fn opens(plain: &[u8]) -> bool {
    let text = envelope::seal_only(&KEYRING, &token::PURPOSE, plain, &SALT);
    token::open(&KEYRING, &ROOTS, &text.expect("a key")).is_ok()
}

fuzz_target!(|text: &str| {
    assert!(token::open(&KEYRING, &ROOTS, text).is_err());
    assert!(Message::open(text, &KEYRING).is_err());
    let bytes = text.as_bytes();
    if let Some(limits) = packing::unpack(bytes) {
        assert!(prost::Message::encoded_len(&limits) <= 131_072);
    }
    assert!(!opens(bytes));
    // A good token, of which some bytes are replaced.
    if let [which, at, new @ ..] = bytes {
        let good = &GOOD[usize::from(*which) % GOOD.len()];
        let mut altered = good.clone();
        for (slot, byte) in altered.iter_mut().skip(usize::from(*at)).zip(new) {
            *slot = *byte;
        }
        altered.extend(new.iter().skip(good.len().saturating_sub(usize::from(*at))));
        assert!(altered == *good || !opens(&altered));
    }
});
