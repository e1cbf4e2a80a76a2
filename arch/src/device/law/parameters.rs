//! The parameters of laws: their names in device files, units, ranges and meaning.

/// A parameter of a law.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name in a device file.
    pub name: &'static str,
    /// Its unit: `us`, or nothing for a fraction of the chip's own number.
    pub unit: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Where it may lie.
    pub range: (f64, f64),
    /// Where a fit begins.
    pub start: f64,
}

const fn us(name: &'static str, start: f64, high: f64, about: &'static str) -> Parameter {
    Parameter {
        name,
        unit: "us",
        about,
        range: (1e-3, high),
        start,
    }
}

const fn part(name: &'static str, start: f64, range: (f64, f64), about: &'static str) -> Parameter {
    Parameter {
        name,
        unit: "",
        about,
        range,
        start,
    }
}

const FLOOR: Parameter = us("floor", 6.0, 200.0, "what the smallest launch takes");
const BANDWIDTH: Parameter = part(
    "bandwidth",
    0.85,
    (0.02, 1.5),
    "what a long stream reaches of the memory's peak",
);
const RAMP: Parameter = us(
    "ramp",
    8.0,
    200.0,
    "what a stream far larger than the cache loses until it runs at full speed",
);
const CACHED: Parameter = part(
    "cached",
    1.0,
    (1e-3, 16.0),
    "the share of the cache below which data that was touched before is still there",
);
const CACHE_BANDWIDTH: Parameter = part(
    "cache_bandwidth",
    2.0,
    (0.1, 20.0),
    "what such data come with, in the memory's peak",
);
const THROTTLE: Parameter = part(
    "throttle",
    0.2,
    (1e-3, 0.6),
    "by how much the power limit slows work that keeps the matrix units busy for long",
);
const THROTTLE_AFTER: Parameter = Parameter {
    name: "throttle_after",
    unit: "us",
    about: "the time in which half of that comes",
    // A board averages what it draws over more than this.
    range: (100.0, 1e5),
    start: 500.0,
};

/// Parameters of a matrix product.
pub const PRODUCT: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    part(
        "efficiency",
        0.85,
        (0.05, 2.0),
        "what the largest tile reaches of the matrix units' peak",
    ),
    part(
        "tile_penalty",
        20.0,
        (1e-2, 500.0),
        "by how much smaller tiles do worse: words of a row and a column that cost as much as a multiply",
    ),
    THROTTLE,
    THROTTLE_AFTER,
    us(
        "step",
        1.0,
        20.0,
        "what a wave of tiles takes besides its products",
    ),
    CACHE_BANDWIDTH,
    CACHED,
];

/// Parameters of fused attention over a cache.
pub const DECODE: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    us(
        "head",
        1.0,
        50.0,
        "what a unit takes for a sequence's key head besides its bytes",
    ),
    us(
        "combine",
        2.0,
        100.0,
        "what adding up the parts of a split cache takes",
    ),
    part(
        "unsplit",
        0.85,
        (0.02, 1.5),
        "the bandwidth where there are heads enough and the cache is not split",
    ),
    CACHE_BANDWIDTH,
    CACHED,
];

/// Parameters of fused attention over cached latents.
pub const LATENT: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    part(
        "efficiency",
        0.65,
        (0.02, 1.5),
        "what its products reach of the matrix units' peak",
    ),
];

/// Parameters of fused attention of a prompt.
pub const PREFILL: &[Parameter] = &[
    FLOOR,
    part(
        "efficiency",
        0.8,
        (0.05, 2.0),
        "what the products of a block reach of the matrix units' peak",
    ),
    part(
        "scores",
        0.2,
        (0.01, 10.0),
        "scores that a unit exponentiates, in 2^18 a microsecond",
    ),
    us(
        "row",
        1.5,
        50.0,
        "what a block of queries takes besides its scores",
    ),
    part(
        "imbalance",
        0.8,
        (0.05, 3.0),
        "how much of the longest block of queries is left over at the end of a causal one",
    ),
    THROTTLE,
    THROTTLE_AFTER,
];

