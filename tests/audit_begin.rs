//! Before the fact: after kill -9 under load, nothing that must not run without a line has run without one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    thread,
};
use support::{
    process::Proxy,
    redis::Redis,
    setup::Setup,
    wire::{Reply, encode},
};

const CLIENTS: usize = 4;

/// What each client says again and again, as fast as it is answered, until the process is killed in the midst of it.
fn killed_under_load(setup: &Setup, commands: impl Fn(usize, usize) -> Vec<u8> + Sync, replies: usize) -> Proxy {
    let mut proxy = Proxy::with(setup);
    thread::scope(|scope| {
        let load: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (proxy, commands) = (&proxy, &commands);
                scope.spawn(move || {
                    let mut wire = proxy.client();
                    let mut space = vec![0; replies];
                    for round in 0.. {
                        let said = wire.stream().write_all(&commands(client, round));
                        // All replies are of one length.
                        if said.is_err() || wire.stream().read_exact(&mut space).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        proxy.await_that("some load", |proxy| (proxy.records("begin").len() > 2000).then_some(()));
        proxy.signal(Signal::KILL);
        for client in load {
            client.join().unwrap();
        }
    });
    assert!(!proxy.await_end().success());
    proxy
}

/// The whole lines, of which a kill may have torn the last.
fn begun(proxy: &Proxy, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    proxy.records("begin").into_iter().filter(|record| is(record)).collect()
}

#[test]
fn no_write_has_run_without_its_line_where_all_writes_wait() {
    let redis = Redis::start();
    let setup = Setup { audit: "begin = \"writes\"", ..Setup::before(&redis) };
    let commands = |client: usize, round: usize| -> Vec<u8> {
        (0..8).flat_map(|n| encode(&["SET", &format!("{client}:{round}:{n}"), "v"])).collect()
    };
    let proxy = killed_under_load(&setup, commands, 8 * "+OK\r\n".len());
    let told: HashSet<String> =
        begun(&proxy, |_| true).iter().map(|record| record["keys"][0].as_str().unwrap().to_owned()).collect();
    let Reply::Array(keys) = redis.connect().call(&["KEYS", "*"]) else { panic!("no array") };
    assert!(keys.len() > 1500, "{} keys", keys.len());
    for key in keys {
        assert!(told.contains(&key.text()), "{} was written without a line", key.text());
    }
}

#[test]
fn no_administrative_command_has_run_without_its_line() {
    let redis = Redis::start();
    let setup = Setup { more: "[policy]\ndeny = [\"FLUSHALL\"]", ..Setup::before(&redis) };
    let commands = |client: usize, round: usize| -> Vec<u8> {
        let value = (1000 + client * 100 + round % 100).to_string();
        let pair = [encode(&["CONFIG", "SET", "slowlog-max-len", &value]), encode(&["SET", "k", "v"])].concat();
        pair.repeat(4)
    };
    let proxy = killed_under_load(&setup, commands, 8 * "+OK\r\n".len());
    let begun = begun(&proxy, |record| record["cmd"] == "CONFIG").len();
    assert_eq!(begun, proxy.records("begin").len(), "a SET does not wait");
    let stats = redis.connect().call(&["INFO", "commandstats"]).text();
    // Redis counts it under the name of the command or, from 7.0 on, of the subcommand.
    let calls = stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_config"))
        .filter_map(|line| line.split_once("calls=")?.1.split_once(',')?.0.parse::<usize>().ok());
    let ran: usize = calls.sum();
    assert!(ran > 1000, "{ran} ran");
    assert!(begun >= ran, "{ran} ran, and {begun} have a line");
}
