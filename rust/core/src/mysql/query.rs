//! Statements over a connection: plain ones in the text protocol, reading ones in the binary protocol, which alone
//! carries FLOAT whole.

use std::collections::HashMap;

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{Column, ErrPacket};

use super::connect::Server;
use super::hangup::Hangup;
use super::silence::Silence;
use super::wire::Wire;
use crate::error::{Error, Kind, Result};

/// A payload up to this is one write together with its header.
const SMALL: usize = 64 * 1024;
const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;

/// What the server says of a statement that returns no rows.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    /// Rows that were inserted, changed or deleted.
    pub affected_rows: u64,
    /// How many warnings `SHOW WARNINGS` has.
    pub warnings: u16,
}

/// A row of the text protocol: small results of bookkeeping, never data.
pub type TextRow = Vec<Option<Vec<u8>>>;

/// A logged-in connection.
pub struct Connection {
    wire: Wire,
    server: Server,
    /// The version as the server says it.
    pub version: String,
    /// The session's number, for `KILL`.
    pub id: u32,
    capabilities: CapabilityFlags,
    /// The prepared statement whose rows were read last; closed before the next command.
    statement: Option<[u8; 4]>,
    /// The character set behind each collation number that was asked for.
    pub(super) charsets: HashMap<u16, String>,
    /// Statements read tables by one thread of the server's, not by several.
    pub(crate) reads_alone: bool,
}

impl Connection {
    pub(super) fn new(
        wire: Wire,
        server: Server,
        version: String,
        id: u32,
        capabilities: CapabilityFlags,
    ) -> Self {
        let charsets = HashMap::new();
        Self { wire, server, version, id, capabilities, statement: None, charsets, reads_alone: false }
    }

    pub(super) fn judge_silence(&mut self) -> Result<()> {
        self.wire.judge_silence(Silence::new(self.server.clone(), self.id))
    }

    /// What hangs up on this connection from another thread.
    pub fn hangup(&mut self) -> Result<Hangup> {
        Ok(Hangup { server: self.server.clone(), id: self.id, line: self.wire.line()? })
    }

