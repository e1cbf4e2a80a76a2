//! What a model takes: its parameters, their bytes, and what is kept of the tokens so far.
//!
//! The scales of normalisations are left out, and what else has no more words than they: less than a ten-thousandth.

use einflow_spec::{Stored, named, quantity::Bytes};

use crate::{
    Model,
    layer::{Layer, Mixer, Operator, Phase, SERVED, Shape, WORD_BYTES},
    models::{AttentionBias, Formats, Positions},
};

named! {
    /// A part of a model whose weights have a format of their own.
    pub enum Part {
        /// Attention, of any sort.
        Attention = "attention",
        /// Feed-forward layers, and experts that work on every token.
        FeedForward = "feed_forward",
        /// Experts that a router chooses.
        Experts = "experts",
        /// Routers.
        Router = "router",
        /// The vocabulary in and out, and learned positions.
        Embeddings = "embeddings",
    }
}

/// Weights that an operator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Whose.
    pub part: Part,
    /// Matrices: one, or as many as there are experts.
    pub groups: u64,
    /// Of them, those that work on a token.
    pub active: u64,
    /// Rows of each: the rank that a product reduces.
    pub k: u64,
    /// Columns of each.
    pub n: u64,
    /// Words besides that of each: biases, kept in [`crate::layer::SERVED`].
    pub bias: u64,
}

impl Weights {
    /// Words of so many of them; `None` on overflow.
    fn words(&self, groups: u64) -> Option<u128> {
        let one = self.k.checked_mul(self.n)?.checked_add(self.bias)?;
        one.checked_mul(groups).map(u128::from)
    }

    fn bytes(&self, format: &Stored) -> Option<u128> {
        let one = format.bytes(self.k, self.n).0 + u128::from(self.bias) * u128::from(WORD_BYTES);
        one.checked_mul(self.groups.into())
    }
}

impl Part {
    /// Whose the weights of an operator are, if it has any.
    pub fn of(operator: Operator) -> Self {
        use Operator as O;
        match operator {
            O::ExpertsGateUp | O::ExpertsDown => Self::Experts,
            O::Router => Self::Router,
            O::GateUp | O::Down | O::SharedGateUp | O::SharedDown => Self::FeedForward,
            _ => Self::Attention,
        }
    }
}

impl Formats {
    /// The format of a part's weights.
    pub fn of(&self, part: Part) -> Stored {
        let own = match part {
            Part::Attention => self.attention,
            Part::FeedForward => None,
            Part::Experts => self.experts,
            Part::Router => self.router,
            Part::Embeddings => self.embeddings,
        };
        own.unwrap_or(self.weights)
    }

    /// How the two operands of a product with a part's weights are held: activations and weights. Activations are
    /// narrowed for weights that are as narrow; others, and routers, take the words in which operators pass them on.
    pub fn operands(&self, part: Part) -> [Stored; 2] {
        let weights = self.of(part);
        let narrow = weights.bits() <= self.activations.bits();
        match narrow {
            true => [self.activations, weights],
            false => [SERVED.into(), weights],
        }
    }
}

impl Layer {
    /// The weights of an operator; none where it has none, or has those of another ([`Operator::LatentUp`]'s).
    pub fn stored(&self, operator: Operator) -> Option<Weights> {
        use Operator as O;
        let part = match operator {
            O::Absorb | O::Expand => return None,
            _ => Part::of(operator),
        };
        let (groups, k, n) = match self.shape(operator) {
            Shape::Product(product) => (1, product.k, product.n),
            Shape::Grouped(grouped) => (grouped.groups, grouped.k, grouped.n),
            // A learned score for each head.
            Shape::Attention(attended) if self.sinks => (1, attended.heads, 1),
            Shape::Elementwise(_) => match (operator, self.mixer) {
                (O::Convolution, Mixer::Linear(linear)) => {
                    (1, linear.convolution?, self.queries() + self.keys_values())
                }
                _ => return None,
            },
            _ => return None,
        };
        let biased = match part {
            Part::Attention => match operator {
                O::QueryKeyValue | O::Query | O::KeyValue => {
                    self.attention_bias != AttentionBias::None
                }
                O::Output => self.attention_bias == AttentionBias::All,
                _ => false,
            },
            _ => self.feed_forward_bias,
        };
        Some(Weights {
            part,
            groups,
            active: self
                .experts
                .filter(|_| part == Part::Experts)
                .map_or(groups, |e| e.active),
            k,
            n,
            bias: if biased { n } else { 0 },
        })
    }

