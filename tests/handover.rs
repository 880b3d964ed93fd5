//! The end of one process and the beginning of the next: the drain in its order (`deploy/docs/drain.md`), sockets handed
//! down by a service manager, two processes on one port, the watchdog.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::Signal;
use std::{
    io::{ErrorKind, Read},
    process::Command,
    sync::{Arc, atomic::Ordering},
};
use support::{
    process::program,
    redis::Redis,
    setup::Setup,
    succession::{Crowd, Holder, Office, account},
};

/// With looks at Redis as in service, and more often: none of them may hold up an end or a beginning.
fn setup(redis: &Redis) -> Setup {
    let mut setup = Setup::before(redis);
    setup.services[0].upstream = ", health = { interval = \"100ms\" }";
    setup
}

#[test]
fn a_drain_goes_through_its_steps_in_their_order() {
    let redis = Redis::start();
    let limits = "drain_timeout = \"3s\"";
    let office = Office::on_a_port(Setup { limits, ..setup(&redis) });
    let mut holder = office.start("only", &[]);
    holder.await_said("READY=1");
    assert_eq!(holder.readiness(), 200);

    let (mut idle, mut promised, mut buyer, mut ditherer) =
        (office.client(), office.client(), office.client(), office.client());
    for client in [&mut buyer, &mut ditherer] {
        client.call(&["MULTI"]).expect_ok();
        assert_eq!(client.call(&["INCR", "sold"]).text(), "QUEUED");
    }
    // Redis takes the command and keeps its answer to itself.
    let mut server = redis.connect();
    server.call(&["CLIENT", "PAUSE", "60000", "WRITE"]).expect_ok();
    promised.send(&["INCR", "promised"]);
    let waits = |line: &str| line.contains("cmd=incr") && line.contains("multi=-1");
    while !server.call(&["CLIENT", "LIST"]).text().lines().any(waits) {
        std::thread::yield_now();
    }

    holder.signal(Signal::TERM);
    // 1, 2: the service manager hears of it, then readiness is off, then nobody is let in.
    assert!(holder.says().starts_with("STOPPING=1\nSTATUS=draining 4 connections"));
    while office.is_open() {
        std::thread::yield_now();
    }
    assert_eq!(holder.readiness(), 503, "it was off before the door was closed");
    // 3: whoever is owed nothing goes at once; Redis still does not answer.
    assert_eq!(idle.rest(), b"");
    // 4: what was promised is answered, and a transaction that is open comes to its end; then those go too.
    server.call(&["CLIENT", "UNPAUSE"]).expect_ok();
    assert_eq!(promised.reply().integer(), 1);
    assert_eq!(promised.rest(), b"");
    assert_eq!(buyer.call(&["EXEC"]).elements()[0].integer(), 1);
    assert_eq!(buyer.rest(), b"");
    // 5, 6: the deadline cuts off who is left, and says who it was.
    let cut = ditherer.stream().read(&mut [0; 1]).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::UnexpectedEof, "in the middle of what it said, without a word");
    // 8: the exit code says that not all left by themselves.
    assert_eq!(holder.await_end().code(), Some(1), "{}", holder.log());
    let mut reasons: Vec<_> =
        holder.records("connection_close").iter().map(|record| record["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["drain", "drain", "drain", "drain-deadline"]);
    assert!(holder.log().contains("cut off"), "{}", holder.log());
    // 7: the records of the end stand last, in their order.
    let (end, stop) = (&holder.records("drain_end")[0], &holder.records("stop")[0]);
    assert_eq!((&end["drained"], &end["aborted"]), (&3.into(), &1.into()));
    assert_eq!(stop["reason"], "deadline");
    assert!(end["seq"].as_u64() < stop["seq"].as_u64());
    assert_eq!(server.call(&["GET", "sold"]).text(), "1", "the one that was cut off has sold nothing");
}

/// A crowd asks before, while and after `change` puts one process in the place of another: no command is lost, none runs
/// twice, and nobody is refused, for somebody listens all the time.
fn no_command_fails_while<'o>(
    redis: &Redis,
    office: &'o Arc<Office>,
    change: impl FnOnce(Holder<'o>) -> Holder<'o>,
) -> Holder<'o> {
    let first = office.start("first", &[]);
    first.await_said("READY=1");
    let crowd = Crowd::before(office, 8);
    crowd.await_more(300);
    let second = change(first);
    crowd.await_more(300);
    let tally = crowd.end();
    account(redis, &tally);
    assert_eq!(tally.refused.load(Ordering::Relaxed), 0);
    second
}

