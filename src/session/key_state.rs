//! The states of a key of the keyring, from its publication to its removal.

use serde::{Deserialize, Serialize};

/// The states of a key, from its publication to its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// The key is published, so that every broker has it, but not used yet.
    Next,
    /// The key makes new tokens.
    Current,
    /// The key only opens the tokens that it made earlier.
    Previous,
}
