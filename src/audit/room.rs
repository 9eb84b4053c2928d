//! Measures the free space of a log's file system, for checks before a broker starts.

use std::io;
use std::path::Path;

use super::space::Space;

/// The degree to which the free space restricts the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is enough space: nothing is restricted.
    Enough,
    /// Little space is left: refused calls are counted, and not recorded one by one.
    CountsRefusals,
    /// Less space is left: refused calls and calls that only read are counted, and not recorded one by one.
    CountsReads,
    /// There is almost no space: no credentials are issued, and changes other than revocations are refused.
    Full,
}

/// Less free space than this, in bytes, counts as none.
const NONE: u64 = 1 << 20;

/// Reads the free space of the file system of a folder. Returns how the free space restricts the
/// log, and the number of free bytes.
///
/// # Errors
/// [`io::Error`] if the folder cannot be examined.
pub fn room(folder: &Path) -> io::Result<(Room, u64)> {
    let stat = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let free = bytes(stat.f_bavail);
    let Some(space) = Space::new(free, bytes(stat.f_blocks)) else {
        return Ok((Room::Enough, free));
    };
    let room = match space {
        _ if free < NONE => Room::Full,
        space if !space.has_room_for_reads(0) => Room::CountsReads,
        space if !space.has_room_for_refusals(0) => Room::CountsRefusals,
        _ => Room::Enough,
    };
    Ok((room, free))
}
