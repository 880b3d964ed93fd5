//! Who may connect when, before real sockets and with looks that the test reports itself.

use super::*;
use crate::config::settings::{Limits, SocketPolicy};
use std::os::unix::fs::PermissionsExt as _;
use tokio::{io::AsyncWriteExt as _, net::UnixListener};

/// Sockets in a folder; what is connected there and to what.
struct World {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Clock::start() }
    }

    fn listen(&self, name: &str) -> UnixListener {
        let path = self.dir.path().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        listener
    }

    fn keeper(&self, names: &[&str], storm: Storm) -> Keeper {
        let addresses = names.iter().map(|name| UpstreamAddress::Unix(self.dir.path().join(name))).collect();
        Keeper::new(addresses, Tuning { successes: 1, ..Tuning::default() }, storm)
    }

    fn look(&self, keeper: &Keeper, seen: Seen, detail: &str) {
        let now = self.clock.now().mono_us;
        keeper.looked(0, seen, detail, now, now);
    }

    async fn connect_within(&self, keeper: &Keeper, timeout: Duration) -> Result<Link, ConnectError> {
        let options = (&Limits::default()).into();
        let way = |address, resolver| Way {
            address,
            policy: SocketPolicy::default(),
            options,
            tls: None,
            resolver,
            preamble: b"",
        };
        keeper.connect(&self.clock, timeout, true, way).await
    }

    async fn connect(&self, keeper: &Keeper) -> Result<Link, ConnectError> {
        self.connect_within(keeper, Duration::from_secs(20)).await
    }
}

/// Polls once, so that whoever is to wait does.
async fn begin<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

#[tokio::test]
async fn the_next_address_is_tried_when_the_first_is_not_there_and_the_switch_is_told() {
    let world = World::new();
    let second = world.listen("second");
    let keeper = world.keeper(&["first", "second"], Storm::default());
    world.connect(&keeper).await.unwrap();
    second.accept().await.unwrap();
    assert_eq!((keeper.used(), keeper.switches()), (1, 1));
    assert_eq!(keeper.take_switches(), [Switch { from: 0, to: 1, seen: Seen::Unreachable }]);
    assert!(keeper.take_switches().is_empty());
    assert!(keeper.ready().is_ok());
    // The first comes back: a look finds it, and new connections go there.
    let first = world.listen("first");
    world.look(&keeper, Seen::Well, "");
    world.connect(&keeper).await.unwrap();
    first.accept().await.unwrap();
    assert_eq!((keeper.used(), keeper.switches()), (0, 2));
}

#[tokio::test]
async fn while_all_are_down_clients_wait_for_the_next_look_and_try_nothing_themselves() {
    let world = World::new();
    let keeper = world.keeper(&["first"], Storm::default());
    let error = world.connect(&keeper).await.unwrap_err();
    assert!(matches!(error, ConnectError::Connect { .. }), "{error}");
    assert!(keeper.ready().unwrap_err().contains("cannot be reached"));
    // It is there again, but nobody has looked.
    let listener = world.listen("first");
    let mut waits = Box::pin(world.connect(&keeper));
    assert!(begin(&mut waits).await);
    assert_eq!(keeper.crowd().0, 1);
    // One that had begun before says nothing of how things are now.
    keeper.looked(0, Seen::Unreachable, "nobody listened", 0, world.clock.now().mono_us);
    assert!(begin(&mut waits).await);
    world.look(&keeper, Seen::Unreachable, "nobody listens");
    let error = waits.await.unwrap_err();
    assert!(matches!(&error, ConnectError::Down { detail, .. } if detail == "nobody listens"), "{error}");
    assert_eq!(error.word(), "connect");
    let mut waits = Box::pin(world.connect(&keeper));
    assert!(begin(&mut waits).await);
    world.look(&keeper, Seen::Well, "");
    waits.await.unwrap();
    listener.accept().await.unwrap();
    assert_eq!(keeper.crowd().0, 0, "nobody waits any more");
}

