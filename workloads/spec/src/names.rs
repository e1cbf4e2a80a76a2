use crate::{Node, Problem, Span};

/// The known name nearest to `name`, if any is near enough to be a likely slip.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| {
            (
                strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()),
                k,
            )
        })
        .filter(|(distance, k)| {
            let longest = k.chars().count().max(name.chars().count());
            // Something must be left in common: every other letter is near to a single one.
            *distance <= (longest / 3).max(1) && *distance < longest
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// "did you mean ...?" where one of `known` is near, else the list of what is known.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<_> = known.into_iter().collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("known: {}", all.join(", "))
    }
}

/// A name in a file, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As written.
    pub text: String,
    /// Where.
    pub span: Span,
}

impl Name {
    /// The string or bare word at `node`.
    ///
    /// # Errors
    /// It is neither.
    pub fn read(node: &Node) -> Result<Self, Problem> {
        Ok(Self {
            text: node.text()?.to_owned(),
            span: node.span,
        })
    }
}

/// A value and where it stands in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub span: Span,
}

/// A value that is one of a few, by its name in files; [`named!`](crate::named) declares one.
pub trait Named: Copy + 'static {
    /// The name in files.
    fn name(self) -> &'static str;
}

/// Declares an enum whose values have names in files, each variant once: `Right = "right"`. A message calls the enum what
/// stands behind its name: `enum Role = "role"`.
#[macro_export]
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $type:ident $(= $what:literal)? { $($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $type { $($(#[$doc])* $variant,)* }

        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$($type::$variant),*];

            /// The name in files.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }

            /// The value of that name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|value| value.name() == name).copied()
            }
        }

        impl $crate::Named for $type {
            fn name(self) -> &'static str {
                self.name()
            }
        }

        impl $crate::Written for $type {
            fn form() -> $crate::Form<Self> {
                $crate::Form {
                    value: || $crate::choices(Self::ALL),
                    read: |_, node| Ok($crate::choice(node, concat!($($what)?), Self::ALL)?),
                }
            }
        }
    };
}
