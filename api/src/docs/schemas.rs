//! A JSON Schema as a table: the members of an object, one line each.

use serde_json::Value;

use super::page::markdown;

/// A member of an object.
pub struct Member {
    pub name: String,
    /// Such as `text, at most 64 characters`.
    pub kind: String,
    /// The definition that `kind` names, if it has one.
    pub link: Option<String>,
    pub is_required: bool,
    pub is_personal: bool,
    /// HTML.
    pub description: String,
}

/// Returns the members of an object without `type`, which the heading contains.
pub fn members(schema: &Value) -> Vec<Member> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = entries(&schema["properties"]).filter(|(name, _)| *name != "type");
    let mut members: Vec<Member> = properties
        .map(|(name, property)| {
            let link = property["$ref"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
            Member {
                name: name.clone(),
                kind: link.clone().unwrap_or_else(|| kind(property)),
                link,
                is_required: required.contains(&name.as_str()),
                is_personal: property["x-personal-data"] == true,
                description: text(&property["description"]),
            }
        })
        .collect();
    // serde_json sorts members by name; `required` keeps the author's order.
    let rank = |member: &Member| required.iter().position(|name| *name == member.name).unwrap_or(required.len());
    members.sort_by_key(rank);
    members
}

/// Returns the entries of an object, and none of another value.
pub fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Describes the allowed values.
pub fn kind(schema: &Value) -> String {
    let mut words = vec![match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("uuid")) => "UUID".to_owned(),
        (Some("string"), Some("date-time")) => "time, RFC 3339".to_owned(),
        (Some("string"), _) => "text".to_owned(),
        (Some("integer"), _) => "whole number".to_owned(),
        (Some("number"), _) => "number".to_owned(),
        (Some("boolean"), _) => "true or false".to_owned(),
        (other, _) => other.unwrap_or("anything").to_owned(),
    }];
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        words = vec![values.join(" or ")];
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        words.push(format!("at most {most} characters"));
    }
    words.join(", ")
}

/// Renders a text of a document, which may contain Markdown, as HTML.
pub fn text(value: &Value) -> String {
    markdown(value.as_str().unwrap_or_default())
}
