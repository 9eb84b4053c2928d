//! Printing: data on standard output, everything else on standard error. A command ends quietly when the
//! reader of its output goes away. Printed text may come from strangers (a broker's answer, a name in a
//! file), so control characters are escaped here.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};

use super::Failure;
use crate::base::legible::Form;

/// The format in which a command prints its data, set with `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns or sentences, for people.
    Table,
    /// JSON, for programs.
    Json,
}

/// The flag `--output` of a command that prints a table for people and JSON for programs.
#[derive(Debug, Args)]
pub(crate) struct OutputArgument {
    /// The output format [default: a table on a terminal, otherwise JSON]
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

impl OutputArgument {
    /// The chosen format. Without the flag, it is a table on a terminal, and JSON otherwise.
    pub(crate) fn chosen(&self) -> Output {
        let fitting = if io::stdout().is_terminal() {
            Output::Table
        } else {
            Output::Json
        };
        self.output.unwrap_or(fitting)
    }
}

/// The flag `--output` of a command that prints text for people unless JSON is chosen.
#[derive(Debug, Args)]
pub(crate) struct TextOutputArgument {
    /// The output format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Table)]
    output: Output,
}

impl TextOutputArgument {
    /// Returns true if `--output json` was given. Otherwise the command prints text.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }
}

/// The error after which the command ends quietly, because the reader of standard output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("the reader of standard output has closed it")]
pub(crate) struct ReaderIsGone;

/// A writer that records whether its reader has closed the other end.
struct Watched<W> {
    inner: W,
    gone: bool,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner
            .write(bytes)
            .inspect_err(|error| self.gone |= error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner
            .flush()
            .inspect_err(|error| self.gone |= error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes data to standard output without escaping anything; for data that this program made itself.
///
/// # Errors
/// [`ReaderIsGone`], or the error of `write`.
pub(crate) fn data(
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut out = Watched {
        inner: io::BufWriter::new(io::stdout().lock()),
        gone: false,
    };
    let result = write(&mut out).and_then(|()| Ok(out.flush()?));
    if out.gone {
        // What is left in the buffer has no reader either.
        let _ = out.inner.into_parts();
        return Err(ReaderIsGone.into());
    }
    result
}

/// Writes data to standard output with control characters escaped as `form` says.
///
/// # Errors
/// [`ReaderIsGone`], or the error of `write`.
pub(crate) fn legibly(
    form: Form,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    data(|out| write(&mut Escaping { inner: out, form }))
}

/// A writer that escapes the control characters that `form` does not allow, and writes the rest to `inner`.
struct Escaping<'w> {
    inner: &'w mut dyn Write,
    form: Form,
}

impl Write for Escaping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A character that was cut in two is written with the next bytes: the caller offers it again.
        let whole = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.valid_up_to() > 0 => error.valid_up_to(),
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the output is not UTF-8",
                ));
            }
        };
        let text = bytes
            .get(..whole)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default();
        self.inner.write_all(self.form.of(text).as_bytes())?;
        Ok(whole)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Prints a line of data; line feeds and other control characters in it are escaped.
///
/// # Errors
/// [`Failure`] if standard output cannot be written.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    data(|out| Ok(writeln!(out, "{}", Form::Line.of(&text.to_string()))?))
}

/// Prints lines of data that end with a line feed already. The caller must pass foreign text through [`visible`] first,
/// because a line feed in it could forge a line.
///
/// # Errors
/// [`Failure`] if standard output cannot be written.
pub(crate) fn block(text: impl Display) -> Result<(), Failure> {
    data(|out| Ok(write!(out, "{}", Form::Lines.of(&text.to_string()))?))
}

/// Prints one or more lines for people to standard error. If that fails, nothing happens.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", Form::Lines.of(&text.to_string()));
}

/// Prints a drawing to standard error without escaping its colour sequences; only for text that this program made.
pub(crate) fn drawing(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether text on standard error may be coloured: standard error is a terminal, and NO_COLOR (no-color.org) is not
/// set.
pub(crate) fn may_colour_stderr() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Prints indented JSON. Control characters are written as `\uXXXX`, which means the same to a program.
///
/// # Errors
/// [`Failure`] if standard output cannot be written.
pub(crate) fn json(value: &serde_json::Value) -> Result<(), Failure> {
    data(|out| Ok(writeln!(out, "{}", Form::Json.of(&format!("{value:#}")))?))
}

/// Prints a value as JSON on one line.
///
/// # Errors
/// [`Failure`] if standard output cannot be written.
pub(crate) fn json_line(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)?;
    data(|out| Ok(writeln!(out, "{}", Form::Json.of(&text))?))
}

