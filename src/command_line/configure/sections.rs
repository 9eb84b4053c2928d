//! Puts a section into the text of `~/.aws/config`, and leaves everything else as it is.

/// A section of `~/.aws/config` that is to be written, such as a profile.
pub(super) struct Section {
    /// The text between the brackets of the section's header, such as `profile dev`.
    pub(super) header: String,
    /// The lines below the header, such as `region = us-east-1`.
    pub(super) lines: Vec<String>,
}

/// Returns the text with the section in it. A section of the same name stays if its lines are the same, and is replaced
/// if `replaces` is set. A comment after its last line stays.
///
/// # Errors
/// A text that says which rule is broken: there is another section of this name and `replaces` is not set, or there are
/// several.
pub(super) fn put(text: &str, section: &Section, replaces: bool) -> Result<String, String> {
    let header = format!("[{}]", section.header);
    let lines: Vec<&str> = text.lines().collect();
    let named = |line: &&str| same_header(line, &header);
    let found: Vec<usize> = (0..lines.len())
        .filter(|at| lines.get(*at).is_some_and(named))
        .collect();
    let body = section.lines.join("\n");
    let at = match *found {
        [] => {
            let mut new = text.trim_end().to_owned();
            if !new.is_empty() {
                new.push_str("\n\n");
            }
            new.push_str(&format!("{header}\n{body}\n"));
            return Ok(new);
        }
        [at] => at,
        _ => return Err(format!("has {header} more than once; keep one")),
    };
    let (before, rest) = lines.split_at(at);
    let rest = rest.get(1..).unwrap_or_default();
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let end = rest.iter().position(is_header).unwrap_or(rest.len());
    let (own, after) = rest.split_at(end);
    // Comments and empty lines at the end belong to what follows.
    let is_option =
        |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with(['#', ';']);
    let last = own.iter().rposition(&is_option).map_or(0, |last| last + 1);
    let (own, between) = own.split_at(last);
    let own: Vec<&str> = own
        .iter()
        .copied()
        .filter(|line| is_option(line))
        .map(str::trim)
        .collect();
    let new: Vec<&str> = section.lines.iter().map(|line| line.trim()).collect();
    if own == new {
        return Ok(text.to_owned());
    }
    if !replaces {
        return Err(format!(
            "already has {header} with other settings; choose another name, or add --force to replace this section"
        ));
    }
    let mut all: Vec<&str> = before.to_vec();
    all.push(&header);
    all.extend(section.lines.iter().map(String::as_str));
    all.extend(between);
    all.extend(after);
    let mut text = all.join("\n");
    text.push('\n');
    Ok(text)
}

/// Whether a line is this header. Quotes, and the number of spaces, do not matter.
fn same_header(line: &str, header: &str) -> bool {
    let words = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('[')?;
        let (inner, _) = inner.rsplit_once(']')?;
        let plain: String = inner.chars().filter(|c| !"\"'".contains(*c)).collect();
        Some(plain.split_whitespace().map(str::to_owned).collect())
    };
    match (words(line), words(header)) {
        (Some(line), Some(header)) => line == header,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(header: &str, lines: &[&str]) -> Section {
        Section {
            header: header.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn a_new_section_is_appended() {
        let dev = section("profile dev", &["region = a"]);
        assert_eq!(put("", &dev, false).unwrap(), "[profile dev]\nregion = a\n");
        let text = "# mine\n[default]\nregion = b\n\n\n";
        assert_eq!(
            put(text, &dev, false).unwrap(),
            "# mine\n[default]\nregion = b\n\n[profile dev]\nregion = a\n"
        );
    }

    #[test]
    fn another_section_of_the_name_is_replaced_on_request_only() {
        let text = "[profile 'dev']\nregion = b\ns3 =\n  x = y\n\n# about the next\n[profile other]\nregion = c\n";
        let dev = section("profile dev", &["region = a"]);
        assert!(put(text, &dev, false).unwrap_err().contains("--force"));
        assert_eq!(
            put(text, &dev, true).unwrap(),
            "[profile dev]\nregion = a\n\n# about the next\n[profile other]\nregion = c\n"
        );
        // The same lines need no permission, and change nothing.
        let same = section("profile dev", &["region = b", "s3 =", "  x = y"]);
        assert_eq!(put(text, &same, false).unwrap(), text);
        let twice = "[profile dev]\n[profile  dev]\n";
        assert!(
            put(twice, &dev, true)
                .unwrap_err()
                .contains("more than once")
        );
        let last = "[profile dev]\nregion = b";
        assert_eq!(
            put(last, &dev, true).unwrap(),
            "[profile dev]\nregion = a\n"
        );
    }
}
