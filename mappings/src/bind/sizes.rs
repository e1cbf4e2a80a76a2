//! Sizes of rank parts: expressions, the largest that fits, and those that a search finds.

use std::collections::BTreeMap;

use einflow_spec::{Problem, Problems, Span, expr::Expr};

use super::{capacity::occupancy_of, context::Context, search};
use crate::spec::{Choice, Name, Room, SizeRule};

/// Sizes and order of the searched loops of one block, and the optional places that it does without.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub sizes: BTreeMap<String, u64>,
    pub order: Vec<usize>,
    pub without: Vec<Span>,
}

/// A size to find: its name, its rule, and whether it belongs to one block only.
pub(crate) type Rule<'a> = (&'a Name, &'a SizeRule);

/// Finds the sizes of every block's rank parts.
pub(crate) fn resolve(context: &Context<'_>) -> Result<Vec<Found>, Problems> {
    let mut problems = Problems::new();
    let shared: Vec<Rule<'_>> = rules(context, &context.spec.sizes, &mut problems)
        .into_iter()
        .filter(|(name, _)| !context.cascade.parameters.contains_key(&name.text))
        .collect();
    let mut own: Vec<Vec<Rule<'_>>> = Vec::new();
    for block in &context.spec.blocks {
        own.push(rules(context, &block.sizes, &mut problems));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // The mapping's sizes must suit all blocks at once, a block's own at their least and nothing optional kept.
    let everywhere: Vec<usize> = (0..context.spec.blocks.len()).collect();
    let least = |index: usize, sizes: &BTreeMap<String, u64>| {
        let mut sizes = sizes.clone();
        sizes.extend(own[index].iter().map(|(name, _)| (name.text.clone(), 1)));
        sizes
    };
    let optional: Vec<Vec<Span>> = everywhere
        .iter()
        .map(|i| search::optional(context, *i))
        .collect();
    let mut sizes = BTreeMap::new();
    for (name, _) in &shared {
        sizes.insert(name.text.clone(), 1);
    }
    let mut wrong: Vec<&str> = Vec::new();
    for (position, (name, rule)) in shared.iter().enumerate() {
        if let SizeRule::Searched = rule {
            problems.push(
                context
                    .at(
                        name,
                        format!(
                            "{} is shared by all blocks and cannot be searched",
                            name.text
                        ),
                    )
                    .help("move its size and its split into the block that uses it"),
            );
            continue;
        }
        let fits = |sizes: &BTreeMap<String, u64>, room: &Room| {
            everywhere.iter().try_fold(true, |ok, i| {
                Ok::<_, Problems>(ok && fits(context, *i, &least(*i, sizes), &optional[*i], room)?)
            })
        };
        // What follows from a wrong size says nothing new.
        let follows = reads(rule).iter().any(|read| wrong.contains(read));
        if follows
            || problems
                .absorb(settle(
                    context,
                    &everywhere,
                    &shared[position..],
                    &mut sizes,
                    None,
                    &fits,
                ))
                .is_none()
        {
            wrong.push(&name.text);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut found = Vec::new();
    for (index, rules) in own.iter().enumerate() {
        if let Some(block) = problems.absorb(search::block(context, index, &sizes, rules)) {
            found.push(block);
        }
    }
    problems.into_result(Some(found))
}

fn rules<'a>(
    context: &Context<'a>,
    sizes: &'a [(Name, Choice<SizeRule>)],
    problems: &mut Problems,
) -> Vec<Rule<'a>> {
    sizes
        .iter()
        .filter_map(|(name, choice)| {
            let rule = problems.absorb(
                choice
                    .pick(context.row, &context.spec.source)
                    .map_err(Problems::from),
            )?;
            Some((name, rule))
        })
        .collect()
}

/// The names that a size is computed from.
pub(crate) fn reads(rule: &SizeRule) -> Vec<&str> {
    let mut names = Vec::new();
    if let SizeRule::Expr(expr) = rule {
        expr.walk(&mut |part| {
            if let Expr::Name { name, .. } = part {
                names.push(name.as_str());
            }
        });
    }
    names
}

/// Whether sizes fit the room that a rule allows.
pub(crate) type Fits<'a> = &'a dyn Fn(&BTreeMap<String, u64>, &Room) -> Result<bool, Problems>;

/// Gives the first of `rules` its value. The sizes of all of them are in `sizes` at their least, but no expression
/// may read them yet. The largest that fits is sought from `near` on.
pub(crate) fn settle(
    context: &Context<'_>,
    blocks: &[usize],
    rules: &[Rule<'_>],
    sizes: &mut BTreeMap<String, u64>,
    near: Option<u64>,
    fits: Fits<'_>,
) -> Result<(), Problems> {
    let Some((name, rule)) = rules.first() else {
        return Ok(());
    };
    let value = match rule {
        SizeRule::Expr(expr) => {
            // What a search chose is known from the start.
            let later = |size: &str| {
                rules
                    .iter()
                    .any(|(n, r)| n.text == size && !matches!(r, SizeRule::Searched))
            };
            refuse_later(context, name, expr, &later)?;
            let earlier: BTreeMap<String, u64> = sizes
                .iter()
                .filter(|(k, _)| !later(k))
                .map(|(k, v)| (k.clone(), *v))
                .collect();
            context.scope(&earlier).size(expr)?
        }
        SizeRule::Searched => return Ok(()),
        SizeRule::LargestDivisorThatFits(room) => {
            let whole = cut_count(context, blocks, name, sizes)?;
            largest(&divisors(whole), name, sizes, &|s| fits(s, room))?
        }
        SizeRule::LargestThatFits(room) => {
            let whole = cut_count(context, blocks, name, sizes)?;
            largest_upto(whole, name, sizes, near, &|s| fits(s, room))?
        }
    };
    sizes.insert(name.text.clone(), value);
    Ok(())
}

/// Refuses an expression that reads a size which is not found yet, such as its own.
fn refuse_later(
    context: &Context<'_>,
    name: &Name,
    expr: &Expr,
    later: &dyn Fn(&str) -> bool,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    expr.walk(&mut |part| {
        if let Expr::Name { name: read, span } = part
            && later(read)
        {
            let message = if *read == name.text {
                format!("the size of `{read}` is given by itself")
            } else {
                format!(
                    "the size of `{}` reads `{read}`, which is found after it",
                    name.text
                )
            };
            problems.push(
                Problem::at(&context.spec.source, *span, message)
                    .help("sizes are found in the order of the file, and read those before them"),
            );
        }
    });
    problems.into_result(Some(()))
}

/// How many of the next finer part the rank holds that a part is to cut.
pub(crate) fn cut_count(
    context: &Context<'_>,
    blocks: &[usize],
    name: &Name,
    sizes: &BTreeMap<String, u64>,
) -> Result<u64, Problem> {
    for index in blocks {
        for (rank, parts) in context.splits(&context.spec.blocks[*index]) {
            let Some(position) = parts.iter().position(|p| p.text == name.text) else {
                continue;
            };
            let Some(id) = context.cascade.rank_named(&rank.text) else {
                continue;
            };
            let inner = parts[position + 1..]
                .iter()
                .map(|p| sizes.get(&p.text).copied().unwrap_or(1));
            let inner = inner.fold(1u64, u64::saturating_mul);
            return Ok(context.ranks.digit(id).size.div_ceil(inner.max(1)));
        }
    }
    Err(context
        .at(
            name,
            format!(
                "`{}` is not a part of any split, so nothing says what it may cut",
                name.text
            ),
        )
        .help("name it in `splits`"))
}

/// All divisors, ascending.
fn divisors(n: u64) -> Vec<u64> {
    let mut low = Vec::new();
    let mut high = Vec::new();
    let mut d = 1;
    while d * d <= n {
        if n.is_multiple_of(d) {
            low.push(d);
            if d != n / d {
                high.push(n / d);
            }
        }
        d += 1;
    }
    low.extend(high.into_iter().rev());
    low
}

type Test<'a> = &'a dyn Fn(&BTreeMap<String, u64>) -> Result<bool, Problems>;

/// The largest candidate that fits; the first where none does (the capacity check then says why).
fn largest(
    candidates: &[u64],
    name: &Name,
    sizes: &BTreeMap<String, u64>,
    fits: Test<'_>,
) -> Result<u64, Problems> {
    let mut trial = sizes.clone();
    let mut test = |value: u64| {
        trial.insert(name.text.clone(), value);
        fits(&trial)
    };
    // More room is never needed for a smaller part, so the candidates divide into those that fit and those that do not.
    let (mut low, mut high) = (0, candidates.len());
    while high - low > 1 {
        let middle = low.midpoint(high);
        if test(candidates[middle])? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(candidates.get(low).copied().unwrap_or(1))
}

fn largest_upto(
    whole: u64,
    name: &Name,
    sizes: &BTreeMap<String, u64>,
    near: Option<u64>,
    fits: Test<'_>,
) -> Result<u64, Problems> {
    let mut trial = sizes.clone();
    let mut test = |value: u64| {
        trial.insert(name.text.clone(), value);
        fits(&trial)
    };
    if test(whole)? {
        return Ok(whole.max(1));
    }
    let (mut low, mut high) = (1, whole.max(2));
    // In growing strides from what is likely; it is found all the same where it is not.
    if let Some(near) = near.filter(|near| (1..high).contains(near)) {
        let mut stride = 1;
        if near == 1 || test(near)? {
            low = near;
            while stride < high - low {
                if !test(low + stride)? {
                    high = low + stride;
                    break;
                }
                low += stride;
                stride *= 2;
            }
        } else {
            high = near;
            while stride < high - low {
                if test(high - stride)? {
                    low = high - stride;
                    break;
                }
                high -= stride;
                stride *= 2;
            }
        }
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if test(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Whether a block's tiles fit their memories, or the part of one that `room` allows.
pub(crate) fn fits(
    context: &Context<'_>,
    index: usize,
    sizes: &BTreeMap<String, u64>,
    without: &[Span],
    room: &Room,
) -> Result<bool, Problems> {
    let limit = room
        .within
        .as_ref()
        .map(|e| context.scope(sizes).whole(e))
        .transpose()?;
    let only = room
        .memory
        .as_ref()
        .map(|m| context.memory(m))
        .transpose()?;
    let Some(needed) = occupancy_of(context, &context.room(index, sizes, without)?) else {
        return Ok(false);
    };
    Ok(context
        .accelerator
        .memories
        .iter()
        .enumerate()
        .all(|(i, memory)| {
            let capacity = memory.capacity.map(|c| c.0);
            let room = match limit {
                Some(limit)
                    if only.is_none_or(|o| o == i) && (only.is_some() || capacity.is_some()) =>
                {
                    Some(
                        u128::try_from(limit)
                            .unwrap_or(0)
                            .min(capacity.unwrap_or(u128::MAX)),
                    )
                }
                _ => capacity,
            };
            room.is_none_or(|room| needed[i] <= room)
        }))
}
