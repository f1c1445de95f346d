//! The ends of the river, a file each.

pub mod channel;
pub mod chunk_file;
pub mod digest;
pub mod rows;
