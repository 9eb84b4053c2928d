//! Compares the evaluator with a simple reference implementation, and checks properties that hold for
//! every policy.

use brevet::evaluator::{
    Decision, Outcome, Policies, Policy, PolicyKind, Possibility, Principal, Request,
    RequestContext, SessionPolicies, Source, StatementRef, cases, evaluate, explain, possible,
    simulate,
};
use serde_json::{Value, json};

use crate::reference::{Ask, Who, World, judge};

const ACCOUNT: &str = "111122223333";

/// A small random number generator, so that each run has the same cases and a case is identified by
/// its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }

    fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        (0..=self.roll(2)).map(|_| self.pick(from)).collect()
    }
}

const ACTIONS: &[&str] = &[
    "s3:GetObject",
    "s3:getobject",
    "s3:*",
    "S3:Get*",
    "s3:?etObject",
    "*",
    "sts:AssumeRole",
    "sts:*",
    "ec2:Run*",
    "s*:GetObject",
];
const RESOURCES: &[&str] = &[
    "*",
    "arn:aws:s3:::bucket/*",
    "arn:aws:s3:::bucket/a",
    "arn:aws:s3:::bucket/${aws:username}/*",
    "arn:aws:s3:::*",
    "arn:aws:s3:::b?cket/a*",
    "arn:*:s3:::bucket/${aws:PrincipalTag/team, 'none'}",
    "arn:aws:s3:::bucket/${*}",
    "arn:aws:iam::111122223333:role/*",
];
/// Abbreviated resources, which policies of principals accept and resource policies do not.
const ABBREVIATED: &[&str] = &[
    "arn:aws:s3",
    "arn:aws:s3:::",
    "arn:*:s3::*",
    "arn:aws:iam::111122223333",
    "arn:aws:sqs:*",
];
const NAMED: &[&str] = &[
    "*",
    "111122223333",
    "arn:aws:iam::111122223333:root",
    "arn:aws:iam::111122223333:user/alice",
    "arn:aws:iam::111122223333:role/R",
    "arn:aws:sts::111122223333:assumed-role/R/s",
    "444455556666",
    "arn:aws:iam::444455556666:user/eve",
];
const OPERATORS: &[&str] = &[
    "StringEquals",
    "StringNotEquals",
    "StringLike",
    "StringNotLike",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericGreaterThanEquals",
    "Bool",
    "IpAddress",
    "NotIpAddress",
    "ArnLike",
    "ArnNotEquals",
    "Null",
];

