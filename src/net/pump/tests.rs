//! The pump in memory: scripted machine, pipes of one byte to four thousand.

use super::Pump;
use crate::session::inquiry::{Answer, Ask};
use crate::{
    audit::{event::ProcessEvent, record::Recorder},
    net::{
        clock::Clock,
        control::{Control, Order},
        desk::{Desk, Tools},
        side::{Downstream, Intake, Machine},
    },
    session::{End, Turn, Wants, error::CloseReason, gather::Gather, renewal::Renewal},
    tls::pipe::Scratch,
};
use proptest::prelude::*;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    task::{LocalSet, yield_now},
};

/// A client's side without TLS.
pub(super) struct Plain {
    pub(super) io: DuplexStream,
    pub(super) out: Vec<u8>,
    pub(super) hung_up: Rc<RefCell<bool>>,
    pub(super) broken: bool,
}

impl Downstream for Plain {
    fn poll_read(&mut self, cx: &mut Context<'_>, _: &mut Scratch, out: &mut Vec<u8>) -> Poll<Intake> {
        if self.broken {
            return Poll::Ready(Intake::Failed);
        }
        let mut space = [0; 4096];
        let mut into = ReadBuf::new(&mut space);
        match ready!(Pin::new(&mut self.io).poll_read(cx, &mut into)) {
            Ok(()) if into.filled().is_empty() => Poll::Ready(Intake::End),
            Ok(()) => {
                out.extend_from_slice(into.filled());
                Poll::Ready(Intake::Bytes(into.filled().len()))
            }
            Err(_) => Poll::Ready(Intake::Failed),
        }
    }

    fn send(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(first);
        self.out.extend_from_slice(second);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let wrote = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            self.out.drain(..wrote);
        }
        Poll::Ready(Ok(()))
    }

    fn pending(&self) -> usize {
        self.out.len()
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_hangup(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if *self.hung_up.borrow() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn quick_ack(&self) {}
}

/// What the scripted machine does and what it was told.
struct Script {
    wants: Wants,
    told: Vec<String>,
    /// What `resume` changes the wants to.
    after_resume: Option<Wants>,
    panics_on: Option<&'static [u8]>,
    reply_ends_pause: bool,
    ends_with_client: bool,
    most_offered_down: usize,
    most_pending: usize,
}

const OPEN: Wants = Wants {
    read_down: true,
    read_up: true,
    written: None,
    room: false,
    flushed: false,
    wake_at_us: None,
    asks: false,
    down: End::Open,
    up: End::Open,
    done: false,
};

/// Forwards whole lines; answers those that begin with `x` itself; passes what Redis says.
#[derive(Clone)]
struct Lines(Rc<RefCell<Script>>);

impl Lines {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Script {
            wants: OPEN,
            told: Vec::new(),
            after_resume: None,
            panics_on: None,
            reply_ends_pause: false,
            ends_with_client: false,
            most_offered_down: 0,
            most_pending: 0,
        })))
    }

    fn wants(&self, change: impl FnOnce(&mut Wants)) {
        change(&mut self.0.borrow_mut().wants);
    }

    fn told(&self) -> Vec<String> {
        self.0.borrow().told.clone()
    }
}

