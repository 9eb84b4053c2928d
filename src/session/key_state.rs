//! The states of a key of the keyring, from its publication to its removal.

use serde::{Deserialize, Serialize};

/// What a key of the keyring is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It is published and not used yet.
    Next,
    /// It makes new tokens.
    Current,
    /// It only opens the tokens that it made.
    Previous,
}
