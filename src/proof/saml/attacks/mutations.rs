//! Mutates the bytes and the trees of valid responses, with the same seed in every run.
//! `BREVET_SAML_MUTATIONS` sets the number of mutations, which is 20,000 by default.
//! `tests/data/saml/README.md` has the command for a long run.
//!
//! The test also verifies every accepted mutation with xmlsec1, and one in a hundred refused ones.

use super::xmlsec1::Xmlsec1;
use super::*;

pub(super) fn number() -> usize {
    match std::env::var("BREVET_SAML_MUTATIONS") {
        Ok(number) => number.parse().unwrap(),
        Err(_) => 20_000,
    }
}

/// The number of accepted responses that one process of xmlsec1 verifies, because starting a
/// process takes time.
const BATCH: usize = 200;

const TOKENS: [&str; 46] = [
    "<!---->",
    "<!-- x -->",
    "<?x y?>",
    "<![CDATA[]]>",
    "<![CDATA[mallory]]>",
    "<!DOCTYPE x>",
    "<!DOCTYPE x [<!ENTITY y 'mallory'>]>",
    "&y;",
    "&#0;",
    "&#xD;",
    "&#10;",
    "&amp;",
    "&lt;",
    "&#xFFFD;",
    "\u{feff}",
    "\u{202e}",
    "\u{85}",
    "\u{2028}",
    "\0",
    "\r\n",
    "\r",
    "\t",
    " ",
    "mallory",
    "<x/>",
    "<x>mallory</x>",
    "<x xmlns=''/>",
    "</x>",
    " xmlns=\"\"",
    " xmlns=\"urn:oasis:names:tc:SAML:2.0:assertion\"",
    " xmlns=\"http://www.w3.org/2000/09/xmldsig#\"",
    " xmlns:x=\"urn:oasis:names:tc:SAML:2.0:assertion\"",
    " xmlns:saml=\"urn:x\"",
    " xmlns:ns1=\"urn:x\"",
    " xmlns:xs=\"urn:x\"",
    " xmlns:xml=\"http://www.w3.org/XML/1998/namespace\"",
    " ID=\"_evil\"",
    " Id=\"_assertion\"",
    " xml:id=\"_assertion\"",
    " xml:space=\"preserve\"",
    " xml:base=\"urn:x\"",
    " ns1:xmlns=\"urn:x\"",
    " PrefixList=\"#default xs\"",
    " Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:entity\"",
    "]]>",
    "--",
];

/// Changes bytes at random: removes, copies, moves or replaces them, or inserts a token.
fn mutate_bytes(numbers: &mut Numbers, text: &mut Vec<u8>) {
    let at = numbers.below(text.len() + 1);
    let longest = *numbers.one_of(&[1, 4, 16, 200]);
    let length = 1 + numbers.below(longest);
    let end = (at + length).min(text.len());
    match numbers.below(9) {
        0 => drop(text.drain(at..end)),
        1 => text.truncate(at),
        2 => {
            let copy = text[at..end].to_vec();
            let to = numbers.below(text.len() + 1);
            text.splice(to..to, copy);
        }
        3 => {
            let copy: Vec<u8> = text.drain(at..end).collect();
            let to = numbers.below(text.len() + 1);
            text.splice(to..to, copy);
        }
        4 if at < text.len() => text[at] ^= 1 << numbers.below(8),
        5 if at < text.len() => text[at] = *numbers.one_of(b"<>&;:\"'=/!?-[]#ax0 \n"),
        // A token is inserted anywhere, or after a character with a meaning in XML.
        6 => drop(text.splice(at..at, numbers.one_of(&TOKENS).bytes())),
        _ => {
            let marks: Vec<usize> = (0..text.len())
                .filter(|i| b"<>\"= ".contains(&text[*i]))
                .collect();
            let at = marks
                .get(numbers.below(marks.len()))
                .map_or(0, |at| at + numbers.below(2));
            let at = at.min(text.len());
            text.splice(at..at, numbers.one_of(&TOKENS).bytes());
        }
    }
}

