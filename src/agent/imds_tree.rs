//! The metadata around the credentials: a tree of pages below `/latest/meta-data/`, as the
//! configuration defines it.

use std::collections::BTreeMap;

use crate::base::digest::{hex, sha256};

/// The maximum number of entries in the tree.
const MAX_ENTRIES: usize = 1_000;
const MAX_VALUE: usize = 16_384;
/// How deeply folders may be nested.
const MAX_DEPTH: usize = 8;

/// The metadata of the configuration, with defaults for the entries that SDKs need.
#[derive(Debug, Clone)]
pub struct MetaData(BTreeMap<String, Node>);

#[derive(Debug, Clone)]
enum Node {
    Leaf(String),
    Folder(BTreeMap<String, Node>),
}

impl MetaData {
    /// Checks the metadata of the configuration, and adds `instance-id`, `placement/region` and
    /// `placement/availability-zone` if they are missing.
    ///
    /// # Errors
    /// A text that says which rule the metadata breaks.
    pub fn new(table: &toml::Table, region: &str) -> Result<Self, String> {
        let mut left = MAX_ENTRIES;
        let mut root = folder(table, "", MAX_DEPTH, &mut left)?;
        if root.contains_key("iam") {
            return Err(
                "`iam` must be left out: the agent itself makes the entries below `iam`".to_owned(),
            );
        }
        let mut default = |path: [&str; 2], value: &str| {
            let leaf = || Node::Leaf(value.to_owned());
            match path {
                [name, ""] => _ = root.entry(name.to_owned()).or_insert_with(leaf),
                [name, below] => {
                    let empty = || Node::Folder(BTreeMap::new());
                    if let Node::Folder(entries) = root.entry(name.to_owned()).or_insert_with(empty)
                    {
                        entries.entry(below.to_owned()).or_insert_with(leaf);
                    }
                }
            }
        };
        default(["instance-id", ""], &made_up_id());
        default(["placement", "region"], region);
        let of_tree = Self(root.clone())
            .value("placement/region")
            .map(str::to_owned);
        let region =
            of_tree.ok_or("`placement` must be a table, and `placement.region` a string")?;
        let mut default_zone = root;
        if let Some(Node::Folder(placement)) = default_zone.get_mut("placement") {
            let zone = placement.entry("availability-zone".to_owned());
            zone.or_insert_with(|| Node::Leaf(format!("{region}a")));
        }
        let made = Self(default_zone);
        let id = made.value("instance-id").unwrap_or_default();
        let tail = id.strip_prefix("i-").unwrap_or_default();
        if !(1..=40).contains(&tail.len()) || !tail.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(
                "`instance-id` must be `i-` followed by 1 to 40 letters or digits".to_owned(),
            );
        }
        Ok(made)
    }

    /// The id of the instance: `i-` and letters or digits.
    pub fn instance_id(&self) -> &str {
        self.value("instance-id").unwrap_or_default()
    }

    /// The value at a path without a slash at its beginning or end; `None` if the path does not
    /// exist or is a folder.
    pub fn value(&self, path: &str) -> Option<&str> {
        let mut entries = &self.0;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            match entries.get(name)? {
                Node::Leaf(value) => return names.peek().is_none().then_some(value),
                Node::Folder(below) => entries = below,
            }
        }
        None
    }

    /// Every path below `prefix`, with its value, or for a folder the list of its entries.
    pub fn pages(&self, prefix: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        pages(&self.0, prefix, &mut found);
        found
    }

    /// The names at the top of the tree. The names of folders end with a slash.
    pub fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

fn folder(
    table: &toml::Table,
    path: &str,
    depth: usize,
    left: &mut usize,
) -> Result<BTreeMap<String, Node>, String> {
    let deeper = depth.checked_sub(1).ok_or_else(|| {
        format!("`{path}` is nested too deeply: at most {MAX_DEPTH} levels of tables are allowed, of which \
            `meta_data` is the first")
    })?;
    let mut made = BTreeMap::new();
    for (name, value) in table {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        *left = left
            .checked_sub(1)
            .ok_or_else(|| format!("must have at most {MAX_ENTRIES} entries, tables included"))?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.:=".contains(&b);
        let is_name = (1..=128).contains(&name.len()) && name.bytes().all(legal);
        if !is_name || name.bytes().all(|b| b == b'.') {
            return Err(format!(
                "`{path}`: each name must have 1 to 128 letters, digits and `-_.:=`, and not only dots"
            ));
        }
        let node = match value {
            toml::Value::String(text) if text.len() <= MAX_VALUE => Node::Leaf(text.clone()),
            toml::Value::String(text) => {
                return Err(format!(
                    "`{path}` must have at most {MAX_VALUE} bytes, but has {}",
                    text.len()
                ));
            }
            toml::Value::Table(table) => Node::Folder(folder(table, &path, deeper, left)?),
            _ => return Err(format!("`{path}` must be a string or a table")),
        };
        made.insert(name.clone(), node);
    }
    Ok(made)
}