impl Machine for Lines {
    fn downstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        let mut script = self.0.borrow_mut();
        script.most_offered_down = script.most_offered_down.max(input.len());
        script.most_pending = script.most_pending.max(turn.down_pending);
        if !script.wants.read_down {
            return 0;
        }
        let mut consumed = 0;
        while let Some(length) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let line = consumed..consumed + length + 1;
            if script.panics_on.is_some_and(|word| input[line.clone()].starts_with(word)) {
                drop(script);
                panic!("as the test wants it");
            }
            if input[line.start] == b'x' {
                down.push(b"no\n");
            } else {
                up.pass(line.clone());
            }
            consumed = line.end;
            if input[line].starts_with(b"pause") {
                script.wants.read_down = false;
                break;
            }
        }
        consumed
    }

    fn upstream(&mut self, input: &[u8], _: &mut Turn<'_>, _: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        let mut script = self.0.borrow_mut();
        script.wants.read_down |= script.reply_ends_pause;
        down.pass(0..input.len());
        input.len()
    }

    fn downstream_end(&mut self, clean: bool, _: &mut Turn<'_>, _: &mut Gather<'_>, _: &mut Gather<'_>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("downstream end, clean: {clean}"));
        script.wants.up = if clean { End::Flush } else { End::Abort };
        script.wants.down = if clean { End::Flush } else { End::Abort };
        script.wants.done = true;
    }

    fn upstream_end(&mut self, unsent: usize, _: &mut Turn<'_>, _: &mut Gather<'_>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("upstream end, unsent: {unsent}"));
        script.wants.up = End::Abort;
        script.wants.down = End::Flush;
        script.wants.done = true;
    }

    fn resume(&mut self, _: &mut Turn<'_>, _: &mut Gather<'_>, down: &mut Gather<'_>) {
        let mut script = self.0.borrow_mut();
        script.told.push("resume".into());
        down.push(b"resumed\n");
        if let Some(wants) = script.after_resume {
            script.wants = wants;
        }
    }

    fn drain(&mut self, reason: CloseReason, _: &mut Turn<'_>, _: &mut Gather<'_>, down: &mut Gather<'_>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("drain {}", reason.word()));
        down.push(b"bye\n");
        script.wants.read_down = false;
        script.wants.up = End::Flush;
        script.wants.down = End::Flush;
        script.wants.done = true;
    }

    fn renew(&mut self, _renewal: Renewal) {}

    fn take_ask(&mut self) -> Option<Ask> {
        let mut script = self.0.borrow_mut();
        script.wants.asks = false;
        let secret = |text: &str| crate::secret::Secret::new(text.into());
        Some(Ask { user: secret("u"), password: secret("p"), selects: false })
    }

    fn answer(&mut self, answer: Answer, _: &mut Turn<'_>, _: &mut Gather<'_>, _: &mut Gather<'_>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("answer {answer:?}"));
        script.wants.read_down = true;
    }

    fn abort(&mut self, reason: CloseReason, _: &mut Turn<'_>) {
        let mut script = self.0.borrow_mut();
        script.told.push(format!("abort {}", reason.word()));
        script.wants.up = End::Abort;
        script.wants.down = End::Abort;
        script.wants.done = true;
    }

    fn wants(&self) -> Wants {
        self.0.borrow().wants
    }

    fn rest(&mut self) -> bool {
        let mut script = self.0.borrow_mut();
        script.told.push("rest".into());
        true
    }

    fn ends_with_client(&self) -> bool {
        self.0.borrow().ends_with_client
    }
}

/// One pump and the far ends of its pipes.
struct Stage {
    client: DuplexStream,
    redis: DuplexStream,
    desk: Rc<Desk>,
    control: Rc<Control>,
    hung_up: Rc<RefCell<bool>>,
    pump: Pump<Plain, DuplexStream, Lines>,
}

const FLUSH: Duration = Duration::from_secs(60);

fn desk() -> Rc<Desk> {
    Desk::new(Tools::new(Recorder::new(0, 1 << 20), 0, Clock::start()))
}

fn stage(lines: &Lines, pipe: usize, flush: Duration) -> Stage {
    stage_at(desk(), lines, pipe, flush)
}

fn stage_at(desk: Rc<Desk>, lines: &Lines, pipe: usize, flush: Duration) -> Stage {
    let (client, down) = duplex(pipe);
    let (up, redis) = duplex(pipe);
    let control = Rc::new(Control::default());
    let hung_up = Rc::new(RefCell::new(false));
    let plain = Plain { io: down, out: Vec::new(), hung_up: Rc::clone(&hung_up), broken: false };
    let pump = Pump::new(lines.clone(), plain, Some(up), Rc::clone(&desk), Rc::clone(&control), flush);
    Stage { client, redis, desk, control, hung_up, pump }
}

pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limit = Duration::from_secs(30);
    LocalSet::new()
        .block_on(&runtime, async { tokio::time::timeout(limit, test).await })
        .expect("the test hangs: somebody waits for what never comes")
}

/// Everything in memory is single-threaded: after so many turns each, nobody has anything left to do.
async fn settle() {
    for _ in 0..2000 {
        yield_now().await;
    }
}

async fn write(to: &mut DuplexStream, bytes: &[u8]) {
    to.write_all(bytes).await.unwrap();
}

async fn expect(from: &mut DuplexStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    from.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
}

async fn rest_of(from: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await.unwrap();
    rest
}

#[test]
fn every_pipe_width_carries_every_byte_in_order() {
    for pipe in [1, 7, 4096, 1 << 20] {
        run(async {
            let lines = Lines::new();
            let Stage { client, redis, pump, .. } = stage(&lines, pipe, FLUSH);
            let over = tokio::task::spawn_local(pump);
            let sent: String = (0..300).map(|n| format!("line {n} {}\n", "y".repeat(n % 50))).collect();
            let (mut from, mut to) = tokio::io::split(redis);
            let echo = tokio::task::spawn_local(async move { tokio::io::copy(&mut from, &mut to).await.unwrap() });
            let (mut replies, mut requests) = tokio::io::split(client);
            let expected = sent.clone();
            let writer = tokio::task::spawn_local(async move {
                requests.write_all(sent.as_bytes()).await.unwrap();
                requests
            });
            let mut got = vec![0; expected.len()];
            replies.read_exact(&mut got).await.unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), expected, "width {pipe}");
            let mut requests = writer.await.unwrap();
            requests.shutdown().await.unwrap();
            over.await.unwrap();
            assert_eq!(echo.await.unwrap(), expected.len() as u64);
            assert_eq!(lines.told(), ["downstream end, clean: true"]);
        });
    }
}

#[test]
fn a_gap_in_what_goes_up_is_closed_and_own_replies_reach_the_client() {
    for pipe in [1, 7, 4096] {
        run(async {
            let lines = Lines::new();
            let Stage { mut client, mut redis, pump, .. } = stage(&lines, pipe, FLUSH);
            let _over = tokio::task::spawn_local(pump);
            let writer = tokio::task::spawn_local(async move {
                write(&mut client, b"a\nxb\nc\nxd\ne\n").await;
                client
            });
            expect(&mut redis, b"a\nc\ne\n").await;
            let mut client = writer.await.unwrap();
            expect(&mut client, b"no\nno\n").await;
        });
    }
}

#[test]
fn commands_go_up_when_the_other_connections_have_had_their_turn() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, redis, mut pump, .. } = stage(&lines, 1 << 20, FLUSH);
        let (woken, waker) = flagged_waker();
        let mut cx = Context::from_waker(&waker);
        let mut redis = redis;
        write(&mut client, b"a\nb\n").await;
        assert!(Pin::new(&mut pump).poll(&mut cx).is_pending());
        assert_eq!(lines.0.borrow().most_offered_down, 4, "they were judged");
        assert!(nothing_to_read(&mut redis), "and are not sent");
        assert!(woken.swap(false, Ordering::Relaxed), "but the pump is behind all that are ready");
        assert!(Pin::new(&mut pump).poll(&mut cx).is_pending());
        expect(&mut redis, b"a\nb\n").await;
        // What is as long as a write of its own is worth is one.
        let long = [&[b'y'; 4095][..], b"\n"].concat();
        write(&mut client, &long).await;
        assert!(Pin::new(&mut pump).poll(&mut cx).is_pending());
        expect(&mut redis, &long).await;
    });
}

