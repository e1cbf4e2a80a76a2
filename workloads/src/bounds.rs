//! What is known of whole-number expressions before any size is: sizes are at least 1, and a rank variable lies
//! between 0 and its rank's size less 1.

use std::collections::BTreeMap;

use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};

/// A polynomial with more terms than this proves nothing.
const MOST_TERMS: usize = 64;
/// Likewise one of a higher degree.
const MOST_FACTORS: usize = 6;

/// A symbol of a [`Polynomial`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Symbol {
    /// A size, at least 1.
    Size(String),
    /// Something that is at least 0, by its text: a rank variable, a quotient, a remainder.
    Counter(String),
}

/// Product of symbols (sorted) to coefficient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Polynomial(BTreeMap<Vec<Symbol>, i128>);

/// What the names in an expression stand for.
pub trait Scope {
    /// The size of the rank that `variable` runs over; `None` where it is no rank variable.
    fn size_of_variable(&self, variable: &str) -> Option<&str>;
    /// One name for all sizes that are always the same as this one.
    fn same_size<'a>(&'a self, size: &'a str) -> &'a str;
    /// Outermost part and the other parts of every partition of the rank of this name.
    fn partitions_of(&self, rank: &str) -> Vec<(String, Vec<String>)>;
}

/// True where a condition holds at every point and for every size.
pub fn always_holds(condition: &Expr, scope: &dyn Scope) -> bool {
    let Expr::Binary {
        op, left, right, ..
    } = condition
    else {
        return false;
    };
    match op {
        BinaryOp::And => always_holds(left, scope) && always_holds(right, scope),
        BinaryOp::Or => {
            always_holds(left, scope)
                || always_holds(right, scope)
                || one_always_holds(left, right, scope)
        }
        _ => ordered(condition).is_some_and(|(a, b, margin)| at_least(a, b, margin, scope)),
    }
}

/// The a, b and margin of a comparison that says `a - b >= margin`.
fn ordered(condition: &Expr) -> Option<(&Expr, &Expr, i128)> {
    let Expr::Binary {
        op, left, right, ..
    } = condition
    else {
        return None;
    };
    Some(match op {
        BinaryOp::Less => (right, left, 1),
        BinaryOp::LessEqual => (right, left, 0),
        BinaryOp::Greater => (left, right, 1),
        BinaryOp::GreaterEqual => (left, right, 0),
        _ => return None,
    })
}

/// True where one of two conditions holds at every point (`p < 3 or p >= 3`): where one fails, by at least 1, the
/// other holds if their sum is never less than -1.
fn one_always_holds(left: &Expr, right: &Expr, scope: &dyn Scope) -> bool {
    for (part, other) in [(left, right), (right, left)] {
        if let Expr::Binary {
            op: BinaryOp::And,
            left: a,
            right: b,
            ..
        } = part
        {
            return [a, b]
                .iter()
                .all(|part| always_holds(part, scope) || one_always_holds(part, other, scope));
        }
    }
    let (Some((a, b, first)), Some((c, d, second))) = (ordered(left), ordered(right)) else {
        return false;
    };
    let prover = Prover { scope };
    let sum = || -> Option<bool> {
        let mut bounds = BTreeMap::new();
        let mut sum = Polynomial::constant(1 - first - second);
        for (part, sign) in [(a, 1), (b, -1), (c, 1), (d, -1)] {
            sum = sum.add(&prover.polynomial(part, &mut bounds)?.scale(sign)?)?;
        }
        Some(prover.never_negative(&sum, &bounds))
    };
    sum().unwrap_or(false)
}

/// True where `a - b >= margin` always.
fn at_least(a: &Expr, b: &Expr, margin: i128, scope: &dyn Scope) -> bool {
    let prover = Prover { scope };
    let difference = || -> Option<bool> {
        let mut bounds = BTreeMap::new();
        let a = prover.polynomial(a, &mut bounds)?;
        let b = prover.polynomial(b, &mut bounds)?;
        let difference = a.add(&b.scale(-1)?)?.add(&Polynomial::constant(-margin))?;
        Some(prover.never_negative(&difference, &bounds))
    };
    difference().unwrap_or(false)
}

