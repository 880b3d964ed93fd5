use super::{Burst, Means};
use crate::{
    audit::record::Recorder,
    net::{
        aio,
        clock::Clock,
        control::Control,
        desk::{Desk, Tools},
        outbox::{Outbox, PutOff, Spares},
        side::Upward,
    },
};
use std::{
    cell::RefCell,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A side that is never written to by itself: whatever arrives came by a burst.
struct Side(Arc<UnixStream>);

impl AsyncRead for Side {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Side {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl Upward for Side {
    fn socket(&self) -> Option<Arc<dyn AsFd>> {
        Some(Arc::<UnixStream>::clone(&self.0))
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection as a burst knows it, and Redis' end of its socket.
struct Connection {
    outbox: Rc<RefCell<Outbox>>,
    control: Rc<Control>,
    side: Side,
    redis: UnixStream,
    woken: Arc<Count>,
}

impl Connection {
    fn new() -> Self {
        let (ours, redis) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        redis.set_nonblocking(true).unwrap();
        let (control, woken) = (Rc::new(Control::default()), Arc::new(Count::default()));
        control.attend(&mut Context::from_waker(&Waker::from(Arc::clone(&woken))));
        Self { outbox: Rc::default(), control, side: Side(Arc::new(ours)), redis, woken }
    }

    fn put_off(&self, burst: &mut Burst, spares: &mut Spares, bytes: &[u8]) {
        let put_off = self.outbox.borrow_mut().put_off(bytes, b"", &self.side, spares);
        match put_off {
            PutOff::ToBurst => burst.add(&self.outbox, &self.control),
            PutOff::Again => {}
            PutOff::No | PutOff::ToFlush => panic!("{put_off:?}"),
        }
    }

    /// Takes the room in the socket until nothing goes in any more.
    fn stuff(&self) {
        let mut ours = &*self.side.0;
        while ours.write(&[b'x'; 4096]).is_ok() {}
    }

    fn arrived(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut redis = &self.redis;
        match redis.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        bytes
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }
}

/// A burst that sends together, and one that sends one by one.
fn bursts() -> [(&'static str, Burst); 2] {
    [("together", Burst::default()), ("singly", Burst { batch: Means::Singly, ..Burst::default() })]
}

#[test]
fn every_connection_s_bytes_reach_its_own_socket_in_order() {
    for (how, mut burst) in bursts() {
        let mut spares = Spares::default();
        // None, one, a few, as many as one call takes, one more, and some calls.
        for crowd in [0, 1, 2, aio::MOST, aio::MOST + 1, 3 * aio::MOST + 5] {
            let connections: Vec<_> = (0..crowd).map(|_| Connection::new()).collect();
            for round in 0..3 {
                for part in ["a", "b"] {
                    for (at, connection) in connections.iter().enumerate() {
                        connection.put_off(&mut burst, &mut spares, format!("{part}{at}.{round} ").as_bytes());
                    }
                }
                assert_eq!(burst.is_due(), crowd > 0);
                burst.send(&mut spares);
                assert!(!burst.is_due());
                for (at, connection) in connections.iter().enumerate() {
                    let expected = format!("a{at}.{round} b{at}.{round} ");
                    assert_eq!(String::from_utf8(connection.arrived()).unwrap(), expected, "{how}, {crowd}");
                    assert_eq!(connection.outbox.borrow().pending(), 0);
                    assert_eq!(connection.woken(), 0, "nobody waited");
                }
            }
        }
    }
}

#[test]
fn this_system_sends_together() {
    let (mut burst, mut spares) = (Burst::default(), Spares::default());
    let connections = [Connection::new(), Connection::new()];
    for connection in &connections {
        connection.put_off(&mut burst, &mut spares, b"PING\r\n");
    }
    burst.send(&mut spares);
    assert!(matches!(burst.batch, Means::Together(_)), "{:?}", burst.batch);
}

#[test]
fn a_socket_that_is_full_holds_up_nobody_else_and_its_connection_is_woken() {
    for (how, mut burst) in bursts() {
        let mut spares = Spares::default();
        let connections = [Connection::new(), Connection::new(), Connection::new()];
        connections[1].stuff();
        for connection in &connections {
            connection.put_off(&mut burst, &mut spares, b"PING\r\n");
        }
        burst.send(&mut spares);
        assert_eq!(connections[0].arrived(), b"PING\r\n", "{how}");
        assert_eq!(connections[2].arrived(), b"PING\r\n", "{how}");
        assert_eq!(connections.each_ref().map(Connection::woken), [0, 1, 0], "{how}");
        let outbox = connections[1].outbox.borrow();
        assert_eq!((outbox.pending(), outbox.blocked()), (6, true), "its bytes wait for the socket now");
    }
}

#[test]
fn a_peer_that_is_gone_costs_its_own_connection_only() {
    for (how, mut burst) in bursts() {
        let mut spares = Spares::default();
        let mut connections = [Connection::new(), Connection::new(), Connection::new()];
        connections[1].redis = UnixStream::pair().unwrap().0;
        for connection in &connections {
            connection.put_off(&mut burst, &mut spares, b"PING\r\n");
        }
        burst.send(&mut spares);
        assert_eq!(connections[0].arrived(), b"PING\r\n", "{how}");
        assert_eq!(connections[2].arrived(), b"PING\r\n", "{how}");
        let outbox = connections[1].outbox.borrow();
        assert_eq!((outbox.pending(), outbox.unsent()), (0, 6), "{how}: lost, and counted so");
    }
}

#[test]
fn what_an_ended_connection_had_put_off_is_not_sent() {
    for (how, mut burst) in bursts() {
        let mut spares = Spares::default();
        let (stays, clears, goes) = (Connection::new(), Connection::new(), Connection::new());
        for connection in [&stays, &clears, &goes] {
            connection.put_off(&mut burst, &mut spares, b"PING\r\n");
        }
        clears.outbox.borrow_mut().clear();
        assert_eq!(clears.outbox.borrow().unsent(), 6);
        let Connection { outbox, redis, side, .. } = goes;
        drop((outbox, side));
        burst.send(&mut spares);
        assert_eq!(stays.arrived(), b"PING\r\n", "{how}");
        assert_eq!(clears.arrived(), b"", "{how}");
        let mut bytes = Vec::new();
        (&redis).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"", "{how}: the end of the file, and nothing before it");
    }
}

#[test]
fn who_waits_for_its_outbox_to_be_empty_is_woken() {
    let (mut burst, mut spares) = (Burst::default(), Spares::default());
    let connection = Connection::new();
    connection.put_off(&mut burst, &mut spares, b"PING\r\n");
    connection.outbox.borrow_mut().await_burst();
    burst.send(&mut spares);
    assert_eq!((connection.woken(), connection.arrived().as_slice()), (1, b"PING\r\n".as_slice()));
    connection.put_off(&mut burst, &mut spares, b"PING\r\n");
    burst.send(&mut spares);
    assert_eq!(connection.woken(), 1, "once");
}

#[test]
fn more_than_a_few_bytes_are_not_put_off_and_take_along_what_was() {
    let (mut burst, mut spares) = (Burst::default(), Spares::default());
    let connection = Connection::new();
    connection.put_off(&mut burst, &mut spares, b"PING\r\n");
    let much = vec![b'x'; 4096];
    let put_off = connection.outbox.borrow_mut().put_off(&much, b"", &connection.side, &mut spares);
    assert_eq!(put_off, PutOff::No);
    assert!(connection.outbox.borrow().blocked(), "flushed by the connection itself, first what came first");
    burst.send(&mut spares);
    assert_eq!(connection.arrived(), b"");
}

#[test]
fn a_burst_leaves_when_one_call_is_full_and_waits_for_all_who_are_ready_before() {
    let desk = Desk::new(Tools::new(Recorder::new(0, 1 << 20), 0, Clock::start()));
    let connections: Vec<_> = (0..=aio::MOST).map(|_| Connection::new()).collect();
    for (before, connection) in connections.iter().enumerate() {
        // A turn, as the pump ends it.
        let mut tools = desk.tools();
        let Tools { burst, spares, .. } = &mut *tools;
        connection.put_off(burst, spares, b"PING\r\n");
        desk.settle(&mut tools);
        let sent = connections.iter().filter(|one| one.outbox.borrow().pending() == 0).count();
        // Those behind this one have put nothing off yet.
        let waiting = connections.len() - sent;
        let expected = if before + 1 < aio::MOST { before + 1 } else { before + 1 - aio::MOST };
        assert_eq!(waiting, expected, "after {}", before + 1);
    }
    for connection in connections.iter().take(aio::MOST) {
        assert_eq!(connection.arrived(), b"PING\r\n");
    }
    assert_eq!(connections[aio::MOST].arrived(), b"", "the first of the next");
    desk.send_burst();
    assert_eq!(connections[aio::MOST].arrived(), b"PING\r\n");
}
