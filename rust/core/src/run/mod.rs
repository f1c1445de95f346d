//! What every verb needs to run chunks in parallel: lanes, retries, the journal's words, progress, cancel and throttle. Knows no
//! station.

pub mod journal;
pub mod lanes;
pub mod progress;
pub mod throttle;
