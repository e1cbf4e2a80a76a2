//! Structs that a file's fields are declared in: each field once, for its type, how it is read and its row of the page.

use std::path::{Path, PathBuf};

use crate::{Fields, Node, Problems, Source, Span};

/// How a value is written in files.
pub struct Form<T> {
    /// What a page says of it: `bytes`, `text`.
    pub value: fn() -> String,
    /// Reads it; the first argument is the name of its field, or its key in a map.
    pub read: fn(&str, &Node) -> Result<T, Problems>,
}

/// A type with one way to be written.
pub trait Written: Sized {
    /// That way.
    fn form() -> Form<Self>;
}

/// Which of its type's values a field may have.
pub struct Check<T> {
    /// What a page says of them: `1 to 2^24`.
    pub says: &'static str,
    /// What is wrong with a value, which messages call by the second argument, and what would do.
    pub fault: fn(&T, &str) -> Option<(String, &'static str)>,
}

/// A field as a page's table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRow {
    /// Its name.
    pub name: &'static str,
    /// What may be written.
    pub value: String,
    /// What holds where it is left out, or `required`.
    pub left_out: &'static str,
    /// What it means.
    pub meaning: String,
}

/// A struct declared with [`record!`](crate::record).
pub trait Record: Sized {
    /// What messages call it: `a memory`.
    const WHAT: &'static str;

