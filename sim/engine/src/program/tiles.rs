//! Which of a memory's tiles a walk stands at.

use super::{
    cursor::Digits,
    occupied::{count, inside},
    parts::{KeepPlan, Op, Program, Tile},
    words::same,
};

impl Program {
    /// The number of a keep's tile at which an Einsum's or a stream's walk stands: the place of the first tile of the
    /// loops from which on its words have stayed the same.
    pub fn kept_tile(&self, plan: &KeepPlan, op: &Op, digits: &[u64]) -> u128 {
        let loops = &self.nests[plan.nest][..plan.depth];
        let mut at = Digits::new();
        let mut tile = self.whole;
        for (i, l) in loops.iter().enumerate() {
            // At a loop's exit the loop stands at its end; loops that it does not run in, at their begin.
            let digit = if op.loops.contains(&i) {
                digits[i]
            } else if op.exit == Some(i) {
                count(&tile, l) - 1
            } else {
                0
            };
            at.push(digit);
            inside(&mut tile, l, digit);
        }
        // What runs at a loop's exit has its tile there, whether the loop's last one holds a point or not.
        let at_exit = op.exit.is_some_and(|exit| exit < plan.depth);
        self.first_alike(plan, &mut at, tile, at_exit);
        loops.iter().zip(&at).fold(0u128, |sum, (l, digit)| {
            sum.saturating_mul(l.count.max(1).into())
                .saturating_add((*digit).into())
        })
    }

    /// Goes back to the first of the tiles with the same words that follow on each other with no others in between;
    /// tiles that are left out do not count.
    fn first_alike(&self, plan: &KeepPlan, at: &mut Digits, tile: Tile, at_exit: bool) {
        let loops = &self.nests[plan.nest][..plan.depth];
        // What cannot be tested is refused by the walk itself.
        let counts = |tile: &Tile| {
            let occupied = self.occupied.as_ref();
            occupied.is_none_or(|o| o.holds(tile).unwrap_or(true))
        };
        let mut first = (at_exit || counts(&tile)).then_some(tile);
        let mut before = at.clone();
        // The innermost loop that has an iteration before this one; those inside it stand at their ends there.
        while let Some(moved) = before.iter().rposition(|digit| *digit > 0) {
            before[moved] -= 1;
            let mut tile = self.whole;
            for (i, l) in loops.iter().enumerate() {
                if i > moved {
                    before[i] = count(&tile, l) - 1;
                }
                inside(&mut tile, l, before[i]);
            }
            if !counts(&tile) {
                continue;
            }
            if first.is_some_and(|first| !same(&first, &tile, &plan.projection)) {
                return;
            }
            // Where nothing is left out, what stays from one iteration to the next stays from the first one on.
            if self.occupied.is_none() && !loops[moved].touches_any(&plan.projection.dims) {
                before[moved] = 0;
            }
            first = Some(tile);
            at.clone_from(&before);
        }
    }
}
