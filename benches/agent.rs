//! Compares the agent's instance metadata service, when it hands out credentials from memory, with a bare hyper server
//! whose answers have the same size, in one run.
//!
//! Each server runs in a process of its own, pinned to core 0; the load comes from this process, pinned to core 1, by 32
//! connections. Rounds of the two servers alternate, so that whatever else the machine does falls on both. Prints the
//! requests per second of each round, their medians and the ratio; latencies at 5,000 requests a second; how long the
//! first answer takes after a start; and the memory and the size of the program. Run with
//! `cargo bench --bench agent [-- ROUNDS]`. BREVET and BREVET_AGENT name other programs to measure.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CONNECTIONS: usize = 32;
const PATH: &str = "/latest/meta-data/iam/security-credentials/Demo";
const ROUND: Duration = Duration::from_secs(2);
/// The rate at which latencies are measured, and for how long.
const RATE: u32 = 5_000;
const PACED: Duration = Duration::from_secs(5);
const STARTS: usize = 11;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, bytes] = arguments.as_slice()
        && mode == "bare"
    {
        return bare(bytes.parse().unwrap());
    }
    let rounds = arguments
        .iter()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(7);
    pin(std::process::id(), 1);
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());

    let mut starts: Vec<f64> = (0..STARTS)
        .map(|_| Agent::start(&broker, dir.path()).first_answer.as_secs_f64() * 1e3)
        .collect();
    println!(
        "first answer with credentials after the start: {:.0} ms (median of {STARTS})",
        median(&mut starts)
    );

    let agent = Agent::start(&broker, dir.path());
    let (address, request) = (agent.address, agent.request());
    let length = exchange(address, &request).len();
    let answer = exchange(address, &request);
    assert!(
        answer.starts_with(b"HTTP/1.1 200") && answer.windows(15).any(|w| w == b"SecretAccessKey")
    );
    let body = answer.len() - answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() - 4;
    let bare = Bare::start(body);
    assert_eq!(
        exchange(bare.address, &request).len(),
        length,
        "the answers have the same size"
    );
    println!("an answer has {length} bytes, {body} of them are its body");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut of = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (server, (address, pid)) in [
            (bare.address, bare.child.id()),
            (agent.address, agent.child.id()),
        ]
        .into_iter()
        .enumerate()
        {
            let cpu = cpu_seconds(pid);
            let (count, wall) = runtime.block_on(saturate(address, &request, length));
            let cpu = cpu_seconds(pid) - cpu;
            let name = ["bare", "agent"][server];
            println!(
                "round {round}: {name:<5} {:>8.0}/s, {:>5.1} us of CPU each",
                count as f64 / wall,
                cpu * 1e6 / count as f64
            );
            of[server].push((count as f64 / wall, cpu * 1e6 / count as f64));
        }
    }
    let middle = |server: usize, part: fn(&(f64, f64)) -> f64| {
        median(&mut of[server].iter().map(part).collect::<Vec<_>>())
    };
    let (rate, cpu) = (
        |server| middle(server, |r| r.0),
        |server| middle(server, |r| r.1),
    );
    println!(
        "median: bare {:.0}/s, agent {:.0}/s: {:.2} of it; by CPU time {:.2}",
        rate(0),
        rate(1),
        rate(1) / rate(0),
        cpu(0) / cpu(1)
    );

    for (name, address) in [
        ("bare", bare.address),
        ("agent", agent.address),
        ("bare", bare.address),
        ("agent", agent.address),
    ] {
        let mut took = runtime.block_on(paced(address, &request, length));
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        println!(
            "{name:<5} at {RATE}/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
    println!(
        "memory of the agent: {} KiB resident",
        resident_kib(agent.child.id())
    );
    println!(
        "size of {}: {} KiB",
        agent_program().display(),
        std::fs::metadata(agent_program()).unwrap().len() / 1_024
    );
}

/// A server that answers everything with a body of so many bytes, on one thread as the agent.
fn bare(bytes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let body = Bytes::from(vec![b'x'; bytes]);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let body = body.clone();
            tokio::spawn(async move {
                let service = service_fn(move |_| {
                    let mut response = Response::new(Full::new(body.clone()));
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
}

struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    fn start(bytes: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["bare", &bytes.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        pin(child.id(), 0);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().parse().unwrap();
        Self { child, address }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The value of a key in a file that `--world` wrote.
fn value(world: &Path, key: &str) -> String {
    let text = std::fs::read_to_string(world).unwrap();
    let (_, rest) = text.split_once(&format!("\"{key}\": \"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

struct Broker {
    child: Child,
    world: PathBuf,
}

impl Broker {
    fn start(dir: &Path) -> Self {
        let world = dir.join("broker.json");
        let program =
            std::env::var("BREVET").unwrap_or_else(|_| env!("CARGO_BIN_EXE_brevet").to_owned());
        let child = Command::new(program)
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--world"])
            .arg(&world)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        pin(child.id(), 1);
        while !world.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, world }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn agent_program() -> PathBuf {
    std::env::var("BREVET_AGENT")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_brevet-agent").to_owned())
        .into()
}

struct Agent {
    child: Child,
    address: SocketAddr,
    token: String,
    /// From the start of the process to the first answer with credentials.
    first_answer: Duration,
}

impl Agent {
    fn start(broker: &Broker, dir: &Path) -> Self {
        let world = dir.join("agent.json");
        let _ = std::fs::remove_file(&world); // of the agent before
        let began = Instant::now();
        let child = Command::new(agent_program())
            .args(["agent", "--dev", "--listen", "127.0.0.1:0", "--world"])
            .arg(&world)
            .env("BREVET_ENDPOINT", value(&broker.world, "grpc_endpoint"))
            .env("AWS_REGION", value(&broker.world, "region"))
            .env("AWS_ACCESS_KEY_ID", value(&broker.world, "access_key_id"))
            .env(
                "AWS_SECRET_ACCESS_KEY",
                value(&broker.world, "secret_access_key"),
            )
            .env_remove("AWS_SESSION_TOKEN")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        pin(child.id(), 0);
        while !world.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let address = value(&world, "endpoint")
            .strip_prefix("http://")
            .unwrap()
            .parse()
            .unwrap();
        let put = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: {address}\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(address, put.as_bytes());
        let text = String::from_utf8(answer).unwrap();
        let token = text.split("\r\n\r\n").nth(1).unwrap().to_owned();
        let mut agent = Self {
            child,
            address,
            token,
            first_answer: Duration::ZERO,
        };
        while !exchange(address, &agent.request()).starts_with(b"HTTP/1.1 200") {
            std::thread::sleep(Duration::from_millis(1));
        }
        agent.first_answer = began.elapsed();
        agent
    }

    /// The request for credentials.
    fn request(&self) -> Vec<u8> {
        let (address, token) = (self.address, &self.token);
        format!(
            "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n"
        )
        .into_bytes()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Sends a request and returns the whole answer.
fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 8_192];
    loop {
        let read = stream.read(&mut piece).unwrap();
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        if read == 0 || answer.len() >= head.len() + 4 + length.parse::<usize>().unwrap() {
            return answer;
        }
    }
}

/// Sends as many requests as the server answers, for a round. Returns how many, and how long the round was in seconds.
async fn saturate(address: SocketAddr, request: &[u8], length: usize) -> (u64, f64) {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::new(address, request, length).await;
        let done = done.clone();
        tasks.push(tokio::spawn(async move {
            loop {
                connection.ask().await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (count, began) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(ROUND).await;
    let result = (
        done.load(Ordering::Relaxed) - count,
        began.elapsed().as_secs_f64(),
    );
    for task in tasks {
        task.abort();
    }
    result
}

/// Sends requests at a fixed rate, and returns how long each took from the moment at which it was due.
async fn paced(address: SocketAddr, request: &[u8], length: usize) -> Vec<Duration> {
    let began = Instant::now() + Duration::from_millis(50);
    let pause = Duration::from_secs(1) / RATE;
    let mut tasks = Vec::new();
    for first in 0..CONNECTIONS {
        let mut connection = Connection::new(address, request, length).await;
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            for number in (first..).step_by(CONNECTIONS) {
                let due = pause * u32::try_from(number).unwrap();
                if due > PACED {
                    return took;
                }
                // The timer has a resolution of a millisecond: the rest is waited for by giving way.
                let until = began + due;
                let left = until.saturating_duration_since(Instant::now());
                if left > Duration::from_millis(2) {
                    tokio::time::sleep(left - Duration::from_millis(2)).await;
                }
                while Instant::now() < until {
                    tokio::task::yield_now().await;
                }
                connection.ask().await;
                took.push(until.elapsed());
            }
            took
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

struct Connection {
    stream: tokio::net::TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    async fn new(address: SocketAddr, request: &[u8], length: usize) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            request: request.to_vec(),
            answer: vec![0; length],
        }
    }

    async fn ask(&mut self) {
        self.stream.write_all(&self.request).await.unwrap();
        self.stream.read_exact(&mut self.answer).await.unwrap();
        assert!(self.answer.starts_with(b"HTTP/1.1 200"));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pin(pid: u32, core: u32) {
    let (core, pid) = (core.to_string(), pid.to_string());
    let done = Command::new("taskset")
        .args(["-a", "-p", "-c", &core, &pid])
        .stdout(Stdio::null())
        .status();
    assert!(
        done.is_ok_and(|s| s.success()),
        "taskset from util-linux is required to pin the processes"
    );
}

/// The user and system time of all threads in seconds: proc(5), `stat`, fields 14 and 15, in hundredths of a second.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// proc(5), `status`, VmRSS.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
