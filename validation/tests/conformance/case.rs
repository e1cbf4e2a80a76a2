//! Inputs for a cascade, and the same inputs as matrices for its reference.

use std::collections::BTreeMap;

use einflow_spec::NumberFormat;
use einflow_workloads::cascade::{Cascade, Sizes, TensorKind};
use einflow_workloads::interpret::{Array, Options, interpret};
use nalgebra::DMatrix;

use crate::references;

/// The same numbers on every machine (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in -1..1.
    pub fn signed(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }
}

/// What the inputs of a run hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Uniform in -1..1.
    Signed,
    /// Uniform in 1/2..1: sums do not cancel.
    Positive,
    /// 1/2, 3/4 or 1: few bits, so that scores are exact in every format and tie often.
    Coarse,
    /// As `Positive`, but every other key is -inf, and so are its scores.
    SomeKeysMasked,
    /// As `Positive`, but every key is -inf.
    AllKeysMasked,
}

/// A cascade, sizes, and arrays for all its inputs.
pub struct Case {
    pub cascade: Cascade,
    pub sizes: Sizes,
    pub batch: Vec<usize>,
    pub inputs: BTreeMap<String, Array>,
}

impl Case {
    /// A library cascade with inputs drawn from `seed`. `batch` are the lengths of the last batch ranks.
    pub fn new(name: &str, sizes: &[(&str, u64)], batch: &[usize], fill: Fill, seed: u64) -> Self {
        let cascade = Cascade::load(name, None).unwrap_or_else(|e| panic!("{e}"));
        Self::of(cascade, sizes, batch, fill, seed)
    }

    /// As [`Case::new`], for any cascade.
    pub fn of(
        cascade: Cascade,
        sizes: &[(&str, u64)],
        batch: &[usize],
        fill: Fill,
        seed: u64,
    ) -> Self {
        let mut given: BTreeMap<String, u64> =
            sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect();
        for (i, rank) in cascade.batch.iter().rev().enumerate() {
            let length = batch.iter().rev().nth(i).copied().unwrap_or(1);
            given.insert(cascade.rank(*rank).name.clone(), length as u64);
        }
        let sizes = cascade
            .sizes(&given)
            .unwrap_or_else(|e| panic!("{}: {e}", cascade.name));
        let mut random = Random(seed);
        let mut inputs = BTreeMap::new();
        for tensor in cascade
            .tensors
            .iter()
            .filter(|t| t.kind == TensorKind::Input)
        {
            let own = tensor
                .ranks
                .iter()
                .map(|r| sizes.get(&cascade.rank(*r).name).expect("a size") as usize);
            let shape: Vec<usize> = batch.iter().copied().chain(own).collect();
            let count = shape.iter().product();
            let mut draw = || match fill {
                // Logarithms of decays are negative.
                _ if tensor.name == "G" => -0.5 * random.unit(),
                // Denominators are sums of exponentials.
                _ if tensor.name == "SLD" => 0.5 + 0.5 * random.unit(),
                Fill::Signed => random.signed(),
                Fill::Coarse => 0.5 + 0.25 * (3.0 * random.unit()).floor(),
                _ => 0.5 + 0.5 * random.unit(),
            };
            let mut data: Vec<f64> = (0..count).map(|_| draw()).collect();
            if tensor.name == "K" && matches!(fill, Fill::SomeKeysMasked | Fill::AllKeysMasked) {
                let keys = tensor
                    .ranks
                    .iter()
                    .position(|r| cascade.rank(*r).name == "M")
                    .expect("a rank of keys");
                let below: usize = shape[batch.len() + keys + 1..].iter().product();
                for (place, x) in data.iter_mut().enumerate() {
                    let m = place / below % shape[batch.len() + keys];
                    if fill == Fill::AllKeysMasked || m.is_multiple_of(2) {
                        *x = f64::NEG_INFINITY;
                    }
                }
            }
            inputs.insert(tensor.name.clone(), Array::new(shape, data));
        }
        Self {
            cascade,
            sizes,
            batch: batch.to_vec(),
            inputs,
        }
    }

    /// Rounds every input, so that the reference sees what the interpreter sees.
    pub fn rounded(mut self, format: NumberFormat) -> Self {
        for array in self.inputs.values_mut() {
            array.data.iter_mut().for_each(|x| *x = format.round(*x));
        }
        self
    }

    /// What the interpreter makes of it.
    pub fn interpreted(&self, format: NumberFormat) -> BTreeMap<String, Array> {
        interpret(
            &self.cascade,
            &self.sizes,
            &self.inputs,
            &Options::new(format),
        )
        .unwrap_or_else(|e| panic!("{}: {e}", self.cascade.name))
    }

