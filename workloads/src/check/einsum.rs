//! One Einsum: its right side, reduction and conditions.

use einflow_spec::expr::{BinaryOp, Expr};
use einflow_spec::{Problems, did_you_mean};
use indexmap::{IndexMap, IndexSet};

use super::names::Names;
use super::right::Resolver;
use super::tensors::Draft;
use crate::cascade::{Einsum, Index, Map, RankId, ReadTime, Reduce, TensorId};
use crate::statement::{Reduction, Statement};

/// Resolves one statement. Problems found are added to `problems`; `None` where it cannot be used.
pub(super) fn resolve(
    statement: &Statement,
    output: usize,
    names: &Names,
    tensors: &IndexMap<String, Draft>,
    problems: &mut Problems,
) -> Option<Einsum> {
    let before = problems.len();
    let mut resolver = Resolver {
        names,
        tensors,
        output,
        reads: Vec::new(),
        texts: IndexMap::new(),
        seen: IndexSet::new(),
        problems,
    };
    let map = resolver.map(&statement.right);
    let on_the_right = resolver.seen.clone();
    let conditions = resolver.conditions(&statement.conditions);
    let Resolver { reads, seen, .. } = resolver;
    if problems.len() > before {
        return None;
    }
    let map = map?;
    let draft = &tensors[output];
    let populated = statement
        .reduction
        .as_ref()
        .and_then(|r| r.into.as_ref())
        .and_then(|(name, _)| names.variable(name));
    for rank in &draft.ranks {
        let variable = &names.rank(*rank).variable;
        if !seen.contains(rank) && populated != Some(*rank) {
            problems.push(
                names
                    .problem(
                        statement.left_span,
                        format!("`{variable}` stands on the left but nowhere on the right"),
                    )
                    .help("every rank variable on the left indexes something on the right"),
            );
        }
    }
    for rank in seen
        .iter()
        .filter(|rank| !on_the_right.contains(*rank) && !draft.ranks.contains(rank))
    {
        let variable = &names.rank(*rank).variable;
        problems.push(
            names
                .problem(
                    statement.conditions[0].span(),
                    format!("`{variable}` stands in a condition only"),
                )
                .help("a condition filters points of the ranks that the Einsum has"),
        );
    }
    let reduced: Vec<RankId> = seen
        .iter()
        .copied()
        .filter(|rank| !draft.ranks.contains(rank))
        .collect();
    let reduce = reduction(statement, &reduced, draft, &on_the_right, names, problems);
    if problems.len() > before {
        return None;
    }
    let reduce = reduce?;
    let into = if let Reduce::Top { into, .. } = reduce {
        Some(into)
    } else {
        None
    };
    let ranks: Vec<RankId> = draft
        .ranks
        .iter()
        .copied()
        .filter(|rank| Some(*rank) != into)
        .chain(reduced.iter().copied())
        .collect();
    let view = reduced.is_empty()
        && conditions.is_empty()
        && !draft.output
        && draft.iterative.is_none()
        && matches!(map, Map::Read(0))
        && reads[0].time == ReadTime::Plain
        && tensors[reads[0].tensor.0].coordinates_of.is_none()
        && reads[0].indices.iter().all(|index| is_affine(index, names));
    Some(Einsum {
        output: TensorId(output),
        ranks,
        reduced,
        view,
        reads,
        map,
        reduce,
        conditions,
        support: Vec::new(),
        initial: draft.initial,
        span: statement.span,
    })
}

fn is_affine(index: &Index, names: &Names) -> bool {
    let Index::Expr(expr) = index else {
        return false;
    };
    let mut affine = true;
    expr.walk(&mut |part| match part {
        Expr::Binary {
            op: BinaryOp::Div | BinaryOp::Rem,
            ..
        }
        | Expr::Call { .. } => affine &= !names.has_variable(part),
        _ => {}
    });
    affine
}

fn reduction(
    statement: &Statement,
    reduced: &[RankId],
    draft: &Draft,
    on_the_right: &IndexSet<RankId>,
    names: &Names,
    problems: &mut Problems,
) -> Option<Reduce> {
    let Some(Reduction {
        operator: (operator, at),
        ranks,
        into,
        span,
    }) = &statement.reduction
    else {
        return Some(if reduced.is_empty() {
            Reduce::None
        } else {
            Reduce::Sum
        });
    };
    let missing: Vec<&str> = reduced
        .iter()
        .map(|rank| names.rank(*rank).variable.as_str())
        .collect();
    let mut named = Vec::new();
    for (variable, span) in ranks {
        let rank = names.need_variable(variable, *span, problems)?;
        if !reduced.contains(&rank) {
            let why = if draft.ranks.contains(&rank) {
                "it stands on the left"
            } else {
                "it is not on the right"
            };
            let help = match missing.as_slice() {
                [] => "no rank is missing on the left, so nothing is reduced".to_owned(),
                _ => format!("missing on the left: {}", missing.join(", ")),
            };
            problems.push(
                names
                    .problem(*span, format!("`{variable}` is not reduced here: {why}"))
                    .help(help),
            );
            return None;
        }
        if !named.contains(&rank) {
            named.push(rank);
        }
    }
    if named.len() < reduced.len() {
        problems.push(
            names
                .problem(
                    *span,
                    format!(
                        "the reduction names {} of the {} reduced ranks",
                        named.len(),
                        reduced.len()
                    ),
                )
                .help(format!(
                    "an Einsum has one reduction, over every rank missing on the left: {}",
                    missing.join(", ")
                )),
        );
        return None;
    }
    if operator == "top" {
        let Some((into, into_span)) = into else {
            let problem = names.problem(*span, "top-k does not say which rank it populates");
            problems.push(problem.help("write `:: top(m -> k)`, with k on the left"));
            return None;
        };
        let into = names.need_variable(into, *into_span, problems)?;
        let wrong = if named.len() != 1 {
            Some("top-k reduces one rank")
        } else if !draft.ranks.contains(&into) {
            Some("the rank that top-k populates is not on the left")
        } else if on_the_right.contains(&into) {
            Some("the rank that top-k populates stands on the right")
        } else if draft.iterative.is_some() {
            Some("top-k populates an iterative tensor")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            problems.push(
                names
                    .problem(*span, wrong)
                    .help("write `IDX[k, p] = S[m, p] :: top(m -> k)`"),
            );
            return None;
        }
        return Some(Reduce::Top {
            over: named[0],
            into,
        });
    }
    if let Some((_, span)) = into {
        problems.push(
            names
                .problem(*span, format!("`{operator}` populates no rank"))
                .help("only `top(m -> k)` does"),
        );
        return None;
    }
    match operator.as_str() {
        "sum" => Some(Reduce::Sum),
        "max" => Some(Reduce::Max),
        "min" => Some(Reduce::Min),
        _ => {
            let known = ["sum", "max", "min", "top"];
            problems.push(
                names
                    .problem(*at, format!("`{operator}` is not a reduction"))
                    .help(did_you_mean(operator, known)),
            );
            None
        }
    }
}
