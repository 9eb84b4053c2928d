//! Generates attacks on signed responses. Every changed response must be refused, or be read exactly
//! like the original.

mod mutations;
mod xmlsec1;

use super::tests::{GOOD, accept, data, made_at, metadata, sign};
use super::*;

/// A valid response that is attacked, and its content.
struct Target {
    name: &'static str,
    /// The `PROVIDER` in `tests/data/saml/PROVIDER-metadata.xml`.
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
    /// Whether the response is accepted. Fails the test if it is accepted with another content.
    #[track_caller]
    fn accepts(&self, attack: &[u8], how: &str) -> bool {
        self.refusal(attack, how).is_none()
    }

    /// Why the response is refused, or `None` if it is accepted. Fails the test if it is accepted with
    /// another content.
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

/// The parts of a response, of which attacks are composed.
struct Parts {
    /// The texts before and after the assertion.
    before: String,
    assertion: String,
    after: String,
    /// The position of the signature in the assertion, or in the response if that is signed.
    signature: std::ops::Range<usize>,
}

impl Parts {
    fn of(xml: &str) -> Self {
        let document = Document::parse(xml).unwrap();
        let response = document.root_element();
        let assertion = xml::children(response, SAML, "Assertion").next().unwrap();
        let range = assertion.range();
        let signature = |parent| xml::children(parent, signature::NAMESPACE, "Signature").next();
        let signature = match signature(assertion) {
            Some(inner) => inner.range().start - range.start..inner.range().end - range.start,
            None => signature(response).unwrap().range(),
        };
        Self {
            before: xml[..range.start].to_owned(),
            assertion: xml[range.clone()].to_owned(),
            after: xml[range.end..].to_owned(),
            signature,
        }
    }
}

/// A forged copy of a response, with the subject `mallory` and another role.
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

/// Keeps (0), replaces (1) or removes (2) the first ID of a text.
fn with_id(xml: &str, id: usize) -> String {
    let at = xml.find(" ID=\"").unwrap();
    let end = at + 5 + xml[at + 5..].find('"').unwrap() + 1;
    let new = ["", " ID=\"_evil\"", ""][id];
    if id == 0 {
        xml.to_owned()
    } else {
        format!("{}{new}{}", &xml[..at], &xml[end..])
    }
}

/// The positions in a document at which an element can be inserted: before and after each element, and
/// after each start tag.
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

/// The eight wrappings of Somorovsky et al., "On Breaking SAML: Be Whoever You Want to Be" (USENIX
/// Security 2012), as testing tools number them.
#[test]
fn sa_01_the_eight_wrappings_are_refused() {
    for target in targets() {
        let parts = Parts::of(&target.xml);
        let mut attacks = Vec::new();
        if target.name.ends_with("-response") || target.name.ends_with("-both") {
            let document = Document::parse(&target.xml).unwrap();
            let response = document.root_element();
            let signature = xml::children(response, signature::NAMESPACE, "Signature")
                .next()
                .unwrap();
            let (all, range) = (&target.xml[response.range()], signature.range());
            let offset = response.range().start;
            let range = range.start - offset..range.end - offset;
            let original = format!("{}{}", &all[..range.start], &all[range.end..]);
            let signature = &all[range.clone()];
            let end = signature.rfind("</").unwrap();
            for id in 0..3 {
                let evil = with_id(&evil(&original), id);
                let at = range.start + evil.len() - original.len();
                let at = evil[..at.min(evil.len())]
                    .rfind("<samlp:Status")
                    .unwrap_or(evil.find("><").unwrap() + 1);
                // 1: the original is in the signature of the forged response.
                attacks.push((1, insert(&evil, at, &insert(signature, end, &original))));
                // 2: it is in front of the signature.
                attacks.push((2, insert(&evil, at, &format!("{original}{signature}"))));
            }
        }
        if target.name.ends_with("-response") {
            assert_eq!(attacks.len(), 6);
        } else {
            let all = &parts.assertion;
            let signature = &all[parts.signature.clone()];
            let original = format!(
                "{}{}",
                &all[..parts.signature.start],
                &all[parts.signature.end..]
            );
            let end = |xml: &str| xml.rfind("</").unwrap();
            let around = |inner: String| format!("{}{inner}{}", parts.before, parts.after);
            for id in 0..3 {
                let plain = with_id(&evil(&original), id);
                let signed = with_id(&evil(all), id);
                let at = signed.find(signature).unwrap();
                let unsigned = format!("{}{}", &signed[..at], &signed[at + signature.len()..]);
                let holding = |inner: &str| insert(&unsigned, at, inner);
                let extensions =
                    format!("<samlp:Extensions xmlns:samlp=\"{SAMLP}\">{plain}</samlp:Extensions>");
                let object = format!(
                    "<ds:Object xmlns:ds=\"{}\">{original}</ds:Object>",
                    signature::NAMESPACE
                );
                attacks.extend([
                    (3, around(format!("{plain}{all}"))),
                    (4, around(insert(&plain, end(&plain), all))),
                    (5, around(format!("{signed}{original}"))),
                    (
                        6,
                        around(holding(&insert(signature, end(signature), &original))),
                    ),
                    (7, around(format!("{extensions}{all}"))),
                    (
                        8,
                        around(holding(&insert(signature, end(signature), &object))),
                    ),
                ]);
            }
        }
        for (number, attack) in attacks {
            assert!(
                Document::parse(&attack).is_ok(),
                "wrapping {number} of {}:\n{attack}",
                target.name
            );
            let how = format!("wrapping {number}");
            assert!(
                !target.accepts(attack.as_bytes(), &how),
                "{how} of {}",
                target.name
            );
        }
    }
}

/// Puts a forged assertion, the original and its signature at all other positions. Only a sample of
/// the attacks is tried, which is the same in every run.
#[test]
fn sa_01_no_placement_of_an_evil_copy_is_accepted() {
    let each = mutations::number() / 10 / targets().len();
    let mut numbers = Numbers(1);
    for target in targets() {
        let parts = Parts::of(&target.xml);
        let is_inner = !target.name.ends_with("-response");
        let (all, signature) = if is_inner {
            (parts.assertion.clone(), parts.signature.clone())
        } else {
            (target.xml.clone(), parts.signature.clone())
        };
        let all_signature = &all[signature.clone()];
        let original = format!("{}{}", &all[..signature.start], &all[signature.end..]);
        let original = original.trim_start_matches(|c| c != '<');
        let original = match original.strip_prefix("<?") {
            Some(rest) => rest.split_once("?>").unwrap().1.trim_start(),
            None => original,
        };
        for _ in 0..each {
            let id = numbers.below(3);
            let evil_assertion = with_id(&evil(&parts.assertion), id);
            let (attack, how) = match numbers.below(4) {
                // A forged copy at any position, in addition to the original.
                0 => {
                    let at = *numbers.one_of(&positions(&target.xml));
                    (
                        insert(&target.xml, at, &evil_assertion),
                        "an evil assertion added",
                    )
                }
                // The original, or the signed element without its signature, at any position in a
                // forged copy.
                1 => {
                    let evil = with_id(&evil(&target.xml), id);
                    let at = *numbers.one_of(&positions(&evil));
                    let what = *numbers.one_of(&[original, parts.assertion.as_str()]);
                    (insert(&evil, at, what), "the original in an evil copy")
                }
                // The signature at any position in a forged copy that has none, with or without
                // the original.
                2 => {
                    let evil = evil(&target.xml).replace(all_signature, "");
                    let at = *numbers.one_of(&positions(&evil));
                    let moved = insert(&evil, at, all_signature);
                    let at = *numbers.one_of(&positions(&moved));
                    let what = *numbers.one_of(&["", original]);
                    (insert(&moved, at, what), "the signature moved")
                }
                // A second copy of the signature at any position.
                _ => {
                    let at = *numbers.one_of(&positions(&target.xml));
                    (
                        insert(&target.xml, at, all_signature),
                        "the signature repeated",
                    )
                }
            };
            assert!(
                !target.accepts(attack.as_bytes(), how),
                "{how} of {}:\n{attack}",
                target.name
            );
        }
    }
}

/// Attributes that only some parsers take for a namespace, that make canonicalization fail, or that give
/// an element a second ID: PortSwigger, "The Fragile Lock" (2025).
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

/// Changes that do not alter the meaning of XML.
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
