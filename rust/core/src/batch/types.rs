//! What Arrow's own types do not say of a value, and numbers as text.

/// The key under which a field says what its Arrow type does not, and what it says there.
pub const MYSQL_TYPE: &str = "mysql.type";
/// The field is a YEAR, which has no type in Arrow.
pub const YEAR: &str = "year";

/// A number that reads back as exactly this double. An exponent marks it as one: `0.1e0` is a DOUBLE, `0.1` a DECIMAL.
pub fn push_double(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    out.extend_from_slice(text.as_bytes());
    if !text.contains('e') {
        out.extend_from_slice(b"e0");
    }
}
