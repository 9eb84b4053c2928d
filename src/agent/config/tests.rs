use super::*;
use crate::agent::wanted::Wanted;

fn parse(text: &str) -> Result<AgentConfig, String> {
    let document: Document = toml::from_str(text).map_err(|e| e.to_string())?;
    AgentConfig::from_document(document, Path::new("/etc/brevet")).map_err(|e| e.to_string())
}

const MINIMAL: &str =
    "broker.endpoint = \"https://sts.example.com:7480\"\nidentity.access_key_file = \"key.json\"\n";
const IMDS: &str = "imds.role_arn = \"arn:aws:iam::111122223333:role/team/App\"\n";

#[test]
fn the_complete_example_loads() {
    let config = parse(include_str!("../../../config/agent.toml")).unwrap();
    let imds = config.imds.unwrap();
    assert_eq!(imds.meta_data.value("tags/instance/Name"), Some("web-1"));
    assert_eq!(imds.role_session_name, "web-1");
    assert_eq!(imds.principal, ImdsPrincipal::Node);
    assert_eq!(
        config.cache.unwrap().file,
        Path::new("/etc/brevet/sessions.sealed")
    );
}

#[test]
fn little_is_required() {
    let config = parse(&format!("{MINIMAL}{IMDS}")).unwrap();
    assert_eq!(config.broker.region, "us-east-1");
    assert!(
        matches!(&config.identity, AgentIdentity::AccessKey { file } if file == Path::new("/etc/brevet/key.json"))
    );
    assert_eq!(
        config.audit,
        AuditTarget::File("/etc/brevet/agent-audit.jsonl".into())
    );
    let imds = config.imds.unwrap();
    let [listener] = &imds.listeners[..] else {
        panic!("{:?}", imds.listeners)
    };
    assert_eq!(listener.address.to_string(), "169.254.169.254:80");
    assert_eq!(listener.hosts(80).check("169.254.169.254"), Ok(()));
    assert!(listener.hosts(80).check("localhost").is_err());
    assert!(listener.hosts(8080).check("169.254.169.254").is_err());
    assert_eq!(
        (imds.v1, imds.token_hop_limit, imds.duration_seconds),
        (false, 1, 3_600)
    );
    assert_eq!(
        imds.instance_profile_arn,
        "arn:aws:iam::111122223333:instance-profile/App"
    );
    assert_eq!(imds.role_session_name, imds.meta_data.instance_id());
    assert!(parse(MINIMAL).unwrap().imds.is_none());
}

#[test]
fn an_agent_has_one_identity() {
    let with = |identity: &str| {
        parse(&format!(
            "broker.endpoint = \"https://sts.example.com\"\n{identity}"
        ))
        .map(|c| c.identity)
    };
    assert!(matches!(
        with("identity.certificate = \"c.pem\"\nidentity.private_key = \"k.pem\"\n"),
        Ok(AgentIdentity::Certificate { .. })
    ));
    let token = "identity.web_identity_token_file = \"/var/run/token\"\nidentity.role_arn = \"arn:aws:iam::111122223333:role/Node\"\n";
    assert!(matches!(
        with(token),
        Ok(AgentIdentity::WebIdentity { role_session_name, .. }) if role_session_name == "brevet-agent"
    ));
    for wrong in [
        "",
        "identity.certificate = \"c.pem\"\n",
        "identity.access_key_file = \"a\"\nidentity.certificate = \"c.pem\"\nidentity.private_key = \"k.pem\"\n",
    ] {
        let error = with(wrong).unwrap_err();
        assert!(
            error.starts_with("[identity]: must have exactly one"),
            "{error}"
        );
    }
    let error = with("identity.web_identity_token_file = \"t\"\n").unwrap_err();
    assert!(
        error.starts_with("[identity] role_arn: is missing"),
        "{error}"
    );
    let error = with("identity.access_key_file = \"a\"\nidentity.role_arn = \"x\"\n").unwrap_err();
    assert!(
        error.starts_with("[identity] role_arn: must be left out"),
        "{error}"
    );
}