/// Escapes control characters as `form` says, but keeps sequences that only set colours and weights.
pub(crate) fn in_colours(text: &str, form: Form) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find('\u{1b}').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(&form.of(before));
        let length = colour_length(from);
        let (command, after) = from
            .split_at_checked(length.unwrap_or(1))
            .unwrap_or((from, ""));
        match length {
            Some(_) => out.push_str(command),
            None => out.push_str(&form.of(command)),
        }
        rest = after;
    }
    out.push_str(&form.of(rest));
    out
}

/// The length in bytes of the sequence that sets colours and weights (ECMA-48 section 8.3.117, SGR) at the
/// beginning of the text; `None` if there is none.
pub(crate) fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters
        .get(end..)?
        .starts_with('m')
        .then_some(2 + end + 1)
}

/// Formats rows under a heading, each column as wide as its longest text. Control characters in the cells
/// are escaped.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| visible(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|h| h.chars().count()))
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Formats names and values for people, one pair per line. Control characters in the values are escaped.
pub(crate) fn fields(fields: &[(&str, &str)]) -> String {
    let width = fields
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    fields
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {}\n", visible(value)))
        .collect()
}

/// Makes foreign text safe to print within a line: control characters and line feeds are escaped.
pub(crate) fn visible(text: &str) -> String {
    Form::Line.of(text)
}

/// Turns foreign text into one word of a command line for a POSIX shell, quoted if necessary.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c);
    let text = visible(text);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Does what [`visible`] does, but keeps line feeds.
pub(crate) fn visible_lines(text: &str) -> String {
    Form::Lines.of(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = vec![
            vec!["a".to_owned(), "long text".to_owned()],
            vec!["b\u{1b}[1m".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["Id", "What"], &rows),
            "Id          What\na           long text\nb\\u{1b}[1m\n"
        );
        assert_eq!(
            fields(&[("Arn", "x"), ("Account", "y")]),
            "Arn      x\nAccount  y\n"
        );
        assert_eq!(
            visible_lines("a\u{9b}1m\nb\u{202e}\tc"),
            "a\\u{9b}1m\nb\\u{202e}\tc"
        );
    }

    #[test]
    fn a_word_of_a_command_line_is_one_word() {
        for plain in [
            "arn:aws:iam::111122223333:role/a/b+c=d,e@f",
            "AbC_1-2",
            "/usr/bin/brevet",
        ] {
            assert_eq!(word(plain), plain);
        }
        for hostile in [
            "$(touch x)",
            "a;b",
            "a b",
            "`a`",
            "a\nb",
            "'; b #",
            "*",
            "~",
            "",
            "é",
            "a\u{1b}b",
            "!a",
            "a'b'c",
        ] {
            let line = format!("printf '%s' {}", word(hostile));
            let said = std::process::Command::new("sh")
                .args(["-c", &line])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8(said.stdout).unwrap(),
                visible(hostile),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_written_in_pieces_is_escaped_all_the_same() {
        let mut printed = Vec::new();
        let mut out = Escaping {
            inner: &mut printed,
            form: Form::Json,
        };
        let text = "{\"a\": \"é\u{9b}\u{202e}🙂\"}\n";
        // As a serializer writes: in pieces, each of whole characters.
        for c in text.chars() {
            out.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())
                .unwrap();
        }
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            "{\"a\": \"é\\u009b\\u202e🙂\"}\n"
        );
        let mut out = Escaping {
            inner: &mut io::sink(),
            form: Form::Line,
        };
        assert!(out.write_all(b"\xff").is_err());
        assert_eq!(out.write("é".as_bytes()).unwrap(), 2);
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
        for (kind, gone) in [
            (io::ErrorKind::BrokenPipe, true),
            (io::ErrorKind::StorageFull, false),
        ] {
            let mut out = Watched {
                inner: Broken(kind),
                gone: false,
            };
            assert!(out.write(b"x").is_err());
            assert_eq!(out.gone, gone);
        }
    }
}
