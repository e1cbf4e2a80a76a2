//! Accelerator files to [`Accelerator`]s.

use einflow_spec::quantity::{
    Bytes, BytesPerSecond, Hertz, Picojoules, Seconds, SquareMicrometres,
};
use einflow_spec::{
    Fields, Kind, Named, Node, NumberFormat, Problem, Problems, Source, Span, did_you_mean,
};
use indexmap::IndexMap;

use crate::check::Fault;
use crate::measure::{BANDWIDTH, BYTES, FREQUENCY, TIME, measure, split, whole};
use crate::{
    Accelerator, Array, Component, Counting, Direction, Latency, Link, Memory, Operator,
    Polynomial, RangeReduction, Registers,
};

impl Accelerator {
    /// Reads an accelerator file.
    ///
    /// # Errors
    /// Every mistake in it, each with its place.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let node = Node::parse(source)?;
        let accelerator = accelerator(&node)?;
        let mut problems = Problems::new();
        for Fault {
            path,
            message,
            help,
        } in accelerator.faults()
        {
            problems.push(Problem::at(source, place(&node, &path), message).help(help));
        }
        problems.into_result(Some(accelerator))
    }
}

/// Where the value at a path stands, or the nearest struct around it.
fn place(node: &Node, path: &str) -> Span {
    let (mut at, mut rest) = (node, Some(path));
    while let Some(path) = rest {
        let Ok(entries) = at.record() else { break };
        let (name, inner) = path
            .split_once('.')
            .map_or((path, None), |(name, inner)| (name, Some(inner)));
        let Some((_, key, value)) = entries.iter().find(|(key, _, _)| key == name) else {
            break;
        };
        if matches!(value.kind, Kind::Record(_)) && inner.is_none() {
            return *key;
        }
        (at, rest) = (value, inner);
    }
    if rest.is_some() && matches!(at.kind, Kind::Record(_)) {
        return Span::new(at.span.start, at.span.start + 1);
    }
    at.span
}

fn accelerator(node: &Node) -> Result<Accelerator, Problems> {
    let mut fields = Fields::new(node, "an accelerator");
    let name = fields.need("name", text);
    let description = fields.need("description", text);
    let cited = fields.need("source", text);
    let clock = fields.need("clock", |n| measure(n, FREQUENCY));
    let word = fields.need("word", |n| choice(n, &NumberFormat::narrowest_first()));
    let counting = fields.get("counting", |n| choice(n, Counting::ALL));
    let memories = fields.need_all("memories", |n| named(n, memory));
    let arrays = fields.need_all("arrays", |n| named(n, array));
    let source = node.source.clone();
    let value = (|| {
        Some(Accelerator {
            name: name?,
            cited: cited?,
            description: description?,
            source,
            clock: Hertz(clock?),
            word: word?,
            counting: counting.unwrap_or(Counting::Physical),
            memories: memories?.into_values().collect(),
            arrays: arrays?.into_values().collect(),
        })
    })();
    fields.finish(value)
}

