//! The tensors of a cascade: declarations and left sides.

use einflow_spec::{Problems, Span};
use indexmap::IndexMap;

use super::left::{Initial, Left, initial_value, join_initials, left_side};
use super::names::Names;
use crate::cascade::RankId;
use crate::file::CascadeFile;
use crate::statement::Declaration;

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
