//! The writes of many sockets in one system call: `io_submit(2)`, by hand.
//!
//! For what it is good, see [`super::burst`]. There is no safe wrapper of it to be had: the C library has none, and rustix
//! neither. `io_uring` would do the same, but container runtimes forbid it by default, and this they allow.
//!
//! A write to a socket that does not block ends before `io_submit` returns; there is nothing asynchronous about it. The results
//! are waited for all the same before [`Batch::send`] returns, so that the kernel never holds on to borrowed bytes.

#![expect(unsafe_code, reason = "four system calls that nobody wraps; what they may touch is said at each")]

use std::{
    ffi::c_long,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// Most writes of one call.
pub(super) const MOST: usize = 64;

/// `IOCB_CMD_PWRITE` of `linux/aio_abi.h`.
const WRITE: u16 = 1;

/// `struct iocb` of `linux/aio_abi.h`: 64 bytes, one request. What has no use here is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    /// Comes back with the result.
    data: u64,
    key_and_flags: [u32; 2],
    opcode: u16,
    priority: i16,
    fd: u32,
    address: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event` of `linux/aio_abi.h`: one result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    data: u64,
    request: u64,
    /// Bytes written, or a negated `errno`.
    result: i64,
    result2: i64,
}

/// Room for one call's requests and results, and the kernel's for the same.
#[derive(Debug)]
pub(super) struct Batch {
    context: libc::c_ulong,
    requests: Box<[Request; MOST]>,
    outcomes: Box<[Outcome; MOST]>,
}

impl Batch {
    /// Asks the kernel for room.
    ///
    /// # Errors
    ///
    /// When there is none (`fs.aio-max-nr`), or this kernel, or the filter of system calls around us, has no `io_setup`.
    pub(super) fn new() -> io::Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one word, to a word that is ours and zero, as it demands.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, MOST, ptr::from_mut(&mut context)) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            context,
            requests: Box::new([Request::default(); MOST]),
            outcomes: Box::new([Outcome::default(); MOST]),
        })
    }

    /// Writes each parcel's bytes, of the first [`MOST`], to its socket, and tells for each of them by its number how many
    /// bytes the socket took. Returns how many parcels the kernel has dealt with: those behind them were not touched.
    ///
    /// The sockets must not block. A write to a socket whose peer has gone raises SIGPIPE, which every program of Rust
    /// ignores.
    pub(super) fn send<'a>(
        &mut self,
        parcels: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        mut told: impl FnMut(usize, io::Result<usize>),
    ) -> usize {
        let mut pointers = [ptr::null_mut::<Request>(); MOST];
        let mut count = 0_usize;
        for (((socket, bytes), request), pointer) in parcels.zip(self.requests.iter_mut()).zip(&mut pointers) {
            *request = Request {
                data: count as u64,
                opcode: WRITE,
                fd: socket.as_raw_fd().cast_unsigned(),
                address: bytes.as_ptr().expose_provenance() as u64,
                length: bytes.len() as u64,
                ..Request::default()
            };
            *pointer = ptr::from_mut(request);
            count += 1;
        }
        // SAFETY: `pointers` has `count` pointers to requests of ours, and each of them names an open descriptor and bytes, both
        // borrowed for 'a, which outlives this call. The kernel writes only to the requests' keys.
        let taken = unsafe { libc::syscall(libc::SYS_io_submit, self.context, count, pointers.as_mut_ptr()) };
        let taken = usize::try_from(taken).unwrap_or(0);
        let mut known = 0_usize;
        while known < taken {
            let (least, room) = (taken - known, self.outcomes.as_mut_ptr());
            // SAFETY: the kernel writes at most MOST results, to an array of so many.
            let got = unsafe {
                libc::syscall(libc::SYS_io_getevents, self.context, least, MOST, room, ptr::null::<libc::timespec>())
            };
            let Some(got) = told_of(got) else { continue };
            for outcome in self.outcomes.iter().take(got) {
                let result = match usize::try_from(outcome.result) {
                    Ok(bytes) => Ok(bytes),
                    Err(_) => Err(io::Error::from_raw_os_error(i32::try_from(-outcome.result).unwrap_or(libc::EIO))),
                };
                told(usize::try_from(outcome.data).unwrap_or(usize::MAX), result);
            }
            known = known.saturating_add(got.max(1));
        }
        taken
    }
}

/// How many results there are; `None` where a signal came first. There is no other error for arguments like ours; after one,
/// what was not told is not waited for.
fn told_of(answer: c_long) -> Option<usize> {
    match usize::try_from(answer) {
        Ok(count) => Some(count),
        Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => None,
        Err(_) => Some(0),
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: the context is this batch's own, and nothing is under way in it.
        let _ = unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
