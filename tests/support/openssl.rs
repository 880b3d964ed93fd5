//! `openssl` as a client of the proxy, and as a CA's responder.

use super::process::{PATIENCE, Proxy};
use certs_dev::Issued;
use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

/// What a responder says of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Proxy {
    /// What `openssl s_client` prints, which shows a certificate for `app`, asks for PING, and says goodbye. Where it is not
    /// let in, what it prints of that.
    pub fn s_client(&self, arguments: &[&str]) -> String {
        let (cert, key) = self.files_for("app");
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &self.address().to_string(), "-CAfile", "ca.crt"])
            .args(["-cert", &cert, "-key", &key])
            .args(arguments)
            .current_dir(self.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is needed by this test");
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        // An error is a client that has ended; what it printed says why.
        let _ = stdin.write_all(b"PING\r\n");
        let (sender, answered) = mpsc::sync_channel(1);
        let reader = thread::spawn(move || {
            let (mut text, mut buf) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = stdout.read(&mut buf) {
                text.extend_from_slice(&buf[..n]);
                if text.windows(5).any(|window| window == b"+PONG") {
                    let _ = sender.try_send(());
                }
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        // Answered, or ended without an answer: then the sender is gone.
        let waited = answered.recv_timeout(PATIENCE);
        assert!(waited != Err(mpsc::RecvTimeoutError::Timeout), "openssl s_client neither got an answer nor ended");
        let _ = stdin.write_all(b"Q\n");
        drop(stdin);
        let mut said = reader.join().unwrap();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        said
    }
}

/// An OCSP response as `openssl ocsp` makes it for a certificate that `ca` has issued, good for so many days.
pub fn response(dir: &Path, ca: &certs_dev::Authority, issued: &Issued, status: Status, days: Option<u32>) -> PathBuf {
    let file = |name: &str, content: &str| fs::write(dir.join(name), content).unwrap();
    let serial: String = issued.serial.iter().map(|byte| format!("{byte:02X}")).collect();
    // `openssl ca` keeps this table: state, end, revocation, number, file, subject.
    file(
        "index.txt",
        &match status {
            Status::Good => format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN=x\n"),
            Status::Revoked => format!("R\t491231235959Z\t200101000000Z\t{serial}\tunknown\t/CN=x\n"),
            Status::Unknown => "V\t491231235959Z\t\t01\tunknown\t/CN=x\n".to_owned(),
        },
    );
    file("ocsp-ca.crt", &ca.cert);
    file("ocsp-ca.key", &ca.key());
    file("ocsp-leaf.crt", &issued.cert);
    let out = dir.join("made.ocsp");
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(["ocsp", "-index", "index.txt", "-CA", "ocsp-ca.crt", "-issuer", "ocsp-ca.crt"]);
    command.args(["-rsigner", "ocsp-ca.crt", "-rkey", "ocsp-ca.key", "-cert", "ocsp-leaf.crt"]);
    command.args(["-no_nonce", "-respout", out.to_str().unwrap()]);
    if let Some(days) = days {
        command.args(["-ndays", &days.to_string()]);
    }
    let output = command.output().expect("openssl is needed by this test");
    assert!(out.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}
