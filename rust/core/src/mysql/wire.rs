//! Packets: frames of up to 16 MiB - 1 bytes with a sequence number, joined and split here and nowhere else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::silence::{Silence, Waiting};
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

impl Transport {
    /// How long one read or write may go without a single byte before it fails.
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let patience = Some(patience);
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience))
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience))
            }
            Self::Tls(stream) => {
                let stream = stream.get_ref();
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience))
            }
        }
    }
}

/// One side of a conversation in packets.
pub struct Wire {
    transport: Option<Transport>,
    silence: Option<Silence>,
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
            silence: None,
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
        let Some(plain) = self.transport.take() else { return Err(self.closed()) };
        self.transport = Some(wrap(plain)?);
        Ok(())
    }

    /// From now on `silence` judges, whenever nothing has arrived or left for a while, whether that is the end.
    pub fn judge_silence(&mut self, silence: Silence) -> Result<()> {
        let patience = silence.patience();
        self.silence = Some(silence);
        self.set_patience(patience)
    }

    /// Lets a read or write fail that moves no byte for so long.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        match self.transport.as_ref().map_or(Ok(()), |transport| transport.set_patience(patience)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// What a failed read or write means: nothing yet, or the end of the connection.
    fn stalled(&mut self, error: &io::Error, waiting: Waiting) -> Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let Some(silence) = self.silence.as_mut() else {
                    return Err(self.lost(&io::Error::from(io::ErrorKind::TimedOut)));
                };
                let verdict = silence.last(waiting);
                let patience = silence.patience();
                if verdict.is_err() {
                    self.transport = None;
                    return verdict;
                }
                self.set_patience(patience)
            }
            _ => Err(self.lost(error)),
        }
    }

    /// Bytes moved: whatever a silence was taken for is forgotten.
    fn moved(&mut self) -> Result<()> {
        let Some(silence) = self.silence.as_mut() else { return Ok(()) };
        if !silence.forget() {
            return Ok(());
        }
        let patience = silence.patience();
        self.set_patience(patience)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.transport()?.write(bytes) {
                Ok(0) => return Err(self.lost(&io::Error::from(io::ErrorKind::WriteZero))),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.moved()?;
                }
                Err(error) => self.stalled(&error, Waiting::ToSend)?,
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while let Err(error) = self.transport()?.flush() {
            self.stalled(&error, Waiting::ToSend)?;
        }
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

    fn closed(&mut self) -> Error {
        self.lost(&io::Error::from(io::ErrorKind::NotConnected))
    }

    fn lost(&mut self, error: &io::Error) -> Error {
        // Not even a goodbye is said over a line that is broken: it could wait as long again.
        self.transport = None;
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
                Ok(count) => {
                    self.end += count;
                    self.moved()?;
                }
                Err(error) => self.stalled(&error, Waiting::ToReceive)?,
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
            let mut filled = self.large.len();
            self.large.resize(filled + length - held, 0);
            while filled < self.large.len() {
                let Some(transport) = self.transport.as_mut() else { return Err(self.closed()) };
                match transport.read(&mut self.large[filled..]) {
                    Ok(0) => return Err(self.lost(&io::Error::from(io::ErrorKind::UnexpectedEof))),
                    Ok(count) => {
                        filled += count;
                        self.moved()?;
                    }
                    Err(error) => self.stalled(&error, Waiting::ToReceive)?,
                }
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
            if frame.len() <= 64 * 1024 {
                let mut outbox = std::mem::take(&mut self.outbox);
                outbox.clear();
                outbox.extend_from_slice(&header);
                outbox.extend_from_slice(frame);
                let sent = self.send(&outbox);
                self.outbox = outbox;
                sent?;
            } else {
                self.send(&header)?;
                self.send(frame)?;
            }
            self.flush()?;
            if frame.len() < FRAME {
                return Ok(());
            }
        }
    }
}
