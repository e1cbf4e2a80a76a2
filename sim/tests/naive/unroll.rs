//! Every loop unrolled: tasks with their steps, movements with their words.

use std::collections::BTreeMap;

use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, NamedLoop, Transfer, TransferKind},
    nest::{Loop, Projection},
};

use super::words::{Tile, Words, cut, follows, left_out, walk, whole, words};

/// A tile's place in its block.
type Place = (Vec<u64>, i64);

/// One Einsum's work on one tile, or on one fold of it.
#[derive(Clone, Debug)]
pub struct Task {
    /// The tile of the shared loops.
    pub tile: Tile,
    /// The tile's place in the block: iterations of the loops at which the pipeline empties, and the number inside
    /// them.
    pub at: Place,
    /// The number of the fold in the tile.
    pub fold: u64,
    /// What each step works on, all PEs together.
    pub steps: Vec<Tile>,
}

/// A tile as a movement sees it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Words that were not there before.
    pub new: Words,
}

fn cuts(loops: &[NamedLoop]) -> Vec<Loop> {
    loops.iter().map(|l| l.cut).collect()
}

/// Tiles of a block's loops, less those that it leaves out.
pub fn tiles(mapped: &MappedCascade, block: &Block, loops: &[Loop]) -> Vec<Tile> {
    let sizes: Vec<u64> = mapped.base.iter().map(|b| b.size).collect();
    let mut out = walk(&whole(&sizes), loops);
    out.retain(|t| !left_out(t, &block.space));
    out
}

/// The tiles of an Einsum, each with its place: the first full tile that it holds, or behind the last of the loop at
/// whose exit it runs.
fn numbered(
    mapped: &MappedCascade,
    block: &Block,
    nest: usize,
    einsum: &BoundEinsum,
) -> Vec<(Tile, (Vec<u64>, i64))> {
    let all: Vec<_> = block
        .loops
        .iter()
        .chain(&block.nests[nest].loops)
        .cloned()
        .collect();
    let exit = einsum
        .at_exit_of
        .as_ref()
        .and_then(|name| all.iter().position(|l| l.name == *name));
    let scopes = match &block.pipeline {
        _ if block.nests.len() > 1 => block.loops.len(),
        Some(p) => p.drains_at.map_or(0, |at| at + 1),
        None => 0,
    };
    let sizes: Vec<u64> = mapped.base.iter().map(|b| b.size).collect();
    // Every full tile: digits of all loops.
    let mut full: Vec<(Vec<u64>, Tile)> = vec![(Vec::new(), whole(&sizes))];
    for l in &all {
        let each = |(digits, tile): &(Vec<u64>, Tile)| -> Vec<(Vec<u64>, Tile)> {
            let parts = (0..).zip(cut(tile, l.cut));
            parts
                .map(|(d, part)| ([digits.as_slice(), &[d]].concat(), part))
                .collect()
        };
        full = full.iter().flat_map(each).collect();
    }
    full.retain(|(_, tile)| !left_out(tile, &block.space));
    let mut numbers = Vec::new();
    let mut last: Option<(Vec<u64>, i64)> = None;
    for (digits, _) in &full {
        let scope = digits[..scopes].to_vec();
        let number = match &last {
            Some((s, n)) if *s == scope => n + 1,
            _ => 0,
        };
        numbers.push((scope.clone(), number));
        last = Some((scope, number));
    }
    let own: Vec<usize> = (0..all.len())
        .filter(|l| Some(*l) != exit)
        .take(einsum.shared_loops().len())
        .collect();
    let mut out: Vec<(Vec<u64>, Tile, Place)> = Vec::new();
    for ((digits, _), at) in full.iter().zip(numbers) {
        let mine: Vec<u64> = own.iter().map(|l| digits[*l]).collect();
        match out.iter_mut().find(|(known, _, _)| *known == mine) {
            // At a loop's exit, its last iteration's.
            Some(known)
                if exit.is_some()
                    && (0..all.len())
                        .all(|l| exit == Some(l) || own.contains(&l) || digits[l] == 0) =>
            {
                known.2 = at;
            }
            Some(_) => {}
            None => {
                let mut tile = whole(&sizes);
                for l in &own {
                    tile = cut(&tile, all[*l].cut).swap_remove(digits[*l] as usize);
                }
                out.push((mine, tile, at));
            }
        }
    }
    out.sort_by(|a, b| a.2.cmp(&b.2).then(a.0.cmp(&b.0)));
    out.into_iter().map(|(_, tile, at)| (tile, at)).collect()
}

