//! What people and their programs cost a broker with 100,000 roles: a program that asks whether a person has
//! decided, the pages, and the lists of roles.
//!
//! Run with `cargo bench --bench sign_in [-- ROLES]`. The broker runs in this process and is called over HTTP,
//! on one connection. Its CPU time is that of the process without that of the thread that calls.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use brevet::audit::Target;
use brevet::base::clock::{Clock, SystemClock};
use brevet::base::entropy::SystemEntropy;
use brevet::budgets::BudgetLimits;
use brevet::config::Config;
use brevet::master_key::MasterKey;
use brevet::origin::Origin;
use brevet::session::keyring::Keyring;
use brevet::sign_in::{self, Method, NewSignIn, roles};
use brevet::sign_ins::Settings;
use brevet::signed_in::{Factor, Who};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";
const ISSUER: &str = "https://idp.example";
/// The roles that the provider's people may have.
const OF_PROVIDER: usize = 100;
/// How many programs wait for a decision. Each asks twice in a second at most.
const PROGRAMS: usize = 500;

fn main() {
    let mut numbers = std::env::args().filter_map(|a| a.parse().ok());
    let count: usize = numbers.next().unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let running = runtime.block_on(start(folder.path(), count));
    let broker = &running.broker;
    let origin = Origin {
        source_ip: [127, 0, 0, 1].into(),
        secure_transport: true,
        user_agent: Some("bench".to_owned()),
        referer: None,
        certificate: None,
        call: None,
    };
    let new = |who| NewSignIn {
        who,
        factors: vec![Factor {
            method: Method::Fed,
            at: SystemClock.now(),
            device: None,
        }],
        ends_by: None,
        provider_session: None,
        password: None,
        must_change_password: false,
    };
    let begin = |who| runtime.block_on(sign_in::begin(broker, new(who), &origin));
    let user = broker
        .directory
        .load()
        .user(&arn("user/anna"))
        .unwrap()
        .clone();
    let (user, _) = begin(Who::User {
        account: user.account,
        id: user.id.to_string(),
        name: user.name.to_string(),
        arn: user.arn.to_string(),
    })
    .unwrap();
    let (person, cookie) = begin(vouched_for()).unwrap();

    let mut wire = Wire::connect(running.address);
    let idle = wire.server_cpu(0, |_, _| std::thread::sleep(Duration::from_secs(2)));
    println!("{count} roles; idle: {:.0} us of CPU a second", idle / 2.0);

    let own = wire.json(
        "/client/register",
        &json!({"clientName": "bench", "clientType": "public"}),
    );
    let flow = |wire: &mut Wire| {
        let asked = json!({"clientId": own["clientId"], "clientSecret": own["clientSecret"],
            "startUrl": "https://brevet.awsapps.com/start"});
        let flow = wire.json("/device_authorization", &asked);
        let asked = json!({"clientId": own["clientId"], "clientSecret": own["clientSecret"],
            "grantType": "urn:ietf:params:oauth:grant-type:device_code", "deviceCode": flow["deviceCode"]});
        Wire::request(
            "POST",
            "/token",
            "content-type: application/json\r\n",
            &asked.to_string(),
        )
    };
    let polls: Vec<String> = (0..PROGRAMS).map(|_| flow(&mut wire)).collect();
    let mut best = f64::MAX;
    for _ in 0..6 {
        let each = wire.server_cpu(2 * PROGRAMS, |wire, n| {
            let (status, body) = wire.send(&polls[n % PROGRAMS]);
            assert!(
                status == 400 && body.contains("authorization_pending"),
                "{body}"
            );
        });
        best = best.min(each);
        // Those who ask more often are told to slow down.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    println!("a poll of a pending device: {best:.0} us (goal: under 100 us)");

    let session = format!("cookie: __Host-brevet={}\r\n", cookie.expose());
    for (path, shows) in [
        ("/sign-in", "Sign in"),
        ("/portal", "Role000007"),
        ("/portal/sessions", "My sessions"),
        ("/device", "Connect a device"),
    ] {
        let cookie = if path == "/sign-in" { "" } else { &session };
        let page = Wire::request("GET", path, cookie, "");
        let (status, body) = wire.send(&page);
        assert!(
            status == 200 && body.contains(shows),
            "{path}: {status} {body}"
        );
        let best =
            (0..3).map(|_| wire.server_cpu(500, |wire, _| assert_eq!(wire.send(&page).0, 200)));
        let best = best.fold(f64::MAX, f64::min);
        println!(
            "page {path}: {:.2} ms (goal: under 5 ms), {:.1} kB (goal: under 30 kB)",
            best / 1_000.0,
            body.len() as f64 / 1_000.0
        );
    }

    for (whose, sign_in, goal) in [
        ("a person whom the provider vouches for", &person, 1),
        ("a user", &user, 5),
    ] {
        let list = || async {
            let all = |_: &roles::Choice| true;
            let page = roles::page(broker, sign_in, None, None, 100, all, &origin);
            assert_eq!(page.await.unwrap().choices.len(), 100);
        };
        let best = (0..3).map(|_| {
            let before = now(ClockId::ThreadCPUTime);
            for _ in 0..50 {
                runtime.block_on(list());
            }
            (now(ClockId::ThreadCPUTime) - before).as_secs_f64() * 1_000.0 / 50.0
        });
        let best = best.fold(f64::MAX, f64::min);
        println!("100 roles of {whose}: {best:.2} ms (goal: under {goal} ms)");
    }
}

fn arn(what: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{what}")
}

/// Starts a broker whose account has so many roles. The people of a provider may have the first of them, the
/// users of the account all others.
async fn start(folder: &std::path::Path, count: usize) -> brevet::server::Running {
    let allow = |principal: Value, action: &str, condition: Value| {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": action,
            "Condition": condition}]})
    };
    let provider = arn("oidc-provider/idp.example");
    let roles: Vec<Value> = (0..count)
        .map(|n| {
            let trust = match n < OF_PROVIDER {
                true => allow(
                    json!({"Federated": provider}),
                    "sts:AssumeRoleWithWebIdentity",
                    json!({"StringEquals": {"idp.example:aud": "brevet"},
                        "ForAnyValue:StringEquals": {"idp.example:groups": "admins"}}),
                ),
                false => allow(json!({"AWS": arn("root")}), "sts:AssumeRole", json!({})),
            };
            let name = format!("Role{n:06}");
            json!({"RoleName": name, "Arn": arn(&format!("role/{name}")), "AssumeRolePolicyDocument": trust})
        })
        .collect();
    let may = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Resource": "*"}]});
    let directory = json!({
        "UserDetailList": [{"UserName": "anna", "UserId": "AIDA000000000000ANNA1", "Arn": arn("user/anna"),
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": may}]}],
        "RoleDetailList": roles,
        "Brevet": {"OpenIDConnectProviders": [{"Arn": provider, "Url": ISSUER, "ClientIDList": ["brevet"]}]},
    });
    let at = |name: &str| folder.join(name);
    brevet::files::write_private(&at("directory.json"), directory.to_string().as_bytes()).unwrap();
    let entropy = Arc::new(SystemEntropy::new());
    let keyring = Keyring::generate(&*entropy, SystemClock.now()).unwrap();
    brevet::keyring_file::save(&keyring, &at("keyring.json")).unwrap();
    MasterKey::create(&at("master.key"), &*entropy).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        operator: any,
        regions: vec!["us-east-1".into()],
        directory: Some(at("directory.json")),
        master_key: Some(at("master.key")),
        audit: Target::Discard,
        budgets: BudgetLimits::OFF,
        sign_in: Some(Settings::at("http://{address}")),
        ..Config::in_folder(folder, any)
    };
    brevet::server::start(config, Arc::new(SystemClock), entropy)
        .await
        .unwrap()
}

