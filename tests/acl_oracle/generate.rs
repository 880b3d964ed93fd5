//! Random rules and random commands, made again by their seed.

use ravelin::command::{
    Entry,
    bits::categories,
    catalog,
    keys::{Begin, Find, Layout},
};

/// A source of numbers that a seed makes the same again (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xA55A_5AA5_1234_5678)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`.
    pub(crate) fn roll(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.roll(list.len())]
    }
}

/// Keys, channels and values: few and alike, so that patterns hold for some and not for others.
const WORDS: &[&str] = &[
    "a", "b", "ab", "ba", "abc", "k1", "k2", "k9", "cache:1", "cache:2", "app:1", "app:2:x", "x*", "[a]", "\\a", "A",
    "", "a*", "cache:*", "k?", "STORE", "get", "-", "]", "é",
];

/// Patterns for the same.
const PATTERNS: &[&str] = &[
    "a",
    "b",
    "a*",
    "*a",
    "*b*",
    "?",
    "??",
    "k[0-9]",
    "k[^1]",
    "[ab]",
    "[b-a]*",
    "[^a]*",
    "[a",
    "[^",
    "[",
    "[]a]",
    "[a-]b]",
    "cache:*",
    "app:*:x",
    "app:?",
    "x\\*",
    "\\[a\\]",
    "\\\\*",
    "\\",
    "*",
    "**",
    "*?*",
    "k\\1",
    "[\\]a]",
    "A",
    "",
    "a**b",
    "*c",
    "cache:[12]",
    "[a-",
    "[\\a-c]",
    "x[*]",
    "-",
    "[^\\]]",
    "é",
    "[é]",
];

const NUMBERS: &[&str] = &["0", "1", "2", "3", "4", "9", "-1", "01", "+1", "1x", "", "99999999999"];

/// Words that decide where keys are or what is done to them, and neighbours of theirs.
const OPTIONS: &[&str] = &[
    "GET",
    "get",
    "SET",
    "NX",
    "XX",
    "KEEPTTL",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "IFEQ",
    "STORE",
    "STOREDIST",
    "BY",
    "LIMIT",
    "ASC",
    "DESC",
    "ALPHA",
    "STREAMS",
    "COUNT",
    "BLOCK",
    "NOACK",
    "GROUP",
    "KEYS",
    "COPY",
    "REPLACE",
    "AUTH",
    "AUTH2",
    "DB",
    "WITHCOORD",
    "WITHDIST",
    "OVERFLOW",
    "INCRBY",
    "WRAP",
    "u8",
    "AGGREGATE",
    "WEIGHTS",
    "LEFT",
    "MIN",
    "PREFIX",
    "BCAST",
    "REDIRECT",
    "ANY",
    "STORE\0x",
    "GET\0",
];

