//! Passwords: their hashes, their normal form, and the rules for new ones. This module does not
//! depend on users or the store.

pub mod block_list;
pub mod hash;
pub mod policy;
pub mod text;
