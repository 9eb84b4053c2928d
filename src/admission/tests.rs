use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::call::SHORT_ANSWER;
use super::connection::CONNECTION_BUFFER;
use super::*;

const MIB: usize = 1 << 20;

fn admission(connections: usize, calls: usize, bytes: usize) -> Arc<Admission> {
    Admission::new(Bounds {
        connections,
        calls,
        bytes,
    })
}

fn ip(n: u8) -> IpAddr {
    [127, 0, 0, n].into()
}

/// Makes calls on one connection until one is turned away. Returns the calls, and why there were no
/// more.
fn fill(connection: &Arc<Connection>, header_bytes: usize) -> (Vec<Arc<Call>>, Shed) {
    let mut calls = Vec::new();
    loop {
        match connection.call(ip(1), header_bytes, Purpose::Call) {
            Ok(call) => calls.push(call),
            Err(shed) => return (calls, shed),
        }
    }
}

fn is_empty(admission: &Admission) -> bool {
    (
        admission.calls_in_flight(),
        admission.request_memory_bytes(),
    ) == (0, 0)
        && admission.sources() == 0
        && admission
            .awaited
            .iter()
            .all(|awaited| lock(awaited).is_empty())
        && [&admission.revocations, &admission.handshakes]
            .iter()
            .all(|a| a.used.load(Ordering::Relaxed) == 0)
}

#[test]
fn no_source_holds_more_than_a_quarter() {
    let admission = admission(40, 80, 64 * MIB);
    let connections: Vec<_> = (0..10)
        .map(|_| admission.connect(Some(ip(1))).unwrap())
        .collect();
    assert_eq!(admission.connect(Some(ip(1))).err(), Some(Shed::Source));
    let other = admission.connect(Some(ip(2))).unwrap();
    let (calls, shed) = fill(&connections[0], 0);
    assert_eq!((calls.len(), shed), (20, Shed::Source));
    // This covers all connections of the address, also after a caller was authenticated.
    calls[0].prove("alice", [1; 16]);
    assert_eq!(
        connections[1].call(ip(1), 0, Purpose::Call).err(),
        Some(Shed::Source)
    );
    assert!(other.call(ip(2), 0, Purpose::Call).is_ok());
    drop(calls);
    let (calls, shed) = fill(&connections[0], 2 * MIB);
    assert_eq!((calls.len(), shed), (6, Shed::Source), "14 MiB of 64");
    let refusals: Vec<_> = (0..2_000)
        .map_while(|_| connections[0].refusal(ip(1)).ok())
        .collect();
    assert!(
        (512..2_000).contains(&refusals.len()),
        "{}: 2 MiB are kept for them",
        refusals.len()
    );
    assert!(calls[0].charge(MIB).is_err() && calls[0].shed() == Some(Shed::Source));
    assert!(other.call(ip(2), 2 * MIB, Purpose::Call).is_ok());
    drop((calls, refusals, connections, other));
    assert!(is_empty(&admission));
    // An IPv6 network with a 64-bit prefix is one source.
    let of = |text: &str| admission.connect(Some(text.parse().unwrap()));
    let connections: Vec<_> = (0..10)
        .map(|n| of(&format!("2001:db8:1:2::{n}")).unwrap())
        .collect();
    assert!(of("2001:db8:1:2:ffff::").is_err() && of("2001:db8:1:3::").is_ok());
    drop(connections);
    assert!(is_empty(&admission));
}

