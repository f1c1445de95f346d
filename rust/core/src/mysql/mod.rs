//! The wire: everything that speaks to a `MySQL` or `MariaDB` server.

pub mod binlog;
mod charsets;
pub mod chunk;
pub mod connect;
pub mod cut;
pub mod decode;
pub mod hangup;
pub mod journal;
pub mod load;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "tests use more of it"))]
pub(crate) mod memory;
pub mod names;
pub mod numbers;
mod public_key;
pub mod query;
pub mod scan;
pub mod session;
pub mod settings;
mod silence;
pub mod snapshot;
#[cfg(any(test, fuzzing))]
pub mod stranger;
mod tls;
pub mod trust;
pub mod walk;
mod wire;

pub use connect::{Server, SslMode};
pub use query::Connection;
pub use silence::why_broken;
