//! The verbs: plans over the river.

pub mod backup;
pub mod batches;
pub mod bring_back;
pub mod changed;
pub mod check;
pub mod compare;
pub mod copy;
pub mod files;
pub mod heads;
pub mod look;
pub mod lost;
pub mod orphans;
pub mod pointers;
pub mod promote;
pub mod proofs;
pub mod restore;
pub mod scan;
pub mod sync;
