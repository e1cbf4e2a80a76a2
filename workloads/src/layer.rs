//! The decoder layer: its operators in order, and the shape of each on one of the devices that share it.
//!
//! Attention (of grouped queries, of a latent, or linear) and a feed-forward layer or experts, a normalisation before
//! either. Heads, feed-forward columns and the columns of each expert are divided among devices, each of which has the
//! whole residual stream and sums it with the others after what is [`Operator::summed`]. Which kernels run an operator,
//! and how long, is for devices to say.

use einflow_spec::{NumberFormat, named};

use crate::{
    Model,
    models::{AttentionBias, Experts, FeedForward, Formats, Latent, Linear, Positions},
};

/// The number format that models are served in.
pub const SERVED: NumberFormat = NumberFormat::Bf16;

/// Bytes of a word of it.
pub const WORD_BYTES: u64 = SERVED.bits() / 8;

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All tokens of prompts.
    Prefill,
    /// One token of each sequence, over its cache.
    Decode,
}

named! {
    /// What a layer computes.
    pub enum Operator {
        /// Normalises the residual stream.
        Norm = "norm",
        /// The product that makes queries, keys and values.
        QueryKeyValue = "query_key_value",
        /// Of [`Operator::QueryKeyValue`], that of the queries alone.
        Query = "query",
        /// Of [`Operator::QueryKeyValue`], that of keys and values.
        KeyValue = "key_value",
        /// The product that makes the latent of queries.
        QueryDown = "query_down",
        /// The product that makes queries of it.
        QueryUp = "query_up",
        /// The product that makes the latent of keys and values, and the key that carries the position.
        LatentDown = "latent_down",
        /// Normalises the latents.
        LatentNorm = "latent_norm",
        /// The product that makes keys and values of all heads of the latent.
        LatentUp = "latent_up",
        /// In place of [`Operator::LatentUp`]: queries into the latent's space, with each head's weights of keys.
        Absorb = "absorb",
        /// In place of [`Operator::LatentUp`]: values out of the latent's space, with each head's weights of values.
        Expand = "expand",
        /// The short convolution of queries, keys and values.
        Convolution = "convolution",
        /// The first of two products that make decays.
        DecayDown = "decay_down",
        /// The product that makes decays.
        Decay = "decay",
        /// The product that makes how strongly each head writes.
        Strength = "strength",
        /// Reads and writes each head's matrix, token after token.
        Recurrence = "recurrence",
        /// The first of two products that make the gate on what comes out.
        OutputGateDown = "output_gate_down",
        /// The product that makes it.
        OutputGate = "output_gate",
        /// The gate times what comes out.
        Gated = "gated",
        /// Turns queries and keys by their positions.
        Rotary = "rotary",
        /// Puts new keys and values into the cache, or their latent.
        CacheWrite = "cache_write",
        /// Queries over keys and values.
        Attention = "attention",
        /// Queries over the latents of the cache, all heads the same.
        LatentAttention = "latent_attention",
        /// Where new tokens are attended apart from cached ones: attends to them, and adds both parts.
        Merge = "merge",
        /// The product with what attention makes.
        Output = "output",
        /// Adds to the residual stream.
        Residual = "residual",
        /// The products into the feed-forward: the gate's and the other.
        GateUp = "gate_up",
        /// silu(gate) * up.
        Gate = "gate",
        /// The product out of the feed-forward.
        Down = "down",
        /// The product that scores experts.
        Router = "router",
        /// [`Operator::GateUp`] of the experts that the router chose.
        ExpertsGateUp = "experts_gate_up",
        /// [`Operator::Gate`] of them.
        ExpertsGate = "experts_gate",
        /// [`Operator::Down`] of them.
        ExpertsDown = "experts_down",
        /// [`Operator::GateUp`] of the experts that work on every token.
        SharedGateUp = "shared_gate_up",
        /// [`Operator::Gate`] of them.
        SharedGate = "shared_gate",
        /// [`Operator::Down`] of them.
        SharedDown = "shared_down",
        /// Adds what the experts of a token have made, each by its weight.
        Combine = "combine",
    }
}

impl Operator {
    /// Whether it works on the rows of experts that a router chose.
    pub fn of_experts(&self) -> bool {
        matches!(
            self,
            Self::ExpertsGateUp | Self::ExpertsGate | Self::ExpertsDown | Self::Combine
        )
    }

    /// Whether devices that share a layer sum what each has made.
    pub fn summed(&self) -> bool {
        matches!(self, Self::Output | Self::Down | Self::Combine)
    }
}

