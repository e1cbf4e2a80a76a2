//! What reads what: reachability, cycles, the order of the Einsums.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use einflow_spec::expr::Expr;
use einflow_spec::{Problems, Span};
use indexmap::IndexMap;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::names::Names;
use super::tensors::Draft;
use crate::cascade::{Einsum, Index, RankId, Read, ReadTime, TensorId};
use crate::file::CascadeFile;

/// Reports Einsums whose result reaches no output, and inputs that nobody reads. Works on the statements as written,
/// so that a mistake in one does not make others look unused.
pub(super) fn check_reachable(
    file: &CascadeFile,
    names: &Names,
    tensors: &IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    if !file.broken.is_empty() {
        return;
    }
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    // A misspelt name is reported elsewhere; what it seems to mean is not called unused as well.
    let made: Vec<&str> = file.statements.iter().map(|s| s.tensor.as_str()).collect();
    let given: Vec<&str> = file
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    let meant = |name| {
        let known = made.contains(&name) || given.contains(&name) || names.is_size(name);
        if known || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return name;
        }
        let all = given.iter().chain(&made).copied();
        einflow_spec::nearest(name, all).unwrap_or(name)
    };
    let mut open: Vec<&str> = Vec::new();
    for output in &file.outputs {
        let name = output.name.as_str();
        let near = einflow_spec::nearest(name, made.iter().copied());
        open.push(if made.contains(&name) {
            name
        } else {
            near.unwrap_or(name)
        });
    }
    while let Some(name) = open.pop() {
        if !needed.insert(name) {
            continue;
        }
        for statement in file.statements.iter().filter(|s| s.tensor == name) {
            statement.right.walk(&mut |part| {
                if let Expr::Read { name, .. } | Expr::Name { name, .. } | Expr::Call { name, .. } =
                    part
                {
                    open.push(meant(name));
                }
            });
        }
    }
    for tensor in tensors
        .values()
        .filter(|tensor| !needed.contains(tensor.name.as_str()))
    {
        let name = &tensor.name;
        if tensor.input {
            let problem =
                names.problem(tensor.span, format!("the input `{name}` reaches no output"));
            problems.push(problem.help("read it, or take it out of `inputs`"));
        } else if tensor.statement.is_some() {
            let problem = names.problem(tensor.span, format!("`{name}` reaches no output"));
            problems
                .push(problem.help("read it, declare it in `outputs`, or remove the statement"));
        }
    }
}

