//! The `npyz` crate is the second opinion on the format.

use npyz::{NpyFile, Order, WriterBuilder};

use super::*;

fn as_numpy() -> StoredAs {
    StoredAs::default()
}

fn npz_of(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// One `.npy` file with this header (padding and all) and data.
fn npy_of(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn say(header: &str, data: &[u8]) -> String {
    let bytes = npz_of(
        &[("Q.npy", &npy_of(header, data))],
        CompressionMethod::Stored,
    );
    parse("in.npz", &bytes, &as_numpy())
        .unwrap_err()
        .to_string()
}

fn by_npyz<T: npyz::Serialize>(
    descr: &str,
    order: Order,
    values: impl Iterator<Item = T>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().dtype(npyz::DType::new_scalar(descr.parse().unwrap()));
    let mut writer = options
        .shape(&[2, 3, 4])
        .order(order)
        .writer(&mut bytes)
        .begin_nd()
        .unwrap();
    writer.extend(values).unwrap();
    writer.finish().unwrap();
    bytes
}

/// ml_dtypes writes bfloat16 as two raw bytes.
#[test]
fn bfloat16_is_read() {
    let header =
        |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n");
    for (descr, data) in [
        ("<V2", [0x80, 0x3f, 0x20, 0xc0]),
        ("|V2", [0x80, 0x3f, 0x20, 0xc0]),
        (">V2", [0x3f, 0x80, 0xc0, 0x20]),
    ] {
        let files = npz_of(
            &[("Q.npy", &npy_of(&header(descr), &data))],
            CompressionMethod::Stored,
        );
        let arrays = parse("in.npz", &files, &as_numpy()).unwrap();
        assert_eq!(arrays["Q"].array.data, [1.0, -2.5]);
    }
    assert!(say(&header("|V4"), &[0; 8]).contains("raw bytes"));
}

#[test]
fn what_npyz_writes_is_read() {
    let values: Vec<f64> = (0..24).map(|i| f64::from(i) / 8.0 - 1.0).collect();
    for order in [Order::C, Order::Fortran] {
        for descr in ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"] {
            let bytes = match &descr[1..] {
                "f2" => by_npyz(descr, order, values.iter().map(|x| f16::from_f64(*x))),
                "f4" => by_npyz(descr, order, values.iter().map(|x| *x as f32)),
                _ => by_npyz(descr, order, values.iter().copied()),
            };
            for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
                let read =
                    parse("in.npz", &npz_of(&[("K.npy", &bytes)], method), &as_numpy()).unwrap();
                let stored = &read["K"];
                assert_eq!(stored.array.shape, [2, 3, 4]);
                assert_eq!(stored.element.name(), &descr[1..]);
                for (place, found) in stored.array.data.iter().enumerate() {
                    let (i, j, k) = (place / 12, place / 4 % 3, place % 4);
                    let expected = match order {
                        Order::C => values[place],
                        Order::Fortran => values[i + 2 * j + 6 * k],
                    };
                    assert_eq!(*found, expected, "{descr} {order:?} {place}");
                }
            }
        }
    }
}

