//! The character sets of a server's columns.

use std::collections::HashMap;
use std::sync::Arc;

use super::query::Connection;
use crate::error::{Kind, Result};

/// The character set of a column. One that is not known is not taken for another: its bytes would be read as what they
/// are not.
pub(super) fn charset_of(charsets: &HashMap<u16, String>, collation: u16, column: &str) -> Result<String> {
    charsets.get(&collation).cloned().ok_or_else(|| {
        let type_name = format!("a text of the collation number {collation}, which the server does not list");
        Kind::UnknownType { column: column.replace('`', ""), type_name }.into()
    })
}

/// The character set behind each collation number of this server; a connection asks once.
pub(super) fn charsets(connection: &mut Connection) -> Result<Arc<HashMap<u16, String>>> {
    if let Some(known) = &connection.charsets {
        return Ok(known.clone());
    }
    let found = Arc::new(read(connection)?);
    connection.charsets = Some(found.clone());
    Ok(found)
}

fn read(connection: &mut Connection) -> Result<HashMap<u16, String>> {
    let sql = if connection.is_mariadb() {
        "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL"
    } else {
        "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"
    };
    let sql = if connection.is_mariadb() && connection.query(sql).is_err() {
        "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"
    } else {
        sql
    };
    let mut found = HashMap::new();
    for row in connection.query(sql)? {
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
    use super::*;

    #[test]
    fn a_collation_number_that_the_server_does_not_list_is_refused_by_column() {
        let charsets = HashMap::from([(63, "binary".to_owned())]);
        assert_eq!(charset_of(&charsets, 63, "blob").expect("listed"), "binary");
        let error = charset_of(&charsets, 999, "name").expect_err("not listed");
        assert_eq!(error.code(), "DJM-1301");
        assert!(error.to_string().contains("999") && error.to_string().contains("name"), "{error}");
    }
}
