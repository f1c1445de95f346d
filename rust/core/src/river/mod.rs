//! The river: chunks of a table, from a source to a sink. It joins stations and lanes; verbs are plans over it.

pub(crate) mod count;
pub(crate) mod cutter;
pub mod flow;
pub(crate) mod instant;
pub mod read;
pub mod sink;
pub mod sinks;
pub mod source;
pub(crate) mod spare;
pub mod steady;
