//! One signature for several texts that are issued together: an Ed25519 signature of the root of a Merkle tree. Each
//! text carries the signature and its path to the root, so that each can be checked without the others.
//! `docs/explanation/tokens.md` explains why such a text is as hard to forge as a text that is signed alone.

use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{Context, SHA256};

use crate::session::keyring::{Keyring, SessionKey};
use crate::session::merkle::{self, HASH, Hash, MAX_LEAVES, MAX_PATH, Path, Place, Tree};

/// The text with which every signed message of a batch begins. No other message that a session key signs begins with
/// it.
const DOMAIN: &[u8] = b"brevet batch of envelopes v1";
const SIGNATURE: usize = 64;
/// The number of verified roots that are remembered.
const SLOTS: usize = 2_048;

/// The facts, besides the texts, that a signature covers. One signature covers only texts of the same scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The name of the envelopes' purpose, such as the name that all session tokens have.
    pub purpose: &'static str,
    /// The version of the envelopes' format.
    pub form: u8,
    /// The id of the key that makes the signature.
    pub key_id: u32,
}

/// A leaf of a Merkle tree: the hash of a text that waits for its signature.
pub struct Leaf {
    hash: Hash,
    scope: Scope,
    keyring: Arc<Keyring>,
}

/// The key of the texts was removed or revoked before they were signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing key was removed or revoked before it signed the session token")]
pub struct NoKey;

impl Leaf {
    /// The leaf of a text. `hash` is from [`leaf_of`], which covers everything that belongs to the text.
    pub fn new(keyring: Arc<Keyring>, scope: Scope, hash: Hash) -> Self {
        Self {
            hash,
            scope,
            keyring,
        }
    }

    /// The hash of the leaf. It is also the root of the tree if the text is signed alone.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Whether one signature can cover both leaves.
    fn goes_with(&self, other: &Self) -> bool {
        self.scope == other.scope && Arc::ptr_eq(&self.keyring, &other.keyring)
    }
}

/// Texts that were signed together: their Merkle tree, and the signature of its root.
pub struct Batch {
    scope: Scope,
    tree: Tree,
    signature: [u8; SIGNATURE],
}

impl Batch {
    /// Signs the longest run of leaves from the beginning that one signature can cover, at most [`MAX_LEAVES`]. Returns
    /// the number of leaves in this run, which is 0 only if there are no leaves, and the batch, or [`NoKey`] if the
    /// keyring no longer has their key.
    pub fn sign<'l>(leaves: impl IntoIterator<Item = &'l Leaf>) -> (usize, Result<Self, NoKey>) {
        let mut leaves = leaves.into_iter().peekable();
        let Some(first) = leaves.peek().copied() else {
            return (0, Err(NoKey));
        };
        let together = leaves.take_while(|leaf| leaf.goes_with(first));
        let hashes: Vec<Hash> = together.take(MAX_LEAVES).map(|leaf| leaf.hash).collect();
        let count = hashes.len();
        (count, Self::of(first, hashes))
    }

    fn of(first: &Leaf, hashes: Vec<Hash>) -> Result<Self, NoKey> {
        let (keyring, scope) = (&*first.keyring, first.scope);
        let key = keyring.find(scope.key_id).ok_or(NoKey)?;
        let tree = Tree::new(hashes).ok_or(NoKey)?;
        let message = message(keyring.cluster_id(), scope, tree.size(), &tree.root());
        Ok(Self {
            scope,
            signature: key.sign(&message),
            tree,
        })
    }

    /// The id of the key that signed the batch, which its envelopes name.
    pub fn key_id(&self) -> u32 {
        self.scope.key_id
    }

    /// The number of texts in the batch, at most [`MAX_LEAVES`].
    pub fn size(&self) -> u8 {
        self.tree.size()
    }

    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The proofs of the texts, in their order.
    pub fn proofs(&self) -> impl Iterator<Item = Proof> {
        (0..self.tree.size()).filter_map(|index| {
            let (place, path) = self.tree.path(index)?;
            Some(Proof {
                signature: self.signature,
                place,
                path,
            })
        })
    }
}

