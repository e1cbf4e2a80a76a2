//! One Einsum: its right side, reduction and conditions.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};
use einflow_spec::{Problems, Span, did_you_mean};
use indexmap::{IndexMap, IndexSet};

use super::functions::{CALLS, arity, function};
use super::names::{Allowed, Names};
use super::tensors::{Draft, constant, next_coordinate, shape};
use crate::cascade::{
    Condition, Einsum, Function, Index, Map, RankId, Read, ReadTime, Reduce, TensorId,
};
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

struct Resolver<'a> {
    names: &'a Names,
    tensors: &'a IndexMap<String, Draft>,
    output: usize,
    reads: Vec<Read>,
    /// Text of a read to its place in `reads`: the same read twice is one operand.
    texts: IndexMap<String, usize>,
    /// Rank variables in order of first appearance.
    seen: IndexSet<RankId>,
    problems: &'a mut Problems,
}

impl Resolver<'_> {
    fn problem(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems
            .push(self.names.problem(span, message).help(help));
    }

    fn conditions(&mut self, conditions: &[Expr]) -> Vec<Condition> {
        let mut found = Vec::new();
        for condition in conditions {
            if self.names.check_condition(condition, self.problems) {
                self.note_variables(condition);
                conjuncts(condition, &mut found);
            }
        }
        found
    }

    fn note_variables(&mut self, expr: &Expr) {
        let names = self.names;
        expr.walk(&mut |part| {
            if let Expr::Name { name, .. } = part
                && !names.is_size(name)
                && let Some(rank) = names.variable(name)
            {
                self.seen.insert(rank);
            }
        });
    }

    fn map(&mut self, expr: &Expr) -> Option<Map> {
        if let Some(value) = constant(expr) {
            return Some(Map::Constant(value));
        }
        match expr {
            Expr::Number { text, span } => {
                self.problem(
                    *span,
                    format!("{text} is too large for a number"),
                    "write inf if that is meant",
                );
                None
            }
            Expr::Name { name, span } => self.bare_name(name, *span, expr),
            Expr::Read {
                name,
                indices,
                name_span,
                span,
            } => self.read(name, indices, *name_span, *span),
            Expr::Call {
                name,
                arguments,
                name_span,
                span,
            } => self.call(name, arguments, *name_span, *span),
            Expr::Unary {
                op: UnaryOp::Neg,
                operand,
                ..
            } => Some(Map::Apply(Function::Neg, vec![self.map(operand)?])),
            Expr::Binary {
                op: BinaryOp::Rem,
                span,
                ..
            } => {
                let mut reads = false;
                expr.walk(&mut |part| reads |= matches!(part, Expr::Read { .. }));
                if reads {
                    self.problem(
                        *span,
                        "`%` of a tensor's values",
                        "`%` is for coordinates and sizes",
                    );
                    return None;
                }
                if !self
                    .names
                    .check_whole(expr, Allowed::Variables, self.problems)
                {
                    return None;
                }
                self.note_variables(expr);
                Some(Map::Coordinate(expr.clone()))
            }
            Expr::Binary {
                op,
                left,
                right,
                span,
            } => {
                let function = match op {
                    BinaryOp::Add => Function::Add,
                    BinaryOp::Sub => Function::Sub,
                    BinaryOp::Mul => Function::Mul,
                    BinaryOp::Div => Function::Div,
                    _ => {
                        let message = format!("`{}` is not an element function", op.symbol());
                        self.problem(*span, message, "a condition stands after `where`");
                        return None;
                    }
                };
                let (left, right) = (self.map(left), self.map(right));
                Some(Map::Apply(function, vec![left?, right?]))
            }
            Expr::Unary { span, .. } => {
                self.problem(
                    *span,
                    "`not` is not an element function",
                    "a condition stands after `where`",
                );
                None
            }
        }
    }

    fn bare_name(&mut self, name: &str, span: Span, expr: &Expr) -> Option<Map> {
        if self
            .tensors
            .get(name)
            .is_some_and(|tensor| tensor.ranks.is_empty())
        {
            return self.read(name, &[], span, span);
        }
        if self.names.is_size(name) {
            return Some(Map::Coordinate(expr.clone()));
        }
        if let Some(tensor) = self.tensors.get(name) {
            let help = format!("write {}", self.shape_of(tensor));
            self.problem(
                span,
                format!("the tensor `{name}` is read without indices"),
                help,
            );
            return None;
        }
        if name.starts_with(|c: char| c.is_ascii_uppercase()) {
            if !self.names.broken.contains(&name.to_ascii_lowercase()) {
                let names = self.names;
                let sizes = names
                    .ranks
                    .keys()
                    .chain(names.parameters.keys())
                    .map(String::as_str);
                let known: Vec<&str> = self
                    .tensors
                    .keys()
                    .map(String::as_str)
                    .chain(sizes)
                    .collect();
                let help = did_you_mean(name, known);
                self.problem(
                    span,
                    format!("`{name}` is neither a tensor nor a size"),
                    help,
                );
            }
            return None;
        }
        self.names.need_variable(name, span, self.problems)?;
        self.note_variables(expr);
        Some(Map::Coordinate(expr.clone()))
    }

    fn call(&mut self, name: &str, arguments: &[Expr], name_span: Span, span: Span) -> Option<Map> {
        let Some(function) = function(name) else {
            let help = if self.tensors.contains_key(name) {
                format!("indices stand in square brackets: {name}[...]")
            } else {
                did_you_mean(name, CALLS.map(|(known, _)| known))
            };
            self.problem(
                name_span,
                format!("`{name}` is not an element function"),
                help,
            );
            for argument in arguments {
                self.map(argument);
            }
            return None;
        };
        let (least, most) = arity(function);
        if arguments.len() < least || arguments.len() > most {
            let expected = if most > least {
                format!("{least} or more")
            } else {
                least.to_string()
            };
            let message = format!(
                "`{name}` takes {expected} arguments, found {}",
                arguments.len()
            );
            self.problem(
                span,
                message,
                format!("a reduction is written after `::`, as in `:: {name}(m)`"),
            );
            return None;
        }
        let operands: Vec<Option<Map>> = arguments
            .iter()
            .map(|argument| self.map(argument))
            .collect();
        let mut operands = operands
            .into_iter()
            .collect::<Option<Vec<Map>>>()?
            .into_iter();
        let first = operands.next()?;
        if most == 1 {
            return Some(Map::Apply(function, vec![first]));
        }
        Some(operands.fold(first, |left, right| Map::Apply(function, vec![left, right])))
    }

    fn shape_of(&self, tensor: &Draft) -> String {
        let variables: Vec<&str> = tensor
            .ranks
            .iter()
            .map(|rank| self.names.rank(*rank).variable.as_str())
            .collect();
        shape(&tensor.name, &variables)
    }

    fn read(&mut self, name: &str, indices: &[Expr], name_span: Span, span: Span) -> Option<Map> {
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
                let which = if ahead > 0 { "later" } else { "earlier" };
                let message =
                    format!("`{name}` is iterative and read at a {which} coordinate, `{index}`");
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

/// Splits a condition at `and`.
fn conjuncts(condition: &Expr, found: &mut Vec<Condition>) {
    match condition {
        Expr::Binary {
            op: BinaryOp::And,
            left,
            right,
            ..
        } => {
            conjuncts(left, found);
            conjuncts(right, found);
        }
        _ => found.push(Condition(condition.clone())),
    }
}
