//! Packets: frames of up to 16 MiB - 1 bytes with a sequence number, joined and split here and nowhere else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crate::error::{Error, Kind, Result};

const FRAME: usize = 0xff_ffff;
const INBOX: usize = 256 * 1024;

/// A connected stream, encrypted or not.
pub enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One side of a conversation in packets.
pub struct Wire {
    transport: Option<Transport>,
    server: String,
    sequence: u8,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    /// A packet that did not fit the inbox, joined from its frames.
    large: Vec<u8>,
    outbox: Vec<u8>,
}

impl Wire {
    pub fn new(transport: Transport, server: String) -> Self {
        Self {
            transport: Some(transport),
            server,
            sequence: 0,
            inbox: vec![0; INBOX],
            start: 0,
            end: 0,
            large: Vec::new(),
            outbox: Vec::new(),
        }
    }

    /// Hands the transport to `wrap` and goes on with what it returns: how a connection becomes encrypted.
    pub fn wrap(&mut self, wrap: impl FnOnce(Transport) -> Result<Transport>) -> Result<()> {
        let plain = self.transport.take().ok_or_else(|| self.closed())?;
        self.transport = Some(wrap(plain)?);
        Ok(())
    }

    /// Starts a new command: the sequence begins anew, and memory taken by a large row is given back.
    pub fn begin(&mut self) {
        self.sequence = 0;
        self.large = Vec::new();
    }

    /// Hangs up.
    pub fn close(&mut self) {
        self.transport = None;
    }

    fn closed(&self) -> Error {
        self.lost(&io::Error::from(io::ErrorKind::NotConnected))
    }

    fn lost(&self, error: &io::Error) -> Error {
        Kind::Lost { server: self.server.clone(), message: error.to_string() }.into()
    }

    fn transport(&mut self) -> Result<&mut Transport> {
        if self.transport.is_none() {
            return Err(self.closed());
        }
        self.transport.as_mut().ok_or_else(|| Kind::Internal("no transport".into()).into())
    }

    /// Makes at least `wanted` bytes available in the inbox. `wanted` never exceeds its size.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        if self.start + wanted > self.inbox.len() {
            self.inbox.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < wanted {
            let end = self.end;
            let Some(transport) = self.transport.as_mut() else { return Err(self.closed()) };
            match transport.read(&mut self.inbox[end..]) {
                Ok(0) => return Err(self.lost(&io::Error::from(io::ErrorKind::UnexpectedEof))),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(())
    }

    /// The next packet, whole.
    pub fn read(&mut self) -> Result<&[u8]> {
        let mut length = self.read_header()?;
        if length + 4 <= self.inbox.len() {
            self.fill(length)?;
            let start = self.start;
            self.start += length;
            return Ok(&self.inbox[start..start + length]);
        }
        self.large.clear();
        loop {
            let held = (self.end - self.start).min(length);
            self.large.extend_from_slice(&self.inbox[self.start..self.start + held]);
            self.start += held;
            let filled = self.large.len();
            self.large.resize(filled + length - held, 0);
            let Some(transport) = self.transport.as_mut() else { return Err(self.closed()) };
            if let Err(error) = transport.read_exact(&mut self.large[filled..]) {
                return Err(self.lost(&error));
            }
            if length < FRAME {
                return Ok(&self.large);
            }
            length = self.read_header()?;
        }
    }

    fn read_header(&mut self) -> Result<usize> {
        self.fill(4)?;
        let header = &self.inbox[self.start..self.start + 4];
        let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        if header[3] != self.sequence {
            let message = format!("packet {} where {} was due", header[3], self.sequence);
            return Err(Kind::Protocol(message).into());
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.start += 4;
        Ok(length)
    }

    /// Sends one packet, in as many frames as it needs.
    pub fn write(&mut self, payload: &[u8]) -> Result<()> {
        let mut rest = payload;
        loop {
            let frame = &rest[..rest.len().min(FRAME)];
            rest = &rest[frame.len()..];
            let size = (frame.len() as u32).to_le_bytes();
            let header = [size[0], size[1], size[2], self.sequence];
            self.sequence = self.sequence.wrapping_add(1);
            let sent = if frame.len() <= 64 * 1024 {
                self.outbox.clear();
                self.outbox.extend_from_slice(&header);
                self.outbox.extend_from_slice(frame);
                let outbox = std::mem::take(&mut self.outbox);
                let sent = self.transport()?.write_all(&outbox);
                self.outbox = outbox;
                sent
            } else {
                let transport = self.transport()?;
                transport.write_all(&header).and_then(|()| transport.write_all(frame))
            };
            if let Err(error) = sent.and_then(|()| match self.transport.as_mut() {
                Some(transport) => transport.flush(),
                None => Ok(()),
            }) {
                return Err(self.lost(&error));
            }
            if frame.len() < FRAME {
                return Ok(());
            }
        }
    }
}
