//! `ravelin explain` says what the proxy does: every verdict of the one is held against the other's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    process::{Command, Stdio},
};
use support::{
    probes::probes,
    process::{PASSWORD, Proxy, program},
    redis::Redis,
    setup::{Service, Setup},
    wire::encode,
};

/// What a run came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// The objects it printed.
    fn answers(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

fn explain(proxy: &Proxy, arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(program())
        .args(["explain", "-c"])
        .arg(proxy.path("ravelin.toml"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    Ran {
        code: output.status.code().expect("not killed"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Says each request alone, on a connection of its own; of each the verdict and rule of its first record.
fn said(proxy: &mut Proxy, requests: &[Vec<Vec<u8>>]) -> Vec<(String, Value)> {
    for request in requests {
        let mut client = proxy.client();
        client.send_raw(&encode(request));
        let stream = client.stream();
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let _ = stream.sock.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    proxy.stop();
    let mut heard: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    let mut order = Vec::new();
    for record in proxy.audit() {
        let conn = record["conn"].as_str().unwrap_or_default().to_owned();
        match record["event"].as_str().unwrap() {
            "connection_open" => order.push(conn),
            "command" | "begin" => {
                let verdict = record["verdict"].as_str().unwrap_or("allow").to_owned();
                heard.entry(conn).or_default().push((verdict, record["rule"].clone()));
            }
            _ => {}
        }
    }
    assert_eq!(order.len(), requests.len(), "one connection for each");
    // The first is the PING of a client that has just come in.
    let of = |conn: &String| heard[conn].get(1).cloned().unwrap_or_else(|| panic!("nothing was recorded of {conn}"));
    order.iter().map(of).collect()
}

#[test]
fn what_it_says_of_every_command_is_what_the_proxy_does() {
    let redis = Redis::with_password(PASSWORD);
    let mut proxy = Proxy::with(&Setup::before(&redis).with(|setup| {
        setup.roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\ndeny = [\"@hyperloglog\", \"CLIENT|ID\", \"GETDEL\"]";
    }));
    let line = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut requests: Vec<Vec<Vec<u8>>> =
        probes().iter().map(|probe| probe.words.iter().map(|word| word.as_bytes().to_vec()).collect()).collect();
    requests.extend(
        ["quit", "client reply on", "exec", "exec x", "nosuch x", "client nosuch", "select +1", "auth x"].map(line),
    );
    requests.extend(
        ["hello 3 auth a b", "CONFIG SET dir /tmp", "config", "json.set a", "sort a by b", "xread streams a 0"]
            .map(line),
    );
    let input: String = requests
        .iter()
        .map(|words| {
            let words: Vec<_> = words.iter().map(|word| String::from_utf8(word.clone()).unwrap()).collect();
            serde_json::to_string(&words).unwrap() + "\n"
        })
        .collect();
    let (cert, _) = proxy.files_for("app");
    let cert = proxy.path(&cert).display().to_string();
    let ran = explain(&proxy, &["--json", "--cert", &cert, "--from", "127.0.0.1"], &input);
    assert_eq!((ran.code, ran.err.as_str()), (6, ""), "some are denied");
    let answers = ran.answers();
    assert_eq!(answers.len(), requests.len());
    let mut kinds = BTreeMap::<String, usize>::new();
    for (answer, (verdict, rule)) in answers.iter().zip(said(&mut proxy, &requests)) {
        *kinds.entry(verdict.clone()).or_default() += 1;
        assert_eq!(answer["verdict"], verdict.as_str(), "{answer} where the proxy recorded {verdict} {rule}");
        assert_eq!(answer["rule"], rule, "{answer}");
        assert_eq!((&answer["role"], &answer["service"]), (&Value::from("app"), &Value::from("cache")));
    }
    assert!(kinds["allow"] > 200 && kinds["deny"] > 100 && kinds["answer"] >= 2, "{kinds:?}");
}

#[test]
fn one_command_is_explained_for_people_and_the_exit_code_tells_it_too() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let allowed = explain(&proxy, &["--as", "app", "--", "GET", "two words", ""], "");
    assert_eq!((allowed.code, allowed.err.as_str()), (0, ""));
    for part in ["role      app of service cache", "command   GET \"two words\" \"\"", "verdict   allowed\n"] {
        assert!(allowed.out.contains(part), "{part} is missing in\n{}", allowed.out);
    }
    let denied = explain(&proxy, &["--as", "app", "--", "config", "set", "dir", "/tmp"], "");
    assert_eq!((denied.code, denied.err.as_str()), (6, ""));
    for part in [
        "verdict   denied by preset:hardened/configuration\n          reads passwords",
        "reply     NOPERM this user has no permissions to run the 'config|set' command\n",
    ] {
        assert!(denied.out.contains(part), "{part} is missing in\n{}", denied.out);
    }
    let many = explain(&proxy, &["--as", "app"], "GET a\n# skipped\nFLUSHALL\n[1]\n");
    assert_eq!(
        many.out,
        "allow   GET a\ndeny    FLUSHALL                                  preset:hardened/destruction\n"
    );
    assert!(many.code == 6 && many.err.contains("line 4: expected a JSON array"), "{} {}", many.code, many.err);
}

#[test]
fn a_rule_is_shown_with_the_line_it_was_written_on() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&Setup::before(&redis).with(|setup| {
        setup.roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\ndeny = [\n  \"GETDEL\",\n  \"@hyperloglog\",\n]\n\
                       [[role]]\nname = \"reader\"\nmatch = [{ cn = \"reader\" }]\nrules = \"+@read +select ~cache:*\"\ndatabases = [3]\n\
                       [[role]]\nname = \"scripted\"\nmatch = [{ cn = \"scripted\" }]\nscripts = \"read-only\"";
        setup.more = "[policy]\ndeny = [\"preset:hardened\",\n  \"@hyperloglog\"]\nshadow = [\"MGET\"]\nscripts = \"deny\"";
    }));
    let text = fs::read_to_string(proxy.path("ravelin.toml")).unwrap();
    let line_of = |part: &str| 1 + text.lines().position(|line| line.contains(part)).unwrap();
    let file = proxy.path("ravelin.toml").display().to_string();
    for (role, command, key, line) in [
        ("app", "GETDEL a", "role.0.deny.0", line_of("\"GETDEL\"")),
        // Both floor and role deny it; the floor speaks first.
        ("app", "PFADD a", "policy.deny.1", line_of("\"@hyperloglog\"]")),
        ("app", "FLUSHALL", "policy.deny.0", line_of("\"preset:hardened\"")),
        ("app", "MGET a", "policy.shadow.0", line_of("shadow = ")),
        ("reader", "SET cache:a 1", "role.1.rules", line_of("rules = ")),
        ("reader", "GET other", "role.1.rules", line_of("rules = ")),
        ("reader", "SELECT 4", "role.1.databases", line_of("databases = ")),
        ("app", "EVAL x 0", "policy.scripts", line_of("scripts = \"deny\"")),
        ("scripted", "EVAL x 0", "role.2.scripts", line_of("scripts = \"read-only\"")),
    ] {
        let ran = explain(&proxy, &["--json", "--as", role], &format!("{command}\n"));
        let answer = &ran.answers()[0];
        assert_eq!(answer["key"], key, "{answer}");
        assert!(answer["place"].as_str().unwrap().starts_with(&format!("{file}:{line}:")), "{answer}, not {line}");
    }
    let page = explain(&proxy, &["--as", "app", "--", "GETDEL", "a"], "").out;
    assert!(page.contains(&format!("\n          {file}:{}:", line_of("\"GETDEL\""))), "{page}");
    assert!(page.contains(": role.0.deny.0\n"), "{page}");
    // What is built in, and the default floor, is written nowhere.
    let built_in = explain(&proxy, &["--json", "--as", "app", "--", "NOSUCH"], "").answers()[0].clone();
    assert!(built_in["place"].is_null() && built_in["rule"] == "builtin/unknown-command", "{built_in}");
}

#[test]
fn a_guard_is_shown_with_the_line_it_was_written_on() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&Setup::before(&redis).with(|setup| {
        setup.roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nclient_kill = \"own\"\n\
                       config = { get = [\"maxmemory\"], set = [\"maxmemory\"] }";
        setup.more = "[policy]\ndeny = [\"FLUSHALL\"]";
    }));
    let text = fs::read_to_string(proxy.path("ravelin.toml")).unwrap();
    for (command, rule, key) in [
        ("CONFIG GET dir", "config:get", "role.0.config"),
        ("CONFIG SET dir /tmp", "config:set", "role.0.config"),
        ("CLIENT KILL TYPE normal", "client_kill:own", "role.0.client_kill"),
    ] {
        let word = key.rsplit('.').next().unwrap();
        let line = 1 + text.lines().position(|line| line.starts_with(&format!("{word} = "))).unwrap();
        let answer = explain(&proxy, &["--json", "--as", "app"], &format!("{command}\n")).answers()[0].clone();
        assert_eq!((&answer["rule"], &answer["key"]), (&rule.into(), &key.into()), "{answer}");
        let place = format!("{}:{line}:", proxy.path("ravelin.toml").display());
        assert!(answer["place"].as_str().unwrap().starts_with(&place), "{answer}, not {line}");
    }
}

#[test]
fn who_would_not_be_let_in_is_told_so_with_the_word_records_have_for_it() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&Setup::before(&redis).with(|setup| setup.services.push(Service::before("other", &redis))));
    let get = |arguments: &[&str]| explain(&proxy, &[arguments, &["--", "GET", "a"]].concat(), "");
    let file = |name: &str| proxy.path(&proxy.files_for(name).0).display().to_string();
    let (app, stranger) = (file("app"), file("stranger"));
    let foreign = certs_dev::Pki::new().unwrap().client("app").unwrap();
    fs::write(proxy.path("foreign.crt"), &foreign.chain).unwrap();
    let foreign = proxy.path("foreign.crt").display().to_string();
    for (arguments, code, part) in [
        (&["--as", "app"][..], 2, "several services (cache, other): name one with --service"),
        (&["--service", "none", "--as", "app"], 2, "no service is called \"none\""),
        (&["--service", "cache", "--as", "ap"], 2, "no role called \"ap\"; there are: app"),
        (&["--service", "cache", "--as", "app"], 0, ""),
        (&["--service", "cache", "--cert", &app, "--from", "10.0.0.7"], 6, "(address-not-allowed)"),
        (&["--service", "cache", "--cert", &stranger], 6, "(no-role)"),
        (&["--service", "cache", "--cert", &foreign], 6, "(unknown-ca)"),
        (&["--service", "cache", "--cert", "/nowhere/x.crt"], 3, "/nowhere/x.crt cannot be read"),
    ] {
        let ran = get(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {} {}", ran.out, ran.err);
        assert!(ran.err.contains(part), "{arguments:?}: {}", ran.err);
        if code == 6 {
            let json = get(&[arguments, &["--json"]].concat());
            let answer = &json.answers()[0];
            assert_eq!(answer["verdict"], "refused");
            assert!(part.contains(answer["reason"].as_str().unwrap()), "{answer}");
        }
    }
}
