//! Each server on one core, and the load on the other: what a request costs beside the floors.

use std::net::SocketAddr;
use std::time::Duration;

use crate::brokers::{Broker, Call, Redis, Session, Settings, free_port};
use crate::floors::{self, Floor};
use crate::load::{Keys, Shape, answer_bytes};
use crate::table::{Beside, comparisons, latencies, results};
use crate::{Options, Server, Variant, in_rounds, print_conditions};

const CORE: &str = "0";
const LOADS_CORE: &str = "1";

/// Starts all servers, measures them and prints the tables.
pub fn measure(options: &Options) {
    let start = |settings: &Settings<'_>| Broker::start(settings, CORE);
    let unsynced = start(&Settings {
        unsynced: true,
        ..Settings::default()
    });
    let proxies = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let synced = start(&Settings {
        proxies: Some(proxies.port()),
        ..Settings::default()
    });
    synced.make_nobody();
    let redis = Redis::start(LOADS_CORE);
    let with_redis = redis.as_ref().map(|redis| {
        start(&Settings {
            redis: Some(redis.port),
            ..Settings::default()
        })
    });
    if redis.is_none() {
        println!("redis-server is not installed, so its row is left out");
    }
    let before = options.beside.as_deref().map(|program| {
        start(&Settings {
            program: Some(program),
            ..Settings::default()
        })
    });

    let keys = synced.administrator();
    let [role, limited, user] = [Session::Role, Session::LimitedRole, Session::UserWithMfa]
        .map(|kind| synced.session(kind));
    let bytes = |call: Call, keys: &Keys| {
        let address = match call {
            Call::EnvoyCheck | Call::S3Authorize => proxies,
            _ => synced.address,
        };
        let request = call.request(keys, address);
        answer_bytes(address, &request, synced.pid())
    };
    let floor = |answered: Call, keys: &Keys, floor: Floor| {
        let answer_bytes = bytes(answered, keys);
        floors::Server::start(
            Floor {
                http1: answered.is_http1(),
                answer_bytes,
                ..floor
            },
            CORE,
        )
    };
    let plain = Floor::default();
    let sign = Floor {
        sign: true,
        ..plain
    };
    let [echo, echo_multi, echo_sign, echo_sign_multi] = [
        plain,
        Floor {
            multi_thread: true,
            ..plain
        },
        sign,
        Floor {
            multi_thread: true,
            ..sign
        },
    ]
    .map(|kind| floor(Call::AssumeRole, &keys, kind));
    let hyper_role = floor(Call::QueryAssumeRole, &keys, plain);
    let hyper_sign = floor(Call::QueryAssumeRole, &keys, sign);
    let hyper_identity = floor(Call::QueryGetCallerIdentity, &role, plain);

    let echo_check = floor(Call::EnvoyCheck, &role, plain);
    let hyper_authorize = floor(Call::S3Authorize, &role, plain);
    let hyper_evaluation = floor(Call::Evaluation, &keys, plain);

    let shape = options.shape();
    let lone = Shape {
        in_flight: 1,
        span: shape.span.min(Duration::from_secs(1)),
        ..shape
    };
    let of_floor = |server: &floors::Server| Server {
        address: server.address,
        pid: server.pid(),
    };
    let row = |letter: &'static str, name: &str, server: Server, call: Call, keys| Variant {
        letter,
        name: name.to_owned(),
        beside: Vec::new(),
        server,
        shape,
        call,
        keys,
    };
    let base = |letter, name: &str, server: &floors::Server, call, keys| {
        row(letter, name, of_floor(server), call, keys)
    };
    let own = |name: &str, broker: &Broker, call, keys, beside: Beside| Variant {
        beside: vec![beside],
        ..row("", name, of_broker(broker), call, keys)
    };
    let of_proxy = |name: &str, call, floor| Variant {
        server: Server {
            address: proxies,
            pid: synced.pid(),
        },
        ..own(name, &synced, call, &role, Beside::only(floor))
    };
    let goal = |floor, cpu, rate| Beside { floor, cpu, rate };
    let administrators = unsynced.administrator();
    let mut variants = vec![
        base("a", "tonic echo", &echo, Call::AssumeRole, &keys),
        Variant {
            beside: vec![Beside::only("a")],
            ..base(
                "",
                "tonic echo, multi-thread runtime",
                &echo_multi,
                Call::AssumeRole,
                &keys,
            )
        },
        base(
            "b",
            "tonic echo and one signature",
            &echo_sign,
            Call::AssumeRole,
            &keys,
        ),
        Variant {
            beside: vec![Beside::only("b")],
            ..base(
                "",
                "tonic echo and one signature, multi-thread runtime",
                &echo_sign_multi,
                Call::AssumeRole,
                &keys,
            )
        },
        base(
            "c",
            "tonic echo, bytes of GetCallerIdentity",
            &echo,
            Call::GetCallerIdentity,
            &role,
        ),
        base(
            "d",
            "hyper, bytes of AssumeRole",
            &hyper_role,
            Call::QueryAssumeRole,
            &keys,
        ),
        base(
            "e",
            "hyper and one signature, bytes of AssumeRole",
            &hyper_sign,
            Call::QueryAssumeRole,
            &keys,
        ),
        base(
            "f",
            "hyper, bytes of GetCallerIdentity",
            &hyper_identity,
            Call::QueryGetCallerIdentity,
            &role,
        ),
        base(
            "g",
            "tonic echo, bytes of Envoy's Check",
            &echo_check,
            Call::EnvoyCheck,
            &role,
        ),
        base(
            "h",
            "hyper, bytes of GET /s3/authorize",
            &hyper_authorize,
            Call::S3Authorize,
            &role,
        ),
        base(
            "i",
            "hyper, bytes of an evaluation of AuthZEN",
            &hyper_evaluation,
            Call::Evaluation,
            &keys,
        ),
        own(
            "AssumeRole, audit on stable storage",
            &synced,
            Call::AssumeRole,
            &keys,
            goal("b", Some(0.83), Some(1.2)),
        ),
        own(
            "AssumeRole, audit written and not synced",
            &unsynced,
            Call::AssumeRole,
            &administrators,
            Beside::only("b"),
        ),
        own(
            "AssumeRole with three tags and a session policy",
            &synced,
            Call::LimitedAssumeRole,
            &keys,
            Beside::only("b"),
        ),
        own(
            "GetSessionToken",
            &synced,
            Call::GetSessionToken,
            &keys,
            Beside::only("b"),
        ),
        own(
            "GetCallerIdentity, a role's session",
            &synced,
            Call::GetCallerIdentity,
            &role,
            goal("c", Some(1.25), None),
        ),
        own(
            "GetCallerIdentity, with tags and a session policy",
            &synced,
            Call::GetCallerIdentity,
            &limited,
            Beside::only("c"),
        ),
        own(
            "GetCallerIdentity, a user's session with MFA",
            &synced,
            Call::GetCallerIdentity,
            &user,
            Beside::only("c"),
        ),
        own(
            "AssumeRole by Query, audit on stable storage",
            &synced,
            Call::QueryAssumeRole,
            &keys,
            goal("e", Some(0.9), None),
        ),
        own(
            "GetCallerIdentity by Query, a role's session",
            &synced,
            Call::QueryGetCallerIdentity,
            &role,
            goal("f", Some(1.6), None),
        ),
        of_proxy("Envoy's Check, a role's session", Call::EnvoyCheck, "g"),
        of_proxy(
            "GET /s3/authorize, a role's session",
            Call::S3Authorize,
            "h",
        ),
        own(
            "AuthZEN evaluation, allowed",
            &synced,
            Call::Evaluation,
            &keys,
            Beside::only("i"),
        ),
        own(
            "AuthZEN evaluation, refused",
            &synced,
            Call::RefusedEvaluation,
            &keys,
            Beside::only("i"),
        ),
    ];
    let redis_keys = with_redis.as_ref().map(Broker::administrator);
    if let (Some(broker), Some(keys)) = (&with_redis, &redis_keys) {
        variants.push(own(
            "AssumeRole, audit on stable storage, with Redis",
            broker,
            Call::AssumeRole,
            keys,
            goal("b", Some(1.0), Some(1.0)),
        ));
    }
    for (name, server, keys) in [
        ("tonic echo and one signature", of_floor(&echo_sign), &keys),
        (
            "AssumeRole, audit on stable storage",
            of_broker(&synced),
            &keys,
        ),
        (
            "AssumeRole, audit written and not synced",
            of_broker(&unsynced),
            &administrators,
        ),
    ] {
        variants.push(lone_call(name, server, keys, lone));
    }
    let keys_before = before.as_ref().map(|broker| {
        let role = broker.session(Session::Role);
        (broker.administrator(), role)
    });
    if let (Some(broker), Some((keys, role))) = (&before, &keys_before) {
        let beside = |name: &str, call, keys, floor| {
            own(
                &format!("other executable: {name}"),
                broker,
                call,
                keys,
                Beside::only(floor),
            )
        };
        variants.push(beside("AssumeRole", Call::AssumeRole, keys, "b"));
        variants.push(beside(
            "GetCallerIdentity",
            Call::GetCallerIdentity,
            role,
            "c",
        ));
        let name = "other executable: AssumeRole";
        variants.push(lone_call(name, of_broker(broker), keys, lone));
    }

    let rows = in_rounds(&variants, options);
    let (alone, rows): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| row.outcomes.iter().any(|o| o.latency_micros.is_some()));
    print_conditions(
        options,
        &format!(
            "{} calls in flight, gRPC on four connections",
            options.in_flight
        ),
    );
    println!("{}", results(&rows));
    println!("{}", comparisons(&rows));
    println!("{}", latencies(&alone));
}

fn of_broker(broker: &Broker) -> Server {
    Server {
        address: broker.address,
        pid: broker.pid(),
    }
}

/// One call after the other, for its time.
fn lone_call<'a>(name: &str, server: Server, keys: &'a Keys, shape: Shape) -> Variant<'a> {
    Variant {
        letter: "",
        name: format!("lone {name}"),
        beside: Vec::new(),
        server,
        shape,
        call: Call::AssumeRole,
        keys,
    }
}
