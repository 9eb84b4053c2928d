//! Floods against the built executable, whose memory, processor time and descriptors are its own.
//! Counts are scaled to two cores and to minutes; the case's own count stands beside each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use brevet::client::{AssumeRole, Client, Credentials};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::binary::{Daemon, Home, brevet, serve_by};
use crate::harness::{PATIENCE, eventually, may_skip};
use crate::http2::{
    self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, connect,
    form,
};

const QUIET: &str = "warn,brevet=info";
const MIB: u64 = 1 << 20;

fn source(n: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(127, 0, 0, n)
}

/// h2 has assertions that debug builds check when a connection ends while it has streams. Formatting
/// one of them, with its symbols, would take more memory than a flood.
fn start(mut command: Command, home: &Home) -> Daemon {
    command.env("RUST_BACKTRACE", "0");
    serve_by(command, &home.config(), QUIET)
}

fn address(daemon: &Daemon) -> SocketAddr {
    daemon.address.parse().unwrap()
}

/// The memory in use, in bytes: proc(5), `statm`, second field, in pages of 4 KiB.
fn resident(daemon: &Daemon) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", daemon.child.id()))
        .expect("the broker lives");
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// The user and system time: proc(5), `stat`, fields 14 and 15, in hundredths of a second.
fn cpu_seconds(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.child.id()))
        .expect("the broker lives");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let operator = daemon.operator.parse().unwrap();
    let text = crate::harness::http1(operator, "GET", "/metrics", Default::default(), Vec::new())
        .await
        .body;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

