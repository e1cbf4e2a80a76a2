//! Left sides: which ranks a statement writes, and the initial values of iterative tensors.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};
use einflow_spec::{Problems, Span};
use indexmap::IndexMap;

use super::names::Names;
use super::tensors::{Draft, shape};
use crate::cascade::RankId;
use crate::statement::Statement;

/// The left side of a statement.
pub(super) enum Left {
    /// `T[m1+1, p]`: ranks, and which one is iterative.
    Main {
        ranks: Vec<RankId>,
        iterative: Option<usize>,
    },
    /// `T[0, p]`: where the 0 stands, and the ranks at the other positions.
    Initial {
        position: usize,
        ranks: Vec<Option<RankId>>,
    },
}

/// An initial value as written.
pub(super) struct Initial {
    position: usize,
    ranks: Vec<Option<RankId>>,
    value: f64,
    span: Span,
}

/// Understands the left side of a statement.
pub(super) fn left_side(
    statement: &Statement,
    names: &Names,
    problems: &mut Problems,
) -> Option<Left> {
    let mut ranks: Vec<Option<RankId>> = Vec::new();
    let mut iterative = None;
    let mut initial = None;
    let mut good = true;
    for (position, index) in statement.indices.iter().enumerate() {
        let rank = match index {
            Expr::Name { name, span } => {
                let rank = names.need_variable(name, *span, problems);
                good &= rank.is_some();
                rank
            }
            Expr::Number { text, .. } if text == "0" && initial.is_none() => {
                initial = Some(position);
                None
            }
            _ => match next_coordinate(index) {
                Some((name, span)) if iterative.is_none() => {
                    iterative = Some(position);
                    let rank = names.need_variable(name, span, problems);
                    good &= rank.is_some();
                    rank
                }
                _ => {
                    good = false;
                    let what = if next_coordinate(index).is_some() {
                        "a second iterative rank on the left".to_owned()
                    } else {
                        format!("`{index}` cannot stand on the left")
                    };
                    problems.push(names.problem(index.span(), what).help(
                        "on the left stand rank variables, at most one of them as `i+1`, or 0 there for the initial value",
                    ));
                    None
                }
            },
        };
        if let Some(rank) = rank
            && ranks.contains(&Some(rank))
        {
            good = false;
            let message = format!("`{}` stands twice on the left", names.rank(rank).variable);
            problems.push(names.problem(index.span(), message));
        }
        ranks.push(rank);
    }
    if !good {
        return None;
    }
    match initial {
        Some(position) if iterative.is_none() => Some(Left::Initial { position, ranks }),
        Some(_) => {
            problems.push(
                names
                    .problem(
                        statement.left_span,
                        "the left side holds both an initial coordinate 0 and `i+1`",
                    )
                    .help("the initial value is a statement of its own"),
            );
            None
        }
        None => Some(Left::Main {
            ranks: ranks.into_iter().flatten().collect(),
            iterative,
        }),
    }
}

/// The variable of `i + 1` or `1 + i`.
pub(super) fn next_coordinate(index: &Expr) -> Option<(&str, Span)> {
    let Expr::Binary {
        op: BinaryOp::Add,
        left,
        right,
        ..
    } = index
    else {
        return None;
    };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Name { name, span }, Expr::Number { text, .. })
        | (Expr::Number { text, .. }, Expr::Name { name, span })
            if text == "1" && !name.starts_with(|c: char| c.is_ascii_uppercase()) =>
        {
            Some((name, *span))
        }
        _ => None,
    }
}

/// Notes the initial value that a statement states.
pub(super) fn initial_value(
    statement: &Statement,
    position: usize,
    ranks: Vec<Option<RankId>>,
    names: &Names,
    initials: &mut IndexMap<String, Initial>,
    problems: &mut Problems,
) {
    let name = &statement.tensor;
    if statement.reduction.is_some() || !statement.conditions.is_empty() {
        problems.push(names.problem(
            statement.span,
            "an initial value has neither a reduction nor conditions",
        ));
    }
    let Some(value) = constant(&statement.right) else {
        problems.push(
            names
                .problem(
                    statement.right.span(),
                    format!("the initial value of `{name}` is not a number"),
                )
                .help("a number, inf or -inf would do"),
        );
        // It is there, though wrong: do not call it missing.
        initials.entry(name.clone()).or_insert(Initial {
            position,
            ranks,
            value: 0.0,
            span: statement.left_span,
        });
        return;
    };
    if initials.contains_key(name) {
        problems.push(names.problem(
            statement.left_span,
            format!("`{name}` has two initial values"),
        ));
        return;
    }
    initials.insert(
        name.clone(),
        Initial {
            position,
            ranks,
            value,
            span: statement.left_span,
        },
    );
}

/// The value of a number, `inf`, or either with a minus.
pub(super) fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Number { text, .. } => text
            .replace('_', "")
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite()),
        Expr::Name { name, .. } if name == "inf" => Some(f64::INFINITY),
        Expr::Unary {
            op: UnaryOp::Neg,
            operand,
            ..
        } => constant(operand).map(|value| -value),
        _ => None,
    }
}

/// Gives each iterative tensor its initial value.
pub(super) fn join_initials(
    initials: IndexMap<String, Initial>,
    names: &Names,
    tensors: &mut IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    for (name, initial) in &initials {
        let Some(tensor) = tensors.get_mut(name) else {
            if !names.broken.contains(&name.to_ascii_lowercase()) {
                problems.push(
                    names
                        .problem(
                            initial.span,
                            format!("`{name}` has an initial value, but no Einsum writes it"),
                        )
                        .help(format!("write its update, `{name}[i+1] = ...`")),
                );
            }
            continue;
        };
        if tensor.broken {
            continue;
        }
        let Some(position) = tensor.iterative else {
            problems.push(
                names
                    .problem(
                        initial.span,
                        format!("`{name}` has an initial value, but no iterative rank"),
                    )
                    .help("write its update as `i+1` on the left, or leave the initial value out"),
            );
            continue;
        };
        let expected: Vec<Option<RankId>> = tensor
            .ranks
            .iter()
            .enumerate()
            .map(|(i, rank)| (i != position).then_some(*rank))
            .collect();
        if initial.position != position || initial.ranks != expected {
            let variables: Vec<&str> = tensor
                .ranks
                .iter()
                .enumerate()
                .map(|(i, rank)| {
                    if i == position {
                        "0"
                    } else {
                        names.rank(*rank).variable.as_str()
                    }
                })
                .collect();
            problems.push(
                names
                    .problem(
                        initial.span,
                        format!("the initial value of `{name}` has other indices than its update"),
                    )
                    .help(format!("write {} = ...", shape(name, &variables))),
            );
        }
        tensor.initial = Some(initial.value);
    }
    for tensor in tensors.values() {
        if let Some(position) = tensor.iterative
            && !initials.contains_key(&tensor.name)
            && !tensor.broken
            && !names.broken.contains(&tensor.name.to_ascii_lowercase())
        {
            let variables: Vec<&str> = tensor
                .ranks
                .iter()
                .enumerate()
                .map(|(i, rank)| {
                    if i == position {
                        "0"
                    } else {
                        names.rank(*rank).variable.as_str()
                    }
                })
                .collect();
            problems.push(
                names
                    .problem(
                        tensor.span,
                        format!(
                            "the iterative tensor `{}` has no initial value",
                            tensor.name
                        ),
                    )
                    .help(format!(
                        "add a statement such as {} = 0",
                        shape(&tensor.name, &variables)
                    )),
            );
        }
    }
}
