//! Dates and times as the river has them, and as `MySQL` writes them.
//!
//! Dates that no calendar has (`0000-00-00`, `2020-02-31`, accepted by `MySQL` and found in old pipelines) are carried in
//! Arrow's date types far below the year 0, where no real date is (`ODD_DATE`, `ODD_DATETIME`).

/// Day numbers below this one are packed dates that no calendar has.
pub const ODD_DATE: i32 = i32::MIN + (1 << 24);
/// Microseconds below this one are packed date-times that no calendar has.
pub const ODD_DATETIME: i64 = i64::MIN + (1 << 61);
pub(crate) const MICROS_PER_DAY: i64 = 86_400_000_000;

pub(crate) fn is_real_date(year: i32, month: u32, day: u32) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (the usual shift of the year to March).
pub(crate) fn days_of(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year as i32 - 719_468
}

/// Year, month and day of a day number.
fn date_of(days: i32) -> (i32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = (day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100)) as u32;
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i32::from(month <= 2), month, day)
}

pub(crate) fn packed_date(year: i32, month: u32, day: u32) -> i32 {
    year << 9 | (month as i32) << 5 | day as i32
}

fn unpacked_date(packed: i32) -> (i32, u32, u32) {
    (packed >> 9, (packed >> 5 & 15) as u32, (packed & 31) as u32)
}

/// A YEAR as `MySQL` writes it: `0` as text would become 2000.
pub fn push_year(out: &mut Vec<u8>, year: u16) {
    push_padded(out, u32::from(year), 4);
}

fn push_padded(out: &mut Vec<u8>, value: u32, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

fn push_clock(out: &mut Vec<u8>, micros: i64, hour_width: usize) {
    let seconds = micros / 1_000_000;
    push_padded(out, (seconds / 3600) as u32, hour_width);
    out.push(b':');
    push_padded(out, (seconds / 60 % 60) as u32, 2);
    out.push(b':');
    push_padded(out, (seconds % 60) as u32, 2);
    let fraction = (micros % 1_000_000) as u32;
    if fraction > 0 {
        out.push(b'.');
        push_padded(out, fraction, 6);
    }
}

fn push_calendar(out: &mut Vec<u8>, (year, month, day): (i32, u32, u32)) {
    push_padded(out, year as u32, 4);
    out.push(b'-');
    push_padded(out, month, 2);
    out.push(b'-');
    push_padded(out, day, 2);
}

/// A DATE as `MySQL` writes it.
pub fn push_date(out: &mut Vec<u8>, days: i32) {
    push_calendar(
        out,
        if days < ODD_DATE { unpacked_date(days.wrapping_sub(i32::MIN)) } else { date_of(days) },
    );
}

/// A DATETIME or TIMESTAMP as `MySQL` writes it.
pub fn push_datetime(out: &mut Vec<u8>, micros: i64) {
    let (date, clock) = if micros < ODD_DATETIME {
        let packed = micros.wrapping_sub(i64::MIN);
        (unpacked_date((packed >> 37) as i32), packed & ((1 << 37) - 1))
    } else {
        (date_of(micros.div_euclid(MICROS_PER_DAY) as i32), micros.rem_euclid(MICROS_PER_DAY))
    };
    push_calendar(out, date);
    out.push(b' ');
    push_clock(out, clock, 2);
}

/// What a DATE written as `push_date` writes it is in the river; `None` for anything else.
#[must_use]
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let (year, month, day) = parse_calendar(text)?;
    Some(if is_real_date(year, month, day) {
        days_of(year, month, day)
    } else {
        i32::MIN + packed_date(year, month, day)
    })
}

/// What a DATETIME written as `push_datetime` writes it is in the river; `None` for anything else.
#[must_use]
pub fn parse_datetime(text: &[u8]) -> Option<i64> {
    let (date, clock) = text.split_at_checked(10)?;
    let (year, month, day) = parse_calendar(date)?;
    let (clock, fraction) = clock.split_at_checked(9)?;
    let [b' ', clock @ ..] = clock else { return None };
    let mut parts = clock.split(|&byte| byte == b':').map(|part| parse_digits(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] => parse_digits(digits, 6)?,
        _ => return None,
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + i64::from(micros);
    Some(if is_real_date(year, month, day) {
        i64::from(days_of(year, month, day)) * MICROS_PER_DAY + micros
    } else {
        i64::MIN + (i64::from(packed_date(year, month, day)) << 37 | micros)
    })
}

fn parse_calendar(text: &[u8]) -> Option<(i32, u32, u32)> {
    let mut parts = text.split(|&byte| byte == b'-');
    let year = parse_digits(parts.next()?, 4)?;
    let (month, day) = (parse_digits(parts.next()?, 2)?, parse_digits(parts.next()?, 2)?);
    (parts.next().is_none() && month <= 12 && day <= 31).then_some((year as i32, month, day))
}

fn parse_digits(text: &[u8], width: usize) -> Option<u32> {
    (text.len() == width).then_some(())?;
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

/// A TIME as `MySQL` writes it, up to 838 hours either way.
pub fn push_time(out: &mut Vec<u8>, micros: i64) {
    if micros < 0 {
        out.push(b'-');
    }
    push_clock(out, micros.abs(), 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_reads_back_and_no_other_is_one() {
        let mut expected = days_of(0, 1, 1);
        for year in 0..10_000 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if is_real_date(year, month, day) {
                        let days = days_of(year, month, day);
                        assert_eq!(days, expected);
                        assert_eq!(date_of(days), (year, month, day));
                        expected += 1;
                    }
                }
            }
        }
        assert_eq!(days_of(1970, 1, 1), 0);
    }

    #[test]
    fn dates_that_no_calendar_has_are_written_as_they_were() {
        for (year, month, day) in [(0, 0, 0), (2020, 2, 31), (2020, 0, 0), (9999, 12, 0)] {
            let days = i32::MIN + packed_date(year, month, day);
            assert!(days < ODD_DATE);
            let mut out = Vec::new();
            push_date(&mut out, days);
            assert_eq!(parse_date(&out), Some(days));
            assert_eq!(String::from_utf8_lossy(&out), format!("{year:04}-{month:02}-{day:02}"));
            let micros = i64::MIN + (i64::from(packed_date(year, month, day)) << 37 | (MICROS_PER_DAY - 1));
            assert!(micros < ODD_DATETIME);
            out.clear();
            push_datetime(&mut out, micros);
            assert_eq!(parse_datetime(&out), Some(micros));
            assert_eq!(
                String::from_utf8_lossy(&out),
                format!("{year:04}-{month:02}-{day:02} 23:59:59.999999")
            );
        }
    }

    #[test]
    fn times_beyond_a_day_and_below_zero_are_written_as_mysql_writes_them() {
        let mut out = Vec::new();
        push_time(&mut out, -(838 * 3600 + 59 * 60 + 59) * 1_000_000);
        assert_eq!(out, b"-838:59:59");
        out.clear();
        push_time(&mut out, 25 * 3_600_000_000 + 500_000);
        assert_eq!(out, b"25:00:00.500000");
    }
}
