//! Request traces, as they are published.
//!
//! A table with a header, a JSON object a line, or a list of conversations: `forms.rs` has the columns of each. Where a
//! file has others, [`Columns`] names them.

mod clock;
mod conversations;
mod forms;
mod lines;
mod prefix;
mod table;

use std::sync::Arc;

use einflow_spec::{Problem, Problems, Source, Span, named, quantity::Seconds, record, text};
use forms::Prefix;

/// A request: when it comes, and how many tokens it brings and wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrival {
    /// After the first request of the file.
    pub at: Seconds,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens to generate.
    pub generated: u64,
    /// Its line in the file, from 1.
    pub row: u64,
    /// What the first blocks of its cache hold, as far as another request's hold the same: equal numbers are equal tokens,
    /// with all that is before them.
    pub shared: Alike,
}

/// What the first blocks of a cache hold, as far as others hold the same: as many as there are, or the first of a longer
/// list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    list: Option<Arc<[u32]>>,
    count: usize,
}

impl Alike {
    /// The first so many of a list.
    pub fn new(list: Arc<[u32]>, count: usize) -> Self {
        Self {
            count: count.min(list.len()),
            list: (count > 0).then_some(list),
        }
    }

    /// A number for each block.
    pub fn blocks(&self) -> &[u32] {
        self.list.as_deref().map_or(&[], |list| &list[..self.count])
    }
}

named! {
    /// Requests that are left out where that is asked for.
    pub enum Skip {
        /// Those with a prompt or an answer of no tokens.
        Empty = "empty",
        /// Those that come before the one that is listed before them.
        Unordered = "unordered",
        /// Those that no store holds.
        TooLarge = "too_large",
    }
}

record! {
    /// Which columns of a trace say what, where it has others than those that are known.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Columns = "columns of a trace" {
        /// When a request comes, in seconds, or as a date; of milliseconds see `arrival_ms`.
        pub arrival: Option<String> as text => "as the file's form has it";
        /// When a request comes, in milliseconds.
        pub arrival_ms: Option<String> as text => "`arrival`";
        /// Tokens of the prompt.
        pub prompt: Option<String> as text => "as the file's form has it";
        /// Tokens to generate.
        pub generated: Option<String> as text => "as the file's form has it";
        /// Hashes of the prompt's blocks, each with all before it: prompts with the same hash begin alike up to there.
        pub hash_ids: Option<String> as text => "`hash_ids`, if the file has it";
        /// The prompt's tokens, by number.
        pub prompt_ids: Option<String> as text => "`input_tok_ids`, if the file has it and no hashes";
        /// The generated tokens.
        pub generated_ids: Option<String> as text => "`output_tok_ids`, if the file has it; none beside `prompt_ids`";
    } check |fields| {
        if let (Some(Some(_)), Some(Some(_))) = (&arrival, &arrival_ms) {
            let problem = fields.node().problem("both `arrival` and `arrival_ms`");
            fields.push(problem.help("one of them: in seconds, or in milliseconds"));
        }
        if let (Some(Some(_)), Some(Some(_))) = (&hash_ids, &prompt_ids) {
            let problem = fields.node().problem("both `hash_ids` and `prompt_ids`");
            fields.push(problem.help("one of them says which prompts begin alike"));
        }
        if let (Some(Some(_)), Some(None)) = (&generated_ids, &prompt_ids) {
            let problem = fields.node().problem("`generated_ids` without `prompt_ids`");
            fields.push(problem.help("what is generated follows the prompt: name both"));
        }
    }
}

/// How a trace is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Names of its columns.
    pub columns: Columns,
    /// What is left out.
    pub skip: Vec<Skip>,
    /// Whether times are needed.
    pub arrivals: bool,
    /// The first so many requests; what follows them is not looked at.
    pub most: Option<u64>,
    /// Where prompts that begin alike find what others left: how.
    pub prefixes: Option<Prefixes>,
}

/// How prompts that begin alike are found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prefixes {
    /// Tokens of a block of the server's cache.
    pub block: u64,
    /// Tokens that a hash of the file stands for, where that is said.
    pub hash_block: Option<u64>,
    /// The share of each prompt with which all begin, in place of what the file says.
    pub share: Option<f64>,
}

impl Reading {
    /// Where the file says which prompts begin alike, if anybody wants to know.
    ///
    /// # Errors
    /// A column that is named, and that the file lacks; a stated share beside what the file says.
    fn alike<'n>(
        &'n self,
        has: &[&str],
        at: impl Fn(String) -> Problem,
    ) -> Result<Prefix<'n>, Problem> {
        let Some(prefixes) = self.prefixes else {
            return Ok(Prefix::Nowhere);
        };
        let found = Prefix::of(&self.columns, has, &at)?;
        if prefixes.share.is_some() && self.columns.names_prefixes() {
            return Err(at(
                "columns that say which prompts begin alike, beside a stated share".into(),
            )
            .help("`shared_prefix`, or the columns"));
        }
        if prefixes.hash_block.is_some() && !matches!(found, Prefix::Hashes(_)) {
            let problem = at("tokens of a block hash, and the trace has no such hashes".into());
            return Err(problem.help("leave `hash_block` out, or name their column: `hash_ids`"));
        }
        Ok(match prefixes.share {
            Some(_) => Prefix::Nowhere,
            None => found,
        })
    }
}