#[test]
fn npyz_reads_what_is_written() {
    let array = Array::new([2, 3], [0.5, -1.0, 2.0, f64::NEG_INFINITY, 65504.0, 0.0]);
    let row = Array::new([3], [1.0, 2.0, 3.0]);
    let scalar = Array::new([], [7.0]);
    let write_all = || {
        write([
            ("A", &array, Element::F2),
            ("B", &array, Element::F4),
            ("C", &array, Element::F8),
            ("R", &row, Element::F8),
            ("S", &scalar, Element::F4),
        ])
        .unwrap()
    };
    let bytes = write_all();
    assert_eq!(bytes, write_all());
    let mut zip = ZipArchive::new(Cursor::new(&bytes)).unwrap();
    let mut raw = |name: &str| {
        let mut entry = Vec::new();
        zip.by_name(name).unwrap().read_to_end(&mut entry).unwrap();
        // numpy maps files into memory and wants the data aligned.
        let header = usize::from(u16::from_le_bytes([entry[8], entry[9]]));
        assert_eq!((10 + header) % 64, 0);
        entry
    };
    let c = raw("C.npy");
    let npy = NpyFile::new(&c[..]).unwrap();
    assert_eq!((npy.shape(), npy.order()), ([2, 3].as_slice(), Order::C));
    assert_eq!(npy.into_vec::<f64>().unwrap(), array.data);
    let b: Vec<f32> = NpyFile::new(&raw("B.npy")[..]).unwrap().into_vec().unwrap();
    assert_eq!(
        b.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(),
        array.data
    );
    let a: Vec<f16> = NpyFile::new(&raw("A.npy")[..]).unwrap().into_vec().unwrap();
    assert_eq!(a.iter().map(|x| x.to_f64()).collect::<Vec<_>>(), array.data);
    assert_eq!(NpyFile::new(&raw("R.npy")[..]).unwrap().shape(), [3]);
    assert_eq!(NpyFile::new(&raw("S.npy")[..]).unwrap().shape().len(), 0);
    let back = parse("out.npz", &bytes, &as_numpy()).unwrap();
    assert_eq!(back["A"].array, array);
    assert_eq!(back["S"].array, scalar);
}

#[test]
fn wrong_headers_say_what_is_wrong() {
    let check = |header: &str, data: usize, expected: &str| {
        let found = say(header, &vec![0; data]);
        assert_eq!(found, format!("the array `Q` of in.npz: {expected}"));
    };
    let float =
        |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    check(
        &float("(2, 3)"),
        23,
        "its shape [2, 3] of f4 needs 24 bytes of data, found 23",
    );
    check(
        &float("(2, 3)"),
        25,
        "its shape [2, 3] of f4 needs 24 bytes of data, found more",
    );
    check(
        &float("(4294967296, 4294967296, 4294967296)"),
        0,
        "its shape [4294967296, 4294967296, 4294967296] is beyond 268435456 elements",
    );
    check(
        &float("(99999999999999999999999,)"),
        0,
        "its header is wrong at `99999999999999999999`",
    );
    check(&float("(-1,)"), 0, "its header is wrong at `-1,), }\\n`");
    let typed =
        |descr: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}");
    check(
        &typed("'|b1'"),
        1,
        "its elements are of type `|b1` (truth values); f2, f4, f8, integers (i1 to i8, u1 to u8) and V2 (bfloat16) are accepted",
    );
    check(
        &typed("'|O'"),
        8,
        "its elements are of type `|O` (Python objects); f2, f4, f8, integers (i1 to i8, u1 to u8) and V2 (bfloat16) are accepted",
    );
    check(
        &typed("'<f16'"),
        16,
        "its elements are of type `<f16`; f2, f4, f8, integers (i1 to i8, u1 to u8) and V2 (bfloat16) are accepted",
    );
    check(
        &typed("'é'"),
        16,
        "its elements are of type `é`; f2, f4, f8, integers (i1 to i8, u1 to u8) and V2 (bfloat16) are accepted",
    );
    check(
        &typed("[('a', '<f4')]"),
        4,
        "its elements are records; arrays of one number each are accepted",
    );
    check(
        "{'descr': '<f4', 'shape': (1,)}",
        4,
        "its header lacks one of `descr`, `fortran_order`, `shape`",
    );
    check("{'descr': '<f4", 4, "its header is wrong at `<f4`");
    check("", 4, "its header ends early");
    check(
        &"(".repeat(60_000),
        4,
        "its header is wrong at `((((((((((((((((((((`",
    );
}

