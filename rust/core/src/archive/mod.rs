//! An archive: a folder or a place in a bucket with a manifest and, for each table, chunk files in Parquet. Reads and writes; knows no lanes.

pub mod journal;
pub mod manifest;
pub mod objects;
pub mod place;
pub mod read;
pub mod write;
