//! The `.npy` file of an array, byte for byte as numpy writes it for what a client unpacks.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use xxhash_rust::xxh3::Xxh3;

use super::blob::{Fault, Header, Kind, Value};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
const ALIGN: usize = 64;
/// numpy leaves room for the axis that may grow to have as many digits.
const GROWTH: usize = 21;
/// Real parts of more bytes than this wait for their imaginary parts on the disk.
const IN_MEMORY: u64 = 16 << 20;
const PIECE: usize = 256 << 10;

/// The type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtype {
    /// As numpy spells it: `float64`.
    pub name: &'static str,
    /// As a `.npy` file spells it: `<f8`.
    pub descr: &'static str,
    width: u8,
}

macro_rules! dtypes {
    ($($number:literal $name:literal $descr:literal $width:literal;)*) => {
        impl Dtype {
            /// The type that a blob numbers so.
            #[must_use]
            pub fn numbered(number: u32) -> Option<Self> {
                Some(match number {
                    $($number => Self { name: $name, descr: $descr, width: $width },)*
                    _ => return None,
                })
            }
        }
    };
}

dtypes! {
    3 "bool" "|b1" 1;
    6 "float64" "<f8" 8;
    7 "float32" "<f4" 4;
    8 "int8" "|i1" 1;
    9 "uint8" "|u1" 1;
    10 "int16" "<i2" 2;
    11 "uint16" "<u2" 2;
    12 "int32" "<i4" 4;
    13 "uint32" "<u4" 4;
    14 "int64" "<i8" 8;
    15 "uint64" "<u8" 8;
    65_536 "datetime64[Y]" "<M8[Y]" 8;
    65_537 "datetime64[M]" "<M8[M]" 8;
    65_538 "datetime64[W]" "<M8[W]" 8;
    65_539 "datetime64[D]" "<M8[D]" 8;
    65_540 "datetime64[h]" "<M8[h]" 8;
    65_541 "datetime64[m]" "<M8[m]" 8;
    65_542 "datetime64[s]" "<M8[s]" 8;
    65_543 "datetime64[ms]" "<M8[ms]" 8;
    65_544 "datetime64[us]" "<M8[us]" 8;
    65_545 "datetime64[ns]" "<M8[ns]" 8;
    65_546 "datetime64[ps]" "<M8[ps]" 8;
    65_547 "datetime64[fs]" "<M8[fs]" 8;
    65_548 "datetime64[as]" "<M8[as]" 8;
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn width(self) -> u64 {
        u64::from(self.width)
    }

    /// The type of complex numbers whose parts have this type.
    #[must_use]
    pub fn complex(self) -> Option<Self> {
        match self.descr {
            "<f8" => Some(Self { name: "complex128", descr: "<c16", width: 16 }),
            "<f4" => Some(Self { name: "complex64", descr: "<c8", width: 8 }),
            _ => None,
        }
    }

    fn is_complex(self) -> bool {
        self.descr.starts_with("<c")
    }
}

/// Whether numpy says of the array that it lies in Fortran's order: what lies in both orders it calls C's.
fn is_fortran(shape: &[u64]) -> bool {
    !shape.contains(&0) && shape.iter().filter(|axis| **axis > 1).count() > 1
}

/// What stands before the data.
#[must_use]
pub fn preamble(dtype: Dtype, shape: &[u64]) -> Vec<u8> {
    let fortran = is_fortran(shape);
    let axes: Vec<_> = shape.iter().map(ToString::to_string).collect();
    let comma = if axes.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{}', 'fortran_order': {}, 'shape': ({}{comma}), }}",
        dtype.descr,
        if fortran { "True" } else { "False" },
        axes.join(", "),
    );
    let growing = if fortran { axes.last() } else { axes.first() };
    let blanks = growing.map_or(0, |axis| GROWTH.saturating_sub(axis.len()));
    text.extend(std::iter::repeat_n(' ', blanks));
    let before = MAGIC.len() + 2 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', ALIGN - before % ALIGN));
    text.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out
}

/// How large the file of an array is, whose header was read and holds.
#[must_use]
pub fn size(dtype: Dtype, shape: &[u64]) -> u64 {
    let data = shape.iter().product::<u64>() * dtype.width();
    preamble(dtype, shape).len() as u64 + data
}

/// The elements of an array, real parts and imaginary ones, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    real: u128,
    imaginary: u128,
}

/// What has become of a blob.
#[derive(Debug)]
pub struct Converted {
    /// What the blob says of itself.
    pub header: Header,
    /// What the file must hold; none where the value is no array, and no file was written.
    pub elements: Option<Elements>,
}

/// Writes the `.npy` file of a blob. Nothing is written for a value that is no array.
pub fn convert(blob: impl BufRead, length: u64, out: &mut dyn Write) -> Result<Converted, Fault> {
    let mut value = Value::open(blob, length)?;
    let header = value.header()?;
    let Some(dtype) = header.dtype.filter(|_| header.kind == Kind::Array) else {
        value.finish(&header, &mut |_| Ok(()))?;
        return Ok(Converted { header, elements: None });
    };
    out.write_all(&preamble(dtype, &header.shape)).map_err(Fault::Io)?;
    let mut parts = dtype.is_complex().then(|| Parts::new(&header, dtype));
    let (mut real, mut imaginary) = (Xxh3::new(), Xxh3::new());
    let mut left = parts.as_ref().map_or(u64::MAX, |parts| parts.half);
    value.finish(&header, &mut |piece| {
        let (one, other) = piece.split_at((piece.len() as u64).min(left) as usize);
        left -= one.len() as u64;
        real.update(one);
        imaginary.update(other);
        match &mut parts {
            Some(parts) => parts.write(piece),
            None => out.write_all(piece),
        }
    })?;
    if let Some(parts) = parts {
        parts.finish(out).map_err(Fault::Io)?;
    }
    let elements = Elements { real: real.digest128(), imaginary: imaginary.digest128() };
    Ok(Converted { header, elements: Some(elements) })
}

