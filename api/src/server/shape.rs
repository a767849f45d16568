//! What the schema allows, as data, and the check against it: one place says which field is wrong and what
//! would be right, before the typed value is made. A value is never repeated; it may be a password.

use std::{fmt, sync::LazyLock};

use serde_json::Value;
use uuid::Uuid;

use crate::Problem;

#[derive(Debug)]
pub enum Shape {
    Object(&'static [Field]),
    #[cfg_attr(not(test), expect(dead_code, reason = "for the first request with a list"))]
    Array {
        items: &'static Shape,
        items_min: usize,
        items_max: usize,
    },
    Text(Text),
    Integer {
        min: i64,
        max: i64,
    },
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the first request with a number that is not whole")
    )]
    Number,
    Boolean,
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub required: bool,
    pub shape: &'static Shape,
}

/// Lengths count characters, not bytes.
#[derive(Debug)]
pub struct Text {
    pub format: Option<Format>,
    /// Empty when any text is good.
    pub one_of: &'static [&'static str],
    pub chars_min: usize,
    pub chars_max: Option<usize>,
    pub pattern: Option<&'static Pattern>,
}

#[derive(Debug, Clone, Copy)]
pub enum Format {
    Uuid,
}

/// As JSON Schema has it: ECMAScript's syntax, found anywhere in the text unless it is anchored.
#[derive(Debug)]
pub struct Pattern {
    source: &'static str,
    compiled: LazyLock<regress::Regex>,
}

impl Pattern {
    pub const fn new(source: &'static str, compile: fn() -> regress::Regex) -> Self {
        Self { source, compiled: LazyLock::new(compile) }
    }
}

impl Shape {
    /// Checks a JSON value; `name` is how the problem calls it.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), Problem> {
        let good = match (self, value) {
            (Self::Object(fields), Value::Object(members)) => return check_fields(name, fields, members),
            (Self::Array { items, items_min, items_max }, Value::Array(values)) => {
                for (index, value) in values.iter().enumerate().take(*items_max) {
                    items.check(&format!("{name}[{index}]"), value)?;
                }
                (*items_min..=*items_max).contains(&values.len())
            }
            (Self::Text(text), Value::String(value)) => text.allows(value),
            (Self::Integer { min, max }, Value::Number(number)) => {
                number.as_i64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            (Self::Number, Value::Number(_)) | (Self::Boolean, Value::Bool(_)) => true,
            _ => false,
        };
        self.verdict(name, good)
    }

    /// Checks a parameter, which comes as text whatever it stands for.
    pub fn check_parameter(&self, name: &str, text: &str) -> Result<(), Problem> {
        let good = match self {
            Self::Text(shape) => shape.allows(text),
            Self::Integer { min, max } => {
                !text.starts_with('+')
                    && text.parse().is_ok_and(|number: i64| (*min..=*max).contains(&number))
            }
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Object(_) | Self::Array { .. } | Self::Number => false,
        };
        self.verdict(name, good)
    }

    fn verdict(&self, name: &str, good: bool) -> Result<(), Problem> {
        if good { Ok(()) } else { Err(Problem::bad_request(format!("`{name}` has to be {self}"))) }
    }
}

fn check_fields(
    name: &str,
    fields: &[Field],
    members: &serde_json::Map<String, Value>,
) -> Result<(), Problem> {
    for field in fields {
        // What is in the body is called by its own name, what is in that by the way to it.
        let path = if name == BODY { field.name.to_owned() } else { format!("{name}.{}", field.name) };
        match members.get(field.name) {
            Some(value) => field.shape.check(&path, value)?,
            None if field.required => {
                return Err(Problem::bad_request(format!(
                    "`{path}` is missing; it has to be {}",
                    field.shape
                )));
            }
            None => {}
        }
    }
    Ok(())
}

/// How a problem calls the body as a whole.
pub const BODY: &str = "body";

impl Text {
    fn allows(&self, text: &str) -> bool {
        let chars = text.chars().count();
        chars >= self.chars_min
            && self.chars_max.is_none_or(|max| chars <= max)
            && (self.one_of.is_empty() || self.one_of.contains(&text))
            && self.format.is_none_or(|Format::Uuid| Uuid::try_parse(text).is_ok())
            && self.pattern.is_none_or(|pattern| pattern.compiled.find(text).is_some())
    }
}

