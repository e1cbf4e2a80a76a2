use std::path::Path;

use crate::{Form, Node, Problem, Problems, Span, did_you_mean};

/// Decodes the fields of a struct, collecting every mistake: a missing field, an unknown one (with
/// the nearest known name), one given twice, one of the wrong type.
///
/// Call the getters for each field that the struct may have, then [`Fields::finish`].
pub struct Fields<'a> {
    node: &'a Node,
    entries: &'a [(String, Span, Node)],
    asked: Vec<&'static str>,
    open: bool,
    what: &'static str,
    name: &'a str,
    beside: Option<&'a Path>,
    problems: Problems,
}

impl<'a> Fields<'a> {
    /// The fields of `node`, which messages call `what` ("a memory").
    pub fn new(node: &'a Node, what: &'static str) -> Self {
        let mut problems = Problems::new();
        let entries = match node.record() {
            Ok(entries) => entries,
            Err(problem) => {
                problems.push(problem.help(format!(
                    "{what} is written as a struct: (field: value, ...)"
                )));
                &[]
            }
        };
        Self {
            node,
            entries,
            asked: Vec::new(),
            open: false,
            what,
            name: "",
            beside: None,
            problems,
        }
    }

    /// The same, of a struct that stands under a name in a map.
    #[must_use]
    pub fn under(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    /// The name that the struct stands under.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The same, of a file in a folder: files that it names are looked for there first.
    #[must_use]
    pub fn beside(mut self, folder: Option<&'a Path>) -> Self {
        self.beside = folder;
        self
    }

    /// The folder of the file, where it has one.
    pub fn folder(&self) -> Option<&'a Path> {
        self.beside
    }

    /// A field in the form that its values have; `None` where it is absent or wrong.
    pub fn given<T>(&mut self, name: &'static str, form: Form<T>) -> Option<T> {
        self.get_all(name, |node| (form.read)(name, node))
    }

    /// As [`Fields::given`]; its absence is a problem.
    pub fn needed<T>(&mut self, name: &'static str, form: Form<T>) -> Option<T> {
        self.need_all(name, |node| (form.read)(name, node))
    }

    /// The field, if it is there.
    pub fn optional(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.entries
            .iter()
            .find(|(key, _, _)| key == name)
            .map(|(_, _, node)| node)
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _, _)| key == name)
    }

    /// The field; its absence is a problem.
    pub fn required(&mut self, name: &'static str) -> Option<&'a Node> {
        let node = self.optional(name);
        if node.is_none() && self.node.record().is_ok() {
            let problem = self.problem(format!("{} lacks the field `{name}`", self.what));
            self.push(problem);
        }
        node
    }

    /// A problem where the struct begins: the whole of it would say nothing.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        let start = self.node.span.start;
        Problem::at(&self.node.source, Span::new(start, start + 1), message)
    }

    /// A field decoded by `read`; `None` where it is absent or wrong.
    pub fn get<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Node) -> Result<T, Problem>,
    ) -> Option<T> {
        let node = self.optional(name)?;
        self.keep(read(node))
    }

    /// A field that must be there, decoded by `read`.
    pub fn need<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Node) -> Result<T, Problem>,
    ) -> Option<T> {
        let node = self.required(name)?;
        self.keep(read(node))
    }

    /// Like [`Fields::get`] for readers that find several problems at once.
    pub fn get_all<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Node) -> Result<T, Problems>,
    ) -> Option<T> {
        let node = self.optional(name)?;
        let result = read(node);
        self.problems.absorb(result)
    }

    /// Like [`Fields::need`] for readers that find several problems at once.
    pub fn need_all<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Node) -> Result<T, Problems>,
    ) -> Option<T> {
        let node = self.required(name)?;
        let result = read(node);
        self.problems.absorb(result)
    }

    /// Takes every field as known: what may be there depends on one that is wrong.
    pub fn allow_all(&mut self) {
        self.open = true;
    }

    /// Records a problem found while combining fields.
    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The struct's own node.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// Reports fields that nobody asked for, and gives `value` if nothing was wrong.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        for (i, (key, at, _)) in self.entries.iter().enumerate() {
            if !self.asked.contains(&key.as_str()) && !self.open {
                let problem = Problem::at(
                    &self.node.source,
                    *at,
                    format!("{} has no field `{key}`", self.what),
                );
                self.problems
                    .push(problem.help(did_you_mean(key, self.asked.iter().copied())));
            } else if self.entries[..i].iter().any(|(other, _, _)| other == key) {
                let problem = Problem::at(
                    &self.node.source,
                    *at,
                    format!("the field `{key}` is given twice"),
                );
                self.problems.push(problem.help("keep one of them"));
            }
        }
        self.problems.into_result(value)
    }
}