#[test]
fn wrong_files_say_what_is_wrong() {
    let one = npz_of(
        &[("Q.npy", b"something else"), ("notes.txt", b"hello")],
        CompressionMethod::Stored,
    );
    let found = parse("in.npz", &one, &as_numpy()).unwrap_err().to_string();
    let expected = "the array `Q` of in.npz: it does not begin like an .npy file\n\
                    in.npz holds `notes.txt`, which is no array (every file in it ends in .npy)";
    assert_eq!(found, expected);
    let found = parse("in.npz", b"", &as_numpy()).unwrap_err().to_string();
    assert!(
        found.starts_with("in.npz is no whole .npz file: "),
        "{found}"
    );
    let found = read(Path::new("/nonexistent/in.npz"), &as_numpy())
        .unwrap_err()
        .to_string();
    assert!(
        found.starts_with("there is no file /nonexistent/in.npz"),
        "{found}"
    );
    // Version 2 headers claim up to 4 GiB.
    let long = npz_of(
        &[("Q.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff")],
        CompressionMethod::Stored,
    );
    let found = parse("in.npz", &long, &as_numpy()).unwrap_err().to_string();
    assert_eq!(
        found,
        "the array `Q` of in.npz: its header claims 4294967295 bytes, more than 65536"
    );
}

#[test]
fn every_truncated_file_is_an_error() {
    let array = Array::new([3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bytes = write([("Q", &array, Element::F4), ("K", &array, Element::F8)]).unwrap();
    for length in 0..bytes.len() {
        assert!(
            parse("in.npz", &bytes[..length], &as_numpy()).is_err(),
            "{length} of {}",
            bytes.len()
        );
    }
    // The `.npy` files themselves, cut inside a whole archive.
    let npy = npy(&array, Element::F4);
    for length in 0..npy.len() {
        let cut = npz_of(&[("Q.npy", &npy[..length])], CompressionMethod::Stored);
        let message = parse("in.npz", &cut, &as_numpy()).unwrap_err().to_string();
        assert!(
            message.starts_with("the array `Q` of in.npz: its "),
            "{length}: {message}"
        );
    }
}

/// A changed byte is noticed or changes nothing that matters; it never panics.
#[test]
fn no_changed_byte_panics() {
    let array = Array::new([3], [1.0, 2.0, 3.0]);
    let plain = write([("Q", &array, Element::F4)]).unwrap();
    let packed = npz_of(
        &[("Q.npy", &npy(&array, Element::F8))],
        CompressionMethod::Deflated,
    );
    for bytes in [plain, packed] {
        for at in 0..bytes.len() {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] ^= change;
                if let Ok(arrays) = parse("in.npz", &wrong, &as_numpy()) {
                    // The checksum guards the data.
                    assert!(arrays.values().all(|s| s.array == array), "{at} {change}");
                }
            }
        }
    }
}

/// One array of these elements, read with `--stored-as` as given.
fn stored(descr: &str, count: usize, data: &[u8], stored_as: &str) -> Result<Stored, String> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}\n");
    let files = npz_of(
        &[("Q.npy", &npy_of(&header, data))],
        CompressionMethod::Stored,
    );
    let arguments: Vec<String> = stored_as.split_whitespace().map(str::to_owned).collect();
    let stored_as = StoredAs::parse(&arguments).map_err(|problem| problem.to_string())?;
    let mut arrays = parse("in.npz", &files, &stored_as).map_err(|p| p.to_string())?;
    Ok(arrays.remove("Q").unwrap())
}

