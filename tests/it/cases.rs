//! Checks that every security case in `tests/cases.md` has a test that carries its ID, and that
//! modules only use modules of lower layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut found);
    found
}

/// A case in `tests/cases.md`: its ID in the form of test names (`an_01`), and the files that contain
/// its tests.
fn cases() -> Vec<(String, Vec<&'static str>)> {
    include_str!("../cases.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .filter(|cells| cells.len() == 4 && is_case(&name_of(cells[0])))
        .map(|cells| {
            let files = cells[3].split('`').filter(|part| part.ends_with(".rs"));
            (name_of(cells[0]), files.collect())
        })
        .collect()
}

/// Converts `AN-01` to the form of test names, `an_01`.
fn name_of(id: &str) -> String {
    id.to_ascii_lowercase().replace('-', "_")
}

/// Whether a text has the form `an_01`.
fn is_case(name: &str) -> bool {
    name.len() == 5
        && name.bytes().enumerate().all(|(at, byte)| match at {
            0 | 1 => byte.is_ascii_lowercase(),
            2 => byte == b'_',
            _ => byte.is_ascii_digit(),
        })
}

/// The IDs in the names of a file's functions. A function like `au_03_op_01_nothing_is_lost` has two.
fn ids_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim_start) {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let Some(rest) = line.strip_prefix("fn ") else {
            continue;
        };
        let words: Vec<&str> = rest.split(['(', '<']).next().unwrap().split('_').collect();
        let pairs = words.windows(2).map(|pair| pair.join("_"));
        found.extend(pairs.filter(|pair| is_case(pair)));
    }
    found
}

#[test]
fn every_case_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = cases();
    assert!(cases.len() > 80, "{} cases", cases.len());
    for (id, files) in &cases {
        assert!(!files.is_empty(), "{id}: tests/cases.md names no file");
        for file in files {
            let text = std::fs::read_to_string(root.join(file));
            let text = text.unwrap_or_else(|error| panic!("tests/cases.md, {id}: {file}: {error}"));
            assert!(
                ids_in(&text).contains(id),
                "tests/cases.md: {file} has no test of {id}"
            );
        }
    }
}

#[test]
fn every_test_of_a_case_is_in_the_catalogue() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = cases();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let file = path.strip_prefix(root).unwrap().to_str().unwrap();
        for id in ids_in(&text) {
            let row = cases.iter().find(|(known, _)| *known == id);
            let (_, files) = row
                .unwrap_or_else(|| panic!("{file} has a test of {id}, and tests/cases.md no row"));
            assert!(
                files.contains(&file),
                "tests/cases.md: the row of {id} does not name {file}"
            );
        }
    }
}

#[test]
fn modules_use_their_own_band_and_those_above() {
    let map = include_str!("../../src/lib.rs");
    // What other programs may use is named apart; everything else stands below its band.
    let names = ["Words", "Rules", "State", "Flow", "Faces"];
    let mut band = None;
    let mut bands: BTreeMap<&str, usize> = BTreeMap::from([
        ("base", 0),
        ("evaluator", 1),
        ("proof", 1),
        ("api", 4),
        ("client", 4),
        ("cli", 4),
    ]);
    for line in map.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("// ") {
            band = names.iter().position(|name| {
                comment
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(':'))
            });
        } else if let (Some(band), Some(name)) = (
            band,
            line.strip_prefix("pub mod ")
                .and_then(|l| l.strip_suffix(';')),
        ) {
            bands.insert(name, band);
        }
    }
    assert!(bands.len() > 40, "{bands:?}");
    for (path, text) in sources("src") {
        let relative = path
            .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
            .unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let Some(own) = bands.get(module.as_str()) else {
            continue;
        };
        let code = code(&text);
        for used in code.match_indices("crate::").map(|(at, _)| &code[at + 7..]) {
            let name: String = used
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
                .collect();
            if let Some(theirs) = bands.get(name.as_str()) {
                assert!(
                    theirs <= own,
                    "{} (band {own}) uses {name} (band {theirs})",
                    relative.display()
                );
            }
        }
    }
}

