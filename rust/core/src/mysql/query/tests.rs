use mysql_common::constants::ColumnType;

use super::*;
use crate::mysql::memory::{
    Event, Memory, binary_row, binary_rows, column, end, error, greeting, greeting_of, listen, ok, rows,
    serve,
};

/// A connection to a server that answers the statement `it` with `events`, once and whatever comes later with success.
fn answering(events: Vec<Event>) -> Connection {
    let (server, _) = serve(move |_, sql| (sql == "it").then(|| events.clone()));
    server.connect().expect("connected")
}

fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), Kind::Lost { .. })
}

#[test]
fn what_a_statement_did_is_what_the_server_says() {
    let done = answering(vec![ok(250, 3)]).execute("it").expect("done");
    assert_eq!((done.affected_rows, done.warnings), (250, 3));
    // More rows than a byte can tell.
    let long = [&[0, 0xfd, 1, 2, 3, 0xfc, 9, 9], &[2, 0, 7, 0][..]].concat();
    let done = answering(vec![Event::Packet(long)]).execute("it").expect("done");
    assert_eq!((done.affected_rows, done.warnings), (0x03_0201, 7));
    // Rows nobody asked for are read and dropped.
    let mut connection = answering(rows(&["a"], &[vec![Some(b"1".to_vec())]]));
    assert_eq!(connection.execute("it").expect("done").affected_rows, 0);
    connection.execute("another").expect("still in step");
}

#[test]
fn rows_are_told_from_null_and_from_the_end() {
    let cells = vec![Some(vec![b'x'; 70_000]), None, Some(Vec::new()), Some(vec![0xfe, 0xff])];
    let row = [cells.clone(), cells].concat();
    let mut connection = answering(rows(&["a"; 8], &[row.clone(), row.clone()]));
    assert_eq!(connection.query("it").expect("rows"), [row.clone(), row]);
    assert_eq!(answering(rows(&["a"], &[])).query_value("it").expect("no rows"), None);
    assert_eq!(answering(rows(&["a"], &[vec![None]])).query_value("it").expect("NULL"), None);
    assert!(answering(vec![ok(1, 0)]).query("it").expect("no result").is_empty());
}

#[test]
fn an_error_of_the_server_has_its_number_and_leaves_the_connection_in_step() {
    let mut connection = answering(vec![error(1146, "no such table")]);
    let failed = connection.execute("it").expect_err("refused");
    assert_eq!(failed.server_code(), Some(1146));
    assert_eq!(connection.query("it").expect_err("refused").server_code(), Some(1146));
    assert_eq!(connection.open_binary("it").expect_err("refused").server_code(), Some(1146));
    connection.execute("another").expect("in step");
    // One that comes in the middle of the rows.
    let mut events = rows(&["a"], &[vec![Some(b"1".to_vec())]]);
    events.pop();
    events.push(error(1317, "interrupted"));
    let mut connection = answering(events);
    assert_eq!(connection.query("it").expect_err("interrupted").server_code(), Some(1317));
    connection.execute("another").expect("in step");
    let unreadable = answering(vec![Event::Packet(vec![0xff, 1])]).execute("it").expect_err("short");
    assert!(matches!(unreadable.kind(), Kind::Protocol(_)), "{unreadable}");
}

#[test]
fn a_server_that_asks_for_a_file_gets_none_and_no_further_word() {
    let asks = || vec![Event::Packet(b"\xfb/etc/passwd".to_vec())];
    let tries: [fn(&mut Connection) -> Result<()>; 4] = [
        |connection| connection.execute("it").map(drop),
        |connection| connection.query("it").map(drop),
        |connection| connection.open_binary("it").map(drop),
        |connection| connection.open_load("it"),
    ];
    for ask in tries {
        let (server, log) = serve(move |_, sql| (sql == "it").then(asks));
        let mut connection = server.connect().expect("connected");
        let refused = ask(&mut connection).expect_err("refused");
        assert!(refused.to_string().contains("asked for a file"), "{refused}");
        assert!(is_lost(&connection.execute("another").expect_err("hung up")));
        let log = log.lock().expect("no test panicked");
        assert!(log.iter().all(|(_, sql)| sql == "it"), "{log:?}");
    }
}