/// A waker, and whether it was called.
fn flagged_waker() -> (Arc<AtomicBool>, Waker) {
    struct Flag(Arc<AtomicBool>);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let woken = Arc::new(AtomicBool::new(false));
    (Arc::clone(&woken), Waker::from(Arc::new(Flag(woken))))
}

fn nothing_to_read(from: &mut DuplexStream) -> bool {
    let mut space = [0; 1];
    let mut into = ReadBuf::new(&mut space);
    Pin::new(from).poll_read(&mut Context::from_waker(Waker::noop()), &mut into).is_pending()
}

#[test]
fn a_client_that_reads_nothing_still_has_all_its_requests_taken() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, redis, pump, .. } = stage(&lines, 4096, FLUSH);
        let _over = tokio::task::spawn_local(pump);
        let (mut from, mut to) = tokio::io::split(redis);
        // Redis answers as much as it is let, and goes on reading when it is not.
        let _replies = tokio::task::spawn_local(async move { while to.write_all(&[b'r'; 1000]).await.is_ok() {} });
        let reader = tokio::task::spawn_local(async move {
            let mut got = vec![0; 1_000_000];
            from.read_exact(&mut got).await.unwrap();
        });
        let line = [&[b'q'; 999][..], b"\n"].concat();
        for _ in 0..1000 {
            write(&mut client, &line).await;
        }
        reader.await.unwrap();
        assert_eq!(lines.told(), Vec::<String>::new());
    });
}

#[test]
fn replies_a_client_does_not_read_stay_with_redis() {
    run(async {
        let lines = Lines::new();
        let Stage { client: _client, mut redis, pump, .. } = stage(&lines, 4096, FLUSH);
        let _over = tokio::task::spawn_local(pump);
        let taken = Rc::new(RefCell::new(0_usize));
        let count = Rc::clone(&taken);
        let _writer = tokio::task::spawn_local(async move {
            while redis.write_all(&[b'r'; 1000]).await.is_ok() {
                *count.borrow_mut() += 1000;
            }
        });
        settle().await;
        let taken = *taken.borrow();
        assert!(taken > 4096, "the pipes were filled");
        assert!(taken < 100_000, "the proxy kept {taken} bytes for a client that does not read");
    });
}

#[test]
fn requests_redis_does_not_take_stay_with_the_client() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, redis: _redis, pump, .. } = stage(&lines, 4096, FLUSH);
        let _over = tokio::task::spawn_local(pump);
        let taken = Rc::new(RefCell::new(0_usize));
        let count = Rc::clone(&taken);
        let _writer = tokio::task::spawn_local(async move {
            while client.write_all(b"0123456789abcdef0123456789abcde\n").await.is_ok() {
                *count.borrow_mut() += 32;
            }
        });
        settle().await;
        let taken = *taken.borrow();
        assert!(taken > 4096, "the pipes were filled");
        assert!(taken < 100_000, "the proxy kept {taken} bytes for a Redis that does not read");
    });
}

#[test]
fn a_half_closed_client_still_gets_what_redis_had_said() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, pump, .. } = stage(&lines, 7, FLUSH);
        let over = tokio::task::spawn_local(pump);
        let script = lines.clone();
        let server = tokio::task::spawn_local(async move {
            expect(&mut redis, b"a\nb\n").await;
            write(&mut redis, b"answer to a\nanswer to b\n").await;
            redis
        });
        write(&mut client, b"a\nb\n").await;
        expect(&mut client, b"answer to a\nanswer to b\n").await;
        client.shutdown().await.unwrap();
        assert_eq!(rest_of(&mut client).await, b"");
        over.await.unwrap();
        let mut redis = server.await.unwrap();
        assert_eq!(rest_of(&mut redis).await, b"", "Redis sees the end too");
        assert_eq!(script.told(), ["downstream end, clean: true"]);
    });
}