/// What an operator works on, on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A product with weights.
    Product(Product),
    /// Products with weights of their own.
    Grouped(Grouped),
    /// A map of words.
    Elementwise(Elementwise),
    /// Queries over keys and values, or over latents, of any length.
    Attention(Attended),
    /// Matrices that each token reads and changes.
    Recurrence(Recurrence),
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

/// `[rows of g, k] x [k, n]` for each group g, with weights of its own: an expert's, or a head's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouped {
    /// Groups: sets of weights.
    pub groups: u64,
    /// Rows of all groups together.
    pub rows: u64,
    /// Groups in which a token has a row.
    pub each: u64,
    /// The reduced rank.
    pub k: u64,
    /// Columns.
    pub n: u64,
}

impl Grouped {
    /// Groups that have a row, at most: those whose weights are read.
    pub fn touched(&self) -> u64 {
        self.groups.min(self.rows)
    }

    /// The same in the mean, where the groups of each token are drawn at random, all as often: one is missed by a token
    /// with the probability 1 - each / groups.
    pub fn drawn(&self) -> f64 {
        let (groups, each) = (self.groups.max(1) as f64, self.each.max(1));
        let missed = (1.0 - (each as f64 / groups).min(1.0)).powf((self.rows / each) as f64);
        (groups * (1.0 - missed)).clamp(1.0, self.touched().max(1) as f64)
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

/// Attention over what is cached of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attended {
    /// Query heads.
    pub heads: u64,
    /// Key heads.
    pub key_heads: u64,
    /// Width of a query or key of one head.
    pub query_width: u64,
    /// Width of a value of one head.
    pub value_width: u64,
    /// Words that are read of each token: of a latent, values are the first of the same words as keys.
    pub read: u64,
    /// Tokens that one attends to at most, itself the last.
    pub window: Option<u64>,
}

/// A matrix for each head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// Heads.
    pub heads: u64,
    /// Rows of a head's matrix.
    pub query_width: u64,
    /// Columns.
    pub value_width: u64,
}

/// How a layer mixes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Queries in groups over key heads.
    Grouped,
    /// Over a latent.
    Latent(Latent),
    /// Through a state.
    Linear(Linear),
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
    /// Width between the feed-forward's products; 0 where there is none.
    pub feed_forward: u64,
    /// Whether two products lead there, one of them the other's gate.
    pub gated: bool,
    /// Tokens of the vocabulary, whose scores follow the last layer.
    pub vocabulary: Option<u64>,
    /// How tokens are mixed.
    pub mixer: Mixer,
    /// Tokens that one attends to at most, itself the last.
    pub window: Option<u64>,
    /// Whether each head has a learned score that no key has.
    pub sinks: bool,
    /// Whether positions turn queries and keys.
    pub rotary: bool,
    /// Which products of attention add a bias.
    pub attention_bias: AttentionBias,
    /// Whether those of the feed-forward do.
    pub feed_forward_bias: bool,
    /// Experts in place of one feed-forward layer; widths are the device's.
    pub experts: Option<Experts>,
    /// How words are kept.
    pub formats: Formats,
}

impl Model {
    /// A layer over `tokens` tokens on one of `devices` devices: the one with most, where something does not divide. Of
    /// several kinds ([`Model::kinds`]) it is the first.
    pub fn layer(&self, tokens: u64, devices: u64) -> Layer {
        if let Some(kind) = self.kinds.first() {
            return self.of(kind, 1).layer(tokens, devices);
        }
        let share = |of: u64| of.div_ceil(devices.max(1));
        Layer {
            tokens,
            heads: share(self.heads),
            key_heads: share(self.key_heads),
            query_width: self.query_width,
            value_width: self.value_width,
            hidden: self.model_width,
            feed_forward: self.feed_forward_width.map_or(0, share),
            gated: self.feed_forward == FeedForward::Gated,
            vocabulary: self.vocabulary.map(share),
            mixer: match (self.latent, self.linear) {
                (Some(latent), _) => Mixer::Latent(latent),
                (_, Some(linear)) => Mixer::Linear(linear),
                _ => Mixer::Grouped,
            },
            window: self.window,
            sinks: self.sinks,
            rotary: self.positions == Positions::Rotary,
            attention_bias: self.attention_bias,
            feed_forward_bias: self.feed_forward_bias,
            experts: self.experts.map(|experts| Experts {
                width: share(experts.width),
                shared_width: experts.shared_width.map(share),
                ..experts
            }),
            formats: self.formats,
        }
    }
}

