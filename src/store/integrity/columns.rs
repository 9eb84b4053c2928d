//! The columns of each kind of row, and their encoding as bytes for MACs. No two different rows have the same encoding.

use ring::digest;

use crate::base::digest::hex;
use crate::store::clip;

/// All columns of a row except its MAC, by the kind of row.
#[derive(Debug, Clone, Copy)]
pub(in crate::parts::store) enum Row<'a> {
    /// An entry of the directory.
    Resource(Resource<'a>),
    Revocation(Revocation<'a>),
    /// A change of the feed, and the digest of the feed up to it.
    Change(&'a Fields<'a>, &'a str),
    /// An entry that was recorded when a broker read a directory file.
    DirectoryEntry(DirectoryEntry<'a>),
}

/// The columns of a recorded entry of a directory file.
#[derive(Debug, Clone, Copy)]
pub(in crate::parts::store) struct DirectoryEntry<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub identity: &'a str,
    pub version: i64,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::parts::store) struct Resource<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub account: &'a str,
    pub folded: &'a str,
    pub unique_id: Option<&'a str>,
    pub version: i64,
    pub body: &'a str,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::parts::store) struct Revocation<'a> {
    pub selector: &'a str,
    pub account: &'a str,
    pub value: &'a str,
    pub before_sequence: i64,
    pub before_seconds: i64,
    pub expires_at: i64,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::parts::store) struct Fields<'a> {
    pub sequence: i64,
    pub changed_at: i64,
    pub actor: &'a str,
    pub action: &'a str,
    pub kind: &'a str,
    pub id: &'a str,
    pub detail: &'a str,
}

#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Text(&'a str),
    Number(i64),
    Nothing,
}

/// The bytes of a field: UTF-8 text, or a number in big-endian order.
pub(super) enum Bytes<'a> {
    Text(&'a [u8]),
    Number([u8; 8]),
}

impl Bytes<'_> {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Text(bytes) => bytes,
            Self::Number(bytes) => bytes,
        }
    }
}

impl<'a> Field<'a> {
    /// The length prefix of the field, and its bytes. Numbers and NULL have prefixes that are larger than the length of
    /// any text.
    pub fn parts(self) -> (u64, Bytes<'a>) {
        match self {
            Self::Text(text) => (text.len() as u64, Bytes::Text(text.as_bytes())),
            Self::Number(number) => (u64::MAX - 1, Bytes::Number(number.to_be_bytes())),
            Self::Nothing => (u64::MAX, Bytes::Text(&[])),
        }
    }
}

impl Row<'_> {
    /// The name of the row in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Resource(row) => format!("{} {}", clip(row.kind), clip(row.id)),
            Self::Revocation(row) => row.name(),
            Self::Change(fields, _) => format!("change {} of the feed", fields.sequence),
            Self::DirectoryEntry(row) => {
                let (kind, id) = (clip(row.kind), clip(row.id));
                format!("directory entry {kind} {id}")
            }
        }
    }

    /// Calls `put` with the name of the kind of row, and then with each column of the row in a fixed order.
    pub(super) fn each(&self, mut put: impl FnMut(Field<'_>)) {
        let text = Field::Text;
        match self {
            Self::Resource(row) => {
                let unique_id = row.unique_id.map_or(Field::Nothing, text);
                let fields = [
                    text("resource"),
                    text(row.kind),
                    text(row.id),
                    text(row.account),
                    text(row.folded),
                ];
                fields
                    .into_iter()
                    .chain([unique_id, Field::Number(row.version), text(row.body)])
                    .for_each(put);
            }
            Self::Revocation(row) => {
                let fields = [
                    text("revocation"),
                    text(row.selector),
                    text(row.account),
                    text(row.value),
                ];
                let numbers =
                    [row.before_sequence, row.before_seconds, row.expires_at].map(Field::Number);
                fields.into_iter().chain(numbers).for_each(put);
            }
            Self::Change(fields, chain) => {
                put(text("change"));
                put(text(chain));
                fields.each(put);
            }
            Self::DirectoryEntry(row) => {
                let fields = [
                    text("directory entry"),
                    text(row.kind),
                    text(row.id),
                    text(row.identity),
                ];
                fields
                    .into_iter()
                    .chain([Field::Number(row.version)])
                    .for_each(put);
            }
        }
    }
}

impl Revocation<'_> {
    /// The name of the revocation in messages.
    pub fn name(&self) -> String {
        format!(
            "the revocation of {} {}",
            clip(self.selector),
            clip(self.value)
        )
        .trim_end()
        .to_owned()
    }
}

impl Fields<'_> {
    fn each(&self, put: impl FnMut(Field<'_>)) {
        let text = Field::Text;
        let numbers = [self.sequence, self.changed_at].map(Field::Number);
        let fields = [
            text(self.actor),
            text(self.action),
            text(self.kind),
            text(self.id),
            text(self.detail),
        ];
        numbers.into_iter().chain(fields).for_each(put);
    }

    /// Computes the digest of the feed up to this change, in hexadecimal: a SHA-256 of this change and of `before`, the
    /// digest of the feed up to the previous change.
    pub fn chained(&self, before: &str) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut put = |field: Field<'_>| {
            let (length, bytes) = field.parts();
            context.update(&length.to_be_bytes());
            context.update(bytes.as_slice());
        };
        put(Field::Text("brevet change v1"));
        put(Field::Text(before));
        self.each(&mut put);
        hex(context.finish().as_ref())
    }
}

/// The columns of the store's own row that are not encrypted. The seal authenticates them.
#[derive(Debug, Clone, Copy)]
pub(in crate::parts::store) struct Place<'a> {
    pub store_id: &'a str,
    pub sequence: i64,
    pub not_before: i64,
    pub chain: &'a str,
}

impl Place<'_> {
    /// The bytes that the seal authenticates.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(192);
        let numbers = [self.sequence, self.not_before].map(Field::Number);
        let fields = [
            Field::Text("brevet store v1"),
            Field::Text(self.store_id),
            Field::Text(self.chain),
        ];
        for field in fields.into_iter().chain(numbers) {
            let (length, bytes) = field.parts();
            all.extend_from_slice(&length.to_be_bytes());
            all.extend_from_slice(bytes.as_slice());
        }
        all
    }
}

/// The digest with which the chain of a new store begins, before its first change.
pub(in crate::parts::store) fn beginning(store_id: &str) -> String {
    let text = format!("brevet feed v1\n{store_id}");
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}
