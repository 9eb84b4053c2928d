//! Measures the broker under load beside floors: bare servers of the same protocol that answer as many bytes.
//!
//! All servers run for the whole time, each in a process of its own on core 0, and the load comes from core 1.
//! They are loaded one after the other, in rounds, so that whatever else the machine does falls on all of them.
//! Every server gets the same bytes: signed headers, and a session token where the call has one. The output has
//! medians of the rounds with the least and the greatest value, and for each comparison the median and the range
//! of the ratios within each round.
//!
//! `cargo bench --bench end_to_end -- --help` lists the options. A whole run of ten rounds takes about ten minutes;
//! `--only WORD` measures the rows whose names contain the word, and those to which they are compared.

mod brokers;
mod connections;
mod envoy;
mod floors;
mod handshakes;
#[path = "../load/mod.rs"]
mod load;
mod one_core;
mod table;
mod two_cores;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use load::{Keys, Outcome, Request, Shape, drive, pin};
use table::{Beside, Row};

/// The floors have the broker's allocator, so that it does not affect the ratios.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measure the broker under load, beside bare servers that answer as many bytes
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// How often each row is measured.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many calls are in flight at any time.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Measures only rows whose names contain this text, and those to which they are compared.
    #[arg(long, default_value = "")]
    only: String,
    /// Also measures this executable of a broker, for example of the version before; with `--connections`, only
    /// this one.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Compares a broker with two workers on two cores to one with one worker.
    #[arg(long)]
    two_cores: bool,
    /// Measures TLS handshakes with certificates of P-256 and of RSA-2048.
    #[arg(long)]
    handshakes: bool,
    /// Measures the memory of so many idle connections; at most 2,500, the share of one source.
    #[arg(long)]
    connections: Option<usize>,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(clap::Subcommand)]
enum Role {
    /// Serves a floor, for this benchmark.
    #[command(hide = true)]
    Floor(floors::Floor),
}

fn main() {
    let options = Options::parse();
    if let Some(Role::Floor(floor)) = options.role {
        return floors::serve(floor);
    }
    if let Some(connections) = options.connections {
        pin(std::process::id(), "1");
        connections::measure(&options, connections);
    } else if options.handshakes {
        pin(std::process::id(), "1");
        handshakes::measure(&options);
    } else if options.two_cores {
        two_cores::measure(&options);
    } else {
        pin(std::process::id(), "1");
        one_core::measure(&options);
    }
}

impl Options {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The load with which servers are compared.
    fn shape(&self) -> Shape {
        Shape {
            warm_up: Duration::from_millis(400),
            span: self.span(),
            in_flight: self.in_flight,
            connections: 4,
            cores: &[],
        }
    }
}

/// One row of the table, and how it is measured.
struct Variant<'a> {
    letter: &'static str,
    name: String,
    beside: Vec<Beside>,
    server: Server,
    shape: Shape,
    call: brokers::Call,
    keys: &'a Keys,
}

/// Where a server listens, and its process.
#[derive(Clone, Copy)]
struct Server {
    address: std::net::SocketAddr,
    pid: u32,
}

impl Variant<'_> {
    /// The request for this server, with a new signature.
    fn request(&self) -> Request {
        self.call.request(self.keys, self.server.address)
    }

    fn measure(&self) -> Outcome {
        drive(
            self.server.address,
            self.server.pid,
            &self.request(),
            self.shape,
        )
    }
}

/// Measures all variants in each round, every second round in the other direction.
fn in_rounds(variants: &[Variant<'_>], options: &Options) -> Vec<Row> {
    let is_asked = |variant: &Variant<'_>| variant.name.contains(&options.only);
    let wanted: Vec<&Variant<'_>> = variants
        .iter()
        .filter(|variant| {
            let is_base = variants.iter().any(|other| {
                let mut floors = other.beside.iter();
                is_asked(other) && floors.any(|beside| beside.floor == variant.letter)
            });
            is_asked(variant) || is_base
        })
        .collect();
    let mut rows: Vec<Row> = wanted
        .iter()
        .map(|variant| Row {
            letter: variant.letter,
            name: variant.name.clone(),
            beside: variant.beside.clone(),
            outcomes: Vec::new(),
        })
        .collect();
    let began = Instant::now();
    for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for n in order {
            rows[n].outcomes.push(wanted[n].measure());
        }
        eprintln!(
            "round {} of {}, {:.0} s",
            round + 1,
            options.rounds,
            began.elapsed().as_secs_f64()
        );
    }
    rows
}

/// Prints what all tables need to be understood.
fn print_conditions(options: &Options, what: &str) {
    println!(
        "{} rounds of {} s, {what}: medians (least..most)\n",
        options.rounds, options.seconds
    );
}
