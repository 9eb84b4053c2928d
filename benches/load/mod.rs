//! Sends one request again and again to a server in a process of its own, and measures the requests that it
//! answers and the CPU time of its process.
//!
//! The bytes of the request are made once, so that the generator does little beside writing and reading them, and
//! every server gets the same bytes.

// Each benchmark uses only a part of this module.
#![allow(dead_code)]

mod http1;
mod http2;
mod spread;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brevet::base::clock::{Clock, SystemClock, Timestamp};
use brevet::base::digest::sha256;
use brevet::proof::sigv4::Signer;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use spread::Spread;

/// Settings to append to a configuration: calls are counted, but no budget is ever used up.
pub const WIDE_BUDGETS: &str = r#"
[budgets]
principal = { calls_per_second = 4000000000, reads_per_second = 4000000000, object_requests_per_second = 4000000000 }
account = { calls_per_second = 4000000000 }
"#;

/// The broker of this build.
pub fn this_build() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_brevet"))
}

/// Makes the home of a broker, which is this program, in a folder, with free ports; returns the key of its
/// administrator.
pub fn init(brevet: &Path, home: &Path) -> (String, String) {
    let made = Command::new(brevet)
        .arg("init")
        .arg(home)
        .args(["--account", "111122223333"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let value = |name: &str| {
        text.split_whitespace()
            .find_map(|w| w.strip_prefix(name))
            .unwrap()
            .to_owned()
    };
    let config = home.join("brevet.toml");
    let toml = std::fs::read_to_string(&config)
        .unwrap()
        .replace("127.0.0.1:7480", "127.0.0.1:0")
        .replace("127.0.0.1:7481", "127.0.0.1:0");
    std::fs::write(&config, toml).unwrap();
    (value("AWS_ACCESS_KEY_ID="), value("AWS_SECRET_ACCESS_KEY="))
}

/// An access key: its id, its secret, and the session token if it has one.
#[derive(Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Keys {
    pub fn long_term((id, secret): &(String, String)) -> Self {
        Self {
            id: id.clone(),
            secret: secret.clone(),
            token: None,
        }
    }

    fn sign(
        &self,
        path: &str,
        address: SocketAddr,
        headers: &mut HeaderMap,
        payload: &[u8],
        now: Timestamp,
    ) {
        let signer = Signer {
            access_key_id: &self.id,
            secret_access_key: self.secret.as_bytes(),
            session_token: self.token.as_deref(),
            region: "us-east-1",
            service: "sts",
        };
        let host = address.to_string();
        signer
            .sign("POST", path, &host, headers, &sha256(payload), now)
            .unwrap();
    }
}

/// Signed requests in the bytes of their protocol.
#[derive(Clone)]
pub enum Request {
    /// They are sent in turn.
    Grpc(Arc<[http2::Recorded]>),
    Http1(Arc<[u8]>),
}

/// A signed call of gRPC. The signature is valid for 15 minutes.
pub fn grpc(method: &str, message: &impl Message, keys: &Keys, address: SocketAddr) -> Request {
    grpc_in_turn(method, std::slice::from_ref(message), keys, address)
}

/// Signed calls of gRPC, which are sent in turn. The signatures are valid for 15 minutes.
pub fn grpc_in_turn(
    method: &str,
    messages: &[impl Message],
    keys: &Keys,
    address: SocketAddr,
) -> Request {
    let path = format!("/{}/{method}", brevet::api::SERVICE);
    // With one date for all, each call's headers can refer to those of any other.
    let now = SystemClock.now();
    let recorded = messages
        .iter()
        .map(|message| record(&path, &message.encode_to_vec(), keys, address, now));
    Request::Grpc(recorded.collect())
}

fn record(
    path: &str,
    message: &[u8],
    keys: &Keys,
    address: SocketAddr,
    now: Timestamp,
) -> http2::Recorded {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    keys.sign(path, address, &mut headers, message, now);
    framed(path, message, headers, address)
}

/// A message in its frame, and its headers.
fn framed(
    path: &str,
    message: &[u8],
    mut headers: HeaderMap,
    address: SocketAddr,
) -> http2::Recorded {
    headers.insert("te", HeaderValue::from_static("trailers"));
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message);
    let uri = format!("http://{address}{path}");
    http2::record(&uri, &headers, &body.freeze())
}

