//! An Einsum at work: what it reads and makes, and when it runs.

use std::collections::BTreeSet;

use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, NamedLoop},
    spec::BindingSpec,
};
use einflow_workloads::cascade::{ReadTime, TensorId};

use crate::index::{Area, Formula, Names, Touch, Words, each_point};

/// Words that stay in PEs.
pub type Held = BTreeSet<Vec<i128>>;

/// An operand, as it is read.
pub struct Operand {
    pub tensor: TensorId,
    pub touch: Touch,
    pub time: ReadTime,
}

/// An Einsum bound to its unit.
pub struct Work<'a> {
    pub at: (usize, usize),
    pub einsum: &'a BoundEinsum,
    pub binding: &'a BindingSpec,
    pub operands: Vec<Operand>,
    pub output: TensorId,
    pub written: Touch,
    /// The words in whose place it writes, along an iterative rank.
    pub replaced: Option<Touch>,
    /// Its points, to tell when a step does something else.
    pub variables: Touch,
    pub exit: Option<usize>,
    /// Of the shared loops, those that bring it new work.
    pub prefix: usize,
    /// Indices of those loops when it last ran.
    pub ran: Option<Vec<u64>>,
    pub own: &'a [NamedLoop],
    pub steps: u128,
    /// By what takes longer to pass its links than it stays: the words that stay, and cycles that it has taken more.
    pub loads: Vec<(Held, u128)>,
    /// The box of all points.
    pub whole: Area,
    /// By step: the results that it made; and steps that came back to results that had been made.
    pub made: BTreeSet<Words>,
    pub returned: u128,
    /// Results of the step before.
    pub last: Option<Words>,
    /// Its points in the tiles in which it ran.
    pub worked: BTreeSet<u64>,
    /// Boxes that were laid across the array before.
    pub checked: BTreeSet<Area>,
}

impl Work<'_> {
    /// Moves what a step needs and the one before it did not have.
    pub fn load(&mut self, block: &Block, area: &Area) {
        let words = self.written.words(area);
        let stays = !self.einsum.partials && self.last.as_ref() == Some(&words);
        self.returned += u128::from(!self.made.insert(words.clone()) && !stays);
        self.last = Some(words);
        for (load, (there, cycles)) in self.einsum.loads.iter().zip(&mut self.loads) {
            let mut tile = area.clone();
            if let Some(transfer) = load.kept {
                tile = self.whole.clone();
                for l in &block.transfers[transfer].loops {
                    let (low, high) = tile[l.rank];
                    let first = low + (area[l.rank].0 - low) / l.step * l.step;
                    tile[l.rank] = (first, high.min(first + l.step));
                }
            }
            let mut bases = Vec::new();
            for dim in &load.projection.dims {
                dim.each_term(&mut |t| bases.push(t.rank));
            }
            bases.sort_unstable();
            bases.dedup();
            let mut words = BTreeSet::new();
            each_point(&bases, &tile, &mut vec![0; tile.len()], &mut |point| {
                let dims = load.projection.dims.iter();
                words.insert(dims.map(|d| d.at(&|rank| point[rank])).collect());
            });
            if words != *there {
                *cycles += u128::from(load.excess);
                *there = words;
            }
        }
    }

    /// Whether an index of an operand is a sum of which a lane of the array is a part, or wraps one.
    pub fn shifts(&self, operand: usize) -> bool {
        let lanes = self.einsum.rows.iter().chain(&self.einsum.columns);
        let lanes: Vec<usize> = lanes.filter(|l| l.count > 1).map(|l| l.cut.rank).collect();
        let mut formulas = self.operands[operand].touch.formulas().iter();
        formulas.any(|formula| {
            let mut bases = Vec::new();
            formula.bases(&mut bases);
            let sum = bases.len() > 1 || formula.wraps();
            sum && bases.iter().any(|b| lanes.contains(b))
        })
    }
}

/// The tiles of a loop within a box.
pub fn cut(area: &Area, l: &NamedLoop) -> Vec<Area> {
    let (low, high) = area[l.cut.rank];
    (low..high)
        .step_by(l.cut.step as usize)
        .map(|x| {
            let mut part = area.clone();
            part[l.cut.rank] = (x, high.min(x + l.cut.step));
            part
        })
        .collect()
}

pub fn viewed(mapped: &MappedCascade, tensor: TensorId) -> TensorId {
    let ranks = &mapped.cascade.tensor(tensor).ranks;
    let names = ranks.iter().map(|r| einflow_spec::expr::Expr::Name {
        name: mapped.cascade.rank(*r).variable.clone(),
        span: einflow_spec::Span::new(0, 0),
    });
    let indices: Vec<_> = names.map(einflow_workloads::cascade::Index::Expr).collect();
    Names::new(mapped).read(tensor, &indices).0
}

