//! The reply scanner: the same frames however they come, ending where another parser says that they end.

use super::Cuts;
use arbitrary::{Arbitrary, Unstructured};
use ravelin::resp::reply::{Class, Inspect, Progress, ReplyError, ReplyLimits, ReplyScanner};

const LIMITS: ReplyLimits = ReplyLimits { line_max: 256, bulk_max: 1 << 16, elements_max: 1 << 12 };

/// A reply as its sender sees it.
#[derive(Arbitrary, Debug)]
enum Tree {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    BulkError(Vec<u8>),
    Verbatim(Vec<u8>),
    NullBulk,
    NullArray,
    Null,
    Boolean(bool),
    Double(i32),
    BigNumber(u128),
    Array(Vec<Tree>),
    Set(Vec<Tree>),
    Push(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    const fn class(&self) -> Class {
        match self {
            Self::Status(_) => Class::Status,
            Self::Error(_) => Class::Error,
            Self::Integer(_) => Class::Integer,
            Self::Bulk(_) => Class::Bulk,
            Self::BulkError(_) => Class::BulkError,
            Self::Verbatim(_) => Class::Verbatim,
            Self::NullBulk | Self::NullArray | Self::Null => Class::Null,
            Self::Boolean(_) => Class::Boolean,
            Self::Double(_) => Class::Double,
            Self::BigNumber(_) => Class::BigNumber,
            Self::Array(_) => Class::Array,
            Self::Set(_) => Class::Set,
            Self::Push(_) => Class::Push,
            Self::Map(_) => Class::Map,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut line = |sigil: u8, text: &[u8]| {
            out.push(sigil);
            out.extend(text.iter().take(200).map(|byte| byte % 0x5f + b' '));
            out.extend_from_slice(b"\r\n");
        };
        let count = match self {
            Self::Status(text) => return line(b'+', text),
            Self::Error(text) => return line(b'-', text),
            Self::Integer(value) => return out.extend(format!(":{value}\r\n").into_bytes()),
            Self::NullBulk => return out.extend_from_slice(b"$-1\r\n"),
            Self::NullArray => return out.extend_from_slice(b"*-1\r\n"),
            Self::Null => return out.extend_from_slice(b"_\r\n"),
            Self::Boolean(value) => return out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
            Self::Double(value) => return out.extend(format!(",{value}.5\r\n").into_bytes()),
            Self::BigNumber(value) => return out.extend(format!("({value}\r\n").into_bytes()),
            Self::Bulk(data) | Self::BulkError(data) | Self::Verbatim(data) => {
                let (sigil, format) = match self {
                    Self::Bulk(_) => ('$', ""),
                    Self::BulkError(_) => ('!', ""),
                    _ => ('=', "txt:"),
                };
                out.extend(format!("{sigil}{}\r\n{format}", data.len() + format.len()).into_bytes());
                out.extend_from_slice(data);
                return out.extend_from_slice(b"\r\n");
            }
            Self::Array(children) => ('*', children.len()),
            Self::Set(children) => ('~', children.len()),
            Self::Push(children) => ('>', children.len()),
            Self::Map(pairs) => ('%', pairs.len()),
        };
        out.extend(format!("{}{}\r\n", count.0, count.1).into_bytes());
        match self {
            Self::Array(children) | Self::Set(children) | Self::Push(children) => {
                children.iter().for_each(|child| child.encode(out));
            }
            Self::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                key.encode(out);
                value.encode(out);
            }),
            _ => {}
        }
    }
}

pub fn run(data: &[u8]) {
    let [mode, seed, input @ ..] = data else { return };
    let inspect = [Inspect::Nothing, Inspect::Word, Inspect::Elements][usize::from(mode >> 1) % 3];
    if mode & 1 == 0 {
        check(input, inspect, *seed);
        return;
    }
    // Replies of a server: each is one frame, of its class.
    let mut from = Unstructured::new(input);
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    while !from.is_empty() && bytes.len() < 8192 {
        let Ok(tree) = Tree::arbitrary(&mut from) else { break };
        tree.encode(&mut bytes);
        expected.push((bytes.len(), tree.class()));
    }
    let (frames, refusal) = check(&bytes, inspect, *seed);
    if refusal.is_none() {
        assert_eq!(frames, expected);
    } else {
        // Of what is well-formed only what is over a limit is refused.
        assert!(matches!(
            refusal,
            Some(ReplyError::TooManyElements | ReplyError::BulkTooLong | ReplyError::LineTooLong)
        ));
        assert_eq!(frames[..], expected[..frames.len()]);
    }
}

type Frames = (Vec<(usize, Class)>, Option<ReplyError>);

fn check(input: &[u8], inspect: Inspect, seed: u8) -> Frames {
    let whole = scan(input, inspect, || usize::MAX);
    let mut cuts = Cuts::new(seed, 30);
    assert_eq!(whole, scan(input, inspect, || cuts.next()), "in pieces");
    if input.len() < 512 {
        assert_eq!(whole, scan(input, inspect, || 1), "byte by byte");
    }
    // What is looked at changes nothing about where frames end, except how much may be held for it.
    let plain = scan(input, Inspect::Nothing, || usize::MAX);
    assert_eq!(plain, whole, "inspected");
    let mut begin = 0;
    for (end, class) in &whole.0 {
        agree(&input[begin..], end - begin, *class);
        begin = *end;
    }
    whole
}

fn scan(input: &[u8], inspect: Inspect, mut more: impl FnMut() -> usize) -> Frames {
    let mut scanner = ReplyScanner::new(LIMITS);
    scanner.inspect(inspect);
    let (mut at, mut end, mut frames, mut bytes) = (0, 0, Vec::new(), 0);
    loop {
        match scanner.next(&input[at..end]) {
            Err(error) => {
                assert_eq!(scanner.next(&input[at..]), Err(error), "a refusal is final");
                return (frames, Some(error));
            }
            Ok(Progress::More) if end == input.len() => return (frames, None),
            Ok(Progress::More) => end = end.saturating_add(more()).min(input.len()),
            Ok(Progress::Piece { len, first, last }) => {
                assert!((1..=end - at).contains(&len));
                assert_eq!(first, bytes == 0);
                at += len;
                bytes += len;
                let frame = scanner.frame();
                assert_eq!(frame.bytes, bytes as u64);
                assert!(frame.elements.len() as u64 <= frame.element_count.min(128));
                if last {
                    assert!(scanner.at_boundary());
                    frames.push((at, frame.class));
                    bytes = 0;
                    scanner.inspect(inspect);
                }
            }
        }
    }
}

/// Another parser, in either protocol, sees the frame end there. It knows less (numbers beyond its types, attributes,
/// text that is no UTF-8) and recurses as deep as it is told, so it is asked only about what is flat enough.
fn agree(input: &[u8], len: usize, class: Class) {
    let frame = &input[..len];
    if frame.iter().filter(|byte| b"*%~>|".contains(byte)).count() > 100 {
        return;
    }
    let third = redis_protocol::resp3::decode::complete::decode(input).ok().flatten().map(|(_, len)| len);
    let second = redis_protocol::resp2::decode::decode(input).ok().flatten().map(|(_, len)| len);
    let ends = [third, second];
    assert!(
        ends.contains(&Some(len)) || ends == [None, None],
        "{class:?} of {len} bytes, they say {ends:?}: {}",
        input.escape_ascii()
    );
}
