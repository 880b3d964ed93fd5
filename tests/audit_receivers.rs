//! Receivers of the audit stream, written here: sockets of JSON lines and of syslog messages, that come late, do not
//! read, go away and return.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that cannot go on should stop where it is"
)]

#[path = "support/pen.rs"]
#[allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
mod pen;

use pen::{CAPACITY, end, eventually, fill, is_without_holes, write_each, write_line};
use ravelin::audit::{
    record::Recorder,
    sink::{Sink, SinkHandle, SinkPort, Target},
    target::{Address, SocketTarget, SyslogTarget},
};
use std::{
    fs,
    io::{BufReader, ErrorKind, Read},
    net::{TcpListener, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener},
    path::Path,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

fn socket(address: Address) -> Target {
    Target::Socket(SocketTarget { address })
}

fn syslog(address: Address) -> Target {
    Target::Syslog(SyslogTarget { address, facility: 16, hostname: Some("cache-1".into()), message_max: 32 * 1024 })
}

fn number(line: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    line["seq"].as_u64().unwrap()
}

/// The next connection. Nobody waits for ever.
fn accept(listener: &UnixListener) -> std::os::unix::net::UnixStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Numbers of so many lines.
fn take(reader: &mut impl std::io::BufRead, lines: usize) -> Vec<u64> {
    let mut found = Vec::new();
    for _ in 0..lines {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        found.push(number(&line));
    }
    found
}

/// Fills the pen again and again until the sink says that its receiver does not read.
fn fill_until_nobody_reads(pen: &mut Recorder, port: &SinkPort, sink: &SinkHandle) {
    let monitor = sink.monitor();
    eventually("the receiver counts as one that does not read", || {
        fill(pen, port);
        port.exchange(pen.outlet());
        monitor.failing().is_some() && monitor.queue_bytes() == pen.outlet().backlog()
    });
}

/// Numbers of all lines to the end of the stream; the last one may be torn.
fn rest(reader: &mut impl Read) -> Vec<u64> {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(number).collect()
}

#[test]
fn lines_reach_a_unix_and_a_tcp_socket_whole_and_in_order() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(tcp.local_addr().unwrap());
    let readers = [
        (socket(Address::Unix(path)), thread::spawn(move || rest(&mut accept(&unix)))),
        (socket(address), thread::spawn(move || rest(&mut tcp.accept().unwrap().0))),
    ];
    for (target, reader) in readers {
        let (sink, ports) = Sink::open(target, 1).unwrap();
        let mut pen = Recorder::new(0, CAPACITY);
        for _ in 0..5000 {
            eventually("there is room", || {
                pen.outlet().set_written(ports[0].written());
                pen.has_room()
            });
            write_line(&mut pen, &ports[0]);
        }
        end(&sink);
        assert!(is_without_holes(&reader.join().unwrap(), 5000));
    }
}

#[test]
fn a_receiver_that_comes_late_gets_every_line() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let (sink, ports) = Sink::open(socket(Address::Unix(path.clone())), 1).unwrap();
    let monitor = sink.monitor();
    let mut pen = Recorder::new(0, CAPACITY);
    fill(&mut pen, &ports[0]);
    eventually("the sink says that it fails", || monitor.failing().is_some());
    let reason = monitor.failing().unwrap();
    assert!(reason.starts_with("cannot connect to unix:/") && reason.contains("No such file"), "{reason}");
    assert_eq!((ports[0].written(), pen.has_room()), (0, false), "nothing is lost and nothing more is taken");

    let listener = UnixListener::bind(&path).unwrap();
    let reader = thread::spawn(move || rest(&mut accept(&listener)));
    eventually("everything is written", || ports[0].written() == pen.outlet().rendered());
    assert_eq!(monitor.failing(), None);
    assert_eq!(monitor.take_recovery().unwrap().reason, reason);
    end(&sink);
    assert!(is_without_holes(&reader.join().unwrap(), pen.counters().records));
}

