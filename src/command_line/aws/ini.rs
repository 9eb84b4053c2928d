//! The format of `~/.aws/config` and `~/.aws/credentials`, as botocore reads it: sections, options (`=` or `:`),
//! full-line comments (`#` and `;`), values that continue in indented lines, and one level of nested options. This
//! module does not know what a profile is.

use std::collections::BTreeMap;

/// The sections of a file, by the text between their brackets.
pub(super) type Document = BTreeMap<String, Section>;

/// The options of a section, by their names in lower case.
pub(super) type Section = BTreeMap<String, Value>;

/// The value of an option, which may itself be a group of options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Text; its lines are joined with line feeds.
    Text(String),
    /// Nested options: `name =` with indented `option = value` lines below it.
    Nested(BTreeMap<String, String>),
}

impl Value {
    /// The text; `None` for nested options.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nested(_) => None,
        }
    }
}

/// The error about a line that botocore would refuse, with the rule that the line breaks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub(super) struct IniError {
    /// The number of the line, counted from 1.
    line: usize,
    rule: String,
}

/// The options of this section are defaults for every other section.
const DEFAULTS: &str = "DEFAULT";

/// The lines of a file by option, while the file is read.
#[derive(Default)]
struct Lines {
    sections: BTreeMap<String, Options>,
    /// The section that the next option belongs to.
    section: Option<String>,
    /// The section and the option whose value an indented line continues.
    open: Option<(String, String)>,
    /// The indentation of the last line that was not a continuation.
    indent: usize,
}

/// The lines of each option of a section, and the number of the first one.
type Options = BTreeMap<String, (usize, Vec<String>)>;

/// Parses a file.
///
/// # Errors
/// [`IniError`] for the first line that is not a section, option, comment or continuation, that repeats a section or
/// option, or that is a nested option without `=`.
pub(super) fn parse(text: &str) -> Result<Document, IniError> {
    let fault = |line: usize, rule: String| IniError {
        line: line + 1,
        rule,
    };
    let mut lines = Lines::default();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        lines
            .read(number, line)
            .map_err(|rule| fault(number, rule))?;
    }
    let mut document = Document::new();
    for (name, options) in lines.sections {
        let mut read = Section::new();
        for (option, (line, lines)) in options {
            read.insert(option, value(lines).map_err(|rule| fault(line, rule))?);
        }
        document.insert(name, read);
    }
    if let Some(defaults) = document.remove(DEFAULTS) {
        for section in document.values_mut() {
            for (option, value) in &defaults {
                section
                    .entry(option.clone())
                    .or_insert_with(|| value.clone());
            }
        }
    }
    Ok(document)
}

impl Lines {
    /// Adds one line. The error is the rule that the line breaks.
    fn read(&mut self, number: usize, line: &str) -> Result<(), String> {
        let value = line.trim();
        let comment = value.starts_with(['#', ';']);
        if value.is_empty() || comment {
            // An empty line belongs to the value above it; a comment does not.
            if !comment {
                self.append("");
            }
            return Ok(());
        }
        let depth = line.chars().take_while(|c| c.is_whitespace()).count();
        if self.open.is_some() && depth > self.indent {
            self.append(value);
            return Ok(());
        }
        self.indent = depth;
        let name = value
            .strip_prefix('[')
            .and_then(|rest| rest.rsplit_once(']'))
            .map(|(name, _)| name);
        match name.filter(|name| !name.is_empty()) {
            Some(name) => self.begin_section(name),
            None => self.begin_option(number, value),
        }
    }

    /// Adds a continuation line to the value of the open option. Does nothing if no option is open.
    fn append(&mut self, line: &str) {
        let Some((section, option)) = &self.open else {
            return;
        };
        let options = self.sections.get_mut(section);
        if let Some((_, lines)) = options.and_then(|options| options.get_mut(option)) {
            lines.push(line.to_owned());
        }
    }

    fn begin_section(&mut self, name: &str) -> Result<(), String> {
        if name != DEFAULTS && self.sections.contains_key(name) {
            return Err(format!("duplicate section [{name}]"));
        }
        self.sections.entry(name.to_owned()).or_default();
        (self.section, self.open) = (Some(name.to_owned()), None);
        Ok(())
    }