fn memory(name: &str, node: &Node) -> Result<Memory, Problems> {
    let mut fields = Fields::new(node, "a memory");
    let cited = fields.need("source", text);
    let capacity = fields.need("capacity", |n| match &n.kind {
        Kind::Word(word) if word == "unbounded" => Ok(None),
        Kind::Word(_) => Err(n
            .expected("a number of bytes")
            .help("such as 16384, \"16 KiB\" or unbounded")),
        _ => whole(n, BYTES).map(|bytes| Some(Bytes(u128::from(bytes)))),
    });
    let row = fields.need("row", |n| whole(n, BYTES));
    let banks = fields.get("banks", Node::u64);
    let ports = fields.get("ports", Node::u64);
    let bandwidth = fields.get("bandwidth", |n| measure(n, BANDWIDTH));
    let latency = fields.need("latency", latency);
    let outstanding = fields.get("outstanding", Node::u64);
    let read_energy = fields.need("read_energy", Node::f64);
    let write_energy = fields.need("write_energy", Node::f64);
    let area = fields.get("area", Node::f64);
    let area_per_bit = fields.get("area_per_bit", Node::f64);
    if fields.optional("area").is_some() == fields.optional("area_per_bit").is_some()
        && node.record().is_ok()
    {
        let at = Span::new(node.span.start, node.span.start + 1);
        let problem = Problem::at(
            &node.source,
            at,
            "a memory has either `area` or `area_per_bit`",
        );
        fields.push(
            problem.help("`area` is the whole memory's, in um^2; 0 for a memory off the chip"),
        );
    }
    let value = (|| {
        let mut memory = Memory {
            name: name.to_string(),
            cited: cited?,
            capacity: capacity?,
            row: Bytes(u128::from(row?)),
            banks: banks.unwrap_or(1),
            ports: ports.unwrap_or(1),
            bandwidth: bandwidth.map(BytesPerSecond),
            latency: latency?,
            outstanding,
            read_energy: Picojoules(read_energy?),
            write_energy: Picojoules(write_energy?),
            area: SquareMicrometres(area.unwrap_or(0.0)),
            area_per_bit: area_per_bit.map(SquareMicrometres),
        };
        memory.derive_area();
        Some(memory)
    })();
    fields.finish(value)
}

fn array(name: &str, node: &Node) -> Result<Array, Problems> {
    let mut fields = Fields::new(node, "an array");
    let cited = fields.need("source", text);
    let rows = fields.need("rows", Node::u64);
    let columns = fields.need("columns", Node::u64);
    let components = fields.need_all("components", |n| named(n, |_, n| component(n)));
    let operators = fields.need_all("operators", |n| named(n, |_, n| operator(n)));
    let registers = fields.need_all("registers", registers);
    let links = fields.get_all("links", |n| named(n, link));
    let control_energy = fields.get("control_energy", Node::f64);
    let value = (|| {
        Some(Array {
            name: name.to_string(),
            cited: cited?,
            rows: rows?,
            columns: columns?,
            operators: operators?,
            components: components?,
            registers: registers?,
            links: links.unwrap_or_default().into_values().collect(),
            control_energy: Picojoules(control_energy.unwrap_or(0.0)),
        })
    })();
    fields.finish(value)
}

fn component(node: &Node) -> Result<Component, Problems> {
    let mut fields = Fields::new(node, "a component");
    let cited = fields.need("source", text);
    let energy = fields.need("energy", Node::f64);
    let area = fields.need("area", Node::f64);
    let count = fields.get("count", Node::u64);
    let value = (|| {
        Some(Component {
            cited: cited?,
            energy: Picojoules(energy?),
            area: SquareMicrometres(area?),
            count: count.unwrap_or(1),
        })
    })();
    fields.finish(value)
}

fn operator(node: &Node) -> Result<Operator, Problems> {
    let mut fields = Fields::new(node, "an operator");
    // An operator's numbers may have a source of their own; otherwise the array's covers them.
    fields.get("source", text);
    let cycles = fields.need("cycles", Node::u64);
    let actions = fields.need_all("actions", |n| named(n, |_, n| Ok(n.u64()?)));
    let register_reads = fields.need("register_reads", Node::u64);
    let register_writes = fields.need("register_writes", Node::u64);
    let computes = fields.get_all("computes", polynomial);
    let value = (|| {
        Some(Operator {
            cycles: cycles?,
            actions: actions?.into_iter().collect(),
            register_reads: register_reads?,
            register_writes: register_writes?,
            computes,
        })
    })();
    fields.finish(value)
}

fn polynomial(node: &Node) -> Result<Polynomial, Problems> {
    let mut fields = Fields::new(node, "a computation");
    let coefficients = fields.need("polynomial", |n| {
        let items = n
            .list()
            .map_err(|p| p.help("coefficients, of the power 0 first, such as [1, 1, 0.5]"))?;
        items.iter().map(Node::f64).collect::<Result<Vec<_>, _>>()
    });
    let reduction = fields.get("reduction", |n| choice(n, RangeReduction::ALL));
    let value = coefficients.map(|coefficients| Polynomial {
        coefficients,
        reduction,
    });
    fields.finish(value)
}

