//! Counts the HTTP/2 frames of a connection by their nine-byte headers (RFC 9113 section 4.1). hyper shows only
//! requests and bodies to its service. This module counts the other frames, and notices incomplete ones. It allocates
//! no memory, and does not look into payloads.

use std::time::Instant;

/// How many frames that belong to no call a connection may send in a row. A new connection begins with this allowance,
/// and the allowance never grows beyond it.
const IDLE_FRAMES: u32 = 100;
/// How much the allowance of frames that belong to no call grows each second.
const IDLE_FRAMES_PER_SECOND: u64 = 20;
/// How much the allowance of frames that belong to no call grows with each call. A client acknowledges each piece of an
/// answer with up to two WINDOW_UPDATEs; gRPC's estimate of the bandwidth adds a PING and sometimes a SETTINGS, an
/// aborted call a RST_STREAM, and Chrome a PRIORITY_UPDATE.
const IDLE_FRAMES_PER_CALL: u32 = 8;
/// For how many bytes of answers the allowance of frames that belong to no call grows by one. A client acknowledges a
/// piece of 16 KiB with up to two frames.
const SENT_BYTES_PER_IDLE_FRAME: u64 = 4_096;

/// The length of the connection preface after its first line, in bytes (RFC 9113 section 3.4).
const REST_OF_PREFACE: u32 = 8;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;

/// The position of a connection in its stream of frames.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; 9],
    /// How many bytes of the frame's header have arrived.
    have: usize,
    /// How many bytes of the frame's payload are still to arrive.
    left: u32,
    kind: u8,
    /// Whether a header block continues in the next frame.
    in_header_block: bool,
    idle: Allowance,
}

/// How many more frames that belong to no call a connection may send.
#[derive(Debug)]
struct Allowance {
    left: u32,
    /// When the allowance was last refilled; the time since then determines the next refill.
    since: Instant,
    sent: u64,
}

/// The kinds of bytes that [`Frames::feed`] has found in its input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How many of the bytes belong to bodies, including padding, which counts toward HTTP/2's flow control as well.
    pub data: usize,
    /// How many of the bytes belong to header blocks.
    pub headers: usize,
    pub began: bool,
    /// Whether the connection sent more frames that belong to no call than its allowance.
    pub flood: bool,
}

impl Frames {
    /// Makes the state of a connection of which the first line of the preface was already read.
    pub(super) fn new() -> Self {
        Self {
            header: [0; 9],
            have: 0,
            left: REST_OF_PREFACE,
            kind: u8::MAX,
            in_header_block: false,
            idle: Allowance {
                left: IDLE_FRAMES,
                since: Instant::now(),
                sent: 0,
            },
        }
    }

    /// Counts the frames in the next bytes of the stream, and returns what kinds of bytes these are.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        loop {
            if self.left > 0 {
                let skipped =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                match self.kind {
                    DATA => seen.data += skipped,
                    HEADERS | CONTINUATION => seen.headers += skipped,
                    _ => {}
                }
                self.left -= u32::try_from(skipped).unwrap_or(self.left);
                bytes = bytes.get(skipped..).unwrap_or_default();
            }
            if bytes.is_empty() {
                return seen;
            }
            while self.have < self.header.len() {
                let Some((byte, rest)) = bytes.split_first() else {
                    return seen;
                };
                if let Some(slot) = self.header.get_mut(self.have) {
                    *slot = *byte;
                }
                self.have += 1;
                bytes = rest;
            }
            self.have = 0;
            seen.began = true;
            seen.flood |= !self.begin();
        }
    }

    /// Begins a frame whose header is complete. Returns `false` if the frame exceeds the allowance.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.left = u32::from_be_bytes([0, high, middle, low]);
        self.kind = kind;
        match kind {
            // h2 itself limits small and empty DATA frames.
            DATA => true,
            HEADERS => {
                self.in_header_block = flags & END_HEADERS == 0;
                self.idle.left = self
                    .idle
                    .left
                    .saturating_add(IDLE_FRAMES_PER_CALL)
                    .min(IDLE_FRAMES);
                true
            }
            CONTINUATION => {
                self.in_header_block &= flags & END_HEADERS == 0;
                self.idle.take()
            }
            _ => self.idle.take(),
        }
    }

    /// Counts bytes that were sent to the client, which raise the allowance.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.idle.sent += bytes as u64;
    }

    /// Whether a frame or a header block is incomplete.
    pub(super) fn is_partial(&self) -> bool {
        self.have > 0 || self.left > 0 || self.in_header_block
    }

    /// Whether a header block continues in the next frame.
    pub(super) fn in_header_block(&self) -> bool {
        self.in_header_block
    }
}

impl Allowance {
    fn take(&mut self) -> bool {
        self.take_at(Instant::now)
    }

