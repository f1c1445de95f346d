//! Values of every kind, packed by the real 0.14.6 or put together by hand, beside what the real 2.3.5 makes of them
//! (`tests/pipelines/promote/kinds.py` writes both files).

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;

use data_encoding::BASE64;
use datajoint_migrate_core::convert::blob::{self, Fault, HEAD, Header, Kind};
use datajoint_migrate_core::convert::npy;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Debug, Deserialize)]
struct Theirs {
    dtype: Option<String>,
    shape: Option<Vec<u64>>,
    npy: Option<String>,
}

fn read<T: DeserializeOwned>(name: &str) -> BTreeMap<String, T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pipelines/promote").join(name);
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("a map")
}

fn kinds() -> BTreeMap<String, Vec<u8>> {
    let packed: BTreeMap<String, String> = read("kinds.json");
    packed.into_iter().map(|(name, text)| (name, BASE64.decode(text.as_bytes()).expect("base64"))).collect()
}

fn inflated(text: &str) -> Vec<u8> {
    let packed = BASE64.decode(text.as_bytes()).expect("base64");
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut out).expect("zlib");
    out
}

fn kind_of(blob: &[u8]) -> (Kind, Option<Header>) {
    match blob::walk(blob, blob.len() as u64) {
        Ok(header) => (header.kind, Some(header)),
        Err(Fault::Bad(kind, _)) => (kind, None),
        Err(Fault::Io(error)) => panic!("{error}"),
    }
}

/// Gives a byte at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(self.0.len()).min(1);
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn a_file_is_byte_for_byte_what_the_client_writes_for_the_same_array() {
    let theirs: BTreeMap<String, Theirs> = read("npy.json");
    let mut equal = Vec::new();
    for (name, blob) in kinds() {
        let mut file = Vec::new();
        let done = npy::convert(blob.as_slice(), blob.len() as u64, &mut file);
        let Some(done) = done.ok().filter(|done| done.elements.is_some()) else { continue };
        let header = &done.header;
        let theirs = &theirs[&name];
        assert_eq!(header.dtype.map(|dtype| dtype.name), theirs.dtype.as_deref(), "{name}");
        assert_eq!(Some(&header.shape), theirs.shape.as_ref(), "{name}");
        assert!(file == inflated(theirs.npy.as_deref().expect("it takes this one")), "{name}");
        let read = npy::read(file.as_slice()).expect("read").expect("an array");
        assert!(done.is(&read), "{name}");
        let mut other = file.clone();
        if let Some(last) = other.get_mut(128..).and_then(<[u8]>::last_mut) {
            *last ^= 1;
            assert!(!done.is(&npy::read(other.as_slice()).expect("read").expect("an array")), "{name}");
        }
        let mut slowly = Vec::new();
        npy::convert(BufReader::with_capacity(3, Slow(&blob)), blob.len() as u64, &mut slowly)
            .expect("converted");
        assert!(slowly == file, "{name}");
        equal.push(name);
    }
    let taken = theirs.iter().filter(|(name, theirs)| theirs.npy.is_some() && !equal.contains(name));
    let only_theirs: Vec<_> = taken.map(|(name, _)| name.as_str()).collect();
    // Characters, structures whose type the client cannot read back, and integers that it makes floats of.
    let refused = [
        "S1 (char) array",
        "S1 2d",
        "ml char (1,1)",
        "ml char (1,5)",
        "ml char (2,3)",
        "ml char empty",
        "ml complex integers",
        "recarray",
        "structured",
    ];
    assert_eq!(only_theirs, refused);
}

#[test]
fn what_is_no_array_is_called_what_it_is() {
    let kinds = kinds();
    for (name, kind) in [
        ("0d float64", Kind::Scalar),
        ("scalar np.int8", Kind::Scalar),
        ("0d complex128", Kind::Scalar),
        ("str U array", Kind::Objects),
        ("object array", Kind::Objects),
        ("S1 2d", Kind::Chars),
        ("ml char é", Kind::Chars),
        ("structured", Kind::Records),
        ("recarray", Kind::Records),
        ("list of floats", Kind::List),
        ("list of arrays", Kind::List),
        ("large list (compressed)", Kind::List),
        ("tuple", Kind::Tuple),
        ("dict", Kind::Dict),
        ("set", Kind::Set),
        ("str", Kind::Str),
        ("np.str_", Kind::Str),
        ("bytes", Kind::Bytes),
        ("big int", Kind::Int),
        ("float", Kind::Float),
        ("bool", Kind::Bool),
        ("complex", Kind::Complex),
        ("None inside", Kind::List),
        ("Decimal", Kind::Decimal),
        ("datetime", Kind::Moment),
        ("uuid", Kind::Uuid),
        ("ml complex integers", Kind::ComplexIntegers),
        ("ml cell {1,'a'}", Kind::Cells),
        ("ml cell empty", Kind::Cells),
        ("ml struct", Kind::Struct),
        ("ml struct no fields", Kind::Struct),
        ("ml sparse", Kind::Sparse),
        ("32-bit dims", Kind::Damaged),
        ("not a blob", Kind::Foreign),
        ("empty bytes", Kind::Empty),
        ("str(array)", Kind::Text),
        ("trailing byte", Kind::Damaged),
        ("cut", Kind::Damaged),
        ("ZL wrong size", Kind::Damaged),
        ("ZL cut", Kind::Damaged),
        ("ZL damaged", Kind::Damaged),
        ("ZL bomb", Kind::Damaged),
    ] {
        assert_eq!(kind_of(&kinds[name]).0, kind, "{name}");
    }
}

