//! A server in memory, for tests and the fuzzer: it answers packets by a function, nothing is waited for, and whatever goes wrong goes wrong
//! at the byte that a test names.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use mysql_common::constants::{CapabilityFlags as Cap, ColumnFlags, ColumnType};

use super::connect::{Server, SslMode};
use super::settings::{BETWEEN, NOTHING, Role, Setting, Settings};
use crate::secret::Secret;

pub(crate) const VERSION: &str = "9.7.4";
const FRAME: usize = 0xff_ffff;
const BINARY: u16 = 63;
/// Reads of a line that will never say anything again.
const PATIENT: usize = 100;

/// What reaches the client.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A packet with the number that is due.
    Packet(Vec<u8>),
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// A read that fails.
    Fails(io::ErrorKind),
    /// The other side has hung up.
    End,
}

type Answer = Box<dyn FnMut(&[u8]) -> Vec<Event> + Send>;

/// The line to a server in memory.
pub(crate) struct Memory {
    answer: Answer,
    /// The number of the packet that is sent next.
    sequence: u8,
    /// What came of a frame, and of a packet of several.
    frame: Vec<u8>,
    packet: Vec<u8>,
    outbox: VecDeque<Event>,
    /// Bytes that one read or write moves at most.
    pub most: usize,
    /// Writes that fail before one succeeds.
    pub deaf: usize,
    empty: usize,
}

impl Memory {
    /// A line over which `greeting` comes, and `answer` answers each packet.
    pub fn new(greeting: Vec<Event>, answer: impl FnMut(&[u8]) -> Vec<Event> + Send + 'static) -> Self {
        let (frame, packet, outbox) = (Vec::new(), Vec::new(), VecDeque::new());
        let answer = Box::new(answer);
        let mut line =
            Self { answer, sequence: 0, frame, packet, outbox, most: usize::MAX, deaf: 0, empty: 0 };
        line.say(greeting);
        line
    }

    fn say(&mut self, events: Vec<Event>) {
        for event in events {
            let Event::Packet(packet) = event else {
                self.outbox.push_back(event);
                continue;
            };
            let mut bytes = Vec::with_capacity(packet.len() + 4);
            let mut rest = packet.as_slice();
            loop {
                let (frame, after) = rest.split_at(rest.len().min(FRAME));
                bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes()[..3]);
                bytes.push(self.sequence);
                bytes.extend_from_slice(frame);
                self.sequence = self.sequence.wrapping_add(1);
                rest = after;
                if frame.len() < FRAME {
                    break;
                }
            }
            self.outbox.push_back(Event::Raw(bytes));
        }
    }

    fn hear(&mut self) {
        while let Some(header) = self.frame.first_chunk::<4>().copied() {
            let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            if self.frame.len() < 4 + length {
                return;
            }
            self.packet.extend(self.frame.drain(..4 + length).skip(4));
            self.sequence = header[3].wrapping_add(1);
            if length < FRAME {
                let packet = std::mem::take(&mut self.packet);
                let said = (self.answer)(&packet);
                self.say(said);
            }
        }
    }
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.outbox.front_mut() {
            None => {
                self.empty += 1;
                assert!(self.empty < PATIENT, "the client waits for what never comes");
                Err(io::ErrorKind::WouldBlock.into())
            }
            Some(Event::End) => Ok(0),
            Some(Event::Fails(kind)) => {
                let kind = *kind;
                self.outbox.pop_front();
                Err(kind.into())
            }
            Some(Event::Raw(bytes) | Event::Packet(bytes)) => {
                let count = buffer.len().min(bytes.len()).min(self.most);
                buffer[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if bytes.is_empty() {
                    self.outbox.pop_front();
                }
                Ok(count)
            }
        }
    }
}