/// A program that needs only the client must not have to build a broker, and the agent is one.
#[test]
fn the_client_and_the_agent_know_nothing_of_the_broker() {
    let agent = [
        "agent",
        "base",
        "client",
        "files",
        "log",
        "process",
        "service_manager",
    ];
    let walls: [(&str, &[&str]); 6] = [
        ("agent", &agent),
        ("files", &["base", "files"]),
        ("base", &["base"]),
        ("proof", &["base", "proof"]),
        ("api", &["api"]),
        ("client", &["api", "base", "client", "proof"]),
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (path, text) in sources("src") {
        let relative = path.strip_prefix(&src).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap();
        if relative.ends_with("tests.rs") {
            continue;
        }
        let Some((_, known)) = walls
            .iter()
            .find(|(name, _)| *name == module.trim_end_matches(".rs"))
        else {
            continue;
        };
        seen += 1;
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (at, _) in code.match_indices("crate::") {
            let name: String = code[at + 7..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
                .collect();
            assert!(
                known.contains(&name.as_str()),
                "{} uses {name}",
                relative.display()
            );
        }
    }
    assert!(seen > 15, "{seen} files");
}

/// A module and its submodules may use each other; any other cycle is an error.
#[test]
fn modules_use_each_other_in_no_circle() {
    let uses = uses();
    let mut circles: Vec<Vec<&str>> = Vec::new();
    let reach: BTreeMap<&str, BTreeSet<&str>> = uses
        .keys()
        .map(|module| (module.as_str(), reachable(module, &uses)))
        .collect();
    let mut seen = BTreeSet::new();
    for module in uses.keys().map(String::as_str) {
        let circle: Vec<&str> = reach[module]
            .iter()
            .filter(|other| reach[*other].contains(module))
            .copied()
            .collect();
        if circle.len() > 1 && seen.insert(circle.clone()) {
            circles.push(circle);
        }
    }
    circles.retain(|circle| {
        !circle.iter().any(|root| {
            let under = format!("{root}::");
            circle.iter().all(|m| m == root || m.starts_with(&under))
        })
    });
    assert!(circles.is_empty(), "modules name each other: {circles:#?}");
}

/// All modules that a module uses, directly or not.
fn reachable<'a>(from: &str, uses: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut left: Vec<&'a str> = uses[from].iter().map(String::as_str).collect();
    while let Some(next) = left.pop() {
        if found.insert(next) {
            left.extend(uses[next].iter().map(String::as_str));
        }
    }
    found
}

/// The code of a file without its tests and comments, whose links do not make a module use another one.
fn code(text: &str) -> String {
    text.split("#[cfg(test)]")
        .next()
        .unwrap()
        .lines()
        .map(|line| line.split("//").next().unwrap().trim())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The modules that each module uses, except in tests.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    for (path, text) in sources("src") {
        let path = path.strip_prefix(&root).unwrap().with_extension("");
        let names: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        if ["main", "lib", "tests"].contains(names.last().unwrap()) {
            continue;
        }
        texts.insert(names.join("::"), code(&text));
    }
    let file_of = |names: &[String]| {
        (1..=names.len())
            .rev()
            .map(|length| names[..length].join("::"))
            .find(|module| texts.contains_key(module))
    };
    texts
        .iter()
        .map(|(module, code)| {
            let named = paths(code)
                .into_iter()
                .filter_map(|path| file_of(&from_the_root(module, &path)?))
                .filter(|other| other != module)
                .collect();
            (module.clone(), named)
        })
        .collect()
}

/// Every path in `use` declarations, expanded, and every other path that begins with `crate` or
/// `super`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let is_word = rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let tree = &rest[at + 4..];
        let end = tree.find(';').unwrap_or(tree.len());
        if !is_word {
            take_apart("", &tree[..end], &mut found);
        }
        rest = &tree[end.min(tree.len())..];
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_inside = code[..at].ends_with("::");
            let path: String = code[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                .collect();
            if !is_inside {
                found.push(path);
            }
        }
    }
    found
}

/// Expands `a::{b, c::{d, e}}` to `a::b`, `a::c::d`, `a::c::e`.
fn take_apart(before: &str, tree: &str, into: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((name, list)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap().trim();
        into.push(format!("{before}{name}"));
        return;
    };
    let before = format!("{before}{}", name.trim());
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                take_apart(&before, &list[start..at], into);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !list[start..].trim().is_empty() {
        take_apart(&before, &list[start..], into);
    }
}

/// A path from the root of the crate; `None` if it leaves the crate.
fn from_the_root(module: &str, path: &str) -> Option<Vec<String>> {
    let mut names: Vec<&str> = path.split("::").filter(|n| !n.is_empty()).collect();
    let mut at: Vec<&str> = module.split("::").collect();
    match *names.first()? {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            while names.first() == Some(&"super") {
                at.pop();
                names.remove(0);
            }
            names.insert(0, "super");
        }
        _ => return None,
    }
    Some(
        at.into_iter()
            .chain(names.into_iter().skip(1))
            .map(str::to_owned)
            .collect(),
    )
}

/// Whoever takes the project over finds their way by this page.
#[test]
fn the_architecture_page_names_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = include_str!("../../docs/explanation/architecture.md");
    let named: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.ends_with(".rs") || name.ends_with('/'))
        .collect();
    assert!(named.len() > 60, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !root.join("src").join(name).exists() && !root.join(name).exists())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
