//! What is around an event: numbers and lengths, its header, its checksum, and what the server compressed.

use std::io::Read;

use super::{LARGEST, damaged};
use crate::error::Result;

pub(super) const HEADER: usize = 19;
pub(super) const CHECKSUM: usize = 4;

/// The next `N` bytes as a number, the lowest first.
pub(super) fn number<const N: usize>(bytes: &mut &[u8]) -> Result<u64> {
    let taken = take(bytes, N)?;
    Ok(taken.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let Some((taken, rest)) = bytes.split_at_checked(count) else {
        return Err(damaged(format!("{count} bytes are due where {} are left", bytes.len())));
    };
    *bytes = rest;
    Ok(taken)
}

/// A number that says itself how long it is.
pub(super) fn packed(bytes: &mut &[u8]) -> Result<u64> {
    match number::<1>(bytes)? {
        0xfc => number::<2>(bytes),
        0xfd => number::<3>(bytes),
        0xfe => number::<8>(bytes),
        251 | 255 => Err(damaged("a length that is none")),
        small => Ok(small),
    }
}

pub(super) fn packed_length(bytes: &mut &[u8]) -> Result<usize> {
    let length = packed(bytes)?;
    usize::try_from(length).map_err(|_| damaged(format!("a length of {length} bytes")))
}

pub(super) struct Header {
    pub timestamp: u32,
    pub kind: u8,
    pub position: u32,
    pub flags: u16,
}

impl Header {
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let timestamp = number::<4>(&mut rest)? as u32;
        let kind = number::<1>(&mut rest)? as u8;
        number::<4>(&mut rest)?;
        let size = number::<4>(&mut rest)?;
        let position = number::<4>(&mut rest)? as u32;
        let flags = number::<2>(&mut rest)? as u16;
        if size != bytes.len() as u64 {
            return Err(damaged(format!("an event of {size} bytes came as {}", bytes.len())));
        }
        Ok(Self { timestamp, kind, position, flags })
    }
}

/// Whether the last four bytes are the sum of all before.
pub(super) fn holds(bytes: &[u8]) -> bool {
    let Some(end) = bytes.len().checked_sub(CHECKSUM).filter(|&end| end >= HEADER) else { return false };
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[..end]);
    bytes[end..] == crc.sum().to_le_bytes()
}

/// Whether a file's description says that events have sums.
pub(super) fn format_is_checksummed(bytes: &[u8]) -> Result<bool> {
    let at = bytes.len().checked_sub(CHECKSUM + 1).filter(|&at| at >= HEADER);
    match at.and_then(|at| bytes.get(at)) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(damaged("a log whose description names no checksum")),
    }
}

/// What `MariaDB` compressed: a byte that says how, the length, a zlib stream.
pub(super) fn inflated(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut rest = bytes;
    let how = number::<1>(&mut rest)?;
    if how & 0xf0 != 0x80 {
        return Err(damaged(format!("something compressed as {how:#x}, which is not known")));
    }
    let length = take(&mut rest, (how & 7) as usize)?;
    let length = length.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if length > u64::from(LARGEST) {
        return Err(damaged(format!("{length} bytes in one compressed event")));
    }
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(rest)
        .take(length + 1)
        .read_to_end(&mut out)
        .map_err(|error| damaged(format!("a compressed event: {error}")))?;
    if out.len() as u64 == length { Ok(out) } else { Err(damaged("a compressed event of another length")) }
}
