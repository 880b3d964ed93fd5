//! What makes an output of the audit stream provable, and which keys may sign.

use super::{Folder, with};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

/// A folder whose configuration has this `[audit]`, and a key made as the documentation says.
fn folder(audit: &str, algorithm: &str, mode: u32) -> Folder {
    let folder = Folder::with(&with(&format!("[audit]\n{audit}")));
    let key = folder.0.path().join("audit.ed25519");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", algorithm, "-out"]).arg(&key).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    folder
}

#[test]
fn checkpoints_are_off_by_default_and_an_output_has_what_audit_says_or_its_own() {
    let audit = "checkpoint = { every = \"30s\", sign_key = \"audit.ed25519\" }\noutput = [\
        { stdout = {} }, { file = { path = \"a\" }, checkpoint = \"off\" }, { file = { path = \"b\" }, checkpoint = { lines = 500 } }]";
    let settings = folder(audit, "ed25519", 0o400).load(&[], &[]).unwrap();
    let [first, second, third] = &settings.audit.outputs[..] else { panic!("{:?}", settings.audit) };
    let all = first.checkpoint.as_ref().unwrap();
    assert_eq!((all.every, all.lines, all.key.is_some()), (Duration::from_secs(30), None, true));
    assert_eq!(second.checkpoint, None);
    let own = third.checkpoint.as_ref().unwrap();
    assert_eq!((own.every, own.lines, own.key.is_some()), (Duration::from_secs(10), Some(500), false));

    let settings = folder("checkpoint = {}", "ed25519", 0o400).load(&[], &[]).unwrap();
    assert!(settings.audit.outputs[0].checkpoint.is_some(), "standard output has it too");
    let settings = folder("", "ed25519", 0o400).load(&[], &[]).unwrap();
    assert_eq!(settings.audit.outputs[0].checkpoint, None);
}

#[test]
fn a_key_that_others_may_read_or_that_is_no_ed25519_key_is_refused() {
    let audit = "checkpoint = { sign_key = \"audit.ed25519\" }";
    assert!(folder(audit, "ed25519", 0o640).load(&[], &[]).is_ok());
    for (algorithm, mode, expected) in [
        ("ed25519", 0o644, "everybody on this host may read or change it"),
        ("x25519", 0o400, "it is no Ed25519 key"),
        ("ed448", 0o400, "it is no Ed25519 key"),
    ] {
        let error = folder(audit, algorithm, mode).load(&[], &[]).unwrap_err();
        assert!(error.contains(expected) && error.contains("--> ravelin.toml:20:"), "{algorithm}: {error}");
    }
    let folder = folder(audit, "ed25519", 0o400);
    fs::write(folder.0.path().join("password"), "hunter2").unwrap();
    for set in ["audit.checkpoint.sign_key=none", "audit.checkpoint.sign_key=password"] {
        let error = folder.load(&[set], &[]).unwrap_err();
        assert!(error.contains("openssl genpkey") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_checkpoint_that_is_neither_off_nor_a_table_in_bounds_is_a_fault() {
    for (audit, expected) in [
        ("checkpoint = \"on\"", "expected \"off\" or a table, found \"on\""),
        ("checkpoint = { every = \"500ms\" }", "audit.checkpoint.every"),
        ("checkpoint = { every = \"2h\" }", "audit.checkpoint.every"),
        ("checkpoint = { lines = 99 }", "expected 100 to 1000000000, found 99"),
        ("checkpoint = { evry = \"1s\" }", "did you mean"),
    ] {
        let error = folder(audit, "ed25519", 0o400).load(&[], &[]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
