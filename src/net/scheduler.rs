//! What the kernel's scheduler is asked for, by hand: `sched_setscheduler(2)` for the calling thread.
//!
//! rustix has no wrapper of it, and that of some C libraries (musl) is a stub. What it is good for, see [`super::pace`].

#![expect(unsafe_code, reason = "two system calls that nobody wraps; what they may touch is said at each")]

use std::{ffi::c_int, io};

/// How a thread that wakes up is treated (`sched(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// `SCHED_OTHER`: it may interrupt who runs.
    Ordinary,
    /// `SCHED_BATCH`: it waits until who runs sleeps, or has used up its slice. Its share of the processor stays the same.
    Batch,
}

impl Policy {
    const fn number(self) -> c_int {
        match self {
            Self::Ordinary => libc::SCHED_OTHER,
            Self::Batch => libc::SCHED_BATCH,
        }
    }
}

/// Whether the calling thread is treated in this way.
pub(super) fn is(policy: Policy) -> bool {
    // SAFETY: no memory is touched; zero is the calling thread.
    let number = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    i64::from(policy.number()) == number
}

/// Has the calling thread treated in this way. Needs no privilege: neither is better than the other.
///
/// # Errors
///
/// When a filter of system calls forbids it.
pub(super) fn ask_for(policy: Policy) -> io::Result<()> {
    let priority: c_int = 0;
    // SAFETY: the kernel reads one `struct sched_param`, which is an integer, from ours; zero is the calling thread.
    let done =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy.number(), std::ptr::from_ref(&priority)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::{Policy, ask_for, is};

    #[test]
    fn a_thread_is_treated_as_it_asked_and_no_other_thread_is() {
        std::thread::spawn(|| {
            assert!(is(Policy::Ordinary));
            ask_for(Policy::Batch).expect("allowed to everybody");
            assert!(is(Policy::Batch) && !is(Policy::Ordinary));
            ask_for(Policy::Ordinary).expect("allowed to everybody");
            assert!(is(Policy::Ordinary));
            ask_for(Policy::Batch).expect("allowed to everybody");
        })
        .join()
        .expect("the thread's own assertions");
        assert!(is(Policy::Ordinary), "this thread has asked for nothing");
    }
}
