//! Reads of tensors: their indices, and how they stand to an iterative rank.

use einflow_spec::expr::{BinaryOp, Expr};
use einflow_spec::{Span, did_you_mean};

use super::left::next_coordinate;
use super::right::Resolver;
use super::tensors::{Draft, shape};
use super::whole::Allowed;
use crate::cascade::{Index, Map, Rank, Read, ReadTime, TensorId};

impl Resolver<'_> {
    pub fn shape_of(&self, tensor: &Draft) -> String {
        let variables: Vec<&str> = tensor
            .ranks
            .iter()
            .map(|rank| self.names.rank(*rank).variable.as_str())
            .collect();
        shape(&tensor.name, &variables)
    }

    pub fn read(
        &mut self,
        name: &str,
        indices: &[Expr],
        name_span: Span,
        span: Span,
    ) -> Option<Map> {
        let (tensor, found, time) = self.read_parts(name, indices, name_span, span)?;
        if self.tensors[tensor].coordinates_of.is_some() {
            self.problem(
                span,
                format!("`{name}` holds coordinates, not numbers"),
                format!("read another tensor through it: `K[e, {name}[...]]`"),
            );
            return None;
        }
        let text = Expr::Read {
            name: name.into(),
            indices: indices.to_vec(),
            name_span,
            span,
        }
        .to_string();
        if let Some(known) = self.texts.get(&text) {
            return Some(Map::Read(*known));
        }
        self.reads.push(Read {
            tensor: TensorId(tensor),
            indices: found,
            time,
            span,
        });
        self.texts.insert(text, self.reads.len() - 1);
        Some(Map::Read(self.reads.len() - 1))
    }

    fn read_parts(
        &mut self,
        name: &str,
        indices: &[Expr],
        name_span: Span,
        span: Span,
    ) -> Option<(usize, Vec<Index>, ReadTime)> {
        let Some((number, _, tensor)) = self.tensors.get_full(name) else {
            let known: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
            let help = did_you_mean(name, known);
            self.problem(name_span, format!("there is no tensor `{name}`"), help);
            return None;
        };
        if tensor.broken {
            // Already reported where it is declared; its variables still count as seen.
            for index in indices {
                self.note_variables(index);
            }
            return None;
        }
        if indices.len() != tensor.ranks.len() {
            let message = format!(
                "`{name}` has {} indices here, but {} ranks",
                indices.len(),
                tensor.ranks.len()
            );
            let help = format!("it is {}", self.shape_of(tensor));
            self.problem(span, message, help);
            return None;
        }
        let mut found = Vec::new();
        for (position, index) in indices.iter().enumerate() {
            found.push(self.index(index, tensor, position));
        }
        let time = self.time(indices, tensor, number)?;
        Some((number, found.into_iter().collect::<Option<_>>()?, time))
    }

    fn index(&mut self, index: &Expr, tensor: &Draft, position: usize) -> Option<Index> {
        let names = self.names;
        let rank = tensor.ranks[position];
        if let Expr::Read {
            name,
            indices,
            name_span,
            span,
        } = index
        {
            let (through, found, _) = self.read_parts(name, indices, *name_span, *span)?;
            let Some(holds) = self.tensors[through].coordinates_of else {
                let help = "an index tensor comes from `:: top(m -> k)` or is an input declared as `T[j] -> m`";
                self.problem(
                    *span,
                    format!("`{name}` holds numbers, not coordinates"),
                    help,
                );
                return None;
            };
            if holds != rank {
                let message = format!(
                    "`{name}` holds coordinates of {}, but rank {} of `{}` is {}",
                    names.rank(holds).name,
                    position + 1,
                    tensor.name,
                    names.rank(rank).name
                );
                self.problem(
                    *span,
                    message,
                    "an index tensor holds coordinates of the rank that it indexes",
                );
                return None;
            }
            return Some(Index::Gather(TensorId(through), found));
        }
        if let Expr::Name { name, span } = index
            && !names.is_size(name)
            && names.variable(name).is_none()
            && !names.broken.contains(&name.to_ascii_lowercase())
        {
            let Rank {
                name: expected,
                variable,
            } = names.rank(rank);
            let help = format!(
                "index {} of `{}` is of rank {expected}: did you mean `{variable}`?",
                position + 1,
                tensor.name
            );
            self.problem(*span, format!("`{name}` is not a rank variable"), help);
            return None;
        }
        if !names.check_whole(index, Allowed::Variables, self.problems) {
            return None;
        }
        self.note_variables(index);
        if let Expr::Name { name, span } = index
            && let Some(used) = (!names.is_size(name))
                .then(|| names.variable(name))
                .flatten()
            && used != rank
            && tensor.ranks.contains(&used)
        {
            let message = format!(
                "index {} of `{}` is `{name}`, but {} is another rank of it",
                position + 1,
                tensor.name,
                names.rank(used).name
            );
            let help = format!(
                "the order is {}; to transpose, declare it with other variables",
                self.shape_of(tensor)
            );
            self.problem(*span, message, help);
            return None;
        }
        Some(Index::Expr(index.clone()))
    }

    /// How a read stands to the tensor's iterative rank.
    fn time(&mut self, indices: &[Expr], tensor: &Draft, number: usize) -> Option<ReadTime> {
        let Some(position) = tensor.iterative else {
            return Some(ReadTime::Plain);
        };
        let (index, rank) = (&indices[position], self.names.rank(tensor.ranks[position]));
        match index {
            Expr::Name { name, .. } if *name == rank.variable => return Some(ReadTime::Previous),
            Expr::Name { name, .. } if *name == rank.name => return Some(ReadTime::Last),
            _ => {}
        }
        let Some(ahead) = steps_ahead(index, &rank.variable) else {
            if number == self.output {
                let message = format!("`{}` reads itself at the coordinate `{index}`", tensor.name);
                self.problem(
                    index.span(),
                    message,
                    format!(
                        "an update reads the previous coordinate, `{}`",
                        rank.variable
                    ),
                );
                return None;
            }
            return Some(ReadTime::Other);
        };
        let v = &rank.variable;
        let name = &tensor.name;
        if number == self.output && ahead == 1 {
            let message = format!("`{name}` reads the coordinate `{index}` that it writes here");
            self.problem(
                index.span(),
                message,
                format!("an update reads the previous coordinate, `{v}`"),
            );
            return None;
        }
        match ahead {
            1 if next_coordinate(index).is_some() => Some(ReadTime::Current),
            i128::MIN..=-1 if number != self.output => Some(ReadTime::Other),
            _ => {
                let which = if ahead > 0 { "a later" } else { "an earlier" };
                let message =
                    format!("`{name}` is iterative and read at {which} coordinate, `{index}`");
                let help = format!(
                    "`{v}` is the value before the step, `{v}+1` the one after it, `{}` the last",
                    rank.name
                );
                self.problem(index.span(), message, help);
                None
            }
        }
    }
}

/// The constant c of an index `v + c`, written in any of the usual ways.
fn steps_ahead(index: &Expr, variable: &str) -> Option<i128> {
    let number = |expr: &Expr| match expr {
        Expr::Number { text, .. } => text.replace('_', "").parse::<i128>().ok(),
        _ => None,
    };
    let is_variable = |expr: &Expr| matches!(expr, Expr::Name { name, .. } if name == variable);
    match index {
        Expr::Name { name, .. } if name == variable => Some(0),
        Expr::Binary {
            op: BinaryOp::Add,
            left,
            right,
            ..
        } if is_variable(left) => number(right),
        Expr::Binary {
            op: BinaryOp::Add,
            left,
            right,
            ..
        } if is_variable(right) => number(left),
        Expr::Binary {
            op: BinaryOp::Sub,
            left,
            right,
            ..
        } if is_variable(left) => number(right).map(|c| -c),
        _ => None,
    }
}
