//! The forms in which traces are published.

use einflow_spec::{Problem, nearest};

use super::Columns;

/// Where a form has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form<'n> {
    /// Whose it is.
    pub name: &'n str,
    /// When a request comes; none: it does not say.
    pub arrival: Option<&'n str>,
    /// Whether in milliseconds; else in seconds, or a date.
    pub milliseconds: bool,
    /// Tokens of the prompt.
    pub prompt: &'n str,
    /// Tokens to generate.
    pub generated: &'n str,
}

const fn form(
    name: &'static str,
    arrival: Option<&'static str>,
    milliseconds: bool,
    [prompt, generated]: [&'static str; 2],
) -> Form<'static> {
    Form {
        name,
        arrival,
        milliseconds,
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
        false,
        ["prompt_tokens", "generated_tokens"],
    ),
    form(
        "Azure",
        Some("TIMESTAMP"),
        false,
        ["ContextTokens", "GeneratedTokens"],
    ),
    form(
        "BurstGPT",
        Some("Timestamp"),
        false,
        ["Request tokens", "Response tokens"],
    ),
    form(
        "Vidur",
        Some("arrived_at"),
        false,
        ["num_prefill_tokens", "num_decode_tokens"],
    ),
    form(
        "Vidur, lengths",
        None,
        false,
        ["num_prefill_tokens", "num_decode_tokens"],
    ),
];

/// Of JSON lines: Qwen's traces (Bailian) have a `chat_id` and seconds, Mooncake's and Kimi's milliseconds.
pub(super) const LINES: [Form<'static>; 2] = [
    form(
        "Qwen",
        Some("timestamp"),
        false,
        ["input_length", "output_length"],
    ),
    form(
        "Mooncake",
        Some("timestamp"),
        true,
        ["input_length", "output_length"],
    ),
];

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
        } = columns;
        let named = arrival.as_deref().or(arrival_ms.as_deref());
        Self {
            arrival: named.or(self.arrival),
            milliseconds: match named {
                Some(_) => arrival_ms.is_some(),
                None => self.milliseconds,
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