/// Proves that a text was signed: the signature of a root, and the path from the text to that root.
#[derive(Debug, Clone)]
pub struct Proof {
    signature: [u8; SIGNATURE],
    place: Place,
    path: Path,
}

/// The maximum length of a proof in bytes, for a batch of [`MAX_LEAVES`] texts.
pub const MAX_PROOF: usize = SIGNATURE + 2 + MAX_PATH * HASH;

impl Proof {
    /// Appends the proof to `out`: the signature, the number of texts in the batch, the index of this text, and the
    /// hashes of the path. Their number is not written, since it follows from the number of texts and the index.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&[self.place.size(), self.place.index()]);
        for hash in self.path.hashes() {
            out.extend_from_slice(hash);
        }
    }
}

/// A proof that was read and not checked yet.
pub struct UnverifiedProof<'b> {
    signature: &'b [u8],
    place: Place,
    path: &'b [Hash],
}

impl<'b> UnverifiedProof<'b> {
    /// Splits bytes into a proof and the rest; `None` if the bytes do not begin with a proof.
    pub fn read(bytes: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let (signature, rest) = bytes.split_at_checked(SIGNATURE)?;
        let (&[size, index], rest) = rest.split_first_chunk()?;
        let place = Place::new(index, size)?;
        let (path, rest) = rest.split_at_checked(place.path_length() * HASH)?;
        let (path, []) = path.as_chunks::<HASH>() else {
            return None;
        };
        let proof = Self {
            signature,
            place,
            path,
        };
        Some((proof, rest))
    }