#[test]
fn data_is_sent_only_to_a_server_that_asked_for_this_very_data() {
    let mut connection = answering(vec![Event::Packet(b"\xfbrows".to_vec())]);
    connection.open_load("it").expect("asked");
    connection.send_data(b"1\t2\n").expect("sent");
    connection.send_data(b"").expect("nothing is sent");
    let unasked = answering(vec![ok(0, 0)]).open_load("it").expect_err("not asked");
    assert!(matches!(unasked.kind(), Kind::Protocol(_)), "{unasked}");
}

#[test]
fn answers_that_are_cut_short_or_make_no_sense_are_errors() {
    let cut = |events: Vec<Event>| answering(events).query("it").expect_err("cut");
    let one = || rows(&["a"], &[vec![Some(b"12345".to_vec())]]);
    for kept in 0..one().len() {
        let events = one().into_iter().take(kept).chain([Event::End]).collect();
        assert!(is_lost(&cut(events)), "{kept} packets");
    }
    let protocol = |events: Vec<Event>| matches!(cut(events).kind(), Kind::Protocol(_));
    let mut events = one();
    events[2] = Event::Packet(vec![9, b'1']);
    assert!(protocol(events), "a value longer than its packet");
    let mut events = one();
    events[2] = Event::Packet(Vec::new());
    assert!(protocol(events), "an empty packet");
    let mut events = one();
    events[1] = Event::Packet(vec![3, b'd']);
    assert!(protocol(events), "a column that cannot be read");
}

#[test]
fn no_memory_is_taken_for_columns_that_a_server_only_speaks_of() {
    for count in [[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], [0xfe, 0, 0, 1, 0, 0, 0, 0, 0]] {
        let mut connection = answering(vec![Event::Packet(count.to_vec()), Event::End]);
        let said = connection.query("it").expect_err("refused").to_string();
        assert!(said.contains("impossibly many columns"), "{said}");
    }
}

#[test]
fn a_prepared_result_is_read_and_its_statement_closed_before_the_next_command() {
    let events = binary_rows(&[(Some(-5), b"x".to_vec()), (None, Vec::new())]);
    let mut connection = answering(events);
    let columns = connection.open_binary("it").expect("open");
    assert_eq!(columns.len(), 2);
    let Event::Packet(first) = binary_row(Some(-5), b"x") else { unreachable!() };
    assert_eq!(connection.row().expect("a row"), Some(first.as_slice()));
    assert!(connection.row().expect("a row").is_some());
    assert!(connection.row().expect("the end").is_none());
    assert!(connection.statement.is_some());
    connection.execute("another").expect("in step");
    assert!(connection.statement.is_none());
    let silent = answering(vec![ok(0, 0)]).open_binary("it").expect_err("no result");
    assert!(silent.to_string().contains("returned no rows"), "{silent}");
}

#[test]
fn a_server_of_the_old_protocol_ends_its_columns_with_a_packet() {
    let server = listen(|number| {
        let lacks = CapabilityFlags::CLIENT_DEPRECATE_EOF;
        let mut logged_in = false;
        let greeting = vec![greeting_of(number, "mysql_native_password", lacks)];
        Ok(Memory::new(greeting, move |packet| {
            if !std::mem::replace(&mut logged_in, true) {
                return vec![ok(0, 0)];
            }
            let eof = || Event::Packet(vec![0xfe, 0, 0, 2, 0]);
            match packet {
                b"\x03it" => vec![
                    Event::Packet(vec![1]),
                    column("a", ColumnType::MYSQL_TYPE_VAR_STRING),
                    eof(),
                    Event::Packet(vec![1, b'x']),
                    eof(),
                ],
                _ => vec![end()],
            }
        }))
    });
    let mut connection = server.connect().expect("connected");
    assert_eq!(connection.query_value("it").expect("a row").as_deref(), Some("x"));
}

#[test]
fn a_statement_larger_than_a_frame_arrives_whole() {
    let (server, log) = serve(|_, _| None);
    let mut connection = server.connect().expect("connected");
    let sql = format!("SELECT '{}'", "x".repeat(0xff_ffff));
    connection.execute(&sql).expect("sent");
    connection.announce(6).expect("begun");
    connection.part(b"SEL").expect("sent");
    connection.part(b"ECT").expect("sent");
    connection.answer().expect("answered");
    let log = log.lock().expect("no test panicked");
    assert!(log[0].1 == sql && log[1].1 == "SELECT", "{} statements", log.len());
}

