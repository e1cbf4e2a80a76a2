//! Times over several coordinates, measured at points of which each level has its own.

use std::collections::BTreeMap;

/// A time, or times by the next coordinate: two values of one coordinate may have been measured at different values of the
/// next.
#[derive(Clone, Debug)]
pub(super) enum Grid {
    /// Microseconds.
    Time(f64),
    /// By the value of a coordinate.
    By(BTreeMap<u64, Grid>),
}

/// How times go on beyond the last value of a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// As they do between the last two, and they do not fall; what is 0 takes no time.
    Slope,
    /// In proportion to the value.
    Proportion,
}

impl Default for Grid {
    fn default() -> Self {
        Self::By(BTreeMap::new())
    }
}

impl Grid {
    /// A time at a point; the last one that is said counts.
    pub fn insert(&mut self, at: &[u64], us: f64) {
        match (self, at) {
            (Self::By(values), [first, rest @ ..]) => {
                let empty = match rest {
                    [] => Self::Time(us),
                    _ => Self::default(),
                };
                let next = values.entry(*first).or_insert(empty);
                next.insert(rest, us);
            }
            (own, _) => *own = Self::Time(us),
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::By(values) if values.is_empty())
    }

    /// Linear in each coordinate between the values around; before the first as there. `inside` turns false where a
    /// coordinate is beyond its last value.
    pub fn at(&self, point: &[(f64, Beyond)], inside: &mut bool) -> f64 {
        let (values, (x, beyond), rest) = match (self, point) {
            (Self::By(values), [first, rest @ ..]) => (values, *first, rest),
            (Self::Time(us), _) => return *us,
            (Self::By(_), []) => return 0.0,
        };
        let whole = x.floor() as u64;
        let below = values.range(..=whole).next_back();
        let above = values.range(whole..).find(|(value, _)| **value as f64 >= x);
        let mut of = |grid: &Self| grid.at(rest, inside);
        match (below, above) {
            (Some((a, low)), Some((b, high))) if a != b => {
                let share = (x - *a as f64) / (*b - *a) as f64;
                let (low, high) = (of(low), of(high));
                low + (high - low) * share
            }
            (Some((_, at)), Some(_)) | (None, Some((_, at))) => of(at),
            (Some((last, end)), None) => {
                let at_end = of(end);
                let further = x - *last as f64;
                let slope = match beyond {
                    Beyond::Proportion => at_end / (*last).max(1) as f64,
                    Beyond::Slope => {
                        let before = values.range(..*last).next_back();
                        let (from, low) = match before {
                            Some((value, grid)) => (*value, of(grid)),
                            None => (0, 0.0),
                        };
                        (at_end - low).max(0.0) / (*last - from).max(1) as f64
                    }
                };
                *inside = false;
                at_end + slope * further
            }
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Beyond, Grid};

    /// Two lines of one plane, 10 x + y, measured at different y: any point between is on the plane.
    #[test]
    fn levels_have_points_of_their_own() {
        let mut grid = Grid::default();
        for (x, ys) in [(1, vec![0, 4, 16]), (3, vec![0, 6, 16])] {
            for y in ys {
                grid.insert(&[x, y], (10 * x + y) as f64);
            }
        }
        let at = |x: f64, y: f64| {
            let mut inside = true;
            let us = grid.at(&[(x, Beyond::Slope), (y, Beyond::Slope)], &mut inside);
            (us, inside)
        };
        assert_eq!(at(2.0, 5.0), (25.0, true));
        assert_eq!(at(1.5, 0.5), (15.5, true));
        assert_eq!(at(3.0, 16.0), (46.0, true));
        assert_eq!(at(2.0, 20.0), (40.0, false));
        // Before the first: as there.
        assert_eq!(at(0.5, 4.0), (14.0, true));
        let mut inside = true;
        let twice = grid.at(
            &[(6.0, Beyond::Proportion), (6.0, Beyond::Slope)],
            &mut inside,
        );
        assert_eq!((twice, inside), (72.0, false));
    }
}
