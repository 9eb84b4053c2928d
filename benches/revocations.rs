//! Measures the cost of a check with a million revocations in force, and the memory that they use.
//!
//! Run with `cargo bench --bench revocations [-- COUNT]`.

use std::hint::black_box;
use std::time::Instant;

use brevet::revocations::{Mark, RevocationKey, Revocations, Selector};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ACCOUNT: &str = "111122223333";
const CHECKS: usize = 1_000_000;

fn main() {
    let count = std::env::args()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(1_000_000);
    let before = resident();
    let revocations = Revocations::default();
    let mark = Mark {
        before_sequence: 5,
        before_seconds: 0,
        expires_at: i64::MAX,
    };
    for n in 0..count {
        // A realistic mixture: most revocations end one session, some a key or a person.
        let selector = match n % 10 {
            0 => Selector::AccessKey,
            1 => Selector::SourceIdentity,
            _ => Selector::Session,
        };
        revocations.mark(
            &RevocationKey::new(selector, ACCOUNT, &format!("{n:032x}")),
            mark,
        );
    }
    let weight = resident().saturating_sub(before);
    println!(
        "{count} revocations: {} MiB (goal: under 200 MB), {} bytes each",
        weight >> 20,
        weight / count as u64
    );
    for (what, ancestors) in [
        ("a session of a user", 1),
        ("a session at the end of a chain of three", 3),
    ] {
        let sessions: Vec<Vec<RevocationKey>> =
            (0..10_000).map(|n| came_from(n, ancestors)).collect();
        let started = Instant::now();
        for n in 0..CHECKS {
            black_box(revocations.is_revoked(
                black_box(&sessions[n * 7_919 % sessions.len()]),
                9,
                0,
            ));
        }
        let each = started.elapsed().as_nanos() as f64 / CHECKS as f64;
        println!(
            "{what}: {} lookups, {each:.0} ns a check (goal: under 1,000 ns)",
            sessions[0].len()
        );
    }
}

/// The revocation keys of a session and its ancestors.
fn came_from(n: usize, ancestors: usize) -> Vec<RevocationKey> {
    let mut keys = vec![
        RevocationKey::new(Selector::Everything, "", ""),
        RevocationKey::new(Selector::Account, ACCOUNT, ""),
    ];
    keys.push(RevocationKey::new(
        Selector::SourceIdentity,
        ACCOUNT,
        &format!("live-{n}"),
    ));
    for ancestor in 0..=ancestors {
        let id = format!("live-{n}-{ancestor}");
        keys.push(RevocationKey::new(Selector::AccessKey, ACCOUNT, &id));
        keys.push(RevocationKey::new(Selector::Principal, ACCOUNT, &id));
        if ancestor > 0 {
            keys.push(RevocationKey::new(Selector::Role, ACCOUNT, &id));
            keys.push(RevocationKey::new(Selector::Session, ACCOUNT, &id));
        }
    }
    keys
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 4_096
}