fn condition(dice: &mut Dice) -> Value {
    let name = dice.pick(OPERATORS);
    let values: &[&str] = match name {
        n if n.starts_with("Numeric") => &["1", "2", "-1.50", "10"],
        "Bool" | "Null" => &["true", "false"],
        n if n.contains("Ip") => &["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "192.168.0.0/16"],
        n if n.starts_with("Arn") => &[
            "arn:aws:iam::111122223333:user/*",
            "*",
            "arn:aws:s3:::${aws:username}",
            "arn:*:*:*:*:*",
        ],
        _ => &[
            "a",
            "A",
            "a*",
            "?",
            "${aws:username}",
            "${aws:username, 'a'}",
            "${*}",
            "",
            "${aws:PrincipalTag/none}",
        ],
    };
    let mut operator = name.to_owned();
    if name != "Null" {
        operator.insert_str(0, dice.pick(&["", "", "ForAllValues:", "ForAnyValue:"]));
        operator.push_str(dice.pick(&["", "", "IfExists"]));
    }
    json!({operator: {dice.pick(&["app:one", "APP:Many", "app:none", "aws:username"]): dice.some(values)}})
}

fn statement(dice: &mut Dice, kind: PolicyKind) -> Value {
    let mut s = json!({"Effect": dice.pick(&["Allow", "Allow", "Allow", "Deny"])});
    s[dice.pick(&["Action", "Action", "Action", "NotAction"])] = json!(dice.some(ACTIONS));
    if kind != PolicyKind::Trust {
        let mut resources = dice.some(RESOURCES);
        if !matches!(kind, PolicyKind::Session | PolicyKind::Resource) && dice.roll(4) == 0 {
            resources.push(dice.pick(ABBREVIATED));
        }
        s[dice.pick(&["Resource", "Resource", "Resource", "NotResource"])] = json!(resources);
    }
    if matches!(kind, PolicyKind::Trust | PolicyKind::Resource) {
        let element = if kind == PolicyKind::Resource {
            dice.pick(&["Principal", "Principal", "Principal", "NotPrincipal"])
        } else {
            "Principal"
        };
        s[element] = json!({"AWS": dice.some(NAMED)});
    }
    if dice.roll(2) == 0 {
        s["Condition"] = condition(dice);
    }
    s
}

fn document(dice: &mut Dice, kind: PolicyKind) -> Value {
    let statements: Vec<Value> = (0..=dice.roll(3)).map(|_| statement(dice, kind)).collect();
    json!({"Version": dice.pick(&["2012-10-17", "2012-10-17", "2008-10-17"]), "Statement": statements})
}

fn ask(dice: &mut Dice) -> Ask {
    let values: &[&str] = &[
        "a",
        "A",
        "abc",
        "1",
        "2.0",
        "10.1.2.3",
        "192.168.1.1",
        "true",
        "*",
        "arn:aws:iam::111122223333:user/x",
        "",
    ];
    let owned = |v: Vec<&str>| v.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut context = Vec::new();
    if dice.roll(3) > 0 {
        context.push((
            "app:One".to_owned(),
            vec![dice.pick(values).to_owned()],
            false,
        ));
    }
    if dice.roll(2) == 0 {
        context.push(("app:many".to_owned(), owned(dice.some(values)), true));
    }
    if dice.roll(2) == 0 {
        context.push((
            "aws:UserName".to_owned(),
            vec![dice.pick(&["alice", "a", "*"]).to_owned()],
            false,
        ));
    }
    let session = Who::Session {
        role: "R".into(),
        arn: "arn:aws:sts::111122223333:assumed-role/R/s".into(),
    };
    Ask {
        account: ACCOUNT.into(),
        principal: dice.pick(&[
            Who::User("arn:aws:iam::111122223333:user/alice".into()),
            session,
        ]),
        action: dice
            .pick(&["s3:GetObject", "sts:AssumeRole", "ec2:RunInstances"])
            .to_owned(),
        resource: dice
            .pick(&[
                "arn:aws:s3:::bucket/a",
                "arn:aws:s3:::bucket/alice/x",
                "arn:aws:s3:::bucket/*",
                "arn:aws:iam::111122223333:role/R",
            ])
            .to_owned(),
        resource_account: dice.pick(&[ACCOUNT, ACCOUNT, "444455556666"]).to_owned(),
        context,
    }
}

fn world(dice: &mut Dice) -> World {
    let trust = dice.roll(2) == 0;
    let resource = (dice.roll(3) > 0).then(|| {
        document(
            dice,
            if trust {
                PolicyKind::Trust
            } else {
                PolicyKind::Resource
            },
        )
    });
    World {
        identity: (0..dice.roll(3))
            .map(|_| document(dice, PolicyKind::Identity))
            .collect(),
        trust: trust && resource.is_some(),
        resource,
        session: (dice.roll(3) == 0).then(|| {
            (0..dice.roll(3))
                .map(|_| document(dice, PolicyKind::Session))
                .collect()
        }),
        boundary: (dice.roll(3) == 0).then(|| document(dice, PolicyKind::Boundary)),
        scp: (dice.roll(4) == 0).then(|| {
            (0..=dice.roll(2))
                .map(|_| vec![document(dice, PolicyKind::ServiceControl)])
                .collect()
        }),
        scope_down: match dice.roll(4) {
            0 => (0..=dice.roll(3)).map(|_| scope_down(dice)).collect(),
            _ => Vec::new(),
        },
    }
}

/// A scope-down policy. Half of them allow everything that they do not deny, so that many requests are
/// within all policies of a session.
fn scope_down(dice: &mut Dice) -> Value {
    let mut policy = document(dice, PolicyKind::Session);
    if dice.roll(2) == 0 {
        let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        policy["Statement"].as_array_mut().unwrap().push(all);
    }
    policy
}

fn decide(ask: &Ask, world: &World) -> Decision {
    with(ask, world, evaluate)
}

/// Calls `judge` with the request and the compiled policies.
fn with<T>(ask: &Ask, world: &World, judge: impl FnOnce(&Request<'_>, &Policies<'_>) -> T) -> T {
    let parse = |kind, doc: &Value| {
        Policy::parse(kind, &doc.to_string()).unwrap_or_else(|e| panic!("{doc}: {e}"))
    };
    let list =
        |kind, docs: &[Value]| -> Vec<Policy> { docs.iter().map(|d| parse(kind, d)).collect() };
    let identity = list(PolicyKind::Identity, &world.identity);
    let resource = world.resource.as_ref().map(|d| {
        parse(
            if world.trust {
                PolicyKind::Trust
            } else {
                PolicyKind::Resource
            },
            d,
        )
    });
    let session = world.session.as_ref().map(|d| list(PolicyKind::Session, d));
    let boundary = world
        .boundary
        .as_ref()
        .map(|d| parse(PolicyKind::Boundary, d));
    let scp: Option<Vec<Vec<Policy>>> = world.scp.as_ref().map(|l| {
        l.iter()
            .map(|d| list(PolicyKind::ServiceControl, d))
            .collect()
    });
    let scope_down = list(PolicyKind::Session, &world.scope_down);
    let identity: Vec<&Policy> = identity.iter().collect();
    let scope_down: Vec<&Policy> = scope_down.iter().collect();
    let session: Option<Vec<&Policy>> = session.as_ref().map(|s| s.iter().collect());
    let scp: Option<Vec<Vec<&Policy>>> = scp
        .as_ref()
        .map(|l| l.iter().map(|l| l.iter().collect()).collect());
    let scp: Option<Vec<&[&Policy]>> = scp.as_ref().map(|l| l.iter().map(Vec::as_slice).collect());
    let mut context = RequestContext::new();
    for (key, values, many) in &ask.context {
        if *many {
            context.set_many(
                key.as_str(),
                values.iter().map(|v| v.as_str().into()).collect(),
            );
        } else {
            context.set(key.as_str(), values[0].as_str());
        }
    }
    let principal = match &ask.principal {
        Who::User(arn) => Principal::User {
            account: &ask.account,
            arn,
            id: None,
        },
        Who::Session { role, arn } => Principal::RoleSession {
            account: &ask.account,
            role,
            role_arn: None,
            arn,
            id: None,
        },
    };
    let request = Request {
        principal,
        action: &ask.action,
        resource: &ask.resource,
        resource_account: &ask.resource_account,
        context: &context,
    };
    let policies = Policies {
        identity: &identity,
        resource: resource.as_ref(),
        resource_is_trust: world.trust,
        session: SessionPolicies {
            passed: session.as_deref(),
            scope_down: &scope_down,
        },
        boundary: boundary.as_ref(),
        service_control: scp.as_deref(),
        resource_control: None,
    };
    judge(&request, &policies)
}

/// Tests 50,000 pairs; `BREVET_PAIRS=1000000` runs for a night.
#[test]
fn agrees_with_the_obvious_evaluator() {
    let pairs: u64 = std::env::var("BREVET_PAIRS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(50_000);
    let mut seen = std::collections::BTreeMap::new();
    for seed in 1..=pairs {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (ask, world) = (ask(&mut dice), world(&mut dice));
        let expected = judge(&ask, &world);
        let got = decide(&ask, &world);
        assert_eq!(
            cases::outcome(&got),
            expected,
            "seed {seed}: {} on {} by {:?}\n{:#?}",
            ask.action,
            ask.resource,
            ask.context,
            [
                &world.identity,
                &world.resource.into_iter().collect(),
                &world.session.unwrap_or_default(),
                &world.boundary.into_iter().collect()
            ]
        );
        *seen.entry(expected).or_insert(0u64) += 1;
    }
    assert!(
        seen.len() == 3 && seen.values().all(|n| *n > pairs / 50),
        "the generator is one-sided: {seen:?}"
    );
}

/// A world in which everything is allowed that nothing denies.
fn generous(mut world: World) -> World {
    let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    if world.trust {
        (world.trust, world.resource) = (false, None);
    }
    world.identity.push(json!({"Statement": [all.clone()]}));
    let limits = world.session.iter_mut().flatten();
    let limits = limits.chain(&mut world.boundary);
    for policy in limits.chain(world.scp.iter_mut().flatten().flatten()) {
        policy["Statement"]
            .as_array_mut()
            .unwrap()
            .push(all.clone());
    }
    world
}

/// Narrows a random principal three times, 10,000 times in all.
#[test]
fn az_10_whatever_narrows_a_session_leaves_a_subset_of_it() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 1..=3_334u64 {
        let mut dice = Dice(seed.wrapping_mul(0xC2B2_AE3D_27D4_EB4F) | 1);
        let (ask, mut world) = (ask(&mut dice), generous(world(&mut dice)));
        world.scope_down.clear();
        let mut parent = judge(&ask, &world);
        for layer in 1..=3 {
            let policy = scope_down(&mut dice);
            let alone = World {
                identity: vec![policy.clone()],
                ..World::default()
            };
            let own = Ask {
                resource_account: ask.account.clone(),
                ..ask.clone()
            };
            let within = judge(&own, &alone) == "Allowed";
            world.scope_down.push(policy);
            let narrowed = cases::outcome(&decide(&ask, &world));
            assert_eq!(narrowed, judge(&ask, &world), "seed {seed}, layer {layer}");
            let both = parent == "Allowed" && within;
            assert_eq!(
                narrowed == "Allowed",
                both,
                "seed {seed}, layer {layer}: {parent} before, within the layer: {within}"
            );
            match (parent, both) {
                ("Allowed", true) => kept += 1,
                ("Allowed", false) => lost += 1,
                _ => {}
            }
            parent = narrowed;
        }
    }
    assert!(
        kept > 500 && lost > 500,
        "the generator is one-sided: {kept} {lost}"
    );
}

#[test]
fn a_scope_down_policy_gives_a_federated_user_nothing() {
    const ALL: &str = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    let policy = |kind| Policy::parse(kind, ALL).unwrap();
    let (identity, session) = (policy(PolicyKind::Identity), policy(PolicyKind::Session));
    let context = RequestContext::new();
    let request = Request {
        principal: Principal::FederatedUser {
            account: ACCOUNT,
            arn: "arn:aws:sts::111122223333:federated-user/eve",
        },
        action: "s3:GetObject",
        resource: "arn:aws:s3:::bucket/a",
        resource_account: ACCOUNT,
        context: &context,
    };
    let allowed = |passed| {
        let policies = Policies {
            identity: &[&identity],
            session: SessionPolicies {
                passed,
                scope_down: &[&session],
            },
            ..Policies::default()
        };
        evaluate(&request, &policies).is_allowed()
    };
    assert!(!allowed(None) && allowed(Some(&[&session])));
}

#[test]
fn one_more_deny_never_allows_and_order_never_matters() {
    for seed in 1..=5_000u64 {
        let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1);
        let (ask, mut world) = (ask(&mut dice), world(&mut dice));
        let before = decide(&ask, &world).outcome;
        for doc in world.identity.iter_mut().chain(&mut world.resource) {
            doc["Statement"].as_array_mut().unwrap().reverse();
        }
        world.identity.reverse();
        assert_eq!(decide(&ask, &world).outcome, before, "seed {seed}: order");
        let mut deny = statement(&mut dice, PolicyKind::Identity);
        deny["Effect"] = json!("Deny");
        world
            .identity
            .push(json!({"Version": "2012-10-17", "Statement": deny}));
        let after = decide(&ask, &world);
        assert!(
            !after.is_allowed() || before == after.outcome,
            "seed {seed}: a Deny allowed"
        );
    }
}

