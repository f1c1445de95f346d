//! A chunk of a table, and the keys that bound it.
//!
//! A chunk is a half-open range `[lower, upper)` of the whole key in index order. Bounds are keys that are there, or the
//! beginnings of such: keys are composite, sparse, text, dates.

use std::cmp::Ordering;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::names::bytes_literal;
use crate::error::{Kind, Result};

/// A value of a key column, in a form that outlives the connection it was read on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    /// A number or the index of an ENUM.
    Number(String),
    /// A date, time or decimal: digits and their marks.
    Plain(String),
    /// The bytes of a string in hexadecimal, and its character set.
    Bytes {
        /// Two digits a byte.
        hex: String,
        /// `binary` for bytes that are no text.
        charset: String,
    },
}

/// Values of the key's columns, in index order: of all of them, or of the first ones.
pub type Bound = Vec<KeyValue>;

/// A range of a table: from `lower` on, up to but without `upper`; a missing bound is the table's end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The first key, or the beginning of it; nothing at the table's beginning.
    pub lower: Option<Bound>,
    /// The key before which it ends; nothing at the table's end.
    pub upper: Option<Bound>,
    /// Of its rows only those with one of these whole keys; nothing if it is all of them. Never in a journal.
    #[serde(skip)]
    pub only: Option<Arc<[Bound]>>,
}

impl Chunk {
    /// From one bound up to another.
    #[must_use]
    pub fn between(lower: Option<Bound>, upper: Option<Bound>) -> Self {
        Self { lower, upper, only: None }
    }

    /// Those of its rows that have one of these keys.
    #[must_use]
    pub fn with(&self, keys: Vec<Bound>) -> Self {
        Self { only: Some(keys.into()), ..self.clone() }
    }
}

impl KeyValue {
    /// The literal. What came out of a journal is not trusted to be what went in.
    pub(super) fn literal(&self) -> Result<String> {
        let bad = |text: &str| {
            Kind::Plan(format!("`{text}` is no bound of a chunk; the journal was changed")).into()
        };
        match self {
            Self::Number(text)
                if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'))
                    && text.bytes().any(|byte| byte.is_ascii_digit()) =>
            {
                Ok(text.clone())
            }
            Self::Plain(text)
                if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.' | b':' | b' ')) =>
            {
                Ok(format!("'{text}'"))
            }
            Self::Bytes { hex, charset } if charset.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| bad(hex))?;
                Ok(bytes_literal(&bytes, charset))
            }
            Self::Number(text) | Self::Plain(text) => Err(bad(text)),
            Self::Bytes { charset, .. } => Err(bad(charset)),
        }
    }

    /// The order of two values of one column; none where only the server knows its collation.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            _ if self == other => Some(Ordering::Equal),
            (Self::Number(one), Self::Number(other)) => order_of_numbers(one, other),
            (Self::Plain(one), Self::Plain(other)) => Some(match (hours_of(one), hours_of(other)) {
                (Some((one, rest)), Some((other, other_rest))) => {
                    let order = one.abs().total_cmp(&other.abs()).then_with(|| rest.cmp(other_rest));
                    match (one.is_sign_negative(), other.is_sign_negative()) {
                        (false, false) => order,
                        (true, true) => order.reverse(),
                        (negative, _) => {
                            if negative {
                                Ordering::Less
                            } else {
                                Ordering::Greater
                            }
                        }
                    }
                }
                _ => one.cmp(other),
            }),
            (Self::Bytes { hex: one, charset }, Self::Bytes { hex: other, charset: as_well }) => {
                (charset == "binary" && as_well == "binary").then(|| one.cmp(other))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for KeyValue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(text) | Self::Plain(text) => out.write_str(text),
            Self::Bytes { hex, charset } => {
                let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap_or_default();
                match String::from_utf8(bytes) {
                    Ok(text) if charset != "binary" => write!(out, "'{}'", text.escape_debug()),
                    _ => write!(out, "0x{hex}"),
                }
            }
        }
    }
}

/// A bound for a message.
#[must_use]
pub fn shown(bound: &Bound) -> String {
    let values: Vec<_> = bound.iter().map(ToString::to_string).collect();
    format!("({})", values.join(", "))
}

/// Numbers of 65 digits and of 64 bits are more than a DOUBLE tells apart.
fn order_of_numbers(one: &str, other: &str) -> Option<Ordering> {
    if one.contains('e') || other.contains('e') {
        return one.parse::<f64>().ok()?.partial_cmp(&other.parse().ok()?);
    }
    let parts = |text: &'_ str| {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let zero = whole.is_empty() && fraction.is_empty();
        (negative && !zero, whole.to_owned(), fraction.to_owned())
    };
    let ((below, whole, fraction), (other_below, other_whole, other_fraction)) = (parts(one), parts(other));
    let size = || {
        let wholes = whole.len().cmp(&other_whole.len()).then_with(|| whole.cmp(&other_whole));
        wholes.then_with(|| fraction.cmp(&other_fraction))
    };
    Some(match (below, other_below) {
        (false, false) => size(),
        (true, true) => size().reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

/// The hours of a TIME, which have a sign and any number of digits, and what follows them; nothing for a date.
fn hours_of(text: &str) -> Option<(f64, &str)> {
    let (hours, rest) = text.split_once(':')?;
    // A float, because it has a -0.
    Some((hours.parse().ok().filter(|_| !hours.contains(' '))?, rest))
}

/// The order of two bounds; none where a collation decides.
pub(super) fn order(one: &Bound, other: &Bound) -> Option<Ordering> {
    for (one, other) in one.iter().zip(other) {
        match one.order(other)? {
            Ordering::Equal => {}
            order => return Some(order),
        }
    }
    Some(one.len().cmp(&other.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_order_of_their_column() {
        let number = |text: &str| KeyValue::Number(text.into());
        let plain = |text: &str| KeyValue::Plain(text.into());
        let bytes = |hex: &str, charset: &str| KeyValue::Bytes { hex: hex.into(), charset: charset.into() };
        for (low, high) in [
            (number("9"), number("10")),
            (number("-10"), number("-9")),
            (number("-0.5"), number("0.25")),
            (number("18446744073709551614"), number("18446744073709551615")),
            (number("0.000000000000000000000000000001"), number("0.000000000000000000000000000002")),
            (number("9e-7"), number("1e20")),
            (plain("2024-01-09"), plain("2024-01-10")),
            (plain("2024-01-09 00:00:00"), plain("2024-01-09 00:00:00.000001")),
            (plain("99:00:00"), plain("100:00:00")),
            (plain("-100:00:00"), plain("-99:59:59")),
            (plain("-00:00:02"), plain("-00:00:01")),
            (plain("-00:00:01"), plain("00:00:00")),
            (bytes("00ff", "binary"), bytes("01", "binary")),
        ] {
            assert_eq!(low.order(&high), Some(Ordering::Less), "{low} {high}");
            assert_eq!(high.order(&low), Some(Ordering::Greater), "{high} {low}");
            assert_eq!(low.order(&low), Some(Ordering::Equal), "{low}");
        }
        assert_eq!(number("1.50").order(&number("1.5")), Some(Ordering::Equal));
        assert_eq!(number("-0").order(&number("0")), Some(Ordering::Equal));
        assert_eq!(bytes("61", "latin1").order(&bytes("62", "latin1")), None);
    }
}
