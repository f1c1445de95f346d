//! The packed values of `DataJoint`'s blobs (`mYm`, `dj0`, compressed or not), read without unpacking them.
//!
//! A value is walked to its last byte: lengths that lie, damage and what is no blob are found, in bounded memory however
//! large a value claims to be. Only the data of a numeric array are ever handed on.

mod kind;

use std::io::{self, BufRead, Cursor, Read};

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use memchr::memmem;

pub use self::kind::Kind;
use super::npy::Dtype;

/// Clients pack no array of more axes, and numpy has none.
const MOST_AXES: u64 = 64;
/// Values within values: numpy's own reader gives up at Python's limit of calls.
const MOST_DEPTH: u32 = 128;
const MOST_NAME: usize = 1 << 16;
/// zlib makes nothing more than this many times smaller.
const RATIO: u64 = 1032;
const PIECE: usize = 256 << 10;
/// What takes no more bytes unpacked is unpacked at once, in less than half the time that pieces take.
const AT_ONCE: u64 = 8 << 20;
/// No field of a header is longer: what `header` is given must have as much, where the blob has it.
pub const HEAD: usize = 1 << 10;

/// What the beginning of a value says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the value is.
    pub kind: Kind,
    /// Of arrays and scalars of numbers.
    pub dtype: Option<Dtype>,
    /// Of arrays of every kind.
    pub shape: Vec<u64>,
    /// How many bytes the whole value takes, without compression.
    pub size: u64,
}

impl Header {
    /// The shape of an array of any kind; a scalar has one without axes, other values have none.
    #[must_use]
    pub fn axes(&self) -> Option<&[u64]> {
        use Kind::{Array, Chars, ComplexIntegers, Objects, Scalar};
        let shaped = matches!(self.kind, Array | Scalar | Chars | ComplexIntegers | Objects);
        shaped.then_some(self.shape.as_slice())
    }

    fn of(kind: Kind) -> Self {
        Self { kind, dtype: None, shape: Vec::new(), size: 0 }
    }
}

/// Why a value cannot be read.
#[derive(Debug)]
pub enum Fault {
    /// It is no packed value, or a damaged one.
    Bad(Kind, String),
    /// Its bytes could not be had, or what was made of them not be written.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            io::ErrorKind::InvalidData => damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

fn damaged(why: impl Into<String>) -> Fault {
    Fault::Bad(Kind::Damaged, why.into())
}

type Result<T> = std::result::Result<T, Fault>;

/// What the beginning of a blob of `length` bytes says, of which `head` holds the first `HEAD` or all. Data are not
/// looked at, but a length that cannot be true is found where the header tells it.
pub fn header(head: &[u8], length: u64) -> Result<Header> {
    let mut value = Value::open(head, length)?;
    let header = value.header()?;
    if value.zipped().is_none() && header.size != 0 && length != header.size {
        return Err(damaged(format!("it has {length} bytes, its header says {}", header.size)));
    }
    if let Some(declared) = value.zipped()
        && header.size != 0
        && declared != header.size
    {
        return Err(damaged(format!("it has {declared} bytes unpacked, its header says {}", header.size)));
    }
    Ok(header)
}

/// Reads all of a blob and says what it is, or what is wrong with it.
pub fn walk(blob: impl BufRead, length: u64) -> Result<Header> {
    let mut value = Value::open(blob, length)?;
    let header = value.header()?;
    value.finish(&header, &mut |_| Ok(()))?;
    Ok(header)
}

/// A blob that is being read.
pub struct Value<R> {
    inner: Inner<R>,
    at: u64,
    piece: Vec<u8>,
    code: u8,
    length: u64,
}

enum Inner<R> {
    Plain(R),
    Unzipped(Cursor<Vec<u8>>),
    Zipped(Box<Inflate<R>>, u64),
}

impl<R: BufRead> Inner<R> {
    /// What `packed` holds, which is to have `declared` bytes unpacked.
    fn unzip(mut packed: R, length: u64, declared: u64) -> Result<Self> {
        let there = packed.fill_buf()?;
        if declared <= AT_ONCE
            && there.len() as u64 == length
            && let Some(bytes) = unzip(there, declared as usize)
        {
            return Ok(Self::Unzipped(Cursor::new(bytes)));
        }
        Ok(Self::Zipped(Box::new(Inflate::new(packed)), declared))
    }
}

impl<R: BufRead> Read for Inner<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(out),
            Self::Unzipped(bytes) => bytes.read(out),
            Self::Zipped(inflate, _) => inflate.read(out),
        }
    }
}

