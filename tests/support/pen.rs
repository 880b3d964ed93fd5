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

/// A thread for each port, whose pen writes so many lines, waiting for room where there is none. How many bytes they made.
pub fn write_from_threads(ports: Vec<SinkPort>, lines: u64) -> u64 {
    let write = |(port, w): (SinkPort, u16)| {
        thread::spawn(move || {
            let mut pen = Recorder::new(w, CAPACITY);
            for _ in 0..lines {
                if !pen.has_room() {
                    eventually("the sink writes", || {
                        pen.outlet().set_written(port.written());
                        pen.has_room()
                    });
                }
                write_line(&mut pen, &port);
            }
            pen.outlet().rendered()
        })
    };
    let threads: Vec<_> = ports.into_iter().zip(0..).map(write).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
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
