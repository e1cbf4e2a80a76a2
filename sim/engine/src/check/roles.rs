//! Sizes of a miniature: what a rank or parameter is to the whole, it is to the miniature. Tiles stay tiles, the last
//! one partial where it was; several queries share a key head where they did; a rank that follows from others still
//! does; what leaves coordinates out (a window, a block of a mask, a halo) still leaves some out.

use std::collections::{BTreeMap, BTreeSet};

use einflow_mappings::mapped::{MappedCascade, NamedLoop};
use einflow_spec::expr::{BinaryOp, Expr};
use einflow_workloads::cascade::{Cascade, Index, RankId, Sizes};

use super::bounds::bounds;

/// Rows and columns of an array in miniature.
pub(super) const SIDE: u64 = 8;
/// Tiles of a rank in miniature, at most.
const TILES: u64 = 8;
/// Coordinates of a rank in miniature that no array's side divides.
const SHORT: u64 = 8;
/// Parameters (a stride, a window's width) are no smaller than this where they were no smaller.
const FEW: u64 = 4;
/// Parts of a partition that are themselves parted, at most.
const PARTS: u64 = 3;
/// Points of an Einsum in miniature, beyond which ranks that no array's side divides have fewer coordinates.
const POINTS: u64 = 1 << 22;

type Given = BTreeMap<String, u64>;

/// Sizes that a miniature is bound with: those that nothing else gives.
pub(super) fn sizes(mapped: &MappedCascade) -> Given {
    let cascade = &mapped.cascade;
    let batch: Vec<&str> = cascade
        .batch
        .iter()
        .map(|r| cascade.rank(*r).name.as_str())
        .collect();
    let mut out = BTreeMap::new();
    for (base, rank) in mapped.base.iter().enumerate() {
        let size = match batch.iter().position(|b| *b == rank.name) {
            Some(at) if at + 1 == batch.len() => rank.size.min(2),
            Some(_) => 1,
            None => small_size(mapped, base, rank.size),
        };
        out.insert(rank.name.clone(), size);
    }
    // Every word of every point is moved: many ranks of a few coordinates each are many points.
    while let Some(ranks) = largest(cascade, &out) {
        let cut = |name: &&String| out[*name] > 2 && out[*name] <= SHORT;
        let longest = ranks.iter().filter(cut).max_by_key(|name| out[*name]);
        let Some(name) = longest.cloned() else { break };
        out.entry(name).and_modify(|size| *size = size.div_ceil(2));
    }
    let atoms = atoms(cascade);
    share(mapped, &atoms, &mut out);
    let scaled = parameters(mapped, &atoms, &mut out);
    follow(mapped, &mut out);
    bite(mapped, &atoms, &scaled, &mut out);
    out
}

/// Conditions that leave points out at the mapped sizes, and none (or all) in the miniature: what they do is not
/// checked there.
pub(super) fn toothless(mapped: &MappedCascade, small: &Given) -> Vec<String> {
    let atoms = atoms(&mapped.cascade);
    let lost = atoms.iter().filter(|atom| {
        atom.indexed.is_none() && atom.bites(mapped, &mapped.sizes) && !atom.bites(mapped, small)
    });
    let texts: BTreeSet<String> = lost.map(|atom| atom.expr.to_string()).collect();
    texts.into_iter().collect()
}

/// The ranks that give the points of an Einsum of more than [`POINTS`] points, if there is one.
fn largest(cascade: &Cascade, sizes: &Given) -> Option<BTreeSet<String>> {
    cascade.einsums.iter().find_map(|einsum| {
        let mut ranks: BTreeSet<RankId> =
            einsum.ranks.iter().chain(&cascade.batch).copied().collect();
        // The parts of a rank have as many points as it.
        for partition in cascade.partitions.iter().rev() {
            if partition.parts.iter().any(|part| ranks.contains(part)) {
                ranks.retain(|rank| !partition.parts.contains(rank));
                ranks.insert(partition.whole);
            }
        }
        let names = ranks.iter().map(|rank| &cascade.rank(*rank).name);
        let names: BTreeSet<String> = names.filter(|n| sizes.contains_key(*n)).cloned().collect();
        let points = names
            .iter()
            .map(|name| u128::from(sizes[name]))
            .product::<u128>();
        (points > u128::from(POINTS)).then_some(names)
    })
}

