//! A clock that never goes back. All expiry is decided by it, so that nothing that has expired
//! becomes valid again because somebody, or a faulty time server, set the wall clock back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::{Clock, Timestamp};

/// While the wall clock is behind, this clock runs slower by one part in this many, until the wall
/// clock has caught up. It does not stop, because sessions must end, and it does not run at full
/// speed, because it would then stay ahead for good.
const SLOWED_BY: i64 = 16;

/// The later of the wall clock and the highest time seen before.
pub struct HighWaterClock {
    wall: Arc<dyn Clock>,
    /// How far the wall clock may be behind the highest time.
    allowed: Duration,
    /// The highest time seen, less the monotonic time that had passed by then, in milliseconds. Only [`Self::accept`]
    /// lowers it.
    offset: AtomicI64,
}

impl HighWaterClock {
    /// Creates a clock that starts at the wall clock's time, or at `mark` if that is later.
    pub fn new(wall: Arc<dyn Clock>, mark: Option<Timestamp>, allowed: Duration) -> Self {
        let clock = Self {
            wall,
            allowed,
            offset: AtomicI64::new(i64::MIN),
        };
        let start = mark.map_or(i64::MIN, |mark| {
            mark.millis().saturating_sub(clock.passed())
        });
        clock.offset.store(start, Ordering::Relaxed);
        clock
    }

    /// The time for all decisions: the wall clock's, unless a later one was seen before. It never
    /// goes back.
    pub fn now(&self) -> Timestamp {
        // The order matters: a thread that is delayed in between must not count that time twice.
        let wall = self.wall.now().millis();
        let passed = self.passed();
        let offset = wall.saturating_sub(passed);
        let highest = self.offset.fetch_max(offset, Ordering::Relaxed).max(offset);
        Timestamp::from_millis(highest.saturating_add(passed))
    }

    /// The time since a fixed instant in the past, for timeouts and rates; changes of the wall
    /// clock do not affect it.
    pub fn monotonic(&self) -> Duration {
        self.wall.monotonic()
    }

    /// The wall clock's time, which may be behind this clock.
    pub fn wall(&self) -> Timestamp {
        self.wall.now()
    }

    /// How far the wall clock is behind this clock; zero if it is not behind.
    pub fn lag(&self) -> Duration {
        let wall = self.wall.now();
        self.now().since(wall)
    }

    /// How far the wall clock may be behind before nothing may be issued any more.
    pub fn allowed(&self) -> Duration {
        self.allowed
    }

    /// How far the wall clock is behind, if it is further behind than allowed. In that case nothing
    /// may be issued.
    pub fn is_behind(&self) -> Option<Duration> {
        Some(self.lag()).filter(|lag| *lag > self.allowed)
    }

    /// How long it takes until the wall clock is within the allowed lag again.
    pub fn until_caught_up(&self) -> Duration {
        let slowed_by = u32::try_from(SLOWED_BY).unwrap_or(u32::MAX);
        self.lag()
            .saturating_sub(self.allowed)
            .saturating_mul(slowed_by)
    }

    /// Continues from `mark`, if `mark` is later than now.
    pub fn raise(&self, mark: Timestamp) {
        self.offset.fetch_max(
            mark.millis().saturating_sub(self.passed()),
            Ordering::Relaxed,
        );
    }

    /// Goes back to `mark`, or to the wall clock's time if that is later. The caller must first
    /// have ended all sessions that were issued before, because an earlier time would make expired
    /// ones valid again.
    pub fn accept(&self, mark: Timestamp) {
        let time = self.wall.now().max(mark);
        self.offset.store(
            time.millis().saturating_sub(self.passed()),
            Ordering::Relaxed,
        );
    }

    /// The milliseconds that have passed since this clock started, slowed down as [`SLOWED_BY`]
    /// says.
    fn passed(&self) -> i64 {
        let passed = i64::try_from(self.wall.monotonic().as_millis()).unwrap_or(i64::MAX);
        passed - passed / SLOWED_BY
    }
}

impl Clock for HighWaterClock {
    fn now(&self) -> Timestamp {
        HighWaterClock::now(self)
    }

