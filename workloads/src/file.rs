//! The RON file of a cascade, as written.

use einflow_spec::expr::Expr;
use einflow_spec::{Fields, Kind, Node, Problem, Problems, Source, Span};

use crate::cascade::Parameter;
use crate::statement::{self, Declaration, Split, Statement};

/// A cascade file, decoded but not yet checked.
#[derive(Clone, Debug)]
pub struct CascadeFile {
    /// The file.
    pub source: Source,
    /// The name.
    pub name: String,
    /// Where the cascade is published.
    pub cited: String,
    /// One or two sentences.
    pub description: String,
    /// Ranks that stand unwritten in front of every tensor.
    pub batch: Vec<(String, Span)>,
    /// Inputs in order.
    pub inputs: Vec<Declaration>,
    /// Outputs in order.
    pub outputs: Vec<Declaration>,
    /// Splits of ranks.
    pub partitions: Vec<Split>,
    /// Sizes that input shapes do not fix, by name and place of the name.
    pub parameters: Vec<(String, Span, Parameter)>,
    /// The statements in order.
    pub statements: Vec<Statement>,
    /// Names in texts that could not be read: the checker does not call them unknown.
    pub broken: Vec<String>,
}

impl CascadeFile {
    /// Decodes a file. What can be read is there even where problems were found, so that the checker can go on and
    /// report its own beside them.
    ///
    /// # Errors
    /// A RON syntax error: nothing after it can be trusted.
    pub fn read(source: &Source) -> Result<(Self, Problems), Problems> {
        let node = Node::parse(source)?;
        let mut problems = Problems::new();
        let mut fields = Fields::new(&node, "a cascade");
        let text = |node: &Node| node.text().map(str::to_owned);
        let name = fields.need("name", text).unwrap_or_default();
        let cited = fields.need("source", text).unwrap_or_default();
        let description = fields.need("description", text).unwrap_or_default();
        let batch = each(fields.optional("batch"), &mut problems, word);
        let mut broken = Vec::new();
        let mut declarations = |node: Option<&Node>, problems: &mut Problems| {
            each(node, problems, |node| {
                parsed(node, statement::declaration).inspect_err(|_| {
                    broken.extend(node.text().into_iter().flat_map(identifiers));
                })
            })
        };
        let inputs = declarations(fields.required("inputs"), &mut problems);
        let outputs = declarations(fields.required("outputs"), &mut problems);
        let partitions = each(fields.optional("partitions"), &mut problems, |node| {
            parsed(node, statement::partition).inspect_err(|_| {
                broken.extend(node.text().into_iter().flat_map(identifiers));
            })
        });
        let parameters = parameters(fields.optional("parameters"), &mut problems);
        let mut statements = Vec::new();
        if let Some(einsums) = fields.required("einsums") {
            match einsums.text() {
                Ok(text) => {
                    let read = statement::statements(source, text, einsums.text_start());
                    if read.found.is_empty() && read.problems.is_empty() {
                        problems.push(
                            einsums
                                .problem("there is no Einsum")
                                .help("write `T[i] = expression`, one a line"),
                        );
                    }
                    statements = read.found;
                    broken.extend(read.broken);
                    problems.extend(read.problems);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if let Err(wrong) = fields.finish(Some(())) {
            problems.extend(wrong);
        }
        let file = Self {
            source: source.clone(),
            name,
            cited,
            description,
            batch,
            inputs,
            outputs,
            partitions,
            parameters,
            statements,
            broken,
        };
        Ok((file, problems))
    }
}

fn parsed<T>(
    node: &Node,
    read: impl Fn(&Source, &str, usize) -> Result<T, Problem>,
) -> Result<T, Problem> {
    read(&node.source, node.text()?, node.text_start())
}

fn word(node: &Node) -> Result<(String, Span), Problem> {
    let text = node.text()?;
    let start = node.text_start();
    Ok((text.to_owned(), Span::new(start, start + text.len())))
}

fn each<T>(
    node: Option<&Node>,
    problems: &mut Problems,
    mut read: impl FnMut(&Node) -> Result<T, Problem>,
) -> Vec<T> {
    let mut found = Vec::new();
    match node.map_or(Ok(&[][..]), Node::list) {
        Ok(items) => {
            for item in items {
                match read(item) {
                    Ok(value) => found.push(value),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        Err(problem) => problems.push(problem),
    }
    found
}

/// Everything in a text that could be a name.
fn identifiers(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic()))
        .map(str::to_owned)
        .collect()
}

fn parameters(node: Option<&Node>, problems: &mut Problems) -> Vec<(String, Span, Parameter)> {
    let mut found = Vec::new();
    let entries = match node.map_or(Ok(&[][..]), Node::record) {
        Ok(entries) => entries,
        Err(problem) => {
            problems.push(problem.help("parameters are written as a map: {\"M0\": 16}"));
            return found;
        }
    };
    for (name, at, value) in entries {
        // A key's place covers its quotes.
        let inset = usize::from(at.end - at.start > name.len());
        let at = Span::new(at.start + inset, at.start + inset + name.len());
        let default = match &value.kind {
            Kind::Number(_) => value
                .u64()
                .map_err(|problem| problem.help("a size is at least 1"))
                .and_then(|size| match size {
                    0 => Err(value
                        .problem(format!("`{name}` is 0"))
                        .help("a size is at least 1")),
                    _ => Ok((
                        false,
                        Expr::Number {
                            text: size.to_string(),
                            span: value.span,
                        },
                    )),
                }),
            Kind::Text(..) => parsed(value, |source, text, base| {
                let rest = text.trim_start().strip_prefix('=');
                let start = rest.map_or(0, |rest| text.len() - rest.len());
                Ok((
                    rest.is_some(),
                    statement::expression(source, &text[start..], base + start)?,
                ))
            }),
            _ => Err(value.expected("a size: a whole number, or an expression in a string")),
        };
        // A wrong default still declares the name.
        let (fixed, default) = default.unwrap_or_else(|problem| {
            problems.push(problem);
            (
                false,
                Expr::Number {
                    text: "1".into(),
                    span: value.span,
                },
            )
        });
        found.push((
            name.clone(),
            at,
            Parameter {
                default,
                fixed,
                span: at,
            },
        ));
    }
    found
}
