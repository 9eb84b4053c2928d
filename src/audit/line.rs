//! A record as one line of ASCII JSON, and how long that line may be.
//!
//! Whoever sends a request chooses most of what its record holds, so the length of a line is bounded
//! here, in the bytes that reach the disk, for every operation at once. A refusal's line is cut until
//! it fits in [`MAX_REFUSAL`]; any other line is whole, up to [`MAX_LINE`].

use std::io::{self, Write};

use serde::Serialize;

use super::record::Record;
use super::{AuditError, chain};

/// The longest line of a refusal, in bytes, with its place in the chain and the line feed.
pub const MAX_REFUSAL: usize = 4 << 10;
/// The longest line of any record, in bytes, with its place in the chain and the line feed. The largest call that can be granted
/// stays below: 50 tags of 128 and 256 characters, all of them transitive, each character in two
/// escapes of six bytes.
pub const MAX_LINE: usize = 512 << 10;
/// The longest text in a refusal's record, in characters.
pub(super) const MAX_TEXT: usize = 512;
/// The most items of a list in a refusal's record.
const MAX_ITEMS: usize = 10;
/// Names of members, and what Brevet itself writes at the top of a record (identifiers, times, an
/// address, an error code), are shorter than this and are never cut.
const FLOOR: usize = 64;
/// Members of a record that hold whatever the operation puts there. The last resort leaves them out.
const SECTIONS: [&[u8]; 3] = [
    b"requestParameters",
    b"responseElements",
    b"additionalEventData",
];

/// A line with everything that the record holds, unless that is more than [`MAX_LINE`].
pub(super) fn whole(record: &Record) -> Result<Vec<u8>, AuditError> {
    let line = serialize(record)?;
    let most = MAX_LINE - chain::ROOM;
    Ok(finish(if line.len() < most {
        line
    } else {
        cut_to(line, most)
    }))
}

/// A line of at most [`MAX_REFUSAL`] bytes.
pub(super) fn refusal(record: &Record) -> Result<Vec<u8>, AuditError> {
    Ok(finish(cut_to(
        serialize(record)?,
        MAX_REFUSAL - chain::ROOM,
    )))
}

fn finish(mut line: Vec<u8>) -> Vec<u8> {
    line.push(b'\n');
    line
}

fn serialize(record: &Record) -> Result<Vec<u8>, AuditError> {
    // A granted call takes about 1,300 bytes.
    let mut line = Vec::with_capacity(2_048);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Ascii);
    record.serialize(&mut serializer).map_err(|_| AuditError)?;
    Ok(line)
}

/// Escapes everything beyond ASCII, so that no reader takes U+2028 for the end of a line.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_ascii(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // JSON that Brevet made itself: outside of strings it has nothing beyond ASCII.
        write_ascii(writer, fragment)
    }
}

fn write_ascii<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    const DELETE: u8 = 0x7f;
    if fragment.bytes().fold(0, u8::max) < DELETE {
        return writer.write_all(fragment.as_bytes());
    }
    for c in fragment.chars() {
        match u8::try_from(c) {
            Ok(byte) if byte < DELETE => writer.write_all(&[byte])?,
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
    }
    Ok(())
}

/// One way to shorten a record: the longest text in bytes as it is written, beside [`MAX_TEXT`] and
/// [`MAX_ITEMS`], which always hold.
struct Cut {
    /// In `userIdentity`, which says who called and gives way last.
    identity: usize,
    /// Anywhere else.
    text: usize,
    /// Whether [`SECTIONS`] are left out.
    omit: bool,
}

/// From the mildest to the one that always fits: that leaves about 800 bytes at the top of the record,
/// 2,400 in `userIdentity` and 150 for sections that were left out.
const CUTS: [Cut; 5] = [
    Cut {
        identity: usize::MAX,
        text: usize::MAX,
        omit: false,
    },
    Cut {
        identity: 256,
        text: 256,
        omit: false,
    },
    Cut {
        identity: 256,
        text: FLOOR,
        omit: false,
    },
    Cut {
        identity: 256,
        text: 16,
        omit: false,
    },
    Cut {
        identity: 256,
        text: FLOOR,
        omit: true,
    },
];

/// The mildest cut that makes a line shorter than `limit`.
fn cut_to(mut line: Vec<u8>, limit: usize) -> Vec<u8> {
    for cut in CUTS {
        line = cut.apply(&line);
        if line.len() < limit {
            break;
        }
    }
    line
}

impl Cut {
    /// Copies JSON without white space, as [`serialize`] makes it, and shortens it on the way. After a
    /// list `tags` that was cut comes a member `tagsTotal`: how many items there were.
    fn apply(&self, json: &[u8]) -> Vec<u8> {
        let mut copy = Copy {
            cut: self,
            out: Vec::with_capacity(json.len().min(MAX_REFUSAL)),
            levels: Vec::new(),
            leaving_out: None,
        };
        let mut rest = json;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match byte {
                b'"' => copy.text(after),
                b']' | b'}' => {
                    copy.close(byte);
                    after
                }
                _ => copy.structure(byte, after),
            };
        }
        copy.out
    }
}

