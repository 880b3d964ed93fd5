//! What a role has of its own, where passwords are looked up, and bans.

use super::{Folder, MINIMAL, load, replaced, with};
use crate::{config::settings::Credentials, policy::bans::Schedule, session::machine::ClientAuth};
use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

const HASH: &str = "#5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

/// The minimal file with further lines of its role and further tables.
fn role(lines: &str, tables: &str) -> String {
    format!("{MINIMAL}{lines}\n{tables}\n")
}

/// A folder with a file of users besides.
fn folder(text: &str, users: &str) -> Folder {
    let folder = Folder::with(text);
    let path = folder.0.path().join("users");
    fs::write(&path, users).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let program = folder.0.path().join("program");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o757)).unwrap();
    folder
}

#[test]
fn a_roles_own_terms_are_in_its_sessions_and_in_nobody_elses() {
    let text = role(
        "upstream = { username = \"one\", password_file = \"password\" }\ndatabases = [3, 0]\nclient_auth = \"ignore\"\n\
         limits = { max_connections = 7, idle_timeout = \"9s\", max_bulk = \"1KiB\", max_words = 16, held_command = \"64KiB\", \
         unanswered = \"64KiB\" }",
        "[[role]]\nname = \"other\"\nmatch = [{ cn = \"other\" }]\n[limits]\nmax_words = 99",
    );
    let settings = load(&text).unwrap();
    let service = &settings.services[0];
    let config = |role| service.session_config_of(role, &service.listeners[0], &settings.limits, &settings.audit);
    let (app, other) = (config("app"), config("other"));
    assert_eq!((app.request.words_max, app.request.bulk_max, app.idle_timeout_us), (16, 1024, 9_000_000));
    assert_eq!((app.held_command_max, app.unanswered_max), (65_536, 65_536));
    assert_eq!((app.client_auth, app.greeting.database.map(|db| db.get())), (ClientAuth::Ignore, Some(3)));
    assert_eq!(app.greeting.credential.unwrap().username.as_deref(), Some("one"));
    assert_eq!((other.request.words_max, other.idle_timeout_us, other.client_auth), (99, 0, ClientAuth::Refuse));
    assert_eq!((other.greeting.database, other.greeting.credential.unwrap().username), (None, None));
    assert_eq!(service.terms_of("app").unwrap().limits.max_connections.unwrap().get(), 7);
    assert!(service.roles[0].policy.databases().unwrap().allow(0));
    assert!(settings.files().iter().any(|file| file.key == "role.upstream.password_file"));
}

