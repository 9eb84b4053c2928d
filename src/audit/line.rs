//! Formats a record as one line of ASCII JSON, and limits the length of that line.
//!
//! The client chooses most of what a record contains, so the length of a line is limited here, in
//! bytes as written, for every operation. The line of a refusal is shortened until it fits in
//! [`MAX_REFUSAL`]; every other line is complete, up to [`MAX_LINE`].

use std::io::{self, Write};

use serde::Serialize;

use super::record::Record;
use super::{AuditError, chain};

/// The maximum length in bytes of a refusal's line, including its link and the line feed.
pub const MAX_REFUSAL: usize = 4 << 10;
/// The maximum length in bytes of a line, including its link and the line feed. The largest call that can be
/// granted is shorter: 50 transitive tags of 128 and 256 characters, each character written as two
/// escapes of six bytes.
pub const MAX_LINE: usize = 512 << 10;
/// The maximum length in characters of a text in the record of a refusal.
pub(super) const MAX_TEXT: usize = 512;
/// The maximum number of items of a list in the record of a refusal.
const MAX_ITEMS: usize = 10;
/// A member's name, or a text at the top of a record, of at most this many bytes is never shortened. The values that
/// Brevet itself writes at the top (identifiers, times, an address, an error code) are shorter.
const FLOOR: usize = 64;
/// The members of a record whose content depends on the operation. The strongest cut leaves them out.
const SECTIONS: [&[u8]; 3] = [
    b"requestParameters",
    b"responseElements",
    b"additionalEventData",
];

/// Formats the complete record. A record whose line would be longer than [`MAX_LINE`] is shortened like that of a
/// refusal.
pub(super) fn whole(record: &Record<'_>) -> Result<Vec<u8>, AuditError> {
    let line = serialize(record)?;
    let most = MAX_LINE - chain::ROOM;
    Ok(finish(if line.len() < most {
        line
    } else {
        cut_to(line, most)
    }))
}

/// Formats the record of a refusal in at most [`MAX_REFUSAL`] bytes.
pub(super) fn refusal(record: &Record<'_>) -> Result<Vec<u8>, AuditError> {
    Ok(finish(cut_to(
        serialize(record)?,
        MAX_REFUSAL - chain::ROOM,
    )))
}

fn finish(mut line: Vec<u8>) -> Vec<u8> {
    line.push(b'\n');
    line
}

fn serialize(record: &Record<'_>) -> Result<Vec<u8>, AuditError> {
    // The record of a granted call takes about 1,300 bytes.
    let mut line = Vec::with_capacity(2_048);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Ascii);
    record.serialize(&mut serializer).map_err(|_| AuditError)?;
    Ok(line)
}

/// Escapes all characters beyond ASCII, so that no reader takes U+2028 for the end of a line.
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
        // Brevet's own JSON has characters beyond ASCII only inside strings.
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

/// A way to shorten a record: the maximum length of its texts, in bytes as written. [`MAX_TEXT`] and
/// [`MAX_ITEMS`] apply as well.
struct Cut {
    /// The maximum length of a text in `userIdentity`. This section says who called, and is shortened last.
    identity: usize,
    /// The maximum length of a text in the rest of the record.
    text: usize,
    /// Whether [`SECTIONS`] are left out.
    omit: bool,
}

/// The cuts from the mildest to the strongest, which always fits: it leaves about 800 bytes at the
/// top of the record, 2,400 in `userIdentity` and 150 for the omitted sections.
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

/// Shortens a line by the mildest cut that makes it shorter than `limit`.
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
    /// Copies JSON without white space, as [`serialize`] makes it, and shortens it. A list that was shortened, such as
    /// `tags`, is followed by a member with the number of its items, such as `tagsTotal`.
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

/// The state of [`Cut::apply`]: the shortened copy so far, and the place in the record.
struct Copy<'a> {
    cut: &'a Cut,
    out: Vec<u8>,
    /// The open lists and objects, outermost first.
    levels: Vec<Level<'a>>,
    /// The depth of the list whose further items are being left out.
    leaving_out: Option<usize>,
}

/// An open list or object.
struct Level<'a> {
    is_list: bool,
    commas: usize,
    /// In an object, the name of the member that comes next or is being read.
    name: &'a [u8],
    /// Whether a member's name comes next, in an object.
    names: bool,
}

impl<'a> Copy<'a> {
    /// Copies a text whose opening quote has been read. Returns what follows the text.
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

    /// Handles the end of a list or an object.
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

    /// Handles any other byte: the beginning of a list or an object, a comma, a colon, or part of a
    /// number or a word. Returns what follows it, and what follows the section if one is left out.
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
        // The CloudTrail User Guide: "If a field is truncated, `omitted` is present".
        let omitted = format!("{{\"omitted\":true,\"originalSize\":{length}}}");
        self.out.extend_from_slice(omitted.as_bytes());
        rest.get(length..).unwrap_or_default()
    }
}

/// The length, as written, of a text whose opening quote has been read.
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

/// The length of the first value in `json`.
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

/// The beginning of a text as written, of at most [`MAX_TEXT`] characters and `most` bytes. Neither
/// an escape nor a surrogate pair is split.
fn clipped(text: &[u8], most: usize) -> &[u8] {
    if text.len() <= most.min(MAX_TEXT) {
        return text;
    }
    let mut at = 0;
    for _ in 0..MAX_TEXT {
        let length = match text.get(at..).unwrap_or_default() {
            [] => break,
            // The first half of a surrogate pair; the second half follows.
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
