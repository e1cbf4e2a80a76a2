//! Shapes of published models.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use einflow_spec::{Form, Library, Problems, Record, Source, named, record};
use include_dir::{Dir, include_dir};

use crate::layer::{Layer, Operator};

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
        /// Decoder layers.
        pub layers: Option<u64> as size => "the file describes one layer";
        /// Tokens of the vocabulary.
        pub vocabulary: Option<u64> as size => "not known";
        /// Width of a query or key of one head: rank E.
        pub query_width: u64 as size;
        /// Width of a value of one head: rank F.
        pub value_width: u64 as size;
        /// Width of the residual stream: rank D.
        pub model_width: u64 as size;
        /// Width between the two feed-forward products: rank S.
        pub feed_forward_width: u64 as size;
        /// Whether two products lead there, one of them the other's gate, or one.
        pub feed_forward: FeedForward = FeedForward::Gated => "`gated`";
    } check |fields| {
        if let (Some(heads), Some(keys)) = (heads, key_heads)
            && !heads.is_multiple_of(keys)
            && let Some(node) = fields.optional("key_heads")
        {
            fields.push(
                node.problem(format!("{heads} query heads over {keys} key heads"))
                    .help("each key head serves as many query heads: a divisor of `heads`"),
            );
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

    /// Words of all weights: decoder layers, and the vocabulary in and out. `None` on overflow, or where the file describes one
    /// layer only.
    pub fn weights(&self) -> Option<u64> {
        let layer = self.layer(1, 1);
        let ends = layer.head()?.weights()?.checked_mul(2)?;
        layer
            .weights(&Layer::OPERATORS)?
            .checked_mul(self.layers?)?
            .checked_add(ends)
    }

    /// Words of the weights of attention's projections, in all layers. `None` as for [`Model::weights`].
    pub fn attention_weights(&self) -> Option<u64> {
        let projections = [Operator::QueryKeyValue, Operator::Output];
        self.layer(1, 1)
            .weights(&projections)?
            .checked_mul(self.layers?)
    }

    /// Words of a token's keys and values in all layers.
    pub fn cache_words(&self) -> Option<u64> {
        self.layer(1, 1).keys_values().checked_mul(self.layers?)
    }

    /// Query heads to a key head.
    pub fn group(&self) -> u64 {
        self.heads / self.key_heads.max(1)
    }

    /// Sizes of the ranks B, H, E, F, D, S, of G, the key heads, and of M and P, both `length` tokens long: what
    /// [`crate::cascade::Cascade::sizes`] takes, which also checks the range of `length`.
    pub fn sizes(&self, length: u64) -> BTreeMap<String, u64> {
        let sizes = [
            ("B", self.batch),
            ("H", self.heads),
            ("G", self.key_heads),
            ("E", self.query_width),
            ("F", self.value_width),
            ("D", self.model_width),
            ("S", self.feed_forward_width),
            ("M", length),
            ("P", length),
        ];
        sizes
            .into_iter()
            .map(|(name, size)| (name.to_owned(), size))
            .collect()
    }
}

fn size() -> Form<u64> {
    Form {
        value: || "1 to 2^24".into(),
        read: |_, node| match node.u64()? {
            0 => Err(node
                .problem("a size of 0")
                .help("a size is at least 1")
                .into()),
            size if size > crate::sizes::LARGEST_SIZE => Err(node
                .problem(format!("a size of {size}"))
                .help("sizes go to 2^24")
                .into()),
            size => Ok(size),
        },
    }
}
