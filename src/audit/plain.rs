//! The record of what nearly every command is: allowed, outside a transaction, run by Redis. Rendered the short way where
//! it looks as nearly all of them do; the line is the same, byte for byte (`tests::a_plain_record_is_the_same_line`).

use super::{
    encode::{ConnectionFacts, KEY_MAX, command, usual_of},
    former::{Course, Subject},
    json::all_plain,
    outlet::{Arguments, Front, OnFull, Outlet},
    record::{CommandRecord, Context, KeyList, Name, Outcome, Recorder},
    watch::Notices,
};
use crate::{command::CommandId, moment::Moment, resp::reply::Class};

/// What is said of such a command; the rest of a [`CommandRecord`] is as usual.
#[derive(Clone, Copy, Debug)]
pub struct PlainRecord<'a> {
    /// Which command.
    pub id: CommandId,
    /// The confirmed database.
    pub db: u32,
    /// Number of words, the name among them.
    pub argc: u32,
    /// The keys.
    pub keys: KeyList<'a>,
    /// The class of Redis' reply; no error.
    pub class: Class,
    /// Bytes of the command.
    pub bytes_in: u64,
    /// Bytes of the reply.
    pub bytes_out: u64,
    /// Microseconds from the acceptance of the command to the end of its reply.
    pub us: u64,
}

impl<'a> PlainRecord<'a> {
    /// All that there is to say.
    #[must_use]
    pub const fn whole(&self) -> CommandRecord<'a> {
        let Self { id, db, argc, keys, class, bytes_in, bytes_out, us } = *self;
        CommandRecord {
            name: Name::Known(id),
            db,
            argc,
            keys,
            context: Context::TopLevel,
            tx: None,
            rule: None,
            shadow: None,
            local: false,
            outcome: Outcome::Ran,
            class: Some(class),
            error: None,
            elements: None,
            bytes_in,
            bytes_out,
            us: Some(us),
        }
    }
}

impl Recorder {
    /// The record of a plain command, at the end of its slot: as [`Recorder::command`] with [`PlainRecord::whole`].
    pub fn plain(&mut self, now: Moment, facts: &ConnectionFacts, record: &PlainRecord<'_>) {
        if self.watch.is_watching() {
            self.command(now, facts, &record.whole());
            return;
        }
        self.sequence.next();
        self.counters.records = self.counters.records.saturating_add(1);
        self.counters.plain(record);
        let wanted = self.first.wants_plain(facts, record);
        if !wanted {
            self.first.pass_over();
        }
        if wanted || !self.others.is_empty() {
            self.render_plain(now, facts, record, wanted);
        }
    }

    /// The line, for the first output if it is wanted there, and for those of the others that want it.
    #[inline]
    fn render_plain(&mut self, now: Moment, facts: &ConnectionFacts, record: &PlainRecord<'_>, wanted: bool) {
        let front = Front::new(&mut self.sequence, &mut self.stamp, now, "command");
        if wanted {
            self.first.plain(&front, facts, record);
        }
        for outlet in &mut self.others {
            if outlet.wants_plain(facts, record) {
                outlet.plain(&front, facts, record);
            } else {
                outlet.pass_over();
            }
        }
    }
}

impl Outlet {
    #[inline]
    fn wants_plain(&mut self, facts: &ConnectionFacts, record: &PlainRecord<'_>) -> bool {
        facts.is_for(self.bit) && self.takes_plain(record)
    }

    #[inline]
    fn plain(&mut self, front: &Front<'_>, facts: &ConnectionFacts, record: &PlainRecord<'_>) {
        let shape = self.plan().shape;
        if self.plan().arguments == Arguments::Keys
            && self.plan().on_full == OnFull::Stall
            && let Some(usual) = usual_of(record.class, shape)
            && let Some(key) = shown(&record.keys)
        {
            self.write_plainly(front, facts.fragment_in(shape), record, key, usual);
            return;
        }
        self.write(front, |out, plan| {
            out.extend_from_slice(facts.fragment_in(plan.shape));
            command(out, &record.whole(), Notices::default(), plan);
        });
    }

    #[inline]
    fn write_plainly(
        &mut self,
        front: &Front<'_>,
        fragment: &[u8],
        record: &PlainRecord<'_>,
        key: Option<&[u8]>,
        usual: &'static [u8],
    ) {
        let shape = self.plan().shape;
        let PlainRecord { id, db, argc, class, bytes_in, bytes_out, us, .. } = *record;
        let keyed = key.is_some();
        let start = self.begin();
        let (out, former) = self.buffer();
        out.extend_from_slice(front.numbered);
        former.subject(out, front, fragment, Subject { wall_us: front.wall_us, id, db, argc, keyed }, shape);
        out.extend_from_slice(key.unwrap_or_default());
        former.course(out, Course { class, keyed, bytes_in, bytes_out, us }, shape, usual);
        self.ended(start, front.seq);
    }
}

