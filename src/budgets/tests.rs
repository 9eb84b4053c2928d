use super::*;

const ACCOUNT: &str = "111122223333";

fn limits(calls: u32, reads: u32, account: u32, unproven: u32) -> BudgetLimits {
    BudgetLimits {
        principal_calls: NonZeroU32::new(calls),
        principal_reads: NonZeroU32::new(reads),
        account_calls: NonZeroU32::new(account),
        unproven_calls: NonZeroU32::new(unproven),
        ..BudgetLimits::OFF
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes `asked` calls at one instant. Returns how many were admitted.
fn passed(budgets: &Budgets, principal: &str, asked: usize, now: Duration) -> usize {
    (0..asked)
        .filter(|_| budgets.call(CountedAs::Call, by(principal), now).is_ok())
        .count()
}

/// A call of a principal that was authenticated by a token, and so has no signature.
fn by(principal: &str) -> Counted<'_> {
    Counted {
        principal,
        account: ACCOUNT,
        signature: None,
        amount: 1,
        subjects: &[],
    }
}

fn exchange(brokers: &[&Budgets], total: &mut i64, now: Duration) {
    for budgets in brokers {
        for sent in budgets.unsent(100) {
            *total += i64::try_from(sent.calls).unwrap();
            budgets.heard(&sent, Some(*total), now);
        }
    }
}

#[test]
fn twice_a_seconds_calls_may_come_at_once_and_time_gives_them_back() {
    let budgets = Budgets::new(limits(2, 0, 0, 0));
    assert_eq!(passed(&budgets, "a", 10, seconds(0)), 4);
    assert_eq!(passed(&budgets, "b", 10, seconds(0)), 4, "each has its own");
    assert_eq!(passed(&budgets, "a", 10, Duration::from_millis(500)), 1);
    // A refused call costs nothing, however often it is repeated.
    for millis in 500..1_000 {
        assert_eq!(passed(&budgets, "a", 1, Duration::from_millis(millis)), 0);
    }
    assert_eq!(passed(&budgets, "a", 10, seconds(1)), 1);
    assert_eq!(passed(&budgets, "a", 10, seconds(100)), 4);
    assert_eq!(
        passed(&Budgets::new(BudgetLimits::OFF), "a", 1_000, seconds(0)),
        1_000
    );
}

#[test]
fn what_would_be_refused_is_known_before_it_is_counted() {
    let budgets = Budgets::new(limits(4, 0, 8, 0));
    let admits = |principal, now| budgets.admit(principal, ACCOUNT, now);
    for n in 0..8 {
        assert_eq!(admits("alice", seconds(0)), Ok(()), "{n}");
        assert_eq!(passed(&budgets, "alice", 1, seconds(0)), 1, "{n}");
    }
    assert_eq!(admits("alice", seconds(0)), Err(Exceeded::Principal));
    assert_eq!(admits("alice", seconds(1)), Ok(()));
    // Others use up the account, but not the reserve of somebody who calls little.
    assert_eq!(passed(&budgets, "bob", 8, seconds(0)), 8);
    assert_eq!(admits("carol", seconds(0)), Ok(()));
    assert_eq!(passed(&budgets, "carol", 3, seconds(0)), 2);
    assert_eq!(admits("carol", seconds(0)), Err(Exceeded::Account));
}

#[test]
fn calls_reads_accounts_and_sources_are_counted_apart() {
    let budgets = Budgets::new(limits(2, 3, 3, 1));
    let call = |who, kind| budgets.call(kind, by(who), seconds(0));
    let count = |who, kind| (0..20).filter(|_| call(who, kind).is_ok()).count();
    assert_eq!(count("a", CountedAs::Read), 6);
    assert_eq!(call("a", CountedAs::Read), Err(Exceeded::Reads));
    assert_eq!(
        count("a", CountedAs::Call),
        4,
        "reads count for neither the principal's calls nor the account"
    );
    assert_eq!(call("a", CountedAs::Call), Err(Exceeded::Principal));
    // The six calls of the account, and the minimum of the reserve.
    assert_eq!(count("b", CountedAs::Call), 4);
    assert_eq!(call("c", CountedAs::Call), Err(Exceeded::Account));
    let source = source([192, 0, 2, 1].into());
    let unproven = || budgets.unproven(source, seconds(0));
    assert_eq!(
        [unproven(), unproven(), unproven()],
        [Ok(()), Ok(()), Err(Exceeded::Source)]
    );
    budgets.proven(source);
    assert_eq!([unproven(), unproven()], [Ok(()), Err(Exceeded::Source)]);
}

#[test]
fn whoever_calls_little_is_served_while_others_use_up_the_account() {
    let budgets = Budgets::new(limits(100, 0, 2_000, 0));
    let (mut busy, mut little) = (0, 0);
    for tenth in 0..100 {
        let now = Duration::from_millis(tenth * 100);
        for n in 0..40 {
            busy += passed(&budgets, &format!("busy{n}"), 10, now);
        }
        little += passed(&budgets, "little", 1, now);
    }
    assert_eq!(little, 100, "ten a second of a hundred");
    // 2,000 per second and the same number as a burst, and from the reserve an eighth of each
    // principal's own budget.
    assert!(busy <= 10 * 2_000 + 4_000 + 40 * (10 * 12 + 24), "{busy}");
}

#[test]
fn a_signature_that_comes_again_uses_a_half_and_revocations_have_their_own() {
    let budgets = Budgets::new(limits(100, 40, 0, 0));
    let call = |counted_as, signature: &[u8]| {
        budgets.call(
            counted_as,
            Counted {
                signature: Some(signature),
                ..by("a")
            },
            seconds(0),
        )
    };
    let count = |counted_as, signature: &[u8]| {
        (0..500)
            .filter(|_| call(counted_as, signature).is_ok())
            .count()
    };
    assert_eq!(count(CountedAs::Call, b"captured"), 100);
    assert_eq!(call(CountedAs::Call, b"captured"), Err(Exceeded::Repeats));
    assert_eq!(count(CountedAs::Read, b"captured"), 40);
    assert_eq!(
        (0..500_u32)
            .filter(|n| call(CountedAs::Call, &n.to_be_bytes()).is_ok())
            .count(),
        100
    );
    assert_eq!(call(CountedAs::Call, b"another"), Err(Exceeded::Principal));
    assert_eq!(
        (0..500_u32)
            .filter(|n| call(CountedAs::Revocation, &n.to_le_bytes()).is_ok())
            .count(),
        20
    );
    assert_eq!(
        call(CountedAs::Revocation, b"another"),
        Err(Exceeded::Revocations)
    );
}

#[test]
fn a_source_is_an_ipv4_address_or_a_customers_ipv6_network() {
    let of = |text: &str| source(text.parse().unwrap());
    assert_eq!(
        of("2001:db8:0:1::1"),
        of("2001:db8:0:1:ffff:ffff:ffff:ffff")
    );
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_ne!(of("::1"), of("127.0.0.1"));
}

#[test]
fn no_number_of_sources_makes_the_table_grow_and_none_is_free() {
    let budgets = Budgets::new(limits(0, 0, 0, 1));
    let from = |n: u32| source(std::net::Ipv6Addr::from(u128::from(n) << 64).into());
    let unproven = |n, now| budgets.unproven(from(n), now).is_ok();
    let all = 200_000;
    let passed = (0..all).filter(|n| unproven(*n, seconds(0))).count();
    // 16 shards of 4,096 keys, and in each shard two calls for all other keys together.
    assert!((60_000..=65_536 + 32).contains(&passed), "{passed}");
    assert!(!unproven(all, seconds(0)));
    // Keys that were counted separately have kept the rest of their budget.
    assert!(unproven(0, seconds(0)) && !unproven(0, seconds(0)));
    // Expired keys make room.
    assert!((0..all).filter(|n| unproven(all + n, seconds(1))).count() > 60_000);
    budgets.sweep_calls(seconds(60));
    assert!(unproven(all, seconds(60)));
}

#[test]
fn long_names_are_counted_like_short_ones() {
    let budgets = Budgets::new(limits(1, 0, 0, 0));
    let long = "x".repeat(100_000);
    assert_eq!(passed(&budgets, &long, 10, seconds(0)), 2);
    assert_eq!(passed(&budgets, &format!("{long}y"), 10, seconds(0)), 2);
    assert!(
        budgets
            .unsent(10)
            .iter()
            .all(|unsent| unsent.name().len() == 32)
    );
}

#[test]
fn brokers_share_a_limit_and_take_what_the_others_leave_over() {
    let (one, two) = (
        Budgets::new(limits(10, 0, 0, 0)),
        Budgets::new(limits(10, 0, 0, 0)),
    );
    for budgets in [&one, &two] {
        budgets.share_among(2);
    }
    assert_eq!(
        (
            passed(&one, "a", 100, seconds(0)),
            passed(&two, "a", 100, seconds(0))
        ),
        (10, 10)
    );
    let mut total = 0;
    let mut run = |busy: &[(&Budgets, usize)], from: u64| {
        let mut sums = vec![0; busy.len()];
        for tenth in 0..100 {
            let now = seconds(from) + Duration::from_millis(100 * tenth);
            for ((budgets, asked), sum) in busy.iter().zip(&mut sums) {
                *sum += passed(budgets, "a", *asked, now);
            }
            exchange(&[&one, &two], &mut total, now);
        }
        sums
    };
    let both = run(&[(&one, 10), (&two, 10)], 10);
    assert!(both.iter().all(|sum| (45..=70).contains(sum)), "{both:?}");
    // The other broker is idle: within two seconds its share is used as well, but never more than
    // the limit.
    let alone = run(&[(&one, 10)], 20);
    assert!((85..=110).contains(&alone[0]), "{alone:?}");
    // It returns, and has at least its equal share at once.
    let both = run(&[(&one, 10), (&two, 10)], 30);
    assert!(both[1] >= 45 && both[0] + both[1] <= 135, "{both:?}");
}

#[test]
fn what_others_write_moves_the_share_and_never_refuses() {
    let budgets = Budgets::new(limits(10, 0, 0, 0));
    budgets.share_among(2);
    let mut now = seconds(0);
    let mut hear = |total: Option<i64>| {
        now += seconds(4);
        assert_eq!(passed(&budgets, "a", 1, now), 1);
        for sent in budgets.unsent(10) {
            budgets.heard(&sent, total, now);
        }
        now += seconds(4);
        passed(&budgets, "a", 100, now)
    };
    for odd in [
        Some(0),
        Some(i64::MAX),
        Some(i64::MIN),
        None,
        Some(-1),
        Some(1),
        Some(i64::MAX),
        Some(i64::MAX),
        Some(0),
    ] {
        let passed = hear(odd);
        assert!((10..=20).contains(&passed), "{odd:?}: {passed}");
    }
    // A single broker has the whole limit, whatever was reported.
    budgets.share_among(0);
    assert_eq!(hear(Some(i64::MAX)), 20);
    // A share of less than one call still admits one call at a time.
    budgets.share_among(usize::MAX);
    assert_eq!(passed(&budgets, "b", 10, seconds(0)), 1);
    assert_eq!(passed(&budgets, "b", 10, seconds(3_600 * 24 * 365)), 1);
}

#[test]
fn the_busiest_keys_are_told_first_and_the_others_get_their_turn() {
    let budgets = Budgets::new(limits(100, 0, 0, 0));
    for n in 0..100 {
        assert_eq!(passed(&budgets, &format!("{n}"), n, seconds(0)), n);
    }
    let calls = |most| {
        budgets
            .unsent(most)
            .iter()
            .map(|unsent| unsent.calls)
            .sum::<u64>()
    };
    assert_eq!(calls(10), (90..100).sum::<u64>());
    assert_eq!(calls(0), 0);
    assert_eq!(calls(1_000), (0..90).sum::<u64>());
    assert_eq!(calls(1_000), 0);
}

#[test]
fn sessions_that_live_are_counted_for_the_principal_and_for_the_account() {
    let budgets = Budgets::new(BudgetLimits {
        principal_sessions: NonZeroU32::new(2),
        account_sessions: NonZeroU32::new(3),
        ..BudgetLimits::OFF
    });
    let at = Timestamp::from_seconds;
    let session = |who, now, end| budgets.session(who, ACCOUNT, at(now), at(end)) == Ok(());
    assert!(session("a", 0, 900) && session("a", 0, 3_600) && !session("a", 0, 900));
    assert!(
        session("b", 0, 900) && !session("b", 0, 900),
        "the account has three"
    );
    assert!(
        session("a", 961, 3_600) && !session("a", 961, 3_600),
        "one of a's has ended"
    );
    budgets.sweep_sessions(at(10_000));
    assert!(session("a", 10_000, 20_000));
}

#[test]
fn a_call_that_counts_as_several_uses_up_what_comes_later() {
    let decisions = [0, 1, 10, 11, 4_000];
    assert_eq!(decisions.map(calls_of_decisions), [1, 1, 1, 2, 400]);
    let budgets = Budgets::new(limits(0, 10, 0, 0));
    let read = |amount, signature, now| {
        let caller = Counted {
            amount,
            signature,
            ..by("a")
        };
        budgets.call(CountedAs::Read, caller, now)
    };
    // Twenty may come at once.
    assert_eq!(read(15, None, seconds(0)), Ok(()));
    assert_eq!(read(25, None, seconds(0)), Ok(()));
    assert_eq!(read(1, None, seconds(0)), Err(Exceeded::Reads));
    let unsent: Vec<u64> = budgets.unsent(10).iter().map(|sent| sent.calls).collect();
    assert_eq!(unsent, [40], "the other brokers are told of all");
    // A refused call costs nothing, and ten of the forty are given back in a second.
    assert_eq!(read(400, None, seconds(2)), Err(Exceeded::Reads));
    assert_eq!(read(1, None, seconds(3)), Ok(()));
    // As much as half may have one signature: ten a second, and at least ten.
    let captured = Some(b"captured".as_slice());
    assert_eq!(read(30, captured, seconds(100)), Ok(()));
    assert_eq!(read(1, captured, seconds(100)), Err(Exceeded::Repeats));
}

#[test]
fn several_calls_at_once_do_not_exceed_the_half_for_one_signature() {
    let budgets = Budgets::new(limits(0, 100, 0, 0));
    let read = |amount: u64, signature: &[u8], now: Duration| {
        let caller = Counted {
            amount,
            signature: Some(signature),
            ..by("a")
        };
        budgets.call(CountedAs::Read, caller, now)
    };
    // A hundred with one signature may come at once.
    for n in 0..99 {
        assert_eq!(read(1, b"captured", seconds(0)), Ok(()), "{n}");
    }
    assert_eq!(read(2, b"captured", seconds(0)), Err(Exceeded::Repeats));
    assert_eq!(read(1, b"captured", seconds(0)), Ok(()));
    // More than that at once is possible for a signature that was hardly used, also if the first of them was counted
    // before the others.
    assert_eq!(read(1, b"captured", seconds(100)), Ok(()));
    assert_eq!(read(150, b"captured", seconds(100)), Ok(()));
    assert_eq!(read(1, b"captured", seconds(100)), Err(Exceeded::Repeats));
    // A hundred are given back in two seconds, which leaves room for 49.
    assert_eq!(read(50, b"captured", seconds(102)), Err(Exceeded::Repeats));
    assert_eq!(read(49, b"captured", seconds(102)), Ok(()));
}

#[test]
fn one_subject_uses_half_of_what_a_service_may_ask() {
    let asks = |budgets: &Budgets, service: &str, subject: &str, amount: u64, now: Duration| {
        let subjects = [(subject.to_owned(), amount)];
        let caller = Counted {
            amount,
            subjects: &subjects,
            ..by(service)
        };
        budgets.call(CountedAs::Read, caller, now)
    };
    let budgets = Budgets::new(limits(0, 100, 0, 0));
    let asks_one = |service: &str, subject: &str, amount: u64| {
        asks(&budgets, service, subject, amount, seconds(0))
    };
    // Two hundred may come at once.
    assert_eq!(asks_one("gateway", "busy", 60), Ok(()));
    assert_eq!(asks_one("gateway", "busy", 60), Err(Exceeded::Subjects));
    assert_eq!(asks_one("gateway", "busy", 40), Ok(()));
    assert_eq!(asks_one("gateway", "busy", 1), Err(Exceeded::Subjects));
    assert_eq!(asks_one("another", "busy", 60), Ok(()));
    // Refused questions have cost the service nothing.
    for n in 0..100 {
        assert_eq!(asks_one("gateway", "quiet", 1), Ok(()), "{n}");
    }
    assert_eq!(asks_one("gateway", "third", 1), Err(Exceeded::Reads));
    // Time gives a subject its half again.
    assert_eq!(asks(&budgets, "gateway", "busy", 50, seconds(1)), Ok(()));
    let again = asks(&budgets, "gateway", "busy", 1, seconds(1));
    assert_eq!(again, Err(Exceeded::Subjects));
    budgets.sweep_calls(seconds(60));
    assert_eq!(asks(&budgets, "gateway", "busy", 100, seconds(60)), Ok(()));
    // Of several brokers, each leaves half of its own share to the others.
    let budgets = Budgets::new(limits(0, 100, 0, 0));
    budgets.share_among(2);
    assert_eq!(asks(&budgets, "gateway", "busy", 50, seconds(0)), Ok(()));
    let more = asks(&budgets, "gateway", "busy", 50, seconds(0));
    assert_eq!(more, Err(Exceeded::Subjects));
    assert_eq!(asks(&budgets, "gateway", "quiet", 50, seconds(0)), Ok(()));
    // Without a limit there is no half.
    let budgets = Budgets::new(BudgetLimits::OFF);
    for _ in 0..2 {
        assert_eq!(
            asks(&budgets, "gateway", "busy", u64::MAX, seconds(0)),
            Ok(())
        );
    }
}