/// The longest side of an array that loops over a rank.
fn side(mapped: &MappedCascade, base: usize) -> Option<u64> {
    let nests = mapped.blocks.iter().flat_map(|b| &b.nests);
    nests
        .flat_map(|n| &n.einsums)
        .flat_map(|e| {
            let array = &mapped.accelerator.arrays[e.unit];
            let lane = |lane: &Option<NamedLoop>, side: u64| {
                lane.as_ref()
                    .filter(|l| l.cut.rank == base && l.count > 1)
                    .map(|_| side)
            };
            [lane(&e.rows, array.rows), lane(&e.columns, array.columns)]
        })
        .flatten()
        .max()
}

/// As many tiles of an array's side as there are, up to a few, the last one partial if it is.
fn small_size(mapped: &MappedCascade, base: usize, size: u64) -> u64 {
    let Some(side) = side(mapped, base).filter(|side| size > *side) else {
        return size.min(SHORT);
    };
    let tiles = size.div_ceil(side).min(TILES);
    let short = side.min(SIDE);
    match size % side {
        0 => tiles * short,
        rest => (tiles - 1) * short + (rest * short / side).clamp(1, short - 1).max(1),
    }
}

/// How much shorter a stretch of a rank is in miniature: as tiles are where a side of an array divides it.
fn scale(mapped: &MappedCascade, base: usize, small: &Given) -> f64 {
    let rank = &mapped.base[base];
    match side(mapped, base).filter(|side| rank.size > *side) {
        Some(side) => side.min(SIDE) as f64 / side as f64,
        None => small
            .get(&rank.name)
            .map_or(1.0, |s| *s as f64 / rank.size as f64),
    }
}

/// A comparison of a condition, or an index into a rank.
struct Atom<'a> {
    expr: &'a Expr,
    indexed: Option<RankId>,
}

impl<'a> Atom<'a> {
    /// Whether it leaves some points out, and not all.
    fn bites(&self, mapped: &MappedCascade, sizes: &Given) -> bool {
        let cascade = &mapped.cascade;
        let size = |name: &str| sizes.get(name).copied().map(i128::from);
        let lookup = |name: &str| match size(name) {
            Some(size) => Some((size, size)),
            None => {
                let rank = cascade.rank_named(name)?;
                Some((0, size(&cascade.rank(rank).name)? - 1))
            }
        };
        let Some((low, high)) = bounds(self.expr, &lookup) else {
            return false;
        };
        match self.indexed {
            None => (low, high) == (0, 1),
            Some(rank) => {
                size(&cascade.rank(rank).name).is_some_and(|size| low < 0 || high >= size)
            }
        }
    }

    fn names(&self, wanted: &str) -> bool {
        names(self.expr).any(|name| name == wanted)
    }

    /// The ranks whose coordinates a parameter is measured in: those of the expression, but for what it multiplies.
    fn measured_in(&self, cascade: &Cascade, parameter: &str) -> Vec<RankId> {
        let mut multiplied: Vec<&str> = Vec::new();
        self.expr.walk(&mut |part| {
            if let Expr::Binary {
                op: BinaryOp::Mul,
                left,
                right,
                ..
            } = part
            {
                for (a, b) in [(left, right), (right, left)] {
                    if names(a).any(|name| name == parameter) {
                        multiplied.extend(names(b));
                    }
                }
            }
        });
        let variables = names(self.expr).filter(|name| !multiplied.contains(name));
        let ranks = variables.filter_map(|name| {
            let rank = cascade.ranks.iter().position(|r| r.variable == name)?;
            Some(whole(cascade, RankId(rank)))
        });
        ranks
            .chain(self.indexed.map(|rank| whole(cascade, rank)))
            .collect()
    }
}

fn names(expr: &Expr) -> impl Iterator<Item = &str> {
    let mut found = Vec::new();
    expr.walk(&mut |part| {
        if let Expr::Name { name, .. } = part {
            found.push(name.as_str());
        }
    });
    found.into_iter()
}

