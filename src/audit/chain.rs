//! The hash chain of the log. Each line carries its number, and a hash over the line and the hash of the line before
//! it. Deleting, moving, editing or cutting off lines breaks the chain. Somebody who computes all later hashes anew is
//! still found out, because another file contains the head of the original chain.

use crate::base::digest::hex;

/// The text with which the input of each hash begins.
const DOMAIN: &[u8] = b"brevet audit line v1";
const BEFORE_SEQUENCE: &[u8] = b",\"chain\":{\"sequence\":";
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
const AFTER_HASH: &[u8] = b"\"}}";
/// How many bytes the chain adds to a line at most.
pub(super) const ROOM: usize = 128;

/// The place of a line in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The number of the line, counted from 1.
    pub sequence: u64,
    /// The SHA-256 hash over the line and the hash of the line before it.
    pub hash: [u8; 32],
}

impl Link {
    /// The link before the first line, with the number 0.
    pub const START: Self = Self {
        sequence: 0,
        hash: [0; 32],
    };

    /// The link of the next line. `record` is the JSON of that line without the last brace.
    fn next(self, record: &[u8]) -> Self {
        let sequence = self.sequence.saturating_add(1);
        Self {
            sequence,
            hash: hash(&self.hash, sequence, record),
        }
    }

    /// The hash as 64 hexadecimal digits, as lines contain it.
    pub fn hash_text(&self) -> String {
        hex(&self.hash)
    }

    /// Parses a link from its number and its hash; `None` if the hash is not 64 hexadecimal digits in lower case.
    pub fn parse(sequence: u64, hash: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if hash.len() != 64 || !hash.is_ascii() {
            return None;
        }
        for (slot, pair) in bytes.iter_mut().zip(hash.as_bytes().chunks(2)) {
            let digit = |at: usize| match pair.get(at) {
                Some(b @ b'0'..=b'9') => Some(b - b'0'),
                Some(b @ b'a'..=b'f') => Some(b - b'a' + 10),
                _ => None,
            };
            *slot = digit(0)? << 4 | digit(1)?;
        }
        Some(Self {
            sequence,
            hash: bytes,
        })
    }
}

fn hash(before: &[u8; 32], sequence: u64, record: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [DOMAIN, before, &sequence.to_be_bytes(), record, b"}"] {
        context.update(part);
    }
    let mut hash = [0; 32];
    for (slot, byte) in hash.iter_mut().zip(context.finish().as_ref()) {
        *slot = *byte;
    }
    hash
}

/// Appends `lines` to `out`, each with its link in the chain that continues from `link`. Returns the
/// last link.
pub(super) fn extend(mut link: Link, lines: &[u8], out: &mut Vec<u8>) -> Link {
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', lines) {
        let line = lines.get(begin..end).unwrap_or_default();
        begin = end + 1;
        // Every line is a JSON object.
        let Some(record) = line.strip_suffix(b"}") else {
            continue;
        };
        link = link.next(record);
        out.extend_from_slice(record);
        out.extend_from_slice(BEFORE_SEQUENCE);
        out.extend_from_slice(link.sequence.to_string().as_bytes());
        out.extend_from_slice(BEFORE_HASH);
        out.extend_from_slice(link.hash_text().as_bytes());
        out.extend_from_slice(AFTER_HASH);
        out.push(b'\n');
    }
    link
}

/// A line of a file, split into the record and its link.
#[derive(Debug, Clone, Copy)]
pub struct Chained<'a> {
    pub link: Link,
    record: &'a [u8],
}

impl<'a> Chained<'a> {
    /// Parses a line without its line feed; `None` if the line does not end with its number and hash in the form in
    /// which the broker writes them.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(AFTER_HASH)?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let rest = rest.strip_suffix(BEFORE_HASH)?;
        let digits = rest
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (rest, digits) = rest.split_at_checked(rest.len() - digits)?;
        let record = rest.strip_suffix(BEFORE_SEQUENCE)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let sequence = digits.parse().ok().filter(|_| !digits.starts_with('0'))?;
        Some(Self {
            link: Link::parse(sequence, std::str::from_utf8(hash).ok()?)?,
            record,
        })
    }

    /// Whether this line was written directly after the line with the hash `before`.
    pub fn follows(&self, before: &[u8; 32]) -> bool {
        hash(before, self.link.sequence, self.record) == self.link.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn au_04_a_line_says_its_place_and_follows_the_one_before_it() {
        let mut out = Vec::new();
        let last = extend(Link::START, b"{\"a\":1}\n{\"b\":{}}\n", &mut out);
        let lines: Vec<&[u8]> = out
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!((lines.len(), last.sequence), (2, 2));
        let [first, second] = [lines[0], lines[1]].map(|line| Chained::parse(line).unwrap());
        assert!(first.follows(&Link::START.hash) && second.follows(&first.link.hash));
        assert!(!second.follows(&Link::START.hash) && !first.follows(&second.link.hash));
        assert_eq!(second.link, last);
        let json: serde_json::Value = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!(
            (&json["chain"]["sequence"], &json["b"]),
            (&2.into(), &serde_json::json!({}))
        );
        assert_eq!(Link::parse(2, &last.hash_text()), Some(last));
        let longest = extend(
            Link {
                sequence: u64::MAX - 1,
                ..Link::START
            },
            b"{}\n",
            &mut Vec::new(),
        );
        let mut out = Vec::new();
        extend(
            Link {
                sequence: longest.sequence - 1,
                ..Link::START
            },
            b"{}\n",
            &mut out,
        );
        assert!(out.len() <= 3 + ROOM, "{}", out.len());
    }

    #[test]
    fn au_04_other_spellings_are_no_place_in_the_chain() {
        let mut out = Vec::new();
        extend(Link::START, b"{\"a\":1}\n", &mut out);
        let line = String::from_utf8(out).unwrap();
        let line = line.trim_end();
        assert!(Chained::parse(line.as_bytes()).is_some());
        for (from, to) in [
            ("\"sequence\":1", "\"sequence\":01"),
            ("\"sequence\":1", "\"sequence\":-1"),
            ("\"sequence\":1", "\"sequence\": 1"),
            ("\"sequence\":1", "\"sequence\":"),
            ("\"sequence\":1", "\"sequence\":99999999999999999999"),
            ("\"chain\"", "\"Chain\""),
            ("\"hash\"", "\"hush\""),
            ("\"}}", "\"}} "),
        ] {
            assert!(line.contains(from));
            assert!(
                Chained::parse(line.replace(from, to).as_bytes()).is_none(),
                "{to}"
            );
        }
        assert!(Chained::parse(line.to_ascii_uppercase().as_bytes()).is_none());
        for end in 0..line.len() {
            assert!(Chained::parse(&line.as_bytes()[..end]).is_none(), "{end}");
        }
    }
}
