//! The person at the terminal, asked directly: standard output may be read by `eval`, and standard
//! error by the program that runs a `credential_process`.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use zeroize::Zeroizing;

use super::Failure;
use crate::base::legible::Legible;

/// Asks a question that `y` or `yes` agrees to. Where nobody sits at a terminal, nobody agrees.
///
/// # Errors
/// When the terminal cannot be read.
pub(super) fn confirms(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    write!(io::stderr(), "{} [y/N] ", Legible(question))?;
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()))
}

/// Asks for the code of an MFA device. `otherwise` is what to do without a terminal.
///
/// # Errors
/// When there is no terminal, or no code is given.
pub(super) fn ask_code(serial_number: &str, otherwise: &str) -> Result<Zeroizing<String>, Failure> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| {
            format!(
                "{serial_number} needs its code, and there is no terminal to ask on; {otherwise}"
            )
        })?;
    write!(terminal, "Code of {}: ", Legible(serial_number))?;
    terminal.flush()?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(terminal).read_line(&mut line)?;
    let code = Zeroizing::new(line.trim().to_owned());
    if code.is_empty() {
        return Err(format!("no code of {serial_number} was given").into());
    }
    Ok(code)
}
