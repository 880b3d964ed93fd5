//! Redis ends and begins again on the same socket while clients speak.

use super::watcher::{Totals, Watcher};
use crate::support::{ledger::Ledger, load::Dice, redis::Redis, tap::Tap};
use rustix::process::Signal;
use std::{thread, time::Duration};

/// A crash or a stop, a while without Redis, and a new one. What the old one counted dies with it: the tap alone is the
/// witness.
pub(crate) fn kill(redis: &mut Redis, tap: &Tap, dice: &mut Dice, ledger: &mut Ledger) {
    thread::sleep(Duration::from_millis(50 + dice.roll(300)));
    end(redis, dice, ledger);
    // The tap is still there, as a socket whose server is about to go; then it is not.
    if dice.one_in(2) {
        thread::sleep(Duration::from_millis(dice.roll(20)));
    }
    tap.leave(dice.one_in(2));
    thread::sleep(Duration::from_millis(dice.roll(80)));
    redis.start_again();
    tap.return_to();
}

/// The same with exact sums, because from a moment before they are read nothing that Redis says reaches the proxy: what
/// is answered was counted, and what was not answered may have been.
pub(crate) fn stop(
    redis: &mut Redis,
    tap: &Tap,
    watcher: &mut Watcher,
    dice: &mut Dice,
    ledger: &mut Ledger,
    totals: &mut Totals,
) {
    thread::sleep(Duration::from_millis(50 + dice.roll(300)));
    tap.leave(dice.one_in(2));
    tap.deafen();
    watcher.close(ledger, totals);
    end(redis, dice, ledger);
    thread::sleep(Duration::from_millis(dice.roll(80)));
    redis.start_again();
    *watcher = Watcher::new(redis);
    tap.return_to();
}

fn end(redis: &mut Redis, dice: &mut Dice, ledger: &mut Ledger) {
    if dice.one_in(2) {
        redis.end_by(Signal::KILL);
        ledger.count("disturbance: Redis killed", 1);
    } else {
        redis.end_by(Signal::TERM);
        ledger.count("disturbance: Redis stopped", 1);
    }
}
