//! Traces as JSON objects, one a line.

use einflow_spec::{Problem, Problems, Source};
use serde_json::{Map, Value};

use super::{
    Reading, Row, Rows, at_row,
    clock::nanoseconds,
    forms::{Form, LINES, Prefix, recognised},
    prefix::Known,
    table::{MOST, hashes},
    unmarked,
};

/// The requests of a file of JSON lines.
pub(super) fn read(source: &Source, how: &Reading) -> Result<Rows, Problems> {
    let mut problems = Problems::new();
    let mut out = Vec::new();
    let mut known: Option<(Form<'_>, Prefix<'_>)> = None;
    for (line, text) in (1..).zip(unmarked(source).lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let parsed: Result<Map<String, Value>, Problem> = serde_json::from_str(text).map_err(|e| {
            let message = format!("row {line}: no JSON object on one line: {e}");
            at_row(source, line, message)
        });
        let Some(object) = problems.absorb(parsed.map_err(Problems::from)) else {
            continue;
        };
        let (form, alike) = match known {
            Some(known) => known,
            None => {
                let has: Vec<&str> = object.keys().map(String::as_str).collect();
                // Of two forms with the same columns one has this besides.
                let forms = match object.contains_key("chat_id") {
                    true => &LINES[..],
                    false => &LINES[1..],
                };
                let at = |message| at_row(source, line, message);
                let form = recognised(forms, &how.columns, &has, at)?;
                *known.insert((form, how.alike(&has, at)?))
            }
        };
        let row = request(source, line, &object, form, alike);
        out.extend(problems.absorb(row.map_err(Problems::from)));
    }
    Ok((out, problems))
}

fn request(
    source: &Source,
    line: u64,
    object: &Map<String, Value>,
    form: Form<'_>,
    alike: Prefix<'_>,
) -> Result<Row, Problem> {
    let written = |column: &str| match object.get(column) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let wrong = |column: &str, want: &str| {
        let found = match written(column) {
            text if text.is_empty() => "nothing".to_string(),
            text => format!("`{text}`"),
        };
        at_row(
            source,
            line,
            format!("row {line}, field `{column}`: {found} is not {want}"),
        )
    };
    let at = match form.arrival {
        None => None,
        Some(column) => {
            let at = nanoseconds(&written(column), form.unit);
            Some(at.ok_or_else(|| wrong(column, "a time"))?)
        }
    };
    let tokens = |column: &str| {
        let tokens: Option<u64> = written(column).parse().ok().filter(|n| *n <= MOST);
        tokens.ok_or_else(|| wrong(column, "a whole number of tokens up to 2^40"))
    };
    let ids = |column: &str| -> Result<Vec<u32>, Problem> {
        let wrong = || wrong(column, "a list of tokens");
        let list = match object.get(column) {
            Some(Value::Array(list)) => list.iter(),
            _ => return Err(wrong()),
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        list.map(|value| id(value).ok_or_else(wrong)).collect()
    };
    Ok(Row {
        at,
        prompt: tokens(form.prompt)?,
        generated: tokens(form.generated)?,
        line,
        known: match alike {
            Prefix::Nowhere => Known::Nothing,
            Prefix::Hashes(column) => Known::Hashes(hashes(&written(column))),
            Prefix::Tokens(prompt, generated) => {
                Known::Tokens(ids(prompt)?, generated.map_or(Ok(Vec::new()), ids)?)
            }
        },
    })
}
