//! `ravelin check` as an operator meets it: real files, the real binary, a real Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use certs_dev::Pki;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use support::redis::Redis;

const PASSWORD: &str = "hunter2 with \"quotes\" and \\ backslash";

struct Site {
    dir: tempfile::TempDir,
}

/// What a run of the binary came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Site {
    fn new(socket: &Path) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        let pki = Pki::new().unwrap();
        let server = pki.server(&["localhost", "127.0.0.1"]).unwrap();
        site.write("tls.crt", &server.chain);
        site.write("tls.key", &server.key);
        site.write("ca.crt", &pki.ca.cert);
        site.write("password", PASSWORD);
        site.write(
            "ravelin.toml",
            &format!(
                r#"
[[service]]
name = "cache"
listen = [{{ address = "127.0.0.1:6380" }}]
upstream = {{ address = "unix:{}", password_file = "password" }}
[tls]
cert = "tls.crt"
key = "tls.key"
client_ca = "ca.crt"
[admission]
allow = ["127.0.0.0/8"]
[[role]]
name = "app"
match = [{{ cn = "app" }}]
deny = ["WAIT"]
"#,
                socket.display()
            ),
        );
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn check(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_ravelin"))
            .arg("check")
            .arg("--config")
            .arg(self.path("ravelin.toml"))
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
        for said in [&ran.out, &ran.err] {
            assert!(!said.contains("hunter2"), "the password is shown:\n{said}");
        }
        ran
    }
}

