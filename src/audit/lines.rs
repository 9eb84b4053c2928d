//! Lines that wait in memory, grouped by the order in which they are written.

/// The number of parts: see [`Lines::parts`].
pub(super) const PARTS: usize = 4;

/// Lines that wait to be written, in four buffers by their importance.
#[derive(Default)]
pub(super) struct Lines {
    /// Lines that a response waits for.
    pub awaited: Vec<u8>,
    /// Lines of changes that have taken effect already.
    pub changes: Vec<u8>,
    /// Lines of successful calls that issued nothing, whose answers do not wait for the lines.
    pub reads: Vec<u8>,
    /// Lines of refusals. A line stands for one refusal, or for several that were counted together.
    pub refusals: Vec<u8>,
}

impl Lines {
    /// The parts in the order in which they are written.
    pub fn parts(&self) -> [&[u8]; PARTS] {
        [&self.awaited, &self.changes, &self.reads, &self.refusals]
    }

    pub fn buffers(&mut self) -> [&mut Vec<u8>; PARTS] {
        [
            &mut self.awaited,
            &mut self.changes,
            &mut self.reads,
            &mut self.refusals,
        ]
    }

    pub fn lengths(&self) -> [usize; PARTS] {
        self.parts().map(<[u8]>::len)
    }

    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(|part| part.is_empty())
    }

    /// Empties the buffers, and frees those whose capacity exceeds `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        for buffer in self.buffers() {
            match buffer.capacity() > keep {
                true => *buffer = Vec::new(),
                false => buffer.clear(),
            }
        }
    }
}
