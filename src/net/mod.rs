//! wip
pub mod clock;
pub mod desk;
mod outbox;
pub mod permits;
pub mod pump;
pub mod side;
pub mod socket;
pub mod upstream;