#[test]
fn check_says_what_a_good_configuration_means() {
    let redis = Redis::with_password(PASSWORD);
    let ran = Site::new(redis.socket()).check(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    let expected = [
        "service cache",
        "127.0.0.1:6380",
        "answers and takes the credential (maxclients ",
        "as the default user, password from ",
        "(37 bytes)",
        "refused; it never reaches Redis",
        "CN=localhost",
        "admits          127.0.0.0/8",
        "is for          cn = \"app\"",
        "preset:hardened/",
        "deny:wait",
        "nothing is dropped",
        "ok: `ravelin run` can start with this",
    ];
    for words in expected {
        assert!(ran.out.to_lowercase().contains(&words.to_lowercase()), "{words:?} is missing in\n{}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "colours without a terminal:\n{}", ran.out);
}

#[test]
fn json_for_programs_says_the_same() {
    let redis = Redis::with_password(PASSWORD);
    let ran = Site::new(redis.socket()).check(&["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let facts: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let service = &facts["services"][0];
    assert_eq!(service["name"], "cache");
    assert_eq!(service["tls"]["chain"][0]["subject"], "CN=localhost");
    let rules = service["roles"][0]["rules"].as_array().unwrap();
    let denied =
        |command: &str| rules.iter().any(|rule| rule["denies"].as_array().unwrap().iter().any(|c| c == command));
    assert!(denied("WAIT") && denied("FLUSHALL") && denied("CONFIG|SET"), "{rules:?}");
    assert!(!denied("GET"), "{rules:?}");
    assert_eq!(facts["errors"].as_array().unwrap().len(), 0);
}

#[test]
fn a_wrong_password_is_found_before_the_first_client_does() {
    let redis = Redis::with_password("another");
    let ran = Site::new(redis.socket()).check(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("warning: service cache: Redis answers, but refuses: WRONGPASS"), "{}", ran.out);
}

#[test]
fn a_redis_that_takes_fewer_clients_than_we_do_is_warned_of() {
    let redis = Redis::with(&["maxclients 64"], Some(PASSWORD.as_bytes()));
    let site = Site::new(redis.socket());
    let warned = |set: &str| site.check(&["--set", set]).out.contains("is more than Redis' maxclients (64)");
    assert!(warned("limits.max_connections=65"));
    assert!(!warned("limits.max_connections=64"));
}

#[test]
fn a_socket_open_to_everybody_is_not_given_the_password() {
    let redis = Redis::with_password(PASSWORD);
    fs::set_permissions(redis.socket(), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = Site::new(redis.socket()).check(&[]);
    assert!(ran.out.contains("Redis not asked: the socket's mode is 0777"), "{}", ran.out);
}

#[test]
fn a_redis_that_is_away_is_no_fault_of_the_configuration() {
    let ran = Site::new(Path::new("/nonexistent/redis.sock")).check(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("cannot be reached now"), "{}", ran.out);
    let offline = Site::new(Path::new("/nonexistent/redis.sock")).check(&["--offline"]);
    assert!(!offline.out.contains("cannot be reached"), "{}", offline.out);
}

#[test]
fn a_bad_configuration_is_exit_code_3_and_names_the_place() {
    let site = Site::new(Path::new("/nonexistent/redis.sock"));
    let text = fs::read_to_string(site.path("ravelin.toml")).unwrap();
    site.write("ravelin.toml", &text.replace("\"127.0.0.0/8\"", "\"127.0.0.0/99\""));
    let ran = site.check(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("ravelin.toml:11:10"), "{}", ran.err);
    assert!(ran.err.contains("   |          ^^^^^^^^^^^^^^"), "{}", ran.err);
}

#[test]
fn files_that_run_could_not_use_are_exit_code_3() {
    let site = Site::new(Path::new("/nonexistent/redis.sock"));
    let other = Pki::new().unwrap().server(&["localhost"]).unwrap();
    site.write("other.key", &other.key);
    for (set, words) in [
        ("tls.key=other.key", "other.key: "),
        ("tls.cert=absent.crt", "absent.crt: "),
        ("audit.output=[{ file = { path = '/nonexistent/a.jsonl' } }]", "no folder /nonexistent"),
    ] {
        let ran = site.check(&["--set", set]);
        assert_eq!(ran.code, 3, "{set}\n{}", ran.out);
        assert!(ran.out.contains("error: ") && ran.out.contains(words), "{words} is missing in\n{}", ran.out);
        assert!(!ran.out.contains("ok: "), "{}", ran.out);
    }
}

#[test]
fn outputs_are_told_in_words_and_a_receiver_that_is_missing_is_a_warning() {
    let redis = Redis::with_password(PASSWORD);
    let site = Site::new(redis.socket());
    let output = concat!(
        "audit.output=[{ file = { path = '/tmp/a.jsonl', rotate_size = '1GiB', rotate_every = '1d', keep = 7, fsync = '1s', ",
        "mode = '0640' }, checkpoint = { every = '30s' } }, { syslog = { address = 'tcp:127.0.0.1:601', facility = 'audit' }, events = 'denied' }, ",
        "{ socket = { address = 'unix:/nonexistent/s' } }, { syslog = { address = 'unix:/nonexistent/l' }, on_full = 'drop' }]",
    );
    let ran = site.check(&["--set", output]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    for words in [
        "to /tmp/a.jsonl, rotated at 1GiB and every 1d, 7 kept, on the disk within 1s, made with mode 0640, with keys",
        "without values, with a checkpoint every 30s, unsigned",
        "to syslog tcp:127.0.0.1:601, facility 13, messages of at most 32KiB, with keys, without values, filtered",
        "to unix:/nonexistent/s, with keys",
        "audit.output socket: there is no socket /nonexistent/s; commands will wait until there is",
        "audit.output syslog-2: there is no socket /nonexistent/l; records will be dropped until there is",
    ] {
        let flat = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{words} is missing in\n{}", ran.out);
    }
}

#[test]
fn the_outputs_in_the_documentation_are_a_configuration() {
    let site = Site::new(Path::new("/nonexistent/redis.sock"));
    let text = fs::read_to_string(site.path("ravelin.toml")).unwrap();
    let documented = include_str!("../deploy/docs/audit.md").split("```toml\n").nth(1).unwrap();
    let documented = documented.split("```").next().unwrap();
    assert!(documented.contains("rotate_size") && documented.contains("syslog") && documented.contains("socket"));
    site.write("ravelin.toml", &format!("{text}\n{documented}"));
    let settings = ravelin::config::Source::file(site.path("ravelin.toml")).load();
    let settings = settings.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.audit.outputs.len(), 3);
}

#[test]
fn the_reference_needs_no_configuration() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ravelin")).args(["check", "--reference"]).env_clear().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("limits.max_connections  (a number)"), "{text}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    for arguments in [&["check", "--set", "limits.backlog"][..], &["chekc"], &[]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ravelin")).args(arguments).env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