/// What each PE works on in a step: row, column, point.
pub fn pes(einsum: &BoundEinsum, step: &Tile) -> Vec<(u64, u64, Tile)> {
    let lane = |tile: &Tile, lane: &Option<einflow_mappings::mapped::NamedLoop>| match lane {
        Some(l) => cut(tile, l.cut),
        None => vec![tile.clone()],
    };
    let rows = lane(step, &einsum.rows).into_iter().zip(0..);
    rows.flat_map(|(row, i)| {
        let columns = lane(&row, &einsum.columns).into_iter().zip(0..);
        columns.map(|(pe, j)| (i, j, pe)).collect::<Vec<_>>()
    })
    .collect()
}

/// Whether every PE touches the same words in all of these steps.
pub fn stays(einsum: &BoundEinsum, steps: &[Tile], projection: &Projection) -> bool {
    let of = |step: &Tile| -> BTreeMap<(u64, u64), Words> {
        pes(einsum, step)
            .iter()
            .map(|(i, j, pe)| ((*i, *j), words(pe, projection)))
            .collect()
    };
    steps.windows(2).all(|pair| {
        // A partial tile has fewer PEs at work.
        let (a, b) = (of(&pair[0]), of(&pair[1]));
        b.iter()
            .all(|(pe, words)| a.get(pe).is_none_or(|before| before == words))
    })
}

/// The tasks of an Einsum in the order in which it runs them.
pub fn tasks(
    mapped: &MappedCascade,
    block: &Block,
    nest: usize,
    einsum: &BoundEinsum,
) -> Vec<Task> {
    let own = cuts(&einsum.loops[einsum.loops.len() - einsum.own_loops..]);
    let mut tensors: Vec<&Projection> = einsum.operands.iter().map(|o| &o.projection).collect();
    tensors.push(mapped.own_projection(einsum.output));
    let mut out = Vec::new();
    let tiles = numbered(mapped, block, nest, einsum);
    // As many of the innermost own loops as one tensor stays over; all where nothing does.
    let fold = tiles.first().and_then(|(tile, _)| {
        (0..own.len()).find(|at| {
            let first = walk(tile, &own[..*at]).swap_remove(0);
            let steps = walk(&first, &own[*at..]);
            steps.len() > 1 && tensors.iter().any(|p| stays(einsum, &steps, p))
        })
    });
    let (folds, steps) = own.split_at(fold.unwrap_or(0));
    for (tile, at) in tiles {
        for (number, fold) in (0..).zip(walk(&tile, folds)) {
            let steps = walk(&fold, steps);
            out.push(Task {
                tile: tile.clone(),
                at: at.clone(),
                fold: number,
                steps,
            });
        }
    }
    out
}

/// The tiles that a movement goes through, and what each brings that was not there: a memory remembers one tile, and so
/// does each PE that works in a step of what it read in the step before. What several of them lack is read once.
pub fn visits(mapped: &MappedCascade, block: &Block, transfer: &Transfer) -> Vec<Visit> {
    let (outer, inner) = transfer.loops.split_at(transfer.tile_depth);
    let einsum = &block.nests[transfer.einsum.0].einsums[transfer.einsum.1];
    let apart = transfer.kind == TransferKind::Operand && transfer.loops == cuts(&einsum.loops);
    // Along a lane that tells none of its words apart they pass by every PE.
    let told = |l: &&NamedLoop| {
        let mut dims = transfer.projection.all_dims();
        apart && dims.any(|d| follows(d, l.cut.rank))
    };
    let lane = |lane: &Option<NamedLoop>| lane.iter().filter(told).map(|l| l.cut).collect();
    let (rows, columns): (Vec<Loop>, Vec<Loop>) = (lane(&einsum.rows), lane(&einsum.columns));
    // Where rows and columns name a word together, a word that the first PE still has is taken for a sign that all are
    // where they were, and then what any PE had counts as there.
    let together = transfer.projection.all_dims().any(|d| {
        let mut lanes = rows.iter().chain(&columns);
        lanes.clone().count() > 1 && lanes.all(|l| follows(d, l.rank))
    });
    let mut last: BTreeMap<(usize, usize), Words> = BTreeMap::new();
    let mut out = Vec::new();
    for tile in tiles(mapped, block, outer) {
        for tile in walk(&tile, inner) {
            let (mut new, mut now) = (Words::new(), BTreeMap::new());
            for (i, row) in walk(&tile, &rows).iter().enumerate() {
                for (j, pe) in walk(row, &columns).iter().enumerate() {
                    let all = words(pe, &transfer.projection);
                    if !together {
                        let held = last.remove(&(i, j)).unwrap_or_default();
                        new.extend(all.difference(&held).cloned());
                    }
                    now.insert((i, j), all);
                }
            }
            if together {
                let union =
                    |of: &BTreeMap<_, Words>| -> Words { of.values().flatten().cloned().collect() };
                new = union(&now);
                if last.get(&(0, 0)) == now.get(&(0, 0)) {
                    new = new.difference(&union(&last)).cloned().collect();
                }
            }
            last = now;
            out.push(Visit { new });
        }
    }
    out
}
