//! A model's key heads in a cascade that has keys for each of its heads.

use std::collections::BTreeMap;

use einflow_spec::{Problem, expr::Expr};
use einflow_workloads::{
    Model,
    cascade::{Cascade, RankId},
};

/// Whether a condition ties queries to other ranks: a mask, which would be another one on other queries.
fn masks_queries(cascade: &Cascade) -> bool {
    let is = |id: &RankId, name: &str| cascade.rank(*id).name == name;
    let of_queries = |variable: &str| {
        let rank = cascade.ranks.iter().position(|r| r.variable == variable);
        let whole = |id: RankId| {
            let split = cascade.partitions.iter().find(|p| p.parts.contains(&id));
            split.map_or(id, |p| p.whole)
        };
        rank.map(|rank| is(&whole(RankId(rank)), "P"))
    };
    let mut conditions = cascade.einsums.iter().flat_map(|e| &e.support);
    conditions.any(|condition| {
        let (mut queries, mut others) = (false, false);
        condition.0.walk(&mut |part| {
            if let Expr::Name { name, .. } = part {
                queries |= of_queries(name) == Some(true);
                others |= of_queries(name) == Some(false);
            }
        });
        queries && others
    })
}

/// Where no query is masked, the query heads that share a key head are as many more queries of it: H becomes the number
/// of key heads, and P as many times longer. Nothing changes in a cascade with a rank G of its own.
///
/// # Errors
/// A mask: on more queries it would be another one.
pub fn share(
    model: &Model,
    cascade: &Cascade,
    given: &mut BTreeMap<String, u64>,
) -> Result<(), Problem> {
    let rank = |name: &str| cascade.ranks.iter().any(|r| r.name == name);
    let batch = |name: &str| cascade.batch.iter().any(|r| cascade.rank(*r).name == name);
    if model.group() == 1 || rank("G") || !batch("H") || !rank("P") {
        return Ok(());
    }
    if masks_queries(cascade) {
        let (name, heads, keys) = (&model.name, model.heads, model.key_heads);
        let message = format!(
            "{name} has {keys} key heads for its {heads} heads, and {} gives each head keys of its own",
            cascade.name
        );
        return Err(Problem::nowhere(message)
            .help(format!("name a cascade whose heads share keys, or state H, such as H={heads} for keys of each head"))
);
    }
    given.insert("H".into(), model.key_heads);
    if let Some(queries) = given.get_mut("P") {
        *queries = queries.saturating_mul(model.group());
    }
    Ok(())
}
