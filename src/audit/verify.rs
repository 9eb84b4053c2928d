//! Checks the hash chain over files of the log, in the order in which they were written, for lines
//! that were deleted, moved, edited, added or cut off. Reads lines, and needs no broker.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead};

use super::MAX_LINE;
use super::chain::{Chained, Link};

/// The maximum number of faults that are kept; further ones are only counted.
const MAX_FAULTS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The index of the file, counted from 0.
    pub file: usize,
    /// The number of the line in the file, counted from 1; 0 means the file as a whole.
    pub line: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The hash of the line does not match its text and the line before it.
    Edited,
    /// The line does not end with its number and hash in the form in which the broker writes them.
    Unchained,
    /// This many lines without a link precede the first line with one, although that line is not the
    /// beginning of the chain.
    UnchainedBefore(u64),
    /// The lines with the numbers from the first to the second are missing before this line.
    Missing(u64, u64),
    /// The number of the line is lower than the number of an earlier line.
    Moved(u64),
    /// An earlier line has the same number.
    Twice(u64),
    /// The line has no line feed, so it was not written completely.
    Torn,
    /// The line is longer than any line of the log.
    TooLong,
    /// The line has the number of the head, but another hash.
    NotTheHead,
    /// The head has a higher number than the last line.
    CutOff {
        /// The number of the last line.
        last: u64,
        head: u64,
    },
    /// No line has a link of a chain.
    NoChain,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited => write!(
                f,
                "this line does not follow from the line before it: one of the two was edited or replaced"
            ),
            Self::Unchained => write!(
                f,
                "this line does not end with a number and a hash of the chain: the line was added, or its end was \
                edited"
            ),
            Self::UnchainedBefore(1) => write!(
                f,
                "the line before the first line of the chain is not part of the chain, although the chain began before \
                 that line: it was added or edited"
            ),
            Self::UnchainedBefore(count) => {
                write!(
                    f,
                    "{count} lines before the first line of the chain are not part of the chain, although the chain \
                     began before these lines: they were added or edited"
                )
            }
            Self::Missing(from, to) if from == to => {
                write!(f, "line {from} of the chain is missing before this line")
            }
            Self::Missing(from, to) => write!(
                f,
                "lines {from} to {to} of the chain are missing before this line"
            ),
            Self::Moved(sequence) => write!(
                f,
                "line {sequence} of the chain is out of order: it was moved, or the files were not given oldest first"
            ),
            Self::Twice(sequence) => write!(f, "line {sequence} of the chain occurs twice"),
            Self::Torn => write!(
                f,
                "this line is incomplete: it was cut off, or is being written"
            ),
            Self::TooLong => write!(
                f,
                "this line has more than {MAX_LINE} bytes, which no line of a broker has"
            ),
            Self::NotTheHead => write!(
                f,
                "the hash of this line is not the one in the head: the line was edited or replaced, or the head is \
                 that of another log"
            ),
            Self::CutOff { last: 0, head } => write!(
                f,
                "the files have no line of the chain, but the head is line {head}: the lines were cut off, or are in a \
                 file that was not given"
            ),
            Self::CutOff { last, head } => write!(
                f,
                "the lines end at line {last} of the chain, but the head is line {head}: the lines after {last} were \
                cut off, or are in a file that was not given"
            ),
            Self::NoChain => write!(f, "none of the lines is part of a hash chain"),
        }
    }
}

#[derive(Debug, Default)]
pub struct Report {
    pub faults: Vec<(Place, Fault)>,
    /// The number of further faults, which are not kept.
    pub more: u64,
    pub lines: u64,
    /// The number of lines at the beginning that were written before there was a chain.
    pub before_the_chain: u64,
    /// The first and the last number of the chain; `None` if there is no chain.
    pub range: Option<(u64, u64)>,
}

impl Report {
    #[cfg(any(test, feature = "internals"))]
    /// Whether no fault was found.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.more == 0
    }
}

/// Checks the lines of the log's files in order: call [`Verifier::read`] for each file, and then [`Verifier::finish`].
#[derive(Debug, Default)]
pub struct Verifier {
    head: Option<Link>,
    report: Report,
    /// The current file, and the number of its lines that have been read.
    place: Option<Place>,
    /// The link with the highest number so far.
    last: Option<Link>,
    /// The link of the last line that had one; `None` after a line that is torn or too long.
    before: Option<Link>,
    /// Numbers that have not been seen: the first and the last, and the line before which they are
    /// missing.
    missing: BTreeMap<u64, (u64, Place)>,
    /// The number of lines before the first line with a link.
    unchained: u64,
}