#[test]
fn a_quarter_is_kept_for_those_who_have_proven_somebody() {
    let admission = admission(1_000, 80, 64 * MIB);
    let connections: Vec<_> = (1..=4)
        .map(|n| admission.connect(Some(ip(n))).unwrap())
        .collect();
    let good = admission.connect(Some(ip(9))).unwrap();
    let unproven: Vec<_> = connections[..3].iter().map(|c| fill(c, 0)).collect();
    assert!(unproven.iter().all(|(calls, _)| calls.len() == 20));
    assert_eq!(fill(&connections[3], 0).1, Shed::Calls);
    assert_eq!(
        good.call(ip(9), 0, Purpose::Call).err(),
        Some(Shed::Calls),
        "nobody knows yet that it is good"
    );
    let calls = {
        good.proven.store(true, Ordering::Relaxed);
        fill(&good, 0)
    };
    assert_eq!((calls.0.len(), calls.1), (20, Shed::Source));
    drop((unproven, calls));

    let unproven: Vec<_> = connections.iter().map(|c| fill(c, MIB)).collect();
    assert_eq!(unproven[3].1, Shed::Memory);
    assert_eq!(
        connections[3].refusal(ip(4)).err(),
        None,
        "what is left of three quarters"
    );
    assert!(good.call(ip(9), 8 * MIB, Purpose::Call).is_ok());
    drop((unproven, connections, good));
    assert!(is_empty(&admission));
}

#[test]
fn behind_a_trusted_proxy_the_client_is_the_source() {
    let admission = admission(4, 80, 64 * MIB);
    // The proxy may have as many connections as there are.
    let proxy: Vec<_> = (0..40).map(|_| admission.connect(None).unwrap()).collect();
    let of = |n: u8| {
        let mut calls = Vec::new();
        while let Ok(call) = proxy[usize::from(n)].call(ip(n), 0, Purpose::Call) {
            calls.push(call);
        }
        calls
    };
    let (one, two, three) = (of(1), of(2), of(3));
    assert_eq!([one.len(), two.len(), three.len()], [20, 20, 20]);
    // A client that was authenticated is known on every connection of the proxy, and no other
    // client is.
    assert!(proxy[0].call(ip(7), 0, Purpose::Call).is_err());
    drop(three);
    proxy[0]
        .call(ip(7), 0, Purpose::Call)
        .unwrap()
        .prove("alice", [2; 16]);
    let three = of(3);
    assert_eq!(three.len(), 20);
    assert!(
        proxy[5].call(ip(7), 0, Purpose::Call).is_ok()
            && proxy[5].call(ip(8), 0, Purpose::Call).is_err()
    );
    assert!(
        proxy[0].bodies().is_none(),
        "a proxy is trusted to be no slow reader"
    );
    drop((one, two, three, proxy));
    assert!(is_empty(&admission));
}

#[test]
fn what_a_call_holds_follows_its_life() {
    let admission = admission(4, 80, 64 * MIB);
    let connection = admission.connect(Some(ip(1))).unwrap();
    let held = || {
        (
            admission.calls_in_flight(),
            admission.request_memory_bytes(),
        )
    };
    let call = connection.call(ip(1), 1_000, Purpose::Call).unwrap();
    assert_eq!(held(), (1, 20_480));
    call.charge(3_000).unwrap();
    assert_eq!(held(), (1, 20_480), "counted in steps");
    call.charge(100_000).unwrap();
    assert_eq!(held(), (1, 122_880));
    call.answered();
    assert_eq!(held(), (0, ANSWER_BYTES));
    call.charge_answer(SHORT_ANSWER);
    assert_eq!(held(), (0, ANSWER_BYTES));
    call.charge_answer(10_000);
    assert_eq!(held(), (0, 16_384));
    drop(call);
    assert_eq!(held(), (0, 0));
    let given_up = connection.call(ip(1), 0, Purpose::Call).unwrap();
    assert_eq!(held(), (1, CALL_BYTES));
    drop(given_up);
    assert_eq!(held(), (0, 0));
}

