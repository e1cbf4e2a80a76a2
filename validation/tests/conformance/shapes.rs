//! Sizes to try each cascade at.

/// Sizes of a run and the lengths of its batch axes.
pub type Shape = (&'static [(&'static str, u64)], &'static [usize]);

/// Shapes to try a cascade at: with and without a batch, P above and below M, and tiles that divide M,
/// that do not, and that are longer than all of it.
pub fn shapes(name: &str) -> Vec<Shape> {
    match name {
        "attention/grouped-query" => vec![
            (
                &[("E", 4), ("F", 3), ("M", 7), ("P", 5), ("H", 8), ("G", 2)],
                &[],
            ),
            (
                &[("E", 8), ("F", 4), ("M", 12), ("P", 16), ("H", 6), ("G", 3)],
                &[3],
            ),
            // The last head of keys serves fewer.
            (
                &[("E", 2), ("F", 5), ("M", 3), ("P", 4), ("H", 7), ("G", 3)],
                &[2],
            ),
            (
                &[("E", 2), ("F", 2), ("M", 5), ("P", 1), ("H", 3), ("G", 1)],
                &[1],
            ),
        ],
        "attention/sliding-window" => vec![
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 16),
                    ("P", 16),
                    ("WIDTH", 4),
                    ("DILATION", 1),
                ],
                &[],
            ),
            (
                &[
                    ("E", 8),
                    ("F", 5),
                    ("M", 20),
                    ("P", 20),
                    ("WIDTH", 3),
                    ("DILATION", 4),
                ],
                &[3],
            ),
            // The last queries see no key.
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 5),
                    ("P", 17),
                    ("WIDTH", 3),
                    ("DILATION", 2),
                ],
                &[2, 2],
            ),
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 19),
                    ("P", 6),
                    ("WIDTH", 40),
                    ("DILATION", 3),
                ],
                &[2],
            ),
        ],
        "attention/neighborhood-2d" => vec![
            (
                &[
                    ("E", 4),
                    ("F", 3),
                    ("M", 20),
                    ("P", 20),
                    ("WIDTH", 5),
                    ("RADIUS", 1),
                ],
                &[],
            ),
            (
                &[
                    ("E", 8),
                    ("F", 5),
                    ("M", 42),
                    ("P", 42),
                    ("WIDTH", 7),
                    ("RADIUS", 2),
                ],
                &[2],
            ),
            // A last row that is not full; queries beyond the keys, the last of which see none.
            (
                &[
                    ("E", 4),
                    ("F", 2),
                    ("M", 11),
                    ("P", 30),
                    ("WIDTH", 4),
                    ("RADIUS", 1),
                ],
                &[2, 1],
            ),
        ],
        "attention/linear-recurrent" | "attention/linear-chunked" => vec![
            (&[("E", 4), ("F", 3), ("M", 32), ("M0", 8)], &[]),
            (&[("E", 5), ("F", 6), ("M", 37), ("M0", 16)], &[3]),
            (&[("E", 2), ("F", 3), ("M", 9), ("M0", 4)], &[2, 2]),
            (&[("E", 3), ("F", 2), ("M", 5), ("M0", 16)], &[1, 2]),
        ],
        // The root of E is exact: rounding must not break the ties of coarse inputs.
        "attention/topk-gather" => vec![
            (&[("E", 4), ("F", 3), ("M", 20), ("P", 6), ("T", 5)], &[]),
            (&[("E", 16), ("F", 5), ("M", 37), ("P", 11), ("T", 1)], &[3]),
            (
                &[("E", 4), ("F", 3), ("M", 9), ("P", 20), ("T", 9)],
                &[2, 2],
            ),
            // More than there are keys.
            (&[("E", 4), ("F", 3), ("M", 4), ("P", 3), ("T", 7)], &[2]),
        ],
        "attention/merge" => vec![
            (&[("F", 3), ("P", 5)], &[]),
            (&[("F", 5), ("P", 7), ("M1", 5)], &[3]),
            (&[("F", 2), ("P", 1), ("M1", 1)], &[2, 2]),
        ],
        "attention/agent" => vec![
            (&[("E", 4), ("F", 3), ("M", 20), ("P", 6), ("A", 5)], &[]),
            (&[("E", 8), ("F", 5), ("M", 37), ("P", 11), ("A", 1)], &[3]),
            (
                &[("E", 4), ("F", 3), ("M", 9), ("P", 20), ("A", 12)],
                &[2, 2],
            ),
        ],
        "linear-algebra/matmul" => vec![
            (&[("M", 4), ("N", 6), ("K", 5)], &[]),
            (&[("M", 11), ("N", 1), ("K", 37)], &[]),
            (&[("M", 1), ("N", 9), ("K", 1)], &[]),
        ],
        name if name.starts_with("pedagogical/") => {
            vec![(&[("K", 1)], &[]), (&[("K", 7)], &[]), (&[("K", 100)], &[])]
        }
        name if name.starts_with("transformer/") => vec![
            (
                &[
                    ("B", 1),
                    ("P", 4),
                    ("D", 6),
                    ("H", 2),
                    ("E", 3),
                    ("F", 3),
                    ("S", 24),
                ],
                &[],
            ),
            (
                &[
                    ("B", 3),
                    ("P", 7),
                    ("D", 5),
                    ("H", 1),
                    ("E", 4),
                    ("F", 2),
                    ("S", 9),
                ],
                &[],
            ),
            (
                &[
                    ("B", 2),
                    ("P", 1),
                    ("D", 8),
                    ("H", 4),
                    ("E", 2),
                    ("F", 5),
                    ("S", 3),
                ],
                &[],
            ),
        ],
        _ => vec![
            (&[("E", 4), ("F", 3), ("M", 32), ("P", 5), ("M0", 16)], &[]),
            (
                &[("E", 8), ("F", 5), ("M", 37), ("P", 37), ("M0", 16)],
                &[3],
            ),
            (
                &[("E", 4), ("F", 3), ("M", 9), ("P", 20), ("M0", 4)],
                &[2, 2],
            ),
            (
                &[("E", 4), ("F", 2), ("M", 3), ("P", 1), ("M0", 16)],
                &[1, 2],
            ),
            (&[("E", 2), ("F", 1), ("M", 1), ("P", 2), ("M0", 1)], &[2]),
        ],
    }
}
