//! What shows that the rows of the store are those that a broker wrote: a MAC on each of them, their
//! sums, and a chain of digests through the feed. Knows keys and bytes, no SQL.
//!
//! The keys are derived from the master key and the store's id. A MAC shows that a row was written like
//! this once. That no row is missing, doubled or from earlier is shown by sums over all rows: of each MAC
//! a pseudo-random number is made that the database never sees, and these are added modulo 2^256. The
//! sums are encrypted, because whoever knew how they differ from change to change could look for a set
//! of older rows that adds up to the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{aead, digest, hkdf, hmac};

use crate::base::digest::hex;
use crate::directory::resource::Kind;
use crate::master_key::{MasterKey, MasterKeyError};

/// How the sealed sums are laid out.
const FORM: u8 = 1;
/// A sum for each kind of thing, one for revocations, and one for the entries of a directory file.
const SETS: usize = Kind::ALL.len() + 2;
/// Form, the first change that is kept, and of each set 32 bytes and a count.
const CONTENTS: usize = 1 + 8 + SETS * 40;
/// The id under which a store is sealed where there is no master key.
const PUBLIC: &str = "00000000";

/// Why a MAC or a seal was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is made under a key that is not here.
    Key(String),
    /// It does not belong to these bytes.
    Mac,
}

/// Keys for one store, one for each of the master key, in the same order.
pub(super) struct Keys(Vec<Key>);

/// What is derived from one master key for one store.
pub(super) struct Key {
    id: String,
    /// Whether it was published, and seals nothing yet on the broker that it was made on.
    is_next: bool,
    row: hmac::Key,
    set: hmac::Key,
    nonce: hmac::Key,
    seal: aead::LessSafeKey,
}

impl Keys {
    /// Of a store by its id. Without a master key the keys are known to everybody: what they show is
    /// that nothing was damaged by accident.
    ///
    /// # Errors
    /// When a key cannot be derived.
    pub fn derive(master_key: Option<&MasterKey>, store_id: &str) -> Result<Self, MasterKeyError> {
        let salt = store_id.as_bytes();
        let keys = match master_key {
            Some(master_key) => {
                let extracts = master_key.extracts(salt)?;
                extracts
                    .into_iter()
                    .map(|(id, prk)| Key::derive(id, master_key.next_id() == Some(id), &prk))
                    .collect::<Option<_>>()
            }
            None => {
                let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&[0; 32]);
                Key::derive(PUBLIC, false, &prk).map(|key| vec![key])
            }
        };
        keys.map(Self).ok_or(MasterKeyError::Sealed)
    }

    /// The key that the master key file has in front.
    pub fn first(&self) -> Result<&Key, MasterKeyError> {
        self.0.first().ok_or(MasterKeyError::Sealed)
    }

    /// How many keys of the master key file are newer than one: the next key is newer than the one in
    /// front, which is newer than those that it replaced.
    pub fn newer_than(&self, id: &str) -> Option<usize> {
        let place = self.0.iter().position(|key| key.id == id)?;
        match self.0.get(place) {
            Some(key) if key.is_next => Some(0),
            _ => Some(place + 1),
        }
    }

    /// The key of an id.
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }

    /// What a row's MAC adds to the sum of its set, if it is the row's.
    pub fn check(&self, row: &Row<'_>, mac: &str) -> Result<Term, Wrong> {
        let (id, text) = mac.split_once(':').ok_or(Wrong::Mac)?;
        let key = self.find(id).ok_or_else(|| Wrong::Key(super::clip(id)))?;
        let given = STANDARD.decode(text).map_err(|_| Wrong::Mac)?;
        let tag = key.tag(row);
        if is_same(&given, tag.as_ref()) {
            Ok(key.term(&tag))
        } else {
            Err(Wrong::Mac)
        }
    }

    /// Opens a store's own row: what it holds, and the key that sealed it.
    pub fn open(&self, head: &Place<'_>, seal: &str) -> Result<(Contents, &Key), Wrong> {
        let (id, text) = seal.split_once(':').ok_or(Wrong::Mac)?;
        let key = self.find(id).ok_or_else(|| Wrong::Key(super::clip(id)))?;
        let mut bytes = STANDARD.decode(text).map_err(|_| Wrong::Mac)?;
        let (nonce, sealed) = bytes
            .split_at_mut_checked(aead::NONCE_LEN)
            .ok_or(Wrong::Mac)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| Wrong::Mac)?;
        let plain = key
            .seal
            .open_in_place(nonce, aead::Aad::from(head.bytes()), sealed)
            .map_err(|_| Wrong::Mac)?;
        Ok((Contents::read(plain).ok_or(Wrong::Mac)?, key))
    }
}

