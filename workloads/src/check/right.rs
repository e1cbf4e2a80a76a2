//! The right side of an Einsum: element functions, constants, conditions.

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};
use einflow_spec::{Problems, Span, did_you_mean};
use indexmap::{IndexMap, IndexSet};

use super::functions::{CALLS, arity, function};
use super::left::constant;
use super::names::Names;
use super::tensors::Draft;
use super::whole::Allowed;
use crate::cascade::{Condition, Function, Map, RankId, Read};

/// Resolves the right side and the conditions of a statement, collecting its reads.
pub(super) struct Resolver<'a> {
    pub names: &'a Names,
    pub tensors: &'a IndexMap<String, Draft>,
    pub output: usize,
    pub reads: Vec<Read>,
    /// Text of a read to its place in `reads`: the same read twice is one operand.
    pub texts: IndexMap<String, usize>,
    /// Rank variables in order of first appearance.
    pub seen: IndexSet<RankId>,
    pub problems: &'a mut Problems,
}

impl Resolver<'_> {
    pub fn problem(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems
            .push(self.names.problem(span, message).help(help));
    }

    pub fn conditions(&mut self, conditions: &[Expr]) -> Vec<Condition> {
        let mut found = Vec::new();
        for condition in conditions {
            if self.names.check_condition(condition, self.problems) {
                self.note_variables(condition);
                conjuncts(condition, &mut found);
            }
        }
        found
    }

    pub fn note_variables(&mut self, expr: &Expr) {
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

    pub fn map(&mut self, expr: &Expr) -> Option<Map> {
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
            let reduces = matches!(function, Function::Max | Function::Min);
            let help = format!("a reduction is written after `::`, as in `:: {name}(m)`");
            self.problem(span, message, if reduces { help } else { String::new() });
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