fn registers(node: &Node) -> Result<Registers, Problems> {
    let mut fields = Fields::new(node, "a register file");
    let cited = fields.need("source", text);
    let words = fields.need("words", Node::u64);
    let read_energy = fields.need("read_energy", Node::f64);
    let write_energy = fields.need("write_energy", Node::f64);
    let area = fields.need("area", Node::f64);
    let value = (|| {
        Some(Registers {
            cited: cited?,
            words: words?,
            read_energy: Picojoules(read_energy?),
            write_energy: Picojoules(write_energy?),
            area: SquareMicrometres(area?),
        })
    })();
    fields.finish(value)
}

fn link(name: &str, node: &Node) -> Result<Link, Problems> {
    let mut fields = Fields::new(node, "a link");
    fields.get("source", text);
    let from = fields.get("from", text);
    let to = fields.get("to", text);
    let direction = fields.need("direction", |n| choice(n, Direction::ALL));
    let words_per_cycle = fields.get("words_per_cycle", Node::u64);
    let latency = fields.get("latency", Node::u64);
    let multicast = fields.get("multicast", Node::bool);
    let reduce = fields.get("reduce", Node::bool);
    let energy = fields.get("energy", Node::f64);
    let value = (|| {
        Some(Link {
            name: name.to_string(),
            from,
            to,
            direction: direction?,
            words_per_cycle: words_per_cycle.unwrap_or(1),
            latency: latency.unwrap_or(1),
            multicast: multicast.unwrap_or(false),
            reduce: reduce.unwrap_or(false),
            energy: Picojoules(energy.unwrap_or(0.0)),
        })
    })();
    fields.finish(value)
}

/// The entries of a map from names, each decoded by `read`.
pub(crate) fn named<T>(
    node: &Node,
    read: impl Fn(&str, &Node) -> Result<T, Problems>,
) -> Result<IndexMap<String, T>, Problems> {
    let mut problems = Problems::new();
    let mut entries = IndexMap::new();
    let mut seen = Vec::new();
    for (name, at, value) in node
        .record()
        .map_err(|p| p.help("written as {\"name\": (...), ...}"))?
    {
        if seen.contains(&name) {
            let problem = Problem::at(&node.source, *at, format!("`{name}` is given twice"));
            problems.push(problem.help("names are distinct"));
        }
        seen.push(name);
        if let Some(value) = problems.absorb(read(name, value)) {
            entries.insert(name.clone(), value);
        }
    }
    problems.into_result(Some(entries))
}

/// A string that says something.
pub(crate) fn text(node: &Node) -> Result<String, Problem> {
    let text = node.text()?;
    if text.trim().is_empty() {
        Err(node.expected("a text that is not empty"))
    } else {
        Ok(text.to_string())
    }
}

fn choice<T: Named>(node: &Node, all: &[T]) -> Result<T, Problem> {
    let known: Vec<&str> = all.iter().map(|value| value.name()).collect();
    let text = node
        .text()
        .map_err(|p| p.help(format!("known: {}", known.join(", "))))?;
    let found = all.iter().find(|value| value.name() == text);
    found.copied().ok_or_else(|| {
        node.problem(format!("`{text}` is not known here"))
            .help(did_you_mean(text, known))
    })
}

/// `4` or `"4 cycles"` in cycles, `"300 ns"` in time.
fn latency(node: &Node) -> Result<Latency, Problem> {
    let Kind::Text(text, _) = &node.kind else {
        return node.u64().map(Latency::Cycles);
    };
    match split(text) {
        Some((number, "cycles" | "cycle")) => number
            .parse()
            .map(Latency::Cycles)
            .map_err(|_| node.expected("a whole number of cycles")),
        _ => measure(node, TIME)
            .map(|time| Latency::Seconds(Seconds(time)))
            .map_err(|problem| {
                problem.help("such as \"300 ns\" or \"4 cycles\"; units: cycles, s, ms, us, ns, ps")
            }),
    }
}
