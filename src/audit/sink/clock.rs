//! The thread's own clocks: it has no turns whose moment could be handed in, and asks at most once a block.

use std::time::{Instant, SystemTime};

#[expect(clippy::disallowed_methods, reason = "the thread measures its own waiting")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "files are put aside by the time of day")]
pub(super) fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
