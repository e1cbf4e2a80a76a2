//! Shapes of published models.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use einflow_spec::{
    Fields, Key, Library, Name, NumberFormat, Problem, Problems, Record, Source, Stored, by_name,
    did_you_mean, find, named, record,
};
use include_dir::{Dir, include_dir};

use self::forms::{layers, positions, size, window};

mod forms;

static MODELS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/models");

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("model", "ron", crate::library::files(&MODELS)).marked("heads"));

/// Every model file: `bert`, `llama3-8b`, `t5`, ...
pub fn models() -> &'static Library {
    &LIBRARY
}

named! {
    /// The feed-forward layer of a model.
    pub enum FeedForward {
        /// Two products in, one of them through an activation and multiplied onto the other, and one out.
        Gated = "gated",
        /// One product in, an activation, and one out.
        Plain = "plain",
    }
}

named! {
    /// Which products of attention add a bias.
    pub enum AttentionBias {
        /// None.
        None = "none",
        /// Those that make queries, keys and values.
        Inputs = "inputs",
        /// These, and the one out.
        All = "all",
    }
}

/// How a token's position comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// It turns queries and keys.
    Rotary,
    /// It does not.
    None,
    /// Each of so many has an embedding, which is added to the token's.
    Learned(u64),
}

record! {
    /// Keys and values that are made of a narrow latent, which is what the cache holds.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Latent = "a latent" {
        /// Width of the latent that queries are made of.
        pub query_rank: Option<u64> as size => "queries are made of the residual stream";
        /// Width of the latent that keys and values of all heads are made of.
        pub cache_rank: u64 as size;
        /// Of `query_width`, what carries the position: its key is one for all heads, and cached beside the latent.
        pub rope_width: u64 as size;
    }
}

record! {
    /// Linear attention of the delta rule: each head keeps a matrix of `query_width` x `value_width`, and no cache.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Linear = "linear attention" {
        /// Tokens under the short convolution of queries, keys and values.
        pub convolution: Option<u64> as size => "there is none";
        /// Width between the two products of a decay for each channel of the keys.
        pub decay_rank: Option<u64> as size => "one product, a decay for each head";
        /// Width between the two products of the gate on what comes out.
        pub gate_rank: Option<u64> as size => "one product";
    }
}

record! {
    /// Feed-forward layers of which a router chooses some for each token.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Experts = "experts" {
        /// Those that the router chooses from.
        pub routed: u64 as size;
        /// Those that it chooses for a token.
        pub active: u64 as size;
        /// Width between the products of one.
        pub width: u64 as size;
        /// Width between the products of those beside them that work on every token, of all together.
        pub shared_width: Option<u64> as size => "there are none";
    } check |fields| {
        if let (Some(routed), Some(active)) = (routed, active)
            && active > routed
            && let Some(node) = fields.optional("active")
        {
            fields.push(
                node.problem(format!("{active} of {routed} experts work on a token"))
                    .help("`active` is at most `routed`"),
            );
        }
    }
}

record! {
    /// How words are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Formats = "formats" {
        /// Weights, where no other line says otherwise.
        pub weights: Stored = NumberFormat::Bf16.into() => "`bf16`";
        /// Weights of attention.
        pub attention: Option<Stored> => "as `weights`";
        /// Weights of routed experts.
        pub experts: Option<Stored> => "as `weights`";
        /// Weights of routers.
        pub router: Option<Stored> => "as `weights`";
        /// The vocabulary in and out, and learned positions.
        pub embeddings: Option<Stored> => "as `weights`";
        /// What products with weights as narrow take; operators pass bf16 on.
        pub activations: Stored = NumberFormat::Bf16.into() => "`bf16`";
        /// Keys and values of the tokens so far, or their latents.
        pub cache: Stored = NumberFormat::Bf16.into() => "`bf16`";
        /// Matrices of linear attention.
        pub state: Option<Stored> => "as `cache`";
    }
}

impl Default for Formats {
    fn default() -> Self {
        let bf16 = NumberFormat::Bf16.into();
        Self {
            weights: bf16,
            attention: None,
            experts: None,
            router: None,
            embeddings: None,
            activations: bf16,
            cache: bf16,
            state: None,
        }
    }
}