/// The rank that a part is of; itself where it is none.
fn whole(cascade: &Cascade, rank: RankId) -> RankId {
    let of = cascade.partitions.iter().find(|p| p.parts.contains(&rank));
    of.map_or(rank, |partition| partition.whole)
}

fn atoms(cascade: &Cascade) -> Vec<Atom<'_>> {
    fn compared<'a>(expr: &'a Expr, out: &mut Vec<Atom<'a>>) {
        match expr {
            Expr::Binary {
                op: BinaryOp::And | BinaryOp::Or,
                left,
                right,
                ..
            } => {
                compared(left, out);
                compared(right, out);
            }
            Expr::Unary { operand, .. } => compared(operand, out),
            _ => out.push(Atom {
                expr,
                indexed: None,
            }),
        }
    }
    let mut out = Vec::new();
    for einsum in &cascade.einsums {
        einsum
            .conditions
            .iter()
            .for_each(|c| compared(&c.0, &mut out));
        for read in &einsum.reads {
            let ranks = &cascade.tensor(read.tensor).ranks;
            for (index, rank) in read.indices.iter().zip(ranks) {
                if let Index::Expr(expr) = index {
                    out.push(Atom {
                        expr,
                        indexed: Some(*rank),
                    });
                }
            }
        }
    }
    out
}

