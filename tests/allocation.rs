//! No memory is allocated per command: each case of the core's benchmark, once it has run warm, runs on without asking
//! for any, and so do connections with several outputs at once.

#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test, and the benchmark's own cases")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "../benches/core/cases.rs"]
mod cases;
#[path = "../benches/core/dialogue.rs"]
mod dialogue;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// What this thread has asked for. Not its neighbour's: tests run side by side.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; all is passed on to the system's unchanged")]
// SAFETY: every call is the system allocator's, with the caller's own arguments; counting allocates nothing, because the
// cell needs neither initialising nor dropping.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Commands until buffers have found their sizes: several blocks of the audit stream, in both buffers of every output.
const WARM: u64 = 4_000;
const COUNTED: u64 = 10_000;

fn allocations(run: impl FnOnce()) -> u64 {
    let before = ASKED.get();
    run();
    ASKED.get() - before
}

#[test]
fn the_count_sees_what_is_allocated() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| (0..1_000).for_each(|at| drop(std::hint::black_box(vec![at; 10])))), 1_000);
}

#[test]
fn no_command_allocates_once_a_connection_is_warm() {
    let mut faults = Vec::new();
    for mut case in cases::all(|_| true) {
        let passes = |commands: u64| (commands / case.weight).div_ceil(case.commands);
        let (warm, counted) = (passes(WARM), passes(COUNTED));
        (case.run)(warm);
        let asked = allocations(|| (case.run)(counted));
        // A checkpoint is rendered once in sixteen blocks, of 180 lines at the least each, and may ask for what it needs.
        let checkpoints = if case.name.ends_with("-chained") { counted / 2_880 + 1 } else { 0 };
        if asked > checkpoints * 16 {
            faults.push(format!("{}: {asked} allocations in {} commands", case.name, counted * case.commands));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
