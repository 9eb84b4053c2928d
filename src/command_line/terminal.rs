//! Asks questions at the terminal of the person. Nothing is written to standard output, because `eval` or the program
//! that runs a `credential_process` may read it. A code is asked for at the terminal itself, even if standard input is
//! something else.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use zeroize::Zeroizing;

use super::Failure;
use crate::base::legible::Legible;

/// Asks a question, and returns whether the answer is `y` or `yes`. Without a terminal the answer is no.
///
/// # Errors
/// [`Failure`] if the terminal cannot be read or written.
pub(crate) fn confirms(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    write!(io::stderr(), "{} [y/N] ", Legible(question))?;
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()))
}

/// Asks for the code of an MFA device. `otherwise` says in the error what to do without a terminal.
///
/// # Errors
/// There is no terminal, it cannot be read or written, or an empty line was entered.
pub(crate) fn ask_code(serial_number: &str, otherwise: &str) -> Result<Zeroizing<String>, Failure> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| {
            format!(
                "the code of {serial_number} is needed, but there is no terminal to ask on; {otherwise}"
            )
        })?;
    write!(terminal, "Code of {}: ", Legible(serial_number))?;
    terminal.flush()?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(terminal).read_line(&mut line)?;
    let code = Zeroizing::new(line.trim().to_owned());
    if code.is_empty() {
        return Err(
            format!("no code of {serial_number} was entered; run the command again").into(),
        );
    }
    Ok(code)
}
