//! Attention on devices of its own, apart from the rest of the model (Lamina, arXiv 2405.01814).

pub mod values;

/// What each attention device takes of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Some key heads of every request, with the query heads that share them; the devices divide the key heads evenly.
    Heads,
    /// Some requests, whole.
    Requests,
}

/// Where the model is cut: what the attention devices compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Attention alone, without weights: queries, new keys and new values go out, heads' outputs come back.
    Core,
    /// Attention with its projections: hidden states go out and come back, and the weights lie on the attention devices.
    Projections,
}
