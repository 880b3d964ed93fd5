//! Memory per idle TLS connection: each did one PING, then two seconds of silence.

use crate::process::{Memory, file_limit, memory};
use crate::report::{Progress, Table};
use crate::rig::{PASSWORD, Rig};
use crate::targets::Target;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What an idle connection may take of Ravelin.
const LIMIT_KIB: f64 = 16.0;
const SILENCE: Duration = Duration::from_secs(2);
/// Not counted: what the first connections of a process make it allocate once and for all.
const FIRST: usize = 16;

pub fn table(rig: &Rig, targets: &[Target], connections: usize) {
    // The proxy has two descriptors a connection, and some of its own.
    let most = file_limit() / 2 - 100;
    let connections = connections.clamp(FIRST, most);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connector = TlsConnector::from(Arc::new(client(rig)));
    let progress = Progress::new();
    let mut table = Table::new(&["KiB per idle connection", "connections", "Pss", "VmRSS", "of limit"]);
    for target in targets.iter().filter(|target| target.tls) {
        // A thread each, and 130 KiB: a tenth says as much.
        let connections = if target.name == "stunnel" { connections.div_ceil(10) } else { connections };
        progress.say(&format!("{}: {connections} connections", target.name));
        let pid = target.proxy.as_ref().unwrap_or(&rig.redis).pid();
        let (before, after) = runtime.block_on(async {
            let mut open = Vec::with_capacity(connections + FIRST);
            for _ in 0..FIRST {
                open.push(connect(&connector, target).await);
            }
            tokio::time::sleep(SILENCE).await;
            let before = memory(pid);
            for _ in 0..connections {
                open.push(connect(&connector, target).await);
            }
            tokio::time::sleep(SILENCE).await;
            (before, memory(pid))
        });
        let each =
            |figure: fn(&Memory) -> u64| figure(&after).saturating_sub(figure(&before)) as f64 / connections as f64;
        let proportional = each(|memory| memory.proportional);
        table.row(vec![
            target.name.to_owned(),
            connections.to_string(),
            format!("{proportional:.1}"),
            format!("{:.1}", each(|memory| memory.resident)),
            format!("{:.2}", proportional / LIMIT_KIB),
        ]);
    }
    progress.done();
    table.print();
    println!();
    println!("of limit: Pss over {LIMIT_KIB} KiB, the most Ravelin is to take. redis-tls is Redis with its own TLS.");
}

fn client(rig: &Rig) -> ClientConfig {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates just minted")
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&rig.ca));
    let key = PrivateKeyDer::from_pem_slice(rig.client.key.as_bytes()).expect("a key just minted");
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&rig.client.chain), key)
        .expect("the key of the certificate")
}

async fn connect(connector: &TlsConnector, target: &Target) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a proper name");
    let mut stream = connector
        .connect(name, socket)
        .await
        .unwrap_or_else(|error| panic!("{}: the handshake failed: {error}", target.name));
    let (request, wanted) = if target.auth {
        (format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{PASSWORD}\r\n*1\r\n$4\r\nPING\r\n", PASSWORD.len()), "+OK\r\n+PONG\r\n")
    } else {
        ("*1\r\n$4\r\nPING\r\n".to_owned(), "+PONG\r\n")
    };
    stream.write_all(request.as_bytes()).await.expect("the proxy takes a PING");
    let mut reply = vec![0; wanted.len()];
    stream.read_exact(&mut reply).await.expect("the proxy answers a PING");
    assert_eq!(String::from_utf8_lossy(&reply), wanted, "{}: a PING's answer", target.name);
    stream
}
