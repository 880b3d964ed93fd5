#![allow(clippy::arithmetic_side_effects, reason = "tests may panic")]

use super::{
    Class, Inspect, Progress, ReplyScanner,
    tests::{LIMITS, scan},
};
use proptest::prelude::*;

/// A reply as the test's encoder sees it: its bytes, its class, whether it may carry nested replies in them.
#[derive(Clone, Debug)]
struct Tree {
    bytes: Vec<u8>,
    class: Class,
}

fn leaf() -> impl Strategy<Value = Tree> {
    let line = |sigil: &'static str, class| {
        proptest::string::string_regex("[ -~]{0,20}")
            .expect("a pattern")
            .prop_map(move |text| Tree { bytes: format!("{sigil}{text}\r\n").into_bytes(), class })
    };
    let payload = |sigil: char, class| {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50),
            proptest::collection::vec(proptest::sample::select(b"\r\n*$:+-1".to_vec()), 0..50),
        ]
        .prop_map(move |data| {
            let mut bytes = format!("{sigil}{}\r\n", data.len()).into_bytes();
            bytes.extend(data);
            bytes.extend(b"\r\n");
            Tree { bytes, class }
        })
    };
    let fixed = proptest::sample::select(vec![
        ("$-1\r\n", Class::Null),
        ("*-1\r\n", Class::Null),
        ("_\r\n", Class::Null),
        ("#t\r\n", Class::Boolean),
        (",-inf\r\n", Class::Double),
        ("(12345678901234567890123\r\n", Class::BigNumber),
    ])
    .prop_map(|(text, class)| Tree { bytes: text.as_bytes().to_vec(), class });
    prop_oneof![
        line("+", Class::Status),
        line("-", Class::Error),
        any::<i64>().prop_map(|n| Tree { bytes: format!(":{n}\r\n").into_bytes(), class: Class::Integer }),
        payload('$', Class::Bulk),
        payload('!', Class::BulkError),
        payload('=', Class::Verbatim),
        fixed,
    ]
}

/// Any reply, and the classes of its direct elements.
fn tree() -> impl Strategy<Value = (Tree, Vec<Class>)> {
    fn join(sigil: char, class: Class, mut children: Vec<Tree>, per: usize) -> (Tree, Vec<Class>) {
        children.truncate(children.len() / per * per);
        let mut bytes = format!("{sigil}{}\r\n", children.len() / per).into_bytes();
        bytes.extend(children.iter().flat_map(|child| child.bytes.iter().copied()));
        (Tree { bytes, class }, children.iter().map(|child| child.class).collect())
    }
    let inner = leaf().prop_recursive(5, 60, 6, |inner| {
        (proptest::collection::vec(inner.clone(), 0..6), 0..5, inner).prop_map(|(children, kind, reply)| match kind {
            0 => join('*', Class::Array, children, 1).0,
            1 => join('%', Class::Map, children, 2).0,
            2 => join('~', Class::Set, children, 1).0,
            // Takes nobody's place, as attributes do not.
            3 => {
                Tree { bytes: [join('>', Class::Push, children, 1).0.bytes, reply.bytes].concat(), class: reply.class }
            }
            _ => {
                Tree { bytes: [join('|', Class::Null, children, 2).0.bytes, reply.bytes].concat(), class: reply.class }
            }
        })
    });
    prop_oneof![
        1 => leaf().prop_map(|leaf| (leaf, Vec::new())),
        4 => (proptest::collection::vec(inner, 0..8), 0..4).prop_map(|(children, kind)| match kind {
            0 => join('*', Class::Array, children, 1),
            1 => join('%', Class::Map, children, 2),
            2 => join('~', Class::Set, children, 1),
            _ => join('>', Class::Push, children, 1),
        }),
    ]
}

proptest! {
    #[test]
    fn pieces_are_exactly_the_frame_however_it_is_cut(
        (reply, elements) in tree(),
        attributes in proptest::option::of(tree()),
        inspect in proptest::sample::select(vec![Inspect::Nothing, Inspect::Word, Inspect::Elements]),
        cuts in proptest::collection::vec(1usize..30, 0..80),
    ) {
        let mut input = match attributes {
            Some((value, _)) if value.class == Class::Push => [b"|1\r\n+k\r\n".as_slice(), &value.bytes, b"_\r\n"].concat(),
            Some((value, _)) => [b"|1\r\n+k\r\n".as_slice(), &value.bytes].concat(),
            None => Vec::new(),
        };
        input.extend(&reply.bytes);
        let whole = input.len();
        input.extend(b"-ERR next\r\n");
        let (scanner, len) = scan(&input, inspect, &cuts).expect("well-formed");
        prop_assert_eq!(len, whole);
        let frame = scanner.frame();
        prop_assert_eq!(frame.class, reply.class);
        prop_assert_eq!(frame.element_count, elements.len() as u64);
        if inspect == Inspect::Elements {
            prop_assert_eq!(&frame.elements, &elements);
        }
        let (at_once, _) = scan(&input, inspect, &[]).expect("well-formed");
        prop_assert_eq!(at_once.frame().word(), frame.word());
        prop_assert_eq!(at_once.frame().last_integer, frame.last_integer);
        prop_assert_eq!(at_once.frame().head(), frame.head());
    }

    #[test]
    fn random_bytes_never_panic_and_chunking_does_not_change_the_outcome(
        input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            proptest::collection::vec(
                proptest::sample::select(b"*$%~>|+-:_#,(=!.?0123\r\r\n\n\n\n\n".to_vec()),
                0..60,
            ),
        ],
        step in 1usize..9,
    ) {
        let run = |step: usize| {
            let mut scanner = ReplyScanner::new(LIMITS);
            let (mut at, mut end, mut ends) = (0, 0, Vec::new());
            loop {
                match scanner.next(&input[at..end]) {
                    Err(error) => return (ends, Some(error)),
                    Ok(Progress::More) if end == input.len() => return (ends, None),
                    Ok(Progress::More) => end = (end + step).min(input.len()),
                    Ok(Progress::Piece { len, last, .. }) => {
                        at += len;
                        if last {
                            ends.push((at, scanner.frame().class));
                        }
                    }
                }
            }
        };
        prop_assert_eq!(run(step), run(input.len().max(1)));
    }
}
