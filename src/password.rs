//! Passwords: how they are kept, and what an account demands of them. Knows no users and no store.

pub mod block_list;
pub mod hash;
pub mod policy;
pub mod text;