/// Every tensor that an Einsum reads, index tensors included, and whether at the previous coordinate.
pub(super) fn tensors_read(einsum: &Einsum) -> Vec<(TensorId, bool)> {
    let mut found = Vec::new();
    for read in &einsum.reads {
        found.push((read.tensor, read.time == ReadTime::Previous));
        gathers(&read.indices, &mut found);
    }
    let mut unique = Vec::new();
    for item in found {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}

fn gathers(indices: &[Index], found: &mut Vec<(TensorId, bool)>) {
    for index in indices {
        if let Index::Gather(tensor, inner) = index {
            found.push((*tensor, false));
            gathers(inner, found);
        }
    }
}

/// The order of the Einsums: that of the file where every Einsum follows what it reads, else the nearest such.
/// `einsums` are those that could be resolved, in the order of the file.
///
/// Cycles other than through an iterative rank are reported.
pub(super) fn order(
    einsums: &[Einsum],
    names: &Names,
    tensors: &IndexMap<String, Draft>,
    problems: &mut Problems,
) -> Vec<usize> {
    let maker = |tensor: TensorId| einsums.iter().position(|einsum| einsum.output == tensor);
    let mut graph: DiGraph<usize, bool> = DiGraph::new();
    for number in 0..einsums.len() {
        graph.add_node(number);
    }
    for (number, einsum) in einsums.iter().enumerate() {
        for (tensor, previous) in tensors_read(einsum) {
            if let Some(from) = maker(tensor) {
                graph.add_edge(NodeIndex::new(from), NodeIndex::new(number), previous);
            }
        }
    }
    let before = problems.len();
    let now = graph.filter_map(|_, n| Some(*n), |_, previous| (!*previous).then_some(()));
    for component in components(&now) {
        report_cycle(&component, &now, einsums, names, tensors, problems);
    }
    if problems.len() > before {
        return (0..einsums.len()).collect();
    }
    let mut inside: BTreeSet<(usize, usize)> = BTreeSet::new();
    for component in components(&graph) {
        check_recurrence(&component, einsums, names, tensors, problems);
        for a in &component {
            inside.extend(component.iter().map(|b| (*a, *b)));
        }
    }
    // A read of the previous coordinate binds the order too, unless it closes a cycle.
    let mut waiting = vec![0usize; einsums.len()];
    let binds =
        |from: usize, to: usize, previous: bool| !(previous && inside.contains(&(from, to)));
    for edge in graph.edge_references() {
        let (from, to) = (edge.source().index(), edge.target().index());
        waiting[to] += usize::from(binds(from, to, *edge.weight()));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..einsums.len())
        .filter(|number| waiting[*number] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(einsums.len());
    while let Some(Reverse(number)) = ready.pop() {
        order.push(number);
        for edge in graph.edges(NodeIndex::new(number)) {
            let to = edge.target().index();
            if binds(number, to, *edge.weight()) {
                waiting[to] -= 1;
                if waiting[to] == 0 {
                    ready.push(Reverse(to));
                }
            }
        }
    }
    order
}

/// Groups of Einsums that depend on each other, in the order of the file.
fn components<E>(graph: &DiGraph<usize, E>) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = kosaraju_scc(graph)
        .into_iter()
        .filter(|nodes| nodes.len() > 1 || graph.find_edge(nodes[0], nodes[0]).is_some())
        .map(|nodes| {
            let mut members: Vec<usize> = nodes.into_iter().map(NodeIndex::index).collect();
            members.sort_unstable();
            members
        })
        .collect();
    found.sort_unstable();
    found
}

/// Names one shortest cycle through the first member.
fn report_cycle(
    component: &[usize],
    graph: &DiGraph<usize, ()>,
    einsums: &[Einsum],
    names: &Names,
    tensors: &IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    let first = component[0];
    let mut came_from: IndexMap<usize, usize> = IndexMap::new();
    let mut open = std::collections::VecDeque::from([first]);
    while let Some(at) = open.pop_front() {
        let mut next: Vec<usize> = graph
            .neighbors(NodeIndex::new(at))
            .map(NodeIndex::index)
            .collect();
        next.sort_unstable();
        for to in next.into_iter().filter(|to| component.contains(to)) {
            if !came_from.contains_key(&to) {
                came_from.insert(to, at);
                open.push_back(to);
            }
        }
    }
    let mut path = vec![first];
    let mut at = first;
    while let Some(from) = came_from.get(&at) {
        path.push(*from);
        if *from == first {
            break;
        }
        at = *from;
    }
    // The path was found from the reader back to what it reads.
    let text: Vec<&str> = path
        .iter()
        .map(|number| tensors[einsums[*number].output.0].name.as_str())
        .collect();
    let span = einsums[first].span;
    let message = match text.as_slice() {
        [one, ..] if component.len() == 1 => format!("`{one}` reads itself"),
        _ => format!("a cycle: {}", text.join(" reads ")),
    };
    problems.push(names.problem(span, message).help(
        "only an iterative rank may close a cycle: `S[i+1] = ... S[i] ...` with an initial value `S[0] = ...`",
    ));
}

/// Checks that a cycle can be run step by step: it runs through one iterative rank, no member reduces it, and
/// each reads the others at the step's own coordinate.
fn check_recurrence(
    component: &[usize],
    einsums: &[Einsum],
    names: &Names,
    tensors: &IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    let inside = |tensor: TensorId| {
        component
            .iter()
            .any(|member| einsums[*member].output == tensor)
    };
    let mut steps: Vec<RankId> = Vec::new();
    for member in component {
        let draft = &tensors[einsums[*member].output.0];
        if let Some(position) = draft.iterative
            && !steps.contains(&draft.ranks[position])
        {
            steps.push(draft.ranks[position]);
        }
    }
    let span = einsums[component[0]].span;
    let &[step] = steps.as_slice() else {
        let names_of: Vec<&str> = steps
            .iter()
            .map(|rank| names.rank(*rank).name.as_str())
            .collect();
        let message = format!(
            "a recurrence through two iterative ranks, {}",
            names_of.join(" and ")
        );
        problems.push(
            names
                .problem(span, message)
                .help("a recurrence runs along one rank"),
        );
        return;
    };
    let variable = &names.rank(step).variable;
    for member in component {
        let einsum = &einsums[*member];
        let draft = &tensors[einsum.output.0];
        if !draft.ranks.contains(&step) {
            let message = format!(
                "`{}` needs every `{variable}`, but the recurrence over `{variable}` needs it at each step",
                draft.name
            );
            problems.push(
                names
                    .problem(einsum.span, message)
                    .help(format!("keep `{variable}` on the left")),
            );
            continue;
        }
        // A member without the step's rank is reported where it is written.
        let in_step =
            |read: &&Read| inside(read.tensor) && tensors[read.tensor.0].ranks.contains(&step);
        for read in einsum.reads.iter().filter(in_step) {
            check_recurrent_read(read, step, names, tensors, problems);
        }
    }
}

fn check_recurrent_read(
    read: &Read,
    step: RankId,
    names: &Names,
    tensors: &IndexMap<String, Draft>,
    problems: &mut Problems,
) {
    let draft = &tensors[read.tensor.0];
    if matches!(read.time, ReadTime::Previous | ReadTime::Current) {
        return;
    }
    let variable = &names.rank(step).variable;
    let at_step = draft.iterative.is_none()
        && draft.ranks.iter().position(|rank| *rank == step).is_some_and(
            |position| matches!(&read.indices[position], Index::Expr(Expr::Name { name, .. }) if name == variable),
        );
    if !at_step {
        let span: Span = read.span;
        let message = format!(
            "`{}` is part of the recurrence over `{variable}` and read at another coordinate of it",
            draft.name
        );
        problems.push(
            names
                .problem(span, message)
                .help(format!("within a step, read it at `{variable}`")),
        );
    }
}