impl Columns {
    /// Whether one says which prompts begin alike.
    fn names_prefixes(&self) -> bool {
        self.hash_ids.is_some() || self.prompt_ids.is_some()
    }
}

/// Requests that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Why, as in "3 requests ... are left out".
    pub why: &'static str,
    /// How many.
    pub count: u64,
    /// The line of the first.
    pub first: u64,
}

impl LeftOut {
    /// One more, at a line.
    pub fn note(list: &mut Vec<Self>, why: &'static str, row: u64) {
        match list.iter_mut().find(|l| l.why == why) {
            Some(known) => known.count += 1,
            None => list.push(Self {
                why,
                count: 1,
                first: row,
            }),
        }
    }
}

/// The requests of a file that can be read, and what is wrong with the others.
type Rows = (Vec<Row>, Problems);

/// What a file holds of a request: nanoseconds of its clock, if it has one, and tokens.
struct Row {
    at: Option<i128>,
    prompt: u64,
    generated: u64,
    line: u64,
    known: prefix::Known,
}

/// The requests of a trace in its order, and those that were left out.
///
/// Time counts from the first request of the file, wherever its clock begins.
///
/// # Errors
/// A form that is not known; every cell that is wrong, each by line and column; an arrival before the one that is listed
/// before it and a request without tokens, where those are not left out; no arrivals where they are needed.
pub fn read(source: &Source, how: &Reading) -> Result<(Vec<Arrival>, Vec<LeftOut>), Problems> {
    let (rows, mut problems) = match unmarked(source).trim_start().chars().next() {
        Some('{') => lines::read(source, how)?,
        Some('[') => conversations::read(source, how)?,
        _ => table::read(source, how)?,
    };
    let shared = match &how.prefixes {
        None => vec![Alike::default(); rows.len()],
        Some(Prefixes {
            block,
            share: Some(share),
            ..
        }) => prefix::stated(&rows, *block, *share),
        Some(Prefixes {
            block, hash_block, ..
        }) => match prefix::shared(source, &rows, *block, *hash_block) {
            Ok(shared) => shared,
            Err(problem) => {
                problems.push(problem);
                vec![Alike::default(); rows.len()]
            }
        },
    };
    let (mut list, mut left_out): (Vec<Arrival>, _) = (Vec::new(), Vec::new());
    let begin = rows.iter().find_map(|r| r.at).unwrap_or(0);
    let mut last = i128::MIN;
    for (row, shared) in rows.iter().zip(shared) {
        if how.most.is_some_and(|most| list.len() as u64 >= most) {
            break;
        }
        let at = row.at.unwrap_or(begin);
        if row.prompt == 0 || row.generated == 0 {
            if how.skip.contains(&Skip::Empty) {
                LeftOut::note(&mut left_out, "without tokens", row.line);
                continue;
            }
            let message = format!(
                "row {}: a request of {} tokens that wants {}",
                row.line, row.prompt, row.generated
            );
            problems.push(at_row(source, row.line, message).help(
                "both are 1 or more; `skip: [empty]` (--skip empty) leaves such requests out",
            ));
            continue;
        }
        if at < last || at < begin {
            if how.skip.contains(&Skip::Unordered) {
                LeftOut::note(&mut left_out, "out of order", row.line);
                continue;
            }
            let message = format!(
                "row {}: it comes before the request that is listed before it",
                row.line
            );
            problems.push(
                at_row(source, row.line, message).help(
                    "in order of arrival; `skip: [unordered]` (--skip unordered) leaves such requests out",
                ),
            );
            continue;
        }
        last = at;
        list.push(Arrival {
            at: Seconds((at - begin) as f64 / 1e9),
            prompt: row.prompt,
            generated: row.generated,
            row: row.line,
            shared,
        });
    }
    if list.is_empty() && problems.is_empty() {
        problems.push(at_row(source, 1, "the trace has no requests"));
    }
    problems.into_result(Some((list, left_out)))
}

/// The text without a byte order mark.
fn unmarked(source: &Source) -> &str {
    source.text().trim_start_matches('\u{feff}')
}

/// A problem with the request in a line of its file.
pub fn at_row(source: &Source, row: u64, message: impl Into<String>) -> Problem {
    let line = usize::try_from(row).unwrap_or(usize::MAX);
    let start = source.offset_of(line, 1);
    let rest = source.text().get(start..).unwrap_or("");
    let end = start + rest.lines().next().map_or(0, str::len);
    Problem::at(source, Span::new(start, end), message)
}
