//! Tiles one after another, where conditions leave some out.

use super::{Images, Tile, narrow, trips, whole};
use crate::nest::{
    CountError, Loop, Moved, Reuse, Space,
    region::Occupied,
    walk::{add, mul},
};

impl Images<'_> {
    /// The same where conditions leave tiles out: one after another, but for what repeats outside of all.
    pub fn walked(
        &self,
        space: &Space,
        loops: &[Loop],
        tile_depth: usize,
        reuse: Reuse,
    ) -> Result<Moved, CountError> {
        if loops.iter().any(Loop::is_spatial) {
            return Err(CountError::SkippedInstances);
        }
        let whole = whole(space);
        let mut walk = Walk {
            images: self,
            occupied: Occupied::new(space)?,
            ranks: space.sizes.len(),
            loops,
            tile_depth,
            reuse,
            held: None,
            words: 0,
            tiles: 0,
        };
        walk.from(0, &whole)?;
        Ok(Moved::alone(walk.words, walk.tiles, self.words(&whole)?))
    }
}

struct Walk<'w, 'p> {
    images: &'w Images<'p>,
    occupied: Occupied,
    ranks: usize,
    loops: &'w [Loop],
    tile_depth: usize,
    reuse: Reuse,
    held: Option<Tile>,
    words: u128,
    tiles: u128,
}

impl Walk<'_, '_> {
    fn from(&mut self, at: usize, tile: &Tile) -> Result<(), CountError> {
        self.images.budget.spend()?;
        if at <= self.tile_depth && !self.occupied.holds(&tile[..self.ranks])? {
            return Ok(());
        }
        let Some(l) = self.loops.get(at) else {
            return self.tile(tile);
        };
        let trips = trips(tile, l);
        let moves = self
            .images
            .groups
            .iter()
            .any(|g| !g.dims.is_empty() && g.ranks >> l.rank & 1 == 1);
        let again = self.loops[at + 1..]
            .iter()
            .any(|inner| inner.rank == l.rank);
        if !moves && !again && !self.occupied.depends_on(l.rank) && trips > 2 {
            // From the second on each starts from where the one before ended, which is the same.
            self.from(at + 1, &narrow(tile, l, 0))?;
            let (words, tiles) = (self.words, self.tiles);
            self.from(at + 1, &narrow(tile, l, 1))?;
            let more = u128::from(trips - 2);
            self.words = add(self.words, mul(self.words - words, more)?)?;
            self.tiles = add(self.tiles, mul(self.tiles - tiles, more)?)?;
            return Ok(());
        }
        for i in 0..trips {
            self.from(at + 1, &narrow(tile, l, i))?;
        }
        Ok(())
    }

    fn tile(&mut self, tile: &Tile) -> Result<(), CountError> {
        let same = match &self.held {
            Some(held) => self.images.same(held, tile)?,
            None => false,
        };
        let dims: Vec<usize> = (0..self.images.images.first().map_or(0, Vec::len)).collect();
        let held = self.held.filter(|held| match self.reuse {
            Reuse::Previous => true,
            Reuse::Nothing => false,
            Reuse::InPlace => self.images.in_place(&dims, held, tile),
        });
        let more = self.images.fresh(tile, held.as_ref())?;
        self.words = add(self.words, more)?;
        self.tiles += u128::from(!same || self.reuse == Reuse::Nothing);
        self.held = Some(*tile);
        Ok(())
    }
}
