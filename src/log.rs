//! The log on standard error, with one line for each event even if strangers supply its text, and the flags that choose
//! what is logged.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::base::legible::Form;

/// The default log filter: Brevet's own events from `info` up, and warnings of its libraries. Warnings of h2
/// are left out, because hostile peers can cause any number of them, and so are notices of PostgreSQL, which
/// has its own log.
const DEFAULT_LOG: &str = "warn,brevet=info,h2=error,sqlx::postgres::notice=off";

/// How lines of the log are written to standard error. Commands write text unless `--log-format` says otherwise.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
}

/// Logging options of the commands that keep running.
#[derive(Debug, Args)]
pub struct LogArguments {
    /// What to log: `info`, `debug`, `brevet=trace`, … [default: Brevet's own events, and warnings of
    /// libraries]
    #[arg(long, env = "BREVET_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How lines of the log are written to standard error [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Sets up the log of this process, by a filter such as `info` or `brevet=trace`.
///
/// # Errors
/// The filter is not valid, or a log was set up before.
pub fn to_stderr(
    filter: Option<&str>,
    format: LogFormat,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(filter.unwrap_or(DEFAULT_LOG))?
        // Otherwise whoever can write to the database could write lines into this log.
        .add_directive("sqlx::postgres::notice=off".parse()?);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A closed standard error does not stop the program.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_writer(Log::text()).with_ansi(false).try_init(),
        LogFormat::Json => builder.with_writer(Log::json()).json().try_init(),
    }
}

/// Writes each event to standard error as one line, with control characters escaped. The text of an identity provider,
/// a database or a caller can then neither control the terminal nor forge a line of the log.
#[derive(Debug, Clone, Copy)]
struct Log {
    form: Form,
}

impl Log {
    /// Makes the writer for events that are formatted as text.
    fn text() -> Self {
        Self { form: Form::Line }
    }

    /// Makes the writer for events that are formatted as JSON.
    fn json() -> Self {
        Self { form: Form::Json }
    }

    /// Formats one event, with a line feed at its end.
    fn line(self, event: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut out = match self.form {
            // JSON on one line has no line feed between values, and those in values are escaped.
            Form::Json => Form::Json.of(text).replace('\n', " "),
            // Colours would be control characters that anybody could add, so the formatter writes
            // none.
            form => form.of(text),
        };
        out.push('\n');
        out.into_bytes()
    }
}

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(&self.line(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Events as they are formatted, and as they are written.
    #[derive(Clone)]
    struct Captured {
        log: Log,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Captured {
        fn write(&mut self, event: &[u8]) -> io::Result<usize> {
            self.lines.lock().unwrap().extend(self.log.line(event));
            Ok(event.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Captured {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(form: Form) -> String {
        let captured = Captured {
            log: Log { form },
            lines: Arc::default(),
        };
        let builder = tracing_subscriber::fmt()
            .with_writer(captured.clone())
            .with_ansi(false);
        let hostile = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}]0;t\u{7}\u{1b}[2J\u{1b}[8m\u{9b}1m\u{202e}\u{2028}\u{85}end";
        let event = || {
            let span = tracing::info_span!("span", name = %hostile);
            let _entered = span.enter();
            tracing::info!(shown = %hostile, debugged = ?hostile, plain = hostile, "said {hostile}");
        };
        match form {
            Form::Json => tracing::subscriber::with_default(builder.json().finish(), event),
            _ => tracing::subscriber::with_default(builder.finish(), event),
        }
        let bytes = captured.lines.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        for form in [Form::Line, Form::Json] {
            let log = logged(form);
            let line = log.strip_suffix('\n').unwrap();
            assert!(line.contains("forged") && line.contains("end"), "{log:?}");
            let obeyed = |c: char| c.is_control() || "\u{202e}\u{2028}".contains(c);
            assert_eq!(line.find(obeyed), None, "{log:?}");
        }
        let json: serde_json::Value = serde_json::from_str(&logged(Form::Json)).unwrap();
        assert!(
            json["fields"]["shown"]
                .as_str()
                .unwrap()
                .contains("\u{1b}[2J\u{1b}[8m\u{9b}1m\u{202e}\u{2028}")
        );
    }

    #[test]
    fn no_colour_is_let_through() {
        let log = Log::text();
        let line = |text: &str| String::from_utf8(log.line(text.as_bytes())).unwrap();
        assert_eq!(
            line("a\u{1b}[8mb\u{1b}[2J\u{1b}]0;x\u{1b}"),
            "a\\u{1b}[8mb\\u{1b}[2J\\u{1b}]0;x\\u{1b}\n"
        );
    }
}
