//! A recording tap between Ravelin and Redis: a Unix socket in, a Unix socket out, a thread per direction, and every
//! byte of every connection kept.

use super::redis::Redis;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tempfile::TempDir;

/// One connection of the proxy's to Redis.
pub struct Tapped {
    /// What the proxy sent.
    pub up: Mutex<Vec<u8>>,
    /// What Redis sent.
    pub down: Mutex<Vec<u8>>,
    proxy: UnixStream,
    redis: UnixStream,
    over: AtomicBool,
}

/// The tap.
pub struct Tap {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<Arc<Tapped>>>>,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
    // Last: removed after the threads are gone.
    _dir: TempDir,
}

impl Tap {
    /// A tap in front of `redis`.
    pub fn before(redis: &Redis) -> Self {
        let dir = tempfile::Builder::new().prefix("tap-").tempdir().unwrap();
        let path = dir.path().join("redis.sock");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::default();
        let acceptor = thread::spawn({
            let (stop, connections, to) = (Arc::clone(&stop), Arc::clone(&connections), redis.socket().to_owned());
            move || accept(&listener, &to, &stop, &connections)
        });
        Self { path, stop, connections, acceptor: Some(acceptor), _dir: dir }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes connection `choice`, counted among those that are open, on both sides; false if there is none.
    pub fn cut(&self, choice: u64) -> bool {
        let open: Vec<Arc<Tapped>> =
            self.connections.lock().unwrap().iter().filter(|one| !one.over.load(SeqCst)).cloned().collect();
        let Some(one) = usize::try_from(choice).ok().and_then(|choice| open.get(choice % open.len().max(1))) else {
            return false;
        };
        // Errors mean that it is over already.
        let _ = one.proxy.shutdown(Shutdown::Both);
        let _ = one.redis.shutdown(Shutdown::Both);
        true
    }

    /// Waits until every connection is over on both sides, so that Redis has seen all there is to see, and returns them
    /// in the order in which they were made.
    pub fn finish(mut self) -> Vec<Arc<Tapped>> {
        self.stop.store(true, SeqCst);
        drop(UnixStream::connect(&self.path));
        for thread in self.acceptor.take().unwrap().join().unwrap() {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.connections.lock().unwrap())
    }
}

fn accept(
    listener: &UnixListener,
    to: &Path,
    stop: &AtomicBool,
    connections: &Mutex<Vec<Arc<Tapped>>>,
) -> Vec<JoinHandle<()>> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let Ok((proxy, _)) = listener.accept() else { continue };
        if stop.load(SeqCst) {
            return threads;
        }
        threads.retain(|thread| !thread.is_finished());
        let Some(redis) = connect(to) else { continue };
        let one = Arc::new(Tapped { up: Mutex::default(), down: Mutex::default(), proxy, redis, over: false.into() });
        connections.lock().unwrap().push(Arc::clone(&one));
        let other = Arc::clone(&one);
        threads.push(thread::spawn(move || carry(&one.proxy, &one.redis, &one.up, &one.over)));
        threads.push(thread::spawn(move || carry(&other.redis, &other.proxy, &other.down, &other.over)));
    }
}

/// A Redis whose backlog is full answers a moment later.
fn connect(to: &Path) -> Option<UnixStream> {
    for _ in 0..1000 {
        match UnixStream::connect(to) {
            Ok(stream) => return Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
    None
}

/// One direction, to its end. What was read counts as sent even where the other side takes it no more: the proxy has
/// let it go.
fn carry(mut from: &UnixStream, mut to: &UnixStream, record: &Mutex<Vec<u8>>, over: &AtomicBool) {
    let mut chunk = vec![0; 64 * 1024];
    let mut taken = true;
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                record.lock().unwrap().extend_from_slice(&chunk[..count]);
                if taken && to.write_all(&chunk[..count]).is_err() {
                    taken = false;
                    // Its reader learns that nobody listens any more.
                    let _ = from.shutdown(Shutdown::Write);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    over.store(true, SeqCst);
    let _ = to.shutdown(Shutdown::Both);
}
