//! The hash chain of a running log: where it continues, and the link of each line.

use std::io;
use std::path::Path;

use super::KEEP;
use super::sink::Sink;
use crate::audit::chain::{self, Chained, Link};
use crate::audit::head::{self, HeadFile};
use crate::audit::lines::{Lines, PARTS};
use crate::files::FileError;

/// The hash chain of a running log. The writer decides the order of lines, so it makes the chain too.
pub(in crate::parts::audit) struct Chain {
    /// The link of the last written line. The next round continues after it.
    pub link: Link,
    /// The file that keeps the head; `None` if no file does.
    pub head: Option<HeadFile>,
    /// The lines that are about to be written, with their links. The buffers are reused.
    pub lines: Lines,
}

impl Chain {
    /// Continues after the last line of the file, or after the head if the file ends before the line that the head
    /// names. Logs a warning or an error if the two disagree.
    pub fn begin(sink: &Sink, head: Option<&Path>) -> io::Result<Self> {
        let last = sink
            .last_line()?
            .as_deref()
            .and_then(Chained::parse)
            .map(|line| line.link);
        let is_first = head.is_some_and(|path| !path.exists());
        let known = match head.map(|path| (path, head::load(path))) {
            None => None,
            Some((_, Ok(known))) => known,
            Some((path, Err(error))) => {
                set_aside(path, error)?;
                None
            }
        };
        let mut head = head
            .map(HeadFile::open)
            .transpose()
            .map_err(io::Error::other)?;
        let link = going_on(known, last, is_first, sink);
        // An empty head file would count as damaged at the next start.
        if let (None, Some(head)) = (known, &mut head) {
            head.write(link);
        }
        Ok(Self {
            link,
            head,
            lines: Lines::default(),
        })
    }

    /// Adds a link to each line. Returns the last link after each part.
    pub fn extend(&mut self, lines: &Lines) -> [Link; PARTS] {
        self.lines.clear(KEEP);
        let mut link = self.link;
        let mut places = [link; PARTS];
        let parts = lines
            .parts()
            .into_iter()
            .zip(self.lines.buffers())
            .zip(&mut places);
        for ((part, out), place) in parts {
            link = chain::extend(link, part, out);
            *place = link;
        }
        places
    }

    /// Moves on to `link`, the link of the last written line, and writes it to the head file.
    pub fn go_to(&mut self, link: Link) {
        if link != self.link {
            self.link = link;
            if let Some(head) = &mut self.head {
                head.write(link);
            }
        }
    }
}

/// Renames a damaged head file, and logs the error about its content. An error of the operating system says nothing about
/// the content, so the file stays then, and the error is returned.
fn set_aside(path: &Path, error: FileError) -> io::Result<()> {
    if matches!(error, FileError::Io { .. }) {
        return Err(io::Error::other(error));
    }
    let kept = head::set_aside(path).map_err(io::Error::other)?;
    let kept = kept.display();
    tracing::error!(%error, %kept, "the head file of the audit log cannot be read; the broker keeps it under the name \
        in `kept`, begins a new one after the last line of the log, and does not notice if lines were cut off its end");
    Ok(())
}

/// The link after which the chain continues: the link of the last line, or the head if the file ends before the line
/// that the head names. Logs a warning or an error if the two disagree. `is_first` says that there was no head file.
fn going_on(known: Option<Link>, last: Option<Link>, is_first: bool, sink: &Sink) -> Link {
    match (known, last) {
        (None, None) => Link::START,
        (None, Some(last)) => {
            if is_first {
                tracing::warn!(
                    last = last.sequence,
                    "the audit log has a hash chain, but its head file is missing; the broker continues after the \
                     last line of the log, and does not notice if lines were cut off its end"
                );
            }
            last
        }
        (Some(head), None) => {
            if head.sequence > 0 && sink.is_file() {
                tracing::warn!(
                    sequence = head.sequence,
                    "the audit log contains no line of its hash chain: the file was rotated, or lines were removed \
                     from it; to find out which, run `brevet audit verify` on this file and the rotated ones"
                );
            }
            head
        }
        (Some(head), Some(last)) if head == last => head,
        (Some(head), Some(last)) if last.sequence > head.sequence => {
            // A line is written before the head.
            tracing::warn!(
                head = head.sequence,
                last = last.sequence,
                "the audit log has lines after the one that its head file records: the broker stopped before it \
                 could update the head file, or somebody added lines; the broker continues after the last line"
            );
            last
        }
        (Some(head), Some(last)) => {
            tracing::error!(
                head = head.sequence,
                head_hash = head.hash_text(),
                last = last.sequence,
                last_hash = last.hash_text(),
                "the last line of the audit log is not the one that its head file records: lines were cut off or \
                 replaced; `brevet audit verify` names them. The broker continues after the line in the head file"
            );
            head
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_head_file_with_wrong_content_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = head::beside(&dir.path().join("store.watermark"));
        let link = Link {
            sequence: 7,
            hash: [7; 32],
        };
        HeadFile::open(&path).unwrap().write(link);
        let passing = FileError::Io {
            path: path.clone(),
            source: io::Error::other("too many open files"),
        };
        let said = set_aside(&path, passing).unwrap_err().to_string();
        assert!(said.contains("too many open files"), "{said}");
        assert_eq!(head::load(&path).unwrap(), Some(link));
        crate::files::write_private(&path, b"{}").unwrap();
        set_aside(&path, head::load(&path).unwrap_err()).unwrap();
        assert_eq!(head::load(&path).unwrap(), None);
    }
}
