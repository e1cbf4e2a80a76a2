//! An attention device, and what it receives and sends.

use std::ops::Range;

use einflow_workloads::interpret::Array;

use super::kernels::{Kernels, Part, columns, pick, row};
use super::{Cache, Error, Inputs, Kind, Partition, Sent, Shape, Split, Weights};

/// Hidden states of a device's requests, with [`Boundary::Projections`](crate::offload::Boundary::Projections):
/// requests x D.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden(pub Array);

/// Queries of a device's requests and heads: requests x (heads * E).
#[derive(Clone, Debug, PartialEq)]
pub struct Queries(pub Array);

/// Keys and values of the new tokens of a device's requests, for its key heads: requests x (key heads * E) each.
#[derive(Clone, Debug, PartialEq)]
pub struct NewKeyValue {
    /// The keys.
    pub keys: Array,
    /// The values.
    pub values: Array,
}

/// What a device sends back: the outputs of its heads, requests x (heads * E); with
/// [`Boundary::Projections`](crate::offload::Boundary::Projections) their share of the layer's output, requests x D.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs(pub Array);

fn sent(device: usize, kind: Kind, arrays: &[&Array]) -> Sent {
    Sent {
        device,
        kind,
        words: arrays.iter().map(|array| array.data.len()).sum(),
    }
}

impl Hidden {
    pub(super) fn sent(&self, device: usize) -> Sent {
        sent(device, Kind::Hidden, &[&self.0])
    }
}

impl Queries {
    pub(super) fn sent(&self, device: usize) -> Sent {
        sent(device, Kind::Queries, &[&self.0])
    }
}

impl NewKeyValue {
    pub(super) fn sent(&self, device: usize) -> Sent {
        sent(device, Kind::NewKeyValue, &[&self.keys, &self.values])
    }
}

impl Outputs {
    pub(super) fn sent(&self, device: usize) -> Sent {
        sent(device, Kind::Outputs, &[&self.0])
    }
}

/// An attention device: which requests and heads it has, and their caches.
pub(super) struct Device {
    pub index: usize,
    /// Its requests, ascending; never none.
    pub requests: Vec<usize>,
    /// Its query heads, as columns of the queries.
    pub query_columns: Range<usize>,
    /// Its key heads, as columns of the keys and values.
    pub key_columns: Range<usize>,
    /// Length of a head.
    head: usize,
    /// Of its requests, with its key heads only.
    caches: Vec<Cache>,
}

/// The devices that have work.
pub(super) fn devices(shape: &Shape, split: &Split, inputs: &Inputs) -> Vec<Device> {
    let device = |index: usize, requests: Vec<usize>, key_heads: Range<usize>| {
        let wide = |heads: usize| heads * shape.group() * shape.head;
        let key_columns = key_heads.start * shape.head..key_heads.end * shape.head;
        let caches = requests.iter().map(|request| Cache {
            keys: columns(&inputs.caches[*request].keys, key_columns.clone()),
            values: columns(&inputs.caches[*request].values, key_columns.clone()),
        });
        Device {
            caches: caches.collect(),
            index,
            requests,
            query_columns: wide(key_heads.start)..wide(key_heads.end),
            key_columns,
            head: shape.head,
        }
    };
    match split.partition {
        Partition::Heads => {
            let each = shape.key_heads / split.devices;
            let all: Vec<usize> = (0..shape.requests()).collect();
            (0..split.devices)
                .map(|i| device(i, all.clone(), i * each..(i + 1) * each))
                .collect()
        }
        Partition::Requests => {
            let placed = placed(&shape.cached, split.devices).into_iter().enumerate();
            placed
                .filter(|(_, requests)| !requests.is_empty())
                .map(|(i, requests)| device(i, requests, 0..shape.key_heads))
                .collect()
        }
    }
}

