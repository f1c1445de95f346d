//! What every session of this package is set to: the one list, for the engine's sessions and for Python's.
//!
//! A server's global values, an `init_connect` and an account's defaults decide how a session begins. Whatever of that could
//! change an answer, end a statement, or undo one is set here, and read back, because a setting that was not taken
//! (a proxy, a privilege) would be as silent as the default it should have replaced.

use super::query::{Connection, TextRow};
use crate::error::{Kind, Result};

/// What a session is for. Python's sessions hold text and declare tables; the engine's carry bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The engine reads.
    Read,
    /// The engine writes.
    Load,
    /// Python reads.
    Look,
    /// Python writes.
    Write,
}

impl Role {
    /// The role of this name, as Python spells it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "read" => Self::Read,
            "load" => Self::Load,
            "look" => Self::Look,
            "write" => Self::Write,
            _ => return None,
        })
    }

    fn writes(self) -> bool {
        matches!(self, Self::Load | Self::Write)
    }

    fn is_engine(self) -> bool {
        matches!(self, Self::Read | Self::Load)
    }
}

/// Before all else, even before the version is asked for: a server may allow no row and no time.
pub const FREE: &str = "SET SESSION sql_select_limit = 18446744073709551615 \
     /*!50708 , SESSION max_execution_time = 0 */ /*M!100101 , SESSION max_statement_time = 0 */";

/// Zero dates, invalid dates and key 0 of an `AUTO_INCREMENT` column pass; everything else that does not fit is an error.
const LOADING_MODE: &str =
    "'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'";

/// Zero dates and keys of 0 are legal in old pipelines; `DataJoint`'s own mode refuses the first and silently renumbers the
/// second. Not strict, because declarations made long ago must be repeatable.
const DECLARING_MODE: &str = "'NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'";

/// How long a session may idle, because a pause may last: a week.
pub(super) const IDLE_SECONDS: &str = "604800";

/// How long a statement waits for a table that another session uses, in seconds; the server's own default is a year.
pub(super) const LOCK_WAIT: &str = "60";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    /// Set in every session; a session in which it is not as it should be is refused.
    Must,
    /// Set in every session, and only slower or shorter of breath where the server does not take it.
    May,
    /// Needs a privilege on some servers, so it is set only where it is wrong, and refused where that fails.
    Guarded,
    /// The same, where what it does is seen and refused before a table is made.
    Asked,
}

use Force::{Asked, Guarded, May, Must};

/// The servers that know a setting: the first version of `MySQL` and of `MariaDB` as numbers (8.0.30 is 80030).
type Since = (u32, u32);

const ALL: Since = (0, 0);
const NEVER: u32 = u32::MAX;
const ISOLATION: &str = "'READ-COMMITTED'";

/// Between values that are read back, and for one that is NULL: no setting of the list has them in its values.
pub(super) const BETWEEN: char = '|';
pub(super) const NOTHING: &str = "~";

