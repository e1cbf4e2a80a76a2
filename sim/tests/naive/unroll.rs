//! Every loop unrolled: tasks with their steps, movements with their words.

use einflow_mappings::{
    mapped::{Block, BoundEinsum, MappedCascade, Transfer},
    nest::{Loop, Projection},
};

use super::words::{Tile, Words, cut, left_out, walk, whole, words};

/// One Einsum's work on one tile, or on one fold of it.
#[derive(Clone, Debug)]
pub struct Task {
    /// The tile of the shared loops.
    pub tile: Tile,
    /// What each step works on, all PEs together.
    pub steps: Vec<Tile>,
}

/// A tile as a movement sees it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Words that were not there before.
    pub new: Words,
}

fn cuts(loops: &[einflow_mappings::mapped::NamedLoop]) -> Vec<Loop> {
    loops.iter().map(|l| l.cut).collect()
}

/// Tiles of a block's loops, less those that it leaves out.
pub fn tiles(mapped: &MappedCascade, block: &Block, loops: &[Loop]) -> Vec<Tile> {
    let sizes: Vec<u64> = mapped.base.iter().map(|b| b.size).collect();
    let mut out = walk(&whole(&sizes), loops);
    out.retain(|t| !left_out(t, &block.space));
    out
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
    let of = |step: &Tile| -> Vec<Words> {
        pes(einsum, step).iter().map(|(_, _, pe)| words(pe, projection)).collect()
    };
    steps.windows(2).all(|pair| {
        // The last step may be partial: fewer PEs, the same words.
        of(&pair[0]).iter().zip(&of(&pair[1])).all(|(a, b)| a == b)
    })
}

/// The tasks of an Einsum in the order in which it runs them.
pub fn tasks(mapped: &MappedCascade, block: &Block, einsum: &BoundEinsum) -> Vec<Task> {
    let own = cuts(&einsum.loops[einsum.loops.len() - einsum.own_loops..]);
    let mut tensors: Vec<&Projection> = einsum.operands.iter().map(|o| &o.projection).collect();
    tensors.push(mapped.own_projection(einsum.output));
    let mut out = Vec::new();
    let tiles = tiles(mapped, block, &cuts(einsum.shared_loops()));
    // As many of the innermost own loops as one tensor stays over; all where nothing does.
    let fold = tiles.first().and_then(|tile| {
        (0..own.len()).find(|at| {
            let first = walk(tile, &own[..*at]).swap_remove(0);
            let steps = walk(&first, &own[*at..]);
            steps.len() > 1 && tensors.iter().any(|p| stays(einsum, &steps, p))
        })
    });
    let (folds, steps) = own.split_at(fold.unwrap_or(0));
    for tile in tiles {
        for fold in walk(&tile, folds) {
            out.push(Task { tile: tile.clone(), steps: walk(&fold, steps) });
        }
    }
    out
}

/// The tiles that a movement goes through, and what each brings that was not there: a memory remembers one tile.
pub fn visits(mapped: &MappedCascade, block: &Block, transfer: &Transfer) -> Vec<Visit> {
    let (outer, inner) = transfer.loops.split_at(transfer.tile_depth);
    let mut last = Words::new();
    let mut out = Vec::new();
    for tile in tiles(mapped, block, outer) {
        for tile in walk(&tile, inner) {
            let all = words(&tile, &transfer.projection);
            let new = all.difference(&last).cloned().collect();
            last = all;
            out.push(Visit { new });
        }
    }
    out
}