#[test]
fn the_head_alone_tells_kind_type_and_shape() {
    for (name, blob) in kinds() {
        let (kind, header) = kind_of(&blob);
        let head = &blob[..blob.len().min(HEAD)];
        let said = blob::header(head, blob.len() as u64);
        match (header, said) {
            (Some(header), Ok(said)) => assert_eq!(header, said, "{name}"),
            (None, Err(Fault::Bad(said, _))) => assert_eq!(said, kind, "{name}"),
            // Damage that lies behind the head.
            (None, Ok(_)) => {
                assert!(matches!(name.as_str(), "ml sparse" | "ZL cut" | "ZL damaged"), "{name}");
            }
            (header, said) => panic!("{name}: {header:?} {said:?}"),
        }
    }
}

#[test]
fn no_cut_and_no_changed_byte_is_taken_for_the_array_that_it_was() {
    for (name, blob) in kinds() {
        if kind_of(&blob).1.is_none() || blob.len() > 2000 {
            continue;
        }
        for end in 0..blob.len() {
            assert!(kind_of(&blob[..end]).1.is_none(), "{name} cut at {end}");
        }
        let more = [blob.as_slice(), b"\0"].concat();
        assert!(kind_of(&more).1.is_none(), "{name} with a byte more");
        for at in 0..blob.len().min(80) {
            for bit in 0..8 {
                let mut other = blob.clone();
                other[at] ^= 1 << bit;
                // Whatever it is now, it is said without a panic and without its memory.
                let _ = kind_of(&other);
                let mut file = Vec::new();
                let _ = npy::convert(other.as_slice(), other.len() as u64, &mut file);
            }
        }
    }
}

#[test]
fn values_within_values_have_an_end() {
    let mut blob = vec![0xff];
    for _ in 0..10_000 {
        let mut outer = vec![2];
        outer.extend_from_slice(&1_u64.to_le_bytes());
        outer.extend_from_slice(&(blob.len() as u64).to_le_bytes());
        outer.extend_from_slice(&blob);
        blob = outer;
        if blob.len() > 100_000 {
            break;
        }
    }
    let blob = [b"dj0\0".as_slice(), &blob].concat();
    assert_eq!(kind_of(&blob).0, Kind::Damaged);
}

#[test]
fn lengths_that_lie_cost_neither_time_nor_memory() {
    let axes = |axes: &[u64]| axes.iter().flat_map(|axis| axis.to_le_bytes()).collect::<Vec<_>>();
    let array = |shape: &[u64], number: u32| {
        let mut blob = b"mYm\0A".to_vec();
        blob.extend(axes(&[shape.len() as u64]));
        blob.extend(axes(shape));
        blob.extend_from_slice(&number.to_le_bytes());
        blob.extend_from_slice(&0_u32.to_le_bytes());
        blob
    };
    for blob in [
        array(&[1 << 62, 1 << 62], 6),
        array(&[1 << 62, 0, 1 << 62], 6),
        array(&[u64::MAX], 9),
        array(&[1 << 40], 5),
        array(&[1 << 33], 9),
        array(&[1; 65], 9),
        [b"dj0\0\x02".as_slice(), &u64::MAX.to_le_bytes()].concat(),
        [b"dj0\0\x04".as_slice(), &u64::MAX.to_le_bytes()].concat(),
        [b"dj0\0\x06".as_slice(), &u64::MAX.to_le_bytes()].concat(),
        [b"mYm\0S".as_slice(), &axes(&[1, 1 << 60]), &u32::MAX.to_le_bytes()].concat(),
        [b"ZL123\0".as_slice(), &u64::MAX.to_le_bytes()].concat(),
    ] {
        assert_eq!(kind_of(&blob), (Kind::Damaged, None));
    }
}

#[test]
fn what_follows_the_compressed_data_is_refused_even_if_it_is_the_same_once_more() {
    let blob = &kinds()["large list (compressed)"];
    let packed = &blob[14..];
    let sum = &packed[packed.len() - 4..];
    for more in [b"x".as_slice(), sum, packed, &[packed, packed].concat()] {
        let longer = [blob, more].concat();
        let length = longer.len() as u64;
        for found in [
            blob::walk(longer.as_slice(), length),
            blob::walk(BufReader::with_capacity(3, Slow(&longer)), length),
        ] {
            let Err(Fault::Bad(kind, why)) = found else { panic!("{found:?}") };
            assert_eq!((kind, why.as_str()), (Kind::Damaged, "something follows the compressed data"));
        }
    }
}