#[tokio::test]
async fn a_look_that_never_comes_is_waited_for_no_longer_than_the_deadline() {
    let world = World::new();
    let keeper = world.keeper(&["first"], Storm::default());
    world.look(&keeper, Seen::Unreachable, "gone");
    let error = world.connect_within(&keeper, Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Down { .. }), "{error}");
}

#[tokio::test]
async fn what_is_there_and_not_ready_is_connected_to_and_said_to_be_not_ready() {
    let world = World::new();
    let listener = world.listen("first");
    let keeper = world.keeper(&["first"], Storm::default());
    world.look(&keeper, Seen::Loading, "LOADING Redis is loading the dataset in memory");
    world.connect(&keeper).await.unwrap();
    listener.accept().await.unwrap();
    assert!(keeper.ready().unwrap_err().contains("not ready: LOADING"));
}

#[tokio::test]
async fn so_many_are_on_their_way_at_once_until_redis_has_answered_them() {
    let world = World::new();
    let listener = world.listen("first");
    let keeper = world.keeper(&["first"], Storm { at_once: 2, per_second: 0, waiting: 1 });
    let (mut one, two) = (world.connect(&keeper).await.unwrap(), world.connect(&keeper).await.unwrap());
    assert_eq!(keeper.crowd(), (0, 2));
    let mut third = Box::pin(world.connect(&keeper));
    assert!(begin(&mut third).await);
    assert_eq!(keeper.crowd(), (1, 2));
    // There is room for one to wait.
    assert!(matches!(world.connect(&keeper).await, Err(ConnectError::Busy { .. })));
    let (mut redis, _) = listener.accept().await.unwrap();
    redis.write_all(b"-NOAUTH").await.unwrap();
    let mut answer = [0; 7];
    tokio::io::AsyncReadExt::read_exact(&mut one, &mut answer).await.unwrap();
    let third = third.await.unwrap();
    assert_eq!(keeper.crowd(), (0, 2));
    // Whoever leaves makes room as well.
    drop((two, third));
    assert_eq!(keeper.crowd(), (0, 0));
}

#[tokio::test]
async fn whoever_gets_no_turn_in_time_is_told_so() {
    let world = World::new();
    let _listener = world.listen("first");
    let keeper = world.keeper(&["first"], Storm { at_once: 1, per_second: 0, waiting: 9 });
    let _first = world.connect(&keeper).await.unwrap();
    let error = world.connect_within(&keeper, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((error.word(), keeper.crowd().0), ("busy", 0));
    let slow = world.keeper(&["first"], Storm { at_once: 9, per_second: 1, waiting: 9 });
    world.connect(&slow).await.unwrap();
    let error = world.connect_within(&slow, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.word(), "busy", "the next turn is a second away");
}

#[test]
fn our_own_wants_are_not_redis_fault() {
    let error = |code| ConnectError::Connect {
        address: UpstreamAddress::Unix("/r".into()),
        source: io::Error::from_raw_os_error(code),
    };
    assert_eq!(blame(&error(errno::EMFILE)), None);
    assert_eq!(blame(&error(errno::EADDRNOTAVAIL)), None);
    assert_eq!(blame(&error(rustix::io::Errno::CONNREFUSED.raw_os_error())), Some(Seen::Unreachable));
    assert_eq!(blame(&ConnectError::Busy { timeout: Duration::ZERO }), None);
}

#[test]
fn a_reload_that_changes_nothing_keeps_what_is_known() {
    let world = World::new();
    let keeper = world.keeper(&["a", "b"], Storm::default());
    let (addresses, tuning) = (keeper.addresses().to_vec(), keeper.tuning());
    assert!(keeper.serves(&addresses, tuning, Storm::default()));
    assert!(!keeper.serves(&addresses[..1], tuning, Storm::default()));
    assert!(!keeper.serves(&addresses, Tuning { failures: 9, ..tuning }, Storm::default()));
    assert!(!keeper.serves(&addresses, tuning, Storm { per_second: 9, ..Storm::default() }));
}
