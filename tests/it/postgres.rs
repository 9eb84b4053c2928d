//! Several brokers on one PostgreSQL server that is killed, stopped or disconnected.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use brevet::base::clock::Clock;
use brevet::budgets::BudgetLimits;
use brevet::client::{AssumeRole, Credentials};
use brevet::commands::Edit;
use brevet::directory::resource::ResourceKind;
use brevet::store::Place;

use crate::binary::Home;
use crate::harness::*;
use crate::store::times;

/// A PostgreSQL server for one test, from Debian's packages.
pub struct Postgres {
    child: Option<Child>,
    pub port: u16,
    dir: PathBuf,
    /// The settings, as `name=value`.
    settings: Vec<String>,
}

impl Postgres {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// A server with TLS, given its certificate and private key in PEM.
    pub fn start_with_certificate(certificate: &str, private_key: &str) -> Self {
        Self::start_with(Some((certificate, private_key)))
    }

    fn start_with(certificate: Option<(&str, &str)>) -> Self {
        // Not below a private folder: PostgreSQL does not run as root.
        let made = Command::new("mktemp")
            .args(["-d", "/tmp/brevet-postgres-XXXXXXXX"])
            .output()
            .unwrap();
        let dir = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        if is_root() {
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(&dir)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let data = dir.join("data");
        let made = Self::program("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=brevet",
                "--encoding=UTF8",
                "--pgdata",
            ])
            .arg(&data)
            .output()
            .expect("PostgreSQL: apt-get install postgresql");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut settings = Vec::new();
        if let Some((certificate, private_key)) = certificate {
            for (name, text) in [
                ("ssl_cert_file", certificate),
                ("ssl_key_file", private_key),
            ] {
                let path = dir.join(name);
                brevet::files::write_private(&path, text.as_bytes()).unwrap();
                if is_root() {
                    assert!(
                        Command::new("chown")
                            .arg("postgres")
                            .arg(&path)
                            .status()
                            .unwrap()
                            .success()
                    );
                }
                settings.push(format!("{name}={}", path.display()));
            }
            settings.push("ssl=on".to_owned());
        }
        let mut postgres = Self {
            child: None,
            port: 0,
            dir,
            settings,
        };
        for _ in 0..5 {
            postgres.port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            if postgres.launch() {
                postgres.psql("CREATE DATABASE brevet", "postgres");
                return postgres;
            }
        }
        panic!("PostgreSQL does not start");
    }

    /// Runs one of PostgreSQL's programs as an account other than root.
    fn program(name: &str) -> Command {
        let bin = std::fs::read_dir("/usr/lib/postgresql").map(|versions| {
            versions
                .flatten()
                .map(|v| v.path().join("bin").join(name))
                .filter(|p| p.exists())
                .max()
        });
        let path = bin.ok().flatten().unwrap_or_else(|| PathBuf::from(name));
        if !is_root() {
            return Command::new(path);
        }
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
            ])
            .arg(path);
        command
    }

    fn launch(&mut self) -> bool {
        let child = Self::program("postgres")
            .arg("-D")
            .arg(self.dir.join("data"))
            .args([
                "-p",
                &self.port.to_string(),
                "-h",
                "127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..3_000 {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if self.try_psql("SELECT 1", "postgres") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn psql(&self, statement: &str, database: &str) {
        assert!(self.try_psql(statement, database), "{statement}");
    }

    fn try_psql(&self, statement: &str, database: &str) -> bool {
        Command::new("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "brevet",
                "-q",
                "-c",
                statement,
                database,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("psql: apt-get install postgresql")
            .success()
    }

    pub fn url(&self) -> String {
        format!(
            "postgres://brevet@127.0.0.1:{}/brevet?sslmode=disable",
            self.port
        )
    }

    fn place(&self) -> Place {
        place(self.port)
    }

    /// Sends a signal to the server and each of its processes, which are not in one process group.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let _ = Command::new("pkill").args([name, "-P", &pid]).status();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn kill(&mut self) {
        self.signal("-KILL");
        self.child.take().unwrap().wait().unwrap();
    }

    fn restart(&mut self) {
        let started = (0..10).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            self.launch()
        });
        assert!(started, "PostgreSQL starts again");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            for signal in ["-CONT", "-KILL"] {
                let _ = Command::new("pkill").args([signal, "-P", &pid]).status();
                let _ = Command::new("kill").args([signal, &pid]).status();
            }
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn place(port: u16) -> Place {
    Place::Postgres {
        url: format!("postgres://brevet@127.0.0.1:{port}/brevet?sslmode=disable"),
        password: None,
    }
}

/// A proxy that can hold a connection (nothing passes) or cut it.
pub struct Wire {
    pub port: u16,
    state: Arc<AtomicU8>,
}

pub const PASS: u8 = 0;
pub const HOLD: u8 = 1;
pub const CUT: u8 = 2;

impl Wire {
    pub async fn to(target: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(AtomicU8::new(PASS));
        let shared = state.clone();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                if shared.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(server) = tokio::net::TcpStream::connect(("127.0.0.1", target)).await else {
                    continue;
                };
                let (client, server) = (client.into_split(), server.into_split());
                tokio::spawn(carry(client.0, server.1, shared.clone()));
                tokio::spawn(carry(server.0, client.1, shared.clone()));
            }
        });
        Self { port, state }
    }

    pub fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<AtomicU8>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = [0; 16_384];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => {
                let Ok(n @ 1..) = read else { return };
                while state.load(Ordering::SeqCst) == HOLD {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if state.load(Ordering::SeqCst) == CUT || to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                if state.load(Ordering::SeqCst) == CUT {
                    return;
                }
            }
        }
    }
}

