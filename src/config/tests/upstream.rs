//! The way to Redis: TLS, alternatives, looks and bounds.

use super::{Folder, load, replaced};
use crate::{
    config::settings::{Host, UpstreamAddress},
    tls::client::Trust,
};
use std::time::Duration;

const UPSTREAM: &str = "upstream = { address = \"unix:/run/redis/redis.sock\", password_file = \"password\" }";

fn redis(entries: &str) -> String {
    replaced(UPSTREAM, &format!("upstream = {{ auth = \"none\", {entries} }}"))
}

#[test]
fn tls_opens_the_addresses_that_are_refused_without_it() {
    let digits = "ab".repeat(32);
    let pin = format!("tls = {{ pin = [\"{digits}\"] }}");
    let name = |name: &str, port| UpstreamAddress::Remote { host: Host::Name(name.into()), port };
    let ip = |ip: &str, port| UpstreamAddress::Remote { host: Host::Ip(ip.parse().unwrap()), port };
    for (text, expected) in [
        ("redis.example.com:6380", name("redis.example.com", 6380)),
        ("localhost:1", name("localhost", 1)),
        ("10.0.0.7:6380", ip("10.0.0.7", 6380)),
        ("[2001:db8::7]:6380", ip("2001:db8::7", 6380)),
        ("127.0.0.1:6381", UpstreamAddress::Loopback("127.0.0.1:6381".parse().unwrap())),
        ("unix:/r", UpstreamAddress::Unix("/r".into())),
    ] {
        let settings = load(&redis(&format!("address = \"{text}\", {pin}"))).unwrap();
        assert_eq!(settings.services[0].upstream.address, expected, "{text}");
        assert_eq!(expected.to_string(), text);
        assert_eq!(settings.services[0].upstream.tls.as_ref().unwrap().trust, Trust::Pinned);
    }
}

#[test]
fn faults_of_the_way_to_redis_are_told_each_with_its_place() {
    let digits = "ab".repeat(32);
    let with_pin = |address: &str| format!("address = \"{address}\", tls = {{ pin = [\"{digits}\"] }}");
    let tls = |keys: &str| format!("address = \"redis.example.com:6380\", tls = {{ {keys} }}");
    let here = "address = \"127.0.0.1:6379\"";
    let rows: &[(String, &str)] = &[
        ("address = \"10.0.0.7:6379\"".into(), "use TLS (upstream.tls)"),
        ("address = \"redis.example.com:6379\"".into(), "expected \"unix:/path/to/socket\" or a loopback address"),
        (with_pin("redis.example.com"), "expected a name or an IP address, with a port"),
        (with_pin("redis.example.com:0"), "port 0"),
        (with_pin("redis.example.com:+1"), "expected a name or an IP address"),
        (with_pin("10.0.0.300:1"), "expected a name or an IP address"),
        (with_pin("-redis:1"), "expected a name or an IP address"),
        (with_pin("rediss://u:hunter2@h:1"), "URLs are not understood"),
        (tls(""), "upstream.tls.ca: is missing"),
        (tls("ca = \"ca.crt\", system_roots = true"), "keep one of the two"),
        (tls("pin = []"), "there is no pin in it"),
        (tls("pin = [\"abc\"]"), "is no pin: 64 hexadecimal digits"),
        (tls("system_roots = true, cert = \"a\""), "cert and key come together"),
        (tls("system_roots = true, server_name = \"a b\""), "is no name that a certificate can have"),
        (tls("system_roots = true, min_version = \"1.1\""), "expected \"1.2\" or \"1.3\""),
        ("address = \"unix:/r\", tls = { system_roots = true }".into(), "say it: upstream.tls.server_name"),
        (format!("{here}, alternatives = [\"127.0.0.1:6379\"]"), "is there already"),
        (format!("{here}, alternatives = [\"10.0.0.9:6379\"]"), "is not on this host"),
        (format!("{here}, alternatives = [{}]", "\"unix:/a\", ".repeat(8)), "there are more than 7"),
        (format!("{here}, alternatives = [\"127.0.0.1:1\"], socket_owner = 5"), "this is about Unix sockets"),
        (format!("{here}, health = {{ interval = \"1ms\" }}"), "expected \"100ms\" to \"1h\", or \"0s\" for never"),
        (format!("{here}, health = {{ failures = 0 }}"), "expected 1 to 100, found 0"),
        (format!("{here}, backoff = {{ initial = \"5s\", max = \"1s\" }}"), "shorter than the first"),
        (format!("{here}, connects = {{ at_once = 0 }}"), "expected 1 to 100000, found 0"),
    ];
    for (entries, said) in rows {
        let error = load(&redis(entries)).unwrap_err();
        assert!(error.contains(said), "{entries}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn looks_waits_and_bounds_are_as_written_and_otherwise_the_defaults() {
    let plain = load(&redis("address = \"unix:/r\"")).unwrap();
    let upstream = &plain.services[0].upstream;
    assert_eq!((upstream.tuning.interval, upstream.tuning.failures), (Some(Duration::from_secs(5)), 3));
    assert_eq!((upstream.storm.at_once, upstream.storm.per_second, upstream.addresses().len()), (128, 0, 1));
    let text = "address = \"127.0.0.1:6379\", alternatives = [\"unix:/b\", \"127.0.0.1:2\"], socket_owner = 5, \
                health = { interval = \"0s\", timeout = \"3s\", failures = 4, successes = 5 }, \
                backoff = { initial = \"7ms\", max = \"8ms\" }, connects = { at_once = 6, per_second = 7, waiting = 0 }";
    let settings = load(&redis(text)).unwrap();
    let upstream = &settings.services[0].upstream;
    let shown = upstream.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown, ["127.0.0.1:6379", "unix:/b", "127.0.0.1:2"]);
    let tuning = upstream.tuning;
    assert_eq!((tuning.interval, tuning.timeout), (None, Duration::from_secs(3)));
    assert_eq!((tuning.failures, tuning.successes), (4, 5));
    assert_eq!((tuning.backoff.initial, tuning.backoff.max), (Duration::from_millis(7), Duration::from_millis(8)));
    assert_eq!((upstream.storm.at_once, upstream.storm.per_second, upstream.storm.waiting), (6, 7, 0));
}

#[test]
fn the_files_of_tls_are_among_those_a_configuration_depends_on() {
    let tls = "address = \"r.example:1\", tls = { ca = \"r.ca\", cert = \"own.crt\", key = \"own.key\", server_name = \"x.example\" }";
    let folder = Folder::with(&redis(tls));
    let settings = folder.load(&[], &[]).unwrap();
    let keys: Vec<_> = settings.files().iter().map(|file| file.key).collect();
    for key in ["upstream.tls.ca", "upstream.tls.cert", "upstream.tls.key"] {
        assert!(keys.contains(&key), "{keys:?}");
    }
    let tls = settings.services[0].upstream.tls.as_ref().unwrap();
    assert_eq!(tls.trust, Trust::Ca(folder.0.path().join("r.ca")));
    assert_eq!(tls.server_name.as_ref().unwrap().to_string(), "x.example");
}
