//! The kinds of places that records go to.

use super::{Folder, MINIMAL, load, with};
use crate::audit::target::Target;

/// The first output of these, in words.
fn understood(outputs: &str) -> String {
    let settings = Folder::with(MINIMAL).load(&[&format!("audit.output={outputs}")], &[]);
    let settings = settings.unwrap_or_else(|error| panic!("{outputs}\n{error}"));
    match &settings.audit.outputs[0].target {
        Target::Stdout => "stdout".to_owned(),
        Target::File(to) => {
            format!("{} {:o} {:?} {:?}", to.path.display(), to.mode, to.rotation, to.fsync)
        }
        Target::Socket(to) => to.address.to_string(),
        Target::Syslog(to) => format!("{} {} {:?} {}", to.address, to.facility, to.hostname, to.message_max),
    }
}

#[test]
fn every_key_of_an_output_means_something() {
    for (outputs, expected) in [
        ("[{ file = { path = '/a' } }]", "/a 600 Rotation { size: None, every: None, keep: None } Never"),
        (
            "[{ file = { path = '/a', rotate_size = '64MiB', rotate_every = '1d', keep = 7 } }]",
            "/a 600 Rotation { size: Some(67108864), every: Some(86400s), keep: Some(7) } Never",
        ),
        (
            "[{ file = { path = '/a', mode = '0640', fsync = '1s' } }]",
            "/a 640 Rotation { size: None, every: None, keep: None } Within(1s)",
        ),
        (
            "[{ file = { path = '/a', mode = '0o660', fsync = 'always' } }]",
            "/a 660 Rotation { size: None, every: None, keep: None } Always",
        ),
        (
            "[{ file = { path = '/a', fsync = 'never' } }]",
            "/a 600 Rotation { size: None, every: None, keep: None } Never",
        ),
        ("[{ syslog = {} }]", "unix:/dev/log 16 None 32768"),
        (
            "[{ syslog = { address = 'udp:127.0.0.1:514', facility = 'audit', hostname = 'h' } }]",
            "udp:127.0.0.1:514 13 Some(\"h\") 2048",
        ),
        (
            "[{ syslog = { address = 'tcp:[::1]:601', facility = 'local7', max_message = '8KiB' } }]",
            "tcp:[::1]:601 23 None 8192",
        ),
        ("[{ socket = { address = '127.0.0.1:5170' } }]", "tcp:127.0.0.1:5170"),
        ("[{ socket = { address = 'tcp:127.0.0.1:5170' } }]", "tcp:127.0.0.1:5170"),
        ("[{ socket = { address = 'unix:/run/c.sock' } }]", "unix:/run/c.sock"),
        // Receivers tell connections apart, so two outputs may have one.
        (
            "[{ socket = { address = 'unix:/run/c.sock' } }, { socket = { address = 'unix:/run/c.sock' } }]",
            "unix:/run/c.sock",
        ),
    ] {
        assert_eq!(understood(outputs), expected, "{outputs}");
    }
}

#[test]
fn every_fault_of_an_output_names_its_key_and_what_was_expected() {
    for (output, words) in [
        ("file = { path = \"x\", keep = 4 }", ["file.keep: no file is put aside", "rotate_size"]),
        ("file = { path = \"x\", rotate_every = \"1d\", keep = 0 }", ["file.keep: expected 1 to 100000", "found 0"]),
        ("file = { path = \"x\", rotate_size = \"1KiB\" }", ["file.rotate_size: expected 64KiB to 1024GiB", "1KiB"]),
        ("file = { path = \"x\", rotate_every = \"0s\" }", ["file.rotate_every: expected \"1s\" to \"365d\"", "0s"]),
        (
            "file = { path = \"x\", mode = \"0666\" }",
            ["file.mode: expected permission bits between \"0600\" and", "0640"],
        ),
        ("file = { path = \"x\", mode = \"0400\" }", ["file.mode: expected permission bits", "0400"]),
        ("file = { path = \"x\", mode = \"rw\" }", ["file.mode: expected permission bits", "rw"]),
        (
            "file = { path = \"x\", fsync = \"often\" }",
            ["file.fsync: expected \"never\", \"always\" or a time", "often"],
        ),
        ("file = { path = \"x\", fsync = \"1ms\" }", ["file.fsync: expected \"10ms\" to \"1h\"", "1ms"]),
        ("syslog = { address = \"loghost:514\" }", ["syslog.address: expected \"unix:\"", "names are not looked up"]),
        ("syslog = { address = \"10.0.0.5:514\" }", ["syslog.address: expected", "\"udp:\" or \"tcp:\""]),
        ("syslog = { facility = \"lokal0\" }", ["syslog.facility", "did you mean \"local0\"?"]),
        ("syslog = { hostname = \"a b\" }", ["syslog.hostname: \"a b\" is not a name of a host", "visible ASCII"]),
        ("syslog = { max_message = 100 }", ["syslog.max_message: expected 480B to 64KiB", "100B"]),
        ("socket = {}", ["socket.address: is missing", "unix:/run/collector.sock"]),
        ("socket = { address = \"udp:10.0.0.5:5170\" }", ["socket.address: expected \"unix:\" and a path", "an IP"]),
        ("socket = { address = \"127.0.0.1:0\" }", ["socket.address: expected", "127.0.0.1:0"]),
    ] {
        let error = load(&with(&format!("[audit]\noutput = [{{ {output} }}]"))).expect_err(output);
        assert!(error.ends_with("\n1 error in the configuration"), "{error}");
        assert!(error.contains("audit.output.0."), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
    }
}

#[test]
fn what_may_lose_or_show_records_is_warned_of() {
    for (output, words) in [
        ("syslog = { address = \"udp:127.0.0.1:514\" }", &["every output is UDP"][..]),
        ("socket = { address = \"10.0.0.5:5170\" }", &["leave this host for 10.0.0.5:5170 in plain text"]),
        ("syslog = { address = \"udp:10.0.0.5:514\" }", &["in plain text", "every output is UDP"]),
        ("file = { path = \"x\", mode = \"0644\" }", &["everybody on this host may read"]),
        ("socket = { address = \"127.0.0.1:5170\" }", &[]),
        ("file = { path = \"x\", mode = \"0640\" }", &[]),
        ("syslog = {}", &[]),
    ] {
        let settings = load(&with(&format!("[audit]\noutput = [{{ {output} }}]"))).unwrap();
        let about: Vec<_> = settings.warnings.iter().filter(|warning| warning.contains("audit")).collect();
        assert_eq!(about.len(), words.len(), "{about:?}");
        assert!(about.iter().zip(words).all(|(warning, word)| warning.contains(word)), "{about:?}");
    }
}