#[test]
fn the_loss_of_redis_says_how_much_it_never_took() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, pump, .. } = stage(&lines, 4, FLUSH);
        let over = tokio::task::spawn_local(pump);
        let writer = tokio::task::spawn_local(async move {
            write(&mut client, b"0123456\n").await;
            client
        });
        // Four bytes fit into the pipe, one is read and one more follows; then Redis goes.
        expect(&mut redis, b"0").await;
        settle().await;
        drop(redis);
        let mut client = writer.await.unwrap();
        assert_eq!(rest_of(&mut client).await, b"");
        drop(client);
        over.await.unwrap();
        assert_eq!(lines.told(), ["upstream end, unsent: 3"]);
    });
}

#[test]
fn what_redis_said_before_it_went_is_delivered() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, pump, .. } = stage(&lines, 4096, FLUSH);
        let over = tokio::task::spawn_local(pump);
        write(&mut redis, b"-ERR max number of clients reached\r\n").await;
        drop(redis);
        assert_eq!(rest_of(&mut client).await, b"-ERR max number of clients reached\r\n");
        drop(client);
        over.await.unwrap();
    });
}

#[test]
fn bytes_left_at_a_pause_are_offered_again_without_new_ones() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, pump, .. } = stage(&lines, 4096, FLUSH);
        let _over = tokio::task::spawn_local(pump);
        write(&mut client, b"pause\nafter\npart").await;
        expect(&mut redis, b"pause\n").await;
        settle().await;
        assert!(lines.0.borrow().most_offered_down <= b"pause\nafter\npart".len());
        // An answer of Redis lifts the pause: nothing else moves.
        lines.wants(|wants| wants.read_down = true);
        write(&mut redis, b"answer\n").await;
        expect(&mut redis, b"after\n").await;
        write(&mut client, b"ial\n").await;
        expect(&mut redis, b"partial\n").await;
        expect(&mut client, b"answer\n").await;
    });
}

#[test]
fn a_client_that_leaves_during_a_pause_is_noticed_when_that_ends_the_session() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, hung_up, pump, .. } = stage(&lines, 4096, FLUSH);
        lines.0.borrow_mut().ends_with_client = true;
        *hung_up.borrow_mut() = true;
        let over = tokio::task::spawn_local(pump);
        write(&mut client, b"pause\nnever judged\n").await;
        client.shutdown().await.unwrap();
        expect(&mut redis, b"pause\n").await;
        over.await.unwrap();
        assert_eq!(rest_of(&mut redis).await, b"");
        assert_eq!(lines.told(), ["downstream end, clean: true"]);
    });
}

#[test]
fn a_client_that_leaves_during_a_pause_is_otherwise_served_to_its_end() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, hung_up, pump, .. } = stage(&lines, 4096, FLUSH);
        *hung_up.borrow_mut() = true;
        let over = tokio::task::spawn_local(pump);
        write(&mut client, b"pause\nafter\n").await;
        client.shutdown().await.unwrap();
        expect(&mut redis, b"pause\n").await;
        settle().await;
        assert_eq!(lines.told(), Vec::<String>::new());
        lines.wants(|wants| wants.read_down = true);
        write(&mut redis, b"answer\n").await;
        assert_eq!(rest_of(&mut redis).await, b"after\n");
        over.await.unwrap();
        assert_eq!(lines.told(), ["downstream end, clean: true"]);
    });
}

#[test]
fn a_failed_client_is_not_called_clean() {
    run(async {
        let lines = Lines::new();
        let mut stage = stage(&lines, 4096, FLUSH);
        stage.pump.down.as_mut().unwrap().broken = true;
        stage.pump.await;
        assert_eq!(lines.told(), ["downstream end, clean: false"]);
    });
}

