//! Measures a broker whose directory has 100,000 roles and 1,000,000 users in SQLite: the start-up
//! time, the memory, the CPU time of one change, and AssumeRole in interleaved rounds beside the same broker with
//! ten roles. With 100,000 users, it measures what an administrator waits for by the IAM API.
//!
//! Run with `cargo bench --bench scale [-- ROLES USERS]`. One user in ten has an access key.

mod load;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brevet::api::sts::v1 as pb;
use brevet::base::clock::{Clock, SystemClock};
use brevet::base::entropy::SystemEntropy;
use brevet::client::{Client, Credentials, Endpoint};
use brevet::commands::{self, Actor, Command as Change, CommandContext, Edit};
use brevet::directory::resource::{Name, Resource, ResourceKind};
use brevet::master_key::MasterKey;
use brevet::store::{Access, Entry, Place, Store, StoreError};

use load::{Keys, Shape, Spread, cpu_seconds, drive, grpc_in_turn, init, pin, resident};

const SPAN: Duration = Duration::from_secs(5);
/// The brokers are loaded in turns, so that whatever else the machine does falls on both.
const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_secs(2);
/// How long a broker is left alone after its start.
const SETTLE: Duration = Duration::from_secs(15);
/// How many different roles are asked for in turn.
const MANY: usize = 4_096;
const CHANGES: u32 = 200;
/// How many pages of users are read one after the other.
const PAGES: u32 = 200;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (roles, users) = (
        numbers.first().copied().unwrap_or(100_000),
        numbers.get(1).copied().unwrap_or(1_000_000),
    );
    pin(std::process::id(), "1");
    let small = Home::new(10, 10);
    let started = Instant::now();
    let large = Home::new(roles, users);
    println!(
        "{roles} roles and {users} users written in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "the store is {} MiB",
        std::fs::metadata(large.path.join("store.db"))
            .unwrap()
            .len()
            >> 20
    );

    let little = Daemon::start(&small.path);
    let daemon = Daemon::start(&large.path);
    println!(
        "start: {:.2} s, of 10 roles {:.3} s (goal: under 10 s)",
        daemon.started.as_secs_f64(),
        little.started.as_secs_f64()
    );
    let (weight, base) = (resident(daemon.child.id()), resident(little.child.id()));
    println!(
        "memory: {} MiB, of 10 roles {} MiB (goal: under 1,536 MiB)",
        weight >> 20,
        base >> 20
    );

    compare(&little, &small, &daemon, &large, roles);

    for (home, daemon, what) in [
        (&small, &little, "10 roles"),
        (&large, &daemon, "all of them"),
    ] {
        let (change, idle) = daemon.change(home);
        println!(
            "one change with {what}: {change:.2} ms of CPU in the broker (idle: {idle:.2} ms a second; goal: under 5 ms)"
        );
    }
    drop((little, daemon));
    // The memory of roles and of users is measured separately, with brokers that have only one of
    // the two.
    for (what, roles, users) in [("role", roles / 10, 10), ("user", 10, users / 10)] {
        // Here every audit record is on stable storage before there is an answer.
        let home = Home::with(roles, users, "");
        let daemon = Daemon::start(&home.path);
        let count = roles.max(users);
        println!(
            "a {what} weighs {} bytes",
            resident(daemon.child.id()).saturating_sub(base) / count as u64
        );
        if what == "user" {
            runtime().block_on(daemon.administer(&home));
        }
    }
}

/// Loads both brokers in turns with AssumeRole, and prints what a call costs them. First always the same role is
/// asked for, whose entry stays in the processor's caches, then many different ones.
fn compare(little: &Daemon, small: &Home, daemon: &Daemon, large: &Home, roles: usize) {
    // What was freed after the start is given back to the system first.
    std::thread::sleep(SETTLE);
    for (what, few, many) in [
        ("of one role", 1, 1),
        ("of many roles in turn", 10, roles.min(MANY)),
    ] {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            costs[0].push(little.assume_role(small, few, 10));
            costs[1].push(daemon.assume_role(large, many, roles));
        }
        let ratios = costs[0].iter().zip(&costs[1]).map(|(ten, all)| all / ten);
        let ratios = Spread::of(ratios.collect::<Vec<_>>()).unwrap();
        let [ten, all] = costs.map(|costs| Spread::of(costs).unwrap().text(1));
        println!(
            "AssumeRole {what}: {all} us of CPU, with 10 roles {ten}: {} of it (goal: at most 1.05; {ROUNDS} rounds, \
             medians)",
            ratios.text(3)
        );
    }
}

/// The folder of a broker.
struct Home {
    _dir: tempfile::TempDir,
    path: PathBuf,
    keys: (String, String),
}

impl Home {
    fn new(roles: usize, users: usize) -> Self {
        Self::with(roles, users, "sync = false\n")
    }

