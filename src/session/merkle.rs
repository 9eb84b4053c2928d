//! Merkle trees as RFC 6962 section 2.1 defines them: one hash, the root, stands for up to [`MAX_LEAVES`] leaves, and a
//! short path of hashes shows that a leaf is one of them. This module knows bytes, but no keys.

use ring::digest::{Context, SHA256};

/// The maximum number of leaves of a tree. More leaves would hardly make signing cheaper, but would lengthen paths.
pub const MAX_LEAVES: usize = 64;
/// The maximum number of hashes of a path: a tree of [`MAX_LEAVES`] leaves has this many levels above them.
pub const MAX_PATH: usize = 6;
/// The length of a SHA-256 hash in bytes.
pub const HASH: usize = 32;

/// The hash of a leaf or of a node: a SHA-256.
pub type Hash = [u8; HASH];

/// The byte that is hashed before the content of a leaf. Nodes have another one, so that a leaf can never be taken for
/// a node, nor a node for a leaf.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// The hash of a leaf whose content is the concatenation of `parts`.
pub fn leaf(parts: &[&[u8]]) -> Hash {
    hash(LEAF, parts)
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(NODE, &[left, right])
}

fn hash(kind: u8, parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[kind]);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; HASH];
    for (slot, byte) in hash.iter_mut().zip(context.finish().as_ref()) {
        *slot = *byte;
    }
    hash
}

/// The place of a leaf in a tree. It determines how many hashes the path of the leaf has, and on which side each of
/// them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    index: u8,
    size: u8,
}

impl Place {
    /// The leaf with this index, counted from 0, in a tree of `size` leaves. `None` if there is no
    /// such tree or no such leaf.
    pub fn new(index: u8, size: u8) -> Option<Self> {
        (index < size && usize::from(size) <= MAX_LEAVES).then_some(Self { index, size })
    }

    /// The index of the leaf, counted from 0.
    pub fn index(self) -> u8 {
        self.index
    }

    /// The number of leaves of the tree, from 1 to [`MAX_LEAVES`].
    pub fn size(self) -> u8 {
        self.size
    }

    /// For each level from the leaves up, whether the sibling is on the left; `None` if there is no
    /// sibling, since the last node of an odd level moves up as it is.
    fn siblings(self) -> impl Iterator<Item = Option<bool>> {
        let mut level = self;
        std::iter::from_fn(move || {
            let Self { index, size } = level;
            if size <= 1 {
                return None;
            }
            level = Self {
                index: index / 2,
                size: size.div_ceil(2),
            };
            let is_right = index % 2 == 1;
            Some((is_right || index + 1 < size).then_some(is_right))
        })
    }

    /// The number of hashes in a path from this place to the root, at most [`MAX_PATH`].
    pub fn path_length(self) -> usize {
        self.siblings().flatten().count()
    }

    /// Computes the root of a tree from a leaf at this place and its path; `None` if the path does not have
    /// [`Self::path_length`] hashes. A wrong leaf or path results in another root, so the caller must compare the
    /// result with the root that was signed.
    pub fn root(self, leaf: &Hash, path: &[Hash]) -> Option<Hash> {
        let (mut hash, mut path) = (*leaf, path.iter());
        for is_left in self.siblings().flatten() {
            let sibling = path.next()?;
            hash = match is_left {
                true => node(sibling, &hash),
                false => node(&hash, sibling),
            };
        }
        path.next().is_none().then_some(hash)
    }
}

/// A path from a leaf to the root: the sibling of each node on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    hashes: [Hash; MAX_PATH],
    length: usize,
}

impl Path {
    /// The hashes, from the leaf up.
    pub fn hashes(&self) -> &[Hash] {
        self.hashes.get(..self.length).unwrap_or_default()
    }
}

/// A tree with the hashes of all its levels, from which paths are taken.
pub struct Tree {
    /// The hashes of each level, from the leaves up to the root. No level is empty.
    levels: Vec<Vec<Hash>>,
    size: u8,
}