/// A call of gRPC with these headers, which nobody signs.
pub fn grpc_unsigned(
    path: &str,
    message: &impl Message,
    mut headers: HeaderMap,
    address: SocketAddr,
) -> Request {
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let recorded = framed(path, &message.encode_to_vec(), headers, address);
    Request::Grpc(Arc::from([recorded]))
}

/// A GET with these headers over HTTP/1.1, which nobody signs.
pub fn get(target: &str, headers: &HeaderMap, address: SocketAddr) -> Request {
    let bytes = http1::encode(&format!("GET {target}"), address, headers, "");
    Request::Http1(bytes.into())
}

/// A signed POST of JSON over HTTP/1.1. The signature is valid for 15 minutes.
pub fn json(path: &str, body: &str, keys: &Keys, address: SocketAddr) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let now = SystemClock.now();
    keys.sign(path, address, &mut headers, body.as_bytes(), now);
    let bytes = http1::encode(&format!("POST {path}"), address, &headers, body);
    Request::Http1(bytes.into())
}

/// A signed call of the Query API. The signature is valid for 15 minutes.
pub fn query(
    action: &str,
    parameters: &[(&str, &str)],
    keys: &Keys,
    address: SocketAddr,
) -> Request {
    let mut body = format!("Action={action}&Version=2011-06-15");
    for (name, value) in parameters {
        let value =
            percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        body.push_str(&format!("&{name}={value}"));
    }
    let mut headers = HeaderMap::new();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    headers.insert("content-type", form);
    let now = SystemClock.now();
    keys.sign("/", address, &mut headers, body.as_bytes(), now);
    Request::Http1(http1::encode("POST /", address, &headers, &body).into())
}

/// How a server is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How long the load lasts before anything is counted.
    pub warm_up: Duration,
    /// For how long answers are counted.
    pub span: Duration,
    /// How many calls wait for their answers at any time.
    pub in_flight: usize,
    /// Over how many connections gRPC calls are spread. HTTP/1.1 has one call at a time on each
    /// connection.
    pub connections: usize,
    /// The cores on which the load is made, with a thread for each; none to have one thread wherever the
    /// process may run.
    pub cores: &'static [u32],
}

impl Shape {
    /// 128 calls in flight on four connections.
    pub fn many(span: Duration) -> Self {
        Self {
            warm_up: Duration::from_secs(1),
            span,
            in_flight: 128,
            connections: 4,
            cores: &[],
        }
    }
}

/// The result of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub per_second: f64,
    /// The server's CPU time for one request, in microseconds.
    pub cpu_micros: f64,
    /// The part of a core that the server used; more than 1 if it used several.
    pub busy: f64,
    /// The time from a request to its answer, in microseconds, if there was only one call in flight: the
    /// median.
    pub latency_micros: Option<f64>,
    /// The bytes of an answer's body.
    pub answer_bytes: f64,
}

/// What the tasks of the generator count.
#[derive(Default)]
struct Counts {
    answers: AtomicU64,
    bytes: AtomicU64,
    /// In microseconds; only if one call is in flight.
    latencies: Mutex<Vec<f64>>,
}

impl Counts {
    fn answered(&self, bytes: usize) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn took(&self, time: Duration) {
        let micros = time.as_secs_f64() * 1e6;
        self.latencies.lock().unwrap().push(micros);
    }