    /// The server that it is a session with.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// True if the server is a `MariaDB`.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    fn close_statement(&mut self) -> Result<()> {
        let Some(id) = self.statement.take() else { return Ok(()) };
        self.wire.begin();
        self.wire.write(&[&[COM_STMT_CLOSE], id.as_slice()].concat())
    }

    fn command(&mut self, command: u8, payload: &[u8]) -> Result<()> {
        self.close_statement()?;
        self.wire.begin();
        if payload.len() > SMALL {
            // No copy is made of a statement that has rows in it.
            self.wire.announce(payload.len() + 1)?;
            self.wire.part(&[command])?;
            return self.wire.part(payload);
        }
        self.wire.write(&[&[command], payload].concat())
    }

    /// Begins a statement of so many bytes, which `part` sends and `answer` ends.
    pub(super) fn announce(&mut self, length: usize) -> Result<()> {
        self.close_statement()?;
        self.wire.begin();
        self.wire.announce(length + 1)?;
        self.wire.part(&[COM_QUERY])
    }

    pub(super) fn part(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.part(bytes)
    }

    /// Runs a statement that returns no rows.
    pub fn execute(&mut self, sql: &str) -> Result<Done> {
        self.execute_bytes(sql.as_bytes())
    }

    /// Runs a statement whose literals may be in any character set.
    pub fn execute_bytes(&mut self, sql: &[u8]) -> Result<Done> {
        self.command(COM_QUERY, sql)?;
        self.answer()
    }

    /// What the server says of the statement that was sent.
    pub(super) fn answer(&mut self) -> Result<Done> {
        let packet = self.wire.read()?;
        match packet.first() {
            Some(0x00) => done(packet),
            Some(0xff) => Err(server_error(packet)),
            Some(0xfb) => Err(self.refuse_file()),
            _ => {
                let packet = packet.to_vec();
                self.text_rows(&packet)?;
                Ok(Done::default())
            }
        }
    }

    /// Runs a statement in the text protocol and keeps its rows.
    pub fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.command(COM_QUERY, sql.as_bytes())?;
        let packet = self.wire.read()?.to_vec();
        match packet.first() {
            Some(0x00) => Ok(Vec::new()),
            Some(0xff) => Err(server_error(&packet)),
            Some(0xfb) => Err(self.refuse_file()),
            _ => self.text_rows(&packet),
        }
    }

    /// The first value of the first row as text, if there is one.
    pub fn query_value(&mut self, sql: &str) -> Result<Option<String>> {
        let rows = self.query(sql)?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn text_rows(&mut self, header: &[u8]) -> Result<Vec<TextRow>> {
        let columns = self.columns(header)?.len();
        let mut rows = Vec::new();
        while let Some(packet) = self.row()? {
            let mut fields = Fields(packet);
            let mut row = Vec::with_capacity(columns);
            for _ in 0..columns {
                row.push(fields.nullable_bytes()?.map(<[u8]>::to_vec));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn columns(&mut self, header: &[u8]) -> Result<Vec<Column>> {
        let count = u16::try_from(Fields(header).length()?);
        // As many as a prepared statement can tell of; no server has more than 4096.
        self.read_columns(usize::from(count.map_err(|_| protocol(&"a result of impossibly many columns"))?))
    }

    fn read_columns(&mut self, count: usize) -> Result<Vec<Column>> {
        // No memory is taken for columns that are only spoken of.
        let mut columns = Vec::new();
        for _ in 0..count {
            let packet = self.wire.read()?;
            columns.push(ParseBuf(packet).parse(()).map_err(|error| protocol(&error))?);
        }
        if count > 0 && !self.capabilities.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
            self.wire.read()?;
        }
        Ok(columns)
    }

    /// The next row's packet of the open result, or `None` after the last.
    pub(super) fn row(&mut self) -> Result<Option<&[u8]>> {
        self.row_with(&mut |_| true)
    }

    /// The memory of the row that was read last, if it is a large one.
    pub(super) fn take_large(&mut self) -> Vec<u8> {
        self.wire.take_large()
    }

    /// The same; of a large row `room` is asked before it is read, and without room no more than its first byte is kept.
    pub(super) fn row_with(&mut self, room: &mut dyn FnMut(u64) -> bool) -> Result<Option<&[u8]>> {
        let packet = self.wire.read_with(room)?;
        match packet.first() {
            Some(0xff) => Err(server_error(packet)),
            Some(0xfe) if packet.len() < 0xff_ffff => {
                // A text row may begin with 0xfe too, but only as the length of a value of 16 MiB and more.
                Ok(None)
            }
            Some(_) => Ok(Some(packet)),
            None => Err(Kind::Protocol("an empty packet in a result".into()).into()),
        }
    }

    /// Hands on the one value of the one row of a statement, in pieces as they come over the line. False where there is no
    /// row, or NULL. After a failure of `take` the connection can still be used.
    pub fn value_through(&mut self, sql: &str, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        self.command(COM_QUERY, sql.as_bytes())?;
        let packet = self.wire.read()?.to_vec();
        match packet.first() {
            Some(0xff) => return Err(server_error(&packet)),
            Some(0xfb) => return Err(self.refuse_file()),
            Some(1) => drop(self.columns(&packet)?),
            _ => return Err(protocol(&"a value that is not one")),
        }
        let (mut head, mut left, mut failed) = (Vec::new(), None, None);
        self.wire.read_through(&mut |frame, mut piece| {
            while left.is_none()
                && let Some((byte, rest)) = piece.split_first()
            {
                head.push(*byte);
                piece = rest;
                left = length_of(&head, frame);
            }
            if let (Some(Length::Bytes(left)), None) = (&mut left, &failed) {
                let taken = left.checked_sub(piece.len() as u64).map(|rest| *left = rest);
                let taken = taken.ok_or_else(|| protocol(&"a row longer than its value"));
                failed = taken.and_then(|()| take(piece)).err();
            }
        })?;
        let value = match left {
            Some(Length::Packet) if head.first() == Some(&0xff) => return Err(server_error(&head)),
            Some(Length::Packet) => return Ok(false),
            Some(Length::Null) => Ok(false),
            Some(Length::Bytes(0)) => Ok(true),
            _ => Err(protocol(&"a value that ends too early")),
        };
        while self.row()?.is_some() {}
        failed.map_or(value, Err)
    }

    /// Prepares and starts a statement without parameters; its rows are then read with `row` in the binary protocol.
    pub(super) fn open_binary(&mut self, sql: &str) -> Result<Vec<Column>> {
        self.command(COM_STMT_PREPARE, sql.as_bytes())?;
        let packet = self.wire.read()?;
        match packet.first() {
            Some(0xff) => return Err(server_error(packet)),
            Some(0xfb) => return Err(self.refuse_file()),
            _ => {}
        }
        let short = || protocol(&"a short answer to a prepared statement");
        let id: [u8; 4] = packet.get(1..5).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
        let count = usize::from(u16::from_le_bytes(
            packet.get(5..7).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?,
        ));
        self.read_columns(count)?;
        let mut execute = id.to_vec();
        execute.extend_from_slice(&[0, 1, 0, 0, 0]);
        self.command(COM_STMT_EXECUTE, &execute)?;
        let packet = self.wire.read()?.to_vec();
        self.statement = Some(id);
        match packet.first() {
            Some(0xff) => Err(server_error(&packet)),
            Some(0xfb) => Err(self.refuse_file()),
            Some(0x00) => Err(protocol(&"a statement that reads returned no rows")),
            _ => self.columns(&packet),
        }
    }

    /// Starts the sending of the binary log; its events are then read with `row`.
    pub(super) fn open_log(&mut self, request: &[u8]) -> Result<()> {
        self.command(COM_BINLOG_DUMP, request)
    }

    /// Hangs up on a server that asks for a file of this machine: none is ever sent, and nothing more is said to it.
    fn refuse_file(&mut self) -> Error {
        self.wire.close();
        protocol(&"the server asked for a file of this machine, which it was not given")
    }

    /// Starts `LOAD DATA LOCAL INFILE 'rows'`: the server asks for the data, which `send_data` then sends.
    pub(super) fn open_load(&mut self, sql: &str) -> Result<()> {
        self.command(COM_QUERY, sql.as_bytes())?;
        let packet = self.wire.read()?;
        match packet.first() {
            Some(0xfb) if packet[1..] == *b"rows" => Ok(()),
            Some(0xfb) => Err(self.refuse_file()),
            Some(0xff) => Err(server_error(packet)),
            _ => Err(protocol(&"LOAD DATA LOCAL was answered without asking for data")),
        }
    }

    pub(super) fn send_data(&mut self, data: &[u8]) -> Result<()> {
        // An empty packet would end the data.
        if data.is_empty() { Ok(()) } else { self.wire.write(data) }
    }

    pub(super) fn finish_load(&mut self) -> Result<Done> {
        self.wire.write(&[])?;
        let packet = self.wire.read()?;
        match packet.first() {
            Some(0x00) => done(packet),
            Some(0xff) => Err(server_error(packet)),
            _ => Err(protocol(&"an unknown answer after LOAD DATA LOCAL")),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The server notices a closed socket as well; saying goodbye only spares its error log a line.
        let _ = self.command(COM_QUIT, &[]);
    }
}

/// What the first bytes of a text row say of its value.
enum Length {
    Bytes(u64),
    Null,
    /// It is no row, but an error or the end: a packet to be read whole.
    Packet,
}

/// Nothing while more of the row's first bytes are needed; `frame` is how long its first frame is.
fn length_of(head: &[u8], frame: usize) -> Option<Length> {
    let (&first, rest) = head.split_first()?;
    let width = match first {
        0xfb => return Some(Length::Null),
        0xff => return (head.len() >= frame).then_some(Length::Packet),
        // So long a value is not in one frame; what else begins so is the end.
        0xfe if frame < 0xff_ffff => return (head.len() >= frame).then_some(Length::Packet),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        short => return Some(Length::Bytes(u64::from(short))),
    };
    let bytes = rest.get(..width)?;
    Some(Length::Bytes(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))))
}

fn protocol(message: &impl ToString) -> Error {
    Kind::Protocol(message.to_string()).into()
}

/// The error that an error packet carries.
pub(super) fn server_error(packet: &[u8]) -> Error {
    match ParseBuf(packet).parse::<ErrPacket<'_>>(CapabilityFlags::CLIENT_PROTOCOL_41) {
        Ok(ErrPacket::Error(error)) => Kind::Server {
            code: error.error_code(),
            state: error.sql_state_ref().map_or_else(String::new, |state| state.as_str().into_owned()),
            message: error.message_str().into_owned(),
        }
        .into(),
        _ => protocol(&"an error packet that cannot be read"),
    }
}

fn done(packet: &[u8]) -> Result<Done> {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    let affected_rows = fields.length()?;
    fields.length()?;
    let warnings = fields.0.get(2..4).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    Ok(Done { affected_rows, warnings })
}

/// Reads the length-encoded fields of a packet from its start.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.0.len() {
            return Err(protocol(&"a packet ends within a value"));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn length(&mut self) -> Result<u64> {
        Ok(match self.take(1)?[0] {
            0xfc => u64::from(u16::from_le_bytes(self.array()?)),
            0xfd => {
                let [low, middle, high] = self.array()?;
                u64::from(u32::from_le_bytes([low, middle, high, 0]))
            }
            0xfe => u64::from_le_bytes(self.array()?),
            small => u64::from(small),
        })
    }

    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length as usize)
    }

    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        if self.0.first() == Some(&0xfb) {
            self.take(1)?;
            return Ok(None);
        }
        self.bytes().map(Some)
    }
}

#[cfg(test)]
mod tests;
