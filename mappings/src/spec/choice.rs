use einflow_spec::{Fields, Form, Problem, Problems, Span, Written, did_you_mean};

use super::{Name, Row};

/// A value, or one of several by a column of the mapping's table.
#[derive(Clone, Debug)]
pub enum Choice<T> {
    /// The same for every shape.
    Fixed(T),
    /// Chosen by a column: `(choose: "QK_stationarity", cases: {"output": ..., "weight": ...})`.
    By {
        /// The column.
        column: Name,
        /// Value of the column, then what it stands for.
        cases: Vec<(String, T)>,
        /// Where the choice stands.
        span: Span,
    },
}

/// A choice, or a plain value.
impl<T: Written> Written for Choice<T> {
    fn form() -> Form<Self> {
        Form {
            value: T::form().value,
            read: |name, node| {
                let is_choice = node
                    .record()
                    .is_ok_and(|entries| entries.iter().any(|(key, _, _)| key == "choose"));
                if !is_choice {
                    return (T::form().read)(name, node).map(Choice::Fixed);
                }
                let mut fields = Fields::new(node, "a choice");
                let column = fields.needed("choose", Name::form());
                let cases = fields.need_all("cases", |n| {
                    let mut problems = Problems::new();
                    let mut cases = Vec::new();
                    for (key, _, value) in n.record()? {
                        if let Some(value) = problems.absorb((T::form().read)(key, value)) {
                            cases.push((key.clone(), value));
                        }
                    }
                    problems.into_result(Some(cases))
                });
                let value = column.zip(cases).map(|(column, cases)| Choice::By {
                    column,
                    cases,
                    span: node.span,
                });
                fields.finish(value)
            },
        }
    }
}

impl<T> Choice<T> {
    /// The value for a row of the table.
    ///
    /// # Errors
    /// No table, no such column, or a value of the column that the choice does not list.
    pub fn pick(&self, row: Option<&Row>, source: &einflow_spec::Source) -> Result<&T, Problem> {
        match self {
            Choice::Fixed(value) => Ok(value),
            Choice::By {
                column,
                cases,
                span,
            } => {
                let Some(row) = row else {
                    return Err(Problem::at(
                        source,
                        column.span,
                        "this choice needs a table, and the mapping has none",
                    ));
                };
                let Some(found) = row.get(&column.text) else {
                    return Err(Problem::at(
                        source,
                        column.span,
                        format!("the table has no column `{}`", column.text),
                    )
                    .help(did_you_mean(&column.text, row.columns())));
                };
                cases
                    .iter()
                    .find(|(key, _)| key == found)
                    .map(|(_, value)| value)
                    .ok_or_else(|| {
                        let known: Vec<&str> = cases.iter().map(|(key, _)| key.as_str()).collect();
                        Problem::at(
                            source,
                            *span,
                            format!(
                                "column `{}` holds {found:?}, which is not among the cases",
                                column.text
                            ),
                        )
                        .help(format!("cases: {}", known.join(", ")))
                    })
            }
        }
    }
}
