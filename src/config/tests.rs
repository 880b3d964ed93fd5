//! The whole way, from the text of a file to settings or errors.

mod checkpoint;
mod faults;
mod outputs;
mod roles;
mod terms;
mod tls;
mod upstream;

use super::{
    Override, Source,
    settings::{ClientAuth, LogFormat, LogLevel, Place, Settings, TlsVersion, UpstreamAddress, Workers},
};
use proptest::prelude::*;
use std::{fs, num::NonZeroU16, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

/// One service, the three TLS files, an allowlist and one role.
const MINIMAL: &str = r#"
[[service]]
name = "cache"
listen = [{ address = "127.0.0.1:6380" }]
upstream = { address = "unix:/run/redis/redis.sock", password_file = "password" }

[tls]
cert = "tls.crt"
key = "tls.key"
client_ca = "/etc/ca.crt"

[admission]
allow = ["127.0.0.0/8"]

[[role]]
name = "app"
match = [{ cn = "app" }]
"#;

/// A folder with a configuration file and the password beside it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ravelin.toml"), text).unwrap();
        let password = dir.path().join("password");
        fs::write(&password, "hunter2\n").unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o400)).unwrap();
        fs::write(dir.path().join("open"), "hunter2\n").unwrap();
        fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o644)).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("ravelin.toml")
    }

    fn load(&self, sets: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let mut source = Source::file(self.file());
        source.overrides.extend(sets.iter().map(|set| Override::set(set).unwrap()));
        source.overrides.extend(variables.iter().map(|(name, value)| Override::variable(name, value).unwrap()));
        // The folder's own name differs from run to run.
        source.load().map_err(|errors| errors.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
}

fn load(text: &str) -> Result<Settings, String> {
    Folder::with(text).load(&[], &[])
}

/// The minimal file with a table added to it.
fn with(table: &str) -> String {
    format!("{MINIMAL}\n{table}\n")
}

/// The minimal file with `from` replaced.
fn replaced(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    MINIMAL.replacen(from, to, 1)
}

#[test]
fn the_minimal_file_is_one_service_the_tls_files_an_allowlist_and_a_role() {
    let folder = Folder::with(MINIMAL);
    let settings = folder.load(&[], &[]).unwrap();
    let [service] = &settings.services[..] else { panic!("{settings:?}") };
    assert_eq!(&*service.name, "cache");
    assert_eq!(service.listeners[0].place, Place::Tcp("127.0.0.1:6380".parse().unwrap()));
    assert!(!service.listeners[0].inline);
    assert_eq!(service.upstream.address, UpstreamAddress::Unix("/run/redis/redis.sock".into()));
    let credential = service.upstream.credential().unwrap();
    assert_eq!((credential.username.as_deref(), credential.password.expose()), (None, &b"hunter2"[..]));
    assert_eq!(service.upstream.client_auth, ClientAuth::Refuse);
    // Relative to the configuration file, wherever the process was started.
    assert_eq!(service.tls.cert, folder.0.path().join("tls.crt"));
    assert_eq!(service.tls.client_ca, PathBuf::from("/etc/ca.crt"));
    assert_eq!(service.tls.min_version, TlsVersion::V12);
    assert!(service.admission.admit("127.0.0.1:1".parse().unwrap()).is_ok());
    assert!(service.admission.admit("10.0.0.1:1".parse().unwrap()).is_err());
    assert_eq!(service.floor, ["preset:hardened"]);
    assert_eq!(service.roles.len(), 1);
    assert_eq!(service.roles[0].name, "app");
    assert_eq!(settings.limits, super::settings::Limits::default());
    assert_eq!(settings.audit, super::settings::Audit::default());
    assert_eq!(settings.log, super::settings::Log::default());
    assert_eq!(settings.admin, None);
    assert_eq!(settings.warnings, Vec::<String>::new());
    let keys: Vec<_> = settings.files().iter().map(|file| file.key).collect();
    assert_eq!(keys, ["the configuration file", "upstream.password_file", "tls.cert", "tls.key", "tls.client_ca"]);
}

#[test]
fn the_session_is_told_what_the_file_says() {
    let text = with(
        "[limits]\nmax_bulk = \"1MiB\"\nmax_words = 99\nheld_command = \"128KiB\"\nunanswered = \"1MiB\"\nidle_timeout = \"7s\"\n[audit]\narguments = \"none\"",
    );
    let text = text
        .replace("6380\" }", "6380\", inline = true }")
        .replace("\"password\" }", "\"password\", username = \"u\", set_name = false, client_auth = \"ignore\" }");
    let settings = load(&text).unwrap();
    let service = &settings.services[0];
    let config = service.session_config(&service.listeners[0], &settings.limits, &settings.audit);
    assert_eq!((config.request.bulk_max, config.request.words_max, config.request.inline), (1 << 20, 99, true));
    assert_eq!((config.held_command_max, config.unanswered_max), (128 << 10, 1 << 20));
    assert_eq!((config.idle_timeout_us, config.stream_from), (7_000_000, 64 << 10));
    assert_eq!(
        (config.client_auth == ClientAuth::Ignore, config.show_keys, config.greeting.set_name),
        (true, false, false)
    );
    assert_eq!(config.greeting.credential.unwrap().username.as_deref(), Some("u"));
}

/// Each key by itself: what is written, and a look at what it became.
#[test]
fn every_key_means_something() {
    type Look = fn(&Settings) -> String;
    let rows: &[(&str, Look, &str)] = &[
        ("limits.max_connections=7", |s| s.limits.max_connections.to_string(), "7"),
        ("limits.max_connections_per_address=8", |s| format!("{:?}", s.limits.max_connections_per_address), "Some(8)"),
        ("limits.max_connections_per_address=0", |s| format!("{:?}", s.limits.max_connections_per_address), "None"),
        (
            "limits.max_connections_per_address=9",
            |s| format!("{:?}", s.services[0].max_connections_per_address),
            "Some(9)",
        ),
        ("limits.handshake_timeout=250ms", |s| format!("{:?}", s.limits.handshake_timeout), "250ms"),
        ("limits.login_timeout=10s", |s| format!("{:?}", s.limits.login_timeout), "10s"),
        ("limits.idle_timeout=2m", |s| format!("{:?}", s.limits.idle_timeout), "Some(120s)"),
        ("limits.idle_timeout=0s", |s| format!("{:?}", s.limits.idle_timeout), "None"),
        ("limits.upstream_connect_timeout=1s", |s| format!("{:?}", s.services[0].upstream.connect_timeout), "1s"),
        ("limits.flush_timeout=1s", |s| format!("{:?}", s.limits.flush_timeout), "1s"),
        ("limits.drain_timeout=1h", |s| format!("{:?}", s.limits.drain_timeout), "3600s"),
        ("limits.max_bulk=4096", |s| s.limits.max_bulk.to_string(), "4096"),
        ("limits.max_bulk=4KiB", |s| s.limits.max_bulk.to_string(), "4096"),
        ("limits.max_words=16", |s| s.limits.max_words.to_string(), "16"),
        ("limits.held_command=64KiB", |s| s.limits.held_command.to_string(), "65536"),
        ("limits.memory=1GiB", |s| s.limits.memory.to_string(), "1073741824"),
        ("limits.unanswered=64KiB", |s| s.limits.unanswered.to_string(), "65536"),
        ("limits.backlog=5", |s| s.limits.backlog.to_string(), "5"),
        ("limits.keepalive.idle=60s", |s| format!("{:?}", s.limits.keepalive.idle), "60s"),
        ("limits.keepalive.interval=9s", |s| format!("{:?}", s.limits.keepalive.interval), "9s"),
        ("limits.keepalive.count=4", |s| s.limits.keepalive.count.to_string(), "4"),
        ("limits.tcp_user_timeout=0s", |s| format!("{:?}", s.limits.tcp_user_timeout), "None"),
        ("limits.tcp_user_timeout=9s", |s| format!("{:?}", s.limits.tcp_user_timeout), "Some(9s)"),
        ("limits.workers=3", |s| format!("{:?}", s.limits.workers), "Fixed(3)"),
        ("limits.workers=auto", |s| format!("{:?}", s.limits.workers), "Auto"),
        ("audit.output=[{ stdout = {} }]", |s| s.audit.outputs[0].target.to_string(), "standard output"),
        ("audit.output=[{ file = { path = '/a' } }]", |s| s.audit.outputs[0].target.to_string(), "/a"),
        ("audit.arguments=none", |s| s.audit.show_keys().to_string(), "false"),
        ("audit.on_full=stall", |_| String::new(), ""),
        ("audit.queue=64KiB", |s| s.audit.queue.to_string(), "65536"),
        (
            "admin.address=127.0.0.1:9180",
            |s| format!("{:?}", s.admin.clone().unwrap().address.unwrap()),
            "127.0.0.1:9180",
        ),
        ("admin.socket.path=/run/a", |s| s.admin.clone().unwrap().socket.unwrap().path.display().to_string(), "/run/a"),
        (
            "admin.socket={ path = '/run/a', mode = '0660', group = 7 }",
            |s| format!("{:?}", s.admin.clone().unwrap().socket.map(|socket| (socket.mode, socket.group))),
            "Some((432, Some(7)))",
        ),
        (
            "admin.socket={ path = '/run/a', mode = '0660', group = 'root' }",
            |s| format!("{:?}", s.admin.clone().unwrap().socket.unwrap().group),
            "Some(0)",
        ),
        ("log.format=json", |s| format!("{:?}", s.log.format), "Json"),
        ("log.level=debug", |s| s.log.level.name().to_owned(), "debug"),
        ("tls.crl=[\"/a.crl\", \"/b.crl\"]", |s| format!("{:?}", s.services[0].tls.crl), "[\"/a.crl\", \"/b.crl\"]"),
        ("tls.min_version=1.3", |s| s.services[0].tls.min_version.to_string(), "1.3"),
        ("tls.client_auth=required", |_| String::new(), ""),
        ("admission.max_per_address=3", |s| format!("{:?}", s.services[0].max_connections_per_address), "Some(3)"),
        ("admission.max_per_address=0", |s| format!("{:?}", s.services[0].max_connections_per_address), "None"),
        ("policy.deny=['preset:hardened', 'KEYS']", |s| s.services[0].floor.join(" "), "preset:hardened KEYS"),
        ("service.0.listen.0.inline=true", |s| s.services[0].listeners[0].inline.to_string(), "true"),
        ("service.0.listen.1.address=[::1]:0", |s| s.services[0].listeners[1].place.to_string(), "[::1]:0"),
        ("service.cache.upstream.address=[::1]:6379", |s| s.services[0].upstream.address.to_string(), "[::1]:6379"),
        (
            "service.cache.upstream.client_auth=ignore",
            |s| format!("{:?}", s.services[0].upstream.client_auth),
            "Ignore",
        ),
        ("service.0.upstream.set_name=false", |s| s.services[0].upstream.greeting.set_name.to_string(), "false"),
        ("service.0.upstream.connect_timeout=1s", |s| format!("{:?}", s.services[0].upstream.connect_timeout), "1s"),
        ("service.0.upstream.socket_owner=42", |s| format!("{:?}", s.services[0].upstream.socket.owner), "Some(42)"),
        ("service.0.upstream.socket_owner='root'", |s| format!("{:?}", s.services[0].upstream.socket.owner), "Some(0)"),
        (
            "service.0.upstream.socket_mode_max='0700'",
            |s| format!("{:o}", s.services[0].upstream.socket.mode_max),
            "700",
        ),
        ("role.app.priority=-5", |s| s.services[0].roles[0].priority.to_string(), "-5"),
        ("role.0.services=['cache']", |s| s.services[0].roles.len().to_string(), "1"),
        ("role.0.deny=['KEYS']", |s| s.services[0].roles.len().to_string(), "1"),
    ];
    let folder = Folder::with(MINIMAL);
    for (set, look, expected) in rows {
        let settings = folder.load(&[set], &[]).unwrap_or_else(|error| panic!("{set}\n{error}"));
        assert_eq!(look(&settings), *expected, "{set}");
    }
}

#[test]
fn every_condition_of_a_match_is_read() {
    let text = replaced(
        "{ cn = \"app\" }",
        "{ uri = 'urn:*', dns = 'A.example', cn = 'c', ou = 'u', o = 'o', email = 'e@x', ip = '10.0.0.0/8' }, \
         { sha256 = 'AB:cd:000000000000000000000000000000000000000000000000000000000000' , serial = '0A:1b', issuer = 'CN=i', \
         spki_sha256 = 'EF11111111111111111111111111111111111111111111111111111111111111' }",
    );
    let settings = load(&text).unwrap();
    let [names, digests] = &settings.services[0].roles[0].matches[..] else { panic!("{settings:?}") };
    let mut identity = crate::policy::identity::Identity {
        uris: vec!["urn:x".into()],
        dns: vec!["a.example".into()],
        emails: vec!["e@x".into()],
        ips: vec!["10.1.1.1".parse().unwrap()],
        cn: Some("c".into()),
        ou: vec!["u".into()],
        o: vec!["o".into()],
        serial: "a1b".into(),
        sha256: format!("abcd{}", "0".repeat(60)),
        spki_sha256: format!("ef{}", "1".repeat(62)),
        issuer: "CN=i".into(),
        not_after: 0,
        anonymous: false,
    };
    assert!(names.holds(&identity) && digests.holds(&identity));
    identity.cn = None;
    identity.serial = "a1c".into();
    assert!(!names.holds(&identity) && !digests.holds(&identity));
}

#[test]
fn a_services_own_tables_replace_the_top_level_ones_whole() {
    let text = with(
        r#"
[[service]]
name = "queue"
listen = [{ address = "127.0.0.1:6381" }]
upstream = { address = "127.0.0.1:6379", auth = "none" }
tls = { cert = "q.crt", key = "q.key", client_ca = "q.ca" }
admission = { allow = ["10.0.0.0/8"] }
policy = { deny = ["preset:hardened", "KEYS"] }
[[role]]
name = "worker"
match = [{ cn = "worker" }]
services = ["queue"]
"#,
    );
    let settings = load(&text).unwrap();
    let [cache, queue] = &settings.services[..] else { panic!("{settings:?}") };
    assert!(cache.tls.cert.ends_with("tls.crt") && queue.tls.cert.ends_with("q.crt"));
    assert!(queue.admission.admit("127.0.0.1:1".parse().unwrap()).is_err());
    assert_eq!((cache.floor.len(), queue.floor.len()), (1, 2));
    assert!(cache.upstream.credential().is_some() && queue.upstream.credential().is_none());
    let names = |service: &super::settings::Service| {
        service.roles.iter().map(|role| role.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((names(cache), names(queue)), ("app".into(), "app worker".into()));
}

#[test]
fn an_error_is_shown_with_its_line_and_a_mark_under_the_fault() {
    let error = load(&with("[limits]\nhandshake_timeout = \"5 parsecs\"")).unwrap_err();
    let expected = r#"error: limits.handshake_timeout: "5 parsecs" has a unit that is not known here; expected "100ms" to "5m"
  --> ravelin.toml:20:21
   |
20 | handshake_timeout = "5 parsecs"
   |                     ^^^^^^^^^^^
  = durations are written "250ms", "5s", "2m", "1h", "7d"

1 error in the configuration"#;
    assert_eq!(error, expected);
}

#[test]
fn all_faults_are_named_at_once_in_the_order_of_the_file() {
    let text = with("[limits]\nbacklog = 0\nbanana = 1\nworkers = \"x\"\n[log]\nlevel = 5")
        .replace("127.0.0.0/8", "nonsense")
        .replace("unix:/run/redis/redis.sock", "10.0.0.1:1");
    let error = load(&text).unwrap_err();
    let keys: Vec<&str> =
        error.lines().filter_map(|line| line.strip_prefix("error: ")?.split_once(':')).map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "service.0.upstream.address",
            "admission.allow.0",
            "limits.backlog",
            "limits.banana",
            "limits.workers",
            "log.level"
        ]
    );
    assert!(error.ends_with("6 errors in the configuration"), "{error}");
}

#[test]
fn an_empty_file_says_what_is_needed() {
    let error = load("").unwrap_err();
    for word in ["service: is missing", "role: is missing"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_about_the_file() {
    let folder = Folder::with("");
    let absent = Source::file(folder.0.path().join("absent.toml")).load().unwrap_err().to_string();
    assert!(absent.contains("absent.toml") && absent.contains("No such file"), "{absent}");
    fs::write(folder.file(), b"a = 1\nb = \"\xff\"").unwrap();
    let binary = folder.load(&[], &[]).unwrap_err();
    assert!(binary.contains("not UTF-8, line 2"), "{binary}");
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let folder = Folder::with(&with("[limits]\nbacklog = 1"));
    let variable: &[_] = &[("RAVELIN_LIMITS__BACKLOG", "2")];
    let backlog = |sets, variables| folder.load(sets, variables).unwrap().limits.backlog.get();
    assert_eq!(backlog(&[], &[]), 1);
    assert_eq!(backlog(&[], variable), 2);
    assert_eq!(backlog(&["limits.backlog=3"], variable), 3);
    assert_eq!(backlog(&["limits.backlog=3", "limits.backlog=4"], variable), 4);
}

#[test]
fn everything_can_come_from_the_environment() {
    let folder = Folder::with("");
    let settings = folder
        .load(
            &[],
            &[
                ("RAVELIN_SERVICE__0__NAME", "cache"),
                ("RAVELIN_SERVICE__0__LISTEN__0__ADDRESS", "127.0.0.1:0"),
                ("RAVELIN_SERVICE__0__UPSTREAM__ADDRESS", "unix:/r"),
                ("RAVELIN_SERVICE__CACHE__UPSTREAM__PASSWORD_FILE", "password"),
                ("RAVELIN_TLS__CERT", "c"),
                ("RAVELIN_TLS__KEY", "k"),
                ("RAVELIN_TLS__CLIENT_CA", "a"),
                ("RAVELIN_TLS__MIN_VERSION", "1.3"),
                ("RAVELIN_ADMISSION__ALLOW", "[\"10.0.0.0/8\"]"),
                ("RAVELIN_ROLE", "unused"),
                ("RAVELIN_ROLE__0__NAME", "app"),
                ("RAVELIN_ROLE__0__MATCH", "[{ cn = 'app' }]"),
            ]
            .into_iter()
            .filter(|(name, _)| Override::variable(name, "").is_some())
            .collect::<Vec<_>>(),
        )
        .unwrap();
    assert_eq!(settings.services[0].tls.min_version, TlsVersion::V13);
    assert_eq!(settings.services[0].roles[0].name, "app");
}

#[test]
fn an_error_about_a_flag_or_a_variable_names_it_and_not_its_value() {
    let folder = Folder::with(MINIMAL);
    type Row = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);
    let rows: &[Row] = &[
        (
            &["limits.backlog=0"],
            &[],
            &["limits.backlog: expected 1 to 65535", "--> --set limits.backlog on the command line"],
        ),
        (&["limits.backlog.x=0", "limits.backlog=0"], &[], &["--set limits.backlog"]),
        (&["tls.cert.x=0"], &[], &["tls.cert is a string, so it has no x"]),
        (&["service.5.name=x"], &[], &["service has 1 elements and none called 5"]),
        (&["service.other.name=x"], &[], &["none called other"]),
        (&["limits..backlog=1"], &[], &["has an empty part"]),
        (&["service.0.upstream.password=hunter2"], &[], &["unknown key", "--set service.0.upstream.password on"]),
        (
            &[],
            &[("RAVELIN_LIMITS__BACKLOG", "0")],
            &["limits.backlog: expected", "--> RAVELIN_LIMITS__BACKLOG in the environment"],
        ),
        (&[], &[("RAVELIN_SERVICE__0__UPSTREAM__PASSWORD", "hunter2")], &["unknown key"]),
        (
            &["admission.allow=['10.0.0.0/8', 5]"],
            &[],
            &["admission.allow.1: expected a string, found a number", "--set admission.allow"],
        ),
    ];
    for (sets, variables, words) in rows {
        let error = folder.load(sets, variables).unwrap_err();
        for word in *words {
            assert!(error.contains(word), "{word:?} is missing in\n{error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_legal_and_unwise_is_a_warning() {
    let rows = [
        (replaced("allow = [\"127.0.0.0/8\"]", ""), "the allowlist is empty, so nobody can connect"),
        (replaced("[admission]\nallow = [\"127.0.0.0/8\"]", ""), "the allowlist is empty, so nobody can connect"),
        (with("[policy]\ndeny = [\"FLUSHALL\"]"), "policy.deny: the preset `preset:hardened` is not part of it"),
        (with("[policy]\ndeny = []"), "policy.deny: the preset `preset:hardened` is not part of it"),
        (with("[admin]\naddress = \"0.0.0.0:9180\""), "admin.address: 0.0.0.0:9180 can be reached from other hosts"),
        (with("[limits]\nmemory = \"16MiB\"\nworkers = 2"), "leaves each less than limits.held_command (16MiB)"),
        (
            with("[[service]]\nname = \"b\"\nlisten = [{ address = \"127.0.0.1:1\" }]\nupstream = { address = \"127.0.0.1:2\", auth = \"none\" }")
                .replace("match =", "services = [\"cache\"]\nmatch ="),
            "service b: no role is for it",
        ),
    ];
    for (text, warning) in rows {
        let settings = load(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        // What the policy itself warns of is `policy::rules`' to test.
        let (of_policy, own): (Vec<_>, Vec<_>) =
            settings.warnings.iter().partition(|said| said.contains(", role app: "));
        assert_eq!(own.len(), 1, "{own:?}");
        assert!(own[0].contains(warning), "{own:?}");
        assert_eq!(of_policy.is_empty(), !text.contains("[policy]"), "{of_policy:?}");
    }
}

#[test]
fn settings_do_not_print_their_password() {
    let settings = load(MINIMAL).unwrap();
    assert!(!format!("{settings:?} {settings:#?}").contains("hunter2"));
}

#[test]
fn debug_forms_used_above_are_what_they_seem() {
    // `Workers::Fixed` prints its number bare; a change there would hide in the table.
    assert_eq!(format!("{:?}", Workers::Fixed(NonZeroU16::new(3).unwrap())), "Fixed(3)");
    assert_eq!(format!("{:?}", Duration::from_secs(120)), "120s");
    assert_eq!(format!("{:?}", LogFormat::Json), "Json");
    assert!(LogLevel::Error < LogLevel::Trace);
}

proptest! {
    #[test]
    fn no_text_is_too_broken_to_be_reported(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..30, "[=\\[\\]{}\"'.,#\\n ä\t0-9a-z]{0,8}"), 1..6),
    ) {
        let mut text: Vec<char> = with("[limits]\nidle_timeout = \"5s\"\n[audit]\noutput = [{ stdout = {} }]").chars().collect();
        for (at, len, put) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + len).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = Source::file("/nonexistent/ravelin.toml").interpret(text) {
            prop_assert!(!errors.errors().is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}