#[test]
fn a_panic_ends_its_own_connection_and_is_recorded() {
    run(async {
        let desk = desk();
        let (bad, good) = (Lines::new(), Lines::new());
        bad.0.borrow_mut().panics_on = Some(b"boom");
        let Stage { client: mut bad_client, redis: mut bad_redis, pump, .. } =
            stage_at(Rc::clone(&desk), &bad, 64, FLUSH);
        let bad_over = tokio::task::spawn_local(pump);
        let Stage { client: mut good_client, redis: mut good_redis, pump, .. } = stage_at(desk, &good, 64, FLUSH);
        let _good_over = tokio::task::spawn_local(pump);
        write(&mut bad_client, b"boom\n").await;
        bad_over.await.expect("the panic is caught by the pump itself");
        assert_eq!(bad.told(), ["abort internal"]);
        assert_eq!(rest_of(&mut bad_client).await, b"");
        assert_eq!(rest_of(&mut bad_redis).await, b"");
        write(&mut good_client, b"still here\n").await;
        expect(&mut good_redis, b"still here\n").await;
        assert_eq!(good.told(), Vec::<String>::new());
    });
}

#[test]
fn an_order_to_drain_reaches_a_sleeping_connection() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, control, pump, .. } = stage(&lines, 4096, FLUSH);
        let over = tokio::task::spawn_local(pump);
        settle().await;
        control.order(Order::Drain(CloseReason::Drain));
        assert_eq!(rest_of(&mut client).await, b"bye\n");
        drop(client);
        over.await.unwrap();
        assert_eq!(rest_of(&mut redis).await, b"");
        assert_eq!(lines.told(), ["drain drain"]);
    });
}

#[test]
fn an_abort_does_not_wait_for_a_client_that_reads_nothing() {
    run(async {
        let lines = Lines::new();
        let Stage { client: _client, mut redis, control, pump, .. } = stage(&lines, 16, FLUSH);
        let over = tokio::task::spawn_local(pump);
        write(&mut redis, b"0123456789abcdef0123456789abcdef").await;
        settle().await;
        control.order(Order::Abort(CloseReason::Drain));
        over.await.unwrap();
        assert_eq!(lines.told(), ["abort drain"]);
    });
}

#[test]
fn an_abort_is_not_softened_into_a_drain() {
    run(async {
        let lines = Lines::new();
        let Stage { client: _client, redis: _redis, control, pump, .. } = stage(&lines, 16, FLUSH);
        control.order(Order::Abort(CloseReason::Drain));
        control.order(Order::Drain(CloseReason::Revoked));
        pump.await;
        assert_eq!(lines.told(), ["abort drain"]);
    });
}

#[test]
fn a_close_that_the_client_does_not_take_ends_at_the_flush_deadline() {
    run(async {
        let lines = Lines::new();
        let Stage { client: _client, mut redis, control, pump, .. } = stage(&lines, 16, Duration::from_millis(20));
        let over = tokio::task::spawn_local(pump);
        write(&mut redis, b"0123456789abcdef0123456789abcdef").await;
        settle().await;
        control.order(Order::Drain(CloseReason::Drain));
        over.await.unwrap();
        assert_eq!(lines.told(), ["drain drain"], "the session was done; only its bytes were given up");
    });
}

#[test]
fn a_client_that_never_ends_its_side_is_left_after_a_while() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, redis: _redis, control, pump, .. } = stage(&lines, 64, Duration::from_millis(20));
        let over = tokio::task::spawn_local(pump);
        control.order(Order::Drain(CloseReason::Drain));
        assert_eq!(rest_of(&mut client).await, b"bye\n");
        over.await.unwrap();
        assert!(client.write_all(&[0; 1000]).await.is_err(), "the socket is gone");
    });
}

