//! Objects of stores: where they lie, and copying one of them, hashed while its bytes pass.

pub mod batches_done;
pub mod bucket;
pub mod copy;
pub mod folder;
pub(crate) mod remote;
mod server_copy;
pub mod service;
pub mod store;
pub mod temporary;
pub mod whole;
