//! Reads files of limited size, and standard input for commands that take `-` for it.

use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::Failure;

/// Whether a path is `-`, which means standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// The file cannot be read, or has more than `max_bytes` bytes; the message names the file.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if is_stdin(path) {
        bounded(std::io::stdin().lock(), "standard input", max_bytes)
    } else {
        read_file(path, max_bytes)
    }
}

/// Reads text as [`read`] does.
///
/// # Errors
/// The same as for [`read`]. Also if the text is not UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    let bytes = read(path, max_bytes)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| format!("{}: must be UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// Reads a file. The path `-` stands for a file of that name, not for standard input.
///
/// # Errors
/// The file cannot be read, or has more than `max_bytes` bytes; the message names the file.
pub(crate) fn read_file(path: &Path, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| format!("{name}: {error}"))?;
    bounded(file, &name, max_bytes)
}

fn bounded(input: impl Read, name: &str, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    input
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name}: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        return Err(format!("{name}: must have at most {max_bytes} bytes").into());
    }
    Ok(bytes)
}
