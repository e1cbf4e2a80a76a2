//! Einsum text, statement by statement: `T[indices] = expression [:: op(ranks)] [where condition, ...]`.

use einflow_spec::expr::{Expr, Parser, Token};
use einflow_spec::{Problem, Problems, Source, Span};

/// A statement longer than this is refused: it bounds the depth of every expression tree.
const LONGEST: usize = 4096;

/// One statement as written.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The tensor on the left.
    pub tensor: String,
    /// Where its name stands.
    pub tensor_span: Span,
    /// The indices on the left.
    pub indices: Vec<Expr>,
    /// All of the left side.
    pub left_span: Span,
    /// The right side.
    pub right: Expr,
    /// The named reduction, if there is one.
    pub reduction: Option<Reduction>,
    /// The conditions, between commas.
    pub conditions: Vec<Expr>,
    /// All of the statement.
    pub span: Span,
}

/// `:: max(m0)` or `:: top(m -> k)` as written.
#[derive(Clone, Debug)]
pub struct Reduction {
    /// The operator and its place.
    pub operator: (String, Span),
    /// The reduced rank variables.
    pub ranks: Vec<(String, Span)>,
    /// The populated rank variable, after `->`.
    pub into: Option<(String, Span)>,
    /// All of it, without `::`.
    pub span: Span,
}

/// What [`statements`] makes of a text.
#[derive(Clone, Debug, Default)]
pub struct Statements {
    /// The statements that could be read.
    pub found: Vec<Statement>,
    /// What is wrong with the others.
    pub problems: Problems,
    /// The tensors that the others seem to make.
    pub broken: Vec<String>,
}

/// Reads every statement of a text that begins at offset `base` of `source`. A mistake in one statement does
/// not hide those in the others.
pub fn statements(source: &Source, text: &str, base: usize) -> Statements {
    let mut out = Statements::default();
    for (start, end) in split(text) {
        match statement(source, &text[start..end], base + start) {
            Ok(Some(statement)) => out.found.push(statement),
            Ok(None) => {}
            Err(mut problem) => {
                problem.message = problem
                    .message
                    .replace("the end of the text", "the end of the statement");
                let line = significant_line(&text[start..end]);
                let name = line
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(line.len());
                out.broken.push(line[..name].to_owned());
                out.problems.push(problem);
            }
        }
    }
    out
}

/// A declaration such as `Q[e, p]`, or `IDX[k, p] -> m` for an input that holds coordinates of M.
pub fn declaration(source: &Source, text: &str, base: usize) -> Result<Declaration, Problem> {
    let mut parser = parser(source, text, base)?;
    parser.skip_newlines();
    let (name, span) = parser.name()?;
    let mut ranks = Vec::new();
    if parser.eat("[") {
        loop {
            if parser.eat("]") {
                break;
            }
            ranks.push(parser.name()?);
            if !parser.eat(",") {
                parser.expect("]")?;
                break;
            }
        }
    }
    let coordinates_of = if parser.eat("->") {
        Some(parser.name()?)
    } else {
        None
    };
    parser.skip_newlines();
    parser.end()?;
    Ok(Declaration {
        name,
        span,
        ranks,
        coordinates_of,
    })
}

/// The declaration of an input or output.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The tensor.
    pub name: String,
    /// Where its name stands.
    pub span: Span,
    /// Its rank variables, in order.
    pub ranks: Vec<(String, Span)>,
    /// The rank whose coordinates it holds.
    pub coordinates_of: Option<(String, Span)>,
}

/// `M -> M1, M0` as written.
#[derive(Clone, Debug)]
pub struct Split {
    /// The rank that is split.
    pub whole: (String, Span),
    /// Its parts, outermost first.
    pub parts: Vec<(String, Span)>,
}

/// Reads `M -> M1, M0`.
pub fn partition(source: &Source, text: &str, base: usize) -> Result<Split, Problem> {
    let mut parser = parser(source, text, base)?;
    parser.skip_newlines();
    let whole = parser.name()?;
    parser.expect("->")?;
    let mut parts = vec![parser.name()?];
    while parser.eat(",") {
        parts.push(parser.name()?);
    }
    parser.skip_newlines();
    parser.end()?;
    Ok(Split { whole, parts })
}

/// Reads an expression that stands alone in a string.
pub fn expression(source: &Source, text: &str, base: usize) -> Result<Expr, Problem> {
    parser(source, text, base)?;
    Expr::parse(source, text, base)
}

fn parser(source: &Source, text: &str, base: usize) -> Result<Parser, Problem> {
    if text.len() > LONGEST {
        let span = Span::new(base, base + 1);
        let message = format!(
            "a statement of {} bytes: at most {LONGEST} are accepted",
            text.len()
        );
        return Err(Problem::at(source, span, message).help("give parts of it names of their own"));
    }
    Parser::new(source, text, base)
}

