//! placeholder
use super::{CommandId, Entry, Resolved};
use crate::resp::Words;
/// placeholder
pub fn entry(_id: CommandId) -> &'static Entry {
    todo!()
}
/// placeholder
pub fn len() -> usize {
    todo!()
}
/// placeholder
pub fn resolve(_words: &Words<'_>) -> Resolved {
    todo!()
}
