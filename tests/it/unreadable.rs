//! Rows that cannot be read, and triggers and the like in the database: each is reported, none hides
//! what follows it, and an operator can accept the store.

use brevet::base::entropy::SystemEntropy;
use brevet::store::{Access, Place, Store};

use crate::harness::*;
use crate::integrity::{World, arn, sql};

/// What is done to the store, and what must be named.
fn unreadable() -> Vec<(String, &'static str)> {
    let user = format!("kind = 'user' AND id = '{}'", arn("user", "U1"));
    vec![
        (
            format!("UPDATE resources SET body = CAST(x'7bff7d' AS TEXT) WHERE {user}"),
            "user/U1 differs from what a broker wrote (the column body is not UTF-8)",
        ),
        (
            format!("UPDATE resources SET version = 5.5 WHERE {user}"),
            "user/U1 differs from what a broker wrote (the column version is not an integer)",
        ),
        (
            format!("UPDATE resources SET body = CAST(body AS BLOB) WHERE {user}"),
            "user/U1 differs from what a broker wrote (columns of another type: body)",
        ),
        (
            format!("UPDATE resources SET body = body || hex(zeroblob(20000000)) WHERE {user}"),
            "user/U1 differs from what a broker wrote (the column body has 4",
        ),
        (
            "UPDATE revocations SET value = CAST(value AS BLOB) WHERE selector = 'role'".to_owned(),
            "the revocation of role arn:aws:iam::111122223333:role/R1 differs from what a broker wrote (columns of another type: value)",
        ),
        (
            "UPDATE changes SET detail = CAST(x'ff' AS TEXT) WHERE sequence = 5".to_owned(),
            "change 5 of the feed differs from what a broker wrote (the column detail is not UTF-8)",
        ),
        (
            "UPDATE directory_entries SET identity = CAST(x'ff' AS TEXT) WHERE id LIKE '%F1'".to_owned(),
            "user/F1 differs from what a broker wrote (the column identity is not UTF-8)",
        ),
        (
            "INSERT INTO resources (kind, id, account, folded, version, body, mac) VALUES ('x', 'y', '', 'y', 1, '{}', '')"
                .to_owned(),
            "x y differs from what a broker wrote",
        ),
        (
            "INSERT INTO revocations (selector, account, value, before_sequence, before_seconds, expires_at, mac) \
             VALUES ('', '', '', 1, 1, 1, '')"
                .to_owned(),
            "the revocation of differs from what a broker wrote",
        ),
        (
            "INSERT INTO revocations (selector, account, value, before_sequence, before_seconds, expires_at, mac) \
             VALUES ('zz', '', '', 1, 1, 9999999999, '')"
                .to_owned(),
            "the revocation of zz differs from what a broker wrote",
        ),
        (
            "INSERT INTO changes (sequence, changed_at, actor, action, kind, id, detail, chain, mac) VALUES \
             (-9223372036854775808, 0, '', '', '', '', '', '', '')"
                .to_owned(),
            "change -9223372036854775808 of the feed differs from what a broker wrote",
        ),
        (
            "INSERT INTO changes (sequence, changed_at, actor, action, kind, id, detail, chain, mac) VALUES \
             (9007199254740991, 0, '{}', '', '', '', '{}', '', '')"
                .to_owned(),
            "change 9007199254740991 of the feed differs from what a broker wrote",
        ),
        (
            "CREATE TRIGGER idle BEFORE DELETE ON resources BEGIN SELECT RAISE(IGNORE); END".to_owned(),
            "the trigger idle on the table resources exists, although brokers never create it",
        ),
    ]
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_and_an_operator_gets_past_it() {
    let world = World::new().await;
    for (n, (statement, named)) in unreadable().into_iter().enumerate() {
        let place = world.changed(n, &statement).await;
        let entropy = SystemEntropy::new();
        let key = Some(&world.master_key);
        let store = Store::open(&place, Access::Serve, key, now(), &entropy)
            .await
            .unwrap();
        let findings = store.findings(now()).await.unwrap().join("\n");
        assert!(findings.contains(named), "{statement}: {findings}");
        assert!(store.verify(now()).await.is_err(), "{statement}");
        assert!(
            store.suspicion().is_some(),
            "{statement}: nobody is accepted"
        );
        // What an operator is shown changes nothing.
        let shown = store.show(now()).await.unwrap();
        assert_eq!(
            store.findings(now()).await.unwrap().join("\n"),
            findings,
            "{statement}"
        );
        let head = store
            .accept(&shown, world.head, now())
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(head.sequence, world.head + 1, "{statement}");
        store.verify(now()).await.unwrap();
        store.close().await;
        let started = world.start(&place).await;
        assert_eq!(started, (Ok(()), Ok(())), "{statement}");
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_put_back_and_what_is_no_value_is_taken_out() {
    let world = World::new().await;
    let (one, two) = (arn("user", "U1"), arn("user", "U2"));
    let place = world
        .changed(
            1,
            &format!(
                "UPDATE resources SET body = CAST(body AS BLOB) WHERE id = '{one}'; \
                 UPDATE resources SET body = CAST(x'ff' AS TEXT) WHERE id = '{two}'"
            ),
        )
        .await;
    let entropy = SystemEntropy::new();
    let key = Some(&world.master_key);
    let store = Store::open(&place, Access::Serve, key, now(), &entropy)
        .await
        .unwrap();
    let shown = store.show(now()).await.unwrap();
    let mended = shown.mended.join("\n");
    for named in [
        format!("user {one} is repaired"),
        format!("user {two} is deleted: the column body is not UTF-8"),
    ] {
        assert!(mended.contains(&named), "{mended}");
    }
    // What is accepted is what was shown.
    let Place::Sqlite(path) = &place else {
        unreachable!()
    };
    let role = arn("role", "R1");
    let more = format!("UPDATE resources SET body = CAST(x'ff' AS TEXT) WHERE id = '{role}'");
    sql(path, &more).await;
    let refused = store.accept(&shown, 0, now()).await.unwrap_err();
    assert!(
        refused.to_string().contains("nothing was accepted"),
        "{refused}"
    );
    let shown = store.show(now()).await.unwrap();
    store.accept(&shown, 0, now()).await.unwrap();
    let mut there = Vec::new();
    store
        .scan::<brevet::store::StoreError>(|_, id, _, _| {
            there.push(id.to_owned());
            Ok(())
        })
        .await
        .unwrap();
    assert!(there.contains(&one), "{there:?}");
    assert!(!there.contains(&two) && !there.contains(&role), "{there:?}");
    store.close().await;
}

#[tokio::test]
async fn where_a_table_is_missing_a_backup_is_named_as_the_way_out() {
    let world = World::new().await;
    for (n, (statement, named)) in [
        ("DROP TABLE changes", "the table changes is missing"),
        (
            "ALTER TABLE resources DROP COLUMN mac",
            "the column mac of the table resources is missing",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let place = world.changed(n, statement).await;
        let refused = world
            .open(&place, Access::Serve)
            .await
            .map(drop)
            .unwrap_err();
        let entropy = SystemEntropy::new();
        let key = Some(&world.master_key);
        let store = Store::open(&place, Access::Serve, key, now(), &entropy)
            .await
            .unwrap();
        let accepted = store.show(now()).await.map(drop).unwrap_err().to_string();
        for refused in [refused, accepted] {
            assert!(
                refused.contains(named) && refused.contains("restore a backup"),
                "{refused}"
            );
        }
        assert!(store.verify(now()).await.is_err() && store.suspicion().is_some());
        store.close().await;
    }
}

#[tokio::test]
async fn another_migration_than_this_programs_is_named() {
    let world = World::new().await;
    let place = world
        .changed(
            1,
            "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 3",
        )
        .await;
    let store = world.open(&place, Access::Use).await.unwrap();
    let refused = store.verify(now()).await.unwrap_err().to_string();
    assert!(refused.contains("migration 3 (nodes)"), "{refused}");
    store.close().await;
}

/// One row that holds the text of two is counted.
#[tokio::test]
async fn two_rows_in_one_are_noticed() {
    let world = World::new().await;
    let (one, two) = (arn("user", "U1"), arn("user", "U2"));
    let joined = format!(
        "UPDATE resources SET kind = (SELECT kind || char(31) || id || char(31) || account || char(31) || folded || \
         char(31) || CASE WHEN unique_id IS NULL THEN '' ELSE '=' || unique_id END || char(31) || version || char(31) || \
         mac || char(31) || body || char(30) FROM resources WHERE id = '{one}') || kind WHERE id = '{two}'; \
         DELETE FROM resources WHERE id = '{one}'"
    );
    let place = world.changed(1, &joined).await;
    let (loaded, verified) = world.start(&place).await;
    assert!(
        loaded.is_err() && verified.is_err(),
        "{loaded:?} {verified:?}"
    );
}

/// A change that the database keeps back is missed by whoever reads the feed.
#[tokio::test]
async fn the_feed_is_read_without_a_gap() {
    let world = World::new().await;
    let whole = world.changed(1, "").await;
    let store = world.open(&whole, Access::Use).await.unwrap();
    let mut feed = store.feed().await.unwrap();
    let changes = feed.next().await.unwrap();
    assert_eq!(changes.last().unwrap().sequence, world.head);
    assert!(feed.next().await.unwrap().is_empty());
    store.close().await;
    for (n, missing) in [
        "sequence = 5".to_owned(),
        "sequence = 1".to_owned(),
        format!("sequence = {}", world.head),
        "sequence > 0".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let statement = format!("DELETE FROM changes WHERE {missing}");
        let place = world.changed(2 + n, &statement).await;
        let refused = match world.open(&place, Access::Use).await {
            // Whoever has seen an earlier change misses it at once.
            Err(refused) => refused,
            Ok(store) => {
                let mut feed = store.feed().await.unwrap();
                let refused = loop {
                    match feed.next().await {
                        Ok(changes) => assert!(!changes.is_empty(), "{missing}: nothing is missed"),
                        Err(error) => break error.to_string(),
                    }
                };
                store.close().await;
                refused
            }
        };
        assert!(refused.contains("missing"), "{missing}: {refused}");
    }
}

/// The file of a store is exchanged while it is open: commands beside a broker would speak to another one.
#[tokio::test]
async fn another_file_under_the_stores_name_is_noticed() {
    let world = World::new().await;
    let place = world.changed(1, "").await;
    let store = world.open(&place, Access::Serve).await.unwrap();
    store.feed_head().await.unwrap();
    let Place::Sqlite(path) = &place else {
        unreachable!()
    };
    let copy = world.path("copy.db");
    std::fs::copy(path, &copy).unwrap();
    std::fs::rename(&copy, path).unwrap();
    for refused in [store.feed_head().await.map(drop), store.verify(now()).await] {
        let refused = refused.unwrap_err();
        assert!(refused.is_tampering(), "{refused}");
        assert!(
            refused.to_string().contains("was replaced or removed"),
            "{refused}"
        );
    }
    store.close().await;
}

/// A restore by a clock that is ahead ends what is issued until then; accepting the clock ends that.
#[tokio::test]
async fn op_05_an_accepted_clock_replaces_the_time_of_a_restore() {
    let world = World::new().await;
    let place = world.changed(1, "").await;
    let store = world.open(&place, Access::Serve).await.unwrap();
    let ahead = now().plus(std::time::Duration::from_secs(10 * 24 * 3_600));
    let shown = store.show(ahead).await.unwrap();
    let head = store.accept(&shown, world.head, ahead).await.unwrap();
    let everything =
        brevet::revocations::RevocationKey::new(brevet::revocations::Selector::Everything, "", "");
    let is_ended = async |under: i64| {
        let revocations = brevet::revocations::Revocations::default();
        store.load_revocations(&revocations, now()).await.unwrap();
        revocations.is_revoked(&[everything], under, now().seconds())
    };
    assert!(
        is_ended(head.sequence).await,
        "until the wrong time has come"
    );
    let actor = brevet::commands::Actor::operator("test");
    let accepted = brevet::commands::accept_clock(
        &store,
        &actor,
        "host".to_owned(),
        ahead,
        brevet::mfa::LOCKOUT,
        now(),
    )
    .await
    .unwrap();
    assert!(is_ended(accepted - 1).await);
    assert!(!is_ended(accepted).await, "sessions of now go on");
    store.verify(now()).await.unwrap();
    store.close().await;
}
