//! The whole way, from the text of a file to settings or errors.

use super::{
    Override, Source,
    settings::{AuditOutput, ClientAuth, LogFormat, LogLevel, Settings, TlsVersion, UpstreamAddress, Workers},
};
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
    assert_eq!(service.listeners[0].address, "127.0.0.1:6380".parse().unwrap());
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
    assert_eq!((config.ignore_client_auth, config.show_keys, config.greeting.set_name), (true, false, false));
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
        ("audit.output=[{ stdout = {} }]", |s| format!("{:?}", s.audit.output), "Stdout"),
        ("audit.output=[{ file = { path = '/a' } }]", |s| format!("{:?}", s.audit.output), "File(\"/a\")"),
        ("audit.arguments=none", |s| s.audit.show_keys.to_string(), "false"),
        ("audit.on_full=stall", |_| String::new(), ""),
        ("audit.queue=64KiB", |s| s.audit.queue.to_string(), "65536"),
        ("admin.address=127.0.0.1:9180", |s| format!("{:?}", s.admin.unwrap().address), "127.0.0.1:9180"),
        ("log.format=json", |s| format!("{:?}", s.log.format), "Json"),
        ("log.level=debug", |s| s.log.level.name().to_owned(), "debug"),
        ("tls.crl=[\"/a.crl\", \"/b.crl\"]", |s| format!("{:?}", s.services[0].tls.crl), "[\"/a.crl\", \"/b.crl\"]"),
        ("tls.min_version=1.3", |s| s.services[0].tls.min_version.to_string(), "1.3"),
        ("tls.client_auth=required", |_| String::new(), ""),
        ("admission.max_per_address=3", |s| format!("{:?}", s.services[0].max_connections_per_address), "Some(3)"),
        ("admission.max_per_address=0", |s| format!("{:?}", s.services[0].max_connections_per_address), "None"),
        ("policy.deny=['preset:hardened', 'KEYS']", |s| s.services[0].floor.join(" "), "preset:hardened KEYS"),
        ("service.0.listen.0.inline=true", |s| s.services[0].listeners[0].inline.to_string(), "true"),
        ("service.0.listen.1.address=[::1]:0", |s| s.services[0].listeners[1].address.to_string(), "[::1]:0"),
        ("service.cache.upstream.address=[::1]:6379", |s| s.services[0].upstream.address.to_string(), "[::1]:6379"),
        (
            "service.cache.upstream.client_auth=ignore",
            |s| format!("{:?}", s.services[0].upstream.client_auth),
            "Ignore",
        ),
        ("service.0.upstream.set_name=false", |s| s.services[0].upstream.greeting.set_name.to_string(), "false"),
        ("service.0.upstream.connect_timeout=1s", |s| format!("{:?}", s.services[0].upstream.connect_timeout), "1s"),
        ("service.0.upstream.socket_owner=42", |s| format!("{:?}", s.services[0].upstream.socket.owner), "Some(42)"),
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
         { sha256 = 'AB:cd:000000000000000000000000000000000000000000000000000000000000' , serial = '0A:1b' }",
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
        not_after: 0,
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

