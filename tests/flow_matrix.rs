//! Every kind of client before every kind of Redis with every kind of command, through the real program: all of it
//! comes to its end. (`net::pump::flow_tests` has the same with the bytes counted.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::{io::Read as _, thread, time::Duration};
use support::{
    client::Client,
    flow::{Gauge, KIB, MIB, Pace, Weir, half_close, push},
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::Setup,
    wire::encode,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Habit {
    WritesFirst,
    NeverReads,
    Dribbles,
    HalfCloses,
}

const HABITS: [Habit; 4] = [Habit::WritesFirst, Habit::NeverReads, Habit::Dribbles, Habit::HalfCloses];
const HUGE: usize = 1 << 20;
const SLOW: Pace = Pace { bytes: 32 * 1024, every: Duration::from_millis(1) };

/// The loads: what is written, and what comes back.
fn loads() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let huge = vec![b'h'; HUGE];
    let bulk = [format!("${HUGE}\r\n").as_bytes(), &huge, b"\r\n"].concat();
    let noperm = b"-NOPERM this user has no permissions to run the 'flushall' command\r\n".to_vec();
    let pair = [encode(&["GET", "small"]), encode(&["FLUSHALL"])].concat();
    vec![
        ("a pipeline", pair.repeat(200), [&b"$1\r\ns\r\n"[..], &noperm].concat().repeat(200)),
        ("a huge value up", encode(&[&b"SET"[..], b"up", &huge]), b"+OK\r\n".to_vec()),
        ("a huge value down", encode(&["GET", "huge"]), bulk),
        ("a denied huge command", encode(&[&b"FLUSHALL"[..], &huge]), noperm),
    ]
}

fn serve(proxy: &Proxy, redis: &Redis, habit: Habit, requests: &[u8], replies: &[u8]) {
    let mut client: Client = proxy.client();
    let end = redis.calls_of("echo");
    let requests = [requests, &encode(&["ECHO", "e"])].concat();
    let replies = [replies, b"$1\r\ne\r\n"].concat();
    match habit {
        Habit::WritesFirst => push(&mut client, &requests).unwrap(),
        Habit::HalfCloses => {
            push(&mut client, &requests).unwrap();
            half_close(&mut client);
        }
        Habit::NeverReads => {
            push(&mut client, &requests).unwrap();
            proxy.await_that("the last command to run", |_| (redis.calls_of("echo") > end).then_some(()));
            return;
        }
        Habit::Dribbles => {
            let (slow, fast) = requests.split_at(100.min(requests.len()));
            for byte in slow {
                push(&mut client, &[*byte]).unwrap();
            }
            for piece in fast.chunks(10_007) {
                push(&mut client, piece).unwrap();
            }
        }
    }
    if habit == Habit::Dribbles {
        for (n, expected) in replies.iter().take(100).enumerate() {
            let mut byte = [0];
            client.stream().read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], *expected, "byte {n}");
        }
        assert!(client.take(replies.len() - 100.min(replies.len())) == replies[100.min(replies.len())..]);
    } else {
        assert!(client.take(replies.len()) == replies, "{habit:?}: the replies changed");
    }
    if habit == Habit::HalfCloses {
        assert_eq!(client.rest(), b"");
    }
}

/// All habits and loads against one proxy, `around` each of them.
fn matrix(redis: &Redis, setup: &Setup, around: impl Fn(&(dyn Fn() + Sync))) {
    let mut direct = redis.connect();
    direct.call(&[&b"SET"[..], b"huge", &vec![b'h'; HUGE]]).expect_ok();
    direct.call(&["SET", "small", "s"]).expect_ok();
    let proxy = Proxy::with(setup);
    drop(proxy.client());
    let gauge = Gauge::start(proxy.pid());
    for (load, requests, replies) in &loads() {
        for habit in HABITS {
            let closes = proxy.records("connection_close").len();
            around(&|| serve(&proxy, redis, habit, requests, replies));
            let what = format!("the end of {habit:?} with {load}");
            proxy.await_that(&what, |proxy| (proxy.records("connection_close").len() > closes).then_some(()));
        }
    }
    gauge.within(2 * MIB + 512 * KIB);
}

fn before(weir: &Weir, redis: &Redis) -> Setup {
    let mut setup = Setup::before(redis);
    setup.services[0].address = weir.address();
    setup
}

#[test]
fn every_client_and_load_comes_through_before_a_redis() {
    let redis = Redis::with_password(PASSWORD);
    matrix(&redis, &Setup::before(&redis), |serve| serve());
}

#[test]
fn every_client_and_load_comes_through_before_a_redis_that_reads_slowly() {
    let redis = Redis::with_password(PASSWORD);
    let weir = Weir::before(redis.socket(), SLOW, Pace::FREE);
    matrix(&redis, &before(&weir, &redis), |serve| serve());
}

#[test]
fn every_client_and_load_comes_through_before_a_redis_that_answers_slowly() {
    let redis = Redis::with_password(PASSWORD);
    let weir = Weir::before(redis.socket(), Pace::FREE, SLOW);
    matrix(&redis, &before(&weir, &redis), |serve| serve());
}

/// Stopped whenever a client is halfway in, and again and again.
#[test]
fn every_client_and_load_comes_through_before_a_redis_that_stands_still_at_times() {
    let redis = Redis::with_password(PASSWORD);
    let pid = Pid::from_raw(redis.pid().try_into().unwrap()).unwrap();
    matrix(&redis, &Setup::before(&redis), |serve| {
        thread::scope(|scope| {
            let serving = scope.spawn(serve);
            while !serving.is_finished() {
                kill_process(pid, Signal::STOP).unwrap();
                thread::sleep(Duration::from_millis(20));
                kill_process(pid, Signal::CONT).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
            serving.join().unwrap();
        });
    });
}
