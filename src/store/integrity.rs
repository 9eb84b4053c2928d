//! Shows that the rows of the store are those that a broker wrote: each row has a MAC, all rows have sums, and the feed
//! is a chain of digests. This module handles keys and bytes, but no SQL. The keys are derived from the master key and
//! the store's id.
//!
//! A MAC shows that a broker once wrote the row as it is. Sums over all rows show that no row is missing, occurs twice
//! or has been replaced by an earlier version. For this, a pseudo-random number that the database never sees is derived
//! from each MAC, and these numbers are added modulo 2^256.
//!
//! The sums are encrypted. Otherwise somebody who knew how the sums differ from change to change could search for a set
//! of older rows with the same sum.

mod columns;
mod keys;
mod sums;

pub(super) use columns::{DirectoryEntry, Fields, Place, Resource, Revocation, Row, beginning};
pub(super) use keys::{Key, Keys, Wrong};
pub(super) use sums::{Contents, Set, Term};

#[cfg(test)]
mod tests {
    use super::keys::PUBLIC;
    use super::sums::Sum;
    use super::*;
    use crate::base::entropy::SystemEntropy;
    use crate::master_key::MasterKey;

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
