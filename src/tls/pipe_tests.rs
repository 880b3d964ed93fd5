use super::*;
use crate::tls::chains::Chains;
use crate::tls::testing::{Bench, echo, open, read, shake, write};
use std::future::poll_fn;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Bytes that no shift or loss leaves looking the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n.wrapping_mul(31).wrapping_add(n >> 8) & 0xff).unwrap()).collect()
}

/// A socket that moves at most so many bytes a call.
#[derive(Debug)]
struct Dribble {
    io: tokio::io::DuplexStream,
    step: usize,
}

impl Socket for Dribble {}

impl tokio::io::AsyncRead for Dribble {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut room = vec![0; self.step.min(buf.remaining())];
        let mut some = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut some))?;
        buf.put_slice(some.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let step = self.step.min(bytes.len());
        Pin::new(&mut self.io).poll_write(cx, &bytes[..step])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Sends `sent` through a pipe of this size, has it echoed, and ends in order. The client reads from the start: on so small
/// a pipe the session ticket would else block the handshake.
async fn there_and_back(sent: &[u8], pipe_bytes: usize, step: usize) -> (Vec<u8>, Result<End, Fault>) {
    let bench = Bench::new();
    let tls = bench.load();
    let (near, far) = tokio::io::duplex(pipe_bytes);
    let client = async {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(bench.app()).connect(name, far).await.unwrap();
        let (mut reads, mut writes) = tokio::io::split(stream);
        let mut back = Vec::new();
        tokio::join!(
            async {
                writes.write_all(sent).await.unwrap();
                writes.shutdown().await.unwrap();
            },
            async { reads.read_to_end(&mut back).await.unwrap() }
        );
        back
    };
    let near = Dribble { io: near, step };
    let server =
        async { echo(crate::tls::handshake::accept(&tls, &Chains::default(), near).await.unwrap().pipe).await.1 };
    tokio::join!(client, server)
}

#[tokio::test]
async fn a_mebibyte_comes_back_whole_through_pipes_of_odd_sizes() {
    let sent = pattern(1 << 20);
    // A pipe of a few bytes takes a turn for every few: less is enough there. (Below six bytes rustls' own handshake
    // would lock: each side waits for the other to read.)
    for (pipe_bytes, step, len) in
        [(4096, 1, 8_000), (7, 7, 64 * 1024), (4096, 4096, 1 << 20), (65_536, 65_536, 1 << 20)]
    {
        let (back, end) = there_and_back(&sent[..len], pipe_bytes, step).await;
        assert!(back == sent[..len], "pipe of {pipe_bytes} bytes, {step} at a time");
        assert_eq!(end.unwrap(), End::CloseNotify);
    }
}

#[tokio::test]
async fn a_command_followed_at_once_by_close_notify_is_still_answered() {
    let bench = Bench::new();
    let tls = bench.load();
    let (mut client, mut pipe) = open(&tls, bench.app(), 65_536).await;
    client.write_all(b"PING").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    // One read brings both: the bytes come first, the end after, and then for ever.
    assert_eq!(read(&mut pipe, &mut got).await.unwrap(), Intake::Plain(4));
    for _ in 0..3 {
        assert_eq!(read(&mut pipe, &mut got).await.unwrap(), Intake::End(End::CloseNotify));
    }
    assert_eq!(got, b"PING");
    write(&mut pipe, b"+PONG\r\n").await;
    poll_fn(|cx| pipe.poll_close(cx)).await.unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "+PONG\r\n");
}

#[tokio::test]
async fn a_bare_fin_is_told_from_a_close_notify() {
    let bench = Bench::new();
    let tls = bench.load();
    let (mut client, mut pipe) = open(&tls, bench.app(), 65_536).await;
    client.write_all(b"half a comm").await.unwrap();
    drop(client);
    let mut got = Vec::new();
    assert_eq!(read(&mut pipe, &mut got).await.unwrap(), Intake::Plain(11));
    assert_eq!(read(&mut pipe, &mut got).await.unwrap(), Intake::End(End::Truncated));
    assert_eq!(pipe.end(), Some(End::Truncated));
}

#[tokio::test]
async fn what_follows_a_close_notify_is_neither_read_nor_spun_on() {
    let bench = Bench::new();
    let tls = bench.load();
    let (client, mut pipe) = open(&tls, bench.app(), 65_536).await;
    let (mut io, mut session) = client.into_inner();
    session.send_close_notify();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes.extend([0xaa; 5000]);
    io.write_all(&bytes).await.unwrap();
    assert_eq!(read(&mut pipe, &mut Vec::new()).await.unwrap(), Intake::End(End::CloseNotify));
}

