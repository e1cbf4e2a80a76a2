//! What a mask leaves of rows.

use super::snapshot::{Shift, Stretch};
use crate::{
    events::Machine,
    program::{Digits, Tile, inside},
};

/// What a mask leaves of a row.
pub(super) struct Masked<'s> {
    /// Digits of the loops around the band.
    pub around: Digits,
    /// The first iteration of the band that holds a point, and the one behind the last.
    holds: (u64, u64),
    stretch: Option<&'s Stretch<'s>>,
}

impl<'s> Masked<'s> {
    pub fn new(
        machine: &Machine<'_>,
        shift: Shift,
        around: Digits,
        stretch: Option<&'s Stretch<'s>>,
    ) -> Option<Self> {
        let mut masked = Self {
            around,
            holds: (0, 0),
            stretch,
        };
        let count = masked.count(machine, shift);
        // The first iteration up to which something is, and the first from which on nothing is.
        let until = |from: u64, to: u64, test: &dyn Fn(u64) -> Option<bool>| {
            let (mut no, mut yes) = (from, to);
            while no < yes {
                let middle = no + (yes - no) / 2;
                match test(middle)? {
                    true => yes = middle,
                    false => no = middle + 1,
                }
            }
            Some(no)
        };
        let some = |first: u64, behind: u64| masked.some(machine, shift, 0, first, behind);
        let first = until(0, count, &|at| some(0, at + 1))?;
        let behind = until(first, count, &|at| some(at, count).map(|some| !some))?;
        masked.holds = (first, behind);
        Some(masked)
    }

    /// A part of the row so many periods on.
    fn part(&self, machine: &Machine<'_>, shift: Shift, on: u64, first: u64, behind: u64) -> Tile {
        let loops = &machine.program.nests[0];
        let mut tile = machine.program.whole;
        for (at, digit) in self.around.iter().enumerate() {
            let on = if at == shift.at { on * shift.by } else { 0 };
            inside(&mut tile, &loops[at], digit + on);
        }
        let band = &loops[shift.band];
        let side = &mut tile[band.cut.rank];
        let first = first.saturating_mul(band.cut.step).min(side.1);
        let behind = behind.saturating_mul(band.cut.step).min(side.1);
        *side = (side.0 + first, behind.saturating_sub(first));
        tile
    }

    fn some(
        &self,
        machine: &Machine<'_>,
        shift: Shift,
        on: u64,
        first: u64,
        behind: u64,
    ) -> Option<bool> {
        let tile = self.part(machine, shift, on, first, behind);
        machine.program.occupied.as_ref()?.holds(&tile).ok()
    }

    fn whole(&self, machine: &Machine<'_>, shift: Shift, on: u64, first: u64, behind: u64) -> bool {
        let band = machine.program.nests[0][shift.band].cut.rank;
        let tile = self.part(machine, shift, on, first, behind);
        let occupied = machine.program.occupied.as_ref();
        tile[band].1 == 0 || occupied.is_some_and(|o| o.whole(&tile))
    }

    /// Iterations of the band.
    fn count(&self, machine: &Machine<'_>, shift: Shift) -> u64 {
        let band = &machine.program.nests[0][shift.band];
        let tile = self.part(machine, shift, 0, 0, u64::MAX);
        tile[band.cut.rank].1.div_ceil(band.cut.step.max(1))
    }

    /// Whether the row so many periods on is this one with what moves moved along the mask: empty before and behind,
    /// all points in the stretch and in what stays.
    pub fn looks_alike(&self, machine: &Machine<'_>, shift: Shift, on: u64) -> bool {
        let (moves_first, moves_last) = match self.stretch {
            Some(stretch) => (stretch.moves.0 > 0, stretch.moves.1 > 0),
            None => (true, true),
        };
        let rows = machine.program.nests[0][shift.at].cut.rank;
        if self.part(machine, shift, on, 0, u64::MAX)[rows].1 == 0 {
            // There is no such row, and nothing will stand in it.
            return true;
        }
        let count = self.count(machine, shift);
        let further = |digit: u64, moves: bool| {
            let by = if moves {
                on.saturating_mul(shift.along)
            } else {
                0
            };
            digit.saturating_add(by)
        };
        let first = further(self.holds.0, moves_first);
        let behind = further(self.holds.1, moves_last);
        let empty = |a: u64, b: u64| self.some(machine, shift, on, a, b) == Some(false);
        if behind > count
            || !(first == 0 || empty(0, first))
            || !(behind == count || empty(behind, count))
        {
            return false;
        }
        // What moves has to find full tiles.
        let band = &machine.program.nests[0][shift.band];
        let length = self.part(machine, shift, on, 0, u64::MAX)[band.cut.rank].1;
        if moves_last && behind.saturating_mul(band.cut.step) > length {
            return false;
        }
        let Some(stretch) = self.stretch else {
            return true;
        };
        let from = further(stretch.jump.whole.0, moves_first);
        let to = further(stretch.jump.whole.1, moves_last);
        let (from, to) = (
            if moves_first { from } else { first },
            if moves_last { to } else { behind },
        );
        from <= to && self.whole(machine, shift, on, from, to)
    }
}
