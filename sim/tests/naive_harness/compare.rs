//! One program on the naive simulator and on both event engines.

use std::collections::BTreeMap;

use einflow_engine::{
    array, cycle,
    events::{Cause, EventError, Side, Unseen},
};
use einflow_mappings::mapped::MappedCascade;
use einflow_workloads::{cascade::TensorKind, interpret::Array};

use crate::naive::{self, Ran, Wait};

pub enum Outcome {
    /// In everything; and whether the cycle engine jumped.
    Agreed(bool),
    /// It waits for itself on all of them.
    Deadlock,
    Refused,
    Large,
    Differs(String),
}

fn wait_of(cause: Cause) -> Wait {
    match cause {
        Cause::Filling => Wait::Filling,
        Cause::Draining => Wait::Draining,
        Cause::Operand(t, Side::Memory(m)) => Wait::Operand(t.0, m),
        Cause::Operand(t, Side::Array(a)) => Wait::Link(t.0, a),
        Cause::Space(t, Side::Memory(m)) => Wait::Room(t.0, m),
        Cause::Space(t, Side::Array(a)) => Wait::Edge(t.0, a),
        Cause::Port(m) => Wait::Port(m),
        Cause::Channel(m) => Wait::Channel(m),
        Cause::Link(array, link) => Wait::Narrow(array, link),
        Cause::Mapping => Wait::Mapping,
    }
}

fn of_cycle(run: &cycle::BlockRun) -> Ran {
    let waits = |list: &Vec<(Cause, u64)>| {
        let mut out = BTreeMap::new();
        for (cause, cycles) in list.iter().filter(|(_, n)| *n > 0) {
            *out.entry(wait_of(*cause)).or_insert(0) += cycles;
        }
        out
    };
    let t = &run.totals;
    Ran {
        cycles: run.cycles,
        busy: t.busy.clone(),
        waits: t.waits.iter().map(waits).collect(),
        words: t.words.clone(),
        channel: t.channel.clone(),
        tasks: t.tasks,
        peak: Vec::new(),
    }
}

fn inputs(mapped: &MappedCascade) -> BTreeMap<String, Array> {
    let cascade = &mapped.cascade;
    let inputs = cascade
        .tensors
        .iter()
        .filter(|t| t.kind == TensorKind::Input);
    let one = |tensor: &einflow_workloads::cascade::Tensor| {
        let ranks = cascade.batch.iter().chain(&tensor.ranks);
        let size = |r: &einflow_workloads::cascade::RankId| {
            mapped
                .sizes
                .get(&cascade.rank(*r).name)
                .copied()
                .unwrap_or(1) as usize
        };
        let shape: Vec<usize> = ranks.map(size).collect();
        let data = vec![1.0; shape.iter().product()];
        (tensor.name.clone(), Array::new(shape, data))
    };
    inputs.map(one).collect()
}

pub fn compare(mapped: &MappedCascade) -> Outcome {
    let work: u128 = mapped
        .blocks
        .iter()
        .map(|b| {
            b.space
                .sizes
                .iter()
                .map(|s| u128::from(*s))
                .product::<u128>()
        })
        .sum();
    if work > 4000 {
        return Outcome::Large;
    }
    let walked = cycle::run(mapped, false, &mut Unseen);
    let jumped = cycle::run(mapped, true, &mut Unseen);
    let moved = array::run(mapped, &inputs(mapped));
    let naive = naive::run(mapped);
    held_against(mapped, walked, jumped, moved, naive)
}

type Walked = Result<Vec<cycle::BlockRun>, EventError>;

fn held_against(
    mapped: &MappedCascade,
    walked: Walked,
    jumped: Walked,
    moved: Result<array::ArrayRun, array::ArrayError>,
    naive: Option<Vec<Ran>>,
) -> Outcome {
    let (walked, jumped, moved, naive) = match (walked, jumped, moved, naive) {
        (Ok(w), Ok(j), Ok(m), Some(n)) => (w, j, m, n),
        (Err(EventError::Deadlock { .. }), Err(EventError::Deadlock { .. }), Err(_), None) => {
            return Outcome::Deadlock;
        }
        (w, j, m, n) => {
            let text = |e: Option<String>| e.unwrap_or_else(|| "ran".into());
            return Outcome::Differs(format!(
                "cycle {}, with jumps {}, array {}, naive {}",
                text(w.err().map(|e| e.to_string())),
                text(j.err().map(|e| e.to_string())),
                text(m.err().map(|e| e.to_string())),
                n.map_or("waits for itself", |_| "ran")
            ));
        }
    };
    let mut did_jump = false;
    for (b, naive) in naive.iter().enumerate() {
        let mut seen = naive.clone();
        seen.peak = Vec::new();
        for (name, run) in [("cycle", &walked[b]), ("cycle with jumps", &jumped[b])] {
            let run = of_cycle(run);
            if run != seen {
                return Outcome::Differs(format!("block {b}\n{name} {run:?}\nnaive {seen:?}"));
            }
        }
        did_jump |= jumped[b].totals.simulated < jumped[b].totals.tasks;
        let m = &moved.blocks[b];
        if (m.cycles, &m.busy, &m.words) != (naive.cycles, &naive.busy, &naive.words) {
            return Outcome::Differs(format!("block {b}\narray {m:?}\nnaive {seen:?}"));
        }
        let room = &mapped.blocks[b].occupancy;
        if naive
            .peak
            .iter()
            .zip(room)
            .skip(1)
            .any(|(peak, room)| peak > room)
        {
            return Outcome::Differs(format!(
                "block {b}: {:?} bytes held, the mapping has {room:?}",
                naive.peak
            ));
        }
    }
    Outcome::Agreed(did_jump)
}
