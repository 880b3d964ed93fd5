//! Sums over anything: they end, take bounded room, and show nothing that acts on a terminal.

use super::{Reader, SelectArgs};
use crate::cli::{
    audit::{
        input::Lines,
        report::{self, Read},
    },
    terminal::Screen,
};
use proptest::prelude::*;
use std::path::Path;

fn read(text: &[u8]) -> (Reader, String) {
    let mut reader = Reader::new(&SelectArgs::default(), 5);
    reader.read(&mut Lines::new(text), Path::new("x")).unwrap();
    let read = Read { bytes: reader.bytes, passed_over: reader.passed_over };
    let screen = Screen { colour: false, unicode: true, width: Some(100) };
    let page = report::page(&reader.tally, read, 5, screen);
    // It can be written as JSON, whatever is in it.
    serde_json::to_string(&report::value(&reader.tally, read, 5)).unwrap();
    (reader, page)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_to_their_end(text in prop::collection::vec(any::<u8>(), 0..4000)) {
        let (reader, page) = read(&text);
        prop_assert_eq!(reader.bytes, text.len() as u64);
        prop_assert!(!page.replace('\n', "").chars().any(crate::audit::hidden), "{:?}", page);
    }

    #[test]
    fn any_record_is_shown_harmless(
        rows in prop::collection::vec((any::<[u64; 4]>(), prop::collection::vec(any::<String>(), 8), 0_usize..8), 1..8),
    ) {
        let events = ["command", "command", "command", "connection_open", "connection_close", "gap", "refused", "client_auth"];
        let mut text = String::new();
        for ([us, bytes_in, bytes_out, dropped], texts, event) in &rows {
            let ts = if texts[0].len() % 2 == 0 { "2026-11-21T12:00:00.000001Z" } else { texts[0].as_str() };
            let outcome = ["ran", "error", "denied"][usize::try_from(us % 3).unwrap()];
            let record = serde_json::json!({
                "v": 1, "ts": ts, "event": events[*event], "conn": texts[1], "identity": texts[2], "role": texts[3],
                "cmd": texts[4], "sub": texts[5], "rule": texts[6], "reply": texts[7], "reason": texts[0], "src": texts[1],
                "outcome": outcome, "us": us, "bytes_in": bytes_in,
                "bytes_out": bytes_out, "dropped": dropped, "keys": [texts[2]],
            });
            text.push_str(&record.to_string());
            text.push('\n');
        }
        let (reader, page) = read(text.as_bytes());
        prop_assert_eq!(reader.tally.records, rows.len() as u64);
        prop_assert!(!page.replace('\n', "").chars().any(crate::audit::hidden), "{:?}", page);
    }
}

/// Every record names another identity, connection, command and rule, each as long as may be.
#[test]
fn a_stream_of_nothing_but_new_names_takes_bounded_room() {
    let long = "n".repeat(1100);
    let mut reader = Reader::new(&SelectArgs::default(), 5);
    for number in 0..12_000_u32 {
        let line = format!(
            r#"{{"v":1,"ts":"2026-11-21T12:00:00.000001Z","event":"command","conn":"{number}","identity":"{number}{long}","role":"{number}{long}","cmd":"{number}{long}","rule":"{number}{long}","outcome":"denied"}}"#
        );
        reader.take(line.as_bytes());
    }
    let tally = &reader.tally;
    assert_eq!(tally.records, 12_000);
    assert!(tally.identities.len() <= 8192 && tally.names.len() <= 2048 && tally.rules.len() <= 1024);
    assert!(tally.identities.error() <= 2 * 12_000 / 8192 && tally.rules.error() <= 2 * 12_000 / 1024);
}
