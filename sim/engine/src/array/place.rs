//! Where the words of tensors lie, and which of them a point touches.

use einflow_mappings::{
    mapped::MappedCascade,
    nest::{Dim, Projection, Wrapped},
};
use einflow_workloads::cascade::{Index, RankId, Read, TensorId};

use super::{coordinates::Coordinates, error::ArrayError};
use crate::program::Tile;

/// The shape of a tensor: all batch ranks in front, then its own, an iterative one longer by its initial value.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub lengths: Vec<u64>,
    pub strides: Vec<usize>,
    pub words: usize,
    /// The dimension of the iterative rank.
    pub iterative: Option<usize>,
}

impl Layout {
    pub fn new(mapped: &MappedCascade, tensor: TensorId) -> Self {
        let cascade = &mapped.cascade;
        let of = cascade.tensor(tensor);
        let size = |r: &RankId| {
            mapped
                .sizes
                .get(&cascade.rank(*r).name)
                .copied()
                .unwrap_or(1)
        };
        let mut lengths: Vec<u64> = cascade.batch.iter().chain(&of.ranks).map(size).collect();
        let iterative = of.iterative.map(|i| cascade.batch.len() + i);
        if let Some(at) = iterative {
            lengths[at] += 1;
        }
        let mut strides = vec![0; lengths.len()];
        let mut words = 1usize;
        for (stride, length) in strides.iter_mut().zip(&lengths).rev() {
            *stride = words;
            words = words.saturating_mul(usize::try_from(*length).unwrap_or(usize::MAX));
        }
        Self {
            lengths,
            strides,
            words,
            iterative,
        }
    }

    pub fn coordinates(&self, word: usize) -> Coordinates {
        let each = self.strides.iter().zip(&self.lengths);
        Coordinates(each.map(|(s, l)| (word / s) as u64 % l).collect())
    }

    /// The word of the coordinate before, along the iterative rank; none at the initial value.
    pub fn before(&self, word: usize) -> Option<usize> {
        let at = self.iterative?;
        let stride = self.strides[at];
        (!(word / stride).is_multiple_of(usize::try_from(self.lengths[at]).ok()?))
            .then(|| word - stride)
    }
}

/// What a base rank's coordinate adds to a place.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub rank: usize,
    pub table: Vec<i64>,
}

/// What sums of coordinates add to a place, each with its weight.
type Sums = Vec<(Wrapped, i64)>;

/// What a point adds to a place.
fn sum(parts: &[Part], wrapped: &Sums, point: &[u64]) -> i64 {
    let part = |p: &Part| p.table[point[p.rank] as usize];
    let of = |(w, weight): &(Wrapped, i64)| {
        let value = w.of_value(w.of.at(&|rank| point[rank]));
        weight.saturating_mul(i64::try_from(value).unwrap_or(i64::MAX))
    };
    parts.iter().map(part).sum::<i64>() + wrapped.iter().map(of).sum::<i64>()
}

/// A dimension whose coordinate may lie outside the tensor.
#[derive(Clone, Debug)]
struct Check {
    constant: i64,
    parts: Vec<Part>,
    wrapped: Sums,
    length: u64,
}

/// Which word a point of the base ranks touches: a sum of what each rank's coordinate adds.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub parts: Vec<Part>,
    pub constant: i64,
    wrapped: Sums,
    checks: Vec<Check>,
    /// Whether two points may touch one word although they differ in a rank that it follows.
    overlaps: bool,
}

