//! Agent attention (Han et al., "Agent Attention", 2023): a few agent tokens gather from the keys,
//! and every query reads from the agents.

use nalgebra::DMatrix;

use super::softmax::attention;

/// Attention of the agents over the keys, then of the queries over the agents, whose values are
/// what they gathered. Both use the same scale.
///
/// `q` is E x P, `agents` is E x N, `k` is E x M, `v` is F x M; the result is F x P.
pub fn agent_attention(
    q: &DMatrix<f64>,
    agents: &DMatrix<f64>,
    k: &DMatrix<f64>,
    v: &DMatrix<f64>,
    scale: f64,
) -> DMatrix<f64> {
    let gathered = attention(agents, k, v, scale, |_, _| true);
    attention(q, agents, &gathered, scale, |_, _| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zero scores everywhere: each agent holds the mean value, and so does each query.
    #[test]
    fn a_mean_of_means() {
        let zero = |n| DMatrix::from_element(2, n, 0.0);
        let v = DMatrix::from_row_slice(1, 4, &[1.0, 2.0, 3.0, 6.0]);
        let out = agent_attention(&zero(3), &zero(2), &zero(4), &v, 1.0);
        assert_eq!(out.as_slice(), [3.0, 3.0, 3.0]);
    }
}
