//! Arrays in numpy's `.npz` files: a zip archive with one `.npy` file for each array.
//!
//! The header of an `.npy` file is read here rather than by a crate because a wrong file must give
//! an error: the crates at hand multiply the lengths of a shape without a check, allocate what a
//! header claims and recurse as deep as it nests.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use einflow_spec::{Problem, Problems, did_you_mean, files};
use einflow_workloads::interpret::{Array, MAX_ELEMENTS};
use half::f16;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

mod element;

use element::ACCEPTED;
pub use element::{Element, Raw, StoredAs};

/// The bytes that begin an `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Headers are a few hundred bytes; a longer one is no array of floats.
const MAX_HEADER: usize = 1 << 16;

/// numpy's own limit on the number of axes.
const MAX_AXES: usize = 64;

/// An array as a file holds it, brought to row-major order and `f64`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Shape and values; no point is empty.
    pub array: Array,
    /// The type it had in the file.
    pub element: Element,
}

/// Reads all arrays of a file, by name; raw elements are as `stored` says.
///
/// # Errors
/// Every array that cannot be read: the file, the array, what was found and what is accepted.
pub fn read(path: &Path, stored: &StoredAs) -> Result<BTreeMap<String, Stored>, Problems> {
    let file = path.display().to_string();
    let bytes = files::read(path)?;
    parse(&file, &bytes, stored)
}

/// Reads all arrays of a file's bytes; messages call the file `file`.
///
/// # Errors
/// As [`read`].
pub fn parse(
    file: &str,
    bytes: &[u8],
    stored_as: &StoredAs,
) -> Result<BTreeMap<String, Stored>, Problems> {
    let archive = |e: zip::result::ZipError| {
        Problem::nowhere(format!("{file} is no whole .npz file: {e}"))
            .help("write it with numpy.savez or numpy.savez_compressed")
    };
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(archive)?;
    let (mut problems, mut unknown) = (Problems::new(), Problems::new());
    let mut arrays = BTreeMap::new();
    if zip.has_duplicate_names() {
        problems.push(Problem::nowhere(format!(
            "{file} holds two arrays of the same name"
        )));
    }
    for index in 0..zip.len() {
        let label = match zip.name_for_index(index) {
            Some(Ok(name)) => name.into_owned(),
            _ => format!("#{index}"),
        };
        let Some(name) = label.strip_suffix(".npy").map(str::to_string) else {
            let message = format!("{file} holds `{label}`, which is no array");
            problems.push(Problem::nowhere(message).help("every file in it ends in .npy"));
            continue;
        };
        let stored = zip
            .by_index(index)
            .map_err(|e| e.to_string())
            .and_then(|mut entry| parse_npy(&mut entry, stored_as.of(&name)));
        match stored {
            Ok(stored) => {
                arrays.insert(name, stored);
            }
            Err(why) => problems.push(Problem::nowhere(format!(
                "the array `{name}` of {file}: {why}"
            ))),
        }
    }
    for name in stored_as
        .names()
        .filter(|name| problems.is_empty() && !arrays.contains_key(*name))
    {
        let known = arrays.keys().map(String::as_str);
        unknown.push(
            Problem::nowhere(format!(
                "{file} holds no array `{name}` that could be stored so"
            ))
            .help(did_you_mean(name, known)),
        );
    }
    problems.extend(unknown);
    problems.into_result(Some(arrays))
}

/// Reads one `.npy` file.
fn parse_npy(reader: &mut impl Read, raw: Option<Raw>) -> Result<Stored, String> {
    let cut = |e: io::Error| format!("its header is not whole: {e}");
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    if &start[..6] != MAGIC {
        return Err("it does not begin like an .npy file".into());
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).map_err(cut)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(cut)?;
            usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)
        }
        version => {
            return Err(format!(
                "its format version is {version}, expected 1, 2 or 3"
            ));
        }
    };
    if length > MAX_HEADER {
        return Err(format!(
            "its header claims {length} bytes, more than {MAX_HEADER}"
        ));
    }
    let mut header = vec![0; length];
    reader.read_exact(&mut header).map_err(cut)?;
    let header = std::str::from_utf8(&header).map_err(|_| "its header is no text".to_string())?;
    let Header {
        element,
        big_endian,
        fortran,
        shape,
    } = Header::parse(header, raw)?;

    let count = shape.iter().try_fold(1usize, |n, &length| {
        n.checked_mul(length).filter(|&n| n <= MAX_ELEMENTS)
    });
    let count =
        count.ok_or_else(|| format!("its shape {shape:?} is beyond {MAX_ELEMENTS} elements"))?;
    let needed = count * element.bytes();
    let mut bytes = Vec::new();
    // One byte more than needed shows that there are too many.
    reader
        .take(needed as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("its data cannot be read: {e}"))?;
    if bytes.len() != needed {
        let found = if bytes.len() > needed {
            "more".to_string()
        } else {
            bytes.len().to_string()
        };
        return Err(format!(
            "its shape {shape:?} of {} needs {needed} bytes of data, found {found}",
            element.name()
        ));
    }
    let data = element.decode(&bytes, big_endian)?;
    let data = if fortran {
        row_major(&shape, &data)
    } else {
        data
    };
    Ok(Stored {
        array: Array::new(shape, data),
        element,
    })
}

/// Brings column-major data (the first axis fastest) to row-major order.
fn row_major(shape: &[usize], data: &[f64]) -> Vec<f64> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut at = vec![0; shape.len()];
    let mut out = Vec::with_capacity(data.len());
    while out.len() < data.len() {
        out.push(data[at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()]);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}

