//! How fields of a model are written.

use einflow_spec::{Fields, Form, Kind, Name, Node, Problems};

use super::{Layers, Positions};

pub(super) fn size() -> Form<u64> {
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

/// A window; `()` is none.
pub(super) fn window() -> Form<Option<u64>> {
    Form {
        value: || format!("{}, or ()", (size().value)()),
        read: |name, node| match node.kind {
            Kind::Empty => Ok(None),
            _ => (size().read)(name, node).map(Some),
        },
    }
}

pub(super) fn positions() -> Form<Positions> {
    Form {
        value: || format!("`rotary`, `none`, or learned: {}", (size().value)()),
        read: |name, node| match &node.kind {
            Kind::Number(_) => (size().read)(name, node).map(Positions::Learned),
            _ => match node.text() {
                Ok("rotary") => Ok(Positions::Rotary),
                Ok("none") => Ok(Positions::None),
                _ => Err(node
                    .expected("`rotary`, `none`, or how many positions have an embedding")
                    .into()),
            },
        },
    }
}

pub(super) fn layers() -> Form<Layers> {
    Form {
        value: || {
            "1 to 2^24, or a list: kinds in order, each a name or `(repeat: 5, of: [...])`".into()
        },
        read: |name, node| match &node.kind {
            Kind::Number(_) => (size().read)(name, node).map(Layers::Alike),
            Kind::List(_) => {
                let mut found = Vec::new();
                in_order(node, 1, &mut found)?;
                let all = found
                    .iter()
                    .try_fold(0u64, |sum, (_, layers)| sum.checked_add(*layers));
                match all {
                    Some(1..=crate::sizes::LARGEST_SIZE) => Ok(Layers::Kinds(found)),
                    Some(0) => Err(node.problem("no layer").help("name at least one").into()),
                    _ => Err(node
                        .problem("too many layers")
                        .help("sizes go to 2^24")
                        .into()),
                }
            }
            _ => Err(node
                .expected("a number of layers, or a list of kinds")
                .into()),
        },
    }
}

/// Adds the layers of a list, so many times, to those found.
fn in_order(list: &Node, times: u64, found: &mut Vec<(Name, u64)>) -> Result<(), Problems> {
    let mut problems = Problems::new();
    let items = match &list.kind {
        Kind::List(items) => &items[..],
        _ => std::slice::from_ref(list),
    };
    for item in items {
        if let Kind::Record(_) = item.kind {
            let mut fields = Fields::new(item, "a repetition");
            let repeat = fields.given("repeat", size()).unwrap_or(1);
            let of = fields.required("of");
            if let Some(of) = problems.absorb(fields.finish(of)) {
                problems.absorb(in_order(of, times.saturating_mul(repeat), found));
            }
            continue;
        }
        match Name::read(item) {
            Err(_) => problems
                .push(item.expected("the name of a kind of layer, or (repeat: 5, of: [...])")),
            Ok(name) => match found.iter_mut().find(|(known, _)| known.text == name.text) {
                Some((_, layers)) => *layers = layers.saturating_add(times),
                None => found.push((name, times)),
            },
        }
    }
    problems.into_result(Some(()))
}
