//! What every verb needs to run chunks in parallel: lanes, retries, memory, progress, cancel and throttle. Knows no
//! station.

pub mod lanes;
pub mod memory;
pub mod progress;
pub mod retry;
pub mod throttle;
