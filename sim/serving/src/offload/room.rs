//! What requests take of a store: blocks of tokens in each kind of layer, and states that do not grow.
//!
//! As a server keeps them (vLLM's hybrid cache manager): each kind of layer has blocks of its own for a request, all
//! from one store. A layer with a window gives blocks back that no later token attends to; a layer with a state takes
//! the same for every request.

use einflow_spec::quantity::Bytes;
use einflow_workloads::Model;

/// What a request of so many blocks of tokens takes of a store, in units of which all that is kept is a multiple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    each: Vec<Held>,
    /// Of each request, however long.
    fixed: u64,
    /// Bytes of a unit on one device.
    unit: u128,
}

/// What layers of one kind hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Units of a block of tokens.
    units: u64,
    /// Blocks that they hold of a request at most: none where there is no window.
    most: Option<u64>,
}

/// All layers hold all tokens: a unit is a block.
impl Default for Room {
    fn default() -> Self {
        Self {
            each: vec![Held {
                units: 1,
                most: None,
            }],
            fixed: 0,
            unit: 1,
        }
    }
}

fn divisor(a: u128, b: u128) -> u128 {
    match b {
        0 => a,
        b => divisor(b, a % b),
    }
}

impl Room {
    /// Of a model on one of `parts` devices that share heads, in blocks of `block` tokens.
    pub(super) fn new(model: &Model, parts: u64, block: u64) -> Self {
        let kinds = model.kinds();
        let (mut held, mut fixed): (Vec<(Option<u64>, u128)>, u128) = (Vec::new(), 0);
        for (_, layers, kind) in &kinds {
            let layer = kind.layer(1, parts);
            let layers = u128::from(*layers);
            // A block at the window's first token, and those up to its last.
            let most = layer.window.map(|w| (w - 1).div_ceil(block) + 1);
            let token = kind.formats.cache.bytes(layer.cached(), 1).0;
            let bytes = token.saturating_mul(block.into()).saturating_mul(layers);
            match held.iter_mut().find(|(known, _)| *known == most) {
                _ if bytes == 0 => {}
                Some((_, known)) => *known = known.saturating_add(bytes),
                None => held.push((most, bytes)),
            }
            fixed = fixed.saturating_add(kind.state_bytes_of(&layer).saturating_mul(layers));
        }
        let all = held.iter().map(|(_, bytes)| *bytes).chain([fixed]);
        let unit = all.fold(0, divisor).max(1);
        let units = |bytes: u128| u64::try_from(bytes / unit).unwrap_or(u64::MAX);
        Self {
            each: held
                .iter()
                .map(|(most, bytes)| Held {
                    units: units(*bytes),
                    most: *most,
                })
                .collect(),
            fixed: units(fixed),
            unit,
        }
    }

    /// Whether all layers hold all tokens, and nothing else.
    pub fn plain(&self) -> bool {
        matches!(
            self.each[..],
            [Held {
                units: 1,
                most: None
            }]
        ) && self.fixed == 0
    }

    /// Whether every request takes the same for a state.
    pub fn states(&self) -> bool {
        self.fixed > 0
    }

    /// Units that a request takes of whose tokens there are so many blocks.
    pub fn units(&self, blocks: u64) -> u64 {
        let each = self.each.iter();
        let all = each.map(|held| {
            let own = held.most.map_or(blocks, |most| most.min(blocks));
            held.units.saturating_mul(own)
        });
        all.fold(self.fixed, u64::saturating_add)
    }

    /// Units of a block, where it takes most.
    pub fn block(&self) -> u64 {
        self.each.iter().map(|held| held.units).max().unwrap_or(0)
    }

    /// Units of so many bytes.
    pub fn units_in(&self, bytes: Bytes) -> u64 {
        u64::try_from(bytes.0 / self.unit).unwrap_or(u64::MAX)
    }

    /// Bytes of so many units on one device.
    pub fn bytes(&self, units: u64) -> Bytes {
        Bytes(self.unit.saturating_mul(units.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(model: &str, parts: u64, block: u64) -> Room {
        Room::new(&Model::load(model, None).unwrap(), parts, block)
    }

    /// gpt-oss-120b: 36 layers of 8 key heads of 64, keys and values in two bytes, 2 KiB a layer and token; half of
    /// the layers keep 128 tokens.
    #[test]
    fn a_window_holds_no_more_than_its_tokens() {
        let own = room("gpt-oss-120b", 1, 1);
        let bytes = |tokens| own.bytes(own.units(tokens)).0;
        assert!(!own.plain());
        assert_eq!(bytes(100), 36 * 2048 * 100);
        assert_eq!(bytes(8192), 18 * 2048 * (8192 + 128));
        // Blocks of 16: those of 127 earlier tokens, and the newest's.
        let own = room("gpt-oss-120b", 1, 16);
        assert_eq!(own.bytes(own.units(512)).0, 18 * 2048 * 16 * (512 + 9));
        // What is held is what the model says of a request.
        let model = Model::load("gpt-oss-120b", None).unwrap();
        assert_eq!(bytes(5000), model.request_bytes(5000, 1).unwrap().0);
    }

    /// Kimi Linear: seven layers hold latents of 576 words; twenty hold 32 matrices of 128 x 128 in four bytes and
    /// three tokens under the convolution of 3 x 4096 channels in two.
    #[test]
    fn a_state_takes_the_same_of_every_request() {
        let own = room("kimi-linear", 1, 1);
        let state = 20 * (32 * 128 * 128 * 4 + 3 * 3 * 4096 * 2);
        assert!(own.states());
        assert_eq!(own.bytes(own.units(1)).0, state + 7 * 576 * 2);
        assert_eq!(own.bytes(own.units(4096)).0, state + 7 * 576 * 2 * 4096);
        // Two devices share the heads' matrices, and each has the latents whole.
        let own = room("kimi-linear", 2, 1);
        assert_eq!(own.bytes(own.units(10)).0, state / 2 + 7 * 576 * 2 * 10);
    }

    #[test]
    fn a_block_is_a_unit_where_all_layers_are_alike() {
        let own = room("llama3-8b", 1, 16);
        assert!(own.plain());
        assert_eq!((own.units(7), own.bytes(1).0), (7, 16 * 131_072));
        assert_eq!(own.units(7), Room::default().units(7));
    }
}