/// A file, and what must be in the one error it gives: the place, and the words.
#[test]
fn every_fault_names_its_place_and_what_was_expected() {
    let tls = "[tls]\ncert = \"tls.crt\"";
    let upstream = "upstream = { address = \"unix:/run/redis/redis.sock\", password_file = \"password\" }";
    let redis = |text: &str| replaced(upstream, &format!("upstream = {text}"));
    let rows: Vec<(String, &str, &[&str])> = vec![
        // Syntax and kinds.
        (with("[limits]\nbacklog = "), "ravelin.toml:20:", &["not TOML"]),
        (with("[log]\n[log]"), "ravelin.toml:20:2", &["not TOML", "duplicate"]),
        (
            with("[limits]\nbacklog = \"five\""),
            "ravelin.toml:20:11",
            &["limits.backlog: expected a number, found a string"],
        ),
        (with("[limits]\nbacklog = 1.5"), "ravelin.toml:20:11", &["found a number with a fraction"]),
        (with("[limits]\nbacklog = 99999999999999999999"), "ravelin.toml:20:11", &["too large"]),
        (with("[log]\nformat = 5"), "ravelin.toml:20:10", &["log.format: expected a string, found a number"]),
        (with("limits = 5"), "ravelin.toml:19:", &["role.0.limits: unknown key"]),
        (replaced("[\"127.0.0.0/8\"]", "\"127.0.0.0/8\""), "ravelin.toml:13:9", &["admission.allow: expected a list"]),
        // Keys.
        (with("[limit]"), "ravelin.toml:19:2", &["limit: unknown key", "did you mean `limits`?"]),
        (
            with("[limits]\nmax_conections = 5"),
            "ravelin.toml:20:1",
            &["limits.max_conections: unknown", "`max_connections`"],
        ),
        (
            with("[limits]\nbanana = 5"),
            "ravelin.toml:20:1",
            &["limits.banana: unknown key", "known here: max_connections, "],
        ),
        (with("[policy]\nscripts = \"deny\""), "ravelin.toml:20:1", &["policy.scripts: this key is planned"]),
        (
            replaced("match =", "rules = \"+@all\"\nmatch ="),
            "ravelin.toml:17:1",
            &["role.0.rules: this key is planned"],
        ),
        // Services.
        (replaced("\"cache\"", "\"a b\""), "ravelin.toml:3:8", &["service.0.name: \"a b\" is not a name"]),
        (replaced("name = \"cache\"\n", ""), "ravelin.toml:2:", &["service.0.name: is missing"]),
        (replaced(upstream, ""), "ravelin.toml:2:", &["service.0.upstream: is missing"]),
        (
            replaced("listen = [{ address = \"127.0.0.1:6380\" }]", "listen = []"),
            "ravelin.toml:4:10",
            &["service.0.listen: there is no listener"],
        ),
        (
            replaced("127.0.0.1:6380", ":6380"),
            "ravelin.toml:4:23",
            &["service.0.listen.0.address: \":6380\" is not", "\"0.0.0.0:6380\""],
        ),
        (replaced("127.0.0.1:6380", "localhost:6380"), "ravelin.toml:4:23", &["names are not looked up"]),
        (replaced("127.0.0.1:6380", "127.0.0.1"), "ravelin.toml:4:23", &["add a port"]),
        (replaced("127.0.0.1:6380", "systemd:x"), "ravelin.toml:4:23", &["planned"]),
        (
            replaced("6380\" }", "6380\" }, { address = \"0.0.0.0:6380\" }"),
            "ravelin.toml:4:",
            &["taken by another listener (127.0.0.1:6380)"],
        ),
        (
            with(
                "[[service]]\nname = \"cache\"\nlisten = [{ address = \"[::]:1\" }]\nupstream = { address = \"127.0.0.1:2\", auth = \"none\" }",
            ),
            "ravelin.toml:20:8",
            &["service.1.name: another service"],
        ),
        // Upstream.
        (redis("{ password_file = \"password\" }"), "ravelin.toml:5:12", &["service.0.upstream.address: is missing"]),
        (
            redis("{ address = \"10.0.0.9:6379\", password_file = \"password\" }"),
            "ravelin.toml:5:24",
            &["10.0.0.9:6379 is not on this host", "plain text"],
        ),
        (
            redis("{ address = \"[::ffff:10.0.0.9]:6379\", auth = \"none\" }"),
            "ravelin.toml:5:24",
            &["is not on this host"],
        ),
        (redis("{ address = \"0.0.0.0:6379\", auth = \"none\" }"), "ravelin.toml:5:24", &["is not on this host"]),
        (
            redis("{ address = \"/run/redis.sock\", auth = \"none\" }"),
            "ravelin.toml:5:24",
            &["write \"unix:/run/redis.sock\""],
        ),
        (redis("{ address = \"localhost:6379\", auth = \"none\" }"), "ravelin.toml:5:24", &["names are not looked up"]),
        (
            redis("{ address = \"redis://:hunter2@127.0.0.1:6379\", auth = \"none\" }"),
            "ravelin.toml:5:24",
            &["URLs are not understood"],
        ),
        (redis("{ address = \"127.0.0.1:6380\", auth = \"none\" }"), "ravelin.toml:4:23", &["own Redis listens"]),
        (redis("{ address = \"127.0.0.1:0\", auth = \"none\" }"), "ravelin.toml:5:24", &["port 0"]),
        (
            redis(&format!("{{ address = \"unix:/{}\", auth = \"none\" }}", "x".repeat(107))),
            "ravelin.toml:5:24",
            &["longer than the 107 bytes"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\" }"),
            "ravelin.toml:5:12",
            &["service.0.upstream.password_file: is missing", "auth = \"none\"", "protected mode"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", auth = \"password\" }"),
            "ravelin.toml:5:49",
            &["expected \"none\", found \"password\""],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", auth = \"none\", password_file = \"password\" }"),
            "ravelin.toml:5:73",
            &["keep one of the two"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", username = \"u\", auth = \"none\" }"),
            "ravelin.toml:5:53",
            &["username without a password_file"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", username = \"u v\", password_file = \"password\" }"),
            "ravelin.toml:5:53",
            &["not a user's name"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", password_file = \"absent\" }"),
            "ravelin.toml:5:58",
            &["absent is no password file", "No such file"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", password_file = \"open\" }"),
            "ravelin.toml:5:58",
            &["everybody on this host", "mode 0644", "chmod o-rw"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", password = \"hunter2\", auth = \"none\" }"),
            "ravelin.toml:5:42",
            &["service.0.upstream.password: unknown key", "password_file"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", auth = \"none\", client_auth = \"ignor\" }"),
            "ravelin.toml:5:",
            &["expected \"refuse\" or \"ignore\"", "did you mean \"ignore\"?"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", auth = \"none\", socket_owner = 5 }"),
            "ravelin.toml:5:",
            &["service.0.upstream.socket_owner: this is about Unix sockets"],
        ),
        (
            redis("{ address = \"unix:/r\", auth = \"none\", socket_mode_max = \"0888\" }"),
            "ravelin.toml:5:",
            &["octal permission bits"],
        ),
        (
            redis("{ address = \"unix:/r\", auth = \"none\", socket_owner = -1 }"),
            "ravelin.toml:5:",
            &["expected 0 to 4294967294, found -1"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", auth = \"none\", tls = true }"),
            "ravelin.toml:5:",
            &["service.0.upstream.tls: this key is planned"],
        ),
        // TLS.
        (replaced(tls, "[tls]"), "ravelin.toml:7:", &["tls.cert: is missing", "ravelin certs"]),
        (replaced(tls, "[tls]\ncert = \"\""), "ravelin.toml:8:8", &["tls.cert: is not a path"]),
        (
            replaced(tls, &format!("{tls}\nclient_auth = \"none\"")),
            "ravelin.toml:9:15",
            &["tls.client_auth: \"none\" is planned", "always required"],
        ),
        (
            replaced(tls, &format!("{tls}\nmin_version = \"1.1\"")),
            "ravelin.toml:9:15",
            &["expected \"1.2\" or \"1.3\", found \"1.1\""],
        ),
        (replaced(tls, &format!("{tls}\nmin_version = 1.2")), "ravelin.toml:9:15", &["expected a string"]),
        // Admission.
        (
            replaced("127.0.0.0/8", "127.0.0.0/33"),
            "ravelin.toml:13:10",
            &["admission.allow.0: \"127.0.0.0/33\" is not a network"],
        ),
        (
            replaced("127.0.0.0/8", "10.0.0.5/8"),
            "ravelin.toml:13:10",
            &["\"10.0.0.0/8\" for the network or \"10.0.0.5\""],
        ),
        (
            replaced("allow = [", "deny = [\"x\"]\nallow = ["),
            "ravelin.toml:13:9",
            &["admission.deny.0: \"x\" is not a network"],
        ),
        (
            replaced("allow = [", "max_per_address = -1\nallow = ["),
            "ravelin.toml:13:19",
            &["expected 0 to 1000000, found -1"],
        ),
        // Policy and roles.
        (
            with("[policy]\ndeny = [\"preset:hardened\", \"NOSUCH\"]"),
            "ravelin.toml:20:28",
            &["policy.deny.1: ", "NOSUCH"],
        ),
        (replaced("match =", "deny = [\"NOSUCH\"]\nmatch ="), "ravelin.toml:17:9", &["role.0.deny.0: ", "NOSUCH"]),
        (replaced("match = [{ cn = \"app\" }]", ""), "ravelin.toml:15:", &["role.0.match: is missing"]),
        (replaced("[{ cn = \"app\" }]", "[]"), "ravelin.toml:17:9", &["role.0.match: there is no match"]),
        (replaced("{ cn = \"app\" }", "{}"), "ravelin.toml:17:10", &["role.0.match.0: there is no condition"]),
        (
            replaced("{ cn = \"app\" }", "{ cn = \"\" }"),
            "ravelin.toml:17:17",
            &["role.0.match.0.cn: the pattern is empty"],
        ),
        (
            replaced("{ cn = \"app\" }", "{ anonymous = true }"),
            "ravelin.toml:17:12",
            &["role.0.match.0.anonymous: this key is planned"],
        ),
        (
            replaced("{ cn = \"app\" }", "{ sha256 = \"ab\" }"),
            "ravelin.toml:17:21",
            &["expected 64 hexadecimal digits, found \"ab\""],
        ),
        (replaced("{ cn = \"app\" }", "{ serial = \"x\" }"), "ravelin.toml:17:21", &["expected hexadecimal digits"]),
        (
            replaced("{ cn = \"app\" }", "{ ip = \"x\" }"),
            "ravelin.toml:17:17",
            &["role.0.match.0.ip: \"x\" is not a network"],
        ),
        (
            replaced("match =", "services = [\"cash\"]\nmatch ="),
            "ravelin.toml:17:13",
            &["no service is called \"cash\"", "\"cache\""],
        ),
        (replaced("match =", "services = []\nmatch ="), "ravelin.toml:17:12", &["no service in the list"]),
        (
            replaced("match =", "priority = 1001\nmatch ="),
            "ravelin.toml:17:12",
            &["expected -1000 to 1000, found 1001"],
        ),
        (
            with("[[role]]\nname = \"app\"\nmatch = [{ cn = \"b\" }]"),
            "ravelin.toml:20:8",
            &["role.1.name: another role"],
        ),
        (
            with("[[role]]\nname = \"b\"\nmatch = [{ cn = \"app\" }]"),
            "ravelin.toml:19:",
            &["roles app and b have a match in common", "priority"],
        ),
        // Limits.
        (
            with("[limits]\nmax_connections = 0"),
            "ravelin.toml:20:19",
            &["limits.max_connections: expected 1 to 1000000, found 0"],
        ),
        (with("[limits]\nmax_words = -1"), "ravelin.toml:20:13", &["expected 16 to 16777216, found -1"]),
        (with("[limits]\nbacklog = 65536"), "ravelin.toml:20:11", &["expected 1 to 65535, found 65536"]),
        (
            with("[limits]\nhandshake_timeout = \"0s\""),
            "ravelin.toml:20:21",
            &["expected \"100ms\" to \"5m\", found \"0s\""],
        ),
        (
            with("[limits]\nhandshake_timeout = \"5 parsecs\""),
            "ravelin.toml:20:21",
            &["\"5 parsecs\" has a unit that is not known", "\"250ms\", \"5s\""],
        ),
        (with("[limits]\nhandshake_timeout = \"5\""), "ravelin.toml:20:21", &["\"5\" has no unit"]),
        (with("[limits]\nhandshake_timeout = 5"), "ravelin.toml:20:21", &["expected a string, found a number"]),
        (with("[limits]\nidle_timeout = \"1ms\""), "ravelin.toml:20:16", &["or \"0s\" for never, found \"1ms\""]),
        (
            with("[limits]\nmax_bulk = \"2GiB\""),
            "ravelin.toml:20:12",
            &["limits.max_bulk: expected 1KiB to 1GiB, found 2GiB"],
        ),
        (with("[limits]\nmax_bulk = \"64KB\""), "ravelin.toml:20:12", &["\"64KB\" has a unit of which nobody knows"]),
        (with("[limits]\nmax_bulk = -1"), "ravelin.toml:20:12", &["found -1"]),
        (
            with("[limits]\nmemory = \"1MiB\""),
            "ravelin.toml:20:10",
            &["limits.memory (1MiB) is less than limits.held_command (16MiB)"],
        ),
        (with("[limits]\nworkers = 0"), "ravelin.toml:20:11", &["expected 1 to 256 or \"auto\", found 0"]),
        (
            with("[limits]\nworkers = \"many\""),
            "ravelin.toml:20:11",
            &["expected 1 to 256 or \"auto\", found \"many\""],
        ),
        (
            with("[limits.keepalive]\nidle = \"1500ms\""),
            "ravelin.toml:20:8",
            &["limits.keepalive.idle: \"1500ms\" is not a whole number of seconds"],
        ),
        (with("[limits.keepalive]\ncount = 128"), "ravelin.toml:20:9", &["expected 1 to 127, found 128"]),
        // Audit, admin, log.
        (with("[audit]\noutput = []"), "ravelin.toml:20:10", &["audit.output: there is no output"]),
        (
            with("[audit]\noutput = [{ stdout = {} }, { stdout = {} }]"),
            "ravelin.toml:20:10",
            &["exactly one output, found 2", "planned"],
        ),
        (
            with("[audit]\noutput = [{ stdout = {}, file = { path = \"x\" } }]"),
            "ravelin.toml:20:11",
            &["expected one of stdout and file"],
        ),
        (with("[audit]\noutput = [{ file = {} }]"), "ravelin.toml:20:20", &["audit.output.0.file.path: is missing"]),
        (
            with("[audit]\noutput = [{ file = { path = \"x\", keep = 4 } }]"),
            "ravelin.toml:20:",
            &["audit.output.0.file.keep: this key is planned"],
        ),
        (with("[audit]\narguments = \"values\""), "ravelin.toml:20:13", &["\"values\" is planned", "never recorded"]),
        (with("[audit]\narguments = \"all\""), "ravelin.toml:20:13", &["expected \"keys\" or \"none\""]),
        (with("[audit]\non_full = \"drop\""), "ravelin.toml:20:11", &["\"drop\" is planned"]),
        (with("[audit]\nqueue = 5"), "ravelin.toml:20:9", &["audit.queue: expected 64KiB to 1GiB, found 5B"]),
        (with("[admin]"), "ravelin.toml:19:", &["admin.address: is missing"]),
        (with("[admin]\naddress = \"127.0.0.1:6380\""), "ravelin.toml:20:11", &["taken by service cache"]),
        (with("[log]\nlevel = \"verbose\""), "ravelin.toml:20:9", &["log.level: expected \"error\" or \"warn\""]),
    ];
    let mut wrong = Vec::new();
    for (text, place, words) in rows {
        let Err(error) = load(&text) else {
            wrong.push(format!("this was accepted:\n{text}"));
            continue;
        };
        let one = error.ends_with("\n1 error in the configuration");
        let placed = error.contains(&format!("--> {place}"));
        if !one || !placed || !words.iter().all(|word| error.contains(word)) || error.contains("hunter2") {
            wrong.push(format!("expected {words:?} once, at {place}, and no secret, in\n{error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
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
    assert_eq!(format!("{:?} {:?}", LogFormat::Json, AuditOutput::Stdout), "Json Stdout");
    assert!(LogLevel::Error < LogLevel::Trace);
}