    fn begin_option(&mut self, number: usize, line: &str) -> Result<(), String> {
        let Some(section) = &self.section else {
            return Err("has an option before the first [section]".to_owned());
        };
        let (option, first) = line
            .split_once(['=', ':'])
            .filter(|(option, _)| !option.trim().is_empty())
            .ok_or("must be a [section] or `option = value`")?;
        let option = option.trim_end().to_lowercase();
        let options = self.sections.entry(section.clone()).or_default();
        let lines = (number, vec![first.trim().to_owned()]);
        if options.insert(option.clone(), lines).is_some() {
            return Err(format!("duplicate option `{option}` in [{section}]"));
        }
        self.open = Some((section.clone(), option));
        Ok(())
    }
}

/// Makes a value from the lines of one option: nested options if the first line is empty, otherwise a text.
fn value(mut lines: Vec<String>) -> Result<Value, String> {
    while lines.last().is_some_and(String::is_empty) && lines.len() > 1 {
        lines.pop();
    }
    let nested = lines.len() > 1 && lines.first().is_some_and(String::is_empty);
    if !nested {
        return Ok(Value::Text(lines.join("\n")));
    }
    let mut options = BTreeMap::new();
    for line in lines.iter().filter(|l| !l.is_empty()) {
        let (option, value) = line
            .split_once('=')
            .ok_or_else(|| format!("the nested line `{line}` must be `option = value`"))?;
        options.insert(option.trim().to_owned(), value.trim().to_owned());
    }
    Ok(Value::Nested(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &Document, section: &str, option: &str) -> String {
        document[section][option].text().unwrap().to_owned()
    }

    #[test]
    fn sections_options_comments_and_continuations() {
        let document = parse(
            "# a comment\n[default]\nRegion = us-east-1 # not a comment\noutput: json\n; another\n\n[profile a b]\n\
             credential_process = /bin/x --a\n    --b\n  # in between\n  --c\nempty =\n[services local]\nsts =\n  \
             endpoint_url = http://127.0.0.1:1\n  # why\n\n  other=a=b\n",
        )
        .unwrap();
        assert_eq!(
            text(&document, "default", "region"),
            "us-east-1 # not a comment"
        );
        assert_eq!(text(&document, "default", "output"), "json");
        assert_eq!(
            text(&document, "profile a b", "credential_process"),
            "/bin/x --a\n--b\n--c"
        );
        assert_eq!(text(&document, "profile a b", "empty"), "");
        let Value::Nested(sts) = &document["services local"]["sts"] else {
            panic!("nested")
        };
        assert_eq!(sts["endpoint_url"], "http://127.0.0.1:1");
        assert_eq!(sts["other"], "a=b");
    }

    #[test]
    fn defaults_hold_in_every_section() {
        let document = parse("[DEFAULT]\nregion = a\n[x]\n[y]\nregion = b\n").unwrap();
        assert_eq!(
            (
                text(&document, "x", "region"),
                text(&document, "y", "region")
            ),
            ("a".into(), "b".into())
        );
        assert!(!document.contains_key("DEFAULT"));
    }

    #[test]
    fn what_botocore_refuses_is_refused_with_its_line() {
        for (bad, expected) in [
            (
                "a = b\n",
                "line 1: has an option before the first [section]",
            ),
            ("[a]\nx = 1\n\n[a]\n", "line 4: duplicate section [a]"),
            ("[a]\nx = 1\nX = 2\n", "line 3: duplicate option `x` in [a]"),
            (
                "[a]\nnonsense\n",
                "line 2: must be a [section] or `option = value`",
            ),
            (
                "[a]\n= 1\n",
                "line 2: must be a [section] or `option = value`",
            ),
            (
                "[a]\nsts =\n  endpoint_url\n",
                "line 2: the nested line `endpoint_url` must be `option = value`",
            ),
        ] {
            assert_eq!(parse(bad).unwrap_err().to_string(), expected);
        }
        assert!(parse("").unwrap().is_empty());
    }
}
