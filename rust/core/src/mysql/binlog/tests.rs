use super::*;

/// A file of each server's log, written by `MySQL` 9.7 and `MariaDB` 10.11.
const MYSQL: &[u8] = include_bytes!("recorded/mysql.bin");
const MARIADB: &[u8] = include_bytes!("recorded/mariadb.bin");

fn events(log: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &log[4..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let mut size = &rest[9..13];
        let size = number::<4>(&mut size).expect("four bytes") as usize;
        found.push(rest[..size].to_vec());
        rest = &rest[size..];
    }
    found
}

fn wanted(table: &str, columns: &[(&str, &str)], key: &[&str]) -> Wanted {
    let columns = columns.iter().map(|(name, column_type)| WantedColumn {
        name: (*name).into(),
        column_type: (*column_type).into(),
        charset: column_type.starts_with("varchar").then(|| "utf8mb4".into()),
    });
    Wanted {
        schema: "lab".into(),
        table: table.into(),
        columns: columns.collect(),
        key: key.iter().map(|&name| name.into()).collect(),
    }
}

const LOGS_CASCADES: Habits = Habits { logs_cascades: true, folds: false };

fn collector(habits: Habits) -> Collector {
    let mouse = [
        ("note", "longblob"),
        ("name", "varchar(20)"),
        ("day", "date"),
        ("dose", "decimal(6,2)"),
        ("data", "json"),
    ];
    let tables = vec![
        wanted("mouse", &mouse, &["name", "day", "dose"]),
        wanted("other", &[("k", "int")], &["k"]),
        wanted("parent", &[("k", "int unsigned"), ("v", "int")], &["k"]),
        wanted("child", &[("k", "int unsigned")], &["k"]),
        wanted("grandchild", &[("k", "int unsigned")], &["k"]),
    ];
    let cascade = |parent, child| Cascade {
        parent,
        child,
        columns: vec!["k".into()],
        on_update: true,
        on_delete: false,
    };
    let budget = Budget { keys: 100, bytes: 100_000 };
    Collector::new(tables, vec![cascade(2, 3), cascade(3, 4)], habits, budget).expect("valid")
}

fn keys(changed: &Changed) -> Vec<String> {
    let mut keys: Vec<_> = changed.keys.iter().map(crate::mysql::chunk::shown).collect();
    keys.sort();
    keys
}

fn reason(changed: &Changed) -> Option<&'static str> {
    changed.unknown.as_ref().map(|unknown| unknown.reason)
}

#[test]
fn the_logs_of_both_servers_name_the_keys_that_changed() {
    for log in [MYSQL, MARIADB] {
        let mut collector = collector(Habits::default());
        for event in events(log) {
            collector.event(&event).expect("a good event");
        }
        let (tables, unknown) = collector.finish().expect("keys");
        assert_eq!(unknown, None);
        assert_eq!(
            keys(&tables[0]),
            ["('a', 2020-02-29, -1.50)", "('zipped', 2021-01-01, 0.00)", "('é', 1999-12-31, 12.34)"]
        );
        assert_eq!(keys(&tables[2]), ["(1)", "(2)", "(4294967295)"]);
        assert_eq!(reason(&tables[1]), Some("definition"));
        assert_eq!([reason(&tables[3]), reason(&tables[4])], [Some("cascade"); 2]);
    }
}

#[test]
fn a_server_that_folds_names_logs_another_spelling_than_its_users() {
    for (folds, expected) in [(true, 3), (false, 0)] {
        let mut parent = wanted("Parent", &[("k", "int unsigned"), ("v", "int")], &["k"]);
        parent.schema = "LAB".into();
        let habits = Habits { logs_cascades: true, folds };
        let budget = Budget { keys: 100, bytes: 100_000 };
        let mut collector = Collector::new(vec![parent], Vec::new(), habits, budget).expect("valid");
        for event in events(MYSQL) {
            collector.event(&event).expect("a good event");
        }
        let (tables, _) = collector.finish().expect("keys");
        assert_eq!((tables[0].keys.len(), reason(&tables[0])), (expected, None));
    }
}

#[test]
fn cascades_that_are_logged_send_nothing_another_way() {
    let mut collector = collector(LOGS_CASCADES);
    for event in events(MYSQL) {
        collector.event(&event).expect("a good event");
    }
    let (tables, _) = collector.finish().expect("keys");
    assert_eq!([reason(&tables[3]), reason(&tables[4])], [None, None]);
}