#[test]
fn a_simulation_says_what_the_evaluator_decides() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 1..=5_000u64 {
        let mut dice = Dice(seed.wrapping_mul(0xA076_1D64_78BD_642F) | 1);
        let (ask, world) = (ask(&mut dice), world(&mut dice));
        let (decision, simulation, explanation) = with(&ask, &world, |request, policies| {
            (
                evaluate(request, policies),
                simulate(request, policies),
                explain(request, policies),
            )
        });
        assert_eq!(simulation.outcome, decision.outcome, "seed {seed}");
        *seen.entry(cases::outcome(&decision)).or_insert(0) += 1;
        // Each statement that is named applies, and the one that decided is among them.
        for at in &simulation.matched {
            let report = explanation.statements.iter().find(|s| s.at == *at).unwrap();
            let denied = decision.outcome == Outcome::ExplicitlyDenied;
            assert!(
                report.applies && report.denies == denied,
                "seed {seed}: {at:?}"
            );
        }
        let is_shown = |at: &StatementRef| !matches!(at.source, Source::ServiceControl(..));
        match decision.by.filter(is_shown) {
            Some(by) => assert!(simulation.matched.contains(&by), "seed {seed}: {by:?}"),
            None => assert!(!decision.is_allowed(), "seed {seed}"),
        }
        // What each kind of policy says agrees with the decision.
        assert_eq!(simulation.boundary.is_some(), world.boundary.is_some());
        assert_eq!(simulation.organization.is_some(), world.scp.is_some());
        if decision.is_allowed() {
            assert!(simulation.organization != Some(false), "seed {seed}");
            assert!(
                simulation.identity == Outcome::Allowed
                    || simulation.resource == Some(Outcome::Allowed),
                "seed {seed}"
            );
        }
    }
    assert!(
        seen.len() == 3 && seen.values().all(|n| *n > 100),
        "the generator is one-sided: {seen:?}"
    );
}