/// Ranks whose coordinates are shared (`K[e, m, h / ceil(H / G)]`): several of them stay several, and each is shared by
/// several where it was.
fn share(mapped: &MappedCascade, atoms: &[Atom<'_>], small: &mut Given) {
    let cascade = &mapped.cascade;
    for atom in atoms {
        let Some(shared) = atom.indexed.map(|rank| &cascade.rank(rank).name) else {
            continue;
        };
        let mut divided: Vec<&str> = Vec::new();
        atom.expr.walk(&mut |part| {
            if let Expr::Binary {
                op: BinaryOp::Div,
                left,
                ..
            } = part
            {
                divided.extend(names(left));
            }
        });
        let by = cascade
            .ranks
            .iter()
            .find(|rank| divided.contains(&rank.variable.as_str()));
        let Some(by) = by.map(|rank| &rank.name).filter(|by| *by != shared) else {
            continue;
        };
        let real = |name: &String| mapped.sizes.get(name).copied();
        let (Some(many), Some(few), Some(queries)) =
            (real(by), real(shared), small.get(by).copied())
        else {
            continue;
        };
        if let Some(size) = small.get_mut(shared).filter(|_| few < many) {
            let scaled = (few * queries).div_ceil(many).max(few.min(2));
            *size = scaled.clamp(1, (queries / 2).max(1));
        }
    }
}

/// Gives parameters that are no ranks; returns the names of those that shrank.
fn parameters(mapped: &MappedCascade, atoms: &[Atom<'_>], small: &mut Given) -> Vec<String> {
    let cascade = &mapped.cascade;
    let base_of = |rank: &RankId| mapped.base.iter().position(|base| base.rank == *rank);
    let blocks = mapped.spec.blocks.iter().flat_map(|block| &block.sizes);
    let chosen: BTreeSet<&str> = mapped
        .spec
        .sizes
        .iter()
        .chain(blocks)
        .map(|(name, _)| name.text.as_str())
        .collect();
    let mut scaled = Vec::new();
    for (name, parameter) in &cascade.parameters {
        let Some(&value) = mapped.sizes.get(name) else {
            continue;
        };
        if parameter.fixed || small.contains_key(name) || chosen.contains(name.as_str()) {
            continue;
        }
        let mut others = mapped.sizes.clone();
        others.remove(name);
        let follows = names(&parameter.default).next().is_some()
            && cascade
                .sizes(&others)
                .is_ok_and(|sizes| sizes.get(name) == Some(value));
        if follows {
            continue;
        }
        let part = cascade.partitions.iter().find_map(|partition| {
            let at = partition
                .parts
                .iter()
                .position(|p| cascade.rank(*p).name == *name)?;
            Some((partition, at + 1 == partition.parts.len()))
        });
        let (ranks, least): (Vec<RankId>, u64) = match part {
            Some((_, false)) => (Vec::new(), PARTS),
            Some((partition, true)) => (vec![partition.whole], FEW),
            None => {
                let named = atoms.iter().filter(|atom| atom.names(name));
                let ranks = named.flat_map(|atom| atom.measured_in(cascade, name));
                // How long a rank is by which others are found, is not known yet.
                let settled = |rank: &RankId| {
                    let name = &cascade.rank(*rank).name;
                    let mut fixed = cascade.parameters.values().filter(|p| p.fixed);
                    !fixed.any(|p| names(&p.default).any(|of| of == name))
                };
                (ranks.filter(settled).collect(), FEW)
            }
        };
        let factor = ranks
            .iter()
            .filter_map(|rank| Some(scale(mapped, base_of(rank)?, small)))
            .fold(1.0, f64::min);
        // What is far shorter than the rank, or just shorter, stays so.
        let real = |rank: &RankId| mapped.sizes.get(&cascade.rank(*rank).name).copied();
        let longest = ranks.iter().max_by_key(|rank| real(rank));
        let lengths =
            longest.and_then(|rank| Some((real(rank)?, *small.get(&cascade.rank(*rank).name)?)));
        let most = match lengths {
            Some((long, short)) if value.saturating_mul(FEW) <= long => short / FEW,
            Some((long, short)) if value < long => short - 1,
            _ => value,
        };
        let size = match part {
            Some((_, false)) => value.min(PARTS),
            _ => ((value as f64 * factor).ceil() as u64)
                .max(value.min(least))
                .min(most.max(1)),
        };
        if size < value {
            scaled.push(name.clone());
        }
        small.insert(name.clone(), size);
    }
    scaled
}

/// Ranks that always follow from others are as long as they should be by the longest of these, which no array divides.
fn follow(mapped: &MappedCascade, small: &mut Given) {
    let cascade = &mapped.cascade;
    let fixed = cascade.parameters.iter().filter(|(_, p)| p.fixed);
    for (name, parameter) in fixed {
        let Some(wanted) = small.remove(name) else {
            continue;
        };
        if cascade
            .sizes(small)
            .is_ok_and(|sizes| sizes.get(name) == Some(wanted))
        {
            continue;
        }
        let divided = |of: &str| {
            let base = mapped.base.iter().position(|base| base.name == of);
            base.is_none_or(|base| side(mapped, base).is_some())
        };
        // Of one that no array divides, more coordinates are as good.
        let enough = |sizes: Sizes| sizes.get(name).is_some_and(|found| found >= wanted);
        if !divided(name) && cascade.sizes(small).is_ok_and(enough) {
            continue;
        }
        let free = |of: &&str| !divided(of) && small.contains_key(*of);
        let longest = names(&parameter.default)
            .filter(free)
            .max_by_key(|of| mapped.sizes.get(*of));
        let Some(of) = longest.map(str::to_owned) else {
            continue;
        };
        let reaches = |size: u64| {
            let mut given = small.clone();
            given.insert(of.clone(), size);
            cascade
                .sizes(&given)
                .is_ok_and(|sizes| sizes.get(name).is_some_and(|s| s >= wanted))
        };
        let (mut below, mut enough) = (0, mapped.sizes.get(&of).copied().unwrap_or(1));
        while reaches(enough) && below + 1 < enough {
            let middle = below.midpoint(enough);
            match reaches(middle) {
                true => enough = middle,
                false => below = middle,
            }
        }
        small.insert(of, enough);
    }
}

/// Makes parameters smaller until what they leave out in the whole is left out in the miniature.
fn bite(mapped: &MappedCascade, atoms: &[Atom<'_>], scaled: &[String], small: &mut Given) {
    for name in scaled {
        let named: Vec<&Atom<'_>> = atoms
            .iter()
            .filter(|atom| atom.names(name) && atom.bites(mapped, &mapped.sizes))
            .collect();
        let mut given = small.clone();
        for size in (1..=small[name]).rev() {
            given.insert(name.clone(), size);
            let Ok(all) = mapped.cascade.sizes(&given) else {
                break;
            };
            if named.iter().all(|atom| atom.bites(mapped, &all.0)) {
                small.insert(name.clone(), size);
                break;
            }
        }
    }
}
