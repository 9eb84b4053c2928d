//! The key `principal`: which principal the trust policy of a role must name to give the role to this node.

use serde::Deserialize;

/// The principal that the trust policy of the role must name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ImdsPrincipal {
    #[default]
    #[serde(rename = "node")]
    Node,
    /// The service `ec2.amazonaws.com`, if the directory has the role in the instance profile of this node.
    #[serde(rename = "ec2.amazonaws.com")]
    Ec2,
}