impl Layer {
    /// All that a layer of grouped queries, turned by their positions, and one feed-forward layer computes, in order.
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

    /// All that this layer computes, in order.
    pub fn operators(&self, phase: Phase) -> Vec<Operator> {
        use Operator as O;
        let mut all = vec![O::Norm];
        let rotary = self.rotary.then_some(O::Rotary);
        match self.mixer {
            Mixer::Grouped => {
                all.push(O::QueryKeyValue);
                all.extend(rotary);
                all.extend([O::CacheWrite, O::Attention]);
            }
            Mixer::Latent(latent) => {
                match latent.query_rank {
                    Some(_) => all.extend([O::QueryDown, O::LatentDown, O::LatentNorm, O::QueryUp]),
                    None => all.extend([O::Query, O::LatentDown, O::LatentNorm]),
                }
                all.extend(rotary);
                all.push(O::CacheWrite);
                match phase {
                    Phase::Prefill => all.extend([O::LatentUp, O::Attention]),
                    Phase::Decode => all.extend([O::Absorb, O::LatentAttention, O::Expand]),
                }
            }
            Mixer::Linear(linear) => {
                all.push(O::QueryKeyValue);
                all.extend(linear.convolution.map(|_| O::Convolution));
                all.extend(linear.decay_rank.map(|_| O::DecayDown));
                all.extend([O::Decay, O::Strength, O::Recurrence]);
                all.extend(linear.gate_rank.map(|_| O::OutputGateDown));
                all.extend([O::OutputGate, O::Gated]);
            }
        }
        all.extend([O::Output, O::Residual, O::Norm]);
        match self.experts {
            None => all.extend([O::GateUp, O::Gate, O::Down]),
            Some(experts) => {
                all.extend([O::Router, O::ExpertsGateUp, O::ExpertsGate, O::ExpertsDown]);
                if experts.shared_width.is_some() {
                    all.extend([O::SharedGateUp, O::SharedGate, O::SharedDown]);
                }
                all.push(O::Combine);
            }
        }
        all.push(O::Residual);
        all
    }

    /// What it computes between the first normalisation and the product with what attention makes.
    pub fn attention_operators(&self, phase: Phase) -> Vec<Operator> {
        let all = self.operators(phase).into_iter().skip(1);
        all.take_while(|o| *o != Operator::Output).collect()
    }

    /// What it computes between the second normalisation and the residual sum after it.
    pub fn feed_forward_operators(&self) -> Vec<Operator> {
        let all = self.operators(Phase::Decode);
        let from = all.iter().rposition(|o| *o == Operator::Norm);
        let behind = all.into_iter().skip(from.map_or(0, |at| at + 1));
        behind.filter(|o| *o != Operator::Residual).collect()
    }

