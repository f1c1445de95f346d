//! Statements over a connection: plain ones in the text protocol, reading ones in the binary protocol, which alone
//! carries FLOAT whole.

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{Column, ErrPacket};

use super::connect::Server;
use super::silence::Silence;
use super::wire::Wire;
use crate::error::{Error, Kind, Result};

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;

/// What the server says of a statement that returns no rows.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub affected_rows: u64,
    pub warnings: u16,
}

/// A row of the text protocol: small results of bookkeeping, never data.
pub type TextRow = Vec<Option<Vec<u8>>>;

/// A logged-in connection.
pub struct Connection {
    wire: Wire,
    server: Server,
    pub version: String,
    pub id: u32,
    capabilities: CapabilityFlags,
    /// The prepared statement whose rows were read last; closed before the next command.
    statement: Option<[u8; 4]>,
}

impl Connection {
    pub(super) fn new(
        wire: Wire,
        server: Server,
        version: String,
        id: u32,
        capabilities: CapabilityFlags,
    ) -> Self {
        Self { wire, server, version, id, capabilities, statement: None }
    }

    pub(super) fn judge_silence(&mut self) -> Result<()> {
        self.wire.judge_silence(Silence::new(self.server.clone(), self.id))
    }

    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    fn command(&mut self, command: u8, payload: &[u8]) -> Result<()> {
        if let Some(id) = self.statement.take() {
            self.wire.begin();
            self.wire.write(&[&[COM_STMT_CLOSE], id.as_slice()].concat())?;
        }
        let mut packet = Vec::with_capacity(payload.len() + 1);
        packet.push(command);
        packet.extend_from_slice(payload);
        self.wire.begin();
        self.wire.write(&packet)
    }

    /// Runs a statement that returns no rows.
    pub fn execute(&mut self, sql: &str) -> Result<Done> {
        self.execute_bytes(sql.as_bytes())
    }

    /// Runs a statement whose literals may be in any character set.
    pub fn execute_bytes(&mut self, sql: &[u8]) -> Result<Done> {
        self.command(COM_QUERY, sql)?;
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
        let count = Fields(header).length()?;
        self.read_columns(count as usize)
    }

    fn read_columns(&mut self, count: usize) -> Result<Vec<Column>> {
        let mut columns = Vec::with_capacity(count);
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
        let packet = self.wire.read()?;
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
