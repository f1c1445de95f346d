//! A packed value as a stranger may have written it: it is read to its end or refused, and what becomes a file is the file
//! of that value and no other.

#![no_main]

use datajoint_migrate_core::convert::blob::{self, HEAD, Kind};
use datajoint_migrate_core::convert::npy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let length = input.len() as u64;
    let said = blob::header(&input[..input.len().min(HEAD)], length);
    let Ok(header) = blob::walk(input, length) else { return };
    // The head may be too short for what is compressed at great length.
    if let Ok(said) = said {
        assert_eq!(said, header);
    }
    let mut file = Vec::new();
    let done = npy::convert(input, length, &mut file).expect("what can be read once can be read twice");
    assert_eq!(done.header, header);
    assert_eq!(file.is_empty(), header.kind != Kind::Array);
    if header.kind == Kind::Array {
        assert!(done.is(&npy::read(file.as_slice()).expect("read").expect("an array")));
    }
});