fn statement(source: &Source, text: &str, base: usize) -> Result<Option<Statement>, Problem> {
    // The end of a statement stands where its text ends, not in the next line.
    let mut parser = parser(source, text.trim_end(), base)?;
    parser.skip_newlines();
    if matches!(parser.peek(), Token::End) {
        return Ok(None);
    }
    let start = parser.span();
    let (tensor, tensor_span) = match parser.peek() {
        Token::Name(name) if name != "where" => parser.name()?,
        _ => {
            return Err(parser
                .unexpected("a statement")
                .help("a statement is `T[i, j] = expression`"));
        }
    };
    let mut left_span = tensor_span;
    let mut indices = Vec::new();
    if parser.eat("[") {
        let (parts, end) = parser.arguments("]")?;
        indices = parts;
        left_span = left_span.to(end);
    }
    parser.expect("=")?;
    let right = parser.expression()?;
    let mut end = right.span();
    let mut reduction = None;
    parser.skip_newlines();
    if parser.eat("::") {
        let found = reduction_after_colons(&mut parser)?;
        end = found.span;
        reduction = Some(found);
        parser.skip_newlines();
    }
    let mut conditions = Vec::new();
    if parser.eat_word("where") {
        loop {
            parser.skip_newlines();
            let condition = parser.expression()?;
            end = condition.span();
            conditions.push(condition);
            if !parser.eat(",") {
                break;
            }
        }
        parser.skip_newlines();
    }
    if !matches!(parser.peek(), Token::End) {
        let expected = match (&reduction, conditions.is_empty()) {
            (_, false) => "an operator, `,` or the end of the statement",
            (Some(_), true) => "`where` or the end of the statement",
            (None, true) => "an operator, `::`, `where` or the end of the statement",
        };
        return Err(parser.unexpected(expected));
    }
    let span = start.to(end);
    Ok(Some(Statement {
        tensor,
        tensor_span,
        indices,
        left_span,
        right,
        reduction,
        conditions,
        span,
    }))
}

fn reduction_after_colons(parser: &mut Parser) -> Result<Reduction, Problem> {
    let operator = parser.name()?;
    parser.expect("(").map_err(|problem| {
        problem.help("a reduction names its ranks: `:: max(m0)`, `:: top(m -> k)`")
    })?;
    let mut ranks = vec![parser.name()?];
    while parser.eat(",") {
        ranks.push(parser.name()?);
    }
    let into = if parser.eat("->") {
        Some(parser.name()?)
    } else {
        None
    };
    let span = operator.1.to(parser.span());
    parser.expect(")")?;
    Ok(Reduction {
        operator,
        ranks,
        into,
        span,
    })
}

/// Byte ranges of the statements of a text: ended by `;` or by the end of a line, unless brackets are open or the next
/// line goes on with `::` or `where`. A line that looks like a statement begins one even where a bracket was left open,
/// so that one missing bracket is one mistake.
fn split(text: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut open = 0usize;
    let mut comment = false;
    for (at, c) in text.char_indices() {
        match c {
            '\n' => {
                comment = false;
                let rest = &text[at + 1..];
                let goes_on = if open > 0 {
                    !looks_like_statement(rest)
                } else {
                    continues(rest)
                };
                if !goes_on {
                    ranges.push((start, at + 1));
                    start = at + 1;
                    open = 0;
                }
            }
            _ if comment => {}
            '#' => comment = true,
            '/' if text[at..].starts_with("//") => comment = true,
            ';' => {
                ranges.push((start, at));
                start = at + 1;
                open = 0;
            }
            '(' | '[' => open += 1,
            ')' | ']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    ranges.push((start, text.len()));
    ranges
}

/// The first line of `rest` that holds more than white space and comments.
fn significant_line(rest: &str) -> &str {
    rest.lines()
        .map(str::trim)
        .find(|l| !l.is_empty() && !l.starts_with('#') && !l.starts_with("//"))
        .unwrap_or("")
}

fn continues(rest: &str) -> bool {
    let line = significant_line(rest);
    let word = line
        .strip_prefix("where")
        .is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    word || line.starts_with("::")
}

fn looks_like_statement(rest: &str) -> bool {
    let line = significant_line(rest);
    let Some(at) = line.find('=') else {
        return false;
    };
    if line[at + 1..].starts_with('=') || line[..at].ends_with(['<', '>', '!']) {
        return false;
    }
    let left = line[..at].trim_end();
    let name = left
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(left.len());
    let rest = left[name..].trim_start();
    name > 0 && (rest.is_empty() || rest.starts_with('['))
}
