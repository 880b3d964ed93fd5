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
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tempfile::TempDir;

/// One connection of the proxy's to Redis.
pub struct Tapped {
    /// What the proxy sent.
    pub up: Mutex<Vec<u8>>,
    /// What Redis sent and the proxy's socket took.
    pub down: Mutex<Vec<u8>>,
    proxy: UnixStream,
    redis: UnixStream,
    over: AtomicBool,
    /// Of which life of Redis it is.
    life: u64,
}

/// The tap.
pub struct Tap {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    /// Even while there is a Redis; a connection of another life than this hears nothing more.
    life: Arc<AtomicU64>,
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
        let life = Arc::<AtomicU64>::default();
        let acceptor = thread::spawn({
            let (stop, connections, to) = (Arc::clone(&stop), Arc::clone(&connections), redis.socket().to_owned());
            let life = Arc::clone(&life);
            move || accept(&listener, &to, &stop, &life, &connections)
        });
        Self { path, stop, life, connections, acceptor: Some(acceptor), _dir: dir }
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

    /// From now on nothing that Redis says reaches the proxy: what is answered from here to [`Tap::return_to`] counts as
    /// never answered, whatever Redis still runs.
    pub fn deafen(&self) {
        self.life.fetch_add(1, SeqCst);
    }

    /// Takes the socket away: whoever connects finds no file, or one behind which nobody listens.
    pub fn leave(&self, stale: bool) {
        fs::rename(&self.path, self.away()).unwrap();
        if stale {
            drop(UnixListener::bind(&self.path).unwrap());
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    /// Puts it back, before a Redis that has begun anew.
    pub fn return_to(&self) {
        let deaf = self.life.load(SeqCst) % 2;
        self.life.fetch_add(deaf, SeqCst);
        fs::rename(self.away(), &self.path).unwrap();
    }

    fn away(&self) -> PathBuf {
        self.path.with_extension("away")
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
    life: &Arc<AtomicU64>,
    connections: &Mutex<Vec<Arc<Tapped>>>,
) -> Vec<JoinHandle<()>> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let Ok((proxy, _)) = listener.accept() else { continue };
        if stop.load(SeqCst) {
            return threads;
        }
        threads.retain(|thread| !thread.is_finished());
        let now = life.load(SeqCst);
        // What the proxy says to nobody is dropped with its socket, as it is where Redis goes before it accepts.
        let Some(redis) = connect(to).filter(|_| now.is_multiple_of(2) && life.load(SeqCst) == now) else { continue };
        let one = Arc::new(Tapped {
            up: Mutex::default(),
            down: Mutex::default(),
            proxy,
            redis,
            over: false.into(),
            life: now,
        });
        connections.lock().unwrap().push(Arc::clone(&one));
        let (other, life) = (Arc::clone(&one), Arc::clone(life));
        threads.push(thread::spawn(move || carry_up(&one)));
        threads.push(thread::spawn(move || carry_down(&other, &life)));
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

/// What the proxy says, to its end. It counts as sent even where Redis takes it no more: the proxy has let it go.
fn carry_up(one: &Tapped) {
    let mut taken = true;
    each_chunk(&one.proxy, |chunk| {
        one.up.lock().unwrap().extend_from_slice(chunk);
        // That Redis is gone is for the other direction to say, behind all that it has said before.
        taken = taken && (&one.redis).write_all(chunk).is_ok();
    });
    one.over.store(true, SeqCst);
    let _ = one.redis.shutdown(Shutdown::Both);
}

/// What Redis says, to its end. Only what the proxy's socket took counts: that the proxy reads, whatever ends then.
fn carry_down(one: &Tapped, life: &AtomicU64) {
    let mut taken = true;
    each_chunk(&one.redis, |chunk| {
        let mut rest = chunk;
        while taken && life.load(SeqCst) == one.life && !rest.is_empty() {
            match (&one.proxy).write(rest) {
                Ok(count) if count > 0 => {
                    one.down.lock().unwrap().extend_from_slice(&rest[..count]);
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => taken = false,
            }
        }
        if !taken {
            // Redis learns that nobody listens any more.
            let _ = one.redis.shutdown(Shutdown::Write);
        }
    });
    one.over.store(true, SeqCst);
    let _ = one.proxy.shutdown(Shutdown::Both);
}

fn each_chunk(mut from: &UnixStream, mut take: impl FnMut(&[u8])) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => take(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
