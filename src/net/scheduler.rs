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

/// From now on the calling thread, and no other, is told `EPERM` when it asks, as by a container's filter of system calls.
#[cfg(test)]
pub(super) fn forbid() {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
    let number = u32::try_from(libc::SYS_sched_setscheduler).expect("a number of a system call");
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).expect("an error's number");
    let line = |code: u32, jf, k| sock_filter { code: u16::try_from(code).expect("an instruction"), jt: 0, jf, k };
    let mut lines = [
        // The first word of `struct seccomp_data`: which call it is.
        line(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        line(BPF_JMP | BPF_JEQ | BPF_K, 1, number),
        line(BPF_RET | BPF_K, 0, refusal),
        line(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: 4, filter: lines.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which has four instructions and lives on, and writes nothing.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program)) == 0
    };
    assert!(installed, "a filter of system calls: {}", io::Error::last_os_error());
}

#[cfg(test)]
mod tests {
    use super::{Policy, ask_for, forbid, is};
    use std::io::ErrorKind;

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

    #[test]
    fn a_thread_that_may_not_ask_is_told_so_and_stays_as_it_is() {
        std::thread::spawn(|| {
            forbid();
            let refused = ask_for(Policy::Batch).expect_err("a filter is there");
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            assert!(is(Policy::Ordinary));
        })
        .join()
        .expect("the thread's own assertions");
        ask_for(Policy::Ordinary).expect("of another thread the filter says nothing");
    }
}
