//! A pen and a sink without a proxy around them.

use ravelin::{
    audit::{
        encode::ConnectionFacts,
        event::ConnectionEvent,
        record::Recorder,
        sink::{SinkHandle, SinkPort},
    },
    moment::Moment,
};
use std::{thread, time::Duration};

pub const CAPACITY: usize = 256 * 1024;
pub const NOW: Moment = Moment { mono_us: 0, wall_us: 1_795_209_003_412_345 };

pub fn facts() -> ConnectionFacts {
    ConnectionFacts::new("c-1", "cache", "10.2.7.9:51022".parse().unwrap(), "cn:api", "billing", None)
}

/// Renders one line and hands it over.
pub fn write_line(pen: &mut Recorder, port: &SinkPort) {
    pen.connection(NOW, &facts(), &ConnectionEvent::Alarm { reason: "test" });
    port.exchange(pen.outlet());
}

/// Renders and hands over until the pen is full, and stays so.
pub fn fill(pen: &mut Recorder, port: &SinkPort) {
    while pen.has_room() {
        write_line(pen, port);
    }
}

/// Writes lines one by one, each as a block of its own that the sink has written before the next one comes.
pub fn write_each(pen: &mut Recorder, port: &SinkPort, lines: usize) {
    for _ in 0..lines {
        write_line(pen, port);
        eventually("the line is written", || port.written() == pen.outlet().rendered());
    }
}

/// Waits for what another thread is about to do; the bound is only ever reached by a failure.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if happened() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}

pub fn end(sink: &SinkHandle) {
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
}

pub fn is_without_holes(sequence: &[u64], lines: u64) -> bool {
    sequence.iter().copied().eq(1..=lines)
}