impl Tree {
    /// The tree of these leaves; `None` if there are none, or more than [`MAX_LEAVES`].
    pub fn new(leaves: Vec<Hash>) -> Option<Self> {
        let size = u8::try_from(leaves.len()).ok()?;
        Place::new(0, size)?;
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).filter_map(|pair| match pair {
                [left, right] => Some(node(left, right)),
                [last] => Some(*last),
                _ => None,
            });
            levels.push(above.collect());
        }
        Some(Self { levels, size })
    }

    /// The number of leaves, from 1 to [`MAX_LEAVES`].
    pub fn size(&self) -> u8 {
        self.size
    }

    /// The root, which stands for all leaves and their order.
    pub fn root(&self) -> Hash {
        let root = self.levels.last().and_then(|level| level.first());
        root.copied().unwrap_or_default() // no level is empty
    }

    /// The place of the leaf with this index, and its path; `None` if there is no such leaf.
    pub fn path(&self, index: u8) -> Option<(Place, Path)> {
        let place = Place::new(index, self.size)?;
        let (mut hashes, mut length) = ([[0; HASH]; MAX_PATH], 0);
        for ((level, nodes), is_left) in self.levels.iter().enumerate().zip(place.siblings()) {
            let Some(is_left) = is_left else { continue };
            let at = usize::from(index >> level);
            let sibling = if is_left { at.checked_sub(1)? } else { at + 1 };
            *hashes.get_mut(length)? = *nodes.get(sibling)?;
            length += 1;
        }
        Some((place, Path { hashes, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::hex;

    /// The tree hash as RFC 6962 section 2.1 writes it down.
    fn tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node(&tree_hash(&leaves[..half]), &tree_hash(&leaves[half..]))
            }
        }
    }

    /// The audit path as RFC 6962 section 2.1.1 writes it down.
    fn audit_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut path, sibling) = match index.checked_sub(left.len()) {
            None => (audit_path(index, left), tree_hash(right)),
            Some(index) => (audit_path(index, right), tree_hash(left)),
        };
        path.push(sibling);
        path
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf(&[&n.to_be_bytes()])).collect()
    }

    #[test]
    fn the_roots_are_those_that_certificate_transparency_publishes() {
        let data: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (at, root) in roots.into_iter().enumerate() {
            let leaves = data[..=at].iter().map(|data| leaf(&[data])).collect();
            assert_eq!(hex(&Tree::new(leaves).unwrap().root()), root, "{at}");
        }
    }

    #[test]
    fn every_tree_and_path_is_that_of_the_rfc() {
        let mut longest = 0;
        for count in 1..=MAX_LEAVES {
            let leaves = leaves(count);
            let tree = Tree::new(leaves.clone()).unwrap();
            assert_eq!(tree.root(), tree_hash(&leaves));
            assert_eq!(usize::from(tree.size()), count);
            for (index, leaf) in leaves.iter().enumerate() {
                let (place, path) = tree.path(index.try_into().unwrap()).unwrap();
                assert_eq!(
                    path.hashes(),
                    audit_path(index, &leaves),
                    "{index} of {count}"
                );
                assert_eq!(place.path_length(), path.hashes().len());
                assert_eq!(place.root(leaf, path.hashes()), Some(tree.root()));
                longest = longest.max(path.hashes().len());
            }
            assert!(tree.path(tree.size()).is_none());
        }
        assert_eq!(longest, MAX_PATH);
        assert!(Tree::new(Vec::new()).is_none());
        assert!(Tree::new(leaves(MAX_LEAVES + 1)).is_none());
    }

    #[test]
    fn no_other_place_path_or_leaf_leads_to_the_root() {
        for count in 1..=20 {
            let leaves = leaves(count);
            let tree = Tree::new(leaves.clone()).unwrap();
            let root = Some(tree.root());
            for (index, leaf) in leaves.iter().enumerate() {
                let index = u8::try_from(index).unwrap();
                let (place, path) = tree.path(index).unwrap();
                let path = path.hashes();
                for other in 0..20 {
                    if let Some(other) = Place::new(other, tree.size()).filter(|p| *p != place) {
                        assert_ne!(other.root(leaf, path), root, "{index}, {other:?}");
                    }
                }
                for other in leaves.iter().filter(|other| *other != leaf) {
                    assert_ne!(place.root(other, path), root);
                }
                for altered in 0..path.len() {
                    let mut path = path.to_vec();
                    path[altered][7] ^= 1;
                    assert_ne!(place.root(leaf, &path), root);
                }
                // A path that ends early or goes on is no path.
                let longer = [path, &[[0; HASH]]].concat();
                assert_eq!(place.root(leaf, &longer), None);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(place.root(leaf, shorter), None);
                }
            }
        }
        assert_eq!(Place::new(0, 0), None);
        assert_eq!(Place::new(3, 3), None);
        assert_eq!(Place::new(0, 65), None);
        assert_eq!(Place::new(255, 255), None);
    }

    #[test]
    fn a_node_is_no_leaf_and_a_leaf_no_node() {
        let [a, b] = [leaf(&[b"a"]), leaf(&[b"b"])];
        let inner = node(&a, &b);
        // The content of a leaf may be the two hashes of a node, or the whole input of one.
        assert_ne!(leaf(&[&a, &b]), inner);
        assert_ne!(leaf(&[&[NODE], &a, &b]), inner);
        // A smaller tree whose leaf is a node of the larger one has the same root: the number of
        // leaves must be signed with it.
        let larger = Tree::new(vec![a, b, leaf(&[b"c"]), leaf(&[b"d"])]).unwrap();
        let smaller = Tree::new(larger.levels[1].clone()).unwrap();
        assert_eq!(smaller.root(), larger.root());
        assert_ne!(smaller.size(), larger.size());
    }
}
