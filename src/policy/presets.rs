//! Deny lists with a name.