#[test]
fn errors_name_the_key_and_the_rule() {
    for (line, named) in [
        ("x = 1", "unknown field `x`"),
        ("imds.x = 1", "unknown field `x`"),
        (
            "imds.address = \"192.0.2.1:80\"",
            "[imds] address: 192.0.2.1:80 is neither",
        ),
        (
            "imds.address = \"0.0.0.0:80\"",
            "[imds] address: 0.0.0.0:80 is neither",
        ),
        ("imds.hosts = [\"a b\"]", "[imds] hosts: `a b`"),
        (
            "imds.duration_seconds = 900",
            "[imds] duration_seconds: must be from 3600 to 129600",
        ),
        (
            "imds.token_hop_limit = 0",
            "[imds] token_hop_limit: must be from 1 to 64",
        ),
        (
            "imds.role_session_name = \"a b\"",
            "[imds] role_session_name: must satisfy",
        ),
        (
            "imds.instance_profile_arn = \"App\"",
            "[imds] instance_profile_arn: `App` must be arn:",
        ),
        ("imds.meta_data.iam = \"x\"", "[imds] meta_data: `iam`"),
        ("imds.principal = \"me\"", "unknown variant `me`"),
        ("cache.file = \"s\"", "missing field `key_file`"),
        ("audit.stdout = false", "[audit]: must have either"),
        ("broker.region = \"EU\"", "[broker] region: must be"),
    ] {
        let error = parse(&format!("{MINIMAL}{IMDS}{line}\n")).unwrap_err();
        assert!(error.contains(named), "{line}: {error}");
    }
    for (endpoint, named) in [
        ("http://sts.example.com", "unencrypted"),
        ("sts.example.com", "must be https://HOST:PORT"),
        ("ftp://sts.example.com", "must be https://HOST:PORT"),
    ] {
        let text = format!("broker.endpoint = \"{endpoint}\"\nidentity.access_key_file = \"k\"\n");
        let error = parse(&text).unwrap_err();
        assert!(
            error.starts_with("[broker] endpoint: ") && error.contains(named),
            "{error}"
        );
    }
    assert!(
        parse(IMDS)
            .unwrap_err()
            .starts_with("[broker] endpoint: is missing")
    );
    let error = parse(&format!("{MINIMAL}imds.role_arn = \"App\"\n")).unwrap_err();
    assert!(error.starts_with("[imds] role_arn: "), "{error}");
}

#[test]
fn a_listener_off_loopback_needs_words() {
    let off = format!(
        "{MINIMAL}{IMDS}imds.address = \"0.0.0.0:80\"\nimds.off_loopback = \"{OFF_LOOPBACK_SENTENCE}\"\n"
    );
    assert!(
        parse(&off)
            .unwrap_err()
            .starts_with("[imds] hosts: is required")
    );
    let named = parse(&format!("{off}imds.hosts = [\"agent\"]\n")).unwrap();
    let hosts = named.imds.unwrap().listeners[0].hosts(80);
    assert!(hosts.check("agent:80").is_ok() && hosts.check("0.0.0.0").is_err());
}