    /// Reads each field and checks what they say together; `None` where something was wrong.
    fn take(fields: &mut Fields<'_>) -> Option<Self>;

    /// Its fields, in the order in which they are read.
    fn fields() -> Vec<FieldRow>;

    /// Tells of every field whose value may not be: its name, what is wrong, and what would do. `name` is that of the struct.
    fn faults(&self, name: &str, tell: &mut dyn FnMut(&'static str, String, &'static str));

    /// Reads the struct at `node`, whose key in a map is `name`.
    ///
    /// # Errors
    /// Every mistake in it.
    fn read(name: &str, node: &Node) -> Result<Self, Problems> {
        let mut fields = Fields::new(node, Self::WHAT).under(name);
        let value = Self::take(&mut fields);
        fields.finish(value)
    }

    /// Reads a file that is such a struct.
    ///
    /// # Errors
    /// Every mistake in it; a RON syntax error ends the list.
    fn read_file(source: &Source) -> Result<Self, Problems> {
        Self::read_beside(&Node::parse(source)?, None)
    }

    /// Reads the file's struct; names in it are looked for in `folder` first.
    ///
    /// # Errors
    /// Every mistake in it.
    fn read_beside(node: &Node, folder: Option<&Path>) -> Result<Self, Problems> {
        let mut fields = Fields::new(node, Self::WHAT).beside(folder);
        let value = Self::take(&mut fields);
        fields.finish(value)
    }
}

/// A part of a struct that is no field of its own: it comes from several fields, or from none.
pub trait Part<T> {
    /// Reads it.
    fn take(fields: &mut Fields<'_>) -> Option<T>;

    /// The fields that it reads.
    fn fields() -> Vec<FieldRow> {
        Vec::new()
    }
}

/// The file.
impl Part<Source> for Source {
    fn take(fields: &mut Fields<'_>) -> Option<Source> {
        Some(fields.node().source.clone())
    }
}

/// The folder of the file, where it has one.
impl Part<Option<PathBuf>> for PathBuf {
    fn take(fields: &mut Fields<'_>) -> Option<Option<PathBuf>> {
        Some(fields.folder().map(Path::to_owned))
    }
}

/// The place of the struct.
impl Part<Span> for Span {
    fn take(fields: &mut Fields<'_>) -> Option<Span> {
        Some(fields.node().span)
    }
}

/// The key of the struct in the map that it stands in.
pub struct Key;

impl Part<String> for Key {
    fn take(fields: &mut Fields<'_>) -> Option<String> {
        Some(fields.name().to_owned())
    }
}

/// What an optional field holds.
#[doc(hidden)]
pub trait Maybe {
    type Inner;
}

impl<T> Maybe for Option<T> {
    type Inner = T;
}

/// The Markdown table of some fields.
pub fn table(rows: &[FieldRow]) -> String {
    let mut text =
        "| field | value | if left out | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for row in rows {
        let cells = [
            &format!("`{}`", row.name),
            &row.value,
            row.left_out,
            &row.meaning,
        ];
        text += &format!("| {} |\n", cells.map(str::to_owned).join(" | "));
    }
    text
}

/// A page with the first table under each of these headings in the place of what was there.
///
/// # Panics
/// Where a heading is not there, or no table follows it: this is for tests of pages.
pub fn with_tables(page: &str, tables: &[(&str, Vec<FieldRow>)]) -> String {
    let mut page = page.to_owned();
    for (heading, rows) in tables {
        let from = page.find(&format!("\n{heading}\n")).map(|at| at + 1);
        let from = from.unwrap_or_else(|| panic!("there is no heading {heading}"));
        let start = page[from..].find("\n| ").map(|at| from + at + 1);
        let start = start.unwrap_or_else(|| panic!("no table follows {heading}"));
        let lines = page[start..].split_inclusive('\n');
        let length: usize = lines
            .take_while(|line| line.starts_with('|'))
            .map(str::len)
            .sum();
        page.replace_range(start..start + length, &table(rows));
    }
    page
}

/// Declares a struct and how a file's struct is read into it.
///
/// ```
/// einflow_spec::record! {
///     /// A functional unit.
///     #[derive(Debug)]
///     pub struct Component = "a component" {
///         /// Where its numbers come from.
///         pub cited("source"): String;
///         /// Energy of one action, in pJ.
///         pub energy: f64;
///         /// Units in each PE.
///         pub count: u64 = 1;
///         /// Cycles between two actions.
///         pub interval: Option<u64> => "no limit";
///     }
/// }
/// use einflow_spec::{Record, Source};
/// let text = "(source: \"assumed\", energy: 4)";
/// let component = Component::read_file(&Source::new("c.ron", text)).unwrap();
/// assert_eq!((component.count, component.interval), (1, None));
/// let error = Component::read_file(&Source::new("c.ron", "(source: \"a\", enrgy: 4)")).unwrap_err();
/// assert!(error.to_string().contains("a component has no field `enrgy` (did you mean `energy`?)"));
/// assert_eq!(Component::fields()[2].left_out, "1");
/// ```
///
/// A field has the name of its member, or the one in parentheses. Its comment is what the page's table says of it.
/// `= value` is what it is where it is left out, `=> "text"` what the page says of that; a member that is an `Option` and has no
/// value to be is `None` then. What has neither must be there.
///
/// `as function` reads it by the [`Form`] that the function gives, in place of its type's ([`Written`]). `where Type` takes it from a
/// [`Part`]. `, in function, "the energy of {}"` keeps it to the values of a [`Check`] ([`Record::faults`]), whose messages call it so, with
/// the struct's name for `{}`. Fields that are checked and not kept come first, each with what the page says of it: `unread reason: String, "Why."`
/// (of a `source` that is known). After the fields, `check |fields| { ... }` may
/// look at all of them by name, each `None` where it was wrong.
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $type:ident = $what:literal {
            $(unread $ukey:ident: $uty:ty $(as $uform:path)? $(=> $uabsent:literal)? $(, $umeaning:literal)?;)*
            $(
                $(#[doc = $doc:literal])*
                pub $(($($scope:tt)+))? $field:ident $(($key:literal))?: $ty:ty
                    $(where $part:ty)? $(as $form:path)? $(= $default:expr)? $(=> $absent:literal)?
                    $(, in $range:path, $called:literal)?;
            )*
        }
        $(check |$all:ident| $check:block)?
    ) => {
        $(#[$meta])*
        $vis struct $type {
            $($(#[doc = $doc])* pub $(($($scope)+))? $field: $ty,)*
        }

        impl $crate::Record for $type {
            const WHAT: &'static str = $what;

            fn take(fields: &mut $crate::Fields<'_>) -> Option<Self> {
                $($crate::record!(@take fields (stringify!($ukey)) [] [$uty] [$($uform)?] [] [$($uabsent)?]);)*
                $(let $field = $crate::record!(
                    @take fields ($crate::record!(@key $field $($key)?)) [$($part)?] [$ty] [$($form)?] [$($default)?] [$($absent)?]
                );)*
                $({
                    let $all = &mut *fields;
                    $check
                })?
                Some(Self { $($field: $field?,)* })
            }

            fn fields() -> Vec<$crate::FieldRow> {
                let mut rows = Vec::new();
                $($crate::record!(
                    @row rows (stringify!($ukey)) [$crate::record!(@meaning $($umeaning)?)] [] [$uty] [$($uform)?] [] [$($uabsent)?]
                );)*
                $($crate::record!(
                    @row rows ($crate::record!(@key $field $($key)?)) [$($doc),*] [$($part)?] [$ty] [$($form)?] [$($default)?] [$($absent)?]
                );
                $($crate::record!(@says rows $ty, $range);)?)*
                rows
            }

            #[allow(unused_variables)]
            fn faults(&self, name: &str, tell: &mut dyn FnMut(&'static str, String, &'static str)) {
                $($crate::record!(
                    @fault (&self.$field) name tell ($crate::record!(@key $field $($key)?)) [$ty] [$($range, $called)?]
                );)*
            }
        }

        impl $crate::Written for $type {
            fn form() -> $crate::Form<Self> {
                $crate::Form {
                    value: || <Self as $crate::Record>::WHAT.to_owned(),
                    read: <Self as $crate::Record>::read,
                }
            }
        }
    };

    (@meaning) => { "Where its numbers come from." };
    (@meaning $meaning:literal) => { $meaning };

    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };

    (@form [$ty:ty] [] [] [$absent:literal]) => {
        <<$ty as $crate::Maybe>::Inner as $crate::Written>::form()
    };
    (@form [$ty:ty] [$form:path] [] [$absent:literal]) => {{
        let form: $crate::Form<<$ty as $crate::Maybe>::Inner> = $form();
        form
    }};
    (@form [$ty:ty] [] $($rest:tt)*) => { <$ty as $crate::Written>::form() };
    (@form [$ty:ty] [$form:path] $($rest:tt)*) => {{
        let form: $crate::Form<$ty> = $form();
        form
    }};

    (@take $fields:ident ($key:expr) [$part:ty] [$ty:ty] $($rest:tt)*) => {
        <$part as $crate::Part<$ty>>::take($fields)
    };
    (@take $fields:ident ($key:expr) [] $ty:tt $form:tt [] []) => {
        $fields.needed($key, $crate::record!(@form $ty $form [] []))
    };
    (@take $fields:ident ($key:expr) [] $ty:tt $form:tt [] [$absent:literal]) => {
        Some($fields.given($key, $crate::record!(@form $ty $form [] [$absent])))
    };
    (@take $fields:ident ($key:expr) [] $ty:tt $form:tt [$default:expr] $absent:tt) => {
        Some(match $fields.given($key, $crate::record!(@form $ty $form [$default] $absent)) {
            Some(value) => value,
            None => $default,
        })
    };

    (@row $rows:ident ($key:expr) [$($doc:expr),*] [$part:ty] [$ty:ty] $($rest:tt)*) => {
        $rows.extend(<$part as $crate::Part<$ty>>::fields())
    };
    (@row $rows:ident ($key:expr) [$($doc:expr),*] [] $ty:tt $form:tt $default:tt $absent:tt) => {
        $rows.push($crate::FieldRow {
            name: $key,
            value: ($crate::record!(@form $ty $form $default $absent).value)(),
            left_out: $crate::record!(@absent $default $absent),
            meaning: [$($doc),*].map(str::trim).join(" "),
        })
    };

    (@fault ($value:expr) $name:ident $tell:ident ($key:expr) $ty:tt []) => {};
    (@fault ($value:expr) $name:ident $tell:ident ($key:expr) [$ty:ty] [$range:path, $called:literal]) => {{
        let check: $crate::Check<$ty> = $range();
        if let Some((message, help)) = (check.fault)($value, &$called.replace("{}", $name)) {
            $tell($key, message, help);
        }
    }};

    (@says $rows:ident $ty:ty, $range:path) => {
        if let Some(row) = $rows.last_mut() {
            let check: $crate::Check<$ty> = $range();
            row.value = format!("{}; {}", row.value, check.says);
        }
    };

    (@absent [] []) => { "required" };
    (@absent [$default:expr] []) => { stringify!($default) };
    (@absent $default:tt [$absent:literal]) => { $absent };
}
