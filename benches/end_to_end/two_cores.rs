//! A broker with two workers on two cores beside a broker with one worker: a request must not cost more because
//! there is a second worker.
//!
//! With two workers, the load shares their cores. The broker with one worker is therefore measured twice: alone
//! on its core, and with the load on the same two cores.

use crate::brokers::{Broker, Call, Session, Settings};
use crate::load::Shape;
use crate::table::{Beside, comparisons, results};
use crate::{Options, Server, Variant, in_rounds, print_conditions};

/// So many connections that the two workers get about as many each.
const CONNECTIONS: usize = 32;

/// Starts the brokers, measures them and prints the tables.
pub fn measure(options: &Options) {
    let alone = Broker::start(&Settings::default(), "0");
    let one = Broker::start(&Settings::default(), "0");
    one.move_to("0,1");
    let two = Broker::start(&Settings::default(), "0,1");
    let shape = |cores| Shape {
        in_flight: options.in_flight.max(CONNECTIONS),
        connections: CONNECTIONS,
        cores,
        ..options.shape()
    };
    let places: [(&Broker, &'static [u32], &str); 3] = [
        (&alone, &[1], "one worker, load on the other core"),
        (&one, &[0, 1], "one worker, load on both cores"),
        (&two, &[0, 1], "two workers, load on both cores"),
    ];
    let keys = places.map(|(broker, ..)| {
        let role = broker.session(Session::Role);
        (broker.administrator(), role)
    });
    let mut variants = Vec::new();
    for ((broker, cores, place), (administrator, role)) in places.iter().zip(&keys) {
        for (call, name, letters, keys) in [
            (
                Call::GetCallerIdentity,
                "GetCallerIdentity",
                ["a", "b"],
                role,
            ),
            (
                Call::AssumeRole,
                "AssumeRole, audit on stable storage",
                ["c", "d"],
                administrator,
            ),
        ] {
            let (letter, beside) = match place.starts_with("two") {
                true => ("", letters.to_vec()),
                false => (letters[usize::from(cores.len() > 1)], Vec::new()),
            };
            let goal = |floor| Beside {
                floor,
                cpu: Some(1.05),
                rate: None,
            };
            variants.push(Variant {
                letter,
                name: format!("{name}: {place}"),
                beside: beside.into_iter().map(goal).collect(),
                server: Server {
                    address: broker.address,
                    pid: broker.pid(),
                },
                shape: shape(*cores),
                call,
                keys,
            });
        }
    }
    let rows = in_rounds(&variants, options);
    print_conditions(
        options,
        &format!(
            "{} calls in flight on {CONNECTIONS} connections",
            options.in_flight.max(CONNECTIONS)
        ),
    );
    println!("{}", results(&rows));
    println!("{}", comparisons(&rows));
}
