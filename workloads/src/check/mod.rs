//! From a cascade file to a checked [`Cascade`]; every mistake is reported at once.

mod einsum;
mod functions;
mod left;
mod names;
mod order;
mod read;
mod right;
mod support;
mod tensors;
mod whole;

use einflow_spec::{Problems, Source};
use indexmap::IndexMap;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::cascade::{Cascade, Edge, Einsum, EinsumId, Index, Tensor, TensorId, TensorKind};
use crate::file::CascadeFile;
use names::Names;
use tensors::Draft;

impl Cascade {
    /// Reads and checks a cascade file.
    ///
    /// # Errors
    /// Every mistake found, in the order of the file; only a RON syntax error hides others.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        let (file, mut problems) = CascadeFile::read(source)?;
        let cascade = check(&file, &mut problems);
        problems.into_sorted_result(cascade)
    }
}

/// Sorting for [`Problems`] by place.
trait Sorted {
    fn into_sorted_result<T>(self, value: Option<T>) -> Result<T, Problems>;
}

impl Sorted for Problems {
    fn into_sorted_result<T>(self, value: Option<T>) -> Result<T, Problems> {
        let mut all: Vec<_> = self.iter().cloned().collect();
        all.sort_by_key(|problem| {
            problem
                .place
                .as_ref()
                .map(|(_, span)| (span.start, span.end))
        });
        all.dedup();
        let mut sorted = Problems::new();
        all.into_iter().for_each(|problem| sorted.push(problem));
        sorted.into_result(value)
    }
}

fn check(file: &CascadeFile, problems: &mut Problems) -> Option<Cascade> {
    let names = Names::collect(file, problems);
    let drafts = tensors::collect(file, &names, problems);
    let mut einsums: Vec<Einsum> = Vec::new();
    for (output, draft) in drafts.values().enumerate() {
        if let Some(statement) = draft.statement
            && let Some(einsum) = einsum::resolve(
                &file.statements[statement],
                output,
                &names,
                &drafts,
                problems,
            )
        {
            einsums.push(einsum);
        }
    }
    order::check_reachable(file, &names, &drafts, problems);
    let order = order::order(&einsums, &names, &drafts, problems);
    if !problems.is_empty() {
        return None;
    }
    let (mut tensors, mut einsums) = arrange(&drafts, einsums, &order);
    support::fill(&mut einsums, &mut tensors, &names, problems);
    let outputs = file
        .outputs
        .iter()
        .filter_map(|output| {
            tensors
                .iter()
                .position(|tensor| tensor.name == output.name)
                .map(TensorId)
        })
        .collect();
    let graph = graph(&einsums, &tensors);
    Some(Cascade {
        name: file.name.clone(),
        cited: file.cited.clone(),
        description: file.description.clone(),
        source: file.source.clone(),
        ranks: names.ranks.into_values().collect(),
        batch: names.batch,
        partitions: names.partitions,
        parameters: names.parameters,
        tensors,
        einsums,
        outputs,
        graph,
    })
}

/// Puts Einsums and tensors into their final order and renumbers the tensors.
fn arrange(
    drafts: &IndexMap<String, Draft>,
    einsums: Vec<Einsum>,
    order: &[usize],
) -> (Vec<Tensor>, Vec<Einsum>) {
    let inputs = (0..drafts.len()).filter(|number| drafts[*number].input);
    let old: Vec<usize> = inputs
        .chain(order.iter().map(|number| einsums[*number].output.0))
        .collect();
    let mut new = vec![0; drafts.len()];
    for (to, from) in old.iter().enumerate() {
        new[*from] = to;
    }
    let mut slots: Vec<Option<Einsum>> = einsums.into_iter().map(Some).collect();
    let mut arranged: Vec<Einsum> = order
        .iter()
        .filter_map(|number| slots[*number].take())
        .collect();
    for einsum in &mut arranged {
        einsum.output = TensorId(new[einsum.output.0]);
        for read in &mut einsum.reads {
            read.tensor = TensorId(new[read.tensor.0]);
            read.indices
                .iter_mut()
                .for_each(|index| renumber(index, &new));
        }
    }
    let mut tensors: Vec<Tensor> = Vec::with_capacity(old.len());
    for number in &old {
        let draft = &drafts[*number];
        let producer = arranged
            .iter()
            .position(|einsum| einsum.output.0 == tensors.len());
        let kind = match producer {
            None => TensorKind::Input,
            Some(_) if draft.output => TensorKind::Output,
            Some(producer) if arranged[producer].view => TensorKind::View,
            Some(_) => TensorKind::Intermediate,
        };
        tensors.push(Tensor {
            name: draft.name.clone(),
            kind,
            ranks: draft.ranks.clone(),
            iterative: draft.iterative,
            producer: producer.map(EinsumId),
            coordinates_of: draft.coordinates_of,
            support: Vec::new(),
            span: draft.span,
        });
    }
    (tensors, arranged)
}

fn renumber(index: &mut Index, new: &[usize]) {
    if let Index::Gather(tensor, indices) = index {
        *tensor = TensorId(new[tensor.0]);
        indices.iter_mut().for_each(|index| renumber(index, new));
    }
}

fn graph(einsums: &[Einsum], tensors: &[Tensor]) -> DiGraph<EinsumId, Edge> {
    let mut graph = DiGraph::new();
    for number in 0..einsums.len() {
        graph.add_node(EinsumId(number));
    }
    for (number, einsum) in einsums.iter().enumerate() {
        for (tensor, previous) in order::tensors_read(einsum) {
            if let Some(EinsumId(producer)) = tensors[tensor.0].producer {
                graph.add_edge(
                    NodeIndex::new(producer),
                    NodeIndex::new(number),
                    Edge { tensor, previous },
                );
            }
        }
    }
    graph
}
