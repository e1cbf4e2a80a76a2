//! Products of a mixture's experts in one launch: the makespan of the tiles of those that have rows.

use super::{
    super::{Number, Operands},
    Chip, overlapped, ramp,
};

/// A tile of rows and columns.
const SMALL: (f64, f64) = (64.0, 128.0);
const LARGE: (f64, f64) = (128.0, 256.0);
/// Rows an expert, in the mean over all experts, up to which tiles are small (the rule of PyTorch's `_grouped_mm`).
const FEW: u64 = 128;
/// Tiles, one below the other, that two units compute together: both, even where one would do.
const CLUSTER: f64 = 2.0;

/// Rows of a small tile of the kernels for operands that are not both words of two bytes: the least that hold an
/// expert's (Marlin's and Triton's for mixtures of experts, as vLLM chooses them).
const HEIGHTS: [f64; 3] = [16.0, 32.0, 64.0];

/// The tiles of a launch.
#[derive(Clone, Debug)]
pub(super) struct Grouped {
    small: bool,
    /// Operations of one.
    operations: f64,
    /// What the matrix units do of its operands at best, in operations a microsecond.
    matrix: f64,
    /// Tiles that the busiest unit computes one after another.
    waves: f64,
}

impl Grouped {
    /// Of `rows` of each expert that has any, times weights `[k, n]`.
    pub fn new(
        chip: &Chip,
        experts: u64,
        rows: &[u64],
        [k, n]: [u64; 2],
        operands: Operands,
    ) -> Self {
        let all = rows.iter().fold(0, |sum: u64, r| sum.saturating_add(*r));
        let small = all / experts.max(1) <= FEW || n <= FEW;
        let (height, width) = if small { SMALL } else { LARGE };
        let columns = (n as f64 / width).ceil();
        let words = operands == Operands::WORDS;
        let (height, cluster) = match small && !words {
            true => {
                let most = rows.iter().copied().max().unwrap_or(1) as f64;
                let holds = HEIGHTS.into_iter().find(|height| *height >= most);
                (holds.unwrap_or(height), 1.0)
            }
            false => (height, if words { CLUSTER } else { 1.0 }),
        };
        let tiles = |rows: &u64| (*rows as f64 / height / cluster).ceil() * cluster * columns;
        let tiles: f64 = rows.iter().map(tiles).sum();
        Self {
            small,
            operations: 2.0 * height * width * k as f64,
            matrix: chip.peak(operands.bits()).0 * 1e-6,
            waves: (tiles / chip.units as f64).ceil(),
        }
    }

    /// Microseconds, `values` being those of [`GROUPED`](super::GROUPED).
    pub fn us<N: Number>(&self, chip: &Chip, bytes: f64, values: &[N]) -> N {
        let &[floor, bandwidth, lost, large, small, step] = values else {
            return N::of(f64::NAN);
        };
        let memory =
            N::of(bytes) / (bandwidth * (chip.bandwidth.0 * 1e-6)) + ramp(chip, bytes, lost);
        let efficiency = if self.small { small } else { large };
        let rate = efficiency * (self.matrix / chip.units as f64);
        let work = (N::of(self.operations) / rate + step) * self.waves;
        floor + overlapped(work, memory, 3)
    }
}
