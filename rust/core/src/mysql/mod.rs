//! The wire: everything that speaks to a `MySQL` or `MariaDB` server.

pub mod chunk;
pub mod connect;
pub mod leap;
pub mod load;
pub mod names;
pub mod query;
pub mod scan;
pub mod session;
mod silence;
pub mod types;
mod wire;

pub use connect::{Server, SslMode};
pub use query::Connection;