    /// Words that the products of the feed-forward, or those of a token's experts, read and make of a token, but for the
    /// residual stream.
    pub fn fed_words(&self) -> u64 {
        let both = |width: u64| self.into(width).saturating_add(width);
        match self.experts {
            None => both(self.feed_forward),
            Some(experts) => {
                let routed = experts.active.saturating_mul(both(experts.width));
                routed.saturating_add(experts.shared_width.map_or(0, both))
            }
        }
    }

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
        self.into(self.feed_forward)
    }

    /// Columns of the products into a feed-forward of that width.
    fn into(&self, width: u64) -> u64 {
        match self.gated {
            true => 2 * width,
            false => width,
        }
    }

    /// Words of all tokens, of so many each.
    pub fn words(&self, width: u64) -> u64 {
        self.tokens.saturating_mul(width)
    }

    /// What an operator works on. Operators that the layer does not have have no words.
    pub fn shape(&self, operator: Operator) -> Shape {
        use Operator as O;
        let [queries, keys, values] = [self.queries(), self.keys(), self.values()];
        let hidden = self.hidden;
        let product = |k, n| {
            let m = self.tokens;
            Shape::Product(Product { m, k, n })
        };
        let grouped = |groups, rows, k, n| {
            Shape::Grouped(Grouped {
                groups,
                rows: self.words(rows),
                each: rows,
                k,
                n,
            })
        };
        // Widths that are read and written, by each map and in one pass.
        let maps = |maps: &[u64], once: u64| {
            Shape::Elementwise(Elementwise {
                rows: match operator {
                    O::Norm | O::LatentNorm => self.tokens,
                    _ => 1,
                },
                maps: maps.iter().map(|width| self.words(*width)).collect(),
                words: self.words(once),
            })
        };
        let map = |width: u64| maps(&[width], width);
        let gate = |width: u64| match self.gated {
            true => maps(&[2 * width, 3 * width], 3 * width),
            false => map(2 * width),
        };
        let (latent, linear) = match self.mixer {
            Mixer::Latent(latent) => (Some(latent), None),
            Mixer::Linear(linear) => (None, Some(linear)),
            Mixer::Grouped => (None, None),
        };
        let [cache_rank, rope] = latent.map_or([0, 0], |l| [l.cache_rank, l.rope_width]);
        let query_rank = latent.and_then(|latent| latent.query_rank);
        let own = self.query_width.saturating_sub(rope);
        let decay_rank = linear.and_then(|linear| linear.decay_rank);
        let gate_rank = linear.and_then(|linear| linear.gate_rank);
        let [routed, active, width, shared] = self.experts.map_or([0; 4], |e| {
            [e.routed, e.active, e.width, e.shared_width.unwrap_or(0)]
        });
        match operator {
            O::Norm => map(2 * hidden),
            O::QueryKeyValue => product(hidden, queries + keys + values),
            O::Query => product(hidden, queries),
            O::KeyValue => product(hidden, keys + values),
            O::QueryDown => product(hidden, query_rank.unwrap_or(0)),
            O::QueryUp => product(query_rank.unwrap_or(0), queries),
            O::LatentDown => product(hidden, cache_rank + rope),
            O::LatentNorm => map(2 * (query_rank.unwrap_or(0) + cache_rank)),
            O::LatentUp => product(
                cache_rank,
                self.heads.saturating_mul(own + self.value_width),
            ),
            O::Absorb => grouped(self.heads, self.heads, own, cache_rank),
            O::Expand => grouped(self.heads, self.heads, cache_rank, self.value_width),
            O::Convolution => map(2 * (queries + keys + values)),
            O::DecayDown => product(hidden, decay_rank.unwrap_or(0)),
            O::Decay => match decay_rank {
                Some(rank) => product(rank, queries),
                None => product(hidden, self.heads),
            },
            O::Strength => product(hidden, self.heads),
            O::Recurrence => Shape::Recurrence(Recurrence {
                heads: self.heads,
                query_width: self.query_width,
                value_width: self.value_width,
            }),
            O::OutputGateDown => product(hidden, gate_rank.unwrap_or(0)),
            O::OutputGate => product(gate_rank.unwrap_or(hidden), self.attended()),
            O::Gated => map(3 * self.attended()),
            O::Rotary => match latent {
                Some(_) => {
                    let turned = self.heads.saturating_mul(rope);
                    maps(&[2 * turned, 2 * rope], 2 * (turned + rope))
                }
                None => maps(&[2 * queries, 2 * keys], 2 * (queries + keys)),
            },
            O::CacheWrite => match latent {
                Some(_) => map(2 * (cache_rank + rope)),
                None => maps(&[2 * keys, 2 * values], 2 * (keys + values)),
            },
            O::Attention => Shape::Attention(Attended {
                heads: self.heads,
                key_heads: self.key_heads,
                query_width: self.query_width,
                value_width: self.value_width,
                read: self.keys_values(),
                window: self.window,
            }),
            O::LatentAttention => Shape::Attention(Attended {
                heads: self.heads,
                key_heads: 1,
                query_width: cache_rank + rope,
                value_width: cache_rank,
                read: cache_rank + rope,
                window: self.window,
            }),
            // Queries, the new keys and values and the cached tokens' part are read, the sum is written.
            O::Merge => map(queries + keys + values + 2 * self.attended()),
            O::Output => product(self.attended(), hidden),
            O::Residual => map(3 * hidden),
            O::GateUp => product(hidden, self.fed()),
            O::Gate => gate(self.feed_forward),
            O::Down => product(self.feed_forward, hidden),
            O::Router => product(hidden, routed),
            O::ExpertsGateUp => grouped(routed, active, hidden, self.into(width)),
            O::ExpertsGate => gate(active.saturating_mul(width)),
            O::ExpertsDown => grouped(routed, active, width, hidden),
            O::SharedGateUp => product(hidden, self.into(shared)),
            O::SharedGate => gate(shared),
            O::SharedDown => product(shared, hidden),
            // What the experts made is read, and what those of every token did; the sum is written.
            O::Combine => map((active + u64::from(shared > 0) + 1).saturating_mul(hidden)),
        }
    }

    /// The product of an operator, if it is one.
    pub fn product(&self, operator: Operator) -> Option<Product> {
        match self.shape(operator) {
            Shape::Product(product) => Some(product),
            _ => None,
        }
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