/// The x of `x / d * d + x % d`, which is x.
fn split_and_joined<'a>(left: &'a Expr, right: &Expr) -> Option<&'a Expr> {
    let Expr::Binary {
        op: BinaryOp::Mul,
        left: a,
        right: b,
        ..
    } = left
    else {
        return None;
    };
    let Expr::Binary {
        op: BinaryOp::Rem,
        left: x,
        right: d,
        ..
    } = right
    else {
        return None;
    };
    let quotient = |quotient: &'a Expr, by: &Expr| match quotient {
        Expr::Binary {
            op: BinaryOp::Div,
            left,
            right,
            ..
        } => {
            let same = |a: &Expr, b: &Expr| a.to_string() == b.to_string();
            (same(left, x) && same(right, d) && same(by, d)).then_some(left.as_ref())
        }
        _ => None,
    };
    quotient(a, b).or_else(|| quotient(b, a))
}

struct Prover<'a> {
    scope: &'a dyn Scope,
}

/// Largest values of counters, where known.
type Largest = BTreeMap<Symbol, Polynomial>;

impl Prover<'_> {
    fn size(&self, name: &str) -> Polynomial {
        Polynomial::symbol(Symbol::Size(self.scope.same_size(name).into()))
    }

    fn polynomial(&self, expr: &Expr, largest: &mut Largest) -> Option<Polynomial> {
        match expr {
            Expr::Number { text, .. } => {
                text.replace('_', "").parse().ok().map(Polynomial::constant)
            }
            Expr::Name { name, .. } => match self.scope.size_of_variable(name) {
                Some(size) => {
                    let symbol = Symbol::Counter(name.clone());
                    let most = self.size(size).add(&Polynomial::constant(-1))?;
                    largest.insert(symbol.clone(), most);
                    Some(Polynomial::symbol(symbol))
                }
                None => Some(self.size(name)),
            },
            Expr::Unary {
                op: UnaryOp::Neg,
                operand,
                ..
            } => self.polynomial(operand, largest)?.scale(-1),
            Expr::Binary {
                op: BinaryOp::Add,
                left,
                right,
                ..
            } if let Some(whole) = split_and_joined(left, right) => self.polynomial(whole, largest),
            Expr::Binary {
                op: BinaryOp::Add,
                left,
                right,
                ..
            } => self
                .polynomial(left, largest)?
                .add(&self.polynomial(right, largest)?),
            Expr::Binary {
                op: BinaryOp::Sub,
                left,
                right,
                ..
            } => self
                .polynomial(left, largest)?
                .add(&self.polynomial(right, largest)?.scale(-1)?),
            Expr::Binary {
                op: BinaryOp::Mul,
                left,
                right,
                ..
            } => self
                .polynomial(left, largest)?
                .multiply(&self.polynomial(right, largest)?),
            Expr::Binary {
                op: BinaryOp::Rem,
                right,
                ..
            } => {
                let divisor = self.positive(right, largest)?;
                let symbol = Symbol::Counter(expr.to_string());
                largest.insert(symbol.clone(), divisor.add(&Polynomial::constant(-1))?);
                Some(Polynomial::symbol(symbol))
            }
            Expr::Binary {
                op: BinaryOp::Div,
                left,
                right,
                ..
            } => {
                let divisor = self.positive(right, largest)?;
                let dividend = self.polynomial(left, largest)?;
                if !self.never_negative(&dividend, largest) {
                    return None;
                }
                let symbol = Symbol::Counter(expr.to_string());
                if let Some(most) = self.largest_quotient(left, right, &divisor) {
                    largest.insert(symbol.clone(), most);
                }
                Some(Polynomial::symbol(symbol))
            }
            Expr::Call {
                name, arguments, ..
            } => {
                // A minimum, maximum or rounded quotient of sizes, known to be at least 0.
                for argument in arguments {
                    if let (
                        true,
                        Expr::Binary {
                            op: BinaryOp::Div,
                            left,
                            right,
                            ..
                        },
                    ) = (name == "ceil", argument)
                    {
                        let dividend = self.polynomial(left, largest)?;
                        self.positive(right, largest)?;
                        if !self.never_negative(&dividend, largest) {
                            return None;
                        }
                    } else {
                        let value = self.polynomial(argument, largest)?;
                        if !self.never_negative(&value, largest) {
                            return None;
                        }
                    }
                }
                let positive = arguments
                    .iter()
                    .all(|argument| self.positive_quotient(name, argument, largest));
                let text = expr.to_string();
                Some(Polynomial::symbol(if positive {
                    Symbol::Size(text)
                } else {
                    Symbol::Counter(text)
                }))
            }
            _ => None,
        }
    }

    fn positive_quotient(&self, name: &str, argument: &Expr, largest: &mut Largest) -> bool {
        match (name, argument) {
            (
                "ceil",
                Expr::Binary {
                    op: BinaryOp::Div,
                    left,
                    ..
                },
            ) => self.positive(left, largest).is_some(),
            _ => self.positive(argument, largest).is_some(),
        }
    }

    /// The polynomial of an expression that is at least 1.
    fn positive(&self, expr: &Expr, largest: &mut Largest) -> Option<Polynomial> {
        let value = self.polynomial(expr, largest)?;
        let less_one = value.add(&Polynomial::constant(-1))?;
        self.never_negative(&less_one, largest).then_some(value)
    }

    /// Largest value of `x / d` for a rank variable x: with a partition of its rank into parts of which
    /// all but the outermost multiply to d, the outermost's size less 1; with d = ceil(X / G), G - 1.
    fn largest_quotient(
        &self,
        left: &Expr,
        right: &Expr,
        divisor: &Polynomial,
    ) -> Option<Polynomial> {
        let Expr::Name { name, .. } = left else {
            return None;
        };
        let rank = self.scope.size_of_variable(name)?;
        if let Expr::Call {
            name, arguments, ..
        } = right
            && name == "ceil"
            && let [
                Expr::Binary {
                    op: BinaryOp::Div,
                    left: whole,
                    right: parts,
                    ..
                },
            ] = arguments.as_slice()
            && matches!(whole.as_ref(), Expr::Name { name, .. } if name == rank)
        {
            let mut ignored = BTreeMap::new();
            return self
                .polynomial(parts, &mut ignored)?
                .add(&Polynomial::constant(-1));
        }
        for (outermost, others) in self.scope.partitions_of(rank) {
            let product = others
                .into_iter()
                .try_fold(Polynomial::constant(1), |p, other| {
                    p.multiply(&self.size(&other))
                })?;
            if product == *divisor {
                return self.size(&outermost).add(&Polynomial::constant(-1));
            }
        }
        None
    }

    /// True where a polynomial is at least 0 for all values of its symbols.
    fn never_negative(&self, polynomial: &Polynomial, largest: &Largest) -> bool {
        self.smallest(polynomial, largest)
            .and_then(|p| p.shifted())
            .is_some_and(|p| p.0.values().all(|c| *c >= 0))
    }

    /// A polynomial in sizes only that is nowhere above the given one.
    fn smallest(&self, polynomial: &Polynomial, largest: &Largest) -> Option<Polynomial> {
        let mut sum = Polynomial::default();
        for (factors, coefficient) in &polynomial.0 {
            let counters: Vec<&Symbol> = factors
                .iter()
                .filter(|s| matches!(s, Symbol::Counter(_)))
                .collect();
            let term = Polynomial(BTreeMap::from([(factors.clone(), *coefficient)]));
            match (counters.as_slice(), *coefficient > 0) {
                ([], _) => sum = sum.add(&term)?,
                (_, true) => {}
                ([one], false) => {
                    let rest: Vec<Symbol> = factors.iter().filter(|s| s != one).cloned().collect();
                    let rest = Polynomial(BTreeMap::from([(rest, *coefficient)]));
                    sum = sum.add(&rest.multiply(largest.get(*one)?)?)?;
                }
                _ => return None,
            }
        }
        Some(sum)
    }
}

