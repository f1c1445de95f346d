//! Objects of stores: where they lie, and copying one of them, hashed while its bytes pass.

pub mod bucket;
pub mod copy;
pub mod folder;
pub mod journal;
pub mod memory;
pub(crate) mod remote;
pub mod service;
pub mod store;
mod within;
