//! What a session is set to before it touches a row.

use super::connect::Server;
use super::query::Connection;
use super::settings::{Role, Settings};
pub use super::snapshot::{Snapshot, share_snapshot};
use crate::error::Result;

/// A session that can only read: the server itself refuses anything else.
pub fn open_reader(server: &Server) -> Result<Connection> {
    read_only(server.connect()?)
}

/// A session that loads: foreign keys are proved afterwards, row locks are kept off the tables it reads.
pub fn open_loader(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    loading(&mut connection)?;
    Ok(connection)
}

/// A session that was open for something else, and can only read from now on.
pub fn read_only(mut connection: Connection) -> Result<Connection> {
    reading(&mut connection)?;
    Ok(connection)
}

fn reading(connection: &mut Connection) -> Result<()> {
    // First of all, so that nothing whatever is said to production by a session that could write.
    connection.execute("SET SESSION TRANSACTION READ ONLY")?;
    Settings::of(&connection.version, Role::Read).apply(connection)
}

fn loading(connection: &mut Connection) -> Result<()> {
    // READ COMMITTED: at REPEATABLE READ an INSERT … SELECT locks every source row it reads.
    Settings::of(&connection.version, Role::Load).apply(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::mysql::memory::{VERSION, error, serve, told};
    use crate::mysql::settings::Settings;

    #[test]
    fn the_first_word_to_production_is_that_nothing_is_written() {
        let (server, log) = serve(|_, _| None);
        drop(open_reader(&server).expect("opened"));
        let log = log.lock().expect("no test panicked");
        assert_eq!(log[0].1, "SET SESSION TRANSACTION READ ONLY");
        assert!(log[1].1.contains("SESSION transaction_read_only = 1"), "{}", log[1].1);
        assert!(log[1].1.contains("READ-COMMITTED") && log[1].1.contains("SESSION time_zone = '+00:00'"));
        assert_eq!(log[2].1, Settings::of(VERSION, Role::Read).read());
        assert_eq!(log.len(), 3);
    }

    #[test]
    fn a_session_that_loads_may_write_and_checks_no_foreign_key() {
        let (server, log) = serve(|_, _| None);
        drop(open_loader(&server).expect("opened"));
        let log = log.lock().expect("no test panicked");
        assert!(log[0].1.contains("SESSION foreign_key_checks = 0"), "{}", log[0].1);
        assert!(log[0].1.contains("SESSION transaction_read_only = 0"));
    }

    #[test]
    fn a_session_that_has_loaded_only_reads_from_then_on() {
        let (server, log) = serve(|_, _| None);
        let loader = open_loader(&server).expect("opened");
        log.lock().expect("no test panicked").clear();
        drop(read_only(loader).expect("taken over"));
        let log = log.lock().expect("no test panicked");
        assert_eq!(log[0].1, "SET SESSION TRANSACTION READ ONLY");
        assert!(log[1].1.contains("SESSION transaction_read_only = 1"), "{}", log[1].1);
        assert_eq!(log[2].1, Settings::of(VERSION, Role::Read).read());
    }

    #[test]
    fn a_server_that_does_not_take_all_settings_at_once_gets_them_one_by_one() {
        let all = Settings::of(VERSION, Role::Read).set();
        let (server, log) = serve(move |_, sql| (sql == all).then(|| vec![error(1193, "unknown")]));
        drop(open_reader(&server).expect("opened"));
        let log = log.lock().expect("no test panicked");
        let each = Settings::of(VERSION, Role::Read).set_each();
        assert!(each.iter().all(|one| log.iter().any(|(_, sql)| sql == one)));
    }

    #[test]
    fn a_server_that_keeps_another_value_is_asked_once_more_and_then_refused_by_name() {
        let read = Settings::of(VERSION, Role::Read).read();
        let keeps = move |_: u32, sql: &str| {
            (sql == read).then(|| {
                told(&Settings::of(VERSION, Role::Read), |setting| match setting.name {
                    "sql_select_limit" => "1000",
                    _ => setting.wanted(),
                })
            })
        };
        let (server, log) = serve(keeps);
        let Err(refused) = open_reader(&server) else { panic!("rows beyond the limit would be missing") };
        assert!(matches!(refused.kind(), Kind::Setting(_)), "{refused}");
        assert!(refused.to_string().contains("keeps sql_select_limit = 1000"), "{refused}");
        let log = log.lock().expect("no test panicked");
        let again = log
            .iter()
            .filter(|(_, sql)| sql.starts_with("SET SESSION sql_select_limit = 1844674407370955161"));
        assert_eq!(again.filter(|(_, sql)| !sql.contains(',')).count(), 1);
    }

    #[test]
    fn a_line_that_is_lost_while_a_session_is_set_up_is_a_lost_line() {
        let (server, _) = serve(|_, sql| {
            sql.starts_with("SELECT CONCAT_WS").then(|| vec![crate::mysql::memory::Event::End])
        });
        let Err(lost) = open_reader(&server) else { panic!("it hung up") };
        assert!(lost.is_transient(), "{lost}");
    }
}
