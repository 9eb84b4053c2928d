//! What an idle connection weighs: the resident memory of a broker with many connections, less that without them,
//! for each of them.

use std::time::Duration;

use crate::brokers::{Broker, Call, Session, Settings};
use crate::load::{Request, Spread, open, resident};
use crate::{Options, print_conditions};

/// How long a broker is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures connections of each kind, with a new broker for each round.
pub fn measure(options: &Options, connections: usize) {
    brevet::process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    print_conditions(options, &format!("{connections} idle connections"));
    println!("| {:<40} | {:<24} |", "", "KiB each");
    println!("| {:-<40} | {:-<24} |", "", "");
    for (name, call, calls) in [
        ("HTTP/2, one call", Call::GetCallerIdentity, 1),
        ("HTTP/2, 10 calls", Call::GetCallerIdentity, 10),
        ("HTTP/1.1, no call", Call::QueryGetCallerIdentity, 0),
        ("HTTP/1.1, one call", Call::QueryGetCallerIdentity, 1),
    ] {
        let weights = (0..options.rounds).map(|_| {
            let settings = Settings {
                program: options.beside.as_deref(),
                ..Settings::default()
            };
            let broker = Broker::start(&settings, "0");
            let role = broker.session(Session::Role);
            let request = call.request(&role, broker.address);
            runtime.block_on(weigh(&broker, &request, connections, calls))
        });
        let spread = Spread::of(weights.collect::<Vec<_>>()).unwrap();
        println!("| {name:<40} | {:<24} |", spread.text(1));
    }
}

async fn weigh(broker: &Broker, request: &Request, connections: usize, calls: usize) -> f64 {
    // What the first calls allocate stays, and is nobody's.
    for _ in 0..20 {
        open(broker.address, request, 1).await;
    }
    tokio::time::sleep(SETTLE).await;
    let before = resident(broker.pid());
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(open(broker.address, request, calls).await);
    }
    tokio::time::sleep(SETTLE).await;
    let weight = resident(broker.pid()).saturating_sub(before);
    for stream in held {
        let read = stream.try_read(&mut [0]).map_err(|error| error.kind());
        assert_ne!(read, Ok(0), "the broker closed a connection");
    }
    weight as f64 / 1_024.0 / connections as f64
}