/// Brokers with the same keyring, master key and PostgreSQL.
pub async fn brokers<const N: usize>(
    postgres: &Postgres,
    ports: [u16; N],
) -> ([Broker; N], OtherProcess) {
    brokers_with(postgres, ports, BudgetLimits::OFF).await
}

async fn brokers_with<const N: usize>(
    postgres: &Postgres,
    ports: [u16; N],
    budgets: BudgetLimits,
) -> ([Broker; N], OtherProcess) {
    let home = home();
    fill_store(home.path(), &postgres.place()).await;
    let mut all = Vec::new();
    for (n, port) in ports.into_iter().enumerate() {
        let dir = home.path().to_owned();
        // As a node joins: with another one's watermark.
        std::fs::copy(
            dir.join("store.watermark"),
            dir.join(format!("watermark-{n}")),
        )
        .unwrap();
        let broker = Broker::start_in(home.clone(), |c| {
            in_the_store(c);
            c.store = place(port);
            c.watermark = Some(dir.join(format!("watermark-{n}")));
            c.audit = brevet::audit::Target::File {
                path: dir.join(format!("audit-{n}.jsonl")),
                sync: true,
            };
            c.refuse_after = Duration::from_secs(60);
            c.budgets = budgets;
            c.sign_in = Some(brevet::sign_ins::Settings::at("http://{address}"));
        })
        .await;
        all.push(broker);
    }
    let hand = OtherProcess::on(home.path(), &postgres.place()).await;
    (all.try_into().ok().unwrap(), hand)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_store_share_a_limit_equally_without_a_redis() {
    let postgres = Postgres::start();
    let limits = BudgetLimits {
        principal_calls: std::num::NonZeroU32::new(6),
        ..BudgetLimits::OFF
    };
    let (nodes, _hand) = brokers_with(&postgres, [postgres.port; 3], limits).await;
    for node in &nodes {
        eventually("the nodes are counted", async || {
            node.operator("/metrics")
                .await
                .body
                .contains("\nbrevet_brokers 3\n")
        })
        .await;
        let mut passed = 0;
        for _ in 0..12 {
            let form = [
                ("Action", "GetAccessKeyInfo"),
                VERSION,
                ("AccessKeyId", &*user("alice").id),
            ];
            passed +=
                usize::from(node.query(Some(&user("alice")), &form).await.code() != "Throttling");
        }
        assert_eq!(passed, 4, "two seconds of a third of the limit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_use_of_a_key_is_known_on_all_nodes_after_a_minute() {
    let postgres = Postgres::start();
    let ([one, two], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    let bob = user("bob");
    let last = async |node: &Broker| {
        let form = [("AccessKeyId", &*bob.id)];
        let answer = node
            .iam(&user("admin"), "GetAccessKeyLastUsed", &form)
            .await;
        answer.element("LastUsedDate").map(str::to_owned)
    };
    assert_eq!(one.who(&bob).await, "ok");
    let first = Some(one.clock.now().to_string());
    assert_eq!(last(&one).await, first);
    assert_eq!(last(&two).await, None, "nobody has told the other node");
    let pass = |seconds| {
        for node in [&one, &two] {
            node.elapse(seconds);
        }
    };
    pass(61);
    eventually("the other node knows", async || last(&two).await == first).await;
    // The later use wins, wherever it was.
    assert_eq!(two.who(&bob).await, "ok");
    let second = Some(two.clock.now().to_string());
    assert_ne!(first, second);
    assert_eq!(last(&two).await, second);
    pass(61);
    eventually("the first node knows", async || last(&one).await == second).await;
    assert_eq!(last(&two).await, second);
}

fn sequence(broker: &Broker) -> i64 {
    broker.running.as_ref().unwrap().broker.feed.sequence()
}

/// The median, the 99th percentile and the maximum.
pub fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration, Duration) {
    times.sort();
    (
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        *times.last().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_one_binds_on_the_other() {
    let postgres = Postgres::start();
    let ([one, two], hand) = brokers(&postgres, [postgres.port; 2]).await;
    let changes = times("BREVET_CHANGES", 1_000);
    let first = hand.store.head().await.unwrap().sequence;
    let address = two.running.as_ref().unwrap().broker.clone();
    let watcher = tokio::spawn(async move {
        let (mut bound, mut seen) = (Vec::with_capacity(changes), first);
        while bound.len() < changes {
            let now = address.feed.sequence();
            bound.extend((seen..now).map(|_| Instant::now()));
            seen = now;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bound
    });
    let mut committed = Vec::with_capacity(changes);
    for n in 0..changes {
        let seconds = 3_600 + i64::try_from(n).unwrap() % 1_000;
        hand.edit(
            ResourceKind::Role,
            DIRECT,
            Edit::UpdateMaxSessionDuration(seconds),
        )
        .await
        .unwrap();
        committed.push(Instant::now());
    }
    let bound = watcher.await.unwrap();
    let times = bound
        .iter()
        .zip(&committed)
        .map(|(b, c)| b.saturating_duration_since(*c))
        .collect();
    let (p50, p99, longest) = quantiles(times);
    println!(
        "{changes} changes, commit to bound on the other node: p50 {p50:?}, p99 {p99:?}, max {longest:?}"
    );
    assert!(longest < Duration::from_secs(20));
    // It is the change that binds, and not its number alone.
    let longer = AssumeRole {
        duration_seconds: Some(5_000),
        ..AssumeRole::new(DIRECT, "longer")
    };
    assert!(two.client(&user("bob")).assume_role(&longer).await.is_err());
    hand.edit(
        ResourceKind::Role,
        DIRECT,
        Edit::UpdateMaxSessionDuration(7_200),
    )
    .await
    .unwrap();
    for broker in [&one, &two] {
        eventually("it binds", async || {
            broker
                .client(&user("bob"))
                .assume_role(&longer)
                .await
                .is_ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mf_01_mf_02_two_nodes_take_a_code_once_and_count_as_one() {
    use crate::mfa::{SERIAL, code, session_token};
    let mut postgres = Postgres::start();
    let ([one, two], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    let alice = user("alice");
    for broker in [&one, &two] {
        broker.clock.advance(Duration::from_secs(120));
    }
    for _ in 0..5 {
        // The same code in the same moment, ten times on each node.
        let right = code(&one, 0);
        let proof = Some((SERIAL, right.as_str()));
        let tries =
            (0..20).map(|n| session_token(if n % 2 == 0 { &one } else { &two }, &alice, proof));
        let got = futures_util::future::join_all(tries).await;
        assert_eq!(got.iter().filter(|r| r.is_ok()).count(), 1);
        for broker in [&one, &two] {
            broker.clock.advance(Duration::from_secs(30));
        }
    }
    // A thousand guesses on both nodes at the same time: five are looked at.
    let guesses: Vec<String> = (0..1_000)
        .map(|n| format!("{n:06}"))
        .filter(|g| *g != code(&one, 0))
        .collect();
    let tries = guesses.iter().enumerate().map(|(n, guess)| {
        let broker = if n % 2 == 0 { &one } else { &two };
        let alice = &alice;
        async move {
            session_token(broker, alice, Some((SERIAL, guess)))
                .await
                .unwrap_err()
        }
    });
    let refused = futures_util::StreamExt::collect::<Vec<_>>(
        futures_util::StreamExt::buffer_unordered(futures_util::stream::iter(tries), 32),
    )
    .await;
    assert_eq!(
        refused
            .iter()
            .filter(|e| e.contains("invalid MFA one time pass code"))
            .count(),
        5
    );
    assert_eq!(
        refused
            .iter()
            .filter(|e| e.contains("too many invalid"))
            .count(),
        guesses.len() - 5
    );
    // Without the database no code is good. A user who is known to be locked out need not be asked
    // about, so the lock must be over.
    postgres.kill();
    let right = code(&one, 1);
    assert!(
        session_token(&one, &alice, Some((SERIAL, &right)))
            .await
            .unwrap_err()
            .contains("too many invalid")
    );
    for broker in [&one, &two] {
        broker.clock.advance(Duration::from_secs(900));
    }
    let right = code(&one, 1);
    assert!(
        session_token(&one, &alice, Some((SERIAL, &right)))
            .await
            .unwrap_err()
            .contains("an operation of the store failed")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_on_one_is_refused_on_the_other() {
    let postgres = Postgres::start();
    let ([one, two], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    let (one, two) = (Arc::new(one), Arc::new(two));
    let lanes = 10;
    let each = times("BREVET_REVOCATIONS", 1_000) / lanes;
    let mut tasks = Vec::new();
    for lane in 0..lanes {
        let (one, two) = (one.clone(), two.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for n in 0..each {
                let name = format!("lane-{lane}-{n}");
                let request = AssumeRole {
                    source_identity: Some(name.clone()),
                    ..AssumeRole::new(OPEN, &name)
                };
                let client = one.client(&user("alice"));
                let session = Keys::from(&client.assume_role(&request).await.unwrap().credentials);
                assert_eq!(two.who(&session).await, "ok");
                let selector = match n % 3 {
                    0 => Selector::AccessKeyId(session.id.clone()),
                    1 => Selector::PrincipalArn(format!(
                        "arn:aws:sts::111122223333:assumed-role/Open/{name}"
                    )),
                    _ => Selector::SourceIdentity(name),
                };
                let started = Instant::now();
                let request = brevet::api::sts::v1::RevokeSessionsRequest {
                    selector: Some(selector),
                    ..Default::default()
                };
                let answer = one
                    .client(&user("admin"))
                    .revoke_sessions(request)
                    .await
                    .unwrap();
                times.push(started.elapsed());
                assert_eq!(
                    (answer.nodes_connected, answer.nodes_confirmed),
                    (2, 2),
                    "{}",
                    answer.pending.len()
                );
                assert_eq!(one.who(&session).await, "InvalidClientTokenId");
                assert_eq!(two.who(&session).await, "InvalidClientTokenId");
            }
            times
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    let count = all.len();
    let (p50, p99, longest) = quantiles(all);
    println!(
        "{count} revocations, call to refused on both nodes: p50 {p50:?}, p99 {p99:?}, max {longest:?}"
    );
    assert!(longest < Duration::from_secs(20));
    // Whole roles and users at once.
    let session = one.assume(&user("alice"), OPEN).await.unwrap();
    one.revoke(&user("admin"), Selector::RoleArn(OPEN.into()))
        .await
        .unwrap();
    assert_eq!(two.who(&session).await, "InvalidClientTokenId");
    let session = one.assume(&user("alice"), OPEN).await.unwrap();
    two.revoke(
        &user("admin"),
        Selector::PrincipalArn("arn:aws:iam::111122223333:user/alice".into()),
    )
    .await
    .unwrap();
    assert_eq!(one.who(&session).await, "InvalidClientTokenId");
}

/// The runtime on which the daemon was started, this test's, is blocked meanwhile.
#[tokio::test]
async fn calls_and_revocations_wait_for_no_other_work() {
    let postgres = Postgres::start();
    let ([one, two], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    let (connected, mut are_connected) = tokio::sync::mpsc::channel(1);
    let (begin, begins) = std::sync::mpsc::channel();
    let clients = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async move {
            let (alice, admin) = (one.client(&user("alice")), one.client(&user("admin")));
            let request = AssumeRole::new(OPEN, "session");
            let credentials = alice.assume_role(&request).await.unwrap().credentials;
            let sessions = [&one, &two].map(|broker| broker.client(&Keys::from(&credentials)));
            for client in [&admin, &sessions[0], &sessions[1]] {
                client.get_caller_identity().await.unwrap();
            }
            connected.send(()).await.unwrap();
            begins.recv().unwrap();
            let started = Instant::now();
            alice.assume_role(&request).await.unwrap();
            let request = brevet::api::sts::v1::RevokeSessionsRequest {
                selector: Some(Selector::AccessKeyId(credentials.access_key_id.clone())),
                ..Default::default()
            };
            let answer = admin.revoke_sessions(request).await.unwrap();
            assert_eq!((answer.nodes_connected, answer.nodes_confirmed), (2, 2));
            for session in sessions {
                let refused = session.get_caller_identity().await.err().unwrap();
                assert_eq!(code(&refused), "InvalidClientTokenId");
            }
            started.elapsed()
        })
    });
    are_connected.recv().await.unwrap();
    begin.send(()).unwrap();
    let took = clients.join().unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Makes calls until it is stopped. Returns how many succeeded, and the errors of the others.
async fn load(
    broker: Arc<Broker>,
    keys: Keys,
    stop: Arc<AtomicU8>,
) -> (usize, std::collections::BTreeSet<String>) {
    let (mut good, mut refused) = (0, std::collections::BTreeSet::new());
    while stop.load(Ordering::SeqCst) == 0 {
        match broker.who(&keys).await.as_str() {
            "ok" => good += 1,
            other => _ = refused.insert(other.to_owned()),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (good, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_stops_nobody_at_once_and_is_not_papered_over() {
    let mut postgres = Postgres::start();
    let ([one, two], _hand) = brokers(&postgres, [postgres.port; 2]).await;
    let (one, two) = (Arc::new(one), Arc::new(two));
    let session = one.assume(&user("alice"), OPEN).await.unwrap();
    for way in ["killed", "stopped"] {
        let stop = Arc::new(AtomicU8::new(0));
        let loads: Vec<_> = [&one, &two]
            .map(|b| tokio::spawn(load(b.clone(), session.clone(), stop.clone())))
            .into();
        if way == "killed" {
            postgres.kill()
        } else {
            postgres.signal("-STOP")
        }
        // Nothing is acknowledged, and the call ends.
        let started = Instant::now();
        let refused = one
            .revoke(&user("admin"), Selector::RoleArn(CLOSED.into()))
            .await;
        assert_eq!(refused.unwrap_err(), "ServiceUnavailable", "{way}");
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{way}: {:?}",
            started.elapsed()
        );
        // Sessions are issued and verified meanwhile.
        assert!(one.assume(&user("alice"), OPEN).await.is_ok(), "{way}");
        eventually("the store's trouble is counted", async || {
            one.operator("/metrics")
                .await
                .body
                .contains("brevet_feed_up 0")
        })
        .await;
        for broker in [&one, &two] {
            assert_eq!(
                broker.operator("/readyz").await.body,
                "ready\n",
                "{way}: not yet"
            );
            broker.elapse(11);
            let ready = broker.operator("/readyz").await;
            assert!(
                ready.status == 503 && ready.body.contains("change feed"),
                "{way}: {}",
                ready.body
            );
            assert_eq!(
                broker.who(&session).await,
                "ok",
                "{way}: drained, and not closed"
            );
            broker.elapse(50);
            for keys in [&session, &user("alice")] {
                assert_eq!(
                    broker.who(keys).await,
                    "ServiceUnavailable",
                    "{way}: nothing is accepted on unknown state"
                );
            }
            assert_eq!(
                broker.assume(&user("alice"), OPEN).await.unwrap_err(),
                "ServiceUnavailable",
                "{way}"
            );
        }
        if way == "killed" {
            postgres.restart()
        } else {
            postgres.signal("-CONT")
        }
        let started = Instant::now();
        for broker in [&one, &two] {
            eventually("ready again", async || {
                broker.operator("/readyz").await.body == "ready\n"
            })
            .await;
            assert_eq!(broker.who(&session).await, "ok", "{way}: without a restart");
        }
        println!(
            "{way}: ready again {:?} after PostgreSQL",
            started.elapsed()
        );
        assert!(
            one.revoke(&user("admin"), Selector::RoleArn(CLOSED.into()))
                .await
                .is_ok()
        );
        stop.store(1, Ordering::SeqCst);
        for load in loads {
            let (good, refused) = load.await.unwrap();
            assert!(good > 10, "{way}");
            assert!(
                refused.is_empty() || refused.iter().eq(["ServiceUnavailable"]),
                "{way}: {refused:?}"
            );
        }
    }
    // And again, at once, while calls are in progress: restarted three times.
    for _ in 0..3 {
        postgres.kill();
        postgres.restart();
    }
    for broker in [&one, &two] {
        eventually("it follows again", async || {
            broker
                .revoke(
                    &user("admin"),
                    Selector::AccessKeyId("ASIANOBODYNOBODY".into()),
                )
                .await
                .is_ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_09_a_node_that_is_cut_off_is_out_of_use_and_then_harmless() {
    let postgres = Postgres::start();
    let wire = Wire::to(postgres.port).await;
    let ([near, far], _hand) = brokers(&postgres, [postgres.port, wire.port]).await;
    for (way, state) in [("silent", HOLD), ("cut", CUT)] {
        let session = near.assume(&user("alice"), OPEN).await.unwrap();
        assert_eq!(far.who(&session).await, "ok");
        wire.set(state);
        // It was heard of a moment ago, so the answer waits for it, and then says who is missing.
        let request = brevet::api::sts::v1::RevokeSessionsRequest {
            selector: Some(Selector::AccessKeyId(session.id.clone())),
            ..Default::default()
        };
        let answer = near
            .client(&user("admin"))
            .revoke_sessions(request)
            .await
            .unwrap();
        assert_eq!(
            (
                answer.nodes_connected,
                answer.nodes_confirmed,
                answer.pending.len()
            ),
            (2, 1, 1),
            "{way}"
        );
        assert_eq!(near.who(&session).await, "InvalidClientTokenId", "{way}");
        // The far node cannot know. It is drained after 10 s, and closed after its bound.
        assert_eq!(far.who(&session).await, "ok", "{way}");
        far.elapse(11);
        assert_eq!(far.operator("/readyz").await.status, 503, "{way}");
        far.elapse(50);
        for _ in 0..20 {
            assert_eq!(
                far.who(&session).await,
                "ServiceUnavailable",
                "{way}: no flapping"
            );
        }
        wire.set(PASS);
        let started = Instant::now();
        eventually("it follows again", async || {
            far.operator("/readyz").await.body == "ready\n"
        })
        .await;
        assert_eq!(
            far.who(&session).await,
            "InvalidClientTokenId",
            "{way}: it never accepted it again"
        );
        println!("{way}: back {:?} after the wire", started.elapsed());
    }
    assert_eq!(sequence(&near), sequence(&far));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_by_the_readme_and_a_database_that_was_put_back() {
    let postgres = Postgres::start();
    let first = Home::init_with(&["--store", &postgres.url()]);
    let again = crate::binary::brevet()
        .args(["init", "--store", &postgres.url()])
        .arg(first.path.join("again"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && error.contains("to add a broker to this store"),
        "{error}"
    );
    // A second broker: the first one's configuration, keys and watermark, copied.
    let second = tempfile::tempdir().unwrap();
    for file in [
        "brevet.toml",
        "master.key",
        "keyring.json",
        "store.watermark",
    ] {
        std::fs::copy(first.path.join(file), second.path().join(file)).unwrap();
    }
    let one = first.serve();
    let two = crate::binary::serve(&second.path().join("brevet.toml"));
    let role = AssumeRole::new("arn:aws:iam::111122223333:role/Administrator", "session");
    let session = one
        .client(&first.keys)
        .assume_role(&role)
        .await
        .unwrap()
        .credentials;
    assert!(two.client(&session).get_caller_identity().await.is_ok());
    let revoked = |daemon: &crate::binary::Daemon, keys: &Credentials| {
        let request = brevet::api::sts::v1::RevokeSessionsRequest {
            selector: Some(Selector::AccessKeyId(keys.access_key_id.clone())),
            ..Default::default()
        };
        let client = daemon.client(&first.keys);
        async move { client.revoke_sessions(request).await.unwrap() }
    };
    let dump = dump(&postgres);
    let answer = revoked(&two, &session).await;
    assert_eq!((answer.nodes_connected, answer.nodes_confirmed), (2, 2));
    let made = answer.sequence_number;
    let waited = crate::acknowledgement::wait(&first.config(), made, 30);
    assert_eq!(
        String::from_utf8_lossy(&waited.stdout),
        format!("Change {made} is in force on 2 brokers.\n")
    );
    let early = crate::acknowledgement::wait(&first.config(), made + 1, 0);
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert_eq!(early.status.code(), Some(1));
    assert_eq!(said.matches("is at change").count(), 2, "{said}");
    assert!(one.client(&session).get_caller_identity().await.is_err());
    drop(one);
    // Put back to before the revocation, while one broker runs: it keeps what it knows, and says so.
    postgres.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "brevet");
    restore(&postgres, &dump);
    eventually("it does not follow", async || {
        let refused = first.try_run(&["changes"]);
        String::from_utf8_lossy(&refused.stderr).contains("restored to an earlier state")
            && two.client(&session).get_caller_identity().await.is_err()
    })
    .await;
    drop(two);
    first.refused("brevet restore --accept");
    let said = first.run(&["restore", "--accept"]);
    assert!(said.contains("has ended"), "{said}");
    let one = first.serve();
    assert!(
        one.client(&session).get_caller_identity().await.is_err(),
        "nothing was revived"
    );
    let fresh = one
        .client(&first.keys)
        .assume_role(&role)
        .await
        .unwrap()
        .credentials;
    assert!(one.client(&fresh).get_caller_identity().await.is_ok());
    let refused = first.try_run(&["backup", "/tmp/brevet-no-backup"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("pg_dump"));
}

#[test]
fn the_log_says_when_the_feed_is_back_and_has_no_notices_of_libraries() {
    let mut postgres = Postgres::start();
    let home = Home::init_with(&["--store", &postgres.url()]);
    let path = home.path.join("log");
    let mut child = crate::binary::brevet()
        .args(["serve", "--config"])
        .arg(home.config())
        .stderr(std::fs::File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let says = |what: &str| {
        let started = Instant::now();
        while !std::fs::read_to_string(&path).unwrap().contains(what) {
            let late = started.elapsed() > Duration::from_secs(30);
            assert!(!late, "{what}: {}", std::fs::read_to_string(&path).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    says("brevet listens");
    postgres.kill();
    says("this broker cannot follow the change feed");
    postgres.restart();
    says("this broker follows the change feed of the store again");
    child.kill().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(&path).unwrap();
    for line in log.lines() {
        let own = line.contains(" brevet::") || line.contains(" WARN ") || line.contains(" ERROR ");
        assert!(own && !line.contains("sqlx"), "{line}");
    }
}

fn dump(postgres: &Postgres) -> Vec<u8> {
    let output = Postgres::program("pg_dump")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &postgres.port.to_string(),
            "-U",
            "brevet",
            "brevet",
        ])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn restore(postgres: &Postgres, dump: &[u8]) {
    use std::io::Write;
    let mut psql = Command::new("psql")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &postgres.port.to_string(),
            "-U",
            "brevet",
            "-q",
            "brevet",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(dump).unwrap();
    assert!(psql.wait().unwrap().success());
}

/// Rows that cannot be read, and what acts by itself on a table: each is named, and an operator gets past it.
#[test]
fn what_cannot_be_read_in_postgresql_is_named_and_an_operator_gets_past_it() {
    let postgres = Postgres::start();
    let home = Home::init_with(&["--store", &postgres.url()]);
    // By the role's path it comes before the one that holds the store.
    postgres.psql("CREATE SCHEMA brevet", "brevet");
    let text = |output: std::process::Output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let statements = [
        (
            "ALTER TABLE resources ALTER COLUMN body DROP NOT NULL; UPDATE resources SET body = NULL WHERE kind = 'role'",
            "the column body is NULL",
        ),
        (
            "CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER idle BEFORE DELETE ON resources FOR EACH ROW EXECUTE FUNCTION idle()",
            "the trigger idle on the table resources",
        ),
        (
            "CREATE RULE gone AS ON DELETE TO revocations DO INSTEAD NOTHING",
            "the rule gone on the table revocations",
        ),
        (
            "ALTER TABLE changes ENABLE ROW LEVEL SECURITY",
            "row security on the table changes",
        ),
        (
            "CREATE TABLE child () INHERITS (resources)",
            "child, which inherits from resources",
        ),
        (
            "INSERT INTO revocations (selector, account, value, before_sequence, before_seconds, expires_at, mac) \
             VALUES ('zz', '', '', 1, 1, 9999999999, '')",
            "the revocation of zz",
        ),
    ];
    for (statement, named) in statements {
        postgres.psql(statement, "brevet");
        let checked = text(home.try_run(&["check"]));
        assert!(checked.contains(named), "{statement}: {checked}");
        assert!(!checked.contains("durability"), "{checked}");
        let said = home.run(&["restore", "--accept"]);
        assert!(
            said.contains(named) && (said.contains("is deleted") || said.contains("is removed")),
            "{statement}: {said}"
        );
        let checked = text(home.try_run(&["check"]));
        assert!(
            checked.contains("every row is unchanged since a broker wrote it"),
            "{statement}: {checked}"
        );
    }
    let changed =
        "ALTER TABLE changes ALTER COLUMN detail TYPE bytea USING convert_to(detail, 'UTF8')";
    postgres.psql(changed, "brevet");
    for command in [&["check"][..], &["restore", "--accept"]] {
        let refused = text(home.try_run(command));
        assert!(
            refused.contains("the column detail of the table changes is of type bytea")
                && refused.contains("restore a backup"),
            "{refused}"
        );
    }
}

/// Rows of `nodes` may be anything: what they say is bounded, and no answer is no "1 of 1".
#[tokio::test]
async fn what_the_table_of_brokers_says_is_bounded() {
    let postgres = Postgres::start();
    let home = Home::init_with(&["--store", &postgres.url()]);
    let daemon = home.serve();
    let client = daemon.client(&home.keys);
    let revoke = async || {
        let request = brevet::api::sts::v1::RevokeSessionsRequest {
            selector: Some(Selector::SourceIdentity("nobody".to_owned())),
            ..Default::default()
        };
        client.revoke_sessions(request).await.unwrap()
    };
    for (seen_at, refuse_after, brokers) in [
        (i64::MIN, 900, 1),
        (0, i64::MAX, 1),
        // One that is to have reported in times to come is not waited for, and has not confirmed it.
        (1 << 62, 900, 2),
    ] {
        postgres.psql(
            &format!(
                "DELETE FROM nodes WHERE host = 'odd'; INSERT INTO nodes (node, host, confirmed, seen_at, refuse_after) \
                 VALUES ('odd', 'odd', 0, {seen_at}, {refuse_after})"
            ),
            "brevet",
        );
        let answer = revoke().await;
        assert_eq!(
            (
                answer.nodes_connected,
                answer.nodes_confirmed,
                answer.other_nodes_unknown
            ),
            (brokers, 1, false),
            "{seen_at}"
        );
    }
    postgres.psql("ALTER TABLE nodes RENAME TO hidden", "brevet");
    let answer = revoke().await;
    assert!(answer.other_nodes_unknown);
}

#[test]
fn a_postgres_that_is_not_there_refuses_the_start() {
    let home = Home::init();
    let url = "url = \"postgres://brevet@127.0.0.1:1/brevet\"";
    home.edit(|toml| toml.replace("file = \"store.db\"", url));
    home.refused("the store does not answer");
    assert!(Path::new(&home.path).exists());
}