#[test]
fn a_machine_may_rest_once_after_much_was_offered() {
    run(async {
        let lines = Lines::new();
        let Stage { mut client, mut redis, pump, .. } = stage(&lines, 1 << 20, FLUSH);
        let _over = tokio::task::spawn_local(pump);
        write(&mut client, b"little\n").await;
        expect(&mut redis, b"little\n").await;
        assert_eq!(lines.told(), Vec::<String>::new());
        let line = [&[b'm'; 40_000][..], b"\n"].concat();
        write(&mut client, &line).await;
        expect(&mut redis, &line).await;
        write(&mut client, b"little\n").await;
        expect(&mut redis, b"little\n").await;
        assert_eq!(lines.told(), ["rest"]);
    });
}

#[test]
fn a_session_that_waits_for_its_line_goes_on_when_it_is_written() {
    run(async {
        let lines = Lines::new();
        let desk = desk();
        let (mark, rendered) = desk.record(|tools| {
            let stop = ProcessEvent::Stop { reason: "drained", us: 1 };
            tools.recorder.process(tools.clock.now(), &stop);
            (tools.recorder.mark(), tools.recorder.outlet().rendered())
        });
        let written = |desk: &Desk, bytes| {
            desk.tools().recorder.outlet().set_written(bytes);
            desk.advanced();
        };
        lines.wants(|wants| wants.written = Some(mark));
        lines.0.borrow_mut().after_resume = Some(OPEN);
        let Stage { mut client, redis: _redis, desk, pump, .. } = stage_at(desk, &lines, 64, FLUSH);
        let _over = tokio::task::spawn_local(pump);
        settle().await;
        written(&desk, rendered - 1);
        settle().await;
        assert_eq!(lines.told(), Vec::<String>::new());
        written(&desk, rendered);
        expect(&mut client, b"resumed\n").await;
        assert_eq!(lines.told(), ["resume"]);
    });
}

