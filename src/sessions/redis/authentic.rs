//! Authenticated bytes: `key id ‖ HMAC-SHA256 ‖ bytes`. The MAC covers the name of the Redis key, so
//! that bytes that were altered, or moved to another name, are detected.

use ring::hmac;

use crate::session::keyring::Keyring;

/// The longest record that is read, in bytes. It has room for tags of
/// [`crate::session::packing::MAX_UNPACKED`], a complete chain of sessions, and records of earlier
/// versions, which had up to 77 KB of tags. No broker wrote a longer one.
const MAX_RECORD_BYTES: usize = 262_144;
const KEY_ID: usize = 4;
const MAC: usize = 32;

/// Adds the MAC to the bytes; `None` if the keyring has no current key.
pub(super) fn authenticated(keyring: &Keyring, name: &str, body: &[u8]) -> Option<Vec<u8>> {
    let key = keyring.current()?;
    let mac = tag(&keyring.record_mac(key).ok()?, name, body);
    Some([key.id().to_be_bytes().as_slice(), mac.as_ref(), body].concat())
}

/// Whether a revoked key made the MAC of the bytes, by the key id in them.
pub(super) fn is_of_revoked(keyring: &Keyring, bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<KEY_ID>()
        .is_some_and(|id| keyring.is_revoked(u32::from_be_bytes(*id)))
}

/// Checks the MAC and returns the bytes; `None` if no broker wrote them under this name, if they are too long, or if
/// the key of the MAC was removed or revoked.
pub(super) fn open<'a>(keyring: &Keyring, name: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    if bytes.len() > MAX_RECORD_BYTES {
        return None;
    }
    let (id, rest) = bytes.split_at_checked(KEY_ID)?;
    let (mac, body) = rest.split_at_checked(MAC)?;
    let key = keyring.find(u32::from_be_bytes(id.try_into().ok()?))?;
    let message = [name.as_bytes(), b"\n", body].concat();
    hmac::verify(&keyring.record_mac(key).ok()?, &message, mac).ok()?;
    Some(body)
}

fn tag(key: &hmac::Key, name: &str, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [name.as_bytes(), b"\n", body] {
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn st_12_a_record_opens_under_its_own_name_alone() {
        let keyring = Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap();
        let bytes = authenticated(&keyring, "a", b"body").unwrap();
        assert_eq!(open(&keyring, "a", &bytes), Some(b"body".as_slice()));
        assert_eq!(open(&keyring, "b", &bytes), None);
        for i in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[i] ^= 1;
            assert_eq!(open(&keyring, "a", &altered), None, "byte {i}");
            assert_eq!(open(&keyring, "a", &bytes[..i]), None);
        }
        assert_eq!(open(&keyring, "a", &vec![0; MAX_RECORD_BYTES + 1]), None);
    }
}
