//! The public key of a server (RSA, in PEM), as a server or a file may say it: read here to its last byte, and written anew
//! for `mysql_common`, which encrypts with it, and panics over a key that is none.

use std::ops::RangeInclusive;

use data_encoding::BASE64;
use memchr::memmem;
use mysql_common::crypto;

/// Of a key in PEM: one of 16,384 bits takes 2,900 bytes.
const LONGEST: usize = 4096;
/// Octets of a modulus; the shortest holds no password, the longest costs a second.
const MODULUS: RangeInclusive<usize> = 64..=2048;
/// Octets of an exponent.
const EXPONENT: RangeInclusive<usize> = 1..=8;
/// Octets of a message that the padding (OAEP with SHA-1) takes.
const PADDING: usize = 42;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// `word`, encrypted for whoever has the private key; else what is wrong with the public one.
pub fn encrypt(word: &[u8], pem: &[u8]) -> Result<Vec<u8>, String> {
    crypto::encrypt(word, &checked(pem, word.len())?).map_err(|error| error.to_string())
}

/// A key that so many octets can be encrypted with, in PEM as it is written here.
pub fn checked(pem: &[u8], octets: usize) -> Result<Vec<u8>, String> {
    let der = der_of(pem).ok_or("it is not in PEM")?;
    let (modulus, exponent) = numbers(&der.0, der.1).ok_or("it is no RSA key")?;
    // The routine's own count of the octets, by the bits.
    let bits = 8 * modulus.len() - modulus[0].leading_zeros() as usize;
    if octets + PADDING > (bits + 6) / 8 {
        return Err(format!("it is too short ({bits} bits) for so long a password"));
    }
    let key = tagged(SEQUENCE, &[tagged(INTEGER, modulus), tagged(INTEGER, exponent)].concat());
    let name = "RSA PUBLIC KEY-----";
    Ok(format!("-----BEGIN {name}\n{}\n-----END {name}\n", BASE64.encode(&key)).into_bytes())
}

/// What PEM holds, and whether the key is wrapped (PKCS #8) or bare (PKCS #1).
fn der_of(pem: &[u8]) -> Option<(Vec<u8>, bool)> {
    let pem = pem.get(..LONGEST.min(pem.len())).filter(|kept| kept.len() == pem.len())?;
    let between = |begin: &str, end: &str| {
        let start = memmem::find(pem, begin.as_bytes())? + begin.len();
        let length = memmem::find(&pem[start..], end.as_bytes())?;
        let text: Vec<u8> =
            pem[start..start + length].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        BASE64.decode(&text).ok()
    };
    between("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----").map(|der| (der, true)).or_else(|| {
        between("-----BEGIN RSA PUBLIC KEY-----", "-----END RSA PUBLIC KEY-----").map(|der| (der, false))
    })
}

/// Modulus and exponent, without the zeros before them.
fn numbers(der: &[u8], is_wrapped: bool) -> Option<(&[u8], &[u8])> {
    let mut rest = der;
    let mut key = part(SEQUENCE, &mut rest)?;
    if is_wrapped {
        part(SEQUENCE, &mut key)?;
        // The first octet says how many bits of the last one are not used.
        let mut bits = part(BIT_STRING, &mut key)?.strip_prefix(&[0])?;
        key = part(SEQUENCE, &mut bits)?;
    }
    let mut odd = |octets: RangeInclusive<usize>| {
        let number = part(INTEGER, &mut key)?;
        let zeros = number.iter().take_while(|&&octet| octet == 0).count();
        let number = &number[zeros..];
        (octets.contains(&number.len()) && number.last()? & 1 == 1).then_some(number)
    };
    Some((odd(MODULUS)?, odd(EXPONENT)?))
}

/// The content of the next part, which has to be of this kind.
fn part<'a>(tag: u8, der: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => rest
            .split_first_chunk::<2>()
            .map(|(&length, rest)| (usize::from(u16::from_be_bytes(length)), rest))?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    (found == tag).then_some(content)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    // An integer whose first bit is set would be negative.
    let zero: &[u8] = if tag == INTEGER && content[0] >= 0x80 { &[0] } else { &[] };
    let [high, low] = ((zero.len() + content.len()) as u16).to_be_bytes();
    [&[tag, 0x82, high, low], zero, content].concat()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The public key of a `MySQL` 9.7, of 2,048 bits.
    pub const KEY: &[u8] = include_bytes!("stranger/recorded/public_key.pem");

    /// In PEM, as a key of this kind.
    fn pem(kind: &str, der: &[u8]) -> Vec<u8> {
        let text = BASE64.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n").into_bytes()
    }

    #[test]
    fn a_true_key_encrypts_in_either_form() {
        let bare = checked(KEY, 8).expect("a key");
        assert_eq!(checked(&bare, 8).expect("the same key"), bare);
        for key in [KEY, bare.as_slice()] {
            assert_eq!(encrypt(b"s3cret\0", key).expect("encrypted").len(), 256);
        }
        // As long as the padding allows, and one octet more.
        assert!(encrypt(&[b'x'; 214], KEY).is_ok());
        let said = encrypt(&[b'x'; 215], KEY).expect_err("too long");
        assert!(said.contains("2048 bits"), "{said}");
    }

    #[test]
    fn a_key_that_is_none_is_an_error_at_every_byte_and_never_a_panic() {
        let (der, _) = der_of(KEY).expect("PEM");
        for at in 0..der.len() {
            assert!(encrypt(b"s3cret\0", &pem("PUBLIC KEY", &der[..at])).is_err(), "cut at {at}");
            for kind in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
                for bit in 0..8 {
                    let mut changed = der.clone();
                    changed[at] ^= 1 << bit;
                    let _ = encrypt(b"s3cret\0", &pem(kind, &changed));
                }
            }
        }
        for not in [&b""[..], b"-----BEGIN PUBLIC KEY-----", &pem("PUBLIC KEY", b""), &[b'-'; 5000]] {
            assert!(encrypt(b"s3cret\0", not).is_err());
        }
    }
}
