//! How names and values become SQL: the only place where that happens.

use std::fmt::Write as _;

/// Quotes an identifier: back-ticks are doubled, everything else stands as it is.
///
/// The result never goes through `%` formatting in the engine; Python code that hands it to a driver passes no arguments
/// with it.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `schema`.`table` ``
#[must_use]
pub fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quote(schema), quote(table))
}

/// A text literal in utf8mb4, independent of the session's character sets and of `NO_BACKSLASH_ESCAPES`.
#[must_use]
pub fn text_literal(text: &str) -> String {
    bytes_literal(text.as_bytes(), "utf8mb4")
}

/// A string literal holding exactly `bytes` in `charset`. `binary` gives a binary string.
#[must_use]
pub fn bytes_literal(bytes: &[u8], charset: &str) -> String {
    let mut sql = String::with_capacity(bytes.len() * 2 + charset.len() + 4);
    if charset != "binary" {
        let _ = write!(sql, "_{charset} ");
    }
    sql.push_str("x'");
    for byte in bytes {
        let _ = write!(sql, "{byte:02x}");
    }
    sql.push('\'');
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_ticks_are_doubled_and_nothing_else_changes() {
        assert_eq!(qualified("a`b", "100% \"x\" 'y'"), "`a``b`.`100% \"x\" 'y'`");
    }

    #[test]
    fn literals_carry_every_byte_whatever_the_session_says() {
        assert_eq!(bytes_literal(b"\0'\\", "latin1"), "_latin1 x'00275c'");
        assert_eq!(bytes_literal(b"", "binary"), "x''");
    }
}