#[test]
fn a_fault_of_a_roles_own_terms_is_named_with_its_place() {
    let rows: &[(&str, &str)] = &[
        ("upstream = { username = \"one\" }", "role.0.upstream.password_file: is missing"),
        ("upstream = { password_file = \"open\" }", "role.0.upstream.password_file: "),
        ("upstream = { username = \"o ne\", password_file = \"password\" }", "role.0.upstream.username: \"o ne\""),
        ("upstream = { adress = \"x\" }", "role.0.upstream.adress: unknown key"),
        ("databases = []", "role.0.databases: there is no database in the list"),
        ("databases = [-1]", "role.0.databases.0: expected 0 to 2147483647, found -1"),
        ("client_auth = \"verfy\"", "did you mean \"verify\"?"),
        ("client_auth = \"verify\"", "role.0.client_auth: service cache has no [credentials]"),
        ("client_auth = \"select\"", "role.0.client_auth: service cache has no [credentials]"),
        ("limits = { max_connections = 0 }", "role.0.limits.max_connections: expected 1 to 1000000"),
        ("limits = { idle_timout = \"1s\" }", "did you mean `idle_timeout`?"),
        ("limits = { held_command = \"512MiB\" }", "role.0.limits.held_command: this is more than limits.memory"),
        ("limits = { max_bulk = \"2GiB\" }", "role.0.limits.max_bulk: expected"),
    ];
    for (lines, words) in rows {
        let said = load(&role(lines, "")).unwrap_err();
        assert!(said.contains(words) && said.contains("ravelin.toml:18:"), "{lines}: {words} is missing in {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let open = replaced("password_file = \"password\"", "auth = \"none\"")
        + "upstream = { username = \"one\", password_file = \"password\" }\n";
    assert!(load(&open).unwrap_err().contains("asks nobody for a password"), "{open}");
}

#[test]
fn users_and_helpers_are_read_with_the_configuration() {
    let verify = |table: &str| role("client_auth = \"verify\"", &format!("[credentials]\n{table}"));
    let loaded = folder(&verify("users_file = \"users\""), &format!("a {HASH}\n")).load(&[], &[]).unwrap();
    let Some(Credentials::Users { users, .. }) = &loaded.services[0].credentials else { panic!("{loaded:?}") };
    assert!(users.check(b"a", b"password").is_some());
    assert!(!format!("{loaded:?}").contains("5e884898"), "hashes are as good as short passwords");
    assert!(loaded.files().iter().any(|file| file.key == "credentials.users_file"));

    let loaded = load(&verify("command = [\"/bin/sh\", \"-c\", \"x\"]\ntimeout = \"2s\"\ncache = \"0s\"")).unwrap();
    let Some(Credentials::Helper(helper)) = &loaded.services[0].credentials else { panic!("{loaded:?}") };
    assert_eq!(
        (helper.arguments.len(), helper.timeout, helper.processes, helper.cache),
        (2, Duration::from_secs(2), 4, None)
    );
}

#[test]
fn a_fault_of_users_helpers_and_bans_is_named_with_its_place() {
    let dir = folder(MINIMAL, "");
    let program = format!("command = [\"{}\"]", dir.0.path().join("program").display());
    let rows: &[(&str, &str, &str)] = &[
        ("", "", "credentials: there is neither a users_file nor a command"),
        ("users_file = \"none\"", "", "is no file of users: it cannot be read"),
        ("users_file = \"open\"", "", "as secret as passwords"),
        ("users_file = \"users\"", "# none", "holds no user"),
        ("users_file = \"users\"", "a >hunter2", "line 1: a password in clear"),
        ("users_file = \"users\"", "\n\na hunter2", "line 3: a word that is not understood"),
        ("users_file = \"users\"\ncommand = [\"/bin/sh\"]", "", "credentials.command: there is a users_file too"),
        ("users_file = \"users\"\ntimeout = \"1s\"", "", "credentials.timeout: this is about a program"),
        ("command = []", "", "there is no program in the list"),
        ("command = [\"sh\"]", "", "credentials.command.0: sh: is not an absolute path"),
        ("command = [\"/nonexistent\"]", "", "/nonexistent: "),
        ("command = [\"/tmp\"]", "", "is not a regular file"),
        ("command = [\"/etc/passwd\"]", "", "is not executable"),
        (&program, "", "everybody on this host may change it"),
        ("command = [\"/bin/sh\"]\nprocesses = 65", "", "credentials.processes: expected 1 to 64"),
        ("command = [\"/bin/sh\"]\ncache = \"2h\"", "", "credentials.cache: expected"),
    ];
    for (table, users, words) in rows {
        let text = role("client_auth = \"verify\"", &format!("[credentials]\n{table}"));
        let said = folder(&text, users).load(&[], &[]).unwrap_err();
        assert!(said.contains(words) && said.contains("ravelin.toml:"), "{table}: {words} is missing in {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for (table, words) in [
        ("after = -1", "bans.after: expected 0 to 1000"),
        ("first = \"2h\"", "the longest ban is shorter than the first"),
        ("first = \"0s\"", "bans.first: expected"),
        ("aftr = 1", "did you mean `after`?"),
    ] {
        let said = load(&with(&format!("[bans]\n{table}"))).unwrap_err();
        assert!(said.contains(words), "{table}: {said}");
    }
    let settings = load(&with("[bans]\nafter = 2\nfirst = \"1m\"\nmax = \"2m\"")).unwrap();
    assert_eq!(settings.bans, Schedule { after: 2, first_us: 60_000_000, max_us: 120_000_000 });
    let warnings = load(&with("[bans]\nafter = 0")).unwrap().warnings;
    assert!(warnings[0].contains("ravelin.toml:20:9: bans.after: nobody is sent away"), "{warnings:?}");
}

#[test]
fn a_user_whose_role_nobody_has_and_credentials_nobody_asks_are_told() {
    let table = "[credentials]\nusers_file = \"users\"";
    let users = format!("a role=inne {HASH}\n");
    let inner = format!("[[role]]\nname = \"inner\"\nmatch = []\n{table}");
    let said = folder(&role("client_auth = \"select\"", &inner), &users).load(&[], &[]).unwrap_err();
    assert!(
        said.contains("the role \"inne\", which service cache has not") && said.contains("did you mean \"inner\"?"),
        "{said}"
    );
    let users = users.replace("inne ", "inner ");
    assert!(folder(&role("client_auth = \"select\"", &inner), &users).load(&[], &[]).is_ok());
    let said = folder(&role("", &inner), &users).load(&[], &[]).unwrap_err();
    assert!(said.contains("role.1.match: there is no match, so the role is nobody's"), "{said}");
    let warnings = folder(&role("", table), &users).load(&[], &[]).unwrap().warnings;
    assert!(warnings[0].contains("no role of service cache looks passwords up"), "{warnings:?}");
}

#[test]
fn a_role_with_limited_databases_runs_no_scripts_unless_it_is_told_to_and_is_warned_of_then() {
    let policy = "[policy]\ndeny = [\"FLUSHALL\"]";
    for limits in ["databases = [1]", "rules = \"+@all ~* db=1\""] {
        let with = |scripts: &str| {
            let loaded = load(&role(&format!("{limits}\n{scripts}"), policy)).unwrap();
            let eval = crate::command::catalog::by_full_name("eval").unwrap();
            let verdict = loaded.services[0].roles[0].policy.judge(eval);
            (verdict.lets_through(), loaded.warnings.join("\n"))
        };
        let (runs, warnings) = with("");
        assert!(!runs && !warnings.contains("a script can"), "{limits}: {warnings}");
        let (runs, warnings) = with("scripts = \"read-only\"");
        assert!(
            !runs && warnings.contains("scripts = \"read-only\" runs none where databases are limited"),
            "{warnings}"
        );
        let (runs, warnings) = with("scripts = \"allow\"");
        assert!(runs && warnings.contains("a script can SELECT any database"), "{limits}: {warnings}");
    }
}
