//! The forms in which traces are published.

use einflow_spec::{Problem, nearest};

use super::{Columns, clock::Unit};

/// Where a form has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form<'n> {
    /// Whose it is.
    pub name: &'n str,
    /// When a request comes; none: it does not say.
    pub arrival: Option<&'n str>,
    /// What its clock counts.
    pub unit: Unit,
    /// Tokens of the prompt.
    pub prompt: &'n str,
    /// Tokens to generate.
    pub generated: &'n str,
}

const fn form(
    name: &'static str,
    arrival: Option<&'static str>,
    unit: Unit,
    [prompt, generated]: [&'static str; 2],
) -> Form<'static> {
    Form {
        name,
        arrival,
        unit,
        prompt,
        generated,
    }
}

/// Of tables. The first is this project's own; the others are those of Azure's public traces (2023, 2024), of BurstGPT, and
/// of Vidur, with arrivals and without.
pub(super) const TABLES: [Form<'static>; 5] = [
    form(
        "einflow",
        Some("arrival_s"),
        Unit::Seconds,
        ["prompt_tokens", "generated_tokens"],
    ),
    form(
        "Azure",
        Some("TIMESTAMP"),
        Unit::Seconds,
        ["ContextTokens", "GeneratedTokens"],
    ),
    form(
        "BurstGPT",
        Some("Timestamp"),
        Unit::Seconds,
        ["Request tokens", "Response tokens"],
    ),
    form(
        "Vidur",
        Some("arrived_at"),
        Unit::Seconds,
        ["num_prefill_tokens", "num_decode_tokens"],
    ),
    form(
        "Vidur, lengths",
        None,
        Unit::Seconds,
        ["num_prefill_tokens", "num_decode_tokens"],
    ),
];

/// Of JSON lines: Qwen's traces (Bailian) have a `chat_id` and seconds, Mooncake's and Kimi's milliseconds; LLMServingSim's
/// workloads nanoseconds.
pub(super) const LINES: [Form<'static>; 3] = [
    form(
        "Qwen",
        Some("timestamp"),
        Unit::Seconds,
        ["input_length", "output_length"],
    ),
    form(
        "Mooncake",
        Some("timestamp"),
        Unit::Milliseconds,
        ["input_length", "output_length"],
    ),
    form(
        "LLMServingSim",
        Some("arrival_time_ns"),
        Unit::Nanoseconds,
        ["input_toks", "output_toks"],
    ),
];

/// Columns that say which prompts begin alike, where a trace has them and none is named: block hashes as in Mooncake's and
/// Qwen's traces, tokens as in LLMServingSim's.
pub(super) const HASHES: &str = "hash_ids";
pub(super) const TOKENS: [&str; 2] = ["input_tok_ids", "output_tok_ids"];

/// Where a file says which prompts begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix<'n> {
    /// Nowhere.
    Nowhere,
    /// In a column of hashes.
    Hashes(&'n str),
    /// In a column of the prompt's tokens, and one of those that are generated.
    Tokens(&'n str, Option<&'n str>),
}

impl<'n> Prefix<'n> {
    /// What is named, else what there is.
    ///
    /// # Errors
    /// A column that is named, and that the file lacks, placed by `at`.
    pub fn of(
        columns: &'n Columns,
        has: &[&str],
        at: impl Fn(String) -> Problem,
    ) -> Result<Self, Problem> {
        let named = [
            &columns.hash_ids,
            &columns.prompt_ids,
            &columns.generated_ids,
        ];
        for name in named.into_iter().flatten() {
            if !has.contains(&name.as_str()) {
                let near = nearest(name, has.iter().copied());
                let problem = at(format!("a request trace lacks `{name}`"));
                return Err(match near {
                    Some(near) => problem.help(format!("is it `{near}`?")),
                    None => problem,
                });
            }
        }
        let there = |name: &'static str| has.contains(&name).then_some(name);
        let hashes = columns.hash_ids.as_deref();
        let [prompt, generated] = TOKENS;
        Ok(match (hashes, columns.prompt_ids.as_deref()) {
            (Some(hashes), _) => Self::Hashes(hashes),
            (None, Some(tokens)) => Self::Tokens(tokens, columns.generated_ids.as_deref()),
            (None, None) => match (there(HASHES), there(prompt)) {
                (Some(hashes), _) => Self::Hashes(hashes),
                (None, Some(tokens)) => Self::Tokens(tokens, there(generated)),
                (None, None) => Self::Nowhere,
            },
        })
    }
}

impl<'n> Form<'n> {
    /// Its columns.
    fn columns(&self) -> impl Iterator<Item = &'n str> {
        self.arrival
            .into_iter()
            .chain([self.prompt, self.generated])
    }

    /// The same where other columns are named.
    fn with(self, columns: &'n Columns) -> Self {
        let Columns {
            arrival,
            arrival_ms,
            prompt,
            generated,
            ..
        } = columns;
        let named = arrival.as_deref().or(arrival_ms.as_deref());
        Self {
            arrival: named.or(self.arrival),
            unit: match (named, arrival_ms) {
                (None, _) => self.unit,
                (Some(_), None) => Unit::Seconds,
                (Some(_), Some(_)) => Unit::Milliseconds,
            },
            prompt: prompt.as_deref().unwrap_or(self.prompt),
            generated: generated.as_deref().unwrap_or(self.generated),
            ..self
        }
    }
}

/// The first of some forms of which a file has all columns; what is named otherwise counts instead.
///
/// # Errors
/// None: what the nearest one has that the file lacks, placed by `at`.
pub(super) fn recognised<'n>(
    forms: &[Form<'static>],
    columns: &'n Columns,
    has: &[&str],
    at: impl Fn(String) -> Problem,
) -> Result<Form<'n>, Problem> {
    let with = || forms.iter().map(|form| form.with(columns));
    let lacks =
        |form: &Form<'n>| -> Vec<&'n str> { form.columns().filter(|c| !has.contains(c)).collect() };
    if let Some(found) = with().find(|form| lacks(form).is_empty()) {
        return Ok(found);
    }
    let least = with().min_by_key(|form| lacks(form).len());
    let missing = least.map(|form| lacks(&form)).unwrap_or_default();
    let quoted = |list: &[&str]| {
        let all: Vec<String> = list.iter().map(|c| format!("`{c}`")).collect();
        all.join(", ")
    };
    let mut help: Vec<String> = missing
        .iter()
        .filter_map(|c| Some(format!("is `{}` `{c}`?", nearest(c, has.iter().copied())?)))
        .collect();
    let known: Vec<String> = forms
        .iter()
        .map(|form| {
            let columns: Vec<&str> = form.columns().collect();
            format!("{}: {}", form.name, columns.join(", "))
        })
        .collect();
    help.push(format!(
        "forms that are known: {}; `columns` (--columns prompt=NAME,generated=NAME) names others",
        known.join("; ")
    ));
    Err(at(format!("a request trace lacks {}", quoted(&missing))).help(help.join("; ")))
}