#[test]
fn a_deadline_of_the_session_is_kept_and_one_that_moved_away_is_not() {
    run(async {
        let lines = Lines::new();
        let stage = stage(&lines, 64, FLUSH);
        let start = stage.desk.now().mono_us;
        lines.wants(|wants| wants.wake_at_us = Some(start + 1_500_000));
        lines.0.borrow_mut().after_resume = Some(OPEN);
        let Stage { mut client, mut redis, desk, mut pump, .. } = stage;
        pump.wants = lines.0.borrow().wants;
        let _over = tokio::task::spawn_local(pump);
        settle().await;
        lines.wants(|wants| wants.wake_at_us = Some(start + 1_700_000));
        write(&mut redis, b"reply\n").await;
        expect(&mut client, b"reply\n").await;
        expect(&mut client, b"resumed\n").await;
        assert!(desk.now().mono_us >= start + 1_700_000, "the first deadline had moved before it came");
        assert_eq!(lines.told(), ["resume"]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the widths of the pipes, the lengths of the lines, where commands are denied and where the session
    /// pauses until Redis answers: Redis gets exactly the lines that were not denied, in order, and the client gets
    /// every reply.
    #[test]
    fn no_byte_is_lost_doubled_or_moved(
        pipe in 1_usize..200,
        lines in prop::collection::vec((0_usize..4, 0_usize..120), 1..60),
    ) {
        let machine = Lines::new();
        machine.0.borrow_mut().reply_ends_pause = true;
        let word = |kind: usize| ["y", "x", "pause", "z"][kind];
        let line = |(index, (kind, length)): (usize, &(usize, usize))| {
            format!("{} {index} {}\n", word(*kind), "v".repeat(*length))
        };
        let sent: String = lines.iter().enumerate().map(line).collect();
        let denied = lines.iter().filter(|(kind, _)| word(*kind) == "x").count();
        let up: String = lines.iter().enumerate().filter(|(_, (kind, _))| word(*kind) != "x").map(line).collect();
        let (got_up, got_down) = run(async {
            let Stage { client, mut redis, pump, .. } = stage(&machine, pipe, FLUSH);
            let over = tokio::task::spawn_local(pump);
            let expected = up.len();
            let server = tokio::task::spawn_local(async move {
                let mut seen = Vec::new();
                let mut chunk = [0; 64];
                while seen.len() < expected {
                    let length = redis.read(&mut chunk).await.unwrap();
                    assert!(length > 0, "Redis was left after {seen:?}");
                    seen.extend_from_slice(&chunk[..length]);
                    redis.write_all(&chunk[..length]).await.unwrap();
                }
                (seen, redis)
            });
            let (mut replies, mut requests) = tokio::io::split(client);
            let owed = expected + denied * 3;
            let reader = tokio::task::spawn_local(async move {
                let mut got = vec![0; owed];
                replies.read_exact(&mut got).await.unwrap();
                (got, replies)
            });
            requests.write_all(sent.as_bytes()).await.unwrap();
            let (seen, _redis) = server.await.unwrap();
            let (got, mut replies) = reader.await.unwrap();
            requests.shutdown().await.unwrap();
            let mut rest = Vec::new();
            replies.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"", "more than was owed");
            over.await.unwrap();
            (seen, got)
        });
        prop_assert_eq!(String::from_utf8_lossy(&got_up), &up[..]);
        prop_assert_eq!(got_down.len(), up.len() + denied * 3);
    }
}

#[test]
fn a_question_is_asked_once_and_its_answer_told() {
    run(async {
        let lines = Lines::new();
        let script = Rc::clone(&lines.0);
        script.borrow_mut().wants.asks = true;
        script.borrow_mut().wants.read_down = false;
        let mut stage = stage(&lines, 4096, FLUSH);
        let (asked, answered) = (Rc::new(RefCell::new(0)), Rc::new(tokio::sync::Notify::new()));
        let (count, wait) = (Rc::clone(&asked), Rc::clone(&answered));
        stage.pump = stage.pump.with_gate(Box::new(move |ask| {
            assert_eq!((ask.user.expose(), ask.password.expose()), (&b"u"[..], &b"p"[..]));
            *count.borrow_mut() += 1;
            let wait = Rc::clone(&wait);
            Box::pin(async move {
                wait.notified().await;
                super::Found { answer: Answer::Granted, upstream: None }
            })
        }));
        tokio::task::spawn_local(stage.pump);
        write(&mut stage.client, b"a\n").await;
        settle().await;
        assert_eq!((*asked.borrow(), script.borrow().told.contains(&"answer Granted".to_owned())), (1, false));
        answered.notify_one();
        // What the client said meanwhile is read once there is an answer.
        expect(&mut stage.redis, b"a\n").await;
        assert!(script.borrow().told.contains(&"answer Granted".to_owned()));
        assert_eq!(*asked.borrow(), 1);
    });
}

#[test]
fn an_answer_may_bring_another_connection_to_redis_and_nobody_to_ask_is_an_answer_too() {
    run(async {
        let lines = Lines::new();
        let script = Rc::clone(&lines.0);
        script.borrow_mut().wants.asks = true;
        let mut stage = stage(&lines, 4096, FLUSH);
        let (fresh, mut redis) = duplex(4096);
        let mut fresh = Some(fresh);
        stage.pump = stage.pump.with_gate(Box::new(move |_| {
            let upstream = fresh.take();
            Box::pin(std::future::ready(super::Found { answer: Answer::Granted, upstream }))
        }));
        tokio::task::spawn_local(stage.pump);
        write(&mut stage.client, b"a\n").await;
        expect(&mut redis, b"a\n").await;
        let mut end = [0; 1];
        assert_eq!(stage.redis.read(&mut end).await.unwrap(), 0, "the old connection is closed");
    });
    run(async {
        let lines = Lines::new();
        let script = Rc::clone(&lines.0);
        script.borrow_mut().wants.asks = true;
        let stage = stage(&lines, 4096, FLUSH);
        tokio::task::spawn_local(stage.pump);
        settle().await;
        assert!(script.borrow().told.contains(&"answer Unavailable".to_owned()));
    });
}