    /// What the golden reference makes of it: outputs with the batch in front.
    pub fn golden(&self) -> BTreeMap<String, Array> {
        let reference = references::of(&self.cascade.name).expect("a reference");
        let count: usize = self.batch.iter().product();
        let mut outputs: BTreeMap<String, Array> = BTreeMap::new();
        for b in 0..count {
            let element = Element {
                case: self,
                b,
                count,
            };
            for (name, shape, data) in reference(&element) {
                let shape: Vec<usize> = self.batch.iter().copied().chain(shape).collect();
                outputs
                    .entry(name.into())
                    .or_insert_with(|| Array::new(shape, []))
                    .data
                    .extend(data);
            }
        }
        outputs
    }

    /// The largest error of any output over its largest magnitude.
    pub fn error(&self, found: &BTreeMap<String, Array>) -> f64 {
        let golden = self.golden();
        let names: Vec<&String> = golden.keys().collect();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            names,
            "{}",
            self.cascade.name
        );
        golden
            .iter()
            .map(|(name, golden)| relative(&found[name], golden))
            .fold(0.0, f64::max)
    }
}

/// `max |found - expected| / max |expected|`, over finite expected values; infinite where anything else is not finite.
/// Infinities of one sign are equal.
pub fn relative(found: &Array, expected: &Array) -> f64 {
    assert_eq!(found.shape, expected.shape);
    let mut worst: f64 = 0.0;
    for (a, b) in found.data.iter().zip(&expected.data) {
        let error = if a == b { 0.0 } else { (a - b).abs() };
        worst = worst.max(if error.is_finite() {
            error
        } else {
            f64::INFINITY
        });
    }
    if worst == 0.0 {
        0.0
    } else {
        let finite = expected.data.iter().filter(|x| x.is_finite());
        worst / finite.fold(0.0, |largest: f64, x| largest.max(x.abs()))
    }
}

/// One element of the batch, as matrices.
pub struct Element<'a> {
    case: &'a Case,
    b: usize,
    count: usize,
}

impl<'a> Element<'a> {
    /// The first element of a case's batch.
    pub fn first(case: &'a Case) -> Self {
        Self {
            case,
            b: 0,
            count: case.batch.iter().product(),
        }
    }

    /// The size of a rank or parameter.
    pub fn size(&self, name: &str) -> usize {
        self.case
            .sizes
            .get(name)
            .unwrap_or_else(|| panic!("no size {name}")) as usize
    }

    /// The elements of an input, row by row, and the lengths of its axes.
    pub fn data(&self, name: &str) -> (&[usize], &[f64]) {
        let array = &self.case.inputs[name];
        let length = array.data.len() / self.count;
        (
            &array.shape[self.case.batch.len()..],
            &array.data[self.b * length..(self.b + 1) * length],
        )
    }

    /// An input with two axes; one with one axis becomes a column.
    pub fn matrix(&self, name: &str) -> DMatrix<f64> {
        match self.data(name) {
            ([rows], data) => DMatrix::from_row_slice(*rows, 1, data),
            ([rows, columns], data) => DMatrix::from_row_slice(*rows, *columns, data),
            (shape, _) => panic!("`{name}` has the shape {shape:?}"),
        }
    }

    /// The matrix of the last two axes of an input, at coordinates of the axes before them.
    pub fn slice(&self, name: &str, at: &[usize]) -> DMatrix<f64> {
        let (shape, data) = self.data(name);
        let (outer, [rows, columns]) = shape.split_at(at.len()) else {
            panic!("`{name}`: {shape:?}")
        };
        let first = at
            .iter()
            .zip(outer)
            .fold(0, |place, (i, length)| place * length + i);
        let count = rows * columns;
        DMatrix::from_row_slice(*rows, *columns, &data[first * count..(first + 1) * count])
    }

    /// The matrix of the outer two axes of an input with three, at a coordinate of the middle one.
    pub fn middle_slice(&self, name: &str, at: usize) -> DMatrix<f64> {
        let (shape, data) = self.data(name);
        DMatrix::from_fn(shape[0], shape[2], |i, j| {
            data[(i * shape[1] + at) * shape[2] + j]
        })
    }

    /// The matrix of the first two axes of an input with three, at a coordinate of the last.
    pub fn last_slice(&self, name: &str, at: usize) -> DMatrix<f64> {
        let (shape, data) = self.data(name);
        DMatrix::from_fn(shape[0], shape[1], |i, j| {
            data[(i * shape[1] + j) * shape[2] + at]
        })
    }
}