#[test]
fn what_waits_in_buffers_is_charged_beyond_a_connections_own_share() {
    let admission = admission(4, 80, 64 * MIB);
    let connection = admission.connect(Some(ip(1))).unwrap();
    let held = || admission.request_memory_bytes();
    connection.body_begins();
    connection.body_begins();
    connection.buffered(CONNECTION_BUFFER);
    assert!(connection.settle(0) && held() == 0);
    connection.buffered(100_000);
    assert!(connection.settle(0) && held() == 102_400);
    connection.taken(90_000);
    assert!(connection.settle(0) && held() == 12_288);
    assert!(connection.settle(200_000) && held() == 212_992);
    // At most the source's share: nothing more is read until there is capacity again.
    connection.buffered(17 * MIB);
    assert!(!connection.settle(0));
    connection.taken(17 * MIB);
    assert!(connection.settle(0) && held() == 12_288);
    // Abandoned bodies do not stay charged.
    connection.body_ends();
    assert_eq!(held(), 12_288);
    connection.body_ends();
    assert_eq!(held(), 0);
    connection.buffered(1_000_000);
    assert!(connection.settle(0) && held() > 0);
    drop(connection);
    assert_eq!(held(), 0);
}

#[test]
fn header_blocks_of_a_source_are_unpacked_at_its_pace_until_somebody_is_proven() {
    let admission = admission(16, 80, 64 * MIB);
    let [one, two] = [(); 2].map(|()| admission.connect(Some(ip(1))).unwrap());
    let other = admission.connect(Some(ip(2))).unwrap();
    let proxy = admission.connect(None).unwrap();
    let at = |seconds| admission.started + Duration::from_secs_f64(seconds);
    let source = one.source.clone().unwrap();
    one.unpacked_at(&source, 200_000, at(1.0));
    assert!(
        two.may_unpack_at(&source, at(1.0)),
        "as much as comes in a second may come at once"
    );
    two.unpacked_at(&source, 162_144, at(1.0));
    assert!(!one.may_unpack_at(&source, at(1.0)) && !two.may_unpack_at(&source, at(1.3)));
    assert!(
        other.may_unpack_at(other.source.as_ref().unwrap(), at(1.0)),
        "nobody else waits"
    );
    assert!(one.may_unpack_at(&source, at(1.5)));
    // What was not used in a quiet hour is saved up for one second's worth only.
    one.unpacked_at(&source, 400_000, at(3_600.0));
    assert!(!one.may_unpack_at(&source, at(3_600.0)));
    // A trusted proxy does not count as a source.
    proxy.unpacked(usize::MAX);
    assert!(proxy.may_unpack());
    one.unpacked(10 * MIB);
    assert!(!one.may_unpack() && !two.may_unpack());
    one.call(ip(1), 0, Purpose::Call)
        .unwrap()
        .prove("alice", [3; 16]);
    assert!(one.may_unpack() && !two.may_unpack());
}

#[tokio::test]
async fn the_oldest_connection_that_has_proven_nobody_makes_room() {
    let admission = admission(8, 80, 64 * MIB);
    let connections: Vec<_> = (1..=4)
        .map(|n| admission.connect(Some(ip(n))).unwrap())
        .collect();
    connections[0]
        .call(ip(1), 0, Purpose::Call)
        .unwrap()
        .prove("alice", [4; 16]);
    assert!(admission.make_room());
    tokio::time::timeout(Duration::from_secs(5), connections[1].asked_to_leave())
        .await
        .unwrap();
    drop(connections);
    let late = admission.connect(Some(ip(1))).unwrap();
    assert!(
        admission.make_room(),
        "those that have gone are passed over"
    );
    late.asked_to_leave().await;
    assert!(!admission.make_room());
    // Connections that were closed are forgotten.
    for _ in 0..1_000 {
        admission.connect(Some(ip(1))).unwrap();
    }
    assert!(admission.newcomers.lock().unwrap().len() <= admission.max_newcomers);
}

#[tokio::test]
async fn whoever_waits_to_send_a_body_goes_on_when_somebody_is_proven() {
    let admission = admission(8, 80, 64 * MIB);
    let connection = admission.connect(Some(ip(1))).unwrap();
    let bodies = connection.bodies().unwrap().clone();
    let permits: Vec<_> = (0..UNPROVEN_BODIES)
        .map(|_| bodies.clone().try_acquire_owned().unwrap())
        .collect();
    let waiting = tokio::spawn(bodies.clone().acquire_owned());
    connection
        .call(ip(1), 0, Purpose::Call)
        .unwrap()
        .prove("alice", [5; 16]);
    assert!(waiting.await.unwrap().is_err() && connection.bodies().is_none());
    drop(permits);
}

