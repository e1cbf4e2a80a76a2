//! Tensors that are wrong.

use super::*;

/// One array as `.npy`.
fn npy(shape: &[usize], values: &[f64]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// An `.npz` file of small integers, one for each array: name and shape.
pub fn npz(arrays: &[(&str, &[usize])], change: impl Fn(&str, &mut Vec<f64>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, shape) in arrays {
        let mut values: Vec<f64> = (0..shape.iter().product())
            .map(|i| (i % 7) as f64 / 4.0)
            .collect();
        change(name, &mut values);
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default())
            .unwrap();
        zip.write_all(&npy(shape, &values)).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Q, K and V of four queries and eight keys.
pub const ARRAYS: [(&str, &[usize]); 3] = [("Q", &[2, 4]), ("K", &[2, 8]), ("V", &[3, 8])];

const EVAL: &str = "eval attention/one-pass --input in.npz --output out.npz --size M0=4";

/// Cases whose input is an `.npz` file.
pub(super) fn eval_cases() -> Vec<(Case, Vec<u8>)> {
    let whole = || npz(&ARRAYS, |_, _| {});
    let nan = |name: &str, values: &mut Vec<f64>| {
        values[3] = if name == "Q" { f64::NAN } else { values[3] }
    };
    let truncated = |keep: usize| {
        let mut bytes = whole();
        bytes.truncate(keep);
        bytes
    };
    let longer: [(&str, &[usize]); 3] = [("Q", &[2, 4]), ("K", &[2, 8]), ("V", &[3, 9])];
    vec![
        (
            case("npz-truncated", EVAL, &["in.npz"]),
            truncated(whole().len() - 30),
        ),
        (case("npz-cut-in-array", EVAL, &["in.npz"]), truncated(100)),
        (case("npz-empty", EVAL, &["in.npz"]), Vec::new()),
        (
            case("npz-nan", EVAL, &["in.npz", "Q", "NaN", "--allow-nan"]),
            npz(&ARRAYS, nan),
        ),
        (
            case("npz-missing-array", EVAL, &["in.npz", "V"]),
            npz(&ARRAYS[..2], |_, _| {}),
        ),
        (
            case("npz-shapes", EVAL, &["`V`", "8", "9"]),
            npz(&longer, |_, _| {}),
        ),
        (
            case(
                "output-unwritable",
                "eval attention/one-pass --input in.npz --output no/such/out.npz --size M0=4",
                &["no/such/out.npz"],
            ),
            whole(),
        ),
        (
            case(
                "format-unknown",
                "eval attention/one-pass --input in.npz --number-format bf61",
                &["bf61", "`bf16`"],
            ),
            whole(),
        ),
        (
            case(
                "input-missing",
                "eval attention/one-pass --input other.npz",
                &["other.npz"],
            ),
            whole(),
        ),
        (
            case(
                "size-not-used",
                "eval attention/one-pass --input in.npz --size M3=4",
                &["M3"],
            ),
            whole(),
        ),
    ]
}