pub fn work<'a>(
    mapped: &'a MappedCascade,
    names: &Names<'_>,
    block: &'a Block,
    at: (usize, usize),
    einsum: &'a BoundEinsum,
    binding: &'a BindingSpec,
) -> Work<'a> {
    let e = mapped.cascade.einsum(einsum.einsum);
    let mut operands: Vec<Operand> = Vec::new();
    for read in &e.reads {
        let (tensor, formulas) = names.read(read.tensor, &read.indices);
        if !operands
            .iter()
            .any(|o| o.tensor == tensor && o.touch.formulas() == formulas)
        {
            operands.push(Operand {
                tensor,
                touch: Touch::new(formulas),
                time: read.time,
            });
        }
    }
    let loops: Vec<&NamedLoop> = block.loops.iter().chain(&block.nests[at.0].loops).collect();
    let exit = einsum
        .at_exit_of
        .as_ref()
        .map(|name| loops.iter().position(|l| l.name == *name).unwrap());
    let variables = Touch::new(names.variables(e));
    // The innermost shared loop of which two iterations in a row touch different points.
    let mut areas = vec![mapped.base.iter().map(|b| (0, b.size)).collect::<Area>()];
    let mut prefix = 0;
    for (depth, l) in loops.iter().enumerate() {
        if exit == Some(depth) {
            continue;
        }
        let parts: Vec<Vec<Area>> = areas.iter().map(|a| cut(a, l)).collect();
        if parts.iter().any(|p| {
            p.iter()
                .any(|a| variables.words(a) != variables.words(&p[0]))
        }) {
            prefix = depth + 1;
        }
        areas = parts.into_iter().flatten().collect();
    }
    let own = &einsum.loops[einsum.loops.len() - einsum.own_loops..];
    Work {
        at,
        einsum,
        binding,
        operands,
        output: e.output,
        written: Touch::new(names.written(e)),
        replaced: names.replaced(e).map(Touch::new),
        variables,
        exit,
        prefix,
        ran: None,
        own,
        steps: 0,
        loads: vec![Default::default(); einsum.loads.len()],
        whole: mapped.base.iter().map(|b| (0, b.size)).collect(),
        made: BTreeSet::new(),
        returned: 0,
        last: None,
        worked: BTreeSet::new(),
        checked: BTreeSet::new(),
    }
}

/// Points at which an Einsum works, each counted once: where its conditions hold, or where it ran.
pub fn points(mapped: &MappedCascade, names: &Names<'_>, work: &Work<'_>) -> u128 {
    let e = mapped.cascade.einsum(work.einsum.einsum);
    if e.support.is_empty() {
        return work.worked.len() as u128;
    }
    let conditions: Vec<Formula> = e.support.iter().map(|c| names.formula(&c.0, &[])).collect();
    let area: Area = mapped.base.iter().map(|b| (0, b.size)).collect();
    let mut seen = BTreeSet::new();
    let mut bases: Vec<usize> = Vec::new();
    let found = work.variables.formulas();
    for f in found {
        if let Formula::Rank { base, .. } = f {
            bases.push(*base);
        }
    }
    bases.sort_unstable();
    bases.dedup();
    each_point(&bases, &area, &mut vec![0; area.len()], &mut |point| {
        if conditions.iter().all(|c| c.at(point) != 0) {
            seen.insert(found.iter().map(|f| f.at(point)).collect::<Vec<_>>());
        }
    });
    seen.len() as u128
}

/// Words of an input or output that points touch at which no condition fails: of the Einsum that needs most.
pub fn needed(mapped: &MappedCascade, tensor: TensorId) -> u128 {
    let names = Names::new(mapped);
    let area: Area = mapped.base.iter().map(|b| (0, b.size)).collect();
    let mut most = 0;
    for e in mapped.cascade.einsums.iter().filter(|e| !e.view) {
        let reads = e.reads.iter().map(|r| names.read(r.tensor, &r.indices));
        let written = (e.output, names.written(e));
        for (_, formulas) in reads.chain([written]).filter(|(t, _)| *t == tensor) {
            let conditions: Vec<Formula> =
                e.support.iter().map(|c| names.formula(&c.0, &[])).collect();
            let mut bases = Vec::new();
            let all = formulas.iter().chain(&conditions);
            all.for_each(|f| f.bases(&mut bases));
            bases.sort_unstable();
            bases.dedup();
            let mut seen = BTreeSet::new();
            each_point(&bases, &area, &mut vec![0; area.len()], &mut |point| {
                if conditions.iter().all(|c| c.at(point) != 0) {
                    seen.insert(formulas.iter().map(|f| f.at(point)).collect::<Vec<_>>());
                }
            });
            most = most.max(seen.len() as u128);
        }
    }
    most
}
