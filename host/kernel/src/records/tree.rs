//! The Merkle tree over the records of a batch: that of RFC 6962, section 2.1, with SHA-256.
//!
//! Leaves and nodes are hashed with different first bytes, so that no node can pass for a leaf, and a tree over other leaves
//! has another root.

use alloc::vec::Vec;

use sha2::Digest as _;

use crate::id::Digest;

/// The hash of a leaf.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
}

fn node(left: Digest, right: Digest) -> Digest {
    Digest(sha2::Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The largest power of two below `count`, which is at least 2.
const fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// A tree with all its nodes: the paths of many leaves cost what that of one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// From the leaves up to the root.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Over the hashes of leaves.
    #[must_use]
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = Vec::from([leaves]);
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            // Pairs are joined; the last one of an odd number goes up as it is, which is the tree of the RFC.
            let up = level.chunks(2).map(|pair| match pair {
                [left, right] => node(*left, *right),
                one => one.first().copied().unwrap_or_default(),
            });
            let up = up.collect();
            levels.push(up);
        }
        Self { levels }
    }

    /// The root; that over no leaves is the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or_else(|| Digest::of(&[]))
    }

    /// What a leaf is joined with on its way up to the root; `None` where there is no such leaf.
    #[must_use]
    pub fn path(&self, mut index: usize) -> Option<Vec<Digest>> {
        self.levels.first()?.get(index)?;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend((level.len() > 1).then(|| level.get(index ^ 1)).flatten());
            index /= 2;
        }
        Some(path)
    }
}

/// The root over the hashes of leaves; that of none is the hash of nothing.
#[must_use]
pub fn root(leaves: Vec<Digest>) -> Digest {
    Tree::new(leaves).root()
}

/// The root that follows from a leaf, its place among `count` leaves and its path; `None` where the path has another length
/// than that place has.
#[must_use]
pub fn root_of(leaf: Digest, index: usize, count: usize, path: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    let Some((other, below)) = path.split_last() else { return (count == 1).then_some(leaf) };
    if count == 1 {
        return None;
    }
    let left = split(count);
    match index.checked_sub(left) {
        None => Some(node(root_of(leaf, index, left, below)?, *other)),
        Some(index) => Some(node(*other, root_of(leaf, index, count - left, below)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|at| leaf(&[at as u8, (at >> 8) as u8])).collect()
    }

    #[test]
    fn the_roots_are_those_of_the_rfc() {
        // The vectors of certificate transparency's own reference implementation (merkletree/merkle_tree_test).
        assert_eq!(
            root(Vec::new()).to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let one = leaf(b"");
        assert_eq!(
            root(Vec::from([one])).to_string(),
            "sha256:6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        let two = [one, leaf(&[0])];
        assert_eq!(
            root(two.into()).to_string(),
            "sha256:fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
        let three = [one, leaf(&[0]), leaf(&[0x10])];
        assert_eq!(
            root(three.into()).to_string(),
            "sha256:aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
        );
    }

    #[test]
    fn every_leaf_has_a_path_to_the_root_and_no_other_place_has() {
        for count in 1..=33 {
            let all = leaves(count);
            let tree = Tree::new(all.clone());
            let whole = tree.root();
            for (at, one) in all.iter().enumerate() {
                let path = tree.path(at).unwrap();
                assert_eq!(root_of(*one, at, count, &path), Some(whole), "{at} of {count}");
                for other in 0..count {
                    assert!(
                        other == at || root_of(*one, other, count, &path) != Some(whole),
                        "{at} at {other} of {count}"
                    );
                }
                let longer: Vec<_> = path.iter().copied().chain([whole]).collect();
                assert_ne!(root_of(*one, at, count, &longer), Some(whole));
                if let Some((_, shorter)) = path.split_last() {
                    assert_ne!(root_of(*one, at, count, shorter), Some(whole));
                }
            }
            assert_eq!(tree.path(count), None);
        }
    }
}
