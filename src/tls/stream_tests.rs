//! The stream over sockets that take and give little, that stop, and that break.

use super::*;
use crate::tls::{
    client::{ClientFiles, Name, TlsClient, Trust},
    revocation::Revocation,
    server::MinVersion,
    testing::{Bench, echo},
};
use rustls::pki_types::UnixTime;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n.wrapping_mul(31).wrapping_add(n >> 8) & 0xff).unwrap()).collect()
}

fn client(bench: &Bench) -> TlsClient {
    let own = bench.pki.client("app").unwrap();
    let own = crate::tls::client::Own { cert: bench.file("own.crt", &own.chain), key: bench.file("own.key", &own.key) };
    let files = ClientFiles {
        trust: Trust::Ca(bench.files.client_ca.clone()),
        pins: Vec::new(),
        server_name: None,
        own: Some(own),
        crl: Vec::new(),
        revocation: Revocation::default(),
        min_version: MinVersion::Tls12,
    };
    TlsClient::load(&files, UnixTime::now()).unwrap()
}

/// A stream and the server's pipe behind it, with so many bytes of room between them.
async fn pair(room: usize) -> (Secured<DuplexStream>, crate::tls::pipe::TlsPipe<DuplexStream>) {
    let bench = Bench::new();
    let (tls, client) = (bench.load(), client(&bench));
    let (near, far) = tokio::io::duplex(room);
    let name = Name::new("localhost");
    let chains = crate::tls::chains::Chains::default();
    let far = crate::tls::handshake::accept(&tls, &chains, far);
    let (near, far) = tokio::join!(client.connect(name.as_ref(), near), far);
    (near.unwrap(), far.unwrap().pipe)
}

#[tokio::test]
async fn a_mebibyte_comes_back_whole_from_the_same_pipe_at_the_other_end() {
    for (room, len) in [(97, 64 * 1024), (4096, 1 << 20), (1 << 20, 1 << 20)] {
        let (stream, pipe) = pair(room.max(4096)).await;
        let (mut reads, mut writes) = tokio::io::split(stream);
        let sent = pattern(len);
        let mut back = Vec::new();
        let client = async {
            tokio::join!(
                async {
                    writes.write_all(&sent).await.unwrap();
                    writes.shutdown().await.unwrap();
                },
                async { reads.read_to_end(&mut back).await.unwrap() }
            )
        };
        let (_, (_, end)) = tokio::join!(client, echo(pipe));
        assert_eq!(end.unwrap(), crate::tls::pipe::End::CloseNotify);
        assert!(back == sent, "through {room} bytes");
    }
}

#[tokio::test]
async fn a_read_into_a_small_buffer_keeps_the_rest_for_the_next() {
    let (mut stream, mut pipe) = pair(64 * 1024).await;
    let sent = pattern(10_000);
    crate::tls::testing::write(&mut pipe, &sent).await;
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let mut few = [0; 7];
        let read = stream.read(&mut few).await.unwrap();
        assert!(read > 0);
        got.extend_from_slice(&few[..read]);
    }
    assert_eq!(got, sent);
}

#[tokio::test]
async fn a_write_that_does_not_fit_is_pending_in_doubt_and_not_encrypted_twice() {
    let (mut stream, mut pipe) = pair(4096).await;
    let sent = pattern(20_000);
    let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &sent))).await;
    assert!(first.is_pending());
    assert_eq!(stream.in_doubt(), sent.len(), "all of it is encrypted, and some of it is on its way");
    // The same bytes again, and more behind them, as a queue that grew would offer.
    let more = [&sent[..], b"more"].concat();
    let (taken, got) = tokio::join!(poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &more)), async {
        let mut got = Vec::new();
        while got.len() < sent.len() {
            crate::tls::testing::read(&mut pipe, &mut got).await.unwrap();
        }
        got
    });
    assert_eq!(taken.unwrap(), sent.len());
    assert_eq!((stream.in_doubt(), got == sent), (0, true));
}

#[tokio::test]
async fn what_was_encrypted_when_the_socket_broke_stays_in_doubt() {
    let (mut stream, pipe) = pair(4096).await;
    let sent = pattern(20_000);
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &sent))).await.is_pending());
    drop(pipe);
    assert!(poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &sent)).await.is_err());
    assert_eq!(stream.in_doubt(), sent.len());
    // Asked again it does not begin anew.
    assert!(poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &sent)).await.is_err());
    assert_eq!(stream.in_doubt(), sent.len());
}

#[tokio::test]
async fn replies_that_came_before_the_socket_broke_are_read_before_the_failure() {
    let (mut stream, mut pipe) = pair(64 * 1024).await;
    crate::tls::testing::write(&mut pipe, b"+OK\r\n").await;
    drop(pipe);
    // Something to send that can no longer be sent.
    let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, b"PING\r\n"))).await;
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"+OK\r\n");
    assert!(matches!(stream.read(&mut got).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_stream_that_is_dropped_says_goodbye_unless_something_is_half_sent() {
    let (stream, mut pipe) = pair(64 * 1024).await;
    drop(stream);
    let mut got = Vec::new();
    let end = crate::tls::testing::read(&mut pipe, &mut got).await.unwrap();
    assert_eq!(end, Intake::End(crate::tls::pipe::End::CloseNotify));

    let (mut stream, mut pipe) = pair(4096).await;
    let sent = pattern(20_000);
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &sent))).await.is_pending());
    drop(stream);
    let mut got = Vec::new();
    let end = loop {
        match crate::tls::testing::read(&mut pipe, &mut got).await.unwrap() {
            Intake::Plain(_) => {}
            Intake::End(end) => break end,
        }
    };
    assert_eq!(end, crate::tls::pipe::End::Truncated);
    assert!(got.len() < sent.len(), "what was dropped does not arrive whole");
}
