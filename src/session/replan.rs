//! What becomes of a plan that Redis did not follow.
//!
//! MULTI is judged before it is answered, and what comes behind it is judged as standing in a transaction. Redis may refuse
//! it (in RESP2's subscriber mode, by its own ACL, while a script runs), or refuse to end a transaction. What has gone up
//! since is then gone over again: what of it stands in a transaction, and whether what comes next will.
//!
//! It is gone over only as far as the next MULTI, EXEC or DISCARD; behind that, all is as it was planned. So a slot is
//! visited once at most, and a client whose hundred thousand MULTIs are all refused costs no more than their number.

use super::{
    slots::{Kind, Marks, Queue},
    transaction::Transaction,
};
use crate::command::Effect;

/// Where the plan holds again.
enum Holds {
    /// At a MULTI; how many transactions more (or fewer) will have been opened because of it.
    Open { at: usize, opens: bool, more: i32 },
    /// At an EXEC or DISCARD.
    Closed,
    /// Nowhere: all that has gone up stands inside or outside.
    Nowhere,
}

/// Goes over `slots`, all of them behind the answer that was not as planned. The transaction that stays or comes to be open is
/// spoilt if anything in it was answered by the proxy itself.
pub(super) fn replan(slots: &mut Queue, tx: &mut Transaction) {
    let open = tx.confirmed;
    let (mut holds, mut blocking) = (Holds::Nowhere, 0);
    for (at, slot) in slots.iter_mut().enumerate() {
        let effect = slot.command().map_or(Effect::Plain, |id| id.entry().effect);
        let ours = matches!(slot.kind, Kind::Local(_));
        match effect {
            Effect::Multi if !ours => {
                let more = i32::from(!open) - i32::from(slot.marks.has(Marks::OPENS));
                slot.marks.set(Marks::OPENS, !open);
                holds = Holds::Open { at, opens: !open, more };
                break;
            }
            Effect::Exec | Effect::Discard if !ours && !slot.marks.has(Marks::REFUSED) => {
                holds = Holds::Closed;
                break;
            }
            _ => {
                slot.marks.set(Marks::IN_MULTI, open);
                let waits = matches!(effect, Effect::Blocking | Effect::BlockingOption);
                if waits && !open && !ours && !slot.marks.has(Marks::BLOCKING) {
                    // Outside a transaction it waits; a client that leaves must not leave a ghost.
                    slot.marks.set(Marks::BLOCKING, true);
                    blocking += 1;
                }
            }
        }
    }
    slots.add_blocking(blocking);
    match holds {
        Holds::Closed => {}
        Holds::Nowhere => tx.replan(open, slots.any_local_from(0), 0),
        Holds::Open { at, opens, more } => {
            let openings = tx.opened.wrapping_sub(tx.number).wrapping_add_signed(more);
            // The last one to be opened is the one that is intended to be open.
            let is_last = openings == u32::from(opens);
            let dirty =
                if is_last { slots.any_local_from(if opens { at.saturating_add(1) } else { 0 }) } else { tx.dirty };
            tx.replan(tx.intended, dirty, openings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{local::Local, slots::Slot};
    use super::*;
    use crate::command::catalog;
    use proptest::prelude::*;

    /// One command, and what will become of it: `true` is refused (MULTI, EXEC, DISCARD).
    fn op() -> impl Strategy<Value = (&'static str, bool)> {
        let names = prop::sample::select(vec!["multi", "multi", "exec", "discard", "get", "flushall", "blpop"]);
        (names, prop::bool::weighted(0.6))
    }

    fn effect(slot: &Slot) -> Effect {
        slot.command().unwrap().entry().effect
    }

    /// Goes over everything, from the front to the end: where it ends, whether that is spoilt, and how many are opened.
    fn whole(slots: &mut Queue, confirmed: bool) -> (bool, bool, u32) {
        let (mut open, mut dirty, mut openings) = (confirmed, false, 0);
        for slot in slots.iter_mut() {
            let ours = matches!(slot.kind, Kind::Local(_));
            match effect(slot) {
                Effect::Multi => {
                    slot.marks.set(Marks::OPENS, !open);
                    openings += u32::from(!open);
                    dirty &= open;
                    open = true;
                }
                Effect::Exec | Effect::Discard => open = false,
                _ => {
                    slot.marks.set(Marks::IN_MULTI, open);
                    dirty |= open && ours;
                    if !open && !ours && effect(slot) == Effect::Blocking {
                        slot.marks.set(Marks::BLOCKING, true);
                    }
                }
            }
        }
        (open, open && dirty, openings)
    }

    fn planned(ops: &[(&'static str, bool)]) -> (Queue, Transaction) {
        let (mut slots, mut tx) = (Queue::default(), Transaction::default());
        for (name, _) in ops {
            let ours = *name == "flushall";
            let kind = if ours { Kind::Local(Local::Arity) } else { Kind::Upstream };
            let mut slot = Slot::new(0, 1, 10, kind);
            slot.set_command(catalog::by_full_name(name).unwrap());
            slot.marks.set(Marks::IN_MULTI, tx.intended);
            slot.marks.set(Marks::OPENS, *name == "multi" && !tx.intended);
            slot.marks.set(Marks::BLOCKING, *name == "blpop" && !tx.intended);
            slots.push(slot);
            match *name {
                "multi" if !tx.intended => tx.open(),
                "exec" | "discard" => tx.end(),
                _ if ours => tx.deny(),
                _ => {}
            }
        }
        (slots, tx)
    }

    proptest! {
        #[test]
        fn going_as_far_as_the_plan_holds_again_is_going_over_everything(ops in prop::collection::vec(op(), 0..40)) {
            let (mut slots, mut tx) = planned(&ops);
            for (name, refused) in ops {
                let front = *slots.front().unwrap();
                let opens = front.marks.has(Marks::OPENS);
                if opens {
                    tx.confirm_open(!refused);
                }
                let ends = matches!(name, "exec" | "discard") && tx.confirmed;
                if ends && !refused {
                    tx.confirm_end(&[]);
                }
                slots.pop();
                if refused && (opens || ends) {
                    let (mut other, _) = planned(&[]);
                    slots.iter_mut().for_each(|slot| other.push(*slot));
                    let expected = whole(&mut other, tx.confirmed);
                    replan(&mut slots, &mut tx);
                    prop_assert_eq!((tx.intended, tx.dirty, tx.opened.wrapping_sub(tx.number)), expected);
                    let marks = |queue: &mut Queue| queue.iter_mut().map(|slot| slot.marks).collect::<Vec<_>>();
                    prop_assert_eq!(marks(&mut slots), marks(&mut other));
                }
                let blocking = slots.iter_mut().filter(|slot| slot.marks.has(Marks::BLOCKING)).count();
                prop_assert_eq!(slots.any_blocking(), blocking > 0);
            }
        }
    }
}