/// The only key, where it stands for itself in a line, or that there is none; otherwise nothing is said.
fn shown<'a>(keys: &KeyList<'a>) -> Option<Option<&'a [u8]>> {
    if keys.script.is_some() || keys.arguments.is_some() {
        return None;
    }
    if keys.is_none() {
        return Some(None);
    }
    let (key, cut, _) = KeyList::split(keys.bytes)?;
    let itself = keys.total == 1 && !keys.undeterminable && !cut && key.len() <= KEY_MAX && all_plain(key);
    itself.then_some(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{
            arguments::HashKey,
            filter::{Events, Filter, Verdict, Wish},
            outlet::{Plan, Sample, Shape},
            watch::Watches,
        },
        command::catalog,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn plans() -> Vec<Plan> {
        let filter = |wish| Some(Filter::new(wish));
        let key = || HashKey::new(b"0123456789abcdef0123456789abcdef").map(Arc::new);
        let plan = Plan::default;
        vec![
            plan(),
            Plan { shape: Shape::Compact, ..plan() },
            Plan { arguments: Arguments::None, ..plan() },
            Plan { arguments: Arguments::Hashed, hash_key: key(), ..plan() },
            Plan { arguments: Arguments::Values, shape: Shape::Compact, ..plan() },
            Plan { on_full: OnFull::Drop, ..plan() },
            Plan { sample: Some(Sample(u32::MAX / 3)), ..plan() },
            Plan { filter: filter(Wish { events: Events::Denied, ..Wish::default() }), ..plan() },
            Plan { filter: filter(Wish { events: Events::Writes, ..Wish::default() }), ..plan() },
            Plan { filter: filter(Wish { verdicts: vec![Verdict::Deny], ..Wish::default() }), ..plan() },
            Plan { filter: filter(Wish { verdicts: vec![Verdict::Allow], ..Wish::default() }), ..plan() },
            Plan { filter: filter(Wish { slower_than_us: Some(500), ..Wish::default() }), ..plan() },
        ]
    }

    proptest! {
        #[test]
        fn a_plain_record_is_the_same_line(
            records in prop::collection::vec(
                (
                    prop_oneof![Just("get"), Just("set"), Just("ping"), Just("dbsize")],
                    prop_oneof![4 => Just(0_u32), 1 => any::<u32>()],
                    prop_oneof![4 => Just(2_u32), 1 => any::<u32>()],
                    prop::collection::vec(prop_oneof![
                        6 => "[a-z:]{0,40}".prop_map(String::into_bytes),
                        1 => prop::collection::vec(any::<u8>(), 0..1100),
                    ], 0..3),
                    prop_oneof![
                        Just(Class::Bulk), Just(Class::Status), Just(Class::Integer), Just(Class::Null), Just(Class::Array),
                        Just(Class::Map), Just(Class::Double),
                    ],
                    prop_oneof![2 => 30..32_u64, 1 => 0..2000_u64, 1 => any::<u64>()],
                    prop_oneof![2 => 5..7_u64, 1 => 0..2000_u64, 1 => any::<u64>()],
                    prop_oneof![3 => Just(0_u64), 1 => 90..92_u64, 1 => 0..2000_u64, 1 => any::<u64>()],
                    // Whose it is, and whether what is there is taken first.
                    (prop::bool::weighted(0.2), prop::bool::weighted(0.1)),
                ),
                1..60,
            ),
            watches in any::<bool>(),
        ) {
            let two = ["c-1", "c-2"]
                .map(|name| ConnectionFacts::new(name, "cache", "10.2.7.9:51022".parse().unwrap(), "api", "app", None));
            let watch = if watches { Watches { slow_us: Some(800), ..Watches::default() } } else { Watches::default() };
            let [mut short, mut long] = [(); 2].map(|()| Recorder::with_outlets(3, 1 << 22, &plans()).watching(watch));
            let mut now = Moment { mono_us: 0, wall_us: 1_795_209_003_412_345 };
            for (name, db, argc, words, class, bytes_in, bytes_out, us, (other, takes)) in &records {
                let mut bytes = Vec::new();
                words.iter().for_each(|key| KeyList::push(&mut bytes, key, 256));
                let total = u32::try_from(words.len()).unwrap();
                let keys = KeyList { bytes: &bytes, total, ..KeyList::default() };
                let id = catalog::by_full_name(name).unwrap();
                let (db, argc, class) = (*db, *argc, *class);
                let (bytes_in, bytes_out, us) = (*bytes_in, *bytes_out, *us);
                let record = PlainRecord { id, db, argc, keys, class, bytes_in, bytes_out, us };
                now = now.plus_us(us % 3_000_000);
                let facts = &two[usize::from(*other)];
                short.plain(now, facts, &record);
                long.command(now, facts, &record.whole());
                if *takes {
                    for (short, long) in short.outlets().zip(long.outlets()) {
                        prop_assert_eq!(String::from_utf8(short.take()), String::from_utf8(long.take()));
                    }
                }
            }
            prop_assert_eq!(format!("{:?}", short.counters()), format!("{:?}", long.counters()));
            for (short, long) in short.outlets().zip(long.outlets()) {
                prop_assert_eq!(short.mark(), long.mark());
                prop_assert_eq!(String::from_utf8(short.take()), String::from_utf8(long.take()));
            }
        }
    }
}