impl Key {
    fn derive(id: &str, is_next: bool, prk: &hkdf::Prk) -> Option<Self> {
        let mac = |info: &[u8]| {
            prk.expand(&[info], hmac::HMAC_SHA256)
                .map(hmac::Key::from)
                .ok()
        };
        let seal = prk
            .expand(&[b"brevet store seal v1"], &aead::AES_256_GCM)
            .ok()?;
        Some(Self {
            id: id.to_owned(),
            is_next,
            row: mac(b"brevet store row v1")?,
            set: mac(b"brevet store set v1")?,
            nonce: mac(b"brevet store nonce v1")?,
            seal: aead::LessSafeKey::new(aead::UnboundKey::from(seal)),
        })
    }

    /// The id of the master key that it is derived from.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A row's MAC, and what it adds to the sum of its set.
    pub fn mac(&self, row: &Row<'_>) -> (String, Term) {
        let tag = self.tag(row);
        (
            format!("{}:{}", self.id, STANDARD.encode(tag)),
            self.term(&tag),
        )
    }

    /// Seals a store's own row.
    ///
    /// # Errors
    /// Never with sums of this size.
    pub fn seal(
        &self,
        head: &Place<'_>,
        contents: &Contents,
    ) -> Result<String, ring::error::Unspecified> {
        let place = head.bytes();
        let mut bytes = contents.bytes();
        // Made of all that is sealed: no two different texts are ever sealed under the same nonce, and it
        // takes no randomness.
        let mut context = hmac::Context::with_key(&self.nonce);
        context.update(&place);
        context.update(&bytes);
        let mut nonce = [0; aead::NONCE_LEN];
        for (slot, byte) in nonce.iter_mut().zip(context.sign().as_ref()) {
            *slot = *byte;
        }
        let unique = aead::Nonce::assume_unique_for_key(nonce);
        self.seal
            .seal_in_place_append_tag(unique, aead::Aad::from(place), &mut bytes)?;
        Ok(format!(
            "{}:{}",
            self.id,
            STANDARD.encode([nonce.as_slice(), &bytes].concat())
        ))
    }

    fn tag(&self, row: &Row<'_>) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.row);
        row.each(|field| {
            let (length, bytes) = field.parts();
            context.update(&length.to_be_bytes());
            context.update(bytes.as_slice());
        });
        context.sign()
    }

    fn term(&self, tag: &hmac::Tag) -> Term {
        let number = hmac::sign(&self.set, tag.as_ref());
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(number.as_ref().chunks_exact(8)) {
            *limb = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        Term(limbs)
    }
}

/// Whether two MACs are the same, in a time that does not say where they differ.
fn is_same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len()
        && one
            .iter()
            .zip(two)
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

/// All columns of a row but its MAC.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    /// A thing of the directory.
    Resource(Resource<'a>),
    /// A revocation.
    Revocation(Revocation<'a>),
    /// A change of the feed, with its digest.
    Change(&'a Fields<'a>, &'a str),
    /// An entry of a directory that is a file.
    DirectoryEntry(DirectoryEntry<'a>),
}

/// The columns of an entry of a directory that is a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryEntry<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub identity: &'a str,
    pub version: i64,
}

/// The columns of a thing of the directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub account: &'a str,
    pub folded: &'a str,
    pub unique_id: Option<&'a str>,
    pub version: i64,
    pub body: &'a str,
}

/// The columns of a revocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Revocation<'a> {
    pub selector: &'a str,
    pub account: &'a str,
    pub value: &'a str,
    pub before_sequence: i64,
    pub before_seconds: i64,
    pub expires_at: i64,
}

/// The columns of a change of the feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub sequence: i64,
    pub changed_at: i64,
    pub actor: &'a str,
    pub action: &'a str,
    pub kind: &'a str,
    pub id: &'a str,
    pub detail: &'a str,
}

