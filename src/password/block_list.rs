//! A list of passwords that nobody may choose, because attackers try them first: NIST SP 800-63B-4
//! section 3.1.1.2.

use std::sync::Arc;

use super::text::prepared;
use crate::base::digest::sha256;

/// The maximum number of passwords in a list. More would add little protection, because wrong
/// passwords are counted and limited.
const MAX_ENTRIES: usize = 1_000_000;

/// A list of blocked passwords, stored as digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockList {
    /// The digests in ascending order, for binary search.
    digests: Arc<[[u8; 16]]>,
}

impl BlockList {
    /// Reads a list with one password in each line. Empty lines are ignored.
    ///
    /// # Errors
    /// The rule that the text breaks, as a clause.
    pub fn read(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty());
        let mut digests: Vec<[u8; 16]> = lines.take(MAX_ENTRIES + 1).map(digest).collect();
        if digests.is_empty() || digests.len() > MAX_ENTRIES {
            return Err(format!(
                "must have 1 to {MAX_ENTRIES} lines, each with one password"
            ));
        }
        digests.sort_unstable();
        digests.dedup();
        Ok(Self {
            digests: digests.into(),
        })
    }

    /// Returns whether a password is in the list, without regard to case.
    pub fn has(&self, password: &str) -> bool {
        !self.digests.is_empty() && self.digests.binary_search(&digest(password)).is_ok()
    }
}

fn digest(password: &str) -> [u8; 16] {
    let folded = zeroize::Zeroizing::new(prepared(password).to_lowercase());
    let digest = sha256(folded.as_bytes());
    std::array::from_fn(|n| digest.get(n).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_password_is_found_in_any_case_and_no_other() {
        let list = BlockList::read("Password1!\r\n\nqwertz-123\nCafe\u{301}-2024\n").unwrap();
        for listed in ["password1!", "PASSWORD1!", "Qwertz-123", "CAF\u{c9}-2024"] {
            assert!(list.has(listed), "{listed}");
        }
        for other in ["", "password1", "Password1!!", " password1!"] {
            assert!(!list.has(other), "{other}");
        }
        assert!(!BlockList::default().has("password1!"));
    }

    #[test]
    fn a_list_that_is_empty_or_too_long_is_refused() {
        assert!(BlockList::read("\n\n").is_err());
        assert!(BlockList::read(&"x\n".repeat(MAX_ENTRIES)).is_ok());
        assert!(BlockList::read(&"x\n".repeat(MAX_ENTRIES + 1)).is_err());
    }
}
