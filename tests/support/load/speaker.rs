//! One client's pipelines: any command in any state, and the marks that must come back, in this order and no others.
//!
//! A *mark* is a word that is used once. It comes back in the answer to an ECHO (Redis' reply) or in the refusal of a
//! command of that name (the proxy's own), so the order of marks shows that every reply waited its turn, and that what
//! CLIENT REPLY keeps from the client stayed away. `-EXECABORT` is a mark too.

use super::{
    Dice,
    words::{self, channel, fill},
};
use crate::support::wire::encode;
use std::collections::BTreeSet;

/// What a client of this load may meet.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Version of the server, such as 7.0 as 700.
    pub version: u32,
    /// What may not be said in a transaction spoils it (Valkey; Redis only refuses a WATCH or a MULTI there).
    pub spoils: bool,
    /// Policy leaves scripts open.
    pub scripts: bool,
    /// A client's own AUTH is ignored instead of refused.
    pub ignores_auth: bool,
    /// Policy changes while clients speak: what is denied, and so which transactions are spoilt, cannot be foretold.
    pub reloads: bool,
}

impl World {
    /// Whether it can be foretold which transactions are spoilt. On old servers a command that they do not know spoils
    /// one too.
    pub const fn foretells_aborts(&self) -> bool {
        !self.reloads && self.version >= 700
    }
}

/// What must come back, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A word used once.
    Word(u64),
    /// EXEC of a transaction that was spoilt.
    Aborted,
}

/// The bytes of a mark's word.
pub fn word(number: u64) -> String {
    format!("zq{number:010x}z")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    Sent,
    SkipNext,
    Off,
}

/// One client's side of a conversation, as far as what it says next depends on what it has said.
#[derive(Debug)]
pub struct Speaker {
    pub dice: Dice,
    world: World,
    next_mark: u64,
    replies: Replies,
    multi: bool,
    dirty: bool,
    resp3: bool,
    subscribed: [BTreeSet<String>; 3],
    out: Vec<u8>,
    marks: Vec<Mark>,
}

/// What a client says before it is silent, and the marks that come back of it.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub marks: Vec<Mark>,
}