impl<R: BufRead> Value<R> {
    /// Reads up to the value itself.
    pub fn open(mut blob: R, length: u64) -> Result<Self> {
        if length == 0 {
            return Err(Fault::Bad(Kind::Empty, "it has no bytes".into()));
        }
        let mut magic = [0; 6];
        let got = fill(&mut blob, &mut magic[..4])?;
        let mut value = Self { inner: Inner::Plain(blob), at: 0, piece: Vec::new(), code: 0, length };
        if got == 4 && magic[..4] == *b"ZL12" {
            value.bytes(&mut magic[4..])?;
            if magic != *b"ZL123\0" {
                return Err(foreign(&magic));
            }
            let declared = value.u64()?;
            let packed = length.saturating_sub(14);
            if declared > packed.saturating_mul(RATIO).saturating_add(RATIO) {
                return Err(damaged(format!("{packed} bytes cannot hold the {declared} that it claims")));
            }
            let Inner::Plain(blob) = value.inner else { return Err(damaged("it is compressed twice")) };
            value.inner = Inner::unzip(blob, packed, declared)?;
            value.at = 0;
            value.bytes(&mut magic[..4])?;
        } else {
            value.at = 4;
            if got < 4 {
                return Err(foreign(&magic[..got]));
            }
        }
        if magic[..4] == *b"mYm\0" || magic[..4] == *b"dj0\0" { Ok(value) } else { Err(foreign(&magic[..4])) }
    }

    fn zipped(&self) -> Option<u64> {
        match &self.inner {
            Inner::Plain(_) => None,
            Inner::Unzipped(bytes) => Some(bytes.get_ref().len() as u64),
            Inner::Zipped(_, declared) => Some(*declared),
        }
    }