#[test]
fn a_key_that_is_not_missing_cannot_change_the_simulation() {
    const POOL: &[&str] = &[
        "app:one",
        "app:many",
        "app:none",
        "aws:username",
        "aws:PrincipalTag/team",
        "aws:PrincipalTag/none",
        "app:other",
    ];
    let (mut unmoved, mut moved) = (0, 0);
    for seed in 1..=5_000u64 {
        let mut dice = Dice(seed.wrapping_mul(0xE703_7ED1_A0B4_28DB) | 1);
        let (mut ask, mut world) = (ask(&mut dice), world(&mut dice));
        world.scp = None;
        world.session = None;
        world.scope_down.clear();
        let before = with(&ask, &world, simulate);
        let key = dice.pick(POOL);
        let has = |(name, values, _): &(String, Vec<String>, bool)| {
            name.eq_ignore_ascii_case(key) && !values.is_empty()
        };
        if ask.context.iter().any(has) {
            continue;
        }
        let value = dice.pick(&["a", "A", "alice", "1", "10.1.2.3", "true", "none"]);
        ask.context
            .push((key.to_owned(), vec![value.to_owned()], false));
        let after = with(&ask, &world, simulate);
        let missing = before.missing_keys.contains(&key.to_ascii_lowercase());
        if before.missing_keys.is_empty() {
            assert_eq!(after, before, "seed {seed}: {key}");
            unmoved += 1;
        } else if missing && after.outcome != before.outcome {
            moved += 1;
        }
    }
    assert!(unmoved > 100 && moved > 25, "{unmoved} {moved}");
}