record! {
    /// What is different in some of the layers.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Kind = "a kind of layer" {
        /// Its name.
        pub name: String where Key;
        /// Query heads.
        pub heads: Option<u64> as size => "the model's";
        /// Key heads.
        pub key_heads: Option<u64> as size => "the model's";
        /// Width of a query or key of one head.
        pub query_width: Option<u64> as size => "the model's";
        /// Width of a value of one head.
        pub value_width: Option<u64> as size => "the model's";
        /// The latent of keys and values.
        pub latent: Option<Option<Latent>> => "the model's";
        /// Linear attention in place of a cache.
        pub linear: Option<Option<Linear>> => "the model's";
        /// Tokens that one attends to, itself the last.
        pub window: Option<Option<u64>> as window => "the model's";
        /// Whether each head has a learned score that no key has.
        pub sinks: Option<bool> => "the model's";
        /// Width between the two feed-forward products.
        pub feed_forward_width: Option<u64> as size => "the model's";
        /// Whether two products lead there, or one.
        pub feed_forward: Option<FeedForward> => "the model's";
        /// Experts in place of one feed-forward layer.
        pub experts: Option<Option<Experts>> => "the model's";
    }
}

/// The layers of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layers {
    /// So many, all alike.
    Alike(u64),
    /// So many of each kind, kinds in the order in which they come first.
    Kinds(Vec<(Name, u64)>),
}

record! {
    /// The shape of one layer of a model, and the batch it is run with.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Model = "a model" {
        /// The name, as in the file.
        pub name: String;
        /// Where the shape is published.
        pub cited("source"): String;
        /// A sentence.
        pub description: String;
        /// Sequences run together: rank B.
        pub batch: u64 as size;
        /// Query heads: rank H.
        pub heads: u64 as size;
        /// Key heads: `heads / key_heads` query heads share one.
        pub key_heads: u64 as size = heads.unwrap_or(1) => "as many as query heads";
        /// Decoder layers: how many are alike, or which kinds follow one another.
        pub layers: Option<Layers> as layers => "the file describes one layer";
        /// What is different in some of them, by names that `layers` uses.
        pub kinds: Vec<Kind> as by_name = Vec::new() => "all are alike";
        /// Tokens of the vocabulary.
        pub vocabulary: Option<u64> as size => "not known";
        /// Whether scores of the vocabulary are made with the embedding's weights.
        pub tied_embeddings: bool = false;
        /// How positions come in: they turn queries and keys, not at all, or each of so many has an embedding.
        pub positions: Positions as positions = Positions::Rotary => "`rotary`";
        /// Width of a query or key of one head: rank E.
        pub query_width: u64 as size;
        /// Width of a value of one head: rank F.
        pub value_width: u64 as size;
        /// Width of the residual stream: rank D.
        pub model_width: u64 as size;
        /// Which products of attention add a bias.
        pub attention_bias: AttentionBias = AttentionBias::None => "`none`";
        /// Keys and values that are made of a latent, which is cached in their place.
        pub latent: Option<Latent> => "keys and values are cached";
        /// Linear attention, with a state of fixed size in place of a cache.
        pub linear: Option<Linear> => "attention is softmax's";
        /// Tokens that one attends to, itself the last; a cache holds no more.
        pub window: Option<u64> as size => "all before it";
        /// Whether each head has a learned score that no key has.
        pub sinks: bool = false;
        /// Width between the two feed-forward products: rank S.
        pub feed_forward_width: Option<u64> as size => "every layer has `experts`";
        /// Whether two products lead there, one of them the other's gate, or one.
        pub feed_forward: FeedForward = FeedForward::Gated => "`gated`";
        /// Whether the products of the feed-forward, and a router, add a bias.
        pub feed_forward_bias: bool = false;
        /// Experts in place of one feed-forward layer.
        pub experts: Option<Experts> => "there are none";
        /// How words are kept.
        pub formats: Formats = Formats::default() => "all are `bf16`";
    } check |fields| {
        let whole = Together {
            heads,
            key_heads,
            query_width,
            latent: latent.flatten(),
            linear: linear.flatten(),
            window: window.flatten(),
            feed_forward_width: feed_forward_width.filter(|w| w.is_some() || !fields.has("feed_forward_width")),
            experts: Some(fields.has("experts")),
        };
        // What could not be read says nothing of the rest.
        let kinds = kinds.as_deref().unwrap_or_default();
        if !kinds.is_empty() || !fields.has("kinds") {
            let layers = layers.as_ref().and_then(Option::as_ref);
            if layers.is_some() || !fields.has("layers") {
                named_kinds(fields, layers, kinds);
            }
            match kinds {
                [] => whole.check(fields, None),
                kinds => kinds.iter().for_each(|kind| whole.with(kind).check(fields, Some(&kind.name))),
            }
        }
    }
}

/// Fields that only make sense together; `None` where one could not be read.
#[derive(Clone, Copy)]
struct Together {
    heads: Option<u64>,
    key_heads: Option<u64>,
    query_width: Option<u64>,
    latent: Option<Latent>,
    linear: Option<Linear>,
    window: Option<u64>,
    feed_forward_width: Option<Option<u64>>,
    experts: Option<bool>,
}

