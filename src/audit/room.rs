//! How much room the file system of a log has, for whoever looks before a broker starts.

use std::io;
use std::path::Path;

use super::space::Space;

/// What a log can take with the room that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    Enough,
    /// Refusals are only counted.
    CountsRefusals,
    /// Calls that read are refused.
    RefusesReads,
    /// No credentials are issued.
    Full,
}

/// Less than this is none, in bytes.
const NONE: u64 = 1 << 20;

/// The room of the file system that a folder is on, and how many bytes of it are free.
///
/// # Errors
/// Those of the system.
pub fn room(folder: &Path) -> io::Result<(Room, u64)> {
    let stat = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let free = bytes(stat.f_bavail);
    let Some(space) = Space::new(free, bytes(stat.f_blocks)) else {
        return Ok((Room::Enough, free));
    };
    let room = match space {
        _ if free < NONE => Room::Full,
        space if !space.has_room_for_reads(0) => Room::RefusesReads,
        space if !space.has_room_for_refusals(0) => Room::CountsRefusals,
        _ => Room::Enough,
    };
    Ok((room, free))
}
