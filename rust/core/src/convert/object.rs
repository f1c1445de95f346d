//! Where 2.x keeps the object of a value, and what it writes of it into the row.
//!
//! Paths are read verbatim by every client, so those that no file system or service takes are made shorter or quoted.

use std::io::{self, BufRead, Write};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::blob::Fault;
use super::npy::{self, Dtype};
use super::pointer::{base32, folded};

/// What `urllib.parse.quote` leaves alone beside letters and digits.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~');
const UNSAFE: &str = "/\\:*?\"<>|";
const MOST_CHARACTERS: usize = 100;
const KEPT_CHARACTERS: usize = 50;
/// Of a name in a folder.
const MOST_BYTES: usize = 255;
/// Of the name of an object of S3 with what may stand before it.
const MOST_PATH: usize = 900;
const TOKEN: usize = 8;

/// How a value of the key is spelled in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spelling {
    /// As it is.
    Plain,
    /// A date or a time to the second, without the marks that paths cannot have.
    Moment,
    /// As Python writes a float.
    Float,
    /// Thirty-two digits.
    Uuid,
}

/// `attribute=value` as a part of a path.
#[must_use]
pub fn part(attribute: &str, text: &str, spelling: Spelling) -> String {
    let value = match spelling {
        Spelling::Plain => quoted(text),
        Spelling::Moment => {
            let whole = text.split('.').next().unwrap_or_default();
            whole.replace(' ', "T").replace(':', "-")
        }
        Spelling::Float => text.parse().map_or_else(|_| quoted(text), float),
        Spelling::Uuid => match text.as_bytes() {
            [_, ..] if text.len() == 32 && text.is_ascii() => {
                format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
            }
            _ => quoted(text),
        },
    };
    let part = format!("{attribute}={value}");
    if part.len() <= MOST_BYTES { part } else { format!("{attribute}={}", md5_hex(text)) }
}

fn quoted(text: &str) -> String {
    let many = text.chars().count();
    let odd = |letter: char| UNSAFE.contains(letter) || letter.is_control();
    if many > MOST_CHARACTERS {
        let head: String = text.chars().take(KEPT_CHARACTERS).collect();
        let short = format!("{head}_{}", &md5_hex(text)[..8]);
        utf8_percent_encode(&short, QUOTED).to_string()
    } else if text.contains(odd) {
        utf8_percent_encode(text, QUOTED).to_string()
    } else {
        text.to_owned()
    }
}

fn md5_hex(text: &str) -> String {
    HEXLOWER.encode(&Md5::digest(text.as_bytes()))
}

