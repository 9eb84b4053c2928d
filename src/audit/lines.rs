//! Lines in memory, in the parts in which they are written.

/// How many parts a round of writing has: [`Lines::parts`].
pub(super) const PARTS: usize = 4;

/// Lines in memory.
#[derive(Default)]
pub(super) struct Lines {
    /// Answers wait for these.
    pub awaited: Vec<u8>,
    /// Changes that took effect, whatever becomes of their records.
    pub changes: Vec<u8>,
    /// Successful calls that handed out nothing, and were answered.
    pub reads: Vec<u8>,
    /// Refusals one by one, and records of counted ones.
    pub refusals: Vec<u8>,
}

impl Lines {
    /// In the order in which they are written.
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

    /// Empties the buffers, and gives back those that hold more than `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        for buffer in self.buffers() {
            match buffer.capacity() > keep {
                true => *buffer = Vec::new(),
                false => buffer.clear(),
            }
        }
    }
}
