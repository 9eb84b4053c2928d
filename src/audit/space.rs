//! The free space of the log's file system, and which kinds of lines may still use it.

/// Single refusals are written while more than a fifth of the file system, or more than this many
/// bytes, is free.
const FREE_FOR_REFUSALS: u64 = 1 << 30;
/// Reads get lines of their own while more than a tenth of the file system, or more than this many
/// bytes, is free.
const FREE_FOR_READS: u64 = 512 << 20;

/// The file system of the log: its size and its free bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub free: u64,
    pub total: u64,
}

impl Space {
    /// Makes a value from the free and the total bytes. `None` for a file system that does not
    /// report its size.
    pub fn new(free: u64, total: u64) -> Option<Self> {
        (total > 0).then_some(Self { free, total })
    }

    /// Subtracts bytes that were written since the free space was read.
    pub fn take(&mut self, bytes: usize) {
        self.free = self
            .free
            .saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Whether more than `1/share` of the file system, or more than `most` bytes, stays free after
    /// `queued` bytes are written.
    fn leaves(&self, queued: usize, share: u64, most: u64) -> bool {
        let mut rest = *self;
        rest.take(queued);
        rest.free > (self.total / share).min(most)
    }
}

impl Space {
    /// Whether single refusals are written, given that `queued` bytes are waiting.
    pub fn has_room_for_refusals(&self, queued: usize) -> bool {
        self.leaves(queued, 5, FREE_FOR_REFUSALS)
    }

    /// Whether reads get lines of their own, given that `queued` bytes are waiting.
    pub fn has_room_for_reads(&self, queued: usize) -> bool {
        self.leaves(queued, 10, FREE_FOR_READS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_shared_by_what_is_free() {
        const MIB: u64 = 1 << 20;
        let allowed = |free, total, queued| {
            let space = Space::new(free, total).unwrap();
            (
                space.has_room_for_refusals(queued),
                space.has_room_for_reads(queued),
            )
        };
        assert_eq!(allowed(21 * MIB, 100 * MIB, 0), (true, true));
        assert_eq!(allowed(20 * MIB, 100 * MIB, 0), (false, true));
        assert_eq!(
            allowed(21 * MIB, 100 * MIB, 1 << 20),
            (false, true),
            "what is queued is written as well"
        );
        assert_eq!(allowed(10 * MIB, 100 * MIB, 0), (false, false));
        assert_eq!(
            allowed(1025 * MIB, 1 << 50, 0),
            (true, true),
            "a gibibyte is enough on any disk"
        );
        assert_eq!(allowed(1024 * MIB, 1 << 50, 0), (false, true));
        assert_eq!(allowed(512 * MIB, 1 << 50, 0), (false, false));
        assert_eq!(
            Space::new(0, 0),
            None,
            "a file system that does not say how large it is"
        );
    }
}