/// As Python spells it.
fn float(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-4..1e16).contains(&size) && value.is_finite() {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

/// The object of an array: below `folder`, in the row's own folders, named by its contents so that it is found again.
#[must_use]
pub fn array_path(folder: &str, parts: &[String], attribute: &str, md5: &[u8; 16]) -> String {
    let name = format!("{attribute}_{}.npy", token(md5));
    let joined = parts.join("/");
    let path = [folder, joined.as_str(), name.as_str()];
    let path: Vec<_> = path.into_iter().filter(|part| !part.is_empty()).collect();
    let path = path.join("/");
    if path.len() <= MOST_PATH { path } else { format!("{folder}/key={}/{name}", md5_hex(&joined)) }
}

/// What a row says of an array.
#[must_use]
pub fn array_json(path: &str, store: &str, dtype: Dtype, shape: &[u64], size: u64, md5: &[u8; 16]) -> Value {
    json!({
        "path": path,
        "store": store,
        "dtype": dtype.name,
        "shape": shape,
        "size": size,
        "md5": HEXLOWER.encode(md5),
    })
}

/// The object of bytes that are named by what they are.
#[must_use]
pub fn hash_path(folder: &str, md5: &[u8; 16], subfolding: &[usize], suffix: &str) -> String {
    format!("{folder}/{}{suffix}", folded(&base32(md5), subfolding))
}

/// What a row says of such bytes.
#[must_use]
pub fn hash_json(path: &str, store: &str, schema: &str, size: u64, md5: &[u8; 16]) -> Value {
    json!({ "hash": base32(md5), "path": path, "schema": schema, "store": store, "size": size })
}

/// What tells an array from any other: of a blob, which may be no array.
pub fn identity_of_array(blob: impl BufRead, length: u64) -> Result<Option<String>, Fault> {
    let mut file = Counted::default();
    let done = npy::convert(blob, length, &mut file)?;
    let (Some(_), Some(dtype)) = (done.elements, done.header.dtype) else { return Ok(None) };
    let md5: [u8; 16] = file.md5.finalize().into();
    Ok(Some(identity(&md5, file.size, dtype.name, &done.header.shape)))
}

/// The same of the JSON that names the array's file; nothing where another program has written it, or where it names
/// the file of another array.
#[must_use]
pub fn identity_of_array_json(json: &[u8]) -> Option<String> {
    let said: Value = serde_json::from_slice(json).ok()?;
    let shape: Option<Vec<u64>> = said.get("shape")?.as_array()?.iter().map(Value::as_u64).collect();
    let md5 = HEXLOWER.decode(said.get("md5")?.as_str()?.as_bytes()).ok()?;
    let md5: [u8; 16] = md5.try_into().ok()?;
    let path = said.get("path")?.as_str()?;
    if !path.ends_with(&format!("_{}.npy", token(&md5))) {
        return None;
    }
    Some(identity(&md5, said.get("size")?.as_u64()?, said.get("dtype")?.as_str()?, &shape?))
}

fn token(md5: &[u8; 16]) -> String {
    BASE64URL_NOPAD.encode(md5)[..TOKEN].to_owned()
}

fn identity(md5: &[u8; 16], size: u64, dtype: &str, shape: &[u64]) -> String {
    format!("{dtype} {shape:?}, {size} bytes, MD5 {}", HEXLOWER.encode(md5))
}

/// Whatever is written is hashed and counted.
#[derive(Default)]
struct Counted {
    md5: Md5,
    size: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_are_spelled_as_the_client_spells_them() {
        for (text, spelling, expected) in [
            ("plain", Spelling::Plain, "k=plain"),
            ("with space", Spelling::Plain, "k=with space"),
            ("sl/ash", Spelling::Plain, "k=sl%2Fash"),
            ("per%cent", Spelling::Plain, "k=per%cent"),
            ("..", Spelling::Plain, "k=.."),
            ("a=b", Spelling::Plain, "k=a=b"),
            ("ünï", Spelling::Plain, "k=ünï"),
            ("ü/", Spelling::Plain, "k=%C3%BC%2F"),
            ("new\nline", Spelling::Plain, "k=new%0Aline"),
            ("", Spelling::Plain, "k="),
            ("2020-01-02 03:04:05.678901", Spelling::Moment, "k=2020-01-02T03-04-05"),
            ("0.1", Spelling::Float, "k=0.1"),
            ("1e20", Spelling::Float, "k=1e+20"),
            ("1e-7", Spelling::Float, "k=1e-07"),
            ("3", Spelling::Float, "k=3.0"),
            ("00000000000000000000000000000007", Spelling::Uuid, "k=00000000-0000-0000-0000-000000000007"),
        ] {
            assert_eq!(part("k", text, spelling), expected);
        }
        let long = part("k", &"x".repeat(120), Spelling::Plain);
        assert_eq!(long, format!("k={}_{}", "x".repeat(50), &md5_hex(&"x".repeat(120))[..8]));
        let longer = "ü".repeat(101);
        assert_eq!(part("k", &longer, Spelling::Plain), format!("k={}", md5_hex(&longer)));
    }

    #[test]
    fn a_path_that_no_service_takes_is_made_shorter() {
        let parts: Vec<_> = (0..20).map(|at| format!("k{at}={}", "x".repeat(60))).collect();
        let path = array_path("_schema/lab/session", &parts, "signal", &[7; 16]);
        assert_eq!(
            path,
            format!("_schema/lab/session/key={}/signal_BwcHBwcH.npy", md5_hex(&parts.join("/")))
        );
        let short = array_path("_schema/lab/session", &parts[..1], "signal", &[7; 16]);
        assert_eq!(short, format!("_schema/lab/session/k0={}/signal_BwcHBwcH.npy", "x".repeat(60)));
    }
}