#[test]
fn what_is_possible_covers_every_value_of_the_unknown_keys() {
    const KEYS: &[&str] = &["app:one", "app:many", "app:none", "aws:username"];
    let mut seen = [0u32; 4];
    for seed in 1..=2_000u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9FB2_1C65_1E98_DF25) | 1);
        let (mut ask, world) = (ask(&mut dice), world(&mut dice));
        let unknown: Vec<&str> = dice.some(KEYS);
        ask.context
            .retain(|(name, ..)| !unknown.contains(&&*name.to_ascii_lowercase()));
        let is_unknown = |key: &str| unknown.contains(&key);
        let possibility = with(&ask, &world, |request, policies| {
            possible(request, policies, &is_unknown)
        });
        let mut outcomes = [false; 2];
        for _ in 0..4 {
            let mut tried = ask.clone();
            for key in &unknown {
                let value = dice
                    .pick(&["a", "A", "abc", "alice", "1", "2.0", "10.1.2.3", "true", ""])
                    .to_owned();
                match dice.roll(4) {
                    0 => {}
                    1 => tried
                        .context
                        .push(((*key).to_owned(), vec![value, "a".to_owned()], true)),
                    _ => tried.context.push(((*key).to_owned(), vec![value], false)),
                }
            }
            let allowed = decide(&tried, &world).is_allowed();
            outcomes[usize::from(allowed)] = true;
            match &possibility {
                Possibility::Always => assert!(allowed, "seed {seed}: {:?}", tried.context),
                Possibility::Never => assert!(!allowed, "seed {seed}: {:?}", tried.context),
                Possibility::Depends { when, unless } => {
                    assert!(!when.is_empty() || !unless.is_empty(), "seed {seed}");
                }
            }
        }
        seen[match possibility {
            Possibility::Always => 0,
            Possibility::Never => 1,
            Possibility::Depends { .. } if outcomes == [true, true] => 2,
            Possibility::Depends { .. } => 3,
        }] += 1;
    }
    assert!(seen.iter().take(3).all(|n| *n > 10), "{seen:?}");
}

