//! Generates attacks on signed responses. The verifier must refuse every changed response, or read
//! it exactly like the original.

mod mutations;
mod wrappings;
mod xmlsec1;

use super::tests::{GOOD, accept, data, made_at, metadata, sign};
use super::*;

/// A valid response to attack, with the content that a verifier reads from it.
struct Target {
    name: &'static str,
    /// The name of the provider, whose metadata is in `tests/data/saml/PROVIDER-metadata.xml`.
    provider: &'static str,
    xml: String,
    idp: Metadata,
    says: Accepted,
}

fn targets() -> Vec<Target> {
    let target = |(name, provider): (&'static str, &'static str)| {
        let xml = data(&format!("{name}.xml"));
        let idp = metadata(provider);
        let says = accept(xml.as_bytes(), &idp, made_at()).unwrap();
        Target {
            name,
            provider,
            xml,
            idp,
            says,
        }
    };
    GOOD.into_iter().map(target).collect()
}

impl Target {
    /// Returns whether the response is accepted. Fails the test if it is accepted with another
    /// content.
    #[track_caller]
    fn accepts(&self, attack: &[u8], how: &str) -> bool {
        self.refusal(attack, how).is_none()
    }

    /// Returns why the response is refused, or `None` if it is accepted. Fails the test if it is
    /// accepted with another content.
    #[track_caller]
    fn refusal(&self, attack: &[u8], how: &str) -> Option<Refusal> {
        match accept(attack, &self.idp, made_at()) {
            Err(refusal) => Some(refusal),
            Ok(says) => {
                let attack = String::from_utf8_lossy(attack);
                assert_eq!(
                    says, self.says,
                    "{how} of {} is accepted:\n{attack}",
                    self.name
                );
                None
            }
        }
    }
}

/// A generator of pseudorandom numbers that are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        self.any_of(all).unwrap()
    }

    fn any_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// Returns a forged copy of a response or an assertion, with the subject `mallory` and another role.
fn evil(xml: &str) -> String {
    let text = for_mallory(xml);
    assert!(text.contains("mallory"));
    text
}

fn for_mallory(xml: &str) -> String {
    let mut text = xml.to_owned();
    for name in ["alice-7f3a", ">bob<", "car<!-- between -->ol"] {
        let other = if name.starts_with('>') {
            ">mallory<"
        } else {
            "mallory"
        };
        text = text.replace(name, other);
    }
    text.replace("role/Deploy", "role/Admin")
}

/// Returns the positions in a document at which an element can be inserted: before and after each element except the
/// root, and before the first child of each element.
fn positions(xml: &str) -> Vec<usize> {
    let document = Document::parse(xml).unwrap();
    let mut positions = Vec::new();
    for element in document.descendants().filter(Node::is_element) {
        let range = element.range();
        if element != document.root_element() {
            positions.extend([range.start, range.end]);
        }
        let first = element.first_child().map(|child| child.range().start);
        positions.extend(first);
    }
    positions.sort_unstable();
    positions.dedup();
    positions
}

fn insert(text: &str, at: usize, what: &str) -> String {
    format!("{}{what}{}", &text[..at], &text[at..])
}

#[test]
fn the_attacks_would_succeed_without_the_signature() {
    // A forged assertion with a valid signature is accepted, and its content differs.
    for target in targets().iter().filter(|t| t.name == "xmlsec-rsa-sha256") {
        let says = accept(sign(&evil(&target.xml)).as_bytes(), &target.idp, made_at()).unwrap();
        assert_eq!(says.assertion().subject.value, "mallory");
        assert_ne!(says, target.says);
        assert!(target.accepts(target.xml.as_bytes(), "itself"));
    }
}

/// Tries attributes that only some parsers take for namespace declarations, that make
/// canonicalization fail, or that give an element a second ID: PortSwigger, "The Fragile Lock"
/// (2025).
#[test]
fn sa_02_attributes_that_parsers_disagree_about_are_refused() {
    const ATTRIBUTES: [&str; 8] = [
        " xmlns:x=\"1\"",
        " xmlns:x=\"\"",
        " xmlns:x=\"urn:x\" x:xmlns=\"urn:y\"",
        " xmlns=\"urn:x\" xmlns=\"urn:y\"",
        " xmlns:xml=\"urn:x\"",
        " ID=\"_x\" Id=\"_x\"",
        " xml:id=\"_x\" id=\"_x\"",
        " x=\"&x;\"",
    ];
    for target in targets()
        .iter()
        .filter(|t| matches!(t.name, "pysaml2-both" | "samlp-prefixed"))
    {
        let document = Document::parse(&target.xml).unwrap();
        for element in document.descendants().filter(Node::is_element) {
            let at = element.range().start + 1 + xml::qualified_name(element).len();
            for attribute in ATTRIBUTES {
                let attack = insert(&target.xml, at, attribute);
                assert!(
                    !target.accepts(attack.as_bytes(), attribute),
                    "{attribute} at {at}"
                );
            }
        }
    }
}

/// Tries changes of the text that do not change its meaning in XML, such as CDATA sections.
#[test]
fn sa_02_other_spellings_of_a_value_are_read_whole() {
    for target in targets() {
        let name = &target.says.assertion().subject.value;
        let Some((before, after)) = target.xml.split_once(&format!(">{name}<")) else {
            continue;
        };
        let (first, rest) = name.split_at(1);
        let reference = format!("&#{};", u32::from(first.chars().next().unwrap()));
        for spelling in [
            format!("{first}<!-- x -->{rest}"),
            format!("<!---->{name}<!---->"),
            format!("{first}<![CDATA[{rest}]]>"),
            format!("{reference}{rest}"),
        ] {
            let text = format!("{before}>{spelling}<{after}");
            assert!(
                target.accepts(text.as_bytes(), &spelling),
                "{spelling} of {}",
                target.name
            );
        }
        for spelling in [
            format!("{first}<x/>{rest}"),
            format!("{first}<?x y?>{rest}"),
            format!("{name} "),
            format!("{first}&x;{rest}"),
            first.to_owned(),
        ] {
            let text = format!("{before}>{spelling}<{after}");
            assert!(
                !target.accepts(text.as_bytes(), &spelling),
                "{spelling} of {}",
                target.name
            );
        }
    }
}
