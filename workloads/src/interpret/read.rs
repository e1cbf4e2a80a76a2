//! Reading operands.

use super::condition::Range;
use super::lanes::Lane;
use super::plan::{Access, IndexSource};
use super::run::{Machine, Stop};

impl Machine<'_> {
    /// Reads a tensor along a range of the innermost loop (whose variable is 0 in `point`).
    pub(super) fn load(
        &self,
        access: &Access,
        point: &mut [i64],
        range: Range,
        out: &mut Lane,
    ) -> Result<(), Stop> {
        let inner = point.len() - 1;
        let (data, empty) = self.elements(access.tensor)?;
        if access.others.iter().any(|o| o.inner) {
            out.begin(true);
            for v in range.start..range.end {
                point[inner] = v;
                out.push(self.element(access, point)?);
            }
            point[inner] = 0;
            return Ok(());
        }
        let Some(others) = self.other_places(access, point)? else {
            out.set(None);
            return Ok(());
        };
        let (base, step) = (
            access.place.at(point) + others,
            access.place.coefficients[inner],
        );
        let mut valid = range;
        for (index, length) in &access.checks {
            valid.keep_inside(index.at(point), index.coefficients[inner], *length);
        }
        if valid.is_empty() {
            out.set(None);
            return Ok(());
        }
        if step == 0 && valid == range {
            let place = base as usize;
            let empty = empty.is_some_and(|e| e[place]);
            out.set((!empty).then(|| data[place]));
            return Ok(());
        }
        let masked = valid != range || empty.is_some();
        out.begin(masked);
        if masked {
            for v in range.start..range.end {
                let place = (base + step * v) as usize;
                let inside = v >= valid.start && v < valid.end;
                let empty = !inside || empty.is_some_and(|e| e[place]);
                out.push((!empty).then(|| data[place]));
            }
        } else if step == 1 {
            let first = (base + range.start) as usize;
            out.values
                .extend_from_slice(&data[first..first + range.len()]);
        } else {
            out.values
                .extend((range.start..range.end).map(|v| data[(base + step * v) as usize]));
        }
        Ok(())
    }

    /// What the indices that are not linear add to the place; `None` where one is empty or outside.
    fn other_places(&self, access: &Access, point: &[i64]) -> Result<Option<i64>, Stop> {
        let mut place = 0;
        for other in &access.others {
            let index = match &other.source {
                IndexSource::Form(form) => form.at(point)?,
                IndexSource::Gather(access) => match self.coordinate(access, point)? {
                    None => return Ok(None),
                    Some(value) => value.into(),
                },
            };
            if index < 0 || index >= i128::from(other.length) {
                return Ok(None);
            }
            place += index as i64 * other.stride;
        }
        Ok(Some(place))
    }

    /// The element of an index tensor at a point; `None` where it is empty.
    pub(super) fn coordinate(&self, access: &Access, point: &[i64]) -> Result<Option<i64>, Stop> {
        match self.element(access, point)? {
            None => Ok(None),
            // Whole numbers of this size are exact in f64.
            Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => Ok(Some(value as i64)),
            Some(value) => Err(Stop::NotACoordinate(access.tensor, value)),
        }
    }

    /// The element that an operand reads at a point; `None` where it is empty.
    pub(super) fn element(&self, access: &Access, point: &[i64]) -> Result<Option<f64>, Stop> {
        if access
            .checks
            .iter()
            .any(|(index, length)| !(0..*length).contains(&index.at(point)))
        {
            return Ok(None);
        }
        let Some(others) = self.other_places(access, point)? else {
            return Ok(None);
        };
        let (data, empty) = self.elements(access.tensor)?;
        let place = (access.place.at(point) + others) as usize;
        let empty = empty.is_some_and(|e| e[place]);
        Ok((!empty).then(|| data[place]))
    }
}