/// A record that is being shortened.
struct Copy<'a> {
    cut: &'a Cut,
    out: Vec<u8>,
    /// The lists and objects that are open, outermost first.
    levels: Vec<Level<'a>>,
    /// How deep the list is whose further items are left out.
    leaving_out: Option<usize>,
}

/// A list or an object that is open.
struct Level<'a> {
    is_list: bool,
    /// Commas that were seen in it.
    commas: usize,
    /// Of an object: the name of the member that comes next or is being read.
    name: &'a [u8],
    /// Of an object: whether a name comes next.
    names: bool,
}

impl<'a> Copy<'a> {
    /// A text, whose opening quote was just read; what comes after it.
    fn text(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (text, after) = rest
            .split_at_checked(text_length(rest))
            .unwrap_or((rest, &[]));
        let is_identity = self
            .levels
            .first()
            .is_some_and(|top| top.name == b"userIdentity");
        let depth = self.levels.len();
        let top = self.levels.last_mut();
        let is_name = top.as_ref().is_some_and(|level| level.names);
        let most = match is_identity {
            _ if is_name || depth == 1 => self.cut.text.max(FLOOR),
            true => self.cut.identity,
            false => self.cut.text,
        };
        if self.leaving_out.is_none() {
            self.out.push(b'"');
            self.out.extend_from_slice(clipped(text, most));
            self.out.push(b'"');
        }
        if let Some(level) = top.filter(|_| is_name) {
            level.name = text;
        }
        after.get(1..).unwrap_or_default()
    }

    /// The end of a list or an object.
    fn close(&mut self, byte: u8) {
        let depth = self.levels.len();
        let Some(closed) = self.levels.pop() else {
            return;
        };
        if self.leaving_out == Some(depth) {
            self.leaving_out = None;
        }
        if self.leaving_out.is_some() {
            return;
        }
        self.out.push(byte);
        if closed.is_list
            && closed.commas >= MAX_ITEMS
            && let Some(parent) = self.levels.last().filter(|parent| !parent.is_list)
        {
            self.out.extend_from_slice(b",\"");
            self.out.extend_from_slice(clipped(parent.name, FLOOR));
            let total = format!("Total\":{}", closed.commas + 1);
            self.out.extend_from_slice(total.as_bytes());
        }
    }

    /// Any other byte: the beginning of a list or an object, a comma, a colon, or a part of a number or
    /// a word. What comes after it, and after the section that it leaves out.
    fn structure(&mut self, byte: u8, rest: &'a [u8]) -> &'a [u8] {
        let depth = self.levels.len();
        match (byte, self.levels.last_mut()) {
            (b'[' | b'{', _) => {
                self.levels.push(Level {
                    is_list: byte == b'[',
                    commas: 0,
                    name: b"",
                    names: byte == b'{',
                });
            }
            (b',', Some(level)) => {
                level.commas += 1;
                level.names = !level.is_list;
                if level.is_list && level.commas == MAX_ITEMS && self.leaving_out.is_none() {
                    self.leaving_out = Some(depth);
                }
            }
            (b':', Some(level)) => level.names = false,
            _ => {}
        }
        if self.leaving_out.is_none() {
            self.out.push(byte);
        }
        let is_section = |level: &Level<'_>| SECTIONS.contains(&level.name);
        let is_left_out = byte == b':'
            && depth == 1
            && self.cut.omit
            && self.levels.last().is_some_and(is_section)
            && matches!(rest.first(), Some(b'{' | b'['));
        if !is_left_out {
            return rest;
        }
        let length = value_length(rest);
        // As CloudTrail has it: "If a field is truncated, `omitted` is present".
        let omitted = format!("{{\"omitted\":true,\"originalSize\":{length}}}");
        self.out.extend_from_slice(omitted.as_bytes());
        rest.get(length..).unwrap_or_default()
    }
}

/// How long a text is whose opening quote was just read, as it is written.
fn text_length(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    });
    end.unwrap_or(json.len())
}

/// How long the value is that JSON begins with.
fn value_length(json: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at += 1 + text_length(json.get(at + 1..).unwrap_or_default()),
            b'[' | b'{' => depth += 1,
            b']' | b'}' | b',' if depth == 0 => break,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at.min(json.len())
}

/// The beginning of a text as it is written, of at most [`MAX_TEXT`] characters and `most` bytes; no
/// escape is cut in two, and neither is a character that takes two of them.
fn clipped(text: &[u8], most: usize) -> &[u8] {
    if text.len() <= most.min(MAX_TEXT) {
        return text;
    }
    let mut at = 0;
    for _ in 0..MAX_TEXT {
        let length = match text.get(at..).unwrap_or_default() {
            [] => break,
            // The first half of a character beyond U+FFFF; the second follows.
            [
                b'\\',
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a' | b'b' | b'A' | b'B',
                ..,
            ] => 12,
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            _ => 1,
        };
        if at + length > most {
            break;
        }
        at += length;
    }
    text.get(..at).unwrap_or(text)
}