/// What the header of an `.npy` file says.
#[derive(Debug, PartialEq)]
struct Header {
    element: Element,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads the Python dictionary `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &str, raw: Option<Raw>) -> Result<Header, String> {
        let mut cursor = HeaderText { rest: text };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        cursor.expect("{")?;
        while !cursor.eat("}") {
            let key = cursor.string()?;
            cursor.expect(":")?;
            match key {
                "descr" if cursor.looks_at("[") => {
                    return Err(
                        "its elements are records; arrays of one number each are accepted".into(),
                    );
                }
                "descr" => descr = Some(cursor.string()?),
                "fortran_order" if cursor.eat("True") => fortran = Some(true),
                "fortran_order" if cursor.eat("False") => fortran = Some(false),
                "shape" => shape = Some(cursor.shape()?),
                _ => return Err(format!("its header is wrong at `{key}`")),
            }
            if !cursor.eat(",") && !cursor.looks_at("}") {
                return Err(cursor.wrong());
            }
        }
        if !cursor.rest.trim().is_empty() {
            return Err(cursor.wrong());
        }
        let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
            return Err("its header lacks one of `descr`, `fortran_order`, `shape`".into());
        };
        let element = match descr.get(1..) {
            Some(kind) => Element::of(kind, raw)?,
            None => None,
        };
        let big_endian = match descr.get(..1) {
            Some("<") => Some(false),
            Some(">") => Some(true),
            Some("=") => Some(cfg!(target_endian = "big")),
            Some("|")
                if element.is_some_and(|e| e.bytes() == 1 || matches!(e, Element::Raw(_))) =>
            {
                Some(false)
            }
            _ => None,
        };
        let (Some(element), Some(big_endian)) = (element, big_endian) else {
            let what = match descr
                .trim_start_matches(['<', '>', '=', '|'])
                .chars()
                .next()
            {
                Some('b' | '?') => " (truth values)",
                Some('c') => " (complex numbers)",
                Some('O') => " (Python objects)",
                Some('S' | 'U' | 'a') => " (text)",
                Some('V') => " (raw bytes)",
                _ => "",
            };
            return Err(format!(
                "its elements are of type `{}`{what}; {ACCEPTED}",
                descr.escape_debug()
            ));
        };
        Ok(Header {
            element,
            big_endian,
            fortran,
            shape,
        })
    }
}

/// A cursor over a header.
struct HeaderText<'a> {
    rest: &'a str,
}

impl<'a> HeaderText<'a> {
    fn looks_at(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(token)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.looks_at(token);
        if found {
            self.rest = &self.rest[token.len()..];
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.wrong())
        }
    }

    fn wrong(&self) -> String {
        let at: String = self.rest.chars().take(20).collect();
        if at.is_empty() {
            "its header ends early".into()
        } else {
            format!("its header is wrong at `{}`", at.escape_debug())
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let (text, rest) = self.rest.split_once(quote).ok_or_else(|| self.wrong())?;
                self.rest = rest;
                return Ok(text);
            }
        }
        Err(self.wrong())
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.eat(")") {
            self.looks_at("");
            let digits = self
                .rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(self.rest.len());
            let length = self.rest[..digits].parse().map_err(|_| self.wrong())?;
            self.rest = &self.rest[digits..];
            // Python 2 wrote long integers with a suffix.
            self.eat("L");
            shape.push(length);
            if shape.len() > MAX_AXES {
                return Err(format!("it has more than {MAX_AXES} axes"));
            }
            if !self.eat(",") && !self.looks_at(")") {
                return Err(self.wrong());
            }
        }
        Ok(shape)
    }
}

/// The bytes of an `.npz` file of these arrays, in order of their names, uncompressed, the same for
/// the same arrays whenever they are written. Values must be representable in their element type.
///
/// # Errors
/// The archive's writer fails.
pub fn write<'a>(
    arrays: impl IntoIterator<Item = (&'a str, &'a Array, Element)>,
) -> Result<Vec<u8>, Problem> {
    let failed =
        |e: &dyn std::fmt::Display| Problem::nowhere(format!("cannot write the arrays: {e}"));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array, element) in arrays {
        let bytes = npy(array, element);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file(u32::try_from(bytes.len()).is_err());
        zip.start_file(format!("{name}.npy"), options)
            .map_err(|e| failed(&e))?;
        zip.write_all(&bytes).map_err(|e| failed(&e))?;
    }
    Ok(zip.finish().map_err(|e| failed(&e))?.into_inner())
}

fn npy(array: &Array, element: Element) -> Vec<u8> {
    let mut shape: String = array.shape.iter().map(|n| format!("{n}, ")).collect();
    if array.shape.len() > 1 {
        shape.truncate(shape.len() - 2);
    }
    let shape = shape.trim_end();
    let name = match element {
        Element::F2 | Element::F4 => element.name(),
        _ => Element::F8.name(),
    };
    let mut header = format!(
        "{{'descr': '<{}', 'fortran_order': False, 'shape': ({shape}), }}",
        name
    );
    // Magic, version and length take 10 bytes; the data begins at a multiple of 64.
    let unpadded = 10 + header.len() + 1;
    header.extend(std::iter::repeat_n(
        ' ',
        unpadded.next_multiple_of(64) - unpadded,
    ));
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    // At most MAX_AXES axes of 20 digits.
    bytes.extend(
        u16::try_from(header.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    bytes.extend(header.as_bytes());
    for x in &array.data {
        match element {
            Element::F2 => bytes.extend(f16::from_f64(*x).to_le_bytes()),
            Element::F4 => bytes.extend((*x as f32).to_le_bytes()),
            // Nothing is written as raw bytes or whole numbers: every value of those is one of f64.
            _ => bytes.extend(x.to_le_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