impl Polynomial {
    fn constant(value: i128) -> Self {
        Self(if value == 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([(Vec::new(), value)])
        })
    }

    fn symbol(symbol: Symbol) -> Self {
        Self(BTreeMap::from([(vec![symbol], 1)]))
    }

    fn add(&self, other: &Self) -> Option<Self> {
        let mut sum = self.0.clone();
        for (factors, coefficient) in &other.0 {
            let value = sum
                .get(factors)
                .copied()
                .unwrap_or(0)
                .checked_add(*coefficient)?;
            if value == 0 {
                sum.remove(factors);
            } else {
                sum.insert(factors.clone(), value);
            }
        }
        (sum.len() <= MOST_TERMS).then_some(Self(sum))
    }

    fn scale(&self, factor: i128) -> Option<Self> {
        let terms = self
            .0
            .iter()
            .map(|(f, c)| Some((f.clone(), c.checked_mul(factor)?)));
        terms.collect::<Option<_>>().map(Self)
    }

    fn multiply(&self, other: &Self) -> Option<Self> {
        let mut product = Self::default();
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                let mut factors = [a.as_slice(), b.as_slice()].concat();
                if factors.len() > MOST_FACTORS {
                    return None;
                }
                factors.sort();
                product = product.add(&Self(BTreeMap::from([(factors, x.checked_mul(*y)?)])))?;
            }
        }
        Some(product)
    }

    /// The same in terms of how much each size exceeds 1.
    fn shifted(&self) -> Option<Self> {
        let mut sum = Self::default();
        for (factors, coefficient) in &self.0 {
            let mut term = Self::constant(*coefficient);
            for factor in factors {
                term = term.multiply(&Self::symbol(factor.clone()).add(&Self::constant(1))?)?;
            }
            sum = sum.add(&term)?;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use einflow_spec::Source;

    use super::*;

    /// m of M = M1 x M0, p of P, n0 of N0 = M0, h of H; W and G are sizes.
    struct Example;

    impl Scope for Example {
        fn size_of_variable(&self, variable: &str) -> Option<&str> {
            let known = [
                ("m", "M"),
                ("m1", "M1"),
                ("m0", "M0"),
                ("n0", "N0"),
                ("p", "P"),
                ("h", "H"),
            ];
            known
                .iter()
                .find(|(v, _)| *v == variable)
                .map(|(_, size)| *size)
        }

        fn same_size<'a>(&'a self, size: &'a str) -> &'a str {
            if size == "N0" { "M0" } else { size }
        }

        fn partitions_of(&self, rank: &str) -> Vec<(String, Vec<String>)> {
            if rank == "M" {
                vec![("M1".into(), vec!["M0".into()])]
            } else {
                Vec::new()
            }
        }
    }

    fn holds(text: &str) -> bool {
        let source = Source::new("e", text);
        always_holds(&Expr::parse(&source, text, 0).unwrap(), &Example)
    }

    #[test]
    fn what_always_holds() {
        for text in [
            "m >= 0",
            "m < M",
            "m1 * M0 + m0 >= 0",
            "m1 * M0 + m0 < M1 * M0",
            "M - 1 - m >= 0",
            "n0 < M0",
            "m / M0 < M1",
            "m % N0 < M0",
            "m / M0 * M0 + m % M0 < M",
            "h / ceil(H / G) < G",
            "m0 <= m1 * M0 + m0",
            "p - W < P",
            "p < 0 or p <= P",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn what_may_fail() {
        // Each is false for some sizes and coordinates.
        for text in [
            "m1 * M0 + m0 < M",    // the last tile is partial
            "p < M",               // P > M
            "p - W >= 0",          // W > p
            "m - p <= 0",          // m > p
            "m < M - 1",           // m = M - 1
            "m >= 1",              // m = 0
            "h / G < H / G",       // H = 3, G = 2, h = 2
            "h / ceil(P / G) < G", // h is not of P
            "m / W < M1",          // W < M0
            "m0 * m0 < M0",        // M0 = 4, m0 = 3
            "M0 - 2 >= 0",         // M0 = 1
            "p % 3 < 2",           // p = 2
            "m / (M0 - 1) >= 0",   // M0 = 1: no value
            "m == m",              // true, but equality is not looked into
        ] {
            assert!(!holds(text), "{text}");
        }
    }
}
