//! Reads the child elements, texts and attributes of an XML element, and refuses those that SAML
//! does not allow there.

use std::borrow::Cow;

use roxmltree::Node;

use super::refusal::Refusal;
use super::xml;
use crate::base::clock::Timestamp;

/// The maximum length of an ID in bytes. The store must keep the ID until the assertion has
/// expired.
const MAX_ID: usize = 1_024;

/// An element, with its name for error messages.
#[derive(Clone, Copy)]
pub(super) struct Element<'a, 'i>(pub Node<'a, 'i>, pub &'static str);

impl<'a, 'i: 'a> Element<'a, 'i> {
    pub fn wrong(self, rule: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::Element {
            element: self.1,
            rule: rule.into(),
        }
    }

    /// Checks that the element contains no text other than white space, and no child elements except those with these
    /// namespaces and names.
    pub fn has_only(self, names: &[(&str, &str)]) -> Result<(), Refusal> {
        let is_named = |child: Node<'_, '_>| {
            names
                .iter()
                .any(|(space, name)| xml::is(child, space, name))
        };
        let mut children = self.0.children();
        if children.all(|child| !child.is_text() || is_blank(child))
            && self.0.children().filter(Node::is_element).all(is_named)
        {
            Ok(())
        } else {
            Err(self.wrong("the element contains text or a child element that is not allowed"))
        }
    }

    /// Returns the child element with this name. Refuses the element if it has none or several.
    pub fn one(self, namespace: &str, local: &'static str) -> Result<Node<'a, 'i>, Refusal> {
        self.optional(namespace, local)?.ok_or(Refusal::Element {
            element: local,
            rule: "the element is missing".into(),
        })
    }

    /// Returns the child element with this name, or `None` if there is none. Refuses the element if
    /// it has several.
    pub fn optional(
        self,
        namespace: &str,
        local: &'static str,
    ) -> Result<Option<Node<'a, 'i>>, Refusal> {
        let mut named = self
            .0
            .children()
            .filter(|child| xml::is(*child, namespace, local));
        let first = named.next();
        match named.next() {
            None => Ok(first),
            Some(_) => Err(Refusal::Element {
                element: local,
                rule: "the element occurs more than once".into(),
            }),
        }
    }

    pub fn version(self) -> Result<(), Refusal> {
        match xml::attribute(self.0, "Version") {
            Some("2.0") => Ok(()),
            _ => Err(self.wrong("the Version is not 2.0")),
        }
    }

    pub fn id(self) -> Result<String, Refusal> {
        match self.text_attribute("ID")? {
            Some(id) if id.len() <= MAX_ID => Ok(id),
            Some(_) => Err(self.wrong("the ID is longer than 1,024 bytes")),
            None => Err(self.wrong("the ID is missing or empty")),
        }
    }

    /// Returns the element's text, which must not be empty or contain control characters.
    pub fn text(self) -> Result<String, Refusal> {
        xml::text(self.0)
            .filter(|text| is_plain(text))
            .ok_or(self.wrong("the text is empty, or contains a control character or an element"))
    }

    /// Returns the value of an attribute, which must not contain control characters; `None` if it is missing or empty.
    pub fn text_attribute(self, name: &str) -> Result<Option<String>, Refusal> {
        match xml::attribute(self.0, name) {
            None | Some("") => Ok(None),
            Some(value) if is_plain(value) => Ok(Some(value.to_owned())),
            Some(_) => Err(self.wrong(format!("{name} contains a control character"))),
        }
    }

    /// Returns the times `NotBefore` and `NotOnOrAfter`. If both are present, the first must be
    /// earlier (SAML Core 2.0 sections 2.4.1.2 and 2.5.1.2). Without this check, the leeway for
    /// clocks could make an empty period valid for a while.
    pub fn window(self) -> Result<(Option<Timestamp>, Option<Timestamp>), Refusal> {
        match (self.time("NotBefore")?, self.time("NotOnOrAfter")?) {
            (Some(from), Some(to)) if from >= to => {
                Err(self.wrong("NotBefore is not earlier than NotOnOrAfter"))
            }
            window => Ok(window),
        }
    }

    /// Returns the value of an attribute that is a time; `None` if the attribute is missing.
    pub fn time(self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        xml::attribute(self.0, name)
            .map(|text| {
                time(text).ok_or_else(|| {
                    self.wrong(format!(
                        "{name} does not have the form 2026-01-02T03:04:05Z (UTC)"
                    ))
                })
            })
            .transpose()
    }
}

fn is_blank(text: Node<'_, '_>) -> bool {
    text.text()
        .is_none_or(|text| text.trim_matches(super::limits::SPACE).is_empty())
}

/// Returns whether a text is not empty and has no control characters, which could make it look like
/// another text in a log.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// Parses a time of SAML, an `xs:dateTime` in UTC (SAML Core 2.0 section 1.3.3). Fractions of a
/// millisecond are cut off.
fn time(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = match text.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction.strip_suffix('Z')?),
        None => (text.strip_suffix('Z')?, "0"),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(fraction) || fraction.len() > 20 {
        return None;
    }
    let (date, time) = seconds.split_once('T')?;
    let parts: Vec<&str> = date.split('-').chain(time.split(':')).collect();
    let [year, month, day, hour, minute, second] = *parts else {
        return None;
    };
    if [year, month, day, hour, minute, second].map(str::len) != [4, 2, 2, 2, 2, 2] {
        return None;
    }
    // The last two days of the year 9999, which mean "never", are beyond the broker's calendar.
    let day = match (year, month, day) {
        ("9999", "12", "30" | "31") => "29",
        _ => day,
    };
    let at = Timestamp::from_amz(&format!("{year}{month}{day}T{hour}{minute}{second}Z"))?;
    let millis = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(at.plus(std::time::Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc() {
        let at = |text| time(text).map(Timestamp::millis);
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(1_000));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some(1_500));
        assert_eq!(at("1970-01-01T00:00:01.0009999Z"), Some(1_000));
        let last = at("9999-12-29T23:59:59Z");
        assert!(last.is_some());
        assert_eq!(at("9999-12-31T23:59:59Z"), last);
        for text in [
            "9999-12-31T24:00:00Z",
            "9999-12-32T00:00:00Z",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01+00:00",
            "1970-01-01T00:00:01.Z",
            "1970-01-01T00:00:01.-1Z",
            "1970-1-01T00:00:001Z",
            "1970-01-01 00:00:01Z",
            "1970-02-30T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "+970-01-01T00:00:01Z",
            " 1970-01-01T00:00:01Z",
            "",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