    /// Takes one frame from the allowance; `false` if it is used up. The clock is read only then, to refill the
    /// allowance.
    fn take_at(&mut self, clock: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            let now = clock();
            let time =
                u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
            let more = time.saturating_mul(IDLE_FRAMES_PER_SECOND) / 1_000
                + self.sent / SENT_BYTES_PER_IDLE_FRAME;
            if more == 0 {
                return false;
            }
            self.left = u32::try_from(more).unwrap_or(u32::MAX).min(IDLE_FRAMES);
            (self.since, self.sent) = (now, 0);
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &1u32.to_be_bytes(), payload].concat()
    }

    fn feed(frames: &mut Frames, bytes: &[u8], step: usize) -> Seen {
        bytes
            .chunks(step)
            .map(|piece| frames.feed(piece))
            .fold(Seen::default(), |all, seen| Seen {
                data: all.data + seen.data,
                headers: all.headers + seen.headers,
                began: all.began | seen.began,
                flood: all.flood | seen.flood,
            })
    }

    #[test]
    fn frames_are_told_apart_however_they_come() {
        let preface = b"\r\nSM\r\n\r\n";
        let all = [
            preface.as_slice(),
            &frame(4, 0, &[0; 12]),
            &frame(HEADERS, END_HEADERS, &[1; 40]),
            &frame(DATA, 0, &[2; 300]),
            &frame(DATA, 1, &[]),
            &frame(HEADERS, 0, &[1; 7]),
            &frame(CONTINUATION, 0, &[1; 5]),
            &frame(CONTINUATION, END_HEADERS, &[1; 3]),
            &frame(DATA, 1, &[2; 11]),
        ]
        .concat();
        for step in [1, 2, 8, 9, 10, 64, 100_000] {
            let mut frames = Frames::new();
            assert_eq!(
                feed(&mut frames, &all, step),
                Seen {
                    data: 311,
                    headers: 55,
                    began: true,
                    flood: false
                },
                "by {step}"
            );
            assert!(!frames.is_partial());
        }
        for (end, partial, in_block) in [
            (preface.len(), false, false),
            (preface.len() + 3, true, false),
            (preface.len() + 9, true, false),
            (preface.len() + 21, false, false),
            (preface.len() + 21 + 49 + 309 + 9 + 16, true, true),
            (preface.len() + 21 + 49 + 309 + 9 + 16 + 14, true, true),
            (
                preface.len() + 21 + 49 + 309 + 9 + 16 + 14 + 12,
                false,
                false,
            ),
        ] {
            let mut frames = Frames::new();
            frames.feed(&all[..end]);
            assert_eq!(
                (frames.is_partial(), frames.in_header_block()),
                (partial, in_block),
                "{end}"
            );
        }
    }

    #[test]
    fn tr_02_frames_without_a_call_are_counted() {
        let fresh = || {
            let mut frames = Frames::new();
            frames.feed(b"\r\nSM\r\n\r\n");
            frames
        };
        for kind in [2, 3, 4, 6, 7, 8, CONTINUATION, 0xfe] {
            let mut frames = fresh();
            let one = frame(kind, 0, b"12345678");
            assert!(!frames.feed(&one.repeat(100)).flood, "{kind}");
            // Time passes while the test runs: a few more may be allowed.
            assert!(frames.feed(&one.repeat(100)).flood, "{kind}");
        }
        // Eight for each call, however many there were before.
        let mut frames = fresh();
        let call = frame(HEADERS, END_HEADERS, &[0; 20]);
        let with = |pings: usize| [call.clone(), frame(6, 0, b"12345678").repeat(pings)].concat();
        assert!(!frames.feed(&with(8).repeat(1_000)).flood);
        assert!(frames.feed(&with(20).repeat(1_000)).flood);
        // What acknowledges an answer is allowed by its length.
        let mut frames = fresh();
        let update = frame(8, 0, &1u32.to_be_bytes());
        frames.feed(&[call, update.repeat(100)].concat());
        frames.sent(1 << 20);
        assert!(!frames.feed(&update.repeat(100)).flood);
        assert!(frames.feed(&update.repeat(300)).flood);
    }

    #[test]
    fn time_allows_some_more() {
        let start = Instant::now();
        let at = |milliseconds| move || start + std::time::Duration::from_millis(milliseconds);
        let mut idle = Allowance {
            left: 0,
            since: start,
            sent: 0,
        };
        assert!(!idle.take_at(at(0)));
        assert_eq!(
            [150; 4].map(|ms| idle.take_at(at(ms))),
            [true, true, true, false]
        );
        assert!((0..100).all(|_| idle.take_at(at(3_600_000))) && !idle.take_at(at(3_600_000)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_pieces_are_as_good_as_the_whole(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            step in 1usize..50,
        ) {
            let (mut whole, mut pieces) = (Frames::new(), Frames::new());
            proptest::prop_assert_eq!(whole.feed(&bytes), feed(&mut pieces, &bytes, step));
            proptest::prop_assert_eq!((whole.left, whole.have), (pieces.left, pieces.have));
        }
    }
}
