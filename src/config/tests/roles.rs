//! Roles: what cannot hold, what is never had, and what each says of its own.

use super::{load, replaced, with};

/// The minimal file with other matches of its role.
fn matching(braces: &str) -> String {
    replaced("{ cn = \"app\" }", braces)
}

#[test]
fn a_match_that_can_never_hold_is_an_error_with_its_place() {
    let digits = "0".repeat(40);
    let rows: &[(&str, &[&str])] = &[
        ("{ anonymous = true }", &["role.0.match.0.anonymous: this can never hold", "client_auth = \"none\""]),
        ("{ anonymous = false }", &["role.0.match.0.anonymous: expected true"]),
        ("{ anonymous = true, cn = 'x' }", &["has no name to match", "braces of its own"]),
        ("{ uri = 'spiffe://PROD/**' }", &["role.0.match.0.uri: this can never hold", "in lower case"]),
        ("{ uri = 'spiffe://prod/a//b' }", &["no SPIFFE id is like that"]),
        ("{ uri = 'spiffe://prod/' }", &["no SPIFFE id is like that"]),
        (&format!("{{ sha256 = '{digits}' }}"), &["expected 64 hexadecimal digits", "SHA-1", "-sha256"]),
        (&format!("{{ spki_sha256 = '{digits}0' }}"), &["role.0.match.0.spki_sha256: expected 64 hexadecimal digits"]),
        ("{ spki_sha265 = 'x' }", &["role.0.match.0.spki_sha265: unknown key", "did you mean `spki_sha256`?"]),
        ("{ isuer = 'x' }", &["did you mean `issuer`?"]),
    ];
    for (braces, words) in rows {
        let said = load(&matching(braces)).unwrap_err();
        assert!(said.contains("ravelin.toml:17:"), "{braces}: {said}");
        for word in *words {
            assert!(said.contains(word), "{braces}: {word} is missing in {said}");
        }
    }
}

#[test]
fn a_match_that_no_certificate_meets_is_warned_of_with_its_place() {
    for (braces, column, words) in [
        ("{ uri = 'prod/a' }", 18, "a URI begins with a scheme"),
        ("{ dns = 'https://x' }", 18, "no DNS name has such a character"),
        ("{ email = 'ops' }", 20, "an email address has an `@`"),
        ("{ serial = '1f' }", 21, "another CA in client_ca may issue the same number"),
    ] {
        let settings = load(&matching(braces)).unwrap();
        let [warning] = &settings.warnings[..] else { panic!("{braces}: {:?}", settings.warnings) };
        assert!(warning.contains(&format!("ravelin.toml:17:{column}: role.0.match.0.")), "{warning}");
        assert!(warning.contains(words), "{warning}");
    }
    for braces in ["{ uri = 'spiffe://prod/**' }", "{ uri = '*' }", "{ serial = '1f', issuer = 'CN=x' }"] {
        assert_eq!(load(&matching(braces)).unwrap().warnings, Vec::<String>::new(), "{braces}");
    }
}

#[test]
fn a_shadowed_role_is_warned_of_with_its_place() {
    let other = |lines: &str| with(&format!("[[role]]\nname = \"other\"\n{lines}"));
    let rows = [
        ("match = [{ cn = 'ap*' }]\npriority = 5", Some("role.0: role app is never had in service cache")),
        ("match = [{ cn = 'app', ou = 'x' }]\npriority = -1", Some("role.1: role other is never had in service cache")),
        ("match = [{ cn = 'app', ou = 'x' }]", Some("role.1: role other lets nobody in in service cache")),
        ("match = [{ cn = 'app', ou = 'x' }]\npriority = 1", None),
        ("match = [{ cn = 'app' }]\npriority = 1\nfrom = ['127.0.0.1']", None),
        ("match = [{ cn = 'app' }]\npriority = -1\nfrom = ['127.0.0.1']", Some("role other is never had")),
        ("match = [{ cn = 'app' }, { cn = 'b' }]\npriority = -1", None),
        ("match = [{ cn = 'b' }]\nfrom = ['10.0.0.0/8']", Some("from where nobody may connect to service cache")),
    ];
    for (lines, expected) in rows {
        let warnings = load(&other(lines)).unwrap().warnings;
        match (expected, &warnings[..]) {
            (None, []) => {}
            (Some(words), [warning]) => {
                assert!(warning.contains(words) && warning.contains("ravelin.toml:"), "{lines}: {warning}");
            }
            (expected, found) => panic!("{lines}: {expected:?}, and found {found:?}"),
        }
    }
}