fn names(entries: &BTreeMap<String, Node>) -> Vec<String> {
    let one = |(name, node): (&String, &Node)| match node {
        Node::Leaf(_) => name.clone(),
        Node::Folder(_) => format!("{name}/"),
    };
    entries.iter().map(one).collect()
}

fn pages(entries: &BTreeMap<String, Node>, prefix: &str, found: &mut Vec<(String, String)>) {
    for (name, node) in entries {
        let path = format!("{prefix}/{name}");
        match node {
            Node::Leaf(value) => found.push((path, value.clone())),
            Node::Folder(below) => {
                found.push((path.clone(), names(below).join("\n")));
                pages(below, &path, found);
            }
        }
    }
}

/// Makes up an instance id for a machine whose configuration has none. It is always the same for
/// one host name.
fn made_up_id() -> String {
    let name = rustix::system::uname();
    let digest = hex(&sha256(name.nodename().to_bytes()));
    format!("i-{}", digest.get(..17).unwrap_or_default())
}

/// Makes a unique id for an instance profile in AWS's form. It depends only on the ARN.
pub fn profile_id(arn: &str) -> String {
    let digest = hex(&sha256(arn.as_bytes())).to_ascii_uppercase();
    // Digits of base32 are A to Z and 2 to 7.
    let digits = digest.replace(['0', '1', '8', '9'], "X");
    format!("AIPA{}", digits.get(..17).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<MetaData, String> {
        MetaData::new(&text.parse().unwrap(), "eu-central-1")
    }

    #[test]
    fn what_sdks_ask_for_is_there_by_default() {
        let tree = made("").unwrap();
        assert_eq!(tree.value("placement/region"), Some("eu-central-1"));
        assert_eq!(
            tree.value("placement/availability-zone"),
            Some("eu-central-1a")
        );
        assert_eq!(tree.instance_id().len(), 19);
        assert_eq!(tree.instance_id(), made("").unwrap().instance_id());
        assert_eq!(tree.names(), ["instance-id", "placement/"]);
    }

    #[test]
    fn the_configuration_decides() {
        let text = "instance-id = \"i-0abc\"\nplacement.region = \"eu-west-1\"\ntags.instance.Name = \"db\"\n";
        let tree = made(text).unwrap();
        assert_eq!(tree.instance_id(), "i-0abc");
        assert_eq!(
            tree.value("placement/availability-zone"),
            Some("eu-west-1a")
        );
        assert_eq!(tree.value("tags/instance/Name"), Some("db"));
        for absent in [
            "tags",
            "tags/instance",
            "tags/instance/Name/x",
            "x",
            "",
            "tags//instance",
        ] {
            assert_eq!(tree.value(absent), None, "{absent}");
        }
        let pages = tree.pages("m");
        assert!(
            pages.contains(&("m/tags".into(), "instance/".into())),
            "{pages:?}"
        );
        assert!(pages.contains(&("m/tags/instance/Name".into(), "db".into())));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("iam = \"x\"", "`iam`"),
            ("a.\"b/c\" = \"x\"", "`a.b/c`"),
            ("\"..\" = \"x\"", "`..`"),
            ("a = 1", "`a` must be a string or a table"),
            ("instance-id = \"web 1\"", "`instance-id`"),
            ("instance-id.x = \"web\"", "`instance-id`"),
            ("placement = \"x\"", "`placement.region`"),
            ("a.b.c.d.e.f.g.h.i = \"x\"", "too deep"),
        ] {
            let error = made(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        let long = format!("a = \"{}\"", "x".repeat(MAX_VALUE + 1));
        assert!(made(&long).unwrap_err().contains("at most 16384 bytes"));
    }
}