#[test]
fn a_section_may_have_several_addresses_and_names_with_ports() {
    let both = "imds.address = [\"169.254.169.254:80\", \"[fd00:ec2::254]:80\"]\n";
    let names = "imds.hosts = [\"agent\", \"mapped:8080\", \"[fd00::1]:81\"]\n";
    let config = parse(&format!("{MINIMAL}{IMDS}{both}{names}")).unwrap();
    assert_eq!(config.listeners(), 3);
    let listeners = config.imds.unwrap().listeners;
    for (listener, own, other) in [
        (&listeners[0], "169.254.169.254", "[fd00:ec2::254]"),
        (&listeners[1], "[fd00:ec2::254]", "169.254.169.254"),
    ] {
        let hosts = listener.hosts(80);
        for host in [own, "agent", "agent:80", "mapped:8080", "[fd00::1]:81"] {
            assert_eq!(hosts.check(host), Ok(()), "{host}");
        }
        for host in [other, "agent:8080", "mapped", "[fd00::1]"] {
            assert!(hosts.check(host).is_err(), "{host}");
        }
    }
    for (line, named) in [
        ("imds.address = []", "[imds] address: must have 1 to 8"),
        ("imds.address = \"127.0.0.1\"", "invalid socket address"),
        ("imds.address = [\"127.0.0.1:0\", 7]", "invalid type"),
        (
            "imds.address = [\"127.0.0.1:0\", \"192.0.2.1:80\"]",
            "[imds] address: 192.0.2.1:80 is neither",
        ),
        (
            "imds.hosts = [\"agent:http\"]",
            "[imds] hosts: `agent:http`",
        ),
        (
            "imds.hosts = [\"agent:65536\"]",
            "[imds] hosts: `agent:65536`",
        ),
    ] {
        let error = parse(&format!("{MINIMAL}{IMDS}{line}\n")).unwrap_err();
        assert!(error.contains(named), "{line}: {error}");
    }
}

/// The tags of the sessions of `[imds]`, of a container, of a task and of two programs, in this order.
fn session_tags(section: &str) -> Result<Vec<String>, String> {
    let role = "role_arn = \"arn:aws:iam::111122223333:role/App\"";
    let config = parse(&format!(
        "{MINIMAL}[session_tags]\n{section}\n[imds]\n{role}\ntags = {{ team = \"web\" }}\n\
         [container]\naddress = \"127.0.0.1:0\"\n\
         [[container.workload]]\nname = \"web\"\ntoken_file = \"t\"\n{role}\n\
         [[container.workload]]\nname = \"task\"\ntoken_file = \"u\"\ncluster = \"c\"\nfamily = \"f\"\n\
         [unix_socket]\npath = \"/run/a.sock\"\n\
         [[unix_socket.program]]\nname = \"one\"\nunit = \"one.service\"\n{role}\n\
         [[unix_socket.program]]\nname = \"two\"\nuid = 2\nunit = \"two.service\"\n{role}\ntags = {{ Unit = \"own\" }}\n"
    ))?;
    let of = |wanted: &Wanted| match wanted {
        Wanted::Workload(wanted) => format!("{:?}", wanted.tags),
        Wanted::Role(_) => panic!("{wanted:?}"),
    };
    let mut all = vec![format!("{:?}", config.imds.unwrap().tags)];
    all.extend(
        config
            .container
            .unwrap()
            .workloads
            .iter()
            .map(|w| of(&w.wanted)),
    );
    all.extend(
        config
            .unix_socket
            .unwrap()
            .programs
            .iter()
            .map(|p| of(&p.wanted)),
    );
    Ok(all)
}

#[test]
fn the_agent_adds_tags_only_where_it_is_told_to_and_the_role_names_the_node() {
    let team = ("team", "web");
    let (node, unit) = (("node", "web-1"), ("unit", "one.service"));
    let shown = |tags: &[(&str, &str)]| format!("{tags:?}");
    let own = shown(&[("Unit", "own")]);
    let expected = |imds: &[_], web: &[_], one: &[_], two: &String| {
        [shown(imds), shown(web), shown(&[]), shown(one), two.clone()].to_vec()
    };
    assert_eq!(session_tags("").unwrap(), expected(&[team], &[], &[], &own));
    assert_eq!(
        session_tags("unit = true").unwrap(),
        expected(&[team], &[], &[unit], &own)
    );
    assert_eq!(
        session_tags("unit = true\nnode = \"web-1\"").unwrap(),
        expected(
            &[node, team],
            &[node],
            &[node, unit],
            &shown(&[("Unit", "own"), node])
        )
    );
    // An instance profile's role trusts a service of AWS.
    let of_ec2 = format!(
        "{MINIMAL}{IMDS}imds.principal = \"ec2.amazonaws.com\"\nsession_tags.node = \"web-1\"\n"
    );
    assert!(parse(&of_ec2).unwrap().imds.unwrap().tags.is_empty());
    for (section, named) in [
        ("node = \"\"", "[session_tags] node: must not be empty"),
        (
            "node = \"a;b\"",
            "[session_tags] node: the value of the tag `node` must ",
        ),
        ("units = true", "unknown field `units`"),
    ] {
        let error = session_tags(section).unwrap_err();
        assert!(error.contains(named), "{section}: {error}");
    }
}

