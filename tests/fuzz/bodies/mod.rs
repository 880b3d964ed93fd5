//! What the fuzz targets do with their bytes, and what must hold whatever these are. Run by libFuzzer (`../run.sh`) and,
//! over the corpus, by `tests/fuzz_corpus.rs`.

#![allow(dead_code, reason = "each target uses one of these")]
#![allow(unreachable_pub, reason = "included by a binary and by a test")]

pub mod acl;
pub mod inline;
pub mod lane;
pub mod proxy;
pub mod reply;
pub mod request;
pub mod session;

/// How an input is cut into pieces: a different length each time, in a way that the input itself decides.
pub struct Cuts {
    state: u64,
    widest: u64,
}

impl Cuts {
    /// Pieces of 1 to `widest` bytes.
    pub fn new(seed: u8, widest: u64) -> Self {
        Self { state: u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, widest }
    }

    /// The length of the next piece.
    pub fn next(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(1 + (self.state >> 33) % self.widest).unwrap()
    }
}
