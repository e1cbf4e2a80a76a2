//! What is read otherwise than by its type.

use std::path::Path;

use einflow_spec::{
    FieldRow, Fields, Form, Kind, Node, Part, Problem, Problems, Record, Source, Written,
    expr::Expr, record,
};

use super::{
    BindingSpec, Choice, KeepSpec, MappingSpec, Name, NestSpec, PlaceSpec, Room, SizeRule,
};

impl MappingSpec {
    /// Reads a mapping file. `beside` is its folder, where it has one: files that it names are
    /// looked for there first.
    ///
    /// # Errors
    /// Every mistake in the file's form; what the names mean is checked when the mapping is bound.
    pub fn parse(source: &Source, beside: Option<&Path>) -> Result<Self, Problems> {
        Self::read_beside(&Node::parse(source)?, beside)
    }
}

record! {
    /// The Einsums of a block, in one nest or in several.
    pub(super) struct Either = "the Einsums of a block" {
        /// The Einsums, in order, each named by its output.
        pub einsums: Option<Vec<(Name, BindingSpec)>> => "`nests` is given";
        /// In place of `einsums`: groups with loops of their own, `(loops, keep, einsums)`, one after another inside the block's loops.
        pub nests: Option<Vec<NestSpec>> => "`einsums` is given";
    }
}

impl Part<Vec<NestSpec>> for Either {
    fn take(fields: &mut Fields<'_>) -> Option<Vec<NestSpec>> {
        let Either { einsums, nests } = Record::take(fields)?;
        let one = |einsums| {
            vec![NestSpec {
                loops: Vec::new(),
                keep: Vec::new(),
                einsums,
            }]
        };
        einsums.map(one).or(nests)
    }

    fn fields() -> Vec<FieldRow> {
        <Self as Record>::fields()
    }
}

record! {
    /// A size by a rule.
    struct RuledSize = "a size" {
        /// The rule.
        pub rule: Name;
        /// The memory that tiles have to fit.
        pub memory: Option<Name> => "all of them";
        /// Bytes of it that they may take.
        pub within: Option<Expr> => "the memory's capacity";
    }
}

impl Written for SizeRule {
    fn form() -> Form<Self> {
        Form {
            value: || "a size".into(),
            read: |_, node| size_rule(node),
        }
    }
}

const RULES: &str =
    "a number, an expression as a string, largest_divisor_that_fits, largest_that_fits or searched";

fn size_rule(node: &Node) -> Result<SizeRule, Problems> {
    let by_word = |word: &str, room: Room| match word {
        "largest_divisor_that_fits" => Some(SizeRule::LargestDivisorThatFits(room)),
        "largest_that_fits" => Some(SizeRule::LargestThatFits(room)),
        "searched" => Some(SizeRule::Searched),
        _ => None,
    };
    let unknown = |word: &str, span| {
        Problem::at(
            &node.source,
            span,
            format!("`{word}` is no rule for a size"),
        )
        .help(RULES)
    };
    match &node.kind {
        Kind::Word(word) => {
            by_word(word, Room::default()).ok_or_else(|| unknown(word, node.span).into())
        }
        Kind::Number(text) if text.starts_with('-') => Err(node
            .problem(format!("{text} is a negative size"))
            .help("sizes are at least 1")
            .into()),
        Kind::Record(_) => {
            let RuledSize {
                rule,
                memory,
                within,
            } = RuledSize::read("", node)?;
            let found = by_word(&rule.text, Room { memory, within });
            found.ok_or_else(|| unknown(&rule.text, rule.span).into())
        }
        _ => Ok(SizeRule::Expr(Expr::read(node)?)),
    }
}

pub(super) fn keeps() -> Form<Vec<KeepSpec>> {
    Form {
        value: || "map from tensors: list: a place".into(),
        read: |name, node| {
            let keeps: Vec<(Name, Choice<Vec<PlaceSpec>>)> = (Written::form().read)(name, node)?;
            let keep = |(tensor, places)| KeepSpec { tensor, places };
            Ok(keeps.into_iter().map(keep).collect())
        },
    }
}

pub(super) fn buffers() -> Form<u64> {
    Form {
        value: || "1 or 2".into(),
        read: |_, node| match node.u64()? {
            count @ 1..=2 => Ok(count),
            _ => Err(node
                .expected("1 (single-buffered) or 2 (double-buffered)")
                .into()),
        },
    }
}

pub(super) fn freed_by() -> Form<bool> {
    Form {
        value: || "`tile`, `row`".into(),
        read: |_, node| match node.text()? {
            "tile" => Ok(false),
            "row" => Ok(true),
            _ => Err(node.expected("tile or row").into()),
        },
    }
}

pub(super) fn spills() -> Form<bool> {
    Form {
        value: || "`around`, `through`".into(),
        read: |_, node| match node.text()? {
            "around" => Ok(false),
            "through" => Ok(true),
            _ => Err(node.expected("around or through").into()),
        },
    }
}
