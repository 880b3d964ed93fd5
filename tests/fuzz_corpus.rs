//! The fuzz targets as ordinary tests: their corpus, and some thousands of inputs made up with a seed. `tests/fuzz/run.sh`
//! runs the same bodies under libFuzzer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::print_stderr, reason = "tests; the input that failed is named")]

use std::{fs, path::Path};

#[path = "fuzz/bodies/mod.rs"]
mod bodies;

/// Bytes that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % sides
    }
}

/// Every input of the corpus, then inputs of random bytes and of the target's own words.
fn replay(target: &str, made_up: usize, words: &[&str], body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus of {target} is gone: {} files", files.len());
    let mut size = 0;
    for file in &files {
        let input = fs::read(file).unwrap();
        size += input.len();
        eprintln!("{}", file.display());
        body(&input);
    }
    assert!(files.len() <= 300 && size <= 200_000, "{target}: {} files, {size} bytes: minimise it", files.len());
    let mut dice = Dice(0x5eed_0000 | target.len() as u64);
    for _ in 0..made_up {
        let mut input = vec![dice.roll(256) as u8, dice.roll(256) as u8];
        for _ in 0..dice.roll(40) {
            match dice.roll(words.len() + 4).checked_sub(4) {
                Some(word) => input.extend_from_slice(words[word].as_bytes()),
                None => input.push(dice.roll(256) as u8),
            }
        }
        body(&input);
    }
}

#[test]
fn request() {
    let words = [
        "*1\r\n",
        "*2\r\n",
        "*0\r\n",
        "*-1\r\n",
        "$1\r\n",
        "$4\r\nPING\r\n",
        "$0\r\n\r\n",
        "\r\n",
        "$",
        "9",
        "PING\r\n",
        "a",
    ];
    replay("request", 20_000, &words, bodies::request::run);
}

#[test]
fn inline() {
    replay(
        "inline",
        20_000,
        &["PING", "get ", " ", "\r\n", "\r", "\n", "POST ", "host: ", "\"", "x"],
        bodies::inline::run,
    );
}

#[test]
fn reply() {
    let words = [
        "+OK\r\n",
        ":1\r\n",
        "$1\r\na\r\n",
        "$-1\r\n",
        "*2\r\n",
        "%1\r\n",
        ">1\r\n",
        "|1\r\n",
        "=5\r\ntxt:a\r\n",
        "_\r\n",
        "\r\n",
    ];
    replay("reply", 10_000, &words, bodies::reply::run);
}

#[test]
fn lane() {
    replay("lane", 10_000, &["\0\0\0\0", "\u{1}\u{1}", "~~~~"], bodies::lane::run);
}

#[test]
fn proxy() {
    let words = [
        "TCP4 ",
        "TCP6 ",
        "UNKNOWN",
        "10.0.0.1 ",
        "::1 ",
        "1",
        " ",
        "65535",
        "\r\n",
        "\u{2}\0\u{1}a",
        "\u{3}\0\u{4}aaaa",
        " \0\u{5}\u{7}\0\0\0\0",
        "\0\u{c}\u{a}\0\0\u{1}\u{a}\0\0\u{2}\0\u{1}\0\u{2}",
    ];
    replay("proxy", 20_000, &words, bodies::proxy::run);
}

#[test]
fn acl() {
    let words = [
        "k\n",
        "user a ",
        "\n",
        " on ",
        "off ",
        ">p ",
        "#f ",
        "reset ",
        "+get ",
        "-get ",
        "+set",
        "+@all ",
        "-@write ",
        "~k",
        "~",
        "%R~",
        "%W~k ",
        "&c ",
        "&",
        "*",
        "?",
        "[a-",
        "]",
        "\\",
        "(",
        ")",
        " ",
        "db=0,1 ",
        "resetdbs ",
        "allkeys ",
        "resetkeys ",
        "+select|0",
        "+config|get",
        "resetchannels ",
        "preset:app ",
        "|",
    ];
    replay("acl", 200, &words, bodies::acl::run);
}

#[test]
fn session() {
    replay("session", 5_000, &["\0\0\0\0", "~~~~", "\u{3}\u{3}\u{3}"], bodies::session::run);
}
