//! The pace at which header blocks of HTTP/2 are unpacked for those who have proven nobody.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::connection::Connection;
use super::holdings::Holdings;

/// How many bytes of header blocks of HTTP/2 are unpacked a second for all the connections of a source
/// that have proven nobody. As many may come at once. A byte can stand for a whole header (RFC 7541
/// section 6.1), so a second's worth takes some 25 ms of processor time.
const HEADER_BYTES_PER_SECOND: u64 = 262_144;
const NANOSECONDS: u64 = 1_000_000_000;

impl Connection {
    /// Whether header blocks of HTTP/2 may be unpacked now: the source's connections have not had more
    /// than their pace, or somebody was proven on this one.
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

    /// So many bytes of header blocks came.
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
        // It always has a value to set.
        let _ = source
            .headers_paid
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }
}