fn waker() -> &'static Waker {
    Waker::noop()
}

/// Makes calls whose bodies do not arrive, until one is turned away or gives way.
fn wait(connection: &Arc<Connection>, most: usize) -> Vec<Arc<Call>> {
    let calls = (0..most).map_while(|_| connection.call(ip(1), 0, Purpose::Call).ok());
    calls
        .inspect(|call| call.awaits_body(waker()).unwrap())
        .collect()
}

fn waiting(calls: &[Arc<Call>]) -> usize {
    calls.iter().filter(|call| call.shed().is_none()).count()
}

#[test]
fn calls_whose_bodies_are_awaited_give_way() {
    let admission = admission(1_000, 80, 64 * MIB);
    let of = |n| admission.connect(Some(ip(n))).unwrap();
    let attackers = [of(1), of(2), of(3)];
    let held: Vec<_> = attackers.iter().map(|c| wait(c, 100)).collect();
    assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 20]);
    assert_eq!(admission.calls_in_flight(), 60);
    // Each newcomer finds capacity, at the expense of those who use most; in the end all have the
    // same.
    let good = of(9);
    let late = wait(&good, 100);
    assert_eq!(late.len(), 15);
    assert_eq!(
        held.iter().map(|calls| waiting(calls)).collect::<Vec<_>>(),
        [15, 15, 15]
    );
    assert_eq!(admission.calls_in_flight(), 60);
    assert_eq!(held[0][0].shed(), Some(Shed::Calls), "the oldest first");
    assert!(held[0][0].awaits_body(waker()).is_err());
    // A call whose body has arrived does not give way.
    late[0].has_body();
    let more = [of(10), of(11), of(12)].map(|c| wait(&c, 100));
    assert!(more.iter().all(|calls| !calls.is_empty()) && late[0].shed().is_none());
    drop((held, late, more, attackers, good));
    assert!(is_empty(&admission));
}

#[test]
fn bytes_of_bodies_that_are_awaited_give_way() {
    let admission = admission(1_000, 4_000, 64 * MIB);
    let of = |n| admission.connect(Some(ip(n))).unwrap();
    let attackers = [of(1), of(2), of(3)];
    let held: Vec<_> = attackers.iter().map(|c| wait(c, 4)).collect();
    held.iter()
        .flatten()
        .for_each(|call| call.charge(3 * MIB).unwrap());
    // The oldest call of the source that uses most gives way, and no more calls than necessary.
    let good = of(9);
    let call = good.call(ip(9), 0, Purpose::Call).unwrap();
    call.charge(8 * MIB).unwrap();
    let gone: Vec<_> = held
        .iter()
        .map(|calls| calls.iter().filter(|c| c.shed().is_some()).count())
        .collect();
    assert_eq!(gone.iter().sum::<usize>(), 1);
    assert!(
        held.iter()
            .any(|calls| calls[0].shed() == Some(Shed::Memory))
    );
    // A source cannot get more than the others by asking for more.
    assert_eq!(call.charge(8 * MIB), Err(Shed::Source));
    drop((held, call, attackers, good));
    assert!(is_empty(&admission));
}