/// What is allowed, to go after "has to be".
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(_) => f.write_str("a JSON object"),
            Self::Array { items, items_min, items_max } => {
                write!(f, "a list of {items_min} to {items_max} items, each {items}")
            }
            Self::Text(text) => text.fmt(f),
            Self::Integer { min: i64::MIN, max: i64::MAX } => f.write_str("a whole number"),
            Self::Integer { min, max: i64::MAX } => write!(f, "a whole number of at least {min}"),
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Number => f.write_str("a number"),
            Self::Boolean => f.write_str("true or false"),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.one_of {
            return f.write_str(only);
        }
        if !self.one_of.is_empty() {
            return write!(f, "one of {}", self.one_of.join(", "));
        }
        f.write_str(if self.format.is_some() { "a UUID" } else { "text" })?;
        match (self.chars_min, self.chars_max) {
            (0, None) => {}
            (min, None) => write!(f, " of at least {min} characters")?,
            (min, Some(max)) => write!(f, " of {min} to {max} characters")?,
        }
        self.pattern.map_or(Ok(()), |pattern| write!(f, " that matches {}", pattern.source))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static WORD: Shape =
        Shape::Text(Text { format: None, one_of: &[], chars_min: 1, chars_max: Some(3), pattern: None });
    static NOT_BLANK: Pattern = Pattern::new(r"\S", || regress::Regex::new(r"\S").unwrap());
    static VISIBLE: Shape = Shape::Text(Text {
        format: None,
        one_of: &[],
        chars_min: 0,
        chars_max: None,
        pattern: Some(&NOT_BLANK),
    });
    static WORDS: Shape = Shape::Array { items: &WORD, items_min: 1, items_max: 2 };
    static OBJECT: Shape = Shape::Object(&[Field { name: "words", required: true, shape: &WORDS }]);

    fn complaint(shape: &Shape, value: &Value) -> String {
        shape.check(BODY, value).expect_err("it is not allowed").detail
    }

    #[test]
    fn a_list_is_as_long_as_allowed() {
        assert!(WORDS.check("words", &json!(["a", "b"])).is_ok());
        let allowed = "`words` has to be a list of 1 to 2 items, each text of 1 to 3 characters";
        assert_eq!(WORDS.check("words", &json!([])).unwrap_err().detail, allowed);
        assert_eq!(WORDS.check("words", &json!(["a", "b", "c"])).unwrap_err().detail, allowed);
    }

    #[test]
    fn a_problem_names_the_way_to_what_is_wrong() {
        assert_eq!(
            complaint(&OBJECT, &json!({"words": ["a", "long"]})),
            "`words[1]` has to be text of 1 to 3 characters"
        );
        assert!(complaint(&OBJECT, &json!({})).starts_with("`words` is missing"));
        assert_eq!(complaint(&OBJECT, &json!([])), "`body` has to be a JSON object");
        assert_eq!(complaint(&Shape::Number, &json!("1")), "`body` has to be a number");
        assert_eq!(complaint(&Shape::Boolean, &json!(null)), "`body` has to be true or false");
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(WORD.check("word", &json!("äöü")).is_ok());
        assert!(WORD.check("word", &json!("äöüß")).is_err());
    }

    #[test]
    fn a_pattern_is_found_anywhere_and_knows_unicode_white_space() {
        assert!(VISIBLE.check("text", &json!(" \n x ")).is_ok());
        for blank in ["", " ", "\n\t", "\u{a0}\u{2003}\u{feff}"] {
            assert!(VISIBLE.check("text", &json!(blank)).is_err(), "{blank:?} shows nothing");
        }
    }

    #[test]
    fn a_whole_number_has_no_fraction_and_fits() {
        let page = Shape::Integer { min: 1, max: 10 };
        assert!(page.check("page", &json!(10)).is_ok());
        for bad in [json!(0), json!(11), json!(1.5), json!(1.0), json!("1"), json!(u64::MAX), json!(1e300)] {
            assert_eq!(
                page.check("page", &bad).unwrap_err().detail,
                "`page` has to be a whole number from 1 to 10"
            );
        }
        for bad in ["", "+1", " 1", "1x", "1.0", "0x1", "9999999999999999999999"] {
            assert!(page.check_parameter("page", bad).is_err(), "{bad:?} is no whole number");
        }
    }
}