/// All real parts, then all imaginary ones, as a blob has them.
struct Parts {
    held: Vec<u8>,
    spilled: Option<File>,
    /// Of all real parts.
    half: u64,
    part: usize,
}

impl Parts {
    fn new(header: &Header, dtype: Dtype) -> Self {
        let many = header.shape.iter().product::<u64>();
        let part = dtype.width() / 2;
        Self { held: Vec::new(), spilled: None, half: many * part, part: part as usize }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.half <= IN_MEMORY {
            self.held.extend_from_slice(piece);
            return Ok(());
        }
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.write_all(piece)
    }

    fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        let Some(file) = self.spilled else {
            let (real, imaginary) = self.held.split_at(self.half as usize);
            return interleave(real, imaginary, self.part, out);
        };
        let (mut real, mut imaginary) = (vec![0; PIECE], vec![0; PIECE]);
        let mut file = file;
        let mut at = 0;
        while at < self.half {
            let count = (self.half - at).min(PIECE as u64) as usize;
            for (from, piece) in [(at, &mut real), (self.half + at, &mut imaginary)] {
                file.seek(SeekFrom::Start(from))?;
                file.read_exact(&mut piece[..count])?;
            }
            interleave(&real[..count], &imaginary[..count], self.part, out)?;
            at += count as u64;
        }
        Ok(())
    }
}

fn interleave(real: &[u8], imaginary: &[u8], part: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut both = Vec::with_capacity(2 * PIECE.min(real.len()));
    for (real, imaginary) in real.chunks(PIECE).zip(imaginary.chunks(PIECE)) {
        both.clear();
        for (real, imaginary) in real.chunks_exact(part).zip(imaginary.chunks_exact(part)) {
            both.extend_from_slice(real);
            both.extend_from_slice(imaginary);
        }
        out.write_all(&both)?;
    }
    Ok(())
}

/// What the header of a `.npy` file says: the spelling of its type, whether it lies in Fortran's order, its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The type as numpy spells it: `<f8`.
    pub descr: String,
    /// The first axis runs fastest.
    pub fortran: bool,
    /// The length of each axis.
    pub shape: Vec<u64>,
}

/// Reads the header of a `.npy` file that numpy or this module has written, up to its data.
pub fn read_preamble(from: &mut impl Read) -> io::Result<Option<Seen>> {
    let mut fixed = [0; 10];
    from.read_exact(&mut fixed)?;
    if !fixed.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut text = vec![0; usize::from(u16::from_le_bytes([fixed[8], fixed[9]]))];
    from.read_exact(&mut text)?;
    Ok(std::str::from_utf8(&text).ok().and_then(seen))
}

fn seen(text: &str) -> Option<Seen> {
    let after = |word: &str| text.split_once(word).map(|(_, rest)| rest);
    let descr = after("'descr': '")?.split_once('\'')?.0.to_owned();
    let fortran = after("'fortran_order': ")?.starts_with("True");
    let inside = after("'shape': (")?.split_once(')')?.0;
    let axes = inside.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    Some(Seen { descr, fortran, shape: axes.map(str::parse).collect::<Result<_, _>>().ok()? })
}

/// Reads a file and says what array it holds: by its own header, not by what should be there. None if it is no such file.
pub fn read(mut file: impl BufRead) -> io::Result<Option<(Seen, Elements)>> {
    let Some(seen) = read_preamble(&mut file)? else { return Ok(None) };
    let part = match seen.descr.as_str() {
        "<c16" => 8,
        "<c8" => 4,
        _ => usize::MAX,
    };
    let (mut real, mut imaginary) = (Xxh3::new(), Xxh3::new());
    if part == usize::MAX {
        loop {
            let piece = file.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            real.update(piece);
            let count = piece.len();
            file.consume(count);
        }
    } else {
        let mut both = vec![0; PIECE];
        let (mut ones, mut others) = (Vec::new(), Vec::new());
        loop {
            let count = super::blob::fill(&mut file, &mut both)?;
            if count == 0 {
                break;
            }
            ones.clear();
            others.clear();
            for pair in both[..count].chunks(2 * part) {
                let (one, other) = pair.split_at(part.min(pair.len()));
                ones.extend_from_slice(one);
                others.extend_from_slice(other);
            }
            real.update(&ones);
            imaginary.update(&others);
        }
    }
    let elements = Elements { real: real.digest128(), imaginary: imaginary.digest128() };
    Ok(Some((seen, elements)))
}

impl Converted {
    /// True if what was read from a file is this array: type, shape, order and every element.
    #[must_use]
    pub fn is(&self, (seen, elements): &(Seen, Elements)) -> bool {
        let descr = self.header.dtype.map(|dtype| dtype.descr);
        descr == Some(seen.descr.as_str())
            && self.header.shape == seen.shape
            && is_fortran(&self.header.shape) == seen.fortran
            && self.elements.as_ref() == Some(elements)
    }
}