#[test]
fn a_workload_has_a_name_a_token_and_a_role() {
    let section = |workload: &str| {
        parse(&format!(
            "{MINIMAL}container.address = \"127.0.0.1:0\"\n[[container.workload]]\n{workload}"
        ))
    };
    let role = "role_arn = \"arn:aws:iam::111122223333:role/Web\"\n";
    let good = section(&format!("name = \"web\"\ntoken_file = \"t\"\n{role}")).unwrap();
    let workload = &good.container.unwrap().workloads[0];
    assert!(
        matches!(&workload.wanted, Wanted::Workload(w) if w.role_session_name.as_deref() == Some("web"))
    );
    assert_eq!(
        workload.token_file.as_deref(),
        Some(Path::new("/etc/brevet/t"))
    );
    let task = "name = \"web\"\ntoken_file = \"t\"\ncluster = \"c\"\nfamily = \"f\"\n";
    let task = section(task).unwrap().container.unwrap();
    assert!(matches!(&task.workloads[0].wanted, Wanted::Workload(_)));
    let twice = format!("name = \"web\"\ntoken_file = \"t\"\n{role}");
    for (bad, named) in [
        (
            "name = \"web\"\ntoken_file = \"t\"\n",
            "[[container.workload]] role_arn: ",
        ),
        (
            &format!("name = \"web\"\ntoken_file = \"t\"\n{role}cluster = \"c\"\n"),
            "[[container.workload]] role_arn: ",
        ),
        (
            &format!("name = \"a/b\"\ntoken_file = \"t\"\n{role}"),
            "[[container.workload]] name: ",
        ),
        (
            &format!("name = \"..\"\ntoken_file = \"t\"\n{role}"),
            "[[container.workload]] name: ",
        ),
        (
            &format!("{twice}[[container.workload]]\n{twice}"),
            "[[container.workload]] name: ",
        ),
        (
            &format!("name = \"web\"\ntoken_file = \"t\"\n{role}duration_seconds = 60\n"),
            "[[container.workload]] duration_seconds: ",
        ),
    ] {
        let error = section(bad).unwrap_err();
        assert!(error.starts_with(named), "{bad}: {error}");
    }
    let none = parse(&format!("{MINIMAL}container.address = \"127.0.0.1:0\"\n"));
    assert!(none.unwrap_err().starts_with("[[container.workload]]: "));
}

#[test]
fn a_program_is_named_by_more_than_its_file() {
    let section = |program: &str| {
        parse(&format!(
            "{MINIMAL}[unix_socket]\npath = \"/run/a.sock\"\n[[unix_socket.program]]\nname = \"app\"\nrole_arn = \
             \"arn:aws:iam::111122223333:role/App\"\n{program}"
        ))
    };
    let good = section("uid = 1000\nexecutable = \"/usr/bin/app\"\n")
        .unwrap()
        .unix_socket
        .unwrap();
    assert_eq!((good.mode, good.programs[0].who.uid), (0o666, Some(1000)));
    for (bad, word) in [
        ("", "at least one of uid, gid and unit"),
        (
            "executable = \"/usr/bin/app\"\n",
            "does not identify a program alone",
        ),
        ("uid = 1\nexecutable = \"app\"\n", "absolute path"),
        ("unit = \"app\"\n", "end in `.service` or `.scope`"),
    ] {
        let error = section(bad).unwrap_err();
        assert!(error.contains(word), "{bad}: {error}");
    }
    let long = format!("{MINIMAL}unix_socket.path = \"/{}\"\n", "x".repeat(107));
    assert!(
        parse(&long)
            .unwrap_err()
            .starts_with("[unix_socket] path: ")
    );
}