/// Each request in turn, on the device with the fewest tokens so far; the first of several.
fn placed(cached: &[usize], devices: usize) -> Vec<Vec<usize>> {
    // A device beyond the number of requests gets none.
    let mut placed = vec![(0, Vec::new()); devices.min(cached.len())];
    for (request, tokens) in cached.iter().enumerate() {
        if let Some((load, requests)) = placed.iter_mut().min_by_key(|(load, _)| *load) {
            *load += tokens;
            requests.push(request);
        }
    }
    placed.into_iter().map(|(_, requests)| requests).collect()
}

/// A device that has its queries and waits for the new keys and values.
pub(super) struct Started<'a> {
    device: &'a Device,
    queries: Queries,
    /// Attention to the old tokens of each request, where it overlaps with the wait.
    old: Option<Vec<Part>>,
}

impl Device {
    fn key_heads(&self) -> usize {
        self.key_columns.len() / self.head
    }

    /// Takes the queries; with `overlap` attends to the old tokens.
    pub(super) fn start(
        &self,
        kernels: &Kernels,
        queries: Queries,
        overlap: bool,
    ) -> Result<Started<'_>, Error> {
        let old = |(i, cache)| kernels.partial(row(&queries.0, i), cache, self.key_heads());
        let old = overlap.then(|| self.caches.iter().enumerate().map(old).collect());
        Ok(Started {
            device: self,
            old: old.transpose()?,
            queries,
        })
    }

    /// Its heads' columns of the projections, and their rows of the output's.
    pub(super) fn shard(&self, weights: &Weights) -> Weights {
        let rows: Vec<usize> = self.query_columns.clone().collect();
        Weights {
            queries: columns(&weights.queries, self.query_columns.clone()),
            keys: columns(&weights.keys, self.key_columns.clone()),
            values: columns(&weights.values, self.key_columns.clone()),
            output: pick(&weights.output, &rows),
        }
    }

    /// The layer with its projections, for its requests and heads; and how far apart maxima were that it merged.
    pub(super) fn layer(
        &self,
        kernels: &Kernels,
        shard: &Weights,
        Hidden(hidden): &Hidden,
        overlap: bool,
    ) -> Result<(Outputs, f64), Error> {
        let queries = Queries(kernels.product(hidden, &shard.queries)?);
        let new = NewKeyValue {
            keys: kernels.product(hidden, &shard.keys)?,
            values: kernels.product(hidden, &shard.values)?,
        };
        let started = self.start(kernels, queries, overlap)?;
        let (Outputs(heads), apart) = started.finish(kernels, new)?;
        Ok((Outputs(kernels.product(&heads, &shard.output)?), apart))
    }
}

impl Started<'_> {
    /// Takes the new keys and values and finishes attention; also says how far apart maxima were that it merged.
    pub(super) fn finish(
        self,
        kernels: &Kernels,
        new: NewKeyValue,
    ) -> Result<(Outputs, f64), Error> {
        let (device, mut data, mut apart) = (self.device, Vec::new(), 0.0f64);
        for (i, cache) in device.caches.iter().enumerate() {
            let queries = row(&self.queries.0, i);
            let token = Cache {
                keys: pick(&new.keys, &[i]),
                values: pick(&new.values, &[i]),
            };
            data.extend(match &self.old {
                Some(old) => {
                    let parts = [
                        &old[i],
                        &kernels.partial(queries, &token, device.key_heads())?,
                    ];
                    apart = apart.max(parts[0].apart(parts[1]));
                    kernels.merged(&parts)?
                }
                None => kernels.attention(queries, &cache.appended(&token), device.key_heads())?,
            });
        }
        let shape = self.queries.0.shape;
        Ok((Outputs(Array::new(shape, data)), apart))
    }
}

impl Cache {
    fn appended(&self, new: &Cache) -> Cache {
        let both = |old: &Array, new: &Array| {
            let shape = [old.shape[0] + new.shape[0], old.shape[1]];
            Array::new(shape, [old.data.as_slice(), &new.data].concat())
        };
        Cache {
            keys: both(&self.keys, &new.keys),
            values: both(&self.values, &new.values),
        }
    }
}
