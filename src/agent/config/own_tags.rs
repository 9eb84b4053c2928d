//! `[session_tags]`: the session tags that the agent adds by itself.

use super::document::{SessionTags, Tags};
use super::{ConfigError, tags, value};

const NODE: &str = "node";
const UNIT: &str = "unit";

/// The tags that the agent adds to sessions of roles whose trust policies name this node. It adds none where a trust
/// policy names a service of AWS, such as `ec2.amazonaws.com`: such a policy comes from AWS, and refuses sessions with
/// tags unless it allows `sts:TagSession`.
#[derive(Debug)]
pub(super) struct OwnTags {
    /// The value of the tag `node`; without it there is no such tag.
    node: Option<String>,
    /// Whether the agent adds the tag `unit`, with the systemd unit, for programs that are known by one.
    unit: bool,
}

impl OwnTags {
    pub(super) const NONE: Self = Self {
        node: None,
        unit: false,
    };

    /// Checks the section.
    ///
    /// # Errors
    /// [`ConfigError`] if the name of the node cannot be the value of a tag.
    pub(super) fn new(section: SessionTags) -> Result<Self, ConfigError> {
        const KEY: &str = "[session_tags] node";
        let SessionTags { node, unit } = section;
        if node.as_deref() == Some("") {
            return Err(value(
                KEY,
                "must not be empty; leave it out to add no tag `node`",
            ));
        }
        let of_node = node.iter().map(|node| (NODE.to_owned(), node.clone()));
        tags(KEY, of_node.collect())?;
        Ok(Self { node, unit })
    }

    /// Returns the tags of a session. `given` are the tags from the section, and `key` is the setting that has them,
    /// for errors. `unit` is the program's systemd unit, if it is known by one. The agent's own tags do not replace
    /// given ones.
    ///
    /// # Errors
    /// [`ConfigError`] if a tag breaks a rule, or there are too many.
    pub(super) fn beside(
        &self,
        key: &'static str,
        mut given: Tags,
        unit: Option<&str>,
    ) -> Result<Vec<(String, String)>, ConfigError> {
        let unit = unit.filter(|_| self.unit);
        for (name, value) in [(NODE, self.node.as_deref()), (UNIT, unit)] {
            // Keys of tags are compared without regard to case.
            let is_given = given.keys().any(|given| given.eq_ignore_ascii_case(name));
            if let (false, Some(value)) = (is_given, value) {
                given.insert(name.to_owned(), value.to_owned());
            }
        }
        tags(key, given)
    }
}
