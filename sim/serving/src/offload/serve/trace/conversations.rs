//! Conversations as ShareGPT's: text without times, of which tokens are estimated.

use einflow_spec::{Problems, Source};
use serde::Deserialize;

use super::{Columns, Reading, Row, Rows, at_row, prefix::Known, unmarked};

/// Characters of a token: the rule of thumb for English text that OpenAI gives for its tokenisers.
const CHARACTERS: u64 = 4;

#[derive(Deserialize)]
struct Conversation<'t> {
    #[serde(borrow)]
    conversations: Vec<Turn<'t>>,
}

#[derive(Deserialize)]
struct Turn<'t> {
    #[serde(borrow)]
    value: std::borrow::Cow<'t, str>,
}

/// The first question and the first answer of each conversation, a token for every four characters, rounded up.
pub(super) fn read(source: &Source, how: &Reading) -> Result<Rows, Problems> {
    if how.arrivals {
        let problem = at_row(source, 1, "conversations do not say when requests come");
        let help = "all at the start, with `arrivals: false` in a scenario; or a file with times";
        return Err(problem.help(help).into());
    }
    if how.columns != Columns::default() {
        let problem = at_row(source, 1, "conversations have no columns");
        return Err(problem
            .help("no `columns`: tokens are estimated from the text")
            .into());
    }
    let text = unmarked(source);
    let parsed: Result<Vec<Conversation<'_>>, _> = serde_json::from_str(text);
    let parsed = parsed.map_err(|e| {
        let message = format!("no list of conversations: {e}");
        let problem = at_row(source, e.line() as u64, message);
        problem.help(r#"[{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}, ...]"#)
    })?;
    let tokens = |turn: Option<&Turn<'_>>| {
        let characters = turn.map_or(0, |t| t.value.chars().count() as u64);
        characters.div_ceil(CHARACTERS)
    };
    let row = |(number, own): (u64, &Conversation<'_>)| Row {
        at: None,
        prompt: tokens(own.conversations.first()),
        generated: tokens(own.conversations.get(1)),
        line: number,
        known: Known::Nothing,
    };
    Ok(((1..).zip(&parsed).map(row).collect(), Problems::new()))
}
