//! Which keys a query may see: predicates over a key `m` and a query `p`.

/// Causal: keys up to and including the query's own position.
pub fn causal(m: usize, p: usize) -> bool {
    m <= p
}

/// The `width` keys at distances 0, `dilation`, `2 * dilation`, ... behind the query, its own
/// position included (Longformer's dilated window, one-sided; Beltagy et al., section 3.1).
pub fn sliding_window(m: usize, p: usize, width: usize, dilation: usize) -> bool {
    (0..width).any(|step| m + step * dilation == p)
}

/// Positions on an image of `columns` columns, row by row: the key lies at most `radius` rows and
/// columns away from the query, as far as the image goes.
pub fn neighborhood(m: usize, p: usize, columns: usize, radius: usize) -> bool {
    let (row, column) = (m / columns, m % columns);
    row.abs_diff(p / columns) <= radius && column.abs_diff(p % columns) <= radius
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_by_hand() {
        let seen: Vec<usize> = (0..20).filter(|&m| sliding_window(m, 9, 3, 2)).collect();
        assert_eq!(seen, [5, 7, 9]);
        let seen: Vec<usize> = (0..20).filter(|&m| sliding_window(m, 3, 3, 2)).collect();
        assert_eq!(seen, [1, 3]);
    }

    #[test]
    fn neighborhood_by_hand() {
        let seen = |p: usize| {
            (0..12)
                .filter(|&m| neighborhood(m, p, 4, 1))
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(5), [0, 1, 2, 4, 5, 6, 8, 9, 10]);
        assert_eq!(seen(0), [0, 1, 4, 5]);
        assert_eq!(seen(3), [2, 3, 6, 7]);
    }
}