/// Name, value as SQL, who must have it, and the servers that know it.
const SETTINGS: &[(&str, &str, Force, Since)] = &[
    // Rows that are there and are not given, or not for long.
    ("sql_select_limit", "18446744073709551615", Must, ALL),
    ("max_execution_time", "0", Must, (50708, NEVER)),
    ("max_statement_time", "0", Must, (NEVER, 100_101)),
    // It resets `sql_big_selects`, so it is the first of the two.
    ("max_join_size", "18446744073709551615", Must, ALL),
    ("sql_big_selects", "1", Must, ALL),
    ("system_versioning_asof", "DEFAULT", Must, (NEVER, 100_304)),
    ("show_gipk_in_create_table_and_information_schema", "1", Must, (80030, NEVER)),
    ("sql_auto_is_null", "0", Must, ALL),
    // A copy in another engine may lag behind.
    ("use_secondary_engine", "'OFF'", Must, (80014, NEVER)),
    ("wsrep_dirty_reads", "0", May, (NEVER, 100_100)),
    // Values that are cut short or read otherwise.
    ("group_concat_max_len", "1073741824", Must, ALL),
    ("max_sort_length", "8192", Must, ALL),
    ("sort_buffer_size", "2097152", May, ALL),
    ("time_zone", "'+00:00'", Must, ALL),
    ("character_set_client", "'utf8mb4'", Must, ALL),
    ("default_regex_flags", "''", Must, (NEVER, 100_001)),
    ("old_mode", "'UTF8_IS_UTF8MB3'", Must, (NEVER, 100_601)),
    ("lc_time_names", "'en_US'", May, ALL),
    ("lc_messages", "'en_US'", May, ALL),
    ("resultset_metadata", "'FULL'", Must, (80003, NEVER)),
    // A recursive query loses rows when its table outgrows memory in the middle: measured on MariaDB 10.11 with any such
    // query, on MySQL 9.7 where a row leads to several. On disk from the start it loses none. And MariaDB ends one in
    // silence after 1000 rounds.
    ("big_tables", "1", Must, ALL),
    ("cte_max_recursion_depth", "4294967295", Must, (80003, NEVER)),
    ("max_recursive_iterations", "4294967295", Must, (NEVER, 100_203)),
    // Statements that do more, or less, than they say.
    ("autocommit", "1", Must, ALL),
    ("completion_type", "'NO_CHAIN'", Must, ALL),
    ("sql_safe_updates", "0", Must, ALL),
    ("unique_checks", "1", Must, ALL),
    ("check_constraint_checks", "1", Must, (NEVER, 100_201)),
    ("sql_if_exists", "0", Must, (NEVER, 100_502)),
    ("system_versioning_alter_history", "'ERROR'", Must, (NEVER, 100_304)),
    ("system_versioning_insert_history", "0", Must, (NEVER, 101_100)),
    ("innodb_table_locks", "1", Must, ALL),
    ("old_alter_table", "0", Must, (50700, NEVER)),
    // What a table is made of, and how it is shown.
    ("default_storage_engine", "'InnoDB'", Must, ALL),
    ("default_tmp_storage_engine", "'InnoDB'", Must, ALL),
    ("enforce_storage_engine", "NULL", Guarded, (NEVER, 100_101)),
    ("explicit_defaults_for_timestamp", "1", Guarded, (50700, 101_000)),
    ("sql_generate_invisible_primary_key", "0", Asked, (80030, NEVER)),
    ("sql_quote_show_create", "1", Must, ALL),
    ("show_create_table_verbosity", "0", Must, (50711, NEVER)),
    ("show_create_table_skip_secondary_engine", "0", Must, (80018, NEVER)),
    // Hand-made keys to non-unique parents, legal before 8.4, must still be declarable.
    ("restrict_fk_on_non_standard_key", "0", Must, (80400, NEVER)),
    // What reaches the replicas. READ COMMITTED cannot be logged as statements.
    ("sql_log_bin", "1", Guarded, ALL),
    ("binlog_format", "'ROW'", Guarded, ALL),
    // How long, and by which way.
    ("lock_wait_timeout", LOCK_WAIT, Must, ALL),
    // A server that lets wait for less is believed: what ends at a lock is tried again.
    (
        "innodb_lock_wait_timeout",
        "CAST(LEAST(@@SESSION.innodb_lock_wait_timeout, 50) AS UNSIGNED)",
        Must,
        ALL,
    ),
    ("net_read_timeout", "600", May, ALL),
    ("net_write_timeout", "600", May, ALL),
    ("wait_timeout", IDLE_SECONDS, May, ALL),
    ("idle_transaction_timeout", "0", May, (NEVER, 100_300)),
    ("idle_readonly_transaction_timeout", "0", May, (NEVER, 100_300)),
    ("idle_write_transaction_timeout", "0", May, (NEVER, 100_300)),
    ("range_optimizer_max_mem_size", "0", May, (50709, NEVER)),
    ("max_seeks_for_key", "4294967295", May, ALL),
    ("eq_range_index_dive_limit", "200", May, (50605, 100_403)),
    ("optimizer_search_depth", "62", May, ALL),
    // Row estimates up to a day old would plan the chunks of a table filled this morning wrongly, and refreshing the
    // server's cache of them would be a write.
    ("information_schema_stats_expiry", "0", May, (80000, NEVER)),
];

/// One setting of a session on one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The session variable.
    pub name: &'static str,
    /// As SQL.
    value: &'static str,
    force: Force,
}

impl Setting {
    fn assignment(&self) -> String {
        format!("SESSION {} = {}", self.name, self.value)
    }

    /// `SET SESSION …`, for this setting alone.
    #[must_use]
    pub fn statement(&self) -> String {
        format!("SET {}", self.assignment())
    }

    /// The value without the quotes of SQL.
    #[must_use]
    pub fn wanted(&self) -> &str {
        self.value.trim_matches('\'')
    }

    /// Whether the server's word for the value is the one that is wanted.
    #[must_use]
    pub fn holds(&self, said: Option<&str>) -> bool {
        let Some(said) = said else { return matches!(self.value, "NULL" | "''") };
        let wanted = self.wanted();
        match self.name {
            "binlog_format" => return !said.eq_ignore_ascii_case("STATEMENT"),
            "innodb_lock_wait_timeout" => return said.parse::<u64>().is_ok_and(|seconds| seconds <= 50),
            _ => {}
        }
        if let (Ok(said), Ok(wanted)) = (said.parse::<f64>(), wanted.parse::<f64>()) {
            return said.total_cmp(&wanted).is_eq();
        }
        match (said, wanted) {
            ("ON" | "YES", "1") | ("OFF" | "NO", "0") => true,
            ("NONE" | "", _) if self.value == "NULL" => true,
            _ => words(said) == words(wanted),
        }
    }

