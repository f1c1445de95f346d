//! The engine of datajoint-migrate: Python decides what moves, this moves it.
//!
//! Stations (`mysql`, `convert`, `archive`, `stores`) know nothing of lanes; `run` runs jobs in parallel and knows no station;
//! `river` joins them, and `verbs` are plans over it. Between stations flows one thing only: Arrow's `RecordBatch` (`batch`).
//! No Python in here.

#![warn(missing_docs)]

pub mod archive;
pub mod batch;
pub mod convert;
pub mod error;
pub mod lines;
pub mod mysql;
pub mod river;
pub mod run;
pub mod secret;
pub mod stores;
pub mod verbs;
