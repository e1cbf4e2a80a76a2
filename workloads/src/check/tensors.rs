//! The tensors of a cascade: declarations and left sides.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};
use einflow_spec::{Problems, Span};
use indexmap::IndexMap;

use super::names::Names;
use crate::cascade::RankId;
use crate::file::CascadeFile;
use crate::statement::{Declaration, Statement};

/// A tensor while the cascade is being checked.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub name: String,
    pub ranks: Vec<RankId>,
    pub iterative: Option<usize>,
    pub coordinates_of: Option<RankId>,
    pub input: bool,
    pub output: bool,
    /// The statement that makes it.
    pub statement: Option<usize>,
    pub initial: Option<f64>,
    pub span: Span,
    /// Its ranks could not be understood: reads of it are not checked.
    pub broken: bool,
}

/// The left side of a statement.
enum Left {
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

struct Initial {
    position: usize,
    ranks: Vec<Option<RankId>>,
    value: f64,
    span: Span,
}

/// Collects every tensor of the file: inputs in order, then the others in the order of their statements.
pub(super) fn collect(
    file: &CascadeFile,
    names: &Names,
    problems: &mut Problems,
) -> IndexMap<String, Draft> {
    let mut tensors: IndexMap<String, Draft> = IndexMap::new();
    for input in &file.inputs {
        declare_input(input, names, &mut tensors, problems);
    }
    let mut initials: IndexMap<String, Initial> = IndexMap::new();
    for (number, statement) in file.statements.iter().enumerate() {
        let Some(left) = left_side(statement, names, problems) else {
            // The statement still makes its tensor; only its shape is unknown.
            tensors
                .entry(statement.tensor.clone())
                .or_insert_with(|| Draft {
                    broken: true,
                    ..empty(&statement.tensor, statement.tensor_span)
                });
            continue;
        };
        match left {
            Left::Initial { position, ranks } => {
                initial_value(statement, position, ranks, names, &mut initials, problems);
            }
            Left::Main { ranks, iterative } => {
                if let Some(first) = tensors.get(&statement.tensor) {
                    let problem = if first.input {
                        names
                            .problem(
                                statement.tensor_span,
                                format!("`{}` is an input, it cannot be written", first.name),
                            )
                            .help("choose another name for the result")
                    } else if first.broken {
                        continue;
                    } else {
                        let line = names.source.locate(first.span.start).line;
                        names
                            .problem(
                                statement.tensor_span,
                                format!("`{}` is written twice, first in line {line}", first.name),
                            )
                            .help("a tensor is written by one Einsum")
                    };
                    problems.push(problem);
                    continue;
                }
                names.good_tensor(&statement.tensor, statement.tensor_span, problems);
                let coordinates_of = statement
                    .reduction
                    .as_ref()
                    .filter(|reduction| reduction.operator.0 == "top")
                    .and_then(|reduction| names.variable(&reduction.ranks[0].0));
                let draft = empty(&statement.tensor, statement.tensor_span);
                tensors.insert(
                    statement.tensor.clone(),
                    Draft {
                        ranks,
                        iterative,
                        coordinates_of,
                        statement: Some(number),
                        ..draft
                    },
                );
            }
        }
    }
    for output in &file.outputs {
        declare_output(output, names, &mut tensors, problems);
    }
    join_initials(initials, names, &mut tensors, problems);
    check_clashes(names, &tensors, problems);
    for name in &file.broken {
        tensors.entry(name.clone()).or_insert_with(|| Draft {
            broken: true,
            ..empty(name, Span::default())
        });
    }
    tensors
}

fn empty(name: &str, span: Span) -> Draft {
    Draft {
        name: name.to_owned(),
        ranks: Vec::new(),
        iterative: None,
        coordinates_of: None,
        input: false,
        output: false,
        statement: None,
        initial: None,
        span,
        broken: false,
    }
}

fn declare_input(
    input: &Declaration,
    names: &Names,
    tensors: &mut IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    if tensors.contains_key(&input.name) {
        problems.push(names.problem(
            input.span,
            format!("the input `{}` is declared twice", input.name),
        ));
        return;
    }
    names.good_tensor(&input.name, input.span, problems);
    let mut ranks = Vec::new();
    let mut broken = false;
    for (variable, span) in &input.ranks {
        match names.need_variable(variable, *span, problems) {
            Some(rank) if ranks.contains(&rank) => {
                broken = true;
                problems.push(
                    names
                        .problem(
                            *span,
                            format!("`{variable}` stands twice on `{}`", input.name),
                        )
                        .help(
                            "each rank has its own variable; give both the same size when running",
                        ),
                );
            }
            Some(rank) => ranks.push(rank),
            None => broken = true,
        }
    }
    let coordinates_of = input
        .coordinates_of
        .as_ref()
        .and_then(|(variable, span)| names.need_variable(variable, *span, problems));
    let draft = empty(&input.name, input.span);
    tensors.insert(
        input.name.clone(),
        Draft {
            ranks,
            coordinates_of,
            input: true,
            broken,
            ..draft
        },
    );
}

fn declare_output(
    output: &Declaration,
    names: &Names,
    tensors: &mut IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    if let Some((_, span)) = &output.coordinates_of {
        problems.push(
            names
                .problem(*span, "only an input says whose coordinates it holds")
                .help("leave `-> ...` out"),
        );
    }
    let Some(tensor) = tensors.get_mut(&output.name) else {
        if !names.broken.contains(&output.name.to_ascii_lowercase()) {
            problems.push(
                names
                    .problem(
                        output.span,
                        format!("the output `{}` is not written by any Einsum", output.name),
                    )
                    .help(format!("add a statement `{}[...] = ...`", output.name)),
            );
        }
        return;
    };
    if tensor.output || tensor.input {
        let what = if tensor.output {
            "declared twice"
        } else {
            "an input"
        };
        problems.push(names.problem(
            output.span,
            format!("the output `{}` is {what}", output.name),
        ));
        return;
    }
    tensor.output = true;
    if tensor.broken {
        return;
    }
    let written: Vec<&str> = tensor
        .ranks
        .iter()
        .map(|rank| names.rank(*rank).variable.as_str())
        .collect();
    let declared: Vec<&str> = output
        .ranks
        .iter()
        .map(|(variable, _)| variable.as_str())
        .collect();
    if written != declared {
        let message = format!(
            "the output is declared as {} but written as {}",
            shape(&output.name, &declared),
            shape(&output.name, &written)
        );
        problems.push(
            names
                .problem(output.span, message)
                .help("both name the same rank variables in the same order"),
        );
    }
}

/// `T[i, j]`, or `T` for a scalar.
pub(super) fn shape(name: &str, variables: &[&str]) -> String {
    if variables.is_empty() {
        name.to_owned()
    } else {
        format!("{name}[{}]", variables.join(", "))
    }
}

fn left_side(statement: &Statement, names: &Names, problems: &mut Problems) -> Option<Left> {
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

fn initial_value(
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

fn join_initials(
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

/// A bare name must be either a scalar tensor or a size.
fn check_clashes(names: &Names, tensors: &IndexMap<String, Draft>, problems: &mut Problems) {
    for tensor in tensors.values() {
        if tensor.ranks.is_empty() && !tensor.broken && names.is_size(&tensor.name) {
            let message = format!("`{}` names both a scalar tensor and a size", tensor.name);
            problems.push(
                names
                    .problem(tensor.span, message)
                    .help("choose another name for the tensor"),
            );
        }
    }
}
