//! What rules mean.

use proptest::prelude::*;

use crate::{
    command::{
        Resolved,
        catalog::{self, tests::with_words},
        resolve,
    },
    policy::{
        Subject, Verdict,
        databases::Databases,
        guards::Guards,
        rules::{Policy, Question, Spec},
        scripts::Scripts,
    },
};

/// What `rules` make of a command line: nothing if it is allowed, else what is denied.
fn denied(rules: &str, line: &str) -> Option<Subject> {
    denied_by(&Spec { rules: Some(rules), ..Spec::default() }, line)
}

fn denied_by(spec: &Spec<'_>, line: &str) -> Option<Subject> {
    let policy = Policy::build(spec).unwrap_or_else(|e| panic!("{e}"));
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    with_words(&words, words.len(), |words| {
        let Resolved::Known(id) = resolve(words) else { panic!("{line} is no command") };
        let verdict = match policy.judge(id) {
            Verdict::Allow if policy.asks_words(id) => {
                policy.judge_words(&Question { id, words, db: 0, own_id: None }, &mut vec![7])
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Allow | Verdict::Shadow(_) => None,
            Verdict::Deny(denial) => Some(denial.subject),
        }
    })
}

const COMMAND: Option<Subject> = Some(Subject::Command);
const KEY: Option<Subject> = Some(Subject::Key);
const CHANNEL: Option<Subject> = Some(Subject::Channel);

#[test]
fn nothing_is_allowed_that_no_rule_allows() {
    for line in ["GET k", "PING", "CONFIG SET a b", "PUBLISH c m", "EVAL s 0"] {
        assert_eq!(denied("", line), COMMAND, "{line}");
    }
    assert_eq!(denied("+get", "GET k"), KEY);
    assert_eq!(denied("+publish", "PUBLISH c m"), CHANNEL);
    // What Redis takes from everybody.
    for line in ["AUTH x", "HELLO 3", "QUIT", "RESET"] {
        assert_eq!(denied("", line), None, "{line}");
    }
}

#[test]
fn the_later_rule_wins() {
    for (rules, line, expected) in [
        ("+@all -config +config|get", "CONFIG GET x", None),
        ("+@all -config +config|get", "CONFIG SET a b", COMMAND),
        ("+config|get -config", "CONFIG GET x", COMMAND),
        ("+@all -config|set", "CONFIG SET a b", COMMAND),
        ("-config|set +@all", "CONFIG SET a b", None),
        ("+@read ~* nocommands", "GET k", COMMAND),
        ("+get ~a resetkeys ~b", "GET a", KEY),
        ("+get ~a resetkeys ~b", "GET b", None),
        ("+get ~a reset +get ~b", "GET a", KEY),
        ("+publish &a resetchannels &b", "PUBLISH a m", CHANNEL),
        ("+@all ~* preset:hardened", "CONFIG GET x", COMMAND),
        ("+@all ~* preset:hardened", "GET x", None),
        ("preset:app ~a", "GET a", None),
        ("preset:app ~a", "GET b", KEY),
        ("preset:app ~a", "CONFIG GET x", COMMAND),
        ("preset:app +config|get ~a", "CONFIG GET x", None),
        ("+config preset:App", "CONFIG GET x", COMMAND),
    ] {
        assert_eq!(denied(rules, line), expected, "{rules}: {line}");
    }
}

#[test]
fn a_key_is_allowed_for_what_is_done_to_it() {
    for (rules, line, expected) in [
        ("+@all %R~r:* %W~w:*", "GET r:1", None),
        ("+@all %R~r:* %W~w:*", "GET w:1", KEY),
        ("+@all %R~r:* %W~w:*", "SET w:1 v", None),
        ("+@all %R~r:* %W~w:*", "SET w:1 v GET", KEY),
        ("+@all %RW~k", "SET k v GET", None),
        ("+@all %R~k %W~k", "SET k v GET", None),
        ("+@all %R~k %W~[k]", "SET k v GET", KEY),
        ("+@all %R~r:* %W~w:*", "SET r:1 v", KEY),
        ("+@all %R~r:* %W~w:*", "COPY r:1 w:1", None),
        ("+@all %R~r:* %W~w:*", "COPY w:1 r:1", KEY),
        ("+@all %R~r:* %W~w:*", "EXISTS r:1 w:1", None),
        ("+@all %R~r:* %W~w:*", "SORT r:1 STORE w:1", None),
        ("+@all %R~r:* %W~w:*", "SORT r:1 STORE r:2", KEY),
        ("+@all %R~r:* %W~w:*", "BITFIELD r:1 GET u8 0", None),
        ("+@all %R~r:* %W~w:*", "BITFIELD r:1 GET u8 0 SET u8 0 1", KEY),
        ("+@all ~a", "EVAL s 2 a b", KEY),
        ("+@all ~a", "EVAL s 1 a b", None),
        ("+@all ~a", "EVAL s 9 a b", KEY),
        ("+@all ~a", "XREAD COUNT 1 STREAMS a 0", None),
        ("+@all ~a", "XREAD COUNT 1 STREAMS b 0", KEY),
        ("+@all ~a", "ZUNIONSTORE a 2 a b", KEY),
    ] {
        assert_eq!(denied(rules, line), expected, "{rules}: {line}");
    }
}

#[test]
fn channels_are_matched_and_patterns_are_compared() {
    for (rules, line, expected) in [
        ("+@pubsub &events:*", "PUBLISH events:1 m", None),
        ("+@pubsub &events:*", "PUBLISH other m", CHANNEL),
        ("+@pubsub &events:*", "SUBSCRIBE events:1 events:2", None),
        ("+@pubsub &events:*", "SUBSCRIBE events:1 x", CHANNEL),
        ("+@pubsub &events:*", "SSUBSCRIBE events:1", None),
        ("+@pubsub &events:*", "SPUBLISH x m", CHANNEL),
        ("+@pubsub &events:*", "PSUBSCRIBE events:*", None),
        ("+@pubsub &events:*", "PSUBSCRIBE events:1*", CHANNEL),
        ("+@pubsub allchannels", "PSUBSCRIBE *", None),
        ("+@pubsub", "UNSUBSCRIBE x", None),
        ("+@pubsub", "PUBSUB CHANNELS", None),
    ] {
        assert_eq!(denied(rules, line), expected, "{rules}: {line}");
    }
}

#[test]
fn one_selector_must_allow_all_of_a_command() {
    let rules = "+get ~a (+set ~b) (+mget ~c &x +publish)";
    for (line, expected) in [
        ("GET a", None),
        ("SET b v", None),
        ("GET b", KEY),
        ("SET a v", KEY),
        ("MGET c c", None),
        ("MGET a c", KEY),
        ("PUBLISH x m", None),
        ("DEL a", COMMAND),
    ] {
        assert_eq!(denied(rules, line), expected, "{line}");
    }
    assert_eq!(denied("+get ~a (+set ~b) clearselectors", "SET b v"), COMMAND);
}

#[test]
fn a_first_word_may_be_all_that_is_allowed() {
    assert_eq!(denied("+select|0", "SELECT 0"), None);
    assert_eq!(denied("+select|0", "SELECT 1"), COMMAND);
    assert_eq!(denied("+debug|object -debug", "DEBUG object"), COMMAND);
}

#[test]
fn databases_are_counted_as_valkey_counts_them_or_more_strictly() {
    const DATABASE: Option<Subject> = Some(Subject::Database);
    // Database 0 is selected.
    for (rules, line, expected) in [
        ("+@all ~* db=0", "GET k", None),
        ("+@all ~* db=1", "GET k", DATABASE),
        ("+@all ~* db=1", "PING", None),
        ("+@all ~* &* db=1", "PUBLISH c m", None),
        ("+@all ~* db=1", "SELECT 1", None),
        ("+@all ~* db=1", "SELECT 0", DATABASE),
        ("+@all ~* db=0,1", "COPY a b DB 1", None),
        ("+@all ~* db=0,1", "COPY a b REPLACE DB 2", DATABASE),
        ("+@all ~* db=0,1", "COPY a b DB 2 DB 1", DATABASE),
        ("+@all ~* db=0,1", "MOVE a 2", DATABASE),
        ("+@all ~* db=1,2", "SWAPDB 1 2", None),
        ("+@all ~* db=1,2", "SWAPDB 1 0", DATABASE),
        ("+@all ~* db=0", "FLUSHDB", None),
        ("+@all ~* db=0", "FLUSHALL", DATABASE),
        ("+@all ~* db=1 db=0", "GET k", None),
        ("+@all ~* db=1 alldbs", "GET k", None),
        ("+@all ~* resetdbs", "GET k", DATABASE),
        ("+@all ~* db=1 (+get ~k)", "GET k", None),
        // Valkey allows these.
        ("+@all ~* db=0", "MIGRATE h 1 k 0 10", None),
        ("+@all ~* db=0", "MIGRATE h 1 k 1 10", DATABASE),
        ("+@all ~* db=0", "SLOWLOG GET", DATABASE),
        ("+@all ~* db=0", "SLOWLOG LEN", None),
        ("+@all ~* db=0", "CLIENT TRACKING ON", DATABASE),
        ("+@all ~* db=0", "MONITOR", DATABASE),
        ("+@all ~* db=0", "EVAL s 0", DATABASE),
        ("+@all ~* db=0", "MOVE a 4294967296", DATABASE),
        ("+@all ~* db=0", "SELECT 01", DATABASE),
        ("+@all ~* db=0", "SELECT -1", None),
        // Enough that one selector has every database.
        ("+@all ~* db=0 (+flushall)", "FLUSHALL", None),
        ("+@all ~* db=0 (+eval ~a)", "EVAL s 1 a", None),
        ("+@all ~* db=0 (+eval ~a)", "EVAL s 1 b", KEY),
        ("+get db=0 (+get ~a)", "FLUSHALL", COMMAND),
        ("+flushall db=0 (+get ~a)", "FLUSHALL", COMMAND),
    ] {
        assert_eq!(denied(rules, line), expected, "{rules}: {line}");
    }
}

#[test]
fn a_script_that_is_vouched_for_is_judged_by_the_database_it_is_called_in() {
    let allow = Guards { scripts: Some(Scripts::Allow), ..Guards::default() };
    for (guards, rules, expected) in [
        (None, "+@all ~* db=0", Some(Subject::Database)),
        (Some(&allow), "+@all ~* db=0", None),
        (Some(&allow), "+@all ~* db=1", Some(Subject::Database)),
        (Some(&allow), "+@all ~a db=0", KEY),
    ] {
        assert_eq!(
            denied_by(&Spec { rules: Some(rules), guards, ..Spec::default() }, "EVAL s 1 k"),
            expected,
            "{rules}"
        );
        let flush = denied_by(&Spec { rules: Some(rules), guards, ..Spec::default() }, "FLUSHALL");
        assert_eq!(flush, Some(Subject::Database), "no script");
    }
    let list = Databases::new(&[0]).unwrap();
    for (guards, expected) in [(None, Some(Subject::Database)), (Some(&allow), None)] {
        assert_eq!(denied_by(&Spec { databases: Some(&list), guards, ..Spec::default() }, "EVAL s 1 k"), expected);
    }
    // What is only tried out vouches for nothing: the list is in force.
    let tried = Spec { databases: Some(&list), guards: Some(&allow), rules_in_shadow: true, ..Spec::default() };
    assert_eq!(denied_by(&tried, "EVAL s 1 k"), Some(Subject::Database));
    let floor = Guards { scripts_of_floor: true, ..allow.clone() };
    assert_eq!(denied_by(&Spec { guards: Some(&floor), ..tried }, "EVAL s 1 k"), None);
}

#[test]
fn every_wrong_term_is_told_with_its_place_and_what_to_do() {
    let text = "+gett ~a b -config|st +@raed (+get ~x ( %~a ~\"q\") on >hunter2 +select| +config|set|x -select|0 db=x &* &a preset:ap";
    let errors = Policy::build(&Spec { rules: Some(text), ..Spec::default() }).unwrap_err();
    let said: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let expected = [
        ("+gett", "did you mean get?"),
        ("b", "no such rule"),
        ("-config|st", "did you mean config|set?"),
        ("+@raed", "did you mean @read?"),
        ("(", "cannot stand inside parentheses"),
        ("%~a", "R, W or both"),
        ("~\\\"q\\\")", "quotes"),
        ("on", "a role is always on"),
        (">…", "a role has no password"),
        ("+select|", "a word is missing"),
        ("+config|set|x", "allowed or denied whole"),
        ("-select|0", "+select|word"),
        ("db=x", "db=1,2,3"),
        ("&a", "resetchannels"),
        ("preset:ap", "did you mean preset:app?"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, (term, hint)) in said.iter().zip(expected) {
        assert!(
            said.starts_with(&format!("rule (\"{term}\"): ")) && said.contains(hint),
            "{said} is not of {term}: {hint}"
        );
    }
    let secret =
        Policy::build(&Spec { rules: Some("(>hunter2 (<hunter2"), ..Spec::default() }).unwrap_err().to_string();
    assert!(!secret.contains("hunter2"), "{secret}");
    let open = Policy::build(&Spec { rules: Some("+get (+set ~a"), ..Spec::default() }).unwrap_err().to_string();
    assert!(open.starts_with("rule (\"(\"): the parenthesis is not closed"), "{open}");
}

#[test]
fn what_can_have_no_effect_is_warned_of() {
    let warnings = |rules: &str| Policy::build(&Spec { rules: Some(rules), ..Spec::default() }).unwrap().warnings();
    for (rules, expected) in [
        ("-config +@all ~* &*", "word 1 of the rules (-config) takes nothing away"),
        ("+config +get -config ~*", "word 1 of the rules (+config) has no effect: a later rule"),
        ("+get", "GET can never run, because no key is allowed"),
        ("+ping ~a", "the key pattern \"a\" can never match: no command that takes keys"),
        ("+get ~a %W~b", "the key pattern \"b\" can never match: no allowed command uses keys in this way"),
        ("+subscribe", "SUBSCRIBE can never run, because no channel is allowed"),
        ("+ping &a", "the channel pattern \"a\" can never match"),
        ("+get ~[aé]", "letters beyond ASCII"),
        ("+get ~a resetdbs", "no database is allowed"),
    ] {
        let said = warnings(rules);
        assert!(said.iter().any(|said| said.contains(expected)), "{rules}: {said:?}");
    }
    for rules in [
        "-@all +get +set ~cache:*",
        "+@all -@dangerous -@scripting ~* &*",
        "+@read -keys ~a:* (+set %W~b) +subscribe &x",
        "+hset ~a",
    ] {
        let said = warnings(rules);
        assert!(
            !said.iter().any(|said| said.contains("word ") || said.contains("never") || said.contains("does the same")),
            "{rules}: {said:?}"
        );
    }
}

#[test]
fn a_record_names_the_term_that_took_a_command_away() {
    let policy = Policy::build(&Spec { rules: Some("+@all -CONFIG|SET -@dangerous ~a"), ..Spec::default() }).unwrap();
    let rule = |name: &str| match policy.judge(catalog::by_full_name(name).unwrap()) {
        Verdict::Deny(denial) => policy.rule_name(denial.rule).to_owned(),
        Verdict::Allow | Verdict::Shadow(_) => panic!("{name}"),
    };
    assert_eq!(rule("config|set"), "rules:-config|set");
    assert_eq!(rule("flushall"), "rules:-@dangerous");
    let policy = Policy::build(&Spec { rules: Some("+get"), ..Spec::default() }).unwrap();
    let Verdict::Deny(denial) = policy.judge(catalog::by_full_name("set").unwrap()) else { panic!() };
    assert_eq!(policy.rule_name(denial.rule), "rules:command");
}

/// What `ACL GETUSER` tells can be written as rules again, and means the same.
#[test]
fn what_is_told_of_rules_means_the_same() {
    for rules in [
        "",
        "+@all",
        "+@all -@dangerous -config +config|get +select|0 -select +select|1 ~a* %R~b &c db=0,3",
        "+get (+set ~x &y) (+@hash %W~h:* -hgetall db=1) (+@all -acl ~* &*)",
        "-@all +@read -keys +cluster -cluster|slots ~* &*",
        "preset:app ~app:*",
        "preset:hardened",
        "+@all preset:hardened ~a",
    ] {
        let policy = Policy::build(&Spec { rules: Some(rules), ..Spec::default() }).unwrap();
        let described = policy.describe();
        let text = |at: usize| {
            let each = &described[at];
            format!("{} {} {} {}", each.keys, each.channels, each.databases.as_deref().unwrap_or(""), each.commands)
        };
        let others: String = (1..described.len()).map(|at| format!(" ({})", text(at))).collect();
        let again = Policy::build(&Spec { rules: Some(&format!("{}{others}", text(0))), ..Spec::default() }).unwrap();
        assert_eq!(again.describe(), described, "{rules}");
        for (id, row) in catalog::iter().filter(|(_, row)| !(row.container && row.sub.is_none())) {
            assert_eq!(again.judge(id).lets_through(), policy.judge(id).lets_through(), "{rules}: {}", row.full_name);
            assert_eq!(again.asks_words(id), policy.asks_words(id), "{rules}: {}", row.full_name);
        }
    }
    let denied = Policy::build(&Spec { deny: &["CONFIG", "GET"], rules: Some("+@all ~*"), ..Spec::default() }).unwrap();
    let text = &denied.describe()[0].commands;
    assert!(text.split(' ').any(|word| word == "-config") && text.split(' ').any(|word| word == "-get"), "{text}");
}

#[test]
fn where_no_database_is_allowed_none_is_shown() {
    let shown = |rules| {
        let policy = Policy::build(&Spec { rules: Some(rules), ..Spec::default() }).unwrap();
        policy.describe().remove(0).databases
    };
    assert_eq!(shown("+get ~* resetdbs"), Some(String::new()));
    assert_eq!(shown("+get ~* resetdbs db=3"), Some("db=3".to_owned()));
    assert_eq!(shown("+get ~* resetdbs alldbs"), None);
}

#[test]
fn a_common_command_is_judged_without_memory() {
    let policy = Policy::build(&Spec { rules: Some("+@all ~a* %R~b* &c*"), ..Spec::default() }).unwrap();
    for line in
        ["GET a", "SET a v EX 10", "MGET a b ab", "HSET a f v", "PUBLISH c m", "EVAL s 2 a ab", "ZUNIONSTORE a 2 b bb"]
    {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        with_words(&words, words.len(), |words| {
            let Resolved::Known(id) = resolve(words) else { panic!("{line}") };
            let mut scratch = Vec::new();
            assert_eq!(
                policy.judge_words(&Question { id, words, db: 0, own_id: None }, &mut scratch),
                Verdict::Allow,
                "{line}"
            );
            assert_eq!(scratch.capacity(), 0, "{line}");
        });
    }
}

proptest! {
    /// Whatever is written, it is rules or an error, and a command of any words is judged.
    #[test]
    fn any_text_is_read(
        rules in proptest::collection::vec(
            prop_oneof![
                "[-+~&%@()a-z|*?\\[\\]\\\\ ]{0,12}",
                proptest::sample::select(&["+@all", "-@dangerous", "~a*", "%R~b", "(+get", "~c)", "reset", "db=1", "&x", "preset:app"][..])
                    .prop_map(str::to_owned),
            ],
            0..8,
        ),
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 1..6),
        row in 0..catalog::len(),
    ) {
        let Ok(policy) = Policy::build(&Spec { rules: Some(&rules.join(" ")), ..Spec::default() }) else { return Ok(()) };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let (id, _) = catalog::iter().nth(row).unwrap();
        with_words(&words, words.len(), |words| {
            // The words need not be the command's: nothing may be relied on.
            let _ = policy.judge_words(&Question { id, words, db: 0, own_id: None }, &mut Vec::new());
            let _ = policy.settled(&Question { id, words, db: 0, own_id: None }, &mut Vec::new());
        });
        let _ = policy.describe();
    }
}