impl Together {
    /// What a kind of layer has.
    fn with(self, kind: &Kind) -> Self {
        Self {
            heads: kind.heads.or(self.heads),
            key_heads: kind.key_heads.or(self.key_heads),
            query_width: kind.query_width.or(self.query_width),
            latent: kind.latent.unwrap_or(self.latent),
            linear: kind.linear.unwrap_or(self.linear),
            window: kind.window.unwrap_or(self.window),
            feed_forward_width: kind
                .feed_forward_width
                .map(Some)
                .or(self.feed_forward_width),
            experts: kind
                .experts
                .map(|experts| experts.is_some())
                .or(self.experts),
        }
    }

    /// Tells of what contradicts itself, where `kind` or else the model says it.
    fn check(self, fields: &mut Fields<'_>, kind: Option<&str>) {
        let mut tell = |field: &'static str, message: String, help: &str| {
            let own = kind.and_then(|kind| find(fields.optional("kinds")?, kind).ok());
            let own = own.and_then(|own| find(own, field).ok().or(Some(own)));
            if let Some(node) = own.or(fields.optional(field)) {
                fields.push(node.problem(message).help(help));
            }
        };
        if let (Some(heads), Some(keys)) = (self.heads, self.key_heads)
            && !heads.is_multiple_of(keys)
        {
            let message = format!("{heads} query heads over {keys} key heads");
            tell(
                "key_heads",
                message,
                "each key head serves as many query heads: a divisor of `heads`",
            );
        }
        if let (Some(latent), Some(width)) = (self.latent, self.query_width)
            && latent.rope_width >= width
        {
            let message = format!(
                "positions take {} of a query's width of {width}",
                latent.rope_width
            );
            tell(
                "latent",
                message,
                "`query_width` is that without a position and `rope_width` together",
            );
        }
        if let (Some(_), Some(heads), Some(keys)) = (self.latent, self.heads, self.key_heads)
            && heads != keys
        {
            let message = format!("{keys} key heads of a latent for {heads} query heads");
            tell(
                "key_heads",
                message,
                "each head makes keys of its own from a latent: leave `key_heads` out",
            );
        }
        if self.linear.is_some() && (self.latent.is_some() || self.window.is_some()) {
            let other = if self.latent.is_some() {
                "latent"
            } else {
                "window"
            };
            let message = format!("linear attention with a {other}");
            tell(
                "linear",
                message,
                "it keeps no cache: say one of them, or `()` in the kind that has none",
            );
        }
        if (self.feed_forward_width, self.experts) == (Some(None), Some(false)) {
            match kind {
                None => drop(fields.required("feed_forward_width")),
                Some(kind) => tell(
                    "feed_forward_width",
                    format!("the layers `{kind}` have neither experts nor a `feed_forward_width`"),
                    "give the kind, or the model, one of them",
                ),
            }
        }
    }
}

