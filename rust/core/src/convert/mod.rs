//! What changes on the way from 0.14.6 to 2.x.

pub mod natural;
pub mod pointer;
pub mod tracked;