/// Waits until memory is within an amount of a baseline. Returns how long that took, and what
/// remained.
async fn comes_back(daemon: &Daemon, baseline: u64, within: u64, wait: Duration) {
    let started = Instant::now();
    loop {
        let now = resident(daemon);
        if now <= baseline + within {
            return println!(
                "{} MiB beside {} after {:?}",
                now / MIB,
                baseline / MIB,
                started.elapsed()
            );
        }
        assert!(
            started.elapsed() < wait,
            "{} MiB, {} before",
            now / MIB,
            baseline / MIB
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn role() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "flood")
}

/// Makes valid calls from another address than the flood's, one by one until they are stopped; each
/// must be answered. Returns how long they took.
struct Good {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Vec<Duration>>,
}

impl Good {
    fn start(to: SocketAddr, keys: &Credentials) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let keys = keys.clone();
        let task = tokio::spawn(async move {
            let mut times = Vec::new();
            while stopped.try_recv().is_err() {
                let started = Instant::now();
                let status = tokio::time::timeout(PATIENCE, who(to, &keys)).await;
                assert_eq!(status, Ok(200), "a good client is served");
                times.push(started.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            times
        });
        Self { stop, task }
    }

    /// The median and the 99th percentile.
    async fn stop(self) -> (Duration, Duration) {
        let _ = self.stop.send(());
        let mut times = self.task.await.unwrap();
        times.sort();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    }
}

/// Calls GetCallerIdentity over a new connection from 127.0.0.200.
async fn who(to: SocketAddr, keys: &Credentials) -> u16 {
    use brevet::base::clock::{Clock, SystemClock};
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let mut headers = crate::harness::form_headers();
    let signer = brevet::proof::sigv4::Signer {
        access_key_id: &keys.access_key_id,
        secret_access_key: keys.secret_access_key.expose().as_bytes(),
        session_token: None,
        region: "us-east-1",
        service: "sts",
    };
    let digest = brevet::base::digest::sha256(body.as_bytes());
    signer
        .sign(
            "POST",
            "/",
            &to.to_string(),
            &mut headers,
            &digest,
            SystemClock.now(),
        )
        .unwrap();
    let io = hyper_util::rt::TokioIo::new(connect(to, source(200)).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let body = http_body_util::Full::new(bytes::Bytes::from_static(body.as_bytes()));
    let mut request = http::Request::post("/").body(body).unwrap();
    *request.headers_mut() = headers;
    request
        .headers_mut()
        .insert("host", to.to_string().parse().unwrap());
    let status = sender
        .send_request(request)
        .await
        .unwrap()
        .status()
        .as_u16();
    connection.abort();
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr_01_streams_that_are_reset_at_once_end_the_connection() {
    // The case has 1,000,000 streams over 10 connections; here are 100,000, on two cores.
    let home = Home::init();
    let daemon = start(brevet(), &home);
    let to = address(&daemon);
    assert_eq!(who(to, &home.keys).await, 200);
    let baseline = resident(&daemon);
    let good = Good::start(to, &home.keys);
    let cancel = 8u32.to_be_bytes();
    let flood = |reset: bool| {
        let block = form(to);
        async move {
            let (mut streams, mut connections) = (0, 0);
            while streams < 10_000 {
                let mut raw = Raw::connect(to, source(7), b"").await;
                connections += 1;
                let mut next = 1u32;
                // Each connection goes on until it is ended: a short one at the end of the count would
                // rightly be left alone.
                for _ in 0..100 {
                    let mut bytes = Vec::new();
                    for _ in 0..100 {
                        bytes.extend(http2::frame(HEADERS, END_HEADERS, next, &block));
                        bytes.extend(match reset {
                            true => http2::frame(RST_STREAM, 0, next, &cancel),
                            // Made you reset: a window update of nothing is an error of the stream.
                            false => http2::frame(WINDOW_UPDATE, 0, next, &0u32.to_be_bytes()),
                        });
                        next += 2;
                    }
                    streams += 100;
                    if !raw.send(&bytes).await {
                        break;
                    }
                }
                let (ended, kinds) = raw.ends(PATIENCE).await;
                assert!(ended || kinds.contains(&GOAWAY), "{kinds:?}");
            }
            connections
        }
    };
    let started = Instant::now();
    let floods: Vec<_> = (0..10).map(|n| tokio::spawn(flood(n % 2 == 0))).collect();
    let mut connections = 0;
    for flood in floods {
        connections += flood.await.unwrap();
    }
    println!(
        "100,000 streams took {connections} connections and {:?}",
        started.elapsed()
    );
    let peak = resident(&daemon);
    assert!(
        peak < baseline + 64 * MIB,
        "{} MiB, {} before",
        peak / MIB,
        baseline / MIB
    );
    let (median, p99) = good.stop().await;
    println!("a good client: {median:?} (median), {p99:?} (p99)");
    let ended = Instant::now();
    while metric(&daemon, "brevet_calls_in_flight").await > 0 {
        assert!(
            ended.elapsed() < PATIENCE,
            "calls of connections that are gone go on"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sa_07_a_flood_of_forged_responses_starves_no_signed_call() {
    use crate::saml_idp::{Idp, Says};
    use crate::saml_login::{PROVIDER, ROLE, declaration, form_of};
    use brevet::base::clock::{Clock, SystemClock};
    let home = Home::init();
    home.edit(|toml| toml + "\n[web_identity]\nissuer = \"https://sts.example.com\"\n");
    // Two identity providers of one name, of which the broker knows the first.
    let [idp, forger] = ["https://idp.example.com/saml"; 2].map(Idp::new);
    let file = home.path.join("saml.json");
    brevet::files::write_private(&file, declaration(&idp).to_string().as_bytes()).unwrap();
    home.run(&["import", file.to_str().unwrap(), "--apply"]);
    let daemon = start(brevet(), &home);
    let to = address(&daemon);
    assert_eq!(who(to, &home.keys).await, 200);
    let says = Says::new("forged", ROLE, PROVIDER, SystemClock.now());
    let forged = crate::saml_costs::longest(&forger, &says);
    let body = crate::harness::encode(&form_of(&forged));

    let ends = Instant::now() + Duration::from_secs(10);
    let floods: Vec<_> = (0..100)
        .map(|n| {
            let body = body.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < ends {
                    let started = Instant::now();
                    let answer = crate::saml_costs::try_post(to, 1 + n % 20, body.clone()).await;
                    // Whoever floods may be shown out without an answer.
                    if let Ok(answer) = answer {
                        assert_ne!(answer.code(), "ok");
                        times.push(started.elapsed());
                    }
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let good = Good::start(to, &home.keys);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let (median, p99) = good.stop().await;
    let mut forged = Vec::new();
    for flood in floods {
        forged.extend(flood.await.unwrap());
    }
    forged.sort();
    let wait = forged[forged.len() / 2];
    println!("a good client: {median:?} (median), {p99:?} (p99)");
    println!("{} forged responses: {wait:?} (median)", forged.len());
    // A call that waited for the same threads would take about as long as a forged one.
    assert!(median * 5 < wait, "{median:?}, {wait:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr_06_idle_connections_leave_room_for_calls_and_go_by_age() {
    // The case has 10,000 connections for 10 minutes; here are 2,000 for seconds.
    let count = 2_000;
    brevet::process::raise_descriptor_limit();
    if rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .is_some_and(|n| n < count + 500)
    {
        return may_skip(&format!(
            "the limit of file descriptors is too low for {count} connections"
        ));
    }
    let home = Home::init();
    home.edit(|toml| format!("{toml}\n[limits]\nidle_seconds = 30\n"));
    let daemon = start(brevet(), &home);
    let to = address(&daemon);
    let client = home.client(&daemon);
    client.assume_role(&role()).await.unwrap();
    let baseline = resident(&daemon);
    let rest = async |n: u64| {
        let mut raw = Raw::connect(to, source(u8::try_from(n % 4).unwrap() + 1), b"").await;
        raw.send(&http2::frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &form(to),
        ))
        .await;
        raw
    };
    let mut idle = Vec::new();
    for some in 0..count / 100 {
        idle.extend(futures_util::future::join_all((some * 100..some * 100 + 100).map(rest)).await);
    }
    // The system takes connections before the broker does. On a slow machine the first ones have rested
    // long enough before the last ones are there.
    let started = Instant::now();
    let mut open = metric(&daemon, "brevet_connections").await;
    while open < count * 3 / 4 {
        assert!(started.elapsed() < Duration::from_secs(25), "{open}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        open = metric(&daemon, "brevet_connections").await;
    }
    let each = resident(&daemon).saturating_sub(baseline) / open;
    println!("{open} connections: {} KiB each", each / 1_024);
    assert!(each < 48 << 10, "{each} bytes each");
    for _ in 0..20 {
        client.assume_role(&role()).await.unwrap();
    }
    // They are asked to go when they have rested, and closed when they do not.
    let deadline = Instant::now() + Duration::from_secs(30) + PATIENCE;
    while metric(&daemon, "brevet_connections").await > 10 {
        assert!(Instant::now() < deadline, "idle connections stay");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    client.assume_role(&role()).await.unwrap();
    comes_back(&daemon, baseline, 32 * MIB, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr_08_connections_without_end_leave_descriptors_for_the_broker() {
    let home = Home::init();
    let mut limited = Command::new("prlimit");
    limited
        .arg("--nofile=256:256")
        .arg(env!("CARGO_BIN_EXE_brevet"));
    let mut daemon = start(limited, &home);
    let to = address(&daemon);
    let client = home.client(&daemon);
    client.assume_role(&role()).await.unwrap();
    let (cpu, started) = (cpu_seconds(&daemon), Instant::now());
    let mut held: Vec<TcpStream> = Vec::new();
    for n in 0..1_000u32 {
        held.push(
            connect(to, source(u8::try_from(n % 8).unwrap() + 1))
                .await
                .unwrap(),
        );
    }
    // The audit log and the store have theirs: credentials are issued and sessions revoked meanwhile.
    let selector =
        crate::harness::Selector::RoleArn("arn:aws:iam::111122223333:role/Administrator".into());
    for _ in 0..5 {
        client.assume_role(&role()).await.unwrap();
        let request = brevet::api::sts::v1::RevokeSessionsRequest {
            selector: Some(selector.clone()),
            ..Default::default()
        };
        client.revoke_sessions(request).await.unwrap();
        assert_eq!(who(to, &home.keys).await, 200, "a newcomer is served");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let busy = (cpu_seconds(&daemon) - cpu) / seconds;
    println!("{:.0} % of a core", busy * 100.0);
    assert!(busy < 0.5, "{busy}");
    // Root may look; its memory is private to the process otherwise.
    if let Ok(files) = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())) {
        let files = files.count();
        assert!(files < 250, "{files} descriptors");
    }
    drop(held);
    let freed = Instant::now();
    let free = async || {
        (tokio::time::timeout(Duration::from_secs(1), connect(to, source(1))).await).is_ok()
    };
    while !(free().await && metric(&daemon, "brevet_connections").await < 20) {
        assert!(freed.elapsed() < PATIENCE, "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _: Client = client;
    daemon.signal("-TERM");
    let (_, log) = daemon.ended();
    let warnings = log
        .iter()
        .filter(|line| line.contains("\"WARN\"") && line.contains("connection"))
        .count();
    assert!(
        warnings as f64 <= seconds + 3.0,
        "{warnings} warnings in {seconds} s"
    );
}

/// A group of processes that may use 512 MiB; the error says why there is none.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(bytes: u64) -> Result<Self, String> {
        let name = format!("brevet-test-{}", std::process::id());
        let (parent, limit) = match std::path::Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let group = Self(PathBuf::from(parent).join(name));
        std::fs::create_dir(&group.0).map_err(|e| format!("{}: {e}", group.0.display()))?;
        let limit = group.0.join(limit);
        std::fs::write(&limit, bytes.to_string())
            .map_err(|e| format!("{}: {e}", limit.display()))?;
        Ok(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It can be removed only when its processes are gone.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn op_07_a_flood_in_512_mib_is_shed_and_kills_nobody() {
    let group = match Cgroup::make(512 * MIB) {
        Ok(group) => group,
        Err(why) => {
            return may_skip(&format!("there is no memory cgroup: {why}"));
        }
    };
    let home = Home::init();
    let mut inside = Command::new("sh");
    inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
    inside
        .arg(group.0.join("cgroup.procs"))
        .arg(env!("CARGO_BIN_EXE_brevet"));
    let daemon = start(inside, &home);
    let to = address(&daemon);
    let client = home.client(&daemon);
    client.assume_role(&role()).await.unwrap();
    let baseline = resident(&daemon);
    let good = Good::start(to, &home.keys);
    for kind in 0..3u8 {
        let floods: Vec<_> = (0..200).map(|_| tokio::spawn(flood(to, kind))).collect();
        let mut held = Vec::new();
        for flood in floods {
            held.push(flood.await.unwrap());
        }
        println!(
            "flood {kind}: {} MiB, {} calls",
            resident(&daemon) / MIB,
            metric(&daemon, "brevet_calls_in_flight").await
        );
        eventually("a credential is issued", async || {
            client.assume_role(&role()).await.is_ok()
        })
        .await;
        drop(held);
        comes_back(&daemon, baseline, 32 * MIB, PATIENCE).await;
    }
    let (median, p99) = good.stop().await;
    println!("a good client: {median:?} (median), {p99:?} (p99)");
    assert!(metric(&daemon, "brevet_shed_total{reason=\"source\"}").await > 0);
    drop(daemon);
    drop(group);
}

/// One connection of a flood, with incomplete bodies, header lists made of references, or answers
/// that are not read.
async fn flood(to: SocketAddr, kind: u8) -> Raw {
    let settings: &[u8] = if kind == 2 { b"\x00\x04\0\0\0\0" } else { b"" };
    let mut raw = Raw::connect(to, source(7), settings).await;
    let block = form(to);
    let mut bytes = Vec::new();
    for stream in (0..256u32).map(|n| 2 * n + 1) {
        let mut block = block.clone();
        if kind == 1 {
            block.extend(if stream == 1 {
                b"\x40\x01a\x00".to_vec()
            } else {
                vec![0xbe; 1_700]
            });
        }
        let flags = if kind == 2 {
            END_HEADERS | END_STREAM
        } else {
            END_HEADERS
        };
        bytes.extend(http2::frame(HEADERS, flags, stream, &block));
    }
    // Whoever is cut has had its answer.
    if !raw.send(&bytes).await || kind != 0 {
        return raw;
    }
    // As much as the windows take at first, and as they are opened again for a while.
    let piece = vec![b'a'; 16_000];
    for _ in 0..4 {
        for stream in (0..4u32).map(|n| 2 * n + 1) {
            if !raw.send(&http2::frame(DATA, 0, stream, &piece)).await {
                return raw;
            }
        }
        let _ = raw.next(Duration::from_millis(50)).await;
    }
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn op_08_memory_does_not_grow_with_time() {
    // The case runs for 24 hours: BREVET_SOAK_SECONDS=86400.
    let seconds: u64 = std::env::var("BREVET_SOAK_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(20);
    let home = Home::init();
    // What is kept of sessions has bounds; here they are reached early, so that they are seen to hold.
    home.edit(|toml| format!("{toml}\n[sessions]\nrecords_mib = 1\nopened_tokens_mib = 1\n"));
    let daemon = start(brevet(), &home);
    let client = home.client(&daemon);
    let (started, mut sessions, mut revoked) = (Instant::now(), 0u64, 0u64);
    let mut samples: Vec<(f64, f64)> = Vec::new();
    let warm = Duration::from_secs_f64(seconds as f64 / 3.0);
    let mut sampled = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        let made = client.assume_role(&role()).await.unwrap();
        sessions += 1;
        let session = daemon.client(&made.credentials);
        session.get_caller_identity().await.unwrap();
        if sessions.is_multiple_of(20) {
            let id = made.credentials.access_key_id.clone();
            let selector = Some(crate::harness::Selector::AccessKeyId(id));
            let request = brevet::api::sts::v1::RevokeSessionsRequest {
                selector,
                ..Default::default()
            };
            client.revoke_sessions(request).await.unwrap();
            revoked += 1;
            assert!(
                session.get_caller_identity().await.is_err(),
                "a revoked session is refused"
            );
        }
        if started.elapsed() > warm && sampled.elapsed() > Duration::from_millis(200) {
            sampled = Instant::now();
            samples.push((
                started.elapsed().as_secs_f64(),
                resident(&daemon) as f64 / 1_024.0,
            ));
        }
    }
    // A line through the samples: KiB for each thousand sessions.
    let count = samples.len() as f64;
    let (x, y) = (
        samples.iter().map(|s| s.0).sum::<f64>() / count,
        samples.iter().map(|s| s.1).sum::<f64>() / count,
    );
    let slope = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum::<f64>()
        / samples
            .iter()
            .map(|s| (s.0 - x).powi(2))
            .sum::<f64>()
            .max(f64::EPSILON);
    let growth = slope * (seconds as f64 - warm.as_secs_f64());
    println!(
        "{sessions} sessions, {revoked} revoked in {seconds} s: {slope:.1} KiB a second, {y:.0} KiB in the middle"
    );
    assert!(
        growth < 16_384.0 + revoked as f64,
        "memory grew by {growth:.0} KiB"
    );
    let mut rest = Vec::new();
    let mut silent = connect(address(&daemon), source(3)).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(10), silent.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}