impl Access {
    fn build(
        dims: &[Dim],
        sizes: &[u64],
        strides: &[usize],
        constants: &[i64],
        lengths: &[Option<u64>],
    ) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let (mut checks, mut all_wrapped) = (Vec::new(), Sums::new());
        let mut constant = 0;
        let mut overlaps = false;
        let add = |parts: &mut Vec<Part>, rank: usize, term: &dyn Fn(u64) -> i64| {
            let at = parts
                .iter()
                .position(|p| p.rank == rank)
                .unwrap_or_else(|| {
                    let length = usize::try_from(sizes[rank]).unwrap_or(0);
                    parts.push(Part {
                        rank,
                        table: vec![0; length],
                    });
                    parts.len() - 1
                });
            for (x, entry) in parts[at].table.iter_mut().enumerate() {
                *entry += term(x as u64);
            }
        };
        for (d, dim) in dims.iter().enumerate() {
            let offset = constants.get(d).copied().unwrap_or(0);
            let stride = strides[d] as i64;
            constant += offset * stride;
            let mut own = Vec::new();
            for term in &dim.terms {
                let value = |x: u64| i64::try_from(term.value(x)).unwrap_or(i64::MAX);
                add(&mut parts, term.rank, &|x| stride * value(x));
                add(&mut own, term.rank, &value);
            }
            for wrapped in &dim.wrapped {
                // What it follows is walked.
                wrapped.of.each_term(&mut |term| {
                    add(&mut parts, term.rank, &|_| 0);
                    add(&mut own, term.rank, &|_| 0);
                });
                all_wrapped.push((wrapped.clone(), stride));
            }
            overlaps |= own.len() > 1;
            let Some(length) = lengths[d] else { continue };
            let moved = Dim {
                offset,
                ..dim.clone()
            };
            let (least, greatest) = moved.range(&|rank| (0, sizes[rank]));
            if least < 0 || greatest >= i128::from(length) {
                checks.push(Check {
                    constant: offset,
                    parts: own,
                    wrapped: dim.wrapped.iter().map(|w| (w.clone(), 1)).collect(),
                    length,
                });
            }
        }
        Self {
            parts,
            constant,
            wrapped: all_wrapped,
            checks,
            overlaps,
        }
    }

    /// Of a tensor's coordinates; `step` of the iterative one on.
    pub fn own(layout: &Layout, dims: &[Dim], sizes: &[u64], step: bool) -> Self {
        let mut constants: Vec<i64> = dims.iter().map(|d| d.offset).collect();
        if let (Some(at), true) = (layout.iterative, step) {
            constants[at] = 1;
        }
        let lengths: Vec<_> = layout.lengths.iter().copied().map(Some).collect();
        Self::build(dims, sizes, &layout.strides, &constants, &lengths)
    }

    /// Of a read; `constants` are what its indices are where all variables are 0.
    pub fn read(
        layout: &Layout,
        projection: &Projection,
        sizes: &[u64],
        constants: &[i64],
    ) -> Self {
        let lengths: Vec<_> = layout.lengths.iter().copied().map(Some).collect();
        // Of a wrapped sum there is a part in the constant.
        let at_zero = |dim: &Dim| {
            let value = |w: &Wrapped| w.of_value(w.of.at(&|_| 0));
            i64::try_from(dim.wrapped.iter().map(value).sum::<i128>()).unwrap_or(i64::MAX)
        };
        let own = constants.iter().zip(&projection.dims);
        let constants: Vec<i64> = own.map(|(c, dim)| c.saturating_sub(at_zero(dim))).collect();
        Self::build(
            &projection.dims,
            sizes,
            &layout.strides,
            &constants,
            &lengths,
        )
    }

    pub fn checked(&self) -> bool {
        !self.checks.is_empty() || !self.wrapped.is_empty()
    }

    /// The word at a point; none outside the tensor.
    pub fn at(&self, point: &[u64]) -> Option<usize> {
        for check in &self.checks {
            let index = sum(&check.parts, &check.wrapped, point) + check.constant;
            if index < 0 || index >= check.length as i64 {
                return None;
            }
        }
        usize::try_from(sum(&self.parts, &self.wrapped, point) + self.constant).ok()
    }

    /// The words that the points of a box touch, each once, ascending.
    pub fn words(&self, tile: &Tile, out: &mut Vec<usize>) {
        out.clear();
        if self.parts.iter().any(|p| tile[p.rank].1 == 0) {
            return;
        }
        if self.checked() {
            let mut point: Vec<u64> = tile.iter().map(|(first, _)| *first).collect();
            loop {
                out.extend(self.at(&point));
                let moved = self.parts.iter().rev().find_map(|p| {
                    let (first, length) = tile[p.rank];
                    point[p.rank] += 1;
                    if point[p.rank] < first + length {
                        return Some(());
                    }
                    point[p.rank] = first;
                    None
                });
                if moved.is_none() {
                    break;
                }
            }
            out.sort_unstable();
            out.dedup();
            return;
        }
        let mut places = vec![self.constant];
        let mut sorted = true;
        for part in &self.parts {
            let (first, length) = tile[part.rank];
            let mut values: Vec<i64> =
                part.table[first as usize..(first + length) as usize].to_vec();
            values.sort_unstable();
            values.dedup();
            if values.len() == 1 {
                places.iter_mut().for_each(|o| *o += values[0]);
                continue;
            }
            sorted &= places.len() == 1;
            let before = std::mem::take(&mut places);
            for base in before {
                places.extend(values.iter().map(|v| base + v));
            }
        }
        out.extend(places.iter().filter_map(|at| usize::try_from(*at).ok()));
        if !sorted {
            out.sort_unstable();
        }
        if self.overlaps {
            out.dedup();
        }
    }
}