#[test]
fn an_event_that_arrived_otherwise_than_it_was_written_is_refused_with_its_place() {
    for log in [MYSQL, MARIADB] {
        let mut collector = collector(LOGS_CASCADES);
        let mut events = events(log);
        let count = events.len();
        for (index, event) in events.iter_mut().enumerate() {
            if index + 3 == count {
                let middle = event.len() / 2;
                event[middle] ^= 1;
                let error = collector.event(event).expect_err("damaged").to_string();
                assert!(error.contains("binary log") && error.contains("checksum"), "{error}");
                return;
            }
            collector.event(event).expect("a good event");
        }
    }
}

fn sealed(mut event: Vec<u8>) -> Vec<u8> {
    let end = event.len() - CHECKSUM;
    let mut crc = flate2::Crc::new();
    crc.update(&event[..end]);
    event[end..].copy_from_slice(&crc.sum().to_le_bytes());
    event
}

#[test]
fn an_event_with_any_byte_changed_or_missing_never_panics() {
    for log in [MYSQL, MARIADB] {
        let events = events(log);
        for broken in 0..events.len() {
            let event = &events[broken];
            let flipped = (0..event.len()).flat_map(|at| {
                [0x01, 0x80, 0xff].into_iter().map(move |bits| {
                    let mut event = event.clone();
                    event[at] ^= bits;
                    sealed(event)
                })
            });
            let cut = (HEADER + CHECKSUM..event.len()).map(|length| {
                let mut event = event[..length].to_vec();
                event[9..13].copy_from_slice(&(length as u32).to_le_bytes());
                sealed(event)
            });
            for bad in flipped.chain(cut) {
                let mut collector = collector(Habits::default());
                let fed = events[..broken].iter().chain([&bad]).chain(&events[broken + 1..]);
                // What it says of a damaged event is another question: that it comes back is what is asked.
                if fed.map(|event| collector.event(event)).all(|done| done.is_ok()) {
                    let _ = collector.finish();
                }
            }
        }
    }
}

#[test]
fn an_event_that_nobody_knows_makes_every_table_unknown_unless_it_may_be_left_out() {
    let first = events(MYSQL).remove(0);
    for (flags, expected) in [(0_u16, Some("unknown_event")), (IGNORABLE, None)] {
        let mut event = vec![0; HEADER + 8];
        event[4] = 99;
        let size = event.len() as u32;
        event[9..13].copy_from_slice(&size.to_le_bytes());
        event[17..19].copy_from_slice(&flags.to_le_bytes());
        let mut collector = collector(LOGS_CASCADES);
        collector.event(&first).expect("a description");
        collector.event(&sealed(event)).expect("an event");
        let (_, unknown) = collector.finish().expect("nothing");
        assert_eq!(unknown.map(|unknown| unknown.reason), expected);
    }
}

#[test]
fn a_statement_is_about_the_tables_that_it_names() {
    let about = |text: &str| match statement::effect(text.as_bytes()) {
        Effect::None => "none".to_owned(),
        Effect::Anything(reason) => reason.to_owned(),
        Effect::Named(words) => format!("{} {}", words.first(), words.has("mouse")),
    };
    for (text, expected) in [
        ("BEGIN", "none"),
        ("# Dummy event replacing event type 160 that slave cannot handle.", "none"),
        ("COMMIT /* said */", "none"),
        ("xa commit 'a'", "xa"),
        ("XA ROLLBACK 'a'", "none"),
        ("INSERT INTO mouse VALUES (1)", "statement"),
        ("/*!50003 delete from mouse */", "statement"),
        ("WITH a AS (SELECT 1) DELETE FROM mouse", "statement"),
        ("truncate mouse", "truncate true"),
        ("TRUNCATE TABLE `lab`.`Mouse`", "truncate true"),
        ("ALTER TABLE `lab`.`mouse` AUTO_INCREMENT = 77", "none"),
        ("ALTER TABLE lab.mouse ADD COLUMN a int, AUTO_INCREMENT = 77", "alter true"),
        ("ALTER TABLE dog COMMENT 'mouse'", "alter false"),
        ("ALTER TABLE dog COMMENT 'it''s \\' `mouse`'", "alter false"),
        ("RENAME TABLE cat TO \"mouse\"", "rename true"),
        ("DROP /* mouse */ TABLE cat", "drop false"),
        ("CREATE DEFINER=`a`@`b` TRIGGER t BEFORE INSERT ON mouse FOR EACH ROW SET @a = 1", "none"),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM mouse", "none"),
        ("CREATE UNIQUE INDEX view ON mouse (a)", "create true"),
        ("SET PASSWORD FOR a = 'x'", "none"),
        ("SET STATEMENT max_statement_time=1 FOR ALTER TABLE mouse FORCE", "statement"),
        ("something new", "statement"),
    ] {
        assert_eq!(about(text), expected, "{text}");
    }
}