#[test]
fn revocations_have_room_of_their_own() {
    let admission = admission(1_000, 16, 16 * MIB);
    let of = |n| admission.connect(Some(ip(n))).unwrap();
    let connections: Vec<_> = (1..=4).map(of).collect();
    for (n, connection) in connections.iter().enumerate() {
        connection
            .call(ip(1), 0, Purpose::Call)
            .unwrap()
            .prove(&n.to_string(), [n as u8; 16]);
    }
    // All capacity is used by calls in progress, including calls of the caller that revokes.
    let calls: Vec<_> = connections.iter().map(|c| fill(c, 3 * MIB).0).collect();
    let small: Vec<_> = connections.iter().map(|c| fill(c, 0).0).collect();
    let refusals: Vec<_> = connections
        .iter()
        .flat_map(|c| (0..9_000).map_while(|_| c.refusal(ip(1)).ok()))
        .collect();
    assert_eq!(
        connections[0].call(ip(1), 0, Purpose::Call).err(),
        Some(Shed::Source)
    );
    let revocation = connections[0]
        .call(ip(1), 1_000, Purpose::Revocation)
        .unwrap();
    revocation.charge(1_000).unwrap();
    // Calls that only wait do not keep others out.
    let idle: Vec<_> = (0..REVOCATIONS * 2)
        .map_while(|_| connections[1].call(ip(1), 0, Purpose::Revocation).ok())
        .inspect(|call| call.awaits_body(waker()).unwrap())
        .collect();
    assert!(idle.len() >= 8, "{}", idle.len());
    let late = connections[2]
        .call(ip(1), 1_000, Purpose::Revocation)
        .unwrap();
    assert!(revocation.shed().is_none());
    drop((calls, small, refusals, revocation, idle, late, connections));
    assert!(is_empty(&admission));
}

#[test]
fn a_proof_that_was_seen_elsewhere_proves_no_connection() {
    let admission = admission(100, 80, 64 * MIB);
    let prove = |n, principal: &str, proof| {
        let connection = admission.connect(Some(ip(n))).unwrap();
        connection
            .call(ip(n), 0, Purpose::Call)
            .unwrap()
            .prove(principal, [proof; 16]);
        connection
    };
    let one = prove(1, "alice", 1);
    let copy = prove(2, "alice", 1);
    assert!(one.is_proven() && !copy.is_proven());
    // A proof of its own makes it a proven connection.
    copy.call(ip(2), 0, Purpose::Call)
        .unwrap()
        .prove("alice", [2; 16]);
    assert!(copy.is_proven());
    // The same holds for the clients of a proxy.
    let proxy = admission.connect(None).unwrap();
    for (client, proof, proven) in [(7, 3, true), (8, 3, false), (8, 1, false), (8, 4, true)] {
        proxy
            .call(ip(client), 0, Purpose::Call)
            .unwrap()
            .prove("bob", [proof; 16]);
        assert_eq!(
            admission
                .proven_sources
                .contains_key(&budgets::source(ip(client))),
            proven,
            "{client} {proof}"
        );
    }
}

#[test]
fn a_principal_holds_a_quarter_as_a_source_does() {
    let admission = admission(40, 80, 64 * MIB);
    let all: Vec<_> = (0..12)
        .map(|n| {
            let connection = admission.connect(Some(ip(n))).unwrap();
            connection
                .call(ip(n), 0, Purpose::Call)
                .unwrap()
                .prove("alice", [n; 16]);
            connection
        })
        .collect();
    assert_eq!(all.iter().filter(|c| c.is_proven()).count(), 10);
    let (first, shed) = fill(&all[0], 0);
    assert_eq!((first.len(), shed), (20, Shed::Source));
    assert_eq!(
        all[1].call(ip(1), 0, Purpose::Call).err(),
        Some(Shed::Principal)
    );
    assert!(
        all[11].call(ip(11), 0, Purpose::Call).is_ok(),
        "nobody knows whose it is"
    );
    drop((first, all));
    assert!(is_empty(&admission) && admission.sources.lock().unwrap().is_empty());
}

#[tokio::test]
async fn there_is_always_somebody_who_makes_room() {
    let admission = admission(8, 80, 64 * MIB);
    let connect = |source, principal: &str, proof| {
        let connection = admission.connect(Some(ip(source))).unwrap();
        connection
            .call(ip(source), 0, Purpose::Call)
            .unwrap()
            .prove(principal, [proof; 16]);
        connection
    };
    let bob = connect(1, "bob", 1);
    let alice = [connect(2, "alice", 2), connect(3, "alice", 3)];
    // The connection of the biggest holder that has been idle longest, and then the other.
    alice[0].call(ip(2), 0, Purpose::Call).unwrap();
    let left = async |c: &Connection| {
        tokio::time::timeout(Duration::ZERO, c.asked_to_leave())
            .await
            .is_ok()
    };
    assert!(admission.make_room());
    assert!(left(&alice[1]).await && !left(&alice[0]).await && !left(&bob).await);
    assert!(admission.make_room() && admission.make_room());
    assert!(left(&alice[0]).await && left(&bob).await);
    assert!(!admission.make_room(), "all were asked");
}