/// Changes the tree: removes, duplicates, moves, wraps or renames elements and attributes, or gives them the content of
/// others. Returns `None` if the text is not XML any more, or has nothing to which the chosen change applies.
fn mutate_tree(numbers: &mut Numbers, xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let elements: Vec<_> = document.descendants().filter(Node::is_element).collect();
    let one = *numbers.one_of(&elements);
    let other = *numbers.one_of(&elements);
    let (range, text) = (one.range(), &xml[one.range()]);
    let other_text = &xml[other.range()];
    let at = *numbers.any_of(&positions(xml))?;
    Some(match numbers.below(13) {
        0 => replaced(xml, range, ""),
        1 => insert(xml, at, text),
        2 if at <= range.start => insert(&replaced(xml, range, ""), at, text),
        2 if at >= range.end => insert(&replaced(xml, range.clone(), ""), at - range.len(), text),
        3 if range.end <= other.range().start => {
            let swapped = replaced(xml, other.range(), text);
            replaced(&swapped, range, other_text)
        }
        2 | 3 => replaced(xml, range, other_text),
        4 => {
            let name = *numbers.one_of(&["x", xml::qualified_name(other)]);
            replaced(xml, range, &format!("<{name}>{text}</{name}>"))
        }
        5 => {
            let (first, last) = (one.first_child(), one.last_child());
            let inner = first
                .zip(last)
                .map(|(f, l)| &xml[f.range().start..l.range().end]);
            replaced(xml, range, inner.unwrap_or_default())
        }
        6 => replaced(xml, range, &renamed(xml, one, xml::qualified_name(other))),
        7 => {
            let (_, local) = split(xml::qualified_name(one));
            let (prefix, _) = split(xml::qualified_name(other));
            let prefix = *numbers.one_of(&[prefix, "", "x:"]);
            replaced(xml, range, &renamed(xml, one, &format!("{prefix}{local}")))
        }
        8..=10 => mutate_attributes(numbers, xml, &elements, one)?,
        11 => {
            let is_text = |node: &Node<'_, '_>| node.is_text();
            let texts: Vec<_> = document.descendants().filter(is_text).collect();
            let (one, other) = (
                numbers.any_of(&texts)?.range(),
                numbers.any_of(&texts)?.range(),
            );
            let with = *numbers.one_of(&["mallory", "", &xml[other]]);
            replaced(xml, one, with)
        }
        _ => replaced(xml, range, &for_mallory(text)),
    })
}

/// Removes an attribute, gives it the value of another one, or copies an attribute to `element`.
/// Returns `None` if no element has an attribute.
fn mutate_attributes(
    numbers: &mut Numbers,
    xml: &str,
    elements: &[Node<'_, '_>],
    element: Node<'_, '_>,
) -> Option<String> {
    let attributes = |element: &Node<'_, '_>| -> Vec<_> {
        element
            .attributes()
            .map(|a| (a.range(), a.range_value()))
            .collect()
    };
    let all: Vec<_> = elements.iter().flat_map(attributes).collect();
    let (whole, value) = numbers.any_of(&all)?.clone();
    let (from_whole, from_value) = numbers.any_of(&all)?.clone();
    let after_name = element.range().start + 1 + xml::qualified_name(element).len();
    Some(match numbers.below(3) {
        0 => replaced(xml, whole, ""),
        1 => replaced(xml, value, &xml[from_value]),
        _ => insert(xml, after_name, &format!(" {}", &xml[from_whole])),
    })
}

fn replaced(xml: &str, range: std::ops::Range<usize>, with: &str) -> String {
    format!("{}{with}{}", &xml[..range.start], &xml[range.end..])
}

/// Returns the text of an element with another name in its start and end tags.
fn renamed(xml: &str, element: Node<'_, '_>, name: &str) -> String {
    let old = xml::qualified_name(element);
    let text = &xml[element.range()];
    let text = format!("<{name}{}", &text[1 + old.len()..]);
    match text
        .strip_suffix('>')
        .and_then(|t| t.trim_end().strip_suffix(old))
    {
        Some(start) if start.ends_with("</") => format!("{start}{name}>"),
        _ => text,
    }
}

/// Splits a qualified name into its prefix, including the colon, and its local part.
fn split(name: &str) -> (&str, &str) {
    name.split_at(name.find(':').map_or(0, |colon| colon + 1))
}

