//! How single values and types are spelled on the server and by people.

/// The characters of bytes 0x80 to 0x9f of `MySQL`'s latin1: cp1252, its five holes filled with the controls.
const LATIN1: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The digits without their point, if the number written back is the very same text (a ZEROFILL column's is not).
pub(super) fn exact_digits(text: &[u8], precision: u8, scale: i8) -> Option<String> {
    let negative = text.first() == Some(&b'-');
    let plain = &text[usize::from(negative)..];
    let scale = scale as usize;
    let (whole, fraction) = if scale == 0 {
        (plain, &plain[..0])
    } else {
        let at = plain.len().checked_sub(scale + 1)?;
        (plain[at] == b'.').then_some(())?;
        (&plain[..at], &plain[at + 1..])
    };
    let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    let is_short = whole.len() == 1 || (!whole.is_empty() && whole[0] != b'0');
    let is_zero = whole.iter().chain(fraction).all(|&digit| digit == b'0');
    if !all_digits || !is_short || (negative && is_zero) || whole.len() + scale > usize::from(precision) + 1 {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    let digits = whole.iter().chain(fraction).map(|&digit| char::from(digit));
    Some(sign.chars().chain(digits).collect())
}

pub(super) fn pointed(digits: String, scale: i8) -> String {
    let scale = scale as usize;
    if scale == 0 {
        return digits;
    }
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

pub(super) fn from_latin1(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            0x80..=0x9f => LATIN1[usize::from(byte - 0x80)],
            _ => char::from(byte),
        })
        .collect()
}

pub(super) fn to_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|character| match u32::from(character) {
            code @ (0..=0x7f | 0xa0..=0xff) => Some(code as u8),
            _ => LATIN1.iter().position(|&known| known == character).map(|at| 0x80 + at as u8),
        })
        .collect()
}

pub(super) fn numbers_of(column_type: &str) -> Vec<u32> {
    let inside = column_type.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let inside = inside.map_or("", |(inside, _)| inside);
    inside.split(',').map_while(|text| text.trim().parse().ok()).collect()
}

pub(super) fn digits_of(column_type: &str) -> Option<(u8, i8)> {
    match *numbers_of(column_type).as_slice() {
        [] => Some((10, 0)),
        [precision @ 1..=76] => Some((precision as u8, 0)),
        [precision @ 1..=76, scale] if scale <= precision => Some((precision as u8, scale as i8)),
        _ => None,
    }
}

/// The members of an ENUM, as its type names them.
pub(super) fn members_of(column_type: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut rest = column_type.chars().peekable();
    while rest.by_ref().any(|character| character == '\'') {
        let mut member = String::new();
        while let Some(character) = rest.next() {
            match character {
                '\'' if rest.peek() == Some(&'\'') => {
                    rest.next();
                    member.push('\'');
                }
                '\'' => break,
                '\\' => match rest.next() {
                    Some('n') => member.push('\n'),
                    Some('r') => member.push('\r'),
                    Some('0') => member.push('\0'),
                    Some(other) => member.push(other),
                    None => {}
                },
                other => member.push(other),
            }
        }
        members.push(member);
    }
    members
}