impl Write for Memory {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.deaf > 0 {
            self.deaf -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.most);
        self.frame.extend_from_slice(&buffer[..count]);
        self.hear();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// -- servers ---------------------------------------------------------------------------------------

type Dial = Box<dyn FnMut(u32) -> io::Result<Memory> + Send>;

static COUNT: AtomicU64 = AtomicU64::new(0);
static SERVERS: LazyLock<Mutex<HashMap<String, (u32, Dial)>>> = LazyLock::new(Mutex::default);

/// A server that gives each connection, by its number from 1 on, what `dial` makes.
pub(crate) fn listen(dial: impl FnMut(u32) -> io::Result<Memory> + Send + 'static) -> Server {
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let host = format!("memory-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    servers.insert(host.clone(), (0, Box::new(dial)));
    Server {
        host,
        port: 3306,
        user: "u".into(),
        password: Secret::default(),
        unix_socket: None,
        ssl_mode: SslMode::Disabled,
        ssl_ca: None,
        ssl_cert: None,
        ssl_key: None,
        trust_server: false,
        server_public_key_path: None,
        enable_cleartext_plugin: false,
        read_timeout: 60,
    }
}

/// The server is gone.
pub(crate) fn forget(server: &Server) {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&server.host);
}

/// A line to the server of this name, if it is one in memory.
pub(crate) fn dial(host: &str) -> Option<io::Result<Memory>> {
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, dial) = servers.get_mut(host)?;
    *count += 1;
    Some(dial(*count))
}

/// What was said to a server: the number of the connection, and the statement.
pub(crate) type Log = Arc<Mutex<Vec<(u32, String)>>>;

/// A server that lets everybody in. `say` answers the statements that it knows, of a connection by its number; others are
/// settings, which are taken, or succeed.
pub(crate) fn serve(say: impl Fn(u32, &str) -> Option<Vec<Event>> + Send + Sync + 'static) -> (Server, Log) {
    let log = Log::default();
    let (told, say) = (log.clone(), Arc::new(say));
    let server = listen(move |number| {
        let (told, say) = (told.clone(), say.clone());
        let (mut logged_in, mut prepared) = (false, String::new());
        Ok(Memory::new(vec![greeting(number, "caching_sha2_password")], move |packet| {
            if !std::mem::replace(&mut logged_in, true) {
                return vec![ok(0, 0)];
            }
            let (command, sql) = packet.split_first().expect("no packet is empty");
            let sql = String::from_utf8_lossy(sql).into_owned();
            let answer =
                |sql: &str| say(number, sql).or_else(|| settings(sql)).unwrap_or_else(|| vec![ok(0, 0)]);
            match command {
                0x03 => {
                    told.lock().expect("no test panicked").push((number, sql.clone()));
                    answer(&sql)
                }
                // Prepared: what `say` gives is the answer to its execution, which begins with the columns.
                0x16 => {
                    told.lock().expect("no test panicked").push((number, sql.clone()));
                    match answer(&sql).first() {
                        Some(Event::Packet(error)) if error.first() == Some(&0xff) => {
                            vec![Event::Packet(error.clone())]
                        }
                        _ => {
                            prepared = sql;
                            vec![Event::Packet(vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]
                        }
                    }
                }
                0x17 => answer(&prepared),
                _ => Vec::new(),
            }
        }))
    });
    (server, log)
}

/// The values that a session was set to, for the statement that reads them back.
fn settings(sql: &str) -> Option<Vec<Event>> {
    let roles = [Role::Read, Role::Load].map(|role| Settings::of(VERSION, role));
    let found = roles.into_iter().find(|settings| settings.read() == sql)?;
    Some(told(&found, |setting| setting.wanted()))
}

/// The answer of a server to a session that reads back its settings, with these values.
pub(crate) fn told<'a>(settings: &'a Settings, value: impl Fn(&'a Setting) -> &'a str) -> Vec<Event> {
    let values = settings.all.iter().map(|setting| match value(setting) {
        "NULL" => NOTHING,
        wanted if wanted.starts_with("CAST(") => "50",
        wanted => wanted,
    });
    let line = values.collect::<Vec<_>>().join(&BETWEEN.to_string());
    rows(&["settings"], &[vec![Some(line.into_bytes())]])
}

// -- packets ---------------------------------------------------------------------------------------

pub(crate) fn greeting(id: u32, plugin: &str) -> Event {
    greeting_of(id, plugin, Cap::empty())
}

/// The first packet of a server that lacks some capabilities.
pub(crate) fn greeting_of(id: u32, plugin: &str, lacks: Cap) -> Event {
    let capabilities = (Cap::all() - Cap::CLIENT_SSL - Cap::CLIENT_COMPRESS - lacks).bits();
    let mut packet = vec![10];
    packet.extend_from_slice(VERSION.as_bytes());
    packet.push(0);
    packet.extend_from_slice(&id.to_le_bytes());
    packet.extend_from_slice(b"01234567\0");
    packet.extend_from_slice(&(capabilities as u16).to_le_bytes());
    packet.extend_from_slice(&[255, 2, 0]);
    packet.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
    packet.push(21);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"890123456789\0");
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    Event::Packet(packet)
}

