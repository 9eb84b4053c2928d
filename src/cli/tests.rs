use super::*;

/// Lists every command, with the words that lead to it.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn below(
        path: &[String],
        command: &clap::Command,
        found: &mut Vec<(Vec<String>, clap::Command)>,
    ) {
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let path: Vec<String> = path
                .iter()
                .cloned()
                .chain([sub.get_name().to_owned()])
                .collect();
            found.push((path.clone(), sub.clone()));
            below(&path, sub, found);
        }
    }
    let mut found = Vec::new();
    below(&["brevet".to_owned()], &Arguments::command(), &mut found);
    found
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_has_a_paragraph_and_examples_that_are_understood() {
    let commands = commands();
    assert!(commands.len() > 25, "{}", commands.len());
    for (path, command) in commands {
        let name = path.join(" ");
        let about = command
            .get_long_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            about.len() > 100 && about.contains("\n\n"),
            "{name}: has no paragraph: {about}"
        );
        let examples = command
            .get_after_long_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let examples = examples.strip_prefix("Examples:\n").unwrap_or_default();
        let lines: Vec<&str> = examples
            .lines()
            .filter(|l| l.starts_with("  ") && !l.starts_with("      "))
            .collect();
        assert!(!lines.is_empty(), "{name}: has no example");
        for line in lines {
            assert!(line.len() < 98, "{name}: {line}: would be wrapped");
            let start = line
                .find("brevet ")
                .unwrap_or_else(|| panic!("{name}: {line}: calls nothing"));
            // What a shell would hand over: up to its closing quote, a pipe or a redirection.
            let call = line[start..]
                .split(" | ")
                .next()
                .unwrap()
                .split(" > ")
                .next()
                .unwrap()
                .split(" < ")
                .next()
                .unwrap();
            let call = call.trim_end_matches(')').trim_end_matches(")\"");
            let words = aws::words_of(call).unwrap_or_else(|e| panic!("{name}: {line}: {e}"));
            let understood = Arguments::command().try_get_matches_from(&words);
            assert!(
                understood.is_ok(),
                "{name}: {line}: {}",
                understood.unwrap_err()
            );
        }
    }
}

#[test]
fn the_log_is_shown_where_something_logs() {
    for (path, mut command) in commands() {
        let shown = command.render_long_help().to_string().contains("--log ");
        let logs = ["agent", "exec", "serve", "web-identity-token"].contains(&path[1].as_str());
        assert_eq!(shown, logs, "{path:?}");
        let words: Vec<&str> = path
            .iter()
            .map(String::as_str)
            .chain(["--log", "debug"])
            .collect();
        let error = Arguments::command()
            .try_get_matches_from(words)
            .err()
            .map(|e| e.kind());
        assert_ne!(
            error,
            Some(clap::error::ErrorKind::UnknownArgument),
            "{path:?} takes it all the same"
        );
    }
    for words in [
        ["brevet", "--log", "debug", "serve", "--dev"],
        ["brevet", "serve", "--log", "debug", "--dev"],
    ] {
        let parsed = Arguments::try_parse_from(words).unwrap();
        let Command::Serve(serve) = &parsed.command else {
            panic!("serve")
        };
        assert_eq!(
            serve.log.log.as_deref().or(parsed.log.as_deref()),
            Some("debug"),
            "{words:?}"
        );
    }
}

#[test]
fn the_reference_has_every_command_and_its_examples_are_understood() {
    let page = include_str!("../../docs/reference/cli.md");
    for (path, _) in commands()
        .into_iter()
        .filter(|(_, command)| !command.has_subcommands())
    {
        let name = path.join(" ");
        assert!(
            page.contains(&format!("| `{name}` |")),
            "docs/reference/cli.md has no line for {name}"
        );
        assert!(
            page.lines().any(|line| line.starts_with(&name)),
            "docs/reference/cli.md has no example of {name}"
        );
    }
    for line in page.lines().filter(|line| line.starts_with("brevet ")) {
        let call = line.split(" > ").next().unwrap();
        let words = aws::words_of(call).unwrap();
        let understood = Arguments::command().try_get_matches_from(&words);
        // The policy of an example is no file here.
        let read = understood
            .as_ref()
            .err()
            .is_some_and(|e| e.to_string().contains("read-only.json"));
        assert!(
            understood.is_ok() || read,
            "{line}: {}",
            understood.unwrap_err()
        );
    }
}

