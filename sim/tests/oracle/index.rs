//! Words: which coordinates of a tensor a box of the iteration space touches, point by point.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use einflow_mappings::mapped::MappedCascade;
use einflow_spec::expr::{BinaryOp, Expr, UnaryOp};
use einflow_workloads::cascade::{Einsum, Index, RankId, TensorId};

/// Coordinates [low, high) of every base rank.
pub type Area = Vec<(u64, u64)>;

/// Words of one tensor, ascending, each its coordinates packed into one number.
pub type Words = Rc<Vec<u64>>;

/// A whole number over the coordinates of base ranks.
#[derive(Clone, Debug, PartialEq)]
pub enum Formula {
    Constant(i128),
    /// A cascade rank as a digit of its base rank: `x / unit % modulus`.
    Rank {
        base: usize,
        unit: u64,
        modulus: Option<u64>,
    },
    Binary(BinaryOp, Box<Formula>, Box<Formula>),
}

impl Formula {
    pub fn at(&self, point: &[u64]) -> i128 {
        match self {
            Self::Constant(value) => *value,
            Self::Rank {
                base,
                unit,
                modulus,
            } => {
                let digit = point[*base] / unit;
                i128::from(modulus.map_or(digit, |m| digit % m))
            }
            Self::Binary(op, left, right) => {
                let (a, b) = (left.at(point), right.at(point));
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div => a.div_euclid(b),
                    BinaryOp::Rem => a.rem_euclid(b),
                    BinaryOp::Less => (a < b).into(),
                    BinaryOp::LessEqual => (a <= b).into(),
                    BinaryOp::Greater => (a > b).into(),
                    BinaryOp::GreaterEqual => (a >= b).into(),
                    BinaryOp::Equal => (a == b).into(),
                    BinaryOp::NotEqual => (a != b).into(),
                    BinaryOp::And => (a != 0 && b != 0).into(),
                    BinaryOp::Or => (a != 0 || b != 0).into(),
                }
            }
        }
    }

    /// Whether it takes a digit of a sum.
    pub fn wraps(&self) -> bool {
        match self {
            Self::Constant(_) | Self::Rank { .. } => false,
            Self::Binary(BinaryOp::Div | BinaryOp::Rem, left, _) => {
                matches!(**left, Self::Binary(..))
            }
            Self::Binary(_, left, right) => left.wraps() || right.wraps(),
        }
    }

    /// The base ranks over which it stands.
    pub fn bases(&self, out: &mut Vec<usize>) {
        match self {
            Self::Constant(_) => {}
            Self::Rank { base, .. } => out.push(*base),
            Self::Binary(_, left, right) => {
                left.bases(out);
                right.bases(out);
            }
        }
    }
}

/// The cascade's ranks as digits of the base ranks, and expressions over them.
pub struct Names<'a> {
    mapped: &'a MappedCascade,
    ranks: Vec<Formula>,
}

impl<'a> Names<'a> {
    pub fn new(mapped: &'a MappedCascade) -> Self {
        let cascade = &mapped.cascade;
        let ranks = (0..cascade.ranks.len())
            .map(|i| {
                let id = RankId(i);
                let part = cascade.partitions.iter().find(|p| p.parts.contains(&id));
                let whole = part.map_or(id, |p| p.whole);
                let base = mapped.base.iter().position(|b| b.rank == whole).unwrap();
                let Some(part) = part else {
                    return Formula::Rank {
                        base,
                        unit: 1,
                        modulus: None,
                    };
                };
                let at = part.parts.iter().position(|p| *p == id).unwrap();
                let size = |r: &RankId| mapped.sizes[&cascade.rank(*r).name];
                let unit = part.parts[at + 1..].iter().map(size).product();
                Formula::Rank {
                    base,
                    unit,
                    modulus: (at > 0).then(|| size(&id)),
                }
            })
            .collect();
        Self { mapped, ranks }
    }

    pub fn rank(&self, id: RankId) -> Formula {
        self.ranks[id.0].clone()
    }

    /// An expression, the variables of a view's own ranks replaced by what stands in their place.
    pub fn formula(&self, expr: &Expr, by: &[(String, Formula)]) -> Formula {
        let cascade = &self.mapped.cascade;
        match expr {
            Expr::Name { name, .. } => {
                if let Some((_, formula)) = by.iter().find(|(n, _)| n == name) {
                    return formula.clone();
                }
                match cascade.ranks.iter().position(|r| r.variable == *name) {
                    Some(i) => self.ranks[i].clone(),
                    None => Formula::Constant(self.mapped.sizes[name].into()),
                }
            }
            Expr::Binary {
                op, left, right, ..
            } => Formula::Binary(
                *op,
                Box::new(self.formula(left, by)),
                Box::new(self.formula(right, by)),
            ),
            Expr::Unary {
                op: UnaryOp::Neg,
                operand,
                ..
            } => Formula::Binary(
                BinaryOp::Sub,
                Box::new(Formula::Constant(0)),
                Box::new(self.formula(operand, by)),
            ),
            // Functions of sizes, such as ceil(H / G).
            _ => {
                let lookup = |name: &str| self.mapped.sizes.get(name).map(|v| i128::from(*v));
                Formula::Constant(expr.whole(&cascade.source, &lookup, &Vec::new).unwrap())
            }
        }
    }

