//! Values of a JSON line that know the way to them, for messages.

use std::fmt;

use serde_json::{Map, Value as Json};

/// What is wrong with a line, and at which byte of it.
pub struct Mistake {
    /// Byte of the line.
    pub at: usize,
    /// What was found.
    pub message: String,
    /// What would be accepted.
    pub help: String,
}

impl Mistake {
    /// A mistake of the line as a whole, or of a field that the message names.
    pub fn new(message: String, help: &str) -> Self {
        Self {
            at: 0,
            message,
            help: help.to_string(),
        }
    }
}

/// A value of a line and the way to it.
#[derive(Clone, Copy)]
pub struct Field<'j, 'p> {
    /// The value.
    pub json: &'j Json,
    parent: Option<&'p Field<'j, 'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Name(&'p str),
    Index(usize),
}

impl fmt::Display for Field<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Index(i) => write!(f, "[{i}]"),
            Step::Name(name) if self.parent.is_none_or(|p| matches!(p.step, Step::Root)) => {
                f.write_str(name)
            }
            Step::Name(name) => write!(f, ".{name}"),
        }
    }
}

impl<'j> Field<'j, '_> {
    /// A whole line.
    pub fn root(json: &'j Json) -> Self {
        Self {
            json,
            parent: None,
            step: Step::Root,
        }
    }

    /// One item of a list.
    pub fn item<'s>(&'s self, index: usize, json: &'j Json) -> Field<'j, 's> {
        Field {
            json,
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// Says what this value is, and what was expected of it.
    pub fn expected(&self, what: &str) -> Mistake {
        let found = match self.json {
            Json::Null => "null".to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => number.to_string(),
            Json::String(text) => format!("{text:?}"),
            Json::Array(items) => format!("a list of {}", items.len()),
            Json::Object(_) => "an object".to_string(),
        };
        let name = match self.step {
            Step::Root => "a case".to_string(),
            _ => format!("`{self}`"),
        };
        Mistake::new(format!("{name} is {found}"), what)
    }

    /// Its fields.
    pub fn object(&self) -> Result<&'j Map<String, Json>, Mistake> {
        self.json
            .as_object()
            .ok_or_else(|| self.expected("an object is expected"))
    }

    /// A field of it.
    pub fn child<'s>(&'s self, name: &'s str, json: &'j Json) -> Field<'j, 's> {
        Field {
            json,
            parent: Some(self),
            step: Step::Name(name),
        }
    }

    /// A field that may be left out.
    pub fn find<'s>(&'s self, name: &'s str) -> Result<Option<Field<'j, 's>>, Mistake> {
        Ok(self.object()?.get(name).map(|json| self.child(name, json)))
    }

    /// A field that must be there.
    pub fn need<'s>(&'s self, name: &'s str) -> Result<Field<'j, 's>, Mistake> {
        self.find(name)?.ok_or_else(|| {
            let path = self.child(name, &Json::Null).to_string();
            Mistake::new(
                format!("the field `{path}` is missing"),
                "every case has it",
            )
        })
    }

    /// All fields with their names.
    pub fn entries<'s>(
        &'s self,
    ) -> Result<impl Iterator<Item = (&'j str, Field<'j, 's>)>, Mistake> {
        Ok(self
            .object()?
            .iter()
            .map(|(name, json)| (name.as_str(), self.child(name, json))))
    }

    /// Its items.
    pub fn list<'s>(&'s self) -> Result<impl Iterator<Item = Field<'j, 's>>, Mistake> {
        let items = self
            .json
            .as_array()
            .ok_or_else(|| self.expected("a list is expected"))?;
        Ok(items.iter().enumerate().map(|(i, json)| Field {
            json,
            parent: Some(self),
            step: Step::Index(i),
        }))
    }

    /// A text.
    pub fn text(&self) -> Result<&'j str, Mistake> {
        self.json
            .as_str()
            .ok_or_else(|| self.expected("a text is expected"))
    }

    /// True or false.
    pub fn flag(&self) -> Result<bool, Mistake> {
        self.json
            .as_bool()
            .ok_or_else(|| self.expected("true or false is expected"))
    }

    /// A whole number of 0 or more.
    pub fn count(&self) -> Result<u128, Mistake> {
        let number = self.json.as_number().and_then(serde_json::Number::as_u128);
        number.ok_or_else(|| self.expected("a whole number of 0 or more is expected"))
    }

    /// A whole number of 1 or more.
    pub fn factor(&self) -> Result<u64, Mistake> {
        let number = self.json.as_u64().filter(|&n| n > 0);
        number.ok_or_else(|| self.expected("a whole number of 1 or more is expected"))
    }

    /// Any number.
    pub fn ratio(&self) -> Result<f64, Mistake> {
        self.json
            .as_f64()
            .ok_or_else(|| self.expected("a number is expected"))
    }

    /// The index of the name that this field holds.
    pub fn one_of(&self, kind: &str, names: &[&str]) -> Result<usize, Mistake> {
        let text = self.text()?;
        names.iter().position(|&name| name == text).ok_or_else(|| {
            Mistake::new(
                format!("`{self}` names {text:?}, which is no {kind}"),
                &format!("known: {}", names.join(", ")),
            )
        })
    }
}