/// Compares every policy of at most three statements over two actions, two resources, two effects and
/// one condition, for every request.
#[test]
fn az_02_small_policies_agree_exhaustively() {
    let mut statements = Vec::new();
    for effect in ["Allow", "Deny"] {
        for action in ["s3:GetObject", "s3:PutObject"] {
            for resource in ["arn:aws:s3:::bucket/a", "arn:aws:s3:::bucket/*"] {
                for condition in [json!({}), json!({"StringEquals": {"app:one": "a"}})] {
                    statements.push(
                        json!({"Effect": effect, "Action": action, "Resource": resource, "Condition": condition}),
                    );
                }
            }
        }
    }
    let mut asks = Vec::new();
    for action in ["s3:GetObject", "s3:PutObject"] {
        for resource in ["arn:aws:s3:::bucket/a", "arn:aws:s3:::bucket/b"] {
            for context in [
                vec![],
                vec![("app:one".to_owned(), vec!["a".to_owned()], false)],
            ] {
                let principal = Who::User("arn:aws:iam::111122223333:user/alice".into());
                asks.push(Ask {
                    account: ACCOUNT.into(),
                    principal,
                    action: action.into(),
                    resource: resource.into(),
                    resource_account: ACCOUNT.into(),
                    context,
                });
            }
        }
    }
    let n = statements.len();
    for i in 0..n {
        for j in i..n {
            for k in j..n {
                let doc = json!({"Version": "2012-10-17", "Statement": [statements[i], statements[j], statements[k]]});
                let world = World {
                    identity: vec![doc],
                    ..World::default()
                };
                for ask in &asks {
                    assert_eq!(
                        cases::outcome(&decide(ask, &world)),
                        judge(ask, &world),
                        "{i} {j} {k}"
                    );
                }
            }
        }
    }
}

#[test]
fn az_09_a_thousand_statements_and_forty_stars_stay_cheap() {
    let statements: Vec<Value> = (0..1_000)
        .map(|n| json!({"Effect": "Allow", "Action": format!("svc{n}:Act"), "Resource": "*"}))
        .collect();
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = Policy::parse(PolicyKind::AwsManaged, &text).unwrap();
    let stars = format!("arn:aws:s3:::{}b", "a*".repeat(40));
    let slow = Policy::parse(
        PolicyKind::Identity,
        &json!({"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": stars}}).to_string(),
    )
    .unwrap();
    let context = RequestContext::new();
    let resource = format!("arn:aws:s3:::{}", "a".repeat(65_536));
    let request = Request {
        principal: Principal::User {
            account: ACCOUNT,
            arn: "arn:aws:iam::111122223333:user/alice",
            id: None,
        },
        action: "s3:GetObject",
        resource: &resource,
        resource_account: ACCOUNT,
        context: &context,
    };
    let started = std::time::Instant::now();
    assert!(
        !evaluate(
            &request,
            &Policies {
                identity: &[&policy, &slow],
                ..Policies::default()
            }
        )
        .is_allowed()
    );
    // Not a benchmark: what grows with the number of stars would take hours.
    assert!(
        started.elapsed() < crate::harness::PATIENCE,
        "{:?}",
        started.elapsed()
    );
}
