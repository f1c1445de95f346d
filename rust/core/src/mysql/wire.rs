//! Packets: frames of up to 16 MiB - 1 bytes with a sequence number, joined and split here and nowhere else.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::hangup::Line;
#[cfg(any(test, fuzzing))]
use super::memory::Memory;
use crate::error::{Error, Kind, Result};
use crate::lines::{Listed, list};

const FRAME: usize = 0xff_ffff;
const INBOX: usize = 256 * 1024;

/// A connected stream, encrypted or not.
pub enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
    #[cfg(any(test, fuzzing))]
    Memory(Memory),
}

/// What this side of a connection is trying to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    ToReceive,
    ToSend,
}

/// Judges the silences of a connection.
pub(super) trait Judge: Send {
    /// How long a silence lasts before it is judged.
    fn patience(&self) -> Duration;

    /// Judges a silence that has lasted for `patience`: `Lost` if it will never end.
    fn last(&mut self, waiting: Waiting) -> Result<()>;

    /// Forgets a suspicion, because bytes have moved; true if there was one.
    fn forget(&mut self) -> bool;
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            #[cfg(any(test, fuzzing))]
            Self::Memory(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
            #[cfg(any(test, fuzzing))]
            Self::Memory(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
            #[cfg(any(test, fuzzing))]
            Self::Memory(stream) => stream.flush(),
        }
    }
}

impl Transport {
    fn line(&self) -> io::Result<Line> {
        Ok(match self {
            Self::Tcp(stream) => Line::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Line::Unix(stream.try_clone()?),
            Self::Tls(stream) => Line::Tcp(stream.get_ref().try_clone()?),
            #[cfg(any(test, fuzzing))]
            Self::Memory(_) => Line::Unix(UnixStream::pair()?.0),
        })
    }

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
            #[cfg(any(test, fuzzing))]
            Self::Memory(_) => Ok(()),
        }
    }
}

/// One side of a conversation in packets.
pub struct Wire {
    transport: Option<Transport>,
    judge: Option<Box<dyn Judge>>,
    listed: Option<Listed>,
    server: String,
    sequence: u8,
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    /// A packet that did not fit the inbox, joined from its frames.
    large: Vec<u8>,
    outbox: Vec<u8>,
    /// Of a packet that is sent in parts: what of it, and of its current frame, is still to come.
    left: usize,
    left_of_frame: usize,
    frame: usize,
}

impl Wire {
    pub fn new(transport: Transport, server: String) -> Self {
        let listed = list(|| {
            let line = transport.line().ok()?;
            Some(move || line.close())
        });
        Self {
            transport: Some(transport),
            judge: None,
            listed,
            server,
            sequence: 0,
            inbox: vec![0; INBOX],
            start: 0,
            end: 0,
            large: Vec::new(),
            outbox: Vec::new(),
            left: 0,
            left_of_frame: 0,
            frame: 0,
        }
    }

    /// Hands the transport to `wrap` and goes on with what it returns: how a connection becomes encrypted.
    pub fn wrap(&mut self, wrap: impl FnOnce(Transport) -> Result<Transport>) -> Result<()> {
        let Some(plain) = self.transport.take() else { return Err(self.closed()) };
        self.transport = Some(wrap(plain)?);
        Ok(())
    }

    /// From now on `judge` says, whenever nothing has arrived or left for a while, whether that is the end.
    pub fn judge_silence(&mut self, judge: impl Judge + 'static) -> Result<()> {
        let patience = judge.patience();
        self.judge = Some(Box::new(judge));
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
                let Some(judge) = self.judge.as_mut() else {
                    return Err(self.lost(&io::Error::from(io::ErrorKind::TimedOut)));
                };
                let verdict = judge.last(waiting);
                let patience = judge.patience();
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
        let Some(judge) = self.judge.as_mut() else { return Ok(()) };
        if !judge.forget() {
            return Ok(());
        }
        let patience = judge.patience();
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

    /// The line itself, for whoever has to hang up while this side waits.
    pub(super) fn line(&mut self) -> Result<Line> {
        match self.transport()?.line() {
            Ok(line) => Ok(line),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Hangs up.
    pub fn close(&mut self) {
        self.transport = None;
        self.listed = None;
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
        self.read_with(&mut |_| true)
    }

    /// The memory of the packet read last, if it was too large for the inbox.
    pub fn take_large(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.large)
    }

    /// The next packet, whole. Of one that does not fit the inbox `room` is told as much of its length as is known before
    /// that is read; where there is none, all but its first byte is passed over.
    pub fn read_with(&mut self, room: &mut dyn FnMut(u64) -> bool) -> Result<&[u8]> {
        let mut length = self.read_header()?;
        if length + 4 <= self.inbox.len() {
            self.fill(length)?;
            let start = self.start;
            self.start += length;
            return Ok(&self.inbox[start..start + length]);
        }
        self.large.clear();
        let mut known = 0;
        loop {
            known += length;
            let has_room = room(known as u64);
            if !has_room {
                self.pass_over(length)?;
                if length < FRAME {
                    return Ok(&self.large);
                }
                length = self.read_header()?;
                continue;
            }
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

    /// The next packet in pieces as they come, each with the length of its first frame.
    pub fn read_through(&mut self, take: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let mut first = None;
        loop {
            let length = self.read_header()?;
            let first = *first.get_or_insert(length);
            let mut rest = length;
            while rest > 0 {
                self.fill(1)?;
                let held = (self.end - self.start).min(rest);
                take(first, &self.inbox[self.start..self.start + held]);
                self.start += held;
                rest -= held;
            }
            if length < FRAME {
                return Ok(());
            }
        }
    }

    /// Reads so many bytes and keeps none but the first of the packet.
    fn pass_over(&mut self, mut length: usize) -> Result<()> {
        self.large.truncate(1);
        self.large.shrink_to(1);
        while length > 0 {
            self.fill(1)?;
            let held = (self.end - self.start).min(length);
            if self.large.is_empty() {
                self.large.push(self.inbox[self.start]);
            }
            self.start += held;
            length -= held;
        }
        Ok(())
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

    /// Begins a packet of so many bytes, which `part` then sends: it is never held as a whole.
    pub fn announce(&mut self, length: usize) -> Result<()> {
        self.left = length;
        self.begin_frame()
    }

    fn begin_frame(&mut self) -> Result<()> {
        self.frame = self.left.min(FRAME);
        self.left_of_frame = self.frame;
        let size = (self.frame as u32).to_le_bytes();
        let header = [size[0], size[1], size[2], self.sequence];
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&header)
    }

    /// Sends the next bytes of the packet that was announced.
    pub fn part(&mut self, mut bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.left {
            return Err(Kind::Internal("a packet longer than it was announced".into()).into());
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.left_of_frame));
            self.send(now)?;
            bytes = later;
            self.left -= now.len();
            self.left_of_frame -= now.len();
            if self.left_of_frame == 0 && self.frame == FRAME {
                // A full frame says that another follows, be it empty.
                self.begin_frame()?;
            }
        }
        if self.left == 0 { self.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