/// Shapes of the commands whose options decide; `k` a key, `w` any word, `p` a pattern, `n` a number, the rest stands.
const SHAPES: &[&str] = &[
    "SORT k",
    "SORT k STORE k",
    "SORT k BY p STORE k",
    "SORT k GET p",
    "SORT k BY nosort GET # LIMIT n n ASC ALPHA STORE k",
    "SORT k LIMIT n n",
    "SORT_RO k",
    "SORT_RO k BY p",
    "SORT_RO k LIMIT n n DESC",
    "SORT k STORE k STORE k",
    "MIGRATE h 1 k 0 10",
    "MIGRATE h 1 k 0 10 COPY REPLACE AUTH w",
    "MIGRATE h 1 k 0 10 AUTH2 w w",
    "MIGRATE h 1 '' 0 10 KEYS k",
    "MIGRATE h 1 '' 0 10 COPY KEYS k k k",
    "MIGRATE h 1 '' 0 10 AUTH KEYS KEYS k",
    "MIGRATE h 1 k 0 10 KEYS k",
    "GEORADIUS k 1 2 3 m",
    "GEORADIUS k 1 2 3 m STORE k",
    "GEORADIUS k 1 2 3 m WITHCOORD COUNT n ANY DESC STOREDIST k",
    "GEORADIUS k 1 2 3 m STORE k STOREDIST k",
    "GEORADIUSBYMEMBER k w 3 m",
    "GEORADIUSBYMEMBER k w 3 m STORE k",
    "GEORADIUSBYMEMBER k STORE 3 m ASC STOREDIST k",
    "GEORADIUS_RO k 1 2 3 m COUNT n",
    "XREAD STREAMS k 0",
    "XREAD COUNT n STREAMS k k 0 0",
    "XREAD BLOCK 0 COUNT 1 STREAMS k k k 0 0 0",
    "XREAD STREAMS k k 0",
    "XREADGROUP GROUP w w STREAMS k >",
    "XREADGROUP GROUP w w COUNT 1 BLOCK 0 NOACK STREAMS k k > >",
    "XREADGROUP GROUP STREAMS w STREAMS k >",
    "SET k w",
    "SET k w NX",
    "SET k w GET",
    "SET k w XX EX 10",
    "SET k w EX 10 GET",
    "SET k w PXAT 10 NX GET KEEPTTL",
    "SET k w EX GET",
    "SET k GET",
    "BITFIELD k",
    "BITFIELD k GET u8 0",
    "BITFIELD k GET u8 0 GET i8 1",
    "BITFIELD k SET u8 0 1",
    "BITFIELD k OVERFLOW SAT GET u8 0",
    "BITFIELD k GET u8",
    "BITFIELD k OVERFLOW FAIL INCRBY u2 0 5",
    "BITFIELD k GET u8 0 SET u8 0 1",
    "EVAL w n k k",
    "EVAL w 1 k w",
    "EVALSHA w 2 k k w",
    "EVAL_RO w 0 w",
    "FCALL w 1 k",
    "FCALL_RO w 3 k k k w",
    "EVAL w 2 k",
    "ZUNIONSTORE k 2 k k WEIGHTS 1 2",
    "ZINTERSTORE k 1 k",
    "ZDIFFSTORE k 3 k k k",
    "ZUNION 2 k k",
    "ZINTERCARD 2 k k LIMIT 1",
    "SINTERCARD 1 k",
    "LMPOP 2 k k LEFT",
    "BLMPOP 0 1 k LEFT",
    "ZMPOP 1 k MIN",
    "BZMPOP 0 2 k k MAX",
    "ZUNIONSTORE k n k k",
    "COPY k k",
    "COPY k k DB 1",
    "COPY k k REPLACE",
    "RENAME k k",
    "SMOVE k k w",
    "LMOVE k k LEFT RIGHT",
    "RPOPLPUSH k k",
    "BITOP AND k k k",
    "PFMERGE k k k",
    "PFCOUNT k k",
    "MSET k w k w",
    "MSETNX k w",
    "MGET k k k",
    "DEL k k",
    "EXISTS k k",
    "TOUCH k",
    "UNLINK k k",
    "WATCH k k",
    "SDIFFSTORE k k k",
    "SUNION k k",
    "BLPOP k k 0",
    "BRPOPLPUSH k k 0",
    "BLMOVE k k LEFT LEFT 0",
    "GETEX k",
    "GETDEL k",
    "GETSET k w",
    "ZRANGESTORE k k 0 1",
    "GEOSEARCHSTORE k k FROMMEMBER w BYRADIUS 1 m",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "XINFO STREAM k",
    "XGROUP CREATE k w 0",
    "LCS k k",
    "RESTORE k 0 w",
    "DUMP k",
    "MOVE k 1",
    "TYPE k",
    "TTL k",
    "PUBLISH k w",
    "SPUBLISH k w",
    "SUBSCRIBE k k",
    "SSUBSCRIBE k",
    "PSUBSCRIBE p",
    "PSUBSCRIBE p p",
    "UNSUBSCRIBE k",
    "PUBSUB CHANNELS p",
    "SELECT n",
    "SWAPDB n n",
    "CONFIG GET p",
    "DEBUG OBJECT k",
    "DEBUG SLEEP 0",
    "CLIENT TRACKING ON BCAST PREFIX k",
    "SCRIPT LOAD w",
    "MSETEX n k w EX 1",
    "MSETEX 1 k w",
    "DELEX k",
    "DELEX k IFEQ w",
    "DIGEST k",
    "HGETEX k FIELDS 1 w",
    "VADD k VALUES 1 1 w",
    "VSIM k ELE w",
    "CLUSTERSCAN 0",
    "SET k w IFEQ w",
    "XACKDEL k w KEEPREF IDS 1 0-0",
    "HSETEX k FIELDS 1 w w",
];

