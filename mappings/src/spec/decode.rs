use std::path::Path;

use einflow_spec::{Fields, Kind, Node, Problem, Problems, Source, expr::Expr};

use super::{
    BindingSpec, BlockSpec, Choice, KeepSpec, MappingSpec, Name, NestSpec, PhaseSpec, PipelineSpec,
    PlaceSpec, Room, SizeRule, Table,
};

impl MappingSpec {
    /// Reads a mapping file. `beside` is its folder, where it has one: files that it names are
    /// looked for there first.
    ///
    /// # Errors
    /// Every mistake in the file's form; what the names mean is checked when the mapping is bound.
    pub fn parse(source: &Source, beside: Option<&Path>) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let mut f = Fields::new(&node, "a mapping");
        let own_name = f.need("name", |n| Ok(n.text()?.to_string()));
        let cited = f.need("source", |n| Ok(n.text()?.to_string()));
        let description = f
            .get("description", |n| Ok(n.text()?.to_string()))
            .unwrap_or_default();
        let workload = f.need("workload", name);
        let accelerator = f.get("accelerator", name);
        let published = f.get("published", name);
        let table = f.get_all("table", |n| Table::decode(n, beside));
        let sizes = f
            .get_all("sizes", |n| entries(n, &|n| Choice::decode(n, &size_rule)))
            .unwrap_or_default();
        let splits = f
            .get_all("splits", |n| entries(n, &names))
            .unwrap_or_default();
        let blocks = f.need_all("blocks", |n| list(n, &block));
        if blocks.as_ref().is_some_and(Vec::is_empty) {
            f.push(
                node.problem("a mapping without blocks maps nothing")
                    .help("add one block for each fused group of Einsums"),
            );
        }
        let value = (|| {
            Some(MappingSpec {
                name: own_name?,
                cited: cited?,
                description,
                source: source.clone(),
                workload: workload?,
                accelerator,
                published,
                table,
                sizes,
                splits,
                blocks: blocks?,
            })
        })();
        f.finish(value)
    }
}

pub(super) fn name(node: &Node) -> Result<Name, Problem> {
    Ok(Name {
        text: node.text()?.to_string(),
        span: node.span,
    })
}

fn names(node: &Node) -> Result<Vec<Name>, Problems> {
    list(node, &|n| Ok(name(n)?))
}

fn list<T>(node: &Node, read: &dyn Fn(&Node) -> Result<T, Problems>) -> Result<Vec<T>, Problems> {
    let mut problems = Problems::new();
    let items = node
        .list()?
        .iter()
        .filter_map(|n| problems.absorb(read(n)))
        .collect();
    problems.into_result(Some(items))
}

fn entries<T>(
    node: &Node,
    read: &dyn Fn(&Node) -> Result<T, Problems>,
) -> Result<Vec<(Name, T)>, Problems> {
    let mut problems = Problems::new();
    let mut out: Vec<(Name, T)> = Vec::new();
    for (key, span, value) in node.record()? {
        if out.iter().any(|(other, _)| other.text == *key) {
            problems.push(
                Problem::at(&node.source, *span, format!("`{key}` is given twice"))
                    .help("keep one of them"),
            );
        }
        if let Some(value) = problems.absorb(read(value)) {
            out.push((
                Name {
                    text: key.clone(),
                    span: *span,
                },
                value,
            ));
        }
    }
    problems.into_result(Some(out))
}

fn expression(node: &Node) -> Result<Expr, Problem> {
    match &node.kind {
        Kind::Number(text) => Ok(Expr::Number {
            text: text.clone(),
            span: node.span,
        }),
        _ => Expr::parse(&node.source, node.text()?, node.text_start()),
    }
}

fn size_rule(node: &Node) -> Result<SizeRule, Problems> {
    const RULES: &str = "a number, an expression as a string, largest_divisor_that_fits, largest_that_fits or searched";
    let by_word = |word: &str, room: Room| match word {
        "largest_divisor_that_fits" => Some(SizeRule::LargestDivisorThatFits(room)),
        "largest_that_fits" => Some(SizeRule::LargestThatFits(room)),
        "searched" => Some(SizeRule::Searched),
        _ => None,
    };
    match &node.kind {
        Kind::Word(word) => by_word(word, Room::default()).ok_or_else(|| {
            node.problem(format!("`{word}` is no rule for a size"))
                .help(RULES)
                .into()
        }),
        Kind::Number(text) if text.starts_with('-') => Err(node
            .problem(format!("{text} is a negative size"))
            .help("sizes are at least 1")
            .into()),
        Kind::Record(_) => {
            let mut f = Fields::new(node, "a size");
            let rule = f.need("rule", name);
            let memory = f.get("memory", name);
            let within = f.get("within", expression);
            let rule = rule.and_then(|rule| {
                let found = by_word(&rule.text, Room { memory, within });
                if found.is_none() {
                    f.push(
                        Problem::at(
                            &node.source,
                            rule.span,
                            format!("`{}` is no rule for a size", rule.text),
                        )
                        .help(RULES),
                    );
                }
                found
            });
            f.finish(rule)
        }
        _ => Ok(SizeRule::Expr(expression(node)?)),
    }
}