#[test]
fn whole_numbers_are_read() {
    for (descr, data, expected) in [
        ("|i1", vec![0xff, 5], [-1.0, 5.0]),
        ("|u1", vec![0xff, 5], [255.0, 5.0]),
        ("<i2", vec![0xfe, 0xff, 5, 0], [-2.0, 5.0]),
        (
            ">i4",
            vec![0xff, 0xff, 0xff, 0xfd, 0, 0, 1, 0],
            [-3.0, 256.0],
        ),
        (
            "<u4",
            vec![0, 0, 0, 0x80, 5, 0, 0, 0],
            [2_147_483_648.0, 5.0],
        ),
        (
            "<i8",
            [(-4i64).to_le_bytes(), 5i64.to_le_bytes()].concat(),
            [-4.0, 5.0],
        ),
        (
            ">u8",
            [6u64.to_be_bytes(), (1u64 << 53).to_be_bytes()].concat(),
            [6.0, 2f64.powi(53)],
        ),
    ] {
        let found = stored(descr, 2, &data, "").unwrap();
        assert_eq!(found.array.data, expected, "{descr}");
        assert_eq!(found.element.name(), &descr[1..]);
    }
    let beyond = ((1u64 << 53) + 1).to_le_bytes();
    let message = stored("<i8", 1, &beyond, "").unwrap_err();
    assert!(
        message.contains("9007199254740993 is beyond the whole numbers of f64"),
        "{message}"
    );
}

/// By hand from the formats' definitions: 1, the largest number, the smallest above 0, -2, and the special patterns.
#[test]
fn eight_bits_are_read_as_named() {
    let of =
        |format: &str, data: &[u8]| stored("<V1", data.len(), data, format).unwrap().array.data;
    assert_eq!(
        of("float8_e4m3fn", &[0x38, 0x7e, 0x01, 0xc0]),
        [1.0, 448.0, 2f64.powi(-9), -2.0]
    );
    assert!(
        of("float8_e4m3fn", &[0x7f, 0xff])
            .iter()
            .all(|x| x.is_nan())
    );
    assert_eq!(
        of("float8_e5m2", &[0x3c, 0x7b, 0x01, 0xc0]),
        [1.0, 57344.0, 2f64.powi(-16), -2.0]
    );
    assert_eq!(
        of("float8_e5m2", &[0x7c, 0xfc]),
        [f64::INFINITY, f64::NEG_INFINITY]
    );
    assert_eq!(
        of("float8_e4m3", &[0x38, 0x77, 0x78]),
        [1.0, 240.0, f64::INFINITY]
    );
    assert_eq!(
        of("float8_e3m4", &[0x30, 0x6f, 0x01]),
        [1.0, 15.5, 2f64.powi(-6)]
    );
    assert_eq!(
        of("float8_e4m3fnuz", &[0x40, 0x7f, 0x01]),
        [1.0, 240.0, 2f64.powi(-10)]
    );
    assert_eq!(
        of("float8_e5m2fnuz", &[0x40, 0x7f, 0x01]),
        [1.0, 57344.0, 2f64.powi(-17)]
    );
    assert_eq!(
        of("float8_e4m3b11fnuz", &[0x58, 0x7f, 0x01]),
        [1.0, 30.0, 2f64.powi(-13)]
    );
    assert!(of("float8_e4m3fnuz", &[0x80])[0].is_nan());

    let one = [0x3c];
    for descr in ["<V1", "|V1", "<f1", "|f1"] {
        assert_eq!(
            stored(descr, 1, &one, "Q=float8_e5m2").unwrap().array.data,
            [1.0],
            "{descr}"
        );
        let message = stored(descr, 1, &one, "").unwrap_err();
        assert!(message.contains("--stored-as float8_e"), "{message}");
        assert!(message.contains("astype(numpy.float32)"), "{message}");
        let message = stored(descr, 1, &one, "bfloat16").unwrap_err();
        assert!(message.contains("bfloat16 has two"), "{message}");
    }
    let two = [0x00, 0x3c];
    assert_eq!(stored("<V2", 1, &two, "float16").unwrap().array.data, [1.0]);
    assert_eq!(
        stored("|V2", 1, &two, "bfloat16").unwrap().array.data,
        [0.0078125]
    );
    assert!(
        stored("<V2", 1, &two, "K=bfloat16")
            .unwrap_err()
            .contains("no array `K`")
    );
    assert!(
        stored("<V2", 1, &two, "float8")
            .unwrap_err()
            .contains("no stored format `float8`")
    );
}