#[test]
fn roles_with_a_match_in_common_may_stand_beside_each_other_from_different_networks() {
    let text = |from: &str| {
        replaced("match =", "from = ['127.0.0.1/32']\nmatch =")
            + &format!("[[role]]\nname = \"b\"\nmatch = [{{ cn = \"app\" }}]\nfrom = ['{from}']\n")
    };
    assert!(load(&text("127.0.0.2")).is_ok());
    let said = load(&text("127.0.0.0/30")).unwrap_err();
    assert!(said.contains("roles app and b have a match in common"), "{said}");
    let said = load(&replaced("match =", "from = []\nmatch =")).unwrap_err();
    assert!(said.contains("role.0.from: there is no network in the list"), "{said}");
}

#[test]
fn a_door_without_certificates_needs_a_role_for_who_shows_none_and_is_warned_of() {
    let open = replaced("client_ca = \"/etc/ca.crt\"", "client_ca = \"/etc/ca.crt\"\nclient_auth = \"none\"");
    let said = load(&open).unwrap_err();
    assert!(said.contains("tls.client_auth: no role of service cache is for who shows no certificate"), "{said}");
    assert!(said.contains("ravelin.toml:11:15") && said.contains("anonymous = true"), "{said}");
    let settings = load(&open.replace("{ cn = \"app\" }", "{ cn = \"app\" }, { anonymous = true }")).unwrap();
    let [warning] = &settings.warnings[..] else { panic!("{:?}", settings.warnings) };
    assert!(warning.contains("shows no certificate has the role app") && warning.contains(":11:15"), "{warning}");
    assert!(settings.services[0].tls.anonymous && settings.services[0].tls.files().anonymous);
    let said = load(&open.replace("\"none\"", "\"nome\"")).unwrap_err();
    assert!(said.contains("expected \"required\" or \"none\"") && said.contains("did you mean \"none\"?"), "{said}");
}

#[test]
fn rules_are_told_of_with_their_word_and_those_of_a_users_acl_with_their_file() {
    let rules = |line: &str| replaced("match =", &format!("{line}\nmatch ="));
    for (line, words) in [
        ("rules = \"+get ~a -config|st\"", &["\"-config|st\" (word 3 of the rules)", "did you mean config|set?"][..]),
        (
            "rules = \"\"\"\n+get ~a\n  +@raed\"\"\"",
            &["\"+@raed\" (line 2 of the rules, word 1)", "did you mean @read?"],
        ),
        ("rules = \"+get >hunter2\"", &["\">…\" (word 2 of the rules)", "a role has no password"]),
        ("acl = { file = \"users.acl\" }", &["role.0.acl: expected a file and a user"]),
        ("acl = { file = \"nosuch.acl\", user = \"a\" }", &["role.0.acl.file: ", "nosuch.acl is no file of users"]),
        ("acl = { fil = \"x\" }", &["role.0.acl.fil: unknown key", "did you mean `file`?"]),
    ] {
        let said = load(&rules(line)).unwrap_err();
        for word in words {
            assert!(said.contains(word), "{line}: {word} is missing in {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
    let settings = load(&rules("rules = \"-config +@all ~* &*\"")).unwrap();
    let said = settings.warnings.join("\n");
    assert!(said.contains("role app: word 1 of the rules (-config) takes nothing away"), "{said}");
}