pub(crate) fn ok(affected_rows: u8, warnings: u8) -> Event {
    Event::Packet(vec![0, affected_rows, 0, 2, 0, warnings, 0])
}

pub(crate) fn error(code: u16, message: &str) -> Event {
    Event::Packet([&[0xff], code.to_le_bytes().as_slice(), b"#HY000", message.as_bytes()].concat())
}

/// The end of a result.
pub(crate) fn end() -> Event {
    Event::Packet(vec![0xfe, 0, 0, 2, 0, 0, 0])
}

/// A value with its length.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u64;
    let mut out = match length {
        0..=250 => vec![length as u8],
        251..=0xffff => [&[0xfc], &length.to_le_bytes()[..2]].concat(),
        0x1_0000..=0xff_ffff => [&[0xfd], &length.to_le_bytes()[..3]].concat(),
        _ => [&[0xfe], length.to_le_bytes().as_slice()].concat(),
    };
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn column(name: &str, kind: ColumnType) -> Event {
    let mut packet = Vec::new();
    for text in ["def", "s", "t", "t", name, name] {
        packet.extend(counted(text.as_bytes()));
    }
    packet.push(12);
    packet.extend_from_slice(&BINARY.to_le_bytes());
    packet.extend_from_slice(&20_u32.to_le_bytes());
    packet.push(kind as u8);
    packet.extend_from_slice(&ColumnFlags::BINARY_FLAG.bits().to_le_bytes());
    packet.extend_from_slice(&[0, 0, 0]);
    Event::Packet(packet)
}

/// A result of the text protocol.
pub(crate) fn rows(names: &[&str], rows: &[Vec<Option<Vec<u8>>>]) -> Vec<Event> {
    let mut events = vec![Event::Packet(counted_columns(names.len()))];
    events.extend(names.iter().map(|name| column(name, ColumnType::MYSQL_TYPE_VAR_STRING)));
    for row in rows {
        let cell = |cell: &Option<Vec<u8>>| cell.as_deref().map_or(vec![0xfb], counted);
        events.push(Event::Packet(row.iter().flat_map(cell).collect()));
    }
    events.push(end());
    events
}

/// A result of the binary protocol: a BIGINT that may be missing, and bytes.
pub(crate) fn binary_rows(rows: &[(Option<i64>, Vec<u8>)]) -> Vec<Event> {
    let mut events = vec![Event::Packet(counted_columns(2))];
    events.push(column("n", ColumnType::MYSQL_TYPE_LONGLONG));
    events.push(column("b", ColumnType::MYSQL_TYPE_BLOB));
    events.extend(rows.iter().map(|(number, bytes)| binary_row(*number, bytes)));
    events.push(end());
    events
}

/// One row of that.
pub(crate) fn binary_row(number: Option<i64>, bytes: &[u8]) -> Event {
    let mut packet = vec![0, if number.is_none() { 4 } else { 0 }];
    packet.extend(number.iter().flat_map(|number| number.to_le_bytes()));
    packet.extend(counted(bytes));
    Event::Packet(packet)
}

fn counted_columns(count: usize) -> Vec<u8> {
    counted(&vec![0; count])[..if count < 251 { 1 } else { 3 }].to_vec()
}
