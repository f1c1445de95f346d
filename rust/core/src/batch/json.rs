//! What a JSON text means: neither order of keys nor spaces count, and every digit of its numbers does.

/// The text in one form for all that mean the same; a text that is no JSON stays as it is.
pub(super) fn canonical(text: &[u8]) -> Vec<u8> {
    // serde_json keeps the keys of an object sorted.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) else { return text.to_vec() };
    let mut out = value.to_string().into_bytes();
    let mut beyond = beyond_doubles(text);
    beyond.sort_unstable();
    for number in beyond {
        out.push(b' ');
        out.extend_from_slice(number.as_bytes());
    }
    out
}

/// Numbers of which a DOUBLE is not all: a server keeps them as DECIMAL, or as text.
fn beyond_doubles(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = match first {
            b'"' => behind_string(behind),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = rest.iter().take_while(|byte| is_part(byte)).count();
                let (number, behind) = rest.split_at(length);
                found.extend(std::str::from_utf8(number).ok().and_then(beyond_double));
                behind
            }
            _ => behind,
        };
    }
    found
}

/// What stands behind a string of which the opening quote was read.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some((&first, behind)) = rest.split_first() {
        rest = match first {
            b'"' => return behind,
            b'\\' => behind.get(1..).unwrap_or_default(),
            _ => behind,
        };
    }
    rest
}

fn beyond_double(number: &str) -> Option<String> {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return None;
    }
    let whole = digits(number);
    let near = number.parse::<f64>().ok().map(|double| digits(&format!("{double:e}")));
    (near.as_ref() != Some(&whole)).then_some(whole)
}

/// A number by its digits and where its point is, without zeros that say nothing.
fn digits(number: &str) -> String {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let kept = all.trim_start_matches('0');
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MAX);
    let point = exponent.saturating_add(kept.len() as i64 - fraction.len() as i64);
    match kept.trim_end_matches('0') {
        "" => format!("{sign}0"),
        kept => format!("{sign}0.{kept}e{point}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_mean_the_same_are_one() {
        for (one, other) in [
            (r#"{"a": 1, "b": [2]}"#, r#"{"b":[2],"a":1}"#),
            ("[1.50, 1e2, -0.25e1]", "[1.5,100.0,-2.5]"),
            (r#"{"b": 0.12345678901234567891, "a": 1}"#, r#"{"a":1,"b":0.123456789012345678910}"#),
            ("[18446744073709551615, 0.1, 15e299, 5e-324]", "[18446744073709551615,1e-1,1.5e300,5e-324]"),
        ] {
            assert_eq!(canonical(one.as_bytes()), canonical(other.as_bytes()), "{one}");
        }
    }

    #[test]
    fn no_digit_is_passed_over() {
        for (one, other) in [
            ("[12345678901234567890.1234567891]", "[12345678901234567890.1234567892]"),
            ("[12345678901234567890.1234567891]", "[1.2345678901234567e19]"),
            ("[123456789012345678901]", "[123456789012345678902]"),
            ("[0.1]", "[0.10000000000000000555]"),
            ("[1]", "[2]"),
            (r#"["a\"1.00000000000000000001"]"#, r#"["a\"1.00000000000000000002"]"#),
        ] {
            assert_ne!(canonical(one.as_bytes()), canonical(other.as_bytes()), "{one}");
        }
    }

    #[test]
    fn digits_within_texts_are_no_numbers() {
        assert!(
            beyond_doubles(br#"{"1.00000000000000000001": "\\\"2.00000000000000000001", "b": [true, 0.5]}"#)
                .is_empty()
        );
        assert_eq!(beyond_doubles(b"[1.00000000000000000001]"), ["0.100000000000000000001e1"]);
    }
}