    /// All weights of the layer.
    pub fn all_stored(&self) -> impl Iterator<Item = Weights> {
        let operators = self.operators(Phase::Prefill).into_iter();
        operators.filter_map(|operator| self.stored(operator))
    }

    /// Words of all weights; `None` on overflow.
    pub fn weights(&self) -> Option<u64> {
        words(self.all_stored().map(|w| w.words(w.groups)))
    }

    /// Of them, those that work on a token: of experts the active ones.
    pub fn active_weights(&self) -> Option<u64> {
        words(self.all_stored().map(|w| w.words(w.active)))
    }

    /// Words that are kept of a token: its keys and values, or their latent, which every device has whole.
    pub fn cached(&self) -> u64 {
        match self.mixer {
            Mixer::Grouped => self.keys_values(),
            Mixer::Latent(latent) => latent.cache_rank + latent.rope_width,
            Mixer::Linear(_) => 0,
        }
    }

    /// Words that are kept of a sequence, however long: of the heads' matrices, and of tokens under the convolution.
    pub fn state(&self) -> [u64; 2] {
        match self.mixer {
            Mixer::Linear(linear) => [
                self.queries().saturating_mul(self.value_width),
                (linear.convolution.unwrap_or(1) - 1)
                    .saturating_mul(self.queries() + self.keys_values()),
            ],
            _ => [0, 0],
        }
    }
}

fn sum(items: impl IntoIterator<Item = Option<u128>>) -> Option<u128> {
    items
        .into_iter()
        .try_fold(0u128, |sum, item| sum.checked_add(item?))
}

/// Words, where they are no more than 64 bits hold.
fn words(items: impl IntoIterator<Item = Option<u128>>) -> Option<u64> {
    sum(items).and_then(|words| u64::try_from(words).ok())
}

impl Model {
    /// Of each kind of layer on one of `devices` devices: how many there are, times what is counted of one.
    fn per_layer(&self, devices: u64, of: impl Fn(&Layer) -> Option<u128>) -> Vec<Option<u128>> {
        let kinds = self.kinds().into_iter();
        let all = kinds
            .map(|(_, layers, model)| of(&model.layer(1, devices))?.checked_mul(layers.into()));
        all.collect()
    }

    /// Words of the vocabulary in and out, and of learned positions.
    fn ends(&self) -> Option<u128> {
        let table = u128::from(self.layer(1, 1).head()?.weights()?);
        let both = if self.tied_embeddings {
            table
        } else {
            2 * table
        };
        let positions = match self.positions {
            Positions::Learned(positions) => u128::from(positions) * u128::from(self.model_width),
            _ => 0,
        };
        Some(both + positions)
    }

    /// Words of all weights: decoder layers, and the vocabulary in and out. `None` on overflow, or where the file
    /// describes one layer only.
    pub fn weights(&self) -> Option<u64> {
        self.depth()?;
        let layers = self.per_layer(1, |layer| layer.weights().map(u128::from));
        words(layers.into_iter().chain([self.ends()]))
    }

    /// Of [`Model::weights`], those that products read for one token: of experts the active ones, and of the vocabulary
    /// the way out. An embedding's row is looked up, and not counted.
    pub fn active_weights(&self) -> Option<u64> {
        self.depth()?;
        let head = self.layer(1, 1).head()?.weights().map(u128::from);
        let layers = self.per_layer(1, |layer| layer.active_weights().map(u128::from));
        words(layers.into_iter().chain([head]))
    }