fn mutation(numbers: &mut Numbers, xml: &str) -> Vec<u8> {
    let mut text = xml.as_bytes().to_vec();
    for _ in 0..=numbers.below(3) {
        let tree = match std::str::from_utf8(&text) {
            Ok(text) if numbers.below(2) == 0 => mutate_tree(numbers, text),
            _ => None,
        };
        match tree {
            Some(changed) => text = changed.into_bytes(),
            None => mutate_bytes(numbers, &mut text),
        }
    }
    text
}

/// The number of mutations of one response with each result.
#[derive(Default)]
struct Count {
    accepted: usize,
    asked: usize,
    /// The number of mutations that Brevet refuses and xmlsec1 accepts. xmlsec1 supports more forms
    /// of signatures, and does not check the rules of SAML.
    stricter: usize,
}

fn run(target: &Target, seed: u64, mutations: usize) -> Count {
    let (mut numbers, mut count) = (Numbers(seed), Count::default());
    let xmlsec1 = Xmlsec1::new(target);
    let mut accepted = Vec::new();
    let ask = |accepted: &mut Vec<Vec<u8>>| {
        if let Some(refused) = xmlsec1.refused(accepted).first() {
            let text = String::from_utf8_lossy(refused);
            panic!("xmlsec1 refuses this mutation of {}:\n{text}", target.name);
        }
        accepted.clear();
    };
    for number in 0..mutations {
        let text = mutation(&mut numbers, &target.xml);
        match target.refusal(&text, "a mutation") {
            None => {
                count.accepted += 1;
                accepted.push(text);
                if accepted.len() == BATCH {
                    ask(&mut accepted);
                }
            }
            Some(refusal) if number % 100 == 0 => {
                count.asked += 1;
                let is_good = xmlsec1.accepts(&text);
                count.stricter += usize::from(is_good);
                // Both verifiers must agree about the same octets and the same key.
                let is_cryptography = matches!(
                    refusal,
                    Refusal::Signature {
                        why: SignatureError::Digest | SignatureError::Key,
                        ..
                    }
                );
                assert!(
                    !(is_good && is_cryptography),
                    "xmlsec1 accepts this mutation of {}, which is refused: {refusal}\n{}",
                    target.name,
                    String::from_utf8_lossy(&text)
                );
            }
            Some(_) => {}
        }
    }
    ask(&mut accepted);
    count
}

#[test]
fn sa_07_no_mutation_is_accepted_as_anybody_else() {
    let targets = targets();
    let each = number().div_ceil(targets.len());
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let threads: Vec<_> = targets
            .iter()
            .zip(1..)
            .map(|(target, seed)| scope.spawn(move || run(target, seed, each)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect()
    });
    let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
    // Some mutations do not alter what is signed, such as a space in a tag.
    assert!(counts.iter().all(|count| count.accepted > 0));
    println!(
        "{} of {} mutations changed nothing that is signed, and xmlsec1 accepts them, too; of {} others that xmlsec1 \
         was asked about, it accepts {}",
        sum(|c| c.accepted),
        each * targets.len(),
        sum(|c| c.asked),
        sum(|c| c.stricter),
    );
}

/// Checks that mutations are refused for more than 20 different reasons, so that they test many steps of the verifier
/// and not only the XML parser.
#[test]
fn mutations_are_refused_for_many_reasons() {
    let targets = targets();
    let target = targets
        .iter()
        .find(|t| t.name == "xmlsec-rsa-sha256")
        .unwrap();
    let mut numbers = Numbers(1);
    let mut reasons = std::collections::HashSet::new();
    for _ in 0..2_000 {
        let text = mutation(&mut numbers, &target.xml);
        let refusal = target.refusal(&text, "a mutation");
        reasons.extend(refusal.map(|refusal| match refusal {
            Refusal::Signature { why, .. } => format!("{:?}", std::mem::discriminant(&why)),
            Refusal::Xml(why) => format!("xml {:?}", std::mem::discriminant(&why)),
            other => format!("other {:?}", std::mem::discriminant(&other)),
        }));
    }
    assert!(reasons.len() > 20, "{reasons:?}");
}
