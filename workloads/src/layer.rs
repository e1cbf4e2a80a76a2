//! The decoder layer: its operators in order, and the shape of each on one of the devices that share it.
//!
//! Grouped queries with a rotary embedding, a feed-forward, gated or plain, a normalisation before either. Heads and feed-forward columns
//! are divided among devices, each of which has the whole residual stream and sums it with the others after what is
//! [`Operator::summed`]. Which kernels run an operator, and how long, is for devices to say.

use einflow_spec::NumberFormat;

use crate::{Model, models::FeedForward};

/// The number format that models are served in.
pub const SERVED: NumberFormat = NumberFormat::Bf16;

/// Bytes of a word of it.
pub const WORD_BYTES: u64 = SERVED.bits() / 8;

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Normalises the residual stream.
    Norm,
    /// The product that makes queries, keys and values.
    QueryKeyValue,
    /// Of [`Operator::QueryKeyValue`], that of the queries alone.
    Query,
    /// Of [`Operator::QueryKeyValue`], that of keys and values.
    KeyValue,
    /// Turns queries and keys by their positions.
    Rotary,
    /// Puts new keys and values into the cache.
    CacheWrite,
    /// Queries over the cache.
    Attention,
    /// Where new tokens are attended apart from cached ones: attends to them, and adds both parts.
    Merge,
    /// The product with what attention makes.
    Output,
    /// Adds to the residual stream.
    Residual,
    /// The products into the feed-forward: the gate's and the other.
    GateUp,
    /// silu(gate) * up.
    Gate,
    /// The product out of the feed-forward.
    Down,
}

impl Operator {
    /// Whether devices that share a layer sum what each has made.
    pub fn summed(&self) -> bool {
        matches!(self, Self::Output | Self::Down)
    }
}

/// What an operator works on, on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A product with weights.
    Product(Product),
    /// A map of words.
    Elementwise(Elementwise),
    /// The heads of [`Layer`], over caches of any length.
    Attention,
}

/// `[m, k] x [k, n]`, where the second are weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Product {
    /// Rows: tokens.
    pub m: u64,
    /// The reduced rank.
    pub k: u64,
    /// Columns.
    pub n: u64,
}

impl Product {
    /// Words of the weights; `None` on overflow.
    pub fn weights(&self) -> Option<u64> {
        self.k.checked_mul(self.n)
    }
}

/// An element-wise operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elementwise {
    /// Rows that are reduced, each apart; 1 where nothing is.
    pub rows: u64,
    /// Words that each of its maps reads and writes, where each is a pass of its own over memory.
    pub maps: Vec<u64>,
    /// Words that are read and written in one pass.
    pub words: u64,
}

/// One device's share of a layer over some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Tokens.
    pub tokens: u64,
    /// Query heads.
    pub heads: u64,
    /// Key heads.
    pub key_heads: u64,
    /// Width of a query or key of one head.
    pub query_width: u64,
    /// Width of a value of one head.
    pub value_width: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width between the feed-forward's products.
    pub feed_forward: u64,
    /// Whether two products lead there, one of them the other's gate.
    pub gated: bool,
    /// Tokens of the vocabulary, whose scores follow the last layer.
    pub vocabulary: Option<u64>,
}

impl Model {
    /// A layer over `tokens` tokens on one of `devices` devices: the one with most, where something does not divide.
    pub fn layer(&self, tokens: u64, devices: u64) -> Layer {
        let share = |of: u64| of.div_ceil(devices.max(1));
        Layer {
            tokens,
            heads: share(self.heads),
            key_heads: share(self.key_heads),
            query_width: self.query_width,
            value_width: self.value_width,
            hidden: self.model_width,
            feed_forward: share(self.feed_forward_width),
            gated: self.feed_forward == FeedForward::Gated,
            vocabulary: self.vocabulary.map(share),
        }
    }
}

