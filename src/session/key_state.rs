//! Where a key of the keyring is on its way from being published to being taken away.

use serde::{Deserialize, Serialize};

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, and not used yet.
    Next,
    /// Makes new tokens.
    Current,
    /// Opens the tokens that it made.
    Previous,
}