    /// The coordinates of an index. Where a gather lands is not known: each point that it reads from is a word of its own.
    fn index(&self, index: &Index, by: &[(String, Formula)]) -> Vec<Formula> {
        match index {
            Index::Expr(expr) => vec![self.formula(expr, by)],
            Index::Gather(_, inner) => inner.iter().flat_map(|i| self.index(i, by)).collect(),
        }
    }

    /// What a read touches, views followed to the tensor that is really there.
    pub fn read(&self, tensor: TensorId, indices: &[Index]) -> (TensorId, Vec<Formula>) {
        let cascade = &self.mapped.cascade;
        let mut tensor = tensor;
        let mut found: Vec<Formula> = indices.iter().flat_map(|i| self.index(i, &[])).collect();
        while let Some(view) = cascade
            .tensor(tensor)
            .producer
            .map(|p| cascade.einsum(p))
            .filter(|e| e.view)
        {
            let names = cascade
                .tensor(tensor)
                .ranks
                .iter()
                .map(|r| cascade.rank(*r).variable.clone());
            let by: Vec<_> = names.zip(found).collect();
            let read = &view.reads[0];
            found = read
                .indices
                .iter()
                .flat_map(|i| self.index(i, &by))
                .collect();
            tensor = read.tensor;
        }
        (tensor, self.batched(found))
    }

    /// What an Einsum populates: the coordinate after an update for an iterative rank.
    pub fn written(&self, einsum: &Einsum) -> Vec<Formula> {
        let tensor = self.mapped.cascade.tensor(einsum.output);
        let mut found: Vec<Formula> = tensor.ranks.iter().map(|r| self.rank(*r)).collect();
        if let Some(i) = tensor.iterative {
            found[i] = Formula::Binary(
                BinaryOp::Add,
                Box::new(found[i].clone()),
                Box::new(Formula::Constant(1)),
            );
        }
        self.batched(found)
    }

    /// The words that an update replaces: the coordinate before it, of an iterative rank.
    pub fn replaced(&self, einsum: &Einsum) -> Option<Vec<Formula>> {
        let tensor = self.mapped.cascade.tensor(einsum.output);
        tensor.iterative?;
        Some(self.batched(tensor.ranks.iter().map(|r| self.rank(*r)).collect()))
    }

    /// The points of an Einsum as words of their own: its rank variables.
    pub fn variables(&self, einsum: &Einsum) -> Vec<Formula> {
        self.batched(einsum.ranks.iter().map(|r| self.rank(*r)).collect())
    }

    fn batched(&self, own: Vec<Formula>) -> Vec<Formula> {
        self.mapped
            .cascade
            .batch
            .iter()
            .map(|r| self.rank(*r))
            .chain(own)
            .collect()
    }
}

/// A way to touch words; images of boxes are remembered.
pub struct Touch {
    formulas: Vec<Formula>,
    bases: Vec<usize>,
    known: RefCell<HashMap<Vec<(u64, u64)>, Words>>,
}

impl Touch {
    pub fn new(formulas: Vec<Formula>) -> Self {
        let mut bases = Vec::new();
        formulas.iter().for_each(|f| f.bases(&mut bases));
        bases.sort_unstable();
        bases.dedup();
        Self {
            formulas,
            bases,
            known: RefCell::default(),
        }
    }

    pub fn formulas(&self) -> &[Formula] {
        &self.formulas
    }

    /// Every word that a point of the box touches.
    pub fn words(&self, area: &Area) -> Words {
        let key: Vec<_> = self.bases.iter().map(|b| area[*b]).collect();
        if let Some(found) = self.known.borrow().get(&key) {
            return Rc::clone(found);
        }
        let mut words = Vec::new();
        let mut point = vec![0; area.len()];
        each_point(&self.bases, area, &mut point, &mut |point| {
            words.push(self.formulas.iter().fold(0u64, |packed, f| {
                let value = u64::try_from(f.at(point)).unwrap();
                assert!(value < 128, "coordinates are packed into 7 bits");
                packed << 7 | value
            }));
        });
        words.sort_unstable();
        words.dedup();
        let words = Rc::new(words);
        self.known.borrow_mut().insert(key, Rc::clone(&words));
        words
    }
}

/// Visits every point of a box, walking only some base ranks.
pub fn each_point(
    bases: &[usize],
    area: &Area,
    point: &mut Vec<u64>,
    visit: &mut dyn FnMut(&[u64]),
) {
    let Some((first, rest)) = bases.split_first() else {
        return visit(point);
    };
    for x in area[*first].0..area[*first].1 {
        point[*first] = x;
        each_point(rest, area, point, visit);
    }
}