    /// A home with these lines under `[audit]`.
    fn with(roles: usize, users: usize, audit: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("brevet-scale")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let path = dir.path().join("broker");
        let keys = init(load::this_build(), &path);
        let config = path.join("brevet.toml");
        let toml = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, toml + audit + load::WIDE_BUDGETS).unwrap();
        runtime().block_on(fill(&path, roles, users));
        await_checkpoint(&path);
        Self {
            _dir: dir,
            path,
            keys,
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Waits until SQLite has moved the last changes from its log into the file. It does so on a thread of its
/// own when a store is closed, and a broker that began before would do it in the middle of a measurement.
fn await_checkpoint(path: &Path) {
    let log = path.join("store.db-wal");
    let began = Instant::now();
    while log.exists() && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn fill(path: &Path, roles: usize, users: usize) {
    let entropy = SystemEntropy::new();
    let place = Place::Sqlite(path.join("store.db"));
    let master_key = MasterKey::load(&path.join("master.key")).unwrap();
    let store = Store::open(
        &place,
        Access::Use,
        Some(&master_key),
        SystemClock.now(),
        &entropy,
    )
    .await
    .unwrap();
    // A trust policy names a user by the unique id, as commands write it. A broker that finds an ARN replaces it
    // when it starts, which would be measured as well.
    let mut administrator = None;
    store
        .scan::<StoreError>(|kind, id, _, body| {
            if kind == ResourceKind::User && id.ends_with(":user/administrator") {
                let user: serde_json::Value = serde_json::from_str(body).unwrap();
                administrator = user["UserId"].as_str().map(str::to_owned);
            }
            Ok(())
        })
        .await
        .unwrap();
    let administrator = administrator.expect("`init` makes an administrator");
    let parse = |kind, value: serde_json::Value| Resource::parse(kind, &value.to_string()).unwrap();
    let policies = (0..100).map(|n| {
        parse(ResourceKind::Policy, serde_json::json!({"PolicyName": format!("P{n}"), "PolicyId": format!("ANPA{n:017}"), "Path": "/",
            "Arn": format!("arn:aws:iam::111122223333:policy/P{n}"), "DefaultVersionId": "v1",
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": {"Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": format!("arn:aws:s3:::b{n}/*")}]}}]}))
    });
    let roles = (0..roles).map(|n| {
        parse(ResourceKind::Role, serde_json::json!({"RoleName": format!("Role{n}"), "RoleId": format!("AROA{n:017}"), "Path": "/",
            "Arn": format!("arn:aws:iam::111122223333:role/Role{n}"), "MaxSessionDuration": 3600,
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
                "Principal": {"AWS": administrator}, "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:PrincipalAccount": "111122223333"}}}]},
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
                "Action": ["dynamodb:GetItem", "dynamodb:Query"], "Resource": format!("arn:aws:dynamodb:us-east-1:111122223333:table/t{n}")}]}}],
            "AttachedManagedPolicies": [{"PolicyName": format!("P{}", n % 100), "PolicyArn": format!("arn:aws:iam::111122223333:policy/P{}", n % 100)}],
            "Tags": [{"Key": "team", "Value": format!("team-{}", n % 50)}]}))
    });
    let groups = (0..100).map(|n| {
        parse(
            ResourceKind::Group,
            serde_json::json!({"GroupName": format!("G{n}"), "GroupId": format!("AGPA{n:017}"), "Path": "/",
            "Arn": format!("arn:aws:iam::111122223333:group/G{n}"),
            "AttachedManagedPolicies": [{"PolicyArn": format!("arn:aws:iam::111122223333:policy/P{n}")}]}),
        )
    });
    let people = (0..users).map(|n| {
        parse(ResourceKind::User, serde_json::json!({"UserName": format!("user{n}@example.com"), "UserId": format!("AIDA{n:017}"), "Path": "/staff/",
            "Arn": format!("arn:aws:iam::111122223333:user/staff/user{n}@example.com"), "GroupList": [format!("G{}", n % 100)],
            "Tags": [{"Key": "department", "Value": format!("d{}", n % 200)}]}))
    });
    let keys = (0..users / 10).map(|n| {
        let (id, owner) = (format!("AKIA{n:016}"), format!("arn:aws:iam::111122223333:user/staff/user{n}@example.com"));
        let name = brevet::directory::sealing_name("access key", &id, &owner);
        let sealed = master_key.seal(&name, format!("secret-of-{n:030}").as_bytes(), &entropy).unwrap();
        parse(ResourceKind::AccessKey, serde_json::json!({"AccessKeyId": id, "UserArn": owner, "SealedSecretAccessKey": sealed, "Status": "Active"}))
    });
    let mut all = policies
        .chain(roles)
        .chain(groups)
        .chain(people)
        .chain(keys)
        .peekable();
    while all.peek().is_some() {
        let mut writer = store.write_much().await.unwrap();
        let entry = Entry {
            changed_at: SystemClock.now(),
            actor: Actor::operator("bench").text(),
            action: "Fill",
            kind: "store",
            id: "bench".to_owned(),
            detail: "{}".to_owned(),
        };
        writer.record(&entry).await.unwrap();
        for thing in all.by_ref().take(10_000) {
            writer.put(&thing).await.unwrap();
        }
        writer.commit().await.unwrap();
    }
    store.close().await;
}

struct Daemon {
    child: Child,
    address: SocketAddr,
    started: Duration,
}

impl Daemon {
    fn start(path: &Path) -> Self {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_brevet"))
            .args(["serve", "--log-format", "json", "--config"])
            .arg(path.join("brevet.toml"))
            .env("TOKIO_WORKER_THREADS", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = BufReader::new(child.stderr.as_mut().unwrap())
            .lines()
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                line["fields"]["address"]
                    .as_str()
                    .map(|address| address.parse().unwrap())
            })
            .expect("the broker ended before it listened");
        let started = started.elapsed();
        pin(child.id(), "0");
        Self {
            child,
            address,
            started,
        }
    }

    /// The CPU time of AssumeRole in microseconds, with so many different ones of all roles.
    fn assume_role(&self, home: &Home, different: usize, roles: usize) -> f64 {
        let messages: Vec<_> = (0..different)
            .map(|n| pb::AssumeRoleRequest {
                role_arn: format!(
                    "arn:aws:iam::111122223333:role/Role{}",
                    n * roles / different
                ),
                role_session_name: "bench".to_owned(),
                ..pb::AssumeRoleRequest::default()
            })
            .collect();
        let keys = Keys::long_term(&home.keys);
        let request = grpc_in_turn("AssumeRole", &messages, &keys, self.address);
        let shape = Shape::many(ROUND);
        drive(self.address, self.child.id(), &request, shape).cpu_micros
    }

    /// The CPU milliseconds of one change, and of a second without any.
    fn change(&self, home: &Home) -> (f64, f64) {
        let before = cpu_seconds(self.child.id());
        std::thread::sleep(SPAN);
        let idle = (cpu_seconds(self.child.id()) - before) / SPAN.as_secs_f64();
        let (before, started) = (cpu_seconds(self.child.id()), Instant::now());
        runtime().block_on(async {
            let entropy = SystemEntropy::new();
            let place = Place::Sqlite(home.path.join("store.db"));
            let master_key = MasterKey::load(&home.path.join("master.key")).unwrap();
            let store = Store::open(
                &place,
                Access::Use,
                Some(&master_key),
                SystemClock.now(),
                &entropy,
            )
            .await
            .unwrap();
            for n in 0..CHANGES {
                let context = CommandContext {
                    store: &store,
                    master_key: &master_key,
                    entropy: &entropy,
                    now: SystemClock.now(),
                    issuer: None,
                };
                let change = Change::Edit {
                    name: Name::new(
                        ResourceKind::Role,
                        format!("arn:aws:iam::111122223333:role/Role{}", n % 10),
                    ),
                    edit: Edit::UpdateMaxSessionDuration(3_600 + i64::from(n)),
                    expected: None,
                };
                commands::execute(
                    context,
                    &Actor::operator("bench"),
                    "UpdateRole",
                    vec![change],
                )
                .await
                .unwrap();
                // Changes are made one by one, as by administrators.
                tokio::time::sleep(Duration::from_millis(110)).await;
            }
        });
        let spent = cpu_seconds(self.child.id()) - before - idle * started.elapsed().as_secs_f64();
        (spent * 1e3 / f64::from(CHANGES), idle * 1e3)
    }

    /// Prints how long an administrator waits for a page of users and for a new user, and the memory
    /// of the broker afterwards.
    async fn administer(&self, home: &Home) {
        let endpoint = Endpoint {
            url: format!("http://{}", self.address),
            region: "us-east-1".to_owned(),
            ca_pem: None,
        };
        let keys = Credentials::long_term(&home.keys.0, &home.keys.1);
        let client = Client::new(&endpoint, keys).unwrap();
        let before = resident(self.child.id());
        let (mut pages, mut marker) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let mut parameters = vec![("MaxItems", "100")];
            if !marker.is_empty() {
                parameters.push(("Marker", &marker));
            }
            let started = Instant::now();
            let page = client.iam("ListUsers", &parameters).await.unwrap();
            pages.push(started.elapsed());
            marker = page["Marker"].as_str().unwrap_or_default().to_owned();
        }
        let mut created = Vec::new();
        for n in 0..CHANGES {
            let name = format!("colleague{n}");
            let started = Instant::now();
            client
                .iam("CreateUser", &[("UserName", &name)])
                .await
                .unwrap();
            created.push(started.elapsed());
        }
        for (what, mut times, goal) in [
            ("a page of 100 of ListUsers", pages, 20),
            ("CreateUser", created, 10),
        ] {
            times.sort();
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "{what}: p50 {:.2} ms, p99 {:.2} ms (goal: under {goal} ms)",
                milliseconds(times[times.len() / 2]),
                milliseconds(times[times.len() * 99 / 100])
            );
        }
        println!(
            "memory before and after: {} and {} MiB",
            before >> 20,
            resident(self.child.id()) >> 20
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
