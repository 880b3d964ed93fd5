//! The admin endpoint over real connections.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that cannot go on should stop where it is"
)]

use ravelin::{
    admin::{AdminState, CONNECTIONS_MAX, HEADER_WITHIN, serve},
    audit::{
        counters::Counters,
        sink::{Sink, Target},
    },
    metrics::{Metrics, WorkerStats},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn state(worker: &Arc<WorkerStats>) -> AdminState {
    let (sink, _) = Sink::open(Target::File("/dev/null".into()), 1).unwrap();
    AdminState::new(Arc::new(Metrics::new("0.1.0", 0, vec![Arc::clone(worker)], vec![sink.monitor()]).unwrap()))
}

async fn start(state: AdminState) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, state));
    address
}

/// Everything that comes back until the server closes.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_has_its_answer_and_nothing_else_is_served() {
    let address = start(state(&Arc::default())).await;
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"), "{metrics}");
    assert!(metrics.contains("ravelin_build_info{version=\"0.1.0\"} 1\n"), "{metrics}");
    for (request, expected) in [
        ("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET /livez?verbose HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
        ("GET /metrics/../etc HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n"),
        ("*1\r\n$4\r\nPING\r\n", "HTTP/1.1 400 Bad Request\r\n"),
    ] {
        let answer = ask(address, request).await;
        assert!(answer.starts_with(expected), "{request:?} got {answer:?}");
    }
}

#[tokio::test]
async fn ready_only_while_every_condition_holds_and_each_is_named() {
    let draining = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&draining);
    let state = state(&Arc::default()).require("listening", || Ok(())).require("not-draining", move || {
        if seen.load(Ordering::Relaxed) { Err("a drain was asked for".into()) } else { Ok(()) }
    });
    let address = start(state).await;
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 OK\r\n"), "{ready}");
    assert!(ready.ends_with("\r\n\r\nok listening\nok not-draining\n"), "{ready}");
    draining.store(true, Ordering::Relaxed);
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{ready}");
    assert!(ready.ends_with("\r\n\r\nok listening\nfailed not-draining: a drain was asked for\n"), "{ready}");
}

#[tokio::test]
async fn a_connection_serves_one_request() {
    let address = start(state(&Arc::default())).await;
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";
    let answer = ask(address, &request.repeat(2)).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
}

#[tokio::test]
async fn who_says_nothing_holds_its_place_only_until_the_header_is_due() {
    let address = start(state(&Arc::default())).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let begun = tokio::time::Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(60), get(address, "/livez")).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(begun.elapsed() + Duration::from_secs(1) > HEADER_WITHIN, "every place was taken until then");
}

#[tokio::test]
async fn a_process_whose_worker_does_not_answer_is_not_live() {
    let worker = Arc::new(WorkerStats::default());
    let address = start(state(&worker)).await;
    let theirs = Arc::clone(&worker);
    let served = tokio::spawn(async move { theirs.serve(Counters::default).await });
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
    served.abort();
    assert!(served.await.unwrap_err().is_cancelled());

    let theirs = Arc::clone(&worker);
    let (stuck, stuck_seen) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = theirs.serve(Counters::default) => {}
                () = async { stuck.send(()).unwrap(); released.recv().unwrap_err(); } => {}
            }
        });
    });
    stuck_seen.await.unwrap();
    let answer = get(address, "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    drop(release);
    thread.join().unwrap();
}