    /// Why a session with this value is not used, if it must not be.
    #[must_use]
    pub fn refusal(&self, server: &str, said: Option<&str>) -> Option<String> {
        (!matches!(self.force, May | Asked)).then(|| {
            format!(
                "{server} keeps {} = {} for this user, where {} is needed",
                self.name,
                said.unwrap_or("NULL"),
                self.wanted()
            )
        })
    }
}

/// What an operator can do about a refusal.
pub const REFUSAL_HINT: &str = "let an administrator set that value globally, or give this user the right to set it for itself \
     (SESSION_VARIABLES_ADMIN on MySQL, BINLOG ADMIN or SUPER on MariaDB), then start the same call again";

fn words(value: &str) -> Vec<String> {
    let mut words: Vec<_> = value.split(',').map(|word| word.trim().to_ascii_uppercase()).collect();
    words.sort_unstable();
    words
}

/// The settings of a session, on one kind of server.
#[derive(Debug)]
pub struct Settings {
    /// All that a session is set to.
    pub all: Vec<Setting>,
}

impl Settings {
    /// The list for a server that gives its `version` as `9.7.4` or `5.5.5-10.11.6-MariaDB-…`.
    #[must_use]
    pub fn of(version: &str, role: Role) -> Self {
        let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
        let number = version_number(version, is_mariadb);
        let knows = |since: &Since| number >= if is_mariadb { since.1 } else { since.0 };
        let mut all: Vec<_> = SETTINGS
            .iter()
            .filter(|(_, _, force, since)| {
                knows(since) && (role.writes() || !matches!(force, Guarded | Asked))
            })
            .map(|&(name, value, force, _)| Setting { name, value, force })
            .collect();
        let mut add = |name, value| all.push(Setting { name, value, force: Must });
        let renamed = is_mariadb && number < 110_101;
        add(if renamed { "tx_isolation" } else { "transaction_isolation" }, ISOLATION);
        add(
            if renamed { "tx_read_only" } else { "transaction_read_only" },
            if role.writes() { "0" } else { "1" },
        );
        if role.is_engine() {
            add("sql_mode", LOADING_MODE);
            add("character_set_connection", "'utf8mb4'");
            // Text as stored bytes.
            add("character_set_results", "NULL");
        } else {
            add("sql_mode", DECLARING_MODE);
            // The connector's own default collation does not exist on MariaDB.
            add("collation_connection", "'utf8mb4_general_ci'");
            add("character_set_results", "'utf8mb4'");
        }
        // What the engine loads in any order is proved afterwards.
        add("foreign_key_checks", if role == Role::Load { "0" } else { "1" });
        Self { all }
    }

    fn plain(&self) -> impl Iterator<Item = &Setting> {
        self.all.iter().filter(|setting| !matches!(setting.force, Guarded | Asked))
    }

    /// Sets everything that needs no privilege, in one statement.
    #[must_use]
    pub fn set(&self) -> String {
        let assignments: Vec<_> = self.plain().map(Setting::assignment).collect();
        format!("SET {}", assignments.join(", "))
    }

    /// The same, a statement a setting: for a server that does not take all of them.
    #[must_use]
    pub fn set_each(&self) -> Vec<String> {
        self.plain().map(Setting::statement).collect()
    }

    /// Asks for the values of `all`, in their order, as one text: of the time that a client of Python took for forty columns
    /// more than half went into their heads.
    #[must_use]
    pub fn read(&self) -> String {
        let values = self.all.iter().map(|setting| match setting.name {
            // Without a binary log its format is of no importance.
            "binlog_format" => "IF(@@GLOBAL.log_bin, @@SESSION.binlog_format, 'ROW')".to_owned(),
            name => format!("IFNULL(@@SESSION.{name}, '{NOTHING}')"),
        });
        format!("SELECT CONCAT_WS('{BETWEEN}', {})", values.collect::<Vec<_>>().join(", "))
    }

    /// What a server answers to that, setting by setting.
    pub fn told(&self, line: &str) -> Result<Vec<(&Setting, Option<String>)>> {
        let values: Vec<_> = line.split(BETWEEN).collect();
        if values.len() != self.all.len() {
            let (asked, given) = (self.all.len(), values.len());
            let message = format!("{given} values for {asked} settings of the session: {line}");
            return Err(Kind::Protocol(message).into());
        }
        let value = |value: &str| (value != NOTHING).then(|| value.to_owned());
        Ok(self.all.iter().zip(values.into_iter().map(value)).collect())
    }

    /// Rows of name and value, of those settings that the server knows.
    #[must_use]
    pub fn read_known(&self) -> String {
        let names: Vec<_> = self.all.iter().map(|setting| format!("'{}'", setting.name)).collect();
        format!("SHOW SESSION VARIABLES WHERE Variable_name IN ({})", names.join(", "))
    }