#[derive(Clone, Copy)]
enum Field<'a> {
    Text(&'a str),
    Number(i64),
    Nothing,
}

/// A field's bytes: text as it is, or a number.
enum Bytes<'a> {
    Text(&'a [u8]),
    Number([u8; 8]),
}

impl Bytes<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Text(bytes) => bytes,
            Self::Number(bytes) => bytes,
        }
    }
}

impl<'a> Field<'a> {
    /// Its length, which no other field of the same bytes has, and its bytes.
    fn parts(self) -> (u64, Bytes<'a>) {
        match self {
            Self::Text(text) => (text.len() as u64, Bytes::Text(text.as_bytes())),
            Self::Number(number) => (u64::MAX - 1, Bytes::Number(number.to_be_bytes())),
            Self::Nothing => (u64::MAX, Bytes::Text(&[])),
        }
    }
}

impl Row<'_> {
    /// What people call it.
    pub fn name(&self) -> String {
        match self {
            Self::Resource(row) => format!("{} {}", super::clip(row.kind), super::clip(row.id)),
            Self::Revocation(row) => row.name(),
            Self::Change(fields, _) => format!("change {} of the feed", fields.sequence),
            Self::DirectoryEntry(row) => {
                let (kind, id) = (super::clip(row.kind), super::clip(row.id));
                format!("directory entry {kind} {id}")
            }
        }
    }

    fn each(&self, mut put: impl FnMut(Field<'_>)) {
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
    /// What people call it.
    pub fn name(&self) -> String {
        format!(
            "the revocation of {} {}",
            super::clip(self.selector),
            super::clip(self.value)
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

    /// The digest of this change and of all before it, whose digest is `before`: SHA-256, in
    /// hexadecimal digits.
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

/// The digest before the first change of a store.
pub(super) fn beginning(store_id: &str) -> String {
    let text = format!("brevet feed v1\n{store_id}");
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// What a row adds to the sum of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term([u64; 4]);

/// The sum over the rows of a set, modulo 2^256, and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    limbs: [u64; 4],
    /// How many rows.
    pub count: u64,
}

impl Sum {
    pub fn add(&mut self, term: Term) {
        let mut carry = false;
        // The last limb is the lowest.
        for (limb, other) in self.limbs.iter_mut().zip(term.0).rev() {
            let (sum, first) = limb.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
        self.count = self.count.wrapping_add(1);
    }

    pub fn take(&mut self, term: Term) {
        let mut borrow = false;
        for (limb, other) in self.limbs.iter_mut().zip(term.0).rev() {
            let (rest, first) = limb.overflowing_sub(other);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, first || second);
        }
        self.count = self.count.wrapping_sub(1);
    }
}

/// A set of rows that has a sum of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// The things of a kind.
    Of(Kind),
    /// All revocations.
    Revocations,
    /// The entries of a directory that is a file.
    DirectoryEntries,
}

impl Set {
    fn index(self) -> usize {
        match self {
            Self::Of(kind) => Kind::ALL.iter().position(|k| *k == kind).unwrap_or(SETS),
            Self::Revocations => Kind::ALL.len(),
            Self::DirectoryEntries => Kind::ALL.len() + 1,
        }
    }
}

/// What the store's own row says of all other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    sums: [Sum; SETS],
    /// The first change that the feed still holds; the next one, if it holds none.
    pub kept_from: i64,
}

impl Contents {
    /// Of a store without rows whose next change is this one.
    pub fn empty(next: i64) -> Self {
        Self {
            sums: [Sum::default(); SETS],
            kept_from: next,
        }
    }

    pub fn sum(&self, set: Set) -> Sum {
        self.sums.get(set.index()).copied().unwrap_or_default()
    }

    pub fn add(&mut self, set: Set, term: Term) {
        if let Some(sum) = self.sums.get_mut(set.index()) {
            sum.add(term);
        }
    }

    pub fn take(&mut self, set: Set, term: Term) {
        if let Some(sum) = self.sums.get_mut(set.index()) {
            sum.take(term);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CONTENTS + 16);
        bytes.push(FORM);
        bytes.extend_from_slice(&self.kept_from.to_be_bytes());
        for sum in &self.sums {
            for number in sum.limbs.iter().chain([&sum.count]) {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (form, numbers) = bytes.split_first()?;
        if *form != FORM || bytes.len() != CONTENTS {
            return None;
        }
        let mut numbers = numbers
            .chunks_exact(8)
            .filter_map(|b| b.try_into().ok())
            .map(u64::from_be_bytes);
        let mut next = || numbers.next();
        let mut contents = Self::empty(i64::from_be_bytes(next()?.to_be_bytes()));
        for sum in &mut contents.sums {
            *sum = Sum {
                limbs: [next()?, next()?, next()?, next()?],
                count: next()?,
            };
        }
        Some(contents)
    }
}

/// What the store's own row says in clear: the seal binds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub store_id: &'a str,
    pub sequence: i64,
    pub not_before: i64,
    pub chain: &'a str,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    const RESOURCE: Resource<'_> = Resource {
        kind: "role",
        id: "arn:aws:iam::111122223333:role/R",
        account: "111122223333",
        folded: "111122223333/r",
        unique_id: Some("AROA1"),
        version: 7,
        body: "{}",
    };

    fn keys() -> Keys {
        Keys::derive(
            Some(&MasterKey::ephemeral(&SystemEntropy::new()).unwrap()),
            "store",
        )
        .unwrap()
    }

    #[test]
    fn a_mac_belongs_to_every_column_of_one_row_of_one_store() {
        let master_key = MasterKey::ephemeral(&SystemEntropy::new()).unwrap();
        let keys = Keys::derive(Some(&master_key), "store").unwrap();
        let (mac, term) = keys.first().unwrap().mac(&Row::Resource(RESOURCE));
        assert_eq!(keys.check(&Row::Resource(RESOURCE), &mac), Ok(term));
        for other in [
            Resource {
                kind: "user",
                ..RESOURCE
            },
            Resource {
                id: "arn:aws:iam::111122223333:role/S",
                ..RESOURCE
            },
            Resource {
                account: "444455556666",
                ..RESOURCE
            },
            Resource {
                folded: "111122223333/s",
                ..RESOURCE
            },
            Resource {
                unique_id: Some("AROA2"),
                ..RESOURCE
            },
            Resource {
                unique_id: Some(""),
                ..RESOURCE
            },
            Resource {
                unique_id: None,
                ..RESOURCE
            },
            Resource {
                version: 8,
                ..RESOURCE
            },
            Resource {
                body: "{ }",
                ..RESOURCE
            },
            // The same bytes, cut elsewhere.
            Resource {
                kind: "rolea",
                id: "rn:aws:iam::111122223333:role/R",
                ..RESOURCE
            },
        ] {
            assert_eq!(
                keys.check(&Row::Resource(other), &mac),
                Err(Wrong::Mac),
                "{other:?}"
            );
        }
        let another = Keys::derive(Some(&master_key), "another store").unwrap();
        assert_eq!(
            another.check(&Row::Resource(RESOURCE), &mac),
            Err(Wrong::Mac)
        );
        let id = keys.first().unwrap().id().to_owned();
        let foreign = super::tests::keys().check(&Row::Resource(RESOURCE), &mac);
        assert_eq!(foreign, Err(Wrong::Key(id)));
        for none in ["", ":", "x", &mac[..mac.len() - 4], &mac.replace(':', "")] {
            assert!(
                keys.check(&Row::Resource(RESOURCE), none).is_err(),
                "{none}"
            );
        }
    }

    #[test]
    fn a_sum_knows_what_it_holds_in_whatever_order() {
        let keys = keys();
        let key = keys.first().unwrap();
        let term = |version| {
            key.mac(&Row::Resource(Resource {
                version,
                ..RESOURCE
            }))
            .1
        };
        let (mut one, mut two) = (Sum::default(), Sum::default());
        (1..50).for_each(|n| one.add(term(n)));
        (1..50).rev().for_each(|n| two.add(term(n)));
        assert_eq!(one, two);
        one.take(term(7));
        assert_ne!(one, two);
        let mut doubled = one;
        doubled.add(term(8));
        assert_ne!(doubled, two, "as many rows, one of them twice");
        one.add(term(7));
        assert_eq!(one, two);
        // Carries and borrows go through all limbs.
        let (mut sum, ones) = (Sum::default(), Term([u64::MAX; 4]));
        sum.add(ones);
        sum.add(Term([0, 0, 0, 1]));
        assert_eq!(sum.limbs, [0; 4]);
        sum.take(Term([0, 0, 0, 1]));
        assert_eq!(sum.limbs, [u64::MAX; 4]);
    }

    #[test]
    fn a_seal_opens_for_its_own_row_alone() {
        let keys = keys();
        let key = keys.first().unwrap();
        let mut contents = Contents::empty(5);
        contents.add(Set::Revocations, key.mac(&Row::Resource(RESOURCE)).1);
        let place = Place {
            store_id: "store",
            sequence: 4,
            not_before: 9,
            chain: "aa",
        };
        let seal = key.seal(&place, &contents).unwrap();
        assert_eq!(keys.open(&place, &seal).unwrap().0, contents);
        for other in [
            Place {
                store_id: "other",
                ..place
            },
            Place {
                sequence: 5,
                ..place
            },
            Place {
                not_before: 0,
                ..place
            },
            Place {
                chain: "ab",
                ..place
            },
        ] {
            assert!(matches!(keys.open(&other, &seal), Err(Wrong::Mac)));
        }
        assert!(matches!(
            super::tests::keys().open(&place, &seal),
            Err(Wrong::Key(_))
        ));
        assert!(matches!(keys.open(&place, ""), Err(Wrong::Mac)));
        let same = key.seal(&place, &contents).unwrap();
        assert_eq!(same, seal);
        contents.take(Set::Revocations, key.mac(&Row::Resource(RESOURCE)).1);
        assert_ne!(
            key.seal(&place, &contents).unwrap()[..25],
            seal[..25],
            "another text has another nonce"
        );
    }

    #[test]
    fn without_a_master_key_accidents_are_noticed() {
        let keys = Keys::derive(None, "store").unwrap();
        let (mac, _) = keys.first().unwrap().mac(&Row::Resource(RESOURCE));
        assert!(mac.starts_with(PUBLIC) && keys.check(&Row::Resource(RESOURCE), &mac).is_ok());
        assert!(
            super::tests::keys()
                .check(&Row::Resource(RESOURCE), &mac)
                .is_err(),
            "and no broker with one takes it"
        );
    }

    #[test]
    fn a_chain_covers_each_field_and_all_that_came_before() {
        let change = Fields {
            sequence: 1,
            changed_at: 2,
            actor: "{}",
            action: "CreateRole",
            kind: "role",
            id: "arn",
            detail: "{}",
        };
        let chain = change.chained(&beginning("store"));
        assert_eq!(chain.len(), 64);
        for other in [
            Fields {
                sequence: 2,
                ..change
            },
            Fields {
                changed_at: 3,
                ..change
            },
            Fields {
                actor: "{ }",
                ..change
            },
            Fields {
                action: "CreateRol",
                kind: "erole",
                ..change
            },
            Fields {
                id: "arm",
                ..change
            },
            Fields {
                detail: "",
                ..change
            },
        ] {
            assert_ne!(other.chained(&beginning("store")), chain, "{other:?}");
        }
        assert_ne!(change.chained(&beginning("other")), chain);
    }
}