impl Speaker {
    /// Its marks begin at `first_mark`.
    pub const fn new(dice: Dice, world: World, first_mark: u64) -> Self {
        Self {
            dice,
            world,
            next_mark: first_mark,
            replies: Replies::Sent,
            multi: false,
            dirty: false,
            resp3: false,
            subscribed: [const { BTreeSet::new() }; 3],
            out: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Whether an answer to a subscriber's words is confined to the words of subscribers.
    fn confined(&self) -> bool {
        !self.resp3 && self.subscribed.iter().any(|names| !names.is_empty())
    }

    /// Says so many things; what is open stays open.
    pub fn batch(&mut self, things: u64) -> Batch {
        for _ in 0..things {
            self.thing();
        }
        Batch { bytes: std::mem::take(&mut self.out), marks: std::mem::take(&mut self.marks) }
    }

    /// The same, and then ends what is open and asks for a last mark, behind which nothing comes.
    pub fn closed_batch(&mut self, things: u64) -> Batch {
        for _ in 0..things {
            self.thing();
        }
        while self.multi {
            self.end_transaction();
        }
        if self.confined() && (self.world.version < 300 || self.replies != Replies::Sent || self.dice.one_in(2)) {
            self.unsubscribe_all();
        }
        if self.replies != Replies::Sent && !self.confined() {
            self.say(&["CLIENT", "REPLY", "ON"]);
            self.replies = Replies::Sent;
        }
        self.echo();
        Batch { bytes: std::mem::take(&mut self.out), marks: std::mem::take(&mut self.marks) }
    }

    /// Says words; true if their reply is kept from the client.
    fn say<W: AsRef<[u8]>>(&mut self, words: &[W]) -> bool {
        self.out.extend(encode(words));
        self.hush()
    }

    fn hush(&mut self) -> bool {
        match self.replies {
            Replies::Sent => false,
            Replies::SkipNext => {
                self.replies = Replies::Sent;
                true
            }
            Replies::Off => true,
        }
    }

    fn say_template(&mut self, templates: &[&str]) -> bool {
        let words = fill(self.dice.pick(templates), &mut self.dice);
        self.say(&words)
    }

    fn mark(&mut self) -> u64 {
        self.next_mark += 1;
        self.next_mark
    }

    /// A mark that Redis answers with; none is expected of a transaction, whose EXEC may answer null.
    fn echo(&mut self) {
        let mark = self.mark();
        let name = if self.confined() { "PING" } else { "ECHO" };
        let silent = self.say(&[name, &word(mark)]);
        if !silent {
            self.marks.push(Mark::Word(mark));
        }
    }

    /// A mark that the proxy answers with.
    fn denied_mark(&mut self) {
        let mark = self.mark();
        let silent = self.say(&[&word(mark), "x"]);
        self.dirty |= self.multi;
        if !silent {
            self.marks.push(Mark::Word(mark));
        }
    }

    fn thing(&mut self) {
        if self.confined() {
            return self.confined_thing();
        }
        if self.multi {
            return self.queued_thing();
        }
        match self.dice.roll(100) {
            0..=49 => drop(self.say_template(words::ALLOWED)),
            50..=56 => self.echo(),
            57..=60 => self.denied_mark(),
            61..=66 => drop(self.say_template(words::DENIED)),
            67..=69 => drop(self.say_template(words::WRONG_ARITY)),
            70..=72 => drop(self.say_template(words::BLOCKING)),
            73..=79 => {
                self.say(&["MULTI"]);
                self.multi = true;
                self.dirty = false;
            }
            80..=82 => self.select(),
            83..=85 => self.reply_mode(),
            86..=87 => self.hello(),
            88 => self.reset(),
            89..=90 => self.subscribe(),
            91 => self.unsubscribe(),
            92 => self.out_of_place(),
            93 => self.large(),
            94..=96 => self.blank(),
            97 => {
                self.out.extend_from_slice(b"PING\r\n");
                self.hush();
            }
            _ => {
                let templates = if self.world.scripts { words::SCRIPTS } else { words::ALLOWED };
                self.say_template(templates);
            }
        }
    }

    /// In a transaction.
    fn queued_thing(&mut self) {
        match self.dice.roll(100) {
            0..=54 => {
                let template = self.dice.pick(words::ALLOWED);
                self.dirty |= self.world.spoils && template.starts_with("WATCH");
                self.say_template(&[template]);
            }
            55..=62 => drop(self.say_template(words::BLOCKING)),
            63..=66 => self.select(),
            67 => {
                self.say_template(words::WRONG_ARITY);
                self.dirty = true;
            }
            68 => {
                self.say_template(words::DENIED);
                self.dirty = true;
            }
            69 => self.denied_mark(),
            70 => {
                self.say_template(&["SUBSCRIBE {c}", "CLIENT REPLY OFF", "HELLO 3", "UNSUBSCRIBE", "AUTH guess"]);
                self.dirty = true;
            }
            71 => {
                self.say(&["MULTI"]);
                self.dirty |= self.world.spoils;
            }
            72 => self.blank(),
            73 if self.world.version >= 620 => self.reset(),
            74..=76 if self.world.scripts => drop(self.say_template(words::SCRIPTS)),
            77 => self.large(),
            // A message to oneself, which Redis up to 7.0 sends in the middle of EXEC's answer.
            78..=82 if self.resp3 && !self.subscribed[0].is_empty() => {
                let channel = self.subscribed[0].first().unwrap().clone();
                self.say(&["PUBLISH", &channel, "to myself"]);
            }
            _ => self.end_transaction(),
        }
    }

    /// Among the few words of a RESP2 subscriber.
    fn confined_thing(&mut self) {
        match self.dice.roll(12) {
            0..=2 => self.echo(),
            3 => self.subscribe(),
            4..=6 => self.unsubscribe(),
            7 => self.unsubscribe_all(),
            // Refused by Redis.
            8 => drop(self.say_template(&["GET {s}", "PUBLISH {c} {v}", "DISCARD", "SET {s}", "MULTI"])),
            9 => self.denied_mark(),
            10 if self.world.version >= 620 => self.reset(),
            _ => self.blank(),
        }
    }

    /// The words of a transaction, outside one.
    fn out_of_place(&mut self) {
        if self.dice.one_in(4) {
            if !self.say(&["EXEC", "now"]) {
                self.marks.push(Mark::Aborted);
            }
        } else {
            self.say_template(&["EXEC", "DISCARD", "MULTI now", "DISCARD now"]);
        }
    }

    fn end_transaction(&mut self) {
        let aborts = match self.dice.roll(10) {
            0 => {
                self.say(&["DISCARD"]);
                self.multi = false;
                return;
            }
            1 => {
                let silent = self.say(&["EXEC", "now"]);
                // It ends the transaction on new servers and spoils it on old ones.
                if self.world.version < 600 {
                    self.dirty = true;
                    return;
                }
                (true, silent)
            }
            _ => (self.dirty, self.say(&["EXEC"])),
        };
        self.multi = false;
        if aborts == (true, false) {
            self.marks.push(Mark::Aborted);
        }
    }

    fn select(&mut self) {
        let db = if self.dice.one_in(10) { 99 } else { self.dice.roll(4) };
        self.say(&["SELECT", &db.to_string()]);
    }

    fn reply_mode(&mut self) {
        if self.confined() {
            // One who is subscribed is refused it, and nothing changes.
            self.say_template(&["CLIENT REPLY OFF", "CLIENT REPLY SKIP", "client reply on"]);
            return;
        }
        match self.dice.roll(4) {
            0 => {
                self.say(&["CLIENT", "REPLY", "OFF"]);
                self.replies = Replies::Off;
            }
            1 | 2 => {
                self.out.extend(encode(&["CLIENT", "REPLY", "SKIP"]));
                if self.replies != Replies::Off {
                    self.replies = Replies::SkipNext;
                }
            }
            _ => {
                self.say(&["client", "reply", "on"]);
                self.replies = Replies::Sent;
            }
        }
    }

    fn hello(&mut self) {
        if self.world.version < 600 {
            return self.echo();
        }
        match self.dice.roll(8) {
            0 => drop(self.say(&["HELLO"])),
            1 => drop(self.say(&["HELLO", "9"])),
            2 => {
                self.say(&["HELLO", "2", "SETNAME", "me"]);
                self.resp3 = false;
            }
            3 => {
                self.say(&["HELLO", "3", "AUTH", "somebody", "guess", "SETNAME", "me"]);
                self.resp3 |= self.world.ignores_auth;
            }
            4 => {
                self.say(&["HELLO", "2"]);
                self.resp3 = false;
            }
            _ => {
                self.say(&["HELLO", "3"]);
                self.resp3 = true;
            }
        }
    }

    fn reset(&mut self) {
        if self.world.version < 620 {
            return self.echo();
        }
        self.say(&["RESET"]);
        self.replies = Replies::Sent;
        self.multi = false;
        self.resp3 = false;
        self.subscribed = Default::default();
    }

    fn subscribe(&mut self) {
        // A subscriber in RESP2 could not say that it wants its replies back.
        if self.replies != Replies::Sent && !self.resp3 {
            return self.reply_mode();
        }
        let sharded = if self.world.version >= 700 { 3 } else { 2 };
        let kind = usize::try_from(self.dice.roll(sharded)).unwrap();
        let mut words = vec![["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"][kind].to_owned()];
        for _ in 0..=self.dice.roll(3) {
            // Repeats are confirmed too.
            let name = if kind == 1 { format!("{}*", channel(&mut self.dice)) } else { channel(&mut self.dice) };
            self.subscribed[kind].insert(name.clone());
            words.push(name);
        }
        self.say(&words);
    }

    fn unsubscribe(&mut self) {
        let sharded = if self.world.version >= 700 { 3 } else { 2 };
        let kind = usize::try_from(self.dice.roll(sharded)).unwrap();
        let mut words = vec![["UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"][kind].to_owned()];
        for _ in 0..self.dice.roll(3) {
            let name = if kind == 1 { format!("{}*", channel(&mut self.dice)) } else { channel(&mut self.dice) };
            self.subscribed[kind].remove(&name);
            words.push(name);
        }
        if words.len() == 1 {
            self.subscribed[kind].clear();
        }
        self.say(&words);
    }

    fn unsubscribe_all(&mut self) {
        self.say(&["UNSUBSCRIBE"]);
        self.say(&["PUNSUBSCRIBE"]);
        if self.world.version >= 700 {
            self.say(&["SUNSUBSCRIBE"]);
        }
        self.subscribed = Default::default();
    }

    /// Larger than what is forwarded whole: streamed, held until its last key is known, or swallowed.
    fn large(&mut self) {
        let size = usize::try_from(40_000 + self.dice.roll(120_000)).unwrap();
        let value = vec![b'x'; size];
        let key = format!("{}s{}", words::KEY, self.dice.roll(3)).into_bytes();
        let words: Vec<&[u8]> = match self.dice.roll(6) {
            0 => vec![b"MSET", &key, &value, &key, b"small"],
            1 => {
                self.dirty |= self.multi;
                vec![b"CONFIG", b"SET", b"maxmemory-policy", &value]
            }
            2 => vec![b"SETRANGE", &key, b"0", &value],
            3 => vec![b"GETSET", &key, &value],
            _ => vec![b"SET", &key, &value],
        };
        self.say(&words);
    }

    /// No command: an empty array uses CLIENT REPLY SKIP up, and so does an empty line.
    fn blank(&mut self) {
        let blank = self.dice.pick(&[&b"*0\r\n"[..], b"*-1\r\n", b"\r\n"]);
        self.out.extend_from_slice(blank);
        self.hush();
    }
}