    /// Sets a session of the engine and reads back what it was set to.
    pub(super) fn apply(&self, connection: &mut Connection) -> Result<()> {
        if let Err(error) = connection.execute(&self.set()) {
            if error.server_code().is_none() {
                return Err(error);
            }
            for statement in self.set_each() {
                tolerant(connection.execute(&statement))?;
            }
        }
        for is_last in [false, true] {
            let wrong = self.wrong(connection)?;
            if wrong.is_empty() {
                return Ok(());
            }
            for (setting, said) in wrong {
                if is_last {
                    let name = connection.server().name();
                    if let Some(message) = setting.refusal(&name, said.as_deref()) {
                        return Err(Kind::Setting(message).into());
                    }
                } else {
                    tolerant(connection.execute(&setting.statement()))?;
                }
            }
        }
        Ok(())
    }

    /// The settings that are not as they should be, with the value that they have.
    fn wrong(&self, connection: &mut Connection) -> Result<Vec<(&Setting, Option<String>)>> {
        let text = |row: &TextRow, index: usize| {
            row.get(index).and_then(Option::as_ref).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let values = match connection.query(&self.read()) {
            Ok(rows) => {
                let line = rows.first().and_then(|row| text(row, 0));
                self.told(&line.ok_or_else(|| Kind::Protocol("a SELECT without its value".into()))?)?
            }
            Err(error) if error.server_code().is_some() => {
                let rows = connection.query(&self.read_known())?;
                self.known(rows.iter().map(|row| (text(row, 0).unwrap_or_default(), text(row, 1))).collect())
            }
            Err(error) => return Err(error),
        };
        Ok(values.into_iter().filter(|(setting, said)| !setting.holds(said.as_deref())).collect())
    }

    /// The settings among what a server said of those that it knows.
    #[must_use]
    pub fn known(&self, said: Vec<(String, Option<String>)>) -> Vec<(&Setting, Option<String>)> {
        said.into_iter()
            .filter_map(|(name, value)| {
                let setting =
                    self.all.iter().find(|setting| setting.name.eq_ignore_ascii_case(name.as_str()))?;
                Some((setting, value))
            })
            .collect()
    }
}

/// What a server refuses here is seen when the values are read back.
fn tolerant<T>(done: Result<T>) -> Result<()> {
    match done {
        Err(error) if error.server_code().is_none() => Err(error),
        _ => Ok(()),
    }
}

fn version_number(version: &str, is_mariadb: bool) -> u32 {
    // Old clients refused a server of version 10, so MariaDB's greeting hides it behind 5.5.5.
    let version = if is_mariadb { version.strip_prefix("5.5.5-").unwrap_or(version) } else { version };
    let mut parts = version
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0).min(999));
    let mut next = || parts.next().unwrap_or(0);
    next() * 10_000 + next().min(99) * 100 + next().min(99)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(version: &str, role: Role) -> Vec<&'static str> {
        Settings::of(version, role).all.iter().map(|setting| setting.name).collect()
    }

    #[test]
    fn a_server_is_asked_for_what_it_knows() {
        assert_eq!(version_number("5.5.5-10.11.6-MariaDB-0+deb12u1", true), 101_106);
        assert_eq!(version_number("8.0.30-0ubuntu0.22.04", false), 80030);
        let maria = names("10.5.19-MariaDB", Role::Read);
        assert!(maria.contains(&"max_statement_time") && maria.contains(&"tx_isolation"));
        assert!(!maria.contains(&"max_execution_time") && !maria.contains(&"old_mode"));
        assert!(names("11.8.2-MariaDB", Role::Read).contains(&"transaction_isolation"));
        assert!(names("9.7.4", Role::Load).contains(&"binlog_format"));
        assert!(!names("9.7.4", Role::Read).contains(&"binlog_format"));
    }

    #[test]
    fn the_server_s_word_for_a_value_is_understood() {
        let of = |name, value| Setting { name, value, force: Must };
        assert!(of("max_statement_time", "0").holds(Some("0.000000")));
        assert!(of("autocommit", "1").holds(Some("ON")) && !of("autocommit", "1").holds(Some("OFF")));
        assert!(of("sql_mode", "'B,A'").holds(Some("A,B")) && !of("sql_mode", "'B,A'").holds(Some("A")));
        assert!(of("character_set_results", "NULL").holds(None));
        assert!(!of("character_set_results", "NULL").holds(Some("utf8mb4")));
        assert!(!of("sql_select_limit", "18446744073709551615").holds(Some("1000")));
        assert!(!of("binlog_format", "'ROW'").holds(Some("STATEMENT")));
        assert!(of("binlog_format", "'ROW'").holds(Some("MIXED")));
    }
}
