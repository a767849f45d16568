//! The check of a request against its schema. It runs before the typed value is made, because serde's errors repeat
//! the value, which may be a password, and because the generated types accept too much
//! (docs/decisions/0018-requests-are-checked-before-they-are-decoded.md).

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tracing::error;

use crate::Problem;

/// The allowed form of a parameter, of a body, or of a part of a body.
#[derive(Debug)]
pub enum Shape {
    Object(&'static [Field]),
    List {
        items: &'static Shape,
        min: usize,
        max: usize,
    },
    Value {
        allows: fn(&Value) -> bool,
        /// What is allowed. It follows "has to be" in a problem.
        words: &'static str,
    },
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub required: bool,
    pub shape: &'static Shape,
}

/// The name of the whole body in a problem.
pub const BODY: &str = "body";

/// Whether the generated type accepts the value: it checks lengths, patterns, enumerations and formats.
pub fn is<T: DeserializeOwned>(value: &Value) -> bool {
    T::deserialize(value).is_ok()
}

pub fn is_between(value: &Value, min: i64, max: i64) -> bool {
    value.as_i64().is_some_and(|number| (min..=max).contains(&number))
}

impl Shape {
    /// Checks a JSON value and decodes it. A problem calls it `name`.
    pub fn decode<T: DeserializeOwned>(&self, name: &str, value: Value) -> Result<T, Problem> {
        self.check(name, &value)?;
        serde_json::from_value(value).map_err(|error| {
            // Without the error's text, which may repeat the value.
            error!(name, category = ?error.classify(), "the generated type refuses a value that its shape allows");
            Problem::bad_request("the request does not match its schema")
        })
    }

    /// Decodes a parameter, which arrives as text: a text, a whole number or a boolean.
    pub fn decode_parameter<T: DeserializeOwned>(&self, name: &str, text: &str) -> Result<T, Problem> {
        let number = text.parse::<i64>().ok().filter(|_| !text.starts_with('+'));
        let values = [Some(text.into()), number.map(Value::from), text.parse::<bool>().ok().map(Value::from)];
        let allowed = values.into_iter().flatten().find(|value| self.check(name, value).is_ok());
        self.decode(name, allowed.ok_or_else(|| self.refusal(name))?)
    }

    fn check(&self, name: &str, value: &Value) -> Result<(), Problem> {
        let allowed = match (self, value) {
            (Self::Object(fields), Value::Object(members)) => return check_fields(name, fields, members),
            (Self::List { items, min, max }, Value::Array(values)) if (*min..=*max).contains(&values.len()) => {
                let mut values = values.iter().enumerate();
                return values.try_for_each(|(index, value)| items.check(&format!("{name}[{index}]"), value));
            }
            (Self::Value { allows, .. }, value) => allows(value),
            _ => false,
        };
        if allowed { Ok(()) } else { Err(self.refusal(name)) }
    }

    pub fn refusal(&self, name: &str) -> Problem {
        Problem::bad_request(format!("`{name}` has to be {self}"))
    }

    pub fn missing(&self, name: &str) -> Problem {
        Problem::bad_request(format!("`{name}` is missing; it has to be {self}"))
    }
}

fn check_fields(name: &str, fields: &[Field], members: &Map<String, Value>) -> Result<(), Problem> {
    for field in fields {
        let path = if name == BODY { field.name.to_owned() } else { format!("{name}.{}", field.name) };
        match members.get(field.name) {
            Some(value) => field.shape.check(&path, value)?,
            None if field.required => return Err(field.shape.missing(&path)),
            None => {}
        }
    }
    Ok(())
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(_) => f.write_str("a JSON object"),
            Self::List { items, min, max } => write!(f, "a list of {min} to {max} values, each {items}"),
            Self::Value { words, .. } => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static PAGE: Shape = Shape::Value { allows: |value| is_between(value, 1, 10), words: "from 1 to 10" };
    static PAGES: Shape = Shape::List { items: &PAGE, min: 1, max: 2 };
    static RANGE: Shape = Shape::Object(&[Field { name: "page", required: true, shape: &PAGE }]);
    static QUERY: Shape = Shape::Object(&[Field { name: "range", required: false, shape: &RANGE }]);

    fn refusal(shape: &Shape, name: &str, value: &Value) -> String {
        shape.check(name, value).expect_err("it is not allowed").detail
    }

    #[test]
    fn a_problem_names_the_path_to_what_is_wrong() {
        assert!(QUERY.check(BODY, &json!({})).is_ok());
        let wrong = json!({"range": {"page": 11}});
        assert_eq!(refusal(&QUERY, BODY, &wrong), "`range.page` has to be from 1 to 10");
        assert!(refusal(&QUERY, BODY, &json!({"range": {}})).starts_with("`range.page` is missing"));
        assert_eq!(refusal(&QUERY, BODY, &json!({"range": [1]})), "`range` has to be a JSON object");
        assert_eq!(refusal(&QUERY, BODY, &json!(["a"])), "`body` has to be a JSON object");
    }

    #[test]
    fn a_list_has_a_length_and_good_values() {
        assert!(PAGES.check("pages", &json!([1, 10])).is_ok());
        for bad in [json!([]), json!([1, 2, 3]), json!(1), json!({"0": 1})] {
            assert_eq!(refusal(&PAGES, "pages", &bad), "`pages` has to be a list of 1 to 2 values, each from 1 to 10");
        }
        assert_eq!(refusal(&PAGES, "pages", &json!([1, 11])), "`pages[1]` has to be from 1 to 10");
    }

    #[test]
    fn a_whole_number_has_no_fraction_and_fits() {
        assert!(PAGE.check("page", &json!(10)).is_ok());
        for bad in [json!(0), json!(11), json!(1.5), json!(1.0), json!("1"), json!(u64::MAX), json!(1e300)] {
            assert_eq!(refusal(&PAGE, "page", &bad), "`page` has to be from 1 to 10");
        }
        assert_eq!(PAGE.decode_parameter::<i64>("page", "10").unwrap(), 10);
        for bad in ["", "+1", " 1", "1x", "1.0", "0x1", "9999999999999999999999"] {
            assert!(PAGE.decode_parameter::<i64>("page", bad).is_err(), "{bad:?} is no whole number");
        }
    }
}