#[test]
fn a_goodbye_is_said_over_a_line_that_works_and_over_no_other() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = heard.clone();
    let server = listen(move |number| {
        let told = told.clone();
        Ok(Memory::new(vec![greeting(number, "caching_sha2_password")], move |packet| {
            told.lock().expect("no test panicked").push(packet[0]);
            if packet == b"\x03it" { vec![Event::End] } else { vec![ok(0, 0)] }
        }))
    });
    drop(server.connect().expect("connected"));
    assert_eq!(heard.lock().expect("no test panicked").pop(), Some(COM_QUIT));
    let mut connection = server.connect().expect("connected");
    assert!(is_lost(&connection.execute("it").expect_err("it ended")));
    drop(connection);
    assert_eq!(heard.lock().expect("no test panicked").pop(), Some(COM_QUERY));
}

/// What came of the value of `it`, in one piece, and how many pieces it came in.
fn value_of(events: Vec<Event>) -> (Result<bool>, Vec<u8>, usize) {
    let mut connection = answering(events);
    let (mut value, mut pieces) = (Vec::new(), 0);
    let there = connection.value_through("it", &mut |piece| {
        pieces += 1;
        value.extend_from_slice(piece);
        Ok(())
    });
    if !there.as_ref().is_err_and(is_lost) {
        connection.execute("another").expect("in step");
    }
    (there, value, pieces)
}

#[test]
fn a_value_comes_in_pieces_and_is_the_one_that_was_sent() {
    for length in [0, 1, 250, 251, 70_000, 400_000, 0xff_ffff - 9, 0xff_ffff, 0xff_ffff * 2 + 1] {
        let sent: Vec<u8> = (0..length).map(|at| (at % 253) as u8).collect();
        let (there, value, pieces) = value_of(rows(&["v"], &[vec![Some(sent.clone())]]));
        assert!(there.expect("a value") && value == sent, "{length} bytes");
        assert!(pieces >= length / 262_144, "{pieces} pieces of {length} bytes");
    }
    assert!(!value_of(rows(&["v"], &[vec![None]])).0.expect("NULL"));
    assert!(!value_of(rows(&["v"], &[])).0.expect("no row"));
}

#[test]
fn a_value_that_is_cut_short_is_an_error_and_never_a_shorter_value() {
    let mut events = rows(&["v"], &[vec![Some(vec![7; 1000])]]);
    events[2] = Event::Raw([&[0xeb, 3, 0, 3, 0xfc, 0xe8, 3], &[7; 500][..]].concat());
    events.truncate(3);
    events.push(Event::End);
    assert!(is_lost(&value_of(events).0.expect_err("cut")));
    // The packet ends before its value does, or after it.
    for sent in [800, 1200] {
        let mut events = rows(&["v"], &[vec![Some(Vec::new())]]);
        events[2] = Event::Packet([&[0xfc, 0xe8, 3], vec![7; sent].as_slice()].concat());
        let error = value_of(events).0.expect_err("not what it says");
        assert!(matches!(error.kind(), Kind::Protocol(_)), "{sent}: {error}");
    }
    assert_eq!(value_of(vec![error(1317, "interrupted")]).0.expect_err("refused").server_code(), Some(1317));
    let mut events = rows(&["v"], &[]);
    events.pop();
    events.push(error(1317, "interrupted"));
    assert_eq!(value_of(events).0.expect_err("interrupted").server_code(), Some(1317));
}

#[test]
fn whoever_cannot_take_a_value_is_told_so_and_the_connection_stays_in_step() {
    let mut connection = answering(rows(&["v"], &[vec![Some(vec![7; 900_000])]]));
    let mut pieces = 0;
    let failed = connection.value_through("it", &mut |_| {
        pieces += 1;
        Err(Kind::Value("full".into()).into())
    });
    assert_eq!((failed.expect_err("full").to_string().as_str(), pieces), ("full", 1));
    connection.execute("another").expect("in step");
}