#[test]
fn a_receiver_that_does_not_read_stalls_the_pen_and_not_memory() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (sink, ports) = Sink::open(socket(Address::Unix(path)), 1).unwrap();
    let monitor = sink.monitor();
    let mut pen = Recorder::new(0, CAPACITY);
    write_line(&mut pen, &ports[0]);
    let mut stream = accept(&listener);
    fill_until_nobody_reads(&mut pen, &ports[0], &sink);
    assert_eq!(monitor.failing().as_deref(), Some("the receiver does not read"));
    assert!(!pen.has_room() && monitor.queue_bytes() <= CAPACITY as u64);

    let reader = thread::spawn(move || rest(&mut stream));
    end(&sink);
    assert!(is_without_holes(&reader.join().unwrap(), pen.counters().records));
}

#[test]
fn a_receiver_that_has_read_all_and_returns_misses_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (sink, ports) = Sink::open(socket(Address::Unix(path)), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    let mut found = Vec::new();
    for _ in 0..5 {
        write_each(&mut pen, &ports[0], 3);
        let mut reader = BufReader::new(accept(&listener));
        found.extend(take(&mut reader, 3));
        // The connection ends here, between two lines.
    }
    write_each(&mut pen, &ports[0], 1);
    let mut last = accept(&listener);
    end(&sink);
    found.extend(rest(&mut last));
    assert!(is_without_holes(&found, 16), "{found:?}");
}

#[test]
fn a_line_that_a_connection_was_lost_in_is_whole_on_the_next_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (sink, ports) = Sink::open(socket(Address::Unix(path)), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_line(&mut pen, &ports[0]);
    let unread = accept(&listener);
    fill_until_nobody_reads(&mut pen, &ports[0], &sink);
    let taken = ports[0].written();
    assert!(taken > 0);
    drop(unread);

    let reader = thread::spawn(move || rest(&mut accept(&listener)));
    end(&sink);
    let found = reader.join().unwrap();
    // What the kernel had taken is lost, and nothing else: the line that was not finished comes again.
    let line = pen.outlet().rendered() / pen.counters().records;
    let (first, last) = (found[0], pen.counters().records);
    assert!(found.iter().copied().eq(first..=last), "a hole in {found:?}");
    assert!((first - 1).abs_diff(taken / line) <= taken / line / 100 + 1, "{first} after {taken} bytes of {line}");
    assert_eq!(ports[0].written(), pen.outlet().rendered());
}

/// A message's MSGID, and the number of its line.
fn message(bytes: &[u8]) -> (String, u64) {
    let text = std::str::from_utf8(bytes).unwrap();
    let parts: Vec<&str> = text.splitn(8, ' ').collect();
    assert_eq!(parts[0], "<132>1", "{text}");
    assert_eq!(parts[1], "2026-11-20T21:10:03.412345Z");
    assert_eq!(parts[2..4], ["cache-1", "ravelin"]);
    assert_eq!(parts[4], std::process::id().to_string());
    assert_eq!(parts[6], "-");
    (parts[5].to_owned(), number(parts[7]))
}

/// Numbers of messages with octet counts, to the end of the stream; the last one may be torn.
fn counted(reader: &mut impl Read) -> Vec<u64> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().expect("an octet count");
        let Some(text) = rest.get(space + 1..space + 1 + length) else { break };
        found.push(message(text).1);
        rest = &rest[space + 1 + length..];
    }
    found
}

#[test]
fn syslog_messages_travel_as_datagrams_and_as_counted_octets() {
    const LINES: u64 = 500;
    let dir = TempDir::new().unwrap();
    let (datagrams, streams) = (dir.path().join("d"), dir.path().join("s"));
    let unix = UnixDatagram::bind(&datagrams).unwrap();
    let stream = UnixListener::bind(&streams).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("[::1]:0").unwrap();
    unix.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let each = |receive: &dyn Fn(&mut [u8]) -> std::io::Result<usize>| {
        let mut space = [0; 65536];
        let one = |_| {
            let length = receive(&mut space).unwrap();
            let (event, number) = message(&space[..length]);
            assert_eq!(event, "alarm");
            number
        };
        (0..LINES).map(one).collect::<Vec<_>>()
    };
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    for kind in 0..4 {
        let address = match kind {
            0 => Address::Unix(datagrams.clone()),
            1 => Address::Unix(streams.clone()),
            2 => Address::Udp(udp_at),
            _ => Address::Tcp(tcp_at),
        };
        let (sink, ports) = Sink::open(syslog(address), 1).unwrap();
        let mut pen = Recorder::new(0, CAPACITY);
        let found = thread::scope(|scope| {
            let reader = scope.spawn(|| match kind {
                0 => each(&|space| unix.recv(space)),
                1 => counted(&mut accept(&stream)),
                2 => each(&|space| udp.recv(space)),
                _ => counted(&mut tcp.accept().unwrap().0),
            });
            for _ in 0..LINES {
                eventually("there is room", || {
                    pen.outlet().set_written(ports[0].written());
                    pen.has_room()
                });
                // UDP has no way to wait for its reader: one datagram at a time fits its buffer.
                write_each(&mut pen, &ports[0], 1);
            }
            end(&sink);
            reader.join().unwrap()
        });
        assert!(is_without_holes(&found, LINES), "{kind}: {found:?}");
    }
}