#[tokio::test]
async fn garbage_is_a_fault_and_the_peer_is_sent_an_alert() {
    let bench = Bench::new();
    let tls = bench.load();
    let (client, mut pipe) = open(&tls, bench.app(), 65_536).await;
    let (mut io, mut session) = client.into_inner();
    io.write_all(&[[23, 3, 3, 0, 40].as_slice(), &[0x55; 40]].concat()).await.unwrap();
    let fault = read(&mut pipe, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(fault, Fault::Tls(rustls::Error::DecryptError)), "{fault}");
    drop(pipe);
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await.unwrap();
    let mut bytes = bytes.as_slice();
    let mut said = Ok(());
    while said.is_ok() && session.read_tls(&mut bytes).unwrap() > 0 {
        said = session.process_new_packets().map(|_| ());
    }
    assert_eq!(said, Err(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
}

#[tokio::test]
async fn plaintext_that_arrives_with_the_clients_finished_is_not_lost() {
    let bench = Bench::new();
    let tls = bench.load();
    for early in [pattern(5), pattern(30_000)] {
        let (client, server) = shake(&tls, bench.app(), 1 << 20, &early).await;
        let mut pipe = server.unwrap().pipe;
        let mut got = Vec::new();
        while got.len() < early.len() {
            assert!(matches!(read(&mut pipe, &mut got).await.unwrap(), Intake::Plain(_)));
        }
        assert!(got == early);
        drop(client);
    }
}

#[tokio::test]
async fn pending_len_bounds_what_waits_and_is_zero_when_nothing_does() {
    let bench = Bench::new();
    let tls = bench.load();
    let (mut client, mut pipe) = open(&tls, bench.app(), 1000).await;
    let sent = pattern(100_000);
    pipe.write_plain(&[IoSlice::new(&sent[..40_000]), IoSlice::new(&sent[40_000..])]).unwrap();
    assert!(pipe.pending_len() >= 100_000 && pipe.wants_write());
    let blocked = poll_fn(|cx| Poll::Ready(pipe.poll_flush(cx))).await;
    assert!(blocked.is_pending());
    assert!(pipe.pending_len() > 98_000, "{}", pipe.pending_len());
    let mut got = vec![0; sent.len()];
    tokio::join!(async { poll_fn(|cx| pipe.poll_flush(cx)).await.unwrap() }, async {
        client.read_exact(&mut got).await.unwrap();
    });
    assert!(got == sent);
    assert_eq!((pipe.pending_len(), pipe.wants_write()), (0, false));
}

#[tokio::test]
async fn both_protocols_are_spoken_and_named() {
    let bench = Bench::new();
    let tls = bench.load();
    for (version, name) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
        let client = bench.client(Some(&bench.pki.client("app").unwrap()), &[version]);
        let (_client, pipe) = open(&tls, client, 65_536).await;
        assert_eq!(pipe.protocol(), name);
        assert_ne!(pipe.cipher(), "unknown");
        assert_eq!(pipe.server_name(), Some("localhost"));
        assert_eq!(pipe.peer_chain().len(), 1);
    }
}

/// A real socket: the client's end, bare, with its TLS state, and the pipe.
async fn over_tcp(bench: &Bench) -> (TcpStream, rustls::ClientConnection, TlsPipe<TcpStream>) {
    let tls = bench.load();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, _) = listener.accept().await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(bench.app());
    let chains = Chains::default();
    let (client, server) =
        tokio::join!(connector.connect(name, far), crate::tls::handshake::accept(&tls, &chains, near));
    let (io, session) = client.unwrap().into_inner();
    (io, session, server.unwrap().pipe)
}

fn encrypt(session: &mut rustls::ClientConnection, plain: &[u8]) -> Vec<u8> {
    session.writer().write_all(plain).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[tokio::test]
async fn an_end_is_noticed_while_unread_bytes_lie_before_it_and_reading_goes_on_after() {
    let bench = Bench::new();
    let (mut io, mut session, mut pipe) = over_tcp(&bench).await;
    session.set_buffer_limit(None);
    let sent = pattern(50_000);
    let bytes = encrypt(&mut session, &sent);
    io.write_all(&bytes).await.unwrap();
    // Nothing has ended yet, however much lies there; the waker stays registered for what comes.
    pipe.socket().readable().await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(pipe.poll_hangup(cx))).await.is_pending());
    let (_, ()) = tokio::join!(async { io.shutdown().await.unwrap() }, poll_fn(|cx| pipe.poll_hangup(cx)));
    let mut got = Vec::new();
    let end = loop {
        match read(&mut pipe, &mut got).await.unwrap() {
            Intake::Plain(_) => {}
            Intake::End(end) => break end,
        }
    };
    assert!(got == sent);
    assert_eq!(end, End::Truncated);
}

#[tokio::test]
async fn reading_resumes_after_a_pause_without_an_end() {
    let bench = Bench::new();
    let (mut io, mut session, mut pipe) = over_tcp(&bench).await;
    let mut got = Vec::new();
    for round in 0..3 {
        let bytes = encrypt(&mut session, b"0123456789");
        io.write_all(&bytes).await.unwrap();
        pipe.socket().readable().await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(pipe.poll_hangup(cx))).await.is_pending());
        assert_eq!(read(&mut pipe, &mut got).await.unwrap(), Intake::Plain(10), "round {round}");
    }
    // And by the usual way again.
    let bytes = encrypt(&mut session, b"abc");
    let (_, intake) = tokio::join!(io.write_all(&bytes), read(&mut pipe, &mut got));
    assert_eq!(intake.unwrap(), Intake::Plain(3));
}

#[tokio::test]
async fn half_a_record_waits_for_its_other_half() {
    let bench = Bench::new();
    let (mut io, mut session, mut pipe) = over_tcp(&bench).await;
    let bytes = encrypt(&mut session, &pattern(10_000));
    let (first, second) = bytes.split_at(5_000);
    io.write_all(first).await.unwrap();
    pipe.socket().readable().await.unwrap();
    let mut got = Vec::new();
    let mut scratch = Scratch::new();
    let nothing = poll_fn(|cx| Poll::Ready(pipe.poll_read_plain(cx, &mut scratch, &mut got))).await;
    assert!(nothing.is_pending() && pipe.edge.inside_record());
    assert!(rustix::net::sockopt::tcp_quickack(pipe.socket()).unwrap());
    io.write_all(second).await.unwrap();
    assert_eq!(read(&mut pipe, &mut got).await.unwrap(), Intake::Plain(10_000));
    assert!(!pipe.edge.inside_record() && got == pattern(10_000));
}
