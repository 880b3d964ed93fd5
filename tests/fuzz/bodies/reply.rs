//! The reply scanner: the same frames however they come, ending where another parser says that they end.

use super::Cuts;
use arbitrary::{Arbitrary, Unstructured};
use ravelin::resp::reply::{Class, Inspect, Progress, ReplyError, ReplyLimits, ReplyScanner};

const LIMITS: ReplyLimits = ReplyLimits { line_max: 256, bulk_max: 1 << 16, elements_max: 1 << 12 };

/// One thing that a server says.
#[derive(Arbitrary, Debug)]
enum Said {
    Reply(Attributes, Tree),
    Push(Vec<Tree>),
}

/// What may stand before a reply and belongs to it.
type Attributes = Option<Vec<(Tree, Tree)>>;

/// An element, and the push before it that is none: it is sent between two elements and nothing counts it. One behind
/// the last element would come after the reply.
#[derive(Arbitrary, Debug)]
struct Child {
    push: Option<Vec<Tree>>,
    attributes: Attributes,
    tree: Tree,
}

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
    Array(Vec<Child>),
    Set(Vec<Child>),
    Map(Vec<(Child, Child)>),
}

impl Said {
    const fn class(&self) -> Class {
        match self {
            Self::Reply(_, tree) => tree.class(),
            Self::Push(_) => Class::Push,
        }
    }

    fn encode(&self, extras: bool, out: &mut Vec<u8>) {
        match self {
            Self::Reply(attributes, tree) => {
                annotate(attributes.as_deref().filter(|_| extras), out);
                tree.encode(extras, out);
            }
            Self::Push(children) => push(children, extras, out),
        }
    }

    /// The classes of the direct elements.
    fn elements(&self) -> Vec<Class> {
        match self {
            Self::Reply(_, Tree::Array(children) | Tree::Set(children)) => {
                children.iter().map(|child| child.tree.class()).collect()
            }
            Self::Push(children) => children.iter().map(Tree::class).collect(),
            Self::Reply(_, Tree::Map(pairs)) => {
                pairs.iter().flat_map(|(key, value)| [key.tree.class(), value.tree.class()]).collect()
            }
            Self::Reply(..) => Vec::new(),
        }
    }
}

fn push(children: &[Tree], extras: bool, out: &mut Vec<u8>) {
    out.extend(format!(">{}\r\n", children.len()).into_bytes());
    children.iter().for_each(|child| child.encode(extras, out));
}

impl Child {
    fn encode(&self, extras: bool, out: &mut Vec<u8>) {
        if let Some(children) = self.push.as_ref().filter(|_| extras) {
            push(children, extras, out);
        }
        annotate(self.attributes.as_deref().filter(|_| extras), out);
        self.tree.encode(extras, out);
    }
}

fn annotate(attributes: Option<&[(Tree, Tree)]>, out: &mut Vec<u8>) {
    if let Some(pairs) = attributes {
        out.extend(format!("|{}\r\n", pairs.len()).into_bytes());
        for (key, value) in pairs {
            key.encode(true, out);
            value.encode(true, out);
        }
    }
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
            Self::Map(_) => Class::Map,
        }
    }

    fn encode(&self, extras: bool, out: &mut Vec<u8>) {
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
            Self::Map(pairs) => ('%', pairs.len()),
        };
        out.extend(format!("{}{}\r\n", count.0, count.1).into_bytes());
        match self {
            Self::Array(children) | Self::Set(children) => {
                children.iter().for_each(|child| child.encode(extras, out));
            }
            Self::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                key.encode(extras, out);
                value.encode(extras, out);
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
    // Replies of a server: each is one frame, of its class, with its elements. Pushes between the elements and attributes
    // change nothing, and without them another parser can be asked.
    // Trees are built and dropped by recursion, a level from seven bytes.
    let mut from = Unstructured::new(&input[..input.len().min(1400)]);
    let (mut bytes, mut bare, mut ends, mut bare_ends, mut expected) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while !from.is_empty() && bytes.len() < 8192 {
        let Ok(said) = Said::arbitrary(&mut from) else { break };
        said.encode(true, &mut bytes);
        said.encode(false, &mut bare);
        ends.push(bytes.len());
        bare_ends.push(bare.len());
        let mut elements = said.elements();
        let element_count = elements.len() as u64;
        elements.truncate(if inspect == Inspect::Elements { 128 } else { 0 });
        expected.push((said.class(), element_count, elements));
    }
    for (bytes, ends) in [(bytes, ends), (bare, bare_ends)] {
        let (frames, refusal) = check(&bytes, inspect, *seed);
        // Of what is well-formed only what is over a limit is refused.
        assert!(matches!(
            refusal,
            None | Some(ReplyError::TooManyElements | ReplyError::BulkTooLong | ReplyError::LineTooLong)
        ));
        assert!(refusal.is_some() || frames.len() == expected.len(), "{} of {}", frames.len(), expected.len());
        for (frame, (end, (class, element_count, elements))) in frames.into_iter().zip(ends.iter().zip(&expected)) {
            assert_eq!(
                frame,
                Scanned { end: *end, class: *class, element_count: *element_count, elements: elements.clone() }
            );
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Scanned {
    end: usize,
    class: Class,
    element_count: u64,
    /// Empty unless they are inspected.
    elements: Vec<Class>,
}

type Frames = (Vec<Scanned>, Option<ReplyError>);

fn check(input: &[u8], inspect: Inspect, seed: u8) -> Frames {
    let whole = scan(input, inspect, || usize::MAX);
    let mut cuts = Cuts::new(seed, 30);
    assert_eq!(whole, scan(input, inspect, || cuts.next()), "in pieces");
    if input.len() < 512 {
        assert_eq!(whole, scan(input, inspect, || 1), "byte by byte");
    }
    // What is looked at changes nothing about where frames end, except how much may be held for it.
    let plain = scan(input, Inspect::Nothing, || usize::MAX);
    assert_eq!(plain.1, whole.1, "inspected");
    let ends = |frames: &Frames| frames.0.iter().map(|frame| (frame.end, frame.class)).collect::<Vec<_>>();
    assert_eq!(ends(&plain), ends(&whole), "inspected");
    let mut begin = 0;
    for frame in &whole.0 {
        agree(&input[begin..], frame.end - begin, frame.class);
        begin = frame.end;
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
                    frames.push(Scanned {
                        end: at,
                        class: frame.class,
                        element_count: frame.element_count,
                        elements: frame.elements.clone(),
                    });
                    bytes = 0;
                    scanner.inspect(inspect);
                }
            }
        }
    }
}

/// Another parser, in either protocol, sees the frame end there. It knows less (numbers beyond its types, attributes,
/// text that is no UTF-8) and recurses as deep as it is told, so it is asked only about what is flat enough. To it a push
/// is an element wherever it stands, so it is not asked where one may stand inside: where, behind the frame's own first
/// byte, any line or payload begins with `>`.
fn agree(input: &[u8], len: usize, class: Class) {
    let frame = &input[..len];
    if frame.iter().filter(|byte| b"*%~>|".contains(byte)).count() > 100 {
        return;
    }
    if frame.windows(3).any(|bytes| bytes == b"\r\n>") {
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
