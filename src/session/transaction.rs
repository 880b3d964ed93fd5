//! MULTI, EXEC and DISCARD: what was forwarded (*intended*) and what Redis has answered (*confirmed*).

use crate::resp::reply::Class;

/// Most queued SELECTs of one transaction; each takes 8 bytes.
const SELECTS_MAX: usize = 64;
/// A SELECT further back in a transaction could not be told from the classes a record keeps of EXEC's answer.
pub(super) const SELECT_POSITION_MAX: u32 = 128;

/// The transaction state of one connection.
///
/// *Intended* is where the connection will stand once everything forwarded has been answered; verdicts look at it.
/// *Confirmed* is where it stands after what has been answered; records look at it.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// A MULTI has gone up and no EXEC, DISCARD or RESET behind it.
    pub(super) intended: bool,
    /// A command inside was denied: EXEC goes up as DISCARD.
    pub(super) dirty: bool,
    /// Commands forwarded since the MULTI.
    pub(super) queued: u32,
    /// A SELECT is among them.
    pub(super) selects_queued: bool,
    /// Number of the transaction that was last opened.
    pub(super) opened: u32,
    /// Redis has answered the MULTI.
    pub(super) confirmed: bool,
    /// Number of the transaction whose MULTI was last answered.
    pub(super) number: u32,
    /// Replies to commands inside that have been answered, and the SELECTs among them: position, database.
    answered: u32,
    selects: Vec<(u32, u32)>,
}

impl Transaction {
    /// MULTI goes up outside a transaction.
    pub(super) const fn open(&mut self) {
        self.intended = true;
        self.dirty = false;
        self.queued = 0;
        self.selects_queued = false;
        self.opened = self.opened.wrapping_add(1);
    }

    /// EXEC or DISCARD goes up, or RESET.
    pub(super) const fn end(&mut self) {
        self.intended = false;
        self.dirty = false;
        self.queued = 0;
        self.selects_queued = false;
    }

    /// A command was denied; inside a transaction that spoils it.
    pub(super) const fn deny(&mut self) {
        if self.intended {
            self.dirty = true;
        }
    }

    /// The MULTI that opened a transaction was answered.
    pub(super) fn confirm_open(&mut self, ok: bool) {
        self.number = self.number.wrapping_add(1);
        self.confirmed = ok;
        self.answered = 0;
        self.selects.clear();
    }

    /// It turned out otherwise than planned: where the connection will stand once everything forwarded has been answered,
    /// whether something in it was denied, and how many transactions will have been opened by then.
    pub(super) const fn replan(&mut self, intended: bool, dirty: bool, openings: u32) {
        self.intended = intended;
        self.dirty = intended && dirty;
        self.opened = self.number.wrapping_add(openings);
    }

    /// Whether one more SELECT may be queued and its effect still be known.
    pub(super) const fn may_queue_select(&self) -> bool {
        self.queued < SELECT_POSITION_MAX && self.selects.len() < SELECTS_MAX
    }

    /// A command inside was answered `+QUEUED`; `select` is the database it will select.
    pub(super) fn confirm_queued(&mut self, select: Option<u32>) {
        if let Some(db) = select
            && self.selects.len() < SELECTS_MAX
        {
            self.selects.push((self.answered, db));
        }
        self.answered = self.answered.saturating_add(1);
    }

    /// EXEC or DISCARD was answered: the transaction is over. Returns the database its SELECTs leave selected, by the
    /// classes of EXEC's elements (a SELECT takes effect even when a sibling fails).
    pub(super) fn confirm_end(&mut self, elements: &[Class]) -> Option<u32> {
        self.confirmed = false;
        let selected = self
            .selects
            .iter()
            .rev()
            .find(|(position, _)| elements.get(*position as usize) == Some(&Class::Status))
            .map(|(_, db)| *db);
        self.selects.clear();
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_select_that_succeeded_counts() {
        let mut tx = Transaction::default();
        tx.open();
        tx.confirm_open(true);
        tx.confirm_queued(Some(3));
        tx.confirm_queued(None);
        tx.confirm_queued(Some(99));
        assert_eq!(tx.confirm_end(&[Class::Status, Class::Bulk, Class::Error]), Some(3));
        assert!(!tx.confirmed);
    }

    #[test]
    fn an_aborted_exec_selects_nothing() {
        let mut tx = Transaction::default();
        tx.open();
        tx.confirm_open(true);
        tx.confirm_queued(Some(3));
        assert_eq!(tx.confirm_end(&[]), None);
    }
}