/// Tells of kinds that are not there, or that no layer is of.
fn named_kinds(fields: &mut Fields<'_>, layers: Option<&Layers>, kinds: &[Kind]) {
    let known = kinds.iter().map(|kind| kind.name.as_str());
    let used: &[(Name, u64)] = match layers {
        Some(Layers::Kinds(used)) => used,
        _ => &[],
    };
    for (name, _) in used {
        if known.clone().all(|known| known != name.text) {
            let message = format!("there is no kind of layer `{}`", name.text);
            let problem = Problem::at(&fields.node().source, name.span, message);
            let help = match kinds {
                [] => r#"describe it: kinds: {"name": (...)}"#.into(),
                _ => did_you_mean(&name.text, known.clone()),
            };
            fields.push(problem.help(help));
        }
    }
    let written = fields.optional("kinds").and_then(|node| node.record().ok());
    for (name, span, _) in written.unwrap_or_default() {
        if kinds.iter().any(|kind| kind.name == *name)
            && used.iter().all(|(used, _)| used.text != *name)
        {
            let message = format!("no layer is of the kind `{name}`");
            let problem = Problem::at(&fields.node().source, *span, message);
            fields.push(problem.help(format!(
                r#"name it in `layers`: layers: [(repeat: 2, of: "{name}")]"#
            )));
        }
    }
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// Every mistake found; only a RON syntax error hides others.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        Self::read_file(source)
    }

    /// Reads a model by its name in the library or by path; `beside` is the folder of the file that named it.
    ///
    /// # Errors
    /// No such model, an unreadable file, or every mistake in it.
    pub fn load(name: &str, beside: Option<&Path>) -> Result<Self, Problems> {
        let (source, _) = models().find(name, beside)?;
        Self::parse(&source)
    }

    /// Decoder layers; `None` where the file describes one.
    pub fn depth(&self) -> Option<u64> {
        match self.layers.as_ref()? {
            Layers::Alike(layers) => Some(*layers),
            Layers::Kinds(kinds) => Some(kinds.iter().map(|(_, layers)| layers).sum()),
        }
    }

    /// The kinds of layers: what each is called (nothing, where all are alike), how many there are (one, where the file
    /// describes one), and a model that has no others.
    pub fn kinds(&self) -> Vec<(&str, u64, Self)> {
        match &self.layers {
            Some(Layers::Kinds(kinds)) => {
                let found = kinds.iter().filter_map(|(name, layers)| {
                    let kind = self.kinds.iter().find(|kind| kind.name == name.text)?;
                    Some((name.text.as_str(), *layers, self.of(kind, *layers)))
                });
                found.collect()
            }
            _ => vec![("", self.depth().unwrap_or(1), self.clone())],
        }
    }

    /// A model all of whose layers are of a kind.
    pub(crate) fn of(&self, kind: &Kind, layers: u64) -> Self {
        let heads = kind.heads.unwrap_or(self.heads);
        Self {
            heads,
            key_heads: kind.key_heads.unwrap_or(self.key_heads),
            query_width: kind.query_width.unwrap_or(self.query_width),
            value_width: kind.value_width.unwrap_or(self.value_width),
            latent: kind.latent.unwrap_or(self.latent),
            linear: kind.linear.unwrap_or(self.linear),
            window: kind.window.unwrap_or(self.window),
            sinks: kind.sinks.unwrap_or(self.sinks),
            feed_forward_width: kind.feed_forward_width.or(self.feed_forward_width),
            feed_forward: kind.feed_forward.unwrap_or(self.feed_forward),
            experts: kind.experts.unwrap_or(self.experts),
            layers: Some(Layers::Alike(layers)),
            kinds: Vec::new(),
            ..self.clone()
        }
    }

    /// Query heads to a key head.
    pub fn group(&self) -> u64 {
        self.heads / self.key_heads.max(1)
    }

    /// Sizes of the ranks B, H, E, F, D, S, of G, the key heads, and of M and P, both `length` tokens long: what
    /// [`crate::cascade::Cascade::sizes`] takes, which also checks the range of `length`. Those of
    /// [`Model::unsized_ranks`] are left out.
    pub fn sizes(&self, length: u64) -> BTreeMap<String, u64> {
        let lacking = self.unsized_ranks();
        let all = self
            .kinds()
            .into_iter()
            .flat_map(|(_, _, model)| model.own_sizes());
        let all = all.chain([("M", length), ("P", length)]);
        all.filter(|(name, _)| !lacking.contains_key(name))
            .map(|(name, size)| (name.to_owned(), size))
            .collect()
    }

    fn own_sizes(&self) -> Vec<(&'static str, u64)> {
        let mut sizes = vec![
            ("B", self.batch),
            ("H", self.heads),
            ("G", self.key_heads),
            ("E", self.query_width),
            ("F", self.value_width),
        ];
        if self.latent.is_none() && self.linear.is_none() {
            sizes.push(("D", self.model_width));
        }
        if let (Some(width), None) = (self.feed_forward_width, self.experts) {
            sizes.push(("S", width));
        }
        sizes
    }

    /// Ranks of cascades that this model has no one size for, and why.
    pub fn unsized_ranks(&self) -> BTreeMap<&'static str, String> {
        let kinds = self.kinds();
        let mut found = BTreeMap::new();
        for rank in ["H", "G", "E", "F", "D", "S"] {
            let of = |model: &Self| {
                model
                    .own_sizes()
                    .into_iter()
                    .find(|(name, _)| *name == rank)
            };
            let sizes: Vec<_> = kinds.iter().map(|(_, _, model)| of(model)).collect();
            let why = |(name, _, model): &(&str, u64, Self)| {
                let named = if name.is_empty() {
                    String::new()
                } else {
                    format!(" in `{name}`")
                };
                match (of(model), rank) {
                    (Some((_, size)), _) => format!("{size}{named}"),
                    (None, "S") => format!("that of each expert{named}"),
                    _ if model.latent.is_some() => {
                        format!("the width of a latent's products{named}")
                    }
                    _ => format!("the width of linear attention's products{named}"),
                }
            };
            if sizes.contains(&None) || sizes.iter().any(|size| *size != sizes[0]) {
                found.insert(rank, kinds.iter().map(why).collect::<Vec<_>>().join(", "));
            }
        }
        found
    }
}