    fn bytes(&mut self, out: &mut [u8]) -> Result<()> {
        self.inner.read_exact(out)?;
        self.at += out.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.bytes(&mut bytes)?;
        Ok(bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// What the value is; reads no further than to its data.
    pub fn header(&mut self) -> Result<Header> {
        let [code] = self.array()?;
        self.code = code;
        Ok(Header::of(match code {
            b'A' => return self.array_header(),
            b'C' => Kind::Cells,
            b'S' => Kind::Struct,
            b'F' => Kind::Records,
            b'P' => Kind::Sparse,
            1 => Kind::Tuple,
            2 => Kind::List,
            3 => Kind::Set,
            4 => Kind::Dict,
            5 => Kind::Str,
            6 => Kind::Bytes,
            10 => Kind::Int,
            11 => Kind::Bool,
            12 => Kind::Complex,
            13 => Kind::Float,
            b'd' => Kind::Decimal,
            b't' => Kind::Moment,
            b'u' => Kind::Uuid,
            0xff => Kind::None,
            _ => return Err(damaged(format!("no value begins with the byte {code:#04x}"))),
        }))
    }

    fn axes(&mut self) -> Result<Vec<u64>> {
        let count = self.u64()?;
        if count > MOST_AXES {
            return Err(damaged(format!("an array of {count} axes")));
        }
        (0..count).map(|_| self.u64()).collect()
    }

    fn array_header(&mut self) -> Result<Header> {
        let shape = self.axes()?;
        let (number, complex) = (self.u32()?, self.u32()?);
        let many = product(&shape)?;
        let (kind, dtype, width) = match number {
            4 => (Kind::Chars, None, 2),
            5 => return Ok(Header { kind: Kind::Objects, dtype: None, shape, size: 0 }),
            _ => {
                let real = Dtype::numbered(number)
                    .ok_or_else(|| damaged(format!("an array of the type {number}")))?;
                let width = if complex == 0 { real.width() } else { 2 * real.width() };
                match if complex == 0 { Some(real) } else { real.complex() } {
                    None => (Kind::ComplexIntegers, None, width),
                    Some(dtype) if shape.is_empty() => (Kind::Scalar, Some(dtype), width),
                    Some(dtype) => (Kind::Array, Some(dtype), width),
                }
            }
        };
        let size = many.checked_mul(width).and_then(|data| data.checked_add(self.at));
        let size = size.filter(|size| i64::try_from(*size).is_ok());
        // numpy multiplies what is left when it leaves the empty axes out, and must be able to.
        let others: Vec<u64> = shape.iter().copied().filter(|axis| *axis != 0).collect();
        let fits = product(&others)?.checked_mul(width).is_some_and(|bytes| i64::try_from(bytes).is_ok());
        match size {
            Some(size) if fits => Ok(Header { kind, dtype, shape, size }),
            _ => Err(damaged(format!("an array of the shape {shape:?}"))),
        }
    }

    /// Reads the rest, which must end where it says. The data of a numeric array go to `data`, piece by piece.
    pub fn finish(mut self, header: &Header, data: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        if header.size > 0 {
            // Said before anything is read: what is too short is no array, whatever it begins with.
            let there = self.zipped().unwrap_or(self.length);
            if there != header.size {
                return Err(damaged(format!("it has {there} bytes, its header says {}", header.size)));
            }
            self.pass(header.size - self.at, data)?;
        } else if self.code == b'A' {
            let many = product(&header.shape)?;
            (0..many).try_for_each(|_| self.sized(0))?;
        } else {
            self.content(self.code, 0)?;
        }
        self.end()
    }

    fn end(mut self) -> Result<()> {
        if fill(&mut self.inner, &mut [0])? != 0 {
            return Err(damaged("something follows the value"));
        }
        if let Inner::Zipped(inflate, declared) = &mut self.inner {
            if self.at != *declared {
                return Err(damaged(format!("it has {} bytes unpacked, it claims {declared}", self.at)));
            }
            if !inflate.from.fill_buf()?.is_empty() {
                return Err(damaged("something follows the compressed data"));
            }
        }
        Ok(())
    }

    fn pass(&mut self, mut count: u64, data: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        while count > 0 {
            let done = match &mut self.inner {
                Inner::Plain(blob) => pass_on(blob, count, data)?,
                Inner::Unzipped(bytes) => pass_on(bytes, count, data)?,
                Inner::Zipped(inflate, _) => {
                    let most = count.min(PIECE as u64) as usize;
                    if self.piece.len() < most {
                        self.piece.resize(most, 0);
                    }
                    let got = fill(inflate, &mut self.piece[..most])?;
                    data(&self.piece[..got]).map_err(Fault::Io)?;
                    got as u64
                }
            };
            if done == 0 {
                return Err(damaged("it ends too early"));
            }
            self.at += done;
            count -= done;
        }
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        self.pass(count, &mut |_| Ok(()))
    }

    fn name(&mut self) -> Result<()> {
        for _ in 0..MOST_NAME {
            if self.array()? == [0] {
                return Ok(());
            }
        }
        Err(damaged("a name without an end"))
    }

    /// A value behind its length.
    fn sized(&mut self, depth: u32) -> Result<()> {
        let length = self.u64()?;
        let end = self.at.checked_add(length).ok_or_else(|| damaged("a length is wrong"))?;
        self.value(depth + 1)?;
        if self.at == end { Ok(()) } else { Err(damaged("a length is wrong")) }
    }

    fn value(&mut self, depth: u32) -> Result<()> {
        if depth > MOST_DEPTH {
            return Err(damaged("values lie too deep within values"));
        }
        let [code] = self.array()?;
        self.content(code, depth)
    }

    fn each(&mut self, count: Option<u64>, depth: u32) -> Result<()> {
        let count = count.ok_or_else(|| damaged("a length is wrong"))?;
        // Every one takes bytes, so a count that lies ends with them.
        (0..count).try_for_each(|_| self.sized(depth))
    }

    fn content(&mut self, code: u8, depth: u32) -> Result<()> {
        match code {
            b'A' => {
                let header = self.array_header()?;
                if header.kind == Kind::Objects {
                    let many = product(&header.shape)?;
                    return self.each(Some(many), depth);
                }
                self.skip(header.size - self.at)
            }
            b'C' => {
                let shape = self.axes()?;
                let many = product(&shape)?;
                self.each(Some(many), depth)
            }
            b'S' => {
                let shape = self.axes()?;
                let (many, fields) = (product(&shape)?, self.u32()?);
                (0..fields).try_for_each(|_| self.name())?;
                self.each(many.checked_mul(u64::from(fields)), depth)
            }
            b'F' => {
                let fields = self.u32()?;
                (0..fields).try_for_each(|_| self.name())?;
                (0..fields).try_for_each(|_| self.value(depth + 1))
            }
            1..=3 => {
                let count = self.u64()?;
                self.each(Some(count), depth)
            }
            4 => {
                let count = self.u64()?;
                self.each(count.checked_mul(2), depth)
            }
            5 | 6 | b'd' => {
                let count = self.u64()?;
                self.skip(count)
            }
            10 => {
                let count = u64::from(u16::from_le_bytes(self.array()?));
                self.skip(count)
            }
            11 => self.skip(1),
            12 | b'u' => self.skip(16),
            13 => self.skip(8),
            b't' => self.skip(12),
            0xff => Ok(()),
            b'P' => Err(Fault::Bad(Kind::Sparse, "no client reads sparse arrays".into())),
            _ => Err(damaged(format!("no value begins with the byte {code:#04x}"))),
        }
    }
}

/// Elements of an array; none of the clients' arrays has more than a number says.
fn product(shape: &[u64]) -> Result<u64> {
    if shape.contains(&0) {
        return Ok(0);
    }
    let many = shape.iter().try_fold(1_u64, |many, axis| many.checked_mul(*axis));
    many.ok_or_else(|| damaged(format!("an array of the shape {shape:?}")))
}

fn foreign(head: &[u8]) -> Fault {
    let plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    if head.iter().all(plain) {
        Fault::Bad(Kind::Text, "it is text".into())
    } else {
        Fault::Bad(Kind::Foreign, "DataJoint has not packed it".into())
    }
}

/// Hands on what is there, `count` bytes at most.
fn pass_on(
    from: &mut impl BufRead,
    count: u64,
    data: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64> {
    let interrupted = |error: &io::Error| error.kind() == io::ErrorKind::Interrupted;
    while from.fill_buf().as_ref().is_err_and(interrupted) {}
    let there = from.fill_buf()?;
    let got = there.len().min(usize::try_from(count).unwrap_or(usize::MAX));
    data(&there[..got]).map_err(Fault::Io)?;
    from.consume(got);
    Ok(got as u64)
}

pub(super) fn fill(from: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < out.len() {
        match from.read(&mut out[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// All of the `size` bytes that were packed, with nothing behind them. Where that is not so, reading piece by piece tells
/// what is wrong.
fn unzip(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    let got = Decompressor::new().zlib_decompress(packed, &mut bytes).ok()?;
    // The last of what was read was the checksum, but nothing says where that was: so it must be there once, at the end.
    let sum = libdeflater::adler32(&bytes).to_be_bytes();
    let ends = memmem::find(packed, &sum)? + sum.len() == packed.len();
    (got == size && ends).then_some(bytes)
}

/// The bytes behind `zlib`, which must come to their own end.
struct Inflate<R> {
    from: R,
    state: Decompress,
    ended: bool,
}

impl<R: BufRead> Inflate<R> {
    fn new(from: R) -> Self {
        Self { from, state: Decompress::new(true), ended: false }
    }
}

impl<R: BufRead> Read for Inflate<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !out.is_empty() {
            let input = self.from.fill_buf()?;
            let last = input.is_empty();
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(input, out, FlushDecompress::None)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its compressed data are damaged"))?;
            let taken = (self.state.total_in() - read) as usize;
            let made = (self.state.total_out() - written) as usize;
            self.from.consume(taken);
            self.ended = status == Status::StreamEnd;
            if made > 0 {
                return Ok(made);
            }
            if !self.ended && last {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}
