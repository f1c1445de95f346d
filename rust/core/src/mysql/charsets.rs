//! The character sets of a server's columns.

use std::collections::HashMap;

use mysql_common::packets::Column;

use super::query::Connection;
use crate::error::{Kind, Result};

/// The number that every column has which is no text, on every server.
const BINARY: u16 = 63;

/// The character set of each column. The list of them all takes a server longer than the rest of a short call, so it is
/// asked for those alone whose numbers have not been met on this connection.
pub(super) fn charsets(connection: &mut Connection, columns: &[Column]) -> Result<Vec<String>> {
    let mut unknown: Vec<u16> = columns
        .iter()
        .map(Column::character_set)
        .filter(|number| *number != BINARY && !connection.charsets.contains_key(number))
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        let found = read(connection, &unknown)?;
        connection.charsets.extend(found);
    }
    columns.iter().map(|column| charset_of(&connection.charsets, column)).collect()
}

/// One that is not known is not taken for another: its bytes would be read as what they are not.
fn charset_of(charsets: &HashMap<u16, String>, column: &Column) -> Result<String> {
    let number = column.character_set();
    if number == BINARY {
        return Ok("binary".into());
    }
    charsets.get(&number).cloned().ok_or_else(|| {
        let type_name = format!("a text of the collation number {number}, which the server does not list");
        Kind::UnknownType { column: column.name_str().into_owned(), type_name }.into()
    })
}

fn read(connection: &mut Connection, numbers: &[u16]) -> Result<HashMap<u16, String>> {
    let numbers: Vec<_> = numbers.iter().map(u16::to_string).collect();
    let from = |table: &str| {
        format!(
            "SELECT ID, CHARACTER_SET_NAME FROM information_schema.{table} WHERE ID IN ({})",
            numbers.join(", ")
        )
    };
    let plain = from("COLLATIONS");
    let rows = if connection.is_mariadb() {
        // Its newer releases give no set of those collations that several sets have.
        match connection.query(&from("COLLATION_CHARACTER_SET_APPLICABILITY")) {
            Err(error) if error.server_code().is_some() => connection.query(&plain)?,
            rows => rows?,
        }
    } else {
        connection.query(&plain)?
    };
    let mut found = HashMap::new();
    for row in rows {
        if let [Some(id), Some(name)] = row.as_slice()
            && let Ok(id) = String::from_utf8_lossy(id).parse()
        {
            found.insert(id, String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use mysql_common::constants::ColumnType;

    use super::*;
    use crate::mysql::memory::{rows, serve};
    use crate::mysql::session::open_reader;

    fn of(number: u16) -> Column {
        Column::new(ColumnType::MYSQL_TYPE_VAR_STRING).with_name(b"name").with_character_set(number)
    }

    #[test]
    fn a_server_is_asked_once_for_each_number_and_for_nothing_else() {
        let latin = || vec![Some(b"8".to_vec()), Some(b"latin1".to_vec())];
        let (server, log) = serve(move |_, sql| {
            sql.contains("COLLATIONS").then(|| rows(&["ID", "CHARACTER_SET_NAME"], &[latin()]))
        });
        let mut connection = open_reader(&server).expect("opened");
        assert_eq!(charsets(&mut connection, &[of(63)]).expect("known"), ["binary"]);
        for _ in 0..2 {
            let found = charsets(&mut connection, &[of(8), of(63), of(8)]).expect("listed");
            assert_eq!(found, ["latin1", "binary", "latin1"]);
        }
        let error = charsets(&mut connection, &[of(999)]).expect_err("not listed");
        assert_eq!(error.code(), "DJM-1301");
        assert!(error.to_string().contains("999") && error.to_string().contains("name"), "{error}");
        let log = log.lock().expect("no test panicked");
        let asked: Vec<_> = log.iter().filter(|(_, sql)| sql.contains("COLLATIONS")).collect();
        assert!(asked.len() == 2 && asked[0].1.ends_with("IN (8)"), "{asked:?}");
    }
}