#[tokio::test]
async fn handshakes_are_bounded_for_each_source_and_in_all() {
    let admission = admission(1_024, 80, 64 * MIB);
    let most = admission.handshakes.most;
    let of = |n: u8| admission.connect(Some(ip(n))).unwrap();
    let begin = |n: u8| {
        let connection = of(n);
        let handshake = admission.handshake(&connection);
        handshake.map(|handshake| (connection, handshake))
    };
    let left = async |c: &Connection| {
        tokio::time::timeout(Duration::ZERO, c.asked_to_leave())
            .await
            .is_ok()
    };
    let mut held: Vec<_> = (0..4)
        .map(|n| (0..most / 4).map(|_| begin(n).unwrap()).collect::<Vec<_>>())
        .collect();
    for (connection, _) in held.iter().flatten() {
        assert!(!left(connection).await);
    }
    // Beyond the share of a source, its own oldest one is closed for the new one.
    let newest = begin(1).unwrap();
    assert!(left(&held[1][0].0).await && !left(&newest.0).await);
    assert!(!left(&held[0][0].0).await && !left(&held[1][1].0).await);
    held[1].push(newest);
    drop(held[1].remove(0));
    held[3].truncate(2);
    // There is room for one more; after that, the oldest connection of the biggest holder is
    // closed.
    let rest: Vec<_> = (0..most / 4 - 2)
        .map(|n| begin(10 + n as u8).unwrap())
        .collect();
    let late = begin(200).unwrap();
    assert!(left(&held[0][0].0).await);
    assert!(!left(&held[3][0].0).await && !left(&late.0).await);
    drop((held, rest, late));
    assert!(is_empty(&admission));
    // While those that were closed are not gone yet, a source has at most twice its share.
    let crowd: Vec<_> = (0..most).map_while(|_| begin(1).ok()).collect();
    assert_eq!(crowd.len(), most / 2);
    assert_eq!(begin(1).err(), Some(Shed::Source));
    assert!(begin(2).is_ok());
    drop(crowd);
    assert!(is_empty(&admission));
}

#[test]
fn long_requests_have_one_budget_and_give_all_of_it_back() {
    let admission = admission(8, 80, 8 * MIB);
    let connection = admission.connect(Some(ip(1))).unwrap();
    let call = || {
        let call = connection.call(ip(1), 0, Purpose::Call).unwrap();
        call.count_as_long();
        call
    };
    let (first, second) = (call(), call());
    let others = admission.request_memory_bytes();
    // Far more than a source's share, and nothing of it is taken from others.
    first.charge(10 * MIB).unwrap();
    second.charge(5 * MIB).unwrap();
    assert_eq!(admission.long_request_bytes(), 30 * MIB);
    assert_eq!(admission.request_memory_bytes(), others);
    first.charge_long(2 * MIB).unwrap();
    assert_eq!(second.charge(1), Err(Shed::Memory));
    assert_eq!(second.shed(), Some(Shed::Memory));
    assert_eq!(admission.long_request_bytes(), 32 * MIB);
    // The answer to a call, and a call that ends without one, give it back.
    first.answered();
    assert_eq!(admission.long_request_bytes(), 10 * MIB);
    drop(second);
    assert_eq!(admission.long_request_bytes(), 0);
    let third = call();
    third.charge(16 * MIB).unwrap();
    drop((first, third));
    assert_eq!(admission.long_request_bytes(), 0);
    drop(connection);
    assert!(is_empty(&admission));
}
