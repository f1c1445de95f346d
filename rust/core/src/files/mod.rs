//! Objects of external stores, as files.

pub mod copy;
