//! Every security case in `tests/cases.txt` has a test that carries its ID, and the bands of the
//! module map hold.

use std::collections::BTreeMap;
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

#[test]
fn every_case_has_its_test() {
    let all: String = sources("src")
        .into_iter()
        .chain(sources("tests"))
        .map(|(_, text)| text)
        .collect();
    let missing: Vec<&str> = include_str!("../cases.txt")
        .split_whitespace()
        .filter(|id| {
            let name = id.to_ascii_lowercase().replace('-', "_");
            !all.contains(&format!("fn {name}_")) && !all.contains(&format!("_{name}_"))
        })
        .collect();
    assert!(missing.is_empty(), "cases without a test: {missing:?}");
}

#[test]
fn modules_use_their_own_band_and_those_above() {
    let map = include_str!("../../src/lib.rs");
    let mut band = 0;
    let mut bands: BTreeMap<&str, usize> = BTreeMap::new();
    for line in map.lines() {
        if line.starts_with("// ") {
            band += 1;
        } else if let Some(name) = line
            .strip_prefix("pub mod ")
            .and_then(|l| l.strip_suffix(';'))
        {
            bands.insert(name, band);
        }
    }
    assert_eq!(band, 5, "five bands");
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
        let code = text.split("#[cfg(test)]").next().unwrap();
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

/// A program that needs the client only must not have to build a broker.
#[test]
fn the_client_knows_nothing_of_the_broker() {
    let walls: [(&str, &[&str]); 4] = [
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