/// Collects the Markdown files in a folder and below.
fn pages(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_brevet_command_in_the_documentation_is_understood() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md")];
    pages(&root.join("docs"), &mut found);
    let mut count = 0;
    for page in found {
        let text = std::fs::read_to_string(&page).unwrap().replace("\\\n", " ");
        let mut is_shell = false;
        for line in text.lines().map(str::trim) {
            if let Some(info) = line.strip_prefix("```") {
                is_shell = info.starts_with("sh ");
                continue;
            }
            let call = line
                .strip_prefix("runuser -u brevet -- ")
                .unwrap_or(line)
                .split([';', '|', '>', '<', '#', '&'])
                .next()
                .unwrap()
                .trim_end_matches(" 2");
            // The policy of an example is no file here.
            if !is_shell || !call.starts_with("brevet ") || call.contains("file://") {
                continue;
            }
            count += 1;
            let mut words = aws::words_of(call).unwrap();
            let read = |words: &[String]| Arguments::command().try_get_matches_from(words);
            let understood = read(&words).or_else(|error| {
                // Pages set BREVET_CONFIG.
                let is_config = error.to_string().contains("  --config <FILE>\n");
                words.extend(["--config".to_owned(), "brevet.toml".to_owned()]);
                if is_config { read(&words) } else { Err(error) }
            });
            if let Err(error) = understood {
                panic!("{}: {call}: {error}", page.display());
            }
        }
    }
    assert!(count > 100, "{count} commands");
}

#[test]
fn a_flag_that_belongs_to_another_is_never_ignored() {
    let mut tried = 0;
    for (path, command) in commands() {
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let Some(flag) = help
                .strip_prefix("With --")
                .and_then(|h| h.split([':', ' ']).next())
            else {
                continue;
            };
            let other = command.get_arguments().find(|a| a.get_long() == Some(flag));
            let other = other.unwrap_or_else(|| panic!("{path:?}: --{flag} of {help:?}"));
            let words = |arg: &clap::Arg| {
                let value = arg
                    .get_action()
                    .takes_values()
                    .then(|| "127.0.0.1:1".to_owned());
                [format!("--{}", arg.get_long().unwrap())]
                    .into_iter()
                    .chain(value)
            };
            let conflicting = command.get_arg_conflicts_with(other);
            // Where nothing conflicts, clap's own rule holds.
            for third in conflicting
                .iter()
                .filter(|third| third.get_id() != arg.get_id())
            {
                let line = path.iter().cloned().chain(words(arg)).chain(words(third));
                let line: Vec<String> = line.collect();
                let read = understood(line.iter().map(Into::into));
                let error = read
                    .err()
                    .unwrap_or_else(|| panic!("{line:?} is understood"));
                let kinds = [
                    clap::error::ErrorKind::MissingRequiredArgument,
                    clap::error::ErrorKind::ArgumentConflict,
                ];
                assert!(kinds.contains(&error.kind()), "{line:?}: {error}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 6, "{tried}");

    let refused = |line: &str| {
        understood(line.split(' ').map(Into::into))
            .unwrap_err()
            .to_string()
    };
    let revoke =
        "brevet sessions revoke --config brevet.toml --provider arn:aws:iam::1:saml-provider/x";
    assert!(
        refused(revoke).contains("--config can only be used with --all"),
        "{}",
        refused(revoke)
    );
    let revoke = "brevet sessions revoke --all --subject alice";
    assert!(refused(revoke).contains("--subject can only be used with --provider"));
    let assume = "brevet assume-role --role-arn R --saml-provider-arn P --role-session-name n";
    assert!(
        refused(assume).contains("--saml-provider-arn can only be used with --saml-response-file")
    );
}