    fn monotonic(&self) -> Duration {
        HighWaterClock::monotonic(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ManualClock;
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000_000);

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds)
    }

    fn clocks(mark: Option<Timestamp>) -> (Arc<ManualClock>, HighWaterClock) {
        let wall = Arc::new(ManualClock::new(START));
        (
            wall.clone(),
            HighWaterClock::new(wall, mark, Duration::from_secs(900)),
        )
    }

    /// Lets time pass on both the monotonic clock and the wall clock.
    fn pass(wall: &ManualClock, seconds: u64) {
        wall.pass(Duration::from_secs(seconds));
        wall.advance(Duration::from_secs(seconds));
    }

    #[test]
    fn op_05_it_is_the_wall_clock_as_long_as_that_goes_forward() {
        let (wall, clock) = clocks(None);
        assert_eq!((clock.now(), clock.lag()), (START, Duration::ZERO));
        for _ in 0..1_000 {
            pass(&wall, 7);
            assert_eq!(clock.now(), wall.now());
        }
        wall.advance(Duration::from_secs(86_400));
        assert_eq!((clock.now(), clock.is_behind()), (wall.now(), None));
    }

    #[test]
    fn op_05_it_goes_on_when_the_wall_clock_is_put_back_and_until_that_has_caught_up() {
        let (wall, clock) = clocks(None);
        pass(&wall, 3_200);
        assert_eq!(clock.now(), seconds(3_200));
        wall.set(seconds(3_100));
        assert_eq!(
            (clock.now(), clock.lag()),
            (seconds(3_200), Duration::from_secs(100))
        );
        // A session of 900 seconds lasts at most a sixteenth longer.
        pass(&wall, 960);
        assert_eq!(
            (clock.now(), clock.lag()),
            (seconds(4_100), Duration::from_secs(40))
        );
        pass(&wall, 640);
        assert_eq!((clock.now(), clock.lag()), (seconds(4_700), Duration::ZERO));
        pass(&wall, 100);
        assert_eq!(clock.now(), wall.now());
    }

    #[test]
    fn op_05_it_goes_on_when_the_wall_clock_stands_still() {
        let (wall, clock) = clocks(None);
        assert_eq!(clock.now(), START);
        wall.pass(Duration::from_secs(960));
        assert_eq!((clock.now(), clock.is_behind()), (seconds(900), None));
        wall.pass(Duration::from_secs(16));
        assert_eq!(
            (clock.now(), clock.is_behind()),
            (seconds(915), Some(Duration::from_secs(915)))
        );
        // It continues, and catches up in the end.
        assert_eq!(clock.until_caught_up(), Duration::from_secs(240));
        pass(&wall, 239);
        assert!(clock.is_behind().is_some());
        pass(&wall, 2);
        assert_eq!(clock.is_behind(), None);
    }

    #[test]
    fn op_05_a_mark_of_before_counts_until_it_is_given_up() {
        let (wall, clock) = clocks(Some(seconds(7_200)));
        assert_eq!(
            (clock.now(), clock.is_behind()),
            (seconds(7_200), Some(Duration::from_secs(7_200)))
        );
        clock.accept(START);
        assert_eq!((clock.now(), clock.lag()), (START, Duration::ZERO));
        // A mark that is earlier than the wall clock has no effect.
        let (_, clock) = clocks(Some(Timestamp::from_seconds(5)));
        assert_eq!(clock.now(), START);
        clock.accept(Timestamp::from_seconds(5));
        assert_eq!(clock.now(), wall.now());
    }

    proptest::proptest! {
        #[test]
        fn op_05_it_never_goes_back(steps in proptest::collection::vec((-100_000i64..100_000, 0u64..5_000), 1..60)) {
            let (wall, clock) = clocks(None);
            let mut last = clock.now();
            for (at, passed) in steps {
                wall.set(seconds(at));
                wall.pass(Duration::from_secs(passed));
                let now = clock.now();
                proptest::prop_assert!(now >= last && now >= wall.now());
                last = now;
            }
        }
    }
}
