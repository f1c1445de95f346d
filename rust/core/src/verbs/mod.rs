//! The verbs: each lays a river out of stations and hands it to `run`.

pub mod backup;
pub mod batches;
pub mod check;
pub mod compare;
pub mod copy;
pub mod files;
pub mod look;
pub mod lost;
pub mod orphans;
pub mod pointers;
pub mod restore;
pub mod scan;
mod steady;
mod throttle;