/// A person of the provider, as its ID token was understood.
fn vouched_for() -> Who {
    let kept = json!({
        "provider_arn": arn("oidc-provider/idp.example"), "account": ACCOUNT,
        "issuer": ISSUER, "subject": "248289761001", "audience": "brevet",
        "principal_id": format!("{ISSUER}:brevet:248289761001"),
        "keys": [["idp.example:sub", {"One": "248289761001"}], ["idp.example:aud", {"One": "brevet"}],
            ["idp.example:preferred_username", {"One": "anna"}],
            ["idp.example:groups", {"Many": ["admins", "dev"]}]],
        "tags": [], "transitive_tag_keys": [], "source_identity": null, "roles": null,
        "session_seconds": null, "session_ends_by": null, "assertion": null,
        "remembered": {"WebIdentity": {"subject": "248289761001", "audience": "brevet",
            "authentication_methods": [], "methods_are_a_list": false, "node": ""}},
    });
    Who::Federated(Arc::new(serde_json::from_value(kept).unwrap()))
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// A connection that stays open.
struct Wire {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Wire {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            host: address.to_string(),
            buffer: vec![0; 1 << 20],
        }
    }

    /// A request without its `Host`.
    fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n{headers}host: HOST\r\n\r\n{body}",
            body.len()
        )
    }

    fn json(&mut self, path: &str, body: &Value) -> Value {
        let headers = "content-type: application/json\r\n";
        let (status, body) = self.send(&Self::request("POST", path, headers, &body.to_string()));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn send(&mut self, request: &str) -> (u16, String) {
        let request = request.replacen("HOST", &self.host, 1);
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut read = 0;
        loop {
            read += self.stream.read(&mut self.buffer[read..]).unwrap();
            let text = std::str::from_utf8(&self.buffer[..read]).unwrap_or_default();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut lines = head.lines();
            let status = lines.next().unwrap()[9..12].parse().unwrap();
            let length = lines.find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() == length.unwrap_or_default() {
                return (status, body.to_owned());
            }
        }
    }

    /// The microseconds of all other threads for each of so many calls; of one call, if `times` is 0.
    fn server_cpu(&mut self, times: usize, mut call: impl FnMut(&mut Self, usize)) -> f64 {
        let clocks = || (now(ClockId::ProcessCPUTime), now(ClockId::ThreadCPUTime));
        let (all, own) = clocks();
        (0..times.max(1)).for_each(|n| call(self, n));
        let (all, own) = (clocks().0 - all, clocks().1 - own);
        all.saturating_sub(own).as_secs_f64() * 1e6 / times.max(1) as f64
    }
}
