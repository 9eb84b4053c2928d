//! The rate at which HTTP/2 header blocks are unpacked for unauthenticated callers.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::connection::Connection;
use super::holdings::Holdings;

/// How many bytes of HTTP/2 header blocks per second are unpacked for all unauthenticated
/// connections of a source. The same number may arrive at once. A byte can stand for a whole header
/// (RFC 7541 section 6.1), so unpacking this many takes about 25 ms of processor time.
const HEADER_BYTES_PER_SECOND: u64 = 262_144;
const NANOSECONDS: u64 = 1_000_000_000;

impl Connection {
    /// Whether HTTP/2 header blocks may be unpacked now: either the source's connections have kept to the rate, or this
    /// connection is a proven one or a trusted proxy's.
    pub fn may_unpack(&self) -> bool {
        match &self.source {
            Some(source) if !self.is_proven() => self.may_unpack_at(source, Instant::now()),
            _ => true,
        }
    }

    pub(super) fn may_unpack_at(&self, source: &Holdings, now: Instant) -> bool {
        source.headers_paid.load(Ordering::Relaxed)
            <= self.admission.nanoseconds(now).saturating_add(NANOSECONDS)
    }

    /// Records that bytes of header blocks were received.
    pub fn unpacked(&self, bytes: usize) {
        if let Some(source) = &self.source
            && !self.is_proven()
        {
            self.unpacked_at(source, bytes, Instant::now());
        }
    }

    pub(super) fn unpacked_at(&self, source: &Holdings, bytes: usize, now: Instant) {
        let now = self.admission.nanoseconds(now);
        let takes = u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_mul(NANOSECONDS / HEADER_BYTES_PER_SECOND);
        let paid = |before: u64| Some(before.max(now).saturating_add(takes));
        // The closure always returns a value, so this cannot fail.
        let _ = source
            .headers_paid
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }
}
