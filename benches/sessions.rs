//! Measures the memory of a million live sessions. Run with `cargo bench --bench sessions`.

use brevet::base::clock::Timestamp;
use brevet::base::entropy::{self, SystemEntropy};
use brevet::session::keyring::Keyring;
use brevet::sessions::{Bounds, SessionRecord, Sessions};

const SESSIONS: usize = 1_000_000;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let entropy = SystemEntropy::new();
    let now = Timestamp::from_seconds(1_800_000_000);
    let keyring = Keyring::generate(&entropy, now).unwrap();
    let sessions = Sessions::in_memory(
        Bounds {
            max_records: SESSIONS,
            max_bytes: usize::MAX,
        },
        Default::default(),
    );
    let before = resident();
    let started = std::time::Instant::now();
    runtime.block_on(async {
        for n in 0..SESSIONS {
            let record = SessionRecord {
                session_id: entropy::bytes::<16>(&entropy).unwrap().to_vec(),
                access_key_id: "ASIABENCHBENCHBENCH1".into(),
                principal_arn: "arn:aws:iam::111122223333:role/team/service/Deploy".into(),
                principal_id: "AROABENCHBENCHBENCH1".into(),
                session_name: format!("workload-{n:08}"),
                issued_at: now.seconds(),
                expires_at: now.seconds() + 3_600 + i64::try_from(n % 3_600).unwrap(),
                ancestors: vec![brevet::session::token::Ancestor {
                    arn: "arn:aws:iam::111122223333:user/team/alice".into(),
                    unique_id: "AIDABENCHBENCHBENCH1".into(),
                    access_key_id: "AKIABENCHBENCHBENCH1".into(),
                    ..Default::default()
                }],
                issued_under: 7,
                ..SessionRecord::default()
            };
            sessions.record(&keyring, &record, now).await;
        }
    });
    let spent = started.elapsed();
    println!(
        "{SESSIONS} sessions: {} MiB, {:.2} us each to record",
        (resident() - before) >> 20,
        spent.as_secs_f64() * 1e6 / SESSIONS as f64
    );
}

/// The resident memory of this process in bytes: proc(5), `statm`, second field, in pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}