    /// The format of a part's weights.
    pub fn format(&self, part: Part) -> Stored {
        self.formats.of(part)
    }

    /// Bytes of all weights on one of `devices` devices that share each product: the one with most. Routers, the
    /// latents' first products and learned positions are whole on each. `None` as for [`Model::weights`].
    pub fn weight_bytes(&self, devices: u64) -> Option<Bytes> {
        self.depth()?;
        let head = self.layer(1, devices).head()?;
        let format = self.format(Part::Embeddings);
        let table = format.bytes(head.k, head.n).0;
        let both = if self.tied_embeddings {
            table
        } else {
            table.checked_mul(2)?
        };
        let positions = match self.positions {
            Positions::Learned(positions) => format.bytes(self.model_width, positions).0,
            _ => 0,
        };
        let layers = self.per_layer(devices, |layer| self.layer_bytes(layer));
        sum(layers.into_iter().chain([Some(both), Some(positions)])).map(Bytes)
    }

    /// Bytes of the weights of attention in all layers, on one of `devices` devices. `None` as for [`Model::weights`].
    pub fn attention_bytes(&self, devices: u64) -> Option<Bytes> {
        self.part_bytes(Part::Attention, devices)
    }

    /// Bytes of the weights of a part in all layers, on one of `devices` devices. `None` as for [`Model::weights`].
    pub fn part_bytes(&self, part: Part, devices: u64) -> Option<Bytes> {
        self.depth()?;
        let own = |weights: &Weights| weights.part == part;
        sum(self.per_layer(devices, |layer| {
            self.bytes_of(layer.all_stored().filter(own))
        }))
        .map(Bytes)
    }

    /// Bytes of the weights of a layer.
    pub fn layer_bytes(&self, layer: &Layer) -> Option<u128> {
        self.bytes_of(layer.all_stored())
    }

    fn bytes_of(&self, stored: impl Iterator<Item = Weights>) -> Option<u128> {
        sum(stored.map(|weights| weights.bytes(&self.format(weights.part))))
    }

    /// Words of a token's keys and values, or their latents, in all layers: what a request's cache grows by while it is
    /// in every window. `None` as for [`Model::weights`].
    pub fn cache_words(&self) -> Option<u64> {
        self.depth()?;
        words(self.per_layer(1, |layer| Some(layer.cached().into())))
    }

    /// Bytes of them on one of `devices` devices that share heads: a latent is whole on each, and so is a key head that
    /// several share.
    pub fn token_cache_bytes(&self, devices: u64) -> Option<Bytes> {
        self.depth()?;
        sum(self.per_layer(devices, |layer| Some(self.cache_bytes_of(layer, 1)))).map(Bytes)
    }

    /// Bytes that are kept of a request of `length` tokens on one of `devices` devices: its cache, of which layers with
    /// a window hold no more than that, and the states of linear attention, which do not grow.
    pub fn request_bytes(&self, length: u64, devices: u64) -> Option<Bytes> {
        self.depth()?;
        sum(self.per_layer(devices, |layer| {
            let cache = self.cache_bytes_of(layer, length);
            cache.checked_add(self.state_bytes_of(layer))
        }))
        .map(Bytes)
    }

    /// Bytes of a layer's cache of a request of that length.
    pub fn cache_bytes_of(&self, layer: &Layer, length: u64) -> u128 {
        let held = layer.window.map_or(length, |window| window.min(length));
        let token = self.formats.cache.bytes(layer.cached(), 1).0;
        token.saturating_mul(held.into())
    }

    /// Bytes of a layer's state.
    pub fn state_bytes_of(&self, layer: &Layer) -> u128 {
        let [matrices, tokens] = layer.state();
        let state = self.formats.state.unwrap_or(self.formats.cache);
        state.bytes(matrices, 1).0 + self.formats.cache.bytes(tokens, 1).0
    }
}