/// The words that several images touch.
#[derive(Clone, Debug)]
pub(super) struct Words(Vec<Access>);

impl Words {
    /// Of a tensor's coordinates.
    pub fn own(layout: &Layout, projection: &Projection, sizes: &[u64]) -> Self {
        let images = projection.images();
        Self(
            images
                .map(|dims| Access::own(layout, dims, sizes, false))
                .collect(),
        )
    }

    /// To count them.
    pub fn counting(projection: &Projection, sizes: &[u64]) -> Self {
        let greatest = |dim: &Dim| {
            let (_, greatest) = dim.range(&|rank| (0, sizes[rank]));
            let past = usize::try_from(greatest.saturating_add(1))
                .unwrap_or(0)
                .max(1);
            match dim.within {
                Some(size) => past.max(usize::try_from(size).unwrap_or(usize::MAX)),
                None => past,
            }
        };
        let dims = projection.dims.len();
        let mut strides = vec![0; dims];
        let mut words = 1usize;
        for d in (0..dims).rev() {
            strides[d] = words;
            let most = projection.images().map(|image| greatest(&image[d])).max();
            words = words.saturating_mul(most.unwrap_or(1));
        }
        let access = |image: &[Dim]| {
            let constants: Vec<i64> = image.iter().map(|d| d.offset).collect();
            let lengths: Vec<_> = image.iter().map(|d| d.within).collect();
            Access::build(image, sizes, &strides, &constants, &lengths)
        };
        Self(projection.images().map(access).collect())
    }

    /// Whether the points of two boxes are the same, as far as they tell words.
    pub fn same_points(&self, a: &Tile, b: &Tile) -> bool {
        let mut parts = self.0.iter().flat_map(|access| &access.parts);
        parts.all(|p| a[p.rank] == b[p.rank])
    }

    /// The words that the points of a box touch, each once, ascending.
    pub fn words(&self, tile: &Tile, out: &mut Vec<usize>) {
        let [first, others @ ..] = self.0.as_slice() else {
            return out.clear();
        };
        first.words(tile, out);
        let mut more = Vec::new();
        for access in others {
            access.words(tile, &mut more);
            out.append(&mut more);
        }
        if !others.is_empty() {
            out.sort_unstable();
            out.dedup();
        }
    }
}

/// What the indices of a read, views resolved, are where all rank variables are 0: batch ranks in front.
pub(super) fn constants(
    mapped: &MappedCascade,
    einsum: &str,
    read: &Read,
) -> Result<Vec<i64>, ArrayError> {
    let cascade = &mapped.cascade;
    let refuse = |why: String| ArrayError::Unsupported {
        einsum: einsum.into(),
        why,
    };
    let mut tensor = read.tensor;
    let mut indices = &read.indices;
    // Values of the variables of the tensor whose indices are worth something.
    let mut known: Vec<(String, i128)> = Vec::new();
    loop {
        let lookup = |name: &str| {
            let value = known.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
            value
                .or_else(|| mapped.sizes.get(name).map(|s| i128::from(*s)))
                .or(Some(0))
        };
        let mut values = Vec::new();
        for index in indices {
            match index {
                Index::Expr(expr) => {
                    let value = expr.whole(&cascade.source, &lookup, &Vec::new);
                    values.push(value.map_err(|p| refuse(p.message))?);
                }
                Index::Gather(by, _) => {
                    let name = &cascade.tensor(*by).name;
                    return Err(refuse(format!(
                        "it gathers through the index tensor {name}, and where its words are is not known before"
                    )));
                }
            }
        }
        let producer = cascade
            .tensor(tensor)
            .producer
            .map(|p| cascade.einsum(p))
            .filter(|e| e.view);
        let Some(view) = producer else {
            let whole = values.iter().map(|v| i64::try_from(*v));
            let own: Result<Vec<i64>, _> = whole.collect();
            let own = own.map_err(|_| refuse("an index overflows".into()))?;
            return Ok(vec![0; cascade.batch.len()]
                .into_iter()
                .chain(own)
                .collect());
        };
        let names = cascade
            .tensor(tensor)
            .ranks
            .iter()
            .map(|r| cascade.rank(*r).variable.clone());
        known = names.zip(values).collect();
        tensor = view.reads[0].tensor;
        indices = &view.reads[0].indices;
    }
}