/// Parameters of a pass over memory.
pub const PASS: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    us(
        "row",
        0.01,
        20.0,
        "what a wave of rows, one to a unit, takes besides its bytes",
    ),
    CACHE_BANDWIDTH,
    CACHED,
];

/// Parameters of products of a mixture's experts.
pub const GROUPED: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    part(
        "efficiency",
        0.7,
        (0.05, 2.0),
        "what tiles of 128 x 256, of many rows an expert, reach of the matrix units' peak",
    ),
    part(
        "small_tiles",
        0.5,
        (0.05, 2.0),
        "what tiles of 64 x 128, of 128 rows an expert or fewer, reach of it",
    ),
    us(
        "step",
        1.0,
        20.0,
        "what a wave of tiles takes besides its products",
    ),
];

const COMBINE: Parameter = us(
    "combine",
    2.0,
    100.0,
    "what adding up the parts of a split cache takes",
);
const LAUNCH: Parameter = us(
    "launch",
    25.0,
    200.0,
    "what the host takes for each kernel and copy of it, where that is longer",
);

const LAUNCHES: Parameter = us(
    "launches",
    100.0,
    1e4,
    "what the host takes to launch its kernels, where that is longer",
);

/// Parameters of fused attention over unequal caches on matrix units.
pub const RAGGED: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    COMBINE,
    part(
        "alone",
        0.7,
        (0.02, 20.0),
        "what a block of threads streams alone on its unit, in the unit's share of the memory's peak",
    ),
    part(
        "divided",
        1.2,
        (0.02, 20.0),
        "the same where caches are split",
    ),
    part(
        "together",
        1.3,
        (1.0, 8.0),
        "what all blocks of a unit stream together, in what one does alone",
    ),
    LAUNCH,
];

/// Parameters of fused attention over unequal caches on general-purpose units.
pub const RAGGED_CORES: &[Parameter] = &[
    FLOOR,
    BANDWIDTH,
    RAMP,
    COMBINE,
    part(
        "alone",
        1.0,
        (0.02, 20.0),
        "what a block of threads streams alone of one query, in a unit's share of the memory's peak",
    ),
    part(
        "wait",
        0.4,
        (1e-3, 20.0),
        "what each query more of a key head adds to that time, in a unit's time of the stream at the memory's peak",
    ),
    part(
        "work",
        0.2,
        (1e-3, 20.0),
        "what a query keeps its unit busy, in the same",
    ),
    LAUNCH,
];

/// Parameters of fused attention under a mask.
pub const MASKED: &[Parameter] = &[
    LAUNCHES,
    part(
        "efficiency",
        0.5,
        (0.01, 2.0),
        "what a kept block reaches of the matrix units' peak, its exponentials included",
    ),
    us(
        "row",
        1.5,
        50.0,
        "what a block of queries takes besides its kept blocks",
    ),
    us(
        "mask",
        0.5,
        50.0,
        "what a block takes more in which pairs are left out",
    ),
];

/// Parameters of a linear mechanism over a prompt.
pub const CHUNKED: &[Parameter] = &[
    LAUNCHES,
    part(
        "bandwidth",
        0.5,
        (0.01, 1.5),
        "what its kernels together reach of the memory's peak, each operand and state counted once a use",
    ),
];

/// Parameters of a transfer over a link.
pub const TRANSFER: &[Parameter] = &[
    FLOOR,
    part(
        "bandwidth",
        0.8,
        (1e-3, 1.5),
        "what a long message reaches of the link's peak",
    ),
    us(
        "ramp",
        5.0,
        1000.0,
        "what a message far larger than `half` loses until it runs at full speed",
    ),
    part(
        "half",
        1.0,
        (1e-3, 1e3),
        "the message in MiB at which half of that is lost",
    ),
    us(
        "step",
        1.0,
        100.0,
        "what each device beyond two adds to a collective",
    ),
];

/// The most parameters of a law.
pub const MOST: usize = PRODUCT.len();
