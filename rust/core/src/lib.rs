//! The engine of datajoint-migrate: Python decides what moves, this moves it.
//!
//! Stations (`mysql`, `convert`, `digest`, `archive`, `files`) know nothing of lanes; `run` runs jobs in parallel and knows no
//! station; `verbs` lay rivers out of stations and hand them to `run`. Between stations flows one thing only: Arrow's
//! `RecordBatch`. No Python in here.

pub mod archive;
pub mod convert;
pub mod digest;
pub mod error;
pub mod files;
pub mod mysql;
pub mod run;
pub mod verbs;