fn drain(mut holder: Holder<'_>) {
    holder.signal(Signal::TERM);
    assert!(holder.await_end().success(), "{}", holder.log());
}

/// The second is there before the first goes.
fn side_by_side<'o>(redis: &Redis, office: &'o Arc<Office>) -> Holder<'o> {
    no_command_fails_while(redis, office, |first| {
        let second = office.start("second", &[]);
        second.await_said("READY=1");
        drain(first);
        second
    })
}

#[test]
fn two_processes_on_a_socket_that_was_handed_down_lose_no_command_between_them() {
    let redis = Redis::start();
    let office = Arc::new(Office::on_a_socket(setup(&redis)));
    let second = side_by_side(&redis, &office);
    assert!(second.records("command").len() > 200);
}

#[test]
fn a_restart_on_a_socket_that_was_handed_down_lets_clients_wait_and_refuses_nobody() {
    let redis = Redis::start();
    let office = Arc::new(Office::on_a_socket(setup(&redis)));
    no_command_fails_while(&redis, &office, |first| {
        drain(first);
        let second = office.start("second", &[]);
        second.await_said("READY=1");
        second
    });
}

#[test]
fn a_second_process_on_the_same_port_takes_over_while_the_first_drains() {
    let redis = Redis::start();
    let office = Arc::new(Office::on_a_port(setup(&redis)));
    drain(side_by_side(&redis, &office));
}

#[test]
fn a_reload_is_announced_and_its_end_too_whatever_became_of_it() {
    let redis = Redis::start();
    let office = Office::on_a_socket(setup(&redis));
    let holder = office.start("only", &[]);
    holder.await_said("READY=1");
    holder.signal(Signal::HUP);
    assert!(holder.says().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(holder.says().starts_with("READY=1"));
    office.spoil("only");
    holder.signal(Signal::HUP);
    assert!(holder.says().starts_with("RELOADING=1"));
    assert!(holder.says().starts_with("READY=1"), "it goes on under the old configuration");
    assert!(holder.log().contains("not reloaded"));
    drop(office.client());
}

#[test]
fn the_watchdog_is_fed_while_threads_answer_and_through_a_drain() {
    let redis = Redis::start();
    let limits = "drain_timeout = \"30s\"";
    let office = Office::on_a_socket(Setup { limits, ..setup(&redis) });
    let mut holder = office.start("only", &[("WATCHDOG_USEC", "400000")]);
    holder.await_said("READY=1");
    holder.await_said("WATCHDOG=1");
    holder.await_said("WATCHDOG=1");
    let mut client = office.client();
    client.call(&["MULTI"]).expect_ok();
    holder.signal(Signal::TERM);
    holder.await_said("STOPPING=1");
    holder.await_said("WATCHDOG=1");
    holder.await_said("WATCHDOG=1");
    client.call(&["DISCARD"]).expect_ok();
    assert!(holder.await_end().success(), "{}", holder.log());
}

#[test]
fn what_was_handed_down_and_is_not_asked_for_ends_the_start() {
    let redis = Redis::start();
    let mut setup = setup(&redis);
    setup.services[0].name = "queue";
    let office = Office::on_a_socket(setup);
    let mut holder = office.start("only", &[]);
    assert_eq!(holder.await_end().code(), Some(1));
    let log = holder.log();
    assert!(log.contains("(cache), which no listener of the configuration asks for"), "{log}");
    // No descriptor at all.
    let text = "export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&-; exec \"$0\" run --config \"$1\"";
    let output = Command::new("sh").arg("-c").arg(text).arg(program()).arg(office.config("only")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("descriptor 3 (unnamed), which the service manager handed down"), "{said}");
}
