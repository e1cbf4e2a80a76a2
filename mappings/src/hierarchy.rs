//! One Einsum on a hierarchy of storage levels with fan-out between them: the movements that [`crate::count`]
//! counts.

use einflow_arch::Counting;
use einflow_workloads::cascade::TensorId;

use crate::{
    count::{Access, exchanges, transferred},
    mapped::{Place, Transfer, TransferKind},
    nest::{CountError, Loop, Projection, Reuse, Space, Spread},
};

/// An Einsum whose loops stand between storage levels; the multipliers are below the last loop.
///
/// ```
/// use einflow_arch::Counting;
/// use einflow_mappings::hierarchy::{Hierarchy, Tensor};
/// use einflow_mappings::nest::{Projection, Space};
///
/// // Z[m] = A[m, k] * B[k]; K is summed in three steps, over two instances side by side.
/// let tensor = |ranks: &[usize], output| Tensor { projection: Projection::plain(ranks), output };
/// let mut nest = Hierarchy {
///     space: Space::new([2, 6]),
///     tensors: vec![tensor(&[0, 1], false), tensor(&[1], false), tensor(&[0], true)],
///     ..Hierarchy::default()
/// };
/// nest.push(vec![0, 1, 2], &[(1, 3), (0, 2)], &[(1, 2)])?;
/// nest.push(vec![0, 1, 2], &[], &[])?;
/// let outer = nest.counts(Counting::Timeloop)?[0][2];
/// assert_eq!((outer.reads, outer.updates), (4, 6));
/// # Ok::<(), einflow_mappings::nest::CountError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Hierarchy {
    /// The iteration space.
    pub space: Space,
    /// Operands and results.
    pub tensors: Vec<Tensor>,
    /// All loops, outermost first: temporal ones, and the fan-out ([`Spread::Lanes`]).
    pub loops: Vec<Loop>,
    /// The levels, outermost first. Each of them is a memory, by its index.
    pub levels: Vec<Level>,
}

/// A tensor of a [`Hierarchy`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tensor {
    /// Which word each point touches.
    pub projection: Projection,
    /// A result, else an operand.
    pub output: bool,
}

/// A storage level: as many instances as the spatial loops around it make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many of the loops are around it.
    pub depth: usize,
    /// Indices of the tensors of which an instance holds a tile; others pass it by.
    pub keep: Vec<usize>,
}

/// Accesses of one level for one tensor, in words, all instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCounts {
    /// Words read.
    pub reads: u128,
    /// Words written on their way inward.
    pub fills: u128,
    /// Words of results written on their way outward, partial and final.
    pub updates: u128,
}

impl Hierarchy {
    /// Puts a level inside what there is, and loops over the tiles of the next one inside it: (rank,
    /// number of iterations or of instances), outermost first, the spatial ones inside the temporal.
    ///
    /// # Errors
    /// [`CountError::Uneven`] where a factor does not divide what is left of its rank, and
    /// [`CountError::NoSuchRank`].
    pub fn push(
        &mut self,
        keep: Vec<usize>,
        temporal: &[(usize, u64)],
        spatial: &[(usize, u64)],
    ) -> Result<(), CountError> {
        let depth = self.loops.len();
        self.levels.push(Level { depth, keep });
        let loops = temporal.iter().map(|f| (f, Spread::Time));
        for (&(rank, factor), over) in loops.chain(spatial.iter().map(|f| (f, Spread::Lanes))) {
            let outer = self.loops.iter().rev().find(|l| l.rank == rank);
            let extent = outer
                .map(|l| l.step)
                .or(self.space.sizes.get(rank).copied());
            let ranks = self.space.sizes.len();
            let extent = extent.ok_or(CountError::NoSuchRank { rank, ranks })?;
            let step = extent / factor.max(1);
            if step.checked_mul(factor) != Some(extent) {
                return Err(CountError::Uneven { rank, step });
            }
            self.loops.push(Loop { rank, step, over });
        }
        Ok(())
    }

    /// Accesses by level and tensor; zero where a level does not keep the tensor.
    ///
    /// # Errors
    /// As [`crate::count::traffic`].
    pub fn counts(&self, counting: Counting) -> Result<Vec<Vec<LevelCounts>>, CountError> {
        let transfers = self.transfers();
        let moved = transfers.iter().map(|t| transferred(&self.space, t));
        let moved = moved.collect::<Result<Vec<_>, _>>()?;
        let mut counts = vec![vec![LevelCounts::default(); self.tensors.len()]; self.levels.len()];
        for (transfer, made) in transfers
            .iter()
            .zip(exchanges(&transfers, &moved, counting)?)
        {
            let mut add = |place, access: Access, outward| {
                let Place::Memory(level) = place else { return };
                let counts = &mut counts[level][transfer.tensor.0];
                counts.reads += access.reads.rounded();
                let writes = if outward {
                    &mut counts.updates
                } else {
                    &mut counts.fills
                };
                *writes += access.writes.rounded();
            };
            let update = transfer.kind == TransferKind::Update;
            add(transfer.inner, made.inner, update);
            if let Some(outer) = transfer.outer {
                add(outer, made.outer, true);
            }
        }
        Ok(counts)
    }

    /// Every movement of words, each tensor from the multipliers outward.
    ///
    /// A multiplier holds nothing: it takes its operands and gives its results at every step. Instances
    /// below one instance of the next outer level that keeps the tensor take what they share from it at once.
    pub fn transfers(&self) -> Vec<Transfer> {
        let mut out = Vec::new();
        for (t, tensor) in self.tensors.iter().enumerate() {
            let kept = self.levels.iter().enumerate();
            let kept: Vec<(usize, usize)> = kept
                .filter(|(_, level)| level.keep.contains(&t))
                .map(|(l, level)| (l, level.depth))
                .collect();
            let movement = |kind, outer: Option<usize>, inner, loops: Vec<Loop>, reuse| Transfer {
                tensor: TensorId(t),
                einsum: (0, 0),
                kind,
                tile_depth: loops.len(),
                loops,
                projection: tensor.projection.clone(),
                steps: 0,
                reuse,
                outer: outer.map(Place::Memory),
                inner: Place::Memory(inner),
                share: (1, 1),
                spill: None,
                through: false,
            };
            let (step, tile) = if tensor.output {
                (TransferKind::Update, TransferKind::Drain)
            } else {
                (TransferKind::Operand, TransferKind::Fill)
            };
            if let Some(&(level, depth)) = kept.last() {
                let loops = self.between(depth, self.loops.len());
                out.push(movement(step, None, level, loops, Reuse::Nothing));
            }
            for pair in kept.windows(2).rev() {
                let [(outer, above), (inner, below)] = [pair[0], pair[1]];
                let loops = self.between(above, below);
                out.push(movement(tile, Some(outer), inner, loops, Reuse::Previous));
            }
        }
        out
    }

    /// The loops around what is below `inner` of them, where each instance below `outer` is a source.
    fn between(&self, outer: usize, inner: usize) -> Vec<Loop> {
        let mut loops = self.loops[..inner].to_vec();
        for l in loops[..outer].iter_mut().filter(|l| l.is_spatial()) {
            l.over = Spread::Sources;
        }
        loops
    }
}
