//! Packets of a server as a stranger may send them, from the greeting on: read or refused.

#![no_main]

use datajoint_migrate_core::mysql::stranger::converse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = converse(input);
});