pub(crate) struct Generator {
    pub(crate) dice: Dice,
    rows: Vec<&'static Entry>,
    /// Whether rules are about databases too.
    databases: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64, databases: bool) -> Self {
        Self { dice: Dice::new(seed), rows: catalog::iter().map(|(_, row)| row).collect(), databases }
    }

    fn spelt(&mut self, name: &str) -> String {
        match self.dice.roll(8) {
            0 => name.to_ascii_uppercase(),
            1 => name.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect(),
            _ => name.to_ascii_lowercase(),
        }
    }

    fn command_term(&mut self, hint: &Entry) -> String {
        let sign = if self.dice.once_in(3) { "-" } else { "+" };
        let name = match self.dice.roll(10) {
            // What the commands of this round will be.
            0..=3 => hint.full_name.to_owned(),
            4 => hint.name.to_owned(),
            5 => self.dice.pick(&self.rows.clone()).full_name.to_owned(),
            6 | 7 => format!("@{}", self.dice.pick(categories::NAMES).0),
            8 => format!("@{}", hint.categories.names().next().unwrap_or("all")),
            _ if self.dice.once_in(4) => {
                ["select|0", "debug|object", "set|a", "get|b", "config|get|x", "nosuch", "config|nosuch", "@nosuch", ""]
                    [self.dice.roll(9)]
                .to_owned()
            }
            _ => "@all".to_owned(),
        };
        let name = self.spelt(&name);
        format!("{sign}{name}")
    }

    fn term(&mut self, hint: &Entry) -> String {
        if self.databases && self.dice.once_in(5) {
            let terms = ["db=0", "db=1", "db=0,1", "DB=1,2,3", "db=0,0", "alldbs", "resetdbs", "db=", "db=x", "db=1,"];
            return (*self.dice.pick(&terms)).to_owned();
        }
        let pattern = *self.dice.pick(PATTERNS);
        let term = match self.dice.roll(20) {
            0..=6 => return self.command_term(hint),
            7..=9 => return format!("~{pattern}"),
            10 => return format!("%R~{pattern}"),
            11 => return format!("%W~{pattern}"),
            12 => return format!("{}~{pattern}", self.dice.pick(&["%RW", "%wr", "%r", "%w", "%", "%RR", "%x"])),
            13 | 14 => return format!("&{pattern}"),
            15 => ["allkeys", "~*", "allchannels", "&*"][self.dice.roll(4)],
            16 => ["allcommands", "nocommands", "+@all", "-@all"][self.dice.roll(4)],
            17 if self.dice.once_in(3) => ["resetkeys", "resetchannels", "nosuch", "~x y"][self.dice.roll(3)],
            18 if self.dice.once_in(3) => ["reset", "clearselectors"][self.dice.roll(2)],
            _ => return self.command_term(hint),
        };
        self.spelt(term)
    }

    /// Rules, most of which let `hint` and its kind through in part.
    pub(crate) fn rules(&mut self, hint: &Entry) -> Vec<String> {
        let mut terms = Vec::new();
        match self.dice.roll(5) {
            0 | 1 => terms.push("+@all".to_owned()),
            2 => terms.push(format!("+{}", hint.full_name)),
            3 => terms.push(format!("+@{}", hint.categories.names().last().unwrap_or("all"))),
            _ => {}
        }
        if self.dice.once_in(2) {
            // Enough for most keys.
            terms.push(
                (*self.dice.pick(&["~?*", "%R~?* %W~a*", "~[a-z]*", "~[^x]*", "%RW~*", "%W~?* %R~k*"])).to_owned(),
            );
        }
        for _ in 0..self.dice.roll(6) {
            terms.push(self.term(hint));
        }
        if self.dice.once_in(3) {
            for _ in 0..=self.dice.roll(2) {
                let mut inner = vec![format!("+{}", hint.full_name)];
                for _ in 0..self.dice.roll(5) {
                    inner.push(self.term(hint));
                }
                // Redis takes only what stands alone within one argument, so the parentheses are apart from nothing.
                terms.push(format!("({})", inner.join(" ")));
            }
        }
        if self.dice.once_in(6) {
            terms.push(self.term(hint));
        }
        // A pair of terms within one is for Redis two.
        let apart = |term: String| match term.split_once(' ') {
            Some((one, other)) if !term.starts_with('(') && term.starts_with('%') => {
                vec![one.to_owned(), other.to_owned()]
            }
            _ => vec![term],
        };
        terms.into_iter().flat_map(apart).collect()
    }

    fn key(&mut self) -> String {
        (*self.dice.pick(WORDS)).to_owned()
    }

    fn shape(&mut self, shape: &str) -> Vec<String> {
        let mut words = Vec::new();
        for word in shape.split(' ') {
            words.push(match word {
                "k" | "w" => self.key(),
                "p" => (*self.dice.pick(PATTERNS)).to_owned(),
                "n" => (*self.dice.pick(NUMBERS)).to_owned(),
                "''" => String::new(),
                word => word.to_owned(),
            });
        }
        words
    }

    /// A row, with words of any kind behind its name.
    fn plain(&mut self, row: &Entry) -> Vec<String> {
        let least = usize::from(row.arity.unsigned_abs());
        let most = if row.arity < 0 { least + 4 } else { least };
        let argc = least + self.dice.roll(most - least + 1);
        let mut words = vec![self.spelt(row.name)];
        if let Some(sub) = row.sub {
            let sub = self.spelt(sub);
            words.push(sub);
        }
        while words.len() < argc {
            let word = match self.dice.roll(12) {
                0 => (*self.dice.pick(NUMBERS)).to_owned(),
                1 => (*self.dice.pick(OPTIONS)).to_owned(),
                _ => self.key(),
            };
            words.push(word);
        }
        for spec in row.keys {
            if let (Begin::Index(begin), Find::Count { at, first, step }) = (spec.begin, spec.find) {
                let number = usize::from(begin + at);
                let room = words.len().saturating_sub(usize::from(begin + first)) / usize::from(step.max(1));
                if number < words.len() {
                    words[number] = (self.dice.roll(room.max(1)) + 1).to_string();
                }
            }
        }
        words
    }

    /// A pattern of its special bytes and a few others.
    pub(crate) fn pattern(&mut self) -> String {
        const BYTES: [&str; 14] = ["a", "b", "c", "*", "*", "?", "[", "]", "^", "-", "\\", "k", "1", "é"];
        (0..self.dice.roll(10)).map(|_| *self.dice.pick(&BYTES)).collect()
    }

    /// The row that this round is about.
    pub(crate) fn row(&mut self) -> &'static Entry {
        let at = self.dice.roll(self.rows.len());
        self.rows[at]
    }

    /// A command: of `hint`, of any row, or of a shape.
    pub(crate) fn command(&mut self, hint: &Entry) -> Vec<String> {
        let special = !matches!(hint.layout, Layout::Specified);
        let shapes: Vec<&&str> = SHAPES.iter().filter(|shape| shape.split(' ').next() == Some(hint.name)).collect();
        let mut words = match self.dice.roll(10) {
            0..=4 if !shapes.is_empty() && (special || self.dice.once_in(2)) => {
                let shape = **self.dice.pick(&shapes);
                self.shape(shape)
            }
            0..=4 => self.plain(hint),
            5..=7 => {
                let shape = *self.dice.pick(SHAPES);
                self.shape(shape)
            }
            _ => {
                let row = self.row();
                self.plain(row)
            }
        };
        if self.dice.once_in(10) && words.len() > 2 {
            let at = 1 + self.dice.roll(words.len() - 1);
            words[at] = match self.dice.roll(3) {
                0 => (*self.dice.pick(OPTIONS)).to_owned(),
                1 => (*self.dice.pick(NUMBERS)).to_owned(),
                _ => self.key(),
            };
        }
        words
    }
}
