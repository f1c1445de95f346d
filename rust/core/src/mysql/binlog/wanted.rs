//! What is asked of a log: tables as they are declared now, and how their server logs.

use serde::Deserialize;

/// A table of which changes are wanted, as it is declared now.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// All columns in their order.
    pub columns: Vec<WantedColumn>,
    /// The names of the key's columns in its order; empty if there is no key.
    pub key: Vec<String>,
}

/// A column of a table of which changes are wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedColumn {
    /// Its name.
    pub name: String,
    /// As `information_schema.COLUMNS` has it in `COLUMN_TYPE`.
    #[serde(rename = "type")]
    pub column_type: String,
    /// The character set of text.
    #[serde(default)]
    pub charset: Option<String>,
}

/// A foreign key by which the server changes a child's rows when its parent's change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    /// Places in the list of tables.
    pub parent: usize,
    /// The table whose rows are changed.
    pub child: usize,
    /// The parent's columns.
    pub columns: Vec<String>,
    /// A change of the parent's key is carried on.
    pub on_update: bool,
    /// So is a deletion.
    pub on_delete: bool,
}

/// How a server logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// What its foreign keys change is logged.
    pub logs_cascades: bool,
    /// It takes names in capitals for those in small letters, and logs them in another spelling than its users'.
    pub folds: bool,
}

impl Habits {
    /// By which a table is known.
    pub(super) fn name(self, schema: &str, table: &str) -> (String, String) {
        let known = |name: &str| if self.folds { name.to_lowercase() } else { name.to_owned() };
        (known(schema), known(table))
    }
}