impl Layer {
    /// All that a layer computes, in order.
    pub const OPERATORS: [Operator; 12] = [
        Operator::Norm,
        Operator::QueryKeyValue,
        Operator::Rotary,
        Operator::CacheWrite,
        Operator::Attention,
        Operator::Output,
        Operator::Residual,
        Operator::Norm,
        Operator::GateUp,
        Operator::Gate,
        Operator::Down,
        Operator::Residual,
    ];

    /// Words of a token's queries.
    pub fn queries(&self) -> u64 {
        self.heads.saturating_mul(self.query_width)
    }

    /// Words of a token's keys.
    pub fn keys(&self) -> u64 {
        self.key_heads.saturating_mul(self.query_width)
    }

    /// Words of a token's values.
    pub fn values(&self) -> u64 {
        self.key_heads.saturating_mul(self.value_width)
    }

    /// Words of a token's keys and values.
    pub fn keys_values(&self) -> u64 {
        self.keys().saturating_add(self.values())
    }

    /// Words that attention makes of a token.
    pub fn attended(&self) -> u64 {
        self.heads.saturating_mul(self.value_width)
    }

    /// Words that the first feed-forward products make of a token.
    pub fn fed(&self) -> u64 {
        match self.gated {
            true => 2 * self.feed_forward,
            false => self.feed_forward,
        }
    }

    /// Words of all tokens, of so many each.
    pub fn words(&self, width: u64) -> u64 {
        self.tokens.saturating_mul(width)
    }

    /// What an operator works on.
    pub fn shape(&self, operator: Operator) -> Shape {
        let [queries, keys, values] = [self.queries(), self.keys(), self.values()];
        let product = |k, n| {
            let m = self.tokens;
            Shape::Product(Product { m, k, n })
        };
        // Widths that are read and written, by each map and in one pass.
        let maps = |maps: &[u64], once: u64| {
            Shape::Elementwise(Elementwise {
                rows: match operator {
                    Operator::Norm => self.tokens,
                    _ => 1,
                },
                maps: maps.iter().map(|width| self.words(*width)).collect(),
                words: self.words(once),
            })
        };
        let map = |width: u64| maps(&[width], width);
        match operator {
            Operator::Norm => map(2 * self.hidden),
            Operator::QueryKeyValue => product(self.hidden, queries + keys + values),
            Operator::Query => product(self.hidden, queries),
            Operator::KeyValue => product(self.hidden, keys + values),
            Operator::Rotary => maps(&[2 * queries, 2 * keys], 2 * (queries + keys)),
            Operator::CacheWrite => maps(&[2 * keys, 2 * values], 2 * (keys + values)),
            Operator::Attention => Shape::Attention,
            // Queries, the new keys and values and the cached tokens' part are read, the sum is written.
            Operator::Merge => map(queries + keys + values + 2 * self.attended()),
            Operator::Output => product(self.attended(), self.hidden),
            Operator::Residual => map(3 * self.hidden),
            Operator::GateUp => product(self.hidden, self.fed()),
            Operator::Gate if self.gated => maps(
                &[2 * self.feed_forward, 3 * self.feed_forward],
                3 * self.feed_forward,
            ),
            Operator::Gate => map(2 * self.feed_forward),
            Operator::Down => product(self.feed_forward, self.hidden),
        }
    }

    /// The product of an operator, if it is one.
    pub fn product(&self, operator: Operator) -> Option<Product> {
        match self.shape(operator) {
            Shape::Product(product) => Some(product),
            _ => None,
        }
    }

    /// Words of the weights of these operators; `None` on overflow.
    pub fn weights(&self, operators: &[Operator]) -> Option<u64> {
        let products = operators.iter().filter_map(|o| self.product(*o));
        products
            .map(|product| product.weights())
            .try_fold(0u64, |sum, words| sum.checked_add(words?))
    }

    /// The product that scores the vocabulary; `None` where the model's file describes one layer.
    pub fn head(&self) -> Option<Product> {
        Some(Product {
            m: self.tokens,
            k: self.hidden,
            n: self.vocabulary?,
        })
    }
}
