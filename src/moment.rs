//! An instant, as the shell read it once for a whole turn. The core never reads a clock; it is handed one of these.

/// Both clocks at one reading, in microseconds.
///
/// `mono_us` counts from an arbitrary start and never goes back; every duration and deadline is measured with it.
/// `wall_us` is time since the Unix epoch; it is only ever written into records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds on the monotonic clock.
    pub mono_us: u64,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub wall_us: u64,
}

impl Moment {
    /// Microseconds since `earlier`, zero if the clock was read out of order.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.mono_us.saturating_sub(earlier.mono_us)
    }

    /// The moment `us` microseconds later: how tests let time pass.
    #[must_use]
    pub const fn plus_us(self, us: u64) -> Self {
        Self { mono_us: self.mono_us.saturating_add(us), wall_us: self.wall_us.saturating_add(us) }
    }
}
