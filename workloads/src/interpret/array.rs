/// A dense array, row by row (the last axis fastest).
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The elements; an empty point holds 0.
    pub data: Vec<f64>,
    /// Which points are empty, where any is.
    pub empty: Option<Vec<bool>>,
}

impl Array {
    /// An array without empty points. The length of `data` must be the product of `shape`, which is
    /// checked where the array is used.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Vec<f64>>) -> Self {
        Self {
            shape: shape.into(),
            data: data.into(),
            empty: None,
        }
    }

    /// The largest magnitude; 0 for an array without elements, NaN where there is one.
    pub fn max_abs(&self) -> f64 {
        self.data.iter().fold(0.0, |a: f64, x| {
            if x.is_nan() || a.is_nan() {
                f64::NAN
            } else {
                a.max(x.abs())
            }
        })
    }

    /// The coordinates of an element, from its place in [`Array::data`].
    pub fn coordinates(&self, place: usize) -> Vec<usize> {
        coordinates(&self.shape, place)
    }
}

/// Coordinates of the element at `place` of a row-major array.
pub(super) fn coordinates(shape: &[usize], mut place: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (axis, &length) in shape.iter().enumerate().rev() {
        at[axis] = place % length.max(1);
        place /= length.max(1);
    }
    at
}