impl Verifier {
    /// Creates a verifier. `head` is the link of the last line that is known to have been written.
    pub fn new(head: Option<Link>) -> Self {
        Self {
            head,
            ..Self::default()
        }
    }

    /// Reads and checks the next file of the log.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be read.
    pub fn read(&mut self, mut file: impl BufRead) -> io::Result<()> {
        let number = self.place.map_or(0, |place| place.file + 1);
        let mut place = Place {
            file: number,
            line: 0,
        };
        self.place = Some(place);
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
            if io::Read::take(&mut file, most).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            place.line += 1;
            self.place = Some(place);
            self.report.lines += 1;
            match line.strip_suffix(b"\n") {
                Some(text) => self.take(place, text),
                None if line.len() > MAX_LINE => {
                    self.fault(place, Fault::TooLong);
                    self.before = None;
                    skip_line(&mut file)?;
                }
                None => {
                    self.fault(place, Fault::Torn);
                    self.before = None;
                }
            }
        }
    }

    fn take(&mut self, place: Place, text: &[u8]) {
        let Some(line) = Chained::parse(text) else {
            match self.last {
                None => self.unchained += 1,
                Some(_) => self.fault(place, Fault::Unchained),
            }
            return;
        };
        let link = line.link;
        let due = self.last.map(|last| last.sequence.saturating_add(1));
        // If the previous line is not the preceding one of the chain, the hash of this one cannot be
        // checked.
        let start = Some(Link::START).filter(|_| self.last.is_none());
        let before = [self.before, self.last, start].into_iter().flatten();
        let mut before =
            before.filter(|before| before.sequence.checked_add(1) == Some(link.sequence));
        if before
            .next()
            .is_some_and(|before| !line.follows(&before.hash))
        {
            self.fault(place, Fault::Edited);
        }
        match due {
            None => {
                self.report.range = Some((link.sequence, link.sequence));
                if link.sequence != 1 && self.unchained > 0 {
                    self.fault(place, Fault::UnchainedBefore(self.unchained));
                } else {
                    self.report.before_the_chain = self.unchained;
                }
            }
            Some(due) if link.sequence > due => {
                self.missing.insert(due, (link.sequence - 1, place));
            }
            Some(due) if link.sequence < due => self.late(place, link.sequence),
            Some(_) => {}
        }
        if self.last.is_none_or(|last| link.sequence > last.sequence) {
            self.last = Some(link);
        }
        if self
            .head
            .is_some_and(|head| head.sequence == link.sequence && head.hash != link.hash)
        {
            self.fault(place, Fault::NotTheHead);
        }
        self.before = Some(link);
    }

    /// Handles a line whose number is not higher than the numbers of all earlier lines.
    fn late(&mut self, place: Place, sequence: u64) {
        let gap = self
            .missing
            .range(..=sequence)
            .next_back()
            .map(|(from, (to, before))| (*from, *to, *before));
        let first = self.report.range.map_or(0, |(first, _)| first);
        match gap.filter(|(_, to, _)| *to >= sequence) {
            None if sequence < first => self.fault(place, Fault::Moved(sequence)),
            None => self.fault(place, Fault::Twice(sequence)),
            Some((from, to, before)) => {
                self.fault(place, Fault::Moved(sequence));
                self.missing.remove(&from);
                if from < sequence {
                    self.missing.insert(from, (sequence - 1, before));
                }
                if sequence < to {
                    self.missing.insert(sequence + 1, (to, before));
                }
            }
        }
    }

    fn fault(&mut self, place: Place, fault: Fault) {
        match self.report.faults.len() < MAX_FAULTS {
            true => self.report.faults.push((place, fault)),
            false => self.report.more += 1,
        }
    }

    /// Ends the check, and returns the report about all files.
    pub fn finish(mut self) -> Report {
        for (from, (to, place)) in std::mem::take(&mut self.missing) {
            self.fault(place, Fault::Missing(from, to));
        }
        let end = self.place.unwrap_or(Place { file: 0, line: 0 });
        let last = self.last.map_or(0, |last| last.sequence);
        if self.last.is_none() && self.unchained > 0 {
            self.fault(end, Fault::NoChain);
        }
        if let Some(head) = self.head.filter(|head| head.sequence > last) {
            self.fault(
                end,
                Fault::CutOff {
                    last,
                    head: head.sequence,
                },
            );
        }
        if let (Some((first, _)), Some(last)) = (self.report.range, self.last) {
            self.report.range = Some((first, last.sequence));
        }
        self.report.faults.sort_by_key(|(place, _)| *place);
        self.report
    }
}

