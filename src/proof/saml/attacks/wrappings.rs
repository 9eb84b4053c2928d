//! Tests of signature wrapping: a response with a forged copy besides the signed original.

use super::*;

/// Tries the eight wrappings of Somorovsky et al., "On Breaking SAML: Be Whoever You Want to Be"
/// (USENIX Security 2012), with the numbers that testing tools use.
#[test]
fn sa_01_the_eight_wrappings_are_refused() {
    for target in targets() {
        let of_response = target.name.ends_with("-response");
        let mut attacks = Vec::new();
        if of_response || target.name.ends_with("-both") {
            attacks.extend(wrappings_of_the_response(&target.xml));
        }
        if !of_response {
            attacks.extend(wrappings_of_the_assertion(&target.xml));
        }
        assert!(attacks.len() >= 6, "{}", target.name);
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

/// Returns the wrappings of a signed response with their numbers: the forged response contains the
/// original one.
fn wrappings_of_the_response(xml: &str) -> Vec<(u8, String)> {
    let document = Document::parse(xml).unwrap();
    let response = document.root_element();
    let signature = xml::children(response, signature::NAMESPACE, "Signature")
        .next()
        .unwrap();
    let (all, range) = (&xml[response.range()], signature.range());
    let offset = response.range().start;
    let range = range.start - offset..range.end - offset;
    let original = format!("{}{}", &all[..range.start], &all[range.end..]);
    let signature = &all[range.clone()];
    let end = signature.rfind("</").unwrap();
    let mut attacks = Vec::new();
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
    attacks
}

/// Returns the wrappings of a signed assertion with their numbers: the response contains a forged
/// assertion and the original one.
fn wrappings_of_the_assertion(xml: &str) -> Vec<(u8, String)> {
    let parts = Parts::of(xml);
    let all = &parts.assertion;
    let signature = &all[parts.signature.clone()];
    let original = format!(
        "{}{}",
        &all[..parts.signature.start],
        &all[parts.signature.end..]
    );
    let end = |xml: &str| xml.rfind("</").unwrap();
    let around = |inner: String| format!("{}{inner}{}", parts.before, parts.after);
    let in_signature = |inner: &str| insert(signature, end(signature), inner);
    let mut attacks = Vec::new();
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
            (6, around(holding(&in_signature(&original)))),
            (7, around(format!("{extensions}{all}"))),
            (8, around(holding(&in_signature(&object)))),
        ]);
    }
    attacks
}

/// Puts a forged assertion, the original or its signature at random positions, which are the same in every run.
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

/// The parts of a response that the attacks combine in other ways.
struct Parts {
    /// The text before the assertion; `after` is the text behind it.
    before: String,
    assertion: String,
    after: String,
    /// The byte range of the assertion's signature in `assertion`, or, if the assertion is not signed, that of the
    /// response's signature in the document.
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

/// Keeps (0), replaces (1) or removes (2) the first ID attribute of a text.
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