    fn read(&self) -> (u64, u64) {
        (
            self.answers.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// Loads a server with a request and measures it. Panics if an answer is not a success.
pub fn drive(address: SocketAddr, server: u32, request: &Request, shape: Shape) -> Outcome {
    let counts = Arc::new(Counts::default());
    let (stop, stopped) = watch::channel(());
    let threads = shape.cores.len().max(1);
    let generators: Vec<_> = (0..threads)
        .map(|n| {
            let (request, counts, stopped) = (request.clone(), counts.clone(), stopped.clone());
            std::thread::spawn(move || {
                if let Some(core) = shape.cores.get(n) {
                    pin_this_thread(*core);
                }
                generate(address, request, shape, (n, threads), counts, stopped)
            })
        })
        .collect();
    drop(stopped);
    std::thread::sleep(shape.warm_up);
    counts.latencies.lock().unwrap().clear();
    let (before, cpu, started) = (counts.read(), cpu_seconds(server), Instant::now());
    std::thread::sleep(shape.span);
    let (after, cpu) = (counts.read(), cpu_seconds(server) - cpu);
    let wall = started.elapsed().as_secs_f64();
    drop(stop);
    for generator in generators {
        generator.join().expect("the load failed");
    }
    let count = (after.0 - before.0) as f64;
    assert!(count > 0.0, "there was no answer");
    let mut latencies = std::mem::take(&mut *counts.latencies.lock().unwrap());
    latencies.sort_by(f64::total_cmp);
    Outcome {
        per_second: count / wall,
        cpu_micros: cpu * 1e6 / count,
        busy: cpu / wall,
        latency_micros: latencies.get(latencies.len() / 2).copied(),
        answer_bytes: (after.1 - before.1) as f64 / count,
    }
}

/// Makes the share of one thread of the load until the sender of `stopped` is dropped.
fn generate(
    address: SocketAddr,
    request: Request,
    shape: Shape,
    (thread, threads): (usize, usize),
    counts: Arc<Counts>,
    mut stopped: watch::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let share = |all: usize| all / threads + usize::from(thread < all % threads);
    let is_lone = shape.in_flight == 1;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        match request {
            Request::Grpc(recorded) => {
                let connections = shape.connections.min(shape.in_flight);
                let each = shape.in_flight / connections;
                for n in 0..share(connections) {
                    // Each connection begins elsewhere, so that they do not send the same calls together.
                    let start = (thread + n * threads) * recorded.len() / connections;
                    let (recorded, counts) = (recorded.clone(), counts.clone());
                    tasks.spawn(http2::repeat(
                        address, recorded, start, each, is_lone, counts,
                    ));
                }
            }
            Request::Http1(bytes) => {
                for _ in 0..share(shape.in_flight) {
                    tasks.spawn(http1::repeat(
                        address,
                        bytes.clone(),
                        is_lone,
                        counts.clone(),
                    ));
                }
            }
        }
        tokio::select! {
            _ = stopped.changed() => {}
            Some(ended) = tasks.join_next() => ended.expect("a connection failed"),
        }
    });
}

/// Sends a request once and returns the length of the answer's body.
pub fn answer_bytes(address: SocketAddr, request: &Request, server: u32) -> usize {
    let shape = Shape {
        warm_up: Duration::from_millis(100),
        span: Duration::from_millis(300),
        in_flight: 16,
        connections: 1,
        cores: &[],
    };
    drive(address, server, request, shape).answer_bytes.round() as usize
}

/// Opens a connection, makes so many calls one after the other, and returns the connection.
pub async fn open(address: SocketAddr, request: &Request, calls: usize) -> TcpStream {
    match request {
        Request::Grpc(recorded) => http2::open(address, &recorded[0], calls).await,
        Request::Http1(bytes) => http1::open(address, bytes, calls).await,
    }
}

/// A command that runs a program on these cores only, from its start: a server that counts the cores sees only
/// them. The cores are a list in the form of taskset(1), such as `0` or `0,1`.
pub fn on_cores(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(program);
    command
}

/// Moves a running process with all its threads to these cores.
pub fn pin(pid: u32, cores: &str) {
    let done = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(
        done.is_ok_and(|s| s.success()),
        "taskset from util-linux is required to pin the processes"
    );
}

/// Moves the calling thread to a core.
fn pin_this_thread(core: u32) {
    let this = std::fs::read_link("/proc/thread-self").unwrap();
    let id = this.file_name().unwrap();
    let done = Command::new("taskset")
        .args(["-p", "-c", &core.to_string()])
        .arg(id)
        .stdout(Stdio::null())
        .status();
    assert!(
        done.is_ok_and(|s| s.success()),
        "taskset cannot pin a thread"
    );
}

/// The user and system time of all threads in seconds: proc(5), `stat`, fields 14 and 15, in
/// hundredths of a second.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// The resident memory of a process in bytes: proc(5), `statm`, second field, in pages of 4 KiB.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages = statm.split_whitespace().nth(1).unwrap();
    pages.parse::<u64>().unwrap() * 4_096
}
