//! One fault after another, each with its place and its words.

use super::{load, replaced, with};

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
        (with("limits = 5"), "ravelin.toml:19:", &["role.0.limits: expected a table"]),
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
        (
            with("[policy]\nscripts = \"read_only\""),
            "ravelin.toml:20:11",
            &["policy.scripts: expected \"deny\" or \"read-only\" or \"allow\", found", "did you mean \"read-only\"?"],
        ),
        (with("[policy]\nscripts = {}"), "ravelin.toml:20:11", &["policy.scripts.pinned", "\"scripts.sha1\""]),
        (
            with("[policy]\nscripts = { pinned = \"nowhere.sha1\" }"),
            "ravelin.toml:20:22",
            &["policy.scripts.pinned: ", "nowhere.sha1: it cannot be read"],
        ),
        (
            replaced("match =", "config = { get = [\"maxmemry\"] }\nmatch ="),
            "ravelin.toml:17:19",
            &["role.0.config.get.0: \"maxmemry\": no parameter of Redis", "did you mean maxmemory?"],
        ),
        (
            replaced("match =", "config = { get = [\"requirepass\"] }\nmatch ="),
            "ravelin.toml:17:19",
            &["role.0.config.get.0: \"requirepass\": its value is a credential"],
        ),
        (
            replaced("match =", "client_kill = \"mine\"\nmatch ="),
            "ravelin.toml:17:15",
            &["role.0.client_kill: expected \"any\" or \"own\", found \"mine\""],
        ),
        (
            replaced("match =", "rules = \"+@read -kyes\"\nmatch ="),
            "ravelin.toml:17:9",
            &["role.0.rules: \"-kyes\" (word 2 of the rules): no command", "did you mean keys?"],
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
            redis("{ address = \"127.0.0.1:6379\", auth = \"hunter2\" }"),
            "ravelin.toml:5:49",
            &["expected \"none\", the only value"],
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
            &["expected a user's name or number, 0 to 4294967294, found -1"],
        ),
        (
            redis("{ address = \"unix:/r\", auth = \"none\", socket_owner = \"no such user\" }"),
            "ravelin.toml:5:",
            &["there is no user \"no such user\" in /etc/passwd", "id -u"],
        ),
        (
            redis("{ address = \"127.0.0.1:6379\", auth = \"none\", tls = true }"),
            "ravelin.toml:5:",
            &["service.0.upstream.tls: expected a table"],
        ),
        // TLS.
        (replaced(tls, "[tls]"), "ravelin.toml:7:", &["tls.cert: is missing", "ravelin certs"]),
        (replaced(tls, "[tls]\ncert = \"\""), "ravelin.toml:8:8", &["tls.cert: is not a path"]),
        (
            replaced(tls, &format!("{tls}\nclient_auth = \"none\"")),
            "ravelin.toml:9:15",
            &["tls.client_auth: no role of service cache is for who shows no certificate"],
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
            "ravelin.toml:17:24",
            &["role.0.match.0.anonymous: this can never hold"],
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
            "ravelin.toml:20:28",
            &["standard output is the place of output \"stdout\" already"],
        ),
        (
            with("[audit]\noutput = [{ stdout = {}, file = { path = \"x\" } }]"),
            "ravelin.toml:20:11",
            &["expected one of stdout, file, syslog and socket"],
        ),
        (with("[audit]\noutput = [{ file = {} }]"), "ravelin.toml:20:20", &["audit.output.0.file.path: is missing"]),
        (with("[audit]\narguments = \"values\""), "ravelin.toml:19:1", &["audit.values: is missing"]),
        (with("[audit]\narguments = \"hashed\""), "ravelin.toml:19:1", &["audit.hash_key_file: is missing"]),
        (
            with("[audit]\narguments = \"hashed\"\nhash_key_file = \"absent\""),
            "ravelin.toml:21:17",
            &["audit.hash_key_file", "absent is no file of a key", "No such file"],
        ),
        (
            with("[audit]\narguments = \"values\"\nvalues = { commands = [] }"),
            "ravelin.toml:21:",
            &["audit.values.commands: no command is named"],
        ),
        (
            with("[audit]\narguments = \"values\"\nvalues = { max_bytes = 2000 }"),
            "ravelin.toml:21:",
            &["audit.values.max_bytes"],
        ),
        (with("[audit]\nwatch = { bulk_read = { within = \"1s\" } }"), "ravelin.toml:20:", &["amount: is missing"]),
        (with("[audit]\narguments = \"all\""), "ravelin.toml:20:13", &["expected \"keys\" or \"hashed\" or"]),
        (with("[audit]\non_full = \"dropp\""), "ravelin.toml:20:11", &["did you mean \"drop\"?"]),
        (
            with("[audit]\noutput = [{ stdout = {}, filter = { roles = [\"ap\"] } }]"),
            "ravelin.toml:20:",
            &["there is no role \"ap\"", "did you mean \"app\"?"],
        ),
        (
            with("[audit]\noutput = [{ stdout = {}, filter = { commands = [\"GETT\"] } }]"),
            "ravelin.toml:20:",
            &["\"GETT\"", "did you mean"],
        ),
        (
            with("[audit]\noutput = [{ stdout = {}, filter = { slower_than = \"2h\" } }]"),
            "ravelin.toml:20:",
            &["audit.output.0.filter.slower_than"],
        ),
        (
            with("[audit]\noutput = [{ stdout = {}, sample = \"0.5\" }]"),
            "ravelin.toml:20:",
            &["expected a part between 0.001% and 100%"],
        ),
        (
            with("[audit]\noutput = [{ stdout = {}, name = \"a\" }, { file = { path = \"x\" }, name = \"a\" }]"),
            "ravelin.toml:20:",
            &["there is an output \"a\" already"],
        ),
        (with("[audit]\nqueue = 5"), "ravelin.toml:20:9", &["audit.queue: expected 64KiB to 1GiB, found 5B"]),
        (with("[admin]"), "ravelin.toml:19:", &["admin.address: is missing"]),
        (with("[admin]\naddress = \"127.0.0.1:6380\""), "ravelin.toml:20:11", &["taken by service cache"]),
        (with("[admin]\nsocket = {}"), "ravelin.toml:20:10", &["admin.socket.path: is missing"]),
        (
            with("[admin]\nsocket = { path = \"/a\", mode = \"0666\" }"),
            "ravelin.toml:20:32",
            &["admin.socket.mode: expected \"0600\" or \"0660\", found \"0666\""],
        ),
        (
            with("[admin]\nsocket = { path = \"/a\", mode = \"0660\", group = \"no such group\" }"),
            "ravelin.toml:20:48",
            &["admin.socket.group: there is no group \"no such group\""],
        ),
        (
            with(&format!("[admin]\nsocket = {{ path = \"/{}\" }}", "a".repeat(107))),
            "ravelin.toml:20:19",
            &["admin.socket.path: a Unix socket's path has at most 107 bytes, and this one 108"],
        ),
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
