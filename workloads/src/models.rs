//! Shapes of published models.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use einflow_spec::{Fields, Library, Node, Problem, Problems, Source};
use include_dir::{Dir, include_dir};

use crate::layer::{Layer, Operator};

static MODELS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/models");

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("model", "ron", crate::library::files(&MODELS)).marked("heads"));

/// Every model file: `bert`, `llama3-8b`, `t5`, ...
pub fn models() -> &'static Library {
    &LIBRARY
}

/// The shape of one layer of a model, and the batch it is run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name, as in the file.
    pub name: String,
    /// Where the shape is published.
    pub cited: String,
    /// A sentence.
    pub description: String,
    /// Sequences run together: rank B.
    pub batch: u64,
    /// Query heads: rank H.
    pub heads: u64,
    /// Key heads: `heads / key_heads` query heads share one; as many as query heads where the file says nothing.
    pub key_heads: u64,
    /// Decoder layers; none where the file describes one layer.
    pub layers: Option<u64>,
    /// Tokens of the vocabulary.
    pub vocabulary: Option<u64>,
    /// Width of a query or key of one head: rank E.
    pub query_width: u64,
    /// Width of a value of one head: rank F.
    pub value_width: u64,
    /// Width of the residual stream: rank D.
    pub model_width: u64,
    /// Width between the two feed-forward products: rank S.
    pub feed_forward_width: u64,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// Every mistake found; only a RON syntax error hides others.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut fields = Fields::new(&node, "a model");
        let text = |node: &Node| node.text().map(str::to_owned);
        let name = fields.need("name", text);
        let cited = fields.need("source", text);
        let description = fields.need("description", text);
        let batch = fields.need("batch", size);
        let heads = fields.need("heads", size);
        let key_heads = fields.get("key_heads", size);
        let layers = fields.get("layers", size);
        let vocabulary = fields.get("vocabulary", size);
        if let (Some(heads), Some(keys)) = (heads, key_heads)
            && !heads.is_multiple_of(keys)
            && let Some(node) = fields.optional("key_heads")
        {
            fields.push(
                node.problem(format!("{heads} query heads over {keys} key heads"))
                    .help("each key head serves as many query heads: a divisor of `heads`"),
            );
        }
        let query_width = fields.need("query_width", size);
        let value_width = fields.need("value_width", size);
        let model_width = fields.need("model_width", size);
        let feed_forward_width = fields.need("feed_forward_width", size);
        let model = || {
            Some(Self {
                name: name?,
                cited: cited?,
                description: description?,
                batch: batch?,
                heads: heads?,
                key_heads: key_heads.or(heads)?,
                layers,
                vocabulary,
                query_width: query_width?,
                value_width: value_width?,
                model_width: model_width?,
                feed_forward_width: feed_forward_width?,
            })
        };
        let model = model();
        fields.finish(model)
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

    /// Sizes of the ranks B, H, E, F, D, S, and of M and P, both `length` tokens long: what
    /// [`crate::cascade::Cascade::sizes`] takes, which also checks the range of `length`.
    pub fn sizes(&self, length: u64) -> BTreeMap<String, u64> {
        let sizes = [
            ("B", self.batch),
            ("H", self.heads),
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

fn size(node: &Node) -> Result<u64, Problem> {
    match node.u64()? {
        0 => Err(node.problem("a size of 0").help("a size is at least 1")),
        size if size > crate::sizes::LARGEST_SIZE => Err(node
            .problem(format!("a size of {size}"))
            .help("sizes go to 2^24")),
        size => Ok(size),
    }
}