fn block(node: &Node) -> Result<BlockSpec, Problems> {
    let mut f = Fields::new(node, "a block");
    let own_name = f.need("name", |n| Ok(n.text()?.to_string()));
    let loops = f.get_all("loops", names).unwrap_or_default();
    let sizes = f
        .get_all("sizes", |n| entries(n, &|n| Choice::decode(n, &size_rule)))
        .unwrap_or_default();
    let splits = f
        .get_all("splits", |n| entries(n, &names))
        .unwrap_or_default();
    let searched_loops = f.get_all("searched_loops", names).unwrap_or_default();
    let keep = f.get_all("keep", keeps).unwrap_or_default();
    let einsums = f.get_all("einsums", bindings);
    let nests = f.get_all("nests", |n| list(n, &nest));
    let phases = f.get_all("phases", |n| list(n, &phase)).unwrap_or_default();
    let interleave = f
        .get_all("interleave", |n| list(n, &names))
        .unwrap_or_default();
    let pipeline = f.get_all("pipeline", pipeline);
    let skip_empty = f.get("skip_empty", Node::bool).unwrap_or(false);
    let nests = match (einsums, nests) {
        (Some(einsums), None) => Some(vec![NestSpec {
            loops: Vec::new(),
            keep: Vec::new(),
            einsums,
        }]),
        (None, Some(nests)) => Some(nests),
        (None, None) => {
            if node
                .record()
                .is_ok_and(|r| !r.iter().any(|(k, _, _)| k == "einsums" || k == "nests"))
            {
                f.push(
                    node.problem("a block has neither `einsums` nor `nests`")
                        .help("give one of the two"),
                );
            }
            None
        }
        (Some(_), Some(_)) => {
            f.push(
                node.problem("a block has both `einsums` and `nests`")
                    .help("give one of the two"),
            );
            None
        }
    };
    let value = own_name.zip(nests).map(|(name, nests)| BlockSpec {
        name,
        loops,
        sizes,
        splits,
        searched_loops,
        keep,
        nests,
        phases,
        interleave,
        pipeline,
        skip_empty,
        span: node.span,
    });
    f.finish(value)
}

fn nest(node: &Node) -> Result<NestSpec, Problems> {
    let mut f = Fields::new(node, "a nest");
    let loops = f.get_all("loops", names).unwrap_or_default();
    let keep = f.get_all("keep", keeps).unwrap_or_default();
    let einsums = f.need_all("einsums", bindings);
    let value = einsums.map(|einsums| NestSpec {
        loops,
        keep,
        einsums,
    });
    f.finish(value)
}

fn bindings(node: &Node) -> Result<Vec<(Name, BindingSpec)>, Problems> {
    entries(node, &binding)
}

fn binding(node: &Node) -> Result<BindingSpec, Problems> {
    let optional_name = |n: &Node| match n.kind {
        Kind::Empty => Ok(None),
        _ => Ok(Some(name(n)?)),
    };
    let mut f = Fields::new(node, "an Einsum's binding");
    let unit = f.need("unit", name);
    let rows = f
        .get_all("rows", |n| Choice::decode(n, &optional_name))
        .unwrap_or(Choice::Fixed(None));
    let columns = f
        .get_all("columns", |n| Choice::decode(n, &optional_name))
        .unwrap_or(Choice::Fixed(None));
    let loops = f
        .get_all("loops", |n| Choice::decode(n, &names))
        .unwrap_or(Choice::Fixed(Vec::new()));
    let at_exit_of = f.get("at_exit_of", name);
    let chain = f.get_all("chain", names).unwrap_or_default();
    let from = f
        .get_all("from", |n| entries(n, &|n| Ok(name(n)?)))
        .unwrap_or_default();
    let partials = f.get("partials", name);
    let value = unit.map(|unit| BindingSpec {
        unit,
        rows,
        columns,
        loops,
        at_exit_of,
        chain,
        from,
        partials,
    });
    f.finish(value)
}

fn keeps(node: &Node) -> Result<Vec<KeepSpec>, Problems> {
    let places = entries(node, &|n| Choice::decode(n, &|n| list(n, &place)))?;
    Ok(places
        .into_iter()
        .map(|(tensor, places)| KeepSpec { tensor, places })
        .collect())
}

fn place(node: &Node) -> Result<PlaceSpec, Problems> {
    let mut f = Fields::new(node, "a place");
    let memory = f.need("memory", name);
    let below = f.get("below", name);
    let buffers = f.get("buffers", |n| match n.u64()? {
        count @ 1..=2 => Ok(count),
        _ => Err(n.expected("1 (single-buffered) or 2 (double-buffered)")),
    });
    let freed_by_row = f.get("freed_by", |n| match n.text()? {
        "tile" => Ok(false),
        "row" => Ok(true),
        _ => Err(n.expected("tile or row")),
    });
    let share = f.get("share", expression);
    let spills_through = f.get("spills", |n| match n.text()? {
        "around" => Ok(false),
        "through" => Ok(true),
        _ => Err(n.expected("around or through")),
    });
    let in_place_of = f.get("in_place_of", name);
    let optional = f.get("optional", Node::bool);
    let value = memory.map(|memory| PlaceSpec {
        memory,
        below,
        buffers: buffers.unwrap_or(1),
        freed_by_row: freed_by_row.unwrap_or(false),
        share,
        spills_through: spills_through.unwrap_or(false),
        in_place_of,
        optional: optional.unwrap_or(false),
    });
    f.finish(value)
}

fn phase(node: &Node) -> Result<PhaseSpec, Problems> {
    let mut f = Fields::new(node, "a phase");
    let own_name = f.need("name", |n| Ok(n.text()?.to_string()));
    let einsums = f.need_all("einsums", names);
    let drain = f.get("drain", expression);
    let value = own_name.zip(einsums).map(|(name, einsums)| PhaseSpec {
        name,
        einsums,
        drain,
    });
    f.finish(value)
}

fn pipeline(node: &Node) -> Result<PipelineSpec, Problems> {
    let mut f = Fields::new(node, "a pipeline");
    let offsets = f.need_all("offsets", |n| entries(n, &|n| Ok(n.u64()?)));
    let drains_at = f.get("drains_at", name);
    let value = offsets.map(|offsets| PipelineSpec { offsets, drains_at });
    f.finish(value)
}
