//! What a command prints: data on standard output, everything else on standard error. A reader that
//! goes away ends a command quietly.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};

use super::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people: columns, or sentences.
    Table,
    /// For programs.
    Json,
}

/// `--output` of a command that prints a table for people and JSON for programs.
#[derive(Debug, Args)]
pub(super) struct OutputArgument {
    /// How to print it [default: a table on a terminal, otherwise JSON]
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

impl OutputArgument {
    /// What was asked for; without it a terminal gets a table, and a program JSON.
    pub(super) fn chosen(&self) -> Output {
        let fitting = if io::stdout().is_terminal() { Output::Table } else { Output::Json };
        self.output.unwrap_or(fitting)
    }
}

/// `--output` of a command that prints for people unless it is told otherwise.
#[derive(Debug, Args)]
pub(super) struct TextOutputArgument {
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Table)]
    output: Output,
}

impl TextOutputArgument {
    /// Whether JSON was asked for.
    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }
}

/// Whoever read standard output went away: the command ends, quietly.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(super) struct ReaderIsGone;

/// Standard output, and whether its reader went away.
struct Watched<W> {
    inner: W,
    gone: bool,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).inspect_err(|error| self.gone |= error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().inspect_err(|error| self.gone |= error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes data to standard output.
///
/// # Errors
/// [`ReaderIsGone`], or what `write` fails with.
pub(super) fn data(write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = Watched { inner: io::BufWriter::new(io::stdout().lock()), gone: false };
    let result = write(&mut out).and_then(|()| Ok(out.flush()?));
    if out.gone {
        // What is left in the buffer has no reader either.
        let _ = out.inner.into_parts();
        return Err(ReaderIsGone.into());
    }
    result
}

/// A line of data.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    data(|out| Ok(writeln!(out, "{text}")?))
}

/// A block of data that ends with a line feed of its own.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn block(text: impl Display) -> Result<(), Failure> {
    data(|out| Ok(write!(out, "{text}")?))
}

/// A line for people. If nobody can read it, the command goes on.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard error may have colours: it is a terminal, and NO_COLOR (no-color.org) is not set.
pub(super) fn may_colour_stderr() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// JSON, indented. What a terminal would obey is written as `\uXXXX`, which is the same text to a
/// program.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    let text = format!("{value:#}");
    let escaped = |c: char| if c != '\n' && obeyed(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    line(text.chars().map(escaped).collect::<String>())
}

/// Columns for people: a head and rows, each column as wide as its longest text. Control characters
/// of foreign text are shown and not obeyed.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|h| h.chars().count())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Names and values for people, one a line.
pub(super) fn fields(fields: &[(&str, &str)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    fields.iter().map(|(name, value)| format!("{name:<width$}  {}\n", visible(value))).collect()
}

/// Foreign text without what a terminal would obey: control characters, and those that turn the
/// direction of a line.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if obeyed(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// [`visible`] for text of several lines.
pub(super) fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

fn obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    turns || (c.is_control() && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = vec![vec!["a".to_owned(), "long text".to_owned()], vec!["b\u{1b}[1m".to_owned(), String::new()]];
        assert_eq!(table(&["Id", "What"], &rows), "Id          What\na           long text\nb\\u{1b}[1m\n");
        assert_eq!(fields(&[("Arn", "x"), ("Account", "y")]), "Arn      x\nAccount  y\n");
        assert_eq!(visible_lines("a\u{9b}1m\nb\u{202e}\tc"), "a\\u{9b}1m\nb\\u{202e}\tc");
    }

    #[test]
    fn a_broken_pipe_is_a_reader_that_went_away_and_other_failures_are_not() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, gone) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let mut out = Watched { inner: Broken(kind), gone: false };
            assert!(out.write(b"x").is_err());
            assert_eq!(out.gone, gone);
        }
    }
}
