//! JSON lines.

/// What is the same in every record of a connection, rendered once.
#[derive(Debug)]
pub struct ConnectionFacts {}
