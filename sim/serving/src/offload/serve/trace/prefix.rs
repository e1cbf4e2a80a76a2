//! Which requests begin with the same tokens, in blocks of the server's cache.
//!
//! Traces say so in one of two ways: by hashes, each of a block of the prompt with all that is before it, or by the tokens
//! themselves.

use std::sync::Arc;

use einflow_spec::{Problem, Source};
use rustc_hash::FxHashMap;

use super::{Alike, Row, at_row};

/// What a row says of its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    #[default]
    Nothing,
    /// Hashes of the prompt's blocks.
    Hashes(Vec<u64>),
    /// Tokens of the prompt, and of what is generated.
    Tokens(Vec<u32>, Vec<u32>),
}

/// Tokens of a block of the hashes that are published: Mooncake's, and Qwen's.
const PUBLISHED: [u64; 2] = [512, 16];

/// Contents of the first blocks of each row's cache, as far as another row has the same; `block`: tokens of one.
///
/// # Errors
/// Hashes of which nobody says how many tokens each stands for, a row with more or fewer than its prompt has; fewer tokens
/// than the prompt's.
pub(super) fn shared(
    source: &Source,
    rows: &[Row],
    block: u64,
    hash_block: Option<u64>,
) -> Result<Vec<Alike>, Problem> {
    let mut contents = Contents::default();
    let mut own: Vec<Vec<u32>> = Vec::with_capacity(rows.len());
    let hashed = hash_tokens(source, rows, hash_block)?;
    // Blocks of hashes that more than one row has: others are nobody's but the row's own.
    let mut times: FxHashMap<u64, u32> = FxHashMap::default();
    for hash in rows.iter().flat_map(|row| row.hashes()) {
        *times.entry(*hash).or_default() += 1;
    }
    for row in rows {
        own.push(match &row.known {
            Known::Nothing => Vec::new(),
            Known::Hashes(hashes) => {
                let met = hashes.iter().take_while(|hash| times[*hash] > 1).count() as u64;
                let full = row.prompt.min(met.saturating_mul(hashed)) / block;
                // A block is known by the hash of its last token, which is one of all before it, and where it ends.
                let ends = (0..full).map(|at| (at + 1) * block - 1);
                ends.map(|end| contents.of(Key::Hash(hashes[(end / hashed) as usize], end)))
                    .collect()
            }
            Known::Tokens(prompt, generated) => {
                if (prompt.len() as u64) != row.prompt {
                    let message = format!(
                        "row {}: {} tokens are listed of a prompt of {}",
                        row.line,
                        prompt.len(),
                        row.prompt
                    );
                    return Err(at_row(source, row.line, message).help(
                        "each token of a prompt, or none of any: `prefix_caching: false` reads none",
                    ));
                }
                let all: Vec<u32> = prompt.iter().chain(generated).copied().collect();
                let mut before = None;
                let chunks = all.chunks_exact(usize::try_from(block).unwrap_or(usize::MAX));
                chunks
                    .map(|tokens| {
                        let content = contents.of(Key::Tokens(before, tokens.into()));
                        before = Some(content);
                        content
                    })
                    .collect()
            }
        });
    }
    let shared = |list: Vec<u32>| {
        let met = list.iter().take_while(|c| contents.times[**c as usize] > 1);
        let met = met.count();
        Alike::new(list[..met].into(), met)
    };
    Ok(own.into_iter().map(shared).collect())
}

/// The same where all prompts begin alike: the first `share` of each.
pub(super) fn stated(rows: &[Row], block: u64, share: f64) -> Vec<Alike> {
    let of = |row: &Row| (row.prompt as f64 * share).floor() as u64 / block;
    let blocks = |row: &Row| u32::try_from(of(row)).map_or(MOST, |blocks| blocks.min(MOST));
    // All of them are the first of the longest.
    let longest: Arc<[u32]> = (0..rows.iter().map(blocks).max().unwrap_or(0)).collect();
    let alike = |row: &Row| Alike::new(Arc::clone(&longest), blocks(row) as usize);
    rows.iter().map(alike).collect()
}

/// Blocks that all prompts have in common, at the most: beyond what a store holds.
const MOST: u32 = 1 << 26;

impl Row {
    fn hashes(&self) -> &[u64] {
        match &self.known {
            Known::Hashes(hashes) => hashes,
            _ => &[],
        }
    }
}

/// Tokens that a hash stands for: as said, else the block of a published form that fits every row.
fn hash_tokens(source: &Source, rows: &[Row], said: Option<u64>) -> Result<u64, Problem> {
    let hashed = || rows.iter().filter(|row| !row.hashes().is_empty());
    let fits = |row: &Row, tokens: u64| row.hashes().len() as u64 == row.prompt.div_ceil(tokens);
    let odd = |tokens: u64| hashed().find(|row| !fits(row, tokens));
    let known = PUBLISHED.into_iter().find(|tokens| odd(*tokens).is_none());
    let (tokens, row) = match (said, known) {
        (Some(said), _) => (said, odd(said)),
        (None, Some(known)) => (known, None),
        (None, None) => (PUBLISHED[0], odd(PUBLISHED[0])),
    };
    let Some(row) = row else { return Ok(tokens) };
    let message = format!(
        "row {}: {} block hashes of a prompt of {} tokens, which has {} blocks of {tokens}",
        row.line,
        row.hashes().len(),
        row.prompt,
        row.prompt.div_ceil(tokens),
    );
    Err(at_row(source, row.line, message).help(
        "`hash_block` (--hash-block) says how many tokens a hash stands for, the last of a prompt fewer",
    ))
}

/// What is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A hash, and the last token of a block that ends in what it stands for.
    Hash(u64, u64),
    /// The content before, and the tokens.
    Tokens(Option<u32>, Box<[u32]>),
}

/// Contents by number, and how many rows have each.
#[derive(Default)]
struct Contents {
    numbers: FxHashMap<Key, u32>,
    times: Vec<u32>,
}

impl Contents {
    fn of(&mut self, key: Key) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX - 1);
        let number = *self.numbers.entry(key).or_insert(next);
        match self.times.get_mut(number as usize) {
            Some(times) => *times = times.saturating_add(1),
            None => self.times.push(1),
        }
        number
    }
}