    /// Whether the proof shows that `key` signed the text whose hash is `leaf`, for the given cluster, purpose and
    /// form. `roots` remembers which roots have a valid signature.
    pub fn shows(
        &self,
        key: &SessionKey,
        cluster_id: &str,
        (purpose, form): (&'static str, u8),
        leaf: &Hash,
        roots: &VerifiedRoots,
    ) -> bool {
        let Some(root) = self.place.root(leaf, self.path) else {
            return false;
        };
        let scope = Scope {
            purpose,
            form,
            key_id: key.id(),
        };
        let message = message(cluster_id, scope, self.place.size(), &root);
        // No other text has the signature of one that was signed alone.
        if self.place.size() == 1 {
            return key.verify(&message, self.signature);
        }
        roots.verify(key, &message, self.signature)
    }
}

/// Encodes the message that is signed. Each part has a fixed length or is preceded by its length, so that no two
/// messages have the same encoding.
fn message(cluster_id: &str, scope: Scope, size: u8, root: &Hash) -> Vec<u8> {
    let Scope {
        purpose,
        form,
        key_id,
    } = scope;
    [
        DOMAIN,
        &length(purpose.as_bytes()),
        purpose.as_bytes(),
        &length(cluster_id.as_bytes()),
        cluster_id.as_bytes(),
        &[form],
        &key_id.to_be_bytes(),
        &[size],
        root,
    ]
    .concat()
}

/// The hash of the leaf for a text that consists of `header` and `body`. The hash covers `purpose` and `cluster_id`
/// too, so that the signature is valid for no other purpose and no other cluster.
pub fn leaf_of(purpose: &str, cluster_id: &str, header: &[u8], body: &[u8]) -> Hash {
    merkle::leaf(&[
        &length(purpose.as_bytes()),
        purpose.as_bytes(),
        &length(cluster_id.as_bytes()),
        cluster_id.as_bytes(),
        &length(header),
        header,
        body,
    ])
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}

/// Roots whose signatures were checked before, so that the texts of one batch share one check. The table has a constant
/// size. It belongs to one keyring, and is dropped together with it.
pub struct VerifiedRoots {
    /// For each root, a digest of everything that the check of its signature depended on ([`checked`]). The digest of a
    /// root replaces an earlier one in the same slot. A slot of zeros is empty.
    slots: Box<[Mutex<Hash>]>,
}

impl Default for VerifiedRoots {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl VerifiedRoots {
    /// Whether the key signed the message. A signature that was found valid is remembered and not checked again.
    fn verify(&self, key: &SessionKey, message: &[u8], signature: &[u8]) -> bool {
        let digest = checked(key, message, signature);
        let slot = match digest {
            [a, b, ..] => usize::from(u16::from_be_bytes([a, b])) % SLOTS,
        };
        let Some(slot) = self.slots.get(slot) else {
            return key.verify(message, signature);
        };
        let known = |slot: &Mutex<Hash>| *slot.lock().unwrap_or_else(PoisonError::into_inner);
        if known(slot) == digest {
            return true;
        }
        let is_signed = key.verify(message, signature);
        if is_signed {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = digest;
        }
        is_signed
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let is_taken = |slot: &&Mutex<Hash>| *slot.lock().unwrap() != Hash::default();
        self.slots.iter().filter(is_taken).count()
    }
}

/// A digest of everything that the check of a signature depends on. Each part is preceded by its length.
fn checked(key: &SessionKey, message: &[u8], signature: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in [key.public_key(), signature, message] {
        context.update(&length(part));
        context.update(part);
    }
    let mut digest = [0; HASH];
    for (slot, byte) in digest.iter_mut().zip(context.finish().as_ref()) {
        *slot = *byte;
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;

    fn keyring() -> Arc<Keyring> {
        let now = Timestamp::from_seconds(1);
        Arc::new(Keyring::generate(&SystemEntropy::new(), now).unwrap())
    }

    /// The leaves and the written proofs of texts that are signed together.
    fn signed(keyring: &Arc<Keyring>, size: u8) -> Vec<(Hash, Vec<u8>)> {
        let scope = Scope {
            purpose: "one",
            form: 1,
            key_id: keyring.current().unwrap().id(),
        };
        let leaf = |n| leaf_of("one", keyring.cluster_id(), &[1], &[n]);
        let leaves: Vec<Leaf> = (0..size)
            .map(|n| Leaf::new(keyring.clone(), scope, leaf(n)))
            .collect();
        let batch = Batch::sign(&leaves).1.unwrap();
        let written = batch.proofs().map(|proof| {
            let mut bytes = Vec::new();
            proof.write(&mut bytes);
            assert!(bytes.len() <= MAX_PROOF);
            bytes
        });
        leaves.iter().map(|leaf| leaf.hash).zip(written).collect()
    }

    #[test]
    fn tk_06_a_remembered_root_stands_for_nothing_else() {
        let (one, two) = (keyring(), keyring());
        let [mine, other] = [&one, &two].map(|keyring| keyring.current().unwrap());
        let roots = VerifiedRoots::default();
        let texts = signed(&one, 5);
        let shows = |key, cluster: &str, of, leaf: &Hash, bytes: &[u8]| {
            let (proof, rest) = UnverifiedProof::read(bytes).unwrap();
            assert!(rest.is_empty());
            proof.shows(key, cluster, of, leaf, &roots)
        };
        for (leaf, bytes) in &texts {
            assert!(shows(mine, one.cluster_id(), ("one", 1), leaf, bytes));
            assert!(!shows(other, one.cluster_id(), ("one", 1), leaf, bytes));
            assert!(!shows(mine, two.cluster_id(), ("one", 1), leaf, bytes));
            assert!(!shows(mine, one.cluster_id(), ("two", 1), leaf, bytes));
            assert!(!shows(mine, one.cluster_id(), ("one", 2), leaf, bytes));
            // The same root and path with another signature, which was not checked.
            let mut altered = bytes.clone();
            altered[0] ^= 1;
            assert!(!shows(mine, one.cluster_id(), ("one", 1), leaf, &altered));
        }
        assert_eq!(roots.count(), 1);
        assert!(!shows(
            mine,
            one.cluster_id(),
            ("one", 1),
            &texts[0].0,
            &texts[1].1
        ));
    }

    #[test]
    fn the_same_bytes_in_other_parts_are_another_leaf() {
        let leaves = [
            leaf_of("ab", "c", b"d", b"e"),
            leaf_of("a", "bc", b"d", b"e"),
            leaf_of("ab", "", b"cd", b"e"),
            leaf_of("ab", "c", b"", b"de"),
            leaf_of("ab", "c", b"de", b""),
        ];
        for (at, leaf) in leaves.iter().enumerate() {
            assert!(!leaves[..at].contains(leaf), "{at}");
        }
    }
}