/// Skips to the end of a line without keeping it.
fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        let (length, is_end) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        file.consume(length);
        if is_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain;
    use super::*;

    /// So many lines of a log.
    fn log(lines: usize) -> (Vec<String>, Link) {
        let mut out = Vec::new();
        let text: String = (0..lines).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let last = chain::extend(Link::START, text.as_bytes(), &mut out);
        (
            String::from_utf8(out)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect(),
            last,
        )
    }

    fn faults(files: &[&[String]], head: Option<Link>) -> Vec<(usize, u64, Fault)> {
        let mut verifier = Verifier::new(head);
        for lines in files {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            verifier.read(text.as_bytes()).unwrap();
        }
        verifier
            .finish()
            .faults
            .into_iter()
            .map(|(place, fault)| (place.file, place.line, fault))
            .collect()
    }

    #[test]
    fn au_04_a_whole_log_has_no_fault_in_one_file_or_in_many() {
        let (lines, head) = log(50);
        assert_eq!(faults(&[&lines], Some(head)), []);
        assert_eq!(
            faults(
                &[&lines[..20], &[], &lines[20..49], &lines[49..]],
                Some(head)
            ),
            []
        );
        assert_eq!(
            faults(&[&lines[20..]], Some(head)),
            [],
            "the files before are somewhere else"
        );
        assert_eq!(faults(&[&lines], None), []);
        let mut verifier = Verifier::new(None);
        verifier
            .read([lines[3].as_bytes(), b"\n"].concat().as_slice())
            .unwrap();
        let report = verifier.finish();
        assert_eq!(
            (report.range, report.lines, report.is_whole()),
            (Some((4, 4)), 1, true)
        );
    }

    #[test]
    fn au_04_each_way_to_change_a_log_is_named_with_its_place() {
        let (lines, head) = log(20);
        let with = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            faults(&[&lines], Some(head))
        };
        // Deleted: at the beginning, in the middle, several.
        assert_eq!(
            with(&|l| drop(l.remove(0))),
            [],
            "it may be in a file that is not named"
        );
        assert_eq!(with(&|l| drop(l.remove(7))), [(0, 8, Fault::Missing(8, 8))]);
        assert_eq!(
            with(&|l| drop(l.drain(7..10))),
            [(0, 8, Fault::Missing(8, 10))]
        );
        // Moved.
        assert_eq!(with(&|l| l.swap(3, 4)), [(0, 5, Fault::Moved(4))]);
        let first_last = |l: &mut Vec<String>| l.rotate_left(1);
        assert_eq!(with(&first_last), [(0, 20, Fault::Moved(1))]);
        // Edited: its text, its number, its hash.
        assert_eq!(
            with(&|l| l[5] = l[5].replace("\"n\":5", "\"n\":6")),
            [(0, 6, Fault::Edited)]
        );
        assert!(!with(&|l| l[5] = l[5].replace("\"sequence\":6", "\"sequence\":66")).is_empty());
        let other = |l: &mut Vec<String>| {
            l[5] = format!("{}{}", &l[5][..l[5].len() - 8], &l[4][l[4].len() - 8..])
        };
        assert_eq!(with(&other), [(0, 6, Fault::Edited), (0, 7, Fault::Edited)]);
        // Edited, with a hash that fits.
        let fitting = |l: &mut Vec<String>| {
            let before = Chained::parse(l[4].as_bytes()).unwrap().link;
            let mut out = Vec::new();
            chain::extend(before, b"{\"n\":99}\n", &mut out);
            l[5] = String::from_utf8(out).unwrap().trim_end().to_owned();
        };
        assert_eq!(with(&fitting), [(0, 7, Fault::Edited)]);
        // All of it computed anew from there on: the head tells.
        let anew = |l: &mut Vec<String>| {
            let before = Chained::parse(l[4].as_bytes()).unwrap().link;
            let text: String = (0..15).map(|n| format!("{{\"m\":{n}}}\n")).collect();
            let mut out = Vec::new();
            chain::extend(before, text.as_bytes(), &mut out);
            l.truncate(5);
            l.extend(String::from_utf8(out).unwrap().lines().map(str::to_owned));
        };
        assert_eq!(with(&anew), [(0, 20, Fault::NotTheHead)]);
        // Added, with and without a place.
        assert_eq!(
            with(&|l| l.insert(9, "{\"n\":1}".into())),
            [(0, 10, Fault::Unchained)]
        );
        assert_eq!(
            with(&|l| l.insert(9, l[2].clone())),
            [(0, 10, Fault::Twice(3))]
        );
        assert_eq!(
            with(&|l| l[0] = "{\"n\":0}".into()),
            [(0, 2, Fault::UnchainedBefore(1))]
        );
        // Cut off.
        assert_eq!(
            with(&|l| l.truncate(15)),
            [(0, 15, Fault::CutOff { last: 15, head: 20 })]
        );
        assert_eq!(
            with(&|l| l.clear()),
            [(0, 0, Fault::CutOff { last: 0, head: 20 })]
        );
        assert_eq!(
            faults(&[&lines[..15]], None),
            [],
            "it cannot be known without the head"
        );
    }

    #[test]
    fn au_04_lines_that_are_none_are_told() {
        let (lines, head) = log(3);
        let mut verifier = Verifier::new(Some(head));
        let long = "x".repeat(2 * MAX_LINE);
        let text = format!("{}\n{long}\n{}\n{}", lines[0], lines[1], lines[2]);
        verifier.read(text.as_bytes()).unwrap();
        let found: Vec<_> = verifier
            .finish()
            .faults
            .into_iter()
            .map(|(place, fault)| (place.line, fault))
            .collect();
        let cut = Fault::CutOff { last: 2, head: 3 };
        assert_eq!(found, [(2, Fault::TooLong), (4, Fault::Torn), (4, cut)]);
        // A log of before there was a chain.
        let mut verifier = Verifier::new(None);
        verifier
            .read(format!("{{}}\n{{}}\n{}\n", lines[0]).as_bytes())
            .unwrap();
        let report = verifier.finish();
        assert_eq!((report.before_the_chain, report.is_whole()), (2, true));
        let mut verifier = Verifier::new(None);
        verifier.read(&b"{}\n"[..]).unwrap();
        assert_eq!(verifier.finish().faults.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn au_04_whatever_a_file_holds_is_read(bytes: Vec<u8>, at in 0usize..10, head: bool) {
            let (lines, last) = log(10);
            let text = lines.join("\n").into_bytes();
            let at = text.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(at).map_or(text.len(), |(at, _)| at);
            let text = [&text[..at], b"\n", &bytes[..], b"\n", &text[at..]].concat();
            let mut verifier = Verifier::new(head.then_some(last));
            verifier.read(&text[..]).unwrap();
            proptest::prop_assert!(!verifier.finish().is_whole());
        }

        #[test]
        fn au_04_no_change_of_a_log_goes_unnoticed(at in 0usize..30, other in 0usize..30, way in 0usize..5, byte: u8) {
            let (lines, head) = log(30);
            let mut changed = lines.clone();
            match way {
                0 => { changed.remove(at); }
                1 => changed.swap(at, other),
                2 => { let line = changed.remove(at); changed.insert(other, line); }
                3 => changed.insert(at, lines[other].clone()),
                _ => {
                    let mut bytes = changed[at].clone().into_bytes();
                    let place = usize::from(byte) % bytes.len();
                    bytes[place] = if bytes[place] == b'!' { b'?' } else { b'!' };
                    changed[at] = String::from_utf8(bytes).unwrap();
                }
            }
            // A first line that is gone may be in a file that was not named; what is named says so.
            let mut verifier = Verifier::new(Some(head));
            let text: String = changed.iter().map(|line| format!("{line}\n")).collect();
            verifier.read(text.as_bytes()).unwrap();
            let report = verifier.finish();
            let is_told = !report.is_whole() || report.range != Some((1, 30));
            proptest::prop_assert_eq!(is_told, changed != lines);
        }
    }
}