#[test]
fn datagrams_that_nobody_reads_stall_and_a_receiver_that_returns_gets_the_rest() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let first = UnixDatagram::bind(&path).unwrap();
    let (sink, ports) = Sink::open(syslog(Address::Unix(path.clone())), 1).unwrap();
    let monitor = sink.monitor();
    let mut pen = Recorder::new(0, CAPACITY);
    fill_until_nobody_reads(&mut pen, &ports[0], &sink);
    assert_eq!(monitor.failing().as_deref(), Some("the receiver does not read"));
    assert!(!pen.has_room());
    // All that the kernel took is still there to be read.
    first.set_nonblocking(true).unwrap();
    fs::remove_file(&path).unwrap();
    let mut space = [0; 65536];
    let mut found = Vec::new();
    let second = UnixDatagram::bind(&path).unwrap();
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    eventually("everything is taken", || {
        drain(&first, &mut space, &mut found);
        ports[0].written() == pen.outlet().rendered()
    });
    drain(&first, &mut space, &mut found);
    drop(first);
    write_each(&mut pen, &ports[0], 1);
    let length = second.recv(&mut space).unwrap();
    found.push(message(&space[..length]).1);
    end(&sink);
    assert!(is_without_holes(&found, pen.counters().records), "{found:?}");
}

fn drain(from: &UnixDatagram, space: &mut [u8], into: &mut Vec<u64>) {
    loop {
        match from.recv(space) {
            Ok(length) => into.push(message(&space[..length]).1),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return;
            }
        }
    }
}

#[test]
fn a_message_that_a_connection_was_lost_in_is_whole_on_the_next_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sink, ports) = Sink::open(syslog(Address::Tcp(listener.local_addr().unwrap())), 1).unwrap();
    // More than the buffers of both ends take.
    let mut pen = Recorder::new(0, 16 << 20);
    write_line(&mut pen, &ports[0]);
    let unread = listener.accept().unwrap().0;
    fill_until_nobody_reads(&mut pen, &ports[0], &sink);
    let taken = ports[0].written();
    drop(unread);
    let reader = thread::spawn(move || counted(&mut listener.accept().unwrap().0));
    end(&sink);
    let found = reader.join().unwrap();
    let (first, last) = (found[0], pen.counters().records);
    assert!(found.iter().copied().eq(first..=last), "a hole in {found:?}");
    // Lines are counted when the kernel has taken their whole message.
    let bytes: u64 =
        (1..first).map(|seq| pen.outlet().rendered() / last + u64::from(seq > 99) - u64::from(seq < 10)).sum();
    assert!(taken.abs_diff(bytes) < bytes / 20 + 400, "{first} after {taken}");
    assert_eq!(ports[0].written(), pen.outlet().rendered());
}

#[test]
fn a_place_without_a_receiver_does_not_keep_the_process_from_starting() {
    let nowhere = Path::new("/nonexistent/log");
    for target in [socket(Address::Unix(nowhere.into())), syslog(Address::Unix(nowhere.into()))] {
        let (sink, ports) = Sink::open(target, 1).unwrap();
        let mut pen = Recorder::new(0, CAPACITY);
        write_line(&mut pen, &ports[0]);
        let monitor = sink.monitor();
        eventually("the sink says that it fails", || monitor.failing().is_some());
        assert_eq!(sink.flush_and_close(Duration::from_millis(20)), Err(pen.outlet().rendered()));
    }
}
